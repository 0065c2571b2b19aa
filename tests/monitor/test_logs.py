"""Logs under attack: no secret gets out, no text begins a line, no process destroys another one's."""
import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlfin.core.settings import load_settings, project_root
from mlfin.monitor.logs import (HIDDEN, STREAMS, AccessLog, JsonFormatter, SharedFile, bound, harmless, hide,
                                log_access, logs_folder, redact, setup_logs)

SECRET = st.text(
    "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz0123456789+/=_-.~!*%", min_size=10, max_size=60).filter(
    lambda s: not any(w in s.lower() for w in ("token", "key", "pass", "otp"))
    and any(c.isalnum() for c in s[:3]) and len(set(s)) > 6)
NAMES = st.sampled_from(
    "password Passwd token access_token refresh_token REFRESH-TOKEN client_secret api_key X-Api-Key apikey "
    "Authorization cookie Set-Cookie totp otp recovery_code private_key signing_key credentials pwd "
    "DB_PASSWORD".split())
SHAPES = (
    "{n}={s}", "{n}: {s}", "GET /x?a=1&{n}={q} HTTP/1.1", '{{"{n}": "{s}"}}', "{{'a': 1, '{n}': '{s}'}}",
    "login failed ({n}={s}) again", '{n} = "{s}"', "Authorization: Bearer {s}", "authorization='Basic {s}'",
    "bearer {s}", "postgresql://ann:{s}@db:5432/mlfin", "redis://:{s}@host/0",
    "cannot reach https://ann:{s}@example.org/x?y=1", "Cookie: a=1; session={s}; b=2", "eyJhbGciOi.{w}.{w}x",
    "$argon2id$v=19$m=1$"+"{s}", "-----BEGIN RSA PRIVATE KEY-----\n{s}\n{s}\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY----- {s}")


def line_of(**record) -> str:
    return JsonFormatter().format(logging.makeLogRecord({"name": "x", "levelname": "INFO",
                                                         "msg": "", **record}))


@given(SECRET, NAMES, st.sampled_from(SHAPES))
@example("hunter2hunter2/@x", "password", "postgresql://ann:{s}@db/mlfin")
def test_no_secret_gets_out_in_any_place(secret, name, shape):
    word = "".join(c for c in secret if c.isalnum()) + "Zq9"
    text = shape.format(n=name, s=secret, q=quote(secret, safe=""), w=word)
    gone = quote(secret, safe="") if "{q}" in shape else word if "{w}" in shape else secret
    assert gone in text
    failure = None
    try:
        raise RuntimeError(text)
    except RuntimeError as e:
        failure = (type(e), e, e.__traceback__)
    with bound(user=text):
        for line in (line_of(msg=text), line_of(msg="%s and %s", args=("x", text)),
                     line_of(msg="x", more={"deep": [{"er": text}]}), line_of(msg="x", exc_info=failure),
                     line_of(msg="x", raw=text.encode()), line_of(msg=text, args=("unfit",))):
            assert gone not in line and HIDDEN in line and "\n" not in line


@given(SECRET, NAMES, st.sampled_from([str, str.upper, str.lower, lambda n: f"x_{n}"]))
def test_no_secret_gets_out_under_a_telling_name(secret, name, case):
    for line in (line_of(**{case(name): secret}), line_of(body={case(name): [secret]}),
                 line_of(a={"b": {case(name): {"value": secret}}})):
        assert secret not in line


@given(st.text(max_size=400) | st.text("\r\n\x00\x1b\x85\u2028\u2029\ud800{}\"'\\:=", max_size=50))
def test_no_text_begins_another_line(text):
    line = line_of(msg=text, field=text, **{"odd": {text: text}})
    assert len(line.splitlines()) == 1 and line.isascii()
    assert json.loads(line)["level"] == "INFO"


@pytest.mark.parametrize("text", [
    "3 tokens left", "monkey=5", "keyboard: qwerty", "cache hit ratio 0.93",
    "symbol=BTC/USDT timeframe=1m rows=500", "https://example.org:8443/a?b=c",
    "read 5 bars from postgresql://ann@db/mlfin", "passed 12 checks", "the authority said so"])
def test_what_is_innocent_stays(text):
    assert redact(text) == text


def test_a_secret_that_is_known_by_value(monkeypatch):
    hide("w0nderful-phrase")
    assert "w0nderful" not in line_of(msg="is it w0nderful-phrase?", f={"w0nderful-phrase": 1})


