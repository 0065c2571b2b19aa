"""Dialects, packing, kept bytes, panels, two sides of a quote: what a file may be, and what it may not."""

import gzip
import hashlib
import io
import json
import os
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mlfin.core.errors import DataError
from mlfin.files.raw_files import file_format, find_files, keep_raw, raw_file
from mlfin.sources.sources import read_bars
from mlfin.store.store import export_frame

HEAD = "timestamp,open,high,low,close,volume\n"
GOOD = HEAD + "".join(f"2022-01-01 00:0{i}:00,100,102,99,101,5\n" for i in range(6))
MT5 = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\r\n" + "".join(
    f"2022.01.01\t00:0{i}:00\t100\t102\t99\t101\t5\t0\t7\r\n" for i in range(6)
)
KLINES = "".join(
    f"{1640995200000 + 60000 * i},100,102,99,101,5,{1640995259999 + 60000 * i},500,9,2,200,0\n"
    for i in range(6)
)
ROWS = [[1640995200000 + 60000 * i, 100, 102, 99, 101, 5] for i in range(6)]
NAMES = ["timestamp", "open", "high", "low", "close", "volume"]


def minutes(path, **more):
    return read_bars(path, **{"symbol": "COIN", "timeframe": "1m", "tz": "UTC"} | more)


def zipped(**members):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("_", "."), text)
    return held.getvalue()


@pytest.mark.parametrize(
    "data, name",
    [
        (MT5, "mt5.csv"),
        (MT5.encode("utf-16"), "mt5.csv"),
        (KLINES, "klines.csv"),
        (GOOD.replace(",", ";").replace("2022-01-01", "01.01.2022"), "day.first.csv"),
        (GOOD.replace("2022-01-01", "2022/1/1"), "slashes.csv"),
        (GOOD.replace("101,5", "101,5,3").replace("volume", "volume,"), "trailing.csv"),
        (GOOD.replace("101,5", "101,5,3"), "shorter_header.csv"),
        (GOOD.replace("101,5", "101,5,"), "empty_last.csv"),
        ("\n\n" + GOOD, "blank_first.csv"),
        (GOOD.replace("timestamp", "timestamp_utc"), "utc.csv"),
        (
            GOOD.replace("100,", '"100,0",')
            .replace("101,5", '"101,0","5"')
            .replace("102,99", '"102,0","99,0"'),
            "comma.csv",
        ),
        (
            GOOD.replace(",", ";")
            .replace("100;", "100,00;")
            .replace("101;", "101,0;")
            .replace("99;", "99,00;"),
            "comma2.csv",
        ),
        (gzip.compress(GOOD.encode()), "x.csv.gz"),
        (pa.Codec("zstd").compress(GOOD.encode()).to_pybytes(), "x.csv.zst"),
        (zipped(a_csv=GOOD), "x.zip"),
        (json.dumps([dict(zip(NAMES, r, strict=True)) for r in ROWS]), "records.json"),
        (json.dumps({n: [r[i] for r in ROWS] for i, n in enumerate(NAMES)}), "columns.json"),
        (
            json.dumps({n: {str(k): r[i] for k, r in enumerate(ROWS)} for i, n in enumerate(NAMES)}),
            "pandas.json",
        ),
        (json.dumps({"columns": NAMES, "index": list(range(6)), "data": ROWS}), "split.json"),
        (json.dumps({"status": "ok", "result": ROWS}), "wrapped.json"),
        (json.dumps(ROWS), "arrays.json"),
        (json.dumps([[*r, r[0] + 59999, "500", 9, "2", "200", "0"] for r in ROWS]), "klines.json"),
        (json.dumps([[r[0], *map(str, r[1:])] for r in ROWS]), "strings.json"),
        ("\n".join(json.dumps(dict(zip("tohlcv", r, strict=True))) for r in ROWS), "lines.jsonl"),
    ],
    ids=lambda v: v if isinstance(v, str) and len(v) < 30 else "",
)
def test_every_dialect_says_the_same(csv, data, name):
    reading, plain = minutes(csv(data, name)), minutes(csv(GOOD, "plain.csv")).bars
    assert reading.quarantine.empty
    pd.testing.assert_frame_equal(reading.bars[plain.columns], plain)


