import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.market.bars import TIMEFRAMES, as_bars
from mlfin.market.calendars import (
    bars_per_year,
    calendar_zone,
    days_per_year,
    expected_bars,
    gaps,
    known_at,
    session_bars,
    session_of,
    sessions,
)


def test_new_york_known_facts():
    found = sessions("XNYS", "2000-03-01", "2013-03-01")
    assert len(found) == 3270
    days = set(found.session.dt.strftime("%Y-%m-%d"))
    assert not days & {
        "2001-09-11",
        "2001-09-14",
        "2004-06-11",
        "2012-10-29",
        "2012-10-30",
        "2000-12-25",
    }  # attacks, mourning, Sandy
    assert {"2001-09-10", "2001-09-17", "2012-10-31"} <= days


def test_daylight_saving_moves_the_open():
    bars = expected_bars("XNYS", "1d", "2012-03-08", "2012-03-13")
    assert list(bars.ts.dt.strftime("%d %H:%M")) == ["08 14:30", "09 14:30", "12 13:30"]
    assert (bars.known_at - bars.ts == pd.Timedelta(hours=6.5)).all()


@pytest.mark.parametrize("timeframe", TIMEFRAMES)
@pytest.mark.parametrize("calendar", ["24/7", "forex", "XNYS", "XTKS", "XLON"])
def test_expected_bars_are_ordered_and_closed_before_the_next(calendar, timeframe):
    bars = expected_bars(calendar, timeframe, "2012-11-01", "2012-12-31")
    assert bars.ts.is_monotonic_increasing and bars.ts.is_unique and (bars.known_at > bars.ts).all()
    assert (bars.known_at.iloc[:-1].to_numpy() <= bars.ts.iloc[1:].to_numpy()).all()
    assert (known_at(bars.ts, timeframe, calendar) == bars.known_at).all()


def test_week_of_an_exchange_runs_from_first_open_to_last_close():
    week = expected_bars("XNYS", "1w", "2012-11-19", "2012-11-25").iloc[0]
    assert str(week.ts) == "2012-11-19 14:30:00+00:00" and str(week.known_at) == "2012-11-23 18:00:00+00:00"
    named = session_bars(pd.Series(pd.to_datetime(["2012-11-21"])), "XNYS", "1w").iloc[0]
    assert named.ts == week.ts and named.known_at == week.known_at


def test_lunch_break_has_no_bars():
    hours = expected_bars("XTKS", "30m", "2020-01-06", "2020-01-07")
    local = hours.ts.dt.tz_convert("Asia/Tokyo").dt.strftime("%H:%M")
    assert "11:00" in set(local) and not {"11:30", "12:00"} & set(local) and "12:30" in set(local)


def test_grid_of_a_market_without_end():
    assert list(expected_bars("24/7", "4h", "2024-01-01 01:00", "2024-01-01 09:00").ts.dt.hour) == [4, 8]
    assert list(expected_bars("24/7", "1w", "2024-01-01", "2024-01-20").ts.dt.day) == [1, 8, 15]


def test_one_missing_and_none(make):
    bars = make(timeframe="1d", start="2012-10-01", end="2012-12-31", calendar="XNYS")
    assert gaps(bars, "XNYS").empty
    hole = gaps(bars.drop(index=[5, 6, 9]).reset_index(drop=True), "XNYS")
    assert list(hole.missing) == [2, 1] and hole.start[0] == bars.ts[5] and hole.end[0] == bars.ts[6]
    assert gaps(bars.iloc[:0], "XNYS").empty
    two = as_bars(pd.concat([bars.drop(index=3), bars.assign(symbol="OTHER").drop(index=4)]))
    assert list(gaps(two, "XNYS").symbol) == ["COIN", "OTHER"]


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: sessions("XNYX", "2020-01-01", "2020-02-01"), "did you mean"),
        (lambda: sessions("24/7", "2020-01-02", "2020-01-01"), "`end` must be at or after"),
        (lambda: expected_bars("24/7", "1d", "yesterday-ish", "2020-01-01"), "`start` must be a date"),
        (lambda: expected_bars("24/7", "1M", "2020-01-01", "2020-01-01"), "`timeframe` must be"),
    ],
)
def test_refused(call, says):
    with pytest.raises(DataError, match=says):
        call()


