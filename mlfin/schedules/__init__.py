"""What runs by itself: calendars, schedules, their history, and the daemon."""

from importlib import import_module

_HOME = {
    "Schedule": "schedule",
    "ScheduledStart": "start_history",
    "StartHistory": "start_history",
    "StartTimes": "start_times",
    "load_schedules": "schedule",
    "parse_span": "start_times",
    "parse_start_times": "start_times",
    "run_daemon": "schedule_daemon",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
