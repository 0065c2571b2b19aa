"""What goes wrong outside ends with one message (what, where, what to do), the right exit code, and nothing
lost."""
import ctypes
import os
import re
import resource
import shutil
import signal

import pytest

from mlfin.core.locks import experiment_lock

from ..fixtures.workbench import KERNEL, ROOT, Workbench, minutes, words

CSV = {"source": "csv", "path": "bars.csv", "symbols": "[X]", "timeframe": "1m", "tz": "UTC", "start": "null",
       "features": "[rsi_14,returns]"}
EDITABLE = ("pipeline.yaml", "env.yaml", "settings.ini",
            *(f"nbs/pipeline/{p.name}" for p in (ROOT / "nbs" / "pipeline").glob("*.ipynb")))


def one_message(result, code, *parts):
    "That a command ended with this exit code and one message that holds these parts."
    got, out, err = result
    assert got == code, f"exit code {got}\n{out}\n{err}"
    assert "Traceback" not in out + err, err
    assert len(re.findall(r"^Error: ", err, re.M)) == 1 and err.startswith("Error: "), err
    assert len(err) < 1_500 and err.count("\n") <= 4, err
    for part in parts:
        assert part in err, err


@pytest.fixture(scope="module")
def shared(first_run, tmp_path_factory):
    "A finished project that the tests below do their worst to."
    root = tmp_path_factory.mktemp("shared")
    shutil.copytree(first_run.root, root, dirs_exist_ok=True)
    return root


@pytest.fixture
def unharmed(shared, first_run, in_project, monkeypatch, capsys):
    "That project; after the test, everything published is as it was."
    monkeypatch.chdir(shared)
    bench = Workbench(shared, capsys)
    before = bench.published()
    yield bench
    for name in EDITABLE: shutil.copy(first_run.root / name, shared / name)
    assert bench.published() == before


