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
def built(root, tmp_path_factory):
    """A page that the site's own Sphinx made of formulae, in a text and in a table, and of a shown table."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "in").mkdir()
    output = {"output_type": "display_data", "metadata": {}, "data": {"text/markdown": MODEL_TABLE}}
    text = (
        "# A page\n\nThe mean $\\frac{1}{n} \\sum_i x_i$ costs $5 and $6.\n\n$$\\sqrt{\\text{known\\_at}_i}$$\n\n"
        "| what | formula |\n|---|---|\n| width | $|\\rho|$ |\n"
    )
    (folder / "in/index.ipynb").write_text(notebook_of(text, output))
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-c", str(root / "env/docs")]
    subprocess.run([*command, str(folder / "in"), str(folder / "out")], check=True, capture_output=True)
    return (folder / "out/index.html").read_text()


def test_formulae_are_mathml_and_money_is_text(root, built):
    assert "<mfrac>" in built and "<msqrt>" in built and 'display="block"' in built and "known_at" in built
    assert "costs $5 and $6" in built and "mathjax" not in built.lower()
    check = runpy.run_path(str(root / "env/docs/check.py"))
    assert check["raw"]("".join(check["Page"](built).text)) == []


def test_a_table_that_code_shows_is_a_table(built):
    assert re.search(r"<td[^>]*><p>ridge</p></td>", built)


def test_an_unknown_command_of_latex_is_an_error(root):
    mathml = runpy.run_path(str(root / "env/docs/mathml.py"))["mathml"]
    with pytest.raises(ValueError, match="nocommand"):
        mathml(r"\nocommand x")
