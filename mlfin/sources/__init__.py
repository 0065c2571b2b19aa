"""Bars from anywhere: files and folders, the built-in set, exchanges, the web, databases."""

from importlib import import_module

_HOME = {
    "ReadResult": "read_result",
    "RetryPolicy": "http_client",
    "load_sources": "sources",
    "read_bars": "sources",
    "read_parts": "sources",
    "register_source": "sources",
    "rest_mapping": "rest",
    "source_files": "sources",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