def test_what_has_no_name_or_no_volume_is_noted(csv):
    whole = "the spread and the prices are whole numbers: a point is 1"
    assert minutes(csv(MT5, "m.csv")).notes == ("VOL is 0 throughout; the volume is TICKVOL", whole)
    assert (minutes(csv(MT5, "m.csv")).bars.spread == 7).all()
    real = minutes(csv(MT5.replace("\t5\t0\t", "\t5\t3\t"), "m.csv"))
    assert (real.bars.volume == 3).all() and real.notes == (whole,)
    extra = minutes(csv(GOOD.replace("101,5", "101,5,3"), "s.csv"))
    assert (extra.bars.spread == 3).all() and "7th column" in extra.notes[0]
    less = minutes(csv(GOOD.replace(",volume", "").replace("101,5", "101"), "v.csv"))
    assert (less.bars.volume == 0).all() and less.notes == ("no volume column: the volume is 0",)
    empty = minutes(csv(GOOD.replace("101,5", "101,"), "v.csv"))
    assert (empty.bars.volume == 0).all() and empty.notes == ("the volume column is empty: the volume is 0",)


@pytest.mark.parametrize(
    "fields, decimal, closes",
    [
        (["1.234,5", "987,25"], None, [1234.5, 987.25]),
        (["1,234.5", "987.25"], None, [1234.5, 987.25]),
        (["1.234.567,5", "1.234"], None, [1234567.5, 1234]),
        (["0,123", "0,124"], None, [0.123, 0.124]),
        (["1,234", "2,345"], ",", [1.234, 2.345]),
        (["1,234", "2,345"], ".", [1234, 2345]),
        (["-1,5", "+2,5"], None, [-1.5, 2.5]),
        (["1e3", "1.5E-2"], None, [1000, 0.015]),
        (["1,234.5", "x", "7"], None, [1234.5, 7]),
    ],
)
def test_decimal_signs(csv, fields, decimal, closes):
    text = "timestamp;open;high;low;close;volume\n" + "".join(
        f"2022-01-01 00:0{i};{f};{f};{f};{f};5\n" for i, f in enumerate(fields)
    )
    assert list(minutes(csv(text), decimal=decimal).bars.close) == closes


def test_numbers_that_read_both_ways_are_refused(csv):
    text = "timestamp;open;high;low;close;volume\n2022-01-01 00:00;1,234;1,234;1,234;1,234;5\n"
    with pytest.raises(DataError, match="`decimal` must be given"):
        minutes(csv(text))
    with pytest.raises(DataError, match="`decimal` must be '.' or ','"):
        minutes(csv(text), decimal=";")


def test_a_stray_comma_changes_no_other_row(csv):
    reading = minutes(csv(GOOD.replace("101,5", '"1,5",5', 1)))
    assert list(reading.quarantine.row) == [0] and (reading.bars.close == 101).all()
    assert len(reading.bars) == 5


@pytest.mark.parametrize(
    "stamps, dayfirst, months",
    [
        (["13/02/2022", "01/03/2022"], None, [2, 3]),
        (["02/13/2022", "03/01/2022"], None, [2, 3]),
        (["01/02/2022", "02/02/2022"], True, [2, 2]),
        (["01/02/2022", "02/02/2022"], False, [1, 2]),
        (["1.2.2022", "2.2.2022"], None, [2, 2]),
        (["1-2-2022", "20-2-2022"], None, [2, 2]),
        (["2022.2.1", "2022/2/2"], None, [2, 2]),
        (["20220201", "20220202"], None, [2, 2]),
    ],
)
def test_orders_of_dates(csv, stamps, dayfirst, months):
    reading = read_bars(
        csv(HEAD + "".join(f"{s},1,1,1,1,1\n" for s in stamps)), "A", tz="UTC", dayfirst=dayfirst
    )
    assert list(reading.bars.ts.dt.month) == months and reading.quarantine.empty


