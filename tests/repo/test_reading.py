"""The notebooks read well and the package is whole: the measures of `reading.py`, held for each room."""
from statistics import median

import pytest

from . import reading

ROOMS = sorted(path.name for path in (reading.ROOT / "mlfin").iterdir() if path.is_dir() and path.name[0] != "_")

# Rooms where less than half of what is defined is shown at once, and how often a room still breaks a measure.
NOT_SHOWN = {"facts", "ingest", "quality", "registry"}
LEFT = {
        "in a row": {"api": 1, "backtest": 6, "charts": 2, "facts": 9, "feature_store": 1, "features": 1, "ingest": 5,
        "jobs": 2, "models": 5, "monitor": 3, "predict": 5, "quality": 15, "registry": 9, "runs": 3, "warehouse": 2},
        "wide": {"api": 4, "backtest": 2, "charts": 1, "cli": 5, "client": 1, "facts": 4, "features": 1, "ingest": 49,
        "jobs": 3, "leakage": 1, "monitor": 37, "predict": 40, "quality": 23, "registry": 3, "runs": 1, "sources": 1,
        "store": 2, "validation": 1, "warehouse": 80},
    "two ifs": {"charts": 3, "facts": 1, "ingest": 8, "monitor": 2, "quality": 2, "warehouse": 1},
    "reaches": {"quality": 13},
    "one child": {"models": 1, "predict": 1, "store": 1},
    "errors": {"api": 2, "facts": 7, "ingest": 2, "predict": 1, "quality": 1, "store": 1},
}


def test_the_rooms_are_there():
    assert len(ROOMS) > 20 and all(reading.notebooks(room) and reading.modules(room) for room in ROOMS)


def test_exported_cells_are_short():
    lengths = [length for room in ROOMS for length in reading.exported_lengths(room)]
    assert len(lengths) > 1_000 and median(lengths) <= reading.MEDIAN


def test_what_is_defined_is_shown_at_once():
    """Half of all, and in no finished room less than half: a cell that calls what was defined, and shows what comes."""
    found = {room: reading.shown(room) for room in ROOMS}
    assert reading.share({key: good for room in found.values() for key, good in room.items()}) >= reading.SHOWN
    short = {room for room, own in found.items() if reading.share(own) < reading.SHOWN}
    assert short == NOT_SHOWN, f"new: {short - NOT_SHOWN}; no longer so: {NOT_SHOWN - short}"


@pytest.mark.parametrize("measure", reading.LISTS)
def test_a_measure_holds_in_every_finished_room(measure):
    """What a room still has to mend is counted in LEFT: no room may have more, and what was mended is taken out of it."""
    found = {room: reading.LISTS[measure](room) for room in ROOMS}
    left = LEFT.get(measure, {})
    more = [line for room, lines in found.items() if len(lines) > left.get(room, 0) for line in lines]
    assert not more, "\n".join(more[:40])
    counts = {room: len(lines) for room, lines in found.items() if lines}
    assert counts == left, f"LEFT of {measure!r} is now {counts}"


def test_public_parameters_are_described():
    found = {key: good for room in ROOMS for key, good in reading.parameters(room).items()}
    missing = [key for key, good in found.items() if not good]
    assert len(found) > 1_000 and reading.share(found) >= reading.DESCRIBED, "\n".join(missing[:40])


def test_public_functions_name_the_errors_that_they_raise():
    found = {room: [key for key, good in reading.raisers(room).items() if not good] for room in ROOMS}
    counts = {room: len(lines) for room, lines in found.items() if lines}
    assert counts == LEFT["errors"], "\n".join(line for lines in found.values() for line in lines)


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
    assert all(reading.LISTS[name]("room") for name in reading.LISTS), {n: look("room") for n, look in reading.LISTS.items()}
    assert not any(reading.shown("room").values()) and not any(reading.raisers("room").values())
    assert not any(reading.parameters("room").values())
