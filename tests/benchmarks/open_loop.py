"""A client that sends at the times it was told to, whether answers come or not, and counts each latency from the time it was told."""
import asyncio
import json
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass

import numpy as np


@dataclass
class Load:
    """What came of one rate."""
    rate: float        # requests a second that were asked for
    achieved: float    # answers a second
    p50: float         # ms from the time a request was due to the end of its answer
    p90: float
    p99: float
    worst: float
    errors: int        # answers other than 2xx, broken connections, and requests that had no answer at the end
    statuses: dict

    def kept_up(self, limit_ms: float = 250.0) -> bool:
        """Whether the server answered as fast as it was asked, all of it, and nearly all of it soon."""
        return self.errors == 0 and self.achieved >= 0.97 * self.rate and self.p99 <= limit_ms


class _Connection(asyncio.Protocol):
    """One keep-alive connection: a request at a time, the next ones wait in line."""
    def __init__(self, times: list, statuses: Counter):
        self.times, self.statuses, self.line, self.due, self.data, self.lost = times, statuses, deque(), None, b"", False

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        self.lost = True

    def ask(self, due: float, request: bytes) -> None:
        if self.lost:
            self.statuses["lost"] += 1
        elif self.due is None:
            self.due = due
            self.transport.write(request)
        else:
            self.line.append((due, request))

    def data_received(self, data: bytes) -> None:
        self.data = self.data + data if self.data else data
        head = self.data.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self.data.lower().find(b"content-length:", 0, head)
        size = int(self.data[at + 15:self.data.find(b"\r\n", at)])
        if len(self.data) < head + 4 + size:
            return
        self.statuses[self.data[9:12].decode()] += 1
        self.times.append(time.perf_counter() - self.due)
        self.data, self.due = self.data[head + 4 + size:], None
        if self.line:
            self.ask(*self.line.popleft())


async def _send(host: str, port: int, requests: list[bytes], rate: float, seconds: float, connections: int) -> Load:
    times, statuses, loop = [], Counter(), asyncio.get_running_loop()
    lines = [(await loop.create_connection(lambda: _Connection(times, statuses), host, port))[1] for _ in range(connections)]
    begin, total = time.perf_counter() + 0.1, int(rate * seconds)
    sent = 0
    while sent < total:
        due_now = min(int((time.perf_counter() - begin) * rate) + 1, total) if time.perf_counter() >= begin else 0
        while sent < due_now:
            lines[sent % connections].ask(begin + sent / rate, requests[sent % len(requests)])
            sent += 1
        await asyncio.sleep(max(begin + sent / rate - time.perf_counter(), 0.0005))
    end = time.perf_counter() + 5.0
    while len(times) + statuses["lost"] < total and time.perf_counter() < end:
        await asyncio.sleep(0.01)
    took = time.perf_counter() - begin
    for line in lines:
        line.transport.close()
    good = sum(n for status, n in statuses.items() if status.startswith("2"))
    p50, p90, p99, worst = np.percentile(times, [50, 90, 99, 100]) * 1e3 if times else [float("inf")] * 4
    return Load(rate, len(times) / max(took, seconds), p50, p90, p99, worst, total - good, dict(statuses))


def load(host: str, port: int, requests: list[bytes], rate: float, seconds: float, connections: int) -> Load:
    """Send `rate` requests a second for some seconds over some connections, in turn."""
    import uvloop

    return uvloop.run(_send(host, port, requests, rate, seconds, connections))


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """One HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def highest(host: str, port: int, requests: list[bytes], connections: int, seconds: float = 3.0, first: float = 200.0) -> tuple[Load, list[Load]]:
    """The highest rate that a server keeps up with, to 5 %, and everything that was tried."""
    tried, low, high = [], None, None
    rate = first
    while high is None or high / low.rate > 1.05:
        found = load(host, port, requests, rate, seconds, connections)
        tried.append(found)
        if found.kept_up():
            low = found
            rate = rate * 1.5 if high is None else (rate * high) ** 0.5
        else:
            high = rate
            if low is None:
                if rate < 10:
                    return found, tried
                rate, high = rate / 4, None
                continue
            rate = (low.rate * high) ** 0.5
        time.sleep(0.3)
    return low, tried


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    requests = [r.encode() for r in given["requests"]]
    print(json.dumps(asdict(load(given["host"], given["port"], requests, given["rate"], given["seconds"], given["connections"]))))
