"""Splits: no training span ever touches a test span, whatever the panel looks like."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfin.core.errors import SplitError
from mlfin.models.splits import WalkForward, describe_folds

START = pd.Timestamp("2020-01-01", tz="UTC").as_unit("us")


def panel(symbols: list[tuple[int, int]], longest: int = 5, seed: int = 0) -> pd.DataFrame:
    """Labels of symbols given as (first day, number of days), with spans of random length."""
    rng, parts = np.random.default_rng(seed), []
    for number, (first, size) in enumerate(symbols):
        days = np.sort(rng.choice(np.arange(first, first + 2 * size), size, replace=False))
        ts = START + pd.to_timedelta(days, unit="D")
        entry = ts + pd.Timedelta("1D")
        parts.append(pd.DataFrame(dict(symbol=f"S{number}", timeframe="1d", ts=ts, t0=entry,
                                       t1=entry + pd.to_timedelta(rng.integers(0, longest + 1, size), unit="D"))))
    return pd.concat(parts, ignore_index=True)


panels = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 80)), min_size=1, max_size=4)


@given(panels, st.integers(0, 12), st.integers(1, 6), st.integers(0, 8), st.sampled_from([None, 1, 5, 20]),
       st.booleans(), st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_no_train_span_touches_a_test_span(symbols, longest, folds, embargo, min_train, expanding, seed):
    labels = panel(symbols, longest, seed).sample(frac=1, random_state=seed).reset_index(drop=True)
    try:
        found = WalkForward(folds, embargo, min_train, expanding).split(labels)
    except SplitError as e:
        assert "Hint: " in str(e)
        return
    times = labels["ts"].drop_duplicates().sort_values(ignore_index=True)
    assert [f.number for f in found] == list(range(1, folds + 1))
    tested = np.concatenate([f.test for f in found])
    assert len(np.unique(tested)) == len(tested)
    for f in found:
        train, test = labels.iloc[f.train], labels.iloc[f.test]
        assert len(train) and len(test) and not set(f.train) & set(f.test)
        assert (np.diff(f.train) > 0).all() and (np.diff(f.test) > 0).all()
        # exhaustively: every training span against every test row's span and decision
        assert not (train["t1"].to_numpy()[:, None] >= test["t0"].to_numpy()[None, :]).any()
        assert not (train["t1"].to_numpy()[:, None] >= test["ts"].to_numpy()[None, :]).any()
        first = times.searchsorted(test["ts"].min())
        assert first >= embargo and train["t1"].max() < times[first - embargo]
        inside = (labels["ts"] >= test["ts"].min()) & (labels["ts"] <= test["ts"].max())
        assert inside.sum() == len(test)
        assert (f.train_start, f.train_end) == (train["ts"].min(), train["ts"].max())
        assert (f.test_start, f.test_end) == (test["ts"].min(), test["ts"].max())
    assert labels["ts"].iloc[tested].min() == found[0].test_start
    assert (labels["ts"] >= found[0].test_start).sum() == len(tested)


def test_nothing_allowed_is_left_out():
    labels = panel([(0, 100), (20, 60)])
    for f in WalkForward(4, embargo=3).split(labels):
        times = labels["ts"].drop_duplicates().sort_values(ignore_index=True)
        limit = times[times.searchsorted(f.test_start) - 3]
        allowed = labels.index[(labels["ts"] < f.test_start) & (labels["t1"] < limit)]
        assert f.train.tolist() == allowed.tolist()
        assert f.purged == (labels["ts"] < f.test_start).sum() - len(f.train)


def test_blocks_are_equal_to_one_and_cover_everything_after_the_first():
    ts = START + pd.to_timedelta(np.arange(103), unit="D")
    labels = pd.DataFrame(dict(ts=ts, t0=ts + pd.Timedelta("1D"), t1=ts + pd.Timedelta("2D")))
    folds = WalkForward(5, embargo=0).split(labels)
    assert sorted(len(f.test) for f in folds) == [17, 17, 17, 17, 18]
    assert np.concatenate([f.test for f in folds]).tolist() == list(range(17, 103))
    assert [f.train[-1] + 3 for f in folds] == [f.test[0] for f in folds]


def test_rolling_forgets_and_expanding_does_not():
    labels = panel([(0, 200)])
    grown = WalkForward(4, 2, 50).split(labels)
    rolled = WalkForward(4, 2, 50, expanding=False).split(labels)
    assert all(f.train[0] == 0 for f in grown)
    assert all(len(f.train) <= 50 for f in rolled)
    assert [f.train_end for f in grown] == [f.train_end for f in rolled]
    assert all(a.train_start < b.train_start for a, b in zip(rolled, rolled[1:], strict=False))


def test_symbols_share_borders_and_may_be_absent():
    labels = panel([(0, 100), (150, 20)])
    folds = WalkForward(5, 1).split(labels)
    there = [(labels["symbol"].iloc[f.test] == "S1").any() for f in folds]
    assert not there[0] and there[-1]


def test_description():
    table = describe_folds(WalkForward(3, 2).split(panel([(0, 100)])))
    assert table.columns.tolist() == [
        "fold", "n_train", "n_test", "purged", "train_start", "train_end", "test_start", "test_end"]
    assert table["fold"].tolist() == [1, 2, 3] and (table["test_start"] > table["train_end"]).all()


@pytest.mark.parametrize("change, says", [
    (lambda x: x.drop(columns=["t0"]), "`labels` must be a frame with ts, t0 and t1, got 'no t0'"),
    (lambda x: x.drop(columns=["t0", "t1"]), "no t0, t1"),
    (lambda x: x["ts"], "no ts, t0, t1"),
    (lambda x: x.to_numpy(), "no ts, t0, t1"),
    (lambda x: x[:0], "at least one row"),
    (lambda x: x.assign(t1=x["t1"].dt.tz_localize(None)), "`labels.t1` must be UTC timestamps"),
    (lambda x: x.assign(t1=x["t1"].where(x.index > 3)), "`labels.t1` must be without missing times, got '4 NaT'"),
    (lambda x: x.assign(t1=x["t0"] - pd.Timedelta("1h")), r"ts < t0 <= t1"),
    (lambda x: x.assign(t0=x["ts"]), r"ts < t0 <= t1"),
])
def test_refused_frames(change, says):
    with pytest.raises(SplitError, match=says):
        WalkForward(2, 1).split(change(panel([(0, 50)])))


@pytest.mark.parametrize("settings_, says", [
    (dict(folds=0), "`folds` must be an integer >= 1"), (dict(folds=2.5), "`folds`"), (dict(folds=True), "`folds`"),
    (dict(embargo=-1), "`embargo` must be an integer >= 0"), (dict(min_train=0), "`min_train` must be an integer >= 1"),
    (dict(folds=50), "`folds` must be at most 39 for 40 decision times"),
    (dict(folds=5, min_train=38), "at most 2 for 40 decision times, 38 of them before the first test"),
    (dict(folds=5, min_train=400), "at most 0"),
    (dict(folds=10), "fold 1 has no training row"),
    (dict(folds=2, embargo=100), "an embargo of 100"),
])
def test_too_little_or_impossible(settings_, says):
    with pytest.raises(SplitError, match=says):
        WalkForward(**settings_).split(panel([(0, 40)]))


def test_a_million_spans():
    ts = START + pd.to_timedelta(np.tile(np.arange(10_000), 100), unit="h")
    labels = pd.DataFrame(dict(ts=ts, t0=ts + pd.Timedelta("1h"), t1=ts + pd.Timedelta("6h")))
    begin = time.process_time()
    folds = WalkForward(5, 5).split(labels)
    assert time.process_time() - begin < 2 and sum(len(f.test) for f in folds) > 800_000
