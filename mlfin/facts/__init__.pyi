# Made by env/stubs from __init__.py; do not edit.
from mlfin.facts.fact_sources import FactReadResult as FactReadResult
from mlfin.facts.fact_sources import FactUpdate as FactUpdate
from mlfin.facts.fact_sources import fact_summary as fact_summary
from mlfin.facts.fact_sources import read_facts as read_facts
from mlfin.facts.fact_sources import register_facts as register_facts
from mlfin.facts.fact_sources import store_facts as store_facts
from mlfin.facts.facts import as_facts as as_facts
from mlfin.facts.facts import as_known as as_known
from mlfin.facts.facts import asof_join as asof_join
from mlfin.facts.facts import check_facts as check_facts
from mlfin.facts.facts import known_facts as known_facts
from mlfin.facts.facts import split_facts as split_facts

__all__ = [
    "FactReadResult",
    "FactUpdate",
    "as_facts",
    "as_known",
    "asof_join",
    "check_facts",
    "fact_summary",
    "known_facts",
    "read_facts",
    "register_facts",
    "split_facts",
    "store_facts",
]
