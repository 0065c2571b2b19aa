"""A machine-learning finance workbench: the notebook is the source, the test, the job and the report."""

__version__ = "0.1.0"
# imported when first asked for, so that `import mlfin` stays quick
_HOME = {"predict_latest": "mlfin.predict.predictor"}


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module
    return getattr(import_module(_HOME[name]), name)


def __dir__():
    return sorted([*globals(), *_HOME])
