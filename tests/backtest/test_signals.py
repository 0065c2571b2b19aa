"""Weights: shares, gaps, thresholds, no look into the future, bad input."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlfin.backtest as package
from mlfin.backtest.signals import TradingRule, hold_equally, positions_from_predictions, price_panel
from mlfin.core.errors import BacktestError, ParameterError

TS = pd.date_range("2024-01-01", periods=12, freq="D", tz="UTC", unit="us")


def bars_of(**rows):
    """Bars at the given rows of the clock, by symbol."""
    frames = [pd.DataFrame(dict(symbol=s, timeframe="1d", ts=TS[list(r)], open=10.0, close=10.0)) for s, r in rows.items()]
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
    assert positions_from_predictions(always(bars, 0.5), bars, TradingRule("long_short"))["A"].abs().sum() == 0
    assert positions_from_predictions(always(bars, 0.35), bars, TradingRule("long_short", 0.6))["A"].min() == -1
    assert positions_from_predictions(always(bars, 0.45), bars, TradingRule("long_short", 0.6))["A"].abs().sum() == 0


def test_the_last_row_is_flat_unless_there_is_no_bar_left():
    bars = bars_of(A=range(12))
    assert len(positions_from_predictions(always(bars, until=6), bars)) == 7
    full = positions_from_predictions(bars[["symbol", "ts"]].assign(probability=1.0), bars)
    assert len(full) == 12 and full["A"].iloc[-1] == 1.0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 10), st.sampled_from(["long_flat", "long_short"]), st.integers(0, 6))
def test_the_future_never_changes_the_past(seed, cut, rule, stale):
    rng = np.random.default_rng(seed)
    bars = bars_of(A=range(12), **{s: np.flatnonzero(rng.random(12) > 0.4) for s in "BC"})
    p = bars[["symbol", "ts"]].assign(probability=rng.random(len(bars)))
    whole = positions_from_predictions(p, bars, TradingRule(rule), stale=stale)
    known = bars.ts <= TS[cut]
    past = positions_from_predictions(p[known], bars[known], TradingRule(rule), stale=stale)
    pd.testing.assert_frame_equal(whole.loc[:TS[cut], list(past)], past)
    assert (whole.loc[:TS[cut]].drop(columns=list(past)) == 0).all(axis=None)
    assert whole.abs().sum(axis=1).max() <= 1 + 1e-12 and np.isfinite(whole.to_numpy()).all()
    pd.testing.assert_frame_equal(positions_from_predictions(p.sample(frac=1), bars.sample(frac=1), TradingRule(rule), stale=stale), whole)


@pytest.mark.parametrize("kwargs, field", [
    (dict(threshold=0.0), "threshold"), (dict(threshold=1.0), "threshold"), (dict(threshold=-1), "threshold"),
    (dict(threshold=float("nan")), "threshold"), (dict(threshold="0.5"), "threshold"), (dict(threshold=True), "threshold"),
    (dict(kind="long_short", threshold=0.4), "threshold"), (dict(signal="proportional", threshold=0.4), "threshold"),
    (dict(signal="quantile", threshold=0.5), "threshold"), (dict(kind="short"), "rule"), (dict(signal="rank"), "signal"),
    (dict(quantile=0), "quantile"), (dict(quantile=1.1), "quantile"), (dict(hysteresis=-0.1), "hysteresis"),
    (dict(kind="long_short", signal="quantile", quantile=0.4, hysteresis=0.2), "quantile"), (dict(min_hold=-1), "min_hold"),
    (dict(min_hold=2.0), "min_hold"), (dict(min_hold=None), "min_hold"), (dict(vol_target=0), "vol_target"),
    (dict(vol_target=float("inf")), "vol_target"), (dict(vol_lookback=1), "vol_lookback"), (dict(leverage=0), "leverage"),
    (dict(leverage=None), "leverage"), (dict(max_weight=0), "max_weight"), (dict(reach=-1), "reach"),
    (dict(stop_loss=1.0), "stop_loss"), (dict(take_profit=0), "take_profit"), (dict(trailing_stop="0.1"), "trailing_stop"),
])
def test_bad_rules_are_named(kwargs, field):
    bars = bars_of(A=range(12))
    with pytest.raises(ParameterError, match=f"^`{field}`"):
        positions_from_predictions(always(bars), bars, TradingRule(**kwargs))


@pytest.mark.parametrize("kwargs, field", [(dict(stale=-1), "stale"), (dict(stale=1.5), "stale"), (dict(meta_threshold=1.0), "meta_threshold")])
def test_bad_parameters_are_named(kwargs, field):
    bars = bars_of(A=range(12))
    with pytest.raises(ParameterError, match=f"^`{field}`"):
        positions_from_predictions(always(bars), bars, **kwargs)


@pytest.mark.parametrize("spoil, message", [
    (lambda p: p.iloc[:0], "at least one row"), (lambda p: p.drop(columns="probability"), "column `probability`"),
    (lambda p: pd.concat([p, p]), "unique by symbol and ts"), (lambda p: p.assign(probability=1.2), "between 0 and 1"),
    (lambda p: p.assign(probability=-np.inf), "between 0 and 1"), (lambda p: p.assign(symbol="Z"), "made at bars that exist"),
    (lambda p: p.assign(ts=p.ts + pd.Timedelta(hours=1)), "made at bars that exist"),
    (lambda p: p.assign(model=["a"] * 5 + ["b"] * 6), "of one model"),
])
def test_bad_predictions_are_named(spoil, message):
    bars = bars_of(A=range(12))
    with pytest.raises(BacktestError, match=message):
        positions_from_predictions(spoil(always(bars)), bars)


def test_rule_spec_is_plain_and_equal_for_equal_rules():
    assert TradingRule("long_short", 0.5).spec() == {"kind": "long_short", "threshold": 0.5}
    full = TradingRule("long_short", None, "quantile", 0.3, 0.1, 2, 0.15, 63, 2, 1, 0.2, 0.1, 0.2, 0.3).spec()
    assert full == {"kind": "long_short", "threshold": None, "signal": "quantile", "quantile": 0.3, "hysteresis": 0.1,
                    "min_hold": 2.0, "vol_target": 0.15, "vol_lookback": 63.0, "leverage": 2.0, "max_weight": 1.0,
                    "stop_loss": 0.1, "take_profit": 0.2, "trailing_stop": 0.3}
    assert all(v is None or type(v) in (str, float) for v in full.values())
    for same in (dict(quantile=0.4), dict(reach=0.1), dict(vol_lookback=5), dict(min_hold=1), dict(max_weight=1)):
        assert TradingRule(**same).spec() == TradingRule().spec()
    with pytest.raises(AttributeError): TradingRule().threshold = 0.6


def test_holding_is_all_in_from_start_to_end():
    bars = bars_of(A=range(12), B=range(6, 12))
    w = hold_equally(bars, "2024-01-03", TS[7])
    assert list(w.index) == list(TS[2:8]) and (w.sum(axis=1) == 1).all() and list(w["B"]) == [0] * 4 + [.5] * 2


def test_panel_is_sorted_and_keeps_gaps():
    opens, closes = price_panel(bars_of(B=[3, 1], A=[0, 3]))
    assert list(opens.columns) == ["A", "B"] and opens.index.is_monotonic_increasing
    assert opens.isna().equals(closes.isna()) and opens["B"].isna().tolist() == [True, False, False]


def test_package_is_lazy_and_complete():
    assert package.__all__ == sorted(package.__all__) == dir(package)
    assert all(getattr(package, name).__name__ == name for name in package.__all__)
    assert not hasattr(package, "nothing")
