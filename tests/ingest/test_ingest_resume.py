"""An ingest that ends early goes on where it was, reads only what is missing, and becomes what an
uninterrupted one is."""

import os
import random
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from mlfin.ingest import file_batches, judged_bars, source_request, store_update
from mlfin.ingest.store_update import update
from mlfin.store.lake import Lake

HOW = {"timeframes": "1d", "tz": "UTC", "memory": 1}


def days(i, rows=120):
    close = (100 * np.exp(np.random.default_rng(i).normal(0, 0.01, rows).cumsum())).round(4)
    ts = pd.date_range("2020-01-01", periods=rows).strftime("%Y-%m-%d")
    frame = pd.DataFrame({"date": ts, "open": close, "high": close + 1, "low": close - 1,
                          "close": close, "volume": 5.0})
    frame.loc[i % rows, "high"] = 1.0  # one row of each is set aside
    return frame


def folder_of(path, n, rows=120):
    path.mkdir()
    for i in range(n):
        days(i, rows).to_csv(path / f"S{i:03d}.csv", index=False)
    return path


def one_file(path, n, rows=120):
    pd.concat([days(i, rows).assign(symbol=f"S{i:03d}")
               for i in range(n)]).sort_values("date", kind="stable").to_csv(path, index=False)
    return path


def content(lake):
    return lake.read(timeframe="1d"), lake.read_actions(), lake.read_quarantine()


def same(one, two):
    for a, b in zip(content(one), content(two), strict=True):
        pd.testing.assert_frame_equal(a, b)


@pytest.fixture
def often(monkeypatch):
    "A commit every other series."
    monkeypatch.setattr(store_update, "_COMMIT", 200)
    monkeypatch.setattr(judged_bars, "_TOGETHER", 120)
    monkeypatch.setattr(file_batches, "_ROOM", 10_000)
    monkeypatch.setattr(source_request, "_BESIDE", 1)


class Cut(Exception):
    pass


def cut_after(monkeypatch, commits):
    "End the process, as it were, after so many commits of bars; which symbols were read."
    write, read, done = judged_bars.write_bars, source_request.SourceRequest.parts, []
    seen = set()

    def writes(*args):
        if len(done) == commits:
            raise Cut
        done.append(1)
        return write(*args)

    def parts(self, **changes):
        for reading in read(self, **changes):
            seen.update(reading.bars.symbol.unique())
            yield reading

    monkeypatch.setattr(judged_bars, "write_bars", writes)
    monkeypatch.setattr(source_request.SourceRequest, "parts", parts)
    return seen, lambda: monkeypatch.setattr(judged_bars, "write_bars", write)


@pytest.mark.parametrize("make, n, rows", [(folder_of, 6, 120), *(
    pytest.param(one_file, *size, marks=pytest.mark.slow) for size in ((8, 360), (24, 120)))])
def test_it_goes_on_with_what_is_missing(tmp_path, often, monkeypatch, make, n, rows):
    source = make(tmp_path / ("x" if make is folder_of else "x.csv"), n, rows)
    clean = update(source, store=tmp_path / "clean", **HOW)
    seen, mend = cut_after(monkeypatch, 2)
    with pytest.raises(Cut):
        update(source, store=tmp_path / "lake", **HOW)
    had = set(Lake(tmp_path / "lake").read(timeframe="1d").symbol)
    assert 2 <= len(had) < n and list((tmp_path / "lake" / "incoming").glob("*.json"))
    mend()
    seen.clear()
    done = update(source, store=tmp_path / "lake", **HOW)
    if make is folder_of:
        assert seen and not seen & had  # the files of what is stored are not read again
    same(Lake(tmp_path / "lake"), Lake(tmp_path / "clean"))
    pd.testing.assert_frame_equal(done.series.drop(columns="version"), clean.series.drop(columns="version"))
    pd.testing.assert_frame_equal(done.quality[["check", "status", "rows"]],
                                  clean.quality[["check", "status", "rows"]])
    assert done.origin == clean.origin and not (tmp_path / "lake" / "incoming").exists()
    again = update(source, store=tmp_path / "lake", **HOW)
    assert set(again.series.status) == {"nothing new"} and again.version == done.version