def test_year():
    assert bars_per_year("24/7", "1w") == pytest.approx(52.14, abs=0.01)
    assert bars_per_year("XNYS", "5m") == 252 * 78
    assert days_per_year("XLON") == 252


def test_nothing_heavy_is_imported():
    code = (
        "import sys, mlfin.ingest.ingest; heavy = {'deltalake', 'exchange_calendars', 'plotly', 'vectorbt', "
        "'mlflow', 'sklearn'} & set(sys.modules);"
        "assert not heavy, heavy\n"
        "import mlfin; from importlib import import_module\n"
        "for room in ('market', 'files', 'sources', 'store', 'warehouse', 'quality', 'ingest', 'facts'):\n"
        "    d = import_module(f'mlfin.{room}'); assert all(getattr(d, n) for n in d.__all__) and d.__all__ "
        "== sorted(d.__all__)")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_forex_week_and_its_clock():
    weeks = expected_bars("forex", "1w", "2024-01-01", "2024-12-31")
    local = weeks.ts.dt.tz_convert("America/New_York"), weeks.known_at.dt.tz_convert("America/New_York")
    assert set(local[0].dt.hour) == set(local[1].dt.hour) == {17} and len(weeks) == 53
    assert set(local[1].dt.day_of_week) == {4} and list(local[0].dt.day_of_week).count(6) == 52  # 1 January
    spring = expected_bars("forex", "1d", "2024-03-07", "2024-03-12")
    assert list(spring.ts.dt.strftime("%d %H:%M")) == ["07 22:00", "10 21:00", "11 21:00"]
    assert list(spring.session.dt.strftime("%a %d")) == ["Fri 08", "Mon 11", "Tue 12"]
    autumn = expected_bars("forex", "1d", "2024-10-31", "2024-11-05")
    assert list(autumn.ts.dt.strftime("%d %H:%M")) == ["31 21:00", "03 22:00", "04 22:00"]
    assert (autumn.known_at - autumn.ts == pd.Timedelta(hours=24)).all()
    four = expected_bars(
        "forex", "4h", "2024-03-10", "2024-03-11"
    )  # 17, 21, 01, ... in New York, whatever UTC says
    assert set(four.ts.dt.tz_convert("America/New_York").dt.hour) <= {17, 21, 1, 5, 9, 13}


def test_forex_holidays():
    days = sessions("forex", "2023-12-18", "2024-01-05").session.dt.strftime("%m-%d")
    assert not {"12-25", "01-01", "12-23", "12-24"} & set(days)
    assert {"12-22", "12-26", "12-29", "01-02"} <= set(days)
    assert len(days) == 13
    noon = pd.Series(
        pd.to_datetime(["2023-12-25 12:00Z", "2023-12-25 21:59Z", "2023-12-25 22:00Z", "2023-12-22 22:00Z"])
    )
    assert session_of(noon, "forex").isna().tolist() == [True, True, False, True]
    named = session_bars(pd.Series(pd.to_datetime(["2023-12-24", "2023-12-25", "2023-12-26"])), "forex")
    assert named.ts.isna().tolist() == [True, True, False]


@pytest.mark.parametrize("calendar", ["24/7", "forex", "XNYS", "XTKS"])
def test_session_of_every_expected_bar(calendar):
    bars = expected_bars(calendar, "30m", "2024-03-01", "2024-03-20")
    assert (session_of(bars.ts, calendar) == bars.session).all()
    shuffled = bars.ts.sample(frac=1, random_state=0)
    assert (session_of(shuffled, calendar) == bars.session[shuffled.index]).all()


