"""No bar is taken before it has closed, and none is known before: symbol by symbol, whatever the others are."""
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.data.bars import as_bars
from mlfin.data.calendars import expected_bars
from mlfin.data.hours import Hours, asked_calendar, fitted_calendars
from mlfin.data.lake import Lake


def bars(symbol, calendar, timeframe, start, end):
    grid = expected_bars(calendar, timeframe, start, end)
    return as_bars(grid.assign(symbol=symbol, timeframe=timeframe, open=1.0, high=2.0, low=1.0, close=1.5, volume=3.0))


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    lake = Lake(tmp_path_factory.mktemp("hours") / "lake")
    there = (("AAPL", "XNYS", "1d", "2023-01-01"), ("BTCUSD", "24/7", "1d", "2023-01-01"), ("BTCUSD", "24/7", "1h", "2024-02-01"),
             ("EURUSD", "forex", "1d", "2023-01-01"), ("7203", "XTKS", "1h", "2024-01-01"), ("FEW", "XNYS", "1d", "2024-02-01"),
             ("MSFT", "XNYS", "1h", "2024-01-01"))
    for symbol, calendar, timeframe, start in there:
        lake.write(bars(symbol, calendar, timeframe, start, "2024-03-05"))
    old = bars("OLD", "XNYS", "1d", "2009-01-01", "2010-01-01")
    lake.write(old.assign(known_at=old.ts + pd.Timedelta("1D")))  # whatever was believed of its closes
    return lake


def test_bars_tell_their_market(lake):
    names = ["AAPL", "BTCUSD", "EURUSD", "7203", "OLD", "FEW", "MSFT", "NONE"]
    told = fitted_calendars(lake, names, "1d")
    assert told == {"AAPL": "XNYS", "BTCUSD": "24/7", "EURUSD": "forex", "7203": "XTKS", "OLD": "XNYS", "MSFT": "XNYS"}
    assert fitted_calendars(lake, [], "1d") == {}


def test_bars_with_holes_tell_nothing(tmp_path):
    lake, whole = Lake(tmp_path / "lake"), bars("AAPL", "XNYS", "1d", "2022-01-01", "2024-03-05")
    lake.write(whole[::3].reset_index(drop=True))
    assert fitted_calendars(lake, ["AAPL"], "1d") == {} and Hours(lambda: lake).of(["AAPL"], "1d") == {"AAPL": "24/7"}


def test_the_model_counts_before_the_question_and_that_before_the_bars(lake, tmp_path):
    (tmp_path / "env.yaml").write_text("calendar: XLON\nsymbols: [AAPL, EURUSD]\n")
    hours = Hours(lambda: lake, tmp_path, lambda: [("1h", frozenset({"AAPL"}), "XPAR"), ("1d", frozenset({"AAPL"}), "XETR")])
    assert hours.of(["AAPL", "EURUSD", "BTCUSD"], "1d") == {"AAPL": "XETR", "EURUSD": "XLON", "BTCUSD": "24/7"}
    assert hours.of(["AAPL"], "1h") == {"AAPL": "XPAR"} and hours.of(["AAPL"], "5m")["AAPL"] in ("XPAR", "XETR")


def test_what_auto_stands_for(tmp_path):
    assert asked_calendar(tmp_path)[0] == frozenset()
    for text, wanted in (("source: csv\nsymbols: [A]", ("24/7", False)), ("source: builtin\nsymbols: [A]", ("XNYS", True)),
                         ("calendar: 24/7\nsymbols: [A]", ("24/7", True)), ("source: nowhere\nsymbols: [A]", ("24/7", False))):
        (tmp_path / "env.yaml").write_text(text)
        assert asked_calendar(tmp_path) == (frozenset("A"), *wanted)


def test_a_store_that_is_away_tells_nothing_and_is_asked_again(lake):
    there = []

    def store():
        if not there: raise DataError("away")
        return lake

    hours = Hours(store)
    assert hours.of(["AAPL"], "1d") == {"AAPL": "24/7"}
    there.append(1)
    assert hours.of(["AAPL"], "1d") == {"AAPL": "XNYS"}
    there.clear()
    assert hours.of(["AAPL"], "1d") == {"AAPL": "XNYS"}  # believed for a while
