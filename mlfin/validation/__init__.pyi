# Made by env/stubs from __init__.py; do not edit.
from mlfin.validation.attribution import attribute as attribute
from mlfin.validation.attribution import importance as importance
from mlfin.validation.attribution import summarise_attribution as summarise_attribution
from mlfin.validation.comparison import ModelComparison as ModelComparison
from mlfin.validation.comparison import compare_models as compare_models
from mlfin.validation.comparison import show_scores as show_scores
from mlfin.validation.curves import calibration_curve as calibration_curve
from mlfin.validation.curves import confusion as confusion
from mlfin.validation.curves import fold_ic as fold_ic
from mlfin.validation.curves import pr_curve as pr_curve
from mlfin.validation.curves import roc_curve as roc_curve
from mlfin.validation.evaluation import describe_verdicts as describe_verdicts
from mlfin.validation.evaluation import losses as losses
from mlfin.validation.evaluation import score_folds as score_folds
from mlfin.validation.evaluation import summarise as summarise
from mlfin.validation.folds import Folds as Folds
from mlfin.validation.folds import check_folds as check_folds
from mlfin.validation.information import ic_axis as ic_axis
from mlfin.validation.information import ic_by_fold as ic_by_fold
from mlfin.validation.information import ic_by_regime as ic_by_regime
from mlfin.validation.information import ic_by_symbol as ic_by_symbol
from mlfin.validation.information import ic_by_time as ic_by_time
from mlfin.validation.information import ic_decay as ic_decay
from mlfin.validation.information import ic_summary as ic_summary
from mlfin.validation.information import ic_sums as ic_sums
from mlfin.validation.information import overlap_lags as overlap_lags
from mlfin.validation.information import rolling_ic as rolling_ic
from mlfin.validation.information import volatility_regimes as volatility_regimes
from mlfin.validation.intervals import block_bounds as block_bounds
from mlfin.validation.intervals import mean_interval as mean_interval
from mlfin.validation.intervals import optimal_block as optimal_block
from mlfin.validation.intervals import score_intervals as score_intervals
from mlfin.validation.predictions import separate_paths as separate_paths
from mlfin.validation.splits import CombinatorialPurged as CombinatorialPurged
from mlfin.validation.splits import Fold as Fold
from mlfin.validation.splits import PurgedKFold as PurgedKFold
from mlfin.validation.splits import WalkForward as WalkForward
from mlfin.validation.splits import backtest_paths as backtest_paths
from mlfin.validation.splits import describe_folds as describe_folds
from mlfin.validation.splits import fold_pieces as fold_pieces
from mlfin.validation.splits import path_rows as path_rows

__all__ = [
    "CombinatorialPurged",
    "Fold",
    "Folds",
    "ModelComparison",
    "PurgedKFold",
    "WalkForward",
    "attribute",
    "backtest_paths",
    "block_bounds",
    "calibration_curve",
    "check_folds",
    "compare_models",
    "confusion",
    "describe_folds",
    "describe_verdicts",
    "fold_ic",
    "fold_pieces",
    "ic_axis",
    "ic_by_fold",
    "ic_by_regime",
    "ic_by_symbol",
    "ic_by_time",
    "ic_decay",
    "ic_summary",
    "ic_sums",
    "importance",
    "losses",
    "mean_interval",
    "optimal_block",
    "overlap_lags",
    "path_rows",
    "pr_curve",
    "roc_curve",
    "rolling_ic",
    "score_folds",
    "score_intervals",
    "separate_paths",
    "show_scores",
    "summarise",
    "summarise_attribution",
    "volatility_regimes",
]
