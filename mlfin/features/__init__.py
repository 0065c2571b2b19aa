"""Features: named by their spec, computed by one function, provably without a look at the future."""

from importlib import import_module

_HOME = {
    "Feature": "spec",
    "Param": "spec",
    "assert_no_lookahead": "lookahead",
    "compute_features": "technical",
    "feature": "spec",
    "load_features": "spec",
    "parse": "spec",
    "parse_set": "spec",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
