"""A machine-learning finance workbench: the notebook is the source, the test, the job and the report."""

__version__ = "0.1.0"
