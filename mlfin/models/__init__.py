"""Models: labels with their spans, splits that cannot leak, estimators by name, training against the naive guess."""

from importlib import import_module

_HOME = {
    "Comparison": "comparison",
    "Dataset": "dataset",
    "Device": "zoo",
    "Fold": "splits",
    "Label": "labels",
    "Tracked": "training",
    "Trained": "training",
    "WalkForward": "splits",
    "build_dataset": "dataset",
    "calibration_curve": "evaluation",
    "compare_models": "comparison",
    "compute_device": "zoo",
    "compute_labels": "labels",
    "default_parameters": "zoo",
    "describe_folds": "splits",
    "device_parameters": "zoo",
    "forward_return": "labels",
    "importance": "evaluation",
    "information_coefficient": "evaluation",
    "label_coverage": "labels",
    "load_models": "zoo",
    "make_model": "zoo",
    "model": "zoo",
    "model_inputs": "dataset",
    "model_names": "zoo",
    "parse_label": "labels",
    "score_folds": "evaluation",
    "summarise": "evaluation",
    "tag_run": "training",
    "track": "training",
    "train_walk_forward": "training",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
