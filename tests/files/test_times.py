"""What times mean: the session that a daily stamp names, however it is stamped, and one rule for all of a
column."""

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.market.bars import TIME
from mlfin.market.calendars import session_bars, sessions
from mlfin.sources.sources import read_bars
from mlfin.files.times import SessionRuleDetector, TimeForm, TimeFormDetector, bar_times, parse_times

SPAN = ("2024-02-26", "2024-11-15")  # three clock changes: New York's two, and Europe's
DAYS = sessions("forex", *SPAN)


def stamped(csv, stamps, name="eurusd.csv", **how):
    """Daily bars of the euro with the stamps of a file, as read."""
    price = 1.08 + np.arange(len(stamps)) * 1e-5
    rows = [
        f"{s},{p:.5f},{p + 0.002:.5f},{p - 0.002:.5f},{p + 0.001:.5f},{1000 + i}"
        for i, (s, p) in enumerate(zip(stamps, price, strict=True))
    ]
    return read_bars(
        csv("time,open,high,low,close,volume\n" + "\n".join(rows) + "\n", name),
        symbol="EURUSD",
        calendar="forex",
        **how,
    )


def texts(moments, form="%Y-%m-%d %H:%M", zone="UTC"):
    return moments.dt.tz_convert(zone).dt.strftime(form)


