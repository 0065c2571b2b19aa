"""A project with published runs, served by Voilà as `mlfin dash` serves it, and a browser to look at it."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from ..fixtures import fixture_run

REPO = Path(__file__).parents[2]
FLAGS = ("--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync --disable-quic "
         "--no-first-run --in-process-gpu").split()  # a process less to talk to


@pytest.fixture(scope="session")
def make_run():
    """`make_run(root, experiment, symbols, n, seed, minutes, profile, latest) -> run id`, see fixture_run.py."""
    return fixture_run.make_run


@pytest.fixture(scope="session")
def project(tmp_path_factory, make_run) -> Path:
    """A project's folder with our dashboards and three runs of two experiments."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(REPO / "dashboards", root / "dashboards")
    make_run(root, "default", seed=0)
    make_run(root, "btc", ("BTCUSDT",), n=20_000, seed=1, minutes=True)
    make_run(root, "default", seed=2)
    return root


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def dashboards_of(project: Path, **more: str):
    """http://127.0.0.1:PORT of a running server."""
    port = free_port()
    where = f"http://127.0.0.1:{port}"
    environment = (
        {k: v for k, v in os.environ.items() if not k.startswith("MLFIN_")}
        | {"MLFIN_ROOT": str(project)}
        | more
    )
    log = project / "voila.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlfin.dashboards.voila_server", "--port", str(port)],
            cwd=project,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        for _ in range(600):
            if server.poll() is not None: pytest.fail(f"the server ended:\n{log.read_text()}")
            try:
                urllib.request.urlopen(f"{where}/voila/static/voila.js", timeout=5).close()
                break
            except OSError: time.sleep(0.1)
        else: pytest.fail(f"the server does not answer:\n{log.read_text()}")
        yield where
    finally:
        server.terminate()
        try: server.wait(20)
        except subprocess.TimeoutExpired: server.kill()


@pytest.fixture(scope="session")
def serve_dashboards():
    """`dashboards_of`, for tests with a project of their own."""
    return dashboards_of


@pytest.fixture(scope="session", name="free_port")
def _free_port():
    """A port that nobody has."""
    return free_port


@pytest.fixture(scope="session")
def address(project) -> str:
    """The dashboards of `project`."""
    with dashboards_of(project) as where:
        yield where


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium."""
    path = shutil.which("chromium")
    if path is None: pytest.skip("no chromium on this machine: apt-get install chromium")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install 'mlfin[dev]'"
    )
    with playwright.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=path, args=FLAGS)
        yield opened
        opened.close()


@contextmanager
def page_of(browser, timeout: int = 60_000):
    """A page that keeps `asked` (addresses it requested) and `wrong` (errors of its scripts)."""
    page = browser.new_page(viewport=dict(width=1280, height=900))
    page.asked, page.wrong = [], []
    page.on("request", lambda r: page.asked.append(r.url))
    page.on("websocket", lambda s: page.asked.append(s.url))
    page.on("pageerror", lambda e: page.wrong.append(str(e)))
    page.set_default_timeout(timeout)
    try: yield page
    finally: page.close()


@pytest.fixture(scope="session")
def open_page(browser):
    """`page_of` of the browser, for pages that a test or a module keeps for itself."""
    return partial(page_of, browser)


@pytest.fixture
def page(browser):
    """A page of a test."""
    with page_of(browser) as page: yield page
