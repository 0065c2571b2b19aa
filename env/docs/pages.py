"""Executed notebooks as pages, and the index pages that lead to them."""
import ast
import base64
import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import tomllib
from mlfin.charts.report import scrub

READERS = ("guides", "examples")  # folders that are no rooms
PLOTLY = "application/vnd.plotly.v1+json"
FIGURE = """<div class="mlfin-figure" id="{name}" style="height:{height}px"></div>
<script>window.addEventListener("load",function(){{var f={spec};f.layout.autosize=true;delete f.layout.width;
Plotly.newPlot("{name}",f.data,f.layout,{{responsive:true,displaylogo:false}});}});</script>"""
WHOLE_PAGE = '<iframe class="mlfin-page" sandbox loading="lazy" srcdoc="{}"></iframe>'


def rooms(root: Path) -> list[str]:
    """Rooms from the ground up: the layers of the contract in pyproject.toml, turned round."""
    layers = next(
        c["layers"] for c in project(root)["tool"]["importlinter"]["contracts"] if c["type"] == "layers"
    )
    return [layer.split(".")[-1] for layer in reversed(layers)]


def project(root: Path) -> dict:
    """pyproject.toml, read."""
    return tomllib.loads((root / "pyproject.toml").read_text())


def about(root: Path, room: str) -> str:
    """What a room holds, in its own words."""
    return ast.get_docstring(ast.parse((root / f"mlfin/{room}/__init__.py").read_text())) or ""


def name_of(path: Path) -> str:
    """A page's name: that of its notebook without the number, as `_modidx.py` has it."""
    return re.sub(r"^\d\d_", "", path.stem)


def title_of(path: Path) -> tuple[str, str]:
    """A notebook's title, and the line beneath it that says what a reader gets."""
    first = "".join(json.loads(path.read_text())["cells"][0]["source"])
    title, line = re.search(r"^# (.+)$", first, re.M), re.search(r"^> (.+)$", first, re.M)
    return (title[1] if title else path.stem), (line[1] if line else "")


def defined(source: str) -> list[str]:
    """What a cell defines, methods as `Class.method`, in the order of the text."""
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.append(node.name)
        if isinstance(node, ast.ClassDef):
            inside = (n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
            found += [f"{node.name}.{n.name}" for n in inside]
    return found


def figure(spec: dict, name: str) -> str:
    """A Plotly figure as HTML that the page's own plotly.min.js draws."""
    height = spec.get("layout", {}).get("height") or 420
    text = json.dumps({"data": spec["data"], "layout": spec.get("layout", {})}).replace("</", "<\\/")
    return FIGURE.format(name=name, height=height, spec=text)


def _output(out: dict, name: str) -> dict | None:
    """An output as the page takes it; None where a page cannot show it."""
    data = out.get("data", {})
    if PLOTLY in data:
        return {
            "output_type": "display_data",
            "metadata": {},
            "data": {"text/html": figure(data[PLOTLY], name)},
        }
    if "application/vnd.jupyter.widget-view+json" in data:
        return None
    shown = "".join(data.get("text/html", ""))
    # with styles of its own, which must not become this page's
    if shown.lstrip().lower().startswith("<!doctype"):
        shown = WHOLE_PAGE.format(html.escape(shown))
    elif "glossary.html#" in shown:  # a report's glossary lies beside it, the site's at the top
        shown = re.sub(r"""(href=["'])glossary\.html#""", r"\1../glossary.html#", shown)
    return {**out, "data": {**data, "text/html": shown}} if shown else out


def _definition(cell: dict, source: str, anchored: set[str]) -> list[dict]:
    """An exported cell: anchors of what it defines, then its text; imports alone are folded."""
    body = "\n".join(line for line in source.splitlines() if not line.startswith("#|")).strip("\n")
    tree = ast.parse(body)
    tags = ["hide-input"] if all(isinstance(n, ast.Import | ast.ImportFrom) for n in tree.body) else []
    names = [n for n in defined(body) if n.lower() not in anchored]
    anchored.update(n.lower() for n in names)
    marks = "".join(f'<span class="mlfin-anchor" id="{n.lower()}"></span>' for n in names)
    shown = {**cell, "source": body, "outputs": [], "metadata": {"tags": tags}}
    return ([{"cell_type": "markdown", "metadata": {}, "source": marks}] if marks else []) + [shown]


def page(notebook: dict, name: str) -> dict:
    """A notebook as a page: no directives, no hidden cells, an anchor for each symbol, figures as HTML."""
    cells, anchored = [], set()
    for number, cell in enumerate(notebook["cells"]):
        source = "".join(cell["source"])
        directives = re.findall(r"^#\|\s*(\w+)", source, re.M)
        if cell["cell_type"] == "markdown":
            cells.append({"cell_type": "markdown", "metadata": {}, "source": links(source)})
        elif "default_exp" in directives or "hide" in directives or not source.strip():
            continue
        elif {"export", "exporti"} & set(directives):
            cells += _definition(cell, source, anchored)
        else:
            outs = (_output(o, f"{name}-{number}-{k}") for k, o in enumerate(cell.get("outputs", [])))
            cells.append({**cell, "metadata": {}, "source": source, "outputs": [o for o in outs if o]})
    for cell in cells:
        cell.pop("id", None)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 4}


