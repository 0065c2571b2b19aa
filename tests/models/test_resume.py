"""A killed training goes on at the fold it had reached, with the same bytes; nothing stale or damaged is ever
taken."""

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mlfin.core.errors import ModelError
from mlfin.core.provenance import hash_frame
from mlfin.core.seals import SealKeys
from mlfin.models.training import cross_train

FRAMES = ("predictions", "scores", "summary", "calibration", "information", "importance", "pending")
SCRIPT = """
import sys
from tests.fixtures.known_panel import date_folds, panel
from mlfin.core.provenance import hash_frame
from mlfin.models.training import cross_train
dataset = panel(0.3, days=int(sys.argv[2]), features=int(sys.argv[3]))
made = cross_train(dataset, date_folds(dataset, 6), sys.argv[5].split(","), seed=2, jobs=int(sys.argv[4]),
                   resume=sys.argv[1] or None)
print([hash_frame(getattr(made, name)) for name in sys.argv[6].split(",")])
"""


def command(folder, days, features, jobs, models):
    return [sys.executable, "-c", SCRIPT, str(folder), str(days), str(features), str(jobs), models,
            ",".join(FRAMES)]


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONHASHSEED": "random", **more}


def hashes(result):
    return [hash_frame(getattr(result, name)) for name in FRAMES]


