"""A program that knows nothing of mlfin inserts minute bars into PostgreSQL, while a real service runs, dies, and is there twice."""
import time

import numpy as np
import pandas as pd
import pytest

psycopg = pytest.importorskip("psycopg")

from mlfin.data.bars import as_bars  # noqa: E402
from mlfin.data.warehouse import Warehouse  # noqa: E402
from mlfin.features.table import compute_features  # noqa: E402
from mlfin.serve.flat import FLAT, FlatFeatures  # noqa: E402

from .served import SPECS, Served, beside, key_of, postgresql, project  # noqa: E402

INSERT = "INSERT INTO market_data (ts, symbol, timeframe, open, high, low, close, volume, spread) VALUES (%s, %s, 'M1', %s, %s, %s, %s, %s, %s)"
FIRST = pd.Timestamp("2024-05-01", tz="UTC")


@pytest.fixture(scope="module")
def postgres():
    with postgresql() as running:
        yield running


@pytest.fixture
def place(postgres, request):
    """A new warehouse with a user `feeder` of another program; its address, and that user's."""
    name = f"p{abs(hash(request.node.nodeid)) % 10**9}"
    postgres.sql(f"CREATE DATABASE {name}")
    Warehouse(postgres.url(name)).grant(feeder="feeder")
    return postgres.url(name), postgres.url(name, "feeder")


def minutes(bars: pd.DataFrame, last: pd.Timestamp) -> pd.DataFrame:
    """Daily bars as minutes, the last of which opens at a moment."""
    ts = (last - (bars.ts.max() - bars.ts) / 1440).astype("datetime64[us, UTC]")
    return as_bars(bars.assign(timeframe="1m", ts=ts, known_at=ts + pd.Timedelta("1min")))


def row(bar) -> tuple:
    return bar.ts, bar.symbol, bar.open, bar.high, bar.low, bar.close, bar.volume, 0.01


def until(wanted, seconds: float = 60.0) -> float:
    """Seconds until something holds."""
    began = time.monotonic()
    while not wanted():
        assert time.monotonic() - began < seconds, "it never came"
        time.sleep(0.01)
    return time.monotonic() - began


def taught(settings, store, bars) -> None:
    """A champion of minute bars, which the store has."""
    from mlfin.models.registry import crown, register, write_verdict

    beside("models", "left_run.py").leave(settings, "main", specs=SPECS, bars=bars)
    write_verdict(settings, made := register(settings, "main"), "passed", "all is well", {"checks": []})
    crown(settings, "main", made.number, None)
    store.write(bars)


def test_a_minute_that_is_inserted_is_stored_foretold_from_and_survives_the_service(place, tmp_path):
    url, feeder = place
    store, (settings, given) = Warehouse(url), project(tmp_path, store=url)
    last = pd.Timestamp.now("UTC").floor("min") - pd.Timedelta("6min")
    whole = minutes(beside("models", "left_run.py").bars_that_remember(days=305, symbols=("AAA", "BBB")), last + pd.Timedelta("5min"))
    bars, more = whole[whole.ts <= last].reset_index(drop=True), whole[(whole.ts > last) & (whole.symbol == "AAA")].reset_index(drop=True)
    taught(settings, store, bars)
    key = key_of(settings)
    with Served(tmp_path, given) as server, psycopg.connect(feeder, autocommit=True) as con:
        assert server.ask("GET", "/health")[::2] == (200, {"status": "ok"}) and server.ask("GET", "/v1/health")[0] in (401, 404)

        def ask(text, *given): return con.execute(text, given).fetchall()
        times = []
        for bar in more[:3].itertuples():
            con.execute(INSERT, row(bar))
            times.append(until(lambda bar=bar: ask("SELECT FROM market_data WHERE ts = %s AND symbol = 'AAA' AND close = %s", bar.ts, bar.close)))
        assert min(times) < 1, times
        said = server.ask("GET", "/v1/signals?timeframe=1m&symbol=AAA", key=key)[2]["signals"][0]
        until(lambda: ask("SELECT FROM model_signals WHERE symbol = 'AAA' AND timeframe = 'M1' AND ts = %s AND prob_up = %s", more.ts[2], said["probability"]))
        until(lambda: ask("SELECT FROM features_m1 WHERE symbol = 'AAA' AND ts = %s", more.ts[2]))
        server.kill()
        con.execute(INSERT, row(more.iloc[3]))
        assert ask("SELECT count(*) FROM market_data WHERE ts = %s", more.ts[3]) == [(0,)]   # it waits for the service
        server.start()
        con.cursor().executemany(INSERT, [row(more.iloc[n]) for n in (2, 3, 4, 4)])
        until(lambda: ask("SELECT FROM features_m1 WHERE symbol = 'AAA' AND ts = %s", more.ts[4]))
        assert ask("SELECT close FROM market_data WHERE symbol = 'AAA' AND ts > %s ORDER BY ts", last) == [(c,) for c in more.close]
        found = ask("SELECT ts, rsi, macd, macd_signal, macd_hist, atr, ma60, ret_1 FROM features_m1 WHERE symbol = 'AAA' ORDER BY ts")
    known = compute_features(whole[whole.symbol == "AAA"].reset_index(drop=True), FLAT, short="nan")
    columns = ["rsi_14", "macd_12_26_9", "macd_signal_12_26_9", "macd_hist_12_26_9", "atr_14", "ma60", "ret_1"]
    np.testing.assert_array_equal(np.array([r[1:] for r in found], dtype=float), known[columns].to_numpy())   # as over the whole history, to the last bit
    assert [r[0] for r in found] == list(known.ts)


