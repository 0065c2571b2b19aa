"""The factors of bench_alpha.py by others, from the file that it made.

    peer_alpha.py polars|qlib BARS.parquet SAMPLE.npy ROUNDS

Prints a JSON line {"name": ..., "seconds": [...], "cpu": [...], "checksum": ...} a measure, and leaves every
97th row of the factors in SAMPLE.npy, which bench_alpha.py compares with ours.
"""
import hashlib
import json
import sys
import time
from pathlib import Path

import numpy as np

WINDOWS = {"ma": (5, 20, 60), "std": (10, 60), "beta": (20, 60), "corr": (10, 60), "max": (20, 60),
           "min": (20,), "rank": (10, 60)}
FIELDS = {"ma": "Mean($close, {n})/$close", "std": "Std($close, {n})/$close",
          "beta": "Slope($close, {n})/$close", "corr": "Corr($close, Log($volume+1), {n})",
          "max": "Max($high, {n})/$close", "min": "Min($low, {n})/$close", "rank": "Rank($close, {n})"}
STEP = 97


def of_polars(path: str):
    """A call that reads the file and computes the factors; and what makes an array of its result."""
    import polars as pl

    close, t = pl.col("close"), pl.int_range(pl.len()).cast(pl.Float64)

    def slope(n):
        sums = (t * close).rolling_sum(n) - (t - (n - 1) / 2) * close.rolling_sum(n)
        return sums / (n * (n * n - 1) / 12) / close

    made = {"ma": lambda n: close.rolling_mean(n) / close, "std": lambda n: close.rolling_std(n) / close,
            "beta": slope,
            "corr": lambda n: pl.rolling_corr(close, (pl.col("volume") + 1).log(), window_size=n),
            "max": lambda n: pl.col("high").rolling_max(n) / close,
            "min": lambda n: pl.col("low").rolling_min(n) / close,
            "rank": lambda n: close.rolling_rank(n, method="average") / n}
    factors = [made[name](n).over("symbol").alias(f"{name}_{n}") for name, ns in WINDOWS.items() for n in ns]
    columns = ["symbol", "ts", "high", "low", "close", "volume"]
    return (lambda: pl.read_parquet(path, columns=columns).select("symbol", "ts", *factors),
            lambda table: table.drop("symbol", "ts").to_numpy())


def qlib_files(path: str, folder: Path) -> list[str]:
    """The bars in Qlib's own files; the names of the symbols. They take float32."""
    import pandas as pd

    bars = pd.read_parquet(path, columns=["symbol", "ts", "high", "low", "close", "volume"])
    days = pd.DatetimeIndex(bars.ts.unique()).sort_values().strftime("%Y-%m-%d")
    for name in ("calendars", "instruments"): (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "calendars/day.txt").write_text("\n".join(days) + "\n")
    names = bars.symbol.unique().tolist()
    span = f"{days[0]}\t{days[-1]}"
    (folder / "instruments/all.txt").write_text("".join(f"{name}\t{span}\n" for name in names))
    for name, own in bars.groupby("symbol", sort=False):
        (folder / "features" / name.lower()).mkdir(parents=True, exist_ok=True)
        for c in ("high", "low", "close", "volume"):
            values = np.concatenate(([0.0], own[c].to_numpy())).astype("<f4")
            values.tofile(folder / "features" / name.lower() / f"{c}.day.bin")
    return names


def of_qlib(path: str):
    """As `of_polars`; from Qlib's own files, which are made here and not timed."""
    import qlib
    from qlib.data import D

    folder = Path(path).with_suffix(".qlib")
    names = qlib_files(path, folder)
    qlib.init(provider_uri=str(folder), logging_level=40)
    fields = [FIELDS[name].format(n=n) for name, ns in WINDOWS.items() for n in ns]
    return lambda: D.features(names, fields, freq="day"), lambda table: table.to_numpy()


def main(kind: str, path: str, sample: str, rounds: str) -> None:
    """Print a line, and leave the sample."""
    call, array = {"polars": of_polars, "qlib": of_qlib}[kind](path)
    seconds, cpu, table = [], [], None
    for _ in range(int(rounds)):
        del table
        used, begin = time.process_time(), time.perf_counter()
        table = call()
        seconds.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - used)
    some = np.ascontiguousarray(array(table)[::STEP], dtype=np.float64)
    np.save(sample, some)
    checksum = hashlib.sha256(np.round(some, 6).tobytes()).hexdigest()[:16]
    print(json.dumps({"name": kind, "seconds": seconds, "cpu": cpu, "checksum": checksum}))


if __name__ == "__main__":
    main(*sys.argv[1:])
