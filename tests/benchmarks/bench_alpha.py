"""800 symbols x 13 years of daily bars in a zstd Parquet file: reading it, 14 rolling factors of it, the
whole alpha set."""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from mlfin.features.table import compute_features

FACTORS = [
    f"alpha_{name}"
    for name in (
        "ma_5 ma_20 ma_60 std_10 std_60 beta_20 beta_60 corr_10 corr_60 max_20 max_60 min_20 rank_10 rank_60"
    ).split()
]
BOUND, MEMORY_BOUND = 8.0, 3.0  # times reading the file; times inputs and outputs
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


def best(functions: dict, rounds: int) -> dict[str, float]:
    """Shortest of several runs of each, in seconds; in turns, so that a busy machine is busy for all of
    them."""
    took = {name: float("inf") for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            took[name] = min(took[name], time.perf_counter() - begin)
    return took


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
    compute_features(panel(2, 70), ["alpha"])
    held = _memory("VmRSS")
    bars = pd.read_parquet(path)
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
        took = best({"read": lambda: pd.read_parquet(path),
                     "factors": lambda: compute_features(pd.read_parquet(path), FACTORS)}, rounds=7)
        took |= best({"whole": lambda: compute_features(pd.read_parquet(path), ["alpha"])}, rounds=2)
        print(", ".join(f"{name} {seconds:.2f} s" for name, seconds in took.items()), "\n")
        return [
            (
                f"read and compute 14 rolling factors / only read, {symbols} symbols",
                took["factors"] / took["read"],
                BOUND,
            ),
            (
                f"read and compute the alpha set (158) / only read, {symbols} symbols",
                took["whole"] / took["read"],
                np.nan,
            ),
            (f"peak memory of the alpha set / inputs and outputs, {few} symbols", peak(small), MEMORY_BOUND),
        ]


def main() -> None:
    """Print a table of measures, bounds and verdicts."""
    lines = measure()
    print("| measure | value | bound | verdict |\n|---|---|---|---|")
    for name, value, bound in lines:
        verdict = "" if np.isnan(bound) else "met" if value <= bound else "missed"
        print(f"| {name} | {value:.2f}x | {'' if np.isnan(bound) else f'{bound:.1f}x'} | {verdict} |")


if __name__ == "__main__":
    _peak(sys.argv[2]) if sys.argv[1:2] == ["--peak"] else main()