@pytest.mark.slow
def test_what_was_revised_since_is_read_again(tmp_path, often, monkeypatch):
    source = folder_of(tmp_path / "x", 6)
    _, mend = cut_after(monkeypatch, 2)
    with pytest.raises(Cut):
        update(source, store=tmp_path / "lake", **HOW)
    mend()
    held = Lake(tmp_path / "lake").read(timeframe="1d")
    name, other = held.symbol[0], tmp_path / "other"
    other.mkdir()
    days(int(name[1:])).assign(volume=9.0).to_csv(other / f"{name}.csv", index=False)
    update(other / f"{name}.csv", symbols=[name], store=tmp_path / "lake", **HOW)
    update(source, store=tmp_path / "lake", **HOW)
    assert set(Lake(tmp_path / "lake").read([name], "1d").volume) == {5.0}


@pytest.mark.slow
@pytest.mark.slow
def test_a_changed_file_and_another_question_begin_anew(tmp_path, often, monkeypatch):
    source = folder_of(tmp_path / "x", 6)
    seen, mend = cut_after(monkeypatch, 2)
    with pytest.raises(Cut):
        update(source, store=tmp_path / "lake", **HOW)
    mend()
    days(0).assign(volume=7.0).to_csv(source / "S000.csv", index=False)
    seen.clear()
    update(source, store=tmp_path / "lake", **HOW)
    assert len(seen) == 6 and set(Lake(tmp_path / "lake").read(["S000"], "1d").volume) == {7.0}


def test_what_is_kept_with_series_and_noted_goes_on_too(tmp_path, often, monkeypatch):
    source = folder_of(tmp_path / "x", 6)
    for i, path in enumerate(sorted(source.glob("*.csv"))):
        frame = pd.read_csv(path)
        frame = frame[pd.to_datetime(frame.date).dt.day_of_week < 5]
        frame.assign(spread=[3 + i % 2] * len(frame)).drop(columns="volume").rename(columns={
            "spread": "<SPREAD>"}).to_csv(path, index=False)
    how = {**HOW, "calendar": "forex", "point": 0.0001}
    clean = update(source, store=tmp_path / "clean", **how)
    assert clean.notes and not clean.failed
    _, mend = cut_after(monkeypatch, 2)
    with pytest.raises(Cut):
        update(source, store=tmp_path / "lake", **how)
    mend()
    done = update(source, store=tmp_path / "lake", **how)
    one, two = (Lake(tmp_path / name) for name in ("lake", "clean"))
    assert done.notes == clean.notes and done.series.status.tolist() == ["ok"] * 6
    for attribute, value in (("calendar", "forex"), ("spread", "price")):
        kept = one.read_attributes(None, "1d", attribute)
        assert kept.value.tolist() == [value] * 6
        pd.testing.assert_frame_equal(kept, two.read_attributes(None, "1d", attribute))
    assert one.read(timeframe="1d").spread.max() == pytest.approx(0.0004)
    # nobody names the calendar: the kept one
    again = update(source, store=tmp_path / "lake", **HOW, point=0.0001)
    assert set(again.series.status) == {"nothing new"}
    assert again.quality["rows"].tolist() == clean.quality["rows"].tolist()
    assert clean.quality.set_index("check")["rows"]["missing"] < 10  # by 24/7 each weekend is missing


def test_many_series_are_few_commits(tmp_path):
    done = update(folder_of(tmp_path / "x", 60, 40), store=tmp_path / "lake", **HOW)
    assert len(done.series) == 60 and len(Lake(tmp_path / "lake").versions()) <= 3


KILLED = """
import sys
import mlfin.ingest.store_update as module
from mlfin.ingest import file_batches, judged_bars
module._COMMIT, judged_bars._TOGETHER, file_batches._ROOM = 500, 250, 30_000
import deltalake, pyarrow.csv, pyarrow.ipc
print("ready", flush=True)
done = module.update(sys.argv[1], timeframes="1d", tz="UTC", store=sys.argv[2])
print(done.failed, flush=True)
"""


