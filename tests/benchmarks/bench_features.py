"""Twelve features on 1,000,000 rows of one symbol and 500 x 2,600: compute_features beside a loop over TA-Lib
that puts each result into its place at once, in one run; equal to 1e-9."""

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
BOUND, MEMORY_BOUND = 0.9, 3.0  # times the loop; times inputs and outputs


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


def loop(bars: pd.DataFrame, rows: int) -> np.ndarray:
    """The same numbers by a loop over TA-Lib on arrays: no checks, no names, no frame; each result goes into
    its place at once, so that its memory is used again."""
    h, low, c, v = (bars[x].to_numpy() for x in ("high", "low", "close", "volume"))
    out, sample = np.empty((COLUMNS, len(c))), np.sqrt(21 / 20)
    for a in range(0, len(c), rows):
        b = slice(a, a + rows)
        close, log, o = c[b], out[13, b], out[:, b]
        o[0] = talib.RSI(close, 14)
        o[1], o[2], o[3] = talib.MACD(close, 12, 26, 9)
        o[4] = talib.MOM(close, 14)
        o[5] = talib.SMA(close, 20)
        o[6] = talib.EMA(close, 50)
        o[9], o[8], o[7] = talib.BBANDS(close, 20, 2.0, 2.0)
        o[10] = talib.ATR(h[b], low[b], close, 14)
        log[0] = np.nan
        np.log(close[1:] / close[:-1], out=log[1:])
        np.multiply(talib.STDDEV(log, 21, 1.0), sample, out=o[11])
        o[12] = talib.ROCP(close, 1)
        o[14] = talib.SMA(v[b], 20)
        o[15] = talib.OBV(close, v[b])
    return out


def medians(functions: dict, rounds: int = 15) -> dict[str, np.ndarray]:
    """Seconds of CPU and seconds by the clock of each, one row a round; in turns, so that a busy machine is
    busy for all of them."""
    took = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            cpu, begin = time.process_time(), time.perf_counter()
            made = function()
            took[name].append((time.process_time() - cpu, time.perf_counter() - begin))
            del made
    return {name: np.median(seconds, axis=0) for name, seconds in took.items()}


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


def apart(table: pd.DataFrame, other: np.ndarray) -> float:
    """Largest difference between the two, over the size of the number; inf where only one has a number."""
    worst = 0.0
    for column, theirs in zip(table.columns[4:], other, strict=True):
        ours = table[column].to_numpy()
        if not np.array_equal(np.isnan(ours), np.isnan(theirs)): return np.inf
        worst = max(worst, float(np.nanmax(np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1.0))))
    return worst


def main() -> None:
    """Print both shapes of the panel."""
    for symbols, rows in ((1, 1_000_000), (500, 2_600)):
        bars = panel(symbols, rows)
        table, other = compute_features(bars, SPECS), loop(bars, rows)
        assert len(table.columns) == 4 + COLUMNS
        far = apart(table, other)
        del table, other
        took = medians(
            {
                "ours": partial(compute_features, bars, SPECS),
                "loop": partial(loop, bars, rows),
                "copy": partial(copied, bars),
            }
        )
        (cpu, wall), memory = took["ours"] / took["loop"], peak(bars)
        met = max(cpu, wall) <= BOUND and memory <= MEMORY_BOUND and far <= 1e-9
        ms = {name: f"{seconds[0] * 1e3:.1f} ms of CPU, {seconds[1] * 1e3:.1f} ms"
              for name, seconds in took.items()}
        print(f"{symbols:>4} x {rows:>9,}: compute_features {ms['ours']}; loop over TA-Lib {ms['loop']}; "
              f"ratio {cpu:.2f} of CPU, {wall:.2f} of time (bound {BOUND}); apart {far:.0e} (bound 1e-09); "
              f"memory copy {ms['copy']}, ratio to it {took['ours'][0] / took['copy'][0]:.1f}; "
              f"peak memory {memory:.2f} x inputs and outputs (bound {MEMORY_BOUND:g}): "
              f"{'met' if met else 'missed'}")


if __name__ == "__main__":
    main()
