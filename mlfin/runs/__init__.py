"""The question, the pipeline that answers it, and retraining."""

from importlib import import_module

_HOME = {
    "RunResult": "pipeline",
    "check_question": "question",
    "choose_kernel": "question",
    "find_run": "run_folder",
    "make_plan": "plan",
    "read_question": "question",
    "reproduce": "reproduction",
    "run": "pipeline",
    "what_changed": "reproduction",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
