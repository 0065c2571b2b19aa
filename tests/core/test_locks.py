"""File locks between processes and threads: one holder at a time, gone with its process, named to whoever is
kept out."""
import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mlfin.core.errors import DataError, PipelineError
from mlfin.core.locks import (
    BusyError,
    Holder,
    experiment_holder,
    experiment_lock,
    file_lock,
    is_locked,
    noted_lock,
)
from mlfin.core.settings import load_settings

ROOT = Path(__file__).parents[2]
# filelock then takes its soft lock; on Windows it has one of its own
WITHOUT_UNIX = "import sys; sys.modules['fcntl'] = None\n"
TAKE = ("from mlfin.core.locks import file_lock; lock = file_lock({!r}); lock.acquire(); print('held', "
        "flush=True); input()")


@pytest.fixture
def path(tmp_path): return tmp_path / "lock"


@pytest.fixture
def elsewhere():
    "Runs code in another process and waits for its first line."
    begun = []

    def begin(code):
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        begun.append(process)
        assert process.stdout.readline() == "held\n"
        return process
    yield begin
    for process in begun:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("unix", [True, False])
def test_a_lock_is_held_by_one_until_it_is_released(path, unix):
    script = ("" if unix else WITHOUT_UNIX) + f"""
from mlfin.core.locks import file_lock
first, second = file_lock({str(path)!r}), file_lock({str(path)!r}, timeout=0)
first.acquire()
try: second.acquire()
except TimeoutError: print("held", end=" ")
first.release()
with second: print("let go")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "held let go", done.stderr[-2000:]


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_a_lock_goes_with_its_process(path, elsewhere, end):
    other = elsewhere(TAKE.format(str(path)))
    assert is_locked(path)
    with pytest.raises(TimeoutError), file_lock(path, timeout=0): pass
    getattr(other, end)()
    with file_lock(path, timeout=10): pass
    assert path.is_file() and not is_locked(path)


def test_a_forked_child_keeps_no_lock_alive(path, elsewhere):
    "A worker that outlives who forked it."
    code = TAKE.format(str(path)).replace(
        "print('held'", "import os, time; pid = os.fork(); pid or time.sleep(8); print('held'"
    )
    other = elsewhere(code)
    other.kill()
    with file_lock(path, timeout=2): pass


def test_who_waits_gets_it_in_time_or_gives_up_in_time(path):
    lock, began = file_lock(path), time.monotonic()
    with lock:
        with pytest.raises(TimeoutError), file_lock(path, timeout=0.2): pass
        assert 0.2 <= time.monotonic() - began < 2
        threading.Timer(0.2, lock.release).start()                         # another thread lets go of it
        with file_lock(path, timeout=5): pass
    assert not is_locked(path)


def test_threads_take_turns(path):
    seen, inside = [], []

    def work():
        for _ in range(20):
            with file_lock(path):
                inside.append(1)
                seen.append(len(inside))
                time.sleep(0.0005)
                inside.pop()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert seen == [1] * 80


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows keeps no such bits")
def test_the_file_is_its_owners_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        with file_lock(tmp_path / "lock"): pass
        with experiment_lock(load_settings("test").model_copy(update={"root": tmp_path}), "trend"): pass
    finally: os.umask(before)
    for found in (tmp_path / "lock", *tmp_path.rglob("*.lock")):
        assert stat.S_IMODE(found.stat().st_mode) == 0o600


def test_what_the_file_holds_is_left_alone_and_a_link_is_refused(path):
    path.write_text("kept")
    with file_lock(path): pass
    assert path.read_text() == "kept"
    path.with_name("link").symlink_to(path)
    with pytest.raises(OSError), file_lock(path.with_name("link"), timeout=0.1): pass


def test_one_that_is_swept_while_it_is_held_excludes_nobody_and_is_made_anew(path):
    with file_lock(path):
        path.unlink()
        with file_lock(path, timeout=1): assert path.is_file()


def test_to_wait_for_oneself_is_refused_instead_of_waiting_for_ever(path):
    with file_lock(path):
        with pytest.raises(RuntimeError, match="Deadlock"), file_lock(path): pass


def test_a_note_is_of_its_holder_and_gone_with_him(path):
    with noted_lock(path) as note:
        note("a long first note")
        note("short")
        assert path.read_text() == "short"
        with pytest.raises(TimeoutError), noted_lock(path): pass
        assert path.read_text() == "short"
    assert path.read_text() == ""


def test_who_runs_an_experiment_is_told_also_after_a_kill(tmp_path, elsewhere):
    settings = load_settings("test", ROOT).model_copy(update={"root": tmp_path})
    code = (f"from pathlib import Path\nfrom mlfin.core.locks import experiment_lock\n"
            f"from mlfin.core.settings import load_settings\n"
            f"with experiment_lock(load_settings('test').model_copy(update={{'root': "
            f"Path({str(tmp_path)!r})}}), 'trend'):\n"
            f"    print('held', flush=True); input()")
    assert experiment_holder(settings, "trend") is None
    other = elsewhere(code)
    assert f"process {other.pid} on" in experiment_holder(settings, "trend").by
    with pytest.raises(BusyError, match=f"being run by another process: since 20.*process {other.pid} on"):
        with experiment_lock(settings, "trend"): pass
    other.kill()
    other.wait()
    assert experiment_holder(settings, "trend") is None  # the note is still there, the holder is not
    with experiment_lock(settings, "trend"):
        assert f"process {os.getpid()}" in experiment_holder(settings, "trend").by
    assert issubclass(BusyError, PipelineError)


@pytest.mark.parametrize(
    "note", ["", "{", "[]", json.dumps({"since": "x", "by": 1}), json.dumps({"since": 1e300, "by": "ann"})]
)
def test_a_note_that_cannot_be_read_names_nobody(tmp_path, note):
    settings = load_settings("test", ROOT).model_copy(update={"root": tmp_path})
    path = settings.data_dir("trend").with_name("trend.lock")
    path.parent.mkdir(parents=True)
    with noted_lock(path) as write:
        write(note)
        assert experiment_holder(settings, "trend") == Holder() and str(Holder()) == "by another process"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(DataError, match="cannot be written to"):
            with experiment_lock(load_settings("test", ROOT).model_copy(update={"root": tmp_path}), "trend"):
                pass
    finally: tmp_path.chmod(0o700)
