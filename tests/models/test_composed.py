"""Wrappers: scikit-learn's contract, held-out rows that are purged, maps that never turn a model round."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier, is_regressor
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from mlfin.core.errors import ModelError, SplitError
from mlfin.models import composed
from mlfin.models.composed import (
    Calibrated,
    ClassWeighted,
    EarlyStopped,
    FastForestClassifier,
    FastForestRegressor,
    MeanEnsemble,
    PersistenceClassifier,
    PersistenceRegressor,
    fit_part,
    predict_part,
    rounds_keyword,
    weight_keyword,
)
from mlfin.models.zoo import make_model

SMALL = dict(max_iter=10, random_state=0)


def without(made):
    """Checks of scikit-learn that cannot hold."""
    if isinstance(made, ClassWeighted):
        return {"check_sample_weight_equivalence_on_dense_data": "classes are balanced by rows, not by "
                "weights"}
    if isinstance(made, EarlyStopped):
        return {"check_fit2d_1sample": "one row cannot be split; it is refused, as a ModelError"}
    if isinstance(made, FastForestClassifier | FastForestRegressor):
        drawn = "trees are grown on rows drawn at random, and leaves are limited by rows"
        return {"check_sample_weight_equivalence_on_dense_data": drawn}
    return {}


@parametrize_with_checks(
    [PersistenceClassifier(0), PersistenceRegressor(), ClassWeighted(LogisticRegression()),
     EarlyStopped(HistGradientBoostingRegressor(**SMALL), horizon=1),
     MeanEnsemble([("a", LinearRegression()), ("b", LinearRegression(fit_intercept=False))]),
     FastForestClassifier(n_estimators=20), FastForestRegressor(n_estimators=20)],
    expected_failed_checks=without)
def test_scikit_learns_contract(estimator, check):
    check(estimator)


def data(seed=0, size=800):
    """Inputs, classes, values, spans of five rows, weights."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(size, 3)), columns=["rsi_14", "returns", "mom_5"])
    value = (X["rsi_14"] + 1.5 * rng.normal(size=size)).to_numpy()
    return X, (value > 0).astype("int8"), value, composed.row_spans(size, 5), rng.uniform(0.5, 2, size)


# --- a forest on histograms


def forests(strength: float, seed: int):
    """AUC out of sample of scikit-learn's forest and of ours, both with the zoo's parameters."""
    rng = np.random.default_rng(seed)
    X = rng.standard_t(4, size=(9000, 12))
    up = strength * (X[:, 0] + np.sin(2 * X[:, 1]) + (X[:, 2] > 0) * X[:, 3]) + rng.normal(size=9000) > 0
    both = [make_model(name, seed=seed).fit(X[:5000], up[:5000])
            for name in ("random_forest", "random_forest_fast")]
    return [roc_auc_score(up[5000:], model.predict_proba(X[5000:])[:, 1]) for model in both]


@pytest.mark.parametrize("strength", [0.1, 0.5])
def test_a_forest_on_histograms_ranks_as_scikit_learns(strength):
    found = np.array([forests(strength, seed) for seed in range(4)])
    apart = found[:, 1] - found[:, 0]
    error = np.sqrt(4001 / 12) / 2000  # of an AUC of 2,000 and 2,000 rows (Mann and Whitney, 1947): 0.009
    assert abs(apart.mean()) < error / 2 and np.abs(apart).max() < error  # four seeds; each
    assert found.min() > 0.51


def test_a_forest_s_leaf_says_the_share_of_its_rows():
    X, up = np.repeat([[0.0], [1.0]], 500, axis=0), np.repeat([0, 1], 500)
    sure = FastForestClassifier(n_estimators=5).fit(X, up)
    np.testing.assert_allclose(sure.predict_proba([[0.0], [1.0]]), [[1, 0], [0, 1]], atol=1e-6)
    assert sure.predict_proba(X).max() <= 1.0 and sure.predict(X).tolist() == up.tolist()
    mixed = np.tile([0, 1, 1, 1], 250)
    assert FastForestClassifier(n_estimators=50).fit(X, mixed).predict_proba(X)[0, 1] == pytest.approx(
        0.75, abs=0.03)
    heavy = FastForestClassifier(n_estimators=50).fit(X, mixed, np.where(mixed, 1.0, 3.0))
    assert heavy.predict_proba(X)[0, 1] == pytest.approx(0.5, abs=0.05)


def test_a_missing_value_goes_where_it_belongs():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 3))
    up, X[::3, 0] = (X[:, 0] > 0).astype(int), np.nan
    up[::3] = 1                                            # a gap says "up"
    model = FastForestClassifier(max_features=None).fit(X, up)
    assert model.predict_proba([[np.nan, 0, 0]])[0, 1] > 0.9 > 0.2 > model.predict_proba([[-2, 0, 0]])[0, 1]


