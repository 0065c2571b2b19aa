"""A notebook imports only from smaller numbers, and only mlfin.ops and tests know Ploomber."""
import ast
import re
from functools import cache

import pytest

LAYERS = {"core": 0, "data": 1, "features": 2, "models": 3, "backtest": 4, "monitor": 5, "serve": 6, "ops": 7, "viz": 8,
          "pipeline": 9}


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
            if getattr(node.func, "attr", getattr(node.func, "id", None)) in ("import_module", "__import__", "require"):
                found.append((str(node.args[0].value), None))
    return found


def misplaced(notebooks) -> list[str]:
    """Notebooks whose folder, number and module do not belong together."""
    bad = []
    for nb in notebooks:
        name = nb.path.rsplit("/", 1)[-1].removesuffix(".ipynb")
        if nb.folder in LAYERS and nb.number is None:
            bad.append(f"{nb.path}: needs a number NN_ in front")
        elif nb.number is not None and LAYERS.get(nb.folder) != nb.number // 10:
            bad.append(f"{nb.path}: number {nb.number} does not belong to folder {nb.folder or 'nbs'}")
        elif nb.number is not None and nb.folder != "pipeline" and nb.module != (
                wanted := f"mlfin.{nb.folder}.{name.split('_', 1)[1]}"):
            bad.append(f"{nb.path}: must export {wanted}, exports {nb.module}")
    numbers = [nb.number for nb in notebooks if nb.number is not None]
    return bad + [f"number {n} is used twice" for n in sorted(set(numbers)) if numbers.count(n) > 1]


def upward(notebooks) -> list[str]:
    """Imports of mlfin that do not name a module of a smaller number (a lesson may import its own module)."""
    numbers = {nb.module: nb.number for nb in notebooks if nb.module}
    bad = []
    for nb in notebooks:
        if nb.number is None:
            continue  # index and guides show everything
        for cell in nb.code:
            for module, name in imports(cell.body):
                if module.startswith("."):
                    bad.append(f"{nb.path}: relative import {module}, write it absolute")
                if module.split(".")[0] != "mlfin":
                    continue
                target = f"{module}.{name}" if f"{module}.{name}" in numbers else module
                if target == nb.module and cell not in nb.exported:
                    continue
                if (module, name) == (f"mlfin.{nb.folder}", None):
                    continue  # the folder itself, to walk over the modules in it
                if target not in numbers:
                    if (target, name) != ("mlfin", "__version__"):
                        bad.append(f"{nb.path}: imports {name or 'all'} from {target}, name the module that defines it")
                elif numbers[target] >= nb.number:
                    bad.append(f"{nb.path}: imports {target}, which is number {numbers[target]:02}")
    return bad


def knows_ploomber(sources: dict[str, list[str]]) -> list[str]:
    """Files, other than those of ops and tests, that import Ploomber."""
    allowed = re.compile(r"(nbs/ops|mlfin/ops|tests)/")
    return [f"{path}: imports {module}" for path, texts in sources.items() if not allowed.match(path)
            for text in texts for module, _ in imports(text) if re.match(r"ploomber\b|ploomber_", module)]


def test_folder_number_and_module_belong_together(notebooks):
    assert not (bad := misplaced(notebooks)), "\n".join(bad)


def test_a_notebook_imports_only_from_smaller_numbers(notebooks):
    assert not (bad := upward(notebooks)), "\n".join(bad)


def test_only_ops_and_tests_import_ploomber(root, tree, notebooks, dashboards):
    sources = {nb.path: [cell.body for cell in nb.code] for nb in notebooks + dashboards}
    sources |= {path: [(root / path).read_text()] for path in tree if path.endswith(".py")}
    assert not (bad := knows_ploomber(sources)), "\n".join(bad)


def test_exported_cells_import_no_stars(notebooks):
    assert [f"{nb.path}: {module}" for nb in notebooks for cell in nb.exported
            for module, name in imports(cell.body) if name == "*"] == []


@pytest.mark.parametrize("line", [
    "from mlfin.data.bars import x", "import mlfin.data.bars", "import mlfin.data", "from mlfin.data import bars",
    "from mlfin.data import x", "from mlfin.core.errors import x", "from .errors import x",
    "import importlib; importlib.import_module('mlfin.data.bars')"])
def test_a_planted_upward_import_is_seen(plant, line):
    house = [plant("nbs/core/00_errors.ipynb", "# errors", "#| default_exp core.errors", f"#| export\n{line}"),
             plant("nbs/data/10_bars.ipynb", "# bars", "#| default_exp data.bars")]
    assert len(upward(house)) == 1


def test_a_letter_orders_after_its_number(plant):
    house = [plant("nbs/data/15_store.ipynb", "# store", "#| default_exp data.store"),
             plant("nbs/data/15a_journal.ipynb", "# journal", "#| default_exp data.journal",
                   "#| export\nfrom mlfin.data.store import x"),
             plant("nbs/data/16_lake.ipynb", "# lake", "#| default_exp data.lake",
                   "#| export\nfrom mlfin.data.journal import x")]
    assert misplaced(house) == upward(house) == []
    back = plant("nbs/data/15_store.ipynb", "# store", "#| default_exp data.store",
                 "#| export\nfrom mlfin.data.journal import x")
    assert len(upward([back, house[1]])) == 1


@pytest.mark.parametrize("path", ["nbs/core/10_errors.ipynb", "nbs/core/errors.ipynb", "nbs/core/00_other.ipynb"])
def test_a_planted_misplaced_notebook_is_seen(plant, path):
    assert len(misplaced([plant(path, "# errors", "#| default_exp core.errors")])) == 1


def test_a_planted_ploomber_is_seen():
    assert len(knows_ploomber({"mlfin/core/a.py": ["def f():\n    from ploomber.spec import DAGSpec"],
                               "mlfin/ops/b.py": ["import ploomber"]})) == 1