def edit(bench, name, old, new):
    path = bench.root / name
    assert old in path.read_text(), old
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize("changes, parts", [
    ({"features": "[rsi_x]"}, ["`feature`", "'rsi_x'", "did you mean `rsi_14`"]),
    ({"features": "[rsi_0]"}, ["`feature`", "'rsi_0'", "integer in [2"]),
    ({"models": "[logistic,logistik]"}, ["`model`", "'logistik'", "did you mean `logistic`"]),
    ({"models": "[]"}, ["`models`", "a list with something in it"]),
    ({"models": "[logistic,dummy,logistic]"}, ["`models`", "each once", "-p models=[A,B]"]),
    ({"models": "[../logistic]"}, ["`models`", "plain names"]),
    ({"label": "fwd_rte_5"}, ["`label`", "'fwd_rte_5'", "did you mean `fwd_ret_5`"]),
    ({"label": "fwd_ret_0"}, ["`label`", "from 1 to 99999"]),
    ({"labels": "[fwd_ret_5,nxt_close]"}, ["`label`", "'nxt_close'", "did you mean `next_close`"]),
    ({"labels": "[fwd_ret_5,next_close,fwd_ret_5]"}, ["`labels`", "each once", "'fwd_ret_5'"]),
    ({"labels": "[]"}, ["`labels`", "a list with something in it"]),
    ({"labels": "fwd_ret_5"}, ["`labels`", "labels=[fwd_ret_5]"]),
    ({"labels": "[meta_fwd_ret_5]"}, ["`labels`", "'meta_fwd_ret_5'", "bars decide"]),
    ({"labels": f"[{','.join(f'fwd_ret_{n}' for n in range(1, 1001))}]"},
     ["`labels`", "at most 20", "1,000"]),
    ({"label": "[fwd_ret_5,next_close]"}, ["`label`", "labels=[A,B]"]),
    ({"label": "null"}, ["`label`", "given"]),
    ({"label": "fwd_ret_5", "labels": "[next_close]"}, ["`labels`", "label=fwd_ret_5", "'next_close'"]),
    ({"label": "fwd_ret_100000"}, ["`label`", "from 1 to 99999"]),
    ({"rule": "long_flta"}, ["`rule`", "did you mean `long_flat`"]),
    ({"threshold": "1.5"}, ["`threshold`", "-1 < t < 1"]),
    ({"fee_bps": "-1"}, ["`fee_bps`", "-1"]),
    ({"threshold": "high"}, ["`threshold`", "a number", "'high'"]),
    ({"rule": "long_short", "threshold": "0.4"}, ["`threshold`", "0.5 <= t < 1"]),
    ({"signal": "quantiles"}, ["`signal`", "did you mean `quantile`"]),
    ({"signal": "quantile", "quantile": "1.5"}, ["`quantile`", "0 < q <= 1"]),
    ({"signal": "quantile", "threshold": "0.6"}, ["`threshold`", "quantile"]),
    ({"hysteresis": "-0.1"}, ["`hysteresis`", "-0.1"]),
    ({"min_hold": "-2"}, ["`min_hold`", "-2"]),
    ({"min_hold": "2.5"}, ["`min_hold`", "a whole number"]),
    ({"vol_target": "0"}, ["`vol_target`", "> 0"]),
    ({"vol_lookback": "1"}, ["`vol_lookback`", ">= 2"]),
    ({"leverage": "0"}, ["`leverage`", "> 0"]),
    ({"max_weight": "much"}, ["`max_weight`", "'much'"]),
    ({"stop_loss": "1"}, ["`stop_loss`", "0 < f < 1"]),
    ({"take_profit": "-0.1"}, ["`take_profit`", "> 0"]),
    ({"trailing_stop": "yes"}, ["`trailing_stop`", "True"]),
    ({"fill": "opne"}, ["`fill`", "did you mean `open`"]),
    ({"delay": "0"}, ["`delay`", ">= 1"]),
    ({"use_spread": "maybe"}, ["`use_spread`", "true or false", "'maybe'"]),
    ({"slippage_vol": "-1"}, ["`slippage_vol`", ">= 0"]),
    ({"participation": "1.2"}, ["`participation`", "0 < p <= 1"]),
    ({"delisting_return": "-2"}, ["`delisting_return`", "-1 <= r"]),
    ({"borrow_bps": "null"}, ["`borrow_bps`", "given"]),
    ({"cash": "-5"}, ["`cash`", "> 0", "-5"]),
    ({"folds": "0"}, ["`folds`", ">= 1"]),
    ({"embargo": "-1"}, ["`embargo`", ">= 0"]),
    ({"seed": "-1"}, ["`seed`", ">= 0"]),
    ({"jobs": "0"}, ["`jobs`", ">= 1"]),
    ({"task": "regresion"}, ["`task`", "did you mean `regression`"]),
    ({"task": "regression"}, ["`task`", "(logistic)", "for regression: ", "ridge"]),
    ({"task": "regression", "models": "[ridge]", "calibrate": "sigmoid"}, ["`calibrate`", "no classes"]),
    ({"models": "[ridge]"}, ["`task`", "(ridge)", "for classification: "]),
    ({"splitter": "combinatoral"}, ["`splitter`", "did you mean `combinatorial`"]),
    ({"splitter": "3MM"}, ["`splitter`", "3ME"]),
    ({"splitter": "purged_kfold", "folds": "1"}, ["`folds`", ">= 2 for purged_kfold"]),
    ({"splitter": "combinatorial", "folds": "2"}, ["`folds`", ">= 3 for combinatorial"]),
    ({"weights": "unique"}, ["`weights`", "did you mean `uniqueness`"]),
    ({"class_weights": "heavy"}, ["`class_weights`", "balanced"]),
    ({"calibrate": "sigmiod"}, ["`calibrate`", "did you mean `sigmoid`"]),
    ({"calibrate": "null"}, ["`calibrate`", "given"]),
    ({"source": "cvs"}, ["`source`", "did you mean `csv`"]),
    ({"source": "csv"}, ["`path`", "-p path=FILE"]),
    ({"source": "csv", "path": "nowhere.csv"}, ["`path`", "a file that exists", "nowhere.csv"]),
    ({"source": "csv", "path": "nbs"}, ["`path`", "a folder that holds files of bars"]),
    ({"timeframe": "7q"}, ["`timeframe`", "'7q'", "one of 1m"]),
    ({"tz": "Mars/Olympus"}, ["`tz`", "Mars/Olympus"]),
    ({"calendar": "XMARS"}, ["`calendar`", "'XMARS'"]),
    ({"adjust": "some"}, ["`adjust`", "total"]),
    ({"start": "yesterday"}, ["`start`", "yesterday"]),
    ({"start": "2022-01-02", "end": "2021-01-01"}, ["`end`", "2021-01-01"]),
    ({"folds": "1000000000"}, ["`folds`", "at most 1,000"]),
    ({"tune": "1000000000"}, ["`tune`", "at most 10,000"]),
    ({"jobs": "100000"}, ["`jobs`", "at most 256"]),
    ({"facts": "/etc/passwd"}, ["`facts`", "a date"]),
    ({"symbols": "[../../etc/passwd]"}, ["`symbols`", "reads like a path"]),
    ({"cash": ".inf"}, ["`cash`", "a finite number"]),
    ({"executor": "papermil"}, ["`executor`", "did you mean `papermill`"]),
    ({"executor": "papermill", "kernel": "pyton3"}, ["`kernel`", "pyton3"]),
    ({"symbols": "IBM"}, ["`symbols`", "-p symbols=[IBM]"]),
    ({"symbols": "[]"}, ["`symbols`", "a list with something in it"]),
    ({"folds": "many"}, ["`folds`", "a whole number", "-p folds=5"]),
    ({"folds": "2.5"}, ["`folds`", "a whole number"]),
    ({"models": "null"}, ["`models`", "given"]),
    ({"path": ""}, ["`path`", "given"]),
    ({"models": "[logistic"}, ["`models`", "a YAML value", "[logistic"]),
    ({"symbol": "[IBM]"}, ["`parameter`", "did you mean `symbols`"]),
    ({"lable": "fwd_ret_5"}, ["`parameter`", "did you mean `label`"]),
    ({"xyzzy": "1"}, ["`parameter`", "one of adjust, borrow_bps"]),
    ({"profile": "staging"}, ["`profile`", "--profile staging"]),
    ({"experiment": "../up"}, ["`experiment`", "a plain folder name"]),
    ({"experiment": "two\nlines"}, ["`experiment`"]),
    ({"experiment": "x" * 300}, ["`experiment`"]),
    ({"experiment": "mlflow.db"}, ["`experiment`"]),
    ({"experiment": "lake"}, ["`experiment`", "the store's"]),
], ids=lambda value: ",".join(f"{k}={v[:12]}" for k, v in value.items()) if isinstance(value, dict) else "")
def test_a_question_that_cannot_be_answered_is_a_matter_of_usage(unharmed, changes, parts):
    said = unharmed.here(*words("--force", **changes))
    one_message(said, 2, *parts)
    assert said[1] == ""  # nothing was begun


