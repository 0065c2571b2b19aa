"""`mlfin serve` as a process: certificates, settings that change while it serves, how it stops, and several
workers that act as one."""
import http.client
import json
import os
import queue
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mlfin.core.errors import SettingsError
from mlfin.core.settings import load_settings
from mlfin.store.lake import Lake
from mlfin.api import server
from mlfin.accounts.auth import open_accounts
from mlfin.jobs.job_process import descendants
from mlfin.accounts.credentials import Hashing
from mlfin.jobs.jobs import Jobs
from mlfin.api.server import Listen, listening_socket, profile_lock, serve
from mlfin.api.server import WorkerPool as Crew
from mlfin.api.tls import check_tls
from mlfin.accounts.users import add_user, new_key, set_role

from ..fixtures.asking import CHEAP

ROOT = Path(__file__).parents[2]
PASSWORD = "a long walk home"


def until(condition, seconds=60.0, every=0.05):
    """Wait for something; what it was in the end."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(every)
    return found


class Home:
    """A project's folder, in which the profile `test` is served."""

    def __init__(self, root: Path):
        self.root = root
        for name in ("settings.ini", "env.yaml", "pipeline.yaml"):
            (root / name).write_bytes((ROOT / name).read_bytes())

    def set(self, **values) -> None:
        """Change settings of the profile."""
        ini = ConfigParser(interpolation=None)
        ini.read(self.root / "settings.ini", encoding="utf-8")
        ini["test"].update({k: str(v) for k, v in values.items()})
        with open(self.root / "settings.ini", "w", encoding="utf-8") as file:
            ini.write(file)

    @property
    def settings(self):
        return load_settings("test", root=self.root)

    def key(self, name: str, role: str = "analyst", hashing: Hashing | None = CHEAP) -> str:
        """A user with a password, and a machine's key of theirs; a cheap hash is made anew at the first
        log-in."""
        accounts = open_accounts(self.settings)
        if hashing is not None: accounts.hashing = hashing
        try:
            add_user(accounts, name, role, PASSWORD)
            return new_key(accounts, name, "test", role=role)
        finally:
            accounts.close()

    def log(self, stream: str) -> list[dict]:
        path = self.root / ".mlfin" / "test" / "logs" / f"{stream}.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def said(self, words: str) -> bool:
        return any(words in line["message"] for line in self.log("application"))

    def environment(self, **more) -> dict:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MLFIN_")}
        return kept | {"PYTHONPATH": str(ROOT), "MLFIN_ROOT": str(self.root), "MLFIN_PROFILE": "test",
                       "COLUMNS": "300", **more}


