import copy
import json
import sys
import time

import numpy as np
import pandas as pd
import pytest

import mlfin.sources.http_client as http_client
from mlfin.core.errors import DataError, MissingExtraError
from mlfin.market.actions import adjust_bars, derive_actions
from mlfin.market.bars import check_bars
from mlfin.files.raw_files import raw_file
from mlfin.warehouse.opening import open_store
from mlfin.sources.sources import SOURCES, load_sources, read_bars, read_parts
from mlfin.sources.http_client import HttpClient, HttpResponse, RetryPolicy, http_request
from mlfin.sources.rest import rest_mapping
from mlfin.sources.web_pages import last_closed

from ..fixtures import exchange_server as fake

MINUTE, START = 60_000, fake.START


def at(ms):
    return pd.Timestamp(ms, unit="ms", tz="UTC").as_unit("us")


@pytest.fixture
def waits():
    return []


@pytest.fixture
def patience(waits):
    "Waits that are written down instead of waited."
    return RetryPolicy(tries=4, connect=2, read=0.5, answer=1, wait=10, backoff=0.01, sleep=waits.append)


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch):
    "Markets are remembered by address, and the next test's server may have the port of the last one's."
    from mlfin.sources import exchanges

    monkeypatch.setattr(exchanges, "_markets", {})


@pytest.fixture(autouse=True)
def slow_downs(monkeypatch):
    "What ccxt would wait for by its own limits, in place of waiting."
    import ccxt

    asked = []
    monkeypatch.setattr(ccxt.Exchange, "throttle", lambda self, cost=None: asked.append(cost))
    return asked


def read(server, patience, n=None, parts=False, **how):
    "What the exchange has, from its first row to its n-th."
    rows = server.rows
    how = (
        dict(
            symbols=["BTC/USDT"],
            timeframe=server.interval,
            start=at(rows[0][0]),
            end=at(rows[(n or len(rows)) - 1][0]),
            base_url=server.url,
            retry=patience,
        )
        | how
    )
    return list(read_parts("ccxt:binance", **how)) if parts else read_bars("ccxt:binance", **how)


