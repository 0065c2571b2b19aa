"""The loop goes round: bars are pushed as they close, each is answered, the model is trained anew on what
came, and all of it is what a batch says.

The minutes are those in `--data FOLDER`, else real ones beside the checkout (shared/data), else simulated.
What stands for a clock and for
MetaTrader's module lies in `stand_ins`; collector, service, runs, PostgreSQL, PgBouncer, its replica and
Redis are real processes.
"""
import json
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from mlfin.market.bars import as_bars  # noqa: E402
from mlfin.sources.simulated import simulate_bars  # noqa: E402
from mlfin.sources.sources import read_bars  # noqa: E402
from mlfin.registry.gate import promote  # noqa: E402
from mlfin.datasets.labels import compute_labels  # noqa: E402
from mlfin.registry.registry import load_version, model_versions  # noqa: E402
from mlfin.monitor.score import score_live  # noqa: E402

from ..fixtures.living import MINUTE, POINT, Loop, records, same  # noqa: E402
from ..fixtures.served import postgresql  # noqa: E402

REAL = (Path(__file__).parents[3] / "shared" / "data" / "market" / "nautilus"
        / "btc-perp-20211231-20220201_1m.csv")
DAYS = 4


def as_terminal(bars):
    """Minutes as a terminal has them: whole ticks in a bar, and a spread, where they have none."""
    bars = bars.assign(volume=np.maximum(np.rint(bars.volume), 1.0))
    if "spread" not in bars: bars = bars.assign(spread=POINT)
    return as_bars(bars[["symbol", "timeframe", "ts", "known_at", "open", "high", "low", "close",
                         "volume", "spread"]])


@pytest.fixture(scope="module")
def minutes(request):
    """The last days of one-minute bars, of two symbols at most."""
    if folder := request.config.getoption("--data"): bars = read_bars(folder, timeframe="1m", tz="UTC").bars
    elif REAL.is_file(): bars = read_bars(REAL, symbol="BTC", timeframe="1m", tz="UTC").bars
    else: bars = simulate_bars(["SIM_A", "SIM_B"], end="2024-01-06", seed=7, edge=0.3)
    bars = bars[bars.symbol.isin(sorted(bars.symbol.unique())[:2])].drop_duplicates(["symbol", "ts"])
    return as_terminal(bars[bars.ts > bars.ts.max() - pd.Timedelta(days=DAYS)])


def begin(loop, start):
    """History is ingested, an experiment runs on it, its model serves, a collector stands beside the market;
    the seconds of the run."""
    loop.market.at(start)
    history = loop.bars[loop.bars.ts < start]
    if history.symbol.str.startswith("SIM_").all():
        first, last = history.ts.min(), history.ts.max()
        loop.mlfin("ingest", "simulated:7?edge=0.3", "-s", ",".join(loop.symbols), "-t", "1m", "--start",
                   str(first), "--end", str(last))
    else:
        for symbol, own in history.groupby("symbol"):
            path = loop.root / f"{symbol}.csv"
            own.drop(columns=["symbol", "timeframe", "known_at"]).to_csv(path, index=False)
            loop.mlfin("ingest", str(path), "-s", symbol, "-t", "1m", "--point", "1")
    same(loop.stored(), history)
    began = time.monotonic()
    loop.mlfin("run", *loop.question())
    took = time.monotonic() - began
    promote(loop.settings, "default", force="to see it serve")
    loop.server.start()
    loop.collect()
    return took


def follow(loop, start, count):
    """Live through so many minutes."""
    for minute in pd.date_range(start, periods=count, freq="min", unit="us"): loop.live(minute)


def again(loop, killed_after=None):
    """Train anew on what was pushed; a run that is killed is begun again. The challenger is judged, then
    promoted by force, and serves."""
    if killed_after is not None: loop.killed(killed_after, "retrain", "default")
    told = json.loads(loop.mlfin("retrain", "default", "--json"))
    assert (told["version"], told["promoted"]) == (2, False) and told["gate"]
    assert [v.number for v in model_versions(loop.settings, "default")] in ([1, 2], [2, 1])
    server = loop.server.running.pid
    promote(loop.settings, "default", force="to see it follow")
    end = time.monotonic() + 60
    while not (found := loop.signals()) or {s["version"] for s in found} != {2}:
        assert time.monotonic() < end, found
        time.sleep(0.1)
    assert loop.server.running.pid == server
    return told


