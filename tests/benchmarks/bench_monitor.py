"""What a request pays for being counted and logged, what /health/ready costs, and how many jobs a worker gets
through."""

import logging
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from mlfin.core.settings import load_settings, project_root
from mlfin.monitor.health import check_health
from mlfin.monitor.logs import JsonFormatter, SharedFile, bound
from mlfin.monitor.metrics import Metrics
from mlfin.jobs.jobs import Jobs
from mlfin.jobs.orders import Order, register_kind

COUNT = """
import sys, tempfile
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from bench_monitor import each, Metrics
metrics = Metrics(Path(tempfile.mkdtemp()))
print(each(lambda: metrics.request("POST", "/predict", 200, 0.004), 20_000))
"""


def each(function, times: int) -> float:
    """Microseconds of processor time a call: the best of five rounds."""
    best = float("inf")
    for _ in range(5):
        begin = time.process_time()
        for _ in range(times):
            function()
        best = min(best, (time.process_time() - begin) / times)
    return 1e6 * best


def line() -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": "mlfin.access",
            "levelname": "INFO",
            "msg": "%s %s %s",
            "args": ("POST", "/predict", 200),
            "ms": 3.1,
            "method": "POST",
            "path": "/predict",
            "status": 200,
            "client": "127.0.0.1",
        }
    )


def jobs(folder: Path, many: int = 20) -> float:
    """Milliseconds a job that does nothing, one after another."""
    register_kind("nothing", lambda settings, parameters: Order(["/bin/true"], None))
    queue, stop, ended = (
        Jobs(load_settings("test", root=project_root()).model_copy(update={"root": folder})),
        threading.Event(),
        [],
    )
    for n in range(many):
        queue.submit("nothing", {"n": n}, "bench")
    begin = time.perf_counter()
    queue.run_worker(
        stop, lambda job: (ended.append(job), stop.set() if len(ended) == many else None), poll=0.01
    )
    assert {job.state for job in ended} == {"succeeded"}
    return 1000 * (time.perf_counter() - begin) / many


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder, metrics = Path(place), Metrics()
        shared = subprocess.run(
            [sys.executable, "-c", COUNT, str(Path(__file__).parent)],
            capture_output=True,
            text=True,
            check=True,
        )
        file, record = SharedFile(folder / "access.log"), line()
        file.setFormatter(JsonFormatter())
        settings = load_settings("test", root=project_root()).model_copy(
            update={"root": folder, "store": str(folder / "lake"), "mlflow": "sqlite:///none"}
        )
        check_health(settings, timeout=60)
        with bound(request_id="r-1", user="ann"):
            rows = [
                (
                    "counting a request, one process, µs",
                    each(lambda: metrics.request("POST", "/predict", 200, 0.004), 20_000),
                    20,
                ),
                ("counting a request, several processes, µs", float(shared.stdout), 40),
                (
                    "counting a prediction, µs",
                    each(lambda: metrics.prediction("default", "1", 0.6), 20_000),
                    20,
                ),
                ("writing a line of the access log, µs", each(lambda: file.emit(record), 2_000), 60),
                (
                    "one look at the health of an empty house, ms",
                    each(lambda: check_health(settings, timeout=60), 5) / 1000,
                    250,
                ),
                ("a job from queue to end, ms", jobs(folder), 500),
            ]
    print("| measure | value | bound | verdict |\n|---|---|---|---|")
    for name, value, bound_ in rows:
        print(f"| {name} | {value:.1f} | {bound_} | {'met' if value <= bound_ else 'missed'} |")


if __name__ == "__main__":
    main()
