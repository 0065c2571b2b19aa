"""Fitting and predicting rows of a panel, and keeping models: whole, checked, or not at all."""

import errno
import hashlib
import json
import os
import pickle
import resource
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError, MissingExtraError, ModelError
from mlfin.core.seals import SealKeys
from mlfin.models import sequence
from mlfin.models.fitting import fit_rows, load_model, predict_rows, save_model
from mlfin.models.zoo import compute_device, make_model, model_names

SMALL = {"random_forest": dict(n_estimators=10), "ensemble": dict(members=["logistic", "gradient_boosting"])}
TABULAR = [name for name in ("dummy", "elastic_net", "ensemble", "gradient_boosting", "lightgbm", "linear",
                             "logistic", "persistence",
                             "random_forest", "random_forest_fast", "ridge", "xgboost")]


def panel(days=450, seed=0):
    """Two symbols; the first input knows something, `flat` is constant."""
    rng = np.random.default_rng(seed)
    ts = pd.date_range("2015-01-01", periods=days, freq="B", tz="UTC").as_unit("us")
    keys = pd.concat([pd.DataFrame(dict(symbol=s, timeframe="1d", ts=ts, known_at=ts))
                      for s in ("AAA", "BBB")], ignore_index=True)
    X = pd.DataFrame(rng.normal(size=(2 * days, 3)), columns=["rsi_14", "returns", "mom_5"]).assign(flat=3.0)
    value = (X["rsi_14"] + rng.normal(size=2 * days)).to_numpy()
    spans = pd.DataFrame(dict(ts=ts, t0=ts + pd.Timedelta("1D"), t1=ts + pd.Timedelta("7D")))
    made = SimpleNamespace(X=X, keys=keys, spans=pd.concat([spans, spans], ignore_index=True))
    return made, value, np.flatnonzero(keys["ts"] < ts[300]), np.flatnonzero(keys["ts"] >= ts[310])


def made_for(name, task):
    own = {"members": ["ridge", "gradient_boosting"]} if (name,
                                                          task) == ("ensemble",
                                                                    "regression") else SMALL.get(name, {})
    return make_model(name, seed=3, task=task, **own)


CASES = [(name, task) for task in ("classification", "regression")
         for name in TABULAR if name in model_names(task)]


@pytest.mark.filterwarnings("ignore:constant in the training rows")
@pytest.mark.parametrize("name, task", CASES)
def test_every_model_fits_predicts_repeats_and_is_kept(name, task, tmp_path):
    data, value, train, test = panel()
    target = (value > 0).astype("int8") if task == "classification" else value
    p = predict_rows(one := fit_rows(made_for(name, task), data, train, target), data, test)
    assert p.dtype == np.float64 and p.shape == test.shape and np.isfinite(p).all()
    assert predict_rows(fit_rows(made_for(name, task), data, train, target), data,
                        test).tobytes() == p.tobytes()
    if name not in ("dummy", "persistence"):
        assert np.corrcoef(p, value[test])[0, 1] > 0.4
    assert task == "regression" or ((p > 0) & (p < 1)).all()
    assert predict_rows(load_model(save_model(one, tmp_path / "m")), data, test).tobytes() == p.tobytes()


@pytest.mark.filterwarnings("ignore:constant in the training rows")
@pytest.mark.parametrize("name, task", [("logistic", "classification"), ("elastic_net", "regression"),
                                        ("xgboost", "classification")])
def test_only_the_rows_and_weights_that_count(name, task):
    data, value, train, test = panel()
    target = (value > 0).astype("int8") if task == "classification" else value
    other, weights = target.copy(), np.linspace(0.1, 2, len(target))
    other[test] = 1 - other[test] if task == "classification" else -other[test]
    one, two = (predict_rows(fit_rows(made_for(name, task), data, train, t, weights=weights), data, test)
                for t in (target, other))
    assert one.tobytes() == two.tobytes()
    even = predict_rows(fit_rows(made_for(name, task), data, train, target), data, test)
    assert np.abs(even - one).max() > 1e-6
    gone = predict_rows(fit_rows(made_for(name, task), data, train, target,
                                 weights=np.isin(np.arange(900), train[::2]) + 0.0), data, test)
    half = predict_rows(fit_rows(made_for(name, task), data, train[::2], target), data, test)
    assert name == "xgboost" or np.abs(gone - half).max() < 0.05


@pytest.mark.filterwarnings("ignore:constant in the training rows")
def test_spans_of_the_panel_reach_early_stopping_and_calibration():
    data, value, train, test = panel()
    y = (value > 0).astype("int8")
    ask = dict(early_stopping=True, n_estimators=300, calibrate="isotonic", class_weight="balanced")
    fitted = fit_rows(make_model("xgboost", **ask), data, train, y)
    assert 0 < fitted.estimator_.estimator_.rounds_ < 300
    same = fit_rows(make_model("xgboost", **ask), SimpleNamespace(X=data.X, keys=data.keys), train, y,
                    spans=data.spans)
    assert predict_rows(same, data, test).tobytes() == predict_rows(fitted, data, test).tobytes()
    with pytest.raises(ModelError, match="must have spans"):
        fit_rows(make_model("xgboost", early_stopping=True), SimpleNamespace(X=data.X, keys=data.keys), train,
                 y)


