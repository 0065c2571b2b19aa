"""Stationary bootstrap, its block length, its intervals and Hansen's SPA: against literal versions, coverage
and `arch`."""

from math import isnan, sqrt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfin.significance.bootstrap import (
    _excess, _long_run, _resampled, _superior, block_length, bootstrap_intervals, bootstrap_sharpe, spa_test)
from mlfin.core.errors import BacktestError, ParameterError
from mlfin.validation.intervals import optimal_block


def noise(seed, rows=1000, trials=None, mean=0.0):
    return np.random.default_rng(seed).normal(mean, 0.01, rows if trials is None else (rows, trials))


def moving(seed, rows, strength):
    """Returns in which each day keeps a part of the day before."""
    e, out = noise(seed, rows), np.zeros(rows)
    for t in range(1, rows): out[t] = strength * out[t - 1] + e[t]
    return out


def drawn(n, draws, block, seed=0):
    return np.concatenate([part.copy() for part in _resampled(n, draws, block, seed)])


# --- the draws

def test_blocks_are_geometric_and_begin_anywhere():
    places = drawn(400, 2000, 7.0)
    assert places.min() == 0 and places.max() == 399
    goes_on = np.diff(places, axis=1) % 400 == 1
    # a new block may begin where the old one ended
    assert goes_on.mean() == pytest.approx(1 - 1 / 7 + 1 / 7 / 400, abs=2e-3)
    assert np.bincount(places.ravel(), minlength=400) == pytest.approx(2000, rel=0.25)
    begin = places[:, 0]
    assert np.histogram(begin, 10, (0, 400))[0] == pytest.approx(200, abs=60)
    # the last one of a row is cut off
    lengths = [np.diff(np.flatnonzero(np.r_[True, ~row, True])) for row in goes_on]
    inner = np.concatenate([x[:-1] for x in lengths])
    assert np.mean(inner == 1) == pytest.approx(1 / 7,
                                                abs=5e-3) and inner.mean() == pytest.approx(7, abs=0.25)


def test_draws_do_not_depend_on_how_they_are_cut():
    """1,500 periods: parts of 666 draws; the first 100 are the same in any number of them."""
    many = drawn(1500, 1000, 5.0)
    assert np.array_equal(many[:100], drawn(1500, 100, 5.0)) and not np.array_equal(many[0], many[1])
    assert not np.array_equal(many[:100], drawn(1500, 100, 5.0, seed=1))
    assert (np.diff(drawn(50, 100, 50.0), axis=1) % 50 == 1).mean() > 0.95
    assert len(np.unique(drawn(1000, 100, 1.0)[:, :2] @ [1000, 1])) > 95


def test_one_period_blocks_are_independent():
    places = drawn(100, 5000, 1.0)
    assert abs(np.corrcoef(places[:, 0], places[:, 1])[0, 1]) < 0.05
    assert (np.diff(places, axis=1) % 100 == 1).mean() == pytest.approx(0.01, abs=2e-3)


# --- block length

def block_of(x, bandwidth):
    """The rule of Politis and White with the correction of 2009, for a known bandwidth."""
    n, far, level, slope = len(x), x - x.mean(), 0.0, 0.0
    for k in range(-bandwidth, bandwidth + 1):
        covariance = far[abs(k):] @ far[:n - abs(k)] / n
        weight = 1.0 if abs(k) <= bandwidth / 2 else 2 * (1 - abs(k) / bandwidth)
        level, slope = level + weight * covariance, slope + weight * abs(k) * covariance
    return (2 * slope**2 / (2 * level**2)) ** (1 / 3) * n ** (1 / 3)


@pytest.mark.parametrize("seed, rows, strength", [(0, 300, 0.0), (1, 1000, 0.3), (2, 2500, 0.6),
                                                  (3, 800, 0.8), (4, 5000, -0.3)])
def test_block_length_is_that_of_arch(seed, rows, strength):
    """But for the bandwidth: `arch` takes twice the first lag that is noise, the paper twice the last that is
    not."""
    arch = pytest.importorskip("arch.bootstrap", reason="arch is not installed; it is in the extra dev")
    x = moving(seed, rows, strength)
    far, few = x - x.mean(), 2 * sqrt(np.log10(rows) / rows)
    quiet = np.array([abs(far[k:] @ far[:rows - k]) / (far @ far) < few for k in range(60)])
    last = next(k for k in range(50) if quiet[k + 1:k + 6].all())
    theirs = arch.optimal_block_length(x)["stationary"].iloc[0]
    assert theirs == pytest.approx(block_of(x, 2 * (last + 1)), rel=1e-9)
    assert optimal_block(x) == pytest.approx(max(block_of(x, 2 * max(last, 1)), 1.0), rel=1e-9)
    assert block_length(x) == max(optimal_block(x), optimal_block((x - x.mean()) ** 2))


# --- intervals

