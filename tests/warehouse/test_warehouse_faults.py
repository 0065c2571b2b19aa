"""A real PostgreSQL that is stopped, full, half migrated, read only or replicated: what was answered is
there, once; all else is an error in words."""

import itertools
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pytest

from mlfin.core.errors import DataError, MlfinError
from mlfin.warehouse import postgres as server_module
from mlfin.warehouse import bar_query, bar_writes, upkeep
from mlfin.market.bars import as_bars
from mlfin.warehouse.migrations import REVISIONS, migration_sql, revisions, standing, upgrade
from mlfin.warehouse.postgres import LOCK, WRITES
from mlfin.warehouse.timescale import check_timescale, hypertable_sql
from mlfin.warehouse.warehouse import Warehouse

from ..fixtures.own_postgres import Postgres, services

_numbers = itertools.count()


@pytest.fixture(scope="module")
def postgres():
    import tempfile

    try:
        services.needed("initdb", "postgres")
    except services.Refused:
        pytest.skip("needs postgresql: env/install-services")
    folder = Path(tempfile.mkdtemp(prefix="mlfin-faults-"))
    folder.chmod(0o711)
    running = Postgres(folder / "primary")
    yield running
    running.stop(signal.SIGQUIT)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def place(postgres):
    """Address of a new, empty database."""
    name = f"t{next(_numbers)}"
    postgres.sql(f"CREATE DATABASE {name}")
    return postgres.url(name)