@pytest.mark.parametrize("arguments, parts", [
    (["run", "-p", "folds"], ["`-p`", "key=value", "for example"]),
    (["run", "-p", "=3"], ["`-p`", "key=value"]),
    (["run", "--profile", "developement"], ["`profile`", "did you mean `development`"]),
    (["status", "--profile", "developement"], ["`profile`", "did you mean `development`"]),
    (["status", "--experiment", "../up"], ["`experiment`"]),
    (["reproduce", "zzzz"], ["`run`", "one of "]),
    (["reproduce", "latest", "--experiment", "never"], []),
])
def test_words_that_are_not_understood(unharmed, arguments, parts):
    one_message(unharmed.here(*arguments), 2, *parts)


@pytest.mark.parametrize("arguments, part", [
    (["rnu"], "Did you mean 'run'"), (["run", "--fast"], "--fast"),
    (["run", "-f", "nowhere.yaml"], "nowhere.yaml"), (["reproduce"], "Missing argument")])
def test_usage_that_typer_refuses(unharmed, arguments, part):
    code, _, err = unharmed.here(*arguments)
    assert code == 2 and part in err and "Traceback" not in err


@pytest.mark.parametrize("content, parts", [
    (b"- a\n", ["more.yaml", "a mapping"]), (b"a: [1\nb: 2", ["more.yaml", "line 2"]),
    (b"fodls: 3\n", ["did you mean `folds`", "more.yaml"]),
    (b"\xff\xfe\x00", ["more.yaml", "not valid YAML"]),
    (b"folds: five\n", ["`folds`", "a whole number", "more.yaml"])])
def test_a_file_of_parameters_that_is_none(unharmed, content, parts):
    (unharmed.root / "more.yaml").write_bytes(content)
    one_message(unharmed.here(*words("-f", "more.yaml")), 2, *parts)


GOOD = minutes(600)
HEAD = "timestamp,open,high,low,close,volume\n"


def written(frame=GOOD, **columns): return frame.assign(**columns).to_csv(index=False)


