"""Splits: no training span ever touches a test span, whatever the panel looks like."""

import time
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfin.core.errors import SplitError
from mlfin.validation.folds import Folds, check_folds
from mlfin.validation.splits import (CombinatorialPurged, Fold, PurgedKFold, WalkForward, backtest_paths,
                                     describe_folds, fold_pieces, path_rows)

START = pd.Timestamp("2020-01-01", tz="UTC").as_unit("us")


def panel(symbols: list[tuple[int, int]], longest: int = 5, seed: int = 0) -> pd.DataFrame:
    """Labels of symbols given as (first day, number of days), with spans of random length."""
    rng, parts = np.random.default_rng(seed), []
    for number, (first, size) in enumerate(symbols):
        days = np.sort(rng.choice(np.arange(first, first + 2 * size), size, replace=False))
        ts = START + pd.to_timedelta(days, unit="D")
        entry = ts + pd.Timedelta("1D")
        parts.append(
            pd.DataFrame(
                dict(
                    symbol=f"S{number}",
                    timeframe="1d",
                    ts=ts,
                    t0=entry,
                    t1=entry + pd.to_timedelta(rng.integers(0, longest + 1, size), unit="D"),
                )
            )
        )
    return pd.concat(parts, ignore_index=True)


panels = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 80)), min_size=1, max_size=4)


@given(panels, st.integers(0, 12), st.integers(1, 6), st.integers(0, 8), st.sampled_from([None, 1, 5, 20]),
       st.booleans(), st.integers(0, 99))
@settings(max_examples=80, deadline=None)
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


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda x: x.drop(columns=["t0"]), "`labels` must be a frame with ts, t0 and t1, got 'no t0'"),
        (lambda x: x.drop(columns=["t0", "t1"]), "no t0, t1"),
        (lambda x: x["ts"], "no ts, t0, t1"),
        (lambda x: x.to_numpy(), "no ts, t0, t1"),
        (lambda x: x[:0], "at least one row"),
        (lambda x: x.assign(t1=x["t1"].dt.tz_localize(None)), "`labels.t1` must be UTC timestamps"),
        (
            lambda x: x.assign(t1=x["t1"].where(x.index > 3)),
            "`labels.t1` must be without missing times, got '4 NaT'",
        ),
        (lambda x: x.assign(t1=x["t0"] - pd.Timedelta("1h")), r"ts < t0 <= t1"),
        (lambda x: x.assign(t0=x["ts"]), r"ts < t0 <= t1"),
    ],
)
def test_refused_frames(change, says):
    with pytest.raises(SplitError, match=says):
        WalkForward(2, 1).split(change(panel([(0, 50)])))


@pytest.mark.parametrize(
    "settings_, says",
    [
        (dict(folds=0), "`folds` must be an integer >= 1"),
        (dict(folds=2.5), "`folds`"),
        (dict(folds=True), "`folds`"),
        (dict(embargo=-1), "`embargo` must be an integer >= 0"),
        (dict(min_train=0), "`min_train` must be an integer >= 1"),
        (dict(folds=50), "`folds` must be at most 39 for 40 decision times"),
        (dict(folds=5, min_train=38), "at most 2 for 40 decision times, 38 of them before the first test"),
        (dict(folds=5, min_train=400), "at most 0"),
        (dict(folds=10), "fold 1 has no training row"),
        (dict(folds=2, embargo=100), "an embargo of 100"),
    ],
)
def test_too_little_or_impossible(settings_, says):
    with pytest.raises(SplitError, match=says):
        WalkForward(**settings_).split(panel([(0, 40)]))


def test_a_million_spans():
    ts = START + pd.to_timedelta(np.tile(np.arange(10_000), 100), unit="h")
    labels = pd.DataFrame(dict(ts=ts, t0=ts + pd.Timedelta("1h"), t1=ts + pd.Timedelta("6h")))
    begin = time.process_time()
    folds = WalkForward(5, 5).split(labels)
    assert time.process_time() - begin < 2 and sum(len(f.test) for f in folds) > 800_000


