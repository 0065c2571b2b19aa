import gzip
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.core.provenance import hash_file
from mlfin.market.actions import as_actions
from mlfin.market.bars import as_bars, check_bars
from mlfin.sources.read_result import QUARANTINE, ReadResult, quarantine_rows
from mlfin.sources.sources import (SOURCES, default_calendar, load_sources, read_bars, read_parts,
                                   register_source)

HEAD = "timestamp,open,high,low,close,volume\n"
ROW = "2022-01-01 00:0{}:00,100,102,99,101,5\n"
GOOD = HEAD + "".join(ROW.format(i) for i in range(5))


def minutes(path, **more):
    return read_bars(path, **{"symbol": "COIN", "timeframe": "1m", "tz": "UTC"} | more)


def test_real_minutes_are_exact(market):
    path = market / "nautilus" / "btc-perp-20211231-20220201_1m.csv"
    reading = minutes(path, symbol="BTCUSDT")
    assert len(reading.bars) == 45_031 and reading.quarantine.empty and list(reading.rows[:2]) == [0, 1]
    assert reading.bars.close.iloc[-1] == 38544.0 and str(reading.bars.ts[0]) == "2021-12-31 23:01:00+00:00"
    assert reading.content_hash == hash_file(path) and reading.origin == f"csv:{reading.content_hash[:12]}"
    assert (reading.bars.known_at - reading.bars.ts == pd.Timedelta(minutes=1)).all()
    check_bars(reading.bars)


def test_one_bad_field_changes_no_other_value(market, csv):
    text = (market / "nautilus" / "btc-perp-20211231-20220201_1m.csv").read_text()
    lines = text.splitlines(keepends=True)[:5000]
    lines[2500] = lines[2500].replace(",", ",x", 1)
    spoiled, whole = minutes(csv("".join(lines))), minutes(csv(text, "whole.csv"))
    expected = whole.bars.iloc[:4999].drop(index=2499).reset_index(drop=True)
    pd.testing.assert_frame_equal(spoiled.bars, expected, check_exact=True)
    assert list(spoiled.quarantine.row) == [2499] and spoiled.quarantine.reason[0] == "`open` is not a number"


@pytest.mark.parametrize(
    "text, name",
    [
        ("\ufeff" + GOOD, "bom.csv"),
        (GOOD.replace("\n", "\r\n"), "crlf.csv"),
        (GOOD.replace(",", ";"), "semicolon.csv"),
        (GOOD.replace(",", "\t"), "tabs.tsv"),
        (GOOD.replace(",", "|"), "bars.txt"),
        (GOOD.replace("\n", "\n\n"), "blank.csv"),
        (GOOD.rstrip("\n"), "noend.csv"),
        (GOOD.replace("timestamp", '"Open Time"').replace("close", "<CLOSE>"), "names.csv"),
        (GOOD.replace("timestamp,open,high,low,close,volume", "TIME,O,H,L,C,V"), "short.csv"),
        (GOOD.replace("timestamp", "date,time").replace(" 00:", ",00:"), "two.csv"),
        (GOOD.replace(":00,100", ":00Z,100"), "zulu.csv"),
        (GOOD.replace(" 00:", "T00:").replace(":00,100", ":00+00:00,100"), "offset.csv"),
        (gzip.compress(GOOD.encode()), "x.csv.gz"),
        (GOOD.replace("100,", '"100",'), "quoted.csv"),
    ],
)
def test_dialects(csv, text, name):
    reading = minutes(csv(text, name))
    pd.testing.assert_frame_equal(reading.bars, minutes(csv(GOOD, "plain.csv")).bars)
    assert reading.quarantine.empty


@pytest.mark.parametrize("scale", [1, 10**3, 10**6, 10**9])
def test_epochs(csv, scale):
    stamps = [1640995200 * scale + 60 * scale * i for i in range(3)]
    reading = minutes(csv(HEAD + "".join(f"{t},1,1,1,1,1\n" for t in stamps)), tz=None)
    assert list(reading.bars.ts.dt.strftime("%Y-%m-%d %H:%M")) == [
        "2022-01-01 00:00",
        "2022-01-01 00:01",
        "2022-01-01 00:02",
    ]


