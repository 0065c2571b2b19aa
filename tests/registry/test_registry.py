"""A version is what was registered or it is refused; the champion changes whole or not at all, and back
again."""
import errno
import json
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import ModelError
from mlfin.core.provenance import hash_file, read_json, read_parquet, write_json, write_parquet
from mlfin.core.seals import SealKeys, seal_keys
from mlfin.registry import registry
from mlfin.registry.manifest import version_files
from mlfin.registry.registry import (
    champion_history,
    set_champion,
    find_version,
    load_champion,
    load_version,
    model_versions,
    read_manifest,
    read_predictions,
    register,
    registered_experiments,
    rollback,
    write_verdict,
)
from mlfin.registry.sealing import adopt_version, rotate_seals, seal_states

from ..fixtures import left_run

ROOT = Path(__file__).parents[2]
MODEL = "model/data/estimator/estimator.skops"  # of a version of the logistic regression
FEW = left_run.bars_that_remember(days=200)  # what a model has learnt does not matter here


def leave(*args, bars=FEW, **kwargs): return left_run.leave(*args, bars=bars, **kwargs)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    "One MLflow store for all tests: making one costs seconds."
    found = left_run.settings_at(tmp_path_factory.mktemp("registry"))
    leave(found, "first")
    return found


def folder_of(version):
    return Path(unquote(urlsplit(version.source).path))


def client_of(settings):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=settings.mlflow, registry_uri=settings.mlflow)


def accept(settings, experiment, number, replacing=None):
    "As the gate does where all is well."
    write_verdict(settings, find_version(settings, experiment, number), "passed", "all is well",
                  {"checks": []})
    return set_champion(settings, experiment, number, replacing)


def champions(settings, experiment, count):
    "So many versions, each the champion after the one before."
    leave(settings, experiment)
    for i in range(count): accept(settings, experiment, another(settings, experiment, i).number, i or None)


def another(settings, experiment, i):
    "Register what differs in its manifest alone."
    path = settings.data_dir(experiment) / "training.json"
    write_json({**read_json(path), "rows": 1000 + i}, path)
    return register(settings, experiment)


# --- registering


def test_the_manifest_says_all_there_is_to_know(settings):
    dataset, trained = leave(settings, "told", key="d" * 32, specs=["returns", "obv", "rsi_14"])
    found = register(settings, "told")
    manifest, folder = read_manifest(settings, "told", 1), folder_of(found)
    assert manifest["estimator"] == "logistic" and manifest["parameters"]["C"] == 0.01
    assert manifest["parameters"]["seed"] == 1
    assert manifest["features"] == ["returns", "obv", "rsi_14"] and manifest["inputs"] == list(dataset.names)
    assert manifest["label"] == {"spec": "fwd_ret_1",
                                 "horizon": 1} and manifest["thresholds"] == {"rule": "long_flat",
                                                                              "threshold": 0.5}
    assert manifest["lookback"]["each"] == {"returns": 1, "obv": 20, "rsi_14": 14}
    assert manifest["lookback"]["bars"] == 20 <= manifest["lookback"]["warm_up"]
    data = manifest["data"]
    assert data["dataset"] == dataset.hash and data["rows"] == len(dataset)
    assert pd.Timestamp(data["last"]) == left_run.LAST
    assert data["products"]["bars"] == hash_file(settings.data_dir("told")
                                                 / "bars.parquet") and data["keys"]["features"] == "f" * 32
    assert manifest["metrics"]["log_loss"] == pytest.approx(trained.summary["log_loss"][0])
    assert manifest["run"]["task_key"] == "d" * 32 and manifest["run"]["mlflow"] == found.run
    assert set(manifest["versions"]) >= {"scikit-learn", "numpy", "mlfin"}
    kept = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    assert {*manifest["files"], "manifest.json"} == set(kept)
    assert "model/data/estimator/estimator.skops" in kept and manifest["stored"] == "skops"
    assert all(hash_file(folder / n) == f["sha256"] for n, f in manifest["files"].items())
    assert manifest["bytes"] == sum((folder / n).stat().st_size for n in manifest["files"])
    assert hash_file(folder / "manifest.json") == found.seal


def test_the_same_run_is_the_same_version_and_another_the_next(settings):
    leave(settings, "again", key="1" * 32)
    first = register(settings, "again")
    assert register(settings, "again") == first and (first.number, first.aliases) == (1, ("challenger",))
    leave(settings, "again", key="2" * 32, seed=2)
    second = register(settings, "again")
    assert second.number == 2 and second.seal != first.seal and second.aliases == ("challenger",)
    assert [v.number for v in model_versions(settings,
                                             "again")] == [2,
                                                           1] and find_version(settings, "again",
                                                                               1).aliases == ()
    assert "again" in registered_experiments(settings)
    assert registered_experiments(replace_profile(settings)) == []


