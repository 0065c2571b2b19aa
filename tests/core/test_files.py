"""Locks, folders on the disk and owners; and the library on a system without what only Unix has."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlfin.core.files import hold

ROOT = Path(__file__).parents[2]
# Python on Windows has none of these modules; the stand-in for `msvcrt` keeps its promise within one process, as one open file a byte range
WITHOUT_UNIX = """
import os, subprocess, sys, types  # subprocess takes `msvcrt` for a sign of Windows
for name in ("fcntl", "resource", "pwd", "grp", "termios"): sys.modules[name] = None
held = {}
def locking(number, mode, count):
    found = os.fstat(number)
    if held.setdefault((found.st_dev, found.st_ino), number) != number:
        try: open_still = os.path.samestat(os.fstat(held[found.st_dev, found.st_ino]), found)
        except OSError: open_still = False
        if open_still: raise OSError(13, "Permission denied")
        held[found.st_dev, found.st_ino] = number
sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
del os.geteuid
"""
CHAIN = """
from pathlib import Path
folder = Path(sys.argv[1])
from mlfin.data.ingest import update
from mlfin.data.lake import Lake
from mlfin.backtest.simulate import TradingRule, backtest
from mlfin.models.registry import crown, register, write_verdict
from mlfin.serve.client import Client
from mlfin.serve.collector import Collector
from mlfin.serve.predictor import Predictor
from left_run import bars_that_remember, leave, settings_at

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
crown(settings, "main", 1, None)
said = Predictor(settings, "main", store=Lake(Path(settings.store)), poll=0).predict()
print(len(stored), len(trained.predictions), len(said))
"""


@pytest.mark.slow
def test_without_what_only_unix_has_the_library_works(tmp_path):
    "Data, features, models, backtest, prediction, client and collector; `msvcrt` is a stand-in."
    at = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "models")))}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", WITHOUT_UNIX + CHAIN, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True,
                          env=os.environ | at)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[0] == "800"


def test_every_module_is_imported_without_them_and_the_service_says_what_it_needs():
    script = ("import importlib, pkgutil, mlfin\n"
              "for found in pkgutil.walk_packages(mlfin.__path__, 'mlfin.'):\n"
              "    if not found.name.endswith('__main__'): importlib.import_module(found.name)\n"
              "from mlfin.serve.connection import most_connections\n"
              "most_connections()\n")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", WITHOUT_UNIX + script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.strip().splitlines()[-2:] == [
        "mlfin.core.errors.SettingsError: `mlfin serve` needs Linux or macOS.",
        "Hint: WSL 2 or a container on Windows; the client, the collector and the library work there."], done.stderr[-2000:]


@pytest.mark.parametrize("unix", [True, False])
def test_a_file_is_held_by_one_until_it_is_closed(tmp_path, unix):
    script = ("" if unix else WITHOUT_UNIX) + f"""
from mlfin.core.files import hold
first, second = open({str(tmp_path / "lock")!r}, "a"), open({str(tmp_path / "lock")!r}, "a")
hold(first)
try: hold(second, wait=False)
except BlockingIOError: print("held", end=" ")
first.close()
hold(second)
print("let go")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "held let go", done.stderr[-2000:]


def test_a_held_file_is_let_go_by_a_killed_process(tmp_path):
    script = f"from mlfin.core.files import hold; file = open({str(tmp_path / 'lock')!r}, 'a'); hold(file); print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with open(tmp_path / "lock", "a") as file:
            with pytest.raises(BlockingIOError): hold(file, wait=False)
            other.kill()
            hold(file)