class Running:
    """The command, from its start to its end."""

    def __init__(self, home: Home, *words: str, context: ssl.SSLContext | None = None, **environment: str):
        self.home, self.context, self.lines, self._heard = home, context, [], queue.SimpleQueue()
        began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mlfin", "serve", "--port", "0", *words], cwd=home.root,
            env=home.environment(**environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, process_group=0)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        found = until(lambda: self.address or self.process.poll() is not None, 300)
        self.seconds = time.monotonic() - began
        assert found and self.address, "\n".join(self.lines)

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def text(self) -> str: return "\n".join(self.lines)

    @property
    def address(self) -> str:
        found = re.search(r"Serving (https?://\S+?)/v1 ", self.text)
        return found[1] if found else ""

    @property
    def pid(self) -> int: return self.process.pid

    def workers(self) -> list[int]:
        """Those that serve, or are about to."""
        found = []
        for pid in descendants(self.pid):
            try:
                if b"mlfin.api.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
            except OSError:
                continue
        return sorted(found)

    def connect(self, timeout=60) -> http.client.HTTPConnection:
        """A connection of one's own."""
        at = urlsplit(self.address)
        if at.scheme == "https":
            return http.client.HTTPSConnection(at.hostname, at.port, timeout=timeout, context=self.context)
        return http.client.HTTPConnection(at.hostname, at.port, timeout=timeout)

    def ask(self, method, path, body=None, line=None, **headers):
        """(status, headers, what was said)."""
        own = line or self.connect()
        try:
            return answer(own, method, path, body, **headers)
        finally:
            if line is None:
                own.close()

    def log_in(self, name, line=None):
        status, _, told = self.ask("POST", "/v1/auth/token", {"username": name, "password": PASSWORD}, line)
        assert status == 200, told
        return {"authorization": f"Bearer {told['access_token']}"}

    def stop(self, how=signal.SIGTERM, seconds=60) -> int:
        self.process.send_signal(how)
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code

    def close(self) -> None:
        """Whatever became of it, nothing of it stays."""
        pids = self.workers() if self.process.poll() is None else []
        self.process.kill()
        self.process.wait(20)
        for pid in pids:
            assert until(lambda pid=pid: not Path(f"/proc/{pid}").exists()
                         or "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3], 60)


def answer(line, method, path, body=None, **headers):
    form = path.endswith("/auth/token")
    data = urlencode(body) if form else json.dumps(body) if body is not None else None
    kind = {"content-type": "application/x-www-form-urlencoded"} if form else {}
    line.request(method, path, data, kind | {k.replace("_", "-"): v for k, v in headers.items()})
    got = line.getresponse()
    text = got.read()
    told = json.loads(text) if "json" in got.headers.get("content-type", "") else text.decode()
    return got.status, {k.lower(): v for k, v in got.headers.items()}, told


@contextmanager
def serving(home, *words, **more):
    running = Running(home, *words, **more)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def bar(i: int, symbol="EURUSD", close=1.15) -> dict:
    return dict(symbol=symbol, timeframe="M1", time=1_700_000_040 + 60 * i, open=1.1, high=1.2, low=1.0,
                close=close, volume=7)


class Slow:
    """A request of which half was sent: it is under way for as long as one likes."""

    def __init__(self, running: Running, path: str, body: dict, **headers):
        self.data = json.dumps(body).encode()
        at = urlsplit(running.address)
        self.line = socket.create_connection((at.hostname, at.port), timeout=60)
        if running.context is not None:
            self.line = running.context.wrap_socket(self.line, server_hostname=at.hostname)
        head = {"host": at.netloc, "content-length": str(len(self.data)),
                "content-type": "application/json", **headers}
        text = (f"POST {path} HTTP/1.1\r\n"
                + "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in head.items()) + "\r\n")
        self.line.sendall(text.encode() + self.data[:10])

    def finish(self) -> tuple[int, str, str]:
        """Send the rest: status, head, body."""
        self.line.sendall(self.data[10:])
        with self.line, self.line.makefile("rb") as back:
            text = back.read().decode()
        head, _, body = text.partition("\r\n\r\n")
        return int(head.split()[1]), head.lower(), body


# --- certificates


class Authority:
    """Somebody who vouches for certificates."""

    def __init__(self, folder: Path):
        self.folder, self.key = folder, ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test's authority")])
        self.cert = self._sign(self.name, self.key.public_key(), 1, authority=True)
        self.path = folder / "authority.pem"
        self.path.write_bytes(self.cert.public_bytes(serialization.Encoding.PEM))

    def _sign(self, name, public, serial, authority=False, begin=-1.0, end=24.0):
        now = datetime.now(UTC)
        made = (x509.CertificateBuilder().subject_name(name).issuer_name(self.name).public_key(public)
                .serial_number(serial)
                .not_valid_before(now + timedelta(hours=begin)).not_valid_after(now + timedelta(hours=end))
                .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                               critical=False))
        if authority:
            made = made.add_extension(x509.KeyUsage(
                digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
                key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
                decipher_only=False), critical=True)
        else:
            names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return made.sign(self.key, hashes.SHA256())

    def issue(self, serial: int, name="own", lock=None, **span) -> tuple[Path, Path]:
        """A certificate for this machine, and its key, as files."""
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self._sign(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")]),
                          key.public_key(), serial, **span)
        chain, private = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        chain.write_bytes(cert.public_bytes(serialization.Encoding.PEM) + self.path.read_bytes())
        hidden = serialization.BestAvailableEncryption(lock) if lock else serialization.NoEncryption()
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM,
                                              serialization.PrivateFormat.PKCS8, hidden))
        return chain, private

    def context(self) -> ssl.SSLContext:
        """A client's, that believes this authority and nobody else."""
        return ssl.create_default_context(cafile=self.path)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.mark.parametrize(("span", "words"), [
    (dict(begin=-48.0, end=-24.0), "good now"), (dict(begin=1.0), "good now"),
    (dict(lock=b"a passphrase"), "without a passphrase")])
def test_a_certificate_that_clients_would_refuse_is_named(authority, span, words):
    with pytest.raises(SettingsError, match=words):
        check_tls(*authority.issue(7, **span))


def test_what_is_wrong_with_the_files_is_said_by_name(authority, tmp_path):
    cert, key = authority.issue(7)
    other, another = authority.issue(8, "other")
    assert check_tls(cert, key) > datetime.now(UTC)
    backwards, nothing = tmp_path / "backwards.pem", tmp_path / "nothing.pem"
    backwards.write_bytes(authority.path.read_bytes() + cert.read_bytes())
    nothing.write_bytes(b"")
    for files, words in (((cert, another), "the private key of the certificate in own.pem"),
                         ((backwards, key), "must come first"),
                         ((tmp_path / "gone.pem", key), "gone.pem: No such file"),
                         ((cert, tmp_path / "gone.key"), "gone.key: No such file"),
                         ((nothing, key), "`tls_cert` must be a certificate"),
                         ((key, cert), "`tls_cert` must be a certificate"),
                         ((cert, nothing), "a private key in PEM")):
        with pytest.raises(SettingsError) as e:
            check_tls(*files)
        assert words in str(e.value), str(e.value)


# --- before anything listens


def test_what_must_not_be_served_is_said_and_nothing_listens(home):
    command = [sys.executable, "-P", "-m", "mlfin", "serve", "--port", "0", "--host", "::"]
    done = subprocess.run(command, cwd=home.root, env=home.environment(), stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=300)
    text = done.stdout + done.stderr
    assert done.returncode == 2 and "`::` can be reached by others" in text and "Traceback" not in text, text
    # it is shown when nothing stands in the way any more
    assert "password for one log-in" not in text
    assert not (home.root / ".mlfin" / "test" / "accounts.sqlite").exists()


