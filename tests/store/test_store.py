import numpy as np
import pandas as pd
import pytest

from mlfin.market.bars import KEY
from mlfin.store.lake import Lake
from mlfin.store.row_history import compare, resolve, select_changes
from mlfin.store.store import VALUES, unfit_reason, with_values

from ..fixtures import store_suite as _suite


class TestLake(_suite.StoreSuite):
    @pytest.fixture
    def reopen(self, tmp_path):
        return lambda: Lake(tmp_path / "lake")

    @pytest.fixture
    def pair(self, store, other):
        "The other store is a lake too: out of it is into it."
        return store, other


def test_compare_is_the_same_by_position_and_by_join(make):
    bars = make("A")
    changed = with_values(bars.assign(close=bars.close.where(bars.index != 3, 1.0)))
    whole = with_values(bars)
    new, revised = compare(whole, changed, KEY, VALUES)
    assert not new.any() and list(np.flatnonzero(revised)) == [3]
    new, revised = compare(whole.iloc[1:], changed, KEY, VALUES)
    assert list(np.flatnonzero(new)) == [0] and list(np.flatnonzero(revised)) == [3]


def test_accept_takes_rows_in_order_and_never_goes_back_in_time(make):
    bars = with_values(make("A", end="2024-01-02"))
    early, late = (pd.Timestamp(t, tz="UTC").as_unit("us") for t in ("2024-02-01", "2999-01-01"))
    latest = bars.assign(recorded_at=late)
    came = pd.concat([bars.assign(close=v, recorded_at=early) for v in (1.0, 2.0, 2.0, 1.0)],
                     ignore_index=True)
    add, counts = select_changes(latest, came, KEY, VALUES)
    assert counts == (0, 6, 2) and (add.recorded_at > late).all() and (add.known_at == add.recorded_at).all()
    assert (resolve(pd.concat([latest, add]), KEY).close == 1.0).all()
    add, counts = select_changes(latest.iloc[:0], came, KEY, VALUES)
    assert counts == (2, 4, 2) and list(add.known_at[:2]) == list(bars.known_at)


def test_unfit_reason_leaves_an_unknown_volume_alone(make):
    bars = make("A", end="2024-01-03").assign(volume=np.nan)
    assert (unfit_reason(bars, pd.Timestamp.now("UTC")) == "").all()
    assert (unfit_reason(bars.assign(low=-np.inf), pd.Timestamp.now("UTC")) != "").all()
