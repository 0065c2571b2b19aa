"""Bodies of every size in every number of pieces, plain and through TLS; and who is refused early still reads
why."""
import asyncio
import hashlib
import json
import socket
import ssl
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest

pytest.importorskip("uvicorn")
import uvicorn  # noqa: E402

from mlfin.api.connection import Connection  # noqa: E402
from mlfin.api.guard import RequestGuard, Rules  # noqa: E402
from mlfin.accounts.roles import Person  # noqa: E402
from mlfin.api.tls import tls_context  # noqa: E402

MEGABYTE, HASTY = 2**20, "/v1/train" # a path whose bodies have 0.3 s
ME = Person("ann", "ann", "administrator", "s")


class Quick(Connection):
    drain_seconds = 2.0


async def measure(scope, receive, send):
    """What came, as length and hash; `/metrics` is slow."""
    if scope["path"].endswith("/metrics"): await asyncio.sleep(0.1)
    body = (await receive()).get("body", b"")
    told = f"{len(body)}:{hashlib.sha256(body).hexdigest()[:12]}".encode()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", str(len(told)).encode())]})
    await send({"type": "http.response.body", "body": told})


def wanted(body: bytes) -> bytes: return f"{len(body)}:{hashlib.sha256(body).hexdigest()[:12]}".encode()


def certificate(folder):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = (ec.generate_private_key(ec.SECP256R1()),
                 x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")]))
    now = datetime.now(UTC)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(7)
            .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=5))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]),
                           critical=False).sign(key, hashes.SHA256()))
    chain, private = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                          serialization.NoEncryption()))
    return chain, private


class Server:
    """uvicorn with our connection and our guard in a thread; `line` opens a connection to it."""
    def __init__(self, tls=None):
        patient, hasty = (
            RequestGuard(measure, Rules(lambda kind, secret: ME, max_bytes=4 * MEGABYTE, body_seconds=s))
            for s in (60.0, 0.3))

        async def app(scope, receive, send):
            await (hasty if scope["path"] == HASTY else patient)(scope, receive, send)
        more = {} if tls is None else dict(ssl_certfile=tls[0], ssl_keyfile=tls[1],
                                           ssl_context_factory=lambda config, usual: tls_context(*tls))
        config = uvicorn.Config(app, host="127.0.0.1", port=0, http=Quick, loop="uvloop", log_config=None,
                                lifespan="off", ws="none", **more)
        self.server, self.context = (uvicorn.Server(config),
                                     None if tls is None else ssl.create_default_context(cafile=tls[0]))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started: time.sleep(0.01)
        self.place = self.server.servers[0].sockets[0].getsockname()

    def line(self) -> socket.socket:
        line = socket.create_connection(self.place, timeout=30)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return line if self.context is None else self.context.wrap_socket(line, server_hostname="127.0.0.1")

    def all_of(self, line, count: int) -> list[tuple[int, bytes]]:
        """The answers until the connection ends; through TLS, where it ends only when it is closed here as
        well, so many."""
        return rest(line) if self.context is None else answers(line, count)

    def close(self):
        self.server.should_exit = True
        self.thread.join(20)


@pytest.fixture(scope="module", params=["plain", "tls"])
def server(request, tmp_path_factory):
    made = Server(certificate(tmp_path_factory.mktemp("tls")) if request.param == "tls" else None)
    yield made
    made.close()


def head(more: str = "", method: str = "POST", path: str = "/v1/ingest") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: a\r\nx-api-key: k\r\n{more}\r\n".encode()


def post(body: bytes, more: str = "") -> bytes: return head(f"content-length: {len(body)}\r\n{more}") + body


def answers(line, count: int = 1) -> list[tuple[int, bytes]]:
    """(status, body) of the next answers; fewer where the connection ends before."""
    found = []
    with line.makefile("rb") as back:
        while len(found) < count and (first := back.readline()):
            length = 0
            while (field := back.readline()) not in (b"\r\n", b""):
                if field.lower().startswith(b"content-length:"): length = int(field.split(b":")[1])
            found.append((int(first.split()[1]), back.read(length)))
    return found


def rest(line) -> list[tuple[int, bytes]]: return answers(line, 1000)


def pieces(data: bytes, size: int): return [data[i:i + size] for i in range(0, len(data), size)]


