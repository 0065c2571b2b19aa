"""Twelve features on 1,000,000 rows of one symbol and 500 x 2,600: compute_features beside a bare loop over
TA-Lib, in one run."""

import time
import tracemalloc
from functools import partial

import numpy as np
import pandas as pd
import talib

from mlfin.features.table import compute_features

SPECS = ("rsi_14 macd_12_26_9 mom_14 sma_20 ema_50 bbands_20_2 atr_14 historical_vol_21 returns log_returns "
         "volume_ma_20 obv").split()
COLUMNS = 16
BOUND, MEMORY_BOUND = 1.3, 3.0  # times the loop; times inputs and outputs


def panel(symbols: int, rows: int, seed: int = 7) -> pd.DataFrame:
    """A seeded random walk for each symbol, as a bars frame."""
    rng = np.random.default_rng(seed)
    n = symbols * rows
    close = 100 * np.exp(rng.normal(0, 0.01, (symbols, rows)).cumsum(axis=1)).ravel()
    ts = pd.date_range("2000-01-01", periods=rows, freq="min", tz="UTC").as_unit("us")
    at = pd.DatetimeIndex(np.tile(ts.asi8, symbols).view("M8[us]")).tz_localize("UTC")
    names = np.repeat(np.array([f"S{i:04d}" for i in range(symbols)]), rows)
    return pd.DataFrame(
        dict(
            symbol=pd.Series(names, dtype="str"),
            timeframe=pd.Series(["1m"] * n, dtype="str"),
            ts=at,
            known_at=at + pd.Timedelta("1min"),
            open=close,
            high=close * 1.001,
            low=close * 0.999,
            close=close,
            volume=rng.integers(1, 10_000, n).astype(float),
        )
    )


def bare(bars: pd.DataFrame, rows: int) -> np.ndarray:
    """The same numbers by a loop over TA-Lib on arrays: no checks, no names, no frame."""
    h, low, c, v = (np.ascontiguousarray(bars[x].to_numpy()) for x in ("high", "low", "close", "volume"))
    out = np.empty((COLUMNS, len(c)))
    for a in range(0, len(c), rows):
        b = slice(a, a + rows)
        log = np.full(rows, np.nan)
        log[1:] = np.log(c[b][1:] / c[b][:-1])
        results = [
            talib.RSI(c[b], 14),
            *talib.MACD(c[b], 12, 26, 9),
            talib.MOM(c[b], 14),
            talib.SMA(c[b], 20),
            talib.EMA(c[b], 50),
            *talib.BBANDS(c[b], 20, 2.0, 2.0),
            talib.ATR(h[b], low[b], c[b], 14),
            talib.STDDEV(log, 21, 1.0),
            talib.ROCP(c[b], 1),
            log,
            talib.SMA(v[b], 20),
            talib.OBV(c[b], v[b]),
        ]
        for row, values in zip(out, results, strict=True):
            row[b] = values
    return out


def best(functions: dict, rounds: int = 9) -> dict[str, float]:
    """Shortest of several runs of each, in seconds; in turns, so that a busy machine is busy for all of
    them."""
    took = {name: float("inf") for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            took[name] = min(took[name], time.perf_counter() - begin)
    return took


def peak(bars: pd.DataFrame) -> float:
    """Most memory held at once beside the bars, plus the bars, over bars and table together."""
    tracemalloc.start()
    compute_features(bars, SPECS)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    held = bars.memory_usage(index=False).sum()
    return (held + most) / (held + 8 * COLUMNS * len(bars))


def copied(bars: pd.DataFrame) -> np.ndarray:
    """What memory alone takes: the inputs read, as many columns as the outputs written."""
    inputs, out = (
        [bars[c].to_numpy() for c in ("high", "low", "close", "volume")],
        np.empty((COLUMNS, len(bars))),
    )
    for i, row in enumerate(out):
        row[:] = inputs[i % 4]
    return out


def main() -> None:
    """Print both shapes of the panel."""
    for symbols, rows in ((1, 1_000_000), (500, 2_600)):
        bars = panel(symbols, rows)
        table = compute_features(bars, SPECS)
        assert len(table.columns) == 4 + COLUMNS
        took = best(
            {
                "ours": partial(compute_features, bars, SPECS),
                "loop": partial(bare, bars, rows),
                "copy": partial(copied, bars),
            }
        )
        ratio, memory = took["ours"] / took["loop"], peak(bars)
        print(f"{symbols:>4} x {rows:>9,}: compute_features {took['ours'] * 1e3:6.1f} ms, bare loop "
              f"{took['loop'] * 1e3:6.1f} ms, "
              f"ratio {ratio:.2f} (bound {BOUND}); memory copy {took['copy'] * 1e3:.1f} ms, ratio to it "
              f"{took['ours'] / took['copy']:.1f}; "
              f"peak memory {memory:.2f} x inputs and outputs (bound {MEMORY_BOUND:g}): "
              f"{'met' if ratio <= BOUND and memory <= MEMORY_BOUND else 'missed'}")


if __name__ == "__main__":
    main()
