"""`mlfin promote`, `rollback`, `models`: what they print, their exit codes, and refusals that say what to
do."""
import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest
from typer.testing import CliRunner

from mlfin.core.errors import MlfinError, ModelError, ParameterError
from mlfin.core.settings import load_settings
from mlfin.registry.registry import find_version
from mlfin.terminal import console
from mlfin.cli.app import app

from ..fixtures import left_run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A project with a good model of yesterday's data before the gate; its MLflow store serves all tests."
    folder = tmp_path_factory.mktemp("project")
    (folder / "settings.ini").write_text((ROOT / "settings.ini").read_text())
    (folder / "env.yaml").write_text("profile: test\nexperiment: main\n")
    (folder / "pipeline.yaml").write_text("tasks: []\n")
    leave(load_settings("test", root=folder), "main")
    return folder


def leave(settings, experiment, **kwargs):
    yesterday = pd.Timestamp.now("UTC").normalize() - pd.Timedelta("1D")
    return left_run.leave(settings, experiment, bars=left_run.bars_that_remember(last=yesterday), **kwargs)


@pytest.fixture
def settings(place, monkeypatch):
    monkeypatch.setenv("MLFIN_ROOT", str(place))
    monkeypatch.setenv("MLFIN_PROFILE", "test")
    monkeypatch.setenv("COLUMNS", "160")
    return load_settings("test", root=place)


