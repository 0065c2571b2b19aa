"""The lake beside zstd Parquet, ArcticDB and DuckDB: 5,000,000 one-minute bars of 10 symbols, in one run."""

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

from peers.beside import ask, in_turn, there
from peers.beside import row as compared
from peers.checksum import of_bars

from mlfin.market.bars import as_bars
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


def took(function, times: int, before=lambda: None) -> float:
    """Shortest of several runs, in seconds."""
    best = np.inf
    for _ in range(times):
        before()
        begin = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - begin)
    return best


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


def compare(folder: Path, times: int = 3) -> pd.DataFrame:
    """What was measured: seconds (or megabytes) of the lake and of the plain file, their ratio and its
    limit."""
    from deltalake import WriterProperties, write_deltalake

    bars, plain, rows = panel(), folder / "plain.parquet", []

    def write():
        pq.write_table(pa.Table.from_pandas(bars, preserve_index=False), plain, compression="zstd")

    def again():
        shutil.rmtree(folder / "lake", ignore_errors=True)

    rows.append(
        (
            "first write, s",
            took(lambda: Lake(folder / "lake").write(bars), times, again),
            took(write, times),
            2.5,
        )
    )
    lake = Lake(folder / "lake")
    assert lake.read(timeframe="1m").equals(bars)
    rows.append(("read all, s", took(lambda: lake.read(timeframe="1m"), times + 2),
                 took(lambda: pq.read_table(plain).to_pandas(), times + 2), 1.0))
    size = sum(p.stat().st_size for p in lake.path.rglob("*") if p.is_file())
    rows.append(("bytes on disk, MB", size / 1e6, plain.stat().st_size / 1e6, 1.2))
    month = [("symbol", "==", "SYM05"), ("ts", ">=", pd.Timestamp("2023-06-01", tz="UTC")),
             ("ts", "<", pd.Timestamp("2023-07-01", tz="UTC"))]
    rows.append(
        (
            "one symbol-month, s",
            took(lambda: lake.read("SYM05", "1m", "2023-06-01", "2023-06-30"), 10 * times),
            took(lambda: pq.read_table(plain, filters=month).to_pandas(), 5 * times),
            2.0,
        )
    )
    single = folder / "single.parquet"
    pq.write_table(
        pa.Table.from_pandas(bars[(bars.symbol == "SYM05") & (bars.ts.dt.strftime("%Y-%m") == "2023-06")]),
        single,
        compression="zstd",
    )
    rows.append(("one symbol-month, s, beside a file of its own", rows[-1][1],
                 took(lambda: pq.read_table(single).to_pandas(), 10 * times), 2.0))
    some = bars.iloc[:BATCH]
    data = pa.Table.from_pandas(some, preserve_index=False)
    write_deltalake(str(folder / "delta"), data)

    def append():
        write_deltalake(
            str(folder / "delta"), data, mode="append", writer_properties=WriterProperties(compression="ZSTD")
        )

    plain_append = took(append, 10)
    work = list(batches(bars, 5))
    result = []
    rows.append(
        (
            "batch with revisions, s",
            took(lambda: result.append(lake.write(work.pop(0))), 5),
            plain_append,
            10.0,
        )
    )
    assert all(r.inserted == BATCH // 10 and r.revised for r in result), result
    begin = time.perf_counter()
    lake.compact()
    rows.append(("compact after five batches, s", time.perf_counter() - begin, np.nan, np.nan))
    table = pd.DataFrame(rows, columns=["what", "lake", "plain", "limit"])
    return table.assign(ratio=table.lake / table.plain)[["what", "lake", "plain", "ratio", "limit"]]


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
    found = in_turn(calls, times)
    for kind, title in kinds.items():
        for name, what in says.items():
            if (kind, name) in (("duckdb", "write"), ("duckdb", "batch"), ("parquet", "batch")): continue
            mine, other = ([run[name] for run in found.get(side, ())] for side in ("ours", kind))
            best = [min((s for run in runs for s in run["seconds"]), default=None) for runs in (mine, other)]
            sums = {run.get("checksum") for run in (*mine, *other)} - {None}
            compared(f"{what}, beside {title}", *best, "s", len(sums) == 1 if sums else None,
                     1.0 if name in ("read", "month") else None)


def main() -> None:
    """Print the tables, with the verdict on every ratio that has a limit."""
    with tempfile.TemporaryDirectory() as folder:
        table = compare(Path(folder))
    print("| what | lake | plain | ratio | limit | verdict |\n|---|---|---|---|---|---|")
    for row in table.itertuples():
        verdict = "" if np.isnan(row.limit) else "met" if row.ratio <= row.limit else "missed"
        print(f"| {row.what} | {row.lake:.4g} | {row.plain:.4g} | {row.ratio:.2f}x | {row.limit:g}x | "
              f"{verdict} |".replace("nanx", "").replace("nan", ""))
    print("\n| measure | value | bound | verdict |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder: beside(Path(folder))


if __name__ == "__main__":
    main()
