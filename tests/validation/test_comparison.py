"""Trainings of one model each, put together: the same numbers as trained together, and only what can be
compared."""
from functools import cache

import pandas as pd
import pytest

from mlfin.core.errors import ModelError
from mlfin.validation.comparison import PARTS, candidates, compare_models, show_traded
from mlfin.models.training import cross_train

MODELS = ("dummy", "lightgbm", "logistic")


def part_of(trained, name, **changes):
    "What the train task leaves of one model."
    document = {
        "dataset": "d",
        "label": "fwd_ret_5",
        "features": ["a"],
        "inputs": ["a"],
        "rows": 600,
        "split": {"folds": 3},
        "device": "cpu",
        "model": name,
        "parameters": trained.parameters[name],
        "information": trained.information.to_dict("records"),
    }
    return {
        **{part: getattr(trained, part) for part in PARTS if part != "training"},
        "training": {**document, **changes},
    }


@cache
def train(make_panel, make_date_folds):
    dataset = make_panel(0.35, seed=3)
    folds = make_date_folds(dataset, 3)
    alone = {m: cross_train(dataset, folds, [m], seed=1) for m in MODELS}
    return alone, cross_train(dataset, folds, list(MODELS), seed=1)


@pytest.fixture
def world(make_panel, make_date_folds):
    "Each model trained alone, and all of them at once."
    return train(make_panel, make_date_folds)


def test_together_they_are_what_one_training_of_all_gives(world):
    alone, whole = world
    for order in (MODELS, MODELS[::-1]):
        compared = compare_models([part_of(alone[m], m) for m in order])
        for part in ("predictions", "pending", "scores", "calibration", "importance", "summary"):
            pd.testing.assert_frame_equal(getattr(compared, part), getattr(whole, part), obj=part)
        assert compared.selected == whole.selected == compared.training["selected"]
        assert compared.training["parameters"] == whole.parameters
        assert compared.training["summary"] == whole.summary.to_dict("records")
        pd.testing.assert_frame_equal(
            pd.DataFrame(compared.training["information"]), whole.information, check_dtype=False
        )


def test_the_verdict_counts_the_models_that_were_tried(world):
    alone, _ = world
    scores = alone["logistic"].scores
    gains = [0.020, 0.012, 0.030]  # more than luck for one model (t = 3.96), not for the best of ten
    near = {
        **part_of(alone["logistic"], "logistic"),
        "scores": scores.assign(log_loss=scores.log_loss_baseline - gains),
    }
    assert compare_models([near]).summary.verdict[0].startswith("better than")
    def called(name):
        parts = {p: f.assign(model=name) for p, f in near.items() if p != "training"}
        worse = parts["scores"].assign(log_loss=scores.log_loss_baseline + 0.1)
        return {**parts, "scores": worse, "training": {**near["training"], "model": name}}

    many = (
        compare_models([near, *(called(f"other_{k}") for k in range(9))]).summary.set_index("model").verdict
    )
    assert many["logistic"].startswith("not better than") and "which chance can do" in many["logistic"]


@pytest.mark.parametrize("changes, words", [
    ({"dataset": "e"}, "`dataset` must be that of dummy.*lightgbm"),
    ({"split": {"folds": 4}}, "`split`"),
    ({"label": "fwd_ret_6", "features": ["b"]}, "`features` must be that of dummy"),
    ({"label": "fwd_ret_6", "split": {"folds": 4}}, "`split`"),
    ({"model": "dummy"}, "each once"),
])
def test_what_was_trained_on_something_else_is_refused(world, changes, words):
    alone, _ = world
    with pytest.raises(ModelError, match=words):
        compare_models([part_of(alone["dummy"], "dummy"), part_of(alone["lightgbm"], "lightgbm", **changes)])


def test_other_folds_and_strange_rows_are_refused(world):
    alone, _ = world
    first, other = part_of(alone["dummy"], "dummy"), part_of(alone["lightgbm"], "lightgbm")
    with pytest.raises(ModelError, match="`folds` must be those of dummy"):
        compare_models([first, {**other, "scores": other["scores"].iloc[:-1]}])
    with pytest.raises(ModelError, match="`predictions` must be of lightgbm alone"):
        compare_models([first, {**other, "predictions": first["predictions"]}])
    with pytest.raises(ModelError, match="at least one model"):
        compare_models([])


def test_several_labels_are_chosen_by_skill_and_judged_together(world):
    "The losses of one label are ten times as large: its skill is what it takes away of its own naive loss."
    alone, _ = world
    def of(name, label, gain, scale=1.0):
        part = part_of(alone[name], name, label=label, dataset=label, rows=int(600 / scale), baseline=0.5)
        scores = part["scores"].assign(log_loss_baseline=0.7 * scale)
        return {
            **part,
            "scores": scores.assign(log_loss=scores.log_loss_baseline * (1 - gain - 0.001 * scores.fold)),
        }

    four = [
        of("dummy", "fwd_ret_6", 0.0),
        of("logistic", "fwd_ret_6", 0.01),
        of("dummy", "barrier_20_2_1", 0.0, 10),
        of("logistic", "barrier_20_2_1", 0.02, 10),
    ]
    told = {"model": "dummy", "label": "fwd_ret_6", "dataset": "fwd_ret_6", "rows": 600, "baseline": 0.5}
    for order in (four, four[::-1]):
        compared = compare_models(order)
        assert compared.selected == "logistic-barrier_20_2_1"
        assert compared.training["label"] == "barrier_20_2_1" and compared.training["rows"] == 60
        assert list(compared.summary.model[:2]) == ["logistic-barrier_20_2_1", "logistic-fwd_ret_6"]
        assert len(compared.summary) == 4
        assert candidates(compared.training)["dummy-fwd_ret_6"] == {**told, "unchecked": None}
        assert (
            {row["model"] for row in compared.training["information"]}
            == set(compared.summary.model)
            == set(compared.predictions.model)
        )
        parts = compared.by_label()
        assert list(parts) == ["barrier_20_2_1", "fwd_ret_6"]
        assert sum(len(own.predictions) for own in parts.values()) == len(compared.predictions)
        shown = show_traded(compared.training, {name: 1.0 for name in compared.summary.model})
        assert shown.index[0] == ("barrier_20_2_1", "logistic")
        assert shown.chosen.tolist() == ["yes", "", "", ""]
    single = compare_models(four[:2])
    assert "skill" not in single.summary and "candidates" not in single.training
    assert list(single.by_label()) == ["fwd_ret_6"]
    assert candidates(single.training)["dummy"] == {**told, "unchecked": ""}
