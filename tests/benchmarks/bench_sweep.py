"""1,000 parameter sets on 10,000 bars, with Sharpe ratio and drawdown of each: one compiled loop beside
vectorbt's Portfolio and a bare loop; sets over 50 symbols with one account; time over length."""

import sys
import time

import numba
import numpy as np
import pandas as pd

from mlfin.backtest.score_panel import lay_out
from mlfin.backtest.signals import decide
from mlfin.backtest.sweep import sweep
from mlfin.backtest.trading_rule import TradingRule

ROWS, SETS, TIMES = 10_000, 1_000, 20.0  # sets: thresholds x fees; our loop must be so many times as fast
FLOOR, LINEAR = 1.2, 1.15                # ours / the bare loop; a bar of 500,000 / a bar of 50,000
SYMBOLS, DAYS = 50, 2_520                # of the panel
FIGURES = ["sharpe", "max_drawdown", "total_return", "orders"]


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


@numba.njit(error_model="numpy", nogil=True)  # not kept on disk: a script that runpy runs is no module
def _bare(score, opens, close, thresholds, fees, slippage, money, out, returns):
    """Of each set: the account after each close, its daily returns and figures; one fee, one slippage, all or
    nothing, and no more."""
    for k in range(len(thresholds)):
        cash, units, before, peak, depth, total, square, orders = money, 0.0, money, money, 0.0, 0.0, 0.0, 0
        for t in range(1, len(close)):
            if (score[t - 1] > thresholds[k]) != (units > 0.0):
                if units > 0.0:
                    cash, units = units * opens[t] * (1.0 - slippage) * (1.0 - fees[k]), 0.0
                else:
                    cash, units = 0.0, cash / (opens[t] * (1.0 + slippage) * (1.0 + fees[k]))
                orders += 1
            worth = cash + units * close[t]
            returns[k, t - 1] = r = worth / before - 1.0
            total, square, before = total + r, square + r * r, worth
            if worth > peak:
                peak = worth
            elif worth / peak - 1.0 < depth:
                depth = worth / peak - 1.0
        n = len(close) - 1
        out[k, 0] = total / n / np.sqrt((square - total * total / n) / (n - 1))
        out[k, 1], out[k, 2], out[k, 3] = depth, before / money - 1.0, orders


def floor(bars: pd.DataFrame, predictions: pd.DataFrame, axes: dict) -> tuple[pd.DataFrame, np.ndarray]:
    """(figures, daily returns) of the same sets by the bare loop: what they cost at least, one at a time."""
    thresholds, fees = (np.ravel(a) for a in np.meshgrid(*axes.values(), indexing="ij"))
    out, returns = np.empty((len(fees), 4)), np.empty((len(fees), len(bars) - 1))
    arrays = (x.to_numpy(float) for x in (predictions.probability, bars.open, bars.close))
    _bare(*arrays, thresholds, fees / 1e4, 2e-4, 100_000.0, out, returns)
    return pd.DataFrame(out, columns=FIGURES), returns


