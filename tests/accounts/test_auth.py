"""Logging in, tokens and sessions, attacked: forged, replayed, raced, revoked; on SQLite and PostgreSQL
alike."""
import base64
import json
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import jwt
import pandas as pd
import pyotp
import pytest

from mlfin.core.errors import DataError, MlfinError, ParameterError, SettingsError
from mlfin.core.settings import load_settings
from mlfin.accounts import login_attempts as attempts, auth, users
from mlfin.accounts.account_store import MIGRATIONS, AccountStore, migrate_accounts
from mlfin.accounts.audit_log import AuditHead, add_audit_entry, check_audit, read_audit, write_audit_entry
from mlfin.accounts.auth import Accounts
from mlfin.accounts.sessions import LoginRules, Tokens
from mlfin.accounts.credentials import Hashing
from mlfin.accounts.keys import KEYS_KEPT, Keys
from mlfin.accounts.roles import AuthError, Origin
from mlfin.accounts.users import (
    add_user,
    confirm,
    enrol,
    first_administrator,
    list_keys,
    list_sessions,
    list_users,
    new_key,
    reset_second_factor,
    revoke_key,
    revoke_sessions,
    rotate_keys,
    set_disabled,
    set_password,
    set_role,
)

from ..fixtures.asking import Clock

ROOT = Path(__file__).parents[2]
PASSWORD, OTHER = "ferry ladder tulip onion", "marble canyon velvet spoon"
HERE = Origin(address="192.0.2.7", request="r-1")
CHEAP = Hashing(1, 8, 1)


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory):
    "The address of a real PostgreSQL server."
    state = tmp_path_factory.mktemp("services") / "state.json"
    call = [ROOT / "env" / "services", "{}", "postgresql", "--state", state]
    done = subprocess.run([c if c != "{}" else "up" for c in call], capture_output=True, text=True)
    if "is not installed" in done.stderr:
        pytest.skip("needs postgresql: env/install-services")
    assert done.returncode == 0, done.stderr
    yield dict(line.split() for line in done.stdout.splitlines())["postgresql"]
    subprocess.run([ROOT / "env" / "services", "down", "--state", state], capture_output=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/accounts.sqlite"
    import psycopg

    address = request.getfixturevalue("postgresql")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return address


@pytest.fixture
def opened(url, tmp_path):
    "Open the accounts, as one of several processes would: opened(rules=..., clock=...)."
    held, one = [], Clock()

    def opening(rules=None, clock=one, stale=0.0, hashing=CHEAP, **kwargs):
        held.append(
            Accounts(
                url,
                Keys(tmp_path / "keys.json"),
                rules=rules,
                clock=clock,
                stale=stale,
                hashing=hashing,
                **kwargs,
            )
        )
        return held[-1]

    yield opening
    for accounts in held:
        accounts.close()


@pytest.fixture
def accounts(opened):
    found = opened()
    add_user(found, "boss", "administrator", PASSWORD)
    add_user(found, "ann", "analyst", PASSWORD)
    return found


@pytest.fixture
def lite(tmp_path):
    found = Accounts(f"sqlite:///{tmp_path}/lite.sqlite", hashing=CHEAP, stale=0.0)
    add_user(found, "ann", "analyst", PASSWORD)
    yield found
    found.close()


def word(call, *args, **kwargs):
    "What a refused call is told; None where it is not refused."
    try:
        call(*args, **kwargs)
    except AuthError as e:
        return e.code
    return None


def together(count, work):
    "What `count` threads got from work(number), begun at once: results and errors."
    results, start = [None] * count, threading.Barrier(count)

    def run(number):
        start.wait()
        try:
            results[number] = work(number)
        except MlfinError as e:
            results[number] = e

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for t in threads: t.start()
    for t in threads: t.join(60)
    return results


# ---- tokens
# -----------------------------------------------------------------------------------------------------

def test_a_token_is_its_owners(accounts):
    tokens = accounts.issue("ann", PASSWORD, origin=HERE)
    person = accounts.verify(tokens.access)
    assert (person.name, person.role, person.kind, person.scopes) == (
        "ann",
        "analyst",
        "user",
        ("read_only", "analyst"),
    )
    assert 590 < tokens.expires_in <= 600 and person == tokens.person


def forge(accounts, access, key=None, algorithm="HS256", header=None, drop=(), **claims):
    "A token like another one, but for what is said."
    said = jwt.decode(access, options={"verify_signature": False}) | claims
    head = {
        k: v
        for k, v in ({"kid": accounts.keys.names()[0], "typ": "at+jwt"} | (header or {})).items()
        if v is not None
    }
    return jwt.encode(
        {k: v for k, v in said.items() if k not in drop},
        accounts.keys.all()[0] if key is None else key,
        algorithm,
        headers=head,
    )


def test_forged_tokens_are_refused(lite, recwarn):
    now, access = int(time.time()), lite.issue("ann", PASSWORD).access
    own = lite.keys.all()[0]
    assert word(lite.verify, forge(lite, access)) is None
    forged = {
        "none": forge(lite, access, key="", algorithm="none"),
        "another algorithm": forge(lite, access, algorithm="HS512"),
        "another key": forge(lite, access, key=b"x" * 32),
        "the key's name as key": forge(lite, access, key=lite.keys.names()[0].encode() * 3),
        "unknown kid": forge(lite, access, header={"kid": "0" * 12}),
        "no kid": forge(lite, access, header={"kid": None}),
        "another type": forge(lite, access, header={"typ": "JWT"}),
        "another audience": forge(lite, access, aud="other"),
        "another profile": forge(lite, access, iss="mlfin/production"),
        "another session": forge(lite, access, sid="f" * 32),
        "somebody else": forge(lite, access, sub="u2"),
        "not yet": forge(lite, access, nbf=now + 600),
        "made in the future": forge(lite, access, iat=now + 600),
        "time as text": forge(lite, access, exp="never"),
        **{
            f"no {c}": forge(lite, access, drop=(c,))
            for c in ("iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp")
        },
    }
    assert {k: word(lite.verify, v) for k, v in forged.items()} == dict.fromkeys(forged, "bad_token")
    assert own not in repr(lite.keys).encode() and own.hex() not in repr(lite.keys)
    assert word(lite.verify, forge(lite, access, exp=now - 5)) == "expired"


def test_algorithm_confusion(lite):
    """A token signed with a private key, whose header says RS256, is not checked as if our key were a public
    one."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    access = lite.issue("ann", PASSWORD).access
    private = rsa.generate_private_key(65537, 2048)
    assert word(lite.verify, forge(lite, access, key=private, algorithm="RS256")) == "bad_token"
    head, body, sign = access.split(".")
    changed = (
        base64.urlsafe_b64encode(
            json.dumps({"alg": "none", "kid": lite.keys.names()[0], "typ": "at+jwt"}).encode()
        )
        .rstrip(b"=")
        .decode()
    )
    assert [
        word(lite.verify, t) for t in (f"{changed}.{body}.", f"{changed}.{body}.{sign}", f"{head}.{body}.")
    ] == ["bad_token"] * 3


def test_rubbish_is_refused_and_breaks_nothing(lite):
    deep = base64.urlsafe_b64encode(b"[" * 2900).decode()
    for token in (
        "",
        ".",
        "..",
        "a.b.c",
        "\x00",
        "\udcff.x.y",
        "é" * 50,
        deep + ".e30.x",
        "x" * 5000,
        None,
        3,
        b"bytes",
        "mlfin_key_",
        "mlfin_key_x_y",
        "mlfin_key_' OR 1=1 --_x",
    ):
        assert word(lite.verify, token) == "bad_token", repr(token)[:40]


# ---- sessions
# ---------------------------------------------------------------------------------------------------

def test_a_refresh_token_used_twice_ends_the_session(accounts):
    first = accounts.issue("ann", PASSWORD)
    elsewhere = accounts.issue("ann", PASSWORD)
    second = accounts.refresh(first.refresh)
    assert accounts.verify(first.access) == accounts.verify(second.access)
    assert word(accounts.refresh, first.refresh, HERE) == "revoked"
    assert [word(accounts.verify, t.access) for t in (first, second, elsewhere)] == [
        "revoked",
        "revoked",
        None,
    ]
    assert [word(accounts.refresh, t) for t in (second.refresh, "x", first.access, "\udcff")] == [
        "revoked",
        "bad_token",
        "bad_token",
        "bad_token",
    ]
    assert "refused: used twice, session ended" in set(read_audit(accounts.store).outcome)


def test_of_eight_threads_with_one_refresh_token_one_wins(accounts):
    token = accounts.issue("ann", PASSWORD).refresh
    results = together(8, lambda _: accounts.refresh(token))
    lost = [r for r in results if isinstance(r, AuthError)]
    assert len(lost) == 7 and {e.code for e in lost} == {"revoked"}


def test_refreshing_does_not_prolong_the_session(opened):
    clock = Clock()
    accounts = opened(LoginRules(access_minutes=10, refresh_minutes=60, session_minutes=90), clock)
    add_user(accounts, "ann", "analyst", PASSWORD)
    tokens = first = accounts.issue("ann", PASSWORD)
    for minutes in (50, 85):
        clock.ahead = minutes * 60
        tokens = accounts.refresh(tokens.refresh)
        assert tokens.session_ends == first.session_ends
    assert 290 < tokens.expires_in <= 300  # the five minutes that are left
    clock.ahead = 91 * 60
    assert word(accounts.refresh, tokens.refresh) == "expired"
    assert len(list_sessions(accounts, "ann")) == 0


def test_a_session_left_alone_is_over(opened):
    clock = Clock()
    accounts = opened(clock=clock)
    add_user(accounts, "ann", "analyst", PASSWORD)
    tokens = accounts.issue("ann", PASSWORD)
    clock.ahead = 61 * 60
    assert word(accounts.refresh, tokens.refresh) == "expired"


def test_what_ends_a_session_counts_in_every_process(accounts, opened):
    other = opened(stale=0.1)

    def seen(tokens):
        return word(other.verify, tokens.access)

    for end in (
        lambda t: accounts.logout(accounts.verify(t.access)),
        lambda t: revoke_sessions(accounts, "ann"),
        lambda t: revoke_sessions(accounts, "ann", t.person.session),
        lambda t: set_password(accounts, "ann", PASSWORD),
        lambda t: reset_second_factor(accounts, "ann"),
        lambda t: set_disabled(accounts, "ann", True),
    ):
        tokens = accounts.issue("ann", PASSWORD)
        assert seen(tokens) is None and word(accounts.verify, tokens.access) is None
        end(tokens)
        assert word(accounts.verify, tokens.access) == "revoked"           # at once where it was done
        limit = time.monotonic() + 5
        while seen(tokens) is None and time.monotonic() < limit: time.sleep(0.02)
        assert seen(tokens) == "revoked" and word(accounts.refresh, tokens.refresh) == "revoked"
    assert (
        word(accounts.issue, "ann", PASSWORD) == "bad_credentials"
    )  # disabled: as if the password were wrong
    set_disabled(accounts, "ann", False)
    assert seen(tokens) == "revoked" and word(accounts.issue, "ann", PASSWORD) is None


def test_a_change_is_seen_half_a_second_later_at_most(accounts, opened, monkeypatch):
    other, tokens, now = opened(stale=0.5), accounts.issue("ann", PASSWORD), [100.0]
    monkeypatch.setattr(auth.time, "monotonic", lambda: now[0])
    assert other.verify(tokens.access).role == "analyst"
    set_role(accounts, "ann", "read_only")
    assert accounts.verify(tokens.access).role == "read_only"
    now[0] += 0.51
    assert other.verify(tokens.access).role == "read_only"
    assert opened(stale=60.0).cache.stale == 1.0   # nobody can ask for more than a second


def test_one_persons_session_is_not_ended_by_another(accounts):
    ann, boss = accounts.issue("ann", PASSWORD), accounts.issue("boss", PASSWORD)
    assert revoke_sessions(accounts, "ann", boss.person.session) == 0
    assert word(accounts.verify, boss.access) is None and word(accounts.verify, ann.access) is None


def test_a_new_password_ends_other_sessions_and_is_not_the_old_one(accounts):
    tokens = accounts.issue("ann", PASSWORD)
    with pytest.raises(ParameterError, match="another one"):
        accounts.issue("ann", PASSWORD, new_password=PASSWORD)
    with pytest.raises(ParameterError, match="12 to 256"):
        accounts.issue("ann", PASSWORD, new_password="short")
    fresh = accounts.issue("ann", PASSWORD, new_password=OTHER)
    assert [word(accounts.verify, t.access) for t in (tokens, fresh)] == ["revoked", None]
    assert [word(accounts.issue, "ann", p) for p in (PASSWORD, OTHER)] == ["bad_credentials", None]


def test_hashes_of_another_cost_are_made_again(accounts, opened):
    dearer = opened(hashing=Hashing(2, 16, 1))
    kept = [accounts.store.one("SELECT password FROM auth_users WHERE name = 'ann'")[0]]
    for _ in range(2):
        dearer.issue("ann", PASSWORD)
        kept.append(accounts.store.one("SELECT password FROM auth_users WHERE name = 'ann'")[0])
    assert "m=8,t=1" in kept[0] and "m=16,t=2" in kept[1] and kept[1] == kept[2]
    assert word(accounts.issue, "ann", PASSWORD) is None


@pytest.mark.parametrize("other", ["hashed anew", "changed"])
def test_a_password_that_another_log_in_keeps_anew_meanwhile_is_proven_again(
    accounts, opened, monkeypatch, other
):
    dearer, prove = opened(hashing=Hashing(2, 16, 1)), auth.verify_password
    def slow(*args):
        found = prove(*args)
        monkeypatch.setattr(auth, "verify_password", prove)
        accounts.issue("ann", PASSWORD, new_password=OTHER) if other == "changed" else dearer.issue(
            "ann", PASSWORD
        )
        return found
    monkeypatch.setattr(auth, "verify_password", slow)
    assert word(dearer.issue, "ann", PASSWORD) == (None if other == "hashed anew" else "bad_credentials")


# ---- the second factor
# ------------------------------------------------------------------------------------------

@pytest.fixture
def strict(opened):
    clock = Clock()
    accounts = opened(LoginRules(second_factor=True), clock)
    add_user(accounts, "ann", "analyst", PASSWORD)
    secret = enrol(accounts, "ann", PASSWORD).secret
    totp = pyotp.TOTP(secret)
    codes = confirm(accounts, "ann", PASSWORD, totp.at(int(clock())))
    clock.ahead += 60
    return accounts, clock, totp, codes


def test_a_second_factor_is_demanded(opened):
    accounts = opened(LoginRules(second_factor=True))
    once = first_administrator(accounts)
    assert word(accounts.issue, "admin", once) == "password_change_needed"
    assert word(enrol, accounts, "admin", once) == "password_change_needed"
    assert word(accounts.issue, "admin", once, new_password=PASSWORD) == "enrolment_needed"
    assert word(accounts.issue, "admin", once) == "bad_credentials"                    # it was for one use
    assert word(accounts.issue, "admin", PASSWORD) == "enrolment_needed"
    secret = enrol(accounts, "admin", PASSWORD).secret
    assert (
        word(accounts.issue, "admin", PASSWORD, pyotp.TOTP(secret).at(int(accounts.clock())))
        == "enrolment_needed"
    )  # not confirmed yet
    assert word(confirm, accounts, "admin", PASSWORD, "000000") == "bad_credentials"
    confirm(accounts, "admin", PASSWORD, pyotp.TOTP(secret).at(int(accounts.clock())))
    assert word(accounts.issue, "admin", PASSWORD) == "second_factor_needed"
    assert word(accounts.issue, "admin", PASSWORD, pyotp.TOTP(secret).at(int(accounts.clock()) + 30)) is None
    assert list_users(accounts).second_factor.tolist() == [True]


def test_a_code_is_good_once(strict):
    accounts, clock, totp, _ = strict
    code = totp.at(int(clock()))
    accounts.issue("ann", PASSWORD, code)
    assert word(accounts.issue, "ann", PASSWORD, code) == "bad_credentials"
    assert (
        word(accounts.issue, "ann", PASSWORD, totp.at(int(clock()) - 30)) == "bad_credentials"
    )  # older than the last one used
    clock.ahead += 30
    assert word(accounts.issue, "ann", PASSWORD, code) == "bad_credentials"
    assert (
        word(accounts.issue, "ann", PASSWORD, f" {totp.at(int(clock()))[:3]} {totp.at(int(clock()))[3:]}")
        is None
    )


@pytest.mark.parametrize("steps, good", [(-2, False), (-1, True), (1, True), (2, False)])
def test_clocks_may_differ_by_one_step(strict, steps, good):
    accounts, clock, totp, _ = strict
    clock.ahead += 60
    assert (word(accounts.issue, "ann", PASSWORD, totp.at(int(clock()) + 30 * steps)) is None) == good


def test_of_four_threads_with_one_code_one_gets_in(strict):
    accounts, clock, totp, codes = strict
    for code in (totp.at(int(clock())), codes[1]):
        results = together(4, lambda _, code=code: accounts.issue("ann", PASSWORD, code))
        assert [isinstance(r, Tokens) for r in results].count(True) == 1
        assert {r.code for r in results if isinstance(r, AuthError)} <= {"bad_credentials", "throttled"}


def test_a_recovery_code_is_good_once_and_for_its_owner(strict):
    accounts, _, _, codes = strict
    assert len(set(codes)) == 10
    assert [word(accounts.issue, "ann", PASSWORD, c) for c in (codes[0].upper(), codes[0])] == [
        None,
        "bad_credentials",
    ]
    add_user(accounts, "bob", "analyst", PASSWORD)
    secret = enrol(accounts, "bob", PASSWORD).secret
    confirm(accounts, "bob", PASSWORD, pyotp.TOTP(secret).at(int(accounts.clock())))
    assert word(accounts.issue, "bob", PASSWORD, codes[1]) == "bad_credentials"
    assert word(accounts.issue, "ann", PASSWORD, codes[1]) is None


def test_a_second_factor_is_not_replaced_by_who_has_only_the_password(strict):
    accounts, clock, totp, _ = strict
    assert word(enrol, accounts, "ann", PASSWORD) == "second_factor_needed"
    assert word(enrol, accounts, "ann", PASSWORD, "000000") == "bad_credentials"
    with pytest.raises(ParameterError, match="enrol first"):
        confirm(accounts, "ann", PASSWORD, totp.at(int(clock())))
    assert enrol(accounts, "ann", PASSWORD, totp.at(int(clock()))).secret != totp.secret


def test_codes_are_throttled_like_passwords(strict):
    accounts, clock, totp, _ = strict
    words = [word(accounts.issue, "ann", PASSWORD, f"{n:06}") for n in range(7)]
    assert words == ["bad_credentials"] * 5 + ["throttled"] * 2
    assert word(accounts.issue, "ann", PASSWORD) == "throttled"  # and asking without a code does not clear it


# ---- guessing
# ---------------------------------------------------------------------------------------------------

def test_each_failure_after_the_fifth_makes_the_next_wait_twice_as_long(opened):
    clock = Clock()
    accounts = opened(clock=clock)
    add_user(accounts, "ann", "analyst", PASSWORD)
    assert [word(accounts.issue, "ann", "wrong", origin=HERE) for _ in range(6)] == [
        "bad_credentials"
    ] * 5 + ["throttled"]
    waits = []
    for _ in range(12):
        with pytest.raises(AuthError) as e:
            accounts.issue("ann", PASSWORD, origin=HERE)  # even the right one waits
        waits.append(round(e.value.retry_after))
        clock.ahead += e.value.retry_after + 0.5
        assert word(accounts.issue, "ann", "wrong", origin=HERE) == "bad_credentials"
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    clock.ahead += 901
    assert word(accounts.issue, "ann", PASSWORD, origin=HERE) is None
    assert [word(accounts.issue, "ann", "wrong", origin=HERE) for _ in range(5)] == [
        "bad_credentials"
    ] * 5  # counted from nothing again


def test_who_guesses_at_the_owners_own_address_delays_him_by_a_minute_at_most(opened):
    clock = Clock()
    accounts = opened(clock=clock)
    add_user(accounts, "ann", "analyst", PASSWORD)
    assert word(accounts.issue, "ann", PASSWORD, origin=HERE) is None
    assert [word(accounts.issue, "ann", "wrong", origin=HERE) for _ in range(6)] == [
        "bad_credentials"
    ] * 5 + ["throttled"]
    waits = []
    for _ in range(9):
        with pytest.raises(AuthError) as e: accounts.issue("ann", PASSWORD, origin=HERE)
        waits.append(round(e.value.retry_after))
        clock.ahead += e.value.retry_after + 0.5
        assert word(accounts.issue, "ann", "wrong", origin=HERE) == "bad_credentials"
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    clock.ahead += 60.5
    assert word(accounts.issue, "ann", PASSWORD, origin=HERE) is None


def test_sixteen_guesses_at_once_are_sixteen_guesses(opened):
    accounts = opened()
    add_user(accounts, "ann", "analyst", PASSWORD)
    words = [e.code for e in together(16, lambda _: accounts.issue("ann", "wrong"))]
    assert (words.count("bad_credentials"), words.count("throttled")) == (5, 11)


GUESS = """
import sys
from mlfin.accounts.auth import Accounts
from mlfin.accounts.credentials import Hashing
from mlfin.accounts.keys import Keys
from mlfin.accounts.roles import AuthError
accounts = Accounts(sys.argv[1], Keys(sys.argv[2]), hashing=Hashing(1, 8, 1),
                    clock=lambda: float(sys.argv[3]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(8):
    try: accounts.issue("ann", "wrong")
    except AuthError as e: print(e.code)
"""


def test_two_processes_count_together(accounts, opened, url, tmp_path):
    command = [sys.executable, "-c", GUESS, url, str(tmp_path / "keys.json"), str(accounts.clock())]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as other:
        assert other.stdout.readline() == "ready\n"
        here = opened()
        other.stdin.write("begin\n")
        other.stdin.flush()
        words = [word(here.issue, "ann", "wrong") for _ in range(8)] + other.communicate(timeout=60)[
            0
        ].split()
    assert (words.count("bad_credentials"), words.count("throttled")) == (5, 11)


def test_an_address_is_counted_over_all_names(opened):
    accounts = opened()
    for name in ("ann", "bob"): add_user(accounts, name, "analyst", PASSWORD)

    def guess(number, address):
        if number % 4 == 3:
            accounts.issue("ann", PASSWORD, origin=Origin(address=address))  # a good account clears nothing
        return word(accounts.issue, f"name{number}", "wrong", origin=Origin(address=address))

    words = [guess(n, f"2001:db8:0:1::{n:x}") for n in range(20)]                     # one customer's network
    assert words == ["bad_credentials"] * 20
    assert word(accounts.issue, "bob", PASSWORD, origin=Origin(address="2001:db8:0:1::ffff")) == "throttled"
    assert (
        word(accounts.issue, "ann", PASSWORD, origin=Origin(address="2001:db8:0:1::ffff")) is None
    )  # she has logged in from there before
    assert word(accounts.issue, "bob", PASSWORD, origin=Origin(address="2001:db8:0:2::1")) is None
    for n in range(20):
        word(accounts.issue, f"name{n + 50}", "wrong", origin=Origin(address="::ffff:198.51.100.9"))
    assert word(accounts.issue, "ann", PASSWORD, origin=Origin(address="198.51.100.9")) == "throttled"


def attack(accounts, clock, name="ann", addresses=22, minutes=2, password="wrong"):
    """Guesses from many addresses, again and again; what they were told."""
    told = []
    for _ in range(minutes):
        told += [
            word(accounts.issue, name, password, origin=Origin(address=f"203.0.113.{n}"))
            for n in range(addresses)
        ]
        clock.ahead += 60
    return told


def test_nobody_elsewhere_keeps_an_owner_out(opened):
    """While many addresses guess: at an address where she was before she waits for nothing, at a new one for
    a minute, once, however they go on."""
    clock = Clock()
    accounts = opened(clock=clock)
    add_user(accounts, "ann", "analyst", PASSWORD)
    home, hotel = Origin(address="192.0.2.7"), Origin(address="198.51.100.1")
    accounts.issue("ann", PASSWORD, origin=home)
    told = attack(accounts, clock)
    assert set(told) == {"bad_credentials", "throttled"} and told.count("bad_credentials") > 40
    for _ in range(2):  # and again and again, in any process
        assert word(accounts.issue, "ann", PASSWORD, origin=home) is None
        attack(opened(clock=clock), clock, minutes=1)
        assert word(opened(clock=clock).issue, "ann", PASSWORD, origin=home) is None
    with pytest.raises(AuthError, match="guessed at: wait 60 s") as e:
        accounts.issue("ann", PASSWORD, origin=hotel)
    assert e.value.retry_after == 60
    clock.ahead += 30
    attack(accounts, clock, minutes=0)
    assert (
        word(accounts.issue, "ann", PASSWORD, origin=hotel) == "throttled"
    )  # not before its time, and asking again costs nothing
    clock.ahead += 29
    for n in range(22): word(accounts.issue, "ann", "wrong", origin=Origin(address=f"203.0.113.{n}"))
    clock.ahead += 1
    assert word(accounts.issue, "ann", PASSWORD, origin=hotel) is None                # whatever the others do
    attack(accounts, clock, minutes=1)
    assert word(accounts.issue, "ann", PASSWORD, origin=hotel) is None  # it is known from now on


def test_a_wrong_password_at_a_known_address_waits_there_and_nowhere_else(opened):
    clock = Clock()
    accounts = opened(clock=clock)
    add_user(accounts, "ann", "analyst", PASSWORD)
    home, work = Origin(address="192.0.2.7"), Origin(address="192.0.2.8")
    for origin in (home, work): accounts.issue("ann", PASSWORD, origin=origin)
    words = [word(accounts.issue, "ann", "wrong", origin=home) for _ in range(7)]
    assert words == ["bad_credentials"] * 5 + ["throttled"] * 2
    assert word(accounts.issue, "ann", PASSWORD, origin=home) == "throttled"
    assert word(accounts.issue, "ann", PASSWORD, origin=work) is None


def test_guesses_are_few_however_many_addresses(opened):
    """In an hour, of which each address spends every minute."""
    clock = Clock()
    accounts = opened(clock=clock)
    add_user(accounts, "ann", "analyst", PASSWORD)
    told = attack(accounts, clock, addresses=2, minutes=60)
    assert (
        told.count("bad_credentials") <= 2 * 17
    )  # eleven, a minute apart, and then 2, 4, 8, 15, 15 minutes apart


def test_what_is_remembered_of_addresses_is_bounded_and_hashed(opened, monkeypatch):
    monkeypatch.setattr(attempts, "MAX_ADDRESSES", 3)
    clock = Clock()
    accounts = opened(clock=clock)
    add_user(accounts, "ann", "analyst", PASSWORD)
    for n in range(6):
        clock.ahead += 1
        accounts.issue("ann", PASSWORD, origin=Origin(address=f"2001:db8:{n:x}::7"))
    rows = accounts.store.rows("SELECT * FROM auth_places")
    assert len(rows) == 3 and "2001" not in str(rows) and "ann" not in str(rows)
    attack(accounts, clock)
    assert [
        word(accounts.issue, "ann", PASSWORD, origin=Origin(address=f"2001:db8:{n:x}::8")) for n in (5, 3, 2)
    ] == [None, None, "throttled"]
    clock.ahead += 91 * 86_400
    attack(accounts, clock)
    assert (
        word(accounts.issue, "ann", PASSWORD, origin=Origin(address="2001:db8:5::7")) == "throttled"
    )  # too long ago
    set_password(accounts, "ann", OTHER)
    assert not accounts.store.rows("SELECT * FROM auth_places")
    assert word(accounts.issue, "ann", OTHER, origin=Origin(address="203.0.113.5")) is None


def test_who_has_the_password_guesses_few_codes_from_however_many_addresses(strict):
    accounts, clock, totp, codes = strict
    home = Origin(address="192.0.2.7")
    accounts.issue("ann", PASSWORD, codes[0], home)

    def guess(n): return word(accounts.issue, "ann", PASSWORD, f"{n:06}", Origin(address=f"198.51.100.{n}"))
    assert [guess(n) for n in range(9)] == ["bad_credentials"] * 5 + ["throttled"] * 4
    with pytest.raises(AuthError, match="Too many wrong codes"):
        enrol(accounts, "ann", PASSWORD, "000000", Origin(address="198.51.100.99"))
    assert (
        word(accounts.issue, "ann", PASSWORD, codes[1], Origin(address="198.51.100.77")) == "throttled"
    )  # nor by a recovery code
    assert (
        word(accounts.issue, "ann", PASSWORD, codes[2], home) is None
    )  # who was here before is not kept out


@pytest.mark.parametrize("times", [5, pytest.param(25, marks=pytest.mark.slow)])
def test_known_and_unknown_names_take_the_same_time_on_every_route(tmp_path, times):
    """Medians of the processor's time, of this process: a wrong password for a name that is there, one that
    is not, and one that nobody can have."""
    accounts = Accounts(f"sqlite:///{tmp_path}/accounts.sqlite", hashing=Hashing(1, 16_384, 1))
    add_user(accounts, "ann", "analyst", PASSWORD)
    routes = {
        "login": lambda n, at: accounts.issue(n, "wrong one", None, at),
        "code": lambda n, at: accounts.issue(n, "wrong one", "123456", at),
        "recovery": lambda n, at: accounts.issue(n, "wrong one", "qj6x3k-2m7wpa-dr5vte-c4hyzn", at),
        "password": lambda n, at: accounts.issue(n, "wrong one", None, at, OTHER),
        "enrol": lambda n, at: enrol(accounts, n, "wrong one", None, at),
        "confirm": lambda n, at: confirm(accounts, n, "wrong one", "123456", at),
    }
    names = {"known": "ann", "unknown": "bea", "impossible": "a\x00b"}
    for route, call in routes.items():
        took = {kind: [] for kind in names}
        for n in range(times):
            with accounts.write() as write:
                write.run("DELETE FROM auth_attempts")  # nobody waits: what is timed is the answer
            for kind, name in names.items():
                begin = time.process_time()
                assert word(call, name, Origin(address=f"192.0.2.{n}")) == "bad_credentials"
                took[kind].append(time.process_time() - begin)
        medians = {kind: sorted(t)[len(t) // 2] for kind, t in took.items()}
        assert max(medians.values()) < 1.35 * min(medians.values()), (route, medians)
    accounts.close()


def test_an_unknown_user_is_answered_like_a_wrong_password(accounts, opened):
    slow = opened(hashing=Hashing(2, 16_384, 1))
    set_password(slow, "ann", OTHER)
    names = ("ann", "nobody", "аnn", "x" * 100_000, "a\x00b", "")
    said, least = {}, dict.fromkeys(names, float("inf"))
    for n in range(4):
        for name in names:
            begin = time.process_time()  # of this process: others on the machine do not count
            with pytest.raises(AuthError) as e: slow.issue(name, f"wrong {n}")
            least[name] = min(least[name], time.process_time() - begin)
            said[name] = e.value.code, str(e.value), e.value.status
    assert len(set(said.values())) == 1
    assert max(least.values()) < 2.5 * min(least.values()), least
    assert word(slow.issue, "ann", "x" * 1_000_000) == "bad_credentials"


# ---- names
# ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(
    "name",
    [
        "a'; DROP TABLE auth_users; --",
        "ann\x00",
        "аnn",
        "ann\u202e",
        "a nn",
        "",
        "ｘ" * 70,
        "../ann",
        "%00",
        "ann\n",
        "ﬀ'",
    ],
)
def test_names_that_could_deceive_are_refused(accounts, name):
    if name.strip() != "ann":
        with pytest.raises(ParameterError): add_user(accounts, name)
    assert word(accounts.issue, name, "wrong") == "bad_credentials"
    for change in (set_disabled, set_role, new_key):
        if name.strip() != "ann" or "\n" in name:
            with pytest.raises(ParameterError):
                change(accounts, name, {set_disabled: True, set_role: "administrator", new_key: "x"}[change])
    assert list_users(accounts).name.tolist() == ["ann", "boss"]


def test_look_alikes_are_one_account(accounts):
    for name in ("ANN", "Ａｎｎ", " ann", "ａｎｎ"):
        with pytest.raises(ParameterError, match="a new one"):
            add_user(accounts, name, "administrator", PASSWORD)
        assert accounts.verify(accounts.issue(name, PASSWORD).access).name == "ann"


def test_half_characters_and_zero_bytes_are_wrong_and_nothing_worse(accounts):
    "What JSON and addresses can bring: lone surrogates, NUL, text without end."
    for odd in ("\ud800", "a\x00b", "\ud800" * 300, "\u0345" * 300):
        assert word(accounts.issue, odd, odd, odd, Origin(odd, odd, odd)) in ("bad_credentials", "throttled")
        assert (
            word(accounts.issue, "ann", PASSWORD, odd, Origin("", odd, odd)) is None
        )  # no second factor: the code is not looked at
        assert word(accounts.refresh, odd) == word(accounts.verify, odd) == "bad_token"
        assert revoke_sessions(accounts, "ann", odd) == 0
        assert (
            len(list_sessions(accounts, odd))
            == len(list_keys(accounts, odd))
            == len(read_audit(accounts.store, who=odd))
            == 0
        )
        for call in (
            lambda odd=odd: set_disabled(accounts, odd, True),
            lambda odd=odd: revoke_key(accounts, odd),
            lambda odd=odd: new_key(accounts, "ann", odd),
        ):
            with pytest.raises(ParameterError): call()
    assert check_audit(accounts.store).count == len(read_audit(accounts.store, 1000))


# ---- machines
# ---------------------------------------------------------------------------------------------------

def test_a_key_does_at_most_what_its_owner_may(opened):
    clock = Clock()
    accounts = opened(clock=clock)
    add_user(accounts, "ann", "analyst", PASSWORD)
    strong, weak = (
        new_key(accounts, "ann", "collector", role, days=10) for role in ("administrator", "read_only")
    )
    assert [accounts.verify(k).role for k in (strong, weak)] == ["analyst", "read_only"]
    set_role(accounts, "ann", "read_only")
    assert accounts.verify(strong).role == "read_only"
    assert [
        word(accounts.verify, k) for k in (strong[:-1], strong + "x", strong.replace("_key_", "_kex_"))
    ] == ["bad_token"] * 3
    swapped = weak.rsplit("_", 1)[0].rpartition("mlfin_key_")[2].partition("_")[0]
    assert word(accounts.verify, strong.replace(strong.split("_")[2], swapped)) == "bad_token"
    assert not accounts.logout(accounts.verify(strong))
    set_disabled(accounts, "ann", True)
    assert word(accounts.verify, strong) == "revoked"
    set_disabled(accounts, "ann", False)
    clock.ahead = 10 * 86_400 + 1
    assert word(accounts.verify, strong) == "expired"


def test_a_key_is_revoked_and_its_use_is_noted(accounts):
    key = new_key(accounts, "ann", "collector")
    assert list_keys(accounts).used.isna().all()
    accounts.verify(key)
    shown = list_keys(accounts, "ANN").iloc[0]
    assert pd.notna(shown.used) and key not in shown.to_json()
    revoke_key(accounts, shown.key)
    assert word(accounts.verify, key) == "revoked"
    with pytest.raises(ParameterError, match="`key` must be"): revoke_key(accounts, "x' OR 1=1 --")


def test_a_keys_use_is_noted_in_time_or_not_at_all(opened, monkeypatch):
    """Who writes for long holds up no machine; of many that come meanwhile hardly one tries; the next
    minute's use is noted again."""
    monkeypatch.setattr(auth, "_USE_WAIT", 0.6)  # thirty would be eighteen seconds
    monkeypatch.setattr(auth, "_USE_PAUSE", 0.5)
    clock = Clock()
    accounts, other = opened(clock=clock), opened()
    add_user(accounts, "ann", "analyst", PASSWORD)
    keys = [new_key(accounts, "ann", f"collector {n}") for n in range(30)]
    with ThreadPoolExecutor(1) as thread, other.write():
        assert thread.submit(lambda: {accounts.verify(k).name for k in keys}).result(10) == {"ann"}
    assert list_keys(accounts).used.isna().all()
    clock.ahead = 61
    time.sleep(0.6)
    for k in keys: accounts.verify(k)
    assert list_keys(accounts).used.notna().all()
    clock.ahead = 100  # within the minute: not written again
    assert accounts.verify(keys[0]).name == "ann" and list_keys(accounts).used.nunique() == 1


def test_a_keys_use_that_cannot_be_written_refuses_nobody(lite):
    import sqlalchemy as sa

    key = new_key(lite, "ann", "collector")

    @sa.event.listens_for(lite.store.engine, "checkout")
    def full(connection, *_):
        connection.execute("PRAGMA query_only = ON")
    assert word(write_audit_entry, lite.store, Origin("ann"), "x") == "unavailable"
    assert lite.verify(key).name == "ann" and list_keys(lite).used.isna().all()


# ---- roles
# ------------------------------------------------------------------------------------------------------

def test_one_administrator_remains_whatever_happens_at_once(accounts):
    add_user(accounts, "other", "administrator", PASSWORD)
    names = ("boss", "other")
    results = together(2, lambda n: set_role(accounts, names[n], "analyst"))
    assert sorted(r is None for r in results) == [False, True]
    last = next(n for n, r in zip(names, results, strict=True) if r is not None)
    with pytest.raises(ParameterError, match="last administrator"): set_disabled(accounts, last, True)


def test_a_role_in_a_token_is_worth_nothing(accounts):
    tokens = accounts.issue("ann", PASSWORD)
    assert (
        accounts.verify(forge(accounts, tokens.access, role="administrator", scopes=["administrator"])).role
        == "analyst"
    )


def test_the_first_administrator_is_made_once(opened):
    stores = [opened() for _ in range(4)]
    made = [m for m in together(4, lambda n: first_administrator(stores[n])) if m]
    assert len(made) == 1 and list_users(stores[0]).must_change.tolist() == [True]
    with pytest.raises(ParameterError, match="12 to 256"):
        stores[0].issue("admin", made[0], new_password="tiny")
    assert stores[0].issue("admin", made[0], new_password=PASSWORD).person.role == "administrator"


# ---- the log
# ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("sql", [
    "UPDATE auth_audit SET who = 'bob'", "DELETE FROM auth_audit WHERE seq = 1", "DELETE FROM auth_audit",
    "INSERT INTO auth_audit SELECT 2, at, 'bob', address, request, what, target, outcome, detail, digest "
    "FROM auth_audit WHERE seq = 1 "
    "ON CONFLICT (seq) DO UPDATE SET who = excluded.who"])
def test_the_log_cannot_be_changed(accounts, sql):
    import sqlalchemy as sa

    with pytest.raises(sa.exc.DBAPIError, match="append-only"), accounts.store.engine.connect() as connection:
        connection.exec_driver_sql(sql)
    assert check_audit(accounts.store).count == 2


def test_the_log_is_not_emptied_or_overwritten(accounts):
    import sqlalchemy as sa

    sql = ("TRUNCATE auth_audit" if accounts.store.engine.dialect.name == "postgresql" else
           "INSERT OR REPLACE INTO auth_audit SELECT 1, at, 'bob', address, request, what, target, outcome, "
           "detail, digest FROM auth_audit WHERE seq = 2")
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), accounts.store.engine.connect() as connection:
        connection.exec_driver_sql(sql)


