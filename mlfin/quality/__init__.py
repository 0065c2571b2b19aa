"""Named checks of bars, what they found, and repair when asked."""

from importlib import import_module

_HOME = {
    "check_quality": "quality",
    "clean": "cleaning",
    "decimal_shifts": "decimals",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
