"""The tear sheet: sums that add up, neighbours that a rule may have, a page for whatever was traded, or for
nothing."""
import json

import numpy as np
import pandas as pd
import pytest

from mlfin.significance.bootstrap import spa_test
from mlfin.backtest.costs import Costs
from mlfin.backtest.trading_rule import TradingRule
from mlfin.backtest.simulate import backtest, buy_and_hold, simulate
from mlfin.backtest.sweep import sweep
from mlfin.backtest.tearsheet import (
    confidence, cost_steps, describe_trading, figures_table, latest_trades, luck_table, neighbourhood,
    path_returns, readable, risk_table, split_caveats,
    tear_sheet, tear_sheet_charts, tear_sheet_sections, trading_parameters, untraded)
from mlfin.core.errors import ParameterError


def market(rows=400, symbols=("A", "B"), seed=0):
    rng, parts = np.random.default_rng(seed), []
    ts = pd.date_range("2020-01-01", periods=rows, freq="D", tz="UTC").as_unit("us")
    for name in symbols:
        close = 50 * np.exp(rng.normal(0.0005, 0.012, rows).cumsum())
        opens = np.r_[50.0, close[:-1]]
        parts.append(pd.DataFrame({"symbol": name, "timeframe": "1d", "ts": ts, "open": opens,
                                   "high": np.maximum(opens, close) * 1.002,
                                   "low": np.minimum(opens, close) * 0.998, "close": close, "volume": 1e6,
                                   "probability": rng.normal(0.5, 0.05, rows).clip(0, 1)}))
    frame = pd.concat(parts, ignore_index=True)
    return frame.drop(columns="probability"), frame[["symbol", "ts", "probability"]].assign(fold=1)


def made(threshold=None, rows=400, costs=None, **rule):
    bars, told = market(rows)
    rule, costs = TradingRule(threshold=threshold, **rule).on("probability"), costs or Costs()
    done = backtest(told, bars, rule, costs)
    hold = buy_and_hold(bars, costs, start=done.equity.ts.iloc[0], end=done.equity.ts.iloc[-1])
    near = sweep(told, bars, neighbourhood(rule, told), rule, costs)
    trials = near.returns.rename(columns=str).assign(chosen=done.returns)
    return tear_sheet(done, hold, bars, trials, "chosen", 365, swept=near, predictions=told), done, bars


def test_a_question_becomes_a_rule_and_costs():
    asked = {"rule": "long_short", "threshold": None, "signal": "proportional", "max_weight": 0.5,
             "use_spread": True, "participation": 0.1,
             "cash": 5.0, "seed": 1}
    rule, costs = trading_parameters(asked, "prediction")
    assert rule == TradingRule("long_short", threshold=0.0, signal="proportional",
                               max_weight=0.5) and costs == Costs(use_spread=True, participation=0.1)
    assert trading_parameters({}) == (TradingRule(), Costs())
    even = {"class_weight": "balanced"}  # a model whose training knew as many rises as falls
    assert trading_parameters(even)[0].threshold == 0.5
    assert trading_parameters(even | {"calibrate": "sigmoid"})[0].threshold is None
    assert trading_parameters(even | {"threshold": 0.6})[0].threshold == 0.6
    assert trading_parameters(even, "prediction")[0].threshold == 0.0
    with pytest.raises(ParameterError, match="threshold"):
        trading_parameters({"rule": "long_short", "threshold": 0.4})


def test_the_default_question_has_a_trial_of_its_own():
    rule, costs = trading_parameters({"rule": "long_flat", "threshold": None})
    assert rule.spec() | costs.spec() == {"kind": "long_flat", "threshold": None, "fee_bps": 1.0,
                                          "slippage_bps": 2.0}