@pytest.mark.parametrize("stamps", [["01/02/2022", "03/04/2022"], ["13/02/2022", "02/13/2022"]])
def test_an_order_that_cannot_be_told_is_refused(csv, stamps):
    with pytest.raises(DataError, match="`dayfirst` must be given"):
        read_bars(csv(HEAD + "".join(f"{s},1,1,1,1,1\n" for s in stamps)), "A", tz="UTC")


@pytest.mark.parametrize(
    "stamp, reason",
    [
        ("2565-01-03", "Buddhist era"),
        ("25650103", "Buddhist era"),
        ("03/01/22", "two digits"),
        ("22-01-03", "two digits"),
        ("03.01.22 09:00", "two digits"),
        ("2199-01-01", "in the future"),
        ("2022-02-30", "cannot be read"),
        ("Jan 3", "cannot be read"),
        ("", "cannot be read"),
    ],
)
@pytest.mark.parametrize("calendar", ["24/7", "XNYS"])
def test_times_that_are_set_aside(csv, stamp, reason, calendar):
    good = (
        "20220104,1,1,1,1,1\n20220105,1,1,1,1,1\n"
        if stamp == "25650103"
        else "2022-01-04,1,1,1,1,1\n2022-01-05,1,1,1,1,1\n"
    )
    reading = read_bars(csv(HEAD + f"{stamp},1,1,1,1,1\n" + good), "A", tz="UTC", calendar=calendar)
    assert len(reading.bars) == 2 and list(reading.quarantine.row) == [0]
    assert reason in reading.quarantine.reason[0]
    assert stamp in reading.quarantine.raw[0] or stamp[:4] in reading.quarantine.raw[0]


def test_a_bar_still_forming_is_no_bar(csv):
    now = pd.Timestamp.now("UTC").floor("min")
    stamps = [now - pd.Timedelta(minutes=i) for i in (3, 2, 0, -3)]
    reading = minutes(csv(HEAD + "".join(f"{s.isoformat()},1,1,1,1,1\n" for s in stamps)))
    assert list(reading.rows) == [0, 1]
    assert list(reading.quarantine.reason) == [
        "the bar was still forming when it was read",
        "the time lies in the future",
    ]


def test_a_bar_still_forming_that_is_stamped_by_its_close_is_no_bar(csv, monkeypatch):
    now = pd.Timestamp("2024-05-01 12:00:30Z")
    monkeypatch.setattr(pd.Timestamp, "now", classmethod(lambda cls, tz=None: now))
    stamps = [now.ceil("min") + pd.Timedelta(minutes=i) for i in (-3, -2, 0, 3)]
    reading = minutes(csv(HEAD + "".join(f"{s.isoformat()},1,1,1,1,1\n" for s in stamps)), stamp="close")
    assert list(reading.rows) == [0, 1]
    assert list(reading.quarantine.reason) == [
        "the bar was still forming when it was read",
        "the time lies in the future",
    ]


def test_offsets_and_plain_times_in_one_column(csv):
    text = (
        HEAD + "2022-01-01 00:00+01:00,1,1,1,1,1\n2022-01-01 00:00,1,1,1,1,1\n2022-01-01T00:01Z,1,1,1,1,1\n"
    )
    assert list(minutes(csv(text)).bars.ts.dt.strftime("%d %H:%M")) == ["31 23:00", "01 00:00", "01 00:01"]
    with pytest.raises(DataError, match="ambiguous"):
        minutes(csv(text), tz=None)


