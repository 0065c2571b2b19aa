import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.market.bars import TIMEFRAMES, as_bars, check_bars, moment, parse_timeframe, timeframe_delta


@pytest.mark.parametrize(
    "text, name",
    [
        ("1m", "1m"),
        ("m1", "1m"),
        ("M1", "1m"),
        ("1min", "1m"),
        ("1T", "1m"),
        (" 5m ", "5m"),
        ("M5", "5m"),
        ("15min", "15m"),
        ("M30", "30m"),
        ("60min", "1h"),
        ("1H", "1h"),
        ("h", "1h"),
        ("H4", "4h"),
        ("240m", "4h"),
        ("D", "1d"),
        ("D1", "1d"),
        ("24h", "1d"),
        ("1day", "1d"),
        ("Daily", "1d"),
        ("W", "1w"),
        ("7d", "1w"),
        ("weekly", "1w"),
        ("W1", "1w"),
        ("W-SUN", "1w"),
        ("PERIOD_M15", "15m"),
        ("PERIOD_D1", "1d"),
        ("5T", "5m"),
        ("4h", "4h"),
        ("1w", "1w"),
    ],
)
def test_aliases(text, name):
    assert parse_timeframe(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "1M",
        "M",
        "MN",
        "MN1",
        "5M",
        "",
        "2m",
        "0m",
        "m0",
        "-1m",
        "1x",
        "1.5h",
        "1mm",
        "W-FRI",
        "PERIOD_MN1",
        "8h",
        "B",
        "1MS",
        None,
        5,
        "99999999999999999999d",
    ],
)
def test_no_timeframe(text):
    with pytest.raises(DataError, match="must be a known timeframe"):
        parse_timeframe(text)


def test_names_are_canonical():
    for name, delta in TIMEFRAMES.items():
        assert parse_timeframe(name) == name and timeframe_delta(name) == delta


def test_empty_frame_is_bars(make):
    check_bars(make().iloc[:0].reset_index(drop=True))


def test_any_zone_and_resolution_become_utc_microseconds(make):
    bars = make()
    other = bars.assign(
        ts=bars.ts.dt.tz_convert("Asia/Tokyo").astype("datetime64[ns, Asia/Tokyo]"),
        volume=bars.volume.astype(int),
    )
    pd.testing.assert_frame_equal(as_bars(other.sample(frac=1, random_state=0)), bars)


@pytest.mark.parametrize(
    "spoil, says",
    [
        (lambda b: b.assign(symbol=None).astype({"symbol": "str"}), "without a missing `symbol`"),
        (lambda b: b.assign(timeframe="7m"), "whose `timeframe` is one of"),
        (lambda b: b.assign(known_at=b.ts), "known after they open"),
        (lambda b: b.set_index(b.index + 1), "indexed 0, 1, 2"),
        (lambda b: pd.concat([b, b.tail(1)], ignore_index=True), "one row a key"),
        (lambda b: b.assign(ts=b.ts.astype("datetime64[ns, UTC]")), "whose `ts` is datetime64"),
        (lambda b: b.assign(factor=1), "whose `factor` is float64"),
        (lambda b: b.drop(columns=["open", "close"]), "missing: open, close"),
        (lambda b: b.to_dict(), "a pandas DataFrame"),
    ],
)
def test_refused(make, spoil, says):
    with pytest.raises(DataError, match=says):
        check_bars(spoil(make()))


def test_symbols_out_of_order(make):
    bars = pd.concat([make("B"), make("A")], ignore_index=True)
    with pytest.raises(DataError, match="sorted by symbol"):
        check_bars(bars)
    check_bars(as_bars(bars))


@pytest.mark.parametrize("value", [2013, "2013", 2013.0, "soon", "2013-13-01", "2013-02", float("nan")])
def test_what_is_no_moment(value):
    with pytest.raises(DataError, match="`start` must be a date or a time"):
        moment(value, field="start")


@pytest.mark.parametrize(
    "value, end, at",
    [
        ("2013-03-01", False, "2013-03-01 00:00:00+00:00"),
        ("2013-03-01", True, "2013-03-01 23:59:59.999999+00:00"),
        (20130301, True, "2013-03-01 23:59:59.999999+00:00"),
        ("2013-03-01 00:00", True, "2013-03-01 00:00:00+00:00"),
        (pd.Timestamp("2013-03-01"), True, "2013-03-01 23:59:59.999999+00:00"),
        (np.datetime64("2013-03-01T10"), True, "2013-03-01 10:00:00+00:00"),
        (pd.Timestamp("2013-03-01 10:00", tz="America/New_York"), False, "2013-03-01 15:00:00+00:00"),
        (None, True, "None"),
        ("", False, "None"),
        (pd.NaT, False, "None"),
    ],
)
def test_moments(value, end, at):
    assert str(moment(value, end)) == at


def test_a_mark_is_a_text_and_never_missing(make):
    bars = as_bars(make().assign(repaired=None))
    assert check_bars(bars) is bars and (bars.repaired == "").all()
    with pytest.raises(DataError, match="`repaired` is str"):
        check_bars(bars.assign(repaired=1.0))
