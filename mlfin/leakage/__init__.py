"""The tests that no feature looks ahead or reads anything but its bars."""

from importlib import import_module

_HOME = {
    "FeatureAudit": "audit",
    "assert_no_lookahead": "lookahead",
    "audit_features": "audit",
    "audit_function": "audit",
    "check_cuts": "cuts",
    "check_features": "lookahead",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
