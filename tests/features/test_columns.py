"""Columns that TA-Lib's library writes itself: the bits of TA-Lib's Python functions, on awkward bars too."""

import numpy as np
import pandas as pd
import pytest
import talib

from mlfin.core.errors import DataError
from mlfin.features.bar_keys import first_rows, symbol_borders
from mlfin.features.indicators import INDICATORS, talib_lookback
from mlfin.features.spec import definitions, parse, parse_set
from mlfin.features.table import compute_features, compute_series
from mlfin.features.technical import TalibColumns, native_function
from mlfin.market.bars import equal_runs

TWELVE = ("rsi_14 macd_12_26_9 mom_14 sma_20 ema_50 bbands_20_2 atr_14 historical_vol_21 returns log_returns "
          "volume_ma_20 obv").split()
NATIVE = [n for n, d in INDICATORS.items() if native_function(d.function, len(d.inputs)) is not None]


def alone(bars: pd.DataFrame, specs: list[str]) -> pd.DataFrame:
    """The columns by each feature's Python function, symbol by symbol."""
    parts = []
    for _, own in bars.groupby("symbol", sort=False):
        out = {}
        for f in parse_set(specs):
            given = (own[c].to_numpy() for c in f.inputs)
            made = f.function(*given, *f.values) if len(own) > f.lookback else None
            made = made if isinstance(made, tuple) else (made,) * len(f.columns)
            out |= {c: np.full(len(own), np.nan) if made[i] is None else made[i]
                    for i, c in zip(f.outputs, f.columns, strict=True)}
        parts.append(pd.DataFrame(out))
    return pd.concat(parts, ignore_index=True)


def same(bars: pd.DataFrame, specs: list[str] = TWELVE) -> None:
    table = compute_features(bars, specs, short="nan")
    pd.testing.assert_frame_equal(table[table.columns[4:]], alone(bars, specs), check_exact=True)


@pytest.mark.parametrize("sizes", [(1,), (2,), (14,), (15, 1), (33, 34), (1, 50, 51, 2), (300, 40, 3)])
def test_few_bars(make_bars, sizes):
    same(pd.concat([make_bars(f"S{i}", n) for i, n in enumerate(sizes)], ignore_index=True))


def test_constant_prices_and_no_volume(make_bars):
    flat = make_bars("AAA", 120).assign(open=5.0, high=5.0, low=5.0, close=5.0)
    same(pd.concat([flat, make_bars("BBB", 120).assign(volume=0.0)], ignore_index=True))


@pytest.mark.parametrize("name", NATIVE)
def test_every_function_of_the_library(make_bars, name):
    bars = pd.concat([make_bars("AAA", 250), make_bars("BBB", 7), make_bars("CCC", 160)], ignore_index=True)
    same(bars, [definitions()[name].example])


def test_a_column_and_its_alias_are_two(make_bars):
    table = compute_features(make_bars("AAA", 90), ["macd_signal", "macd_12_26_9", "macd"])
    table.loc[80, "macd_signal"] = 0.0
    assert table.loc[80, "macd_signal_12_26_9"] != 0.0


def test_the_columns_need_not_be_named_before(make_bars):
    bars, out = make_bars("AAA", 90), {}
    features = parse_set(["rsi_14", "rsi", "obv"])
    arrays = {c: bars[c].to_numpy() for c in ("close", "volume")}
    compute_series(list(features), arrays, np.array([0, 90]), out)
    table = compute_features(bars, features)
    assert all(np.array_equal(out[c], table[c], equal_nan=True) for c in ("rsi_14", "rsi", "obv"))


def test_nan_inside_and_at_the_beginning():
    """Bars hold none; the function takes what its caller gives."""
    x = np.random.default_rng(0).normal(10, 1, 200)
    x[120] = np.nan
    borders, column = np.array([0, 90, 200]), np.empty(200)
    if TalibColumns("SMA", 4, 5).fill([x], borders, {0: column}):
        np.testing.assert_array_equal(column[90:], talib.SMA(x[90:], 5))
    x[90] = np.nan  # TA-Lib in Python begins with the first number
    assert not TalibColumns("SMA", 4, 5).fill([x], borders, {0: column})