def killed(tmp_path, n, times, seed, capsys):
    "Kill one and the same ingest again and again: what each left, in series."
    source, lake, chance = folder_of(tmp_path / "x", n), tmp_path / "lake", random.Random(seed)
    update(source, store=tmp_path / "clean", **HOW)
    left, under_way, seconds = [0], 0, None
    while under_way < times and left[-1] < n:
        running = subprocess.Popen([sys.executable, "-W", "ignore", "-c", KILLED, str(source), str(lake)],
                                   stdout=subprocess.PIPE, text=True)
        assert running.stdout.readline() == "ready\n"
        begun = time.monotonic()
        if seconds is None:  # the first one ends with its first commit
            while not list(lake.glob("incoming/*.json")) and running.poll() is None:
                time.sleep(0.01)
            seconds = time.monotonic() - begun
        else:
            time.sleep(chance.uniform(0.3, 2.0) * seconds)
        running.kill()
        under_way += running.communicate()[0] == ""
        left.append(Lake(lake).read(timeframe="1d").symbol.nunique())
        assert left[-1] >= left[-2]
    assert left[1] > 0  # an early kill leaves something
    done = update(source, store=lake, **HOW)
    assert not done.failed and len(done.series) == n
    same(Lake(lake), Lake(tmp_path / "clean"))
    assert not (lake / "incoming").exists()
    with capsys.disabled():
        print(f"\n{under_way} kills of one ingest of {n} series left {left[1:]}", end=" ")


def test_kills_of_one_ingest_leave_more_and_more(tmp_path, capsys):
    killed(tmp_path, 30, 2, 1, capsys)


@pytest.mark.slow
def test_twenty_kills_of_one_ingest(tmp_path, capsys):
    killed(tmp_path, 600, 20, 2, capsys)


@pytest.mark.long
def test_sixty_kills_of_one_ingest(tmp_path, capsys):
    killed(tmp_path, 2_000, 60, 3, capsys)


PEAK = """
import json, sys
from mlfin.core.settings import quiet_environment
quiet_environment()  # as every command does
from mlfin.ingest.store_update import update
import deltalake, pyarrow.csv, pyarrow.ipc, pyarrow.parquet
def peak():
    with open("/proc/self/status") as status:
        return next(int(x.split()[1]) for x in status if x.startswith("VmHWM")) / 1024
base = peak()
done = update(sys.argv[1], timeframes="1d", tz="UTC", store=sys.argv[2], raw=False)
print(json.dumps([len(done.series), bool(done.failed), base, peak()]))
"""


def peak(source, lake):
    said = subprocess.run([sys.executable, "-W", "ignore", "-c", PEAK, str(source), str(lake)],
                          capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert said.returncode == 0, said.stderr
    import json

    return json.loads(said.stdout)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_symbols(tmp_path, capsys):
    (_, _, base, small), (n, failed, _, large) = (
        peak(one_file(tmp_path / f"{n}.csv", n, 1_000), tmp_path / f"lake{n}") for n in (60, 240))
    with capsys.disabled():
        print(f"\n60 and 240 symbols of 1,000 bars: {small:.0f} and {large:.0f} MB, of which {base:.0f} are "
              f"imports", end=" ")
    assert n == 240 and not failed and large - small < 180 * 0.25  # 0.45 MB a symbol it was


@pytest.mark.slow
@pytest.mark.parametrize("make", [folder_of, one_file])
def test_two_thousand_symbols_in_300_mb(tmp_path, make, capsys):
    n, failed, base, top = peak(make(tmp_path / ("x" if make is folder_of else "x.csv"), 2_000, 2_500),
                                tmp_path / "lake")
    with capsys.disabled():
        print(f"\n{n} symbols of 2,500 bars: {top:.0f} MB, of which {base:.0f} are imports", end=" ")
    assert n == 2_000 and not failed and top <= 300