@pytest.mark.parametrize(
    "sql, says",
    [
        ("UPDATE auth_audit SET who = 'bob' WHERE seq = 2", "from row 2 on"),
        ("DELETE FROM auth_audit WHERE seq = 1", "from row 1 on"),
        ("DELETE FROM auth_audit", "ends at row 0, and 3 were written"),
        ("DELETE FROM auth_state", "head is gone"),
        ("DELETE FROM auth_audit WHERE seq = 3", "ends at row 2, and 3 were written"),
        ("UPDATE auth_audit SET at = at + 1 WHERE seq = 3", "from row 3 on"),
    ],
)
def test_who_takes_the_guard_away_is_seen(accounts, sql, says):
    write_audit_entry(accounts.store, Origin("boss"), "promote", "v3")
    head = check_audit(accounts.store)
    trigger = (
        ("DROP TRIGGER auth_audit_rows ON auth_audit",)
        if accounts.store.engine.dialect.name == "postgresql"
        else ("DROP TRIGGER auth_audit_update", "DROP TRIGGER auth_audit_delete")
    )
    with accounts.store.engine.connect() as connection:
        for statement in (*trigger, sql): connection.exec_driver_sql(statement)
    with pytest.raises(DataError, match=says): check_audit(accounts.store, head)


def test_a_log_made_anew_is_not_the_one_that_was_kept(accounts):
    head = check_audit(accounts.store)
    write_audit_entry(accounts.store, Origin("boss"), "promote", "v3")
    assert check_audit(accounts.store, head).count == 3
    with pytest.raises(DataError, match="not the one that was kept"):
        check_audit(accounts.store, AuditHead(2, "0" * 64))