def test_offsets_of_both_seasons_in_one_column(csv):
    reading = read_bars(
        csv(HEAD + "2022-03-11 09:30:00-05:00,1,1,1,1,1\n2022-03-14 09:30:00-04:00,1,1,1,1,1\n"),
        "A",
        calendar="XNYS",
    )
    assert list(reading.bars.ts.dt.hour) == [14, 13]


@pytest.mark.parametrize("offset", ["+00", "+0000", "+00:00", "Z", ".5+00", " +00:00"])
def test_ways_to_write_an_offset(csv, offset):
    reading = minutes(csv(GOOD.replace(":00,100", f":00{offset},100")), tz="Asia/Tokyo")
    assert list(reading.bars.ts.dt.hour) == [0] * 5


@pytest.mark.parametrize("value", [2012, "2012", "2012-11", 2012.5, True, "11/2012"])
@pytest.mark.parametrize("field", ["start", "end"])
def test_a_year_is_no_border(field, value):
    with pytest.raises(
        DataError, match=f"`{field}` must be a date or a time"
    ):  # 2012 was read as 2012 ns after 1970
        read_bars("builtin", symbols=["IBM"], **{field: value})


def test_borders(csv):
    assert len(minutes(csv(GOOD), start=20220101, end="2022-01-01").bars) == 5
    assert len(minutes(csv(GOOD), start="2022/1/1", end="2022-01-01 00:00").bars) == 1
    assert (
        len(
            minutes(
                csv(GOOD), start=pd.Timestamp("2022-01-01", tz="UTC"), end=pd.Timestamp("2022-01-01")
            ).bars
        )
        == 5
    )


def test_clock_of_new_york(csv):
    text = (
        HEAD
        + "2021-11-07 00:30,1,1,1,1,1\n2021-11-07 01:30,1,1,1,1,1\n2021-11-07 02:30,1,1,1,1,1\n"
          "2022-03-13 02:30,1,1,1,1,1\n")
    reading = minutes(csv(text), timeframe="1h", tz="America/New_York")
    assert list(reading.bars.ts.dt.hour) == [4, 7] and list(reading.quarantine.row) == [1, 3]
    assert reading.quarantine.ts.isna().all()


def test_dates_name_sessions(csv):
    text = (
        "Date,Open,High,Low,Close,Volume\n2012-11-21,1,1,1,1,1\n2012-11-22,1,1,1,1,1\n2012-11-23,1,1,1,1,1\n"
    )
    for body, tz in (
        (text, None),
        (text, "UTC"),
        (text.replace(",1,1,1,1,1", "T00:00:00Z,1,1,1,1,1"), None),
        (text.replace("-", ""), None),
        (text, "America/New_York"),  # a date is no moment: no zone moves it to the day before
        (text, "Asia/Tokyo"),
        (text.replace(",1,1,1,1,1", " 00:00:00-05:00,1,1,1,1,1"), "America/New_York"),
        (text.replace(",1,1,1,1,1", " 09:30:00-05,1,1,1,1,1"), None),
    ):
        reading = read_bars(csv(body), "A", calendar="XNYS", tz=tz)
        assert list(reading.bars.known_at.dt.strftime("%d %H:%M")) == ["21 21:00", "23 18:00"]
        assert reading.quarantine.reason[0] == "no session of XNYS on that date"
    with pytest.raises(DataError, match="ambiguous"):
        read_bars(csv(text), "A")  # a 24/7 day without a zone


def test_several_symbols_in_one_file(csv):
    body = "symbol,timestamp,open,high,low,close,volume\n" + "".join(
        f"{s},2022-01-01 00:0{i},1,1,1,1,1\n" for i in range(3) for s in ("B", "A")
    )
    reading = read_bars(csv(body), timeframe="1m", tz="UTC")
    assert list(reading.bars.symbol) == ["B", "A"] * 3  # the source's order
    only = read_bars(
        csv(body), symbols=["A"], timeframe="1m", tz="UTC", start="2022-01-01 00:01", end="2022-01-01 00:01"
    )
    assert list(only.bars.symbol) == ["A"] and list(only.rows) == [3]
    with pytest.raises(DataError, match="`symbol` must be a known name, got 'C'"):
        read_bars(csv(body), symbols=["A", "C"], timeframe="1m", tz="UTC")


