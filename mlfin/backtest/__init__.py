"""From predictions to positions, money, significance and risk: what a model would have earned, and how likely that is luck."""

from importlib import import_module

_HOME = {
    "Books": "fills",
    "Costs": "costs",
    "Market": "fills",
    "Moments": "significance",
    "Overfitting": "significance",
    "Panel": "fills",
    "PathSharpes": "retraining",
    "Plateau": "sweep",
    "Retrained": "retraining",
    "Scores": "signals",
    "Simulation": "simulate",
    "Sweep": "sweep",
    "Terms": "fills",
    "TradingRule": "signals",
    "as_costs": "costs",
    "backtest": "simulate",
    "bootstrap_sharpe": "significance",
    "buy_and_hold": "simulate",
    "check_paths": "retraining",
    "cost_breakeven_bps": "risk",
    "cut_market": "fills",
    "daily_returns": "simulate",
    "decide": "signals",
    "deflated_sharpe_ratio": "significance",
    "drawdowns": "risk",
    "equity_frame": "simulate",
    "expected_maximum_sharpe": "significance",
    "hedge": "significance",
    "hold_equally": "signals",
    "key_figures": "risk",
    "lay_out": "signals",
    "make_terms": "fills",
    "minimum_track_record_length": "significance",
    "moments": "significance",
    "monthly_returns": "risk",
    "needs": "fills",
    "path_sharpes": "retraining",
    "positions_from_predictions": "signals",
    "price_panel": "signals",
    "probabilistic_sharpe_ratio": "significance",
    "probability_of_backtest_overfitting": "significance",
    "read_market": "fills",
    "retrain": "retraining",
    "return_figures": "risk",
    "schedule": "retraining",
    "sharpe": "significance",
    "sharpe_standard_error": "significance",
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
