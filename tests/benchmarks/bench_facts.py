"""1,000,000 daily and hourly bars joined with 10 facts of 100 symbols as they were known, beside pandas' own
as-of merge."""

import time

import numpy as np
import pandas as pd

from mlfin.facts.facts import as_facts, as_known, asof_join

BOUND = 1.5  # times pandas' merge_asof, which knows no restatements


def panel(symbols: int = 100, rows: int = 10_000) -> pd.DataFrame:
    """Hourly bars of several symbols: key columns only."""
    ts = pd.date_range("2015-01-01", periods=rows, freq="h", tz="UTC").as_unit("us")
    at = pd.DatetimeIndex(np.tile(ts.asi8, symbols).view("M8[us]")).tz_localize("UTC")
    names = np.repeat(np.array([f"S{i:04d}" for i in range(symbols)]), rows)
    return pd.DataFrame(
        {"symbol": pd.Series(names, dtype="str"), "ts": at, "known_at": at + pd.Timedelta("1h")}
    )


def reports(symbols: int = 100, names: int = 10, quarters: int = 24, seed: int = 3) -> pd.DataFrame:
    """Quarters of several facts, published late, a third of them restated."""
    rng = np.random.default_rng(seed)
    ends = pd.date_range("2013-03-31", periods=quarters, freq="QE")
    rows = [
        (
            f"S{s:04d}",
            f"fact_{chr(97 + n)}",
            float(rng.normal()),
            e - pd.offsets.QuarterBegin(startingMonth=1),
            e,
            e.tz_localize("UTC") + pd.Timedelta(days=30 + int(late)),
            "x",
        )
        for s in range(symbols)
        for n in range(names)
        for e in ends
        for late in ([0, 60] if rng.random() < 1 / 3 else [0])
    ]
    return as_facts(rows)


def plain(bars: pd.DataFrame, facts: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """What pandas does: the last publication, whichever period it is about."""
    ordered, out = bars.sort_values("known_at"), bars[["symbol", "known_at"]].copy()
    for name in names:
        own = facts[facts.name == name].sort_values("published")[["symbol", "published", "value"]]
        out[name] = (
            pd.merge_asof(ordered, own, left_on="known_at", right_on="published", by="symbol")
            .set_index(ordered.index)
            .value
        )
    return out


def measure(symbols: int = 100, rows: int = 10_000, names: int = 10) -> list[tuple[str, float, float]]:
    """Name, value and bound of each measure."""
    bars, facts = panel(symbols, rows), reports(symbols, names)
    wanted, took = sorted(facts.name.unique()), {}
    for name, function in {
        "asof_join": lambda: asof_join(bars, facts, wanted),
        "merge_asof": lambda: plain(bars, facts, wanted),
        "states": lambda: as_known(facts, wanted),
    }.items():
        took[name] = float("inf")
        for _ in range(3):
            begin = time.perf_counter()
            function()
            took[name] = min(took[name], time.perf_counter() - begin)
    print(
        f"{len(bars):,} bars, {names} facts, {len(facts):,} publications:",
        ", ".join(f"{n} {s:.2f} s" for n, s in took.items()),
        "\n",
    )
    return [
        ("asof_join / merge_asof", took["asof_join"] / took["merge_asof"], BOUND),
        ("asof_join, seconds", took["asof_join"], float("nan")),
    ]


def main() -> None:
    """Print a table of measures, bounds and verdicts."""
    lines = measure()
    print("| measure | value | bound | verdict |\n|---|---|---|---|")
    for name, value, bound in lines:
        verdict = "" if np.isnan(bound) else "met" if value <= bound else "missed"
        print(f"| {name} | {value:.2f} | {'' if np.isnan(bound) else f'{bound:.1f}x'} | {verdict} |")


if __name__ == "__main__":
    main()
