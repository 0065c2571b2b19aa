"""The tear sheet of a million one-minute bars: judging, drawing, the size of the page; its simulations
aside. Seconds of CPU, in one thread: other processes do not lengthen them."""

import json
import time

import numpy as np
import pandas as pd

from mlfin.backtest.simulate import backtest, buy_and_hold
from mlfin.backtest.sweep import sweep
from mlfin.backtest.tearsheet import (
    figures_table,
    luck_table,
    neighbourhood,
    readable,
    risk_table,
    tear_sheet,
    tear_sheet_charts,
    trading_parameters,
)
from mlfin.charts.figures import MIMETYPE
from mlfin.charts.report import render_page

SECONDS, MEGABYTES = 1.0, 3.0


def market(rows: int, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Seeded one-minute bars of one symbol, and predictions of each that change slowly."""
    rng = np.random.default_rng(seed)
    ts = pd.date_range("2020-01-01", periods=rows, freq="min", tz="UTC").as_unit("us")
    close = 100 * np.exp(rng.normal(0, 0.0005, rows).cumsum())
    opens = np.r_[100.0, close[:-1]]
    bars = pd.DataFrame(
        {
            "symbol": "BTCUSDT",
            "timeframe": "1m",
            "ts": ts,
            "open": opens,
            "high": np.maximum(opens, close),
            "low": np.minimum(opens, close),
            "close": close,
            "volume": rng.integers(1, 100, rows).astype(float),
        }
    )
    score = 0.5 + pd.Series(rng.normal(0, 0.05, rows)).ewm(200).mean().to_numpy()
    return bars, pd.DataFrame({"symbol": "BTCUSDT", "ts": ts, "probability": score})


def page(sheet, figures, trades) -> str:
    """The tables and figures of a sheet as one document, as the exporter makes it."""
    tables = [
        figures_table(sheet),
        luck_table(sheet),
        risk_table(sheet),
        readable(sheet.frames["drawdowns"]),
        readable(trades.tail(20)),
    ]
    outputs = [
        {"output_type": "display_data", "metadata": {}, "data": {"text/html": t.to_html()}} for t in tables
    ]
    outputs += [
        {"output_type": "display_data", "metadata": {}, "data": f._repr_mimebundle_()}
        for f in figures.values()
    ]
    cells = [{"cell_type": "markdown", "metadata": {}, "source": "# Backtest"},
             {"cell_type": "code", "metadata": {}, "source": "", "outputs": json.loads(json.dumps(outputs))}]
    assert all(MIMETYPE in out["data"] or "text/html" in out["data"] for out in outputs)
    return render_page({"cells": cells})


def portfolio(done, bars: pd.DataFrame):
    """vectorbt's Portfolio of the same orders on all bars, made anew: nothing of it is computed yet."""
    import vectorbt as vbt

    of = pd.DatetimeIndex(done.equity["ts"]).get_indexer(done.orders["ts"])
    size, price, fees = np.full(len(done.equity), np.nan), np.full(len(done.equity), np.nan), 0 * done.equity[
        "strategy"].to_numpy()
    size[of], price[of], fees[of] = done.orders["size"], done.orders["price"], done.orders["fee"]
    close = bars.set_index("ts")["close"].reindex(pd.DatetimeIndex(done.equity["ts"])).tz_localize(None)
    return vbt.Portfolio.from_orders(close, size=size, price=price, fixed_fees=fees, freq="1min",
                                     init_cash=done.initial_cash)


def measure(rows: int = 1_000_000) -> dict[str, float]:
    """Seconds of each step, and the page's size; a small sheet comes first, so that nothing is compiled or
    imported in between."""
    found = {}
    for bars, told in (market(20_000), market(rows)):
        (rule, costs), days = trading_parameters({}), 365
        clock = [time.process_time()]
        done = backtest(told, bars, rule, costs)
        hold = buy_and_hold(bars, costs, start=done.equity.ts.iloc[0], end=done.equity.ts.iloc[-1])
        clock.append(time.process_time())
        near = sweep(told, bars, neighbourhood(rule, told), rule, costs)
        clock.append(time.process_time())
        trials = near.returns.rename(columns=str).assign(chosen=done.returns)
        sheet = tear_sheet(done, hold, bars, trials, "chosen", days, swept=near)
        clock.append(time.process_time())
        text = page(sheet, tear_sheet_charts(sheet, done, bars, days), done.trades)
        clock.append(time.process_time())
        peer = portfolio(done, bars)  # not the clock's: its stats alone are
        clock.append(time.process_time())
        peer.stats()
        clock.append(time.process_time())
        names = ("simulated", "swept", "judged", "drawn", "_", "stats")
        found = dict(zip(names, np.diff(clock), strict=True)) | {"bytes": len(text.encode())}
    return found


def main() -> None:
    """Print a table of measures, bounds and verdicts."""
    found = measure()
    report = found["judged"] + found["drawn"]
    print("| 1,000,000 one-minute bars | value | bound | verdict |\n|---|---|---|---|")
    print(f"| report: judged {found['judged']:.2f} s and drawn {found['drawn']:.2f} s | {report:.2f} s | "
          f"{SECONDS:.0f} s | "
          f"{'met' if report <= SECONDS else 'missed'} |")
    print(f"| vectorbt's `Portfolio.stats()` of the same account | "
          f"{found['stats']:.1f} s | | |")
    size = found["bytes"] / 1e6
    print(f"| the page | {size:.2f} MB | {MEGABYTES:.0f} MB | {'met' if size <= MEGABYTES else 'missed'} |")
    print(f"| before it: strategy and holding simulated | {found['simulated']:.1f} s | | |\n"
          f"| before it: the neighbouring rules | {found['swept']:.1f} s | | |")


if __name__ == "__main__":
    main()