@pytest.mark.parametrize(
    "data, name, says",
    [
        (b"", "x.feather", "x.feather is empty: it has 0 bytes"),
        (b"", "x.csv", "0 bytes"),
        ("[]", "x.json", "holds no rows"),
        ("{}", "x.json", "holds no rows"),
        ("null", "x.json", "holds no rows"),
        ('{"error": "limit"}', "x.json", "columns that do not fit"),
        (json.dumps(ROWS)[:-9], "x.json", "not readable JSON"),
        ("[1, 2]", "x.json", "JSON of bars"),
        ("[[1, 2, 3]]", "x.json", "its rows have 3 values"),
        ('[{"open": 1}]', "x.json", "missing: ts, high"),
        (HEAD, "x.csv", "a header and no rows"),
        (gzip.compress(GOOD.encode())[:-5], "x.csv.gz", "no complete gzip"),
        (gzip.compress(GOOD.encode())[:-9] + b"\0" * 9, "x.csv.gz", "no complete gzip"),
        (pa.Codec("zstd").compress(GOOD.encode()).to_pybytes()[:-5], "x.csv.zst", "no complete Zstandard"),
        (zipped(a_csv=GOOD)[:-30], "x.zip", "no complete zip"),
        (zipped(a_csv=GOOD, b_csv=GOOD), "x.zip", r"x.zip#a.csv, one of a.csv, b.csv"),
        (zipped(a_doc=GOOD), "x.zip", "files ending in"),
        ("PAR1", "x.feather", "not a readable Feather"),
        (GOOD.split("\n", 1)[1], "x.csv", r"columns=\[...\]"),
        (GOOD.replace("101,5", "101,5,1,1"), "x.csv", "`columns` must be 8 names"),
        (GOOD.replace("101,5", "101,5,x"), "x.csv", "`columns` must be 7 names"),
        (GOOD, "coin-4h.csv", "its bars stand 0 days 00:01:00 apart, got '4h'"),
        (GOOD, "coin_D1.csv", "got 'D1'"),
        (GOOD, "coin daily.csv", "got 'daily'"),
        (
            GOOD.replace(":00,100", ":17,100")
            .replace("00:00:17", "00:00:53")
            .replace("00:02:17", "00:02:41"),
            "t.csv",
            None,
        ),
    ],
)
def test_one_clear_error_that_names_the_file(csv, data, name, says):
    if says is None:
        text = HEAD + "".join(f"2022-01-01 00:{i * 3:02}:{(i * 23) % 60:02},1,1,1,1,1\n" for i in range(9))
        data, says = text, "times between the minutes"
    with pytest.raises(DataError, match=says) as caught:
        minutes(csv(data, name))
    assert (name in str(caught.value) or "a.doc" in str(caught.value)) and "Hint: " in str(caught.value)


def test_names_that_fit_their_content(csv):
    for name in (
        "coin-1m.csv",
        "COIN_M1_0-10k.csv",
        "coin 1min.csv",
        "US30m.csv",
        "x-90-100k.csv",
        "1398-HK.csv",
        "a-5m-1h.csv",
    ):
        assert len(minutes(csv(GOOD, name)).bars) == 6
    assert len(minutes(csv(GOOD, "coin-4h.csv"), check_name=False).bars) == 6


def test_headerless_files_by_columns(csv):
    body = GOOD.split("\n", 1)[1]
    assert minutes(csv(body), columns=NAMES).bars.equals(minutes(csv(GOOD)).bars)
    swapped = minutes(
        csv(GOOD.replace("close", "price").replace("open", "first")),
        columns={"price": "close", "first": "open"},
    )
    assert swapped.bars.equals(minutes(csv(GOOD)).bars)
    for columns, says in ((NAMES[:5], "6 names"), ({"nothing": "close"}, "names in the file")):
        with pytest.raises(DataError, match=says):
            minutes(csv(GOOD), columns=columns)
    with pytest.raises(DataError, match="`columns` must be left out for the source builtin"):
        read_bars("builtin", columns=NAMES)


def test_json_rows_of_another_kind_are_set_aside(csv):
    rows = [*ROWS[:2], [1], "x", [ROWS[2][0], 1, 1, 1, None, 1], [ROWS[3][0], 1, True, 1, {}, 1], *ROWS[4:]]
    reading = minutes(csv(json.dumps(rows), "x.json"))
    assert list(reading.rows) == [0, 1, 6, 7] and list(reading.quarantine.row) == [2, 3, 4, 5]
    assert list(reading.quarantine.reason) == [
        "1 fields where the header has 6",
        "1 fields where the header has 6",
        "`close` is missing",
        "`high` is not a number",
    ]
    odd = json.dumps(ROWS).replace("102", "NaN", 1).replace("102", "Infinity", 1)
    reading = minutes(csv(odd, "x.json"))
    assert list(reading.quarantine.reason) == ["`high` is missing"] and np.isinf(reading.bars.high[0])


