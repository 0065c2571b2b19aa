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
    suggest,
)

NAMES = ["dummy", "ensemble", "gradient_boosting", "lightgbm", "logistic", "random_forest",
         "random_forest_fast", "xgboost"]
VALUES = ["dummy", "elastic_net", "ensemble", "gradient_boosting", "lightgbm", "linear", "random_forest",
          "random_forest_fast", "ridge", "xgboost"]


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
    assert model_names("classification") == sorted([*NAMES, "lstm", "persistence"])
    assert model_names("regression") == sorted([*VALUES, "lstm", "persistence"])
    assert model_names() == sorted({*NAMES, *VALUES, "lstm", "persistence"})
    with pytest.raises(ModelError, match="did you mean `regression`"):
        model_names("regresion")


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


@pytest.mark.parametrize("name", VALUES)
def test_values_repeat_and_know_something(name, data):
    from sklearn.base import clone, is_regressor

    X, _ = data
    value = 0.01 * (X["f_0"] + np.random.default_rng(1).normal(size=1500)).to_numpy()
    made = make_model(name, seed=3, task="regression")
    assert is_regressor(made) and not hasattr(made, "predict_proba")
    a, b = (m.fit(X[:1000], value[:1000]).predict(X[1000:]) for m in (made, clone(made)))
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes() and a.shape == (500,) and np.isfinite(a).all()
    assert name == "dummy" or np.corrcoef(a, value[1000:])[0, 1] > 0.6


def test_what_was_there_before_is_built_as_before():
    plain = {
        "dummy": ("DummyClassifier", {"strategy": "prior", "random_state": 1}),
        "logistic": ("LogisticByRow", {"C": 0.01, "max_iter": 1000, "random_state": 1, "class_weight": None}),
        "random_forest": ("RandomForestClassifier",
                          {"n_estimators": 150, "max_depth": 4, "max_samples": 0.3, "n_jobs": 1}),
        "random_forest_fast": ("FastForestClassifier",
                               {"n_estimators": 150, "max_depth": 4, "max_samples": 0.3, "n_jobs": 1}),
        "gradient_boosting": ("HistGradientBoostingClassifier",
                              {"max_iter": 50, "early_stopping": False, "random_state": 1}),
        "xgboost": ("XGBClassifier", {"n_estimators": 50, "max_depth": 2, "tree_method": "hist",
                                      "device": "cpu"}),
        "lightgbm": ("LGBMClassifier", {"n_estimators": 50, "num_leaves": 4, "deterministic": True,
                                        "device_type": "cpu"}),
    }
    for name, (kind, expected) in plain.items():
        found = zoo._last(make_model(name, seed=1))
        assert type(found).__name__ == kind and expected.items() <= found.get_params().items()
        again = zoo._last(make_model(name, seed=1, **default_parameters(name)))
        assert repr(again.get_params()) == repr(found.get_params())
    assert default_parameters("dummy") == {} and default_parameters("logistic") == {"C": 0.01,
                                                                                    "max_iter": 1000}


@pytest.mark.parametrize("task, strategy, kind", [
    ("classification", "majority", "DummyClassifier"),
    ("classification", "persistence", "PersistenceClassifier"),
    ("regression", "mean", "DummyRegressor"), ("regression", "median", "DummyRegressor"),
    ("regression", "persistence", "PersistenceRegressor")])
def test_strategies_of_the_dummy(task, strategy, kind):
    assert type(make_model("dummy", task=task, strategy=strategy)).__name__ == kind


def test_options_become_wrappers_or_the_library_s_own():
    def kinds(made):
        return [type(made).__name__, *(kinds(made.estimator) if hasattr(made, "estimator") else [])]

    everything = dict(class_weight="balanced", early_stopping=True, calibrate="isotonic")
    wrapped = ["Calibrated", "ClassWeighted", "EarlyStopped", "XGBClassifier"]
    assert kinds(make_model("xgboost", **everything, max_depth=3)) == wrapped
    assert make_model("xgboost", **everything, max_depth=3).estimator.estimator.estimator.max_depth == 3
    for name in ("lightgbm", "gradient_boosting"):  # these know class weights themselves
        made = make_model(name, **everything)
        assert kinds(made)[:2] == ["Calibrated",
                                   "EarlyStopped"] and made.estimator.estimator.class_weight == "balanced"
    assert make_model("gradient_boosting", early_stopping=True).estimator.early_stopping is False
    assert kinds(make_model("gradient_boosting", early_stopping=False,
                            calibrate=None)) == ["HistGradientBoostingClassifier"]
    assert make_model("logistic", class_weight="balanced").named_steps["model"].class_weight == "balanced"
    assert make_model("lstm", class_weight="balanced").class_weight == "balanced"
    assert kinds(make_model("gradient_boosting", task="regression",
                            early_stopping=True)) == ["EarlyStopped", "HistGradientBoostingRegressor"]


