"""What is exported is read by those it is for, and means the same moments."""

import re
import shutil
import subprocess
from datetime import UTC, datetime
from itertools import islice

import pytest
import yaml
from cronsim import CronSim

from mlfin.core.errors import ParameterError
from mlfin.core.settings import load_settings
from mlfin.schedules.schedule import parse_schedule
from mlfin.schedules.schedule_export import cron_fields, cron_jobs, crontab, systemd_lines, systemd_units
from mlfin.schedules.start_times import parse_start_times

BASE = datetime(2026, 2, 27, 13, 37, 11, tzinfo=UTC)
CRON = [
    "0 4 * * *",
    "*/7 * * * *",
    "15 3,9-11 1,15 * *",
    "0 0 1 1-6/2 *",
    "30 22 * * 1-5",
    "0 12 13 * 5",
    "5 */3 * * sun",
    "0 6 */10 * 2",
]
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def systemd_moments(lines: list[str], many: int = 8) -> list[str]:
    """The next moments of several calendars together, as systemd finds them."""
    found = set()
    for line in lines:
        told = subprocess.run(
            [
                "systemd-analyze",
                "calendar",
                f"--iterations={many}",
                f"--base-time={BASE:%Y-%m-%d %H:%M:%S} UTC",
                line,
            ],
            capture_output=True,
            text=True,
            check=True,
            env={"TZ": "UTC", "PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        ).stdout
        found |= set(re.findall(r"(?:Next elapse|Iter. #\d+|\(in UTC\)): \w{3} ([\d-]+ [\d:]+) UTC", told))
    return sorted(found)[:many]


@needs_systemd
@pytest.mark.parametrize("text", CRON, ids=range(len(CRON)))
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_a_timer_has_the_moments_of_its_cron_calendar(text, zone):
    at = parse_start_times(text, zone)
    ours = [f"{m:%Y-%m-%d %H:%M:%S}" for m in islice(at.after(BASE), 6)]
    assert systemd_moments(systemd_lines(at, BASE))[:6] == ours


@needs_systemd
def test_units_are_verified_by_systemd(tmp_path):
    settings = load_settings("test").model_copy(update={"root": tmp_path / "a folder, 100%"})
    settings.root.mkdir()
    schedules = {
        "nightly": parse_schedule(
            "nightly", {"job": "check", "at": "0 4 * * *\nSat 12:00", "retries": "2"}
        ),
        "close": parse_schedule("close", {"job": "run", "at": "XNYS close + 30min", "missed": "skip"}),
    }
    units = systemd_units(settings, schedules, BASE)
    for name, text in units.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in units)],
        capture_output=True,
        text=True,
    )
    about_ours = [line for line in done.stderr.splitlines() if "mlfin" in line]
    assert (done.returncode, about_ours) == (0, [])
    (tmp_path / "mlfin-test-nightly.timer").write_text(
        units["mlfin-test-nightly.timer"].replace("OnCalendar=", "OnCalendar=every ")
    )
    broken = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "mlfin-test-nightly.timer")],
        capture_output=True,
        text=True,
    )
    assert "mlfin-test-nightly.timer" in broken.stderr  # it does look


@pytest.mark.parametrize(
    "text", ["Mon..Fri 22:30", "*:0/15", "weekly", "quarterly", "*-*-1..7 0/8:05"], ids=range(5)
)
def test_five_fields_have_the_moments_of_their_systemd_calendar(text):
    at = parse_start_times(text)
    assert list(islice(CronSim(cron_fields(at), BASE), 9)) == list(islice(at.after(BASE), 9))


def test_a_crontab_has_one_line_a_calendar_and_keeps_its_zone():
    one = parse_schedule("nightly", {"job": "check", "at": "0 4 * * *\nSat 12:00", "tz": "Asia/Tokyo"})
    lines = crontab(load_settings("test"), {"nightly": one}).splitlines()
    assert [line for line in lines if line.startswith("CRON_TZ")] == ["CRON_TZ=Asia/Tokyo"] * 2
    assert [line[:10] for line in lines if "schedule run nightly" in line] == ["0 4 * * * ", "0 12 * * 6"]


def test_cron_jobs_have_least_rights_and_a_limit():
    one = parse_schedule(
        "nightly", {"job": "check", "at": "0 4 * * *", "limit": "1h", "retries": "1", "missed": "skip"}
    )
    (made,) = yaml.safe_load_all(cron_jobs(load_settings("test"), {"nightly": one}, "example/mlfin:1"))
    spec = made["spec"]["jobTemplate"]["spec"]
    container = spec["template"]["spec"]["containers"][0]
    assert (made["apiVersion"], made["kind"], made["spec"]["startingDeadlineSeconds"]) == (
        "batch/v1",
        "CronJob",
        60,
    )
    assert spec["activeDeadlineSeconds"] == 2 * 3600 + 60 + 60
    assert (
        container["securityContext"]["runAsNonRoot"]
        and not container["securityContext"]["allowPrivilegeEscalation"]
    )


def test_what_five_fields_cannot_say_is_refused():
    for text in ("XNYS close", "24/7 1h bar + 10s", "04:00:05", "Mon *-*-1..7 04:00"):
        with pytest.raises(ParameterError, match="for five fields"):
            cron_fields(parse_start_times(text))
