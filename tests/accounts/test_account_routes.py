"""Accounts over HTTP: every route for every role, who climbs and does not, what is secret and shown once,
what the audit says."""
import io
import json
import logging
import sqlite3

import pyotp
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from mlfin.accounts.audit_log import read_audit  # noqa: E402
from mlfin.accounts.sessions import LoginRules  # noqa: E402
from mlfin.api.account_routes import ACCOUNT_ROUTES  # noqa: E402
from mlfin.accounts.roles import ANYONE, ACCOUNT_PATHS, ROLES, ROUTES  # noqa: E402
from mlfin.accounts.users import new_key  # noqa: E402

from ..fixtures.asking import PASSWORD, house  # noqa: E402

OTHER = "marble canyon velvet spoon"


@pytest.fixture
def ask(tmp_path):
    client = house(tmp_path)
    yield client
    client.api.service.close()
    client.accounts.close()


@pytest.fixture
def strict(tmp_path):
    """A house where everybody needs a second factor; nobody has one."""
    client = house(tmp_path, LoginRules(second_factor=True))
    yield client
    client.api.service.close()
    client.accounts.close()


def word(answer):
    return answer.status_code, answer.json()["type"].removeprefix("/problems/")


def keys_of(ask):
    """A key of the administrator's for each role."""
    return {role: {"x-api-key": new_key(ask.accounts, "administrator", role, role)} for role in ROLES}


# ---- every route, every role

ROOT = (
    "GET /health",
    "GET /health/live",
    "GET /health/ready",
    "GET /metrics",
    "GET /docs",
    "GET /openapi.json",
)


def test_each_route_is_asked_for_by_everybody(ask):
    """A request that carries nothing useful: 401 for nobody, 403 for those below, and past the guard for the
    others."""
    machines, tried = keys_of(ask), 0
    for route, least in sorted(ROUTES.items()):
        method, _, template = route.partition(" ")
        path, personal = (
            template.replace("{version}", "7").replace("{", "").replace("}", "x"),
            template.startswith(ACCOUNT_PATHS),
        )
        may = {role: least == ANYONE or ROLES.index(role) >= ROLES.index(least) for role in ROLES}
        askers = [(None, {}, least == ANYONE), *((role, {"as_": role}, may[role]) for role in ROLES)]
        askers += [(role, {"headers": machines[role]}, may[role] and not personal) for role in ROLES]
        for role, given, fine in askers:
            told = ask(
                method,
                path if route in ROOT or tried % 2 else f"/v1{path}",
                **given,
                **({} if method == "GET" else {"content": b"{}"}),
            )
            said, tried = (route, role, given.keys(), told.text), tried + 1
            if fine: assert told.status_code not in (401, 403, 405, 500), said
            else: assert told.status_code == (401 if role is None else 403), said
            if route == "POST /auth/logout" and "as_" in given: ask.login(role)
    assert tried == 7 * len(ROUTES)


def test_nobody_climbs(ask):
    patch = {"json": {"role": "administrator"}}
    for name in ("read_only", "analyst"):
        assert ask("PATCH", f"/users/{name}", name, **patch).status_code == 403
        assert (
            ask("POST", f"/users/{name}/keys", name, json={"label": "x", "role": "administrator"}).status_code
            == 403
        )
        assert ask("POST", "/users", name, json={"name": "eve", "role": "administrator"}).status_code == 403
        assert ask("GET", "/auth/me", name).json()["role"] == name
    machines = keys_of(ask)
    for role in ROLES:  # a key makes no account and no key, not even an administrator's
        told = ask("POST", "/users", headers=machines[role], json={"name": "eve"})
        assert word(told) == (403, "forbidden")
        assert role != "administrator" or "key opens neither" in told.json()["detail"]
        assert word(ask("POST", "/users/analyst/keys", headers=machines[role], json={"label": "x"})) == (
            403,
            "forbidden",
        )
        assert word(ask("PATCH", "/users/analyst", headers=machines[role], **patch)) == (403, "forbidden")
        assert ask("GET", "/auth/sessions", headers=machines[role]).status_code == 403
    told = ask("POST", "/users/analyst/keys", "administrator", json={"label": "x", "role": "administrator"})
    assert word(told) == (422, "invalid") and "at most analyst" in told.json()["detail"]
    for more in ({"sub": "x"}, {"password": OTHER}, {"disabled": False}):
        assert ask("POST", "/users", "administrator", json={"name": "eve", **more}).status_code == 422
    form = {"username": "analyst", "password": PASSWORD, "role": "administrator", "scope": "administrator"}
    assert ask("POST", "/auth/token", data=form).json()["role"] == "analyst"


