"""`kill -9` of the whole server while bars come in: every bar that was answered with 200 is there, with its
values, once."""
import os
import random
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from ..fixtures.served import BROKEN, FIRST, Served, bar, key_of, postgresql, price, project

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")


class Sender(threading.Thread):
    """Posts batch after batch of two symbols; half of each was in the one before. What was not answered is
    sent again."""
    def __init__(self, server: Served, key: str, number: int, rows: int):
        super().__init__(daemon=True)
        self.server, self.key, self.symbols, self.rows = server, key, (f"S{number}A", f"S{number}B"), rows
        self.batch, self.answered, self.broken, self.wrong = 0, 0, [], []
        self.up, self.end = threading.Event(), threading.Event()

    def minutes(self, batch: int) -> range:
        return range(batch * self.rows // 2, batch * self.rows // 2 + self.rows)

    def bars(self, batch: int) -> list[dict]:
        return [bar(symbol, minute) for symbol in self.symbols for minute in self.minutes(batch)]

    def run(self):
        line = self.server.line()
        while not self.end.is_set():
            if not self.up.wait(0.1): continue
            bars = self.bars(self.batch)
            try:
                status, _, told = self.server.ask("POST", "/v1/ingest", {"bars": bars, "source": "kill"},
                                                  self.key, line=line)
            except ConnectionRefusedError: time.sleep(0.02)  # it is not there: nothing was sent
            except BROKEN:
                self.broken.append(self.batch)
                self.up.clear()
                line.close()
            else:
                if status == 503: time.sleep(0.05)
                elif status != 200 or told["stored"] != len(bars) or told["refused"]:
                    self.wrong.append((status, told))
                else: self.answered, self.batch = self.answered + 1, self.batch + 1
        line.close()


def opened(settings):
    from mlfin.warehouse.opening import open_store

    return open_store(settings)


def check(settings, senders) -> tuple[int, int]:
    """Look into the store while nobody serves: how many bars it has, and how many batches came in whole that
    nobody was told of."""
    rows, untold = 0, 0
    found = (opened(settings).read(timeframe="1m") if any(s.batch for s in senders)
             else pd.DataFrame(columns=["symbol", "ts", "close", "volume"]))
    assert not found.duplicated(["symbol", "ts"]).any()
    found = found.assign(
        minute=((pd.to_datetime(found.ts, utc=True) - FIRST) // pd.Timedelta("1min")).astype("int64"))
    for sender in senders:
        ahead = set()
        for symbol in sender.symbols:
            own = found[found.symbol == symbol]
            rows += len(own)
            assert (own.close == [price(symbol, m)
                                  for m in own.minute]).all() and (own.volume == 10).all(), symbol
            there = set(own.minute)
            owed = (set(sender.minutes(sender.batch - 1)) | set(range(sender.minutes(sender.batch - 1).start))
                    if sender.batch else set())
            more = set(sender.minutes(sender.batch)) - owed
            assert owed <= there, f"{len(owed - there)} answered bars of {symbol} are lost"
            assert there - owed in (
                set(), more), f"{len(there - owed)} of {len(more)} bars of one batch of {symbol} are there"
            ahead.add(bool(there - owed))
        assert len(ahead) == 1, "half a batch is there"
        untold += ahead == {True}
    return rows, untold


def shown(server, key, senders) -> None:
    """The newest bar of each symbol over HTTP: the last one answered, or one of the batch that was under
    way."""
    status, _, told = server.ask("GET", "/v1/prices/latest?timeframe=1m&limit=1000", key=key)
    assert status == 200, told
    items = {i["symbol"]: i for i in told["items"]}
    for sender in senders:
        for symbol in sender.symbols if sender.batch else ():
            minute = int((pd.Timestamp(items[symbol]["ts"]) - FIRST) / pd.Timedelta("1min"))
            assert minute in (sender.minutes(sender.batch - 1)[-1], sender.minutes(sender.batch)[-1])
            assert items[symbol]["close"] == price(symbol, minute)


def folds(settings) -> int:
    """Commits of a lake's table of bars; 0 for a warehouse."""
    log = Path(settings.store) / "bars" / "_delta_log"
    return len(os.listdir(log)) if log.is_dir() else 0


def killed(settings, server, key, times: int, seed: int, rows: int = 100, senders: int = 4,
           sometimes_folding: bool = False) -> dict:
    """Kill so many times: somewhere in the writes, and now and then at the moment at which a fold was
    committed."""
    chance, crowd = random.Random(seed), [Sender(server, key, n, rows) for n in range(senders)]
    tally = dict(kills=0, into_requests=0, at_folds=0, untold=0, seconds=[])
    for sender in crowd: sender.start()
    try:
        for n in range(times):
            tally["seconds"].append(server.start())
            shown(server, key, crowd)
            before, broken = sum(s.answered for s in crowd), sum(len(s.broken) for s in crowd)
            for sender in crowd: sender.up.set()
            enough = chance.randrange(4, 12)
            server.until(lambda: sum(s.answered for s in crowd) >= before + enough, 120, 0.002)  # noqa: B023
            if sometimes_folding and n % 3 == 2:
                seen = folds(settings)
                server.until(lambda: folds(settings) > seen, 60, 0.0005)  # noqa: B023
                tally["at_folds"] += 1
            else: time.sleep(chance.uniform(0.0, 0.3))
            server.kill()
            for sender in crowd: sender.up.clear()
            time.sleep(0.2)  # a sender that was about to ask is refused, and waits
            tally["kills"] += 1
            tally["into_requests"] += sum(len(s.broken) for s in crowd) > broken
            tally["untold"] += check(settings, crowd)[1]
        return tally | finish(settings, server, key, crowd, tally['seconds'])
    finally:
        for sender in crowd: sender.end.set()
        for sender in crowd: sender.join(60)
        server.stop()


def finish(settings, server, key, crowd, seconds) -> dict:
    """The last start: sending again is harmless, and an end in peace leaves the same bars."""
    server.start()
    assert not any(s.wrong for s in crowd), [s.wrong[:1] for s in crowd]
    # one request of each is under way when a server dies
    assert all(len(s.broken) <= len(seconds) for s in crowd)
    before = opened(settings).read(timeframe="1m")
    for sender in crowd:
        for batch in range(max(sender.batch - 3, 0), sender.batch):
            status, _, told = server.ask("POST", "/v1/ingest",
                                         {"bars": sender.bars(batch), "source": "again"}, key)
            assert status == 200 and told["stored"] == 2 * sender.rows and not told["refused"]
    pd.testing.assert_frame_equal(opened(settings).read(timeframe="1m"), before)
    assert server.stop() == 0
    after = opened(settings)
    pd.testing.assert_frame_equal(after.read(timeframe="1m"), before)
    # all of it is in the table, nothing only pushed
    pd.testing.assert_frame_equal(after.read(timeframe="1m", version=after.version()), before)
    assert after.read_quarantine().empty
    return dict(bars=check(settings, crowd)[0], answered=sum(s.answered for s in crowd),
                unanswered=sum(len(s.broken) for s in crowd))


def say(tally: dict, capsys) -> None:
    with capsys.disabled():
        print(f"\n{tally['kills']} kills, {tally['into_requests']} with requests under way, "
              f"{tally['at_folds']} just after a fold was committed: "
              f"{tally['answered']} batches answered, {tally['unanswered']} broken off and sent again, of "
              f"which {tally['untold']} had been stored whole; "
              f"{tally['bars']:,} bars, lost 0, twice 0; start to answer {max(tally['seconds']):.1f} s "
              f"at most", end=" ")


@pytest.mark.slow
def test_a_kill_under_load(tmp_path, capsys):
    settings, environment = project(tmp_path)
    tally = killed(settings, Served(tmp_path, environment), key_of(settings), 1, seed=1)
    say(tally, capsys)
    assert tally["answered"] >= 4 and tally["into_requests"] == 1


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_twenty_kills_under_load(tmp_path, capsys, workers):
    settings, environment = project(tmp_path)
    tally = killed(settings, Served(tmp_path, environment, workers), key_of(settings), 20, seed=2 + workers,
                   sometimes_folding=True)
    say(tally, capsys)
    assert tally["answered"] >= 80 and tally["into_requests"] >= 15 and tally["at_folds"] == 6


@pytest.mark.slow
def test_five_kills_under_load_on_postgresql(tmp_path, capsys):
    with postgresql() as server:
        settings, environment = project(tmp_path, store=server.url())
        tally = killed(settings, Served(tmp_path, environment), key_of(settings), 5, seed=5)
    say(tally, capsys)
    assert tally["answered"] >= 20 and tally["into_requests"] >= 3