def test_a_bar_that_no_calendar_has_is_known_by_the_clock():
    sunday = pd.Series(pd.to_datetime(["2024-03-10 12:00Z"]))
    for calendar in ("forex", "XNYS"):
        assert known_at(sunday, "1h", calendar)[0] == pd.Timestamp("2024-03-10 13:00Z")


def found(market_bars, timeframe, calendar):
    "Rows, expected rows, rows outside the market, gaps, missing bars, longest gap."
    ts = pd.Series(market_bars).reset_index(drop=True).astype("datetime64[us, UTC]")
    one = dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0)
    bars = pd.DataFrame({"ts": ts, "known_at": known_at(ts, timeframe, calendar)})
    bars = as_bars(bars.assign(symbol="X", timeframe=timeframe, **one))
    expected, holes = expected_bars(calendar, timeframe, ts.min(), ts.max()), gaps(bars, calendar)
    outside = (~bars.ts.isin(expected.ts)).sum()
    return (
        len(bars),
        len(expected),
        outside,
        len(holes),
        holes.missing.sum(),
        holes.missing.max() if len(holes) else 0,
    )


@pytest.mark.parametrize(
    "path, column, format, timeframe, what",
    [
        ("nautilus/fxcm/gbpusd-m1-bid-2012.csv", "timestamp", None, "1m", (30117, 30241, 0, 110, 124, 4)),
        ("nautilus/fxcm/usdjpy-m1-bid-2013.csv", "timestamp", None, "1m", (28761, 28801, 0, 38, 40, 2)),
        # Dukascopy's hours are whole, and nine more on Christmas Eve 2017
        (
            "pypi_gym_anytrading/FOREX_EURUSD_1H_ASK.csv",
            "Time",
            "%d.%m.%Y %H:%M:%S.%f",
            "1h",
            (6225, 6216, 9, 0, 0, 0),
        ),
    ],
)
def test_forex_week_of_real_quotes(market, path, column, format, timeframe, what):
    raw = pd.read_csv(next((market / path).parent.glob((market / path).name + "*")))
    assert found(pd.to_datetime(raw[column], format=format, utc=True), timeframe, "forex") == what


def test_forex_week_of_an_index_contract(market):
    "US30 rests from 17:00 to 18:00 New York every day, and nothing else but holidays is missing."
    raw = pd.read_csv(market / "mt5_us30m/US30m_H1_202401012300_202509082200.csv", sep="\t")
    ts = pd.to_datetime(raw["<DATE>"] + " " + raw["<TIME>"], format="%Y.%m.%d %H:%M:%S", utc=True)
    assert found(ts, "1h", "forex") == (9890, 10513, 0, 436, 623, 25)


def test_forex_week_of_twelve_years(market):
    with zipfile.ZipFile(market / "lean/Data/forex/oanda/hour/eurusd.zip") as archive:
        raw = pd.read_csv(archive.open(archive.namelist()[0]), header=None)
    ts = pd.to_datetime(raw[0], format="%Y%m%d %H:%M", utc=True)
    assert found(ts, "1h", "forex") == (74439, 74712, 44, 20, 317, 103)


@pytest.mark.parametrize(
    "name, timeframe, what",
    [
        ("UNITTEST_BTC-1m", "1m", (13681, 14398, 0, 538, 717, 7)),
        ("XRP_ETH-1m", "1m", (2469, 3560, 0, 676, 1091, 8)),
        ("ADA_BTC-5m", "5m", (5720, 5760, 0, 5, 40, 33)),
        ("ETH_BTC-5m", "5m", (5760, 5760, 0, 0, 0, 0)),
    ],
)
def test_gaps_of_real_coins(market, name, timeframe, what):
    assert found(pd.read_feather(market / f"freqtrade/{name}.feather").date, timeframe, "24/7") == what


@pytest.mark.parametrize(
    "ticker, what", [("spy", (5849, 5849, 0, 0, 0, 0)), ("bno", (3827, 5849, 0, 1, 2022, 2022))]
)
def test_sessions_of_real_equities(market, ticker, what):
    "SPY has each of 5,849 sessions; BNO's ticker was someone else's until 2002."
    with zipfile.ZipFile(market / f"lean/Data/equity/usa/daily/{ticker}.zip") as archive:
        raw = pd.read_csv(archive.open(archive.namelist()[0]), header=None)
    named = session_bars(pd.to_datetime(raw[0], format="%Y%m%d %H:%M"), "XNYS")
    assert found(named.ts, "1d", "XNYS") == what


