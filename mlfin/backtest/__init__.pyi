# Made by env/stubs from __init__.py; do not edit.
from mlfin.backtest.costs import Costs as Costs
from mlfin.backtest.costs import as_costs as as_costs
from mlfin.backtest.fill_prices import CostTerms as CostTerms
from mlfin.backtest.fill_prices import make_terms as make_terms
from mlfin.backtest.fills import Account as Account
from mlfin.backtest.fills import simulate_fills as simulate_fills
from mlfin.backtest.fills import trade as trade
from mlfin.backtest.market_panel import Market as Market
from mlfin.backtest.market_panel import MarketPanel as MarketPanel
from mlfin.backtest.market_panel import cut_market as cut_market
from mlfin.backtest.market_panel import needs as needs
from mlfin.backtest.market_panel import read_market as read_market
from mlfin.backtest.random_entry import Null as Null
from mlfin.backtest.random_entry import random_entry_null as random_entry_null
from mlfin.backtest.retraining import PathSharpes as PathSharpes
from mlfin.backtest.retraining import Retrained as Retrained
from mlfin.backtest.retraining import check_paths as check_paths
from mlfin.backtest.retraining import path_sharpes as path_sharpes
from mlfin.backtest.retraining import schedule as schedule
from mlfin.backtest.retraining import simulate_retraining as simulate_retraining
from mlfin.backtest.risk import benchmark_relation as benchmark_relation
from mlfin.backtest.risk import cornish_fisher as cornish_fisher
from mlfin.backtest.risk import cost_breakeven_bps as cost_breakeven_bps
from mlfin.backtest.risk import drawdowns as drawdowns
from mlfin.backtest.risk import key_figures as key_figures
from mlfin.backtest.risk import monthly_returns as monthly_returns
from mlfin.backtest.risk import return_figures as return_figures
from mlfin.backtest.risk import rolling_sharpe as rolling_sharpe
from mlfin.backtest.risk import same_days as same_days
from mlfin.backtest.risk import tail_risk as tail_risk
from mlfin.backtest.score_panel import Scores as Scores
from mlfin.backtest.score_panel import lay_out as lay_out
from mlfin.backtest.score_panel import price_panel as price_panel
from mlfin.backtest.signals import decide as decide
from mlfin.backtest.signals import hold_equally as hold_equally
from mlfin.backtest.signals import positions_from_predictions as positions_from_predictions
from mlfin.backtest.simulate import Simulation as Simulation
from mlfin.backtest.simulate import backtest as backtest
from mlfin.backtest.simulate import buy_and_hold as buy_and_hold
from mlfin.backtest.simulate import daily_returns as daily_returns
from mlfin.backtest.simulate import equity_frame as equity_frame
from mlfin.backtest.stress import capacity as capacity
from mlfin.backtest.stress import cost_curve as cost_curve
from mlfin.backtest.stress import delay_curve as delay_curve
from mlfin.backtest.stress import impact_curve as impact_curve
from mlfin.backtest.stress import regimes as regimes
from mlfin.backtest.sweep import Plateau as Plateau
from mlfin.backtest.sweep import Sweep as Sweep
from mlfin.backtest.tearsheet import TearSheet as TearSheet
from mlfin.backtest.tearsheet import confidence as confidence
from mlfin.backtest.tearsheet import cost_steps as cost_steps
from mlfin.backtest.tearsheet import describe_trading as describe_trading
from mlfin.backtest.tearsheet import figures_table as figures_table
from mlfin.backtest.tearsheet import luck_table as luck_table
from mlfin.backtest.tearsheet import neighbourhood as neighbourhood
from mlfin.backtest.tearsheet import path_returns as path_returns
from mlfin.backtest.tearsheet import readable as readable
from mlfin.backtest.tearsheet import risk_table as risk_table
from mlfin.backtest.tearsheet import split_caveats as split_caveats
from mlfin.backtest.tearsheet import tear_sheet as tear_sheet
from mlfin.backtest.tearsheet import tear_sheet_charts as tear_sheet_charts
from mlfin.backtest.tearsheet import trading_parameters as trading_parameters
from mlfin.backtest.trading_rule import TradingRule as TradingRule
from mlfin.backtest.verdicts import verdict as verdict

__all__ = [
    "Account",
    "CostTerms",
    "Costs",
    "Market",
    "MarketPanel",
    "Null",
    "PathSharpes",
    "Plateau",
    "Retrained",
    "Scores",
    "Simulation",
    "Sweep",
    "TearSheet",
    "TradingRule",
    "as_costs",
    "backtest",
    "benchmark_relation",
    "buy_and_hold",
    "capacity",
    "check_paths",
    "confidence",
    "cornish_fisher",
    "cost_breakeven_bps",
    "cost_curve",
    "cost_steps",
    "cut_market",
    "daily_returns",
    "decide",
    "delay_curve",
    "describe_trading",
    "drawdowns",
    "equity_frame",
    "figures_table",
    "hold_equally",
    "impact_curve",
    "key_figures",
    "lay_out",
    "luck_table",
    "make_terms",
    "monthly_returns",
    "needs",
    "neighbourhood",
    "path_returns",
    "path_sharpes",
    "positions_from_predictions",
    "price_panel",
    "random_entry_null",
    "read_market",
    "readable",
    "regimes",
    "return_figures",
    "risk_table",
    "rolling_sharpe",
    "same_days",
    "schedule",
    "simulate_fills",
    "simulate_retraining",
    "split_caveats",
    "tail_risk",
    "tear_sheet",
    "tear_sheet_charts",
    "trade",
    "trading_parameters",
    "verdict",
]
