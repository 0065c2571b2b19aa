"""Fundamental and economic values, each with its period and the moment of its publication."""

from importlib import import_module

_HOME = {
    "FactReadResult": "fact_sources",
    "FactUpdate": "fact_sources",
    "as_facts": "facts",
    "as_known": "facts",
    "asof_join": "facts",
    "check_facts": "facts",
    "fact_summary": "fact_sources",
    "known_facts": "facts",
    "read_facts": "fact_sources",
    "register_facts": "fact_sources",
    "split_facts": "facts",
    "store_facts": "fact_sources",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