@pytest.mark.parametrize("text, changes, parts", [
    ("", {}, ["bars.csv is empty", "Hint"]),
    pytest.param(" \n \n", {}, ["bars.csv is empty"], marks=pytest.mark.slow),
    (HEAD, {}, ["a header and no rows"]),
    ("a,b,c\n1,2,3\n", {}, ["`columns`", "close and 2 columns of other names", "missing: ts, open"]),
    pytest.param("timestamp,open,high,low,volume\n2022-01-01,1,1,1,1\n", {}, ["`columns`", "missing: close"],
                 marks=pytest.mark.slow),
    (written(close="n/a?"), {}, ["no usable row", "600 were set aside", "`close` is not a number", "Hint"]),
    (written(symbol="X"), {"symbols": "[Y]"}, ["`symbol`", "'Y'", "one of X"]),
    (written(), {"timeframe": "1d"}, ["`timeframe`", "1m"]),
    pytest.param(written(), {"start": "2030-01-01"}, ["Error"], marks=pytest.mark.slow),
], ids=range(9))
def test_a_file_that_holds_no_bars_ends_the_first_task(unharmed, text, changes, parts):
    (unharmed.root / "bars.csv").write_text(text)
    said = unharmed.here(*words(**{**CSV, **changes}))
    one_message(said, 1, "Task `ingest` failed in cell",
                "Notebook: reports/test/default/failed/01_ingest.ipynb", *parts)
    assert (unharmed.root / "reports/test/default/failed/01_ingest.ipynb").is_file()


def test_a_symbol_that_the_built_in_data_lack(unharmed):
    one_message(unharmed.here(*words(symbols="[IBN,MSFT]")), 2, "`symbols`", "'IBN'", "did you mean `IBM`")


@pytest.mark.parametrize("changes, task, parts", [
    ({"label": "fwd_ret_599"}, "train-logistic-fwd_ret_599",
     ["`horizon` must be at most 598", "load more history"]),
    pytest.param({"label": "fwd_ret_5000"}, "train-logistic-fwd_ret_5000", ["`horizon` must be at most 598"],
                 marks=pytest.mark.slow),
    ({"features": "[sma_700]"}, "features", ["`sma_700`", "600 bars"]),
    pytest.param({"label": "fwd_ret_580"}, "train-logistic-fwd_ret_580", ["Hint"], marks=pytest.mark.slow),
    ({"folds": "1000"}, "train-logistic-fwd_ret_5", ["`folds` must be at most", "load more history"]),
    pytest.param({"embargo": "9000"}, "train-logistic-fwd_ret_5", ["embargo of 9000", "Hint"],
                 marks=pytest.mark.slow)])
def test_data_that_do_not_reach(unharmed, changes, task, parts):
    (unharmed.root / "bars.csv").write_text(written())
    one_message(unharmed.here(*words(**{**CSV, **changes})), 1, f"Task `{task}` failed in cell", *parts)


FEATURES = "nbs/pipeline/02_features.ipynb"
COMPUTED = "table = compute_features("  # what comes after it takes a while


def _line(text: str) -> int:
    "Where a text stands in pipeline.yaml."
    return (ROOT / "pipeline.yaml").read_text().split(text)[0].count("\n") + 1


