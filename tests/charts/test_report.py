"""Pages and scrubbed notebooks: the same bytes, nothing of the machine, nothing from the internet."""

import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from mlfin.charts import figures as charts, report
from mlfin.core.errors import DataError

SOURCE = """import pandas as pd, sys, pathlib, tempfile
from mlfin.charts import figures as charts
print("home", pathlib.Path.home() / "x", "temp", tempfile.mkdtemp())
print(pathlib.Path.cwd() / "data.csv", object())
sys.stderr.write("a warning\\n")
display(pd.DataFrame({"a": [1]}).style.format("{:.1f}"), pd.DataFrame({"a": [2]}).style)
charts.coverage_chart(pd.DataFrame({"symbol": ["A"], "ts": pd.to_datetime(["2020-01-01"], utc=True)}))"""


def notebook(*cells, **metadata) -> dict:
    return dict(nbformat=4, nbformat_minor=5, metadata=metadata, cells=list(cells))


def code(source: str = "", *outputs, tags=(), **metadata) -> dict:
    return dict(cell_type="code", id=f"c{len(source)}", source=source, execution_count=1,
                outputs=list(outputs), metadata=dict(tags=list(tags), **metadata))


def markdown(source: str) -> dict: return dict(cell_type="markdown", id="m", metadata={}, source=source)


def shown(**data) -> dict: return dict(output_type="display_data", metadata={},
                                       data={k.replace("__", "/"): v for k, v in data.items()})


@pytest.fixture(scope="module")
def twice(tmp_path_factory) -> list[Path]:
    """One notebook executed by papermill in two processes, under one name."""
    import papermill
    root = tmp_path_factory.mktemp("project")
    source = nbformat.from_dict(
        notebook(markdown("# Twice"), code("fee = None", tags=["parameters"]), code(SOURCE),
                 kernelspec=dict(name="python3", display_name="python3", language="python")))
    nbformat.write(source, root / "in.ipynb")
    done = []
    for n in ("one", "two"):
        papermill.execute_notebook(root / "in.ipynb", root / "01_ingest.ipynb",
                                   dict(fee=5, product={"nb": str(root / "x.ipynb")}),
                                   cwd=str(root), progress_bar=False)
        done.append(root / f"{n}.ipynb")
        shutil.copy(root / "01_ingest.ipynb", done[-1])
    return done


def test_two_executions_are_the_same_bytes_once_scrubbed(twice):
    one, two = twice
    assert one.read_bytes() != two.read_bytes()
    assert [report.scrub_notebook(p, p.parent) for p in twice] == [True, True]
    assert one.read_bytes() == two.read_bytes()
    assert [report.scrub_notebook(p, p.parent) for p in twice] == [False, False]
    text = one.read_text()
    for trace in (str(one.parent), str(Path.home()) + "/", tempfile.gettempdir() + "/", "start_time", "iopub",
                  "papermill"):
        assert trace not in text, trace
    tags = [c["metadata"].get("tags") for c in json.loads(text)["cells"]]
    assert ["parameters"] in tags and ["injected-parameters"] in tags
    nbformat.validate(nbformat.read(one, 4))


def test_two_executions_are_the_same_page(twice):
    pages = [report.ReportExporter(root=str(p.parent)).from_filename(str(p))[0] for p in twice]
    assert pages[0] == pages[1]
    assert "<th>fee</th><td>5</td>" in pages[0]
    ids = re.findall(r'id="([^"]+)"', pages[0])
    assert len(ids) == len(set(ids)), "two tables or figures share an id"


@pytest.mark.parametrize(("text", "expected"), [
    ("/srv/p/data/x.csv", "data/x.csv"), ("in /srv/p.", "in /srv/p."), ("in /srv/p", "in ."),
    ("'/srv/p'", "'.'"),
    ("/srv/project/x", "/srv/project/x"), ("/mnt/srv/p/x", "/mnt/srv/p/x"), ("file:///srv/p/x", "file://x"),
    ("<a.B object at 0x7f12ab34cd56>", "<a.B object at 0x0>")])
