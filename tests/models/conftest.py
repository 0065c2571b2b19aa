"""A panel whose truth is known, and folds by date over it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest


def panel(signal=0.2, seed=0, days=900, symbols=("AAPL", "IBM"), features=4):
    """Features, direction and return; the first feature's correlation with the return is about `signal`."""
    rng = np.random.default_rng(seed)
    ts = pd.date_range("2000-01-03 14:30", periods=days, freq="B", tz="UTC").as_unit("us")
    keys = pd.concat([pd.DataFrame({"symbol": s, "timeframe": "1d", "ts": ts}) for s in symbols], ignore_index=True)
    keys["t0"], keys["t1"] = keys["ts"] + pd.Timedelta("1D"), keys["ts"] + pd.Timedelta("6D")
    X = pd.DataFrame(rng.normal(size=(len(keys), features)), columns=[f"f_{i}" for i in range(features)])
    move = 0.02 * (signal * X["f_0"].to_numpy() + rng.normal(size=len(keys)))
    return SimpleNamespace(
        X=X,
        y=pd.Series(move > 0).astype("int8"),
        keys=keys,
        forward_return=pd.Series(move),
        names=list(X),
        hash="0" * 64,
    )


def date_folds(dataset, number=5, gap=6):
    """Expanding folds by date over all symbols."""
    ts = dataset.keys["ts"]
    days = ts.drop_duplicates().sort_values(ignore_index=True)
    edges = np.linspace(len(days) // 3, len(days), number + 1).astype(int)

    def one(k, a, b):
        train = np.flatnonzero(ts < days[a - gap])
        test = np.flatnonzero((ts >= days[a]) & (ts <= days[b - 1]))
        return SimpleNamespace(
            number=k,
            train=train,
            test=test,
            train_start=days[0],
            train_end=days[a - gap - 1],
            test_start=days[a],
            test_end=days[b - 1],
        )

    return [one(k, a, b) for k, (a, b) in enumerate(zip(edges, edges[1:], strict=False))]


@pytest.fixture
def make_panel():
    return panel


@pytest.fixture
def make_date_folds():
    return date_folds
