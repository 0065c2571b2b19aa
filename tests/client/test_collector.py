"""Collectors: MetaTrader's clocks on real rates, an outbox that survives, a service that is not well, and
kills on both sides with every bar there once."""
import http.client
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from mlfin.core.errors import DataError, ParameterError  # noqa: E402
from mlfin.market.bars import as_bars  # noqa: E402
from mlfin.warehouse.opening import open_store  # noqa: E402
from mlfin.client import bar_sources  # noqa: E402
from mlfin.client.bar_sources import BarsSource, follow  # noqa: E402
from mlfin.client.client import Client, NoAnswerError, ServiceError  # noqa: E402
from mlfin.client.collector import Collector  # noqa: E402
from mlfin.client.metatrader import MetaTraderSource, rates_bars, server_utc  # noqa: E402
from mlfin.client.outbox import Outbox, OutboxFull  # noqa: E402
from mlfin.cli.app import app  # noqa: E402

from ..fixtures import live_server  # noqa: E402
from ..fixtures.real_server import told  # noqa: E402
from ..fixtures.served import command  # noqa: E402

MARKET = Path(__file__).parents[2].parent / "shared" / "data" / "market"
EURUSD = MARKET / "mt5_eurusd_m1_hedgehogger" / "EURUSD_M1_90-100k.csv"
US30 = MARKET / "mt5_us30m" / "US30m_H1_202401012300_202509082200.csv"
BITCOIN = MARKET / "freqtrade" / "UNITTEST_BTC-1m.feather"
real = pytest.mark.skipif(
    not EURUSD.is_file(), reason="the real bars lie in shared/data beside the checkout, and are not there"
)
RATES = [
    ("time", "i8"),
    ("open", "f8"),
    ("high", "f8"),
    ("low", "f8"),
    ("close", "f8"),
    ("tick_volume", "u8"),
    ("spread", "i4"),
    ("real_volume", "u8"),
]


# --- MetaTrader's rates


def as_rates(frame, tz):
    """A frame of bars in UTC as a terminal would give it whose server is in a zone: the wall clock as if it
    were UTC."""
    rates = np.zeros(len(frame), dtype=RATES)
    rates["time"] = frame.ts.dt.tz_convert(tz).dt.tz_localize(None).astype("datetime64[s]").astype("int64")
    for ours, theirs in (
        ("open", "open"),
        ("high", "high"),
        ("low", "low"),
        ("close", "close"),
        ("ticks", "tick_volume"),
        ("spread", "spread"),
    ):
        rates[theirs] = frame[ours]
    return rates


@pytest.fixture(scope="module")
def euro():
    """9,999 real minutes, spread in points."""
    frame = pd.read_csv(
        EURUSD,
        sep="\t",
        header=0,
        names=["ts", "open", "high", "low", "close", "ticks", "spread"],
        index_col=False,
    )
    return frame.assign(ts=pd.to_datetime(frame.ts, utc=True))


@pytest.fixture(scope="module")
def dow():
    """9,890 real hours over four changes of the clocks."""
    frame = pd.read_csv(US30, sep="\t")
    frame.columns = ["date", "time", "open", "high", "low", "close", "ticks", "volume", "spread"]
    return frame.assign(
        ts=pd.to_datetime(frame.date + " " + frame.time, format="%Y.%m.%d %H:%M:%S", utc=True)
    )


@real
@pytest.mark.parametrize(
    "tz, zone",
    [
        ("Europe/Athens", "Europe/Athens"),
        ("UTC", "UTC"),
        ("UTC+2", "Etc/GMT-2"),
        ("Asia/Dubai", "Asia/Dubai"),
    ],
)
def test_real_minutes_come_back_to_utc(euro, tz, zone):
    bars = rates_bars(as_rates(euro, zone), "EURUSD", "M1", tz, point=0.00001, wait=0)
    assert (bars.ts.array == euro.ts.array.as_unit("us")).all() and set(bars.timeframe) == {"1m"}
    assert set(bars.symbol) == {"EURUSD"}
    for name in ("open", "high", "low", "close"):
        np.testing.assert_array_equal(bars[name], euro[name])
    np.testing.assert_array_equal(bars.volume, euro.ticks)
    np.testing.assert_allclose(bars.spread, euro.spread * 0.00001, rtol=0, atol=1e-12)
    assert ((bars.known_at - bars.ts) == pd.Timedelta("1min")).all()


@real
def test_clocks_that_change_with_athens_or_with_new_york(dow):
    """Twenty months of hours: both ways of keeping a server's clock, told apart by the weeks in which they
    disagree."""
    athens = as_rates(dow, "Europe/Athens")
    york = as_rates(dow, "America/New_York")
    york["time"] += 7 * 3600
    assert (athens["time"] != york["time"]).sum() > 100
    for rates, tz in ((athens, "Europe/Athens"), (york, "America/New_York+7")):
        bars = rates_bars(rates, "US30", "H1", tz, point=0.1)
        assert (bars.ts.array == dow.ts.array.as_unit("us")).all()
    assert (
        rates_bars(york, "US30", "H1", "Europe/Athens").ts.array != dow.ts.array.as_unit("us")
    ).sum() > 100


def quiet(hours, zone, start):
    """Hours of a market that never closes."""
    ts = pd.date_range(start, periods=hours, freq="h", tz="UTC")
    return pd.DataFrame(
        dict(ts=ts, open=1.0, high=1.0, low=1.0, close=np.arange(hours) + 1.0, ticks=1, spread=1)
    ).assign(high=hours + 1.0)


def test_the_hour_that_comes_twice():
    market = quiet(30, "Europe/Athens", "2024-10-26 12:00")
    both = rates_bars(as_rates(market, "Europe/Athens"), "BTCUSD", "H1", "Europe/Athens")
    assert (both.ts.array == market.ts.array.as_unit("us")).all()  # their order tells the passes apart
    once = as_rates(market[market.ts != "2024-10-27 01:00Z"], "Europe/Athens")
    with pytest.raises(DataError, match="ambiguous='first' or 'second'"):
        rates_bars(once, "BTCUSD", "H1", "Europe/Athens")
    assert pd.Timestamp("2024-10-27 00:00Z") in set(
        rates_bars(once, "BTCUSD", "H1", "Europe/Athens", ambiguous="first").ts
    )
    assert pd.Timestamp("2024-10-27 01:00Z") in set(
        rates_bars(once, "BTCUSD", "H1", "Europe/Athens", ambiguous="second").ts
    )
    live = as_rates(
        market[market.ts <= "2024-10-27 00:00Z"], "Europe/Athens"
    )  # while it goes on, the second pass is still ahead
    assert rates_bars(
        live, "BTCUSD", "H1", "Europe/Athens", now="2024-10-27 00:59Z"
    ).ts.max() == pd.Timestamp("2024-10-26 23:00Z")
    assert rates_bars(
        live, "BTCUSD", "H1", "Europe/Athens", now="2024-10-27 01:00:03Z", ambiguous="first"
    ).ts.max() == pd.Timestamp("2024-10-27 00:00Z")


