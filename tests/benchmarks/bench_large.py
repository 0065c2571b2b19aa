"""The default question on 500 symbols and ten years of daily bars: seconds and memory of all processes,
and the seconds of each task."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from bench_run import MLFIN, project

from mlfin.market.calendars import sessions

SECONDS, MEGABYTES = 100.0, 3072.0
SYMBOLS, DAYS = 500, 2520


def bars(symbols: int = SYMBOLS, days: int = DAYS, seed: int = 7) -> pd.DataFrame:
    """Seeded random walks on the sessions of XNYS; volume is large where the price moves."""
    rng = np.random.default_rng(seed)
    opens = pd.DatetimeIndex(sessions("XNYS", "2013-01-01", "2024-06-30").open)
    frames = []
    for number in range(symbols):
        move = rng.normal(0.0003, 0.018, days)
        close = rng.uniform(10, 200) * np.exp(np.cumsum(move))
        first = np.r_[close[0], close[:-1]] * np.exp(rng.normal(0, 0.004, days))
        wide = np.exp(np.abs(rng.normal(0, 0.006, (2, days))))
        frame = {
            "ts": opens[:days],
            "symbol": f"S{number:03}",
            "open": first,
            "high": np.maximum(first, close) * wide[0],
            "low": np.minimum(first, close) / wide[1],
            "close": close,
            "volume": np.exp(rng.normal(14, 0.5, days) + 20 * np.abs(move)).round(),
        }
        frames.append(pd.DataFrame(frame))
    return pd.concat(frames, ignore_index=True).round({"open": 2, "high": 2, "low": 2, "close": 2})


def own_memory(process: psutil.Process) -> float:
    """MB of a process and those it started; pages that several of them share are counted once."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            said = Path(f"/proc/{one.pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it ended meanwhile
        total += sum(int(line.split()[1]) for line in said if line.startswith("Pss:")) / 1024
    return total


def run(folder: Path, names: list[str]) -> tuple[float, float, dict[str, float]]:
    """Seconds of `mlfin run`, the most memory its processes had together, and seconds of each task."""
    words = ["run", "--cpu", "--events", "events.jsonl", "-p", "source=parquet", "-p", "path=bars.parquet",
             "-p", "calendar=XNYS", "-p", f"symbols=[{','.join(names)}]"]  # fmt: skip
    begun, peak = time.perf_counter(), 0.0
    with open(folder / "said.txt", "w") as said:
        command = [sys.executable, "-c", MLFIN, *words]
        started = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)
        process = psutil.Process(started.pid)
        while started.poll() is None:
            try:
                peak = max(peak, own_memory(process))
            except psutil.NoSuchProcess:
                break
            time.sleep(0.25)
        if started.wait():
            raise SystemExit((folder / "said.txt").read_text())
    told = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    tasks = {e["task"]: e["seconds"] for e in told if e["kind"] == "done" and e["task"]}
    return time.perf_counter() - begun, peak, tasks


def main(symbols: int = SYMBOLS, days: int = DAYS) -> None:
    """Print the measures, their bounds and verdicts."""
    with tempfile.TemporaryDirectory() as place:
        folder, table = project(Path(place)), bars(symbols, days)
        table.to_parquet(folder / "bars.parquet")
        seconds, peak, tasks = run(folder, list(table["symbol"].unique()))
    print(f"{len(table):,} bars of {symbols} symbols, the default question\n")
    print("| measure | value | bound | verdict |\n|---|---|---|---|")
    print(f"| `mlfin run`, everything anew | {seconds:.0f} s | {SECONDS:.0f} s | "
          f"{'met' if seconds <= SECONDS else 'missed'} |")  # fmt: skip
    print(f"| most memory of all its processes | {peak:,.0f} MB | {MEGABYTES:,.0f} MB | "
          f"{'met' if peak <= MEGABYTES else 'missed'} |")  # fmt: skip
    for task, took in tasks.items():
        print(f"| {task} | {took:.0f} s |  |  |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
