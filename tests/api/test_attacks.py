"""The service as an attacker meets it over HTTP: tokens that lie, guesses, replays, names that are code,
bodies without end or bottom."""
import base64
import json
import time

import jwt
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from mlfin.accounts.audit_log import check_audit  # noqa: E402
from mlfin.accounts.roles import ROUTES  # noqa: E402
from mlfin.accounts.users import list_users, new_key  # noqa: E402

from ..fixtures.asking import PASSWORD, house  # noqa: E402

POSTS = sorted(path for method, _, path in (r.partition(" ") for r in ROUTES) if method in ("POST", "PATCH"))
ROUTE_OF = {r.partition(" ")[2]: r.partition(" ")[0] for r in ROUTES if r.startswith(("POST", "PATCH"))}


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    client = house(tmp_path_factory.mktemp("house"))
    yield client
    client.api.service.close()
    client.accounts.close()


def word(answer):
    return answer.status_code, answer.json()["type"].removeprefix("/problems/")


def bearer(token):
    return {"headers": {"authorization": f"Bearer {token}"}}


# ---- tokens

def forge(ask, key=None, algorithm="HS256", head=None, **claims):
    said = jwt.decode(ask.tokens["analyst"], options={"verify_signature": False}) | claims
    head = {"kid": ask.accounts.keys.names()[0], "typ": "at+jwt"} | (head or {})
    return jwt.encode(said, ask.accounts.keys.all()[0] if key is None else key, algorithm, headers=head)


def test_a_token_that_lies_is_nobodys(ask, recwarn):
    from cryptography.hazmat.primitives.asymmetric import rsa

    # the forger can forge what is true
    assert ask("GET", "/auth/me", **bearer(forge(ask))).status_code == 200
    private = rsa.generate_private_key(65537, 2048)
    head, body, sign = ask.tokens["analyst"].split(".")
    none = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": ask.accounts.keys.names()[0],
                                                "typ": "at+jwt"}).encode()).rstrip(b"=").decode()
    lies = {
        "none": forge(ask, key="", algorithm="none"), "none, by hand": f"{none}.{body}.",
        "none with a signature": f"{none}.{body}.{sign}", "no signature": f"{head}.{body}.",
        "RS256": forge(ask, key=private, algorithm="RS256"), "HS512": forge(ask, algorithm="HS512"),
        "another key": forge(ask, key=b"x" * 32),
        "the key's name as key": forge(ask, key=ask.accounts.keys.names()[0].encode() * 3),
        "a key from elsewhere": forge(
            ask, key=b"x" * 32, head={"jku": "http://evil.example/keys", "jwk": {"kty": "oct", "k": "eHh4"}}),
        "a path as key id": forge(ask, head={"kid": "../../../../dev/null"}),
        "SQL as key id": forge(ask, head={"kid": "x' UNION SELECT 'x"}),
        "somebody else": forge(ask, sub="0" * 32), "another session": forge(ask, sid="f" * 32),
        "another profile": forge(ask, iss="mlfin/production"), "another audience": forge(ask, aud="other"),
        "made in the future": forge(ask, iat=int(time.time()) + 600, nbf=int(time.time()) + 600)}
    assert ({k: word(ask("GET", "/models", **bearer(v))) for k, v in lies.items()}
            == dict.fromkeys(lies, (401, "bad-token")))
    assert word(ask("GET", "/models", **bearer(forge(ask, exp=int(time.time()) - 60)))) == (401, "expired")
    me = ask("GET", "/auth/me",
             **bearer(forge(ask, role="administrator", scope="administrator", name="boss"))).json()
    assert me == {"name": "analyst", "role": "analyst", "kind": "user"}


