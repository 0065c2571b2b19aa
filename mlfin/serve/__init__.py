"""Serving: who may ask, the contract, the predictor, jobs, the API."""

from importlib import import_module

_HOME = {
    "ANYONE": "roles",
    "AccountStore": "account_store",
    "Accounts": "auth",
    "AuthError": "roles",
    "BadCredentials": "roles",
    "BadToken": "roles",
    "Bar": "contract",
    "Busy": "intake",
    "Enrolment": "users",
    "EnrolmentNeeded": "roles",
    "Expired": "roles",
    "Forbidden": "roles",
    "Head": "account_store",
    "Health": "contract",
    "IngestReply": "contract",
    "IngestRequest": "contract",
    "Intake": "intake",
    "Job": "jobs",
    "Jobs": "jobs",
    "Keys": "keys",
    "Limits": "limits",
    "ModelInfo": "contract",
    "NOWHERE": "roles",
    "Origin": "roles",
    "Page": "contract",
    "PasswordChangeNeeded": "roles",
    "Person": "roles",
    "PredictRequest": "contract",
    "Prediction": "contract",
    "Predictor": "predictor",
    "Problem": "contract",
    "ROLES": "roles",
    "ROUTES": "roles",
    "Recorder": "outcomes",
    "Revoked": "roles",
    "Rules": "auth",
    "SecondFactorNeeded": "roles",
    "Signal": "contract",
    "SingleRow": "single",
    "Stream": "stream",
    "Taken": "intake",
    "Throttled": "roles",
    "Tokens": "auth",
    "TrainRequest": "contract",
    "Unavailable": "roles",
    "add_user": "users",
    "allowed": "roles",
    "check_audit": "account_store",
    "confirm": "users",
    "demand": "roles",
    "enrol": "users",
    "first_administrator": "users",
    "judge_pushed": "intake",
    "least_role": "roles",
    "list_keys": "users",
    "list_sessions": "users",
    "list_users": "users",
    "new_key": "users",
    "open_accounts": "auth",
    "open_limits": "limits",
    "predict": "predictor",
    "pushed_frame": "intake",
    "read_audit": "account_store",
    "record": "account_store",
    "refuse_public": "auth",
    "register_kind": "jobs",
    "reset_second_factor": "users",
    "revoke_key": "users",
    "revoke_sessions": "users",
    "rotate_keys": "users",
    "set_disabled": "users",
    "set_password": "users",
    "set_role": "users",
    "single_row": "single",
    "tally_outcomes": "outcomes",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
