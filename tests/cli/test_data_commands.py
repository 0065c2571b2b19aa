"""The command line on data: what is printed, what is refused, exit codes, closed pipes and Ctrl-C."""
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from mlfin.core.errors import DataError, MlfinError, ParameterError, SettingsError
from mlfin.market.actions import as_actions
from mlfin.market.bars import as_bars
from mlfin.market.calendars import expected_bars
from mlfin.warehouse.opening import open_store
from mlfin.store.lake import Lake
from mlfin.sources.read_result import quarantine_rows
from mlfin.cli.app import app, main

from ..fixtures import exchange_server as fake
from ..fixtures.small_project import ROOT
from ..runs.test_pipeline import SCRIPT


LONG = "A-SYMBOL-WITH-A-VERY-LONG-NAME/WITH-A-CURRENCY:SETTLED-IN-ANOTHER-20261231-100000-C"
EVIL = "[red]\x1b[31mX\u202e"


def bars_of(symbol, timeframe="1d", start="2024-01-01", end="2024-03-31", calendar="24/7", seed=0, holes=()):
    grid = expected_bars(calendar, timeframe, start, end).drop(columns="session").drop(index=list(holes))
    close = np.round(100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, len(grid)))), 2)
    return as_bars(
        grid.assign(
            symbol=symbol,
            timeframe=timeframe,
            open=close,
            high=close + 1,
            low=close - 1,
            close=close,
            volume=1e6,
        )
    )


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    "A store of several series; nothing here may change it."
    folder = tmp_path_factory.mktemp("data") / "lake"
    store = open_store(folder)
    store.write(bars_of("IBM", calendar="XNYS", holes=[10, 11, 12, 30]))
    store.write(
        bars_of("BTC/USDT", "1m", "2024-01-01", "2024-01-02", seed=1, holes=range(600, 660)).assign(
            vwap=100.25, trades=7.0
        )
    )
    store.write(bars_of("BTC/USDT", "1h", "2024-01-01", "2024-01-31", seed=2))
    changed = bars_of("IBM", calendar="XNYS", holes=[10, 11, 12, 30])
    changed.loc[5, "close"] += 0.5
    store.write(changed)
    store.push(bars_of("IBM", start="2024-04-01", end="2024-04-02", calendar="XNYS"))
    days = changed.ts[20]
    store.write_actions(as_actions([("IBM", days, "dividend", 0.5, days, "test")]))
    store.write_quarantine(
        quarantine_rows(
            "csv:3f2a00",
            [3, 9, 11],
            ["IBM", None, "BTC/USDT"],
            [pd.NaT, pd.NaT, changed.ts[2]],
            ["high below low", "2 fields where the header has 7", "high below low"],
            [{"high": "1"}, {"row": "1,2"}, {"high": EVIL}],
        )
    )
    return folder


@pytest.fixture
def say(lake, tmp_path, monkeypatch):
    "Run a `data` command on the store: what it printed; outside of any project."
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFIN_PROFILE", raising=False)

    def call(*words, code=0, store=lake):
        found = CliRunner().invoke(app, ["data", *words, *(["--store", str(store)] if store else [])])
        if isinstance(found.exception, MlfinError): raise found.exception
        assert found.exit_code == code, (found.output, found.exception)
        assert found.stderr == ""
        return found.stdout
    return call


def told(call, *words): return json.loads(call(*words, "--json"))


def lines_of(text): return [line.split() for line in text.splitlines()]


# --- list

def test_ls_tells_what_is_there(say, lake):
    shown = say("ls")
    assert lines_of(shown)[0] == "symbol tf rows first UTC last UTC".split()
    assert lines_of(shown)[2:5] == [
        "BTC/USDT 1h 721 2024-01-01 00:00 2024-01-31 00:00".split(),
        "BTC/USDT 1m 1,381 2024-01-01 00:00 2024-01-02 00:00".split(),
        "IBM 1d 58 2024-01-02 14:30 2024-04-01 13:30".split(),
    ]
    assert re.fullmatch(r"2 symbols; 2,160 bars; version \d+; [\d.]+ kB in \S*lake", shown.splitlines()[5])
    found = told(say, "ls")
    assert [s["rows"] for s in found["series"]] == [721, 1381, 58]
    assert found["version"] == open_store(lake).version()
    assert found["series"][2] == {
        "symbol": "IBM",
        "timeframe": "1d",
        "rows": 58,
        "first": "2024-01-02T14:30:00Z",
        "last": "2024-04-01T13:30:00Z",
    }
    assert found["bytes"] == sum(p.stat().st_size for p in lake.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    "words, series",
    [
        (["BTC*"], 2),
        (["*"], 3),
        (["-t", "M1"], 1),
        (["IBM", "BTC/USDT", "-t", "1h", "BTC*"], None),
        (["[BI]*"], 3),
        (["BTC/USDT", "-t", "60m"], 1),
    ],
)
def test_ls_of_some(say, words, series):
    if series is None:
        with pytest.raises(ParameterError, match="`--timeframe` must be one that IBM has: 1d, got '1h'"):
            say("ls", *words)
    else: assert len(told(say, "ls", *words)["series"]) == series


