"""Bars from real databases: every kind of column comes back as it went in, only what is new is asked for,
nothing is written."""
import tracemalloc
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from mlfin.core.errors import DataError
from mlfin.sources.databases import database_url
from mlfin.ingest.ingest import ingest
from mlfin.ingest.store_update import update
from mlfin.warehouse.opening import open_store
from mlfin.sources.sources import read_bars, read_parts

ROWS = 1_500
ZONE = "America/New_York"


def candles(symbol: str, seed: int, start="2024-03-08 12:00") -> pd.DataFrame:
    """Five-minute bars over the night in which New York's clocks jump."""
    rng = np.random.default_rng(seed)
    close = (100 + np.cumsum(rng.normal(0, 0.02, ROWS))).round(4)
    ts = pd.date_range(start, periods=ROWS, freq="5min", tz="UTC").as_unit("us")
    return pd.DataFrame(
        {
            "symbol": symbol,
            "ts": ts,
            "open": close,
            "high": close + 0.5,
            "low": close - 0.5,
            "close": (close + 0.1).round(4),
            "volume": rng.integers(1, 900, ROWS).astype(float),
        }
    )


@pytest.fixture(scope="session")
def sent():
    return pd.concat([candles("ABC", 1), candles("X/Y", 2)], ignore_index=True)


KINDS = ["sqlite", "postgresql", "pgbouncer", "mariadb"]
THROUGH_A_POOLER_TOO = pytest.mark.parametrize(
    "database", KINDS, indirect=True, scope="session"
)  # else only in the slow tier


