"""The service beside a bare FastAPI route and others, asked by an open-loop client on the same cores; bars a
second that are durable when answered; a new bar until its prediction is there.

A rate is sustained when 99 % of the requests that were due are answered without error, and 99 of 100 within
100 ms of the time they
were due. `--quick`: fewer and shorter runs, to see that it works.
"""
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pandas as pd
from open_loop import capacity, in_turn, load, request, searches
from peers.beside import FOLDER, MISSING, PYTHON, there

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.fixtures import left_run  # noqa: E402

SYMBOLS = [f"SYM{n:02d}" for n in range(50)]
PEERS = {"raw": "a raw ASGI application", "bare_litestar": "Litestar without guards",
         "bare_fastapi": "FastAPI without guards"}
FEATURES = ["returns", "rsi_14", "sma_20", "volume_ma_20", "macd_12_26_9"]
PASSWORD = "correct horse battery"


def project(folder: Path, users: int) -> dict:
    """A project with a LightGBM champion and its bars; the key of the user `load`, and tokens of others, by
    name."""
    from mlfin.core.settings import load_settings
    from mlfin.warehouse.opening import open_store
    from mlfin.registry.registry import set_champion, register, write_verdict
    from mlfin.accounts.auth import open_accounts
    from mlfin.accounts.credentials import Hashing
    from mlfin.accounts.users import add_user, new_key

    for name in ("settings.ini", "env.yaml", "pipeline.yaml"):
        shutil.copy(ROOT / name, folder)
    settings, made = load_settings("test", root=folder), left_run
    bars = made.bars_that_remember(days=700, symbols=("AAA", "BBB", *SYMBOLS))
    made.leave(settings, "main", specs=FEATURES, names=("lightgbm",), bars=bars)
    found = register(settings, "main")
    write_verdict(settings, found, "passed", "all is well", {"checks": []})
    set_champion(settings, "main", found.number, None)
    open_store(settings).write(bars)
    accounts = open_accounts(settings.model_copy(update={"access_minutes": 60}))
    accounts.hashing = Hashing(
        time_cost=1, memory_kb=8, parallelism=1
    )  # passwords of users that nobody attacks
    add_user(accounts, "load", "analyst", PASSWORD)
    key = new_key(accounts, "load", "benchmark", role="analyst")
    secrets = {"load": key if isinstance(key, str) else key[-1]}
    for n in range(users):
        add_user(accounts, f"user{n}", "read_only", PASSWORD)
        secrets[f"user{n}"] = accounts.issue(f"user{n}", PASSWORD).access
    accounts.close()
    return secrets