def body_of(size: int) -> bytes: return (b"0123456789abcdef" * (size // 16 + 1))[:size]


SIZES = (60_000, 65_535, 65_536, 65_537, 131_072, 200_001, 262_144, 262_145, 600_000, MEGABYTE, 4 * MEGABYTE)


# ---- bodies arrive

def test_bodies_of_every_size_arrive_in_one_piece_and_in_two(server):
    with server.line() as line:
        for size in SIZES:
            body = body_of(size)
            line.sendall(post(body))
            assert answers(line) == [(200, wanted(body))], size
            at = len(head(f"content-length: {size}\r\n"))
            for cut in (at - 1, at, at + 1, at + size // 2, at + size - 1):
                data = post(body)
                line.sendall(data[:cut])
                time.sleep(0.005)
                line.sendall(data[cut:])
                assert answers(line) == [(200, wanted(body))], (size, cut - at)


def test_bodies_arrive_byte_by_byte_and_in_chunks(server):
    with server.line() as line:
        for part in pieces(post(body_of(1_500)), 1): line.sendall(part)
        assert answers(line) == [(200, wanted(body_of(1_500)))]
        for size, step in ((66_000, 700), (300_000, 8_192), (MEGABYTE, 65_536)):
            for part in pieces(post(body_of(size)), step): line.sendall(part)
            assert answers(line) == [(200, wanted(body_of(size)))], size


@pytest.mark.parametrize("step", [1, 1_000, 65_536, 300_000])
def test_chunked_bodies_arrive(server, step):
    body = body_of(3_000 if step == 1 else 600_000)
    sent = (head("transfer-encoding: chunked\r\n")
            + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces(body, step)) + b"0\r\n\r\n")
    with server.line() as line:
        for size in (len(sent), len(sent) // 2 + 1, 40_000):
            for part in pieces(sent, size): line.sendall(part)
            assert answers(line) == [(200, wanted(body))], size


def test_what_follows_a_body_at_once_is_the_next_request(server):
    """Pipelined: a read that ends a body may hold the next head, or half of it."""
    one, other, small = body_of(MEGABYTE), body_of(70_001), b"{}"
    sent = post(one) + post(other) + post(small) + head("", "GET", "/v1/models") + post(one)
    want = [(200, wanted(b)) for b in (one, other, small, b"", one)]
    for size in (len(sent), 65_536, 100_003, 262_144, len(post(one)) + 20):
        with server.line() as line:
            for part in pieces(sent, size): line.sendall(part)
            assert answers(line, len(want)) == want, size


def test_a_head_that_begins_behind_a_body_is_limited_all_the_same(server):
    """No head is larger than the limit for having begun in the read in which a body ended; one that never
    ends is cut off."""
    for begun in (10, 60_000):
        large = head(f"x: {'y' * 70_000}\r\n", "GET", "/v1/models")
        with server.line() as line:
            line.sendall(post(body_of(100_000)) + large[:begun])
            time.sleep(0.05)
            line.sendall(large[begun:])
            assert [s for s, _ in server.all_of(line, 2)] == [200, 431]
        with server.line() as line:
            line.sendall(post(body_of(100_000)) + large)
            assert [s for s, _ in server.all_of(line, 2)] == [200, 431]
    with server.line() as line:
        line.sendall(post(body_of(100_000)) + head()[:-2])
        for _ in range(6): line.sendall(b"x: " + b"y" * 65_000 + b"\r\n")
        assert [s for s, _ in server.all_of(line, 2)] == [200, 431]


def test_an_upgrade_that_is_not_known_is_no_end(server):
    """What comes behind a request that asks for another protocol is a request like others; with a body it is
    refused, as the parser takes no body then."""
    asks = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"
    with server.line() as line:
        line.sendall(post(b"[1]", asks))
        told = server.all_of(line, 1)
        assert [s for s, _ in told] == [400] and "HTTP_1_1" in told[0][1].decode()
    with server.line() as line:
        line.sendall(head(asks, "GET", "/v1/models") + head("", "GET", "/v1/models") + post(b"[2]"))
        assert answers(line, 3) == [(200, wanted(b"")), (200, wanted(b"")), (200, wanted(b"[2]"))]


# ---- who is refused reads why

def large_chunks(count: int = 80) -> bytes:
    return (head("transfer-encoding: chunked\r\n") + (b"10000\r\n" + b"x" * 65_536 + b"\r\n")
            * count + b"0\r\n\r\n")


EARLY = {
    "announced above the limit": (head("content-length: 5000000\r\n") + b"x" * 5_000_000, 413),
    "chunks above the limit": (large_chunks(), 413),
    "announced far above the limit": (head("content-length: 400000000\r\n") + b"x" * 4 * MEGABYTE, 413),
    "a head without end": (head()[:-2] + b"x: " + b"y" * 4 * MEGABYTE, 431),
    "a head that is too large": (head(f"x: {'y' * 70_000}\r\n") + b"z" * 4 * MEGABYTE, 431),
    "a bad chunk": (head("transfer-encoding: chunked\r\n") + b"zz\r\n" + b"x" * 4 * MEGABYTE, 400),
    "a bad chunk behind a good one": (head("transfer-encoding: chunked\r\n") + b"3\r\nabc\r\n3\r\nabcdef\r\n"
                                      + b"x" * 4 * MEGABYTE, 400),
    "a transfer encoding that is none": (head("transfer-encoding: bogus\r\n") + b"x" * 4 * MEGABYTE, 400),
    "a transfer encoding that is not last": (head("transfer-encoding: chunked, gzip\r\n") + b"x" * 1000, 400),
    "a transfer encoding that is not known": (head("transfer-encoding: gzip, chunked\r\n")
                                              + b"1\r\nx\r\n0\r\n\r\n", 400),
    "a length that is no number": (head("content-length: 4x\r\n") + b"x" * 4 * MEGABYTE, 400),
    "a length below nothing": (head("content-length: -1\r\n") + b"x" * 4 * MEGABYTE, 400),
    "two lengths": (head("content-length: 3\r\ncontent-length: 4\r\n") + b"x" * 4 * MEGABYTE, 400),
    "a length and chunks": (head("content-length: 3\r\ntransfer-encoding: chunked\r\n") + b"x" * 4 * MEGABYTE,
                            400),
    "no HTTP": (b"\x00" * 4 * MEGABYTE, 400)}


@pytest.mark.parametrize("case", EARLY)
def test_who_sends_first_and_reads_afterwards_is_told_why(server, case):
    sent, status = EARLY[case]
    with server.line() as line:
        line.sendall(sent)
        time.sleep(0.02)
        told = server.all_of(line, 1)
    assert [s for s, _ in told] == [status] and json.loads(told[0][1])["status"] == status, told
    # and so behind requests that are answered first
    with server.line() as line:
        line.sendall(head("", "GET", "/v1/metrics") + head("", "GET", "/v1/models") + sent)
        assert [s for s, _ in server.all_of(line, 3)] == [200, 200, status]


def test_who_is_too_slow_is_told(server, monkeypatch):
    monkeypatch.setattr(Quick, "head_seconds", 0.3)
    slow = (head("content-length: 100\r\n", path=HASTY) + b"x",
            head("transfer-encoding: chunked\r\n", path=HASTY) + b"5\r\nab", head()[:-2], b"POST ")
    with ExitStack() as held:
        lines = [held.enter_context(server.line()) for _ in slow]
        for line, sent in zip(lines, slow, strict=True): line.sendall(sent)
        for line, sent in zip(lines, slow, strict=True):
            assert [s for s, _ in server.all_of(line, 1)] == [408], sent


def test_who_stops_sending_too_early_is_told(server):
    """TLS has no half-closed connections: there who closes reads nothing any more."""
    if server.context is not None: pytest.skip("TLS: a client that closes does not read")
    slow = head("", "GET", "/v1/metrics")
    for sent, status in ((head("content-length: 100\r\n") + b"x", [400]),
                         (head("transfer-encoding: chunked\r\n") + b"5\r\nab", [400]), (head()[:-2], [400]),
                         (head("content-length: 5000000\r\n"), [413]), (slow, [200]),
                         (slow + slow, [200, 200]),
                         (slow + head("content-length: 100\r\n") + b"x", [200, 400]), (b"", [])):
        with server.line() as line:
            line.sendall(sent)
            line.shutdown(socket.SHUT_WR)
            assert [s for s, _ in rest(line)] == status, sent


def test_too_many_requests_sent_ahead_are_answered_up_to_the_last_that_is_taken(server, monkeypatch):
    monkeypatch.setattr(Quick, "drain_seconds", 0.5)
    one = head("", "GET", "/v1/models")
    with server.line() as line:
        line.sendall(head("", "GET", "/v1/metrics") + one * 500)
        told = [s for s, _ in rest(line)]
    assert told[:65] == [200] * 65 and told[-1] == 429 and set(told) == {200, 429} and told.count(429) == 1


def test_what_is_thrown_away_has_an_end(server, monkeypatch):
    """After the answer: so many seconds, whatever the client still sends."""
    monkeypatch.setattr(Quick, "drain_seconds", 0.5)
    with server.line() as line:
        line.sendall(head("content-length: 4000000000\r\n"))
        began, sent = time.monotonic(), 0
        try:
            while time.monotonic() - began < 15:
                sent += line.send(b"x" * 1000)
                time.sleep(0.01)
        except OSError: sent = -sent
        assert sent < 0 and time.monotonic() - began < 10
