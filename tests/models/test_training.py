"""Training leaks nothing, repeats to the byte, finds what is there and only that; a budget cuts it
cleanly."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import ModelError
from mlfin.core.provenance import hash_frame
from mlfin.models import zoo
from mlfin.models.training import cross_train
from mlfin.models.zoo import Device, load_models, model

from ..fixtures.known_panel import date_folds, panel

FOUR = ["logistic", "random_forest", "xgboost", "lightgbm"]
SMALL = {"random_forest": {"n_estimators": 20}, "xgboost": {"n_estimators": 15},
         "lightgbm": {"n_estimators": 15}}
COLUMNS = ["symbol", "timeframe", "ts", "model", "fold", "probability", "baseline", "actual",
           "forward_return"]


@pytest.fixture
def registry():
    kept = dict(zoo._MODELS)
    yield
    zoo._MODELS.clear()
    zoo._MODELS.update(kept)
    load_models.cache_clear()


@pytest.fixture(scope="module")
def trained():
    dataset = panel(0.35)
    return dataset, cross_train(dataset, date_folds(dataset), [*FOUR, "dummy"], seed=1)


def test_the_shape_of_predictions(trained):
    dataset, result = trained
    p = result.predictions
    assert list(p) == COLUMNS
    assert {c: str(p[c].dtype) for c in COLUMNS[4:]} == {
        "fold": "int64",
        "probability": "float64",
        "baseline": "float64",
        "actual": "int8",
        "forward_return": "float64",
    }
    assert str(p["ts"].dtype) == "datetime64[us, UTC]"
    assert (
        p.equals(p.sort_values(["model", "symbol", "ts"], ignore_index=True))
        and not p.duplicated(["model", "symbol", "ts"]).any()
    )
    joined = p.merge(dataset.keys.assign(y=dataset.y, r=dataset.forward_return),
                     on=["symbol", "timeframe", "ts"])
    assert (
        (joined["actual"] == joined["y"]).all()
        and (joined["forward_return"] == joined["r"]).all()
        and len(joined) == len(p)
    )
    assert len(result.scores) == 25 and len(result.information) == 25


def test_a_planted_signal_is_found_by_all(trained):
    _, result = trained
    verdict = result.summary.set_index("model")["verdict"]
    assert verdict[FOUR].str.startswith("better than the baseline").all(), verdict.to_dict()
    assert verdict["dummy"].startswith("not better")
    assert result.summary["model"][0] == result.selected and set(result.models) == {result.selected}
    assert result.importance["feature"][0] == "f_0" and set(result.importance["model"]) == {result.selected}


def test_pure_noise_is_not(make_panel, make_date_folds):
    called = []
    for seed in range(4):
        noise = make_panel(0.0, seed=100 + seed, days=600)
        result = cross_train(noise, make_date_folds(noise), ["logistic", "lightgbm"], seed=1)
        called += result.summary["verdict"].str.startswith("better").tolist()
    assert sum(called) == 0


def test_shuffled_labels_are_noise(make_panel, make_date_folds):
    dataset = make_panel(0.5)
    order = np.random.default_rng(0).permutation(len(dataset.y))
    dataset.y, dataset.forward_return = (
        dataset.y.iloc[order].reset_index(drop=True),
        dataset.forward_return.iloc[order].reset_index(drop=True),
    )
    result = cross_train(dataset, make_date_folds(dataset), ["logistic", "xgboost"], seed=1)
    assert result.summary["verdict"].str.startswith("not better").all()


def test_same_seed_same_bytes(make_panel, make_date_folds):
    dataset = make_panel(days=400)
    folds = make_date_folds(dataset, 3)
    one, two = (cross_train(dataset, folds, FOUR, seed=5, overrides=SMALL) for _ in range(2))
    for name in ("predictions", "scores", "summary", "calibration", "information", "importance"):
        assert hash_frame(getattr(one, name)) == hash_frame(getattr(two, name)), name
    other = cross_train(dataset, folds, FOUR, seed=6, overrides=SMALL)
    assert hash_frame(other.predictions) != hash_frame(one.predictions)


def test_a_model_does_not_depend_on_its_company(make_panel, make_date_folds):
    dataset = make_panel(days=400)
    folds = make_date_folds(dataset, 3)
    alone = cross_train(dataset, folds, ["xgboost"], seed=5).predictions
    among = cross_train(dataset, folds, ["random_forest", "xgboost"], seed=5).predictions
    pd.testing.assert_frame_equal(alone, among.query("model == 'xgboost'").reset_index(drop=True))


def test_nothing_of_the_test_part_reaches_the_fit(make_panel, make_date_folds):
    dataset = make_panel(days=500)
    folds = make_date_folds(dataset, 4)
    before = cross_train(dataset, folds, FOUR, seed=1, overrides=SMALL).predictions
    cut = folds[2].test_start
    later = np.flatnonzero(dataset.keys["ts"] >= cut)
    dataset.X.iloc[later] *= -50.0
    dataset.y.iloc[later] = 1 - dataset.y.iloc[later]
    after = cross_train(dataset, folds, FOUR, seed=1, overrides=SMALL).predictions
    same = before["ts"] < cut
    pd.testing.assert_frame_equal(before[same], after[same])
    assert not before[~same].equals(after[~same])


def test_what_has_no_outcome_yet_is_predicted_by_the_fold_of_its_time(make_panel, make_date_folds):
    dataset = make_panel(0.35)
    folds = make_date_folds(dataset)
    alone = cross_train(dataset, folds, ["logistic", "dummy"], seed=1)
    assert alone.pending.empty and list(alone.pending) == ["symbol", "timeframe", "ts", "model", "fold",
                                                           "probability", "baseline"]
    known = pd.concat([dataset.keys, dataset.X], axis=1)
    later = known.tail(3).assign(ts=known["ts"].max() + pd.to_timedelta([1, 2, 3], unit="D"))
    dataset.pending = pd.concat([known, later], ignore_index=True)  # the same rows again, and some after them
    told = cross_train(dataset, folds, ["logistic", "dummy"], seed=1)
    assert told.predictions.equals(alone.predictions)
    key = ["symbol", "ts", "model", "fold", "probability"]
    assert len(told.predictions.merge(told.pending, on=key)) == len(told.predictions)
    assert (told.pending["ts"] >= folds[0].test_start).all()  # nobody had learnt anything before
    rates = told.predictions.groupby("fold")["baseline"].first()
    assert (told.pending["baseline"] == told.pending["fold"].map(rates)).all()
    assert rates.loc[folds[0].number] == dataset.y[folds[0].train].mean()
    assert (told.pending.loc[told.pending["ts"] > known["ts"].max(), "fold"] == folds[-1].number).all()


def test_the_baseline_is_the_training_share(make_panel, make_date_folds):
    dataset = make_panel(days=300)
    folds = make_date_folds(dataset, 2)
    result = cross_train(dataset, folds, "dummy")
    for fold in folds:
        own = result.predictions.query("fold == @fold.number")
        assert (own["baseline"] == dataset.y.iloc[fold.train].mean()).all()
        np.testing.assert_allclose(own["probability"], own["baseline"])


def test_a_symbol_without_rows_in_a_fold_is_absent_there(make_panel, make_date_folds):
    dataset = make_panel(days=300)
    folds = make_date_folds(dataset, 3)
    late = dataset.keys["symbol"] == "IBM"
    for fold in folds[:2]:
        fold.train, fold.test = (part[~late.to_numpy()[part]] for part in (fold.train, fold.test))
    p = cross_train(dataset, folds, ["logistic"]).predictions
    assert p.groupby("fold")["symbol"].nunique().tolist() == [1, 1, 2]


def test_fortran_int_and_float32_features(make_panel, make_date_folds):
    dataset = make_panel(days=300)
    dataset.X = dataset.X.astype({"f_0": "float32"}).assign(f_1=np.arange(len(dataset.X)) % 7)
    assert cross_train(dataset, make_date_folds(dataset, 2), FOUR,
                       overrides=SMALL).predictions["probability"].between(0, 1).all()


def test_constant_features_are_survived(make_panel, make_date_folds):
    dataset = make_panel(days=300)
    dataset.X["f_1"] = 3.0
    result = cross_train(dataset, make_date_folds(dataset, 2), FOUR, overrides=SMALL)
    assert result.importance.set_index("feature")["importance"]["f_1"] == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_missing_and_infinite_features(make_panel, make_date_folds, value):
    dataset = make_panel(days=300)
    dataset.X.iloc[[5, 9], 2] = value
    with pytest.raises(ModelError, match=r"`X\[f_2\]` must be finite in every row.*row 5; 2 such rows") as e:
        cross_train(dataset, make_date_folds(dataset, 2), ["logistic"])
    assert "Hint:" in str(e.value)


def test_one_class(make_panel, make_date_folds):
    dataset = make_panel(days=300)
    folds = make_date_folds(dataset, 2)
    dataset.y.iloc[folds[1].test] = 1
    result = cross_train(dataset, folds, ["logistic"])
    assert result.scores["roc_auc"].isna().tolist() == [False, True]
    assert "one class only" in result.summary["note"][0]
    dataset.y.iloc[folds[0].train] = 0
    with pytest.raises(ModelError, match="both classes in every training part.*fold 0"):
        cross_train(dataset, folds, ["logistic"])


def test_folds_that_are_refused(make_panel, make_date_folds):
    dataset = make_panel(days=300)
    fold = make_date_folds(dataset, 2)[0]
    shared = SimpleNamespace(**{**vars(fold), "train": np.r_[fold.train, fold.test[:1]]})
    empty = SimpleNamespace(**{**vars(fold), "test": fold.test[:0]})
    for folds, words in (([], "at least one fold"), ([shared], "both parts"), ([empty], "with rows")):
        with pytest.raises(ModelError, match=words):
            cross_train(dataset, folds, ["dummy"])


@pytest.mark.parametrize(
    "models, overrides, words",
    [
        ([], None, "at least one"),
        (["dummy", "dummy"], None, "each once"),
        (["logistc"], None, "did you mean `logistic`"),
        (["dummy"], {"logistic": {}}, "for the models"),
        (["logistic"], {"logistic": {"c": 1}}, "parameter"),
    ],
)
def test_models_that_are_refused_before_anything_is_trained(make_panel, make_date_folds, models, overrides,
                                                            words):
    dataset = make_panel(days=300)
    told = []
    with pytest.raises(ModelError, match=words):
        cross_train(
            dataset, make_date_folds(dataset, 2), models, overrides=overrides,
            on_progress=lambda *a: told.append(a)
        )
    assert not told


def test_overrides_reach_the_model_and_the_record(make_panel, make_date_folds):
    dataset = make_panel(days=300)
    folds = make_date_folds(dataset, 2)
    result = cross_train(dataset, folds, ["logistic"], overrides={"logistic": {"C": 1e-9}})
    assert result.parameters["logistic"]["C"] == 1e-9 and result.parameters["logistic"]["max_iter"] == 1000
    assert (result.predictions.groupby("fold")["probability"].std() < 1e-6).all()


def test_what_the_library_says_is_kept(make_panel, make_date_folds):
    dataset = make_panel(days=300)
    with pytest.raises(ModelError, match=r"logistic could not be trained \(logistic, fold 0\).*'C'"):
        cross_train(dataset, make_date_folds(dataset, 2), ["logistic"], overrides={"logistic": {"C": -1.0}})


def test_progress_counts_to_the_end(make_panel, make_date_folds):
    dataset, told = make_panel(days=300), []
    cross_train(
        dataset, make_date_folds(dataset, 2), ["dummy", "logistic"], on_progress=lambda *a: told.append(a)
    )
    assert [t[0] for t in told] == list(range(7)) and {t[1] for t in told} == {6} and told[-1][2] == "done"


def test_a_users_model_takes_part(registry, make_panel, make_date_folds):
    @model("bayes")
    def build(seed, device, threads, **parameters):
        from sklearn.naive_bayes import GaussianNB

        return GaussianNB(**parameters)

    dataset = make_panel(days=300)
    assert cross_train(dataset, make_date_folds(dataset, 2), ["bayes"]).selected == "bayes"


def test_weights_reach_every_model(make_panel, make_date_folds):
    dataset = make_panel(0.3, days=400)
    folds = make_date_folds(dataset, 2)
    plain = cross_train(dataset, folds, [*FOUR, "dummy"], seed=1, overrides=SMALL).predictions
    dataset.weights = pd.Series(np.ones(len(dataset.X)))
    even = cross_train(dataset, folds, [*FOUR, "dummy"], seed=1, overrides=SMALL).predictions
    for name in ("logistic", "xgboost", "dummy"):
        one, two = (frame.loc[frame["model"] == name, "probability"] for frame in (even, plain))
        np.testing.assert_allclose(one, two, atol=1e-6, err_msg=name)
    dataset.weights = pd.Series(np.where(dataset.y == 1, 1.9, 0.1))
    up = cross_train(dataset, folds, [*FOUR, "dummy"], seed=1, overrides=SMALL).predictions
    risen = (up["probability"] - plain["probability"]).groupby(up["model"]).mean()
    assert (risen > 0.05).all(), risen
    assert up["baseline"].equals(plain["baseline"])  # the baseline stays the plain share


def test_a_dataset_of_weights_that_cannot_be(make_panel, make_date_folds):
    dataset = make_panel(days=300)
    for weights in (np.ones(3), np.full(len(dataset.X), np.nan),
                    np.zeros(len(dataset.X)), -np.ones(len(dataset.X))):
        dataset.weights = weights
        with pytest.raises(ModelError, match="`weights` must be 600 finite numbers"):
            cross_train(dataset, make_date_folds(dataset, 2), ["dummy"])


def test_regression_learns_the_return_itself(make_panel, make_date_folds):
    dataset = make_panel(0.5, days=500)
    folds = make_date_folds(dataset, 3)
    result = cross_train(dataset, folds, ["ridge", "xgboost", "dummy"], seed=1, task="regression")
    p = result.predictions
    assert "probability" not in p and result.task == "regression"
    assert set(result.calibration["model"]) == {"ridge", "xgboost",
                                                "dummy"} and result.calibration["predicted"].abs().max() < 0.1
    assert p["actual"].equals(p["forward_return"]) and str(p["actual"].dtype) == "float64"
    for fold in folds:
        own = p.query("fold == @fold.number and model == 'dummy'")
        np.testing.assert_allclose(own["baseline"], dataset.forward_return.iloc[fold.train].mean())
        np.testing.assert_allclose(own["prediction"], own["baseline"])
    assert result.selected in ("ridge", "xgboost") and result.importance["feature"][0] == "f_0"
    assert (result.information.query("model == 'ridge'")["ic"] > 0.2).all()
    known = pd.concat([dataset.keys, dataset.X], axis=1)
    dataset.pending = known.tail(2).assign(ts=known["ts"].max() + pd.Timedelta("1D"))
    later = cross_train(dataset, folds, ["ridge"], task="regression").pending
    assert list(later) == ["symbol", "timeframe", "ts", "model", "fold", "prediction",
                           "baseline"] and len(later) == 2


def test_a_model_that_looks_back_predicts_what_has_no_outcome_from_the_rows_before_it(registry, make_panel,
                                                                                      make_date_folds):
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Back(ClassifierMixin, BaseEstimator):
        """P(up) from the sum of the last three values of a symbol's first column."""

        takes_panel = True

        def fit(self, X, y, sample_weight=None, *, keys, spans=None, rows, embargo=0):
            self.classes_ = np.unique(y[rows])
            return self

        def predict_proba(self, X, keys, rows):
            p = 1 / (
                1 + np.exp(-X["f_0"].groupby(keys["symbol"].array).rolling(3, min_periods=1).sum().to_numpy())
            )
            return np.column_stack([1 - p, p])[rows]

    model("back")(lambda seed, device, threads: Back())
    dataset = make_panel(days=300)
    folds = make_date_folds(dataset, 2)
    known = pd.concat([dataset.keys, dataset.X], axis=1)
    late = known.groupby("symbol").tail(1).assign(ts=known["ts"].max() + pd.Timedelta("1D"))
    dataset.pending = late
    result = cross_train(dataset, folds, ["back"])
    for row in late.itertuples():
        told = result.pending.query("symbol == @row.symbol")["probability"].item()
        three = [*known[known["symbol"] == row.symbol]["f_0"].tail(2), row.f_0]
        assert told == pytest.approx(1 / (1 + np.exp(-sum(three))))
    assert result.importance["feature"][0] == "f_0" and (result.importance["importance"][1:] == 0).all()