@pytest.mark.parametrize("headers", [
    {"authorization": "Bearer"}, {"authorization": "Bearer  "}, {"authorization": "bearer x y z"},
    {"authorization": "Basic YW5uOnB3"}, {"x-api-key": ""},
    {"authorization": "Bearer " + "x" * 8000}, {"x-api-key": "mlfin_key_' OR 1=1 --_x"},
    {"authorization": "Bearer " + "A." * 2000}, {"cookie": "token=x"},
    {"authorization": "Bearer " + base64.urlsafe_b64encode(b"[" * 2900).decode() + ".e30.x"},
    {"x-forwarded-user": "boss"}])
def test_what_is_no_credential_opens_nothing(ask, headers):
    told = ask("GET", "/models", headers=headers)
    assert word(told) == (401, "bad-token") and told.headers["www-authenticate"] == "Bearer"


def test_tokens_run_out_and_are_not_used_twice(tmp_path):
    ask = house(tmp_path)
    first = ask.login("analyst")
    assert (word(ask("POST", "/auth/refresh", json={"refresh_token": first["access_token"]}))
            == (401, "bad-token"))
    second = ask("POST", "/auth/refresh", json={"refresh_token": first["refresh_token"]}).json()
    # replayed:
    assert (word(ask("POST", "/auth/refresh", json={"refresh_token": first["refresh_token"]}))
            == (401, "revoked"))
    # the whole session ends
    assert word(ask("GET", "/models", **bearer(second["access_token"]))) == (401, "revoked")
    assert (word(ask("POST", "/auth/refresh", json={"refresh_token": second["refresh_token"]}))
            == (401, "revoked"))
    machine = {"x-api-key": new_key(ask.accounts, "analyst", "m", days=1)}
    ask.login("boss")
    ask.clock.ahead = 8 * 3600 + 60  # a session's end, refreshed or not
    assert word(ask("GET", "/models", "boss")) == (401, "expired")
    assert ask("GET", "/models", headers=machine).status_code == 200
    ask.clock.ahead = 25 * 3600
    assert word(ask("GET", "/models", headers=machine)) == (401, "expired")
    ask.api.service.close()


# ---- guesses

def test_guessing_gets_slower_for_a_name_and_for_an_address(tmp_path):
    ask = house(tmp_path)
    def guess(name, address):
        return ask("POST", "/auth/token", data={"username": name, "password": "wrong"}, address=address)
    # one name from one address
    told = [guess("analyst", "192.0.2.1") for _ in range(9)]
    assert [t.status_code for t in told] == [401] * 5 + [429] * 4
    assert all(int(t.headers["retry-after"]) >= 1 for t in told[5:])
    right = {"username": "analyst", "password": PASSWORD}
    # the right one waits there, too
    assert word(ask("POST", "/auth/token", data=right, address="192.0.2.1")) == (429, "throttled")
    # from everywhere, for one name
    told = [guess("analyst", f"192.0.2.{n + 2}") for n in range(24)]
    assert [t.status_code for t in told] == [401] * 15 + [429] * 9
    # a new address waits, too, and not for long
    told = ask("POST", "/auth/token", data=right, address="198.51.100.99")
    assert word(told) == (429, "throttled") and "guessed at" in told.json()["detail"]
    assert 1 <= int(told.headers["retry-after"]) <= 60
    # one where she was before does not
    assert ask("POST", "/auth/token", data=right, address="198.51.100.1").status_code == 200
    ask.clock.ahead += int(told.headers["retry-after"])
    assert ask("POST", "/auth/token", data=right, address="198.51.100.99").status_code == 200
    # one address, all names
    told = [guess(f"name{n}", "203.0.113.9") for n in range(24)]
    assert [t.status_code for t in told] == [401] * 20 + [429] * 4 and "retry-after" in told[-1].headers
    body = {"username": "boss", "password": PASSWORD,
            "new_password": "marble canyon velvet spoon", "code": "1"}
    # no way around it
    for path in ("/auth/password", "/auth/enrol", "/auth/confirm"):
        sent = {k: v for k, v in body.items() if k in ("username", "password", "code") or path
                == "/auth/password" and k == "new_password"}
        assert word(ask("POST", path, json=sent, address="203.0.113.9")) == (429, "throttled"), path
    assert ask("POST", "/auth/token", data={"username": "boss", "password": PASSWORD},
               address="203.0.113.10").status_code == 200
    same = {ask("POST", "/auth/token", data={"username": n, "password": "x"}, address="203.0.113.11")
            .json()["detail"] for n in ("boss", "nobody", "a\x00b")}
    # who exists is not told
    assert len(same) == 1
    ask.api.service.close()


