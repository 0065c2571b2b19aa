"""Parts of features add up to what the model says, whatever it is wrapped in; what cannot be attributed is
refused by name."""

import warnings
from itertools import combinations
from math import factorial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import ModelError
from mlfin.validation.attribution import attribute, summarise_attribution
from mlfin.models.zoo import make_model

RNG = np.random.default_rng(0)
X = pd.DataFrame(RNG.normal(size=(1500, 5)) * [1, 5, 0.1, 1, 1], columns=["a", "b/close", "c", "d", "e"])
MOVE = (X["a"] * np.sign(X["d"]) + 0.2 * X["b/close"] + RNG.normal(size=1500)).to_numpy()
Y = (MOVE > 0).astype("int8")


def margin(model, rows):
    p = model.predict_proba(rows)[:, 1].astype("float64")
    return np.log(p / (1 - p))


@pytest.mark.parametrize("name, close", [("lightgbm", 1e-9), ("xgboost", 1e-5), ("logistic", 1e-9)])
def test_parts_add_up_to_the_log_odds(name, close):
    model = make_model(
        name, seed=1, **({} if name == "logistic" else {"max_depth": 4, "n_estimators": 40})
    ).fit(X, Y)
    rows = X.sample(200, random_state=0)
    got = attribute(model, rows)
    assert list(got.values) == list(X) and got.values.index.equals(rows.index) and got.unit == "log-odds"
    np.testing.assert_allclose(got.margin(), margin(model, rows), atol=close)
    shuffled = attribute(model, rows[list(X)[::-1]])
    np.testing.assert_allclose(shuffled.values[list(X)], got.values, atol=1e-12)


def test_regressions_add_up_to_their_values():
    from lightgbm import LGBMRegressor
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.linear_model import ElasticNet, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from xgboost import XGBRegressor

    for model, close in [
        (LGBMRegressor(n_estimators=20, verbose=-1), 1e-9),
        (XGBRegressor(n_estimators=20), 1e-4),
        (Ridge(), 1e-9),
        (make_pipeline(StandardScaler(), ElasticNet(alpha=0.01)), 1e-9),
        (TransformedTargetRegressor(ElasticNet(alpha=0.01), transformer=StandardScaler()), 1e-9),
    ]:
        got = attribute(model.fit(X, MOVE + 3), X)
        assert got.unit == "value"
        np.testing.assert_allclose(got.margin(), model.predict(X), atol=close)


def test_a_forest_on_histograms_adds_up_to_its_probability_or_value():
    forest = make_model("random_forest_fast", n_estimators=25).fit(X, Y)
    inside = make_model("random_forest_fast", n_estimators=25, class_weight="balanced").fit(X, Y)
    for model in (forest, inside):
        parts = attribute(model, X[X.columns[::-1]])
        assert parts.unit == "probability" and list(parts.values) == list(X.columns[::-1])
        np.testing.assert_allclose(parts.margin(), model.predict_proba(X)[:, 1], atol=1e-9)
    values = make_model("random_forest_fast", n_estimators=25, task="regression").fit(X, MOVE)
    parts = attribute(values, X)
    assert parts.unit == "value"
    np.testing.assert_allclose(parts.margin(), values.predict(X), atol=1e-9)


def test_parts_are_the_libraries_own_shap_values():
    light, boost = (make_model(n, n_estimators=25).fit(X, Y) for n in ("lightgbm", "xgboost"))
    own = light.predict(X, pred_contrib=True)
    np.testing.assert_array_equal(attribute(light, X).values, own[:, :-1])
    import xgboost

    own = boost.get_booster().predict(xgboost.DMatrix(X), pred_contribs=True)
    np.testing.assert_allclose(attribute(boost, X).values, own[:, :-1], atol=1e-6)
    assert attribute(boost, X).base == pytest.approx(own[0, -1])


def test_the_trees_after_the_best_are_left_out_as_in_prediction():
    from xgboost import XGBClassifier

    model = XGBClassifier(
        n_estimators=200, learning_rate=0.5, early_stopping_rounds=3, eval_metric="logloss", max_depth=6
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X[:1000], Y[:1000], eval_set=[(X[1000:], Y[1000:])], verbose=False)
    assert model.best_iteration < model.get_booster().num_boosted_rounds() - 1
    np.testing.assert_allclose(attribute(model, X).margin(), margin(model, X), atol=1e-4)


