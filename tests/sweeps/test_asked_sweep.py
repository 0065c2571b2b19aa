"""The sweep of a question: what is refused before anything runs, and what is kept of it."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import MlfinError, ParameterError
from mlfin.core.settings import load_settings
from mlfin.runs.question import check_question, read_question
from mlfin.sweeps.asked_sweep import (MOST_SETS, read_sweep, sweep_asked, sweep_document, sweep_figures,
                                      sweep_frame)
from mlfin.sweeps.signal_sweep import sweep_signals

from .test_signal_sweep import market

ROOT = Path(__file__).parents[2]
ASKED = {"signal": "fast > slow", "features": {"fast": ["sma", [3, 5]], "slow": ["ema", [10, 20]]},
         "grid": {"stop_loss": [None, 0.1]}, "keep": "fast < slow"}


@pytest.mark.parametrize("change, words", [
    (5, "null or a mapping"), ([ASKED], "null or a mapping"),
    ({"signals": 1}, "did you mean `signal`"), ({"signal": None}, "`sweep.signal` must be given"),
    ({"signal": ""}, "sweep.signal"), ({"signal": 5}, "sweep.signal"),
    ({"signal": "__import__('os').system('true')"}, "made of names, numbers"),
    ({"signal": "fast.__class__ > slow"}, "made of names, numbers"),
    ({"signal": "os.system"}, "a function of a plugin (there is none)"),
    ({"signal": "fast > slwo"}, "did you mean `slwo`"), ({"signal": "fast > 5"}, "got 'slow'"),
    ({"features": ["sma"]}, "a mapping of names to lists"), ({"features": {"fast": "sma_5"}}, "a list"),
    ({"features": {"fast": ["sma"]}}, "[feature, [values]]"),
    ({"features": {"fast": ["sma", 5]}}, "[feature, [values]]"),
    ({"features": {"fast": ["sma", []], "slow": ["sma", [5]]}}, "at least one value"),
    ({"features": {"fast": ["smma", [5]], "slow": ["sma", [5]]}}, "smma"),
    ({"features": {"fast": ["sma", [5, 5]], "slow": ["sma", [5]]}}, "more than once"),
    ({"grid": {"fee_bsp": [1]}}, "did you mean `fee_bps`"), ({"grid": {"stop_loss": [2.0]}}, "stop_loss"),
    ({"grid": {"fee_bps": list(range(MOST_SETS))}}, "at most 2,000 sets"),
    ({"grid": {"fee_bps": [[1, 2]]}}, "fee_bps"), ({"grid": {"fee_bps": ["a"]}}, "fee_bps"),
    ({"keep": "fast > 100"}, "lets none pass"), ({"keep": "fast < fsat"}, "did you mean `fast`"),
    ({"keep": 5}, "sweep.keep"),
])
def test_what_cannot_be_swept_is_refused_by_name(change, words):
    with pytest.raises(MlfinError) as raised:
        read_sweep(ASKED | change if isinstance(change, dict) else change, {})
    assert words in str(raised.value)


def test_a_question_says_it_as_yaml_and_is_refused_before_a_run():
    text = "sweep={signal: fast > slow, features: {fast: [sma, [3, 5]], slow: [ema, [10, 20]]}}"
    question, default = read_question(ROOT, (text,)), read_question(ROOT)
    assert read_sweep(question["sweep"], question).features["slow"] == ("ema", [10, 20])
    assert default["sweep"] is None and read_question(ROOT, (text, "sweep=null"))["sweep"] is None
    wrong = read_question(ROOT, (text.replace("slow, f", "slwo, f"),))
    with pytest.raises(ParameterError, match="slwo"):
        check_question(wrong, load_settings("test", root=ROOT), default)


def test_the_answer_is_that_of_sweep_signals_with_the_costs_of_the_run():
    bars = market()
    done = sweep_asked(ASKED, bars, {"fee_bps": 20.0, "leverage": 0.5, "cash": 5_000.0, "seed": 7})
    other = sweep_signals(lambda fast, slow: fast > slow, bars,
                          {"fast": ("sma", [3, 5]), "slow": ("ema", [10, 20])}, {"stop_loss": [None, 0.1]},
                          costs={"fee_bps": 20.0}, leverage=0.5, cash=5_000.0)
    pd.testing.assert_frame_equal(done.table, other.table, check_exact=True)
    assert len(sweep_figures(done)) == 3


def test_what_is_kept_is_plain(tmp_path):
    numbers = [[5, 10, 3], [12, 26, 9]]
    asked = {"signal": "trend > 0", "features": {"trend": ["macd", numbers, "macd_hist"]}}
    done = sweep_asked(asked, market(), {})
    sweep_frame(done).to_parquet(tmp_path / "sweep.parquet")
    assert pd.read_parquet(tmp_path / "sweep.parquet").trend.tolist() == ["5, 10, 3", "12, 26, 9"]
    told = json.loads(json.dumps(sweep_document(done, "trend > 0")))
    assert told["best"]["set"] == done.best() and told["cuts"] == done.cuts and len(told["says"]) == 4


PLUGIN = """
import numba

@numba.njit
def cross(fast, slow): return fast > slow

def _hidden(fast, slow): return fast > slow

LEVEL = 5
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    (tmp_path / "sweep_strategies.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MLFIN_PLUGINS", "sweep_strategies")
    yield "sweep_strategies"
    sys.modules.pop("sweep_strategies", None)


def test_a_function_of_a_plugin_plain_or_compiled(plugin):
    asked = ASKED | {"signal": f"{plugin}.cross"}
    done = sweep_asked(asked, market(), {}, (plugin,))
    text = sweep_asked(ASKED, market(), {})
    pd.testing.assert_frame_equal(done.table, text.table, check_exact=True)
    assert np.isfinite(done.table.sharpe).all()


@pytest.mark.parametrize("name, words", [
    ("corss", "did you mean `sweep_strategies.cross`"), ("_hidden", "a known name"),
    ("LEVEL", "a known name"), ("numba.jit", "can be imported"),
])
def test_what_a_plugin_does_not_have_is_refused(plugin, name, words):
    with pytest.raises(ParameterError, match=words):
        read_sweep(ASKED | {"signal": f"{plugin}.{name}"}, {}, (plugin,))