@pytest.mark.parametrize("field", ["n/a", "1,5", "--", "1e", "0x10", "1_000", "NULL"])
def test_text_in_a_price(csv, field):
    text = HEAD + ROW.format(0) + f'2022-01-01 00:01:00,100,102,99,"{field}",5\n' + ROW.format(2)
    reading = minutes(csv(text))
    assert len(reading.bars) == 2 and list(reading.quarantine.columns) == list(QUARANTINE)
    row = reading.quarantine.iloc[0]
    assert (
        row.row == 1
        and row.reason == "`close` is not a number"
        and json.loads(row.raw)["close"] == field
        and row.symbol == "COIN"
    )


@pytest.mark.parametrize(
    "bad, reason",
    [
        ("2022-01-01 00:01:00,100,102,99,,5\n", "`close` is missing"),
        ("2022-01-01 00:01:00,100,102,99,nan,5\n", "`close` is missing"),
        ("2022-01-01 00:01:00,100,102,99,101,\n", "`volume` is missing"),
        ("2022-13-01 00:01:00,100,102,99,101,5\n", "time cannot be read"),
        (",100,102,99,101,5\n", "time cannot be read"),
        ("2022-01-01 00:01:00,100\n", "2 fields where the header has 6"),
        ("2022-01-01 00:01:00,100,102,99,101,5,9\n", "7 fields where the header has 6"),
    ],
)
def test_rows_that_are_no_bars(csv, bad, reason):
    reading = minutes(csv(HEAD + ROW.format(0) + bad + ROW.format(2) + ROW.format(3)))
    assert list(reading.rows) == [0, 2, 3] and list(reading.quarantine.row) == [1]
    assert reason in reading.quarantine.reason[0] and reading.quarantine.raw[0]


def test_infinity_is_read_and_left_to_clean(csv):
    assert np.isinf(minutes(csv(GOOD.replace("102", "inf", 1))).bars.high[0])


@pytest.mark.parametrize(
    "text, more, says",
    [
        ("", {}, "x.csv is empty"),
        ("\n \n", {}, "x.csv is empty"),
        (HEAD, {}, "a header and no rows"),
        ("a,b\n1,2\n", {}, "missing: ts, open"),
        (GOOD.replace("close", "price"), {}, "missing: close"),
        (GOOD.split("\n", 1)[1], {}, "A header row"),
        (HEAD + "x,y,z,a,b,c\n", {}, "no usable row"),
        (GOOD, {"tz": None}, "ambiguous"),
        (GOOD, {"tz": "Mars/Base"}, "`tz` must be a time zone"),
        (GOOD, {"timeframe": "1M"}, "`timeframe` must be"),
        (GOOD, {"timeframe": "1d"}, "bars stand 0 days 00:01:00 apart"),
        (GOOD, {"symbol": None, "symbols": ["A", "B", "C"]}, "`symbols` must be one symbol"),
        (GOOD, {"symbol": None, "symbols": ["A", "B"]}, "`symbols` must be one symbol"),
        (GOOD, {"symbol": 7}, "`symbols` must be names"),
        (GOOD, {"start": "2022-02-30"}, "`start` must be a date"),
        (GOOD, {"start": "2022-02-01", "end": "2022-01-01"}, "`end` must be at or after"),
        (GOOD, {"calendar": "XNYX", "timeframe": "1m"}, "`calendar` must be"),
    ],
)
def test_one_clear_error(csv, text, more, says):
    with pytest.raises(DataError, match=says):
        minutes(csv(text), **more)


def test_files_that_are_not_there_or_cut_off(csv, tmp_path):
    for path, says in (
        (tmp_path / "no.csv", "a file that exists"),
        (csv(gzip.compress(GOOD.encode())[:-9], "cut.csv.gz"), "no complete gzip"),
        (csv(GOOD, "x.csv.gz"), "no complete gzip"),
        (csv(GOOD, "x.parquet"), "not a readable Parquet"),
        (csv(GOOD, "x.doc"), "a file ending in"),
    ):
        with pytest.raises(DataError, match=says):
            minutes(path)
    for uri, says in (("bulitin", "did you mean `builtin`"), ("builtin:x", "must be empty for the built-in")):
        with pytest.raises(DataError, match=says):
            read_bars(uri)
    with pytest.raises(DataError, match="1d for the built-in set"):
        read_bars("builtin", timeframe="1h")


