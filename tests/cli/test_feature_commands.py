"""`mlfin features`: what is listed and said, findings in words, exit codes, refusals that name the
nearest."""
import json
import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import mlfin.features.spec as spec
from mlfin.core.errors import DataError, MlfinError, ParameterError, SpecError
from mlfin.market.bars import as_bars
from mlfin.market.calendars import expected_bars
from mlfin.warehouse.opening import open_store
from mlfin.features.feature_types import Param
from mlfin.features.spec import definitions, families, feature, register_set, set_names
from mlfin.cli import feature_commands as commands


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    "What a test registers is gone after it."
    spec.load_features()
    for name in ("_registry", "_sets", "_families"):
        monkeypatch.setattr(spec, name, dict(getattr(spec, name)))
    monkeypatch.setenv("COLUMNS", "160")


def run(*words):
    "Exit code and output; errors of mlfin come through, as in `mlfin`."
    done = CliRunner().invoke(commands.features_app, [str(w) for w in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit): raise done.exception
    return done.exit_code, done.output


def peek(name="peek"):
    @feature(name, params=[Param("n", 3)], lookback=lambda n: 0, unit="ratio")
    def _peek(close, n):
        "The future, by mistake."
        return pd.Series(close).shift(-n).to_numpy() / close


def bars_of(symbol, timeframe="1d", start="2023-01-01", end="2023-12-31", seed=0):
    grid = expected_bars("24/7", timeframe, start, end).drop(columns="session")
    close = np.round(100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, len(grid)))), 2)
    return as_bars(
        grid.assign(
            symbol=symbol,
            timeframe=timeframe,
            open=close,
            high=close + 1,
            low=close - 1,
            close=close,
            volume=1e6,
        )
    )


# --- ls


def test_everything_registered_is_listed_once_with_what_it_needs():
    code, text = run("ls", "--json")
    rows = json.loads(text)["features"]
    assert code == 0 and len(rows) == len(definitions()) + len(families())
    assert {r["name"] for r in rows} == {*definitions(), *families()}
    assert all(r["what"] and r["source"] and r["unit"] and r["lookback"] >= 0 for r in rows), [
        r["spec"] for r in rows if not (r["what"] and r["source"])
    ]
    assert {r["kind"].split(", ")[-1] for r in rows} == set(spec.FEATURE_KINDS)
    shown = run("ls")[1]
    assert all(re.search(rf"(?m)^{re.escape(r['spec'])}\s", shown) for r in rows)
    assert f"{len(rows)} of {len(rows)}." in shown and "candles (61)" in shown


def test_words_and_options_narrow_the_list_down():
    assert {r["name"] for r in json.loads(run("ls", "wilder", "strength", "--json")[1])["features"]} >= {
        "rsi"
    }
    panel = json.loads(run("ls", "--kind", "panel", "--json")[1])["features"]
    assert {r["name"] for r in panel} >= {"breadth", "xs_rank"}
    assert all(r["kind"].endswith("panel") for r in panel)
    assert {
        r["group"] for r in json.loads(run("ls", "--group", "cross_section", "--json")[1])["features"]
    } == {"cross_section"}
    for name, members in set_names().items():
        assert len(json.loads(run("ls", "--set", name, "--json")[1])["features"]) == len(
            spec.parse_set([name])
        ), members
    code, text = run("ls", "nothingofthekind")
    assert code == 0 and "None of" in text


def test_what_a_user_registers_is_there():
    peek()
    register_set("mine", ["peek_3", "rsi_14"])
    rows = json.loads(run("ls", "peek", "--json")[1])
    assert [(r["spec"], r["what"]) for r in rows["features"]] == [("peek_3", "The future, by mistake.")]
    assert rows["sets"]["mine"] == ["peek_3", "rsi_14"]
    assert "set of 2 features" in run("describe", "mine")[1]
    assert "mine" in json.loads(run("describe", "peek_3", "--json")[1])["sets"]


@pytest.mark.parametrize("words, parts", [
    (("ls", "--kind", "panl"), ["panl", "did you mean `panel`"]),
    (("ls", "--group", "cross_secton"), ["did you mean `cross_section`"]),
    (("ls", "--set", "alfa"), ["did you mean `alpha`"]),
    (("check",), ["SPEC", "--all"]),
    (("check", "rsi_14", "--all"), ["SPEC", "--all"]),
])
def test_a_wrong_option_names_the_nearest(words, parts):
    with pytest.raises(ParameterError) as e: run(*words)
    assert e.value.exit_code == 2 and all(p in str(e.value) for p in parts)


# --- describe


