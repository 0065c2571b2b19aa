import errno
import json
import os
import resource
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfin.core import provenance
from mlfin.core.errors import DataError, ParameterError, SettingsError
from mlfin.core.pipeline_spec import TaskSpec, read_pipeline
from mlfin.core.provenance import (
    atomic_path,
    hash_frame,
    hash_json,
    key_components,
    module_closure,
    product_key,
    read_json,
    read_parquet,
    write_json,
    write_parquet,
)
from mlfin.core.settings import load_settings

LEAF = st.none() | st.booleans() | st.integers(-10**9, 10**9) | st.text(max_size=8)
JSON = st.recursive(
    LEAF, lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(max_size=4), s, max_size=3)
)


@given(JSON, JSON)
def test_hash_json_is_equal_exactly_for_equal_values(a, b):
    assert hash_json(a) == hash_json(a)
    assert (hash_json(a) == hash_json(b)) == (
        provenance.json.dumps(a, sort_keys=True) == provenance.json.dumps(b, sort_keys=True)
    )


def test_hash_frame_sees_every_bit():
    frame = pd.DataFrame(
        {"x": [1.0, 2.0], "s": ["a", None], "t": pd.to_datetime(["2020-01-01", "2020-01-02"], utc=True)}
    )
    base = hash_frame(frame)
    assert base == hash_frame(frame.set_index(pd.Index([5, 6])))
    for change in (
        lambda f: f.assign(x=[1.0, np.nextafter(2.0, 3.0)]),
        lambda f: f.assign(s=["a", "None"]),
        lambda f: f.assign(t=f.t + pd.Timedelta("1us")),
        lambda f: f.assign(x=f.x.astype("float32")),
        lambda f: f[["s", "x", "t"]],
    ):
        assert hash_frame(change(frame)) != base


def test_hash_frame_knows_one_nan_and_one_zero():
    odd = np.frombuffer(np.uint64(0x7FF8000000000001).tobytes(), dtype=float)
    assert hash_frame(pd.DataFrame({"x": odd})) == hash_frame(pd.DataFrame({"x": [np.nan]}))
    assert hash_frame(pd.DataFrame({"x": [-0.0]})) == hash_frame(pd.DataFrame({"x": [0.0]}))


def test_parquet_bytes_are_the_same_for_the_same_content(tmp_path):
    frame = pd.DataFrame({"x": np.arange(1000) / 7})
    for name in ("a", "b"):
        write_parquet(frame, tmp_path / name, task_key="k")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_json_turns_nan_into_null_and_keeps_the_key(tmp_path):
    write_json({"a": np.float64("nan"), "b": np.int64(3), "c": (1, 2)}, tmp_path / "x.json", "k")
    assert read_json(tmp_path / "x.json") == {"a": None, "b": 3, "c": [1, 2], "task_key": "k"}
    assert product_key(tmp_path / "x.json") == "k"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_failed_write_keeps_what_was_there(tmp_path, number):
    dest = tmp_path / "bars.parquet"
    dest.write_text("old")
    with (
        pytest.raises(DataError, match="bars.parquet could not be written") as caught,
        atomic_path(dest) as temporary,
    ):
        temporary.write_text("half")
        raise OSError(number, os.strerror(number))
    assert "Hint" in str(caught.value)
    assert dest.read_text() == "old" and os.listdir(tmp_path) == ["bars.parquet"]


