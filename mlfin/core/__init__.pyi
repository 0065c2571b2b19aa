# Made by env/stubs from __init__.py; do not edit.
from mlfin.core.errors import BacktestError as BacktestError
from mlfin.core.errors import DataError as DataError
from mlfin.core.errors import MissingExtraError as MissingExtraError
from mlfin.core.errors import MlfinError as MlfinError
from mlfin.core.errors import ModelError as ModelError
from mlfin.core.errors import ParameterError as ParameterError
from mlfin.core.errors import PipelineError as PipelineError
from mlfin.core.errors import SettingsError as SettingsError
from mlfin.core.errors import SpecError as SpecError
from mlfin.core.errors import SplitError as SplitError
from mlfin.core.seals import SealKeys as SealKeys
from mlfin.core.seals import seal_keys as seal_keys
from mlfin.core.settings import Settings as Settings
from mlfin.core.settings import load_settings as load_settings
from mlfin.core.settings import project_root as project_root
from mlfin.core.tasks import begin_task as begin_task
from mlfin.core.trials import Ledger as Ledger
from mlfin.core.trials import open_ledger as open_ledger
from mlfin.core.trials import trial_id as trial_id

__all__ = [
    "BacktestError",
    "DataError",
    "Ledger",
    "MissingExtraError",
    "MlfinError",
    "ModelError",
    "ParameterError",
    "PipelineError",
    "SealKeys",
    "Settings",
    "SettingsError",
    "SpecError",
    "SplitError",
    "begin_task",
    "load_settings",
    "open_ledger",
    "project_root",
    "seal_keys",
    "trial_id",
]
