"""The kernels: properties of any walk, and each stated rule by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfin.backtest.costs import Costs
from mlfin.backtest.fills import _is_plain, Account, LOG, REASONS, simulate_fills, TOTALS, trade
from mlfin.backtest.fill_prices import make_terms
from mlfin.backtest.market_panel import cut_market, needs, MarketPanel, read_market
from mlfin.core.errors import BacktestError, ParameterError
from mlfin.core.kernels import read_only

from ..fixtures import any_market

market, targets = any_market.market, any_market.targets
costs_of_any_kind, stops_of_any_kind = any_market.costs_of_any_kind, any_market.stops_of_any_kind

FREE = dict(fee_bps=0.0, slippage_bps=0.0)
COSTLESS = Costs(**FREE)
EVERYTHING = ("open", "close", "high", "low", "vwap", "volume", "spread", "volatility", "years")


def play(weights, bars, costs, cash=10_000.0, leverage=1.0, **stops):
    """(books, orders as a frame, market) of weights from the first row on."""
    whole = read_market(bars, tuple(dict.fromkeys((*needs(costs, any(v is not None for v in stops.values())),
                                                   "years"))))
    first, last = whole.clock.get_indexer(weights.index[[0, -1]])
    window = cut_market(whole, first, last + 1 + costs.delay)
    decided = weights.reindex(index=window.clock, columns=window.symbols).ffill().fillna(0.0).to_numpy(float)
    books, log = trade(decided, window, make_terms(costs, leverage, **stops), cash)
    return books, pd.DataFrame(log, columns=LOG), window


# --- properties

def without(bars, *columns):
    return bars.drop(columns=list(columns))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), costs_of_any_kind, stops_of_any_kind, st.integers(1, 3))
def test_cash_is_never_negative_without_leverage(seed, costs, stops, symbols):
    """Of longs whatever they cost; shorts and flows can overdraw an account, see the rules."""
    bars = without(market(seed, symbols=symbols), "funding")
    books, orders, _ = play(targets(bars, seed, short=False), bars, Costs(**costs), **stops)
    assert (books.money >= 0).all() and (books.units >= -1e-12).all() and (books.equity > 0).all()
    assert (orders[["fee", "spread", "slippage", "impact"]] >= 0).all(axis=None)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), costs_of_any_kind, stops_of_any_kind, st.sampled_from([1.0, 2.0]))
def test_the_parts_of_a_price_and_the_totals_add_up(seed, costs, stops, leverage):
    bars = market(seed, vol=0.03)
    books, orders, _ = play(targets(bars, seed, leverage), bars, Costs(**costs), leverage=leverage, **stops)
    worse = orders["size"] * (orders["price"] - orders["reference"])
    np.testing.assert_allclose(worse, orders["spread"] + orders["slippage"] + orders["impact"], rtol=1e-9,
                               atol=1e-9)
    totals, flows = dict(zip(TOTALS, books.totals, strict=True)), books.flows.sum(axis=0)
    assert [totals["borrow"], totals["funding"],
            totals["dividends"]] == pytest.approx([-flows[0], -flows[1], flows[2]])
    for name, column in (("fees", "fee"), ("spread", "spread"), ("slippage", "slippage"),
                         ("impact", "impact")):
        assert totals[name] == pytest.approx(orders[column].sum())
    assert totals["traded"] == pytest.approx((orders["size"].abs()
                                              * orders["price"]).sum()) and totals["orders"] == len(orders)
    ends = 10_000.0 - (orders["size"] * orders["price"] + orders["fee"]).sum() + flows.sum()
    assert books.money[-1] == pytest.approx(ends, abs=1e-6)


DEARER = [dict(fee_bps=60.0), dict(fee_per_share=0.1), dict(fee_min=40.0), dict(spread_bps=80.0),
          dict(slippage_bps=60.0),
          dict(slippage_vol=0.5), dict(impact=0.3), dict(borrow_bps=4000.0)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from(DEARER), st.booleans(), st.integers(3, 12))
def test_more_cost_never_more_profit(seed, dearer, short, rows):
    """Of the same orders: a third of the account goes in and out once, so that the size does not depend on
    the costs."""
    bars = without(market(seed, symbols=1, missing=0.0), "funding")
    bars["volume"] = bars["volume"].clip(lower=200.0)
    weights = pd.DataFrame({"S0": [-0.3 if short else 0.3] * rows + [0.0]},
                           index=pd.DatetimeIndex(bars.ts[4:5 + rows]))
    base = Costs(spread_bps=4.0, impact=0.05, slippage_vol=0.01, fee_min=0.5)
    cheap, dear = (play(weights, bars, c)[0] for c in (base, replace(base, **dearer)))
    np.testing.assert_allclose(cheap.units, dear.units, rtol=1e-12)
    assert (
        dear.equity[-1] < cheap.equity[-1]
        or "borrow_bps" in dearer
        and not short
        and dear.equity[-1] == cheap.equity[-1]
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), costs_of_any_kind, stops_of_any_kind, st.integers(8, 22))
def test_the_future_never_changes_the_past(seed, costs, stops, cut):
    bars = market(seed)
    clock = sorted(bars.ts.unique())
    final = bars.groupby("symbol").ts.max()
    bars = bars[bars.symbol.map(final) > clock[cut]] # that a symbol ends is known when its bars stop
    weights, costs = targets(bars, seed), Costs(**costs)
    books, orders, window = play(weights, bars, costs, **stops)
    other = bars.copy()
    other.loc[other.ts > clock[cut], ["open", "high", "low", "close", "vwap", "volume", "spread"]] *= 1.3
    changed, others, _ = play(weights, other, costs, **stops)
    rows = int((window.clock <= clock[cut]).sum())
    np.testing.assert_array_equal(changed.equity[:rows], books.equity[:rows])
    np.testing.assert_array_equal(changed.units[:rows], books.units[:rows])
    pd.testing.assert_frame_equal(others[others["row"] < rows], orders[orders["row"] < rows])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), costs_of_any_kind, stops_of_any_kind, st.sampled_from([0.25, 8.0, 1024.0]))
def test_scaling_prices_and_money_scales_money(seed, costs, stops, factor):
    bars, costs = market(seed), Costs(**costs)
    weights = targets(bars, seed)
    prices = ["open", "high", "low", "close", "vwap", "spread"]
    scaled = replace(costs, fee_per_share=costs.fee_per_share * factor, fee_min=costs.fee_min * factor)
    a, _, _ = play(weights, bars, costs, **stops)
    b, _, _ = play(weights, bars.assign(**{c: bars[c] * factor for c in prices}), scaled,
                   cash=10_000.0 * factor, **stops)
    np.testing.assert_allclose(b.equity, a.equity * factor, rtol=1e-10)
    np.testing.assert_allclose(b.units, a.units, rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), costs_of_any_kind, stops_of_any_kind)
def test_books_without_orders_are_the_same(seed, costs, stops):
    """What a sweep asks for: the account only."""
    bars, costs = market(seed), Costs(**costs)
    weights = targets(bars, seed)
    full, orders, window = play(weights, bars, costs, **stops)
    rows, symbols = full.units.shape
    small = Account(np.empty(rows), np.empty(0), np.empty((0, symbols)), np.empty((0, 3)),
                    np.empty(len(TOTALS)))
    decided = np.require(weights.reindex(index=window.clock,
                                         columns=window.symbols).ffill().fillna(0.0).to_numpy(float), None,
                         ["C", "W"])
    log, ruined = simulate_fills(decided, window.panel, make_terms(costs, 1.0, **stops), 10_000.0, small,
                                 np.empty((0, len(LOG))))
    np.testing.assert_array_equal(small.equity, full.equity)
    np.testing.assert_array_equal(small.totals, full.totals)
    assert len(log) == 0 and ruined == -1 and small.totals[-1] == len(orders)


proportional_costs = st.fixed_dictionaries({
    "fill": st.sampled_from(["open", "vwap", "close"]), "delay": st.integers(1, 3),
    "fee_bps": st.sampled_from([0.0, 10.0, 900.0]),
    "use_spread": st.booleans(), "spread_bps": st.sampled_from([0.0, 20.0, 9_000.0]),
    "slippage_bps": st.sampled_from([0.0, 5.0]),
    "slippage_vol": st.sampled_from([0.0, 0.1])})


def books_of(rows, kept):
    """Empty books of one symbol that keep the account only, or the units as well."""
    return Account(np.empty(rows), np.empty(0), np.empty((rows if kept else 0, 1)), np.empty((0, 3)),
                   np.full(len(TOTALS), np.nan))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 100_000), proportional_costs, st.sampled_from([0.02, 0.3]),
       st.sampled_from([1.0, 1.5, 4.0]), st.booleans(), st.integers(0, 1))
def test_the_walk_of_one_symbol_is_the_general_one_to_the_last_bit(seed, costs, vol, leverage, short, which):
    """Whatever happens to it: missing bars, cash that does not suffice, covers that cannot be paid, ruin."""
    bars, costs = without(market(seed, vol=vol, missing=0.2), "funding"), Costs(**costs)
    weights = targets(bars, seed, leverage, short)
    whole = read_market(bars, needs(costs))
    first, last = whole.clock.get_indexer(weights.index[[0, -1]])
    panel = cut_market(whole, first, last + 1 + costs.delay).panel
    panel = MarketPanel(*(read_only(x[:, [which]]) if x.ndim == 2 else x for x in panel))
    gone, payout = np.array([len(panel.open)]), panel.payout[:1]
    gone.flags.writeable = False
    panel, terms, none = panel._replace(gone=gone,
                                        payout=payout), make_terms(costs, leverage), np.empty((0, len(LOG)))
    decided = np.ascontiguousarray(weights.to_numpy(float)[:, [which]])
    decided = np.concatenate([decided, np.repeat(decided[-1:], len(panel.open) - len(decided), axis=0)])
    slow, quick = books_of(len(decided), True), books_of(len(decided), False)
    assert _is_plain(panel, terms, 10_000.0, quick,
                     none) and not _is_plain(panel, terms, 10_000.0, slow, none)
    ruined = simulate_fills(decided, panel, terms, 10_000.0, slow, none)[1]
    assert simulate_fills(decided, panel, terms, 10_000.0, quick, none)[1] == ruined
    end = ruined + 1 or len(decided)
    np.testing.assert_array_equal(quick.equity[:end], slow.equity[:end])
    np.testing.assert_array_equal(quick.totals, slow.totals)


def test_what_rounding_leaves_of_a_cover_stays_due_in_both_walks():
    """All the cash goes into a cover, and 1e-16 units are left: they are bought at the next bar."""
    prices = np.array([100.0, 100.0] + [196.2063071783735] * 4)
    ts = pd.date_range("2024-01-01", periods=6, tz="UTC", unit="us")
    panel = read_market(pd.DataFrame(dict(symbol="A", ts=ts, open=prices, close=prices))).panel
    decided, terms, none = np.array([-0.8017254763946096, 0, 0, 0, 0,
                                     0])[:,
                                         None], make_terms(Costs(fee_bps=963,
                                                                 slippage_bps=0)), np.empty((0, len(LOG)))
    slow, quick = books_of(6, True), books_of(6, False)
    assert simulate_fills(decided, panel, terms, 100.0, slow,
                          none)[1] == simulate_fills(decided, panel, terms, 100.0, quick, none)[1] == -1
    np.testing.assert_array_equal(quick.equity, slow.equity)
    np.testing.assert_array_equal(quick.totals, slow.totals)
    assert slow.units[:, 0].tolist() == [0, decided[0, 0], pytest.approx(0, abs=1e-15), 0, 0,
                                         0] and slow.totals[TOTALS.index("orders")] == 3


@pytest.mark.parametrize("more", [dict(fee_min=1.0), dict(fee_per_share=0.01), dict(lot=1.0),
                                  dict(participation=0.1), dict(impact=0.1),
                                  dict(borrow_bps=100.0), dict(funding_bps=100.0), dict(stop_loss=0.1),
                                  dict(take_profit=0.1), dict(trailing_stop=0.1)])
def test_what_the_walk_of_one_symbol_does_not_know_goes_the_other_way(more):
    bars = without(market(1, symbols=1), "funding")
    stops = {k: v for k, v in more.items() if k in ("stop_loss", "take_profit", "trailing_stop")}
    costs = Costs(**{k: v for k, v in more.items() if k not in stops})
    panel = read_market(bars, needs(costs, bool(stops))).panel
    small, none = books_of(len(panel.open), False), np.empty((0, len(LOG)))
    assert not _is_plain(panel, make_terms(costs, **stops), 1.0, small, none)
    assert _is_plain(read_market(bars).panel, make_terms(Costs()), 1.0, small, none)


def test_the_log_grows():
    n = 5_000
    ts = pd.date_range("2024-01-01", periods=n, freq="min", tz="UTC", unit="us")
    bars = pd.DataFrame(dict(symbol="A", ts=ts, open=10.0, close=10.0))
    weights = pd.DataFrame({"A": np.arange(n - 1) % 2.0}, index=ts[:-1])
    _, orders, _ = play(weights, bars, Costs(**FREE))
    assert len(orders) == n - 2 and list(orders["row"]) == list(range(2, n))


# --- rules by hand: 100 of money, open = 10 unless said otherwise

def flat(rows=5, **columns):
    """Bars of one symbol that stand at 10 with a volume of 100."""
    ts = pd.date_range("2024-01-01", periods=rows, tz="UTC", unit="us")
    base = dict(open=10.0, high=10.0, low=10.0, close=10.0, volume=100.0, spread=np.nan, vwap=np.nan)
    return pd.DataFrame({"symbol": "A", "ts": ts, **base}).assign(**columns)


def hold(bars, weights, costs=COSTLESS, cash=100.0, **more):
    clock = pd.DatetimeIndex(sorted(bars.ts.unique()))
    table = pd.DataFrame({"A": np.array(weights, float)}, index=clock[:len(weights)])
    books, orders, _ = play(table, bars, costs, cash, **more)
    return books, orders.assign(reason=[REASONS[int(r)] for r in orders["reason"]])


def test_a_carried_order_is_filled_within_each_bars_volume():
    bars = flat(7, volume=[100, 100, 40, 0, np.nan, 100, 100.0])
    books, orders = hold(bars, [1.0] * 6, Costs(participation=0.05, **FREE))
    assert list(orders["size"]) == [5, 2, 3] and list(orders["row"]) == [1, 2, 5]
    assert list(books.units[:, 0]) == [0, 5, 7, 7, 7, 10, 10]


def test_nothing_fills_without_volume_where_impact_is_set():
    books, orders = hold(flat(volume=[100, 0, 0, 50, 50.0]), [1.0] * 4, Costs(impact=0.1, **FREE))
    assert list(orders["row"]) == [3]


def test_zero_volume_does_not_matter_otherwise():
    assert len(hold(flat(volume=0.0), [1.0] * 4)[1]) == 1


def test_lots_are_whole_and_closing_sells_all():
    books, orders = hold(flat(6), [0.55, 0.55, 0.97, 0.97, 0.0], Costs(lot=2.0, **FREE))
    assert list(orders["size"]) == [4, 4, -8]


def test_a_lot_that_cannot_be_paid_is_not_bought():
    assert list(hold(flat(), [1.0] * 4, Costs(lot=3.0, fee_bps=100.0, slippage_bps=0.0))[1]["size"]) == [9]
    assert len(hold(flat(), [1.0] * 4, Costs(lot=11.0, **FREE))[1]) == 0


def test_the_least_fee_comes_out_of_the_same_money():
    books, orders = hold(flat(), [1.0] * 4, Costs(fee_min=5.0, **FREE))
    assert orders["fee"].tolist() == [5.0] and orders["size"].iloc[0] == pytest.approx(9.5)
    assert books.money[-1] == pytest.approx(0)


def test_a_fee_is_never_more_than_what_is_traded():
    books, orders = hold(flat(), [0.01, 0.0, 0.0, 0.0], Costs(fee_min=5.0, **FREE))
    assert orders["fee"].tolist() == pytest.approx([1.0, 1.0]) and books.equity[-1] == pytest.approx(98)


def test_half_the_spread_each_way_where_the_bar_has_one():
    bars = flat(spread=[0.1, 0.2, 0.4, np.nan, np.nan])
    assert hold(bars, [0.5, 0.0, 0.5, 0.0], Costs(use_spread=True, spread_bps=100.0,
                                                  **FREE))[1]["price"].tolist() == [10.1, 9.8, 10.05, 9.95]
    assert hold(bars, [0.5, 0.0, 0.5, 0.0], Costs(spread_bps=100.0,
                                                  **FREE))[1]["price"].tolist() == [10.05, 9.95, 10.05, 9.95]


def test_a_sale_never_brings_less_than_nothing():
    bars = flat(spread=[0, 0.0, 50, 0, 0])
    books, orders = hold(bars, [0.5, 0.0, 0.0, 0.0], Costs(use_spread=True, fee_bps=10.0, slippage_bps=0.0))
    assert orders["price"].tolist() == [10.0, 0.0] and orders["spread"].iloc[1] == 50.0
    assert orders["fee"].iloc[1] == 0


@pytest.mark.parametrize("fill, price", [("open", 10.0), ("vwap", 11.0), ("close", 12.0)])
def test_fills_at_open_vwap_or_close(fill, price):
    bars = flat(high=13.0, close=12.0, vwap=11.0)
    assert hold(bars, [0.5] * 4, Costs(fill=fill, **FREE))[1]["reference"].tolist() == [price]


def test_a_bar_without_vwap_fills_at_its_open():
    assert hold(flat(high=13.0, close=12.0), [0.5] * 4,
                Costs(fill="vwap", **FREE))[1]["reference"].tolist() == [10.0]


def test_delay_counts_rows():
    assert hold(flat(6), [1.0, 1, 1], Costs(delay=3, **FREE))[1]["row"].tolist() == [3]


def test_leverage_borrows_and_pays_for_it():
    bars = flat(4, close=[10, 10, 12, 12.0])
    books, orders = hold(bars, [2.0] * 3, Costs(funding_bps=365.0, **FREE), leverage=2.0)
    assert orders["size"].tolist() == [20] and books.money[1] == -100
    assert -books.flows[2, 1] == pytest.approx(100 * 0.0365
                                               / 365) and books.equity[2] == pytest.approx(140 - 0.01)


def test_a_perpetual_pays_its_funding_on_what_is_held():
    bars = flat(5, close=[10, 11, 11, 11, 11.0], funding=[0.01, 0.01, 0.01, np.nan, -0.02])
    books, _ = hold(bars, [0.5] * 4)
    assert books.flows[:, 1] == pytest.approx([0, 0, -0.55, 0, 1.1])
    short, _ = hold(bars, [-0.5] * 4)
    assert short.flows[:, 1] == pytest.approx([0, 0, 0.55, 0, -1.1])


def test_flows_can_overdraw_an_account_until_it_sells():
    bars = flat(6, funding=[0, 0, 0.5, 0, 0, 0.0])
    books, orders = hold(bars, [1.0, 1, 0.99, 0.99, 0.99])
    assert books.money[:4] == pytest.approx([100, 0, -50,
                                             0.5]) and orders["size"].tolist() == pytest.approx([10, -5.05])


# --- stops by hand: bought at 10 in row 1

@pytest.mark.parametrize("bar, price, reason", [
    (dict(open=10, high=10.4, low=9.6), None, None),
    (dict(open=10, high=10.4, low=9.4), 9.5, "stop_loss"),
    (dict(open=9.3, high=10.4, low=9.2), 9.3, "stop_loss"),     # a gap through the stop fills at the open
    (dict(open=10, high=10.6, low=9.6), 10.5, "take_profit"),
    (dict(open=10.8, high=11, low=10.6), 10.8, "take_profit"),
    (dict(open=10, high=10.6, low=9.4), 9.5, "stop_loss"),      # both inside the bar: it was the stop
    (dict(open=10.7, high=10.9, low=9.0), 10.7, "take_profit"), # the open was first for certain
])
@pytest.mark.parametrize("side", [1, -1])
def test_stop_and_target_inside_a_bar(bar, price, reason, side):
    # the mirror image
    if side < 0: bar = dict(open=20 - bar["open"], high=20 - bar["low"], low=20 - bar["high"])
    bars = flat(5)
    for name, value in bar.items(): bars.loc[2, name] = value
    _, orders = hold(bars, [side * 0.5] * 4, stop_loss=0.05, take_profit=0.05)
    if price is None: return
    assert orders["reason"].tolist() == ["target", reason] and orders["row"].tolist() == [1, 2]
    assert orders["reference"].iloc[1] == pytest.approx(price if side > 0 else 20 - price)


def test_no_stop_without_a_touch():
    assert hold(flat(low=9.6, high=10.4), [0.5] * 4, stop_loss=0.05,
                take_profit=0.05)[1]["reason"].tolist() == ["target"]


def test_after_a_stop_the_symbol_is_flat_until_its_target_was_zero():
    bars = flat(8, low=[10, 10, 9, 10, 10, 10, 10, 10])
    # row 4: another size is no new decision
    books, orders = hold(bars, [0.5, 0.5, 0.5, 0.6, 0.0, 0.6, 0.6], stop_loss=0.05)
    assert orders["row"].tolist() == [1, 2,
                                      6] and orders["reason"].tolist() == ["target", "stop_loss", "target"]
    assert books.units[3, 0] == books.units[4, 0] == 0


def test_a_position_can_be_stopped_in_the_bar_that_opened_it_at_its_open_but_not_at_its_close():
    bars = flat(4, low=[10, 9, 10, 10])
    assert hold(bars, [0.5] * 3, stop_loss=0.05)[1]["row"].tolist() == [1, 1]
    assert hold(bars, [0.5] * 3, Costs(fill="close", **FREE), stop_loss=0.05)[1]["row"].tolist() == [1]


def test_a_trailing_stop_follows_bars_that_are_over():
    bars = flat(5, high=[10, 10, 12, 12, 12], low=[10, 10, 9.9, 10.7, 10.7], close=[10, 10, 11.5, 11, 11],
                open=[10, 10, 10, 11.5, 11])
    _, orders = hold(bars, [0.5] * 4, trailing_stop=0.1)
    # not in row 2, whose high made it
    assert orders["row"].tolist() == [1, 3] and orders["reference"].iloc[1] == pytest.approx(12 * 0.9)


def test_the_nearer_of_two_stops_counts():
    bars = flat(4, low=[10, 10, 9, 9])
    assert hold(bars, [0.5] * 3, stop_loss=0.05,
                trailing_stop=0.03)[1]["reason"].tolist()[1] == "trailing_stop"
    assert hold(bars, [0.5] * 3, stop_loss=0.03, trailing_stop=0.05)[1]["reason"].tolist()[1] == "stop_loss"


def test_a_stop_larger_than_the_volume_is_filled_at_later_bars():
    bars = flat(6, low=[10, 10, 9, 10, 10, 10], volume=[1e3, 1e3, 30, 30, 30, 30.0])
    _, orders = hold(bars, [1.0] * 5, Costs(participation=0.1, **FREE), stop_loss=0.05)
    assert orders["size"].tolist() == [10, -3, -3, -3, -1] and set(orders["reason"].iloc[1:]) == {"stop_loss"}
    assert orders["reference"].tolist() == [10, 9.5, 10, 10, 10]


@pytest.mark.parametrize("assumed, action, price",
                         [(0.0, None, 10.0), (-0.3, None, 7.0), (-1.0, None, 0.0), (0.0, 0.2, 2.0),
                          (-0.3, 0.2, 2.0)])
def test_a_delisted_symbol_pays_what_its_action_or_the_model_says(assumed, action, price):
    bars = pd.concat([flat(3), flat(6).assign(symbol="B")])
    after = [bars.ts.iloc[2] + pd.Timedelta(hours=3)]
    actions = None if action is None else pd.DataFrame(dict(symbol=["A"], ex_date=after, kind=["delisting"],
                                                            value=[action]))
    costs = Costs(delisting_return=assumed, **FREE)
    _, log = trade(np.tile([0.5, 0.0], (6, 1)), read_market(bars, needs(costs), actions), make_terms(costs),
                   100.0)
    assert [REASONS[int(r)] for r in log[:, 9]] == ["target", "ended"] and log[1, 3] == pytest.approx(price)
    assert log[1, 0] == 3


# --- bad input

@pytest.mark.parametrize("bars, costs, stop, said", [
    (lambda b: b.drop(columns="volume"), dict(participation=0.1), None, "a column `volume`"),
    (lambda b: b.drop(columns="volume"), dict(impact=0.1), None, "a column `volume`"),
    (lambda b: b.drop(columns="vwap"), dict(fill="vwap"), None, "a column `vwap`"),
    (lambda b: b.drop(columns="spread"), dict(use_spread=True), None, "a column `spread`"),
    (lambda b: b.drop(columns="high"), {}, 0.1, "a column `high`"),
    (lambda b: b.drop(columns="symbol"), {}, None, "a column `symbol`"),
    (lambda b: b.assign(low=np.nan), {}, 0.1, "`low` must be a price > 0"),
    (lambda b: b.assign(open=0.0), {}, None, "`open` must be a price > 0"),
    (lambda b: b.assign(close=[10, 10, np.nan, 10, 10]), {}, None, "`close` must be a price > 0"),
    (lambda b: b.assign(close=np.inf), {}, None, "`close` must be a price > 0"),
    (lambda b: b.assign(volume=-1.0), dict(participation=0.1), None, "`volume`"),
    (lambda b: b.assign(funding=np.inf), {}, None, "`funding`"),
    (lambda b: b.iloc[:0], {}, None, "at least one bar"),
    (lambda b: pd.concat([b, b.iloc[[1]]]), {}, None, "two bars for A at 2024-01-02"),
    (lambda b: pd.concat([b, b.assign(symbol="B"), b.iloc[[1]]]), {}, None, "two bars for A at 2024-01-02"),
])
def test_bad_bars_are_named(bars, costs, stop, said):
    with pytest.raises(BacktestError, match=said):
        read_market(bars(flat()), needs(Costs(**costs), stop is not None))


@pytest.mark.parametrize("more", [dict(stop_loss=0), dict(stop_loss=1.0), dict(take_profit=-0.1),
                                  dict(trailing_stop="5%"), dict(stop_loss=True),
                                  dict(leverage=0), dict(leverage=float("inf")), dict(leverage="2")], ids=str)
def test_bad_terms_are_named(more):
    with pytest.raises(ParameterError, match=next(iter(more))): make_terms(Costs(), **more)


def test_actions_need_their_columns():
    with pytest.raises(BacktestError, match="a column `ex_date`"):
        read_market(flat(), actions=pd.DataFrame(dict(symbol=["A"])))


def test_adjusted_bars_do_not_take_actions_again():
    actions = pd.DataFrame(dict(symbol=["A"], ex_date=[flat().ts[2]], kind=["dividend"], value=[1.0]))
    with pytest.raises(BacktestError, match="raw where actions are passed"):
        read_market(flat(factor=0.9), actions=actions)
    assert read_market(flat(factor=1.0), actions=actions).panel.dividend[:, 0].tolist() == [0, 0, 1, 0, 0]


def test_actions_count_from_the_second_bar_on_and_wait_for_a_bar():
    bars = flat(6).drop(index=[3])
    day = list(flat(6).ts)
    rows = [("A", day[0], "dividend", 9.0), ("A", day[3], "split", 2.0),
            ("A", day[5] + pd.Timedelta(hours=1), "dividend", 9.0), ("Z", day[1], "split", 2.0)]
    panel = read_market(bars, actions=pd.DataFrame(rows,
                                                   columns=["symbol", "ex_date", "kind", "value"])).panel
    assert panel.split[:, 0].tolist() == [0, 0, 0, 2, 0] and panel.dividend.sum() == 0


def test_bars_in_any_order_are_the_same():
    bars = market(3, symbols=3)
    mixed = bars.sample(frac=1, random_state=0)
    for frames in ((bars, mixed), (bars[bars.symbol == "S0"], mixed[mixed.symbol == "S0"])):
        a, b = (read_market(f, EVERYTHING) for f in frames)
        assert a.clock.equals(b.clock) and a.symbols == b.symbols
        for x, y in zip(a.panel, b.panel, strict=True): np.testing.assert_array_equal(x, y)
