"""From predictions to positions, money, significance and risk: what a model would have earned, and how likely that is luck."""

from importlib import import_module

_HOME = {
    "Books": "fills",
    "Common": "overfitting",
    "Costs": "costs",
    "EffectiveTrials": "clusters",
    "Intervals": "bootstrap",
    "Market": "fills",
    "Moments": "significance",
    "Null": "null",
    "Overfitting": "overfitting",
    "Panel": "fills",
    "Plateau": "sweep",
    "Scores": "signals",
    "Simulation": "simulate",
    "SuperiorAbility": "bootstrap",
    "Sweep": "sweep",
    "Terms": "fills",
    "TradingRule": "signals",
    "annualisation": "significance",
    "as_costs": "costs",
    "backtest": "simulate",
    "benchmark_relation": "risk",
    "block_length": "bootstrap",
    "bootstrap_intervals": "bootstrap",
    "bootstrap_sharpe": "bootstrap",
    "buy_and_hold": "simulate",
    "capacity": "stress",
    "common_days": "overfitting",
    "cornish_fisher": "risk",
    "cost_breakeven_bps": "risk",
    "cost_curve": "stress",
    "cut_market": "fills",
    "daily_returns": "simulate",
    "decide": "signals",
    "deflated_sharpe_ratio": "significance",
    "delay_curve": "stress",
    "drawdowns": "risk",
    "effective_trials": "clusters",
    "equity_frame": "simulate",
    "expected_best_sharpe": "significance",
    "expected_maximum_sharpe": "significance",
    "hedge": "significance",
    "hold_equally": "signals",
    "impact_curve": "stress",
    "key_figures": "risk",
    "lay_out": "signals",
    "lo_standard_error": "significance",
    "make_terms": "fills",
    "minimum_track_record_length": "significance",
    "moments": "significance",
    "monthly_returns": "risk",
    "needs": "fills",
    "positions_from_predictions": "signals",
    "price_panel": "signals",
    "probabilistic_sharpe_ratio": "significance",
    "probability_of_backtest_overfitting": "overfitting",
    "random_entry_null": "null",
    "read_market": "fills",
    "regimes": "stress",
    "return_figures": "risk",
    "rolling_sharpe": "risk",
    "same_days": "risk",
    "sharpe": "significance",
    "sharpe_standard_error": "significance",
    "spa_test": "bootstrap",
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
