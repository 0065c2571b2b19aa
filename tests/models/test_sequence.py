"""The LSTM: windows stay within a symbol and a run, nothing is copied `window` times, fits repeat and can be
kept."""

import os
import pickle
import random
import subprocess
import sys
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone, is_classifier, is_regressor

from mlfin.core.errors import MissingExtraError, ModelError
from mlfin.models import sequence
from mlfin.models.fitting import load_model, save_model
from mlfin.models.sequence import (
    SequenceClassifier,
    SequenceRegressor,
    Windows,
    load_sequence,
    row_ages,
    row_spans,
    save_sequence,
    validation_split,
)

START = pd.Timestamp("2020-01-06", tz="UTC").as_unit("us")
TINY = dict(window=4, units=6, epochs=8, batch_size=64, learning_rate=0.03, patience=4)


def block(symbol: str, ts, timeframe: str = "1d") -> pd.DataFrame:
    return pd.DataFrame(dict(symbol=symbol, timeframe=timeframe, ts=pd.DatetimeIndex(ts).as_unit("us")))


def join(*blocks) -> pd.DataFrame:
    return pd.concat(blocks, ignore_index=True)


WEEKDAYS = pd.date_range(START, periods=60, freq="B")
ALL_DAYS = pd.date_range(START, WEEKDAYS[-1], freq="D")


# --- runs


def test_a_symbol_is_never_crossed():
    keys = join(block("A", WEEKDAYS[:5]), block("B", WEEKDAYS[5:9]), block("B", WEEKDAYS[9:11], "1w"))
    assert row_ages(keys).tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1]


def test_a_missing_row_is_a_gap_and_a_weekend_is_not():
    keys = join(block("A", WEEKDAYS.delete(20)), block("B", WEEKDAYS), block("C", WEEKDAYS))
    assert row_ages(keys).tolist() == [*range(20), *range(39), *range(60), *range(60)]


def test_two_symbols_suffice_to_see_a_missing_row():
    keys = join(block("A", WEEKDAYS), block("B", WEEKDAYS.delete([7, 8])))
    assert row_ages(keys).tolist() == [*range(60), *range(7), *range(51)]


@pytest.mark.parametrize("others", [1, 3])
def test_weekends_beside_a_market_that_never_closes(others):
    keys = join(*(block(f"C{k}", ALL_DAYS) for k in range(others)), block("S", WEEKDAYS))
    assert row_ages(keys)[-60:].tolist() == list(range(60))


def test_a_symbol_that_begins_late_or_ends_early_is_no_gap_for_others():
    keys = join(block("A", WEEKDAYS), block("B", WEEKDAYS[:20]), block("C", WEEKDAYS[40:]))
    assert row_ages(keys).tolist() == [*range(60), *range(20), *range(20)]


def test_a_long_pause_is_a_gap_for_one_symbol_alone():
    ts = WEEKDAYS[:30].append(WEEKDAYS[45:])
    assert row_ages(block("A", ts)).tolist() == [*range(30), *range(15)]
    assert row_ages(block("A", ts), max_gap="60D").tolist() == list(range(45))
    assert row_ages(block("A", ts), max_gap="2D")[:6].tolist() == [0, 1, 2, 3, 4, 0]


def test_minutes_begin_anew_each_session():
    ts = [day + pd.Timedelta(minutes=870 + m) for day in WEEKDAYS[:4] for m in range(390)]
    assert row_ages(block("A", ts, "1m")).tolist() == [*range(390)] * 4
    whole = pd.date_range(START, periods=3000, freq="min")
    assert row_ages(block("BTC", whole.delete(slice(1000, 1010)),
                          "1m")).tolist() == [*range(1000), *range(1990)]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_unit_of_time_does_not_matter(unit):
    keys = block("A", WEEKDAYS)
    keys["ts"] = keys["ts"].dt.as_unit(unit)
    assert row_ages(keys, max_gap="2D").max() == 4 and row_ages(keys).max() == 59


@pytest.mark.parametrize("change, says", [
    (lambda k: k[::-1], "in order of symbol, timeframe and time"),
    (lambda k: pd.concat([k, k]), "in order of symbol"),
    (lambda k: pd.concat([k[:3], k[2:]]), "each time once"),
    (lambda k: k.drop(columns="timeframe"), "no timeframe"),
])
def test_refused_keys(change, says):
    with pytest.raises(ModelError, match=says):
        row_ages(change(join(block("A", WEEKDAYS[:9]), block("B", WEEKDAYS[:9]))))


