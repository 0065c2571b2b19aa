"""Labels: values, spans, ends, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfin.core.errors import DataError, SpecError
from mlfin.models.labels import compute_labels, forward_return, is_label, label_coverage, parse_label


def bars_of(sizes: dict[str, int], seed: int = 0) -> pd.DataFrame:
    """Bars of several symbols, each a random walk from one first day."""
    rng, parts = np.random.default_rng(seed), []
    for symbol, size in sorted(sizes.items()):
        ts = pd.date_range("2020-01-01", periods=size, freq="B", tz="UTC").as_unit("us")
        price = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, size)))
        known = ts + pd.Timedelta("7h")
        parts.append(pd.DataFrame(dict(symbol=symbol, timeframe="1d", ts=ts, known_at=known, open=price)))
    return pd.concat(parts, ignore_index=True)


def test_by_hand():
    bars = bars_of({"AAA": 5}).assign(open=[10.0, 20.0, 30.0, 25.0, 25.0])
    out = forward_return(bars, 1)
    assert out.columns.tolist() == ["symbol", "timeframe", "ts", "t0", "t1", "fwd_ret_1", "fwd_ret_1_direction"]
    assert out["fwd_ret_1"].tolist() == [0.5, 25 / 30 - 1, 0.0]
    assert out["fwd_ret_1_direction"].tolist() == [1, 0, 0] and out["fwd_ret_1_direction"].dtype == np.int8
    assert out["t0"].tolist() == bars["ts"][1:4].tolist() and out["t1"].tolist() == bars["ts"][2:5].tolist()
    assert out["t0"].dtype == bars["ts"].dtype == out["t1"].dtype


@given(st.dictionaries(st.sampled_from("ABCDE"), st.integers(3, 30), min_size=1), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
@pytest.mark.filterwarnings("ignore:no fwd_ret")
def test_against_a_slow_loop(sizes, horizon):
    bars = bars_of(sizes)
    if max(sizes.values()) < horizon + 2:
        with pytest.raises(DataError, match="`horizon` must be at most"):
            forward_return(bars, horizon)
        return
    rows = []
    for symbol, part in bars.groupby("symbol"):
        part = part.reset_index(drop=True)
        for i in range(len(part) - horizon - 1):
            into, out = part.loc[i + 1], part.loc[i + 1 + horizon]
            rows.append((symbol, part.loc[i, "ts"], into.ts, out.ts, out.open / into.open - 1))
    got = forward_return(bars, horizon)
    assert list(got[["symbol", "ts", "t0", "t1", f"fwd_ret_{horizon}"]].itertuples(index=False, name=None)) == rows
    assert (got["t0"] > got["ts"]).all() and (got["t1"] > got["t0"]).all()


def test_a_short_symbol_is_named_and_a_horizon_too_long_for_all_is_an_error():
    bars = bars_of({"AAA": 30, "BBB": 6, "CCC": 7})
    with pytest.warns(UserWarning, match="no fwd_ret_5 for BBB: fewer than 7 bars"):
        labels = forward_return(bars, 5)
    assert labels["symbol"].unique().tolist() == ["AAA", "CCC"]
    table = label_coverage(bars, labels).set_index("symbol")
    assert table["labels"].to_dict() == {"AAA": 24, "BBB": 0, "CCC": 1}
    assert (table["bars"] == table["labels"] + table["without"]).all()
    with pytest.raises(DataError, match="`horizon` must be at most 28, for the longest history has 30 bars, got 29"):
        forward_return(bars, 29)
    with pytest.warns(UserWarning):
        assert len(forward_return(bars, 28)) == 1


@pytest.mark.parametrize("horizon", [0, -1, 2.0, "5", None, True])
def test_impossible_horizon(horizon):
    with pytest.raises(DataError, match="`horizon` must be an integer >= 1"):
        forward_return(bars_of({"AAA": 30}), horizon)


@pytest.mark.parametrize("spec", [
    "", "fwd_ret", "fwd_ret_0", "fwd_ret_05", "fwd_ret_-1", "fwd_ret_1.5", "ret_5", "fwd_5", 5, None])
def test_unknown_label(spec):
    with pytest.raises(SpecError, match="`label` must be the name of a known label"):
        parse_label(spec)


def test_names():
    assert parse_label("fwd_ret_20").horizon == 20 and str(parse_label("fwd_ret_20")) == "fwd_ret_20"
    assert parse_label(parse_label("fwd_ret_3")).direction == "fwd_ret_3_direction"
    assert is_label("fwd_ret_5") and is_label("fwd_ret_9_direction") and not is_label("rsi_14")
    assert "fwd_ret_3" in compute_labels(bars_of({"A": 20}), "fwd_ret_3")


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_impossible_prices(value):
    bars = bars_of({"AAA": 10, "BBB": 10})
    bars.loc[13, "open"] = value
    with pytest.raises(DataError, match="row 13: BBB"):
        forward_return(bars, 2)


def test_bad_bars():
    bars = bars_of({"AAA": 10})
    for bad in (bars.iloc[::-1], bars.drop(columns="open"), bars[:0], pd.concat([bars, bars])):
        with pytest.raises(DataError):
            forward_return(bad, 2)
