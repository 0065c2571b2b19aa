"""The order of the rooms holds in imports, texts and numbers; names have one home; rooms stay small."""
import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
FROM_BELOW = [*reversed(CONTRACT["layers"]), "pipeline"]
ROOMS = {room: height for height, room in enumerate(FROM_BELOW)}
LINES, MODULES = 5_000, 15  # what a room of the package may have

# Public names that several modules define. It must be exactly what is so: take out what has one home; add non
SEVERAL_HOMES = {
    "content"
}  # the name by which a module of the key gives its part: see `mlfin.core.provenance`

# Texts that name a module of a higher room: (module, what it names). As above.
HIGHER_TEXTS = set()

# Lessons that import a module which comes after their own: (notebook, module). As above.
LESSONS_AHEAD = {
    ("nbs/market/03_actions.ipynb", "mlfin.quality.quality"),
    ("nbs/market/03_actions.ipynb", "mlfin.sources.sources"),
    ("nbs/validation/09_comparison.ipynb", "mlfin.models.training"),
}


@cache
def imports(source: str) -> list[tuple[str, str | None]]:
    """(module, name) for each `from module import name`, (module, None) for `import module`, in order."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [("." * node.level + (node.module or ""), alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", None))
            if called in ("import_module", "__import__", "require"):
                found.append((str(node.args[0].value), None))
    return found


def lint_imports(project: Path) -> subprocess.CompletedProcess:
    """import-linter's word on the package of a project."""
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([program, "--no-cache"], cwd=project, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(project), "COLUMNS": "200"})


def misplaced(notebooks) -> list[str]:
    """Notebooks whose folder, number and module do not belong together; numbers with holes or doubles."""
    bad, numbers = [], {}
    for nb in notebooks:
        name = nb.path.rsplit("/", 1)[-1].removesuffix(".ipynb")
        if nb.number is None:
            if nb.folder not in ("", "guides", "examples", "warehouse/revisions"):
                bad.append(f"{nb.path}: needs two digits NN_ in front")
            continue
        if nb.folder not in ROOMS:
            bad.append(f"{nb.path}: {nb.folder or 'nbs'} is no room of the contract in pyproject.toml")
            continue
        numbers.setdefault(nb.folder, []).append(nb.number)
        if nb.folder != "pipeline" and nb.module != (wanted := f"mlfin.{nb.folder}.{name[3:]}"):
            bad.append(f"{nb.path}: must export {wanted}, exports {nb.module}")
    return bad + [f"nbs/{folder}: numbers {sorted(found)}, must be 1 to {len(found)}, each once"
                  for folder, found in numbers.items() if sorted(found) != list(range(1, len(found) + 1))]


def ahead(notebooks) -> set[tuple[str, str]]:
    """(notebook, module) where an export or a lesson imports a higher room, or a number that is not smaller.

    A lesson may import its own module."""
    places = placed(notebooks)
    found = set()
    for nb, cell, target in imported(notebooks):
        own_lesson = target == nb.module and cell not in nb.exported
        if places.get(target, (-1, 0)) >= (ROOMS[nb.folder], nb.number) and not own_lesson:
            found.add((nb.path, target))
    return found


def misnamed(notebooks) -> list[str]:
    """Imports of mlfin that do not name the module which defines it, absolutely."""
    places = placed(notebooks)
    bad = []
    for nb, _, target in imported(notebooks):
        if target.startswith("."):
            bad.append(f"{nb.path}: relative import {target}, write it absolute")
        elif target not in places and target not in (f"mlfin.{nb.folder}", "mlfin.__version__"):
            bad.append(f"{nb.path}: imports {target}, name the module that defines it")
    return bad


def placed(notebooks) -> dict[str, tuple[int, int]]:
    """Room and number of each module."""
    return {nb.module: (ROOMS[nb.folder], nb.number) for nb in notebooks
            if nb.module and nb.folder in ROOMS and nb.number}


def imported(notebooks):
    """(notebook, cell, what it imports of mlfin) of numbered notebooks; index and guides show everything."""
    places = placed(notebooks)
    for nb in notebooks:
        if nb.folder in ROOMS and nb.number:
            for cell in nb.code:
                for module, name in imports(cell.body):
                    if module.split(".")[0] in ("mlfin", ""):
                        whole = f"{module}.{name}" if name else module
                        yield nb, cell, module if module in places else whole


def named_higher(sources: dict[str, str]) -> set[tuple[str, str]]:
    """(module, what it names) where a text names a module of a higher room; sources by dotted name."""
    found = set()
    for module, source in sources.items():
        higher = {room for room, height in ROOMS.items() if height > ROOMS[module.split(".")[1]]}
        if not higher & set(re.findall(r"\bmlfin\.(\w+)", source)):
            continue  # nothing to look for in what it says
        constants = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
        texts = [value for value in constants if isinstance(value, str)]
        named = {name for text in texts for name in re.findall(r"\bmlfin\.\w+\.\w+", text)} & sources.keys()
        named |= {name for name, _ in imports(source) if re.match(r"mlfin\.\w", name)}
        found |= {(module, name) for name in named if name.split(".")[1] in higher}
    return found


