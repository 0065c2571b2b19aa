"""What can be counted of how the notebooks and the package read, a room at a time: `python
tests/repo/reading.py ROOM -v`."""
import ast
import json
import re
import sys
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 110   # columns of a line of code
MEDIAN = 15   # lines of the exported cell in the middle
# of the cells that define something, those followed at once by a cell that calls it and shows what comes
SHOWN = 0.5
IN_A_ROW = 2  # cells that define something, one after the other
DESCRIBED = 0.95  # of the parameters of public functions
SHOWS = {
    "print",
    "display",
    "show",
    "test_eq",
    "test_close",
    "test_fail",
    "expect_fail",
    "test_ne",
    "test_is",
    "run_command",
    "test",
}


def notebooks(room: str) -> list[Path]:
    return sorted((ROOT / "nbs" / room).rglob("*.ipynb"))


def modules(room: str) -> list[Path]:
    return [path for path in sorted((ROOT / "mlfin" / room).rglob("*.py")) if path.name != "__init__.py"]


@cache
def code_cells(path: Path) -> list[tuple[bool, str]]:
    """(whether it is exported, code without directives, magics and shell lines) of each code cell that says
    something."""
    found = []
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        body = "\n".join(line for line in source.splitlines() if not re.match(r"#\||\s*[%!]", line)).strip()
        if cell["cell_type"] == "code" and body:
            found.append((bool(re.search(r"^#\|\s*(export|exporti|exports)\b", source, re.M)), body))
    return found


def defined(body: str) -> set[str]:
    """The functions and classes that a cell defines; `@patch` methods by their own name."""
    return {
        node.name
        for node in ast.parse(body).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }


def exported_lengths(room: str) -> list[int]:
    """Lines of each exported cell, but for those that only import."""
    return [
        len(body.splitlines())
        for path in notebooks(room)
        for exported, body in code_cells(path)
        if exported
        and not all(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(body).body)
    ]


def in_a_row(room: str) -> list[str]:
    """Places where more than two cells that define something follow each other with no other code between."""
    found = []
    for path in notebooks(room):
        run = []
        for exported, body in [*code_cells(path), (False, "")]:
            names = defined(body) if exported else set()
            if names:
                run.append(sorted(names)[0])
            elif not exported:
                if len(run) > IN_A_ROW:
                    found.append(f"{path.relative_to(ROOT)}: {len(run)} in a row from {run[0]}")
                run = []
    return found


def calls_and_shows(body: str, names: set[str]) -> bool:
    """Whether a cell uses one of the names and asserts, prints or ends in a value."""
    tree = ast.parse(body)
    used = {getattr(node, "id", None) or getattr(node, "attr", None) for node in ast.walk(tree)}
    if not names & used:
        return False
    last = tree.body[-1]
    shown = isinstance(last, ast.Expr) and not (
        isinstance(last.value, ast.Call) and body.rstrip().endswith(";")
    )
    return shown or any(isinstance(node, ast.Assert) for node in ast.walk(tree)) or bool(SHOWS & used)


def shown(room: str) -> dict[str, bool]:
    """For each cell that defines something, whether the next code cell calls it and shows what comes."""
    found = {}
    for path in notebooks(room):
        cells = code_cells(path)
        for (exported, body), (next_exported, following) in zip(cells, [*cells[1:], (True, "")], strict=True):
            if exported and (names := defined(body)):
                public = {
                    inner.name
                    for node in ast.parse(body).body
                    if isinstance(node, ast.ClassDef)
                    for inner in node.body
                    if isinstance(inner, ast.FunctionDef)
                }
                found[f"{path.relative_to(ROOT)}: {sorted(names)[0]}"] = (
                    not next_exported and calls_and_shows(following, names | public)
                )
    return found


def wide(room: str) -> list[str]:
    """Lines of code that are too long, of the notebooks' every code cell."""
    return [f"{path.relative_to(ROOT)}: {len(line)}: {line.strip()[:60]}" for path in notebooks(room)
            for _, body in code_cells(path) for line in body.splitlines() if len(line) > WIDTH]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def two_conditions(room: str) -> list[str]:
    """Lines with more than one conditional expression."""
    return [
        f"{path.relative_to(ROOT)}:{line}"
        for path in modules(room)
        for line, count in Counter(
            node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.IfExp)
        ).items()
        if count > 1
    ]


def private_imports(room: str) -> list[str]:
    """Private names that a module takes from another."""
    return [
        f"{path.relative_to(ROOT)}:{node.lineno}: {alias.name}"
        for path in modules(room)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("mlfin"))
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]


def reaches(room: str) -> list[str]:
    """Private attributes that a function takes from a parameter other than its own object."""
    found = []
    for path in modules(room):
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            given = {a.arg for a in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]} - {
                "self",
                "cls",
            }
            patched = any("patch" in ast.unparse(d) for d in node.decorator_list)
            own = {node.args.args[0].arg} if patched and node.args.args else set()
            found += [
                f"{path.relative_to(ROOT)}:{at.lineno}: {at.value.id}.{at.attr}"
                for at in ast.walk(node)
                if isinstance(at, ast.Attribute)
                and isinstance(at.value, ast.Name)
                and at.value.id in given - own
                and at.attr.startswith("_")
                and not at.attr.startswith("__")
                and at.attr not in ("_replace", "_asdict", "_fields", "_make")
            ]  # public, of a named tuple
    return sorted(set(found))


