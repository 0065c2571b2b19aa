"""The words of the field as frames: bars, calendars, corporate actions, spreads."""

from importlib import import_module

_HOME = {
    "TIMEFRAMES": "bars",
    "adjust_bars": "actions",
    "already_adjusted": "actions",
    "as_actions": "actions",
    "as_bars": "bars",
    "bars_per_year": "calendars",
    "check_bars": "bars",
    "compare_actions": "actions",
    "days_per_year": "calendars",
    "derive_actions": "actions",
    "expected_bars": "calendars",
    "follow_renames": "actions",
    "gaps": "calendars",
    "infer_calendar": "calendars",
    "known_actions": "actions",
    "known_at": "calendars",
    "merge_bars": "bars",
    "moment": "bars",
    "parse_timeframe": "bars",
    "resample": "calendars",
    "session_of": "calendars",
    "sessions": "calendars",
    "timeframe_delta": "bars",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
