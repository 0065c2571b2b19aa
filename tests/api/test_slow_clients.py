"""Clients that send slowly, not at all, too much, or do not read: they lose their connection, and everybody
else is answered."""
import select
import socket
import threading
import time
from contextlib import ExitStack

import pytest

from ..fixtures.served import Served, bar, key_of, project

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
FILES = 320  # that the server may open: 192 connections
HEAD = 3.0  # seconds that a head may take there


def test_a_head_has_ten_seconds_unless_a_test_says_otherwise():
    from mlfin.api.connection import Connection

    assert Connection.head_seconds == 10.0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slow")
    settings, environment = project(folder, body_seconds="1")
    served = Served(folder, environment, files=FILES,
                    waits={"mlfin.api.connection:Connection.head_seconds": HEAD})
    served.key = key_of(settings)
    with served: yield served


def line_to(server, sent: bytes = b"") -> socket.socket:
    line = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    line.sendall(sent)
    return line


def rest(line) -> bytes:
    """What comes until the server closes."""
    found = b""
    try:
        while part := line.recv(65_536): found += part
    except ConnectionResetError: pass
    line.close()
    return found


def head(server, method="POST", path="/v1/ingest", **more) -> bytes:
    given = {"host": "a", "x-api-key": server.key} | more
    return (f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k.replace('_', '-')}: {v}\r\n"
                                                      for k, v in given.items())).encode()


class Others(threading.Thread):
    """Somebody who asks all the while, over one connection after the other, and how long it took."""
    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.end, self.seconds, self.wrong = server, threading.Event(), [], []

    def run(self):
        minute = 0
        while not self.end.is_set():
            began = time.monotonic()
            try:
                told = [self.server.ask("GET", "/health/live", timeout=30)[0],
                        self.server.ask("POST", "/v1/ingest", {"bars": [bar("OTHERS", minute)]},
                                        self.server.key, timeout=30)[0]]
                if told != [200, 200]: self.wrong.append(told)
            except OSError as e: self.wrong.append(repr(e))
            self.seconds.append(time.monotonic() - began)
            minute += 1
            time.sleep(0.02)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *why):
        self.end.set()
        self.join(60)
        assert self.seconds and not self.wrong, self.wrong[:3]


def test_what_never_ends_is_cut_off_and_others_are_answered(server):
    """Heads that get one more line now and then, and bodies of requests that were refused before: neither
    buys time."""
    with Others(server) as others, ExitStack() as held:
        lines = [held.enter_context(line_to(server, b"GET / HTTP/1.1\r\nhost: a\r\n")) for _ in range(100)]
        refused = [held.enter_context(line_to(server, b"POST /v1/ingest HTTP/1.1\r\nhost: a\r\n"
                                                      b"content-length: 1000000\r\n\r\n")) for _ in range(10)]
        # no key: answered before the body
        assert all(line.recv(4096).startswith(b"HTTP/1.1 401 ") for line in refused)
        began, answers = time.monotonic(), {}
        while len(answers) < 110 and time.monotonic() - began < 60:
            for n, line in enumerate([*lines, *refused]):
                if n in answers: continue
                line.settimeout(0.001)
                try:
                    line.send(b"x: y\r\n")
                    answers[n] = line.recv(4096)
                except TimeoutError: continue
                except OSError: answers[n] = b""
            time.sleep(0.2)
        assert HEAD - 1 <= time.monotonic() - began <= 40 and len(answers) == 110
        told = [answers[n] for n in range(100) if answers[n]]
        assert told and all(a.startswith(b"HTTP/1.1 408 ") and b"within 3 s" in a for a in told), told[:2]
    assert len(others.seconds) >= 8


def test_more_connections_than_the_server_has_room_for(server, capsys):
    with Others(server) as others, ExitStack() as held:
        for _ in range(600):
            try: held.enter_context(line_to(server, b"POST /v1/ingest HTTP/1.1\r\n"))
            except OSError: continue
        while len(others.seconds) < 20: time.sleep(0.05)
        log = server.log.read_text()
    assert "Too many open files" not in log and "EMFILE" not in log
    with capsys.disabled():
        print(f"\n600 half-open connections where {FILES} files may be open: {len(others.seconds)} pairs of "
              f"requests of others answered, "
              f"the slowest after {max(others.seconds):.2f} s, none failed", end=" ")


def test_a_body_that_comes_slowly_is_a_408(server):
    with Others(server), line_to(server, head(server, content_length=1000) + b"\r\n{") as line:
        for _ in range(30):
            if select.select([line], [], [], 0.1)[0]: break
            line.sendall(b" ")
        told = rest(line)
    assert told.startswith(b"HTTP/1.1 408 ") and b"did not arrive within 1 s" in told
    assert b"connection: close" in told


@pytest.mark.parametrize("sent, status", [
    (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 431), (b"GET / HTTP/1.1\r\nx: " + b"y" * 200_000, 431),
    (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000 + b"\r\n", 431),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400), (b"GET / HTTP/9.9\r\n\r\n", 400),
    (b"NONSENSE\r\n\r\n", 400), (b"GET http://[ HTTP/1.1\r\n\r\n", 400),
    (b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc", 400),
    (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\nhost: a\r\n\r\nGET\x00 / HTTP/1.1\r\n\r\n", 400),
    (b"GET /\xff\xfe HTTP/1.1\r\n\r\n", 400)], ids=range(14))
def test_what_is_no_request_is_said_to_be_none(server, sent, status):
    told = rest(line_to(server, sent))
    # a client that is still sending may see a reset
    assert told[:13] in (f"HTTP/1.1 {status} ".encode(), b""), told[:200]
    assert b"Traceback" not in told and (not told or b"application/problem+json" in told)
    assert server.ask("GET", "/health/live")[0] == 200


def test_requests_sent_ahead_are_answered_in_order_and_their_number_has_an_end(server):
    one = head(server, "GET", "/v1/auth/me") + b"\r\n"
    live = b"GET /health/live HTTP/1.1\r\nhost: a\r\n"
    told = rest(line_to(server, one * 20 + live + b"connection: close\r\n\r\n"))
    assert told.count(b"HTTP/1.1 200 ") == 21 and told.endswith(b'{"status":"ok"}')
    with Others(server), line_to(server) as line:
        line.settimeout(10)
        sent, began = 0, time.monotonic()
        try:
            while time.monotonic() - began < 30: sent += line.send((live + b"\r\n") * 5_000)
        except OSError: sent = -sent  # it was cut off, or nobody takes any more
        assert sent < 0


def test_who_does_not_read_is_let_go(server):
    """Answers of 100 KB and more that nobody reads: few of them are made, and the others do not wait."""
    with Others(server) as others, ExitStack() as held:
        for _ in range(6):
            line = socket.socket()
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.connect(("127.0.0.1", server.port))
            held.enter_context(line)
            line.sendall((b"GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n") * 50)
        while len(others.seconds) < 20: time.sleep(0.05)