def test_behind_a_proxy_the_address_is_the_clients(tmp_path):
    """Of a proxy that is named in the settings, and of nobody else: a stranger cannot make himself ever new
    addresses, nor one that is known."""
    from mlfin.api.guard import RequestGuard

    ask = house(tmp_path)
    ask.app.guard = RequestGuard(ask.app.guard.app, ask.app.guard.rules.__class__(
        **ask.app.guard.rules.__dict__ | {"trusted": ("10.0.0.9",)}))
    def guess(address, seen, password="wrong"):
        return ask("POST", "/auth/token", data={"username": "boss", "password": password}, address=address,
                   headers={"x-forwarded-for": seen}).status_code
    # the proxy's word, not the client's
    assert ([guess("10.0.0.9", f"198.51.100.{n}, 192.0.2.7:{n + 1000}") for n in range(7)]
            == [401] * 5 + [429] * 2)
    assert guess("10.0.0.9", "192.0.2.8", PASSWORD) == 200 and guess("10.0.0.9", "192.0.2.7", PASSWORD) == 429
    # no proxy of ours
    assert [guess("203.0.113.7", f"198.51.100.{n}") for n in range(7)] == [401] * 5 + [429] * 2
    ask.api.service.close()


def test_too_many_requests_are_told_when_to_come_again(tmp_path):
    from mlfin.accounts.rate_limits import Limits

    ask = house(tmp_path)
    ask.api.limits = Limits(user="3/minute", address="")
    told = [ask("GET", "/models", "analyst") for _ in range(5)]
    assert [t.status_code for t in told] == [200] * 3 + [429] * 2
    assert 1 <= int(told[-1].headers["retry-after"]) <= 60
    assert ask("GET", "/models", "boss").status_code == 200
    ask.api.service.close()


# ---- names that are code

EVIL = ["x'; DROP TABLE auth_users; --", "' OR '1'='1", "../../etc/passwd", "..%2f..%2fetc%2fpasswd",
        "%2e%2e", "%00", "a\\..\\b", "$(id)", "{{7*7}}", "a" * 300]


@pytest.mark.parametrize("evil", EVIL)
def test_names_in_paths_and_queries_are_names_and_nothing_else(ask, evil):
    users = list_users(ask.accounts).name.tolist()
    for method, path in (("GET", "/users/{}"), ("PATCH", "/users/{}"), ("POST", "/users/{}/password"),
                         ("DELETE", "/users/{}/sessions"), ("GET", "/users/{}/keys"), ("DELETE", "/keys/{}"),
                         ("DELETE", "/auth/sessions/{}"), ("GET", "/jobs/{}"), ("DELETE", "/jobs/{}"),
                         ("POST", "/models/{}/promote"), ("POST", "/models/{}/rollback")):
        told = ask(method, path.format(evil.replace("/", "%2f")), "boss",
                   **({"json": {"role": "analyst"}} if method == "PATCH" else {}))
        assert told.status_code in (403, 404, 405, 422) and "Traceback" not in told.text, (
            method, path, told.text)
    for path in ("/prices/latest?timeframe=1d", "/signals?timeframe=1d", "/models", "/audit"):
        name = {"/models": "experiment", "/audit": "who"}.get(path, "symbol")
        told = ask("GET", path, "boss", params={name: evil})
        assert told.status_code == (200 if name == "who" and len(evil) <= 200 else 422), (path, told.text)
        assert name != "who" or told.status_code == 422 or told.json()["total"] == 0
    for path, body in (("/predict", {"symbol": evil}), ("/train", {"experiment": evil}),
                       ("/train", {"parameters": {evil: 1}}), ("/ingest/run", {"experiment": evil}),
                       ("/ingest/run", {"symbols": [evil]}), ("/users", {"name": evil}),
                       ("/models/rollback", {"experiment": evil}),
                       ("/train", {"parameters": {"source": "csv", "path": "/etc/passwd"}}),
                       ("/train", {"parameters": {"source": "csv", "path": evil, "models": [evil]}})):
        assert ask("POST", path, "boss", json=body).status_code == 422, (path, body)
    assert list_users(ask.accounts).name.tolist() == users and check_audit(ask.accounts.store).count > 0
    assert ask("GET", "/jobs", "boss").json()["total"] == 0


