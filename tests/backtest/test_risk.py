"""Drawdowns, months, figures and the sentences of the verdict."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfin.backtest.costs import Costs
from mlfin.backtest.risk import (benchmark_relation, cornish_fisher, cost_breakeven_bps, drawdowns,
                                 key_figures, monthly_returns, return_figures, rolling_sharpe, tail_risk)
from mlfin.backtest.verdicts import verdict
from mlfin.significance.significance import significance
from mlfin.backtest.simulate import buy_and_hold, simulate
from mlfin.core.errors import BacktestError, ParameterError

TS = pd.date_range("2020-01-01", periods=600, tz="UTC", unit="us", name="date")


def some_bars(seed=0, drift=0.0005, rows=600, symbols=1):
    rng = np.random.default_rng(seed)
    frames = []
    for s in range(symbols):
        close = 30 * np.exp(rng.normal(drift, 0.01, rows).cumsum())
        frames.append(pd.DataFrame(dict(symbol=f"S{s}", timeframe="1d", ts=TS[:rows],
                                        open=close * np.exp(rng.normal(0, 0.002, rows)),
                                        close=close)))
    return pd.concat(frames, ignore_index=True)


def on_and_off(bars, period=20):
    ts = pd.DatetimeIndex(sorted(bars.ts.unique()))[:-1]
    on = (np.arange(len(ts)) % period < period // 2) / bars.symbol.nunique()
    return pd.DataFrame({s: on for s in sorted(bars.symbol.unique())}, index=ts)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 120))
def test_drawdowns_by_hand(seed, n):
    money = pd.Series(100 * np.exp(np.random.default_rng(seed).normal(0, 0.05, n).cumsum()), index=TS[:n])
    depth, table = drawdowns(money, top=1000)
    peak, worst = -np.inf, 0.0
    for value, d in zip(money, depth, strict=True):
        peak = max(peak, value)
        assert d == pytest.approx(value / peak - 1)
        worst = min(worst, d)
    assert (table["depth"].min() if len(table) else 0.0) == pytest.approx(worst)
    for row in table.itertuples():
        assert money[row.trough] / money[row.peak] - 1 == pytest.approx(row.depth)
        assert row.peak < row.trough and (pd.isna(row.recovered) or money[row.recovered] >= money[row.peak])
    assert table["recovered"].isna().sum() == (depth.iloc[-1] < 0)
    assert table["depth"].is_monotonic_increasing


def test_drawdown_of_a_curve_that_only_rises():
    depth, table = drawdowns(pd.Series([1.0, 2, 3], index=TS[:3]))
    assert (depth == 0).all() and len(table) == 0 and table["peak"].dtype == TS.dtype
    for bad in (pd.Series([1.0, np.nan], index=TS[:2]), pd.Series([1.0, -1], index=TS[:2]),
                pd.Series([], dtype=float)):
        with pytest.raises(BacktestError, match="money > 0"): drawdowns(bad)


def test_months_compound_to_the_whole():
    r = pd.Series(np.random.default_rng(0).normal(0, 0.01, 600), index=TS)
    table = monthly_returns(r)
    assert np.nanprod(1 + table[list(range(1, 13))].to_numpy()) == pytest.approx((1 + r).prod())
    assert (1 + table["year"]).prod() == pytest.approx((1 + r).prod())
    assert list(table.columns) == [*range(1, 13), "year"] and table.loc[2021, 12] != table.loc[2021, 12]
    assert list(monthly_returns(r.iloc[:3]).index) == [2020]
    with pytest.raises(BacktestError): monthly_returns(r.iloc[:0])


def test_figures_by_hand():
    r = pd.Series([0.10, -0.05, 0.02, -0.03], index=TS[:4])
    f = return_figures(r, 252)
    curve = np.cumprod([1, 1.1, 0.95, 1.02, 0.97])
    assert f["total_return"] == pytest.approx(curve[-1]
                                              - 1) and f["cagr"] == pytest.approx(curve[-1] ** 63 - 1)
    assert f["volatility"] == pytest.approx(r.std()
                                            * 252**0.5) and f["sharpe"] == pytest.approx(r.mean() / r.std()
                                                                                         * 252**0.5)
    assert f["sortino"] == pytest.approx(r.mean() / np.sqrt((0.05**2 + 0.03**2) / 4) * 252**0.5)
    assert f["max_drawdown"] == pytest.approx(curve[-1] / 1.1
                                              - 1) and f["calmar"] == pytest.approx(f["cagr"] /
                                                                                    -f["max_drawdown"])
    assert f["max_drawdown_days"] == 3 and f["max_drawdown_recovery_days"] is None
    assert f["positive_days"] == 0.5


def test_a_loss_on_the_first_day_is_a_drawdown():
    assert return_figures(pd.Series([-0.1, 0.05], index=TS[:2]))["max_drawdown"] == pytest.approx(-0.1)


def test_key_figures_are_plain_and_add_up():
    bars = some_bars(symbols=3)
    sim = simulate(on_and_off(bars), bars, Costs(fee_bps=10, slippage_bps=5))
    f = key_figures(sim, 252)
    assert json.loads(json.dumps(f, allow_nan=False)) == f
    assert f["final_equity"] / f["initial_cash"] - 1 == pytest.approx(f["total_return"])
    assert f["costs"] == pytest.approx(f["fees"] + f["slippage"])
    assert f["charged_bps"] == pytest.approx(15, abs=0.01)
    assert f["trades"] + f["open_trades"] == len(sim.trades) and f["open_trades"] == 0
    assert 0.4 < f["exposure"] < 0.6 and f["exposure"] <= f["time_in_market"] <= 1
    assert sim.trades["pnl"].sum() == pytest.approx(f["final_equity"] - f["initial_cash"])
    assert f["hit_rate"] == pytest.approx((sim.trades["pnl"] > 0).mean())


def test_figures_of_an_account_that_never_trades():
    bars = some_bars()
    sim = simulate(on_and_off(bars) * 0, bars)
    f = key_figures(sim)
    json.dumps(f, allow_nan=False)
    assert (
        f["sharpe"]
        is f["sortino"]
        is f["calmar"]
        is f["hit_rate"]
        is f["breakeven_bps"]
        is f["charged_bps"]
        is f["longest_bars_held"]
        is None
    )
    assert f["total_return"] == f["max_drawdown"] == f["turnover_per_year"] == 0
    v = verdict(f, significance(sim.returns, None), key_figures(buy_and_hold(bars)))
    assert v["better_than_luck"] is None and v["better_than_holding"] is None
    assert v["headline"].startswith("Not known to be out of sample")
    assert "No trade, no result" in v["headline"] and not v["details"]
    assert verdict(f | {"out_of_sample": True}, significance(sim.returns, None))["headline"].startswith(
        "No trade, no result"
    )


@pytest.mark.parametrize("seed", range(5))
def test_breakeven_is_where_the_same_orders_end_with_what_they_began(seed):
    bars = some_bars(seed, drift=0.001)
    sim = simulate(on_and_off(bars), bars, Costs(fee_bps=3, slippage_bps=0))
    level = cost_breakeven_bps(sim)
    orders = sim.orders
    flows = -(orders["size"] * orders["reference"]).sum() - (orders["size"].abs()
                                                             * orders["reference"]).sum() * level / 1e4
    assert flows == pytest.approx(0, abs=1e-6 * sim.initial_cash)


def costly(bars):
    """Long one symbol and short another, with every kind of cost there is, and dividends."""
    bars = bars.assign(high=bars[["open", "close"]].max(axis=1), low=bars[["open", "close"]].min(axis=1),
                       volume=1e5)
    on = on_and_off(bars, 30)
    on.iloc[:, 1] *= -1
    dividends = pd.DataFrame(dict(symbol=["S0"], ex_date=[TS[65]], kind=["dividend"], value=[0.3]))
    costs = Costs(fee_bps=2, fee_per_share=0.001, spread_bps=4, slippage_bps=1, slippage_vol=0.02, impact=0.3,
                  borrow_bps=80, funding_bps=50)
    return simulate(on, bars, costs, actions=dividends), bars


def test_costs_by_kind_and_the_breakeven_of_trading_alone():
    sim, bars = costly(some_bars(3, 0.001, symbols=2))
    f = key_figures(sim, 365)
    assert json.loads(json.dumps(f, allow_nan=False)) == f
    kinds = ("fees", "spread", "slippage", "impact", "borrow")
    assert all(f[kind] > 0 for kind in kinds) and f["costs"] == pytest.approx(sum(f[kind]
                                                                                  for kind in kinds)
                                                                              + f["funding"])
    assert f["dividends"] > 0 and f["net_exposure"] < f["exposure"] < f["largest_exposure"]
    o, last = sim.orders, sim.units.iloc[-1] * bars.groupby("symbol")["close"].last()
    amount = (o["size"].abs() * o["reference"]).sum()
    ends_with = (
        -(o["size"] * o["reference"]).sum()
        + last.sum()
        + f["dividends"]
        - f["borrow"]
        - f["funding"]
        - amount * f["breakeven_bps"] / 1e4
    )
    assert ends_with == pytest.approx(0, abs=1e-6 * sim.initial_cash)
    assert (f["charged_bps"] < f["breakeven_bps"]) == (f["total_return"] > 0)
    assert f["charged_bps"] == pytest.approx(sum(f[kind] for kind in kinds[:4]) / amount * 1e4)


def test_holding_times_are_those_of_the_closed_trades():
    bars = some_bars()
    weights = on_and_off(bars, 20).iloc[:45]
    weights.iloc[15:25] = 1.0
    sim = simulate(weights, bars)
    f = key_figures(sim)
    assert f["trades"] == 2 and f["open_trades"] == 1 and f["orders"] == 5
    assert f["mean_bars_held"] == f["median_bars_held"] == 12.5 and f["longest_bars_held"] == 15


# --- the tail

def daily(seed=0, n=1000, mean=0.0005, scale=0.01, df=5, start="2015-01-01"):
    """Days with fat tails."""
    values = mean + scale * np.random.default_rng(seed).standard_t(df, n)
    return pd.Series(values, index=pd.date_range(start, periods=n, tz="UTC", unit="us", name="date"))


def test_var_and_shortfall_of_a_hundred_days_by_hand():
    """The days -50 to 49: the fifth worst is -46, the mean of the five worst -48; half a percent cuts through
    a day."""
    r = pd.Series(np.random.default_rng(0).permutation(np.arange(-50, 50)) / 1e4, index=TS[:100])
    tail = tail_risk(r)
    assert tail["var_95"] == -0.0046 and tail["es_95"] == pytest.approx(-0.0048)
    assert tail["var_99"] == tail["es_99"] == -0.0050
    r = pd.Series(np.arange(-75, 75) / 1e4, index=TS[:150])
    assert tail_risk(r)["var_99"] == -0.0074 and tail_risk(r)["es_99"] == pytest.approx((-0.0075 - 0.5
                                                                                         * 0.0074) / 1.5)


@pytest.mark.parametrize("seed, n", [(0, 2), (1, 19), (2, 150), (3, 777), (4, 2511)])
def test_historic_tail_is_skfolios(seed, n):
    measures = pytest.importorskip("skfolio.measures")
    r = daily(seed, n)
    tail = tail_risk(r)
    for percent in (95, 99):
        assert tail[f"var_{percent}"] == pytest.approx(-measures.value_at_risk(r.to_numpy(), percent / 100),
                                                       rel=1e-12)
        assert tail[f"es_{percent}"] == pytest.approx(-measures.cvar(r.to_numpy(), percent / 100), rel=1e-9)


def test_moments_are_scipys_and_the_tail_ratio_is_that_of_the_percentiles():
    from scipy import stats
    r = daily(5)
    tail = tail_risk(r)
    assert tail["skew"] == pytest.approx(stats.skew(r))
    assert tail["kurtosis"] == pytest.approx(stats.kurtosis(r, fisher=False))
    assert tail["tail_ratio"] == pytest.approx(abs(np.percentile(r, 95)) / abs(np.percentile(r, 5)))
    assert tail["cf_var_99"] == pytest.approx(r.mean() + r.std()
                                              * cornish_fisher(0.99, tail["skew"], tail["kurtosis"])[0])


def published_moments(s, k):
    """Maillard (2012), Appendix: variance, skewness and raw kurtosis of the expansion with parameters s and k
    (excess)."""
    m2 = 1 + k**2 / 96 + 25 / 1296 * s**4 - k * s**2 / 36
    m3 = s - 76 / 216 * s**3 + 85 / 1296 * s**5 + k * s / 4 - 13 / 144 * k * s**3 + k**2 * s / 32
    m4 = (3 + k + 7 / 16 * k**2 + 3 / 32 * k**3 + 31 / 3072 * k**4 - 7 / 216 * s**4 - 25 / 486 * s**6 + 21665
          / 559872 * s**8
          - 7 / 12 * k * s**2 + 113 / 432 * k * s**4 - 5155 / 46656 * k * s**6 - 7 / 24 * k**2 * s**2 + 2455
          / 20736 * k**2 * s**4
          - 65 / 1152 * k**3 * s**2)
    return m2, m3 / m2**1.5, m4 / m2**2


def expanded(z, s, k):
    """The expansion as it is usually printed."""
    return z + (z**2 - 1) * s / 6 + (z**3 - 3 * z) * k / 24 - (2 * z**3 - 5 * z) * s**2 / 36


@pytest.mark.parametrize("s, k", [(0.0, 0.0), (0.1, 1.0), (-0.5, 2.0), (-1.2, 4.0), (0.8, 6.0), (0.0, 7.9)])
@pytest.mark.parametrize("level", [0.95, 0.99, 0.999])
def test_cornish_fisher_from_the_published_formulas(s, k, level):
    """Parameters to moments by the paper's polynomials; from these moments back to the tail, against sums
    over a fine grid."""
    from scipy.special import ndtri
    variance, skew, kurtosis = published_moments(s, k)
    var, shortfall = cornish_fisher(level, skew, kurtosis)
    assert var * variance**0.5 == pytest.approx(expanded(ndtri(1 - level), s, k), abs=1e-7)
    p = (np.arange(400_000) + 0.5) / 400_000 * (1 - level)
    assert shortfall * variance**0.5 == pytest.approx(expanded(ndtri(p), s, k).mean(), rel=1e-4)


def test_cornish_fisher_on_numbers_that_others_printed():
    """The quantile with S = 0.1 and an excess K = 1 at 1 % is -2.482841 in the documentation of mir.stat;
    normal tails are in every table."""
    variance, skew, kurtosis = published_moments(0.1, 1.0)
    assert cornish_fisher(0.99, skew, kurtosis)[0] * variance**0.5 == pytest.approx(-2.482841, abs=5e-7)
    assert cornish_fisher(0.95) == pytest.approx((-1.644854, -2.062713), abs=1e-6)
    assert cornish_fisher(0.99) == pytest.approx((-2.326348, -2.665214), abs=1e-6)


@pytest.mark.parametrize("skew, kurtosis, inside",
                         [(0, 3 + 43, True), (0, 3 + 44, False), (0, 1.8, False), (2.5, 8, False),
                          (-3, 20, True)])
def test_cornish_fisher_ends_where_the_curve_turns_back(skew, kurtosis, inside):
    assert (cornish_fisher(0.99, skew, kurtosis) is not None) == inside


def test_cornish_fisher_comes_close_to_a_known_tail():
    """Student's t with 8 degrees has an excess kurtosis of 1.5 and a known 1 % quantile."""
    from scipy import stats
    t = stats.t(8)
    assert cornish_fisher(0.99, 0, 4.5)[0] == pytest.approx(t.ppf(0.01) / t.std(), rel=0.02)
    with pytest.raises(ParameterError, match="level"): cornish_fisher(0.01)
    with pytest.raises(BacktestError, match="raw"): cornish_fisher(0.99, 0, 0.4)
    with pytest.raises(BacktestError, match="raw"): cornish_fisher(0.99, np.nan, 3)


