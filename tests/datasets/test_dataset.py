"""The dataset: alignment, scale, the hash, and every leak that is refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.features.spec import definitions, parse
from mlfin.features.bar_keys import KEYS
from mlfin.features.table import compute_features
from mlfin.datasets.builder import build_dataset
from mlfin.datasets.dataset import Dataset, content_hash
from mlfin.datasets.inputs import CHANGE, input_names, model_inputs
from mlfin.datasets.leak_checks import refuse_global_scalers
from mlfin.datasets.labels import compute_labels, meta_labels
from mlfin.validation.splits import WalkForward
from mlfin.datasets.weights import uniqueness

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
        "rsi_14",
        "macd_12_26_9/close",
        "macd_signal_12_26_9/close",
        "macd_hist_12_26_9/close",
        "mom_14/close",
        "sma_20/close",
        "ema_50/close",
        "bbands_lower_20_2/close",
        "bbands_middle_20_2/close",
        "bbands_upper_20_2/close",
        "atr_14/close",
        "historical_vol_21",
        "returns",
        "log_returns",
        "volume/volume_ma_20",
        "obv_change_20/volume",
    )
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
    d = build_dataset(
        compute_features(bars, ["returns", "obv"]), compute_labels(bars), bars, ["returns", "obv"]
    )
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


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda f, y, b: (f.assign(fwd_ret_5=1.0), y, b), "without labels, got .'fwd_ret_5'"),
        (lambda f, y, b: (f.assign(fwd_ret_20_direction=1), y, b), "without labels"),
        (
            lambda f, y, b: (f.assign(known_at=f["known_at"] + pd.Timedelta("20h")), y, b),
            "known when the label begins",
        ),
        (lambda f, y, b: (put(f, 5, "known_at", pd.NaT), y, b), "known when the label begins"),
        (lambda f, y, b: (pd.concat([f, f[-1:]], ignore_index=True), y, b), "twice the same key"),
        (lambda f, y, b: (f, pd.concat([y, y[:1]], ignore_index=True), b), "`labels`.*once, got 'AAA 1d"),
        (lambda f, y, b: (put(f, 150, "rsi_14", np.inf), y, b), "`rsi_14` must be finite or NaN"),
        (lambda f, y, b: (put(f, 150, "sma_20", -np.inf), y, b), "`sma_20/close` must be finite"),
        (
            lambda f, y, b: (f.assign(rsi_14=np.nan), y, b),
            "`rsi_14` must be a feature with at least one value",
        ),
        (lambda f, y, b: (f.drop(columns="atr_14"), y, b), "the column atr_14"),
        (lambda f, y, b: (f, y, b[:-1]), "row by row"),
        (lambda f, y, b: (f, y, b.assign(ts=b["ts"] + pd.Timedelta("1D"))), "row by row"),
        (lambda f, y, b: (f, y, b.drop(columns="close")), "the column close"),
        (lambda f, y, b: (f, y.drop(columns=["t0"]), b), "no t0"),
        (lambda f, y, b: (f, y.drop(columns=["fwd_ret_5_direction"]), b), "one label and its direction"),
        (
            lambda f, y, b: (f, y.assign(fwd_ret_3=0.0, fwd_ret_3_direction=0), b),
            "one label and its direction",
        ),
        (lambda f, y, b: (f, y.assign(symbol="Z" + y["symbol"]), b), "no common row"),
        (lambda f, y, b: (f, y.assign(fwd_ret_5=np.nan), b), "fwd_ret_5"),
        (lambda f, y, b: (f, put(y, 200, "fwd_ret_5", np.nan), b), "`fwd_ret_5` must be without NaN"),
        (lambda f, y, b: (f[:0], y, b[:0]), "at least one row"),
    ],
)
def test_refused(parts, change, says):
    with pytest.raises(DataError, match=f"(?s){says}"):
        build(*change(*parts))


@pytest.mark.parametrize("times, plus", [(1.0, 0.0), (-100.0, 50.0)])
def test_a_label_under_another_name(parts, times, plus):
    features, labels, bars = parts
    joined = features.merge(labels, how="left", on=["symbol", "timeframe", "ts"])
    features = features.assign(rsi_14=joined["fwd_ret_5"].fillna(0) * times + plus)
    with pytest.raises(
        DataError, match="`rsi_14` must be a feature known before the label .*'a correlation of"
    ):
        build(features, labels, bars)


def test_rows_without_an_outcome_are_pending_and_nowhere_else(parts):
    features, labels, bars = parts
    dataset = build(*parts)
    horizon = int(dataset.label.rsplit("_", 1)[1])
    tails = features.groupby("symbol").tail(horizon + 1)[["symbol", "ts"]].reset_index(drop=True)
    assert dataset.pending[["symbol", "ts"]].equals(tails)
    assert list(dataset.pending) == [*dataset.keys, *dataset.names]
    assert not dataset.pending.merge(dataset.keys, on=["symbol", "ts"]).size
    assert np.isfinite(dataset.pending[list(dataset.names)].to_numpy()).all()
    some = labels.drop(labels.index[100:110])  # no label in the middle: nothing to decide on there
    assert build(features, some, bars).pending.equals(dataset.pending)


def test_weights_by_name_and_as_given(parts):
    features, labels, bars = parts
    plain, named = build(*parts), build_dataset(*parts, SPECS, weights="uniqueness")
    assert plain.weights is None and named.weights.mean() == pytest.approx(1)
    assert named.weights.name == "weight"
    rows = named.keys[["symbol"]].assign(t0=named.spans["t0"], t1=named.spans["t1"])
    np.testing.assert_allclose(named.weights, uniqueness(rows))
    given = pd.Series(np.arange(1.0, len(labels) + 1), index=labels.index[::-1])  # by place, not by index
    mixed = labels.sample(frac=1, random_state=2)
    at = dict(zip(zip(labels.symbol, labels.ts, strict=True), given, strict=True))
    own = np.array([at[k] for k in zip(plain.keys.symbol, plain.keys.ts, strict=True)])
    for frame, values in (
        (labels, given),
        (mixed, [at[k] for k in zip(mixed.symbol, mixed.ts, strict=True)]),
    ):
        np.testing.assert_allclose(
            build_dataset(features, frame, bars, SPECS, values).weights, own / own.mean()
        )
    hashes = {
        build_dataset(*parts, SPECS, w).hash
        for w in (None, "uniqueness", "return_attribution", "time_decay", given)
    }
    assert len(hashes) == 5
    assert build_dataset(*parts, SPECS, None).hash == plain.hash


@pytest.mark.parametrize(
    "weights, says",
    [
        ("uniqeness", "did you mean `uniqueness`"),
        ([1.0, 2.0], "`weights` must be a name, or one for each of the 408 labels, got 2"),
        (np.full(408, np.nan), "`weights` must be finite"),
        (np.full(408, -1.0), "not negative"),
        (np.zeros(408), "above zero in some row"),
    ],
)
def test_weights_that_cannot_be(parts, weights, says):
    with pytest.raises(DataError, match=says):
        build_dataset(*parts, SPECS, weights)


@pytest.mark.parametrize(
    "spec", ["fwd_log_5", "fwd_close_3", "fwd_demean_5", "fwd_quantile_5_2", "barrier_10_2_1", "next_close"]
)
def test_every_kind_of_label_makes_a_dataset(bars, spec):
    labels = compute_labels(bars, spec)
    d = build_dataset(compute_features(bars, SPECS), labels, bars, SPECS)
    expected = labels.set_index(["symbol", "ts"]).loc[list(zip(d.keys.symbol, d.keys.ts, strict=True))]
    np.testing.assert_array_equal(d.forward_return, expected[spec])
    np.testing.assert_array_equal(d.y, expected[f"{spec}_direction"])
    assert d.label == spec and d.verify() is d
    side = np.where(np.arange(len(labels)) % 3, 1, -1)
    meta = build_dataset(compute_features(bars, SPECS), meta_labels(labels, side), bars, SPECS)
    assert meta.label == f"meta_{spec}" and len(meta) == len(d)


def test_what_was_built_verifies_and_what_was_changed_does_not(parts):
    d = build(*parts)
    assert d.verify() is d and d.verify(bars=parts[2]) is d and d.specs == tuple(SPECS)
    changed = {
        "X": d.X.assign(rsi_14=d.X["rsi_14"].where(d.X.index != 7, 50.0)),
        "y": d.y.where(d.y.index != 7, 1 - d.y),
        "forward_return": d.forward_return * 1.0000001,
        "weights": pd.Series(np.ones(len(d))),
        "keys": d.keys.assign(known_at=d.keys["known_at"] - pd.Timedelta("1s")),
        "spans": d.spans.assign(t1=d.spans["t1"] + pd.Timedelta("1s")),
    }
    for name, value in changed.items():
        with pytest.raises(DataError, match="`dataset` must be of the content that its hash names"):
            replace(d, **{name: value}).verify()


@pytest.mark.parametrize(
    "change, says",
    [
        (
            lambda d: replace(d, X=d.X.rename(columns={"rsi_14": "fwd_ret_5"})),
            "`X` must be inputs without labels, got .'fwd_ret_5'",
        ),
        (
            lambda d: replace(d, keys=d.keys.assign(known_at=d.keys["known_at"] + pd.Timedelta("2D"))),
            "known when the label begins",
        ),
        (
            lambda d: replace(
                d, keys=d.keys.assign(ts=d.keys["ts"].where(d.keys.index != 3, d.keys["ts"][2]))
            ),
            "once, got",
        ),
        (lambda d: replace(d, X=d.X.assign(rsi_14=np.nan)), "`X` must be finite"),
    ],
)
def test_verify_sees_what_the_rows_show(parts, change, says):
    with pytest.raises(DataError, match=says):
        change(build(*parts)).verify()


def test_verify_needs_what_it_compares_with(parts, bars):
    d = build(*parts)
    unnamed = replace(d, specs=())
    unnamed = replace(unnamed, hash=content_hash(unnamed))
    with pytest.raises(DataError, match="`features` must be the specs"):
        unnamed.verify(bars=bars)
    assert unnamed.verify(SPECS, bars)
    with pytest.raises(DataError, match="`features` must be specs that give the input"):
        d.verify(["rsi_14"], bars)
    with pytest.raises(DataError, match="`bars` must be the bars that the dataset was made from"):
        d.verify(bars=bars[bars["symbol"] == "AAA"])
    with pytest.raises(DataError, match="must be what its past gives"):
        d.verify(bars=bars.assign(close=bars["close"] * np.where(bars.index % 2, 1.001, 0.999)))


def test_clean_features_raise_no_alarm(real):
    """Every input that bars alone give, on the built-in market, beside labels of several kinds and lengths of
    history."""
    bars, context = real(400)
    specs = [
        d.example
        for d in definitions().values()
        if d.kind != "facts" and d.name != "alpha" and set(d.inputs) <= set(bars)
    ]
    features = compute_features(
        bars, specs, calendar=context["calendar"], groups=context["groups"], short="nan"
    )
    inputs = model_inputs(features, bars, specs)
    names = [c for c in inputs.columns[4:] if inputs[c].notna().mean() > 0.5]
    assert len(names) > 200
    whole = inputs[inputs[names].notna().all(axis=1)]
    for label, days in (("fwd_ret_1", 400), ("fwd_demean_5", 100), ("barrier_10_2_2", 400)):
        rows = (
            whole.groupby("symbol")
            .tail(days)
            .merge(compute_labels(bars, label), on=["symbol", "timeframe", "ts"])
        )
        d = Dataset(
            rows[names],
            rows[f"{label}_direction"],
            rows[label],
            rows[list(KEYS)],
            rows[["ts", "t0", "t1"]],
            label,
            tuple(names),
            pd.DataFrame(),
        )
        assert replace(d, hash=content_hash(d)).verify() and len(d) > 200
    refuse_global_scalers(features, features.columns[4:])


def test_rows_without_a_label_are_told_apart(bars):
    features, labels = compute_features(bars, ["returns"]), compute_labels(bars, "barrier_10_2_1")
    d = build_dataset(features, labels, bars, ["returns"])
    assert d.dropped.set_index("reason")["rows"].to_dict() == {
        "no label: its outcome lies beyond the data": 2 * 11,
        "no label at that time": 2 * 20,
    }  # a volatility takes 20 bars
    assert len(d) + d.dropped["rows"].sum() == len(features) and len(d.pending) == 2 * 11


def test_the_most_predictable_honest_price_raises_no_alarm():
    """A price that only jitters around a constant: its distance from the mean tells half of the next return's
    variance."""
    rng, parts = np.random.default_rng(5), []
    for symbol in ("AAA", "BBB"):
        close = np.exp(0.001 * rng.normal(size=3000))
        ts = pd.date_range("2020-01-01", periods=3000, freq="h", tz="UTC").as_unit("us")
        opened = np.r_[1.0, close[:-1]]
        parts.append(
            pd.DataFrame(
                dict(
                    symbol=symbol,
                    timeframe="1h",
                    ts=ts,
                    known_at=ts + pd.Timedelta("1h"),
                    open=opened,
                    high=np.maximum(opened, close) * 1.0001,
                    low=np.minimum(opened, close) * 0.9999,
                    close=close,
                    volume=rng.integers(1_000, 9_000, 3000).astype(float),
                )
            )
        )
    bars, specs = (
        pd.concat(parts, ignore_index=True),
        ["sma_200", "returns", "rsi_14", "bbands_20_2", "mom_14"],
    )
    d = build_dataset(compute_features(bars, specs), compute_labels(bars, "fwd_ret_1"), bars, specs)
    assert 0.65 < np.corrcoef(d.X["sma_200/close"], d.forward_return)[0, 1] < 0.75
