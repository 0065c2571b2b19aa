"""Estimators: the zoo, training, tuning and tracking."""

from importlib import import_module

_HOME = {
    "Calibrated": "composed",
    "ClassWeighted": "composed",
    "Device": "zoo",
    "EarlyStopped": "composed",
    "ElasticNetByRow": "composed",
    "LinearByRow": "composed",
    "LogisticByRow": "composed",
    "MeanEnsemble": "composed",
    "PersistenceClassifier": "composed",
    "PersistenceRegressor": "composed",
    "Recipe": "recipe",
    "RidgeByRow": "composed",
    "SequenceClassifier": "sequence",
    "SequenceRegressor": "sequence",
    "Synced": "tracking",
    "TASKS": "zoo",
    "Tracked": "tracking",
    "Trained": "training",
    "Tuned": "tuning",
    "Windows": "sequence",
    "check_model": "recipe",
    "compute_device": "zoo",
    "cross_train": "training",
    "daily_gains": "tuning",
    "default_parameters": "zoo",
    "device_parameters": "zoo",
    "fit_part": "composed",
    "fit_rows": "fitting",
    "folder_hash": "tracking",
    "history_chart": "tuning",
    "load_model": "fitting",
    "load_models": "zoo",
    "load_sequence": "sequence",
    "make_model": "zoo",
    "model": "zoo",
    "model_names": "zoo",
    "pack_estimator": "formats",
    "parameter_chart": "tuning",
    "predict_part": "composed",
    "predict_rows": "fitting",
    "record_trials": "tuning",
    "row_ages": "sequence",
    "row_spans": "sequence",
    "save_model": "fitting",
    "save_sequence": "sequence",
    "suggest": "zoo",
    "sync_pending": "tracking",
    "tag_run": "tracking",
    "track": "tracking",
    "tune": "tuning",
    "unpack_estimator": "formats",
    "validation_split": "sequence",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
