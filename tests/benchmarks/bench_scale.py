"""The main job on many rows: seconds and peak memory of each task, over the whole tree of processes."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from bench_run import MLFIN, project

TASKS = ("ingest", "features", "train", "compare", "backtest", "publish")
LIMIT_GB, LIMIT_MINUTES = 12, 30  # of the main job on 50 symbols x a year of minutes, two cores
# rows of the tables: what is measured, symbols, bars of each, step, calendar, first bar, words for `mlfin run`
SIZES = {
    "minutes, 5 symbols": (5, 525_600, "1min", "24/7", "2023-01-01", ()),
    "minutes, 10 symbols": (10, 525_600, "1min", "24/7", "2023-01-01", ()),
    "minutes, 50 symbols": (50, 525_600, "1min", "24/7", "2023-01-01", ()),
    "days, 3,000 symbols x 20 years": (3_000, 5_040, "1D", "24/7", "2005-01-01", ()),
}


def symbol_bars(name: str, moments: pd.DatetimeIndex, rng: np.random.Generator, step: str) -> pd.DataFrame:
    """Bars of one symbol: a random walk whose volatility comes in waves, in steps of a cent, volumes that
    follow it, and a few gaps."""
    n, scale = len(moments), {"1min": 6e-4, "1D": 2e-2}[step]
    calm = np.exp(np.cumsum(rng.normal(0, 0.02, n // 60 + 1)) * 0.5)
    width = scale * np.clip(np.repeat(calm, 60)[:n], 0.3, 3)
    price = rng.uniform(50, 400) * np.exp(np.clip(np.cumsum(rng.normal(0, 1, n) * width), -1.5, 1.5))
    close = np.round(price, 2)
    open_ = np.round(np.concatenate([close[:1], close[:-1]]) * (1 + rng.normal(0, 0.1, n) * width), 2)
    high = np.round(np.maximum(open_, close) * (1 + np.abs(rng.normal(0, 0.5, n)) * width), 2)
    low = np.round(np.minimum(open_, close) * (1 - np.abs(rng.normal(0, 0.5, n)) * width), 2)
    volume = np.round(rng.lognormal(6, 0.8, n) * width / scale) + 1
    kept = np.ones(n, dtype=bool)
    for at in rng.integers(n // 10, n - 100, 4): kept[at:at + int(rng.integers(1, 60))] = False
    frame = pd.DataFrame({"symbol": name, "ts": moments, "open": open_, "high": high, "low": low,
                          "close": close, "volume": volume})
    return frame[kept]


def write_bars(path: Path, symbols: int, rows: int, step: str, first: str, seed: int = 7) -> int:
    """A Parquet file of seeded bars, a row group a symbol; returns the rows."""
    moments, count, out = pd.date_range(first, periods=rows, freq=step, tz="UTC").as_unit("us"), 0, None
    for i in range(symbols):
        frame = symbol_bars(f"SYM{i:04d}", moments, np.random.default_rng([seed, i]), step)
        table = pa.Table.from_pandas(frame, preserve_index=False)
        out = out or pq.ParquetWriter(path, table.schema, compression="zstd")
        out.write_table(table, row_group_size=len(frame))
        count += len(frame)
    out.close()
    return count


def own_bytes(process: psutil.Process) -> int:
    """Memory of a process; what it shares with others counts in parts (proportional set size)."""
    with open(f"/proc/{process.pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))


class Watch(threading.Thread):
    """Looks at a tree of processes four times a second: the peak of all, and of each task's kernel."""

    def __init__(self, root: int):
        super().__init__(daemon=True)
        self.root, self.ended, self.peak = psutil.Process(root), threading.Event(), 0
        self.peaks, self.cpu, self.born = defaultdict(int), {}, {}
        self.series = defaultdict(list)

    def run(self) -> None:
        while not self.ended.wait(0.25):
            total = 0
            try: tree = [self.root, *self.root.children(recursive=True)]
            except psutil.Error: return
            for process in tree:
                try: size, times, born = own_bytes(process), process.cpu_times(), process.create_time()
                except (OSError, psutil.Error, StopIteration): continue
                total += size
                self.series[process.pid].append((time.time(), size))
                self.peaks[process.pid] = max(self.peaks[process.pid], size)
                self.cpu[process.pid], self.born[process.pid] = times.user + times.system, born
            self.peak = max(self.peak, total)


def measured_run(folder: Path, *words: str) -> tuple[pd.DataFrame, int, float]:
    """Run the main job: by task, seconds of wall and CPU and peak bytes of its kernel; the peak of the tree;
    seconds in all."""
    begin, told = time.perf_counter(), []
    process = subprocess.Popen([sys.executable, "-u", "-c", MLFIN, "run", "--cpu", *words], cwd=folder,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    watch = Watch(process.pid)
    watch.start()
    for line in process.stdout:
        told.append((time.time(), line.rstrip()))
        print(f"{time.perf_counter() - begin:7.1f} {line.rstrip()}", file=sys.stderr, flush=True)
    code = process.wait()
    watch.ended.set()
    watch.join()
    for pid in sorted(watch.peaks, key=watch.born.get):
        print(pid, f"born {watch.born[pid] - told[0][0]:.1f}", f"{watch.peaks[pid] / 2**20:.0f} MiB", f"{watch.cpu[pid]:.1f} s CPU", file=sys.stderr)
    import json; json.dump(watch.series, open(f'{folder}.timeline.json', 'w'))
    if code: raise SystemExit("\n".join(line for _, line in told))
    return None, watch.peak, time.perf_counter() - begin


if __name__ == "__main__":
    place = Path(sys.argv[1]); n = int(sys.argv[2])
    folder = place / f"p{n}"
    if not folder.exists(): project(folder)
    data = place / f"bars{n}.parquet"
    if not data.exists(): print(write_bars(data, n, 525_600, "1min", "2023-01-01"))
    _, peak, took = measured_run(folder, "-p", "source=parquet", "-p", f"path={data}", "-p", "symbols=[" + ",".join(f"SYM{i:04d}" for i in range(n)) + "]", "-p", "timeframe=1m", "-p", "models=[logistic, lightgbm]", *sys.argv[3:])
    print(f"peak {peak / 2**20:.0f} MiB, {took:.0f} s")
