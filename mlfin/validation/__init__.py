"""Splits that cannot leak, and scores out of sample with their intervals."""

from importlib import import_module

_HOME = {
    "CombinatorialPurged": "splits",
    "Fold": "splits",
    "Folds": "folds",
    "ModelComparison": "comparison",
    "PurgedKFold": "splits",
    "WalkForward": "splits",
    "attribute": "attribution",
    "backtest_paths": "splits",
    "block_bounds": "intervals",
    "calibration_curve": "curves",
    "check_folds": "folds",
    "compare_models": "comparison",
    "confusion": "curves",
    "describe_folds": "splits",
    "describe_verdicts": "evaluation",
    "fold_ic": "curves",
    "fold_pieces": "splits",
    "ic_axis": "information",
    "ic_by_fold": "information",
    "ic_by_regime": "information",
    "ic_by_symbol": "information",
    "ic_by_time": "information",
    "ic_decay": "information",
    "ic_summary": "information",
    "ic_sums": "information",
    "importance": "attribution",
    "losses": "evaluation",
    "mean_interval": "intervals",
    "optimal_block": "intervals",
    "overlap_lags": "information",
    "path_rows": "splits",
    "pr_curve": "curves",
    "roc_curve": "curves",
    "rolling_ic": "information",
    "score_folds": "evaluation",
    "score_intervals": "intervals",
    "separate_paths": "predictions",
    "show_scores": "comparison",
    "summarise": "evaluation",
    "summarise_attribution": "attribution",
    "volatility_regimes": "information",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