def test_what_is_done_and_its_line_in_the_log_come_together(accounts):
    with pytest.raises(ZeroDivisionError), accounts.write() as write:
        add_audit_entry(write, Origin("boss"), "never", "done")
        write.run("UPDATE auth_users SET role = 'administrator' WHERE name = 'ann'")
        raise ZeroDivisionError
    assert "never" not in set(read_audit(accounts.store).what)
    assert list_users(accounts).role.tolist() == ["analyst", "administrator"]


def test_what_is_done_during_a_check_is_no_alarm(accounts, opened):
    """A line that comes after the check's first look at the log is not missed at its end."""
    import sqlalchemy as sa

    other, seen = opened(), []

    @sa.event.listens_for(accounts.store.engine, "after_cursor_execute")
    def meanwhile(*_):
        seen.append(write_audit_entry(other.store, Origin("ann"), "login", "ann"))
    assert check_audit(accounts.store).count == 2
    sa.event.remove(accounts.store.engine, "after_cursor_execute", meanwhile)
    assert seen and check_audit(accounts.store).count == 2 + len(seen)


def test_an_empty_log_is_whole(opened):
    assert check_audit(opened().store) == AuditHead(0, "")


def test_twenty_threads_write_one_chain(accounts):
    together(20, lambda n: write_audit_entry(accounts.store, Origin(f"t{n}"), "promote"))
    assert check_audit(accounts.store).count == 22