@pytest.mark.parametrize(
    "stamps, how",
    [
        (
            texts(DAYS.open, zone="America/New_York"),
            {"tz": "America/New_York"},
        ),  # 17:00 on the evening before
        (texts(DAYS.open), {"tz": "UTC"}),  # 22:00 in winter, 21:00 in summer
        (texts(DAYS.open, "%Y-%m-%dT%H:%M:%SZ"), {}),
        (DAYS.open.astype("int64") // 1_000_000, {}),
        (DAYS.session.dt.strftime("%Y-%m-%d"), {}),  # dates, as most files have them
        (DAYS.session.dt.strftime("%d.%m.%Y 00:00:00"), {}),
        (
            DAYS.session.dt.strftime("%Y.%m.%d 00:00"),
            {"tz": "Europe/Athens"},
        ),  # a broker's midnight is New York's 17:00
        (texts(DAYS.close - pd.Timedelta(minutes=1)), {"tz": "UTC"}),
        (
            texts(DAYS.close),
            {"tz": "UTC"},
        ),  # stamped with the close: Friday evening is there, Sunday's is not
        (DAYS.session.dt.strftime("%Y-%m-%d 12:00"), {"tz": "UTC"}),
    ],
    ids="new-york utc iso epoch dates day-first midnights last-minute closes noon".split(),
)
def test_a_forex_day_however_it_is_stamped(csv, stamps, how):
    reading = stamped(csv, stamps, **how)
    assert reading.quarantine.empty
    assert list(reading.bars.ts) == list(DAYS.open) and list(reading.bars.known_at) == list(DAYS.close)


@pytest.mark.parametrize("hour", [21, 22])
def test_a_clock_without_summer_time_loses_no_day(csv, hour):
    stamps = (DAYS.session - pd.Timedelta(hours=24 - hour)).dt.strftime("%Y-%m-%d %H:%M")
    reading = stamped(csv, stamps, tz="UTC")
    assert reading.quarantine.empty and list(reading.bars.ts) == list(DAYS.open)


def test_sundays_evening_is_monday(csv):
    monday = stamped(csv, ["2024-01-07 22:00", "2024-01-08 22:00"], tz="UTC").bars
    assert list(monday.known_at.dt.strftime("%a %d %H:%M")) == ["Mon 08 22:00", "Tue 09 22:00"]


def test_a_stamp_while_the_market_is_shut_is_no_day(csv):
    reading = stamped(csv, ["2024-01-04 22:00", "2024-01-06 12:00", "2024-01-07 22:00"], tz="UTC")
    assert list(reading.quarantine.row) == [1]
    assert reading.quarantine.reason[0] == "no session of forex on that date"
    assert list(reading.bars.known_at.dt.day) == [5, 8]


@pytest.mark.parametrize("stamp", ["2024-03-10", "2024-03-11", "2024-03-13"])
def test_a_forex_week_begins_on_sundays_evening(csv, stamp):
    bar = stamped(csv, [stamp, "2024-03-18"], timeframe="1w").bars.iloc[0]
    assert str(bar.ts) == "2024-03-10 21:00:00+00:00" and str(bar.known_at) == "2024-03-15 21:00:00+00:00"


@pytest.mark.parametrize("calendar", ["XASX", "XNZE", "XTKS", "XNYS", "forex"])
def test_the_first_date_of_a_file_has_its_session(calendar):
    days = sessions(calendar, "2024-03-04", "2024-03-15")
    found = session_bars(days.session, calendar)
    assert list(found.ts) == list(days.open) and list(found.known_at) == list(days.close)


@pytest.mark.parametrize("clock", ["09:30", "12:00", "15:59", "16:00", "20:00", "00:00"])
def test_a_day_of_shares_however_it_is_stamped(clock):
    days = sessions("XNYS", "2012-10-01", "2012-12-31")  # two short days among them
    stamps = (
        (days.session + pd.Timedelta(f"{clock}:00"))
        .dt.tz_localize("America/New_York")
        .dt.tz_convert("UTC")
        .astype(TIME)
    )
    found = bar_times(stamps, "1d", "XNYS")
    assert list(found.ts) == list(days.open) and list(found.known_at) == list(days.close)


def test_some_bars_are_read_by_the_rule_of_all():
    closes = DAYS.close
    seen = SessionRuleDetector("forex", "UTC")
    for first in range(0, len(closes), 7):
        seen.add(closes[first : first + 7])
    assert seen.rule() == "end"
    midweek = closes[1:3]  # by themselves they would be opens
    assert list(bar_times(midweek, "1d", "forex").ts) == list(DAYS.open[2:4])
    assert list(bar_times(midweek, "1d", "forex", rule="end").ts) == list(DAYS.open[1:3])


COLUMNS = {
    "seconds": pd.Series([0, 1640995200, 1640995260]),
    "seconds-text": pd.Series(["1640995200", "x", "", "1640995260"]),
    "milliseconds": pd.Series([1640995200000, 1640995260000]),
    "fractions": pd.Series([1640995200.5, 1640995260.25]),
    "nanoseconds": pd.Series([1640995200000000000, 1640995260000000000]),
    "days": pd.Series(["20220101", "20220102", "20220103"]),
    "day-first": pd.Series(["01/02/2022 10:00", "02/02/2022 10:00", "28/02/2022 10:00"]),
    "month-first": pd.Series(["01/02/2022 10:00", "02/02/2022 10:00", "02/28/2022 10:00"]),
    "dots": pd.Series(["01.02.2022 10:00", "2022.02.03 10:00", None]),
    "offsets": pd.Series(["2022-01-01 09:30-05:00", "2022-01-01T09:30Z", "2022-01-01 09:30"]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_bits_are_read_as_the_whole(name):
    column = COLUMNS[name]
    whole, seen = parse_times(column, "UTC"), TimeFormDetector()
    for i in range(len(column)):
        seen.add(column[i : i + 1])
    form = seen.form()
    bits = pd.concat([parse_times(column[i : i + 1], "UTC", form=form) for i in range(len(column))])
    pd.testing.assert_series_equal(bits, whole)


@pytest.mark.parametrize(
    "column, form",
    [
        (["2022-01-01", "2022-01-02 00:00:00"], TimeForm(None, None, True)),
        (["2022-01-01", "2022-01-02 00:00:01"], TimeForm(None, None, False)),
        (["2022-01-01", "2022-01-02T09:30:00-05:00"], TimeForm(None, None, True)),
        (["2022-01-01", "not a time: 10:00"], TimeForm(None, None, True)),
        (["31.12.2021 00:00"], TimeForm(None, True, True)),
        (["12/31/2021"], TimeForm(None, False, True)),
        (["20211231", "20220103"], TimeForm(None, None, True)),
        (["1640995200"], TimeForm("s", None, False)),
        ([], TimeForm(None, None, True)),
    ],
)
def test_forms(column, form):
    seen = TimeFormDetector(dates=True)
    seen.add(pd.Series(column, dtype="str"))
    assert seen.form() == form


@pytest.mark.parametrize("days", [["01/02/2022"], ["13/01/2022", "01/13/2022"]])
def test_an_order_that_cannot_be_told_is_asked_for(days):
    with pytest.raises(DataError, match="`dayfirst` must be given"):
        parse_times(pd.Series(days), "UTC")
    assert parse_times(pd.Series(days), "UTC", dayfirst=True).notna().any()


def test_fractions_of_seconds_count():
    moments = parse_times(pd.Series([1640995200.5, np.nan, 1640995260.25]), None)
    assert list(moments.isna()) == [False, True, False] and moments[0].microsecond == 500_000


def test_a_sunday_of_its_own_tells_of_days_that_end_at_midnight(csv):
    reading = stamped(csv, ["2024-01-05", "2024-01-07", "2024-01-08"])
    assert list(reading.quarantine.row) == [1] and "calendar='24/7'" in reading.quarantine.reason[0]


def _bars_file(path, stamps, kind="csv"):
    frame = pd.DataFrame({"time": stamps, "open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5, "volume": 10.0})
    {
        "csv": lambda: frame.to_csv(path, index=False),
        "parquet": lambda: frame.to_parquet(path),
        "json": lambda: frame.to_json(path, orient="records"),
    }[kind]()
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet", "json"])
@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
@pytest.mark.parametrize("as_", ["int64", "float64", "str"])
def test_counts_on_a_server_s_clock(tmp_path, kind, unit, as_):
    """A broker's midnight is 22:00 UTC in winter and 21:00 in summer; every kind of count is read so, and the
    report says it."""
    if as_ == "float64" and unit == 10**9:
        pytest.skip("float64 cannot hold nanoseconds of today")
    wall = pd.to_datetime(["2024-01-10 00:00", "2024-01-10 01:00", "2024-07-10 00:00"]).as_unit("s")
    stamps = pd.Series(wall.asi8 * unit).astype(as_)
    path = _bars_file(tmp_path / f"x.{kind}", stamps, kind)
    plain = read_bars(path, symbols="EURUSD", timeframe="1h", calendar="24/7")
    assert plain.bars.ts.dt.tz_localize(None).tolist() == wall.tolist() and not plain.notes
    local = read_bars(path, symbols="EURUSD", timeframe="1h", calendar="24/7", tz="Europe/Athens")
    assert local.bars.ts.dt.strftime("%m-%d %H").tolist() == ["01-09 22", "01-09 23", "07-09 21"]
    assert "clock of Europe/Athens" in " ".join(local.notes)
    assert not read_bars(path, symbols="EURUSD", timeframe="1h", calendar="24/7", tz="UTC").notes


def test_counts_that_a_zone_skips_or_shows_twice_are_set_aside(tmp_path):
    wall = pd.to_datetime(
        ["2024-03-31 02:00", "2024-03-31 03:00", "2024-10-27 03:00", "2024-10-27 04:00"]
    ).as_unit("s")
    found = read_bars(
        _bars_file(tmp_path / "x.csv", wall.asi8),
        symbols="X",
        timeframe="1h",
        calendar="24/7",
        tz="Europe/Athens",
    )
    assert found.bars.ts.dt.strftime("%m-%d %H").tolist() == ["03-31 00", "10-27 02"]
    assert found.quarantine.row.tolist() == [1, 2]
    assert found.quarantine.reason.str.contains("is there twice").all()


def test_daily_counts_on_a_server_s_clock_name_its_days(tmp_path):
    "Midnights of the server, by its own clock."
    wall = pd.to_datetime(["2024-01-10", "2024-01-11", "2024-07-10"]).as_unit("s")
    found = read_bars(
        _bars_file(tmp_path / "x.csv", wall.asi8),
        symbols="X",
        timeframe="1d",
        calendar="forex",
        tz="Europe/Athens",
    )
    assert found.bars.known_at.dt.tz_convert("America/New_York").dt.strftime("%m-%d %H").tolist() == [
        "01-10 17",
        "01-11 17",
        "07-10 17",
    ]


def test_services_that_count_in_utc_refuse_another_zone():
    for source in ("ccxt:binance", "yahoo:"):
        with pytest.raises(DataError, match="counted in UTC"):
            read_bars(source, symbols=["BTC/USDT"], timeframe="1d", tz="Europe/Athens")


def test_a_database_that_counts_on_a_server_s_clock_is_asked_widely_enough(tmp_path):
    "A bound in UTC, rows counted three hours ahead: none at the edge is lost, none is an hour wrong."
    import sqlite3

    wall = pd.date_range("2024-07-10 00:00", periods=48, freq="h").as_unit("s")
    with sqlite3.connect(tmp_path / "x.db") as database:
        database.execute("CREATE TABLE prices (symbol, time INTEGER, open, high, low, close, volume)")
        database.executemany(
            "INSERT INTO prices VALUES ('X', ?, 1, 2, 0.5, 1.5, 10)", [(int(t),) for t in wall.asi8]
        )
    found = read_bars(
        f"sql:sqlite:///{tmp_path / 'x.db'}#prices",
        symbols=["X"],
        timeframe="1h",
        tz="Europe/Athens",
        start="2024-07-09T22:00Z",
        end="2024-07-10T03:00Z",
    )
    assert {"07-09 22", "07-10 03"} <= set(found.bars.ts.dt.strftime("%m-%d %H"))
    assert "clock of Europe/Athens" in " ".join(found.notes)


def test_days_dated_at_the_midnight_after_them_are_not_read_a_day_late(tmp_path):
    """Tuesday to Saturday: a fifth of the dates has no session, and the others would be read a day late in
    silence."""
    days = sessions("XNYS", "2024-01-02", "2024-03-28").session
    path = tmp_path / "late.csv"
    prices = pd.DataFrame(
        {
            "date": (days + pd.Timedelta(days=1)).dt.strftime("%Y-%m-%d"),
            "open": 1.0,
            "high": 2.0,
            "low": 0.5,
            "close": 1.5,
            "volume": 9.0,
        }
    )
    prices.to_csv(path, index=False)
    with pytest.raises(DataError, match=r"late.csv(?s:.*)a day earlier 61 have one(?s:.*)--stamp close"):
        read_bars(path, symbol="A", timeframe="1d", tz="UTC", calendar="XNYS")
    found = read_bars(path, symbol="A", timeframe="1d", tz="UTC", calendar="XNYS", stamp="close").bars
    assert list(found.ts) == list(sessions("XNYS", "2024-01-02", "2024-03-28").open)


def test_dates_that_name_their_session_stay_whatever_the_stamp():
    days = sessions("XNYS", "2024-01-02", "2024-03-28")
    dated = days.session.dt.tz_localize("UTC").astype(TIME)
    for stamp in ("open", "close"):
        assert list(bar_times(dated, "1d", "XNYS", stamp=stamp).ts) == list(days.open)
    weeks = pd.Series(pd.date_range("2024-01-08", periods=12, freq="W-MON", tz="UTC")).astype(
        TIME
    )  # ends of the weeks before
    assert list(bar_times(weeks, "1w", "XNYS", stamp="close").known_at) == list(
        bar_times(weeks - pd.Timedelta(days=7), "1w", "XNYS").known_at
    )
