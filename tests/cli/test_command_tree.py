"""What holds for every command: names and meanings of options, JSON for each table, quiet for each progress,
examples, exit codes."""
import ast
import hashlib
import importlib
import inspect
import json
import os
import re
import sqlite3
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import typer
from rich.text import Text
from typer.testing import CliRunner

from mlfin.core import errors
from mlfin.core.errors import (
    AwayError,
    DataError,
    MissingExtraError,
    ModelError,
    ParameterError,
    PipelineError,
    SettingsError,
    SpecError,
    exit_code,
    unknown,
)
from mlfin.files.file_names import read_name
from mlfin.cli.app import app, main

from ..fixtures.small_project import ROOT


@cache
def commands():
    "Every command of the tree: its words and the command."
    def walk(command, words):
        inner = getattr(command, "commands", None)
        if inner is None: return [(words, command)]
        return [found for name, one in inner.items() for found in walk(one, (*words, name))]
    return walk(typer.main.get_command(app), ())


def options(command):
    "Options by their long name."
    return {max(p.opts, key=len): p for p in command.params if max(p.opts, key=len).startswith("-")}


NAMES = [" ".join(words) for words, _ in commands()]
SHORT = {
    "--symbols": "-s",
    "--timeframe": "-t",
    "--rows": "-n",
    "--parameter": "-p",
    "--option": "-o",
    "--quiet": "-q",
    "--file": "-f",
    "--column": "-c",
}
SEVERAL = {
    "--ask",
    "--version",
    "--force",
    "--stamp",
    "--host",
    "--port",
    "--promote",
}  # a word of two nouns: each help says which


def test_the_tree_is_walked():
    assert len(NAMES) > 40 and {"run", "data ls", "models seal", "users key"} <= set(NAMES)


def test_an_option_has_one_short_name_and_one_meaning():
    seen, bad = {}, []
    for words, command in commands():
        for name, option in options(command).items():
            short = [o for o in option.opts if not o.startswith("--")]
            if short != [o for o in (SHORT.get(name),) if o]:
                bad.append(f"{' '.join(words)} {name}: short name {short}")
            if name in SEVERAL: continue
            means = re.split(r";| \(default|, for mt5", option.help or "")[0].rstrip(".")
            seen.setdefault(name, {}).setdefault(means, []).append(" ".join(words))
    bad += [f"{name}: {means}" for name, means in seen.items() if len(means) > 1]
    assert not bad, "\n".join(bad)


def test_brackets_in_a_help_are_printed():
    for words, command in commands():
        asked = [command.help, *(getattr(p, "help", None) for p in command.params)]
        lost = [text for text in asked if text and Text.from_markup(text).plain != text]
        assert not lost, (words, lost)
    shown = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).output
    assert "-p 'models=[logistic,lightgbm]'" in shown, shown


def test_no_option_is_without_a_help():
    assert not [
        f"{' '.join(w)} {n}"
        for w, c in commands()
        for n, o in options(c).items()
        if not (o.help or "").strip()
    ]


def test_symbols_are_arguments_or_an_option_never_both():
    for words, command in commands():
        arguments = [p.name for p in command.params if not p.opts[0].startswith("-")]
        assert not ({"symbol", "symbols"} & set(arguments) and "--symbols" in options(command)), words
        assert "--symbol" not in options(command), words


