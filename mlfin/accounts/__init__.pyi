# Made by env/stubs from __init__.py; do not edit.
from mlfin.accounts.account_store import AccountStore as AccountStore
from mlfin.accounts.audit_log import AuditHead as AuditHead
from mlfin.accounts.audit_log import check_audit as check_audit
from mlfin.accounts.audit_log import read_audit as read_audit
from mlfin.accounts.audit_log import write_audit_entry as write_audit_entry
from mlfin.accounts.auth import Accounts as Accounts
from mlfin.accounts.auth import open_accounts as open_accounts
from mlfin.accounts.auth import refuse_public as refuse_public
from mlfin.accounts.keys import Keys as Keys
from mlfin.accounts.rate_limits import Limits as Limits
from mlfin.accounts.rate_limits import open_limits as open_limits
from mlfin.accounts.roles import ANYONE as ANYONE
from mlfin.accounts.roles import AuthError as AuthError
from mlfin.accounts.roles import BadCredentials as BadCredentials
from mlfin.accounts.roles import BadToken as BadToken
from mlfin.accounts.roles import EnrolmentNeeded as EnrolmentNeeded
from mlfin.accounts.roles import Expired as Expired
from mlfin.accounts.roles import Forbidden as Forbidden
from mlfin.accounts.roles import LOCAL_ORIGIN as LOCAL_ORIGIN
from mlfin.accounts.roles import Origin as Origin
from mlfin.accounts.roles import PasswordChangeNeeded as PasswordChangeNeeded
from mlfin.accounts.roles import Person as Person
from mlfin.accounts.roles import ROLES as ROLES
from mlfin.accounts.roles import ROUTES as ROUTES
from mlfin.accounts.roles import Revoked as Revoked
from mlfin.accounts.roles import SecondFactorNeeded as SecondFactorNeeded
from mlfin.accounts.roles import Throttled as Throttled
from mlfin.accounts.roles import Unavailable as Unavailable
from mlfin.accounts.roles import is_allowed as is_allowed
from mlfin.accounts.roles import require_role as require_role
from mlfin.accounts.roles import required_role as required_role
from mlfin.accounts.sessions import LoginRules as LoginRules
from mlfin.accounts.sessions import Tokens as Tokens
from mlfin.accounts.users import Enrolment as Enrolment
from mlfin.accounts.users import add_user as add_user
from mlfin.accounts.users import confirm as confirm
from mlfin.accounts.users import enrol as enrol
from mlfin.accounts.users import first_administrator as first_administrator
from mlfin.accounts.users import list_keys as list_keys
from mlfin.accounts.users import list_sessions as list_sessions
from mlfin.accounts.users import list_users as list_users
from mlfin.accounts.users import new_key as new_key
from mlfin.accounts.users import reset_second_factor as reset_second_factor
from mlfin.accounts.users import revoke_key as revoke_key
from mlfin.accounts.users import revoke_sessions as revoke_sessions
from mlfin.accounts.users import rotate_keys as rotate_keys
from mlfin.accounts.users import set_disabled as set_disabled
from mlfin.accounts.users import set_password as set_password
from mlfin.accounts.users import set_role as set_role

__all__ = [
    "ANYONE",
    "AccountStore",
    "Accounts",
    "AuditHead",
    "AuthError",
    "BadCredentials",
    "BadToken",
    "Enrolment",
    "EnrolmentNeeded",
    "Expired",
    "Forbidden",
    "Keys",
    "LOCAL_ORIGIN",
    "Limits",
    "LoginRules",
    "Origin",
    "PasswordChangeNeeded",
    "Person",
    "ROLES",
    "ROUTES",
    "Revoked",
    "SecondFactorNeeded",
    "Throttled",
    "Tokens",
    "Unavailable",
    "add_user",
    "check_audit",
    "confirm",
    "enrol",
    "first_administrator",
    "is_allowed",
    "list_keys",
    "list_sessions",
    "list_users",
    "new_key",
    "open_accounts",
    "open_limits",
    "read_audit",
    "refuse_public",
    "require_role",
    "required_role",
    "reset_second_factor",
    "revoke_key",
    "revoke_sessions",
    "rotate_keys",
    "set_disabled",
    "set_password",
    "set_role",
    "write_audit_entry",
]
