"""Jobs under attack: each runs once, whoever dies; what is refused is refused as at a terminal; a cancel
leaves nothing behind."""
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

import mlfin.jobs.jobs as module
import mlfin.jobs.orders as orders
from mlfin.core.errors import DataError, MlfinError, ParameterError
from mlfin.warehouse.opening import open_store
from mlfin.jobs.job_process import alive, born, claim, end_processes, read_event
from mlfin.jobs.jobs import Jobs
from mlfin.jobs.orders import JOB_KINDS, order_ingest, order_train

from ..fixtures.job_worker import register, settings_of

WORKER = Path(__file__).parents[1] / "fixtures" / "job_worker.py"
LONG = """
import os, time
open('began', 'a').write('x')
end = time.monotonic() + 120
while not os.path.exists('go') and time.monotonic() < end: time.sleep(0.02)
open('over', 'a').write('x')
"""
SLOW = "import time, sys\nopen('began', 'a').write('x')\ntime.sleep({})\nopen('over', 'a').write('x')"


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    kinds = dict(JOB_KINDS)
    for home in (module, orders): monkeypatch.setattr(home, "JOB_KINDS", kinds)
    register(tmp_path)
    (tmp_path / "data").mkdir()
    return Jobs(settings_of(tmp_path).model_copy(update={"data_dirs": (str(tmp_path / "data"),)}), grace=1.0)


@pytest.fixture
def workers(tmp_path):
    """Start workers in processes of their own; those that are left at the end are ended."""
    running = []

    def start(many=1, seconds=60):
        new = [subprocess.Popen(
            [sys.executable, str(WORKER), str(tmp_path), str(seconds)], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(WORKER.parents[2])}) for _ in range(many)]
        assert [p.stdout.readline() for p in new] == ["ready\n"] * many
        running.extend(new)
        return new
    yield start
    for process in running:
        process.kill()
        process.communicate()


def until(what, seconds=40):
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return found


def worked(jobs, *names, seconds=60):
    """Run a worker here until jobs ended; the last one named."""
    stop, left = threading.Event(), {*names}
    def ended(job):
        left.discard(job.id)
        if not left: stop.set()
    thread = threading.Thread(target=jobs.run_worker, args=(stop, ended), kwargs={"poll": 0.05})
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive()
    return jobs.get(names[-1])


def taken_up(jobs, name, folder):
    """Run a worker here until a job ended that another one began, and that goes on until this one has it."""
    def whose():
        with module._opened(jobs.path) as db:
            return db.execute("SELECT worker FROM jobs WHERE id = ?", (name,)).fetchone()
    before = whose()[0]
    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(worked, jobs, name)
        until(lambda: whose()[0] != before)
        (folder / "go").touch()
        return ended.result()


def test_thirty_jobs_are_run_once_each_by_several_processes(jobs, workers, tmp_path):
    names = [jobs.submit("note", {"n": n}, "ann").id for n in range(30)]
    workers(2)
    until(lambda: jobs.counts().get("succeeded") == 30)
    assert sorted(map(int, (tmp_path / "notes").read_text().split())) == list(range(30))
    assert {jobs.get(name).attempt for name in names} == {1}


def test_one_at_a_time_in_a_lane(jobs, workers, tmp_path):
    code = ("import os, time\nf = os.open('lock', os.O_CREAT | os.O_EXCL)\ntime.sleep(0.1)\nos.close(f)\n"
            "os.unlink('lock')\nopen('done', 'a').write('x') #")
    for n in range(4):
        jobs.submit("python", {"code": f"{code}{n}", "lane": "one"}, "ann")
    workers(2)
    until(lambda: jobs.counts()["queued"] + jobs.counts()["running"] == 0)
    assert jobs.counts().get("failed") is None and (tmp_path / "done").read_text() == "x" * 4


def started(jobs): return [j.parameters["n"] for j in jobs.list() if j.state == "running"]