def test_fields_that_misbehave():
    class Bad:
        def __str__(self):
            raise ValueError("token=abcdefgh")
    loop = []
    loop.append(loop)
    told = json.loads(line_of(msg="x", bad=Bad(), loop=loop, nan=float("nan"), many=list(range(10_000)),
                              long="x" * 1_000_000, level="FAKE"))
    assert "cannot be shown" in told["bad"] and told["nan"] == "nan" and len(told["many"]) == 100
    assert len(told["long"]) < 9_000
    assert told["level"] == "INFO"  # a field takes no place of the line's own
    assert harmless({"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}})["a"]["b"]["c"]["d"]["e"]["f"] == "..."


WRITE = """
import sys, logging
from pathlib import Path
from mlfin.monitor.logs import JsonFormatter, SharedFile
handler = SharedFile(Path(sys.argv[1]), size=20_000, keep=99)
handler.setFormatter(JsonFormatter())
for n in range(500):
    handler.emit(logging.makeLogRecord({"name": "x", "msg": f"{sys.argv[2]} {n} " + "." * (n % 200)}))
sys.exit(handler.lost)
"""


def test_several_processes_lose_no_line_while_files_turn_over(tmp_path):
    running = [subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path / "a.log"), name])
               for name in "abc"]
    assert [p.wait(60) for p in running] == [0, 0, 0]
    lines = [json.loads(line)["message"].split()[:2] for path in tmp_path.glob("a.log*")
             for line in path.read_text().splitlines()]
    assert len(list(tmp_path.glob("a.log*"))) > 5
    assert sorted(map(tuple, lines)) == sorted((name, str(n)) for name in "abc" for n in range(500))


def test_a_file_that_cannot_be_written_loses_lines_and_nothing_else(tmp_path):
    handler = SharedFile(tmp_path / "full.log")
    handler.setFormatter(JsonFormatter())
    (tmp_path / "full.log").symlink_to("/dev/full")
    handler.emit(logging.makeLogRecord({"msg": "x"}))
    assert handler.lost == 1
    handler.close()


@pytest.fixture
def quiet():
    """The loggers as they were."""
    names = ("", "uvicorn", "uvicorn.error", "uvicorn.access", "mlfin.access")
    before = {n: (list(logging.getLogger(n).handlers), logging.getLogger(n).level,
                  logging.getLogger(n).propagate) for n in names}
    yield
    for name, (handlers, level, propagate) in before.items():
        logger = logging.getLogger(name)
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)
    logging.captureWarnings(False)


@pytest.mark.parametrize("to", ["files", "stdout"])
def test_streams(tmp_path, monkeypatch, quiet, capsys, to):
    monkeypatch.setenv("STORE_PASSWORD", "from-the-environment")
    settings = load_settings("test", root=project_root()).model_copy(update={"root": tmp_path, "log_to": to})
    setup_logs(settings)
    handlers = setup_logs(settings)  # again is as good as once
    logging.getLogger("uvicorn.error").error("started with from-the-environment")
    logging.getLogger("any.library").warning("hm")
    logging.getLogger("any.library").info("too quiet")
    logging.getLogger("mlfin.access").info("seen")
    if to == "stdout":
        lines = [json.loads(x) for x in capsys.readouterr().out.splitlines()]
        found = {s: [x["message"] for x in lines if x["stream"] == s] for s in STREAMS}
    else:
        found = {s: [json.loads(x)["message"]
                     for x in (logs_folder(settings) / f"{s}.log").read_text().splitlines()]
                 for s in STREAMS}
    assert found == {"application": [f"started with {HIDDEN}", "hm"], "access": ["seen"],
                     "error": [f"started with {HIDDEN}"]}
    for handler in handlers.values():
        handler.close()


def test_a_line_costs_little():
    record = logging.makeLogRecord(
        {"name": "mlfin.access", "levelname": "INFO", "msg": "%s %s %s", "args": ("POST", "/predict", 200),
         "method": "POST", "path": "/predict", "status": 200, "ms": 3.1, "client": "127.0.0.1"})
    formatter, best = JsonFormatter(), 1.0
    for _ in range(5):
        begin = time.process_time()
        for _ in range(500):
            formatter.format(record)
        best = min(best, (time.process_time() - begin) / 500)
    assert best < 400e-6, f"{best * 1e6:.0f} us a line"


