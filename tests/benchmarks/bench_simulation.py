"""A million one-minute bars traded with fees: our simulation beside bare vectorbt that gives the same
things."""

import time

import numpy as np
import pandas as pd
import vectorbt as vbt

from mlfin.backtest.costs import Costs
from mlfin.backtest.fills import Account, LOG, simulate_fills, TOTALS
from mlfin.backtest.fill_prices import make_terms
from mlfin.backtest.market_panel import needs, read_market
from mlfin.backtest.simulate import simulate

BARS, ROUNDS, LIMIT = 1_000_000, 11, 1.3


class Minutes:
    """One symbol's bars and on-off weights that change every `hold` bars."""

    def __init__(self, hold: int, bars: int = BARS):
        rng = np.random.default_rng(0)
        ts = pd.date_range("2020-01-01", periods=bars, freq="min", tz="UTC", unit="us")
        close = 100 * np.exp(rng.normal(0, 3e-4, bars).cumsum())
        open_ = np.append(100.0, close[:-1])
        wick = np.exp(rng.exponential(1e-4, bars))
        self.bars = pd.DataFrame(
            dict(
                symbol=pd.Series(["BTC"] * bars, dtype="str"),
                timeframe=pd.Series(["1m"] * bars, dtype="str"),
                ts=ts,
                open=open_,
                high=np.maximum(open_, close) * wick,
                low=np.minimum(open_, close) / wick,
                close=close,
            )
        )
        on = (np.arange(bars) // hold % 2).astype(float)
        self.weights = pd.DataFrame({"BTC": on[:-1]}, index=ts[:-1])
        naive = ts.tz_localize(None)
        self.close, self.open, self.target = (pd.Series(x, index=naive) for x in (close, open_, on))


def bare(data: Minutes) -> tuple:
    """vectorbt alone: sizes from target percentages, then value, returns, orders, trades."""
    held = data.target.shift(1, fill_value=0.0)
    size = held.where(held.diff().fillna(held) != 0)
    pf = vbt.Portfolio.from_orders(
        data.close,
        size=size,
        size_type="targetpercent",
        price=data.open,
        fees=1e-4,
        slippage=2e-4,
        init_cash=1e5,
        engine="auto",
        freq="1min",
    )
    return pf.value().to_numpy(), pf.returns(), pf.orders.records, pf.trades.records


def ours(data: Minutes, **more) -> tuple:
    """The same from weights and bars, with our checks and with vectorbt's of our books; returns of days
    beside those of bars."""
    sim = simulate(data.weights, data.bars, Costs(), cash=1e5, **more)
    money = sim.equity["strategy"].to_numpy()
    return money, money[1:] / money[:-1] - 1, sim.orders, sim.trades


def took(run, *args) -> np.ndarray:
    """Wall and CPU seconds of a call; other processes lengthen only the first."""
    wall, cpu = time.perf_counter(), time.process_time()
    run(*args)
    return np.array([time.perf_counter() - wall, time.process_time() - cpu])


def compare(data: Minutes) -> tuple[np.ndarray, np.ndarray, float]:
    """Seconds of both in turn, and the largest relative difference of their accounts."""
    far = float(np.abs(ours(data)[0] / bare(data)[0] - 1).max())  # the first pair compiles and is left out
    pairs = np.array(
        [[took(run, data) for run in (ours, bare)[::order]][::order] for order in [1, -1] * (ROUNDS // 2 + 1)]
    )
    return pairs[:, 0], pairs[:, 1], far


def kernel(data: Minutes, **stops) -> float:
    """Nanoseconds a bar of the walk alone, the account only, as a sweep calls it."""
    market = read_market(data.bars, needs(Costs(), bool(stops)))
    rows, decided = len(market.clock), data.target.to_numpy().reshape(-1, 1).copy()
    books = Account(np.empty(rows), np.empty(0), np.empty((0, 1)), np.empty((0, 3)), np.empty(len(TOTALS)))
    call = (decided, market.panel, make_terms(Costs(), **stops), 1e5, books, np.empty((0, len(LOG))))
    return min(took(simulate_fills, *call)[0] for _ in range(ROUNDS)) / rows * 1e9


def main() -> None:
    """Print the figures."""
    for hold in (72, 20):
        data = Minutes(hold)
        mine, plain, far = compare(data)
        own, other = mine[:, 0].min(), plain[:, 0].min()
        verdict = "met" if own / other <= LIMIT else "missed"
        what = f"{BARS:,} minutes, an order every {hold} bars"
        print(f"| {what}: beside bare vectorbt, shortest of {len(mine)} each | {own / other:.2f}x | "
              f"{LIMIT}x | {verdict} |")
        print(f"| the same in CPU seconds, median of the pairs | {np.median(mine[:, 1] / plain[:, 1]):.2f}x "
              f"| {LIMIT}x | - |")
        print(f"| ours; bare; largest relative difference of the accounts | {own:.3f} s; {other:.3f} s; "
              f"{far:.0e} | - | - |")
    minutes = Minutes(72)
    print(f"| the walk alone, an order every 72 bars; with a stop loss | {kernel(minutes):.0f} ns; "
          f"{kernel(minutes, stop_loss=0.01):.0f} ns a bar | - | - |")


if __name__ == "__main__":
    main()
