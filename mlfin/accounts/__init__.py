"""Who may use the service: roles, credentials, sessions, limits."""

from importlib import import_module

_HOME = {
    "ANYONE": "roles",
    "AccountStore": "account_store",
    "Accounts": "auth",
    "AuditHead": "audit_log",
    "AuthError": "roles",
    "BadCredentials": "roles",
    "BadToken": "roles",
    "Enrolment": "users",
    "EnrolmentNeeded": "roles",
    "Expired": "roles",
    "Forbidden": "roles",
    "Keys": "keys",
    "LOCAL_ORIGIN": "roles",
    "Limits": "rate_limits",
    "LoginRules": "sessions",
    "Origin": "roles",
    "PasswordChangeNeeded": "roles",
    "Person": "roles",
    "ROLES": "roles",
    "ROUTES": "roles",
    "Revoked": "roles",
    "SecondFactorNeeded": "roles",
    "Throttled": "roles",
    "Tokens": "sessions",
    "Unavailable": "roles",
    "add_user": "users",
    "check_audit": "audit_log",
    "confirm": "users",
    "enrol": "users",
    "first_administrator": "users",
    "is_allowed": "roles",
    "list_keys": "users",
    "list_sessions": "users",
    "list_users": "users",
    "new_key": "users",
    "open_accounts": "auth",
    "open_limits": "rate_limits",
    "read_audit": "audit_log",
    "refuse_public": "auth",
    "require_role": "roles",
    "required_role": "roles",
    "reset_second_factor": "users",
    "revoke_key": "users",
    "revoke_sessions": "users",
    "rotate_keys": "users",
    "set_disabled": "users",
    "set_password": "users",
    "set_role": "users",
    "write_audit_entry": "audit_log",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
