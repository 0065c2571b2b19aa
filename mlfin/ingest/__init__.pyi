# Made by env/stubs from __init__.py; do not edit.
from mlfin.ingest.closing_times import ClosingCalendars as ClosingCalendars
from mlfin.ingest.closing_times import fitted_calendars as fitted_calendars
from mlfin.ingest.ingest import IngestedBars as IngestedBars
from mlfin.ingest.ingest import UpdateResult as UpdateResult
from mlfin.ingest.ingest import update as update

__all__ = [
    "ClosingCalendars",
    "IngestedBars",
    "UpdateResult",
    "fitted_calendars",
    "update",
]
