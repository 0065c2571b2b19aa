"""Models: labels with their spans, splits that cannot leak, estimators by name, training against the naive guess."""

from importlib import import_module

_HOME = {
    "Calibrated": "composed",
    "ClassWeighted": "composed",
    "CombinatorialPurged": "splits",
    "Dataset": "dataset",
    "Device": "zoo",
    "EarlyStopped": "composed",
    "Fold": "splits",
    "Folds": "splits",
    "LABEL_KINDS": "labels",
    "LIKE_LABEL": "dataset",
    "Label": "labels",
    "MeanEnsemble": "composed",
    "PersistenceClassifier": "composed",
    "PersistenceRegressor": "composed",
    "PurgedKFold": "splits",
    "SequenceClassifier": "sequence",
    "SequenceRegressor": "sequence",
    "TASKS": "zoo",
    "Tracked": "training",
    "Trained": "training",
    "WEIGHTS": "weights",
    "WalkForward": "splits",
    "Windows": "sequence",
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
    "fit_part": "composed",
    "fit_rows": "fitting",
    "fold_pieces": "splits",
    "forward_return": "labels",
    "importance": "evaluation",
    "information_coefficient": "evaluation",
    "is_label": "labels",
    "label_coverage": "labels",
    "label_of": "labels",
    "load_model": "fitting",
    "load_models": "zoo",
    "load_sequence": "sequence",
    "make_model": "zoo",
    "meta_labels": "labels",
    "model": "zoo",
    "model_inputs": "dataset",
    "model_names": "zoo",
    "parse_label": "labels",
    "path_rows": "splits",
    "predict_part": "composed",
    "predict_rows": "fitting",
    "quantile_class": "labels",
    "return_attribution": "weights",
    "row_ages": "sequence",
    "row_spans": "sequence",
    "sample_weights": "weights",
    "save_model": "fitting",
    "save_sequence": "sequence",
    "score_folds": "evaluation",
    "suggest": "zoo",
    "summarise": "evaluation",
    "tag_run": "training",
    "time_decay": "weights",
    "track": "training",
    "train_walk_forward": "training",
    "triple_barrier": "labels",
    "uniqueness": "weights",
    "validation_split": "sequence",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
