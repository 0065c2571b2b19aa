# Made by env/stubs from __init__.py; do not edit.
from mlfin.predict.predictor import predict_latest as predict_latest

__version__: str
