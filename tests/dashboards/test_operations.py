"""The operations dashboard: a browser logs in to a real service, presses the three buttons, and reads what happens and why not."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from mlfin.core.errors import SettingsError  # noqa: E402
from mlfin.core.settings import load_settings  # noqa: E402
from mlfin.accounts.auth import open_accounts  # noqa: E402
from mlfin.accounts.users import add_user  # noqa: E402
from mlfin.dashboards import voila_server as dash  # noqa: E402

from ..fixtures import left_run, workbench  # noqa: E402

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse battery"
GUARD = "a-token-of-more-than-twenty-characters"
SPECS = ["returns", "rsi_14", "obv", "sma_20", "volume_ma_20", "macd_12_26_9"]


class Service:
    """`mlfin serve` of a project, which can be killed and started again at the same address."""
    def __init__(self, root, port):
        self.root, self.port, self.process = root, port, None
        self.address = f"http://127.0.0.1:{port}"

    def launch(self):
        known = {k: v for k, v in os.environ.items() if not k.startswith("MLFIN_")}
        known |= {"PYTHONPATH": str(ROOT), "MLFIN_ROOT": str(self.root), "MLFIN_PROFILE": "test"}
        with (self.root / "serve.log").open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlfin", "serve", "--port", str(self.port)],
                cwd=self.root,
                env=known,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start(self):
        self.launch()
        self.wait()

    def wait(self):
        end = time.monotonic() + 120
        while True:
            assert self.process.poll() is None and time.monotonic() < end, (
                self.root / "serve.log"
            ).read_text()
            try:
                return urllib.request.urlopen(f"{self.address}/health/live", timeout=5).close()
            except OSError:
                time.sleep(0.2)

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A project with a small question, a champion of two daily symbols that learnt to remember, and accounts."""
    from mlfin.core.provenance import write_json
    from mlfin.store.lake import Lake
    from mlfin.registry.registry import set_champion, register, write_verdict

    bench = workbench.Workbench.make(tmp_path_factory.mktemp("house"))
    text = (bench.root / "env.yaml").read_text()
    for name, value in workbench.SMALL.items():
        text = re.sub(rf"(?m)^{name}: [^#\n]*", f"{name}: {value} ", text)
    (bench.root / "env.yaml").write_text(text)
    (bench.root / "dashboards").symlink_to(ROOT / "dashboards")
    settings = load_settings("test", bench.root)
    bars = left_run.bars_that_remember(days=700, symbols=("AAA", "BBB"))
    left_run.leave(settings, "main", specs=SPECS, bars=bars)
    made = register(settings, "main")
    write_verdict(settings, made, "passed", "all is well", {"checks": []})
    set_champion(settings, "main", made.number, None)
    Lake(settings.store).write(bars)
    asked = {
        "source": "builtin",
        "path": "",
        "symbols": ["GOOG"],
        "timeframe": "1d",
    }  # another question than that of env.yaml
    write_json(
        {"run_id": "0123456789ab", "experiment": "main", "tasks": {}, "parameters": asked},
        settings.reports_dir("main") / "run.json",
    )
    accounts = open_accounts(settings)
    for role in ("read_only", "analyst"):
        add_user(accounts, role, role, PASSWORD)
    bench.once = add_user(accounts, "new", "analyst")
    accounts.close()
    return bench


@pytest.fixture(scope="module")
def service(house, free_port):
    found = Service(house.root, free_port())
    found.launch()
    yield found
    found.process.terminate()
    try:
        found.process.wait(60)
    except subprocess.TimeoutExpired:
        found.kill()


@pytest.fixture(scope="module")
def guarded(house, service, serve_dashboards):
    """http://127.0.0.1:PORT of the dashboards of `house`, for who shows GUARD."""
    environment = {
        "MLFIN_PROFILE": "test",
        "MLFIN_SERVE_ADDRESS": service.address,
        "MLFIN_DASH_TOKEN": GUARD,
        "PYTHONPATH": str(ROOT),
    }
    with serve_dashboards(house.root, **environment) as found:
        service.wait()
        yield found


@pytest.fixture(scope="module")
def where(guarded):
    return f"{guarded}/voila/render/operations.ipynb?token={GUARD}"


@pytest.fixture
def page(page):
    """The machine may be busy with others."""
    page.set_default_timeout(120_000)
    return page


@pytest.fixture(scope="module")
def opened(where, open_page):
    """The page that several tests look at one after the other, where nobody is logged in before and after."""
    with open_page(timeout=120_000) as page:
        page.goto(where)
        page.wait_for_selector("text=Service at")
        yield page


@pytest.fixture
def desk(opened):
    assert not opened.locator(".mlfin-who").count()
    yield opened
    if button(opened, "Log out").is_visible(): button(opened, "Log out").click()
    opened.locator(".mlfin-who").wait_for(state="detached")


def log_in(page, name, password=PASSWORD, new=None):
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    if new:
        page.get_by_label("New password").fill(new)
    page.get_by_role("button", name="Log in").click()


