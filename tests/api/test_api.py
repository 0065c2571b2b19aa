"""The service over HTTP: what a collector, an analyst and an attacker meet, with a real champion and a real
lake."""
import asyncio
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import numpy as np
import pandas as pd
import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from mlfin.store.lake import Lake  # noqa: E402
from mlfin.features.table import compute_features  # noqa: E402
from mlfin.datasets.inputs import model_inputs  # noqa: E402
from mlfin.registry.registry import load_champion  # noqa: E402
from mlfin.monitor.logs import JsonFormatter  # noqa: E402
from mlfin.api.api import Api, create_app  # noqa: E402
from mlfin.predict.messages import MOST_SYMBOLS  # noqa: E402
from mlfin.accounts.roles import ROLES, ROUTES, Unavailable  # noqa: E402
from mlfin.api.service import Service  # noqa: E402
from mlfin.accounts.users import list_keys, new_key  # noqa: E402

from ..fixtures.asking import PASSWORD, Client, accounts_of_each_role  # noqa: E402

def as_wire(bars):
    return [dict(symbol=b.symbol, timeframe=b.timeframe, ts=b.ts.isoformat(), open=b.open, high=b.high,
                 low=b.low, close=b.close, volume=b.volume)
            for b in bars.itertuples(index=False)]


@contextmanager
def asked(champion, folder):
    """A service with a store and accounts in a folder, and somebody of each role logged in; the champion's
    last sixty days are not in the store."""
    settings, bars = champion
    settings = settings.model_copy(update={"store": str(folder / "lake"),
                                           "accounts": f"sqlite:///{folder}/accounts.sqlite"})
    lake = Lake(folder / "lake")
    lake.write(bars[bars.ts <= bars.ts.max() - pd.Timedelta("60D")].reset_index(drop=True))
    accounts = accounts_of_each_role(settings.accounts)
    app = create_app(settings, Api(settings, Service(settings, lake), accounts))
    client = Client(app)
    for role in ROLES:
        client.login(role)
    client.lake, client.bars, client.settings, client.api = lake, bars, settings, app.api
    yield client
    app.api.service.close()


@pytest.fixture
def ask(champion, tmp_path):
    with asked(champion, tmp_path) as client:
        yield client


@pytest.fixture(scope="module")
def refusing(champion, tmp_path_factory):
    """A service for requests that change nothing."""
    with asked(champion, tmp_path_factory.mktemp("refusing")) as client:
        yield client


@pytest.mark.parametrize("last", [6, pytest.param(20, marks=pytest.mark.slow)])
def test_posted_bars_give_exactly_the_batchs_probabilities(ask, last):
    bars, champion = ask.bars, load_champion(ask.settings, "main")
    features = champion.manifest["features"]
    table = model_inputs(compute_features(bars, features, short="nan"), bars, features).dropna().reset_index(
        drop=True)
    batch = pd.Series(champion.predict(table), index=pd.MultiIndex.from_frame(table[["symbol", "ts"]]))
    compared, days = 0, np.sort(bars.ts.unique())
    ask.lake.write(
        bars[(bars.ts > ask.lake.read(timeframe="1d").ts.max()) & (bars.ts < days[-last])].reset_index(
            drop=True))
    for ts in days[-last:]:
        new = bars[bars.ts == ts].reset_index(drop=True)
        told = ask("POST", "/ingest", "analyst", json={"bars": as_wire(new), "source": "mt5"})
        assert told.status_code == 200
        assert told.json() == {"received": len(new), "stored": len(new), "refused": []}
        for signal in ask("GET", "/v1/signals?timeframe=D1&experiment=main", "read_only").json()["signals"]:
            assert pd.Timestamp(signal["ts"]) == ts and not signal["reason"]
            assert signal["probability"] == batch.loc[signal["symbol"], pd.Timestamp(ts)]
            compared += 1
    assert compared == 2 * last
    said = ask("POST", "/predict", "read_only",
               json={"experiment": "main", "symbol": "AAA"}).json()["predictions"][0]
    assert said["probability"] == batch.loc["AAA", bars.ts.max()]
    assert said["baseline"] is not None and said["price_baseline"] == said["close"]
    given = ask("POST", "/predict", "read_only", json={
        "experiment": "main", "bars": as_wire(bars[bars.symbol == "AAA"].tail(600))}).json()["predictions"][0]
    assert given["symbol"] == "AAA" and given["ts"] == said["ts"]