def test_an_analyst_promotes_nothing_by_training(ask):
    for key in ({"as_": "analyst"}, {"headers": keys_of(ask)["analyst"]}):
        assert word(ask("POST", "/train", json={"promote": True}, **key)) == (403, "forbidden")
    assert word(ask("POST", "/train", "analyst", json={"parameters": {"promote": True}})) == (422, "invalid")
    assert word(ask("POST", "/train", "administrator", json={"parameters": {"experiment": "other"}})) == (
        422,
        "invalid",
    )
    assert ask("GET", "/jobs", "analyst").json()["total"] == 0
    job = ask("POST", "/train", "boss", json={"promote": True}).json()
    with sqlite3.connect(ask.api.jobs.path) as db:
        assert json.loads(db.execute("SELECT words FROM jobs WHERE id = ?", (job["id"],)).fetchone()[0])[
            4:8
        ] == ["run", "--profile=test", "--experiment=default", "--promote"]
    assert read_audit(ask.accounts.store, what="train").outcome.tolist() == ["queued, to be promoted"]


def test_what_is_taken_away_is_gone_at_once(ask):
    machine = {"x-api-key": new_key(ask.accounts, "boss", "ci", "administrator")}
    assert ask("POST", "/models/rollback", headers=machine, json={"experiment": "main"}).status_code != 403
    assert (
        ask("PATCH", "/users/boss", "administrator", json={"role": "read_only"}).json()["role"] == "read_only"
    )
    assert (
        ask("GET", "/users", "boss").status_code
        == ask("POST", "/models/rollback", headers=machine, json={"experiment": "main"}).status_code
        == 403
    )
    assert ask("GET", "/models", "boss").status_code == 200
    assert ask("PATCH", "/users/boss", "administrator", json={"disabled": True}).json() | {"created": 0} == {
        "name": "boss",
        "role": "read_only",
        "disabled": True,
        "must_change": False,
        "second_factor": False,
        "sessions": 0,
        "created": 0,
    }
    assert (
        word(ask("GET", "/models", "boss"))
        == word(ask("GET", "/models", headers=machine))
        == (401, "revoked")
    )
    assert word(ask("POST", "/auth/token", data={"username": "boss", "password": PASSWORD})) == (
        401,
        "bad-credentials",
    )
    assert (
        ask("PATCH", "/users/boss", "administrator", json={"disabled": False, "role": "analyst"}).json()[
            "role"
        ]
        == "analyst"
    )
    assert ask.login("boss")["role"] == "analyst"


def test_one_administrator_remains(ask):
    assert ask("PATCH", "/users/boss", "administrator", json={"role": "analyst"}).status_code == 200
    for change in (
        {"role": "analyst"},
        {"disabled": True},
        {"role": "administrator", "disabled": True},
        {"role": "read_only", "disabled": True},
    ):
        assert word(ask("PATCH", "/users/administrator", "administrator", json=change)) == (
            409,
            "last-administrator",
        )
        assert ask("GET", "/users/administrator", "administrator").json()["disabled"] is False
    assert word(ask("PATCH", "/users/administrator", "administrator", json={})) == (422, "invalid")


# ---- the second factor

