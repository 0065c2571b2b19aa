"""The tree as the checks see it: files that git knows or would add, and notebooks cut into cells."""
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Cell:
    kind: str
    source: str
    tags: tuple[str, ...] = ()

    @cached_property
    def directives(self) -> list[str]:
        """What stands behind `#|` on the lines before the code: ["export"], ["default_exp core.errors"]."""
        return re.findall(r"^#\|\s*(.+?)\s*$", self.source, re.M) if self.kind == "code" else []

    def has(self, *names: str) -> bool:
        return any(directive.split()[0].rstrip(":") in names for directive in self.directives)

    @cached_property
    def body(self) -> str:
        """The code without directives, magics and shell lines."""
        return "\n".join(line for line in self.source.splitlines() if not re.match(r"#\||\s*[%!]", line))


@dataclass(frozen=True)
class Notebook:
    path: str  # from the project's root, with slashes
    cells: tuple[Cell, ...]

    @cached_property
    def folder(self) -> str:
        return "/".join(self.path.split("/")[1:-1])

    @cached_property
    def number(self) -> int | None:
        """What orders the notebooks of a folder: 3 of store/03_journal."""
        match = re.match(r"(\d\d)_", self.path.rsplit("/", 1)[-1])
        return int(match[1]) if match else None

    @cached_property
    def module(self) -> str | None:
        """mlfin.core.errors, from `#| default_exp core.errors`."""
        for cell in self.cells:
            for directive in cell.directives:
                if directive.startswith("default_exp "):
                    return "mlfin." + directive.split()[1]
        return None

    @cached_property
    def code(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.kind == "code"]

    @cached_property
    def exported(self) -> list[Cell]:
        return [cell for cell in self.code if cell.has("export", "exports", "exporti")]

    @cached_property
    def hidden(self) -> list[Cell]:
        return [cell for cell in self.code if cell.has("hide")]

    @cached_property
    def lessons(self) -> list[Cell]:
        silent = ("export", "exports", "exporti", "hide", "default_exp")
        return [cell for cell in self.code if not cell.has(*silent)]


def read_notebook(root: Path, path: str) -> Notebook:
    cells = json.loads((root / path).read_text())["cells"]
    return Notebook(
        path,
        tuple(
            Cell(cell["cell_type"], "".join(cell["source"]), tuple(cell["metadata"].get("tags", ())))
            for cell in cells
        ),
    )


def plant_notebook(path: str, *sources: str, parameters: str | None = None) -> Notebook:
    """A notebook that exists only in a test; a source that starts with `# ` is markdown."""
    cells = [Cell("markdown" if source.startswith("# ") else "code", source) for source in sources]
    if parameters is not None:
        cells.insert(1, Cell("code", parameters, ("parameters",)))
    return Notebook(path, tuple(cells))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def tree() -> list[str]:
    """Every file that is in git, or would be after `git add .`."""
    listing = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, check=True,
                             capture_output=True, text=True).stdout
    return sorted({path for path in listing.split("\0") if path and (ROOT / path).is_file()})


@pytest.fixture(scope="session")
def notebooks(tree) -> list[Notebook]:
    return [read_notebook(ROOT, path) for path in tree if path.startswith("nbs/") and path.endswith(".ipynb")]


@pytest.fixture(scope="session")
def dashboards(tree) -> list[Notebook]:
    return [
        read_notebook(ROOT, path)
        for path in tree
        if path.startswith("dashboards/") and path.endswith(".ipynb")
    ]


@pytest.fixture
def plant():
    return plant_notebook


@pytest.fixture(scope="session")
def run_python():
    """Run python with these arguments and return its output; fail with all of it when it fails."""
    def run(*arguments: str, cwd: Path, **extra_environment: str) -> str:
        import os
        done = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True,
                              env={**os.environ, **extra_environment})
        assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout
    return run


@pytest.fixture(scope="session")
def copy_of_tree(tree, tmp_path_factory):
    """Copy the tree to a new folder, so that a check may change it."""
    import shutil

    def copy() -> Path:
        target = tmp_path_factory.mktemp("tree")
        for path in tree:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, target / path)
        return target
    return copy
