"""Runs whose bars come from the store: the same answers as from the source, what is new and nothing else
makes them run again."""
import pandas as pd
import pytest

from mlfin.core.provenance import read_json, read_parquet
from mlfin.warehouse.opening import open_store

from ..fixtures.workbench import TASKS, minutes, words
from .test_dag import executed, state_of

STORE = {"source": "store"}


@pytest.fixture
def stocked(finished):
    "The finished project, whose built-in bars are in the store since its run."
    return finished


@pytest.mark.slow
def test_a_run_on_the_store_answers_as_one_on_the_source_does(stocked):
    frames = {name: read_parquet(stocked.data(name))
              for name in ("bars.parquet", "features.parquet", "predictions.parquet")}
    code, out, err = stocked.here(*words(**STORE))
    assert code == 0 and len(executed(out)) == len(TASKS), out + err
    for name, frame in frames.items(): pd.testing.assert_frame_equal(read_parquet(stocked.data(name)), frame)
    assert read_json(stocked.data("quality.json"))["origin"].startswith("store:")
    record = stocked.record()
    assert record["parameters"]["source"] == "store" and record["when"]["store_version"] >= 0
    assert "path" not in record["tasks"]["ingest"]["components"]["parameters"]

    code, out, err = stocked.here(*words(**STORE))
    assert code == 0 and "Nothing to do" in out, out + err
    store = open_store(stocked.settings)
    other = store.read(["IBM"]).iloc[-3:].reset_index(drop=True).assign(symbol="OTHER")
    store.push(other)
    assert set(state_of(stocked.here("status", *words(**STORE)[1:])[1]).values()) == {"fresh"}

    code, out, err = stocked.here("reproduce", "latest")
    assert code == 0 and "equal" in out, out + err

    last = store.read(["IBM"]).iloc[[-1]].reset_index(drop=True)
    store.push(last.assign(ts=last.ts + pd.Timedelta(days=4), known_at=last.known_at + pd.Timedelta(days=4)))
    assert set(state_of(stocked.here("status", *words(**STORE)[1:])[1]).values()) == {"stale"}
    code, out, err = stocked.here("reproduce", "latest")  # the version that it read is still there
    assert code == 0 and "equal" in out, out + err


@pytest.mark.slow
def test_a_run_on_corrected_bars_is_reproduced(stocked):
    store = open_store(stocked.settings)
    row = store.read(["IBM"]).iloc[[-300]].reset_index(drop=True)
    store.write(row.assign(close=row.close * 1.001, high=row.high * 1.002))
    code, out, err = stocked.here(*words(**STORE))
    assert code == 0 and len(executed(out)) == len(TASKS), out + err
    bars = read_parquet(stocked.data("bars.parquet"))
    assert (bars.known_at - bars.ts).max() < pd.Timedelta("1D")
    assert "1 bar of IBM was corrected" in stocked.report("05_backtest.html").read_text()
    code, out, err = stocked.here("reproduce", "latest")
    assert code == 0 and "equal" in out, out + err
    store.write(row)                                                        # corrected once more: back
    code, out, err = stocked.here("reproduce", "latest")
    assert code == 0 and "equal" in out, out + err


@pytest.mark.slow
def test_a_folder_is_brought_in_and_asked_of_the_store(workbench):
    (workbench.root / "bars").mkdir()
    for n, symbol in enumerate(("BTCUSDT", "ETHUSDT")):
        minutes(6000, n).to_csv(workbench.root / "bars" / f"{symbol}.csv", index=False)
    asked = {"source": "csv", "path": "bars", "symbols": "[BTCUSDT,ETHUSDT]", "timeframe": "1m", "tz": "UTC",
             "start": "null", "features": "[rsi_14,returns]"}
    code, out, err = workbench.here(*words(**asked))
    assert code == 0 and len(executed(out)) == len(TASKS), out + err
    record = workbench.record()
    assert record["parameters"]["source"] == "store"
    assert ({k: record["when"]["brought"][k] for k in ("source", "path", "new")}
            == {"source": "csv", "path": "bars", "new": 12000})
    code, out, err = workbench.here(*words(**asked))
    assert code == 0 and "Nothing to do" in out, out + err
    own = {k: v for k, v in asked.items() if k != "path"} | {"source": "store"}
    code, out, err = workbench.here(*words(**own))
    assert code == 0 and "Nothing to do" in out, out + err  # the same bars of the same store are the same run
    bars = read_parquet(workbench.data("bars.parquet"))
    assert bars.symbol.value_counts().to_dict() == {"BTCUSDT": 6000, "ETHUSDT": 6000}


@pytest.mark.parametrize("changes, said", [
    ({"source": "store", "symbols": "[NOBODY]"}, ["symbol", "NOBODY"]),
    ({"source": "store", "timeframe": "5m"}, ["5m"]),
    ({"source": "store", "path": "x.csv"}, ["path", "source=store"]),
    ({"source": "ccxt:binance", "path": "x.csv"}, ["path", "because the source says it"]),
    ({"source": "csv:nowhere.csv"}, ["nowhere.csv"]),
    ({"source": "ccxt:nosuchexchange", "symbols": "[BTC/USDT]"}, ["nosuchexchange"]),
])
def test_what_cannot_be_answered_is_refused_before_a_task_begins(stocked, changes, said):
    before = stocked.published()
    code, out, err = stocked.here(*words(**changes))
    assert code and all(word in err
                        for word in said) and "Traceback" not in err and not executed(out), out + err
    assert stocked.published() == before