def test_a_market_that_never_closes_is_followed_through_the_hour_that_comes_twice(tmp_path, monkeypatch):
    """Minute by minute, looked at each quarter of an hour: every bar once, in its own pass."""
    hours = quiet(5 * 60, "UTC", "2024-10-26 22:00")
    hours["ts"] = pd.date_range("2024-10-26 22:00", periods=len(hours), freq="min", tz="UTC")
    terminal, service = Terminal(as_rates(hours, "Europe/Athens"), 0), Kept()

    class Clock(pd.Timestamp):
        @classmethod
        def now(cls, tz=None): return clock[0]

    clock = [None]
    monkeypatch.setattr("mlfin.client.metatrader.pd.Timestamp", Clock)
    for terminal.shown in range(30, 301, 15):
        clock[0] = hours.ts[terminal.shown - 1] + pd.Timedelta("30s")
        with closing(Collector(service, tmp_path / "box.sqlite")) as collector:
            assert follow(
                collector,
                MetaTraderSource(terminal, {"EURUSD.m": "EURUSD"}, "M1", "Europe/Athens"),
                threading.Event(),
                None,
            )
    assert [ts for _, ts in service.bars] == list(hours.ts[:299].dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert service.twice == 0
    assert max(terminal.asked[1:]) < 250


def test_what_was_forming_when_the_terminal_answered_is_not_taken_for_closed(tmp_path, monkeypatch):
    """A terminal that is slow, or a machine that slept: the bar's minute is over when the answer is read, and
    its values are of before."""
    hours, clock, service = quiet(1, "UTC", "2024-07-01 10:00"), [None], Kept()

    class Clock(pd.Timestamp):
        @classmethod
        def now(cls, tz=None): return clock[0]

    class Slow(Terminal):
        def copy_rates_from_pos(self, *asked):
            found = super().copy_rates_from_pos(*asked)
            clock[0] += pd.Timedelta("10s")
            return found

    monkeypatch.setattr("mlfin.client.metatrader.pd.Timestamp", Clock)
    hours["ts"] = pd.date_range("2024-07-01 10:00", periods=len(hours), freq="min", tz="UTC")
    clock[0] = hours.ts.iloc[-1] + pd.Timedelta("55s")
    with closing(Collector(service, tmp_path / "box.sqlite")) as collector:
        look = MetaTraderSource(
            Slow(as_rates(hours, "Europe/Athens"), len(hours)), {"EURUSD.m": "EURUSD"}, "M1", "Europe/Athens"
        )
        assert follow(collector, look, threading.Event(), None)
    assert [ts for _, ts in service.bars] == list(hours.ts[:-1].dt.strftime("%Y-%m-%dT%H:%M:%SZ"))


def test_an_hour_that_was_skipped_shows_a_wrong_zone():
    market = quiet(30, "UTC", "2024-03-30 12:00")
    with pytest.raises(DataError, match="clocks went forward"):
        rates_bars(as_rates(market, "Etc/GMT-2"), "BTCUSD", "H1", "Europe/Athens")


def test_days_end_at_the_server_s_midnight():
    """Server days have 23 and 25 hours where clocks change, and are closed only then."""
    wall = pd.Series(pd.to_datetime(["2024-03-30", "2024-03-31", "2024-10-27", "2024-10-28"], utc=True))
    rates = np.zeros(4, dtype=RATES)
    rates["time"], rates["open"], rates["high"], rates["low"], rates["close"] = (
        wall.astype("datetime64[s, UTC]").astype("int64"),
        1,
        1,
        1,
        1,
    )
    bars = rates_bars(rates, "X", "D1", "Europe/Athens")
    assert [h.total_seconds() / 3600 for h in bars.known_at - bars.ts] == [24, 23, 25, 24]
    assert bars.ts[0] == pd.Timestamp("2024-03-29 22:00Z")


def test_the_forming_bar_stays_where_it_is():
    rates = as_rates(quiet(3, "UTC", "2024-07-01 10:00"), "UTC")
    for now, count in (
        ("2024-07-01 12:59:59Z", 2),
        ("2024-07-01 13:00:01Z", 2),
        ("2024-07-01 13:00:02Z", 3),
        ("2024-07-01 10:30Z", 0),
    ):
        assert len(rates_bars(rates, "X", "H1", "UTC", now=now)) == count


def test_what_is_no_array_of_rates():
    empty = rates_bars(np.zeros(0, dtype=RATES), "EURUSD", "M1", "Europe/Athens", point=0.00001)
    assert len(empty) == 0 and "spread" in empty and str(empty.ts.dtype) == "datetime64[us, UTC]"
    with pytest.raises(DataError, match=r"no rates: \(-2, 'Invalid params'\)"):
        rates_bars(None, "EURUSD", "M1", "UTC", error=(-2, "Invalid params"))
    for odd in ([], np.zeros(3), np.zeros(3, dtype=RATES[:3]), pd.DataFrame({"time": [1]})):
        with pytest.raises(DataError, match="copy_rates_from_pos"):
            rates_bars(odd, "EURUSD", "M1", "UTC")
    for wrong in ({"point": 0}, {"point": float("nan")}, {"volume": "volume"}, {"ambiguous": "third"}):
        with pytest.raises(ParameterError):
            rates_bars(np.zeros(0, dtype=RATES), "EURUSD", "M1", "UTC", **wrong)
    for tz in ("EET+25h", "", "Athens", None, "../etc/passwd"):
        with pytest.raises(ParameterError, match="zone of the broker"):
            server_utc([0], tz)
    twice = as_rates(quiet(2, "UTC", "2024-07-01 10:00"), "UTC")
    twice["time"] = twice["time"][0]
    with pytest.raises(DataError, match="one row a bar"):
        rates_bars(twice, "X", "H1", "UTC")


class Terminal:
    """The module MetaTrader5 over real rates: `shown` of them, the last one forming."""
    TIMEFRAME_M1, TIMEFRAME_H1 = 1, 16385

    def __init__(self, rates, shown, starts=True):
        self.rates, self.shown, self.starts, self.asked = rates, shown, starts, []

    def initialize(self): return self.starts
    def last_error(self): return (-10003, "IPC initialize failed")
    def symbol_select(self, name, on): return name == "EURUSD.m"
    def symbol_info(self, name): return type("SymbolInfo", (), {"point": 0.00001})

    def copy_rates_from_pos(self, name, timeframe, start, count):
        self.asked.append(count)
        return self.rates[:self.shown][-count:] if timeframe == self.TIMEFRAME_M1 else None


@real
def test_a_terminal_is_followed_from_where_it_was_left(euro, tmp_path):
    terminal, service = Terminal(as_rates(euro, "Europe/Athens"), 3_000), Kept()
    now = lambda: euro.ts[terminal.shown - 1] + pd.Timedelta("30s")  # noqa: E731
    for shown in (3_000, 3_001, 3_200):
        terminal.shown = shown
        with closing(Collector(service, tmp_path / "box.sqlite")) as collector:
            look = MetaTraderSource(
                terminal, {"EURUSD.m": "EURUSD"}, "M1", "Europe/Athens", first=2_500, now=now()
            )
            assert follow(collector, look, threading.Event(), None)
    assert list(service.bars) == [("EURUSD", t) for t in euro.ts[500:3_199].dt.strftime("%Y-%m-%dT%H:%M:%SZ")]
    assert service.twice == 0 and terminal.asked[0] == 2_500
    with closing(Collector(service, tmp_path / "box.sqlite")) as collector:
        with pytest.raises(DataError, match="IPC initialize failed"):
            follow(
                collector,
                MetaTraderSource(Terminal(None, 0, False), {"EURUSD.m": "EURUSD"}, "M1", "UTC"),
                threading.Event(),
                None,
            )
        terminal.shown = 3_300
        both = MetaTraderSource(
            terminal, {"GBPUSD": "GBPUSD", "EURUSD.m": "EURUSD"}, "M1", "Europe/Athens", now=now()
        )
        with pytest.raises(DataError, match="no symbol GBPUSD"):
            follow(collector, both, threading.Event(), None)
        assert (
            collector.flush(30) and len(service.bars) == 2_799 and service.twice == 0
        )  # the other symbol was read all the same


# --- the outbox


class closing:
    """A collector, or an outbox, and its end."""
    def __init__(self, what): self.what = what
    def __enter__(self): return self.what
    def __exit__(self, *_): getattr(self.what, "outbox", self.what).close()


class Kept:
    """A service that keeps what it is sent, and answers as it is told to: mishaps are taken one after the
    other, then all is well."""
    def __init__(self, *mishaps): self.mishaps, self.bars, self.twice, self.sizes = list(mishaps), {}, 0, []

    def request(self, method, path, body=None, query=None):
        assert (method, path) == ("POST", "/ingest") and 1 <= len(body["bars"]) <= 5_000
        self.sizes.append(len(body["bars"]))
        mishap = self.mishaps.pop(0) if self.mishaps else None
        if isinstance(mishap, Exception):
            raise mishap
        for bar in body["bars"]:
            key = bar["symbol"], bar["ts"]
            self.twice += key in self.bars
            self.bars[key] = bar
        if mishap == "lost":
            raise NoAnswerError("the line was cut", sent=True)
        return mishap or {"received": len(body["bars"]), "stored": len(body["bars"]), "refused": []}


def minutes(count, symbol="A", first="2024-01-31 10:00", **other):
    ts = pd.date_range(first, periods=count, freq="min", tz="UTC").as_unit("us")
    values = dict(open=1.5, high=2.0, low=1.0, close=1.0 + np.arange(count) / count, volume=3.0) | other
    return as_bars(
        pd.DataFrame(dict(symbol=symbol, timeframe="1m", ts=ts, known_at=ts + pd.Timedelta("1min"), **values))
    )


def problem(status, wait=0.0, **more):
    return ServiceError({"status": status, "title": "no", "detail": f"no: {status}", **more}, wait)


def test_values_come_through_to_the_last_bit(tmp_path):
    rng = np.random.default_rng(0)
    low, high = rng.random(50) * 1e-9, 1e9 + rng.random(50)
    bars = minutes(
        50,
        low=low,
        high=high,
        open=low + 1 / 3,
        close=high - np.pi,
        volume=rng.random(50),
        spread=rng.random(50),
    )
    service = Kept()
    with closing(Collector(service, tmp_path / "box.sqlite")) as collector:
        collector.put(bars)
        assert collector.flush(30)
    for name in ("open", "high", "low", "close", "volume", "spread"):
        assert [b[name] for b in service.bars.values()] == bars[name].tolist()
    assert "vwap" not in next(iter(service.bars.values()))


def test_each_symbol_goes_out_in_the_order_of_time(tmp_path):
    service = Kept()
    with closing(Collector(service, tmp_path / "box.sqlite", batch=7)) as collector:
        for first, symbol in (("11:00", "B"), ("10:00", "B"), ("10:30", "A")):
            collector.put(minutes(20, symbol, f"2024-01-31 {first}"))
        assert collector.flush(30) and len(service.bars) == 60
    for symbol in "AB":
        own = [ts for s, ts in service.bars if s == symbol]
        assert own == sorted(own)


def test_a_full_outbox_says_so_and_drops_nothing(tmp_path):
    with closing(Outbox(tmp_path / "box.sqlite", capacity=25)) as box:
        box.put(minutes(20))
        with pytest.raises(OutboxFull, match="5 more would fit") as full:
            box.put(minutes(6, "B"))
        assert full.value.room == 5 and box.depth() == 20 and box.last("B", "1m") is None
        batch = box.next_batch(10)
        box.acknowledge(batch, {b.id: "no" for b in batch})
        assert box.depth() == 10 and len(box.refused()) == 10
        with pytest.raises(OutboxFull):
            box.put(minutes(6, "B"))  # what was refused takes its room until it is looked at
        assert box.discard_refused() == 10 and box.put(minutes(6, "B")) == 6


def test_a_source_waits_while_the_outbox_is_full(tmp_path):
    heard, service = [], Kept(*[problem(503)] * 4)
    with closing(Collector(service, Outbox(tmp_path / "box.sqlite", capacity=30), batch=10, wait=(0.01, 0.05),
                           on_event=lambda *a: heard.append(a[0]))) as collector:
        assert follow(collector, lambda box: [minutes(40), minutes(50, "B")], threading.Event(), None)
    assert len(service.bars) == 90 and service.twice == 0 and "full" in heard


def test_the_answer_to_old_values_does_not_cross_out_new_ones(tmp_path):
    service = Kept("lost")
    with closing(Collector(service, tmp_path / "box.sqlite", wait=(0.01, 0.05))) as collector:
        collector.put(minutes(3))
        collector.step()
        sent = collector.outbox.next_batch(9)
        collector.put(minutes(1, close=1.99))
        collector.outbox.acknowledge(sent)
        assert [b.message()["close"] for b in collector.outbox.next_batch(9)] == [1.99]
        assert collector.flush(30) and next(iter(service.bars.values()))["close"] == 1.99


def test_a_file_that_is_none_or_cannot_be_written_is_named(tmp_path):
    (tmp_path / "none.sqlite").write_text(
        "this is a letter, not a database, and long enough to be taken for none" * 20
    )
    for path in (tmp_path / "none.sqlite", tmp_path / "none.sqlite" / "box.sqlite"):
        with pytest.raises(DataError, match="outbox .* cannot be used"):
            Outbox(path)
    for most in (0, True, 1.5):
        with pytest.raises(ParameterError):
            Outbox(tmp_path / "box.sqlite", most)


def test_what_is_written_down_is_on_the_disk(tmp_path):
    with closing(Outbox(tmp_path / "box.sqlite")) as box:
        assert box.file.query("PRAGMA journal_mode") == [("wal",)]
        assert box.file.query("PRAGMA synchronous") == [(2,)]
        box.put(minutes(3))
        other = sqlite3.connect(tmp_path / "box.sqlite")  # another process's view, before anything was closed
        assert other.execute("SELECT count(*) FROM waiting").fetchone() == (3,)
        other.close()


def test_bars_that_are_none_are_kept_aside_or_refused(tmp_path):
    with closing(Outbox(tmp_path / "box.sqlite")) as box:
        box.put(minutes(3, close=[1.2, np.nan, np.inf]))
        assert box.depth() == 1 and sorted(box.refused().reason) == ["close is inf", "close is nan"]
        late = minutes(2).assign(
            known_at=lambda b: pd.Timestamp.now("UTC").as_unit("us") + pd.Timedelta("1h")
        )
        with pytest.raises(DataError, match="leave the forming bar out"):
            box.put(late)
        twice = pd.concat([minutes(2), minutes(2)])
        with pytest.raises(DataError, match="one row a key"):
            box.put(twice)
        assert box.depth() == 1


# --- sending


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_passes_by_is_waited_for(tmp_path, status):
    service = Kept(
        problem(status),
        problem(status),
        NoAnswerError("refused"),
        "lost",
        {"odd": 1},
        {"received": 3, "stored": 9, "refused": []},
        problem(200, type="/problems/not-mlfin"),
    )
    with closing(Collector(service, tmp_path / "box.sqlite", wait=(0.001, 0.01))) as collector:
        collector.put(minutes(3))
        assert collector.flush(30) and len(service.bars) == 3
        assert collector.counts.failed == 7 and collector.counts.posts == len(service.sizes)
        assert collector.counts.sent == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409])