def test_forex_year():
    assert days_per_year("forex") == 260 and calendar_zone("forex") == "America/New_York"
    assert [bars_per_year("forex", t) for t in ("1h", "4h", "1d", "1w")] == [260 * 24, 260 * 6, 260, 52]
    with pytest.raises(DataError, match="did you mean `forex`"):
        sessions("forx", "2024-01-01", "2024-01-02")


@pytest.mark.parametrize("calendar", ["24/7", "forex", "XNYS"])
def test_gaps_of_many_symbols_one_by_one(make, calendar):
    "All symbols at once give what a set difference gives for each; bars off the grid do not count."
    rng, frames = np.random.default_rng(5), []
    for i, timeframe in enumerate(["1h", "1h", "4h", "1d", "1d"]):
        own = make(f"S{i}", timeframe, "2024-02-01", f"2024-03-{10 + i}", calendar, seed=i)
        frames.append(own[rng.random(len(own)) > 0.4])
    odd = frames[0].iloc[[0]].assign(ts=lambda b: b.ts - pd.Timedelta(minutes=7))
    bars = as_bars(pd.concat([*frames, odd]))
    rows = []
    for (symbol, timeframe), own in bars.groupby(["symbol", "timeframe"]):
        grid = expected_bars(calendar, timeframe, own.ts.iloc[0], own.ts.iloc[-1]).ts
        run, there = [], set(own.ts)
        for ts in [*grid, None]:
            if ts is not None and ts not in there:
                run.append(ts)
            elif run:
                rows.append((symbol, timeframe, run[0], run[-1], len(run)))
                run = []
    assert list(gaps(bars, calendar).itertuples(index=False, name=None)) == rows and len(rows) > 50


@pytest.mark.parametrize("calendar, closed", [
    ("XNYS", "2001-09-11 2001-09-12 2001-09-13 2001-09-14 2004-06-11 2007-01-02 2012-10-29 2012-10-30 "
             "2018-12-05 2025-01-09"),
    ("XLON", "1999-12-31 2002-06-03 2002-06-04 2011-04-29 2012-06-04 2012-06-05 2020-05-08 2022-06-02 "
             "2022-06-03 2022-09-19 "
             "2023-05-08")])
def test_the_schedule_does_not_know_of_single_days(calendar, closed):
    known, ruled = (sessions(calendar, "1998-01-01", "2025-12-31", scheduled=s) for s in (False, True))
    more = ruled[~ruled.session.isin(known.session)]
    assert more.session.dt.strftime("%Y-%m-%d").tolist() == closed.split()
    assert ruled.session.is_monotonic_increasing and (ruled.close > ruled.open).all()
    assert (ruled.open.shift(-1) >= ruled.close)[:-1].all() and known.session.isin(ruled.session).all()
    zone = calendar_zone(calendar)
    usual = ("09:30", "16:00") if calendar == "XNYS" else ("08:00", "16:30")
    if calendar == "XNYS":
        hours = zip(
            more.open.dt.tz_convert(zone).dt.strftime("%H:%M"),
            more.close.dt.tz_convert(zone).dt.strftime("%H:%M"),
            strict=True,
        )
        assert set(hours) == {usual}
        short = known.merge(ruled, on="session").query("close_x != close_y")
        assert short.session.dt.strftime("%Y-%m-%d").tolist() == ["1999-12-31", "2003-12-26"]


def test_markets_without_such_days_have_one_schedule():
    for calendar in ("24/7", "forex", "XPAR"):
        pair = [sessions(calendar, "2015-01-01", "2016-12-31", scheduled=s) for s in (False, True)]
        pd.testing.assert_frame_equal(*pair)
