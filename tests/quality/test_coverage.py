"""Bars there and bars expected, by session, add up to what the summary and the list of gaps say."""

import pandas as pd
import pytest

from mlfin.market.bars import as_bars
from mlfin.market.calendars import gaps
from mlfin.quality.coverage import coverage, survivorship


@pytest.mark.parametrize("timeframe, calendar", [("1m", "24/7"), ("1h", "24/7"), ("1d", "XNYS"),
                                                 ("5m", "XNYS"), ("1h", "forex"), ("1w", "XNYS")])
def test_it_adds_up_to_the_gaps(make, timeframe, calendar):
    frame = make("A", timeframe, "2024-02-26", "2024-03-29" if timeframe != "1m" else "2024-03-01", calendar)
    gone = frame.index[1:-1][:: max(len(frame) // 9, 2)]
    left = frame.drop(index=gone).reset_index(drop=True)
    days = coverage(left, calendar)
    assert (days.expected.sum(), days.present.sum()) == (len(frame), len(left))
    assert days.expected.sum() - days.present.sum() == gaps(left, calendar).missing.sum() == len(gone)
    assert not days.duplicated(["symbol", "timeframe", "session"]).any()
    assert days.session.is_monotonic_increasing


def test_a_late_start_and_an_early_end_are_not_missing(make):
    both = as_bars(pd.concat([make("A", "1d", "2024-01-01", "2024-01-31"),
                              make("B", "1d", "2024-01-10", "2024-01-20")]))
    days = coverage(both, "24/7")
    assert (days.present == days.expected).all() and days.groupby("symbol").size().tolist() == [31, 11]


def test_bars_off_the_calendar_count_nowhere(make):
    frame = make("A", "1d", "2024-01-01", "2024-01-31")
    days = coverage(frame, "24/7")
    odd = as_bars(pd.concat([frame, frame.iloc[[3]].assign(
        ts=frame.ts[3] + pd.Timedelta(hours=1), known_at=frame.known_at[3] + pd.Timedelta(hours=1))]))
    pd.testing.assert_frame_equal(coverage(odd, "24/7"), days)


def test_no_bars_and_one(make):
    one = make("A", "1d", "2024-01-01", "2024-01-01")
    assert coverage(one.head(0), "24/7").empty and coverage(one, "24/7").present.tolist() == [1]
    assert coverage(one.head(0), "24/7").dtypes.equals(coverage(one, "24/7").dtypes)


def test_a_month_of_real_minutes(market):
    from mlfin.sources.sources import read_bars

    frame = read_bars(market / "nautilus" / "btc-perp-20211231-20220201_1m.csv", "BTC",
                      timeframe="1m", tz="UTC").bars
    days = coverage(frame, "24/7")
    assert len(days) == 33 and (days.present == days.expected).all() and days.present.sum() == 45_031


def test_survivors_are_named_whatever_the_source(make):
    one, two = (make(name, end="2024-02-29") for name in ("AAA", "BBB"))
    both = pd.concat([one, two], ignore_index=True)
    assert survivorship(both).startswith("All 2 symbols are still traded at the end of the data (2024-02-29)")
    assert survivorship(one).startswith("The one symbol, AAA, is still traded")
    gone = both[(both.symbol == "AAA") | (both.ts < "2024-02-10")].reset_index(drop=True)
    assert survivorship(gone) == "" and survivorship(both.iloc[:0]) == ""
    # a holiday is no delisting
    late = both[(both.symbol == "AAA") | (both.ts < "2024-02-25")].reset_index(drop=True)
    assert survivorship(late).startswith("All 2")
