"""Figures about backtests: the numbers where they belong, light with a million bars, refusing what cannot be
drawn."""
import json

import numpy as np
import pandas as pd
import pytest

from mlfin.charts import backtest_charts as charts
from mlfin.charts.figures import COLOURS, MIMETYPE, drawdown_chart, trades_chart
from mlfin.core.errors import DataError

DAYS = pd.date_range("2015-01-01", periods=900, freq="D", tz="UTC").as_unit("us")


def size(figure) -> int:
    return len(json.dumps(figure._repr_mimebundle_()[MIMETYPE]))


def frames(rows: int = 900, symbols: int = 2) -> dict:
    rng = np.random.default_rng(3)
    ts = pd.date_range("2015-01-01", periods=rows, freq="min", tz="UTC").as_unit("us")
    sharpe = rng.normal(0.5, 0.2, len(DAYS))
    regimes = pd.DataFrame({"regime": ["2015", "2016", "low", "high"], "days": 200, "cagr": 0.1,
                            "sharpe": [1.0, -0.5, np.nan, 0.0], "max_drawdown": -0.1})
    return {
        "rolling": pd.DataFrame({"date": DAYS, "sharpe": sharpe, "low": sharpe - 1, "high": sharpe + 1}),
        "steps": pd.DataFrame({"step": ["gross profit", "fees", "funding", "net profit"],
                               "amount": [100.0, -150.0, 10.0, -40.0]}),
        "table": pd.DataFrame([(t, m, t - m / 100) for t in (0.4, 0.5, 0.6) for m in (0, 5)],
                              columns=["threshold", "min_hold", "annualised"]),
        "splits": pd.DataFrame({"logit": rng.normal(0, 1, 12_870), "in_sample": rng.normal(0.1, 0.01, 12_870),
                                "out_of_sample": rng.normal(0, 0.02, 12_870)}),
        "draws": rng.normal(0, 1, 10_000),
        "answers": pd.DataFrame({"question": ["alone", "after 40 trials", "hedged"],
                                 "probability": [0.99, 0.3, np.nan]}),
        "curve": pd.DataFrame({"bps": [0.0, 5, 10], "delay": [1, 2, 3], "total_return": [0.2, 0.1, -0.1],
                               "sharpe": [1, 0.5, -0.4]}),
        "positions": pd.DataFrame(rng.choice([0, 1 / symbols], (rows, symbols)), index=ts,
                                  columns=[f"S{n:03d}" for n in range(symbols)]),
        "returns": pd.Series(rng.standard_t(4, len(DAYS)) * 0.01, index=DAYS),
        "regimes": regimes,
        "stress": pd.DataFrame({"window": [1, 5], "start": DAYS[[3, 10]], "end": DAYS[[3, 14]],
                                "strategy": [-0.01, 0.02], "benchmark": [-0.05, -0.1]}),
        "paths": pd.DataFrame(rng.normal(0.0005, 0.01, (len(DAYS), 28)), index=DAYS),
        "capacity": pd.DataFrame({"participation": [0.01, 0.05], "capital": [1e6, 4e6]})}


def drawn(f: dict) -> list:
    return [charts.rolling_sharpe_chart(f["rolling"], 126), charts.costs_chart(f["steps"]),
            charts.plateau_chart(f["table"], "threshold", "min_hold"), charts.overfitting_chart(f["splits"]),
            charts.null_chart(f["draws"], 0.7), charts.confidence_chart(f["answers"]),
            charts.cost_curve_chart(f["curve"], 3, 7.5), charts.delay_chart(f["curve"]),
            charts.exposure_chart(f["positions"]), charts.returns_chart(f["returns"], {"VaR 95 %": -0.015}),
            charts.regimes_chart(f["regimes"]), charts.stress_chart(f["stress"]),
            charts.paths_chart(f["paths"]), charts.capacity_chart(f["capacity"])]


def test_figures_are_light_titled_and_have_units_on_their_axes():
    first, again = drawn(frames()), drawn(frames())
    for figure in first:
        layout = figure.layout
        assert size(figure) <= 220_000 and layout.height <= 900, (layout.title.text, size(figure))
        assert layout.title.text and layout.title.subtitle.text
        assert layout.xaxis.title.text or layout.yaxis.title.text, layout.title.text
    assert (json.dumps([f._repr_mimebundle_() for f in first])
            == json.dumps([f._repr_mimebundle_() for f in again]))