def links(text: str) -> str:
    """Links between notebooks as links between pages; revisions of tables have no page, and stay text."""
    text = re.sub(r"\[([^\]]*)\]\([^()]*revisions/[^()]*\.ipynb\)", r"\1", text)

    def page_of(match):
        folder, _, file = match[1].rpartition("/")
        return f"]({folder + '/' if folder else ''}{re.sub(r'^[0-9][0-9]_', '', file)}.ipynb"
    return re.sub(r"\]\(([\w./-]+)\.ipynb", page_of, text)


def _notebook(path: Path, target: Path, name: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(page(scrub(json.loads(path.read_text())), name), ensure_ascii=False))


def index(title: str, text: str, entries: list[str], depth: int = 1) -> str:
    tree = "\n".join(entries)
    return f"# {title}\n\n{text}\n\n```{{toctree}}\n:maxdepth: {depth}\n:hidden:\n\n{tree}\n```\n"


def table(rows: list[tuple[str, ...]], head: tuple[str, ...]) -> str:
    """A Markdown table; a `|` within a cell, in code too, does not end the cell."""
    lines = [[re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *lines])


def room(root: Path, executed: Path, out: Path, name: str) -> int:
    """The pages of a room: its modules in reading order, and an index that says what each is."""
    found = [p for p in sorted((executed / name).glob("*.ipynb")) if re.match(r"\d\d_", p.stem)]
    rows = []
    for path in found:
        _notebook(path, out / name / f"{name_of(path)}.ipynb", f"{name}-{name_of(path)}")
        rows.append((f"[{name_of(path)}]({name_of(path)}.ipynb)", title_of(path)[1]))
    text = f"{about(root, name)}\n\n{table(rows, ('module', 'what it is'))}"
    (out / name / "index.md").write_text(index(name, text, [name_of(p) for p in found]))
    return len(found) + 1


def numbers(values) -> list:
    """A trace's values: a list as it is, Plotly's packed numbers unpacked; empty for anything else."""
    if isinstance(values, dict) and {"bdata", "dtype"} <= set(values) and "shape" not in values:
        return np.frombuffer(base64.b64decode(values["bdata"]), np.dtype(values["dtype"])).tolist()
    return values if isinstance(values, list) else []


def thumbnail(notebook: dict) -> str:
    """The first figure's lines as a small picture; empty where there is no figure."""
    specs = (
        o["data"][PLOTLY]
        for c in notebook["cells"]
        for o in c.get("outputs", [])
        if PLOTLY in o.get("data", {})
    )
    spec = next(specs, None)
    lines = [line for t in spec["data"] if len(line := numbers(t.get("y"))) > 2] if spec else []
    values = [[v for v in line if isinstance(v, int | float) and v == v] for line in lines[:3]]
    values = [line[:: max(1, len(line) // 200)] for line in values if len(line) > 2]
    if not values:
        return ""
    low, high = min(map(min, values)), max(map(max, values))
    colours, marks = ("#1f6feb", "#d97706", "#6b7280"), []
    for colour, line in zip(colours, values, strict=False):
        at = (
            f"{100 * i / (len(line) - 1):.1f},{38 - 36 * (v - low) / ((high - low) or 1):.1f}"
            for i, v in enumerate(line)
        )
        marks.append(f'<polyline stroke="{colour}" points="{" ".join(at)}"/>')
    return (f'<div class="mlfin-thumb"><svg viewBox="0 0 100 40" '
            f'preserveAspectRatio="none">{"".join(marks)}</svg></div>')


def gallery(executed: Path, out: Path, folder: str, title: str, text: str) -> int:
    """Pages of guides or examples, and an index of cards, those with a figure with a thumbnail."""
    found = sorted((executed / folder).glob("*.ipynb"))
    cards = []
    for path in found:
        _notebook(path, out / folder / f"{name_of(path)}.ipynb", f"{folder}-{name_of(path)}")
        head, line = title_of(path)
        picture = thumbnail(json.loads(path.read_text())) if folder == "examples" else ""
        cards.append(f":::{{grid-item-card}} {head}\n:link: {name_of(path)}\n:link-type: doc\n\n{picture}\n\n"
                     f"{html.escape(line)}\n:::")
    grid = "::::{grid} 1 2 2 3\n:gutter: 3\n\n" + "\n".join(cards) + "\n::::"
    (out / folder).mkdir(parents=True, exist_ok=True)
    (out / folder / "index.md").write_text(index(title, f"{text}\n\n{grid}", [name_of(p) for p in found]))
    return len(found) + 1


def write(root: Path, executed: Path, out: Path) -> int:
    """All pages but the references; how many."""
    import plotly

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    shutil.copy(script, root / "env/docs/static" / script.name)
    names = rooms(root)
    count = sum(room(root, executed, out, name) for name in names)
    count += gallery(executed, out, "guides", "Guides", "How to do things, by what you want to do.")
    if (executed / "examples").is_dir():
        count += gallery(executed, out, "examples", "Examples", "One question each, answered by a run.")
    rows = [(f"[{n}]({n}/index.md)", about(root, n)) for n in names]
    text = (
        "The package is written as lessons: each notebook says why, defines, and shows. Rooms stand from the "
        "ground up; "
        "each imports only from those above it in this table.\n\n" + table(rows, ("room", "what it holds")))
    (out / "lessons.md").write_text(index("Lessons", text, [f"{n}/index" for n in names]))
    return count + 1
