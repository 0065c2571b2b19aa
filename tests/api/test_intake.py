"""Pushed bars: many senders at once, the same bars twice, bad ones among good ones, a full line, a store that
is away."""
import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mlfin.core.errors import DataError
from mlfin.store.lake import Lake
from mlfin.api.contract import IngestRequest
from mlfin.api.intake import Busy, Intake, judge_pushed, pushed_frame, quick_batch
from mlfin.api.service import frame_of_bars


def columns(symbol="A", first=0, count=20, base=100.0):
    ts = pd.date_range("2024-01-02", periods=count, freq="min", tz="UTC") + pd.Timedelta(minutes=first)
    close = base + np.arange(first, first + count)
    return dict(symbol=[symbol] * count, ts=list(ts), open=close, high=close + 1, low=close - 1, close=close,
                volume=np.ones(count))


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
        assert (opened.read(timeframe="1m").groupby("symbol").size().to_dict()
                == {f"S{n}": 200 for n in range(4)})
    assert lake.flush().inserted == 800 and len(lake.read(timeframe="1m")) == 800


def test_each_batch_hears_of_its_own_bad_bars(lake):
    intake = Intake(lake)
    bad = columns("B", count=4)
    bad["low"][1], bad["close"][2], bad["ts"][3] = -5.0, np.nan, bad["ts"][3] + pd.Timedelta(seconds=7)
    good, told = (intake.put(pushed_frame(columns("A"), "1m"), "good"),
                  intake.put(pushed_frame(bad, "1m"), "bad"))
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


@pytest.mark.parametrize("timeframe, fine, odd", [("1h", "10:00", "10:12"), ("1h", "09:30", "09:31"),
                                                  ("4h", "05:45", "05:44"), ("30m", "09:15", "09:20"),
                                                  ("5m", "09:35", "09:36"), ("15m", "09:45", "09:50")])
def test_a_bar_begins_where_its_timeframe_can(timeframe, fine, odd):
    given = columns(count=2) | {"ts": [pd.Timestamp(f"2024-01-02 {at}", tz="UTC") for at in (fine, odd)]}
    kept, reasons = judge_pushed(pushed_frame(given, timeframe))
    assert kept.ts.tolist() == given["ts"][:1]
    assert reasons == {1: "no bar of its timeframe begins at that minute"}


def test_a_spread_that_counts_points_is_set_aside(lake):
    intake = Intake(lake)
    taken = intake.put(pushed_frame(columns() | {"spread": [0.02] * 19 + [62.0]}, "1m"), "mt5").result(60)
    intake.close()
    assert (taken.accepted, taken.quarantined) == (19, 1)
    assert "does it count points?" in taken.reasons[0]["reason"]
    assert lake.read(["A"], "1m").spread.max() == 0.02


def test_one_batch_with_a_bar_twice(lake):
    intake = Intake(lake)
    twice = columns(count=2) | {"ts": [columns(count=1)["ts"][0]] * 2, "close": np.array([100.0, 100.0]),
                                "open": np.array([100.0, 100.0])}
    twice |= {"high": np.array([101.0, 101.0]), "low": np.array([99.0, 99.0])}
    assert intake.put(pushed_frame(twice, "1m"), "x").result(60).accepted == 2
    assert len(lake.read(["A"], "1m")) == 1
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


def test_who_stops_waiting_neither_takes_a_batch_back_nor_ends_the_thread(lake):
    intake = Intake(lake)

    async def impatient():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.wrap_future(intake.put(pushed_frame(columns("A"), "1m"), "impatient"))
    with ThreadPoolExecutor(1) as thread: thread.submit(asyncio.run, impatient()).result(60)
    assert intake.put(pushed_frame(columns("B"), "1m"), "patient").result(60).accepted == 20
    intake.close()
    assert lake.read(timeframe="1m").groupby("symbol").size().to_dict() == {"A": 20, "B": 20}


