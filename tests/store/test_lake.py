import pickle
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake

import mlfin.store.delta_bars as table_module
from mlfin.core.errors import DataError
from mlfin.market.actions import as_actions
from mlfin.market.bars import as_bars
from mlfin.store.journal import JOURNAL_COLUMNS
from mlfin.store.event_tables import EVENTS, EventTable
from mlfin.store.lake import Lake
from mlfin.store.lake_bars import add_to_table
from mlfin.quality.repair import repair
from mlfin.store.store import with_values
from mlfin.store.delta_bars import bucket_of


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def script(code, *args, check=True):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)], check=check,
        capture_output=True, text=True)


def test_symbols_never_become_paths(lake, make, tmp_path):
    symbols = ["EUR/USD", "../../up", "a=b", "%2e", "x y", "Ω", "A'B\"C", "."]
    lake.write(as_bars(pd.concat([make(s) for s in symbols])))
    lake.push(as_bars(pd.concat([make(s, start="2024-04-01", end="2024-04-01") for s in symbols])))
    lake.compact()
    assert list(lake.read().symbol.unique()) == sorted(symbols)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lake"]
    assert {p.name for p in lake.path.iterdir()} <= {".lock", ".journal.sqlite.lock", "bars",
                                                     *(f"journal.sqlite{e}" for e in ("", "-wal", "-shm"))}
    assert all(p.name.startswith(("timeframe=", "_delta_log")) for p in (lake.path / "bars").iterdir())


WRITER = """
    import sys, pandas as pd
    from mlfin.market.bars import as_bars
    from mlfin.market.calendars import expected_bars
    from mlfin.store.lake import Lake
    root, own, price = sys.argv[1], sys.argv[2], float(sys.argv[3])
    days = expected_bars("24/7", "1d", "2024-01-01", "2024-01-20")
    for n in range(4):
        for symbol in (own, "SHARED"):
            part = days.iloc[n * 5:n * 5 + 7].assign(symbol=symbol, timeframe="1d", open=price, high=price,
                                                     low=price, close=price, volume=1.0)
            Lake(root).write(as_bars(part))
"""


def test_two_processes_lose_nothing(lake):
    code = textwrap.dedent(WRITER)
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(lake.path), own, "7"], stderr=subprocess.PIPE,
                         text=True)
        for own in ("ONE", "TWO")]
    for process in running:
        error = process.communicate(timeout=60)[1]
        assert process.returncode == 0, error
    bars = lake.read()
    assert bars.symbol.value_counts().to_dict() == {s: 20 for s in ("ONE", "TWO", "SHARED")}
    assert not bars.duplicated(["symbol", "ts"]).any()
    assert lake.versions().inserted.sum() == len(bars)  # each key was new once, whoever came first


def test_a_full_disk_is_told_and_harms_nothing(lake, make):
    bars = make("A")
    before = lake.write(bars)
    code = """
        import resource, sys
        from mlfin.core.errors import DataError
        from mlfin.store.lake import Lake
        import numpy as np, pandas as pd
        from mlfin.market.bars import as_bars
        from mlfin.market.calendars import expected_bars
        minutes = expected_bars("24/7", "1m", "2024-01-01", "2024-01-20")
        close = 100 + np.random.default_rng(0).random(len(minutes))
        big = as_bars(minutes.assign(symbol="B", timeframe="1m", open=close, high=close, low=close,
                                     close=close, volume=close))
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try: Lake(sys.argv[1]).write(big)
        except DataError as e: print(e)
        else: raise SystemExit("no error")
    """
    said = script(code, lake.path).stdout
    assert "could not be written" in said and "grew larger" in said and "Hint" in said
    assert lake.version() == before.version
    pd.testing.assert_frame_equal(lake.read(["A"]), bars, check_exact=True)
    assert lake.read(timeframe="1m").empty and lake.write(make("A", end="2024-04-05")).inserted > 0


