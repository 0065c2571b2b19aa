"""One row taken apart is the model itself, to the bit where the arithmetic is the same, and the model itself
where it is not."""

import threading

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import ModelError
from mlfin.models.fitting import fit_rows, predict_rows
from mlfin.models.sequence import row_spans
from mlfin.models.zoo import make_model
from mlfin.predict.single_row import SCORE_TOLERANCE, single_row, window_of

ROWS, NAMES = 700, ["a", "b/close", "c_change_20", "d"]
QUICK = [
    ("logistic", {}),
    ("logistic", {"calibrate": "sigmoid"}),
    ("logistic", {"calibrate": "isotonic"}),
    ("logistic", {"class_weight": "balanced"}),
    ("lightgbm", {}),
    ("lightgbm", {"early_stopping": True, "calibrate": "sigmoid"}),
    ("lightgbm", {"num_leaves": 31, "n_estimators": 80}),
    ("xgboost", {}),
    ("xgboost", {"early_stopping": True}),
    ("random_forest", {"n_estimators": 25}),
    ("random_forest_fast", {}),
    ("random_forest_fast", {"class_weight": "balanced", "calibrate": "sigmoid"}),
    ("ensemble", {}),
]
VALUES = [("linear", {}), ("ridge", {}), ("elastic_net", {}), ("lightgbm", {}), ("xgboost", {}),
          ("random_forest", {"n_estimators": 25}), ("random_forest_fast", {})]


class Panel:
    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.X = pd.DataFrame(rng.normal(size=(ROWS, 4)) * [1, 1e-4, 30, 1], columns=NAMES)
        self.value = 0.02 * self.X["a"].to_numpy() + rng.normal(0, 0.05, ROWS)
        self.keys, self.spans = None, row_spans(ROWS, 1)


@pytest.fixture(scope="module")
def panel():
    return Panel()


def compared(model, panel):
    one = single_row(model, panel.X.head(60))
    rows = panel.X.to_numpy()
    some = range(590, 615)  # of which it learnt the first ten
    want = np.array([predict_rows(model, panel, [i])[0] for i in some])
    return one, np.array([one.predict(rows[i]) for i in some]), want


@pytest.mark.parametrize(("name", "options"), QUICK, ids=str)
def test_probabilities_are_the_model_s_own(panel, name, options):
    model = fit_rows(make_model(name, seed=3, **options), panel, np.arange(600),
                     (panel.value > 0).astype(int))
    one, got, want = compared(model, panel)
    assert one.way == "quick" and one.window == 1
    assert np.abs(got - want).max() <= SCORE_TOLERANCE
    if name in ("logistic", "lightgbm", "xgboost", "random_forest_fast"):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("name", "options"), VALUES, ids=str)
def test_values_are_the_model_s_own(panel, name, options):
    model = fit_rows(make_model(name, seed=3, task="regression", **options), panel,
                     np.arange(600), panel.value)
    one, got, want = compared(model, panel)
    assert one.way == "quick" and np.abs(got - want).max() <= SCORE_TOLERANCE
    if name in ("linear", "ridge", "lightgbm", "random_forest_fast"):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("task", "name"), [
    *(("classification", n) for n in ("logistic", "lightgbm", "random_forest", "random_forest_fast",
                                      "ensemble")),
    *(("regression", n) for n in ("linear", "ridge", "elastic_net", "lightgbm", "random_forest",
                               "random_forest_fast", "ensemble")),
])
def test_a_row_alone_and_among_many_is_one_number(panel, name, task):
    "What the service says of one row is what research says of it in a batch, to the last bit."
    target = panel.value if task == "regression" else (panel.value > 0).astype(int)
    model = fit_rows(
        make_model(name, seed=3, task=task, **({"n_estimators": 25} if name == "random_forest" else {})),
        panel, np.arange(600), target)
    one, batch = single_row(model, panel.X.head(60)), predict_rows(model, panel, np.arange(ROWS))
    assert one.way == "quick" and one.exact
    # of which it learnt 150
    np.testing.assert_array_equal([one.predict(row) for row in panel.X.to_numpy()[450:]], batch[450:])
    np.testing.assert_array_equal(predict_rows(model, panel, np.arange(600, 607)), batch[600:607])


def test_behind_an_imputer(panel):
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    holes = panel.X.mask(np.random.default_rng(1).random(panel.X.shape) < 0.05)
    for indicator, way in ((False, "quick"), (True, "not taken apart")):
        model = make_pipeline(SimpleImputer(add_indicator=indicator), StandardScaler(),
                              LogisticRegression()).fit(holes, panel.value > 0)
        one, got, want = compared(model, panel)
        assert way in one.way
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", ["gradient_boosting", "dummy", "persistence"])
def test_what_is_not_known_is_asked_as_it_is(panel, name):
    model = make_model(name, **({"column": "a"} if name == "persistence" else {})).fit(
        panel.X, (panel.value > 0).astype(int))
    one, got, want = compared(model, panel)
    assert "the model itself" in one.way
    np.testing.assert_array_equal(got, want)


def test_a_quick_way_that_gives_something_else_is_not_taken(panel):
    model = make_model("logistic").fit(panel.X, (panel.value > 0).astype(int))

    class Shy(type(model.steps[-1][1])):
        def predict_proba(self, X):
            return 0.5 + 0.9 * (super().predict_proba(X) - 0.5)

    Shy.__name__ = "LogisticRegression"
    model.steps[-1][1].__class__ = Shy
    one, got, want = compared(model, panel)
    assert "off" in one.way
    np.testing.assert_array_equal(got, want)


def test_threads_do_not_mix_their_rows(panel):
    model = make_model("lightgbm", num_leaves=15, min_child_samples=5).fit(
        panel.X, (panel.value > 0).astype(int))
    one, rows, wrong = single_row(model, panel.X.head(30)), panel.X.to_numpy(), []
    want = [one.predict(row) for row in rows[:200]]
    assert len(set(want)) > 50

    def ask(seed):
        for i in np.random.default_rng(seed).integers(0, 200, 3_000):
            if one.predict(rows[i]) != want[i]:
                wrong.append(i)

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_the_function_outlives_the_model(panel):
    import gc

    model = make_model("lightgbm").fit(panel.X, (panel.value > 0).astype(int))
    want, one, row = (model.predict_proba(panel.X.iloc[[3]])[0, 1], single_row(model, panel.X.head(30)),
                      panel.X.to_numpy()[3])
    del model
    gc.collect()
    assert one.predict(row) == want


def test_a_sample_must_be_complete(panel):
    model = make_model("logistic").fit(panel.X, (panel.value > 0).astype(int))
    for wrong in (panel.X.head(0), panel.X.head(5).mask(panel.X.head(5) > 0)):
        with pytest.raises(ModelError, match="complete rows"):
            single_row(model, wrong)
    assert window_of(model) == 1 and window_of(make_model("lstm", window=7)) == 7