def test_what_was_said_is_kept(ask):
    ask("POST", "/predict", "read_only", json={"experiment": "main", "symbols": ["AAA", "BBB"]})
    assert ask.api.service.predictors.get("main").flush()
    kept = ask.lake.read_predictions()
    assert set(kept.symbol) == {"AAA", "BBB"} and kept.model.iloc[0].endswith("main")


def test_sending_again_is_harmless_and_bad_bars_are_named(ask):
    bars = ask.bars.tail(3)
    wire = as_wire(bars)
    for _ in range(2):
        assert ask("POST", "/ingest", "analyst", json={"bars": wire}).json()["stored"] == 3
    assert (len(ask.lake.read(timeframe="1d"))
            == len(ask.bars[ask.bars.ts <= ask.bars.ts.max() - pd.Timedelta("60D")]) + 3)
    odd = ask("POST", "/ingest", "analyst", json={"bars": [wire[0] | {"low": -1.0}, wire[1]]}).json()
    assert odd["stored"] == 1 and odd["refused"][0]["index"] == 0 and odd["refused"][0]["reason"]
    latest = ask("GET", "/prices/latest?timeframe=1d&symbol=BBB", "read_only").json()
    assert latest["total"] == 1
    assert latest["items"][0]["close"] == pytest.approx(bars[bars.symbol == "BBB"].close.iloc[-1])


def one(ts="2024-01-01T00:00:00Z", open="1", timeframe="1m"):
    return (f'{{"bars": [{{"symbol": "A", "timeframe": "{timeframe}", "ts": "{ts}", "open": {open}, "high": '
            f'1, "low": 1, "close": 1, "volume": 1}}]}}')


@pytest.mark.parametrize("body, field", [
    ('{"bars": []}', "bars"), ('{"bars": [{"symbol": "A B"}]}', "bars.0.symbol"), ("[1", "body"),
    ("", "body"), ('{"bars": [1e999]}', "bars.0"), (one(ts="2024-01-01T00:00:00"), "bars.0.ts"),
    (one(ts="2999-01-01T00:00:00Z"), "bars.0.ts"), (one(open="NaN"), "bars.0.open"),
    (one(timeframe="7m"), "bars.0.timeframe"),
    ("[" * 20_000, "body"), ('{"bars": ' + "[" * 20_000, "body")])
def test_a_field_that_is_wrong_is_named(refusing, body, field):
    told = refusing("POST", "/ingest", "analyst", content=body)
    assert told.status_code == 422 and told.headers["content-type"] == "application/problem+json", told.text
    assert field in {e["field"] for e in told.json()["errors"]}, told.text


@pytest.mark.parametrize("symbol",
                         ["A'; DROP TABLE bars; --", "../../etc/passwd", "A\x00B", "%2e%2e", "x" * 65, "🜁"])
def test_symbols_are_names_and_nothing_else(refusing, symbol):
    before = len(refusing.lake.read(timeframe="1d"))
    assert refusing("POST", "/predict", "read_only",
                    json={"experiment": "main", "symbol": symbol}).status_code == 422
    assert refusing("GET", "/prices/latest", "read_only",
                    params={"symbol": symbol, "timeframe": "1d"}).status_code == 422
    assert refusing("GET", "/signals", "read_only", params={"symbol": symbol}).status_code == 422
    assert len(refusing.lake.read(timeframe="1d")) == before


def test_the_table_of_roles_and_the_routes_are_one_and_the_same(refusing):
    there = {f"{method} {route.path.removeprefix('/v1')}" for route in refusing.app.app.routes
             for method in route.methods - {"HEAD"}}
    assert there == set(ROUTES)
    document = refusing("GET", "/openapi.json").json()
    shown = {f"{method.upper()} {path.removeprefix('/v1')}" for path, methods in document["paths"].items()
             for method in methods}
    assert shown == there - {"GET /openapi.json", "GET /docs"}


