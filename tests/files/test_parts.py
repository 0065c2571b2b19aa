"""Files in parts: the same rows, the same quarantine and the same words as the file read whole."""

import gzip
import io
import json
import subprocess
import sys
import zipfile
from functools import lru_cache
from itertools import product

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mlfin.core.errors import DataError
from mlfin.files import chunks as pieces; from mlfin.sources import file_sources
from mlfin.files.tables import Dialect
from mlfin.files.chunks import survey_file
from mlfin.files.located_files import LocatedFile, locate_file, read_blocks
from mlfin.sources.read_result import ReadResult
from mlfin.sources.sources import read_bars, read_parts

from ..sources.test_market_folders import LIMIT, agree

HEAD = "timestamp,open,high,low,close,volume\n"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    "Parts of 32 KiB, a quarter of the smallest there are: a file need not be long to have several."
    monkeypatch.setattr(file_sources, "_part_size", lambda limit: 2**15)
    monkeypatch.setattr(pieces, "read_blocks", lambda file, size: read_blocks(file, size // 4))


def same(uri, least=1, **how) -> ReadResult:
    "Read whole and in parts, and compare."
    whole, parts = read_bars(uri, **how), list(read_parts(uri, limit=LIMIT, **how))
    assert len(parts) >= least
    agree(whole, parts)
    return whole


@lru_cache
def prices(n: int, step="1min") -> tuple[pd.DatetimeIndex, np.ndarray]:
    "Seeded times and prices."
    return pd.date_range("2020-01-01", periods=n, freq=step), 100 + np.cumsum(
        np.random.default_rng(0).normal(0, 0.01, n)
    ).round(2)


def rows(
    n: int,
    stamp=lambda t: t.strftime("%Y-%m-%d %H:%M:%S"),
    number=lambda x: f"{x:.2f}",
    delimiter=",",
    step="1min",
) -> list[str]:
    "Seeded rows of a CSV."
    times, price = prices(n, step)
    return [
        delimiter.join([stamp(t), *map(number, (p, p + 1, p - 1, p)), str(i % 97)])
        for i, (t, p) in enumerate(zip(times, price, strict=True))
    ]


MINUTES = {"symbol": "COIN", "timeframe": "1m", "tz": "UTC"}
N = 2000


def test_a_bad_field_at_the_end_turns_all_to_text(csv):
    lines = rows(N)
    lines[1875] = lines[1875].replace(",", ",x", 1)
    lines[1900] += ",extra"
    lines[10] = "2020-01-01"
    found = same(csv(HEAD + "\n".join(lines) + "\n"), 3, **MINUTES)
    assert list(found.quarantine.row) == [10, 1875, 1900] and '"timestamp": "2020' in found.quarantine.raw[1]


@pytest.mark.parametrize("late", [False, True])
def test_the_sign_of_decimals_is_that_of_the_whole(csv, late):
    count = iter(range(10**6))

    def number(x):
        return (
            f"{x:,.2f}".translate(str.maketrans(",.", ".,")) if next(count) > N or not late else str(int(x))
        )

    text = HEAD.replace(",", ";") + "\n".join(rows(N, number=number, delimiter=";")) + "\n"
    found = same(csv(text), 3, **MINUTES)
    assert (found.bars.close % 1 > 0).any()


def test_a_comma_of_thousands_late_in_the_file(csv):
    lines = rows(N, delimiter="\t")
    lines[1750:] = [line.replace("\t10", "\t1,0", 1) for line in lines[1750:]]
    assert any("," in line for line in lines)
    same(csv(HEAD.replace(",", "\t") + "\n".join(lines)), 3, **MINUTES)


def test_the_order_of_dates_is_that_of_the_whole(csv):
    text = HEAD + "\n".join(
        rows(N, lambda t: t.strftime("%m/%d/%Y %H:%M"), step="12min")
    )  # the thirteenth comes late
    assert same(csv(text), 3, **MINUTES).bars.ts.is_monotonic_increasing
    text = HEAD + "\n".join(rows(N, lambda t: t.strftime("%d/%m/%Y %H:%M"), step="12min"))
    assert same(csv(text), 3, **MINUTES).bars.ts.is_monotonic_increasing


def test_an_order_that_the_whole_cannot_tell_is_refused_before_the_first_part(csv):
    parts = read_parts(
        csv(HEAD + "\n".join(rows(N, lambda t: "01/02/2020" + t.strftime(" %H:%M")))), limit=LIMIT, **MINUTES
    )
    with pytest.raises(DataError, match="`dayfirst` must be given"):
        next(parts)


@pytest.mark.parametrize("scale", [10**0, 10**3, 10**6, 10**9])
def test_counts_are_of_one_unit(csv, scale):
    lines = rows(N, lambda t: str(int(t.timestamp()) * scale))
    lines[:750] = [
        "1" + line[line.index(",") :] for line in lines[:750]
    ]  # one second after 1970, in the first parts
    whole = same(csv(HEAD + "\n".join(lines)), 3, **MINUTES)
    assert set(whole.bars.ts.dt.year) <= {1970, 2020}


@pytest.mark.parametrize("ticks, volume", list(product([0, 5], [0, 7])))
def test_which_volume_it_is_the_whole_tells(csv, ticks, volume):
    head = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
    lines = [line.rsplit("\t", 1)[0] + f"\t{ticks}\t{volume if i == N - 1 else 0}\t9"
             for i, line in enumerate(rows(N, lambda t: t.strftime("%Y.%m.%d\t%H:%M:%S"), delimiter="\t"))]
    found = same(csv(head + "\n".join(lines)), 3, **MINUTES)
    assert found.bars.volume.iloc[0] == (0 if volume else ticks)


def test_a_volume_that_comes_late_is_missing_before(csv):
    lines = [line.rsplit(",", 1)[0] + ("," if i < N - 1 else ",5") for i, line in enumerate(rows(N))]
    found = same(csv(HEAD + "\n".join(lines)), 3, **MINUTES)
    assert len(found.bars) == 1 and set(found.quarantine.reason) == {"`volume` is missing"}


@pytest.mark.parametrize(
    "encode",
    [
        lambda t: b"\xef\xbb\xbf" + t.encode(),
        lambda t: t.encode("utf-16"),
        lambda t: t.replace("\n", "\r\n").encode(),
        lambda t: t.replace("\n", "\r").encode(),
        lambda t: b"\n\n " + t.encode(),
        lambda t: t.replace("\n", "\n\n").encode(),
    ],
    ids="bom utf-16 crlf cr blanks blank-lines".split(),
)
def test_encodings(csv, encode):
    lines = rows(N)
    lines[1750] = "2020-01-02 05:10:00,1"
    assert list(same(csv(encode(HEAD + "\n".join(lines) + "\n")), 3, **MINUTES).quarantine.row) == [1750]


@pytest.mark.parametrize("pack", ["gz", "zst", "zip"])
def test_packed(tmp_path, pack):
    data, path = (HEAD + "\n".join(rows(N))).encode(), tmp_path / f"x.csv.{pack}"
    if pack == "gz":
        path.write_bytes(gzip.compress(data))
    elif pack == "zst":
        path.write_bytes(pa.compress(data, "zstd", asbytes=True))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.csv", data)
            archive.writestr("__MACOSX/x", b"")
    same(path, 3, **MINUTES)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DataError, match="fetch it again|Fetch it again") as caught:
        next(read_parts(path, limit=LIMIT, **MINUTES))
    with pytest.raises(DataError) as at_once:
        read_bars(path, **MINUTES)
    assert str(caught.value).split(":")[0] == str(at_once.value).split(":")[0]


def records(n: int = N) -> list[dict]:
    names = ["date", "open", "high", "low", "close", "volume"]
    return [
        dict(zip(names, [r[0], *map(float, r[1:])], strict=True))
        for r in (line.split(",") for line in rows(n))
    ]


def as_json(tmp_path, form: str, found: list[dict]):
    path, lists = tmp_path / f"{form}.json", [list(r.values()) for r in found]
    text = {
        "lines": "\n".join(map(json.dumps, found)) + "\n",
        "array": json.dumps(found),
        "pretty": json.dumps(found, indent=1),
        "rows": json.dumps(lists),
        "line-rows": "\n".join(map(json.dumps, lists)),
        "columns": json.dumps({k: [r.get(k) for r in found] for k in found[0]}),
        "split": json.dumps({"columns": list(found[0]), "index": list(range(len(found))), "data": lists}),
    }[form]
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("form", ["lines", "array", "pretty", "rows", "line-rows", "columns", "split"])
def test_json(tmp_path, form):
    same(as_json(tmp_path, form, records()), 1 if form in ("columns", "split") else 3, **MINUTES)


def test_json_names_that_come_late_and_values_of_another_kind(tmp_path):
    found = records()
    found[1750]["trades"] = 5
    found[1775]["close"] = "101.5"
    found[1800]["close"] = "none"
    del found[1825]["high"]
    found[1850]["volume"] = None
    whole = same(as_json(tmp_path, "lines", found), 3, **MINUTES)
    assert list(whole.quarantine.row) == [1800, 1825, 1850] and whole.bars.trades.notna().sum() == 1


def test_json_rows_of_another_width(tmp_path):
    path = as_json(tmp_path, "rows", records())
    lists = json.loads(path.read_text())
    lists[0], lists[1750] = lists[0] + [1], lists[1750][:3]
    path.write_text(json.dumps(lists))
    assert list(same(path, 3, **MINUTES).quarantine.row) == [0, 1750]


@pytest.mark.parametrize("form, cut", [("lines", 10), ("array", 1), ("rows", 10), ("pretty", 3)])
def test_torn_json(tmp_path, form, cut):
    path = as_json(tmp_path, form, records())
    path.write_bytes(path.read_bytes().rstrip()[:-cut])
    with pytest.raises(DataError, match="is not readable JSON"):
        next(read_parts(path, limit=LIMIT, **MINUTES))


def test_a_large_json_document_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "columns.json"
    path.write_text('{"open": [' + ",".join(["1.25"] * 4_000_000) + "]}")
    with pytest.raises(DataError, match="JSON lines can be; or allow more memory"):
        next(read_parts(path, limit=LIMIT, **MINUTES))


def frame(n: int = 8000) -> pd.DataFrame:
    times, price = prices(n)
    return pd.DataFrame(
        {
            "date": times.tz_localize("UTC"),
            "open": price,
            "high": price + 1,
            "low": price - 1,
            "close": price,
            "volume": np.arange(n) % 97,
        }
    )


@pytest.mark.parametrize("kind, pack", list(product(["parquet", "feather"], ["", ".gz"])))
def test_binary(tmp_path, kind, pack):
    found, path = frame(), tmp_path / f"x.{kind}{pack}"
    found["trades"] = pd.array([None] * 10 + list(range(len(found) - 10)), dtype="Int64")
    found.loc[7_800, "close"] = np.nan
    buffer = io.BytesIO()
    getattr(found, f"to_{kind}")(buffer)
    path.write_bytes(gzip.compress(buffer.getvalue()) if pack else buffer.getvalue())
    assert list(same(path, 3, **MINUTES).quarantine.row) == [7_800]


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.set_index("date"),
        lambda f: f.assign(date=f.date.astype("int64") // 10**6),
        lambda f: f.assign(close=f.close.astype("str")),
        lambda f: f.assign(date=f.date.dt.strftime("%F %T")),
        lambda f: f.assign(volume=f.volume.astype("float64").where(f.index > 7_800)),
    ],
    ids="index epoch text-prices text-times late-volume".split(),
)
def test_parquet_columns_of_other_kinds(tmp_path, change):
    change(frame()).to_parquet(tmp_path / "x.parquet", row_group_size=3_000)
    same(tmp_path / "x.parquet", 3, **MINUTES)


