"""PBO by CSCV with its degradation, and the days that trials have in common: against slow versions, ffn and
extremes."""

from itertools import combinations
from math import isnan, log

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlfin.significance.overfitting import common_days, probability_of_backtest_overfitting
from mlfin.core.errors import BacktestError, ParameterError


def noise(seed, rows=1000, trials=None, mean=0.0):
    return np.random.default_rng(seed).normal(mean, 0.01, rows if trials is None else (rows, trials))


def slow_pbo(values, blocks):
    """CSCV as the paper words it, one halving at a time."""
    parts, logits = np.array_split(values[len(values) % blocks:], blocks), []
    for chosen in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([parts[b] for b in chosen])
        outside = np.concatenate([parts[b] for b in range(blocks) if b not in chosen])
        best = np.argmax(inside.mean(axis=0) / inside.std(axis=0, ddof=1))
        rank = stats.rankdata(outside.mean(axis=0) / outside.std(axis=0, ddof=1))[best]
        omega = rank / (values.shape[1] + 1)
        logits.append(log(omega / (1 - omega)))
    return np.array(logits)


@pytest.mark.parametrize("seed, rows, trials, blocks",
                         [(0, 200, 7, 8), (1, 333, 2, 6), (2, 90, 30, 10), (3, 64, 4, 4)])
def test_pbo_equals_the_slow_version(seed, rows, trials, blocks):
    values = noise(seed, rows, trials)
    found = probability_of_backtest_overfitting(values, blocks)
    expected = slow_pbo(values, blocks)
    np.testing.assert_allclose(found.logits, expected, atol=1e-12)
    assert found.pbo == pytest.approx(np.mean(expected < -1e-12) + np.mean(np.abs(expected) < 1e-12) / 2)
    assert len(found.in_sample) == len(found.out_of_sample) == len(expected)


def test_pbo_of_extremes():
    values = noise(4, 640, 11)
    values[:, 3] += 0.01
    assert probability_of_backtest_overfitting(values).pbo == 0.0
    same = np.repeat(noise(5, 200, 1), 3, axis=1)
    assert probability_of_backtest_overfitting(same, 8).pbo == 0.5
    flip = np.where(np.arange(160)[:, None] // 10 % 2,
                    1, -1) * np.array([0.01, -0.01]) + noise(6, 160, 2) / 10
    assert probability_of_backtest_overfitting(flip, 16).pbo > 0.6  # whoever won before loses now
    idle = np.column_stack([np.zeros(200), noise(7, 200), noise(8, 200)])
    assert np.isfinite(probability_of_backtest_overfitting(idle, 8).logits).all()


@pytest.mark.parametrize("seed, trials, blocks", [(0, 9, 8), (1, 20, 6)])
def test_pbo_is_that_of_ffn(seed, trials, blocks):
    ffn = pytest.importorskip("ffn", reason="ffn is not installed; it is in the extra dev")
    values = noise(seed, 240, trials)
    theirs = ffn.core.calc_prob_backtest_overfitting(pd.DataFrame(values), n_blocks=blocks, full_output=True)
    found = probability_of_backtest_overfitting(values, blocks)
    assert found.logits == pytest.approx(theirs["logits"].to_numpy(), abs=1e-12)
    # theirs counts a median as a loss
    assert found.pbo == pytest.approx(theirs["pbo"] - (np.abs(found.logits) < 1e-12).mean() / 2)


def test_degradation_is_the_line_through_the_winners():
    found = probability_of_backtest_overfitting(noise(3, 400, 15), 10)
    assert [found.slope, found.intercept] == pytest.approx(np.polyfit(found.in_sample, found.out_of_sample,
                                                                      1))
    assert found.probability_of_loss == (found.out_of_sample < 0).mean()
    noisy = [probability_of_backtest_overfitting(noise(seed, 400, 15), 10) for seed in range(60)]
    assert np.mean([x.slope < 0 for x in noisy]) > 0.6
    assert np.mean([x.probability_of_loss for x in noisy]) == pytest.approx(0.5, abs=0.08)
    skilled = probability_of_backtest_overfitting(noise(3, 400, 15) + 0.005 * (np.arange(15) == 2), 10)
    assert skilled.probability_of_loss == 0 and skilled.intercept > 0.3
    idle = probability_of_backtest_overfitting(np.zeros((100, 3)), 4)
    assert isnan(idle.slope) and isnan(idle.intercept) and idle.probability_of_loss == 0 and idle.pbo == 0.5