def test_panels(tmp_path):
    for symbol in ("AAA", "BBB"):
        (tmp_path / symbol).mkdir()
        for day, ending in (("01", "csv"), ("02", "csv.gz")):
            text = (
                GOOD.replace("2022-01-01", f"2022-01-{day}")
                .replace("101,5", f"101,{ord(symbol[0])}")
                .encode()
            )
            path = tmp_path / symbol / f"{symbol}-{day}.{ending}"
            path.write_bytes(gzip.compress(text) if ending == "csv.gz" else text)
    (tmp_path / "AAA" / "notes.md").write_text("not data")
    how = {"timeframe": "1m", "tz": "UTC"}
    panel = read_bars(tmp_path / "*" / "*.csv*", symbol_from="folder", **how)
    assert panel.bars.groupby("symbol").size().to_dict() == {"AAA": 12, "BBB": 12}
    assert list(panel.rows) == list(range(24)) and [start for _, start in panel.parts] == [0, 6, 12, 18]
    assert panel.origin.startswith("files:") and panel.content_hash[:12] == panel.origin[6:]
    one = read_bars(tmp_path / "AAA", symbol_from=r"(\w+)-\d\d", **how)
    assert set(one.bars.symbol) == {"AAA"} and len(one.bars) == 12
    assert set(read_bars(f"csv:{tmp_path / 'AAA'}", **how).bars.symbol) == {"AAA-01", "AAA-02"}
    assert set(
        read_bars(tmp_path / "*" / "*.csv*", symbols=["BBB"], symbol_from="folder", **how).bars.symbol
    ) == {"BBB"}
    assert read_bars(tmp_path / "*" / "*.csv*", symbol_from="folder", **how).bars.equals(panel.bars)
    assert set(read_bars(tmp_path / "AAA" / "AAA-0[1].csv", **how).bars.symbol) == {
        "AAA-01"
    }  # a pattern of one is a panel too
    for place, more, says in (
        ("AAA", {"symbol_from": "AAA"}, "regular expression with one group"),
        ("AAA", {"symbol_from": r"X(\w+)"}, "a pattern that finds a symbol in AAA-01"),
        ("AAA", {"symbol_from": "("}, "regular expression with one group"),
        ("*.parquet", {}, "a pattern that some file fits"),
        (".", {}, "a folder that holds files of bars"),
    ):
        with pytest.raises(DataError, match=says):
            read_bars(tmp_path / place if place != "." else str(tmp_path), **how, **more)
    (tmp_path / "AAA" / "AAA-03.csv").write_text("")
    with pytest.raises(DataError, match="AAA-03.csv is empty"):
        read_bars(tmp_path / "AAA", **how)


def test_quarantine_of_a_panel_names_each_file(tmp_path):
    (tmp_path / "A.csv").write_text(GOOD.replace("102", "x", 1))
    (tmp_path / "B.csv").write_text(GOOD.replace("99", "y", 1))
    panel = read_bars(tmp_path, timeframe="1m", tz="UTC")
    assert list(panel.quarantine.symbol) == ["A", "B"] and list(panel.quarantine.row) == [0, 0]
    assert list(panel.quarantine.origin) == [origin for origin, _ in panel.parts]
    assert list(panel.rows) == [1, 2, 3, 4, 5, 7, 8, 9, 10, 11]


def test_bytes_are_kept_once_and_found(tmp_path, csv):
    raw = tmp_path / "raw"
    path = csv(GOOD.replace("102", "x", 1), "evil..name.csv")
    reading = minutes(path, raw=raw)
    kept = raw_file(reading.quarantine.origin[0], raw)
    assert kept.read_bytes() == path.read_bytes() and kept.name == f"{reading.content_hash}.csv"
    again = csv(path.read_bytes(), "other.txt")
    assert keep_raw(again, raw) == reading.content_hash
    assert len([p for p in raw.rglob("*") if p.is_file()]) == 1
    assert minutes(kept).bars.equals(reading.bars)
    packed = csv(gzip.compress(GOOD.encode())[:-9], "cut.csv.gz")
    with pytest.raises(DataError):
        minutes(packed, raw=raw)  # what could not be read is kept too
    assert raw_file(keep_raw(packed, raw), raw).read_bytes() == packed.read_bytes()
    for content, says in (("csv:ffffffffffff", "0 files"), ("../../etc", "0 files"), ("", "0 files")):
        with pytest.raises(DataError, match=says):
            raw_file(content, raw)
    with pytest.raises(DataError, match="a file that exists"):
        keep_raw(tmp_path, raw)


