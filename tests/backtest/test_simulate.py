"""Fills, cash and books: an independent simulation, vectorbt alone, properties, gaps and ends."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfin.backtest.costs import Costs
from mlfin.backtest.risk import return_figures
from mlfin.backtest.signals import hold_equally, positions_from_predictions
from mlfin.backtest.trading_rule import TradingRule
from mlfin.backtest.simulate import backtest, buy_and_hold, daily_returns, equity_frame, simulate
from mlfin.core.errors import BacktestError, DataError, ParameterError
from mlfin.market.calendars import expected_bars

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "market"


def bps(fee, slippage):
    return Costs(fee_bps=fee, slippage_bps=slippage)


def make_bars(seed, rows=60, symbols=3, missing=0.0, vol=0.03):
    """Random walks with gaps at the open; symbols start late or end early, and miss bars, when `missing` >
    0."""
    rng = np.random.default_rng(seed)
    ts = pd.date_range("2024-01-01", periods=rows, freq="D", tz="UTC", unit="us")
    frames = []
    for s in range(symbols):
        close = 20 * (s + 1) * np.exp(rng.normal(0, vol, rows).cumsum())
        frame = pd.DataFrame(dict(symbol=f"S{s}", timeframe="1d", ts=ts,
                                  open=close * np.exp(rng.normal(0, vol / 3, rows)),
                                  close=close))
        keep = rng.random(rows) >= missing
        if missing and s:
            first, last = rng.integers(0, rows // 3), rng.integers(2 * rows // 3, rows + 1)
            keep[:first] = False
            keep[last:] = False
        frames.append(frame[keep | (s == 0)])
    return pd.concat(frames, ignore_index=True)


def make_weights(bars, seed, short=False, change=0.3):
    """Targets of 0, 1/n or -1/n that change now and then, in every row of the clock but the last."""
    rng = np.random.default_rng(seed + 1000)
    ts, symbols = sorted(bars.ts.unique())[:-1], sorted(bars.symbol.unique())
    sign = rng.integers(-1 if short else 0, 2, (len(ts), len(symbols))).astype(float)
    for t in range(1, len(ts)):
        same = rng.random(len(symbols)) > change
        sign[t, same] = sign[t - 1, same]
    return pd.DataFrame(sign / len(symbols), index=pd.DatetimeIndex(ts), columns=symbols)


def event_driven(weights, bars, fee, slip, cash):
    """The rules once more, from events and dictionaries; returns (ts, equity) and the fills."""
    events = {}
    for bar in bars.itertuples(): events.setdefault(bar.ts, {})[bar.symbol] = bar
    final = bars.groupby("symbol").ts.max().to_dict()
    held = dict.fromkeys(weights, 0.0)
    done, last, curve, fills = dict.fromkeys(weights, 0.0), {}, [], []
    decided, gone = dict.fromkeys(weights, 0.0), set()
    clock = [t for t in sorted(events) if t >= weights.index[0]]
    clock = clock[:clock.index(weights.index[-1]) + 2]
    for ts in sorted(t for t in events if t < clock[0]):
        last.update({s: r.close for s, r in events[ts].items()})
    for ts in clock:
        now = events[ts]
        price = {s: now[s].open if s in now else last.get(s) for s in held}
        ended = [s for s in held if ts > final[s] and s not in gone] if ts != clock[0] else []
        gone.update(s for s in held if ts > final[s])
        value = cash + sum(q * price[s] for s, q in held.items() if q)
        due = {s: 0.0 for s in ended}
        for s in now:
            if decided[s] != done[s]: due[s] = done[s] = decided[s]
            elif decided[s] == 0 and held[s]: due[s] = 0.0
        move = {s: w * value / price[s] - held[s] for s, w in due.items() if w or held[s]}
        for s, q in move.items():
            if q < 0:
                cash += -q * price[s] * (1 - slip) * (1 - fee)
                held[s] += q
                fills.append((ts, s, q))
        buy = {s: q for s, q in move.items() if q > 0}
        unit = {s: price[s] * (1 + slip) * (1 + fee) for s in buy}
        cover = {s: min(q, max(-held[s], 0)) for s, q in buy.items()}
        cost_cover = sum(cover[s] * unit[s] for s in buy)
        cost_open = sum((buy[s] - cover[s]) * unit[s] for s in buy)
        a = 1 if cost_cover + cost_open <= cash else min(1, cash / cost_cover) if cost_cover else 1
        b = 1 if cost_cover + cost_open <= cash else max(0, cash - cost_cover) / cost_open if cost_open else 0
        for s in buy:
            q = cover[s] * a + (buy[s] - cover[s]) * b
            if q:
                cash -= q * unit[s]
                held[s] += q
                fills.append((ts, s, q))
        last.update({s: r.close for s, r in now.items()})
        curve.append((ts, cash + sum(q * last[s] for s, q in held.items() if q)))
        if ts in weights.index: decided = weights.loc[ts].to_dict()
    return pd.Series(dict(curve)), fills


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("missing", [0.0, 0.25])
@pytest.mark.parametrize("seed", range(12))
def test_equals_an_independent_simulation(seed, missing, short):
    bars = make_bars(seed, missing=missing)
    weights = make_weights(bars, seed, short)
    sim = simulate(weights, bars, bps(10, 5), cash=10_000)
    expected, fills = event_driven(weights, bars, 1e-3, 5e-4, 10_000.0)
    assert list(sim.equity["ts"]) == list(expected.index)
    np.testing.assert_allclose(sim.equity["strategy"], expected, rtol=1e-9)
    ours = sim.orders.sort_values(["ts", "symbol"])[["ts", "symbol", "size"]]
    theirs = pd.DataFrame(sorted(f for f in fills if abs(f[2]) > 1e-9), columns=["ts", "symbol", "size"])
    assert list(ours["ts"]) == list(theirs["ts"]) and list(ours["symbol"]) == list(theirs["symbol"])
    np.testing.assert_allclose(ours["size"], theirs["size"], rtol=1e-7)
    assert (sim.cash >= 0).all()


def test_equals_vectorbt_alone_on_identical_orders():
    """One symbol, all in and all out: vectorbt sizes, slips and charges by itself."""
    vbt = pytest.importorskip("vectorbt")
    bars = make_bars(4, rows=200, symbols=1)
    weights = make_weights(bars, 4, change=0.2)
    sim = simulate(weights, bars, bps(7, 3), cash=5_000)
    target = weights["S0"].reindex(bars.ts).ffill().shift(1, fill_value=0.0)
    size = target.where(target.diff().fillna(target) != 0).to_numpy()
    alone = vbt.Portfolio.from_orders(pd.Series(bars.close.to_numpy(), bars.ts), size=size,
                                      size_type="targetpercent",
                                      price=bars.open.to_numpy(), fees=7e-4, slippage=3e-4, init_cash=5_000)
    np.testing.assert_allclose(sim.equity["strategy"], alone.value(), rtol=1e-9)
    assert sim.costs["fees"] == pytest.approx(alone.orders.fees.sum(), rel=1e-9)
    assert len(sim.trades) == len(alone.trades.records)


def test_panel_with_shared_cash_equals_vectorbt_sizing():
    """Every target changes in the same rows, so vectorbt's target percentages find the same sizes without
    costs."""
    vbt = pytest.importorskip("vectorbt")
    bars = make_bars(8, rows=120)
    rng = np.random.default_rng(0)
    ts = pd.DatetimeIndex(sorted(bars.ts.unique()))
    raw = rng.uniform(0.05, 1, (len(ts) - 1, 3))
    weights = pd.DataFrame(raw / raw.sum(axis=1, keepdims=True) * 0.95, index=ts[:-1],
                           columns=["S0", "S1", "S2"])
    sim = simulate(weights, bars, bps(0, 0))
    wide = bars.pivot(index="ts", columns="symbol", values=["open", "close"])
    alone = vbt.Portfolio.from_orders(wide["close"], size=weights.reindex(ts).shift(1).to_numpy(),
                                      size_type="targetpercent",
                                      price=wide["open"].to_numpy(), init_cash=100_000, cash_sharing=True,
                                      group_by=True, call_seq="auto")
    np.testing.assert_allclose(sim.equity["strategy"], alone.value(), rtol=1e-9)


@pytest.mark.parametrize("costs", [Costs(fee_bps=7),
                                   Costs(fee_min=3, fee_per_share=0.01, spread_bps=9, slippage_vol=0.1),
                                   Costs(fill="close", lot=5.0)], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_vectorbt_alone_finds_the_same_from_our_orders_to_the_last_cent(seed, costs):
    vbt = pytest.importorskip("vectorbt")
    bars = make_bars(seed, rows=150)
    sim = simulate(make_weights(bars, seed, short=True), bars, costs)
    close = bars.pivot(index="ts", columns="symbol", values="close").loc[sim.equity["ts"]]
    table = {c: sim.orders.pivot(index="ts", columns="symbol",
                                 values=c).reindex(index=close.index, columns=close.columns)
             for c in ("size", "price", "fee")}
    alone = vbt.Portfolio.from_orders(close, size=table["size"].to_numpy(),
                                      price=table["price"].fillna(close).to_numpy(), cash_sharing=True,
                                      fixed_fees=table["fee"].fillna(0.0).to_numpy(), init_cash=100_000,
                                      group_by=True, call_seq="auto")
    np.testing.assert_allclose(sim.equity["strategy"], alone.value(), rtol=1e-9, atol=0.005)
    np.testing.assert_allclose(sim.portfolio.value(), alone.value(), rtol=1e-12)
    assert sim.trades["pnl"].sum() == pytest.approx(sim.equity["strategy"].iloc[-1] - 100_000, abs=0.005)
    assert sim.costs["fees"] == pytest.approx(sim.trades["fees"].sum())


def test_trades_of_stops_flows_and_splits_account_for_the_whole_gain():
    """Two orders of one symbol in one bar, dividends, a split and interest: what trades earned and what
    flowed is the gain."""
    bars = make_bars(1, rows=120, symbols=2, vol=0.04)
    top, low = bars[["open", "close"]].max(axis=1), bars[["open", "close"]].min(axis=1)
    bars = bars.assign(high=top * 1.02, low=low * 0.98)
    clock = sorted(bars.ts.unique())
    late = (bars.symbol == "S0") & (bars.ts >= clock[60])
    bars.loc[late, ["open", "high", "low", "close"]] /= 4
    actions = pd.DataFrame(dict(symbol=["S0", "S1"], ex_date=[clock[60], clock[70]],
                                kind=["split", "dividend"], value=[4.0, 0.8]))
    sim = simulate(make_weights(bars, 1, short=True, change=0.5), bars, Costs(borrow_bps=200), stop_loss=0.04,
                   take_profit=0.03, actions=actions)
    both = sim.orders.groupby(["ts", "symbol"]).size()
    assert both.max() == 2 and {"stop_loss", "take_profit"} <= set(sim.orders["reason"])
    flows = sim.flows[["borrow", "funding", "dividends"]].to_numpy().sum()
    assert sim.trades["pnl"].sum() + flows == pytest.approx(sim.equity["strategy"].iloc[-1] - 100_000,
                                                            rel=1e-9)
    assert sim.dividends == pytest.approx(sim.flows["dividends"].sum())
    assert sim.costs["borrow"] == pytest.approx(-sim.flows["borrow"].sum()) and sim.costs["borrow"] > 0
    np.testing.assert_allclose(sim.portfolio.value().groupby(level=0).last()
                               + sim.flows[["borrow", "dividends"]].sum(axis=1).cumsum().to_numpy(),
                               sim.equity["strategy"], rtol=1e-9)
    open_ = sim.trades[sim.trades["status"] == "open"].groupby("symbol")["size"].sum()
    held = sim.units.iloc[-1]
    for symbol in held.index[held != 0]: assert open_[symbol] == pytest.approx(abs(held[symbol]))


def test_books_that_do_not_agree_are_refused(monkeypatch):
    """An accountant that charges a fee twice."""
    vbt = pytest.importorskip("vectorbt")
    honest = vbt.Portfolio.from_orders.__func__
    monkeypatch.setattr(vbt.Portfolio, "from_orders",
                        classmethod(lambda cls, *a, fixed_fees,
                                    **k: honest(cls, *a, fixed_fees=fixed_fees * 2, **k)))
    bars = make_bars(0)
    with pytest.raises(BacktestError, match="by our own books"): simulate(make_weights(bars, 0), bars)


def test_leverage_is_borrowed_and_its_limit_is_kept():
    bars = flat_bars([10.0, 10, 12, 12])
    sim = simulate(table(bars, A=[2, 2, 2]), bars, Costs(fee_bps=0, slippage_bps=0, funding_bps=365),
                   cash=100, leverage=2)
    assert list(sim.cash) == pytest.approx([100, -100, -100.01,
                                            -100.020001]) and sim.exposure.iloc[1] == pytest.approx(2)
    assert sim.costs["funding"] == pytest.approx(0.020001) and sim.costs["total"] == sim.costs["funding"]
    with pytest.raises(BacktestError, match="of at most 2 in a row"):
        simulate(table(bars, A=[2.1, 2, 2]), bars, leverage=2)
    assert simulate(table(bars, A=[2, 2, 2]), bars, Costs(fee_bps=100), cash=100,
                    leverage=2).orders["size"].iloc[0] < 20


# --- properties

@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 30), st.floats(0, 30), st.floats(0.1, 30), st.booleans())
def test_more_cost_never_more_profit(seed, fee, slip, more, missing):
    bars = make_bars(seed, rows=30, missing=0.2 if missing else 0.0)
    one = bars[bars.symbol == "S0"]
    weights = make_weights(one, seed)
    end = [simulate(weights, one, bps(*costs)).equity["strategy"].iloc[-1]
           for costs in ((fee, slip), (fee + more, slip), (fee, slip + more))]
    assert max(end[1:]) <= end[0] * (1 + 1e-12)
    # in a panel: for the very same orders
    orders = simulate(make_weights(bars, seed), bars, bps(fee, slip)).orders
    size, reference = orders["size"], orders["reference"]
    paid = [(size * fill + size.abs() * fill * f / 1e4).sum()
            for f, s in ((fee, slip), (fee + more, slip), (fee, slip + more))
            for fill in [reference * (1 + np.sign(size) * s / 1e4)]]
    assert paid[0] == pytest.approx((size * orders["price"] + orders["fee"]).sum())
    assert min(paid[1:]) >= paid[0] - 1e-6


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 35), st.booleans())
def test_the_future_never_changes_the_past(seed, cut, short):
    bars = make_bars(seed, rows=40)
    weights = make_weights(bars, seed, short)
    whole = simulate(weights, bars)
    ts = sorted(bars.ts.unique())[cut]
    other = bars.copy()
    other.loc[other.ts > ts, ["open", "close"]] *= 1.7
    changed = simulate(weights, other)
    short_ = simulate(weights[weights.index < ts], bars[bars.ts <= ts])
    before = whole.equity[whole.equity.ts <= ts]
    pd.testing.assert_frame_equal(changed.equity[changed.equity.ts <= ts], before)
    pd.testing.assert_frame_equal(short_.equity, before)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.25, 3.0, 1e4]), st.sampled_from([0.1, 7.0, 1e3]))
def test_scaling_prices_and_money_scales_money(seed, price, cash):
    bars = make_bars(seed, rows=30, missing=0.1)
    weights = make_weights(bars, seed, short=True)
    a = simulate(weights, bars, cash=1e4)
    b = simulate(weights, bars.assign(open=bars.open * price, close=bars.close * price), cash=1e4 * cash)
    np.testing.assert_allclose(b.equity["strategy"], a.equity["strategy"] * cash, rtol=1e-9)
    np.testing.assert_allclose(b.orders["size"], a.orders["size"] * cash / price, rtol=1e-7)


# --- stated rules

def flat_bars(opens, closes=None, symbol="A", start="2024-01-01"):
    ts = pd.date_range(start, periods=len(opens), freq="D", tz="UTC", unit="us")
    bars = pd.DataFrame(dict(symbol=symbol, timeframe="1d", ts=ts, open=opens, close=closes or opens),
                        dtype=object)
    bars = bars.astype({"symbol": "str", "timeframe": "str", "open": float, "close": float, "ts": ts.dtype})
    return bars[bars.open.notna()].reset_index(drop=True)


def table(bars, **weights):
    ts = pd.DatetimeIndex(sorted(bars.ts.unique()))
    return pd.DataFrame({k: pd.Series(v, index=ts[:len(v)], dtype=float) for k, v in weights.items()})


def test_fills_are_at_the_next_open_and_only_when_the_target_changes():
    bars = flat_bars([10.0, 11, 12, 13, 14], [10.5, 11.5, 12.5, 13.5, 14.5])
    sim = simulate(table(bars, A=[1, 1, 1, 0]), bars, bps(0, 0), cash=110)
    assert list(sim.orders["reference"]) == [11.0, 14.0]
    assert list(sim.orders["size"]) == [10.0, -10.0]
    assert list(sim.equity["strategy"]) == [110, 115, 125, 135, 140]
    assert (sim.orders["decided_at"] < sim.orders["ts"]).all()


def test_missing_bar_inside_a_holding_keeps_position_and_last_price():
    bars = pd.concat([flat_bars([10.0, 10, None, 20, 20, 20]), flat_bars([1.0] * 6, symbol="B")],
                     ignore_index=True)
    sim = simulate(table(bars, A=[.5, 0, 0, 0, 0], B=[0, 0, 0, 0, 0]), bars, bps(0, 0), cash=100)
    assert list(sim.equity["strategy"]) == [100, 100, 100, 150, 150, 150]
    assert list(sim.orders["ts"].dt.day) == [2, 4]


def test_a_symbol_that_ends_is_sold_at_its_last_close_with_costs():
    bars = pd.concat([flat_bars([10.0, 10, 10], [10.0, 10, 12]), flat_bars([1.0] * 6, symbol="B")],
                     ignore_index=True)
    sim = simulate(table(bars, A=[.5] * 5, B=[0] * 5), bars, bps(10, 0), cash=100)
    assert list(sim.orders["reason"]) == ["target", "ended"]
    assert sim.orders["price"].iloc[1] == 12.0 and sim.orders["fee"].iloc[1] == pytest.approx(0.06)
    assert list(sim.trades["status"]) == ["closed"]
    assert sim.units["A"].iloc[-1] == 0 and (sim.equity["strategy"].diff().iloc[4:] == 0).all()


def test_what_is_held_at_the_end_stays_open():
    bars = flat_bars([10.0, 10, 20])
    sim = simulate(table(bars, A=[1, 1]), bars)
    assert list(sim.trades["status"]) == ["open"] and sim.trades["exit_ts"].isna().all()
    assert sim.equity["strategy"].iloc[-1] > 199_000


def test_purchases_share_what_cash_there_is():
    bars = pd.concat([flat_bars([10.0, 10, 40, 40], symbol="A"), flat_bars([1.0] * 4, symbol="B")],
                     ignore_index=True)
    sim = simulate(table(bars, A=[.5, .5, .5], B=[0, .5, .5]), bars, bps(0, 0), cash=100)
    assert sim.orders.iloc[1][["symbol", "size"]].tolist() == ["B", 50.0] # half of 250 is wanted, 50 is there
    assert sim.cash.min() == 0


def test_a_short_that_ruins_the_account_is_an_error():
    bars = flat_bars([10.0, 10, 25, 25])
    with pytest.raises(BacktestError, match="lost more than the account"):
        simulate(table(bars, A=[-1, -1, 0]), bars)


def test_a_single_trade():
    bars = flat_bars([10.0, 10, 20])
    sim = simulate(table(bars, A=[1, 0]), bars, bps(0, 0), cash=100)
    assert len(sim.orders) == 2 and list(sim.trades["pnl"]) == [100.0] and list(sim.trades["bars"]) == [1]
    assert len(simulate(table(bars, A=[1]), bars).orders) == 1


def test_a_weight_of_a_symbol_that_has_ended_buys_nothing():
    bars = pd.concat([flat_bars([10.0, 10]), flat_bars([1.0] * 6, symbol="B")], ignore_index=True)
    sim = simulate(table(bars, A=[0, 0, .5, .5, .5], B=[.5] * 5), bars)
    assert set(sim.orders["symbol"]) == {"B"} and (sim.units["A"] == 0).all()


def test_decisions_that_wait_name_their_bar():
    bars = flat_bars([10.0] * 7)
    sim = simulate(table(bars, A=[1, 1, 0, 0]), bars, Costs(delay=3))
    assert list(sim.orders["ts"].dt.day - sim.orders["decided_at"].dt.day) == [3, 3] and len(sim.equity) == 7
    hold = buy_and_hold(bars, Costs(delay=3), start=sim.equity.ts.iloc[0], end=sim.equity.ts.iloc[-1])
    assert list(equity_frame(sim, hold)["ts"]) == list(bars["ts"])


def test_no_trade_at_all():
    bars = flat_bars([10.0, 11, 12])
    sim = simulate(table(bars, A=[0, 0]), bars)
    assert len(sim.orders) == len(sim.trades) == 0 and sim.turnover == 0
    assert (sim.equity["strategy"] == 100_000).all() and set(sim.costs.values()) == {0.0}
    assert sim.trades["exit_ts"].dtype == sim.equity["ts"].dtype


@pytest.mark.parametrize("change, message", [
    (dict(weights=lambda w: w.iloc[:0]), "at least one row"),
    (dict(weights=lambda w: w * np.nan), "finite"),
    (dict(weights=lambda w: w * np.inf), "finite"),
    (dict(weights=lambda w: w * 1.5), "no leverage"),
    (dict(weights=lambda w: w.iloc[::-1]), "sorted by ts"),
    (dict(weights=lambda w: w.rename(columns={"A": "Z"})), "symbols that have bars"),
    (dict(weights=lambda w: w.set_axis(w.index + pd.Timedelta(hours=1))), "decided at bars that exist"),
    (dict(bars=lambda b: b.assign(open=np.nan)), "price > 0"),
    (dict(bars=lambda b: b.assign(close=-1.0)), "price > 0"),
    (dict(bars=lambda b: b.assign(close=0.0)), "price > 0"),
    (dict(bars=lambda b: b.assign(close=[10, np.nan, 12])), "price > 0"),
    (dict(bars=lambda b: b.iloc[:0]), "at least one bar"),
    (dict(costs=Costs(participation=0.1)), "column `volume`"),
    (dict(stop_loss=0.1), "column `high`"),
    (dict(bars=lambda b: b.drop(columns="open")), "column `open`"),
    (dict(bars=lambda b: pd.concat([b, b])), "unique by symbol and ts"),
    (dict(bars=lambda b: pd.concat([b, b.assign(timeframe="1h")])), "the same for all bars"),
    (dict(weights=lambda w: w.iloc[-1:].set_axis([pd.Timestamp("2024-01-03", tz="UTC")])),
     "after the first decision"),
])
def test_bad_input_is_named(change, message):
    bars = flat_bars([10.0, 11, 12])
    weights = table(bars, A=[1, 0])
    more = {k: v for k, v in change.items() if k not in ("weights", "bars")}
    with pytest.raises(BacktestError, match=message):
        simulate(change.get("weights", lambda w: w)(weights), change.get("bars", lambda b: b)(bars), **more)


@pytest.mark.parametrize("kwargs", [dict(fee_bps=-1), dict(slippage_bps=float("nan")), dict(fee_bps=10_000),
                                    dict(fee_bps="1")])
def test_bad_costs_are_named(kwargs):
    bars = flat_bars([10.0, 11, 12])
    with pytest.raises(ParameterError, match=next(iter(kwargs))):
        simulate(table(bars, A=[1, 0]), bars, Costs(**kwargs))


@pytest.mark.parametrize("cash", [-5, 0, float("inf"), float("nan"), "1", True])
def test_bad_cash_is_named(cash):
    bars = flat_bars([10.0, 11, 12])
    with pytest.raises(ParameterError, match="cash"):
        simulate(table(bars, A=[1, 0]), bars, cash=cash)


@pytest.mark.parametrize("bad", [dict(costs="almgren"), dict(costs={"fees": 1}), dict(stop_loss=-0.1),
                                 dict(leverage=0), dict(trailing_stop=2.0)], ids=str)
def test_unknown_costs_and_impossible_stops_are_named(bad):
    bars = flat_bars([10.0, 11, 12])
    with pytest.raises(ParameterError, match="cost" if "costs" in bad else next(iter(bad))):
        simulate(table(bars, A=[1, 0]), bars, **bad)


def test_unknown_calendar():
    bars = flat_bars([10.0, 11, 12])
    with pytest.raises(DataError, match="XNYS"):
        simulate(table(bars, A=[1, 0]), bars, calendar="XNYSE")


# --- the benchmark and days

def test_holding_resplits_when_a_symbol_is_listed_and_not_otherwise():
    bars = pd.concat([flat_bars([10.0] * 6), flat_bars([5.0] * 3, symbol="B", start="2024-01-04")],
                     ignore_index=True)
    sim = buy_and_hold(bars, bps(0, 0), cash=100)
    assert sim.orders[["symbol", "size"]].values.tolist() == [["A", 10.0], ["A", -5.0], ["B", 10.0]]
    assert list(sim.orders["ts"].dt.day) == [2, 5, 5]


def test_benchmark_covers_the_strategys_days():
    bars = make_bars(3, rows=50, missing=0.1)
    clock = sorted(bars.ts.unique())
    p = bars[(bars.ts >= clock[10]) & (bars.ts < clock[40])][["symbol", "ts"]].assign(probability=0.6)
    sim = backtest(p, bars, TradingRule())
    hold = buy_and_hold(bars, start=sim.equity.ts.iloc[0], end=sim.equity.ts.iloc[-1])
    both = equity_frame(sim, hold)
    assert list(both.columns) == ["ts", "strategy", "benchmark"] and len(both) == 32
    assert (both.iloc[0, 1:] == 100_000).all()


def test_always_up_is_holding():
    bars = make_bars(5, rows=40)
    p = bars[bars.ts < bars.ts.max()][["symbol", "ts"]].assign(probability=0.9)
    a = backtest(p[p.ts < sorted(bars.ts.unique())[-2]], bars, TradingRule())
    b = buy_and_hold(bars)
    np.testing.assert_allclose(a.equity["strategy"][:-1], b.equity["strategy"][:-1], rtol=1e-12)


def test_days_and_sessions():
    ts = pd.date_range("2024-01-02 14:30", periods=3, freq="h", tz="UTC", unit="us").append(
        pd.DatetimeIndex(["2024-01-03 14:30", "2024-01-05 20:30"], tz="UTC").as_unit("us"))
    r = daily_returns(pd.Series([100., 101, 102, 51, 51], index=ts), "XNYS")
    assert list(r.index.day) == [2, 3, 4, 5] and np.allclose(r, [0.02, -0.5, 0.0, 0.0])
    assert str(r.index.dtype) == "datetime64[us, UTC]" and r.index.name == "date" and r.name == "value"
    future = pd.DatetimeIndex(["2024-01-02 20:00", "2024-01-02 23:30", "2024-01-03 21:00"],
                              tz="UTC").as_unit("us")
    # from 23:00 the next day's
    assert list(daily_returns(pd.Series([100., 110, 121], index=future), "CMES").index.day) == [3]
    with pytest.raises(BacktestError, match="at least two rows"):
        daily_returns(pd.Series([1.0], index=ts[:1]))


@pytest.mark.parametrize("calendar", ["XNYS", "XASX", "XNZE", "CMES", "XTKS", "24/7"])
def test_each_daily_bar_is_a_day_of_its_own(calendar):
    # some sessions open on the day before in UTC
    bars = expected_bars(calendar, "1d", "2024-01-03", "2024-02-14")
    r = daily_returns(pd.Series(1.01 ** np.arange(len(bars)), index=pd.DatetimeIndex(bars.ts)), calendar)
    assert list(r.index.tz_localize(None)) == list(bars.session[1:]) and np.allclose(r, 0.01)


def test_a_year_is_a_year_whatever_the_bars():
    sessions = expected_bars("XNYS", "1d", "2003-01-02", "2012-12-31")
    money = 100 * np.exp(np.random.default_rng(1).normal(3e-4, 0.01, len(sessions)).cumsum())
    weekly = sessions.session.dt.to_period("W").ne(sessions.session.dt.to_period("W").shift(-1)).to_numpy()
    daily = key_ratios(money, sessions.ts, "XNYS", 252)
    assert daily == pytest.approx(key_ratios(money[weekly], sessions.ts[weekly], "XNYS", 252), abs=0.02)
    dated = sessions.session.dt.tz_localize("UTC")  # daily bars of a stock, read as if it traded at weekends
    assert daily == pytest.approx(key_ratios(money, dated, "24/7", 365), abs=0.002)


def key_ratios(money, ts, calendar, year):
    figures = return_figures(daily_returns(pd.Series(money, index=pd.DatetimeIndex(ts)), calendar), year)
    return [figures[name] for name in ("cagr", "volatility", "sharpe")]


def test_the_same_twice_to_the_last_bit():
    bars = make_bars(6, missing=0.1)
    weights = make_weights(bars, 6, short=True)
    a, b = simulate(weights, bars), simulate(weights, bars.sample(frac=1, random_state=1))
    for name in ("equity", "positions", "units", "orders", "trades"):
        pd.testing.assert_frame_equal(getattr(a, name), getattr(b, name), check_exact=True)


def test_real_minutes_agree_with_an_independent_simulation():
    path = REAL / "nautilus" / "btc-perp-20211231-20220201_1m.csv"
    if not path.exists(): pytest.skip(f"{path.parent.name} bars are not there")
    raw = pd.read_csv(path)
    ts = pd.to_datetime(raw[raw.columns[0]], utc=True).astype("datetime64[us, UTC]")
    bars = pd.DataFrame(dict(symbol="BTCUSDT", timeframe="1m", ts=ts, open=raw["open"], close=raw["close"]))
    rng = np.random.default_rng(0)
    p = bars[["symbol", "ts"]].assign(probability=rng.random(len(bars)).round(3)).iloc[1000:-10]
    sim = backtest(p, bars, TradingRule(), bps(0.1, 0.1))
    assert len(sim.orders) > 10_000
    some = bars.iloc[:4500]
    expected, _ = event_driven(positions_from_predictions(p, bars).iloc[:3000], some, 1e-5, 1e-5, 1e5)
    np.testing.assert_allclose(sim.equity["strategy"].iloc[:3000], expected.iloc[:3000], rtol=1e-9)
    assert len(sim.returns) == 32 and hold_equally(bars).to_numpy().min() == 1.0


def test_a_simulation_can_be_pickled_and_copied():
    import copy
    import pickle
    bars = make_bars(2)
    sim = simulate(make_weights(bars, 2), bars)
    assert len(sim.trades)
    for other in (pickle.loads(pickle.dumps(sim)), copy.deepcopy(sim)):
        pd.testing.assert_frame_equal(other.trades, sim.trades)
        assert dict(other.costs) == dict(sim.costs)
        with pytest.raises(TypeError): other.costs["fees"] = 0.0


def test_a_symbol_has_one_column_of_weights():
    bars = make_bars(2)
    with pytest.raises(BacktestError, match="one column a symbol"):
        simulate(make_weights(bars, 2).set_axis(["S0", "S0", "S1"], axis=1), bars)


def test_the_rule_of_a_backtest_has_its_threshold():
    bars = make_bars(2)
    told = bars[["symbol", "ts"]].iloc[:-2].assign(probability=0.6)
    assert backtest(told, bars, TradingRule()).rule.threshold == 0.5


@pytest.mark.parametrize("seed", [11, 13])
def test_rounding_of_a_spent_account_is_no_rejected_order(seed):
    """All cash is in the market and shared anew at gaps: vectorbt had less than nothing for a last order."""
    rng, frames = np.random.default_rng(seed), []
    ts = pd.date_range("2024-01-01", periods=300, freq="min", tz="UTC", unit="us")
    for s in "ABCDE":
        close = np.round(100 * np.exp(np.cumsum(rng.normal(0, 1e-3, 300))), 2)
        kept = np.ones(300, bool)
        for _ in range(20):
            at = int(rng.integers(5, 290))
            kept[at:at + 2] = False
        frames.append(pd.DataFrame(dict(symbol=s, timeframe="1m", ts=ts, open=np.r_[100, close[:-1]],
                                        close=close))[kept])
    sim = buy_and_hold(pd.concat(frames, ignore_index=True), bps(1, 2))
    assert len(sim.orders) >= 5 and 0.9e5 < sim.equity["strategy"].iloc[-1] < 1.1e5


@pytest.mark.parametrize("seed", range(4))
def test_days_by_lookup_are_the_days_bar_by_bar(seed):
    """Days without bars, a first day of one bar, a record of two rows."""
    rng = np.random.default_rng(seed)
    clock = pd.date_range("2024-01-01 23:00", periods=200, freq="h", tz="UTC", unit="us")
    at = np.append(0, np.sort(rng.choice(np.arange(1, 200), [1, 5, 40, 150][seed], replace=False)))
    money = pd.Series(100 * np.exp(rng.normal(0, 0.01, len(at)).cumsum()), index=clock[at])
    last = money.groupby(money.index.floor("D")).last().resample("D").last().ffill()
    expected = last / last.shift(1, fill_value=money.iloc[0]) - 1
    found = daily_returns(money)
    np.testing.assert_array_equal(found, expected[-len(found):])
    assert len(expected) - len(found) == 1  # the first bar alone is no return
