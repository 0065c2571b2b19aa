"""Weights: by hand, against the book's loops, symbol by symbol, and what is refused."""
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfin.core.errors import DataError
from mlfin.datasets.labels import compute_labels
from mlfin.datasets.weights import (
    WEIGHTS,
    average_uniqueness,
    return_attribution,
    sample_weights,
    time_decay,
    uniqueness,
)

START = pd.Timestamp("2020-01-01", tz="UTC").as_unit("us")


def day(n):
    return START + pd.to_timedelta(np.asarray(n), unit="D")


def spans(*pairs, symbol="A") -> pd.DataFrame:
    """Labels with spans from one day to another; the decision is a day before."""
    first, last = np.array(pairs).T
    return pd.DataFrame(dict(symbol=symbol, timeframe="1d", ts=day(first - 1), t0=day(first), t1=day(last)))


def bars_of(*opens, symbol="A") -> pd.DataFrame:
    ts = day(np.arange(len(opens)))
    return pd.DataFrame(
        dict(symbol=symbol, timeframe="1d", ts=ts, known_at=ts, open=np.array(opens, dtype=float))
    )


def test_uniqueness_by_hand():
    labels, bars = spans((1, 4), (2, 5), (6, 8)), bars_of(*[1.0] * 10)
    # days 1..4 are covered by 1, 2, 2, 1 labels; the third label is alone
    np.testing.assert_allclose(
        average_uniqueness(labels, bars), [(1 + 0.5 + 0.5) / 3, (0.5 + 0.5 + 1) / 3, 1], rtol=1e-15
    )
    # with the day of the exit: 1, 2, 2, 2, 1
    np.testing.assert_allclose(average_uniqueness(labels, bars, "both"), [2.5 / 4, 2.5 / 4, 1], rtol=1e-15)
    weights = uniqueness(labels, bars)
    np.testing.assert_allclose(weights, np.array([2, 2, 3]) / 7 * 3, rtol=1e-14)
    assert weights.dtype == float and weights.mean() == pytest.approx(1, abs=1e-15)


def slow(labels: pd.DataFrame, bars: pd.DataFrame, closed: str):
    """Snippets 4.1, 4.2 and 4.10 of the book as loops, symbol by symbol: uniqueness and attributed
    returns."""
    unique, moved = [], []
    for row in labels.itertuples():
        own, others = (
            bars[bars.symbol == row.symbol].reset_index(drop=True),
            labels[labels.symbol == row.symbol],
        )
        change = np.log(own.open).diff().shift(-1).fillna(0.0)
        inside = (own.ts >= row.t0) & ((own.ts <= row.t1) if closed == "both" else (own.ts < row.t1))
        count = np.array(
            [
                ((others.t0 <= t) & ((others.t1 >= t) if closed == "both" else (others.t1 > t))).sum()
                for t in own.ts[inside]
            ]
        )
        unique.append((1 / count).mean())
        moved.append(abs((change[inside] / count).sum()))
    return np.array(unique), np.array(moved)


