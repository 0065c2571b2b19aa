"""The lake beside zstd Parquet of level 3 with row groups as large, by as many threads, from disk and cache;
beside ArcticDB and DuckDB: 5,000,000 one-minute bars of 10 symbols, in turn."""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent))

from peers.beside import ask, there
from peers.beside import in_turn as beside_each_other
from peers.beside import row as compared
from peers.checksum import of_bars

from mlfin.market.bars import as_bars
from mlfin.store.delta_bars import GROUP_ROWS
from mlfin.store.lake import Lake

SYMBOLS, ROWS, BATCH = 10, 500_000, 10_000


def panel(symbols: int = SYMBOLS, rows: int = ROWS, seed: int = 7) -> pd.DataFrame:
    """A seeded random walk for each symbol in steps of a cent, as a bars frame."""
    rng = np.random.default_rng(seed)
    n = symbols * rows
    close = np.round(100 * np.exp(rng.normal(0, 1e-4, (symbols, rows)).cumsum(axis=1)), 2).ravel()
    open_ = np.round(close * (1 + rng.normal(0, 1e-4, n)), 2)
    ts = pd.date_range("2023-01-01", periods=rows, freq="min", tz="UTC").as_unit("us")
    at = pd.DatetimeIndex(np.tile(ts.asi8, symbols).view("M8[us]")).tz_localize("UTC")
    names = np.repeat(np.array([f"SYM{i:02d}" for i in range(symbols)]), rows)
    return pd.DataFrame(
        dict(
            symbol=pd.Series(names, dtype="str"),
            timeframe=pd.Series(["1m"] * n, dtype="str"),
            ts=at,
            known_at=at + pd.Timedelta("1min"),
            open=open_,
            high=np.maximum(open_, close) + 0.02,
            low=np.minimum(open_, close) - 0.02,
            close=close,
            volume=rng.integers(1, 10_000, n).astype(float),
        )
    )


def forget(*places: Path) -> None:
    """Ask the system to drop files from its cache, once they are on the disk; no root is needed."""
    for place in places:
        for path in [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]:
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def took(function, times: int) -> float:
    """Shortest of several runs, in seconds."""
    best = np.inf
    for _ in range(times):
        begin = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - begin)
    return best


def in_turn(ours, theirs, times: int, before=lambda: None) -> tuple[float, float]:
    """Medians of calls that take turns, in seconds."""
    taken = ([], [])
    for _ in range(times):
        for call, seconds in zip((ours, theirs), taken, strict=True):
            before()
            begin = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begin)
    return tuple(float(np.median(seconds)) for seconds in taken)


