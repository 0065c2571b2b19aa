"""Memory is flat under a mixed load: predictions, signals, new bars of the champion's, and of others."""
import os
import queue
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ..fixtures.served import Load, Served, bar, key_of, project, with_champions

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
MOST = 10.0  # MiB that supervisor and worker may grow by in the second half


def anonymous(pid: int) -> float:
    """Memory that a process fills itself, MiB; pages of its libraries' files come and go with what it calls
    for the first time."""
    return (int(re.search(r"^RssAnon:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1])
            / 1024)


class Mix:
    """Out of a hundred requests: 90 predictions, 4 looks at signals, 5 batches of minute bars, 1 of the
    champion's daily bars."""
    def __init__(self, last: pd.Timestamp):
        self.last, self.close = last, 100.0

    def __call__(self, n: int):
        if n % 100 == 99:
            day = self.last + pd.Timedelta(days=1 + n // 100)
            # it came before
            if day > pd.Timestamp.now("UTC") - pd.Timedelta("2D"): day = self.last + pd.Timedelta("1D")
            close = 100.0 + day.day / 40
            own = dict(timeframe="1d", ts=day.isoformat(), open=100.0, high=close + 1, low=99.0,
                       close=close, volume=5000.0)
            return "POST", "/v1/ingest", {"bars": [own | {"symbol": s} for s in ("AAA", "BBB")]}
        if n % 20 == 10:
            return ("POST", "/v1/ingest",
                    {"bars": [bar(f"M{n // 20 % 8}", n // 160 * 20 + k) for k in range(20)]})
        if n % 25 == 0: return "GET", "/v1/signals?timeframe=1d", None
        return "POST", "/v1/predict", {"experiment": "main", "symbols": ["AAA", "BBB"]}


def flat(folder: Path, seconds: float, rate: float, capsys) -> None:
    settings, environment = project(folder)
    key, last = key_of(settings), with_champions(settings, "lightgbm").ts.max()
    with Served(folder, environment) as server:
        pids, seen = [server.running.pid, *server.pids()], []
        with Load(server, key, rate, Mix(last)) as load:
            while (at := time.monotonic() - load.began) < seconds:
                seen.append([at, *map(anonymous, pids)])
                time.sleep(min(1.0, seconds / 60))
        assert not load.failed, load.failed[:3]
        assert server.pids() == pids[1:]
    seen = np.array(seen)
    tenths = np.array([part[:, 1:].mean(axis=0) for part in np.array_split(seen, 10)])
    grown = tenths[-1] - tenths[5]
    with capsys.disabled():
        print(f"\n{len(load.told):,} requests in {seconds:.0f} s, none failed; MiB in each tenth: supervisor "
              f"{tenths[:, 0].round(1).tolist()}, "
              f"worker {tenths[:, 1].round(1).tolist()}; grown in the second half by "
              f"{grown.round(1).tolist()}", end=" ")
    assert (grown < MOST).all(), tenths


@pytest.mark.long
def test_memory_is_flat_over_ten_minutes(tmp_path, capsys):
    """SOAK_SECONDS makes it shorter, or longer."""
    flat(tmp_path, float(os.environ.get("SOAK_SECONDS", "600")), 60.0, capsys)


def python(script: str, **environment: str) -> subprocess.CompletedProcess:
    own = {k: v for k, v in os.environ.items() if k not in ("ARROW_DEFAULT_MEMORY_POOL", "_RJEM_MALLOC_CONF")}
    return subprocess.run([sys.executable, "-c", script], env=own | environment, capture_output=True,
                          text=True, timeout=120, check=True)


STARTED = """
from mlfin.cli import app, serve_command

def load_profile(profile):
    import os, pyarrow
    print(pyarrow.default_memory_pool().backend_name, os.environ["_RJEM_MALLOC_CONF"])
    raise SystemExit

serve_command.load_profile = load_profile
app.main(["serve"])
"""


@pytest.mark.parametrize("given",
                         [{}, {"ARROW_DEFAULT_MEMORY_POOL": "mimalloc", "_RJEM_MALLOC_CONF": "narenas:3"}])
def test_the_service_tells_the_allocators_before_they_are_loaded_and_the_environment_says_otherwise(given):
    from mlfin.cli.serve_command import ALLOCATORS

    pool, conf = ((given or ALLOCATORS)["ARROW_DEFAULT_MEMORY_POOL"],
                  (given or ALLOCATORS)["_RJEM_MALLOC_CONF"])
    assert python(STARTED, **given).stdout.split() == [pool, conf]


def test_the_allocator_of_deltalake_hears_each_word():
    from mlfin.cli.serve_command import ALLOCATORS

    conf = ALLOCATORS["_RJEM_MALLOC_CONF"]
    said = python("import deltalake", _RJEM_MALLOC_CONF=f"confirm_conf:true,{conf}").stderr
    assert [word for word in conf.split(",") if f"Set conf value: {word}" not in said] == [], said
    assert "Invalid conf" not in said, said


@pytest.mark.parametrize("given", ["", "5"])
def test_a_worker_has_few_heaps(given, tmp_path, monkeypatch):
    from mlfin.core.settings import load_settings
    from mlfin.api import server

    if given: monkeypatch.setenv("MALLOC_ARENA_MAX", given)
    else: monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    monkeypatch.setattr(server, "START", f"import os; open({str(tmp_path / 'said')!r}, "
                                         f"'w').write(os.environ['MALLOC_ARENA_MAX'])")
    with server.listening_socket("127.0.0.1", 0) as taken:
        worker = server.WorkerProcess(load_settings(), 0, taken, queue.SimpleQueue())
        assert worker.process.wait(60) == 0
        worker.link.close()
    assert (tmp_path / "said").read_text() == (given or "2")


def test_a_stream_asks_for_no_version_that_it_saw(tmp_path, make_bars, monkeypatch):
    from mlfin.store.lake import Lake
    from mlfin.predict.stream import Stream

    lake, bars, asked, versions = Lake(tmp_path / "lake"), make_bars("AAA", 60), [], Lake.versions
    lake.write(bars.iloc[:50])
    stream = Stream(lake, ["returns"], "1d")
    stream.sync()
    monkeypatch.setattr(Lake, "versions",
                        lambda self, after=-1: asked.append((after, len(versions(self, after))))
                        or versions(self, after))
    for n in range(50, 60):
        lake.push(bars.iloc[n:n + 1].reset_index(drop=True))
        lake.flush()
        assert stream.sync()["AAA"].bars == n + 1
    first = lake.version() - 10
    assert asked == [(first + n, 1) for n in range(10)]


def test_small_files_of_folds_are_sorted_together(tmp_path, make_bars, monkeypatch):
    from mlfin.store.lake import Lake
    from mlfin.api import background

    monkeypatch.setattr(background, "_LOOSE", 5)
    lake, loose, bars = Lake(tmp_path / "lake"), [], make_bars("AAA", 12)
    for n in range(12):
        lake.push(bars.iloc[n:n + 1].reset_index(drop=True))
        background._flush(lake)
        loose.append(int(lake.bars.table.snapshot().files.bucket.isna().sum()))
    assert max(loose) == 4 and len(lake.read()) == 12 and not lake.read().duplicated("ts").any()


def test_a_handle_that_took_in_many_versions_is_opened_anew(tmp_path, make_bars, monkeypatch):
    """What it takes in version by version it keeps version by version."""
    from mlfin.store.lake import Lake
    from mlfin.store.delta_bars import BarTable

    monkeypatch.setattr(BarTable, "renew", 5)
    lake, other, bars = Lake(tmp_path / "lake"), Lake(tmp_path / "lake"), make_bars("AAA", 21)
    handles: dict[Lake, list] = {lake: [], other: []}
    for n in range(21):
        lake.push(bars.iloc[n:n + 1].reset_index(drop=True))
        lake.flush()
        for found, seen in handles.items():
            assert found.version() == n + 1 and len(found.read(["AAA"])) == n + 1
            if all(found.bars.table.handle() is not one for one in seen):
                seen.append(found.bars.table.handle())
    assert [len(seen) for seen in handles.values()] == [5, 5]
