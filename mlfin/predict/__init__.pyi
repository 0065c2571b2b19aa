# Made by env/stubs from __init__.py; do not edit.
from mlfin.predict.live import live_records as live_records
from mlfin.predict.live import write_records as write_records
from mlfin.predict.messages import Bar as Bar
from mlfin.predict.messages import ModelInfo as ModelInfo
from mlfin.predict.messages import Prediction as Prediction
from mlfin.predict.messages import Signal as Signal
from mlfin.predict.outcomes import Recorder as Recorder
from mlfin.predict.outcomes import match_outcomes as match_outcomes
from mlfin.predict.outcomes import tally_outcomes as tally_outcomes
from mlfin.predict.predictor import Predictor as Predictor
from mlfin.predict.predictor import predict_latest as predict_latest
from mlfin.predict.rows import Row as Row
from mlfin.predict.single_row import SingleRow as SingleRow
from mlfin.predict.stream import Stream as Stream

__all__ = [
    "Bar",
    "ModelInfo",
    "Prediction",
    "Predictor",
    "Recorder",
    "Row",
    "Signal",
    "SingleRow",
    "Stream",
    "live_records",
    "match_outcomes",
    "predict_latest",
    "tally_outcomes",
    "write_records",
]