def test_roles_are_held_over_http(ask):
    bar = {"bars": as_wire(ask.bars.tail(1))}
    assert ask("POST", "/ingest", json=bar).status_code == 401
    assert ask("POST", "/ingest", "read_only", json=bar).status_code == 403
    assert ask("POST", "/models/1/promote", "analyst", json={"experiment": "main"}).status_code == 403
    assert (ask("POST", "/models/1/promote", "administrator", json={"experiment": "main"}).json()["type"]
            == "/problems/already-champion")
    key = new_key(ask.api.accounts, "administrator", "collector", role="analyst")
    secret = key if isinstance(key, str) else key[-1]
    assert ask("POST", "/v1/ingest", headers={"x-api-key": secret}, json=bar).status_code == 200
    assert ask("POST", "/models/1/promote", headers={"x-api-key": secret},
               json={"experiment": "main"}).status_code == 403


def test_a_session_ends_at_once(ask):
    first = ask.login("analyst")
    assert ask("GET", "/auth/me", "analyst").json() == {"name": "analyst", "role": "analyst", "kind": "user"}
    again = ask("POST", "/auth/refresh", json={"refresh_token": first["refresh_token"]})
    assert again.status_code == 200
    assert ask("POST", "/auth/refresh", json={"refresh_token": first["refresh_token"]}).status_code == 401
    # the whole family
    assert (ask("POST", "/auth/refresh", json={"refresh_token": again.json()["refresh_token"]}).status_code
            == 401)
    assert ask("GET", "/auth/me", "analyst").status_code == 401
    ask.login("analyst")
    assert ask("POST", "/auth/logout", "analyst").json() == {"done": True}
    assert ask("GET", "/auth/me", "analyst").status_code == 401


def test_a_store_that_is_away_is_a_503_and_then_it_is_back(ask, monkeypatch):
    def away(bars, origin="push"):
        try:
            raise OSError(28, "No space left on device")
        except OSError as e:
            from mlfin.core.errors import DataError
            raise DataError("The journal could not be used.") from e
    bar = {"bars": as_wire(ask.bars.tail(1))}
    with monkeypatch.context() as patched:
        patched.setattr(ask.lake, "push", away)
        told = ask("POST", "/ingest", "analyst", json=bar)
        assert told.status_code == 503 and told.headers["retry-after"] == "1"
        assert "send the same request again" in told.json()["detail"]
    assert ask("POST", "/ingest", "analyst", json=bar).status_code == 200
    with monkeypatch.context() as patched:
        patched.setattr(ask.api.accounts.store, "one", lambda *a, **k: (_ for _ in ()).throw(Unavailable()))
        ask.api.accounts.cache.expire()
        assert ask("GET", "/models", "analyst").status_code == 503
    assert ask("GET", "/models", "analyst").status_code == 200


def test_a_registry_that_is_away_is_a_503_too(ask):
    from pathlib import Path

    path = Path(ask.settings.mlflow.partition(":///")[2])
    aside = path.with_name("aside.db")
    path.rename(aside)
    path.write_text("no database " * 1000)
    try: told = ask("POST", "/models/1/promote", "administrator", json={"experiment": "main"})
    finally: aside.rename(path)
    assert told.status_code == 503 and told.json()["type"] == "/problems/unavailable" and told.headers[
        "retry-after"] == "1", told.text
    assert ask("POST", "/models/1/promote", "administrator", json={"experiment": "main"}).status_code == 409


def test_what_nobody_foresaw_tells_nothing(ask, monkeypatch):
    monkeypatch.setattr(ask.api.service.model_admin, "models", lambda *a: 1 / 0)
    told = ask("GET", "/models", "analyst")
    assert told.status_code == 500 and "division" not in told.text
    assert told.json()["request_id"] == told.headers["x-request-id"]


@pytest.mark.parametrize("path, part, what",
                         [("/models", "model_admin", "models"), ("/v1/signals", "forecaster", "signals")])
