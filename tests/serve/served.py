"""`mlfin serve` of a project folder, as processes that can be killed and begun again where they were."""
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
WAIT = 120.0  # seconds in which a server has to answer, on a machine that has other work
BROKEN = (OSError, http.client.HTTPException)


@cache
def beside(*parts: str):
    """A module of another folder of tests, loaded once: it may keep what took long to make."""
    path = ROOT.joinpath("tests", *parts)
    spec = spec_from_file_location(path.stem, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def postgresql():
    """A PostgreSQL of our own that can be stopped and started where it was; skips where none is installed."""
    pytest.importorskip("psycopg")
    faults, folder = beside("data", "test_warehouse_faults.py"), Path(tempfile.mkdtemp(prefix="mlfin-served-"))
    try: faults.services.needed("initdb", "postgres")
    except faults.services.Refused: pytest.skip("needs postgresql: env/install-services")
    folder.chmod(0o711)  # its server may be another user
    running = faults.Postgres(folder / "primary")
    try: yield running
    finally:
        running.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)


def key_of(settings, name: str = "sender", role: str = "analyst") -> str:
    """An API key of a new user."""
    from mlfin.serve.auth import Accounts, open_accounts
    from mlfin.serve.credentials import Hashing
    from mlfin.serve.users import add_user, new_key

    opened = open_accounts(settings)
    accounts = Accounts(settings.accounts or str(opened.engine.url), opened.keys, settings.profile, hashing=Hashing(time_cost=1, memory_kb=8, parallelism=1))
    opened.close()
    add_user(accounts, name, role, "correct horse battery")
    key = new_key(accounts, name, "test", role=role)
    accounts.close()
    return key if isinstance(key, str) else key[-1]


def project(folder: Path, **environment: str):
    """Settings of a new project folder, and the environment in which its server runs."""
    from mlfin.core.settings import load_settings

    folder.mkdir(parents=True, exist_ok=True)
    for name in ("settings.ini", "env.yaml", "pipeline.yaml"):
        shutil.copy(ROOT / name, folder)
    given = {f"MLFIN_{k.upper()}": v for k, v in environment.items()}
    settings = load_settings("test", root=folder)
    return settings.model_copy(update={k: v for k, v in environment.items() if k in ("store", "accounts", "redis")}), given


def command(waits: dict | None = None) -> list[str]:
    """How Python runs `mlfin`; where waits ("module:attribute" -> value) are given, they hold in it and in the workers that it starts."""
    if not waits: return ["-P", "-m", "mlfin"]
    told = "; ".join(f"import {at.partition(':')[0]}; {at.replace(':', '.')} = {value!r}" for at, value in waits.items())
    return ["-P", "-c", f"{told}; import mlfin.serve.worker as w; w.START = w.START.replace('; from mlfin', {f'; {told}; from mlfin'!r}); "
                        "from mlfin.ops.cli import main; main()"]