def daily(size: int, symbols: int = 1, ahead: int = 2) -> pd.DataFrame:
    """One row a day and symbol, each with a span that begins a day later and ends `ahead` days after the
    decision."""
    ts = START + pd.to_timedelta(np.tile(np.arange(size), symbols), unit="D")
    return pd.DataFrame(dict(symbol=np.repeat([f"S{i}" for i in range(symbols)], size), ts=ts,
                             t0=ts + pd.Timedelta("1D"), t1=ts + pd.Timedelta(days=ahead)))


def touches(labels, fold) -> bool:
    """Every test span against every training span, and whether a training row was decided while a test was
    open."""
    train, test = labels.iloc[fold.train], labels.iloc[fold.test]
    begin, end = (train[c].to_numpy()[:, None] for c in ("ts", "t1"))
    return bool(((begin <= test["t1"].to_numpy()) & (end >= test["ts"].to_numpy())).any())


@given(
    panels, st.integers(0, 12), st.integers(2, 6), st.integers(1, 3), st.integers(0, 8), st.integers(0, 99)
)
@settings(max_examples=40, deadline=None)
def test_no_train_span_touches_a_test_span_on_either_side(symbols, longest, groups, tested, embargo, seed):
    labels = panel(symbols, longest, seed).sample(frac=1, random_state=seed).reset_index(drop=True)
    splitter = CombinatorialPurged(groups, tested, embargo) if tested > 1 else PurgedKFold(groups, embargo)
    try:
        found = splitter.split(labels)
    except SplitError as e:
        assert "Hint: " in str(e) or "at most" in str(e)
        return
    times = labels["ts"].drop_duplicates().sort_values(ignore_index=True)
    assert len(found) == comb(groups, tested) and check_folds(found, labels) is found
    block = np.empty(len(labels), dtype=int)
    for f in found:
        assert len(f.train) and len(f.test) and not touches(labels, f) and len(f.groups) == tested
        assert (np.diff(f.train) > 0).all() and (np.diff(f.test) > 0).all()
        assert f.purged == len(labels) - len(f.train) - len(f.test)
        block[f.test] = f.group
        for g in f.groups:  # nothing decided within the embargo after a block's last outcome
            part = labels.iloc[f.test[f.group == g]]
            known = times.searchsorted(part["t1"].max(), side="right")
            again = times[known + embargo] if known + embargo < len(times) else None
            after = labels["ts"].iloc[f.train]
            after = after[after > part["ts"].max()]
            assert not len(after) or again is not None and after.min() >= again
        pieces = fold_pieces([f])
        for part, rows in (("train", f.train), ("test", f.test)):
            own = pieces[pieces["part"] == part]
            ts = labels["ts"].iloc[rows]
            assert sum(ts.between(a, b).sum() for a, b in zip(own["start"], own["end"], strict=True)) == len(
                rows
            )
    assert sorted(np.concatenate([f.test for f in found])) == sorted(
        np.tile(np.arange(len(labels)), comb(groups - 1, tested - 1))
    )
    sizes = labels.groupby(block)["ts"].nunique()
    assert sizes.max() - sizes.min() <= 1 and (labels.groupby("ts")["symbol"].size() > 0).all()
    for path in range(1, comb(groups - 1, tested - 1) + 1):
        assert path_rows(found, path)["row"].tolist() == list(range(len(labels)))


def test_nothing_allowed_is_left_out_around_a_block():
    labels = panel([(0, 100), (20, 60)], seed=5)
    times = labels["ts"].drop_duplicates().sort_values(ignore_index=True)
    for f in PurgedKFold(4, embargo=3).split(labels):
        test = labels.iloc[f.test]
        known = times.searchsorted(test["t1"].max(), side="right") + 3
        late = labels["ts"] >= times[known] if known < len(times) else labels["ts"] < labels["ts"].min()
        assert f.train.tolist() == labels.index[(labels["t1"] < test["ts"].min()) | late].tolist()