def test_a_port_that_another_program_has_is_not_taken(home, monkeypatch):
    # who was just killed has two seconds
    monkeypatch.setattr(server._bind, "__defaults__", (0.2,))
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"(?s)127.0.0.1:{port} cannot be listened on: Address "
                                                rf"already in use.*serve_port = 8001.*--port 0"):
            serve(home.settings, Listen("127.0.0.1", port),
                  on_ready=lambda address: pytest.fail("it listens"),
                  before_start=lambda: pytest.fail("too early"))


def test_a_certificate_that_is_no_good_is_found_before_anything_listens(home, authority):
    (cert, _), (_, other) = authority.issue(7), authority.issue(8, "other")
    with pytest.raises(SettingsError, match="must be the private key of the certificate"):
        serve(home.settings, Listen("127.0.0.1", 0, 1, cert, other),
              on_ready=lambda address: pytest.fail("it listens"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "no-such-host.invalid"])
def test_addresses_that_others_reach_are_refused_by_whatever_name(home, host, monkeypatch):
    if host.endswith(".invalid"):
        monkeypatch.setattr(socket, "getaddrinfo",
                            lambda *a, **k: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("203.0.113.7", 0))])
    with pytest.raises(SettingsError, match="can be reached by others"):
        serve(home.settings.model_copy(update={"profile": "production"}), Listen(host, 0),
              on_ready=lambda address: pytest.fail("it listens"))


@pytest.mark.parametrize("wanted", ["127.0.0.1", "0.0.0.0"])
def test_a_socket_that_others_reach_is_never_without_tls(home, authority, monkeypatch, wanted):
    """The settings say another address on SIGHUP: what is listened on is still the old one."""
    said = []

    class Supervisor:
        def __init__(self, settings, taken, beside, renew): self.renew = renew

        def run(self, told):
            with pytest.raises(SettingsError, match="`0.0.0.0` can be reached by others") as e: self.renew()
            said.append(e.value)

    monkeypatch.setattr(server, "Supervisor", Supervisor)
    cert, key = authority.issue(7)
    serve(home.settings, Listen("0.0.0.0", 0, 1, cert, key),
          reload=lambda: (home.settings, Listen(wanted, 0)))
    assert len(said) == 1


def test_a_profile_is_served_once(home):
    with profile_lock(home.settings) as note:
        note("http://127.0.0.1:8000")
        with pytest.raises(SettingsError,
                           match=rf"served already, by process {os.getpid()} at http://127.0.0.1:8000"):
            serve(home.settings, Listen("127.0.0.1", 0), on_ready=lambda address: pytest.fail("it listens"))
    with profile_lock(home.settings):
        pass


def test_ipv6_and_names_are_listened_on():
    with listening_socket("localhost", 0) as near:
        assert near.getsockname()[0] in ("127.0.0.1", "::1")
    try:
        with listening_socket("::1", 0) as six:
            assert six.family == socket.AF_INET6
    except SettingsError as e:
        assert "cannot be listened on" in str(e)                            # a machine without IPv6


