"""update and ingest from the web, against a server that speaks Binance: incremental, resumed, told in
full."""

from pathlib import Path

import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.ingest.ingest import ingest
from mlfin.ingest.series_download import OVERLAP
from mlfin.ingest.store_update import update
from mlfin.store.lake import Lake
from mlfin.sources.http_client import RetryPolicy

from ..fixtures import exchange_server as fake

MINUTE, START = 60_000, fake.START
# our clock stands still here: no bar closes while a test runs
NOW = pd.Timestamp.now("UTC").floor("min").as_unit("us") - pd.Timedelta("30s")


def at(ms):
    return pd.Timestamp(ms, unit="ms", tz="UTC").as_unit("us")


@pytest.fixture
def how(monkeypatch, tmp_path):
    "Arguments of a call to a server."
    import ccxt

    monkeypatch.setattr(ccxt.Exchange, "throttle", lambda self, cost=None: None)
    patience = RetryPolicy(tries=2, connect=2, read=0.5, answer=1, wait=10, backoff=0.001,
                           sleep=lambda s: None, now=lambda: NOW)
    return lambda server, **more: dict(source="ccxt:binance", symbols=["BTC/USDT"], store=tmp_path / "lake",
                                       base_url=server.url, retry=patience) | more


def lately(n):
    "Klines of the last n minutes that have closed."
    last = int(NOW.timestamp() * 1000) // MINUTE * MINUTE - MINUTE
    return fake.walk(n, start=last - (n - 1) * MINUTE)


def line(done, symbol="BTC/USDT"):
    return done.series.set_index("symbol").loc[symbol]


def asked(server):
    return [int(a["startTime"])
            for p, a, _ in server.asked if p.endswith("klines") and a["interval"] == server.interval]


def test_it_goes_on_from_the_last_stored_bar(how):
    rows = fake.walk(4_000)
    with fake.Binance(rows) as server:
        one = update(**how(server, timeframes="1m", start=at(START), end=at(rows[2_499][0])))
        first = line(one)
        assert ((first.status, first.inserted, first["last"], first.until)
                == ("ok", 2_500, at(rows[2_499][0]), at(rows[2_499][0])))
        before = len(server.asked)
        two = line(update(**how(server, timeframes="1m", start=at(START), end=at(rows[-1][0]))))
        assert (two.status, two.inserted, two.revised) == ("ok", 1_500, 0)
        assert two.unchanged == OVERLAP // pd.Timedelta("1min") + 1
        assert min(asked(server)[-3:]) >= rows[2_499][0] - OVERLAP // pd.Timedelta("1ms")
        assert len(server.asked) > before
        again = len(server.asked)
        three = line(update(**how(server, timeframes="1m", start=at(START), end=at(rows[-1][0]))))
        assert (three.status, three["rows"], three.until) == ("nothing new", 0, at(rows[-1][0]))
        assert len(server.asked) == again  # all that was asked for is there: nobody is asked
    assert len(Lake(how(server)["store"]).read(["BTC/USDT"], "1m")) == 4_000


def test_what_came_before_is_fetched_too_and_full_means_all(how):
    rows = fake.walk(3_000)
    with fake.Binance(rows) as server:
        update(**how(server, timeframes="1m", start=at(rows[2_000][0]), end=at(rows[-1][0])))
        more = line(update(**how(server, timeframes="1m", start=at(START), end=at(rows[-1][0]))))
        assert (more.inserted, more.unchanged) == (2_000, 1)
        full = line(update(**how(server, timeframes="1m", start=at(START), end=at(rows[-1][0]), full=True)))
        assert (full.status, full["rows"], full.unchanged) == ("nothing new", 3_000, 3_000)


def test_a_revision_of_the_last_bars_is_seen(how):
    rows = lately(600)
    with fake.Binance(rows) as server:
        update(**how(server, timeframes="1m", start=at(rows[0][0])))
        known = Lake(how(server)["store"]).read(["BTC/USDT"], "1m")
        server.rows[500] = [*server.rows[500][:5], "77.5", *server.rows[500][6:]]
        done = line(update(**how(server, timeframes="1m")))
        assert (done.status, done.inserted, done.revised) == ("ok", 0, 1)
    lake = Lake(how(server)["store"])
    assert lake.read(["BTC/USDT"], "1m").volume[500] == 77.5
    assert lake.read(["BTC/USDT"], "1m", as_of=known.known_at.max()).volume[500] == known.volume[500]


