# Made by env/stubs from __init__.py; do not edit.
from mlfin.datasets.builder import build_dataset as build_dataset
from mlfin.datasets.dataset import Dataset as Dataset
from mlfin.datasets.dataset import content_hash as content_hash
from mlfin.datasets.inputs import model_inputs as model_inputs
from mlfin.datasets.label_names import LABEL_KINDS as LABEL_KINDS
from mlfin.datasets.label_names import Label as Label
from mlfin.datasets.label_names import is_label as is_label
from mlfin.datasets.label_names import label_of as label_of
from mlfin.datasets.label_names import parse_label as parse_label
from mlfin.datasets.labels import bar_volatility as bar_volatility
from mlfin.datasets.labels import compute_labels as compute_labels
from mlfin.datasets.labels import demeaned_return as demeaned_return
from mlfin.datasets.labels import forward_return as forward_return
from mlfin.datasets.labels import label_coverage as label_coverage
from mlfin.datasets.labels import meta_labels as meta_labels
from mlfin.datasets.labels import quantile_class as quantile_class
from mlfin.datasets.labels import triple_barrier as triple_barrier
from mlfin.datasets.leak_checks import LIKE_LABEL as LIKE_LABEL
from mlfin.datasets.weights import WEIGHTS as WEIGHTS
from mlfin.datasets.weights import average_uniqueness as average_uniqueness
from mlfin.datasets.weights import return_attribution as return_attribution
from mlfin.datasets.weights import sample_weights as sample_weights
from mlfin.datasets.weights import time_decay as time_decay
from mlfin.datasets.weights import uniqueness as uniqueness

__all__ = [
    "Dataset",
    "LABEL_KINDS",
    "LIKE_LABEL",
    "Label",
    "WEIGHTS",
    "average_uniqueness",
    "bar_volatility",
    "build_dataset",
    "compute_labels",
    "content_hash",
    "demeaned_return",
    "forward_return",
    "is_label",
    "label_coverage",
    "label_of",
    "meta_labels",
    "model_inputs",
    "parse_label",
    "quantile_class",
    "return_attribution",
    "sample_weights",
    "time_decay",
    "triple_barrier",
    "uniqueness",
]
