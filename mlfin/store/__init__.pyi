# Made by env/stubs from __init__.py; do not edit.
from mlfin.store.cache import Cache as Cache
from mlfin.store.cache import RedisCache as RedisCache
from mlfin.store.cache import open_cache as open_cache
from mlfin.store.lake import Lake as Lake
from mlfin.store.lake import flushing as flushing
from mlfin.store.latest import latest_bars as latest_bars
from mlfin.store.records import as_feature_rows as as_feature_rows
from mlfin.store.records import as_metrics as as_metrics
from mlfin.store.records import as_predictions as as_predictions
from mlfin.store.records import is_label_name as is_label_name
from mlfin.store.store import Store as Store
from mlfin.store.store import WriteResult as WriteResult

__all__ = [
    "Cache",
    "Lake",
    "RedisCache",
    "Store",
    "WriteResult",
    "as_feature_rows",
    "as_metrics",
    "as_predictions",
    "flushing",
    "is_label_name",
    "latest_bars",
    "open_cache",
]
