# Made by env/stubs from __init__.py; do not edit.
from mlfin.ingest.closing_times import ClosingCalendars as ClosingCalendars
from mlfin.ingest.closing_times import fitted_calendars as fitted_calendars
from mlfin.ingest.ingested_bars import IngestedBars as IngestedBars
from mlfin.ingest.store_update import UpdateResult as UpdateResult
from mlfin.ingest.store_update import update as update

__all__ = [
    "ClosingCalendars",
    "IngestedBars",
    "UpdateResult",
    "fitted_calendars",
    "update",
]
