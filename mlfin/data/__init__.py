"""Bars that can be trusted: sources, calendars, quality, corporate actions, the store, ingest."""

from importlib import import_module

_HOME = {
    "Ingested": "ingest",
    "Lake": "lake",
    "Reading": "sources",
    "Store": "store",
    "TIMEFRAMES": "bars",
    "WriteResult": "store",
    "adjust_bars": "actions",
    "already_adjusted": "actions",
    "as_actions": "actions",
    "as_bars": "bars",
    "bars_per_year": "calendars",
    "check_bars": "bars",
    "check_quality": "quality",
    "clean": "quality",
    "compare_actions": "actions",
    "days_per_year": "calendars",
    "decimal_shifts": "quality",
    "derive_actions": "actions",
    "expected_bars": "calendars",
    "follow_renames": "actions",
    "gaps": "calendars",
    "known_actions": "actions",
    "keep_raw": "files",
    "known_at": "calendars",
    "merge_bars": "bars",
    "open_store": "ingest",
    "parse_timeframe": "bars",
    "quality_report": "quality",
    "raw_file": "files",
    "read_bars": "sources",
    "register_source": "sources",
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