def test_what_a_person_must_mend_stops_it_and_keeps_everything(tmp_path, status):
    with closing(Collector(Kept(problem(status)), tmp_path / "box.sqlite")) as collector:
        collector.put(minutes(3))
        with pytest.raises(ServiceError, match=f"no: {status}"):
            collector.flush(30)
        assert collector.outbox.depth() == 3 and len(collector.outbox.refused()) == 0
        assert collector.flush(30)


def test_it_waits_longer_each_time_and_never_less_than_it_was_asked(tmp_path):
    waits = []
    service = Kept(*[NoAnswerError("nobody")] * 12, problem(503, 7.0))
    told_ = lambda kind, d: waits.append(d["seconds"]) if kind == "waits" else None  # noqa: E731
    with closing(Collector(service, tmp_path / "box.sqlite", wait=(0.5, 60.0), on_event=told_)) as collector:
        collector.put(minutes(3))
        for _ in range(12):
            collector.rate.due = -1.0  # as if the time had passed
            collector.step()
        for n, wait in enumerate(waits):
            longest = min(0.5 * 2**n, 60)
            assert 0.49 * longest <= wait <= longest + 0.1
        assert len(set(waits[8:])) > 1  # chance is in it
        assert collector.step() > 20  # not before its time
        assert len(service.sizes) == 12
        collector.rate.failures, collector.rate.due = 0, -1.0
        collector.step()
        assert 6.9 <= waits[-1] <= 7.8


