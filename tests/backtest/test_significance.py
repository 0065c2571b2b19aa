"""PSR, DSR, MinTRL, PBO and bootstrap against the papers' examples, slow independent versions and properties."""

import json
from itertools import combinations
from math import inf, isnan, log, sqrt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mlfin.backtest.significance import (
    Moments, bootstrap_sharpe, deflated_sharpe_ratio, expected_maximum_sharpe, hedge, minimum_track_record_length, moments,
    probabilistic_sharpe_ratio, probability_of_backtest_overfitting, sharpe, sharpe_standard_error, significance)
from mlfin.core.errors import BacktestError, ParameterError

DAYS = pd.date_range("2015-01-01", periods=2600, tz="UTC", unit="us", name="date")


def noise(seed, rows=1000, trials=None, mean=0.0):
    return np.random.default_rng(seed).normal(mean, 0.01, rows if trials is None else (rows, trials))


# --- the papers' worked examples

@pytest.mark.parametrize("n, skew, kurtosis, expected", [(24, 0.0, 3.0, 0.982), (24, -2.448, 10.164, 0.913)])
def test_psr_of_the_2012_example(n, skew, kurtosis, expected):
    assert probabilistic_sharpe_ratio(Moments(n, 0.458, skew, kurtosis)) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("per_year, skew, kurtosis, years", [
    (252, 0.0, 3.0, 2.73), (52, 0.0, 3.0, 2.83), (12, 0.0, 3.0, 3.24), (12, -0.72, 5.78, 4.99)])
def test_track_record_of_the_2012_example(per_year, skew, kurtosis, years):
    record = Moments(100, 2 / sqrt(per_year), skew, kurtosis)
    assert minimum_track_record_length(record, 1 / sqrt(per_year)) / per_year == pytest.approx(years, abs=5e-3)


@pytest.mark.parametrize("trials, skew, kurtosis, luck, dsr", [
    (100, -3, 10, 0.1132, 0.9004), (46, -3, 10, 0.1004, 0.9505), (88, 0, 3, 0.1111, 0.9505)])
def test_dsr_of_the_2014_example(trials, skew, kurtosis, luck, dsr):
    """2.5 a year on 1250 of 250 days a year, trials' variance 1/2 a year; without skew and tails 88 trials would be allowed."""
    got = expected_maximum_sharpe(trials, 0.5 / 250)
    assert got == pytest.approx(luck, abs=5e-5)
    assert probabilistic_sharpe_ratio(Moments(1250, 2.5 / sqrt(250), skew, kurtosis), got) == pytest.approx(dsr, abs=5e-5)


# --- formulas, written again

@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 400), st.floats(-0.3, 0.3))
def test_formulas_again(seed, n, benchmark):
    r = np.random.default_rng(seed).standard_t(4, n) * 0.01 + 0.001
    m = moments(r)
    assert m.skew == pytest.approx(stats.skew(r)) and m.kurtosis == pytest.approx(stats.kurtosis(r, fisher=False))
    assert m.sharpe == pytest.approx(pd.Series(r).mean() / pd.Series(r).std())
    error = sqrt((1 - m.skew * m.sharpe + (m.kurtosis - 1) / 4 * m.sharpe**2) / (n - 1))
    assert sharpe_standard_error(r) == pytest.approx(error)
    assert probabilistic_sharpe_ratio(r, benchmark) == pytest.approx(stats.norm.cdf((m.sharpe - benchmark) / error))
    length = minimum_track_record_length(r, benchmark)
    if m.sharpe > benchmark:  # a record of that length is just long enough
        there = sqrt((error**2 * (n - 1)) / (length - 1))
        assert stats.norm.cdf((m.sharpe - benchmark) / there) == pytest.approx(0.95)
    else: assert length == inf


