"""How likely a result is luck: bootstrap, overfitting, clusters of trials, the deflated Sharpe ratio."""

from importlib import import_module

_HOME = {
    "Common": "overfitting",
    "EffectiveTrials": "clusters",
    "Intervals": "bootstrap",
    "Moments": "sharpe_ratio",
    "Overfitting": "overfitting",
    "SuperiorAbility": "bootstrap",
    "annualisation": "sharpe_ratio",
    "block_length": "bootstrap",
    "bootstrap_intervals": "bootstrap",
    "bootstrap_sharpe": "bootstrap",
    "common_days": "overfitting",
    "deflated_sharpe_ratio": "significance",
    "effective_trials": "clusters",
    "expected_best_sharpe": "significance",
    "expected_maximum_sharpe": "significance",
    "hedge": "significance",
    "lo_standard_error": "sharpe_ratio",
    "minimum_track_record_length": "sharpe_ratio",
    "moments": "sharpe_ratio",
    "probabilistic_sharpe_ratio": "sharpe_ratio",
    "probability_of_backtest_overfitting": "overfitting",
    "sharpe": "sharpe_ratio",
    "sharpe_standard_error": "sharpe_ratio",
    "spa_test": "bootstrap",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
