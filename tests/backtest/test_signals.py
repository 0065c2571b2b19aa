"""Weights: shares, gaps, every kind of signal, limits, no look into the future, bad input."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlfin.backtest as package
from mlfin.backtest.signals import decide, decide_rows, hold_equally, positions_from_predictions
from mlfin.backtest.score_panel import lay_out, price_panel
from mlfin.backtest.trading_rule import RULES, TradingRule
from mlfin.core.errors import BacktestError, ParameterError
from mlfin.core.kernels import compiled

TS = pd.date_range("2024-01-01", periods=12, freq="D", tz="UTC", unit="us")


def bars_of(**rows):
    """Bars at the given rows of the clock, by symbol."""
    frames = [pd.DataFrame(dict(symbol=s, timeframe="1d", ts=TS[list(r)], open=10.0, close=10.0))
              for s, r in rows.items()]
    return pd.concat(frames, ignore_index=True)


def always(bars, p=0.7, until=11):
    return bars.loc[bars.ts < TS[until], ["symbol", "ts"]].assign(probability=p)


def test_shares_follow_who_takes_part():
    bars = bars_of(A=range(12), B=range(4, 12))
    w = positions_from_predictions(always(bars), bars)
    assert list(w.index) == list(TS) and list(w.columns) == ["A", "B"]
    assert list(w["A"]) == [1.0] * 4 + [0.5] * 7 + [0.0] and list(w["B"]) == [0.0] * 4 + [0.5] * 7 + [0.0]


def test_a_missing_bar_keeps_the_last_decision_then_lets_go():
    bars = bars_of(A=range(12), B=[0, 1, 10, 11])
    w = positions_from_predictions(always(bars), bars, stale=3)
    assert list(w["B"]) == [.5] * 5 + [0.0] * 5 + [.5, 0.0]
    assert list(w["A"]) == [.5] * 5 + [1.0] * 5 + [.5, 0.0]
    assert positions_from_predictions(always(bars), bars, stale=0)["A"].iloc[2] == 1.0


def test_no_prediction_and_nan_are_flat():
    bars = bars_of(A=range(12))
    p = always(bars)
    p.loc[3, "probability"] = np.nan
    assert list(positions_from_predictions(p.drop(5), bars)["A"]) == [1, 1, 1, 0, 1, 0, 1, 1, 1, 1, 1, 0]


def test_thresholds_are_strict():
    bars = bars_of(A=range(12))
    assert positions_from_predictions(always(bars, 0.5), bars)["A"].sum() == 0
    assert positions_from_predictions(always(bars, 0.5), bars,
                                      TradingRule("long_short"))["A"].abs().sum() == 0
    assert positions_from_predictions(always(bars, 0.35), bars,
                                      TradingRule("long_short", 0.6))["A"].min() == -1
    assert positions_from_predictions(always(bars, 0.45), bars,
                                      TradingRule("long_short", 0.6))["A"].abs().sum() == 0


def test_the_last_row_is_flat_unless_there_is_no_bar_left():
    bars = bars_of(A=range(12))
    assert len(positions_from_predictions(always(bars, until=6), bars)) == 7
    full = positions_from_predictions(bars[["symbol", "ts"]].assign(probability=1.0), bars)
    assert len(full) == 12 and full["A"].iloc[-1] == 1.0


def market(seed, rows=40, symbols="ABCDE", gaps=0.25, step=0.02):
    """(bars, probabilities, meta): random walks with holes, scores on a coarse grid so that some are equal,
    some missing."""
    rng = np.random.default_rng(seed)
    ts = pd.date_range("2024-01-01", periods=rows, freq="D", tz="UTC", unit="us")
    parts = []
    for symbol in symbols:
        at = np.flatnonzero(rng.random(rows) > gaps) if symbol != "A" else np.arange(rows)
        close = 50 * np.exp(np.cumsum(rng.normal(0, step, len(at))))
        parts.append((at, close))
    at, close = (np.concatenate(x) for x in zip(*parts, strict=True))
    names = np.repeat(list(symbols), [len(a) for a, _ in parts])
    bars = pd.DataFrame(dict(symbol=names, timeframe="1d", ts=ts[at], open=close, close=close))
    scores = bars[["symbol", "ts"]].assign(probability=rng.integers(0, 21, len(bars)) / 20)
    meta = scores.assign(probability=rng.random(len(bars)))
    return bars, scores[rng.random(len(bars)) > 0.05], meta[rng.random(len(bars)) > 0.05]


RULE = st.builds(dict, kind=st.sampled_from(RULES),
                 signal=st.sampled_from(["threshold", "quantile", "proportional"]),
                 quantile=st.sampled_from([0.2, 0.34, 0.4]), hysteresis=st.sampled_from([0.0, 0.07, 0.1]),
                 min_hold=st.sampled_from([0, 2, 5]), vol_target=st.sampled_from([None, 0.05, 0.3]),
                 vol_lookback=st.sampled_from([2, 6]),
                 leverage=st.sampled_from([0.5, 1.0, 2.5]), max_weight=st.sampled_from([None, 0.15]),
                 reach=st.sampled_from([None, 0.2]))


def rule_of(fields, threshold=None):
    return TradingRule(**fields, threshold=None if fields["signal"] == "quantile" else threshold)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 38), RULE, st.integers(0, 6))
def test_the_future_never_changes_the_past(seed, cut, fields, stale):
    (bars, p, meta), rule = market(seed), rule_of(fields)
    now = sorted(bars.ts.unique())[cut]
    decide_on = lambda known: positions_from_predictions(p[p.ts <= known], bars[bars.ts <= known], rule,
                                                         stale=stale,  # noqa: E731
                                                         meta=meta[meta.ts <= known], meta_threshold=0.3)
    if not (p.ts <= now).any() or (set(bars.symbol[bars.ts <= now]) != set("ABCDE")): return
    whole = positions_from_predictions(p, bars, rule, stale=stale, meta=meta, meta_threshold=0.3)
    past = decide_on(now)
    pd.testing.assert_frame_equal(whole.loc[:now].iloc[:len(past)], past.loc[:now])
    shifted = bars.assign(open=bars.open.where(bars.ts <= now, 99.0),
                          close=bars.close.where(bars.ts <= now, 1.0))
    other = positions_from_predictions(p.assign(probability=p.probability.where(p.ts <= now,
                                                                                1 - p.probability)), shifted,
                                       rule,
                                       stale=stale, meta=meta, meta_threshold=0.3)
    pd.testing.assert_frame_equal(whole.loc[:now], other.loc[:now])
    again = positions_from_predictions(p.sample(frac=1, random_state=1), bars.sample(frac=1, random_state=2),
                                       rule, stale=stale,
                                       meta=meta.sample(frac=1, random_state=3), meta_threshold=0.3)
    pd.testing.assert_frame_equal(whole, again)


def one_by_one(p, bars, rule, meta, meta_threshold, stale):
    """The rules as the notebook's sentences say them, bar by bar and in dictionaries."""
    clock, symbols = sorted(bars.ts.unique()), sorted(bars.symbol.unique())
    closes = bars.set_index(["ts", "symbol"]).close.to_dict()
    said, agreed = (f.set_index(["ts", "symbol"]).probability.to_dict() for f in (p, meta))
    first, last = clock.index(p.ts.min()), clock.index(p.ts.max())
    side, age, size, silent, out = {}, {}, {}, {}, []
    for k, now in enumerate(clock[:last + 2]):
        for s in symbols: silent[s] = 0 if (now, s) in closes else silent.get(s, 10**6) + 1
        if k < first: continue
        scored = {s: said[now, s] for s in symbols if (now, s) in said and not np.isnan(said[now, s])}
        rank = lambda s, sign, of=scored: sum(sign * x >= sign * of[s] for x in of.values())  # noqa: E731
        for s in symbols:
            was = side.get(s, 0)
            if silent[s] > stale: side[s] = 0
            if silent[s]: continue
            age[s] = age.get(s, 0) + 1
            wanted = 0
            if s in scored:
                x, t, h = scored[s], 0.5 if rule.threshold is None else rule.threshold, rule.hysteresis
                if rule.signal == "quantile":
                    n, low = len(scored), int(rule.quantile * len(scored) + 1e-9)
                    far = int((rule.quantile + h) * n + 1e-9)
                    ups, downs = (rank(s, 1) <= low,
                                  rank(s, 1) <= far), (rank(s, -1) <= low, rank(s, -1) <= far)
                else: ups, downs = (x > t, x > t - h), (x < 1 - t, x < 1 - t + h)
                ok = agreed.get((now, s), 0) > meta_threshold
                ups = [ok and rule.kind != "short_flat" and u for u in ups]
                downs = [ok and rule.kind != "long_flat" and d for d in downs]
                if was and age[s] < rule.min_hold or was > 0 and ups[1] or was < 0 and downs[1]: wanted = was
                else: wanted = 1 if ups[0] else -1 if downs[0] else 0
                if wanted * (x - 0.5) > 0: size[s] = min(abs(x - 0.5) / (rule.reach or 0.5), 1.0)
            if wanted != was: age[s] = 0
            side[s] = wanted
        alive = [s for s in symbols if silent[s] <= stale]
        n = {1: sum(v > 0 for v in side.values()), -1: sum(v < 0 for v in side.values())}
        w = dict.fromkeys(symbols, 0.0)
        for s in alive:
            if not side.get(s): continue
            if rule.signal == "quantile":
                w[s] = side[s] * rule.leverage * (0.5 if rule.kind == "long_short" else 1) / n[side[s]]
            else:
                w[s] = side[s] * rule.leverage / len(alive) * (size[s] if rule.signal == "proportional"
                                                               else 1)
        out.append(w)
    return pd.DataFrame(out, index=pd.DatetimeIndex(clock[first:last + 2], name="ts"), columns=symbols)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), RULE, st.integers(0, 6), st.sampled_from([None, 0.5, 0.6]))
