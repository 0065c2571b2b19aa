# Made by env/stubs from __init__.py; do not edit.
from mlfin.quality.cleaning import clean as clean
from mlfin.quality.decimals import decimal_shifts as decimal_shifts
from mlfin.quality.quality import check_quality as check_quality

__all__ = [
    "check_quality",
    "clean",
    "decimal_shifts",
]
