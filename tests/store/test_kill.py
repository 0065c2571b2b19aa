"""`kill -9` at random moments: what was answered is there, once; what was not is there whole or not at
all."""

import random
import subprocess
import sys
import time

import pandas as pd
import pytest

from mlfin.market.bars import as_bars
from mlfin.market.calendars import expected_bars
from mlfin.ingest.ingest import ingest
from mlfin.store.lake import Lake

WORK = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_kill import batch
from mlfin.store.lake import Lake
lake, n = Lake(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
while True:
    kind = ("write", "push", "push", "flush", "write", "push", "compact", "revise")[n % 8]
    if kind in ("write", "push"): getattr(lake, kind)(batch(n))
    elif kind == "revise": lake.write(batch(n - 3).assign(volume=float(n)))
    else: getattr(lake, kind)()
    print(n, flush=True)
    n += 1
"""
ROWS, SYMBOLS = 40, ("A", "B/../C", "D")


def batch(n: int) -> pd.DataFrame:
    """The bars of step n: some minutes of three symbols, of which the first half was in the step before."""
    start = pd.Timestamp("2024-01-01", tz="UTC") + pd.Timedelta(minutes=n * ROWS // 2)
    minutes = expected_bars("24/7", "1m", start, start + pd.Timedelta(minutes=ROWS - 1))
    price = 100.0 + (minutes.ts.astype("int64") // 60_000_000 % 97)
    return as_bars(pd.concat([
        minutes.assign(symbol=s, timeframe="1m", open=price, high=price + 1, low=price - 1, close=price,
                       volume=10.0) for s in SYMBOLS]))


def check(path, answered: list[int], tried: int) -> None:
    """The lake opens, holds every row of each answered step once, and nothing but rows of steps that were
    tried."""
    steps = [n for n in answered if n % 8 in (0, 1, 2, 4, 5)]
    lake = Lake(path)
    found = lake.read(timeframe="1m") if steps or lake.version() >= 0 else lake.read()
    assert not found.duplicated(["symbol", "ts"]).any()
    price = 100.0 + (found.ts.astype("int64") // 60_000_000 % 97)
    assert (found.close == price).all() and (found.high == price + 1).all()
    held = set(zip(found.symbol, found.ts, strict=True))
    owed = {(s, t) for n in steps for s, t in batch(n)[["symbol", "ts"]].itertuples(index=False)}
    may = owed | {(s, t) for s, t in batch(tried)[["symbol", "ts"]].itertuples(index=False)}
    assert owed <= held <= may, (len(owed - held), len(held - may))
    revised = [n for n in answered if n % 8 == 7]
    volume = found.set_index(["symbol", "ts"]).volume
    for n in revised[-3:]:
        later = {key for m in steps if m > n
                 for key in batch(m)[["symbol", "ts"]].itertuples(index=False, name=None)}
        rows = [key for key in batch(n - 3)[["symbol", "ts"]].itertuples(index=False, name=None)
                if key not in later]
        assert all(volume[key] == n for key in rows), n


def killed(folder, times: int, seed: int) -> int:
    """Kill a writer so many times; how many steps were answered."""
    from pathlib import Path

    chance, answered, path = random.Random(seed), [], folder / "lake"
    for _ in range(times):
        begin = answered[-1] + 1 if answered else 0
        running = subprocess.Popen([sys.executable, "-c", WORK, str(Path(__file__).parent), str(path),
                                    str(begin)],
                                   stdout=subprocess.PIPE, text=True)
        assert running.stdout.readline() == "ready\n"
        for _ in range(chance.randrange(4)):  # as fast as this machine is: then somewhere in the next step
            answered.append(int(running.stdout.readline()))
        time.sleep(chance.uniform(0.0, 0.3))
        running.kill()
        answered += [int(line) for line in running.stdout.read().split("\n")[:-1]]
        running.wait()
        running.stdout.close()
        check(path, answered, answered[-1] + 1 if answered else 0)
    lake = Lake(path)
    before = lake.read(timeframe="1m")
    lake.compact()
    lake.vacuum(0)
    pd.testing.assert_frame_equal(Lake(path).read(timeframe="1m"), before)
    return len(answered)


INGEST = """
import sys
from mlfin.ingest.ingest import ingest
print("ready", flush=True)
done = ingest("builtin", symbols=["AAPL", "IBM"], start=sys.argv[2], store=sys.argv[1])
print(done.written.inserted, flush=True)
"""


@pytest.mark.parametrize("times", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_kill_an_ingest(tmp_path, times):
    chance, starts = random.Random(3), ("2013-06-01", "2005-01-01", "2012-01-01", "2010-01-01", "2000-01-01")
    for start in starts[:times]:
        running = subprocess.Popen([sys.executable, "-c", INGEST, str(tmp_path / "lake"), start],
                                   stdout=subprocess.PIPE, text=True)
        assert running.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.0, 0.6))
        running.kill()
        running.wait()
        running.stdout.close()
        lake = Lake(tmp_path / "lake")
        assert not lake.read().duplicated(["symbol", "ts"]).any()  # it opens, and has every row once
    done = ingest("builtin", symbols=["AAPL", "IBM"], store=tmp_path / "lake")
    clean = ingest("builtin", symbols=["AAPL", "IBM"], store=tmp_path / "clean")
    pd.testing.assert_frame_equal(done.bars, clean.bars)
    for read in ("read", "read_actions", "read_quarantine"):
        pd.testing.assert_frame_equal(getattr(Lake(tmp_path / "lake"), read)(),
                                      getattr(Lake(tmp_path / "clean"), read)())
    assert not Lake(tmp_path / "lake").read_quarantine().duplicated(["origin", "row", "reason"]).any()


@pytest.mark.slow
def test_kill_three_times(tmp_path):
    assert killed(tmp_path, 3, seed=1) > 0


@pytest.mark.long
def test_kill_fifty_times(tmp_path):
    assert killed(tmp_path, 50, seed=2) > 50
