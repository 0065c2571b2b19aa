"""The main job on many rows: seconds and peak memory of each task and of the whole tree of processes."""

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

MINUTES = 525_600  # of a year
# what is measured -> symbols, bars of each, step, first bar, GB and minutes that are allowed on two cores
SIZES = {
    "5 symbols, a year of minutes": (5, MINUTES, "1min", "2023-01-01", None, None),
    "10 symbols, a year of minutes": (10, MINUTES, "1min", "2023-01-01", None, None),
    "50 symbols, a year of minutes": (50, MINUTES, "1min", "2023-01-01", 12, 30),
    "3,000 symbols, 20 years of days": (3_000, 5_040, "1D", "2005-01-01", 12, None),
}
SLOPES = tuple(SIZES)[:2]  # the two sizes whose difference gives bytes and seconds a bar
MODELS = ("logistic", "lightgbm")


def symbol_bars(name: str, moments: pd.DatetimeIndex, rng: np.random.Generator, step: str) -> pd.DataFrame:
    """Bars of one symbol: a random walk in steps of a cent whose volatility comes in waves, with volumes that
    follow it and a few gaps."""
    n, scale = len(moments), {"1min": 6e-4, "1D": 2e-2}[step]
    calm = np.exp(np.cumsum(rng.normal(0, 0.02, n // 60 + 1)) * 0.5)
    width = scale * np.clip(np.repeat(calm, 60)[:n], 0.3, 3)
    walk = np.clip(np.cumsum(rng.normal(0, 1, n) * width), -1.5, 1.5)
    close = np.round(rng.uniform(50, 400) * np.exp(walk), 2)
    open_ = np.concatenate([close[:1], close[:-1]]) * (1 + rng.normal(0, 0.1, n) * width)
    open_ = np.round(open_, 2)
    high = np.round(np.maximum(open_, close) * (1 + np.abs(rng.normal(0, 0.5, n)) * width), 2)
    low = np.round(np.minimum(open_, close) * (1 - np.abs(rng.normal(0, 0.5, n)) * width), 2)
    volume = np.round(rng.lognormal(6, 0.8, n) * width / scale) + 1
    kept = np.ones(n, dtype=bool)
    for at in rng.integers(n // 10, n - 100, 4):
        kept[at : at + int(rng.integers(1, 60))] = False
    columns = dict(symbol=name, ts=moments, open=open_, high=high, low=low, close=close, volume=volume)
    return pd.DataFrame(columns)[kept]


def write_bars(path: Path, symbols: int, rows: int, step: str, first: str, seed: int = 7) -> int:
    """A Parquet file of seeded bars, a row group a symbol, one symbol in memory at a time; gives the rows."""
    moments, count = pd.date_range(first, periods=rows, freq=step, tz="UTC").as_unit("us"), 0
    frames = (symbol_bars(f"SYM{i:04d}", moments, np.random.default_rng([seed, i]), step)
              for i in range(symbols))
    out = None
    for frame in frames:
        table = pa.Table.from_pandas(frame, preserve_index=False)
        out = out or pq.ParquetWriter(path, table.schema, compression="zstd")
        out.write_table(table, row_group_size=len(frame))
        count += len(frame)
    out.close()
    return count


def own_bytes(pid: int) -> int:
    """Memory of a process; what it shares with others counts in parts (proportional set size)."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))


class Watch(threading.Thread):
    """Looks at a tree of processes four times a second: the peak of all, and of each kernel with what it
    starts. Kernels are forks of one process of the run, so they stand two steps below it."""

    def __init__(self, root: int):
        super().__init__(daemon=True)
        self.root, self.ended, self.peak = psutil.Process(root), threading.Event(), 0
        self.peaks, self.cpu, self.seen = defaultdict(int), defaultdict(dict), {}

    def run(self) -> None:
        while not self.ended.wait(0.25):
            sizes = defaultdict(int)
            try:
                self.look(self.root, (), sizes)
            except psutil.Error:
                continue
            self.peak = max(self.peak, sum(sizes.values()))
            for pid, size in sizes.items():
                self.peaks[pid] = max(self.peaks[pid], size)
                self.seen[pid] = (self.seen.get(pid, (time.time(),))[0], time.time())

    def look(self, process: psutil.Process, above: tuple, sizes: dict) -> None:
        """Add up a process and what is below it."""
        kernel = above[2] if len(above) > 2 else process.pid
        try:
            size, times = own_bytes(process.pid), process.cpu_times()
            children = process.children()
        except (OSError, psutil.Error, StopIteration):
            return
        sizes[kernel] += size
        self.cpu[kernel][process.pid] = times.user + times.system
        for child in children:
            self.look(child, (*above, process.pid), sizes)


def kernel_of(watch: Watch, begun: float, done: float) -> int:
    """The kernel that began and ended when a task did."""
    return min(watch.seen, key=lambda pid: abs(watch.seen[pid][0] - begun) + abs(watch.seen[pid][1] - done))


def measured_run(folder: Path, *words: str) -> tuple[dict, float, float]:
    """Run the main job: by task, seconds, seconds of CPU and GB of its kernel; GB of the tree; seconds."""
    begin, times = time.time(), defaultdict(dict)
    process = subprocess.Popen([sys.executable, "-u", "-c", MLFIN, "run", "--cpu", *words], cwd=folder,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    watch, told = Watch(process.pid), []
    watch.start()
    for line in process.stdout:
        told.append(line)
        parts = line.split()
        if parts[:1] == ["done"]:
            times[parts[1]]["done"] = time.time()
        elif parts[1:] == ["..."]:
            times[parts[0]]["begun"] = time.time()
    code = process.wait()
    watch.ended.set()
    watch.join()
    tasks = {}
    for name, t in times.items():
        pid = kernel_of(watch, t["begun"], t.get("done", time.time()))
        took = t.get("done", time.time()) - t["begun"]
        tasks[name] = (took, sum(watch.cpu[pid].values()), watch.peaks[pid] / 1e9)
    if code:
        print("".join(told), tasks, f"tree {watch.peak / 1e9:.2f} GB", file=sys.stderr)
        raise SystemExit("".join(told))
    return tasks, watch.peak / 1e9, time.time() - begin


def words_of(path: Path, symbols: int, step: str) -> list[str]:
    """What the main job is asked."""
    names = ",".join(f"SYM{i:04d}" for i in range(symbols))
    asked = {"source": "parquet", "path": path, "symbols": f"[{names}]", "calendar": "24/7",
             "timeframe": {"1min": "1m", "1D": "1d"}[step], "models": f"[{', '.join(MODELS)}]"}
    return [word for key, value in asked.items() for word in ("-p", f"{key}={value}")]


def measure(place: Path, size: str) -> tuple[int, dict]:
    """Make the bars of a size and run the main job on them; prints the rows of its table."""
    symbols, rows, step, first, most, minutes = SIZES[size]
    folder, path = project(place / f"{symbols}"), place / f"bars_{symbols}.parquet"
    count = write_bars(path, symbols, rows, step, first)
    tasks, peak, took = measured_run(folder, *words_of(path, symbols, step))
    for name, (seconds, cpu, own) in tasks.items():
        print(f"| {size}: {name} | {seconds:.0f} s, {cpu:.0f} s of CPU, {own:.2f} GB | | |")
    verdict = "" if most is None else "met" if peak <= most else "missed"
    print(f"| {size}, {count:,} bars: peak of all processes | {peak:.2f} GB | "
          f"{'' if most is None else f'{most} GB'} | {verdict} |")
    verdict = "" if minutes is None else "met" if took <= 60 * minutes else "missed"
    print(f"| {size}: the whole run | {took / 60:.1f} min | {'' if minutes is None else f'{minutes} min'} | "
          f"{verdict} |", flush=True)
    return count, tasks


def slopes(small: tuple[int, dict], large: tuple[int, dict]) -> None:
    """Print what each further bar costs, from two sizes."""
    more = large[0] - small[0]
    for name, (_, cpu, own) in large[1].items():
        _, before, least = small[1][name]
        print(f"| a bar more: {name} | {(own - least) * 1e9 / more:.0f} bytes, "
              f"{(cpu - before) * 1e6 / more:.1f} microseconds of CPU | | |")


def main(*sizes: str) -> None:
    """Print the rows of the sizes, all of `SIZES` where none is given."""
    found = {}
    with tempfile.TemporaryDirectory() as place:
        for size in sizes or SIZES:
            found[size] = measure(Path(place), size)
            if size == SLOPES[1] and SLOPES[0] in found:
                slopes(*(found[s] for s in SLOPES))


if __name__ == "__main__":
    main(*sys.argv[1:])
