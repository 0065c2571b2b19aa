"""Specs: what is understood, what is refused, and how."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfin.core.errors import DataError, SpecError
from mlfin.features.feature_types import UNITS, Param, compute, start
from mlfin.features.spec import (definitions, expand, feature, load_features, parse, parse_set, register_set,
                                 set_names)
from mlfin.features.table import compute_features

ROOT = Path(__file__).parents[2]
FIRST_RUN = (
    "rsi_14 macd_12_26_9 mom_14 sma_20 ema_50 bbands_20_2 atr_14 historical_vol_21 returns log_returns "
    "volume_ma_20 obv"
).split()


def test_the_first_runs_columns():
    columns = [c for f in parse_set(FIRST_RUN) for c in f.columns]
    assert columns == [
        "rsi_14",
        "macd_12_26_9",
        "macd_signal_12_26_9",
        "macd_hist_12_26_9",
        "mom_14",
        "sma_20",
        "ema_50",
        "bbands_lower_20_2",
        "bbands_middle_20_2",
        "bbands_upper_20_2",
        "atr_14",
        "historical_vol_21",
        "returns",
        "log_returns",
        "volume_ma_20",
        "obv",
    ]


@pytest.mark.parametrize("spec", [*FIRST_RUN, "bbands_20_2.5", "ret_5", "ma60", "rsi_2", "sma_10000"])
def test_round_trip(spec):
    f = parse(spec)
    assert str(f) == spec and parse(str(f)) == f and parse(f) is f
    assert f.source and f.lookback >= 0


@st.composite
def any_spec(draw):
    """A spec of any registered feature with any numbers that it allows."""
    d = draw(st.sampled_from(sorted(definitions().values(), key=lambda d: d.name)))
    words = [d.name]
    for p in d.params:
        if p.decimal:
            low, high = int(np.ceil(p.low * 1000)), int(min(p.high, 1000) * 1000)
            words.append(f"{draw(st.integers(low, high)) / 1000:g}")
        else:
            words.append(str(draw(st.integers(int(p.low), int(min(p.high, 300))))))
    return "_".join(words)


@given(any_spec())
def test_every_registered_spec_round_trips(spec):
    try:
        f = parse(spec)
    except SpecError as e:
        assert "does not hold" in str(e)  # a rule between its numbers
        return
    assert str(f) == spec and parse(str(f)) == f and f.stands_for == spec
    assert f.source and f.doc and set(f.units) <= set(UNITS)
    assert len(f.units) == len(f.columns) == len(f.outputs)
    assert 0 <= f.lookback <= f.warm_up and len(set(f.columns)) == len(f.columns)
    assert all(c.endswith(spec.removeprefix(f.name)) for c in f.columns)


@pytest.mark.parametrize("name", definitions())
def test_each_definition_says_what_it_is(name):
    d, f = definitions()[name], parse(definitions()[name].example)
    assert d.name == f.name == name and f.source and f.doc and f.unit and f.kind == d.kind
    assert f.kind != "series" or f.inputs


@pytest.mark.parametrize(
    "alias, column",
    [
        ("rsi", "rsi_14"),
        ("macd", "macd_12_26_9"),
        ("macd_signal", "macd_signal_12_26_9"),
        ("macd_hist", "macd_hist_12_26_9"),
        ("atr", "atr_14"),
        ("volume_ma", "volume_ma_20"),
        ("ma60", "sma_60"),
    ],
)
def test_aliases(alias, column):
    f = parse(alias)
    assert str(f) == alias and parse(str(f)) == f and f.columns == (alias,)
    of = parse(f.stands_for)
    assert column in of.columns and (f.lookback, f.values, f.warm_up) == (of.lookback, of.values, of.warm_up)


def test_an_alias_of_ones_own(registry, make_bars):
    feature(
        "gap",
        params=[Param("n", 3)],
        lookback=lambda n: n,
        outputs=("gap_up", "gap_down"),
        aliases={"jump": "gap_down_3"},
    )(lambda close, n: (np.r_[[np.nan] * n, close[n:]], np.r_[[np.nan] * n, -close[n:]]))
    table = compute_features(make_bars("AAA", 10), ["jump"])
    assert list(table.columns[4:]) == ["jump"] and (table["jump"][3:] < 0).all()
    with pytest.raises(SpecError, match="names two things: in gap and in other"):
        feature("other", lookback=0, aliases={"jump": "other"})(lambda close: close)
    with pytest.raises(SpecError, match="names two things: in gap and in jump"):
        feature("jump", lookback=0)(lambda close: close)
    with pytest.raises(SpecError, match="names two things: in rsi and in other"):
        feature("other", lookback=0, outputs=("rsi", "x"))(lambda close: close)
    with pytest.raises(SpecError, match="each with a column of the feature"):
        feature("another", lookback=0, aliases={"x": "rsi_14"})(lambda close: close)


def test_sets(registry):
    assert [f.spec for f in parse_set("seed")][:2] == ["rsi_14", "macd_12_26_9"]
    assert len(parse_set(["seed"])) == 14
    register_set("mine", ["rsi_14", "gone_3"])
    with pytest.raises(SpecError, match="there is no such feature"):
        parse_set("mine")
    register_set("mine", ["rsi_14", "seed", "sma_5"])
    assert expand(["sma_5", "mine", "ema_9"])[:3] == ("sma_5", "rsi_14", "macd_12_26_9")
    assert expand(["mine"])[-1] == "sma_5"
    assert len(expand(["mine", "rsi_14", "sma_5"])) == 15
    assert "mine" in set_names()
    with pytest.raises(SpecError, match="name each feature once"):
        parse_set(["sma_5", "sma_5", "mine"])
    register_set("one", ["two"])
    register_set("two", ["one"])
    with pytest.raises(SpecError, match="one -> two -> one"):
        parse_set("one")
    with pytest.raises(SpecError, match="parse_set reads sets"):
        parse("mine")
    with pytest.raises(SpecError, match="did you mean `mine`"):
        parse_set(["minee"])
    for name, specs in (("Mine", ["rsi_14"]), ("empty", []), ("mixed", ["rsi_14", 3])):
        with pytest.raises(SpecError, match="must be"):
            register_set(name, specs)
    with pytest.raises(
        SpecError, match="the set `seed` is defined twice: in mlfin.features.indicators|is defined twice"
    ):
        register_set("seed", ["rsi_14"])


def test_units_of_columns():
    f = parse("supertrend_10_3")
    assert f.units == ("price", "index") and f.unit == "price, index" and parse("bbands_20_2").unit == "price"


def test_warm_up_outlasts_the_start(make_bars):
    """After `warm_up` bars it no longer shows where the data began."""
    specs = ["ema_20", "rsi_14", "adx_14", "macd_12_26_9", "t3_5_0.7", "trix_15", "kama_10"]
    bars = make_bars("AAA", 3000, 9)
    whole, late = (
        compute_features(bars, specs)[100:].reset_index(drop=True),
        compute_features(bars[100:].reset_index(drop=True), specs),
    )
    for f in parse_set(specs):
        for c in f.columns:
            apart = (whole[c] - late[c]).abs() / whole[c].abs().median()
            assert apart[f.warm_up:].max() < 1e-6 < apart[f.lookback:].max(), f.spec


def test_online_state_is_for_series(registry):
    feature("mean_all", kind="panel", lookback=0)(lambda panel: panel.values("close"))
    with pytest.raises(SpecError, match="a panel feature"):
        start(parse("mean_all"))


def test_panels_see_their_inputs_only(registry, bars):
    def both(panel):
        assert panel.symbols == ("AAA", "BBB", "CCC") and panel.present.sum() == 540
        assert panel.shape == (300, 3)
        return panel.values("close"), np.nan_to_num(panel.values("volume"))
    feature("both", kind="panel", inputs=("close", "volume"), lookback=0, outputs=("first", "second"))(both)
    table = compute_features(bars, ["both"])
    np.testing.assert_array_equal(table["first"], bars["close"])
    np.testing.assert_array_equal(table["second"], bars["volume"])
    feature("sly", kind="panel", inputs=("close",), lookback=0)(lambda panel: panel.values("volume"))
    with pytest.raises(DataError, match="add 'volume' to the inputs"):
        compute_features(bars, ["both", "sly"])
    feature("spoil", kind="panel", inputs=("close",), lookback=0)(
        lambda panel: np.multiply(panel.values("close"), 2, out=panel.values("close"))
    )
    with pytest.raises(ValueError, match="read-only"):
        compute_features(bars, ["spoil"])
    feature("short", kind="panel", inputs=("close",), lookback=0)(lambda panel: panel.values("close")[1:])
    with pytest.raises(DataError, match=r"`short` must be 1 array\(s\) of 300 x 3 values"):
        compute_features(bars, ["short"])
    with pytest.raises(DataError, match="one of the symbols"):
        compute_features(bars, ["both"], index="SPX")


def test_a_feature_from_facts(registry, bars):
    feature("known", kind="facts", inputs=("close",), lookback=0, facts=("eps",))(
        lambda b, facts: b["close"].to_numpy() / facts
    )
    with pytest.raises(DataError, match="a facts frame, which known reads"):
        compute_features(bars, ["known"])
    np.testing.assert_array_equal(compute_features(bars, ["known"], facts=2.0)["known"], bars["close"] / 2)


def test_decimals():
    f = parse("bbands_20_2.5")
    assert f.values == (20, 2.5)
    assert f.columns == ("bbands_lower_20_2.5", "bbands_middle_20_2.5", "bbands_upper_20_2.5")


@pytest.mark.parametrize("spec, says", [
    ("rsi_x", "did you mean `rsi_14`"),
    ("rsi_0", "`n` must be an integer in [2, 10000], not 0"),
    ("rsi_99999999999999999999", "`n` must be"),
    ("sma", "`sma` takes n (an integer in [2, 10000]), not 0 number(s)"),
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
    with pytest.raises(SpecError, match="defined twice: in mlfin.features.indicators and in"):
        feature("rsi", lookback=0)(lambda close: close)


def test_the_notebook_being_written_wins_over_its_export(registry):
    def rsi(close):
        return close
    rsi.__module__ = "__main__"
    feature("rsi", lookback=0)(rsi)
    assert parse("rsi").function is rsi
    feature("rsi", params=[Param("n", 14)], lookback=0)(compute)
    assert parse("rsi").function is rsi


@pytest.mark.parametrize(
    "name, options, says",
    [
        ("Rsi", {}, "lower-case words"),
        ("rsi_14", {}, "lower-case words"),
        ("ts", {}, "none of symbol"),
        ("new", {"outputs": ["new", "t1"]}, "none of symbol"),
        ("new", {"unit": "dollars"}, "one of price"),
        ("new", {"inputs": ()}, "at least one column"),
        ("new", {"lookback": None}, "lookback"),
        ("new", {"anchored": True}, "given for an anchored feature"),
        ("new", {"kind": "matrix"}, "one of series, panel, facts"),
        ("new", {"kind": "panel", "online": len}, "None for a panel feature"),
        ("new", {"unit": ("price", "ratio")}, "one for each of"),
    ],
)
def test_impossible_definitions(registry, name, options, says):
    with pytest.raises(SpecError, match=says):
        feature(name, **{"lookback": 0, **options})(lambda close: close)


@pytest.mark.parametrize("result", [lambda c: c[1:], lambda c: (c, c), lambda c: None, lambda c: list(c)])
def test_a_function_must_return_arrays_as_long_as_its_input(registry, bars, result):
    feature("bad", lookback=0)(result)
    with pytest.raises(DataError, match=r"`bad` must be 1 array\(s\) of 340 values"):
        compute(parse("bad"), bars["close"].to_numpy()[:340])
    for some in (bars, bars[:300]):
        with pytest.raises(DataError, match=r"`bad` must be 1 array\(s\) of 300 values"):
            compute_features(some, ["returns", "bad"])


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
    env = {"PATH": "/usr/bin", "PYTHONPATH": f"{ROOT}:{tmp_path}", "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=env)


def test_a_plugin_is_found_in_a_fresh_process(tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    done = _python(
        "from mlfin.features.spec import parse; print(parse('gap'))", tmp_path, MLFIN_PLUGINS="mine"
    )
    assert done.stdout.strip() == "gap", done.stderr


def test_a_missing_plugin_is_named(tmp_path):
    done = _python(
        "from mlfin.features.spec import parse; parse('rsi_14')", tmp_path, MLFIN_PLUGINS="no_such"
    )
    assert "SettingsError" in done.stderr and "'no_such'" in done.stderr


def test_a_plugin_of_a_project(tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    (tmp_path / "pipeline.yaml").write_text("tasks: []\n")
    (tmp_path / "settings.ini").write_text(
        "[DEFAULT]\nstore = {root}/lake\nmlflow = sqlite:///m.db\nartifacts = a\nledger = l.db\n"
        "plugins = mine\n"
        "[development]\n")
    (tmp_path / "below").mkdir()
    code = "import os; os.chdir('below'); from mlfin.features.spec import parse; print(parse('gap').unit)"
    done = _python(code, tmp_path, PYTHONPATH=f"{ROOT}")
    assert done.stdout.strip() == "ratio", done.stderr


def test_sets_of_a_project(tmp_path):
    (tmp_path / "pipeline.yaml").write_text("tasks: []\n")
    (tmp_path / "settings.ini").write_text(
        "[DEFAULT]\nstore = {root}/lake\nmlflow = sqlite:///m.db\nartifacts = a\nledger = l.db\n"
        "[development]\n")
    (tmp_path / "env.yaml").write_text("feature_sets:\n  quick: [rsi_14, ret_1]\n  more: [quick, sma_5]\n")
    code = "from mlfin.features.spec import parse_set; print(*parse_set(['more', 'ema_9']))"
    done = _python(code, tmp_path, PYTHONPATH=f"{ROOT}")
    assert done.stdout.strip() == "rsi_14 ret_1 sma_5 ema_9", done.stderr
    (tmp_path / "env.yaml").write_text("feature_sets:\n  quick: rsi_14\n")
    assert (
        "`feature_sets.quick` must be a list of specs" in _python(code, tmp_path, PYTHONPATH=f"{ROOT}").stderr
    )