def test_every_rule_does_what_its_sentences_say(seed, fields, stale, threshold):
    (bars, p, meta), rule = market(seed), rule_of(fields | {"vol_target": None, "max_weight": None},
                                                  threshold)
    got = positions_from_predictions(p, bars, rule, stale=stale, meta=meta, meta_threshold=0.3)
    expected = one_by_one(p, bars, rule, meta, 0.3, stale)
    pd.testing.assert_frame_equal(got, expected, check_names=False, check_freq=False, check_column_type=False,
                                  rtol=1e-12)
    assert got.abs().sum(axis=1).max() <= rule.leverage * (1 + 1e-12)
    capped = positions_from_predictions(p, bars, replace(rule, max_weight=0.15), stale=stale, meta=meta,
                                        meta_threshold=0.3)
    np.testing.assert_array_equal(capped, got.clip(-0.15, 0.15))


@pytest.mark.parametrize("kind", ["long_flat", "long_short"])
@pytest.mark.parametrize("seed", range(4))
def test_a_threshold_alone_is_one_nth_each_to_the_last_bit(kind, seed):
    bars, p, _ = market(seed)
    wide, has_bar = p.pivot(index="ts", columns="symbol", values="probability"), price_panel(bars)[0].notna()
    wide = wide.reindex(index=has_bar.index[has_bar.index >= p.ts.min()])
    signal = (wide > 0.55).astype(float) - ((wide < 1 - 0.55).astype(float) if kind == "long_short" else 0.0)
    signal = signal.where(has_bar.loc[wide.index]).ffill(limit=5).fillna(0.0)
    alive = has_bar.where(has_bar).astype(float).ffill(limit=5).notna().loc[wide.index]
    expected = signal.where(alive, 0.0).div(alive.sum(axis=1), axis=0)
    got = positions_from_predictions(p, bars, TradingRule(kind, 0.55))
    assert (got == expected.loc[got.index]).all(axis=None)
    assert len(expected) - len(got) in (0, (wide.index > p.ts.max()).sum() - 1)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), RULE, st.sampled_from([0.02, 0.1, 0.4]))
