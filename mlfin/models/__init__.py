"""Models: labels with their spans, splits that cannot leak, estimators by name, training against the naive guess."""

from importlib import import_module

_HOME = {
    "CombinatorialPurged": "splits",
    "Dataset": "dataset",
    "Device": "zoo",
    "Fold": "splits",
    "Folds": "splits",
    "LABEL_KINDS": "labels",
    "LIKE_LABEL": "dataset",
    "Label": "labels",
    "PurgedKFold": "splits",
    "Tracked": "training",
    "Trained": "training",
    "WEIGHTS": "weights",
    "WalkForward": "splits",
    "average_uniqueness": "weights",
    "backtest_paths": "splits",
    "bar_volatility": "labels",
    "build_dataset": "dataset",
    "calibration_curve": "evaluation",
    "check_folds": "splits",
    "compute_device": "zoo",
    "compute_labels": "labels",
    "content_hash": "dataset",
    "default_parameters": "zoo",
    "demeaned_return": "labels",
    "describe_folds": "splits",
    "device_parameters": "zoo",
    "fold_pieces": "splits",
    "forward_return": "labels",
    "importance": "evaluation",
    "information_coefficient": "evaluation",
    "is_label": "labels",
    "label_coverage": "labels",
    "label_of": "labels",
    "load_models": "zoo",
    "make_model": "zoo",
    "meta_labels": "labels",
    "model": "zoo",
    "model_inputs": "dataset",
    "model_names": "zoo",
    "parse_label": "labels",
    "path_rows": "splits",
    "quantile_class": "labels",
    "return_attribution": "weights",
    "sample_weights": "weights",
    "score_folds": "evaluation",
    "summarise": "evaluation",
    "tag_run": "training",
    "time_decay": "weights",
    "track": "training",
    "train_walk_forward": "training",
    "triple_barrier": "labels",
    "uniqueness": "weights",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
