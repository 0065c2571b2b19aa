"""Two doors: what a request may have the service read, and whose jobs are whose. Tried over HTTP, as each
role, with keys and log-ins."""
import json
import os
import shutil
import sqlite3
import stat
import threading
import time

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from mlfin.core.errors import DataError, ParameterError  # noqa: E402
from mlfin.ingest.ingest import ingest  # noqa: E402
from mlfin.ingest.store_update import update  # noqa: E402
from mlfin.jobs.jobs import ENDED, Jobs  # noqa: E402
from mlfin.jobs.orders import order_ingest, order_train  # noqa: E402
from mlfin.accounts.users import add_user, new_key  # noqa: E402

from ..fixtures.asking import PASSWORD, house  # noqa: E402
from ..fixtures.job_worker import settings_of  # noqa: E402

SECRET = "hunter2swordfish"
BARS = "symbol,ts,open,high,low,close,volume\n" + "".join(f"COIN,2024-01-{d:02},1,2,1,{1 + d / 100},5\n"
                                                          for d in range(1, 29))


def word(answer):
    return answer.status_code, answer.json()["type"].removeprefix("/problems/")


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """A service with two analysts and a key of each role; nobody works its queue. Requests may read the
    folder `in`."""
    folder = tmp_path_factory.mktemp("house")
    for name in ("in", "out", ".mlfin/test"): (folder / name).mkdir(parents=True)
    (folder / "in" / "bars.csv").write_text(BARS)
    for name in ("out/secret.csv", ".mlfin/test/own.json", ".mlfin/test/own.sqlite-wal"):
        (folder / name).write_text(SECRET)
    (folder / "in" / "link.csv").symlink_to(folder / "out" / "secret.csv")
    shutil.copytree(folder / "in", folder / "clean", symlinks=True)
    (folder / "clean" / "link.csv").unlink()
    before = os.environ.get("MLFIN_DATA_DIRS")
    os.environ["MLFIN_DATA_DIRS"] = f"{folder}/in,{folder}/clean"
    client = house(folder)
    if before is None: del os.environ["MLFIN_DATA_DIRS"]
    add_user(client.accounts, "ben", "analyst", PASSWORD)
    client.login("ben")
    client.keys = {name: {"x-api-key": new_key(client.accounts, name, "m", role=role, days=9)}
                   for name, role in (("analyst", "analyst"), ("ben", "analyst"), ("read_only", "read_only"),
                                      ("boss", "administrator"))}
    client.keys["lesser"] = {"x-api-key": new_key(client.accounts, "analyst", "l", role="read_only", days=9)}
    yield client
    client.api.service.close()
    client.accounts.close()


@pytest.fixture(autouse=True)
def empty(ask):
    """Each test begins with an empty queue."""
    ask.api.jobs.counts()
    with sqlite3.connect(ask.api.jobs.path) as db: db.execute("DELETE FROM jobs")


# ---- what a request may have read

PATHS = ("/etc/passwd", "../../etc/passwd", "out/secret.csv", "in/link.csv", "in/*.csv",
         ".mlfin/test/own.json", ".mlfin/test/own.sqlite-wal",
         "settings.ini", "env.yaml", "~/.ssh/id_rsa", "/proc/self/root/etc/passwd", "/proc/self/environ",
         "....//....//etc/passwd", "%2e%2e/out/secret.csv", "file:///etc/passwd",
         "http://service.example/x.csv", "s3://bucket/x.csv", "in/../out/secret.csv", "in/nothing.csv",
         "$HOME/x", "{{cwd}}/in/bars.csv", "in/\u0000bars.csv", "in/**/*.csv", "/dev/zero", "", "IN/bars.csv")


@pytest.mark.parametrize("path", PATHS)
def test_a_path_elsewhere_is_refused_at_once(ask, path):
    for source in ("json", "csv", "files"):
        told = ask("POST", "/v1/train", "analyst",
                   json={"experiment": "x", "parameters": {"source": source, "path": path}})
        assert word(told) == (422, "invalid") and "path" in told.json()["errors"][0]["field"], told.text
        assert SECRET not in told.text and "root:" not in told.text
    with pytest.raises(ParameterError, match="path"):
        order_ingest(ask.api.jobs.settings, {"source": "csv", "path": path})
    assert ask.api.jobs.counts() == {"queued": 0, "running": 0} and not (ask.folder / "lake" / "raw").exists()


