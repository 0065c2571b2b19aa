"""References made from the code itself: public names, commands, glossary, start page and llms.txt."""
import ast
import inspect
import json
import re
import shutil
import textwrap
from importlib import import_module
from pathlib import Path

import catalogue
import pages


def _signature(source: str, node: ast.AST) -> str:
    """A definition's head as it stands in the text, with its comments."""
    lines = source.splitlines()[node.lineno - 1 : node.body[0].lineno - 1] or [
        source.splitlines()[node.lineno - 1]
    ]
    return textwrap.dedent("\n".join(lines)).rstrip()


def _entry(name: str, source: str, node: ast.AST, place: str, level: str) -> str:
    """One symbol: heading that leads to its lesson, head with docments, docstring."""
    room = place.rpartition("/")[0]
    about = re.sub(r"\]\((?=\d\d_\w+\.ipynb)", f"]({room}/", ast.get_docstring(node) or "")
    about = pages.links(about)  # a lesson beside this one
    head = f"{level} [{name}]({place}#{name.lower()})\n\n```python\n{_signature(source, node)}\n```"
    return f"{head}\n\n{about}\n"


def module(root: Path, path: Path, room: str) -> str:
    """The public names of a module."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    public = next((ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign)
                   and getattr(n.targets[0], "id", "") == "__all__"), [])
    entries, place = [], f"../{room}/{path.stem}.ipynb"
    for node in tree.body:
        if getattr(node, "name", None) not in public:
            continue
        entries.append(_entry(node.name, source, node, place, "###"))
        for inner in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and not inner.name.startswith("_"):
                entries.append(_entry(f"{node.name}.{inner.name}", source, inner, place, "####"))
    line = (ast.get_docstring(tree) or "").splitlines()
    return "\n".join([f"## mlfin.{room}.{path.stem}", "", line[0] if line else "", "", *entries])


def api(root: Path, out: Path) -> int:
    """A page a room with the heads and docstrings of its public names."""
    names = pages.rooms(root)
    (out / "reference").mkdir()
    for room in names:
        files = [p for p in sorted((root / f"mlfin/{room}").glob("*.py")) if not p.stem.startswith("_")]
        text = "\n".join(module(root, path, room) for path in files)
        (out / "reference" / f"{room}.md").write_text(f"# mlfin.{room}\n\n{text}")
    rows = [(f"[mlfin.{n}]({n}.md)", pages.about(root, n)) for n in names]
    text = "Every public name, with its parameters; a name leads to the lesson that defines and shows it.\n\n"
    (out / "reference/index.md").write_text(
        pages.index("API reference", text + pages.table(rows, ("package", "what it holds")), names)
    )
    return len(names) + 1


def _command(name: str, command, depth: int) -> list[str]:
    """A command's help as Markdown, and that of the commands beneath it."""
    import click

    context = click.Context(command, info_name=name)
    lines = ["#" * min(depth, 5) + f" {name}", "", inspect.cleandoc(command.help or ""), ""]
    lines += ["```text", command.get_usage(context), "```", ""]
    rows = []
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record and not getattr(parameter, "hidden", False):
            rows.append((f"`{record[0]}`", " ".join(record[1].split())))
    if rows:
        lines += [pages.table(rows, ("option", "meaning")), ""]
    for child in sorted(getattr(command, "commands", {})):
        if not command.commands[child].hidden:
            lines += _command(f"{name} {child}", command.commands[child], depth + 1)
    return lines


def cli(root: Path, out: Path) -> int:
    """The command `mlfin` and all beneath it, from the commands themselves."""
    import typer

    module_name, _, _ = pages.project(root)["project"]["scripts"]["mlfin"].partition(":")
    app = import_module(module_name).app
    (out / "cli.md").write_text(
        "\n".join(["# Command line", "", *_command("mlfin", typer.main.get_command(app), 2)])
    )
    return 1


def glossary(out: Path) -> int:
    """The terms that pages and reports use."""
    from mlfin.charts.glossary import GLOSSARY, TAUGHT_IN, term_anchor

    lines = ["# Glossary", "", "The field's words as mlfin uses them.", ""]
    for term in sorted(GLOSSARY, key=str.lower):
        lines += [
            f'<span class="mlfin-anchor" id="{term_anchor(term)}"></span>',
            "",
            f"**{term}**",
            f": {GLOSSARY[term]} {pages.links(f'See [{TAUGHT_IN[term]}]({TAUGHT_IN[term]}.ipynb).')}",
            "",
        ]
    (out / "glossary.md").write_text("\n".join(lines))
    return 1


