"""Set-up, kernels and targets say what they are and fail with a remedy."""
import json
import os
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

from ..conftest import _LONG, _TOGETHER


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_kernels_fix_what_decides_a_result(root, kind):
    spec = json.loads((root / f"env/kernels/mlfin-{kind}/kernel.json").read_text())
    assert spec["argv"][0] == "python" and kind.upper() in spec["display_name"]
    expected = {
        "KERAS_BACKEND": "jax",
        "OMP_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PLOOMBER_STATS_ENABLED": "false",
        "PLOTLY_RENDERER": "plotly_mimetype",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "",
    }
    assert expected.items() <= spec["env"].items()
    assert (spec["env"].get("CUDA_VISIBLE_DEVICES") == "") == (kind == "cpu")


@pytest.mark.parametrize(
    "environment, message",
    [
        (
            {"MLFIN_PYTHON": "no-such-python"},
            "needs Python 3.11, 3.12 or 3.13, found none at MLFIN_PYTHON=no-such-python",
        ),
        ({"MLFIN_INSTALLER": "conda"}, "MLFIN_INSTALLER must be uv or pip, got conda"),
    ],
)
def test_setup_says_what_it_cannot_do(root, tmp_path, environment, message):
    shutil.copytree(root / "env", tmp_path / "env")
    done = subprocess.run(
        ["env/setup"], cwd=tmp_path, capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 1 and message in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_setup_needs_a_lock(root, tmp_path):
    shutil.copytree(root / "env", tmp_path / "env", ignore=shutil.ignore_patterns("*.lock"))
    done = subprocess.run(["env/setup"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "Hint: make lock" in done.stderr


def test_temporary_files_in_memory_are_gone_afterwards_and_the_exit_code_stays(root):
    code = "import os, sys, tempfile; print(tempfile.mkdtemp()); sys.exit(7)"
    done = subprocess.run(
        ["env/in-memory", sys.executable, "-c", code], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 7 and not done.stderr
    made = Path(done.stdout.strip())
    if made.is_relative_to("/dev/shm"):
        assert not made.parent.exists()
    else:  # no room for it there
        made.rmdir()


def test_what_pytest_begins_with_exists(root):
    assert all((root / name).is_file() for name in _LONG)
    assert all((root / "tests" / name).is_dir() for name in _TOGETHER)


def test_make_lists_its_targets(root):
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    for target in ("setup run test lab dash lock check soak soak-long bench profile hooks clean "
                   "distclean").split():
        assert f"make {target} " in shown


def test_what_ci_calls_can_be_called(root):
    for script in (".ci/run", "env/setup", "env/check", "env/lock", "env/bench", "env/install-services",
                   "env/in-memory"):
        assert os.access(root / script, os.X_OK), f"{script} cannot be run"
    assert ".ci/run" in (root / ".github/workflows/ci.yml").read_text()


def test_results_name_what_changed_by_a_tenth(root):
    """Figures of any table of a section are compared by measure; what is new or hardly moved is not named."""
    loader = SourceFileLoader("soak", str(root / "env/soak"))
    loader.exec_module(soak := module_from_spec(spec_from_loader("soak", loader)))
    head = "\n\n| measure | value | bound |\n|---|---|---|\n"
    before = f"_commit abc123, 2026 UTC, A, load 1_{head}| a | 1,000 | 5 |\n| b | 2.0 s | |"
    now = f"_commit def456, 2026 UTC, A, load 1_{head}| a | 1,200 | 5 |\n| b | 1.9 s | |\n| c | 3 | |"
    assert soak.changed(before, now) == "\n\nSince abc123: a: 1000 -> 1200 (1.20x)."
    assert soak.changed(before, before) == soak.changed("", now) == ""
    assert soak.changed(before, now.replace("UTC, A,", "UTC, B,")) == ""  # another machine
    slower = now.replace("1,200", "1,000").replace("1.9 s", "0 s")
    assert soak.changed(before, slower) == ""  # a ratio of nothing says nothing


def test_results_keep_a_history(root, tmp_path):
    """Each time that a section is made adds a line; the last values of one processor are shown in turn."""
    loader = SourceFileLoader("soak", str(root / "env/soak"))
    loader.exec_module(soak := module_from_spec(spec_from_loader("soak", loader)))
    history, head = tmp_path / "history.jsonl", "\n\n| measure | value | bound |\n|---|---|---|\n"

    def made(commit: str, processor: str, value: str) -> str:
        return (f"_commit {commit}, 2026-11-25 13:50 UTC, {processor}, load 1.5; 24 s_{head}"
                f"| read all, s | {value} | |\n| no number | - | |")
    for commit, processor, value in (("abc1", "A", "1,000"), ("abc2", "B", "9"), ("abc3", "A", "1,200")):
        soak.remember("lake", section := made(commit, processor, value), history)
    soak.remember("other", section, history)
    soak.remember("lake", "no benchmark printed anything", history)
    assert len(history.read_text().splitlines()) == 4
    told = soak.past("lake", section, history)
    assert "The last 2 times, abc1 (2026-11-25), abc3 (2026-11-25)" in told
    assert told.endswith("- read all, s: 1000, 1200")
    assert soak.past("lake", made("abc4", "B", "9"), history) == ""  # once says nothing
    assert soak.past("lake", section, tmp_path / "none") == ""
    assert soak.figures(section + told) == soak.figures(section)  # what is told is no table
