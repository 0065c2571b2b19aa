"""The champion online: the same numbers as research, bar by bar, and what came of them."""

from importlib import import_module

_HOME = {
    "Bar": "messages",
    "ModelInfo": "messages",
    "Prediction": "messages",
    "Predictor": "predictor",
    "Recorder": "outcomes",
    "Signal": "messages",
    "Row": "rows",
    "SingleRow": "single_row",
    "Stream": "stream",
    "live_records": "live",
    "match_outcomes": "outcomes",
    "predict_latest": "predictor",
    "tally_outcomes": "outcomes",
    "write_records": "live",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