def test_batches_shrink_under_load_and_recover_and_a_limit_makes_them_fewer(tmp_path):
    service = Kept(*[problem(503)] * 3, None, *[problem(429)] * 2)
    with closing(Collector(service, tmp_path / "box.sqlite", batch=800, wait=(0.001, 0.002))) as collector:
        collector.put(minutes(5_000))
        assert collector.flush(60) and len(service.bars) == 5_000 and service.twice == 0
    assert service.sizes[:4] == [800, 400, 200, 100] and service.sizes[4] == 125 and service.sizes[5] == 250
    assert service.sizes[6] == 500
    assert max(service.sizes[7:]) == 800  # it recovers


def test_one_bar_that_is_wrong_does_not_stop_the_others(tmp_path):
    class Judge(Kept):
        def request(self, method, path, body=None, query=None):
            bad = [i for i, b in enumerate(body["bars"]) if b["volume"] == 13.0]
            if bad and self.named:
                raise problem(
                    422, errors=[{"field": f"bars.{i}.volume", "says": "unlucky"} for i in bad[:100]]
                )
            if bad:
                raise problem(422)
            return super().request(method, path, body, query)

    volume = np.full(300, 3.0)
    volume[[7, 150, 151, 299]] = 13.0
    for named in (True, False):
        service = Judge()
        service.named = named
        with closing(
            Collector(service, tmp_path / f"{named}.sqlite", batch=300, wait=(0.001, 0.01))
        ) as collector:
            collector.put(minutes(300, volume=volume))
            assert collector.flush(60) and len(service.bars) == 296 and service.twice == 0
            aside = collector.outbox.refused()
            assert len(aside) == collector.counts.refused == 4 and set(aside.volume) == {13.0}
            assert set(aside.reason) == ({"volume: unlucky"} if named else {"no: 422"})


