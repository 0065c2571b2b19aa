"""What a run asks of a training: words that are understood, folds that do not leak, names of trials that
stay."""

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import ParameterError, SplitError
from mlfin.validation.predictions import average_paths, separate_paths
from mlfin.models.recipe import CALIBRATIONS, CLASS_WEIGHTS, SPLITTERS, WEIGHTINGS, Recipe, check_model
from mlfin.validation.folds import check_folds
from mlfin.validation.splits import CombinatorialPurged, PurgedKFold, WalkForward, path_rows
from mlfin.models.training import cross_train
from mlfin.datasets.weights import WEIGHTS

from ..validation.test_splits import panel

SPANS = panel([(0, 300), (20, 260)], longest=5)


def same(one, two):
    return all(np.array_equal(a.train, b.train) and np.array_equal(a.test, b.test)
               for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("words, splitter", [
    ({}, WalkForward(5, 5)),
    ({"splitter": "rolling", "folds": 4}, WalkForward(4, 5, expanding=False)),
    ({"splitter": "3ME", "folds": 3, "embargo": 2}, WalkForward(3, 2, period="3ME")),
    ({"splitter": "purged_kfold", "folds": 6}, PurgedKFold(6, 5)),
    ({"splitter": "combinatorial", "folds": 4, "embargo": 3}, CombinatorialPurged(4, 2, 3)),
], ids=lambda value: value.get("splitter", "walk_forward") if isinstance(value, dict) else "")
def test_each_splitter_is_the_one_that_is_named_and_does_not_leak(words, splitter):
    found = Recipe(**words).split(SPANS)
    assert same(found, splitter.split(SPANS))
    check_folds(found, SPANS)


def test_every_splitter_and_weighting_has_its_word():
    assert {"walk_forward", "rolling", "purged_kfold", "combinatorial"} == set(SPLITTERS)
    assert {v for v in WEIGHTINGS.values() if v} == set(WEIGHTS) - {"equal"} and Recipe().weighting is None
    for calibrate in CALIBRATIONS:
        for balance in CLASS_WEIGHTS:
            check_model(Recipe(calibrate=calibrate, class_weights=balance), "logistic")


def test_what_is_neutral_stands_in_no_name():
    assert Recipe().spec() == Recipe(jobs=4, class_weights="balanced",
                                     calibrate="sigmoid").spec() == {"folds": 5, "embargo": 5}
    assert Recipe(task="regression", splitter="3ME", weights="time_decay").spec() == {
        "folds": 5, "embargo": 5, "task": "regression", "splitter": "3ME", "weights": "time_decay"}
    # as plain Ploomber reads `none`
    assert Recipe(weights=None, class_weights=None, calibrate=None) == Recipe()


def test_guesses_are_neither_weighed_nor_calibrated():
    asked = Recipe(class_weights="balanced", calibrate="isotonic")
    assert asked.options("dummy") == asked.options("persistence") == {}
    assert asked.options("xgboost") == {"class_weight": "balanced", "calibrate": "isotonic"}


@pytest.mark.parametrize("words, part", [
    ({"task": "regresion"}, "did you mean `regression`"), ({"splitter": "random"}, "3ME"),
    ({"splitter": "0ME"}, "`splitter`"),
    ({"splitter": "3MEE"}, "`splitter`"), ({"splitter": 3}, "`splitter`"),
    ({"weights": "unique"}, "did you mean `uniqueness`"),
    ({"class_weights": True}, "`class_weights`"), ({"calibrate": "platt"}, "`calibrate`"),
    ({"folds": 0}, "`folds`"), ({"folds": True}, "`folds`"),
    ({"splitter": "purged_kfold", "folds": 1}, ">= 2 for purged_kfold"),
    ({"splitter": "combinatorial", "folds": 2}, ">= 3 for combinatorial"),
    ({"splitter": "combinatorial", "folds": 40}, "780 trainings"), ({"embargo": -1}, "`embargo`"),
    ({"jobs": 0}, "`jobs`"), ({"jobs": 1.5}, "`jobs`"),
    ({"task": "regression", "calibrate": "sigmoid"}, "no classes"),
    ({"task": "regression", "class_weights": "balanced"}, "no classes"),
])
def test_what_makes_no_sense_is_a_matter_of_usage(words, part):
    with pytest.raises(ParameterError) as e: Recipe(**words)
    assert part in str(e.value) and e.value.exit_code == 2


def test_a_model_that_cannot_do_it_is_named():
    with pytest.raises(ParameterError, match="`task` must be classification, got 'regression' .logistic"):
        check_model(Recipe(task="regression"), "logistic")
    with pytest.raises(ParameterError, match="`task` must be regression"): check_model(Recipe(), "ridge")
    check_model(Recipe(task="regression"), "random_forest")


def test_data_that_do_not_reach_are_said_by_the_splitter():
    with pytest.raises(SplitError, match="`folds` must be at most"): Recipe(splitter="10YE").split(SPANS)


def test_paths_are_those_of_the_splitter_and_average_to_what_is_judged(make_panel):
    dataset = make_panel(0.3, days=300)
    dataset.spans = dataset.keys[["ts", "t0", "t1"]]
    folds = Recipe(splitter="combinatorial", folds=4).split(dataset.spans)
    done = cross_train(dataset, folds, ["logistic", "dummy"], seed=1, task="classification")
    assert len(done.paths) == len(done.predictions) == 3 * 2 * len(dataset.X) and set(done.paths.path) == {1,
                                                                                                           2,
                                                                                                           3}
    position = pd.MultiIndex.from_frame(dataset.keys[["symbol", "ts"]])
    for number, own in done.paths[done.paths.model == "logistic"].groupby("path"):
        want = path_rows(folds, number).set_index("row").fold
        rows = position.get_indexer(pd.MultiIndex.from_frame(own[["symbol", "ts"]]))
        assert sorted(rows) == list(range(len(dataset.X))) and (want.loc[rows].to_numpy()
                                                                == own.fold.to_numpy()).all()
        trained_on = {f.number: set(f.train) for f in folds}
        assert not any(row in trained_on[fold] for row, fold in zip(rows, own.fold, strict=True))
    pd.testing.assert_frame_equal(average_paths(done.predictions), done.judged)
    mean = done.paths.groupby(["model", "symbol", "timeframe", "ts"]).probability.mean()
    np.testing.assert_allclose(done.judged.set_index(["model", "symbol", "timeframe",
                                                      "ts"]).probability.loc[mean.index], mean)


def test_one_history_has_no_paths(make_panel, make_date_folds):
    dataset = make_panel(days=300)
    done = cross_train(dataset, make_date_folds(dataset, 2), ["dummy"])
    assert done.paths.empty and list(done.paths) == ["path", *done.predictions]
    assert done.judged.equals(done.predictions)
    assert separate_paths(done.predictions.sample(frac=1, random_state=0)).empty
