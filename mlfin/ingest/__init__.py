"""From a source through quality into the store, series by series, and what a run reads of it."""

from importlib import import_module

_HOME = {
    "ClosingCalendars": "closing_times",
    "IngestedBars": "ingested_bars",
    "UpdateResult": "store_update",
    "fitted_calendars": "closing_times",
    "update": "store_update",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