def test_no_rows():
    assert row_ages(block("A", WEEKDAYS[:0])).tolist() == []


# --- windows


@given(st.integers(1, 6), st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(1, 3),
       st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_windows_are_what_a_loop_would_gather(window, runs, columns, seed):
    rng = np.random.default_rng(seed)
    ages = np.concatenate([np.arange(n) for n in runs])
    values = rng.normal(size=(len(ages), columns))
    rows = rng.integers(0, len(ages), 7)
    expected = np.zeros((len(rows), window, columns), dtype=np.float32)
    for k, row in enumerate(rows):
        for back in range(min(window, ages[row] + 1)):
            expected[k, window - 1 - back] = np.float32((values[row - back] - 0.5) / 2)
    found = Windows(values, ages, window, mean=np.full(columns, 0.5), scale=np.full(columns, 2.0)).take(rows)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_the_data_are_held_once():
    values, ages = np.random.default_rng(0).normal(size=(100_000, 8)), np.arange(100_000)
    tracemalloc.start()
    windows = Windows(values, ages, 60)
    held, peak = tracemalloc.get_traced_memory()
    windows.take(np.arange(256))
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    once = values.size * 4
    assert held < 1.1 * once and peak < 1.5 * once and after < 1.1 * once
    assert windows.view.nbytes == 60 * once and not windows.view.flags.owndata


# --- the purged slice


def test_no_learning_span_touches_the_validation_slice():
    rng = np.random.default_rng(1)
    ts = START + pd.to_timedelta(np.sort(rng.integers(0, 200, 400)), unit="D")
    spans = pd.DataFrame(dict(ts=ts, t0=ts + pd.Timedelta("1D"),
                              t1=ts + pd.to_timedelta(rng.integers(1, 15, 400), unit="D")))
    learn, check = validation_split(spans, 0.25, embargo=3)
    assert len(learn) and len(check) and not set(learn) & set(check)
    assert spans["t1"].iloc[learn].max() < spans["ts"].iloc[check].min()
    times = ts.unique()
    assert (times > spans["t1"].iloc[learn].max()).sum() >= (times >= spans["ts"].iloc[check].min()).sum() + 3


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.1])
def test_shares(share):
    with pytest.raises(ModelError, match="`validation` must be a share"):
        validation_split(row_spans(50, 1), share)


@pytest.mark.parametrize("horizon", [0, -1, 1.5, True])
def test_horizons(horizon):
    with pytest.raises(ModelError, match="`horizon` must be an integer >= 1"):
        row_spans(50, horizon)


@pytest.fixture
def slices(monkeypatch):
    """What would be learnt from, without training."""
    seen = []

    def train(model, values, ages, target, weights, parts, outputs, loss):
        seen.append((parts, ages, target, weights))
        return object(), {"loss": [1.0]}

    monkeypatch.setattr(sequence, "_train", train)
    return seen


def test_only_spans_or_a_horizon_give_a_slice_to_stop_by(slices):
    X, y = np.random.default_rng(0).normal(size=(100, 2)), np.arange(100) % 2
    SequenceClassifier().fit(X, y)
    SequenceClassifier(horizon=5).fit(X, y, rows=np.arange(80))
    SequenceClassifier(horizon=5, patience=0).fit(X, y)
    (whole, none), (learn, check), (all_, nothing) = (parts for parts, *_ in slices)
    assert len(whole) == 100 and len(none) == 0 and len(all_) == 100 and len(nothing) == 0
    assert check.tolist() == list(range(68, 80)) and learn.tolist() == list(range(63))


def test_weights_and_classes_reach_training(slices):
    X, y = np.zeros((8, 1)), np.array(["up", "down", "down", "down"] * 2)
    SequenceClassifier(class_weight="balanced").fit(X, y, np.r_[np.ones(4), np.full(4, 3.0)])
    _, _, target, weights = slices[0]
    assert target[:, 0].tolist() == [1, 0, 0, 0] * 2
    np.testing.assert_allclose(weights.mean(), 1)
    np.testing.assert_allclose(weights[[0, 4]] / weights[[1, 5]], 3)
    np.testing.assert_allclose(weights[4] / weights[0], 3)