def test_an_outage_keeps_what_came_and_the_next_call_goes_on(how):
    rows = fake.walk(3_000)
    with fake.Binance(rows, faults={3: "500", 4: "500"}) as server:
        told = update(**how(server, timeframes="1m", start=at(START), end=at(rows[-1][0])))
        broken = line(told)
        assert told.failed and broken.status == "failed" and broken.inserted == 2_000
        assert "2,000 bars" in broken.error
        rest = line(update(**how(server, timeframes="1m", start=at(START), end=at(rows[-1][0]))))
        assert (rest.status, rest.inserted) == ("ok", 1_000)
    clean = how(server, store=Path(how(server)["store"]).with_name("clean"))
    with fake.Binance(rows) as server:
        update(**clean | {"base_url": server.url}, timeframes="1m", start=at(START), end=at(rows[-1][0]))
    pd.testing.assert_frame_equal(Lake(how(server)["store"]).read(timeframe="1m"),
                                  Lake(clean["store"]).read(timeframe="1m"))


def test_one_symbol_that_is_refused_does_not_lose_the_other(how):
    with fake.Binance(rows := lately(300)) as server:
        done = update(**how(server, symbols=["NOPE/USDT", "BTC/USDT"], timeframes=["1m"],
                            start=at(rows[0][0])))
        assert list(done.series.status) == ["failed", "ok"] and done.failed
        assert "NOPE/USDT" in done.series.error[0] and done.series.inserted[1] == 300


def test_the_bar_still_forming_is_not_stored_and_until_says_where_it_ends(how):
    now = int(NOW.timestamp() * 1000) // MINUTE * MINUTE
    with fake.Binance(fake.walk(200, start=now - 199 * MINUTE)) as server:
        done = line(update(**how(server, timeframes="1m", start=at(now - 199 * MINUTE))))
        assert done.until == done["last"] == at(now - MINUTE) and done.inserted == 199


def test_ingest_gives_what_the_store_has_and_says_until(how):
    rows = lately(1_500)
    with fake.Binance(rows) as server:
        one = ingest(**how(server, timeframe="1m", start=at(rows[0][0])))
        assert one.written.inserted == 1_500 and one.origin.startswith("ccxt:") and one.calendar == "24/7"
        two = ingest(**how(server, timeframe="1m", start=at(rows[0][0]), end=one.bars.ts.max()))
        assert two.written.inserted == 0 and two.until == one.bars.ts.max()
        for name in ("bars", "quality", "summary", "actions", "quarantine"):
            pd.testing.assert_frame_equal(getattr(one, name), getattr(two, name))
        assert (one.content_hash, one.origin) == (two.content_hash, two.origin)
        with pytest.raises(DataError, match="NOPE"):
            ingest(**how(server, symbols=["NOPE/USDT"], timeframe="1m", start=at(rows[0][0])))
        with pytest.raises(DataError, match="`symbols` must be given"):
            ingest(**how(server, symbols=None, timeframe="1m"))


def test_bars_that_are_not_fit_stop_the_series_before_they_are_stored(how):
    # high below all
    rows = [[r[0], r[1], "0.1", *r[3:]] if i % 3 == 0 else r for i, r in enumerate(lately(600))]
    with fake.Binance(rows) as server:
        done = update(**how(server, timeframes="1m", start=at(rows[0][0])))
        assert done.series.status[0] in ("stopped", "failed") and done.failed and done.series.inserted[0] == 0
        assert "says stop" in done.series.error[0]
    assert Lake(how(server)["store"]).version() == -1


def test_pages_are_kept_where_that_is_asked_for(how, tmp_path):
    with fake.Binance(rows := lately(300)) as server:
        update(**how(server, timeframes="1m", start=at(rows[0][0])))
        assert not (tmp_path / "lake" / "raw").exists()
        update(**how(server, timeframes="1m", start=at(rows[0][0]), full=True, raw=True))
        assert list((tmp_path / "lake" / "raw").rglob("*"))
