# Made by env/stubs from __init__.py; do not edit.
from mlfin.significance.bootstrap import Intervals as Intervals
from mlfin.significance.bootstrap import SuperiorAbility as SuperiorAbility
from mlfin.significance.bootstrap import block_length as block_length
from mlfin.significance.bootstrap import bootstrap_intervals as bootstrap_intervals
from mlfin.significance.bootstrap import bootstrap_sharpe as bootstrap_sharpe
from mlfin.significance.bootstrap import spa_test as spa_test
from mlfin.significance.clusters import EffectiveTrials as EffectiveTrials
from mlfin.significance.clusters import effective_trials as effective_trials
from mlfin.significance.overfitting import Common as Common
from mlfin.significance.overfitting import Overfitting as Overfitting
from mlfin.significance.overfitting import common_days as common_days
from mlfin.significance.overfitting import probability_of_backtest_overfitting as probability_of_backtest_overfitting
from mlfin.significance.sharpe_ratio import Moments as Moments
from mlfin.significance.sharpe_ratio import annualisation as annualisation
from mlfin.significance.sharpe_ratio import lo_standard_error as lo_standard_error
from mlfin.significance.sharpe_ratio import minimum_track_record_length as minimum_track_record_length
from mlfin.significance.sharpe_ratio import moments as moments
from mlfin.significance.sharpe_ratio import probabilistic_sharpe_ratio as probabilistic_sharpe_ratio
from mlfin.significance.sharpe_ratio import sharpe as sharpe
from mlfin.significance.sharpe_ratio import sharpe_standard_error as sharpe_standard_error
from mlfin.significance.significance import deflated_sharpe_ratio as deflated_sharpe_ratio
from mlfin.significance.significance import expected_best_sharpe as expected_best_sharpe
from mlfin.significance.significance import expected_maximum_sharpe as expected_maximum_sharpe
from mlfin.significance.significance import hedge as hedge

__all__ = [
    "Common",
    "EffectiveTrials",
    "Intervals",
    "Moments",
    "Overfitting",
    "SuperiorAbility",
    "annualisation",
    "block_length",
    "bootstrap_intervals",
    "bootstrap_sharpe",
    "common_days",
    "deflated_sharpe_ratio",
    "effective_trials",
    "expected_best_sharpe",
    "expected_maximum_sharpe",
    "hedge",
    "lo_standard_error",
    "minimum_track_record_length",
    "moments",
    "probabilistic_sharpe_ratio",
    "probability_of_backtest_overfitting",
    "sharpe",
    "sharpe_standard_error",
    "spa_test",
]