@pytest.mark.parametrize("own, says", [
    (dict(max_samples=0.0), "max_samples"), (dict(min_samples_leaf=1.5), "min_samples_leaf"),
    (dict(max_features="half"), "sqrt, log2"), (dict(max_depth=0), "max_depth"),
    (dict(max_samples=float("nan")), "max_samples"), (dict(max_features=True), "max_features")])
def test_a_forest_s_limits_are_refused_by_name(own, says):
    X, y, *_ = data(size=100)
    with pytest.raises(ModelError, match=says):
        FastForestClassifier(**own).fit(X, y)


# --- parts of a panel


def test_the_name_of_weights():
    assert weight_keyword(LogisticRegression()) == "sample_weight"
    assert weight_keyword(make_pipeline(StandardScaler(),
                                        LogisticRegression())) == "logisticregression__sample_weight"
    assert weight_keyword(KNeighborsClassifier()) is None
    assert weight_keyword(make_pipeline(KNeighborsClassifier())) is None


def test_a_part_is_fitted_and_predicted_by_position():
    X, y, _, _, w = data()
    rows, model = np.arange(50, 300), make_pipeline(StandardScaler(), LogisticRegression())
    one = fit_part(clone(model), X, y, rows, w)
    two = clone(model).fit(X.iloc[rows], y[rows], logisticregression__sample_weight=w[rows])
    assert predict_part(one, X, rows).tobytes() == two.predict_proba(X.iloc[rows]).tobytes()
    assert predict_part(LinearRegression().fit(X, y), X.to_numpy(), np.array([3])).shape == (1,)


def test_weights_that_cannot_be_taken_are_said():
    X, y, _, _, w = data()
    with pytest.warns(UserWarning, match="KNeighborsClassifier takes no weights"):
        fit_part(KNeighborsClassifier(), X, y, np.arange(100), w)


class Recorder(ClassifierMixin, BaseEstimator):
    """A classifier that remembers what it was given."""

    takes_panel = True
    seen: list = []

    def fit(self, X, y, sample_weight=None, *, keys=None, spans=None, rows=None, embargo=0):
        Recorder.seen.append((sample_weight, keys, spans, rows, embargo))
        self.classes_ = np.unique(y[rows])
        return self

    def predict_proba(self, X, keys=None, rows=None):
        Recorder.seen.append((keys, rows))
        return np.full((len(rows), 2), 0.5)


@pytest.mark.parametrize("around", [ClassWeighted, Calibrated, lambda e: MeanEnsemble([("a", e), ("b", e)])])
def test_wrappers_hand_on_what_a_model_of_sequences_needs(around):
    X, y, _, spans, _ = data()
    keys, rows, Recorder.seen = X.assign(symbol="A"), np.arange(100, 500), []
    made = around(Recorder()).fit(X, y, keys=keys, spans=spans, rows=rows, embargo=3)
    whole = [s for s in Recorder.seen if len(s) == 5 and len(s[3]) == 400]
    assert whole and all(k is keys and s is spans and e == 3 and (r == rows).all() for _, k, s, r, e in whole)
    Recorder.seen = []
    assert made.predict_proba(X, keys=keys, rows=[7, 8]).shape == (2, 2)
    assert all(k is keys and list(r) == [7, 8] for k, r in Recorder.seen)


# --- persistence


def test_persistence_reads_one_input_and_never_reverses():
    X, y, _, _, _ = data()
    made = PersistenceClassifier().fit(X, X["returns"] > 0)
    assert made.column_ == 1 and made.share_ == pytest.approx(1 - 1 / 802)
    assert PersistenceClassifier().fit(X, X["returns"] <= 0).share_ == 0.5
    assert PersistenceClassifier("mom_5").fit(X,
                                              y).column_ == 2 and PersistenceClassifier().fit(X.to_numpy(),
                                                                                              y).column_ == 0
    assert PersistenceClassifier().fit(X.drop(columns="returns"), y).column_ == 1
    still = PersistenceClassifier().fit(X, y).predict_proba(X.assign(returns=0.0))
    assert (still == 0.5).all()


def test_persistence_says_which_input_is_missing():
    X, y, value, _, _ = data()
    for made in (PersistenceClassifier(), PersistenceRegressor(), PersistenceClassifier("close")):
        with pytest.raises(ModelError, match="`column` must be an input that holds the last return"):
            made.fit(X[["rsi_14"]], y)


# --- class weights


