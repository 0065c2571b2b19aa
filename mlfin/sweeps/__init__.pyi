# Made by env/stubs from __init__.py; do not edit.
from mlfin.sweeps.signal_grid import FeatureColumn as FeatureColumn
from mlfin.sweeps.signal_grid import SignalGrid as SignalGrid
from mlfin.sweeps.signal_grid import expand_grid as expand_grid
from mlfin.sweeps.signal_sweep import SignalSweep as SignalSweep
from mlfin.sweeps.signal_sweep import sweep_signals as sweep_signals

__all__ = [
    "FeatureColumn",
    "SignalGrid",
    "SignalSweep",
    "expand_grid",
    "sweep_signals",
]
