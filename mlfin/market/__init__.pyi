# Made by env/stubs from __init__.py; do not edit.
from mlfin.market.actions import adjust_bars as adjust_bars
from mlfin.market.actions import already_adjusted as already_adjusted
from mlfin.market.actions import as_actions as as_actions
from mlfin.market.actions import compare_actions as compare_actions
from mlfin.market.actions import derive_actions as derive_actions
from mlfin.market.actions import follow_renames as follow_renames
from mlfin.market.actions import known_actions as known_actions
from mlfin.market.bars import TIMEFRAMES as TIMEFRAMES
from mlfin.market.bars import as_bars as as_bars
from mlfin.market.bars import check_bars as check_bars
from mlfin.market.bars import merge_bars as merge_bars
from mlfin.market.bars import moment as moment
from mlfin.market.bars import parse_timeframe as parse_timeframe
from mlfin.market.bars import timeframe_delta as timeframe_delta
from mlfin.market.calendars import bars_per_year as bars_per_year
from mlfin.market.calendars import days_per_year as days_per_year
from mlfin.market.calendars import expected_bars as expected_bars
from mlfin.market.calendars import gaps as gaps
from mlfin.market.calendars import infer_calendar as infer_calendar
from mlfin.market.calendars import known_at as known_at
from mlfin.market.calendars import resample as resample
from mlfin.market.calendars import session_of as session_of
from mlfin.market.calendars import sessions as sessions

__all__ = [
    "TIMEFRAMES",
    "adjust_bars",
    "already_adjusted",
    "as_actions",
    "as_bars",
    "bars_per_year",
    "check_bars",
    "compare_actions",
    "days_per_year",
    "derive_actions",
    "expected_bars",
    "follow_renames",
    "gaps",
    "infer_calendar",
    "known_actions",
    "known_at",
    "merge_bars",
    "moment",
    "parse_timeframe",
    "resample",
    "session_of",
    "sessions",
    "timeframe_delta",
]
