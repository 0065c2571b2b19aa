"""What README and the guides say is true: commands parse, targets and paths exist, the examples work as they
stand."""
import fnmatch
import importlib.util
import json
import re
import shlex
import sys

import pytest
import typer

from mlfin.core.pipeline_spec import read_pipeline, read_yaml
from mlfin.cli.app import app
from mlfin.runs.question import read_question

from .test_layers import ROOMS

READERS = ("for_researchers", "for_schedulers", "for_services", "for_stakeholders")
GUIDES = (
    *READERS,
    "architecture",
    "bring_your_data",
    "collect_bars",
    "decisions",
    "first_model",
    "first_run",
    "live_loop",
    "recipes",
)
WORDS = 800  # of README: what a newcomer reads before anything runs


@pytest.fixture(scope="module")
def readme(root):
    return (root / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def texts(root, readme):
    """README and the prose of index and guides."""
    found = {"README.md": readme}
    for path in ("nbs/index.ipynb", *(f"nbs/guides/{name}.ipynb" for name in GUIDES)):
        cells = json.loads((root / path).read_text(encoding="utf-8"))["cells"]
        found[path] = "\n\n".join(
            "".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"
        )
    return found


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def spans(text: str) -> list[str]:
    """Inline code, outside of code blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def commands(text: str, program: str) -> list[list[str]]:
    """Every call of a program in shell blocks and inline code, as words."""
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()] + spans(text)
    parts = [part for line in lines for part in re.split(r"&&|;", line)]
    words = [shlex.split(part, comments=True) for part in parts if part.split()[:1] == [program]]
    return [w[1:] for w in words if len(w) > 1 and "RUN" not in w and "key=value" not in w]


def rows(text: str) -> list[str]:
    """First cells of the tables."""
    return [
        line.split("|")[1]
        for line in text.splitlines()
        if line.startswith("|") and not set(line) <= set("|- ")
    ]


@pytest.fixture(scope="module")
def manual(texts):
    """The guide for researchers, which shows how to add a feature and a model."""
    return texts["nbs/guides/for_researchers.ipynb"]


def export(text: str, number: int, root, folder):
    """The guide's example, as a notebook that nbdev exports to a module, imported."""
    from nbdev.export import nb_export
    named = re.findall(r"`nbs/(\w+)/(\d\d)_(mine)\.ipynb`", text)[number]
    package, _, name = named
    assert f"`#| default_exp {package}.{name}`" in text
    sources = [
        f"#| default_exp {package}.{name}",
        *re.split(r"\n\n(?=#\| export)", blocks(text, "python")[number]),
    ]
    cells = [{"cell_type": "code", "id": f"cell-{i}", "metadata": {}, "execution_count": None, "outputs": [],
              "source": source.strip()} for i, source in enumerate(sources)]
    notebook = folder / f"{named[1]}_{name}.ipynb"
    notebook.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    nb_export(notebook, lib_path=folder / "lib")
    spec = importlib.util.spec_from_file_location(
        f"mlfin.{package}.{name}", folder / "lib" / package / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def asked(text: str, key: str) -> list[list[str]]:
    """The lists that are asked for by `mlfin run -p 'key=[...]'`."""
    words = [w for command in commands(text, "mlfin") for w in command]
    return [w.removeprefix(f"{key}=").strip("[]").split(",") for w in words if w.startswith(f"{key}=")]


def test_the_feature_works(manual, root, tmp_path, monkeypatch):
    from mlfin.sources.sources import read_bars
    from mlfin.features import spec
    from mlfin.leakage.lookahead import assert_no_lookahead
    from mlfin.features.table import compute_features
    spec.load_features()
    monkeypatch.setattr(spec, "_registry", dict(spec._registry))
    export(manual, 0, root, tmp_path)
    bars = read_bars("builtin:", symbols=["IBM", "MSFT"], start="2010-01-01", end="2010-06-30").bars
    *_, specs = asked(manual, "features")
    table = compute_features(bars, specs)
    new = table[specs[-1]]
    assert new.between(0, 1).sum() == len(bars) - 2 * 9 and assert_no_lookahead(specs, bars) > 0
    assert new.iloc[9] == pytest.approx(((bars.high - bars.low) / bars.close)[:10].mean(), rel=1e-12)


def test_the_model_works(manual, root, tmp_path, monkeypatch):
    import numpy as np
    import pandas as pd

    from mlfin.models import zoo
    zoo.load_models()
    monkeypatch.setattr(zoo, "_MODELS", dict(zoo._MODELS))
    module = export(manual, 1, root, tmp_path)
    text = (tmp_path / "lib" / "models" / "mine.py").read_text()
    assert "@model(" in text and module.__name__ == "mlfin.models.mine"  # by this text the zoo finds it
    names = [name for models in asked(manual, "models") for name in models]
    assert set(names) <= set(zoo._MODELS) and "nearest_neighbours" in names
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(400, 3)), columns=list("abc"))
    y = (X.a + rng.normal(size=400) > 0).astype("int8")
    fitted = zoo.make_model("nearest_neighbours", seed=1).fit(X, y)
    assert fitted.predict_proba(X)[:, 1][X.a > 1].mean() > 0.6
    assert zoo.make_model("nearest_neighbours", n_neighbors=50).steps[-1][1].n_neighbors == 50


