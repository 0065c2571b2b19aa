"""The client: what it sends again and what it never does, staying logged in, and secrets that nobody sees."""
import pickle
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("httpx")
pytest.importorskip("fastapi")

import mlfin.client.client as module  # noqa: E402
from mlfin.core.errors import ParameterError, SettingsError  # noqa: E402
from mlfin.core.settings import load_settings  # noqa: E402
from mlfin.accounts.auth import open_accounts  # noqa: E402
from mlfin.client.client import Client, NoAnswerError, ServiceError  # noqa: E402
from mlfin.client.in_process import in_process_client  # noqa: E402
from mlfin.accounts.users import add_user, revoke_sessions  # noqa: E402

from ..fixtures.asking import CHEAP  # noqa: E402
from ..fixtures.live_server import Here  # noqa: E402
from ..fixtures.real_server import as_project, told  # noqa: E402

PASSWORD = "correct horse battery"
FINE = 200, {"done": True}
BUSY = (
    503,
    {"type": "/problems/busy", "detail": "The line is full. Hint: nothing was taken; send it again."},
    {"retry-after": "3"},
)
TOKENS = (
    200,
    {
        "access_token": "token-one",
        "refresh_token": "refresh-one",
        "expires_in": 600,
        "session_ends": "2999-01-01T00:00:00Z",
        "role": "analyst",
    },
)


@pytest.fixture
def waits(monkeypatch):
    """The pauses that were asked for; none of them is waited for."""
    found = []
    monkeypatch.setattr(module.time, "sleep", found.append)
    return found


def cheap(settings):
    """The accounts of a project, whose passwords are hashed at little cost."""
    accounts = open_accounts(settings)
    accounts.hashing = CHEAP
    return accounts


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = as_project(tmp_path_factory.mktemp("client"))
    accounts = cheap(load_settings("test", folder))
    for role in ("read_only", "analyst"):
        add_user(accounts, role, role, PASSWORD)
    accounts.close()
    return folder


@pytest.fixture(scope="module")
def address(project):
    server = Here(load_settings("test", project).model_copy(update={"access_minutes": 1})).start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


def shown(error):
    return "".join(traceback.format_exception(error)) + repr(error)


@pytest.mark.parametrize(
    "method, path, answers, tries, ends",
    [
        ("POST", "/v1/ingest", (BUSY, BUSY, FINE), 3, True),
        ("GET", "/v1/models", (None, FINE), 2, True),
        ("POST", "/v1/predict", ((502, "x"), FINE), 2, True),
        ("POST", "/v1/train", (BUSY, FINE), 2, True),
        ("POST", "/v1/train", ((429, {"detail": "wait"}, {"retry-after": "2"}), FINE), 2, True),
        ("POST", "/v1/train", (None, FINE), 1, False),
        ("POST", "/v1/train", ((503, {"detail": "The accounts are away."}), FINE), 1, False),
        ("POST", "/v1/train", ((504, "<html>"), FINE), 1, False),
        ("GET", "/v1/models", ((500, {"detail": "broken"}), FINE), 1, False),
        ("GET", "/health/ready", ((503, {"type": "/problems/not-ready", "detail": "disk"}), FINE), 1, False),
    ],
)
def test_what_may_be_sent_again_is_and_nothing_else(waits, method, path, answers, tries, ends):
    with told(*answers) as (where, asked), Client(where, key="k" * 20) as client:
        if ends:
            assert client.request(method, path, {"a": 1}) == {"done": True}
        else:
            with pytest.raises((ServiceError, NoAnswerError)):
                client.request(method, path, {"a": 1})
        assert len(asked) == tries == len(waits) + 1
        assert all(a == asked[0][:3] for a in (b[:3] for b in asked))


def test_it_waits_as_long_as_it_is_told_and_no_longer_than_its_patience(waits):
    with told(BUSY) as (where, asked), Client(where, key="k" * 20, patience=2.9) as client:
        with pytest.raises(ServiceError) as refused:
            client.request("POST", "/v1/ingest", {})
        assert refused.value.retry_after == 3.0 and waits == [] and len(asked) == 1
    with told(BUSY, FINE) as (where, _), Client(where, key="k" * 20) as client:
        client.request("POST", "/v1/ingest", {})
        assert 3.0 <= waits[0] <= 3.3


def test_nobody_there_is_said_at_once_without_patience():
    with told(FINE) as (where, _):
        pass
    with Client(where, "ann", PASSWORD, patience=0) as client, pytest.raises(NoAnswerError) as found:
        client.request("GET", "/v1/models")
    assert "mlfin serve" in str(found.value) and PASSWORD not in shown(found.value) and not found.value.sent


def test_a_stranger_at_the_address_is_noticed(waits):
    with (
        told((200, "<html>a captive portal</html>")) as (where, _),
        Client(where, key="k" * 20) as client,
        pytest.raises(ServiceError) as found,
    ):
        client.request("POST", "/v1/train", {})
    assert found.value.kind == "not-mlfin"


def test_a_refresh_token_is_sent_once(waits):
    expired = 401, {"type": "/problems/expired", "detail": "log in again"}
    with told(TOKENS, expired, None, expired) as (where, asked), Client(where) as client:
        client.log_in("ann", PASSWORD)
        with pytest.raises(NoAnswerError):
            client.request("POST", "/v1/train", {})
        with pytest.raises(ServiceError):
            client.request("POST", "/v1/train", {})
        assert [path for _, path, body, _ in asked if "refresh-one" in body] == ["/v1/auth/refresh"]


