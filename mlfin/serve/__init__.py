"""Serving: the same numbers as research gives, to everyone allowed and to nobody else."""

from importlib import import_module

_HOME = {
    "AccountStore": "account_store",
    "AuthError": "roles",
    "Busy": "intake",
    "Intake": "intake",
    "Person": "roles",
    "Taken": "intake",
    "judge_pushed": "intake",
    "pushed_frame": "intake",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
