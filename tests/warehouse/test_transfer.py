"""A copy of a store answers as the store does, at every moment; it survives `kill -9`, and a changed value
does not pass."""
import itertools
import random
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pandas as pd
import psycopg
import pytest

from mlfin.core.errors import DataError
from mlfin.market.actions import as_actions
from mlfin.market.bars import as_bars
from mlfin.market.calendars import expected_bars
from mlfin.facts.facts import as_facts
from mlfin.warehouse.opening import open_store
from mlfin.store.lake import Lake
from mlfin.store.records import as_metrics, as_predictions, record_schema
from mlfin.sources.read_result import quarantine_rows
from mlfin.warehouse.transfer import checksum, copy_store


_numbers = itertools.count()
KINDS = ("lake", "postgresql")


def ways(fast):
    """From one kind of store to one; each way is in the fast tier of some test."""
    return [(here, there) if (here, there) == fast else pytest.param((here, there), marks=pytest.mark.slow)
            for here in KINDS for there in KINDS]


@pytest.fixture
def place(server, tmp_path):
    """Places for new stores: place('lake'), place('postgresql')."""
    names = []

    def new(kind):
        name = f"c{next(_numbers)}"
        if kind == "lake":
            return str(tmp_path / name)
        with psycopg.connect(server("postgresql"), autocommit=True) as con:
            con.execute(f"CREATE DATABASE {name}")
        names.append(name)
        return server("postgresql").removesuffix("/postgres") + f"/{name}"

    yield new
    for name in names:
        with psycopg.connect(server("postgresql"), autocommit=True) as con:
            con.execute(f"DROP DATABASE {name} WITH (FORCE)")


def minutes(symbol="M", days=1, seed=0):
    frame = expected_bars("24/7", "1m", "2024-01-01", pd.Timestamp("2024-01-01") + pd.Timedelta(days=days))
    close = 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.001, len(frame))))
    return as_bars(frame.assign(symbol=symbol, timeframe="1m", open=close, high=close * 1.01,
                                low=close * 0.99, close=close, volume=10.0))