def test_an_injected_no_space(lake, make, monkeypatch):
    lake.write(make("A"))

    def full(*a, **k):
        raise OSError(28, "No space left on device")

    import pyarrow.parquet as pq

    events = as_actions([("A", make().ts[5], "split", 2.0, make().known_at[5], "test")])
    for work in (lambda: lake.write(make("B")), lambda: lake.write_actions(events)):
        monkeypatch.setattr(pq, "write_table", full)
        with pytest.raises(DataError, match="the disk is full"):
            work()
        monkeypatch.undo()
    assert not [p for p in lake.path.rglob("*.parquet") if p.stat().st_size == 0]
    assert len(lake.read()) == len(make("A"))


def test_a_place_that_cannot_be_written(tmp_path, make):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="could not be written"):
        Lake(tmp_path / "file").write(make())


def test_a_damaged_log(lake, make):
    lake.write(make())
    for entry in sorted((lake.path / "bars" / "_delta_log").glob("*.json")):
        entry.write_text("{ not json")
    with pytest.raises(DataError, match="could not be read"):
        Lake(lake.path).read()


def test_a_damaged_file(lake, make):
    lake.write(make())
    for path in (lake.path / "bars").rglob("*.parquet"):
        path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match="could not be read"):
        lake.read()


@pytest.mark.parametrize("met", [False, True])
def test_what_there_is_opens_only_files_that_need_it(lake, make, met):
    bars = as_bars(pd.concat([make(s, "1m", "2024-01-01", "2024-01-20") for s in ("S0", "S1", "S2")]))
    lake.write(bars)
    lake.write(make("S0", "1m", "2024-02-01", "2024-02-02"))
    if met:
        lake.write(make("S0", "1m", "2024-02-02", "2024-02-03", seed=1))
    counted = lake.series()
    assert list(counted["rows"] - counted["rows"].min()) == [2881 if met else 1441, 0, 0]
    for path in (lake.path / "bars").rglob("*.parquet"):
        path.write_bytes(b"PAR1 and then nothing")
    if not met:
        return pd.testing.assert_frame_equal(Lake(lake.path).series(), counted)
    with pytest.raises(DataError, match="could not be read"):
        Lake(lake.path).series()


def test_a_handle_that_is_kept_sees_what_others_do(lake, make, tmp_path):
    other = Lake(lake.path)
    for n, symbol in enumerate("ABCDE"):
        (lake, other)[n % 2].write(make(symbol))
        assert len((other, lake)[n % 2].read()) == (n + 1) * len(make())
    lake.path.rename(tmp_path / "moved")
    assert lake.read().empty and lake.version() == -1
    assert len(Lake(tmp_path / "moved").read("A")) == len(make())
    assert len(pickle.loads(pickle.dumps(Lake(tmp_path / "moved"))).read("B")) == len(make())


def test_partitions_and_borders_prune(lake, make):
    from mlfin.store.delta_bars import LOOSE_ROWS, prune

    bars = as_bars(pd.concat([make(f"S{i}", "1m", "2024-01-01", "2024-01-10", seed=i) for i in range(8)]))
    lake.write(bars)
    lake.write(make("S1"))
    files = lake.bars.table.snapshot().files
    assert len(bars) > LOOSE_ROWS and files.bucket.nunique() > 1 and files.bucket.isna().sum() == 1
    assert len(prune(files, "1m", ["S3"])) == 1 and len(prune(files, "1m")) == len(files) - 1
    assert len(prune(files, "1m", ["S3"], start=pd.Timestamp("2024-02-01", tz="UTC"))) == 0
    pd.testing.assert_frame_equal(lake.read(timeframe="1m"), bars, check_exact=True)
    part = bars[(bars.symbol == "S3") & (bars.ts.dt.day == 4)].reset_index(drop=True)
    pd.testing.assert_frame_equal(lake.read("S3", "1m", "2024-01-04", "2024-01-04"), part, check_exact=True)


