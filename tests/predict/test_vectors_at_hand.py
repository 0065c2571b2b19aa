"""Answers at hand cost microseconds and are never older than the request: what was pushed before it came is
in them, however it came."""
import asyncio
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi")
uvloop = pytest.importorskip("uvloop")

from mlfin.store.lake import Lake  # noqa: E402
from mlfin.store.delta_table import LogEnd  # noqa: E402
from mlfin.monitor.logs import logs_folder, setup_logs  # noqa: E402
from mlfin.api.api import Api, create_app  # noqa: E402
from mlfin.accounts.auth import Accounts  # noqa: E402
from mlfin.api.contract import PredictReply  # noqa: E402
from mlfin.accounts.credentials import Hashing  # noqa: E402
from mlfin.accounts.rate_limits import Limits  # noqa: E402
from mlfin.predict.champion import CachedPrediction  # noqa: E402
from mlfin.predict.predictor import Predictor  # noqa: E402
from mlfin.predict.rows import Row  # noqa: E402
from mlfin.api.service import Service  # noqa: E402
from mlfin.predict.stream import LoopTick, Stream  # noqa: E402
from mlfin.accounts.users import add_user, new_key  # noqa: E402

LOOPS = (asyncio.new_event_loop, uvloop.new_event_loop)


def run(make, work):
    """A coroutine in a loop of its own, in a thread of its own: another test of this worker may keep a loop
    in this one."""
    found = []

    def own():
        loop = make()
        try:
            found.append(loop.run_until_complete(work()))
        finally:
            loop.close()
    thread = threading.Thread(target=own)
    thread.start()
    thread.join(60)
    assert found, "it did not end"
    return found[0]


# --- one look serves a turn of the event loop


class Counting:
    "A stream of a store that is a number: what it shows is the number at its last sync."
    def __init__(self):
        self.pushed, self.looks = 0, 0
        self.stream = Stream.__new__(Stream)
        self.stream._current, self.stream._looked = None, None
        self.stream.feed, self.stream.facts = (
            SimpleNamespace(stamp=self.look), SimpleNamespace(due=float("inf")))

    def look(self):
        self.looks += 1
        return (self.pushed,)

    def ask(self, turn):
        shown = self.stream.cached_or_none(turn)
        if shown is None:
            stamp = self.look()
            shown = stamp[0]
            self.stream._current = stamp, shown
        return shown


@pytest.mark.parametrize("make", LOOPS)
@settings(max_examples=40, deadline=None)
@given(arrivals=st.lists(st.lists(st.integers(0, 4), max_size=6), max_size=12))
def test_no_answer_is_older_than_its_request(make, arrivals):
    """In each turn of the loop some things arrive: a push (0), or a request that waits so many turns before
    it looks."""
    store, turn, wrong = Counting(), LoopTick(), []

    async def request(pauses, floor):
        for _ in range(pauses - 1):
            await asyncio.sleep(0)
        if (said := store.ask(turn.token())) < floor:
            wrong.append((said, floor))

    async def work():
        tasks = []
        for arriving in arrivals:
            for what in arriving:
                if what == 0:
                    store.pushed += 1
                else:
                    tasks.append(asyncio.ensure_future(request(what, store.pushed)))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        return True
    assert run(make, work) and not wrong


@pytest.mark.parametrize("make", LOOPS)
def test_requests_that_came_together_share_one_look(make):
    store, turn = Counting(), LoopTick()
    store.ask(None)

    async def request():
        return store.ask(turn.token())

    async def work():
        before = store.looks
        await asyncio.gather(*(request() for _ in range(50)))
        together = store.looks - before
        for _ in range(5):
            await request()
            await asyncio.sleep(0)
        return together, store.looks - before - together
    assert run(make, work) == (1, 5)


@pytest.mark.parametrize("make", LOOPS)
def test_a_turn_ends_with_its_loop(make):
    turn = LoopTick()

    async def mark():
        return turn.token()
    first, second = run(make, mark), run(make, mark)
    assert first is not second

    async def stopped():  # a loop that is stopped in the same turn, and closed before the turn was over
        asyncio.get_running_loop().stop()
        return turn.token()
    third = run(make, stopped)
    assert run(make, mark) is not third


