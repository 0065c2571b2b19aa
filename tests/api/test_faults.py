"""Servers that go away under the service, and a disk that is full: a 503 in words meanwhile, and then it goes
on by itself."""
import errno
import os
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from mlfin.monitor.metrics import metrics_folder

from ..fixtures.live_server import Here
from ..fixtures.served import BROKEN, Served, bar, key_of, postgresql, price, project

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
PATIENCE = 3.2  # seconds for which a store that is away is asked again, in the servers of these tests
WAITS = {"mlfin.warehouse.postgres:PATIENCE": PATIENCE,
         "mlfin.api.guard:AccountLookup.__init__.__defaults__": (4.0, 4),
         "mlfin.accounts.rate_limits:_PAUSE": 1.0}


def test_what_is_waited_for_unless_a_test_says_otherwise():
    """These servers wait for less; of what is here, the rest holds for any wait."""
    from mlfin.warehouse import postgres as server
    from mlfin.accounts import rate_limits as limits
    from mlfin.api.guard import AccountLookup

    assert (server.PATIENCE, AccountLookup(None, None).seconds, limits._PAUSE) == (10.0, 5.0, 5.0)


class Inside(Served):
    """The service in a thread of this process, which waits as long as a server of these tests."""
    def __init__(self, settings, monkeypatch):
        from mlfin.warehouse import postgres as server
        from mlfin.accounts import rate_limits as limits
        from mlfin.api.guard import AccountLookup

        assert len(WAITS) == 3
        monkeypatch.setattr(server, "PATIENCE", WAITS["mlfin.warehouse.postgres:PATIENCE"])
        monkeypatch.setattr(AccountLookup.__init__, "__defaults__",
                            WAITS["mlfin.api.guard:AccountLookup.__init__.__defaults__"])
        monkeypatch.setattr(limits, "_PAUSE", WAITS["mlfin.accounts.rate_limits:_PAUSE"])
        self.here, self.log = (Here(settings.model_copy(update={"limit_user": "", "limit_address": ""})),
                               settings.root / "server.log")
        self.port = self.here.port
        self.log.touch()

    def start(self): self.here.start()
    def pids(self): return [os.getpid()]
    def __exit__(self, *why): self.here.stop()


@pytest.fixture(params=["inside", pytest.param("alone", marks=pytest.mark.slow)])
def served(request, monkeypatch):
    """served(settings, environment): the service, here or as processes of its own."""
    if request.param == "inside": return lambda settings, environment: Inside(settings, monkeypatch)
    return lambda settings, environment: Served(settings.root, environment, waits=WAITS)


class Sender(threading.Thread):
    """Posts minute after minute of one symbol; what came back, with the time it took."""
    def __init__(self, server, key, symbol="FAULT", pause=0.05):
        super().__init__(daemon=True)
        self.server, self.key, self.symbol, self.pause, self.end = (
            server, key, symbol, pause, threading.Event())
        self.answered, self.told, self.broken = [], [], []

    def run(self):
        minute = 0
        while not self.end.is_set():
            began = time.monotonic()
            try:
                status, headers, told = self.server.ask("POST", "/v1/ingest",
                                                        {"bars": [bar(self.symbol, minute)]}, self.key)
            except BROKEN as e:
                self.broken.append(repr(e))
                continue
            self.told.append((began, time.monotonic() - began, status, headers, told))
            if status == 200: self.answered.append(minute)
            minute += status == 200  # else the same bar again
            time.sleep(self.pause)

    def since(self, moment: float, status: int | None = None) -> list:
        return [t for t in self.told if t[0] >= moment and status in (None, t[2])]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *why):
        self.end.set()
        self.join(60)


def are_clear(refusals) -> None:
    """Problem details that say what is wrong and when to ask again."""
    assert refusals
    for _, _, status, headers, told in refusals:
        assert status == 503 and headers["content-type"] == "application/problem+json" and int(
            headers["retry-after"]) >= 1, (status, headers, told)
        assert told["status"] == 503 and told["detail"] and "again" in told["detail"], told
        # where things are is nobody's business
        assert not any(w in str(told)
                       for w in ("127.0.0.1", "postgres", "/tmp", ".sqlite", "Traceback")), told