def test_the_last_returns_would_have_had_the_volatility_aimed_at(seed, fields, target):
    bars, p, _ = market(seed, gaps=0.1)
    rule = rule_of(fields | {"vol_target": target, "max_weight": None})
    w = positions_from_predictions(p, bars, rule, calendar="24/7")
    plain = positions_from_predictions(p, bars, replace(rule, vol_target=None))
    closes = price_panel(bars)[1].ffill()
    past = closes / closes.shift() - 1
    for now, row in w.iterrows():
        window = past.loc[:now].iloc[-rule.vol_lookback:]
        old = window.notna().all() & (len(window) == rule.vol_lookback)
        base = plain.loc[now].where(old, 0.0)
        assert ((row == 0) == (base == 0)).all() and row.abs().sum() <= rule.leverage * (1 + 1e-12)
        if not base.any(): continue
        np.testing.assert_allclose(row / row.abs().sum(), base / base.abs().sum(), rtol=1e-9)
        a_year = np.sqrt(365) * (window.fillna(0.0) @ row).std()
        assert a_year == pytest.approx(target, rel=1e-9) or (a_year < target
                                                             and row.abs().sum()
                                                             == pytest.approx(rule.leverage))


def test_volatility_a_year_counts_the_bars_of_the_market():
    bars, p, _ = market(3, symbols="A")
    rule = TradingRule(vol_target=0.1, leverage=100.0)
    daily = positions_from_predictions(p, bars, rule, calendar="XNYS")
    np.testing.assert_allclose(daily, positions_from_predictions(p, bars, rule) * np.sqrt(365 / 252))
    hourly = positions_from_predictions(p, bars.assign(timeframe="1h"), rule)
    np.testing.assert_allclose(hourly, positions_from_predictions(p, bars, rule) / np.sqrt(24))
    with pytest.raises(BacktestError, match="column `timeframe`"):
        positions_from_predictions(p, bars.drop(columns="timeframe"), rule)
    flat = bars.assign(open=10.0, close=10.0)
    assert set(positions_from_predictions(p, flat, rule)["A"]) == {0.0, 100.0}