def test_class_weights_multiply_sample_weights():
    X, _, value, _, w = data()
    y = (value > 1.5).astype(int)
    balanced = np.where(y == 1, len(y) / 2 / y.sum(), len(y) / 2 / (len(y) - y.sum()))
    one = ClassWeighted(LogisticRegression()).fit(X, y, w).predict_proba(X)
    two = LogisticRegression().fit(X, y, balanced * w).predict_proba(X)
    np.testing.assert_allclose(one, two, rtol=1e-12)
    assert (
        ClassWeighted(LogisticRegression(), {0: 1, 1: 1}).fit(X, y).predict_proba(X)[:, 1].mean()
        < one[:, 1].mean()
    )


# --- early stopping


def boosters(task="classification"):
    import lightgbm
    import xgboost

    if task == "regression":
        return [HistGradientBoostingRegressor(max_iter=150, learning_rate=0.3, random_state=0),
                lightgbm.LGBMRegressor(n_estimators=150, learning_rate=0.3, verbose=-1, n_jobs=1),
                xgboost.XGBRegressor(n_estimators=150, learning_rate=0.3, n_jobs=1)]
    return [HistGradientBoostingClassifier(max_iter=150, learning_rate=0.3, random_state=0),
            lightgbm.LGBMClassifier(n_estimators=150, learning_rate=0.3, verbose=-1, n_jobs=1),
            xgboost.XGBClassifier(n_estimators=150, learning_rate=0.3, n_jobs=1)]


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("number", range(3))
def test_boosters_stop_and_are_fitted_to_all_rows(number, task):
    X, y, value, spans, w = data()
    booster, target = boosters(task)[number], y if task == "classification" else value
    made = EarlyStopped(booster, patience=5).fit(X, target, w, spans=spans, rows=np.arange(600))
    assert 1 <= made.rounds_ < 100 and getattr(booster, rounds_keyword(booster)) == 150
    bare = clone(booster).set_params(**{rounds_keyword(booster): made.rounds_})
    bare.fit(X[:600], target[:600], sample_weight=w[:600])
    assert predict_part(made, X, np.arange(800)).tobytes() == predict_part(bare, X, np.arange(800)).tobytes()
    assert is_classifier(made) == (task == "classification") and is_regressor(made) != is_classifier(made)
    again = EarlyStopped(booster, patience=5).fit(X, target, w, spans=spans, rows=np.arange(600))
    assert predict_part(again, X, np.arange(800)).tobytes() == predict_part(made, X, np.arange(800)).tobytes()


def test_the_rounds_come_from_purged_rows_of_the_training_part(monkeypatch):
    X, y, _, spans, _ = data()
    seen = []
    monkeypatch.setattr(composed, "_best_rounds", lambda e, X, y, learn, check, w,
                        p: seen.append((learn, check)) or 3)
    rows = np.arange(100, 500)
    EarlyStopped(HistGradientBoostingClassifier()).fit(X, y, spans=spans, rows=rows, embargo=4)
    (learn, check), = seen
    assert check.tolist() == list(range(420, 500)) and set(learn) < set(rows)
    assert spans["t1"].iloc[learn].max() < spans["ts"].iloc[check[0] - 4]


def test_rows_after_the_training_part_do_not_matter():
    X, y, _, spans, _ = data()
    made = [EarlyStopped(boosters()[0]).fit(X, target, spans=spans, rows=np.arange(500))
            for target in (y, np.r_[y[:500], 1 - y[500:]])]
    assert made[0].rounds_ == made[1].rounds_


@pytest.mark.parametrize("made, says", [
    (EarlyStopped(HistGradientBoostingClassifier()), "`early_stopping` must have spans to purge by"),
    (Calibrated(LogisticRegression()), "`calibrate` must have spans to purge by"),
    (EarlyStopped(LogisticRegression(), horizon=5), "asked of xgboost, lightgbm"),
    (EarlyStopped(HistGradientBoostingClassifier(), horizon=799), "must leave rows to learn from"),
    (Calibrated(LogisticRegression(), "platt", horizon=5), "`calibrate` must be sigmoid or isotonic"),
    (MeanEnsemble([("a", LinearRegression()), ("b", LogisticRegression())]),
     "all classifiers or all regressors"),
])
def test_refused(made, says):
    X, y, _, _, _ = data()
    with pytest.raises(ModelError, match=says):
        made.fit(X, y)