def literal(r, places, periods_per_year):
    """The three figures of records that are really put together."""
    rows = []
    for row in places:
        x = r[row]
        wealth = np.cumprod(1 + x)
        under = wealth / np.maximum.accumulate(np.r_[1.0, wealth])[1:] - 1
        rows.append((x.mean() / x.std(ddof=1) if np.ptp(x) else 0.0,
                     wealth[-1] ** (periods_per_year / len(x)) - 1, min(under.min(), 0.0)))
    return np.array(rows)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(5, 300), st.floats(1, 2), st.sampled_from([12.0, 252.0, 365.0]))
def test_intervals_equal_a_literal_resampling(seed, n, block, per_year):
    r = noise(seed, n, mean=0.001)
    found = bootstrap_intervals(r, draws=150, level=0.9, block=block, periods_per_year=per_year, seed=seed)
    expected = np.quantile(literal(r, drawn(n, 150, block, seed), per_year), [0.05, 0.95], axis=0)
    assert np.column_stack([found.sharpe, found.cagr,
                            found.max_drawdown]) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert -1 <= found.max_drawdown[0] <= found.max_drawdown[1] <= 0


def test_intervals_agree_with_those_of_arch():
    """Other draws, the same distribution: percentiles differ by chance only."""
    arch = pytest.importorskip("arch.bootstrap", reason="arch is not installed; it is in the extra dev")
    r = moving(5, 1000, 0.3) + 0.0005
    theirs = arch.StationaryBootstrap(10, r, seed=np.random.default_rng(0))
    deep = literal(r, np.array([theirs.update_indices() for _ in range(3000)]), 252)
    expected = np.quantile(deep, [0.025, 0.975], axis=0).T
    found = bootstrap_intervals(r, draws=3000, block=10)
    for own, other, spread in zip((found.sharpe, found.cagr, found.max_drawdown), expected, deep.std(axis=0),
                                  strict=True):
        assert own == pytest.approx(tuple(other), abs=0.15 * spread)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    inside = [low <= 0.1 <= high
              for low, high in (bootstrap_sharpe(noise(s, 500, mean=0.001), draws=400, seed=s)
                                for s in range(300))]
    print(f"covered in {np.mean(inside):.1%} of 300, asked for 95 %")
    assert 0.91 <= np.mean(inside) <= 0.98


def test_it_is_wider_where_days_hang_together():
    r = moving(1, 3000, 0.5) + 0.0005
    wide, narrow = bootstrap_sharpe(r), bootstrap_sharpe(r, block=1)
    assert block_length(r) > 5 and np.ptp(wide) > 1.3 * np.ptp(narrow)
    assert bootstrap_sharpe(r, seed=3) == bootstrap_sharpe(r, seed=3) != bootstrap_sharpe(r, seed=4)


def test_money_cannot_fall_below_nothing():
    r = np.r_[noise(0, 200), -1.5, noise(1, 200)]
    found = bootstrap_intervals(r, block=1)
    assert found.max_drawdown[0] == -1 and found.cagr[0] == -1 and found.max_drawdown[1] > -1


# --- superior predictive ability

def scaled(d, block):
    """Excess returns in units of their own error: with these `arch`, which does not studentise its statistic,
    does as Hansen does."""
    return d / np.sqrt(_long_run(d - d.mean(axis=0), block))


def test_the_long_run_variance_is_that_of_the_paper():
    d = np.column_stack([moving(s, 120, 0.5) for s in range(3)])
    far, n, p = d - d.mean(axis=0), 120, 1 / 6
    total = (far**2).sum(axis=0) / n
    for i in range(1, n):
        keep = (1 - i / n) * (1 - p) ** i + i / n * (1 - p) ** (n - i)
        total += 2 * keep * (far[:-i] * far[i:]).sum(axis=0) / n
    assert _long_run(far, 6.0) == pytest.approx(total, rel=1e-10)
    means = np.array([d[row].mean(axis=0) for row in drawn(120, 20_000, 6.0)])
    assert n * means.var(axis=0) == pytest.approx(total, rel=0.04)  # and what the draws show


@pytest.mark.parametrize("seed, edge", [(0, 0.0), (1, 0.0), (2, 0.0012), (3, 0.0008)])
def test_p_values_equal_those_of_arch_on_the_same_draws(seed, edge):
    arch = pytest.importorskip("arch.bootstrap", reason="arch is not installed; it is in the extra dev")
    d = noise(seed, 400, 12) + edge * (np.arange(12) == 3) - 0.002 * (np.arange(12) > 8)
    d = scaled(d, 5)
    theirs = arch.SPA(np.zeros(400), -d, block_size=5, reps=500, seed=np.random.default_rng(seed))
    theirs.compute()
    again = arch.StationaryBootstrap(5, d, seed=np.random.default_rng(seed))
    means = np.array([data[0][0].mean(axis=0) for data in again.bootstrap(500)])
    statistic, p = _superior(d, means, np.ones(12))
    assert statistic > 0 and p == pytest.approx(theirs.pvalues.to_numpy(), abs=1e-12)