def test_where_the_library_hides_its_functions(make_bars, monkeypatch):
    bars = pd.concat([make_bars("AAA", 90), make_bars("BBB", 40)], ignore_index=True)
    before = compute_features(bars, TWELVE)
    monkeypatch.setattr("mlfin.features.technical.native_function", lambda name, inputs: None)
    pd.testing.assert_frame_equal(compute_features(bars, TWELVE), before, check_exact=True)


def test_a_call_that_fails_is_left_to_python():
    """TA-Lib refuses a window of one here; nothing is written as if it had worked."""
    x, column = np.arange(1.0, 50.0), np.empty(49)
    assert not TalibColumns("RSI", 1, 1_000_000).fill([x], np.array([0, 49]), {0: column})


def test_unsorted_and_interleaved_bars_are_refused(make_bars):
    one, two = make_bars("AAA", 60), make_bars("BBB", 60)
    mixed = pd.concat([one, two]).sort_values(["ts", "symbol"], ignore_index=True)
    for bars in (mixed, one[::-1].reset_index(drop=True), pd.concat([two, one], ignore_index=True)):
        with pytest.raises(DataError, match="sorted by symbol and ts"): compute_features(bars, TWELVE)
    late = one.copy()
    late.loc[30, "close"] = np.nan
    with pytest.raises(DataError, match="finite and positive"): compute_features(late, TWELVE)
    lost = one.copy()
    lost.loc[0, "ts"] = pd.NaT
    with pytest.raises(DataError, match="missing"): compute_features(lost, TWELVE)
    lost = one.copy()
    lost.loc[30, "ts"] = pd.NaT
    with pytest.raises(DataError, match="missing"): compute_features(lost, TWELVE)


def test_lookbacks_are_those_of_the_calls():
    for name in NATIVE:
        f, d = parse(definitions()[name].example), INDICATORS[name]
        numbers = tuple(a[0] if isinstance(a, tuple) else f.values[a] for a in d.arguments)
        assert f.lookback == talib_lookback(d.function, *numbers)


@pytest.mark.parametrize("texts", [
    ["A"], ["AA", "AA", "BB"], ["A", "BB", "BB", "A"], ["", "", "A"], ["é", "é", "ab"],
    ["A", None, None, "A"],
    ["AB"] * 70_000 + ["AC"] * 70_000 + ["AB"],
])
def test_runs_of_texts(texts):
    column = pd.Series(texts, dtype="str")
    ends, found = equal_runs(column)
    for again in (column, column[:0].combine_first(column), pd.concat([column[:1], column[1:]])):
        assert equal_runs(again)[0].tolist() == ends.tolist()
    filled = column.fillna("missing")
    changes = np.flatnonzero(filled.to_numpy()[1:] != filled.to_numpy()[:-1]) + 1
    assert ends.tolist() == [*changes.tolist(), len(texts)]
    assert found == [texts[i - 1] for i in ends]


def test_what_is_known_of_a_column_does_not_outlive_it(make_bars):
    bars = make_bars("AAA", 30)
    symbol_borders(bars)
    bars.loc[10:, "symbol"] = "BBB"
    assert symbol_borders(bars).tolist() == [0, 10, 30]
    ends, names = equal_runs(bars["symbol"])
    names.append("no")
    assert equal_runs(bars["symbol"])[1] == ["AAA", "BBB"] and not ends.flags.writeable


def test_first_rows():
    assert first_rows(np.array([0, 2, 3, 9]), 3).tolist() == [0, 1, 2, 3, 4, 5]
    assert not len(first_rows(np.array([0, 5]), 0))
