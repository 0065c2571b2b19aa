"""Every example of the gallery runs, and answers as its page says."""
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "nbs/examples").glob("*.ipynb"))


def test_there_is_one_of_each_kind():
    assert [path.stem for path in EXAMPLES] == [
        "crypto_minutes", "equities", "facts", "forex_spreads", "planted_edge", "pure_noise"]


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path, tmp_path):
    """Their assertions hold, in a process of their own."""
    command = [Path(sys.executable).with_name("nbdev-test"), str(path), "--n-workers", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "Success" in done.stdout + done.stderr, (
        done.stdout[-3000:] + done.stderr[-3000:])
