"""The dataset: alignment, scale, the hash, and every leak that is refused."""

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.features.spec import parse
from mlfin.features.table import compute_features
from mlfin.models.dataset import CHANGE, build_dataset, input_names, model_inputs
from mlfin.models.labels import compute_labels
from mlfin.models.splits import WalkForward

SPECS = ("rsi_14 macd_12_26_9 mom_14 sma_20 ema_50 bbands_20_2 atr_14 historical_vol_21 returns log_returns "
         "volume_ma_20 obv").split()


def walk(symbol: str, size: int, seed: int) -> pd.DataFrame:
    """Daily bars of one symbol."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, size)))
    opened = close * np.exp(rng.normal(0, 0.003, size))
    ts = pd.date_range(end="2021-12-31", periods=size, freq="D", tz="UTC").as_unit("us")
    return pd.DataFrame(dict(
        symbol=symbol, timeframe="1d", ts=ts, known_at=ts + pd.Timedelta("7h"), open=opened,
        high=np.maximum(opened, close) * 1.002, low=np.minimum(opened, close) * 0.998, close=close,
        volume=rng.integers(1_000, 9_000, size).astype(float)))


@pytest.fixture
def bars():
    """Two symbols, one young."""
    return pd.concat([walk("AAA", 300, 1), walk("BBB", 120, 2)], ignore_index=True)


@pytest.fixture
def parts(bars):
    """Features, labels and bars."""
    return compute_features(bars, SPECS), compute_labels(bars, "fwd_ret_5"), bars


def build(features, labels, bars, specs=SPECS):
    return build_dataset(features, labels, bars, specs)


def test_rows_are_aligned(parts):
    features, labels, bars = parts
    d = build(*parts)
    at = dict(zip(zip(features.symbol, features.ts, strict=True), range(len(features)), strict=True))
    rows = [at[k] for k in zip(d.keys.symbol, d.keys.ts, strict=True)]
    np.testing.assert_array_equal(d.X["rsi_14"], features["rsi_14"].iloc[rows])
    np.testing.assert_array_equal(d.X["ema_50/close"], (features["ema_50"] / bars["close"] - 1).iloc[rows])
    expected = labels.set_index(["symbol", "ts"]).loc[list(zip(d.keys.symbol, d.keys.ts, strict=True))]
    np.testing.assert_array_equal(d.forward_return, expected["fwd_ret_5"])
    np.testing.assert_array_equal(d.y, expected["fwd_ret_5_direction"])
    assert d.y.dtype == np.int8 and (d.X.dtypes == np.float64).all() and np.isfinite(d.X).all(axis=None)
    assert (d.spans["t0"] >= d.keys["known_at"]).all() and d.label == "fwd_ret_5"
    for part in (d.X, d.y, d.forward_return, d.keys, d.spans):
        assert part.index.equals(pd.RangeIndex(len(d)))


def test_every_row_left_out_is_counted_once(parts):
    d = build(*parts)
    assert len(d) + d.dropped["rows"].sum() == len(parts[0])
    assert d.dropped.set_index("reason")["rows"].to_dict() == {
        "no label: its outcome lies beyond the data": 12, "warm-up: NaN in ema_50/close": 98}


def test_names_of_inputs(parts):
    assert build(*parts).names == (
        "rsi_14", "macd_12_26_9/close", "macd_signal_12_26_9/close", "macd_hist_12_26_9/close", "mom_14/close",
        "sma_20/close", "ema_50/close", "bbands_lower_20_2/close", "bbands_middle_20_2/close",
        "bbands_upper_20_2/close", "atr_14/close", "historical_vol_21",
        "returns", "log_returns", "volume/volume_ma_20", "obv_change_20/volume")
    assert input_names(parse("obv")) == (f"obv_change_{CHANGE}/volume",)


def test_it_splits(parts):
    d = build(*parts)
    folds = WalkForward(3, 5).split(d.spans)
    assert all(d.spans["t1"].iloc[f.train].max() < d.spans["ts"].iloc[f.test].min() for f in folds)


def test_scale_does_not_matter(bars):
    prices = ["open", "high", "low", "close"]
    larger = bars.assign(**{c: bars[c] * 1024.0 for c in prices}, volume=bars["volume"] * 65536.0)
    a = model_inputs(compute_features(bars, SPECS), bars, SPECS)
    b = model_inputs(compute_features(larger, SPECS), larger, SPECS)
    pd.testing.assert_frame_equal(a, b, rtol=1e-9)


@pytest.mark.parametrize("size", [1, 2, 19, 20, 21, 22, 40, 299])
def test_inputs_do_not_look_ahead(bars, size):
    whole = model_inputs(compute_features(bars, SPECS, short="nan"), bars, SPECS)[:size]
    cut = bars[:size]
    alone = model_inputs(compute_features(cut, SPECS, short="nan"), cut, SPECS)
    pd.testing.assert_frame_equal(alone, whole, check_exact=True)


def test_inputs_of_symbols_do_not_touch(bars):
    whole = model_inputs(compute_features(bars, SPECS), bars, SPECS)
    part = bars[300:].reset_index(drop=True)
    alone = model_inputs(compute_features(part, SPECS), part, SPECS)
    pd.testing.assert_frame_equal(alone, whole[300:].reset_index(drop=True), check_exact=True)


def test_hash_names_content(parts):
    features, labels, bars = parts
    one = build(*parts)
    assert build(*parts).hash == one.hash
    assert build(features, labels.sample(frac=1, random_state=1), bars).hash == one.hash
    changed = features.copy()
    changed.loc[200, "rsi_14"] = np.nextafter(changed.loc[200, "rsi_14"], 100)
    assert build(changed, labels, bars).hash != one.hash
    assert build(features, compute_labels(bars, "fwd_ret_4"), bars).hash != one.hash
    assert build(*parts, specs=SPECS[::-1]).hash != one.hash


def test_zero_volume(bars):
    bars = bars.assign(volume=bars["volume"].where((bars.index < 100) | (bars.index > 140), 0.0))
    d = build_dataset(compute_features(bars, ["returns", "obv"]), compute_labels(bars), bars, ["returns", "obv"])
    reasons = d.dropped.set_index("reason")["rows"]
    assert reasons["NaN in obv_change_20/volume"] == 41 - 19
    none = bars.assign(volume=0.0)
    with pytest.raises(DataError, match="obv_change_20/volume.*at least one value"):
        build_dataset(compute_features(none, ["obv"]), compute_labels(none), none, ["obv"])


def test_constant_inputs_and_lost_symbols_are_noted(bars):
    flat = bars.assign(close=100.0, high=100.0, low=100.0)
    with pytest.warns(UserWarning, match="returns is constant"):
        specs = ["returns", "volume_ma_20"]
        d = build_dataset(compute_features(flat, specs), compute_labels(flat), flat, specs)
    assert "note: returns is constant" in d.dropped["reason"].tolist()
    with pytest.warns(UserWarning, match="no row left of BBB"):
        d = build_dataset(compute_features(bars, ["sma_200"]), compute_labels(bars), bars, ["sma_200"])
    assert len(d) + d.dropped["rows"].sum() == len(bars)


def put(frame, row, column, value):
    frame = frame.copy()
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize("change, says", [
    (lambda f, y, b: (f.assign(fwd_ret_5=1.0), y, b), "without labels, got .'fwd_ret_5'"),
    (lambda f, y, b: (f.assign(fwd_ret_20_direction=1), y, b), "without labels"),
    (lambda f, y, b: (f.assign(known_at=f["known_at"] + pd.Timedelta("20h")), y, b), "known when the label begins"),
    (lambda f, y, b: (put(f, 5, "known_at", pd.NaT), y, b), "known when the label begins"),
    (lambda f, y, b: (pd.concat([f, f[-1:]], ignore_index=True), y, b), "twice the same key"),
    (lambda f, y, b: (f, pd.concat([y, y[:1]], ignore_index=True), b), "`labels`.*once, got 'AAA 1d"),
    (lambda f, y, b: (put(f, 150, "rsi_14", np.inf), y, b), "`rsi_14` must be finite or NaN"),
    (lambda f, y, b: (put(f, 150, "sma_20", -np.inf), y, b), "`sma_20/close` must be finite"),
    (lambda f, y, b: (f.assign(rsi_14=np.nan), y, b), "`rsi_14` must be a feature with at least one value"),
    (lambda f, y, b: (f.drop(columns="atr_14"), y, b), "the column atr_14"),
    (lambda f, y, b: (f, y, b[:-1]), "row by row"),
    (lambda f, y, b: (f, y, b.assign(ts=b["ts"] + pd.Timedelta("1D"))), "row by row"),
    (lambda f, y, b: (f, y, b.drop(columns="close")), "the column close"),
    (lambda f, y, b: (f, y.drop(columns=["t0"]), b), "no t0"),
    (lambda f, y, b: (f, y.drop(columns=["fwd_ret_5_direction"]), b), "one label and its direction"),
    (lambda f, y, b: (f, y.assign(fwd_ret_3=0.0, fwd_ret_3_direction=0), b), "one label and its direction"),
    (lambda f, y, b: (f, y.assign(symbol="Z" + y["symbol"]), b), "no common row"),
    (lambda f, y, b: (f, y.assign(fwd_ret_5=np.nan), b), "fwd_ret_5"),
    (lambda f, y, b: (f, put(y, 200, "fwd_ret_5", np.nan), b), "`fwd_ret_5` must be without NaN"),
    (lambda f, y, b: (f[:0], y, b[:0]), "at least one row"),
])
def test_refused(parts, change, says):
    with pytest.raises(DataError, match=f"(?s){says}"):
        build(*change(*parts))


@pytest.mark.parametrize("times, plus", [(1.0, 0.0), (-100.0, 50.0)])
def test_a_label_under_another_name(parts, times, plus):
    features, labels, bars = parts
    joined = features.merge(labels, how="left", on=["symbol", "timeframe", "ts"])
    features = features.assign(rsi_14=joined["fwd_ret_5"].fillna(0) * times + plus)
    with pytest.raises(DataError, match="`rsi_14` must be a feature known before the label .*'a correlation of"):
        build(features, labels, bars)


def test_rows_without_an_outcome_are_pending_and_nowhere_else(parts):
    features, labels, bars = parts
    dataset = build(*parts)
    horizon = int(dataset.label.rsplit("_", 1)[1])
    tails = features.groupby("symbol").tail(horizon + 1)[["symbol", "ts"]].reset_index(drop=True)
    assert dataset.pending[["symbol", "ts"]].equals(tails) and list(dataset.pending) == [*dataset.keys, *dataset.names]
    assert not dataset.pending.merge(dataset.keys, on=["symbol", "ts"]).size
    assert np.isfinite(dataset.pending[list(dataset.names)].to_numpy()).all()
    some = labels.drop(labels.index[100:110])  # no label in the middle: nothing to decide on there
    assert build(features, some, bars).pending.equals(dataset.pending)