QUESTIONS = {
    "folds": [10**9, 10**400, 1e9, 0, -1, True, "5", 1001], "tune": [10**9, 1e9, -1, 10**309],
    "jobs": [100_000, 0], "embargo": [10**12, -5], "seed": [-1, 2**40, 10**30],
    "kernel": ["python99", "../x", "bash"], "quantile": [10**400, -10**400], "fee_bps": [10**309],
    "take_profit": [[10**400]],
    "executor": ["os.system"], "facts": ["/etc/passwd", "file:///etc/passwd", "1"],
    "symbols": [["../../etc/passwd"], ["/etc/passwd"], ["a\\b"], ["~root"], ["a\nb"], ["x" * 65], [""], "IBM",
                ["NOPE"], [], ["a"] * 10_001],
    "models": [["xgbost"], ["../x"], ["logistic", "logistic"]],
    "features": [["rsi_x"], ["sma_99999999999999999999"], []],
    "label": ["fwd_ret_x", "fwd_ret_999999999", "fwd_ret_" + "9" * 150], "timeframe": ["7m", "", "1h"],
    "start": ["soon", "2100-01-01", 10**400, "0001-01-01", "9999-12-31", "x" * 150, 7],
    "end": ["1500-01-01", "1900-01-01"], "tz": ["Mars/Olympus", "../../etc/passwd", "/etc/localtime"],
    "calendar": ["XXXX", "/etc/passwd"], "adjust": ["yes"], "cash": [0, -1, 1e300],
    "threshold": ["x", 5, [1]], "leverage": [0, 1e9], "participation": ["x"],
    "splitter": ["../x"], "min_hold": [10**9], "vol_lookback": [10**9], "delay": [10**9],
    "source": ["file", "file:///etc/passwd", "http://x", "s3://b", "../x"], "path": ["/etc/passwd", 7],
    "profile": ["production"], "experiment": ["other"], "nonsense": [1], "task": ["x"], "rule": ["x"],
    "weights": ["x"], "stop_loss": [7]}


@pytest.mark.parametrize("name", sorted(QUESTIONS))
def test_what_no_job_would_do_is_refused_at_once_and_named(ask, name):
    for value in QUESTIONS[name]:
        told = ask("POST", "/v1/train", "analyst",
                   json={"experiment": "x",
                         "parameters": {name: value} | ({"start": "2000-01-01"} if name == "end" else {})})
        assert told.status_code == 422, (value, told.text)
        assert name in told.json()["detail"] or name in json.dumps(told.json().get("errors", [])), (
            value, told.text)
    assert ask.api.jobs.counts()["queued"] == 0


@pytest.mark.parametrize("kernel", ["/etc/x", "nope", "", "../../etc"])
def test_a_kernel_that_is_none_is_refused_whatever_executes(ask, kernel):
    told = ask("POST", "/v1/train", "analyst",
               json={"experiment": "x", "parameters": {"executor": "ploomber-engine", "kernel": kernel}})
    assert told.status_code == 422 and "kernel" in told.text


@pytest.mark.parametrize("body",
                         ['{"parameters": {"cash": 1e999}}', '{"parameters": {"cash": NaN}}',
                          '{"parameters": {"threshold": -Infinity}}',
                          '{"parameters": {"symbols": [["a"]]}}', '{"parameters": {"symbols": {"a": 1}}}'])
def test_numbers_that_are_none_are_refused(ask, body):
    assert ask("POST", "/v1/train", "analyst", content=body).status_code == 422