def is_whole(settings, sender) -> None:
    """Every bar that was answered is there, once, with its values."""
    from mlfin.warehouse.opening import open_store

    found = open_store(settings).read([sender.symbol], "1m")
    # one may have been stored when its answer broke
    assert len(found) - len(sender.answered) in (0, 1) and not found.duplicated("ts").any()
    assert found.close.tolist() == [price(sender.symbol, n) for n in range(len(found))]


def ready(server) -> int:
    return server.ask("GET", "/health/ready")[0]


@pytest.fixture(scope="module")
def postgres():
    with postgresql() as running: yield running


@pytest.mark.parametrize("how",
                         [pytest.param(s, marks=pytest.mark.slow) for s in (signal.SIGQUIT, signal.SIGINT)],
                         ids=["crash", "shutdown"])
def test_postgresql_as_the_store_goes_away_and_comes_back(postgres, request, served, tmp_path, capsys, how):
    name = f"store{how}_{request.node.callspec.params['served']}"
    postgres.sql(f"CREATE DATABASE {name}")
    settings, environment = project(tmp_path, store=postgres.url(name))
    key = key_of(settings)
    with served(settings, environment) as server, Sender(server, key) as sender:
        worker = server.pids()
        server.until(lambda: len(sender.answered) >= 5 and ready(server) == 200)
        gone = time.monotonic()
        postgres.stop(how)
        try:
            server.until(lambda: len(sender.since(gone, 503)) >= 3)
            assert server.ask("GET", "/health/live")[0] == 200
            server.until(lambda: ready(server) == 503, 30)
            assert server.ask("GET", "/v1/prices/latest?timeframe=1m", key=key)[0] == 503
        finally: postgres.start()
        again = first_answer(server, sender)
        # no connection of before is in the way
        assert server.ask("GET", "/v1/prices/latest?timeframe=1m", key=key)[0] == 200
        server.until(lambda: ready(server) == 200, 30)
        refused = [t for t in sender.told if t[2] == 503]
        assert {t[2] for t in sender.told} == {200, 503} and not sender.broken
        # one waits for a server that may only begin anew (not the first, where that is cut off)
        assert sum(t[1] >= PATIENCE - 0.7 for t in refused) <= 1
        are_clear(refused)
        assert server.pids() == worker  # nothing was started anew
    is_whole(settings, sender)
    with capsys.disabled():
        print(f"\nPostgreSQL as the store gone: {len(sender.answered)} batches answered, {len(refused)} "
              f"refused with 503 "
              f"(the first after {refused[0][1]:.1f} s, the next after {refused[1][1]:.2f} s), lost 0; first "
              f"200 after it was back: {again:.2f} s", end=" ")


@pytest.mark.slow
def test_a_service_that_begins_and_ends_without_its_postgresql(postgres, tmp_path, capsys):
    postgres.sql("CREATE DATABASE alone")
    settings, environment = project(tmp_path, store=postgres.url("alone"))
    key = key_of(settings)
    postgres.stop(signal.SIGINT)
    try:
        with Served(tmp_path, environment) as server, Sender(server, key) as sender:
            server.until(lambda: sender.since(0, 503))
            postgres.start()
            again = first_answer(server, sender)
            server.until(lambda: len(sender.answered) >= 5)
            postgres.stop(signal.SIGINT)
            sender.end.set()
            sender.join(60)
            assert server.stop() == 0 and "Traceback" not in server.log.read_text(), (
                server.log.read_text()[-2000:])
    finally:
        if not is_alive(postgres): postgres.start()
    is_whole(settings, sender)
    with capsys.disabled():
        print(f"\nbegun before PostgreSQL: first 200 {again:.2f} s after that was there; ended after it, in "
              f"peace", end=" ")


