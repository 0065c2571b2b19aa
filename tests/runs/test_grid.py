"""A grid: one task a value, which runs when it must and no other for its sake; two kernels at a time; nothing
read that was not asked."""
import os
import signal
import subprocess
import sys
import time

import pytest

from mlfin.core.errors import ParameterError, PipelineError
from mlfin.core.provenance import read_json
from mlfin.runs.execution import _at_once
from mlfin.runs.pipeline import run
from mlfin.runs.plan import make_plan, read_run
from mlfin.runs.question import read_question
from mlfin.runs.reproduction import reproduce

from ..fixtures.small_project import NUMBERS, TASK, notebook

SCALE = "task.write('data', {'scaled': float(task.read('numbers', 'data').x.sum()) * len(by)})"
TOTAL = ("task.write('data', {'total': sum(task.read(name, 'data')['scaled'] for name in task.upstream), "
         "'of': list(task.upstream)})")


def write(project, name, body, parameters=(), task=None):
    text = notebook(name, parameters, body)
    (project.root / f"{name}.ipynb").write_text(text.replace(f"begin_task('{name}'",
                                                             f"begin_task('{task or name}'"))


@pytest.fixture
def grid(project):
    "numbers -> scale-a, scale-bb, ... -> total; scale-<by> multiplies by the length of its name."
    entries = TASK.format(name="numbers", upstream="", params="n: '{{n}}'", kind="parquet")
    scale = TASK.format(name="scale", upstream="numbers", params="", kind="json").replace(
        "name: scale", "name: scale-[[by]]")
    entries += scale.replace("scale.html",
                             "scale_[[by]].html").replace("scale.json", "scale_[[by]].json").replace(
                                 "}}/scale.ipynb", "}}/scale_[[by]].ipynb").replace(
                                     "    params:", "    grid: {by: '{{scales}}'}\n    params:")
    entries += TASK.format(name="total", upstream="scale-*", params="", kind="json")
    (project.root / "pipeline.yaml").write_text("meta: {extract_upstream: false, extract_product: false}\n"
                                                "tasks:\n" + entries)
    env = project.root / "env.yaml"
    env.write_text(env.read_text().replace("factor: 2", "scales: [a, bb]"))
    write(project, "numbers", NUMBERS, ["n"])
    write(project, "scale", SCALE, ["by"], "scale-[[by]]")
    write(project, "total", TOTAL)
    return project


def go(project, *assignments, **kwargs):
    return run(read_question(project.root, assignments), project.settings, **kwargs)


def data(project): return {p.name for p in (project.root / ".mlfin/test/default").glob("[!.]*")}


def test_one_value_more_costs_its_own_task_and_what_follows(grid):
    first = go(grid)
    assert first.executed == ("numbers", "scale-a", "scale-bb", "total") and grid.total() == 18.0
    record = read_run(first.folder)["tasks"]
    assert record["scale-bb"]["components"]["parameters"] == {"by": "bb"}
    assert set(record["total"]["components"]["upstream"]) == {"scale-a", "scale-bb"}
    assert len({task["key"] for task in record.values()}) == 4
    assert go(grid, "scales=[ccc,a,bb]").executed == ("scale-ccc", "total") and grid.total() == 36.0
    assert go(grid, "scales=[bb,ccc,a]").executed == ()  # their order is no matter
    assert set(reproduce(first.folder, grid.settings)["scale-a"].values()) == {"equal"}


def test_what_is_no_longer_asked_for_is_neither_read_nor_left_lying(grid):
    first = go(grid)
    kept = {"numbers.parquet", "scale_a.json", "scale_bb.json", "total.json"}
    assert data(grid) == kept and (grid.root / "reports/test/default/scale_bb.html").is_file()
    mine = grid.root / ".mlfin/test/default/scale_mine.json"
    mine.write_text('{"scaled": 1000}')
    assert go(grid, "scales=[a]").executed == ("total",) and grid.total() == 6.0
    assert read_json(grid.root / ".mlfin/test/default/total.json")["of"] == ["scale-a"]
    # what no run made is no run's to take
    assert data(grid) == {"numbers.parquet", "scale_a.json", "total.json", "scale_mine.json"}
    assert not list((grid.root / "reports/test/default").glob("scale_bb.*"))
    assert (first.folder / "data" / "scale_bb.json").is_file()


def test_the_notebook_changes_every_point_the_list_none(grid):
    go(grid)
    write(grid, "scale", SCALE + "\npass", ["by"], "scale-[[by]]")
    assert go(grid).executed == ("scale-a", "scale-bb", "total")


def test_what_a_broken_off_grid_completed_is_used(grid):
    write(grid, "scale", "if by == 'bb' and not os.path.exists('mended'): raise ValueError('no')\n" + SCALE,
          ["by"], "scale-[[by]]")
    with pytest.raises(PipelineError, match=r"Task `scale-bb` failed in cell \d+: ValueError: no\nNotebook: "
                                            r"reports/test/default/failed/scale_bb.ipynb"):
        go(grid)
    (grid.root / "mended").touch()
    assert go(grid).executed == ("scale-bb", "total") and grid.total() == 18.0


