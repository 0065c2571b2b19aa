"""The warehouse passes the store's own suite, on PostgreSQL and behind a pooler in transaction mode."""
import importlib.util
import itertools
from pathlib import Path

import psycopg
import pytest

from mlfin.data.warehouse import Warehouse

_spec = importlib.util.spec_from_file_location("store_suite", Path(__file__).with_name("store_suite.py"))
_suite = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_suite)

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
