"""A thousand pairs of moving averages on 10,000 bars, Sharpe ratio and drawdown of each: our sweep beside
vectorbt's Portfolio, and a bare loop that knows a fee and nothing else."""

from functools import partial
from itertools import combinations

import numba
import numpy as np
import pandas as pd

from bench_sweep import took
from mlfin.sweeps.signal_sweep import sweep_signals

ROWS, WINDOWS = 10_000, range(5, 140, 3)  # 45 windows: 990 pairs
FULL, FINAL = 20.0, 10.0                  # how many times as long vectorbt must take
FEE, SLIPPAGE = 1e-4, 2e-4


def market(rows: int = ROWS, seed: int = 7) -> pd.DataFrame:
    """A seeded random walk of one symbol by the day."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(rng.normal(0, 0.01, rows).cumsum())
    ts = pd.date_range("1990-01-01", periods=rows, freq="D", tz="UTC", unit="us")
    opens = np.append(100.0, close[:-1]) * np.exp(rng.normal(0, 0.001, rows))
    bars = pd.DataFrame(dict(symbol="A", timeframe="1d", ts=ts, open=opens, close=close,
                             known_at=ts + pd.Timedelta(days=1)))
    return bars.astype({"symbol": "str", "timeframe": "str"})


def ours(bars: pd.DataFrame, threads: int = 1):
    """Our sweep."""
    axis = ("sma", WINDOWS)
    return sweep_signals(lambda fast, slow: fast > slow, bars, {"fast": axis, "slow": axis},
                         keep=lambda fast, slow: fast < slow, costs={"fee_bps": FEE * 1e4,
                                                                     "slippage_bps": SLIPPAGE * 1e4},
                         threads=threads)


def portfolio(bars: pd.DataFrame):
    """vectorbt's idiom: every pair by `run_combs`, filled at the next open; judged from the longest window
    on, as ours."""
    import vectorbt as vbt

    close = bars.set_index(bars.ts.dt.tz_localize(None)).close
    fast, slow = vbt.MA.run_combs(close, window=list(WINDOWS), r=2, short_names=["fast", "slow"])
    first = max(WINDOWS) - 1
    wanted = (fast.ma.to_numpy() > slow.ma.to_numpy())[first:-1].astype(float)
    size = np.where(np.diff(wanted, axis=0, prepend=0.0) != 0, wanted, np.nan)
    opens = bars.open.to_numpy()[first + 1:, None]
    return vbt.Portfolio.from_orders(close.iloc[first + 1:], size=size, size_type="targetpercent",
                                     price=opens, val_price=opens, fees=FEE, slippage=SLIPPAGE,
                                     init_cash=100_000.0, freq="1D")


def full(bars: pd.DataFrame) -> pd.DataFrame:
    """Sharpe ratio a day and drawdown of each pair, by vectorbt."""
    import vectorbt as vbt

    pf = portfolio(bars)
    year = np.sqrt(pd.Timedelta(vbt.settings["returns"]["year_freq"]) / pd.Timedelta("1D"))
    return pd.DataFrame({"sharpe": pf.sharpe_ratio().to_numpy() / year,
                         "max_drawdown": pf.max_drawdown().to_numpy()})


@numba.njit(error_model="numpy")  # not kept on disk: a script that runpy runs is no module
def _bare(averages, pairs, opens, close, fee, out):
    """Of each pair: the account after each close, its Sharpe ratio and drawdown; a fee a trade, no more."""
    for k in range(len(pairs)):
        fast, slow = averages[pairs[k, 0]], averages[pairs[k, 1]]
        cash, units, before, peak, depth, total, square = 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0
        for t in range(1, len(close)):
            if (fast[t - 1] > slow[t - 1]) != (units > 0.0):
                if units > 0.0: cash, units = units * opens[t] * (1.0 - fee), 0.0
                else: cash, units = 0.0, cash * (1.0 - fee) / opens[t]
            money = cash + units * close[t]
            r = money / before - 1.0
            total, square, before = total + r, square + r * r, money
            if money > peak: peak = money
            elif money / peak - 1.0 < depth: depth = money / peak - 1.0
        n = len(close) - 1
        out[k, 0], out[k, 1] = total / n / np.sqrt((square - total * total / n) / (n - 1)), depth


def floor(bars: pd.DataFrame) -> np.ndarray:
    """The same pairs by the bare loop."""
    first, close = max(WINDOWS) - 1, bars.close
    averages = np.stack([close.rolling(n).mean().to_numpy()[first:] for n in WINDOWS])
    pairs, out = np.array(list(combinations(range(len(WINDOWS)), 2))), np.empty((990, 2))
    opens, close = bars.open.to_numpy()[first:], close.to_numpy()[first:]
    _bare(averages, pairs, opens, close, FEE + SLIPPAGE, out)
    return out


SIDES = {"bare loop": floor, "ours": ours, "vectorbt": full,
         "vectorbt, final value": lambda bars: portfolio(bars).final_value()}


def compare(bars: pd.DataFrame, rounds: int = 4) -> tuple[dict, float]:
    """(shortest seconds of CPU of each side, largest difference of a figure to vectorbt's), in turn."""
    for call in SIDES.values(): call(bars[:400])  # compiled
    seconds, found = {name: np.inf for name in SIDES}, {}
    for _ in range(rounds):
        for name, call in SIDES.items():
            spent, found[name] = took(partial(call, bars))
            seconds[name] = min(seconds[name], spent)
    other = found["vectorbt"]
    return seconds, float((found["ours"].table[list(other)] - other).abs().max(axis=None))


def main() -> None:
    seconds, apart = compare(market())
    print(f"990 pairs of averages on {ROWS:,} bars, Sharpe ratio and drawdown, seconds of CPU: "
          + ", ".join(f"{name} {s:.3f}" for name, s in seconds.items()) + "\n")
    print("| measure | value | bound | verdict |\n|---|---|---|---|")
    final = seconds["vectorbt, final value"] / seconds["ours"]
    rows = [("vectorbt's seconds / ours", seconds["vectorbt"] / seconds["ours"], FULL),
            ("vectorbt's for the final value alone / ours", final, FINAL)]
    for name, value, bound in rows:
        print(f"| {name} | {value:.1f}x | >= {bound:.0f}x | {'met' if value >= bound else 'missed'} |")
    print(f"| ours / the bare loop's | {seconds['ours'] / seconds['bare loop']:.1f}x | | |")
    equal = "met" if apart <= 1e-9 else "missed"
    print(f"| largest difference of a figure | {apart:.1e} | <= 1e-9 | {equal} |")


if __name__ == "__main__":
    main()
