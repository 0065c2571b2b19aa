"""Drawdowns, months, figures and the sentences of the verdict."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfin.backtest.costs import Costs
from mlfin.backtest.risk import cost_breakeven_bps, drawdowns, key_figures, monthly_returns, return_figures, verdict
from mlfin.backtest.significance import significance
from mlfin.backtest.simulate import buy_and_hold, simulate
from mlfin.core.errors import BacktestError

TS = pd.date_range("2020-01-01", periods=600, tz="UTC", unit="us", name="date")


def some_bars(seed=0, drift=0.0005, rows=600, symbols=1):
    rng = np.random.default_rng(seed)
    frames = []
    for s in range(symbols):
        close = 30 * np.exp(rng.normal(drift, 0.01, rows).cumsum())
        frames.append(pd.DataFrame(dict(symbol=f"S{s}", timeframe="1d", ts=TS[:rows], open=close * np.exp(rng.normal(0, 0.002, rows)),
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
    for bad in (pd.Series([1.0, np.nan], index=TS[:2]), pd.Series([1.0, -1], index=TS[:2]), pd.Series([], dtype=float)):
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
    assert f["total_return"] == pytest.approx(curve[-1] - 1) and f["cagr"] == pytest.approx(curve[-1] ** 63 - 1)
    assert f["volatility"] == pytest.approx(r.std() * 252**0.5) and f["sharpe"] == pytest.approx(r.mean() / r.std() * 252**0.5)
    assert f["sortino"] == pytest.approx(r.mean() / np.sqrt((0.05**2 + 0.03**2) / 4) * 252**0.5)
    assert f["max_drawdown"] == pytest.approx(curve[-1] / 1.1 - 1) and f["calmar"] == pytest.approx(f["cagr"] / -f["max_drawdown"])
    assert f["max_drawdown_days"] == 3 and f["max_drawdown_recovery_days"] is None and f["positive_days"] == 0.5


def test_a_loss_on_the_first_day_is_a_drawdown():
    assert return_figures(pd.Series([-0.1, 0.05], index=TS[:2]))["max_drawdown"] == pytest.approx(-0.1)


def test_key_figures_are_plain_and_add_up():
    bars = some_bars(symbols=3)
    sim = simulate(on_and_off(bars), bars, Costs(fee_bps=10, slippage_bps=5))
    f = key_figures(sim, 252)
    assert json.loads(json.dumps(f, allow_nan=False)) == f
    assert f["final_equity"] / f["initial_cash"] - 1 == pytest.approx(f["total_return"])
    assert f["costs"] == pytest.approx(f["fees"] + f["slippage"]) and f["charged_bps"] == 15
    assert f["trades"] + f["open_trades"] == len(sim.trades) and f["open_trades"] == 0
    assert 0.4 < f["exposure"] < 0.6 and f["exposure"] <= f["time_in_market"] <= 1
    assert sim.trades["pnl"].sum() == pytest.approx(f["final_equity"] - f["initial_cash"])
    assert f["hit_rate"] == pytest.approx((sim.trades["pnl"] > 0).mean())


def test_figures_of_an_account_that_never_trades():
    bars = some_bars()
    sim = simulate(on_and_off(bars) * 0, bars)
    f = key_figures(sim)
    json.dumps(f, allow_nan=False)
    assert f["sharpe"] is f["sortino"] is f["calmar"] is f["hit_rate"] is f["breakeven_bps"] is None
    assert f["total_return"] == f["max_drawdown"] == f["turnover_per_year"] == 0
    v = verdict(f, significance(sim.returns, None), key_figures(buy_and_hold(bars)))
    assert v["better_than_luck"] is None and v["better_than_holding"] is False
    assert v["headline"].startswith("Nothing to judge: the strategy never traded.") and "Nothing was traded." in v["sentences"]


@pytest.mark.parametrize("seed", range(5))
def test_breakeven_is_where_the_same_orders_end_with_what_they_began(seed):
    bars = some_bars(seed, drift=0.001)
    sim = simulate(on_and_off(bars), bars, Costs(fee_bps=3, slippage_bps=0))
    level = cost_breakeven_bps(sim)
    orders = sim.orders
    flows = -(orders["size"] * orders["reference"]).sum() - (orders["size"].abs() * orders["reference"]).sum() * level / 1e4
    assert flows == pytest.approx(0, abs=1e-6 * sim.initial_cash)


# --- the verdict

FIGURES = dict(cagr=0.10, sharpe=1.0, max_drawdown=-0.2, max_drawdown_days=50.0, max_drawdown_recovery_days=10.0,
               breakeven_bps=12.0, charged_bps=3.0)
SIGNIFICANCE = dict(dsr=0.41, n_trials=4, annualised=1.0, ci=[0.2, 1.8], confidence=0.95, expected_maximum_annualised=0.6,
                    min_track_record=700.0, n_periods=1260, periods_per_year=252, pbo=0.43, pbo_reason=None)


def words(figures=None, significant=None, benchmark=None, **kwargs):
    return verdict(FIGURES | (figures or {}), SIGNIFICANCE | (significant or {}), benchmark and FIGURES | benchmark, **kwargs)


def test_luck_in_words():
    v = words()
    assert v["headline"] == "Not distinguishable from luck: DSR 0.41 after 4 trials." and v["better_than_luck"] is False
    assert v["better_than_holding"] is None and v["caveats"] == []
    assert words(significant=dict(dsr=0.99, n_trials=1))["headline"] == "Better than luck: DSR 0.99 after 1 trial."
    assert words(significant=dict(dsr=0.94969))["headline"] == "Not distinguishable from luck: DSR 0.9497 after 4 trials."
    assert words(significant=dict(dsr=0.9504))["headline"] == "Better than luck: DSR 0.9504 after 4 trials."
    assert "Probability that the best of 4 trials is overfit (PBO): 0.43." in v["sentences"]
    assert any("takes 2.8 years; there are 5.0" in s for s in v["sentences"])
    none = words(significant=dict(pbo=None, pbo_reason="one trial: there was nothing to choose from", min_track_record=None))
    assert "Probability of overfitting not computed: one trial: there was nothing to choose from." in none["sentences"]
    assert any(s.startswith("No record, however long") for s in none["sentences"])


@pytest.mark.parametrize("dsr, hedged, better, sentence", [
    (0.99, 0.97, True, "Better than luck: DSR 0.99 after 4 trials, 0.97 without the market's part."),
    (0.99, 0.30, False, "Not distinguishable from luck without the market's part: DSR 0.30 after 4 trials (0.99 with it, beta 0.70)."),
    (0.80, 0.99, False, "Not distinguishable from luck: DSR 0.80 after 4 trials."), (0.99, None, True, "Better than luck: DSR 0.99")])
def test_luck_without_the_market_in_words(dsr, hedged, better, sentence):
    v = words(significant=dict(dsr=dsr, dsr_hedged=hedged, beta=0.7))
    assert v["better_than_luck"] is better and v["headline"].startswith(sentence)


@pytest.mark.parametrize("benchmark, better, sentence", [
    (dict(cagr=0.05, sharpe=0.5), True, "Better than holding the same symbols: 10.0% against 5.0% a year, Sharpe ratio 1.00 against 0.50."),
    (dict(cagr=0.15, sharpe=1.5), False, "Holding the same symbols earned more: 10.0% against 15.0%"),
    (dict(cagr=0.15, sharpe=0.5), False, "Holding the same symbols earned more, at more risk for it"),
    (dict(cagr=0.05, sharpe=1.5), False, "It earned more than holding the same symbols, but took more risk for it"),
    (dict(cagr=0.00, sharpe=None), True, "Better than holding"),
])
def test_holding_in_words(benchmark, better, sentence):
    v = words(benchmark=benchmark)
    assert v["better_than_holding"] is better and sentence in v["headline"]


@pytest.mark.parametrize("level, sentence", [
    (None, "Nothing was traded."), (-1.0, "It loses money even without costs."),
    (2.0, "The profit does not survive costs of 3.0 bps: it is gone at 2.0 bps of what is traded."),
    (12.0, "The profit is gone at costs of 12.0 bps of what is traded; 3.0 bps were charged.")])
def test_costs_in_words(level, sentence):
    assert sentence in words(dict(breakeven_bps=level))["sentences"]


def test_caveats_are_said_only_when_passed_in():
    assert "surviv" not in " ".join(words()["sentences"])
    assert words(caveats=("Five survivors are a biased sample.",))["caveats"] == ["Five survivors are a biased sample."]
    assert json.dumps(words())
