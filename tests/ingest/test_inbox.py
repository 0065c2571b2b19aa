"""What a program that was written for plain tables does with a warehouse: it inserts bars and reads views, by
their names alone, and may do nothing else."""
import itertools
import threading

import numpy as np
import pandas as pd
import psycopg
import pytest

from mlfin.core.errors import DataError
from mlfin.core.settings import load_settings
from mlfin.warehouse import bar_writes, migrations, upkeep
from mlfin.warehouse import sql_records as sqlshelf
from mlfin.market.actions import as_actions
from mlfin.market.bars import as_bars
from mlfin.ingest.closing_times import ClosingCalendars
from mlfin.ingest.inbox import inbox_depth, inbox_signal, inserted_symbols, drain_inbox
from mlfin.store.records import as_predictions, with_source_bars
from mlfin.warehouse.warehouse import Warehouse
from mlfin.features.table import compute_features
from mlfin.monitor.metrics import Metrics
from mlfin.predict.flat_features import FLAT as SPECS
from mlfin.predict.flat_features import FlatFeatures
from mlfin.api.inserted_bars import judge_inserted
from mlfin.api.service import Service

_numbers = itertools.count()
MINUTE = pd.Timedelta(minutes=1)
COLUMNS = {"market_data": "ts symbol timeframe open high low close volume spread",
           "features_m1": "ts symbol timeframe close volume spread rsi macd macd_signal macd_hist atr ma60 "
                          "ret_1 fwd_ret_5",
           "model_signals": "ts symbol timeframe model_name threshold prob_up label created_at",
           "model_metrics": "id created_at model_name metrics",
           "trainset_m1": "ts symbol timeframe close volume spread rsi macd macd_signal macd_hist atr ma60 "
                          "ret_1 fwd_ret_5 label",
           "prices": "symbol timeframe ts known_at open high low close volume vwap trades spread"}
FLAT = ["rsi_14", "macd_12_26_9", "macd_signal_12_26_9", "macd_hist_12_26_9", "atr_14", "ma60", "ret_1"]


class Place:
    """A warehouse, and the users of other programs."""

    def __init__(self, url):
        self.url, self.store, self.number = url, Warehouse(url), next(_numbers)
        self.store.grant(feeder=f"feeder{self.number}", viewer=f"viewer{self.number}",
                         prefix=f"q{self.number}")

    def connect(self, kind: str = "feeder"):
        name = self.url.split("://")[1].split("@")[0]
        return psycopg.connect(self.url.replace(f"//{name}@", f"//{kind}{self.number}@"), autocommit=True)

    def ask(self, text: str, kind: str = "feeder"):
        with self.connect(kind) as con:
            return con.execute(text).fetchall()

    def take(self, **more):
        return drain_inbox(self.store,
                           lambda rows: judge_inserted(rows, ClosingCalendars(lambda: self.store)), **more)

    def take_all(self) -> int:
        return sum(iter(lambda: (self.take() or (0,))[0], 0))


@pytest.fixture(scope="module")
def shared(databases):
    return Place(databases())


@pytest.fixture
def place(databases):
    return Place(databases())


def row(minute: int = 0, symbol: str = "EURUSD", close: float = 1.1, timeframe: str = "M1"):
    return (pd.Timestamp("2024-05-01 10:00", tz="UTC") + minute * MINUTE, symbol, timeframe, close,
            close + 0.1, close - 0.1, close, 5.0, 0.001)


INSERT = ("INSERT INTO market_data (ts, symbol, timeframe, open, high, low, close, volume, spread) VALUES "
          "(%s, %s, %s, %s, %s, %s, %s, %s, %s)")


@pytest.mark.parametrize("name", COLUMNS)
def test_the_views_have_their_columns_to_the_letter_and_plain_names(shared, name):
    for kind in ("feeder", "viewer"):
        with shared.connect(kind) as con:
            assert [c.name for c in con.execute(f"SELECT * FROM {name}").description] == COLUMNS[name].split()


