"""No bar is taken before it has closed, and none is known before: symbol by symbol, whatever the others
are."""
import logging
import threading
import time
from contextvars import ContextVar

import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.ingest import closing_times as asking
from mlfin.market.bars import as_bars
from mlfin.market.calendars import expected_bars
from mlfin.ingest.closing_times import ClosingCalendars, question_calendar, fitted_calendars
from mlfin.store.lake import Lake


def bars(symbol, calendar, timeframe, start, end):
    grid = expected_bars(calendar, timeframe, start, end)
    return as_bars(grid.assign(symbol=symbol, timeframe=timeframe, open=1.0, high=2.0, low=1.0,
                               close=1.5, volume=3.0))


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    lake = Lake(tmp_path_factory.mktemp("hours") / "lake")
    there = (("AAPL", "XNYS", "1d", "2023-01-01"), ("BTCUSD", "24/7", "1d", "2023-01-01"),
             ("BTCUSD", "24/7", "1h", "2024-02-01"), ("EURUSD", "forex", "1d", "2023-01-01"),
             ("7203", "XTKS", "1h", "2024-01-01"), ("FEW", "XNYS", "1d", "2024-02-01"),
             ("MSFT", "XNYS", "1h", "2024-01-01"))
    for symbol, calendar, timeframe, start in there:
        lake.write(bars(symbol, calendar, timeframe, start, "2024-03-05"))
    old = bars("OLD", "XNYS", "1d", "2009-01-01", "2010-01-01")
    lake.write(old.assign(known_at=old.ts + pd.Timedelta("1D")))  # whatever was believed of its closes
    return lake


def test_bars_tell_their_market(lake):
    names = ["AAPL", "BTCUSD", "EURUSD", "7203", "OLD", "FEW", "MSFT", "NONE"]
    told = fitted_calendars(lake, names, "1d")
    assert told == {"AAPL": "XNYS", "BTCUSD": "24/7", "EURUSD": "forex", "7203": "XTKS",
                    "OLD": "XNYS", "MSFT": "XNYS"}
    assert fitted_calendars(lake, [], "1d") == {}


def test_bars_with_holes_tell_nothing(tmp_path):
    lake, whole = Lake(tmp_path / "lake"), bars("AAPL", "XNYS", "1d", "2022-01-01", "2024-03-05")
    lake.write(whole[::3].reset_index(drop=True))
    assert fitted_calendars(lake, ["AAPL"], "1d") == {}
    assert ClosingCalendars(lambda: lake).of(["AAPL"], "1d") == {"AAPL": "24/7"}


def test_the_model_counts_before_the_question_and_that_before_the_bars(lake, tmp_path):
    (tmp_path / "env.yaml").write_text("calendar: XLON\nsymbols: [AAPL, EURUSD]\n")
    hours = ClosingCalendars(
        lambda: lake, tmp_path,
        lambda: [("1h", frozenset({"AAPL"}), "XPAR"), ("1d", frozenset({"AAPL"}), "XETR")])
    assert (hours.of(["AAPL", "EURUSD", "BTCUSD"], "1d")
            == {"AAPL": "XETR", "EURUSD": "XLON", "BTCUSD": "24/7"})
    assert hours.of(["AAPL"], "1h") == {"AAPL": "XPAR"}
    assert hours.of(["AAPL"], "5m")["AAPL"] in ("XPAR", "XETR")


def test_what_auto_stands_for(tmp_path):
    assert question_calendar(tmp_path)[0] == frozenset()
    for text, wanted in (("source: csv\nsymbols: [A]", ("24/7", False)),
                         ("source: builtin\nsymbols: [A]", ("XNYS", True)),
                         ("calendar: 24/7\nsymbols: [A]", ("24/7", True)),
                         ("source: nowhere\nsymbols: [A]", ("24/7", False))):
        (tmp_path / "env.yaml").write_text(text)
        assert question_calendar(tmp_path) == (frozenset("A"), *wanted)


def test_a_store_that_is_away_tells_nothing_and_is_asked_again(lake):
    there = []

    def store():
        if not there: raise DataError("away")
        return lake

    hours = ClosingCalendars(store)
    assert hours.of(["AAPL"], "1d") == {"AAPL": "24/7"}
    there.append(1)
    assert hours.of(["AAPL"], "1d") == {"AAPL": "XNYS"}
    there.clear()
    assert hours.of(["AAPL"], "1d") == {"AAPL": "XNYS"}  # believed for a while


def until(there, seconds=30.0):
    end = time.monotonic() + seconds
    while not there() and time.monotonic() < end:
        time.sleep(0.01)
    return there()


def test_what_bars_said_counts_until_they_were_asked_again(monkeypatch, caplog):
    asked, go, says = [], threading.Event(), ["XNYS", "XLON", ValueError("odd bars"), DataError("away")]

    def fitted(store, symbols, timeframe):
        asked.append(sorted(symbols))
        said = says[min(len(asked), len(says)) - 1]
        if len(asked) > 1:
            assert go.wait(30)
        if isinstance(said, Exception):
            raise said
        return dict.fromkeys(symbols, said)

    monkeypatch.setattr(asking, "fitted_calendars", fitted)
    hours = ClosingCalendars(lambda: None, every=0.0)
    try:
        assert not hours.knows(["AAPL", "MSFT"], "1d") and hours.knows(["AAPL"], "5m")
        assert hours.of(["AAPL", "MSFT"], "1d") == {"AAPL": "XNYS", "MSFT": "XNYS"}
        for _ in range(5):  # it is asked again meanwhile, once
            assert hours.of(["AAPL"], "1d") == {"AAPL": "XNYS"} and hours.knows(["AAPL"], "1d")
        assert until(lambda: len(asked) == 2) and asked[1] == ["AAPL"]
        with caplog.at_level(logging.WARNING, "mlfin.ingest"):
            go.set()
            assert until(lambda: not hours._due)
            time.sleep(0.1)
            assert len(asked) == 2 and hours.of(["AAPL"], "1d") == {"AAPL": "XLON"}
            assert until(lambda: hours.of(["AAPL"], "1d") == {"AAPL": "XLON"} and len(asked) > 4)
        assert "odd bars" in caplog.text and "away" not in caplog.text
        assert hours.of(["MSFT"], "1d") == {"MSFT": "XNYS"}
    finally:
        hours.close()
    count = len(asked)
    assert hours.of(["AAPL"], "1d") == {"AAPL": "XLON"} and len(asked) <= count + 1


def test_what_is_done_apart_is_done_for_who_asked():
    hours, who = ClosingCalendars(lambda: None), ContextVar("who")
    who.set("ann")
    assert (hours.apart(lambda: (who.get(), threading.current_thread().name[:5])).result(30)
            == ("ann", "hours"))
    hours.close()


def test_who_asks_for_the_same_at_once_waits_for_one_answer(monkeypatch):
    asked, found = [], []

    def fitted(store, symbols, timeframe):
        asked.append(symbols)
        time.sleep(0.2)
        return dict.fromkeys(symbols, "XNYS")

    monkeypatch.setattr(asking, "fitted_calendars", fitted)
    hours = ClosingCalendars(lambda: None)
    threads = [threading.Thread(target=lambda: found.append(hours.of(["AAPL"], "1d"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [{"AAPL": "XNYS"}] * 4 and len(asked) == 1
    hours.close()