def test_without_a_second_factor_there_is_no_token(strict):
    ask, mine = strict, {"username": "boss", "password": PASSWORD}
    assert word(ask("POST", "/auth/token", data=mine)) == (403, "enrolment-needed")
    changed = ask("POST", "/auth/password", json=mine | {"new_password": OTHER})
    assert word(changed) == (403, "enrolment-needed")
    assert changed.json()["detail"].startswith("The password is changed.")
    mine["password"] = OTHER
    assert word(ask("POST", "/auth/confirm", json=mine | {"code": "123456"})) == (409, "not-enrolled")
    secret = ask("POST", "/auth/enrol", json=mine).json()["secret"]
    totp, at = pyotp.TOTP(secret), int(ask.clock())
    assert word(ask("POST", "/auth/confirm", json=mine | {"code": "000000"})) == (401, "bad-credentials")
    codes = ask("POST", "/auth/confirm", json=mine | {"code": totp.at(at)}).json()["recovery_codes"]
    assert len(set(codes)) == 10
    assert word(ask("POST", "/auth/token", data=mine)) == (401, "second-factor-needed")
    assert word(ask("POST", "/auth/token", data=mine | {"code": totp.at(at)})) == (
        401,
        "bad-credentials",
    )  # used up by confirming
    ask.clock.ahead = 60
    now = totp.at(int(ask.clock()))
    assert ask("POST", "/auth/token", data=mine | {"code": now}).status_code == 200
    assert word(ask("POST", "/auth/token", data=mine | {"code": now})) == (401, "bad-credentials")  # replayed
    assert ask("POST", "/auth/token", data=mine | {"code": codes[0]}).status_code == 200
    assert word(ask("POST", "/auth/token", data=mine | {"code": codes[0]})) == (401, "bad-credentials")
    assert word(ask("POST", "/auth/enrol", json=mine)) == (
        401,
        "second-factor-needed",
    )  # the password alone replaces nothing
    assert word(ask("POST", "/auth/enrol", json=mine | {"code": "000000"})) == (401, "bad-credentials")
    assert ask("POST", "/auth/enrol", json=mine | {"code": codes[1]}).status_code == 200


def test_codes_are_guessed_no_faster_than_passwords(strict):
    ask, mine = strict, {"username": "boss", "password": PASSWORD}
    ask("POST", "/auth/enrol", json=mine)
    for path in ("/auth/confirm",):
        told = [ask("POST", path, json=mine | {"code": f"{n:06}"}, address=f"192.0.2.{n}") for n in range(8)]
        assert [t.status_code for t in told] == [401] * 5 + [429] * 3
        assert all(int(t.headers["retry-after"]) >= 1 for t in told[5:])
    assert (
        ask("POST", "/auth/confirm", json=mine | {"code": "1"}, address="192.0.2.99").status_code == 429
    )  # the same count
    assert ask("POST", "/auth/enrol", json=mine, address="192.0.2.99").status_code == 200  # which is no guess


def test_setting_up_is_no_way_to_be_locked_out(strict):
    """Asking too early is no failed log-in."""
    ask, mine = strict, {"username": "boss", "password": PASSWORD}
    for _ in range(12):
        assert ask("POST", "/auth/confirm", json=mine | {"code": "1"}).status_code == 409
    assert ask("POST", "/auth/enrol", json=mine).status_code == 200


def test_a_lost_telephone(strict):
    ask, mine = strict, {"username": "boss", "password": PASSWORD}
    secret = ask("POST", "/auth/enrol", json=mine).json()["secret"]
    codes = ask(
        "POST", "/auth/confirm", json=mine | {"code": pyotp.TOTP(secret).at(int(ask.clock()))}
    ).json()["recovery_codes"]
    ask.login("boss", code=codes[0])
    reset = ask("POST", "/users/boss/reset-mfa", "boss")
    assert reset.status_code == 200 and reset.json()["second_factor"] is False
    assert word(ask("GET", "/users", "boss")) == (401, "revoked")
    assert word(ask("POST", "/auth/token", data=mine | {"code": codes[1]})) == (403, "enrolment-needed")


# ---- sessions and passwords

