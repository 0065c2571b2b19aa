"""The library on a system without what only Unix has."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Python on Windows has none of these modules; filelock, which has a lock of its own there, takes its soft one
# here
WITHOUT_UNIX = """
import os, sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"): sys.modules[name] = None
del os.geteuid
"""
CHAIN = """
from pathlib import Path
folder = Path(sys.argv[1])
from mlfin.ingest.store_update import update
from mlfin.store.lake import Lake
from mlfin.backtest.simulate import backtest
from mlfin.backtest.trading_rule import TradingRule
from mlfin.registry.registry import set_champion, register, write_verdict
from mlfin.client.client import Client
from mlfin.client.collector import Collector
from mlfin.predict.predictor import Predictor
from tests.fixtures.left_run import bars_that_remember, leave, settings_at

bars = bars_that_remember(days=400, symbols=("AAA", "BBB"))
bars.to_csv(folder / "bars.csv", index=False)
settings = settings_at(folder, profile="test")
done = update("csv", folder / "bars.csv", timeframes="1d", calendar="24/7", tz="UTC", store=settings)
assert len(done.series) == 2 and not done.failed, done
stored = Lake(Path(settings.store)).read(timeframe="1d")
assert len(stored) == len(bars)
dataset, trained = leave(settings, bars=bars)
backtest(trained.predictions, bars, TradingRule())
made = register(settings, "main")
write_verdict(settings, made, "passed", "all is well", {"checks": []})
set_champion(settings, "main", 1, None)
said = Predictor(settings, "main", store=Lake(Path(settings.store)), poll=0).predict()
print(len(stored), len(trained.predictions), len(said))
"""


@pytest.mark.slow
def test_without_what_only_unix_has_the_library_works(tmp_path):
    "Data, features, models, backtest, prediction, client and collector."
    at = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_UNIX + CHAIN, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | at,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[0] == "800"


def test_every_module_is_imported_without_them_and_the_service_says_what_it_needs():
    script = ("import importlib, pkgutil, mlfin\n"
              "for found in pkgutil.walk_packages(mlfin.__path__, 'mlfin.'):\n"
              "    if not found.name.endswith('__main__'): importlib.import_module(found.name)\n"
              "from mlfin.api.connection import most_connections\n"
              "most_connections()\n")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_UNIX + script],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stderr.strip().splitlines()[-2:] == [
        "mlfin.core.errors.SettingsError: `mlfin serve` needs Linux or macOS.",
        "Hint: WSL 2 or a container on Windows; the client, the collector and the library work there.",
    ], done.stderr[-2000:]
