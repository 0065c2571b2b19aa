"""What a running house tells: metrics for collectors, logs that keep secrets, health with its history."""

from importlib import import_module

_HOME = {
    "Metrics": "metrics",
    "clean_metrics": "metrics",
    "count_ingest": "metrics",
    "count_prediction": "metrics",
    "measure_process": "metrics",
    "metrics_folder": "metrics",
    "score_champion": "metrics",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
