"""Health tells the truth, in time, whatever is broken."""
import os
import sqlite3
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pandas as pd
import pytest

import mlfin.monitor.health as health
from mlfin.core.settings import load_settings, project_root
from mlfin.market.bars import as_bars
from mlfin.market.calendars import expected_bars
from mlfin.store.lake import Lake
from mlfin.monitor.health import (Asked, HealthCheck, Readiness, ages, check_clock, check_health,
                                  check_journal, health_history, note_health, summary)


@pytest.fixture
def settings(tmp_path):
    return load_settings("test", root=project_root()).model_copy(update={
        "root": tmp_path, "store": str(tmp_path / "lake"), "mlflow": f"sqlite:///{tmp_path}/mlflow.db"})


def bars(end="2024-03-01", timeframe="1d", calendar="24/7"):
    grid = expected_bars(calendar, timeframe, pd.Timestamp(end) - pd.Timedelta("9D"), end)
    return as_bars(grid.assign(symbol="COIN", timeframe=timeframe, open=1, high=2, low=1, close=1, volume=5))


def states(checks):
    return {c.name: c.state for c in checks}


def test_a_store_that_hangs_does_not_hang_the_answer(settings, monkeypatch):
    hold = threading.Event()
    store = SimpleNamespace(version=lambda: hold.wait(30) and 1,
                            series=lambda: hold.wait(30) and pd.DataFrame())
    ready = Readiness(settings, store=store, calendar="24/7", every=0, timeout=0.3, first=0.3)
    begin = time.monotonic()
    # the second may still share the first one's wait
    first, _, third = ready.ready(), ready.ready(), ready.ready()
    assert time.monotonic() - begin < 5
    assert not first["ready"] and {c["name"]: c["state"] for c in first["checks"]}["disk"] == "ok"
    assert "did not answer within 0.3 s" in str(first) and "has not answered for" in str(third)
    count = threading.active_count()
    for _ in range(5):
        ready.ready()
    assert threading.active_count() <= count  # nothing piles up
    hold.set()


@pytest.mark.parametrize("name", list(health.HEALTH_CHECKS))
def test_only_what_is_needed_to_answer_makes_unready_when_it_is_late(settings, monkeypatch, name):
    """Redis, freshness, the live record and the journal's backlog: a name server that takes its time is no
    reason to be away."""
    hold = threading.Event()
    monkeypatch.setitem(health.HEALTH_CHECKS, name, lambda asked: hold.wait(60) and ("ok", "at last", ""))
    late = check_health(settings, calendar="24/7", only=[name], timeout=0.05)
    time.sleep(0.1)
    hanging = check_health(settings, calendar="24/7", only=[name], timeout=0.05)
    hold.set()
    assert "did not answer within" in late[0].words and "has not answered for" in hanging[0].words
    vital = name in ("store", "model", "disk", "clock")
    for found in late, hanging:
        assert found[0].state == ("fail" if vital else "warn") and summary(found)["ready"] is not vital


