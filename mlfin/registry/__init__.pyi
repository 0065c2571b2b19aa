# Made by env/stubs from __init__.py; do not edit.
from mlfin.registry.gate import PromotionResult as PromotionResult
from mlfin.registry.gate import Verdict as Verdict
from mlfin.registry.gate import VersionComparison as VersionComparison
from mlfin.registry.gate import compare_versions as compare_versions
from mlfin.registry.gate import count_trials as count_trials
from mlfin.registry.gate import judge as judge
from mlfin.registry.gate import promote as promote
from mlfin.registry.input_drift import sketch_inputs as sketch_inputs
from mlfin.registry.input_drift import stability_index as stability_index
from mlfin.registry.prediction_checks import BlockTest as BlockTest
from mlfin.registry.prediction_checks import GateCheck as GateCheck
from mlfin.registry.prediction_checks import beats_baseline as beats_baseline
from mlfin.registry.prediction_checks import beats_champion as beats_champion
from mlfin.registry.prediction_checks import block_test as block_test
from mlfin.registry.prediction_checks import is_calibrated as is_calibrated
from mlfin.registry.publish import publish_metrics as publish_metrics
from mlfin.registry.publish import publish_predictions as publish_predictions
from mlfin.registry.registry import Loaded as Loaded
from mlfin.registry.registry import Version as Version
from mlfin.registry.registry import champion_history as champion_history
from mlfin.registry.registry import find_version as find_version
from mlfin.registry.registry import load_champion as load_champion
from mlfin.registry.registry import load_version as load_version
from mlfin.registry.registry import model_versions as model_versions
from mlfin.registry.registry import read_manifest as read_manifest
from mlfin.registry.registry import read_predictions as read_predictions
from mlfin.registry.registry import register as register
from mlfin.registry.registry import registered_experiments as registered_experiments
from mlfin.registry.registry import registered_name as registered_name
from mlfin.registry.registry import rollback as rollback
from mlfin.registry.registry import set_champion as set_champion
from mlfin.registry.registry import write_verdict as write_verdict
from mlfin.registry.sealing import adopt_version as adopt_version
from mlfin.registry.sealing import rotate_seals as rotate_seals
from mlfin.registry.sealing import seal_states as seal_states

__all__ = [
    "BlockTest",
    "GateCheck",
    "Loaded",
    "PromotionResult",
    "Verdict",
    "Version",
    "VersionComparison",
    "adopt_version",
    "beats_baseline",
    "beats_champion",
    "block_test",
    "champion_history",
    "compare_versions",
    "count_trials",
    "find_version",
    "is_calibrated",
    "judge",
    "load_champion",
    "load_version",
    "model_versions",
    "promote",
    "publish_metrics",
    "publish_predictions",
    "read_manifest",
    "read_predictions",
    "register",
    "registered_experiments",
    "registered_name",
    "rollback",
    "rotate_seals",
    "seal_states",
    "set_champion",
    "sketch_inputs",
    "stability_index",
    "write_verdict",
]