def test_a_service_that_cannot_start_says_why(home):
    home.set(limit_user="many")
    words = [sys.executable, "-P", "-m", "mlfin", "serve", "--port", "0"]
    done = subprocess.run(words, cwd=home.root, env=home.environment(), capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 2 and "Serving" not in done.stdout, done
    assert "`limit_user` must be a number and a span of time" in done.stderr, done


# --- TLS and SIGHUP


class Load:
    """Clients that ask all the time, each on a connection that it keeps for as long as it may."""

    def __init__(self, running: Running, clients=4, pause=0.01, **headers):
        self.running, self.pause, self.headers, self.stop, self.done, self.failed = (
            running, pause, headers, threading.Event(), 0, [])
        self.threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self):
        line = self.running.connect()
        while not self.stop.wait(self.pause):
            try:
                status, head, told = answer(line, "GET", "/v1/auth/me", **self.headers)
            except (OSError, http.client.HTTPException) as e:
                self.failed.append(repr(e))
                line.close()
                line = self.running.connect()
                continue
            self.done += 1
            if status != 200:
                self.failed.append((status, told))
            if head.get("connection") == "close":
                line.close()
                line = self.running.connect()
        line.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A service behind TLS with one worker, its authority, and who asks."""
    folder = tmp_path_factory.mktemp("guarded")
    home, authority = Home(folder), Authority(folder)
    cert, key = authority.issue(1001)
    home.set(limit_user="", limit_address="", tls_cert=cert, tls_key=key)
    secret = home.key("ann")
    with serving(home, context=authority.context()) as running:
        yield running, authority, secret


def test_tls_is_1_3_and_verified(guarded):
    running, authority, _ = guarded
    at = urlsplit(running.address)
    assert at.scheme == "https"
    with (socket.create_connection((at.hostname, at.port), 20) as line,
          authority.context().wrap_socket(line, server_hostname="localhost") as found):
        assert found.version() == "TLSv1.3"
    status, head, _ = running.ask("GET", "/health/live")
    assert status == 200 and re.fullmatch(r"max-age=\d{7,}.*", head["strict-transport-security"])
    old = authority.context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with (pytest.raises((ssl.SSLError, ConnectionError)),
          socket.create_connection((at.hostname, at.port), 20) as line):
        old.wrap_socket(line, server_hostname="localhost")
    with (pytest.raises(ssl.SSLCertVerificationError),
          socket.create_connection((at.hostname, at.port), 20) as line):
        ssl.create_default_context().wrap_socket(line, server_hostname="localhost")
    with socket.create_connection((at.hostname, at.port), 20) as line:      # plain HTTP is not answered
        line.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        try:
            assert b"200" not in line.recv(100)
        except ConnectionError:
            assert running.process.poll() is None


def serial(running) -> int:
    at = urlsplit(running.address)
    with (socket.create_connection((at.hostname, at.port), 60) as line,
          running.context.wrap_socket(line, server_hostname="localhost") as found):
        return x509.load_der_x509_certificate(found.getpeercert(binary_form=True)).serial_number


def test_what_is_new_holds_after_sighup_what_is_under_way_ends_and_no_request_fails(guarded):
    """A renewed certificate and other settings, in one SIGHUP."""
    running, authority, secret = guarded
    home, origin = running.home, {"origin": "https://desk.example"}
    me = running.log_in("ann")
    assert serial(running) == 1001
    assert "access-control-allow-origin" not in running.ask("GET", "/health/live", **origin)[1]
    kept, slow = running.connect(), Slow(running, "/v1/ingest", {"bars": [bar(0)]}, x_api_key=secret)
    assert answer(kept, "GET", "/v1/auth/me", x_api_key=secret)[0] == 200
    with Load(running, x_api_key=secret) as load:
        time.sleep(0.3)
        authority.issue(1002)
        home.set(cors="https://desk.example", limit_user="10000/minute", log_level="INFO")
        running.process.send_signal(signal.SIGHUP)
        assert until(lambda: serial(running) == 1002)

        def leaves():
            status, head, _ = answer(kept, "GET", "/v1/auth/me", x_api_key=secret)
            assert status == 200
            return head.get("connection") == "close"
        # the old worker answers, and says that it goes
        assert until(leaves)
        kept.close()
        status, head, body = slow.finish()
        assert status == 200 and '"stored":1' in body.replace(" ", "") and "connection: close" in head, (
            head, body)
        assert until(lambda: len(running.workers()) == 1)
        time.sleep(0.3)
    assert load.failed == [] and load.done > 20, (load.done, load.failed[:5])
    assert (running.ask("GET", "/health/live", **origin)[1]["access-control-allow-origin"]
            == "https://desk.example")
    assert running.ask("GET", "/v1/auth/me", **me)[2]["name"] == "ann"      # the session goes on
    assert any(line["level"] == "INFO" for line in home.log("application"))
    authority.issue(1003, begin=-48.0, end=-24.0)                           # a renewal that went wrong
    running.process.send_signal(signal.SIGHUP)
    assert until(lambda: home.said("must be a certificate that is good now"))
    assert serial(running) == 1002 and len(running.workers()) == 1
    authority.issue(1004)


@pytest.mark.slow
def test_settings_that_are_no_good_change_nothing(guarded):
    running, _, secret = guarded
    home, before = running.home, running.workers()
    good = (home.root / "settings.ini").read_text()
    for text, words in (("this is no ini file\n" + good, "settings.ini"),
                        (good + "\nserve_worker = 3\n", "serve_worker"),
                        (re.sub(r"(?m)^limit_user\b.*", "limit_user = many", good),
                         "`limit_user` must be a number and a span of time")):
        assert text != good
        (home.root / "settings.ini").write_text(text)
        seen = len(home.log("error"))
        running.process.send_signal(signal.SIGHUP)
        assert until(lambda seen=seen: len(home.log("error")) > seen)
        told = home.log("error")[-1]["message"]
        assert "were not taken" in told and words in told, told
        assert running.ask("GET", "/v1/auth/me", x_api_key=secret)[0] == 200
    assert until(lambda: running.workers() == before)
    # also a worker that dies now comes back, with what held before
    os.kill(before[0], signal.SIGKILL)
    assert until(lambda: running.workers() and running.workers() != before)
    assert running.ask("GET", "/v1/auth/me", x_api_key=secret)[0] == 200    # the connection waited for it
    assert home.said(f"worker {before[0]} is gone: ended by SIGKILL")
    (home.root / "settings.ini").write_text(good)


class Fake:
    """A worker as its supervisor sees it, without a process."""

    def __init__(self, age=0, **more):
        self.age, self.ready, self.leaving, self.words, self.began, self.killed = (
            age, True, False, "", time.monotonic(), False)
        self.heard, self.deadline, self.process = self.began, None, self
        vars(self).update(more)

    def kill(self):
        self.killed = True

    def leave(self, linger):
        self.leaving = True


@pytest.fixture
def crew(home, monkeypatch):
    """A supervisor's workers, two of them wanted; those that are started are in `started`."""
    made = Crew(home.settings.model_copy(update={"serve_workers": 2}), None)
    made.started, made.begun = [], True

    def start(settings, age, taken, events):
        made.started.append(Fake(age, ready=False, settings=settings))
        return made.started[-1]
    monkeypatch.setattr(server, "WorkerProcess", start)
    return made