@pytest.mark.parametrize("symbols", [1, 300])
def test_holdings_of_many_bars_and_symbols_stay_light(symbols):
    f = frames(300_000 // symbols, symbols)
    figure = charts.exposure_chart(f["positions"])
    assert size(figure) <= 320_000 and figure.layout.height <= 900
    gross = f["positions"].abs().sum(axis=1).mean() * 100
    assert np.mean(figure.data[0].y) == pytest.approx(gross, abs=0.1) and len(figure.data[0].x) <= 800
    shown = figure.data[-1]
    assert len(shown.y) == min(symbols, 30) and shown.z.shape == (len(shown.y), len(shown.x))
    if symbols > 30: assert "30 most held of 300" in figure.layout.title.subtitle.text


def test_holdings_are_means_of_their_stretches():
    held = pd.DataFrame({"A": np.arange(1000) / 1000, "B": -0.2},
                        index=pd.date_range("2020-01-01", periods=1000, freq="h", tz="UTC"))
    figure = charts.exposure_chart(held)
    cells = figure.data[-1]
    assert cells.z[0][[0, -1]].tolist() == pytest.approx([0.05, 99.8], abs=0.01)
    assert set(cells.z[1].tolist()) == {np.float32(-20)}
    assert [t.name for t in figure.data[:2]] == ["gross", "net"]
    assert figure.data[1].y[-1] == pytest.approx(79.85)


def test_the_steps_of_a_waterfall_end_at_the_net_profit():
    bars = charts.costs_chart(frames()["steps"]).data[0]
    assert list(bars.measure) == ["absolute", "relative", "relative", "total"]
    assert sum(bars.y) == pytest.approx(-40) and bars.text[-1] == "-40"
    nothing = charts.costs_chart(pd.DataFrame({"step": ["gross profit", "net profit"], "amount": [0.0, 0.0]}))
    assert "nothing was charged" in nothing.layout.title.subtitle.text
    with pytest.raises(DataError, match="the sum of those before"):
        charts.costs_chart(frames()["steps"].assign(amount=1.0))


def test_a_plateau_has_a_cell_a_set_and_frames_the_traded_one():
    figure = charts.plateau_chart(frames()["table"], "threshold", "min_hold",
                                  chosen={"threshold": 0.6, "min_hold": 0})
    np.testing.assert_allclose(figure.data[0].z, [[0.4, 0.5, 0.6], [0.35, 0.45, 0.55]])
    frame = figure.layout.shapes[0]
    assert (frame.x0 + frame.x1, frame.y0 + frame.y1) == (4, 0)
    hole = frames()["table"].assign(annualised=lambda t: t.annualised.where(t.threshold != 0.5))
    assert np.isnan(charts.plateau_chart(hole, "threshold", "min_hold").data[0].z[:, 1]).all()
    with pytest.raises(DataError, match="finite numbers"):
        charts.plateau_chart(hole.assign(annualised=np.nan), "threshold", "min_hold")


def test_overfitting_counts_halvings_and_fits_the_line():
    f = frames()["splits"]
    line = f.assign(out_of_sample=0.05 - 0.5 * f.in_sample)
    figure = charts.overfitting_chart(line, 252)
    below, above, points, fit = figure.data
    assert figure.layout.title.text == f"Overfitting: PBO {(f.logit < 0).mean():.2f}"
    assert sum(below.y) == pytest.approx(100 * (f.logit < 0).mean())
    assert sum(below.y) + sum(above.y) == pytest.approx(100)
    assert fit.name == "slope -0.50" and len(points.x) == 1_000
    np.testing.assert_allclose(points.y, 0.05 * np.sqrt(252) - 0.5 * np.array(points.x))
    flat = charts.overfitting_chart(f.assign(in_sample=0.1))
    assert len(flat.data) == 3


def test_what_was_observed_stands_where_it_belongs():
    figure = charts.null_chart(np.arange(100.0), 200.0, "Random entries")
    histogram, limit, observed = figure.data
    assert sum(histogram.y) == pytest.approx(100) and observed.x == (200.0, 200.0)
    assert limit.x[0] == pytest.approx(94.05)
    assert "0.0% of them reach" in figure.layout.title.subtitle.text
    same = charts.null_chart(np.zeros(50), 0.0)
    assert sum(same.data[0].y) == pytest.approx(100)


def test_confidence_is_counted_against_its_line():
    figure = charts.confidence_chart(frames()["answers"], 0.95)
    assert {t.name: t.y for t in figure.data} == {"more than luck": ("alone",),
                                                  "not told from luck": ("after 40 trials",)}
    with pytest.raises(DataError, match=r"in \[0, 1\]"):
        charts.confidence_chart(pd.DataFrame({"question": ["a"], "probability": [1.2]}))


def test_break_even_is_marked_only_where_it_is_in_the_picture():
    curve = frames()["curve"]
    def lines(figure): return [s.x0 for s in figure.layout.shapes if s.x0 == s.x1]
    assert lines(charts.cost_curve_chart(curve, 3, 7.5)) == [3, 3, 7.5, 7.5]
    assert lines(charts.cost_curve_chart(curve, 3, -4.0)) == [3, 3]
    assert lines(charts.cost_curve_chart(curve)) == []
    assert "does not break even" in charts.cost_curve_chart(curve).layout.title.subtitle.text


def test_the_distribution_of_days_at_rest_is_not_one_bar():
    busy = frames()["returns"]
    idle = pd.concat([busy, pd.Series(0.0, index=busy.index + pd.Timedelta(days=1000))])
    figure = charts.returns_chart(idle)
    assert "50% of them at zero, not drawn" in figure.layout.title.subtitle.text
    assert sum(figure.data[0].y) == pytest.approx(50)
    constant = charts.returns_chart(pd.Series(0.001, index=DAYS))
    assert [t.name for t in constant.data] == ["days"]


def test_regimes_are_coloured_by_their_sign():
    bars = charts.regimes_chart(frames()["regimes"]).data[0]
    assert bars.marker.color == (COLOURS[0], COLOURS[1], COLOURS[0], COLOURS[0])
    assert bars.text == ("1.00", "-0.50", "", "0.00")
    kinds = charts.regimes_chart(frames()["regimes"].assign(kind="year")).data[0]
    assert kinds.y[0] == "year: 2015"


def test_a_fan_holds_its_paths():
    figure = charts.paths_chart(frames()["paths"], 252)
    wide, narrow, median, points = figure.data
    half = len(wide.y) // 2
    assert all(a <= b <= c for a, b, c in zip(wide.y[:half], median.y, wide.y[half:][::-1], strict=True))
    r = frames()["paths"]
    np.testing.assert_allclose(points.y, np.sort(r.mean() / r.std() * np.sqrt(252)))
    one = charts.paths_chart(r[[0]])
    assert len(one.data[3].x) == 1
    with pytest.raises(DataError, match="finite numbers"): charts.paths_chart(r * 0)


def test_drawdowns_are_shaded_and_trades_joined():
    equity = pd.DataFrame({"ts": DAYS, "strategy": 1.0 + np.r_[np.zeros(450), -0.1 * np.ones(450)],
                           "benchmark": 1.0})
    spells = pd.DataFrame({"depth": [-0.1], "peak": DAYS[[449]],
                           "recovered": pd.Series([pd.NaT], dtype=DAYS.dtype)})
    shape = drawdown_chart(equity, spells).layout.shapes[0]
    assert shape.x1 == DAYS[-1].timestamp() * 1000 and shape.x0 == DAYS[449].timestamp() * 1000
    bars = pd.DataFrame({"symbol": "A", "ts": DAYS, "close": 10.0})
    trades = pd.DataFrame({"symbol": "A", "entry_ts": DAYS[[1, 5]], "exit_ts": DAYS[[3, 8]],
                           "entry_price": 10.0, "exit_price": [11.0, 9], "pnl": [1.0, -1.0]})
    figure = trades_chart(bars, trades)
    assert [t.name for t in figure.data] == ["close", "gained (1)", "lost (1)", "entry", "exit"]
    assert list(figure.data[1].y) == [10, 11]
    assert trades_chart(bars, trades.head(0)).layout.title.subtitle.text == "no trades"


@pytest.mark.parametrize("draw, frame", [
    (charts.rolling_sharpe_chart,
     pd.DataFrame({"date": DAYS[:2], "sharpe": np.nan, "low": np.nan, "high": np.nan})),
    (charts.stress_chart, pd.DataFrame(columns=["window", "start", "end", "strategy", "benchmark"])),
    (charts.regimes_chart, pd.DataFrame(columns=["regime", "days", "cagr", "sharpe", "max_drawdown"])),
    (charts.exposure_chart, pd.DataFrame({"S": []})),
    (charts.delay_chart, pd.DataFrame({"delay": [], "total_return": [], "sharpe": []})),
    (charts.capacity_chart, pd.DataFrame({"participation": [0.1], "capital": [np.nan]}))])
def test_nothing_to_draw_is_said(draw, frame):
    with pytest.raises(DataError, match="a frame with rows"): draw(frame)


@pytest.mark.parametrize("draw", [charts.rolling_sharpe_chart, charts.costs_chart, charts.overfitting_chart,
                                  charts.confidence_chart, charts.cost_curve_chart, charts.delay_chart,
                                  charts.regimes_chart, charts.stress_chart, charts.capacity_chart])
def test_a_missing_column_is_named(draw):
    with pytest.raises(DataError, match="a frame with column `"): draw(pd.DataFrame({"other": [1.0]}))