@pytest.mark.parametrize("rule, column", [
    (TradingRule(), "probability"), (TradingRule("long_short"), "probability"),
    (TradingRule("short_flat", threshold=0.3), "probability"),
    (TradingRule(threshold=0.99), "probability"), (TradingRule(), "prediction"),
    (TradingRule("long_short", min_hold=7), "prediction"),
    (TradingRule(signal="quantile", quantile=0.1), "probability"),
    (TradingRule("long_short", signal="quantile", quantile=0.5), "probability"),
    (TradingRule(signal="proportional", min_hold=2), "probability")])
def test_neighbours_are_rules_and_the_chosen_one_is_among_them(rule, column):
    rng = np.random.default_rng(0)
    scores = rng.normal(0.5, 0.02, 200).clip(0, 1) if column == "probability" else rng.normal(0, 0.01, 200)
    told = pd.DataFrame({"symbol": np.tile([f"S{i}" for i in range(20)], 10), column: scores})
    grid = neighbourhood(rule, told)
    first, settled = next(iter(grid)), rule.on(column, based=False)
    assert getattr(settled, first) in grid[first] and settled.min_hold in grid["min_hold"]
    assert 1 <= len(grid[first]) <= 7
    for value in grid[first]:
        for hold in grid["min_hold"]:
            TradingRule(**{**vars(settled), first: value, "min_hold": hold}).on(column)
    assert all(sorted(set(v)) == v for v in grid.values())


def test_neighbours_of_the_base_rate_lie_above_and_below_it():
    told = pd.DataFrame({"symbol": "A", "probability": np.linspace(0.3, 0.4, 50), "baseline": 0.34})
    assert 0.0 in (near := neighbourhood(TradingRule(), told)["excess"]) and min(near) < 0 < max(near)
    assert min(neighbourhood(TradingRule("long_short"), told)["excess"]) == 0.0


def test_scores_that_never_vary_have_no_other_thresholds():
    assert neighbourhood(TradingRule(), pd.DataFrame({"symbol": "A",
                                                      "probability": [0.5, 0.5]}))["threshold"] == [0.5]


def test_steps_lead_from_gross_to_net_with_every_kind_of_cost():
    costs = Costs(fee_bps=5, slippage_bps=3, spread_bps=4, borrow_bps=300, impact=0.5)
    _, done, _ = made(costs=costs, kind="long_short")
    steps = cost_steps(done).set_index("step").amount
    kinds = ["fees", "spread", "slippage", "impact", "borrow", "funding", "dividends"]
    assert list(steps.index) == ["gross profit", *kinds,
                                 "net profit"] and (steps[["fees", "spread", "slippage", "impact", "borrow"]]
                                                    < 0).all()
    assert steps["net profit"] == pytest.approx(done.equity.strategy.iloc[-1] - 100_000)
    assert steps["gross profit"] + steps[kinds].sum() == pytest.approx(steps["net profit"])
    assert steps[kinds].sum() == pytest.approx(-done.costs["total"])


def test_gross_profit_is_what_the_same_orders_bring_at_reference_prices():
    bars, _ = market()
    weights = pd.DataFrame({"A": 1.0, "B": 0.0}, index=bars.ts[:1])
    done = simulate(weights, bars, Costs(fee_bps=10, slippage_bps=20))
    order = done.orders.iloc[0]
    close = bars[(bars.symbol == "A") & (bars.ts == done.equity.ts.iloc[-1])].close.iloc[0]
    assert cost_steps(done).amount.iloc[0] == pytest.approx(order["size"] * (close - order.reference))


def test_a_sheet_is_json_words_and_figures():
    sheet, done, bars = made()
    text = json.dumps(sheet.document(), default=str)
    assert sheet.verdict["headline"] in text.encode().decode("unicode_escape")
    assert len(sheet.verdict["sentences"]) >= 8
    figures = tear_sheet_charts(sheet, done, bars, 365)
    assert list(figures) == ["equity", "drawdown", "rolling", "monthly", "trades", "exposure", "steps",
                             "confidence", "overfitting", "null", "plateau", "costs",
                             "delays", "regimes", "stress", "returns", "capacity"]
    assert sheet.significance["n_trials"] == 36 and 0 < sheet.significance["null_p_value"] <= 1
    assert 0 <= sheet.significance["spa_p_value"] <= 1
    again, *_ = made()
    assert json.dumps(again.document(), default=str) == text