def test_ls_counts_gaps(say):
    found = told(say, "ls", "--gaps")["series"]
    assert [(s["missing"], s["calendar"]) for s in found] == [(0, "24/7"), (60, "24/7"), (4, "XNYS")]
    assert max(map(len, say("ls", "--gaps").splitlines()[:5])) <= 80


def test_a_symbol_is_never_cut_nor_obeyed(say, tmp_path):
    store = open_store(tmp_path / "odd")
    for name in (LONG, EVIL, "[bold]", "ゴールド", "*"): store.write(bars_of(name, end="2024-01-03"))
    shown = say("ls", store=tmp_path / "odd")
    assert all(name in shown for name in (LONG, "[red]\\x1b[31mX\\u202e", "[bold]", "ゴールド"))
    assert "\x1b" not in shown
    assert told(say_on(say, tmp_path / "odd"), "show", EVIL)["symbol"] == EVIL
    assert told(say_on(say, tmp_path / "odd"), "show", "*")["symbol"] == "*"
    assert len(told(say_on(say, tmp_path / "odd"), "ls", "[[]*")["series"]) == 2


def say_on(say, store): return lambda *words: say(*words, store=store)


# --- show

def test_show_the_last_bars(say, lake):
    bars = open_store(lake).read("IBM")
    shown = say("show", "IBM")
    assert max(map(len, shown.splitlines())) <= 80
    assert (
        shown.splitlines()[-1]
        == "IBM 1d: 58 bars, 2024-01-02 14:30 to 2024-04-01 13:30 UTC; the last 20 are shown"
    )
    assert lines_of(shown)[-2][:2] == ["2024-04-01", "13:30"] and len(shown.splitlines()) == 23
    assert len(say("show", "IBM", "-n", "0").splitlines()) == 61
    found = told(say, "show", "IBM")
    assert found["rows"] == 58 and [b["close"] for b in found["bars"]] == bars.close.tolist()
    assert [pd.Timestamp(b["known_at"]) for b in found["bars"]] == bars.known_at.tolist()
    assert len(told(say, "show", "IBM", "-n", "2")["bars"]) == 2


def test_show_what_was_known_stored_and_adjusted(say, lake):
    store = open_store(lake)
    new = told(say, "show", "IBM", "-n", "0")["bars"][5]["close"]
    old = told(say, "show", "IBM", "--as-of", "2024-06-01")["bars"][5]["close"]
    first = store.versions().version[1]
    assert old == new - 0.5 == told(say, "show", "IBM", "--version", str(first))["bars"][5]["close"]
    adjusted = told(say, "show", "IBM", "--adjust", "total")["bars"]
    assert adjusted[0]["factor"] == 1 < adjusted[-1]["factor"]
    assert "factor" in say("show", "IBM", "--adjust", "total")
    assert len(told(say, "show", "IBM", "--start", "2024-02-01", "--end", "2024-02-02")["bars"]) == 2
    assert len(told(say, "show", "BTC/USDT", "-t", "1h", "--end", "2024-01-01T05:30+02:00")["bars"]) == 4


def test_show_says_what_does_not_fit_and_what_is_not_there(say):
    shown = say("show", "BTC/USDT", "-t", "1m", "-n", "1")
    assert "known_at" in shown and max(map(len, shown.splitlines()[:-1])) <= 80
    assert re.search(r"no room for .*trades: --json shows all", shown)
    assert say("show", "IBM", "--start", "2030-01-01") == (
        "IBM has no 1d bars from 2030-01-01 00:00 UTC; the store has them from 2024-01-02 14:30 to "
        "2024-04-01 13:30 UTC.\n")
    assert "that were known at 1999-01-01" in say("show", "IBM", "--as-of", "1999-01-01")
    assert told(say, "show", "IBM", "--start", "2030-01-01") == {
        "symbol": "IBM",
        "timeframe": "1d",
        "rows": 0,
        "bars": [],
    }


