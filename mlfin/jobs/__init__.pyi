# Made by env/stubs from __init__.py; do not edit.
from mlfin.jobs.jobs import JobRecord as JobRecord
from mlfin.jobs.jobs import Jobs as Jobs
from mlfin.jobs.orders import register_kind as register_kind

__all__ = [
    "JobRecord",
    "Jobs",
    "register_kind",
]
