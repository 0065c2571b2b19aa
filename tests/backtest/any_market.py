"""Bars, targets and cost models of any kind, for tests of fills."""

from functools import lru_cache

import numpy as np
import pandas as pd
from hypothesis import strategies as st


def market(seed, rows=30, symbols=2, missing=0.1, vol=0.05):
    """Bars with everything: gaps, missing bars, an early end, zero volume, unknown vwap and spread, funding rates."""
    return _market(seed, rows, symbols, missing, vol).copy()


@lru_cache(64)
def _market(seed, rows, symbols, missing, vol):
    rng = np.random.default_rng(seed)
    ts = pd.date_range("2024-01-01", periods=rows, freq="8h", tz="UTC", unit="us")
    parts, kept = [], []
    for s in range(symbols):
        close = 20 * (s + 1) * np.exp(rng.normal(0, vol, rows).cumsum())
        open_ = np.append(close[0], close[:-1]) * np.exp(rng.normal(0, vol / 2, rows))
        top, low = np.maximum(open_, close), np.minimum(open_, close)
        part = dict(open=open_, high=top * np.exp(rng.exponential(vol / 3, rows)), low=low * np.exp(-rng.exponential(vol / 3, rows)), close=close)
        part["vwap"] = np.where(rng.random(rows) < 0.1, np.nan, (part["high"] + part["low"]) / 2)
        part["volume"] = np.where(rng.random(rows) < 0.1, 0.0, rng.lognormal(6, 1, rows))
        part["spread"] = np.where(rng.random(rows) < 0.2, np.nan, close * rng.uniform(0, 0.004, rows))
        part["funding"] = np.where(rng.random(rows) < 0.7, np.nan, rng.normal(0, 1e-3, rows))
        keep = rng.random(rows) >= missing
        if s and rng.random() < 0.5: keep[rng.integers(rows // 2, rows):] = False
        parts.append(part)
        kept.append(np.flatnonzero(keep | (s == 0)))
    names = [f"S{s}" for s, own in enumerate(kept) for _ in own]
    columns = {c: np.concatenate([p[c][k] for p, k in zip(parts, kept, strict=True)]) for c in part}
    return pd.DataFrame(dict(symbol=names, timeframe="8h", ts=ts[np.concatenate(kept)], **columns))


def targets(bars, seed, gross=1.0, short=True, change=0.3):
    """Random targets that change now and then."""
    rng = np.random.default_rng(seed + 1000)
    ts, symbols = sorted(bars.ts.unique())[2:-2], sorted(bars.symbol.unique())
    w = rng.uniform(-1 if short else 0, 1, (len(ts), len(symbols))) * rng.integers(0, 2, (len(ts), len(symbols)))
    for t in range(1, len(ts)):
        same = rng.random(len(symbols)) > change
        w[t, same] = w[t - 1, same]
    if seed % 2:  # all of the account, so that the cash does not pay for everything
        size = np.abs(w).sum(axis=1, keepdims=True)
        w = np.where(size > 0, w / np.where(size > 0, size, 1.0) * len(symbols), 0.0)
    return pd.DataFrame(w * gross / len(symbols), index=pd.DatetimeIndex(ts), columns=symbols)


costs_of_any_kind = st.fixed_dictionaries({
    "fill": st.sampled_from(["open", "vwap", "close"]), "delay": st.integers(1, 3), "fee_bps": st.sampled_from([0.0, 10.0]),
    "fee_per_share": st.sampled_from([0.0, 0.02]), "fee_min": st.sampled_from([0.0, 2.0]), "use_spread": st.booleans(),
    "spread_bps": st.sampled_from([0.0, 20.0]), "slippage_bps": st.sampled_from([0.0, 5.0]), "slippage_vol": st.sampled_from([0.0, 0.1]),
    "impact": st.sampled_from([0.0, 0.2]), "borrow_bps": st.sampled_from([0.0, 300.0]), "funding_bps": st.sampled_from([0.0, 600.0]),
    "lot": st.sampled_from([0.0, 1.0, 10.0]), "participation": st.sampled_from([None, 0.05, 0.5]), "delisting_return": st.sampled_from([0.0, -0.3])})
stops_of_any_kind = st.fixed_dictionaries({name: st.sampled_from([None, 0.03, 0.1]) for name in ("stop_loss", "take_profit", "trailing_stop")})