def test_paths_of_the_project(text, expected):
    clean = report.scrub(notebook(code(text, dict(output_type="stream", name="stdout", text=text))), "/srv/p")
    assert clean["cells"][0]["source"] == clean["cells"][0]["outputs"][0]["text"] == expected


def test_homes_and_environments_are_named_not_shown(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    clean = report.scrub(notebook(code(f"/home/somebody/x {sys.prefix}/lib/y.py /home/somebodyelse")))
    assert clean["cells"][0]["source"] == "~/x $ENV/lib/y.py /home/somebodyelse"


def test_pictures_and_arrays_are_not_touched():
    data = {"image/png": "/srv/p/x",
            "application/vnd.plotly.v1+json": {"data": [{"x": {"bdata": "/srv/p/x"}}]}}
    clean = report.scrub(notebook(code("", dict(output_type="display_data", metadata={}, data=data))),
                         "/srv/p")
    assert clean["cells"][0]["outputs"][0]["data"] == data


def test_tables_of_one_notebook_keep_different_ids():
    html = [f'<style>#T_{t}_row0 {{}}</style><table id="T_{t}"></table>' for t in ("ab12c", "ffff0", "ab12c")]
    clean = report.scrub(notebook(*(code("", shown(text__html=h)) for h in html)))
    ids = [re.search(r'id="(T_\w+)"', c["outputs"][0]["data"]["text/html"])[1] for c in clean["cells"]]
    assert ids == ["T_00000", "T_00001", "T_00000"]


def test_the_given_notebook_is_not_changed():
    given = notebook(code("/srv/p/x", papermill={"duration": 1}))
    before = json.dumps(given)
    report.scrub(given, "/srv/p")
    assert json.dumps(given) == before


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"cells": [1]}'])
def test_what_is_no_notebook_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "x.ipynb"
    path.write_text(content)
    with pytest.raises(DataError, match="x.ipynb"): report.scrub_notebook(path, tmp_path)
    assert path.read_text() == content
    with pytest.raises(DataError, match="cannot be read"): report.scrub_notebook(tmp_path / "absent.ipynb")


def test_a_full_disk_leaves_the_notebook_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "x.ipynb"
    path.write_text(before := json.dumps(notebook(code("1", papermill={}))))
    def full(*_): raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError): report.scrub_notebook(path, tmp_path)
    assert path.read_text() == before and os.listdir(tmp_path) == ["x.ipynb"]


def test_plotly_is_written_once_and_repaired(tmp_path):
    path = report.write_plotly_js(tmp_path / "deep" / "folder")
    stamp = path.stat().st_mtime_ns
    assert report.write_plotly_js(path.parent).stat().st_mtime_ns == stamp
    path.write_bytes(b"cut off")
    assert report.write_plotly_js(path.parent).stat().st_size > 3_000_000
    assert sorted(p.name for p in path.parent.iterdir()) == ["plotly.min.js"]


def test_a_page_asks_nothing_of_the_internet():
    outside = ('<script src="https://cdn.plot.ly/plotly.js"></script>'
               '<link href="//fonts.example/x.css" rel="stylesheet">'
               "<iframe src='http://example.org/'></iframe><table><tr><td>kept</td></tr></table>")
    frame = pd.DataFrame({"ts": pd.to_datetime(["2020-01-02 14:30", "2020-01-03 00:00"], utc=True),
                          "a": [1, 2]})
    page = report.render_page(notebook(markdown("# Title $x$"), code("1", shown(text__html=outside)),
                                       code("2", shown(text__html=frame._repr_html_()))))
    assert re.findall(r'(?:src|href)="([^"]+)"', page) == ["data:,", "plotly.min.js"]
    assert "http" not in page.replace("http-equiv", "") and "kept" in page
    assert "<td>2020-01-02 14:30</td>" in page and "<td>2020-01-03</td>" in page and 'border="1"' not in page