def test_class_names_and_more_folds_than_rows(make_panel, make_date_folds):
    dataset = make_panel(days=300)
    folds = make_date_folds(dataset, 2)
    dataset.y = pd.Series(np.where(dataset.y == 1, "up", "down"))
    with pytest.raises(ModelError, match="`y` must be 0 or 1 in every row.*\nHint: learn 0 and 1"):
        cross_train(dataset, folds, ["dummy"])
    with pytest.raises(ModelError, match="fewer than the 600 rows"):
        cross_train(make_panel(days=300), folds * 301, ["dummy"])


def test_parameters_chosen_by_fold(make_panel, make_date_folds):
    dataset = make_panel(0.4, days=300)
    folds = make_date_folds(dataset, 2)
    tuned = {"logistic": {0: {"C": 1e-9}, 1: {"C": 1.0}}}
    result = cross_train(dataset, folds, ["logistic"], tune=tuned)
    spread = result.predictions.groupby("fold")["probability"].std()
    assert spread[0] < 1e-6 < 0.05 < spread[1]
    used = result.parameters["logistic"]
    # all rows: the last fold's
    assert used["C"] == 1.0 and used["by_fold"] == {"0": {"C": 1e-9}, "1": {"C": 1.0}}
    with pytest.raises(ModelError, match="parameters for every fold.*none for fold 1"):
        cross_train(dataset, folds, ["logistic"], tune={"logistic": {0: {}}})