@pytest.fixture(
    scope="session",
    params=[pytest.param(k, marks=[pytest.mark.slow] if k == "pgbouncer" else []) for k in KINDS],
)
def database(request, server, sent, tmp_path_factory):
    """A database with the same bars in tables of different habits."""
    text = (
        f"sqlite:///{tmp_path_factory.mktemp('db')}/team.db"
        if request.param == "sqlite"
        else server(request.param)
    )
    if request.param == "pgbouncer":
        plain = sa.make_url(server("postgresql")).set(drivername="postgresql+psycopg", database="pooled")
        fresh(plain, "pooled")
        text, write = text.removesuffix("/postgres") + "/pooled", plain
    elif request.param == "sqlite":
        write = sa.make_url(text)
    else:
        write = database_url(text)
    engine = sa.create_engine(write)
    local = sent.ts.dt.tz_convert(ZONE)
    numbers = {c: [Decimal(str(v)) for v in sent[c]] for c in ("open", "high", "low", "close")}
    aware = sa.DateTime(timezone=True) if "postgres" in str(write) else sa.DateTime()
    with engine.begin() as con:
        for table in ("aware", "local", "counted", "texts", "dirty"):
            con.execute(sa.text(f"DROP TABLE IF EXISTS {table}"))
        def put(name, frame, types):
            frame.to_sql(name, con, index=False, dtype=types)
        number = sa.Numeric(12, 4)
        put(
            "aware",
            sent.assign(ts=sent.ts if "postgres" in str(write) else sent.ts.dt.tz_localize(None), **numbers),
            {"ts": aware, "symbol": sa.String(20), **dict.fromkeys(numbers, number)},
        )
        put(
            "local",
            sent.drop(columns="ts").assign(at=local.dt.tz_localize(None)),
            {"at": sa.DateTime(), "symbol": sa.String(20)},
        )
        put(
            "counted",
            sent.drop(columns="ts").assign(t=sent.ts.astype("int64") // 1000),
            {"t": sa.BigInteger(), "symbol": sa.String(20)},
        )
        texts = {c: [f"{v:.4f}" for v in sent[c]] for c in numbers}
        put("texts", sent.drop(columns="ts").assign(time=sent.ts.dt.strftime("%Y-%m-%dT%H:%M:%SZ"), **texts),
            {c: sa.String(30) for c in ("symbol", "time", *numbers)})
        put(
            "dirty",
            pd.DataFrame(DIRTY, columns=["symbol", "ts", "price", "volume"]),
            {c: sa.String(30) for c in ("symbol", "ts", "price")},
        )
    engine.dispose()
    return f"sql:{text}"


DIRTY = [
    ("ABC", "2024-01-02 10:00", "1.5", 5),
    ("ABC", "2024-01-02 10:01", "n/a", 5),
    ("ABC", "2024-01-02 10:02", None, 5),
    ("ABC", "2024-01-02 10:03", "2.5", 5),
    ("ABC", "2024-01-02 10:03", "2.5", 5),
    ("ABC", "2024-01-02 10:04", "3.5", 5),
    ("ABC", "2024-01-02 10:04", "4.5", 5),
    ("ABC", "yesterday", "1.5", 5),
    ("ABC", "2024-01-02 10:05", "1.5", 6),
]


def fresh(url, name):
    """A new, empty database."""
    engine = sa.create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as con:
        con.execute(sa.text(f"DROP DATABASE IF EXISTS {name}"))
        con.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()


WAYS = {"aware": dict(tz="UTC"), "local": dict(tz=ZONE, columns={"at": "ts"}), "counted": {}, "texts": {}}


@THROUGH_A_POOLER_TOO
@pytest.mark.parametrize("table", WAYS)
def test_every_kind_of_column_comes_back_as_it_went_in(database, sent, table):
    found = read_bars(f"{database}#{table}", timeframe="5m", **WAYS[table])
    assert found.quarantine.empty and len(found.bars) == len(sent)
    back = found.bars.sort_values(["symbol", "ts"], ignore_index=True)
    for column in ("symbol", "ts", "open", "high", "low", "close", "volume"):
        assert back[column].tolist() == sent[column].tolist(), column


@THROUGH_A_POOLER_TOO
@pytest.mark.parametrize("table", WAYS)
def test_a_period_is_asked_for_in_the_column_s_own_terms(database, sent, table):
    begin, end = (
        pd.Timestamp("2024-03-10 06:30", tz="UTC"),
        pd.Timestamp("2024-03-10 07:15", tz="UTC"),
    )  # New York's clocks jump at 07:00
    found = read_bars(
        f"{database}#{table}", symbols=["X/Y"], timeframe="5m", start=begin, end=end, **WAYS[table]
    )
    wanted = sent[(sent.symbol == "X/Y") & sent.ts.between(begin, end)]
    assert found.bars.ts.tolist() == wanted.ts.tolist() and found.bars.close.tolist() == wanted.close.tolist()


@THROUGH_A_POOLER_TOO
def test_parts_are_small_and_count_through(database, sent):
    parts = list(read_parts(f"{database}#aware", limit=1, timeframe="5m", tz="UTC"))
    assert [len(p.bars) for p in parts] == [1000, 500] * 2
    assert np.concatenate([p.rows for p in parts]).tolist() == list(range(len(sent)))
    assert len({p.content_hash for p in parts}) == 4


@THROUGH_A_POOLER_TOO
def test_a_query_binds_what_it_is_given(database, sent):
    how = dict(timeframe="5m", tz="UTC", symbols=["ABC"])
    query = "SELECT symbol, ts, open, high, low, close, volume FROM aware WHERE volume > :least;"
    found = read_bars(database, query=query, parameters={"least": 450}, **how)
    assert found.bars.ts.tolist() == sent.ts[(sent.symbol == "ABC") & (sent.volume > 450)].tolist()
    evil = "ABC'; DROP TABLE aware; --"
    with pytest.raises(DataError, match="DROP TABLE"):
        read_bars(f"{database}#aware", **how | {"symbols": [evil]})
    with pytest.raises(DataError, match="values for least"):
        read_bars(database, query=query, **how)
    assert len(read_bars(f"{database}#aware", **how).bars) == ROWS


def held(database):
    """Rows of the table that no question may change."""
    engine = sa.create_engine(database_url(database.removeprefix("sql:")))
    with engine.connect() as con:
        rows = con.execute(sa.text("SELECT count(*) FROM aware")).scalar_one()
    engine.dispose()
    return rows


@pytest.mark.parametrize(
    "query",
    ["DELETE FROM aware", "INSERT INTO aware (symbol) VALUES ('Q')", "DROP TABLE aware", "SELECT FROM WHERE"],
)
def test_what_is_no_question_changes_nothing(database, query):
    with pytest.raises(DataError) as said:
        read_bars(database, query=query, timeframe="5m", tz="UTC", symbols=["ABC"])
    assert "Hint:" in str(said.value) and "Traceback" not in str(said.value)
    assert held(database) == 2 * ROWS


HOSTILE = [
    "SELECT 1 AS ts) q; COMMIT; DROP TABLE aware; SELECT * FROM (SELECT 1",
    "SELECT 1; DROP TABLE aware",
    "SELECT * FROM aware; DELETE FROM aware",
    "DROP TABLE aware;",
    "WITH gone AS (DELETE FROM aware RETURNING *) SELECT * FROM gone",
    "SELECT * INTO stolen FROM aware",
    "SELECT * FROM aware FOR UPDATE",
    "TRUNCATE aware",
    "SELECT * FROM aware INTO OUTFILE '/tmp/stolen'",
    "SELECT '\\' ) q; DROP TABLE aware; -- '",
    "SELECT 1 /*! ) q; DROP TABLE aware; */",
    "SELECT 1 /*M! ; DROP TABLE aware */",
    "SELECT 1 -- '\n) q; DROP TABLE aware; -- '",
    "SELECT $a$ ' $a$) q; DROP TABLE aware; -- '",
    "SELECT 1 ` 2) q; DROP TABLE aware; SELECT (1 ` 2",
    "(SELECT 1",
    "SELECT 1 -- end",
    "SELECT q'[']' FROM aware",
    "PRAGMA query_only=OFF",
    "ATTACH 'x.db' AS x",
    "SET TRANSACTION READ WRITE",
    "",
    "-- nothing",
    "EXPLAIN SELECT 1",
    "COPY aware TO PROGRAM 'true'",
]


@pytest.mark.parametrize("query", HOSTILE)
def test_only_one_question_is_let_through(database, query):
    with (
        pytest.raises(DataError, match="`query` must be one SELECT")
        if "`" not in query
        else pytest.raises(DataError)
    ):
        read_bars(database, query=query, timeframe="5m", tz="UTC", symbols=["ABC"])
    assert held(database) == 2 * ROWS


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM texts WHERE time <> ';' AND symbol = 'ABC'",
        "select t.* from (select * from texts) t -- the usual\n where symbol='ABC'",
        "WITH a AS (SELECT * FROM texts WHERE symbol = 'ABC') SELECT * FROM a;",
        "SELECT /* a drop of it */ * FROM texts WHERE symbol IN ('ABC', 'it''s')",
    ],
)
def test_questions_of_all_forms_are_answered(database, sent, query):
    assert (
        read_bars(database, query=query, timeframe="5m", symbols=["ABC"]).bars.close.tolist()
        == sent.close[sent.symbol == "ABC"].tolist()
    )