def enter(page, name):
    log_in(page, name)
    page.wait_for_selector(f".mlfin-who:has-text('{name}')")
    page.wait_for_selector(".js-plotly-plot .main-svg")


def open_as(page, where, name):
    page.goto(where)
    page.wait_for_selector("text=Service at")
    enter(page, name)


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def quiet(page):
    """No word of Python on the screen, and nothing asked of anybody else."""
    text = page.inner_text("body")
    assert "Traceback" not in text and "Error:" not in text and not page.wrong
    assert not [
        u for u in page.asked if not re.match(r"(https?|wss?)://127\.0\.0\.1[:/]|data:|blob:|about:", u)
    ]


@pytest.mark.slow
def test_an_analyst_presses_the_three_buttons(desk, tmp_path):
    page = desk
    assert page.title() == "Operations · mlfin" and not button(page, "Train").is_visible()
    log_in(page, "analyst", "a wrong one entirely")
    page.wait_for_selector("[role=alert]:has-text('Not logged in')")
    assert "password or the code is wrong" in page.inner_text("[role=alert]")
    assert page.get_by_label("Password", exact=True).input_value() == ""
    page.get_by_label("Name", exact=True).fill("analyst")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password", exact=True).press("Enter")
    page.wait_for_selector(".mlfin-who:has-text('analyst')")
    page.wait_for_selector(".js-plotly-plot .main-svg")
    assert page.get_by_label("Symbol").input_value() == "AAA"
    assert page.get_by_label("Timeframe").input_value() == "1d"
    assert "Last close of AAA" in page.inner_text("body") and "test-main version 1" in page.inner_text("body")

    button(page, "Predict next close").click()
    page.wait_for_selector("h2:text-is('Prediction for AAA')")
    said = page.locator(".mlfin-card:has(h2:text-is('Prediction for AAA'))").inner_text()
    for words in (
        "Probability of a rise",
        "how often it rose anyway",
        "90 %",
        "the last close",
        "not a price",
        "Stale",
        "version 1",
        "fwd_ret_1",
    ):
        assert words in said, (words, said)

    button(page, "Ingest now").click()
    page.wait_for_selector(".mlfin-good:has-text('The bars are in the store')")
    page.wait_for_function(
        "[...document.querySelectorAll('.widget-dropdown option')].some(o => o.textContent == 'GOOG')",
        polling=100,
    )
    assert (
        "IBM" not in page.get_by_label("Symbol").inner_text()
    )  # the chosen experiment's bars, not those of env.yaml
    page.get_by_label("Symbol").select_option(label="GOOG")
    page.wait_for_selector("text=Last close of GOOG")
    assert not page.locator("h2:text-is('Prediction for AAA')").count()
    button(page, "Predict next close").click()
    page.wait_for_selector("[role=alert]:has-text('GOOG')")

    page.get_by_label("Symbol").select_option(label="BBB")
    page.wait_for_selector("text=Last close of BBB")
    button(page, "Train").click()
    page.wait_for_selector("h2:text-is('Training, asked for by analyst')")
    page.wait_for_function(
        "document.querySelector('progress') && document.querySelector('progress').value > 0", polling=100
    )
    button(page, "Predict next close").click()
    page.wait_for_selector("h2:text-is('Prediction for BBB')")
    page.screenshot(path=str(tmp_path / "operations.png"), full_page=True)
    button(page, "Cancel this job").click()
    page.wait_for_selector(".mlfin-badge:text-is('cancelled')", timeout=60_000)
    assert PASSWORD not in page.content() and "eyJ" not in page.content()
    quiet(page)
    button(page, "Log out").click()
    button(page, "Train").wait_for(state="hidden")
    assert "AAA" not in page.inner_text("body") and not page.locator(".mlfin-who").count()


@pytest.mark.slow
def test_a_reader_sees_why_two_buttons_are_grey_and_another_page_exchanges_a_password(
    desk, where, house, open_page
):
    page = desk
    enter(page, "read_only")
    for name in ("Ingest now", "Train"):
        assert button(page, name).is_disabled()
        assert "needs the role analyst; yours is read_only" in button(page, name).get_attribute("title")
    assert page.inner_text(".mlfin-why").count("It needs the role analyst") == 2
    button(page, "Predict next close").click()
    page.wait_for_selector("h2:text-is('Prediction for AAA')")
    quiet(page)
    with open_page(timeout=120_000) as other:
        other.goto(where)
        other.wait_for_selector("text=Service at")
        assert (
            not other.locator(".mlfin-who").count() and not button(other, "Predict next close").is_visible()
        )  # it knows nobody
        assert not other.get_by_label("New password").is_visible()
        log_in(other, "new", house.once)                                    # a password for one use
        other.wait_for_selector("[role=alert]:has-text('A new password is needed')")
        log_in(other, "new", house.once, new="short")
        other.wait_for_selector("[role=alert]:has-text('does not take this')")
        log_in(other, "new", house.once, new="a long walk home")
        other.wait_for_selector(".mlfin-who:has-text('new')")
        assert not re.search("Traceback|Error:", other.inner_text("body"))
        assert "read_only" in page.inner_text(".mlfin-who")


