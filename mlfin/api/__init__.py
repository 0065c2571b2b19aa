"""The service over HTTP."""

from importlib import import_module

_HOME = {
    "Batch": "intake",
    "Busy": "intake",
    "Health": "contract",
    "IngestReply": "contract",
    "IngestRequest": "contract",
    "IngestResult": "intake",
    "Intake": "intake",
    "Page": "contract",
    "PredictRequest": "contract",
    "Problem": "contract",
    "TrainRequest": "contract",
    "create_app": "api",
    "judge_pushed": "intake",
    "pushed_frame": "intake",
    "quick_batch": "intake",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