def test_what_never_traded_has_a_page_too():
    sheet, done, bars = made(threshold=0.95)
    said = sheet.verdict
    assert not len(done.orders) and said["headline"].startswith("No trade, no result")
    assert "holding" not in " ".join(said["details"])
    assert said["better_than_luck"] is None and said["better_than_holding"] is None
    assert "lie between" in said["details"][0]
    assert said["details"][1] == "None is above the threshold of 0.95." and "%" in said["details"][2]
    [(title, [table])] = tear_sheet_sections(sheet, done, bars, 365)
    assert title == "## What was predicted, and what it would have traded"
    assert list(table.index) == list(sheet.frames["scores"]["quantile"])
    assert tear_sheet_charts(sheet, done, bars, 365) == {} and sheet.document()["scores"]
    tables = figures_table(sheet), luck_table(sheet), risk_table(sheet)
    assert all(len(t) for t in tables) and figures_table(sheet).loc["Orders", "strategy"] == "0"
    assert figures_table(sheet).loc["Sharpe ratio a year", "strategy"] == "–"


@pytest.mark.parametrize("rule, change, says", [
    (TradingRule("short_flat", threshold=0.9), {}, "None is below the threshold of 0.1."),
    (TradingRule("long_short", threshold=0.9), {}, "or beyond its mirror image."),
    (TradingRule(), {"probability": 0.34, "baseline": 0.34},
     "None is above the base rate of its fold, 0.34."),
    (TradingRule(), {"probability": np.nan}, "There are no probabilities"),
    (TradingRule(threshold=0.4), {}, "beyond the threshold, but no order was filled"),
    (TradingRule(threshold=0.9), {"baseline": 0.4}, "the base rate of each fold (threshold: null)")])
def test_why_nothing_was_traded(rule, change, says):
    assert says in " ".join(untraded(market()[1].assign(**change), rule))


def odd_run(kind):
    "(sheet, simulation, bars) of runs that have little to show."
    bars, told = market(40 if kind != "two days" else 4,
                        ("A",) if kind == "constant, one symbol" else ("A", "B"))
    if kind == "constant, one symbol": told = told.assign(probability=0.6)
    if kind == "one trade":
        told = told.assign(probability=np.where((told.symbol == "A") & (told.ts == told.ts.min()), 0.9, 0.1))
    if kind == "tiny moves":
        bars = bars.assign(**{c: 50 + 1e-7 * np.arange(len(bars)) for c in ("open", "high", "low", "close")})
    rule, costs = TradingRule(threshold=0.5), Costs(fee_bps=0,
                                                    slippage_bps=0) if kind == "tiny moves" else Costs()
    done = backtest(told, bars, rule, costs)
    hold = buy_and_hold(bars, costs, start=done.equity.ts.iloc[0], end=done.equity.ts.iloc[-1])
    swept = sweep(told, bars, neighbourhood(rule, told), rule, costs)
    return tear_sheet(done, hold, bars, pd.DataFrame({"chosen": done.returns}), "chosen", 365, swept=swept,
                      predictions=told), done, bars


@pytest.mark.parametrize("kind", ["constant, one symbol", "one trade", "two days", "tiny moves"])
def test_a_page_of_little_shows_nothing_that_is_empty(kind):
    sheet, done, bars = odd_run(kind)
    assert len(done.orders) and len(sections := tear_sheet_sections(sheet, done, bars, 365)) >= 4
    for title, parts in sections:
        assert title and parts
        for part in parts:
            if isinstance(part, pd.DataFrame):
                assert len(part) and not part.astype(str).isin(["nan", "NaN", "None", "NaT",
                                                                "inf"]).any(axis=None), title
                continue
            scales = [t.zmax for t in part.data if t.type == "heatmap" and t.zmax is not None]
            assert all(s > 1e-6
                       for s in scales) and part.layout.template.layout.xaxis.exponentformat == "none", title


