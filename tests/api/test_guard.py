"""The guard as an attacker meets it: sizes, slowness, senders, roles, headers; without a server."""
import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlfin.core.errors import SettingsError
from mlfin.monitor.logs import JsonFormatter
from mlfin.api.guard import RequestGuard, Rules, address_of, path_below, route_of
from mlfin.accounts.roles import ROLES, ROUTES, BadToken, Person, Throttled, Unavailable

PEOPLE = {role: Person(role, role, role, f"s-{role}") for role in ROLES}


def identify(kind, secret):
    if secret not in PEOPLE:
        raise BadToken()
    return PEOPLE[secret]


async def inside(scope, receive, send):
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"x-frame-options", b"ALLOW"), (b"server", b"x")]})
    await send({"type": "http.response.body", "body": str(len(body)).encode()})


def ask(method="GET", path="/models", parts=(b"",), headers=None, pause=0.0, log=None, root=None,
        identify=identify, raw=None, version="1.1", **rules):
    """Status, body and headers of one request; `parts` are the pieces of its body, None where the client
    leaves."""
    said, left = [], list(parts)
    scope = {"type": "http", "method": method, "path": path, "client": ("192.0.2.7", 1), "query_string": b"",
             "headers": [(k.encode(), v.encode("latin-1"))
                         for k, v in ({"host": "mlfin"} | (headers or {})).items()]}

    if root is not None: scope["root_path"] = root
    if raw is not None:
        scope |= {"headers": [(k.encode(), v.encode()) for k, v in raw], "http_version": version}

    async def receive():
        await asyncio.sleep(pause)
        if not left or left[0] is None:
            return {"type": "http.disconnect"}
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    async def send(message):
        said.append(message)

    lines = [] if log is None else log
    # a browser that another test of this worker drives may keep a loop here
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, RequestGuard(inside, Rules(identify, log=lines.append, **rules))(
            scope, receive, send)).result()
    return (said[0]["status"], b"".join(m.get("body", b"") for m in said[1:]),
            {k.decode(): v.decode() for k, v in said[0]["headers"]})


def bearer(role):
    return {"authorization": f"Bearer {role}"}


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_every_route_is_for_its_role_and_those_above(prefix):
    for key, least in ROUTES.items():
        method, _, path = key.partition(" ")
        path = prefix + path.replace("{", "").replace("}", "")
        assert ask(method, path)[0] == (200 if least == "anyone" else 401), key
        for role in ROLES:
            may = least == "anyone" or ROLES.index(role) >= ROLES.index(least)
            assert ask(method, path, headers=bearer(role))[0] == (200 if may else 403), (key, role)


@pytest.mark.parametrize("root, prefix", [("", ""), ("/mlfin", "/mlfin"), ("/a/b", "/a/b/v1")])
def test_where_it_is_mounted_every_route_is_for_its_role(root, prefix):
    for key, least in ROUTES.items():
        method, _, path = key.partition(" ")
        path, role = prefix + path.replace("{", "").replace("}", ""), "read_only"
        assert ask(method, path, root=root)[0] == (200 if least == "anyone" else 401), key
        assert ask(method, path, headers=bearer(role),
                   root=root)[0] == (200 if least in ("anyone", role) else 403), key


@pytest.mark.parametrize("path", ["/mlfin", "/mlfin/", "/mlfinx/health/live", "/mlfin/mlfin/health/live",
                                  "/mlfin//health/live", "/a/health/live"])
def test_what_is_nearly_below_it_is_not(path):
    assert ask(path=path, root="/mlfin")[0] == 401
    assert ask(path=path, root="/mlfin", headers=bearer("administrator"))[0] in (403, 404)


@pytest.mark.parametrize("root", [None, "", "/", "/mlfin", "/mlfin/", "/mlfin/v1", "mlfin"])
@pytest.mark.parametrize("path", [
    "", "/", "/mlfin", "/mlfin/", "/mlfin/v1", "/mlfin/v1/models", "/mlfinx/models", "/mlfin/mlfin/models",
    "/v1/models", "mlfin/models"])
def test_gate_and_router_mean_the_same_path(root, path):
    """What is judged is what is run: the guard and the router take the same part of a path."""
    routing = pytest.importorskip("starlette.routing")
    scope = {"type": "http", "path": path} | ({} if root is None else {"root_path": root})
    assert path_below(scope) == routing.get_route_path(scope)


