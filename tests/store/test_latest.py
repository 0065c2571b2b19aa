"""The newest bars come from the cache only while nothing was written or pushed; they are those that a bare
read gives."""
import random
import warnings

import numpy as np
import pandas as pd
import psycopg
import pytest

from mlfin.core.errors import DataError
from mlfin.store import latest as module
from mlfin.market.bars import as_bars
from mlfin.store.cache import Cache, RedisCache, open_cache
from mlfin.warehouse.opening import open_store
from mlfin.store.lake import Lake
from mlfin.store.latest import latest_bars
from mlfin.quality.repair import repair


PAIRS = pytest.mark.parametrize(
    "reopen, cache",
    [("lake", "process"), ("postgresql", "redis"), pytest.param("lake", "redis", marks=pytest.mark.slow),
     pytest.param("postgresql", "process", marks=pytest.mark.slow)], indirect=True)


@pytest.fixture
def reopen(request, tmp_path):
    """One and the same new store, opened as often as one likes."""
    if request.param == "lake":
        yield lambda: Lake(tmp_path / "lake")
        return
    admin = request.getfixturevalue("server")("postgresql")
    with psycopg.connect(admin, autocommit=True) as con:
        con.execute("CREATE DATABASE latest")
    yield lambda: open_store(admin.removesuffix("/postgres") + "/latest")
    with psycopg.connect(admin, autocommit=True) as con:
        con.execute("DROP DATABASE latest WITH (FORCE)")


@pytest.fixture(params=["process", "redis"])
def cache(request):
    return open_cache() if request.param == "process" else open_cache(request.getfixturevalue("redis_url"))


def plain(store, symbols, timeframe, n):
    """What a read of everything says."""
    bars = store.read(symbols, timeframe, columns=["open", "high", "low", "close", "volume", "vwap", "trades",
                                                   "spread", "repaired"])
    bars = bars.groupby("symbol", sort=False).tail(n).reset_index(drop=True)
    return bars.drop(columns=[c for c in ("vwap", "trades", "spread") if bars[c].isna().all()] + (
        ["repaired"] if (bars.repaired == "").all() else []))


def same(left, right):
    pd.testing.assert_frame_equal(left, right, check_exact=True)


@PAIRS
def test_the_same_as_a_bare_read_after_any_change(reopen, cache, make, monkeypatch):
    store, other, chance = reopen(), reopen(), random.Random(3)  # one reads, another one writes
    reads = []
    monkeypatch.setattr(module, "_read_newest",
                        lambda *asked, _read=module._read_newest: reads.append(asked[1]) or _read(*asked))
    days, now = (as_bars(pd.concat([make(s, seed=i) for i, s in enumerate(["A", "B/C", "Ω"])])),
                 pd.Timestamp.now("UTC"))
    hours = make("A", "1h", now.normalize() - pd.Timedelta(days=3), now.floor("h") - pd.Timedelta(hours=2))
    other.write(days.iloc[::2].assign(vwap=1.0).reset_index(drop=True))
    other.write(hours)
    for step in range(5):
        rows = days[[chance.random() < 0.2 for _ in range(len(days))]]
        rows = rows.assign(volume=float(step), close=days.close * chance.choice([1, 1.001])).reset_index(
            drop=True)
        if step == 3:
            rows = repair(days.assign(high=days.high.where(days.index != 90, days.high * 100)))
        chance.choice([other.write, other.push])(rows) if step % 4 else other.flush()
        for symbols, timeframe, n in ((["A"], "1d", 7), (["Ω", "A", "B/C"], "1d", 30), ("A", "1h", 24)):
            expected = plain(store, [symbols] if isinstance(symbols, str) else symbols, timeframe, n)
            same(latest_bars(store, symbols, timeframe, n, cache), expected)
            before = len(reads)
            # nothing changed: nothing is read
            same(latest_bars(reopen(), symbols, timeframe, n, cache), expected)
            assert len(reads) == before
    assert len(reads) > 5
    for n in (7, 10_000):
        same(latest_bars(store, ["A"], "1d", n), plain(store, ["A"], "1d", n))


@PAIRS
def test_a_push_of_another_process_is_seen_at_once(reopen, cache, make):
    bars = make("A")
    store, other = reopen(), reopen()
    other.write(bars[:50])
    for n in range(50, 56):
        assert latest_bars(store, "A", "1d", 3, cache).ts.iloc[-1] == bars.ts[n - 1]
        other.push(bars[n:n + 1].reset_index(drop=True))
    other.push(bars[55:56].assign(close=bars.high * 2, high=bars.high * 2).reset_index(drop=True))
    assert latest_bars(store, "A", "1d", 3, cache).close.iloc[-1] == bars.high[55] * 2


def test_a_store_that_was_made_anew_is_another_one(tmp_path, make, cache):
    import shutil

    for factor in (1.0, 2.0):
        store = Lake(tmp_path / "lake")
        store.write(make("A").assign(volume=factor))
        store.push(make("A", start="2024-04-01", end="2024-04-01").assign(volume=factor))
        assert (latest_bars(store, "A", "1d", 5, cache).volume == factor).all()
        shutil.rmtree(tmp_path / "lake")


def test_stores_do_not_take_each_other_for_themselves(tmp_path, make, cache):
    stores = [Lake(tmp_path / name) for name in "ab"]
    for n, store in enumerate(stores):
        store.write(make("A").assign(volume=float(n)))
    for n, store in [*enumerate(stores)] * 2:
        assert (latest_bars(store, "A", "1d", 5, cache).volume == n).all()


def test_a_lost_server_costs_only_speed(tmp_path, make):
    store, lost = Lake(tmp_path / "lake"), RedisCache(f"unix://{tmp_path}/nobody", seconds=0.2)
    store.write(make("A"))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(5):
            same(latest_bars(store, "A", "1d", 5, lost), plain(store, ["A"], "1d", 5))
    assert len([w for w in said if "does not answer" in str(w.message)]) == 1


def test_what_is_kept_is_bounded(tmp_path, make):
    store, small = Lake(tmp_path / "lake"), Cache(1)
    names = [f"S{i:03d}" for i in range(8)]
    one = make("S", "1h")
    store.write(as_bars(pd.concat([one.assign(symbol=s) for s in names])))
    for s in names * 2:
        assert len(latest_bars(store, s, "1h", 2_000, small)) == 2_000
    assert sum(kept[2] for kept in small._frames.values()) <= 2**20 and 0 < len(small._frames) < 8


@pytest.mark.parametrize(
    "how, words",
    [(dict(symbols="Z"), "one that the lake has 1d bars of"), (dict(symbols="A", n=0), "`n` must be"),
     (dict(symbols="A", n=True), "`n` must be"), (dict(symbols=[]), "`symbols`"),
     (dict(symbols="A", timeframe="7m"), "`timeframe`")])
def test_what_cannot_be_asked(tmp_path, make, how, words):
    store = Lake(tmp_path / "lake")
    store.write(make("A"))
    with pytest.raises(DataError, match=words):
        latest_bars(store, **how, cache=Cache())


def test_a_long_gap_does_not_read_the_whole_history(tmp_path, make, monkeypatch):
    store = Lake(tmp_path / "lake")
    store.write(make("OLD", "1m", "2020-01-01", "2020-02-10"))
    read, rows = Lake.read, []
    monkeypatch.setattr(Lake, "read", lambda self, *a, **k: (
        found := read(self, *a, **k), rows.append(0 if k.get("columns") == [] else len(found)))[0])
    assert len(latest_bars(store, "OLD", "1m", 100)) == 100 and sum(rows) < 1000
    assert np.isfinite(rows).all()