def test_no_secret_is_shown_wherever_it_comes_back(waits):
    leak = 422, {"detail": f"No {PASSWORD} here, nor token-one, nor refresh-one."}
    with (
        told(TOKENS, leak) as (where, _),
        Client(where, "ann", PASSWORD) as client,
        pytest.raises(ServiceError) as found,
    ):
        client.request("GET", "/v1/models")
    text = shown(found.value) + repr(client) + repr(client.credentials) + str(vars(client))
    assert not [s for s in (PASSWORD, "token-one", "refresh-one") if s in text]
    assert found.value.detail == "No ... here, nor ..., nor ...."
    with pytest.raises(TypeError):
        pickle.dumps(client)


def test_credentials_go_nowhere_in_the_clear_and_to_nobody_else():
    for wrong in (
        "http://example.org",
        "ftp://127.0.0.1",
        "127.0.0.1:8000",
        "http://a:b@127.0.0.1",
        "http://127.0.0.1.example.org",
        "",
    ):
        with pytest.raises(SettingsError):
            Client(wrong, key="k" * 20)
    with (
        told(FINE) as (elsewhere, seen),
        told((307, "", {"location": f"{elsewhere}/v1/x"})) as (where, _),
        Client(where, key="k" * 20) as client,
    ):
        with pytest.raises(ServiceError):
            client.request("GET", "/v1/models")
        for path in (f"{elsewhere}/v1/models", "//example.org/v1/models"):
            with pytest.raises(ParameterError):
                client.request("GET", path)
        assert not seen
    with pytest.raises(ParameterError):
        Client("http://127.0.0.1:1", "ann", PASSWORD, key="k")
    with pytest.raises(ParameterError):
        Client("http://127.0.0.1:1", key="k\r\nx-evil: 1")
    with pytest.raises(ParameterError), Client("http://127.0.0.1:1") as client:
        client.request("POST", "/v1/ingest", {"close": float("nan")})


def test_a_person_logs_in_asks_and_leaves(address):
    with Client(address) as client:
        with pytest.raises(ServiceError) as refused:
            client.log_in("analyst", "a wrong one entirely")
        assert refused.value.status == 401 and "password or the code is wrong" in refused.value.detail
        assert client.log_in("analyst", PASSWORD)["role"] == "analyst" and client.role == "analyst"
        assert PASSWORD not in str(vars(client.credentials))
        assert client.request("GET", "/v1/auth/me")["name"] == "analyst"
        with pytest.raises(ServiceError) as refused:
            client.request("POST", "/v1/train", {"parameters": {"lable": "x"}})
        assert refused.value.status == 422 and "label" in refused.value.detail
        old = client.credentials.token
        client.log_out()
    with Client(address, token=old) as client, pytest.raises(ServiceError) as refused:
        client.request("GET", "/v1/auth/me")
    assert refused.value.kind == "revoked"


def test_a_role_is_told_what_it_lacks(address):
    with Client(address, "read_only", PASSWORD) as client, pytest.raises(ServiceError) as refused:
        client.request("POST", "/v1/ingest/run", {})
    assert refused.value.status == 403 and "needs analyst" in refused.value.detail
    assert refused.value.request_id


def test_an_old_token_is_renewed_by_one_of_many_threads(address):
    with Client(address, "analyst", PASSWORD) as client:
        client.request("GET", "/v1/auth/me")
        first, renewed, take = client.credentials.token, [], client.credentials.accept
        client.credentials.accept = lambda reply: (renewed.append(1), take(reply))
        client.credentials.renew_at = 0.0
        with ThreadPoolExecutor(8) as pool:
            assert {
                a["name"] for a in pool.map(lambda _: client.request("GET", "/v1/auth/me"), range(16))
            } == {"analyst"}
        assert client.credentials.token != first and len(renewed) == 1


def test_a_session_that_was_ended_begins_anew_only_with_a_password(address, project):
    with Client(address, "analyst", PASSWORD) as keeps, Client(address) as forgets:
        forgets.log_in("analyst", PASSWORD)
        for client in (keeps, forgets):
            client.request("GET", "/v1/auth/me")
        accounts = open_accounts(load_settings("test", project))
        revoke_sessions(accounts, "analyst")
        accounts.close()
        threading.Event().wait(1.1)  # as long as another process may not know
        assert keeps.request("GET", "/v1/auth/me")["name"] == "analyst"
        with pytest.raises(ServiceError) as refused:
            forgets.request("GET", "/v1/auth/me")
        assert refused.value.status == 401


def test_a_service_inside_needs_no_account_until_there_is_one(tmp_path):
    settings = load_settings("test", as_project(tmp_path))
    with in_process_client(settings) as client:
        assert client.request("GET", "/v1/auth/me")["role"] == "administrator"
        assert client.request("POST", "/v1/ingest/run", {})["state"] == "queued"
        stranger = client.connection.http.get("/v1/auth/me", headers={"Authorization": "Bearer guess"})
        assert stranger.status_code == 401
    begin = time.monotonic()
    with pytest.raises(NoAnswerError, match="closed"):
        client.request("GET", "/v1/auth/me")
    assert time.monotonic() - begin < client.patience / 2  # it is not asked again
    accounts = cheap(settings)
    add_user(accounts, "ann", "read_only", PASSWORD)
    accounts.close()
    with in_process_client(settings) as client:
        with pytest.raises(ServiceError) as refused:
            client.request("GET", "/v1/auth/me")
        assert refused.value.status == 401
        assert client.log_in("ann", PASSWORD)["role"] == "read_only"
    with pytest.raises(SettingsError):
        in_process_client(settings.model_copy(update={"profile": "staging"}))