@pytest.mark.parametrize(
    "words, kind, parts",
    [
        (["show", "ibm"], ParameterError, ["`symbol`", "did you mean `IBM`?"]),
        (["show", "XYZ"], ParameterError, ["one of BTC/USDT, IBM"]),
        (["show", "ETH*"], ParameterError, ["'ETH*'"]),
        (["show", "BTC/USDT"], ParameterError, ["several timeframes: 1h, 1m", "-t 1h"]),
        (["show", "IBM", "-t", "1m"], ParameterError, ["one that IBM has: 1d"]),
        (["show", "IBM", "-t", "7m"], ParameterError, ["`timeframe` must be a known timeframe, got '7m'"]),
        (
            ["show", "IBM", "--start", "yesterday-ish"],
            ParameterError,
            ["`--start` must be a date or a time, like 2013-03-01"],
        ),
        (["show", "IBM", "--end", ""], ParameterError, ["`--end`"]),
        (["show", "IBM", "--as-of", "9999999-01-01"], ParameterError, ["`--as-of`"]),
        (["show", "IBM", "--adjust", "split"], ParameterError, ["did you mean `splits`?"]),
        (["show", "IBM", "--version", "99"], DataError, ["`version` must be from 0 to"]),
        (["gaps", "IBM", "--calendar", "XNYX"], DataError, ["did you mean `XNYS`?"]),
        (["export", "x.csv"], ParameterError, ["several timeframes: 1d, 1h, 1m"]),
        (["export", "x.xlsx", "IBM"], ParameterError, ["*.csv, *.csv.gz or *.parquet", "'x.xlsx'"]),
        (["export", "x.csv", "IBM", "-c", "clsoe"], DataError, ["did you mean `close`?"]),
        (
            ["export", "x.csv", "IBM", "--end", "1999-12-31"],
            DataError,
            ["IBM has no 1d bars to 1999-12-31", "nothing was written"],
        ),
        (["export", "no/such/folder/x.csv", "NOPE"], ParameterError, ["`symbol`"]),
        (["actions", "NOPE"], ParameterError, ["`symbol`"]),
    ],
)
def test_refusals_say_what_and_what_to_do(say, tmp_path, words, kind, parts):
    with pytest.raises(kind) as caught: say(*words)
    for part in parts: assert part in str(caught.value), str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["ls"],
        ["show", "IBM"],
        ["gaps"],
        ["export", "x.csv"],
        ["quarantine"],
        ["versions"],
        ["compact"],
        ["vacuum"],
    ],
)
def test_no_store_yet(say, tmp_path, words):
    with pytest.raises(SettingsError, match=r"`--store` must be the folder of a store, got "
                                            r"'.*nowhere'.\nHint: `mlfin ingest SOURCE --store"):
        say(*words, store=tmp_path / "nowhere")
    with pytest.raises(
        SettingsError,
        match="No mlfin project at or above .*\n.*\nOr name the folder of a store: --store FOLDER",
    ):
        say(*words, store=None)
    (tmp_path / "empty").mkdir()
    if words[0] in ("ls", "versions", "quarantine"):
        shown = say(*words, store=tmp_path / "empty")
        assert "`mlfin ingest` fills it" in shown or "No row was set aside" in shown
        assert json.loads(say(*words, "--json", store=tmp_path / "empty"))
    else:
        with pytest.raises(
            DataError, match="Nothing is stored yet in empty.\nHint: `mlfin ingest` makes the store"
        ):
            say(*words, store=tmp_path / "empty")
    assert [p.name for p in tmp_path.rglob("*")] == ["empty"]


# --- gaps

def test_gaps_by_the_calendar_that_fits_or_was_named(say):
    shown = say("gaps")
    assert lines_of(shown)[2:5] == [
        "BTC/USDT 1m 2024-01-01 10:00 2024-01-01 10:59 60".split(),
        "IBM 1d 2024-01-17 14:30 2024-01-19 14:30 3".split(),
        "IBM 1d 2024-02-14 14:30 2024-02-14 14:30 1".split(),
    ]
    assert "IBM 1d: 2 gaps, 4 of 62 bars missing (XNYS, which fits best: 94%)" in shown
    assert "BTC/USDT 1h: nothing is missing of 721 bars (24/7, which fits best: 100%)" in shown
    found = told(say, "gaps", "IBM")
    assert found["gaps"][0] == {
        "symbol": "IBM",
        "timeframe": "1d",
        "start": "2024-01-17T14:30:00Z",
        "end": "2024-01-19T14:30:00Z",
        "missing": 3,
    }
    assert found["series"][0]["missing"] == 4 and found["series"][0]["outside"] == 0
    named = told(say, "gaps", "IBM", "--calendar", "XLON")["series"][0]
    assert (named["fit"], named["outside"]) == (None, 58)
    assert "58 bars when it expects none" in say("gaps", "IBM", "--calendar", "XLON")
    assert [g["missing"] for g in told(say, "gaps", "IBM", "--start", "2024-02-01")["gaps"]] == [1]
    assert "IBM 1d: no bars in that period." in say("gaps", "IBM", "--start", "2030-01-01")
    assert "The 1 longest of 3 gaps" in say("gaps", "-n", "1")


def test_gaps_where_no_calendar_fits(say, tmp_path, monkeypatch):
    from mlfin.market import calendars

    monkeypatch.setattr(calendars, "_OTHERS", ("XLON",))
    odd = bars_of("ODD", "1h", end="2024-01-20")
    minutes = pd.to_timedelta(np.random.default_rng(0).integers(1, 59, len(odd)), unit="min")
    open_store(tmp_path / "odd").write(
        odd.assign(ts=odd.ts + minutes, known_at=odd.known_at + minutes).astype(odd.dtypes.to_dict())
    )
    shown = say("gaps", store=tmp_path / "odd")
    assert "ODD 1h: not known, its times are those of no calendar" in shown
    assert "--calendar names one" in shown
    found = json.loads(say("gaps", "--json", store=tmp_path / "odd"))
    assert found["gaps"] == [] and found["series"][0]["missing"] is None
    assert json.loads(say("gaps", "--json", "--calendar", "24/7", store=tmp_path / "odd"))["series"][0][
        "outside"
    ] == len(odd)


# --- quarantine