@pytest.mark.parametrize("seed, edge", [(4, 0.0), (5, 0.0010)])
def test_p_values_agree_with_those_of_arch(seed, edge):
    arch = pytest.importorskip("arch.bootstrap", reason="arch is not installed; it is in the extra dev")
    d = noise(seed, 500, 20) + edge * (np.arange(20) == 3) - 0.001 * (np.arange(20) > 15)
    found = spa_test(d, draws=4000, block=5)
    theirs = arch.SPA(np.zeros(500), -scaled(d, 5), block_size=5, reps=2000, seed=np.random.default_rng(0))
    theirs.compute()
    assert [found.lower, found.consistent, found.upper] == pytest.approx(theirs.pvalues.to_numpy(), abs=0.03)


def test_spa_rejects_noise_about_as_often_as_it_should_and_finds_an_edge():
    noisy = [spa_test(noise(seed, 300, 20), draws=200, block=2, seed=seed).consistent for seed in range(200)]
    found = [spa_test(noise(seed, 1000, 20) + 0.0015 * (np.arange(20) == 4), draws=200, seed=seed).consistent
             for seed in range(30)]
    print(f"p < 0.05 in {np.mean(np.array(noisy) < 0.05):.1%} of 200 without an edge, in "
          f"{np.mean(np.array(found) < 0.05):.1%} of 30 with one")
    assert 0.01 <= np.mean(np.array(noisy) < 0.05) <= 0.09 and np.mean(np.array(found) < 0.05) >= 0.8


def test_bad_trials_and_copies_of_the_benchmark():
    base = noise(6, 500, mean=0.0005)
    d = np.column_stack([base + noise(7, 500), base, base - 0.01 + noise(8, 500)])
    found = spa_test(d, base)
    assert found.n_trials == 2 and found.best == 0 and found.lower <= found.consistent <= found.upper
    worse = spa_test(noise(9, 500, 4) - 0.005)
    assert worse.statistic == 0 and worse.upper > 0.4
    frame = pd.DataFrame(d, pd.date_range("2020-01-01", periods=500, tz="UTC"))
    assert spa_test(frame, pd.Series(base, frame.index)) == found
    assert spa_test(d[:, 0], base) == spa_test(d[:, :1], base)


# --- bad input

@pytest.mark.parametrize("f", [bootstrap_sharpe, bootstrap_intervals, block_length])
@pytest.mark.parametrize("bad, message", [([0.1], "at least two"), ([], "at least two"),
                                          ([0.1, np.nan], "finite"),
                                          ([0.1, np.inf], "finite"), ([[0.1], [0.2]], "one column")])
def test_bad_returns_are_named(f, bad, message):
    with pytest.raises(BacktestError, match=f"`returns` must be {message}"): f(np.array(bad))


@pytest.mark.parametrize("options, field", [
    (dict(level=1), "level"), (dict(level=0), "level"), (dict(draws=10), "draws"),
    (dict(draws=True), "draws"), (dict(block=0), "block"),
    (dict(block=1001), "block"), (dict(seed=-1), "seed"), (dict(seed=None), "seed"),
    (dict(periods_per_year=0), "periods_per_year")])
def test_bad_parameters_are_named(options, field):
    with pytest.raises(ParameterError, match=f"`{field}`"): bootstrap_intervals(noise(0), **options)


def test_constant_returns_have_no_interval():
    for r in (np.zeros(10), np.full(10, 0.001)):
        found = bootstrap_intervals(r)
        assert found.block == 1 and all(isnan(x) for pair in (found.sharpe, found.cagr, found.max_drawdown)
                                        for x in pair)


def test_two_returns_will_do():
    found = bootstrap_intervals([0.01, -0.005])
    assert found.max_drawdown == pytest.approx((0.995**2 - 1, 0.0)) and np.isfinite(found.cagr).all()


@pytest.mark.parametrize("trials, benchmark, message", [
    (noise(0, 5, 2), 0.0, "`trials` must be days x trials"),
    (noise(0, 50, 2) * np.nan, 0.0, "`trials` must be finite"),
    (noise(0, 50, 2), noise(0, 40), "`benchmark` must be a number or 50 returns"),
    (np.zeros((50, 3)), 0.0, "never trades"),
    (np.empty((50, 0)), 0.0, "`trials` must be days x trials"),
    (pd.DataFrame(noise(0, 50, 2)), pd.Series(noise(0, 50), range(1, 51)),
     "`benchmark` must be of the same days")])
def test_bad_trials_are_named(trials, benchmark, message):
    with pytest.raises(BacktestError, match=message): spa_test(trials, benchmark)


def test_excess_returns():
    assert _excess(noise(0, 10, 2), 0.01) == pytest.approx(noise(0, 10, 2) - 0.01)
    assert sqrt(_excess(noise(0, 10, 2), noise(1, 10)).var()) > 0
