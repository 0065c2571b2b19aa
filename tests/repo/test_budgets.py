"""Sizes that keep a notebook readable, and a lesson for every public name."""
import ast
import re

LINES, CELLS, HIDDEN, TASK_CELLS = 40, 60, 0.15, 12
# a class stands whole: where it needs more than LINES, its methods are short
CLASS_LINES, METHOD_LINES = 120, 20


def too_big(notebooks) -> list[str]:
    bad = []
    for nb in notebooks:
        if len(nb.cells) > CELLS:
            bad.append(f"{nb.path}: {len(nb.cells)} cells, at most {CELLS}")
        if len(nb.hidden) > HIDDEN * len(nb.code):
            bad.append(
                f"{nb.path}: {len(nb.hidden)} of {len(nb.code)} code cells are hidden, at most {HIDDEN:.0%}")
        for cell in nb.exported:
            lines = cell.body.strip().splitlines()
            if len(lines) > LINES and not _whole_class(cell.body):
                bad.append(f"{nb.path}: exported cell {lines[0]!r} has {len(lines)} lines, at most {LINES} "
                           f"(one class: {CLASS_LINES}, methods {METHOD_LINES})")
    return bad


def _whole_class(body: str) -> bool:
    """Whether a cell is one class and nothing else, within the lines of a class, each of its methods within
    those of a method."""
    match ast.parse(body).body:
        case [ast.ClassDef() as found]:
            methods = [node for node in found.body
                       if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
            return (_length(found) <= CLASS_LINES
                    and all(_length(method) <= METHOD_LINES for method in methods))
    return False


def _length(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return node.end_lineno - min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) + 1


def public_names(notebook) -> list[str]:
    """What the exported cells define at their top, in order, but for names with an underscore in front."""
    names = []
    for cell in notebook.exported:
        if cell.has("exporti"):
            continue
        for node in ast.parse(cell.body).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.append(node.name)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names += [target.id for target in targets if isinstance(target, ast.Name)]
    return [name for name in names if not name.startswith("_")]


def without_lesson(notebooks) -> list[str]:
    bad = []
    for nb in notebooks:
        used = {word for cell in nb.lessons for node in ast.walk(ast.parse(cell.body))
                for word in _words(node)}
        bad += [f"{nb.path}: {name} is in no lesson" for name in public_names(nb) if name not in used]
    return bad


def _words(node: ast.AST) -> list[str]:
    """The names that a node uses; words of a text count, because a command is shown as one (`mlfin run`)."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.findall(r"\w+", node.value)
    return [word for word in (getattr(node, "id", None), getattr(node, "attr", None)) if word]


def never_tried(notebooks) -> list[str]:
    """`expect_fail` outside a `with`: it makes a context manager, calls nothing, and cannot fail."""
    bad = []
    for nb in notebooks:
        for cell in nb.code:
            tree = ast.parse(cell.body)
            inside = {id(item.context_expr) for node in ast.walk(tree)
                      if isinstance(node, ast.With | ast.AsyncWith) for item in node.items}
            bad += [f"{nb.path}: {ast.unparse(node)[:80]} is no `with`" for node in ast.walk(tree)
                    if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", ""))
                    == "expect_fail" and id(node) not in inside]
    return bad


def without_title(notebooks) -> list[str]:
    return [f"{nb.path}: the first cell must be `# title` and `> one line`" for nb in notebooks
            if not (nb.cells and nb.cells[0].kind == "markdown" and nb.cells[0].source.startswith("# ")
                    and "\n> " in nb.cells[0].source)]


def thick(tasks) -> list[str]:
    """Pipeline notebooks that do more than read, call, show and save."""
    bad = []
    for nb in tasks:
        if len(nb.cells) > TASK_CELLS:
            bad.append(f"{nb.path}: {len(nb.cells)} cells, at most {TASK_CELLS}")
        if nb.exported:
            bad.append(f"{nb.path}: exports")
        for cell in nb.code:
            for node in ast.walk(ast.parse(cell.body)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
                    bad.append(f"{nb.path}: defines {getattr(node, 'name', 'a lambda')}")
        parameters = [cell for cell in nb.code if "parameters" in cell.tags]
        if len(parameters) != 1:
            bad.append(f"{nb.path}: {len(parameters)} cells are tagged parameters, must be one")
        for cell in parameters:
            bad += [f"{nb.path}: parameter is not a literal: {ast.unparse(node)}"
                    for node in ast.parse(cell.body).body if not _is_literal(node)]
    return bad


def _is_literal(node: ast.stmt) -> bool:
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return False
    try:
        ast.literal_eval(node.value)
    except (ValueError, TypeError):
        return False
    return True


def test_notebooks_keep_their_budgets(notebooks):
    assert not (bad := too_big(notebooks)), "\n".join(bad)


def test_every_public_name_has_a_lesson(notebooks):
    assert not (bad := without_lesson(notebooks)), "\n".join(bad)


def test_what_is_expected_to_fail_is_tried(notebooks):
    assert not (bad := never_tried(notebooks)), "\n".join(bad)


def test_a_planted_refusal_that_is_never_tried_is_seen(plant):
    def violations(*cells):
        return never_tried([plant("nbs/core/00_a.ipynb", "# a", *cells)])
    assert violations("with expect_fail(contains='x'): f()") == []
    assert len(violations("expect_fail(lambda: f(), contains='x')")) == 1
    assert len(violations("with open('x') as file: expect_fail(f)")) == 1


def test_every_notebook_has_a_title_and_a_line(notebooks):
    assert not (bad := without_title(nb for nb in notebooks if nb.module)), "\n".join(bad)


def test_pipeline_notebooks_are_thin(notebooks):
    assert not (bad := thick(nb for nb in notebooks if nb.folder == "pipeline")), "\n".join(bad)


def test_planted_excesses_are_seen(plant):
    def violations(*cells):
        return too_big([plant("nbs/core/00_a.ipynb", "# a", "#| default_exp core.a", *cells)])
    assert violations("#| export\n" + "x = 1\n" * 40) == []
    assert len(violations("#| export\n" + "x = 1\n" * 41)) == 1
    short = "class C:\n" + "".join(f"    def m{n}(self):\n" + "        pass\n" * 18 for n in range(6))
    assert violations("#| export\n" + short) == []
    # not a class alone
    assert len(violations("#| export\n" + short + "\nx = 1")) == 1
    # a method too long
    assert len(violations("#| export\n" + short + "    def m(self):\n" + "        pass\n" * 20)) == 1
    # a class too long
    assert len(violations("#| export\n" + short + "    x = 1\n" * 7)) == 1
    assert violations(*["1"] * 58) == []
    assert len(violations(*["1"] * 59)) == 1
    assert violations(*["1"] * 5, "#| hide\n2") == []
    assert len(violations(*["1"] * 4, "#| hide\n2")) == 1


def test_a_planted_untaught_name_is_seen(plant):
    cells = ("#| export\ndef f(): pass\nclass C: pass\nLIMIT: int = 3\n_own = 1", "#| hide\nf()",
             "C(), LIMIT  # f")
    nb = plant("nbs/core/00_a.ipynb", "# a", "#| default_exp core.a", *cells)
    assert without_lesson([nb]) == ["nbs/core/00_a.ipynb: f is in no lesson"]


def test_a_planted_thick_task_is_seen(plant):
    def violations(*cells, parameters="upstream = None\nn: int = -1\nsymbols = ['A']"):
        return thick([plant("nbs/pipeline/01_a.ipynb", "# a", *cells, parameters=parameters)])
    assert violations("x = 1") == []
    assert len(violations("def f(): pass")) == 1
    assert len(violations("f = lambda: 1")) == 1
    assert len(violations("#| export\nx = 1")) == 1
    assert len(violations(*["1"] * 11)) == 1
    assert len(violations(parameters="n = int(3)")) == 1
    assert len(violations(parameters="import os")) == 1
    assert len(violations(parameters=None)) == 1