@THROUGH_A_POOLER_TOO
def test_a_session_that_writes_all_the_same_is_refused(database):
    """Were a text to slip through, the session itself would not write."""
    url = database_url(database.removeprefix("sql:"))
    from mlfin.sources.databases import read_only_connection

    for statement in ("DELETE FROM aware", "CREATE TABLE stolen (a INT)"):
        with pytest.raises(DataError, match="(?i)read.?only"), read_only_connection(url) as found:
            found.execute(sa.text(statement))
    assert held(database) == 2 * ROWS


def test_dirty_rows_have_reasons_and_copies_are_stored_once(database, tmp_path):
    query = "SELECT symbol, ts, price AS open, price AS high, price AS low, price AS close, volume FROM dirty"
    how = dict(timeframe="1m", symbols=["ABC"])
    with pytest.raises(DataError, match="`tz`"):
        read_bars(database, query=query, **how)
    found = read_bars(database, query=query, tz="UTC", **how)
    reasons = found.quarantine.reason.tolist()
    assert len(found.bars) + len(reasons) == len(DIRTY)
    assert reasons.count("`open` is not a number") == 1 and reasons.count("`open` is missing") == 1
    assert sum("time" in r for r in reasons) == 1
    done = ingest(database, query=query, tz="UTC", store=tmp_path / "store", **how)
    kept = open_store(tmp_path / "store").read("ABC", "1m")
    aside = open_store(tmp_path / "store").read_quarantine()
    assert not kept.duplicated("ts").any() and done.written.inserted == len(kept)
    assert len(kept) + len(aside) == len(DIRTY)
    assert {"10:00", "10:03", "10:05"} <= set(kept.ts.dt.strftime("%H:%M"))
    assert aside.reason.str.contains("same|twice|copy|duplicate|key").any()
    again = ingest(database, query=query, tz="UTC", store=tmp_path / "store", **how)
    assert again.written.inserted == 0 and len(open_store(tmp_path / "store").read_quarantine()) == len(aside)