def test_bars_come_in_by_every_way_that_a_view_can_offer(place):
    with place.connect() as con:
        cur = con.cursor()
        cur.execute(INSERT, row(0))
        assert cur.rowcount == 1
        cur.executemany(INSERT, [row(1), row(2)])
        cur.execute(f"{INSERT}, (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING", row(3) + row(4))
        cur.execute("INSERT INTO market_data (ts, symbol, timeframe, open, high, low, close, volume) VALUES "
                    "('2024-05-01 12:05+02', 'EURUSD', 'M1', 1, 1, 1, 1, 1) RETURNING symbol")
        assert cur.fetchone() == ("EURUSD",)
        with cur.copy("COPY market_data FROM STDIN") as copy:
            for n in (6, 7): copy.write_row(row(n))
        for text in (f"{INSERT} ON CONFLICT (symbol, timeframe, ts) DO NOTHING",
                     f"{INSERT} ON CONFLICT (ts) DO UPDATE SET close = 1"):
            # a view has no such constraint: the words without a target work
            with pytest.raises(psycopg.Error): cur.execute(text, row(9))
    assert place.take_all() == 8 and place.take() is None
    found = place.ask("SELECT * FROM market_data ORDER BY ts")
    assert [r[0] for r in found] == [row(n)[0] for n in range(8)] and found[0] == row(0)
    assert found[7] == row(7) and found[5][8] is None
    assert (place.ask("SELECT count(*) FROM market_data WHERE timeframe = 'M1' AND symbol = 'EURUSD'")
            == [(8,)])
    bars = place.store.read("EURUSD", "1m")
    assert len(bars) == 8 and (bars.known_at == bars.ts + MINUTE).all()
    assert inserted_symbols(place.store) == ("EURUSD",)
    place.store.flush()
    assert place.ask("SELECT * FROM market_data ORDER BY ts") == found


def test_the_same_bar_again_changes_nothing_and_another_value_revises(place):
    with place.connect() as con:
        con.cursor().executemany(INSERT, [row(0)] * 3 + [row(0, close=1.2), row(1)])
        assert place.take_all() == 5
        place.store.flush()
        version = place.store.version()
        con.cursor().executemany(INSERT, [row(0, close=1.2), row(1)])
        assert place.take_all() == 2
    place.store.flush()
    assert place.store.version() == version
    assert [r[6] for r in place.ask("SELECT * FROM market_data ORDER BY ts")] == [1.2, 1.1]
    history = place.store.history("bars", ["EURUSD"], "1m")
    assert list(history.close) == [1.1, 1.2, 1.1] and history.recorded_at[1] > history.recorded_at[0]


def test_nonsense_stands_in_quarantine_with_its_reason_and_breaks_nothing(place):
    ahead = pd.Timestamp.now("UTC") + pd.Timedelta("1D")
    odd = {"low is above another price": row()[:5] + (9.0, 1.1, 1.0, 0.0),
           "a price is not finite": row()[:3] + (float("nan"),) + row()[4:],
           "volume is negative": row()[:7] + (-1.0, 0.0),
           "volume is not finite": row()[:7] + (float("nan"), 0.0),
           "spread is negative": row()[:8] + (-1.0,), "the bar has not closed yet": (ahead, *row()[1:]),
           "the timeframe is none that is known": row(timeframe="M"),
           "the symbol is none": row(symbol="x'; DROP SCHEMA mlfin CASCADE; --"),
           "there is no time, or none that a bar can have": ("infinity", *row()[1:])}
    more = [("-infinity", *row()[1:]), ("4000-01-01 BC", *row()[1:]), ("9999-12-31", *row()[1:]), (None,) * 9,
            row(symbol="é" * 70), row(symbol="EURUSD\n"), row(symbol="s" * 5_000, timeframe="t" * 5_000),
            row()[:3] + (None,) * 6, row()[:3] + (float("inf"), float("-inf")) + row()[5:],
            row(timeframe="M1\t;")]
    with place.connect() as con:
        with con.transaction():
            # no volume is none
            con.cursor().executemany(INSERT, [row(1), *odd.values(), *more, row(2)[:7] + (None, 0.001)])
        # no number of the type
        with pytest.raises(psycopg.errors.NumericValueOutOfRange):
            con.execute("INSERT INTO market_data (open) VALUES (1e400)")
    assert place.take_all() == len(odd) + len(more) + 2
    aside = place.store.read_quarantine(f"market_data by feeder{place.number}")
    assert set(odd) <= set(aside.reason) and len(aside) == len(odd) + len(more)
    assert place.ask("SELECT volume FROM market_data ORDER BY ts") == [(5.0,), (0.0,)]
    assert aside.symbol.dropna().str.len().max() <= 200
    with place.connect() as con:
        con.cursor().executemany(INSERT, [*odd.values()])
    assert place.take_all() == len(odd) and len(place.store.read_quarantine()) == len(aside)


