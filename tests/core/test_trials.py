"""The ledger of trials: counted once, whoever writes, and never in a broken file."""

import hashlib
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.core.trials import open_ledger, trial_id

DAYS = pd.date_range("2012-01-02", periods=60, freq="B", tz="UTC")
QUESTION = dict(
    dataset_hash="abc",
    label="fwd_ret_5",
    features=["rsi_14", "mom_14"],
    model="logistic",
    parameters={"C": 0.01, "seed": 1},
    rule={"threshold": 0.5, "fee_bps": 1},
)


def returns(seed=0, days=DAYS):
    return pd.Series(np.random.default_rng(seed).normal(0, 0.01, len(days)), days)


@pytest.fixture
def ledger(tmp_path):
    return open_ledger(tmp_path / "deep" / "ledger.sqlite")


@pytest.mark.parametrize(
    "key, value",
    [
        ("dataset_hash", "abd"),
        ("label", "fwd_ret_6"),
        ("features", ["rsi_14"]),
        ("model", "xgboost"),
        ("parameters", {"C": 0.02, "seed": 1}),
        ("parameters", {"C": 0.01, "seed": 2}),
        ("rule", {"threshold": 0.5, "fee_bps": 2}),
    ],
)
def test_every_part_of_a_trial_counts(key, value):
    assert trial_id(**QUESTION) != trial_id(**{**QUESTION, key: value})


def test_id_is_stable_over_orders_number_types_and_time():
    text = (
        '{"dataset":"abc","features":["mom_14","rsi_14"],"label":"fwd_ret_5","model":"logistic",'
        '"parameters":{"C":0.01,"seed":1},"rule":{"fee_bps":1,"threshold":0.5}}'
    )
    assert trial_id(**QUESTION) == hashlib.sha256(text.encode()).hexdigest()[:16] == "0831328625829d9f"
    same = {
        **QUESTION,
        "features": ("mom_14", "rsi_14"),
        "rule": {"fee_bps": np.int64(1), "threshold": np.float64(0.5)},
        "parameters": {"seed": 1, "C": 0.01},
    }
    assert trial_id(**same) == trial_id(**QUESTION)


def test_values_come_back_to_the_bit(ledger):
    series = pd.Series([0.1, -1e-300, 0.0], DAYS[[0, 5, 7]].as_unit("ns"))
    assert ledger.record("main", "a" * 16, {}, series)
    back = ledger.returns("main")["a" * 16]
    assert back.to_numpy().tobytes() == series.to_numpy().tobytes()
    assert list(back.index) == list(series.index) and str(back.index.dtype) == "datetime64[us, UTC]"


def test_trials_side_by_side_keep_their_own_days(ledger):
    ledger.record("main", "b" * 16, {}, returns(1, DAYS[:40]))
    ledger.record("main", "a" * 16, {}, returns(2, DAYS[20:]))
    wide = ledger.returns("main")
    assert list(wide) == ["a" * 16, "b" * 16] and len(wide) == 60 and wide.index.is_monotonic_increasing
    assert wide["a" * 16].isna().sum() == 20 and wide["b" * 16].isna().sum() == 20


def test_again_is_no_new_trial_but_mended_returns_replace(ledger):
    assert ledger.record("main", "a" * 16, {"m": 1}, returns(0)) is True
    first = ledger.snapshot("main")
    assert ledger.record("main", "a" * 16, {"m": 1}, returns(0)) is False
    assert ledger.snapshot("main") == first
    assert ledger.record("main", "a" * 16, {"m": 1}, returns(1)) is False
    after = ledger.snapshot("main")
    assert after.count == 1 and after.hash != first.hash
    np.testing.assert_array_equal(ledger.returns("main")["a" * 16], returns(1))


def test_experiments_do_not_mix(ledger):
    ledger.record("main", "a" * 16, {}, returns())
    ledger.record("btc", "a" * 16, {}, returns())
    assert ledger.snapshot("main").count == ledger.snapshot("btc").count == 1
    assert ledger.snapshot("main").hash == ledger.snapshot("btc").hash
    assert ledger.snapshot("nothing").count == 0
    assert ledger.trials("nothing").empty and ledger.returns("nothing").empty
    assert str(ledger.returns("nothing").index.dtype) == "datetime64[us, UTC]"


