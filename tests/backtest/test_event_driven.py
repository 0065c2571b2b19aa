"""The rules of trading once more, from events, dictionaries and plain Python: every cost, every stop, every
end."""

from math import ceil, copysign, floor, isnan, sqrt
from statistics import stdev
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfin.backtest.costs import Costs
from mlfin.backtest.simulate import simulate
from mlfin.core.errors import BacktestError

from ..fixtures import any_market

market, targets = any_market.market, any_market.targets
costs_of_any_kind, stops_of_any_kind = any_market.costs_of_any_kind, any_market.stops_of_any_kind

STOPS = ("stop_loss", "take_profit", "trailing_stop")
YEAR = pd.Timedelta(days=365)


def volatility(bars):
    """ts -> the standard deviation of the last 21 returns up to each symbol's last close."""
    known, last, returns = {}, {}, {symbol: [] for symbol in bars.symbol.unique()}
    for bar in bars.sort_values("ts").itertuples():
        if bar.symbol in last: returns[bar.symbol].append(bar.close / last[bar.symbol] - 1)
        last[bar.symbol] = bar.close
        known[bar.ts] = {s: stdev(r[-21:]) if len(r) >= 2 else 0.0 for s, r in returns.items()}
    return known


class Account:
    """One account, one event after the other."""

    def __init__(self, weights, bars, costs, cash, leverage=1.0, stop_loss=0.0, take_profit=0.0,
                 trailing_stop=0.0, actions=()):
        self.c, self.cash, self.leverage, self.stops = costs, cash, leverage, (stop_loss, take_profit,
                                                                               trailing_stop)
        self.weights, self.known, self.actions, self.events = (
            weights,
            volatility(bars) if costs.slippage_vol or costs.impact else {},
            actions,
            {},
        )
        for bar in bars.itertuples(): self.events.setdefault(bar.ts, {})[bar.symbol] = bar
        self.final, self.fills, self.curve, self.late = bars.groupby("symbol").ts.max(), [], [], set()
        self.p = {s: SimpleNamespace(units=0.0, entry=0.0, best=0.0, since=None, last=None, goal=0.0,
                                     seen=0.0, due=False, why="", used=0.0)
                  for s in weights}

    def run(self):
        clock = sorted(self.events)
        for ts in clock[:clock.index(self.weights.index[0]) + 1]:
            for s, bar in self.events[ts].items(): self.p[s].last = bar.close
        begin, end = clock.index(self.weights.index[0]), clock.index(self.weights.index[-1]) + self.c.delay
        self.curve = [self.cash]
        for i in range(begin + 1, min(end, len(clock) - 1) + 1):
            self.now, self.bar, self.passed = clock[i], self.events[clock[i]], clock[i] - clock[i - 1]
            self.informed = clock[i - self.c.delay] if i - self.c.delay >= begin else None
            self.before = next((t for t in reversed(clock[:i - self.c.delay + 1])), None)
            for p in self.p.values(): p.used = 0.0
            self.hold()
            if self.c.fill != "open": self.stop()
            self.order()
            if self.c.fill == "open": self.stop()
            self.close()
        return self

    def price(self, s, q, ref):
        """What a fill of q pieces gets, and its fee."""
        c, bar, rate = self.c, self.bar.get(s), self.c.slippage_bps / 1e4
        if c.slippage_vol: rate += c.slippage_vol * self.known[self.before][s]
        half = ref * c.spread_bps / 2e4
        if c.use_spread and bar and not isnan(bar.spread): half = bar.spread / 2
        if c.impact and bar: rate += c.impact * self.known[self.before][s] * sqrt(abs(q) / bar.volume)
        price = max(ref + copysign(half + ref * rate, q), 0.0)
        return price, min(max(abs(q) * (price * c.fee_bps / 1e4 + c.fee_per_share), c.fee_min),
                          abs(q) * price)

    def bill(self, buys):
        return sum(q * price + fee for s, (q, ref) in buys.items() if q
                   for price, fee in [self.price(s, q, ref)])

    def fill(self, s, q, ref):
        if not q: return
        p, (price, fee) = self.p[s], self.price(s, q, ref)
        after = 0.0 if q == -p.units else p.units + q
        if p.units * after <= 0: p.entry, p.best, p.since = price, price, self.now
        elif abs(after) > abs(p.units): p.entry = (p.entry * abs(p.units) + price * abs(q)) / abs(after)
        p.units, p.used, self.cash = after, p.used + abs(q), self.cash - q * price - fee
        self.fills.append((self.now, s, q, price, fee, p.why))

    def execute(self, changes, credit):
        """Sales, then what can be paid: covers first, the rest by one factor."""
        for s, (q, ref) in changes.items():
            if q < 0: self.fill(s, q, ref)
        buys = {s: x for s, x in changes.items() if x[0] > 0}
        cover = {s: min(q, max(-self.p[s].units, 0.0)) for s, (q, _) in buys.items()}
        def part(a, b): return {s: (cover[s] * a + (q - cover[s]) * b, ref) for s, (q, ref) in buys.items()}
        def most(of):
            low, high = 0.0, 1.0
            for _ in range(80):
                low, high = ((low + high) / 2,
                             high) if self.bill(of((low + high)
                                                   / 2)) <= self.cash + credit else (low, (low + high) / 2)
            return low
        if self.bill(part(1, 1)) > self.cash + credit:
            if any(self.p[s].units > 0 for s in self.late):
                for s in buys: self.p[s].due = True
            covers_all = self.bill(part(1, 0)) <= self.cash + credit
            buys = part(1, most(lambda x: part(1, x))) if covers_all else part(most(lambda x: part(x, 0)), 0)
            if self.c.lot:
                buys = {s: (max(floor((self.p[s].units + q) / self.c.lot + 1e-9) * self.c.lot
                                - self.p[s].units, 0), ref) for s, (q, ref) in buys.items()}
        for s, (q, ref) in buys.items(): self.fill(s, q, ref)

    def allowed(self, s, q):
        """The part of an order that the bar's volume allows."""
        bar, held, lot = self.bar.get(s), self.p[s].units, self.c.lot
        if not bar or not (self.c.participation or self.c.impact): return q
        if not bar.volume > 0: return 0.0
        left = max((self.c.participation or np.inf) * bar.volume - self.p[s].used, 0.0)
        if abs(q) <= left: return q
        if not lot: return copysign(left, q)
        return max(floor((held + left) / lot + 1e-9) * lot - held,
                   0) if q > 0 else min(ceil((held - left) / lot - 1e-9) * lot - held, 0)

    def hold(self):
        years = self.passed / YEAR
        short = sum(-p.units * p.last for p in self.p.values() if p.units < 0)
        flow = -short * self.c.borrow_bps / 1e4 * years + min(self.cash, 0) * self.c.funding_bps / 1e4 * years
        for s, bar in self.bar.items():
            p, mine = self.p[s], [a for a in self.actions if a[0] == s and a[1] == self.now]
            if "funding" in bar._fields and not isnan(bar.funding) and p.units:
                flow -= p.units * p.last * bar.funding
            for _, _, kind, value in sorted(mine, key=lambda a: a[2] == "dividend"):
                if kind == "split":
                    p.units, p.last, p.entry, p.best = (
                        p.units * value,
                        p.last / value,
                        p.entry / value,
                        p.best / value,
                    )
                else: flow += p.units * value
        self.cash += flow

    def order(self):
        ref = {s: {"open": b.open, "close": b.close, "vwap": b.open if isnan(b.vwap) else b.vwap}[self.c.fill]
               for s, b in self.bar.items()}
        wanted = (
            self.weights.loc[: self.informed].iloc[-1]
            if self.informed is not None
            else dict.fromkeys(self.p, 0.0)
        )
        for s, p in self.p.items():
            if self.now > self.final[s]:
                if p.why != "ended":
                    p.due, p.goal, p.why, p.last = (
                        True,
                        0.0,
                        "ended",
                        p.last and p.last * (1 + self.c.delisting_return),
                    )
            elif s in self.bar and wanted[s] != p.seen:
                if not (p.why in STOPS and wanted[s] * p.seen > 0):
                    p.goal, p.due, p.why = wanted[s], True, "target"
                p.seen = wanted[s]
            ref.setdefault(s, p.last)
        worth, changes = self.cash + sum(p.units * ref[s] for s, p in self.p.items() if p.units), {}
        for s, p in self.p.items():
            if not p.due or not (s in self.bar or p.why == "ended"): continue
            aim = p.goal * worth / ref[s] if p.goal else 0.0
            if self.c.lot: aim = copysign(floor(abs(aim) / self.c.lot + 1e-9) * self.c.lot, aim)
            q = (
                aim - p.units
                if abs(aim - p.units) * ref[s] > 1e-9 * worth or (p.units and not p.goal)
                else 0.0
                if p.goal or not p.units
                else -p.units
            )
            changes[s] = (self.allowed(s, q), ref[s]) if q else (0.0, ref[s])
            p.due = changes[s][0] != q
        self.late = {
            s
            for s, p in self.p.items()
            if p.units > 0
            and not self.now > self.final[s]  # sales whose money is yet to come
            and (
                (s in changes and p.due and changes[s][0] <= 0)
                if s in self.bar
                else p.due or wanted[s] < p.seen
            )
        }
        self.execute(changes, (self.leverage - 1) * worth)
        for p in self.p.values(): p.due = p.due or bool(p.units and not p.goal)

    def stop(self):
        changes = {}
        for s, bar in self.bar.items():
            p, (loss, gain, trail) = self.p[s], self.stops
            if not p.units or not any(self.stops): continue
            up = 1 if p.units > 0 else -1
            bad, good = (bar.low, bar.high) if up > 0 else (bar.high, bar.low)
            p.best = max(p.best, bar.open) if up > 0 else min(p.best, bar.open)
            levels = [(up * p.entry * (1 - up * loss),
                       "stop_loss")] * bool(loss) + [(up * p.best * (1 - up * trail),
                                                      "trailing_stop")] * bool(trail)
            stop, why = max(levels, key=lambda x: x[0], default=(-np.inf, ""))
            goal = up * p.entry * (1 + up * gain) if gain else np.inf
            if up * bar.open <= stop: at = bar.open
            elif up * bar.open >= goal: at, why = bar.open, "take_profit"
            elif up * bad <= stop: at = up * stop
            elif up * good >= goal: at, why = up * goal, "take_profit"
            else: continue
            p.goal, p.why, p.due = 0.0, why, True
            changes[s] = (self.allowed(s, -p.units), at)
        self.late = set()
        self.execute(changes, (self.leverage - 1) * self.curve[-1])
        for s in changes: self.p[s].due = self.p[s].units != 0

    def close(self):
        for s, bar in self.bar.items():
            p = self.p[s]
            p.last = bar.close
            if p.units and (self.c.fill == "open" or p.since != self.now):
                p.best = max(p.best, bar.high) if p.units > 0 else min(p.best, bar.low)
        self.curve.append(self.cash + sum(p.units * p.last for p in self.p.values() if p.units))


