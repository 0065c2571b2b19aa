"""Features kept as they were known, and the facts that they read."""

from importlib import import_module

_HOME = {
    "FeatureStore": "feature_store",
    "publish_features": "feature_store",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