def test_standard_error_is_what_repetition_shows():
    """Skewed, fat returns: the spread of 4,000 measured ratios."""
    rng = np.random.default_rng(2)
    r = 0.3 - (rng.gamma(2.0, 0.5, (4000, 500)) - 1.0)  # skew -1.41, kurtosis 6, mean 0.3, deviation 0.707
    spread = (r.mean(axis=1) / r.std(axis=1, ddof=1)).std()
    assert sharpe_standard_error(Moments(500, 0.3 / 0.5**0.5, -2 / sqrt(2), 6.0)) == pytest.approx(spread, rel=0.05)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 500), st.floats(1e-6, 1e-2))
def test_more_trials_never_make_it_likelier(seed, n, variance):
    m = moments(noise(seed, 300, mean=0.002))
    assert expected_maximum_sharpe(n + 1, variance) > expected_maximum_sharpe(n, variance) >= 0
    ratios = np.random.default_rng(seed).normal(0, 0.05, n + 1)
    assert 0 <= deflated_sharpe_ratio(m, ratios, n_trials=2 * len(ratios)) <= deflated_sharpe_ratio(m, ratios) <= 1
    assert deflated_sharpe_ratio(m, ratios) <= probabilistic_sharpe_ratio(m) + 1e-15


def test_scale_does_not_matter_and_units_do():
    r = noise(3, mean=0.001)
    for f in (sharpe, sharpe_standard_error, probabilistic_sharpe_ratio, minimum_track_record_length):
        assert f(r * 7) == pytest.approx(f(r), rel=1e-9)
    assert sharpe(r, 252) == pytest.approx(sharpe(r) * sqrt(252))


# --- PBO

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


