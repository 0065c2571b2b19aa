# Made by env/stubs from __init__.py; do not edit.
from mlfin.feature_store.feature_store import FeatureStore as FeatureStore
from mlfin.feature_store.feature_store import publish_features as publish_features

__all__ = [
    "FeatureStore",
    "publish_features",
]
