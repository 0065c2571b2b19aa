# Made by env/stubs from __init__.py; do not edit.
from mlfin.warehouse.opening import open_store as open_store
from mlfin.warehouse.transfer import CopyResult as CopyResult
from mlfin.warehouse.transfer import checksum as checksum
from mlfin.warehouse.transfer import copy_store as copy_store

__all__ = [
    "CopyResult",
    "checksum",
    "copy_store",
    "open_store",
]
