"""Metrics, logs, live scores and health."""

from importlib import import_module

_HOME = {
    "AccessLog": "logs",
    "HealthCheck": "health",
    "JsonFormatter": "logs",
    "Metrics": "metrics",
    "Readiness": "health",
    "SharedFile": "logs",
    "ages": "health",
    "bound": "logs",
    "bound_names": "logs",
    "check_health": "health",
    "clean_metrics": "metrics",
    "count_ingest": "metrics",
    "drop_metrics": "metrics",
    "harmless": "logs",
    "health_history": "health",
    "hide": "logs",
    "live_figures": "score",
    "live_verdict": "score",
    "log_access": "logs",
    "logs_folder": "logs",
    "mean_worth": "score",
    "measure_process": "metrics",
    "metrics_folder": "metrics",
    "note_health": "health",
    "redact": "logs",
    "score_live": "score",
    "setup_logs": "logs",
    "show_champion": "metrics",
    "summary": "health",
    "wilson_interval": "score",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
