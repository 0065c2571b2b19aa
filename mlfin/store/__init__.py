"""Where bars and records are kept: the interface of a store, and the lake in a folder."""

from importlib import import_module

_HOME = {
    "Cache": "cache",
    "Lake": "lake",
    "RedisCache": "cache",
    "Store": "store",
    "WriteResult": "store",
    "as_feature_rows": "records",
    "as_metrics": "records",
    "as_predictions": "records",
    "flushing": "lake",
    "is_label_name": "records",
    "latest_bars": "latest",
    "open_cache": "cache",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