@pytest.mark.filterwarnings("ignore:constant in the training rows")
def test_a_model_of_sequences_gets_keys_spans_rows(monkeypatch):
    seen = []
    monkeypatch.setattr(sequence, "_train", lambda m, values, ages, target, w,
                        parts, *rest: seen.append((ages, parts)) or (None, {"loss": [0.0]}))
    data, value, train, _ = panel()
    fit_rows(make_model("lstm", window=5), data, train, (value > 0).astype("int8"), embargo=3)
    ages, (learn, check) = seen[0]
    assert ages.tolist() == [*range(450)] * 2 and len(check) and set(learn) | set(check) < set(train)
    times = data.keys["ts"][train].drop_duplicates().sort_values(ignore_index=True)
    assert data.spans["t1"].iloc[learn].max() < times[times.searchsorted(data.keys["ts"].iloc[check].min())
                                                      - 3]


def test_probability_is_that_of_class_one():
    data, value, train, test = panel()
    with warnings.catch_warnings(record=True):
        fitted = fit_rows(make_model("logistic"), data, train, np.sign(value).astype(int))
        assert predict_rows(fitted, data,
                            test).tobytes() == fitted.predict_proba(data.X.iloc[test])[:, 1].tobytes()
        assert predict_rows(fitted, data, test[:0]).shape == (0,)
        with pytest.raises(ModelError, match="knows class 1"):
            predict_rows(fit_rows(make_model("logistic"), data, train, 2 * (value > 0)), data, test)


@pytest.mark.parametrize("change, says", [
    (lambda d, y, r: (d, np.zeros(900, int), r), r"of both classes in the training rows, got 'only \[0\]' "
     r"\(600 rows\)"),
    (lambda d, y, r: (d, np.where(y, "up", "down"), r),
     r"`target` must be 0 or 1, got \['down', 'up'\].\nHint: turn names into numbers"),
    (lambda d, y, r: (d, y[:10], r), r"`target` must be as long as the panel \(900\), got 10"),
    (lambda d, y, r: (d, np.where(np.arange(900) == 5, np.nan, y), r), "`target` must be finite"),
    (lambda d, y, r: (d, y, r[:0]), "`rows` must be at least one position"),
    (lambda d, y, r: (SimpleNamespace(X=d.X.assign(mom_5=np.nan), keys=d.keys), y, r),
     r"`X\[mom_5\]` must be a feature with a value"),
    (lambda d, y, r: (SimpleNamespace(X=d.X.assign(mom_5=d.X["mom_5"].where(d.X.index != 7, -np.inf)),
                                      keys=d.keys), y, r),
     r"`X\[mom_5\]` must be finite, got -inf \(row 7\)"),
])
@pytest.mark.parametrize("name", ["logistic", "lstm"])
def test_what_cannot_be_learnt_from_is_refused_by_name(name, change, says):
    data, value, train, _ = panel()
    changed, target, rows = change(data, (value > 0).astype("int8"), train)
    with pytest.raises(ModelError, match=says):
        fit_rows(make_model(name), changed, rows, target)


def test_values_must_be_finite_numbers():
    data, value, train, _ = panel()
    with pytest.raises(ModelError, match="`target` must be finite"):
        fit_rows(make_model("ridge", task="regression"), data, train, np.where(value > 1, np.inf, value))


def test_a_constant_feature_is_named_and_does_no_harm():
    data, value, train, test = panel()
    y = (value > 0).astype("int8")
    with pytest.warns(UserWarning, match="constant in the training rows, so nothing is learnt from it: flat"):
        with_it = predict_rows(fit_rows(make_model("logistic"), data, train, y), data, test)
    bare = SimpleNamespace(X=data.X.drop(columns="flat"), keys=data.keys)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(predict_rows(fit_rows(make_model("logistic"), bare, train, y), bare, test),
                                   with_it, atol=1e-6)


# --- keeping


@pytest.fixture
def small():
    data, value, train, _ = panel()
    return fit_rows(make_model("ridge", task="regression"),
                    SimpleNamespace(X=data.X[["rsi_14"]], keys=data.keys), train, value)


def test_what_the_folder_says(small, tmp_path):
    place = save_model(small, tmp_path / "a" / "b")
    told = json.loads((place / "model.json").read_text())
    assert told["kind"] == "skops" and told["model"] == "sklearn.pipeline.Pipeline"
    assert list(told["files"]) == ["estimator.skops"]
    assert sorted(told["packages"]) == ["numpy", "scikit-learn", "skops"] and "seal" not in told
    assert sorted(p.name for p in place.parent.iterdir()) == ["b"]
    assert save_model(small, place) == place and sorted(p.name for p in place.parent.iterdir()) == ["b"]