def test_other_delta_readers_can_read_it(lake, make):
    from deltalake import DeltaTable

    bars = make("A")
    lake.write(bars)
    found = DeltaTable(str(lake.path / "bars")).to_pandas().sort_values("ts")
    assert list(found.close) == list(bars.close) and set(found.timeframe) == {"1d"}


def test_a_lake_of_before_there_were_buckets(lake, make):
    from deltalake import DeltaTable, write_deltalake

    from mlfin.store.delta_bars import TABLE_COLUMNS, table_schema

    bars = make("A")
    rows = bars.reindex(columns=list(TABLE_COLUMNS)).assign(
        recorded_at=pd.Timestamp("2024-06-01", tz="UTC").as_unit("us"))
    schema = pa.schema([f for f in table_schema() if f.name != "bucket"])
    rows = rows.astype(dict.fromkeys(("vwap", "trades", "spread"), "float64"))
    DeltaTable.create(str(lake.path / "bars"), schema, partition_by=["timeframe"])
    write_deltalake(str(lake.path / "bars"),
                    pa.Table.from_pandas(rows[schema.names], schema=schema, preserve_index=False),
                    mode="append")
    pd.testing.assert_frame_equal(lake.read("A"), bars, check_exact=True)
    assert lake.series().values.tolist() == [["A", "1d", len(bars), bars.ts.iloc[0], bars.ts.iloc[-1]]]
    done = lake.write(as_bars(pd.concat([bars.assign(close=bars.close * 1.001), make("B")])))
    assert (done.inserted, done.revised) == (len(bars), len(bars))
    lake.compact()
    assert (lake.read("A").close == bars.close * 1.001).all() and len(lake.read()) == 2 * len(bars)
    pd.testing.assert_frame_equal(lake.read("A", as_of="2024-12-01"), bars, check_exact=True)


def test_compacting_makes_few_files_and_parts_what_was_revised(lake, make):
    bars = make("A", "1m", "2024-01-01", "2024-01-03")
    for n in range(0, len(bars), 400):
        lake.write(bars.iloc[max(0, n - 50):n + 400].reset_index(drop=True))
    lake.write(bars.assign(volume=bars.volume + 1.0))
    assert len(lake.bars.table.snapshot().files) > 8
    version = lake.compact()
    files = lake.bars.table.snapshot().files
    assert len(files) == 2 and sorted(files.rows) == [len(bars), len(bars)] and files.past.sum() == 1
    assert lake.compact() == version and lake.versions().operation.iloc[-1] == "COMPACT"
    assert (lake.read(timeframe="1m").volume == 11).all()
    assert (lake.read(timeframe="1m", as_of="2024-06-01").volume == 10).all()


def test_what_a_dead_writer_left_is_swept_away(lake, make):
    from mlfin.store.delta_bars import write_files

    lake.write(make("A"))
    rows = lake.bars.table.snapshot()
    write_files(lake.path / "bars",
                with_values(make("B")).assign(recorded_at=pd.Timestamp("2024-06-01", tz="UTC").as_unit("us")),
                ["timeframe", "bucket"])
    assert len(rows.files) == len(lake.bars.table.snapshot().files) == 1
    assert len(list(lake.path.rglob("*.parquet"))) == 2
    assert lake.vacuum() == 0 and lake.vacuum(0) == 1 and len(lake.read()) == len(make("A"))


def test_the_clock_of_another_machine_may_be_ahead(lake, make, monkeypatch):
    bars = make("A")
    rows = with_values(bars)
    add_to_table(lake.bars.table,
                 rows.assign(recorded_at=pd.Timestamp("2999-01-01", tz="UTC").as_unit("us")), True)
    lake.write(bars.assign(close=1.0, low=1.0))
    assert (lake.read().close == 1.0).all()
    assert (lake.read().known_at > pd.Timestamp("2999-01-01", tz="UTC")).all()