@pytest.mark.parametrize("seed, rows, trials, blocks", [(0, 200, 7, 8), (1, 333, 2, 6), (2, 90, 30, 10), (3, 64, 4, 4)])
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
    flip = np.where(np.arange(160)[:, None] // 10 % 2, 1, -1) * np.array([0.01, -0.01]) + noise(6, 160, 2) / 10
    assert probability_of_backtest_overfitting(flip, 16).pbo > 0.6  # whoever won before loses now
    idle = np.column_stack([np.zeros(200), noise(7, 200), noise(8, 200)])
    assert np.isfinite(probability_of_backtest_overfitting(idle, 8).logits).all()


def test_noise_is_called_noise():
    """Reduced size: 100 noise strategies, 60 times over (the full size is 200)."""
    pbo, dsr = [], []
    for seed in range(60):
        values = noise(seed, 800, 100)
        ratios = values.mean(axis=0) / values.std(axis=0, ddof=1)
        pbo.append(probability_of_backtest_overfitting(values, 10).pbo)
        dsr.append(deflated_sharpe_ratio(values[:, ratios.argmax()], ratios))
    print(f"mean PBO {np.mean(pbo):.3f}, DSR > 0.95 in {np.mean(np.array(dsr) > 0.95):.1%}")
    assert np.mean(pbo) == pytest.approx(0.5, abs=0.05) and np.mean(np.array(dsr) > 0.95) <= 0.05


def test_an_edge_is_called_an_edge():
    """Sharpe ratio 2 a year for ten years, beside nine strategies of noise."""
    found = 0
    for seed in range(25):
        values = noise(seed, 2520, 10)
        values[:, 0] += 2 / sqrt(252) * 0.01
        ratios = values.mean(axis=0) / values.std(axis=0, ddof=1)
        found += deflated_sharpe_ratio(values[:, ratios.argmax()], ratios) > 0.95
    print(f"found in {found} of 25")
    assert found >= 20


# --- bootstrap

def test_bootstrap_equals_a_literal_resampling():
    """The running sums against records that are really put together, from the same blocks."""
    from mlfin.backtest.significance import _block_bounds
    r = noise(9, 250, mean=0.001)
    start, length = _block_bounds(250, 300, 6.0, np.random.default_rng(0))
    assert (length.sum(axis=1) == 250).all() and (length >= 0).all()
    ratios = [sharpe(np.concatenate([r[(s + np.arange(n)) % 250] for s, n in zip(*row, strict=True)]))
              for row in zip(start, length, strict=True)]
    expected = np.quantile(ratios, [0.025, 0.975])
    assert bootstrap_sharpe(r, draws=300, block=6.0, seed=0) == pytest.approx(tuple(expected), abs=1e-12)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    inside = [low <= 0.1 <= high for low, high in
              (bootstrap_sharpe(noise(s, 500, mean=0.001), draws=400, seed=s) for s in range(200))]
    assert 0.90 <= np.mean(inside) <= 0.985


def test_bootstrap_is_wider_where_days_hang_together():
    e = noise(1, 3000)
    r = pd.Series(e).ewm(alpha=0.3).mean().to_numpy() + 0.0005
    wide, narrow = bootstrap_sharpe(r, block=30), bootstrap_sharpe(r, block=1)
    assert np.ptp(wide) > 1.3 * np.ptp(narrow)
    assert bootstrap_sharpe(r, seed=3) == bootstrap_sharpe(r, seed=3) != bootstrap_sharpe(r, seed=4)


# --- all together

def test_significance_is_plain_and_consistent():
    tried = pd.DataFrame(noise(0, 2600, 5), index=DAYS, columns=list("abcde"))
    s = significance(tried["c"], tried, 252)
    assert json.loads(json.dumps(s)) == s and s["n_trials"] == 5 and s["pbo_blocks"] == 16
    assert s["annualised"] == pytest.approx(sharpe(tried["c"], 252)) and s["ci"][0] < s["annualised"] < s["ci"][1]
    assert s["dsr"] == pytest.approx(deflated_sharpe_ratio(tried["c"], [sharpe(tried[c]) for c in tried]))
    assert s == significance(tried["c"], tried, 252)
    long = tried.rename_axis(columns="trial").stack().rename("value").reset_index()
    assert significance(tried["c"], long, 252) == s
    assert significance(tried["c"], dict(tried.items()), 252) == s
    assert significance(tried["c"], tried.drop(columns="c"), 252)["n_trials"] == 5  # what was chosen was tried


def test_trials_of_other_days_and_idle_trials_count():
    tried = {"a": pd.Series(noise(1, 1000), DAYS[:1000]), "b": pd.Series(noise(2, 1000), DAYS[1200:2200]),
             "idle": pd.Series(0.0, DAYS[:1000])}
    s = significance(tried["a"], tried)
    assert s["n_trials"] == 3 and s["pbo"] is None and "only 0 days in common" in s["pbo_reason"]
    assert s["expected_maximum"] == expected_maximum_sharpe(3, float(np.var([sharpe(tried["a"]), sharpe(tried["b"]), 0.0], ddof=1)))
    few = significance(tried["a"].iloc[:31], {"x": tried["b"].iloc[:31].set_axis(DAYS[:31])}, 365)
    assert few["pbo_blocks"] == 14 and few["pbo"] is not None and few["n_periods"] == 31


def test_being_long_at_random_in_a_rising_market_is_luck():
    market = pd.Series(noise(1, 2600, mean=0.0008), DAYS)
    tried = pd.DataFrame({f"t{i}": market * np.random.default_rng(i).integers(0, 2, 2600) for i in range(4)})
    s = significance(tried["t1"], tried, benchmark_returns=market)
    assert s["dsr"] > 0.95 > s["dsr_hedged"] and s["beta"] == pytest.approx(0.5, abs=0.05) and json.dumps(s)
    assert s["psr_hedged"] == pytest.approx(probabilistic_sharpe_ratio(hedge(tried["t1"], market)[1]))
    same = significance(market, None, benchmark_returns=market)
    assert same["beta"] == pytest.approx(1) and same["dsr_hedged"] == 0  # nothing is left of it
    flat = significance(tried["t1"], tried, benchmark_returns=market * 0)
    assert flat["beta"] == 0 and flat["dsr_hedged"] == pytest.approx(flat["dsr"])
    skill = (market + 0.001) * (np.arange(2600) % 2) * 1.0
    assert significance(skill, tried, benchmark_returns=market)["dsr_hedged"] > 0.95
    beta, left = hedge(tried["t2"], market)
    assert np.cov(left, market)[0, 1] == pytest.approx(0, abs=1e-12) and len(left) == 2600
    with pytest.raises(BacktestError, match="common days"): hedge(market, market.set_axis(DAYS + pd.Timedelta(hours=1)))


def test_no_trade_and_loss():
    idle = significance(pd.Series(0.0, DAYS), None)
    assert idle["dsr"] is None and "never traded" in idle["reason"] and json.dumps(idle)
    loss = significance(pd.Series(noise(0, mean=-0.001), DAYS[:1000]), None)
    assert loss["min_track_record"] is None and loss["psr"] < 0.05


@pytest.mark.parametrize("f", [sharpe, sharpe_standard_error, probabilistic_sharpe_ratio, bootstrap_sharpe, moments])
@pytest.mark.parametrize("bad, message", [([0.1], "at least two"), ([], "at least two"), ([0.1, np.nan], "finite"),
                                          ([0.1, np.inf], "finite"), ([[0.1], [0.2]], "one column")])
def test_bad_returns_are_named(f, bad, message):
    with pytest.raises(BacktestError, match=f"`returns` must be {message}"): f(np.array(bad))


def test_constant_returns():
    for r in (np.zeros(10), np.full(10, 0.001), 1e-3 + np.array([0, 1e-17] * 5)):
        assert isnan(sharpe(r)) and all(isnan(x) for x in bootstrap_sharpe(r))
        with pytest.raises(BacktestError, match="of some variation"): probabilistic_sharpe_ratio(r)


def test_two_valued_returns_have_a_limit():
    assert probabilistic_sharpe_ratio(Moments(10, 1.0, 2.0, 5.0)) in (0.0, 1.0)  # the error is zero at skew * sharpe = 2
    assert 0 <= probabilistic_sharpe_ratio([0.01, 0.02]) <= 1


@pytest.mark.parametrize("call, field", [
    (lambda: minimum_track_record_length(noise(0), confidence=1.0), "confidence"),
    (lambda: expected_maximum_sharpe(0.5, 1), "n_trials"), (lambda: expected_maximum_sharpe(5, -1), "variance"),
    (lambda: expected_maximum_sharpe(5, float("nan")), "variance"), (lambda: bootstrap_sharpe(noise(0), level=1), "level"),
    (lambda: bootstrap_sharpe(noise(0), draws=10), "draws"), (lambda: bootstrap_sharpe(noise(0), block=0), "block"),
    (lambda: probability_of_backtest_overfitting(noise(0, 100, 3), 7), "blocks"),
    (lambda: probability_of_backtest_overfitting(noise(0, 100, 3), 30), "blocks"),
])
def test_bad_parameters_are_named(call, field):
    with pytest.raises(ParameterError, match=f"`{field}`"): call()


@pytest.mark.parametrize("values, message", [
    (noise(0, 100, 1), "at least two trials"), (noise(0, 100), "at least two trials"), (noise(0, 10, 3), "at least 16 days"),
    (noise(0, 100, 3) * np.nan, "finite")])
def test_bad_matrices_are_named(values, message):
    with pytest.raises(BacktestError, match=message): probability_of_backtest_overfitting(values)


@pytest.mark.parametrize("skew, kurtosis", [(0, 0), (0, 0.9), (-3, 7), (0, float("nan"))])
def test_excess_kurtosis_is_refused_where_it_can_be_seen(skew, kurtosis):
    with pytest.raises(BacktestError, match="excess"): Moments(100, 0.1, skew, kurtosis)