def test_examples_are_short_and_the_same_everywhere(texts):
    examples = blocks(texts["nbs/guides/for_researchers.ipynb"], "python")
    assert len(examples) == 2 and all(len(example.strip().splitlines()) <= 10 for example in examples)
    assert blocks(texts["nbs/guides/first_run.ipynb"], "python") == examples


def test_readme_is_short_and_its_python_runs(readme, tmp_path, monkeypatch, capsys):
    assert len(readme.split()) <= WORDS
    (example,) = blocks(readme, "python")
    assert len(example.strip().splitlines()) <= 10
    monkeypatch.chdir(tmp_path)
    exec(example, {"__name__": "example"})
    assert "log_loss_baseline" in capsys.readouterr().out


def test_times_are_told_alike(texts):
    """Set-up, first run and second run: measured once, and the same words wherever they are told."""
    pages = ("README.md", "nbs/guides/for_researchers.ipynb", "nbs/guides/first_run.ipynb")
    told = [re.findall(r"On two cores the set-up takes [^.]*\.\d[^.]*\.", texts[page]) for page in pages]
    assert all(len(found) == 1 for found in told) and len({found[0] for found in told}) == 1
    vague = re.compile(r"forty seconds|about a minute|less than a second", re.I)
    assert {page: vague.findall(text) for page, text in texts.items() if vague.search(text)} == {}


def test_the_first_commands_begin_with_a_clone(texts):
    for page in ("README.md", "nbs/guides/first_run.ipynb"):
        first = blocks(texts[page], "sh")[0].splitlines()
        assert first[0] == "git clone REPOSITORY mlfin && cd mlfin", page


def test_readme_leads_to_the_guides(readme, root):
    """Every link to a file holds, and each guide by reader is among them."""
    links = re.findall(r"(?<!!)\[[^\]]+\]\((?!http)([^)#]+)\)", readme)
    assert [link for link in links if not (root / link).exists()] == []
    assert {f"nbs/guides/{name}.ipynb" for name in GUIDES} <= set(links)