def test_a_worker_that_hangs_is_ended_and_one_that_takes_its_time_is_not(crew):
    long_ago = time.monotonic() - 100
    crew.workers = hangs, leaves, late = (Fake(heard=long_ago), Fake(heard=long_ago, leaving=True),
                                          Fake(ready=False, deadline=long_ago))
    crew.watch()
    assert (hangs.killed, leaves.killed, late.killed) == (True, False, True)
    assert "no sign of life" in hangs.words
    # it was the supervisor itself that did not run
    crew.workers, crew._looked = [Fake(heard=long_ago)], long_ago
    crew.watch()
    assert not crew.workers[0].killed


def test_new_settings_come_one_worker_at_a_time_and_the_old_ones_go_when_they_are_there(crew):
    crew.balance()
    assert [w.age for w in crew.workers] == [0, 0]
    for worker in crew.workers:
        crew.handle(worker, {"ready": 1})
    old, crew.trial = list(crew.workers), crew.settings
    crew.balance(), crew.balance()
    assert [w.age for w in crew.workers] == [0, 0, 1] and not any(w.leaving for w in old)
    crew.handle(crew.workers[2], {"ready": 1})
    crew.balance(), crew.balance()
    assert [w.leaving for w in old] == [True, False] and [w.age for w in crew.workers] == [0, 0, 1, 1]
    assert crew.trial is None
    crew.handle(crew.workers[3], {"ready": 1})
    crew.balance(), crew.balance()
    assert all(w.leaving for w in old) and len(crew.started) == 4


