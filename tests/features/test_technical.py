"""The features table and its indicators: independent formulas, borders between symbols, bar by bar, bad
bars."""

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError, SpecError
from mlfin.features.indicators import INDICATORS
from mlfin.features.feature_types import Param, start
from mlfin.features.spec import definitions, feature, parse, parse_set
from mlfin.features.bar_keys import KEYS, symbol_borders
from mlfin.features.table import compute_features

FIRST_RUN = (
    "rsi_14 macd_12_26_9 mom_14 sma_20 ema_50 bbands_20_2 atr_14 historical_vol_21 returns log_returns "
    "volume_ma_20 obv"
).split()


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


SERIES = [d.example for d in definitions().values() if d.kind == "series"]


@pytest.mark.parametrize("spec", SERIES)
def test_every_feature_starts_exactly_at_its_lookback(make_bars, spec):
    f, table = parse(spec), compute_features(make_bars("AAA", 400).assign(spread=0.01), [spec])
    for column in f.columns:
        assert table[column].dtype == np.float64
        assert int(table[column].notna().to_numpy().argmax()) == f.lookback
        assert table[column][f.lookback:].notna().all()


def other_numbers(d):
    """A spec of the same feature whose numbers are not the customary ones."""
    values = [p.default * 1.5 if p.decimal else int(p.default) + i + 1 for i, p in enumerate(d.params)]
    return "_".join(
        [d.name, *(f"{min(max(v, p.low), p.high):g}" for v, p in zip(values, d.params, strict=True))]
    )


@pytest.mark.parametrize("name", [n for n, d in definitions().items() if n in INDICATORS and d.params])
def test_other_numbers_start_at_their_lookback_and_are_served_alike(make_bars, name):
    bars, f = make_bars("AAA", 300), parse(other_numbers(definitions()[name]))
    table = compute_features(bars, [f])[list(f.columns)].to_numpy()
    assert (np.isfinite(table).argmax(axis=0) == f.lookback).all() and np.isfinite(table[f.lookback:]).all()
    np.testing.assert_array_equal(served(f, bars), table)


def served(f, bars):
    """A feature's values bar by bar."""
    state = start(f)
    return np.array([state.update(*row) for row in bars[list(f.inputs)].to_numpy(dtype=float)])


@pytest.mark.parametrize("kind", ["flat", "no volume", "small", "jumps"])
def test_odd_bars_give_numbers_or_nan_and_the_same_bar_by_bar(make_bars, kind):
    bars = make_bars("AAA", 150)
    prices = ["open", "high", "low", "close"]
    if kind == "flat":
        bars[prices], bars["volume"] = 0.1, 7.0
    if kind == "no volume":
        bars["volume"] = np.where(np.arange(150) % 60 < 40, 0.0, bars["volume"])
    if kind == "small":
        bars[prices] *= 2.0**-60
    if kind == "jumps":
        bars[prices] *= np.where(np.arange(150) % 50 < 25, 1.0, 1e4)[:, None]
    bars["spread"] = 0.0
    features = parse_set([s for s in SERIES if not s.startswith("alpha_")])
    table = compute_features(bars, features, short="nan")
    for f in features:
        values = table[list(f.columns)].to_numpy()
        assert not np.isinf(values).any(), f.spec
        np.testing.assert_array_equal(served(f, bars), values, err_msg=f.spec)


def test_equal_prices_have_no_z_score(make_bars):
    bars = make_bars("AAA", 40)
    bars["close"] = bars["open"] = bars["high"] = bars["low"] = 0.1
    table = compute_features(
        bars, ["zscore_20", "yang_zhang_21", "parkinson_21", "historical_vol_21", "returns"]
    )
    assert table["zscore_20"].isna().all()
    assert (table[["yang_zhang_21", "parkinson_21", "historical_vol_21", "returns"]][21:] == 0).all(axis=None)


def test_nothing_traded_is_nan_not_zero(make_bars):
    bars = make_bars("AAA", 60).assign(volume=0.0)
    table = compute_features(bars, ["vwap_20", "vwap_distance_20", "amihud_21", "vwma_20", "rvol_20"])
    assert table.drop(columns=list(KEYS)).isna().all(axis=None)
    some = bars.assign(volume=np.where(np.arange(60) == 30, 5.0, 0.0))
    one = compute_features(some, ["vwap_20", "amihud_21"])
    typical = bars[["high", "low", "close"]].sum(axis=1)[30] / 3
    np.testing.assert_allclose(one["vwap_20"][30:50], typical, rtol=1e-12)
    move = 1e6 * abs(bars.close[30] / bars.close[29] - 1) / (bars.close[30] * 5)
    np.testing.assert_allclose(one["amihud_21"][30:51], move, rtol=1e-12)
    assert one["vwap_20"][50:].isna().all() and one["amihud_21"][51:].isna().all()


def wilder(x, n):
    """Wilder's smoothing, seeded by the mean of the first n."""
    x = np.asarray(x, float)
    out, first = np.full(len(x), np.nan), int(np.flatnonzero(~np.isnan(x))[0])
    out[first + n - 1] = x[first:first + n].mean()
    for i in range(first + n, len(x)):
        out[i] = out[i - 1] + (x[i] - out[i - 1]) / n
    return out