@pytest.mark.parametrize("path", ["/v1/v1/models", "/models/", "//models", "/models/../auth/token",
                                  "/models/%2e%2e/users", "/MODELS", "/models\\x", "/.."])
def test_a_path_that_is_nearly_a_route_is_none(path):
    assert ask(path=path, headers=bearer("administrator"))[0] in (403, 404)


def test_bodies_end_at_the_limit_whatever_they_announce():
    some = {"max_bytes": 100}
    assert ask("POST", "/predict", [b"x" * 100], bearer("analyst"), **some)[:2] == (200, b"100")
    assert ask("POST", "/predict", [b"x" * 60, b"x" * 41], bearer("analyst"), **some)[0] == 413
    assert ask("POST", "/predict", [b""], bearer("analyst") | {"content-length": "101"}, **some)[0] == 413
    assert ask("POST", "/predict", [b""], bearer("analyst") | {"content-length": "-1"}, **some)[0] == 400
    assert ask("POST", "/predict", [b"x", None], bearer("analyst"), **some)[0] == 400


def test_a_slow_body_is_given_up_and_nobody_unknown_may_send_one():
    assert ask("POST", "/predict", [b"x"] * 50, bearer("analyst"), pause=0.02, body_seconds=0.1)[0] == 408
    assert ask("POST", "/predict", [b"x"] * 50, pause=10)[0] == 401  # at once


def test_two_credentials_and_other_schemes_are_refused():
    assert ask(headers={"authorization": "Bearer analyst", "x-api-key": "analyst"})[0] == 401
    assert ask(headers={"authorization": "Basic analyst"})[0] == 401
    assert ask(headers={"authorization": "Bearer "})[0] == 401
    assert ask(headers={"x-api-key": "analyst"})[0] == 200


def test_refusals_are_problems_with_the_request_that_they_are_of():
    status, body, headers = ask(headers={"x-request-id": "abc-1"})
    found = json.loads(body)
    assert ((status, found["status"], found["request_id"], headers["content-type"])
            == (401, 401, "abc-1", "application/problem+json"))
    assert headers["www-authenticate"] == "Bearer" and headers["x-request-id"] == "abc-1"
    assert ask(headers={"x-request-id": "a\r\nset-cookie: x"})[2]["x-request-id"] != "a\r\nset-cookie: x"


def test_headers_of_the_gate_win():
    headers = ask(headers=bearer("analyst"), secure=True)[2]
    assert headers["x-frame-options"] == "DENY" and headers["cache-control"] == "no-store"
    assert "max-age" in headers["strict-transport-security"]
    assert "strict-transport-security" not in ask(headers=bearer("analyst"))[2]


def test_other_origins_are_told_only_what_the_settings_say():
    away = bearer("analyst") | {"origin": "https://evil.example"}
    assert "access-control-allow-origin" not in ask(headers=away)[2]
    assert "access-control-allow-origin" not in ask(headers=away, origins=("https://desk.example",))[2]
    assert ask(headers=bearer("analyst") | {"origin": "https://desk.example"},
               origins=("https://desk.example",))[2]["access-control-allow-origin"] == "https://desk.example"
    status, _, headers = ask("OPTIONS", "/predict", headers={"origin": "https://desk.example"},
                             origins=("https://desk.example",))
    assert status == 204 and "authorization" in headers["access-control-allow-headers"]


def test_too_many_requests_say_when_to_come_again():
    def spend(person, address, route):
        raise Throttled(retry_after=2.2)
    status, _, headers = ask(headers=bearer("analyst"), spend=spend)
    assert (status, headers["retry-after"]) == (429, "3")


async def identify_later(kind, secret):
    await asyncio.sleep(0)
    return identify(kind, secret)


@pytest.mark.parametrize("who", [identify, identify_later])
@pytest.mark.parametrize("headers",
                         [{}, bearer("nobody"), {"x-api-key": "nobody"}, {"authorization": "Basic x"},
                          bearer("analyst") | {"x-api-key": "analyst"}])