@pytest.mark.parametrize(
    "source, path",
    [("sql", "postgresql://ann@db.example/x"), ("sql", "sqlite:///.mlfin/test/accounts.sqlite"),
     ("mongodb", "mongodb://db.example/x#y"), ("rest", "in/bars.csv"), ("simulated", "7"),
     ("ccxt", "../x"), ("ccxt", "http://x"), ("lean", "/etc"),
     ("parquet", "out/secret.csv")])
def test_sources_that_are_the_operators_are_refused(ask, source, path):
    told = ask("POST", "/v1/train", "analyst",
               json={"parameters": {"source": source, "path": path, "symbols": ["A"]}})
    assert word(told) == (422,
                          "invalid") and told.json()["errors"][0]["field"] in ("source", "path"), told.text


def test_what_lies_in_an_allowed_folder_is_taken(ask):
    for path in ("in/bars.csv", "clean", f"{ask.folder}/in/bars.csv"):
        order = order_ingest(ask.api.jobs.settings, {"source": "csv", "path": path})
        assert order.words[-1] == f"csv:{path}"
    parameters = {"source": "csv", "path": "in/bars.csv", "symbols": ["COIN"], "models": ["logistic"]}
    assert ask("POST", "/v1/train", "analyst",
               json={"experiment": "y", "parameters": parameters}).status_code == 202
    with pytest.raises(ParameterError, match="link.csv is none"):
        order_ingest(ask.api.jobs.settings, {"source": "csv", "path": "in"})


def test_symbols_that_a_file_holds_are_not_repeated(monkeypatch, tmp_path):
    (tmp_path / "bars.csv").write_text("date,symbol,open,high,low,close,volume\n" + "".join(
        f"2024-01-0{i},{SECRET},1,1,1,1,1\n" for i in range(1, 6)))
    def asked(read, **how):
        try:
            return read("csv", tmp_path / "bars.csv", symbols=["X"], tz="UTC", store=tmp_path / "lake", **how)
        except DataError as e: return str(e)
    assert SECRET in asked(ingest)  # at a terminal
    assert SECRET in asked(update).series.to_string()
    monkeypatch.setenv("MLFIN_CONFINED", "1")
    monkeypatch.setenv("MLFIN_DATA_DIRS", str(tmp_path))
    for how in ({}, {"start": "2024-01-02"}):
        assert "got 'X" in (said := asked(ingest, **how)) and SECRET not in said
    assert (done := asked(update)).failed and "one that is there, got 'X'" in done.series.error[0]
    assert SECRET not in done.series.to_string()


def test_an_experiments_own_path_is_looked_at_again(ask):
    """A run at a terminal may read anything; whoever asks the service to ingest as that run did has no more
    rights than by asking outright."""
    settings = ask.api.jobs.settings
    for name, path in (("good", "in/bars.csv"), ("bad", "out/secret.csv"),
                       ("db", "postgresql://ann@db.example/x")):
        (record := settings.reports_dir(name) / "run.json").parent.mkdir(parents=True, exist_ok=True)
        question = {"source": "sql" if name == "db" else "csv", "path": path, "timeframe": "1d",
                    "symbols": ["COIN"], "tz": "UTC"}
        record.write_text(json.dumps({"parameters": question}))
    assert ask("POST", "/v1/ingest/run", "analyst", json={"experiment": "good"}).status_code == 202
    for name in ("bad", "db"):
        assert word(ask("POST", "/v1/ingest/run", "analyst", json={"experiment": name})) == (422, "invalid")


@pytest.mark.parametrize("name, source, path, brought", [
    ("r_bad", "csv", "out/secret.csv", None),
    ("r_db", "store", "x", {"source": "sql", "path": "postgresql://ann:***@db.example/x"}),
    ("r_rest", "store", "x", {"source": "rest", "path": "in/bars.csv"}),
    ("r_link", "store", "x", {"source": "files", "path": "in/*.csv"}),
    ("r_up", "store", "x", {"source": "csv", "path": "../../etc/passwd"}),
    ("r_web", "store", "x", {"source": "ccxt", "path": "http://x"})])