def test_rows_of_one_microsecond_are_told_apart_by_their_values(tmp_path, make):
    at, found = pd.Timestamp("2024-06-01", tz="UTC").as_unit("us"), []
    for name, order in (("a", (1.0, 2.0)), ("b", (2.0, 1.0))):
        lake = Lake(tmp_path / name)
        for volume in order:
            table_module.append_rows(lake.bars.table,
                                     with_values(make("A").assign(volume=volume)).assign(recorded_at=at), {})
        found.append(lake.history())
    assert len(found[0]) == len(make("A")) and (found[0].volume == 2).all()
    pd.testing.assert_frame_equal(*found)


def test_real_minutes_come_back_as_they_were(lake, market):
    from mlfin.sources.sources import read_bars

    path = market / "nautilus" / "btc-perp-20211231-20220201_1m.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    bars = as_bars(read_bars(f"csv:{path}", symbol="BTC-PERP", timeframe="1m", tz="UTC").bars)
    assert len(bars) == 45_031
    for n in range(0, len(bars), 9_000):  # with an overlap, as an incremental ingest has it
        lake.write(bars.iloc[max(0, n - 100):n + 9_000].reset_index(drop=True))
    pd.testing.assert_frame_equal(lake.read(timeframe="1m"), bars, check_exact=True)
    lake.compact()
    pd.testing.assert_frame_equal(lake.read("BTC-PERP", "1m"), bars, check_exact=True)
    day = bars[bars.ts.dt.strftime("%Y-%m-%d") == "2022-01-15"].reset_index(drop=True)
    pd.testing.assert_frame_equal(lake.read("BTC-PERP", "1m", "2022-01-15", "2022-01-15"),
                                  day, check_exact=True)


def test_renames_and_delistings_keep_their_new_names(tmp_path):
    day = pd.Timestamp("2014-03-20 13:30", tz="UTC")
    actions = as_actions([("GOOCV", day, "rename", 1.0, day, "list", "GOOG"),
                          ("TWX", day, "delisting", 0.9, day, "list"),
                          ("IBM", day, "dividend", 0.5, day, "list")])
    store = Lake(tmp_path / "lake")
    assert store.write_actions(actions).inserted == 3
    assert store.write_actions(actions).unchanged == 3
    pd.testing.assert_frame_equal(store.read_actions(), actions)
    assert "to" not in store.read_actions(["IBM"])


def test_actions_of_a_lake_before_renames_are_read_and_added_to(tmp_path):
    day = pd.Timestamp("2014-03-20 13:30", tz="UTC")
    kind = EVENTS["actions"]
    old = replace(kind, dtypes={c: d for c, d in kind.dtypes.items() if c != "to"}, values=["value"])
    EventTable(tmp_path / "lake", old).add(as_actions([("IBM", day, "dividend", 0.5, day, "list")]))
    store = Lake(tmp_path / "lake")
    assert list(store.read_actions().symbol) == ["IBM"]
    store.write_actions(as_actions([("GOOCV", day, "rename", 1.0, day, "list", "GOOG")]))
    assert list(store.read_actions().to) == ["GOOG", ""]


def from_before_marks(path, bars):
    "A lake as it was written before bars had marks, with a journal."
    kept = ["symbol", "ts", "known_at", "open", "high", "low", "close", "volume", "vwap", "trades", "spread"]
    rows = with_values(bars).assign(recorded_at=pd.Timestamp("2024-06-01", tz="UTC").as_unit("us"),
                                    bucket=bars.symbol.map(bucket_of))
    schema = table_module.table_schema()
    schema = pa.schema([schema.field(c) for c in [*kept, "recorded_at", "timeframe", "bucket"]])
    data = pa.Table.from_pandas(rows[schema.names], schema=schema, preserve_index=False)
    write_deltalake(path / "bars", data, partition_by=["timeframe", "bucket"])
    place = Lake(path).bars.journal.path
    place.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(place)
    db.execute("CREATE TABLE journal (name TEXT NOT NULL)")
    columns = ", ".join(f"{c} {k}" for c, k in JOURNAL_COLUMNS.items() if c != "repaired")
    db.execute(f"CREATE TABLE bars (seq INTEGER PRIMARY KEY AUTOINCREMENT, {columns})")
    db.execute("CREATE INDEX bars_key ON bars (timeframe, symbol, ts)")
    db.execute("PRAGMA journal_mode=WAL")
    db.commit(), db.close()
    return Lake(path)