def test_a_linear_part_is_the_shapley_value():
    """Averaged over all orders of knowing features, an unknown one standing at its mean."""
    from sklearn.linear_model import LinearRegression

    rows, names = X.head(60), list(X)
    model = LinearRegression().fit(rows, MOVE[:60])
    mean, row, n = rows.mean(), rows.iloc[7], len(names)

    def said(known):
        return model.predict(pd.DataFrame([np.where(rows.columns.isin(known), row, mean)], columns=names))[0]

    got = attribute(model, rows)
    for name in names:
        rest, total = [c for c in names if c != name], 0.0
        for size in range(n):
            for known in combinations(rest, size):
                total += (
                    factorial(size)
                    * factorial(n - 1 - size)
                    / factorial(n)
                    * (said((*known, name)) - said(known))
                )
        assert got.values[name].iloc[7] == pytest.approx(total, abs=1e-10)


def test_a_standardising_pipeline_gives_coefficient_times_standardised_value():
    model = make_model("logistic").fit(X, Y)
    scale, last = (step for _, step in model.steps)
    part = attribute(model, X.tail(50))
    np.testing.assert_allclose(part.values, (X.tail(50) - scale.mean_) / scale.scale_ * last.coef_[0])
    assert part.base == pytest.approx(last.intercept_[0])


def test_wrappers_are_looked_into_and_ensembles_are_not():
    from sklearn.ensemble import VotingClassifier

    inner = make_model("lightgbm").fit(X, Y)
    wrapped = SimpleNamespace(estimator_=SimpleNamespace(estimator_=inner))
    assert attribute(wrapped, X).values.equals(attribute(inner, X).values)
    with pytest.raises(ModelError, match="SimpleNamespace"):
        attribute(SimpleNamespace(estimator_=inner, estimators_=[inner, inner]), X)
    with pytest.raises(ModelError, match="VotingClassifier"):
        attribute(VotingClassifier([("a", make_model("lightgbm"))], voting="soft").fit(X, Y), X)


@pytest.mark.parametrize("name", ["random_forest", "gradient_boosting", "dummy"])
def test_other_models_are_refused_by_name(name):
    model = make_model(
        name,
        **(
            {"n_estimators": 2}
            if name == "random_forest"
            else {"max_iter": 2}
            if name == "gradient_boosting"
            else {}
        ),
    ).fit(X, Y)
    with pytest.raises(ModelError, match=f"{type(model).__name__}.*\n.*importance"):
        attribute(model, X)


def test_more_classes_and_other_frames_are_refused():
    from sklearn.linear_model import LogisticRegression

    three = np.digitize(MOVE, [-1, 1])
    for model in (
        LogisticRegression(max_iter=500),
        make_model("lightgbm", n_estimators=3),
        make_model("xgboost", n_estimators=3),
    ):
        with pytest.raises(ModelError, match="3 classes"):
            attribute(model.fit(X, three), X)
    model = make_model("logistic").fit(X, Y)
    with pytest.raises(ModelError, match="DataFrame"):
        attribute(model, X.to_numpy())
    light = make_model("lightgbm").fit(X, Y)
    with pytest.raises(ModelError, match="5 features"):
        attribute(light, X[["a", "c"]])
    with pytest.raises(ModelError, match="finite"):
        attribute(LogisticRegression().fit(X, Y), X.assign(a=np.nan))
    assert np.isfinite(attribute(light, X.assign(a=np.nan)).values).all(
        axis=None
    )  # trees know what to do with NaN


def test_the_summary_orders_sizes_and_knows_directions():
    parts = attribute(make_model("logistic").fit(X, Y), X)
    table = summarise_attribution(parts, X).set_index("feature")
    assert table.index[0] == "b/close" and table["importance"].is_monotonic_decreasing
    assert table["share"].sum() == pytest.approx(1)
    coefficients = make_model("logistic").fit(X, Y).steps[-1][1].coef_[0]
    assert [table.loc[n, "direction"] for n in X] == pytest.approx(np.sign(coefficients))
    assert table.loc["a", "importance"] == pytest.approx(parts.values["a"].abs().mean())
    with pytest.raises(ModelError, match="1500 rows"):
        summarise_attribution(parts, X.head(3))
