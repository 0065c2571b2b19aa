import subprocess
import sys
import textwrap
import threading

import numpy as np
import pandas as pd
import pytest

import mlfin.store.lake_bars as module
from mlfin.core.errors import DataError
from mlfin.store.journal import Journal
from mlfin.store.lake import Lake, flushing
from mlfin.store.row_history import WriteResult


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


@pytest.fixture
def hour(make):
    return make("A", "1m", "2024-01-01", "2024-01-01T00:59")


def each(bars):
    return [bars.iloc[[n]].reset_index(drop=True) for n in range(len(bars))]


def test_a_push_reaches_the_disk(tmp_path, hour):
    journal = Journal(tmp_path / "j.sqlite")
    journal.push(hour, pd.Timestamp("2024-01-02", tz="UTC"))
    db = journal._db()
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert db.execute("PRAGMA synchronous").fetchone() == (2,)
    rows = Journal(journal.path).rows()
    assert rows.close.equals(hour.close) and rows.vwap.isna().all()
    assert (rows.recorded_at == pd.Timestamp("2024-01-02", tz="UTC")).all()
    assert len(journal.rows(["A"], "1m", hour.ts[10], hour.ts[19])) == 10
    assert journal.rows(["B"]).empty and journal.rows([]).empty and journal.rows(timeframe="1d").empty
    assert len(journal.rows(["A", *(f"S{i}" for i in range(2000))])) == len(hour)


def test_numbers_are_never_used_again_and_names_never_shared(tmp_path, hour):
    journal, at = Journal(tmp_path / "j.sqlite"), pd.Timestamp("2024-01-02", tz="UTC")
    journal.push(hour, at)
    journal.delete(60)
    journal.push(hour.iloc[:1], at)
    assert list(journal.rows().seq) == [61]
    name = journal.name()
    for path in tmp_path.iterdir():
        path.unlink()
    assert journal.name() is None
    journal.push(hour.iloc[:1], at)
    assert journal.name() != name and list(journal.rows().seq) == [1]


@pytest.mark.parametrize("step", ["append_rows", "delete", "_standing"])
def test_a_crash_between_the_steps_of_a_fold(lake, hour, step, monkeypatch):
    for bar in each(hour.iloc[:20]):
        lake.push(bar)
    changed = hour.iloc[[3]].assign(volume=99.0).reset_index(drop=True)
    lake.push(changed)
    lake.push(hour.iloc[[3]].reset_index(drop=True))  # and back again
    before = lake.read(timeframe="1m")

    def crash(*a, **k):
        raise KeyboardInterrupt

    monkeypatch.setattr(Journal if step == "delete" else module, step, crash)
    if step != "_standing" or lake.version() >= 0:
        with pytest.raises(KeyboardInterrupt):
            lake.flush()
    monkeypatch.undo()
    again = Lake(lake.path)
    assert again.read(timeframe="1m")[["ts", "volume"]].equals(before[["ts", "volume"]])
    done = again.flush()
    assert done.inserted == (0 if step == "delete" else 20) and again.read(timeframe="1m").volume.eq(10).all()
    assert len(again.bars.journal.rows()) == 0 and len(again.read(timeframe="1m")) == 20
    assert again.versions().inserted.sum() == 20 and again.flush() == WriteResult(0, 0, 0, again.version())


def test_a_crash_in_the_middle_of_writing_files(lake, hour, monkeypatch):
    import mlfin.store.delta_bars as table

    lake.write(hour.iloc[:10].reset_index(drop=True))
    lake.push(hour.iloc[10:].reset_index(drop=True))

    def crash(*a, **k):
        raise KeyboardInterrupt

    monkeypatch.setattr(table, "commit_files", crash)
    with pytest.raises(KeyboardInterrupt):
        lake.flush()
    monkeypatch.undo()
    assert len(Lake(lake.path).read(timeframe="1m")) == 60 and Lake(lake.path).flush().inserted == 50


def test_a_new_journal_in_an_old_lake_is_not_mistaken_for_the_old_one(lake, hour):
    lake.push(hour.iloc[:30].reset_index(drop=True))
    lake.flush()
    for path in lake.path.glob("journal.sqlite*"):
        path.unlink()
    lake = Lake(lake.path)
    lake.push(hour.iloc[30:].reset_index(drop=True))
    assert len(lake.read(timeframe="1m")) == 60 and lake.flush().inserted == 30


def test_a_write_finds_what_was_pushed_before(lake, hour):
    lake.push(hour)
    before = pd.Timestamp.now("UTC")
    done = lake.write(hour.assign(volume=np.where(np.arange(60) < 5, 11.0, 10.0)))
    assert (done.inserted, done.revised, done.unchanged) == (0, 5, 55) and lake.bars.journal.rows().empty
    assert (lake.read(timeframe="1m", as_of=before).volume == 10).all()
    assert lake.read(timeframe="1m").volume.sum() == 605


def test_folding_in_the_background(lake, hour):
    with flushing(lake, every=0.02):
        for bar in each(hour):
            lake.push(bar)
    assert lake.bars.journal.rows().empty and len(lake.read(timeframe="1m")) == 60 and lake.version() >= 1


def test_what_goes_wrong_in_the_background_is_raised(lake, hour, monkeypatch):
    def full(*a, **k):
        raise DataError("the disk is full")

    monkeypatch.setattr(module, "append_rows", full)
    with pytest.raises(DataError, match="the disk is full"):
        with flushing(lake, every=0.01):
            lake.push(hour)
    monkeypatch.undo()
    assert len(lake.read(timeframe="1m")) == 60


def test_a_full_disk_takes_back_nothing(lake, hour):
    lake.push(hour.iloc[:10].reset_index(drop=True))
    code = """
        import resource, sys, pandas as pd
        from mlfin.core.errors import DataError
        from mlfin.store.lake import Lake
        lake = Lake(sys.argv[1])
        bars = lake.read(timeframe="1m")
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        taken = 0
        try:
            for n in range(1, 2000):
                shift = pd.Timedelta(minutes=10 * n)
                taken += lake.push(bars.assign(ts=bars.ts + shift, known_at=bars.known_at + shift))
        except DataError as e: print(taken, str(e).splitlines()[0])
        else: raise SystemExit("no error")
    """
    said = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(lake.path)], check=True,
                          capture_output=True, text=True).stdout
    assert "journal" in said and "could not be used" in said
    taken = int(said.split()[0])
    assert taken > 0 and len(lake.read(timeframe="1m")) == 10 + taken
    assert lake.flush().inserted == 10 + taken and lake.push(hour) == 60


def test_first_pushes_of_many_at_once_are_all_taken(tmp_path, hour):
    for number in range(20):
        journal, wrong = Journal(tmp_path / f"{number}.sqlite"), []

        def push(journal=journal, wrong=wrong):
            try:
                journal.push(hour[:1], pd.Timestamp.now("UTC"))
            except DataError as e:
                wrong.append(e)

        threads = [threading.Thread(target=push) for _ in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not wrong and len(journal.rows()) == 6