def batch(n: int, rows: int = 2_000, symbols=("A", "B")) -> pd.DataFrame:
    """Minutes of step n; half of them were in the step before."""
    ts = pd.date_range("2023-01-01", periods=rows, freq="min", tz="UTC").as_unit("us") + pd.Timedelta(
        minutes=n * rows // 2)
    price = 100.0 + (ts.asi8 // 60_000_000 % 97)
    return as_bars(pd.concat([pd.DataFrame(
        dict(symbol=s, timeframe="1m", ts=ts, known_at=ts + pd.Timedelta("1min"), open=price, high=price + 1,
             low=price - 1, close=price, volume=10.0)) for s in symbols], ignore_index=True))


def keys(frame) -> set:
    return set(zip(frame.symbol, frame.ts, strict=True))


class Writer(threading.Thread):
    """Writes and pushes steps, one after the other; an error that was said is followed by the same step
    again."""

    def __init__(self, store, rows):
        super().__init__(daemon=True)
        self.store, self.rows, self.answered, self.broken, self.wrong, self.end, self.step = (
            store, rows, [], 0, [], threading.Event(), 0)

    def run(self):
        while not self.end.is_set():
            try:
                getattr(self.store, ("write", "write", "push", "flush")[self.step % 4])(*(
                    [batch(self.step, self.rows)] if self.step % 4 != 3 else []))
            except DataError as e:
                self.broken += 1
                if "could not be written" not in str(e) and "could not be read" not in str(e):
                    self.wrong.append(str(e))
                if self.end.wait(0.02):
                    return
                continue
            self.answered.append(self.step)
            self.step += 1


def check(store, writer):
    """Every answered step is there once, with its values; the one that was under way is there whole or not at
    all."""
    found = store.read(timeframe="1m")
    assert not found.duplicated(["symbol", "ts"]).any()
    price = 100.0 + (found.ts.array.asi8 // 60_000_000 % 97)
    assert (found.close == price).all() and (found.volume == 10).all()
    held, steps = keys(found), [n for n in writer.answered if n % 4 != 3]
    owed = set().union(*(keys(batch(n, writer.rows)) for n in steps))
    under_way = keys(batch(writer.step, writer.rows)) - owed if writer.step % 4 != 3 else set()
    assert owed <= held, len(owed - held)
    assert held - owed in (set(), under_way), (len(held - owed), len(under_way))


def stopped_and_started(postgres, place, times: int, seed: int, rows: int = 2_000) -> tuple[int, int]:
    """Stop the server so many times while somebody writes, by turns as an administrator would and as a crash
    does."""
    chance, store = random.Random(seed), Warehouse(place)
    store.write(batch(0, rows))
    writer = Writer(store, rows)
    writer.start()
    for n in range(times):
        before, end = len(writer.answered), time.monotonic() + 30
        while len(writer.answered) == before and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.3))
        postgres.stop((signal.SIGQUIT, signal.SIGINT)[n % 2])
        postgres.start()
    reached = len(writer.answered)
    end = time.monotonic() + 60
    # it found the server again by itself
    while len(writer.answered) < reached + 2 and time.monotonic() < end:
        time.sleep(0.02)
    assert len(writer.answered) >= reached + 2
    writer.end.set()
    writer.join(60)
    assert not writer.is_alive() and not writer.wrong, writer.wrong
    check(Warehouse(place), writer)
    again = Warehouse(place)
    before = again.read(timeframe="1m")
    for step in writer.answered[-3:]:  # a repetition changes nothing
        assert step % 4 == 3 or (done := again.write(batch(step, rows))).inserted == done.revised == 0
    again.flush()
    pd.testing.assert_frame_equal(again.read(timeframe="1m"), before)
    assert len(again.read(timeframe="1m", version=again.version())) == len(before)
    return len(writer.answered), writer.broken


def test_a_server_stopped_twice_in_the_middle_of_writes(postgres, place):
    answered, _ = stopped_and_started(postgres, place, 2, seed=1)
    assert answered >= 4


@pytest.mark.long
def test_a_server_stopped_twenty_times_in_the_middle_of_writes(postgres, place, capsys):
    answered, broken = stopped_and_started(postgres, place, 20, seed=2, rows=5_000)
    with capsys.disabled():
        print(f"\nstopped and started 20 times: {answered} steps answered, {broken} broken off and repeated, "
              f"none lost, none twice")
    assert answered >= 20 and broken >= 5


def test_a_write_that_breaks_in_the_middle_leaves_nothing(postgres, place, monkeypatch):
    store = Warehouse(place)
    store.write(batch(0))
    copy, before = bar_writes.copy_in, store.read(timeframe="1m")

    def breaks(cursor, table, *rest):
        copy(cursor, table, *rest)
        # the rows are in the table, and not committed
        postgres.sql(f"SELECT pg_terminate_backend({cursor.connection.info.backend_pid})")

    monkeypatch.setattr(bar_writes, "copy_in", breaks)
    with pytest.raises(DataError, match="could not be written: .*terminat"):
        store.write(batch(5))
    with pytest.raises(DataError, match="could not be written"):
        store.push(batch(5))
    monkeypatch.undo()
    pd.testing.assert_frame_equal(store.read(timeframe="1m"), before)
    assert store.version() == 0 and store.write(batch(5)).inserted == len(batch(5))
    assert store.write(batch(5)).unchanged == len(batch(5))


def test_a_restart_between_two_questions_is_not_noticed(postgres, place):
    store = Warehouse(place)
    store.write(batch(0))
    before = store.read(timeframe="1m")
    postgres.stop()
    starter = threading.Timer(0.4, postgres.start)
    starter.start()
    pd.testing.assert_frame_equal(store.read(timeframe="1m"), before)
    assert store.write(batch(0)).unchanged == len(before)
    starter.join()


def test_a_lost_server_is_one_message_without_its_password(place, monkeypatch):
    monkeypatch.setattr(server_module, "PATIENCE", 0.2)
    address = place.replace("postgres@", "postgres:hush@").replace(place.rsplit(":", 1)[1].split("/")[0], "1")
    with pytest.raises(DataError) as e:
        Warehouse(address).read()
    assert "could not be read" in str(e.value) and "refused" in str(e.value) and "hush" not in str(e.value)
    assert str(e.value).count("\n") == 1


def test_a_full_server_is_waited_for_and_then_said(postgres, place, monkeypatch):
    store = Warehouse(place)
    store.write(batch(0))
    store.grant(writer="crowd")
    postgres.sql("ALTER ROLE crowd CONNECTION LIMIT 1")
    crowd = place.replace("postgres@", "crowd@")
    held = psycopg.connect(crowd)
    monkeypatch.setattr(server_module, "PATIENCE", 0.3)
    with pytest.raises(DataError,
                       match="(?s)too many connections for role.*its limit of connections is reached"):
        Warehouse(crowd).write(batch(1))
    monkeypatch.setattr(server_module, "PATIENCE", 10.0)
    threading.Timer(0.3, held.close).start()
    assert Warehouse(crowd).write(batch(1)).inserted == len(batch(1)) // 2


SLOW = """
from alembic import op
revision, down_revision = "9001", "0001"
def upgrade():
    op.execute("CREATE TABLE mlfin.half (x integer)")
    op.execute("SELECT pg_sleep({seconds})")
    op.execute("CREATE TABLE mlfin.other_half (x integer)")
"""
MIGRATE = """
import sys
from pathlib import Path
from mlfin.warehouse.migrations import upgrade
from mlfin.warehouse.postgres import LOCK, PostgresServer
print(upgrade(PostgresServer(sys.argv[1]).connect, LOCK, "it", Path(sys.argv[2])), flush=True)
"""


@pytest.fixture
def folder(tmp_path):
    """The first revision, and a slow one after it."""
    shutil.copy(next(REVISIONS.glob("r0001_*.py")), tmp_path)
    (tmp_path / "r9001_slow.py").write_text(SLOW.format(seconds=30))
    return tmp_path


def migrating(postgres, place, folder):
    """A process that is in the middle of the slow revision."""
    running = subprocess.Popen([sys.executable, "-c", MIGRATE, place, folder],
                               stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 30
    while not postgres.sql(
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(%' AND state = 'active'"):
        assert time.monotonic() < end and running.poll() is None
        time.sleep(0.05)
    return running


@pytest.mark.parametrize("how", ["client", "server"])
def test_a_migration_that_is_killed_in_the_middle_goes_on(postgres, place, folder, how):
    (folder / "r9001_slow.py").rename(folder / "later")  # first a warehouse of before
    assert upgrade(Warehouse(place).server.connect, LOCK, "it", folder) == ["0001"]
    (folder / "later").rename(folder / "r9001_slow.py")
    running = migrating(postgres, place, folder)
    if how == "client":
        running.kill()
    else:
        postgres.stop(signal.SIGQUIT)
        postgres.start()
    running.wait(30)
    running.stdout.close()
    with psycopg.connect(place) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))  # what it had begun is undone
        assert standing(connection.cursor()) == "0001"
        assert (connection.execute("SELECT to_regclass('mlfin.half'), to_regclass('mlfin.bars')").fetchone()
                == (None, "mlfin.bars"))
    (folder / "r9001_slow.py").write_text(SLOW.format(seconds=0))
    connect = Warehouse(place).server.connect
    assert upgrade(connect, LOCK, "it", folder) == ["9001"] and upgrade(connect, LOCK, "it", folder) == []
    assert postgres.sql("SELECT to_regclass('mlfin.half')::text, to_regclass('mlfin.other_half')::text",
                        place.rsplit("/")[-1]) == [
                            ("mlfin.half", "mlfin.other_half")]


def test_a_first_migration_that_is_killed_leaves_nothing(postgres, place, folder):
    running = migrating(postgres, place, folder)
    running.kill()
    running.wait(30)
    running.stdout.close()
    with psycopg.connect(place) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        assert standing(connection.cursor()) is None
        assert connection.execute("SELECT to_regclass('mlfin.bars')").fetchone() == (None,)
    (folder / "r9001_slow.py").write_text(SLOW.format(seconds=0))
    assert upgrade(Warehouse(place).server.connect, LOCK, "it", folder) == ["0001", "9001"]


def test_two_that_migrate_at_once_do_it_once(place):
    done, stores = [], [Warehouse(place) for _ in range(3)]
    threads = [threading.Thread(target=lambda s=s: done.append(s.migrate())) for s in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 3 and sorted(r for some in done for r in some) == list(revisions())


def test_a_schema_of_before_is_taken_over(postgres, place, folder):
    (folder / "r9001_slow.py").unlink()
    name = place.rsplit("/")[-1]
    assert upgrade(Warehouse(place).server.connect, LOCK, "it", folder) == ["0001"]
    postgres.sql("DROP TABLE mlfin.alembic_version; CREATE TABLE mlfin.migrations (step integer PRIMARY KEY, "
                 "at timestamptz NOT NULL DEFAULT now()); "
                 "INSERT INTO mlfin.migrations (step) VALUES (1); INSERT INTO mlfin.series (symbol, "
                 "timeframe) VALUES ('OLD', '1d')", name)
    assert Warehouse(place).revision() == "0001"
    assert "0001" in Warehouse(place).migrate() and Warehouse(place).migrate() == []
    assert (postgres.sql("SELECT to_regclass('mlfin.migrations'), (SELECT symbol FROM mlfin.series)", name)
            == [(None, "OLD")])
    assert Warehouse(place).write(batch(0)).inserted == len(batch(0))


def test_a_schema_that_is_newer_or_older_is_refused(postgres, place, monkeypatch):
    store = Warehouse(place)
    store.write(batch(0))
    newest, name = store.revision(), place.rsplit("/")[-1]
    monkeypatch.setattr(upkeep, "revisions", lambda: [newest, "9998"])
    with pytest.raises(DataError, match="(?s)at revision .*needs 9998.*mlfin data migrate"):
        Warehouse(place).read(timeframe="1m")
    monkeypatch.undo()
    postgres.sql("UPDATE mlfin.alembic_version SET version_num = '9999'", name)
    for use in (lambda s: s.read(timeframe="1m"), lambda s: s.write(batch(1)), lambda s: s.version(),
                lambda s: s.migrate()):
        with pytest.raises(DataError, match="at revision 9999, which this mlfin does not know"):
            use(Warehouse(place))


def test_the_text_of_a_migration_makes_the_same_schema(postgres, place):
    other = f"t{next(_numbers)}"
    postgres.sql(f"CREATE DATABASE {other}")
    Warehouse(place).migrate()
    postgres.sql(migration_sql(), other)
    look = ("SELECT c.relname, c.relkind::text, a.attname, format_type(a.atttypid, a.atttypmod), "
            "a.attnotnull FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_attribute a ON a.attrelid = c.oid "
            "AND a.attnum > 0 "
            "WHERE nspname = 'mlfin' ORDER BY 1, 3")
    code = ("SELECT proname, prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE "
            "nspname = 'mlfin' ORDER BY 1")
    for question in (look, code):
        assert postgres.sql(question, other) == postgres.sql(question, place.rsplit("/")[-1]) != []
    assert Warehouse(postgres.url(other)).migrate() == []
    assert Warehouse(postgres.url(other)).write(batch(0)).inserted == len(batch(0))


FORBIDDEN = ("DROP TABLE mlfin.bars", "TRUNCATE mlfin.bars", "UPDATE mlfin.bars SET close = 1",
             "ALTER TABLE mlfin.bars ADD x integer", "DELETE FROM mlfin.past", "CREATE TABLE mlfin.x ()",
             "UPDATE mlfin.alembic_version SET version_num = '9'",
             "INSERT INTO mlfin.alembic_version VALUES ('9')",
             "DROP SCHEMA mlfin CASCADE", "CREATE ROLE x", "DELETE FROM mlfin.actions")


def test_a_writer_may_write_and_a_reader_may_read_and_no_more(postgres, place):
    owner = Warehouse(place)
    for _ in range(2):
        owner.grant(writer="ann", reader='bob"; DROP SCHEMA mlfin; --', password="secret")
    secret = postgres.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'ann'")[0][0]
    assert secret.startswith("SCRAM-SHA-256$")
    postgres.sql("CREATE ROLE carl LOGIN IN ROLE mlfin_reader")
    ann, carl = (Warehouse(place.replace("postgres@", f"{user}@")) for user in ("ann", "carl"))
    assert ann.write(batch(0)).inserted == len(batch(0)) and ann.push(batch(1))
    assert ann.flush().inserted == len(batch(1)) // 2
    assert ann.write(batch(0).assign(volume=11.0)).revised == len(batch(0))
    # a new year
    assert ann.write(batch(0).assign(ts=lambda b: b.ts - pd.Timedelta("3000D"),
                                     known_at=lambda b: b.known_at - pd.Timedelta("3000D"))).inserted
    assert ann.compact() == 3 and ann.vacuum(0) == 3 and carl.version() == 3
    assert len(carl.read(timeframe="1m")) == len(ann.read(timeframe="1m"))
    for use in (lambda: carl.write(batch(2)), lambda: carl.push(batch(2)), lambda: carl.vacuum(0)):
        with pytest.raises(DataError, match="(?s)could not be written: permission denied.*mlfin_writer") as e:
            use()
        assert str(e.value).count("\n") == 1
    for user, more in (("ann", ()),
                       ("carl", ("INSERT INTO mlfin.series (symbol, timeframe) VALUES ('x', '1d')",
                                 "SELECT mlfin.room(2090)", "DELETE FROM mlfin.bars"))):
        for statement in (*FORBIDDEN, *more):
            with (psycopg.connect(place.replace("postgres@", f"{user}@")) as connection,
                  pytest.raises(psycopg.errors.InsufficientPrivilege)):
                connection.execute(statement)
    # as a later revision makes one
    postgres.sql("CREATE TABLE mlfin.later (x integer)", place.rsplit("/")[-1])
    with psycopg.connect(place.replace("postgres@", "ann@")) as connection:
        connection.execute("INSERT INTO mlfin.later VALUES (1)")
    with pytest.raises(DataError, match="(?s)could not be written: permission denied.*lacks the right"):
        carl.grant(writer="dora")


def test_what_writes_may_is_a_list_of_tables(postgres, place):
    Warehouse(place).grant()
    there = {t for (t,) in postgres.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'mlfin'",
                                        place.rsplit("/")[-1])}
    assert set(WRITES) & there and "alembic_version" not in WRITES and "past" not in WRITES
    assert "actions" not in WRITES


NAMES = ["x'; DROP TABLE mlfin.bars; --", 'a"b', "%s %(n)s %%", "{0} {x}", "back\\slash", "Ω/ß:π",
         "$$;SELECT 1;$$", "1' OR '1'='1"]


def test_sql_in_the_name_of_a_symbol_is_a_name(place):
    store, bars = Warehouse(place), batch(0, 20, NAMES)
    assert store.write(bars).inserted == len(bars) and store.push(batch(1, 20, NAMES)) == len(bars)
    assert set(store.series().symbol) == set(NAMES) and len(store.read(timeframe="1m")) == len(bars) * 3 // 2
    store.flush()
    for name in NAMES:
        assert set(store.read(name, "1m").symbol) == {name}
        with pytest.raises(DataError, match="one that the warehouse has"):
            store.read(name + "'", "1m")
    assert store.read(NAMES[:2], "1m", as_of="2023-01-01 00:10").symbol.nunique() == 2


def test_bars_without_a_clock_or_with_a_key_twice_are_refused(place):
    store, bars = Warehouse(place), batch(0)
    twice = pd.concat([bars, bars.head(1)], ignore_index=True)
    naive = bars.assign(ts=bars.ts.dt.tz_localize(None))
    text = bars.assign(close=bars.close.astype(str))
    for bad, says in ((twice, "(?i)key|once|twice|duplicate"), (naive, "ts"), (text, "close")):
        for use in (store.write, store.push):
            with pytest.raises(DataError, match=says):
                use(bad)
    assert store.series().empty and store.write(bars).inserted == len(bars)


def test_many_series_and_pieces_read_as_few(place, monkeypatch):
    store = Warehouse(place)
    bars = batch(0, 3_000, ("A", "B", "C"))
    bars = bars.assign(vwap=bars.close.where(bars.symbol != "B"),
                       volume=bars.volume.where(bars.index % 7 != 0)).reset_index(drop=True)
    store.write(bars.sample(frac=1.0, random_state=0).head(5_000).sort_values(
        ["symbol", "ts"], ignore_index=True))
    store.write(bars.sort_values(["symbol", "ts"], ignore_index=True))  # rows lie out of order
    monkeypatch.setattr(bar_query, "_usual", lambda *a: None)
    queries = [dict(), dict(start="2023-01-01 12:00"), dict(end="2023-01-02"),
               dict(start="2023-01-01 12:00", end="2023-01-02 01:00", columns=["close"]),
               dict(symbols=["C", "A"]), dict(start="2031-01-01"),
               dict(start="1990-01-01", columns=["vwap", "volume"])]
    wanted = [store.read(timeframe="1m", **q) for q in queries]
    monkeypatch.undo()
    for few in (64, 0):
        monkeypatch.setattr(bar_query, "_FEW", few)
        for query, frame in zip(queries, wanted, strict=True):
            pd.testing.assert_frame_equal(store.read(timeframe="1m", **query), frame)
    assert np.isnan(wanted[0].vwap[wanted[0].symbol == "B"]).all() and len(wanted[0]) == len(bars)


STAND_IN = """CREATE FUNCTION by_range(text, interval) RETURNS text LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION create_hypertable(relation regclass, dimension text, create_default_indexes boolean) \
RETURNS void LANGUAGE sql AS 'SELECT'"""


def test_what_becomes_a_hypertable_keeps_rows_and_views(postgres, place):
    store, name = Warehouse(place), place.rsplit("/")[-1]
    store.write(batch(0))
    store.write(batch(0).assign(volume=11.0))
    with pytest.raises(DataError, match="does not have TimescaleDB"):
        store.timescale()
    before, past = store.read(timeframe="1m"), store.read(timeframe="1m", version=0)
    shown = postgres.sql("SELECT * FROM mlfin.prices ORDER BY 1, 2, 3", name)
    postgres.sql(STAND_IN, name)
    with psycopg.connect(place) as connection:
        for statement in hypertable_sql()[1:]:
            connection.execute(statement)
    pd.testing.assert_frame_equal(store.read(timeframe="1m"), before)
    pd.testing.assert_frame_equal(store.read(timeframe="1m", version=0), past)
    assert postgres.sql("SELECT * FROM mlfin.prices ORDER BY 1, 2, 3", name) == shown
    assert store.write(batch(1)).inserted == len(batch(1)) // 2 and store.push(batch(3))
    assert store.flush().inserted
    with (psycopg.connect(place) as connection,
          pytest.raises(DataError, match="does not have TimescaleDB|no natively partitioned")):
        check_timescale(connection.cursor(), "it")


def test_a_replica_that_is_away_is_said_once_and_done_without(postgres, place):
    store = Warehouse(place, "postgresql://nobody@127.0.0.1:1/market")
    store.write(batch(0))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert len(store.read(timeframe="1m")) == len(batch(0)) and store.version() == 0
    assert [str(w.message).startswith("The replica postgresql://nobody@127.0.0.1:1/market cannot be read")
            for w in said] == [True]


def test_a_server_that_replays_nothing_is_not_read_after_an_own_write(postgres, place):
    other = f"t{next(_numbers)}"
    postgres.sql(f"CREATE DATABASE {other}")
    Warehouse(postgres.url(other)).write(batch(0, 100))  # as if rows were copied there, some time
    store = Warehouse(place, postgres.url(other))
    assert len(store.read(timeframe="1m")) == 200
    store.write(batch(0))
    assert len(store.read(timeframe="1m")) == len(batch(0)) == store.series()["rows"].sum()


@pytest.mark.slow
def test_a_replica_serves_what_it_has_and_never_hides_an_own_write(postgres, place):
    home = postgres.home.parent / "replica"
    services.call([services.program("pg_basebackup"), "-D", str(postgres.home / "copy"), "-R", "-X", "stream",
                   "-h", "127.0.0.1", "-p", str(postgres.port),
                   "-U", "postgres", "--checkpoint=fast"], postgres.user, "pg_basebackup")
    replica, name = Postgres(home, postgres.home / "copy"), place.rsplit("/")[-1]
    try:
        store = Warehouse(place, replica.url(name))
        store.write(batch(0))
        for n in range(1, 6):  # right after a write, wherever it is read
            store.write(batch(n))
            assert store.read(timeframe="1m").ts.max() == batch(n).ts.max()
            assert store.push(batch(n + 1, 100))
            assert store.read(timeframe="1m").ts.isin(batch(n + 1, 100).ts).any()
        end = time.monotonic() + 30
        while not store.server._current(None) and time.monotonic() < end:
            time.sleep(0.05)
        replica.sql("SELECT pg_wal_replay_pause()")
        waiting, before = Warehouse(place, replica.url(name)), store.read(timeframe="1m")
        Warehouse(place).write(batch(50))  # another program
        assert len(waiting.read(timeframe="1m")) == len(before)  # the replica lags, and is read
        # it lacks this version: the primary is read
        assert len(waiting.read(timeframe="1m", version=Warehouse(place).version())) > len(before)
        store.write(batch(60))
        # an own write
        assert len(store.read(timeframe="1m")) == len(before) + len(batch(50)) + len(batch(60))
        replica.sql("SELECT pg_wal_replay_resume()")
        while not store.server._current(None) and time.monotonic() < end:
            time.sleep(0.05)
        assert store.server._current(None)
        with pytest.raises(DataError, match="(?s)read-only transaction.*only takes readers"):
            Warehouse(replica.url(name)).write(batch(70))
    finally:
        replica.stop(signal.SIGQUIT)


def test_the_commands_migrate_and_roles(postgres, place, monkeypatch):
    from typer.testing import CliRunner

    from mlfin.cli.app import app

    def mlfin(*words):
        return CliRunner().invoke(app, ["data", *words, "--store", place])
    assert "has no schema yet" in mlfin("migrate", "--show").output and Warehouse(place).revision() is None
    text = mlfin("migrate", "--sql").output
    assert text == migration_sql() and "PARTITION BY RANGE" in text and Warehouse(place).revision() is None
    assert "Applied 0001" in mlfin("migrate").output.replace("\n", " ")
    assert ", the newest" in mlfin("migrate").output
    assert '"missing": []' in mlfin("migrate", "--json").output and mlfin("migrate", "--sql").output == ""
    monkeypatch.setenv("NEW_PASSWORD", "hush")
    done = mlfin("roles", "--writer", "eve", "--reader", "finn", "--password-from", "NEW_PASSWORD")
    assert done.exit_code == 0 and "eve is a writer now" in done.output and "hush" not in done.output
    assert Warehouse(place.replace("postgres@", "eve@")).write(batch(0)).inserted == len(batch(0))
    assert isinstance(mlfin("roles", "--password-from", "NOT_THERE").exception, MlfinError)
    lake = CliRunner().invoke(app, ["data", "migrate", "--store", "../lake"])
    assert isinstance(lake.exception, MlfinError) and "a lake is a folder" in str(lake.exception)


def test_settings_name_a_replica(tmp_path, place):
    from mlfin.core.settings import load_settings
    from mlfin.warehouse.opening import open_store

    root = Path(__file__).resolve().parents[2]
    (tmp_path / "settings.ini").write_text((root / "settings.ini").read_text() + f"store = {place}\n"
                                           f"store_replica = {place.replace('postgres@', 'bob@')}\n")
    store = open_store(load_settings("test", tmp_path))
    assert isinstance(store, Warehouse) and store.server.replica.shown.startswith("postgresql://bob@")
    (tmp_path / "settings.ini").write_text((root / "settings.ini").read_text() + f"store_replica = {place}\n")
    with pytest.raises(DataError, match="`store_replica` must be empty where `store` is a folder"):
        open_store(load_settings("test", tmp_path))
