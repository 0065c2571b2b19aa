"""PostgreSQL as a store, and opening or copying whichever store is named."""

from importlib import import_module

_HOME = {
    "CopyResult": "transfer",
    "checksum": "transfer",
    "copy_store": "transfer",
    "open_store": "opening",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