def test_a_credential_that_is_wrong_costs_its_address_a_request(who, headers):
    spent = []
    told = ask(headers=headers, identify=who, spend=lambda *of: spent.append(of))
    assert told[0] == 401 and spent == [(None, "192.0.2.7", "/models")]
    assert ask(headers=bearer("analyst"), identify=who, spend=lambda *of: spent.append(of))[0] == 200
    assert spent[1:] == [(PEOPLE["analyst"], "192.0.2.7", "/models")]

    def enough(person, address, route): raise Throttled(retry_after=2.2)
    assert ask(headers=headers, identify=who, spend=enough)[0] == 429


def failing(error, later):
    def at_once(kind, secret): raise error

    async def then(kind, secret): raise error
    return then if later else at_once


@pytest.mark.parametrize("later", [False, True])
def test_what_is_no_fault_of_its_own_costs_nobody_anything(later):
    spent = []
    told = ask(headers=bearer("analyst"), identify=failing(Unavailable(retry_after=1.0), later),
               spend=lambda *of: spent.append(of))
    assert (told[0], told[2]["retry-after"], spent) == (503, "1", [])


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("error", [SettingsError("keys.json can be read by others.\nHint: chmod 600."),
                                   PermissionError(13, "keys.json")])
def test_what_lets_nobody_be_recognised_is_a_503_and_in_the_log(later, error, caplog):
    lines = []
    status, body, headers = ask(headers=bearer("analyst") | {"x-request-id": "find-me"},
                                identify=failing(error, later), log=lines)
    found = json.loads(body)
    assert ((status, found["type"], found["request_id"], headers["x-frame-options"])
            == (503, "/problems/unavailable", "find-me", "DENY"))
    assert "keys.json" not in body.decode() and [line["status"] for line in lines] == [503]
    told = [json.loads(JsonFormatter().format(r)) for r in caplog.records if r.name == "mlfin.api"]
    assert [(line["level"], line["request_id"]) for line in told] == [("ERROR", "find-me")]
    assert "keys.json" in told[0]["message"]


@pytest.mark.parametrize("who", [identify, identify_later])
def test_a_probe_is_recognised_and_never_refused(who):
    lines, spent = [], []
    for headers in ({}, bearer("analyst"), bearer("nobody"), {"authorization": "Basic x"},
                    {"x-api-key": "read_only"}):
        assert ask(path="/health/ready", headers=headers, identify=who, log=lines,
                   spend=lambda *of: spent.append(of))[0] == 200
    assert [line["user"] for line in lines] == [None, "analyst", None, None, "read_only"]
    assert spent == [(PEOPLE.get(line["user"]), "192.0.2.7", "/health/ready") for line in lines]
    assert ask(path="/health/ready", headers=bearer("analyst"),
               identify=failing(Unavailable(), who is identify_later), log=lines)[0] == 200
    assert ask(path="/health/live", headers=bearer("analyst"), identify=who, log=lines)[0] == 200
    assert [line["user"] for line in lines[5:]] == [None, None]


def test_only_a_named_proxy_speaks_for_others():
    said = {b"x-forwarded-for": b"198.51.100.1, 203.0.113.9"}
    assert address_of({"client": ("192.0.2.7", 1)}, said) == "192.0.2.7"
    assert address_of({"client": ("192.0.2.7", 1)}, said, ("192.0.2.7",)) == "203.0.113.9"
    assert address_of({"client": ("192.0.2.7", 1)}, said, ("192.0.2.7", "203.0.113.9")) == "198.51.100.1"
    assert address_of({"client": ("192.0.2.7", 1)}, {}, ("192.0.2.7",)) == "192.0.2.7"


def test_a_proxy_writes_the_address_in_many_ways():
    def found(*lines, here="192.0.2.7", trusted=("192.0.2.7", "2001:db8::1")):
        return address_of({"client": (here, 1), "headers": [(b"x-forwarded-for", line) for line in lines]},
                          {b"x-forwarded-for": lines[-1]}, trusted)
    # with a port, another one for each connection
    assert found(b"6.6.6.6, 203.0.113.9:52011") == "203.0.113.9"
    assert found(b"[2001:db8:5::7]:443") == found(b"2001:DB8:5:0::7") == "2001:db8:5::7"
    assert found(b"::ffff:203.0.113.9") == "203.0.113.9"
    assert found(b"6.6.6.6, 203.0.113.9", b"192.0.2.7") == "203.0.113.9"   # two proxies, a header each
    assert (found(b"6.6.6.6, 203.0.113.9", here="::ffff:192.0.2.7")
            == found(b"203.0.113.9", here="2001:db8:0::1") == "203.0.113.9")
    assert found(b"6.6.6.6", here="203.0.113.9") == "203.0.113.9"
    assert found(b"", here="192.0.2.7") == "192.0.2.7"


