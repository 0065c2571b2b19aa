"""The servers that tests use start in a private folder, once, and leave nothing behind."""
import json
import shutil
import socket
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def services(root, tmp_path):
    """Run env/services with a memory of its own; everything is stopped at the end."""
    def call(*arguments):
        return subprocess.run(
            [root / "env/services", *arguments, "--state", tmp_path / "state.json"],
            capture_output=True,
            text=True,
        )

    yield call
    call("down")


def listens(url: str) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", int(url.rpartition(":")[2].partition("/")[0]))) == 0


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server: env/install-services")
def test_what_is_up_is_not_started_twice_and_down_removes_it(services, tmp_path):
    first = services("up", "redis")
    assert first.returncode == 0, first.stderr
    name, url = first.stdout.split()
    assert name == "redis" and listens(url)
    assert services("up", "redis").stdout == first.stdout == services("ls").stdout
    folder = Path(json.loads((tmp_path / "state.json").read_text())["folder"])
    assert (folder / "redis").is_dir()
    assert services("down").stdout == "stopped redis\n"
    assert not folder.exists() and not (tmp_path / "state.json").exists() and not listens(url)
    assert services("down").stdout == "nothing ran\n"


@pytest.mark.skipif(
    not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or not Path("/usr/sbin/pgbouncer").exists(),
    reason="needs postgresql and pgbouncer: env/install-services",
)
def test_a_pooler_brings_its_database(services):
    done = services("up", "pgbouncer")
    assert done.returncode == 0, done.stderr
    urls = dict(line.split() for line in done.stdout.splitlines())
    assert list(urls) == ["postgresql", "pgbouncer"] and all(map(listens, urls.values()))


def test_an_unknown_service_is_named(services):
    done = services("up", "oracle")
    assert done.returncode == 2
    assert "there is no service 'oracle'; known: postgresql, pgbouncer, mariadb, redis" in done.stderr
