"""From predictions to positions, money, significance and risk: what a model would have earned, and how likely that is luck."""

from importlib import import_module

_HOME = {
    "Books": "fills",
    "Costs": "costs",
    "Market": "fills",
    "Moments": "significance",
    "Overfitting": "significance",
    "Panel": "fills",
    "Scores": "signals",
    "Simulation": "simulate",
    "Terms": "fills",
    "TradingRule": "signals",
    "as_costs": "costs",
    "backtest": "simulate",
    "benchmark_relation": "risk",
    "bootstrap_sharpe": "significance",
    "buy_and_hold": "simulate",
    "capacity": "stress",
    "cornish_fisher": "risk",
    "cost_breakeven_bps": "risk",
    "cost_curve": "stress",
    "cut_market": "fills",
    "daily_returns": "simulate",
    "decide": "signals",
    "deflated_sharpe_ratio": "significance",
    "delay_curve": "stress",
    "drawdowns": "risk",
    "equity_frame": "simulate",
    "expected_maximum_sharpe": "significance",
    "hedge": "significance",
    "hold_equally": "signals",
    "impact_curve": "stress",
    "key_figures": "risk",
    "lay_out": "signals",
    "make_terms": "fills",
    "minimum_track_record_length": "significance",
    "moments": "significance",
    "monthly_returns": "risk",
    "needs": "fills",
    "positions_from_predictions": "signals",
    "price_panel": "signals",
    "probabilistic_sharpe_ratio": "significance",
    "probability_of_backtest_overfitting": "significance",
    "read_market": "fills",
    "regimes": "stress",
    "return_figures": "risk",
    "rolling_sharpe": "risk",
    "same_days": "risk",
    "sharpe": "significance",
    "sharpe_standard_error": "significance",
    "tail_risk": "risk",
    "trade": "fills",
    "verdict": "risk",
    "walk": "fills",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