@pytest.mark.parametrize("headers, version, fine", [
    ([], "1.1", False), ([("host", "a")], "1.1", True), ([], "1.0", True),
    ([("host", "a"), ("host", "a")], "1.1", False), ([("host", "a"), ("host", "b")], "1.0", False),
    ([("host", "a, b")], "1.1", False), ([("host", "a/b")], "1.1", False), ([("host", "x@a")], "1.1", False),
    ([("host", "[::1]:8000")], "1.1", True), ([("host", "")], "1.1", True),
    ([("host", "a"), ("transfer-encoding", "gzip, chunked")], "1.1", False),
    ([("host", "a"), ("transfer-encoding", "Chunked")], "1.1", True),
    ([("host", "a"), ("x-api-key", "analyst"), ("x-api-key", "read_only")], "1.1", False),
    ([("host", "a"), ("authorization", "Bearer x"), ("authorization", "Bearer y")], "1.1", False),
    ([("host", "a"), ("accept", "x"), ("accept", "y")], "1.1", True)])
@pytest.mark.parametrize("method, path", [("POST", "/v1/predict"), ("GET", "/health/live"),
                                          ("OPTIONS", "/models"), ("TRACE", "/x"), ("HEAD", "/models")])
def test_a_head_that_can_be_read_in_two_ways_is_refused(headers, version, fine, method, path):
    status, _, told = ask(method, path, raw=headers, version=version)
    assert (status != 400) == fine and (fine or told["connection"] == "close")


def test_a_path_says_which_methods_it_takes():
    for key in ROUTES:
        path = key.partition(" ")[2].replace("{", "").replace("}", "")
        takes = {m for m in ("GET", "POST", "PATCH", "DELETE", "PUT") if route_of(m, path)}
        takes |= {"OPTIONS"} | ({"HEAD"} if "GET" in takes else set())
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT",
                       "PROPFIND", "OPTIONS"):
            # whoever asks: routes are no secret
            for who in ({}, bearer("administrator")):
                status, body, told = ask(method, path, headers=who)
                if method == "OPTIONS":
                    assert (status, body, set(told["allow"].split(", "))) == (204, b"", takes), key
                elif method in takes: assert status not in (404, 405), (method, key)
                else: assert (status, set(told["allow"].split(", "))) == (405, takes), (method, key)
    for method, who, status in (("TRACE", {}, 405), ("CONNECT", {}, 405), ("PUT", {}, 401),
                                ("PUT", bearer("administrator"), 404), ("OPTIONS", {}, 401)):
        assert ask(method, "/nothing", headers=who)[0] == status, method
    assert ask("OPTIONS", "/nothing", headers={"origin": "https://a.example"})[0] == 204


def test_head_is_get_without_its_body():
    status, body, told = ask("HEAD", "/models", headers=bearer("read_only"))
    assert (status, body) == (200, b"")
    assert ask("HEAD", "/users", headers=bearer("read_only"))[:2] == (403, b"")
    assert ask("HEAD", "/models")[:2] == (401, b"")
    assert told["x-frame-options"] == "DENY"


def test_a_wrong_method_costs_its_address_a_request():
    def enough(person, address, route): raise Throttled(retry_after=2.2)
    assert ask("PUT", "/models", spend=enough)[0] == ask("TRACE", "/x", spend=enough)[0] == 429


def test_the_log_has_every_request_and_no_credential():
    lines = []
    for headers in (bearer("analyst"), {}, bearer("nobody"), {"x-api-key": "stranger"}):
        ask(headers=headers, log=lines)
    assert [line["status"] for line in lines] == [200, 401, 401, 401] and lines[0]["user"] == "analyst"
    assert "Bearer" not in json.dumps(lines) and "stranger" not in json.dumps(lines)
    assert {line["route"] for line in lines} == {"/models"}


def test_symbols_in_paths_make_no_new_series():
    assert route_of("GET", "/v1/jobs/" + "x" * 50) == "/jobs/{id}"
    assert route_of("TRACE", "/models") is None
