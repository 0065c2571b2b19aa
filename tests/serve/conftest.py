"""A project with a champion of two daily symbols, made once a worker: seconds that no test needs to spend twice."""
import shutil
from pathlib import Path

import pytest

from .served import beside

ROOT = Path(__file__).parents[2]
SPECS = ["returns", "rsi_14", "obv", "sma_20", "volume_ma_20", "macd_12_26_9"]


@pytest.fixture(scope="module")
def champion(tmp_path_factory):
    """(settings, bars): experiment `main` has a champion that learnt from the bars; nothing is in the store."""
    from mlfin.models.registry import crown, register, write_verdict

    left_run, folder = beside("models", "left_run.py"), tmp_path_factory.mktemp("service")
    for name in ("settings.ini", "env.yaml", "pipeline.yaml"):
        shutil.copy(ROOT / name, folder)
    settings = left_run.settings_at(folder, limit_user="", limit_address="")
    bars = left_run.bars_that_remember(days=700, symbols=("AAA", "BBB"))
    left_run.leave(settings, "main", specs=SPECS, bars=bars)
    made = register(settings, "main")
    write_verdict(settings, made, "passed", "all is well", {"checks": []})
    crown(settings, "main", made.number, None)
    return settings, bars