def test_heavy_and_light_jobs_have_places_of_their_own(jobs):
    for n, lane in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("c1", "c")):
        jobs.submit("note", {"n": n, "lane": lane}, "ann")
    light = jobs.submit("note", {"n": "x1", "lane": "store", "light": True}, "ann")
    jobs.submit("note", {"n": "x2", "lane": "store", "light": True}, "ann")
    while module._take(jobs, "w"): pass
    # two trainings of two experiments, and an ingest
    assert sorted(started(jobs)) == ["a1", "b1", "x1"]
    by = {j.parameters["n"]: j.id for j in jobs.list()}
    told = {n: (jobs.waits_for(by[n]), jobs.why_waits(by[n])) for n in by}
    assert told == {"a1": (None, ""), "b1": (None, ""), "x1": (None, ""),
                    "a2": (by["a1"], "waits: an earlier job of a has not ended"),
                    "x2": (light.id, "waits: an earlier job of the store has not ended"),
                    "c1": (by["a1"], "waits for a place: 2 of 2 are taken (job_workers)")}
    more = Jobs(jobs.settings.model_copy(update={"job_workers": 3}), grace=1.0)    # as after SIGHUP
    assert more.why_waits(by["c1"]) == "waits: it is among the next to be taken"
    assert module._take(more, "w").id == by["c1"]
    jobs.cancel(by["a2"], "ben")
    assert jobs.get(by["a2"]).state == "cancelled" and module._take(more, "w") is None


BEGUN = ("import json, sys\nprint(json.dumps({'kind': 'busy'}), file=open(sys.argv[1], 'a'))\n"
         "print('Error: Experiment `a` is being run')\nsys.exit(1)")


@pytest.fixture
def elsewhere(jobs):
    """Somebody at a terminal who runs experiment `a`: elsewhere() begins, elsewhere.end() ends."""
    code = ("import sys\nfrom mlfin.core.locks import experiment_lock\n"
            "from mlfin.core.settings import load_settings\n"
            "with experiment_lock(load_settings('test', root=sys.argv[1]), 'a'): print('has it', "
            "flush=True); sys.stdin.read()")
    started = []

    def begin():
        started.append(subprocess.Popen([sys.executable, "-c", code, str(jobs.settings.root)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, "PYTHONPATH": str(WORKER.parents[2])}))
        assert started[-1].stdout.readline() == "has it\n"
        return started[-1].pid

    def end(): started[-1].communicate(timeout=30)
    begin.end = end
    yield begin
    for process in started:
        process.kill()
        process.wait()


def test_a_job_waits_while_somebody_at_a_terminal_runs_its_experiment(jobs, elsewhere, tmp_path):
    pid = elsewhere()
    first, later = (jobs.submit("note", {"n": n, "lane": "experiment a"}, "ann") for n in (1, 2))
    for n in (3, 4): jobs.submit("note", {"n": n, "lane": f"experiment b{n}"}, "ann")
    why = jobs.why_waits(first.id)
    assert why.startswith("waits: experiment a is being run by somebody else: since 20")
    assert f"process {pid}" in why
    assert (jobs.waits_for(first.id), jobs.waits_for(later.id)) == (None, first.id)
    while module._take(jobs, "w"): pass
    # it takes no place from those that can go on
    assert sorted(started(jobs)) == [3, 4]
    with module._opened(jobs.path) as db:
        db.execute("UPDATE jobs SET state = 'succeeded' WHERE state = 'running'")
    assert jobs.cancel(later.id, "ben").state == "cancelled" and module._take(jobs, "w") is None
    elsewhere.end()
    assert jobs.why_waits(first.id) == "waits: it is among the next to be taken"
    assert worked(jobs, first.id).state == "succeeded" and (tmp_path / "notes").read_text() == "1\n"


def test_a_job_waits_no_longer_than_it_may(jobs, elsewhere):
    elsewhere()
    job = jobs.submit("python", {"code": BEGUN, "lane": "experiment a"}, "ann")
    assert module._take(jobs, "w") is None
    short = Jobs(jobs.settings.model_copy(update={"job_wait": 0}), grace=1.0)
    ended = worked(short, job.id)
    assert (ended.state, ended.error, ended.attempt) == ("failed", "Experiment `a` is being run", 1)


