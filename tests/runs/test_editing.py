"""A run survives its author's editing: it executes the code that stood when it began."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mlfin
from mlfin.core.provenance import hash_file
from mlfin.runs.pipeline import run
from mlfin.runs.plan import describe_tasks, make_plan, read_run
from mlfin.runs.question import read_question

PACKAGE = Path(mlfin.__file__).parent
WAITS = ("task.write('data', pd.DataFrame({'x': [float(i) for i in range(n)]}))\nopen('begun', 'w').close()\n"
         "while not os.path.exists('go on'): time.sleep(0.02)")
TOTAL = ("import subprocess, sys\nfrom mlfin.core.later_word import WORD\n"
         "child = subprocess.run([sys.executable, '-c', 'from mlfin.core.later_word import WORD; "
         "print(WORD)'], capture_output=True, text=True)\n"
         "assert child.stdout.strip() == WORD or os.environ.get('PYTHONSAFEPATH') is None, child\n"
         "task.write('data', {'total': factor * float(task.read('numbers', 'data').x.sum()), 'word': WORD})")


@pytest.fixture
def house(project):
    "The project with a package of its own, so that a test may edit both."
    shutil.copytree(PACKAGE, project.root / "mlfin", ignore=lambda folder, names: [
        n for n in names if n in ("builtin", "serve", "viz", "models", "monitor")
        and not folder.endswith("__pycache__") and n != "models"])
    (project.root / "mlfin/core/later_word.py").write_text("WORD = 'first'\n")
    project.write("numbers", WAITS)
    project.write("total", TOTAL)
    return project


def start(house, executor, *more):
    code = "import sys; from mlfin.cli.app import main; main(sys.argv[1:])"
    words = ["run", "--profile", "test", "-p", "kernel=python3", "-p", f"executor={executor}", *more]
    return subprocess.Popen([sys.executable, "-c", code, *words], cwd=house.root, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True,
                            env={**os.environ, "PYTHONPATH": str(house.root)})


def wait_for(path, process, seconds=120):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end and process.poll() is None, (
            f"{path.name} did not appear: {process.stdout.read() if process.poll() is not None else ''}")
        time.sleep(0.02)


def edit(house):
    "What an author does beside a run: saves modules and notebooks, in one of them half a line, and exports."
    (house.root / "mlfin/core/later_word.py").write_text("WORD = 'second'\n")
    (house.root / "mlfin/core/provenance.py").write_text("this is no Python\n")
    house.write("total", "raise ValueError('edited')")
    (house.root / "pipeline.yaml").write_text("tasks: [")
    (house.root / "env.yaml").write_text("n: [")


@pytest.mark.parametrize("executor", ["papermill", pytest.param("ploomber-engine", marks=pytest.mark.slow)])
def test_what_is_edited_while_a_run_goes_on_costs_nothing(house, executor):
    before = {p: (house.root / p).read_text()
              for p in ("mlfin/core/provenance.py", "pipeline.yaml", "env.yaml")}
    process = start(house, executor)
    wait_for(house.root / "begun", process)
    edit(house)
    (house.root / "go on").touch()
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    made = json.loads((house.root / ".mlfin/test/default/total.json").read_text())
    assert (made["total"], made["word"]) == (12.0, "first")
    for name, text in before.items(): (house.root / name).write_text(text)
    (house.root / "mlfin/core/later_word.py").write_text("WORD = 'first'\n")
    house.write("total", TOTAL)
    kept = hash_file(house.root / ".mlfin/test/default/total.json")
    process = start(house, executor)
    # its keys are those of the code that it ran
    assert "Nothing to do" in process.communicate(timeout=100)[0]
    assert hash_file(house.root / ".mlfin/test/default/total.json") == kept


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_nothing_that_blocks(house):
    process = start(house, "papermill")
    wait_for(house.root / "begun", process)
    code = house.root / ".mlfin/cache/code"
    assert len([p for p in code.iterdir() if p.is_dir()]) == 1
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (house.root / "go on").touch()
    # another snapshot; the first one is nobody's
    (house.root / "mlfin/core/later_word.py").write_text("WORD = 'second'\n")
    process = start(house, "papermill")
    assert process.wait(200) == 0
    assert len([p for p in code.iterdir() if p.is_dir()]) == 1 and not list(code.glob("?*.lock"))
    assert json.loads((house.root / ".mlfin/test/default/total.json").read_text())["word"] == "second"


def test_each_task_says_what_it_was_made_by(project):
    first = run(read_question(project.root), project.settings)
    second = run(read_question(project.root, ("factor=3",)), project.settings)
    told = {t["task"]: t
            for t in describe_tasks(make_plan(read_question(project.root, ("factor=3",)), project.settings))}
    assert (told["numbers"]["run"], told["total"]["run"]) == (first.run_id, second.run_id)
    assert all(t["state"] == "fresh" and not t["why"] and t["code"] and t["at"] for t in told.values())
    assert read_run(second.folder)["when"]["code"] == told["total"]["code"]
    told = {t["task"]: t for t in describe_tasks(make_plan(read_question(project.root), project.settings))}
    assert told["total"]["why"] == "parameter factor changed: 3 -> 2"
    assert told["total"]["run"] == second.run_id
    project.write("total", "raise ValueError('no')")
    with pytest.raises(Exception, match="no"): run(read_question(project.root, ("n=5",)), project.settings)
    told = {t["task"]: t
            for t in describe_tasks(make_plan(read_question(project.root, ("n=5",)), project.settings))}
    assert told["numbers"]["state"] == "finished, not yet published"
    assert told["numbers"]["run"] not in (first.run_id, second.run_id, None)


def test_ploomber_looks_at_modules_and_a_run_does_not(project):
    "An edit that changes no key: Ploomber alone would run both tasks; a run that has one to do runs one."
    (project.root / "words.txt").write_text("one")
    pipeline = project.root / "pipeline.yaml"
    pipeline.write_text(pipeline.read_text().replace("params: {n: '{{n}}'}",
                                                     "params: {n: '{{n}}', resources_: {words: words.txt}}"))
    path = project.root / "numbers.ipynb"
    path.write_text(path.read_text().replace("n = None", "n = None\\nresources_ = None", 1))
    run(read_question(project.root), project.settings)
    (project.root / "words.txt").write_text("two")
    assert run(read_question(project.root, ("factor=3",)), project.settings).executed == ("total",)
