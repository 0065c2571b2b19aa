"""Rate limits in this process and in a real Redis, which goes away and comes back."""
import threading
import warnings

import pytest

from mlfin.core.errors import SettingsError
from mlfin.core.settings import Settings
from mlfin.serve import limits as limits_module
from mlfin.serve.limits import Limits, open_limits
from mlfin.serve.roles import Person, Throttled

ANN, BOB = (Person(f"id-{n}", n, "analyst", "s") for n in ("ann", "bob"))


def through(limits, person, address, count):
    "How many of `count` requests get through."
    done = 0
    for _ in range(count):
        try:
            limits.check(person, address)
            done += 1
        except Throttled as e:
            assert 0 < e.retry_after <= 3600 and e.status == 429
    return done


@pytest.fixture(params=["process", "redis"])
def make(request):
    url = "" if request.param == "process" else request.getfixturevalue("redis_url")
    if url:
        import redis

        redis.Redis.from_url(url).flushall()
    return lambda *args, **kwargs: Limits(*args, redis=url, **kwargs)


def test_users_and_addresses_are_counted_apart(make):
    limits = make("5/hour", "8/hour")
    assert through(limits, ANN, "192.0.2.1", 7) == 5
    assert through(limits, BOB, "192.0.2.2", 7) == 5         # another user, another address
    assert through(limits, ANN, "192.0.2.3", 1) == 0         # the same user from elsewhere
    assert through(limits, None, "192.0.2.4", 9) == 8        # nobody: by address alone
    assert through(limits, None, "", 50) == 50


def test_who_is_exempt_is_not_counted(make):
    limits = make("5/hour", "8/hour", exempt=["ann"])
    assert through(limits, ANN, "192.0.2.1", 50) == 50
    assert through(limits, BOB, "192.0.2.1", 9) == 5
    assert through(limits, Person("x", "Ann", "analyst", "s"), "192.0.2.9", 9) == 5   # names are kept in lower case


def test_without_limits_everything_gets_through(make):
    assert through(make("", ""), ANN, "192.0.2.1", 50) == 50


def test_twenty_threads_get_no_more_than_one(make):
    limits, got = make("30/hour", ""), []
    threads = [threading.Thread(target=lambda: got.append(through(limits, ANN, "", 5))) for _ in range(20)]
    for t in threads: t.start()
    for t in threads: t.join(60)
    assert sum(got) == 30


def test_the_window_moves(make, monkeypatch):
    limits = make("3/second", "")
    assert through(limits, ANN, "", 4) == 3
    with pytest.raises(Throttled) as e: limits.check(ANN, "")
    assert e.value.retry_after <= 1.1
    threading.Event().wait(1.1)
    assert through(limits, ANN, "", 4) == 3


def test_workers_count_together_in_redis(redis_url):
    import redis

    redis.Redis.from_url(redis_url).flushall()
    workers = [Limits("10/hour", "", redis=redis_url, workers=4) for _ in range(4)]
    assert sum(through(w, ANN, "", 5) for w in workers) == 10
    assert sum(through(w, ANN, "", 5) for w in [Limits("10/hour", "", workers=4) for _ in range(4)]) == 12  # shares, rounded up


def test_a_lost_redis_is_said_once_and_asked_again(redis_server, tmp_path, monkeypatch):
    monkeypatch.setattr(limits_module, "_PAUSE", 0.2)
    socket = tmp_path / "s"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with redis_server(socket) as url:
            limits = Limits("4/hour", "", redis=url)
            assert through(limits, ANN, "", 3) == 3 and not limits.lost
        assert through(limits, ANN, "", 9) == 4 and limits.lost        # its own count, from nothing
        threading.Event().wait(0.25)
        assert through(limits, ANN, "", 2) == 0 and limits.lost        # asked again, still away
        assert len(said) == 1 and "Redis does not answer" in str(said[0].message)
        with redis_server(socket):
            threading.Event().wait(0.25)
            assert through(limits, ANN, "", 9) == 4 and not limits.lost


@pytest.mark.parametrize("kwargs", [{"user": "many"}, {"address": "10"}, {"redis": "http://me:hidden@x"}, {"redis": "x"}])
def test_settings_that_cannot_be_are_refused(kwargs):
    with pytest.raises(SettingsError, match="must be") as e: Limits(**kwargs)
    assert "hidden" not in str(e.value)


def test_limits_of_a_profile(tmp_path):
    settings = Settings(profile="test", root=tmp_path, store="", mlflow="", artifacts="", ledger=tmp_path / "t", limit_user="2/hour", limit_exempt=("bob",))
    limits = open_limits(settings)
    assert [through(limits, p, "", 5) for p in (ANN, BOB)] == [2, 5]