@pytest.mark.parametrize(
    "groups, tested, ahead, embargo", [(6, 2, 2, 0), (6, 2, 6, 3), (5, 3, 1, 2), (10, 8, 1, 0), (4, 2, 8, 5)]
)
def test_the_folds_and_paths_of_skfolio(groups, tested, ahead, embargo):
    """Where each day has one row and each span the same length, purging by spans is purging by a number of
    rows."""
    selection = pytest.importorskip(
        "skfolio.model_selection", reason="skfolio is not installed; it is in the extra dev"
    )
    labels = daily(groups * 25, ahead=ahead)
    theirs = selection.CombinatorialPurgedCV(groups, tested, purged_size=ahead, embargo_size=embargo)
    splitter = CombinatorialPurged(groups, tested, embargo)
    ours, X = splitter.split(labels), np.zeros((len(labels), 1))
    expected = list(theirs.split(X))
    assert len(ours) == len(expected) == theirs.n_splits and splitter.paths == theirs.n_test_paths
    for f, (train, tests) in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(f.train, train)
        assert [f.test[f.group == g].tolist() for g in f.groups] == [t.tolist() for t in tests]
    ids = np.array(theirs.get_path_ids()) + 1  # path of each test part of each fold
    table = backtest_paths(ours).set_index(["fold", "group"])["path"]
    assert [[table[f.number, g] for g in f.groups] for f in ours] == ids.tolist()


def test_symbols_share_the_borders_of_every_splitter():
    labels = daily(120, symbols=3)
    for splitter in (
        WalkForward(4, 2),
        WalkForward(None, 2, period="1ME"),
        PurgedKFold(4, 2),
        CombinatorialPurged(5, 2, 2),
    ):
        for f in splitter.split(labels):
            for rows in (f.train, f.test):
                one, two, three = (
                    labels["ts"].iloc[rows][labels["symbol"].iloc[rows] == s].tolist()
                    for s in ("S0", "S1", "S2")
                )
                assert one == two == three


def test_one_symbol_with_a_long_span_speaks_for_all():
    labels = daily(40, symbols=2)
    labels.loc[15, "t1"] = labels["ts"][34]  # decided in the second of four blocks, known in the last
    plain, long = PurgedKFold(4, 0).split(daily(40, symbols=2))[1], PurgedKFold(4, 0).split(labels)[1]
    assert set(labels["ts"].iloc[plain.train].dt.day_of_year) - set(
        labels["ts"].iloc[long.train].dt.day_of_year
    ) == set(range(23, 36))
    check_folds([long], labels)
    with pytest.raises(SplitError, match=r"overlapping spans.*fold 2: \d+ of \d+ training rows"):
        check_folds([plain], labels)


@pytest.mark.parametrize("period, begins", [
    ("1YE", ["2021-01-01"]), ("YE", ["2021-01-01"]), ("2YE", []), ("6ME", ["2020-07-01", "2021-01-01"]),
    ("1QE", ["2020-04-01", "2020-07-01", "2020-10-01", "2021-01-01"]), ("W", ["2020-01-06", "2020-01-13"]),
    ("300D", ["2020-02-08", "2020-12-04"]), ("2000h", ["2020-03-13", "2020-06-04"])])
def test_calendar_blocks_begin_where_the_calendar_says(period, begins):
    labels = daily(440)  # to 15 March 2021
    if not begins:
        with pytest.raises(SplitError, match="at most 0, the periods of 2YE after the first training part"):
            WalkForward(None, 0, period=period).split(labels)
        return
    found = WalkForward(None, 0, period=period).split(labels)
    starts = [f"{f.test_start:%Y-%m-%d}" for f in found]
    assert starts[:len(begins)] == begins
    assert np.concatenate([f.test for f in found]).tolist() == list(range(int(found[0].test[0]), 440))
    assert not any(touches(labels, f) for f in found)
    last = WalkForward(1, 0, period=period).split(labels)
    assert len(last) == 1 and last[0].test_start == found[-1].test_start
    assert last[0].train.tolist() == found[-1].train.tolist()


def test_the_calendar_does_not_care_where_data_begin():
    late = daily(440)[70:].reset_index(drop=True)  # from 11 March
    assert [f"{f.test_start:%m-%d}" for f in WalkForward(None, 0, period="3ME").split(late)] == [
        "04-01",
        "07-01",
        "10-01",
        "01-01",
    ]
    assert [
        f"{f.test_start:%m-%d}" for f in WalkForward(None, 0, min_train=60, period="3ME").split(late)
    ] == ["07-01", "10-01", "01-01"]


