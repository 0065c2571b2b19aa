"""Models: labels with their spans, splits that cannot leak, estimators by name, training against the naive guess."""

from importlib import import_module

_HOME = {
    "Dataset": "dataset",
    "Device": "zoo",
    "Fold": "splits",
    "Label": "labels",
    "Tracked": "training",
    "Trained": "training",
    "WalkForward": "splits",
    "attribute": "attribution",
    "block_bounds": "intervals",
    "build_dataset": "dataset",
    "calibration_curve": "evaluation",
    "compute_device": "zoo",
    "compute_labels": "labels",
    "confusion": "evaluation",
    "default_parameters": "zoo",
    "describe_folds": "splits",
    "describe_verdicts": "evaluation",
    "device_parameters": "zoo",
    "forward_return": "labels",
    "ic_by_regime": "information",
    "ic_by_symbol": "information",
    "ic_by_time": "information",
    "ic_decay": "information",
    "ic_parts": "information",
    "ic_summary": "information",
    "ic_way": "information",
    "importance": "evaluation",
    "information_coefficient": "evaluation",
    "label_coverage": "labels",
    "load_models": "zoo",
    "losses": "evaluation",
    "make_model": "zoo",
    "mean_interval": "intervals",
    "model": "zoo",
    "model_inputs": "dataset",
    "model_names": "zoo",
    "optimal_block": "intervals",
    "overlap_lags": "information",
    "parse_label": "labels",
    "pr_curve": "evaluation",
    "roc_curve": "evaluation",
    "rolling_ic": "information",
    "score_folds": "evaluation",
    "score_intervals": "intervals",
    "summarise": "evaluation",
    "summarise_attribution": "attribution",
    "tag_run": "training",
    "track": "training",
    "train_walk_forward": "training",
    "volatility_regimes": "information",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