def reached(function):
    "Names that a command's function calls, and those that these call, within the commands' modules."
    done, waiting, found = set(), [(function.__module__, function.__name__)], set()
    while waiting:
        module, name = waiting.pop()
        if (module, name) in done: continue
        done.add((module, name))
        value = getattr(importlib.import_module(module), name, None)
        if not inspect.isfunction(value) or not value.__module__.startswith("mlfin.cli."): continue
        for node in ast.walk(ast.parse(inspect.getsource(inspect.unwrap(value)))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                found.add(node.func.id)
                waiting.append((value.__module__, node.func.id))
    return found


def lacking(command, printers, option):
    "Whether a command prints by one of these and has no such option."
    return bool(reached(command.callback) & printers) and option not in options(command)


def test_what_prints_a_table_also_prints_json():
    bad = [
        " ".join(words)
        for words, command in commands()
        if lacking(command, {"print_table", "Table"}, "--json")
    ]
    assert not bad, bad
    assert sum("--json" in options(c) for _, c in commands()) > 25


def test_what_shows_progress_can_be_quiet():
    shows = {"Progress", "IngestProgress", "CollectProgress"}
    assert not [" ".join(words) for words, command in commands() if lacking(command, shows, "--quiet")]
    assert all(
        "--quiet" in options(c)
        for w, c in commands()
        if w in (("run",), ("ingest",), ("retrain",), ("collect",), ("reproduce",), ("data", "copy"))
    )


def test_a_table_without_json_would_be_seen(monkeypatch):
    import mlfin.cli.app as module

    monkeypatch.setattr(module, "planted", lambda: None, raising=False)
    assert {"print_table"} <= reached(module.status) and not reached(module.dash) & {"print_table", "Table"}


def test_each_command_shows_an_example_and_says_what_it_does():
    for words, command in commands():
        assert f"mlfin {' '.join(words)}" in (command.epilog or ""), words
        assert (
            "Exit codes: 0 done, 1 judged and refused, 2 wrong use, 3 something is away" in command.epilog
        ), words
        assert (command.help or "").strip(), words


# --- exit codes

def caused(error, by):
    error.__cause__ = by
    return error


@pytest.mark.parametrize(
    "error, code",
    [
        (ParameterError("x"), 2),
        (SettingsError("x"), 2),
        (SpecError("x"), 2),
        (DataError(unknown("symbol", "A", ["B"])), 2),
        (ModelError(unknown("version", "9", ["1"])), 2),
        (DataError("not fit for research"), 1),
        (ModelError("x"), 1),
        (PipelineError("x"), 1),
        (AwayError("x"), 3),
        (MissingExtraError("x"), 3),
        (caused(DataError("x"), OSError(28, "No space left on device")), 3),
        (caused(ModelError("x"), sqlite3.OperationalError("database is locked")), 3),
        (caused(caused(DataError("x"), ValueError()), ConnectionRefusedError()), 3),
        (caused(DataError("x"), ValueError("y")), 1),
        (FileExistsError(17, "File exists"), 1),
        (PermissionError(13, "Permission denied"), 3),
    ],
)
def test_an_error_has_one_exit_code(error, code):
    assert exit_code(error) == code and getattr(error, "exit_code", code) == code


def test_what_a_database_says_is_away_only_where_nobody_answers():
    psycopg, sa = pytest.importorskip("psycopg"), pytest.importorskip("sqlalchemy")
    assert exit_code(caused(DataError("x"), psycopg.OperationalError("connection refused"))) == 3
    assert exit_code(caused(DataError("x"), psycopg.errors.UndefinedTable("no such table"))) == 1
    assert exit_code(caused(DataError("x"), sa.exc.OperationalError("", {}, Exception()))) == 3


def test_no_class_has_a_code_of_its_own():
    assert not [
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and name != "MlfinError" and "exit_code" in vars(kind)
    ]


@pytest.fixture
def project(tmp_path, monkeypatch):
    "A project folder with the real question and settings, and nothing done in it."
    for name in ("env.yaml", "settings.ini", "pipeline.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    for name in ("nbs", "mlfin", "env", "pyproject.toml"): (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFIN_ROOT", str(tmp_path))
    monkeypatch.setenv("MLFIN_PROFILE", "development")
    return tmp_path


def ended(capsys, *words):
    "Exit code, standard output and standard error of a command in this process."
    capsys.readouterr()
    with pytest.raises(SystemExit) as end: main(list(map(str, words)))
    out, err = capsys.readouterr()
    return end.value.code or 0, out, err


BARS = "time,open,high,low,close\n" + "".join(f"2024-01-02T10:{m:02}Z,10,11,9,10\n" for m in range(60))


@pytest.mark.parametrize(
    "words, code, says",
    [
        (("run", "-p", "tmeframe=1m"), 2, "did you mean `timeframe`?"),
        (("run", "-s", "APPL", "--dry-run"), 2, "did you mean `AAPL`?"),
        (("run", "-t", "7m", "--dry-run"), 2, "`timeframe` must be"),
        (("run", "-p", "label=fwd_rte_5", "--dry-run"), 2, "label"),
        (("run", "-p", "models=[xgbost]", "--dry-run"), 2, "did you mean `xgboost`?"),
        (("run", "-p", "features=[rsi_0]", "--dry-run"), 2, "rsi"),
        (("run", "-p", "source=ccxt:nowhere", "-s", "A", "--dry-run"), 2, "nowhere"),
        (("data", "ls", "--store", "lake", "NOPE"), 2, "`symbol` must be a known name"),
        (("data", "show", "COIN", "-t", "1h", "--store", "lake"), 2, "--timeframe"),
        (("data", "show", "COIN", "--store", "nowhere"), 2, "the folder of a store"),
        (("data", "show", "COIN", "--nope"), 2, "No such option"),
        (("data", "ls", "--store", "postgresql://nobody@127.0.0.1:1/x"), 3, "could not be read"),
        (("ingest", "nowhere.csv", "--store", "lake"), 2, "nowhere.csv"),
        (("ingest", "COIN_5m.csv", "--store", "lake"), 1, "a file whose name tells its timeframe"),
        (("ingest", "COIN_1m.csv", "--store", "lake"), 0, ""),
        (
            ("ingest", "sql:postgresql://nobody@127.0.0.1:1/x#bars", "-s", "A", "--store", "lake"),
            3,
            "cannot be read",
        ),
        (("features", "describe", "rsy_14"), 2, "did you mean"),
        (("models", "show", "99"), 2, "No model"),
        (("retrain", "nope"), 2, "nope"),
        (("reproduce", "nope"), 2, "No run has been kept"),
        (("stauts",), 2, "Did you mean 'status'?"),
    ],
)
def test_commands_and_situations(project, capsys, monkeypatch, words, code, says):
    monkeypatch.setattr("mlfin.warehouse.postgres.PATIENCE", 0.1)
    for name in ("COIN_1m.csv", "COIN_5m.csv"): (project / name).write_text(BARS)
    if "lake" in words: ended(capsys, "ingest", "COIN_1m.csv", "--store", "lake", "--tz", "UTC", "-q")
    found, out, err = ended(capsys, *words)
    assert (found, says in out + err) == (code, True), (found, out, err)
    assert "Traceback" not in out + err


def tree(folder):
    "Every file below a folder, by content."
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.is_symlink()
    } | {str(p.relative_to(folder)): "folder" for p in folder.rglob("*") if p.is_dir()}


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--dry-run"),
        ("run", "-p", "source=files", "-p", "path=bars/COIN_1m.csv", "-s", "COIN", "-t", "1m", "--dry-run"),
        ("run", "-p", "source=files", "-p", "path=bars/*_1d.csv", "-s", "COIN", "--tz", "UTC", "--dry-run"),
        ("ingest", "bars", "--tz", "UTC", "--dry-run"),
        ("ingest", "--dry-run"),
        ("run", "-p", "source=store", "-s", "COIN", "-t", "1d", "--dry-run"),
        ("ingest", "yahoo", "-s", "IBM", "--dry-run"),
    ],
)
def test_a_dry_run_changes_nothing_and_says_what_would_come(project, capsys, words):
    (project / "bars").mkdir()
    (project / "bars" / "COIN_1m.csv").write_text(BARS)
    (project / "bars" / "COIN_1d.csv").write_text(
        "time,open,high,low,close\n" + "".join(f"2024-01-{d:02},10,11,9,10\n" for d in range(2, 20))
    )
    if "source=store" in words: assert ended(capsys, "ingest", "bars", "--tz", "UTC", "-q")[0] == 0
    before = tree(project)
    code, out, err = ended(capsys, *words)
    assert (code, err) == (0, "") and "nothing was" in out, (out, err)
    code, out, err = ended(capsys, *words, "--json")
    told = json.loads(out)
    assert code == 0
    assert (
        told["tasks"] is None or {"task", "state", "why"} == set(told["tasks"][0])
        if words[0] == "run"
        else told["series"]
    )
    assert tree(project) == before