# --- days in common

def gaps(*spans, rows=1000):
    """A matrix of noise in which each trial has the days of its span only."""
    values = noise(0, rows, len(spans))
    for k, (begin, end) in enumerate(spans): values[:begin, k], values[end:, k] = np.nan, np.nan
    return values


def literal(values, chosen):
    """The best table over all sets of trials."""
    there, best = np.isfinite(values), 0
    others = [k for k in range(values.shape[1]) if k != chosen]
    for n in range(1, len(others) + 1):
        for some in combinations(others, n):
            days = there[:, [chosen, *some]].all(axis=1).sum()
            if days >= there[:, chosen].sum() / 4: best = max(best, (n + 1) * days)
    return best


def test_the_table_is_nearly_the_largest_there_is():
    rng, shares = np.random.default_rng(0), []
    for _ in range(40):
        begin = rng.integers(0, 150, 8)
        values = gaps(*zip(begin, begin + rng.integers(50, 300, 8), strict=True), rows=400)
        kept = common_days(values, 3)
        assert kept.trials[3] and np.isfinite(values[np.ix_(kept.days, kept.trials)]).all()
        most = literal(values, 3)
        shares.append(kept.trials.sum() * kept.days.sum() / most if most else 1.0)
    print(f"share of the largest table: mean {np.mean(shares):.3f}, least {min(shares):.3f}")
    assert np.mean(shares) > 0.95 and min(shares) > 0.7


def test_short_trials_are_left_out_and_the_chosen_one_never():
    spans = [(0, 1000)] * 50 + [(0, 60)] * 3 + [(900, 1000)]
    kept = common_days(gaps(*spans), 0)
    assert kept.trials.tolist() == [True] * 50 + [False] * 4 and kept.days.all()
    kept = common_days(gaps(*spans), 51)
    assert kept.trials.tolist() == [True] * 53 + [False] and kept.days.sum() == 60
    # a hundredth of the chosen one's days is no comparison
    kept = common_days(gaps((0, 1000), (990, 1000)), 0)
    assert kept.trials.tolist() == [True, False] and kept.days.all()
    assert common_days(noise(0, 20, 4)).trials.all() and common_days(noise(0, 20, 1)).days.all()


def test_a_trial_without_a_day_takes_nothing_away():
    values = gaps((0, 1000), (0, 1000), (0, 0))
    assert common_days(values).trials.tolist() == [True, True, False]
    nothing = common_days(values, 2)
    assert nothing.trials[2] and not nothing.days.any()


# --- bad input

@pytest.mark.parametrize("values, message", [
    (noise(0, 100, 1), "at least two trials"), (noise(0, 100), "at least two trials"),
    (noise(0, 10, 3), "at least 16 days"),
    (noise(0, 100, 3) * np.nan, "finite")])
def test_bad_matrices_are_named(values, message):
    with pytest.raises(BacktestError, match=message): probability_of_backtest_overfitting(values)


@pytest.mark.parametrize("blocks", [7, 30, 0, True, 4.0])
def test_bad_blocks_are_named(blocks):
    with pytest.raises(ParameterError, match="`blocks`"):
        probability_of_backtest_overfitting(noise(0, 100, 3), blocks)


def test_common_days_of_nothing():
    with pytest.raises(BacktestError, match="days x trials"): common_days(np.zeros((10, 0)))
    with pytest.raises(ParameterError, match="`chosen`"): common_days(np.zeros((10, 2)), 2)