def test_order_of_arrival_and_the_clock_do_not_enter_the_hash(tmp_path):
    one, two = open_ledger(tmp_path / "1"), open_ledger(tmp_path / "2")
    for number in (1, 2, 3):
        one.record("main", f"{number:016d}", {"n": number}, returns(number))
    for number in (3, 1, 2):
        two.record("main", f"{number:016d}", {"n": number}, returns(number))
    assert one.snapshot("main") == two.snapshot("main")
    assert (
        one.save_snapshot(tmp_path / "s1", "main").read_bytes()
        == two.save_snapshot(tmp_path / "s2", "main").read_bytes()
    )


def test_a_snapshot_is_a_ledger_and_reading_it_changes_no_byte(ledger, tmp_path):
    ledger.record("main", "a" * 16, {"n": 1}, returns())
    ledger.record("other", "b" * 16, {"n": 1}, returns())
    path = ledger.save_snapshot(tmp_path / "snapshot.sqlite", "main")
    before = path.read_bytes()
    again = open_ledger(path)
    assert again.snapshot("main") == ledger.snapshot("main") and again.snapshot("other").count == 0
    assert again.trials("main")["first_seen"].isna().all()
    assert path.read_bytes() == before and not list(tmp_path.glob("snapshot.sqlite-*"))
    assert again.record("main", "c" * 16, {}, returns(3)) is True
    assert (
        ledger.save_snapshot(tmp_path / "all").exists()
        and open_ledger(tmp_path / "all").snapshot("other").count == 1
    )


@pytest.mark.parametrize(
    "bad, words",
    [
        (pd.Series([], dtype=float), "at least one"),
        ([0.1], "at least one"),
        (pd.Series([0.1], [pd.Timestamp("2012-01-02")]), "UTC days"),
        (pd.Series([0.1]), "UTC days"),
        (pd.Series([0.1, 0.2], DAYS[[1, 0]]), "ascending"),
        (pd.Series([0.1, 0.2], DAYS[[0, 0]]), "one value a day"),
        (pd.Series([0.1], DAYS[:1] + pd.Timedelta("14h30min")), "midnight"),
        (pd.Series([np.nan], DAYS[:1]), "finite"),
        (pd.Series([np.inf], DAYS[:1]), "finite"),
    ],
)
def test_returns_that_are_refused(ledger, bad, words):
    with pytest.raises(DataError, match=words) as e:
        ledger.record("main", "a" * 16, {}, bad)
    assert "`returns` must be" in str(e.value)
    assert ledger.snapshot("main").count == 0


def test_many_are_as_one_after_the_other(tmp_path):
    one, many = open_ledger(tmp_path / "one"), open_ledger(tmp_path / "many")
    trials = [(f"{n:016d}", {"n": n}, returns(n, DAYS[n:])) for n in (3, 1, 2)]
    for ledger in (one, many):
        ledger.record("main", *trials[1])
    assert sum(one.record("main", *trial) for trial in trials) == many.record_many("main", iter(trials)) == 2
    assert many.record_many("main", trials) == many.record_many("main", []) == 0
    assert one.snapshot("main") == many.snapshot("main") and many.trials("main")["first_seen"].notna().all()
    pd.testing.assert_frame_equal(one.returns("main"), many.returns("main"))


def test_the_last_of_a_trial_that_comes_twice_is_kept_and_mended_returns_replace(ledger):
    assert (
        ledger.record_many("main", [("a" * 16, {"m": 1}, returns(0)), ("a" * 16, {"m": 1}, returns(1))]) == 1
    )
    np.testing.assert_array_equal(ledger.returns("main")["a" * 16], returns(1))
    assert ledger.record_many("main", [("a" * 16, {"m": 1}, returns(2)), ("b" * 16, {}, returns(3))]) == 1
    np.testing.assert_array_equal(ledger.returns("main")["a" * 16], returns(2))


