"""PSR, DSR, MinTRL and Lo's error against the papers' examples, other people's code, slow independent
versions and properties."""

import json
from math import inf, isnan, sqrt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter

from mlfin.significance.clusters import effective_trials
from mlfin.significance.significance import (_rests, deflated_sharpe_ratio, expected_best_sharpe,
                                             expected_maximum_sharpe, hedge, significance)
from mlfin.significance.sharpe_ratio import (annualisation, lo_standard_error, minimum_track_record_length,
                                             Moments, moments, probabilistic_sharpe_ratio, sharpe,
                                             sharpe_standard_error)
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
    assert minimum_track_record_length(record,
                                       1 / sqrt(per_year)) / per_year == pytest.approx(years, abs=5e-3)


@pytest.mark.parametrize("trials, skew, kurtosis, luck, dsr", [
    (100, -3, 10, 0.1132, 0.9004), (46, -3, 10, 0.1004, 0.9505), (88, 0, 3, 0.1111, 0.9505)])
def test_dsr_of_the_2014_example(trials, skew, kurtosis, luck, dsr):
    """2.5 a year on 1250 of 250 days a year, trials' variance 1/2 a year; without skew and tails 88 trials
    would be allowed."""
    got = expected_maximum_sharpe(trials, 0.5 / 250)
    assert got == pytest.approx(luck, abs=5e-5)
    assert probabilistic_sharpe_ratio(Moments(1250, 2.5 / sqrt(250), skew, kurtosis),
                                      got) == pytest.approx(dsr, abs=5e-5)


# --- other people's code

def test_dsr_is_that_of_ffn():
    """Theirs takes skewness and kurtosis without bias, ours those of the sample: the same with long
    records."""
    ffn = pytest.importorskip("ffn", reason="ffn is not installed; it is in the extra dev")
    for seed, rows, trials in ((0, 5000, 12), (1, 20_000, 40)):
        tried = np.random.default_rng(seed).standard_t(5, (rows, trials)) * 0.01
        ratios = tried.mean(axis=0) / tried.std(axis=0, ddof=1)
        best = pd.Series(tried[:, ratios.argmax()], pd.date_range("1960-01-01", periods=rows))
        theirs = ffn.core.calc_deflated_sharpe_ratio(best, ratios, nperiods=252, annualized_trials=False)
        assert deflated_sharpe_ratio(best, ratios) == pytest.approx(theirs, abs=2e-4)
        assert expected_maximum_sharpe(trials, ratios.var(ddof=1)) == pytest.approx(
            ffn.core.calc_expected_max_sharpe(trials, ratios.std(ddof=1))
        )


def test_psr_and_dsr_are_those_of_skfolio():
    measures = pytest.importorskip("skfolio.measures",
                                   reason="skfolio is not installed; it is in the extra dev")
    for seed, rows, trials in ((0, 60, 3), (1, 500, 12), (2, 2500, 200)):
        tried = np.random.default_rng(seed).standard_t(5, (rows, trials)) * 0.01 + 0.0003
        ratios = tried.mean(axis=0) / tried.std(axis=0, ddof=1)
        best = tried[:, ratios.argmax()]
        assert probabilistic_sharpe_ratio(best,
                                          0.02) == pytest.approx(measures.probabilistic_sharpe_ratio(best,
                                                                                                     0.02),
                                                                 rel=1e-9)
        assert deflated_sharpe_ratio(best,
                                     ratios) == pytest.approx(measures.deflated_sharpe_ratio(best, ratios),
                                                              rel=1e-9)


def test_lo_error_is_that_of_a_regression_with_newey_west_errors():
    import statsmodels.api as sm
    r = moving(3, 800, 0.4) + 0.001
    far, ratio = r - r.mean(), sharpe(r)
    pull = far / far.std() - ratio / 2 * (far**2 / far.var() - 1)
    for lags in (0, 3, 10):
        theirs = sm.OLS(pull, np.ones(800)).fit(cov_type="HAC", cov_kwds=dict(maxlags=lags)).bse[0]
        assert lo_standard_error(r, lags) == pytest.approx(theirs, rel=1e-9)


# --- Lo (2002)

def moving(seed, rows, strength):
    """Returns in which each day keeps a part of the day before."""
    return lfilter([1.0], [1.0, -strength], noise(seed, rows))