def test_trades_stand_with_the_prices_of_their_time():
    bars, told = market(60, ("A",))
    # two for one; prices go on upwards in the adjusted series
    split = np.where(bars.ts >= bars.ts[30], 2.0, 1.0)
    raw = bars.assign(**{c: bars[c] / split for c in ("open", "high", "low", "close")},
                      volume=bars.volume * split)
    held = told.assign(probability=np.where((told.ts >= told.ts[10]) & (told.ts < told.ts[50]), 0.9, 0.1))
    rule, costs = TradingRule(threshold=0.5), Costs(fee_bps=0, slippage_bps=0)
    adjusted = bars.assign(factor=split)
    done = backtest(held, adjusted, rule, costs)
    trade = done.as_traded(adjusted).iloc[0]
    assert trade.traded_entry_price == pytest.approx(raw.open[11])
    assert trade.traded_exit_price == pytest.approx(raw.open[51])
    assert trade.quantity * trade.traded_entry_price == pytest.approx(trade["size"] * trade.entry_price)
    assert trade.entry_price == pytest.approx(bars.open[11])
    assert list(latest_trades(done, adjusted))[-2:] == ["entry price (adjusted)", "exit price (adjusted)"]
    acted = pd.DataFrame({"symbol": "A", "ex_date": [bars.ts[30]], "kind": "split", "value": 2.0,
                          "known_at": [bars.ts[30]], "origin": "test"})
    # the same on raw bars: the books split, the entry is what was paid
    other = backtest(held, raw, rule, costs, actions=acted)
    again = other.as_traded(raw).iloc[0]
    for name in ("quantity", "traded_entry_price", "traded_exit_price", "pnl"):
        assert again[name] == pytest.approx(trade[name]), name
    assert not any("adjusted" in c for c in latest_trades(backtest(held, bars, rule, costs), bars))


def test_one_drawdown_in_figures_table_and_chart_of_bars_within_the_day():
    bars, told = market(600, ("A",))
    hours = pd.Series(pd.date_range("2020-01-01", periods=600, freq="h", tz="UTC").as_unit("us"))
    bars, told = bars.assign(ts=hours, timeframe="1h"), told.assign(ts=hours)
    done = backtest(told, bars, TradingRule(threshold=0.4), Costs())
    hold = buy_and_hold(bars, Costs(), start=done.equity.ts.iloc[0], end=done.equity.ts.iloc[-1])
    sheet = tear_sheet(done, hold, bars, pd.DataFrame({"chosen": done.returns}), "chosen", 365)
    deepest, chart = sheet.figures["strategy"]["max_drawdown"], tear_sheet_charts(sheet, done, bars,
                                                                                  365)["drawdown"]
    assert deepest == sheet.frames["drawdowns"].depth.iloc[0] == pytest.approx(min(chart.data[0].y)
                                                                               / 100) == (
        sweep(told, bars, {"threshold": [0.4]}, costs=Costs()).table.max_drawdown[0])
    daily = 1 + done.returns
    assert deepest < (daily.cumprod() / daily.cumprod().cummax() - 1).min()  # closes of days alone miss it
    assert figures_table(sheet).loc["First day", "holding"] == "2020-01-01"


@pytest.mark.parametrize("given, words", [(lambda told: told.drop(columns="fold"),
                                           "which fold made the predictions"), (None, "weights were given")])
