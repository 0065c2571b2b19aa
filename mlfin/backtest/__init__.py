"""Signals, costs, simulation and risk: what a rule would have earned."""

from importlib import import_module

_HOME = {
    "Account": "fills",
    "CostTerms": "fill_prices",
    "Costs": "costs",
    "Market": "market_panel",
    "Null": "random_entry",
    "MarketPanel": "market_panel",
    "PathSharpes": "retraining",
    "Plateau": "sweep",
    "Retrained": "retraining",
    "Scores": "score_panel",
    "Simulation": "simulate",
    "Sweep": "sweep",
    "TearSheet": "tearsheet",
    "TradingRule": "trading_rule",
    "as_costs": "costs",
    "backtest": "simulate",
    "benchmark_relation": "risk",
    "buy_and_hold": "simulate",
    "capacity": "stress",
    "check_paths": "retraining",
    "confidence": "tearsheet",
    "cornish_fisher": "risk",
    "cost_breakeven_bps": "risk",
    "cost_curve": "stress",
    "cost_steps": "tearsheet",
    "cut_market": "market_panel",
    "daily_returns": "simulate",
    "decide": "signals",
    "delay_curve": "stress",
    "describe_trading": "tearsheet",
    "drawdowns": "risk",
    "equity_frame": "simulate",
    "figures_table": "tearsheet",
    "hold_equally": "signals",
    "impact_curve": "stress",
    "key_figures": "risk",
    "lay_out": "score_panel",
    "luck_table": "tearsheet",
    "make_terms": "fill_prices",
    "monthly_returns": "risk",
    "needs": "market_panel",
    "neighbourhood": "tearsheet",
    "path_returns": "tearsheet",
    "path_sharpes": "retraining",
    "positions_from_predictions": "signals",
    "price_panel": "score_panel",
    "random_entry_null": "random_entry",
    "read_market": "market_panel",
    "readable": "tearsheet",
    "regimes": "stress",
    "simulate_retraining": "retraining",
    "return_figures": "risk",
    "risk_table": "tearsheet",
    "rolling_sharpe": "risk",
    "same_days": "risk",
    "schedule": "retraining",
    "simulate_fills": "fills",
    "split_caveats": "tearsheet",
    "tail_risk": "risk",
    "tear_sheet": "tearsheet",
    "tear_sheet_charts": "tearsheet",
    "trade": "fills",
    "trading_parameters": "tearsheet",
    "verdict": "verdicts",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
