"""Quality of 5,000,000 one-minute bars of 10 symbols beside a zstd Parquet write of the same rows by
pyarrow."""

import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mlfin.quality.cleaning import clean
from mlfin.quality.quality import quality_report

BOUND = 2.0  # times the write


def panel(symbols: int = 10, rows: int = 500_000, seed: int = 7) -> pd.DataFrame:
    """Seeded one-minute bars with prices of two decimals and a few faults, as a bar frame."""
    rng = np.random.default_rng(seed)
    close = (100 * np.exp(rng.normal(0, 0.0005, (symbols, rows)).cumsum(axis=1))).round(2).ravel()
    opens = np.concatenate([close[:1], close[:-1]])
    opens[::rows] = close[::rows]
    wick = rng.integers(0, 6, (2, len(close))) / 100
    high, low = np.maximum(opens, close) + wick[0], np.minimum(opens, close) - wick[1]
    faults = rng.choice(len(close), 30, replace=False)
    high[faults[:10]] *= 1000
    low[faults[10:20]] = -1.0
    ts = pd.date_range("2024-01-01", periods=rows, freq="min", tz="UTC").as_unit("us")
    at = pd.DatetimeIndex(np.tile(ts.asi8, symbols).view("M8[us]")).tz_localize("UTC")
    names = np.repeat(np.array([f"S{i:04d}" for i in range(symbols)]), rows)
    return pd.DataFrame(
        {
            "symbol": pd.Series(names, dtype="str"),
            "timeframe": pd.Series(["1m"] * len(close), dtype="str"),
            "ts": at,
            "known_at": at + pd.Timedelta("1min"),
            "open": opens,
            "high": high,
            "low": low,
            "close": close,
            "volume": rng.integers(1, 10_000, len(close)).astype(float),
        }
    )


def best(functions: dict, rounds: int = 5) -> dict[str, float]:
    """Shortest of several runs of each, in seconds; in turns, so that a busy machine is busy for all of
    them."""
    took = {name: float("inf") for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            took[name] = min(took[name], time.perf_counter() - begin)
    return took


def measure(symbols: int = 10, rows: int = 500_000) -> list[tuple[str, float, float]]:
    """Name, value and bound of each measure."""
    bars = panel(symbols, rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bars.parquet"
        took = best(
            {
                "write": lambda: pq.write_table(
                    pa.Table.from_pandas(bars, preserve_index=False), path, compression="zstd"
                ),
                "report": lambda: quality_report(bars, "24/7"),
                "clean": lambda: clean(bars, "24/7"),
            }
        )
    print(
        f"{len(bars):,} bars:", ", ".join(f"{name} {seconds:.2f} s" for name, seconds in took.items()), "\n"
    )
    return [("quality report / Parquet write", took["report"] / took["write"], BOUND),
            ("clean / Parquet write", took["clean"] / took["write"], float("nan"))]


def main() -> None:
    """Print a table of measures, bounds and verdicts."""
    lines = measure()
    print("| measure | value | bound | verdict |\n|---|---|---|---|")
    for name, value, bound in lines:
        verdict = "" if np.isnan(bound) else "met" if value <= bound else "missed"
        print(f"| {name} | {value:.2f}x | {'' if np.isnan(bound) else f'{bound:.1f}x'} | {verdict} |")


if __name__ == "__main__":
    main()
