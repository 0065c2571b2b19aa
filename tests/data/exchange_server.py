"""Servers on this machine that speak Binance's klines, Yahoo's charts, or any JSON, and fail on demand."""
import json
import socket
import struct
import threading
import time
from email.utils import formatdate
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pandas as pd

STEPS = {"1m": 60_000, "5m": 300_000, "15m": 900_000, "1h": 3_600_000, "1d": 86_400_000, "1w": 604_800_000}
START = 1_704_067_200_000  # 2024-01-01, a Monday


def walk(n, start=START, interval="1m", seed=0):
    """Seeded klines in Binance's form: twelve values, prices and volumes as text."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.001, n)))
    open_ = np.r_[100.0, close[:-1]]
    frame = pd.DataFrame({
        "ts": start + STEPS[interval] * np.arange(n), "open": open_, "high": np.maximum(open_, close) * 1.0004,
        "low": np.minimum(open_, close) * 0.9996, "close": close, "volume": rng.gamma(2, 3, n)})
    return klines(frame, interval)


def klines(frame, interval="1m"):
    """Klines of a frame: ts in milliseconds, numbers as the shortest text that gives them back."""
    step = STEPS[interval]
    rows = frame[["ts", "open", "high", "low", "close", "volume"]].itertuples(index=False, name=None)
    return [[int(t), repr(o), repr(h), repr(lo), repr(c), repr(v), int(t) + step - 1, "1.0", i % 90, "0", "0", "0"]
            for i, (t, o, h, lo, c, v) in enumerate(rows)]


def longer(rows, interval):
    """Klines of a longer interval."""
    step, found = STEPS[interval], {}
    for t, o, h, lo, c, v, *_ in rows:
        at = t - (t - START) % step
        if at not in found:
            found[at] = [at, o, h, lo, c, v, at + step - 1, "1.0", 1, "0", "0", "0"]
        else:
            have = found[at]
            have[2], have[3], have[4] = max(have[2], h, key=float), min(have[3], lo, key=float), c
            have[5] = repr(float(have[5]) + float(v))
    return [found[at] for at in sorted(found)]


class Server:
    """A server of its own thread. `faults` says what goes wrong: {number of the question (from 1): name or function}."""

    def __init__(self, faults=None, ahead=0.0):
        self.faults, self.ahead = dict(faults or {}), ahead
        self.asked, self.number, self.go = [], 0, threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # headers and body are two packets: the second one would wait 40 ms for the word that the first came

            def do_GET(self):
                outer.answer(self)

            def do_POST(self):
                outer.answer(self)

            def date_time_string(self, timestamp=None):
                return formatdate(time.time() + outer.ahead, usegmt=True)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.go.set()
        self.http.shutdown()
        self.http.server_close()

    def body(self, path, asked):
        """Status and what is said; a question that counts for `faults` returns a third value, True."""
        raise NotImplementedError

    def answer(self, handler):
        parts = urlsplit(handler.path)
        asked = {k: v[0] for k, v in parse_qs(parts.query).items()}
        self.asked.append((unquote(parts.path), asked, dict(handler.headers)))
        status, said, *counts = self.body(unquote(parts.path), asked)
        fault = None
        if counts:
            self.number += 1
            fault = self.faults.get(self.number, self.faults.get("always"))
        if callable(fault):
            said = fault(said)
        elif fault is not None:
            return getattr(self, "fault_" + fault.replace("-", "_"))(handler, said)
        self.send(handler, status, json.dumps(said).encode())

    def send(self, handler, status, data, length=None, **headers):
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        with suppress(ConnectionError):  # a client that went away: a traceback of this thread would stand in what another test prints
            handler.wfile.write(data)
            handler.wfile.flush()

    def fault_429(self, handler, said):
        self.send(handler, 429, b'{"code":-1003,"msg":"Too many requests."}', Retry_After="1")

    def fault_429_date(self, handler, said):
        self.send(handler, 429, b"", Retry_After=formatdate(time.time() + self.ahead + 3, usegmt=True))

    def fault_418(self, handler, said):
        self.send(handler, 418, b'{"code":-1003,"msg":"IP banned."}', Retry_After="2")

    def fault_418_long(self, handler, said):
        self.send(handler, 418, b'{"code":-1003,"msg":"IP banned."}', Retry_After="86400")

    def fault_500(self, handler, said):
        self.send(handler, 500, b"<html><h1>Internal error</h1></html>")

    def fault_503(self, handler, said):
        self.send(handler, 503, b"")

    def fault_451(self, handler, said):
        self.send(handler, 451, b'{"code":0,"msg":"Service unavailable from a restricted location"}')

    def fault_html(self, handler, said):
        self.send(handler, 200, b"<!doctype html><title>Just a moment...</title><body>Checking your browser</body>")

    def fault_cut(self, handler, said):
        data = json.dumps(said).encode()
        self.send(handler, 200, data[: len(data) // 2])

    def fault_broken(self, handler, said):
        data = json.dumps(said).encode()
        self.send(handler, 200, data[: len(data) // 2], length=len(data))
        handler.close_connection = True

    def fault_reset(self, handler, said):
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.close_connection = True
        handler.wfile.close()
        handler.rfile.close()
        handler.connection.close()

    def fault_hang(self, handler, said):
        self.go.wait(10)
        handler.close_connection = True

    def fault_drip(self, handler, said):
        self.send(handler, 200, b"[", length=1000)
        for _ in range(60):
            if self.go.wait(0.1):
                break
            try:
                handler.wfile.write(b" ")
            except OSError:
                break
        handler.close_connection = True

    def fault_empty(self, handler, said):
        self.send(handler, 200, b"[]")

    def fault_away(self, handler, said):
        self.send(handler, 302, b"", Location="http://elsewhere.invalid/login")

    def fault_circle(self, handler, said):
        self.send(handler, 302, b"", Location=handler.path)

    def fault_chunked(self, handler, said):
        data = json.dumps(said).encode()
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for i in range(0, len(data), 1000):
            piece = data[i : i + 1000]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n")


class Binance(Server):
    """`/api/v3` and `/fapi/v1` of Binance for one symbol, BTCUSDT; only questions for klines of `interval` count for `faults`."""

    def __init__(self, rows, interval="1m", faults=None, ahead=0.0, windowed=False):
        self.rows, self.interval, self.windowed = rows, interval, windowed
        super().__init__(faults, ahead)

    def body(self, path, asked):
        if path.endswith("/exchangeInfo"):
            names = [("BTCUSDT", "BTC", "USDT"), ("ETHUSDT", "ETH", "USDT")]
            return 200, {"symbols": [{"symbol": s, "status": "TRADING", "baseAsset": b, "quoteAsset": q, "filters": []}
                                     for s, b, q in names]} if path.startswith("/api/v3") else {"symbols": [
                {"symbol": "BTCUSDT", "contractType": "PERPETUAL", "deliveryDate": 4133404800000, "status": "TRADING", "baseAsset": "BTC",
                 "quoteAsset": "USDT", "marginAsset": "USDT", "filters": []}] if path.startswith("/fapi") else []}
        if path.endswith("/time"):
            return 200, {"serverTime": int((time.time() + self.ahead) * 1000)}
        if path not in ("/api/v3/klines", "/fapi/v1/klines"):
            return 404, {"code": -1, "msg": "no such path"}
        if asked["symbol"] != "BTCUSDT":
            return 400, {"code": -1121, "msg": "Invalid symbol."}
        rows = self.rows if asked["interval"] == self.interval else longer(self.rows, asked["interval"])
        since, limit = int(asked.get("startTime", 0)), min(int(asked.get("limit", 500)), 1000)
        end = int(asked.get("endTime", 2**62))
        if self.windowed:  # many exchanges look at a stretch of time, Binance at what comes next
            end = min(end, since + limit * STEPS[asked["interval"]] - 1)
        found = [r for r in rows if since <= r[0] <= end][:limit]
        return (200, found, True) if asked["interval"] == self.interval else (200, found)


class Kraken(Server):
    """Kraken's public candles: seconds, another order of columns, and the last 720 only, wherever one begins."""

    def __init__(self, rows, faults=None):
        self.rows = rows
        super().__init__(faults)

    def body(self, path, asked):
        coin = {"altname": "XBT", "decimals": 10, "status": "enabled"}
        said = {"Assets": {"XXBT": coin, "ZUSD": coin | {"altname": "USD"}},
                "AssetPairs": {"XXBTZUSD": {"altname": "XBTUSD", "wsname": "XBT/USD", "base": "XXBT", "quote": "ZUSD", "lot": "unit",
                                            "pair_decimals": 1, "lot_decimals": 8, "fees": [[0, 0.26]], "fees_maker": [[0, 0.16]],
                                            "ordermin": "0.0001", "status": "online", "leverage_buy": []}}}
        if path.endswith("OHLC"):
            rows = self.rows if asked["interval"] == "1" else longer(self.rows, "1w")
            rows = [r for r in rows if r[0] > 1000 * int(asked["since"])][-720:]
            return 200, {"error": [], "result": {"XXBTZUSD": [[r[0] // 1000, *r[1:5], r[4], r[5], r[8]] for r in rows], "last": 0}}, True
        return 200, {"error": [], "result": said.get(path.rsplit("/", 1)[1], {})}


class Json(Server):
    """Whatever a function of path and question says."""

    def __init__(self, says, faults=None, ahead=0.0):
        self.says = says
        super().__init__(faults, ahead)

    def body(self, path, asked):
        said = self.says(path, asked)
        return (*said, True) if isinstance(said, tuple) else (200, said, True)


class Yahoo(Server):
    """Yahoo's charts: {(symbol, interval): (rows of timestamp, open, high, low, close, volume; meta; events)}."""

    def __init__(self, charts, faults=None, ahead=0.0):
        self.charts = charts
        super().__init__(faults, ahead)

    def body(self, path, asked):
        if not path.startswith("/v8/finance/chart/"):
            return 200, "crumb"
        symbol, interval = path.rsplit("/", 1)[1], asked["interval"]
        if (symbol, interval) not in self.charts:
            return 404, {"chart": {"result": None, "error": {
                "code": "Not Found", "description": "No data found, symbol may be delisted"}}}, True
        rows, meta, events = self.charts[symbol, interval]
        first, last = int(asked["period1"]), int(asked["period2"])
        rows = [r for r in rows if first <= r[0] < last]
        names = ("open", "high", "low", "close", "volume")
        result = {"meta": {"symbol": symbol, "currency": "USD", "exchangeTimezoneName": "America/New_York",
                           "dataGranularity": interval} | meta,
                  "indicators": {"quote": [{n: [r[i + 1] for r in rows] for i, n in enumerate(names)} if rows else {}]}}
        if rows:
            result["timestamp"] = [r[0] for r in rows]
        kept = {k: {str(e["date"]): e for e in v if first <= e["date"] < last} for k, v in events.items()}
        return 200, {"chart": {"result": [result | ({"events": kept} if any(kept.values()) else {})], "error": None}}, True