def is_alive(postgres) -> bool:
    try: os.kill(postgres.pid, 0)
    except ProcessLookupError: return False
    return Path(f"/proc/{postgres.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def first_answer(server, sender) -> float:
    """Seconds from now until a sender is answered with 200 again."""
    back = time.monotonic()
    server.until(lambda: sender.since(back, 200), 60, 0.02)
    return sender.since(back, 200)[0][0] + sender.since(back, 200)[0][1] - back


@pytest.mark.parametrize("how", [pytest.param("gone", marks=pytest.mark.slow), "hangs"])
def test_postgresql_with_the_accounts_goes_away_and_comes_back(
        postgres, request, served, tmp_path, capsys, how):
    name = f"accounts_{how}_{request.node.callspec.params['served']}"
    postgres.sql(f"CREATE DATABASE {name}")
    settings, environment = project(tmp_path, accounts=postgres.url(name))
    key = key_of(settings)
    with served(settings, environment) as server, Sender(server, key) as sender:
        server.until(lambda: len(sender.answered) >= 5)
        gone = time.monotonic()
        if how == "gone": postgres.stop(signal.SIGQUIT)
        else: paused([postgres.pid, *children(postgres.pid)], signal.SIGSTOP)
        try:
            server.until(lambda: sender.since(gone, 503))
            for _ in range(5):
                began = time.monotonic()
                # it waits for nobody
                assert server.ask("GET", "/health/live", key=key)[0] == 200 and time.monotonic() - began < 3
        finally:
            if how == "gone": postgres.start()
            else: paused([postgres.pid, *children(postgres.pid)], signal.SIGCONT)
        again = first_answer(server, sender)
        refused = [t for t in sender.told if t[2] == 503]
        assert {t[2] for t in sender.told} == {200, 503} and not sender.broken
        are_clear(refused)
        assert how == "gone" or "within 4 s" in refused[0][4]["detail"]
    is_whole(settings, sender)
    with capsys.disabled():
        print(f"\nPostgreSQL with the accounts {how}: {len(sender.answered)} batches answered, "
              f"{len(refused)} refused with 503 "
              f"(after {refused[0][1]:.2f} s), lost 0; first 200 after it was back: {again:.2f} s", end=" ")


def paused(pids: list[int], how: int) -> None:
    """Stop or continue processes where they are."""
    for pid in pids: os.kill(pid, how)


def children(parent: int, named: str = "") -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try: own, _, rest = stat.read_text().rpartition(")")
        except OSError: continue
        if int(rest.split()[1]) == parent and named in own: found.append(int(stat.parent.name))
    return found


def filled(server, bytes_: int) -> None:
    """Let the server's processes write no file beyond a size: what a full disk does to them."""
    for pid in [server.running.pid, *server.pids()]:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (bytes_, resource.RLIM_INFINITY))


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """A disk of eight megabytes; None where this user may not mount one."""
    place = tmp_path_factory.mktemp("small") / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", place],
                             capture_output=True).returncode == 0
    yield place if mounted else None
    if mounted: subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture(scope="module")
def on_disk(small_disk, tmp_path_factory):
    """(settings, server, key): a service whose lake lies on the small disk, and that counts in a Redis; who
    fills the disk up makes room again."""
    folder = tmp_path_factory.mktemp("service")
    asked = dict(redis=f"unix://{folder / 'r'}", limit_user="20/minute", limit_exempt="sender")
    settings, environment = project(folder, **asked,
                                    **({"store": str(small_disk / "lake")} if small_disk else {}))
    key = key_of(settings)
    # eight megabytes are not called full
    room = {"mlfin.monitor.health:_ROOM": {"fail": (2**20, 0.0), "warn": (2**20, 0.0)}}
    with Served(folder, environment, waits=WAITS | room) as server: yield settings, server, key


def test_redis_goes_away_or_hangs_and_each_worker_counts_for_itself(on_disk, redis_server, capsys):
    import redis

    settings, server, _ = on_disk
    place = settings.root / "r"
    keys = [key_of(settings, f"user{n}") for n in range(4)]
    def spend(key):
        began = time.monotonic()
        return ([server.ask("GET", "/v1/models?experiment=none", key=key)[0] for _ in range(25)],
                time.monotonic() - began)
    others = set(children(os.getpid(), "redis-server"))  # of other tests in this worker
    with redis_server(place):
        # it is looked for when somebody asks, though it was not there before
        with redis.Redis.from_url(settings.redis) as client:
            server.until(lambda: server.ask("GET", "/v1/models", key=keys[3]) and client.keys(), 30)
        told, _ = spend(keys[0])
        assert told.count(429) == 5
        (pid,) = set(children(os.getpid(), "redis-server")) - others
        paused([pid], signal.SIGSTOP)
        hung, slow = spend(keys[1])
        paused([pid], signal.SIGCONT)
    told, quick = spend(keys[2])
    for answers in (told, hung):  # it goes on, limited within the process
        assert answers.count(429) == 5 and not {500, 503} & set(answers) and answers[0] != 429
    assert slow < 10 and ready(server) == 200  # a service without Redis is whole
    with redis_server(place):
        # a new Redis has counted nothing
        server.until(lambda: server.ask("GET", "/v1/models?experiment=none", key=keys[0])[0] != 429, 30, 0.1)
    with capsys.disabled():
        print(f"\nRedis hangs, then is gone: 25 requests in {slow:.2f} s and {quick:.2f} s, each 5 refused "
              f"by the process's own count, none failed", end=" ")