@pytest.mark.slow
def test_a_service_that_dies_is_missed_and_one_that_comes_back_is_seen(page, where, service):
    open_as(page, where, "analyst")
    service.kill()
    button(page, "Predict next close").click()
    page.wait_for_selector("[role=alert]:has-text('No answer of the service')")
    assert "mlfin serve" in page.inner_text("[role=alert]") and "AAA" in page.inner_text("body")
    quiet(page)
    service.start()
    page.wait_for_selector(".mlfin-good:has-text('answers again')")
    button(page, "Predict next close").click()
    page.wait_for_selector("h2:text-is('Prediction for AAA')")


@pytest.mark.slow
def test_without_a_server_the_page_does_its_work_and_its_jobs(page, where, service):
    service.kill()
    try:
        page.goto(where)
        page.wait_for_selector("text=No service answers at")
        button(page, "Work without a server").click()
        page.wait_for_selector("text=This profile has accounts: log in")  # its own log-in, as anywhere
        log_in(page, "read_only")
        page.wait_for_selector(".mlfin-who:has-text('own process')")
        assert button(page, "Train").is_disabled()
        button(page, "Log out").click()
        button(page, "Work without a server").click()
        page.wait_for_selector("text=This profile has accounts: log in")
        log_in(page, "analyst")
        page.wait_for_selector(".js-plotly-plot .main-svg")
        button(page, "Predict next close").click()
        page.wait_for_selector("h2:text-is('Prediction for AAA')")
        button(page, "Ingest now").click()
        page.wait_for_selector(".mlfin-good:has-text('The bars are in the store')")
        quiet(page)
    finally:
        service.start()


@pytest.mark.slow
def test_a_training_runs_to_its_end(page, where, house):
    (
        house.root / "reports" / "test" / "main" / "run.json"
    ).unlink()  # what never ran is run; its record here is none that a retraining could follow
    open_as(page, where, "analyst")
    button(page, "Train").click()
    page.wait_for_selector(".mlfin-good:has-text('Trained')", timeout=300_000)
    assert "100 %" in page.locator(".mlfin-card:has(progress)").inner_text()
    assert page.locator(".mlfin-badge:text-is('done')").count()
    assert list((house.root / "reports" / "test" / "main").glob("runs/*/06_publish.html"))
    quiet(page)


@pytest.mark.slow
def test_it_fits_a_phone(page, where):
    page.set_viewport_size(dict(width=390, height=800))
    open_as(page, where, "read_only")
    button(page, "Predict next close").click()
    page.wait_for_selector("h2:text-is('Prediction for AAA')")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_token_guards_every_page_and_leaves_the_environment(house, guarded, opened, make_run):
    make_run(house.root, "main", n=300)
    page_of_run = next(house.root.glob("reports/development/main/runs/*/06_publish.html")).relative_to(
        house.root
    )
    for path in ("voila/render/home.ipynb", page_of_run.as_posix(), f"{page_of_run}?token=a-wrong-one"):
        with urllib.request.urlopen(f"{guarded}/{path}", timeout=30) as answer:
            assert "/login" in answer.url and "Published runs" not in answer.read().decode()
    told = opened.request.get(
        f"{guarded}/{page_of_run}"
    )  # as the browser that has shown the token, whose page works
    assert told.ok and "<h1>06_publish of main</h1>" in told.text()


def test_others_are_not_let_in_without_a_guard(tmp_path):
    (tmp_path / "dashboards").symlink_to(ROOT / "dashboards")
    (tmp_path / "settings.ini").write_bytes((ROOT / "settings.ini").read_bytes())
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFIN_")}
    environment |= {"MLFIN_ROOT": str(tmp_path), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "mlfin", "dash", "--host", "0.0.0.0"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and "no login guards" in done.stderr and "Traceback" not in done.stderr
    assert "Dashboards at" not in done.stdout


@pytest.mark.parametrize(
    "given, guard, says",
    [
        (dict(host="0.0.0.0", proxied=True), "", "no login guards"),
        (dict(host="0.0.0.0"), "x" * 30, "in the clear"),
        ({}, "short", "20 plain characters"),
    ],
)
def test_a_guard_that_is_none_is_refused(monkeypatch, capsys, given, guard, says):
    monkeypatch.setattr(dash, "dash_application", lambda *given: pytest.fail("it serves"))
    monkeypatch.setenv("MLFIN_DASH_TOKEN", guard)
    with pytest.raises(SettingsError, match=says):
        dash.serve_dashboards(ROOT, **given)
    assert "Dashboards at" not in capsys.readouterr().out


@pytest.mark.parametrize("path", ["voila/render/home.ipynb", "reports/development/default/absent.html"])
def test_a_name_that_is_not_this_machines_is_no_way_in(address, path):
    request = urllib.request.Request(f"{address}/{path}", headers={"Host": "elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    assert refused.value.code == 403
