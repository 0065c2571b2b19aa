"""Estimators by name: deterministic, refusing what does not exist, computing where they are told."""

import sys

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import MlfinError, ModelError
from mlfin.models import zoo
from mlfin.models.zoo import (
    Device,
    compute_device,
    default_parameters,
    device_parameters,
    load_models,
    make_model,
    model,
    model_names,
)

NAMES = ["dummy", "gradient_boosting", "lightgbm", "logistic", "random_forest", "xgboost"]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(1500, 6)), columns=[f"f_{i}" for i in range(6)])
    return X, (X["f_0"] + rng.normal(size=1500) > 0).astype("int8").to_numpy()


@pytest.fixture
def registry():
    kept = dict(zoo._MODELS)
    yield zoo._MODELS
    zoo._MODELS.clear()
    zoo._MODELS.update(kept)
    load_models.cache_clear()


def test_names():
    assert set(NAMES) <= set(model_names()) and model_names() == sorted(model_names())


@pytest.mark.parametrize("name", NAMES)
def test_fresh_deterministic_clonable_and_in_range(name, data):
    from sklearn.base import clone, is_classifier

    X, y = data
    one, two = make_model(name, seed=3), make_model(name, seed=3)
    assert one is not two and is_classifier(one)
    a, b = (m.fit(X[:1000], y[:1000]).predict_proba(X[1000:]) for m in (one, two))
    c = clone(one).fit(X[:1000], y[:1000]).predict_proba(X[1000:])
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes() == np.asarray(c).tobytes()
    assert a.shape == (500, 2) and np.isfinite(a).all() and np.allclose(a.sum(axis=1), 1, atol=1e-6)
    assert list(one.classes_) == [0, 1]


@pytest.mark.parametrize("name", ["random_forest", "xgboost", "lightgbm", "gradient_boosting"])
def test_the_seed_reaches_the_model(name, data):
    X, y = data
    a, b = (make_model(name, seed=s).fit(X, y).predict_proba(X)[:, 1] for s in (1, 2))
    assert not np.array_equal(a, b)


def test_scaling_is_learned_from_the_rows_it_is_fitted_to(data):
    X, y = data
    fitted = make_model("logistic").fit(X[:100] + 5, y[:100])
    np.testing.assert_allclose(fitted.named_steps["scale"].mean_, (X[:100] + 5).mean())


def test_defaults_are_a_copy_and_overrides_reach_the_estimator():
    default_parameters("xgboost")["max_depth"] = 99
    assert default_parameters("xgboost")["max_depth"] == 2
    assert make_model("xgboost", max_depth=4).get_params()["max_depth"] == 4
    assert make_model("lightgbm", num_leaves=4, random_state=5).get_params()["random_state"] == 5
    assert make_model("random_forest", threads=2).n_jobs == 2
    assert make_model("xgboost", colsample_bylevel=0.5).colsample_bylevel == 0.5


@pytest.mark.parametrize(
    "name, near", [("xgbost", "xgboost"), ("Logistic", "logistic"), ("ligthgbm", "lightgbm"), ("zzz", "one of")]
)
def test_unknown_names(name, near):
    with pytest.raises(ModelError, match=near):
        make_model(name)
    with pytest.raises(ModelError, match=near):
        default_parameters(name)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_parameters(name):
    with pytest.raises(ModelError, match="parameter"):
        make_model(name, no_such_thing=1)


def test_registering(registry, data):
    from sklearn.naive_bayes import GaussianNB

    @model("bayes", var_smoothing=1e-3)
    def build(seed, device, threads, **parameters):
        return GaussianNB(**parameters)

    X, y = data
    assert "bayes" in model_names() and make_model("bayes").var_smoothing == 1e-3
    assert make_model("bayes", var_smoothing=0.1).fit(X, y).score(X, y) > 0.6
    with pytest.raises(ModelError, match="did you mean `var_smoothing`"):
        make_model("bayes", var_smothing=1)


