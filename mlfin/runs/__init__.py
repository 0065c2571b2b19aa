"""The question, the pipeline that answers it, and retraining."""

from importlib import import_module

_HOME = {
    "RunResult": "pipeline",
    "check_question": "question",
    "choose_kernel": "question",
    "find_run": "pipeline",
    "make_plan": "pipeline",
    "read_question": "question",
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