def test_samples_that_are_nearly_normal_have_a_curve():
    tails = [tail_risk(pd.Series(np.random.default_rng(s).normal(0, 0.01, 1000),
                                 pd.date_range("2015-01-01", periods=1000, tz="UTC"))) for s in range(12)]
    assert min(t["kurtosis"] for t in tails) < 3 and all(t["cf_reason"] is None for t in tails)
    assert np.mean([t["cf_var_99"] for t in tails]) == pytest.approx(-0.02326, rel=0.02)


def test_a_tail_that_cannot_be_bent_says_why():
    crash = daily(1, 300)
    crash.iloc[10] = -0.9
    tail = tail_risk(crash)
    assert tail["cf_var_99"] is tail["cf_es_95"] is None
    assert "no Cornish-Fisher curve has a skewness of -1" in tail["cf_reason"]
    flat = tail_risk(crash * 0)
    assert flat["skew"] is flat["tail_ratio"] is flat["cf_var_95"] is None and flat["var_99"] == 0
    assert flat["cf_reason"] == "returns do not vary"
    assert json.loads(json.dumps([tail, flat], allow_nan=False)) == [tail, flat]


@pytest.mark.parametrize("bad, words", [
    (daily(0, 1), "at least 2"), ([0.1, 0.2], "a Series"),
    (daily(0, 5).mask(lambda x: x.index.day == 2), "finite.*2015-01-02"),
    (daily(0, 5).where(lambda x: x.index.day != 3, np.inf), "finite"),
    (pd.concat([daily(0, 3), daily(1, 3)]), "one value a day")])
