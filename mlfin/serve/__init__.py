"""Serving: who may ask, the contract, the predictor, jobs, the API."""

from importlib import import_module

_HOME = {
    "Bar": "contract",
    "Health": "contract",
    "IngestReply": "contract",
    "IngestRequest": "contract",
    "ModelInfo": "contract",
    "Page": "contract",
    "PredictRequest": "contract",
    "Prediction": "contract",
    "Predictor": "predictor",
    "Problem": "contract",
    "Recorder": "outcomes",
    "Signal": "contract",
    "SingleRow": "single",
    "Stream": "stream",
    "TrainRequest": "contract",
    "predict": "predictor",
    "single_row": "single",
    "tally_outcomes": "outcomes",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
