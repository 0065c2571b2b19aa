"""Sweeps over the parameters of trading signals: a grid of indicators, costs and stops, simulated in compiled loops."""

from importlib import import_module

_HOME = {
    "FeatureColumn": "signal_grid",
    "SignalGrid": "signal_grid",
    "SignalSweep": "signal_sweep",
    "expand_grid": "signal_grid",
    "sweep_signals": "signal_sweep",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