def test_a_name_is_taken_once_but_a_cell_may_run_again(registry):
    def build(seed, device, threads):
        return None

    def other(seed, device, threads):
        return None

    build.__module__, other.__module__ = "mlfin.models.mine", "plugin"
    model("mine")(build)
    model("mine")(build)
    with pytest.raises(ModelError, match="registered by mlfin.models.mine"):
        model("mine")(other)
    with pytest.raises(ModelError, match="`name` must be"):
        model("my model")
    with pytest.raises(ModelError, match="predict_proba"):
        make_model("mine")


def test_plugins_are_imported(registry, tmp_path, monkeypatch):
    (tmp_path / "my_zoo_plugin.py").write_text(
        "from mlfin.models.zoo import model\n@model('from_plugin')\ndef build(seed, device, threads):\n"
        "    from sklearn.naive_bayes import GaussianNB\n    return GaussianNB()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MLFIN_PLUGINS", "my_zoo_plugin")
    load_models.cache_clear()
    try:
        assert "from_plugin" in model_names()
    finally:
        sys.modules.pop("my_zoo_plugin", None)
    monkeypatch.setenv("MLFIN_PLUGINS", "no_such_plugin_anywhere")
    load_models.cache_clear()
    with pytest.raises(MlfinError, match="no_such_plugin_anywhere"):
        model_names()


def test_cpu_is_always_there_and_needs_no_probe(monkeypatch):
    monkeypatch.setattr(zoo, "_cuda", lambda visible: pytest.fail("probed"))
    assert compute_device("cpu").name == "cpu"


@pytest.mark.parametrize("visible", ["", " ", "-1"])
def test_hidden_devices(monkeypatch, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert compute_device("auto").name == "cpu" and "CUDA_VISIBLE_DEVICES" in compute_device("auto").reason
    with pytest.raises(ModelError, match="set device = auto"):
        compute_device("gpu")


def test_a_device_that_is_there(monkeypatch):
    monkeypatch.setattr(zoo, "_cuda", lambda visible: (1, "NVIDIA Example"))
    assert compute_device("auto") == compute_device("gpu") == Device("gpu", "NVIDIA Example is visible")
    assert device_parameters("xgboost", "auto") == {"device": "cuda"}
    assert device_parameters("lightgbm", Device("gpu", "")) in ({"device_type": "cpu"}, {"device_type": "cuda"})
    assert make_model("xgboost", device="gpu").get_params()["device"] == "cuda"


def test_a_driver_without_device_or_answer(monkeypatch):
    import subprocess

    zoo._cuda.cache_clear()
    monkeypatch.setattr(zoo.ctypes, "CDLL", lambda name: None)
    answers = [
        subprocess.CompletedProcess([], 0, "0 \n"),
        subprocess.CompletedProcess([], -11, ""),
        subprocess.CompletedProcess([], 0, "2 NVIDIA Example\n"),
    ]
    monkeypatch.setattr(zoo.subprocess, "run", lambda *a, **k: answers.pop(0))
    found = [zoo._cuda(f"test {n}") for n in range(3)]
    zoo._cuda.cache_clear()
    assert [n for n, _ in found] == [0, 0, 2] and found[2][1] == "NVIDIA Example"


def test_preference_is_checked():
    with pytest.raises(ModelError, match="did you mean `gpu`"):
        compute_device("gpus")


def test_keras_backend_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert device_parameters("keras", "cpu") == {"backend": "torch", "device": "cpu:0"}
    assert device_parameters("random_forest", "cpu") == {}


@pytest.mark.gpu
def test_xgboost_on_cuda(data):
    if compute_device("auto").name == "cpu":
        pytest.skip(f"no GPU: {compute_device('auto').reason}")
    X, y = data
    p = [make_model("xgboost", device=d).fit(X, y).predict_proba(X)[:, 1] for d in ("cpu", "gpu")]
    np.testing.assert_allclose(*p, atol=0.05)
