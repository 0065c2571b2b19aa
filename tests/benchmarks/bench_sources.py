"""What reading a CSV into bars costs beside pyarrow.csv reading the same bytes into a table."""

import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.csv

from mlfin.sources.sources import read_bars

ROWS, BOUND = 500_000, 1.5


def write(path: Path, rows: int, stamp: str = "%Y-%m-%d %H:%M:%S", **how) -> Path:
    """Seeded one-minute bars as a CSV."""
    draw = np.random.default_rng(0)
    close = (100 + np.cumsum(draw.normal(0, 0.01, rows))).round(2)
    ts = pd.Series(pd.date_range("2020-01-01", periods=rows, freq="min"))
    text = ts.astype("datetime64[ms]").astype("int64") if stamp == "ms" else ts.dt.strftime(stamp)
    frame = {"timestamp": text, "open": close, "high": close + 1, "low": close - 1, "close": close}
    frame["volume"] = draw.integers(1, 1000, rows)
    pd.DataFrame(frame).round(2).to_csv(path, index=False, **how)
    return path


def seconds(calls: list, rounds: int) -> list[float]:
    """The best time of each call; they take turns, because the machine has other work."""
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for i, call in enumerate(calls):
            begin = time.perf_counter()
            call()
            best[i] = min(best[i], time.perf_counter() - begin)
    return best


def main(rows: int = ROWS) -> None:
    """Print the figures."""
    print(
        f"{rows:,} one-minute bars of one symbol\n\n| measure | value | bound | verdict |\n|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, stamp, how, bound in (
            ("ISO times", "%Y-%m-%d %H:%M:%S", {}, BOUND),
            ("epoch milliseconds", "ms", {}, BOUND),
            (
                "day-first times, semicolons, decimal commas",
                "%d.%m.%Y %H:%M:%S",
                {"sep": ";", "decimal": ","},
                None,
            ),
        ):
            path = write(Path(folder) / f"{len(name)}.csv", rows, stamp, **how)
            parse = pyarrow.csv.ParseOptions(delimiter=how.get("sep", ","))
            arrow = partial(pyarrow.csv.read_csv, path, parse_options=parse)
            bars = partial(read_bars, path, symbol="COIN", timeframe="1m", tz="UTC")
            ours, table, frame = seconds(
                [bars, arrow, lambda arrow=arrow: arrow().to_pandas()], 15 if bound else 2
            )
            for what, other, limit in (("to pandas", frame, bound), ("alone", table, None)):
                ratio = ours / other
                verdict = "-" if limit is None else "met" if ratio <= limit else "missed"
                figures = f"{ratio:.2f} x ({ours * 1e3:.0f} / {other * 1e3:.0f} ms)"
                print(f"| read_bars / pyarrow.csv {what}, {name} | {figures} | "
                      f"{f'{limit} x' if limit else '-'} | {verdict} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