def test_more_versions_of_one_bar_than_a_market_has_do_not_keep_the_service_busy(place):
    with place.connect() as con:
        con.execute("INSERT INTO market_data SELECT '2024-05-01', 'A', 'M1', n, n, n, n, 1, 0 FROM "
                    "generate_series(1, 2000) n")
    assert place.take_all() == 2000
    assert place.ask("SELECT close FROM market_data") == [(2000.0,)]
    assert len(place.store.read_quarantine()) == 1992


FORBIDDEN = ("UPDATE market_data SET close = 1", "DELETE FROM market_data", "TRUNCATE market_data",
             "SELECT * FROM mlfin.bars", "SELECT * FROM mlfin.inbox",
             "INSERT INTO mlfin.inbox (ts) VALUES (now())", "DELETE FROM mlfin.inbox",
             "INSERT INTO model_signals (symbol) VALUES ('x')", "SELECT mlfin.room(2090)",
             "INSERT INTO prices (symbol) VALUES ('x')", "CREATE TABLE mlfin_tables.x ()",
             "DROP VIEW market_data", "CREATE ROLE x", "SELECT mlfin.take_bar()",
             "CREATE OR REPLACE VIEW market_data AS SELECT 1", "ALTER VIEW market_data RENAME TO x",
             "SELECT * FROM mlfin.quarantine")


@pytest.mark.parametrize("kind", ["feeder", "viewer"])
def test_a_program_may_do_nothing_else(shared, kind):
    for text in (*FORBIDDEN,
                 *(["INSERT INTO market_data (symbol) VALUES ('x')"] if kind == "viewer" else [])):
        with shared.connect(kind) as con, pytest.raises(psycopg.Error) as e:
            con.execute(text)
        assert isinstance(e.value,
                          psycopg.errors.InsufficientPrivilege | psycopg.errors.ObjectNotInPrerequisiteState
                          | psycopg.errors.WrongObjectType), text


def test_a_name_that_a_program_makes_itself_is_not_taken_for_ours(shared):
    with shared.connect() as con:
        con.execute("CREATE TEMPORARY TABLE inbox (seq integer, ts timestamptz)")
        con.execute("SET search_path = pg_temp, mlfin_tables")
        con.execute(INSERT, row(50, "SHADOW"))
        assert con.execute("SELECT count(*) FROM inbox").fetchone() == (0,)
    shared.take_all()
    assert shared.ask("SELECT count(*) FROM market_data WHERE symbol = 'SHADOW'") == [(1,)]


def test_a_transaction_that_is_undone_leaves_nothing_and_a_take_that_breaks_off_leaves_all(place):
    with place.connect() as con:
        with pytest.raises(ZeroDivisionError), con.transaction():
            con.execute(INSERT, row(0))
            raise ZeroDivisionError
        con.execute(INSERT, row(1))
    judged = lambda rows: judge_inserted(rows, ClosingCalendars(lambda: None))  # noqa: E731
    with pytest.raises(ZeroDivisionError): drain_inbox(place.store, lambda rows: 1 / 0)
    taken = Warehouse(place.url)
    assert drain_inbox(taken, judged)[0] == 1
    assert [r[0] for r in place.ask("SELECT ts FROM market_data")] == [row(1)[0]]


def test_several_services_never_take_a_row_twice(place):
    with place.connect() as con:
        con.execute("INSERT INTO market_data SELECT '2024-05-01Z'::timestamptz + n * interval '1 min', 'A', "
                    "'M1', 1, 1, 1, 1, 1, 0 "
                    "FROM generate_series(0, 599) n")
    taken, stores = [], [Warehouse(place.url) for _ in range(3)]

    def work(store):
        while store.server.ask(lambda c: c.execute("SELECT EXISTS (SELECT FROM mlfin.inbox)").fetchone()[0]):
            if done := drain_inbox(store, lambda rows: judge_inserted(rows, ClosingCalendars(lambda: None)),
                                   most=50):
                taken.append(done[0])

    threads = [threading.Thread(target=work, args=(s,)) for s in stores]
    for t in threads: t.start()
    for t in threads: t.join(60)
    assert sum(taken) == 600
    assert place.ask("SELECT count(*), count(DISTINCT ts) FROM market_data") == [(600, 600)]
    with psycopg.connect(place.url) as con:
        assert con.execute("SELECT count(*) FROM mlfin.pushed").fetchone() == (600,)


