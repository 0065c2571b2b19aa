import importlib.util
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_made_again_byte_for_byte(market, tmp_path):
    (tmp_path / "env").mkdir()
    shutil.copy(ROOT / "env" / "make-builtin", tmp_path / "env")
    source = market / "pypi_bokeh_sampledata" / "stocks.csv.gz"
    subprocess.run(
        [sys.executable, tmp_path / "env" / "make-builtin", source], check=True, capture_output=True
    )
    made, kept = (folder / "mlfin" / "sources" / "builtin" for folder in (tmp_path, ROOT))
    pd.testing.assert_frame_equal(
        pd.read_parquet(made / "us_equities.parquet"), pd.read_parquet(kept / "us_equities.parquet")
    )
    assert (made / "ATTRIBUTION.md").read_bytes() == (kept / "ATTRIBUTION.md").read_bytes()
    import pyarrow
    import pyarrow.parquet as pq

    if pq.ParquetFile(kept / "us_equities.parquet").metadata.created_by.endswith(pyarrow.__version__):
        assert (made / "us_equities.parquet").read_bytes() == (kept / "us_equities.parquet").read_bytes()


def test_refuses_other_figures(tmp_path):
    import gzip

    path = tmp_path / "stocks.csv.gz"
    path.write_bytes(gzip.compress(b"Ticker,Date\n"))
    ran = subprocess.run(
        [sys.executable, ROOT / "env" / "make-builtin", path], capture_output=True, text=True
    )
    assert ran.returncode == 1 and "sha256 differs" in ran.stderr


def test_shipped_small_and_attributed():
    folder = ROOT / "mlfin" / "sources" / "builtin"
    assert (folder / "us_equities.parquet").stat().st_size < 300_000
    text = (folder / "ATTRIBUTION.md").read_text()
    assert "public domain" in text and "Quandl WIKI" in text and "://" not in text


def test_found_in_the_installed_package():
    pytest.importorskip("bokeh_sampledata", reason="bokeh_sampledata is not installed")
    loader = SourceFileLoader("make_builtin", str(ROOT / "env" / "make-builtin"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("make_builtin", loader))
    argv, sys.argv = sys.argv, ["make-builtin"]
    try:
        loader.exec_module(module)
        assert module.source()
    finally:
        sys.argv = argv