def test_lo_error_is_what_repetition_shows():
    """400 records of 1,500 days, each with half of the day before: the spread of their ratios."""
    records = [moving(seed, 1500, 0.5) + 0.0005 for seed in range(400)]
    spread = np.std([sharpe(r) for r in records])
    assert np.mean([lo_standard_error(r, 25) for r in records]) == pytest.approx(spread, rel=0.1)
    assert np.mean([sharpe_standard_error(r) for r in records]) < 0.65 * spread
    plain = noise(0, 1500, mean=0.001)
    assert lo_standard_error(plain, 0) == pytest.approx(sharpe_standard_error(plain), rel=1e-3)


@pytest.mark.parametrize("strength, q", [(0.5, 4), (-0.3, 12), (0.3, 252)])
def test_annual_factor_of_returns_that_keep_a_part(strength, q):
    """Lo's closed form for an autoregression of first order."""
    closed = sqrt(q) / sqrt(1 + 2 * strength / (1 - strength)
                            * (1 - (1 - strength**q) / (q * (1 - strength))))
    exact = q / sqrt(q + 2 * sum((q - k) * strength**k for k in range(1, q)))
    assert closed == pytest.approx(exact)
    assert annualisation(moving(4, 200_000, strength), q, 150) == pytest.approx(exact, rel=0.05)


def test_annual_factor_is_the_error_of_a_sum():
    """Returns of blocks of five days, added up: their ratio over the days' ratio is the factor for q = 5."""
    r = moving(5, 100_000, 0.4) + 0.001
    fives = r.reshape(-1, 5).sum(axis=1)
    assert sharpe(fives) / sharpe(r) == pytest.approx(annualisation(r, 5, 200), rel=0.01)
    assert annualisation(r, 5, 0) == sqrt(5) and annualisation(r, 1) == 1
    assert 0 < annualisation(np.tile([0.01, -0.009], 200), 252, 5) < inf


# --- formulas, written again

@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 400), st.floats(-0.3, 0.3))
def test_formulas_again(seed, n, benchmark):
    r = np.random.default_rng(seed).standard_t(4, n) * 0.01 + 0.001
    m = moments(r)
    assert m.skew == pytest.approx(stats.skew(r))
    assert m.kurtosis == pytest.approx(stats.kurtosis(r, fisher=False))
    assert m.sharpe == pytest.approx(pd.Series(r).mean() / pd.Series(r).std())
    error = sqrt((1 - m.skew * m.sharpe + (m.kurtosis - 1) / 4 * m.sharpe**2) / (n - 1))
    assert sharpe_standard_error(r) == pytest.approx(error)
    assert probabilistic_sharpe_ratio(r,
                                      benchmark) == pytest.approx(stats.norm.cdf((m.sharpe - benchmark)
                                                                                 / error))
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
    assert sharpe_standard_error(Moments(500, 0.3 / 0.5**0.5, -2 / sqrt(2),
                                         6.0)) == pytest.approx(spread, rel=0.05)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 500), st.floats(1e-6, 1e-2))
def test_more_trials_never_make_it_likelier(seed, n, variance):
    m = moments(noise(seed, 300, mean=0.002))
    assert expected_maximum_sharpe(n + 1, variance) > expected_maximum_sharpe(n, variance) >= 0
    ratios = np.random.default_rng(seed).normal(0, 0.05, n + 1)
    assert 0 <= deflated_sharpe_ratio(m, ratios, n_trials=2
                                      * len(ratios)) <= deflated_sharpe_ratio(m, ratios) <= 1
    assert deflated_sharpe_ratio(m, ratios) <= probabilistic_sharpe_ratio(m) + 1e-15


def test_scale_does_not_matter_and_units_do():
    r = noise(3, mean=0.001)
    for f in (sharpe, sharpe_standard_error, probabilistic_sharpe_ratio, minimum_track_record_length):
        assert f(r * 7) == pytest.approx(f(r), rel=1e-9)
    assert sharpe(r, 252) == pytest.approx(sharpe(r) * sqrt(252))


# --- all together

def test_significance_is_plain_and_consistent():
    tried = pd.DataFrame(noise(0, 2600, 5), index=DAYS, columns=list("abcde"))
    s = significance(tried["c"], tried, 252)
    assert json.loads(json.dumps(s)) == s and s["n_trials"] == 5 and s["pbo_blocks"] == 16
    assert s["annualised"] == pytest.approx(sharpe(tried["c"],
                                                   252)) and s["ci"][0] < s["annualised"] < s["ci"][1]
    assert s["dsr"] == pytest.approx(deflated_sharpe_ratio(tried["c"], [sharpe(tried[c]) for c in tried]))
    assert s == significance(tried["c"], tried, 252)
    long = tried.rename_axis(columns="trial").stack().rename("value").reset_index()
    assert significance(tried["c"], long, 252) == s
    assert significance(tried["c"], dict(tried.items()), 252) == s
    assert significance(tried["c"], tried.drop(columns="c"), 252)["n_trials"] == 5 # what was chosen was tried