def test_a_mixed_folder_is_read_file_by_file(project, capsys):
    place = project / "mixed"
    place.mkdir()
    (place / "BTCUSDT_1m.csv").write_text(BARS)
    (place / "EURUSD_M1_2020.csv").write_text(BARS)
    (place / "AAPL.csv").write_text(
        "date,open,high,low,close\n" + "".join(f"2024-01-{d:02},10,11,9,10\n" for d in range(2, 20))
    )
    import pandas as pd
    hours = pd.date_range("2024-01-02", periods=48, freq="h", tz="UTC")
    pd.DataFrame(
        {"ts": hours, "open": 10.0, "high": 11.0, "low": 9.0, "close": 10.0, "volume": 5.0}
    ).to_parquet(place / "btc-usd-1h.parquet")
    (place / "README.md").write_text("# bars")
    (place / "empty_5m.csv").touch()
    (place / "LIAR_4h.csv").write_text(BARS)
    code, out, err = ended(capsys, "ingest", place, "--tz", "UTC", "--store", "lake", "--json")
    told = {(line["symbol"], line["timeframe"]): line for line in json.loads(out)["series"]}
    assert code == 1
    assert {k for k, line in told.items() if line["status"] == "ok"} == {
        ("BTCUSDT", "1m"),
        ("EURUSD", "1m"),
        ("AAPL", "1d"),
        ("btc-usd", "1h"),
    }
    assert {k[0] for k, line in told.items() if line["status"] == "failed"} == {"empty_5m.csv", "LIAR_4h.csv"}
    assert "empty" in told["empty_5m.csv", "5m"]["error"]
    assert "name tells its timeframe" in told["LIAR_4h.csv", "4h"]["error"]
    assert {
        (s["symbol"], s["timeframe"])
        for s in json.loads(ended(capsys, "data", "ls", "--store", "lake", "--json")[1])["series"]
    } == {k for k, line in told.items() if line["status"] == "ok"}
    picked = ended(capsys, "ingest", place, "-s", "AAPL", "--tz", "UTC", "--store", "other", "--json")
    assert picked[0] == 0 and [s["symbol"] for s in json.loads(picked[1])["series"]] == ["AAPL"], picked


