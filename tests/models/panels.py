"""Panels whose truth is known: a weak signal of a stated strength, under a common market that hides it."""
from dataclasses import replace

import numpy as np
import pandas as pd

from mlfin.models.dataset import Dataset, content_hash
from mlfin.models.labels import compute_labels, label_of

WEIGHTS = np.array([0.6, -0.48, 0.64])  # of the first three inputs in the signal; their squares add up to 1


def synthetic_bars(seed: int, symbols: int = 50, bars: int = 2500, ic: float = 0.05, inputs: int = 8):
    """Daily bars and what was known at each close: (bars frame, array of rows x inputs).

    The return from the next open to the one after is market + volatility * (ic * signal + noise), the signal being
    `X[:, :3] @ WEIGHTS`, of variance 1. So `ic` is the correlation, over the symbols of each date, between the signal and
    `fwd_demean_1` (or `fwd_ret_1`: what all share does not change it). `ic=0` is pure noise.
    """
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((bars, symbols, inputs))
    own = ic * (X[..., :3] @ WEIGHTS) + np.sqrt(1 - ic**2) * rng.standard_normal((bars, symbols))
    change = 0.01 * rng.standard_normal((bars, 1)) + 0.015 * own             # of the open after next
    path = np.vstack([np.zeros((2, symbols)), np.log1p(np.clip(change, -0.5, 1.0))]).cumsum(axis=0)
    opened, after = 100 * np.exp(path[:bars]), 100 * np.exp(path[1:bars + 1])
    close = np.sqrt(opened * after) * np.exp(0.005 * rng.standard_normal((bars, symbols)))
    ts = pd.date_range("2000-01-03 14:30", periods=bars, freq="B", tz="UTC").as_unit("us")
    at = pd.DatetimeIndex(np.tile(ts.asi8, symbols).view("M8[us]")).tz_localize("UTC")
    names = np.repeat([f"S{i:03d}" for i in range(symbols)], bars)
    columns = {"open": opened, "high": np.maximum(opened, close) * 1.002, "low": np.minimum(opened, close) * 0.998,
               "close": close, "volume": rng.integers(1_000, 9_000, (bars, symbols)).astype(float)}
    frame = pd.DataFrame({"symbol": pd.Series(names, dtype="str"), "timeframe": pd.Series(["1d"] * len(names), dtype="str"),
                          "ts": at, "known_at": at + pd.Timedelta("390min"),
                          **{name: x.T.ravel() for name, x in columns.items()}})
    return frame, X.transpose(1, 0, 2).reshape(-1, inputs)


def synthetic_panel(seed: int, symbols: int = 50, bars: int = 2500, ic: float = 0.05, label: str = "fwd_demean_1",
                    inputs: int = 8) -> Dataset:
    """The same as a dataset: inputs f_0, f_1, ... and a label made from the bars."""
    frame, X = synthetic_bars(seed, symbols, bars, ic, inputs)
    labels = compute_labels(frame, label)
    spec, key = label_of(labels), ["symbol", "timeframe", "ts"]
    names = [f"f_{i}" for i in range(inputs)]
    whole = pd.concat([frame[[*key, "known_at"]], pd.DataFrame(X, columns=names)], axis=1)
    rows = whole.merge(labels, on=key).sort_values(key, ignore_index=True)
    last = whole["symbol"].map(labels.groupby("symbol")["ts"].max())
    pending = whole[~(whole["ts"] <= last)].reset_index(drop=True)
    made = Dataset(rows[names], rows[spec.direction], rows[spec.spec], rows[[*key, "known_at"]], rows[["ts", "t0", "t1"]],
                   spec.spec, tuple(names), pd.DataFrame(columns=["reason", "rows"]), "", pending)
    return replace(made, hash=content_hash(made))