def test_a_symbol_column_and_two_symbols_asked_for(csv):
    lines = [f"{'AB C'[i % 4]},{line}" for i, line in enumerate(rows(N))]
    path = csv("symbol," + HEAD + "\n".join(lines))
    whole = same(path, 3, timeframe="1m", tz="UTC", symbols=["C", "A"], start="2020-01-02", end="2020-01-03")
    assert set(whole.bars.symbol) == {"A", "C"} and (whole.quarantine.reason == "`symbol` is missing").all()
    with pytest.raises(DataError, match="`symbol` must be .*, got 'D'"):
        list(read_parts(path, limit=LIMIT, timeframe="1m", tz="UTC", symbol="D"))


def test_stamps_of_days_are_read_by_the_rule_of_the_whole(csv):
    days = pd.bdate_range("2008-01-01", "2019-12-31")
    closes = (
        (days + pd.Timedelta(hours=17))
        .tz_localize("America/New_York")
        .tz_convert("UTC")
        .strftime("%Y-%m-%d %H:%M:%S")
    )
    lines = [f"{t},1.25,1.35,1.15,1.25,5,a filling that is of no use" for t in closes]
    whole = same(
        csv(HEAD.replace("\n", ",comment\n") + "\n".join(lines)),
        3,
        symbol="EURUSD",
        calendar="forex",
        tz="UTC",
    )
    assert set(whole.bars.known_at.dt.tz_convert("America/New_York").dt.hour) == {17}
    assert list(whole.bars.known_at.dt.strftime("%F %T")) == [
        t for t in closes if t[5:10] not in ("01-01", "12-25")
    ]


