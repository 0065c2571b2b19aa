"""Kernels: what is kept on disk is never an older source's, and options are kept to."""
import importlib.util

from mlfin.core.kernels import compiled


def test_a_kernel_is_kept_and_knows_the_files_it_depends_on(tmp_path, monkeypatch):
    def module(name, source):
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(name, path)
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        return made
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
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


def test_options_are_passed_on_and_each_choice_is_a_kernel_of_its_own():
    def whole(x, by=2): return x // by
    plain, quick = compiled(whole), compiled(whole, fastmath=True)
    assert (plain(7), quick(7, 3)) == (3, 2)
    assert quick.targetoptions["fastmath"] and not plain.targetoptions.get("fastmath") and plain.targetoptions["nogil"]