def test_no_secret_is_kept_or_told(strict, tmp_path, caplog):
    accounts, clock, totp, codes = strict
    tokens = accounts.issue("ann", PASSWORD, codes[3], HERE)
    fresh = accounts.refresh(tokens.refresh)
    key = new_key(accounts, "ann", "collector")
    once = add_user(accounts, "bob")
    errors = []
    for name, password in (
        ("ann", "guess-in-the-clear"),
        ("password-as-name", "x"),
        ("ann", PASSWORD),
        ("ann\x00", "guess-in-the-clear"),
    ):
        with pytest.raises(AuthError) as e: accounts.issue(name, password, "123456", HERE)
        errors.append(f"{e.value} {e.value!r} {e.value.__cause__} {e.value.__context__}")
    secrets = [
        PASSWORD,
        totp.secret,
        *codes,
        tokens.access,
        tokens.refresh,
        fresh.access,
        fresh.refresh,
        key,
        once,
        "guess-in-the-clear",
        "password-as-name",
        accounts.keys.all()[0].hex(),
    ]
    tables = ("users", "recovery", "sessions", "refresh", "keys", "attempts", "places", "audit", "state")
    kept = "\n".join(str(tuple(r)) for t in tables for r in accounts.store.rows(f"SELECT * FROM auth_{t}"))
    told = " ".join(
        [
            *errors,
            repr(accounts),
            repr(tokens),
            str(tokens),
            repr(fresh),
            repr(accounts.keys),
            repr(enrol(accounts, "bob2", PASSWORD) if add_user(accounts, "bob2", password=PASSWORD) else ""),
            caplog.text,
        ]
    )
    assert "ann" in kept and [s for s in secrets if s in kept or s in told] == []


