"""The warehouse passes the store's own suite, on PostgreSQL and behind a pooler in transaction mode."""
import itertools

import psycopg
import pytest

from mlfin.warehouse.warehouse import Warehouse

from ..fixtures import store_suite as _suite


_numbers = itertools.count()


@pytest.fixture(params=["postgresql", pytest.param("pgbouncer", marks=pytest.mark.slow)])
def reopen(request, server):
    """A new database, opened as often as one likes."""
    name, admin = f"t{next(_numbers)}", server("postgresql")
    with psycopg.connect(admin, autocommit=True) as con:
        con.execute(f"CREATE DATABASE {name}")
    url = server(request.param).removesuffix("/postgres") + f"/{name}"
    yield lambda: Warehouse(url)
    with psycopg.connect(admin, autocommit=True) as con:
        con.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        con.execute(f"DROP DATABASE {name} WITH (FORCE)")


class TestWarehouse(_suite.StoreSuite):
    def test_a_plan_over_many_years_is_not_compiled(self, store, make):
        store.write(make("A"))
        with store.server.transaction() as cursor:
            assert cursor.execute("SHOW jit").fetchone() == ("off",)