def test_trials_of_other_days_and_idle_trials_count():
    tried = {"a": pd.Series(noise(1, 1000), DAYS[:1000]), "b": pd.Series(noise(2, 1000), DAYS[1200:2200]),
             "idle": pd.Series(0.0, DAYS[:1000])}
    s = significance(tried["a"], tried)
    assert s["n_trials"] == s["n_effective"] == 3 and s["pbo_trials"] == 2 and s["pbo_left_out"] == 1
    assert s["pbo_days"] == 1000
    variance = float(np.var([sharpe(tried["a"]), sharpe(tried["b"]), 0.0], ddof=1))
    assert (
        s["expected_maximum_raw"]
        == pytest.approx(expected_maximum_sharpe(3, variance))
        == s["expected_maximum"]
    )
    apart = significance(tried["a"], {"b": tried["b"]})
    assert apart["pbo"] is None and apart["pbo_reason"] == "the 2 trials have only 0 days in common"
    assert apart["n_effective"] == 2
    few = significance(tried["a"].iloc[:31], {"x": tried["b"].iloc[:31].set_axis(DAYS[:31])}, 365)
    assert few["pbo_blocks"] == 14 and few["pbo"] is not None and few["n_periods"] == 31
    assert (
        significance(tried["a"].iloc[:5], {"x": tried["b"].iloc[:5].set_axis(DAYS[:5])})["pbo_reason"]
        == "the 2 trials have only 5 days in common"
    )


def test_copies_and_sweeps_are_counted_once_and_the_choice_within_them_is_not_forgotten():
    rng = np.random.default_rng(11)
    ideas = rng.normal(0, 0.01, (2500, 5))
    swept = pd.DataFrame(np.hstack([ideas, ideas[:, [0]] + rng.normal(0, 0.001, (2500, 400))]),
                         DAYS[:2500]).rename(columns=str)
    s, alone = significance(swept["0"], swept), significance(swept["0"], swept.iloc[:, :5])
    assert s["n_trials"] == 405 and s["n_effective"] == alone["n_effective"] == 5
    assert alone["expected_maximum"] < s["expected_maximum"] < 1.4 * alone["expected_maximum"]
    copies = pd.concat([swept.iloc[:, :5]] * 3, axis=1).set_axis(range(15), axis=1)
    c = significance(swept["0"], copies)
    assert c["n_trials"] == 15 and c["n_effective"] == 5 and c["dsr"] == pytest.approx(alone["dsr"])
    assert c["dsr_raw"] < c["psr"]


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
    with pytest.raises(BacktestError, match="common days"):
        hedge(market, market.set_axis(DAYS + pd.Timedelta(hours=1)))


def test_what_is_left_of_each_trial_is_what_hedge_leaves():
    market = pd.Series(noise(1, 300, mean=0.001), DAYS[:300])
    tried = pd.DataFrame(noise(2, 320, 6), DAYS[20:340], columns=list("abcdef"))
    tried["b"] = market * 2
    tried["c"] += market.reindex(tried.index).fillna(0)
    tried.iloc[:100, 3] = np.nan
    tried.iloc[:-30, 4] = np.nan  # no day of the market
    left = _rests(tried, market)
    for k, name in enumerate(tried):
        if name == "e": assert np.isnan(left[:, k]).all()
        else:
            own = left[:, k]
            assert own[np.isfinite(own)] == pytest.approx(hedge(tried[name], market)[1].to_numpy(), abs=1e-15)
    assert np.nanmax(np.abs(_rests(tried, market * 0 + 0.01)[:, 0] - tried["a"].to_numpy())) == 0


def test_an_empty_ledger_is_one_trial():
    r = pd.Series(noise(0, 300), DAYS[:300], name="r")
    none = pd.DataFrame(index=pd.DatetimeIndex([], dtype="datetime64[us, UTC]", name="date"))
    s = significance(r, none)
    assert s == significance(r, None) == significance(r, {}) and s["n_trials"] == s["n_effective"] == 1
    assert s["dsr"] == s["dsr_raw"] == s["psr"] and s["pbo"] is None


@pytest.mark.parametrize("bad, message", [([0.01], "at least two"), ([0.01, np.nan, 0.02], "finite")])
def test_bad_records_are_refused(bad, message):
    with pytest.raises(BacktestError, match=message): significance(pd.Series(bad, DAYS[:len(bad)]), None)