def test_a_stored_question_is_no_way_round_the_doors(ask, name, source, path, brought):
    """`/v1/train` without parameters brings in what is new from where the last run's bars came: that place is
    looked at as a request's own would be."""
    settings = ask.api.jobs.settings
    (record := settings.reports_dir(name) / "run.json").parent.mkdir(parents=True, exist_ok=True)
    asked = {"source": source, "path": path, "symbols": ["COIN"], "models": ["logistic"]}
    record.write_text(json.dumps({"parameters": asked, "when": {"brought": brought}}))
    for body in ({}, {"window": "30D"}):
        told = ask("POST", "/v1/train", "analyst", json={"experiment": name} | body)
        assert word(told) == (422, "invalid") and told.json()["errors"][0]["field"] in (
            "path", "source"), told.text
        assert SECRET not in told.text and "***" not in told.text
    assert ask.api.jobs.counts()["queued"] == 0


def test_an_experiment_that_has_run_is_retrained_by_its_own_question(ask):
    settings, boss = ask.api.jobs.settings, {"experiment": "again", "window": "730D", "promote": True}
    (record := settings.reports_dir("again") / "run.json").parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({"parameters": {"source": "csv", "path": "in/bars.csv", "symbols": ["COIN"],
                                                 "models": ["logistic"]}}))
    def words(told):
        assert told.status_code == 202, told.text
        with sqlite3.connect(ask.api.jobs.path) as db:
            found = db.execute("SELECT words FROM jobs WHERE id = ?", (told.json()["id"],)).fetchone()
        return json.loads(found[0])[4:]
    assert (words(ask("POST", "/v1/train", "analyst", json={"experiment": "again"}))
            == ["retrain", "again", "--profile=test", "--events={events}"])
    assert (words(ask("POST", "/v1/train", "boss", json=boss))
            == ["retrain", "again", "--profile=test", "--window=730D", "--promote", "--events={events}"])
    # what serves is an administrator's word
    assert word(ask("POST", "/v1/train", "analyst", json=boss)) == (403, "forbidden")
    assert words(ask("POST", "/v1/train", "analyst",
                     json={"experiment": "again", "parameters": {"force": True}}))[0] == "run"
    (mine := ask("POST", "/v1/train", "analyst", json={"experiment": "again", "parameters": {"folds": 2}}))
    assert words(mine)[0] == "run" and "an earlier job of experiment again" in mine.json()["says"]
    assert mine.json()["waits_for"]


@pytest.mark.parametrize("window", ["soon", "-3D", "730", "1e9D", "9999999999D", "40000D", "59min", "nan",
                                    "NaT", "9" * 32, "x" * 33, "",
                                    "730D\u0000", "\u0661D", 730, True, ["730D"], "--help", "$(id)D"])
def test_a_window_that_is_none_is_named(ask, window):
    (record := ask.api.jobs.settings.reports_dir("again") / "run.json").parent.mkdir(
        parents=True, exist_ok=True)
    record.write_text(json.dumps({"parameters": {"source": "csv", "path": "in/bars.csv", "symbols": ["COIN"],
                                                 "models": ["logistic"]}}))
    told = ask("POST", "/v1/train", "analyst", json={"experiment": "again", "window": window})
    assert told.status_code == 422 and "window" in told.json()["errors"][0]["field"], told.text
    for body in ({"experiment": "never"}, {"experiment": "again", "parameters": {"folds": 2}}):
        told = ask("POST", "/v1/train", "analyst", json=body | {"window": "730D"})
        assert word(told) == (422, "invalid") and told.json()["errors"][0]["field"] == "window", told.text
    assert ask.api.jobs.counts()["queued"] == 0


def worked(jobs, name, seconds=120):
    stop = threading.Event()
    thread = threading.Thread(target=jobs.run_worker,
                              args=(stop, lambda job: stop.set() if job.id == name else None),
                              kwargs={"poll": 0.05})
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive()
    return jobs.get(name)


