import zipfile

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.market.bars import PRICES, TIMEFRAMES, as_bars, check_bars, merge_bars
from mlfin.market.calendars import expected_bars, known_at, resample


def frame(ts, timeframe="1m", calendar="24/7", symbol="X", **columns):
    "Bars at `ts` whose missing columns are made up."
    ts = pd.Series(pd.to_datetime(pd.Series(ts).reset_index(drop=True), utc=True)).astype(
        "datetime64[us, UTC]"
    )
    noise = 100 + np.random.default_rng(3).normal(0, 1, (len(ts), 2))
    made = {
        "open": noise[:, 0],
        "close": noise[:, 1],
        "high": noise.max(axis=1) + 0.1,
        "low": noise.min(axis=1) - 0.1,
        "volume": 1.0,
    } | columns
    return as_bars(
        pd.DataFrame(made, index=ts.index).assign(
            symbol=symbol, timeframe=timeframe, ts=ts, known_at=known_at(ts, timeframe, calendar)
        )
    )


def mt5(market, name):
    raw = pd.read_csv(market / "mt5_us30m" / name, sep="\t")
    raw.columns = [c.strip("<>").lower() for c in raw.columns]
    ts = pd.to_datetime(raw.date + " " + raw.get("time", "00:00:00"), format="%Y.%m.%d %H:%M:%S")
    columns = {c: raw[c].to_numpy("float64") for c in (*PRICES, "spread")} | {
        "volume": raw.tickvol.to_numpy("float64")
    }
    timeframe = {"D": "1d", "4": "4h", "1": "1h"}[name.split("_")[1].removeprefix("H")[0]]
    return frame(ts, timeframe, symbol="US30", **columns)


@pytest.mark.parametrize(
    "name, timeframe", [("H4_202401012000_202509082000", "4h"), ("Daily_202401010000_202509080000", "1d")]
)
def test_a_brokers_own_longer_bars(market, name, timeframe):
    """The hourly export, resampled, is the broker's own H4 and daily export: prices, ticks and spread, bar by
    bar."""
    ours = resample(mt5(market, "US30m_H1_202401012300_202509082200.csv"), timeframe, "24/7", partial="mark")
    theirs = mt5(market, f"US30m_{name}.csv")
    assert ours.partial.tolist() == [True] + [False] * (len(ours) - 2) + [True]
    whole = slice(1, len(ours) - 1)  # the first hours have no bars; the last bar was exported while it formed
    pd.testing.assert_frame_equal(
        ours[whole].drop(columns="partial"), theirs[whole][ours.columns.drop("partial")], check_exact=True
    )
    assert len(ours) == len(theirs) == {"4h": 2662, "1d": 527}[timeframe]


def test_four_hours_of_a_utc_server_do_not_fit_into_a_forex_day(market):
    with pytest.raises(DataError, match="on the grid of forex at 4h"):
        resample(mt5(market, "US30m_H4_202401012000_202509082000.csv"), "1d", "forex")


def test_forex_days_of_real_hours(market):
    raw = pd.read_csv(market / "pypi_gym_anytrading/FOREX_EURUSD_1H_ASK.csv")
    ts = pd.to_datetime(raw.Time, format="%d.%m.%Y %H:%M:%S.%f", utc=True)
    hours = frame(
        ts,
        "1h",
        "forex",
        **{c.lower(): raw[c].to_numpy() for c in ("Open", "High", "Low", "Close", "Volume")},
    )
    with pytest.raises(
        DataError, match="9 outside, first X 2017-12-24 23:00"
    ):  # this dealer quoted on Christmas Eve
        resample(hours, "1d", "forex")
    hours = hours[~hours.ts.between("2017-12-24 23:00Z", "2017-12-25 07:00Z")].reset_index(drop=True)
    days = resample(hours, "1d", "forex")
    assert len(days) == 259 and (days.known_at - days.ts == pd.Timedelta(hours=24)).all()
    assert set(days.ts.dt.tz_convert("America/New_York").dt.hour) == {17} and set(days.ts.dt.hour) == {21, 22}
    assert set(days.known_at.dt.tz_convert("America/New_York").dt.day_of_week) == {
        0,
        1,
        2,
        3,
        4,
    }  # no Sunday stubs
    assert days.volume.sum() == pytest.approx(hours.volume.sum(), rel=1e-12)
    weeks = resample(days, "1w", "forex")
    pd.testing.assert_frame_equal(weeks, resample(hours, "1w", "forex"))
    assert len(weeks) == 52 and (weeks.high == weeks.high.clip(lower=weeks.open)).all()