def test_returns_that_are_no_record(bad, words):
    for ask in (tail_risk, rolling_sharpe, lambda x: benchmark_relation(x, daily()),
                lambda x: benchmark_relation(daily(), x)):
        with pytest.raises(BacktestError, match=words): ask(bad)


# --- against the benchmark

def pair(seed=0, n=700, beta=0.6):
    """A strategy that follows its benchmark in part, with errors that hang together."""
    b = daily(seed, n)
    rng = np.random.default_rng(seed + 100)
    noise = pd.Series(rng.normal(0, 0.004,
                                 n)).ewm(alpha=0.5).mean().to_numpy() * (1 + 30 * b.abs().to_numpy())
    return 0.0002 + beta * b + noise, b


@pytest.mark.parametrize("seed, n", [(0, 700), (1, 60), (2, 2500)])
def test_alpha_and_beta_are_statsmodels(seed, n):
    sm = pytest.importorskip("statsmodels.api")
    r, b = pair(seed, n)
    found = benchmark_relation(r, b, 252)
    fit = sm.OLS(r.to_numpy(), sm.add_constant(b.to_numpy())).fit(cov_type="HAC",
                                                                  cov_kwds={"maxlags": found["lags"]})
    assert [found["alpha"] / 252, found["beta"]] == pytest.approx(list(fit.params), rel=1e-9)
    assert [found["alpha_standard_error"] / 252,
            found["beta_standard_error"]] == pytest.approx(list(fit.bse), rel=1e-9)
    assert found["alpha_t"] == pytest.approx(fit.tvalues[0])
    assert found["correlation"]**2 == pytest.approx(fit.rsquared)