def forecast(b, n):
    """The line through the n closes before a bar, at the bar."""
    lines = [np.polyval(np.polyfit(np.arange(n), b.close[i - n:i], 1), n) for i in range(n, len(b))]
    return np.r_[[np.nan] * n, lines]


def rvi(b):
    spread, up = b.close.rolling(10).std(ddof=0), b.close.diff()
    rise, fall = (wilder(spread.where(move, 0.0).where(spread.notna()), 14) for move in (up > 0, up < 0))
    return 100 * rise / (rise + fall)


def yang_zhang(b):
    gap, body = np.log(b.open / b.close.shift()), np.log(b.close / b.open)
    high, low = np.log(b.high / b.open), np.log(b.low / b.open)
    within = (high * (high - body) + low * (low - body)).rolling(21).mean()
    k = 0.34 / (1.34 + 22 / 20)
    return np.sqrt(gap.rolling(21).var() + k * body.rolling(21).var() + (1 - k) * within)


def slow_kdj(b):
    low, high = b.low.rolling(9).min(), b.high.rolling(9).max()
    k = wilder(100 * (b.close - low) / (high - low), 3)
    return 3 * k - 2 * wilder(k, 3)


def accumulation(b):
    last = b.close.shift()
    rise, fall = b.close - np.minimum(b.low, last), b.close - np.maximum(b.high, last)
    return rise.where(b.close > last, fall.where(b.close < last, 0.0)).fillna(0).cumsum()


def fractional(b, d=0.4, n=100):
    from scipy.special import binom
    weights = [(-1)**k * binom(d, k) for k in range(n)]
    return np.log(b.close).rolling(n).apply(lambda x: float(np.dot(x[::-1], weights)), raw=True)


@pytest.mark.parametrize(
    "column, slow",
    [
        (
            "parkinson_21",
            lambda b: np.sqrt((np.log(b.high / b.low) ** 2).rolling(21).mean() / (4 * np.log(2))),
        ),
        (
            "garman_klass_21",
            lambda b: np.sqrt(
                (0.5 * np.log(b.high / b.low) ** 2 - (2 * np.log(2) - 1) * np.log(b.close / b.open) ** 2)
                .rolling(21)
                .mean()
            ),
        ),
        ("yang_zhang_21", yang_zhang),
        ("zscore_20", lambda b: (b.close - b.close.rolling(20).mean()) / b.close.rolling(20).std()),
        (
            "vwap_20",
            lambda b: (
                (b[["high", "low", "close"]].mean(axis=1) * b.volume).rolling(20).sum()
                / b.volume.rolling(20).sum()
            ),
        ),
        ("amihud_21", lambda b: 1e6 * (b.close.pct_change().abs() / (b.close * b.volume)).rolling(21).mean()),
        ("frac_diff_0.4_100", fractional),
        ("fosc_5", lambda b: 100 * (b.close - forecast(b, 5)) / b.close),
        (
            "imi_14",
            lambda b: (
                100
                * (b.close - b.open).clip(lower=0).rolling(14).sum()
                / (b.close - b.open).abs().rolling(14).sum()
            ),
        ),
        ("kdj_j_9_3_3", slow_kdj),
        ("wad", accumulation),
        ("rvi_14_10", rvi),
        ("pvt", lambda b: (b.volume * b.close.pct_change()).fillna(0).cumsum()),
        ("rvol_20", lambda b: b.volume / b.volume.shift().rolling(20).mean()),
        (
            "percentrank_100",
            lambda b: b.close.rolling(101).apply(lambda x: 100 * (x[:-1] < x[-1]).mean(), raw=True),
        ),
        ("percentile_30_30", lambda b: b.close.rolling(30).apply(lambda x: np.sort(x)[8], raw=True)),
        ("avgdev_14", lambda b: b.close.rolling(14).apply(lambda x: np.abs(x - x.mean()).mean(), raw=True)),
        (
            "beta_5",
            lambda b: (
                b.low.pct_change().rolling(5).cov(b.high.pct_change()) / b.high.pct_change().rolling(5).var()
            ),
        ),
        ("correl_30", lambda b: b.high.rolling(30).corr(b.low)),
        (
            "vhf_28",
            lambda b: (
                (b.close.rolling(28).max() - b.close.rolling(28).min())
                / b.close.diff().abs().rolling(28).sum()
            ),
        ),
        (
            "macdext_12_26_9",
            lambda b: (b.close.rolling(12).mean() - b.close.rolling(26).mean()).where(
                b.index >= b.index[0] + 33
            ),
        ),
        ("nvi", lambda b: 1000 * (1 + b.close.pct_change().where(b.volume.diff() < 0, 0)).cumprod()),
        ("kc_middle_20_10_2", lambda b: wilder_like(b[["high", "low", "close"]].mean(axis=1), 20)),
        ("max_30", lambda b: b.close.rolling(30).max()),
        ("min_30", lambda b: b.close.rolling(30).min()),
    ],
)
def test_against_an_independent_formula(make_bars, column, slow):
    bars = make_bars("AAA", 300, 5)
    spec = next(s for s in [*SERIES, "percentile_30_30"] if column in parse(s).columns)
    np.testing.assert_allclose(compute_features(bars, [spec])[column], slow(bars), rtol=1e-8, atol=1e-9)


