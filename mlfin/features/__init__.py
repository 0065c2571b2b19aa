"""Features from bars and facts: specs, indicators, and the same numbers bar by bar."""

from importlib import import_module

_HOME = {
    "Feature": "feature_types",
    "OnlineFeatures": "online",
    "Panel": "panel",
    "Param": "feature_types",
    "assert_parity": "online",
    "autocorrelation": "diagnostics",
    "check_columns": "diagnostics",
    "check_each_bar": "online",
    "check_parity": "online",
    "compute_features": "table",
    "correlation_clusters": "diagnostics",
    "correlations": "diagnostics",
    "feature_coverage": "diagnostics",
    "definitions": "spec",
    "distributions": "diagnostics",
    "expand": "spec",
    "feature": "spec",
    "information_coefficient": "diagnostics",
    "load_features": "spec",
    "parse": "spec",
    "parse_set": "spec",
    "register_set": "spec",
    "set_names": "spec",
    "start": "feature_types",
    "stationarity": "diagnostics",
    "turnover": "diagnostics",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