def test_tracking_error_information_ratio_and_capture_by_hand():
    r, b = pd.Series([0.02, -0.01, 0.03, 0.0], TS[:4]), pd.Series([0.01, -0.02, 0.02, -0.01], TS[:4])
    found = benchmark_relation(r, b, 4)
    extra = np.array([0.01, 0.01, 0.01, 0.01])
    assert np.allclose(r - b, extra) and found["tracking_error"] == 0 and found["information_ratio"] is None
    assert found["up_capture"] == pytest.approx(5 / 3) and found["down_capture"] == pytest.approx(1 / 3)
    assert found["beta"] == pytest.approx(1)
    found = benchmark_relation(r + [0.01, 0, 0, 0], b, 4)
    assert found["tracking_error"] == pytest.approx(0.005 * 2)
    assert found["information_ratio"] == pytest.approx(0.0125 / 0.005 * 2)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_only_common_days_count_and_their_order_does_not():
    r, b = pair()
    same = benchmark_relation(r.iloc[100:], b.iloc[:600])
    assert same["days"] == 500
    assert (
        same
        == benchmark_relation(r.iloc[100:600], b.iloc[100:600])
        == benchmark_relation(r.iloc[100:], b.iloc[:600][::-1])
    )
    with pytest.raises(BacktestError, match="of the same days, at least 3.*2 common days of 700 and 2"):
        benchmark_relation(r, b.iloc[:2])
    with pytest.raises(BacktestError, match="0 common days"): benchmark_relation(r, b.shift(5000, freq="D"))