@pytest.mark.parametrize("way", ["postgresql", pytest.param("pgbouncer", marks=pytest.mark.slow)])
def test_whoever_waits_is_told_or_looks_by_himself(place, server, way):
    store = Warehouse(server(way).removesuffix("/postgres") + "/" + place.url.rpartition("/")[2])
    with inbox_signal(store) as wait:
        assert not wait(0.01)
        began = pd.Timestamp.now()
        with place.connect() as con:
            con.execute(INSERT, row(0))
        assert wait(0.2 if way == "pgbouncer" else 30) and pd.Timestamp.now() - began < pd.Timedelta("10s")


def test_the_depth_of_the_inbox_is_counted_up_to_a_limit_and_its_age_is_of_the_oldest(place, databases):
    # the second one has no tables yet
    assert inbox_depth(place.store) == (0, 0.0) == inbox_depth(Warehouse(databases()))
    with place.connect() as con:
        for n in range(3): con.execute(INSERT, row(n))
    with psycopg.connect(place.url, autocommit=True) as con:
        con.execute("UPDATE mlfin.inbox SET arrived = arrived - interval '1 hour' WHERE seq = (SELECT "
                    "min(seq) FROM mlfin.inbox)")
        rows, age = inbox_depth(place.store)
        assert rows == 3 and 3600 <= age < 3700
        con.execute("INSERT INTO mlfin.inbox (ts, symbol, timeframe) SELECT '2024-05-01Z', 'A', 'M1' FROM "
                    "generate_series(1, 500)")
    assert inbox_depth(place.store, most=100)[0] == 100 and inbox_depth(place.store)[0] == 503
    place.take_all()
    assert inbox_depth(place.store) == (0, 0.0)


def test_the_metrics_say_what_waits_in_the_inbox(place, tmp_path):
    store = Warehouse(place.url)
    service = Service(load_settings("test").model_copy(update={
        "root": tmp_path, "mlflow": f"sqlite:///{tmp_path}/none.db"}), store, Metrics())
    told = lambda: {line.split()[0]: float(line.split()[1]) for line in service.metrics.render()[0].decode()
                    .splitlines() if line.startswith("inbox_")}  # noqa: E731
    try:
        assert told() == {"inbox_rows_waiting": 0, "inbox_age_seconds": 0}
        with place.connect() as con: con.execute(INSERT, row(0))
        service.gauges.measure()
        assert told()["inbox_rows_waiting"] == 1 and 0 < told()["inbox_age_seconds"] < 60
        place.take_all()
        # what was measured is believed for some seconds
        service.gauges.measured_at = -60.0
        service.gauges.measure()
        assert told() == {"inbox_rows_waiting": 0, "inbox_age_seconds": 0}
    finally:
        service.close()


def fill(store: Warehouse) -> pd.DataFrame:
    """Minute bars, their features, a split, a signal and two metrics; the bars."""
    at = pd.date_range("2024-05-01 10:00", periods=12, freq="min", tz="UTC").as_unit("us")
    close = np.array([10.0, 11, 10, 12, 13, 12, 14, 7, 8, 9, 8, 9])
    bars = as_bars(pd.DataFrame(dict(symbol="A", timeframe="1m", ts=at, known_at=at + MINUTE, open=close,
                                     high=close + 1, low=close - 1, close=close, volume=5.0, spread=0.5)))
    store.write(bars)
    features = bars[["symbol", "timeframe", "ts", "known_at"]].assign(**dict.fromkeys(FLAT, 1.5), obv=2.0)
    features.loc[0, "ma60"] = np.nan
    store.write_features(with_source_bars(features, bars), "code1")
    store.write_predictions(as_predictions(
        [("A", "1m", at[7], "tree", 3, 0.6, None, 0.5, 1, at[7] + MINUTE),
         ("A", "1m", at[7], "line", 1, None, 0.1, None, None, at[7] + MINUTE)]))
    metrics = [("tree", 3, n, v, at[7]) for n, v in (("accuracy", 0.5), ("loss", 0.7))]
    store.write_metrics(pd.DataFrame(metrics, columns=["model", "version", "metric", "value", "at"]))
    return bars


