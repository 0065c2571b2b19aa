"""A real `mlfin serve` that may be killed and started again on the same port; a key for a machine."""
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from .real_server import as_project

ROOT = Path(__file__).parents[2]


def project(folder):
    """Settings of profile `test` in a folder of its own."""
    from mlfin.core.settings import load_settings

    return load_settings("test", root=as_project(folder))


def key_for(settings, role="analyst"):
    """An API key of a user that is made for it."""
    from mlfin.serve.auth import Accounts
    from mlfin.serve.credentials import Hashing
    from mlfin.serve.users import add_user, new_key

    accounts = Accounts(settings.accounts, profile="test", hashing=Hashing(time_cost=1, memory_kb=8, parallelism=1))
    add_user(accounts, "collector", role, "correct horse battery")
    try:
        return new_key(accounts, "collector", "a test", role=role)
    finally:
        accounts.close()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def clean_environment(**more):
    """This process's environment, without what would change another project's settings."""
    return {k: v for k, v in os.environ.items() if not k.startswith("MLFIN_")} | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "200", **more}


class Server:
    """`mlfin serve` on a port that stays the same over its lives."""
    def __init__(self, settings, **environment):
        self.settings, self.port, self.process = settings, free_port(), None
        self.environment = clean_environment(MLFIN_PROFILE="test", **environment)

    def start(self, seconds=120):
        words = [sys.executable, "-P", "-m", "mlfin", "serve", "--port", str(self.port), "--workers", "1"]
        self.process = subprocess.Popen(words, cwd=self.settings.root, env=self.environment, start_new_session=True, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        end = time.monotonic() + seconds
        while not self.lives():
            assert self.process.poll() is None, "the server ended"
            assert time.monotonic() < end, "the server did not start in time"
            time.sleep(0.1)
        return self

    def lives(self):
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            line.request("GET", "/health/live")
            return line.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            line.close()

    def kill(self):
        """The whole process group, at once, as a machine that loses its power."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(60)

    def stop(self):
        """As somebody who presses Ctrl-C."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()


class Here:
    """The service in a thread of this process: its answers are the same, and it has loaded what it needs."""
    def __init__(self, settings):
        self.settings, self.taken, self.thread = settings, socket.socket(), None
        self.taken.bind(("127.0.0.1", 0))
        self.port = self.taken.getsockname()[1]

    def start(self):
        from uvicorn import Server

        from mlfin.serve.api import Api, create_app
        from mlfin.serve.service import Service
        from mlfin.serve.worker import make_config

        self.server = Server(make_config(create_app(self.settings, Api(self.settings, Service(self.settings))), self.settings))
        self.thread, end = threading.Thread(target=self.server.run, args=([self.taken],)), time.monotonic() + 60
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive() and time.monotonic() < end, "the service did not start"
            time.sleep(0.02)
        return self

    def stop(self):
        if self.thread is None:
            return self.taken.close()
        self.server.should_exit = True
        self.thread.join(60)
        assert not self.thread.is_alive()

    kill = stop
