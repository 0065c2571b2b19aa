"""Noise is called noise, and an edge an edge: `significance` on strategies of which the truth is known.

`pytest -s` prints the figures; `pytest -m slow -s` those of the full sizes.
"""

from math import sqrt

import numpy as np
import pandas as pd
import pytest

from mlfin.significance.significance import significance

DAYS = pd.date_range("2010-01-01", periods=2520, tz="UTC", unit="us", name="date")


def judged(values: np.ndarray) -> dict:
    """What is said of the best of these strategies (days x strategies)."""
    ratios = values.mean(axis=0) / values.std(axis=0, ddof=1)
    tried = pd.DataFrame(values, DAYS[:len(values)])
    return significance(tried[int(ratios.argmax())], tried, draws=100)


def noise_experiment(replications: int, rows: int = 1000, trials: int = 100) -> tuple[float, float, float]:
    """(mean PBO, share of best strategies with DSR above 0.95, mean effective number) without any skill."""
    found = [judged(np.random.default_rng(seed).normal(0, 0.01, (rows, trials)))
             for seed in range(replications)]
    pbo, dsr, number = (np.array([f[key] for f in found]) for key in ("pbo", "dsr", "n_effective"))
    print(f"{replications} replications of {trials} noise strategies: mean PBO {pbo.mean():.3f}, DSR > 0.95 "
          f"in {np.mean(dsr > 0.95):.1%}, "
          f"largest DSR {dsr.max():.3f}, effective trials {number.mean():.1f}")
    return pbo.mean(), np.mean(dsr > 0.95), number.mean()


def family_experiment(replications: int, rows: int = 500) -> float:
    """Share of best strategies with DSR above 0.95, of five worthless families of forty with correlation
    0.7."""
    wrong = []
    for seed in range(replications):
        rng = np.random.default_rng(seed)
        ideas = np.repeat(rng.normal(size=(rows, 5)), 40, axis=1)
        wrong.append(judged(0.01 * (sqrt(0.7) * ideas + sqrt(0.3) * rng.normal(size=(rows, 200))))["dsr"]
                     > 0.95)
    print(f"{replications} replications of five worthless families of 40: DSR > 0.95 in {np.mean(wrong):.1%}")
    return np.mean(wrong)


def edge_experiment(seeds: int, trials: int, copies: int = 0) -> float:
    """How often a strategy of Sharpe ratio 2 a year over ten years has DSR above 0.95, beside noise and
    near-copies of itself."""
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        values = rng.normal(0, 0.01, (2520, trials))
        values[:, 0] += 2 / sqrt(252) * 0.01
        values = np.hstack([values, values[:, [0]] + rng.normal(0, 0.001, (2520, copies))])
        found.append(judged(values)["dsr"] > 0.95)
    print(f"an edge among {trials} trials and {copies} near-copies: found in {np.sum(found)} of {seeds}")
    return np.mean(found)


def test_noise_is_called_noise():
    """Reduced: 20 replications; the mean of so few PBOs is known to about 0.043."""
    pbo, wrong, number = noise_experiment(20)
    assert pbo == pytest.approx(0.5, abs=0.1) and wrong <= 0.05 and number >= 98


def test_families_of_noise_are_called_noise():
    assert family_experiment(15) <= 0.07


def test_an_edge_is_called_an_edge():
    assert edge_experiment(8, 20) >= 0.75


@pytest.mark.slow
def test_noise_is_called_noise_in_full():
    pbo, wrong, number = noise_experiment(200)
    assert pbo == pytest.approx(0.5, abs=0.05) and wrong <= 0.05 and number >= 98
    assert family_experiment(200) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("trials, copies", [(10, 0), (100, 0), (10, 300)])
def test_an_edge_is_called_an_edge_in_full(trials, copies):
    assert edge_experiment(50, trials, copies) >= 0.8