@pytest.mark.parametrize("kind", RULES)
def test_a_position_is_kept_for_its_least_time(kind):
    bars, p, _ = market(11, rows=300, symbols="A")
    p = p.drop_duplicates("ts").set_index("ts").reindex(sorted(bars.ts)).ffill().reset_index()
    side = np.sign(positions_from_predictions(p, bars, TradingRule(kind, 0.6, min_hold=4))["A"].to_numpy())
    runs = np.flatnonzero(np.diff(side)) + 1
    lengths, held = np.diff(runs), side[runs[:-1]] != 0
    assert lengths[held].min() == 4 and (lengths[~held] < 4).any()
    usual = np.sign(positions_from_predictions(p, bars, TradingRule(kind, 0.6))["A"].to_numpy())
    assert np.diff(np.flatnonzero(np.diff(usual))).min() == 1


def test_hysteresis_waits_at_the_way_out_only():
    bars = bars_of(A=range(12))
    p = always(bars).assign(probability=[.55, .62, .58, .56, .54, .58, .61, .40, .36, .45, .52])
    w = positions_from_predictions(p, bars, TradingRule("long_short", 0.6, hysteresis=0.05))["A"]
    assert list(w) == [0, 1, 1, 1, 0, 0, 1, 0, -1, 0, 0, 0]


def test_equal_scores_at_the_border_are_left_out():
    bars = bars_of(**{s: range(12) for s in "ABCDEF"})
    p = bars[["symbol", "ts"]].assign(probability=bars.symbol.map(dict(A=.9, B=.7, C=.7, D=.4, E=.3, F=.1)))
    w = positions_from_predictions(p, bars, TradingRule("long_short", signal="quantile",
                                                        quantile=1 / 3)).iloc[0]
    assert w.to_dict() == {"A": .5, "B": 0, "C": 0, "D": 0, "E": -.25, "F": -.25}
    every = positions_from_predictions(p.assign(probability=0.9), bars,
                                       TradingRule(signal="quantile", quantile=0.5))
    assert (every == 0).all(axis=None)
    assert positions_from_predictions(p, bars, TradingRule(signal="quantile",
                                                           quantile=1.0)).iloc[0].tolist() == [1 / 6] * 6