class Served:
    """A server on one port, which is the same after every start."""
    def __init__(self, folder: Path, environment: dict, workers: int = 1, files: int | None = None, waits: dict | None = None):
        self.folder, self.workers, self.files, self.running, self.log = folder, workers, files, None, folder / "server.log"
        self.command = [sys.executable, *command(waits), "serve"]
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.words = ["--port", str(self.port)]  # none of these: as `serve_port` says
        own = {k: v for k, v in os.environ.items() if not k.startswith("MLFIN_")}
        limits = {"MLFIN_LIMIT_USER": "", "MLFIN_LIMIT_ADDRESS": ""}
        self.environment = own | limits | {"OMP_NUM_THREADS": "1", "MLFIN_ROOT": str(folder), "MLFIN_PROFILE": "test", "PYTHONPATH": str(ROOT)} | environment

    def start(self) -> float:
        """Begin, and the seconds until it answers."""
        began = time.monotonic()
        words = [*self.command, *self.words, "--workers", str(self.workers)]

        def limited():
            if self.files: resource.setrlimit(resource.RLIMIT_NOFILE, (self.files, self.files))

        with open(self.log, "ab") as log:
            self.running = subprocess.Popen(words, cwd=self.folder, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            start_new_session=True, preexec_fn=limited)
        while True:
            try:
                if self.ask("GET", "/health/live", timeout=5)[0] == 200:
                    return time.monotonic() - began
            except BROKEN:
                assert self.running.poll() is None and time.monotonic() - began < WAIT, self.log.read_text()[-3000:]
                time.sleep(0.05)

    def kill(self) -> None:
        """`kill -9` of all its processes."""
        os.killpg(self.running.pid, signal.SIGKILL)
        self.running.wait(30)

    def stop(self) -> int:
        """Ask it to end; its exit status. What does not end is killed."""
        if self.running is None or self.running.poll() is not None:
            return self.running.returncode if self.running else 0
        self.running.terminate()
        try: return self.running.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            return -9

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *why):
        if self.running is not None and self.running.poll() is None: self.stop()

    def pids(self) -> list[int]:
        """Numbers of the workers' processes."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                if int(stat.read_text().rpartition(")")[2].split()[1]) != self.running.pid: continue
                if b"serve.worker" in stat.with_name("cmdline").read_bytes(): found.append(int(stat.parent.name))
            except OSError: continue  # it ended meanwhile
        return sorted(found)

    def line(self, timeout: float = 60) -> http.client.HTTPConnection:
        """A connection that can be asked again and again."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, method: str, path: str, body=None, key: str = "", timeout: float = 60, line=None) -> tuple[int, dict, dict]:
        """Status, headers in lower case, and what the JSON of the answer says."""
        own = line or self.line(timeout)
        try:
            own.request(method, path, None if body is None else json.dumps(body), {"content-type": "application/json"} | ({"x-api-key": key} if key else {}))
            answer = own.getresponse()
            data = answer.read()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, json.loads(data) if data[:1] in (b"{", b"[") else {"text": data.decode()}
        finally:
            if line is None: own.close()

    def until(self, wanted, seconds: float = 60.0, every: float = 0.1) -> float:
        """Seconds until a condition holds."""
        began = time.monotonic()
        while not wanted():
            assert time.monotonic() - began < seconds, self.log.read_text()[-2000:]
            time.sleep(every)
        return time.monotonic() - began


FIRST = pd.Timestamp("2023-01-02", tz="UTC")


def price(symbol: str, minute: int) -> float:
    """The close of a bar, which nothing but its key decides."""
    return 100.0 + (minute * 7 + sum(map(ord, symbol)) * 13) % 997 / 8


def bar(symbol: str, minute: int) -> dict:
    """A minute's bar as it goes over the wire."""
    close = price(symbol, minute)
    return dict(symbol=symbol, timeframe="1m", time=int(FIRST.timestamp()) + 60 * minute, open=close, high=close + 1, low=close - 1, close=close, volume=10.0)


SPECS = ["returns", "rsi_14", "obv", "sma_20", "volume_ma_20", "macd_12_26_9"]


def with_champions(settings, *estimators: str, days: int = 700):
    """One version of experiment `main` for each estimator, of which the first is the champion; the daily bars that they learnt from, stored."""
    from mlfin.data.ingest import open_store
    from mlfin.models.registry import crown, register, write_verdict

    left_run = beside("models", "left_run.py")
    bars = left_run.bars_that_remember(days=days, symbols=("AAA", "BBB"))
    for n, name in enumerate(estimators):
        left_run.leave(settings, "main", key=f"{n + 10:x}" * 32, specs=SPECS, names=(name,), bars=bars)
        write_verdict(settings, register(settings, "main"), "passed", "all is well", {"checks": []})
    crown(settings, "main", 1, None)
    open_store(settings).write(bars)
    return bars


class Load:
    """Requests at a steady rate over some connections; what each was answered."""
    def __init__(self, server: Served, key: str, rate: float, request, connections: int = 4):
        self.server, self.key, self.rate, self.request, self.told, self.failed = server, key, rate, request, [], []
        self.end, self.lock, self.sent = threading.Event(), threading.Lock(), 0
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(connections)]

    def _work(self):
        line = self.server.line()
        while True:
            with self.lock: n, self.sent = self.sent, self.sent + 1
            if self.end.wait(max(self.began + n / self.rate - time.monotonic(), 0)): break
            method, path, body = self.request(n)
            began = time.monotonic()
            try: status, _, told = self.server.ask(method, path, body, self.key, line=line)
            except BROKEN as e:
                self.failed.append((n, path, repr(e)))
                line.close()
                continue
            if status != 200: self.failed.append((n, path, status, told))
            else: self.told.append((began, time.monotonic(), path, told))
        line.close()

    def __enter__(self):
        self.began = time.monotonic()
        for thread in self.threads: thread.start()
        return self

    def __exit__(self, *why):
        self.end.set()
        for thread in self.threads: thread.join(90)
