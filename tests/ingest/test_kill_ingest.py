"""`kill -9` at random moments of a whole ingest: the store opens, keeps what it had, and a repetition
completes it exactly."""

import random
import subprocess
import sys
import time

import pandas as pd
import pytest

from mlfin.ingest.store_update import update
from mlfin.store.lake import Lake

from .test_ingest_update import SYMBOLS, content, dirty

WORK = """
import sys
import mlfin.ingest.store_update as module
from mlfin.ingest import source_request
source_request._BESIDE = 1
import deltalake, pyarrow.parquet, pyarrow.csv, pyarrow.ipc
print("ready", flush=True)
done = module.update(sys.argv[1], timeframes="1m", tz="UTC", store=sys.argv[2], memory=1)
print(done.failed, flush=True)
"""


def start(path, lake):
    running = subprocess.Popen([sys.executable, "-W", "ignore", "-c", WORK, str(path), str(lake)],
                               stdout=subprocess.PIPE, text=True)
    assert running.stdout.readline() == "ready\n"
    return running


def killed(folder, times, seed, capsys):
    """Kill so many ingests, each of a file with a little more; how many were under way."""
    chance, path, lake, had = random.Random(seed), folder / "x.csv", folder / "lake", {}
    whole = dirty(2_000)
    whole.to_csv(path, index=False)
    update(path, timeframes="1m", tz="UTC", store=folder / "clean")
    clean = content(Lake(folder / "clean"))
    truth = clean[0].set_index(["symbol", "ts"])[["open", "high", "low", "close", "volume"]]
    begun = time.monotonic()
    assert start(path, folder / "timed").communicate()[0] == "False\n"
    seconds, under_way, complete = time.monotonic() - begun, 0, 0
    for n in range(times):
        if len(had) == len(truth):  # it is complete: begin again with another store
            lake, had, complete = folder / f"lake{n}", {}, complete + 1
        running = start(path, lake)
        time.sleep(chance.uniform(0, seconds))
        running.kill()
        late = running.communicate()[0] != ""
        under_way += not late
        if late:  # the machine became faster than it was when the clock was read
            seconds *= 0.85
        store = Lake(lake)
        found = store.read(timeframe="1m")
        assert not found.duplicated(["symbol", "ts"]).any()
        rows = found.set_index(["symbol", "ts"])[truth.columns]
        pd.testing.assert_frame_equal(rows, truth.loc[rows.index])  # nothing but what the file has
        assert set(had) <= set(rows.index)  # what was committed before is there
        had = dict.fromkeys(rows.index)
        assert not store.read_quarantine().duplicated(["origin", "row", "reason"]).any()
    done = update(path, timeframes="1m", tz="UTC", store=lake)
    assert not done.failed and list(done.series.symbol) == list(SYMBOLS)
    for one, two in zip(content(Lake(lake)), clean, strict=True):
        pd.testing.assert_frame_equal(one, two)
    assert not (lake / "incoming").exists()  # what the dead left was taken away
    with capsys.disabled():
        print(f"\n{times} kills of an ingest of {seconds:.1f} s, {under_way} under way, {complete} stores "
              f"completed:"
              " none lost a committed row, none has one twice, each opens, the last is exact", end=" ")
    return under_way


@pytest.mark.slow
def test_kill_an_ingest_of_many_parts_twice(tmp_path, capsys):
    assert killed(tmp_path, 2, 1, capsys) >= 1


@pytest.mark.long
def test_kill_an_ingest_of_many_parts_fifty_times(tmp_path, capsys):
    assert killed(tmp_path, 50, 2, capsys) >= 25
