"""Intervals hold what they promise, on cases that depend on each other too; a verdict is no noise."""
import numpy as np
import pandas as pd
import pytest

from mlfin.monitor.score import live_verdict, mean_worth, score_live, wilson_interval


def test_wilson_is_statsmodels():
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for n in (1, 7, 20, 148, 2000):
        for hits in {0, 1, n // 3, n - 1, n}:
            for level in (0.5, 0.9, 0.95, 0.99):
                wanted = proportion.proportion_confint(hits, n, 1 - level, method="wilson")
                assert wilson_interval(hits / n, n, level) == pytest.approx(wanted, abs=1e-12), (
                    hits, n, level)


def test_wilson_holds_its_level():
    rng = np.random.default_rng(0)
    for p, n in ((0.5, 40), (0.9, 60), (0.53, 250)):
        found = [wilson_interval(h / n, n) for h in rng.binomial(n, p, 4000)]
        assert 0.93 < np.mean([low <= p <= high for low, high in found]) < 0.975


def together(rng, days, symbols, horizon, share=0.5):
    "Hits of `symbols` that depend on a market and overlap by `horizon` days; a fair coin each."
    market, own = rng.normal(size=days + horizon), rng.normal(size=(days + horizon, symbols))
    moves = np.sqrt(share) * market[:, None] + np.sqrt(1 - share) * own
    sums = np.lib.stride_tricks.sliding_window_view(moves, horizon, axis=0)[:days].sum(axis=2)
    return (sums > 0).ravel(), np.repeat(np.arange(days), symbols)


def test_intervals_of_cases_that_depend_on_each_other_hold_what_they_promise():
    rng, ours, naive = np.random.default_rng(1), [], []
    for _ in range(600):
        hits, times = together(rng, days=250, symbols=5, horizon=5)
        share, _, worth = mean_worth(hits, times, 5)
        low, high = wilson_interval(share, worth)
        ours.append(low <= 0.5 <= high)
        low, high = wilson_interval(share, len(hits))
        naive.append(low <= 0.5 <= high)
    assert np.mean(ours) > 0.89 and np.mean(naive) < 0.6, (np.mean(ours), np.mean(naive))


def test_a_coin_is_seldom_called_worse_or_better():
    rng, states = np.random.default_rng(2), []
    for _ in range(600):
        rises, times = together(rng, days=250, symbols=3, horizon=5)
        said = 0.5 + 0.2 * (np.repeat(rng.random(250) < 0.5, 3) - 0.5)
        states.append(live_verdict(score_live(said, rises, times, 0.52, 5))[0])
    assert set(states) <= {"open", "worse", "better"}, pd.Series(states).value_counts().to_dict()
    assert np.mean([s != "open" for s in states]) < 0.04, pd.Series(states).value_counts().to_dict()


def test_what_is_worse_or_better_is_called_so():
    rng, found = np.random.default_rng(3), []
    for right in (0.4, 0.6):
        rises = rng.integers(0, 2, 1500)
        said = np.where(rng.random(1500) < right, rises, 1 - rises) * 0.2 + 0.4
        told = score_live(said, rises, np.repeat(np.arange(300), 5), 0.5)
        found.append(live_verdict(told)[0])
    assert found == ["worse", "better"]


@pytest.mark.parametrize("days, wanted", [(0, "none"), (5, "early"), (19, "early"), (60, "open")])
def test_little_is_called_little(days, wanted):
    rng = np.random.default_rng(4)
    y = rng.integers(0, 2, 40 * days)
    # 40 symbols a day are not 40 days
    told = score_live(np.full(40 * days, 0.6), y, np.repeat(np.arange(days), 40), 0.6)
    assert live_verdict(told)[0] == wanted
    one = score_live([0.9] * 30, [1] * 30, np.arange(30), 0.4)
    assert one["accuracy"] == 1 and one["accuracy_low"] < 0.95 and live_verdict(one)[0] in ("better", "open")


def test_a_regression():
    rng = np.random.default_rng(5)
    came = rng.normal(size=500)
    told = score_live(came + rng.normal(size=500), came, np.arange(500), 0.0, sure=False)
    assert told["r2"] == pytest.approx(0, abs=0.15) and told["mae"] == pytest.approx(0.8, abs=0.08)
    assert "accuracy" not in told
    assert live_verdict(score_live(0.8 * came, came, np.arange(500), 0.0, sure=False))[0] == "better"
    assert live_verdict(score_live(came + 5, came, np.arange(500), 0.0, sure=False))[0] == "worse"