@pytest.mark.parametrize("old, new, parts", [
    ("  - name: features", "   - name: features", ["not valid YAML", f"line {_line('  - name: features')}"]),
    ("upstream: [ingest, compare, sweep]", "upstream: [ingest, compare, sweep",
     ["not valid YAML", f"line {_line('upstream: [ingest, compare, sweep]')}"]),
    ("    source: nbs/pipeline/02", "\tsource: nbs/pipeline/02", ["not valid YAML", "tab"]),
    ("tasks:", "task:", ["`tasks`", "a list of tasks"]),
    ("  - name: features\n    source", "  - source", ["`name`", "every task"]),
    ("name: features", "name: ingest", ["`name`", "used once", "'ingest'"]),
    ("02_features.ipynb\n    class", "02_featurs.ipynb\n    class", ["`source`", "02_featurs.ipynb"]),
    ("source: nbs/pipeline/02_features.ipynb", "source: nbs", ["`source`", "'nbs'"]),
    ("{{folds}}", "{{fodls}}", ["`placeholder`", "did you mean `folds`"]),
    ("upstream: [ingest]", "upstream: [publish]", ["`upstream`", "free of circles"]),
    ("upstream: [ingest]", "upstream: [ingst]", ["`upstream`", "did you mean `ingest`"]),
    ("upstream: [ingest]", "upstream: ingest", ["`upstream`", "a list of tasks", "[ingest]"]),
    ("upstream: [ingest, train-*]", "upstream: [ingest, trian-*]", ["`upstream`", "trian-*"]),
    ("name: train-[[model]]-[[label]]", "name: train", ["`name`", "[[model]] in it"]),
    ('grid: {model: "{{models}}", label: "{{labels}}"}', "grid: [logistic]", ["`grid`", "a mapping"]),
    ("html: reports/{{profile}}/{{experiment}}/03_train_[[model]]_[[label]].html",
     "html: reports/{{profile}}/{{experiment}}/03_train_[[modle]].html",
     ["`placeholder`", "did you mean `model`"]),
    ("facts: .mlfin/{{profile}}/{{experiment}}/facts.parquet", "facts: 7", ["`product`", "got 7"]),
    ("facts: .mlfin/{{profile}}/{{experiment}}/facts.parquet", "facts: ../facts.parquet",
     ["`facts`", "{{experiment}}"]),
    ("facts: .mlfin/{{profile}}/{{experiment}}/facts.parquet", "facts: .mlfin/facts.parquet",
     ["`facts`", "{{experiment}}"]),
    ("{{experiment}}/facts.parquet", "{{experiment}}/features.parquet", ["unique products"]),
    ("      html: reports/{{profile}}/{{experiment}}/02_features.html\n", "", ["Missing key 'html'"]),
    ('facts: "{{facts}}"', 'fatcs: "{{facts}}"', ["02_features.ipynb", "Missing params: 'facts'"]),
    ('      tz: "{{tz}}"\n', "", ["01_ingest.ipynb", "Missing params: 'tz'"]),
    ("class: NotebookRunner", "class: NotebookRuner", ["Did you mean 'NotebookRunner'"]),
    ('executor: "{{executor}}"', "executor: magic", ["magic", "papermill"]),
    ("{html: mlfin}", "{html: mlfni}", ["mlfni"]),
    ("mlfin/charts/figures.py", "mlfin/core/chrats.py", ["resources_", "mlfin/core/chrats.py"]),
    ("    static_analysis: strict", "    static_analisys: strict", ["static_analisys"]),
    ("extract_upstream: false", "extract_upstreem: false", ["extract_upstreem"]),
    ("ploomber.executors.Serial", "ploomber.executors.Cereal", ["Cereal"]),
], ids=range(30))
def test_a_pipeline_edited_wrongly(unharmed, old, new, parts):
    edit(unharmed, "pipeline.yaml", old, new)
    one_message(unharmed.here(*words("--force")), 2, "Hint", *parts)


@pytest.mark.parametrize("name, content, parts", [
    ("pipeline.yaml", b"", ["pipeline.yaml", "a mapping"]),
    ("pipeline.yaml", b"\x00\xff\xfe", ["pipeline.yaml", "not valid YAML"]),
    ("pipeline.yaml", b"tasks: [a, b]\n", ["`name`"]),
    ("env.yaml", b"- a\n", ["env.yaml", "a mapping"]),
    ("env.yaml", b"models: [[logistic]\n", ["env.yaml", "not valid YAML"]),
    ("settings.ini", b"nonsense\n", ["settings.ini", "Hint"]),
    ("settings.ini", b"", ["`profile`", "'test'"]),
    ("settings.ini", b"\xff\xff", ["settings.ini"]),
    ("settings.ini", b"[test]\n[test]\n", ["settings.ini", "already exists"]),
    ("settings.ini", b"[test]\nthreads = 1\n", ["given", "settings.ini [test]"]),
    (FEATURES, b"{", ["02_features.ipynb", "not a valid notebook"]),
    (FEATURES, b'{"cells": 3}', ["02_features.ipynb", "not a valid notebook"]),
], ids=lambda value: value.decode(errors="replace")[:8] if isinstance(value, bytes) else "")
def test_a_file_of_the_project_that_is_broken(unharmed, name, content, parts):
    (unharmed.root / name).write_bytes(content)
    one_message(unharmed.here(*words("--force")), 2, *parts)
    assert (unharmed.root / name).read_bytes() == content


