"""Labels with their spans, sample weights, and datasets aligned from both and features."""

from importlib import import_module

_HOME = {
    "Dataset": "dataset",
    "LABEL_KINDS": "label_names",
    "LIKE_LABEL": "leak_checks",
    "Label": "label_names",
    "WEIGHTS": "weights",
    "average_uniqueness": "weights",
    "bar_volatility": "labels",
    "build_dataset": "builder",
    "compute_labels": "labels",
    "content_hash": "dataset",
    "demeaned_return": "labels",
    "forward_return": "labels",
    "is_label": "label_names",
    "label_coverage": "labels",
    "label_of": "label_names",
    "meta_labels": "labels",
    "model_inputs": "inputs",
    "parse_label": "label_names",
    "quantile_class": "labels",
    "return_attribution": "weights",
    "sample_weights": "weights",
    "time_decay": "weights",
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