def test_too_few_symbols_for_a_quantile_are_named():
    bars = bars_of(A=range(12), B=range(12))
    with pytest.raises(BacktestError, match="^`quantile` must be a share of at least one of 2 symbols, got "
                       "0.2"):
        positions_from_predictions(always(bars), bars, TradingRule(signal="quantile"))
    one = bars_of(A=range(12))
    with pytest.raises(BacktestError, match="a single symbol has no best"):
        positions_from_predictions(always(one), one,
                                   TradingRule("long_short", signal="quantile", quantile=0.5))
    late = bars_of(A=range(12), B=range(6, 12))
    w = positions_from_predictions(late[["symbol",
                                         "ts"]].assign(probability=late.symbol.map({"A": .6, "B": .7})), late,
                                   TradingRule(signal="quantile", quantile=0.5))
    assert w["A"].eq(0).all() and list(w["B"]) == [0] * 6 + [1.0] * 6


def test_predicted_returns_have_their_centre_at_nothing():
    bars = bars_of(A=range(12))
    p = always(bars).drop(columns="probability").assign(prediction=[.01, -.02, 0, .04, -.04, .02, .01,
                                                                    np.nan, -.001, .1, -.1])
    assert list(positions_from_predictions(p, bars)["A"]) == [1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 0]
    assert list(positions_from_predictions(p, bars,
                                           TradingRule("long_short",
                                                       0.015))["A"]) == [0, -1, 0, 1, -1, 1, 0, 0, 0, 1, -1,
                                                                         0]
    sized = positions_from_predictions(p, bars, TradingRule("long_short", signal="proportional"))["A"]
    np.testing.assert_allclose(sized, [1, -1, 0, 1, -1, .5, .25, 0, -.025, 1, -1, 0])
    sized = positions_from_predictions(p, bars, TradingRule("long_short", signal="proportional",
                                                            reach=0.05))["A"]
    np.testing.assert_allclose(sized, [.2, -.4, 0, .8, -.8, .4, .2, 0, -.02, 1, -1, 0])
    for rule in (TradingRule("long_short", -0.1), TradingRule(signal="proportional", threshold=-0.1)):
        with pytest.raises(ParameterError, match=r"^`threshold` must be a number, 0 <= t < 1, got -0.1 "
                           r"\(scores in `prediction`\)"):
            positions_from_predictions(p, bars, rule)
    assert positions_from_predictions(p, bars, TradingRule(threshold=-0.03))["A"].sum() == 8


def test_a_rule_says_what_it_means_for_a_kind_of_score():
    assert TradingRule().on("probability") == TradingRule()
    assert TradingRule(threshold=0.5).on("probability") == TradingRule(threshold=0.5)
    assert TradingRule().on("probability", based=False) == TradingRule(threshold=0.5)
    assert TradingRule(excess=0.03).on("probability", based=False) == TradingRule(threshold=0.53)
    for rule in (TradingRule("long_short", excess=-0.1), TradingRule(signal="proportional", excess=-0.1)):
        with pytest.raises(ParameterError, match="`excess` must be 0 <= e < 1"): rule.on("probability")
    with pytest.raises(ParameterError, match="`excess` must be 0 for predicted returns"):
        TradingRule(excess=0.1).on("prediction")
    assert TradingRule().on("prediction").threshold == 0.0
    assert TradingRule(signal="quantile").on("prediction").threshold is None
    with pytest.raises(ParameterError, match="did you mean `probability`"): TradingRule().on("probabilty")


def test_without_a_threshold_a_probability_is_held_against_the_base_rate_of_its_fold():
    bars = bars_of(A=range(12))
    rates = [.3] * 6 + [.6] * 5
    p = always(bars).assign(fold=[1] * 6 + [2] * 5, baseline=rates,
                            probability=[.29, .3, .31, .5, .7, .2, .59, .6, .61, .7, .2])
    assert list(positions_from_predictions(p, bars)["A"]) == [0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 0, 0]
    assert list(positions_from_predictions(p, bars,
                                           TradingRule(excess=0.15))["A"]) == [0, 0, 0, 1, 1, 0, 0, 0, 0, 0,
                                                                               0, 0]
    assert list(positions_from_predictions(p, bars,
                                           TradingRule("long_short"))["A"]) == [-1, 0, 1, 1, 1, -1, -1, 0, 1,
                                                                                1, -1, 0]
    assert list(positions_from_predictions(p, bars,
                                           TradingRule(threshold=0.5))["A"]) == [0, 0, 0, 0, 1, 0, 1, 1, 1, 1,
                                                                                 0, 0]
    sized = positions_from_predictions(p, bars, TradingRule(signal="proportional"))["A"]
    np.testing.assert_allclose(sized, [0, 0, .02, .4, .8, 0, 0, 0, .02, .2, 0, 0], atol=1e-12)
    assert positions_from_predictions(p.drop(columns="baseline"),
                                      bars).equals(positions_from_predictions(p, bars,
                                                                              TradingRule(threshold=0.5)))


