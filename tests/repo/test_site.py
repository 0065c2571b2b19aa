"""The documentation site: what its check must see in planted pages; no page asks a network for anything."""

import json
import re
import runpy
import shutil
import subprocess
import sys

import pytest

PAGE = '<html><head>{head}</head><body><h1 id="top">x</h1>{body}</body></html>'


@pytest.fixture
def checked(root, tmp_path):
    """What env/docs/check.py says of a page with these pieces, beside a second page."""
    site = runpy.run_path(str(root / "env/docs/check.py"))["site"]
    (tmp_path / "mlfin").mkdir()
    (tmp_path / "mlfin/_modidx.py").write_text('d = {"syms": {}}\n')
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "other.html").write_text(PAGE.format(head="", body='<p id="here"></p>'))

    def check(head: str = "", body: str = "") -> list[str]:
        (folder / "index.html").write_text(PAGE.format(head=head, body=body))
        return site(folder, tmp_path)

    return check


@pytest.mark.parametrize(
    "body",
    [
        '<a href="other.html#here">x</a>',
        '<a href="#top">x</a>',
        '<a href="https://example.org">x</a>',
        '<img src="data:image/png;base64,AA==">',
        r"<pre>$$\frac{1}{2}$$ |---|</pre><p><code>\sum</code> of $5</p>",
    ],
)
def test_what_holds_passes(checked, body):
    assert checked(body=body) == []


@pytest.mark.parametrize(
    "head, body, said",
    [
        ('<script src="https://cdn.example.org/a.js"></script>', "", "loads https://cdn.example.org/a.js"),
        ('<link rel="stylesheet" href="//fonts.example.org/a.css">', "", "loads //fonts.example.org/a.css"),
        ("", '<img src="http://example.org/a.png">', "loads http://example.org/a.png"),
        ("", '<a href="absent.html">x</a>', "no page absent.html"),
        ("", '<a href="other.html#absent">x</a>', "no place other.html#absent"),
        ("", '<img src="absent.png">', "no asset absent.png"),
        ("", "<p>so $$x$$ is</p>", "shows LaTeX: $$"),
        ("", r"<p>the $\frac{1}{n}$</p>", "shows LaTeX: \\frac"),
        ("", r"<p>the \sum of <code>x</code></p>", "shows LaTeX: \\sum"),
        ("", "<p>| model | skill |\n|---|---|\n| a | b |</p>", "shows a Markdown table"),
    ],
)
def test_a_planted_fault_is_seen(checked, head, body, said):
    (line,) = checked(head, body)
    assert said in line


LOOKED_AT = ("index.html", "guides/index.html", "validation/splits.html", "cli.html", "search.html?q=purge")


@pytest.mark.browser
def test_built_pages_ask_for_nothing_elsewhere(root):
    """Of the site that `make docs` built last; skipped where there is none."""
    chromium = shutil.which("chromium")
    if not (root / "_docs/search.html").is_file() or chromium is None:
        pytest.skip("needs the built site (make docs) and Chromium")
    from playwright.sync_api import sync_playwright

    asked, failed = [], []
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        view = browser.new_context(offline=True).new_page()
        view.on("request", lambda request: asked.append(request.url))
        view.on("pageerror", lambda error: failed.append(str(error)))
        for page in LOOKED_AT:
            name, _, query = page.partition("?")
            view.goto((root / "_docs" / name).as_uri() + ("?" + query if query else ""), wait_until="load")
        browser.close()
    assert not failed and asked and not [url for url in asked if url.startswith(("http:", "https:", "ws"))], (
        failed,
        asked,
    )


def notebook_page(root):
    sys.path.insert(0, str(root / "env/docs"))
    try:
        import pages
    finally:
        sys.path.pop(0)
    return pages


def test_shown_pages_links_and_packed_numbers_are_made_fit(root):
    pages = notebook_page(root)
    shown = pages._output(
        {"output_type": "display_data", "data": {"text/html": "<!doctype html><a href='x.json'>x</a>"}}, "n"
    )
    assert shown["data"]["text/html"].startswith("<iframe") and "<a" not in shown["data"]["text/html"]
    shown = pages._output(
        {"output_type": "display_data", "data": {"text/html": '<a href="glossary.html#dsr">x</a>'}}, "n"
    )
    assert 'href="../glossary.html#dsr"' in shown["data"]["text/html"]
    assert (
        pages.links("see [0004](revisions/r0004_tables.ipynb) and [x](../store/01_store.ipynb)")
        == "see 0004 and [x](../store/store.ipynb)"
    )
    assert (
        pages.numbers({"dtype": "f8", "bdata": "AAAAAAAA8D8AAAAAAAAAQA=="}) == [1.0, 2.0]
        and pages.numbers(None) == []
    )


MODEL_TABLE = "| model | skill |\n|---|---|\n| ridge | +0.1 % |\n"


def notebook_of(*cells: tuple) -> str:
    """A notebook: text for a Markdown cell, a dictionary for the output of a code cell."""
    made = [
        {"cell_type": "markdown", "metadata": {}, "source": cell}
        if isinstance(cell, str)
        else {"cell_type": "code", "execution_count": 1, "metadata": {}, "source": "1", "outputs": [cell]}
        for cell in cells
    ]
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4})