def test_a_row_that_is_not_finite_ends_a_run(slices):
    X = pd.DataFrame(np.ones((8, 2)), columns=["a", "b"])
    X.loc[3, "b"] = np.nan
    SequenceRegressor().fit(X, np.arange(8.0), rows=[0, 1, 5, 6])
    assert slices[0][1].tolist() == [0, 1, 2, 0, 0, 1, 2, 3]
    with pytest.raises(ModelError, match=r"`X\[b\]` must be finite in every row, got nan \(row 3\)"):
        SequenceRegressor().fit(X, np.arange(8.0))
    with pytest.raises(ModelError, match=r"`X\[a\]` must be finite in every row, got inf"):
        SequenceRegressor().fit(X.assign(a=np.inf), np.arange(8.0), rows=[0])


# --- the estimators


def market():
    """Two symbols, the second with a hole; up follows two inputs of the same sign, which only a window
    sees."""
    rng = np.random.default_rng(3)
    ts = pd.date_range("2015-01-01", periods=420, freq="B", tz="UTC")
    keys = join(block("A", ts), block("B", ts.delete(slice(200, 240))))
    X = pd.DataFrame(rng.normal(size=(len(keys), 3)), columns=["a", "b", "flat"]).assign(flat=7.0)
    value = X["a"] * X["a"].shift(1).where(row_ages(keys) > 0, 0.0)
    spans = pd.DataFrame(dict(ts=keys["ts"], t0=keys["ts"] + pd.Timedelta("1D"),
                              t1=keys["ts"] + pd.Timedelta("5D")))
    train, test = np.flatnonzero(keys["ts"] < ts[330]), np.flatnonzero(keys["ts"] >= ts[336])
    return X, np.where(value > 0, "up", "down"), value.to_numpy(), keys, spans, train, test


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory):
    """What JAX compiled for a network is kept for the next one of the same shape."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    kept = {"jax_compilation_cache_dir": str(tmp_path_factory.mktemp("jax")),
            "jax_persistent_cache_min_compile_time_secs": 0.0,
            "jax_persistent_cache_min_entry_size_bytes": -1}
    before = {name: getattr(jax.config, name) for name in kept}
    try:
        for name, value in kept.items(): jax.config.update(name, value)
        compilation_cache.reset_cache()
        yield
    finally:
        for name, value in before.items(): jax.config.update(name, value)
        compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def fitted(compiled_once):
    X, y, _, keys, spans, train, test = market()
    made = SequenceClassifier(**TINY).fit(X, y, keys=keys, spans=spans, rows=train)
    return made, made.predict_proba(X, keys, test)


def test_it_learns_what_a_single_row_does_not_show(fitted):
    X, y, _, keys, _, _, test = market()
    model, p = fitted
    assert is_classifier(model) and model.classes_.tolist() == ["down", "up"]
    assert p.shape == (len(test), 2) and p.dtype == np.float64
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    assert (model.predict(X, keys, test) == y[test]).mean() > 0.75
    assert 1 <= model.n_iter_ <= len(model.history_["val_loss"]) <= TINY["epochs"]


def test_the_same_seed_gives_the_same_bytes(fitted):
    X, y, _, keys, spans, train, test = market()
    before = random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2]
    again = clone(fitted[0]).fit(X, y, keys=keys, spans=spans, rows=train)
    # no global generator
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2])
    assert again.predict_proba(X, keys, test).tobytes() == fitted[1].tobytes()
    assert again.history_ == fitted[0].history_


def test_what_comes_later_changes_nothing(fitted):
    X, _, _, keys, _, _, test = market()
    later = X.copy()
    rows = test[keys["symbol"].iloc[test] == "A"]
    later.iloc[rows[40] + 1:rows[-1] + 1] = 9.0
    assert (fitted[0].predict_proba(later, keys, rows[:41])
            == fitted[0].predict_proba(X, keys, rows[:41])).all()
    assert not (fitted[0].predict_proba(later, keys,
                                        rows[41:]) == fitted[0].predict_proba(X, keys, rows[41:])).any()


def test_neither_the_other_symbol_nor_the_far_side_of_a_gap_is_seen(fitted):
    X, _, _, keys, _, _, _ = market()
    ages = row_ages(keys)
    first = int(np.flatnonzero((ages == 0) & (keys["symbol"] == "B"))[1])  # after the hole
    changed = X.copy()
    changed.iloc[:first] = 9.0
    rows = np.arange(first, first + 3)
    assert (fitted[0].predict_proba(changed, keys, rows) == fitted[0].predict_proba(X, keys, rows)).all()
    inside = X.copy()
    inside.iloc[first] = 9.0
    assert (fitted[0].predict_proba(inside, keys, rows) != fitted[0].predict_proba(X, keys, rows)).all()


def test_rows_may_be_asked_for_in_any_order_and_number(fitted):
    X, _, _, keys, _, _, test = market()
    some = test[[30, 2, 11]]
    assert (fitted[0].predict_proba(X, keys, some) == fitted[1][[30, 2, 11]]).all()
    assert fitted[0].predict_proba(X, keys, test[:0]).shape == (0, 2)
    with pytest.raises(ValueError, match="3 features"):
        fitted[0].predict_proba(X.to_numpy()[:, :2])
    with pytest.raises(ModelError, match="`keys` must be as long as X"):
        fitted[0].predict_proba(X, keys[:5])


def same_network(one, two):
    """The same weights and the same scales, to the byte."""
    pairs = zip(one.network_.get_weights(), two.network_.get_weights(), strict=True)
    assert all(a.tobytes() == b.tobytes() for a, b in pairs)
    assert one.mean_.tobytes() == two.mean_.tobytes() and one.scale_.tobytes() == two.scale_.tobytes()


def test_kept_in_a_pickle_and_in_a_folder(fitted, tmp_path):
    X, _, _, keys, _, _, test = market()
    place = save_model(fitted[0], tmp_path / "m")
    # no pickle
    assert sorted(path.name for path in place.iterdir()) == ["model.json", "network.keras", "sequence.json"]
    again, other = pickle.loads(pickle.dumps(fitted[0])), load_model(place)
    assert again.predict_proba(X, keys, test).tobytes() == fitted[1].tobytes()
    for model in (again, other):
        assert model.get_params() == fitted[0].get_params() and model.classes_.tolist() == ["down", "up"]
        assert model.n_iter_ == fitted[0].n_iter_ and list(model.feature_names_in_) == ["a", "b", "flat"]
        same_network(model, fitted[0])


def test_what_a_gpu_learnt_is_served_without_one(fitted):
    X, _, _, keys, _, _, test = market()
    fitted[0].device = "gpu:0"
    try:
        assert np.abs(fitted[0].predict_proba(X, keys, test) - fitted[1]).max() < 1e-3
    finally:
        fitted[0].device = "cpu:0"


def test_the_loop_is_a_scan_and_no_layer_is_unrolled(fitted):
    layers = [layer.get_config() for layer in fitted[0].network_.layers]
    assert [layer["unroll"] for layer in layers if "unroll" in layer] == [False]


@pytest.mark.slow
def test_more_classes_layers_and_dropout():
    X, _, value, keys, _, train, test = market()
    y = np.digitize(value, [-0.3, 0.3]) - 1
    made = SequenceClassifier(**{**TINY, "epochs": 1}, layers=2, dropout=0.2,
                              class_weight={-1: 1.0, 0: 2.0, 1: 1.0})
    p = made.fit(X, y, keys=keys, rows=train).predict_proba(X, keys, test)
    assert made.classes_.tolist() == [-1, 0, 1] and p.shape == (len(test), 3)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    assert made.n_iter_ == 1 and set(made.history_) == {"loss"}


def test_values(tmp_path):
    X, _, value, keys, spans, train, test = market()
    made = SequenceRegressor(**TINY).fit(X, 0.01 * value + 5, keys=keys, spans=spans, rows=train)
    said = made.predict(X, keys, test)
    assert is_regressor(made) and np.corrcoef(said, value[test])[0, 1] > 0.5 and abs(said.mean() - 5) < 0.05
    save_sequence(made, tmp_path)
    again = load_sequence(tmp_path)
    same_network(again, made)
    assert (again.center_, again.spread_) == (made.center_, made.spread_)


def test_parameters_are_scikit_learns():
    made = SequenceClassifier(window=7)
    assert made.get_params()["window"] == 7 and made.set_params(units=3).units == 3
    assert clone(made).get_params() == made.get_params()
    with pytest.raises(ValueError, match="Invalid parameter"):
        made.set_params(unit=3)


@pytest.mark.parametrize("made, y, says", [
    (SequenceClassifier(), np.ones(30), "at least two classes"),
    (SequenceClassifier(), np.arange(20) % 2, "`y` must be as long as X"),
    (SequenceClassifier(window=0), np.arange(30) % 2, "`window` must be an integer >= 1"),
    (SequenceClassifier(units=2.5), np.arange(30) % 2, "`units`"),
    (SequenceRegressor(class_weight="balanced"), np.arange(30.0),
     "`class_weight` must be None for a regressor"),
    (SequenceRegressor(), np.full(30, np.nan), "finite and as long as X"),
    (SequenceClassifier(horizon=29), np.arange(30) % 2, "must leave rows to learn from"),
    (SequenceClassifier(device="gpu:0"), np.arange(30) % 2, "set device = cpu"),
])
def test_refused(made, y, says):
    if "gpu" in made.device:
        import jax
        if jax.default_backend() != "cpu":
            pytest.skip("there is a GPU")
    with pytest.raises(ModelError, match=says):
        made.fit(np.random.default_rng(0).normal(size=(30, 2)), y)


@pytest.mark.parametrize("backend, device, taken", [
    ("torch", "cpu:0", "cpu"), ("jax", "cpu:0", "cpu:0"), ("tensorflow", "cpu:0", "cpu:0")])
def test_the_cpu_is_named_as_the_backend_names_it(backend, device, taken):
    keras = SimpleNamespace(backend=SimpleNamespace(backend=lambda: backend), device=lambda name: name)
    # PyTorch copies to cpu:0, and the copy is no parameter any more
    assert sequence._on_device(keras, device) == taken


ANOTHER = """
import sys
import numpy as np
from mlfin.core.errors import ModelError
from mlfin.models.formats import pack_estimator, unpack_estimator
from mlfin.models.sequence import load_sequence
from mlfin.models.zoo import make_model
import keras