def scored(loop, version, said, bars):
    """What the live record of a version must be, from the batch's probabilities and the store's bars."""
    own = said[said.version == version].reset_index(drop=True)
    label = compute_labels(bars, "fwd_ret_1")
    own = own.merge(label[["symbol", "ts", "t1", "fwd_ret_1"]], on=["symbol", "ts"], how="left")
    late = own.created_at > own.ts + 2 * MINUTE
    done = own[~late & own.fwd_ret_1.notna()]
    guess = load_version(loop.settings, "default",
                         version).predictions.sort_values("ts", kind="stable").baseline.iloc[-1]
    return {**score_live(done.batch, (done.fwd_ret_1 > 0).astype("int64"), done.ts, guess, 1, True),
            "late": float(late.sum())}


def closed(loop, last):
    """All of it agrees with a batch: bars, answers, what is kept of them, live figures."""
    shown = loop.bars[loop.bars.ts <= last]
    same(loop.stored(), shown)
    bars = loop.stored()
    batch = {version: loop.batch(bars, version) for version in (1, 2)}
    for key, signals in loop.told.items():
        for signal_ in signals:
            assert signal_["probability"] == batch[signal_["version"]].loc[key], (key, signal_)
    kept = loop.predictions()
    kept = kept.assign(batch=[batch[v].loc[(s, t)]
                              for s, t, v in zip(kept.symbol, kept.ts, kept.version, strict=True)])
    assert (kept.probability == kept.batch).all()
    answered = {(s, t, x["version"]) for (s, t), found in loop.told.items() for x in found}
    assert answered <= set(zip(kept.symbol, kept.ts, kept.version, strict=True))
    once = kept.drop_duplicates(["symbol", "ts", "version"], keep="first")
    found = records(loop)
    for version in (1, 2):
        told, want = found[version], scored(loop, version, once, bars)
        assert told["n"] > 20 and {k: told.get(k) for k in want} == want
        own = once[(once.version == version)]
        assert told["n"] + told["open"] + told["held"] + told["late"] == len(own)
    return kept


@pytest.fixture
def loop(tmp_path, minutes):
    """A loop over the lake."""
    made = Loop(tmp_path / "loop", minutes)
    yield made
    made.close()


@pytest.mark.slow
def test_the_loop_goes_round_whoever_dies(loop, minutes, capsys):
    """On the lake, with one kill of each: collector, service, run."""
    start, chance = (minutes.ts.max() - pd.Timedelta("5h")).floor("h"), random.Random(18)
    begin(loop, start)
    follow(loop, start, 24)
    again(loop, chance.uniform(3, 12))
    follow(loop, start + 24 * MINUTE, 20)
    # what was answered is written within a second
    time.sleep(1.5)
    loop.keep = True
    for n, piece in enumerate(("service", "collector")):
        wait = threading.Timer(chance.uniform(0.0, 0.4), loop.kill, [piece])
        wait.start()
        follow(loop, start + (44 + 2 * n) * MINUTE, 2)
        wait.join()
    loop.mend()
    loop.keep = False
    # the other hours at once, as after a night without a line
    loop.market.at(start + 300 * MINUTE)
    loop.live(start + 299 * MINUTE)
    time.sleep(1.5)
    kept = closed(loop, start + 299 * MINUTE)
    with capsys.disabled():
        print(f"\n{len(loop.told)} answers, {len(kept)} kept, killed: {', '.join(loop.kills)}", end=" ")
    assert sorted(loop.kills) == ["collector", "retrain", "service"]