# ---- the service's keys
# -----------------------------------------------------------------------------------------

def test_keys_change_without_logging_anybody_out(strict, opened):
    accounts, clock, totp, codes = strict
    clock.ahead = 0.0
    tokens, other = accounts.issue("ann", PASSWORD, codes[0]), opened(LoginRules(second_factor=True), clock)
    old = accounts.keys.names()[0]
    rotate_keys(accounts)
    assert word(other.verify, tokens.access) is None and other.keys.names()[1] == old
    new = accounts.issue("ann", PASSWORD, codes[1])
    assert jwt.get_unverified_header(new.access)["kid"] != old
    rotate_keys(accounts, drop=True)
    assert [word(a.verify, t.access) for a in (accounts, other) for t in (tokens, new)] == ["bad_token"] * 4
    clock.ahead = 120
    assert (
        word(other.issue, "ann", PASSWORD, totp.at(int(clock()))) is None
    )  # sealed anew with the key that is left


def test_dropped_keys_end_every_session(accounts, opened):
    ann, boss, other = accounts.issue("ann", PASSWORD), accounts.issue("boss", PASSWORD), opened()
    rotate_keys(accounts)
    assert accounts.verify((ann := accounts.refresh(ann.refresh)).access).name == "ann"
    rotate_keys(accounts, drop=True)
    assert [word(other.refresh, t.refresh) for t in (ann, boss)] == ["revoked"] * 2
    assert list_users(accounts).sessions.tolist() == [0, 0] and word(accounts.issue, "ann", PASSWORD) is None
    assert json.loads(read_audit(accounts.store)[lambda f: f.what == "rotate keys"].detail.iloc[-1]) == {
        "drop": True,
        "sessions": 2,
    }


