"What a run reads of the store: named by its content, held to one version, brought in first where it must be."
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from mlfin.runs.question import check_files
from mlfin.core.errors import AWAY, REFUSED, AwayError, DataError, ParameterError
from mlfin.core.tasks import Task
from mlfin.core.settings import Settings
from mlfin.ingest import ingest as module
from mlfin.ingest import store_update
from mlfin.files.file_formats import FORMATS
from mlfin.ingest.ingest import ingest, stored_bars_hash
from mlfin.ingest.store_update import update
from mlfin.warehouse.opening import open_store
from mlfin.store.lake import Lake
from mlfin.sources.read_result import ReadResult, quarantine_rows
from mlfin.sources.sources import SOURCES, read_bars, register_source
from mlfin.ingest.pinned_bars import (FILES, PINNED, as_stored, needs_ingest, bring_in, content, pinned,
                                      task_bars, with_zone)
from mlfin.warehouse.transfer import copy_store

NAMES = ("symbols", "timeframe", "start", "end", "calendar")


@pytest.fixture
def settings(tmp_path):
    return Settings(profile="test", root=tmp_path, store=str(tmp_path / "lake"), mlflow="", artifacts="",
                    ledger=tmp_path / "trials.sqlite")


@pytest.fixture
def lake(settings, make):
    "Two symbols of daily bars and one of hours."
    lake = open_store(settings)
    for n, (symbol, timeframe) in enumerate((("AAA", "1d"), ("BBB", "1d"), ("AAA", "1h"))):
        lake.write(make(symbol, timeframe, seed=n))
    return lake


def asked(**changes):
    return {"source": "store", "path": "x.csv", "symbols": ["AAA"], "timeframe": "1d", "start": None,
            "end": None, "tz": "UTC", "calendar": "auto", "adjust": "total"} | changes


def test_only_what_a_question_reads_counts(settings, lake, make):
    before = content(asked(), settings)
    later = make("BBB", "1d", "2024-04-01", "2024-04-03")
    lake.write(later)
    lake.write(make("AAA", "1h", "2024-04-01", "2024-04-03"))
    lake.push(make("CCC"))
    assert content(asked(), settings) == before
    past = content(asked(end="2024-03-01"), settings)
    lake.push(later.assign(symbol="AAA"))
    assert content(asked(), settings) != before and content(asked(end="2024-03-01"), settings) == past
    pushed = content(asked(), settings)
    lake.flush()
    assert content(asked(), settings) == pushed
    row = lake.read(["AAA"]).iloc[[5]].reset_index(drop=True)
    lake.write(row.assign(close=row.close * 1.001))
    assert len({content(asked(), settings), pushed, before}) == 3


def test_actions_calendars_and_rows_set_aside_count(settings, lake):
    from mlfin.market.actions import as_actions
    found, at = [content(asked(), settings)], pd.Timestamp("2024-02-01", tz="UTC")
    lake.write_actions(as_actions([("AAA", at, "split", 2.0, at, "test")]))
    found.append(content(asked(), settings))
    lake.write_quarantine(quarantine_rows("push", [1], ["AAA"], [pd.Timestamp("2024-02-02", tz="UTC")],
                                          ["high is below low"], [{}]))
    found.append(content(asked(), settings))
    lake.write_attributes(pd.DataFrame([("AAA", "1d", "calendar", "XNYS")],
                                       columns=["symbol", "timeframe", "attribute", "value"]))
    found.append(content(asked(), settings))
    assert len(set(found)) == 4


def test_the_hash_is_kept_until_something_is_written(settings, lake, make, monkeypatch):
    first, read = content(asked(), settings), []
    monkeypatch.setattr(module, "stored_bars_hash",
                        lambda *a, **k: read.append(a) or stored_bars_hash(*a, **k))
    assert content(asked(), settings) == first and not read
    lake.push(make("CCC"))
    assert content(asked(), settings) == first and len(read) == 1
    assert content(asked(symbols=["BBB"]), settings) != first and len(read) == 2
    assert content(asked(source="csv"), settings) is None and len(read) == 2


