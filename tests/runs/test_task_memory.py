"""Memory of a run: what cannot fit is refused by name, and what fits only alone runs alone."""

from types import SimpleNamespace

import pytest

from mlfin.core.errors import PipelineError
from mlfin.core.provenance import write_parquet
from mlfin.runs import task_memory
from mlfin.runs.execution import _executor
from mlfin.runs.task_memory import RunMemory, free_memory, need_of


def plan_of(folder, rows: int, run_mb: int):
    """A plan of two trainings on so many bars."""
    import pandas as pd
    write_parquet(pd.DataFrame({"ts": range(rows)}), folder / "bars.parquet")
    specs = {"ingest": SimpleNamespace(products={"bars": "bars.parquet"})}
    specs |= {f"train-{m}-fwd_ret_5": SimpleNamespace(products={}) for m in ("a", "b")}
    settings = SimpleNamespace(root=folder, run_mb=run_mb)
    question = {"features": ["rsi_14"] * 10}
    return SimpleNamespace(settings=settings, specs=specs, aside=specs, question=question)


class Tasks(dict):
    """What the executor asks of a DAG: two tasks that note when they begin and end."""
    def __init__(self, names, log):
        super().__init__({n: self.task(n, log) for n in names})

    def task(self, name, log):
        def build(catch_exceptions):
            log.append(f"begin {name}")
            log.append(f"end {name}")
            return name, None
        return SimpleNamespace(name=name, upstream={}, exec_status=None, _build=build)


def run(memory, log):
    """Run both trainings by the executor of a run."""
    names = [n for n in memory.plan.specs if n != "ingest"]
    return _executor(2, [], {}, memory)(Tasks(names, log), False)


def test_a_task_that_cannot_fit_is_refused_before_it_begins(tmp_path):
    log, need = [], need_of("train-a-fwd_ret_5", 1000, 14, 2)
    memory = RunMemory(plan_of(tmp_path, 1000, int(need)))
    assert memory.limit < need
    with pytest.raises(PipelineError, match=r"Task `train-a-fwd_ret_5` needs about .*\n.*-p start"):
        run(memory, log)
    assert log == []


def test_tasks_that_fit_only_alone_run_one_after_the_other(tmp_path, monkeypatch):
    log = []
    memory = RunMemory(plan_of(tmp_path, 1000, int(need_of("train-a-fwd_ret_5", 1000, 14, 2)) + 1))
    assert memory.fits("train-a-fwd_ret_5", [])
    assert not memory.fits("train-a-fwd_ret_5", ["train-b-fwd_ret_5"])
    assert len(run(memory, log)) == 2
    assert [x.split()[0] for x in log] == ["begin", "end"] * 2


def test_nothing_is_refused_before_bars_are_there(tmp_path):
    plan = plan_of(tmp_path, 10, 1)
    (tmp_path / "bars.parquet").unlink()
    RunMemory(plan).check(["train-a-fwd_ret_5"])


def test_a_system_that_says_nothing_has_no_limit(tmp_path, monkeypatch):
    assert 0 < free_memory() < float("inf")
    monkeypatch.setattr(task_memory, "_number", lambda path, word="": None)
    assert free_memory() == float("inf")
    monkeypatch.setattr(task_memory, "_number", lambda path, word="":
                        {"max": 3 * 2**30, "current": 2**30}.get(path.rpartition(".")[2], 8 * 2**20))
    assert free_memory() == 2048
