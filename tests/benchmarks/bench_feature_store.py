"""The feature store takes in one new bar of 2 symbols, 12 features: after 1,000 and after 100,000 bars, in
one run."""

import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from mlfin.market.bars import as_bars
from mlfin.store.lake import Lake
from mlfin.features.online import OnlineFeatures
from mlfin.feature_store.feature_store import FeatureStore
from mlfin.features.table import compute_features

FIRST_RUN = ("rsi_14 macd_12_26_9 mom_14 sma_20 ema_50 bbands_20_2 atr_14 historical_vol_21 ret_5 "
             "log_returns volume_ma_20 obv".split())
SYMBOLS, SHORT, LONG, NEW = 2, 1_000, 100_000, 30


def panel(rows: int, seed: int = 7) -> pd.DataFrame:
    """A seeded random walk a symbol, minute bars."""
    ts = pd.date_range("2023-01-01", periods=rows, freq="min", tz="UTC").as_unit("us")
    parts = []
    for i in range(SYMBOLS):
        rng = np.random.default_rng(seed + i)
        close = 100 * np.exp(rng.normal(0, 1e-4, rows).cumsum())
        parts.append(
            pd.DataFrame(
                dict(
                    symbol=f"SYM{i}",
                    timeframe="1m",
                    ts=ts,
                    known_at=ts + pd.Timedelta("1min"),
                    open=close,
                    high=close * 1.001,
                    low=close * 0.999,
                    close=close,
                    volume=rng.integers(1, 10_000, rows).astype(float),
                )
            )
        )
    return as_bars(pd.concat(parts, ignore_index=True))


class Side:
    """A lake with some history, its feature store, and the states alone; what each new bar costs, in ms."""

    def __init__(self, folder: Path, rows: int):
        bars = panel(rows + NEW)
        times = bars.ts.drop_duplicates()
        old = bars[bars.ts < times.iloc[rows]].reset_index(drop=True)
        self.new = [bars[bars.ts == ts].reset_index(drop=True) for ts in times[rows:]]
        self.lake = Lake(folder / f"lake{rows}")
        self.lake.write(old)
        self.store, self.online, self.ms = (
            FeatureStore(self.lake, timeframe="1m"),
            OnlineFeatures(FIRST_RUN),
            {},
        )
        self.timed("first update", lambda: self.store.update(FIRST_RUN))
        self.timed("states rebuilt", lambda: self.online.replay(old))

    def timed(self, what: str, function):
        begin = time.perf_counter()
        done = function()
        self.ms.setdefault(what, []).append((time.perf_counter() - begin) * 1e3)
        return done

    def bar(self, k: int) -> None:
        self.timed("one bar through the states", lambda: self.online.update(self.new[k]))
        self.lake.write(self.new[k])
        done = self.timed("FeatureStore.update, one bar", lambda: self.store.update(FIRST_RUN))
        assert done.how == "appended" and done.added == SYMBOLS
        self.row = self.timed("FeatureStore.latest", lambda: self.store.latest(FIRST_RUN))

    def check(self) -> None:
        want = compute_features(self.lake.read(timeframe="1m", adjust="total"), FIRST_RUN)
        pd.testing.assert_frame_equal(self.store.read(FIRST_RUN), want, check_exact=True)
        pd.testing.assert_frame_equal(
            self.row, want.drop_duplicates("symbol", keep="last", ignore_index=True), check_exact=True
        )


def compare(folder: Path) -> pd.DataFrame:
    """Least milliseconds with a short and a long history, bar by bar in turns, and their ratio with its
    limit."""
    sides = [Side(folder, SHORT), Side(folder, LONG)]
    for k in range(NEW):
        for side in sides[:: 1 if k % 2 else -1]: side.bar(k)
    for side in sides: side.check()
    rows = []
    for what in sides[0].ms:
        short, long = (min(side.ms[what]) for side in sides)
        rows.append(
            (
                f"{what}, ms",
                short,
                long,
                long / short,
                np.nan if what in ("first update", "states rebuilt") else 1.5,
            )
        )
    return pd.DataFrame(rows, columns=["what", f"{SHORT:,} bars", f"{LONG:,} bars", "ratio", "limit"]).round(
        2
    )


def main() -> None:
    """Print the table, with the verdict on every ratio that has a limit."""
    with tempfile.TemporaryDirectory() as folder:
        table = compare(Path(folder))
    print(f"| what | {SHORT:,} bars | {LONG:,} bars | ratio | limit | verdict |\n|---|---|---|---|---|---|")
    for what, short, long, ratio, limit in table.itertuples(index=False):
        verdict = "" if np.isnan(limit) else "met" if ratio <= limit else "missed"
        print(f"| {what} | {short:.2f} | {long:.2f} | {ratio:.2f}x | "
              f"{'' if np.isnan(limit) else f'{limit:g}x'} | {verdict} |")


if __name__ == "__main__":
    main()