def test_a_job_whose_experiment_was_taken_before_it_could_begin_waits_again(jobs, elsewhere):
    """Between its start and its first task somebody was quicker: as often as that happens, it is put back,
    and nothing of it counts as lost."""
    job = jobs.submit("python", {"code": BEGUN, "lane": "experiment a"}, "ann")
    for attempt in (1, 2):
        assert module._take(jobs, "w").attempt == attempt
        elsewhere()
        assert not module._look_after(jobs, "w", jobs.get(job.id), threading.Event())
        put_back = jobs.get(job.id)
        assert ((put_back.state, put_back.error, put_back.started, put_back.attempt)
                == ("queued", "", None, attempt))
        assert "being run by somebody else" in jobs.why_waits(job.id) and module._take(jobs, "w") is None
        elsewhere.end()
    assert module._take(jobs, "w").attempt == 3
    assert module._vanished(jobs, jobs.get(job.id)) == 1                   # the one that is under way
    assert jobs.cancel(job.id, "ben").cancelled_by == "ben"
    assert module._look_after(jobs, "w", jobs.get(job.id), threading.Event())
    assert (jobs.get(job.id).state, jobs.get(job.id).error) == ("cancelled", "cancelled by ben")


def test_a_hundred_jobs_of_one_keep_nobody_else_waiting(jobs):
    import sqlite3

    for n in range(4): jobs.submit("note", {"n": n}, "ann", "ann")
    jobs.submit("note", {"n": 10}, "ben", "ben")
    begun = []
    while job := module._take(jobs, "w"):
        begun.append(job.parameters["n"])
        with sqlite3.connect(jobs.path) as db:
            db.execute("UPDATE jobs SET state = 'succeeded' WHERE id = ?", (job.id,))
    assert begun == [0, 10, 1, 2, 3]


def test_a_queue_of_an_earlier_version_is_taken_over(jobs):
    import sqlite3

    jobs.folder.mkdir(parents=True)
    with sqlite3.connect(jobs.path) as db:
        db.executescript(module._SCHEMA)
        for kind in ("train", "ingest"):
            db.execute("INSERT INTO jobs (id, kind, state, parameters, words, by, created) VALUES (?, ?, "
                       "'queued', '{}', '[]', 'ann', 0)", (kind, kind))
    assert [(j.id, j.light, j.owner) for j in jobs.list()] == [("ingest", True, ""), ("train", False, "")]


@pytest.mark.parametrize("code, events, state", [
    (1, {"kind": "end", "promoted": False, "gate": "refused by the gate: fresh"}, "succeeded"),
    (1, {"kind": "end", "run": "abc"}, "failed"), (2, {}, "failed")])
def test_judged_and_refused_is_a_result(jobs, code, events, state):
    text = (f"import sys\nprint({json.dumps(json.dumps(events))}, file=open(sys.argv[1], 'a'))\n"
            f"raise SystemExit({code})")
    ended = worked(jobs, jobs.submit("python", {"code": text}, "ann").id)
    assert (ended.state, ended.result.get("gate")) == (state, events.get("gate"))


def test_the_database_itself_lets_no_second_one_into_a_lane(jobs):
    import sqlite3

    one, two = (jobs.submit("note", {"n": n, "lane": "a"}, "ann") for n in (1, 2))
    assert module._take(jobs, "w1").id == one.id and module._take(jobs, "w2") is None
    with sqlite3.connect(jobs.path) as db, pytest.raises(sqlite3.IntegrityError):
        db.execute("UPDATE jobs SET state = 'running' WHERE id = ?", (two.id,))


def test_a_child_outlives_its_worker_and_is_taken_up(jobs, workers, tmp_path):
    job = jobs.submit("python", {"code": LONG}, "ann")
    (worker,) = workers()
    until((tmp_path / "began").exists)
    worker.kill()
    worker.wait()
    ended = taken_up(jobs, job.id, tmp_path)
    assert (ended.state, ended.attempt) == ("succeeded", 1)
    assert ((tmp_path / "began").read_text(), (tmp_path / "over").read_text()) == ("x", "x")