def test_binance_minutes_make_its_five_minutes(market):
    short, long = (pd.read_feather(market / f"freqtrade/XRP_ETH-{t}.feather") for t in ("1m", "5m"))
    made = [
        frame(x.date, t, symbol="XRP", **{c: x[c].to_numpy("float64") for c in (*PRICES, "volume")})
        for x, t in ((short, "1m"), (long, "5m"))
    ]
    ours, theirs = resample(made[0], "5m", "24/7").set_index("ts"), made[1].set_index("ts")
    both = ours.index.intersection(theirs.index)
    assert len(both) > 300
    pd.testing.assert_frame_equal(ours.loc[both, PRICES], theirs.loc[both, PRICES], check_exact=True)
    np.testing.assert_allclose(ours.volume[both], theirs.volume[both], rtol=1e-12)


def test_minutes_of_a_session_with_hours_before_and_after(market):
    "LEAN's minutes hold trades before the open and after the close; the session's are 390."
    with zipfile.ZipFile(market / "lean/Data/equity/usa/minute/spy/20131007_trade.zip") as archive:
        raw = pd.read_csv(archive.open(archive.namelist()[0]), header=None, names=["ms", *PRICES, "volume"])
    ts = (pd.Timestamp("2013-10-07") + pd.to_timedelta(raw.ms, unit="ms")).dt.tz_localize("America/New_York")
    prices = {c: raw[c].to_numpy() / 1e4 for c in PRICES}
    minutes = frame(ts, "1m", "XNYS", symbol="SPY", volume=raw.volume.to_numpy("float64"), **prices)
    with pytest.raises(DataError, match="inside the sessions of XNYS at 1m"):
        resample(minutes, "1d", "XNYS")
    day = resample(minutes, "1d", "XNYS", outside="drop").iloc[0]
    inside = raw[(raw.ms >= 9.5 * 3.6e6) & (raw.ms < 16 * 3.6e6)]
    assert len(inside) == 390 < len(raw) and day.volume == inside.volume.sum()
    assert [day.open, day.high, day.low, day.close] == pytest.approx(
        [
            inside.open.iloc[0] / 1e4,
            inside.high.max() / 1e4,
            inside.low.min() / 1e4,
            inside.close.iloc[-1] / 1e4,
        ]
    )
    assert str(day.ts) == "2013-10-07 13:30:00+00:00" and str(day.known_at) == "2013-10-07 20:00:00+00:00"


@pytest.mark.parametrize("calendar", ["24/7", "XNYS", "XTKS", "forex"])
@pytest.mark.parametrize(
    "short, long", [("1m", "5m"), ("15m", "4h"), ("30m", "1d"), ("1h", "1w"), ("1d", "1w")]
)
def test_against_a_slow_loop(calendar, short, long):
    rng = np.random.default_rng(1)
    start = "2024-03-04 01:00" if short == "1m" and calendar != "XNYS" else "2024-03-04"
    hours = 400 if short != "1m" else 16 if calendar == "XNYS" else 2
    grid = expected_bars(calendar, short, start, pd.Timestamp(start) + pd.Timedelta(hours=hours))
    grid = grid[rng.random(len(grid)) > 0.3].reset_index(drop=True)
    bars = [
        frame(
            grid.ts,
            short,
            calendar,
            s,
            volume=rng.integers(0, 3, len(grid)).astype(float),
            vwap=rng.random(len(grid)),
        )
        for s in ("A", "B")
    ]
    bars = as_bars(pd.concat(bars))
    ours = check_bars(resample(bars, long, calendar, partial="mark").drop(columns="partial"))
    slots = expected_bars(calendar, long, grid.ts.min() - pd.Timedelta(hours=hours), grid.ts.max())
    rows = []
    for symbol, own in bars.groupby("symbol"):
        for slot in slots.itertuples():
            part = own[(own.ts >= slot.ts) & (own.ts < slot.known_at)]
            if part.empty:
                continue
            weight = part.volume.sum()
            vwap = (part.vwap * part.volume).sum() / weight if weight else np.nan
            row = [symbol, long, slot.ts, slot.known_at, part.open.iloc[0], part.high.max(), part.low.min()]
            rows.append([*row, part.close.iloc[-1], weight, vwap])
    theirs = as_bars(pd.DataFrame(rows, columns=list(ours.columns)))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("calendar", ["24/7", "XNYS", "forex"])