def batches(bars: pd.DataFrame, count: int):
    """Batches of 10,000 rows of all symbols: 9 of 10 rows are there, of which 1 of 100 is revised; 1 of 10 is
    new."""
    each = BATCH // SYMBOLS
    last = bars.groupby("symbol").tail(each)
    for n in range(1, count + 1):
        shift = pd.Timedelta(minutes=n * each // 10)
        moved = last.assign(ts=last.ts + shift, known_at=last.known_at + shift)
        moved["close"] = moved.close.where(np.arange(len(moved)) % 100 != n, moved.close * 1.0001)
        yield as_bars(moved)


def reads(lake: Lake, plain: Path, times: int) -> list[tuple]:
    """Reading all and a month of a symbol, from the disk and from the system's cache."""
    month = [("symbol", "==", "SYM05"), ("ts", ">=", pd.Timestamp("2023-06-01", tz="UTC")),
             ("ts", "<", pd.Timestamp("2023-07-01", tz="UTC"))]
    rows = []
    for state, before in (("cold", lambda: forget(lake.path, plain)), ("warm", lambda: None)):
        rows.append((f"read all, {state}, s",
                     *in_turn(lambda: lake.read(timeframe="1m"), lambda: pq.read_table(plain).to_pandas(),
                              times, before), 0.6, np.nan))
        rows.append((f"one symbol-month, {state}, s",
                     *in_turn(lambda: lake.read("SYM05", "1m", "2023-06-01", "2023-06-30"),
                              lambda: pq.read_table(plain, filters=month).to_pandas(), 5 * times, before),
                     np.nan, 0.004))
    return rows


def compare(folder: Path, times: int = 3) -> pd.DataFrame:
    """What was measured: seconds (or megabytes) of the lake and of the plain file, with the largest ratio or
    the most seconds that are allowed."""
    bars, plain, lake = panel(), folder / "plain.parquet", Lake(folder / "lake")

    def write():
        pq.write_table(pa.Table.from_pandas(bars, preserve_index=False), plain, compression="zstd",
                       compression_level=3, row_group_size=GROUP_ROWS)

    def again():
        shutil.rmtree(lake.path, ignore_errors=True)

    rows = [("first write, s", *in_turn(lambda: Lake(lake.path).write(bars), write, times, again), 1.2,
             np.nan)]
    Lake(lake.path).write(bars)
    assert lake.read(timeframe="1m").equals(bars)
    rows += reads(lake, plain, times)
    size = sum(p.stat().st_size for p in lake.path.rglob("*") if p.is_file())
    rows.append(("bytes on disk, MB", size / 1e6, plain.stat().st_size / 1e6, 1.2, np.nan))
    taken = []
    for batch in batches(bars, 7):
        begin = time.perf_counter()
        done = lake.write(batch)
        taken.append(time.perf_counter() - begin)
        assert done.inserted == BATCH // 10 and done.revised, done
    rows.append(("batch of 10,000 with revisions, s", float(np.median(taken)), np.nan, np.nan, 0.015))
    begin = time.perf_counter()
    lake.compact()
    rows.append(("compact after seven batches, s", time.perf_counter() - begin, *[np.nan] * 3))
    table = pd.DataFrame(rows, columns=["what", "lake", "plain", "at_most", "seconds"])
    return table.assign(ratio=table.lake / table.plain)


def verdict(row) -> tuple[str, str]:
    """The bound of a line and whether it is met."""
    if not np.isnan(row.at_most): return f"{row.at_most:g}x", "met" if row.ratio <= row.at_most else "missed"
    if not np.isnan(row.seconds): return f"{row.seconds:g} s", "met" if row.lake <= row.seconds else "missed"
    return "", ""


def ours(folder: Path, bars: pd.DataFrame) -> dict[str, dict]:
    """What `peers/peer_lake.py` measures, of the lake."""
    found: dict[str, dict] = {}
    for _ in range(2):
        shutil.rmtree(folder / "beside", ignore_errors=True)
        lake = Lake(folder / "beside")
        seconds = found.setdefault("write", {"seconds": []})["seconds"]
        seconds.append(took(lambda lake=lake: lake.write(bars), 1))
    reads = {"read": lambda: lake.read(timeframe="1m"),
             "month": lambda: lake.read("SYM05", "1m", "2023-06-01", "2023-06-30")}
    for name, call in reads.items():
        seconds = [took(call, 1) for _ in range(2 if name == "read" else 5)]
        found[name] = {"seconds": seconds, "checksum": of_bars(call())}
    seconds = [took(lambda some=some: lake.write(some), 1) for some in batches(bars, 5)]
    found["batch"] = {"seconds": seconds, "checksum": of_bars(lake.read(timeframe="1m"))}
    return found


def beside(folder: Path, times: int = 3) -> None:
    """A row for each measure and peer: the shortest of the runs of both, in turn, and whether both gave the
    same."""
    bars, kinds = panel(), {"arctic": "ArcticDB on LMDB", "parquet": "Parquet, zstd 3", "duckdb": "DuckDB"}
    says = {"write": "5,000,000 bars written", "read": "all read", "month": "a month of one symbol",
            "batch": "a batch of 10,000, 90 % there already"}
    bars.to_parquet(folder / "bars.parquet", index=False)
    for number, some in enumerate(batches(bars, 5)): some.to_parquet(folder / f"batch{number}.parquet")
    calls = {"ours": lambda: ours(folder, bars)}
    if there(): calls |= {kind: lambda kind=kind: ask("lake", kind, folder) for kind in kinds}
    found = beside_each_other(calls, times)
    for kind, title in kinds.items():
        for name, what in says.items():
            if (kind, name) in (("duckdb", "write"), ("duckdb", "batch"), ("parquet", "batch")): continue
            mine, other = ([run[name] for run in found.get(side, ())] for side in ("ours", kind))
            best = [min((s for run in runs for s in run["seconds"]), default=None) for runs in (mine, other)]
            sums = {run.get("checksum") for run in (*mine, *other)} - {None}
            compared(f"{what}, beside {title}", *best, "s", len(sums) == 1 if sums else None,
                     1.0 if name in ("read", "month") else None)


def main() -> None:
    """Print the tables, with the verdict on every line that has a bound."""
    with tempfile.TemporaryDirectory() as folder:
        table = compare(Path(folder))
    print(f"Threads of Arrow on both sides: {pa.cpu_count()}. "
          "Cold: after `posix_fadvise(DONTNEED)` of every file.\n")
    print("| what | lake | plain | ratio | bound | verdict |\n|---|---|---|---|---|---|")
    for row in table.itertuples():
        bound, said = verdict(row)
        print(f"| {row.what} | {row.lake:.4g} | {row.plain:.4g} | {row.ratio:.2f}x | {bound} | {said} |"
              .replace("nanx", "").replace("nan", ""))
    print("\n| measure | value | bound | verdict |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder: beside(Path(folder))


if __name__ == "__main__":
    main()
