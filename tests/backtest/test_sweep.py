"""Sweeps: each set is what backtest says and what vectorbt says; plateaus, trials, bad grids."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mlfin.backtest.costs import Costs
from mlfin.backtest.risk import drawdowns
from mlfin.backtest.trading_rule import TradingRule
from mlfin.significance.sharpe_ratio import sharpe
from mlfin.backtest.simulate import backtest
from mlfin.backtest.sweep import Plateau, Sweep, sweep
from mlfin.core.errors import BacktestError, MlfinError, ParameterError
from mlfin.core.trials import open_ledger, trial_id
from mlfin.market.calendars import expected_bars


def market(seed=0, rows=120, symbols="ABCDE", gaps=0.1, step=0.02, clock=None, timeframe="1d"):
    """(bars with everything that costs may ask for, probabilities): random walks with holes; E ends early."""
    rng = np.random.default_rng(seed)
    ts = pd.date_range("2024-01-01", periods=rows, freq="D", tz="UTC",
                       unit="us") if clock is None else pd.DatetimeIndex(clock)
    frames = []
    for symbol in symbols:
        at = np.arange(rows) if symbol == "A" else np.flatnonzero(rng.random(rows) > gaps)
        if symbol == "E": at = at[at < 2 * rows // 3]
        close = 50 * np.exp(rng.normal(0, step, len(at)).cumsum())
        opens = np.append(50.0, close[:-1]) * np.exp(rng.normal(0, step / 4, len(at)))
        high, low = np.maximum(opens, close) * 1.01, np.minimum(opens, close) * 0.99
        frames.append(pd.DataFrame(dict(symbol=symbol, timeframe=timeframe, ts=ts[at], open=opens, high=high,
                                        low=low, close=close,
                                        vwap=(high + low) / 2,
                                        volume=rng.integers(100, 5_000, len(at)).astype(float), spread=0.02)))
    bars = pd.concat(frames, ignore_index=True)
    p = bars[["symbol", "ts"]].assign(probability=rng.random(len(bars)))
    return bars, p[(rng.random(len(p)) > 0.05) & (p.ts < ts[-8])]


def check_against_backtest(done, predictions, bars, **more):
    """Each set of a sweep is what `backtest` says of it."""
    for k, row in done.table.iterrows():
        sim = backtest(predictions, bars, done.rules[k], done.costs[k], **more)
        np.testing.assert_allclose(done.returns[k].dropna(), sim.returns, rtol=0, atol=1e-12)
        assert done.returns[k].dropna().index.equals(sim.returns.index)
        expected = [sharpe(sim.returns), drawdowns(sim.equity)[0].min(),
                    sim.equity.strategy.iloc[-1] / sim.initial_cash - 1,
                    sim.turnover, len(sim.orders)]
        got = row[["sharpe", "max_drawdown", "total_return", "turnover", "orders"]].astype(float)
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12, err_msg=str(dict(row)))


@pytest.mark.parametrize("grid, rule, costs", [
    ({"kind": ["long_flat", "long_short", "short_flat"], "threshold": [None, 0.6], "hysteresis": [0.0, 0.1]},
     TradingRule(), Costs()),
    ({"quantile": [0.2, 0.4], "min_hold": [0, 4], "fee_bps": [0.0, 20.0]},
     TradingRule("long_short", signal="quantile"), Costs()),
    ({"leverage": [0.5, 2.0], "max_weight": [None, 0.3], "reach": [None, 0.2]},
     TradingRule("long_short", signal="proportional"),
     Costs(borrow_bps=300, funding_bps=500)),
    ({"vol_target": [None, 0.1], "vol_lookback": [5, 21], "slippage_vol": [0.0, 0.3]},
     TradingRule("long_short"), Costs(spread_bps=4)),
    ({"stop_loss": [None, 0.03], "take_profit": [None, 0.05], "trailing_stop": [None, 0.04]},
     TradingRule(threshold=0.4), Costs()),
    ({"fill": ["open", "vwap", "close"], "delay": [1, 2, 5], "use_spread": [False, True]}, TradingRule(),
     Costs()),
    ({"participation": [None, 0.02], "impact": [0.0, 0.5], "lot": [0.0, 1.0]}, TradingRule("long_short"),
     Costs(fee_min=1.0, fee_per_share=0.01)),
])
def test_each_set_is_what_backtest_says(grid, rule, costs):
    bars, p = market(len(grid))
    done = sweep(p, bars, grid, rule, costs)
    assert len(done.table) == np.prod([len(v)
                                       for v in grid.values()]) and list(done.table)[:len(grid)] == list(grid)
    assert done.table.total_return.nunique() > 1
    check_against_backtest(done, p, bars)


def test_meta_actions_money_and_returns_come_through():
    bars, p = market(3)
    meta = p.assign(probability=np.random.default_rng(1).random(len(p)))
    actions = pd.DataFrame(dict(symbol="A", ex_date=[bars.ts.min() + pd.Timedelta(days=40)], kind="dividend",
                                value=[5.0]))
    done = sweep(p, bars, {"threshold": [0.3, 0.5]}, cash=777.0, meta=meta, actions=actions)
    check_against_backtest(done, p, bars, cash=777.0, meta=meta, actions=actions)
    returns = p.assign(prediction=p.probability - 0.5).drop(columns="probability")
    done = sweep(returns, bars, {"threshold": [None, 0.2], "signal": ["threshold", "proportional"]})
    check_against_backtest(done, returns, bars)
    assert done.specs()[0]["threshold"] == 0.0


@pytest.mark.parametrize("calendar", ["XNYS", "24/7"])
def test_days_are_counted_as_the_market_counts_them(calendar):
    clock = expected_bars("XNYS", "1h", "2024-02-26", "2024-03-20").ts
    bars, p = market(5, rows=len(clock), symbols="AB", clock=clock, timeframe="1h", step=0.004)
    done = sweep(p, bars, {"threshold": [0.4, 0.6], "delay": [1, 9]}, calendar=calendar)
    check_against_backtest(done, p, bars, calendar=calendar)
    assert done.table.annualised[0] == pytest.approx(done.table.sharpe[0]
                                                     * np.sqrt(252 if calendar == "XNYS" else 365), rel=1e-12)


def test_a_longer_delay_has_a_longer_record():
    bars, p = market(2, symbols="A")
    done = sweep(p, bars, {"delay": [1, 4]})
    assert done.returns[0].isna().sum() == 3 and done.returns[1].notna().all()
    assert done.returns[0].iloc[:-3].notna().all()


@pytest.mark.parametrize("seed", range(3))
def test_every_set_is_what_vectorbt_says(seed):
    import vectorbt as vbt

    bars, _ = market(seed, rows=400, symbols="A")
    p = bars[["symbol", "ts"]].assign(probability=np.random.default_rng(seed).random(len(bars)))
    axes = {"threshold": [0.2, 0.4, 0.5, 0.7, 0.9], "fee_bps": [0.0, 3.0, 30.0], "slippage_bps": [0.0, 4.0]}
    done = sweep(p, bars, axes, TradingRule("long_flat"), cash=5_000.0)
    thresholds, fees, slippages = (np.ravel(a) for a in np.meshgrid(*axes.values(), indexing="ij"))
    # in force at each open
    wanted = np.vstack([0 * thresholds, p.probability.to_numpy()[:-1, None] > thresholds]).astype(float)
    rows = bars.set_index(bars.ts.dt.tz_localize(None))
    price = rows.open.to_numpy()[:, None]
    pf = vbt.Portfolio.from_orders(rows.close, size=np.where(np.diff(wanted, axis=0, prepend=0.0) != 0,
                                                             wanted, np.nan), price=price,
                                   size_type="targetpercent", val_price=price, fees=fees / 1e4,
                                   slippage=slippages / 1e4,
                                   init_cash=5_000.0, freq="1D")
    year = np.sqrt(pd.Timedelta(vbt.settings["returns"]["year_freq"]) / pd.Timedelta("1D"))
    # the first row is the account before its first order
    ratio = pf.returns().iloc[1:].vbt.returns(freq="1D").sharpe_ratio()
    for mine, theirs in (("sharpe", ratio / year), ("max_drawdown", pf.max_drawdown()),
                         ("total_return", pf.total_return()),
                         ("orders", pf.orders.count())):
        np.testing.assert_allclose(done.table[mine].astype(float), theirs.to_numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(done.returns, pf.returns().iloc[1:], rtol=0, atol=1e-12)


def test_threads_change_nothing():
    bars, p = market(4)
    grid = {"threshold": np.linspace(0.3, 0.8, 7), "delay": [1, 3], "min_hold": [0, 3]}
    one, three = sweep(p, bars, grid), sweep(p, bars, grid, threads=3)
    pd.testing.assert_frame_equal(one.table, three.table, check_exact=True)
    pd.testing.assert_frame_equal(one.returns, three.returns, check_exact=True)


def test_the_order_of_a_grid_changes_no_set():
    bars, p = market(4)
    a = sweep(p, bars, {"threshold": [0.4, 0.6], "fee_bps": [1.0, 50.0]}).table
    b = sweep(p, bars, {"fee_bps": [50.0, 1.0], "threshold": [0.6, 0.4]}).table
    pd.testing.assert_frame_equal(a, b.sort_values(["threshold", "fee_bps"], ignore_index=True)[list(a)],
                                  check_names=False)


def test_sets_that_never_trade_and_accounts_that_end_have_no_sharpe_ratio():
    bars, p = market(6, symbols="A", step=0.2)
    jump = bars.assign(**{c: bars[c].where(bars.ts < bars.ts[50], bars[c] * 6)
                          for c in ("open", "high", "low", "close", "vwap")})
    done = sweep(p.assign(probability=0.2), jump, {"kind": ["long_flat", "short_flat"],
                                                   "leverage": [0.1, 1.0, 3.0]}, TradingRule(threshold=0.6))
    still, ruined = done.table.iloc[:3], done.table.iloc[5]
    assert still.sharpe.isna().all() and (still[["max_drawdown", "total_return", "turnover", "orders"]]
                                          == 0).all(axis=None)
    assert (ruined.total_return, ruined.max_drawdown) == (-1, -1) and np.isnan(ruined.sharpe)
    path = done.returns[5]
    assert (path == -1).sum() == 1 and path.loc[path.idxmin():].iloc[1:].eq(0).all() and path.notna().all()
    with pytest.raises(BacktestError, match="worth|> 0"):
        backtest(p.assign(probability=0.2), jump, done.rules[5])
    with pytest.raises(BacktestError, match="a set that has a Sharpe ratio"):
        replace(done, table=still, returns=done.returns[[0, 1, 2]],
                axes={"leverage": [0.1, 1.0, 3.0]}).plateau()


def of(axes, values):
    """A sweep whose sets have these Sharpe ratios."""
    shape = [len(v) for v in axes.values()]
    table = pd.DataFrame({n: a.ravel() for n, a in zip(axes, np.meshgrid(*axes.values(), indexing="ij"),
                                                       strict=True)})
    return Sweep(table.assign(sharpe=np.reshape(values, int(np.prod(shape))), total_return=0.1),
                 pd.DataFrame(), axes, [], [])


def test_a_peak_that_stands_alone_is_told_from_a_plateau():
    axes = {"threshold": [0.4, 0.5, 0.6, 0.7, 0.8], "min_hold": [0, 1, 2, 3, 4]}
    lonely = np.full((5, 5), 0.031)
    lonely[2, 2] = 0.1
    spike = of(axes, lonely).plateau()
    assert (spike.best, spike.neighbours, spike.share, spike.on_plateau,
            spike.edge) == (12, 8, 0.0, False, ())
    assert str(spike) == "The best set stands alone: its neighbours keep 31 % of its Sharpe ratio."
    assert of(axes, lonely).plateau(tolerance=0.3).on_plateau
    wide = 0.1 - 0.01 * np.hypot(*np.meshgrid(range(-2, 3), range(-2, 3)))
    flat = of(axes, wide).plateau()
    assert flat.on_plateau and flat.share == 1.0 and flat.kept == pytest.approx(0.5
                                                                                * (0.9 + 1 - 0.1
                                                                                   * np.sqrt(2)))
    assert flat.text.startswith("The best set stands on a plateau: its neighbours keep 88 % of its Sharpe "
                                "ratio (8 of 8 at least 50 %).")


def test_neighbours_are_one_step_away_in_value_whatever_the_order_of_the_grid():
    axes = {"threshold": [0.7, 0.4, 0.6, 0.5], "kind": ["long_flat", "long_short"], "fee_bps": [1.0]}
    values = np.array([[0.9, 0.0], [0.0, 0.0], [0.8, 0.0], [0.1, 0.0]])
    found = of(axes, values).plateau()
    assert (found.best, found.neighbours, found.share, found.edge) == (0, 1, 1.0, ("threshold",))
    assert found.text.endswith("It stands at the end of threshold: a wider grid may show a better one.")
    middle = of(axes, values + np.array([[0, 0], [0, 0], [0.3, 0], [0, 0]])).plateau()
    assert (middle.best, middle.neighbours, middle.share, middle.edge) == (4, 2, 0.5, ())
    assert middle.on_plateau and middle.kept == pytest.approx((0.9 + 0.1) / 2 / 1.1)


def test_an_axis_of_two_million_values_is_refused_at_once():
    bars, predictions = market(symbols="A", gaps=0.0)
    with pytest.raises(ParameterError, match="larger memory_mb"):  # seconds, not hours
        sweep(predictions, bars, {"fee_bps": np.linspace(0, 9_999, 2_000_000)})
    with pytest.raises(ParameterError, match="numbers, texts or tuples"):
        sweep(predictions, bars, {"fee_bps": [[1.0]]})


def test_neighbours_on_an_axis_with_none_among_numbers():
    bars, predictions = market(symbols="A", gaps=0.0)
    done = sweep(predictions, bars, {"stop_loss": [None, 0.1], "min_hold": [0, 2, 5]})
    found = done.plateau()
    assert found.neighbours in (1, 2) and found.best == done.best()  # those of the same stop


def test_what_cannot_be_judged_says_so():
    alone = of({"kind": ["long_flat", "long_short"]}, [0.1, 0.2]).plateau()
    assert "no neighbours" in alone.text and not alone.on_plateau and np.isnan(alone.share)
    losing = of({"threshold": [0.4, 0.5]}, [-0.1, -0.2]).plateau()
    assert losing.text == "No set of the grid has a Sharpe ratio above zero." and not losing.on_plateau
    hole = of({"threshold": [0.4, 0.5, 0.6]}, [np.nan, 0.2, np.nan]).plateau()
    assert (hole.best, hole.share, hole.kept) == (1, 0.0, 0.0) and isinstance(hole, Plateau)
    assert "of its return" in of({"threshold": [0.4, 0.5]}, [0.1, 0.2]).plateau("total_return").text
    for bad in (0, 1.5, "half", True):
        with pytest.raises(ParameterError, match="^`tolerance`"):
            of({"threshold": [0.4, 0.5]}, [0.1, 0.2]).plateau(tolerance=bad)
    with pytest.raises(ParameterError, match="^`metric`"):
        of({"threshold": [0.4, 0.5]}, [0.1, 0.2]).best("alpha")


def test_neighbours_that_lose_keep_nothing():
    """No share of a figure is kept where the sign has changed."""
    found = of({"threshold": [0.4, 0.5, 0.6]}, [-0.1, 0.2, -0.3]).plateau()
    assert (
        found.text
        == "The best set stands alone: its neighbours have a Sharpe ratio below zero at the median."
    )
    assert found.kept == pytest.approx(-1.0)


@pytest.mark.parametrize("numbered", ["bars", "predictions"])
def test_symbols_that_are_numbers_are_named(numbered):
    bars, p = market(1, symbols="AB")
    both = {"bars": bars, "predictions": p}
    both[numbered] = both[numbered].assign(symbol=both[numbered].symbol.map({"A": 1, "B": 2}))
    with pytest.raises(BacktestError, match=f"`symbol` must be a text, got 1 .{numbered}.*\n.*astype"):
        sweep(both["predictions"], both["bars"], {"threshold": [0.5]})
    with pytest.raises(BacktestError, match="`symbol` must be a text, got 1"):
        backtest(both["predictions"], both["bars"], TradingRule())


def test_noise_does_not_stand_on_a_plateau_of_finely_cut_luck():
    bars, p = market(9, rows=500, symbols="A")
    known = sweep(bars.iloc[:-1][["symbol",
                                  "ts"]].assign(probability=(bars.close.shift(-1)
                                                             / bars.open.shift(-1)).iloc[:-1].clip(0.9, 1.1)
                                                / 2),
                  bars, {"threshold": np.linspace(0.485, 0.515, 13)})
    assert known.plateau().on_plateau and known.table.sharpe.max() > 0.3
    assert sweep(p, bars, {"threshold": np.linspace(0.3, 0.7, 5)}).table.sharpe.max() < 0.2


ABOUT = dict(dataset="d1", label="fwd_ret_1", features=["b", "a"], model="logistic", parameters={"seed": 1})


def test_every_set_is_a_trial_once(tmp_path):
    bars, p = market(7, symbols="AB")
    ledger = open_ledger(tmp_path / "trials.sqlite")
    done = sweep(p, bars, {"threshold": [None, 0.5, 0.6], "quantile": [0.2, 0.3], "fee_bps": [1.0, 2.0]})
    # None is 0.5; no quantile is asked for
    assert done.record(ledger, "e", **ABOUT) == 4 and done.record(ledger, "e", **ABOUT) == 0
    again = sweep(p, bars, {"threshold": [0.6, 0.7]})
    assert again.record(ledger, "e", **ABOUT) == 1 and ledger.snapshot("e").count == 5
    name = trial_id("d1", "fwd_ret_1", ["a", "b"], "logistic", {"seed": 1},
                    TradingRule(threshold=0.7).spec() | Costs().spec())
    np.testing.assert_array_equal(ledger.returns("e")[name].dropna(), again.returns[1].dropna())
    assert {"kind": "long_flat", "threshold": 0.7, "fee_bps": 1.0, "slippage_bps": 2.0} == again.specs()[1]
    assert all(set(ABOUT) | {"rule"} == set(pd.io.json.ujson_loads(s)) for s in ledger.trials("e").spec)


@pytest.mark.parametrize("grid, message", [
    ({"treshold": [0.5]}, "`grid` must be a known name, got 'treshold'.*\n.*`threshold`"),
    ({"cash": [1.0]}, "`grid`"),
    ({"threshold": []}, r"`grid\['threshold'\]` must be a list with at least one value"),
    ({}, "at least one field"),
    ({"threshold": 0.5}, r"`grid\['threshold'\]` must be a list of values, got 0.5"),
    ({"kind": "long_flat"}, "a list of values"),
    ({"threshold": [0.5, 0.6, 0.5]}, "different values, got 0.5"),
    (["threshold"], "`grid` must be a mapping"),
    ({"threshold": [0.5, 2.0], "min_hold": [0]}, "`threshold` must be .* got 2.0. The grid asks for "
     "threshold=2.0, min_hold=0."),
    ({"signal": ["quantile"], "threshold": [0.5]},
     "`threshold` must be None .*The grid asks for signal='quantile', threshold=0.5"),
    ({"fee_bps": [1, "two"]}, "`fee_bps` .*The grid asks for fee_bps='two'"),
    ({"delay": [0]}, "`delay` .*The grid asks for delay=0"),
    ({"kind": ["long_short"], "threshold": [0.4]}, "`threshold` must be a number, 0.5 <= t < 1"),
    ({"signal": ["quantile"], "quantile": [0.1]}, "`quantile` must be a share of at least one of 5 symbols"),
    ({"threshold": np.linspace(0.1, 0.9, 3000)}, "`grid` must be of at most [0-9,]+ sets, for the returns of "
     "11[0-9] days each in 1 MB, got '3,000 sets'"),
    ({"delay": [1, 500]}, "at least 500 more after the first decision"),
])
def test_bad_grids_are_named(grid, message):
    bars, p = market(1)
    with pytest.raises(MlfinError, match=message): sweep(p, bars, grid, memory_mb=1)


@pytest.mark.parametrize("more", [dict(cash=0), dict(cash="1"), dict(threads=0), dict(threads=1.5),
                                  dict(memory_mb=0), dict(cash=float("inf"))])
def test_bad_numbers_are_named(more):
    bars, p = market(1, symbols="A")
    with pytest.raises(ParameterError, match=f"^`{next(iter(more))}`"):
        sweep(p, bars, {"threshold": [0.5]}, **more)


def test_symbols_as_categories_in_any_order():
    bars, p = market(3)
    odd = bars.assign(symbol=pd.Categorical(bars.symbol, categories=list("CAEDB")))
    grid = {"threshold": [0.5, 0.6]}
    done = sweep(p, odd, grid)
    pd.testing.assert_frame_equal(done.table, sweep(p, bars, grid).table)
    check_against_backtest(done, p, odd)
