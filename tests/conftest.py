"""What holds for every test: the test profile, one thread, no telemetry, no network, the same examples each
time."""
import gc
import os
import shutil
import signal
import socket
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

gc.disable()  # thousands of tests are read in, and nothing of it is garbage: see pytest_collection_finish
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # begun in the background, as shells do it: what a test starts would not hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
for name in [name for name in os.environ if name.startswith("MLFIN_")]:
    del os.environ[name]  # what is set outside must not decide what a test sees
os.environ.update(
    MLFIN_PROFILE="test", JOBLIB_MULTIPROCESSING="0", KERAS_BACKEND="jax", MLFLOW_DISABLE_TELEMETRY="true",
    OMP_NUM_THREADS="1", PLOOMBER_STATS_ENABLED="false", PLOTLY_RENDERER="plotly_mimetype")
os.environ.pop(
    "PYTHONDONTWRITEBYTECODE", None
)  # else every process that a test starts compiles all it imports

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

pytest.register_assert_rewrite("tests.fixtures")  # its helpers assert too
pytest_plugins = [
    f"tests.fixtures.{name}" for name in ("bars", "champion", "known_panel", "small_project")
]  # fixtures of several folders, once a worker

settings.register_profile("mlfin", derandomize=True, deadline=None)
settings.load_profile("mlfin")

_TOGETHER = ("pipeline", "dashboards", "repo")  # folders whose tests share what takes long to make
_LONG = tuple(
    f"tests/{name}.py"
    for name in (  # files that would hold up the end, one worker alone with them, if they began last
        "api/test_server",
        "predict/test_predictor",
        "predict/test_live",
        "warehouse/test_warehouse",
        "warehouse/test_warehouse_faults",
        "leakage/test_lookahead",
        "api/test_api",
        "accounts/test_auth",
        "predict/test_single_row",
        "api/test_faults",
        "jobs/test_jobs",
        "ingest/test_ingest_web",
        "ingest/test_kill_ingest",
    )
)


def pytest_addoption(parser):
    parser.addoption("--data", metavar="FOLDER", help="a folder with files of one-minute bars, for the tests "
                                                      "of the whole loop (UTC where they name no zone)")


def _group(nodeid: str) -> str:
    """What goes to one worker: a folder whose tests share something, or a file."""
    path = nodeid.partition("::")[0]
    folder, name = path.split("/")[-2:]
    if (
        name == "test_report.py"
    ):  # two browsers of one process cannot be driven at once: before the dashboards' own
        return "dashboards"
    return folder if folder in _TOGETHER else path


def pytest_make_parametrize_id(config, val, argname):
    """Bytes carry the second at which they were packed: in a test's name, they make two workers disagree
    about which tests there are."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items):
    """The longest groups begin first."""
    order = {name: place for place, name in enumerate((*_TOGETHER, *_LONG))}
    items.sort(key=lambda item: order.get(_group(item.nodeid), len(order)))


def pytest_collection_finish():
    """What was read in stays to the end: the garbage collector need not go through it again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_runtest_protocol(item, nextitem):
    """So does what the tests of a file imported: each collection would go through half a million objects."""
    if nextitem is None or nextitem.path == item.path: return
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter):
    """How long the whole took, what went before pytest included, beside the minutes that it may take."""
    for name, what, minutes in (("TEST_BEGAN", "make test", 12), ("CI_BEGAN", ".ci/run", 90)):
        if began := os.environ.get(name):
            took = time.time() - int(began)
            over = "" if took <= 60 * minutes else ": OVER ITS LIMIT"
            terminalreporter.write_line(f"{what}: {took:.0f} s of {60 * minutes} s{over}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Several workers (`-n 2`): tests that share something go to the same one."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return _group(nodeid)

    return ByGroup(config, log)


def _is_local(address) -> bool:
    host = address[0] if isinstance(address, tuple) else ""  # a path is a Unix socket
    return str(host).startswith("127.") or host in ("localhost", "::1", "")


@pytest.fixture(autouse=True)
def no_network(request, monkeypatch):
    """Let nothing reach further than this machine."""
    def refusing(connect):
        def checked(self, address, *rest):
            if not _is_local(address):
                raise PermissionError(
                    f"{request.node.nodeid} tried to reach {address!r}; tests stay on this machine"
                )
            return connect(self, address, *rest)
        return checked

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refusing(getattr(socket.socket, name)))