def test_keeping_is_atomic(tmp_path, csv, monkeypatch):
    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises((DataError, OSError)):
        keep_raw(csv(GOOD), tmp_path / "raw")
    assert [p for p in (tmp_path / "raw").rglob("*") if p.is_file()] == []


def test_no_symbol_leaves_its_folder(tmp_path, csv):
    evil = (
        "symbol,"
        + HEAD
        + "".join(
            f"{s},2022-01-01 00:00:00,1,1,1,1,1\n" for s in ("../../up", "A/B", "/etc/x", "..", "C:\\x")
        )
    )
    before = sorted(p for p in tmp_path.rglob("*"))
    reading = read_bars(csv(evil), timeframe="1m", tz="UTC", raw=tmp_path / "raw")
    assert sorted(reading.bars.symbol) == sorted(["../../up", "A/B", "/etc/x", "..", "C:\\x"])
    new = sorted(
        p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p not in before and p.is_file()
    )
    assert new == [f"raw/{reading.content_hash[:2]}/{reading.content_hash}.csv", "x.csv"]


def test_bid_and_ask(csv):
    bid = csv(GOOD.replace("101,5", "101,2"), "bid.csv")
    text = GOOD.replace(",100,102,99,101,5", ",101,103,100,100.5,4")
    ask = csv("\n".join(text.splitlines()[:-1]) + "\n2022-01-01 00:09:00,1,1,1,1,1\n", "ask.csv")
    reading = minutes(bid, ask=ask)
    assert list(reading.bars.iloc[0][["open", "high", "low", "close", "volume", "spread"]]) == [
        100.5,
        102.5,
        99.5,
        100.75,
        2,
        -0.5,
    ]
    assert list(reading.quarantine.reason) == ["no ask for this bar", "no bid for this bar"]
    assert [o.partition(":")[0] for o in reading.quarantine.origin] == ["csv", "csv"]
    assert list(reading.quarantine.row) == [5, 5]
    twice = csv(GOOD + GOOD.splitlines()[1] + "\n", "twice.csv")
    reading = minutes(twice, ask=csv(GOOD, "once.csv"))
    assert len(reading.bars) == 5 and list(reading.quarantine.reason) == ["several quotes for one bar"] * 3
    with pytest.raises(DataError, match="bars of the same times"):
        minutes(bid, ask=csv(GOOD.replace("2022", "2021"), "past.csv"))


def test_formats_and_files(tmp_path):
    assert [file_format(n) for n in ("a.CSV.GZ", "a.tar.zst", "a", "a.csv.zip", "a.arrow")] == [
        "csv",
        None,
        None,
        "csv",
        "feather",
    ]
    assert find_files(tmp_path / "not there.csv") == [tmp_path / "not there.csv"]


def test_feather_and_parquet(tmp_path):
    frame = pd.DataFrame(ROWS, columns=NAMES)
    for stamps in (
        frame.timestamp,
        pd.to_datetime(frame.timestamp, unit="ms"),
        pd.to_datetime(frame.timestamp, unit="ms", utc=True),
    ):
        own = frame.assign(timestamp=stamps)
        own.to_feather(tmp_path / "x.feather")
        own.to_parquet(tmp_path / "x.parquet")
        assert minutes(tmp_path / "x.feather").bars.equals(minutes(tmp_path / "x.parquet").bars)
        assert str(minutes(tmp_path / "x.feather").bars.ts[0]) == "2022-01-01 00:00:00+00:00"
    frame.iloc[:0].to_feather(tmp_path / "none.feather")
    with pytest.raises(DataError, match="columns and no rows"):
        minutes(tmp_path / "none.feather")