@pytest.mark.gpu
def test_training_on_cuda(make_panel, make_date_folds):
    if zoo.compute_device("auto").name == "cpu":
        pytest.skip(f"no GPU: {zoo.compute_device('auto').reason}")
    dataset = make_panel(0.3)
    folds = make_date_folds(dataset)
    gpu, cpu = (
        cross_train(dataset, folds, ["xgboost"], device=d)
        for d in (zoo.compute_device("gpu"), Device("cpu", ""))
    )
    assert abs(gpu.summary["log_loss"][0] - cpu.summary["log_loss"][0]) < 0.002


def test_whole_or_an_error_that_says_what_to_raise(make_panel, make_date_folds, tmp_path):
    dataset = make_panel(0.35)
    folds = make_date_folds(dataset)
    with pytest.raises(ModelError, match="saved, it takes(.|\n)*raise train_time or model_mb"):
        cross_train(dataset, folds, ["logistic", "random_forest"], model_mb=0.02, whole=True, resume=tmp_path)
    assert list(tmp_path.glob("random_forest-*.fold"))  # what was done is kept


def test_an_error_of_lightgbm_is_told_in_one_line(make_panel, make_date_folds):
    dataset = make_panel(0.35)
    with pytest.raises(ModelError, match="lightgbm could not be trained .*num_leaves") as wrong:
        cross_train(dataset, make_date_folds(dataset), ["lightgbm"],
                    overrides={"lightgbm": {"num_leaves": 1}})
    assert "Stack trace" not in str(wrong.value)


def test_folds_whose_spans_touch_are_refused(make_panel, make_date_folds):
    from mlfin.core.errors import SplitError

    dataset = make_panel(0.35)
    folds = make_date_folds(dataset)
    ts = dataset.keys["ts"]
    dataset.spans = pd.DataFrame({"ts": ts, "t0": ts + pd.Timedelta("1D"), "t1": ts + pd.Timedelta("301D")})
    with pytest.raises(SplitError, match="overlapping spans"):
        cross_train(dataset, folds, ["logistic"])


def test_combinatorial_folds_are_scored_by_blocks(make_panel):
    from mlfin.validation.splits import CombinatorialPurged

    dataset = make_panel(0.35)
    ts = dataset.keys["ts"]
    dataset.spans = pd.DataFrame({"ts": ts, "t0": ts + pd.Timedelta("1D"), "t1": ts + pd.Timedelta("2D")})
    trained = cross_train(dataset, CombinatorialPurged(4, 2, 2).split(dataset.spans), ["logistic"])
    assert trained.predictions.fold.nunique() == 6 and sorted(trained.scores.fold) == [1, 2, 3, 4]
    assert trained.scores.n_test.sum() == len(dataset.X)
