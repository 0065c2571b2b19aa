"""Kernels: what is kept on disk is never an older source's, and options are kept to."""
import importlib.util
import sys

import numba
import pytest

from mlfin.core.kernels import compiled


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module and import it, as often as wanted: module(name, source)."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(
        sys, "dont_write_bytecode", True
    )  # two sources of one size and second look alike to Python

    def made(name, source):
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(name, path)
        found = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
        return found
    return made


def test_a_kernel_is_kept_and_knows_the_files_it_depends_on(module):
    inner = module("inner", "def step(x):\n    return x + 1\n")
    outer = module("outer", "def twice(x):\n    return step(step(x))\n")
    outer.step = inner.step
    first = compiled(outer.twice)
    assert first(1) == 3 and "_" in first.py_func.__qualname__
    changed = module("inner", "def step(x):\n    return x + 10\n")
    again = module("outer", "def twice(x):\n    return step(step(x))\n")
    again.step = changed.step
    second = compiled(again.twice)
    assert second(1) == 21 and first.py_func.__qualname__ != second.py_func.__qualname__


@pytest.mark.parametrize(
    "source",
    [
        "def part(x):\n    return x * {}\n",
        "SHARE = {}\ndef part(x):\n    return x * SHARE\n",
        "def share():\n    return {}\ndef part(x):\n    return x * share()\n",
    ],
)
def test_a_session_that_is_older_than_the_files_leaves_nothing_behind_for_them(module, source):
    old = module("changing", source.format(0.75))
    new = module("changing", source.format(0.25))
    assert compiled(old.part)(100.0) == 75.0  # compiled for the first time when the file says something else
    assert compiled(new.part)(100.0) == 25.0


def test_options_are_passed_on_and_each_choice_is_a_kernel_of_its_own():
    def whole(x, by=2): return x // by
    plain, quick = compiled(whole), compiled(whole, fastmath=True)
    assert (plain(7), quick(7, 3)) == (3, 2)
    assert quick.targetoptions["fastmath"] and not plain.targetoptions.get("fastmath")
    assert plain.targetoptions["nogil"]