def test_a_lake_from_before_marks_is_read_and_added_to(tmp_path, make):
    bars = as_bars(pd.concat([make("A"), make("B", seed=1)]))
    lake = from_before_marks(tmp_path / "lake", bars)
    pd.testing.assert_frame_equal(lake.read(), bars)
    assert lake.write(bars).unchanged == len(bars)
    mended = repair(bars.assign(high=bars.high.where(bars.index != 7, bars.high * 100)))
    done = lake.write(mended)
    assert (done.inserted, done.revised, done.unchanged) == (0, 1, len(bars) - 1)
    pd.testing.assert_frame_equal(Lake(lake.path).read().drop(columns="known_at"),
                                  as_bars(mended).drop(columns="known_at"))
    pd.testing.assert_frame_equal(lake.read(version=0), bars)
    lake.push(make("C", seed=2))
    assert len(lake.read("C")) == len(make("C")) and lake.flush().inserted == len(make("C"))
    lake.compact()
    assert list(lake.read().repaired != "") == [*(mended.repaired != ""), *[False] * len(make("C"))]


def spoil(lake, how):
    "Damage the lake's first file; the lake, with nothing in memory."
    path = lake.path / "bars" / lake.bars.table.snapshot().files.path[0]
    data = path.read_bytes()
    spoiled = {"cut": data[: len(data) // 2], "garbage": b"\x00garbage" * 400, "empty": b"", "gone": None,
               "middle": data[:200] + b"\xff" * (len(data) - 1200) + data[-1000:]}[how]
    path.unlink() if spoiled is None else path.write_bytes(spoiled)
    return path, Lake(lake.path)


@pytest.mark.parametrize("how", ["cut", "garbage", "empty", "middle", "gone"])
def test_a_spoiled_file_is_named_with_the_remedy(lake, make, how):
    changed = make("A").assign(close=1.0, low=1.0)
    lake.write(make("A"))
    lake.write(changed)
    path, lake = spoil(lake, how)
    for ask in (lake.read, lambda: lake.read(start="2024-01-05", as_of="2030-01-01"),
                lambda: lake.read("A", columns=["close"]), lambda: lake.write(changed.assign(close=2.0)),
                lake.compact, lake.series, lambda: lake.export(lake.path / "x.csv")):
        if ask == lake.series and how == "middle":
            continue  # the footer is whole, and tells
        with pytest.raises(DataError) as caught:
            ask()
        text = str(caught.value)
        assert path.name in text and "Hint:" in text and "raw" in text and "version" in text
        assert text.count("\n") == 1
        assert str(path.parent.parent) not in text.split("\n")[1]
    assert not (lake.path / "x.csv").exists()


def test_the_rest_of_a_lake_with_a_spoiled_file_can_be_read(lake, make):
    for i, symbol in enumerate("AB"):
        lake.write(make(symbol, seed=i))
    spoiled = lake.bars.table.snapshot().files.first_symbol[0]
    (other,) = set("AB") - {spoiled}
    path, lake = spoil(lake, "garbage")
    assert len(lake.read(other)) == len(make(other)) and list(lake.series().symbol) == ["A", "B"]
    with pytest.raises(DataError, match=path.name):
        lake.read(spoiled)