def test_quarantine_with_reason_place_and_raw_values(say):
    shown = say("quarantine")
    assert max(map(len, shown.splitlines())) <= 80 and "csv:3f2a00" in shown
    assert [line.split(maxsplit=1) for line in shown.splitlines()[-2:]] == [
        ["2", "high below low"],
        ["1", "2 fields where the header has 7"],
    ]
    raw = say("quarantine", "--raw", "--reason", "FIELDS")
    assert "csv:3f2a00 row 9\n  2 fields where the header has 7\n  {\"row\": \"1,2\"}\n" in raw
    assert "\x1b" not in say("quarantine", "BTC/USDT", "--raw")
    found = told(say, "quarantine")
    assert found["rows"] == 3 and [r["symbol"] for r in found["quarantine"]].count(None) == 1
    assert json.loads([r for r in found["quarantine"] if r["row"] == 11][0]["raw"]) == {"high": EVIL}
    assert told(say, "quarantine", "IBM", "--origin", "csv:3f")["rows"] == 1
    assert "The first 1 of 3" in say("quarantine", "-n", "1")
    assert len(told(say, "quarantine", "-n", "1")["quarantine"]) == 1
    assert re.match(
        r"None of 3 rows that were set aside is of that kind in \S*lake\.$",
        say("quarantine", "--origin", "ccxt"),
    )
    assert told(say, "quarantine", "--origin", "ccxt") == {"rows": 0, "quarantine": []}


# --- export, versions, actions, upkeep

@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_export_is_what_the_store_reads(say, lake, tmp_path, name):
    shown = say("export", name, "IBM", "--end", "2024-03-31")
    assert re.fullmatch(
        rf"{name}: 57 1d bars of 1 symbol, 2024-01-02 14:30 to 2024-03-28 13:30 UTC, [\d.]+ kB\n", shown
    )
    back = (
        pd.read_parquet(name)
        if name.endswith("parquet")
        else pd.read_csv(name, parse_dates=["ts", "known_at"])
    )
    pd.testing.assert_frame_equal(as_bars(back), open_store(lake).read("IBM", end="2024-03-31"))
    before = (tmp_path / name).read_bytes()
    with pytest.raises(ParameterError, match="--overwrite replaces it"): say("export", name, "IBM")
    assert (tmp_path / name).read_bytes() == before
    assert "58 1d bars" in say("export", name, "IBM", "--overwrite")


def test_export_of_some_values_and_all_symbols(say, tmp_path):
    say("export", "b.csv", "-t", "1m", "-c", "close,vwap", "-c", "close")
    assert (tmp_path / "b.csv").read_text().splitlines()[0] == "symbol,timeframe,ts,known_at,close,vwap"
    assert "1 1h bar of 1 symbol" in say("export", "c.csv", "BTC*", "-t", "H1", "--start", "2024-01-31")


def test_versions_actions_and_upkeep(say, tmp_path, lake):
    import shutil
    shutil.copytree(lake, tmp_path / "own")
    own = say_on(say, tmp_path / "own")
    found = told(own, "versions")["versions"]
    assert [v["version"] for v in found] == list(range(len(found)))
    assert sum(v["inserted"] for v in found) == 57 + 1381 + 721
    assert len(told(own, "versions", "-n", "2")["versions"]) == 2
    assert "The last 1 of" in own("versions", "-n", "1")
    assert told(own, "actions")["actions"][0]["value"] == 0.5
    assert "No action of that kind" in own("actions", "BTC*", "--as-of", "1999-01-01")
    assert told(own, "actions", "BTC/USDT") == {"actions": []}
    before = told(own, "show", "IBM")
    assert re.fullmatch(r"own is at version \d+ now\.\n", own("compact"))
    assert own("compact") == "Nothing to do in own.\n"
    assert re.fullmatch(r"0 files removed from own\.\n", own("vacuum"))
    assert re.fullmatch(r"\d+ files removed from own\.\n", own("vacuum", "--retention", "0"))
    assert told(own, "show", "IBM") == before


# --- copy

def copying(*words):
    return CliRunner().invoke(app, ["data", "copy", *map(str, words)])


def test_copy_of_a_facts_only_store(tmp_path):
    from mlfin.facts.facts import as_facts

    Lake(tmp_path / "facts").write_facts(
        as_facts([("*", "cpi", 1.0, "2020-01-01", "2020-01-31", "2020-02-15T00:00Z", "x")])
    )
    assert copying(tmp_path / "facts", tmp_path / "other").exit_code == 0
    assert Lake(tmp_path / "other").read_facts().value.tolist() == [1.0]
    (tmp_path / "empty").mkdir()
    assert "Nothing is stored yet" in str(copying(tmp_path / "empty", tmp_path / "third").exception)


def test_copy_says_what_it_did_and_does_nothing_twice(lake, tmp_path):
    done = copying(lake, tmp_path / "twin")
    assert done.exit_code == 0 and max(map(len, done.stdout.splitlines()[:-1])) <= 80
    assert lines_of(done.stdout)[0] == "symbol tf rows there copied checksum status".split()
    assert [line[0] for line in lines_of(done.stdout)[2:7]] == [
        "(actions)",
        "BTC/USDT",
        "BTC/USDT",
        "IBM",
        "(quarantine)",
    ]
    assert "both sides are the same" in done.stdout and "BTC/USDT 1m" in done.stderr
    here, there = open_store(lake), open_store(tmp_path / "twin")
    assert (
        (there.history(symbols=["IBM"]) == here.history(symbols=["IBM"]))
        .where(here.history(symbols=["IBM"]).notna(), True)
        .all(axis=None)
    )
    pd.testing.assert_frame_equal(there.read_quarantine(), here.read_quarantine())
    again = json.loads(copying(lake, tmp_path / "twin", "--json").stdout)
    assert {s["status"] for s in again["series"]} == {"nothing new"}
    assert sum(s["copied"] for s in again["series"]) == 0


