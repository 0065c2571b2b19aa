"""What goes over the wire is what it says: finite, dated, named, and nothing else; refusals are in words."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

import mlfin.api.contract as contract
import mlfin.predict.messages as messages
from mlfin.api.contract import IngestRequest, Page, PredictRequest, Problem, TrainRequest
from mlfin.predict.messages import MOST_BARS, Bar, Message, Signal

BAR = dict(symbol="AAPL", timeframe="1d", ts="2024-03-01T14:30:00Z", open=10.0, high=11.0, low=9.0,
           close=10.5, volume=100.0)


def refused(model, given):
    with pytest.raises(ValidationError) as e:
        model.model_validate(given)
    text = str(e.value)
    # as it comes over the wire; NaN and Infinity are what Python's json writes
    with pytest.raises(ValidationError):
        model.model_validate_json(json.dumps(given, default=str))
    return text


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"open": math.nan}, "finite"),
        ({"high": math.inf}, "finite"),
        ({"volume": -1.0}, "greater"),
        ({"volume": "100"}, "number"),
        ({"close": True}, "number"),
        ({"low": 10.4}, "enclose"),
        ({"high": 10.0}, "enclose"),
        ({"ts": "2024-03-01T14:30:00"}, "timezone"),
        ({"ts": 1709303400}, "ISO 8601"),
        ({"ts": "1709303400"}, "ISO 8601"),
        ({"ts": "2999-01-01T00:00:00Z"}, "future"),
        ({"ts": None}, "ISO 8601"),
        ({"symbol": ""}, "symbol"),
        ({"symbol": "../../etc/passwd"}, "symbol"),
        ({"symbol": "A B"}, "symbol"),
        ({"symbol": "A'; DROP TABLE bars; --"}, "symbol"),
        ({"symbol": "A" * 65}, "symbol"),
        ({"symbol": "AAPL\n"}, "symbol"),
        ({"symbol": 7}, "symbol"),
        ({"timeframe": "7m"}, "timeframe"),
        ({"timeframe": 1}, "timeframe"),
        ({"timeframe": "M" * 10_000}, "timeframe"),
        ({"adjusted": 1.0}, "Extra inputs"),
        ({"spread": math.nan}, "finite"),
        ({"time": 1709303400}, "not both"),
    ],
)
def test_a_bar_that_is_none_is_refused_in_words(change, word):
    assert word in refused(Bar, {**BAR, **change})


@pytest.mark.parametrize("time", [1.5, "1709303400", True, -1, 10**11, None])
def test_time_is_whole_seconds(time):
    assert "seconds" in refused(Bar, {k: v for k, v in BAR.items() if k != "ts"} | {"time": time})


@pytest.mark.parametrize(("alias", "name"),
                         [("M1", "1m"), ("H1", "1h"), ("D1", "1d"), ("PERIOD_M5", "5m"), ("1h", "1h")])
def test_metatrader_s_names_and_seconds(alias, name):
    bar = Bar.model_validate({k: v for k, v in BAR.items() if k != "ts"} | {
        "timeframe": alias, "time": 1709303400})
    assert bar.timeframe == name and bar.ts == datetime(2024, 3, 1, 14, 30, tzinfo=UTC)


def test_another_zone_is_turned_into_utc():
    bar = Bar.model_validate({**BAR, "ts": "2024-03-01T16:30:00+02:00"})
    assert bar.ts == datetime(2024, 3, 1, 14, 30, tzinfo=UTC) and bar.ts.utcoffset() == timedelta(0)
    assert Bar.model_validate({
        **BAR, "ts": datetime(2024, 3, 1, 9, 30, tzinfo=timezone(timedelta(hours=-5)))}).ts == bar.ts
    assert json.loads(bar.model_dump_json())["ts"] == "2024-03-01T14:30:00Z"


def test_a_clock_a_little_ahead_is_forgiven():
    soon = datetime.now(UTC) + timedelta(seconds=2)
    assert Bar.model_validate({**BAR, "ts": soon.isoformat()}).ts == soon
    assert "future" in refused(Bar, {**BAR, "ts": (soon + timedelta(minutes=1)).isoformat()})


@pytest.mark.parametrize(
    "symbol", ["AAPL", "BTC/USDT", "BRK.B", "^GSPC", "EURUSD#", "A&B", "ES-H24", "binance:BTC_USDT"])
def test_symbols_of_the_markets(symbol):
    assert Bar.model_validate({**BAR, "symbol": symbol}).symbol == symbol


@given(st.text(max_size=70))
def test_no_symbol_is_a_path_or_a_query(symbol):
    try:
        made = Bar.model_validate({**BAR, "symbol": symbol}).symbol
    except ValidationError:
        return
    assert made == symbol and ".." not in made and "//" not in made
    assert not set(made) & set("'\"\\;%?*<>|$`(){}[]! \n\t\0") and made[0] not in "./-"


@given(st.floats() | st.integers() | st.text(max_size=5) | st.booleans() | st.none(),
       st.sampled_from(["open", "high", "low", "close", "volume"]))
def test_whatever_stands_for_a_number_a_bar_stays_finite(value, field):
    try:
        bar = Bar.model_validate({**BAR, field: value})
    except ValidationError:
        return
    numbers = [bar.open, bar.high, bar.low, bar.close, bar.volume]
    assert all(type(x) is float and math.isfinite(x) for x in numbers) and bar.low <= min(numbers[:4])
    assert bar.high >= max(numbers[:4]) and bar.volume >= 0


def test_batches_have_limits():
    assert len(IngestRequest.model_validate({"bars": [BAR] * MOST_BARS}).bars) == MOST_BARS
    assert "at most 5000" in refused(IngestRequest, {"bars": [BAR] * (MOST_BARS + 1)})
    assert "at least 1" in refused(IngestRequest, {"bars": []})
    assert "valid list" in refused(IngestRequest, {"bars": BAR})
    assert refused(IngestRequest, {"bars": [[[[BAR]]]]})
    assert "source" in refused(IngestRequest, {"bars": [BAR], "source": "../x"})


def test_one_way_of_asking():
    assert PredictRequest(symbol="AAPL").asked == ["AAPL"] and PredictRequest(bars=[BAR]).asked is None
    for wrong in ({}, {"symbol": "A", "symbols": ["B"]}, {"symbols": []}, {"symbols": ["A"] * 501},
                  {"symbol": "A", "experiment": "../x"}):
        refused(PredictRequest, wrong)


def test_parameters_of_a_training_are_plain():
    assert TrainRequest(parameters={"label": "fwd_ret_10", "models": ["logistic"], "folds": 3,
                                    "calibrate": None}).parameters["folds"] == 3
    for wrong in ({"../x": 1}, {"label": {"a": 1}}, {"label": [["a"]]}, {"label": math.nan},
                  {"label": "x" * 201}, {f"p{i}": 1 for i in range(51)}, {"X": 1}):
        refused(TrainRequest, {"parameters": wrong})
    refused(TrainRequest, {"promote": "yes"})


def test_a_probability_is_one_and_no_signal_is_made_up():
    signal = dict(
        symbol="AAPL",
        timeframe="1d",
        ts=BAR["ts"],
        known_at=BAR["ts"],
        kind="direction",
        probability=0.6,
        threshold=0.5,
        label=1,
        foretells="fwd_ret_1",
        horizon=1,
        model="m",
        version=1,
        age_seconds=1.0,
        stale=False,
    )
    assert Signal.model_validate(signal).reason == ""
    for wrong in ({"probability": 1.2}, {"probability": math.nan}, {"label": 2}, {"version": 0},
                  {"age_seconds": -1.0}, {"kind": "other"}):
        refused(Signal, {**signal, **wrong})


def test_problems_are_those_of_the_rfc_and_pages_know_their_end():
    assert (set(Problem(title="t", status=404).model_dump())
            == {"type", "title", "status", "detail", "instance", "errors", "request_id"})
    refused(Problem, {"title": "t", "status": 200})
    page = Page[int](items=[1, 2], total=5, offset=2, limit=2)
    assert page.more and not Page[int](items=[1], total=5, offset=4, limit=2).more
    refused(Page[int], {"items": [], "total": 0, "offset": 0, "limit": 100_000})


MODELS = [m for module in (messages, contract) for m in vars(module).values()
          if isinstance(m, type) and issubclass(m, Message) and m.__module__ == module.__name__]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_every_model_forbids_what_it_does_not_know_and_makes_a_schema(model):
    assert issubclass(model, BaseModel) and model.model_config["extra"] == "forbid" and model.__doc__
    schema = model.model_json_schema()
    if model is not Message and model is not Page:
        assert schema["properties"] and schema["additionalProperties"] is False