def panel(symbols: int = SYMBOLS, rows: int = DAYS) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(bars, predictions) of several symbols, each as `market` makes it."""
    made = [market(rows, seed) for seed in range(symbols)]
    frames = [pd.concat([part[i].assign(symbol=f"S{k:02d}") for k, part in enumerate(made)]) for i in (0, 1)]
    bars, predictions = (f.sort_values(["ts", "symbol"], ignore_index=True).astype({"symbol": "str"})
                         for f in frames)
    return bars, predictions


def panel_by_vectorbt(bars: pd.DataFrame, predictions: pd.DataFrame, axes: dict) -> pd.DataFrame:
    """The same sets as groups of columns that share their cash. What ours states is said in its words: an
    order only where a weight changes, in percent of the account at this bar's opens, filled there; sales
    first (`auto`); years left out. Weights are 1/n each, so that cash suffices: where it does not, we buy the
    same share of everything, vectorbt one after the other."""
    import vectorbt as vbt

    scores, sets = lay_out(predictions, bars), len(axes["threshold"]) * len(axes["fee_bps"])
    weights = [decide(scores, TradingRule(threshold=t))[:-1] for t in axes["threshold"]]
    sizes = [np.where(np.diff(w, axis=0, prepend=0.0) != 0, w, np.nan) for w in weights]
    size = np.hstack([s for s in sizes for _ in axes["fee_bps"]])
    wide = {c: bars.pivot(index="ts", columns="symbol", values=c).iloc[1:] for c in ("open", "close")}
    opens, close = (np.tile(w.to_numpy(), (1, sets)) for w in wide.values())
    symbols = wide["open"].shape[1]
    fees = np.repeat(np.tile(axes["fee_bps"], len(weights)), symbols) / 1e4
    pf = vbt.Portfolio.from_orders(
        pd.DataFrame(close, index=wide["open"].index.tz_localize(None)), size=size,
        size_type="targetpercent", price=opens, val_price=opens, fees=fees, slippage=2e-4,
        init_cash=100_000.0, freq="1D", group_by=np.repeat(np.arange(sets), symbols), cash_sharing=True,
        call_seq="auto")
    year = np.sqrt(pd.Timedelta(vbt.settings["returns"]["year_freq"]) / pd.Timedelta("1D"))
    return pd.DataFrame({"sharpe": pf.sharpe_ratio().to_numpy() / year,
                         "max_drawdown": pf.max_drawdown().to_numpy()})


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


def beside_floor(rounds: int = 8) -> tuple[float, float, float]:
    """(our seconds, the bare loop's, largest difference of figures and daily returns on one thread and
    two)."""
    (bars, predictions), axes = market(), grid()
    calls = {"ours": lambda: sweep(predictions, bars, axes), "bare": lambda: floor(bars, predictions, axes)}
    figures, returns = calls["bare"]()
    apart = 0.0
    for threads in (1, 2):
        done = sweep(predictions, bars, axes, threads=threads)
        apart = max(apart, float((done.table[FIGURES] - figures).abs().max(axis=None)),
                    float(np.abs(done.returns.to_numpy().T - returns).max()))
    spent = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            spent[name].append(took(call)[0])
    return min(spent["ours"]), min(spent["bare"]), apart


def over_length(rounds: int = 5) -> tuple[float, float]:
    """Nanoseconds a set and bar of 50,000 and of 500,000 one-minute bars: 40 sets less what one set takes."""
    full, one = {"threshold": np.linspace(0.4, 0.6, 10), "fee_bps": np.arange(4.0)}, {"threshold": [0.5]}
    best = {}
    for rows in (50_000, 500_000):
        bars, predictions = market(rows)
        ts = pd.date_range("2020-01-01", periods=rows, freq="min", tz="UTC", unit="us")
        bars, predictions = bars.assign(ts=ts, timeframe="1m"), predictions.assign(ts=ts)
        spent = [[took(lambda a=axes: sweep(predictions, bars, a))[0] for axes in (full, one)]  # noqa: B023
                 for _ in range(rounds)]
        best[rows] = np.subtract(*np.min(spent, axis=0)) / 39 / rows * 1e9
    return best[50_000], best[500_000]


def beside_panel(rounds: int = 3) -> tuple[float, float, float]:
    """(our seconds, vectorbt's, largest difference of a figure) of 24 sets over a panel."""
    bars, predictions = panel()
    axes = {"threshold": np.linspace(0.4, 0.6, 12).round(6), "fee_bps": [0.0, 5.0]}
    calls = (lambda: sweep(predictions, bars, axes), lambda: panel_by_vectorbt(bars, predictions, axes))
    done, other = (call() for call in calls)
    spent = np.min([[took(call)[0] for call in calls] for _ in range(rounds)], axis=0)
    return spent[0], spent[1], float((done.table[list(other)] - other).abs().max(axis=None))


def row(name: str, value: str, bound: str, met: bool) -> None:
    """Print one measure."""
    print(f"| {name} | {value} | {bound} | {'met' if met else 'missed'} |")


def main() -> int:
    ours, theirs, apart = compare()
    ratio, good = theirs / ours, theirs / ours >= TIMES and apart < 1e-9
    print(f"{SETS:,} sets on {ROWS:,} bars, Sharpe ratio and drawdown: {ours:.2f} s of CPU, vectorbt "
          f"{theirs:.2f} s\n\n| measure | value | bound | verdict |\n|---|---|---|---|")
    row("vectorbt's seconds / ours; largest difference of a figure", f"{ratio:.0f}x; {apart:.1e}",
        f">= {TIMES:.0f}x; 1e-9", good)
    ours, bare, apart = beside_floor()
    row(f"ours / a bare loop with the same returns and figures ({ours:.3f} s, {bare:.3f} s); largest "
        "difference, one thread and two", f"{ours / bare:.2f}x; {apart:.1e}", f"<= {FLOOR}x; 1e-9",
        ours / bare <= FLOOR and apart < 1e-9)
    short, long = over_length()
    row(f"a set and bar of 500,000 minutes / of 50,000 ({long:.1f} ns, {short:.1f} ns)",
        f"{long / short:.2f}x", f"<= {LINEAR}x", long / short <= LINEAR)
    ours, theirs, apart = beside_panel()
    row(f"24 sets on {SYMBOLS} symbols x {DAYS:,} days, one account: vectorbt's seconds / ours "
        f"({theirs:.2f} s, {ours:.2f} s); largest difference", f"{theirs / ours:.1f}x; {apart:.1e}",
        f">= {TIMES:.0f}x; 1e-9", theirs / ours >= TIMES and apart < 1e-9)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