@pytest.mark.parametrize("name, task, option, says", [
    ("logistic", "classification", dict(early_stopping=True), "`early_stopping` must be asked of a booster"),
    ("lstm", "classification", dict(early_stopping=True), "lstm stops early by itself"),
    ("xgboost", "classification", dict(early_stopping="auto"), "`early_stopping` must be True or False"),
    ("dummy", "classification", dict(class_weight="balanced"),
     "`class_weight` must be asked of a classifier that learns"),
    ("persistence", "classification", dict(calibrate="sigmoid"),
     "`calibrate` must be asked of a classifier that learns"),
    ("xgboost", "regression", dict(class_weight="balanced"), "`class_weight` must be asked of a classifier"),
    ("lstm", "regression", dict(class_weight="balanced"), "`class_weight` must be asked of a classifier"),
    ("ridge", "regression", dict(calibrate="sigmoid"), "`calibrate` must be asked of a classifier"),
    ("dummy", "classification", dict(strategy="mean"), "`strategy` must be a known name"),
    ("ensemble", "classification", dict(members=["logistic"]), "at least two models"),
    ("ensemble", "classification", dict(members=["logistic", "ensemble"]), "none of them ensemble"),
    ("ensemble", "classification", dict(members=["logistic", "ridge"]),
     "`task` must be regression, got 'classification'"),
    ("ensemble", "classification", dict(estimators=[]), "`parameter` must be a known name"),
    ("logistic", "regression", {}, "for regression: dummy, elastic_net"),
    ("ridge", "classification", {}, "`task` must be regression"),
    ("ridge", "ranking", {}, "`task` must be a known name"),
])
def test_what_makes_no_sense_is_refused_by_name(name, task, option, says):
    with pytest.raises(ModelError, match=says):
        make_model(name, task=task, **option)


def test_members_of_the_ensemble_have_parameters_of_their_own():
    made = make_model("ensemble", seed=4, members={"logistic": {"C": 0.5},
                                                   "xgboost": {"calibrate": "sigmoid"}})
    (one, linear), (two, trees) = made.estimators
    assert (one, two) == ("logistic", "xgboost") and linear.named_steps["model"].C == 0.5
    assert type(trees).__name__ == "Calibrated" and trees.estimator.random_state == 4


class Trial:
    """Draws like Optuna's trial, and notes what was asked."""

    def __init__(self):
        self.asked = {}

    def suggest_int(self, name, low, high, log=False):
        self.asked[name] = ("int", low, high, log)
        return low

    def suggest_float(self, name, low, high, log=False):
        self.asked[name] = ("float", low, high, log)
        return high

    def suggest_categorical(self, name, choices):
        self.asked[name] = ("one of", tuple(choices))
        return choices[-1]


@pytest.mark.parametrize("task", zoo.TASKS)
def test_what_is_drawn_can_be_built(task):
    for name in model_names(task):
        drawn = suggest(name, Trial(), task)
        made = zoo._last(make_model(name, task=task, **drawn))
        assert drawn.items() <= made.get_params(deep=False).items()
        assert drawn or name in ("dummy", "persistence", "ensemble", "linear")


def test_a_real_optuna_trial_draws_from_every_space():
    optuna = pytest.importorskip("optuna")
    for name in model_names():
        task = "classification" if name in model_names("classification") else "regression"
        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1)).ask()
        make_model(name, task=task, **suggest(name, trial, task))


def test_a_search_space_is_registered_with_its_model(registry):
    @model("near", space={"n_neighbors": (5, 50, "log"), "p": (1.0, 2.0), "weights": ["uniform", "distance"]},
           n_neighbors=20)
    def build(seed, device, threads, **parameters):
        from sklearn.neighbors import KNeighborsClassifier
        return KNeighborsClassifier(**parameters)

    trial = Trial()
    assert suggest("near", trial) == {"n_neighbors": 5, "p": 2.0, "weights": "distance"}
    assert trial.asked == {"n_neighbors": ("int", 5, 50, True), "p": ("float", 1.0, 2.0, False),
                           "weights": ("one of", ("uniform", "distance"))}
    with pytest.raises(ModelError, match="`class_weight` must be asked of an estimator that takes weights"):
        make_model("near", class_weight="balanced")

    model("near", space=lambda trial: {"n_neighbors": trial.suggest_int("k", 3, 9)})(build)
    assert suggest("near", Trial()) == {"n_neighbors": 3}
    with pytest.raises(ModelError, match="`task` must be classification"):
        suggest("near", Trial(), "regression")


@pytest.mark.parametrize("space", [{"a": (1,)}, {"a": (2, 1)}, {"a": (0, 1, "log")}, {"a": (1, 2, "lin")},
                                   {"a": []}, {"a": ("x", "y")}, {"a": 3}])
def test_a_space_that_nothing_can_be_drawn_from(space):
    with pytest.raises(ModelError, match=r"`space\[a\]` must be"):
        model("wrong", space=space)


def test_tasks_of_a_registered_model(registry):
    from sklearn.linear_model import BayesianRidge

    @model("bayes_ridge", tasks="regression")
    def build(seed, device, threads, **parameters):
        return BayesianRidge(**parameters)

    assert "bayes_ridge" in model_names("regression") and "bayes_ridge" not in model_names("classification")
    with pytest.raises(ModelError, match="did you mean `regression`"):
        model("other", tasks=("regressions",))
    model("wrong", tasks=zoo.TASKS)(build)
    with pytest.raises(ModelError, match="an estimator with `predict_proba`, for classification"):
        make_model("wrong")


@pytest.mark.parametrize("name", ["random_forest", "random_forest_fast", "xgboost", "lightgbm",
                                  "gradient_boosting"])
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
    "name, near", [("xgbost", "xgboost"), ("Logistic", "logistic"), ("ligthgbm", "lightgbm"),
                   ("zzz", "one of")]
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
    assert device_parameters("lightgbm", Device("gpu", "")) in ({"device_type": "cpu"},
                                                                {"device_type": "cuda"})
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
