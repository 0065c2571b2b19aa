"""The service beside a bare FastAPI route, asked by an open-loop client on the same cores; bars a second that are durable when answered."""
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pandas as pd
from open_loop import highest, load, request

ROOT = Path(__file__).resolve().parents[2]
FEATURES = ["returns", "rsi_14", "sma_20", "volume_ma_20", "macd_12_26_9"]
SECONDS = 1.5


def left_run():
    """The module that leaves what a run leaves."""
    spec = spec_from_file_location("left_run", ROOT / "tests" / "models" / "left_run.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def project(folder: Path) -> str:
    """A project with a LightGBM champion and its bars; the load user's API key."""
    from mlfin.core.settings import load_settings
    from mlfin.data.ingest import open_store
    from mlfin.models.registry import crown, register, write_verdict
    from mlfin.serve.auth import open_accounts
    from mlfin.serve.users import add_user, new_key

    for name in ("settings.ini", "env.yaml", "pipeline.yaml"):
        shutil.copy(ROOT / name, folder)
    settings, made = load_settings("test", root=folder), left_run()
    bars = made.bars_that_remember(days=700, symbols=("AAA", "BBB"))
    made.leave(settings, "main", specs=FEATURES, names=("lightgbm",), bars=bars)
    found = register(settings, "main")
    write_verdict(settings, found, "passed", "all is well", {"checks": []})
    crown(settings, "main", found.number, None)
    open_store(settings).write(bars)
    accounts = open_accounts(settings)
    add_user(accounts, "load", "analyst", "correct horse battery")
    key = new_key(accounts, "load", "benchmark", role="analyst")
    return key if isinstance(key, str) else key[-1]


@contextmanager
def served(words: list[str], port: int, cwd: Path, **environment: str):
    """A server while it runs, and the seconds until it was ready."""
    begin = time.perf_counter()
    env = {k: v for k, v in os.environ.items() if not k.startswith("MLFIN_")} | {"OMP_NUM_THREADS": "1", **environment}
    running = subprocess.Popen([sys.executable, *words], cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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
        yield time.perf_counter() - begin
    finally:
        running.terminate()
        running.wait(40)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def row(measure: str, value: str, bound: str, fine: bool | None) -> bool:
    print(f"| {measure} | {value} | {bound} | {'' if fine is None else 'held' if fine else 'missed'} |", flush=True)
    return fine is not False


def compare(connections: int, bare: int, ours: int, question: bytes, own: bytes) -> bool:
    """Highest rates of both, and their p99 at one and the same rate."""
    load("127.0.0.1", bare, [question], 200, 1.0, connections), load("127.0.0.1", ours, [own], 200, 1.0, connections)
    best, _ = highest("127.0.0.1", bare, [question], connections, SECONDS, 3000)
    mine, _ = highest("127.0.0.1", ours, [own], connections, SECONDS, 1500)
    share = mine.rate / best.rate
    told = f"{best.rate:,.0f}/s; {mine.rate:,.0f}/s ({share:.2f}x)"
    fine = row(f"{connections} connections: highest rate, bare route; ours", told, ">= 0.6x", share >= 0.6)
    rate = 0.5 * min(best.rate, mine.rate)
    one, other = (load("127.0.0.1", port, [asked], rate, SECONDS, connections) for port, asked in ((bare, question), (ours, own)))
    ratio = other.p99 / one.p99
    fine &= row(f"{connections} connections: p99 at {rate:,.0f}/s, bare; ours", f"{one.p99:.1f} ms; {other.p99:.1f} ms ({ratio:.2f}x)", "<= 1.5x", ratio <= 1.5)
    row(f"{connections} connections: errors", str(mine.errors + other.errors), "0", mine.errors + other.errors == 0)
    return fine


def batches(count: int) -> list[bytes]:
    """Bodies of 500 one-minute bars each."""
    made = []
    for n in range(count):
        ts = pd.date_range("2022-01-01", periods=500, freq="min", tz="UTC") + pd.Timedelta(minutes=500 * (n // 4))
        bars = [dict(symbol=f"PUSH{n % 4}", timeframe="1m", time=int(t.timestamp()), open=1.1, high=1.2, low=1.0, close=1.15, volume=7.0) for t in ts]
        made.append(json.dumps({"bars": bars, "source": "load"}).encode())
    return made


def main() -> None:
    """Print the figures."""
    print("| measure | value | bound | verdict |\n|---|---|---|---|", flush=True)
    fine = True
    with tempfile.TemporaryDirectory() as folder:
        key = project(Path(folder))
        bare, ours = free_port(), free_port()
        plain = ["-m", "uvicorn", "bare_route:app", "--port", str(bare), "--workers", "1", "--no-access-log", "--log-level", "error",
                 "--loop", "uvloop", "--http", "httptools"]
        own = ["-P", "-m", "mlfin", "serve", "--port", str(ours), "--workers", "1"]
        question = json.dumps({"experiment": "main", "symbol": "AAA"}).encode()
        bare_request = request("POST", "/predict", question, content_type="application/json")
        our_request = request("POST", "/v1/predict", question, content_type="application/json", x_api_key=key)
        with served(plain, bare, Path(__file__).parent), \
                served(own, ours, Path(folder), MLFIN_ROOT=folder, MLFIN_PROFILE="test", MLFIN_LIMIT_EXEMPT="load", PYTHONPATH=str(ROOT)) as ready:
            fine &= row("start to ready", f"{ready:.1f} s", "<= 10 s", ready <= 10)
            for connections in (50, 500):
                fine &= compare(connections, bare, ours, bare_request, our_request)
            found = load("127.0.0.1", ours, [our_request], 1000, SECONDS, 500)
            row("1,000 requests/s of 500 users: p50; p99; errors", f"{found.p50:.1f} ms; {found.p99:.1f} ms; {found.errors}", "under 100 ms",
                found.p99 <= 100 and found.errors == 0)
            bodies = [request("POST", "/v1/ingest", b, content_type="application/json", x_api_key=key) for b in batches(240)]
            tried = [load("127.0.0.1", ours, bodies, rate, 4.0, 8) for rate in (30, 45, 60)]
            best = max(tried, key=lambda found: 0 if found.errors else found.achieved)
            rate = best.achieved * 500
            fine &= row("bars a second, batches of 500, durable when answered", f"{rate:,.0f}/s, p99 {best.p99:.0f} ms", ">= 20,000/s", rate >= 20_000)
    if not fine:
        sys.exit(1)


if __name__ == "__main__":
    main()