@pytest.mark.parametrize(
    "bad", [("b" * 16, {}, pd.Series([np.nan], DAYS[:1])), ("b" * 16, {"x": object()}, returns())]
)
def test_one_bad_trial_among_many_is_named_and_none_is_written(ledger, bad):
    with pytest.raises(DataError, match=f"trial {'b' * 16}"):
        ledger.record_many("main", [("a" * 16, {}, returns()), bad])
    assert ledger.snapshot("main").count == 0


def test_writing_many_is_one_transaction(ledger, monkeypatch):
    import sqlite3

    from mlfin.core import trials

    said, connect = [], sqlite3.connect

    def heard(*args, **kwargs):
        con = connect(*args, **kwargs)
        con.set_trace_callback(said.append)
        return con

    monkeypatch.setattr(trials.sqlite3, "connect", heard)
    ledger.record_many("main", [(f"{n:016d}", {}, returns(n)) for n in range(20)])
    assert [s for s in said if s.startswith(("BEGIN", "COMMIT"))] == ["BEGIN IMMEDIATE", "COMMIT"]
    assert sum(s.startswith("INSERT") for s in said) == 20


@pytest.mark.parametrize("spec", [{"x": float("nan")}, {"x": object()}, {("a", 1): 2}])
def test_specs_that_json_cannot_hold(ledger, spec):
    with pytest.raises(DataError, match="`spec`"):
        ledger.record("main", "a" * 16, spec, returns())


def test_files_that_are_no_ledger(tmp_path):
    import sqlite3

    text, folder, foreign, cut = (tmp_path / n for n in ("text", "folder", "foreign", "cut"))
    text.write_text("not a database, but long enough to look like one " * 30)
    folder.mkdir()
    db = sqlite3.connect(foreign)
    db.execute("CREATE TABLE notes (x)")
    db.close()
    open_ledger(cut).record("main", "a" * 16, {}, returns())
    cut.write_bytes(cut.read_bytes()[:5000])
    with pytest.raises(DataError, match="cannot be read"):
        open_ledger(text)
    with pytest.raises(DataError, match="a file"):
        open_ledger(folder)
    with pytest.raises(DataError, match="a ledger of trials"):
        open_ledger(foreign)
    with pytest.raises(DataError, match="cannot be"):
        open_ledger(cut).returns("main")
    assert text.read_text().startswith("not a database")


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="MLFIN_LEDGER"):
        open_ledger(tmp_path / "file" / "ledger.sqlite")


def test_an_empty_file_becomes_a_ledger(tmp_path):
    (tmp_path / "empty").touch()
    assert open_ledger(tmp_path / "empty").record("main", "a" * 16, {}, returns())


WRITER = """
import sys
import numpy as np, pandas as pd
from mlfin.core.trials import open_ledger
path, start = sys.argv[1], int(sys.argv[2])
ledger = open_ledger(path)
days = pd.date_range("2012-01-02", periods=30, freq="B", tz="UTC")
def record(n): return ledger.record("main", f"{n:016d}", {"n": n}, pd.Series(np.full(30, n / 1e4), days))
print(sum(record(n) for n in range(start, start + 40)))
"""


def test_processes_write_at_once_and_count_each_trial_once(tmp_path):
    path = tmp_path / "ledger.sqlite"
    run = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(start)], stdout=subprocess.PIPE, text=True
        )
        for start in (0, 20, 0)
    ]
    new = [int(p.communicate(timeout=60)[0]) for p in run]
    assert [p.returncode for p in run] == [0, 0, 0]
    assert sum(new) == 60 == open_ledger(path).snapshot("main").count


def test_a_new_ledger_opened_by_many_at_once(tmp_path):
    for number in range(20):
        wrong = []

        def look(path=tmp_path / f"{number}.sqlite", wrong=wrong):
            try:
                open_ledger(path).experiments()
            except DataError as e:
                wrong.append(e)

        threads = [threading.Thread(target=look) for _ in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not wrong