@pytest.mark.parametrize("rate", [np.nan, -0.1, 1.1])
def test_a_base_rate_is_a_share_beside_every_probability(rate):
    bars = bars_of(A=range(12))
    with pytest.raises(BacktestError, match="`baseline` must be the base rate"):
        positions_from_predictions(always(bars).assign(baseline=[rate] + [.5] * 10), bars)


@pytest.mark.parametrize("train, test", [((0, 10), (0, 10)), ((2, 8), (0, 10)), ((0, 4), (4, 10)),
                                         ((6, 11), (0, 6)), ((5, 5), (0, 10)), ((0, 10), (0, 4))])
def test_a_fold_that_learnt_from_what_it_foretells_is_refused(train, test):
    bars = bars_of(A=range(12))
    names = ("train_start", "train_end", "test_start", "test_end")
    p = always(bars).assign(fold=1, **{n: TS[at] for n, at in zip(names, (*train, *test), strict=True)})
    with pytest.raises(BacktestError, match="made after training"): positions_from_predictions(p, bars)


def test_a_fold_whose_test_part_was_cut_out_of_its_training_is_not():
    bars = bars_of(A=range(12))
    p = always(bars).iloc[4:7].assign(fold=1, train_start=TS[0], train_end=TS[11], test_start=TS[4],
                                      test_end=TS[6])
    assert positions_from_predictions(p, bars)["A"].sum() == 3 and lay_out(p, bars).out_of_sample
    assert not lay_out(p.drop(columns="fold"), bars).out_of_sample


def test_the_meta_model_has_the_last_word():
    bars = bars_of(A=range(12))
    meta = always(bars, 0.9).assign(probability=[.9, .9, .4, .9, .5, .9, .9, .9, np.nan, .9, .9]).drop(10)
    assert list(positions_from_predictions(always(bars), bars,
                                           meta=meta)["A"]) == [1, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 0]
    kept = positions_from_predictions(always(bars), bars, TradingRule(min_hold=3), meta=meta)["A"]
    assert list(kept) == [1, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 0]


@pytest.mark.parametrize("spoil, message", [
    (lambda m: m.drop(columns="probability"), "`meta` must be a frame with a column `probability`"),
    (lambda m: m.assign(probability=2.0), r"between 0 and 1, got 2.0 \(meta\)"),
    (lambda m: pd.concat([m, m]), "`meta` must be unique"),
    (lambda m: m.assign(symbol="Z"), "`meta` must be made at bars that exist"),
    (lambda m: m.iloc[:0], "`meta` must be at least one row"),
    (lambda m: m.assign(model=["a"] * 5 + ["b"] * 6), "`meta` must be of one model"),
    (lambda m: m.assign(train_end=TS[3]), "after training"),
])
def test_bad_meta_predictions_are_named(spoil, message):
    bars = bars_of(A=range(12))
    with pytest.raises(BacktestError, match=message):
        positions_from_predictions(always(bars), bars, meta=spoil(always(bars)))