def same(bars, rows):
    "Whether bars are exactly these klines."
    assert (bars.ts.array.as_unit("us").asi8 // 1000).tolist() == [r[0] for r in rows]
    for i, name in enumerate(["open", "high", "low", "close", "volume"]):
        assert list(bars[name]) == [float(r[i + 1]) for r in rows]  # to the last bit
    assert list(bars.trades) == [r[8] for r in rows]
    assert (bars.known_at - bars.ts == pd.Timedelta(rows[0][6] + 1 - rows[0][0], "ms")).all()


def klines(server):
    return [a for p, a, _ in server.asked if p.endswith("klines") and a["interval"] == server.interval]


# --- exchanges
# -----------------------------------------------------------------------------------------------------------

def test_pages_meet_without_a_seam(patience, slow_downs):
    with fake.Binance(fake.walk(2500)) as server:
        reading = read(server, patience)
        same(reading.bars, server.rows)
        assert [int(a["startTime"]) for a in klines(server)] == [START + i * 1000 * MINUTE for i in (0, 1, 2)]
        assert all(a["limit"] == "1000" for a in klines(server))
        assert len(slow_downs) == 4  # its rate limit is on: for the markets, and for each page
        assert "X-MBX-APIKEY" not in {k for _, _, h in server.asked for k in h}
    check_bars(reading.bars)
    assert reading.quarantine.empty and reading.notes == () and reading.until == at(START + 2499 * MINUTE)
    assert [first for _, first in reading.parts] == [0, 1000, 2000]
    assert list(reading.rows) == list(range(2500))


@pytest.mark.parametrize(
    "n, limit, faulty",
    [
        (12_000, 2**18, (3, 6, 9, 12, 15)),
        pytest.param(45_031, 2**20, (3, 9, 17, 30, 44), marks=pytest.mark.slow),
    ],
    ids="week month".split(),
)
def test_the_real_candles_of_nautilus(market, patience, n, limit, faulty):
    frame = pd.read_csv(market / "nautilus" / "btc-perp-20211231-20220201_1m.csv")[:n]
    stamps = pd.to_datetime(frame.timestamp, utc=True)
    rows = fake.klines(frame.assign(ts=(stamps - pd.Timestamp(0, tz="UTC")) // pd.Timedelta("1ms")))
    faults = dict(zip(faulty, ("429", "reset", "html", "503", "cut"), strict=True))
    with fake.Binance(rows, faults=faults) as server:
        parts = read(server, patience, parts=True, limit=limit)
    assert len(parts) > 3 and sum(len(p.bars) for p in parts) == n
    bars = pd.concat([p.bars for p in parts], ignore_index=True)
    same(bars, rows)
    from_file = read_bars(
        market / "nautilus" / "btc-perp-20211231-20220201_1m.csv", symbol="BTC/USDT", timeframe="1m", tz="UTC"
    )
    pd.testing.assert_frame_equal(bars.drop(columns="trades"), from_file.bars[:n], check_exact=True)
    assert len([n for p in parts for n in p.notes]) == 5


@pytest.mark.parametrize(
    "fault, says, least",
    [
        ("429", "status 429", 1),
        ("429-date", "status 429", 1.9),
        ("418", "status 418", 2),
        ("500", "status 500", 0),
        ("503", "status 503", 0),
        ("reset", "connection broke", 0),
        ("hang", "no answer in time", 0),
        ("drip", "no answer in time", 0),
        ("cut", "no JSON", 0),
        ("broken", "", 0),
        ("html", "no JSON", 0),
    ],
)
def test_a_fault_is_overcome(patience, waits, fault, says, least):
    ahead = 3600 if fault == "429-date" else 0  # a wait until a moment is counted by the clock of who says it
    with fake.Binance(fake.walk(1500), faults={2: fault}, ahead=ahead) as server:
        reading = read(server, patience)
        same(reading.bars, server.rows)
    assert len(reading.notes) == 1 and "asked again 1 times" in reading.notes[0] and says in reading.notes[0]
    assert len(waits) == 1 and least <= waits[0] <= least + 3


def test_chunked_answers_are_read(patience):
    with fake.Binance(fake.walk(1500), faults={"always": "chunked"}) as server:
        same(read(server, patience).bars, server.rows)


@pytest.mark.parametrize(
    "fault, says",
    [
        ("503", "status 503; asked 4 times"),
        ("html", "no JSON: `Just a moment... Checking"),
        ("hang", "no answer in time; asked 4 times"),
        ("418-long", "left alone for 86,400 s"),
        ("451", "restricted location"),
        ("away", "redirects to another host, elsewhere.invalid"),
        ("circle", "in a circle"),
    ],
)
def test_an_outage_says_what_came_before_and_hands_it_over(patience, fault, says):
    patience = RetryPolicy(**{**patience.__dict__, "read": 0.1})
    with fake.Binance(fake.walk(2500), faults={n: fault for n in range(3, 20)}) as server:
        parts, asked = (
            [],
            read_parts(
                "ccxt:binance",
                symbols=["BTC/USDT"],
                timeframe="1m",
                start=at(START),
                base_url=server.url,
                retry=patience,
            ),
        )
        with pytest.raises(DataError) as e:
            for part in asked:
                parts.append(part)
        same(pd.concat([p.bars for p in parts]), server.rows[:2000])
    text = str(e.value)
    assert "BTC/USDT 1m stopped after page 2 (2 pages with 2,000 bars up to 2024-01-02 09:19:00" in text
    assert "are not lost" in text and says.split(";")[0] in text and "Traceback" not in text
    assert "127.0.0.1:" not in text


def test_a_download_goes_on_where_it_broke_off(patience, tmp_path):
    store = open_store(tmp_path / "lake")
    with fake.Binance(fake.walk(3000), faults={n: "500" for n in range(3, 7)}) as server:
        with pytest.raises(DataError):
            for part in read_parts(
                "ccxt:binance",
                symbols=["BTC/USDT"],
                timeframe="1m",
                start=at(START),
                base_url=server.url,
                end=at(START + 2999 * MINUTE),
                retry=patience,
            ):
                store.write(part.bars)
        last = store.read(["BTC/USDT"], "1m").ts.max()
        assert last == at(START + 1999 * MINUTE)
        reading = read(server, patience, start=last - pd.Timedelta("5min"))
        written = store.write(reading.bars)
        assert (written.inserted, written.unchanged, written.revised) == (1000, 6, 0)
        same(store.read(["BTC/USDT"], "1m"), server.rows)


def test_an_empty_page_within_history_is_asked_for_again(patience):
    with fake.Binance(fake.walk(2500), faults={2: "empty"}) as server:
        reading = read(server, patience)
        same(reading.bars, server.rows)
    assert reading.notes == ()


@pytest.mark.parametrize("windowed", [False, True])
def test_an_outage_of_the_exchange_does_not_end_the_download(patience, windowed):
    rows = fake.walk(9000)
    rows = rows[:700] + rows[6200:]
    with fake.Binance(rows, windowed=windowed) as server:
        reading = read(server, patience)
        same(reading.bars, rows)
        assert len(server.asked) < 30
    hole = (f"BTC/USDT 1m: binance has no bars from {at(rows[700][0]) - pd.Timedelta('5500min')} to "
            f"{at(rows[700][0]) - pd.Timedelta('1min')}")
    assert reading.notes == ((hole,) if windowed else ())  # Binance says at once what comes after


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("start", ["2014-01-01", None])
def test_a_listing_years_after_the_start_is_found_in_a_few_questions(patience, windowed, start):
    with fake.Binance(fake.walk(1500), windowed=windowed) as server:
        reading = read(server, patience, start=start)
        same(reading.bars, server.rows)
        assert len(server.asked) < 30


def test_a_server_that_never_has_anything_ends(patience):
    with fake.Binance(fake.walk(10), faults={"always": "empty"}) as server:
        reading = read(server, patience, start="2023-12-30", end="2024-01-02")
        assert reading.bars.empty and len(server.asked) < 30
    assert any("no bars from" in n for n in reading.notes)
    assert reading.until == at(START + 2 * 1440 * MINUTE - MINUTE)


def test_a_server_that_ignores_where_to_begin_ends(patience):
    rows = fake.walk(5000)
    with fake.Binance(rows, faults={"always": lambda said: rows[:1000]}) as server:
        reading = read(server, patience)
        same(reading.bars, rows[:1000])
        assert len(klines(server)) < 20


def test_rows_repeated_on_the_border_of_pages(patience):
    rows = fake.walk(2500)
    with fake.Binance(
        rows, faults={2: lambda said: rows[990:1000] + said, 3: lambda said: said + said[-3:]}
    ) as server:
        reading = read(server, patience)
        same(reading.bars, rows)
    assert reading.quarantine.empty


def test_a_bar_that_differs_on_the_next_page_is_set_aside(patience, tmp_path):
    rows = fake.walk(2500)
    other = [*rows[999][:4], "1.5", *rows[999][5:]]
    with fake.Binance(rows, faults={2: lambda said: [other, *said]}) as server:
        reading = read(server, patience, raw=tmp_path)
        same(reading.bars, rows)
    (aside,) = reading.quarantine.itertuples()
    assert aside.reason == "it differs from the same bar on the page before" and aside.row == 0
    assert aside.ts == at(rows[999][0])
    assert json.loads(aside.raw)["row"] == other
    assert json.loads(raw_file(aside.origin, tmp_path).read_bytes())[aside.row] == other


def test_rows_of_one_page_that_disagree_are_all_set_aside(patience):
    rows = fake.walk(30)
    other = [*rows[7][:4], "1.5", *rows[7][5:]]
    with fake.Binance(rows, faults={1: lambda said: [*said, other]}) as server:
        reading = read(server, patience)
        same(reading.bars, rows[:7] + rows[8:])
    assert list(reading.quarantine.reason) == ["rows for one bar disagree"] * 2
    assert list(reading.quarantine.row) == [7, 30]


def test_rows_out_of_order(patience):
    rows, order = fake.walk(2500), np.random.default_rng(1).permutation(1000)
    with fake.Binance(
        rows, faults={1: lambda said: said[::-1], 2: lambda said: [said[i] for i in order]}
    ) as server:
        reading = read(server, patience)
        same(reading.bars, rows)
    assert list(reading.rows[:3]) == [999, 998, 997] and sorted(reading.rows) == list(range(2500))


@pytest.mark.parametrize(
    "value", [None, "", "n/a", "NaN", "Infinity", "1,5", "0x10", "1_000", True, [], {"a": 1}, "1e999"]
)
def test_rubbish_in_a_row_goes_to_quarantine(patience, value):
    rows = fake.walk(60)

    def spoil(said):
        return [r if i != 5 else [*r[:4], value, *r[5:]] for i, r in enumerate(said)]
    with fake.Binance(rows, faults={1: spoil}) as server:
        reading = read(server, patience)
        same(reading.bars, rows[:5] + rows[6:])
    assert len(reading.quarantine) == 1 and reading.quarantine.reason[0].startswith("`close` is ")
    assert json.loads(reading.quarantine.raw[0])["row"][4] == value


@pytest.mark.parametrize(
    "row",
    [
        None,
        5,
        "x",
        [],
        {},
        [None] * 12,
        ["soon", "1", "1", "1", "1", "1"],
        [True] + ["1"] * 11,
        [10**18] + ["1"] * 11,
        [-5] + ["1"] * 11,
    ],
)
def test_a_row_that_is_none_goes_to_quarantine_or_is_not_asked_for(patience, row):
    rows = fake.walk(50)
    with fake.Binance(rows, faults={1: lambda said: [*said[:9], row, *said[9:]]}) as server:
        reading = read(server, patience)
        assert list(reading.bars.ts) == [at(r[0]) for r in rows]
    assert len(reading.quarantine) == (
        row not in ([-5] + ["1"] * 11, [True] + ["1"] * 11)
    )  # these open in 1970


def test_garbage_at_the_end_of_a_page_is_told_once(patience):
    rows = fake.walk(2500)

    def spoil(said):
        return [r if r[0] not in (rows[998][0], rows[999][0]) else [*r[:1], None, *r[2:]] for r in said]
    with fake.Binance(rows, faults={1: spoil, 2: spoil}) as server:
        reading = read(server, patience)
        same(reading.bars, rows[:998] + rows[1000:])
    assert len(reading.quarantine) == 2


def test_a_stray_time_does_not_lead_over_a_hole(patience):
    rows = fake.walk(4000)
    stray = [rows[3500][0], *rows[3][1:6], rows[3500][0] + MINUTE - 1, *rows[3][7:]]
    with fake.Binance(rows, faults={1: lambda said: [*said[:3], stray, *said[4:]]}) as server:
        reading = read(server, patience)
    assert set(at(r[0]) for r in rows) - set(reading.bars.ts) == {at(rows[3][0])}
    assert list(reading.quarantine.reason) == ["it differs from the same bar on the page before"]


@pytest.mark.parametrize("interval", ["5m", "1h"])
def test_bars_of_a_longer_interval_are_refused(patience, interval):
    rows = fake.walk(6000)
    with fake.Binance(rows, faults={"always": lambda said: fake.longer(rows, interval)}) as server:
        with pytest.raises(
            DataError,
            match="`timeframe` must be what binance hands over, got '1m' .it sent .* of another length",
        ):
            read(server, patience)


def test_bars_of_a_shorter_interval_are_refused(patience):
    rows = fake.walk(600)
    with fake.Binance(rows, faults={"always": lambda said: rows}) as server:
        server.interval = "5m"
        with pytest.raises(DataError, match="`timeframe` must be what binance hands over, got '5m'"):
            read(server, patience)


def test_one_bar_of_another_length_is_set_aside(patience):
    rows = fake.walk(60)

    def spoil(said):
        return [[*r[:6], r[6] + 4 * MINUTE, *r[7:]] if i == 10 else r for i, r in enumerate(said)]
    with fake.Binance(rows, faults={1: spoil}) as server:
        reading = read(server, patience)
        same(reading.bars, rows[:10] + rows[11:])
    assert list(reading.quarantine.reason) == ["the bar is of another length"]


@pytest.mark.parametrize("ahead", [0, 600, -600])
def test_the_bar_that_is_forming_is_never_given(patience, ahead):
    now = int(time.time() * 1000)
    theirs = now + ahead * 1000
    first = theirs - theirs % MINUTE - 30 * MINUTE
    with fake.Binance(
        fake.walk(31, first), ahead=ahead
    ) as server:  # the last one is still forming, by its own clock
        reading = read(server, patience, end=None)
        later = time.time() * 1000
    closes = [int(t.timestamp() * 1000) for t in reading.bars.known_at]
    assert max(closes) <= min(later, later + ahead * 1000) and len(closes) >= 19
    assert max(closes) > min(now, theirs) - 3 * MINUTE
    assert int(reading.until.timestamp() * 1000) + MINUTE <= later and reading.quarantine.empty


def test_the_end_is_the_last_closed_bar(patience):
    for now, end, until in (
        ("2024-01-01 10:00:30", None, "09:59"),
        ("2024-01-01 10:01:00", None, "10:00"),
        ("2024-01-01 10:00:30", "2024-01-01 09:30", "09:30"),
        ("2024-01-01 10:00:30", "2024-01-01", "09:59"),
    ):
        frozen = RetryPolicy(
            **{**patience.__dict__, "now": lambda now=now: pd.Timestamp(now, tz="UTC").as_unit("us")}
        )
        with fake.Binance(fake.walk(700)) as server:
            reading = read(server, frozen, start=None, end=end)
        assert reading.until == pd.Timestamp(f"2024-01-01 {until}", tz="UTC") == reading.bars.ts.max()
        assert list(reading.bars.ts) == list(pd.date_range(at(START), reading.until, freq="min"))


def test_nothing_new_is_an_empty_reading(patience):
    frozen = RetryPolicy(**{**patience.__dict__, "now": lambda: at(START + 10 * MINUTE + 5)})
    with fake.Binance(fake.walk(11)) as server:
        (part,) = read(server, frozen, parts=True, start=at(START + 10 * MINUTE), end=None)
    assert part.bars.empty and part.until == at(START + 9 * MINUTE) and part.quarantine.empty
    check_bars(part.bars)


def test_a_revised_bar_is_a_revision_in_the_store(patience, tmp_path):
    store, rows = open_store(tmp_path / "lake"), fake.walk(300)
    with fake.Binance(rows) as server:
        store.write(read(server, patience).bars)
        server.rows = [[*r[:5], "77.5", *r[6:]] if i == 290 else r for i, r in enumerate(rows)]
        written = store.write(read(server, patience, start=at(rows[280][0])).bars)
    assert (written.inserted, written.revised, written.unchanged) == (0, 1, 19)
    assert store.read(["BTC/USDT"], "1m").volume[290] == 77.5


def test_unknown_names_are_answered_with_the_nearest(patience):
    with fake.Binance(fake.walk(10)) as server:
        for how, says in (
            ({"symbols": ["BTC/USD"]}, "did you mean `BTC/USDT`"),
            ({"symbols": ["BTCUSDT"]}, "did you mean `BTC/USDT`"),
            ({"symbols": None}, "`symbols` must be given"),
            ({"bas_url": "x"}, "`bas_url`"),
        ):
            with pytest.raises(DataError, match=says):
                read(server, patience, **how)
    for uri, says in (
        ("ccxt:binnance", "did you mean `binance`"),
        ("ccxt:", "`exchange` must be a known name"),
        ("ccxt:binance?base=1", "did you mean `base_url`"),
        ("ccxt:binance?tries=x", "`tries` must be a positive number"),
        ("ccxt:binance?base_url=ftp://x", "`base_url` must be an http or https address"),
    ):
        with pytest.raises(DataError, match=says):
            read_bars(uri, symbol="BTC/USDT", timeframe="1m")


def test_options_may_stand_in_the_address(waits):
    with fake.Binance(fake.walk(10), faults={"always": "503"}) as server:
        with pytest.raises(DataError, match="asked 2 times"):
            read_bars(
                f"ccxt:binance?base_url={server.url}&tries=2&backoff=0.001",
                symbol="BTC/USDT",
                timeframe="1m",
                start="2024-01-01",
            )


def test_a_timeframe_that_the_exchange_lacks(patience, monkeypatch):
    import ccxt

    frames = {"1m": "1m", "1h": "1h"}
    describe = ccxt.binance.describe
    monkeypatch.setattr(ccxt.binance, "describe", lambda self: {**describe(self), "timeframes": frames})
    with fake.Binance(fake.walk(10)) as server:
        with pytest.raises(DataError, match="`timeframe` must be a known name, got '5m'"):
            read(server, patience, timeframe="5m")


def test_several_symbols_come_one_after_another_and_rows_count_on(patience):
    with fake.Binance(fake.walk(20)) as server:
        with pytest.raises(DataError, match="ETH/USDT 1m stopped after page 0 .nothing came.*Invalid symbol"):
            parts = []
            for part in read_parts(
                "ccxt:binance",
                symbols=["BTC/USDT", "ETH/USDT"],
                timeframe="1m",
                start=at(START),
                end=at(START + 19 * MINUTE),
                base_url=server.url,
                retry=patience,
            ):
                parts.append(part)
        assert [p.bars.symbol.unique().tolist() for p in parts] == [["BTC/USDT"]]
        twice = read(server, patience, symbols=["BTC/USDT", "BTC/USDT"])
    assert len(twice.bars) == 20


def test_the_pages_are_kept_by_hash(patience, tmp_path):
    with fake.Binance(fake.walk(1500)) as server:
        reading = read(server, patience, raw=tmp_path)
    assert len(list(tmp_path.glob("*/*.json"))) == 2
    for (origin, first), n in zip(reading.parts, (1000, 500), strict=True):
        assert origin.startswith("ccxt:") and len(json.loads(raw_file(origin, tmp_path).read_bytes())) == n
        assert json.loads(raw_file(origin, tmp_path).read_bytes())[0] == server.rows[first]


def test_small_parts_and_one_reading_are_the_same(patience):
    with fake.Binance(fake.walk(5500)) as server:
        parts, whole = read(server, patience, parts=True, limit=1), read(server, patience)
    assert [len(p.bars) for p in parts] == [1000] * 5 + [500]
    pd.testing.assert_frame_equal(pd.concat([p.bars for p in parts], ignore_index=True), whole.bars)
    assert np.array_equal(np.concatenate([p.rows for p in parts]), whole.rows)


def test_markets_are_loaded_once(patience):
    with fake.Binance(fake.walk(10)) as server:
        for _ in range(3):
            read(server, patience)
        infos = [p for p, *_ in server.asked if p.endswith("exchangeInfo")]
    assert infos == ["/api/v3/exchangeInfo"]  # and not those of futures, which nobody asked for


def test_a_perpetual_future_is_another_market(patience):
    with fake.Binance(fake.walk(1200)) as server:
        reading = read(server, patience, symbols=["BTC/USDT:USDT"])
        same(reading.bars.assign(symbol="x"), server.rows)
        assert {p for p, *_ in server.asked} == {
            "/api/v3/exchangeInfo",
            "/fapi/v1/exchangeInfo",
            "/dapi/v1/exchangeInfo",
            "/fapi/v1/klines",
        }
        with pytest.raises(DataError, match="did you mean `BTC/USDT`"):
            read(server, patience, symbols=["BTC/USDTT"])


def test_an_exchange_that_forgets_says_so(patience):
    first = (int(time.time()) // 60 - 730) * MINUTE
    with fake.Kraken(fake.walk(720, first)) as server:
        reading = read_bars(
            "ccxt:kraken",
            symbols=["BTC/USD"],
            timeframe="1m",
            start="2024-01-01",
            base_url=server.url,
            retry=patience,
        )
        assert len(server.asked) < 10
    same(reading.bars.assign(trades=[r[8] for r in server.rows]), server.rows)
    assert (
        reading.notes[0]
        == f"BTC/USD 1m: kraken has no bars from 2024-01-01 00:00:00+00:00 to {at(first - MINUTE)}"
    )


def test_a_key_is_wanted(patience):
    with (
        fake.Json(lambda path, asked: {}) as server,
        pytest.raises(DataError, match="not public: it wants a key"),
    ):
        read_bars("ccxt:alpaca", symbols=["BTC/USD"], timeframe="1m", base_url=server.url, retry=patience)


@pytest.mark.parametrize("says", [[], {}, {"symbols": None}, {"symbols": [{"symbol": 5}]}, 7, None])
def test_markets_that_are_none(patience, says):
    with (
        fake.Json(lambda path, asked: says) as server,
        pytest.raises(DataError, match="binance refuses its markets|`symbol` must be a known name"),
    ):
        read_bars("ccxt:binance", symbols=["BTC/USDT"], timeframe="1m", base_url=server.url, retry=patience)


def test_candles_of_a_form_that_nobody_knows(patience):
    for says in ({"code": 0}, "x", 5, {"data": []}):
        with fake.Binance(fake.walk(10), faults={"always": lambda said, says=says: says}) as server:
            try:
                assert read(server, patience).bars.empty
            except DataError as e:
                assert "BTC/USDT 1m" in str(e)


@pytest.mark.parametrize(
    "package, uri, extra", [("ccxt", "ccxt:binance", "exchanges"), ("yfinance.data", "yahoo:", "yahoo")]
)
def test_an_absent_extra_is_named(monkeypatch, package, uri, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"mlfin\[{extra}\]"):
        read_bars(uri, symbol="BTC/USDT")


def test_sources_of_the_web_are_known():
    assert {"ccxt", "yahoo", "rest"} <= set(load_sources())
    assert all(SOURCES[n] is None for n in ("ccxt", "yahoo", "rest"))


# --- any JSON
# ------------------------------------------------------------------------------------------------------------

FIELDS = {"ts": "t", "open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}


def records(n, start=START, seed=0):
    names = ("t", "o", "h", "l", "c", "v")
    return [
        dict(zip(names, [r[0], *map(float, r[1:6])], strict=True)) for r in fake.walk(n, start, seed=seed)
    ]


def rest(
    server,
    patience,
    n=100,
    path="/bars?s={symbol}&i={interval}&from={start_ms}&to={end_ms}&n={limit}",
    parts=False,
    **mapping,
):
    mapping = {
        "url": server.url + path,
        "fields": FIELDS,
        "limit": 40,
        "requests_per_second": 10_000,
    } | mapping
    how = dict(
        symbols=["COIN"],
        timeframe="1m",
        start=at(START),
        end=at(START + (n - 1) * MINUTE),
        retry=patience,
        mapping=mapping,
    )
    return list(read_parts("rest:", **how)) if parts else read_bars("rest:", **how)


def matches(bars, rows):
    assert list(bars.ts) == [at(r["t"]) for r in rows]
    assert all(list(bars[name]) == [r[short] for r in rows] for name, short in list(FIELDS.items())[1:])


def pages_by_time(rows):
    def says(path, asked):
        return [r for r in rows if int(asked["from"]) <= r["t"] <= int(asked["to"])][: int(asked["n"])]
    return says


@pytest.mark.parametrize("fault", ["429", "500", "reset", "cut", "html", "empty"])
def test_rest_by_time(patience, fault):
    rows = records(100)
    with fake.Json(pages_by_time(rows), faults={2: fault}) as server:
        matches(rest(server, patience).bars, rows)
        assert [a["s"] for _, a, _ in server.asked] == ["COIN"] * len(server.asked)


def test_rest_by_page_number(patience):
    rows = records(100)
    def says(path, asked):
        return {"data": {"rows": rows[40 * (int(asked["page"]) - 1):][:40]}}
    with fake.Json(says, faults={2: lambda said: {"data": {"rows": []}}}) as server:
        matches(rest(server, patience, path="/bars?page={page}", paging="page", rows="data.rows").bars, rows)


def test_rest_by_page_number_newest_first(patience):
    rows = records(100)[::-1]
    with fake.Json(lambda path, asked: rows[40 * int(asked["page"]):][:40]) as server:
        reading = rest(
            server, patience, path="/bars?page={page}", paging={"by": "page", "first": 0}, order="descending"
        )
        matches(reading.bars, rows[::-1])
        broken = fake.Json(server.says, faults={n: "500" for n in range(2, 20)})
    with broken, pytest.raises(DataError, match="COIN 1m stopped after page 0 .nothing came"):
        rest(
            broken, patience, path="/bars?page={page}", paging={"by": "page", "first": 0}, order="descending"
        )


@pytest.mark.parametrize("as_url", [False, True])
def test_rest_by_cursor(patience, as_url):
    rows = records(100)
    def says(path, asked):
        i = int(asked.get("cursor") or 0)
        after = i + 40 if i + 40 < len(rows) else None
        return {
            "rows": rows[i : i + 40],
            "next": after if after is None or not as_url else f"/bars?cursor={after}",
        }

    with fake.Json(says) as server:
        reading = rest(
            server,
            patience,
            path="/bars?cursor={cursor}",
            paging={"by": "cursor", "next": "next"},
            rows="rows",
        )
        matches(reading.bars, rows)
        assert len(server.asked) == 3


def test_rest_cursor_that_stands_still_or_leads_away(patience):
    rows = records(100)
    for after, says in (
        (7, "the same next page twice"),
        ("http://elsewhere.invalid/x", "another host, elsewhere.invalid"),
    ):
        with fake.Json(lambda path, asked, after=after: {"rows": rows[:40], "next": after}) as server:
            with pytest.raises(DataError, match=says):
                rest(
                    server,
                    patience,
                    path="/bars?cursor={cursor}",
                    paging={"by": "cursor", "next": "next"},
                    rows="rows",
                )


@pytest.mark.parametrize("shape", ["arrays", "columns", "nested", "seconds", "iso", "iso-zone", "text"])
def test_rest_shapes(patience, shape):
    rows, extra = records(60), {}
    said = rows
    if shape == "arrays":
        said, extra = (
            [list(r.values()) for r in rows],
            {"fields": {"ts": 0, "open": 1, "high": 2, "low": 3, "close": 4, "volume": 5}},
        )
    if shape == "columns":
        said, extra = {"s": "ok", "bars": {k: [r[k] for r in rows] for k in rows[0]}}, {"rows": "bars"}
    if shape == "nested":
        said = [
            {"t": r["t"], "price": {"o": r["o"], "h": r["h"], "l": r["l"], "c": [r["c"]]}, "v": r["v"]}
            for r in rows
        ]
        extra = {
            "fields": {
                "ts": "t",
                "open": "price.o",
                "high": "price.h",
                "low": "price.l",
                "close": "price.c.0",
                "volume": "v",
            }
        }
    if shape == "seconds":
        said, extra = [{**r, "t": r["t"] / 1000} for r in rows], {"time": "s"}
    if shape == "iso":
        said, extra = [{**r, "t": at(r["t"]).strftime("%Y-%m-%dT%H:%M:%SZ")} for r in rows], {"time": "iso"}
    if shape == "iso-zone":
        said = [{**r, "t": at(r["t"]).tz_convert("Asia/Tokyo").strftime("%Y-%m-%d %H:%M")} for r in rows]
        extra = {"time": {"unit": "iso", "zone": "Asia/Tokyo"}}
    if shape == "text":
        said = [{k: str(v) for k, v in r.items()} for r in rows]
    with fake.Json(lambda path, asked: said) as server:
        reading = rest(server, patience, 60, paging="none", **extra)
    matches(reading.bars, rows)
    assert reading.quarantine.empty


def test_rest_file_with_a_secret_a_calendar_and_names_of_its_own(patience, tmp_path, monkeypatch):
    monkeypatch.setenv("DEMO_TOKEN", "s3cret")
    days = pd.date_range("2024-01-02", "2024-02-29", freq="D").strftime("%Y-%m-%d")
    rows = [
        {"symbol": "US.ACME", "date": d, "o": 10, "h": 11, "l": 9, "c": 10.5}
        for d in days
        if pd.Timestamp(d).day_of_week < 5
    ]
    with fake.Json(lambda path, asked: rows) as server:
        file = tmp_path / "acme.yaml"
        file.write_text(f"""
url: {server.url}/v1/{{symbol}}/{{interval}}?from={{start_date}}&to={{end_date}}
headers: {{Authorization: "Bearer ${{DEMO_TOKEN}}"}}
paging: none
fields: {{ts: date, open: o, high: h, low: l, close: c, symbol: symbol}}
symbols: {{ACME: US.ACME}}
timeframes: {{1d: day}}
time: iso
calendar: XNYS
""")
        reading = read_bars(
            f"rest:{file}",
            symbols=["ACME"],
            timeframe="1d",
            start="2024-01-01",
            end="2024-02-29",
            retry=patience,
        )
        (path, asked, headers), = server.asked
        assert path == "/v1/US.ACME/day" and asked["from"] == "2024-01-01"
        assert headers["Authorization"] == "Bearer s3cret"
        with pytest.raises(DataError, match="did you mean `1d`|one of 1d"):
            read_bars(f"rest:{file}", symbols=["ACME"], timeframe="1h", start="2024-01-01", retry=patience)
        monkeypatch.delenv("DEMO_TOKEN")
        with pytest.raises(DataError, match=r"no DEMO_TOKEN there"):
            read_bars(f"rest:{file}", symbols=["ACME"], timeframe="1d", start="2024-01-01", retry=patience)
    assert str(reading.bars.ts[0]) == "2024-01-02 14:30:00+00:00" and set(reading.bars.symbol) == {"ACME"}
    assert (
        list(reading.quarantine.reason) == ["no bar of XNYS at 1d opens then"] * 2
    )  # King's and Washington's days
    assert (reading.bars.volume == 0).all()


def test_a_secret_never_travels_to_another_host_nor_into_a_message(patience, monkeypatch, caplog):
    monkeypatch.setenv("DEMO_TOKEN", "s3cret")
    with (
        fake.Json(lambda path, asked: (403, {"msg": "no"}), faults={}) as server,
        fake.Json(lambda path, asked: []) as other,
    ):
        mapping = dict(path="/bars?key=${DEMO_TOKEN}&from={start_ms}", headers={"X-Api-Key": "${DEMO_TOKEN}"})
        with pytest.raises(DataError) as refused:
            rest(server, patience, **mapping)
        server.fault_out = lambda handler, said: server.send(
            handler, 302, b"", Location=other.url.replace("127.0.0.1", "localhost") + "/"
        )
        server.faults["always"] = "out"
        with pytest.raises(DataError, match="another host") as away:
            rest(server, patience, **mapping)
        server.faults["always"] = "reset"
        with pytest.raises(DataError) as broken:
            rest(server, patience, **mapping)
        assert other.asked == [] and all(h["X-Api-Key"] == "s3cret" for _, _, h in server.asked)
    assert not any("s3cret" in str(e.value) for e in (refused, away, broken)) and "s3cret" not in caplog.text


@pytest.mark.parametrize(
    "mapping, says",
    [
        ({"urls": "x"}, "did you mean `url`"),
        ({"feilds": {}}, "did you mean `fields`"),
        ({"fields": {**FIELDS, "opne": "o"}}, "did you mean `open`"),
        ({"fields": {k: v for k, v in FIELDS.items() if k != "close"}}, "missing: close"),
        ({"fields": {**FIELDS, "open": 1.5}}, "fields.open"),
        ({"url": "http://h/{sybmol}"}, "did you mean `symbol`"),
        ({"url": "h/{start_ms}"}, "an http or https address"),
        ({"url": "http://h/{symbol"}, "a template"),
        ({"paging": "cursors"}, "did you mean `cursor`"),
        ({"paging": {"by": "cursor"}}, "paging.next"),
        ({"paging": {"by": "page", "nxt": 1}}, "did you mean `next`"),
        ({"paging": "page"}, "a template with {page}"),
        ({"url": "http://h/", "paging": "time"}, "a template with {start_ms}"),
        ({"time": "sec"}, "mapping.time"),
        ({"time": {"unt": "s"}}, "did you mean `unit`"),
        ({"time": 5}, "mapping.time"),
        ({"order": "down"}, "ascending or descending"),
        ({"limit": -1}, "mapping.limit"),
        ({"limit": True}, "mapping.limit"),
        ({"timeframes": {"1min": "x"}}, "mapping.timeframes"),
        ({"headers": {"Authorization": "Bearer abc"}}, "looks like a secret"),
        ({"requests_per_second": 0}, "requests_per_second"),
        ({"rows": 3}, "mapping.rows"),
    ],
)
def test_a_wrong_mapping_names_the_key(mapping, says):
    with pytest.raises(DataError, match=says):
        rest_mapping({"url": "http://h/{start_ms}", "fields": FIELDS} | mapping)


def test_a_mapping_file_that_is_none(tmp_path, csv):
    for path, says in (
        (tmp_path / "no.yaml", "a file with a mapping"),
        (csv("a: [", "a.yaml"), "no readable YAML"),
        (csv("- 1", "b.yaml"), "names and values"),
    ):
        with pytest.raises(DataError, match=says):
            read_bars(f"rest:{path}", symbol="X")


def test_a_mapping_that_does_not_fit_the_answer(patience):
    rows = records(50)
    with fake.Json(lambda path, asked: {"meta": 1, "result": {"bars": rows}}) as server:
        for how, says in (
            ({"rows": "results.bars"}, "there is no 'results'(?s:.*)the answer has meta, result"),
            ({"rows": "meta"}, "a path to a list, not to a int"),
            (
                {"rows": "result.bars", "fields": FIELDS | {"close": "cl"}},
                "`mapping.fields.close` must be a known name, got 'cl'",
            ),
            ({"rows": "result.bars", "time": "s"}, "none can be read"),
            ({"rows": "result.bars", "time": "us"}, "mapping.time.unit"),
            ({"rows": "result.bars", "fields": FIELDS | {"symbol": "t"}}, ""),
        ):
            if says:
                with pytest.raises(DataError, match=says):
                    rest(server, patience, 50, paging="none", **how)
            else:
                assert set(rest(server, patience, 50, paging="none", **how).quarantine.reason) == {
                    "a bar of another symbol"
                }


def test_rest_bars_of_another_interval_are_refused(patience):
    rows = records(400)
    for said, timeframe in ((rows[::5], "1m"), (rows, "5m")):
        with fake.Json(lambda path, asked, said=said: said) as server:
            with pytest.raises(DataError, match="`timeframe` must be what 127.0.0.1 hands over"):
                read_bars("rest:", symbols=["COIN"], timeframe=timeframe, start=at(START), retry=patience,
                          mapping={"url": server.url, "fields": FIELDS})


def test_questions_are_put_slowly(patience, waits):
    with fake.Json(pages_by_time(records(200))) as server:
        rest(server, patience, 200, requests_per_second=2)
    assert len(waits) == 4 and all(0 < w <= 0.5 for w in waits)


# --- the layers below
# ----------------------------------------------------------------------------------------------------

def test_retry_after_in_all_its_spellings():
    now = at(START)

    def pause(text, date=None):
        return HttpResponse(
            429, {"retry-after": text} | ({"date": date} if date else {}), b"", now
        ).retry_after

    assert [pause(t) for t in ("3", " 0.25 ", "", "soon", "-5", "nan", "1e9")] == [3, 0.25, 0, 0, 0, 0, 0]
    assert pause("Mon, 01 Jan 2024 00:00:09 GMT") == 9
    assert (
        pause("Mon, 01 Jan 2024 05:00:09 GMT", "Mon, 01 Jan 2024 05:00:00 GMT") == 9
    )  # by the server's clock
    assert pause("Sun, 31 Dec 2023 00:00:09 GMT") == 0


def test_backoff_grows_and_is_random(waits):
    server = HttpClient("x", RetryPolicy(tries=9, backoff=1, sleep=waits.append))
    for _ in range(40):
        with pytest.raises(DataError, match="asked 9 times"):
            server.request(lambda: HttpResponse(500, {}, b"", at(START)), "x")
    tries = np.array(waits).reshape(40, 8)
    assert (tries <= [1, 2, 4, 8, 16, 32, 60, 60]).all() and (np.diff(tries.mean(axis=0)[:6]) > 0).all()
    assert len(set(waits)) == len(waits)


def test_a_page_of_any_size_has_its_limit(monkeypatch, patience):
    monkeypatch.setattr(http_client, "_MOST", 10_000)
    with (
        fake.Json(lambda path, asked: "x" * 20_000) as server,
        pytest.raises(DataError, match="sent more than"),
    ):
        http_request(server.url, patience)


def test_last_closed_by_calendar():
    def last(timeframe, calendar, now, end=None):
        return str(
            last_closed(timeframe, calendar, end and pd.Timestamp(end, tz="UTC"), pd.Timestamp(now, tz="UTC"))
        )

    assert last("1d", "XNYS", "2024-07-06 12:00") == "2024-07-05 13:30:00+00:00"
    assert (
        last("1h", "XNYS", "2024-07-03 18:00") == "2024-07-03 16:30:00+00:00"
    )  # closes at 13:00, half an hour only
    assert last("1w", "24/7", "2024-07-07 23:59") == "2024-06-24 00:00:00+00:00"
    assert last("1w", "XNYS", "2024-07-06 00:00") == "2024-07-01 13:30:00+00:00"
    assert last("1d", "forex", "2024-07-07 12:00") == "2024-07-04 21:00:00+00:00"
    assert last("1m", "24/7", "2024-07-07 12:00:00.5", "2030-01-01") == "2024-07-07 11:59:00+00:00"


# --- Yahoo
# ----------------------------------------------------------------------------------------------------

@pytest.fixture
def yahoo(patience, tmp_path):
    "read(server, symbol, ...) with yfinance's cookies in a folder of the test."
    import yfinance

    yfinance.set_tz_cache_location(str(tmp_path / "cookies"))

    def read(server, symbol="AAPL", now="2014-01-01", parts=False, **how):
        frozen = RetryPolicy(
            **{**patience.__dict__, "now": lambda: pd.Timestamp(now, tz="UTC").as_unit("us")}
        )
        how = dict(symbols=[symbol], base_url=server.url, retry=frozen) | how
        return list(read_parts("yahoo:", **how)) if parts else read_bars("yahoo:", **how)
    return read


def epoch(ts):
    return int(ts.timestamp())


def charted(raw, actions, digits=6):
    """What Yahoo would say of raw daily bars: adjusted for splits, with the last bar's price kept; dividends
    in today's shares."""
    theirs = adjust_bars(raw, actions[actions.kind == "split"], "splits", anchor="end")
    rows = [
        [
            epoch(b.ts),
            *(round(getattr(b, c), digits) for c in ("open", "high", "low", "close")),
            round(b.volume),
        ]
        for b in theirs.itertuples()
    ]
    splits = actions[actions.kind == "split"]
    events = {
        "splits": [
            {
                "date": epoch(a.ex_date),
                "numerator": a.value,
                "denominator": 1.0,
                "splitRatio": f"{a.value:g}:1",
            }
            for a in splits.itertuples()
        ],
        "dividends": [
            {
                "date": epoch(a.ex_date),
                "amount": round(a.value / splits.value[splits.ex_date > a.ex_date].prod(), 6),
            }
            for a in actions[actions.kind == "dividend"].itertuples()
        ],
    }
    return (rows, {}, events), theirs


@pytest.fixture(scope="module")
def charted_once(builtin):
    bars, adjusted, _ = builtin
    mine = bars.symbol == "AAPL"
    raw = bars[mine].reset_index(drop=True)
    actions = derive_actions(raw, adjusted[mine].reset_index(drop=True))
    return raw, actions, *charted(raw, actions)


@pytest.fixture
def apple(charted_once):
    return copy.deepcopy(charted_once)


def test_yahoo_gives_raw_prices_back(yahoo, apple, tmp_path):
    raw, actions, chart, theirs = apple
    assert (actions.kind == "split").sum() == 2
    with fake.Yahoo({("AAPL", "1d"): chart}) as server:
        reading = yahoo(server, raw=tmp_path / "raw")
        assert [p for p, *_ in server.asked if "chart" in p] == ["/v8/finance/chart/AAPL"]
    check_bars(reading.bars)
    assert list(reading.bars.ts) == list(raw.ts) and list(reading.bars.known_at) == list(raw.known_at)
    np.testing.assert_allclose(reading.bars.close, raw.close, rtol=5e-7)  # Yahoo's own rounding
    np.testing.assert_allclose(reading.bars.volume, raw.volume, atol=0.5)
    ours, given = (a.set_index(["ex_date", "kind"]) for a in (actions, reading.actions))
    assert list(ours.index) == list(given.index) and list(ours.known_at) == list(given.known_at)
    np.testing.assert_allclose(ours.value, given.value, rtol=1e-3)
    assert reading.notes == ("AAPL: prices were adjusted for 2 splits; that is undone, they are raw",)
    store = open_store(tmp_path / "lake")
    store.write(reading.bars)
    store.write_actions(reading.actions)
    np.testing.assert_array_equal(store.read(["AAPL"]).close, reading.bars.close)
    split = store.read(["AAPL"], adjust="splits")
    np.testing.assert_allclose(
        split.close / split.factor.iloc[-1], theirs.close.round(6), rtol=1e-12
    )  # Yahoo's own close
    np.testing.assert_allclose(
        adjust_bars(reading.bars, reading.actions, "splits", anchor="end").close,
        theirs.close.round(6),
        rtol=1e-12,
    )


def test_yahoo_after_a_new_split_revises_nothing(yahoo, apple, tmp_path):
    raw, actions, chart, _ = apple
    before = raw[raw.ts < "2005-02-28"].reset_index(drop=True)
    old, _ = charted(before, actions[actions.ex_date < "2005-02-28"], digits=12)
    new, _ = charted(raw, actions, digits=12)
    store = open_store(tmp_path / "lake")
    with fake.Yahoo({("AAPL", "1d"): old}) as server:
        store.write(yahoo(server, now="2005-02-26").bars)
        server.charts["AAPL", "1d"] = new
        reading = yahoo(server, start="2005-02-01")
    np.testing.assert_allclose(reading.bars.close[:18], before.close[-18:], rtol=1e-9)
    written = store.write(reading.bars[reading.bars.ts > "2005-02-27"].reset_index(drop=True))
    assert written.revised == 0 and written.inserted == (raw.ts > "2005-02-27").sum()


def test_yahoo_split_after_the_end_counts(yahoo, apple):
    raw, _, chart, _ = apple
    with fake.Yahoo({("AAPL", "1d"): chart}) as server:
        reading = yahoo(server, start="2004-03-01", end="2004-03-31")
    mine = raw[(raw.ts >= "2004-03-01") & (raw.ts < "2004-04-01")]
    assert len(reading.bars) == 23 and "2005-02-28" in str(reading.actions.ex_date.tolist())
    np.testing.assert_allclose(reading.bars.close, mine.close, rtol=5e-7)


def test_yahoo_lists_a_split_that_it_did_not_apply(yahoo, apple):
    raw, actions, _, _ = apple
    (rows, meta, events), _ = charted(raw, actions[actions.ex_date < "2005-02-01"])
    _, _, listed = charted(raw, actions)[0]
    with fake.Yahoo({("AAPL", "1d"): (rows, meta, {**events, "splits": listed["splits"]})}) as server:
        reading = yahoo(server)
    np.testing.assert_allclose(reading.bars.close, raw.close, rtol=5e-7)
    assert any(
        "the split of 2 on 2005-02-28 shows in Yahoo's prices; it is not undone" in n for n in reading.notes
    )


def test_yahoo_empty_rows_repeated_rows_and_the_session_that_is_open(yahoo, apple):
    raw, _, (rows, meta, events), _ = apple
    now = raw.ts.iloc[-1] + pd.Timedelta("3h")
    said = [r if i != 100 else [r[0], None, None, None, None, None] for i, r in enumerate(rows)]
    said = [
        *said,
        rows[-2],
        [epoch(now) - 60, *rows[-1][1:]],
    ]  # yesterday again, and the price of this minute
    with fake.Yahoo({("AAPL", "1d"): (said, meta, events)}) as server:
        reading = yahoo(server, now=str(now.tz_localize(None)))
    assert list(reading.bars.ts) == list(raw.ts[:100]) + list(raw.ts[101:-1])
    assert reading.until == raw.ts.iloc[-2]
    assert list(reading.quarantine.reason) == ["`open` is missing"]
    assert json.loads(reading.quarantine.raw[0]) == dict(
        zip(["timestamp", "open", "high", "low", "close", "volume"], said[100], strict=True)
    )


@pytest.mark.parametrize("fault", ["429", "500", "503", "cut", "html", "reset", "broken"])
def test_yahoo_faults_are_overcome(yahoo, apple, fault):
    raw, _, chart, _ = apple
    with fake.Yahoo(
        {("AAPL", "1d"): chart}, faults={1: fault, 2: fault}
    ) as server:  # yfinance asks twice by itself
        reading = yahoo(server)
    assert len(reading.bars) == len(raw) and any("asked again" in n for n in reading.notes)


def test_yahoo_silence_ends_in_a_message(yahoo, apple):
    with fake.Yahoo({("AAPL", "1d"): apple[2]}, faults={"always": "hang"}) as server:
        with pytest.raises(
            DataError, match="yahoo did not hand over AAPL 1d from .*: no answer in time; asked 2 times"
        ):
            yahoo(server, retry=RetryPolicy(tries=2, connect=0.2, read=0.2, backoff=0.01))


def test_yahoo_bars_of_a_minute_by_the_week(yahoo):
    now = pd.Timestamp("2024-05-31 20:30", tz="UTC")
    clock = pd.date_range("2024-04-15", "2024-05-31 20:00", freq="min", tz="UTC")
    local = clock.tz_convert("America/New_York")
    opened = clock[
        (local.time >= pd.Timestamp("09:30").time())
        & (local.time < pd.Timestamp("16:00").time())
        & (local.day_of_week < 5)
        & (local.date != pd.Timestamp("2024-05-27").date())
    ]
    rows = [[epoch(t), 10.0, 11.0, 9.0, 10.5, 100] for t in opened]
    split = {
        "splits": [
            {"date": epoch(pd.Timestamp("2024-05-20 13:30", tz="UTC")), "numerator": 10.0, "denominator": 1.0}
        ]
    }
    extra = [
        [epoch(now.normalize() + pd.Timedelta("20h")), 10.0, 10.0, 10.0, 10.0, 0]
    ]  # the closing price, after the last minute
    daily = [[epoch(t), 10.0, 11.0, 9.0, 10.5, 1000] for t in opened[::390]]
    with fake.Yahoo({("ACME", "1m"): (rows + extra, {}, {}), ("ACME", "1d"): (daily, {}, split)}) as server:
        reading = yahoo(server, "ACME", now=str(now.tz_localize(None)), timeframe="1m", start="2024-01-01")
        spans = [
            (int(a["period2"]) - int(a["period1"])) / 86400
            for p, a, _ in server.asked
            if a.get("interval") == "1m"
        ]
        with pytest.raises(DataError, match="Yahoo keeps 30 days of 1m"):
            yahoo(
                server,
                "ACME",
                now=str(now.tz_localize(None)),
                timeframe="1m",
                start="2024-01-01",
                end="2024-02-01",
            )
    assert max(spans) < 7 and len(spans) >= 5
    assert list(reading.bars.ts) == list(opened[opened >= "2024-05-01 21:30"])
    assert "Yahoo keeps 30 days of such bars, nothing before 2024-05-01 21:30 was asked for" in str(
        reading.notes
    )
    old = reading.bars.ts < "2024-05-20"
    assert set(reading.bars.close[old]) == {105.0} and set(reading.bars.volume[old]) == {10.0}
    assert set(reading.bars.close[~old]) == {10.5}
    assert reading.quarantine.empty  # the closing price lies behind the last bar


def test_yahoo_says_what_it_does_not_have(yahoo, apple):
    chart = apple[2]
    with fake.Yahoo(
        {
            ("AAPL", "1d"): chart,
            ("SAP.DE", "1d"): (chart[0], {"exchangeTimezoneName": "Europe/Berlin"}, {}),
            ("OLD", "1d"): (chart[0], {"symbol": "NEW"}, {}),
            ("ODD", "1d"): (chart[0], {"dataGranularity": "1mo"}, {}),
            ("BAD", "1d"): (
                chart[0],
                {},
                {"splits": [{"date": chart[0][5][0], "numerator": 2, "denominator": 0}]},
            ),
        }
    ) as server:
        for symbol, how, says in (
            ("APPL", {}, "Yahoo has no APPL 1d from .*: No data found, symbol may be delisted"),
            ("SAP.DE", {}, "keeps the time of Europe/Berlin"),
            ("OLD", {}, "it answers for NEW"),
            ("ODD", {}, "it sent 1mo"),
            ("BAD", {}, "a split of BAD that is none"),
            ("AAPL", {"timeframe": "1w"}, "one of 1m, 5m, 15m, 1h, 1d"),
            ("AAPL", {"symbols": []}, "`symbols` must be given"),
        ):
            with pytest.raises(DataError, match=says):
                yahoo(server, symbol, **how)
    with pytest.raises(DataError, match="`path` must be empty"):
        read_bars("yahoo:AAPL")


def test_yahoo_leaves_the_session_of_yfinance_alone(yahoo, apple):
    from yfinance.data import YfData

    shared = YfData()
    session = shared._session
    with fake.Yahoo({("AAPL", "1d"): apple[2]}) as server:
        yahoo(server)
    assert YfData() is shared and shared._session is session