def agree(weights, bars, costs, cash=10_000.0, actions=None, **more):
    """Both simulations, compared order by order and close by close; None where the account was ruined in
    both."""
    rows = [] if actions is None else list(actions[["symbol", "ex_date", "kind",
                                                    "value"]].itertuples(index=False, name=None))
    expected = Account(weights, bars, costs, cash, actions=rows,
                       **{k: v or 0.0 for k, v in more.items()}).run()
    try: sim = simulate(weights, bars, costs, cash=cash, actions=actions, **more)
    except BacktestError as e:
        assert "lost more than the account" in str(e) and min(expected.curve) < 0.2 * cash
        return None
    np.testing.assert_allclose(sim.equity["strategy"], expected.curve, rtol=1e-9)
    dust = 1e-9 * cash
    theirs = [f for f in expected.fills if abs(f[2] * f[3]) > dust]
    ours = sim.orders[(sim.orders["size"] * sim.orders["price"]).abs() > dust]
    assert list(zip(ours["ts"], ours["symbol"], ours["reason"],
                    strict=True)) == [(f[0], f[1], f[5]) for f in theirs]
    np.testing.assert_allclose(ours["size"], [f[2] for f in theirs], rtol=1e-7)
    np.testing.assert_allclose(ours["price"], [f[3] for f in theirs], rtol=1e-9)
    np.testing.assert_allclose(ours["fee"], [f[4] for f in theirs], rtol=1e-7, atol=1e-9)
    return sim