@pytest.mark.long
def test_twenty_kills_at_random_moments_change_nothing(loop, minutes, capsys):
    """A third each of collector, service and run; every answer is kept, since who asks asks again until it
    is."""
    start, chance = (minutes.ts.max() - pd.Timedelta("5h")).floor("h"), random.Random(20)
    took = begin(loop, start)
    for n in range(6):
        # each is asked about more bars, so that it begins anew
        follow(loop, start + 4 * n * MINUTE, 4)
        loop.killed(chance.uniform(0.5, 0.6 * took), "retrain", "default")
    again(loop)
    loop.keep, at = True, start + 24 * MINUTE
    for _ in range(60):
        if len(loop.kills) >= 20: break
        wait = threading.Timer(chance.uniform(0.0, 2.0), loop.kill, [chance.choice(["service", "collector"])])
        wait.start()
        count = chance.randrange(2, 5)
        follow(loop, at, count)
        at += count * MINUTE
        wait.join()
        loop.mend()
    loop.mend()
    follow(loop, at, 20)
    kept = closed(loop, at + 19 * MINUTE)
    tally = pd.Series(loop.kills).value_counts().to_dict()
    with capsys.disabled(): print(f"\n{len(loop.told)} answers, {len(kept)} kept, killed: {tally}", end=" ")
    assert len(loop.kills) >= 20 and tally.keys() == {"service", "collector", "retrain"}
    assert tally["retrain"] == 6


@contextmanager
def services(redis_server):
    """PostgreSQL behind PgBouncer with a streaming replica, and Redis: settings of a project. Skips where one
    is not installed."""
    from ..fixtures.own_postgres import Postgres, services as programs

    folder = Path(tempfile.mkdtemp(prefix="mlfin-loop-"))
    with postgresql() as primary:
        try: programs.needed("pgbouncer", "pg_basebackup")
        except programs.Refused: pytest.skip("needs pgbouncer: env/install-services")
        folder.chmod(0o711)
        copy = [programs.program("pg_basebackup"), "-D", str(primary.home / "copy"), "-R", "-X", "stream",
                "-h", "127.0.0.1", "-p", str(primary.port)]
        programs.call([*copy, "-U", "postgres", "--checkpoint=fast"], primary.user, "pg_basebackup")
        replica = Postgres(folder / "replica", primary.home / "copy")
        bouncer = programs.pgbouncer(folder, {"postgresql": {"port": primary.port}})
        try:
            with redis_server(folder / "r") as redis:
                yield {"store": bouncer["url"], "store_replica": replica.url(), "redis": redis}
        finally:
            replica.stop(signal.SIGQUIT)
            os.kill(bouncer["pid"], signal.SIGINT)
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "hours", [pytest.param(5, id="an-evening"), pytest.param(24, id="a-day", marks=pytest.mark.long)])
def test_the_loop_goes_round_on_postgresql(tmp_path, minutes, redis_server, hours, capsys):
    """Behind PgBouncer, read from a streaming replica, vectors in Redis; the service dies once on the way."""
    start = (minutes.ts.max() - pd.Timedelta(hours=hours)).floor("h")
    with services(redis_server) as more:
        loop = Loop(tmp_path / "loop", minutes, **more)
        try:
            begin(loop, start)
            half, rest = 30 * hours, 30 * hours - 1
            follow(loop, start, half)
            again(loop)
            loop.keep = True
            threading.Timer(0.2, loop.kill, ["service"]).start()
            follow(loop, start + half * MINUTE, 2)
            loop.mend()
            loop.keep = False
            follow(loop, start + (half + 2) * MINUTE, rest - 2)
            time.sleep(1.5)
            kept = closed(loop, start + (half + rest - 1) * MINUTE)
        finally: loop.close()
    with capsys.disabled():
        print(f"\n{len(loop.told)} answers, {len(kept)} kept, killed: {', '.join(loop.kills)}", end=" ")
    assert loop.kills == ["service"]


@pytest.mark.slow
def test_the_cells_of_the_guide_run(monkeypatch):
    """As tests/repo has it for the others; this one runs the pipeline twice and starts a service twice."""
    book = Path(__file__).parents[2] / "nbs" / "guides" / "live_loop.ipynb"
    before = dict(os.environ)
    monkeypatch.chdir(book.parent)
    namespace = {"display": lambda *values: None, "__name__": "guide"}
    try:
        for cell in json.loads(book.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code": exec("".join(cell["source"]), namespace)
    finally:
        os.environ.clear()
        os.environ.update(before)
