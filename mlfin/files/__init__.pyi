# Made by env/stubs from __init__.py; do not edit.
from mlfin.files.raw_files import keep_raw as keep_raw
from mlfin.files.raw_files import raw_file as raw_file

__all__ = [
    "keep_raw",
    "raw_file",
]