def several_homes(sources: dict[str, str]) -> dict[str, list[str]]:
    """Public names (`__all__`) that several modules define, and last parts of their names that they share."""
    homes = {}
    for module, source in sources.items():
        homes.setdefault(f"module {module.rsplit('.', 1)[-1]}", []).append(module)
        if public := re.search(r"^__all__ = (\[[^]]*\])", source, re.M):
            for name in ast.literal_eval(public[1]):
                homes.setdefault(name, []).append(module)
    return {name: found for name, found in sorted(homes.items()) if len(found) > 1}


def too_large(sources: dict[str, str]) -> list[str]:
    """Rooms with more lines or modules than a reader can keep in mind."""
    lines, modules = Counter(), Counter()
    for module, source in sources.items():
        room = module.split(".")[1]
        lines[room] += source.count("\n")
        modules[room] += 1
    return [f"mlfin.{room}: {lines[room]:,} lines in {modules[room]} modules, at most {LINES:,} and {MODULES}"
            for room in sorted(lines) if lines[room] > LINES or modules[room] > MODULES]


def knows_ploomber(sources: dict[str, list[str]]) -> list[str]:
    """Files, other than those of runs and tests, that import Ploomber."""
    allowed = re.compile(r"(nbs/runs|mlfin/runs|tests)/")
    return [f"{path}: imports {module}" for path, texts in sources.items() if not allowed.match(path)
            for text in texts for module, _ in imports(text) if re.match(r"ploomber\b|ploomber_", module)]


@pytest.fixture(scope="session")
def modules(root, tree) -> dict[str, str]:
    """Source of each module that a notebook exports, by its dotted name."""
    found = [path for path in tree if re.fullmatch(r"mlfin/\w+/\w+\.py", path) and not path.endswith("__.py")]
    return {path.removesuffix(".py").replace("/", "."): (root / path).read_text() for path in found}


def exactly(found, allowed: set, name: str) -> None:
    """What is found is what a list allows: nothing new, and nothing that is no longer so."""
    new, gone = sorted(found - allowed), sorted(allowed - found)
    assert not new, "against the order of the rooms:\n" + "\n".join(map(str, new))
    assert not gone, f"no longer so, take it out of {name}:\n" + "\n".join(map(str, gone))


def test_every_room_imports_from_below(root):
    done = lint_imports(root)
    assert done.returncode == 0 and "1 kept, 0 broken" in done.stdout, done.stdout + done.stderr


def test_folder_number_and_module_belong_together(notebooks):
    assert not (bad := misplaced(notebooks)), "\n".join(bad)


def test_a_notebook_imports_only_from_what_comes_before_it(notebooks):
    exactly(ahead(notebooks), LESSONS_AHEAD, "LESSONS_AHEAD")
    assert not (bad := misnamed(notebooks)), "\n".join(bad)


def test_texts_name_no_higher_room(modules):
    exactly(named_higher(modules), HIGHER_TEXTS, "HIGHER_TEXTS")


def test_a_name_has_one_home(modules):
    found = several_homes(modules)
    new = [f"{name}: {', '.join(homes)}" for name, homes in found.items() if name not in SEVERAL_HOMES]
    assert not new, "more than one home:\n" + "\n".join(new)
    exactly(found.keys(), SEVERAL_HOMES, "SEVERAL_HOMES")


def test_no_room_is_too_large(modules):
    assert not (bad := too_large(modules)), "\n".join(bad)


def test_only_runs_and_tests_import_ploomber(root, tree, notebooks, dashboards):
    sources = {nb.path: [cell.body for cell in nb.code] for nb in notebooks + dashboards}
    sources |= {path: [(root / path).read_text()] for path in tree if path.endswith(".py")}
    assert not (bad := knows_ploomber(sources)), "\n".join(bad)


def test_exported_cells_import_no_stars(notebooks):
    assert [f"{nb.path}: {module}" for nb in notebooks for cell in nb.exported
            for module, name in imports(cell.body) if name == "*"] == []


@pytest.fixture
def package(root, tmp_path):
    """A copy of the package and of the contract, which a test may break."""
    ignored = shutil.ignore_patterns("__pycache__", "builtin")
    shutil.copytree(root / "mlfin", tmp_path / "mlfin", ignore=ignored)
    shutil.copy(root / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", [
    "from mlfin.cli.app import main", "def f():\n    from ..cli.app import main"])
def test_a_planted_import_of_a_higher_room_is_seen(package, line):
    with open(package / "mlfin/core/errors.py", "a") as file: file.write(f"\n{line}\n")
    done = lint_imports(package)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "mlfin.core is not allowed to import mlfin.cli" in said, said