X = np.random.default_rng(0).normal(size=(300, 3))
y = (X[:, 0] * np.roll(X[:, 0], 1) > 0).astype(int)
made = make_model("lstm", window=4, units=6, epochs=3, batch_size=64, dropout=0.1, horizon=1)
p = made.fit(X, y).predict_proba(X)
assert keras.backend.backend() == sys.argv[1] and np.isfinite(made.history_["val_loss"]).all()
packed = pack_estimator(made)
assert np.array_equal(unpack_estimator(packed.kind, packed.parts, packed.files).predict_proba(X), p)
assert np.array_equal(made.fit(X, y).predict_proba(X), p)
there = load_sequence(sys.argv[2]).predict_proba(np.load(sys.argv[2] + "/x.npy"))
assert np.abs(there - np.load(sys.argv[2] + "/p.npy")).max() < 1e-5
made.device = "gpu:0"
assert np.array_equal(made.predict_proba(X), p)
try: made.fit(X, y)
except ModelError as e: assert "set device = cpu" in str(e)
else: raise AssertionError("a GPU that is not there")
"""


@pytest.mark.parametrize("backend", ["tensorflow", "torch"])
def test_another_backend_trains_keeps_and_serves_what_jax_learnt(backend, fitted, tmp_path):
    pytest.importorskip(backend)
    X, _, _, keys, _, _, test = market()
    rows = X.iloc[np.flatnonzero(keys["symbol"] == "A")[:200]]
    save_sequence(fitted[0], tmp_path)
    np.save(tmp_path / "x.npy", rows.to_numpy())
    np.save(tmp_path / "p.npy", fitted[0].predict_proba(rows))
    env = os.environ | {"KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", ANOTHER, backend, str(tmp_path)], env=env,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("missing, backend, says", [
    ("keras", "jax", r"`keras` is needed here.*\n.*mlfin\[keras\]"),
    ("jax", "jax", r"`jax` is needed here.*\n.*mlfin\[keras\]"),
    ("torch", "torch", "`keras_backend` is 'torch', which is not installed"),
])
def test_a_missing_extra_is_named(monkeypatch, missing, backend, says):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setenv("KERAS_BACKEND", backend)
    with pytest.raises(MissingExtraError, match=says):
        SequenceClassifier().fit(np.zeros((9, 1)), np.arange(9) % 2)