def test_what_is_too_large_is_sent_in_parts(tmp_path):
    class Small(Kept):
        def request(self, method, path, body=None, query=None):
            if len(body["bars"]) > 40:
                raise problem(413)
            return super().request(method, path, body, query)

    service = Small()
    with closing(Collector(service, tmp_path / "box.sqlite", batch=1000, wait=(0.001, 0.01))) as collector:
        collector.put(minutes(500))
        assert collector.flush(60) and len(service.bars) == 500 and len(collector.outbox.refused()) == 0


def test_options_that_cannot_be(tmp_path):
    for wrong in (
        {"batch": 0},
        {"batch": 5_001},
        {"batch": True},
        {"wait": (0, 1)},
        {"wait": (2, 1)},
        {"source": "a b"},
        {"source": ""},
    ):
        with pytest.raises(ParameterError):
            Collector(Kept(), tmp_path / "box.sqlite", **wrong)
    with pytest.raises(ParameterError):
        BarsSource("x.csv", limit=0)


def test_the_client_s_own_errors_are_understood(tmp_path):
    """The real client over a socket: a refusal with Retry-After, a line that is cut, a page that is not the
    service's, and then an answer."""
    busy = {
        "status": 503,
        "type": "/problems/busy",
        "title": "Service Unavailable",
        "detail": "Too many bars wait.",
        "request_id": "x",
    }
    right = {"received": 3, "stored": 3, "refused": []}
    waits = []
    with told(
        (503, busy, {"retry-after": "1"}), None, (200, "<html>", {"content-type": "text/html"}), (200, right)
    ) as (address, asked):
        with (
            Client(address, key="mk_1", patience=0) as client,
            closing(
                Collector(
                    client,
                    tmp_path / "box.sqlite",
                    wait=(0.01, 0.02),
                    on_event=lambda k, d: waits.append(d) if k == "waits" else None,
                )
            ) as collector,
        ):
            collector.put(minutes(3))
            assert collector.flush(60)
    assert [a[:2] for a in asked][-1][0] == "POST" and len(asked) == 4
    assert asked[0][3]["x-api-key" if "x-api-key" in asked[0][3] else "X-API-Key"] == "mk_1"
    assert 1.0 <= waits[0]["seconds"] <= 1.2 and len(waits) == 3 and not any("mk_1" in str(w) for w in waits)


# --- sources


def write_csv(path, bars, mode="w"):
    with open(path, mode) as file:
        if mode == "w":
            file.write("time,open,high,low,close,volume\n")
        for b in bars.itertuples():
            file.write(
                f"{b.ts:%Y-%m-%dT%H:%M:%SZ},{b.open!r},{b.high!r},{b.low!r},{b.close!r},{b.volume!r}\n"
            )


def long_ago(path, seconds):
    """A file that somebody may still write to is left alone for a second: let it be older."""
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def test_a_file_to_which_somebody_writes_is_left_alone_for_a_second(tmp_path):
    write_csv(tmp_path / "bars.csv", minutes(10))
    look, service = BarsSource(tmp_path / "bars.csv", ["A"], watch=True), Kept()
    with closing(Collector(service, tmp_path / "box.sqlite")) as collector:
        os.utime(
            tmp_path / "bars.csv", (time.time() + 0.5, time.time() + 0.5)
        )  # just now, however long this test takes to look
        assert look(collector.outbox) == []
        long_ago(tmp_path / "bars.csv", 2)
        assert len(look(collector.outbox)[0]) == 10


def test_a_file_that_grows_is_followed(tmp_path):
    bars, service, stop = minutes(30), Kept(), threading.Event()
    write_csv(tmp_path / "bars.csv", bars.head(10))
    long_ago(tmp_path / "bars.csv", 60)
    with closing(Collector(service, tmp_path / "box.sqlite")) as collector:
        thread = threading.Thread(
            target=follow, args=(collector, BarsSource(tmp_path / "bars.csv", ["A"], watch=True), stop, 0.1)
        )
        thread.start()
        for have in (10, 20, 30):
            end = time.monotonic() + 60
            while len(service.bars) < have and time.monotonic() < end:
                time.sleep(0.05)
            assert len(service.bars) == have
            if have < 30:
                write_csv(tmp_path / "bars.csv", bars.iloc[have:have + 10], "a")
                long_ago(tmp_path / "bars.csv", 60 - have)
        stop.set()
        thread.join(30)
        assert not thread.is_alive() and service.twice == 0


def keep_looking(uri, box, **how):
    """All that a source which is looked at for ever gives in three looks."""
    look = BarsSource(uri, ["A"], watch=True, tz="UTC", **how)
    for _ in range(3):
        for frame in look(box):
            box.put(frame)
    return box.depth()


@pytest.mark.parametrize(
    "uri",
    [
        "{}/*.csv",
        "csv:{}/*.csv",
        "csv:{}/A.csv",
        "csv:{}",
        "files:{}/A.csv",
        "files:{}",
        "sql:sqlite:///{}.db?timeout=30#prices",
    ],
)
def test_what_is_named_with_its_source_is_followed_too(tmp_path, uri):
    """Neither a name before the address nor a question mark in it makes a source look like files that are not
    there."""
    bars, folder = minutes(5), tmp_path / "data"
    folder.mkdir()
    write_csv(folder / "A.csv", bars)
    long_ago(folder / "A.csv", 60)
    with closing(sqlite3.connect(f"{folder}.db")) as db, db:
        db.execute("CREATE TABLE prices (symbol TEXT, ts TEXT, open REAL, high REAL, low REAL, close "
                   "REAL, volume REAL)")
        db.executemany(
            "INSERT INTO prices VALUES ('A', ?, ?, ?, ?, ?, ?)",
            [
                (f"{b.ts:%Y-%m-%dT%H:%M:%SZ}", b.open, b.high, b.low, b.close, b.volume)
                for b in bars.itertuples()
            ],
        )
    with closing(Outbox(tmp_path / "box.sqlite")) as box:
        assert keep_looking(uri.format(folder), box) == 5


