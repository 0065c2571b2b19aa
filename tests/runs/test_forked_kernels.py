"""Kernels that are forks compute what fresh ones compute, leave nothing behind, and are given up where a fork
is not safe."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager

from mlfin.core.provenance import package_library
from mlfin.runs import forked_kernels
from mlfin.runs.forked_kernels import PRELOADED, ForkingProvisioner, KernelForks, kernel_forks
from mlfin.runs.pipeline import run
from mlfin.runs.question import read_question
from mlfin.runs.temporary_project import temporary_project

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")


def is_alive(pid):
    """Whether a process runs; one that has ended and is not yet collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pids, seconds=10):
    """Whether processes end in time."""
    until = time.monotonic() + seconds
    while any(map(is_alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(is_alive, pids))


def begin(forks):
    """A kernel as papermill starts it, without a notebook: its manager, and a client that it has answered."""
    manager = KernelManager(kernel_name="mlfin-cpu")
    manager.provisioner = ForkingProvisioner(
        kernel_id="test", kernel_spec=manager.kernel_spec, parent=manager
    )
    manager.provisioner.forks = forks
    manager.start_kernel()
    client = manager.blocking_client()
    client.start_channels()
    client.kernel_info()
    assert client.get_shell_msg(timeout=30)["content"]["status"] == "ok"
    return manager, client


def end(manager, client):
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


def test_what_is_imported_before_the_fork_starts_no_thread_no_jax_and_no_gpu():
    reached = package_library().modules()
    code = (
        "import json, sys\nfrom mlfin.runs.forked_kernels import count_threads, import_all\n"
        "absent = import_all(json.loads(sys.argv[1]))\n"
        "print(json.dumps([count_threads(), absent, sorted({'jax', 'keras', 'torch', 'tensorflow'} "
        "& sys.modules.keys()), 'cupy' in sys.modules]))"
    )
    env = os.environ | {"JE_ARROW_MALLOC_CONF": "background_thread:false", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([*PRELOADED, *reached])],
        capture_output=True,
        text=True,
        env=env,
    )
    threads, absent, heavy, gpu = json.loads(done.stdout or "[]") or [done.stderr]
    assert (threads, heavy, gpu) == (1, [], False)
    assert not set(absent) & {"pandas", "sklearn.ensemble", "xgboost", "lightgbm", "skops.io"}, absent


@pytest.mark.parametrize(
    "text, forked",
    [
        ("import threading as t, time\nt.Thread(target=time.sleep, args=(60,), daemon=True).start()", False),
        ("import os\nos._exit(3)", False),
        ("print('hello')", False),
        ("import subprocess\nsubprocess.run(['echo', 'hello'])", False),
        ("import no_such_library", True),
        ("raise ValueError('broken')", True),
        ("raise SystemExit(3)", True),
        ("raise BrokenPipeError", True),
    ],
    ids=["thread", "end", "print", "process that prints", "not installed", "error", "exit", "pipe"],
)
def test_where_a_fork_is_not_safe_a_kernel_starts_afresh(tmp_path, monkeypatch, text, forked):
    """It is asked for once the module was imported; a module that cannot be imported stops nothing."""
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'reached')!r}, 'w').close()\n{text}")
    env = os.environ | KernelManager(kernel_name="mlfin-cpu").kernel_spec.env
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *filter(None, [env.get("PYTHONPATH")])])
    monkeypatch.setattr(forked_kernels, "PRELOADED", ("ipykernel.kernelapp",))
    forks = KernelForks(sys.executable, env, ["planted"])
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", str(tmp_path / "kernel.json")]
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "reached").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        process = forks.fork(command, env, str(tmp_path))
        assert (process is not None) == forked and forks.lost != forked
        if forked:
            process.kill()  # at once: it may have no process group of its own yet
            assert process.wait(10) == 0
    finally:
        forks.close()


