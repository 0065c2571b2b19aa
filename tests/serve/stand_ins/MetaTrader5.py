"""A stand-in for the module MetaTrader5: the rates in the folder that LOOP_RATES names, up to the moment that the stand-in clock says.

As a terminal does it: oldest first, stamped by the wall clock of an Athens server, spread in points, and the newest bar still forming.
"""
import os
from pathlib import Path

import numpy as np
from sitecustomize import now

TIMEFRAME_M1 = 1


def _rates(name):
    path = Path(os.environ["LOOP_RATES"]) / f"{name}.npz"
    return np.load(path) if path.is_file() else None


def initialize(): return True


def last_error(): return (1, "Success")


def symbol_select(name, on): return _rates(name) is not None


def symbol_info(name): return type("SymbolInfo", (), {"point": float(_rates(name)["point"])})


def copy_rates_from_pos(name, timeframe, start, count):
    kept = _rates(name)
    shown = kept["rates"][kept["opens"] <= now()].copy()
    if len(shown) and kept["opens"][len(shown) - 1] + 60 > now(): shown["close"][-1] = shown["open"][-1]  # nobody knows yet
    return shown[max(len(shown) - start - count, 0):len(shown) - start]