@pytest.mark.parametrize("scale", [1, 10**3, 10**6, 10**9])
def test_epochs_are_exact(csv, scale):
    stamps = [(1640995200 + 60 * i) * scale for i in range(4)] + [10**18 * 9]
    reading = minutes(csv(HEAD + "".join(f"{t},1,1,1,1,1\n" for t in stamps)), tz=None)
    assert list(reading.bars.ts) == list(pd.date_range("2022-01-01", periods=4, freq="min", tz="UTC"))
    assert list(reading.quarantine.row) == [4]


def test_rows_are_counted_right_in_a_long_file(csv):
    lines = [f"{1640995200 + 60 * i},1,1,1,1,1" for i in range(120_000)]
    lines[70_001], lines[110_000] = "1,2", lines[110_000].replace(",1,", ",x,", 1)
    reading = minutes(csv(HEAD + "\n".join(lines) + "\n"), tz=None)
    assert list(reading.quarantine.row) == [70_001, 110_000] and len(reading.bars) == 119_998
    assert reading.rows[70_001] == 70_002 and reading.rows[-1] == 119_999


def test_the_decimal_sign_of_a_long_file(csv):
    prices = ["1.234"] * 60_000
    for odd, value in (
        ("1.234,5", 1234.0),
        ("0,5", 1234.0),
    ):  # one kind of number in many: a fifth must say it
        mixed = [odd if i % 3 == 0 else p for i, p in enumerate(prices)]
        text = "timestamp;open;high;low;close;volume\n" + "".join(
            f"{1640995200 + 60 * i};{p};{p};{p};{p};5\n" for i, p in enumerate(mixed)
        )
        reading = minutes(csv(text), tz=None)
        assert len(reading.bars) == 60_000 and reading.bars.close[1] == value


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n"])
@pytest.mark.parametrize("last", [True, False])
def test_a_block_that_a_reader_with_threads_leaves_out_is_read_again(csv, monkeypatch, end, last):
    import pyarrow.csv

    lines = ["timestamp,open,high,low,close,volume"]
    lines += [
        f"{t:%Y-%m-%d %H:%M},100.25,101.5,99.75,100.5,{i}"
        for i, t in enumerate(pd.date_range("2022-01-01", periods=6_000, freq="min"))
    ]
    path, real, calls = csv(end.join(lines) + (end if last else "")), pyarrow.csv.read_csv, []

    def forgetful(data, read_options=None, **how):
        table = real(data, read_options=read_options, **how)
        calls.append(read_options.use_threads)
        return table.slice(0, len(table) - 337) if read_options.use_threads and len(calls) == 1 else table

    whole = read_bars(path, symbol="A", timeframe="1m", tz="UTC")
    monkeypatch.setattr(pyarrow.csv, "read_csv", forgetful)
    assert read_bars(path, symbol="A", timeframe="1m", tz="UTC").bars.equals(whole.bars)
    assert len(whole.bars) == 6_000
    assert calls == [True, False]
    assert len(read_bars(path, symbol="A", timeframe="1m", tz="UTC").bars) == 6_000
    assert calls == [True, False, True]


def test_a_hash_begun_while_reading_is_that_of_all_bytes(tmp_path, monkeypatch):
    from mlfin.files import raw_files as files

    content = np.random.default_rng(1).bytes(1_000_003)
    (tmp_path / "x.csv").write_bytes(content)
    monkeypatch.setattr(files, "_CHUNK", 4096)
    for _ in range(50):
        opened = files.open_file(tmp_path / "x.csv")
        assert bytes(opened.data) == content
        assert opened.content_hash == hashlib.sha256(content).hexdigest()


CLOCKED = (
    "Date,Time,Open,High,Low,Close,Volume\n2020-01-02,09:00,1,2,0.5,1.5,10\n2020-01-03,10:00,1,2,0.5,1.5,10\n"
)


def hourly(path, **how):
    return read_bars(path, **({"symbols": "X", "timeframe": "1h", "calendar": "24/7", "tz": "UTC"} | how))


