"""Running the house: the pipeline, its runs and their reproduction, the command line."""

from importlib import import_module

_HOME = {
    "Result": "pipeline",
    "ask": "pipeline",
    "choose_kernel": "pipeline",
    "find_run": "pipeline",
    "main": "cli",
    "make_plan": "pipeline",
    "reproduce": "pipeline",
    "run": "pipeline",
    "what_changed": "pipeline",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
