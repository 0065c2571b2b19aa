"""Files of bars: from bytes in any dialect to tables of raw rows, their times and names."""

from importlib import import_module

_HOME = {
    "keep_raw": "raw_files",
    "raw_file": "raw_files",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