def test_parquet_says_the_same_as_csv(csv, tmp_path):
    frame = pd.read_csv(csv(GOOD))
    frame.to_parquet(tmp_path / "text.parquet")
    frame.assign(timestamp=pd.to_datetime(frame.timestamp)).to_parquet(tmp_path / "naive.parquet")
    frame.assign(timestamp=pd.to_datetime(frame.timestamp, utc=True)).set_index("timestamp").to_parquet(
        tmp_path / "index.parquet"
    )
    frame.assign(
        timestamp=pd.to_datetime(frame.timestamp).astype("datetime64[ms]").astype("int64")
    ).to_parquet(tmp_path / "epoch.parquet")
    for name in ("text", "naive", "index", "epoch"):
        pd.testing.assert_frame_equal(minutes(tmp_path / f"{name}.parquet").bars, minutes(csv(GOOD)).bars)
    frame.iloc[:0].to_parquet(tmp_path / "none.parquet")
    with pytest.raises(DataError, match="columns and no rows"):
        minutes(tmp_path / "none.parquet")


def test_builtin(builtin):
    bars, adjusted, reading = builtin
    assert bars.symbol.value_counts().sort_index().to_dict() == {
        "AAPL": 3270,
        "FB": 196,
        "GOOG": 2148,
        "IBM": 3270,
        "MSFT": 3270,
    }
    assert (
        reading.quarantine.empty
        and reading.origin == "builtin"
        and len(adjusted) == len(bars)
        and (adjusted > 0).all()
    )
    first = bars.iloc[0]
    assert (str(first.ts), str(first.known_at)) == ("2000-03-01 14:30:00+00:00", "2000-03-01 21:00:00+00:00")
    assert (first.open, first.high, first.low, first.close, first.volume) == (
        118.56,
        132.06,
        118.5,
        130.31,
        9616100,
    )
    assert len(read_bars("builtin", symbols=["FB", "FB"], end="2012-05-18").bars) == 1


def test_builtin_is_the_published_figures(builtin, market):
    bars, adjusted, _ = builtin
    theirs = pd.read_csv(market / "pypi_bokeh_sampledata" / "stocks.csv.gz").sort_values(
        ["Ticker", "Date"], ignore_index=True
    )
    for ours, name in (
        ("open", "Open"),
        ("high", "High"),
        ("low", "Low"),
        ("close", "Close"),
        ("volume", "Volume"),
    ):
        assert (bars[ours] == theirs[name]).all()
    assert (adjusted == theirs["Adj Close"]).all() and (bars.ts.dt.strftime("%Y-%m-%d") == theirs.Date).all()


def test_every_row_is_a_bar_or_in_quarantine(csv):
    rng = np.random.default_rng(0)
    fields = np.array(["1", "2.5", "", "x", "-1", "nan", "2022-01-01", "inf", "1;2"])
    for _ in range(30):
        rows = [[f"2022-01-01 00:{i:02}:00", *rng.choice(fields, 5)] for i in range(20)]
        for i in rng.choice(20, 3, replace=False):
            rows[i] = rows[i][: rng.integers(1, 6)]
        path = csv(HEAD + ROW.format(0).replace("2022", "2021") + "".join(",".join(r) + "\n" for r in rows))
        reading = minutes(path)
        assert sorted([*reading.rows, *reading.quarantine.row]) == list(range(21))
        assert (reading.quarantine.reason != "").all() and as_bars(reading.bars) is not None