def test_windows_roll():
    labels = daily(200)
    counted = WalkForward(4, 0, 80, window=30).split(labels)
    timed = WalkForward(4, 0, 80, window="30D").split(labels)
    assert [f.train.tolist() for f in counted] == [f.train.tolist() for f in timed]
    assert all(f.train[0] == f.test[0] - 30 and f.train[-1] == f.test[0] - 3 for f in counted)
    whole = WalkForward(4, 0, 80, window=1000).split(labels)
    assert [f.train.tolist() for f in whole] == [
        f.train.tolist() for f in WalkForward(4, 0, 80).split(labels)
    ]
    months = WalkForward(None, 0, window="60D", period="1ME").split(labels)
    assert all(f.train_start >= f.test_start - pd.Timedelta("60D") for f in months)


@pytest.mark.parametrize(
    "splitter, says",
    [
        (PurgedKFold(1), "`folds` must be an integer >= 2"),
        (PurgedKFold(41), "at most 40, the number of decision times"),
        (PurgedKFold(2, -1), "`embargo` must be an integer >= 0"),
        (PurgedKFold(2, 40), "fold 1 has no training row"),
        (CombinatorialPurged(1), "`groups` must be an integer >= 2"),
        (CombinatorialPurged(4, 4), "`tested` must be at most 3"),
        (CombinatorialPurged(4, 0), "`tested` must be an integer >= 1"),
        (CombinatorialPurged(20, 10), "at most 5000 folds, got '20: 184,756"),
        (CombinatorialPurged(50, 2), "at most 40"),
        (WalkForward(None), "`folds` must be an integer >= 1"),
        (WalkForward(3, period="1M"), "`period` must be years, quarters, months"),
        (WalkForward(3, period="0W"), "`period`"),
        (WalkForward(3, period="1YE"), "`folds` must be at most 0, the periods of 1YE"),
        (WalkForward(9, period="2W"), "at most 3"),
        (WalkForward(2, 1, window=0), "`window` must be an integer >= 1"),
        (WalkForward(2, 1, window="soon"), "`window` must be decision times"),
        (WalkForward(2, 1, window="-3D"), "`window` must be decision times"),
        (WalkForward(2, 1, window=1.5), "`window`"),
        (WalkForward(2, 1, window=2), "fold 1 has no training row"),
    ],
)
def test_splitters_that_cannot_be(splitter, says):
    with pytest.raises(SplitError, match=says):
        splitter.split(daily(40))


def test_a_label_longer_than_a_fold():
    assert [len(f.train) for f in WalkForward(3, 0, 30).split(daily(60, ahead=20))] == [10, 20, 30]
    with pytest.raises(SplitError, match="(?s)fold 1 has no training row.*a shorter label"):
        WalkForward(3, 0, 15).split(daily(60, ahead=20))
    with pytest.raises(SplitError, match="(?s)no training row.*a shorter label"):
        PurgedKFold(2, 0).split(daily(60, ahead=40))


@pytest.mark.parametrize("splitter", [WalkForward(2, 1), PurgedKFold(3, 1), CombinatorialPurged(3, 2, 1)])
def test_every_splitter_refuses_what_has_no_spans(splitter):
    for frame in (daily(40)[["ts"]], daily(40).to_numpy(), daily(40)[:0], daily(40).assign(t1=pd.NaT)):
        with pytest.raises(SplitError, match="`labels"):
            splitter.split(frame)
    figure = splitter.chart(daily(40))
    assert [t.name for t in figure.data] == ["training", "test"]
    pieces = fold_pieces(splitter.split(daily(40)))
    assert sum(len(t.base) for t in figure.data) == len(pieces)


def shuffled_folds(labels, seed=0, **options):
    from sklearn.model_selection import KFold

    return [Fold(n, train, test, 0, *[labels["ts"].iloc[0]] * 4)
            for n, (train, test) in enumerate(KFold(5, **options).split(labels), 1)]