@pytest.mark.parametrize("ts", ["0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "1899-12-31T23:59:00Z"])
def test_a_stamp_that_is_no_market_s_is_for_the_contract(ts):
    bar = dict(symbol="A", timeframe="1m", ts=ts, open=1.0, high=1.0, low=1.0, close=1.0, volume=1.0)
    assert quick_batch(json.dumps({"bars": [bar]}).encode()) is None
    assert quick_batch(json.dumps({"bars": [bar | {"ts": "1900-01-01T00:00:00Z"}]}).encode()) is not None


def test_names_are_only_names(lake):
    intake, odd = Intake(lake), "A'; DROP TABLE bars; --"
    assert intake.put(pushed_frame(columns(odd), "1m"), "x").result(60).accepted == 20
    intake.close()
    assert len(lake.read([odd], "1m")) == 20


GOOD = dict(symbol="EURUSD", timeframe="M1", ts="2024-01-31T14:30:00Z", open=1.1, high=1.2, low=1.0,
            close=1.15, volume=10)
ODD = st.one_of(st.none(), st.booleans(), st.integers(-10**20, 10**20), st.floats(), st.text(max_size=8),
                st.just([1]), st.just({"a": 1}),
                st.sampled_from(["A B", "BTC/USDT", "1m", "H1", "7m", "2024-01-31T14:30:00",
                                 "2024-01-31T14:30:00.5Z", "2024-02-31T14:30:00Z",
                                 "2024-01-31 14:30:00Z", "2024-01-31T14:30:00+00:00",
                                 "2024-01-31T14:30:00+01:00", "2999-01-01T00:00:00Z", 10**400]))
CHANGES = st.lists(st.tuples(st.sampled_from([*GOOD, "time", "vwap", "trades", "spread", "x"]), ODD,
                             st.booleans()), max_size=3)


# hours of markets that never close
ALWAYS = SimpleNamespace(of=lambda symbols, timeframe: dict.fromkeys(symbols, "24/7"))


@settings(max_examples=400)
@given(bars=st.lists(CHANGES, min_size=1, max_size=3), everywhere=CHANGES,
       more=st.sampled_from([{}, {"source": "mt5"}, {"source": "a b"}, {"x": 1}]))
def test_the_quick_look_takes_nothing_that_the_contract_refuses_and_sees_the_same_bars(
        bars, everywhere, more):
    made = []
    for changes in bars:
        bar = dict(GOOD)
        for name, value, gone in [*everywhere, *changes]:
            if gone:
                bar.pop(name, None)
            else:
                bar[name] = value
        made.append(bar)
    body = json.dumps({"bars": made, **more}).encode()
    quick = quick_batch(body)
    try:
        request = IngestRequest.model_validate_json(body)
    except ValidationError:
        assert quick is None, body
        return
    if quick is not None:
        assert (len(quick), quick.source) == (len(request.bars), request.source)
        pd.testing.assert_frame_equal(pushed_frame(quick.columns, quick.timeframe),
                                      frame_of_bars(request.bars, ALWAYS))


def test_the_quick_look_takes_what_collectors_send():
    for bar in (GOOD, GOOD | {"vwap": 1.1, "trades": 3, "spread": 0.0},
                {k: v for k, v in GOOD.items() if k != "ts"} | {"time": 1_700_000_040},
                GOOD | {"ts": "2024-01-31T14:30:00.000000+00:00"},
                GOOD | {"symbol": "BTC/USDT", "timeframe": "1m"}):
        body = json.dumps({"bars": [bar] * 3, "source": "mt5"}).encode()
        found, request = quick_batch(body), IngestRequest.model_validate_json(body)
        pd.testing.assert_frame_equal(pushed_frame(found.columns, found.timeframe),
                                      frame_of_bars(request.bars, ALWAYS))


def test_a_name_that_ends_in_a_line_break_is_for_the_contract_to_refuse():
    from mlfin.api.intake import quick_batch

    def body(symbol: str, more: str = "") -> bytes:
        bar = (f'"symbol": "{symbol}", "timeframe": "1m", "ts": "2024-01-01T00:00:00Z", "open": 1, "high": '
               f'1, "low": 1, "close": 1, "volume": 1')
        return f'{{{more}"bars": [{{{bar}}}]}}'.encode()
    assert quick_batch(body("AAA")) is not None
    assert quick_batch(body("AAA\\n")) is None and quick_batch(body("AAA", '"source": "mine\\n", ')) is None
