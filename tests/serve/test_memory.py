"""How much the memory of the processes grows under a mixed load: predictions, signals, new bars of the champion's symbols, and bars of others."""
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from .served import Load, Served, bar, key_of, project, with_champions

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
MEBI = 2**20
MOST = 30  # MiB that a process may grow by in the second half of ten minutes, in which 150 folds and 250 new daily bars come


def resident(pid: int) -> float:
    """Memory of a process, MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MEBI


class Mix:
    """Out of a hundred requests: 90 predictions, 4 looks at signals, 5 batches of minute bars, 1 of the champion's daily bars."""
    def __init__(self, last: pd.Timestamp):
        self.last, self.close = last, 100.0

    def __call__(self, n: int):
        if n % 100 == 99:
            day = self.last + pd.Timedelta(days=1 + n // 100)
            if day > pd.Timestamp.now("UTC") - pd.Timedelta("2D"): day = self.last + pd.Timedelta("1D")  # it came before
            close = 100.0 + day.day / 40
            own = dict(timeframe="1d", ts=day.isoformat(), open=100.0, high=close + 1, low=99.0, close=close, volume=5000.0)
            return "POST", "/v1/ingest", {"bars": [own | {"symbol": s} for s in ("AAA", "BBB")]}
        if n % 20 == 10: return "POST", "/v1/ingest", {"bars": [bar(f"M{n // 20 % 8}", n // 160 * 20 + k) for k in range(20)]}
        if n % 25 == 0: return "GET", "/v1/signals?timeframe=1d", None
        return "POST", "/v1/predict", {"experiment": "main", "symbols": ["AAA", "BBB"]}


def flat(folder: Path, seconds: float, rate: float, capsys) -> None:
    settings, environment = project(folder)
    key, last = key_of(settings), with_champions(settings, "lightgbm").ts.max()
    with Served(folder, environment) as server:
        pids, seen = [server.running.pid, *server.pids()], []
        with Load(server, key, rate, Mix(last)) as load:
            while (at := time.monotonic() - load.began) < seconds:
                seen.append([at, *map(resident, pids)])
                time.sleep(min(1.0, seconds / 60))
        assert not load.failed, load.failed[:3]
        assert server.pids() == pids[1:]
    seen = np.array(seen)
    tenths = np.array([part[:, 1:].mean(axis=0) for part in np.array_split(seen, 10)])
    grown = tenths[-1] - tenths[5]
    with capsys.disabled():
        print(f"\n{len(load.told):,} requests in {seconds:.0f} s, none failed; MiB in each tenth: supervisor {tenths[:, 0].round(1).tolist()}, "
              f"worker {tenths[:, 1].round(1).tolist()}; grown in the second half by {grown.round(1).tolist()}", end=" ")
    assert (grown < MOST).all(), tenths


@pytest.mark.slow
def test_memory_grows_little_in_ten_minutes(tmp_path, capsys):
    """SOAK_SECONDS makes it shorter, or longer."""
    flat(tmp_path, float(os.environ.get("SOAK_SECONDS", "600")), 60.0, capsys)


def test_small_files_of_folds_are_sorted_together(tmp_path, make_bars, monkeypatch):
    from mlfin.data.lake import Lake
    from mlfin.ops import serve_command

    monkeypatch.setattr(serve_command, "_LOOSE", 5)
    lake, loose, bars = Lake(tmp_path / "lake"), [], make_bars("AAA", 12)
    for n in range(12):
        lake.push(bars.iloc[n:n + 1].reset_index(drop=True))
        serve_command._fold(lake)
        loose.append(int(lake.bars.snapshot().files.bucket.isna().sum()))
    assert max(loose) == 4 and len(lake.read()) == 12 and not lake.read().duplicated("ts").any()