EXTENSION_POINTS = {
    "RecordStore",
    "AwayError",
    "PipelineError",
}  # documented to be inherited from; an error that callers catch as a kind


def one_child(room: str) -> list[str]:
    """Classes of a room from which exactly one class of the package inherits."""
    children, homes = defaultdict(set), {}
    for path in sorted((ROOT / "mlfin").rglob("*.py")):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                homes[node.name] = path
                for base in node.bases:
                    name = getattr(base, "id", getattr(base, "attr", None))
                    children[name].add((node.name, path))
    return [
        f"{homes[name].relative_to(ROOT)}: {name} <- {next(iter(own))[0]}"
        for name, own in sorted(children.items(), key=str)
        if len(own) == 1
        and name in homes
        and homes[name].parent.name == room
        and name not in EXTENSION_POINTS
        and next(iter(own))[0] != name
    ]


def says_see(room: str) -> list[str]:
    """Docstrings that only point elsewhere, and functions that take an object of a class of their module as
    `own`."""
    found = []
    for path in modules(room):
        classes = {node.name for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)}
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                if re.match(r"See `", ast.get_docstring(node) or ""):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} says See")
                if not isinstance(node, ast.ClassDef) and any(
                    a.arg == "own"
                    and a.annotation is not None
                    and ast.unparse(a.annotation).strip("'\"") in classes
                    for a in node.args.args
                ):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}(own)")
    return found


def public_functions(room: str):
    """(path, name, node) of public functions, and public methods of public classes."""
    for path in modules(room):
        for node in tree(path).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
                yield path, node.name, node
            elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                for method in node.body:
                    if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and (
                            not method.name.startswith("_") or method.name == "__init__"):
                        yield path, f"{node.name}.{method.name}", method


@cache
def text_lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def parameters(room: str) -> dict[str, bool]:
    """For each parameter of a public function, whether a comment on its line, or the docstring, describes
    it."""
    found = {}
    for path, name, node in public_functions(room):
        said = ast.get_docstring(node) or ""
        for a in [
            *node.args.posonlyargs,
            *node.args.args,
            *node.args.kwonlyargs,
            node.args.vararg,
            node.args.kwarg,
        ]:
            if a is None or a.arg in ("self", "cls"):
                continue
            # a comment belongs to the last parameter of its line, so that each needs a line of its own
            line = text_lines(path)[a.end_lineno - 1]
            alone = (
                sum(
                    1
                    for b in node.args.args + node.args.kwonlyargs
                    if b.lineno == a.lineno and b.arg not in ("self", "cls")
                )
                == 1
            )
            found[f"{path.relative_to(ROOT)}:{a.lineno}: {name}({a.arg})"] = (
                ("#" in line and alone) or f"`{a.arg}`" in said)
    return found


def raisers(room: str) -> dict[str, bool]:
    """For each public function with a `raise` of its own, whether its docstring names every error it
    raises."""
    found = {}
    for path, name, node in public_functions(room):
        errors = set()
        for inner in ast.walk(node):
            if isinstance(inner, ast.Raise) and inner.exc is not None:
                called = inner.exc.func if isinstance(inner.exc, ast.Call) else inner.exc
                label = getattr(called, "id", getattr(called, "attr", ""))
                if label[:1].isupper():
                    errors.add(label)
        signature = "\n".join(text_lines(path)[node.lineno - 1:node.body[0].end_lineno])
        if errors:
            found[f"{path.relative_to(ROOT)}:{node.lineno}: {name} raises {', '.join(sorted(errors))}"] = all(
                e in signature for e in errors
            )
    return found


def share(found: dict[str, bool]) -> float:
    return sum(found.values()) / len(found) if found else 1.0


LISTS = {
    "in a row": in_a_row,
    "wide": wide,
    "two ifs": two_conditions,
    "private": private_imports,
    "reaches": reaches,
    "one child": one_child,
    "see/own": says_see,
}


def main(arguments: list[str]) -> None:
    rooms = [a for a in arguments if not a.startswith("-")] or sorted(
        p.name for p in (ROOT / "mlfin").iterdir() if p.is_dir() and p.name[0] != "_"
    )
    print(
        f"{'room':14}{'median':>7}{'shown':>7}"
        + "".join(f"{name:>10}" for name in LISTS)
        + f"{'params':>8}{'raisers':>9}"
    )
    for room in rooms:
        lengths, told, raising = exported_lengths(room), parameters(room), raisers(room)
        print(
            f"{room:14}{median(lengths or [0]):>7}{share(shown(room)):>7.0%}"
            + "".join(f"{len(look(room)):>10}" for look in LISTS.values())
            + f"{share(told):>8.0%}{sum(raising.values()):>5}/{len(raising)}"
        )
        if "-v" in arguments:
            for name, look in LISTS.items():
                print(*(f"  {name}: {line}" for line in look(room)), sep="\n")
            for name, found in (
                ("not shown", shown(room)),
                ("not described", told),
                ("error not named", raising),
            ):
                print(*(f"  {name}: {line}" for line, good in found.items() if not good), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
