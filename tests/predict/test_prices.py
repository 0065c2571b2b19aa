"""The last bars of a symbol over HTTP: as many as were asked for, the newest, whatever holes there are, and
as they were traded."""
import pandas as pd
import pytest

pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from mlfin.core.settings import load_settings  # noqa: E402
from mlfin.market.bars import as_bars  # noqa: E402
from mlfin.store.lake import Lake  # noqa: E402
from mlfin.client.client import ServiceError  # noqa: E402
from mlfin.client.in_process import in_process_client  # noqa: E402

from ..fixtures.real_server import as_project  # noqa: E402


def bars_of(symbol, ts, **more):
    ts, n = pd.DatetimeIndex(ts).as_unit("us"), len(ts)
    close = [100.0 + i for i in range(n)]
    return as_bars(pd.DataFrame(dict(symbol=symbol, timeframe="1d", ts=ts, known_at=ts + pd.Timedelta("1D"),
                                     open=close, high=close, low=close, close=close, volume=1_000.0, **more)))


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    settings = load_settings("test", as_project(tmp_path_factory.mktemp("prices")))
    every, holes = (pd.date_range("2024-01-01", periods=300, tz="UTC"),
                    pd.date_range("2020-01-01", periods=40, freq="30D", tz="UTC"))
    Lake(settings.store).write(pd.concat([bars_of("EVERY", every, vwap=99.5), bars_of("HOLES", holes)],
                                         ignore_index=True))
    with in_process_client(settings) as found:
        yield found


@pytest.mark.parametrize("symbol, limit, got", [("EVERY", 5, 5), ("EVERY", 1000, 300), ("HOLES", 30, 30),
                                                ("HOLES", 1, 1), ("HOLES", 1000, 40)])
def test_the_newest_bars_come_oldest_first(client, symbol, limit, got):
    page = client.request("GET", "/v1/prices", query={"symbol": symbol, "timeframe": "D1", "limit": limit})
    closes = [b["close"] for b in page["items"]]
    assert len(closes) == got and closes == sorted(closes)
    assert page["total"] == (300 if symbol == "EVERY" else 40)
    latest = client.request("GET", "/v1/prices/latest", query={"symbol": symbol})["items"][0]
    assert closes[-1] == latest["close"] and page["items"][-1]["ts"] == latest["ts"]
    assert page["offset"] == page["total"] - got
    assert page["items"][0]["vwap"] == (99.5 if symbol == "EVERY" else None)


def test_a_bar_that_was_just_pushed_is_the_last_one(client):
    bar = dict(symbol="HOLES", timeframe="1d", ts="2024-06-01T00:00:00Z", open=1.5, high=1.5, low=1.5,
               close=1.5, volume=1.0)
    before = client.request("GET", "/prices", query={"symbol": "HOLES", "limit": 1000})["items"]
    assert client.request("POST", "/v1/ingest", {"bars": [bar]})["stored"] == 1
    after = client.request("GET", "/prices", query={"symbol": "HOLES", "limit": 1000})["items"]
    assert after[:-1] == before and after[-1]["close"] == 1.5


@pytest.mark.parametrize("query, status, says", [
    ({"symbol": "EVRY"}, 404, "did you mean `EVERY`"), ({}, 422, "symbol"),
    ({"symbol": "EVERY", "limit": 0}, 422, "limit"),
    ({"symbol": "EVERY", "timeframe": "7m"}, 422, "timeframe"), ({"symbol": "../x"}, 422, "symbol"),
    ({"symbol": "EVERY", "x": 1}, 422, "x")])
def test_what_cannot_be_is_said(client, query, status, says):
    with pytest.raises(ServiceError) as refused:
        client.request("GET", "/v1/prices", query=query)
    assert refused.value.status == status and says in str(refused.value)
