"""Counts are true: with threads, with processes, with processes that die; and they cost little."""
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("prometheus_client")

from mlfin.core.errors import ParameterError  # noqa: E402
from mlfin.monitor.metrics import FAMILIES, Metrics, clean_metrics, count_ingest, show_champion  # noqa: E402

BEGIN = ("import sys, time\nfrom pathlib import Path\nfrom mlfin.monitor.metrics import *\n"
         "m = Metrics(Path(sys.argv[1]))\n")


def start(folder, work):
    return subprocess.Popen([sys.executable, "-c", BEGIN + work, str(folder)],
                            stdout=subprocess.PIPE, text=True)


def asked(folder, work="") -> str:
    out, _ = (process := start(folder, work + "print(m.render()[0].decode())")).communicate(timeout=60)
    assert process.returncode == 0
    return out


def value(text: str, series: str) -> float:
    return float(re.search(rf"^{re.escape(series)} (\S+)$", text, re.M)[1])


def test_processes_count_together_and_the_dead_keep_their_counts(tmp_path):
    clean_metrics(tmp_path)
    work = ("for n in range(300): m.request('GET', '/x', 200 if n % 3 else 503, .004)\n"
            "m.set('jobs_queued', 5)\nm.render()\n"
            "print('done', flush=True)\ntime.sleep(60)\n")
    running = [start(tmp_path, work) for _ in range(3)]
    try:
        assert [p.stdout.readline() for p in running] == ["done\n"] * 3
        text = asked(tmp_path)
        assert value(text, 'http_requests_total{method="GET",route="/x",status="200"}') == 600
        assert value(text, 'http_errors_total{route="/x",status="503"}') == 300
        assert value(text, 'http_request_duration_seconds_bucket{le="0.005",method="GET",route="/x"}') == 900
        assert value(text, "jobs_queued") == 5
        assert text.count("process_resident_bytes{") == 4  # the three, and the one that was asked
        os.kill(running[0].pid, signal.SIGKILL)
        running[0].wait(20)
        text = asked(tmp_path)
        assert value(text, 'http_requests_total{method="GET",route="/x",status="200"}') == 600
        assert text.count("process_resident_bytes{") == 3
    finally:
        for process in running:
            process.kill()
            process.communicate()
    clean_metrics(tmp_path)
    assert "http_requests_total{" not in asked(tmp_path)


