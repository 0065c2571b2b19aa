"""`mlfin users`: what it prints, what it never prints, and that a password is no argument."""
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlfin.core.errors import DataError, MlfinError, ParameterError
from mlfin.core.settings import load_settings
from mlfin.cli.app import app
from mlfin.accounts import auth
from mlfin.accounts.auth import open_accounts
from mlfin.accounts.credentials import Hashing
from mlfin.accounts.roles import BadCredentials, BadToken, PasswordChangeNeeded, Revoked

ROOT = Path(__file__).parents[2]
PASSWORD, CHEAP = "ferry ladder tulip onion", Hashing(1, 8, 1)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    (tmp_path / "settings.ini").write_text((ROOT / "settings.ini").read_text())
    (tmp_path / "pipeline.yaml").write_text("tasks: []\n")
    monkeypatch.setenv("MLFIN_ROOT", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(auth, "Hashing", lambda: CHEAP)
    return load_settings("test", root=tmp_path)


@pytest.fixture
def accounts(settings):
    found = open_accounts(settings)
    yield found
    found.close()


def run(*words, typed=None):
    "Exit code and output; errors of mlfin come through, as in `mlfin`."
    done = CliRunner().invoke(app, ["users", *map(str, words)], input=typed)
    if done.exception is not None and not isinstance(done.exception, SystemExit): raise done.exception
    return done.exit_code, done.output


def test_a_new_user_logs_in_with_what_was_printed(accounts):
    assert run("ls") == (0, "There is nobody yet: `mlfin users add NAME --role administrator`.\n")
    code, text = run("add", "Boss", "--role", "administrator")
    once = re.search(r"for one use: (\S+)", text)[1]
    with pytest.raises(PasswordChangeNeeded): accounts.issue("boss", once)
    assert code == 0 and accounts.issue("boss", once, new_password=PASSWORD).person.role == "administrator"
    assert once not in run("ls")[1] + run("audit")[1]


def test_a_password_is_typed_or_read_and_never_an_argument(accounts):
    assert run("add", "ann", "--stdin", typed=PASSWORD + "\n")[0] == 0
    assert run("add", "bob", "--ask", typed=f"{PASSWORD}\n{PASSWORD}\n")[0] == 0
    assert [accounts.issue(n, PASSWORD).person.name for n in ("ann", "bob")] == ["ann", "bob"]
    code, text = run("passwd", "ann", typed="marble canyon velvet spoon\n" * 2)
    assert code == 0 and "marble" not in text
    with pytest.raises(BadCredentials): accounts.issue("ann", PASSWORD)
    for words in (
        ("add", "eve", "--password", PASSWORD),
        ("passwd", "ann", PASSWORD),
        ("add", "eve", PASSWORD),
    ):
        assert run(*words)[0] == 2
    assert (
        run("passwd", "ann", typed="one two three four\nanother one of them\n")[0] == 1
    )  # not the same twice
    with pytest.raises(ParameterError, match="standard input"): run("passwd", "ann", "--stdin", typed="")


def test_what_takes_rights_away(accounts):
    for name, role in (("boss", "administrator"), ("ann", "analyst")):
        run("add", name, "--role", role, "--stdin", typed=PASSWORD)
    key = re.search(r"mlfin_key_\S+", run("key", "ann", "collector", "--role", "analyst")[1])[0]
    tokens = accounts.issue("ann", PASSWORD)
    assert accounts.verify(tokens.access).role == accounts.verify(key).role == "analyst"
    assert run("role", "ann", "read_only")[0] == 0
    assert run("revoke", "ann")[1] == "1 sessions of ann ended.\n"
    assert run("revoke", "--key", key.split("_")[2])[0] == 0
    accounts.cache.expire()
    for token in (tokens.access, key):
        with pytest.raises(Revoked): accounts.verify(token)
    assert run("disable", "ann")[0] == 0
    with pytest.raises(BadCredentials): accounts.issue("ann", PASSWORD)
    assert run("enable", "ann")[0] == run("reset-mfa", "ann")[0] == 0
    assert accounts.issue("ann", PASSWORD).person.role == "read_only"
    for words in (("disable", "boss"), ("role", "boss", "analyst")):
        with pytest.raises(ParameterError, match="last administrator"): run(*words)
    with pytest.raises(ParameterError, match="did you mean `ann`"): run("disable", "an")


def test_keys_are_dropped(accounts):
    run("add", "ann", "--stdin", typed=PASSWORD)
    token = accounts.issue("ann", PASSWORD).access
    assert "still verify" in run("rotate")[1] and "dropped" in run("rotate", "--drop")[1]
    accounts.cache.expire()
    with pytest.raises(BadToken): accounts.verify(token)


def test_the_log_is_shown_and_checked(accounts):
    run("add", "boss", "--role", "administrator")
    text = run("audit", "--check")[1]
    head = re.search(r"head: (\d+:\w{64})\n", text)[1]
    run("add", "ann")
    assert run("audit", "--check", "--head", head)[0] == 0
    rows = json.loads(run("audit", "--json")[1])["rows"]
    assert [(r["what"], r["target"]) for r in rows] == [("add user", "boss"), ("add user", "ann")]
    assert "command line" in rows[0]["who"]
    with accounts.store.engine.connect() as connection:
        connection.exec_driver_sql("DROP TRIGGER auth_audit_update")
        connection.exec_driver_sql("UPDATE auth_audit SET target = 'eve' WHERE seq = 1")
    with pytest.raises(DataError, match="from row 1 on"): run("audit", "--check")
    with pytest.raises(ParameterError, match="COUNT:HASH"): run("audit", "--head", "5")


def test_json_is_one_document_and_holds_no_secret(accounts):
    run("add", "ann", "--stdin", typed=PASSWORD)
    key = re.search(r"mlfin_key_\S+", run("key", "ann", "collector")[1])[0]
    users, keys = (json.loads(run(*words, "--json")[1]) for words in (("ls",), ("key",)))
    assert [u["name"] for u in users["users"]] == ["ann"]
    assert [k["label"] for k in keys["keys"]] == ["collector"]
    assert key not in json.dumps([users, keys]) and "argon2" not in json.dumps([users, keys])


def test_errors_are_of_mlfin(settings, monkeypatch):
    monkeypatch.setenv("MLFIN_ACCOUNTS", "mysql://me:hidden@x/y")
    with pytest.raises(MlfinError, match="`accounts` must be") as e: run("ls")
    assert "hidden" not in str(e.value)
