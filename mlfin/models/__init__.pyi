# Made by env/stubs from __init__.py; do not edit.
from mlfin.models.composed import Calibrated as Calibrated
from mlfin.models.composed import ClassWeighted as ClassWeighted
from mlfin.models.composed import EarlyStopped as EarlyStopped
from mlfin.models.composed import ElasticNetByRow as ElasticNetByRow
from mlfin.models.composed import LinearByRow as LinearByRow
from mlfin.models.composed import LogisticByRow as LogisticByRow
from mlfin.models.composed import MeanEnsemble as MeanEnsemble
from mlfin.models.composed import PersistenceClassifier as PersistenceClassifier
from mlfin.models.composed import PersistenceRegressor as PersistenceRegressor
from mlfin.models.composed import RidgeByRow as RidgeByRow
from mlfin.models.composed import fit_part as fit_part
from mlfin.models.composed import predict_part as predict_part
from mlfin.models.fitting import fit_rows as fit_rows
from mlfin.models.fitting import load_model as load_model
from mlfin.models.fitting import predict_rows as predict_rows
from mlfin.models.fitting import save_model as save_model
from mlfin.models.formats import pack_estimator as pack_estimator
from mlfin.models.formats import unpack_estimator as unpack_estimator
from mlfin.models.recipe import Recipe as Recipe
from mlfin.models.recipe import check_model as check_model
from mlfin.models.sequence import SequenceClassifier as SequenceClassifier
from mlfin.models.sequence import SequenceRegressor as SequenceRegressor
from mlfin.models.sequence import Windows as Windows
from mlfin.models.sequence import load_sequence as load_sequence
from mlfin.models.sequence import row_ages as row_ages
from mlfin.models.sequence import row_spans as row_spans
from mlfin.models.sequence import save_sequence as save_sequence
from mlfin.models.sequence import validation_split as validation_split
from mlfin.models.tracking import Synced as Synced
from mlfin.models.tracking import Tracked as Tracked
from mlfin.models.tracking import folder_hash as folder_hash
from mlfin.models.tracking import sync_pending as sync_pending
from mlfin.models.tracking import tag_run as tag_run
from mlfin.models.tracking import track as track
from mlfin.models.training import Trained as Trained
from mlfin.models.training import cross_train as cross_train
from mlfin.models.tuning import Tuned as Tuned
from mlfin.models.tuning import daily_gains as daily_gains
from mlfin.models.tuning import history_chart as history_chart
from mlfin.models.tuning import parameter_chart as parameter_chart
from mlfin.models.tuning import record_trials as record_trials
from mlfin.models.tuning import tune as tune
from mlfin.models.zoo import Device as Device
from mlfin.models.zoo import TASKS as TASKS
from mlfin.models.zoo import compute_device as compute_device
from mlfin.models.zoo import default_parameters as default_parameters
from mlfin.models.zoo import device_parameters as device_parameters
from mlfin.models.zoo import load_models as load_models
from mlfin.models.zoo import make_model as make_model
from mlfin.models.zoo import model as model
from mlfin.models.zoo import model_names as model_names
from mlfin.models.zoo import suggest as suggest

__all__ = [
    "Calibrated",
    "ClassWeighted",
    "Device",
    "EarlyStopped",
    "ElasticNetByRow",
    "LinearByRow",
    "LogisticByRow",
    "MeanEnsemble",
    "PersistenceClassifier",
    "PersistenceRegressor",
    "Recipe",
    "RidgeByRow",
    "SequenceClassifier",
    "SequenceRegressor",
    "Synced",
    "TASKS",
    "Tracked",
    "Trained",
    "Tuned",
    "Windows",
    "check_model",
    "compute_device",
    "cross_train",
    "daily_gains",
    "default_parameters",
    "device_parameters",
    "fit_part",
    "fit_rows",
    "folder_hash",
    "history_chart",
    "load_model",
    "load_models",
    "load_sequence",
    "make_model",
    "model",
    "model_names",
    "pack_estimator",
    "parameter_chart",
    "predict_part",
    "predict_rows",
    "record_trials",
    "row_ages",
    "row_spans",
    "save_model",
    "save_sequence",
    "suggest",
    "sync_pending",
    "tag_run",
    "track",
    "tune",
    "unpack_estimator",
    "validation_split",
]
