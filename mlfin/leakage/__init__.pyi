# Made by env/stubs from __init__.py; do not edit.
from mlfin.leakage.audit import FeatureAudit as FeatureAudit
from mlfin.leakage.audit import audit_features as audit_features
from mlfin.leakage.audit import audit_function as audit_function
from mlfin.leakage.cuts import check_cuts as check_cuts
from mlfin.leakage.lookahead import assert_no_lookahead as assert_no_lookahead
from mlfin.leakage.lookahead import check_features as check_features

__all__ = [
    "FeatureAudit",
    "assert_no_lookahead",
    "audit_features",
    "audit_function",
    "check_cuts",
    "check_features",
]