def test_copy_of_some_and_a_refusal(lake, tmp_path):
    assert (
        copying(lake, tmp_path / "some", "-s", "BTC/USDT", "-t", "1h", "--end", "2024-01-02").exit_code == 0
    )
    some = open_store(tmp_path / "some")
    assert some.series()[["symbol", "timeframe", "rows"]].values.tolist() == [["BTC/USDT", "1h", 48]]
    some.write(bars_of("BTC/USDT", "1h", "2024-01-01", "2024-01-01 05:00", seed=9))
    done = copying(lake, tmp_path / "some")
    assert done.exit_code == 1 and "BTC/USDT 1h: the destination holds 6 rows" in done.stderr
    assert "1 line not the same on both sides" in done.stdout
    assert copying(lake, tmp_path / "some", "--merge").exit_code == 0


@pytest.mark.parametrize(
    "words, part",
    [
        (["nowhere", "x"], "`SOURCE` must be the folder of a store"),
        (["LAKE", "LAKE"], "another store than the source"),
        (["LAKE", "x", "-s", "IMB"], "did you mean `IBM`?"),
        (["LAKE", "x", "--start", "soon"], "`--start`"),
        (["LAKE", "mysql://root:geheim@127.0.0.1/x"], "a PostgreSQL address"),
        (["LAKE", "postgresql://u:geheim@127.0.0.1:port/x"], "address"),
    ],
)
def test_copy_refuses(lake, tmp_path, monkeypatch, words, part):
    monkeypatch.chdir(tmp_path)
    found = copying(*(lake if w == "LAKE" else w for w in words)).exception
    assert isinstance(found, MlfinError) and part in str(found) and "geheim" not in str(found)
    assert not (tmp_path / "x").exists()


# --- ingest

def csv_of(bars, path):
    bars.rename(columns={"ts": "time"})[["time", "open", "high", "low", "close", "volume"]].to_csv(
        path, index=False
    )
    return path


