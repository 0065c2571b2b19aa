"""Models: labels with their spans, splits that cannot leak, estimators by name, training against the naive guess."""

from importlib import import_module

_HOME = {
    "Calibrated": "composed",
    "ClassWeighted": "composed",
    "Dataset": "dataset",
    "Device": "zoo",
    "EarlyStopped": "composed",
    "Fold": "splits",
    "Label": "labels",
    "MeanEnsemble": "composed",
    "PersistenceClassifier": "composed",
    "PersistenceRegressor": "composed",
    "SequenceClassifier": "sequence",
    "SequenceRegressor": "sequence",
    "Synced": "tracking",
    "TASKS": "zoo",
    "Tracked": "tracking",
    "Trained": "training",
    "Tuned": "tuning",
    "WalkForward": "splits",
    "Windows": "sequence",
    "build_dataset": "dataset",
    "calibration_curve": "evaluation",
    "compute_device": "zoo",
    "compute_labels": "labels",
    "daily_returns": "tuning",
    "default_parameters": "zoo",
    "describe_folds": "splits",
    "device_parameters": "zoo",
    "fit_part": "composed",
    "fit_rows": "fitting",
    "forward_return": "labels",
    "history_chart": "tuning",
    "importance": "evaluation",
    "information_coefficient": "evaluation",
    "label_coverage": "labels",
    "load_model": "fitting",
    "load_models": "zoo",
    "load_sequence": "sequence",
    "make_model": "zoo",
    "model": "zoo",
    "model_inputs": "dataset",
    "model_names": "zoo",
    "parameter_chart": "tuning",
    "parse_label": "labels",
    "predict_part": "composed",
    "predict_rows": "fitting",
    "row_ages": "sequence",
    "row_spans": "sequence",
    "save_model": "fitting",
    "save_sequence": "sequence",
    "score_folds": "evaluation",
    "suggest": "zoo",
    "summarise": "evaluation",
    "sync_pending": "tracking",
    "tag_run": "tracking",
    "track": "tracking",
    "train_walk_forward": "training",
    "tune": "tuning",
    "validation_split": "sequence",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
