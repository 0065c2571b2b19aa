"""Long work that was asked of the service."""

from importlib import import_module

_HOME = {
    "JobRecord": "jobs",
    "Jobs": "jobs",
    "register_kind": "orders",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