def test_workers_that_die_at_once_are_replaced_ever_more_slowly(crew, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    waits = []
    for _ in range(8):
        crew._failed(0, "it died", 0.0)
        waits.append(crew._next_start - now[0])
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    crew.balance()
    assert crew.workers == []                                               # not before its time has come
    now[0] += 31
    crew.balance()
    assert len(crew.workers) == 2
    crew.handle(crew.workers[0], {"ready": 1})
    crew._failed(0, "it died after a long life", 1000.0)
    assert crew._next_start == now[0]


# --- how it stops


def test_a_start_and_its_graceful_stop(home):
    home.set(serve_grace=20)
    with serving(home) as running:
        once = re.search(r"(?m)^    (\S+)$", running.text)[1]
        assert running.text.index(once) < running.text.index("Serving") and running.text.count(once) == 1
        status, _, told = running.ask("POST", "/v1/auth/password",
                                      {"username": "admin", "password": once, "new_password": PASSWORD})
        assert status == 200
        me = {"authorization": f"Bearer {told['access_token']}"}
        status, _, told = running.ask("GET", "/v1/signals?timeframe=1d", **me)
        assert status == 409 and "No champion serves" in told["detail"] and "mlfin run" in told["detail"]
        status, _, job = running.ask("POST", "/v1/ingest/run", {}, **me)
        assert status == 202 and until(lambda: Jobs(home.settings).get(job["id"]).state == "running")
        slow = Slow(running, "/v1/ingest", {"bars": [bar(i) for i in range(50)]}, **me)
        port = urlsplit(running.address).port
        time.sleep(0.3)
        running.process.send_signal(signal.SIGTERM)

        def refused():
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
            except ConnectionError:
                return True
        assert until(refused, 10) and running.process.poll() is None
        assert Jobs(home.settings).get(job["id"]).state == "running"
        status, _, body = slow.finish()
        assert status == 200 and json.loads(body)["stored"] == 50
        began = time.monotonic()
        assert running.process.wait(30) == 0 and time.monotonic() - began < 15
        lake = Lake(home.settings.store)
        assert len(lake.read(["EURUSD"], "1m", version=lake.version())) == 50 # folded, not only pushed
        assert once not in (home.root / ".mlfin" / "test" / "logs" / "access.log").read_text()
    home.set(serve_grace=600, body_seconds=600)
    # the port is free, and nobody is made an administrator twice
    with serving(home, "--port", str(port)) as again:
        assert once not in again.text and "password" not in again.text
        me, workers = again.log_in("admin"), again.workers()
        assert until(lambda: again.ask("GET", f"/v1/jobs/{job['id']}", **me)[2]["state"] == "done", 60, 0.3)
        # it went on without the service, and was not begun again
        assert Jobs(home.settings).get(job["id"]).attempt == 1
        slow = Slow(again, "/v1/ingest", {"bars": [bar(0)]}, **me)
        time.sleep(0.3)
        os.killpg(again.pid, signal.SIGINT)                                 # as a terminal does
        with pytest.raises(subprocess.TimeoutExpired):
            again.process.wait(1)
        began = time.monotonic()
        os.killpg(again.pid, signal.SIGINT)
        # the second Ctrl-C waits for nothing
        assert again.process.wait(20) == 130 and time.monotonic() - began < 5
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
        slow.line.close()


@pytest.mark.slow
def test_it_ends_when_grace_ends(home):
    home.set(serve_grace=1, body_seconds=600)
    secret = home.key("ann")
    with serving(home) as running:
        slow = Slow(running, "/v1/ingest", {"bars": [bar(0)]}, x_api_key=secret)
        time.sleep(0.3)
        began = time.monotonic()
        assert running.stop(signal.SIGTERM, 30) == 0 and time.monotonic() - began < 10
        slow.line.close()


# --- several workers


class Pair:
    """Two workers with a champion, and connections to the one or the other."""

    def __init__(self, home: Home, bars, running: Running):
        self.home, self.bars, self.running = home, bars, running

    @contextmanager
    def both(self):
        """A connection to each worker: while one of them is stopped, the other takes it."""
        one, other = self.running.workers()
        lines = []
        for stopped in (other, one):
            os.kill(stopped, signal.SIGSTOP)
            try:
                lines.append(self.running.connect())
                assert answer(lines[-1], "GET", "/health/live")[0] == 200
            finally:
                os.kill(stopped, signal.SIGCONT)
        try:
            yield lines
        finally:
            for line in lines:
                line.close()

    def count(self, name: str, **labels) -> float:
        """What `/metrics` says, over all series with these labels."""
        status, head, text = self.running.ask("GET", "/metrics", x_api_key=self.root)
        assert status == 200 and head["content-type"].startswith("text/plain; version=")
        found = [line for line in text.splitlines() if line.startswith(name + "{")
                 and all(f'{k}="{v}"' in line for k, v in labels.items())]
        return sum(float(line.rpartition(" ")[2]) for line in found)


@pytest.fixture(scope="module")
def pair(champion):
    from mlfin.warehouse.opening import open_store

    settings, bars = champion
    home = Home(settings.root)
    places = {k: getattr(settings, k) for k in ("store", "mlflow", "artifacts", "ledger")}
    home.set(limit_user="40/minute", limit_address="", limit_exempt="ann,root", **places)
    open_store(home.settings).write(bars)
    # who logs in twice at once
    secrets = {"ann": home.key("ann"), "few": home.key("few"),
               "root": home.key("root", "administrator", None)}
    with serving(home, "--workers", "2") as running:
        found = Pair(home, bars, running)
        found.ann, found.few, found.root = (secrets[name] for name in ("ann", "few", "root"))
        yield found


@pytest.mark.slow
def test_two_workers_answer_and_count_as_one(pair):
    before = pair.count("http_requests_total", route="/auth/me", status="200")
    with pair.both() as lines:
        for i, line in enumerate(lines * 25):
            assert (answer(line, "GET", "/v1/auth/me", x_api_key=pair.ann, x_request_id=f"{i % 2}-{i:08d}")[0]
                    == 200)

    def seen():
        return {(line["request_id"][0], line["pid"])
                for line in pair.home.log("access") if re.fullmatch(r"[01]-\d{8}", line["request_id"])}

    def counted():
        return pair.count("http_requests_total", route="/auth/me", status="200") - before
    # one connection, one worker
    assert until(lambda: seen() == set(zip("01", pair.running.workers(), strict=True)), 10)
    assert until(lambda: counted() == 50, 10)
    killed, other = pair.running.workers()
    os.kill(killed, signal.SIGKILL)
    assert until(lambda: len(pair.running.workers()) == 2 and killed not in pair.running.workers())
    assert other in pair.running.workers() and pair.home.said(f"worker {killed} is gone: ended by SIGKILL")
    # what the dead one counted is not lost
    assert counted() == 50
    assert until(lambda: _serve_both(pair))


def _serve_both(pair) -> bool:
    """Whether each worker answers while the other one cannot."""
    one, other = pair.running.workers()
    for stopped in (one, other):
        os.kill(stopped, signal.SIGSTOP)
        line = pair.running.connect(timeout=5)
        try:
            answer(line, "GET", "/health/live")
        except OSError:
            return False
        finally:
            os.kill(stopped, signal.SIGCONT)
            line.close()
    return True


def test_a_session_that_ends_on_one_worker_ends_on_the_other_within_a_second(pair):
    with pair.both() as (one, other):
        me = pair.running.log_in("ann", one)
        assert [answer(line, "GET", "/v1/auth/me", **me)[0] for line in (one, other)] == [200, 200]
        assert answer(one, "POST", "/v1/auth/logout", **me)[0] == 200
        assert answer(one, "GET", "/v1/auth/me", **me)[0] == 401
        until(lambda: answer(other, "GET", "/v1/auth/me", **me)[0] == 401, 1)
        assert answer(other, "GET", "/v1/auth/me", **me)[0] == 401


def test_a_role_that_changes_holds_on_both_within_a_second(pair):
    accounts, body = open_accounts(pair.home.settings), {"bars": [bar(0, "ROLE")]}
    try:
        with pair.both() as lines:
            def said():
                return [answer(line, "POST", "/v1/ingest", body, x_api_key=pair.ann)[0] for line in lines]
            assert said() == [200, 200]
            set_role(accounts, "ann", "read_only")
            try:
                until(lambda: said() == [403, 403], 1)
                assert said() == [403, 403]
            finally:
                set_role(accounts, "ann", "analyst")
            until(lambda: said() == [200, 200], 1)
            assert said() == [200, 200]
    finally:
        accounts.close()


def test_a_limit_is_one_for_both_workers(pair):
    with pair.both() as lines:
        found = [answer(lines[i % 2], "GET", "/v1/auth/me", x_api_key=pair.few) for i in range(60)]
        assert [s for s, _, _ in found].count(200) == 40                    # of both together, not of each
        assert {s for s, _, _ in found} == {200, 429}
        assert all(int(h["retry-after"]) >= 1 for s, h, _ in found if s == 429)
        assert answer(lines[0], "GET", "/v1/auth/me", x_api_key=pair.ann)[0] == 200


def test_failed_logins_are_counted_over_both_workers(pair):
    with pair.both() as lines:
        found = [answer(lines[i % 2], "POST", "/v1/auth/token", {"username": "few", "password": "wrong"})[0]
                 for i in range(8)]
        assert found[:5] == [401] * 5 and 429 in found[5:]
        assert answer(lines[0], "POST", "/v1/auth/token", {"username": "few", "password": PASSWORD})[0] == 429


def test_a_promotion_on_one_worker_is_served_by_both(pair):
    from mlfin.core.provenance import read_json, write_json
    from mlfin.registry.registry import register, write_verdict

    settings, symbol = pair.home.settings, pair.bars.symbol.iloc[0]

    def version(line):
        status, _, told = answer(line, "POST", "/v1/predict", {"experiment": "main", "symbol": symbol},
                                 x_api_key=pair.root)
        assert status == 200, told
        return told["predictions"][0]["version"]

    with pair.both() as (one, other):
        first = version(one)
        assert version(other) == first
        path = settings.data_dir("main") / "training.json"
        write_json({**read_json(path), "rows": 1001}, path)
        made = register(settings, "main")
        write_verdict(settings, made, "passed", "all is well", {"checks": []})
        body = {"experiment": "main", "force": "it is a test"}
        status, _, told = answer(one, "POST", f"/v1/models/{made.number}/promote", body, x_api_key=pair.root)
        assert status == 200 and told["promoted"], told
        assert version(one) == made.number != first
        until(lambda: version(other) == made.number, 10)
        assert version(other) == made.number


@pytest.mark.slow
def test_log_ins_and_jobs_of_both_workers_are_one_list(pair):
    before = pair.count("jobs_total", kind="ingest", state="succeeded")
    with pair.both() as lines:
        def work(n):
            me = [pair.running.log_in("root", lines[n]) for _ in range(3)][-1]
            status, _, job = answer(lines[n], "POST", "/v1/ingest/run", {"symbols": [("IBM", "AAPL")[n]]},
                                    x_api_key=pair.root)
            assert status == 202
            return me, job["id"]
        with ThreadPoolExecutor(2) as threads:
            (mine, one), (yours, other) = threads.map(work, (0, 1))
        assert ([answer(line, "GET", "/v1/auth/me", **me)[0] for line in lines for me in (mine, yours)]
                == [200] * 4)
        for line in lines:
            assert {one, other} <= {
                job["id"] for job in answer(line, "GET", "/v1/jobs", x_api_key=pair.root)[2]["items"]}
        assert until(
            lambda: all(answer(line, "GET", f"/v1/jobs/{id}", x_api_key=pair.root)[2]["state"] == "done"
                        for line in lines for id in (one, other)), 120, 0.3)
    assert [Jobs(pair.home.settings).get(id).attempt for id in (one, other)] == [1, 1]
    assert until(lambda: pair.count("jobs_total", kind="ingest", state="succeeded") - before == 2)


def test_bars_pushed_to_both_at_once_are_there_once(pair):
    before = pair.count("ingest_candles_total", timeframe="1m", outcome="inserted")
    with pair.both() as lines:
        def push(n):
            """Batches of ten, every other one also pushed by the other worker."""
            stored = []
            for i in range(40):
                if i % 2 == n or i % 4 == 0:
                    bars = [bar(10 * i + k, "BOTH", 1.1 + (10 * i + k) % 7 / 100) for k in range(10)]
                    status, _, told = answer(lines[n], "POST", "/v1/ingest", {"bars": bars, "source": "both"},
                                             x_api_key=pair.ann)
                    assert status == 200 and not told["refused"], told
                    stored.append(told["received"])
            return sum(stored)
        with ThreadPoolExecutor(2) as threads:
            sent = sum(threads.map(push, (0, 1)))
    assert sent == 500
    lake = Lake(pair.home.settings.store)
    assert until(lambda: lake.version() >= 0 and len(lake.read(["BOTH"], "1m")) == 400)
    found = lake.read(["BOTH"], "1m")
    assert found.ts.is_unique
    assert sorted(found.close.round(4).unique()) == [1.1, 1.11, 1.12, 1.13, 1.14, 1.15, 1.16]
    assert pair.count("ingest_candles_total", timeframe="1m", outcome="inserted") - before >= 400


def test_the_port_is_free_at_once_when_the_supervisor_is_killed_under_load(pair):
    """One worker at work, one that is just starting in the place of another, requests all the while: the next
    start takes the same port."""
    running, end = pair.running, threading.Event()
    staying, gone = running.workers()
    port = urlsplit(running.address).port

    def load():
        while not end.is_set():
            try: running.ask("GET", "/health/live")
            # nobody is there: the machine is for who is starting
            except (OSError, http.client.HTTPException): end.wait(0.02)

    os.kill(gone, signal.SIGKILL)
    starting = until(lambda: set(running.workers()) - {staying, gone})      # one without an application yet
    threads = [threading.Thread(target=load, daemon=True) for _ in range(3)]
    for thread in threads: thread.start()
    slow = Slow(running, "/v1/ingest", {"bars": [bar(0, "LAST")]}, x_api_key=pair.ann)
    time.sleep(0.3)
    running.process.kill()
    running.process.wait(10)
    began = time.monotonic()
    # though a request is still under way
    listening_socket("127.0.0.1", port).close()
    freed = time.monotonic() - began
    assert until(lambda: not any(_runs(pid) for pid in starting), 2), "who was still starting is gone at once"
    assert slow.finish()[0] == 200
    with serving(pair.home, "--port", str(port)) as other:
        end.set()
        for thread in threads: thread.join(20)
        assert urlsplit(other.address).port == port
        assert other.ask("GET", "/v1/auth/me", x_api_key=pair.ann)[0] == 200
    assert until(lambda: not _runs(staying), 20) and freed < 2.0
    print(f"the port was free {freed:.2f} s after kill -9")


def _runs(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try: return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError: return False


@pytest.mark.slow
def test_a_worker_that_hangs_keeps_the_port_from_nobody(home):
    """It is stopped, and cannot notice; the other worker shuts the socket for both."""
    with serving(home, "--workers", "2") as running:
        hanging, _ = running.workers()
        os.kill(hanging, signal.SIGSTOP)
        running.process.kill()
        running.process.wait(10)
        try: listening_socket("127.0.0.1", urlsplit(running.address).port).close()
        finally: os.kill(hanging, signal.SIGKILL)


# --- what the guide for services says


@pytest.fixture(scope="module")
def guide() -> list[str]:
    """The shell lines under "Serve", without what is said of them."""
    cells = json.loads((ROOT / "nbs/guides/for_services.ipynb").read_text(encoding="utf-8"))["cells"]
    guide = "\n" + "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    text = guide.partition("\n## Serve\n")[2].partition("\n## ")[0]
    return [line.partition("  #")[0].rstrip() for block in re.findall(r"```sh\n(.*?)```", text, re.S)
            for line in block.splitlines()]


@pytest.mark.slow
def test_what_the_guide_says_of_serving_works_as_written(guide, tmp_path, authority):
    """In a clone: a run, its model by force, the service, and the five lines of curl."""
    clone = tmp_path / "clone"
    for name in subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True,
                               check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            (clone / name).write_bytes((ROOT / name).read_bytes())
    home = Home(clone)
    environment = home.environment(PYTHONPATH=str(clone), MLFIN_PROFILE="development",
                                   PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")

    def shell(text):
        return subprocess.run(["bash", "-ec", text], cwd=clone, env=environment, capture_output=True,
                              text=True, timeout=900)

    assert (ran := shell("mlfin run")).returncode == 0, ran.stderr
    lines = [line for line in guide if line.startswith(("curl ", "TOKEN="))]
    commands = [line for line in guide if line.startswith("mlfin ")]
    promote, plain, public = commands
    assert promote.startswith("mlfin promote") and shell(promote).returncode == 0
    assert plain == "mlfin serve" and len(lines) == 5
    with serving(home, PYTHONPATH=str(clone), MLFIN_PROFILE="development") as running:
        once = re.search(r"(?m)^    (\S+)$", running.text)[1]
        at = urlsplit(running.address).netloc.replace("127.0.0.1", "localhost")
        lines = [line.replace("localhost:8000", at).replace("THE-ONE-SHOWN", once) for line in lines]
        done = shell("\n".join(line if line.startswith("TOKEN=") else f"{line}; echo" for line in lines))
        assert done.returncode == 0, done.stderr
        password, ingest, signals, predict = map(json.loads, done.stdout.split("\n")[:4])
    assert password["role"] == "administrator" and ingest == {"received": 1, "stored": 1, "refused": []}
    assert {s["symbol"]: s for s in signals["signals"]}["AAPL"]["ts"] == "2013-03-04T14:30:00Z"
    found = predict["predictions"][0]
    assert 0 < found["probability"] < 1 and found["interval"] and found["baseline"]
    assert found["close"] == 420.05 and not found["reason"]
    authority.issue(5, "chain")[1].rename(clone / "key.pem")
    (authority.folder / "chain.pem").rename(clone / "chain.pem")
    words = public.split()[2:]
    with serving(home, *words, context=authority.context(), PYTHONPATH=str(clone),
                 MLFIN_PROFILE="development") as running:
        port = urlsplit(running.address).port
        assert running.address == f"https://0.0.0.0:{port}" and len(running.workers()) == 2
        with (socket.create_connection(("127.0.0.1", port), 20) as line,
              running.context.wrap_socket(line, server_hostname="localhost") as found):
            assert found.version() == "TLSv1.3"


@pytest.mark.slow
def test_it_is_ready_within_ten_seconds(home):
    taken = []
    for _ in range(3):
        with serving(home) as running:
            taken.append(running.seconds)
            assert running.ask("GET", "/health/live")[0] == 200
            assert running.stop() == 0
    print(f"start to ready: {', '.join(f'{s:.1f}' for s in taken)} s")
    assert min(taken) <= 10
