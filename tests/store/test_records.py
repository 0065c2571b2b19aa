"""What is a label by its name, and what a lake does with records when processes die or write at once."""
import json
import sqlite3
import subprocess
import sys
import textwrap

import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.store.lake import Lake
from mlfin.store.records import as_predictions, is_label_name, record_schema

MINUTE = pd.Timedelta(minutes=1)
START = pd.Timestamp("2024-05-01", tz="UTC").as_unit("us")


def signals(n, first=0):
    return as_predictions([("A", "1m", START + i * MINUTE, "tree", 1, 0.5, None, 0.5, 1,
                            START + (i + 1) * MINUTE) for i in range(first, first + n)])


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def test_every_label_of_the_models_is_one_here(make):
    from mlfin.datasets.label_names import LABEL_KINDS, is_label, parse_label
    from mlfin.datasets.labels import compute_labels

    bars = pd.concat([make(s, seed=i) for i, s in enumerate("ABCDE")], ignore_index=True)
    specs = ["fwd_ret_5", "fwd_log_5", "fwd_close_5", "fwd_quantile_5_4", "fwd_demean_5",
             "barrier_5_2_1", "next_close"]
    assert {parse_label(s).kind for s in specs} == set(LABEL_KINDS)
    names = [c for s in specs for c in compute_labels(bars, s) if is_label(c)]
    assert len(names) >= 2 * len(specs)
    for name in names:
        assert is_label_name(name) and is_label_name(f"meta_{name}")


def test_no_registered_feature_is_called_like_a_label():
    from mlfin.features.spec import families, load_features, parse

    every = [*load_features(), *(example for example, _ in families().values())]
    assert len(every) > 100 and not [c for s in every for c in parse(s).columns if is_label_name(c)]


WRITER = """
    import os, sys
    import pandas as pd
    import mlfin.store.delta_records as shelf
    from mlfin.store.lake import Lake
    from mlfin.store.records import as_predictions
    root, die = sys.argv[1], sys.argv[2]
    start, minute = pd.Timestamp("2024-05-01", tz="UTC").as_unit("us"), pd.Timedelta(minutes=1)
    lake = Lake(root)
    def rows(i):
        return as_predictions([("A", "1m", start + i * minute, "tree", 1, 0.5, None, 0.5, 1,
                                start + (i + 1) * minute)])
    for i in range(5): lake.write_predictions(rows(i))
    commit = shelf._commit_rows
    def before(*a): os._exit(9)
    def after(*a):
        commit(*a)
        os._exit(9)
    shelf._commit_rows = {"before": before, "after": after}[die]
    lake.flush()
"""


@pytest.mark.parametrize("die", ["before", "after"])
def test_a_fold_that_dies_loses_and_doubles_nothing(lake, die):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(WRITER), str(lake.path), die],
                          capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    table = lake.records.root / "predictions"
    assert (table / "_delta_log").exists() == (die == "after")
    pd.testing.assert_frame_equal(lake.read_predictions(), signals(5))
    assert lake.write_predictions(signals(6)).inserted == 1
    lake.flush()
    pd.testing.assert_frame_equal(lake.read_predictions(), signals(6))
    rows = sum(len(pd.read_parquet(p)) for p in table.glob("*.parquet"))
    assert rows == 6
    assert (sqlite3.connect(lake.records.journal.path).execute("SELECT count(*) FROM pieces").fetchone()[0]
            == 0)


def test_signals_one_by_one_are_few_commits(lake, monkeypatch):
    import mlfin.store.delta_records as shelf

    monkeypatch.setattr(shelf, "GATHERED", 10)
    for i in range(25):
        lake.write_predictions(signals(1, i))
    # one makes the table
    assert len(list((lake.records.root / "predictions" / "_delta_log").glob("*.json"))) == 3
    pd.testing.assert_frame_equal(Lake(lake.path).read_predictions(), signals(25))


def test_a_stamp_tells_every_write_of_its_kind(lake, monkeypatch):
    import mlfin.store.delta_records as shelf

    monkeypatch.setattr(shelf, "DIRECT_ROWS", 5)
    kind, other, seen = record_schema("predictions"), record_schema("facts"), []
    steps = [lambda: None, lambda: lake.write_predictions(signals(2)),
             lambda: lake.write_predictions(signals(9, 2)), lambda: lake.write_predictions(signals(1, 11)),
             lake.records.flush, lambda: lake.write_predictions(signals(12).assign(probability=0.6))]
    for step in steps:
        step()
        seen.append(Lake(lake.path).records.stamp(kind))
        assert lake.records.stamp(kind) == seen[-1] and lake.records.stamp(other) == "None.None"
    assert len(set(seen)) == len(steps)
    lake.write_predictions(signals(3).assign(probability=0.6))
    assert lake.records.stamp(kind) == seen[-1]  # nothing new


def test_a_damaged_journal_is_one_clear_error(lake):
    lake.write_predictions(signals(1))
    lake.records.journal.path.write_bytes(b"no database " * 500)
    for ask in (lake.read_predictions, lambda: lake.write_predictions(signals(2)), lake.flush):
        with pytest.raises(DataError, match="journal.*could not be used"):
            ask()


def test_a_set_of_features_is_told_by_its_file(lake):
    rows = signals(2)[["symbol", "timeframe", "ts"]].assign(known_at=[START + MINUTE, START + 2 * MINUTE],
                                                            sma_5=[1.0, 2.0])
    lake.write_features(rows, "c1")
    (about,) = lake.records.root.glob("features-*/about.json")
    assert ({k: v for k, v in json.loads(about.read_text()).items() if k != "made"}
            == {"code": "c1", "names": ["sma_5"]})