def with_telephone(accounts, clock, name):
    """What shows the codes of somebody who has a second factor from now on."""
    add_user(accounts, name, "analyst", PASSWORD)
    telephone = pyotp.TOTP(enrol(accounts, name, PASSWORD).secret)
    confirm(accounts, name, PASSWORD, telephone.at(int(clock())))
    return telephone


def test_changes_of_keys_that_fail_lose_nothing(opened, monkeypatch):
    """However often: what is sealed opens until all of it has been sealed anew."""
    clock = Clock()
    accounts = opened(clock=clock)
    telephones = {name: with_telephone(accounts, clock, name) for name in ("ann", "bob")}
    sound = accounts.store.one("SELECT totp FROM auth_users WHERE name = 'bob'")[0]
    with accounts.write() as write: write.run("UPDATE auth_users SET totp = 'gAAAAABx' WHERE name = 'bob'")
    for drop in (False, True) * 3:
        with pytest.raises(DataError, match="of `bob` cannot be opened.*\n.*reset-mfa bob"):
            rotate_keys(accounts, drop)
    assert len(accounts.keys.all()) == 1  # not even begun
    with accounts.write() as write:
        write.run("UPDATE auth_users SET totp = :sound WHERE name = 'bob'", sound=sound)
    with monkeypatch.context() as broken:
        broken.setattr(users, "add_audit_entry", lambda *_, **__: 1 / 0)  # broken off at the very end
        for drop in (False, True) * 3:
            with pytest.raises(ZeroDivisionError): rotate_keys(accounts, drop)
    for drop in (False, True):
        clock.ahead += 60
        assert [
            word(accounts.issue, name, PASSWORD, t.at(int(clock()))) for name, t in telephones.items()
        ] == [None, None]
        name = rotate_keys(accounts, drop)
        assert accounts.keys.names()[0] == name and len(accounts.keys.all()) == (1 if drop else KEYS_KEPT + 1)
    clock.ahead += 60
    assert [word(accounts.issue, name, PASSWORD, t.at(int(clock()))) for name, t in telephones.items()] == [
        None,
        None,
    ]