def test_two_trainings_and_an_ingest_at_once_whoever_dies(jobs, workers, tmp_path):
    one, two, after = (jobs.submit("python", {"code": LONG, "lane": lane, "n": n}, "ann").id
                       for n, lane in enumerate(("a", "b", "a")))
    light = jobs.submit("note", {"n": 7, "lane": "store", "light": True}, "ann").id
    (worker,) = workers()
    until(lambda: jobs.get(light).state == "succeeded" and (tmp_path / "began").exists()
          and (tmp_path / "began").read_text() == "xx")
    assert [jobs.get(n).state for n in (one, two, after)] == ["running", "running", "queued"]
    assert jobs.waits_for(after) == one
    worker.kill()
    worker.wait()
    # both are taken up, and neither begins again
    workers(2)
    def whose():
        with module._opened(jobs.path) as db:
            return {p for (p,) in db.execute("SELECT worker_pid FROM jobs WHERE state = 'running'")}
    until(lambda: worker.pid not in whose())
    assert jobs.cancel(one, "ben").state in ("running", "cancelled")
    # now the one that waited for it
    until(lambda: jobs.get(one).state == "cancelled" and (tmp_path / "began").read_text() == "xxx")
    assert jobs.get(two).state == "running"
    (tmp_path / "go").touch()
    until(lambda: jobs.get(two).state == jobs.get(after).state == "succeeded")
    assert [jobs.get(n).attempt for n in (one, two, after)] == [1, 1, 1]
    assert (tmp_path / "over").read_text() == "xx"


def test_a_child_that_ended_while_nobody_looked(jobs, workers, tmp_path):
    job = jobs.submit("python", {"code": SLOW.format(0.3) + "\nraise SystemExit('Error: it is so')"}, "ann")
    (worker,) = workers()
    until((tmp_path / "began").exists)
    worker.kill()
    worker.wait()
    until(lambda: read_event(jobs.folder / job.id / "1", "ended"))
    ended = worked(jobs, job.id)
    assert (ended.state, ended.attempt, ended.error) == ("failed", 1, "it is so")


def test_a_child_that_vanished_begins_again_and_not_for_ever(jobs, tmp_path):
    code = ("import os, signal, time\nopen('began', 'a').write(f'{os.getpid()}\\n')\n"
            "os.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(30)\n"
            "open('over', 'a').write('x')")
    ended = worked(jobs, jobs.submit("python", {"code": code}, "ann").id)
    pids = [int(p) for p in (tmp_path / "began").read_text().split()]
    assert (ended.state, ended.attempt, len(pids)) == ("lost", 3, 3)
    assert "vanished 3 times" in ended.error and not (tmp_path / "over").exists()
    end = time.monotonic() + 10
    # a killed process is there for a moment
    while any(born(p) for p in pids) and time.monotonic() < end: time.sleep(0.05)
    assert [born(p) for p in pids] == ["", "", ""]  # what it left behind was ended


def test_a_worker_that_died_before_it_started_anything(jobs, tmp_path):
    for prepare in (False, True):  # before and after it made the folder of the attempt
        job = jobs.submit("note", {"n": int(prepare)}, "ann")
        assert module._take(jobs, "dead").id == job.id
        if prepare:
            (jobs.folder / job.id / "1").mkdir(parents=True)
        with module._opened(jobs.path) as db:
            db.execute("UPDATE jobs SET worker_born = 'long ago' WHERE id = ?", (job.id,))
        ended = worked(jobs, job.id)
        assert (ended.state, ended.attempt) == ("succeeded", 2 if prepare else 1)
    assert not claim(jobs.folder / job.id / "1", {"pid": 1})  # a late starter finds the place taken
    assert (tmp_path / "notes").read_text() == "0\n1\n"