def test_relation_of_what_does_not_move():
    r, b = pair()
    idle, still = benchmark_relation(r * 0, b), benchmark_relation(r, b * 0)
    assert idle["beta"] == idle["alpha"] == 0 and idle["correlation"] is idle["alpha_t"] is None
    assert idle["up_capture"] == 0
    assert still["beta"] is still["alpha"] is still["correlation"] is still["up_capture"] is None
    assert still["tracking_error"] > 0
    assert json.loads(json.dumps([idle, still], allow_nan=False)) == [idle, still]


# --- over time

def test_rolling_sharpe_is_that_of_each_window():
    r = daily(3, 300)
    r.iloc[100:140] = 0.0
    rolling = rolling_sharpe(r, 30, 365, 0.9)
    assert list(rolling.columns) == ["date", "sharpe", "low",
                                     "high"] and list(rolling["date"]) == list(r.index[29:])
    for at in (0, 55, 270):
        own = r.iloc[at:at + 30]
        ratio = own.mean() / own.std()
        width = 1.6448536 * np.sqrt((1 + ratio**2 / 2) / 30)
        assert rolling.loc[at, "sharpe"] == pytest.approx(ratio * 365**0.5)
        assert rolling.loc[at, ["low",
                                "high"]].tolist() == pytest.approx([(ratio - width) * 365**0.5,
                                                                    (ratio + width) * 365**0.5])
    assert rolling["sharpe"].isna().sum() == 11 and rolling.loc[100:110,
                                                                ["sharpe", "low",
                                                                 "high"]].isna().all(axis=None)


