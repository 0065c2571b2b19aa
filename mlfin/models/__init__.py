"""Models: labels with their spans, splits that cannot leak, estimators by name, training against the naive guess."""

from importlib import import_module

_HOME = {
    "Dataset": "dataset",
    "Device": "zoo",
    "Fold": "splits",
    "Label": "labels",
    "Loaded": "registry",
    "Tracked": "training",
    "Trained": "training",
    "Version": "registry",
    "WalkForward": "splits",
    "build_dataset": "dataset",
    "calibration_curve": "evaluation",
    "compute_device": "zoo",
    "compute_labels": "labels",
    "crown": "registry",
    "default_parameters": "zoo",
    "describe_folds": "splits",
    "device_parameters": "zoo",
    "find_version": "registry",
    "folder_hash": "registry",
    "forward_return": "labels",
    "history": "registry",
    "importance": "evaluation",
    "information_coefficient": "evaluation",
    "label_coverage": "labels",
    "load_champion": "registry",
    "load_models": "zoo",
    "load_version": "registry",
    "make_model": "zoo",
    "model": "zoo",
    "model_inputs": "dataset",
    "model_names": "zoo",
    "model_versions": "registry",
    "parse_label": "labels",
    "read_manifest": "registry",
    "register": "registry",
    "registered_name": "registry",
    "rollback": "registry",
    "score_folds": "evaluation",
    "summarise": "evaluation",
    "tag_run": "training",
    "track": "training",
    "train_walk_forward": "training",
    "write_verdict": "registry",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
