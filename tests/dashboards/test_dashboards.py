"""The dashboards as a person meets them: in a browser, without a network."""

import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.browser
HERE = Path(__file__).parents[2] / "dashboards"


def stayed_here(page) -> bool:
    """Whether every request went to this machine (or was no request at all: data, blob)."""
    hosts = {urlsplit(u).hostname for u in page.asked if urlsplit(u).scheme not in ("data", "blob", "about")}
    return hosts == {"127.0.0.1"}


def choose(page, control: str, label: str) -> None:
    page.locator(f".widget-dropdown:has(label:text-is('{control}')) select").select_option(
        index=options(page, control).index(label)
    )


def options(page, control: str) -> list[str]:
    found = page.locator(f".widget-dropdown:has(label:text-is('{control}')) option").all_text_contents()
    return [text.replace("\xa0", " ") for text in found]


def points(page, figure: int) -> int:
    """How many points the first line of a figure has on the screen."""
    return page.locator(".js-plotly-plot").nth(figure).evaluate("e => e._fullData[0].x.length")


def test_home_leads_to_the_pages_and_trading_performance_fits_a_phone_and_follows_its_controls_and_new_runs(
    page, address, project, make_run
):
    told = page.goto(f"{address}/")
    page.wait_for_selector("table.mlfin.runs")
    assert page.url.endswith("/voila/render/home.ipynb") and page.title() == "Home · mlfin"
    policy = told.headers["content-security-policy"]  # the browser is told to ask nobody else
    assert "default-src 'self'" in policy and "http:" not in policy and "https:" not in policy
    assert not re.findall(
        r"""<(?:script|link|img)[^>]*(?:src|href)\s*=\s*["']?(?:https?:)?//[^>]*>""", told.text()
    )
    rows = page.locator("table.mlfin.runs tbody tr").all_inner_texts()
    assert len(rows) == 3 and all("Not distinguishable from luck" in row for row in rows)
    assert {"Trading performance", "Operations"} <= set(page.locator(".mlfin-grid h3").all_inner_texts())
    assert "import" not in page.inner_text("body") and not page.locator("text=Traceback").count()
    with page.expect_popup() as opened: page.locator("table.mlfin.runs a").first.click()
    report = opened.value
    report.wait_for_selector("text=drawn")  # plotly.min.js beside the page was found
    assert report.inner_text("h1") == "06_publish of default"
    report.close()

    page.set_viewport_size(dict(width=390, height=800))
    page.locator(".mlfin-grid a", has_text="Trading performance").click()
    page.wait_for_selector(".mlfin-tiles")
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 10", polling=100)
    assert page.url.endswith("/voila/render/trading_performance.ipynb")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert options(page, "Experiment") == ["default (development)", "btc (development)"]
    assert len(options(page, "Run")) == 2 and options(page, "Symbol") == ["AAPL", "IBM", "MSFT"]
    assert points(page, 0) == 1_000
    assert "after 6 trials" in page.inner_text(".mlfin-tiles")
    assert "not better than luck" in page.inner_text("body")

    choose(page, "Symbol", "MSFT")
    page.wait_for_selector("h2:text-is('Trades in MSFT')")
    choose(page, "Run", options(page, "Run")[1])
    page.wait_for_selector(".mlfin-tiles:has-text('after 4 trials')")
    choose(page, "Experiment", "btc (development)")
    page.wait_for_selector("h2:text-is('Trades in BTCUSDT')")
    page.wait_for_function(
        "document.querySelector('.js-plotly-plot')._fullData[0].x.length > 1500", polling=100
    )
    assert points(page, 0) <= 4_000 and options(page, "Symbol") == ["BTCUSDT"]

    make_run(project, "late", n=300, seed=4)  # it ends while the page is open
    page.wait_for_function(
        "document.querySelector('.widget-dropdown select').options.length == 3", polling=100
    )
    page.wait_for_function(
        "document.querySelector('.widget-dropdown select').value.replace(/\\s/g, ' ') == 'btc (development)'",
        polling=100,
    )  # as before
    assert stayed_here(page) and not page.wrong


def test_an_address_that_is_not_there_is_a_plain_404(page, address):
    for path in ("voila/render/absent.ipynb", "reports/development/default/absent.html"):
        assert page.goto(f"{address}/{path}").status == 404, path
    assert stayed_here(page)


@pytest.mark.parametrize(
    "path",
    [
        "reports/development/default/run.json",
        "reports/../settings.ini",
        "reports/%2e%2e/settings.ini",
        "voila/files/home.ipynb",
        "voila/files/voila.json",
        "voila/files/..%2fsettings.ini",
    ],
)
def test_nothing_but_pages_is_handed_out(address, path, project):
    (project / "settings.ini").write_text("[DEFAULT]\n")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{address}/{path}", timeout=20)
    assert refused.value.code in (403, 404)


def test_the_notebooks_are_three_short_cells_without_outputs():
    for path in sorted(HERE.glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        assert len(cells) <= 4 and not any(c.get("outputs") for c in cells), path.name
        assert all(len(c["source"]) <= 12 for c in cells), path.name
