"""Bad days of a schedule daemon: killed at each step, two at once, clocks that jump, jobs that hang."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlfin.core.errors import SettingsError
from mlfin.core.settings import load_settings
from mlfin.jobs.job_process import alive, read_event
from mlfin.schedules.schedule import Schedule, load_schedules, parse_schedule
from mlfin.schedules.schedule_daemon import Calendar, look_at
from mlfin.schedules.start_history import StartHistory

from ..fixtures import schedule_daemon

DAEMON = Path(schedule_daemon.__file__)
ROOT = DAEMON.parents[2]
NOON = datetime(2026, 3, 3, 12, tzinfo=UTC).timestamp()
HOUR = 3600.0


@pytest.fixture
def project(tmp_path):
    """A project whose job.py notes that it ran."""
    (tmp_path / "pipeline.yaml").write_text("tasks: []\n")
    (tmp_path / "settings.ini").write_text((ROOT / "settings.ini").read_text())
    (tmp_path / "job.py").write_text("open('ran', 'a').write('x')\n")
    return tmp_path


@pytest.fixture
def history(project):
    return StartHistory(load_settings("test", project))


@pytest.fixture
def scripted(monkeypatch, project):
    """Schedules run job.py in this process' own looks, too."""
    script = [sys.executable, "-c", schedule_daemon.JOB, str(project / "job.py")]
    monkeypatch.setattr(Schedule, "command", property(lambda self: [*script, *self.arguments]))


@pytest.fixture
def daemon(project):
    """Start daemons in processes of their own; those that are left at the end are ended."""
    running = []

    def start(step=""):
        new = subprocess.Popen(
            [sys.executable, str(DAEMON), str(project), *([step] if step else [])],
            text=True,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert new.stdout.readline() == "ready\n"
        running.append(new)
        return new

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def hourly(**values) -> Schedule:
    return parse_schedule("hourly", {"job": "check", "at": "0 * * * *"} | values)


def look_until(history, schedule, now, states, seconds=30.0) -> list:
    """Look again and again until the schedule's starts, oldest first, have these states."""
    end = time.monotonic() + seconds
    while True:
        look_at(history, schedule, Calendar(), now)
        found = history.starts(schedule.name)[::-1]
        if [s.state for s in found] == states:
            return found
        assert time.monotonic() < end, found
        time.sleep(0.03)


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.03)
    return found


def put(project, text):
    (project / "settings.ini").write_text((ROOT / "settings.ini").read_text() + text)


@pytest.mark.parametrize("step", ["noted", "begun", "started", "ended"])
def test_a_killed_daemon_loses_no_start_and_doubles_none(step, project, history, daemon, monkeypatch):
    put(project, "[schedule often]\njob = check\nat = *:*\n")
    planned = time.time() // 60 * 60
    history.seen_until("often", load_schedules(history.settings)["often"].calendar, planned - 1)
    first = daemon(step)
    assert first.wait(30) == 9
    if (
        step == "begun"
    ):  # nobody knows whether its process comes: this one waits half a minute, unless it is told
        start = history.starts("often")[0]
        history.change(start, began=start.began - 60)
    daemon()
    ended = wait_for(
        lambda: [s for s in history.starts("often") if s.planned == planned and s.state == "done"]
    )
    assert (len(ended), ended[0].code) == (1, 0)
    begun = [s for s in history.starts("often") if s.state == "done"]
    assert len((project / "ran").read_text()) == len(
        begun
    )  # once for each start, the minute may have changed