def test_the_band_covers_the_truth_about_as_often_as_it_says():
    values = np.random.default_rng(0).normal(0.001, 0.01, 63 * 2000)
    r = pd.Series(values, index=pd.date_range("1700-01-01", periods=len(values), tz="UTC", unit="us"))
    apart = rolling_sharpe(r, 63, 252).iloc[::63]
    inside = apart["low"].le(0.1 * 252**0.5) & apart["high"].ge(0.1 * 252**0.5)
    assert len(apart) == 2000 and 0.93 < inside.mean() < 0.97


def test_a_record_shorter_than_the_window_has_no_rows():
    rolling = rolling_sharpe(daily(0, 50))
    assert len(rolling) == 0 and list(rolling.columns) == ["date", "sharpe", "low", "high"]
    assert str(rolling["date"].dtype) == "datetime64[us, UTC]"
    for window in (9, 20.0, True):
        with pytest.raises(ParameterError, match="window"): rolling_sharpe(daily(), window)
    with pytest.raises(ParameterError, match="level"): rolling_sharpe(daily(), level=95)


# --- the verdict

FIGURES = dict(cagr=0.10, sharpe=1.0, max_drawdown=-0.2, max_drawdown_days=50.0,
               max_drawdown_recovery_days=10.0,
               breakeven_bps=12.0, charged_bps=3.0)
SIGNIFICANCE = dict(dsr=0.41, n_trials=4, annualised=1.0, ci=[0.2, 1.8], confidence=0.95,
                    expected_maximum_annualised=0.6,
                    min_track_record=700.0, n_periods=1260, periods_per_year=252, pbo=0.43, pbo_reason=None)


def words(figures=None, significant=None, benchmark=None, **kwargs):
    return verdict(FIGURES | (figures or {}), SIGNIFICANCE | (significant or {}),
                   benchmark and FIGURES | benchmark, **kwargs)


def test_a_short_record_is_named():
    said = "Figures a year are scaled up from 12 daily returns, less than a year of them: not meaningful."
    assert said in words(significant=dict(n_periods=12))["sentences"]
    assert not any("scaled up" in s for s in words()["sentences"])


def test_luck_in_words():
    v = words()
    assert v["headline"] == "Not distinguishable from luck: DSR 0.41 after 4 trials."
    assert v["better_than_luck"] is False
    assert v["better_than_holding"] is None and v["caveats"] == []
    assert words(significant=dict(dsr=0.99,
                                  n_trials=1))["headline"] == "Better than luck: DSR 0.99 after 1 trial."
    assert (
        words(significant=dict(dsr=0.94969))["headline"]
        == "Not distinguishable from luck: DSR 0.9497 after 4 trials."
    )
    assert words(significant=dict(dsr=0.9504))["headline"] == "Better than luck: DSR 0.9504 after 4 trials."
    assert "Probability that the best of 4 trials is overfit (PBO): 0.43." in v["sentences"]
    assert any("takes 2.8 years; there are 5.0" in s for s in v["sentences"])
    none = words(significant=dict(pbo=None, pbo_reason="one trial: there was nothing to choose from",
                                  min_track_record=None))
    assert (
        "Probability of overfitting not computed: one trial: there was nothing to choose from."
        in none["sentences"]
    )
    assert any(s.startswith("No record, however long") for s in none["sentences"])