def test_what_nobody_foresaw_is_in_the_log_under_its_id(refusing, monkeypatch, caplog, path, part, what):
    monkeypatch.setattr(getattr(refusing.api.service, part), what, lambda *a: 1 / 0)
    told = refusing("GET", path, "analyst", headers={"x-request-id": f"find-{what}"})
    assert (told.status_code, told.json()["request_id"]) == (500, f"find-{what}")
    line = next(json.loads(JsonFormatter().format(r)) for r in caplog.records if r.message == "unforeseen")
    assert line["request_id"] == f"find-{what}" and line["exception"][0]["type"] == "ZeroDivisionError"


@pytest.mark.parametrize("path, more",
                         [("/v1/prices/latest", "limit=500&offset=0"), ("/signals", "experiment=main")])
def test_as_many_symbols_as_a_request_may_name(refusing, path, more):
    """All of them beside every other field; one more is refused in words, and so is a heap of fields."""
    def told(n, *fields):
        return refusing("GET", f"{path}?" + "&".join(["timeframe=1d", more, *fields,
                                                      *(f"symbol=S{i}" for i in range(n))]), "read_only")

    assert told(MOST_SYMBOLS).json()["type"] == "/problems/unknown-symbol"  # it was read, and looked for
    for answer in (told(MOST_SYMBOLS + 1), told(2 * MOST_SYMBOLS), told(1, *["x="] * 2_000)):
        assert answer.status_code == 422 and answer.headers[
            "content-type"] == "application/problem+json", answer.text


def test_a_form_of_many_fields_is_refused_in_words(refusing):
    told = refusing("POST", "/v1/auth/token", content="&".join(["a=1"] * 101))
    assert told.status_code == 422 and told.json()[
        "type"] == "/problems/invalid" and "at most 100 fields" in told.json()["detail"], told.text
    assert "username" in refusing("POST", "/v1/auth/token", content="&".join(["a=1"] * 100)).json()["detail"]


def test_jobs_are_asked_for_and_cancelled(ask):
    job = ask("POST", "/train", "analyst", json={"experiment": "main", "parameters": {"label": "fwd_ret_10"}})
    assert job.status_code == 202 and job.json()["state"] == "queued"
    assert ask("GET", f"/v1/jobs/{job.json()['id']}", "read_only").json() | {"created_at": ""} == {
        "id": job.json()["id"], "kind": "train", "state": "queued", "created_at": "", "full": False, "by": "",
        "experiment": None, "progress": None,
        "started_at": None, "ended_at": None, "waits_for": None, "says": "", "result": {}, "log": []}
    assert ask("GET", "/jobs?state=queued", "read_only").json()["total"] == 1
    assert ask("POST", f"/jobs/{job.json()['id']}/cancel", "analyst").json()["state"] == "cancelled"
    assert ask("GET", "/jobs/nothing", "read_only").status_code == 404
    wrong = ask("POST", "/train", "analyst", json={"parameters": {"lable": "x"}})
    assert wrong.status_code == 422 and "did you mean `label`" in wrong.json()["detail"]


def test_metrics_and_health(ask):
    ask("POST", "/ingest", "analyst", json={"bars": as_wire(ask.bars.tail(2))})
    assert ask("GET", "/health/live").json() == {"status": "ok"}
    assert ask("GET", "/metrics").status_code == 401
    told = ask("GET", "/metrics", "read_only")
    text = told.text
    assert told.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'ingest_candles_total{outcome="inserted",source="push",timeframe="1d"} 2.0' in text
    assert "http_requests_total" in text
    ready = ask("GET", "/health/ready", "read_only")
    assert ready.status_code in (200, 503) and ready.json()["status"] in ("ok", "warn", "fail", 503)


def test_what_is_checked_is_for_people_who_are_recognised(refusing, monkeypatch):
    checks = [{"name": "disk", "state": "warn", "words": "9 GiB free on /srv", "seconds": 0.1}]
    found = {"state": "warn", "ready": True, "checks": checks, "at": 1.7e9}
    monkeypatch.setattr(refusing.api.readiness, "ready", lambda: found)
    wrong = {"authorization": "Bearer x"}
    for as_, headers, many in ((None, {}, 0), ("read_only", {}, 1), (None, wrong, 0)):
        told = refusing("GET", "/health/ready", as_, headers)
        assert told.status_code == 200 and len(told.json()["checks"]) == many, told.text
    found |= {"ready": False, "state": "fail"}
    checks[0]["state"] = "fail"
    for told, words in ((refusing("GET", "/health/ready", "read_only"), True),
                        (refusing("GET", "/health/ready", headers=wrong), False)):
        assert told.status_code == 503 and ("/srv" in told.text) is words, told.text