def test_a_panel_is_counted_through(csv):
    for i, name in enumerate(("A", "B")):
        lines = rows(N // 2 + i)
        lines[7] = "torn"
        csv(HEAD + "\n".join(lines), f"{name}-1m.csv")
    folder = csv("x", "note.md").parent
    whole = same(folder, 4, timeframe="1m", tz="UTC", symbol_from=r"(\w)-1m")
    assert list(whole.quarantine.row) == [7, 7] and whole.parts[1][1] == N // 2


@pytest.mark.parametrize("name", ["COIN-8h.csv", "COIN-1d.csv.gz"])
def test_a_name_that_lies_is_refused_at_the_first_part(csv, name):
    text = (HEAD + "\n".join(rows(N))).encode()
    parts = read_parts(
        csv(gzip.compress(text) if name.endswith("gz") else text, name), limit=LIMIT, **MINUTES
    )
    with pytest.raises(DataError, match="its bars stand 0 days 00:01:00 apart"):
        next(parts)
    same(csv(gzip.compress(text) if name.endswith("gz") else text, name), 3, check_name=False, **MINUTES)


def test_a_file_without_a_usable_row_is_refused_at_the_end(csv):
    path = csv(HEAD + "\n".join(line.replace(",", ",x", 1) for line in rows(N)))
    with pytest.raises(DataError, match="has no usable row: 2,000 were set aside"):
        read_bars(path, **MINUTES)
    parts, aside = read_parts(path, limit=LIMIT, **MINUTES), 0
    with pytest.raises(DataError, match="has no usable row: 2,000 were set aside"):
        for part in parts:
            aside += len(part.quarantine)
    assert aside == N


@pytest.mark.parametrize("text", ["", " \n", HEAD, "\x1f\x8b"])
def test_nothing_is_refused_alike(csv, text):
    with pytest.raises(DataError) as whole:
        read_bars(csv(text), **MINUTES)
    with pytest.raises(DataError) as parts:
        list(read_parts(csv(text), limit=LIMIT, **MINUTES))
    assert str(whole.value) == str(parts.value)


def test_a_file_that_grows_between_two_parts_is_refused(csv):
    path = csv(HEAD + "\n".join(rows(N)) + "\n")
    parts = read_parts(path, limit=LIMIT, **MINUTES)
    next(parts)
    with open(path, "a") as f:
        f.write("2030-01-01 00:00:00,1,1,1,1,1\n")
    with pytest.raises(DataError, match="changed while it was read"):
        list(parts)


def test_bytes_are_kept_as_they_are(csv, tmp_path):
    path, raw = csv(gzip.compress((HEAD + "\n".join(rows(N))).encode()), "x.csv.gz"), tmp_path / "raw"
    parts = list(read_parts(path, limit=LIMIT, raw=raw, **MINUTES))
    (kept,) = [p for p in raw.rglob("*") if p.is_file()]
    assert kept.read_bytes() == path.read_bytes() and kept.name == f"{parts[0].content_hash}.csv.gz"


def test_two_sides_of_a_quote_come_as_one(csv):
    bid, ask = (csv(HEAD + "\n".join(rows(N)), f"{side}.csv") for side in ("bid", "ask"))
    (reading,) = read_parts(bid, limit=LIMIT, ask=ask, **MINUTES)
    assert len(reading.bars) == N


def test_nothing_of_the_file_is_held(csv):
    path = csv(HEAD + "\n".join(rows(N)))
    found = locate_file(path)
    assert isinstance(found, LocatedFile) and not any(isinstance(v, bytes) for v in vars(found).values())
    assert survey_file(found, "csv", Dialect(), 2**17).rows == N


@pytest.mark.slow
def test_a_file_of_ten_times_the_limit_takes_little_memory(csv):
    limit, n = 10, 2_000_000
    price = np.round(100 + np.cumsum(np.random.default_rng(0).normal(0, 0.01, n)), 2)
    times = pd.date_range("2018-01-01", periods=n, freq="min")
    found = pd.DataFrame(
        {"timestamp": times, "open": price, "high": price + 1, "low": price - 1, "close": price, "volume": 5}
    )
    path = csv("")
    found.round(2).to_csv(path, index=False)
    code = f"""
import sys
from mlfin.sources.sources import read_parts
n = sum(len(p.bars) for p in read_parts(sys.argv[1], symbol="C", timeframe="1m", tz="UTC",
                                        limit={limit} * 2**20))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(n, peak.split()[1])
"""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code, str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    read, peak = map(int, done.stdout.split())
    assert read == n and path.stat().st_size > 9 * limit * 2**20 and peak / 1024 <= limit + 200


@pytest.mark.parametrize("odd", ["1.234,5", "101.5", "x", "101", "1e2"])
def test_a_decimal_comma_is_read_at_once_until_some_field_is_none(csv, odd):
    lines = rows(N, number=lambda x: f"{x:.2f}".replace(".", ","), delimiter=";")
    stamp, _, *rest = lines[1750].split(";")
    lines[1750] = ";".join([stamp, odd, *rest])
    for how in ({}, {"decimal": ","}):
        found = same(csv(HEAD.replace(",", ";") + "\n".join(lines) + "\n"), 3, **MINUTES, **how)
        value = {"1.234,5": 1234.5, "101": 101, "1e2": 100}.get(odd)
        assert list(found.quarantine.row) == ([] if value else [1750])
        assert (
            (found.bars.open[1750] == value)
            if value
            else found.bars.open[1749] == float(lines[1749].split(";")[1].replace(",", "."))
        )