# --- calibration


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration_helps_a_model_that_is_too_sure(method):
    X, y, _, spans, _ = data(size=3000)
    sure = HistGradientBoostingClassifier(max_iter=150, random_state=0)
    train, test = np.arange(2000), np.arange(2010, 3000)

    def loss(model):
        p = np.clip(predict_part(model, X, test)[:, 1], 1e-9, 1 - 1e-9)
        return -np.mean(np.where(y[test] == 1, np.log(p), np.log(1 - p)))

    calm = Calibrated(sure, method).fit(X, y, spans=spans, rows=train)
    bare = fit_part(clone(sure), X, y, train)
    assert loss(calm) < loss(bare) - 0.02 and loss(calm) < np.log(2)
    order = np.argsort(predict_part(bare, X, test)[:, 1], kind="stable")
    assert (np.diff(predict_part(calm, X, test)[order, 1]) >= 0).all()
    assert predict_part(calm, X, test)[:, 1].min() > 0 and predict_part(calm, X, test)[:, 1].max() < 1


def test_the_map_is_learnt_from_rows_that_the_copies_never_saw(monkeypatch):
    X, y, _, spans, _ = data()
    parts, rows = [], np.arange(50, 650)
    fit, predict = composed.fit_part, composed.predict_part
    monkeypatch.setattr(composed, "fit_part", lambda e, X, y,
                        rows, *rest: parts.append(rows) or fit(e, X, y, rows, *rest))
    monkeypatch.setattr(composed, "predict_part", lambda e, X, rows,
                        keys: parts.append(rows) or predict(e, X, rows, keys))
    Calibrated(LogisticRegression(), slices=4).fit(X, y, spans=spans, rows=rows, embargo=2)
    *inner, final = parts
    assert len(inner) == 8 and final.tolist() == rows.tolist()
    for learn, check in zip(inner[::2], inner[1::2], strict=True):
        assert set(learn) | set(check) <= set(rows)
        assert spans["t1"].iloc[learn].max() < spans["ts"].iloc[check[0] - 2]


def test_a_model_that_is_wrong_is_flattened_and_not_turned_round():
    X, y, _, spans, _ = data(size=1200)
    # the world turns round: what was learnt before is wrong in every inner slice after
    half = np.r_[y[:500], 1 - y[500:]]
    for method in ("sigmoid", "isotonic"):
        made = Calibrated(LogisticRegression(), method,
                          slices=2).fit(X, half, spans=spans, rows=np.arange(900))
        rising = predict_part(made.estimator_, X, np.arange(900, 1200))[:, 1].argsort()
        assert (np.diff(made.predict_proba(X, rows=np.arange(900, 1200))[rising, 1]) >= 0).all()


def test_a_constant_model_stays_at_the_share_of_the_class():
    X, y, _, spans, w = data()
    made = Calibrated(DummyClassifier(), "sigmoid").fit(X, y, w, spans=spans)
    p = made.predict_proba(X)[:, 1]
    assert np.ptp(p) < 1e-12 and abs(p[0] - y.mean()) < 0.06


def test_one_class_in_an_inner_slice_is_said():
    X, y, _, spans, _ = data()
    with pytest.raises(ModelError, match=r"both classes in every inner slice, got 'only \[0\]' \(slice 1"):
        Calibrated(LogisticRegression()).fit(X, np.r_[np.zeros(400, int), y[400:]], spans=spans)
    with pytest.raises(ModelError, match="`y` must be of two classes"):
        Calibrated(LogisticRegression(), horizon=5).fit(X, np.arange(800) % 3)
    with pytest.raises(SplitError):
        Calibrated(LogisticRegression(), horizon=700).fit(X, y)


# --- ensemble


def test_the_mean_of_several():
    X, y, value, _, w = data()
    members = [("a", LogisticRegression()), ("b", HistGradientBoostingClassifier(**SMALL))]
    made = MeanEnsemble(members).fit(X, y, w)
    expected = sum(clone(m).fit(X, y, sample_weight=w).predict_proba(X) for _, m in members) / 2
    np.testing.assert_allclose(made.predict_proba(X), expected, rtol=1e-12)
    assert (made.predict(X) == (expected[:, 1] > 0.5)).all() and made.score(X, y) > 0.6
    values = MeanEnsemble([("a", LinearRegression()),
                           ("b", HistGradientBoostingRegressor(**SMALL))]).fit(X, value)
    assert is_regressor(values) and not hasattr(values, "predict_proba") and values.score(X, value) > 0.1
    assert [name for name, _ in clone(made).estimators] == ["a",
                                                            "b"] and not hasattr(clone(made), "estimators_")


def test_names_of_classes_may_be_words():
    X, y, _, spans, _ = data()
    words = np.where(y == 1, "up", "down")
    for made in (PersistenceClassifier(), ClassWeighted(LogisticRegression()),
                 Calibrated(LogisticRegression(), horizon=5),
                 EarlyStopped(HistGradientBoostingClassifier(**SMALL), horizon=5),
                 MeanEnsemble([("a", LogisticRegression())])):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            made.fit(X, words)
        assert list(made.classes_) == ["down", "up"] and set(made.predict(X)) <= {"down", "up"}