@pytest.fixture
def bring(tmp_path, monkeypatch):
    """Run `mlfin ingest` in a folder that is no project: what was printed, and what was said on standard
    error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFIN_PROFILE", raising=False)

    def call(*words, code=0):
        found = CliRunner().invoke(app, ["ingest", *map(str, words), "--store", "lake"])
        if isinstance(found.exception, MlfinError): raise found.exception
        assert found.exit_code == code, (found.output, found.exception)
        return found.stdout, found.stderr
    return call


def test_ingest_a_file_and_again(bring, tmp_path):
    bars = bars_of("COIN", "1h", end="2024-01-20")
    csv_of(bars, tmp_path / "coin.csv")
    shown, said = bring("coin.csv", "-s", "COIN", "-t", "H1")
    assert max(map(len, shown.splitlines())) <= 80
    assert lines_of(shown)[0] == "symbol tf status new revised unchanged aside last UTC".split()
    assert lines_of(shown)[2] == ["COIN", "1h", "ok", str(len(bars)), "0", "0", "0", "2024-01-20", "00:00"]
    assert re.search(r"^Version \d+ of lake, from csv:[0-9a-f]{12}$", shown, re.M)
    assert f"COIN 1h  {len(bars)} bars" in said
    shown, _ = bring("csv:coin.csv", "-s", "COIN", "-t", "1h", "--json")
    found = json.loads(shown)
    assert (
        found["series"][0] | {"status": "nothing new", "inserted": 0, "unchanged": len(bars)}
        == found["series"][0]
    )
    pd.testing.assert_frame_equal(open_store("lake").read("COIN", "1h"), bars)
    changed = bars.assign(volume=bars.volume + (bars.index == 7))
    csv_of(changed, tmp_path / "coin.csv")
    assert lines_of(bring("coin.csv", "-s", "COIN", "-t", "1h")[0])[2][3:6] == ["0", "1", str(len(bars) - 1)]


def test_ingest_patterns_options_and_sides(bring, tmp_path):
    (tmp_path / "in").mkdir()
    for n, name in enumerate(("AAA", "BBB")): csv_of(bars_of(name, seed=n), tmp_path / "in" / f"{name}.csv")
    assert [s["symbol"] for s in json.loads(bring("in/*.csv", "--json")[0])["series"]] == ["AAA", "BBB"]
    assert [s["symbol"] for s in json.loads(bring("in", "--json", "-s", "BBB")[0])["series"]] == ["BBB"]
    csv_of(bars_of("X", end="2024-01-10"), tmp_path / "bid.csv")
    csv_of(bars_of("X", end="2024-01-10").assign(close=lambda b: b.close + 0.5), tmp_path / "ask.csv")
    bring("bid.csv", "--ask", "ask.csv", "-s", "X")
    assert np.allclose(open_store("lake").read("X").spread, 0.5)
    (tmp_path / "bare.csv").write_text("02.03.2024;1,5;2,5;1,0;2,0;7\n03.03.2024;2,0;2,5;1,5;2,0;8\n")
    bring(
        "bare.csv",
        "-s",
        "BARE",
        "-o",
        "columns=[ts,open,high,low,close,volume]",
        "-o",
        "dayfirst=true",
        "-o",
        "decimal=','",
        "--tz",
        "UTC",
    )
    assert list(open_store("lake").read("BARE").open) == [1.5, 2.0]
    assert open_store("lake").read("BARE").ts.dt.month.eq(3).all()
    assert (
        "`tz` must be given"
        in bring("bare.csv", "-s", "B2", "-o", "columns=[ts,open,high,low,close,volume]", code=2)[1]
    )


def test_ingest_says_what_was_set_aside_and_mends_only_when_asked(bring, tmp_path):
    bars = bars_of("T")
    bars.loc[40, ["high", "close"]] *= 10
    bars.loc[50, "low"] = bars.high[50] + 1
    csv_of(bars, tmp_path / "t.csv")
    shown, _ = bring("t.csv", "-s", "T")
    assert "2 rows set aside: mlfin data quarantine" in shown and re.search(r"decimal +warn +1", shown)
    assert max(map(len, shown.splitlines())) <= 80
    assert len(open_store("lake").read("T")) == len(bars) - 2
    bring("t.csv", "-s", "T", "--repair")
    back = open_store("lake").read("T")
    assert len(back) == len(bars) - 1 and back.close[40] == pytest.approx(bars.close[40] / 10)
    assert open_store("lake").read_quarantine().reason.str.startswith("repaired: ").sum() == 1


@pytest.mark.parametrize("words, kind, parts", [
    (["buitlin"], ParameterError, ["`SOURCE`", "did you mean `builtin`?"]),
    (["builtin", "-s", "IMB"], None, ["IMB 1d: ", "did you mean `IBM`?"]),
    (["nowhere.csv", "-s", "X"], ParameterError, ["a file that exists", "nowhere.csv"]),
    (["builtin", "--start", "soonish"], ParameterError, ["`--start`"]),
    (["builtin", "-t", "7m"], ParameterError, ["`timeframe`"]),
    (["builtin", "-o", "symbols=[A]"], ParameterError, ["`-o`", "no option of its own"]),
    (["builtin", "-o", "nothing"], ParameterError, ["key=value"]),
    (["ccxt:binance"], DataError, ["`symbols` must be given"]),
])
def test_ingest_refuses(bring, words, kind, parts):
    if kind is None: text = bring(*words, code=1)[1]
    else:
        with pytest.raises(kind) as caught: bring(*words)
        text = str(caught.value)
    for part in parts: assert part in text, text


def test_ingest_outside_of_a_project_needs_a_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["ingest"], ["ingest", "builtin"], ["ingest", "--store", "lake"]):
        found = CliRunner().invoke(app, words)
        assert isinstance(found.exception, SettingsError)
        assert "No mlfin project at or above" in str(found.exception)
        assert ("--store FOLDER" in str(found.exception)) == (words == ["ingest", "builtin"])
    assert list(tmp_path.iterdir()) == []


def test_ingest_in_a_project_does_what_env_yaml_says(tmp_path, monkeypatch):
    for name in ("settings.ini", "pipeline.yaml"): (tmp_path / name).write_text((ROOT / name).read_text())
    question = (ROOT / "env.yaml").read_text()
    csv_of(bars_of("COIN", "1h", end="2024-01-20"), tmp_path / "coin.csv")
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    monkeypatch.delenv("MLFIN_PROFILE", raising=False)
    (tmp_path / "env.yaml").write_text(
        question.replace("symbols: [AAPL, FB, GOOG, IBM, MSFT]", "symbols: [IBM, FB]").replace(
            "start: null", "start: 2013-01-01"
        )
    )
    found = json.loads(CliRunner().invoke(app, ["ingest", "--json", "--profile", "test"]).stdout)
    assert [(s["symbol"], s["timeframe"], s["inserted"]) for s in found["series"]] == [
        ("FB", "1d", 41),
        ("IBM", "1d", 41),
    ]
    assert (tmp_path / ".mlfin/test/lake/bars").is_dir()
    more = json.loads(
        CliRunner()
        .invoke(app, ["ingest", "--json", "--profile", "test", "-s", "MSFT", "--end", "2013-01-31"])
        .stdout
    )
    assert [s["symbol"] for s in more["series"]] == ["MSFT"] and more["series"][0]["last"] < "2013-02"
    asked = question.replace("source: builtin", "source: csv").replace(
        "path: mlfin/sources/builtin/us_equities.parquet", "path: coin.csv"
    )
    (tmp_path / "env.yaml").write_text(
        asked.replace("symbols: [AAPL, FB, GOOG, IBM, MSFT]", "symbols: [COIN]").replace(
            "timeframe: 1d", "timeframe: 1h"
        )
    )
    done = CliRunner().invoke(app, ["ingest", "--profile", "test"])
    assert done.exit_code == 0 and "COIN" in done.stdout
    listed = CliRunner().invoke(app, ["data", "ls", "--profile", "test"]).stdout
    assert [line.split()[0] for line in listed.splitlines()[2:6]] == ["COIN", "FB", "IBM", "MSFT"]
    assert "lake" in listed


def test_ingest_of_a_file_takes_the_zone_of_env_yaml(tmp_path, monkeypatch):
    for name in ("settings.ini", "pipeline.yaml"): (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "env.yaml").write_text((ROOT / "env.yaml").read_text().replace("tz: null", "tz: Asia/Tokyo"))
    bars = bars_of("COIN", "1h", end="2024-01-05")
    csv_of(bars.assign(ts=bars.ts.dt.tz_localize(None)), tmp_path / "COIN_1h.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFIN_PROFILE", raising=False)
    foreseen = json.loads(
        CliRunner().invoke(app, ["ingest", "COIN_1h.csv", "--json", "--dry-run", "--profile", "test"]).stdout
    )["series"][0]
    found = json.loads(
        CliRunner().invoke(app, ["ingest", "COIN_1h.csv", "--json", "--profile", "test"]).stdout
    )
    assert found["series"][0]["first"] == foreseen["first"] == "2023-12-31T15:00:00Z"
    assert any("Asia/Tokyo" in note for note in found["notes"])


def service(folder, server, name="service.yaml"):
    "A mapping of the JSON server."
    (folder / name).write_text(
        f"url: {server.url}/bars?symbol={{symbol}}&from={{start_ms}}&limit={{limit}}\nlimit: 50\n"
        "fields: {ts: 0, open: 1, high: 2, low: 3, close: 4, volume: 5}\nrequests_per_second: 500\n")
    return f"rest:{name}"


def candles(rows):
    "What the JSON server says: rows from a moment on; it knows no symbol called BAD."
    def says(path, asked):
        if asked["symbol"] == "BAD": return 404, {"error": "no such symbol"}
        return 200, [r[:6] for r in rows if r[0] >= int(asked["from"])][:int(asked["limit"])]
    return says


def test_one_series_that_fails_loses_no_other(bring, tmp_path):
    rows = fake.walk(120)
    with fake.Json(candles(rows)) as server:
        shown, said = bring(
            service(tmp_path, server),
            "-s",
            "GOOD,BAD",
            "-s",
            "ALSO",
            "-t",
            "1m",
            "--start",
            "2024-01-01",
            "--end",
            "2024-01-01 01:59",
            code=1,
        )
    status = {line[0]: line[2:4] for line in lines_of(shown)[2:5]}
    assert status == {"GOOD": ["ok", "120"], "BAD": ["failed", "0"], "ALSO": ["ok", "120"]}
    assert re.search(r"^BAD 1m: .*404", said, re.M) and "Traceback" not in said
    assert len(open_store("lake").read(timeframe="1m")) == 240
    more = fake.walk(150)
    with fake.Json(candles(more)) as server:
        shown, _ = bring(
            service(tmp_path, server), "-s", "GOOD", "-t", "1m", "--end", "2024-01-01 02:29", "--json"
        )
        assert json.loads(shown)["series"][0]["inserted"] == 30


def test_ctrl_c_leaves_what_was_stored_and_a_word(tmp_path):
    rows = fake.walk(300)
    def hang(*_): time.sleep(30)
    def says(path, asked):
        if asked["symbol"] == "SLOW": hang()
        return candles(rows)(path, asked)
    with fake.Json(says) as server:
        running = process(
            "ingest",
            service(tmp_path, server),
            "-s",
            "FAST,SLOW",
            "-t",
            "1m",
            "--start",
            "2024-01-01",
            "--end",
            "2024-01-01 04:59",
            "--store",
            "lake",
            cwd=tmp_path,
        )
        end = time.monotonic() + 60
        while not any(a["symbol"] == "SLOW" for _, a, _ in list(server.asked)):
            assert running.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 130 and "Traceback" not in err and out == ""
    assert err.splitlines()[-2:] == [
        "What was stored stays; the same command goes on from there.",
        "Interrupted.",
    ]
    assert len(open_store(tmp_path / "lake").read("FAST", "1m")) == 300


# --- help

def commands(group, prefix=()):
    for name, command in group.commands.items():
        yield from commands(command, (*prefix, name)) if hasattr(command, "commands") else [(*prefix, name)]


def test_every_command_explains_itself_within_80_columns():
    root = typer.main.get_command(app)
    names = list(commands(root))
    of_data = (
        "ls",
        "show",
        "gaps",
        "quarantine",
        "export",
        "versions",
        "compact",
        "vacuum",
        "actions",
        "copy",
    )
    assert {("ingest",), *(("data", n) for n in of_data)} <= set(names)
    for words in names:
        found = CliRunner().invoke(app, [*words, "--help"])
        assert found.exit_code == 0 and max(map(len, found.stdout.splitlines())) <= 80, words
        if words[0] not in ("ingest", "data"): continue
        assert f"mlfin {' '.join(words)}" in found.stdout.split("Examples:")[1]


def test_the_examples_of_help_parse(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("rf_m1.pkl", "model"): (tmp_path / name).touch()  # `models verify` wants one that is there
    root = typer.main.get_command(app)
    seen = 0
    for words in commands(root):
        command = root
        for word in words: command = command.commands[word]
        for line in (command.epilog or "").split("\n\n")[1:-1]:
            import shlex
            given = shlex.split(line.split("|")[-1])[1:]  # what comes before a pipe is another program
            inner = root
            while hasattr(inner, "commands"): inner, given = inner.commands[given[0]], given[1:]
            inner.make_context(line, given)
            seen += 1
    assert seen > 25


@pytest.mark.parametrize(
    "words",
    [
        "data",
        "data lss",
        "data show",
        "data ls --no-such",
        "data show IBM -n -1",
        "data show IBM -n many",
        "ingest --memory 1",
    ],
)
def test_wrong_usage_is_two(words):
    found = CliRunner().invoke(app, words.split())
    assert found.exit_code == 2 and found.exception.__class__ is SystemExit


# --- processes: exit codes, pipes, interrupts

def process(*words, cwd, **how):
    env = {k: v for k, v in os.environ.items() if not k.startswith("MLFIN_")}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *words], cwd=cwd, env=env, text=True,
                            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how})


def test_exit_codes_and_streams_of_a_process(lake, tmp_path):
    done = process("data", "ls", "--json", "--store", str(lake), cwd=tmp_path)
    out, err = done.communicate()
    assert (done.returncode, err) == (0, "") and len(json.loads(out)["series"]) == 3
    done = process("data", "show", "ibm", "--store", str(lake), cwd=tmp_path)
    out, err = done.communicate()
    assert (done.returncode, out) == (2, "") and "did you mean" in err and "Traceback" not in err


@pytest.mark.parametrize(
    "words, code, part",
    [
        ("show ibm", 2, "did you mean"),
        ("show IBM --adjust x", 2, "`--adjust`"),
        ("show", 2, "Missing argument"),
    ],
)
def test_exit_codes_and_streams(lake, tmp_path, monkeypatch, capsys, words, code, part):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended: main(["data", *words.split(), "--store", str(lake)])
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (code, "") and part in err and "Traceback" not in err


def closed_pipe():
    read, write = os.pipe()
    os.close(read)
    return write


@pytest.mark.parametrize(
    "words", ["data show BTC/USDT -t 1m -n 0", "data show BTC/USDT -t 1m --json", "--help", ""]
)
def test_a_reader_that_left_is_no_error(lake, tmp_path, words):
    write, words = closed_pipe(), words.split()
    done = process(*words, *(["--store", str(lake)] if "data" in words else []), cwd=tmp_path, stdout=write)
    os.close(write)
    _, err = done.communicate()
    assert (done.returncode, err) == (0 if words else 2, "")


def test_a_reader_that_leaves_in_the_middle(lake, tmp_path):
    shell = (
        f'"$0" -c "$1" data show BTC/USDT -t 1m -n 0 --store "{lake}" | head -n 3; echo ${{PIPESTATUS[0]}}'
    )
    done = subprocess.run(
        ["bash", "-c", shell, sys.executable, SCRIPT], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "0" and len(done.stdout.splitlines()) == 4 and done.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_output_that_is_lost_to_a_full_disk_is_an_error(lake, tmp_path):
    with open("/dev/full", "w") as full:
        done = process("data", "ls", "--json", "--store", str(lake), cwd=tmp_path, stdout=full)
        _, err = done.communicate()
    assert done.returncode == 3
    assert err.startswith("Error: What was to be printed is not complete: No space left")
    assert "Traceback" not in err


@pytest.mark.parametrize("stream", [pytest.param(s, marks=pytest.mark.slow) for s in ("both", "stdout")])
def test_a_run_that_nobody_listens_to_still_publishes(project, stream):
    write = closed_pipe()
    streams = {s: write for s in ("stdout", "stderr") if stream in (s, "both")}
    done = process("run", "-p", "kernel=python3", "--profile", "test", cwd=project.root, **streams)
    os.close(write)
    _, err = done.communicate()
    assert done.returncode == 0, err
    assert project.total() == 12.0 and len(list((project.root / "reports/test/default/runs").iterdir())) == 1


def test_main_leaves_the_streams_as_they_were(lake, capsys):
    before = sys.stdout, sys.stderr
    with pytest.raises(SystemExit) as ended: main(["data", "ls", "--store", str(lake)])
    assert ended.value.code == 0 and (sys.stdout, sys.stderr) == before
    assert "BTC/USDT" in capsys.readouterr().out


def test_a_terminal_gets_the_same_words(lake, tmp_path):
    main_end, other = pty.openpty()
    done = process(
        "data",
        "show",
        "IBM",
        "-n",
        "2",
        "--store",
        str(lake),
        cwd=tmp_path,
        stdout=other,
        stderr=other,
        stdin=other,
    )
    os.close(other)
    text, end = b"", time.monotonic() + 60
    while time.monotonic() < end:
        try: piece = os.read(main_end, 4096)
        except OSError: break
        if not piece: break
        text += piece
    assert done.wait() == 0 and "2024-04-01 13:30" in text.decode() and "IBM 1d: 58 bars" in text.decode()
    os.close(main_end)


@pytest.mark.parametrize(
    "words, part",
    [
        ("data export x.xyz", "`FILE`"),
        ("data quarantine NOPE", "`symbol`"),
        ("ingest rest:nope.yaml -s A", "`SOURCE`"),
    ],
)
def test_wrong_names_are_misuse(lake, tmp_path, monkeypatch, capsys, words, part):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended: main([*words.split(), "--store", str(lake)])
    assert ended.value.code == 2 and part in capsys.readouterr()[1]


def test_ls_names_no_size_that_it_does_not_know(say, lake, monkeypatch):
    monkeypatch.setattr("mlfin.cli.data_commands.folder_size", lambda path: 0)  # as for a database
    assert "0 bytes" not in say("ls")
