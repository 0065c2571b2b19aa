"""800 symbols x 13 years of daily bars in a zstd Parquet file: 14 rolling factors of it from the file on,
beside Arrow's read of the five columns that they need, Polars and Qlib; the whole alpha set."""

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from mlfin.features.table import compute_features
from mlfin.sources.sources import read_bars

FACTORS = [
    f"alpha_{name}"
    for name in (
        "ma_5 ma_20 ma_60 std_10 std_60 beta_20 beta_60 corr_10 corr_60 max_20 max_60 min_20 rank_10 rank_60"
    ).split()
]
NEEDED = ["symbol", "high", "low", "close", "volume"]
# times Arrow's read of the needed columns; times inputs and outputs; a peer's time over ours
BOUND, MEMORY_BOUND, LEAD = 5.0, 3.0, 3.0
PEERS = {"polars": 1e-9, "qlib": 1e-2}  # how far its factors may be from ours: Qlib's files hold float32
PYTHON = Path(__file__).resolve().parents[2] / ".bench/bin/python"
STEP = 97  # of the rows that are compared with a peer's
YEARS = 13


def panel(symbols: int, rows: int = YEARS * 252, seed: int = 7) -> pd.DataFrame:
    """A seeded random walk for each symbol, prices of two decimals, as a bars frame."""
    rng = np.random.default_rng(seed)
    n = symbols * rows
    close = (50 * np.exp(rng.normal(0, 0.01, (symbols, rows)).cumsum(axis=1))).clip(1).round(2).ravel()
    opens = (close * np.exp(rng.normal(0, 0.003, n))).round(2)
    high = (np.maximum(opens, close) + rng.integers(0, 100, n) / 100).round(2)
    low = (np.minimum(opens, close) - rng.integers(0, 30, n) / 100).clip(0.01).round(2)
    ts = pd.date_range("2008-01-01", periods=rows, freq="B", tz="UTC").as_unit("us")
    at = pd.DatetimeIndex(np.tile(ts.asi8, symbols).view("M8[us]")).tz_localize("UTC")
    names = np.repeat(np.array([f"S{i:04d}" for i in range(symbols)]), rows)
    return pd.DataFrame(
        {
            "symbol": pd.Series(names, dtype="str"),
            "timeframe": pd.Series(["1d"] * n, dtype="str"),
            "ts": at,
            "known_at": at + pd.Timedelta("1D"),
            "open": opens,
            "high": high,
            "low": low,
            "close": close,
            "volume": rng.integers(1_000, 5_000_000, n).astype(float),
        }
    )


def medians(functions: dict, rounds: int) -> dict[str, np.ndarray]:
    """Seconds of CPU and seconds by the clock of each; in turns, so that a busy machine is busy for all."""
    took = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            cpu, begin = time.process_time(), time.perf_counter()
            made = function()
            took[name].append((time.process_time() - cpu, time.perf_counter() - begin))
            del made
    return {name: np.median(seconds, axis=0) for name, seconds in took.items()}


def factors(path: Path, specs: list[str]) -> pd.DataFrame:
    """What a user calls: the bars of a file, and their features."""
    return compute_features(read_bars(path).bars, specs)


def peer(name: str, path: Path, ours: np.ndarray, rounds: int) -> tuple[list[float], float]:
    """Seconds of a peer's rounds, and how far its factors are from ours; inf where only one has a number."""
    sample = path.with_suffix(f".{name}.npy")
    script = Path(__file__).resolve().parent / "peers/peer_alpha.py"
    done = subprocess.run([str(PYTHON), str(script), name, str(path), str(sample), str(rounds)],
                          capture_output=True, text=True, check=True)
    line = next(json.loads(text) for text in done.stdout.splitlines() if text.startswith("{"))
    theirs = np.load(sample)
    # Qlib's windows begin with what there is
    both = ~np.isnan(ours) & ~np.isnan(theirs)
    whole = np.array_equal(np.isnan(ours) | ~np.isnan(theirs), np.ones_like(both))
    return line["seconds"], float(np.abs(ours - theirs)[both].max()) if whole else np.inf