def test_a_planted_room_without_a_place_is_seen(package):
    (package / "mlfin/attic").mkdir()
    (package / "mlfin/attic/__init__.py").write_text("")
    done = lint_imports(package)
    assert done.returncode == 1 and "attic" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("line", [
    "from mlfin.market.bars import x", "import mlfin.market.bars", "import mlfin.market",
    "from mlfin.market import bars", "from mlfin.market import x", "from mlfin.core.errors import x",
    "from mlfin.core.paths import x", "from .errors import x",
    "def f():\n    from mlfin.market.bars import x",
    "import importlib; importlib.import_module('mlfin.market.bars')"])
def test_a_planted_upward_import_is_seen(plant, line):
    planted = f"#| export\n{line}"
    house = [plant("nbs/core/01_errors.ipynb", "# errors", "#| default_exp core.errors", planted),
             plant("nbs/core/02_paths.ipynb", "# paths", "#| default_exp core.paths"),
             plant("nbs/market/01_bars.ipynb", "# bars", "#| default_exp market.bars")]
    assert len(ahead(house)) + len(misnamed(house)) == 1


def test_lessons_are_held_to_the_order_and_may_import_their_own_module(plant):
    def house(line):
        return [plant("nbs/store/01_store.ipynb", "# store", "#| default_exp store.store"),
                plant("nbs/store/02_journal.ipynb", "# journal", "#| default_exp store.journal", line),
                plant("nbs/store/03_lake.ipynb", "# lake", "#| default_exp store.lake"),
                plant("nbs/quality/01_seams.ipynb", "# seams", "#| default_exp quality.seams")]
    for fine in ("from mlfin.store.store import x", "from mlfin.store.journal import x"):
        assert misplaced(house(fine)) == misnamed(house(fine)) == [] and not ahead(house(fine))
    for wrong in ("from mlfin.store.lake import x", "from mlfin.quality.seams import x"):
        assert len(ahead(house(wrong))) == 1


@pytest.mark.parametrize("path", [
    "nbs/core/02_errors.ipynb", "nbs/core/errors.ipynb", "nbs/core/01a_errors.ipynb",
    "nbs/core/1_errors.ipynb", "nbs/core/01_other.ipynb", "nbs/attic/01_errors.ipynb"])
def test_a_planted_misplaced_notebook_is_seen(plant, path):
    assert misplaced([plant("nbs/core/01_errors.ipynb", "# errors", "#| default_exp core.errors")]) == []
    assert len(misplaced([plant(path, "# errors", "#| default_exp core.errors")])) == 1


@pytest.mark.parametrize("numbers", [("01", "01"), ("01", "03"), ("00", "01"), ("02", "03")])
@pytest.mark.parametrize("room", ["core", "pipeline"])
def test_a_planted_hole_or_double_is_seen(plant, room, numbers):
    house = [plant(f"nbs/{room}/{number}_m{n}.ipynb", "# m", f"#| default_exp {room}.m{n}")
             for n, number in enumerate(numbers)]
    assert len(misplaced(house)) == 1


def test_a_planted_text_of_a_higher_room_is_seen():
    house = {"mlfin.core.errors": "", "mlfin.market.bars": ""}
    lines = ("x = 'see mlfin.market.bars.as_bars'", "x = f'python -c \"import mlfin.market.bars\" {1}'",
             "'mlfin.market.bars'", "import_module('mlfin.market.bars')",
             "def f():\n    'As `mlfin.market.bars`.'")
    for line in lines:
        found = named_higher(house | {"mlfin.core.errors": line})
        assert found == {("mlfin.core.errors", "mlfin.market.bars")}
    room = named_higher(house | {"mlfin.core.errors": "import_module('mlfin.market')"})
    assert room == {("mlfin.core.errors", "mlfin.market")}
    innocent = {"mlfin.market.bars": "x = 'mlfin.core.errors'", "mlfin.core.errors": "x = 'mlfin.data.bars'"}
    assert named_higher(house | innocent) == set()


def test_a_planted_second_home_is_seen():
    house = {"mlfin.core.errors": "__all__ = ['a',\n 'b']", "mlfin.market.bars": "__all__ = ['b']",
             "mlfin.files.bars": "__all__ = []"}
    assert several_homes(house) == {"b": ["mlfin.core.errors", "mlfin.market.bars"],
                                    "module bars": ["mlfin.market.bars", "mlfin.files.bars"]}


def test_a_planted_room_that_is_too_large_is_seen():
    assert len(too_large({"mlfin.core.errors": "x\n" * (LINES + 1)})) == 1
    assert len(too_large({f"mlfin.core.m{n}": "x\n" for n in range(MODULES + 1)})) == 1
    most = {f"mlfin.core.m{n}": "x\n" for n in range(MODULES)}
    assert too_large(most | {"mlfin.market.bars": "x\n" * LINES}) == []


def test_a_planted_ploomber_is_seen():
    assert len(knows_ploomber({"mlfin/core/a.py": ["def f():\n    from ploomber.spec import DAGSpec"],
                               "mlfin/runs/b.py": ["import ploomber"]})) == 1