def test_a_full_disk_is_a_503_in_words(on_disk, capsys):
    settings, server, key = on_disk
    with Sender(server, key, "FULL") as sender:
        server.until(lambda: len(sender.answered) >= 5)
        full = time.monotonic()
        filled(server, 0)
        server.until(lambda: len(sender.since(full, 503)) >= 5, 60)
        assert server.ask("GET", "/health/live")[0] == 200
        # what is there can be read
        assert server.ask("GET", "/v1/prices/latest?timeframe=1m", key=key)[0] == 200
        filled(server, resource.RLIM_INFINITY)
        free = time.monotonic()
        server.until(lambda: sender.since(free, 200), 60, 0.02)
        again = sender.since(free, 200)[0][0] - free
        assert {t[2] for t in sender.told} == {200, 503} and not sender.broken
        are_clear([t for t in sender.told if t[2] == 503])
        assert "no room left to write" in sender.since(full, 503)[0][4]["detail"]
    is_whole(settings, sender)
    with capsys.disabled():
        print(f"\nfull disk: {len(sender.answered)} batches answered, "
              f"{sum(t[2] == 503 for t in sender.told)} refused with 503, lost 0; "
              f"first 200 after {again:.2f} s of room", end=" ")


def test_a_lake_on_a_disk_that_is_full(small_disk, on_disk):
    if small_disk is None: pytest.skip("this user may not mount")
    settings, server, key = on_disk
    with Sender(server, key, "LAKE") as sender:
        server.until(lambda: len(sender.answered) >= 5)
        with open(small_disk / "ballast", "wb", buffering=0) as ballast:
            try:
                while True: ballast.write(bytes(4_096))
            except OSError as e: assert e.errno == errno.ENOSPC
        full = time.monotonic()
        server.until(lambda: len(sender.since(full, 503)) >= 5, 90)
        (small_disk / "ballast").unlink()
        first_answer(server, sender)
        are_clear([t for t in sender.told if t[2] == 503])
        assert "no room left to write" in sender.since(full, 503)[0][4]["detail"] and not sender.broken
        # the log says where
        assert "journal" in (settings.root / ".mlfin/test/logs/application.log").read_text()
    is_whole(settings, sender)


@pytest.fixture
def whole_disk(tmp_path):
    """A disk of 24 megabytes for a whole project."""
    place = tmp_path / "whole"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", place],
                      capture_output=True).returncode:
        pytest.skip("this user may not mount")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_under_everything_ends_no_worker(whole_disk):
    settings, environment = project(whole_disk / "service")
    room = {"mlfin.monitor.health:_ROOM": {"fail": (2**20, 0.0), "warn": (2**20, 0.0)}}
    with Served(whole_disk / "service", environment, waits=WAITS | room) as server:
        workers = server.pids()
        with open(whole_disk / "ballast", "wb", buffering=0) as ballast:
            try:
                while True: ballast.write(bytes(4_096))
            except OSError as e: assert e.errno == errno.ENOSPC
        for method, path in (("GET", "/v1/models"), ("GET", "/v1/signals"), ("POST", "/v1/predict"),
                             ("GET", "/v1/jobs"), ("DELETE", "/v1/nothing")):
            assert server.ask(method, path)[0] == 401, path  # each is counted for the first time
        assert server.ask("GET", "/health/live")[0] == 200 and server.pids() == workers
        (whole_disk / "ballast").unlink()
        server.until(lambda: ready(server) == 200, 30, 0.1)
        assert server.pids() == workers
    assert not metrics_folder(settings).is_relative_to(whole_disk)
    assert not list(metrics_folder(settings).glob("*"))