def test_text_of_a_cell_cannot_break_the_page():
    figure = charts.new_figure("</script><script>alert(1)</script>")
    page = report.render_page(notebook(
        markdown("# A <b>"), code("x = '</pre>'", dict(output_type="stream", name="stdout",
                                                       text="<i>&\x1b[31mred\x1b[0m")),
        code("", shown(**{charts.MIMETYPE.replace("/", "__"): charts.figure_json(figure)})),
        code("", dict(output_type="error", ename="ValueError", evalue="<oops>",
                      traceback=["\x1b[0;31mline\x1b[0m"]))))
    assert "<script>alert" not in page and "\x1b" not in page
    assert "&lt;i&gt;&amp;red" in page and "ValueError: &lt;oops&gt;" in page
    assert page.count("</script>") == page.count("<script")


@pytest.mark.parametrize("cells", [[], [markdown("no heading")], [code("a = 1", tags=["parameters"])],
                                   [code("def", tags=["parameters"])],
                                   [code("", shown(application__javascript="alert(1)"))],
                                   [dict(cell_type="raw", id="r", metadata={}, source="x")]])
def test_odd_notebooks_make_a_page(cells):
    page = report.render_page(notebook(*cells))
    assert page.startswith("<!doctype html>") and "alert" not in page and page.endswith("</html>\n")


def test_the_exporter_is_found_by_name():
    import nbconvert
    assert nbconvert.get_exporter("mlfin") is report.ReportExporter


def test_terms_are_linked_once_to_a_page_that_is_written_beside(tmp_path):
    source = notebook(markdown("# PBO\nThe DSR of a trial, `DSR`, $DSR$."),
                      markdown("The DSR again, and its PBO."), code("1", shown(text__html="<p>DSR</p>")))
    nbformat.write(nbformat.from_dict(source), tmp_path / "05_backtest.ipynb")
    page, _ = report.ReportExporter().from_filename(str(tmp_path / "05_backtest.ipynb"))
    assert page.count('href="glossary.html#dsr"') == 1 and page.count('href="glossary.html#pbo"') == 1
    assert "<p>DSR</p>" in page and "<code>DSR</code>" in page and "$DSR$" in page
    glossary = (tmp_path / "glossary.html").read_text(encoding="utf-8")
    for target in re.findall(r'href="glossary\.html#([^"]+)"', page): assert f'id="{target}"' in glossary
    assert re.findall(r'(?:src|href)="([^"]+)"', glossary) == ["data:,"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["05_backtest.ipynb", "glossary.html"]
    assert "glossary.html" not in report.render_page(source)


@pytest.mark.browser
def test_a_page_draws_from_a_disk_without_a_network(tmp_path):
    browser = shutil.which("chromium")
    if browser is None: pytest.skip("no chromium on this machine: apt-get install chromium")
    from playwright.sync_api import sync_playwright
    figure = charts.new_figure("A line")
    figure.add_scatter(y=[1, 3, 2])
    cell = code("figure", shown(**{charts.MIMETYPE.replace("/", "__"): charts.figure_json(figure)}))
    declared = code("product = None", tags=["parameters"])
    node = nbformat.from_dict(notebook(markdown("# Ingest"), declared, cell))
    (tmp_path / "01_ingest.html").write_text(report.ReportExporter().from_notebook_node(node)[0])
    flags = ("--no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
             "--disable-sync "
             "--disable-quic --no-first-run").split()
    with sync_playwright() as p:
        page = p.chromium.launch(executable_path=browser, args=flags).new_page(viewport=dict(
            width=390, height=800))
        asked, wrong = [], []
        page.on("request", lambda r: asked.append(r.url))
        page.on("pageerror", lambda e: wrong.append(str(e)))
        page.goto((tmp_path / "01_ingest.html").as_uri())
        assert "needs plotly.min.js" in page.inner_text(".figure.failed")
        report.write_plotly_js(tmp_path)
        page.reload()
        page.wait_for_selector(".js-plotly-plot .scatterlayer path")
        assert page.inner_text("header a[aria-current]") == "ingest"
        assert not page.is_visible("details.code")
        page.click("header button")
        assert page.is_visible("details.code[open] pre")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, "wider than a phone"
        page.context.browser.close()
    assert all(url.startswith("file:") for url in asked) and not wrong