@pytest.mark.parametrize("uri", ["{}/A.csv", "csv:{}/A.csv", "{}/*.csv"])
def test_a_file_that_comes_later_is_not_read_while_it_is_written(tmp_path, uri):
    bars, file = minutes(2), tmp_path / "A.csv"
    bars["volume"] = 1234.0
    look = BarsSource(uri.format(tmp_path), ["A"], watch=True, tz="UTC")
    with closing(Outbox(tmp_path / "box.sqlite")) as box:
        with pytest.raises(DataError, match="a file that exists|some file fits"):
            look(box)
        write_csv(file, bars)
        whole = file.read_text()
        file.write_text(whole[:-4])  # what the writer has in its hand ends here: volume is 123
        os.utime(file, (time.time() + 0.5, time.time() + 0.5))
        assert look(box) == []
        file.write_text(whole)
        long_ago(file, 2)
        assert look(box)[0].volume.tolist() == [1234.0, 1234.0]


def set_clock(monkeypatch, moment):
    """A clock that stands still at a moment; put another one into the list to move it."""
    clock = [pd.Timestamp(moment)]
    monkeypatch.setattr(pd.Timestamp, "now", classmethod(lambda cls, tz=None: clock[0]))
    return clock


def write_local(path, bars, zone, late):
    """A file whose stamps carry no offset, of the bars' opens or closes; as old as it must be to be read."""
    stamps = (
        (bars.ts + (pd.Timedelta("1min") if late else pd.Timedelta(0)))
        .dt.tz_convert(zone)
        .dt.strftime("%Y-%m-%d %H:%M:%S")
    )
    rows = [
        f"{t},{b.open!r},{b.high!r},{b.low!r},{b.close!r},{b.volume!r}\n"
        for t, b in zip(stamps, bars.itertuples(), strict=True)
    ]
    path.write_text("time,open,high,low,close,volume\n" + "".join(rows))
    long_ago(path, next(_ages))


_ages = iter(range(10_000, 0, -2))  # each file newer than the one before
BY_CLOCK = [("UTC", {}), ("Europe/Athens", {}), ("America/New_York", {"stamp": "close"})]


@pytest.mark.parametrize(("zone", "how"), BY_CLOCK)
@pytest.mark.parametrize("uri", ["csv:{}/*.csv", "{}/A.csv"])
def test_a_bar_that_a_file_shows_while_it_forms_waits_until_it_has_closed(
    tmp_path, monkeypatch, uri, zone, how
):
    """A platform that writes its file anew with each tick: the last row is closed by the clock, in the file's
    zone, and by nothing else."""
    bars, clock = minutes(4), set_clock(monkeypatch, "2024-01-31 10:02:30Z")
    ticks, look = (
        bars.assign(close=bars.close.where(bars.index != 2, 1.01)),
        BarsSource(uri.format(tmp_path), ["A"], watch=True, tz=zone, **how),
    )
    with closing(Outbox(tmp_path / "box.sqlite")) as box:
        def given(moment, content=None):
            clock[0] = pd.Timestamp(moment)
            if content is not None: write_local(tmp_path / "A.csv", content, zone, bool(how))
            found = pd.concat([f for f in look(box)] or [bars.head(0)])
            if len(found): box.put(found)
            return list(zip(found.ts.dt.strftime("%H:%M"), found.close, strict=True))

        assert given("2024-01-31 10:02:30Z", ticks.head(3)) == [
            ("10:00", bars.close[0]),
            ("10:01", bars.close[1]),
        ]
        assert given("2024-01-31 10:02:59Z", bars.head(3)) == []              # the last tick
        assert given("2024-01-31 10:03:01Z") == []  # closed, and its last tick may be on the way
        assert given("2024-01-31 10:03:02Z") == [
            ("10:02", bars.close[2])
        ]  # nobody wrote since: the file alone would never tell
        assert given("2024-01-31 10:03:30Z", bars) == []
        assert given("2024-01-31 10:05:00Z") == [("10:03", bars.close[3])]


def test_a_bar_that_closes_while_its_file_is_read_was_forming_when_it_was_written(tmp_path, monkeypatch):
    bars, clock, read = minutes(3), set_clock(monkeypatch, "2024-01-31 10:02:58Z"), bar_sources.read_bars

    def slow(*args, **kwargs):
        clock[0] += pd.Timedelta("10s")
        return read(*args, **kwargs)

    monkeypatch.setattr(bar_sources, "read_bars", slow)
    write_csv(tmp_path / "A.csv", bars)
    long_ago(tmp_path / "A.csv", 60)
    for keep in (False, True):
        with closing(Outbox(tmp_path / f"{keep}.sqlite")) as box:
            clock[0] = pd.Timestamp("2024-01-31 10:02:58Z")
            look = BarsSource(tmp_path / "A.csv", ["A"], watch=keep)
            assert len(look(box)[0]) == 2 and (not keep or len(look(box)[0]) == 3)


def test_a_new_file_with_nothing_but_a_forming_bar_holds_up_no_other_one(tmp_path, monkeypatch):
    """A file a day, or a symbol that begins to trade: the others go on, and it is an error only where no file
    has a bar."""
    bars, clock = minutes(3), set_clock(monkeypatch, "2024-01-31 10:02:30Z")
    (tmp_path / "live").mkdir()
    write_csv(tmp_path / "live" / "B.csv", bars.tail(1))
    long_ago(tmp_path / "live" / "B.csv", 60)
    look = BarsSource(f"csv:{tmp_path}/live/*.csv", ["A", "B"], watch=True)
    with closing(Outbox(tmp_path / "box.sqlite")) as box:
        with pytest.raises(DataError, match="no usable row"): look(box)
        write_csv(tmp_path / "live" / "A.csv", bars)
        long_ago(tmp_path / "live" / "A.csv", 50)
        found = look(box)[0]
        assert list(found.symbol) == ["A", "A"]
        box.put(found)
        clock[0] = pd.Timestamp("2024-01-31 10:03:02Z")
        assert sorted(look(box)[0].symbol) == ["A", "B"]