def test_a_copy_elsewhere_is_the_same(settings, lake, tmp_path):
    lake.write_quarantine(quarantine_rows("push", [1], ["AAA"], [pd.Timestamp("2024-02-02", tz="UTC")],
                                          ["high is below low"], [{"high": "1"}]))
    copy_store(lake, copy := Lake(tmp_path / "copy"))
    assert stored_bars_hash(["AAA"], "1d", store=copy) == content(asked(), settings)


def test_a_warehouse_is_the_same(settings, lake, server):
    from mlfin.warehouse.warehouse import Warehouse
    lake.write_quarantine(quarantine_rows("push", [1], ["AAA"], [pd.Timestamp("2024-02-02", tz="UTC")],
                                          ["high is below low"], [{"high": "1"}]))
    update("builtin", symbols=["AAPL"], store=lake)
    warehouse = Warehouse(server("postgresql"))
    copy_store(lake, warehouse)
    there = settings.model_copy(update={"store": server("postgresql")})
    for symbols in (["AAA"], ["AAPL"]):
        assert content(asked(symbols=symbols), there) == content(asked(symbols=symbols), settings)
    with pinned(asked(), there) as version:
        assert content(asked(), there) == content(asked(), settings) and version == warehouse.version()


def test_bars_that_arrive_while_a_run_goes_on_are_not_its_own(settings, lake, make):
    later = make("AAA", "1d", "2024-04-01", "2024-04-03")
    lake.push(later)
    now = content(asked(), settings)
    with pinned(asked(), settings) as version:
        key = content(asked(), settings)
        lake.push(make("AAA", "1d", "2024-04-04", "2024-04-05"))
        row = lake.read(["AAA"]).iloc[[5]].reset_index(drop=True)
        lake.write(row.assign(close=row.close * 1.001))
        task = Task("ingest", "k", {}, {}, asked(), settings, {}, {"source": content(asked(), settings)})
        assert key == now == task.content["source"] and os.environ[PINNED] == str(version)
        done = task_bars(task)
        assert done.bars.ts.max() == later.ts.max() and done.content_hash == key
    assert PINNED not in os.environ and content(asked(), settings) != key


def test_a_change_while_a_task_began_is_said(settings, lake, make):
    task = Task("ingest", "k", {}, {}, asked(), settings, {}, {"source": content(asked(), settings)})
    lake.push(make("AAA", "1d", "2024-04-01", "2024-04-03"))
    with pytest.raises(Exception, match="changed while the task began"): task_bars(task)


def test_bars_of_the_store_are_those_of_their_source(tmp_path):
    store = Lake(tmp_path / "lake")
    update("builtin", symbols=["AAPL", "IBM"], store=store)
    direct, there = (ingest("builtin", symbols=["AAPL", "IBM"], store=tmp_path / "other"),
                     ingest("store", symbols=["AAPL", "IBM"], store=store))
    pd.testing.assert_frame_equal(there.bars, direct.bars)
    pd.testing.assert_frame_equal(there.actions, direct.actions)
    assert there.calendar == direct.calendar == "XNYS"
    assert list(there.summary.missing) == list(direct.summary.missing)


def test_what_the_store_has_not_is_refused_by_name(settings, lake):
    for changes, word in (({"symbols": ["AAB"]}, "did you mean `AAA`"),
                          ({"symbols": None, "timeframe": "5m"}, "period that the store has 5m bars in")):
        with pytest.raises(DataError, match=word):
            ingest("store", symbols=changes["symbols"], timeframe=changes.get("timeframe", "1d"), store=lake)


def test_every_format_is_a_source_of_files(): assert set(FORMATS) < set(FILES)


def naive(make, path, symbol="AAA", **more):
    "A file of hours whose times carry no zone."
    bars = make(symbol, "1h", end="2024-03-05").drop(columns=["known_at", "symbol", "timeframe"])
    bars.assign(ts=bars.ts.dt.tz_localize(None), **more).to_csv(path, index=False)