def run(*words):
    "Exit code and output; errors of mlfin come through, as in `mlfin`."
    done = CliRunner().invoke(app, [str(w) for w in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit): raise done.exception
    return done.exit_code, done.output


@pytest.mark.slow
def test_a_regression_shows_its_loss_too(settings, monkeypatch):
    from types import SimpleNamespace

    from mlfin.registry import registry

    def version(number, **scores):
        return SimpleNamespace(
            number=number,
            aliases=[],
            verdict="",
            made=pd.Timestamp("2024-01-01", tz="UTC"),
            tags={"mlfin.scores": json.dumps(scores), "mlfin.estimator": "ridge"},
        )

    monkeypatch.setattr(registry, "registered_experiments", lambda settings: ["main"])
    monkeypatch.setattr(
        registry, "model_versions", lambda settings, name: [version(2, rmse=0.0125, rmse_baseline=0.0131)]
    )
    text = run("models", "ls")[1]
    assert "0.01250" in text and "0.01310" in text and "rmse" in text and "log loss" not in text
    assert "No room for" not in text
    monkeypatch.setattr(console.out, "_width", 40)
    assert "No room for label, registered, baseline: --json shows all." in run("models", "ls")[1]
    row = json.loads(run("models", "ls", "--json")[1])["versions"][0]
    assert (row["rmse"], row["baseline"], row["log loss"]) == (0.0125, 0.0131, None)


def test_before_anything_is_registered(settings, tmp_path, monkeypatch):
    assert run("models", "ls", "--experiment", "none") == (
        0,
        "No model is registered: `mlfin run`, then `mlfin promote`.\n",
    )
    for words in (("models", "show"), ("models", "compare"), ("rollback",)):
        with pytest.raises(ModelError, match="No model of experiment|has no champion") as wrong:
            run(*words, "--experiment", "none")
        assert wrong.value.exit_code == 2, words
    with pytest.raises(MlfinError, match=r"training.json is not there.*\n.*mlfin run") as wrong:
        run("promote", "--experiment", "none")
    assert wrong.value.exit_code == 2
    assert run("models", "verify", "nothere.pkl")[0] == 2
    (tmp_path / "alone.pkl").write_bytes(b"")
    code, text = run("models", "verify", tmp_path / "alone.pkl")
    assert code == 1 and "has no manifest.json" in text and "\\n" not in text


def test_a_model_from_the_gate_to_service_and_back(settings):
    code, text = run("promote")
    assert code == 0 and "test-main v1 passed every check and is the champion now." in text, text
    assert all(
        re.search(rf"(?m)^{name} +yes ", text)
        for name in ("loads", "baseline", "calibrated", "look-ahead", "fresh")
    )
    leave(settings, "main", key="b" * 32, specs=["mom_14"])
    code, text = run("promote")
    assert code == 1 and "test-main v2 is refused: baseline, champion; v1 serves on." in text
    assert "--version 2 --force REASON" in text
    code, text = run("promote", "--version", 2, "--force", "the old one is too dear", "--json")
    told = json.loads(text)
    assert code == 0 and told["promoted"] and told["replaced"] == 1
    assert told["forced"] == "the old one is too dear" and not told["passed"]
    with pytest.raises(ModelError, match="is the champion already"): run("promote")

    rows = json.loads(run("models", "ls", "--json")[1])["versions"]
    assert [(r["version"], r["is"], r["gate"]) for r in rows] == [
        (2, "champion", "forced"),
        (1, "", "passed"),
    ]
    text = run("models", "ls")[1]
    assert re.search(r"(?m)^main +2 +champion +logistic +fwd_ret_1 +forced", text), text

    code, text = run("models", "show")
    assert code == 0 and "test-main v2" in text and "forced: the old one is too dear" in text
    assert "champions: v1 (gate), v2 (forced)" in text
    assert "mom_14" in text and "1 bars ahead" in text
    shown = json.loads(run("models", "show", 1, "--json")[1])
    assert shown["manifest"]["features"] == ["returns"] and shown["judged"]["passed"]
    assert shown["verdict"] == "passed" and len(shown["history"]) == 2

    code, text = run("models", "compare", 2, 1)
    assert code == 0 and "v1's log loss is lower" in text and "features" in text
    assert json.loads(run("models", "compare", 1, 2, "--json")[1])["test"]["p"] < 0.01

    code, text = run("models", "compare", 2, "champion")
    assert code == 0 and text == "2 and champion are one and the same: test-main v2\n"
    same = json.loads(run("models", "compare", 1, 1, "--json")[1])
    assert same["test"] is None and same["differs"] == []
    assert same["says"] == "1 and 1 are one and the same: test-main v1"

    code, text = run("rollback")
    assert code == 0 and "v1 of test-main serves again; v2 does not any more" in text
    assert find_version(settings, "main").number == 1
    with pytest.raises(ModelError, match="There was no champion before v1"): run("rollback", "--json")


@pytest.mark.parametrize("words, error, code, parts", [
    (("promote", "--experiment", "../up"), ParameterError, 2, ["a plain folder name"]),
    (("models", "show", "champoin"), ModelError, 2, ["did you mean `champion`"]),
    (("promote", "--version", "9"), ModelError, 2, ["`version` must be a known name, got '9'"]),
    (("models", "compare", "1", "challenger"), ModelError, 2, ["has no challenger", "mlfin promote"]),
])
def test_a_wrong_word_says_what_there_is(settings, words, error, code, parts):
    if find_version(settings, "main", 1).aliases == ("challenger",): run("promote")
    with pytest.raises(error) as e: run(*words)
    assert e.value.exit_code == code and all(p in str(e.value) for p in parts), e.value


def test_tampering_is_told_by_every_command(settings):
    if find_version(settings, "main", 1).aliases == ("challenger",): run("promote")
    path = (
        Path(unquote(urlsplit(find_version(settings, "main", 1).source).path))
        / "model/data/estimator/estimator.skops"
    )
    kept = path.read_bytes()
    path.write_bytes(kept + b"?")
    try:
        for words in (("models", "show", 1), ("models", "compare", 1, 1)):
            with pytest.raises(ModelError, match="is not what was registered"): run(*words)
    finally: path.write_bytes(kept)
    assert "all as their hashes say" in run("models", "show", 1)[1]


def test_what_mlflow_missed_is_sent_once(settings, monkeypatch):
    assert run("models", "sync") == (0, "Nothing waits: every training is in MLflow.\n")
    with monkeypatch.context() as away:
        away.setenv(
            "MLFIN_MLFLOW", f"sqlite:///{settings.root / 'settings.ini'}/no.db"
        )  # a file where its folder should be
        with pytest.warns(UserWarning, match="it waits in"):
            leave(load_settings("test", root=settings.root), "missed", must_track=False)
        code, text = run("models", "sync")
        assert code == 1 and text.startswith("0 of 1 trainings that waited are in MLflow now; 1 wait on ("), (
            text
        )
    code, text = run("models", "sync", "--json")
    assert code == 0
    assert json.loads(text) == {
        "profile": "test",
        "sent": 1,
        "left": 0,
        "says": "1 of 1 trainings that waited are in MLflow now.",
    }
    assert json.loads(run("models", "sync", "--json")[1])["sent"] == 0


def test_a_run_puts_its_model_through_the_gate(settings, monkeypatch, tmp_path):
    """`mlfin run --promote`, on what the run has left: the verdict is printed, stands in the events, and is
    an answer whatever it says."""
    from mlfin.registry.registry import find_version
    from mlfin.runs import pipeline

    experiment = "by-run"
    leave(settings, experiment)
    result = pipeline.RunResult("r1", settings.reports_dir(experiment) / "runs" / "r1", ("train",), {})
    monkeypatch.setattr(pipeline, "run", lambda question, *args: result)
    result.folder.mkdir(parents=True)

    def asked():
        events = tmp_path / "events.jsonl"
        events.unlink(missing_ok=True)
        code, text = run("run", "--experiment", experiment, "--promote", "--events", events)
        assert code == 0, text
        return json.loads(events.read_text().splitlines()[-1]), text

    end, text = asked()
    assert end["kind"] == "end" and end["version"] == 1 and f"v1: {end['gate']}" in text.replace("\n", " ")
    assert end["promoted"] == (find_version(settings, experiment, 1).aliases == ("champion",))
    assert end["promoted"] or end["gate"].startswith("refused by the gate: ")
    if not end["promoted"]: run("promote", "--experiment", experiment, "--force", "to see it serve")
    assert asked()[0]["gate"] == "it is the champion already"


@pytest.mark.parametrize(
    "words",
    [
        ("promote",),
        ("rollback",),
        ("models",),
        ("models", "ls"),
        ("models", "show"),
        ("models", "compare"),
        ("models", "sync"),
    ],
)
def test_help_has_examples(words):
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0
    assert "Examples" in done.output or words == ("models",)
    assert words[-1] in done.output
