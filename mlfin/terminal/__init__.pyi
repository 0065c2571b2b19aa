# Made by env/stubs from __init__.py; do not edit.
from mlfin.terminal.console import print_table as print_table
from mlfin.terminal.options import load_profile as load_profile

__all__ = [
    "load_profile",
    "print_table",
]