def test_a_run_reads_a_file_in_the_zone_that_the_store_keeps(settings, make, tmp_path):
    """The run took `tz` of env.yaml for what its author said, and refused a file whose series keep another
    zone."""
    naive(make, tmp_path / "AAA_1h.csv")
    question = asked(source="csv", path="AAA_1h.csv", timeframe="1h", tz=None)
    assert with_zone(question, settings)["tz"] is None
    with pytest.raises(ParameterError, match="`tz`.*AAA_1h.csv"): check_files(question, settings)
    update(tmp_path / "AAA_1h.csv", symbols=["AAA"], timeframes=["1h"], tz="Europe/Athens", store=settings)
    assert as_stored(question, settings)["tz"] == "Europe/Athens" == bring_in(question, settings)[0]["tz"]
    check_files(question, settings)
    told = as_stored(question | {"symbols": None}, settings)
    bars = ingest("csv", tmp_path / "AAA_1h.csv", None, "1h", tz=told["tz"], store=settings).bars
    assert told["tz"] == "Europe/Athens"
    assert bars.ts.min() == open_store(settings).read(["AAA"], "1h").ts.min()
    with pytest.raises(ParameterError, match="Europe/Athens, which the store keeps.*UTC"):
        check_files(question | {"tz": "UTC"}, settings)
    with pytest.raises(DataError, match="Europe/Athens: the store keeps it"):
        ingest("csv", tmp_path / "AAA_1h.csv", ["AAA"], "1h", tz="UTC", store=settings)


