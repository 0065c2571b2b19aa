"""Features: named by their spec, computed by one function, provably without a look at the future."""

from importlib import import_module

_HOME = {
    "Feature": "spec",
    "FeatureAudit": "audit",
    "FeatureStore": "store",
    "OnlineFeatures": "online",
    "Panel": "table",
    "Param": "spec",
    "assert_no_lookahead": "lookahead",
    "assert_parity": "online",
    "audit_features": "audit",
    "audit_function": "audit",
    "autocorrelation": "diagnostics",
    "check_columns": "diagnostics",
    "check_cuts": "lookahead",
    "check_each_bar": "online",
    "check_features": "lookahead",
    "check_parity": "online",
    "compute_features": "table",
    "correlation_clusters": "diagnostics",
    "correlations": "diagnostics",
    "coverage": "diagnostics",
    "definitions": "spec",
    "distributions": "diagnostics",
    "expand": "spec",
    "feature": "spec",
    "information_coefficient": "diagnostics",
    "load_features": "spec",
    "parse": "spec",
    "parse_set": "spec",
    "publish_features": "store",
    "published_facts": "published",
    "register_set": "spec",
    "set_names": "spec",
    "start": "spec",
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
