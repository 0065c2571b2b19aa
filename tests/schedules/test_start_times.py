"""Calendars: the same moments as systemd finds, changes of clocks, markets, and what cannot be read."""

import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from mlfin.core.errors import DataError, ParameterError
from mlfin.schedules.start_times import parse_span, parse_start_times

BASE = datetime(2026, 2, 27, 13, 37, 11, tzinfo=UTC)
SYSTEMD = [
    "minutely",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "quarterly",
    "semiannually",
    "yearly",
    "*:0/15",
    "*:*:30",
    "Mon..Fri 22:30",
    "Sat,Sun 09:00:05",
    "Mon *-*-1..7 04:00",
    "*-*-01,15 00:00",
    "*-02-29 12:00",
    "*-1/3-1 06:30",
    "Fri..Sun,Mon 8..18/2:05",
    "*-*-* 0/6:00:59",
    "Wed",
    "12-24 18:00",
    "*-*-31 23:59:59",
    "tuesday 7:07",
]


def starts(text: str, zone: str = "UTC", since: datetime = BASE, many: int = 6) -> list[datetime]:
    return list(islice(parse_start_times(text, zone).after(since), many))


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze: env/install-services"
)
@pytest.mark.parametrize("text", SYSTEMD, ids=range(len(SYSTEMD)))
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_the_moments_are_those_of_systemd(text, zone):
    there = subprocess.run(
        [
            "systemd-analyze",
            "calendar",
            "--iterations=6",
            f"--base-time={BASE:%Y-%m-%d %H:%M:%S} UTC",
            f"{text} {zone}",
        ],
        capture_output=True,
        text=True,
        env={"TZ": "UTC", "PATH": "/usr/bin:/bin", "LC_ALL": "C"},
    )
    assert there.returncode == 0, there.stderr
    found = re.findall(r"(?:Next elapse|Iter. #\d+|\(in UTC\)): \w{3} ([\d-]+ [\d:]+) UTC", there.stdout)
    assert [f"{m:%Y-%m-%d %H:%M:%S}" for m in starts(text, zone)] == list(dict.fromkeys(found))


# the hour left out in spring, the one that comes twice in autumn: (zone, day, the start by the clock there)
CLOCKS = [
    ("Europe/Berlin", (2026, 3, 29), "03:00 +0200"),
    ("Europe/Berlin", (2026, 10, 25), "02:30 +0200"),
    ("America/New_York", (2026, 3, 8), "03:00 -0400"),
    ("America/New_York", (2026, 11, 1), "02:30 -0500"),
    ("Australia/Lord_Howe", (2026, 10, 4), "02:30 +1100"),
    ("Australia/Lord_Howe", (2026, 4, 5), "02:30 +1030"),
]


@pytest.mark.parametrize(("zone", "day", "there"), CLOCKS, ids=range(6))
def test_a_day_on_which_the_clock_changes_has_one_start(zone, day, there):
    noon = datetime(*day, 12, tzinfo=UTC)
    found = [
        m
        for m in starts("30 2 * * *", zone, noon - timedelta(days=2), 5)
        if abs(m - noon) < timedelta(days=1.4)
    ]
    zone = parse_start_times("daily", zone).zone
    from zoneinfo import ZoneInfo

    local = [m.astimezone(ZoneInfo(zone)) for m in found]
    assert [f"{m:%H:%M %z}" for m in local if m.date() == noon.date()] == [there]
    assert len({m.date() for m in local}) == len(local)  # one a day


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [("Europe/Berlin", (2026, 3, 29), 23), ("Europe/Berlin", (2026, 10, 25), 25)],
    ids=["spring", "autumn"],
)
def test_an_hourly_start_comes_each_hour_of_such_a_day(zone, day, hours):
    from zoneinfo import ZoneInfo

    first = datetime(*day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    found = starts("0 * * * *", zone, first - timedelta(seconds=1), hours)
    assert found == [first + timedelta(hours=i) for i in range(hours)]
    assert {m.astimezone(ZoneInfo(zone)).date() for m in found} == {datetime(*day).date()}


def test_a_market_knows_holidays_half_days_and_lunch():
    assert [
        f"{m:%m-%d %H:%M}"
        for m in starts("XNYS close + 30min", since=datetime(2026, 12, 23, tzinfo=UTC), many=3)
    ] == ["12-23 21:30", "12-24 18:30", "12-28 21:30"]
    tokyo = starts("XTKS 1h bar", since=datetime(2026, 6, 1, tzinfo=UTC), many=6)
    assert [f"{m:%H:%M}" for m in tokyo] == ["01:00", "02:00", "02:30", "04:30", "05:30", "06:30"]


WRONG = [
    "* * * *",
    "60 0 * * *",
    "0 0 30 2 *",
    "every night",
    "2026-01-01",
    "*-*~1 04:00",
    "04:00:60",
    "24:00",
    "Mon..Foo",
    "Fri..Mon",
    "XNYS close +",
    "XNYS close + 30",
    "1h bar",
    "XNYS 7m bar",
    "",
    " ",
    "0 4 * * *; rm -rf /",
    "*/0 * * * *",
    "9" * 300,
]


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_read_is_refused_by_name(text):
    with pytest.raises((ParameterError, DataError), match=r"`(at|timeframe)` must be"):
        parse_start_times(text)


def test_an_unknown_market_is_refused_by_name():
    with pytest.raises(DataError, match="`calendar` must be a known name, got 'XNYX'"):
        parse_start_times("XNYX close")


def test_a_span_needs_its_unit():
    assert parse_span("1w 2d 3h 4min 5s") == timedelta(days=9, hours=3, minutes=4, seconds=5)
    for text in ("5", "min", "5 months", "1.5h", "-1h", None, 5):
        with pytest.raises(ParameterError, match="span with units"):
            parse_span(text, "limit")


def test_spans_and_shifts_that_leave_the_calendar_are_refused():
    for text in ("999999999w", "367d", "366d 1s"):
        with pytest.raises(ParameterError, match="at most a year"): parse_span(text, "limit")
    with pytest.raises(ParameterError, match="at most a year"): parse_start_times("XNYS close + 999999999w")
