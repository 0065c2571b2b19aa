"""Regimes, worst stretches, other costs, later fills and more money."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mlfin.backtest.costs import Costs
from mlfin.backtest.risk import cost_breakeven_bps, return_figures
from mlfin.backtest.trading_rule import TradingRule
from mlfin.backtest.simulate import backtest, simulate
from mlfin.backtest.stress import _volumes, capacity, cost_curve, delay_curve, impact_curve, regimes, stress
from mlfin.core.errors import BacktestError, ParameterError


def daily(seed=0, n=1000, mean=0.0005, scale=0.01, start="2015-01-01"):
    values = mean + scale * np.random.default_rng(seed).standard_t(4, n)
    return pd.Series(values, index=pd.date_range(start, periods=n, tz="UTC", unit="us", name="date"))


# --- regimes

def test_regimes_are_made_of_their_days():
    r, b = daily(1), daily(2)
    table = regimes(r, b, 365).set_index(["kind", "regime"])
    assert list(table.columns) == ["days", "total_return", "cagr", "sharpe", "max_drawdown"]
    assert list(table.index) == ([("year", y) for y in ("2015", "2016", "2017")]
                                 + [("volatility", v)
                                    for v in ("calm", "middling", "turbulent")]
                                 + [("market", "up"), ("market", "down")])
    for year in ("2015", "2016", "2017"):
        own = return_figures(r.loc[year], 365)
        for name in ("total_return", "cagr", "sharpe", "max_drawdown"):
            assert table.loc[("year", year), name] == pytest.approx(own[name])
    assert table.groupby("kind")["days"].sum().to_dict() == {"year": 1000, "market": 1000,
                                                             "volatility": 1000 - 21}
    assert np.prod(1 + table.loc["market", "total_return"]) == pytest.approx((1 + r).prod())


def test_volatility_is_that_of_the_days_before_in_thirds_of_the_record():
    b = daily(2, 500)
    before = [np.std(b.iloc[i - 21:i], ddof=1) for i in range(21, 500)]
    low = np.array(before) <= np.quantile(before, 1 / 3)
    table = regimes(daily(1, 500), b).set_index("regime")
    assert table.loc["calm", "days"] == low.sum()
    assert table.loc["calm", "total_return"] == pytest.approx((1 + daily(1, 500).iloc[21:][low]).prod() - 1)
    later = b.copy()
    later.iloc[-1] = 0.5  # what happens on a day does not decide that day's regime
    assert regimes(daily(1, 500), later).set_index("regime").loc["turbulent",
                                                                 "days"] == table.loc["turbulent", "days"]


def test_a_month_is_up_or_down_by_what_it_compounds_to():
    b = daily(2, 90)
    r = daily(1, 90)
    up = sum(len(own) for _, own in b.groupby(b.index.month) if (1 + own).prod() >= 1)
    table = regimes(r, b).set_index("regime")
    assert up and table.loc["up", "days"] == up and table.loc["down", "days"] == 90 - up


def test_few_days_are_not_annualised_and_years_need_no_benchmark():
    table = regimes(daily(0, 400)).set_index("regime")
    assert list(table.index) == ["2015", "2016"] and table["cagr"].notna().all()
    few = regimes(daily(0, 375)).set_index("regime").loc["2016"]
    assert few["days"] == 10 and np.isnan(few["cagr"]) and np.isnan(few["sharpe"])
    assert few["total_return"] != 0 and few["max_drawdown"] < 0
    idle = regimes(daily(0, 100) * 0, daily(1, 100))
    assert idle["sharpe"].isna().all() and (idle["cagr"] == 0).all() and (idle["max_drawdown"] == 0).all()
    short = regimes(daily(0, 20), daily(1, 20))
    assert set(short["kind"]) == {"year", "market"} and short["cagr"].isna().all()


# --- the worst stretches

def slow_stress(r, b, window):
    """Every window, one after the other: (benchmark, first row)."""
    return min((float((1 + b.iloc[i:i + window]).prod() - 1), i) for i in range(len(b) - window + 1))


@pytest.mark.parametrize("window", [1, 5, 63])
def test_the_worst_window_is_the_worst_of_all(window):
    r, b = daily(1, 300), daily(2, 300)
    row = stress(r, b, days=(window,)).iloc[0]
    worst, first = slow_stress(r, b, window)
    assert row["benchmark"] == pytest.approx(worst) and row["start"] == b.index[first]
    assert row["end"] == b.index[first + window - 1]
    assert row["strategy"] == pytest.approx((1 + r.iloc[first:first + window]).prod() - 1)
    own = stress(r, b, days=(window,), of="strategy").iloc[0]
    assert own["strategy"] == pytest.approx(slow_stress(b, r,
                                                        window)[0]) and own["strategy"] <= row["strategy"]


def test_several_windows_share_no_day_and_long_ones_are_left_out():
    r, b = daily(1, 100), daily(2, 100)
    table = stress(r, b, days=(10, 101), top=4)
    assert list(table["window"]) == [10] * 4 and table["benchmark"].is_monotonic_increasing
    covered = [d for row in table.itertuples() for d in pd.date_range(row.start, row.end)]
    assert len(covered) == len(set(covered)) == 40
    assert len(stress(r, b, days=(60,), top=3)) == 1
    assert list(stress(r, b, days=(101,)).columns) == ["window", "start", "end", "strategy", "benchmark"]


def test_stress_refuses_what_it_cannot_use():
    r, b = daily(1, 100), daily(2, 100)
    with pytest.raises(ParameterError, match="`of`"): stress(r, b, of="market")
    for days in ((0,), (True,), (5.0,)):
        with pytest.raises(ParameterError, match="integers >= 1"): stress(r, b, days=days)
    with pytest.raises(BacktestError, match="of the same days"): stress(r, b.shift(1000, freq="D"))
    with pytest.raises(BacktestError, match="finite"): stress(r, b.mask(b.index.day == 3))
    with pytest.raises(BacktestError, match="returns > -1"): stress(r.mask(r.index.day == 3, -1.0), b)


# --- the same decisions again

TS = pd.date_range("2020-01-01", periods=300, tz="UTC", unit="us")


def some_bars(seed=0, symbols=2, drift=0.001, rows=300):
    rng, frames = np.random.default_rng(seed), []
    for s in range(symbols):
        close = 30 * np.exp(rng.normal(drift, 0.015, rows).cumsum())
        open_ = close * np.exp(rng.normal(0, 0.004, rows))
        frames.append(pd.DataFrame(dict(symbol=f"S{s}", timeframe="1d", ts=TS[:rows], open=open_, close=close,
                                        volume=rng.uniform(1e4, 1e6, rows),
                                        high=np.maximum(open_, close) * 1.004,
                                        low=np.minimum(open_, close) * 0.996)))
    return pd.concat(frames, ignore_index=True)


def some_weights(bars, seed=0, gross=1.0, short=True):
    symbols, rng = sorted(bars["symbol"].unique()), np.random.default_rng(seed + 50)
    raw = rng.integers(-1 if short else 0, 2, (58, len(symbols))) * gross / len(symbols)
    return pd.DataFrame(raw, columns=symbols, index=TS[2:290:5])


def earned(sim):
    return sim.equity["strategy"].iloc[-1] / sim.initial_cash - 1


@pytest.mark.parametrize("seed", range(3))
def test_cost_curve_is_that_of_single_runs(seed):
    bars = some_bars(seed)
    sim = simulate(some_weights(bars, seed), bars,
                   Costs(fee_bps=4, fee_min=2, spread_bps=3, slippage_vol=0.05, impact=0.1, borrow_bps=100,
                         delay=2, lot=1))
    curve = cost_curve(sim, bars, (0, 5.5, 40), 365)
    for row in curve.itertuples():
        direct = simulate(some_weights(bars, seed), bars,
                          Costs(fee_bps=row.bps, slippage_bps=0, borrow_bps=100, delay=2, lot=1))
        assert row.total_return == pytest.approx(earned(direct))
        assert row.sharpe == pytest.approx(return_figures(direct.returns, 365)["sharpe"])
    assert curve["bps"].tolist() == [0, 5.5, 40] and (curve["total_return"].diff().dropna() < 0).all()


def test_where_the_curve_is_zero_is_about_where_the_orders_break_even():
    bars = some_bars(1, drift=0.002)
    sim = simulate(some_weights(bars, 4, short=False), bars)
    level = cost_breakeven_bps(sim)
    around = cost_curve(sim, bars, (0.8 * level, 1.2 * level))["total_return"]
    assert earned(sim) > 0 and around[0] > 0 > around[1]


def test_a_later_fill_is_a_later_decision():
    bars = some_bars(3)
    weights = some_weights(bars, 3)
    sim = simulate(weights, bars, Costs(delay=1))
    curve = delay_curve(sim, bars, (1, 2, 4))
    assert curve["delay"].tolist() == [1, 2, 4] and curve.loc[0, "total_return"] == pytest.approx(earned(sim))
    for row, late in ((1, 1), (2, 3)):
        later = simulate(weights.set_axis(TS[2 + late:290 + late:5]), bars, Costs(delay=1))
        assert curve.loc[row, "total_return"] == pytest.approx(earned(later), abs=1e-12)


def test_stops_and_leverage_of_a_rule_are_kept():
    bars = some_bars(5)
    rng = np.random.default_rng(0)
    predictions = pd.DataFrame(dict(symbol=bars["symbol"], ts=bars["ts"],
                                    probability=rng.uniform(0, 1, len(bars))))
    rule = TradingRule(kind="long_short", leverage=2.0, stop_loss=0.02, take_profit=0.03)
    sim = backtest(predictions, bars, rule, Costs(fee_bps=1, slippage_bps=0))
    assert sim.orders["reason"].isin(["stop_loss", "take_profit"]).any() and sim.exposure.max() > 1.2
    assert cost_curve(sim, bars, (1,)).loc[0, "total_return"] == pytest.approx(earned(sim))
    assert cost_curve(sim, bars, (8,)).loc[0, "total_return"] == pytest.approx(
        earned(backtest(predictions, bars, rule, Costs(fee_bps=8, slippage_bps=0)))
    )


def test_what_is_not_known_is_not_guessed():
    bars = some_bars(5)
    weights = some_weights(bars)
    stopped = simulate(weights, bars, stop_loss=0.02)
    for ask in (cost_curve, delay_curve, impact_curve):
        with pytest.raises(BacktestError, match="knows its stops"): ask(stopped, bars)
    dividends = pd.DataFrame(dict(symbol="S0", ex_date=TS[::10], kind="dividend", value=0.2))
    paid = simulate(weights, bars, actions=dividends)
    assert paid.dividends
    with pytest.raises(BacktestError, match="`actions`"): delay_curve(paid, bars)
    with pytest.raises(BacktestError, match="those that the simulation traded"):
        delay_curve(paid, bars, actions=dividends.head(20))
    split = pd.DataFrame(dict(symbol=["S0"], ex_date=TS[[100]], kind=["split"], value=[2.0]))
    halved = bars.assign(**{c: bars[c].where((bars["symbol"] != "S0") | (bars["ts"] < TS[100]), bars[c] / 2)
                            for c in ("open", "high", "low", "close")})
    both = simulate(weights, halved, actions=split)
    assert earned(both) == pytest.approx(earned(simulate(weights, bars)))
    with pytest.raises(BacktestError, match="it ended with.*traded again"): cost_curve(both, halved)
    np.testing.assert_allclose(cost_curve(both, halved, (5,), actions=split),
                               cost_curve(simulate(weights, bars), bars, (5,)))
    for other in (bars.assign(open=bars["open"] * 1.01), bars[bars["ts"] > TS[20]],
                  bars[bars["symbol"] == "S0"]):
        with pytest.raises(BacktestError, match="those that the simulation traded"):
            cost_curve(simulate(weights, bars), other)
    assert delay_curve(paid, bars, (1,), actions=dividends).loc[0,
                                                                "total_return"] == pytest.approx(earned(paid))


def test_an_account_that_is_lost_has_lost_everything():
    rows = 60
    close = np.concatenate([np.full(20, 10.0), np.full(1, 18.0), np.full(1, 21.0), np.full(rows - 22, 10.0)])
    bars = pd.DataFrame(dict(symbol="S0", timeframe="1d", ts=TS[:rows], open=close, close=close))
    weights = pd.DataFrame({"S0": [-1.0, 0.0, 0.0]}, index=TS[[5, 19, 50]])
    sim = simulate(weights, bars, Costs(fee_bps=0, slippage_bps=0))
    curve = delay_curve(sim, bars, (1, 2, 3))
    assert curve.loc[0, "total_return"] == pytest.approx(-0.8) and curve.loc[2, "total_return"] == -1
    assert np.isnan(curve.loc[2, "sharpe"])


# --- capacity

@pytest.mark.parametrize("seed, share", [(0, 0.02), (1, 0.1), (2, 0.5)])
def test_under_the_capacity_no_order_is_cut_and_above_it_one_is(seed, share):
    """An account of that size, traded under a participation cap."""
    bars = some_bars(seed)
    weights, costs = some_weights(bars, seed), Costs(fee_bps=3)
    most = capacity(simulate(weights, bars, costs), bars, (share,), covered=1.0).loc[0]
    assert most["capital"] == most["strict"]
    for factor, same in ((0.999, True), (1.001, False)):
        cash = float(most["strict"]) * factor
        free, capped = (simulate(weights, bars, replace(costs, participation=p), cash=cash)
                        for p in (None, share))
        assert (len(free.orders) == len(capped.orders)
                and np.allclose(free.orders["size"], capped.orders["size"])) == same
        part = free.orders.merge(bars, on=["symbol", "ts"])
        assert ((part["size"].abs() / part["volume"]).max() <= share) == same


def test_capacity_of_nearly_all_by_hand():
    bars = some_bars(4)
    sim = simulate(some_weights(bars, 4), bars, cash=2e6)
    table = capacity(sim, bars, (0.05, 0.1), covered=0.8)
    part = sim.orders.merge(bars[["symbol", "ts", "volume"]], on=["symbol", "ts"])
    money, used = part["size"].abs() * part["price"], part["size"].abs() / part["volume"]
    for row in table.itertuples():
        grown = row.capital / 2e6
        assert money[used * grown <= row.participation
                     * 1.0001].sum() >= 0.8 * money.sum() > money[used * grown
                                                                  * 1.001 < row.participation].sum() * 0.999
        assert row.exceeding == pytest.approx(money[used > row.participation].sum() / money.sum())
        assert money[used * grown * 1.001 <= row.participation].sum() < money.sum()
        assert row.strict < row.capital and row.covered == 0.8
    assert table.loc[1, "capital"] == pytest.approx(2 * table.loc[0, "capital"])


def test_a_cap_is_lifted_before_counting():
    bars = some_bars(2)
    weights = some_weights(bars, 2)
    free, capped = (simulate(weights, bars, Costs(participation=p), cash=1e7) for p in (None, 0.01))
    assert len(capped.orders) > len(free.orders)
    pd.testing.assert_frame_equal(capacity(free, bars), capacity(capped, bars))


def test_capacity_of_thin_unknown_and_absent_bars():
    bars = some_bars(6, symbols=1)
    sim = simulate(some_weights(bars, 6), bars)
    fills = bars["ts"].isin(sim.orders["ts"])
    first = bars.index[fills][0]
    unknown = bars["volume"].mask(bars.index == first)
    assert capacity(sim, bars.assign(volume=bars["volume"].mask(bars.index == first,
                                                                0.0))).loc[0, "strict"] == 0
    assert capacity(sim, bars.assign(volume=unknown), covered=1.0).loc[0, "strict"] > 0
    assert capacity(sim, bars.assign(volume=np.nan))["capital"].isna().all()
    with pytest.raises(BacktestError, match="`volume`"): capacity(sim, bars.drop(columns="volume"))


def test_impact_curve_is_that_of_single_runs_and_more_money_earns_less_of_itself():
    bars = some_bars(7)
    sim = simulate(some_weights(bars, 7), bars)
    curve = impact_curve(sim, bars, (1e5, 1e6, 1e7), impact=0.5)
    assert (curve["total_return"].diff().dropna() < 0).all() and (curve["impact_bps"].diff().dropna()
                                                                  > 0).all()
    direct = simulate(some_weights(bars, 7), bars, Costs(impact=0.5), cash=1e6)
    assert curve.loc[1, "total_return"] == pytest.approx(earned(direct))
    assert curve.loc[1, "profit"] == pytest.approx(1e6 * earned(direct))
    assert curve.loc[1, "impact_bps"] == pytest.approx(direct.costs["impact"] / direct.traded * 1e4)


# --- hardly anything to go by

def test_an_account_that_never_trades():
    bars = some_bars()
    sim = simulate(some_weights(bars) * 0, bars)
    for curve in (cost_curve(sim, bars), delay_curve(sim, bars), impact_curve(sim, bars)):
        assert (curve["total_return"] == 0).all() and curve["sharpe"].isna().all()
    assert impact_curve(sim, bars)["impact_bps"].isna().all()
    table = capacity(sim, bars)
    assert table[["capital", "strict", "exceeding"]].isna().all(axis=None) and len(table) == 5


def test_one_trade_that_is_still_open():
    bars = some_bars(symbols=1)
    sim = simulate(pd.DataFrame({"S0": [1.0]}, index=TS[[100]]), bars)
    assert len(sim.orders) == 1
    table, volume = capacity(sim, bars, (0.1,)), bars.loc[101, "volume"]
    assert table.loc[0, "capital"] == pytest.approx(1e5 * 0.1 * volume / sim.orders["size"].iloc[0])
    assert cost_curve(sim, bars, (0,
                                  10))["total_return"].is_monotonic_decreasing and len(delay_curve(sim,
                                                                                                   bars)) == 4


@pytest.mark.parametrize("ask, values", [
    (cost_curve, (3, 1)), (cost_curve, ()), (cost_curve, (-1,)), (cost_curve, (True,)), (cost_curve, ("3",)),
    (cost_curve, (np.nan,)),
    (delay_curve, (0, 1)), (delay_curve, (1, 1)), (delay_curve, (1.5,)), (capacity, (0.0, 0.1)),
    (capacity, (0.5, 1.5)), (impact_curve, (0,))])
def test_parameters_that_make_no_curve(ask, values):
    bars = some_bars()
    with pytest.raises(ParameterError): ask(simulate(some_weights(bars), bars), bars, values)


def test_covered_is_a_share():
    bars = some_bars()
    for covered in (0, 1.1, np.nan):
        with pytest.raises(ParameterError, match="covered"):
            capacity(simulate(some_weights(bars), bars), bars, covered=covered)


def test_volumes_are_those_of_a_join_whatever_the_order_of_the_bars():
    rng = np.random.default_rng(0)
    ts = pd.date_range("2024-01-01", periods=50, tz="UTC", unit="us")
    bars = pd.DataFrame(dict(symbol=np.repeat(["A", "B"], 50), ts=[*ts, *ts], volume=rng.random(100)))
    bars = bars.drop([3, 60]).sample(frac=1, random_state=1, ignore_index=True)
    orders = pd.DataFrame(dict(symbol=rng.choice(["A", "B", "C"], 70), ts=rng.choice(ts, 70)))
    orders["ts"] = pd.DatetimeIndex(orders["ts"], tz="UTC").as_unit("us")
    expected = orders.merge(bars, how="left", on=["symbol", "ts"])["volume"]
    np.testing.assert_array_equal(_volumes(orders, bars), expected)
    with pytest.raises(BacktestError, match="two bars for A"):
        _volumes(orders, pd.concat([bars, bars[bars.symbol == "A"]]))