# ---- bodies

DEEP = 50_000


@pytest.mark.parametrize("path", POSTS)
def test_no_body_hurts(ask, path):
    """Deep, broken, huge, of the wrong kind: an answer in the four hundreds, at once, from every route that
    takes one."""
    method, path = ROUTE_OF[path], path.replace("{version}", "7").replace("{", "").replace("}", "x")
    bodies = [b"[" * DEEP, b'{"a":' * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP, b"\xff\xfe", b"null", b"[]",
              b'"x"', b'{"a": 1e999}', b'{"a": NaN}',
              b'{"username": "\\ud800"}', b"9" * 5_000, b'{"__proto__": {}, "__class__": 1}', b"{" * 20]
    for body in bodies:
        told = ask(method, path, "boss", content=body)
        if path == "/auth/logout" or told.status_code == 401 and path not in ("/auth/token", "/auth/refresh"):
            ask.login("boss")
        assert told.status_code < 500, (path, body[:30], told.text)
        if told.status_code >= 400:
            assert told.headers["content-type"] == "application/problem+json" and len(told.content) < 20_000
    huge = ask(method, path, "boss", content=b" " * (ask.api.settings.body_mb * 2**20 + 1))
    assert word(huge) == (413, "too-large"), huge.text


def bar(**change):
    return {"symbol": "AAA", "timeframe": "1m", "ts": "2024-01-02T00:00:00Z", "open": 1.0, "high": 1.0,
            "low": 1.0, "close": 1.0, "volume": 1.0} | change


@pytest.mark.parametrize("change", [
    {"open": float("nan")}, {"close": float("inf")}, {"low": float("-inf")}, {"volume": float("nan")},
    {"spread": float("inf")}, {"high": 10**400}, {"open": "1"}, {"open": None}, {"open": True},
    {"volume": -1}, {"ts": "2999-01-01T00:00:00Z"}, {"ts": "2024-01-02T00:00:00"}, {"ts": 1704153600},
    {"time": 10**12}, {"time": 32503680000, "ts": None}, {"ts": "9999-99-99T99:99:99Z"}, {"symbol": "../x"},
    {"timeframe": "1m; DROP"}, {"extra": 1}, {"high": 0.5}])
def test_bars_that_cannot_be_are_refused_whole(ask, change):
    sent = bar(**change)
    if sent["ts"] is None: del sent["ts"]
    body = json.dumps({"bars": [bar(), sent]})
    for path in ("/ingest", "/v1/ingest", "/predict"):
        told = ask("POST", path, "analyst", content=body)
        assert word(told) == (422, "invalid"), (path, told.text)
        assert told.json()["errors"][0]["field"].startswith(
            "bars.1") or told.json()["errors"][0]["field"] == "body", told.text
    assert ask("GET", "/prices/latest?timeframe=1m", "analyst").json()["total"] == 0  # not even the good one


# ---- the page around it

