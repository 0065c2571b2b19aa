"""The tear sheet of a million one-minute bars: judging, drawing, the size of the page; its simulations
aside."""

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

SECONDS, MEGABYTES = 10.0, 3.0


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


def measure(rows: int = 1_000_000) -> dict[str, float]:
    """Seconds of each step, and the page's size; a small sheet comes first, so that nothing is compiled or
    imported in between."""
    found = {}
    for bars, told in (market(20_000), market(rows)):
        (rule, costs), days = trading_parameters({}), 365
        clock = [time.perf_counter()]
        done = backtest(told, bars, rule, costs)
        hold = buy_and_hold(bars, costs, start=done.equity.ts.iloc[0], end=done.equity.ts.iloc[-1])
        clock.append(time.perf_counter())
        near = sweep(told, bars, neighbourhood(rule, told), rule, costs)
        clock.append(time.perf_counter())
        trials = near.returns.rename(columns=str).assign(chosen=done.returns)
        sheet = tear_sheet(done, hold, bars, trials, "chosen", days, swept=near)
        clock.append(time.perf_counter())
        text = page(sheet, tear_sheet_charts(sheet, done, bars, days), done.trades)
        clock.append(time.perf_counter())
        found = dict(zip(("simulated", "swept", "judged", "drawn"), np.diff(clock), strict=True)) | {
            "bytes": len(text.encode())
        }
    return found


def main() -> None:
    """Print a table of measures, bounds and verdicts."""
    found = measure()
    report = found["judged"] + found["drawn"]
    print("| 1,000,000 one-minute bars | value | bound | verdict |\n|---|---|---|---|")
    print(f"| report: judged {found['judged']:.1f} s and drawn {found['drawn']:.1f} s | {report:.1f} s | "
          f"{SECONDS:.0f} s | "
          f"{'met' if report <= SECONDS else 'missed'} |")
    size = found["bytes"] / 1e6
    print(f"| the page | {size:.2f} MB | {MEGABYTES:.0f} MB | {'met' if size <= MEGABYTES else 'missed'} |")
    print(f"| before it: strategy and holding simulated | {found['simulated']:.1f} s | | |\n"
          f"| before it: the neighbouring rules | {found['swept']:.1f} s | | |")


if __name__ == "__main__":
    main()