def test_a_new_password_of_ones_own_ends_the_other_sessions(ask):
    old, machine = ask.tokens["analyst"], {"x-api-key": new_key(ask.accounts, "analyst", "m")}
    told = ask(
        "POST", "/auth/password", json={"username": "analyst", "password": PASSWORD, "new_password": OTHER}
    )
    ask.tokens["analyst"] = told.json()["access_token"]
    assert word(ask("GET", "/models", headers={"authorization": f"Bearer {old}"})) == (401, "revoked")
    assert ask("GET", "/models", "analyst").status_code == 200
    assert ask("GET", "/models", headers=machine).status_code == 200
    for wrong in (PASSWORD[:5], "analyst-analyst", "aaaaaaaaaaaaaaaa"):
        assert word(
            ask(
                "POST",
                "/auth/password",
                json={"username": "analyst", "password": OTHER, "new_password": wrong},
            )
        ) == (422, "invalid")


def test_sessions_are_seen_and_ended_by_their_owner(ask):
    first = ask.tokens["analyst"]
    ask.login("analyst")
    found = ask("GET", "/v1/auth/sessions", "analyst").json()["sessions"]
    assert [s["current"] for s in found].count(True) == 1 and len(found) == 2
    assert found[0]["address"] == "198.51.100.1"
    other = next(s["id"] for s in found if not s["current"])
    assert word(ask("DELETE", f"/auth/sessions/{other}", "read_only")) == (
        404,
        "unknown-session",
    )  # somebody else's
    assert ask("DELETE", f"/auth/sessions/{other}", "analyst").json() == {"done": True}
    assert word(ask("GET", "/models", headers={"authorization": f"Bearer {first}"})) == (401, "revoked")
    assert word(ask("DELETE", f"/auth/sessions/{other}", "analyst")) == (404, "unknown-session")
    assert ask("DELETE", "/users/analyst/sessions", "administrator").json() == {"ended": 1}
    assert word(ask("GET", "/models", "analyst")) == (401, "revoked")


# ---- what is shown once

def test_secrets_are_in_one_answer_and_nowhere_else(ask, caplog):
    from mlfin.monitor.logs import setup_logs

    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    setup_logs(ask.api.settings)
    logging.getLogger().addHandler(handler)
    try:
        with caplog.at_level(logging.DEBUG):
            made = ask("POST", "/users", "administrator", json={"name": "Eve", "role": "analyst"})
            once = made.json()["one_time_password"]
            again = ask("POST", "/users/eve/password", "administrator").json()["one_time_password"]
            first = ask(
                "POST", "/auth/password", json={"username": "eve", "password": again, "new_password": OTHER}
            ).json()
            key = ask(
                "POST",
                "/users/eve/keys",
                "administrator",
                json={"label": "collector", "role": "analyst", "days": 3},
            ).json()
            mine = {"username": "eve", "password": OTHER}
            secret = ask("POST", "/auth/enrol", json=mine).json()["secret"]
            codes = ask(
                "POST", "/auth/confirm", json=mine | {"code": pyotp.TOTP(secret).at(int(ask.clock()))}
            ).json()["recovery_codes"]
            for wrong in (once, "guess-in-the-clear"):
                assert (
                    ask("POST", "/auth/token", data={"username": "eve", "password": wrong}).status_code == 401
                )
            ask("POST", "/auth/token", data={"username": "password-as-name", "password": "x"})
            ask("GET", f"/audit?who={OTHER}", "administrator")
            assert ask("GET", "/models", headers={"x-api-key": key["key"]}).status_code == 200
    finally:
        logging.getLogger().removeHandler(handler)
    assert made.status_code == 201
    secrets = [
        once,
        again,
        OTHER,
        key["key"],
        secret,
        *codes,
        first["access_token"],
        first["refresh_token"],
        "guess-in-the-clear",
        "password-as-name",
    ]
    shown = "".join(
        ask("GET", path, "administrator").text
        for path in ("/users", "/users/eve", "/users/eve/keys", "/audit?limit=1000&check=true")
    )
    files = (
        "".join(p.read_text(errors="replace") for p in (ask.folder / ".mlfin").rglob("*.log*"))
        + stream.getvalue()
        + caplog.text
    )
    kept = "".join(
        str(tuple(r))
        for t in ("users", "recovery", "sessions", "refresh", "keys", "audit")
        for r in ask.accounts.store.rows(f"SELECT * FROM auth_{t}")
    )
    assert "eve" in shown and "eve" in kept and "/users/eve/keys" in files
    assert [s for s in secrets if s in shown or s in files or s in kept] == []