def test_two_changes_of_keys_at_once_lose_nothing(opened):
    clock = Clock()
    stores = [opened(clock=clock) for _ in range(6)]
    telephone = with_telephone(stores[0], clock, "ann")
    made = together(6, lambda n: rotate_keys(stores[n], drop=n % 2 == 0))
    assert len(set(made)) == 6 and set(stores[0].keys.names()) <= set(made)
    assert len(stores[0].keys.all()) <= KEYS_KEPT + 1
    clock.ahead = 60
    assert word(stores[0].issue, "ann", PASSWORD, telephone.at(int(clock()))) is None


def test_keys_of_the_environment_are_dropped_there(accounts, monkeypatch):
    """Two steps, and each is said: the old one is taken out by hand, then the sessions end."""
    monkeypatch.setenv("MLFIN_JWT_KEY", f"{'a' * 32} {'b' * 32}")
    tokens = accounts.issue("ann", PASSWORD)
    with pytest.raises(SettingsError, match="take the old ones out of MLFIN_JWT_KEY"):
        rotate_keys(accounts, drop=True)
    assert word(accounts.verify, tokens.access) is None
    assert "rotate keys" not in set(read_audit(accounts.store).what)
    monkeypatch.setenv("MLFIN_JWT_KEY", "a" * 32)
    assert rotate_keys(accounts, drop=True) == accounts.keys.names()[0]
    assert [word(accounts.verify, tokens.access), word(accounts.refresh, tokens.refresh)] == ["revoked"] * 2


def test_keys_of_two_processes_are_the_same(tmp_path):
    rings = [Keys(tmp_path / "new" / "keys.json") for _ in range(8)]
    assert len(set(together(8, lambda n: rings[n].all()))) == 1
    assert (tmp_path / "new" / "keys.json").stat().st_mode & 0o777 == 0o600