def test_records_out_of_order_are_refused():
    r = pd.Series(noise(0, 50), DAYS[:50])
    for bad in (r.iloc[::-1], pd.concat([r, r.iloc[-1:]])):
        with pytest.raises(BacktestError, match="one value a day, ascending"): significance(bad, None)
    with pytest.raises(BacktestError, match="a Series of daily returns"): significance(r.to_numpy(), None)
    with pytest.raises(ParameterError, match="`periods_per_year`"): significance(r, None, 0)
    with pytest.raises(ParameterError, match="`blocks`"): significance(r, {"x": r * -1}, blocks=7)
    with pytest.raises(BacktestError, match="unique by date and trial"):
        significance(r, pd.DataFrame(dict(date=DAYS[:1].repeat(2), trial="a", value=0.1)))


def test_a_thousand_trials_with_gaps_are_all_counted():
    tried = pd.DataFrame(noise(0, 2500, 1000), DAYS[:2500])
    tried.iloc[:200, 500:] = np.nan
    market = pd.Series(noise(1, 2500), DAYS[:2500])
    s = significance(tried[0], tried, benchmark_returns=market)
    assert s["n_effective"] == 1000 and s["pbo_trials"] == 1000


def test_no_trade_and_loss():
    idle = significance(pd.Series(0.0, DAYS), None)
    assert idle["dsr"] is None and "never traded" in idle["reason"] and json.dumps(idle)
    steady = significance(pd.Series(0.001, DAYS), None)
    assert steady["dsr"] is None and steady["reason"] == "returns do not vary: 0.001 every day"
    loss = significance(pd.Series(noise(0, mean=-0.001), DAYS[:1000]), None)
    assert loss["min_track_record"] is None and loss["psr"] < 0.05


@pytest.mark.parametrize("f", [sharpe, sharpe_standard_error, probabilistic_sharpe_ratio, lo_standard_error,
                               moments])
@pytest.mark.parametrize("bad, message", [([0.1], "at least two"), ([], "at least two"),
                                          ([0.1, np.nan], "finite"),
                                          ([0.1, np.inf], "finite"), ([[0.1], [0.2]], "one column")])
def test_bad_returns_are_named(f, bad, message):
    with pytest.raises(BacktestError, match=f"`returns` must be {message}"): f(np.array(bad))


def test_constant_returns():
    for r in (np.zeros(10), np.full(10, 0.001), 1e-3 + np.array([0, 1e-17] * 5)):
        assert isnan(sharpe(r)) and annualisation(r, 252) == sqrt(252)
        with pytest.raises(BacktestError, match="of some variation"): probabilistic_sharpe_ratio(r)


def test_two_valued_returns_have_a_limit():
    # the error is zero at skew * sharpe = 2
    assert probabilistic_sharpe_ratio(Moments(10, 1.0, 2.0, 5.0)) in (0.0, 1.0)
    assert 0 <= probabilistic_sharpe_ratio([0.01, 0.02]) <= 1


@pytest.mark.parametrize("call, field", [
    (lambda: minimum_track_record_length(noise(0), confidence=1.0), "confidence"),
    (lambda: expected_maximum_sharpe(0.5, 1), "n_trials"),
    (lambda: expected_maximum_sharpe(5, -1), "variance"),
    (lambda: expected_maximum_sharpe(5, float("nan")), "variance"),
    (lambda: lo_standard_error(noise(0), lags=-1), "lags"),
    (lambda: lo_standard_error(noise(0), lags=1000), "lags"),
    (lambda: annualisation(noise(0), 0.5), "periods_per_year"),
    (lambda: annualisation(noise(0), inf), "periods_per_year"),
    (lambda: expected_best_sharpe(effective_trials(noise(0, 50, 3)), 3), "chosen"),
])
def test_bad_parameters_are_named(call, field):
    with pytest.raises(ParameterError, match=f"`{field}`"): call()


@pytest.mark.parametrize("skew, kurtosis", [(0, 0), (0, 0.9), (-3, 7), (0, float("nan"))])
def test_excess_kurtosis_is_refused_where_it_can_be_seen(skew, kurtosis):
    with pytest.raises(BacktestError, match="excess"): Moments(100, 0.1, skew, kurtosis)


@pytest.mark.parametrize("n", [1.0, 1.01, 1.1, 1.3, 2.0])
def test_no_number_of_trials_makes_a_record_better(n):
    assert expected_maximum_sharpe(n, 1.0) >= 0
