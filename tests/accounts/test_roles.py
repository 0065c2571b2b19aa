"""The one table of routes, walked for every role, and paths that pretend to be others."""
from itertools import product

import pytest

from mlfin.accounts.roles import (
    ANYONE,
    ROLES,
    ROUTES,
    AuthError,
    BadToken,
    Forbidden,
    Person,
    is_allowed,
    require_role,
    required_role,
)

PEOPLE = {role: Person("u", "ann", role, "s") for role in ROLES}
ISSUE = {  # what the service must have, and who may
    "POST /ingest": "analyst",
    "POST /ingest/run": "analyst",
    "GET /prices/latest": "read_only",
    "GET /signals": "read_only",
    "POST /predict": "read_only",
    "POST /train": "analyst",
    "GET /jobs/{id}": "read_only",
    "GET /models": "read_only",
    "GET /model/info": "read_only",
    "POST /models/{version}/promote": "administrator",
    "POST /models/{version}/rollback": "administrator",
    "GET /metrics": "read_only",
    "GET /health": ANYONE,
    "GET /health/live": ANYONE,
    "GET /health/ready": ANYONE,
    "GET /users": "administrator",
    "GET /audit": "administrator",
}


def test_every_route_of_the_service_is_in_the_table():
    assert {route: ROUTES.get(route) for route in ISSUE} == ISSUE
    assert set(ROUTES.values()) == {ANYONE, *ROLES}


@pytest.mark.parametrize("route", sorted(ROUTES))
def test_each_role_gets_through_where_it_should_and_nowhere_else(route):
    method, _, template = route.partition(" ")
    least = ROUTES[route]
    for path, prefix in product((template, template.replace("{", "").replace("}", "-7")), ("", "/v1")):
        may = [
            least == ANYONE,
            *(least == ANYONE or ROLES.index(role) >= ROLES.index(least) for role in ROLES),
        ]
        assert [is_allowed(p, method, prefix + path) for p in (None, *PEOPLE.values())] == may, prefix + path


@pytest.mark.parametrize("role", ROLES[:-1])
def test_no_lesser_role_gets_an_administrators_route(role):
    for route in (r for r, least in ROUTES.items() if least == "administrator"):
        with pytest.raises(Forbidden, match="needs administrator"):
            require_role(PEOPLE[role], *route.split(" "))
        with pytest.raises(BadToken): require_role(None, *route.split(" "))


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/nothing"),
        ("GET", "/"),
        ("GET", ""),
        ("GET", "/v1"),
        ("GET", "//users"),
        ("GET", "/users/"),
        ("GET", "/jobs/../users"),
        ("GET", "/jobs/."),
        ("GET", "/jobs/%2e%2e"),
        ("GET", "/jobs/a%2fb"),
        ("GET", "/jobs/a\\b"),
        ("GET", "/jobs/a\nb"),
        ("GET", "/v1/v1/signals"),
        ("GET", "/v2/signals"),
        ("GET", "/Signals"),
        ("get", "/signals"),
        ("GET", "/signals?x"[:9] + "/x"),
        ("DELETE", "/signals"),
        ("OPTIONS", "/users"),
        ("TRACE", "/health/live"),
        ("PUT", "/users/ann"),
        ("GET", "/docs/../users"),
        ("POST", "/health/live"),
        ("GET", "/openapi.json/x"),
        ("GET", "http://x/users"),
        ("", "/signals"),
    ],
)
def test_what_is_not_in_the_table_is_nobodys(method, path):
    assert required_role(method, path) is None
    assert not any(is_allowed(p, method, path) for p in (None, *PEOPLE.values()))
    with pytest.raises(AuthError): require_role(PEOPLE["administrator"], method, path)


def test_a_fixed_path_goes_before_a_pattern():
    "`/models/rollback` is no version, and a job called like another route is still a job."
    assert required_role("POST", "/models/rollback") == "administrator"
    assert required_role("GET", "/jobs/users") == "read_only"
    assert required_role("HEAD", "/users") == "administrator"


@pytest.mark.parametrize("role", ROLES)
def test_a_key_opens_nothing_about_accounts_and_not_the_audit_log(role):
    key, person = Person("u", "ann", role, "k", "key"), PEOPLE[role]
    for route in ROUTES:
        method, _, path = route.partition(" ")
        personal = path.startswith(("/users", "/keys", "/audit", "/auth/sessions"))
        for prefix in ("", "/v1"):
            assert is_allowed(key, method, prefix + path) == (
                is_allowed(person, method, prefix + path) and not personal
            )
    with pytest.raises(Forbidden, match="key opens neither"): require_role(key, "GET", "/v1/audit")


def test_a_person_is_not_made_greater():
    person = PEOPLE["read_only"]
    with pytest.raises(AttributeError): person.role = "administrator"
    with pytest.raises(ValueError): is_allowed(Person("u", "ann", "root", "s"), "GET", "/signals")