@given(
    st.lists(
        st.tuples(st.sampled_from("ABC"), st.integers(1, 20), st.integers(1, 8)), min_size=1, max_size=25
    ),
    st.sampled_from(["left", "both"]),
    st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_against_the_loops_of_the_book(rows, closed, seed):
    rng = np.random.default_rng(seed)
    bars = pd.concat([bars_of(*rng.uniform(1, 2, 30), symbol=s) for s in "ABC"], ignore_index=True)
    labels = pd.concat([spans((a, a + n), symbol=s) for s, a, n in rows]).set_axis(rng.permutation(len(rows)))
    unique, moved = slow(labels, bars, closed)
    np.testing.assert_allclose(average_uniqueness(labels, bars, closed), unique, rtol=1e-12)
    got = return_attribution(labels, bars, closed)
    np.testing.assert_allclose(got, moved / moved.mean(), rtol=1e-9)
    assert got.index.equals(labels.index) and got.name == "return_attribution"


def test_symbols_do_not_count_each_other_and_order_does_not_matter():
    a, b = spans((1, 4), (2, 5), (3, 9)), spans((1, 6), (2, 3), symbol="B")
    both = pd.concat([b, a], ignore_index=True)
    np.testing.assert_array_equal(
        average_uniqueness(both), np.r_[average_uniqueness(b), average_uniqueness(a)]
    )
    mixed = both.sample(frac=1, random_state=3)
    for kind in ("equal", "uniqueness", "time_decay"):
        pd.testing.assert_series_equal(
            sample_weights(mixed, kind).sort_index(), sample_weights(both, kind), rtol=1e-12
        )


def test_bars_and_the_spans_own_ends_agree_where_each_bar_begins_a_label():
    rng = np.random.default_rng(1)
    bars = pd.concat(
        [bars_of(*rng.uniform(1, 2, n), symbol=s) for s, n in (("A", 40), ("B", 25))], ignore_index=True
    )
    labels = compute_labels(bars, "fwd_ret_5")
    np.testing.assert_allclose(average_uniqueness(labels), average_uniqueness(labels, bars), rtol=1e-12)
    assert set(average_uniqueness(labels[labels.symbol == "A"])[4:-4].round(12)) == {0.2}


def test_return_attribution_by_hand():
    bars = bars_of(1, 1, 2, 4, 4, 1)  # log returns of the bars: 0, ln 2, ln 2, 0, -ln 4, 0
    labels = spans((1, 3), (2, 4), (4, 5))
    raw = np.log([2 * 2**0.5, 2**0.5, 4])  # the second bar that moves is shared
    np.testing.assert_allclose(return_attribution(labels, bars), raw / raw.mean(), rtol=1e-14)
    with pytest.raises(
        DataError, match="(?s)`return_attribution` must be above zero in some row.*uniqueness instead"
    ):
        return_attribution(labels, bars_of(*[1.0] * 6))


def test_the_last_bar_counts_to_its_close():
    bars = bars_of(1, 1, 1, 1).assign(close=[1.0, 1, 1, 2])
    labels = spans((1, 2), (2, 3)).assign(t1=day([2, 3]) + pd.Timedelta("20h"))
    np.testing.assert_allclose(return_attribution(labels, bars), [0, 2], atol=1e-15)


@pytest.mark.parametrize("oldest, factors", [
    (1, [1, 1, 1, 1]), (0, [0.25, 0.5, 0.75, 1]), (0.5, [0.625, 0.75, 0.875, 1]), (-0.5, [0, 0, 0.5, 1])])
def test_time_decay_by_hand(oldest, factors):
    labels = spans((1, 2), (2, 3), (3, 4), (4, 5))  # each alone: equal shares of what was learnt
    np.testing.assert_allclose(time_decay(labels, oldest), np.array(factors) / np.mean(factors), rtol=1e-14)


def test_time_decay_counts_what_was_learnt_and_is_shared_by_rows_of_one_moment():
    labels = spans((1, 3), (1, 3), (5, 6))  # uniqueness 1/2, 1/2, 1: two rows at the same time
    factors = np.array([0.5, 0.5, 1.0])
    np.testing.assert_allclose(time_decay(labels, 0.0), factors / factors.mean(), rtol=1e-14)
    young = pd.concat([spans((1, 2), (2, 3)), spans((2, 3), symbol="B")], ignore_index=True)
    weights = time_decay(young, 0.2)
    assert weights[1] == weights[2] > weights[0]


def test_by_name():
    bars = bars_of(1, 2, 3, 2, 5, 6, 7, 5)
    labels = compute_labels(bars, "fwd_ret_2")
    for kind in WEIGHTS:
        weights = sample_weights(labels, kind, bars)
        assert len(weights) == len(labels) and weights.mean() == pytest.approx(1) and (weights >= 0).all()
    faded = uniqueness(labels) * time_decay(labels, 0.3)
    np.testing.assert_allclose(
        sample_weights(labels, "time_decay", oldest=0.3), faded / faded.mean(), rtol=1e-14
    )


def test_seconds_and_microseconds_far_apart():
    labels = pd.concat([spans((0, 2), (1, 3))] * 3000, ignore_index=True).assign(
        symbol=np.repeat([f"S{i}" for i in range(3000)], 2)
    )
    odd = labels.assign(t1=labels["t1"] + pd.Timedelta("1us"))
    odd.loc[0, ["t0", "t1"]] = (
        pd.Timestamp("1750-01-01", tz="UTC"),
        pd.Timestamp("1750-01-02 00:00:00.000001", tz="UTC"),
    )
    odd.loc[5999, ["t0", "t1"]] = (
        pd.Timestamp("2250-01-01", tz="UTC"),
        pd.Timestamp("2250-01-02 00:00:00.000001", tz="UTC"),
    )
    alone = average_uniqueness(odd)
    assert (alone[[0, 1, -2, -1]] == 1).all() and alone[2:-2] == pytest.approx(np.full(5996, alone[2]))


@pytest.mark.parametrize(
    "change, says",
    [
        (
            lambda x: x.drop(columns="symbol"),
            "`labels` must be a frame with symbol, t0 and t1, got 'no symbol'",
        ),
        (lambda x: x["t0"], "no symbol, t0, t1"),
        (lambda x: x[:0], "at least one row"),
        (lambda x: x.assign(t1=x["t1"].dt.tz_localize(None)), "`labels.t1` must be UTC timestamps"),
        (lambda x: x.assign(t0=pd.NaT), "`labels.t0`"),
        (lambda x: x.assign(t1=x["t0"] - pd.Timedelta("1D")), "spans with t0 <= t1, got .* .row 0"),
        (
            lambda x: x.assign(symbol="Z"),
            "spans that cover at least one bar, got '2 rows that cover none' .row 0: Z",
        ),
    ],
)
def test_refused_frames(change, says):
    with pytest.raises(DataError, match=says):
        uniqueness(change(spans((1, 4), (2, 5))), bars_of(*[1.0] * 9))


def test_refused_settings():
    labels = spans((1, 4), (2, 5))
    for oldest in (-1, 1.1, "1", None, True, float("nan")):
        with pytest.raises(DataError, match="`oldest` must be a number above -1 and at most 1"):
            time_decay(labels, oldest)
    with pytest.raises(DataError, match="did you mean `return_attribution`"):
        sample_weights(labels, "return_atribution")
    with pytest.raises(DataError, match="`bars` must be the bars that the labels were made from"):
        sample_weights(labels, "return_attribution")
    with pytest.raises(DataError, match="`closed` must be left or both"):
        uniqueness(labels, closed="right")
    for kind in WEIGHTS[:2]:
        with pytest.raises(DataError, match="no t0"):
            sample_weights(labels.drop(columns="t0"), kind)


def test_a_million_spans():
    ts = START + pd.to_timedelta(np.tile(np.arange(10_000), 100), unit="h")
    labels = pd.DataFrame(
        dict(
            symbol=pd.Series(np.repeat([f"S{i:02d}" for i in range(100)], 10_000), dtype="str"),
            ts=ts,
            t0=ts + pd.Timedelta("1h"),
            t1=ts + pd.Timedelta("6h"),
        )
    )
    begin = time.process_time()
    unique = average_uniqueness(labels)
    assert time.process_time() - begin < 5 and unique[5:100] == pytest.approx(np.full(95, 0.2))