FREE = dict(fee_bps=0.0, slippage_bps=0.0)
ONE_COST = [dict(fill="vwap"), dict(fill="close"), dict(delay=3), dict(fee_bps=30.0),
            dict(fee_per_share=0.05), dict(fee_min=5.0),
            dict(use_spread=True), dict(use_spread=True, spread_bps=40.0), dict(spread_bps=40.0),
            dict(slippage_bps=30.0),
            dict(slippage_vol=0.2), dict(impact=0.5), dict(borrow_bps=500.0), dict(funding_bps=500.0),
            dict(lot=7.0),
            dict(participation=0.02), dict(participation=0.02, lot=3.0), dict(delisting_return=-0.4),
            dict(delisting_return=-1.0),
            dict(fee_min=5.0, lot=7.0, impact=0.3)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cost", ONE_COST, ids=str)
def test_every_cost_alone(cost, seed):
    bars = market(seed)
    agree(targets(bars, seed), bars, Costs(**(FREE | cost)))


@pytest.mark.parametrize("fill", ["open", "vwap", "close"])
@pytest.mark.parametrize("stops", [dict(stop_loss=0.05), dict(take_profit=0.05), dict(trailing_stop=0.06),
                                   dict(stop_loss=0.05, take_profit=0.05),
                                   dict(stop_loss=0.04, take_profit=0.08, trailing_stop=0.05)], ids=str)
def test_every_stop(stops, fill):
    reasons = set()
    for seed in range(4):
        bars = market(seed, rows=40)
        for costs in (Costs(fill=fill, **FREE), Costs(fill=fill, fee_bps=20.0, slippage_bps=30.0,
                                                      participation=0.03)):
            sim = agree(targets(bars, seed), bars, costs, **stops)
            reasons |= set(sim.orders["reason"])
    assert set(stops) <= reasons


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), costs_of_any_kind, stops_of_any_kind, st.sampled_from([1.0, 1.0, 2.0]),
       st.booleans(), st.integers(1, 3))
