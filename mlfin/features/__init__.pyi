# Made by env/stubs from __init__.py; do not edit.
from mlfin.features.diagnostics import autocorrelation as autocorrelation
from mlfin.features.diagnostics import check_columns as check_columns
from mlfin.features.diagnostics import correlation_clusters as correlation_clusters
from mlfin.features.diagnostics import correlations as correlations
from mlfin.features.diagnostics import distributions as distributions
from mlfin.features.diagnostics import feature_coverage as feature_coverage
from mlfin.features.diagnostics import information_coefficient as information_coefficient
from mlfin.features.diagnostics import stationarity as stationarity
from mlfin.features.diagnostics import turnover as turnover
from mlfin.features.feature_types import Feature as Feature
from mlfin.features.feature_types import Param as Param
from mlfin.features.feature_types import start as start
from mlfin.features.online import OnlineFeatures as OnlineFeatures
from mlfin.features.online import assert_parity as assert_parity
from mlfin.features.online import check_each_bar as check_each_bar
from mlfin.features.online import check_parity as check_parity
from mlfin.features.panel import Panel as Panel
from mlfin.features.spec import definitions as definitions
from mlfin.features.spec import expand as expand
from mlfin.features.spec import feature as feature
from mlfin.features.spec import load_features as load_features
from mlfin.features.spec import parse as parse
from mlfin.features.spec import parse_set as parse_set
from mlfin.features.spec import register_set as register_set
from mlfin.features.spec import set_names as set_names
from mlfin.features.table import compute_features as compute_features

__all__ = [
    "Feature",
    "OnlineFeatures",
    "Panel",
    "Param",
    "assert_parity",
    "autocorrelation",
    "check_columns",
    "check_each_bar",
    "check_parity",
    "compute_features",
    "correlation_clusters",
    "correlations",
    "definitions",
    "distributions",
    "expand",
    "feature",
    "feature_coverage",
    "information_coefficient",
    "load_features",
    "parse",
    "parse_set",
    "register_set",
    "set_names",
    "start",
    "stationarity",
    "turnover",
]