def test_in_steps_or_at_once(calendar):
    grid = expected_bars(
        calendar, "1m", "2024-03-03 20:00" if calendar == "forex" else "2024-03-04", "2024-03-17 23:59"
    )
    bars = frame(grid.ts, "1m", calendar, vwap=100.0, trades=2.0, spread=0.5)
    steps = bars
    for timeframe in list(TIMEFRAMES)[1:]:
        steps = resample(steps, timeframe, calendar)
        pd.testing.assert_frame_equal(steps, resample(bars, timeframe, calendar))
    assert len(steps) == 2 and (steps.vwap == 100).all() and (steps.trades == 2 * steps.volume).all()
    assert (steps.known_at == known_at(steps.ts, "1w", calendar)).all()


def test_partial_ends():
    bars = frame(pd.date_range("2024-01-01 00:03", "2024-01-01 00:17", freq="1min"))
    assert list(resample(bars, "5m", "24/7").ts.dt.minute) == [5, 10]
    marked = resample(bars, "5m", "24/7", partial="mark")
    assert marked.partial.tolist() == [True, False, False, True] and marked.volume.tolist() == [2, 5, 5, 3]
    assert marked.known_at.iloc[-1] == pd.Timestamp(
        "2024-01-01 00:20Z"
    )  # its values are used no earlier than a whole bar's
    inner = resample(bars.drop(index=[3, 4, 5]).reset_index(drop=True), "5m", "24/7")
    assert inner.volume.tolist() == [2, 5]  # nobody traded in three minutes: no reason to drop the bar
    assert resample(bars.iloc[3:5].reset_index(drop=True), "1h", "24/7").empty
    one = resample(bars.iloc[3:5].reset_index(drop=True), "1h", "24/7", partial="mark")
    assert one.partial.tolist() == [True] and list(one.volume) == [2]


def test_partial_ends_by_symbol():
    span = pd.date_range("2024-01-01", periods=20, freq="1min")
    both = as_bars(pd.concat([frame(span, symbol="A"), frame(span[2:8], symbol="B")]))
    marked = resample(both, "5m", "24/7", partial="mark")
    assert marked.groupby("symbol").partial.apply(list).to_dict() == {"A": [False] * 4, "B": [True, True]}
    assert list(resample(both, "5m", "24/7").symbol) == ["A"] * 4


def test_half_day_and_holiday_week_are_whole():
    days = frame(expected_bars("XNYS", "1d", "2012-11-19", "2012-11-24").ts, "1d", "XNYS")
    week = resample(days, "1w", "XNYS")
    assert len(week) == 1 and week.volume[0] == 4 and str(week.known_at[0]) == "2012-11-23 18:00:00+00:00"
    assert resample(days.iloc[1:].reset_index(drop=True), "1w", "XNYS").empty


def test_lunch_ends_a_bar():
    minutes = frame(expected_bars("XTKS", "1m", "2020-01-06", "2020-01-07").ts, "1m", "XTKS")
    hours = resample(minutes, "1h", "XTKS")
    local = hours.ts.dt.tz_convert("Asia/Tokyo").dt.strftime("%H:%M")
    assert list(zip(local, hours.volume, strict=True))[:6] == [
        ("09:00", 60), ("10:00", 60), ("11:00", 30), ("12:30", 60), ("13:30", 60), ("14:30", 30)]  # fmt: skip
    assert resample(hours, "1d", "XTKS").volume.tolist() == [300]


