"""A stand-in for the clock, in every process that has this folder on its PYTHONPATH and LOOP_CLOCK in its environment.

A day of old minutes can only be lived through if the processes that live through it take its moments for now: else each prediction
comes late. What decides that is the clock of `pandas.Timestamp.now` and that of the recorder; both read the file that LOOP_CLOCK names,
two lines: a moment, and when (by the real clock) it was written. From there it goes on, for less than a minute.
"""
import importlib.abc
import importlib.machinery
import os
import sys
import time

_MOST = 50.0  # seconds that it goes on by itself: no further bar closes


def now():
    """The moment that the file says, in seconds since 1970."""
    with open(os.environ["LOOP_CLOCK"], encoding="ascii") as file:
        moment, written = map(float, file.read().split())
    return moment + min(max(time.time() - written, 0.0), _MOST)


def _pandas(module):
    def stand_in(cls, tz=None):
        found = module.Timestamp(round(now() * 1e6), unit="us", tz="UTC")
        return found.tz_convert(tz) if tz is not None else found.tz_localize(None)

    module.Timestamp.now = classmethod(stand_in)


def _outcomes(module):
    real = module.datetime

    class Clock:
        """`datetime`, as far as the recorder uses it."""
        @staticmethod
        def now(tz): return real.fromtimestamp(now(), tz)

    module.datetime = Clock


_SET = {"pandas": _pandas, "mlfin.serve.outcomes": _outcomes}


class _Finder(importlib.abc.MetaPathFinder):
    """Sets the clock of a module when it has been loaded."""
    def find_spec(self, name, path=None, target=None):
        if name not in _SET: return None
        found = importlib.machinery.PathFinder.find_spec(name, path, target)
        load = found.loader.exec_module

        def loaded(module):
            load(module)
            _SET[name](module)

        found.loader.exec_module = loaded
        return found


if "LOOP_CLOCK" in os.environ: sys.meta_path.insert(0, _Finder())
