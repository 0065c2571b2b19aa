# Made by env/stubs from __init__.py; do not edit.
from mlfin.runs.pipeline import RunResult as RunResult
from mlfin.runs.pipeline import find_run as find_run
from mlfin.runs.pipeline import make_plan as make_plan
from mlfin.runs.pipeline import reproduce as reproduce
from mlfin.runs.pipeline import run as run
from mlfin.runs.pipeline import what_changed as what_changed
from mlfin.runs.question import check_question as check_question
from mlfin.runs.question import choose_kernel as choose_kernel
from mlfin.runs.question import read_question as read_question

__all__ = [
    "RunResult",
    "check_question",
    "choose_kernel",
    "find_run",
    "make_plan",
    "read_question",
    "reproduce",
    "run",
    "what_changed",
]
