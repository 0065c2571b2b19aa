"""Tuning never sees an outer test part, counts every trial for good, and killed it resumes to the same
choice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import MissingExtraError, ModelError, SettingsError, SplitError
from mlfin.core.trials import open_ledger
from mlfin.models import tuning
from mlfin.validation.splits import CombinatorialPurged, WalkForward
from mlfin.models.training import cross_train
from mlfin.models.tuning import record_trials, daily_gains, history_chart, parameter_chart, tune

LESS = dict(trials=6, inner=2, embargo=2, seed=3)


def question(make_panel, days=300, signal=0.3, folds=2, **more):
    """A panel with spans, and its outer folds."""
    dataset = make_panel(signal, days=days, **more)
    dataset.spans = dataset.keys[["ts", "t0", "t1"]]
    dataset.label = "fwd_ret_5"
    return dataset, WalkForward(folds=folds, embargo=2).split(dataset.spans)


@pytest.fixture
def ledger(tmp_path):
    return open_ledger(tmp_path / "trials.sqlite")


def test_the_outer_test_part_has_no_say(make_panel, ledger):
    dataset, folds = question(make_panel)
    before = tune(dataset, folds, "logistic", ledger, "a", **LESS)
    later = folds[1].test
    dataset.X.iloc[later] *= -50.0
    dataset.y.iloc[later] = 1 - dataset.y.iloc[later]
    dataset.forward_return.iloc[later] *= 9.0
    after = tune(dataset, folds, "logistic", ledger, "b", **LESS)
    assert before.choices == after.choices and before.trials.equals(after.trials)
    learnt = folds[1].train
    dataset.y.iloc[learnt] = 1 - dataset.y.iloc[learnt]  # what it may see does have a say
    assert not tune(dataset, folds, "logistic", ledger, "c", **LESS).trials.equals(before.trials)


def test_no_inner_span_touches_its_training(make_panel):
    dataset, folds = question(make_panel)
    for fold in folds:
        parts = tuning._inner_folds(dataset.spans, fold, 3, 2)
        assert len(parts) == 3
        for part in parts:
            assert set(part.train) | set(part.test) <= set(fold.train)
            assert dataset.spans["t1"].iloc[part.train].max() < dataset.spans["ts"].iloc[part.test].min()


@pytest.mark.slow
def test_every_trial_is_counted_pruned_ones_too_and_stays(make_panel, ledger, tmp_path):
    dataset, folds = question(make_panel, signal=0.5)

    def space(trial):
        return {"C": trial.suggest_float("C", 1e-6, 1.0, log=True)}

    asked = dict(trials=14, inner=3, embargo=2, seed=3, space=space,
                 storage=f"sqlite:///{tmp_path}/deep/tuning.db")
    tuned = tune(dataset, folds[1:], "logistic", ledger, "main", **asked)
    assert set(tuned.trials["state"]) == {"complete", "pruned"} and len(tuned.trials) == 14
    assert tuned.trials.query("state == 'pruned'")["steps"].eq(2).all()
    assert ledger.snapshot("main").count == 14
    spec = json.loads(ledger.trials("main")["spec"][0])
    assert spec["model"] == "logistic" and spec["label"] == "fwd_ret_5" and spec["parameters"]["seed"] == 3
    assert spec["rule"]["part"] == "inner folds of fold 2" and spec["dataset"] == dataset.hash
    assert ledger.returns("main").notna().any().all()
    Path(tmp_path / "deep" / "tuning.db").unlink()
    kept = ledger.snapshot("main")
    tune(dataset, folds[1:], "logistic", ledger, "main", **asked)
    assert ledger.snapshot("main") == kept
    tune(dataset, folds[1:], "xgboost", ledger, "main", **LESS)
    assert ledger.snapshot("main").count == 20


def test_what_is_planted_is_chosen(make_panel, ledger):
    dataset, folds = question(make_panel, signal=0.6, days=500)
    space = lambda trial: {"C": trial.suggest_categorical("C", [1e-7, 0.1])}
    tuned = tune(dataset, folds, "logistic", ledger, "main", space=space, **LESS)
    assert {fold: c["C"] for fold, c in tuned.choices.items()} == {1: 0.1, 2: 0.1}
    assert len(tuned.trials) == 12 and ledger.snapshot("main").count == 4  # the same content is one trial


def test_the_ledger_feeds_the_deflated_sharpe_ratio(make_panel, ledger):
    from mlfin.significance.significance import significance

    dataset, folds = question(make_panel)
    tune(dataset, folds, "logistic", ledger, "main", **LESS)
    days = pd.date_range("2015-01-01", periods=200, freq="D", tz="UTC")
    chosen = pd.Series(np.random.default_rng(0).normal(0.001, 0.01, 200), days)
    alone = significance(chosen, None)
    among = significance(chosen, ledger.returns("main"))
    assert among["n_trials"] == 13 and among["dsr"] < alone["dsr"]


SCRIPT = """
import sys
from tests.fixtures.known_panel import panel
from mlfin.core.trials import open_ledger
from mlfin.validation.splits import CombinatorialPurged, WalkForward
from mlfin.models.tuning import tune
dataset = panel(0.3, days=300)
dataset.spans, dataset.label = dataset.keys[["ts", "t0", "t1"]], "fwd_ret_5"
folds = WalkForward(folds=2, embargo=2).split(dataset.spans)
tune(dataset, folds, "logistic", open_ledger(sys.argv[1] + "/killed.sqlite"), "main", trials=8, inner=2,
     embargo=2, seed=3, storage=f"sqlite:///{sys.argv[1]}/killed.db")
