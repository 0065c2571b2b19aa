# Made by env/stubs from __init__.py; do not edit.
from mlfin.api.api import create_app as create_app
from mlfin.api.contract import Health as Health
from mlfin.api.contract import IngestReply as IngestReply
from mlfin.api.contract import IngestRequest as IngestRequest
from mlfin.api.contract import Page as Page
from mlfin.api.contract import PredictRequest as PredictRequest
from mlfin.api.contract import Problem as Problem
from mlfin.api.contract import TrainRequest as TrainRequest
from mlfin.api.intake import Batch as Batch
from mlfin.api.intake import Busy as Busy
from mlfin.api.intake import IngestResult as IngestResult
from mlfin.api.intake import Intake as Intake
from mlfin.api.intake import judge_pushed as judge_pushed
from mlfin.api.intake import pushed_frame as pushed_frame
from mlfin.api.intake import quick_batch as quick_batch

__all__ = [
    "Batch",
    "Busy",
    "Health",
    "IngestReply",
    "IngestRequest",
    "IngestResult",
    "Intake",
    "Page",
    "PredictRequest",
    "Problem",
    "TrainRequest",
    "create_app",
    "judge_pushed",
    "pushed_frame",
    "quick_batch",
]