def test_flat_features_follow_what_is_inserted_and_nothing_else(place, caplog):
    url, feeder = place
    store = Warehouse(url)
    flat = FlatFeatures(store)
    assert flat.follow() == 0
    whole = minutes(beside("models", "left_run.py").bars_that_remember(days=100, symbols=("AAA", "BBB")), FIRST)
    store.write(whole)
    assert flat.follow() == 0                                            # nobody inserted these
    with psycopg.connect(url) as con:
        con.execute("INSERT INTO mlfin.spellings SELECT id, 'M1' FROM mlfin.series WHERE symbol = 'AAA'")
    store.write(minutes(beside("models", "left_run.py").bars_that_remember(days=101, symbols=("CCC",)), FIRST))
    assert flat.follow() == 100 and flat.follow() == 0 and set(store.read_features(timeframe="1m").symbol) == {"AAA"}
    one = whole[(whole.symbol == "AAA") & (whole.ts == whole.ts.max())].reset_index(drop=True)
    store.push(one.assign(ts=one.ts + pd.Timedelta("1min"), known_at=one.known_at + pd.Timedelta("1min")))
    assert flat.follow() == 1
    few = FlatFeatures(store, most=50)
    assert few.follow() == 0 and "not kept up" in caplog.text


@pytest.mark.slow
def test_two_services_that_are_killed_again_and_again_take_every_row_once(place, tmp_path):
    url, feeder = place
    servers = [Served(tmp_path / name, project(tmp_path / name, store=url)[1]) for name in ("one", "two")]
    rng, sent = np.random.default_rng(0), 0
    with psycopg.connect(feeder, autocommit=True) as con:
        for s in servers: s.start()
        for turn in range(24):
            text = "INSERT INTO market_data SELECT %s::timestamptz + n * interval '1 min', 'A', 'M1', 1, 1, 1, n, 1, 0 FROM generate_series(%s::int, %s::int) n"
            con.execute(text.replace("1, 1, 1, n, 1, 0", "1, n + 1, 1, 1, 1, 0"), (FIRST, sent, sent + 1999))
            sent += 2000
            time.sleep(rng.uniform(0, 0.6))
            one = servers[turn % 2]
            one.kill()
            one.start()
        until(lambda: con.execute("SELECT count(*) FROM market_data").fetchone() == (sent,), 120)
        for s in servers: s.stop()
    store = Warehouse(url)
    store.fold()
    history = store.history("bars", ["A"], "1m")
    assert len(history) == sent == len(store.read("A", "1m")) and len(store.read_quarantine()) == 0


@pytest.mark.slow
def test_a_hundred_thousand_rows_in_one_transaction(place, tmp_path):
    url, feeder = place
    with Served(tmp_path, project(tmp_path, store=url)[1]) as server, psycopg.connect(feeder, autocommit=True) as con:
        con.execute("INSERT INTO market_data SELECT %s::timestamptz + n * interval '1 min', 'A', 'M1', 1, 2, 1, 1.5, 1, 0 FROM generate_series(1, 100000) n", (FIRST,))
        took = until(lambda: con.execute("SELECT count(*) FROM market_data").fetchone() == (100_000,), 120)
        print(f"100,000 rows of one transaction were taken in {took:.1f} s")
        until(lambda: con.execute("SELECT count(*) FROM features_m1").fetchone() == (100_000,), 120)
        assert server.ask("GET", "/health")[0] == 200
