"""What commands share at a terminal: tables, options, progress, and the choice of a store."""

from importlib import import_module

_HOME = {
    "load_profile": "options",
    "print_table": "console",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
