"""What a running house tells: metrics for collectors, logs that keep secrets, health with its history."""

from importlib import import_module

_HOME = {
    "JsonFormatter": "logs",
    "Metrics": "metrics",
    "SharedFile": "logs",
    "bound": "logs",
    "bound_names": "logs",
    "clean_metrics": "metrics",
    "count_ingest": "metrics",
    "count_prediction": "metrics",
    "harmless": "logs",
    "hide": "logs",
    "log_access": "logs",
    "logs_folder": "logs",
    "measure_process": "metrics",
    "metrics_folder": "metrics",
    "redact": "logs",
    "score_champion": "metrics",
    "setup_logs": "logs",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