def test_keys_that_others_can_read_are_a_503_in_words(refusing):
    """And what was read before serves on."""
    fresh = refusing.login("boss")["access_token"]
    keys = refusing.api.accounts.keys.path
    keys.chmod(0o644)
    try:
        told = refusing("GET", "/v1/auth/me", headers={"authorization": f"Bearer {fresh}"})
        stranger = refusing("POST", "/v1/auth/token", data={"username": "boss", "password": PASSWORD})
    finally:
        keys.chmod(0o600)
    assert stranger.status_code == 500 and stranger.json()["type"] == "/problems/settings" and str(
        keys.parent) not in stranger.text, stranger.text
    assert (told.status_code, told.json()["type"]) == (
        503, "/problems/unavailable") and "keys" not in told.json()["detail"], told.text
    assert (refusing("GET", "/v1/auth/me", headers={"authorization": f"Bearer {fresh}"}).json()["name"]
            == "boss")


def test_what_does_not_exist_is_a_404_and_says_what(ask):
    def told(method, path, **given):
        answer = ask(method, path, "administrator", **given)
        return answer.status_code, answer.json()["type"].removeprefix("/problems/")
    symbol, experiment = (404, "unknown-symbol"), (404, "unknown-experiment")
    assert told("POST", "/predict", json={"experiment": "main", "symbol": "AAAA"}) == symbol
    assert told("GET", "/prices/latest?timeframe=1d&symbol=AAA&symbol=AAAA") == symbol
    for query in ("symbol=AAAA", "symbol=AAA&symbol=AAAA", "symbol=AAAA&experiment=main",
                  "symbol=AAAA&timeframe=D1"):
        assert told("GET", f"/signals?{query}") == symbol, query
    assert told("GET", "/signals?symbol=AAA&timeframe=1h") == (409, "no-model")
    assert told("POST", "/predict", json={"experiment": "mian", "symbol": "AAA"}) == experiment
    assert told("GET", "/model/info?experiment=mian") == told("GET", "/signals?experiment=mian") == experiment
    for way in ("promote", "rollback"):
        assert told("POST", f"/models/7/{way}", json={"experiment": "main"}) == (404, "unknown-version")
        assert told("POST", f"/models/1/{way}", json={"experiment": "mian"}) == experiment
        assert told("POST", f"/models/1/{way}", json={"experiment": "main"}) == (409, "already-champion")
    assert told("POST", "/models/rollback", json={"experiment": "mian"}) == experiment
    assert told("POST", "/models/rollback", json={"experiment": "main"}) == (409, "no-earlier-champion")
    assert told("POST", "/ingest/run", json={"experiment": "mian"}) == experiment
    assert (told("GET", "/jobs/abc") == told("POST", "/jobs/abc/cancel") == told("DELETE", "/jobs/abc")
            == (404, "unknown-job"))
    told = ask("PUT", "/models", "administrator")
    assert (told.status_code, told.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert ask("HEAD", "/models", "administrator").status_code == 200


def test_a_version_is_judged_promoted_and_gone_back_from(ask):
    from mlfin.registry.registry import set_champion, register, write_verdict

    from ..fixtures import left_run
    from ..fixtures.served import SPECS

    left_run.leave(ask.settings, "main", key="b" * 32, specs=SPECS, bars=ask.bars, seed=2, must_track=False)
    made = register(ask.settings, "main")
    assert made.number == 2
    before = ask("GET", "/model/info?experiment=main", "administrator").json()["version"]
    refused = ask("POST", "/v1/models/2/promote", "administrator", json={"experiment": "main"})
    assert refused.status_code == 200 and refused.json()["promoted"] is False and refused.json()["reasons"]
    assert refused.json()["replaced"] == 1
    assert ask("GET", "/model/info?experiment=main", "administrator").json()["version"] == before == 1
    told = ask("POST", "/models/2/rollback", "administrator", json={"experiment": "main"})
    # it never was one
    assert (told.status_code, told.json()["type"]) == (409, "/problems/no-earlier-champion")
    write_verdict(ask.settings, made, "passed", "all is well", {"checks": []})
    set_champion(ask.settings, "main", 2, 1)
    ask.api.service.predictors.get("main").refresh(force=True)
    assert ask("GET", "/model/info?experiment=main", "administrator").json()["version"] == 2
    told = ask("POST", "/models/1/rollback", "administrator", json={"experiment": "main"}).json()
    assert (told["promoted"], told["version"], told["replaced"]) == (True, 1, 2)
    assert ask("GET", "/model/info?experiment=main", "administrator").json()["version"] == 1
    assert ask("GET", "/audit?what=rollback", "administrator").json()["items"][0]["target"].endswith(
        "main v1")


JOBS = ("/train", "/ingest/run")  # each would put a job into the queue: tried above


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("examples", [2, pytest.param(25, marks=pytest.mark.slow)])
def test_no_document_conforming_request_makes_a_500(ask, examples):
    """Every answer has a status, a type and a form that the document names."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.specs.openapi.checks import (content_type_conformance, response_schema_conformance,
                                                   status_code_conformance)

    document = ask("GET", "/openapi.json").json()
    schema, seen = schemathesis.openapi.from_dict(document), set()
    ask.login("boss")
    checks = [status_code_conformance, content_type_conformance, response_schema_conformance]

    def send(operation, case):
        path = operation.path
        for name, value in (case.path_parameters or {}).items():
            path = path.replace("{" + name + "}",
                                str(value).replace("/", "_").replace("?", "_").replace("#", "_") or "_")
        body = None if type(case.body).__name__ == "NotSet" else json.dumps(case.body).encode()
        try:
            told = ask(operation.method.upper(), path, "boss",
                       params={k: v for k, v in (case.query or {}).items() if v is not None}, content=body)
        except (httpx.InvalidURL, UnicodeEncodeError):
            return
        assert told.status_code != 500, (operation.method, path, body, told.text)
        if "/problems/not-found" not in told.text:  # a segment such as `.`, which is no route
            case.validate_response(told, checks=checks)
        if path.endswith("/auth/logout") or told.status_code == 401:
            ask.login("boss")
        seen.add((operation.path, told.status_code))

    def checked(operation):
        @given(case=operation.as_strategy())
        @settings(max_examples=examples, deadline=None, derandomize=True, phases=[Phase.generate],
                  suppress_health_check=list(HealthCheck), database=None)
        def check(case):
            send(operation, case)
        return check

    def example(operation):
        """The request that the document shows."""
        raw = document["paths"][operation.path][operation.method]
        bodies = [c["example"] for c in raw.get("requestBody", {}).get("content", {}).values()]
        names = {p["name"]: p.get("example", p["schema"].get("examples", ["7"])[0])
                 for p in raw.get("parameters", ()) if p["in"] == "path"}
        return operation.Case(path_parameters=names, **({"body": bodies[0]} if bodies else {}))

    operations = [result.ok() for result in schema.get_all_operations()]
    operations = [o for o in operations if not o.path.endswith(JOBS)]
    for operation in sorted(operations, key=lambda o: o.method == "delete"):  # what is deleted is shown last
        if not operation.path.endswith("/auth/token"): send(operation, example(operation))
        if (operation.path, operation.method) == ("/v1/users", "post"):
            send(operation, example(operation))  # the same name twice is a conflict
    for operation in operations:
        checked(operation)()
    statuses = {status for _, status in seen}
    assert {200, 201, 401, 404, 409, 422} <= statuses and {("/v1/users", 201), ("/v1/users", 409)} <= seen
    assert ("/v1/users/{name}/keys", 201) in seen
    assert {path for path, _ in seen} == {o.path for o in operations}


def test_a_host_mounts_it_under_a_prefix(ask):
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    import mlfin.api

    assert mlfin.api.create_app is create_app
    host = FastAPI(lifespan=ask.api.life)
    host.mount("/desk/mlfin", ask.app)
    host.get("/models")(lambda: "the host's own")
    mine = [{"authorization": f"Bearer {ask.tokens[role]}"} for role in ROLES]
    with TestClient(host, base_url="http://mlfin/desk/mlfin") as far, ThreadPoolExecutor(1) as thread:
        def asks(method, path, who=None, **given):
            return thread.submit(far.request, method, path,
                                 headers={} if who is None else mine[who], **given).result()

        for v in ("", "/v1"):
            assert asks("GET", f"{v}/auth/me", 1).json()["name"] == "analyst"
            assert asks("GET", f"{v}/auth/me").status_code == 401
            posted = asks("POST", f"{v}/ingest", 1, json={"bars": as_wire(ask.bars.tail(2))})
            assert posted.json()["received"] == 2
            assert asks("POST", f"{v}/ingest", 0, json={"bars": []}).status_code == 403
            said = asks("POST", f"{v}/predict", 0,
                        json={"symbol": "AAA", "experiment": "main"}).json()["predictions"]
            assert [p["symbol"] for p in said] == ["AAA"] and said[0]["probability"] is not None
            assert len(asks("GET", f"{v}/signals?experiment=main", 0).json()["signals"]) == 2
            assert asks("GET", f"{v}/users", 1).status_code == 403
            assert asks("GET", f"{v}/users/analyst", 2).json()["name"] == "analyst"
            assert asks("GET", f"{v}/nothing", 2).status_code == 404
            wrong = asks("POST", f"{v}/predict", 0, json={"symbol": 7}).json()
            assert (wrong["status"], wrong["instance"]) == (422, f"/desk/mlfin{v}/predict")
        assert asks("GET", "/health/live").json() == {"status": "ok"}
        assert asks("GET", "/health/ready").status_code in (200, 503)
        document, page = asks("GET", "/openapi.json").json(), asks("GET", "/docs").text
        assert document["servers"] == [{"url": "/desk/mlfin"}] and "/v1/predict" in document["paths"]
        assert (document["components"]["securitySchemes"]["password"]["flows"]["password"]["tokenUrl"]
                == "v1/auth/token")
        assert "/desk/mlfin/v1/predict" in page and "href='openapi.json'" in page
        assert "http_requests_total" in asks("GET", "/metrics", 0).text
        assert 'route="/predict"' in asks("GET", "/metrics", 0).text
        assert thread.submit(far.get, "http://mlfin/models").result().json() == "the host's own"
        # and asked for itself, it is as before
        assert ask("GET", "/v1/auth/me", "analyst").json()["name"] == "analyst"


def test_a_host_whose_work_fails_lets_go_of_it_all_the_same(refusing, monkeypatch):
    said = []
    for what, name in ((refusing.api.service.predictors, "warm"), (refusing.api, "close")):
        monkeypatch.setattr(what, name, lambda name=name: said.append(name))

    async def host():
        async with refusing.api.life():
            raise OSError("the host's own")

    with ThreadPoolExecutor(1) as thread, pytest.raises(OSError, match="the host's own"):
        thread.submit(asyncio.run, host()).result()
    assert said == ["warm", "close"]


def test_nobody_waits_while_another_process_writes_the_accounts(refusing):
    """First uses of keys are written down where that is possible at once; all are answered, and who comes
    with a token, too."""
    accounts, ways = refusing.api.accounts, refusing.api.rules().identify
    keys = [new_key(accounts, "analyst", f"late {n}", role="read_only") for n in range(4)]
    token, fresh = (accounts.issue("analyst", PASSWORD).access for _ in range(2))
    assert accounts.verify(token).name == "analyst"

    async def meanwhile():
        waits = asyncio.gather(*(ways("key", key) for key in keys), ways("bearer", fresh))
        while not waits.done():
            assert ways("bearer", token).name == "analyst"  # known: at once
            await asyncio.sleep(0.01)
        return await waits

    with (closing(sqlite3.connect(accounts.store.engine.url.database, isolation_level=None)) as other,
          ThreadPoolExecutor(1) as thread):
        other.execute("BEGIN IMMEDIATE")
        assert {person.name for person in thread.submit(asyncio.run, meanwhile()).result(60)} == {"analyst"}
    assert list_keys(accounts)[lambda f: f.label.str.startswith("late ")].used.isna().tolist() == [True] * 4