def pages(path, symbols, timeframe, tz, calendar, *, start, end, limit):
    """A source of two pages that says what it was asked."""
    first = pd.Timestamp("2024-01-01", tz="UTC")
    for number in range(2):
        ts = pd.date_range("2024-01-01", periods=2, tz="UTC", unit="us") + pd.Timedelta(days=2 * number)
        frame = {
            "symbol": symbols[0],
            "timeframe": timeframe,
            "ts": ts,
            "known_at": ts + pd.Timedelta(days=1),
        }
        bars = as_bars(
            pd.DataFrame(
                {**frame, **dict.fromkeys(["open", "high", "low", "close", "volume"], float(number))}
            )
        )
        aside = quarantine_rows(
            "pages", [2 * number], [symbols[0]], [ts[0]], ["torn"], [{"start": str(start), "limit": limit}]
        )
        actions = as_actions([(symbols[0], first, "split", 2.0, first, "pages")])
        rows = np.arange(2) + 2 * number
        yield ReadResult(
            bars,
            rows,
            aside,
            f"pages:{number}",
            str(number) * 64,
            None,
            ("a note",),
            ((f"pages:{number}", 2 * number),),
            until=ts[-1],
            actions=actions,
        )


@pytest.fixture
def paged():
    register_source("pages", None, calendar=lambda path: path or "24/7", parts=pages)
    yield
    del SOURCES["pages"]


def test_a_source_of_parts_is_put_together(paged):
    whole = read_bars("pages:", symbol="A", start="2024-01-01", end="2024-01-03")
    assert list(whole.rows) == [0, 1, 2] and list(whole.bars.close) == [0.0, 0.0, 1.0]
    assert [p[0] for p in whole.parts] == ["pages:0", "pages:1"] and whole.origin.startswith("pages:")
    assert whole.until == pd.Timestamp("2024-01-04", tz="UTC") and whole.notes == ("a note",)
    assert len(whole.actions) == 1 and len(whole.quarantine) == 2
    assert json.loads(whole.quarantine.raw[0])["start"] == "2024-01-01 00:00:00+00:00"


def test_parts_are_told_the_limit(paged):
    parts = list(read_parts("pages:", limit=4096, symbol="A"))
    assert [len(p.bars) for p in parts] == [2, 2]
    assert json.loads(parts[0].quarantine.raw[0]) == {"start": "None", "limit": 4096}


def test_a_source_without_parts_comes_as_one():
    parts = list(read_parts("builtin", symbols=["AAPL"], start="2000-06-19", end="2000-06-22"))
    assert [len(p.bars) for p in parts] == [4]
    with pytest.raises(DataError, match="did you mean `AAPL`"):
        list(read_parts("builtin", symbols=["APPL"]))


@pytest.mark.parametrize("limit", [0, -1, 2.5, True, "1"])
def test_a_limit_is_a_count_of_bytes(limit):
    with pytest.raises(DataError, match="`limit` must be bytes"):
        list(read_parts("builtin", limit=limit))


def test_parts_take_no_word_that_the_source_does_not_know():
    with pytest.raises(DataError, match="`timefram` must be left out"):
        list(read_parts("builtin", timefram="1d"))


def test_auto_may_depend_on_the_path(paged):
    assert default_calendar("pages", "XNYS") == "XNYS" and default_calendar("pages") == "24/7"


def test_a_source_needs_a_reader_or_parts():
    with pytest.raises(DataError, match="`reader` must be"):
        register_source("nothing", None)


def test_all_sources_are_listed(monkeypatch):
    monkeypatch.setitem(SOURCES, "mine", lambda path, symbols, timeframe, tz, calendar: path)
    assert "mine" in load_sources() and set(SOURCES) == set(load_sources())


REGISTRIES = """
import importlib, pkgutil
import mlfin
from mlfin.facts.fact_sources import FACT_SOURCES, load_facts
from mlfin.features.spec import load_features
from mlfin.sources.sources import SOURCES, load_sources
loaded = set(load_sources()), set(load_facts()), set(load_features())
for module in pkgutil.walk_packages(mlfin.__path__, "mlfin."):
    if not module.name.endswith("__main__"): importlib.import_module(module.name)
assert loaded == (set(SOURCES), set(FACT_SOURCES), set(load_features())), "registered where no loader looks"
print(*loaded[0])
"""


def test_loaders_find_all_that_the_package_registers():
    """In a process that has imported nothing else, as a service's: `store` was missing there once."""
    done = subprocess.run([sys.executable, "-c", REGISTRIES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"builtin", "store", "ccxt", "yahoo", "sql", "rest", "mongodb"} <= set(done.stdout.split())