@pytest.mark.parametrize("name, old, new, parts", [
    ("settings.ini", "threads = 1", "threds = 1", ["`setting`", "did you mean `threads`"]),
    ("settings.ini", "threads = 1", "threads = many", ["`threads`", "a valid integer", "'many'"]),
    ("settings.ini", "device = auto", "device = tpu", ["`device`", "'auto', 'cpu' or 'gpu'"]),
    ("settings.ini", "task_timeout = 18000", "task_timeout = -1",
     ["`task_timeout`", "greater than or equal to 1"]),
    ("settings.ini", "plugins =", "plugins = nowhere.at_all", ["`plugins`", "nowhere.at_all"]),
    ("env.yaml", "folds: 5", "folders: 5", ["`parameter`", "'folders' (env.yaml)", "did you mean `folds`?"]),
    ("env.yaml", "folds: 5", "folds: 5\nstop_los: 0.05",
     ["`parameter`", "'stop_los' (env.yaml)", "did you mean `stop_loss`?"]),
    ("env.yaml", "tz: null", "tz: null\ntimezone: UTC",
     ["`parameter`", "'timezone' (env.yaml)", "did you mean `tz`?"]),
    ("env.yaml", "folds: 5", "", ["`folds`", "given", "pipeline.yaml asks for it"]),
    ("env.yaml", "labels: [fwd_ret_5]", "labels:", ["`labels`", "given", "env.yaml"]),
    ("env.yaml", "path: mlfin", "path: [a] # mlfin", ["`path`", "['a']"])])
def test_a_value_of_the_project_that_is_wrong(unharmed, name, old, new, parts):
    edit(unharmed, name, old, new)
    one_message(unharmed.here(*words("--force")), 2, *parts)


@pytest.mark.parametrize("name", ["pipeline.yaml", "settings.ini", "env.yaml", "env/requirements.lock"])
def test_a_file_of_the_project_that_is_gone(unharmed, name):
    kept = (unharmed.root / name).read_bytes()
    (unharmed.root / name).unlink()
    said = unharmed.here(*words("--force"))
    (unharmed.root / name).write_bytes(kept)
    one_message(said, 2, name, "Hint")


@pytest.mark.parametrize("old, new, code, parts", [
    ('task.write(\\"facts\\", read)', 'task.write(\\"facts\\", read', 2,
     ["02_features.ipynb is not valid Python", "never closed"]),
    ('task.write(\\"facts\\", read)', 'task.write(\\"facts\\", raed)', 2,
     ["02_features.ipynb", "undefined name 'raed'"]),
    ('"parameters"', '"paramters"', 2, ["02_features.ipynb", "`parameters`"]),
    ('task.write(\\"facts\\", read)', "pass", 1, ["Task `features` did not write its product `facts`"]),
    pytest.param('task.write(\\"facts\\", read)', 'task.write(\\"fatcs\\", read)', 1,
                 ["Task `features` failed in cell", "did you mean `facts`"], marks=pytest.mark.slow),
    ('task.write(\\"facts\\", read)', "1 / 0", 1,
     ["Task `features` failed in cell", "ZeroDivisionError: division by zero", "Notebook: "])])
def test_a_notebook_edited_wrongly(unharmed, old, new, code, parts):
    edit(unharmed, FEATURES, old, new)
    text = (unharmed.root / FEATURES).read_text()
    (unharmed.root / "bars.csv").write_text(written())
    one_message(unharmed.here(*words("--force", **CSV)), code, *parts)
    assert (unharmed.root / FEATURES).read_text() == text


def test_a_failure_is_named_for_its_own_task_whatever_failed_before(unharmed):
    (unharmed.root / "bars.csv").write_text(written())
    one_message(unharmed.here(*words(**{**CSV, "folds": "1000"})), 1, "Task `train-logistic-fwd_ret_5`",
                "failed/03_train_logistic_fwd_ret_5.ipynb")
    (unharmed.root / "bars.csv").write_text(HEAD)
    one_message(unharmed.here(*words(**CSV)), 1, "Task `ingest`", "failed/01_ingest.ipynb")


@pytest.mark.parametrize("name, code, part", [(".mlfin", 2, ".mlfin"), ("reports", 1, "reports"),
                                              (".mlfin/test/other", 1, "other")])
def test_a_file_where_a_folder_is_needed(workbench, name, code, part):
    path = workbench.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    (workbench.root / "bars.csv").write_text(written())
    said = workbench.here(*words("--experiment", "other", **CSV))
    one_message(said, code, part, "Hint: ")
    assert path.read_text() == "mine" and "done" not in said[1]  # said before anything is computed