def test_links_between_guides_hold(texts, root):
    for page, text in texts.items():
        if page == "README.md": continue
        links = re.findall(r"\]\((?!http)([^)#]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
        assert [link for link in links if not (root / page).parent.joinpath(link).exists()] == [], page


def test_notebooks_that_a_guide_names_are_links(texts):
    """`room/01_name` and `nbs/room/01_name.ipynb` are links; one that a reader will write is none."""
    for page, text in texts.items():
        if not page.startswith("nbs/guides/"): continue
        prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
        named = re.findall(r"(?<!\[)`((?:nbs/)?\w+/\w+\.ipynb|[a-z_]+/\d\d_\w+)`", prose)
        assert [name for name in named if not name.endswith("_mine.ipynb")] == [], page


def test_decisions_stand_in_order_and_say_what_replaced_them(texts):
    text = texts["nbs/guides/decisions.ipynb"]
    dates = re.findall(r"^## (\d{4}-\d\d-\d\d): ", text, re.M)
    assert dates == sorted(dates, reverse=True) and len(dates) >= 10
    anchors = set(re.findall(r'<a id="([\w-]+)">', text))
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= anchors
    assert len(re.findall(r"^## ", text, re.M)) == len(dates)
    notes = [part for part in text.split("\n\n") if "**Superseded** in" in part or "**Superseded**:" in part]
    assert len(notes) >= 3 and all("](" in part.split("**Superseded**")[1] for part in notes)


def test_the_parts_of_a_key_are_told(root, texts):
    """The table of "A task key" has the parts that the code hashes, and the settings among them."""
    from mlfin.core.provenance import pipeline_components
    from mlfin.core.settings import load_settings
    tasks = read_pipeline(root, read_yaml(root / "env.yaml"))
    parts = pipeline_components(tasks, load_settings(root=root))["ingest"]
    told = texts["nbs/guides/architecture.ipynb"].split("## A task key")[1].split("\n\n")[2]
    lines = {spans(line)[0]: line for line in told.splitlines()[2:]}
    assert lines.keys() == parts.keys() - {"key"}
    decided = texts["nbs/guides/decisions.ipynb"].split("Three kinds of settings")[1].split("\n\n")[0]
    for name in parts["settings"]: assert f"`{name}`" in lines["settings"] and f"`{name}`" in decided


def test_a_gate_is_the_promotion_gate(texts, root):
    """The checks before a commit and the guard of a request have words of their own."""
    others = {name: (root / name).read_text(encoding="utf-8") for name in ("CONTRIBUTING.md", "SECURITY.md")}
    for page, text in (texts | others).items():
        for part in re.split(r"\n\n|\n\|", text):
            if re.search(r"(make |env/)check|\bCI\b|guard", part):
                assert not re.search(r"(?<!promotion )\bgate\b", part), page


def test_a_store_is_opened_from_one_home(root):
    told = re.compile(r"from (mlfin[\w.]*) import [^\n\\]*\bopen_store\b"
                      r"|`open_store[^|]*?` from `(mlfin[\w.]*)`")
    pages = [(root / f"nbs/guides/{name}.ipynb").read_text(encoding="utf-8") for name in GUIDES]
    homes = ["".join(found) for text in pages for found in told.findall(text)]
    assert len(homes) >= 5 and set(homes) == {"mlfin.warehouse.opening"}


def test_mlfin_commands_parse(texts, root, tmp_path, monkeypatch):
    group = typer.main.get_command(app)
    known = read_yaml(root / "env.yaml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ten_days.yaml").write_text("label: fwd_ret_10\n")
    seen = set()
    for path, text in texts.items():
        for name, *words in commands(text, "mlfin"):
            assert name in group.commands, f"{path}: mlfin {name}"
            command = group.commands[name]
            if hasattr(command, "commands"):
                assert words and words[0] in command.commands, f"{path}: mlfin {name} {' '.join(words)}"
                command, words = command.commands[words[0]], words[1:]
            parsed = command.make_context(name, list(words)).params
            question = read_question(root, tuple(parsed.get("parameter", ())), tuple(parsed.get("file", ())))
            assert question.keys() == known.keys()
            seen.add(name)
    assert seen == set(group.commands), "a command that no page shows"


def test_make_targets_exist(texts, root):
    targets = set(re.findall(r"^([a-z]+):", (root / "Makefile").read_text(), re.M))
    for path, text in texts.items():
        asked_for = {words[0] for words in commands(text, "make")}
        assert asked_for <= targets, f"{path}: make {asked_for - targets}"
    for page in ("README.md", "nbs/guides/for_researchers.ipynb"):
        (rest,) = re.findall(r"`make help`\s+lists the rest: ([^.]*)\.", texts[page])
        assert set(re.findall(r"`(\w+)`", rest)) <= targets


@pytest.fixture
def service_places(root, tmp_path):
    """What the service keeps for a profile, relative to the project: as the code has it."""
    from mlfin.core.settings import load_settings
    from mlfin.monitor.health import health_file
    from mlfin.monitor.logs import logs_folder
    from mlfin.accounts.auth import open_accounts
    from mlfin.jobs.jobs import jobs_folder

    (tmp_path / "settings.ini").write_bytes((root / "settings.ini").read_bytes())
    settings = load_settings("development", tmp_path)
    accounts = open_accounts(settings)
    accounts.keys.all()
    accounts.close()
    kept = [*tmp_path.glob(".mlfin/development/*.*"), health_file(settings)]
    return {str(p.relative_to(tmp_path)) for p in kept} | {
        f"{f(settings).relative_to(tmp_path)}/" for f in (jobs_folder, logs_folder)
    }


def test_paths_of_tables_exist(texts, root, service_places):
    question = read_yaml(root / "env.yaml")
    products = [p for task in read_pipeline(root, question).values() for p in task.products.values()]
    stand_ins = {"<profile>": question["profile"], "<experiment>": question["experiment"]}
    for page, text in texts.items():
        for cell in rows(text):
            for path in (span for span in spans(cell) if "/" in span):
                for name, value in stand_ins.items(): path = path.replace(name, value)
                if path.startswith("reports/") and re.search(r"/(runs/<run_id>|failed)/$", path):
                    path = re.sub(r"(runs/<run_id>|failed)/$", "", path)
                if re.match(
                    r"\.mlfin/\w+/(lake/|artifacts/|trials\.sqlite|mlflow\.db|seal_keys\.json)$", path
                ):
                    continue  # those of settings.ini, below
                if path in service_places: continue
                assert (root / path).exists() and not path.startswith((".mlfin", "reports")) or any(
                    fnmatch.fnmatch(p, path) or p.startswith(path) for p in products), f"{page}: {path}"


def test_places_of_settings_are_as_told(texts, root):
    from mlfin.core.settings import load_settings
    settings = load_settings("development", root)
    places = [
        settings.store + "/",
        settings.ledger,
        settings.mlflow.removeprefix("sqlite:///"),
        settings.artifacts,
    ]
    told = " ".join(spans(texts["nbs/guides/first_run.ipynb"]))
    for place in places: assert str(place).removeprefix(f"{root}/") in told
    assert f"mlflow ui --backend-store-uri {settings.mlflow.replace(f'{root}/', '')}" in told


def test_the_map_is_of_this_project(manual, root):
    house = {
        line.split()[0]: line
        for line in manual.split("The project's folders")[1].split("```")[1].splitlines()
        if line.strip()
    }
    assert all((root / path).is_dir() for path in house)
    for part in "repo pipeline fixtures benchmarks".split():
        assert part in house["tests/"] and (root / "tests" / part).is_dir()
    (told,) = re.findall(r"^Rooms, from the ground up: (.*?)\.", manual, re.M | re.S)
    rooms = re.findall(r"`(\w+)`", told)
    assert [*rooms, "pipeline"] == list(ROOMS)
    assert all((root / folder / room).is_dir() for folder in ("nbs", "mlfin", "tests") for room in rooms)


def test_other_paths_exist(texts, root):
    new = set(re.findall(r"nbs/\w+/\d\d_mine\.ipynb", texts["nbs/guides/for_researchers.ipynb"]))
    for page, text in texts.items():
        words = [w for line in [*spans(text), *" ".join(blocks(text, "sh")).split()] for w in line.split()]
        paths = {w.strip("`'") for w in words if re.match(r"(nbs|env|mlfin|tests|dashboards)/\w", w)} - new
        tests = {path for path in paths if re.fullmatch(r"tests/\w+/test_mine\.py", path)}  # the reader's own
        paths = paths - tests | {path.rpartition("/")[0] for path in tests}
        assert [path for path in paths if not (root / path).exists()] == [], page
        short = {
            span for span in spans(text) if re.fullmatch(r"[a-z_]+/\d\d_\w+", span)
        }  # `room/01_name` of nbs
        assert [name for name in short if not (root / f"nbs/{name}.ipynb").exists()] == [], page


@pytest.mark.parametrize(
    "name", [n for n in GUIDES if n != "live_loop"]
)  # it runs the pipeline twice: tests/api/test_live_loop.py, slow
def test_the_cells_of_a_guide_run(name, root, monkeypatch):
    monkeypatch.chdir(root / "nbs" / "guides")
    namespace = {"display": lambda value: None, "__name__": "guide"}
    for cell in json.loads((root / f"nbs/guides/{name}.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code": exec("".join(cell["source"]), namespace)


def test_planted_untruths_are_seen(root):
    group = typer.main.get_command(app)
    ((name, *words),) = commands("```sh\nmlfin run -p label=x --experimnt y  # no\n```", "mlfin")
    with pytest.raises(Exception, match="experimnt"): group.commands[name].make_context(name, list(words))
    assert commands("first `make run`, and `mlfin run -p key=value`", "make") == [["run"]]
    assert rows("| a | b |\n|---|---|\n| `c/` | d |") == [" a ", " `c/` "]
    assert "mlfin.features.mine" not in sys.modules
