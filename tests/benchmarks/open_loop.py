"""A client that sends at the times it was told to, whether answers come or not, and counts each latency from
the time it was told.

It shares the processors with what it asks, so it is cheap: one thread, plain sockets, a look at the clock for
each request.
"""
import gc
import re
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

SUSTAINED, LIMIT = (
    0.99,
    100.0,
)  # of the requests that must be answered well; ms that 99 of 100 of them may take
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


@dataclass
class Load:
    """What came of one rate."""
    rate: float        # requests a second that were asked for
    asked: int         # requests
    achieved: float    # answers a second
    p50: float         # ms from the time a request was due to the end of its answer
    p90: float
    p99: float         # infinite where fewer than so many were answered
    worst: float
    errors: int  # answers other than 2xx, broken connections, and requests that had no answer at the end
    statuses: dict
    late: float  # ms that 99 of 100 requests were sent after they were due: what the client adds by itself
    cpu: float         # us of processor time that the client took for a request

    def sustained(self) -> bool:
        """Whether nearly every request was answered without error, and soon."""
        return self.errors <= (1 - SUSTAINED) * self.asked and self.p99 <= LIMIT

    def why(self) -> str:
        """How a rate broke."""
        return (
            f"p99 {self.p99:,.0f} ms"
            if self.p99 > LIMIT
            else f"{self.errors} of {self.asked} without an answer"
            if not self.sustained()
            else ""
        )


class _Line:
    """One keep-alive connection: a request at a time, the next ones wait."""
    __slots__ = ("socket", "waiting", "due", "data")

    def __init__(self, host: str, port: int):
        self.socket, self.waiting, self.due, self.data = (
            socket.create_connection((host, port), timeout=10),
            deque(),
            0.0,
            b"",
        )
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)

    def send(self, due: float, request: bytes) -> None:
        self.due = due
        sent = self.socket.send(request)
        if sent < len(request): # a large body: the rest as the server takes it
            self.socket.setblocking(True)
            self.socket.sendall(request[sent:])
            self.socket.setblocking(False)

    def answer(self) -> bytes | None:
        """The status of the answer, once all of it is here; an OSError where the server hung up."""
        got = self.socket.recv(65536)
        if not got: raise ConnectionResetError
        self.data = data = self.data + got if self.data else got
        head = data.find(b"\r\n\r\n")
        if head < 0 or len(data) < head + 4 + int(_LENGTH.search(data, 0, head + 2)[1]): return None
        self.data = b""
        return data[9:12]


class _Client:
    """The connections of one load and what they were told."""
    def __init__(self, host: str, port: int, requests: list[bytes], connections: int):
        self.requests, self.lines = requests, [_Line(host, port) for _ in range(connections)]
        self.by_number, self.epoll = {line.socket.fileno(): line for line in self.lines}, select.epoll()
        for number in self.by_number: self.epoll.register(number, select.EPOLLIN)
        self.times, self.late, self.statuses, self.lost = [], [], Counter(), 0

    def ask(self, n: int, due: float) -> None:
        """Send the n-th request, or let it wait until its connection is free."""
        line, request = self.lines[n % len(self.lines)], self.requests[n % len(self.requests)]
        if line.due: line.waiting.append((due, request))
        else: self._send(line, due, request)

    def _send(self, line: _Line, due: float, request: bytes) -> None:
        try: line.send(due, request)
        except OSError: self._lose(line)

    def _lose(self, line: _Line) -> None:
        self.lost += 1 + len(line.waiting)
        line.waiting.clear()
        line.due = 0.0

    def take(self, seconds: float) -> None:
        """Wait so long for answers, and take those that came; epoll alone waits in whole milliseconds."""
        if seconds > 0: select.select([self.epoll], [], [], seconds)
        for number, _ in self.epoll.poll(0):
            line = self.by_number[number]
            try: status = line.answer()
            except OSError:
                self.epoll.unregister(number)
                if line.due: self._lose(line)
                continue
            if status is None: continue
            self.statuses[status] += 1
            self.times.append(time.perf_counter() - line.due)
            line.due = 0.0
            if line.waiting: self._send(line, *line.waiting.popleft())

    def close(self) -> None:
        self.epoll.close()
        for line in self.lines: line.socket.close()


