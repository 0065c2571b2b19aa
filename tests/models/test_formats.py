"""Every model of the zoo comes back from its files bit for bit, without pickle; what is pickled is read under
a seal alone."""
import io
import json
import os
import pickle
import zipfile
from functools import cache

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from mlfin.core.errors import ModelError
from mlfin.models.fitting import fit_rows, predict_rows
from mlfin.models.formats import TRUSTED, pack_estimator, unpack_estimator
from mlfin.models.zoo import make_model, model_names

from ..fixtures import known_panel

DATA = known_panel.panel(0.3, days=450)
SPANS = DATA.keys[["ts", "t0", "t1"]]
ROWS = np.arange(len(DATA.X))
OPTIONS = {"persistence": {"column": "f_0"}, "lstm": {"epochs": 1, "window": 3, "units": 2,
                                                      "batch_size": 1024}}
NATIVE = {"lightgbm": "lightgbm text + skops", "random_forest_fast": "lightgbm text + skops",
          "xgboost": "xgboost ubj + skops", "lstm": "keras"}


@cache
def kept(name, task="classification"):
    "One fit for several tests, none of which changes it."
    return fitted(name, task)


def fitted(name, task="classification", **own):
    model = make_model(name, 1, **({} if task == "classification" else {"task": task}),
                       **{**OPTIONS.get(name, {}), **own})
    return fit_rows(model, DATA, ROWS, (DATA.y if task == "classification"
                                        else DATA.forward_return).to_numpy(), spans=SPANS)


def again(packed):
    "Read from nothing but what could lie in a file."
    return unpack_estimator(packed.kind, json.loads(json.dumps(packed.parts)), packed.files)


def says(model): return predict_rows(model, DATA, ROWS)


ZOO = [pytest.param(task, name, marks=[pytest.mark.slow] if (task, name) == ("regression", "lstm") else [])
       for task in ("classification", "regression") for name in model_names(task)]


@pytest.mark.parametrize("task, name", ZOO)
def test_every_model_of_the_zoo_is_kept_without_pickle_and_says_the_same(task, name):
    model = kept(name, task)
    want = says(model)
    packed = pack_estimator(model, says)
    assert packed.kind != "pickle" and (name not in NATIVE or packed.stored == NATIVE[name])
    assert not any(pickled(content) for content in packed.files.values())
    back = again(packed)
    assert says(back).tobytes() == want.tobytes() == says(model).tobytes(), (
        "and the model itself is as it was"
    )
    assert type(back) is type(model) and back.get_params().keys() == model.get_params().keys()


def pickled(content):
    "Whether bytes are a pickle, or a zip with one in it (an array of objects, for instance)."
    if content[:2] == b"\x80\x05" or content[:2] == b"\x80\x04": return True
    if content[:4] != b"PK\x03\x04": return False
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return any(n.endswith(".pkl") or pickled(archive.read(n)) for n in archive.namelist())


@pytest.mark.parametrize("name, own", [
    ("lightgbm", dict(early_stopping=True, calibrate="isotonic", class_weight="balanced")),
    ("xgboost", dict(early_stopping=True, calibrate="sigmoid")),
    ("gradient_boosting", dict(early_stopping=True)),
    ("random_forest", dict(calibrate="sigmoid")),
    ("random_forest_fast", dict(calibrate="sigmoid", class_weight="balanced")),
    ("ensemble", dict(members={"logistic": {}, "gradient_boosting": {}, "xgboost": {}})),
    ("dummy", dict(strategy="majority"))])
def test_what_is_composed_is_kept_without_pickle_too(name, own):
    model = fitted(name, **own)
    packed = pack_estimator(model, says)
    assert packed.kind == "skops" and says(again(packed)).tobytes() == says(model).tobytes()


def test_a_row_alone_goes_through_as_before():
    from mlfin.predict.single_row import single_row

    for name in ("logistic", "random_forest", "random_forest_fast", "lightgbm", "xgboost",
                 "gradient_boosting"):
        model = kept(name)
        rows = DATA.X.head(20)
        one, two = (single_row(m, rows) for m in (model, again(pack_estimator(model))))
        assert two.way == one.way and [two.predict(r)
                                       for r in rows.to_numpy()] == [one.predict(r) for r in rows.to_numpy()]


class Own(ClassifierMixin, BaseEstimator):
    def fit(self, X, y): return self

    def predict_proba(self, X): return np.full((len(X), 2), 0.5)


class Canary:
    def __init__(self, path): self.path = str(path)

    def __reduce__(self): return os.mkdir, (self.path,)


def test_an_estimator_of_ones_own_is_pickled_and_read_under_a_seal_alone():
    packed = pack_estimator(Own())
    assert (packed.kind, packed.stored) == ("pickle", "pickle (sealed)")
    with pytest.raises(ModelError, match="it is not unpickled.*\n.*seal key"): again(packed)
    assert isinstance(unpack_estimator(packed.kind, packed.parts, packed.files, sealed=True), Own)


def test_a_planted_pickle_is_not_run(tmp_path):
    for kind, name in (("pickle", "model.pkl"), ("skops", "estimator.skops"), ("sequence", "sequence.json")):
        with pytest.raises((ModelError, ValueError, KeyError, zipfile.BadZipFile)):
            unpack_estimator(kind, [], {name: pickle.dumps(Canary(tmp_path / "canary"))})
    assert not (tmp_path / "canary").exists()
    pickle.loads(pickle.dumps(Canary(tmp_path / "canary")))
    assert (tmp_path / "canary").is_dir(), "and it would have been"


def test_answers_that_differ_make_a_pickle():
    rng = np.random.default_rng(0)
    assert pack_estimator(fitted("logistic"), lambda model: rng.normal(size=3)).kind == "pickle"


def test_types_that_a_file_asks_for_are_not_taken_at_its_word():
    import skops.io

    packed, model = pack_estimator(kept("logistic")), fitted("logistic")
    model.odd = Own()
    with pytest.raises(ModelError, match="types that mlfin does not build.*Own"):
        unpack_estimator("skops", packed.parts, {"estimator.skops": skops.io.dumps(model)})
    assert all(name.split(".")[0] in ("mlfin", "lightgbm", "xgboost", "sklearn", "collections")
               for name in TRUSTED)


@pytest.mark.parametrize("column, value", [("left_child", 10**6), ("feature", 99), ("right_child", -7)])
def test_a_forest_that_points_out_of_its_memory_is_refused(column, value):
    packed = pack_estimator(kept("random_forest"))
    name = next(n for n in packed.files if n.startswith("forest"))
    with np.load(io.BytesIO(packed.files[name])) as file: arrays = dict(file)
    arrays["nodes"][column][0] = value
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    with pytest.raises(ModelError, match="`forest` must be trees whose"):
        unpack_estimator(packed.kind, packed.parts, {**packed.files, name: buffer.getvalue()})


def test_a_network_with_code_in_it_is_refused(tmp_path):
    keras = pytest.importorskip("keras")
    packed = pack_estimator(kept("lstm"))
    network = keras.Sequential([keras.Input((3, 4)), keras.layers.Lambda(lambda x: x, output_shape=(3, 4))])
    network.save(path := tmp_path / "network.keras")
    with pytest.raises(ValueError, match="(?i)unsafe|lambda"):
        again(packed._replace(files={**packed.files, "network.keras": path.read_bytes()}))
