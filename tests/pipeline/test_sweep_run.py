"""A run whose question sweeps a signal: a task of its own, and each set a trial of the backtest."""

import sqlite3

import pandas as pd
import pytest

from mlfin.core.pipeline_spec import read_pipeline, read_yaml
from mlfin.core.provenance import read_json, read_parquet
from mlfin.sweeps.asked_sweep import sweep_asked, sweep_frame

from ..fixtures.workbench import ROOT, words
from .test_dag import executed, state_of

ASKED = {"signal": "sweep_rules.cross", "grid": {"stop_loss": [None, 0.1]}, "keep": "fast < slow",
         "features": {"fast": ["sma", [5, 10, 20]], "slow": ["sma", [50, 100]]}}
TEXT = ("{signal: sweep_rules.cross, features: {fast: [sma, [5, 10, 20]], slow: [sma, [50, 100]]}, "
        "grid: {stop_loss: [null, 0.1]}, keep: fast < slow}")


def test_the_task_is_there_if_it_is_asked_for():
    question = read_yaml(ROOT / "env.yaml")
    without, asked = read_pipeline(ROOT, question), read_pipeline(ROOT, question | {"sweep": ASKED})
    assert "sweep" not in without and without["backtest"].upstream == ("ingest", "compare")
    assert set(asked) - set(without) == {"sweep"} and asked["sweep"].upstream == ("ingest",)
    assert "sweep" in asked["backtest"].upstream and "sweep" in asked["publish"].upstream
    assert read_pipeline(ROOT, {k: v for k, v in question.items() if k != "sweep"}).keys() == without.keys()


def test_a_sweep_that_cannot_be_is_refused_before_the_run(workbench):
    code, out, err = workbench.here(*words(sweep=TEXT))  # no such plugin
    assert code == 2 and "plugins = sweep_rules" in out + err and not executed(out)


@pytest.mark.slow
def test_a_run_sweeps_a_function_of_a_plugin(finished, monkeypatch):
    plain = read_json(finished.data("significance.json"))
    (finished.root / "sweep_rules.py").write_text("def cross(fast, slow): return fast > slow\n")
    monkeypatch.setenv("MLFIN_PLUGINS", "sweep_rules")
    code, out, err = finished.cli(*words(sweep=TEXT), seconds=400)
    assert code == 0, out + err
    assert "sweep" in executed(out) and executed(out)[-2:] == ["backtest", "publish"]
    assert "06_publish.html" in out.splitlines()[-1]
    table, bars = (read_parquet(finished.data(f"{n}.parquet")) for n in ("signal_sweep", "bars"))
    told, quality = (read_json(finished.data(f"{n}.json")) for n in ("signal_sweep", "quality"))
    alone = sweep_asked(ASKED | {"signal": "fast > slow"}, bars, read_yaml(finished.root / "env.yaml"),
                        calendar=quality["calendar"])
    pd.testing.assert_frame_equal(table, sweep_frame(alone), check_exact=True)
    assert (told["sets"], told["cuts"]) == (12, alone.cuts)
    assert told["plateau"]["text"] == str(alone.plateau())
    judged = read_json(finished.data("significance.json"))
    assert judged["ledger"]["count"] == plain["ledger"]["count"] + 12
    with sqlite3.connect(finished.data("trials.sqlite")) as kept:
        assert "sweep_rules.cross" in str(kept.execute("select * from trials").fetchall())
    page = finished.report("05_sweep.html").read_text()
    assert page.count('class="figure"') == 3 and "None of its features looks ahead" in page
    assert told["plateau"]["text"].partition(":")[0] in page
    assert "05_sweep.html" in finished.report("06_publish.html").read_text()
    assert finished.cli(*words(sweep=TEXT))[1].startswith("Nothing to do")
    (finished.root / "sweep_rules.py").write_text("def cross(fast, slow): return fast < slow\n")
    assert state_of(finished.cli("status", *words(sweep=TEXT)[1:])[1])["sweep"] == "stale"
    monkeypatch.delenv("MLFIN_PLUGINS")
    code, out, err = finished.cli(*words(), seconds=400)
    assert code == 0 and "sweep" not in executed(out), out + err
    assert not finished.report("05_sweep.html").exists()
