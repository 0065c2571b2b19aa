import itertools
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mlfin.data.bars import as_bars
from mlfin.data.calendars import expected_bars

_numbers = itertools.count()


@pytest.fixture(scope="session")
def market() -> Path:
    "The folder of real market data, where it is there."
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "market"
    if not folder.is_dir():
        pytest.skip("../shared/data/market is not there")
    return folder


@pytest.fixture(scope="session")
def facts_folder() -> Path:
    "The folder of real files of facts, where it is there."
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "facts"
    if not folder.is_dir():
        pytest.skip("../shared/data/facts is not there")
    return folder


@pytest.fixture
def make():
    "Seeded bars on a calendar: make(symbol, timeframe, start, end, calendar)."

    def bars(symbol="COIN", timeframe="1d", start="2024-01-01", end="2024-03-31", calendar="24/7", seed=0):
        frame = expected_bars(calendar, timeframe, start, end)
        close = 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, len(frame))))
        return as_bars(
            frame.assign(
                symbol=symbol,
                timeframe=timeframe,
                open=close,
                high=close * 1.01,
                low=close * 0.99,
                close=close,
                volume=10.0,
            )
        )

    return bars


@pytest.fixture
def csv(tmp_path):
    "Write text (or bytes) to a file and give its path."

    def write(text, name="x.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture(scope="session")
def builtin():
    from mlfin.data.sources import read_bars

    reading = read_bars("builtin")
    order = reading.bars.sort_values(["symbol", "ts"], kind="stable").index
    return as_bars(reading.bars), reading.adjusted_close[order].reset_index(drop=True).rename("adjusted"), reading


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    "Addresses of real servers, started once: server('postgresql'), 'pgbouncer', 'mariadb'; skips where one is not installed."
    script = Path(__file__).resolve().parents[2] / "env" / "services"
    state = tmp_path_factory.mktemp("services") / "state.json"

    def call(*arguments):
        return subprocess.run([sys.executable, "-S", script, *arguments, "--state", state], capture_output=True, text=True)

    @cache
    def start(name):
        done = call("up", name)
        if "is not installed" in done.stderr:
            pytest.skip(f"needs {name}: env/install-services")
        assert done.returncode == 0, done.stderr
        return dict(line.split() for line in done.stdout.splitlines())[name]

    yield start
    call("down")


@pytest.fixture(scope="module")
def databases(server):
    """A function that makes a new PostgreSQL database and gives its address."""
    import psycopg
    admin, made = server("postgresql"), []

    def make():
        made.append(f"d{next(_numbers)}")
        with psycopg.connect(admin, autocommit=True) as con:
            con.execute(f"CREATE DATABASE {made[-1]}")
        return admin.removesuffix("/postgres") + f"/{made[-1]}"

    yield make
    with psycopg.connect(admin, autocommit=True) as con:
        for name in made:
            con.execute(f"DROP DATABASE {name} WITH (FORCE)")
