# Made by env/stubs from __init__.py; do not edit.

__all__ = [
]
