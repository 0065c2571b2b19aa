# Made by env/stubs from __init__.py; do not edit.
from mlfin.sources.http_client import RetryPolicy as RetryPolicy
from mlfin.sources.read_result import ReadResult as ReadResult
from mlfin.sources.rest import rest_mapping as rest_mapping
from mlfin.sources.sources import load_sources as load_sources
from mlfin.sources.sources import read_bars as read_bars
from mlfin.sources.sources import read_parts as read_parts
from mlfin.sources.sources import register_source as register_source
from mlfin.sources.sources import source_files as source_files

__all__ = [
    "ReadResult",
    "RetryPolicy",
    "load_sources",
    "read_bars",
    "read_parts",
    "register_source",
    "rest_mapping",
    "source_files",
]