@pytest.fixture
def plain_terminal(monkeypatch):
    """As wide as COLUMNS says: a console keeps the width of when it was first imported, and what another test
    ran may have left FORCE_COLOR."""
    from mlfin.terminal import console
    for one in (console.out, console.err):
        monkeypatch.setattr(one, "_width", None)
        monkeypatch.setattr(one, "_environ", os.environ)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def walk(symbol: str, size: int, seed: int = 0, end: str = "2021-12-31"):
    """Daily bars of one symbol: a random walk that ends on a date."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, size)))
    opened = close * np.exp(rng.normal(0, 0.003, size))
    ts = pd.date_range(end=end, periods=size, freq="D", tz="UTC").as_unit("us")
    return pd.DataFrame(dict(
        symbol=symbol, timeframe="1d", ts=ts, known_at=ts + pd.Timedelta("1D"), open=opened,
        high=np.maximum(opened, close) * 1.002, low=np.minimum(opened, close) * 0.998, close=close,
        volume=rng.integers(1_000, 9_000, size).astype(float)))


@pytest.fixture
def make_bars():
    """The function that makes bars of one symbol."""
    return walk


@pytest.fixture
def bars():
    """Three symbols; the second is young."""
    return pd.concat([walk("AAA", 300, 1), walk("BBB", 40, 2), walk("CCC", 200, 3)], ignore_index=True)


@pytest.fixture
def registry(monkeypatch):
    """A copy of the registry: what a test registers is gone after it."""
    import mlfin.features.spec as spec

    spec.load_features()
    monkeypatch.setattr(spec, "_registry", dict(spec._registry))
    monkeypatch.setattr(spec, "_sets", dict(spec._sets))
    return spec._registry


def known(bars: pd.DataFrame, names) -> pd.DataFrame:
    """A facts frame: each name for each symbol, quarter by quarter, published forty days after the
    quarter."""
    from mlfin.facts.facts import as_facts

    rng, rows = np.random.default_rng(5), []
    ends = (
        pd.date_range(bars.ts.min() - pd.Timedelta("900D"), bars.ts.max(), freq="QE")
        .tz_localize(None)
        .normalize()
    )
    for symbol in bars.symbol.unique():
        for name in sorted(names):
            for end in ends:
                published = (
                    end.tz_localize("UTC") + pd.Timedelta("40D") + pd.Timedelta(hours=int(rng.integers(24)))
                )
                begin = end - pd.offsets.QuarterBegin(startingMonth=1) if end.day > 1 else end
                rows.append((symbol, name, float(rng.lognormal(15, 1)), begin, end, published, "made"))
    return as_facts(rows)


@pytest.fixture(scope="session")
def real():
    """The last bars of the built-in market, with what every registered feature may read: real(days) -> bars,
    context."""
    from mlfin.market.bars import as_bars
    from mlfin.sources.sources import read_bars
    from mlfin.features.spec import definitions

    whole = as_bars(read_bars("builtin").bars)

    def cut(days: int, end: str = "2013-06-30"):
        bars = whole[whole.ts <= pd.Timestamp(end, tz="UTC")]
        bars = bars[bars.ts >= bars.ts.drop_duplicates().sort_values().iloc[-days]].reset_index(drop=True)
        rng = np.random.default_rng(3)
        bars = bars.assign(vwap=(bars.high + bars.low + bars.close) / 3, trades=(bars.volume / 100).round(),
                           spread=rng.uniform(0.01, 0.05, len(bars)))
        groups = {s: "web" if s in ("FB", "GOOG") else "iron" for s in bars.symbol.unique()}
        facts = known(bars, {name for d in definitions().values() for name in d.facts})
        return bars, dict(calendar="XNYS", groups=groups, facts=facts)
    return cut


def make_tracking_store(path):
    """An MLflow store without any rows: sixty migrations, which take a second and a half."""
    import mlflow.store.db.utils as stores

    engine = stores.create_sqlalchemy_engine(f"sqlite:///{path}")
    stores._initialize_tables(engine)
    engine.dispose()


@pytest.fixture(scope="session", autouse=True)
def one_store_is_made(tmp_path_factory):
    """Where a test's process needs an MLflow store that is not there, it gets a copy of one;
    `one_store_is_made.made_anew()` lets MLflow make it."""
    from mlfin.models import tracking

    empty, alone = tmp_path_factory.mktemp("store") / "empty.db", tracking.sqlite_lock

    @contextmanager
    def copied(uri):
        with alone(uri):
            path = Path(uri.partition(":///")[2])
            if (
                uri.startswith("sqlite")
                and os.access(path.parent, os.W_OK)
                and not (path.is_file() and path.stat().st_size)
            ):
                if not empty.is_file():
                    make_tracking_store(empty)
                shutil.copyfile(empty, path)
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "sqlite_lock", copied)

        @contextmanager
        def made_anew():
            with pytest.MonkeyPatch.context() as back:
                back.setattr(tracking, "sqlite_lock", alone)
                yield

        yield SimpleNamespace(made_anew=made_anew)


@pytest.fixture(scope="session")
def redis_server():
    """Start a real Redis server on a socket: `with redis_server(path): ...`."""
    import subprocess
    import time

    if (program := shutil.which("redis-server")) is None:
        pytest.skip("needs redis-server: env/install-services")

    @contextmanager
    def started(socket):
        running = subprocess.Popen(
            [program, "--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
            cwd=socket.parent,
        )
        try:
            import redis

            server, end = redis.Redis.from_url(f"unix://{socket}"), time.monotonic() + 20
            while True:
                try:
                    server.ping()
                    break
                except redis.exceptions.ConnectionError:
                    assert running.poll() is None and time.monotonic() < end, "redis-server does not start"
                    time.sleep(0.02)
            yield f"unix://{socket}"
        finally:
            running.terminate()
            running.wait(20)
    return started


@pytest.fixture(scope="session")
def redis_url(redis_server, tmp_path_factory):
    """The address of a Redis server for all tests."""
    with redis_server(tmp_path_factory.mktemp("redis") / "s") as url:
        yield url
