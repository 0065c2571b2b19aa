"""Random entries: spells keep their length, books are those of `simulate`, p-values of blind strategies are
even, foresight is seen."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfin.backtest.costs import Costs
from mlfin.backtest.fill_prices import make_terms
from mlfin.backtest.fills import TOTALS, Account, simulate_fills
from mlfin.backtest.market_panel import cut_market, needs, read_market
from mlfin.backtest.random_entry import (
    Null,
    _draw,
    _money_at,
    _moved,
    _priced,
    _spells,
    _Trader,
    random_entry_null,
)
from mlfin.backtest.trading_rule import TradingRule
from mlfin.significance.sharpe_ratio import sharpe
from mlfin.backtest.simulate import backtest, simulate
from mlfin.core.errors import BacktestError, ParameterError
from mlfin.core.kernels import compiled


def market(seed, rows=500, symbols=1, drift=0.0, freq="D", start="2020-01-01"):
    rng = np.random.default_rng(seed)
    ts = pd.date_range(start, periods=rows, freq=freq, tz="UTC", unit="us", name="ts")
    frames = []
    for k in range(symbols):
        close = 100 * np.exp(np.cumsum(rng.normal(drift, 0.01, rows)))
        frames.append(pd.DataFrame({"symbol": f"S{k}", "ts": ts,
                                    "open": np.append(100, close[:-1]) * np.exp(rng.normal(0, 0.002, rows)),
                                    "close": close,
                                    "volume": rng.uniform(1e5, 2e5, rows)}))
    return pd.concat(frames, ignore_index=True).astype({"symbol": "str"})


def at_random(seed, bars, size=1.0, stay=0.9, short=False):
    """Weights that know nothing: in and out by chance."""
    rng = np.random.default_rng(seed)
    ts, names = pd.DatetimeIndex(bars["ts"].unique(), name="ts"), sorted(bars["symbol"].unique())
    out = np.zeros((len(ts), len(names)))
    for s in range(len(names)):
        now = 0.0
        for t in range(len(ts)):
            if rng.random() > stay: now = rng.choice([0.0, size, -size] if short else [0.0, size])
            out[t, s] = now
    return pd.DataFrame(out, ts, names)


def runs(column):
    """Lengths of runs of one sign, sorted, written again."""
    out, last = [], 0.0
    for x in np.sign(column):
        if x != 0: out = [*out[:-1], out[-1] + 1] if x == last else [*out, 1]
        last = x
    return sorted(out)


# --- moving spells

@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), max_size=12), st.integers(0, 5),
       st.integers(0, 1000))
def test_spells_keep_their_lengths_and_sizes(parts, tail, seed):
    """Long only: gaps inside are at least one row."""
    column = np.concatenate([np.r_[np.zeros(gap + (k > 0)), np.linspace(0.5, 1, n)]
                             for k, (gap, n) in enumerate(parts)] + [np.zeros(tail)])
    if not len(column): return
    moved = _moved(column, *_spells(column), np.random.default_rng(seed))
    assert sorted(moved) == sorted(column) and runs(moved) == runs(column) and len(moved) == len(column)
    first, length, gaps = _spells(column)
    assert len(first) == len(parts) and length.sum() + gaps.sum() == len(column)


def test_one_spell_can_begin_anywhere():
    column = np.zeros(10)
    column[4:7] = 1
    rng = np.random.default_rng(0)
    begins = [int(_moved(column, *_spells(column), rng).argmax()) for _ in range(4000)]
    assert np.bincount(begins, minlength=10)[:8] == pytest.approx(500, abs=90) and max(begins) == 7


def test_gaps_are_shuffled_and_long_and_short_stay_what_they_are():
    column = np.array([0, 1, 1, -1, -1, -1, 0, 0, 1, 0])
    rng, seen = np.random.default_rng(1), set()
    for _ in range(300):
        moved = _moved(column, *_spells(column), rng)
        assert sorted(moved) == sorted(column)
        seen.add(tuple(moved))
    assert len(seen) > 30
    assert (_moved(np.zeros(5), *_spells(np.zeros(5)), rng) == 0).all()


# --- the books

@pytest.mark.parametrize("costs, options", [
    (Costs(), {}), (Costs(delay=3, fee_bps=20, fill="close"), dict(cash=5e4)),
    (Costs(slippage_vol=0.1, impact=0.5, lot=1.0, participation=0.5, borrow_bps=50), dict(cash=1e6))])
def test_what_is_observed_is_what_simulate_returns(costs, options):
    bars = market(0, 300, 2)
    weights = at_random(1, bars, 0.5, short=True)
    sim = simulate(weights.iloc[5:250], bars, costs, **options)
    found = random_entry_null(weights.iloc[5:250], bars, costs, 100, **options)
    assert found.observed == pytest.approx(sharpe(sim.returns), rel=1e-9) and found.how == "spells"
    again = random_entry_null(sim, bars, draws=100)
    assert again.observed == found.observed and np.array_equal(again.sharpes, found.sharpes)


@pytest.mark.parametrize("freq, calendar, start", [("h", "24/7", "2020-01-01"),
                                                   ("6h", "24/7", "2020-01-01 18:00"),
                                                   ("B", "XNYS", "2021-03-01")])
def test_days_are_those_of_simulate(freq, calendar, start):
    bars = market(2, 400, freq=freq, start=start)
    weights = at_random(3, bars)
    sim = simulate(weights, bars, calendar=calendar)
    assert random_entry_null(weights, bars, draws=100,
                             calendar=calendar).observed == pytest.approx(sharpe(sim.returns), rel=1e-9)


def test_a_draw_is_what_simulate_makes_of_moved_weights():
    bars = market(4, 200)
    weights = at_random(5, bars)
    found = random_entry_null(weights, bars, Costs(fee_bps=30), 100, seed=9)
    # the last decision has no bar to be filled at
    rng, column = np.random.default_rng(9), weights["S0"].to_numpy()[:-1]
    for k in range(5):
        moved = _moved(column, *_spells(column), rng)
        sim = simulate(pd.DataFrame({"S0": np.append(moved, moved[-1])}, weights.index), bars,
                       Costs(fee_bps=30))
        assert found.sharpes[k] == pytest.approx(sharpe(sim.returns), rel=1e-9)


def trader_of(seed, rows, costs, leverage, short, missing, vol):
    """A trader of one symbol with holes in its bars, wild enough to be ruined."""
    rng = np.random.default_rng(seed)
    bars = market(seed, rows)
    wild = np.exp(vol * np.cumsum(rng.normal(size=rows)))
    bars = bars.assign(open=bars["open"] * wild, close=bars["close"] * wild, spread=0.5,
                       vwap=bars["open"] * wild * 1.001)
    weights = at_random(seed, bars, leverage, stay=0.7, short=short)
    weights *= np.where(rng.random((rows, 1)) < 0.2, 0.5, 1.0)  # sizes that change inside a spell
    there = (rng.random(rows) > missing) | (np.arange(rows) == 0) | (np.arange(rows) >= rows - 4)
    whole = read_market(bars, needs(costs))
    opens, closes = (np.where(there[:, None], x, np.nan) for x in (whole.panel.open, whole.panel.close))
    whole = whole._replace(panel=whole.panel._replace(open=opens, close=closes))
    ends = np.append(0, np.sort(rng.choice(np.arange(1, rows), min(rows - 1, 9), replace=False)))
    decided = np.concatenate([weights.to_numpy()[:rows - costs.delay],
                              np.repeat(weights.to_numpy()[rows - costs.delay - 1:rows - costs.delay],
                                        costs.delay, axis=0)])
    return _Trader(cut_market(whole, 0, rows), make_terms(costs, leverage), 1e4, decided, ends)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(8, 90), st.integers(1, 3), st.sampled_from([1.0, 4.0]),
       st.booleans(), st.sampled_from([0.0, 0.3]), st.sampled_from([0.0, 0.3]),
       st.sampled_from([dict(), dict(fee_bps=900), dict(fill="vwap", slippage_vol=0.1), dict(fill="close"),
                        dict(use_spread=True)]))
def test_draws_from_changes_are_those_from_tables_to_the_last_bit(seed, rows, delay, leverage, short, missing,
                                                                  vol, more):
    """Missing bars, covers that cannot be paid, ruin, delays: the account of a list of changes is that of
    every bar."""
    trader = trader_of(seed, rows, Costs(delay=delay, **more), leverage, short, missing, vol)
    quick = trader._draws_alone(3, seed)
    if quick is None: return
    tables = _draw(trader.decisions, _priced(trader.market, len(trader.decisions)), "spells", seed)
    for k in range(3):
        table = next(tables)
        assert quick[k] == trader.sharpe(np.vstack([table, np.repeat(table[-1:], delay, axis=0)]))


@pytest.mark.parametrize("seed", range(4))
def test_money_at_every_row_is_the_account_of_the_simulation(seed):
    """A ruined short too, whose account is zero from there on."""
    trader = trader_of(seed, 60, Costs(), 4.0, True, 0.2, 0.3 * (seed % 2))
    column, panel = trader.decided[:, 0], trader.market.panel
    marks = pd.Series(panel.close[:, 0]).ffill().to_numpy()
    row, money = np.flatnonzero(np.diff(column, prepend=0.0)), np.empty(60)
    compiled(_money_at)(row, column[row], panel, marks, trader.terms, 1e4, np.arange(60), money)
    every = _Trader(trader.market, trader.terms, 1e4, trader.decided, np.arange(60))
    books = Account(np.empty(60), np.empty(0), np.empty((0, 1)), np.empty((0, 3)), np.empty(len(TOTALS)))
    ruined = simulate_fills(every.decided, panel, trader.terms, 1e4, books, np.empty((0, 11)))[1]
    if ruined >= 0: books.equity[ruined:] = 0.0
    np.testing.assert_array_equal(money, books.equity)


def test_stops_lots_and_many_symbols_are_drawn_bar_by_bar():
    bars = market(1, 60, 2)
    weights = at_random(1, bars, 0.5)
    one, both = bars[bars.symbol == "S0"], dict(cash=1e5, leverage=1.0, stop_loss=None, take_profit=None,
                                                trailing_stop=None, calendar="24/7")
    for frame, costs, account in ((bars, Costs(), both), (one, Costs(lot=1.0), both)):
        trader = _Trader.of(weights[list(frame.symbol.unique())], frame, costs, account, None)
        assert trader._draws_alone(2, 0) is None and len(trader.draws(2, "spells", 0)) == 2


def test_a_simulation_brings_its_rule_and_costs():
    bars = market(6, 300)
    predictions = bars[["symbol", "ts"]].assign(probability=np.random.default_rng(7).random(300))
    bars = bars.assign(high=bars[["open", "close"]].max(axis=1) * 1.002,
                       low=bars[["open", "close"]].min(axis=1) * 0.998)
    sim = backtest(predictions, bars, TradingRule("long_flat", stop_loss=0.02), Costs(fee_bps=5))
    found = random_entry_null(sim, bars, draws=100)
    assert found.observed == pytest.approx(sharpe(sim.returns), rel=1e-9)
    assert random_entry_null(sim.weights, bars, Costs(fee_bps=5),
                             100).observed != pytest.approx(found.observed, rel=1e-6)


def test_more_cost_makes_strategy_and_draws_poorer_alike():
    bars = market(8, 400, drift=0.001)
    weights = at_random(9, bars, stay=0.7)
    cheap, dear = (random_entry_null(weights, bars, Costs(fee_bps=bps), 100) for bps in (0, 50))
    assert (dear.sharpes < cheap.sharpes).all() and dear.observed < cheap.observed
    assert abs(dear.p_value - cheap.p_value) < 0.1  # the same trades: cost moves all of them


# --- what it says

def test_p_values_of_blind_strategies_are_even():
    p = [random_entry_null(at_random(seed, bars, stay=0.9), bars, draws=100, seed=seed).p_value
         for seed in range(60) for bars in [market(1000 + seed, 250, drift=0.001)]]
    print(f"p < 0.05 in {np.mean(np.array(p) < 0.05):.1%}, mean {np.mean(p):.3f} of 60 blind strategies")
    assert np.mean(np.array(p) < 0.05) <= 0.12 and np.mean(p) == pytest.approx(0.5, abs=0.12)


def test_foresight_is_seen_and_a_rising_market_is_not_foresight():
    bars = market(10, 500, drift=0.003)
    weights = at_random(11, bars, stay=0.95)
    lucky = random_entry_null(weights, bars, draws=200)
    assert lucky.observed > 0.1 and lucky.p_value > 0.05  # a fine Sharpe ratio that any entry has
    ahead = bars["close"].shift(-6) / bars["open"].shift(-1)
    knowing = random_entry_null((ahead.rolling(3).mean()
                                 > 1.01).astype(float).set_axis(weights.index).to_frame("S0"), bars,
                                draws=200)
    assert knowing.p_value < 0.01 and "0.0% of 200 draws" in knowing.words


def test_a_full_account_is_turned_as_a_whole():
    bars = market(12, 300, 4)
    rank = np.random.default_rng(13).random((300, 4)).argsort(axis=1)
    best = pd.DataFrame(np.repeat((rank == 0) * 1.0, 1, axis=1), at_random(0, bars).index,
                        ["S0", "S1", "S2", "S3"])
    found = random_entry_null(best, bars, draws=100)
    assert found.how == "rotate" and len(np.unique(found.sharpes)) > 50
    assert random_entry_null(best / 4, bars, draws=100).how == "spells"
    assert random_entry_null(best, bars, draws=100, how="spells").how == "spells"
    assert random_entry_null(best, bars, draws=100, leverage=4.0).how == "spells"


def test_symbols_are_moved_within_their_own_bars():
    bars = market(14, 300, 2)
    bars = bars[(bars["symbol"] == "S0") | ((bars["ts"] >= bars["ts"].iloc[100])
                                            & (bars["ts"] < bars["ts"].iloc[200]))]
    weights = at_random(15, bars, 0.5)
    weights.loc[:, "S1"] = 0.0
    weights.iloc[120:150, 1] = 0.5
    alone = weights.assign(S0=0.0)
    found = random_entry_null(alone, bars, draws=100)
    assert found.spells == 1 and (found.sharpes != 0).all()  # wherever it goes, it finds prices


# --- nothing to compare, bad input

def test_nothing_to_compare_is_said_in_words():
    bars = market(16, 100)
    ts = at_random(0, bars).index
    never = random_entry_null(pd.DataFrame({"S0": 0.0}, ts), bars, draws=100)
    assert never == never and never.p_value is None and never.observed is None
    assert never.words.endswith("the strategy never traded.")
    always = random_entry_null(pd.DataFrame({"S0": 1.0}, ts), bars, draws=100)
    assert always.p_value is None and always.observed is not None and "every draw is the same" in always.words
    assert isinstance(always, Null) and not len(always.sharpes)
    once = pd.DataFrame({"S0": 0.0}, ts)
    once.iloc[40:50] = 1
    assert random_entry_null(once, bars,
                             draws=100).spells == 1 and 0 < random_entry_null(once, bars,
                                                                              draws=100).p_value <= 1


def test_a_ruined_draw_is_a_bad_draw():
    bars = market(17, 200)
    bars.loc[100:, ["open", "close"]] *= 3  # a short that is open there loses the account
    weights = pd.DataFrame({"S0": 0.0}, at_random(0, bars).index)
    weights.iloc[10:60] = -1.0
    found = random_entry_null(weights, bars, draws=200, leverage=1.0)
    assert np.isfinite(found.sharpes).all() and found.sharpes.min() < found.observed


@pytest.mark.parametrize("change, message", [
    (lambda w: w.assign(X=0.0), "of symbols that have bars"), (lambda w: w * np.nan, "finite"),
    (lambda w: w.iloc[:0], "at least one row"),
    (lambda w: w.iloc[::-1], "sorted by ts"), (lambda w: w.set_axis(w.index + pd.Timedelta(hours=1)),
                                               "decided at bars that exist"),
    (lambda w: w.iloc[-1:], "at least one bar after"),
    (lambda w: w.to_numpy(), "a simulation, or a frame of weights")])
def test_bad_weights_are_named(change, message):
    bars = market(18, 60)
    with pytest.raises(BacktestError, match=message):
        random_entry_null(change(at_random(1, bars)), bars, draws=100)


@pytest.mark.parametrize("options, field", [(dict(draws=10), "draws"), (dict(draws=True), "draws"),
                                            (dict(how="x"), "how"), (dict(leverage=-1), "leverage")])
def test_bad_parameters_are_named(options, field):
    bars = market(19, 60)
    with pytest.raises(ParameterError, match=f"`{field}`"):
        random_entry_null(at_random(1, bars), bars, **options)


def test_a_simulation_is_compared_under_the_terms_that_it_had():
    bars = market(3, symbols=2)
    w = at_random(4, bars).iloc[:-1]
    assert w.abs().sum(axis=1).max() == 2
    lent = simulate(w, bars, leverage=2.0)
    assert random_entry_null(lent, bars, draws=100).observed == pytest.approx(sharpe(lent.returns))
    bars = bars.assign(high=bars[["open", "close"]].max(axis=1), low=bars[["open", "close"]].min(axis=1))
    stopped = simulate(w / 2, bars, stop_loss=0.01)
    with pytest.raises(BacktestError, match="the stops, the leverage"):
        random_entry_null(stopped, bars, draws=100)
    assert random_entry_null(stopped, bars, draws=100,
                             stop_loss=0.01).observed == pytest.approx(sharpe(stopped.returns))
