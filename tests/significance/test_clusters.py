"""The effective number of trials: noise stays what it is, copies and sweeps count once, gaps tell nothing."""


import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfin.significance.clusters import _correlations, _likeness, _standardised, effective_trials
from mlfin.core.errors import BacktestError, ParameterError


def noise(seed, rows=1000, trials=10):
    return np.random.default_rng(seed).normal(0, 0.01, (rows, trials))


def families(seed, rows, sizes, rho):
    """Trials that move together within a family and independently between them."""
    rng = np.random.default_rng(seed)
    return 0.01 * np.hstack([rho**0.5 * rng.normal(size=(rows, 1)) + (1 - rho) ** 0.5
                             * rng.normal(size=(rows, n)) for n in sizes])


def with_gaps(values, seed, share=0.3):
    return np.where(np.random.default_rng(seed).random(values.shape) < share, np.nan, values)


@pytest.mark.parametrize("rows, trials", [(30, 100), (60, 300), (250, 300), (2500, 300)])
def test_independent_noise_counts_as_about_as_many_trials_as_there_are(rows, trials):
    numbers = [effective_trials(noise(seed, rows, trials)).number for seed in range(5)]
    print(f"{trials} trials of {rows} days: {min(numbers)} to {max(numbers)} clusters")
    assert min(numbers) >= 0.98 * trials


def test_a_sweep_of_near_copies_is_a_handful():
    values = families(0, 2500, [1000, 1, 1, 1, 1], 0.97)
    found = effective_trials(values)
    assert found.number == 5 and np.bincount(found.clusters).tolist() == [1000, 1, 1, 1, 1]


@pytest.mark.parametrize("seed, rows, sizes, rho",
                         [(0, 500, [7, 3, 12], 0.8), (1, 250, [30, 1, 30, 2], 0.9), (2, 2000, [5] * 8, 0.65)])
def test_families_are_found_whatever_the_order_and_the_scale(seed, rows, sizes, rho):
    values, truth = families(seed, rows, sizes, rho), np.repeat(np.arange(len(sizes)), sizes)
    order = np.random.default_rng(seed).permutation(len(truth))
    found = effective_trials(values[:, order] * np.random.default_rng(1).uniform(0.1, 10, len(truth)))
    assert found.number == len(sizes)
    assert len(set(zip(found.clusters, truth[order], strict=True))) == len(sizes)
    assert np.array_equal(found.clusters, effective_trials(values[:, order]).clusters)


def test_clusters_are_numbered_as_they_appear_and_their_returns_weigh_trials_alike():
    values = families(3, 600, [1, 4, 2], 0.9)
    found = effective_trials(values)
    assert found.clusters.tolist() == [0, 1, 1, 1, 1, 2, 2]
    scaled = values / values.std(axis=0)
    for k in range(3):
        own = scaled[:, found.clusters == k].mean(axis=1)
        assert found.sharpes[k] == pytest.approx(own.mean() / own.std(ddof=1))
    assert found.trial_sharpes == pytest.approx(values.mean(axis=0) / values.std(axis=0, ddof=1))
    assert found.sharpes[0] == pytest.approx(found.trial_sharpes[0])


def test_copies_idle_trials_and_opposites():
    values = noise(4, 300, 6)
    # the opposite bet is another bet
    assert effective_trials(np.hstack([values, values, -values])).number == 12
    assert effective_trials(np.hstack([values, values + 1e-9 * noise(5, 300, 6)])).number == 6
    idle = effective_trials(np.hstack([values, np.zeros((300, 4)), np.full((300, 2), 0.001)]))
    assert idle.number == 7 and idle.sharpes[-1] == 0 and len(set(idle.clusters[6:])) == 1
    short = noise(6, 10, 3)
    assert effective_trials(short[:, [0, 1, 2, 0, 0]]).number == 3  # ten days: only what is equal is alike
    assert effective_trials(short * [1, 1, 1]).clusters.tolist() == [0, 1, 2]


def test_trials_with_gaps():
    values = families(7, 800, [6, 6, 1], 0.9)
    assert effective_trials(with_gaps(values, 0)).number == 3
    apart = values.copy()
    # no day in common: not alike with one another, each with the rest
    apart[:400, 0], apart[400:, 1] = np.nan, np.nan
    assert effective_trials(apart[:, :2]).number == 2 and effective_trials(apart).number == 3
    few = np.full((800, 2), np.nan)
    few[:19], few[19:400, 0], few[400:, 1] = values[:19, :1], values[19:400, 0], values[400:, 0]
    assert effective_trials(few).number == 2  # 19 common days, equal ones, tell nothing
    few[:25, :] = values[:25, :1]
    assert effective_trials(few).number == 1
    empty = effective_trials(np.column_stack([values[:, 0], np.full(800, np.nan),
                                              np.r_[0.01, np.full(799, np.nan)]]))
    assert empty.number == 3 and np.isfinite(empty.sharpes).all() and empty.sharpes[1:].tolist() == [0, 0]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(25, 200), st.integers(2, 6), st.floats(0, 0.6))
def test_correlations_equal_those_of_pandas(seed, rows, trials, share):
    frame = pd.DataFrame(with_gaps(noise(seed, rows, trials), seed + 1, share))
    rho, n = _correlations(_standardised(frame.to_numpy()))
    there, n = frame.notna().to_numpy().astype(int), np.broadcast_to(n, (trials, trials))
    assert np.array_equal(n, there.T @ there)
    enough = n >= 5
    assert rho[enough] == pytest.approx(frame.corr().to_numpy()[enough], abs=2e-4)
    alike = _likeness(_standardised(frame.to_numpy()))
    assert np.array_equal(alike, alike.T) and (np.diag(alike) == 1).all()
    off = ~np.eye(trials, dtype=bool)
    assert (alike[off & (n < 20)] == 0).all() and (alike[off & (n >= 20)] < rho[off & (n >= 20)]).all()


def test_near_copies_with_gaps_count_once_among_many():
    values = families(8, 2500, [1000] + [1] * 500, 0.95)
    values[:1000, 1200:] = np.nan
    assert effective_trials(values).number == 501


@pytest.mark.parametrize("values, message", [
    (np.zeros((10, 0)), "at least one trial"), (np.zeros(10), "at least one trial"),
    (np.full((10, 2), np.inf), "finite or NaN")])
def test_bad_matrices_are_named(values, message):
    with pytest.raises(BacktestError, match=message): effective_trials(values)


def test_one_trial_and_bad_parameters():
    one = effective_trials(noise(0, 50, 1))
    assert one.number == 1 and one.clusters.tolist() == [0]
    for alike in (0, 1, float("nan")):
        with pytest.raises(ParameterError, match="`alike`"): effective_trials(noise(0), alike)
