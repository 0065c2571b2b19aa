"""Specs: what is understood, what is refused, and how."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfin.core.errors import DataError, SpecError
from mlfin.features.spec import Param, compute, feature, load_features, parse, parse_set

FIRST_RUN = ("rsi_14 macd_12_26_9 mom_14 sma_20 ema_50 bbands_20_2 atr_14 historical_vol_21 returns log_returns "
             "volume_ma_20 obv").split()


def test_the_first_runs_columns():
    columns = [c for f in parse_set(FIRST_RUN) for c in f.columns]
    assert columns == [
        "rsi_14", "macd_12_26_9", "macd_signal_12_26_9", "macd_hist_12_26_9", "mom_14", "sma_20", "ema_50",
        "bbands_lower_20_2", "bbands_middle_20_2", "bbands_upper_20_2", "atr_14", "historical_vol_21", "returns",
        "log_returns", "volume_ma_20", "obv"]


@pytest.mark.parametrize("spec", [*FIRST_RUN, "bbands_20_2.5", "ret_5", "ma60", "rsi_2", "sma_10000"])
def test_round_trip(spec):
    f = parse(spec)
    assert str(f) == spec and parse(str(f)) == f and parse(f) is f
    assert f.source and f.lookback >= 0


def test_decimals():
    f = parse("bbands_20_2.5")
    assert f.values == (20, 2.5)
    assert f.columns == ("bbands_lower_20_2.5", "bbands_middle_20_2.5", "bbands_upper_20_2.5")


@pytest.mark.parametrize("spec, says", [
    ("rsi_x", "did you mean `rsi_14`"),
    ("rsi_0", "`n` must be an integer in [2, 10000], not 0"),
    ("rsi_99999999999999999999", "`n` must be"),
    ("rsi", "`rsi` takes n (an integer in [2, 10000]), not 0 number(s)"),
    ("rsi_14_3", "not 2 number(s)"),
    ("rsi_2.5", "an integer"),
    ("returns_5", "takes no number"),
    ("foo_3", "there is no such feature"),
    ("macd_26_12_9", "fast < slow does not hold"),
    ("macd_12_12_9", "fast < slow does not hold"),
    ("macd_signal_12_26_9", "it is a column of `macd_12_26_9`"),
    ("bbands_20_0", "`width` must be a number in [0.1, 100]"),
    ("bbands_20_2.0", "does not follow the grammar"),
    ("rsi_014", "does not follow the grammar"),
    ("rsi_-3", "does not follow the grammar"),
    ("RSI_14", "did you mean `rsi_14`"),
    (" rsi_14", "does not follow the grammar"),
    ("rsi_14\n", "does not follow the grammar"),
    ("", "does not follow the grammar"),
    (14, "does not follow the grammar"),
    (None, "does not follow the grammar"),
    ("fwd_ret_5", "it is a label and never a feature"),
])
def test_refused(spec, says):
    with pytest.raises(SpecError) as e:
        parse(spec)
    text = str(e.value)
    assert says in text and repr(spec) in text
    assert "Hint: " in text and "a spec is a name and its numbers" in text


@given(st.text(max_size=20))
def test_any_text_is_understood_or_refused(text):
    try:
        assert parse(text).spec == text
    except SpecError as e:
        assert "Hint" in str(e)


def test_one_column_once():
    with pytest.raises(SpecError, match="name each feature once"):
        parse_set(["rsi_14", "sma_20", "rsi_14"])
    with pytest.raises(SpecError, match="at least one spec"):
        parse_set([])
    assert [f.spec for f in parse_set("rsi_14")] == ["rsi_14"]


def test_two_modules_cannot_claim_a_name(registry):
    with pytest.raises(SpecError, match="defined twice: in mlfin.features.technical and in"):
        feature("rsi", lookback=0)(lambda close: close)


def test_the_notebook_being_written_wins_over_its_export(registry):
    def rsi(close):
        return close
    rsi.__module__ = "__main__"
    feature("rsi", lookback=0)(rsi)
    assert parse("rsi").function is rsi
    feature("rsi", params=[Param("n", 14)], lookback=0)(compute)
    assert parse("rsi").function is rsi


@pytest.mark.parametrize("name, options, says", [
    ("Rsi", {}, "lower-case words"), ("rsi_14", {}, "lower-case words"), ("ts", {}, "none of symbol"),
    ("new", {"outputs": ["new", "t1"]}, "none of symbol"), ("new", {"unit": "dollars"}, "one of price"),
    ("new", {"inputs": ()}, "at least one column"), ("new", {"lookback": None}, "lookback"),
])
def test_impossible_definitions(registry, name, options, says):
    with pytest.raises(SpecError, match=says):
        feature(name, **{"lookback": 0, **options})(lambda close: close)


@pytest.mark.parametrize("result", [lambda c: c[1:], lambda c: (c, c), lambda c: None, lambda c: list(c)])
def test_a_function_must_return_arrays_as_long_as_its_input(registry, bars, result):
    feature("bad", lookback=0)(result)
    with pytest.raises(DataError, match=r"`bad` must be 1 array\(s\) of 340 values"):
        compute(parse("bad"), bars["close"].to_numpy()[:340])


def test_load_features_is_sorted_and_stable():
    names = load_features()
    assert list(names) == sorted(names) and names == load_features()
    assert {"rsi_14", "macd_12_26_9", "bbands_20_2", "obv", "returns"} <= set(names)


PLUGIN = """
from mlfin.features.spec import feature
@feature("gap", inputs=("open", "close"), lookback=0, source="open / close - 1")
def gap(open, close): return open / close - 1
"""


def _python(code, tmp_path, **environment):
    env = {"PATH": "/usr/bin", "PYTHONPATH": f"{tmp_path}", "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=env)


def test_a_plugin_is_found_in_a_fresh_process(tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    done = _python("from mlfin.features.spec import parse; print(parse('gap'))", tmp_path, MLFIN_PLUGINS="mine")
    assert done.stdout.strip() == "gap", done.stderr


def test_a_missing_plugin_is_named(tmp_path):
    done = _python("from mlfin.features.spec import parse; parse('rsi_14')", tmp_path, MLFIN_PLUGINS="no_such")
    assert "SettingsError" in done.stderr and "'no_such'" in done.stderr


def test_a_plugin_of_a_project(tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    (tmp_path / "pipeline.yaml").write_text("tasks: []\n")
    (tmp_path / "settings.ini").write_text(
        "[DEFAULT]\nstore = {root}/lake\nmlflow = sqlite:///m.db\nartifacts = a\nledger = l.db\nplugins = mine\n"
        "[development]\n")
    (tmp_path / "below").mkdir()
    code = "import os; os.chdir('below'); from mlfin.features.spec import parse; print(parse('gap').unit)"
    done = _python(code, tmp_path, PYTHONPATH="")
    assert done.stdout.strip() == "ratio", done.stderr