@contextmanager
def served(words: list[str], port: int, cwd: Path, python: str = sys.executable, **environment: str):
    """A server while it runs: the seconds until it was ready, and its process."""
    begin = time.perf_counter()
    env = {k: v for k, v in os.environ.items() if not k.startswith("MLFIN_")} | {
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    running = subprocess.Popen(
        [python, *words], cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1) as line:
                    line.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                    if line.recv(12):
                        break
            except OSError:
                pass
            if running.poll() is not None or time.perf_counter() - begin > 90:
                raise SystemExit(f"the server did not start: {words}")
            time.sleep(0.05)
        yield time.perf_counter() - begin, running.pid
    finally:
        running.terminate()
        running.wait(40)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def row(measure: str, value: str, bound: str, fine: bool | None) -> bool:
    print(
        f"| {measure} | {value} | {bound} | {'' if fine is None else 'met' if fine else 'missed'} |",
        flush=True,
    )
    return fine is not False


def used(process: int) -> dict[int, float]:
    """Seconds of processor time that a process and those below it took, each by itself: one that ends takes
    its own away."""
    tasks, found = Path(f"/proc/{process}/task"), {}
    try:
        own = sum(int((t / "schedstat").read_text().split()[0]) for t in tasks.iterdir()) / 1e9
        below = [int(child) for t in tasks.iterdir() for child in (t / "children").read_text().split()]
    except FileNotFoundError: return {}
    for child in below: found |= used(child)
    return found | {process: own}


def processor(title: str, servers: dict, pids: dict, connections: int, times: int, count: int) -> bool:
    """Processor time of a request where every connection asks again at once: the least of several runs, in
    turn; hardly moved by a busy machine."""
    taken: dict = {name: [] for name in servers}
    for _ in range(times):
        for name, (port, asked) in servers.items():
            begin = used(pids[name])
            capacity("127.0.0.1", port, asked, connections, count)
            end = used(pids[name])
            taken[name].append(sum(end[p] - begin[p] for p in begin.keys() & end.keys()) / count * 1e6)
    bare, ours = (min(taken[name]) for name in ("bare", "ours"))
    return row(
        f"{title}: processor time of a request, bare route; ours",
        f"{bare:.0f} us; {ours:.0f} us ({bare / ours:.2f}x)",
        ">= 0.6x",
        bare / ours >= 0.6,
    )


def compare(title: str, servers: dict, connections: int, quick: bool, judged: bool) -> bool:
    """Highest sustained rates, what breaks them, and p99 at parts of the bare route's highest rate."""
    seconds, fine = 1.0 if quick else 2.5, True
    found = [
        searches(servers, connections, seconds, 2000 if quick else 6000)
        for _ in range(1 if quick or not judged else 2)
    ]
    best = {name: max((f[name] for f in found), key=lambda s: s.low.rate if s.low else 0) for name in servers}
    if not all(s.low for s in best.values()):
        return row(f"{title}: highest sustained rate", "none", ">= 0.6x", False)
    bare, ours = (best[name].low.rate for name in ("bare", "ours"))
    share = float(
        np.median([f["ours"].low.rate / f["bare"].low.rate for f in found if f["ours"].low and f["bare"].low])
    )
    told = f"{bare:,.0f}/s; {ours:,.0f}/s ({share:.2f}x)"
    fine &= row(
        f"{title}: highest sustained rate, bare route; ours",
        told,
        ">= 0.6x",
        share >= 0.6 if judged else None,
    )
    broke = "; ".join(
        f"{s.high.rate:,.0f}/s ({s.high.why()})" if s.high else "not reached" for s in best.values()
    )
    row(f"{title}: breaks at, bare route; ours", broke, "", None)
    for part in (0.3, 0.5) if judged and not quick else (0.5,):
        asked = (
            servers if quick else {**servers, "again": servers["bare"]}
        )  # the bare route once more: what the machine alone makes of a ratio
        tries = list(in_turn(asked, part * bare, seconds, connections, 1 if quick else 15 if judged else 3))
        one, other, again = (
            float(np.median([t[name].p99 for t in tries]))
            for name in ("bare", "ours", "bare" if quick else "again")
        )
        errors = sum(t[name].errors for t in tries for name in asked)
        told = (f"{one:.1f} ms (again: {again:.1f}); {other:.1f} ms ({other / one:.2f}x), {errors} errors; "
                f"the client's own {np.median([t['ours'].late for t in tries]):.1f} ms")
        held = other <= 1.5 * one and not errors
        fine &= row(
            f"{title}: p99 at {part:g} of bare's highest rate, {part * bare:,.0f}/s",
            told,
            "<= 1.5x",
            held if judged else None,
        )
    return fine


def batches(count: int) -> list[bytes]:
    """Bodies of 500 one-minute bars each."""
    made = []
    for n in range(count):
        ts = pd.date_range("2022-01-01", periods=500, freq="min", tz="UTC") + pd.Timedelta(
            minutes=500 * (n // 4)
        )
        bars = [
            dict(
                symbol=f"PUSH{n % 4}",
                timeframe="1m",
                time=int(t.timestamp()),
                open=1.1,
                high=1.2,
                low=1.0,
                close=1.15,
                volume=7.0,
            )
            for t in ts
        ]
        made.append(json.dumps({"bars": bars, "source": "load"}).encode())
    return made


def ingest(port: int, key: str, quick: bool) -> bool:
    """Bars a second through `POST /ingest`."""
    bodies = [
        request("POST", "/v1/ingest", b, content_type="application/json", x_api_key=key)
        for b in batches(60 if quick else 960)
    ]
    tried = [
        load("127.0.0.1", port, bodies, rate, 1.5 if quick else 4.0, 8, 10.0)
        for rate in ((240,) if quick else (60, 120, 240))
    ]
    best = max(tried, key=lambda found: 0 if found.errors else found.achieved)
    rate = best.achieved * 500
    return row(
        "bars a second, batches of 500, 8 connections, durable when answered",
        f"{rate:,.0f}/s, p99 {best.p99:.0f} ms, {best.errors} errors",
        ">= 100,000/s",
        rate >= 100_000 and not best.errors,
    )


def crowd(port: int, asked: list[bytes], seconds: float) -> bool:
    """A thousand requests a second of many users, each with a connection and a token of its own."""
    load("127.0.0.1", port, asked, len(asked), 1.0, len(asked), 10.0)  # each token is looked up once
    found = load("127.0.0.1", port, asked, 1000, seconds, len(asked))
    return row(
        f"1,000 requests/s of {len(asked)} users, each with a token and a connection: p50; p99; worst; "
        f"errors", f"{found.p50:.1f} ms; {found.p99:.1f} ms; {found.worst:.1f} ms; {found.errors}",
        "under 100 ms",
        found.p99 <= 100 and not found.errors)


def varied(count: int = 8_000) -> list[bytes]:
    """Questions that differ: half of one symbol, half of two or three of fifty in any order."""
    rng = random.Random(7)
    asked = [{"symbol": rng.choice(SYMBOLS)} if n % 2 else {"symbols": rng.sample(SYMBOLS, rng.randint(2, 3))}
             for n in range(count)]
    return [json.dumps({"experiment": "main", **one}).encode() for one in asked]


def answer(port: int, method: str, path: str, body: bytes, **headers: str) -> dict:
    """What a server answers to one question."""
    line = HTTPConnection("127.0.0.1", port, timeout=30)
    line.request(method, path, body, {"content-type": "application/json"} | headers)
    found = json.loads(line.getresponse().read())
    line.close()
    return found


def same(one: dict, other: dict) -> bool:
    """Whether two servers gave the same predictions; their age goes on."""
    mine, theirs = ([{k: v for k, v in p.items() if k != "age_seconds"} for p in found["predictions"]]
                    for found in (one, other))
    return mine == theirs


def beside(folder: Path, ours: int, process: int, key: str, quick: bool) -> bool:
    """Processor time of a request on varied questions, all guards on, beside peers that have none."""
    asked, held = varied(), {"x-api-key": key}
    json_ = dict(content_type="application/json")
    servers = {"ours": (ours, [request("POST", "/v1/predict", q, x_api_key=key, **json_) for q in asked])}
    if not there():
        return all([row(f"varied questions, all guards, beside {what}", MISSING, "", None)
                    for what in PEERS.values()])
    every = json.dumps({"experiment": "main", "symbols": SYMBOLS}).encode()
    known = answer(ours, "POST", "/v1/predict", every, **held)["predictions"]
    (folder / "answers.json").write_text(json.dumps({p["symbol"]: p for p in known}))
    with ExitStack() as stack:
        pids, equal, used_up = {"ours": process}, {}, {"ours": []}
        for app in PEERS:
            port = free_port()
            words = ["-m", "uvicorn", f"peer_serve:{app}", "--port", str(port), "--no-access-log",
                     "--log-level", "error", "--loop", "uvloop", "--http", "httptools"]
            server = served(words, port, FOLDER, str(PYTHON), ANSWERS=str(folder / "answers.json"))
            pids[app], used_up[app] = stack.enter_context(server)[1], []
            servers[app] = port, [request("POST", "/v1/predict", q, **json_) for q in asked]
            equal[app] = all(same(answer(ours, "POST", "/v1/predict", q, **held),
                                  answer(port, "POST", "/v1/predict", q)) for q in asked[:20])
        for _ in range(3 if quick else 9):
            for name, (port, questions) in servers.items():
                begin = used(pids[name])
                capacity("127.0.0.1", port, questions, 50, 1000 if quick else 4000)
                end = used(pids[name])
                spent = sum(end[p] - begin[p] for p in begin.keys() & end.keys())
                used_up[name].append(spent / (1000 if quick else 4000) * 1e6)
    us = {name: float(np.median(spent)) for name, spent in used_up.items()}
    fine = True
    for app, what in PEERS.items():
        ratio, bound = us["ours"] / us[app], "<= 1x" if app == "bare_litestar" else ""
        told = (f"{us['ours']:.0f} us; {us[app]:.0f} us ({ratio:.2f}x), "
                f"{'equal' if equal[app] else 'NOT EQUAL'}, load {os.getloadavg()[0]:.1f}")
        held_up = equal[app] and ratio <= 1 if bound else None if equal[app] else False
        fine &= row(f"varied questions, all guards, processor time of a request beside {what}", told, bound,
                    held_up)
    return fine


def many_users(port: int, asked: list[bytes], users: int, seconds: float) -> bool:
    """Five thousand requests a second of many users, whose questions differ."""
    found = load("127.0.0.1", port, asked, 5000, seconds, users)
    told = (f"{found.p50:.1f} ms; {found.p99:.1f} ms; {found.worst:.1f} ms; {found.errors}; "
            f"the client's own {found.late:.1f} ms, load {os.getloadavg()[0]:.1f}")
    return row(f"5,000 requests/s of {users} users, varied: p50; p99; worst; errors", told, "p99 <= 10 ms",
               found.p99 <= 10 and not found.errors)


def resident(process: int) -> float:
    """MiB that a process and those below it hold."""
    pages = [int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in used(process)]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(port: int, process: int, asked: list[bytes], rate: float, minutes: float) -> bool:
    """Memory under a steady load: after the first fifth, when all that is kept is there, and at the end."""
    load("127.0.0.1", port, asked, rate, minutes * 12, 50, 10.0)
    begin = resident(process)
    found = load("127.0.0.1", port, asked, rate, minutes * 48, 50, 10.0)
    end = resident(process)
    return row(f"memory after {minutes:g} minutes of {rate:,.0f} requests/s, varied",
               f"{begin:.0f} MiB after a fifth, {end:.0f} MiB ({end - begin:+.1f}); {found.errors} errors",
               "<= +5 MiB", end - begin <= 5 and not found.errors)


def new_bars(port: int, key: str, count: int) -> bool:
    """A bar that is pushed until the prediction of it is there: two requests over one connection."""
    line, took, rng = HTTPConnection("127.0.0.1", port, timeout=30), [], np.random.default_rng(7)
    head = {"content-type": "application/json", "x-api-key": key}

    def ask(path: str, **body) -> dict:
        line.request("POST", path, json.dumps(body), head)
        return json.loads(line.getresponse().read())

    for ts in pd.date_range(left_run.AFTER, periods=count + 5):
        prices = {n: float(100 + rng.normal()) for n in ("open", "close")}
        low, high = min(prices.values()) - 1, max(prices.values()) + 1
        bar = dict(symbol="AAA", timeframe="1d", time=int(ts.timestamp()), **prices, low=low, high=high,
                   volume=5000.0)
        begin = time.perf_counter()
        ask("/v1/ingest", bars=[bar], source="load")
        found = ask("/v1/predict", experiment="main", symbol="AAA")["predictions"][0]
        took.append((time.perf_counter() - begin) * 1e3)
        assert pd.Timestamp(found["ts"]) == ts and not found["reason"], found
    middle, worst = np.median(took[5:]), np.quantile(took[5:], 0.99)
    return row("a new bar pushed until the prediction of it is here, over HTTP: median; p99",
               f"{middle:.1f} ms; {worst:.1f} ms, {count} bars, load {os.getloadavg()[0]:.1f}",
               "<= 12 ms; <= 30 ms", middle <= 12 and worst <= 30)


def measure(folder: Path, secrets: dict, workers: int, quick: bool) -> bool:
    """Everything about some workers of each."""
    bare, ours = free_port(), free_port()
    question = json.dumps({"experiment": "main", "symbol": "AAA"}).encode()
    plain = [
        "-m",
        "uvicorn",
        "bare_route:app",
        "--port",
        str(bare),
        "--workers",
        str(workers),
        "--no-access-log",
        "--log-level",
        "error",
        "--loop",
        "uvloop",
        "--http",
        "httptools",
    ]
    own, exempt = (
        ["-P", "-m", "mlfin", "serve", "--port", str(ours), "--workers", str(workers)],
        ",".join(secrets),
    )
    json_ = dict(content_type="application/json")
    servers = {"bare": (bare, [request("POST", "/predict", question, **json_)]),
               "ours": (ours, [request("POST", "/v1/predict", question, x_api_key=secrets["load"], **json_)])}
    with (
        served(plain, bare, Path(__file__).parent) as (_, one),
        served(
            own,
            ours,
            folder,
            MLFIN_ROOT=str(folder),
            MLFIN_PROFILE="test",
            MLFIN_LIMIT_EXEMPT=exempt,
            PYTHONPATH=str(ROOT),
        ) as (ready, other),
    ):
        fine = row(
            f"{workers} worker{'s' if workers > 1 else ''}: start to ready",
            f"{ready:.1f} s",
            "<= 10 s",
            ready <= 10,
        )
        for connections in (50,) if quick else (50, 500):
            title = f"{workers} worker{'s' if workers > 1 else ''}, {connections} connections"
            fine &= processor(
                title,
                servers,
                {"bare": one, "ours": other},
                connections,
                2 if quick else 5,
                1000 if quick else 4000,
            )
            fine &= compare(title, servers, connections, quick, workers == 1)
        if workers > 1: return fine
        fine &= beside(folder, ours, other, secrets["load"], quick)
        tokens = [token for name, token in secrets.items() if name != "load"]
        users = [request("POST", "/v1/predict", q, authorization=f"Bearer {tokens[n % len(tokens)]}", **json_)
                 for n, q in enumerate(varied(8 * len(tokens)))]
        fine &= crowd(ours, users[:len(tokens)], 1.0 if quick else 5.0)
        fine &= many_users(ours, users, len(tokens), 1.0 if quick else 5.0)
        best = capacity("127.0.0.1", ours, users, 50, 1000 if quick else 6000)
        fine &= memory(ours, other, users, best / 2, 0.1 if quick else 5.0)
        fine &= new_bars(ours, secrets["load"], 20 if quick else 300)
        return fine & ingest(ours, secrets["load"], quick)


def main(quick: bool = False) -> bool:
    """Print the figures; whether every bound held."""
    print("| measure | value | bound | verdict |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        secrets = project(Path(folder), 50 if quick else 500)
        return all(
            [measure(Path(folder), secrets, workers, quick) for workers in ((1,) if quick else (1, 2))]
        )


if __name__ == "__main__":
    sys.exit(not main("--quick" in sys.argv))
