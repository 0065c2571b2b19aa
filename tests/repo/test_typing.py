"""What type checkers tell users: programs of tests/fixtures/typing, checked against the installed package."""

import ast
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

# public functions and methods with a parameter or a result without annotation; may only become fewer
UNTYPED = 278


def programs(root: Path) -> list[Path]:
    return sorted((root / "tests/fixtures/typing").glob("*.py"))


def installed(root: Path, folder: Path) -> Path:
    """The interpreter of a new environment with the package installed; what it needs comes from ours."""
    venv.create(folder, symlinks=True)
    place = next(folder.glob("lib/python3.*/site-packages"))
    shutil.copytree(root / "mlfin", place / "mlfin", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "ours.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin/python"


@pytest.fixture(scope="module")
def reported(root, tmp_path_factory) -> dict[str, list[tuple[int, str, str]]]:
    """Of each program, (line, code, text) of what mypy reports."""
    folder = tmp_path_factory.mktemp("typing")
    copies = [
        shutil.copy(path, folder) for path in programs(root)
    ]  # beside the tree, mypy would find the package there
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--cache-dir",
        str(folder / "cache"),
        "--no-error-summary",
        "--hide-error-context",
        "--python-executable",
        str(installed(root, folder / "environment")),
        *map(str, copies),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = {path.name: [] for path in programs(root)}
    for line in done.stdout.splitlines():
        if match := re.match(r"(.+\.py):(\d+): error: (.*?)\s+\[([\w-]+)\]$", line):
            found.setdefault(Path(match[1]).name, []).append((int(match[2]), match[4], match[3]))
    return found


def test_right_programs_have_the_types_that_they_expect(reported):
    wrong = [
        f"{name}:{line}: {text} [{code}]"
        for name, found in reported.items()
        if not name.startswith("wrong_")
        for line, code, text in found
    ]
    assert not wrong, "\n".join(wrong)


def test_every_mistake_is_reported(reported, root):
    missed = []
    for path in programs(root):
        marked = {
            (n, m[1])
            for n, line in enumerate(path.read_text().splitlines(), 1)
            if (m := re.search(r"# must: ([\w-]+)$", line))
        }
        found = {(line, code) for line, code, _ in reported[path.name]}
        missed += [f"{path.name}:{line}: nothing says {code}" for line, code in sorted(marked - found)]
        assert marked or not path.name.startswith("wrong_"), f"{path.name} has no mistake"
    assert not missed, "\n".join(missed)


def test_stubs_say_what_the_packages_hold(root):
    stale = runpy.run_path(str(root / "env/stubs"))["stale"](root)
    assert not stale, (
        f"not in step: {', '.join(p.relative_to(root).as_posix() for p in stale)}. Hint: run env/stubs"
    )


def without_annotation(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Parameters without annotation, and `return`."""
    given = node.args
    named = [
        a.arg
        for a in [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        if a and a.annotation is None
    ]
    result = ["return"] if node.returns is None and node.name != "__init__" else []
    return [name for name in named if name not in ("self", "cls")] + result


def untyped(source: str) -> list[str]:
    """Public functions, and methods of public classes, that are not wholly annotated."""
    tree = ast.parse(source)
    public = {
        c.value
        for n in tree.body
        if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "__all__"
        for c in ast.walk(n.value)
        if isinstance(c, ast.Constant)
    }
    found = []
    for node in tree.body:
        if getattr(node, "name", None) in public:
            parts = node.body if isinstance(node, ast.ClassDef) else [node]
            found += [
                f"{node.name}.{p.name}" if p is not node else p.name
                for p in parts
                if isinstance(p, ast.FunctionDef | ast.AsyncFunctionDef)
                and (
                    not p.name.startswith("_")
                    or p.name in ("__init__", "__call__", "__enter__", "__iter__", "__getitem__")
                )
                and without_annotation(p)
            ]
    return found


def test_the_public_surface_is_annotated(root):
    found = [
        f"{path.relative_to(root)}: {name}"
        for path in sorted(root.glob("mlfin/*/*.py"))
        for name in untyped(path.read_text())
    ]
    assert len(found) <= UNTYPED, f"{len(found)} without a whole annotation, were {UNTYPED}:\n" + "\n".join(
        found
    )


def test_a_planted_function_without_annotation_is_seen():
    source = "__all__ = ['f', 'C', 'g']\ndef f(a): pass\ndef _h(a): pass\ndef g(a: int) -> int: return a\n"
    source += "class C:\n    def m(self): pass\n"
    assert untyped(source) == ["f", "C.m"]