def test_quiet_says_only_what_came_out(project, capsys):
    (project / "COIN_1m.csv").write_text(BARS)
    code, out, err = ended(capsys, "ingest", "COIN_1m.csv", "--tz", "UTC", "--store", "lake", "--quiet")
    assert (code, err) == (0, "") and "COIN" in out


def test_completion_is_quick_and_works_in_a_shell():
    """Real shells on a terminal, and the Tab key: test_completion.py."""

    def made(shell):
        return subprocess.run(
            [Path(sys.executable).with_name("mlfin")],
            env=os.environ | {"_MLFIN_COMPLETE": f"source_{shell}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    script = made("bash")
    asked = (f'PATH={Path(sys.executable).parent}:$PATH\n{script}\n'
             'COMP_WORDS=(mlfin data sh); COMP_CWORD=2; _mlfin_completion mlfin; echo "${COMPREPLY[@]}"\n'
             'COMP_WORDS=(mlfin ru); COMP_CWORD=1; _mlfin_completion mlfin; echo "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True)
    assert done.stdout.split() == ["show", "run"], (done.stdout, done.stderr)
    for shell in ("zsh", "fish"): assert f"_MLFIN_COMPLETE=complete_{shell}" in made(shell)


def days(*rows, first=1):
    "A file of daily bars, each a text of open, high, low and close; None: no bar that day."
    dates = [f"2024-{1 + d // 28:02}-{1 + d % 28:02}" for d in range(first - 1, first - 1 + len(rows))]
    return "time,open,high,low,close\n" + "".join(
        f"{day},{row}\n" for day, row in zip(dates, rows, strict=True) if row
    )


FINE = "10,11,9,10"
AWAY = "postgresql://someone:word@127.0.0.1:1/none"
# name -> text of a file, and how the words about it begin: the checks that stop a series, and files that
# cannot be read
STRANGE = {
    "SPARSE.csv": (
        days(*[FINE if d in (0, 1, 2, 3, 4, 5, 26) else None for d in range(27)]),
        "check `missing` says stop",
    ),
    "TURNED.csv": (days(*[FINE, "10,9,11,10"] * 12), "check `ohlc` says stop"),
    "TWICE.csv": (
        days(*[FINE] * 20) + "".join(days(*["10,12,9,10"] * 12).splitlines(keepends=True)[1:]),
        "check `duplicates` says stop",
    ),
    "LETTERS.csv": (days(*[FINE, FINE, "ten,11,9,10"] * 12), "check `readable` says stop"),
    "SLOW_1d.csv": (
        "time,open,high,low,close\n" + "".join(f"{y}-01-01,{FINE}\n" for y in range(2000, 2020)),
        "",
    ),
    "nothing_5m.csv": ("", ""),
}


def predicted(capsys, project, *words):
    """What a dry run says of an ingest, which changes nothing, and what the ingest then does: exit code and
    document of both."""
    before = tree(project)
    code, out, err = ended(capsys, "ingest", *words, "--dry-run", "--json")
    assert err == "" and tree(project) == before, (out, err)
    told = json.loads(out)
    done, out, err = ended(capsys, "ingest", *words, "--json")
    return code, told, done, json.loads(out)["series"]


@pytest.mark.slow
def agree(told, series):
    "That each series was predicted as it then was."
    keys = ("status", "rows", "new", "revised", "set_aside", "problem")
    assert sorted(
        (line["symbol"] or line["from"], line["timeframe"], *(line[k] for k in keys))
        for line in told["series"]
    ) == sorted(
        (
            x["symbol"],
            x["timeframe"],
            x["status"],
            x["rows"],
            x["inserted"],
            x["revised"],
            x["set_aside"],
            x["error"] or "",
        )
        for x in series
    )


def test_a_dry_run_judges_as_the_ingest_does(project, capsys):
    """A series that a check stops was promised by the dry run, and refused by the ingest."""
    (place := project / "odd").mkdir()
    for name, (text, _) in STRANGE.items(): (place / name).write_text(text)
    (place / "GOOD_1d.csv").write_text(days(*[FINE] * 20))
    words = (place, "--tz", "UTC", "--store", "lake")
    code, told, done, series = predicted(capsys, project, *words)
    agree(told, series)
    assert code == done == told["exit_code"] == 1
    said = {line["symbol"] or line["from"]: line for line in told["series"]}
    for name, (_, begins) in STRANGE.items():
        line = next(own for own in said.values() if own["from"] == name)
        assert (
            line["status"] in ("stopped", "failed") and line["problem"].startswith(begins) and not line["new"]
        ), line
    assert (said["GOOD"]["new"], said["GOOD"]["problem"]) == (20, "")
    (place / "GOOD_1d.csv").write_text(days(*[FINE] * 9, "10,11,9,10.5", *[FINE] * 15, "10,9,11,10"))
    code, told, done, series = predicted(
        capsys, project, *words
    )  # of what is there, five bars are new and one is another
    agree(told, series)
    assert code == done == 1
    assert [
        (line["new"], line["revised"], line["set_aside"])
        for line in told["series"]
        if line["symbol"] == "GOOD"
    ] == [(5, 1, 1)]
    code, out, err = ended(capsys, "ingest", *words, "--dry-run")
    assert code == 1, out
    for text in (
        "SPARSE.csv: check `missing` says stop",
        "\nnothing_5m.csv: ",
        "\nHint: rename it",
        "exit code 1",
        "nothing was changed",
    ):
        assert text in out, out


@pytest.mark.slow
@pytest.mark.parametrize(
    "words, code",
    [
        (("COIN_1d.csv", "--tz", "UTC", "-o", "symbol_from=name"), 0),
        (("ZONE_1m.csv",), 2),
        (("COIN_1d.csv", "-s", "NOPE,GONE", "--tz", "UTC"), 1),
        (("SPREAD_1d.csv", "--tz", "UTC", "--point", "0.01"), 0),
        (("SPREAD_1d.csv", "--tz", "UTC", "--point", "0.1"), 1),
        (("SLIPPED_1d.csv", "--tz", "UTC", "--repair"), 0),
        (("SLIPPED_1d.csv", "--tz", "UTC", "--calendar", "XNYS"), 0),
    ],
)
def test_a_dry_run_reads_as_the_ingest_does(project, capsys, monkeypatch, words, code):
    monkeypatch.setattr("mlfin.cli.ingest_command.default_zone", dict)
    (project / "COIN_1d.csv").write_text(days(*[FINE] * 20))
    (project / "ZONE_1m.csv").write_text(BARS.replace("Z,", ","))
    (project / "SLIPPED_1d.csv").write_text(days(*[FINE] * 12, "10,11,9,1000", *[FINE] * 12))
    spread = [f"10,11,9,10,{5 + d % 3}" for d in range(20)]
    (project / "SPREAD_1d.csv").write_text(days(*spread).replace("close\n", "close,spread\n"))
    if "0.1" in words:
        assert (
            ended(capsys, "ingest", "SPREAD_1d.csv", "--tz", "UTC", "--point", "0.01", "--store", "lake")[0]
            == 0
        )
    found, told, done, series = predicted(capsys, project, *words, "--store", "lake")
    agree(told, series)
    assert found == done == code == told["exit_code"], (told, series)


def test_one_series_in_two_formats_is_new_once(project, capsys):
    import pandas as pd

    (place := project / "both").mkdir()
    def laid(size, price=10.0):
        for name in ("COIN", "GEM"):
            (place / f"{name}_1d.csv").write_text(days(*[FINE] * size))
            stamps = pd.date_range("2024-01-11", periods=size, freq="D", tz="UTC")
            pd.DataFrame(
                {"ts": stamps, "open": 10.0, "high": 11.0, "low": 9.0, "close": price, "volume": 0.0}
            ).to_parquet(place / f"{name}_1d.parquet")

    for size, price, new, revised in (
        (20, 10.0, {20, 10}, {0}),
        (25, 10.5, {0, 5}, {0, 20}),
    ):  # then: 5 days more, and another close in one format
        laid(size, price)
        code, told, done, series = predicted(capsys, project, place, "--tz", "UTC", "--store", "lake")
        agree(told, series)
        assert (
            (code, done) == (0, 0)
            and {line["new"] for line in told["series"]} == new
            and {line["revised"] for line in told["series"]} == revised
        ), told


def test_a_dry_run_of_a_run_foresees_what_stops_it(project, capsys):
    (project / "odd").mkdir()
    for name in ("SPARSE.csv", "TURNED.csv"): (project / "odd" / name).write_text(STRANGE[name][0])
    words = (
        "run",
        "-p",
        "source=files",
        "-p",
        "path=odd/*.csv",
        "-s",
        "SPARSE,TURNED",
        "-t",
        "1d",
        "--tz",
        "UTC",
    )
    before = tree(project)
    code, out, err = ended(capsys, *words, "--dry-run")
    assert (
        (code, err) == (1, "")
        and "check `missing` says stop" in out
        and "check `ohlc` says stop" in out
        and "no task would run" in out
    ), out
    code, out, err = ended(capsys, *words, "--dry-run", "--json")
    assert code == 1 and json.loads(out)["brings"]["exit_code"] == 1 and json.loads(out)["tasks"] is None
    assert tree(project) == before
    code, out, err = ended(capsys, *words)
    assert code == 1 and "check `missing` says stop" in out + err, (out, err)


STOPPED = [name for name in STRANGE if name != "nothing_5m.csv"]


def foreseen(project, capsys, name):
    "The words of a run on one bad file, and what its dry run says, which changes nothing."
    (project / name).write_text(STRANGE[name][0])
    words = (
        "run",
        "-p",
        "source=csv",
        "-p",
        f"path={name}",
        "-s",
        read_name(name).symbol,
        "-t",
        "1d",
        "--tz",
        "UTC",
    )
    before = tree(project)
    code, out, err = ended(capsys, *words, "--dry-run", "--json")
    told = json.loads(out)
    assert code == told["brings"]["exit_code"] == 1 and told["tasks"] is None and tree(project) == before
    assert told["brings"]["series"][0]["problem"].startswith(STRANGE[name][1])
    return words


@pytest.mark.parametrize("name", STOPPED)
def test_a_dry_run_of_a_run_on_one_file_judges_it(project, capsys, name):
    """It ended with 0, and the run itself with 1, because a check stopped the file."""
    foreseen(project, capsys, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", STOPPED)
def test_a_run_on_one_file_ends_as_its_dry_run_said(project, capsys, name):
    code, out, err = ended(capsys, *foreseen(project, capsys, name))
    assert code == 1 and STRANGE[name][1] in err, (out, err)


@pytest.mark.slow
def test_a_dry_run_says_that_the_store_is_away(project, capsys):
    (project / "COIN_1d.csv").write_text(days(*[FINE] * 20))
    for words in (
        ("ingest", "COIN_1d.csv", "--tz", "UTC", "--store", AWAY),
        ("ingest", "yahoo", "-s", "IBM", "--store", AWAY),
    ):
        code, out, err = ended(capsys, *words, "--dry-run")
        assert code == 3 and "postgres" in err and "word" not in err, (code, out, err)


def test_a_source_that_is_asked_is_judged_only_once_it_has_answered(project, capsys):
    code, out, err = ended(capsys, "ingest", "yahoo", "-s", "IBM", "--store", "lake", "--dry-run")
    assert code == 0 and "only once it has answered" in out, out
    told = json.loads(
        ended(capsys, "ingest", "yahoo", "-s", "IBM", "--store", "lake", "--dry-run", "--json")[1]
    )
    assert told["exit_code"] is None and "only once it has answered" in told["note"]
    assert told["series"][0]["new"] is None
