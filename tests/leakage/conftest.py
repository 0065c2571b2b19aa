"""Seeded bars, and a registry that a test may write into."""

import numpy as np
import pandas as pd
import pytest

import mlfin.features.spec as spec


def walk(symbol: str, size: int, seed: int = 0, end: str = "2021-12-31") -> pd.DataFrame:
    """Daily bars of one symbol: a random walk that ends on a date."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, size)))
    opened = close * np.exp(rng.normal(0, 0.003, size))
    ts = pd.date_range(end=end, periods=size, freq="D", tz="UTC").as_unit("us")
    return pd.DataFrame(dict(
        symbol=symbol, timeframe="1d", ts=ts, known_at=ts + pd.Timedelta("1D"), open=opened,
        high=np.maximum(opened, close) * 1.002, low=np.minimum(opened, close) * 0.998, close=close,
        volume=rng.integers(1_000, 9_000, size).astype(float)))


@pytest.fixture
def make_bars():
    """The function that makes bars of one symbol."""
    return walk


@pytest.fixture
def bars() -> pd.DataFrame:
    """Three symbols; the second is young."""
    return pd.concat([walk("AAA", 300, 1), walk("BBB", 40, 2), walk("CCC", 200, 3)], ignore_index=True)


@pytest.fixture
def registry(monkeypatch):
    """A copy of the registry: what a test registers is gone after it."""
    spec.load_features()
    monkeypatch.setattr(spec, "_registry", dict(spec._registry))
    return spec._registry