def test_a_long_bar_that_forms_does_not_make_its_file_read_at_each_look(tmp_path, monkeypatch):
    days = minutes(3).assign(
        timeframe="1d", ts=lambda b: pd.date_range("2024-01-29", periods=3, tz="UTC").as_unit("us")
    )
    clock, reads, read = set_clock(monkeypatch, "2024-01-31 10:00Z"), [], bar_sources.read_bars
    monkeypatch.setattr(bar_sources, "read_bars", lambda *a, **k: (reads.append(clock[0]), read(*a, **k))[1])
    write_csv(tmp_path / "A.csv", days)
    long_ago(tmp_path / "A.csv", 60)
    look = BarsSource(tmp_path / "A.csv", ["A"], "D1", watch=True)
    with closing(Outbox(tmp_path / "box.sqlite")) as box:
        for _ in range(37):                                                     # three minutes of looks
            for found in look(box): box.put(found)
            clock[0] += pd.Timedelta("5s")
        assert box.depth() == 2 and len(reads) == 4
        clock[0] = pd.Timestamp("2024-02-01 00:00:02Z")
        assert len(look(box)[0]) == 1
        assert not any(len(f) for f in look(box)) and len(reads) == 5  # all is closed: nothing to look for


def test_what_is_written_to_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    bars, file = minutes(3), tmp_path / "bars.csv"
    write_csv(file, bars.head(2))
    long_ago(file, 60)
    look, read = BarsSource(file, ["A"], watch=True, tz="UTC"), bar_sources.read_bars

    def slow(*args, **kwargs):
        found = read(*args, **kwargs)
        if len(found.bars) == 2:
            write_csv(file, bars.tail(1), "a")
        return found

    monkeypatch.setattr(bar_sources, "read_bars", slow)
    with closing(Outbox(tmp_path / "box.sqlite")) as box:
        assert look(box) == []
        long_ago(file, 30)
        assert len(look(box)[0]) == 3


def test_a_source_that_fails_is_asked_again_and_loses_nothing(tmp_path):
    heard, looks = [], []

    def source(box):
        looks.append(1)
        if len(looks) in (1, 3):
            raise DataError("The market does not answer.")
        return [minutes(5)] if len(looks) == 2 else None

    service = Kept()
    with closing(
        Collector(service, tmp_path / "box.sqlite", on_event=lambda kind, d: heard.append((kind, d)))
    ) as collector:
        assert follow(collector, source, threading.Event(), 0.01)
        assert len(service.bars) == 5 and [k for k, _ in heard].count("source") == 2
        with pytest.raises(DataError, match="does not answer"):
            looks.clear()
            follow(collector, source, threading.Event(), None)


def test_a_piece_that_could_not_be_written_is_held(tmp_path, monkeypatch):
    service, tries = Kept(), []
    with closing(Collector(service, tmp_path / "box.sqlite")) as collector:
        put = collector.outbox.put

        def full_disk(bars):
            tries.append(len(bars))
            if len(tries) == 2:
                raise DataError("The outbox cannot be used: database or disk is full.")
            return put(bars)

        monkeypatch.setattr(collector.outbox, "put", full_disk)
        write_csv(tmp_path / "bars.csv", minutes(9))
        assert follow(collector, BarsSource(tmp_path / "bars.csv", ["A"], limit=3), threading.Event(), 0.01)
    assert len(service.bars) == 9 and tries == [3, 3, 3, 3]


# --- two processes, and what stands between them


class Between:
    """A way from a collector to a server that is not to be relied on: each request may be put off, lost, or
    its answer lost."""
    def __init__(self, port, seed=0, odds=0.3, after="1"):
        self.port, self.rng, self.odds, self.after, self.lock = (
            port,
            random.Random(seed),
            odds,
            after,
            threading.Lock(),
        )
        self.counts = dict.fromkeys(
            (
                "stored",
                "503",
                "429",
                "lost request",
                "lost answer",
                "no server",
                "429 of the server",
                "other",
            ),
            0,
        )
        self.bars = 0  # answered with 200, and the answer went through
        own = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self): own.pass_on(self)
            def log_message(self, *_): pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    @property
    def address(self): return f"http://127.0.0.1:{self.server.server_port}"

    def count(self, what, bars=0):
        with self.lock:
            self.counts[what] += 1
            self.bars += bars

    def pass_on(self, asked):
        body = asked.rfile.read(int(asked.headers["content-length"]))
        with self.lock:
            mishap = (
                self.rng.choice(("503", "429", "lost request", "lost answer"))
                if self.rng.random() < self.odds
                else ""
            )
        if mishap in ("503", "429"):
            self.count(mishap)
            told = {"status": int(mishap), "title": "Later", "detail": "made by the test"}
            return self.answer(asked, int(mishap), told, self.after if mishap == "503" else "0")
        if mishap == "lost request":
            return self.hang_up(asked, mishap)
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            line.request("POST", asked.path, body, {"x-api-key": asked.headers["x-api-key"]})
            found = line.getresponse()
            status, after, data = found.status, found.getheader("retry-after"), json.loads(found.read())
        except (OSError, http.client.HTTPException, ValueError):
            return self.hang_up(asked, "no server")
        finally:
            line.close()
        if mishap:
            return self.hang_up(asked, mishap)
        self.count(
            "stored" if status == 200 else "429 of the server" if status == 429 else "other",
            data["stored"] if status == 200 else 0,
        )
        self.answer(asked, status, data, after)

    def hang_up(self, asked, why):
        self.count(why)
        asked.close_connection = True
        asked.connection.close()

    def answer(self, asked, status, message, after):
        data = json.dumps(message).encode()
        asked.send_response(status)
        for name, value in (
            ("content-type", "application/json"),
            ("content-length", str(len(data))),
            *([("retry-after", after)] if after else []),
        ):
            asked.send_header(name, value)
        try:
            asked.end_headers()
            asked.wfile.write(data)
        except OSError:
            asked.close_connection = True

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def bitcoin():
    """13,681 real minutes, 538 of them missing."""
    raw = pd.read_feather(BITCOIN)
    ts = raw["date"].dt.tz_convert("UTC").astype("datetime64[us, UTC]")
    bars = as_bars(
        raw[["open", "high", "low", "close", "volume"]].assign(
            symbol="BTC", timeframe="1m", ts=ts, known_at=ts + pd.Timedelta("1min")
        )
    )
    return bars.drop_duplicates("ts").reset_index(drop=True)