def test_a_file_that_becomes_a_link_after_the_request_is_not_read(tmp_path):
    """The request was fine; the job looks again. Nothing of the file is kept, and nothing of it is told."""
    for name in ("in", "out"): (tmp_path / name).mkdir()
    (tmp_path / "in" / "bars.csv").write_text(BARS)
    (tmp_path / "out" / "secret.csv").write_text(f"{SECRET}\n{BARS}")
    settings = settings_of(tmp_path).model_copy(update={"data_dirs": (str(tmp_path / "in"),),
                                                        "store": f"{tmp_path}/.mlfin/test/lake"})
    jobs = Jobs(settings, grace=1.0)
    before = os.umask(0o022)
    try:
        good = jobs.submit("ingest", {"source": "csv", "path": "in/bars.csv", "tz": "UTC"}, "ann", "a")
        assert worked(jobs, good.id).state == "succeeded", jobs.tail(good.id)
        bad = jobs.submit("ingest",
                          {"source": "csv", "path": "in/bars.csv", "tz": "UTC", "full": True}, "ann", "a")
        (tmp_path / "in" / "bars.csv").unlink()
        (tmp_path / "in" / "bars.csv").symlink_to(tmp_path / "out" / "secret.csv")
        ended = worked(jobs, bad.id)
    finally: os.umask(before)
    assert ended.state == "failed" and "folders that requests may read" in jobs.tail(bad.id), (
        jobs.tail(bad.id))
    kept = [p for p in (tmp_path / ".mlfin").rglob("*") if p.is_file()]
    assert not [p for p in kept if SECRET.encode() in p.read_bytes()]
    others = {str(p): oct(stat.S_IMODE(p.stat().st_mode))
              for p in kept if stat.S_IMODE(p.stat().st_mode) & 0o077}
    # files of jobs are their owner's, whatever the umask of who started them
    assert not others and SECRET not in jobs.tail(bad.id) + ended.error


# ---- whose jobs are whose

def train(ask, who, label, **how):
    told = ask("POST", "/v1/train", who,
               json={"experiment": "mine", "parameters": {"label": label, "models": ["logistic"]}}, **how)
    assert told.status_code == 202, told.text
    return told.json()


def test_an_analyst_sees_his_own_and_an_administrator_all(ask):
    one, two = train(ask, "analyst", "fwd_ret_3"), train(ask, "ben", "fwd_ret_4")
    assert one["full"] and two["waits_for"] is None  # it does wait, for one that is none of ben's business
    for who, seen in (("analyst", [one]), ("ben", [two]), ("boss", [two, one])):
        told = ask("GET", "/v1/jobs", who).json()
        assert ([j["id"] for j in told["items"]], told["total"]) == ([j["id"] for j in seen], len(seen))
        assert ask("GET", "/v1/jobs?state=queued", who).json()["total"] == len(seen)
    assert ask("GET", f"/v1/jobs/{two['id']}", "boss").json()["waits_for"] == one["id"]
    for method, path in (("GET", "/v1/jobs/{}"), ("DELETE", "/v1/jobs/{}"), ("POST", "/v1/jobs/{}/cancel")):
        mine, none = (ask(method, path.format(name), "ben") for name in (one["id"], "0" * 16))
        assert word(mine) == word(none) == (404, "unknown-job")
        # as if it were not there
        assert mine.json()["detail"].replace(one["id"], "ID") == none.json()["detail"].replace("0" * 16, "ID")
    assert ask.api.jobs.get(one["id"]).state == "queued"
    assert ask("POST", f"/v1/jobs/{one['id']}/cancel", "analyst").json()["state"] == "cancelled"
    assert ask("DELETE", f"/v1/jobs/{one['id']}", "analyst").status_code == 200
    assert ask("POST", f"/v1/jobs/{two['id']}/cancel", "boss").json()["by"] == "ben"
    assert ask("DELETE", f"/v1/jobs/{two['id']}", "boss").status_code == 200


