"""A machine-learning finance workbench: the notebook is the source, the test, the job and the report."""

__version__ = "0.1.0"


def predict(symbols=None, *, experiment="default", profile=None):
    "What an experiment's champion says of the newest closed bar of each symbol; see `mlfin.serve.predictor.predict`."
    from mlfin.serve.predictor import predict as say
    return say(symbols, experiment=experiment, profile=profile)