def flat(store: Warehouse, name: str) -> pd.DataFrame:
    with psycopg.connect(store.url) as con:
        cur = con.execute(f"SELECT * FROM mlfin_tables.{name}")
        return pd.DataFrame(cur.fetchall(), columns=[c.name for c in cur.description])


def test_the_flat_views_say_what_the_records_say(place):
    bars = fill(place.store)
    found = flat(place.store, "features_m1").sort_values("ts", ignore_index=True)
    assert list(found.close) == list(bars.close) and (found.rsi == 1.5).all()
    assert found.ma60.isna().tolist() == [True] + [False] * 11
    # close over close; the last five have no fifth bar after them
    ahead = bars.close.shift(-5) / bars.close - 1
    np.testing.assert_array_equal(found.fwd_ret_5.astype(float), ahead)
    trained = flat(place.store, "trainset_m1").sort_values("ts", ignore_index=True)
    assert len(trained) == 6 and trained.label.tolist() == (ahead[1:7] > 0).astype(int).tolist()
    place.store.write_actions(as_actions([("A", bars.ts[7], "split", 2.0, bars.ts[7], "test")]))
    assert (flat(place.store, "features_m1").sort_values("ts").fwd_ret_5.isna().tolist()
            == [False] * 2 + [True] * 5 + [True] * 5)
    place.store.write_features(with_source_bars(
        bars[["symbol", "timeframe", "ts", "known_at"]].assign(**dict.fromkeys(FLAT, 2.5)), bars), "code2")
    found = flat(place.store, "features_m1")
    # a bar has one row, of the newest set
    assert len(found) == 12 and (found.rsi == 2.5).all()
    signals, metrics = flat(place.store, "model_signals"), flat(place.store, "model_metrics")
    assert (signals[["symbol", "model_name", "threshold", "prob_up", "label"]].values.tolist()
            == [["A", "tree", 0.5, 0.6, 1]])
    assert metrics.metrics.tolist() == [{"accuracy": 0.5, "loss": 0.7, "version": 3}]
    assert metrics.model_name.tolist() == ["tree"]
    at = bars.ts[11]
    place.store.write_metrics(pd.DataFrame([("tree", 3, "accuracy", 0.9, at)],
                                           columns=["model", "version", "metric", "value", "at"]))
    later = flat(place.store, "model_metrics").sort_values("created_at")
    assert later.id.iloc[0] == metrics.id[0] < later.id.iloc[1]


def walk(n: int = 90, symbol: str = "A") -> pd.DataFrame:
    """Minute bars of a random walk."""
    at = pd.date_range("2024-05-01 10:00", periods=n, freq="min", tz="UTC").as_unit("us")
    close = 100 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.001, n)))
    return as_bars(pd.DataFrame(dict(symbol=symbol, timeframe="1m", ts=at, known_at=at + MINUTE, open=close,
                                     high=close * 1.01, low=close * 0.99, close=close,
                                     volume=5.0, spread=0.5)))


def follow(place) -> FlatFeatures:
    """Bars that a program inserted, and what keeps their features up."""
    place.store.write(walk())
    with psycopg.connect(place.url) as con:
        con.execute("INSERT INTO mlfin.spellings SELECT id, 'M1' FROM mlfin.series")
    flat_features = FlatFeatures(Warehouse(place.url))
    assert flat_features.follow() == 90
    return flat_features


def correct(bars: pd.DataFrame, n: int, **values) -> pd.DataFrame:
    return bars.iloc[[n]].assign(**values).reset_index(drop=True)


def insert(place, bars: pd.DataFrame) -> None:
    """As a program inserts them, taken by the service."""
    with place.connect() as con:
        con.cursor().executemany(INSERT,
                                 [(b.ts, b.symbol, "M1", b.open, b.high, b.low, b.close, b.volume, b.spread)
                                  for b in bars.itertuples()])
    assert place.take_all() == len(bars)


NUMBERS = ["rsi", "macd", "macd_signal", "macd_hist", "atr", "ma60", "ret_1"]