def test_two_who_ask_at_once_get_one_answer(settings, monkeypatch):
    calls = []
    monkeypatch.setitem(health.HEALTH_CHECKS, "disk",
                        lambda asked: calls.append(1) or time.sleep(0.3) or ("ok", "fine", ""))
    found = []
    threads = [threading.Thread(target=lambda: found.append(
        check_health(settings, only=["disk"], timeout=10)[0].words)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["fine"] * 6 and len(calls) == 1


def test_a_damaged_and_a_forbidden_store(settings, tmp_path):
    Lake(settings.store).write(bars())
    assert check_health(settings, only=["store"], timeout=30)[0].state == "ok"
    log = next((tmp_path / "lake/bars/_delta_log").glob("*.json"))
    log.write_text("{broken")
    check = check_health(settings, only=["store"], timeout=30)[0]
    assert check.state == "fail" and check.words


@pytest.mark.parametrize("error", [ValueError("a driver's own, password=hunter2hunter2"),
                                   OSError(28, "No space left"), sqlite3.OperationalError("locked")])
def test_what_a_check_raises_is_what_it_found(settings, monkeypatch, error):
    def broken(asked):
        raise error
    monkeypatch.setitem(health.HEALTH_CHECKS, "store", broken)
    check = check_health(settings, only=["store"], timeout=5)[0]
    assert check.state == "fail" and check.words and "hunter2" not in check.words


def test_a_closed_market_is_not_stale():
    friday = bars("2024-03-02", "1h", "XNYS").ts.max()
    at = [ages({"1h": friday}, "XNYS", pd.Timestamp(t, tz="UTC"))["1h"][1] for t in
          ("2024-03-02 12:00", "2024-03-04 14:00", "2024-03-04 15:40", "2024-03-04 19:00")]
    assert at[:2] == [0, 0] and at[2] <= 1 < at[3]
    assert ages({"1m": friday}, "24/7", friday + pd.Timedelta("3min"))["1m"] == (120, 2)
    assert ages({"1w": pd.Timestamp("2024-02-26", tz="UTC")}, "24/7",
                pd.Timestamp("2024-03-10", tz="UTC"))["1w"][1] == 0


def test_old_bars_are_a_warning_and_no_reason_to_be_away(settings):
    Lake(settings.store).write(bars())
    found = check_health(settings, calendar="24/7", timeout=30)
    assert states(found)["freshness"] == "warn" and summary(found)["ready"]


def test_clocks(settings, monkeypatch):
    store = SimpleNamespace(series=lambda: pd.DataFrame({
        "timeframe": ["1m"], "last": [pd.Timestamp.now("UTC") + pd.Timedelta("1h")]}))
    assert check_clock(Asked(settings, "default", store, None))[0] == "fail"
    asked = Asked(settings, "default", None, None)
    assert check_clock(asked)[0] == "ok"
    now = time.time
    for jump, state in ((5, "warn"), (-300, "fail")):
        monkeypatch.setattr(health.time, "time", lambda jump=jump: now() + jump)
        assert check_clock(asked)[0] == state and f"{jump:+.1f} s" in check_clock(asked)[1]


def test_a_clock_that_was_put_right_counts_for_minutes_not_for_ever(settings, monkeypatch):
    wall, steady = [1e9], [100.0]
    monkeypatch.setattr(health.time, "time", lambda: wall[0])
    monkeypatch.setattr(health.time, "clock_gettime", lambda clock: steady[0])
    monkeypatch.setattr(health, "_clock", health._Clock())
    asked = Asked(settings, "default", None, None)

    def after(seconds, jump=0.0):
        wall[0], steady[0] = wall[0] + seconds + jump, steady[0] + seconds
        return check_clock(asked)[0]

    assert after(3600) == "ok"
    assert [after(1, jump=90), after(60), after(200)] == ["fail"] * 3
    assert [after(100), after(10)] == ["ok"] * 2                            # right from then on
    assert [after(1, jump=5), after(250), after(1, jump=-95)] == ["warn", "warn", "fail"]
    # the second jump counts as long as the first
    assert [after(200), after(90), after(20)] == ["fail", "fail", "ok"]
    assert after(10, jump=1.5) == "ok"


def test_a_database_whose_clock_is_off(settings):
    class Cursor:
        def __enter__(self): return self
        def __exit__(self, *_): return None
        def execute(self, text): return None
        def fetchone(self): return (time.time() + 45,)
    store = SimpleNamespace(series=lambda: pd.DataFrame({"timeframe": [], "last": []}),
                            server=SimpleNamespace(transaction=lambda how: Cursor()))
    state, words, _ = check_clock(Asked(settings, "default", store, None))
    assert state == "warn" and "database's clock is +45" in words


def test_the_backlog(settings, monkeypatch):
    lake = Lake(settings.store)
    asked = Asked(settings, "default", lake, None)
    assert check_journal(asked) == ("ok", "nothing waits", "")
    lake.push(bars())
    assert check_journal(asked)[0] == "ok" and "pushed bars wait" in check_journal(asked)[1]
    monkeypatch.setitem(health._BACKLOG, "warn", 5)
    assert check_journal(asked)[0] == "warn"
    lake.flush()
    assert check_journal(asked)[1] == "nothing waits"


def test_redis_away_is_a_warning(settings, tmp_path):
    lost = settings.model_copy(update={"redis": f"unix://:geheim12345@{tmp_path}/none"})
    check = check_health(lost, only=["redis"], timeout=10)[0]
    assert check.state == "warn" and "geheim" not in check.words


@pytest.mark.parametrize("free, inodes, state", [
    (2 * 2**30, (100, 100), "warn"), (2**29, (100, 100), "fail"), (2**40, (100, 3), "warn"),
    (2**40, (0, 0), "ok")])
def test_room(settings, monkeypatch, free, inodes, state):
    monkeypatch.setattr(health.shutil, "disk_usage", lambda place: SimpleNamespace(free=free))
    monkeypatch.setattr(health.os, "statvfs",
                        lambda place: SimpleNamespace(f_files=inodes[0], f_favail=inodes[1]))
    assert check_health(settings, only=["disk"], timeout=10)[0].state == state


def test_history_keeps_changes_and_is_bounded(settings, monkeypatch):
    for state in ("ok", "ok", "fail", "fail", "ok"):
        note_health(settings,
                    [HealthCheck("store", state, f"it is {state}"), HealthCheck("disk", "ok", "room")])
    told = [(h["name"], h["before"], h["state"]) for h in reversed(health_history(settings))]
    assert told == [("store", "", "ok"), ("disk", "", "ok"), ("store", "ok", "fail"), ("store", "fail", "ok")]
    monkeypatch.setattr(health, "KEPT", 10)
    for n in range(50):
        note_health(settings, [HealthCheck("store", ("ok", "fail")[n % 2], "x")])
    assert len(health_history(settings, 1000)) == 10


NOTE = """
import sys
from pathlib import Path
from mlfin.core.settings import load_settings, project_root
from mlfin.monitor.health import HealthCheck, note_health
settings = load_settings("test", root=project_root()).model_copy(update={"root": Path(sys.argv[1])})
print(sum(note_health(settings, [HealthCheck("store", "fail", "x")]) for _ in range(50)))
"""


def test_processes_note_a_change_once(settings, tmp_path):
    running = [subprocess.Popen([sys.executable, "-c", NOTE, str(tmp_path)], stdout=subprocess.PIPE,
                                text=True, env=os.environ) for _ in range(3)]
    assert sorted(int(p.communicate(timeout=60)[0]) for p in running) == [0, 0, 1]
    assert len(health_history(settings)) == 1


def test_a_history_that_cannot_be_written_is_said(settings, monkeypatch):
    health.health_file(settings).parent.mkdir(parents=True)
    health.health_file(settings).write_text("no database " * 500)
    told = Readiness(settings, calendar="24/7", timeout=30).ready()
    assert {c["name"]: c["state"] for c in told["checks"]}["history"] == "warn" and told["ready"]