def test_answers_tell_browsers_to_keep_out(ask):
    for told in (ask("GET", "/models", "analyst"), ask("GET", "/models"), ask("GET", "/nothing", "analyst"),
                 ask("POST", "/auth/token", data={})):
        assert told.headers["x-content-type-options"] == "nosniff"
        assert told.headers["x-frame-options"] == "DENY" and told.headers["cache-control"] == "no-store"
        assert "server" not in told.headers and "access-control-allow-origin" not in told.headers
        assert "set-cookie" not in told.headers
    assert ask("GET", "/models", "analyst",
               headers={"origin": "https://evil.example"}).headers.get("access-control-allow-origin") is None


@pytest.mark.parametrize("method", ["PUT", "TRACE", "CONNECT", "PROPFIND", "OPTIONS", "HEAD"])
def test_other_methods_get_nowhere(ask, method):
    for path, allow in (("/users", "GET, POST, HEAD, OPTIONS"), ("/models/1/promote", "POST, OPTIONS"),
                        ("/ingest", "POST, OPTIONS")):
        told = ask(method, path, "analyst",
                   headers={"x-http-method-override": "POST", "x-method-override": "DELETE"})
        if (method, path) == ("HEAD", "/users"): assert (told.status_code, told.content) == (403, b"")
        else:
            assert (told.status_code,
                    told.headers["allow"]) == (204 if method == "OPTIONS" else 405, allow), (method, path)
    told = ask("HEAD", "/models", "analyst")
    assert (told.status_code, told.content) == (200, b"")
    assert int(told.headers["content-length"]) == len(ask("GET", "/models", "analyst").content)


def test_a_key_that_stands_twice_is_refused_wherever_it_lies(ask):
    """Of two readers of such a body one takes the first and one the last: a log or a proxy would show another
    order than the one that is carried out."""
    one = json.dumps(bar())
    bars = {"bars": '{"bars": [%s], "bars": [%s]}', "source": '{"bars": [%s], "source": "a", "source": "b"}',
            "open": '{"bars": [%s, %s]}'}
    twice = one[:-1] + ', "open": 1.0}'
    sent = [(path, body % ((one, twice if key == "open" else one) if body.count("%s") == 2 else one), key)
            for path in ("/ingest", "/v1/ingest") for key, body in bars.items()]
    sent += [(path, '{"symbol": "AAA", "symb\\u006fl": "BBB"}', "symbol")
             for path in ("/predict", "/v1/predict")]
    sent += [("/train", '{"parameters": {"folds": 3, "folds": 4}}', "folds"),
             ("/ingest/run", '{"symbols": ["A"], "symbols": ["B"]}', "symbols"),
             ("/models/rollback", '{"experiment": "a", "experiment": "b"}', "experiment"),
             ("/models/7/promote", '{"force": "", "force": "x"}', "force"),
             ("/users", '{"name": "eve", "role": "read_only", "role": "administrator"}', "role"),
             ("/users/analyst", '{"disabled": false, "disabled": true}', "disabled"),
             ("/users/analyst/keys", '{"label": "a", "label": "b"}', "label"),
             ("/auth/refresh", '{"refresh_token": "a", "refresh_token": "b"}', "refresh_token"),
             *((f"/auth/{path}", json.dumps({"username": "boss", "password": PASSWORD} | more)[:-1]
                + ', "username": "ann"}', "username")
               for path, more in (("password", {"new_password": "marble canyon velvet spoon"}), ("enrol", {}),
                                  ("confirm", {"code": "1"})))]
    users = list_users(ask.accounts)
    for path, body, key in sent:
        told = ask("PATCH" if path == "/users/analyst" else "POST", path, "boss", content=body)
        assert word(told) == (422, "invalid") and f"`{key}` stands twice" in told.json()["detail"], (
            path, body, told.text)
    assert list_users(ask.accounts).equals(users) and ask("GET", "/jobs", "boss").json()["total"] == 0
