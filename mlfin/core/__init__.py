"""What everything else stands on: errors, settings, locks, provenance, trials.

It knows nothing of markets."""

from importlib import import_module

_HOME = {
    "BacktestError": "errors",
    "DataError": "errors",
    "Ledger": "trials",
    "MissingExtraError": "errors",
    "MlfinError": "errors",
    "ModelError": "errors",
    "ParameterError": "errors",
    "PipelineError": "errors",
    "SealKeys": "seals",
    "Settings": "settings",
    "SettingsError": "errors",
    "SpecError": "errors",
    "SplitError": "errors",
    "begin_task": "tasks",
    "load_settings": "settings",
    "open_ledger": "trials",
    "project_root": "settings",
    "seal_keys": "seals",
    "trial_id": "trials",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
