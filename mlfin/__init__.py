"""A machine-learning finance workbench: the notebook is the source, the test, the job and the report."""

__version__ = "0.1.0"


def __getattr__(name):
    if name != "predict":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module
    return import_module("mlfin.predict")  # a room that may be called: `mlfin.predict("AAPL")`
