"""Rate limits in this process and in a real Redis, which goes away and comes back."""
import socket as sockets
import threading
import time
import warnings

import pytest

from mlfin.core.errors import SettingsError
from mlfin.core.settings import Settings
from mlfin.accounts import rate_limits as limits_module
from mlfin.accounts.rate_limits import Limits, open_limits
from mlfin.accounts.roles import Person, Throttled

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


def until(there, seconds=30):
    end = time.monotonic() + seconds
    while not (found := there()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


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
    assert (
        through(limits, Person("x", "Ann", "analyst", "s"), "192.0.2.9", 9) == 5
    )  # names are kept in lower case


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
    assert (
        sum(through(w, ANN, "", 5) for w in [Limits("10/hour", "", workers=4) for _ in range(4)]) == 12
    )  # shares, rounded up


def test_a_lost_redis_is_said_once_and_asked_again(redis_server, tmp_path, monkeypatch):
    monkeypatch.setattr(limits_module, "_PAUSE", 0.2)
    socket = tmp_path / "s"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with redis_server(socket) as url:
            limits = Limits("4/hour", "", redis=url)
            assert through(limits, ANN, "", 3) == 3 and not limits.lost
        assert through(limits, ANN, "", 9) == 4 and limits.lost        # its own count, from nothing
        for _ in range(3):
            threading.Event().wait(0.25)
            assert through(limits, ANN, "", 2) == 0 and limits.lost    # asked again, still away
        until(lambda: said)
        assert len(said) == 1 and "Redis does not answer" in str(said[0].message)
        with redis_server(socket):
            until(limits.shared.window)
            assert through(limits, ANN, "", 9) == 4 and not limits.lost


@pytest.fixture
def openers(monkeypatch):
    """The threads that opened a connection, or asked for an address; that of `cache.example` is not found,
    after a while."""
    found, connect, look_up = [], sockets.socket.connect, sockets.getaddrinfo

    def noted(self, address):
        found.append(threading.get_ident())
        return connect(self, address)

    def slow(host, *args, **kwargs):
        found.append(threading.get_ident())
        if host != "cache.example":
            return look_up(host, *args, **kwargs)
        time.sleep(1.5)
        raise sockets.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(sockets.socket, "connect", noted)
    monkeypatch.setattr(sockets, "getaddrinfo", slow)
    return found


def test_a_name_server_that_takes_its_time_holds_up_nobody(openers, monkeypatch):
    monkeypatch.setattr(limits_module, "_FIRST", 0.1)
    monkeypatch.setattr(limits_module, "_PAUSE", 0.0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        limits, longest = Limits("4/hour", "", redis="redis://cache.example:6379/0"), 0.0
        for _ in range(2):  # while it is looked for, and while it is looked for again
            begin = time.monotonic()
            through(limits, ANN, "", 5)
            longest = max(longest, time.monotonic() - begin)
            until(lambda: said)
        assert longest < 1 and len(said) == 1 and limits.lost
        assert through(limits, ANN, "", 5) == 0                        # its own count went on
    assert openers and threading.get_ident() not in openers


def test_a_connection_that_was_closed_is_opened_again_apart_from_requests(
    redis_server, openers, monkeypatch, tmp_path
):
    import redis

    monkeypatch.setattr(limits_module, "_PAUSE", 0.05)
    with redis_server(tmp_path / "s") as url, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        limits = Limits("40/hour", "", redis=url)
        assert through(limits, ANN, "", 20) == 20 and not limits.lost
        with redis.Redis.from_url(url) as other:
            other.client_kill_filter(_type="normal", skipme=True)
            openers.clear()
        for _ in range(2):
            assert through(limits, ANN, "", 1) == 1
            until(limits.shared.window)
        assert through(limits, ANN, "", 40) >= 18 and not limits.lost
        assert through(limits, ANN, "", 1) == 0                        # Redis has counted those of before
        assert openers and threading.get_ident() not in openers
        assert not said  # what is closed while it is idle is not lost


@pytest.mark.parametrize("end", [":port/0", "/0?colour=red"])
def test_an_address_that_cannot_be_is_refused_at_the_start(end):
    with pytest.raises(SettingsError, match="`redis` must be") as e:
        Limits(redis=f"redis://:hidden@here{end}")
    assert "hidden" not in str(e.value)


@pytest.mark.parametrize(
    "kwargs", [{"user": "many"}, {"address": "10"}, {"redis": "http://me:hidden@x"}, {"redis": "x"}]
)
def test_settings_that_cannot_be_are_refused(kwargs):
    with pytest.raises(SettingsError, match="must be") as e: Limits(**kwargs)
    assert "hidden" not in str(e.value)


def test_limits_of_a_profile(tmp_path):
    settings = Settings(
        profile="test",
        root=tmp_path,
        store="",
        mlflow="",
        artifacts="",
        ledger=tmp_path / "t",
        limit_user="2/hour",
        limit_exempt=("bob",),
    )
    limits = open_limits(settings)
    assert [through(limits, p, "", 5) for p in (ANN, BOB)] == [2, 5]