def test_keys_come_from_the_environment(tmp_path, monkeypatch):
    keys = Keys(tmp_path / "keys.json")
    monkeypatch.setenv("MLFIN_JWT_KEY", "a" * 31)
    with pytest.raises(SettingsError, match="at least 32 bytes") as e: keys.all()
    assert "aaa" not in str(e.value)
    monkeypatch.setenv("MLFIN_JWT_KEY", f"{'a' * 32} {'b' * 32}")
    assert keys.all() == (b"a" * 32, b"b" * 32) and not keys.path.exists()
    with pytest.raises(SettingsError, match="environment"): keys.drop()
    hidden = keys.seal("u1", "x")
    (tmp_path / "vault").write_text("c" * 40 + "\n")
    monkeypatch.setenv("MLFIN_JWT_KEY_FILE", str(tmp_path / "vault"))
    with pytest.raises(SettingsError, match="both set"): keys.all()
    monkeypatch.delenv("MLFIN_JWT_KEY")
    assert keys.all() == (b"c" * 40,)
    with pytest.raises(DataError, match="cannot be opened"): keys.unseal("u1", hidden)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"keys": []}', '{"keys": ["00"]}', '{"keys": ["zz"]}', '{"keys": 3}', "[]"]
)
def test_a_damaged_file_of_keys_is_said(tmp_path, text):
    path = tmp_path / "keys.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(DataError, match="keys.json"): Keys(path).all()


# ---- the database
# -----------------------------------------------------------------------------------------------

def test_a_migration_that_breaks_leaves_nothing(accounts):
    import sqlalchemy as sa

    broken = (
        *MIGRATIONS,
        (3, lambda dialect: ("CREATE TABLE half (a INTEGER)", "INSERT INTO nothing VALUES (1)")),
    )
    with pytest.raises(sa.exc.DBAPIError): migrate_accounts(accounts.store, broken)
    assert accounts.store.rows("SELECT number FROM auth_schema") == [(1,), (2,)]
    assert word(accounts.store.one, "SELECT * FROM half") == "unavailable"
    assert (
        migrate_accounts(
            accounts.store, (*MIGRATIONS, (3, lambda dialect: ("CREATE TABLE whole (a INTEGER)",)))
        )
        == 3
    )
    with pytest.raises(DataError, match="number 3, and this mlfin knows 2"): migrate_accounts(accounts.store)


def test_four_processes_open_a_new_database(opened):
    assert not [r for r in together(4, lambda _: opened()) if isinstance(r, Exception)]
    assert opened().store.rows("SELECT number FROM auth_schema") == [(1,), (2,)]


def test_many_who_wait_to_write_keep_nobody_from_reading(lite):
    """The event loop itself asks `known`: it must not wait for a connection that a waiting writer holds."""
    token = lite.issue("ann", PASSWORD).access
    assert lite.verify(token).name == "ann"
    with ThreadPoolExecutor(25) as threads:
        with closing(sqlite3.connect(lite.store.engine.url.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            writers = [
                threads.submit(write_audit_entry, lite.store, Origin("ann"), "wait") for _ in range(24)
            ]
            limit = time.monotonic() + 10
            while lite.store.engine.pool.checkedout() < 24 and time.monotonic() < limit: time.sleep(0.01)
            found = threads.submit(lite.cached_person, token)
            assert found.result(5).name == "ann" and not any(w.done() for w in writers)
            other.rollback()
    assert [w.result() for w in writers] == [None] * 24 and check_audit(lite.store).count > 24


def test_a_lost_connection_is_opened_again(accounts, url):
    if not url.startswith("postgresql"): pytest.skip("SQLite has no connections to lose")
    import psycopg

    tokens = accounts.issue("ann", PASSWORD)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> "
                           "pg_backend_pid() AND usename = current_user")
    assert word(accounts.verify, tokens.access) is None and word(accounts.issue, "ann", PASSWORD) is None


def test_without_its_database_nobody_is_recognised(tmp_path):
    folder = tmp_path / "there"
    accounts = Accounts(
        f"sqlite:///{folder}/accounts.sqlite", Keys(tmp_path / "keys.json"), hashing=CHEAP, stale=0.2
    )
    add_user(accounts, "ann", "analyst", PASSWORD)
    tokens = accounts.issue("ann", PASSWORD)
    assert word(accounts.verify, tokens.access) is None
    accounts.close()
    folder.rename(tmp_path / "away")
    time.sleep(0.25)
    assert [
        word(accounts.verify, tokens.access),
        word(accounts.issue, "ann", PASSWORD),
        word(accounts.refresh, tokens.refresh),
    ] == ["unavailable"] * 3
    (tmp_path / "away").rename(folder)
    assert word(accounts.verify, tokens.access) is None
    with pytest.raises(AuthError) as e: AccountStore("postgresql://me:hidden@127.0.0.1:1/x")
    assert e.value.code == "unavailable" and "hidden" not in f"{e.value}{e.value.__cause__}"


def test_who_may_not_make_tables_can_open_what_is_there(accounts, url, tmp_path):
    "The service's own role in PostgreSQL needs no right to change the schema."
    if not url.startswith("postgresql"): pytest.skip("SQLite has no roles")
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'mlfin_auth_test') THEN "
            "DROP OWNED BY mlfin_auth_test; DROP ROLE mlfin_auth_test; END IF; END $$"
        )
        connection.execute("CREATE ROLE mlfin_auth_test LOGIN")
        connection.execute("GRANT USAGE ON SCHEMA public TO mlfin_auth_test")
        connection.execute(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO mlfin_auth_test"
        )
    service = Accounts(
        url.replace("postgres@", "mlfin_auth_test@"), Keys(tmp_path / "keys.json"), hashing=CHEAP
    )
    assert word(service.issue, "ann", PASSWORD) is None
    service.close()


def test_settings_say_where_and_how_long(tmp_path, monkeypatch):
    for name in ("pipeline.yaml", "settings.ini"): (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.setenv("MLFIN_JWT_KEY", "k" * 40)                # a secret, and no setting
    monkeypatch.setenv("MLFIN_LIMIT_EXEMPT", "load, probe")
    settings = load_settings("test", root=tmp_path)
    assert settings.accounts == f"sqlite:///{tmp_path}/.mlfin/test/accounts.sqlite"
    assert settings.limit_exempt == ("load", "probe")
    accounts = auth.open_accounts(settings)
    assert accounts.rules == LoginRules(10, 60, 480, False) and accounts.keys.all() == (b"k" * 40,)
    accounts.close()
    production = auth.open_accounts(load_settings("production", root=tmp_path))
    assert production.rules.second_factor
    production.close()
    monkeypatch.setenv("MLFIN_SECOND_FACTOR", "optional")
    for profile in ("staging", "production"):
        with pytest.raises(SettingsError, match="second_factor"):
            auth.open_accounts(load_settings(profile, root=tmp_path))
    monkeypatch.setenv("MLFIN_ACCOUNTS", "postgresql://me:hidden@127.0.0.1:1/x")
    assert "hidden" not in repr(load_settings("test", root=tmp_path))


@pytest.mark.parametrize(
    "host, profile, fine",
    [
        ("127.0.0.1", "production", True),
        ("::1", "production", True),
        ("localhost", "staging", True),
        ("0.0.0.0", "development", False),
        ("::", "development", False),
        ("", "development", False),
        ("10.1.2.3", "development", True),
        ("10.1.2.3", "staging", False),
        ("8.8.8.8", "test", False),
        ("2606:4700::1", "development", False),
        ("::ffff:8.8.8.8", "development", False),
        ("::ffff:0.0.0.0", "development", False),
        ("::ffff:127.0.0.1", "production", True),
        ("::ffff:10.1.2.3", "staging", False),
    ],
)
def test_nothing_travels_in_the_clear(host, profile, fine):
    auth.refuse_public(host, True, profile)
    if fine: return auth.refuse_public(host, False, profile)
    with pytest.raises(SettingsError, match="in the clear"): auth.refuse_public(host, False, profile)