def test_gauges_of_several_workers_become_what_they_should(tmp_path):
    clean_metrics(tmp_path)
    work = ("v = int(sys.stdin.readline())\nm.set('model_version', v, 'main', 'x')\n"
            "m.set('champion_refused', v, 'main')\n"
            "m.set('intake_bars_waiting', v)\n"
            "m.set('feature_age_seconds', v, 'main', '1d')\nm.set('champion_accuracy', v / 10, 'main')\n"
            "print('done', flush=True)\nsys.stdin.readline()\n")
    command = [sys.executable, "-c", BEGIN + work, str(tmp_path)]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
               for _ in range(3)]
    try:
        for process, v in zip(running, (3, 7, 5), strict=True):  # one after the other
            process.stdin.write(f"{v}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"
        text = asked(tmp_path)
        assert sorted(re.findall(r'^model_version{.*} (\S+)$', text, re.M)) == ["3.0", "5.0", "7.0"]
        assert value(text, 'champion_refused{experiment="main"}') == 7
        assert value(text, "intake_bars_waiting") == 15
        assert value(text, 'feature_age_seconds{experiment="main",timeframe="1d"}') == 3
        assert value(text, 'champion_accuracy{experiment="main"}') == 0.5
        running[1].kill()
        running[1].wait(20)
        text = asked(tmp_path)
        # the dead wait for nothing
        assert value(text, 'champion_refused{experiment="main"}') == 5
        assert value(text, "intake_bars_waiting") == 8
    finally:
        for process in running:
            process.kill()
            process.communicate()


def test_a_worker_that_is_just_starting_is_waited_for(tmp_path):
    clean_metrics(tmp_path)
    (tmp_path / "counter_1.db").touch()  # as a worker leaves it for a moment, before it has its size
    work = ("import threading\nm.request('GET', '/x', 200, .01)\n"
            "threading.Timer(0.3, (Path(sys.argv[1]) / 'counter_1.db').unlink).start()\n")
    assert value(asked(tmp_path, work), 'http_requests_total{method="GET",route="/x",status="200"}') == 1


def test_a_record_of_another_champion_leaves_nothing_of_the_one_before():
    metrics = Metrics()
    show_champion(metrics, "main", {"n": 50, "accuracy": 0.6, "accuracy_baseline": 0.5, "open": 3})
    show_champion(metrics, "main", {})
    text = metrics.render()[0].decode()
    assert 'champion_accuracy{experiment="main"} NaN' in text
    assert 'champion_beside{experiment="main",of="baseline",score="accuracy"} NaN' in text
    assert value(text, 'champion_outcomes{experiment="main"}') == 0
    assert value(text, 'champion_unmatched{experiment="main",state="open"}') == 0


def test_threads_lose_no_count():
    metrics = Metrics()
    threads = [threading.Thread(target=lambda: [metrics.request("POST", "/predict", 200, 0.01)
                                                for _ in range(2000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(metrics.render()[0].decode(),
                 'http_requests_total{method="POST",route="/predict",status="200"}') == 8000


def test_what_gathers_in_a_loop_is_counted_soon_and_before_it_is_shown(tmp_path):
    clean_metrics(tmp_path)
    work = ("import asyncio\n"
            "async def serve():\n"
            "    for n in range(40): m.request('GET', '/x', 404 if n % 4 == 0 else 200, .004); "
            "m.prediction('main', '1', .6 if n else float('nan'))\n"
            "    print(m.families['http_requests_total'].at(('GET', '/x', '200'))._value.get(), flush=True)\n"
            "    await asyncio.sleep(1)\n"
            "    print(m.families['http_requests_total'].at(('GET', '/x', '200'))._value.get(), flush=True)\n"
            "    m.request('GET', '/x', 200, .004)\n"
            "    print(m.render()[0].decode(), flush=True)\n"
            "asyncio.run(serve())\n")
    out, _ = (process := start(tmp_path, work)).communicate(timeout=60)
    first, second, text = out.split("\n", 2)
    assert process.returncode == 0 and (first, second) == ("0.0", "30.0")
    assert value(text, 'http_requests_total{method="GET",route="/x",status="200"}') == 31
    assert value(text, 'http_errors_total{route="/x",status="404"}') == 10
    assert value(text, 'http_request_duration_seconds_count{method="GET",route="/x"}') == 41
    assert value(text, 'predictions_total{experiment="main",label="1"}') == 40
    assert value(text, 'prediction_probability_count{experiment="main"}') == 39


def test_what_a_client_sends_makes_no_series():
    metrics = Metrics(limit=50)
    for n in range(5000):
        metrics.request(f"M{n}", "/x", 200, 0.01)
        metrics.request("GET", None, 400 + n % 100, 0.01)
        metrics.count("ingest_batches_total", f"source {n}\n")
    text = metrics.render()[0].decode()
    assert text.count("\nhttp_requests_total{") <= 51 and text.count("\ningest_batches_total{") <= 51
    assert len(metrics._series) <= 1000
    assert value(text, 'ingest_batches_total{source="other"}') == 4950
    assert value(text, 'http_requests_total{method="OTHER",route="/x",status="200"}') == 5000


def test_every_family_can_be_used_and_a_wrong_one_is_refused():
    metrics = Metrics()
    for name, (kind, labels, _) in FAMILIES.items():
        {"counter": metrics.count, "seconds": metrics.observe,
         "chances": metrics.observe}.get(kind, metrics.set)(
             name, *([0.5] if kind != "counter" else []), *["x"] * len(labels))
        assert (f"\n{name}" in (text := "\n" + metrics.render()[0].decode())
                or f"\n{name}_bucket" in text), name
    with pytest.raises(ParameterError, match="did you mean `jobs_queued`"):
        metrics.set("jobs_queue", 1)
    with pytest.raises(ParameterError, match="2 texts"):
        metrics.count("jobs_total", "train")


def test_a_request_costs_little():
    metrics, best = Metrics(), 1.0
    count_ingest(metrics, "push", "1m", inserted=3)
    for _ in range(5):
        begin = time.process_time()
        for _ in range(2000):
            metrics.request("POST", "/predict", 200, 0.004)
            metrics.prediction("default", "1", 0.6)
        best = min(best, (time.process_time() - begin) / 2000)
    assert best < 100e-6, f"{best * 1e9:.0f} ns"
