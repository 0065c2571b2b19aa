"""Figures: light, honest about extremes, refusing what cannot be drawn, free of side effects."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest

from mlfin.charts import figures as charts
from mlfin.core.errors import DataError


def minute_bars(n: int = 45_000, symbols=("BTCUSDT",)) -> pd.DataFrame:
    rng, parts = np.random.default_rng(0), []
    ts = pd.date_range("2021-12-31", periods=n, freq="min", tz="UTC").as_unit("us")
    for s in symbols:
        close = 40_000 * np.exp(rng.normal(0, 0.0008, n).cumsum())
        parts.append(pd.DataFrame(dict(symbol=s, timeframe="1m", ts=ts, known_at=ts + pd.Timedelta("1min"),
                                       open=close,
                                       high=close * 1.001, low=close * 0.999, close=close, volume=1.0)))
    return pd.concat(parts, ignore_index=True)


def size(figure) -> int:
    return len(json.dumps(figure._repr_mimebundle_()[charts.MIMETYPE]))


def minute_figures():
    bars = minute_bars()
    rng = np.random.default_rng(1)
    features = bars[["symbol", "timeframe", "ts",
                     "known_at"]].assign(**{f"f{i}": rng.normal(size=len(bars)) for i in range(12)})
    equity = pd.DataFrame(dict(ts=bars.ts, strategy=bars.close * 2, benchmark=bars.close[::-1].values))
    positions = pd.DataFrame({"ts": bars.ts, "BTCUSDT": rng.choice([-1.0, 0.0, 1.0], len(bars))})
    at = np.arange(0, 44_000, 4)
    trades = pd.DataFrame(dict(symbol="BTCUSDT", entry_ts=bars.ts[at].array, exit_ts=bars.ts[at + 3].array,
                               side="long",
                               entry_price=bars.close[at].values,
                               exit_price=bars.close[at + 3].values, pnl=1.0))
    flagged = pd.DataFrame(dict(symbol="BTCUSDT", ts=bars.ts[:5_000], reason="high below low"))
    return [
        charts.price_chart(bars, flagged), charts.coverage_chart(bars), charts.distribution_chart(features),
        charts.missing_chart(features), charts.correlation_chart(features), charts.equity_chart(equity),
        charts.drawdown_chart(equity), charts.positions_chart(positions), charts.trades_chart(bars, trades)]


def test_every_figure_of_45000_minutes_is_light_titled_and_named():
    for figure in minute_figures():
        assert size(figure) <= 300_000, figure.layout.title.text
        assert figure.layout.title.text and figure.layout.title.subtitle.text


def test_many_symbols_stay_light():
    assert size(charts.price_chart(minute_bars(3_500, [f"S{i:02d}" for i in range(12)]))) <= 300_000


def test_the_same_frame_gives_the_same_bytes():
    a, b = (json.dumps(charts.figure_json(charts.price_chart(minute_bars(9_000)))) for _ in range(2))
    assert a == b


def test_thinning_keeps_a_spike_of_one_minute():
    v = np.ones(45_000)
    v[[12_345, 40_000]] = 9.0, -9.0
    kept = charts.thin(v, 1_000)
    assert {0, 12_345, 40_000, 44_999} <= set(kept) and len(kept) <= 1_000
    assert (np.diff(kept) > 0).all()


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 10_000, 10_001])
def test_thinning_of_any_length(n):
    kept = charts.thin(np.arange(n, dtype=float))
    assert len(kept) == min(n, len(kept)) <= 10_000
    if n: assert kept[0] == 0 and kept[-1] == n - 1


def test_thinning_survives_nan():
    v = np.full(20_000, np.nan)
    v[777] = 1.0
    assert 777 in charts.thin(v, 100)


def test_plotly_defaults_stay_as_they_are():
    import plotly.io as pio
    before = pio.templates.default
    charts.price_chart(minute_bars(500))
    assert pio.templates.default == before and "mlfin" not in list(pio.templates)


def test_a_figure_shows_itself_without_the_library():
    from IPython.core.formatters import DisplayFormatter
    figure = charts.price_chart(minute_bars(500))
    data, _ = DisplayFormatter().format(figure)
    assert set(data) == {charts.MIMETYPE, "text/plain"}
    assert pickle.loads(pickle.dumps(figure)).layout.title.text == "Closing prices"


def test_times_are_drawn_in_utc_whatever_their_zone():
    bars = minute_bars(300)
    moved = bars.assign(ts=bars.ts.dt.tz_convert("Asia/Tokyo"))
    assert charts.figure_json(charts.price_chart(bars)) == charts.figure_json(charts.price_chart(moved))
    assert charts.price_chart(bars).data[0].x[0] == bars.ts[0].timestamp() * 1000


EMPTY = {
    "price_chart": ["symbol", "ts", "open", "high", "low", "close"], "coverage_chart": ["symbol", "ts"],
    "distribution_chart": ["symbol", "f"], "missing_chart": ["symbol", "f"],
    "correlation_chart": ["symbol", "f"],
    "folds_chart": ["fold", "train_start", "train_end", "test_start", "test_end"],
    "scores_chart": ["model", "fold", "log_loss"],
    "calibration_chart": ["model", "predicted", "observed", "count"],
    "importance_chart": ["model", "feature", "importance"],
    "equity_chart": ["ts", "strategy", "benchmark"], "drawdown_chart": ["ts", "strategy", "benchmark"],
    "monthly_chart": ["year", 1], "positions_chart": ["ts", "AAA"]}


@pytest.mark.parametrize("name", sorted(EMPTY))
def test_an_empty_frame_is_refused(name):
    with pytest.raises(DataError, match="a frame with rows"): getattr(charts,
                                                                      name)(pd.DataFrame(columns=EMPTY[name],
                                                                                         dtype=float))


@pytest.mark.parametrize("name",
                         sorted(set(EMPTY) - {"distribution_chart", "correlation_chart", "monthly_chart",
                                              "positions_chart"}))
def test_a_frame_without_its_columns_is_refused_by_name(name):
    with pytest.raises(DataError): getattr(charts, name)(pd.DataFrame({"other": ["x"]}))


def test_a_frame_without_numbers_is_refused():
    for chart in (charts.distribution_chart, charts.correlation_chart, charts.positions_chart,
                  charts.monthly_chart):
        with pytest.raises(DataError): chart(pd.DataFrame({"other": ["x"]}))


def test_quarantined_rows_of_other_symbols_or_without_a_time_are_not_drawn():
    bars = minute_bars(500)
    flagged = pd.DataFrame(dict(symbol=["ZZZ", "BTCUSDT"],
                                ts=pd.Series([bars.ts[3], pd.NaT], dtype=bars.ts.dtype), reason="no symbol"))
    assert len(charts.price_chart(bars, flagged).data) == 1


def test_constants_and_all_missing_columns_are_drawn():
    bars = minute_bars(50)
    features = bars[["symbol", "ts"]].assign(constant=1.0, missing=np.nan, fine=bars.close)
    assert len(charts.distribution_chart(features).data) == 2
    assert charts.missing_chart(features).data[0].z[0].tolist() == [0.0, 100.0, 0.0]
    with pytest.raises(DataError, match="complete rows"): charts.correlation_chart(features)


def test_an_open_trade_has_an_entry_and_no_exit():
    bars = minute_bars(300)
    trades = pd.DataFrame(dict(symbol=["BTCUSDT"], entry_ts=[bars.ts[10]],
                               exit_ts=pd.Series([pd.NaT], dtype=bars.ts.dtype), side=["short"],
                               entry_price=[1.0], exit_price=[np.nan]))
    figure = charts.trades_chart(bars, trades)
    assert [len(t.x) for t in figure.data[1:]] == [1, 0]
    assert figure.data[1].text == ("entry of a short trade",)


def test_a_lost_account_is_drawn_on_a_linear_axis():
    equity = pd.DataFrame(dict(ts=minute_bars(3).ts, strategy=[1.0, 0.0, -1.0], benchmark=1.0))
    assert charts.equity_chart(equity).layout.yaxis.type != "log"


@pytest.mark.parametrize("form", ["as computed", "as stored", "months only"])
def test_monthly_tables_in_every_form(form):
    years = pd.Index([2020, 2021], name="year")
    table = pd.DataFrame(0.01, index=years, columns=range(1, 13))
    if form == "as computed": table["year"] = 0.12
    if form == "as stored": table = table.rename(columns=str).reset_index()
    figure = charts.monthly_chart(table)
    assert figure.data[0].y == ("2020", "2021")
    assert figure.data[0].x[:12] == ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep",
                                     "Oct", "Nov", "Dec")
    assert figure.data[0].z.shape == (2, 13 if form == "as computed" else 12)


def test_scores_above_zero_are_better_for_every_metric():
    scores = pd.DataFrame(dict(model="a", fold=[0, 1], log_loss=0.6, log_loss_baseline=0.7, brier=0.2,
                               brier_baseline=0.25, accuracy=0.6, accuracy_baseline=0.5, roc_auc=0.6))
    for metric in ("log_loss", "brier", "accuracy", "roc_auc"):
        assert charts.scores_chart(scores, metric).data[0].y[0] > 0


def test_folds_of_several_pieces_and_whole_ones_are_the_same_picture():
    day = pd.Timestamp("2020-01-01", tz="UTC").__add__
    at = [day(pd.Timedelta(n, "D")) for n in range(0, 60, 10)]
    whole = pd.DataFrame(dict(fold=[1, 2], train_start=at[0], train_end=at[1:3], test_start=at[2:4],
                              test_end=at[3:5]))
    pieces = pd.concat(
        [pd.DataFrame(dict(fold=[1, 2], part=p, start=whole[f"{p}_start"], end=whole[f"{p}_end"]))
         for p in ("train", "test")], ignore_index=True)
    assert charts.figure_json(charts.folds_chart(whole)) == charts.figure_json(charts.folds_chart(pieces))
    around = pd.concat([pieces, pd.DataFrame(dict(fold=[1], part="train", start=at[4], end=at[5]))],
                       ignore_index=True)
    figure = charts.folds_chart(around)
    assert len(figure.data[0].base) == 3
    assert "only on what came after" not in figure.layout.title.subtitle.text
    assert "only on what came after" in charts.folds_chart(pieces).layout.title.subtitle.text
    with pytest.raises(DataError): charts.folds_chart(pieces.drop(columns="end"))
