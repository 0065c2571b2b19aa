"""Bars that can be trusted: sources, calendars, quality, corporate actions, facts, the store, ingest."""

from importlib import import_module

_HOME = {
    "Cache": "cache",
    "Copied": "transfer",
    "FactReading": "fact_sources",
    "FactUpdate": "fact_sources",
    "Hours": "hours",
    "Ingested": "ingest",
    "Lake": "lake",
    "Patience": "web",
    "Reading": "sources",
    "RedisCache": "cache",
    "Store": "store",
    "TIMEFRAMES": "bars",
    "Update": "ingest",
    "WriteResult": "store",
    "adjust_bars": "actions",
    "already_adjusted": "actions",
    "as_actions": "actions",
    "as_bars": "bars",
    "as_facts": "facts",
    "as_feature_rows": "records",
    "as_known": "facts",
    "as_metrics": "records",
    "as_predictions": "records",
    "asof_join": "facts",
    "bars_per_year": "calendars",
    "check_bars": "bars",
    "check_facts": "facts",
    "check_quality": "quality",
    "checksum": "transfer",
    "clean": "quality",
    "compare_actions": "actions",
    "copy_store": "transfer",
    "days_per_year": "calendars",
    "decimal_shifts": "quality",
    "derive_actions": "actions",
    "expected_bars": "calendars",
    "fact_summary": "fact_sources",
    "fitted_calendars": "hours",
    "fitting_calendar": "calendars",
    "folding": "lake",
    "follow_renames": "actions",
    "gaps": "calendars",
    "is_label_name": "records",
    "keep_facts": "fact_sources",
    "keep_raw": "files",
    "known_actions": "actions",
    "known_at": "calendars",
    "known_facts": "facts",
    "latest_bars": "latest",
    "load_sources": "sources",
    "merge_bars": "bars",
    "moment": "bars",
    "open_cache": "cache",
    "open_store": "ingest",
    "parse_timeframe": "bars",
    "quality_report": "quality",
    "raw_file": "files",
    "read_bars": "sources",
    "read_facts": "fact_sources",
    "read_parts": "sources",
    "register_facts": "fact_sources",
    "register_source": "sources",
    "resample": "calendars",
    "rest_mapping": "web",
    "session_of": "calendars",
    "sessions": "calendars",
    "source_files": "sources",
    "split_facts": "facts",
    "timeframe_delta": "bars",
    "update": "ingest",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