def test_a_record_of_runs_that_is_damaged(unharmed):
    path = unharmed.report("run.json")
    kept = path.read_bytes()
    path.write_text("{")
    said = unharmed.here(*words())
    path.unlink()
    status = unharmed.here("status", *words()[1:])
    path.write_bytes(kept)
    one_message(said, 1, "run.json", "not valid JSON", "delete it and run again")
    assert status[0] == 0 and "never ran" in status[1], status  # as the message says


def test_the_ledger_is_damaged(finished):
    path = finished.root / ".mlfin" / "test" / "trials.sqlite"
    for tail in ("-wal", "-shm"): path.with_name(path.name + tail).unlink(missing_ok=True)
    path.write_bytes(b"garbage" * 1000)
    before = finished.published()
    one_message(finished.here(*words(fee_bps="4")), 1, "Task `backtest` failed", "trials.sqlite", "snapshot")
    assert finished.published() == before


def test_one_run_at_a_time(unharmed):
    with experiment_lock(unharmed.settings, "default"):
        one_message(unharmed.here(*words(fee_bps="3")), 1,
                    "`default` is being run by another process", "Hint")


@pytest.mark.parametrize("limit, changes, alone", [
    (0, {}, True), (60_000, {}, False), *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        (60_000, {}, True), (3_000_000, {}, False), (200_000, {"folds": "4"}, False))),
])
def test_a_disk_that_is_full(finished, limit, changes, alone):
    before, (free, most) = finished.published(), resource.getrlimit(resource.RLIMIT_FSIZE)
    asked, full = (words(**{"fee_bps": "5", **changes}),
                   lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most)))
    if alone:  # not even what a process keeps for itself can be written
        said = finished.cli(*asked, preexec_fn=full)
    else:
        full()
        try: said = finished.here(*asked)
        finally: resource.setrlimit(resource.RLIMIT_FSIZE, (free, most))
    assert said[0] in (1, 3), said  # a kernel that could not write tells it by its last words only
    one_message(said, said[0], "Hint: ")
    assert finished.published() == before


def as_a_user():
    "In the child: give up root's right to write anywhere."
    if os.geteuid() == 0 and ctypes.CDLL(None, use_errno=True).prctl(24, 1, 0, 0, 0):
        raise OSError("PR_CAPBSET_DROP")


@pytest.mark.slow
def test_a_project_that_may_only_be_read(finished):
    folders = [p for p in (finished.root, *finished.root.rglob("*")) if p.is_dir()]
    before = finished.published()
    for folder in folders: folder.chmod(0o555)
    try:
        probe = finished.cli("-c", "open('probe', 'w')", program=(), preexec_fn=as_a_user)
        if probe[0] == 0: pytest.skip("this user may write everywhere, and cannot give that up")
        code, out, err = finished.cli(*words(), preexec_fn=as_a_user)
        assert code == 0 and "Nothing to do" in out, err
        one_message(finished.cli(*words(fee_bps="8"), preexec_fn=as_a_user), 3, "Permission denied", "Hint")
    finally:
        for folder in folders: folder.chmod(0o755)
    assert finished.published() == before


def test_a_kernel_that_dies(unharmed):
    edit(unharmed, FEATURES, COMPUTED, f"import os; os._exit(9); {COMPUTED}")
    said = unharmed.here(*words(executor="papermill", kernel=KERNEL))
    one_message(said, 1, "Task `features` failed", "the kernel died", "Hint", "failed/02_features.ipynb")


def test_ctrl_c_leaves_no_half(unharmed, first_run):
    half = 'task.write(\\"features\\", bars); import time; open(\\"here\\", \\"w\\").close(); time.sleep(60)'
    edit(unharmed, FEATURES, COMPUTED, f"{half}; {COMPUTED}")
    (unharmed.root / "home").write_text("a file")
    # nothing is needed from there, nor put there
    process = unharmed.start(*words(), HOME=str(unharmed.root / "home"))
    unharmed.wait_for("here", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Interrupted" in err and "Traceback" not in err, out + err
    (unharmed.root / "here").unlink()
    shutil.copy(first_run.root / FEATURES, unharmed.root / FEATURES)
    assert unharmed.here(*words())[1].startswith("Nothing to do")