def test_keys_are_listed_without_themselves_and_ended(ask):
    made = [
        ask("POST", "/users/analyst/keys", "administrator", json={"label": f"m{n}", "role": "analyst"})
        for n in range(3)
    ]
    assert [m.status_code for m in made] == [201] * 3
    page = ask("GET", "/users/ANALYST/keys?limit=2&offset=2", "administrator").json()
    assert (page["total"], len(page["items"])) == (3, 1) and "key" not in page["items"][0]
    one = made[0].json()
    ended = ask("DELETE", f"/keys/{one['id']}", "boss").json()
    assert ended["id"] == one["id"] and ended["revoked"]
    assert word(ask("GET", "/models", headers={"x-api-key": one["key"]})) == (401, "revoked")
    assert word(ask("DELETE", "/keys/0", "boss")) == (404, "unknown-key")
    assert (
        word(ask("GET", "/users/nobody/keys", "boss"))
        == word(ask("PATCH", "/users/nobody", "boss", json={"role": "analyst"}))
        == (404, "unknown-user")
    )


def test_names_that_look_alike_are_one(ask):
    assert word(ask("POST", "/users", "administrator", json={"name": "ＢＯＳＳ"})) == (409, "name-taken")
    assert ask("GET", "/users/BOSS", "administrator").json()["name"] == "boss"
    assert ask("GET", "/users?offset=1&limit=2", "administrator").json()["total"] == 4


# ---- who did what

def test_the_audit_is_paged_filtered_and_checked(ask):
    for n in range(3): ask("POST", "/users", "boss", json={"name": f"eve{n}"})
    machine = {"x-api-key": new_key(ask.accounts, "boss", "ci", "administrator")}
    found = ask("GET", "/audit?who=boss&what=add%20user&limit=2&check=true", "administrator").json()
    assert (found["total"], [d["target"] for d in found["items"]]) == (3, ["eve2", "eve1"])
    assert found["chain"]["whole"]
    assert all(d["request"] and d["address"] == "127.0.0.1" for d in found["items"])
    assert found["items"][0]["detail"] == {"role": "read_only"}
    assert (
        ask("GET", "/audit?offset=2&limit=2&who=boss&what=add%20user", "boss").json()["items"][0]["target"]
        == "eve0"
    )
    job = ask("POST", "/train", headers=machine, json={}).json()
    deed = ask("GET", "/audit?what=train", "boss").json()["items"][0]
    assert (deed["who"], deed["target"], deed["detail"]["key"]) == (
        "boss",
        f"job {job['id']}",
        machine["x-api-key"].split("_")[2],
    )
    with sqlite3.connect(ask.folder / "accounts.sqlite") as db:
        db.execute("DROP TRIGGER auth_audit_update")
        db.execute("UPDATE auth_audit SET who = 'analyst' WHERE target = 'eve1'")
    chain = ask("GET", "/audit?check=true&limit=1", "administrator").json()["chain"]
    assert chain["whole"] is False and "is not as it was written" in chain["says"] and chain["head"] == ""


# ---- jobs

def test_one_training_at_a_time_and_the_others_say_what_they_wait_for(ask):
    first, again = (ask("POST", "/train", "analyst", json={"experiment": "one"}) for _ in range(2))
    assert (
        first.status_code == again.status_code == 202 and first.json()["id"] == again.json()["id"]
    )  # pressed twice
    assert first.json()["waits_for"] is None
    second = ask("POST", "/train", "analyst", json={"experiment": "one", "parameters": {"seed": 8}}).json()
    third = ask("POST", "/train", "analyst", json={"experiment": "one", "parameters": {"seed": 9}}).json()
    assert (second["waits_for"], third["waits_for"]) == (first.json()["id"], second["id"])
    assert ask("POST", "/train", "analyst", json={"experiment": "two"}).json()["waits_for"] is None
    listed = {j["id"]: j["waits_for"] for j in ask("GET", "/jobs?state=queued", "analyst").json()["items"]}
    assert len(listed) == 4 and listed[third["id"]] == second["id"] and listed[first.json()["id"]] is None
    with sqlite3.connect(ask.api.jobs.path) as db:
        db.execute("UPDATE jobs SET state = 'running' WHERE id = ?", (third["id"],))
    assert (
        ask("GET", f"/jobs/{first.json()['id']}", "analyst").json()["waits_for"] == third["id"]
    )  # what runs comes first
    fourth = ask("POST", "/train", "analyst", json={"experiment": "one", "parameters": {"seed": 9}}).json()
    assert fourth["id"] != third["id"] and fourth["state"] == "queued"  # the one that runs is not the same


