"""The service over HTTP: what a collector, an analyst and an attacker meet, with a real champion and a real lake."""
import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from mlfin.data.lake import Lake  # noqa: E402
from mlfin.features.table import compute_features  # noqa: E402
from mlfin.models.dataset import model_inputs  # noqa: E402
from mlfin.models.registry import load_champion  # noqa: E402
from mlfin.serve.api import Api, create_app  # noqa: E402
from mlfin.serve.auth import Accounts  # noqa: E402
from mlfin.serve.credentials import Hashing  # noqa: E402
from mlfin.serve.roles import ROLES, ROUTES, Unavailable  # noqa: E402
from mlfin.serve.service import Service  # noqa: E402
from mlfin.serve.users import add_user, new_key  # noqa: E402

PASSWORD = "correct horse battery"
CHEAP = Hashing(time_cost=1, memory_kb=8, parallelism=1)


class Client:
    """Asks an application in this process, as somebody."""
    def __init__(self, app):
        self.app, self.tokens = app, {}

    def __call__(self, method, path, as_=None, headers=None, **given):
        async def ask():
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://mlfin") as client:
                mine = {"authorization": f"Bearer {self.tokens[as_]}"} if as_ else {}
                return await client.request(method, path, headers=mine | (headers or {}), **given)
        with ThreadPoolExecutor(1) as thread:  # a browser that another test of this worker drives may keep a loop here
            return thread.submit(asyncio.run, ask()).result()

    def login(self, name):
        answer = self("POST", "/v1/auth/token", data={"username": name, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        self.tokens[name] = answer.json()["access_token"]
        return answer.json()


def as_wire(bars):
    return [dict(symbol=b.symbol, timeframe=b.timeframe, ts=b.ts.isoformat(), open=b.open, high=b.high, low=b.low, close=b.close, volume=b.volume)
            for b in bars.itertuples(index=False)]


@pytest.fixture
def ask(champion, tmp_path):
    settings, bars = champion
    settings = settings.model_copy(update={"store": str(tmp_path / "lake"), "accounts": f"sqlite:///{tmp_path}/accounts.sqlite"})
    lake = Lake(tmp_path / "lake")
    lake.write(bars[bars.ts <= bars.ts.max() - pd.Timedelta("60D")].reset_index(drop=True))
    accounts = Accounts(settings.accounts, profile="test", hashing=CHEAP)
    for role in ROLES:
        add_user(accounts, role, role, PASSWORD)
    app = create_app(settings, Api(settings, Service(settings, lake), accounts))
    client = Client(app)
    for role in ROLES:
        client.login(role)
    client.lake, client.bars, client.settings, client.api = lake, bars, settings, app.api
    yield client
    app.api.service.close()


def test_posted_bars_give_exactly_the_batchs_probabilities(ask):
    bars, champion = ask.bars, load_champion(ask.settings, "main")
    features = champion.manifest["features"]
    table = model_inputs(compute_features(bars, features, short="nan"), bars, features).dropna().reset_index(drop=True)
    batch = pd.Series(champion.predict(table), index=pd.MultiIndex.from_frame(table[["symbol", "ts"]]))
    compared = 0
    for ts in np.sort(bars.ts.unique())[-60:]:
        new = bars[bars.ts == ts].reset_index(drop=True)
        told = ask("POST", "/ingest", "analyst", json={"bars": as_wire(new), "source": "mt5"})
        assert told.status_code == 200 and told.json() == {"received": len(new), "stored": len(new), "refused": []}
        for signal in ask("GET", "/v1/signals?timeframe=D1&experiment=main", "read_only").json()["signals"]:
            assert pd.Timestamp(signal["ts"]) == ts and not signal["reason"]
            assert signal["probability"] == batch.loc[signal["symbol"], pd.Timestamp(ts)]
            compared += 1
    assert compared == 120
    said = ask("POST", "/predict", "read_only", json={"experiment": "main", "symbol": "AAA"}).json()["predictions"][0]
    assert said["probability"] == batch.loc["AAA", bars.ts.max()]
    assert said["baseline"] is not None and said["price_baseline"] == said["close"]
    given = ask("POST", "/predict", "read_only", json={"experiment": "main", "bars": as_wire(bars[bars.symbol == "AAA"].tail(600))}).json()["predictions"][0]
    assert given["symbol"] == "AAA" and given["ts"] == said["ts"]


def test_what_was_said_is_kept(ask):
    ask("POST", "/predict", "read_only", json={"experiment": "main", "symbols": ["AAA", "BBB"]})
    assert ask.api.service.predictor("main").flush()
    kept = ask.lake.read_predictions()
    assert set(kept.symbol) == {"AAA", "BBB"} and kept.model.iloc[0].endswith("main")


def test_sending_again_is_harmless_and_bad_bars_are_named(ask):
    bars = ask.bars.tail(3)
    wire = as_wire(bars)
    for _ in range(2):
        assert ask("POST", "/ingest", "analyst", json={"bars": wire}).json()["stored"] == 3
    assert len(ask.lake.read(timeframe="1d")) == len(ask.bars[ask.bars.ts <= ask.bars.ts.max() - pd.Timedelta("60D")]) + 3
    odd = ask("POST", "/ingest", "analyst", json={"bars": [wire[0] | {"low": -1.0}, wire[1]]}).json()
    assert odd["stored"] == 1 and odd["refused"][0]["index"] == 0 and odd["refused"][0]["reason"]
    latest = ask("GET", "/prices/latest?timeframe=1d&symbol=BBB", "read_only").json()
    assert latest["total"] == 1 and latest["items"][0]["close"] == pytest.approx(bars[bars.symbol == "BBB"].close.iloc[-1])


def one(ts="2024-01-01T00:00:00Z", open="1", timeframe="1m"):
    return f'{{"bars": [{{"symbol": "A", "timeframe": "{timeframe}", "ts": "{ts}", "open": {open}, "high": 1, "low": 1, "close": 1, "volume": 1}}]}}'


@pytest.mark.parametrize("body, field", [
    ('{"bars": []}', "bars"), ('{"bars": [{"symbol": "A B"}]}', "bars.0.symbol"), ("[1", "body"), ("", "body"), ('{"bars": [1e999]}', "bars.0"),
    (one(ts="2024-01-01T00:00:00"), "bars.0.ts"), (one(ts="2999-01-01T00:00:00Z"), "bars.0.ts"), (one(open="NaN"), "bars.0.open"),
    (one(timeframe="7m"), "bars.0.timeframe"),
    ("[" * 20_000, "body"), ('{"bars": ' + "[" * 20_000, "body"),
])
def test_a_field_that_is_wrong_is_named(ask, body, field):
    told = ask("POST", "/ingest", "analyst", content=body)
    assert told.status_code == 422 and told.headers["content-type"] == "application/problem+json", told.text
    assert field in {e["field"] for e in told.json()["errors"]}, told.text


@pytest.mark.parametrize("symbol", ["A'; DROP TABLE bars; --", "../../etc/passwd", "A\x00B", "%2e%2e", "x" * 65, "🜁"])
def test_symbols_are_names_and_nothing_else(ask, symbol):
    before = len(ask.lake.read(timeframe="1d"))
    assert ask("POST", "/predict", "read_only", json={"experiment": "main", "symbol": symbol}).status_code == 422
    assert ask("GET", "/prices/latest", "read_only", params={"symbol": symbol, "timeframe": "1d"}).status_code == 422
    assert ask("GET", "/signals", "read_only", params={"symbol": symbol}).status_code == 422
    assert len(ask.lake.read(timeframe="1d")) == before


def test_every_route_that_exists_is_in_the_table_of_roles(ask):
    table = {key.partition(" ")[2] for key in ROUTES}
    document = ask("GET", "/openapi.json").json()
    for path in document["paths"]:
        assert path.removeprefix("/v1") in table, path


def test_roles_are_held_over_http(ask):
    bar = {"bars": as_wire(ask.bars.tail(1))}
    assert ask("POST", "/ingest", json=bar).status_code == 401
    assert ask("POST", "/ingest", "read_only", json=bar).status_code == 403
    assert ask("POST", "/models/1/promote", "analyst", json={"experiment": "main"}).status_code == 403
    assert ask("POST", "/models/1/promote", "administrator", json={"experiment": "main"}).status_code == 409  # it is the champion
    key = new_key(ask.api.accounts, "administrator", "collector", role="analyst")
    secret = key if isinstance(key, str) else key[-1]
    assert ask("POST", "/v1/ingest", headers={"x-api-key": secret}, json=bar).status_code == 200
    assert ask("POST", "/models/1/promote", headers={"x-api-key": secret}, json={"experiment": "main"}).status_code == 403


def test_a_session_ends_at_once(ask):
    first = ask.login("analyst")
    assert ask("GET", "/auth/me", "analyst").json() == {"name": "analyst", "role": "analyst", "kind": "user"}
    again = ask("POST", "/auth/refresh", json={"refresh_token": first["refresh_token"]})
    assert again.status_code == 200
    assert ask("POST", "/auth/refresh", json={"refresh_token": first["refresh_token"]}).status_code == 401
    assert ask("POST", "/auth/refresh", json={"refresh_token": again.json()["refresh_token"]}).status_code == 401  # the whole family
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
        assert told.status_code == 503 and told.headers["retry-after"] == "1" and "send the same request again" in told.json()["detail"]
    assert ask("POST", "/ingest", "analyst", json=bar).status_code == 200
    with monkeypatch.context() as patched:
        patched.setattr(ask.api.accounts, "one", lambda *a, **k: (_ for _ in ()).throw(Unavailable()))
        patched.setattr(ask.api.accounts, "_asked", float("-inf"))
        assert ask("GET", "/models", "analyst").status_code == 503
    assert ask("GET", "/models", "analyst").status_code == 200


def test_what_nobody_foresaw_tells_nothing(ask, monkeypatch):
    monkeypatch.setattr(ask.api.service, "models", lambda *a: 1 / 0)
    told = ask("GET", "/models", "analyst")
    assert told.status_code == 500 and "division" not in told.text and told.json()["request_id"] == told.headers["x-request-id"]


def test_jobs_are_asked_for_and_cancelled(ask):
    job = ask("POST", "/train", "analyst", json={"experiment": "main", "parameters": {"label": "fwd_ret_10"}})
    assert job.status_code == 202 and job.json()["state"] == "queued"
    assert ask("GET", f"/v1/jobs/{job.json()['id']}", "read_only").json()["kind"] == "train"
    assert ask("GET", "/jobs?state=queued", "read_only").json()["total"] == 1
    assert ask("POST", f"/jobs/{job.json()['id']}/cancel", "analyst").json()["state"] == "cancelled"
    assert ask("GET", "/jobs/nothing", "read_only").status_code == 404
    wrong = ask("POST", "/train", "analyst", json={"parameters": {"lable": "x"}})
    assert wrong.status_code == 422 and "did you mean `label`" in wrong.json()["detail"]


def test_metrics_and_health(ask):
    ask("POST", "/ingest", "analyst", json={"bars": as_wire(ask.bars.tail(2))})
    assert ask("GET", "/health/live").json() == {"status": "ok"}
    assert ask("GET", "/metrics").status_code == 401
    text = ask("GET", "/metrics", "read_only").text
    assert 'ingest_candles_total{outcome="inserted",source="push",timeframe="1d"} 2.0' in text and "http_requests_total" in text
    ready = ask("GET", "/health/ready", "read_only")
    assert ready.status_code in (200, 503) and ready.json()["status"] in ("ok", "warn", "fail", 503)


@pytest.mark.filterwarnings("ignore")
def test_no_document_conforming_request_makes_a_500(ask):
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, given, settings

    document = ask("GET", "/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    seen = set()
    def checked(operation):
        @given(case=operation.as_strategy())
        @settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
        def check(case):
            path = operation.path
            for name, value in (case.path_parameters or {}).items():
                path = path.replace("{" + name + "}", str(value).replace("/", "_").replace("?", "_").replace("#", "_") or "_")
            body = None if type(case.body).__name__ == "NotSet" else json.dumps(case.body).encode()
            try:
                told = ask(operation.method.upper(), path, "administrator", params={k: v for k, v in (case.query or {}).items() if v is not None}, content=body)
            except (httpx.InvalidURL, UnicodeEncodeError):
                return
            assert told.status_code != 500, (operation.method, path, body, told.text)
            if told.status_code >= 400:
                assert told.headers["content-type"] == "application/problem+json", told.text
            if path.endswith("/auth/logout") or told.status_code == 401:
                ask.login("administrator")
            seen.add(told.status_code)
        return check

    for result in schema.get_all_operations():
        operation = result.ok()
        if not operation.path.endswith(("/train", "/ingest/run")):  # tried above: each would put a job into the queue
            checked(operation)()
    assert 200 in seen and 422 in seen