@pytest.fixture(scope="module")
def site_folder(root, tmp_path_factory):
    """A page that the site's own Sphinx made of formulae, in a text and in a table, and of a shown table."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "in").mkdir()
    output = {"output_type": "display_data", "metadata": {}, "data": {"text/markdown": MODEL_TABLE}}
    text = (
        "# A page\n\n"
        "The mean $\\frac{1}{n} \\sum_i x_i$ costs $5 and $6.\n\n$$\\sqrt{\\text{known\\_at}_i}$$\n\n"
        "| what | formula |\n|---|---|\n| width | $\\|\\rho\\|$ |\n"
    )
    (folder / "in/index.ipynb").write_text(notebook_of(text, output))
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-c", str(root / "env/docs")]
    subprocess.run([*command, str(folder / "in"), str(folder / "out")], check=True, capture_output=True)
    return folder / "out"


@pytest.fixture(scope="module")
def built(site_folder):
    return (site_folder / "index.html").read_text()


def test_formulae_are_mathml_and_money_is_text(root, built):
    assert "<mfrac>" in built and "<msqrt>" in built and 'display="block"' in built and "known_at" in built
    assert 'class="mlfin-formula"' in built and 'class="math"' not in built  # the theme's: at the right
    assert "costs $5 and $6" in built and "mathjax" not in built.lower()
    check = runpy.run_path(str(root / "env/docs/check.py"))
    assert check["raw"]("".join(check["Page"](built).text)) == []


def test_a_table_that_code_shows_is_a_table(built):
    assert re.search(r"<td[^>]*><p>ridge</p></td>", built)


def test_an_unknown_command_of_latex_is_an_error(root):
    mathml = runpy.run_path(str(root / "env/docs/mathml.py"))["mathml"]
    with pytest.raises(ValueError, match="nocommand"):
        mathml(r"\nocommand x")


@pytest.fixture(scope="module")
def reference(root):
    """env/docs/reference.py, with its neighbours."""
    notebook_page(root)
    sys.path.insert(0, str(root / "env/docs"))
    try:
        import reference
    finally:
        sys.path.pop(0)
    return reference


@pytest.fixture(scope="module")
def catalogues(root, reference, tmp_path_factory):
    """name of a catalogue -> its first cells, without the quotes."""
    out = tmp_path_factory.mktemp("pages")
    reference.catalogue.write(root, out)
    texts = {p.stem: p.read_text() for p in (out / "catalogue").glob("*.md")}
    return {name: set(re.findall(r"^\| `([^`]+)` \|", text, re.M)) for name, text in texts.items()}


def registered(root) -> dict[str, set[str]]:
    """What the registries themselves say there is."""
    from mlfin.core.provenance import read_yaml
    from mlfin.core.settings import Settings
    from mlfin.datasets.label_names import LABEL_KINDS
    from mlfin.facts.fact_sources import load_facts
    from mlfin.features.spec import definitions, families
    from mlfin.models.zoo import model_names
    from mlfin.sources.sources import load_sources

    return {
        "features": {*definitions(), *families()},
        "labels": set(LABEL_KINDS),
        "models": set(model_names()),
        "sources": {*load_sources(), *load_facts()},
        "settings": set(Settings.model_fields),
        "question": set(read_yaml(root / "env.yaml")),
    }


def test_every_registered_name_is_in_its_catalogue(root, catalogues):
    absent = {name: names - catalogues[name] for name, names in registered(root).items()}
    assert not any(absent.values()), absent


def test_catalogues_say_meaning_default_and_unit(root, reference):
    settings = reference.catalogue.settings(root)
    assert "| `gate_latency_ms` | " in settings and "| `50` | milliseconds |" in settings
    question = reference.catalogue.question(root)
    assert "| `fee_bps` | of the traded amount, each way | `1.0` | basis points |" in question
    cells = [line[1:-1].split("|") for line in question.splitlines() if line.startswith("|")]
    assert all(cell.strip() for row in cells for cell in row)


def test_signs_of_markdown_within_a_meaning_stay_signs(reference):
    shown = reference.catalogue.plain("a * b * c, `x * y`, MLFIN_<KEY>")
    assert shown == r"a \* b \* c, `x * y`, MLFIN\_\<KEY>"


def test_a_bar_within_a_cell_does_not_end_it(root):
    shown = notebook_page(root).table([("`--kind [a|b]`", "a | b", "x\\|y")], ("o", "m", "n"))
    assert shown.splitlines()[-1] == "| `--kind [a\\|b]` | a \\| b | x\\|y |"


def test_the_start_page_leads_to_the_questions_and_the_projects_texts(root, reference, tmp_path):
    reference.project_texts(root, tmp_path)
    reference.start(root, tmp_path)
    start = (tmp_path / "index.md").read_text()
    assert re.search(r'<a href="guides/\w+.html#where-is">Where is', start[:500]) and "(LICENSE)" not in start
    for name in ("contributing", "security", "changelog"):
        assert (tmp_path / f"{name}.md").read_text().startswith("# ") and f":link: {name}\n" in start
        assert f"\n{name}\n" in start.rpartition("{toctree}")[2]


def test_there_is_no_empty_index_of_names(built, site_folder):
    assert not (site_folder / "genindex.html").exists() and "genindex" not in built


def test_every_guide_is_executed_and_those_that_show_a_run_after_one(root):
    execute = runpy.run_path(str(root / "env/docs/execute.py"))
    guides = {p.stem: p.read_text() for p in execute["sources"](root) if p.parent.name == "guides"}
    assert "SLOW" not in execute
    assert {name for name, text in guides.items() if "No run yet" in text} <= set(execute["SHOW_A_RUN"])


@pytest.mark.parametrize("page", ["live_loop", "first_run", "for_stakeholders"])
def test_built_guides_show_a_run(root, page):
    """Of the site that was built last; skipped where there is none."""
    place = root / f"_docs/guides/{page}.html"
    if not place.is_file():
        pytest.skip("needs the built site (make docs)")
    text = place.read_text()
    assert "cell_output" in text and not re.search(r'class="output.*\n?.*No (run|trial) yet', text)
