"""Odd but legal bars: nothing that NumPy grumbles about reaches the terminal, from any feature, check or
figure."""
import warnings

import numpy as np
import pandas as pd
import pytest

from mlfin.significance.sharpe_ratio import moments, sharpe
from mlfin.backtest.trading_rule import TradingRule
from mlfin.backtest.simulate import backtest, buy_and_hold
from mlfin.backtest.stress import regimes
from mlfin.core.errors import BacktestError, MlfinError
from mlfin.market.bars import as_bars
from mlfin.market.calendars import resample
from mlfin.quality.cleaning import clean
from mlfin.sources.sources import read_bars
from mlfin.features.spec import load_features, parse_set
from mlfin.features.table import compute_features


def odd(kind, n=300):
    ts = pd.date_range("2020-01-01", periods=n, freq="D", tz="UTC")
    walk = np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, n)))
    close = {"flat": np.full(n, 100.0), "huge": 1e300 * walk, "tiny": 1e-300 * walk, "unsold": 100 * walk}[
        kind
    ]
    volume = {"flat": 0.0, "huge": 1e308, "tiny": 10.0, "unsold": 0.0}[kind]
    frame = pd.DataFrame(
        {
            "symbol": "A",
            "timeframe": "1d",
            "ts": ts,
            "known_at": ts + pd.Timedelta("1D"),
            "open": close,
            "high": close * 1.01,
            "low": close * 0.99,
            "close": close,
            "volume": volume,
        }
    )
    return as_bars(pd.concat([frame, frame.assign(symbol="B")], ignore_index=True))


@pytest.mark.parametrize("kind", ["flat", "huge", "tiny", "unsold"])
def test_odd_bars_warn_of_nothing(kind, tmp_path):
    bars = odd(kind)
    found = parse_set(load_features())
    specs = [f.spec for f in found if f.kind == "series" and set(f.inputs) <= set(bars) and f.lookback < 300]
    steps = [
        lambda: clean(bars, "24/7"),
        lambda: resample(bars, "1w", "24/7"),
        lambda: buy_and_hold(bars, calendar="24/7"),
        lambda: backtest(
            bars[["symbol", "ts"]].assign(probability=0.9, fold=0), bars, TradingRule(), calendar="24/7"
        ),
    ]
    path = tmp_path / "x.parquet"
    bars[bars.symbol == "A"].drop(columns=["known_at", "timeframe", "symbol"]).assign(
        adj_close=1e308
    ).to_parquet(path)
    steps.append(lambda: read_bars(path, symbols="A", timeframe="1d", calendar="24/7", tz="UTC"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert len(specs) > 80 and list(compute_features(bars, specs).columns)
        for step in steps:
            try:
                step()
            except MlfinError as e:
                assert "Hint" in str(e) or "must be" in str(e)


@pytest.mark.parametrize("returns", [[0.0] * 29 + [1e-300], [0.0] * 29 + [1e300]])
def test_returns_that_cannot_be_squared_are_refused_by_name(returns):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert not sharpe(returns) > 1e-3
        with pytest.raises(BacktestError, match="squared"):
            moments(returns)
        assert len(regimes(pd.Series(returns, index=pd.date_range("2020-01-01", periods=30))))