# --- the end of a log


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def daily(day, symbol="AAA", close=1.0, days=1):
    ts = pd.date_range(day, periods=days, freq="D", tz="UTC").as_unit("us")
    return pd.DataFrame(dict(symbol=symbol, timeframe="1d", ts=ts, known_at=ts + pd.Timedelta("1D"),
                             open=close, high=close, low=close, close=close,
                             volume=1.0)).astype({"symbol": "str", "timeframe": "str"})


def test_a_commit_is_seen_though_no_time_of_a_file_changed(lake):
    end, log = LogEnd(lake.path / "bars"), lake.path / "bars" / "_delta_log"
    assert end.at() is None
    Lake(lake.path).write(daily("2024-01-01"))
    before, times = end.at(), os.stat(log)
    Lake(lake.path).write(daily("2024-01-02"))
    os.utime(log, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert os.stat(log).st_mtime_ns == times.st_mtime_ns
    assert end.at() == (before[0], before[1] + 1) == (before[0], lake.version())


def test_a_table_that_was_made_anew_is_another_one(lake):
    end, other = LogEnd(lake.path / "bars"), Lake(lake.path)
    for day in range(1, 5):
        other.write(daily(f"2024-01-0{day}"))
    assert end.at()[1] == lake.version() >= 3 and len(lake.read(timeframe="1d")) == 4
    shutil.rmtree(lake.path / "bars")
    assert end.at() is None and lake.version() == -1
    Lake(lake.path).write(daily("2024-01-01", close=2.0))
    assert end.at()[1] == lake.version() < 3 and lake.read(timeframe="1d").close.tolist() == [2.0]


def test_a_log_whose_beginning_was_swept_away(lake):
    end = LogEnd(lake.path / "bars")
    for day in range(1, 5):
        Lake(lake.path).write(daily(f"2024-01-0{day}"))
    newest = end.at()[1]
    DeltaTable(str(lake.path / "bars")).create_checkpoint()
    for old in (lake.path / "bars" / "_delta_log").glob("*.json"):
        if not old.name.startswith("_"):
            old.unlink()
    assert end.at()[1] == newest and LogEnd(lake.path / "bars").at()[1] == newest


# --- a real lake, and another process that pushes into it


PUSHER = """
import sys
from pathlib import Path
import pandas as pd
from mlfin.store.lake import Lake
lake, bars = Lake(sys.argv[1]), pd.read_parquet(sys.argv[2])
for n, (ts, own) in enumerate(bars.groupby("ts")):
    own = own.reset_index(drop=True)
    if n % 5 == 4: lake.write(own)
    else: lake.push(own)
    if n % 7 == 6: lake.flush()
    print(int(ts.timestamp()), flush=True)
"""


@pytest.fixture
def predictor(champion, lake):
    config, bars = champion
    days = np.sort(bars.ts.unique())
    lake.write(bars[bars.ts < days[-40]].reset_index(drop=True))
    made = Predictor(config, "main", store=lake, poll=0)
    made.predict()
    yield made, bars[bars.ts >= days[-40]].reset_index(drop=True)
    made.close()


# a service runs in uvloop
@pytest.mark.parametrize("make", [pytest.param(LOOPS[0], marks=pytest.mark.slow), LOOPS[1]])
def test_what_another_process_pushed_before_a_request_is_in_its_answer(predictor, lake, tmp_path, make):
    own, rest = predictor
    rest.to_parquet(tmp_path / "rest.parquet")
    pusher = subprocess.Popen([sys.executable, "-c", PUSHER, str(lake.path), str(tmp_path / "rest.parquet")],
                              stdout=subprocess.PIPE, text=True)
    floor, at_hand, late, turn = [0.0], [0], [], LoopTick()

    def follow():
        for line in pusher.stdout:
            floor[0] = float(line)
    reader = threading.Thread(target=follow)
    reader.start()

    async def request(least):
        found = own.cached_or_none(tick=turn.token())
        at_hand[0] += found is not None
        said = ([s.at(time.time()) for s in found] if found is not None
                else await asyncio.to_thread(own.predict))
        late.extend((s.ts, least) for s in said if s.ts.timestamp() < least)

    async def work():
        while reader.is_alive():
            await asyncio.gather(*(request(floor[0]) for _ in range(8)))
            await asyncio.sleep(0.01)
        await request(floor[0])
        return True
    try:
        assert run(make, work) and pusher.wait(30) == 0
    finally:
        pusher.kill()
        pusher.stdout.close()
        reader.join(30)
    assert floor[0] == rest.ts.max().timestamp() and not late and at_hand[0] > 40
    assert {pd.Timestamp(s.prediction.ts) for s in own.cached_or_none()} == {rest.ts.max()}


def test_what_must_be_computed_is_not_at_hand(predictor, lake):
    own, rest = predictor
    assert len(own.cached_or_none()) == 2
    lake.push(rest[rest.ts == rest.ts.min()].reset_index(drop=True))
    assert own.cached_or_none("AAA") is None
    own.champion.stream.sync()
    assert own.cached_or_none("AAA") is None  # its inputs are there, and nothing was said of them yet
    own.predict("AAA")
    assert own.cached_or_none("AAA")[0].prediction.ts == rest.ts.min() and own.cached_or_none() is None


def test_nobody_gets_rows_that_were_just_forgotten(predictor):
    own, _ = predictor
    kept = own.champion.stream.rows
    own.forget()
    assert own.cached_or_none("AAA") is None  # and not: there is no such symbol
    assert own.predict("AAA")[0].ts == kept["AAA"].ts and own.cached_or_none("AAA")[0].row.symbol == "AAA"


# --- what goes over the wire


@settings(max_examples=30, deadline=None)
@given(now=st.floats(0, 4e9), due=st.floats(0, 4e9),
       reason=st.text(max_size=30) | st.just('"age_seconds":0.0,"stale":false'),
       price=st.none() | st.floats(allow_nan=False, allow_infinity=False))
def test_the_bytes_are_those_of_the_message(now, due, reason, price):
    moment = pd.Timestamp("2024-01-01", tz="UTC").to_pydatetime()
    fields = dict(symbol="BTC/USDT", timeframe="1d", ts=moment, known_at=moment, kind="direction",
                  probability=0.5, prediction=None, threshold=0.5, label=1,
                  foretells="fwd_ret_1", horizon=1, model="m", version=1,
                  reason=reason.encode("utf-8", "replace").decode(), close=price, baseline=None,
                  interval=None, price=price, price_interval=None, price_baseline=price, settled=True)
    said = CachedPrediction(Row("BTC/USDT", moment, moment, 1.0, None), fields, due, moment.timestamp())
    assert json.loads(said.json_at(now)) == json.loads(said.at(now).model_dump_json(by_alias=True))


@pytest.fixture
def served(champion, tmp_path):
    "An application with a key of an analyst, and what it writes down; (ask, api, settings)."
    config, bars = champion
    config = config.model_copy(update={"root": tmp_path, "store": str(tmp_path / "lake"),
                                       "accounts": f"sqlite:///{tmp_path}/accounts.sqlite"})
    handlers = setup_logs(config)
    lake = Lake(tmp_path / "lake")
    lake.write(bars)
    accounts = Accounts(config.accounts, profile="test",
                        hashing=Hashing(time_cost=1, memory_kb=8, parallelism=1))
    add_user(accounts, "ann", "analyst", "correct horse battery")
    key = new_key(accounts, "ann", "test", role="analyst")
    key = key if isinstance(key, str) else key[-1]
    app = create_app(config, Api(config, Service(config, lake), accounts))
    app.api.service.predictors.warm()

    async def one(body, secret):
        said, left = [], [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            return left.pop()

        async def send(message):
            said.append(message)
        heads = [(b"host", b"testserver"), (b"content-length", str(len(body)).encode()),
                 (b"x-api-key", secret.encode())]
        await app({"type": "http", "method": "POST", "path": "/v1/predict", "client": ("192.0.2.1", 1),
                   "query_string": b"", "headers": heads, "state": {}}, receive, send)
        return said[0]["status"], said[1]["body"], dict(said[0]["headers"])

    def ask(question, times=1, secret=key):
        async def work():
            return await asyncio.gather(*(one(json.dumps(question).encode(), secret) for _ in range(times)))
        return run(uvloop.new_event_loop, work)
    yield ask, app.api, config
    app.api.service.close()
    for handler in handlers.values():
        for name in ("", "mlfin.access", "uvicorn.access"):
            logging.getLogger(name).removeHandler(handler)
        handler.close()


def counted(api, name):
    return sum(float(line.rpartition(" ")[2])
               for line in api.metrics.render()[0].decode().splitlines() if line.startswith(name + "{"))


def test_every_answer_at_hand_is_counted_logged_and_recorded_once(served, monkeypatch):
    ask, api, config = served
    want = api.service.predictors.get("main").predict(["BBB", "AAA"])
    monkeypatch.setattr(api.service.forecaster, "predict", lambda request: pytest.fail("it was at hand"))
    found = ask({"experiment": "main", "symbols": ["BBB", "AAA"]}, times=25)
    assert {status for status, _, _ in found} == {200}
    assert len({heads[b"x-request-id"] for _, _, heads in found}) == 25
    replies = [PredictReply.model_validate_json(body) for _, body, _ in found]
    for reply in replies:
        assert ([p.model_dump(exclude={"age_seconds"}) for p in reply.predictions]
                == [p.model_dump(exclude={"age_seconds"}) for p in want])
    assert counted(api, "predictions_total") == 50 and counted(api, "prediction_probability_count") == 50
    assert counted(api, "http_requests_total") == 25
    assert api.service.predictors.get("main").flush()
    kept = api.service.store.read_predictions()
    assert sorted(kept.symbol) == ["AAA", "BBB"]
    api.access.flush()
    lines = [json.loads(x) for x in (logs_folder(config) / "access.log").read_text().splitlines()]
    assert (sorted(x["request_id"] for x in lines)
            == sorted(heads[b"x-request-id"].decode() for _, _, heads in found))
    assert {(x["method"], x["path"], x["route"], x["status"], x["user"], x["address"]) for x in lines} == \
        {("POST", "/v1/predict", "/predict", 200, "ann", "192.0.2.1")}


@pytest.mark.parametrize("symbols", [["AAA"], ["BBB", "AAA"], ["AAA", "BBB"] * 20])
def test_a_question_of_any_length_has_the_same_kind_of_answer(served, symbols):
    ask, _, _ = served
    answers = [json.loads(ask({"experiment": "main", "symbols": symbols})[0][1])["predictions"]
               for _ in range(3)]
    assert {p["symbol"] for p in answers[0]} == set(symbols)
    for later in answers[1:]:
        assert [{**p, "age_seconds": 0} for p in later] == [{**p, "age_seconds": 0} for p in answers[0]]


def test_who_asks_is_looked_at_each_time(served):
    ask, api, _ = served
    question = {"experiment": "main", "symbol": "AAA"}
    assert ask(question)[0][0] == 200
    assert ask(question, secret="mlfin_nobody")[0][0] == 401
    with api.accounts.write() as write:
        write.run("UPDATE auth_users SET disabled = 1")
        write.run("UPDATE auth_state SET generation = generation + 1")
    assert [status for status, _, _ in ask(question, times=3)] == [401] * 3
    assert counted(api, "predictions_total") == 1 and counted(api, "http_errors_total") == 4


def test_limits_count_what_is_at_hand(served):
    ask, api, _ = served
    api.limits = Limits("7/hour", "")
    assert (sorted(status for status, _, _ in ask({"experiment": "main", "symbol": "AAA"}, times=10))
            == [200] * 7 + [429] * 3)


def test_a_question_that_is_wrong_stays_wrong(served):
    ask, _, _ = served
    for _ in range(2):
        assert [ask(q)[0][0] for q in ({"experiment": "main", "symbol": "ZZZ"}, {"experiment": "main"},
                                       {"experiment": "none", "symbol": "AAA"}, [1])] == [404, 422, 404, 422]


def test_a_bar_that_came_is_in_the_next_answer(served):
    ask, api, _ = served
    question = {"experiment": "main", "symbol": "AAA"}
    first = json.loads(ask(question)[0][1])["predictions"][0]
    after = pd.Timestamp(first["ts"]) + pd.Timedelta("1D")
    Lake(api.service.store.path).push(daily(after.tz_localize(None), close=first["close"] * 1.01))
    assert pd.Timestamp(json.loads(ask(question)[0][1])["predictions"][0]["ts"]) == after
