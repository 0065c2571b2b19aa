"""The champion online: the same numbers as research, bar by bar, and what came of them."""

import sys
from importlib import import_module
from types import ModuleType

_HOME = {
    "Bar": "messages",
    "ModelInfo": "messages",
    "Prediction": "messages",
    "Predictor": "predictor",
    "Recorder": "outcomes",
    "Signal": "messages",
    "SingleRow": "single_row",
    "Stream": "stream",
    "live_records": "live",
    "match_outcomes": "outcomes",
    "predict": "predictor",
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


class _Callable(ModuleType):
    """The room itself, called: `from mlfin import predict`, then `predict("AAPL", experiment="default")`."""

    def __call__(self, symbols=None, *, experiment="default", profile=None):
        "What an experiment's champion says of the newest closed bar of each symbol; see `mlfin.predict.predictor.predict`."
        return self.predict(symbols, experiment=experiment, profile=profile)


sys.modules[__name__].__class__ = _Callable
