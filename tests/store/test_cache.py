"""A cache hands out what was put under a name and a version, bounded; a lost server is said once and stops
nobody."""

import os
import threading
import warnings

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.store import cache as module
from mlfin.store.cache import Cache, RedisCache, open_cache


def frame(n=3):
    ts = pd.date_range("2024-01-01", periods=n, freq="h", tz="UTC").as_unit("us")
    odd = np.array([0x7FF8000000000000, 0x8000000000000000, 0x3FF0000000000001], dtype=np.uint64).view(
        np.float64)
    return pd.DataFrame({"symbol": pd.Series(["BTC"] * n, dtype="str"), "ts": ts, "x": np.resize(odd, n),
                         "k": np.arange(n)})


@pytest.fixture(params=["process", "redis"])
def cache(request):
    return Cache(1) if request.param == "process" else open_cache(request.getfixturevalue("redis_url"))


def test_the_same_bits_of_the_version_asked_for(cache):
    cache.put("a", 3, frame())
    found = cache.get("a", 3)
    pd.testing.assert_frame_equal(found, frame(), check_exact=True)
    assert found.x.to_numpy().view(np.uint64).tolist() == frame().x.to_numpy().view(np.uint64).tolist()
    assert cache.get("a", 2) is None and cache.get("a", 4) is None and cache.get("b", 3) is None
    cache.put("a", 4, frame(5))
    assert cache.get("a", 3) is None and len(cache.get("a", 4)) == 5


def test_a_reader_spoils_nothing(cache):
    mine = frame()
    cache.put("a", 1, mine)
    mine.loc[0, "k"] = 99
    found = cache.get("a", 1)
    found.loc[1, "k"] = 99
    pd.testing.assert_frame_equal(cache.get("a", 1), frame(), check_exact=True)


def test_the_least_used_goes_first():
    cache, wide = Cache(1), pd.DataFrame({"x": np.zeros(40_000)})  # three fit into 1 MB
    for name in "abc":
        cache.put(name, 1, wide)
    assert cache.get("a", 1) is not None
    cache.put("d", 1, wide)
    assert [cache.get(n, 1) is not None for n in "abcd"] == [True, False, True, True]


def test_what_stands_in_redis_lives_a_week_and_once(redis_url):
    import redis

    server = redis.Redis.from_url(redis_url)
    server.flushall()
    for version in range(5):
        open_cache(redis_url).put("a", version, frame())
    assert server.keys() == [b"mlfin:a"] and 0 < server.ttl("mlfin:a") <= 7 * 86_400


def test_a_foreign_value_is_no_answer(redis_url):
    import redis

    server, cache = redis.Redis.from_url(redis_url), open_cache(redis_url)
    for value in (b"", b"x", (1).to_bytes(8, "little"), (1).to_bytes(8, "little") + b"no arrow at all"):
        server.set("mlfin:a", value)
        assert cache.get("a", 1) is None
    server.delete("mlfin:a")
    server.lpush("mlfin:a", "a list")
    with pytest.warns(UserWarning, match="does not answer"):
        assert cache.get("a", 1) is None


def test_a_lost_server_is_said_once_and_asked_again_later(tmp_path, monkeypatch, redis_server):
    socket = tmp_path / "s"
    cache = RedisCache(f"unix://{socket}")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert [cache.get("a", 1) for _ in range(5)] == [None] * 5
    assert len(said) == 1 and str(socket) in str(said[0].message)
    with redis_server(socket):
        cache.put("a", 1, frame())
        assert cache.get("a", 1) is None  # it is left alone for a while
        monkeypatch.setattr(module.time, "monotonic", lambda: cache._until + 1)
        cache.put("a", 1, frame())
        pd.testing.assert_frame_equal(cache.get("a", 1), frame(), check_exact=True)


def test_several_at_once(redis_url):
    cache, wrong = open_cache(redis_url), []

    def work(k):
        for version in range(30):
            cache.put("shared", k * 100 + version, frame(k + 1))
            if (found := cache.get("shared", k * 100 + version)) is not None and len(found) != k + 1:
                wrong.append((k, version))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert not wrong


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis:6379", "redis://localhost:x/0"])
def test_an_address_that_is_none(url):
    with pytest.raises(DataError, match="`redis` must be empty, or an address like redis://host:6379/0"):
        open_cache(url)


def test_a_password_is_not_repeated(monkeypatch):
    with pytest.raises(DataError) as wrong:
        open_cache("redis://user:geheim@localhost:x/0")
    assert "geheim" not in str(wrong.value)
    with pytest.warns(UserWarning) as said:
        RedisCache(f"redis://user:geheim@localhost:{os.getpid() % 1000 + 1}/0", seconds=0.2).get("a", 1)
    assert "geheim" not in str(said[0].message)
