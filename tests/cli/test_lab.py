"""JupyterLab in this environment lists, opens, edits and saves, and a notebook keeps its tags."""
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# task"},
        {
            "cell_type": "code",
            "id": "b",
            "metadata": {"tags": ["parameters"], "collapsed": True},
            "source": "horizon = 5",
            "execution_count": 3,
            "outputs": [],
        },
    ],
    "metadata": {"kernelspec": {"display_name": "mlfin-cpu", "language": "python", "name": "mlfin-cpu"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}

made_by_setup = pytest.mark.skipif(
    not Path(sys.prefix, ".mlfin-stamp").exists(), reason="this environment was not made by env/setup")


@contextmanager
def serving(command, folder: Path, home: Path):
    """Start a server on a free loopback port; yield a function that asks its API; stop it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home.mkdir()
    own = {f"JUPYTER_{kind}_DIR": str(home / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    log = (home / "log").open("w+")
    server = subprocess.Popen(
        [*command, f"--port={port}", "--no-browser"],
        cwd=folder,
        stdout=log,
        stderr=log,
        env={**os.environ, **own, "HOME": str(home), "JUPYTER_TOKEN": "secret"},
    )

    def ask(path: str, method: str = "GET", content: dict | None = None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/{path}",
            method=method,
            data=json.dumps(content).encode() if content else None,
            headers={"Authorization": "token secret", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    try:
        for _ in range(600):
            try:
                ask("api")
                break
            except (urllib.error.URLError, ConnectionError):
                assert server.poll() is None, (home / "log").read_text()
                time.sleep(0.1)
        yield ask
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        log.close()


@made_by_setup
def test_lab_opens_edits_and_saves_with_tags_kept(tmp_path):
    folder = tmp_path / "project"
    (folder / "nbs/pipeline").mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "nbs/pipeline/01_task.ipynb").write_text(json.dumps(NOTEBOOK))
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port_retries=0",
        "--allow-root",
    ]
    with serving(command, folder, tmp_path / "home") as ask:
        assert ask("lab")[0] == 200
        status, listing = ask("api/contents")
        assert status == 200
        assert {entry["name"] for entry in json.loads(listing)["content"]} == {"nbs", "pyproject.toml"}

        status, answer = ask("api/contents/nbs/pipeline/01_task.ipynb?type=notebook")
        model = json.loads(answer)
        assert status == 200 and model["content"]["cells"][1]["metadata"]["tags"] == ["parameters"]
        model["content"]["cells"][1]["source"] = "horizon = 10"
        assert (
            ask(
                "api/contents/nbs/pipeline/01_task.ipynb",
                "PUT",
                {"type": "notebook", "content": model["content"]},
            )[0]
            == 200
        )

        saved = json.loads(ask("api/contents/nbs/pipeline/01_task.ipynb?type=notebook")[1])["content"][
            "cells"
        ][1]
        on_disk = json.loads((folder / "nbs/pipeline/01_task.ipynb").read_text())["cells"][1]
        assert saved["source"] == "horizon = 10" == "".join(on_disk["source"])
        assert saved["metadata"]["tags"] == ["parameters"]
        assert (
            on_disk["metadata"] == {"tags": ["parameters"]} and on_disk["execution_count"] is None
        )  # cleaned on save

        kernels = json.loads(ask("api/kernelspecs")[1])["kernelspecs"]
        assert {"mlfin-cpu", "mlfin-gpu"} <= kernels.keys()
        assert kernels["mlfin-cpu"]["spec"] == {
            **kernels["mlfin-cpu"]["spec"],
            **json.loads((ROOT / "env/kernels/mlfin-cpu/kernel.json").read_text()),
        }


def test_mlfin_lab_serves_the_project(tmp_path):
    with serving([str(Path(sys.executable).with_name("mlfin")), "lab"], ROOT, tmp_path / "home") as ask:
        status, listing = ask("api/contents")
        assert status == 200
        assert "pyproject.toml" in {entry["name"] for entry in json.loads(listing)["content"]}
