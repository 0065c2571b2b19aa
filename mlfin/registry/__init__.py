"""Versions of models, the promotion gate, and the champion that serves."""

from importlib import import_module

_HOME = {
    "BlockTest": "prediction_checks",
    "GateCheck": "prediction_checks",
    "Loaded": "registry",
    "PromotionResult": "gate",
    "Verdict": "gate",
    "Version": "registry",
    "VersionComparison": "gate",
    "adopt_version": "sealing",
    "beats_baseline": "prediction_checks",
    "beats_champion": "prediction_checks",
    "block_test": "prediction_checks",
    "champion_history": "registry",
    "compare_versions": "gate",
    "count_trials": "gate",
    "find_version": "registry",
    "is_calibrated": "prediction_checks",
    "judge": "gate",
    "load_champion": "registry",
    "load_version": "registry",
    "model_versions": "registry",
    "promote": "gate",
    "publish_metrics": "publish",
    "publish_predictions": "publish",
    "read_manifest": "registry",
    "read_predictions": "registry",
    "register": "registry",
    "registered_experiments": "registry",
    "registered_name": "registry",
    "rollback": "registry",
    "rotate_seals": "sealing",
    "seal_states": "sealing",
    "set_champion": "registry",
    "sketch_inputs": "input_drift",
    "stability_index": "input_drift",
    "write_verdict": "registry",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