def test_a_record_that_is_not_known_to_be_out_of_sample_says_so_before_any_number(given, words):
    bars, told = market(60)
    done = backtest(given(told), bars,
                    TradingRule(threshold=0.5)) if given else simulate(pd.DataFrame({"A": 1.0},
                                                                                    index=bars.ts[:60]), bars)
    hold = buy_and_hold(bars, Costs(), start=done.equity.ts.iloc[0], end=done.equity.ts.iloc[-1])
    said = tear_sheet(done, hold, bars, pd.DataFrame({"chosen": done.returns}), "chosen", 365).verdict
    assert said["headline"].startswith("Not known to be out of sample") and words in said["sentences"][0]
    assert not any(c.isdigit() for c in said["sentences"][0])
    assert said["better_than_luck"] is None and said["better_than_holding"] is None


def test_a_month_is_enough():
    sheet, done, bars = made(rows=31)
    assert "equity" in tear_sheet_charts(sheet, done, bars, 365) and sheet.figures["window"] == 10


def test_confidence_is_one_less_the_p_value():
    asked = confidence({"psr": 0.9, "dsr": 0.4, "dsr_raw": 0.2, "psr_hedged": None, "dsr_hedged": None,
                        "null_p_value": 0.25, "spa_p_value": None})
    assert asked.probability.tolist()[:3] == [0.9, 0.4, 0.2] and asked.probability.iloc[5] == 0.75
    assert asked.probability.isna().sum() == 3


def test_words_mention_what_is_not_neutral():
    assert "0.6" in describe_trading(TradingRule(threshold=0.6))
    assert "no costs" in describe_trading(TradingRule(), Costs(fee_bps=0, slippage_bps=0))
    said = describe_trading(TradingRule("long_short", vol_target=0.15, trailing_stop=0.05),
                            Costs(fill="vwap", delay=3, participation=0.1), "prediction")
    parts = (
        "long or short",
        "predicted return of 0",
        "volatility of 15%",
        "trailing stop of 5.0%",
        "vwap of the bar 3 after",
        "10.0% of a bar's volume",
    )
    assert all(part in said for part in parts)


def test_small_frames_are_made_readable():
    ts = pd.DatetimeIndex(["2020-01-01 14:30", "2020-06-01 13:30", "2020-06-02 13:30"], tz="UTC")
    frame = pd.DataFrame({"symbol": "A", "entry_ts": ts, "exit_ts": [*ts[1:], pd.NaT],
                          "return": [0.0123, -0.5, np.nan], "bars": [1, 20, 3],
                          "pnl": [12.345, -0.00001, 1e6]})
    shown = readable(frame)
    assert list(shown) == ["entry", "exit", "return", "bars", "profit"] and shown.index.name == "symbol"
    assert shown.iloc[0].tolist() == ["2020-01-01", "2020-06-01", "1.23%", "1",
                                      "12.35"] and shown.iloc[2, 1:3].tolist() == ["–", "–"]
    minutes = readable(frame.assign(entry_ts=ts + pd.to_timedelta([0, 1, 2], "min")))
    assert minutes.entry.iloc[1] == "2020-06-01 13:31"
    assert readable(frame.head(0)).empty


def test_each_path_is_a_history_of_its_own():
    bars, told = market()
    paths = pd.concat([told.assign(path=1), told.assign(path=2, probability=1 - told.probability)])
    returns = path_returns(paths, bars, TradingRule())
    assert list(returns) == [1, 2] and returns[1].equals(backtest(told, bars,
                                                                  TradingRule()).returns.rename(1))
    assert not returns[1].equals(returns[2])


def test_trials_that_all_lose_are_not_shown_to_beat_holding():
    worse = np.random.default_rng(0).normal(-0.02, 0.01, (500, 5))
    assert spa_test(worse, 0.0).consistent == 1.0


@pytest.mark.parametrize("splitter", ["purged_kfold", "combinatorial"])
def test_a_record_of_models_that_learnt_from_later_days_says_so(splitter):
    assert "trained on later days" in split_caveats({"folds": 5, "embargo": 5, "splitter": splitter})[0]


@pytest.mark.parametrize("split", [{}, {"splitter": "rolling"}, {"splitter": "3ME"}])
def test_models_that_learnt_from_earlier_days_need_no_word(split):
    assert split_caveats(split) == []