def replace_profile(settings):
    return settings.model_copy(update={"profile": "other"})


def test_regressors_are_registered_alike(settings):
    dataset, trained = leave(settings, "values", names=["ridge"], task="regression")
    register(settings, "values")
    loaded = load_version(settings, "values", 1)
    assert loaded.manifest["task"] == "regression" and "prediction" in loaded.predictions
    np.testing.assert_array_equal(loaded.predict(dataset.X), trained.models["ridge"].predict(dataset.X))


@pytest.mark.slow
def test_sequences_look_back_along_their_symbol(settings):
    from mlfin.models.fitting import predict_rows

    dataset, trained = leave(settings, "sequences", names=["lstm"],
                             bars=left_run.bars_that_remember(days=400), overrides={"lstm": {"epochs": 1}})
    register(settings, "sequences")
    loaded, panel = load_version(settings, "sequences", 1), pd.concat([dataset.keys, dataset.X], axis=1)
    want = predict_rows(trained.models["lstm"], dataset, np.arange(len(panel)))
    np.testing.assert_array_equal(loaded.predict(panel), want)
    np.testing.assert_array_equal(loaded.predict(panel.tail(40), last=1), want[-1:])
    assert {"keras", "jax"} <= set(loaded.manifest["versions"])


def test_what_was_registered_outlives_the_next_run_and_the_deletion_of_its_own(settings):
    dataset, trained = leave(settings, "outlive", key="3" * 32)
    found = register(settings, "outlive")
    leave(settings, "outlive", key="4" * 32, specs=["rsi_14"])
    client_of(settings).delete_run(found.run)
    loaded = load_version(settings, "outlive", 1)
    np.testing.assert_array_equal(loaded.predict(dataset.X),
                                  trained.models["logistic"].predict_proba(dataset.X)[:, 1])
    pd.testing.assert_frame_equal(read_predictions(settings, "outlive", 1), trained.predictions)


def test_products_of_two_runs_are_not_mixed(settings):
    leave(settings, "mixed")
    path = settings.data_dir("mixed") / "predictions.parquet"
    write_parquet(read_parquet(path), path, "b" * 32)
    with pytest.raises(ModelError, match="come from different runs"):
        register(settings, "mixed")
    assert model_versions(settings, "mixed") == []


def test_a_training_that_is_not_tracked_says_so(settings):
    leave(settings, "untracked", tracked=False)
    with pytest.raises(ModelError, match="not tracked in MLflow") as e:
        register(settings, "untracked")
    assert "Hint:" in str(e.value)


def test_a_training_that_waited_for_mlflow_is_registered_once_it_is_back(settings):
    away = settings.model_copy(update={"mlflow": "http://127.0.0.1:9"})
    with pytest.warns(UserWarning, match="MLflow could not be used"): leave(away, "waits", must_track=False)
    with pytest.raises(ModelError, match="MLflow could not be used|The registry could not be used"):
        register(away, "waits")
    assert register(settings, "waits").number == 1 and load_version(settings, "waits", 1).version.number == 1


def test_in_a_grid_the_model_s_own_task_says_which_run_it_is_from(settings):
    leave(settings, "grid", key="6" * 32)
    folder = settings.data_dir("grid")
    own = read_json(folder / "training.json")
    write_json({**own, "task_key": None}, folder / "training_logistic.json", "6" * 32)
    for name in ("training.json", "predictions.parquet"):
        if name.endswith("json"): write_json(own, folder / name, "7" * 32)
        else: write_parquet(read_parquet(folder / name), folder / name, "7" * 32)
    register(settings, "grid")
    assert read_manifest(settings, "grid", 1)["run"]["task_key"] == "6" * 32
    write_json({**own, "dataset": "other"}, folder / "training_logistic.json", "6" * 32)
    with pytest.raises(ModelError, match="training_logistic.json and training.json come from different runs"):
        register(settings, "grid")


def test_a_run_whose_model_was_changed_after_it_was_tracked_is_refused(settings):
    leave(settings, "swapped", key="5" * 32)
    client = client_of(settings)
    run = client.search_runs([client.get_experiment_by_name("test/swapped").experiment_id],
                             filter_string="tags.`mlfin.task_key` != ''")[0]
    client.set_tag(run.info.run_id, "mlfin.model_hash", "0" * 64)
    with pytest.raises(ModelError, match="is not the one that was tracked"):
        register(settings, "swapped")


