"""What a run promises: exactly what must run, nothing lost, everything kept under its name."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from mlfin.core.errors import DataError, ParameterError, PipelineError, SettingsError
from mlfin.core.locks import experiment_lock
from mlfin.core.provenance import find_content, hash_file, write_json, write_parquet
from mlfin.runs.dag import load_dag
from mlfin.runs.execution import _watched_steps
from mlfin.runs.pipeline import run
from mlfin.runs.plan import describe_tasks, make_plan, read_run
from mlfin.runs.question import read_question
from mlfin.runs.reproduction import compare_products, reproduce, reproduction_verdict, what_changed
from mlfin.runs.run_folder import find_run


def go(project, *assignments, **kwargs):
    return run(read_question(project.root, assignments), project.settings, **kwargs)


def test_only_what_depends_on_a_change_runs_again(project):
    assert go(project).executed == ("numbers", "total")
    assert go(project).executed == ()
    assert go(project, "factor=3").executed == ("total",)
    assert project.total() == 18.0
    assert go(project).executed == ("total",)  # back to the first question
    assert project.total() == 12.0
    assert go(project, "n=5").executed == ("numbers", "total")
    assert go(project, "n=5", force=True).executed == ("numbers", "total")


def test_prose_of_a_notebook_makes_nothing_stale_and_its_page_keeps_what_ran(project):
    go(project)
    path = project.root / "total.ipynb"
    path.write_text(path.read_text().replace("# total", "# the total"))
    assert go(project).executed == ()
    told = {t["task"]: t["why"]
            for t in describe_tasks(make_plan(read_question(project.root), project.settings))}
    assert told["numbers"] == "" and "its page shows when it runs next" in told["total"]
    page = project.root / "reports/test/default/total.html"
    assert "the total" not in page.read_text()
    assert go(project, "factor=3").executed == ("total",) and "the total" in page.read_text()


def test_a_product_that_was_touched_is_made_again(project):
    first = go(project)
    write_json({"total": 1}, project.root / ".mlfin/test/default/total.json")
    assert go(project).executed == ("total",)
    assert project.total() == 12.0
    (project.root / ".mlfin/test/default/numbers.parquet").unlink()
    assert set(go(project).executed) >= {"numbers"}
    assert go(project).run_id == first.run_id


def test_run_json_keeps_identity_apart_from_clock_and_place(project):
    done = go(project)
    record = read_run(done.folder)
    assert record["run_id"] == done.run_id == done.folder.name
    assert (set(record["tasks"]["total"]["components"])
            == {"notebook", "modules", "parameters", "data", "upstream", "lock", "settings"})
    assert {"started", "finished", "seconds", "commit", "dirty", "host"} <= set(record["when"])
    assert str(project.root) not in json.dumps({k: v for k, v in record.items() if k != "when"})


def test_every_run_is_kept_and_equal_files_are_links(project):
    one, two = go(project), go(project, "factor=3")
    assert one.folder.is_dir() and two.folder.is_dir()
    a, b = (r.folder / "data" / "numbers.parquet" for r in (one, two))
    assert a.stat().st_ino == b.stat().st_ino
    assert (project.root / ".mlfin/test/default/numbers.parquet").stat().st_ino != a.stat().st_ino


def test_the_same_question_has_the_same_name_and_bytes_everywhere(project, tmp_path_factory):
    one = go(project)
    other = tmp_path_factory.mktemp("elsewhere")
    for name in ("settings.ini", "env.yaml", "pipeline.yaml", "numbers.ipynb", "total.ipynb"):
        shutil.copy(project.root / name, other / name)
    two = run(read_question(other),
              type(project.settings)(**{**project.settings.model_dump(), "root": other}))
    assert one.run_id == two.run_id
    for name in ("numbers.ipynb", "total.ipynb", "total.html", "data/numbers.parquet", "data/total.json"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes(), name


def test_experiments_never_mix(project):
    go(project)
    go(project, "factor=100", "experiment=other")
    assert project.total() == 12.0


def test_a_failed_task_keeps_its_notebook_and_loses_nothing(project):
    go(project)
    before = {f: (project.root / f).read_bytes() for f in project.files()}
    project.write("total", "raise ValueError('the sky is falling')")
    with pytest.raises(PipelineError,
                       match=r"Task `total` failed in cell \d+: ValueError: the sky is falling") as caught:
        go(project)
    notebook = str(caught.value).split("Notebook: ")[1]
    assert "the sky is falling" in (project.root / notebook).read_text()
    assert all((project.root / f).read_bytes() == content for f, content in before.items())
    project.write("total", "from mlfin.core.errors import DataError\n"
                           "raise DataError('`close` must be a price, got x.\\nHint: look.')")
    with pytest.raises(PipelineError, match="DataError: `close` must be a price, got x.\nHint: look."):
        go(project)


def test_what_a_broken_off_run_completed_is_used(project):
    project.write("total", "raise ValueError('no')")
    with pytest.raises(PipelineError):
        go(project)
    project.write("total", "task.write('data', {'total': 7.0})")
    assert go(project).executed == ("total",)
    assert project.total() == 7.0
    assert not [f for f in project.files() if ".building" in f or "/failed/" in f]


def test_code_that_changes_while_it_runs_is_noticed(project):
    project.write("total",
                  "task.write('data', {'total': 1.0, 'x': open('env.yaml').read()[:0]})\n"
                  "import json, pathlib\np = pathlib.Path('.mlfin/test/.building/default/total.json')\n"
                  "p.write_text(json.dumps({'total': 1.0, 'task_key': 'another'}))")
    with pytest.raises(PipelineError, match="something changed while it ran"):
        go(project)


def test_one_run_of_an_experiment_at_a_time(project):
    with (experiment_lock(project.settings, "default"),
          pytest.raises(PipelineError, match="being run by another process")):
        go(project)
    assert go(project).executed


@pytest.mark.parametrize("assignments, message", [
    (("fctor=3",), "did you mean `factor`"),
    (("factor",), "key=value"),
    (("factor=[1",), "YAML value"),
    (("factor=much",), "a whole number"),
    (("executor=magic",), "executor"),
    (("experiment=../up",), "a plain folder name"),
    (("experiment=.hidden",), "a plain folder name"),
])
def test_a_wrong_question_is_refused_before_anything_runs(project, assignments, message):
    with pytest.raises(ParameterError, match=message):
        go(project, *assignments)
    assert not [f for f in project.files() if f.endswith((".ipynb", ".parquet"))]


def test_files_come_before_assignments(project):
    (project.root / "more.yaml").write_text("factor: 5\nn: 2\n")
    assert read_question(project.root, ("n=3",), (project.root / "more.yaml",))["factor"] == 5
    assert read_question(project.root, ("n=3",), (project.root / "more.yaml",))["n"] == 3


@pytest.mark.parametrize("edit", [
    lambda t: t.replace("params: {factor: '{{factor}}'}", "params: {facter: '{{factor}}'}"),
    lambda t: t.replace("class: NotebookRunner", "class: NotebookRuner"),
    lambda t: t.replace("static_analysis: strict", "static_analysis: sometimes"),
])
def test_a_pipeline_edited_wrongly_is_one_message(project, edit):
    path = project.root / "pipeline.yaml"
    path.write_text(edit(path.read_text()))
    with pytest.raises((SettingsError, ParameterError)) as caught:
        load_dag(read_question(project.root), project.root)
    assert "pipeline.yaml" in str(caught.value) and "Hint" in str(caught.value)


def test_a_kernel_that_does_not_exist(project):
    with pytest.raises(SettingsError, match="a known name"):
        go(project, "executor=papermill", "kernel=pyton9")


def test_a_kernel_that_dies(project):
    go(project)
    project.write("total", "os._exit(9)")
    with pytest.raises(PipelineError, match="the kernel died") as caught:
        go(project, "executor=papermill")
    assert "total.ipynb" in str(caught.value) and project.total() == 12.0
    project.write("total", "task.write('data', {'total': 7.0})")
    assert go(project).executed == ("total",) and project.total() == 7.0


def test_a_record_that_is_damaged_is_deleted_and_all_runs_again(project):
    first = go(project)
    path = project.settings.reports_dir("default") / "run.json"
    path.write_text("{")
    with pytest.raises(DataError, match="not valid JSON.*\n.*delete it and run again"):
        go(project)
    path.unlink()
    again = go(project)
    assert again.executed == ("numbers", "total") and again.run_id == first.run_id
    assert read_run(path.parent)["run_id"] == first.run_id


SCRIPT = "import sys; from mlfin.cli.app import main; main(sys.argv[1:])"


def start(project, *words):
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *words], cwd=project.root, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env={**os.environ, "MLFIN_PROFILE": "test"})


def wait_for(path, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)


@pytest.mark.parametrize("blow, executor", [
    pytest.param(blow, executor, marks=pytest.mark.slow) for executor in ("ploomber-engine", "papermill")
    for blow in (signal.SIGKILL, signal.SIGINT)])
def test_a_run_that_is_broken_off_leaves_no_half(project, blow, executor):
    """Fast: Ctrl-C with kernels (test_bad_input), and SIGTERM (test_grid)."""
    go(project)
    before = {f: (project.root / f).read_bytes() for f in project.files()}
    project.write("total", "open('here', 'w').close()\ntime.sleep(60)")
    process = start(project, "run", "-p", "kernel=python3", "-p", f"executor={executor}")
    wait_for(project.root / "here")
    process.send_signal(blow)
    _, said = process.communicate(timeout=60)
    if blow == signal.SIGINT:
        assert process.returncode == 130 and said.count("Interrupted.") == 1 and "goes on from here" in said
    assert all((project.root / f).read_bytes() == content for f, content in before.items())
    project.write("total", TOTAL_AGAIN)
    assert go(project, f"executor={executor}").executed == ("total",)
    assert project.total() == 6.0


TOTAL_AGAIN = "task.write('data', {'total': float(task.read('numbers', 'data').x.sum())})"


def test_a_run_with_nothing_to_do_loads_neither_ploomber_nor_pandas(project):
    go(project)
    code = ("import sys\nfrom mlfin.runs.pipeline import run\n"
            "from mlfin.runs.question import read_question\n"
            "from mlfin.core.settings import load_settings, project_root\n"
            "assert run(read_question(project_root()), load_settings('test')).executed == ()\n"
            "print(sorted({'ploomber', 'papermill', 'pandas', 'nbformat'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], cwd=project.root, capture_output=True,
                          text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_reproduce_says_equal_and_touches_nothing(project):
    first = go(project)
    before = {f: (project.root / f).stat().st_mtime_ns for f in project.files()}
    compared = reproduce(first.folder, project.settings)
    assert {w for products in compared.values() for w in products.values()} == {"equal"}
    assert {f: (project.root / f).stat().st_mtime_ns for f in project.files()} == before


def test_reproduce_on_another_machine_from_the_folder_alone(project, tmp_path_factory):
    first = go(project)
    carried = tmp_path_factory.mktemp("carried") / "run"
    shutil.copytree(first.folder, carried)
    shutil.rmtree(project.root / "reports")
    assert find_run(str(carried), project.settings) == carried.resolve()
    assert ({w for products in reproduce(carried, project.settings).values() for w in products.values()}
            == {"equal"})


def test_a_file_outside_is_found_from_a_clone_at_another_depth(project, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    for folder in ("data/far", "other/data/far"): (home / folder).mkdir(parents=True)
    (home / "data/far/bars.csv").write_text("right")
    # the same name, nearer: content decides
    (home / "other/data/far/bars.csv").write_text("wrong")
    digest = hash_file(home / "data/far/bars.csv")
    for clone, given in (("clone", "../../../data/far/bars.csv"), ("other/a/b/clone", "../data/far/bars.csv"),
                         ("other/clone", "/away/data/far/bars.csv")):
        (home / clone).mkdir(parents=True)
        found = find_content(given, digest, home / clone)
        assert (home / clone / found).resolve() == (home / "data/far/bars.csv").resolve(), clone
    assert find_content("../nowhere.csv", digest, home / "clone") == "../nowhere.csv"


@pytest.mark.parametrize("name, value, other, word", [
    ("page.html", "seen at 12:00", "seen at 12:01", "text differs"), ("page.ipynb", "a", "b", "text differs"),
    ("page.html", "a", "a", "equal"), ("data.json", {"rows": [{"x": 1.0}, {"x": 2.0}]},
                                       {"rows": [{"x": 1.0}, {"x": 2.0 + 1e-9}]}, "within 1e-6"),
    ("data.json", {"rows": [{"x": 1.0}], "says": "a"}, {"rows": [{"x": 1.0}], "says": "b"}, "differs"),
    ("data.json", {"rows": [{"x": 1.0}]}, {"rows": []}, "differs"),
    ("data.json", {"x": None}, {"x": 1.0}, "differs")])
def test_pages_are_words_and_data_are_numbers(tmp_path, name, value, other, word):
    for folder, content in (("a", value), ("b", other)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    assert compare_products(tmp_path / "a" / name, tmp_path / "b" / name) == word


@pytest.mark.parametrize("words, same, says", [
    (("equal", "equal"), True, "equal"), (("equal", "text differs"), True, "only text of 1 page differs"),
    (("within 1e-6", "text differs"), True, "within 1e-6"),
    (("differs", "text differs", "equal"), False, "1 of 3")])
def test_data_products_decide_whether_a_run_was_made_again(words, same, says):
    told = reproduction_verdict({"task": {str(n): w for n, w in enumerate(words)}})
    assert told[0] is same and says in told[1]


def test_reproduce_names_a_page_whose_text_differs_and_is_content(project):
    first = go(project)
    page = first.folder / "total.html"
    text = page.read_text()
    # a link to a shared file: write another one
    page.unlink()
    page.write_text(text.replace("</body>", "<p>said elsewhere</p></body>"))
    compared = reproduce(first.folder, project.settings)
    assert compared["total"]["html"] == "text differs" and compared["total"]["data"] == "equal"
    assert reproduction_verdict(compared)[0]


def test_what_changed_names_it(project):
    record = read_run(go(project).folder)
    path = project.root / "total.ipynb"
    path.write_text(path.read_text().replace("factor * float", "1 * factor * float"))
    assert what_changed(record, project.settings) == {"total": ["notebook changed"]}
    record["tasks"]["numbers"]["components"]["modules"]["mlfin.core.errors"] = "0" * 16
    assert what_changed(record, project.settings)["numbers"] == ["module mlfin.core.errors changed"]


@pytest.mark.parametrize("other, word", [
    ({"x": [1.0, 2.0]}, "equal"), ({"x": [1.0, 2.0 + 1e-9]}, "within 1e-6"), ({"x": [1.0, 2.1]}, "differs"),
    ({"y": [1.0, 2.0]}, "differs"), ({"x": [1.0]}, "differs"),
])
def test_compare_products(tmp_path, other, word):
    write_parquet(pd.DataFrame({"x": [1.0, 2.0]}), tmp_path / "a.parquet")
    write_parquet(pd.DataFrame(other), tmp_path / "b.parquet")
    assert compare_products(tmp_path / "a.parquet", tmp_path / "b.parquet") == word


def test_unknown_runs(project):
    with pytest.raises(ParameterError, match="No run has been kept"):
        find_run("abc", project.settings)
    name = go(project).run_id
    assert find_run(name[:6], project.settings).name == name == find_run("latest", project.settings).name
    with pytest.raises(ParameterError, match="a known name"):
        find_run("zzzz", project.settings)


def test_a_plan_says_what_is_stale(project):
    go(project)
    plan = make_plan(read_question(project.root, ("factor=9",)), project.settings)
    assert plan.stale == ["total"] and plan.published == {"numbers"}


def test_yaml_that_is_no_text_is_refused(project):
    (project.root / "env.yaml").write_text((project.root / "env.yaml").read_text() + "symbols: [IBM]\n")
    for odd in ("symbols=[NO]", "symbols=[0700]"):
        with pytest.raises(ParameterError, match="a list of texts"):
            read_question(project.root, (odd,))
    assert read_question(project.root, ("symbols=['NO', IBM]",))["symbols"] == ["NO", "IBM"]


def test_a_forced_run_that_differs_leaves_the_old_evidence(project):
    project.write("total", "task.write('data', {'total': 1.0 + len(os.listdir('.mlfin/test')) * 0})")
    first = go(project)
    assert [p.name for p in first.folder.parent.iterdir()] == [first.run_id]
    go(project, force=True)
    assert [p.name for p in first.folder.parent.iterdir()] == [first.run_id]
    project.write("total", "task.write('data', {'total': time.time()})")
    second = go(project)
    before = (second.folder / "data" / "total.json").read_bytes()
    go(project, force=True)
    assert (second.folder.with_name(f"{second.run_id}~1") / "data" / "total.json").read_bytes() == before
    assert find_run(second.run_id[:6], project.settings) == second.folder


def test_a_kept_file_that_was_edited_is_not_passed_on(project):
    first = go(project)
    kept = first.folder / "data" / "numbers.parquet"
    kept.write_bytes(b"edited")
    second = go(project, "factor=3")
    assert pd.read_parquet(second.folder / "data" / "numbers.parquet").x.sum() == 6.0


def test_a_text_that_python_would_read_otherwise_stays_a_text(project):
    (project.root / "env.yaml").write_text((project.root / "env.yaml").read_text()
                                           + "word: none\nother: 'True'\n")
    pipeline = project.root / "pipeline.yaml"
    pipeline.write_text(pipeline.read_text().replace(
        "params: {n: '{{n}}'}", "params: {n: '{{n}}', word: '{{word}}', other: '{{other}}'}"))
    path = project.root / "numbers.ipynb"
    path.write_text(path.read_text().replace("n = None", "n = None\\nword = None\\nother = None", 1))
    project_cells = json.loads(path.read_text())
    lines = ("task = begin_task('numbers', globals())",
             "task.write('data', pd.DataFrame({'x': [(word == 'none') + 2.0 * (other == 'True')]}))")
    project_cells["cells"][-1]["source"] = "\n".join(lines)
    path.write_text(json.dumps(project_cells))
    assert go(project).executed == ("numbers", "total") and project.total() == 6.0


def test_steps_that_a_task_tells_are_events(project):
    heard, folder = [], project.root / ".mlfin" / "test"
    write_json({"task": "old", "done": 0, "total": 1, "text": "left behind"}, folder / ".old.progress")
    os.utime(folder / ".old.progress", (1, 1))
    with _watched_steps(folder, lambda *event: heard.append(event)):
        write_json({"task": "train-a", "done": 1, "total": 3, "text": "a, fold 2"},
                   folder / ".train-a.progress")
        end = time.monotonic() + 20
        while not heard and time.monotonic() < end: time.sleep(0.05)
        time.sleep(0.6)
    # once, though it was seen twice
    assert heard == [("step", "train-a", {"done": 1, "total": 3, "text": "a, fold 2"})]


def test_events_are_kept_for_who_watches(project):
    from typer.testing import CliRunner

    from mlfin.cli.app import app

    words = ["run", "--profile", "test", "-p", "kernel=python3", "--events", "events.jsonl"]
    assert CliRunner().invoke(app, words).exit_code == 0
    events = [json.loads(line) for line in (project.root / "events.jsonl").read_text().splitlines()]
    assert [e["tasks"] for e in events if e["kind"] == "begin"] == [["numbers", "total"]]
    assert [e["task"] for e in events if e["kind"] == "done"] == ["numbers", "total"]
    assert events[-1]["kind"] == "end"
    assert events[-1]["run"] == read_run(project.settings.reports_dir("default"))["run_id"]
    assert (project.root / events[-1]["report"]).is_file() and (project.root / events[-1]["folder"]).is_dir()
    assert CliRunner().invoke(app, words).exit_code == 0  # nothing to do: only the end is told
    assert [json.loads(line)["kind"]
            for line in (project.root / "events.jsonl").read_text().splitlines()[len(events):]] == ["end"]


def test_the_doctor_looks_at_the_house_and_remembers(project):
    from typer.testing import CliRunner

    from mlfin.monitor.health import HEALTH_CHECKS
    from mlfin.cli.app import app

    def doctor(*more):
        return CliRunner().invoke(app, ["doctor", "--profile", "test", *more], env={"COLUMNS": "200"})
    assert "Nothing was noted" in doctor("--history").stdout
    done = doctor()
    assert "nothing is stored yet" in done.stdout and "no registered model" in done.stdout, done.stdout
    shown = doctor("--history").stdout
    assert "store" in shown and "nothing is stored yet" in shown
    assert shown.count("\n") == 2 + len(HEALTH_CHECKS)
    (project.root / ".mlfin/test").mkdir(exist_ok=True)
    (project.root / ".mlfin/test/lake").write_text("a file where a folder should be")
    assert doctor().exit_code == 1
    assert "fail" in doctor("--history").stdout
