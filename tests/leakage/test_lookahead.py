"""No registered feature peeks, and planted bugs are caught."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import ParameterError, SpecError
from mlfin.features.lookahead import assert_no_lookahead, cut_times, replace_future
from mlfin.features.spec import Param, feature, load_features

BUILTIN = Path(__file__).parents[2] / "mlfin" / "data" / "builtin" / "us_equities.parquet"


@pytest.mark.parametrize("spec", load_features())
def test_no_registered_feature_peeks(bars, spec):
    assert assert_no_lookahead([spec], bars, cuts=8) >= 16


def test_on_every_late_bar(bars):
    late = bars["ts"].drop_duplicates().sort_values()[-30:-1]
    specs = "rsi_14 macd_12_26_9 ema_50 bbands_20_2 atr_14 historical_vol_21 ret_5 obv".split()
    assert assert_no_lookahead(specs, bars, cuts=list(late)) == 29 * 2 * 12


def centred(close, n):
    return pd.Series(close).rolling(n, center=True, min_periods=1).mean().to_numpy()


def shifted(close):
    return pd.Series(close).shift(-1).ffill().to_numpy()


def standardised(close):
    return (close - close.mean()) / close.std()


def backfilled(close):
    return pd.Series(close).where(np.arange(len(close)) % 7 == 0).bfill().ffill().to_numpy()


def ranked(close):
    return pd.Series(close).rank(pct=True).to_numpy()


def last(close):
    return close / close[-1]



@pytest.mark.parametrize("bug", [shifted, standardised, backfilled, ranked, last])
def test_planted_bugs(registry, bars, bug):
    feature("planted", unit="price", lookback=0)(bug)
    with pytest.raises(SpecError, match="`planted` looks ahead: planted at (AAA|BBB|CCC) 20") as e:
        assert_no_lookahead(["rsi_14", "planted"], bars)
    assert "Hint: " in str(e.value)


@pytest.mark.parametrize("n", [3, 5, 21])
def test_centred_window(registry, bars, n):
    feature("planted", params=[Param("n", 5)], unit="price", lookback=0)(centred)
    with pytest.raises(SpecError, match="looks ahead"):
        assert_no_lookahead([f"planted_{n}"], bars)


def test_the_row_that_is_named_is_the_first_wrong_one(registry, make_bars):
    feature("planted", unit="price", lookback=0)(shifted)
    bars = make_bars("AAA", 60)
    with pytest.raises(SpecError) as e:
        assert_no_lookahead(["planted"], bars, cuts=[bars["ts"][40]])
    assert f"planted at AAA {bars['ts'][40]}" in str(e.value)


def test_one_bit_is_enough(registry, make_bars):
    def one_bit(close):
        return np.nextafter(close, np.inf) if close[-1] > 1e3 else close * 1.0
    feature("planted", unit="price", lookback=0)(one_bit)
    bars = make_bars("AAA", 60)
    bars.loc[59, ["open", "high", "low", "close"]] = 2e3
    with pytest.raises(SpecError, match="cut off"):
        assert_no_lookahead(["planted"], bars, cuts=1)


def test_values_before_the_lookback_is_full(registry, bars):
    feature("eager", params=[Param("n", 20)], unit="price", lookback=lambda n: n - 1)(
        lambda close, n: pd.Series(close).rolling(n, min_periods=1).mean().to_numpy())
    with pytest.raises(SpecError, match="`eager_20` must be NaN in the first 19 bars"):
        assert_no_lookahead(["eager_20"], bars)


def test_noise_leaves_the_past_alone(bars):
    cut = bars["ts"][150]
    noisy = replace_future(bars, cut, seed=1)
    past = bars["ts"] <= cut
    pd.testing.assert_frame_equal(noisy[past], bars[past], check_exact=True)
    assert (noisy.loc[~past, "close"] != bars.loc[~past, "close"]).all()
    assert (noisy.high >= noisy[["open", "close"]].max(axis=1)).all() and (noisy.low > 0).all()
    pd.testing.assert_frame_equal(noisy, replace_future(bars, cut, seed=1))


def test_cuts(bars):
    assert cut_times(bars, 3)[-1] == bars["ts"].max() - pd.Timedelta("1D")
    with pytest.raises(ParameterError, match="cuts"):
        cut_times(bars, 0)
    with pytest.raises(ParameterError, match="two times"):
        cut_times(bars[:1])
    with pytest.raises(ParameterError, match="after the first bar"):
        assert_no_lookahead(["rsi_14"], bars, cuts=["2000-01-01T00:00Z"])


@pytest.mark.skipif(not BUILTIN.is_file(), reason="the built-in dataset is not in this tree")
def test_on_real_bars():
    raw = pd.read_parquet(BUILTIN)
    ts = pd.to_datetime(raw["date"], utc=True).astype("datetime64[us, UTC]")
    bars = raw.drop(columns=["date", "adj_close"]).assign(timeframe="1d", ts=ts, known_at=ts + pd.Timedelta("1D"))
    bars = bars[bars["ts"] >= "2010-01-01"].sort_values(["symbol", "ts"], ignore_index=True)
    assert bars["symbol"].nunique() == 5
    specs = "rsi_14 macd_12_26_9 atr_14 historical_vol_21 obv bbands_20_2".split()
    assert assert_no_lookahead(specs, bars, cuts=4) == 4 * 2 * 10