@pytest.mark.parametrize("break_at", ["put", "version", "alias"])
def test_an_interrupted_registration_leaves_no_half_of_a_version(settings, monkeypatch, break_at):
    from mlflow import MlflowClient

    experiment = f"broken-{break_at}"
    leave(settings, experiment)

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if break_at == "put": patch.setattr(registry.os, "replace", stop)
        elif break_at == "version": patch.setattr(MlflowClient, "create_model_version", stop)
        else: patch.setattr(MlflowClient, "set_registered_model_alias", stop)
        with pytest.raises(KeyboardInterrupt): register(settings, experiment)
    place = Path(settings.artifacts) / "test" / experiment / "versions"
    assert not [p for p in place.glob(".*")], "nothing half written lies about"
    assert len(model_versions(settings, experiment)) == (break_at == "alias")
    found = register(settings, experiment)
    assert found.number == 1 and load_version(settings, experiment, 1).version == found


def test_a_full_disk_is_one_message_and_leaves_nothing(settings, monkeypatch):
    leave(settings, "full")

    def full(source, target, **kwargs):
        Path(target).mkdir(parents=True)
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    with monkeypatch.context() as patch:
        patch.setattr(registry.shutil, "copytree", full)
        with pytest.raises(ModelError, match="No space left on device"): register(settings, "full")
    assert model_versions(settings, "full") == [] and not list((Path(settings.artifacts)
                                                                / "test/full/versions").iterdir())


