"""Bars kept by others: ArcticDB (LMDB), a Parquet file (zstd, level 3), and DuckDB that reads such a file.

    peer_lake.py arctic|parquet|duckdb FOLDER    FOLDER holds bars.parquet, and batch0.parquet and so on
"""
import json
import shutil
import sys
import time
from pathlib import Path

import pandas as pd
from checksum import of_bars

SYMBOL, BEGIN, END = "SYM05", pd.Timestamp("2023-06-01", tz="UTC"), pd.Timestamp("2023-07-01", tz="UTC")


class Arctic:
    """A symbol's bars under its name, indexed by time, as ArcticDB's own guide has it."""
    def __init__(self, folder: Path):
        import arcticdb

        shutil.rmtree(folder / "arctic", ignore_errors=True)
        (folder / "arctic").mkdir()
        made = arcticdb.Arctic(f"lmdb://{folder / 'arctic'}?map_size=4GB")
        self.library = made.create_library("bars")

    def parts(self, bars: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
        columns = [c for c in bars if c not in ("symbol", "timeframe")]
        return [(name, part[columns].set_index("ts")) for name, part in bars.groupby("symbol", sort=False)]

    def write(self, bars: pd.DataFrame) -> None:
        from arcticdb import WritePayload

        self.library.write_batch([WritePayload(name, part) for name, part in self.parts(bars)])

    def frame(self, found: list) -> pd.DataFrame:
        return pd.concat([one.data.reset_index().assign(symbol=one.symbol) for one in found],
                         ignore_index=True)

    def read(self) -> pd.DataFrame: return self.frame(self.library.read_batch(self.library.list_symbols()))

    def month(self) -> pd.DataFrame:
        last = END - pd.Timedelta(microseconds=1)
        return self.frame([self.library.read(SYMBOL, date_range=(BEGIN, last))])

    def batch(self, bars: pd.DataFrame) -> None:
        for name, part in self.parts(bars): self.library.update(name, part)


class Parquet:
    """One file, rewritten as a whole; a batch is one more file, and nobody resolves what it revises."""
    def __init__(self, folder: Path): self.folder, self.file, self.count = folder, folder / "zstd3.parquet", 0

    def write(self, bars: pd.DataFrame) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pandas(bars, preserve_index=False)
        pq.write_table(table, self.file, compression="zstd", compression_level=3)

    def read(self) -> pd.DataFrame:
        import pyarrow.parquet as pq
        return pq.read_table(self.file).to_pandas()

    def month(self) -> pd.DataFrame:
        import pyarrow.parquet as pq
        return pq.read_table(self.file, filters=[("symbol", "==", SYMBOL), ("ts", ">=", BEGIN),
                                                 ("ts", "<", END)]).to_pandas()

    def batch(self, bars: pd.DataFrame) -> None:
        self.count += 1
        bars.to_parquet(self.folder / f"more{self.count}.parquet", compression="zstd", index=False)


class DuckDB(Parquet):
    """DuckDB reads what `Parquet` wrote."""
    batch = None

    def ask(self, where: str = "") -> pd.DataFrame:
        import duckdb

        db = duckdb.connect()
        db.execute("SET TimeZone = 'UTC'")
        return db.execute(f"SELECT * FROM read_parquet('{self.file}') {where}").df()

    def read(self) -> pd.DataFrame: return self.ask()
    def month(self) -> pd.DataFrame:
        return self.ask(f"WHERE symbol = '{SYMBOL}' AND ts >= TIMESTAMPTZ '{BEGIN}' "
                        f"AND ts < TIMESTAMPTZ '{END}'")


def timed(call) -> tuple[float, object]:
    """Seconds of a call, and what it gave."""
    begin = time.perf_counter()
    found = call()
    return time.perf_counter() - begin, found


def main(kind: str, folder: Path) -> None:
    """Print a line for each measure."""
    bars = pd.read_parquet(folder / "bars.parquet")
    found: dict[str, list] = {"write": [], "read": [], "month": []}
    sums = {}
    for _ in range(2):  # anew each time
        store = {"arctic": Arctic, "parquet": Parquet, "duckdb": DuckDB}[kind](folder)
        found["write"].append(timed(lambda store=store: store.write(bars))[0])
    for name, times in (("read", 2), ("month", 5)):
        for _ in range(times):
            seconds, frame = timed(getattr(store, name))
            found[name].append(seconds)
        sums[name] = of_bars(frame)
    if store.batch is not None:
        work = [pd.read_parquet(file) for file in sorted(folder.glob("batch*.parquet"))]
        found["batch"] = [timed(lambda some=some: store.batch(some))[0] for some in work]
        if kind == "arctic": sums["batch"] = of_bars(store.read())
    for name, seconds in found.items():
        print(json.dumps({"name": name, "seconds": seconds, "checksum": sums.get(name)}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
