"""Champions are promoted and rolled back while questions come in: none fails, and each answer is of one
version with its own number."""
import os
import subprocess
import sys
import time
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from ..fixtures.served import Load, Served, key_of, project, with_champions

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
# seconds from the answer to a promotion until every process serves the new champion; one on a quiet machine
SEEN_WITHIN = 5.0


def question(n: int):
    if n % 4 == 3: return "GET", "/v1/signals?timeframe=1d&experiment=main", None
    return "POST", "/v1/predict", {"experiment": "main", "symbols": ["AAA", "BBB"]}


def said(told: dict) -> dict:
    """Version and probability of each symbol in an answer."""
    return {p["symbol"]: (p["version"], p["probability"])
            for p in told.get("predictions", told.get("signals"))}


def command(server, *words: str) -> None:
    """The command line, in another process."""
    done = subprocess.run([sys.executable, "-P", "-m", "mlfin", *words], env=server.environment,
                          cwd=server.folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def command_here(server, *words: str) -> None:
    """The command line in this process, which is another one than the server's too, and has loaded already
    what the command needs."""
    from mlfin.cli.app import app

    own = {k: v for k, v in server.environment.items() if k.startswith("MLFIN_")}
    with patch.dict(os.environ, own): done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, (done.output, done.exception)


def swapped(folder, workers: int, times: int, rate: float, capsys, command=command) -> None:
    settings, environment = project(folder)
    key, master = key_of(settings), key_of(settings, "master", "administrator")
    with_champions(settings, "lightgbm", "logistic")
    with Served(folder, environment, workers) as server:
        swaps, known = [], {}
        known[1] = said(server.ask(*question(0), key)[2])
        def serves(number):
            return {v for v, _ in said(server.ask(*question(0), key)[2]).values()} == {number}
        with Load(server, key, rate, question) as load:
            for n in range(times):
                time.sleep(0.25)
                body = {"experiment": "main"} | ({"force": "the test says so"} if n % 2 == 0 else {})
                began = time.monotonic()
                status, _, told = server.ask("POST", "/v1/models/2/promote" if n % 2 == 0
                                             else "/v1/models/rollback", body, master)
                assert status == 200 and told["promoted"], told
                swaps.append((began, time.monotonic(), 2 - n % 2))
                if workers == 1: assert serves(2 - n % 2)  # this process: at once
                time.sleep(0.25 if workers == 1 else SEEN_WITHIN)
            began = time.monotonic()  # and now by another process
            command(server, "promote", "--experiment", "main", "--version", "2", "--force",
                    "the test says so")
            swaps.append((began, time.monotonic(), 2))
            by_command = server.until(lambda: serves(2), 60, 0.05)
            time.sleep(0.5 if workers == 1 else SEEN_WITHIN)  # one process that has seen it has
        assert not load.failed, load.failed[:3]
        known[2] = said(server.ask(*question(0), key)[2])
    assert {v for v, _ in known[1].values()} == {1} and {v for v, _ in known[2].values()} == {2}
    assert all(known[1][s][1] != known[2][s][1] for s in ("AAA", "BBB"))
    late = check(load, known, swaps)
    with capsys.disabled():
        print(f"\n{workers} worker(s): {len(load.told):,} answers while the champion changed {len(swaps)} "
              f"times, 0 failed, each of one version with its own "
              f"probability; the old one was last heard {max(late):.2f} s after a promotion was answered, "
              f"and {by_command:.2f} s after `mlfin promote` ended", end=" ")
    assert max(late) <= SEEN_WITHIN


def check(load, known, swaps) -> list[float]:
    """Every answer is one version's own; how long after each swap the one before was still heard."""
    late = [0.0]
    for began, ended, _, told in load.told:
        found = said(told)
        versions = {v for v, _ in found.values()}
        assert len(versions) == 1 and set(found) == {"AAA", "BBB"}, found
        assert all(p == pytest.approx(known[v][s][1], abs=1e-12) for s, (v, p) in found.items()), (
            found, known)
        before = [s for s in swaps if s[1] <= began]
        under_way = any(s[0] <= ended and s[1] >= began for s in swaps)
        if not under_way and versions != {before[-1][2] if before else 1}:
            late.append(began - before[-1][1] if before else float("inf"))
    return late


@pytest.mark.slow
def test_three_swaps_under_load(tmp_path, capsys):
    swapped(tmp_path, 1, 2, 25.0, capsys, command_here)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_eleven_swaps_under_load(tmp_path, capsys, workers):
    swapped(tmp_path, workers, 10, 120.0, capsys)
