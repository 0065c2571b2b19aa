# Made by env/stubs from __init__.py; do not edit.
from mlfin.schedules.schedule import Schedule as Schedule
from mlfin.schedules.schedule import load_schedules as load_schedules
from mlfin.schedules.schedule_daemon import run_daemon as run_daemon
from mlfin.schedules.start_history import ScheduledStart as ScheduledStart
from mlfin.schedules.start_history import StartHistory as StartHistory
from mlfin.schedules.start_times import StartTimes as StartTimes
from mlfin.schedules.start_times import parse_span as parse_span
from mlfin.schedules.start_times import parse_start_times as parse_start_times

__all__ = [
    "Schedule",
    "ScheduledStart",
    "StartHistory",
    "StartTimes",
    "load_schedules",
    "parse_span",
    "parse_start_times",
    "run_daemon",
]