@pytest.mark.parametrize("dsr, hedged, better, sentence", [
    (0.99, 0.97, True, "Better than luck: DSR 0.99 after 4 trials, 0.97 without the market's part."),
    (0.99, 0.30, False, "Not distinguishable from luck without the market's part: DSR 0.30 after 4 trials "
     "(0.99 with it, beta 0.70)."),
    (0.80, 0.99, False, "Not distinguishable from luck: DSR 0.80 after 4 trials."),
    (0.99, None, True, "Better than luck: DSR 0.99")])
def test_luck_without_the_market_in_words(dsr, hedged, better, sentence):
    v = words(significant=dict(dsr=dsr, dsr_hedged=hedged, beta=0.7))
    assert v["better_than_luck"] is better and v["headline"].startswith(sentence)


@pytest.mark.parametrize("benchmark, better, sentence", [
    (dict(cagr=0.05, sharpe=0.5), True, "Better than holding the same symbols: 10.0% against 5.0% a year, "
     "Sharpe ratio 1.00 against 0.50."),
    (dict(cagr=0.15, sharpe=1.5), False, "Holding the same symbols earned more: 10.0% against 15.0%"),
    (dict(cagr=0.15, sharpe=0.5), False, "Holding the same symbols earned more, at more risk for it"),
    (dict(cagr=0.05, sharpe=1.5), False, "It earned more than holding the same symbols, but took more risk "
     "for it"),
    (dict(cagr=0.00, sharpe=None), True, "Better than holding"),
])
def test_holding_in_words(benchmark, better, sentence):
    v = words(benchmark=benchmark)
    assert v["better_than_holding"] is better and sentence in v["headline"]


@pytest.mark.parametrize("level, charged, sentence", [
    (None, None, "Nothing was traded."), (-1.0, 3.0, "It loses money even without costs of trading."),
    (2.0, 3.0, "The edge does not survive 3 bps: it is gone at 2 bps of what is traded."),
    (2.84, 15.0049, "The edge does not survive 15 bps: it is gone at 2.8 bps of what is traded."),
    (12.0, 3.0, "The edge is gone at 12 bps of what is traded; 3 bps were charged.")])
def test_costs_in_words(level, charged, sentence):
    assert sentence in words(dict(breakeven_bps=level, charged_bps=charged))["sentences"]


@pytest.mark.parametrize(
    "new, sentence",
    [
        (
            dict(ci_cagr=[-0.02, 0.22], ci_drawdown=[-0.41, -0.1]),
            "By the same draws the 95% interval of growth is -2.0% to 22.0% a year, and that of the maximum "
            "drawdown of daily closes 10% to 41%.",
        ),
        (dict(pbo_trials=3), "Probability that the best of 3 trials is overfit (PBO): 0.43."),
        (
            dict(n_effective=1.8, dsr_raw=0.3),
            "The 4 trials move together and count as 1.8; each counted by itself, the DSR is 0.30.",
        ),
        (dict(n_effective=1.8), "The 4 trials move together and count as 1.8."),
        (
            dict(pbo_loss=0.6),
            "The best on one half of the days lost money on the other half in 60% of all ways to halve them.",
        ),
        (
            dict(null_p_value=0.234),
            "Entered at random, with the same costs and holding times, it does as well in 23.4% of draws.",
        ),
        (
            dict(spa_p_value=0.31),
            "After the whole search, the best of 4 trials is not shown to beat holding (SPA p-value 0.31).",
        ),
        (
            dict(spa_p_value=0.0501),
            "After the whole search, the best of 4 trials is not shown to beat holding (SPA p-value 0.0501).",
        ),
        (
            dict(spa_p_value=0.01),
            "After the whole search, the best of 4 trials beats holding (SPA p-value 0.01).",
        ),
        (
            dict(spa_p_value=0.01, spa_trials=2),
            "After the whole search, the best of 2 trials beats holding (SPA p-value 0.01).",
        ),
    ],
)
def test_the_search_in_words(new, sentence):
    assert sentence in words(significant=new)["sentences"]
    assert sentence not in words()["sentences"]
    assert sentence not in words(significant=dict.fromkeys(new))["sentences"]


