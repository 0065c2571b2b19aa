"""Significance: PBO of 1,000 trials, 10,000 bootstrap draws of 5,000 returns, Hansen's SPA, clusters of 2,000
trials; `arch` beside ours.

A row a measure. Compiling is left out: it is kept on disk.
"""

import time

import numpy as np
import pandas as pd

from mlfin.significance.bootstrap import bootstrap_intervals, spa_test
from mlfin.significance.clusters import effective_trials
from mlfin.backtest.random_entry import random_entry_null
from mlfin.significance.overfitting import common_days, probability_of_backtest_overfitting
from mlfin.significance.significance import significance

PBO, BOOTSTRAP, CLUSTERS = 10.0, 3.0, 2.0  # seconds


def took(function, rounds: int = 3) -> float:
    """Shortest of several runs, in seconds."""
    best = float("inf")
    for _ in range(rounds):
        begin = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - begin)
    return best


def arch_draws(returns: np.ndarray, draws: int, block: float) -> None:
    """The same three figures with `arch`: NumPy on each record that its bootstrap puts together."""
    from arch.bootstrap import StationaryBootstrap
    def figures(r):
        wealth = np.cumprod(1 + r)
        return np.array(
            [r.mean() / r.std(ddof=1), wealth[-1], (wealth / np.maximum.accumulate(wealth)).min() - 1]
        )

    StationaryBootstrap(block, returns, seed=0).apply(figures, draws)


def gaps(values: np.ndarray) -> np.ndarray:
    """Half of the trials begin later, each at a day of its own."""
    late = values.copy()
    for k in range(late.shape[1] // 2): late[:k, k] = np.nan
    return late


def held(rows: int = 2500) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Weights of one symbol, in for ten bars and out for ten, and its bars."""
    ts = pd.date_range("2010-01-01", periods=rows, tz="UTC", unit="us", name="ts")
    close = 100 * np.exp(np.random.default_rng(1).normal(0, 0.01, rows).cumsum())
    bars = pd.DataFrame({"symbol": "A", "ts": ts, "open": np.append(100, close[:-1]), "close": close})
    return pd.DataFrame({"A": (np.arange(rows) // 10 % 2).astype(float)}, ts), bars


def main() -> None:
    """Print a row a measure; fail beyond a bound."""
    rng = np.random.default_rng(7)
    many, returns = rng.normal(0, 0.01, (2500, 2000)), rng.normal(0.0005, 0.01, 5000)
    late = gaps(many)
    tried = pd.DataFrame(many[:, :1000], pd.date_range("2010-01-01", periods=2500, tz="UTC", unit="us"))
    weights, bars = held()
    bootstrap_intervals(returns, draws=100)
    random_entry_null(weights, bars, draws=100)
    ours, theirs = (
        took(lambda: bootstrap_intervals(returns, 1000, block=17)),
        took(lambda: arch_draws(returns, 1000, 17), 1),
    )
    measures = [
        (
            "PBO, 16 blocks, 1,000 trials of 2,500 days",
            lambda: probability_of_backtest_overfitting(many[:, :1000]),
            PBO,
        ),
        (
            "10,000 draws of 5,000 returns, own block length",
            lambda: bootstrap_intervals(returns, 10_000),
            BOOTSTRAP,
        ),
        (
            "10,000 draws of 5,000 returns, blocks of 17",
            lambda: bootstrap_intervals(returns, 10_000, block=17),
            BOOTSTRAP,
        ),
        ("SPA, 1,000 draws, 1,000 trials of 2,500 days", lambda: spa_test(many[:, :1000]), None),
        ("clusters, 2,000 trials of 2,500 days", lambda: effective_trials(many), CLUSTERS),
        ("clusters, 2,000 trials, half of them begin later", lambda: effective_trials(late), CLUSTERS),
        ("common days, 2,000 trials, 1,000 beginnings", lambda: common_days(late), None),
        ("random-entry null, 1,000 draws of 2,500 bars", lambda: random_entry_null(weights, bars), None),
        ("significance, 1,000 trials of 2,500 days", lambda: significance(tried[0], tried), None),
    ]
    print("| measure | value | bound | verdict |\n|---|---|---|---|")
    late_ones = []
    for name, function, bound in measures:
        seconds = took(function)
        late_ones += [name] if bound and seconds > bound else []
        verdict = "none" if not bound else "met" if seconds <= bound else "missed"
        print(f"| {name} | {seconds:.2f} s | {f'{bound:g} s' if bound else 'none'} | {verdict} |")
    print(f"| 1,000 draws of 5,000 returns: `arch` / ours | {theirs / ours:.0f}x | none | none |")
    assert not late_ones, late_ones


if __name__ == "__main__":
    main()
