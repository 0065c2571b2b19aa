"""The notebooks read well and the package is whole: the measures of `reading.py`, in every room."""
from statistics import median

import pytest

from . import reading

ROOMS = sorted(path.name
               for path in (reading.ROOT / "mlfin").iterdir() if path.is_dir() and path.name[0] != "_")

def test_the_rooms_are_there():
    assert len(ROOMS) > 20 and all(reading.notebooks(room) and reading.modules(room) for room in ROOMS)


def test_exported_cells_are_short():
    lengths = [length for room in ROOMS for length in reading.exported_lengths(room)]
    assert len(lengths) > 1_000 and median(lengths) <= reading.MEDIAN


@pytest.mark.parametrize("room", ROOMS)
def test_what_is_defined_is_shown_at_once(room):
    """At least half in every room: a cell that calls what was defined, and shows what comes."""
    found = reading.shown(room)
    assert found and reading.share(found) >= reading.SHOWN, "\n".join(
        key for key, good in found.items() if not good)


@pytest.mark.parametrize("measure", reading.LISTS)
def test_a_measure_holds_in_every_room(measure):
    found = [line for room in ROOMS for line in reading.LISTS[measure](room)]
    assert not found, "\n".join(found[:40])


def test_public_parameters_are_described():
    found = {key: good for room in ROOMS for key, good in reading.parameters(room).items()}
    missing = [key for key, good in found.items() if not good]
    assert len(found) > 1_000 and reading.share(found) >= reading.DESCRIBED, "\n".join(missing[:40])


def test_public_functions_name_the_errors_that_they_raise():
    found = {key: good for room in ROOMS for key, good in reading.raisers(room).items()}
    assert len(found) > 300 and all(found.values()), "\n".join(key for key, good in found.items() if not good)


def test_the_measures_see_what_they_look_for(tmp_path, monkeypatch):
    """Each measure on a small package that breaks it."""
    for folder in ("nbs/room", "mlfin/room"): (tmp_path / folder).mkdir(parents=True)
    bad = '''from .other import _private
class Base: pass
class Child(Base):
    "See `Base`."
def public(own, value, other):
    "Does it."
    if value._inside: raise ValueError("x")
    return (1 if value else 2) if other else 3
'''
    (tmp_path / "mlfin/room/bad.py").write_text(bad)
    cells = [{"cell_type": "code", "source": f"#| export\ndef f{i}(): return {'1' * 120}"} for i in range(3)]
    (tmp_path / "nbs/room/01_bad.ipynb").write_text(reading.json.dumps({"cells": cells}))
    monkeypatch.setattr(reading, "ROOT", tmp_path)
    assert all(reading.LISTS[name]("room") for name in reading.LISTS), {
        n: look("room") for n, look in reading.LISTS.items()}
    assert not any(reading.shown("room").values()) and not any(reading.raisers("room").values())
    assert not any(reading.parameters("room").values())