def test_a_zone_is_asked_for_once_and_only_where_times_carry_none(settings, make, tmp_path):
    make("AAA", "1h").drop(columns="known_at").to_csv(tmp_path / "own.csv", index=False)
    bars = make("AAA", "1d").drop(columns="known_at")
    days = read_bars("builtin", symbols=["AAPL"], end="2000-12-31").bars[[
        "ts", "open", "high", "low", "close", "volume"]]
    days.assign(ts=days.ts.dt.strftime("%Y-%m-%d")).to_csv(tmp_path / "days.csv", index=False)
    bars.assign(ts=bars.ts.astype("int64") // 10**6).to_csv(tmp_path / "counts.csv", index=False)
    for name, timeframe, calendar in (("own", "1h", "auto"), ("days", "1d", "XNYS"),
                                      ("counts", "1d", "auto")):
        check_files(asked(source="csv", path=f"{name}.csv", timeframe=timeframe, tz=None, calendar=calendar),
                    settings)
    with pytest.raises(ParameterError, match="calendar=XNYS"):
        check_files(asked(source="csv", path="days.csv", tz=None), settings)
    update(tmp_path / "days.csv", symbols=["AAA"], calendar="XNYS", store=settings)
    check_files(asked(source="csv", path="days.csv", tz=None), settings)      # the store keeps the calendar
    assert len(ingest("csv", tmp_path / "days.csv", ["AAA"], store=settings).bars)


def test_a_file_whose_spreads_the_store_counts_is_read_from_the_store(settings, make, tmp_path):
    """A run counted a file's spreads anew by the decimals of its prices, beside a store that was told their
    point."""
    naive(make, tmp_path / "AAA_1h.csv", spread=20)
    question = asked(source="csv", path="AAA_1h.csv", timeframe="1h", tz="UTC")
    assert not needs_ingest(question, settings)
    update(tmp_path / "AAA_1h.csv", symbols=["AAA"], timeframes=["1h"], tz="UTC", point=0.001, store=settings)
    own = as_stored(question | {"symbols": None}, settings)
    assert own["source"] == "store"
    assert as_stored(question | {"symbols": ["BBB"]}, settings)["source"] == "csv"
    assert set(ingest("store", symbols=["AAA"], timeframe="1h", store=settings).bars.spread) == {0.02}


def test_a_folder_is_brought_in_again_where_the_lake_was_deleted(settings, make, tmp_path):
    (tmp_path / "bars").mkdir()
    for n, symbol in enumerate(("AAA", "BBB")):
        make(symbol, seed=n).drop(columns="known_at").to_csv(tmp_path / "bars" / f"{symbol}.csv", index=False)
    question = asked(source="csv", path="bars", symbols=["AAA", "BBB"])
    assert bring_in(question, settings)[1]["new"] == 182
    shutil.rmtree(settings.store)
    assert bring_in(question, settings)[1]["new"] == 182


def test_a_folder_is_brought_in_and_read_again_only_when_it_changes(settings, make, tmp_path, monkeypatch):
    (tmp_path / "bars").mkdir()
    for n, symbol in enumerate(("AAA", "BBB")):
        make(symbol, seed=n).drop(columns="known_at").to_csv(tmp_path / "bars" / f"{symbol}.csv", index=False)
    question = asked(source="csv", path="bars", symbols=["AAA", "BBB"])
    assert needs_ingest(question, settings)
    assert not needs_ingest(question | {"path": "bars/AAA.csv"}, settings)
    own, brought = bring_in(question, settings)
    assert ((own["source"], brought["source"], brought["path"], brought["new"])
            == ("store", "csv", "bars", 182))
    assert len(ingest("store", symbols=["AAA", "BBB"], store=settings).bars) == 182
    calls = []
    monkeypatch.setattr(store_update, "update", lambda *a, **k: calls.append(a) or update(*a, **k))
    assert bring_in(question, settings)[1]["new"] == 0 and not calls
    make("AAA", end="2024-04-02").drop(columns="known_at").to_csv(tmp_path / "bars" / "AAA.csv", index=False)
    assert bring_in(question, settings)[1]["new"] == 2 and len(calls) == 1


def test_a_source_that_fails_stops_a_run_before_it_begins(settings, make):
    bars, lost = make("AAA"), []

    def line_parts(path, symbols, timeframe, tz, calendar, *, start=None, end=None, limit=0):
        if lost: raise lost[-1]("The line broke.")
        own = bars[bars.ts >= start] if start is not None else bars
        nothing = quarantine_rows("", [], [], [], [], [])
        yield ReadResult(own.reset_index(drop=True), np.arange(len(own)), nothing, "line:1", "1",
                         until=bars.ts.iloc[-1])
    register_source("line", None, parts=line_parts)
    try:
        own, brought = bring_in(asked(source="line", path=None), settings)
        assert own["source"] == "store" and brought["new"] == len(bars)
        # a run ends with the exit code of `mlfin ingest`
        for kind, code in ((DataError, REFUSED), (AwayError, AWAY)):
            lost.append(kind)
            for more in ({}, {"partly": True}):
                with pytest.raises(DataError, match="The line broke") as e:
                    bring_in(asked(source="line", path=None), settings, **more)
                assert e.value.exit_code == code
    finally: del SOURCES["line"]


def test_for_a_request_only_allowed_folders_are_looked_at(settings, make, tmp_path, monkeypatch):
    for folder in ("in", "out"):
        (tmp_path / folder).mkdir()
        for symbol in ("AAA", "BBB"):
            make(symbol).drop(columns="known_at").to_csv(tmp_path / folder / f"{symbol}.csv", index=False)
    (tmp_path / "in" / "CCC.csv").symlink_to(tmp_path / "out" / "AAA.csv")
    monkeypatch.setenv("MLFIN_CONFINED", "1")
    monkeypatch.setenv("MLFIN_DATA_DIRS", str(tmp_path / "in"))
    for path in ("out", "out/*.csv", "in", "../../etc"):  # the third for its link
        with pytest.raises(ParameterError,
                           match="in one of the folders that requests may read|a file that exists"):
            bring_in(asked(source="csv", path=path, symbols=["AAA", "BBB"]), settings)
    (tmp_path / "in" / "CCC.csv").unlink()
    assert bring_in(asked(source="csv", path="in", symbols=["AAA", "BBB"]), settings)[1]["new"] == 182