"""


@pytest.mark.slow
def test_a_killed_tuning_resumes_to_the_same_choice(make_panel, tmp_path):
    dataset, folds = question(make_panel)
    again = dict(LESS, trials=8)
    home = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    child = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], env=home)
    deadline, killed = time.monotonic() + 60, tmp_path / "killed.sqlite"
    while child.poll() is None and time.monotonic() < deadline:
        if killed.exists() and killed.stat().st_size and open_ledger(killed).snapshot("main").count >= 10:
            break
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    counted = open_ledger(killed).snapshot("main").count
    assert 10 <= counted < 16
    told = []
    resumed = tune(dataset, folds, "logistic", open_ledger(killed), "main",
                   storage=f"sqlite:///{tmp_path}/killed.db",
                   on_progress=lambda *a: told.append(a), **again)
    whole = tune(dataset, folds, "logistic", open_ledger(tmp_path / "whole.sqlite"), "main", **again)
    assert len(told) - 1 <= 16 - counted + 1 and resumed.choices == whole.choices
    columns = ["fold", "state", "value", "steps", "parameters"]
    assert resumed.trials[columns].equals(whole.trials[columns])
    assert open_ledger(killed).snapshot("main") == open_ledger(tmp_path / "whole.sqlite").snapshot("main")


def test_another_question_is_another_study(make_panel, ledger):
    dataset, folds = question(make_panel, days=200)
    less = dict(LESS, trials=1)
    names = [tune(dataset, folds, "logistic", ledger, "main", **{**less, **more}).studies[1]
             for more in ({}, {"seed": 4}, {"inner": 3}, {"overrides": {"max_iter": 50}},
                          {"space": lambda t: {"C": t.suggest_float("C", 0.1, 0.2)}})]
    dataset.X.iloc[0, 0] += 1e-9
    names.append(tune(dataset, folds, "logistic", ledger, "main", **less).studies[1])
    assert len(set(names)) == 6 and all(name.startswith("logistic-1-") for name in names)


def test_a_trial_that_cannot_be_trained_is_passed_over(make_panel, ledger):
    dataset, folds = question(make_panel, days=200)
    space = lambda trial: {"C": trial.suggest_categorical("C", [-1.0, 0.1])}
    tuned = tune(dataset, folds, "logistic", ledger, "main", space=space, **LESS)
    assert set(tuned.trials["state"]) == {"complete",
                                          "fail"} and {c["C"] for c in tuned.choices.values()} == {0.1}
    with pytest.raises(ModelError, match="No trial of fold 1 was finished"):
        tune(dataset, folds, "logistic", ledger, "main", space=lambda t: {"C": t.suggest_float("C", -2, -1)},
             **LESS)


def test_regression(make_panel, ledger):
    dataset, folds = question(make_panel, days=200)
    tuned = tune(dataset, folds, "ridge", ledger, "main", task="regression", **LESS)
    assert set(tuned.choices[1]) == {"alpha"} and tuned.trials["value"].between(0, 0.01).all()


def test_over_the_time_it_stops_and_says_so(make_panel, ledger, monkeypatch):
    dataset, folds = question(make_panel, days=200)
    now = [0.0]
    monkeypatch.setattr(tuning, "monotonic", lambda: now[0])
    tick = lambda *a: now.__setitem__(0, now[0] + 1)
    cut = tune(dataset, folds, "logistic", ledger, "main", budget=8.5, on_progress=tick, **LESS)
    assert cut.stopped == "The time of 8.5 s is over: fold 1 has 5 of 6 trials, fold 2 has 4 of 6 trials."
    assert set(cut.choices) == {1, 2}
    with pytest.raises(ModelError, match="No trial of fold 2 was finished.*\nHint: raise `budget`"):
        now[0] = 0.0
        tune(dataset, folds, "logistic", ledger, "main", budget=0.5, on_progress=tick, **LESS)


def test_sleeves_by_the_book():
    rng = np.random.default_rng(0)
    ts = pd.date_range("2020-01-01", periods=60, freq="D", tz="UTC").as_unit("us")
    day = pd.Timedelta("1D")
    one = [pd.DataFrame({"symbol": s, "ts": ts, "t0": ts + day, "t1": ts + 6 * day,
                         "probability": rng.uniform(size=60),
                         "forward_return": rng.normal(size=60)}) for s in "AB"]
    want = {t + 6 * day: sum(f["forward_return"][k] / 10 for f in one if f["probability"][k] > 0.5)
            for k, t in enumerate(ts)}
    found = daily_gains(pd.concat(one))
    assert found.index.is_monotonic_increasing and str(found.index.tz) == "UTC"
    np.testing.assert_allclose(found, [want[d] for d in found.index])


def test_intraday_spans_are_summed_by_day():
    ts = pd.date_range("2020-01-01", periods=48, freq="h", tz="UTC").as_unit("us")
    frame = pd.DataFrame({"symbol": "A", "ts": ts, "t0": ts + pd.Timedelta("1h"),
                          "t1": ts + pd.Timedelta("2h"),
                          "prediction": 1.0, "forward_return": 0.01})
    assert daily_gains(frame).round(10).tolist() == [0.22, 0.24, 0.02]


@pytest.mark.parametrize("more, error, words", [
    (dict(trials=0), ModelError, "trials"), (dict(inner=True), ModelError, "inner"),
    (dict(embargo=500), SplitError, "fold 1 cannot be split"),
    (dict(inner=200), SplitError, "200 inner folds"), (dict(overrides={"c": 1}), ModelError, "parameter"),
    (dict(space=lambda t: {}), ModelError, "search space")])
def test_what_is_refused(make_panel, ledger, more, error, words):
    dataset, folds = question(make_panel, days=200)
    with pytest.raises(error, match=words):
        tune(dataset, folds, "logistic", ledger, "main", **{**LESS, **more})
    assert not ledger.experiments()


def test_spans_and_classes_are_needed(make_panel, ledger):
    dataset, folds = question(make_panel, days=200)
    dataset.y.iloc[folds[0].train[: len(folds[0].train) // 2]] = 1
    dataset.y[dataset.keys["ts"] < dataset.keys["ts"][30]] = 1
    with pytest.raises(ModelError, match="inner training part.*fold 1, inner fold 1"):
        tune(dataset, folds, "logistic", ledger, "main", **LESS)
    dataset.spans = None
    with pytest.raises(SplitError, match="dataset.spans"):
        tune(dataset, folds, "logistic", ledger, "main", **LESS)


def test_a_label_longer_than_an_inner_fold(make_panel, ledger):
    dataset, folds = question(make_panel, days=200)
    part, spans = folds[0].train, dataset.spans.copy()
    # to the end of the training part, and no further
    spans.iloc[part, spans.columns.get_loc("t1")] = spans["t1"].iloc[part].max()
    dataset.spans = spans
    with pytest.raises(SplitError,
                       match="fold 1 cannot be split into 2 inner folds.*something to learn from"):
        tune(dataset, folds, "logistic", ledger, "main", **LESS)


@pytest.mark.parametrize("url", ["postgresql://ann:secret@localhost:9/none", "sqlite:////proc/none/tuning.db",
                                 "no address", "corrupt"])
def test_a_storage_that_cannot_be_used(make_panel, ledger, tmp_path, url):
    dataset, folds = question(make_panel, days=200)
    if url == "corrupt":
        (tmp_path / "x.db").write_text("this is no database " * 400)
        url = f"sqlite:///{tmp_path}/x.db"
    with pytest.raises(SettingsError, match="`tuning` must be a database") as told:
        tune(dataset, folds, "logistic", ledger, "main", storage=url, **LESS)
    assert "secret" not in str(told.value) and "Hint:" in str(told.value)


def test_without_optuna_the_extra_is_named(make_panel, ledger, monkeypatch):
    dataset, folds = question(make_panel, days=200)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"mlfin\[tuning\]"):
        tune(dataset, folds, "logistic", ledger, "main", **LESS)


def test_importance_and_figures(make_panel, ledger):
    dataset, folds = question(make_panel, days=300)

    def space(trial):
        return {"C": trial.suggest_float("C", 1e-6, 1.0, log=True),
                "max_iter": trial.suggest_int("max_iter", 100, 101)}

    tuned = tune(dataset, folds, "logistic", ledger, "main", space=space, **{**LESS, "trials": 10})
    assert tuned.importance["parameter"].tolist() == ["C",
                                                      "max_iter"] and tuned.importance["importance"][0] > 0.8
    history, parameters = history_chart(tuned), parameter_chart(tuned)
    assert len(history.data) == 2 and all(np.all(np.diff(line.y) <= 0) for line in history.data)
    assert list(parameters.data[0].y) == ["max_iter", "C"]


def test_outer_folds_that_leak_are_refused(make_panel, ledger):
    dataset, folds = question(make_panel, days=200)
    dataset.spans = dataset.spans.assign(t1=dataset.spans["t0"] + pd.Timedelta("300D"))
    with pytest.raises(SplitError, match="overlapping spans"):
        tune(dataset, folds, "logistic", ledger, "main", **LESS)


def test_a_training_by_hand_is_a_trial_of_each_model_once(make_panel, ledger):
    dataset, folds = question(make_panel)
    def counted(models=("logistic", "dummy"), split=folds, seed=1, **more):
        return record_trials(cross_train(dataset, split, models, seed=seed, **more), dataset, ledger, "hand")
    # alone or in company: the same trial
    assert counted() == 2 and counted() == 0 and counted(["logistic"]) == 0
    assert counted(["logistic"], overrides={"logistic": {"C": 1.0}}) == 1
    assert counted(["logistic"], seed=2) == 1 and counted(["logistic"], folds[1:]) == 1
    # another task, another trial
    assert counted(["random_forest"]) == counted(["random_forest"], task="regression") == 1
    assert ledger.snapshot("hand").count == 7
    spec = json.loads(ledger.trials("hand")["spec"][0])
    assert "device" not in spec["parameters"] and spec["rule"]["part"] == "out of sample"
    assert spec["label"] == "fwd_ret_5"


def test_what_is_booked_by_hand_is_what_the_rule_earned(make_panel, ledger):
    dataset, folds = question(make_panel)
    trained = cross_train(dataset, folds, ["logistic"], seed=1)
    record_trials(trained, dataset, ledger, "hand")
    joined = trained.predictions.merge(dataset.keys, on=["symbol", "timeframe", "ts"])
    got, want = ledger.returns("hand").iloc[:, 0], daily_gains(joined)
    assert got.index.equals(want.index) and np.allclose(got, want)
    bare = question(make_panel)[0]
    del bare.spans
    with pytest.raises(ModelError, match="dataset.spans"): record_trials(trained, bare, ledger, "hand")


def test_paths_of_combinatorial_folds_are_one_trial(make_panel, ledger):
    dataset, _ = question(make_panel)
    split = CombinatorialPurged(4, 2, 2).split(dataset.spans)
    assert record_trials(cross_train(dataset, split, ["logistic"], seed=1), dataset, ledger, "hand") == 1
    assert ledger.returns("hand").notna().all(axis=None)
