# Made by env/stubs from __init__.py; do not edit.
from mlfin.monitor.health import HealthCheck as HealthCheck
from mlfin.monitor.health import Readiness as Readiness
from mlfin.monitor.health import ages as ages
from mlfin.monitor.health import check_health as check_health
from mlfin.monitor.health import health_history as health_history
from mlfin.monitor.health import note_health as note_health
from mlfin.monitor.health import summary as summary
from mlfin.monitor.logs import AccessLog as AccessLog
from mlfin.monitor.logs import JsonFormatter as JsonFormatter
from mlfin.monitor.logs import SharedFile as SharedFile
from mlfin.monitor.logs import bound as bound
from mlfin.monitor.logs import bound_names as bound_names
from mlfin.monitor.logs import harmless as harmless
from mlfin.monitor.logs import hide as hide
from mlfin.monitor.logs import log_access as log_access
from mlfin.monitor.logs import logs_folder as logs_folder
from mlfin.monitor.logs import redact as redact
from mlfin.monitor.logs import setup_logs as setup_logs
from mlfin.monitor.metrics import Metrics as Metrics
from mlfin.monitor.metrics import clean_metrics as clean_metrics
from mlfin.monitor.metrics import count_ingest as count_ingest
from mlfin.monitor.metrics import drop_metrics as drop_metrics
from mlfin.monitor.metrics import measure_process as measure_process
from mlfin.monitor.metrics import metrics_folder as metrics_folder
from mlfin.monitor.metrics import show_champion as show_champion
from mlfin.monitor.score import live_figures as live_figures
from mlfin.monitor.score import live_verdict as live_verdict
from mlfin.monitor.score import mean_worth as mean_worth
from mlfin.monitor.score import score_live as score_live
from mlfin.monitor.score import wilson_interval as wilson_interval

__all__ = [
    "AccessLog",
    "HealthCheck",
    "JsonFormatter",
    "Metrics",
    "Readiness",
    "SharedFile",
    "ages",
    "bound",
    "bound_names",
    "check_health",
    "clean_metrics",
    "count_ingest",
    "drop_metrics",
    "harmless",
    "health_history",
    "hide",
    "live_figures",
    "live_verdict",
    "log_access",
    "logs_folder",
    "mean_worth",
    "measure_process",
    "metrics_folder",
    "note_health",
    "redact",
    "score_live",
    "setup_logs",
    "show_champion",
    "summary",
    "wilson_interval",
]