def test_folds_of_others_are_checked():
    labels = daily(300, symbols=3)
    with pytest.raises(SplitError, match="a random split or one by symbol.*fold 1: "):
        check_folds(shuffled_folds(labels, shuffle=True, random_state=1), labels)
    with pytest.raises(SplitError, match="a random split or one by symbol"):
        check_folds(shuffled_folds(labels), labels)  # unshuffled: blocks of rows, so symbols against symbols
    one = daily(300)
    with pytest.raises(SplitError, match="a random split"):
        check_folds(shuffled_folds(one, shuffle=True, random_state=1), one)
    with pytest.raises(
        SplitError, match=r"overlapping spans.*fold 1: 1 of 240 training rows, first 60 with 2020-03-02"
    ):
        check_folds(shuffled_folds(one), one)
    for f in PurgedKFold(5, 0).split(one), shuffled_folds(one.assign(t1=one["t0"])):
        assert check_folds(f, one.assign(t1=one["t0"])) is f
    f = PurgedKFold(5, 0).split(one)[0]
    for train, test, says in (
        (f.train[:0], f.test, r"rows to learn from and to test on, got \(0, 60\)"),
        (f.train + 9, f.test, "positions of the 300"),
        (f.train, f.test - 5, "positions of the 300"),
        (f.train, np.r_[f.test, f.train[5]], "touches a training"),
    ):
        with pytest.raises(SplitError, match=says):
            check_folds([Fold(1, train, test, 0, *[START] * 4)], one)
    with pytest.raises(SplitError, match="no t0, t1"):
        check_folds([f], one[["ts"]])


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6), st.booleans()), min_size=2, max_size=30))
@settings(max_examples=200, deadline=None)
def test_the_check_sees_exactly_what_every_pair_shows(rows):
    first, length, tested = (np.array(x) for x in zip(*rows, strict=True))
    spans = pd.DataFrame(
        dict(
            ts=START + pd.to_timedelta(first - 1, unit="D"),
            t0=START + pd.to_timedelta(first, unit="D"),
            t1=START + pd.to_timedelta(first + length, unit="D"),
        )
    )
    train, test = np.flatnonzero(~tested), np.flatnonzero(tested)
    if not len(train) or not len(test):
        return
    last = first + length
    bad = [i for i in train if ((first[test] <= last[i]) & (last[test] >= first[i])).any()]
    fold = Fold(1, train, test, 0, *[START] * 4)
    if not bad:
        check_folds([fold], spans)
    else:
        with pytest.raises(
            SplitError, match=f"fold 1: {len(bad)} of {len(train)} training rows, first {bad[0]} "
        ):
            check_folds([fold], spans)


def test_scikit_learn_takes_them():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score

    labels, rng = daily(200, symbols=2), np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    y = (X[:, 0] + rng.normal(size=400) > 0).astype(int)
    walk, blocks = Folds(WalkForward(4, 2).split(labels), labels), Folds(PurgedKFold(4, 2).split(labels))
    scores = cross_val_score(LogisticRegression(), X, y, cv=walk)
    expected = [
        LogisticRegression().fit(X[f.train], y[f.train]).score(X[f.test], y[f.test]) for f in walk.folds
    ]
    np.testing.assert_allclose(scores, expected)
    assert walk.get_n_splits() == 4 and len(walk.chart().data) == 2
    assert len(cross_val_predict(LogisticRegression(), pd.DataFrame(X), y, cv=blocks)) == 400
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=walk).fit(X, y)
    assert search.n_splits_ == 4
    with pytest.raises(SplitError, match="`X` must be the rows that were split, at least 400, got 300"):
        cross_val_score(LogisticRegression(), X[:300], y[:300], cv=walk, error_score="raise")
    with pytest.raises(SplitError, match="at least one fold"):
        Folds([])
    with pytest.raises(SplitError, match="random split"):
        Folds(shuffled_folds(labels, shuffle=True), labels)


def test_paths_that_are_not_there():
    found = CombinatorialPurged(4, 2, 0).split(daily(80))
    with pytest.raises(SplitError, match="`path` must be 1 to 3, got 4"):
        path_rows(found, 4)
    assert backtest_paths(WalkForward(3, 0).split(daily(80)))["path"].unique().tolist() == [1]


def test_a_million_spans_of_every_splitter():
    ts = START + pd.to_timedelta(np.tile(np.arange(10_000), 100), unit="h")
    labels = pd.DataFrame(dict(ts=ts, t0=ts + pd.Timedelta("1h"), t1=ts + pd.Timedelta("6h")))
    for splitter in (WalkForward(None, 5, period="1ME"), PurgedKFold(5, 5), CombinatorialPurged(6, 2, 5)):
        begin = time.process_time()
        splitter.split(labels)
        assert time.process_time() - begin < 2
