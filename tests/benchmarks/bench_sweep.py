"""1,000 parameter sets on 10,000 bars, with Sharpe ratio and drawdown of each: one compiled loop beside
vectorbt's Portfolio."""

import sys
import time

import numpy as np
import pandas as pd

from mlfin.backtest.sweep import sweep

ROWS, SETS, TIMES = 10_000, 1_000, 20.0  # sets: thresholds x fees; our loop must be so many times as fast


def market(rows: int = ROWS, seed: int = 7) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(bars, predictions): a seeded random walk of one symbol by the day, and scores that know a little of
    its next move."""
    rng = np.random.default_rng(seed)
    moves, ts = (
        rng.normal(0, 0.01, rows),
        pd.date_range("1990-01-01", periods=rows, freq="D", tz="UTC", unit="us"),
    )
    close = 100 * np.exp(moves.cumsum())
    opens = np.append(100.0, close[:-1]) * np.exp(rng.normal(0, 0.001, rows))
    bars = pd.DataFrame(dict(symbol="A", timeframe="1d", ts=ts, open=opens, close=close)).astype(
        {"symbol": "str", "timeframe": "str"}
    )
    score = pd.Series(np.append(moves[1:], 0.0) * 10 + rng.normal(0, 1, rows)).ewm(span=5).mean()
    return bars, bars[["symbol", "ts"]].assign(probability=1 / (1 + np.exp(-score)))


def grid(sets: int = SETS) -> dict:
    """Thresholds and fees, `sets` combinations."""
    return {"threshold": np.linspace(0.4, 0.6, sets // 10).round(6), "fee_bps": np.arange(10.0)}


def by_vectorbt(
    bars: pd.DataFrame, predictions: pd.DataFrame, axes: dict, slippage: float = 2e-4
) -> pd.DataFrame:
    """The same sets as columns of one Portfolio: long with everything after a score above the threshold,
    filled at the next open."""
    import vectorbt as vbt

    thresholds, fees = (np.ravel(a) for a in np.meshgrid(*axes.values(), indexing="ij"))
    wanted = (predictions.probability.to_numpy()[:-1, None] > thresholds).astype(float)
    size = np.where(np.diff(wanted, axis=0, prepend=0.0) != 0, wanted, np.nan)
    rows = bars.iloc[1:].set_index(bars.ts.iloc[1:].dt.tz_localize(None))
    pf = vbt.Portfolio.from_orders(
        rows.close,
        size=size,
        size_type="targetpercent",
        price=rows.open.to_numpy()[:, None],
        val_price=rows.open.to_numpy()[:, None],
        fees=fees / 1e4,
        slippage=slippage,
        init_cash=100_000.0,
        freq="1D",
    )
    year = np.sqrt(pd.Timedelta(vbt.settings["returns"]["year_freq"]) / pd.Timedelta("1D"))
    return pd.DataFrame(
        {"sharpe": pf.sharpe_ratio().to_numpy() / year, "max_drawdown": pf.max_drawdown().to_numpy()}
    )


def took(function) -> tuple[float, object]:
    """(seconds of CPU, which other processes do not lengthen; result) of one call; both sides work in one
    thread."""
    begin = time.process_time()
    result = function()
    return time.process_time() - begin, result


def compare(rows: int = ROWS, sets: int = SETS, rounds: int = 4) -> tuple[float, float, float]:
    """(our seconds, vectorbt's seconds, largest difference of a figure), the shorter of several rounds in
    turn."""
    bars, predictions = market(rows)
    axes, few = grid(sets), {"threshold": [0.5], "fee_bps": [1.0]}
    sweep(predictions, bars, few)  # compiled, on both sides
    by_vectorbt(bars, predictions, few)
    ours, theirs, apart = [], [], 0.0
    for _ in range(rounds):
        seconds, done = took(lambda: sweep(predictions, bars, axes))
        ours.append(seconds)
        seconds, other = took(lambda: by_vectorbt(bars, predictions, axes))
        theirs.append(seconds)
        apart = max(apart, float((done.table[list(other)] - other).abs().max(axis=None)))
    return min(ours), min(theirs), apart


def main() -> int:
    ours, theirs, apart = compare()
    ratio = theirs / ours
    verdict = "met" if ratio >= TIMES and apart < 1e-9 else "missed"
    print(f"{SETS:,} sets on {ROWS:,} bars, Sharpe ratio and drawdown: {ours:.2f} s of CPU, vectorbt "
          f"{theirs:.2f} s")
    print(f"vectorbt takes {ratio:.0f} times as long, at least {TIMES:.0f}: {verdict}; largest difference of "
          f"a figure {apart:.1e}")
    return 0 if verdict == "met" else 1


if __name__ == "__main__":
    sys.exit(main())