def test_predictions_of_training_rows_are_refused():
    bars = bars_of(A=range(12))
    p = always(bars)
    fine = p.assign(fold=1, train_start=TS[0] - pd.Timedelta(days=9), train_end=TS[0] - pd.Timedelta(days=1))
    positions_from_predictions(fine, bars)
    with pytest.raises(BacktestError,
                       match="made after training, which ended at 2024-01-03.*got '2024-01-01"):
        positions_from_predictions(fine.assign(train_end=TS[2]), bars)
    around = p.assign(train_start=TS[0] - pd.Timedelta(days=9), train_end=TS[11] + pd.Timedelta(days=9),
                      test_start=TS[0], test_end=TS[10])
    positions_from_predictions(around, bars)
    with pytest.raises(BacktestError, match="only what it has not seen"):
        positions_from_predictions(around.assign(test_end=TS[9]), bars)
    with pytest.raises(BacktestError, match="each with its fold"):
        positions_from_predictions(p.assign(fold=[1.0] * 10 + [np.nan]), bars)
    # trained later than it is asked
    early = p.assign(train_start=TS[11], train_end=TS[11] + pd.Timedelta(days=9))
    positions_from_predictions(early, bars)


def test_the_table_of_folds_says_which_rows_were_learnt():
    from mlfin.validation.splits import WalkForward, describe_folds
    bars = bars_of(A=range(12))
    labels = pd.DataFrame(dict(ts=TS, t0=TS + pd.Timedelta(hours=1), t1=TS + pd.Timedelta(hours=2)))
    folds = list(WalkForward(2, embargo=0).split(labels))
    made = pd.concat([bars.iloc[f.test][["symbol", "ts"]].assign(fold=f.number, probability=0.7)
                      for f in folds])
    with_borders = made[made.ts < TS[11]].merge(describe_folds(folds), on="fold")
    assert len(positions_from_predictions(with_borders, bars)) > 2
    learnt = with_borders.assign(ts=with_borders.ts - (with_borders.ts.min() - TS[0]))
    with pytest.raises(BacktestError, match="made after training"): positions_from_predictions(learnt, bars)


def test_a_rule_is_compiled_once_whatever_the_arrays_are_like():
    bars, p, _ = market(5)
    scores = lay_out(p, bars)
    names = ("score", "has_bar", "alive", "allowed", "returns")

    def closed(x):
        x = x.copy()
        x.flags.writeable = False
        return x
    ways = [np.asfortranarray, np.array, closed, lambda x: np.repeat(x, 2, axis=1)[:, ::2]]
    want = decide(scores, TradingRule())
    for way in ways:
        np.testing.assert_array_equal(decide(replace(scores, **{n: way(getattr(scores, n)) for n in names}),
                                             TradingRule()), want)
    assert len(compiled(decide_rows).signatures) == 1


def test_one_table_serves_many_rules():
    bars, p, meta = market(5)
    scores = lay_out(p, bars, meta=meta)
    for rule in (TradingRule(), TradingRule("long_short", signal="quantile"), TradingRule(vol_target=0.1)):
        np.testing.assert_array_equal(decide(scores, rule),
                                      positions_from_predictions(p, bars, rule, meta=meta))


@pytest.mark.parametrize("kwargs, field", [
    (dict(threshold=0.0), "threshold"), (dict(threshold=1.0), "threshold"), (dict(threshold=-1), "threshold"),
    (dict(threshold=float("nan")), "threshold"), (dict(threshold="0.5"), "threshold"),
    (dict(threshold=True), "threshold"),
    (dict(kind="long_short", threshold=0.4), "threshold"),
    (dict(signal="proportional", threshold=0.4), "threshold"),
    (dict(signal="quantile", threshold=0.5), "threshold"), (dict(kind="short"), "rule"),
    (dict(signal="rank"), "signal"),
    (dict(quantile=0), "quantile"), (dict(quantile=1.1), "quantile"), (dict(hysteresis=-0.1), "hysteresis"),
    (dict(kind="long_short", signal="quantile", quantile=0.4, hysteresis=0.2), "quantile"),
    (dict(min_hold=-1), "min_hold"),
    (dict(min_hold=2.0), "min_hold"), (dict(min_hold=None), "min_hold"), (dict(vol_target=0), "vol_target"),
    (dict(vol_target=float("inf")), "vol_target"), (dict(vol_lookback=1), "vol_lookback"),
    (dict(leverage=0), "leverage"),
    (dict(leverage=None), "leverage"), (dict(max_weight=0), "max_weight"), (dict(reach=-1), "reach"),
    (dict(stop_loss=1.0), "stop_loss"), (dict(take_profit=0), "take_profit"),
    (dict(trailing_stop="0.1"), "trailing_stop"),
])
def test_bad_rules_are_named(kwargs, field):
    bars = bars_of(A=range(12))
    with pytest.raises(ParameterError, match=f"^`{field}`"):
        positions_from_predictions(always(bars), bars, TradingRule(**kwargs))