def beside(path: Path, rounds: int = 3) -> None:
    """A row for each peer: the shortest of its rounds after the first over the shortest of ours."""
    print("| factors from the file, peer / ours | ratio | factors apart | bound | verdict |")
    print("|---|---|---|---|---|")
    if not PYTHON.is_file():
        for name in PEERS: print(f"| {name} | not measured: make bench | | {LEAD:g}x | |")
        return
    for name, bound in PEERS.items():
        sample = factors(path, FACTORS).iloc[::STEP, 4:].to_numpy()
        seconds, far = peer(name, path, sample, rounds)
        ours = []
        for _ in range(rounds):
            begin = time.perf_counter()
            factors(path, FACTORS)
            ours.append(time.perf_counter() - begin)
        for what, theirs in ((f"{name}, first", seconds[0]), (f"{name}, then", min(seconds[1:]))):
            ratio = theirs / min(ours)
            verdict = "met" if ratio >= LEAD and far <= bound else "missed"
            print(f"| {what} | {ratio:.2f}x ({theirs:.2f} / {min(ours):.2f} s) | {far:.0e}, "
                  f"{'equal' if far <= bound else 'NOT EQUAL'} | {LEAD:g}x | {verdict} |")


def peak(path: Path) -> float:
    """Peak memory of reading a file and computing the set, over what the bars and the table take; in a fresh
    process."""
    done = subprocess.run(
        [sys.executable, __file__, "--peak", str(path)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def _memory(what: str) -> int:
    """Bytes resident now (VmRSS) or at most so far (VmHWM), of this process."""
    return int(re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def _peak(path: str) -> None:
    """Print it; the imports and the compiled kernels are not counted."""
    warm = Path(path).with_name("warm.parquet")
    panel(2, 70).to_parquet(warm, compression="zstd", index=False)
    factors(warm, ["alpha"])
    held = _memory("VmRSS")
    bars = read_bars(path).bars
    table = compute_features(bars, ["alpha"])
    most = _memory("VmHWM")
    kept = int(bars.memory_usage(deep=True).sum() + table.memory_usage(deep=True).sum())
    print((most - held) / kept)


def measure(symbols: int = 800, few: int = 200) -> list[tuple[str, float, float]]:
    """Name, value and bound of each measure."""
    with tempfile.TemporaryDirectory() as folder:
        path, small = Path(folder) / "bars.parquet", Path(folder) / "small.parquet"
        panel(few).to_parquet(small, compression="zstd", index=False)
        bars = panel(symbols)
        bars.to_parquet(path, compression="zstd", index=False)
        compute_features(bars[:100], ["alpha"])
        print(f"{len(bars):,} rows of {symbols} symbols, {path.stat().st_size / 2**20:.0f} MiB zstd Parquet; "
              f"factors {' '.join(FACTORS)}")
        del bars
        took = medians({"read of five columns": lambda: pq.read_table(path, columns=NEEDED),
                        "bars": lambda: read_bars(path),
                        "factors": lambda: factors(path, FACTORS)}, rounds=9)
        took |= medians({"whole set": lambda: factors(path, ["alpha"])}, rounds=2)
        print("; ".join(f"{name} {cpu:.2f} s of CPU, {wall:.2f} s" for name, (cpu, wall) in took.items()),
              "\n")
        floor = took["read of five columns"]
        few_factors, whole = took["factors"] / floor, took["whole set"] / floor
        lines = [(f"read, 14 rolling factors / read of five columns, {symbols} symbols", few_factors[1],
                  BOUND),
                 ("the same, of CPU", few_factors[0], BOUND),
                 (f"read, the alpha set (158) / read of five columns, {symbols} symbols", whole[1], np.nan),
                 (f"peak memory of the alpha set / inputs and outputs, {few} symbols", peak(small),
                  MEMORY_BOUND)]
        beside(path)
        print()
        return lines


def main() -> None:
    """Print a table of measures, bounds and verdicts."""
    lines = measure()
    print("| measure | value | bound | verdict |\n|---|---|---|---|")
    for name, value, bound in lines:
        verdict = "" if np.isnan(bound) else "met" if value <= bound else "missed"
        print(f"| {name} | {value:.2f}x | {'' if np.isnan(bound) else f'{bound:.1f}x'} | {verdict} |")


if __name__ == "__main__":
    _peak(sys.argv[2]) if sys.argv[1:2] == ["--peak"] else main()
