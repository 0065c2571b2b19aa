"""Pushed bars: many senders at once, the same bars twice, bad ones among good ones, a full line, a store that is away."""
import threading

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.data.lake import Lake
from mlfin.serve.intake import Busy, Intake, pushed_frame


def columns(symbol="A", first=0, count=20, base=100.0):
    ts = pd.date_range("2024-01-02", periods=count, freq="min", tz="UTC") + pd.Timedelta(minutes=first)
    close = base + np.arange(first, first + count)
    return dict(symbol=[symbol] * count, ts=list(ts), open=close, high=close + 1, low=close - 1, close=close, volume=np.ones(count))


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def test_many_senders_lose_nothing_and_nothing_is_there_twice(lake):
    intake, told = Intake(lake), []

    def send(symbol):
        for first in range(0, 200, 20):
            for _ in range(2):  # a sender that did not hear the answer
                told.append(intake.put(pushed_frame(columns(symbol, first), "1m"), symbol).result(timeout=60))

    threads = [threading.Thread(target=send, args=(f"S{n}",)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    intake.close()
    assert sum(t.accepted for t in told) == 4 * 2 * 200 and not any(t.quarantined for t in told)
    for opened in (lake, Lake(lake.path)):
        assert opened.read(timeframe="1m").groupby("symbol").size().to_dict() == {f"S{n}": 200 for n in range(4)}
    assert lake.fold().inserted == 800 and len(lake.read(timeframe="1m")) == 800


def test_each_batch_hears_of_its_own_bad_bars(lake):
    intake = Intake(lake)
    bad = columns("B", count=4)
    bad["low"][1], bad["close"][2], bad["ts"][3] = -5.0, np.nan, bad["ts"][3] + pd.Timedelta(seconds=7)
    good, told = intake.put(pushed_frame(columns("A"), "1m"), "good"), intake.put(pushed_frame(bad, "1m"), "bad")
    assert (good.result(60).accepted, good.result().reasons) == (20, [])
    assert told.result(60).accepted == 1 and [r["row"] for r in told.result().reasons] == [1, 2, 3]
    assert all(r["reason"] for r in told.result().reasons)
    intake.close()
    assert sorted(lake.read_quarantine("bad").row) == [1, 2, 3] and len(lake.read(["B"], "1m")) == 1


def test_bars_of_the_future_and_that_still_form_are_set_aside(lake):
    now, intake = pd.Timestamp.now("UTC").floor("min"), Intake(lake)
    given = columns(count=3) | {"ts": [now - pd.Timedelta("1min"), now, now + pd.Timedelta("1D")]}
    told = intake.put(pushed_frame(given, "1m"), "x").result(60)
    intake.close()
    assert (told.accepted, [r["row"] for r in told.reasons]) == (1, [1, 2])


def test_one_batch_with_a_bar_twice(lake):
    intake = Intake(lake)
    twice = columns(count=2) | {"ts": [columns(count=1)["ts"][0]] * 2, "close": np.array([100.0, 100.0]), "open": np.array([100.0, 100.0])}
    twice |= {"high": np.array([101.0, 101.0]), "low": np.array([99.0, 99.0])}
    assert intake.put(pushed_frame(twice, "1m"), "x").result(60).accepted == 2 and len(lake.read(["A"], "1m")) == 1
    intake.close()


def test_a_full_line_refuses_before_it_takes_anything(lake):
    hold, held = threading.Event(), threading.Event()

    class Slow:
        def push(self, bars, origin="push"):
            held.set()
            hold.wait(30)
            return lake.push(bars, origin)

    intake = Intake(Slow(), waiting=30)
    first = intake.put(pushed_frame(columns("A"), "1m"), "x")
    assert held.wait(30)
    with pytest.raises(Busy, match="none of it was taken"):
        intake.put(pushed_frame(columns("B"), "1m"), "x")
    hold.set()
    assert first.result(60).accepted == 20
    intake.close()
    with pytest.raises(Busy):
        intake.put(pushed_frame(columns("C"), "1m"), "x")


def test_a_store_that_is_away_is_told_and_the_next_batch_is_taken(lake):
    class Away:
        gone = True

        def push(self, bars, origin="push"):
            if self.gone:
                raise DataError("The lake could not be written.")
            return lake.push(bars, origin)

    store = Away()
    intake = Intake(store)
    with pytest.raises(DataError, match="could not be written"):
        intake.put(pushed_frame(columns("A"), "1m"), "x").result(60)
    store.gone = False
    assert intake.put(pushed_frame(columns("A"), "1m"), "x").result(60).accepted == 20 and intake.depth() >= 0
    intake.close()
    assert len(lake.read(["A"], "1m")) == 20


def test_names_are_only_names(lake):
    intake, odd = Intake(lake), "A'; DROP TABLE bars; --"
    assert intake.put(pushed_frame(columns(odd), "1m"), "x").result(60).accepted == 20
    intake.close()
    assert len(lake.read([odd], "1m")) == 20