def test_trials_that_are_all_different_need_no_word():
    assert not any("move together" in s
                   for s in words(significant=dict(n_effective=4.0, dsr_raw=0.41))["sentences"])


def test_random_entries_can_overrule_the_dsr():
    v = words(significant=dict(dsr=0.99, null_p_value=0.23))
    assert v["better_than_luck"] is False
    assert (v["headline"] == "Not distinguishable from luck: random entries do as well in 23% of draws (DSR "
                             "0.99 after 4 trials).")
    assert words(significant=dict(dsr=0.99, null_p_value=0.05))["better_than_luck"] is True
    assert words(significant=dict(dsr=0.99, dsr_hedged=0.97, beta=0.7,
                                  null_p_value=0.2))["better_than_luck"] is False
    assert words(significant=dict(dsr=None, null_p_value=1.0))["better_than_luck"] is None
    still = words(significant=dict(dsr=None, reason="returns do not vary: 0.001 every day"))["headline"]
    assert still.startswith("Nothing to judge: returns do not vary: 0.001 every day.")
    assert "never traded" not in still


@pytest.mark.parametrize("returns, sentence", [
    ((0.12, -0.03, -0.1), "The edge does not survive one more bar of delay: 12.0% becomes -3.0%."),
    ((0.12, 0.101, -0.1), "With one more bar of delay it earns 10.1% instead of 12.0% over the whole time."),
    ((-0.1, -0.2, 0.1), None)])
def test_delay_in_words(returns, sentence):
    table = pd.DataFrame(dict(delay=[1, 2, 5], total_return=returns, sharpe=1.0))
    plain, said = words()["sentences"], words(delays=table)["sentences"]
    assert said == words(delays=table.iloc[::-1].to_dict("records"))["sentences"]
    assert [s for s in said if s not in plain] == ([sentence] if sentence else [])
    assert (
        "The edge does not survive 4 more bars of delay: 12.0% becomes -3.0%."
        in words(delays=[dict(delay=1, total_return=0.12), dict(delay=5, total_return=-0.03)])["sentences"]
        and words(delays=table.head(1))["sentences"] == plain
    )


def test_capacity_plateau_and_tail_in_words():
    table = pd.DataFrame(dict(participation=[0.01, 0.1, 0.5], capital=[1e5, 2_340_000.4, 1e7]))
    assert (
        "Up to an account of 2,340,000, orders stay within 10 % of a bar's volume."
        in words(capacity=table)["sentences"]
    )
    small = words(dict(initial_cash=3e6), capacity=table)["sentences"]
    assert ("Too large already: orders stay within 10 % of a bar's volume up to an account of 2,340,000, and "
            "it began with 3,000,000." in small)
    assert (
        "Up to an account of 100,000, orders stay within 1 % of a bar's volume."
        in words(capacity=table.head(1).to_dict("records"))["sentences"]
    )
    most = table.assign(covered=0.95)
    assert (
        "Up to an account of 2,340,000, 95 % of what is traded stays within 10 % of a bar's volume."
        in words(capacity=most)["sentences"]
    )
    assert (
        words(capacity=table.assign(capital=np.nan))["sentences"]
        == words(tail=dict(es_99=0.0))["sentences"]
        == words()["sentences"]
    )
    assert "The best set is on a plateau." in words(plateau="The best set is on a plateau.")["sentences"]
    assert (
        "On the worst day in a hundred it lost 2.9% on average (expected shortfall)."
        in words(tail=dict(es_99=-0.0289))["sentences"]
    )


def test_caveats_are_said_only_when_passed_in():
    assert "surviv" not in " ".join(words()["sentences"])
    assert words(caveats=("Five survivors are a biased sample.",))["caveats"] == [
        "Five survivors are a biased sample."
    ]
    assert json.dumps(words())


def test_nothing_is_neither_a_loss_nor_more_than_nothing():
    from mlfin.backtest.verdicts import _cost_sentence, _holding_sentence
    assert _cost_sentence({"breakeven_bps": 0.0,
                           "charged_bps": 0.0}) == "It earns nothing even without costs of trading."
    assert _cost_sentence({"breakeven_bps": -0.5,
                           "charged_bps": 0.0}) == "It loses money even without costs of trading."
    same = {"cagr": 0.0, "sharpe": None}
    assert _holding_sentence(same, same).startswith("It earned no more than holding")