def test_times_without_a_zone_need_one(database):
    with pytest.raises(DataError, match="tz"):
        read_bars(f"{database}#local", symbols=["ABC"], timeframe="5m", columns={"at": "ts"})


def test_the_zone_of_a_table_is_said_once(database, sent, tmp_path):
    """The store kept the zone of files only: a nightly question to a database had to name it for ever."""
    how = dict(timeframe="5m", columns={"at": "ts"}, store=open_store(str(tmp_path / "store")))
    first = ingest(f"{database}#local", symbols=["ABC"], end="2024-03-11", tz=ZONE, **how)
    again = ingest(f"{database}#local", symbols=["ABC"], **how)
    assert again.written.inserted == ROWS - len(first.bars)
    assert again.bars.ts.tolist() == sent.ts[sent.symbol == "ABC"].tolist()
    with pytest.raises(DataError, match=f"{ZONE}: the store keeps it with ABC 5m"):
        ingest(f"{database}#local", symbols=["ABC"], tz="UTC", full=True, **how)
    assert len(how["store"].read(["ABC"], "5m")) == ROWS
    with pytest.raises(DataError, match="tz"): ingest(f"{database}#local", symbols=["X/Y"], **how)
    ingest(f"{database}#counted", symbols=["X/Y"], timeframe="5m", store=how["store"])
    assert set(how["store"].read_attributes().query("attribute == 'tz'").symbol) == {"ABC"}


@THROUGH_A_POOLER_TOO
def test_only_what_is_new_is_fetched(database, sent, tmp_path, monkeypatch):
    store, how = open_store(str(tmp_path / "store")), dict(timeframe="5m", tz="UTC", symbols=["ABC"])
    first = ingest(f"{database}#aware", store=store, end="2024-03-12 12:00", **how)
    assert first.written.inserted == len(first.bars) == 4 * 24 * 12 + 1
    fetched = []
    import mlfin.sources.databases as module

    judged = module._batch_result
    monkeypatch.setattr(
        module, "_batch_result", lambda table, *rest: fetched.append(len(table.frame)) or judged(table, *rest)
    )
    again = ingest(f"{database}#aware", store=store, **how)
    assert again.written.inserted == ROWS - len(first.bars) and len(again.bars) == ROWS
    assert sum(fetched) < ROWS - 100  # from the overlap on, not everything
    assert again.bars.close.tolist() == sent.close[sent.symbol == "ABC"].tolist()