@pytest.mark.parametrize("kwargs, field", [(dict(stale=-1), "stale"), (dict(stale=1.5), "stale"),
                                           (dict(meta_threshold=1.0), "meta_threshold")])
def test_bad_parameters_are_named(kwargs, field):
    bars = bars_of(A=range(12))
    with pytest.raises(ParameterError, match=f"^`{field}`"):
        positions_from_predictions(always(bars), bars, **kwargs)


@pytest.mark.parametrize("spoil, message", [
    (lambda p: p.iloc[:0], "at least one row"), (lambda p: p.drop(columns="probability"),
                                                 "column `probability`"),
    (lambda p: p.drop(columns="ts"), "column `ts`"),
    (lambda p: pd.concat([p, p]), "unique by symbol and ts"),
    (lambda p: p.assign(probability=1.2), "between 0 and 1"),
    (lambda p: p.assign(probability=-np.inf), "between 0 and 1"),
    (lambda p: p.assign(symbol="Z"), "made at bars that exist"),
    (lambda p: p.assign(ts=p.ts + pd.Timedelta(hours=1)), "made at bars that exist"),
    (lambda p: p.assign(model=["a"] * 5 + ["b"] * 6), "of one model"),
    (lambda p: p.assign(prediction=0.1), r"a column `probability` or a column `prediction`, .* \(both\)"),
    (lambda p: p.drop(columns="probability").assign(score=1.0), r"\(neither\)"),
    (lambda p: p.drop(columns="probability").assign(prediction=np.inf), "`prediction` must be finite"),
])
def test_bad_predictions_are_named(spoil, message):
    bars = bars_of(A=range(12))
    with pytest.raises(BacktestError, match=message):
        positions_from_predictions(spoil(always(bars)), bars)


def test_rule_spec_is_plain_and_equal_for_equal_rules():
    assert TradingRule("long_short", 0.5).spec() == {"kind": "long_short", "threshold": 0.5}
    full = TradingRule("long_short", None, "quantile", 0.3, 0.1, 2, 0.15, 63, 2, 1, 0.2, 0.1, 0.2, 0.3).spec()
    assert full == {"kind": "long_short", "threshold": None, "signal": "quantile", "quantile": 0.3,
                    "hysteresis": 0.1,
                    "min_hold": 2.0, "vol_target": 0.15, "vol_lookback": 63.0, "leverage": 2.0,
                    "max_weight": 1.0,
                    "stop_loss": 0.1, "take_profit": 0.2, "trailing_stop": 0.3}
    assert all(v is None or type(v) in (str, float) for v in full.values())
    for same in (dict(quantile=0.4), dict(reach=0.1), dict(vol_lookback=5), dict(min_hold=1),
                 dict(max_weight=1)):
        assert TradingRule(**same).spec() == TradingRule().spec()
    with pytest.raises(AttributeError): TradingRule().threshold = 0.6


def test_holding_is_all_in_from_start_to_end():
    bars = bars_of(A=range(12), B=range(6, 12))
    w = hold_equally(bars, "2024-01-03", TS[7])
    assert list(w.index) == list(TS[2:8]) and (w.sum(axis=1)
                                               == 1).all() and list(w["B"]) == [0] * 4 + [.5] * 2


def test_panel_is_sorted_and_keeps_gaps():
    opens, closes = price_panel(bars_of(B=[3, 1], A=[0, 3]))
    assert list(opens.columns) == ["A", "B"] and opens.index.is_monotonic_increasing
    assert opens.isna().equals(closes.isna()) and opens["B"].isna().tolist() == [True, False, False]


def test_package_is_lazy_and_complete():
    assert package.__all__ == sorted(package.__all__) == dir(package)
    assert all(getattr(package, name).__name__ == name for name in package.__all__)
    assert not hasattr(package, "nothing")