@pytest.mark.parametrize("text", ["token" * 20_000, "a" * 100_000, "=" * 50_000, "://" * 30_000, "'" * 50_000,
                                  "eyJ." * 20_000, "key_" * 25_000 + "="])
def test_no_text_takes_long(text):
    begin = time.process_time()
    line_of(msg=text)
    assert time.process_time() - begin < 1


@pytest.fixture
def access(tmp_path, quiet):
    """What stands in the access stream."""
    setup_logs(settings := load_settings("test", root=project_root()).model_copy(update={
        "root": tmp_path, "log_to": "files"}))
    yield lambda: [json.loads(x) for x in (logs_folder(settings) / "access.log").read_text().splitlines()]
    for handler in logging.getLogger("mlfin.access").handlers:
        handler.close()


def asked(n, **more):
    return {"method": "GET", "path": f"/x/{n}", "status": 200, "ms": 1.25, "user": "ann", **more}


def apart(work, *given):
    "In a thread: another test of this worker may keep a loop here."
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work, *given).result()


def test_lines_of_a_turn_go_out_together_and_none_twice(access, monkeypatch):
    log, writes, write = AccessLog(), [], os.write
    monkeypatch.setattr(os, "write",
                        lambda file, data: (writes.append(data.count(b"/x/")), write(file, data))[1])

    async def serve():
        for n in range(30):
            log(asked(n))
            if n % 10 == 9:
                await asyncio.sleep(0)
        log(asked(30))

    async def left():  # a loop that ends in the very turn
        asyncio.get_running_loop().call_soon(log, asked(31))
    apart(lambda: asyncio.run(serve()))
    apart(lambda: asyncio.run(left()))
    apart(log, asked(32))  # where no loop runs: at once
    assert [line["path"] for line in access()] == [f"/x/{n}" for n in range(33)]
    assert len([n for n in writes if n]) <= 6


def test_lines_of_several_threads_and_loops_are_all_there(access):
    log = AccessLog()

    async def serve(who):
        for n in range(200):
            log(asked(f"{who}-{n}"))
            if n % 3 == 0:
                await asyncio.sleep(0)
    threads = [threading.Thread(target=asyncio.run, args=(serve(who),)) for who in range(3)]
    threads.append(threading.Thread(target=lambda: [log(asked(f"3-{n}")) for n in range(200)]))
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    log.flush()  # a loop that ends at once has no turn left in which to write
    assert (sorted(line["path"] for line in access())
            == sorted(f"/x/{who}-{n}" for who in range(4) for n in range(200)))


def test_a_line_tells_when_and_for_whom_it_was_taken_and_what_is_left_is_written_at_the_end(access):
    log = AccessLog()

    async def serve(log):
        with bound(run_id="r-1", path="not this"):
            log(asked(0, ok=True, share=0.5, odd=float("nan"), none=None, text='a "b"\n'))
        with bound(run_id="r-2"):
            log(asked(1))
    apart(lambda: asyncio.run(serve(log)))
    taken = time.time()
    assert not Path(logging.getLogger("mlfin.access").handlers[0].path).exists() or not access()
    time.sleep(0.2)
    log = None
    gc.collect()
    first, second = access()
    assert ((first["run_id"], first["path"], second["run_id"], second["path"])
            == ("r-1", "/x/0", "r-2", "/x/1"))
    assert ([first[k] for k in ("ok", "share", "odd", "none", "text", "level", "message")]
            == [True, 0.5, "nan", None, 'a "b"\n', "INFO", "GET /x/0 200"])
    assert datetime.fromisoformat(second["ts"]).timestamp() <= taken


def test_a_ready_line_hides_what_any_line_hides(access):
    log, path = AccessLog(), "/signals?symbol=an0ther-phrase&token=abcdefghij"
    apart(log, asked(0, path=path, agent="Bearer abcdefghij", id="eyJhbGciOi.eyJzdWIi.c2lnbmF0"))
    hide("an0ther-phrase")
    apart(log, asked(0, path=path, agent="an0ther-phrase"))
    log_access("GET", path, 200, 0.00125, agent="x")
    first, second, third = access()
    assert first["path"] == f"/signals?symbol=an0ther-phrase&token={HIDDEN}" and HIDDEN in first["agent"]
    assert HIDDEN in first["id"]
    assert second["path"] == third["path"] == f"/signals?symbol={HIDDEN}&token={HIDDEN}"
    assert second["agent"] == HIDDEN
    assert "an0ther" not in json.dumps([second, third])
    assert "abcdefghij" not in json.dumps([first, second, third])
