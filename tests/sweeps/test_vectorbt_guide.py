"""The guide's section for those who know vectorbt: both programs that stand there are run and compared."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from mlfin.sources.sources import read_bars
from mlfin.sweeps import sweep_signals


def test_what_the_guide_says_of_vectorbt_is_so():
    pytest.importorskip("vectorbt")
    guide = json.loads((Path(__file__).parents[2] / "nbs/guides/recipes.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in guide["cells"]]
    at = next(i for i, text in enumerate(cells) if text.startswith("### For those who know vectorbt"))
    theirs = re.search(r"```python\n(.*?)```", cells[at], re.S)[1]
    bars = read_bars("builtin", symbols=["AAPL"], start="2012-01-01").bars
    names = {"bars": bars, "sweep_signals": sweep_signals}
    exec(cells[at + 1], names)
    exec(theirs, names)
    assert len(names["ours"]) == 6
    np.testing.assert_allclose(names["ours"], names["theirs"], rtol=1e-9, atol=1e-12)
