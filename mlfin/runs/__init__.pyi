# Made by env/stubs from __init__.py; do not edit.
from mlfin.runs.pipeline import RunResult as RunResult
from mlfin.runs.pipeline import run as run
from mlfin.runs.plan import make_plan as make_plan
from mlfin.runs.question import check_question as check_question
from mlfin.runs.question import choose_kernel as choose_kernel
from mlfin.runs.question import read_question as read_question
from mlfin.runs.reproduction import reproduce as reproduce
from mlfin.runs.reproduction import what_changed as what_changed
from mlfin.runs.run_folder import find_run as find_run

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
