from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfin.core.errors import MissingExtraError, hide_password, must_be, nearest, require, unknown


def test_message_has_value_origin_and_remedy():
    text = must_be("folds", "an integer >= 2", 1, "env.yaml", "use 5.")
    assert text == "`folds` must be an integer >= 2, got 1 (env.yaml).\nHint: use 5."


def test_long_values_are_cut():
    assert len(must_be("symbols", "short", "A" * 10_000)) < 300


@pytest.mark.parametrize("name, names, expected", [
    ("xgbost", ["xgboost", "lightgbm"], "xgboost"),
    ("RSI_14", ["rsi_14", "atr_14"], "rsi_14"),
    ("zzz", ["xgboost"], None),
    ("x", [], None),
])
def test_nearest(name, names, expected):
    assert nearest(name, names) == expected


def test_unknown_without_a_near_name_lists_all():
    assert "one of a1, b2" in unknown("model", "zzzz", ["b2", "a1"])


def test_a_broken_extra_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "half_broken.py").write_text("import does_not_exist_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError) as caught:
        require("half_broken", extra="all")
    assert not isinstance(caught.value, MissingExtraError)


SECRETS = st.text(st.sampled_from("§ß@:/%?#=;,. \\'\"[]{}|<>!$*+~^`\n"), min_size=2, max_size=12).map(
    lambda s: f"§{s}§"
)
SCHEMES = st.sampled_from(
    [
        "postgresql",
        "postgres",
        "mysql+pymysql",
        "MariaDB",
        "mongodb+srv",
        "redis",
        "rediss",
        "https",
        "oracle",
        "mssql+pyodbc",
        "clickhouse",
        "newdb+driver",
    ]
)
FORMS = st.sampled_from(
    [
        "{scheme}://reader:{secret}@host:5432/team",
        "sql:{scheme}://reader:{secret}@host/team?sslmode=require#bars",
        "{scheme}://:{secret}@host",
        "//{secret}@x",
        "{scheme}//{secret}@x",
        "sql:{scheme}:/{secret}@x",
        "reader:{secret}@",
        "reader:{secret}@host:27017/db#bars",
        "//reader:{secret}@host:3306",
        "{secret}@host",
        "{scheme}://reader:{secret}@a@b@host",
    ]
)


@settings(max_examples=400, deadline=None)
@given(FORMS, SCHEMES, SECRETS, st.booleans())
def test_a_password_before_a_host_never_shows(form, scheme, secret, coded):
    secret = quote(secret, safe="") if coded else secret
    shown = hide_password(form.format(scheme=scheme, secret=secret))
    assert "§" not in shown and "%C2%A7" not in shown and "..." in shown
    assert "host" not in form or "host" in shown or "?" in secret or "=" in secret


@settings(max_examples=200, deadline=None)
@given(
    SCHEMES,
    st.sampled_from(["password", "PWD", "sslpassword", "passwd", "token", "api_key", "access-key", "secret"]),
    SECRETS,
    st.sampled_from("?&; "),
)
def test_a_secret_parameter_never_shows(scheme, name, secret, mark):
    shown = hide_password(f"{scheme}://host/team?x=1{mark}{name}={secret}&y=2")
    assert "§" not in shown and (shown.endswith("...&y=2") or "@" in secret)


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:///team.db",
        "sqlite:////data/a@b/team.db",
        "sql:sqlite:///a:b@c.db#prices",
        "C:\\data\\a@b\\lake",
        "D:/bars/a:b@c.csv",
        "/srv/a@b/lake",
        "./a:b@c.csv",
        "../a@b",
        "~/a@b.csv",
        "ccxt:binance",
        "postgresql://reader@host:5432/team",
        "mysql://host:3306/team",
        "csv:3f2a00",
        "redis://host:6379/0",
        "",
    ],
)
def test_what_holds_no_password_stays_as_it_is(text):
    assert hide_password(text) == text


def test_an_address_without_its_password_still_names_the_place():
    assert (
        hide_password("postgresql://reader:p%40ss@host:5432/team#bars")
        == "postgresql://reader:...@host:5432/team#bars"
    )
    assert hide_password("host=db password=x user=y") == "host=db password=..."
    assert hide_password("https://token@host/x") == "https://...@host/x"