def test_only_what_has_ended_is_forgotten(ask):
    job = ask("POST", "/train", "analyst", json={}).json()["id"]
    assert word(ask("DELETE", f"/jobs/{job}", "analyst")) == (409, "job-not-ended")
    assert ask("POST", f"/jobs/{job}/cancel", "analyst").json()["state"] == "cancelled"
    (ask.api.jobs.folder / job / "1").mkdir(parents=True)
    assert ask("DELETE", f"/jobs/{job}", "analyst").json() == {"done": True}
    assert word(ask("GET", f"/jobs/{job}", "analyst")) == (404, "unknown-job")
    assert not (ask.api.jobs.folder / job).exists()


def test_recent_bars_come_from_where_the_experiment_has_its_own(ask):
    def words(body):
        job = ask("POST", "/ingest/run", "analyst", json=body)
        assert job.status_code == 202, job.text
        with sqlite3.connect(ask.api.jobs.path) as db:
            return json.loads(
                db.execute("SELECT words FROM jobs WHERE id = ?", (job.json()["id"],)).fetchone()[0]
            )[4:]

    usual = ["ingest", "--profile=test", "--events={events}"]
    assert words({}) == words({"experiment": "default"}) == usual  # env.yaml's own
    assert words({"symbols": ["IBM"]}) == [*usual, "--symbols=IBM"]
    question = {
        "source": "csv",
        "path": "btc.csv",
        "symbols": ["BTC/USDT"],
        "timeframe": "1h",
        "tz": "UTC",
        "calendar": "24/7",
        "start": None,
        "end": None,
    }
    place = ask.api.settings.reports_dir("btc")
    place.mkdir(parents=True)
    (place / "run.json").write_text(json.dumps({"parameters": question}))
    assert word(ask("POST", "/ingest/run", "analyst", json={"experiment": "btc"})) == (
        422,
        "invalid",
    )  # the run may have been at a terminal
    (folder := ask.api.settings.root / "bars").mkdir()
    (folder / "btc.csv").touch()
    ask.api.jobs.settings = ask.api.settings.model_copy(update={"data_dirs": (str(folder),)})
    (place / "run.json").write_text(json.dumps({"parameters": question | {"path": "bars/btc.csv"}}))
    assert words({"experiment": "btc"}) == [
        *usual,
        "--symbols=BTC/USDT",
        "--timeframe=1h",
        "--tz=UTC",
        "--calendar=24/7",
        "--",
        "csv:bars/btc.csv",
    ]
    assert "--symbols=ETH/USDT" in words({"experiment": "btc", "symbols": ["ETH/USDT"]})
    told = ask("POST", "/ingest/run", "analyst", json={"experiment": "btd"})
    assert word(told) == (404, "unknown-experiment") and "did you mean `btc`" in told.json()["detail"]
    assert word(ask("POST", "/ingest/run", "analyst", json={"experiment": "../btc"})) == (422, "invalid")


def test_every_message_of_people_has_an_example_that_it_takes(ask):
    from typing import get_type_hints

    from mlfin.api.documentation import example_of
    for _, _, function, _ in ACCOUNT_ROUTES:
        hints = get_type_hints(function)
        hints["return"].model_validate(example_of(hints["return"]))
        if hasattr(hints.get("body"), "model_validate"):
            hints["body"].model_validate(example_of(hints["body"], whole=False))