@pytest.mark.parametrize("name", ["started", "ended"])
def test_a_file_that_a_power_cut_left_empty_stops_no_worker(jobs, name):
    job = jobs.submit("note", {"n": 0}, "ann")
    assert module._take(jobs, "dead").id == job.id
    place = jobs.folder / job.id / "1"
    place.mkdir(parents=True)
    (place / "started.json").write_text(json.dumps({"pid": 1, "born": "another start of the machine"}))
    (place / f"{name}.json").write_text("")
    with module._opened(jobs.path) as db:
        db.execute("UPDATE jobs SET worker_born = 'long ago' WHERE id = ?", (job.id,))
    ended = worked(jobs, job.id)
    assert (ended.state, ended.attempt) == ("succeeded", 2)


def test_what_is_put_down_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []

    def noted(name, real, *args):
        done.append(name)
        return real(*args)
    for name in ("fsync", "link"): monkeypatch.setattr(os, name, partial(noted, name, getattr(os, name)))
    assert claim(tmp_path, {"pid": 1, "born": "x"}) and done == ["fsync", "link", "fsync"]


def test_a_moment_without_room_for_a_process_does_not_end_the_worker(jobs, monkeypatch):
    real, said, refused = subprocess.Popen, [], []

    def popen(*args, **kwargs):
        if not refused:
            refused.append(1)
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return real(*args, **kwargs)
    monkeypatch.setattr(module.subprocess, "Popen", popen)
    job, stop = jobs.submit("note", {"n": 0}, "ann"), threading.Event()
    thread = threading.Thread(target=jobs.run_worker, args=(stop, lambda job: stop.set(), said.append),
                              kwargs={"poll": 0.05})
    thread.start()
    thread.join(60)
    assert not thread.is_alive() and [type(e) for e in said] == [BlockingIOError]
    assert (jobs.get(job.id).state, jobs.get(job.id).attempt) == ("succeeded", 1)