def test_unknown_numbers_stay_unknown():
    span = pd.date_range("2024-01-01", periods=10, freq="1min")
    columns = {
        "volume": [1, 2, np.nan, 1, 1, 0, 0, 0, 0, 0],
        "vwap": [10, 20, 30, 40, 50, np.nan, 1, 1, 1, 1],
        "trades": [1, 1, 1, 1, np.nan, 0, 0, 0, 0, 0],
        "spread": [0.3, np.nan, 0.2, 0.4, 0.5, np.nan, np.nan, np.nan, np.nan, np.nan],
        "factor": [1.0] * 5 + [2.0] * 5,
    }
    long = resample(frame(span, **columns), "5m", "24/7")
    assert long.volume.isna().tolist() == [True, False] and long.volume[1] == 0
    assert long.vwap.isna().all() and long.trades.isna().tolist() == [True, False]
    assert long.spread[0] == 0.2 and np.isnan(long.spread[1]) and long.factor.tolist() == [1, 2]
    columns |= {"volume": [1, 2, 0, 1, 0] * 2, "vwap": [10, 20, np.nan, 40, np.nan] * 2}
    assert resample(frame(span, **columns), "5m", "24/7").vwap.tolist() == [
        90 / 4,
        90 / 4,
    ]  # no volume, no say
    columns["vwap"][3] = np.nan
    assert resample(frame(span, **columns), "5m", "24/7").vwap.isna().tolist() == [True, False]
    prices = {c: [1.0, 2.0, np.nan, 4.0, 5.0] * 2 for c in PRICES}
    assert resample(frame(span, **prices), "5m", "24/7")[["high", "low"]].isna().all(axis=None)


def test_a_bar_known_late_makes_its_longer_bar_known_late():
    bars = frame(pd.date_range("2024-01-01", periods=10, freq="1min"))
    late = pd.Timestamp("2024-01-05", tz="UTC")
    bars.loc[2, "known_at"] = late
    assert resample(bars, "5m", "24/7").known_at.tolist() == [late, pd.Timestamp("2024-01-01 00:10Z")]


@pytest.mark.parametrize("timeframe", ["5m", "1d", "1w"])
def test_nothing_in_nothing_out(timeframe):
    empty = (
        frame(pd.date_range("2024-01-01", periods=1, freq="1min"), vwap=1.0).iloc[:0].reset_index(drop=True)
    )
    check_bars(resample(empty, timeframe, "XNYS"))
    assert list(resample(empty, timeframe, "24/7", partial="mark").columns)[-1] == "partial"
    sunday = frame(["2024-03-10 12:00Z"], calendar="forex")
    check_bars(resample(sunday, timeframe, "forex", outside="drop"))


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda b: resample(b, "1m", "24/7"), "`timeframe` must be a multiple of 5m, and longer, got '1m'"),
        (lambda b: resample(b, "5m", "24/7"), "a multiple of 5m, and longer"),
        (lambda b: resample(b, "7m", "24/7"), "a known timeframe"),
        (lambda b: resample(b, "1M", "24/7"), "a known timeframe"),
        (lambda b: resample(b, "1h", "24/8"), "calendar"),
        (lambda b: resample(b, "1h", "24/7", partial="keep"), "`partial` must be drop or mark"),
        (lambda b: resample(b, "1h", "24/7", outside="keep"), "`outside` must be refuse or drop"),
        (lambda b: resample(b.drop(columns="high"), "1h", "24/7"), "missing: high"),
        (
            lambda b: resample(as_bars(pd.concat([b, b.assign(timeframe="15m")])), "1h", "24/7"),
            "of one timeframe",
        ),
        (
            lambda b: resample(b.assign(ts=b.ts + pd.Timedelta(seconds=30)), "1h", "24/7"),
            "on the grid of 24/7 at 5m",
        ),
        (lambda b: resample(b, "1h", "XNYS"), "inside the sessions of XNYS"),
    ],
)
def test_refused(call, says):
    with pytest.raises(DataError, match=says):
        call(frame(pd.date_range("2024-01-01", periods=24, freq="5min"), "5m"))


def test_merging_keeps_neighbours_of_other_symbols_apart():
    one = frame(["2024-01-01"], "1d")
    both = as_bars(pd.concat([one, one.assign(symbol="Y")]))
    merged = merge_bars(both, both.ts, both.known_at, "1w")
    assert list(merged.symbol) == ["X", "Y"] and (merged.timeframe == "1w").all()


@pytest.mark.parametrize("calendar", ["24/7", "forex"])
def test_a_million_minutes_of_ten_symbols(calendar):
    grid = expected_bars(calendar, "1m", "2023-01-02 12:00", "2023-04-20")
    grid = grid.iloc[:100_000]
    price = np.linspace(1, 2, len(grid))
    own = grid[["ts", "known_at"]].assign(
        timeframe="1m", open=price, high=price, low=price, close=price, volume=1.0
    )
    bars = as_bars(pd.concat([own.assign(symbol=f"S{i}") for i in range(10)]))
    long = resample(bars, "1h", calendar)
    assert long.volume.max() == 60 and long.symbol.nunique() == 10