def test_any_mixture(seed, costs, stops, leverage, short, symbols):
    bars = market(seed, symbols=symbols)
    sim = agree(targets(bars, seed, gross=leverage, short=short), bars, Costs(**costs), leverage=leverage,
                **stops)
    if sim is not None:
        assert sim.costs["total"] == pytest.approx(sum(v for k, v in sim.costs.items() if k != "total"))
        assert not len(sim.orders) or (sim.orders["decided_at"] < sim.orders["ts"]).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 100_000), st.booleans(), st.sampled_from([None, 0.05]))
def test_splits_and_dividends(seed, short, stop):
    bars = market(seed, missing=0.0)
    rng = np.random.default_rng(seed)
    own = bars[bars.symbol == "S0"].ts.to_list()
    when = rng.choice(np.arange(4, 25), 3, replace=False)
    rows = [("S0", own[when[0]], "split", 2.0), ("S0", own[when[1]], "dividend", 0.7),
            ("S0", own[when[2]], "split", 0.25),
            ("S0", own[when[2]], "dividend", 1.5)]
    for _, ex_date, kind, value in rows:  # raw prices show the split
        if kind == "split":
            after = (bars.symbol == "S0") & (bars.ts >= ex_date)
            bars.loc[after, ["open", "high", "low", "close", "vwap", "spread"]] /= value
    actions = pd.DataFrame(rows, columns=["symbol", "ex_date", "kind", "value"])
    agree(targets(bars, seed, short=short), bars, Costs(), actions=actions, stop_loss=stop)


def two_symbols(volume, seed=0, rows=60):
    """Daily bars of A and B without gaps; volume by symbol."""
    rng = np.random.default_rng(seed)
    ts = pd.date_range("2024-01-01", periods=rows, freq="D", tz="UTC", unit="us")
    frames = []
    for name in "AB":
        close = 100 * np.exp(rng.normal(0, 0.01, rows).cumsum())
        opens = np.append(100, close[:-1])
        frames.append(pd.DataFrame(dict(symbol=name, timeframe="1d", ts=ts, open=opens,
                                        high=np.maximum(opens, close), low=np.minimum(opens, close),
                                        close=close, vwap=opens, volume=volume[name], spread=0.0)))
    return pd.concat(frames, ignore_index=True), ts


def switch(ts, at=20):
    weights = pd.DataFrame(0.0, index=ts[:-5], columns=["A", "B"])
    weights.iloc[:at, 0], weights.iloc[at:, 1] = 1.0, 1.0
    return weights


def test_a_purchase_waits_for_the_money_of_a_sale_that_takes_days():
    bars, ts = two_symbols({"A": 100.0, "B": 1e6})
    sim = agree(switch(ts), bars, Costs(participation=1.0, **FREE), cash=100_000.0)
    share = sim.positions.loc[ts[45]]
    assert share["A"] == 0 and share["B"] > 0.99


def test_a_purchase_waits_for_a_sale_that_has_no_bar():
    bars, ts = two_symbols({"A": 1e6, "B": 1e6})
    sim = agree(switch(ts), bars[(bars.symbol == "B") | (bars.ts != ts[20])], Costs(**FREE), cash=100_000.0)
    assert sim.positions.loc[ts[22], "B"] > 0.99


def test_another_size_alone_does_not_undo_a_stop():
    bars, ts = two_symbols({"A": 1e6, "B": 1e6})
    flat = pd.DataFrame({"A": 0.5, "B": 0.0}, index=ts[:-5])
    wiggly = flat.assign(A=0.5 + 0.01 * np.sin(np.arange(len(flat))))
    once, often = (agree(w, bars, Costs(**FREE), stop_loss=0.01).orders for w in (flat, wiggly))
    assert (often["reason"] == "stop_loss").sum() == (once["reason"] == "stop_loss").sum() == 1
    stopped = often.loc[often["reason"] == "stop_loss", "ts"].iloc[0]
    assert not (often["ts"] > stopped).any()
    wiggly.loc[wiggly.index > stopped + pd.Timedelta(days=3), "A"] = -0.3  # the other side is a decision
    again = agree(wiggly, bars, Costs(**FREE), stop_loss=0.01).orders
    assert (again["ts"] > stopped).any()
