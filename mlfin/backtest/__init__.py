"""From predictions to positions, money, significance and risk: what a model would have earned, and how likely that is luck."""

from importlib import import_module

_HOME = {
    "Moments": "significance",
    "Overfitting": "significance",
    "Simulation": "simulate",
    "TradingRule": "signals",
    "backtest": "simulate",
    "benchmark_relation": "risk",
    "bootstrap_sharpe": "significance",
    "buy_and_hold": "simulate",
    "cornish_fisher": "risk",
    "cost_breakeven_bps": "risk",
    "daily_returns": "simulate",
    "deflated_sharpe_ratio": "significance",
    "drawdowns": "risk",
    "equity_frame": "simulate",
    "expected_maximum_sharpe": "significance",
    "hedge": "significance",
    "hold_equally": "signals",
    "key_figures": "risk",
    "minimum_track_record_length": "significance",
    "moments": "significance",
    "monthly_returns": "risk",
    "positions_from_predictions": "signals",
    "price_panel": "signals",
    "probabilistic_sharpe_ratio": "significance",
    "probability_of_backtest_overfitting": "significance",
    "regimes": "stress",
    "return_figures": "risk",
    "rolling_sharpe": "risk",
    "same_days": "risk",
    "sharpe": "significance",
    "sharpe_standard_error": "significance",
    "tail_risk": "risk",
    "verdict": "risk",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