def test_two_daemons_one_works(project, history, daemon):
    daemon()
    wait_for(lambda: (history.folder / "daemon.lock").exists())
    second = subprocess.run(
        [sys.executable, str(DAEMON), str(project)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert (
        second.returncode == 1
        and "Another schedule daemon of the profile test runs already" in second.stderr
    )


def test_a_clock_set_back_repeats_nothing_and_one_set_forward_makes_up_once(history, scripted, project):
    schedule = hourly()
    look_at(history, schedule, Calendar(), NOON - 60)
    look_until(history, schedule, NOON + 5, ["done"])
    for minutes in range(-60, 30, 7):
        look_at(history, schedule, Calendar(), NOON + 60 * minutes)  # an hour back
    assert len(history.starts("hourly")) == 1
    found = look_until(
        history, schedule, NOON + 24 * HOUR + 5, ["done", "skipped", "done"]
    )  # a day forward
    assert [s.planned - NOON for s in found] == [0, 23 * HOUR, 24 * HOUR]
    assert "missed" in found[1].why and (project / "ran").read_text() == "xx"


def test_a_clock_that_was_years_ahead_does_not_silence_a_schedule(history, scripted):
    schedule = hourly()
    look_at(history, schedule, Calendar(), NOON + 9000 * HOUR)
    look_at(history, schedule, Calendar(), NOON - 60)
    look_until(history, schedule, NOON + 1, ["done"])


def test_a_machine_that_slept_over_starts_makes_up_for_them_once_or_not_at_all(history, scripted, project):
    asleep = NOON + 5.2 * HOUR
    for name, values, states in (
        ("once", {}, ["skipped", "done"]),
        ("never", {"missed": "skip"}, ["skipped", "skipped"]),
        ("narrow", {"window": "5min"}, ["skipped", "skipped"]),
    ):
        schedule = replace(hourly(**values), name=name)
        look_at(history, schedule, Calendar(), NOON + 60)
        found = look_until(history, schedule, asleep, states)
        assert found[-1].planned == NOON + 5 * HOUR
    assert (project / "ran").read_text() == "x"


def test_a_job_that_hangs_is_ended_at_its_limit_and_told(history, scripted, project):
    (project / "job.py").write_text("import time; open('ran', 'a').write('x'); time.sleep(300)\n")
    schedule = hourly(limit="2s")
    look_at(history, schedule, Calendar(), NOON - 1)
    look_until(history, schedule, NOON, ["running"])
    start = history.starts("hourly")[0]
    wait_for((project / "ran").exists)
    who = read_event(history.place(start), "started")
    found = look_until(history, schedule, NOON + 3, ["failed"])
    assert "longer than its limit of 0:00:02" in found[0].why
    assert not alive(who["pid"], who["born"])


def test_a_failed_attempt_is_repeated_with_growing_waits(history, scripted, project):
    (project / "job.py").write_text(
        "import sys; open('ran', 'a').write('x'); print('no feed'); sys.exit(3)\n"
    )
    schedule, now, waits = hourly(retries="2", retry_wait="1min"), time.time(), []
    history.seen_until("hourly", schedule.calendar, now - HOUR)
    look_at(history, schedule, Calendar(), now)
    for _ in range(2):
        look_until(history, schedule, now, ["waiting"])
        start = history.starts("hourly")[0]
        assert (start.code, start.why) == (3, "exit code 3; another attempt follows")
        waits.append(round(start.not_before - start.ended))
        now = start.not_before + 1
    assert waits == [60, 120]
    assert look_until(history, schedule, now, ["failed"])[0].attempt == 3
    assert (project / "ran").read_text() == "xxx"


@pytest.mark.parametrize(
    ("overlap", "states"), [("skip", ["done", "skipped", "skipped"]), ("wait", ["done", "done", "skipped"])]
)
def test_a_start_that_is_due_while_one_runs(overlap, states, history, scripted, project):
    (project / "job.py").write_text(
        "import os, time; open('ran', 'a').write('x')\nwhile not os.path.exists('go'): time.sleep(0.02)\n"
    )
    schedule = hourly(overlap=overlap)
    look_at(history, schedule, Calendar(), NOON - 1)
    for hour in range(3):
        look_at(history, schedule, Calendar(), NOON + hour * HOUR)
        wait_for((project / "ran").exists)
    (project / "go").touch()
    found = look_until(history, schedule, NOON + 2 * HOUR + 1, states)
    assert "the start before it has not ended" in found[-1].why


def test_a_schedule_that_is_taken_away_ends_what_runs_and_starts_no_more(project, history, daemon):
    put(project, "[schedule often]\njob = check\nat = *:*\nretries = 5\nretry_wait = 1s\n")
    (project / "job.py").write_text("import sys; sys.exit(1)\n")
    history.seen_until(
        "often", load_schedules(history.settings)["often"].calendar, time.time() // 60 * 60 - 1
    )
    daemon()
    wait_for(lambda: [s for s in history.starts("often") if s.attempt == 2])
    put(project, "")
    found = wait_for(lambda: [s for s in history.starts("often") if s.state == "failed"])
    assert found[0].attempt < 6


def test_a_wrong_change_of_the_settings_stops_no_daemon(project, history, daemon):
    put(project, "[schedule often]\njob = check\nat = daily\n")
    running = daemon()
    wait_for(lambda: (history.folder / "history.sqlite").exists())
    put(project, "[schedule often]\njob = check\nat = at night\n")
    told = running.stdout.readline()
    assert told.startswith("daemon settings.ini [schedule often]: `at` must be")
    assert running.poll() is None


def test_a_full_disk_is_told_and_survived(project, history):
    code = f"""
import resource, sys, time
sys.argv = ["x", {str(project)!r}]
from threading import Event, Thread
import tests.fixtures.schedule_daemon as fixture, mlfin.schedules.schedule_daemon as module
from mlfin.core.settings import load_settings
from mlfin.schedules.schedule import parse_schedule
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from pathlib import Path
fixture.use_script(Path({str(project)!r}))
settings = load_settings("test", {str(project)!r})
one = parse_schedule("often", {{"job": "check", "at": "*:*"}})
history = module.StartHistory(settings)
history.seen_until("often", one.calendar, time.time() // 60 * 60 - 1)
stop, told = Event(), []
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
def free():
    time.sleep(2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    time.sleep(12)
    stop.set()
def tell(start):
    told.append(start.state)
    if start.state == "done": stop.set()
Thread(target=free, daemon=True).start()
module.run_daemon(settings, lambda: {{"often": one}}, stop, tell,
                  lambda name, error: told.append(type(error).__name__))
print(told[0], told[-2:])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "DataError ['running', 'done']\n", done.stdout + done.stderr
    assert (project / "ran").read_text() == "x"


def test_the_daemon_is_small_and_idle(project):
    """At most 60 MB beyond a bare Python, and without pandas, with fifty schedules."""
    code = """
import resource, sys, time
from threading import Event, Thread
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
from mlfin.core.settings import load_settings
from mlfin.schedules.schedule import parse_schedule
from mlfin.schedules.schedule_daemon import run_daemon
fifty = {f"s{i}": parse_schedule(f"s{i}", {"job": "check", "at": f"{i} {i % 24} * * *"}) for i in range(50)}
stop = Event()
Thread(target=lambda: (time.sleep(3), stop.set()), daemon=True).start()
run_daemon(load_settings("test", sys.argv[1]), lambda: fifty, stop)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, "pandas" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(project)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    size, pandas = done.stdout.split()
    assert (int(size) < 60 * 1024, pandas) == (True, "False"), done.stdout + done.stderr


def test_sections_that_are_wrong_are_refused_by_name(project):
    for text, told in (
        ("[schedule Night]\njob = run\nat = daily\n", "`schedule` must be lower-case"),
        ("[schedule n]\njob = run\n", "`at` must be given"),
        ("[schedule n]\njob = run\nat = daily\nlimit = 5\n", "`limit` must be a span with units"),
        ("[schedule n]\njob = run\nat = daily\ntz = Mars\n", "`tz` must be an IANA time zone"),
        (
            "[schedule n]\njob = run\nat = daily\nretries = -1\n",
            "`retries` must be an integer from 0 to 99",
        ),
        ("[schedule n]\njob = rm\nat = daily\n", "`job` must be a known name"),
    ):
        put(project, text)
        with pytest.raises(SettingsError, match=r"settings.ini \[schedule"):
            load_schedules(load_settings("test", project))
        with pytest.raises(SettingsError) as error:
            load_schedules(load_settings("test", project))
        assert told in str(error.value)


def test_the_hundredth_attempt_waits_no_longer_than_the_window():
    schedule = hourly(retries="99", retry_wait="300d", window="366d")
    assert [schedule.wait_before(n).days for n in (1, 2, 99)] == [300, 366, 366]
