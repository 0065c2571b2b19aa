import subprocess
import sys

import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.data.bars import TIMEFRAMES, as_bars
from mlfin.data.calendars import bars_per_year, days_per_year, expected_bars, gaps, known_at, session_bars, sessions


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
@pytest.mark.parametrize("calendar", ["24/7", "XNYS"])
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
    assert bars_per_year("24/7", "1w") == pytest.approx(52.14, abs=0.01) and bars_per_year("XNYS", "5m") == 252 * 78
    assert days_per_year("XLON") == 252


def test_nothing_heavy_is_imported():
    code = (
        "import sys, mlfin.data.ingest; heavy = {'deltalake', 'exchange_calendars', 'plotly', 'vectorbt', 'mlflow', 'sklearn'} & set(sys.modules);"
        "assert not heavy, heavy; import mlfin.data as d; assert all(getattr(d, n) for n in d.__all__) and d.__all__ == sorted(d.__all__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