def test_every_feature_can_be_described():
    for name, d in definitions().items():
        told = commands.description(d.example)
        assert (
            told["what"]
            and told["lookback"] <= told["warm_up"]
            and len(told["columns"]) == len(d.outputs)
            and len(told["numbers"]) == len(d.params)
        ), name
        json.dumps(told)
    for name in families(): assert commands.description(name)["note"]


def test_a_spec_an_alias_and_a_bare_name_are_told_apart():
    assert commands.description("sma_50")["numbers"][0] == {
        "number": "n",
        "here": 50,
        "may be": "an integer in [2, 10000]",
        "customary": 20,
    }
    assert commands.description("sma")["spec"] == "sma_20"
    assert "customary" in commands.description("sma")["note"]
    assert commands.description("ma60")["note"] == "`ma60` is another name for a column of sma_60."
    text = run("describe", "obv")[1]
    assert "its level depends on where the data start" in text and "obv_change_20/volume" in text
    assert "all symbols at its time" in run("describe", "xs_rank_sma_10")[1]


@pytest.mark.parametrize(
    "name, parts",
    [
        ("rsi_x", ["did you mean `rsi_14`", "a spec is a name"]),
        ("rsi_1", ["an integer in [2"]),
        ("fwd_ret_5", ["label"]),
        ("", ["grammar"]),
        ("macd_hist_12_26_9", ["column of `macd_12_26_9`"]),
    ],
)
def test_an_unknown_spec_says_what_was_meant(name, parts):
    for command in ("describe", "check"):
        with pytest.raises(SpecError) as e: run(command, name)
        assert e.value.exit_code == 2 and all(p in str(e.value) for p in parts), e.value


# --- check


def test_good_features_pass_and_what_is_made_up_is_said():
    code, text = run(
        "check",
        "rsi_14",
        "spread",
        "xs_rank_ret_5",
        "group_demean_ret_1",
        "earnings_yield",
        "day_of_week",
        "--bars",
        60,
        "--cuts",
        4,
    )
    assert code == 0 and "all pass" in text and "made up: spread, facts, groups" in text, text
    assert re.search(r"(?m)^rsi_14 +passes +passes", text)


def test_a_feature_that_peeks_exits_with_one_and_words():
    peek()
    code, text = run("check", "rsi_14", "peek_3", "--bars", 60)
    assert code == 1 and "`peek_3` looks ahead: peek_3 at AAPL" in text and "Hint: " in text
    assert "1 of 2 do not pass" in text
    told = json.loads(run("check", "peek_3", "--bars", 60, "--json")[1])
    assert told["features"][0]["look_ahead"] == "look-ahead" and told["symbols"][0] == "AAPL"


def test_a_running_sum_that_differs_bar_by_bar_is_found():
    @feature("drift", params=[Param("n", 5)], lookback=lambda n: n - 1, unit="price", online=lambda n: Last())
    def _drift(close, n):
        "A mean, whose state is another thing."
        return np.concatenate([np.full(n - 1, np.nan), np.convolve(close, np.ones(n) / n, "valid")])

    class Last:
        def update(self, x): return x

    code, text = run("check", "drift_5", "--bars", 60)
    assert code == 1 and "bar by bar" in text and "Hint: " in text


def test_a_feature_without_a_value_is_not_called_good():
    @feature("nothing", lookback=0, unit="ratio")
    def _nothing(close):
        "Never a value."
        return np.full(len(close), np.nan)

    code, text = run("check", "nothing", "--bars", 60)
    assert code == 1 and "not tested" in text and "has no value on these" in text


def test_bars_of_a_store(tmp_path):
    place = open_store(tmp_path / "lake")
    for i in range(9): place.write(bars_of(f"S{i}", seed=i))
    place.write(bars_of("S0", "1h", "2024-01-01", "2024-01-31"))
    code, text = run("check", "rsi_14", "--store", tmp_path / "lake", "--bars", 50)
    assert code == 0 and "on 384 1d bars of S0, S2, S3, S5, S6, S8: all pass" in text, text
    code, text = run(
        "check", "hour_of_day", "--store", tmp_path / "lake", "-s", "S0", "-t", "1h", "--bars", 50
    )
    assert code == 0 and "50 1h bars of S0" in text
    with pytest.raises(DataError, match="S77"):
        run("check", "rsi_14", "--store", tmp_path / "lake", "-s", "S77")
    with pytest.raises(DataError, match="spread"):
        run("check", "spread", "--store", tmp_path / "lake")  # nothing is made up of real bars
    with pytest.raises(MlfinError): run("check", "rsi_14", "--store", tmp_path / "empty")


def test_a_lookback_longer_than_the_bars_is_not_called_good():
    code, text = run("check", "sma_9000", "--bars", 60)
    assert code == 1 and "`sma_9000` has no value" in text
