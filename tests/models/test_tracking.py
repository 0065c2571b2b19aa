"""Tracking: one run a training, found again by its key; without MLflow nothing is lost and nothing is sent
twice."""

import json
import logging
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from mlfin.core.settings import Settings
from mlfin.models import tracking
from mlfin.models.tracking import Tracked, sync_pending, tag_run, track
from mlfin.models.training import cross_train

from ..fixtures.known_panel import date_folds, panel

FOUR = ["logistic", "random_forest", "xgboost", "lightgbm"]


@pytest.fixture(scope="module")
def trained():
    dataset = panel(0.35)
    return dataset, cross_train(dataset, date_folds(dataset), [*FOUR, "dummy"], seed=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """One MLflow store for all tests of this module: making one costs seconds."""
    return tmp_path_factory.mktemp("mlflow")


def settings_at(folder, **other):
    return Settings(
        **{
            **dict(
                profile="test",
                root=folder,
                store=f"{folder}/store",
                mlflow=f"sqlite:///{folder}/deep/mlflow.db",
                artifacts=f"{folder}/artifacts",
                ledger=f"{folder}/ledger.sqlite",
            ),
            **other,
        }
    )


@pytest.fixture
def settings(base):
    return settings_at(base)


def runs(settings, experiment):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=settings.mlflow)
    return client, client.search_runs([client.get_experiment_by_name(f"test/{experiment}").experiment_id])


def small(make_panel, make_date_folds, models=("dummy",), **kwargs):
    dataset = make_panel(days=300)
    return cross_train(dataset, make_date_folds(dataset, 2), list(models), **kwargs)


def test_what_is_tracked(trained, settings):
    import plotly.graph_objects as go

    dataset, result = trained
    figures = {"Scores": go.Figure(go.Bar(y=[1, 2])), "Folds": go.Figure()}
    made = track(
        result, settings, "full", "a" * 32, {"label": "fwd_ret_5", "nested": {"folds": 5},
                                             "long": "x" * 9000}, figures
    )
    client, found = runs(settings, "full")
    assert len(found) == 6 and made.message == "Tracked in MLflow as test/full: 5 models, 5 folds."
    parent = client.get_run(made.run_id)
    assert parent.data.tags["mlfin.task_key"] == "a" * 32 and parent.info.status == "FINISHED"
    assert parent.data.params["nested.folds"] == "5" and parent.data.params["selected"] == result.selected
    assert parent.data.metrics["logistic.log_loss"] == pytest.approx(
        result.summary.set_index("model")["log_loss"]["logistic"]
    )
    child = next(r for r in found if r.info.run_name == "xgboost")
    assert (
        child.data.tags["mlflow.parentRunId"] == made.run_id
        and child.data.params["max_depth"] == "2"
        and child.data.params["seed"] == "1"
    )
    history = client.get_metric_history(child.info.run_id, "fold.log_loss")
    want = result.scores.query("model == 'xgboost'").set_index("fold")["log_loss"].to_dict()
    assert {m.step: m.value for m in history} == pytest.approx(want)
    page = open(client.download_artifacts(made.run_id, "figures.html")).read()
    assert "figure-1" in page and 'src="http' not in page and page.count("<!DOCTYPE") == 1


def test_the_model_comes_back_with_its_signature(trained, settings):
    import mlflow

    dataset, result = trained
    made = track(result, settings, "model", "b" * 32, {})
    client, _ = runs(settings, "model")
    loaded = mlflow.pyfunc.load_model(f"{client.get_run(made.run_id).info.artifact_uri}/model")
    assert loaded.metadata.signature.inputs.input_names() == list(dataset.X)
    np.testing.assert_array_equal(
        loaded.predict(dataset.X[:9]), result.models[result.selected].predict_proba(dataset.X[:9])
    )
    with pytest.raises(mlflow.exceptions.MlflowException, match="missing"):
        loaded.predict(dataset.X[:9].drop(columns="f_0"))


def test_the_same_key_makes_one_run_and_another_result_replaces_it(settings, make_panel, make_date_folds):
    result = small(make_panel, make_date_folds)
    first = track(result, settings, "again", "c" * 32, {})
    assert track(result, settings, "again", "c" * 32, {}) == first
    assert track(result, settings, "again", "d" * 32, {}).run_id != first.run_id
    other = track(small(make_panel, make_date_folds, ["logistic"]), settings, "again", "c" * 32, {})
    client, found = runs(settings, "again")
    assert other.run_id != first.run_id and len(found) == 4
    assert client.get_run(first.run_id).info.lifecycle_stage == "deleted"