def test_a_number_that_another_process_has_now_is_left_alone(jobs):
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        end_processes(bystander.pid, "another beginning", 0.1)
        end_processes(bystander.pid,
                              born(bystander.pid).replace(born(bystander.pid)[:8], "00000000"), 0.1)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_worker_that_is_told_to_stop_leaves_its_job_to_the_next(jobs, tmp_path):
    job, stop = jobs.submit("python", {"code": LONG}, "ann"), threading.Event()
    thread = threading.Thread(target=jobs.run_worker, args=(stop,), kwargs={"poll": 0.05})
    thread.start()
    until((tmp_path / "began").exists)
    stop.set()
    thread.join(10)
    assert not thread.is_alive() and jobs.get(job.id).state == "running"
    assert taken_up(jobs, job.id, tmp_path).state == "succeeded" and (tmp_path / "began").read_text() == "x"


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
away = subprocess.Popen(["sleep", "300"], start_new_session=True)
open("pids", "w").write(f"{os.getpid()} {away.pid}")
time.sleep(300)
"""


@pytest.mark.parametrize("code",
                         [STUBBORN, STUBBORN.replace("signal.signal(signal.SIGTERM, signal.SIG_IGN)", "")])
def test_a_cancel_leaves_no_process(jobs, workers, tmp_path, code):
    job = jobs.submit("python", {"code": code}, "ann")
    workers()
    until(lambda: (tmp_path / "pids").exists() and len((tmp_path / "pids").read_text().split()) == 2)
    pids = [(int(p), born(int(p))) for p in (tmp_path / "pids").read_text().split()]
    assert all(alive(*p) for p in pids)
    assert jobs.cancel(job.id, "ben").state in ("running", "cancelled")
    until(lambda: jobs.get(job.id).state == "cancelled")
    assert not any(alive(*p) for p in pids)
    ended = jobs.get(job.id)
    assert (ended.error, ended.cancelled_by) == ("cancelled by ben", "ben") and ended.finished is not None


def test_progress_and_result_come_from_events(jobs, tmp_path):
    events = [{"kind": "begin", "tasks": ["a", "b"]}, {"kind": "cell", "task": "a", "cell": 3, "cells": 4},
              {"kind": "done", "task": "a"},
              {"kind": "step", "task": "b", "done": 1, "total": 2, "text": "fold 2 token=abcdefgh"}]
    code = ("import json, sys, time\nout = open(sys.argv[1], 'a')\n"
            f"for e in {events!r}: print(json.dumps(e), file=out, flush=True); time.sleep(0.15)\n"
            "time.sleep(0.5)\nprint(json.dumps({'kind': 'end', 'run': 'abc', 'report': 'r.html'}), file=out, "
            "flush=True)\n"
            "print('x' * 300_000)\nprint('last words')")
    job, seen, stop = jobs.submit("python", {"code": code}, "ann"), [], threading.Event()
    thread = threading.Thread(target=worked, args=(jobs, job.id))
    thread.start()
    while thread.is_alive():
        seen.append(jobs.get(job.id).progress)
        stop.wait(0.05)
    percents = [p["percent"] for p in seen if p.get("percent") is not None]
    assert percents == sorted(percents) and 75.0 in percents
    assert {"percent": 75.0, "done": 1, "total": 2,
            "message": "b: 1 of 2 steps: fold 2 token=[hidden]"} in seen
    ended = jobs.get(job.id)
    assert (ended.progress["percent"], ended.result) == (100.0, {"run": "abc", "report": "r.html"})
    tail = jobs.tail(job.id, 1_000)
    assert tail.endswith("last words\n") and len(tail) == 1_000
    assert sum(p.stat().st_size for p in (jobs.folder / job.id / "1").glob("log*")) < 900_000


@pytest.fixture
def terminal(monkeypatch):
    """What the command line says when it refuses: terminal("run", ...); it refuses before it does
    anything."""
    from mlfin.core.settings import load_settings
    from mlfin.cli.app import app

    root, before = WORKER.parents[2], dict(os.environ)

    def said(command, *words):
        error = CliRunner().invoke(app, [command, "--profile", "test", *words]).exception
        assert isinstance(error, MlfinError), error
        return str(error)
    monkeypatch.chdir(root)
    said.settings = load_settings("test", root=root)
    yield said
    os.environ.clear()
    os.environ.update(before)


def refused(order, settings, parameters) -> str:
    with pytest.raises(MlfinError) as caught:
        order(settings, parameters)
    return str(caught.value)


@pytest.mark.parametrize("parameters, words", [
    ({"lable": "fwd_ret_5"}, ["-p", "lable=fwd_ret_5"]), ({"symbols": "IBM"}, ["-p", "symbols=IBM"]),
    ({"symbols": []}, ["-p", "symbols=[]"]), ({"models": ["xgbost"]}, ["-p", "models=[xgbost]"]),
    ({"label": "fwd_ret_x"}, ["-p", "label=fwd_ret_x"]), ({"seed": None}, ["-p", "seed=null"]),
    ({"labels": []}, ["-p", "labels=[]"]), ({"labels": ["x"]}, ["-p", "labels=[x]"]),
    ({"label": "fwd_ret_5", "labels": ["next_close"]},
     ["-p", "label=fwd_ret_5", "-p", "labels=[next_close]"]),
    ({"folds": 0}, ["-p", "folds=0"]), ({"experiment": "../x"}, ["--experiment", "../x"]),
    ({"rule": "yolo"}, ["-p", "rule=yolo"]), ({"profile": "production"}, ["-p", "profile=production"]),
    ({"features": ["rsi_x"]}, ["-p", "features=[rsi_x]"])])
def test_a_bad_question_is_refused_as_at_a_terminal(terminal, parameters, words):
    assert refused(order_train, terminal.settings, parameters) == terminal("run", *words)


@pytest.mark.parametrize("parameters, words", [
    ({"start": "soon"}, ["--start", "soon"]), ({"timeframes": ["7m"]}, ["-t", "7m"]),
    ({"source": "yahooo"}, ["yahooo"])])
def test_a_bad_ingest_is_refused_as_at_a_terminal(terminal, parameters, words):
    assert refused(order_ingest, terminal.settings, parameters) == terminal("ingest", *words)


@pytest.mark.parametrize("order, parameters", [
    (order_ingest, {"source": "csv", "path": "/etc/passwd"}),
    (order_ingest, {"source": "csv", "path": "../../x.csv"}), (order_ingest, {"source": "csv"}),
    (order_ingest, {"source": "sql", "path": "postgresql://ann:pw@db/x"}),
    (order_ingest, {"source": "ccxt", "path": "--help"}), (order_ingest, {"symbols": ["--store=/tmp"]}),
    (order_ingest, {"symbols": "IBM"}), (order_ingest, {"store": "/tmp/x"}), (order_ingest, {"tz": "x; rm"}),
    (order_ingest, {"full": "yes"}), (order_ingest, {"source": ["csv"], "path": "x"}),
    (order_train, {"source": "csv", "path": "/etc/passwd"}), (order_train, {"force": 1}),
    (order_train, {"a=b": 1}), (order_train, {"--force": True}), (order_train, {"label": "a\0b"}),
    *((order_train, {"window": window})
      for window in ("0D", "-3D", "NaN", "NaT", f"{10**9}D", "inf", "730", 730, True, ["730D"])),
    (order_train, {"label": object()}), (order_train, {"labels": ["../x"]}),
    (order_train, {"labels": [f"fwd_ret_{n}" for n in range(1, 1001)]})])
def test_what_only_an_attacker_asks_is_refused(jobs, order, parameters):
    assert refused(order, jobs.settings, parameters)


def test_a_value_reaches_the_command_as_it_was_given(jobs):
    from mlfin.runs.question import parse_assignment

    for value in ("NO", "1e5", "a: b", "#x", "x...", "'", '"', "\n", "é\u2028", ["NO", "on", "0700"], 1e-5, 3,
                  [1.5], "-p", "$(id)", "..."):
        assert parse_assignment(orders._assignment("key", value)) == ("key", value)


def test_a_queue_that_is_full_or_broken_says_so(jobs, monkeypatch):
    monkeypatch.setattr(module, "_WAITING", 2)
    one = jobs.submit("note", {"n": 1}, "ann")
    assert jobs.submit("note", {"n": 1}, "ann").id == one.id  # pressed twice
    jobs.submit("note", {"n": 2}, "ann")
    with pytest.raises(DataError, match="2 jobs wait already"):
        jobs.submit("note", {"n": 3}, "ann")
    with pytest.raises(ParameterError, match="the id of a job"):
        jobs.get("nope")
    with pytest.raises(ParameterError, match="did you mean `train`"):
        jobs.submit("trian", {}, "ann")
    jobs.path.write_text("no database " * 1000)
    with pytest.raises(DataError, match="cannot be used"):
        jobs.counts()
    stop, errors = threading.Event(), []
    jobs.run_worker(stop, on_error=lambda e: (errors.append(e), stop.set()), poll=0.01)
    assert len(errors) == 1


def test_old_jobs_are_forgotten_with_their_folders(jobs):
    jobs.keep = 2
    names = [jobs.submit("note", {"n": n}, "ann").id for n in range(4)]
    worked(jobs, *names)
    until(lambda: len(jobs.list()) == 2, 5)
    assert [j.id for j in jobs.list()] == names[:1:-1]
    assert sorted(p.name for p in jobs.folder.iterdir() if p.is_dir()) == sorted(names[2:])


def test_a_command_that_is_not_there(jobs, monkeypatch):
    orders.register_kind("nothing", lambda s, p: orders.Order(["no-such-program"], None))
    ended = worked(jobs, jobs.submit("nothing", {}, "ann").id)
    assert (ended.state, ended.error) == ("failed",
                                          "no-such-program could not be started: No such file or directory")


def test_a_real_ingest(jobs):
    jobs.settings.root.joinpath("data", "bars.csv").write_text(
        "symbol,ts,open,high,low,close,volume\n" + "".join(
            f"COIN,2024-01-{d:02},1,2,1,{1 + d / 100},5\n" for d in range(1, 29)))
    job = jobs.submit("ingest",
                      {"source": "csv", "path": "data/bars.csv", "timeframes": ["1d"], "tz": "UTC"}, "ann")
    ended = worked(jobs, job.id, seconds=120)
    assert ended.state == "succeeded", (ended, jobs.tail(job.id))
    assert ended.result["inserted"] == 28 and not ended.result["failed"]
    assert ended.progress["percent"] == 100.0
    assert len(open_store(jobs.settings).read(["COIN"])) == 28


@pytest.mark.slow
def test_kills_by_the_dozen_lose_and_repeat_nothing(jobs, workers, tmp_path):
    """Twelve times `kill -9` of whoever looks after the jobs, while they run: each job runs once to its
    end."""
    import random

    random.seed(5)
    code = "import time\nopen('began', 'a').write('{0} ')\ntime.sleep({1})\nopen('over', 'a').write('{0} ')"
    asked = [{"code": code.format(n, 0.2 + n % 5 / 5), "lane": f"lane {n % 4}", "light": n % 5 == 0}
             for n in range(40)]
    names = [jobs.submit("python", one, f"u{n % 3}", f"u{n % 3}").id for n, one in enumerate(asked)]
    for _ in range(12):
        (worker,) = workers()
        time.sleep(random.uniform(0.1, 1.5))
        worker.kill()
        worker.wait()
    workers(2, 300)
    until(lambda: jobs.counts()["queued"] + jobs.counts()["running"] == 0, 300)
    assert {jobs.get(n).state for n in names} == {"succeeded"}
    assert sorted(map(int, (tmp_path / "over").read_text().split())) == list(range(40))
    # a worker that died before its job began: that one begins anew
    again = sum(jobs.get(n).attempt - 1 for n in names)
    assert len((tmp_path / "began").read_text().split()) == 40, again


@pytest.mark.slow
def test_a_real_run_killed_and_taken_up():
    """The project itself, in an experiment of its own: `kill -9` of the whole job; it begins again and goes
    on where it stopped."""
    import shutil

    from mlfin.core.settings import load_settings
    from mlfin.registry.registry import model_versions, read_manifest

    settings = load_settings("test", root=WORKER.parents[2])
    jobs = Jobs(settings)
    places = settings.data_dir("jobs_test"), settings.reports_dir("jobs_test"), jobs.folder
    for place in places:
        shutil.rmtree(place, ignore_errors=True)
    job = jobs.submit("train", {"experiment": "jobs_test", "symbols": ["IBM"], "start": "2012-01-01",
                                "models": ["logistic"], "folds": 2}, "ann")
    stop = threading.Event()
    thread = threading.Thread(target=jobs.run_worker, args=(stop,), kwargs={"poll": 0.1})
    thread.start()
    try:
        until(lambda: jobs.get(job.id).progress.get("done", 0) >= 1, 300)
        who = read_event(jobs.folder / job.id / "1", "started")
        os.killpg(who["pid"], signal.SIGKILL)
        until(lambda: jobs.get(job.id).state in module.ENDED, 500)
    finally:
        stop.set()
        thread.join(20)
    ended = jobs.get(job.id)
    assert (ended.state, ended.attempt) == ("succeeded", 2), (ended, jobs.tail(job.id))
    assert (settings.root / ended.result["report"]).is_file()
    assert ended.result["run"] == Path(ended.result["folder"]).name
    again = [json.loads(line)
             for line in (jobs.folder / job.id / "2" / "events.jsonl").read_text().splitlines()]
    assert "ingest" not in next(e["tasks"] for e in again if e["kind"] == "begin")  # it was done before
    assert len(jobs.tail(job.id)) > 0
    known = {v.number for v in model_versions(settings, "jobs_test")}
    # nothing came in: it is judged as it is
    again = worked(jobs, jobs.submit("train", {"experiment": "jobs_test"}, "ann").id, seconds=500)
    assert again.state == "succeeded", (again, jobs.tail(again.id))
    assert ((again.result["run"], again.result["promoted"], again.result["executed"])
            == (ended.result["run"], False, []))
    made = again.result["version"]
    assert {v.number for v in model_versions(settings, "jobs_test")} == known | {made}
    assert read_manifest(settings, "jobs_test", made)["run"]["run"] == ended.result["run"]
    assert "gate" in again.result and again.result["report"] is None
    for place in places:
        shutil.rmtree(place)
