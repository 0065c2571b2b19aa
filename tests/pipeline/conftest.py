"""A project like the repository, in a folder of its own; a finished run of a small question, copied for each test that needs one."""
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from IPython.core.interactiveshell import InteractiveShell
from jupyter_client.kernelspec import KernelSpecManager

import mlfin
from mlfin.core.provenance import read_json
from mlfin.core.settings import load_settings
from mlfin.ops.cli import main

ROOT = Path(__file__).parents[2]
PACKAGE = Path(mlfin.__file__).parent
KERNEL = "mlfin-cpu" if "mlfin-cpu" in KernelSpecManager().find_kernel_specs() else "python3"
TASKS = ("ingest", "features", "train-logistic-fwd_ret_5", "compare", "backtest", "publish")
SMALL = {"models": "[logistic]", "folds": "3", "symbols": "[IBM,MSFT]", "start": "2006-01-03", "executor": "ploomber-engine", "kernel": KERNEL,
         "features": "[rsi_14, macd_12_26_9, returns, volume_ma_20]"}
DATA = "reports/test/default", ".mlfin/test/default"  # what is published: nothing here may be lost


def words(*more, **changes):
    "The words of `mlfin run` on the small question, changed and extended."
    return ["run", *(w for k, v in {**SMALL, **changes}.items() for w in ("-p", f"{k}={v}")), *more]


def minutes(rows, seed=1):
    "Bars of one minute from 2022-01-01 on, as a file holds them."
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 5e-4, rows)))
    opened = np.r_[100, close[:-1]]
    prices = {"open": opened, "high": np.maximum(opened, close) * 1.0001, "low": np.minimum(opened, close) * 0.9999, "close": close}
    times = pd.date_range("2022-01-01", periods=rows, freq="min").strftime("%Y-%m-%d %H:%M:%S")
    return pd.DataFrame({"timestamp": times, **{k: v.round(4) for k, v in prices.items()}, "volume": random.integers(1, 100, rows).astype(float)})


class Workbench:
    "A project's folder, and the command line in it: in this process (`here`) or in one of its own (`cli`)."

    def __init__(self, root, capsys=None):
        self.root, self.capsys = Path(root), capsys

    @classmethod
    def make(cls, root, capsys=None):
        root = Path(root)
        for name in ("pipeline.yaml", "env.yaml", "settings.ini", "env/requirements.lock"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
        shutil.copytree(ROOT / "nbs" / "pipeline", root / "nbs" / "pipeline", ignore=shutil.ignore_patterns(".*"))
        shutil.copytree(PACKAGE, root / "mlfin")  # with the compiled files: `pipeline.yaml` names its modules, and `python -c` imports it
        return cls(root, capsys)

    def here(self, *arguments):
        "Exit code, stdout and stderr of the command line, in this process."
        self.capsys.readouterr()
        try: code = main(list(arguments)) or 0
        except SystemExit as e: code = e.code or 0
        return code, *self.capsys.readouterr()

    def start(self, *arguments, program=("-c", "from mlfin.ops.cli import main; main()"), preexec_fn=None, **environment):
        known = {k: v for k, v in os.environ.items() if k not in ("MLFIN_ROOT", "MLFIN_STORE", "MLFIN_MLFLOW")}
        return subprocess.Popen([sys.executable, *program, *arguments], cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env={**known, "PYTHONPATH": str(self.root), **environment}, preexec_fn=preexec_fn)

    def cli(self, *arguments, seconds=300, **how):
        "Exit code, stdout and stderr of the command line, in a process of its own."
        process = self.start(*arguments, **how)
        try: out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            raise
        return process.returncode, out, err

    def data(self, name): return self.root / ".mlfin" / "test" / "default" / name

    def report(self, name): return self.root / "reports" / "test" / "default" / name

    def record(self): return read_json(self.report("run.json"))

    @property
    def settings(self): return load_settings("test", root=self.root)

    def published(self):
        "Hash of every published file and of the kept runs."
        found = [p for top in DATA for p in (self.root / top).rglob("*") if p.is_file() and p.name != "plotly.min.js"]
        return {p.relative_to(self.root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in found if "/failed/" not in p.as_posix()}

    def wait_for(self, pattern, process, seconds=60):
        end = time.monotonic() + seconds
        while not list(self.root.glob(pattern)):
            assert time.monotonic() < end and process.poll() is None, f"{pattern} did not appear"
            time.sleep(0.02)


@pytest.fixture(scope="session", autouse=True)
def one_tree_of_commands():
    "The command line's tree is built once, not for each command."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield


@contextmanager
def working_in(folder):
    "A folder as working directory; the process's environment is put back afterwards."
    before = dict(os.environ)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFIN_ROOT", raising=False)
        patch.chdir(folder)
        patch.setattr(InteractiveShell, "atexit_operations", lambda self: None)  # hundreds of shells would take a minute to tidy up
        try: yield folder
        finally:
            os.environ.clear()
            os.environ.update(before)


@pytest.fixture
def in_project(tmp_path):
    "The test's folder as working directory; the process's environment is put back afterwards."
    with working_in(tmp_path): yield tmp_path


@pytest.fixture
def workbench(in_project, capsys):
    "A project in which nothing ran yet."
    return Workbench.make(in_project, capsys)


@pytest.fixture(scope="session")
def first_run(tmp_path_factory):
    "A project in which the small question was answered: look, do not touch."
    root = tmp_path_factory.mktemp("first_run")
    bench, out, err = Workbench.make(root), StringIO(), StringIO()
    with working_in(root), redirect_stdout(out), redirect_stderr(err):
        try: code = main(words()) or 0
        except SystemExit as e: code = e.code or 0
    bench.said = code, out.getvalue(), err.getvalue()
    shutil.copytree(PACKAGE, root / "mlfin", dirs_exist_ok=True)  # what was compiled now need not be compiled by those who copy
    assert bench.said[0] == 0, bench.said[2]
    return bench


@pytest.fixture
def finished(first_run, in_project, capsys):
    "A copy of that project."
    shutil.copytree(first_run.root, in_project, dirs_exist_ok=True)
    return Workbench(in_project, capsys)
