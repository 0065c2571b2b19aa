# Made by env/stubs from __init__.py; do not edit.
from mlfin.quality.quality import check_quality as check_quality
from mlfin.quality.quality import clean as clean
from mlfin.quality.quality import decimal_shifts as decimal_shifts

__all__ = [
    "check_quality",
    "clean",
    "decimal_shifts",
]