def test_a_full_disk_for_real(tmp_path):
    "RLIMIT_FSIZE makes the kernel refuse the bytes, as a full disk does."
    code = ("import numpy as np, pandas as pd, resource\nfrom mlfin.core.provenance import write_parquet\n"
            "frame = pd.DataFrame({'x': np.random.default_rng(0).normal(size=200_000)})\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
            f"write_parquet(frame, r'{tmp_path}/bars.parquet')\n")
    (tmp_path / "bars.parquet").write_text("old")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "DataError: bars.parquet could not be written" in done.stderr
    assert (tmp_path / "bars.parquet").read_text() == "old" and os.listdir(tmp_path) == ["bars.parquet"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000


def test_a_file_where_a_folder_is_needed(tmp_path):
    (tmp_path / "home").write_text("a file")
    with (
        pytest.raises(DataError, match="could not be written"),
        atomic_path(tmp_path / "home" / "x") as temporary,
    ):
        temporary.write_text("never")


@pytest.mark.parametrize("content, reader", [(b"not parquet", read_parquet), (b"{", read_json)])
def test_unreadable_products_are_named(tmp_path, content, reader):
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(DataError, match="Hint"):
        reader(tmp_path / "p")
    with pytest.raises(DataError, match="is not there"):
        reader(tmp_path / "missing")


def test_closure_follows_imports_inside_functions_and_relative_ones():
    reached = module_closure("def f():\n    from mlfin.core.settings import Settings")
    assert list(reached) == ["mlfin.core.errors", "mlfin.core.filesystem", "mlfin.core.settings"]


def test_closure_of_a_registry_holds_what_registers_there():
    assert "mlfin.features.technical" in module_closure("from mlfin.features.spec import parse")


def test_closure_ignores_lazy_packages():
    assert module_closure("import mlfin\nfrom mlfin.core import settings") == module_closure(
        "from mlfin.core.settings import x"
    )


@pytest.mark.parametrize("source, module", [
    ("from mlfin.features import compute_features", "mlfin.features.technical"),
    ("from mlfin.backtest import key_figures as k", "mlfin.backtest.risk"),
    ("from mlfin.models import *", "mlfin.models.zoo"),
    ("from mlfin import backtest", "mlfin.backtest.risk"),
    ("import mlfin.backtest as b", "mlfin.significance.significance"),
])
def test_what_a_package_hands_out_counts_as_its_module(source, module):
    assert module in module_closure(source)


def test_one_name_of_a_package_is_not_all_of_it():
    assert list(module_closure("from mlfin.core import MlfinError")) == ["mlfin.core.errors"]


def test_a_plugin_is_all_its_files_and_what_it_reaches(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plug_one.py").write_text("import plug_help\nfrom mlfin.market.calendars import gaps")
    (tmp_path / "plug_help.py").write_text("x = 1")
    (tmp_path / "plug_many").mkdir()
    (tmp_path / "plug_many" / "__init__.py").write_text("from .deep import x")
    (tmp_path / "plug_many" / "deep.py").write_text("x = 1")
    before = module_closure("import mlfin.features.spec", ("plug_one", "plug_many"))
    assert "mlfin.market.calendars" in before
    (tmp_path / "plug_help.py").write_text("x = 2")
    (tmp_path / "plug_many" / "deep.py").write_text("x = 2")
    after = module_closure("import mlfin.features.spec", ("plug_one", "plug_many"))
    assert {name for name in after if after[name] != before[name]} == {"plug_one", "plug_many"}


def test_a_plugin_in_the_projects_folder_is_in_the_key_before_it_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    (tmp_path / "plug_here.py").write_text("import numpy\nimport mlfin.core.errors")
    (tmp_path / "mlfin").mkdir()
    notebook = tmp_path / "task.ipynb"
    notebook.write_text(
        json.dumps({"cells": [{"cell_type": "code", "source": ["from mlfin.features.spec import parse"]}]})
    )
    spec = TaskSpec("a", notebook, {}, {}, {}, ())
    settings = load_settings("test").model_copy(update={"root": tmp_path, "plugins": ("plug_here",)})
    assert "plug_here" in key_components(spec, {}, {}, settings)["modules"]
    for name in ("nowhere_plug", "nowhere.plug"):
        with pytest.raises(SettingsError, match="importable"):
            key_components(spec, {}, {}, settings.model_copy(update={"plugins": (name,)}))


def test_a_set_of_features_enters_the_key_by_what_it_holds(tmp_path):
    notebook = tmp_path / "task.ipynb"
    notebook.write_text(json.dumps({"cells": []}))
    spec, settings = (
        TaskSpec("a", notebook, {}, {}, {}, ()),
        load_settings("test").model_copy(update={"root": tmp_path}),
    )

    def asked(env, features):
        (tmp_path / "env.yaml").write_text(env)
        return key_components(spec, {"features": features}, {}, settings)["parameters"]
    before = asked("feature_sets: {mine: [rsi_14, quick], quick: [ret_1], other: [sma_5]}", ["mine"])
    assert before["feature_sets"] == {"mine": ["rsi_14", "quick"], "quick": ["ret_1"]}
    assert asked("feature_sets: {mine: [rsi_14, quick], quick: [ret_1], other: [sma_9]}", ["mine"]) == before
    assert asked("feature_sets: {mine: [rsi_14, quick], quick: [ret_5]}", ["mine"]) != before
    assert "feature_sets" not in asked("feature_sets: {mine: [rsi_14]}", ["rsi_14"])
    assert asked("seed: 1", ["mine"]) == {"features": ["mine"]}


def test_a_plugin_counts_where_a_registry_is_reached(tmp_path, monkeypatch):
    (tmp_path / "my_features.py").write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path)
    assert "my_features" in module_closure("from mlfin.features.spec import parse", ("my_features",))
    assert "my_features" not in module_closure("from mlfin.market.bars import check_bars", ("my_features",))


GOOD = {"name": "a", "source": "a.ipynb", "product": {"nb": "a.ipynb"}}


@pytest.mark.parametrize("tasks, message", [
    ([], "a list of tasks"),
    ("text", "a list of tasks"),
    (["text"], "given for every task"),
    ([{**GOOD, "source": None}], "source"),
    ([{**GOOD, "product": "a.ipynb"}], "a mapping of names to paths"),
    ([GOOD, GOOD], "used once"),
    ([{**GOOD, "upstream": ["b"]}], "a known name"),
    ([{**GOOD, "upstream": ["b"]}, {**GOOD, "name": "b", "upstream": ["a"]}], "free of circles"),
    ([{**GOOD, "params": {"x": "{{nowhere}}"}}], "nowhere"),
])
def test_a_wrong_pipeline_is_one_clear_message(tmp_path, tasks, message):
    (tmp_path / "pipeline.yaml").write_text(provenance.json.dumps({"tasks": tasks}))
    with pytest.raises(SettingsError, match=message):
        read_pipeline(tmp_path, {"seed": 1})


def test_invalid_yaml_names_the_line(tmp_path):
    (tmp_path / "pipeline.yaml").write_text("tasks:\n  - name: a\n source: b\n")
    with pytest.raises(SettingsError, match="line 3"):
        read_pipeline(tmp_path, {})


def test_data_enters_the_key_by_content_not_by_path(tmp_path):
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "b.csv").write_text("x")
    a, b = (provenance._data_content({"path": f"{n}.csv"}, tmp_path) for n in "ab")
    assert a == b
    with pytest.raises(ParameterError, match="a file that exists"):
        provenance._data_content({"path": "c.csv"}, tmp_path)


def test_a_folder_that_vanishes_while_content_is_looked_for_is_passed_over(tmp_path, monkeypatch):
    """Beside a project other programs make and remove folders: looking there must not end in their errors."""
    import mlfin.core.provenance as provenance
    (tmp_path / "gone").mkdir()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/bars.csv").write_text("ts,close\n")
    content, scan = provenance.hash_file(tmp_path / "kept/bars.csv"), provenance.os.scandir

    def scandir(folder):
        if provenance.Path(folder).name == "gone":
            raise FileNotFoundError(2, "No such file or directory", str(folder))
        return scan(folder)
    monkeypatch.setattr(provenance.os, "scandir", scandir)
    (tmp_path / "project").mkdir()
    found = provenance.find_content("bars.csv", content, tmp_path / "project")
    assert found == str(tmp_path / "kept/bars.csv")