def test_an_interrupted_tracking_is_done_anew(settings, make_panel, make_date_folds):
    result = small(make_panel, make_date_folds)
    first = track(result, settings, "killed", "e" * 32, {})
    client, _ = runs(settings, "killed")
    client.update_run(first.run_id, status="RUNNING")
    second = track(result, settings, "killed", "e" * 32, {})
    _, found = runs(settings, "killed")
    assert second.run_id != first.run_id and len(found) == 2


def test_tagging(settings, make_panel, make_date_folds):
    result = small(make_panel, make_date_folds)
    made = track(result, settings, "tagged", "f" * 32, {})
    assert tag_run(settings, "tagged", "f" * 32, "r" * 16) is True
    assert tag_run(settings, "tagged", "0" * 32, "r" * 16) is False
    client, _ = runs(settings, "tagged")
    assert client.get_run(made.run_id).data.tags["mlfin.run_id"] == "r" * 16


def test_a_deleted_experiment_is_restored(settings, make_panel, make_date_folds):
    result = small(make_panel, make_date_folds)
    track(result, settings, "gone", "1" * 32, {})
    client, _ = runs(settings, "gone")
    client.delete_experiment(client.get_experiment_by_name("test/gone").experiment_id)
    assert track(result, settings, "gone", "2" * 32, {}).run_id


def test_tracking_is_silent_and_leaves_logging_as_it_was(settings, make_panel, make_date_folds, capfd):
    result = small(make_panel, make_date_folds, ["logistic"])
    logger = logging.getLogger("mlflow")
    logger.setLevel(logging.INFO)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        track(result, settings, "quiet", "3" * 32, {})
    assert capfd.readouterr() == ("", "") and logger.level == logging.INFO


def corrupt(folder):
    (folder / "deep").mkdir(exist_ok=True)
    (folder / "deep" / "mlflow.db").write_text("this is no database " * 400)


@pytest.mark.parametrize(
    "spoil",
    [lambda f: (f / "deep").write_text("a file"), corrupt,
     lambda f: (f / "deep" / "mlflow.db").mkdir(parents=True)],
)
def test_an_unusable_store_costs_one_warning(tmp_path, spoil, make_panel, make_date_folds):
    spoil(tmp_path)
    result = small(make_panel, make_date_folds)
    with pytest.warns(UserWarning, match="training result is complete") as caught:
        assert track(result, settings_at(tmp_path), "main", "4" * 32, {}).run_id is None
    assert len(caught) == 1
    with pytest.warns(UserWarning):
        assert tag_run(settings_at(tmp_path), "main", "4" * 32, "r") is False


def test_an_absent_server_is_given_up_at_once(tmp_path, make_panel, make_date_folds):
    from time import monotonic

    begun = monotonic()
    with pytest.warns(UserWarning, match="MLFIN_MLFLOW"):
        told = track(
            small(make_panel, make_date_folds), settings_at(tmp_path, mlflow="http://127.0.0.1:9"), "main",
            "5" * 32, {}
        )
    assert isinstance(told, Tracked) and told.run_id is None and monotonic() - begun < 15


# --- what is kept for later


def lost(result, folder, key="6" * 32, experiment="later", **more):
    """Track where no server is; the settings of the folder, and what it said."""
    away = settings_at(folder, mlflow="http://127.0.0.1:9")
    with pytest.warns(UserWarning, match="it waits in") as caught:
        told = track(result, away, experiment, key, {"label": "fwd_ret_5"}, **more)
    assert told.run_id is None and len(caught) == 1
    return away


def test_what_waits_is_sent_once_and_whole(trained, base, tmp_path):
    import mlflow
    import plotly.graph_objects as go

    dataset, result = trained
    away = lost(result, tmp_path, figures={"Scores": go.Figure()})
    lost(result, tmp_path)  # the same training again makes no second folder
    assert len(tracking.pending_trainings(tmp_path / "artifacts" / "pending")) == 1
    with pytest.warns(UserWarning):
        tag_run(away, "later", "6" * 32, "r" * 16)
    assert sync_pending(away).left == 1  # still no server
    back = settings_at(base, artifacts=f"{tmp_path}/artifacts")
    assert sync_pending(back)[:2] == (1, 0) and sync_pending(back) == (0, 0, "")
    client, found = runs(back, "later")
    assert len(found) == 6
    parent = next(r for r in found if "mlfin.task_key" in r.data.tags)
    assert parent.data.tags["mlfin.run_id"] == "r" * 16 and parent.info.status == "FINISHED"
    assert {a.path for a in client.list_artifacts(parent.info.run_id)} == {"model", "figures.html",
                                                                           "environment.json"}
    loaded = mlflow.pyfunc.load_model(f"{parent.info.artifact_uri}/model")
    np.testing.assert_array_equal(
        loaded.predict(dataset.X[:9]), result.models[result.selected].predict_proba(dataset.X[:9])
    )
    assert list(loaded.input_example) == list(dataset.X)


