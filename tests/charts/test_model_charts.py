"""Figures about models: values where they belong, the baseline in each, light with many models, refusing what
cannot be drawn."""
import json

import numpy as np
import pandas as pd
import pytest

from mlfin.charts import model_charts as charts
from mlfin.charts.figures import MIMETYPE
from mlfin.core.errors import DataError
from mlfin.validation.attribution import Attribution, summarise_attribution
from mlfin.validation.curves import confusion, pr_curve, roc_curve
from mlfin.validation.information import ic_by_regime, ic_by_symbol, ic_summary, rolling_ic
from mlfin.validation.intervals import score_intervals


def size(figure) -> int:
    return len(json.dumps(figure._repr_mimebundle_()[MIMETYPE]))


def told(models, days=400, symbols=6):
    rng, parts = np.random.default_rng(0), []
    ts = pd.date_range("2015-01-01", periods=days, freq="D", tz="UTC").as_unit("us")
    ahead = rng.normal(size=days * symbols)
    keys = pd.DataFrame({"symbol": np.tile([f"S{i}" for i in range(symbols)], days), "timeframe": "1d",
                         "ts": np.repeat(ts, symbols)})
    for n in range(models):
        p = 1 / (1 + np.exp(-0.2 * (0.3 * n * ahead + rng.normal(size=days * symbols))))
        parts.append(keys.assign(model=f"model_{n}", fold=0, probability=p, baseline=0.5,
                                 actual=(ahead > 0).astype("int8"), forward_return=ahead))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def frames():
    def made(models):
        p = told(models)
        decay = pd.concat([ic_summary(p, h).assign(horizon=h) for h in (1, 5, 20)])
        regimes = ic_by_regime(p, 1)
        regimes = pd.concat([regimes, regimes.assign(kind="volatility", regime="low")])
        X = pd.DataFrame(np.random.default_rng(1).normal(size=(50, 30)),
                         columns=[f"feature_{i}" for i in range(30)])
        return {"roc": roc_curve(p), "pr": pr_curve(p), "confusion": confusion(p),
                "rolling": rolling_ic(p, 1, 100), "decay": decay,
                "regimes": regimes, "symbols": ic_by_symbol(p, 1),
                "intervals": score_intervals(p, ["log_loss", "rank_ic"], draws=100),
                "summary": summarise_attribution(
                    Attribution(X * np.linspace(-1, 1, 30), 0.0, "log-odds", "by hand"), X)}
    return {models: made(models) for models in (1, 7)}


def figures(f):
    return [charts.roc_chart(f["roc"]), charts.pr_chart(f["pr"]), charts.confusion_chart(f["confusion"]),
            charts.ic_time_chart(f["rolling"]), charts.ic_decay_chart(f["decay"]),
            charts.ic_regimes_chart(f["regimes"]), charts.ic_symbols_chart(f["symbols"]),
            charts.attribution_chart(f["summary"]), charts.intervals_chart(f["intervals"]),
            charts.intervals_chart(f["intervals"], "rank_ic")]


@pytest.mark.parametrize("models", [1, 7])
def test_figures_are_light_and_titled_with_axes(frames, models):
    drawn = figures(frames[models])
    for figure in drawn:
        assert size(figure) <= 120_000 and figure.layout.height <= 1_600, (
            figure.layout.title.text, size(figure))
        assert figure.layout.title.text and figure.layout.title.subtitle.text
        assert figure.layout.xaxis.title.text or figure.layout.title.text == "Confusion"
    assert (json.dumps([f._repr_mimebundle_() for f in figures(frames[models])])
            == json.dumps([f._repr_mimebundle_() for f in drawn]))


def test_a_model_keeps_its_colour_from_figure_to_figure(frames):
    f = frames[7]
    drawn = charts.roc_chart(f["roc"]), charts.ic_time_chart(f["rolling"])
    lines = [{t.name: t.line.color for t in figure.data if t.mode and "lines" in t.mode} for figure in drawn]
    assert (lines[0]["model_3"] == lines[1]["model_3"]
            == {t.name: t.marker.color for t in charts.ic_regimes_chart(f["regimes"]).data}["model_3"])


def test_the_naive_guess_takes_no_colour_and_no_coefficient(frames):
    decay = frames[7]["decay"]
    beside = pd.concat([
        decay.assign(model="dummy", rank_ic=np.nan, rank_ic_error=np.nan).drop_duplicates("horizon"), decay])
    with_it, without = charts.ic_decay_chart(beside), charts.ic_decay_chart(decay)
    assert {t.name: t.line.color for t in with_it.data} == {t.name: t.line.color for t in without.data}
    named = beside.assign(symbol=beside["horizon"].astype(str))
    assert [t.name for t in charts.ic_symbols_chart(named).data] == [f"model_{n}" for n in range(7)]


def test_curves_begin_at_nothing_and_show_the_guess(frames):
    roc, pr = charts.roc_chart(frames[7]["roc"]), charts.pr_chart(frames[7]["pr"])
    for trace in roc.data: assert (trace.x[0], trace.y[0], trace.x[-1], trace.y[-1]) == (0, 0, 1, 1)
    share = frames[7]["pr"].baseline.iloc[0]
    assert list(pr.data[0].y) == [share, share]
    assert pr.layout.yaxis.range[0] < share < pr.layout.yaxis.range[1]