def test_text_prices_missing_values_and_copies_have_reasons(server, tmp_path):
    url = f"sqlite:///{tmp_path}/dirty.db"
    rows = [
        ("2024-01-02 10:00", "1.5", 5),
        ("2024-01-02 10:01", "n/a", 5),
        ("2024-01-02 10:02", None, 5),
        (None, "1.5", 5),
        ("02.01.2024", "1.5", 5),
        ("2024-01-02 10:03", "1,234.5", 5),
    ]
    engine = sa.create_engine(url)
    with engine.begin() as con:
        con.execute(sa.text("CREATE TABLE t (ts TEXT, price TEXT, volume INT)"))
        con.execute(
            sa.text("INSERT INTO t VALUES (:ts, :price, :volume)"),
            [dict(zip(("ts", "price", "volume"), r, strict=True)) for r in rows],
        )
    query = "SELECT ts, price AS open, price AS high, price AS low, price AS close, volume FROM t"
    found = read_bars(f"sql:{url}", query=query, symbol="ABC", timeframe="1m", tz="UTC")
    reasons = found.quarantine.reason.tolist()
    assert len(found.bars) + len(reasons) == len(rows)
    assert "`open` is not a number" in reasons and "`open` is missing" in reasons
    assert any("time" in r for r in reasons)


def test_messages_hold_no_password_and_say_what_to_do(server, monkeypatch, tmp_path):
    how = dict(symbols=["ABC"], timeframe="5m", tz="UTC")
    port = server("postgresql").rpartition(":")[2].partition("/")[0]
    monkeypatch.setenv("TEAM_PASSWORD", "very-secret")
    for uri, words in [(f"sql:postgresql://postgres:$TEAM_PASSWORD@127.0.0.1:{port}/no_such#t", "no_such"),
                       ("sql:postgresql://postgres:very-secret@127.0.0.1:1/x#t", "refused"),
                       ("sql:oracle://scott:very-secret@127.0.0.1/x#t", "driver|dialect"),
                       ("sql:postgresql//very-secret@x#t", "address")]:
        with pytest.raises(DataError, match=f"(?i){words}") as said:
            read_bars(uri, **how)
        assert "very-secret" not in str(said.value) and "Hint:" in str(said.value)


def test_the_account_of_an_update_holds_no_password(server, tmp_path):
    url = sa.make_url(server("postgresql")).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url)
    with engine.begin() as con:
        con.execute(sa.text("CREATE TABLE IF NOT EXISTS one AS SELECT 'ABC' AS symbol, TIMESTAMPTZ "
                            "'2024-01-02 10:00Z' AS ts, 1.0 AS open, 1.0 AS high, "
                            "1.0 AS low, 1.0 AS close, 1 AS volume"))
    engine.dispose()
    told = server("postgresql").replace("postgres@", "postgres:very-secret@")
    done = update(f"sql:{told}#one", symbols=["ABC"], timeframes="1m", store=tmp_path / "store")
    assert done.series.inserted.tolist() == [1] and "very-secret" not in f"{done} {done.origin}"
    assert "postgres:...@" in done.origin


def test_a_full_server_is_one_message(server):
    url = sa.make_url(server("postgresql")).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, pool_size=100, max_overflow=0)
    held = []
    try:
        with pytest.raises(sa.exc.OperationalError):
            for _ in range(100):
                held.append(engine.connect())
        with pytest.raises(DataError, match="too many clients|remaining connection slots"):
            read_bars(f"sql:{server('postgresql')}#aware", symbols=["ABC"], timeframe="5m", tz="UTC")
    finally:
        for con in held:
            con.close()
        engine.dispose()


@pytest.mark.slow
def test_a_table_larger_than_the_memory_comes_in_parts(server):
    url = sa.make_url(server("postgresql")).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url)
    with engine.begin() as con:
        con.execute(sa.text("DROP TABLE IF EXISTS large"))
        con.execute(sa.text("CREATE TABLE large AS SELECT 'ABC' AS symbol, TIMESTAMPTZ '2020-01-01 00:00Z' + "
                            "i * INTERVAL '1 minute' AS ts, "
                            "100.0 AS open, 101.0 AS high, 99.0 AS low, 100.5 AS close, 10 AS volume FROM "
                            "generate_series(0, 299999) AS i"))
    tracemalloc.start()
    rows = sum(
        len(p.bars)
        for p in read_parts(f"sql:{server('postgresql')}#large", limit=2**24, symbols=["ABC"], timeframe="1m")
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 300_000 and peak < 100 * 2**20