class Journey:
    """Bars of a file to a server by `mlfin collect`; both are killed on the way. With a limit of each user's
    requests, the server is in this process."""
    def __init__(self, folder, bars, limit="", odds=0.3, after="1", waits=None):
        self.folder, self.bars = folder, bars
        settings = live_server.project(folder)
        (folder / "key").write_text(live_server.key_for(settings))
        write_csv(folder / "bars.csv", bars)
        self.settings = settings.model_copy(update={"limit_user": limit, "limit_address": ""})
        self.server = (
            live_server.Here(self.settings)
            if limit
            else live_server.Server(settings, MLFIN_LIMIT_USER="", MLFIN_LIMIT_ADDRESS="")
        )
        self.between, self.process, self.killed = (
            Between(self.server.port, odds=odds, after=after),
            None,
            {"server": 0, "collector": 0},
        )
        self.command = [
            sys.executable,
            *command(
                {}
                if waits is None
                else {"mlfin.client.collector:Collector.__init__.__kwdefaults__['wait']": waits}
            ),
        ]

    def words(self, speed, batch):
        return [
            "collect",
            "bars.csv",
            "-s",
            "BTC",
            "-t",
            "1m",
            "--to",
            self.between.address,
            "--key-file",
            "key",
            "--speed",
            str(speed),
            "--batch",
            str(batch),
            "--events",
            "events.jsonl",
        ]

    def collect(self, speed, batch):
        with open(self.folder / "collect.log", "a") as log:
            self.process = subprocess.Popen(
                [*self.command, *self.words(speed, batch)],
                cwd=self.folder,
                env=live_server.clean_environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self, share, seconds=240):
        "Until so many bars were stored; False where the collector ended before."
        end = time.monotonic() + seconds
        while self.between.bars < share * len(self.bars):
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < end, (
                self.between.bars,
                self.between.counts,
                (self.folder / "collect.log").read_text()[-2000:],
            )
            time.sleep(0.02)
        return True

    def kill_server(self):
        self.server.kill()
        self.killed["server"] += 1
        self.server.start()  # seconds, in which the collector finds nobody

    def kill_collector(self, *how):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)
        self.killed["collector"] += 1
        self.collect(*how)

    def finish(self, seconds=240):
        code = self.process.wait(seconds)
        assert code == 0, (self.folder / "collect.log").read_text()[-3000:]

    def tally(self):
        "What is in the store beside what was in the file."
        self.server.stop()
        store = open_store(self.settings)
        have = store.read(["BTC"], "1m")
        assert len(store.read_quarantine()) == 0
        sent = sum(
            json.loads(line)["bars"]
            for line in (self.folder / "events.jsonl").read_text().splitlines()
            if json.loads(line)["kind"] == "sent"
        )
        print(f"\n{len(self.bars):,} bars in the file, {len(have):,} in the store; {sent:,} answered for; "
              f"killed {self.killed}; requests {self.between.counts}")
        return have

    def close(self):
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(60)
        self.server.kill()
        self.between.close()


@pytest.fixture
def journey(tmp_path):
    made = []

    def new(*args, **more):
        made.append(Journey(tmp_path, *args, **more))
        return made[-1]

    yield new
    for one in made:
        one.close()


def once_each(have, bars):
    "Every bar there, once, with its values."
    assert not have.duplicated(["symbol", "timeframe", "ts"]).any()
    pd.testing.assert_frame_equal(have[bars.columns], bars, check_exact=True)


@pytest.mark.skipif(
    not BITCOIN.is_file(), reason="the real minutes lie in shared/data beside the checkout, and are not there"
)
@pytest.mark.slow
def test_every_bar_is_there_once_whoever_was_killed(journey):
    trip = journey(bitcoin().head(800), after="0", waits=(0.1, 1.0))
    trip.collect(400, 40)
    trip.server.start()
    trip.wait(0.25)
    trip.kill_server()
    trip.wait(0.5)
    trip.kill_collector(400, 40)
    trip.finish()
    once_each(trip.tally(), trip.bars)
    assert trip.between.counts["no server"] and trip.between.counts["lost answer"]
    assert trip.between.counts["503"] and trip.between.counts["429"]


@pytest.mark.slow
@pytest.mark.skipif(
    not BITCOIN.is_file(), reason="the real minutes lie in shared/data beside the checkout, and are not there"
)
def test_every_bar_is_there_once_after_many_kills(journey):
    trip = journey(bitcoin())
    trip.server.start()
    trip.collect(1_000, 100)
    for n in range(1, 9):
        assert trip.wait(n / 10, 400)
        if n % 2:
            trip.kill_server()
        else:
            trip.kill_collector(1_000, 100)
    trip.finish(600)
    once_each(trip.tally(), trip.bars)
    assert all(
        trip.between.counts[what] for what in ("503", "429", "lost request", "lost answer", "no server")
    )


@pytest.mark.skipif(
    not BITCOIN.is_file(), reason="the real minutes lie in shared/data beside the checkout, and are not there"
)
def test_ctrl_c_and_what_a_person_must_mend_end_it_with_their_codes(journey, monkeypatch):
    trip = journey(bitcoin().head(60), limit="2/2second", odds=0.0)
    trip.collect(20, 40)  # no server is there
    end = time.monotonic() + 60
    while not trip.between.counts["no server"] and time.monotonic() < end:
        time.sleep(0.05)
    trip.process.send_signal(signal.SIGINT)
    assert trip.process.wait(60) == 130
    assert "the same command goes on from there" in (trip.folder / "collect.log").read_text()
    trip.server.start()
    key = (trip.folder / "key").read_text()
    (trip.folder / "key").write_text(key[:-3] + "abc")
    trip.collect(20, 40)
    assert trip.process.wait(60) == 1
    log = (trip.folder / "collect.log").read_text()
    assert "status 401" in log.lower() and key[:-3] not in log
    (trip.folder / "key").write_text(key)
    monkeypatch.chdir(trip.folder)
    assert (done := CliRunner().invoke(app, trip.words(1_000, 15))).exit_code == 0, done.output
    once_each(trip.tally(), trip.bars)
    assert trip.between.counts["429 of the server"]  # its own limit was kept to