def test_an_import_that_hangs_holds_up_no_kernel_and_forks_none_later(tmp_path, monkeypatch):
    """A request that is read too late is refused: its kernel would take the ports of the one that runs."""
    (tmp_path / "planted.py").write_text("import time\ntime.sleep(4)")
    monkeypatch.setattr(forked_kernels, "PRELOADED", ())
    monkeypatch.setattr(forked_kernels, "_PATIENCE", 1.5)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": path}
    forks = KernelForks(sys.executable, env, ["planted"])
    time.sleep(1.5)  # it has begun to import
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", str(tmp_path / "kernel.json")]
    began = time.monotonic()
    assert forks.fork(command, env, str(tmp_path)) is None and time.monotonic() - began < 3
    forks.link.settimeout(20)
    assert forks.link.recv(64) == b"0"
    forks.close()


def test_a_working_directory_that_is_gone_is_left_to_a_new_interpreter(tmp_path):
    forks = KernelForks(sys.executable, dict(os.environ), [])
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", str(tmp_path / "kernel.json")]
    assert forks.fork(command, dict(os.environ), str(tmp_path / "gone")) is None and not forks.lost
    forks.close()


def test_what_an_import_sets_in_the_environment_stays_set():
    with kernel_forks("mlfin-cpu", []) as forks:
        manager, client = begin(forks)
        client.execute(
            "import os, sklearn\nprint(os.environ['KMP_INIT_AT_FORK'], os.environ['JPY_PARENT_PID'])"
        )
        said = ""
        until = time.monotonic() + 60
        while "\n" not in said and time.monotonic() < until:
            message = client.get_iopub_msg(timeout=60)
            said += message["content"].get("text", "") if message["msg_type"] == "stream" else ""
        assert said.split() == ["FALSE", str(forks.process.pid)]
        end(manager, client)


def test_an_environment_that_is_too_large_to_be_sent_starts_a_kernel_afresh(tmp_path):
    env = os.environ | {f"LONG_{k}": "x" * 100_000 for k in range(8)}
    forks = KernelForks(sys.executable, env, [])
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", str(tmp_path / "kernel.json")]
    assert forks.fork(command, env, str(tmp_path)) is None and forks.lost
    forks.close()


def test_the_run_ends_and_no_kernel_is_left():
    with kernel_forks("mlfin-cpu", []) as forks:
        manager, client = begin(forks)
        pids = [manager.provisioner.pid, forks.process.pid]
        assert all(map(is_alive, pids)) and manager.provisioner.process.poll() is None
        client.stop_channels()
    assert gone(pids) and manager.provisioner.process.wait(5) == 0
    manager.cleanup_resources()


def test_a_run_that_is_killed_leaves_neither_kernel_nor_forking_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time\nfrom tests.runs.test_forked_kernels import begin, kernel_forks\n"
        "with kernel_forks('mlfin-cpu', []) as forks:\n"
        "    manager, client = begin(forks)\n"
        "    print(manager.provisioner.pid, forks.process.pid, flush=True)\n    time.sleep(60)\n"
    )
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    pids = list(map(int, process.stdout.readline().split()))
    assert len(pids) == 2 and all(map(is_alive, pids))
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert gone(pids), pids


def test_a_kernel_ends_with_the_process_that_forked_it():
    with kernel_forks("mlfin-cpu", []) as forks:
        manager, client = begin(forks)
        forks.process.kill()
        assert gone([manager.provisioner.pid])
        end(manager, client)
        manager, client = begin(forks)  # afresh
        assert forks.lost and isinstance(manager.provisioner.process, subprocess.Popen)
        end(manager, client)


@pytest.mark.slow
def test_five_hundred_kernels_in_a_row_start_and_answer():
    with kernel_forks("mlfin-cpu", package_library().modules()) as forks:
        for _ in range(500):
            end(*begin(forks))
        assert not forks.lost


@pytest.mark.slow
def test_all_products_of_the_main_job_are_those_of_fresh_kernels_byte_by_byte():
    found = []
    with temporary_project() as settings:
        for forked in (True, False):
            done = run(
                read_question(settings.root),
                settings.model_copy(update={"fork_kernels": forked}),
                force=True,
            )
            tasks = json.loads((done.folder / "run.json").read_text())["tasks"]
            found.append(
                {(t, p): v["hash"] for t, made in tasks.items() for p, v in made["products"].items()}
            )
    assert found[0] == found[1] and len(found[0]) > 60