def fill(store, make, chance) -> list[pd.Timestamp]:
    """A life of a store: writes, pushes, revisions, actions, quarantine; moments in between."""
    bars = as_bars(pd.concat([make(s, seed=i, end="2024-02-15") for i, s in enumerate(["A", "B/C", "Ω"])]))
    moments, at = [pd.Timestamp.now("UTC")], bars.ts[3]
    store.write(minutes(days=0.5).assign(vwap=1.0))
    for step in range(3):
        rows = bars[[chance.random() < 0.5 for _ in range(len(bars))]].reset_index(drop=True)
        rows["volume"] = [chance.choice([10.0, 11.0, float("nan")]) for _ in range(len(rows))]
        getattr(store, chance.choice(["write", "push"]))(rows)
        store.write_actions(as_actions([("A", at, "dividend", float(step // 2 + 2), at, "test"),
                                        ("B/C", at, "dividend", 0.5, at, "test")]))
        store.write_quarantine(quarantine_rows(f"csv:{step % 2}", [step, 9], ["A", None], [pd.NaT, at],
                                               ["bad", "short"], [{"close": "x"}, {"row": "1,2"}]))
        moments.append(pd.Timestamp.now("UTC"))
    return moments


def equal(left, right, moments=()):
    for timeframe in ("1d", "1m"):
        pd.testing.assert_frame_equal(left.history(timeframe=timeframe),
                                      right.history(timeframe=timeframe), check_exact=True)
    asks = [dict(timeframe="1m"), *({"as_of": at} for at in (None, *moments)),
            *(dict(symbols="A", adjust="total", as_of=at) for at in (None, *moments[:2]))]
    for how in asks:
        pd.testing.assert_frame_equal(left.read(**how), right.read(**how), check_exact=True)
    for at in (None, *moments[:3]):
        pd.testing.assert_frame_equal(left.read_actions(as_of=at),
                                      right.read_actions(as_of=at), check_exact=True)
    pd.testing.assert_frame_equal(left.read_quarantine(), right.read_quarantine())
    pd.testing.assert_frame_equal(left.series(), right.series())


@pytest.mark.parametrize("way", ways(("postgresql", "lake")), ids="-".join)
def test_a_copy_answers_the_same_at_any_moment(place, make, way):
    chance, (here, there) = random.Random(7), (open_store(place(kind)) for kind in way)
    moments = fill(here, make, chance)
    first = pd.Timestamp("2024-01-01", tz="UTC")
    moments = [moments[2], moments[0], first + pd.Timedelta(days=60) * chance.random()]
    told = []
    done = copy_store(here, there, rows=250, progress=lambda *told_: told.append(told_))
    assert done.failed.empty and set(done.series.status) == {"copied"} and len(told) > 4
    assert done.version == there.version()
    assert done.series.what.tolist() == ["actions", "bars", "bars", "bars", "bars", "quarantine"]
    equal(here, there, moments)
    version = there.version()
    again = copy_store(here, there, rows=2_000)
    assert set(again.series.status) == {"nothing new"} and again.series.copied.sum() == 0
    assert there.version() == version
    assert again.series.checksum.tolist() == done.series.checksum.tolist()  # whatever the pieces were
    here.push(minutes(days=2).iloc[-3:].reset_index(drop=True))
    here.write(make("N", end="2024-01-05"))
    more = copy_store(here, there).series.query("what == 'bars'").set_index("symbol")
    assert more.copied.to_dict() == {"A": 0, "B/C": 0, "M": 3, "N": 5, "Ω": 0}
    equal(here, there, moments[:1])


HOUR = pd.Timedelta(hours=1)


def hours(n=2_000, symbols="AB"):
    """Hourly moments of some symbols, over three months."""
    at = pd.date_range("2024-01-01", periods=n, freq="h", tz="UTC").as_unit("us")
    kinds = {"symbol": "str", "timeframe": "str"}
    return pd.concat([pd.DataFrame({"symbol": s, "timeframe": "1h", "ts": at}) for s in symbols],
                     ignore_index=True).astype(kinds)


def signals(**how):
    rows = hours(**how)
    chance = rows.groupby("symbol").cumcount() % 97 / 97
    return as_predictions(rows.assign(model="tree", version=1, probability=chance, threshold=0.5, label=1,
                                      created_at=rows.ts + HOUR))


def told(values):
    day, at = pd.Timestamp("2023-03-31"), pd.Timestamp("2023-05-01", tz="UTC")
    return as_facts([(s, "eps", v, pd.NaT, day, at, "t") for s, v in values.items()])


def keep(store, times=2) -> list[pd.Timestamp]:
    """Records of every kind, some of them revised where it is done more than once; moments in between."""
    rows = hours(n=80, symbols="ABC")
    wide = rows.assign(known_at=rows.ts + HOUR, sma_5=rows.index / 7, rsi_14=np.nan)
    daily = wide.assign(timeframe="1d", known_at=wide.ts + pd.Timedelta(days=1)).astype({"timeframe": "str"})
    measured = as_metrics([("tree", 1, m, 0.5, rows.ts[0]) for m in ("auc", "brier")] + [(
        "line", 1, "mse", 0.1, rows.ts[0])])
    moments = []
    for n in range(times):
        store.write_predictions(signals(n=150 if n else 400).assign(threshold=0.5 + n / 10))
        store.write_facts(told({"A": 1.0, "B": 2.0 + n, "*": 3.0}))
        store.write_features(wide.assign(sma_5=wide.sma_5 + n * (wide.symbol == "B")), "code1")
        store.write_features(daily, "code1")
        store.write_features(wide.rename(columns={"rsi_14": "b c"}), f"code{2 + n}")
        store.write_metrics(measured.assign(value=measured.value + n))
        moments.append(pd.Timestamp.now("UTC"))
    return moments[:1]


def alike(left, right, moments=()):
    pd.testing.assert_frame_equal(left.feature_sets(), right.feature_sets())
    for found in left.record_sets():
        pd.testing.assert_frame_equal(left.record_history(*found),
                                      right.record_history(*found), check_exact=True)
    asks = [("facts", {}), ("predictions", {}), ("predictions", dict(symbols="A", latest=True)),
            ("metrics", {}), ("features", dict(timeframe="1h")),
            ("features", dict(timeframe="1d", code="code1"))]
    for at, (what, how) in itertools.product((None, *moments), asks):
        found = [getattr(store, f"read_{what}")(as_of=at, **how) for store in (left, right)]
        pd.testing.assert_frame_equal(*found, check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("way", ways(("lake", "postgresql")), ids="-".join)
def test_records_are_copied_with_all_their_moments(place, monkeypatch, way):
    here, there = (open_store(place(kind)) for kind in way)
    moments, pieces, restore = keep(here), [], type(there).restore_records

    def count(self, rows, what, code=None):
        pieces.append(len(rows))
        if len(pieces) == 8:
            raise KeyboardInterrupt
        return restore(self, rows, what, code)

    monkeypatch.setattr(type(there), "restore_records", count)
    with pytest.raises(KeyboardInterrupt):
        copy_store(here, there, rows=200)
    done = copy_store(here, there, rows=200)  # goes on
    every = sum(len(here.record_history(*s)) for s in here.record_sets())
    assert done.failed.empty and max(pieces) < 400 and done.series["rows"].sum() == every > 2_000
    lines = done.series[done.series["rows"] > 0]
    assert set(lines.what) == {"facts", "predictions", "model_metrics",
                               *(f"features code{n}" for n in (1, 2, 3))}
    assert 0 < (lines.there > 0).sum() < len(lines)
    assert lines[lines.what == "facts"].symbol.tolist() == ["*", "A", "B"]
    assert lines[lines.what == "model_metrics"].symbol.tolist() == ["line", "tree"]
    alike(here, there, [pd.Timestamp("2024-01-20", tz="UTC"), *moments])
    again = copy_store(here, there)
    assert set(again.series.status) == {"nothing new"}
    assert again.series.checksum.tolist() == done.series.checksum.tolist()
    here.write_predictions(signals(n=403))
    here.write_facts(told({"A": 9.0}))
    more = copy_store(here, there).series.query("copied > 0").set_index(["what", "symbol"]).copied.to_dict()
    assert more == {("predictions", "A"): 153, ("predictions", "B"): 153, ("facts", "A"): 1}
    alike(here, there)


@pytest.mark.parametrize("way", list(itertools.product(KINDS, KINDS)), ids="-".join)
def test_what_is_kept_with_series_is_copied(place, make, way):
    here, there = (open_store(place(kind)) for kind in way)
    here.write(make("A", end="2024-01-20"))
    rows = [("A", "1d", "calendar", "XNYS"), ("A", "1d", "spread", "price"), ("B", "1m", "calendar", "forex")]
    kept = pd.DataFrame(rows, columns=["symbol", "timeframe", "attribute", "value"])
    here.write_attributes(kept.assign(value="24/7"))
    here.write_attributes(kept)
    done = copy_store(here, there)
    assert done.failed.empty
    assert (done.series[done.series.what == "attributes"][["symbol", "copied"]].to_numpy().tolist()
            == [["A", 4], ["B", 2]])
    pd.testing.assert_frame_equal(there.read_attributes(), here.read_attributes())
    pd.testing.assert_frame_equal(there.record_history("attributes"),
                                  here.record_history("attributes"), check_exact=True)
    assert there.read_attributes("A", "1d").value.tolist() == ["XNYS", "price"]
    assert set(copy_store(here, there).series.status) == {"nothing new"}
    there.write_attributes(kept.assign(value="24/7"))
    here.write_attributes(kept.assign(value="XTKS"))
    assert set(copy_store(here, there).failed.what) == {"attributes"}  # two who went their own ways


def test_a_copy_of_a_copy(place, make):
    here, middle, last = (open_store(place(kind)) for kind in ("lake", "postgresql", "lake"))
    bars = make("A", end="2024-01-20")
    moments = [here.write(bars) and pd.Timestamp.now("UTC")]
    here.push(bars.iloc[3:9].assign(volume=11.0).reset_index(drop=True))
    for value in (1.0, 2.0):
        here.write_facts(told({"A": value, "*": 3.0}))
        here.write_predictions(signals(n=20).assign(threshold=value / 4))
    for one, two in ((here, middle), (middle, last)):
        assert copy_store(one, two, rows=10).failed.empty
    for at in (None, *moments):
        pd.testing.assert_frame_equal(here.read(as_of=at), last.read(as_of=at), check_exact=True)
    pd.testing.assert_frame_equal(here.history(), last.history(), check_exact=True)
    for found in here.record_sets():
        pd.testing.assert_frame_equal(here.record_history(*found),
                                      last.record_history(*found), check_exact=True)


def test_records_that_are_asked_for(tmp_path):
    here, there = Lake(tmp_path / "a"), Lake(tmp_path / "b")
    keep(here, 1)
    done = copy_store(here, there, symbols=["A"], timeframes=["1h"], start="2024-01-02", end="2024-01-03")
    assert done.failed.empty and set(there.read_facts().symbol) == {"A", "*"}
    assert len(there.read_metrics()) == 3
    for rows in (there.read_predictions(), there.read_features(timeframe="1h")):
        assert set(rows.symbol) == {"A"} and len(rows) == 48 and set(rows.ts.dt.day) == {2, 3}
    assert there.read_features(timeframe="1d", code="code1").empty
    with pytest.raises(DataError, match="did you mean|must be one"):
        copy_store(here, there, symbols=["AA"])


@pytest.mark.parametrize("kind", ["lake", "postgresql"])
def test_one_changed_record_does_not_pass(place, monkeypatch, kind):
    here, there = open_store(place("lake")), open_store(place(kind))
    keep(here, 1)
    restore = type(there).restore_records

    def spoil(self, rows, of, code=None):
        if code in (None, "code1") and len(rows):
            value = record_schema(of, ["sma_5"]).values[0]
            rows = rows.assign(**{value: rows[value].where(rows.index != rows.index[-1],
                                                           np.nextafter(rows[value], 0))})
        return restore(self, rows, of, code)

    monkeypatch.setattr(type(there), "restore_records", spoil)
    done = copy_store(here, there)
    assert set(done.failed.status) == {"differs"}
    assert done.failed.what.tolist() == ["facts", *["features code1"] * 2, "model_metrics", "predictions"]
    monkeypatch.undo()
    again = copy_store(here, there, merge=True)
    assert (again.failed[["what", "symbol", "timeframe"]].values.tolist()
            == done.failed[["what", "symbol", "timeframe"]].values.tolist())
    assert set(again.failed.status) == {"refused"}  # a contradiction is nothing to keep


@pytest.mark.parametrize("kind", ["lake", "postgresql"])
def test_records_that_somebody_wrote_there_are_refused(place, kind):
    here, there = open_store(place("lake")), open_store(place(kind))
    here.write_facts(told({"A": 1.0, "B": 2.0}))
    there.write_facts(told({"A": 5.0, "Z": 1.0}))
    done = copy_store(here, there)
    assert done.failed[["what", "symbol", "status"]].values.tolist() == [["facts", "A", "refused"]]
    assert there.read_facts().value.tolist() == [5.0, 2.0, 1.0]
    assert copy_store(here, there, merge=True).failed.empty and len(there.record_history("facts")) == 4


def test_only_what_is_asked_for(tmp_path, make):
    here, there = Lake(tmp_path / "a"), Lake(tmp_path / "b")
    fill(here, make, random.Random(1))
    here.write(minutes(days=4))
    done = copy_store(here, there, symbols=["A", "M"], timeframes=["1d", "M1"], start="2024-01-03",
                      end="2024-01-04 12:00")
    assert done.failed.empty and list(there.series().symbol) == ["A", "M"]
    assert there.read(timeframe="1m").ts.min() == pd.Timestamp("2024-01-03", tz="UTC")
    assert there.read(timeframe="1m").ts.max() == pd.Timestamp("2024-01-04 12:00", tz="UTC")
    assert set(there.read_actions().symbol) == {"A"} and set(there.read_quarantine().symbol) == {"A"}
    for how, words in ((dict(symbols=["AA"]), "symbols"), (dict(timeframes=["4h"]), "timeframes"),
                       (dict(timeframes=["7m"]), "timeframe")):
        with pytest.raises(DataError, match=words):
            copy_store(here, there, **how)
    assert copy_store(Lake(tmp_path / "empty"), there).series["rows"].sum() == 0


def test_a_destination_that_went_its_own_way_is_refused(place, make):
    for kind in ("lake", "postgresql"):
        here, there = open_store(place("lake")), open_store(place(kind))
        here.write(as_bars(pd.concat([minutes("A"), minutes("B", seed=1)])))
        there.write(minutes("A")[:300].assign(close=1.0, low=0.5, open=1.0))
        there.write(make("Z"))  # none of the source's business
        before = there.history(timeframe="1m")
        done = copy_store(here, there, rows=1_000)
        assert done.failed.symbol.tolist() == ["A"] and done.failed.status.tolist() == ["refused"]
        assert done.failed.copied.tolist() == [0]
        assert "somebody wrote there" in done.failed.detail.iloc[0]
        pd.testing.assert_frame_equal(there.history(symbols=["A"], timeframe="1m"), before)
        pd.testing.assert_frame_equal(there.read("B", "1m"), here.read("B", "1m"))
        done = copy_store(here, there, rows=1_000, merge=True)
        assert done.failed.empty
        assert len(there.history(symbols=["A"], timeframe="1m")) == len(before) + len(minutes("A"))
        assert copy_store(here, there, merge=True).series.copied.sum() == 0


@pytest.mark.parametrize("kind", ["lake", "postgresql"])
def test_one_changed_value_does_not_pass(place, make, monkeypatch, kind):
    here, there = open_store(place("lake")), open_store(place(kind))
    here.write(as_bars(pd.concat([make("A"), make("B", seed=1)])))
    restore = type(there).restore

    def spoil(self, rows, what="bars"):
        if what == "bars":
            at = rows.index[(rows.symbol == "B") & (rows.ts == rows.ts[7])][0]
            rows = rows.assign(close=rows.close.where(rows.index != at, np.nextafter(rows.close[at], 1e9)))
        return restore(self, rows, what)

    monkeypatch.setattr(type(there), "restore", spoil)
    done = copy_store(here, there)
    assert done.failed[["symbol", "status"]].values.tolist() == [["B", "differs"]]
    monkeypatch.undo()
    assert copy_store(here, there).failed[["symbol", "status"]].values.tolist() == [["B", "refused"]]
    # a contradiction is nothing to keep
    assert copy_store(here, there, merge=True).failed.status.tolist() == ["refused"]


def test_the_checksum_sees_every_column_and_no_order(make):
    rows = make("A").assign(recorded_at=pd.Timestamp("2024-05-01", tz="UTC").as_unit("us"),
                            repaired=pd.Series([None] * 91, dtype="str"))
    told = checksum(rows)
    assert checksum(rows.sample(frac=1, random_state=1)) == told
    assert checksum(rows.assign(volume=rows.volume.where(rows.index > 0))) != told
    for column, value in (("ts", rows.ts[0] + pd.Timedelta(microseconds=1)), ("symbol", "B"),
                          ("low", np.nextafter(rows.low[0], 0)), ("repaired", "x"),
                          ("recorded_at", rows.recorded_at[0] + pd.Timedelta(microseconds=1))):
        changed = rows.copy()
        changed.loc[0, column] = value
        assert checksum(changed) != told, column
    assert checksum(rows.assign(open=rows.close.to_numpy()[::-1])) != told  # the same numbers in other places
    assert checksum(rows.iloc[:0]) == "0" * 16


WORK = """
import sys
from mlfin.warehouse.transfer import copy_store
print("ready", flush=True)
done = copy_store(sys.argv[1], sys.argv[2], rows=int(sys.argv[3]),
                  progress=lambda *told: print(*told, flush=True))
print("done", len(done.failed), flush=True)
"""


def killed(here, there, times, seed, rows):
    """Kill a copy so many times; then let it end."""
    chance, seen = random.Random(seed), []
    for _ in range(times):
        running = subprocess.Popen([sys.executable, "-c", WORK, here, there, str(rows)],
                                   stdout=subprocess.PIPE, text=True)
        assert running.stdout.readline() == "ready\n"
        for _ in range(chance.randrange(4)):
            running.stdout.readline()
        time.sleep(chance.uniform(0, 0.1))
        running.kill()
        running.wait()
        running.stdout.close()
        held = open_store(there).history(timeframe="1m")
        assert not held.duplicated(["symbol", "ts", "recorded_at"]).any()
        seen.append(len(held))
    assert seen == sorted(seen)
    return copy_store(here, there, rows=rows), seen


def life(where):
    store = open_store(where)
    for seed, symbol in enumerate(("A", "B")):
        bars = minutes(symbol, seed=seed)
        store.write(bars)
        store.write(bars.iloc[::3].assign(volume=1.0).reset_index(drop=True))
    return store


@pytest.mark.parametrize("kind", ["lake", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_a_killed_copy_goes_on(place, kind):
    here, there = place("lake"), place(kind)
    store = life(here)
    done, seen = killed(here, there, 1, seed=1, rows=250)
    assert done.failed.empty and done.series["rows"].sum() == len(store.history(timeframe="1m")) > seen[0]
    pd.testing.assert_frame_equal(store.history(timeframe="1m"), open_store(there).history(timeframe="1m"))


@pytest.mark.long
@pytest.mark.parametrize("way", ways(("lake", "postgresql")), ids="-".join)
def test_a_copy_killed_ten_times(place, way):
    here, there = map(place, way)
    store = life(here)
    done, _ = killed(here, there, 10, seed=2, rows=100)
    assert done.failed.empty
    pd.testing.assert_frame_equal(store.history(timeframe="1m"), open_store(there).history(timeframe="1m"))


@pytest.mark.slow
@pytest.mark.parametrize("way", [("lake", "postgresql"), ("postgresql", "lake")], ids="-".join)
def test_a_large_copy_takes_little_memory(place, way):
    here, there = (open_store(place(kind)) for kind in way)
    bars = minutes(days=700)
    here.write(bars)
    began = time.perf_counter()
    tracemalloc.start()
    done = copy_store(here, there, rows=1 << 16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"{'-'.join(way)}: {len(bars)} bars, peak {peak / 2**20:.0f} MB, {time.perf_counter() - began:.1f} "
          f"s with tracing")
    assert done.failed.empty and done.series["rows"].sum() == len(bars) and peak < 150 * 2**20