def test_two_registrations_at_once_make_one_version(settings):
    leave(settings, "race")
    found = []
    threads = [threading.Thread(target=lambda: found.append(register(settings, "race").number))
               for _ in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join(60)
    assert found == [1, 1, 1] and len(model_versions(settings, "race")) == 1


# --- loading


class Canary:
    "Leaves a file when it is unpickled."
    def __init__(self, path): self.path = str(path)

    def __reduce__(self): return os.mkdir, (self.path,)


def changed(folder, how, canary):
    "Tamper with a version's files."
    model, manifest = folder / MODEL, folder / "manifest.json"
    if how == "a byte": model.write_bytes(model.read_bytes()[:-1] + b"?")
    elif how == "another pickle": model.write_bytes(pickle.dumps(Canary(canary)))
    elif how == "pickle and manifest":
        model.write_bytes(pickle.dumps(Canary(canary)))
        told = json.loads(manifest.read_text())
        told["files"][MODEL] = {"sha256": hash_file(model), "bytes": model.stat().st_size}
        write_json(told, manifest)
    elif how == "a file more": (folder / "model" / "more.py").write_text("x = 1")
    elif how == "a file less": (folder / "model" / "requirements.txt").unlink()
    elif how == "a link":
        shutil.copy(model, canary.with_suffix(".pkl"))
        model.unlink()
        model.symlink_to(canary.with_suffix(".pkl"))
    elif how == "the loader":
        (folder / "model" / "MLmodel").write_text("flavors: {sklearn: {pickled_model: ../../evil.pkl, "
                                                  "serialization_format: pickle}}")
    elif how == "the predictions":
        write_parquet(read_parquet(folder / "predictions.parquet").head(5), folder / "predictions.parquet")
    elif how == "no manifest": manifest.unlink()


@pytest.mark.parametrize("how", ["a byte", "another pickle", "pickle and manifest", "a file more",
                                 "a file less", "a link", "the loader",
                                 "the predictions", "no manifest"])
def test_what_was_tampered_with_is_refused_before_anything_is_unpickled(settings, tmp_path, how):
    found = register(settings, "first")
    if not find_version(settings, "first", 1).tags.get("mlfin.promoted"): accept(settings, "first", 1)
    folder, kept, canary = folder_of(found), tmp_path / "kept", tmp_path / "canary"
    shutil.copytree(folder, kept)
    try:
        changed(folder, how, canary)
        for load in (lambda: load_champion(settings, "first"), lambda: read_manifest(settings, "first", 1),
                     lambda: read_predictions(settings, "first", 1)):
            with pytest.raises(ModelError, match="was changed, added or taken away; nothing of it was "
                               "unpickled|plain files, no links"):
                load()
        assert not canary.exists()
    finally:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
    assert load_champion(settings, "first").version.number == 1


def test_the_canary_would_have_sung(tmp_path):
    pickle.loads(pickle.dumps(Canary(tmp_path / "canary")))
    assert (tmp_path / "canary").is_dir()


def forge(settings, found, canary, keys=None):
    """Replace model, manifest and MLflow's tags together by a pickle of one's own, sealed with a key of one's
    own."""
    folder = folder_of(found)
    inner = folder / "model" / "data" / "estimator"
    planted = pickle.dumps(Canary(canary))
    for path in inner.iterdir():
        if path.name != "model.json": path.unlink()
    (inner / "model.pkl").write_bytes(planted)
    told = json.loads((inner / "model.json").read_text())
    digest = hash_file(inner / "model.pkl")
    write_json(told | {"kind": "pickle", "stored": "skops", "parts": [], "files": {"model.pkl": digest}},
               inner / "model.json")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = version_files(folder)
    write_json(manifest, folder / "manifest.json")
    seal, client = hash_file(folder / "manifest.json"), client_of(settings)
    tags = {"mlfin.seal": seal, "mlfin.promoted": seal}
    if keys is not None:
        own = replace(found, tags={**found.tags, **tags})
        tags |= {"mlfin.hmac": keys.sign("model version", registry._content(own)),
                 "mlfin.promoted_hmac": keys.sign("model version", registry._content(own, "champion"))}
    for key, value in tags.items(): client.set_model_version_tag(found.name, str(found.number), key, value)


@contextmanager
def put_back(settings, found):
    "Whatever happens to a version within, its files and tags are there again after it."
    folder, client = folder_of(found), client_of(settings)
    with tempfile.TemporaryDirectory() as kept:
        shutil.copytree(folder, f"{kept}/version")
        try: yield
        finally:
            shutil.rmtree(folder)
            shutil.copytree(f"{kept}/version", folder)
            for key in ("mlfin.seal", "mlfin.hmac", "mlfin.promoted", "mlfin.promoted_hmac"):
                if key in found.tags:
                    client.set_model_version_tag(found.name, str(found.number), key, found.tags[key])


@pytest.fixture(scope="module")
def champion(settings):
    "The champion of the first experiment."
    register(settings, "first")
    if not find_version(settings, "first", 1).tags.get("mlfin.promoted"): accept(settings, "first", 1)
    return find_version(settings, "first", 1)


READERS = (load_champion, lambda s, e: load_version(s, e, 1), lambda s, e: read_manifest(s, e, 1), lambda s,
           e: read_predictions(s, e, 1))


@pytest.mark.parametrize("own_key", [False, True])
def test_model_manifest_and_tags_replaced_together_are_refused_without_the_key(settings, champion, tmp_path,
                                                                               own_key):
    other = SealKeys(tmp_path / "theirs" / "seal_keys.json") if own_key else None
    with put_back(settings, champion):
        forge(settings, champion, tmp_path / "canary", other)
        what = f"is sealed with the key {other.names()[0]}" if own_key else "carries a seal that does not fit"
        for read in READERS:
            with pytest.raises(ModelError, match=rf"test-first v1 {what}.*nothing of it was "
                               r"unpickled\.\nHint: .*mlfin models seal --adopt 1"):
                read(settings, "first")
        assert not (tmp_path / "canary").exists()
    assert load_champion(settings, "first").version == champion


def test_the_forged_model_would_have_run(settings, champion, tmp_path, monkeypatch):
    """With the key, the same files do what they were made for: the attack above is refused for its seal, not
    for a slip in it."""
    with put_back(settings, champion):
        forge(settings, champion, tmp_path / "canary", seal_keys(settings))
        with pytest.raises((AttributeError, TypeError)): load_version(settings, "first", 1)
        assert (tmp_path / "canary").is_dir()


def test_one_version_s_seal_is_of_no_use_to_another(settings):
    champions(settings, "swap", 2)
    one, two = find_version(settings, "swap", 1), find_version(settings, "swap", 2)
    client = client_of(settings)
    with put_back(settings, two):
        shutil.rmtree(folder_of(two))
        shutil.copytree(folder_of(one), folder_of(two))
        for key in ("mlfin.seal", "mlfin.hmac", "mlfin.promoted", "mlfin.promoted_hmac"):
            client.set_model_version_tag(two.name, "2", key, one.tags[key])
        with pytest.raises(ModelError, match="test-swap v2 carries a seal that does not fit"):
            load_champion(settings, "swap")
    assert load_champion(settings, "swap").version.number == 2


def test_a_promotion_that_nobody_sealed_does_not_serve(settings):
    leave(settings, "unpromoted")
    found, client = register(settings, "unpromoted"), client_of(settings)
    client.set_model_version_tag(found.name, "1", "mlfin.promoted", found.seal)
    client.set_model_version_tag(found.name, "1", "mlfin.promoted_hmac", found.hmac)
    client.set_registered_model_alias(found.name, "champion", "1")
    with pytest.raises(ModelError, match="must be a version that was promoted"):
        load_champion(settings, "unpromoted")


def without_key(settings, tmp_path):
    "The same store, on a machine that has no key."
    return settings.model_copy(update={"root": tmp_path})


def test_without_the_key_native_formats_load_and_pickle_is_refused_in_words(settings, champion, tmp_path):
    away = without_key(settings, tmp_path)
    np.testing.assert_array_equal(
        load_champion(away, "first").predict(champion_rows := load_champion(settings, "first").example),
        load_champion(settings, "first").predict(champion_rows))
    with put_back(settings, champion):
        forge(settings, champion, tmp_path / "canary")
        says = (r"test-first v1 cannot be loaded\. The model is kept as a pickle.*it is not "
                r"unpickled\.\nHint: .*MLFIN_SEAL_KEY_FILE")
        with pytest.raises(ModelError, match=says): load_champion(away, "first")
    assert not (tmp_path / "canary").exists() and not (tmp_path
                                                       / ".mlfin").exists(), "and looking makes no key"


def test_a_tracked_model_that_is_replaced_with_its_tag_is_not_registered(settings, tmp_path):
    leave(settings, "retagged", key="9" * 32)
    client = client_of(settings)
    run = client.search_runs([client.get_experiment_by_name("test/retagged").experiment_id],
                             filter_string="tags.`mlfin.model_hash` != ''")[0]
    inner = Path(unquote(urlsplit(run.info.artifact_uri).path)) / "model" / "data" / "estimator"
    (inner / "model.pkl").write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    told = json.loads((inner / "model.json").read_text())
    write_json(told | {"kind": "pickle", "files": {"model.pkl": hash_file(inner / "model.pkl")}},
               inner / "model.json")
    (inner / "estimator.skops").unlink()
    client.set_tag(run.info.run_id, "mlfin.model_hash", registry.folder_hash(inner.parents[1]))
    with pytest.raises(ModelError, match="is not the one that was tracked: its seal was made with another "
                       "key; nothing of it was read"):
        register(settings, "retagged")
    import mlflow

    with pytest.raises(ModelError, match="it is not unpickled"):
        mlflow.pyfunc.load_model(inner.parents[1].as_uri())
    assert not (tmp_path / "canary").exists()


def test_what_waits_and_was_changed_is_sent_and_not_registered(settings, tmp_path):
    away = settings.model_copy(update={"mlflow": "http://127.0.0.1:9"})
    with pytest.warns(UserWarning, match="MLflow could not be used"):
        leave(away, "waited", key="8" * 32, must_track=False)
    waiting, = [p for p in (Path(settings.artifacts) / "pending").glob("*/") if p.is_dir()
                and read_json(p / "run.json")["experiment"] == "waited"]
    next(waiting.rglob("estimator.skops")).write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    with pytest.raises(ModelError, match="is not the one that was tracked: its files were changed"):
        register(settings, "waited")
    assert not (tmp_path / "canary").exists()


# --- another key, and models from before there was one


@pytest.fixture
def apart(settings, tmp_path):
    """The same store with a key file of its own, which can be changed; what it seals is good for the other
    tests, too."""
    theirs, own = (folder / ".mlfin" / "test" / "seal_keys.json" for folder in (settings.root, tmp_path))
    shutil.copytree(theirs.parent, own.parent)
    keys = read_json(theirs)["keys"]
    own.write_text(json.dumps({"keys": keys[:1]}))
    yield settings.model_copy(update={"root": tmp_path})
    theirs.write_text(json.dumps({"keys": list(dict.fromkeys([*keys, *read_json(own)["keys"]]))}))


def only(monkeypatch, *names):
    "Look at some experiments alone: the store has those of all tests."
    monkeypatch.setattr("mlfin.registry.sealing.registered_experiments", lambda settings: list(names))


def test_a_new_key_seals_what_fits_and_names_what_does_not(settings, apart, monkeypatch):
    only(monkeypatch, "rotated")
    champions(settings, "rotated", 2)
    old, bad = seal_keys(apart).names(), folder_of(find_version(settings, "rotated", 1)) / MODEL
    kept = bad.read_bytes()
    bad.write_bytes(b"other")
    done = rotate_seals(apart)
    assert done.dropped == 1 and seal_keys(apart).names() == (done.key,) != old
    assert done.sealed == ["test-rotated v2"] and list(done.left) == ["test-rotated v1"] and done.trainings
    assert load_champion(apart, "rotated").version.number == 2
    bad.write_bytes(kept)
    with pytest.raises(ModelError, match=f"v1 is sealed with the key {old[0]}, and here there is {done.key}"):
        read_manifest(apart, "rotated", 1)
    assert [bool(s.problem) for s in seal_states(apart, ["rotated"])] == [False, True]
    leave(apart, "rotated")
    assert register(apart, "rotated").number == 3, "a training that was tracked before is sealed anew, too"
    assert adopt_version(apart, "rotated",
                         1).number == 1 and load_version(apart, "rotated", 1).model is not None
    with pytest.raises(ModelError, match="carries a seal that fits"): adopt_version(apart, "rotated", 1)


@pytest.mark.parametrize("at", ["first version", *(pytest.param(at, marks=pytest.mark.slow)
                                                   for at in ("last version", "trainings"))])
def test_a_rotation_that_breaks_off_loses_nothing(settings, apart, monkeypatch, at):
    experiment = f"off-{at.replace(' ', '-')}"
    champions(settings, experiment, 2)
    only(monkeypatch, experiment)
    from mlfin.registry import sealing

    seen = []

    def stop(client, keys, found, promoted=False):
        seen.append(found)
        if len(seen) == (1 if at == "first version" else 2): raise KeyboardInterrupt
        return registry.seal_version(client, keys, found, promoted)

    with monkeypatch.context() as patch:
        if at == "trainings":
            patch.setattr(sealing, "_reseal_trainings", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        else: patch.setattr(sealing, "seal_version", stop)
        with pytest.raises(KeyboardInterrupt): rotate_seals(apart)
    keys = seal_keys(apart).names()
    assert len(keys) == 2 and load_champion(apart, experiment).version.number == 2
    assert load_version(apart, experiment, 1).version.number == 1
    done = rotate_seals(apart)
    assert done.key == keys[0] and len(done.sealed) == 2 and not done.left
    assert seal_keys(apart).names() == keys[:1]
    assert load_champion(apart, experiment).version.number == 2


def as_before(settings, found):
    "A version as it was registered before there were seal keys: a pickle, and a hash in MLflow."
    folder, client = folder_of(found), client_of(settings)
    model = load_version(settings, found.name.partition("-")[2], found.number).model
    shutil.rmtree(folder / "model" / "data")
    (folder / "model" / "model.pkl").write_bytes(pickle.dumps(model))
    (folder / "model" / "MLmodel").write_text("flavors: {sklearn: {pickled_model: model.pkl, "
                                              "serialization_format: cloudpickle}}")
    manifest = {k: v for k, v in json.loads((folder / "manifest.json").read_text()).items() if k != "stored"}
    write_json(manifest | {"files": version_files(folder)}, folder / "manifest.json")
    seal = hash_file(folder / "manifest.json")
    for key in ("mlfin.seal", "mlfin.promoted"):
        client.set_model_version_tag(found.name, str(found.number), key, seal)
    for key in ("mlfin.hmac", "mlfin.promoted_hmac"):
        client.delete_model_version_tag(found.name, str(found.number), key)


def test_a_model_from_before_there_were_keys_says_so_and_can_be_adopted(settings, tmp_path, monkeypatch):
    champions(settings, "before", 1)
    as_before(settings, find_version(settings, "before", 1))
    says = (r"test-before v1 was registered before there were seal keys.*nothing of it was "
            r"unpickled\.\nHint: `mlfin run` and `mlfin promote`.*--adopt 1")
    for read in READERS:
        with pytest.raises(ModelError, match=says): read(settings, "before")
    with pytest.raises(ModelError, match="kept as a pickle.*not unpickled"):
        load_champion(without_key(settings, tmp_path), "before")
    only(monkeypatch, "before")
    state, = seal_states(settings)
    assert state.problem and not state.stored
    path = folder_of(state.version) / "model" / "model.pkl"
    kept = path.read_bytes()
    path.write_bytes(kept + b"?")
    with pytest.raises(ModelError, match="is not what was registered"): adopt_version(settings, "before", 1)
    path.write_bytes(kept)
    assert adopt_version(settings, "before", 1).hmac
    assert load_champion(settings, "before").version.number == 1
    assert seal_states(settings)[0].stored == "pickle (sealed)"


def test_a_foreign_version_is_refused_even_as_champion(settings, tmp_path):
    client, folder = client_of(settings), tmp_path / "foreign" / "model"
    folder.mkdir(parents=True)
    (folder / "model.pkl").write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    (folder / "MLmodel").write_text("flavors: {sklearn: {pickled_model: model.pkl, serialization_format: "
                                    "pickle}}")
    client.create_registered_model("test-foreign")
    client.create_model_version("test-foreign", folder.parent.as_uri())
    client.set_registered_model_alias("test-foreign", "champion", "1")
    for load in (lambda: load_champion(settings, "foreign"), lambda: load_version(settings, "foreign", 1),
                 lambda: read_manifest(settings, "foreign", 1)):
        with pytest.raises(ModelError, match="was not registered by mlfin|a version that was promoted"):
            load()
    assert not (tmp_path / "canary").exists()
    leave(settings, "foreign")
    with pytest.raises(ModelError, match="registered name, test-foreign, is its own"):
        register(settings, "foreign")


def test_a_champion_is_found_however_many_versions_came_after_it(settings, monkeypatch):
    champions(settings, "long", 1)
    for i in range(1, 6): another(settings, "long", i)
    monkeypatch.setattr(registry, "_PAGE", 2)
    assert [v.number for v in model_versions(settings, "long")] == [6, 5, 4, 3, 2, 1]
    assert find_version(settings, "long").number == 1 and set(registered_experiments(settings)) >= {"first",
                                                                                                    "long"}
    with closing(sqlite3.connect(settings.mlflow.partition(":///")[2])) as db, db:
        db.execute("DELETE FROM model_versions WHERE name = 'test-long' AND version = 1")
    with pytest.raises(ModelError, match="champion of test-long is version 1, and lists no such version"):
        find_version(settings, "long")


def test_an_alias_set_by_hand_does_not_make_a_champion(settings):
    leave(settings, "by-hand")
    register(settings, "by-hand")
    client_of(settings).set_registered_model_alias("test-by-hand", "champion", "1")
    with pytest.raises(ModelError, match="must be a version that was promoted, got 'never judged'"):
        load_champion(settings, "by-hand")
    with pytest.raises(ModelError, match="let through, got 'never judged'"):
        set_champion(settings, "by-hand", 1, 1)
    # a word is not a verdict
    client_of(settings).set_model_version_tag("test-by-hand", "1", "mlfin.verdict", "passed")
    with pytest.raises(ModelError, match="a version that the gate let through"):
        set_champion(settings, "by-hand", 1, 1)
    assert load_version(settings, "by-hand", 1).model is not None


@pytest.mark.slow
def test_the_champion_loads_in_a_fresh_process(settings):
    register(settings, "first")
    if "champion" not in find_version(settings, "first", 1).aliases: accept(settings, "first", 1)
    want = load_champion(settings, "first")
    code = ("import sys, json\nfrom mlfin.core.settings import Settings\nfrom mlfin.registry.registry import "
            "load_champion\n"
            "loaded = load_champion(Settings(**json.loads(sys.argv[1])), "
            "'first')\nprint(json.dumps(loaded.predict(loaded.example).tolist()))")
    done = subprocess.run([sys.executable, "-c", code, settings.model_dump_json()], capture_output=True,
                          text=True, cwd=ROOT,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(json.loads(done.stdout), want.predict(want.example))


def test_a_model_that_gives_other_values_here_is_refused(settings, monkeypatch):
    register(settings, "first")
    right = registry._predict
    monkeypatch.setattr(registry, "_predict", lambda *args: right(*args) + 0.01)
    with pytest.raises(ModelError, match="the same model here as where it was registered"):
        load_version(settings, "first", 1)


def test_rows_without_an_input_are_refused(settings):
    register(settings, "first")
    loaded = load_version(settings, "first", 1)
    more = loaded.example.assign(other=1.0)[["other", *reversed(loaded.example.columns)]]
    np.testing.assert_array_equal(loaded.predict(more), loaded.predict(loaded.example))
    with pytest.raises(ModelError, match="a frame with the column"):
        loaded.predict(loaded.example.drop(columns=loaded.manifest["inputs"][0]))


@pytest.mark.parametrize("which, words", [("7", "`version` must be a known name, got '7'"),
                                          ("champoin", "did you mean `champion`"),
                                          ("challenger", "has no challenger")])
def test_what_is_not_there_is_named(settings, which, words):
    register(settings, "first")
    if which == "challenger" and "challenger" in find_version(settings, "first", 1).aliases:
        accept(settings, "first", 1)
    with pytest.raises(ModelError, match=words): find_version(settings, "first", which)


def test_files_that_are_gone_are_said_to_be_gone(settings):
    leave(settings, "gone")
    found = register(settings, "gone")
    shutil.rmtree(folder_of(found))
    with pytest.raises(ModelError, match="The files of the model are gone"): load_version(settings, "gone", 1)
    assert register(settings, "gone") == found and load_version(settings, "gone", 1)  # put back from the run


def test_stores_that_cannot_be_used(tmp_path):
    none = left_run.settings_at(tmp_path)
    with pytest.raises(ModelError, match="No model is registered: mlflow.db is not there"):
        find_version(none, "main")
    assert registered_experiments(none) == [] and not (tmp_path / "mlflow.db").exists()
    (tmp_path / "mlflow.db").write_text("this is no database " * 400)
    with pytest.raises(ModelError, match="MLflow's database could not be used"): model_versions(none, "main")


# --- champions


def test_back_and_back_again(settings):
    champions(settings, "chain", 3)
    assert load_champion(settings, "chain").version.number == 3
    assert rollback(settings, "chain") == (3, 2) and load_champion(settings, "chain").version.number == 2
    assert rollback(settings, "chain") == (2, 1)
    with pytest.raises(ModelError, match="no champion before v1"): rollback(settings, "chain")
    assert set_champion(settings, "chain", 3, 1).number == 3 and rollback(settings, "chain") == (3, 1)
    told = champion_history(settings, "chain")
    assert told["version"].tolist() == [1, 2, 3, 2, 1, 3, 1]
    assert told["how"].tolist() == ["gate"] * 3 + ["rollback"] * 2 + ["gate", "rollback"]


def test_back_to_a_certain_one_and_on_from_there(settings):
    champions(settings, "certain", 4)
    another(settings, "certain", 4)
    for wrong in (4, 5, 9):  # it serves; it never did; there is none
        with pytest.raises(ModelError, match=f"v{wrong} was no champion before v4"):
            rollback(settings, "certain", wrong)
    assert rollback(settings, "certain", 2) == (4,
                                                2) and load_champion(settings, "certain").version.number == 2
    assert rollback(settings, "certain") == (2, 1)           # what stood below it is still below it
    assert rollback(settings, "certain", 4) == (1, 4)        # it was a champion once, and is still whole
    (folder_of(find_version(settings, "certain", 3)) / MODEL).write_bytes(b"other")
    with pytest.raises(ModelError, match="is not what was registered"): rollback(settings, "certain", 3)


@pytest.mark.parametrize("announced", [True, False])
def test_an_interrupted_promotion_leaves_the_old_champion(settings, monkeypatch, announced):
    from mlflow import MlflowClient

    experiment = f"halfway-{announced}"
    champions(settings, experiment, 1)
    another(settings, experiment, 1)

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias" if announced else "set_registered_model_tag",
                      stop)
        with pytest.raises(KeyboardInterrupt): accept(settings, experiment, 2, 1)
    assert load_champion(settings, experiment).version.number == 1
    # what was announced did not happen
    assert champion_history(settings, experiment)["version"].tolist() == [1]
    with pytest.raises(ModelError, match="no champion before v1"): rollback(settings, experiment)
    assert accept(settings, experiment, 2,
                  1).aliases == ("champion",) and rollback(settings, experiment) == (2, 1)


def test_a_champion_that_changed_meanwhile_is_not_replaced(settings):
    champions(settings, "meanwhile", 2)
    with pytest.raises(ModelError, match="it changed meanwhile"): set_champion(settings, "meanwhile", 1, None)
    assert find_version(settings, "meanwhile").number == 2


def test_a_rollback_to_what_was_tampered_with_is_refused_and_changes_nothing(settings):
    champions(settings, "damaged", 2)
    path = folder_of(find_version(settings, "damaged", 1)) / MODEL
    path.write_bytes(b"other")
    with pytest.raises(ModelError, match="is not what was registered"): rollback(settings, "damaged")
    assert load_champion(settings, "damaged").version.number == 2


def test_what_was_refused_later_can_still_be_gone_back_to(settings):
    champions(settings, "refused-later", 2)
    write_verdict(settings, find_version(settings, "refused-later", 1), "refused", "v2 is better",
                  {"checks": []})
    assert rollback(settings, "refused-later") == (2,
                                                   1) and load_champion(settings,
                                                                        "refused-later").version.number == 1


def test_a_model_swapped_between_tracking_and_registering_is_never_unpickled(settings, tmp_path):
    import pickle

    leave(settings, "foreign", key="4" * 32)
    trace = tmp_path / "trace"

    class Foreign:
        def __reduce__(self): return Path.touch, (trace,)

    place = (Path(unquote(urlsplit(settings.artifacts).path)) if "://" in settings.artifacts
             else Path(settings.artifacts))
    models = [*(place / "test" / "foreign").rglob("estimator.skops")]
    assert models
    for model in models: model.write_bytes(pickle.dumps(Foreign()))
    with pytest.raises(ModelError, match="is not the one that was tracked"): register(settings, "foreign")
    assert not trace.exists()


def test_a_run_that_does_not_say_what_was_tracked_is_refused(settings):
    leave(settings, "unsealed", key="3" * 32)
    client = client_of(settings)
    run = client.search_runs([client.get_experiment_by_name("test/unsealed").experiment_id],
                             filter_string="tags.`mlfin.task_key` != ''")[0]
    client.delete_tag(run.info.run_id, "mlfin.model_hash")
    with pytest.raises(ModelError, match="is not the one that was tracked"): register(settings, "unsealed")


def test_a_training_without_a_last_fit_is_told_as_such_and_can_be_repaired(settings, monkeypatch):
    from mlfin.models import training

    whole = training._finish
    with monkeypatch.context() as patch:
        patch.setattr(training, "_finish", lambda *a: (whole(*a)[0], {}, ["cut"]))
        with pytest.warns(UserWarning, match="cut"): leave(settings, "cut", key="2" * 32, fresh=True)
    with pytest.raises(ModelError, match="has no model: its last fit was cut off by the budget"):
        register(settings, "cut")
    leave(settings, "cut", key="2" * 32)
    assert register(settings, "cut").number == 1