def test_who_may_only_look_sees_states_and_nothing_else(ask):
    job, name = train(ask, "analyst", "fwd_ret_3"), "read_only"
    with sqlite3.connect(ask.api.jobs.path) as db:
        db.execute("UPDATE jobs SET error = ?, progress = ?, result = ?",
                   (SECRET, json.dumps({"message": SECRET}), json.dumps({"x": SECRET})))
    (place := ask.api.jobs.folder / job["id"] / "0").mkdir(parents=True)
    (place / "log").write_text(SECRET)
    for how in ({"as_": name}, {"headers": ask.keys["read_only"]}, {"headers": ask.keys["lesser"]}):
        for told in (ask("GET", f"/v1/jobs/{job['id']}", **how), ask("GET", "/v1/jobs", **how)):
            assert told.status_code == 200
            assert not any(w in told.text for w in (SECRET, "analyst", "mine", "fwd_ret"))
            seen = told.json().get("items", [told.json()])[0]
            assert ({k for k, v in seen.items() if v not in (None, "", [], {}, False)}
                    == {"id", "kind", "state", "created_at"})
            assert seen["full"] is False
            assert (seen["id"], seen["kind"], seen["state"]) == (job["id"], "train", "queued")
        assert (ask("DELETE", f"/v1/jobs/{job['id']}", **how).status_code
                == ask("POST", f"/v1/jobs/{job['id']}/cancel", **how).status_code == 403)
    assert SECRET in ask("GET", f"/v1/jobs/{job['id']}", "analyst").text
    assert SECRET in ask("GET", f"/v1/jobs/{job['id']}", "boss").text


def test_the_same_question_of_another_one_is_another_job(ask):
    one, two, again = (train(ask, "analyst", "fwd_ret_3"), train(ask, "ben", "fwd_ret_3"),
                       train(ask, "analyst", "fwd_ret_3"))
    assert one["id"] == again["id"] != two["id"] and two["by"] == "ben"
    # a key asks for its user
    assert train(ask, None, "fwd_ret_3", headers=ask.keys["analyst"])["id"] == one["id"]


def test_nobody_fills_the_queue_for_all(ask, monkeypatch):
    import mlfin.jobs.jobs as module

    monkeypatch.setattr(module, "_OWN", 2)
    for label in ("fwd_ret_3", "fwd_ret_4"): train(ask, "analyst", label)
    told = ask("POST", "/v1/train", "analyst",
               json={"parameters": {"label": "fwd_ret_6", "models": ["logistic"]}})
    assert told.status_code == 422 and "of yours" in told.text
    train(ask, "ben", "fwd_ret_3")


def test_jobs_of_an_earlier_version_are_the_administrators(tmp_path):
    settings = settings_of(tmp_path)
    (path := Jobs(settings).path).parent.mkdir(parents=True)
    with sqlite3.connect(path) as db:
        db.executescript(__import__("mlfin.jobs.jobs", fromlist=["_SCHEMA"])._SCHEMA)
        db.execute("INSERT INTO jobs (id, kind, state, parameters, words, lane, by, created)"
                   " VALUES ('old', 'train', 'queued', '{}', '[]', 'a', 'analyst', ?)", (time.time(),))
    path.chmod(0o644)
    found = []
    # several start at once
    threads = [threading.Thread(target=lambda: found.append(Jobs(settings).get("old").owner))
               for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    jobs = Jobs(settings)
    assert found == [""] * 8 and jobs.list(owner="a user's id") == []
    assert jobs.counts("a user's id")["queued"] == 0 and len(jobs.list()) == 1
    with pytest.raises(ParameterError): jobs.get("old", owner="a user's id")


def test_a_key_opens_no_audit_log_and_no_account_whatever_its_role(ask):
    for path in ("/audit", "/v1/audit", "/users", "/users/analyst/keys", "/auth/sessions"):
        assert word(ask("GET", path, headers=ask.keys["boss"])) == (403, "forbidden"), path
        assert ask("GET", path, "boss").status_code == 200, path
    assert ask("GET", "/v1/jobs", headers=ask.keys["boss"]).status_code == 200


def test_orders_of_a_training_are_checked_as_those_of_an_ingest(ask):
    with pytest.raises(ParameterError, match="folders that requests may read"):
        order_train(ask.api.jobs.settings, {"source": "parquet", "path": "out/secret.csv"})
    assert set(ENDED) == {"succeeded", "failed", "cancelled", "lost"}