def check_batch(place, first: int | None = None, name: str = "features_m1") -> None:
    """Every row is that of the batch over the bars that stand; from a bar on it has no features."""
    found, bars = flat(place.store, name).sort_values("ts", ignore_index=True), place.store.read("A", "1m")
    wanted = compute_features(bars, SPECS, short="nan")[FLAT]
    wanted.loc[len(bars) if first is None else first:] = np.nan
    np.testing.assert_array_equal(found[NUMBERS].astype(float), wanted)
    np.testing.assert_array_equal(found[["close", "volume", "spread"]].astype(float),
                                  bars[["close", "volume", "spread"]])


@pytest.mark.parametrize("values",
                         [dict(close=100.05), dict(volume=6.0), dict(spread=None), dict(high=200.0)],
                         ids=lambda v: next(iter(v)))
@pytest.mark.parametrize("folded", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_corrected_bar_and_all_after_it_have_no_features_until_they_are_computed_from_it(
        place, values, folded):
    kept = follow(place)
    check_batch(place)
    insert(place, correct(walk(), 70, **values))
    if folded: place.store.flush()
    check_batch(place, 70)
    trained = flat(place.store, "trainset_m1")
    assert trained.ts.max() < walk().ts[70] and len(trained) > 0
    kept.follow()                                                        # though it is not folded
    check_batch(place)
    # the label of six needs the bar that waits
    assert kept.follow() == 0 and len(flat(place.store, "trainset_m1")) == (26 if folded else 20)
    insert(place, correct(walk(), 70, **values))                           # the same again
    check_batch(place)
    place.store.flush()
    check_batch(place)
    kept.follow()
    check_batch(place)


def test_every_way_in_leaves_no_row_that_mixes(place):
    kept, bars = follow(place), walk()
    ways = [lambda b: place.store.push(b), lambda b: place.store.write(b), lambda b: insert(place, b)]
    for n, way in enumerate(ways):
        way(correct(bars, 80 - n, close=100.01 + n / 100))
        check_batch(place, 80 - n)
        # a second one, later than the first
        way(correct(bars, 82, close=100.02 + n / 100))
        check_batch(place, 80 - n)
        kept.follow()
        check_batch(place)
    # a late bar, between two that are there
    for n in (40, 41):
        with place.store.server.transaction("writes") as cursor:
            cursor.execute("DELETE FROM mlfin.bars WHERE ts = %s", (bars.ts[n].to_pydatetime(),))
        with place.store.server.transaction("adds") as cursor:
            cursor.execute("DELETE FROM mlfin.features WHERE ts = %s", (bars.ts[n].to_pydatetime(),))
        kept = FlatFeatures(Warehouse(place.url))
        kept.follow()
        late = correct(bars, n)
        place.store.write(late) if n == 40 else insert(place, late)
        assert (flat(place.store, "features_m1").sort_values("ts").rsi.isna().tolist()
                == [i < 14 or i >= n for i in range(89)])
        kept.follow()
        check_batch(place)


def test_new_bars_touch_no_row_that_is_whole_and_what_others_computed_gives_way(place):
    kept, bars = follow(place), walk(93)
    insert(place, bars[90:])
    check = flat(place.store, "features_m1")
    assert len(check) == 90 and check.rsi.notna().sum() == 76
    kept.follow()
    check_batch(place)
    other = compute_features(bars, SPECS, short="nan")
    # a newer set
    place.store.write_features(with_source_bars(other.assign(rsi_14=50.0), bars), "of a run")
    assert (flat(place.store, "features_m1").rsi == 50).all()
    insert(place, correct(bars, 85, close=99.9))
    check_batch_rows = flat(place.store, "features_m1").sort_values("ts")
    assert len(check_batch_rows) == 93 and check_batch_rows.rsi.isna().tolist() == [False] * 85 + [True] * 8
    # the run's rows are of bars that stand no more
    kept.follow()
    found = flat(place.store, "features_m1").sort_values("ts", ignore_index=True)
    np.testing.assert_array_equal(
        found.rsi[85:].astype(float),
        compute_features(place.store.read("A", "1m"), SPECS, short="nan").rsi_14[85:])
    assert (found.rsi[:85] == 50).all()
    # nobody can say what they were computed from
    place.store.write_features(other, "without bars")
    pd.testing.assert_frame_equal(flat(place.store, "features_m1").sort_values("ts", ignore_index=True),
                                  found)


def test_a_writer_who_owns_nothing_notes_corrections_and_settles_them(place):
    follow(place)
    place.store.grant(writer=f"writer{place.number}", prefix=f"q{place.number}")
    writer = Warehouse(place.url.replace(f"//{place.url.split('://')[1].split('@')[0]}@",
                                         f"//writer{place.number}@"))
    kept = FlatFeatures(writer)
    kept.follow()
    writer.push(correct(walk(), 70, close=100.05))
    check_batch(place, 70)
    kept.follow()
    check_batch(place)


def test_a_correction_that_comes_while_features_are_written_is_not_lost(place):
    kept, bars = follow(place), walk()
    insert(place, correct(bars, 60, close=100.5))
    computed = Warehouse(place.url).read("A", "1m")
    features = with_source_bars(compute_features(computed, SPECS, short="nan"), computed)
    insert(place, correct(bars, 60, close=100.7))
    place.store.write_features(features, kept.code)                          # of bars that were read before
    check_batch(place, 60)
    kept.follow()
    check_batch(place)


def test_a_run_and_a_feature_store_write_the_bars_beside_their_features(place, tmp_path):
    from mlfin.feature_store.feature_store import FeatureStore, publish_features

    bars = walk()
    place.store.write(bars)
    FeatureStore(place.store, tmp_path, timeframe="1m").update(SPECS)
    check_batch(place)
    place.store.write_actions(as_actions([("A", bars.ts[50], "split", 2.0, bars.ts[50], "test")]))
    used = place.store.read("A", "1m", adjust="total")
    # a bar that the run read and the store has no more
    stale = used.assign(close=used.close.mask(used.ts == bars.ts[30], 90.0))
    made = compute_features(stale, SPECS, short="nan")
    assert publish_features(place.store, made, SPECS, "main", stale).inserted == 90
    found = flat(place.store, "features_m1").sort_values("ts", ignore_index=True)
    np.testing.assert_array_equal(found.rsi.drop(index=30).astype(float), made.rsi_14.drop(index=30))
    assert found.rsi[30] == compute_features(bars, SPECS, short="nan").rsi_14[30]


def test_a_warehouse_of_the_revision_before_is_brought_up_to_date_with_what_it_holds(databases, monkeypatch):
    store = Warehouse(databases())
    before = [r for r in migrations.revisions() if r <= "0003"]
    with monkeypatch.context() as patch:
        for module in (migrations, upkeep):
            patch.setattr(module, "revisions", lambda folder=None: before)
        for module, name in ((bar_writes, "_note_written"), (bar_writes, "note_pushed"),
                             (sqlshelf, "_settle")):
            # the code of that time knew nothing of corrections
            patch.setattr(module, name, lambda *a: None)
        bars = fill(store)
        store.push(bars.tail(1).assign(close=9.5).reset_index(drop=True))
        version = store.version()
    again = Warehouse(store.url)
    with pytest.raises(DataError, match="(?s)0003.*migrate"): drain_inbox(again, lambda rows: None)
    with psycopg.connect(store.url) as con:
        old = con.execute("SELECT * FROM mlfin.market_data ORDER BY time").fetchall()
    statements = migrations.migration_sql("0003")
    assert "mlfin.inbox" in statements and "'0004'" in statements and again.migrate() == ["0004"]
    assert again.migrate() == []
    assert again.version() == version and len(again.read("A", "1m")) == len(bars)
    assert len(flat(again, "features_m1")) == 12
    # what was pushed shows at once
    assert flat(again, "market_data").sort_values("ts").close.tolist() == [*bars.close[:-1], 9.5]
    with psycopg.connect(store.url) as con:
        # MetaTrader's names stay where they were
        assert con.execute("SELECT * FROM mlfin.market_data ORDER BY time").fetchall() == old


def test_the_plain_views_lean_on_no_table_that_hypertables_replace(shared):
    text = ("SELECT DISTINCT v.relname FROM pg_rewrite r JOIN pg_depend d ON d.objid = r.oid "
            "JOIN pg_class v ON v.oid = r.ev_class\n"
            "        JOIN pg_namespace n ON n.oid = v.relnamespace WHERE n.nspname = 'mlfin_tables' "
            "AND d.refobjid IN ('mlfin.bars'::regclass, 'mlfin.past'::regclass)")
    with psycopg.connect(shared.url) as con:
        assert con.execute(text).fetchall() == []
