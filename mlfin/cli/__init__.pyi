# Made by env/stubs from __init__.py; do not edit.
from mlfin.cli.app import main as main

__all__ = [
    "main",
]