@pytest.mark.slow
def test_a_killed_training_goes_on_at_its_fold(tmp_path, make_panel, make_date_folds):
    dataset = make_panel(0.3, days=600)
    folds = make_date_folds(dataset, 6)
    child = subprocess.Popen(command(tmp_path, 600, 4, 1, "random_forest"), env=environment(),
                             stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*.fold"))) < 2 and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    kept = len(list(tmp_path.glob("*.fold")))
    assert 2 <= kept < 6
    told = []
    resumed = cross_train(dataset, folds, ["random_forest"], seed=2, resume=tmp_path,
                          on_progress=lambda *a: told.append(a[2]))
    assert sum(", fold " in text for text in told) == 6 - kept and told[0] == f"{kept} of 6 folds are kept"
    assert hashes(resumed) == hashes(cross_train(dataset, folds, ["random_forest"], seed=2))


@pytest.mark.slow
def test_folds_side_by_side_give_the_same_bytes(tmp_path, make_panel, make_date_folds):
    child = subprocess.run(command(tmp_path, 4200, 16, 2, "logistic,dummy"),
                           env=environment(JOBLIB_MULTIPROCESSING="1"),
                           capture_output=True, text=True, timeout=120)
    assert child.returncode == 0, child.stderr
    dataset = make_panel(0.3, days=4200, features=16) # more than 1 MB: shared between the workers, not copied
    serial = cross_train(dataset, make_date_folds(dataset, 6), ["logistic", "dummy"], seed=2)
    assert child.stdout.strip() == str(hashes(serial))
    assert len(list(tmp_path.glob("*.fold"))) == 12


@pytest.fixture
def trained(tmp_path, make_panel, make_date_folds):
    dataset = make_panel(0.3, days=300)
    folds = make_date_folds(dataset, 2)

    def train(models=("logistic", "dummy"), **more):
        told = []
        result = cross_train(dataset, folds, list(models), **{
            **dict(seed=1, resume=tmp_path / "folds", on_progress=lambda *a: told.append(a[2])), **more})
        return result, sum(", fold " in text for text in told)

    train.dataset, train.folds, train.path = dataset, folds, tmp_path / "folds"
    return train


def test_nothing_is_trained_twice(trained):
    first, count = trained()
    again, none = trained()
    assert (count, none) == (4, 0) and hashes(first) == hashes(again)
    assert trained(["xgboost", "logistic"])[1] == 2  # only the newcomer


@pytest.mark.parametrize("change", ["seed", "parameter", "feature", "target", "row of a fold", "weights",
                                    "pending", "code"])
def test_nothing_stale_is_taken(trained, change, monkeypatch):
    trained(["logistic"])
    more = {"seed": {"seed": 2}, "parameter": {"overrides": {"logistic": {"C": 0.5}}}}.get(change, {})
    dataset = trained.dataset
    if change == "feature":
        dataset.X.iloc[0, 0] += 1e-9
    elif change == "target":
        dataset.y.iloc[0] = 1 - dataset.y.iloc[0]
    elif change == "row of a fold":
        trained.folds[0].train, trained.folds[1].train = (f.train[1:] for f in trained.folds)
    elif change == "weights":
        dataset.weights = np.ones(len(dataset.X))
    elif change == "pending":
        dataset.pending = dataset.keys.tail(1).join(dataset.X)
    elif change == "code":
        monkeypatch.setattr("mlfin.models.fold_training._version", lambda package: "0")
    # the last fold is the one that predicts it
    assert trained(["logistic"], **more)[1] == (1 if change == "pending" else 2)


def test_a_damaged_file_counts_as_not_there(trained):
    first, _ = trained()
    files = sorted(trained.path.glob("*.fold"))
    files[0].write_bytes(files[0].read_bytes()[:-1])
    content = bytearray(files[1].read_bytes())
    content[len(content) // 2] ^= 1
    files[1].write_bytes(content)
    files[2].write_bytes(b"")
    again, count = trained()
    assert count == 3 and hashes(first) == hashes(again)


def test_folds_hold_no_pickle(trained):
    trained(["logistic", "random_forest", "lightgbm", "gradient_boosting"])
    for path in trained.path.glob("*.fold"):
        with zipfile.ZipFile(io.BytesIO(path.read_bytes().partition(b"\n")[2])) as fold:
            assert json.loads(fold.read("fold.json"))["kind"] == "skops" and not any("pkl" in n
                                                                                     for n in fold.namelist())


class Canary:
    "Leaves a folder when it is unpickled."
    def __init__(self, path): self.path = str(path)

    def __reduce__(self): return os.mkdir, (self.path,)


def plant(path, canary, keys):
    """A fold in the place of another, whose model is a pickle; sealed with a key of one's own, or by its hash
    where `keys` is None."""
    from mlfin.models.fold_training import FoldStore

    with zipfile.ZipFile(io.BytesIO(path.read_bytes().partition(b"\n")[2])) as fold:
        kept = {n: fold.read(n) for n in fold.namelist()}
    told = json.loads(kept["fold.json"]) | {"kind": "pickle", "parts": [], "files": ["model.pkl"]}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as fold:
        for name in ("test.f8", "pending.f8"): fold.writestr(name, kept[name])
        fold.writestr("fold.json", json.dumps(told))
        fold.writestr("model/model.pkl", pickle.dumps(Canary(canary)))
    shelf = FoldStore(None, keys, None)
    path.write_bytes(shelf.seal(path, buffer.getvalue()).encode() + b"\n" + buffer.getvalue())


@pytest.mark.parametrize("theirs", ["a hash", "another key"])
@pytest.mark.parametrize("ours", ["a key", "no key"])
def test_a_planted_fold_is_not_run_but_trained_anew(trained, tmp_path, ours, theirs):
    keys = SealKeys(tmp_path / "ours" / "seal_keys.json") if ours == "a key" else None
    first, _ = trained(["logistic"], seal_keys=keys)
    assert trained(["logistic"], seal_keys=keys)[1] == 0
    for path in trained.path.glob("*.fold"):
        plant(path, tmp_path / "canary", SealKeys(tmp_path / "theirs" / "seal_keys.json")
              if theirs == "another key" else None)
    again, count = trained(["logistic"], seal_keys=keys)
    assert count == 2 and hashes(first) == hashes(again) and not (tmp_path / "canary").exists()


def test_the_planted_fold_would_have_run(trained, tmp_path):
    keys = SealKeys(tmp_path / "ours" / "seal_keys.json")
    trained(["logistic"], seal_keys=keys)
    path = next(trained.path.glob("*.fold"))
    plant(path, tmp_path / "canary", keys)
    # os.mkdir gave None, which is no model
    with pytest.raises(AttributeError): trained(["logistic"], seal_keys=keys)
    assert (tmp_path / "canary").is_dir()


def test_a_fold_in_another_s_place_is_not_taken(trained, tmp_path):
    keys = SealKeys(tmp_path / "ours" / "seal_keys.json")
    trained(["logistic"], seal_keys=keys)
    one, two = sorted(trained.path.glob("*.fold"))
    two.write_bytes(one.read_bytes())
    assert trained(["logistic"], seal_keys=keys)[1] == 1


def test_what_needs_a_pickle_is_kept_under_a_key_alone(trained, tmp_path, monkeypatch):
    import mlfin.models.fold_training as fold_training
    from mlfin.models import formats

    keys = SealKeys(tmp_path / "ours" / "seal_keys.json")
    monkeypatch.setattr(fold_training, "pack_estimator", formats.pack_pickle)
    assert trained(["logistic"])[1] == trained(["logistic"])[1] == 2 and not trained.path.exists()
    assert trained(["logistic"], seal_keys=keys)[1] == 2 and trained(["logistic"], seal_keys=keys)[1] == 0


def test_a_full_disk_loses_nothing(trained, monkeypatch):
    import warnings

    def full(self, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result, count = trained()
    said = [str(w.message) for w in caught]
    assert count == 4 and len(said) == 1 and "No space left" in said[0] and "free some space" in said[0]
    assert "Training goes on" in said[0]
    assert not list(trained.path.iterdir()) and hashes(result) == hashes(trained()[0])


def test_a_class_of_the_notebook_itself_is_trained_anew(trained, monkeypatch):
    from sklearn.linear_model import LogisticRegression

    import mlfin.models.training as training

    class Own(LogisticRegression):
        pass

    monkeypatch.setattr(sys.modules["__main__"], "Own", Own, raising=False)
    Own.__module__, Own.__qualname__ = "__main__", "Own"
    monkeypatch.setattr(training, "make_model", lambda name, *a, **p: Own())
    assert trained(["logistic"])[1] == trained(["logistic"])[1] == 2 and not trained.path.exists()


def test_over_the_time_it_stops_between_folds_and_goes_on_later(trained, monkeypatch):
    import mlfin.models.fold_training as fold_training

    now = [0.0]
    monkeypatch.setattr(fold_training, "monotonic", lambda: now[0])

    def tick(done, total, text):
        now[0] += 1.0

    with pytest.warns(UserWarning, match=r"time of 2\.5 s is over; left out: dummy \(1 of 2 folds\)"):
        cut, _ = trained(budget=2.5, on_progress=tick)
    assert cut.summary["model"].tolist() == ["logistic"] and cut.models == {} and "dummy" in cut.stopped
    assert set(cut.predictions["model"]) == {"logistic"} and cut.importance.empty
    whole, count = trained()
    assert count == 1 and whole.stopped == "" and set(whole.models) == {whole.selected}
    now[0] = 0.0
    with pytest.raises(ModelError, match=r"No model was trained in all folds.*logistic \(1 of 2 "
                       r"folds\).*\nHint:.*goes on at the fold"):
        trained(budget=0.5, resume=None, on_progress=tick)


def test_a_model_that_is_too_large_is_left_out(trained):
    with pytest.warns(UserWarning, match="random_forest is left out: saved, it takes"):
        result, count = trained(["random_forest", "dummy"], model_mb=0.05)
    assert result.summary["model"].tolist() == ["dummy"] and count == 3  # its second fold did not begin
    with pytest.raises(ModelError, match="No model was trained"):
        trained(["random_forest"], model_mb=0.05)


@pytest.mark.parametrize("more, words", [
    (dict(jobs=0), "jobs"), (dict(jobs=True), "jobs"), (dict(budget=0), "budget"),
    (dict(model_mb=0), "model_mb"),
    (dict(memory_mb=64), "memory_mb.*one fold.*setting train_mb"),
    (dict(task="regresion"), "did you mean `regression`")])
def test_budgets_that_are_refused(trained, more, words):
    with pytest.raises(ModelError, match=words):
        trained(**more)