def test_confusion_shows_counts_shares_and_the_naive_guess(frames):
    table = frames[7]["confusion"]
    figure = charts.confusion_chart(table)
    assert [a.text for a in figure.layout.annotations] == sorted(table.model.unique())
    own = table[table.model == "model_6"].set_index(["actual", "predicted"])
    for a in (0, 1):
        assert figure.data[6].z[a].sum() == pytest.approx(100)
        for p in (0, 1): assert figure.data[6].text[a][p].startswith(f"{own.loc[(a, p), 'count']:,}<br>")
    never = pd.DataFrame({"model": "m", "predicted": [0, 0, 1, 1], "actual": [0, 1, 0, 1],
                          "count": [5, 0, 5, 0], "count_baseline": 0})
    assert np.isnan(charts.confusion_chart(never).data[0].z[1]).all()


def test_errors_are_drawn_where_they_belong(frames):
    f = frames[7]
    rows = f["rolling"][f["rolling"].model == "model_2"]
    band, line = [t for t in charts.ic_time_chart(f["rolling"], bands=7).data if t.name == "model_2"]
    best = charts.ic_time_chart(f["rolling"])
    assert {t.name for t in best.data if t.fill} == {"model_4", "model_5", "model_6"}
    assert "3 best" in best.layout.title.subtitle.text
    np.testing.assert_allclose(line.y, rows.rank_ic)
    np.testing.assert_allclose(band.y[: len(rows)], rows.rank_ic - 1.96 * rows.rank_ic_error)
    np.testing.assert_allclose(band.y[len(rows) :][::-1], rows.rank_ic + 1.96 * rows.rank_ic_error)
    for figure, table in ((charts.ic_regimes_chart(f["regimes"]), f["regimes"]),
                          (charts.ic_symbols_chart(f["symbols"]), f["symbols"])):
        own = table[table.model == "model_0"]
        np.testing.assert_allclose(figure.data[0].x, own.rank_ic)
        np.testing.assert_allclose(figure.data[0].error_x.array, 1.96 * own.rank_ic_error)
        places = [round(y + 0.32) for y in figure.data[0].y]
        column = "symbol" if "symbol" in own else "regime"
        assert [figure.layout.yaxis.ticktext[k].split()[0] for k in places] == own[column].tolist()
    one = charts.ic_decay_chart(frames[1]["decay"]).data[0]
    np.testing.assert_allclose(one.error_y.array, 1.96 * frames[1]["decay"].rank_ic_error)


def test_only_the_strongest_and_weakest_of_many_symbols_are_drawn():
    table = pd.DataFrame({"model": "m", "symbol": [f"S{i:03d}" for i in range(100)],
                          "rank_ic": np.arange(100) / 1000, "rank_ic_error": 0.01})
    figure = charts.ic_symbols_chart(table, most=5)
    assert list(figure.layout.yaxis.ticktext) == ["S099", "S098", "S002", "S001", "S000"]
    assert "2 strongest and 3 weakest of 100 symbols" in figure.layout.title.subtitle.text
    assert len(figure.data[0].x) == 5


def test_intervals_say_in_their_title_whether_anything_is_better(frames):
    table = frames[7]["intervals"]
    figure = charts.intervals_chart(table, "rank_ic")
    own = table[table.score == "rank_ic"].set_index("model")
    count = own.verdict.str.startswith("better").sum()
    assert 0 < count < 7 and figure.layout.title.text == f"{count} of 7 models better than the baseline"
    drawn = {m: (x, lo, hi, t.name) for t in figure.data
             for m, x, lo, hi in zip(t.y, t.x, t.error_x.arrayminus, t.error_x.array, strict=True)}
    for m, row in own.iterrows():
        x, low, high, name = drawn[m]
        assert (x, x - low, x + high) == pytest.approx((row.gain, row.gain_low, row.gain_high))
        assert name == ("better" if row.verdict.startswith("better") else "not better")
    assert list(figure.layout.yaxis.categoryarray)[-1] == own.gain.idxmax()
    assert (charts.intervals_chart(table[table.model == "model_0"]).layout.title.text
            == "Not better than the baseline")
    assert [a.text for a in figure.layout.annotations] == ["baseline"]


def test_attribution_shows_sizes_and_directions(frames):
    figure = charts.attribution_chart(frames[1]["summary"], most=10)
    bars = {name: (bar.name, x) for bar in figure.data for name, x in zip(bar.y, bar.x, strict=True)}
    largest = frames[1]["summary"].head(10)
    assert list(bars) and set(bars) == set(largest.feature)
    assert "10 largest of 30" in figure.layout.title.subtitle.text
    for row in largest.itertuples():
        assert bars[row.feature] == ("high values push up" if row.direction > 0 else "high values push down",
                                     row.importance)
    assert figure.layout.yaxis.categoryarray[-1] == largest.feature.iloc[0]


def test_refusals_name_what_is_missing(frames):
    f = frames[1]
    for call, words in [
        (lambda: charts.roc_chart(f["roc"].drop(columns="threshold")), "threshold"),
        (lambda: charts.pr_chart(f["pr"].head(0)), "rows"),
        (lambda: charts.ic_time_chart(f["rolling"].drop(columns="ts")), "`ts`"),
        (lambda: charts.ic_decay_chart(f["symbols"]), "horizon"),
        (lambda: charts.intervals_chart(f["intervals"], "brier"), "log_loss, rank_ic"),
        (lambda: charts.attribution_chart(f["summary"].drop(columns="direction")), "direction"),
    ]:
        with pytest.raises(DataError, match=words): call()