def wilder_like(x, n):
    """An exponential average seeded by the mean of the first n."""
    out = x.rolling(n).mean().to_numpy().copy()
    for i in range(n, len(x)):
        out[i] = out[i - 1] + (x[i] - out[i - 1]) * 2 / (n + 1)
    return out


def test_rows_order_and_keys_are_those_of_the_bars(bars):
    table = compute_features(bars, FIRST_RUN)
    pd.testing.assert_frame_equal(table[list(KEYS)], bars[list(KEYS)])
    assert isinstance(table.index, pd.RangeIndex)


def test_symbols_do_not_touch(bars):
    together = compute_features(bars, FIRST_RUN)
    for _, part in bars.groupby("symbol"):
        alone = compute_features(part.reset_index(drop=True), FIRST_RUN, short="nan")
        pd.testing.assert_frame_equal(
            alone, together.loc[part.index].reset_index(drop=True), check_exact=True
        )


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
    pd.testing.assert_frame_equal(
        got.drop(columns="symbol"), expected.drop(columns="symbol"), check_exact=True
    )
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


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint64", "Int64"])
def test_volume_beyond_32_and_53_bits(make_bars, dtype):
    """Sums of whole numbers would overflow after 16 bars; they are added as floats."""
    bars = make_bars("AAA", 50).assign(volume=pd.array([2**59] * 50, dtype=dtype))
    table = compute_features(bars, ["volume_ma_20", "obv", "ad", "vwap_20", "amihud_21", "mfi_14", "cmf_20"])
    assert table["volume_ma_20"][49] == 2.0**59 and np.isfinite(table["obv"]).all()
    close = bars["close"].to_numpy()
    assert table["obv"][49] == 2.0**59 * (1 + np.sign(np.diff(close)).sum())
    typical = bars[["high", "low", "close"]].mean(axis=1)
    assert table["vwap_20"][49] == pytest.approx(typical[30:].mean(), rel=1e-12)


def test_one_bar(make_bars):
    one = make_bars("AAA", 1).assign(spread=0.01)
    table = compute_features(one, parse_set(SERIES), short="nan")
    full = [c for f in parse_set(SERIES) for c in f.columns if f.lookback == 0]
    assert len(table) == 1 and table[full].notna().all(axis=None)
    assert table.drop(columns=[*KEYS, *full]).isna().all(axis=None)


def test_a_symbol_without_a_price_is_an_error(bars):
    empty = bars.assign(close=bars["close"].where(bars.symbol != "BBB"))
    with pytest.raises(DataError, match="`bars.close` must be finite and positive, got nan .row 300: BBB"):
        compute_features(empty, ["rsi_14"])


def test_a_spread_that_is_not_known_is_nan(bars):
    known = bars.assign(spread=np.where(bars.symbol == "AAA", 0.02, np.nan))
    table = compute_features(known, ["spread"])
    assert (table["spread"][:300] == 0.02).all() and table["spread"][300:].isna().all()
    assert compute_features(bars.assign(spread=np.nan), ["spread"])["spread"].isna().all()
    with pytest.raises(DataError, match="finite and not negative, or NaN where unknown"):
        compute_features(bars.assign(spread=-1.0), ["spread"])
    with pytest.raises(DataError, match="the column spread.*\n.*this source has none"):
        compute_features(bars, ["seed", "spread"])


def test_aliases_stand_beside_their_specs(bars):
    specs = ["macd_hist", "macd_12_26_9", "macd", "rsi", "ma60", "sma_60", "atr", "volume_ma"]
    table = compute_features(bars, specs)
    assert list(table.columns[4:]) == [
        "macd_hist",
        "macd_12_26_9",
        "macd_signal_12_26_9",
        "macd_hist_12_26_9",
        "macd",
        "rsi",
        "ma60",
        "sma_60",
        "atr",
        "volume_ma",
    ]
    for alias, column in (("macd_hist", "macd_hist_12_26_9"), ("macd", "macd_12_26_9"), ("ma60", "sma_60")):
        pd.testing.assert_series_equal(table[alias], table[column], check_names=False, check_exact=True)
    one = compute_features(bars[:300], specs)
    pd.testing.assert_frame_equal(one, table[:300], check_exact=True)
    one.loc[:, "macd"] = 0.0
    assert (one["macd_12_26_9"][40:] != 0).all()
    pd.testing.assert_series_equal(compute_features(bars, ["rsi"])["rsi"], table["rsi"], check_exact=True)


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
    assert len(compute_features(bars.drop(columns=["open", "high", "low", "volume"]), ["rsi_14"])) == len(
        bars
    )
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