PROJECT = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")  # texts of the project that are pages, too


def project_links(text: str) -> str:
    """Links to the project's own texts as links to their pages; the licence has none, and stays a word."""
    text = re.sub(r"\[([^\]]*)\]\(LICENSE\)", r"\1", text)
    return re.sub(rf"\]\(({'|'.join(map(re.escape, PROJECT))})", lambda m: m[0].lower(), text)


def project_texts(root: Path, out: Path) -> int:
    """The texts of the project as pages."""
    for name in PROJECT:
        (out / name.lower()).write_text(project_links((root / name).read_text(encoding="utf-8")))
    return len(PROJECT)


def question_table(root: Path) -> str:
    """Where the table "Where is ...?" stands, as a page and its place; empty where there is none."""
    for path in sorted((root / "nbs/guides").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        if any(re.search(r"^#+ Where is", "".join(c["source"]), re.M) for c in cells):
            return f"guides/{pages.name_of(path)}.html#where-is"
    return ""


def start(root: Path, out: Path) -> int:
    """The start page, made of README's beginning, and llms.txt."""
    readme = (root / "README.md").read_text(encoding="utf-8")
    text = project_links(readme)
    if place := question_table(root):
        title, _, rest = text.partition("\n")
        link = f'<a href="{place}">Where is ...?</a>'  # as Markdown, Sphinx takes it for a label
        text_of = "answers where things are: a new source, the purge, how a leak is stopped."
        hint = f":::{{admonition}} Looking for something?\n**{link}** {text_of}\n:::"
        text = f"{title}\n\n{hint}\n{rest}"
    for picture in re.findall(r"^!\[[^\]]*\]\(([^)]+)\)", text, re.M):
        if (root / picture).exists():
            shutil.copy(root / picture, out / Path(picture).name)
            text = text.replace(f"({picture})", f"({Path(picture).name})")
        else:
            text = "\n".join(line for line in text.splitlines() if f"({picture})" not in line)
    text = pages.links(text.replace("](nbs/", "]("))
    cards = [
        ("Guides", "guides/index", "How to do things, by reader."),
        ("Examples", "examples/index", "One question each, answered by a run."),
        ("Lessons", "lessons", "The package itself, module by module, executed."),
        ("API reference", "reference/index", "Every public name."),
        ("Command line", "cli", "Every command and option."),
        ("Catalogues", "catalogue/index", "Every feature, label, model, source and setting, by name."),
        ("Glossary", "glossary", "The field's words."),
        ("Contributing", "contributing", "How to set up, change and check."),
        ("Security", "security", "What is promised, and how to report a vulnerability."),
        ("Changelog", "changelog", "What changed."),
    ]
    cards = [c for c in cards if (out / f"{c[1]}.md").exists()]
    grid = "\n".join(
        f":::{{grid-item-card}} {t}\n:link: {p}\n:link-type: doc\n\n{x}\n:::" for t, p, x in cards
    )
    tree = "\n".join(p for _, p, _ in cards)
    (out / "index.md").write_text(f"{text}\n\n::::{{grid}} 1 2 2 3\n:gutter: 3\n\n{grid}\n::::\n\n"
                                  f"```{{toctree}}\n:hidden:\n:maxdepth: 2\n\n{tree}\n```\n")
    return 1


def llms(root: Path, out: Path, site: Path) -> None:
    """A list of all pages with a line each, for programs that read."""
    lines = ["# mlfin", "", "> " + pages.project(root)["project"]["description"], ""]
    for folder in ("guides", "examples", *pages.rooms(root)):
        lines += [f"## {folder}", ""]
        for path in sorted((root / "nbs" / folder).glob("*.ipynb")):
            title, line = pages.title_of(path)
            lines.append(f"- [{title}]({folder}/{pages.name_of(path)}.html): {line}")
        lines.append("")
    site.mkdir(exist_ok=True)
    (site / "llms.txt").write_text("\n".join(lines))


def write(root: Path, out: Path) -> int:
    """All references; how many pages."""
    count = api(root, out) + cli(root, out) + catalogue.write(root, out) + glossary(out)
    return count + project_texts(root, out) + start(root, out)