def test_a_model_of_a_notebook_is_kept_too(small, tmp_path):
    kind = type("Mine", (type(small),), {"__module__": "__main__"})
    with pytest.raises(ModelError, match="kept without pickle, or saved under a seal"):
        save_model(kind(small.steps), tmp_path / "m")
    keys = SealKeys(tmp_path / "seal_keys.json")
    again = load_model(place := save_model(kind(small.steps), tmp_path / "m", seal_keys=keys), seal_keys=keys)
    assert type(again).__name__ == "Mine"
    with pytest.raises(ModelError, match="it is not unpickled.*\n.*MLFIN_SEAL_KEY_FILE"): load_model(place)


@pytest.mark.parametrize("how", ["another key", "no seal", "another pickle", "its format"])
def test_a_folder_without_a_fitting_seal_is_not_read(small, tmp_path, how):
    keys, other = SealKeys(tmp_path / "keys"
                           / "seal_keys.json"), SealKeys(tmp_path / "other" / "seal_keys.json")
    place = save_model(small, tmp_path / "m", seal_keys=other if how == "another key" else keys)
    assert keys.names() or keys.sign("x", 1)
    path = place / "model.json"
    told = json.loads(path.read_text())
    if how == "no seal": del told["seal"]
    elif how == "its format": told["stored"] = "keras"
    elif how == "another pickle":
        (place / "model.pkl").write_bytes(planted := pickle.dumps(Canary(tmp_path / "canary")))
        (place / "estimator.skops").unlink()
        told |= {"kind": "pickle", "files": {"model.pkl": hashlib.sha256(planted).hexdigest()}}
    path.write_text(json.dumps(told))
    with pytest.raises(ModelError, match="`m` must be sealed with a key of this profile, got '(a seal of "
                       "key|no seal)"):
        load_model(place, seal_keys=keys)
    if how == "another pickle":
        with pytest.raises(ModelError, match="not unpickled"): load_model(place)
    assert not (tmp_path / "canary").exists()


class Canary:
    "Leaves a folder when it is unpickled."
    def __init__(self, path): self.path = str(path)

    def __reduce__(self): return os.mkdir, (self.path,)


def test_a_file_that_does_not_fit_leaves_what_was_there(small, tmp_path):
    save_model(make_model("dummy"), place := tmp_path / "m")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(DataError, match="the model could not be written to .*m: File too large"):
            save_model(small, place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert type(load_model(place)).__name__ == "DummyClassifier" and [p.name
                                                                      for p in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_is_said_and_leaves_nothing_behind(small, tmp_path, monkeypatch, step):
    save_model(make_model("dummy"), place := tmp_path / "m")

    def full(*arguments):
        if step == "fsync" or str(arguments[0]).endswith(".tmp"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return done(*arguments)

    done = getattr(os, step)
    monkeypatch.setattr(os, step, full)
    with pytest.raises(DataError, match="No space left on device.*\nHint"):
        save_model(small, place)
    with pytest.raises(DataError, match="No space left"):
        save_model(small, tmp_path / "new")
    monkeypatch.undo()
    assert type(load_model(place)).__name__ == "DummyClassifier" and [p.name
                                                                      for p in tmp_path.iterdir()] == ["m"]


def test_what_cannot_be_saved_or_replaced(small, tmp_path):
    small.odd = (number for number in range(3))
    with pytest.raises(ModelError, match="`model` must be an estimator that can be pickled"):
        save_model(small, tmp_path / "m")
    assert not list(tmp_path.iterdir())
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").write_text("years of work")
    for folder in ("theirs", "theirs/thesis.txt"):
        with pytest.raises(ModelError, match="`folder` must be new, empty, or an earlier model"):
            save_model(make_model("dummy"), tmp_path / folder)
    assert (tmp_path / "theirs" / "thesis.txt").read_text() == "years of work"


def test_what_is_not_what_was_saved_is_not_loaded(small, tmp_path):
    place = save_model(small, tmp_path / "m")
    whole = (place / "estimator.skops").read_bytes()
    (place / "estimator.skops").write_bytes(whole[:-1])
    with pytest.raises(ModelError, match="`estimator.skops` must be the file that was saved, got 'another'"):
        load_model(place)
    (place / "estimator.skops").unlink()
    with pytest.raises(ModelError, match="got 'none'"):
        load_model(place)
    (place / "model.json").write_text("{")
    for folder in (place, tmp_path / "nowhere"):
        with pytest.raises(ModelError, match="one that save_model wrote"):
            load_model(folder)


# --- what is missing


def test_a_missing_extra_is_said_when_the_model_is_built(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingExtraError, match=r"mlfin\[keras\]"):
        make_model("lstm")


@pytest.mark.parametrize("name", ["xgboost", "lightgbm", "lstm", "ensemble"])
def test_a_gpu_that_is_not_there_is_said_when_the_model_is_built(monkeypatch, name):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ModelError, match=r"`device` must be cpu or auto on this machine.*\n.*set device = "
                       r"auto"):
        make_model(name, device="gpu")
    assert compute_device("auto").name == "cpu"