def _drive(client: _Client, rate: float, total: int, patience: float) -> float:
    """Send at the times that a rate says; the seconds until the last answer."""
    begin, sent = time.perf_counter() + 0.05, 0
    end = begin + total / rate + patience
    while (now := time.perf_counter()) < end and (sent < total or len(client.times) + client.lost < total):
        while sent < total and (due := begin + sent / rate) <= now:
            client.late.append(now - due)
            client.ask(sent, due)
            sent += 1
            if not sent % 32: client.take(0)
        client.take(min((begin + sent / rate if sent < total else end) - time.perf_counter(), 0.05))
    return time.perf_counter() - begin


def load(
    host: str,
    port: int,
    requests: list[bytes],
    rate: float,
    seconds: float,
    connections: int,
    patience: float = 1.0,
) -> Load:
    """Send `rate` requests a second for some seconds over some connections, in turn; who has no answer by
    then has none."""
    client, total = _Client(host, port, requests, connections), max(int(rate * seconds), 1)
    gc.collect()
    gc.disable()
    used = time.process_time()
    try: took = _drive(client, rate, total, patience)
    finally:
        used = time.process_time() - used
        gc.enable()
        client.close()
    good = sum(n for status, n in client.statuses.items() if status.startswith(b"2"))
    times = np.sort(np.array(client.times + [np.inf] * (total - len(client.times)))) * 1e3
    at = [float(times[min(int(np.ceil(q * total)), total) - 1]) for q in (0.5, 0.9, 0.99, 1.0)]
    return Load(
        rate,
        total,
        len(client.times) / took,
        *at,
        total - good,
        {k.decode(): n for k, n in client.statuses.items()},
        float(np.percentile(client.late, 99)) * 1e3 if client.late else float("inf"),
        used / total * 1e6,
    )


def capacity(host: str, port: int, requests: list[bytes], connections: int, count: int) -> float:
    """Answers a second where every connection asks again at once: about where the highest rate is to be
    looked for."""
    return load(host, port, requests, 1e9, count / 1e9, connections, patience=60.0).achieved


class Search:
    """The highest rate that is sustained: up or down by tenths until it lies between two rates, then
    halved."""
    def __init__(self, first: float, close: float = 1.04):
        self.rate, self.close, self.low, self.high, self.tried = first, close, None, None, []

    def told(self, found: Load) -> None:
        """Take in what came of `rate`, and choose the next one."""
        self.tried.append(found)
        if found.sustained(): self.low = found
        else: self.high = found
        if self.high is None: self.rate *= 1.1
        elif self.low is None: self.rate /= 1.1
        else: self.rate = (self.low.rate * self.high.rate) ** 0.5

    @property
    def done(self) -> bool:
        return (
            self.low is not None
            and self.high is not None
            and self.high.rate / self.low.rate <= self.close
            or self.rate < 1
            or len(self.tried) >= 25
        )


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """One HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def searches(servers: dict, connections: int, seconds: float, count: int) -> dict[str, Search]:
    """The highest rates of several servers, name -> (port, requests), tried in turn so that each meets the
    same machine."""
    found = {
        name: Search(0.9 * capacity("127.0.0.1", port, asked, connections, count))
        for name, (port, asked) in servers.items()
    }
    while any(not s.done for s in found.values()):
        for name, (port, asked) in servers.items():
            if found[name].done: continue
            found[name].told(load("127.0.0.1", port, asked, found[name].rate, seconds, connections))
            time.sleep(0.2)
    return found


def in_turn(
    servers: dict, rate: float, seconds: float, connections: int, times: int
) -> Iterator[dict[str, Load]]:
    """What comes of one rate, several times, each server after the other."""
    for _ in range(times):
        yield {
            name: load("127.0.0.1", port, asked, rate, seconds, connections)
            for name, (port, asked) in servers.items()
        }