def test_the_next_training_takes_along_what_waits(trained, base, tmp_path):
    lost(trained[1], tmp_path, "7" * 32, "company")
    back = settings_at(base, artifacts=f"{tmp_path}/artifacts")
    assert track(trained[1], back, "company", "8" * 32, {}).run_id
    assert sum("mlfin.task_key" in r.data.tags for r in runs(back, "company")[1]) == 2
    assert sync_pending(back).sent == 0


def test_a_sender_killed_before_it_could_forget_sends_nothing_twice(trained, base, tmp_path, monkeypatch):
    away = lost(trained[1], tmp_path, "9" * 32, "twice")
    back = settings_at(base, artifacts=away.artifacts)
    with monkeypatch.context() as patched:
        patched.setattr(tracking.os, "replace", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            sync_pending(back)
    assert sync_pending(back).sent == 1
    assert sum("mlfin.task_key" in r.data.tags for r in runs(back, "twice")[1]) == 1


def test_two_senders_do_not_meet(trained, tmp_path):
    away = lost(trained[1], tmp_path, "0" * 32)
    back = settings_at(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl,sys,time; f=open(sys.argv[1],'a'); fcntl.flock(f,2); "
         "print(1,flush=True); time.sleep(60)",
         str(Path(away.artifacts) / "pending" / ".lock")], stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        told = sync_pending(back)
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    assert told[:2] == (0, 1) and "Another process" in told.message


def test_a_full_disk_costs_the_tracking_only(trained, tmp_path, monkeypatch):
    def full(*a, **k):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.warns(UserWarning, match="could not be kept either .*No space left"):
        assert track(trained[1], settings_at(tmp_path, mlflow="http://127.0.0.1:9"), "x", "1" * 32,
                     {}).run_id is None


def test_data_versions_and_the_environment(trained, settings):
    made = track(trained[1], settings, "versions", "a1" * 16, {}, data={"bars": "v12", "features": "f" * 64})
    client, _ = runs(settings, "versions")
    run = client.get_run(made.run_id)
    assert run.data.tags["mlfin.data.bars"] == "v12" and run.data.tags["mlfin.data.features"] == "f" * 64
    assert {(d.dataset.name, d.dataset.digest)
            for d in run.inputs.dataset_inputs} == {("bars", "v12"), ("features", "f" * 36)}
    told = json.loads(Path(client.download_artifacts(made.run_id, "environment.json")).read_text())
    assert told["packages"]["scikit-learn"] and told["device"][0] == "cpu" and told["threads"] == 1
    needed = Path(client.download_artifacts(made.run_id, "model/requirements.txt")).read_text()
    assert "scikit-learn==" in needed and "pandas==" in needed


def open_store(folder, start):
    start.wait(30)
    with tracking.mlflow_client(settings_at(folder)) as client:
        client.create_experiment(f"of {os.getpid()}")


def test_several_open_a_new_store_at_once(tmp_path, one_store_is_made):
    """Two trainings of a grid begin together, and the first run of a project has no store yet."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  (each process would import it for seconds)
    from multiprocessing import get_context

    (tmp_path / "deep").mkdir()
    fork = get_context("fork")
    start, n = fork.Event(), 3
    running = [fork.Process(target=open_store, args=(tmp_path, start)) for _ in range(n)]
    with one_store_is_made.made_anew():
        for process in running:
            process.start()
    start.set()
    for process in running:
        process.join(120)
    assert [process.exitcode for process in running] == [0] * n
    with tracking.mlflow_client(settings_at(tmp_path)) as client:
        assert sum(e.name.startswith("of ") for e in client.search_experiments()) == n


@pytest.mark.parametrize("uri", ["postgresql+nodriver://u:geheim@localhost/x", "mysql+pymysql://localhost/x",
                                 "http://localhost:port/"])
def test_an_address_that_cannot_be_used_loses_nothing(trained, tmp_path, uri):
    dataset, made = trained
    with pytest.warns(UserWarning) as said:
        tracked = track(made, settings_at(tmp_path, mlflow=uri), "main", "k" * 32, {"label": "x"})
    assert tracked.run_id is None and list((tmp_path / "artifacts" / "pending").glob("*/run.json"))
    assert not any("geheim" in str(w.message) for w in said)