@pytest.mark.parametrize(
    "columns",
    [
        {"Date": "ts"},
        {"Date": "date"},
        {"Time": "time"},
        {"Time": "clock"},
        {"Date": "ts", "Time": "clock"},
        {},
    ],
)
def test_a_date_that_is_renamed_keeps_the_clock_beside_it(csv, columns):
    "Without its clock, a bar of nine o'clock would be one of midnight."
    assert hourly(csv(CLOCKED), columns=columns).bars.ts.dt.strftime("%d %H").tolist() == ["02 09", "03 10"]


@pytest.mark.parametrize("columns", [{"Date": "day"}, {"Time": "hour"}, {"Open": "Eröffnung"}])
def test_a_name_that_is_none_of_ours_is_refused_by_name(csv, columns):
    with pytest.raises(DataError, match=next(iter(columns.values()))):
        hourly(csv(CLOCKED), columns=columns)


def test_a_clock_of_twelve_hours(csv):
    rows = [
        ("12:00 AM", "00:00"),
        ("1:05 am", "01:05"),
        ("12:30:15 PM", "12:30"),
        ("11:59 p.m.", "23:59"),
        ("13:00 PM", None),
        ("0:30 AM", None),
    ]
    text = "Date,Time,Open,High,Low,Close,Volume\n" + "".join(
        f"2020-01-0{i + 1},{t},1,2,0.5,1.5,10\n" for i, (t, _) in enumerate(rows)
    )
    found = hourly(csv(text), timeframe="1m")
    assert found.bars.ts.dt.strftime("%H:%M").tolist() == [w for _, w in rows if w]
    assert len(found.quarantine) == 2
    joined = "Date,Open,High,Low,Close,Volume\n1/13/2020 1:00 PM,1,2,0.5,1.5,10\n"
    assert str(hourly(csv(joined, "y.csv")).bars.ts[0]) == "2020-01-13 13:00:00+00:00"
    with pytest.raises(DataError, match="AM/PM"):
        hourly(
            csv("Date,Time,AM/PM,Open,High,Low,Close,Volume\n2020-01-02,01:00,PM,1,2,0.5,1.5,10\n", "z.csv")
        )


@pytest.mark.parametrize(
    "text, message",
    [
        ('"Date,Open,High,Low,Close,Volume"\n"2020-01-02,1,2,0.5,1.5,10"\n', "one pair of quotes"),
        (
            'Date,Open,High,Low,Close,Volume\n"2020-01-02,1,2,0.5,1.5,10"\n"2020-01-03,1,2,0.5,1.5,10"\n',
            "1 fields where the header has 6",
        ),
        ("Date,Open,High,Low,Close,Volume\n2563-01-02,1,2,0.5,1.5,10\n", "Buddhist"),
        (
            "Date,Open,High,Low,Close,Volume\n29/02/2563,1,2,0.5,1.5,10\n13/03/2563,1,2,0.5,1.5,10\n",
            "Buddhist",
        ),
    ],
)
def test_dialects_that_are_refused_by_name(csv, text, message):
    with pytest.raises(DataError, match=message):
        hourly(csv(text), timeframe="1d")


def test_a_symbol_like_a_formula_is_guarded_in_a_csv_and_read_back(tmp_path):
    names = ["=1+1", "+X", "-X", "@X", "'Q", "^GSPC", "IBM"]
    frame = pd.DataFrame(
        {
            "symbol": pd.Series(names, dtype="str"),
            "ts": pd.date_range("2020-01-01", periods=7, freq="h", tz="UTC"),
            "open": 1.0,
            "high": 2.0,
            "low": 0.5,
            "close": 1.5,
            "volume": 10.0,
            "vwap": -0.5,
        }
    )
    text = export_frame(frame, tmp_path / "x.csv").read_text()
    assert [line.split(",")[0] for line in text.splitlines()[1:]] == [
        "'=1+1",
        "'+X",
        "'-X",
        "'@X",
        "''Q",
        "^GSPC",
        "IBM",
    ]
    assert ",-0.5" in text
    assert sorted(
        hourly(export_frame(frame.drop(columns="vwap"), tmp_path / "y.csv"), symbols=None).bars.symbol
    ) == sorted(names)
