"""The ingest page: verdict first, what is there, what is missing, what is odd, what was set aside; small
whatever came."""
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from ploomber_engine import execute_notebook

from mlfin.core.provenance import read_json, read_parquet

from ..fixtures.workbench import ROOT, minutes

MIME = "application/vnd.plotly.v1+json"
DIRTY = ROOT.parent / "shared" / "data" / "market" / "mt5_eurusd_m1_hedgehogger" / "EURUSD_M1_0-10k.csv"


def data_of(bench): return bench.root / ".mlfin" / "development" / "default"  # env.yaml's profile


def page(bench, **asked):
    "The executed notebook of the ingest task alone, its figures and its texts."
    asked = {"source": "csv", "path": "bars.csv", "symbols": ["X"], "timeframe": "1m", "tz": "UTC", **asked}
    file = bench.root / "page.ipynb"
    execute_notebook(bench.root / "nbs/pipeline/01_ingest.ipynb", file, parameters=asked, progress_bar=False)
    outputs = [o for cell in nbformat.read(file, 4).cells if cell.cell_type == "code"
               for o in cell.outputs if "data" in o]
    figures = {o.data[MIME]["layout"]["title"]["text"]: o.data[MIME] for o in outputs if MIME in o.data}
    texts = [t if isinstance(t, str) else "".join(t) for o in outputs
             for t in (o.data.get("text/markdown"), o.data.get("text/html")) if t]
    return file.stat().st_size, figures, texts


def test_the_default_page(first_run):
    html = first_run.report("01_ingest.html").read_text()
    assert len(html) < 600_000
    assert (html.index("Verdict: ") < html.index("What is there, and what is missing")
            < html.index("What was set aside"))
    quality = read_json(first_run.data("quality.json"))
    assert quality["until"] is None and quality["verdict"] in ("pass", "warn")
    assert {c["check"] for c in quality["checks"]} >= {"missing", "decimal"}
    assert Path(first_run.settings.store, "bars").is_dir()


def test_a_dirty_file(workbench):
    frame = minutes(3_000)
    frame.loc[[5, 900], "high"] *= 1000
    frame["volume"] = frame.volume.astype(object)
    frame.loc[7, "volume"] = "none"
    frame.drop(index=range(2_000, 2_050)).to_csv(workbench.root / "bars.csv", index=False)
    size, figures, texts = page(workbench)
    assert (size < 600_000 and texts[0].startswith("<strong>Verdict: warn")
            or texts[0].startswith("**Verdict: warn.** 2,947 1m bars of X"))
    assert "3 rows set aside, 53 bars missing" in texts[0]
    coverage, prices = figures["Coverage"], figures["Closing prices and what was flagged"]
    assert "53 of 3,000 bars are missing" in coverage["layout"]["title"]["subtitle"]["text"]
    assert "decimal: 2" in [t["name"] for t in prices["data"]]
    for figure in (coverage, prices):
        assert figure["layout"]["xaxis"]["title"]["text"] and figure["layout"]["yaxis"]["title"]["text"]
    said = "\n".join(texts)
    assert "4 gaps, 53 bars" in said and "2022-01-02 09:20" in said and "is not a number" in said
    assert "class='quality'" in said
    aside = read_parquet(data_of(workbench) / "quarantine.parquet")
    assert sorted(aside.row) == [5, 7, 900]


def test_a_clean_file_of_one_symbol(workbench):
    minutes(45_031).to_csv(workbench.root / "bars.csv", index=False)
    size, figures, texts = page(workbench)
    assert size < 400_000 and "Nothing: every row was used." in texts and "No gaps." in texts
    assert "all 45,031 bars are there" in figures["Coverage"]["layout"]["title"]["subtitle"]["text"]


@pytest.mark.parametrize("count", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_hundreds_of_symbols(workbench, count):
    names = [f"S{i:03d}" for i in range(count)]
    one = minutes(40)
    pd.concat([one.assign(symbol=s) for s in names]).to_csv(workbench.root / "bars.csv", index=False)
    size, figures, texts = page(workbench, symbols=names)
    assert size < 300_000 + 600 * count
    assert (f"8 of {count} symbols"
            in figures["Closing prices and what was flagged"]["layout"]["title"]["subtitle"]["text"])
    assert f"of {count} symbols" in texts[0]


@pytest.mark.skipif(not DIRTY.is_file(), reason="the market data in ../shared/data are not on this machine")
def test_prices_times_a_thousand(workbench):
    size, figures, texts = page(workbench, path=str(DIRTY), symbols=["EURUSD"], calendar="forex")
    assert size < 600_000 and "326 rows set aside, 329 bars missing" in texts[0]
    names = [t["name"] for t in figures["Closing prices and what was flagged"]["data"]]
    assert names[1:] == ["decimal: 326 (200 drawn)", "ohlc: 231 (200 drawn)", "outliers: 2"]
    assert np.isfinite(read_parquet(data_of(workbench) / "bars.parquet").close).all()