@pytest.mark.parametrize("scales", ["[a,a]", "[a/b]", "[..]", "[a,'']"])
def test_a_list_that_makes_no_tasks(grid, scales):
    with pytest.raises(ParameterError,
                       match="`scales` must be a list of plain names, at least one, each once"):
        go(grid, f"scales={scales}")
    assert not grid.files()


def test_plain_papermill_finds_the_point_by_its_parameter(grid, monkeypatch):
    import papermill
    go(grid)
    monkeypatch.setenv("MLFIN_PROFILE", "test")
    env = grid.root / "env.yaml"
    env.write_text(env.read_text().replace("profile: development", "profile: test"))
    before = (grid.root / ".mlfin/test/default/scale_bb.json").read_bytes()
    (grid.root / ".mlfin/test/default/scale_bb.json").unlink()
    papermill.execute_notebook("scale.ipynb", "out.ipynb", parameters={"by": "bb"}, kernel_name="python3",
                               progress_bar=False)
    assert (grid.root / ".mlfin/test/default/scale_bb.json").read_bytes() == before
    assert go(grid).executed == ()


TOGETHER = """open(f'began-{by}', 'w').close()
end = time.monotonic() + 60
while not all(os.path.exists(f'began-{k}') for k in ('a', 'bb')):
    assert time.monotonic() < end, 'alone'
    time.sleep(0.02)
"""


@pytest.mark.slow
def test_two_kernels_work_at_a_time(grid, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    go(grid)
    write(grid, "scale", TOGETHER + "if by == 'a' and not os.path.exists('mended'): raise ValueError('no')\n"
          + SCALE, ["by"], "scale-[[by]]")
    with pytest.raises(PipelineError, match="Task `scale-a` failed in cell .*ValueError: no"):
        go(grid, "executor=papermill")
    (grid.root / "mended").touch()
    done = go(grid)
    # what ran beside the failed one was not lost
    assert done.executed == ("scale-a", "total") and grid.total() == 18.0
    plan = make_plan(read_question(grid.root, ("executor=papermill",)), grid.settings)
    assert _at_once(plan) == 2
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert _at_once(plan) == 1
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    for one in ("executor=ploomber-engine", "kernel=mlfin-gpu"):
        assert _at_once(make_plan(read_question(grid.root, ("executor=papermill", one)), grid.settings)) == 1


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core: one kernel at a time")
@pytest.mark.slow
def test_ctrl_c_ends_both_kernels(grid):
    go(grid)
    before = {f: (grid.root / f).read_bytes() for f in grid.files()}
    write(grid, "scale", TOGETHER + "open(f'pid-{by}', 'w').write(str(os.getpid()))\ntime.sleep(100)",
          ["by"], "scale-[[by]]")
    script = "import sys; from mlfin.cli.app import main; main(sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", script, "run", "-p", "kernel=python3", "-p",
                                "executor=papermill"], cwd=grid.root,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "MLFIN_PROFILE": "test"})
    end = time.monotonic() + 90
    while len(list(grid.root.glob("pid-*"))) < 2:
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and said.count(
        "Interrupted.") == 1 and "goes on from here" in said and "Traceback" not in said, said
    for name in ("a", "bb"):
        with pytest.raises(ProcessLookupError):
            os.kill(int((grid.root / f"pid-{name}").read_text()), 0)
    assert all((grid.root / f).read_bytes() == content for f, content in before.items())
    write(grid, "scale", SCALE + "\npass", ["by"], "scale-[[by]]")
    assert go(grid).executed == ("scale-a", "scale-bb", "total") and grid.total() == 18.0


@pytest.mark.parametrize("together", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_sigterm_to_reproduce_leaves_no_kernel_and_nothing_half(grid, together):
    """A service manager ends a command with SIGTERM, which by itself would leave the kernel that it waits
    for."""
    wait = "if os.path.exists('slow'):\n    open('pid', 'w').write(str(os.getpid()))\n    time.sleep(100)\n"
    write(grid, "scale", wait + SCALE, ["by"], "scale-[[by]]")
    go(grid, "scales=[a]")
    (grid.root / "slow").touch()
    code = (f"import os, sys; os.cpu_count = lambda: {2 if together else 1}; from mlfin.cli.app import main; "
            f"main(sys.argv[1:])")
    record = next((grid.root / "reports/test/default/runs").glob("[!.]*/run.json"))
    record.write_text(record.read_text().replace('"ploomber-engine"', '"papermill"'))
    process = subprocess.Popen([sys.executable, "-c", code, "reproduce", "latest"], cwd=grid.root,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "MLFIN_PROFILE": "test"})
    end = time.monotonic() + 90
    while not (grid.root / "pid").is_file() or not (grid.root / "pid").read_text():
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and said.count("Interrupted.") == 1 and "Traceback" not in said, said
    with pytest.raises(ProcessLookupError):
        os.kill(int((grid.root / "pid").read_text()), 0)
    assert not list(grid.root.glob("*/test/.reproduce-*"))
