"""What is tested a few symbols at a time is tested as before: the same cuts, counts and faults."""

import numpy as np
import pandas as pd
import pytest

from mlfin.features.bar_keys import symbol_blocks
from mlfin.features.spec import parse_set
from mlfin.features.table import compute_features
from mlfin.leakage import audit
from mlfin.leakage.cuts import cut_series

SPECS = parse_set(["rsi_14", "macd_12_26_9", "ema_50", "obv"])


@pytest.fixture
def panel(make_bars):
    """Nine symbols of different lengths."""
    return pd.concat([make_bars(f"S{i}", 120 + 17 * i, i) for i in range(9)], ignore_index=True)


@pytest.mark.parametrize("rows", [1, 400])
def test_cuts_of_blocks(panel, rows):
    table = compute_features(panel, SPECS)
    assert cut_series(SPECS, panel, table, 5, rows) == cut_series(SPECS, panel, table, 5)
    table.loc[[130, 900], "rsi_14"] += 1  # of the second and of a later symbol: the first is told
    apart, whole = cut_series(SPECS, panel, table, 5, rows), cut_series(SPECS, panel, table, 5)
    assert [f.says for f in apart.findings] == [f.says for f in whole.findings]
    assert apart[1:] == whole[1:]


def test_the_first_of_unstable_values_is_told(panel, monkeypatch):
    table = compute_features(panel, SPECS)
    assert audit.table_faults(SPECS, panel, table, {}) == []
    table.loc[[300, 900], "obv"] += 1
    whole = audit.table_faults(SPECS, panel, table, {})
    monkeypatch.setattr(audit, "symbol_blocks", lambda borders: symbol_blocks(borders, 1))
    assert [f.says for f in audit.table_faults(SPECS, panel, table, {})] == [f.says for f in whole]
    assert whole[0].ts == panel.ts[300]


def test_blocks_hold_whole_symbols():
    borders = np.array([0, 5, 6, 20, 21, 22])
    assert symbol_blocks(borders, 1) == [(i, i + 1) for i in range(5)]
    assert symbol_blocks(borders, 6) == [(0, 2), (2, 3), (3, 5)]
    assert symbol_blocks(borders, 100) == [(0, 5)]
