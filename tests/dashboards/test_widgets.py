"""Published runs, tables and pages: what is there, what is not, and nothing that a run's text could break."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from mlfin.charts.figures import MIMETYPE
from mlfin.core.errors import DataError, SettingsError
from mlfin.dashboards import pages, voila_server as serve, widgets


@pytest.fixture(scope="module")
def root(tmp_path_factory, make_run) -> Path:
    root = tmp_path_factory.mktemp("project")
    make_run(root, "default", n=300, seed=0)
    make_run(root, "default", n=300, seed=2)
    make_run(root, "btc", ("BTCUSDT",), n=600, seed=1, minutes=True)
    make_run(root, "default", n=300, seed=3, profile="staging")
    return root


@pytest.fixture
def copy(root, tmp_path) -> Path:
    import shutil
    shutil.copytree(root / "reports", tmp_path / "reports")
    return tmp_path / "reports"


def test_runs_are_listed_newest_first_with_verdict_and_page(root):
    runs = widgets.published_runs(root / "reports")
    assert runs.columns.tolist() == ["profile", "experiment", "run_id", "finished", "verdict", "page"]
    assert runs.finished.is_monotonic_decreasing and str(runs.finished.dt.tz) == "UTC"
    assert runs.experiment.tolist() == ["default", "default", "btc", "default"]
    assert runs.profile.tolist() == ["staging", "development", "development", "development"]
    assert runs.verdict.str.startswith("Not distinguishable").all()
    assert all(
        (root / "reports" / page).name == "06_publish.html" and (root / "reports" / page).is_file()
        for page in runs.page
    )


def test_a_folder_that_is_not_there_holds_no_runs(tmp_path):
    assert widgets.published_runs(tmp_path / "absent").empty
    assert "mlfin run" in widgets.runs_table(widgets.published_runs(tmp_path))


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"when": {}}', '{"when": {"finished": "yesterday"}}', '{"when": null}']
)
def test_a_broken_run_is_listed_as_such_and_hides_no_other(copy, content):
    broken = copy / "development" / "btc" / "runs" / "0broken"
    broken.mkdir()
    (broken / "run.json").write_text(content)
    runs = widgets.published_runs(copy).set_index("run_id")
    assert len(runs) == 5 and "cannot be read" in runs.verdict["0broken"] and runs.page["0broken"] == ""
    assert "no page" in widgets.runs_table(runs.reset_index())


def test_runs_that_are_being_put_together_are_not_listed(copy):
    (copy / "development" / "btc" / "runs" / ".abc.tmp").mkdir()
    (copy / "development" / "btc" / "runs" / ".abc.tmp" / "run.json").write_text("{}")
    assert len(widgets.published_runs(copy)) == 4


def test_the_latest_run_is_the_one_that_run_json_names(root):
    named = json.loads((root / "reports/development/default/run.json").read_text())["run_id"]
    assert widgets.load_run(root / "reports", "development", "default").record["run_id"] == named


def test_unknown_runs_and_products_are_named(root):
    reports = root / "reports"
    with pytest.raises(DataError, match="mlfin run --experiment eth"):
        widgets.load_run(reports, "development", "eth")
    with pytest.raises(DataError, match="known name"): widgets.load_run(reports, "development", "btc", "ffff")
    run = widgets.load_run(reports, "development", "btc")
    with pytest.raises(DataError, match="holds no scores.parquet"): run.frame("scores")
    assert str(root) not in str(pytest.raises(DataError, run.document, "quality").value)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("sharpe", float("nan"), "–"),
        ("sharpe", float("inf"), "–"),
        ("sharpe", None, "–"),
        ("max_drawdown", -0.1234, "-12.3 %"),
        ("trades", 0, "0"),
        ("final_equity", 123456.7, "123,457"),
        ("max_drawdown_days", 412.0, "412"),
        ("dsr", 0.0, "0.00"),
        ("reason", "it never traded", "it never traded"),
        ("ci", [None, 1], "– to 1"),
        ("flag", True, "yes"),
    ],
)
def test_figures_as_people_read_them(name, value, text):
    assert widgets.format_figure(name, value) == text


def test_texts_of_a_run_cannot_break_a_page(root, monkeypatch):
    bad = "<script>alert(1)</script>"
    runs = pd.DataFrame(
        [dict(profile=bad, experiment=bad, run_id=bad, finished=pd.NaT, verdict=bad, page=f'{bad}".html')]
    )
    for base in ("", "/reports/"):
        monkeypatch.setenv("REPORTS_URL", base)
        assert "<script" not in widgets.runs_table(runs) and '"">' not in widgets.runs_table(runs)
    verdict = dict(sentences=[bad], caveats=[bad], better_than_luck=None)
    trades = widgets.load_run(root / "reports", "development", "btc").frame("trades").assign(symbol=bad)
    for shown in (
        widgets.verdict_card(verdict),
        widgets.trades_table(trades),
        widgets.significance_table(dict(reason=bad)),
        widgets.key_figures_table(dict(start=bad)),
    ):
        assert "<script" not in shown and "&lt;script" in shown
    assert "luck" not in widgets.verdict_card(dict(better_than_luck=None, sentences=[]))


def test_links_need_a_server(monkeypatch):
    monkeypatch.delenv("REPORTS_URL", raising=False)
    assert "<a" not in widgets.page_link("development/x/06_publish.html", "report")
    monkeypatch.setenv("REPORTS_URL", "/reports/")
    assert 'href="/reports/development/x/06_publish.html"' in widgets.page_link(
        "development/x/06_publish.html", "report"
    )


def chosen(page) -> tuple: return page.experiment.value, page.run.value, page.symbol.value


def test_the_trading_page_follows_its_controls(root):
    page = pages.TradingPage(root / "reports")
    assert "Reading" in page.texts["status"].value and page.shown is None
    page.look()
    assert chosen(page)[0] == ("staging", "default") and page.texts["status"].value == ""
    page.experiment.value = ("development", "btc")
    assert chosen(page)[2] == "BTCUSDT" and page.shown.record["experiment"] == "btc"
    page.experiment.value = ("development", "default")
    assert len(page.run.options) == 2 and chosen(page)[2] == "AAPL"
    older = page.run.options[1][1]
    page.run.value = older
    assert page.shown.folder.name == older
    page.symbol.value = "MSFT"
    assert "Trades in MSFT" in page.texts["trades"].value
    for area in page.figures.values(): assert MIMETYPE in area.outputs[0]["data"]


def test_a_run_that_ends_while_the_page_is_open_appears_and_moves_nothing(copy, make_run):
    page = pages.TradingPage(copy)
    page.look()
    page.experiment.value = ("development", "default")
    page.symbol.value = "IBM"
    before = chosen(page)
    make_run(copy.parent, "default", n=300, seed=5)
    page.look()
    assert chosen(page) == before and len(page.run.options) == 3


def test_a_page_without_runs_says_what_to_do_and_fills_itself(tmp_path, make_run):
    page = pages.TradingPage(tmp_path / "reports")
    page.look()
    assert "mlfin run" in page.texts["status"].value and chosen(page) == (None, None, None)
    make_run(tmp_path, n=300)
    page.look()
    assert chosen(page)[2] == "AAPL" and page.texts["status"].value == ""


def test_a_run_without_some_products_shows_the_others(copy):
    folder = next((copy / "development" / "btc" / "runs").iterdir())
    for name in ("equity.parquet", "monthly.parquet", "significance.json", "trades.parquet"):
        (folder / "data" / name).unlink()
    page = pages.TradingPage(copy)
    page.look()
    page.experiment.value = ("development", "btc")
    assert "holds no equity.parquet" in page.figures["equity"].outputs[0]["data"]["text/plain"]
    assert "holds no significance.json" in page.texts["tiles"].value
    assert page.figures["monthly"].layout.display == "none"
    assert MIMETYPE in page.figures["positions"].outputs[0]["data"]
    assert "Verdict" in page.texts["verdict"].value


def test_one_look_that_finds_nothing_new_reads_no_product(root, monkeypatch):
    page = pages.TradingPage(root / "reports")
    page.look()
    monkeypatch.setattr(page, "show_run", lambda: pytest.fail("nothing is new"))
    page.look()


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("d/e/runs/ab/06_publish.html", True),
        ("d/e/06_publish.html", True),
        ("d/e/runs/ab/plotly.min.js", True),
        ("x.html", False),
        ("d/e/runs/ab/run.json", False),
        ("d/e/runs/ab/data/bars.parquet", False),
        ("d/e/06_publish.ipynb", False),
        ("d/../../x.html", False),
        ("d/.e/x.html", False),
        ("//etc/x.html", False),
        ("d/e/x.html/../../../y.html", False),
        ("", False),
        ("d/plotly.min.js.map", False),
    ],
)
def test_only_pages_are_served(path, answer):
    assert serve.is_page(path) is answer


def test_outside_a_project_nothing_is_served(tmp_path):
    with pytest.raises(SettingsError, match="home.ipynb"): serve.serve_dashboards(tmp_path)


def test_importing_what_people_see_is_light():
    code = ("import sys, mlfin.dashboards, mlfin.dashboards.widgets, mlfin.dashboards.pages, mlfin.dashboards.voila_server;"
            "print([m for m in ('plotly', 'voila', 'ipywidgets', 'tornado', 'nbconvert', 'IPython') if m in sys.modules])")
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
