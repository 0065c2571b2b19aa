"""Retraining as a client has it: over sockets, from one real service, its jobs real runs of the pipeline;
every figure is held against the store."""
import json
import time

import pandas as pd
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from mlfin.core.locks import experiment_holder, experiment_lock  # noqa: E402
from mlfin.core.provenance import read_json, read_parquet  # noqa: E402
from mlfin.warehouse.opening import open_store  # noqa: E402

from ..fixtures import left_run  # noqa: E402
from ..fixtures.served import Served, key_of  # noqa: E402
from ..fixtures.workbench import KERNEL, Workbench  # noqa: E402

SYMBOLS, DAYS, LATER = ["AAA", "BBB"], 500, 40
PRICES = ("open", "high", "low", "close", "volume")


class Desk:
    """A project, its service, and somebody who may do everything, by key."""
    def __init__(self, root):
        bench = Workbench.make(root)
        self.root, self.settings, self.server = root, bench.settings, Served(root, {})
        self.key = key_of(self.settings, role="administrator")
        yesterday = pd.Timestamp.now("UTC").floor("D") - pd.Timedelta("1D")
        self.bars = left_run.bars_that_remember(days=DAYS + LATER, symbols=SYMBOLS, last=yesterday)

    def ask(self, method, path, body=None, status=200):
        found, _, told = self.server.ask(method, f"/v1{path}", body, self.key)
        assert found == status, (found, told)
        return told

    def push(self, bars) -> int:
        """How many of these bars were stored."""
        rows = [{"symbol": b.symbol, "timeframe": "1d", "ts": b.ts.isoformat(),
                 **{n: getattr(b, n) for n in PRICES}} for b in bars.itertuples()]
        replies = [self.ask("POST", "/ingest", {"bars": rows[n:n + 500]}) for n in range(0, len(rows), 500)]
        return sum(len(rows[n:n + 500]) - len(r.get("refused", []))
                   for n, r in zip(range(0, len(rows), 500), replies, strict=True))

    def job(self, job: str, *until: str, seconds: float = 400) -> dict:
        """A job, as soon as it is in one of these states."""
        end = time.monotonic() + seconds
        while (told := self.ask("GET", f"/jobs/{job}"))["state"] not in until:
            assert time.monotonic() < end and told["state"] not in ("failed", "cancelled"), (
                told, self.server.log.read_text()[-2000:])
            time.sleep(0.2)
        return told

    def train(self, **body) -> dict:
        """What a training ended with."""
        return self.job(self.ask("POST", "/train", {"experiment": "live", **body}, status=202)["id"],
                        "done")["result"]

    def serving(self) -> set:
        """Versions that answer for the newest bars, and those bars."""
        told = self.ask("POST", "/predict", {"experiment": "live", "symbols": SYMBOLS})["predictions"]
        return {(p["version"], pd.Timestamp(p["ts"])) for p in told}

    def run_of(self, result: dict) -> tuple[dict, pd.DataFrame]:
        """Record and bars of the run that a job made."""
        folder = self.root / result["folder"]
        return read_json(folder / "run.json"), read_parquet(folder / "data" / "bars.parquet")


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path / "desk")
    with made.server: yield made


@pytest.mark.slow
def test_pushed_bars_are_retrained_on_judged_and_served_when_promoted(desk):
    first = desk.bars.groupby("symbol").head(DAYS)
    assert desk.push(first) == 2 * DAYS
    asked = {"source": "store", "symbols": SYMBOLS, "timeframe": "1d", "start": None,
             "features": ["returns", "rsi_14"], "label": "fwd_ret_1",
             "models": ["logistic"], "folds": 3, "executor": "ploomber-engine", "kernel": KERNEL}
    made = desk.train(parameters=asked)
    before, bars = desk.run_of(made)
    assert len(bars) == 2 * DAYS and made["run"] == before["run_id"]
    assert (desk.root / made["report"]).is_file()

    # nothing is new: it is judged as it is
    told = desk.train()
    assert ((told["run"], told["version"], told["promoted"], told["executed"], told["report"])
            == (made["run"], 1, False, [], None))
    assert told["gate"]
    assert desk.ask("POST", "/models/1/promote", {"experiment": "live", "force": "a first one"})["promoted"]
    assert desk.serving() == {(1, first.ts.max())}

    assert desk.push(desk.bars.groupby("symbol").tail(LATER)) == 2 * LATER
    with experiment_lock(desk.settings, "live"):                           # somebody at a terminal runs it
        job = desk.ask("POST", "/train", {"experiment": "live"}, status=202)["id"]
        waits = desk.ask("GET", f"/jobs/{job}")
        who = experiment_holder(desk.settings, "live")
        assert waits["state"] == "queued"
        assert waits["says"] == f"waits: experiment live is being run by somebody else: {who}"
        time.sleep(1.5)                                                    # its worker has looked by now
        assert desk.job(job, "queued")["started_at"] is None
    told = desk.job(job, "done")["result"]
    after, bars = desk.run_of(told)
    stored = open_store(desk.settings).read(SYMBOLS, "1d")
    assert len(bars) == len(stored) == 2 * (DAYS + LATER)
    assert told["run"] == after["run_id"] != before["run_id"]
    assert (told["version"], told["promoted"]) == (2, False)
    page, kept = desk.root / told["report"], read_json(desk.root / told["folder"] / "data" / "retrained.json")
    assert page.name == "07_retrain.html" and page.is_file()
    assert ((kept["before"], kept["after"], kept["version"], kept["champion"])
            == (before["run_id"], after["run_id"], 2, 1))
    assert kept["gate"] == told["gate"]
    assert {"loads", "baseline", "champion"} <= {c["name"] for c in kept["checks"]}
    rows = [read_parquet(desk.root / r["folder"] / "data" / "predictions.parquet")[["symbol", "ts"]]
            for r in (made, told)]
    assert kept["against"]["rows"] == len(rows[0].merge(rows[1])) > 500
    assert desk.serving() == {(1, desk.bars.ts.max())}                     # nobody asked to promote it

    found = desk.ask("GET", "/models?experiment=live")["items"]
    assert [v["version"] for v in found] == [2, 1], json.dumps(found)
    assert (desk.ask("POST", "/models/2/promote", {"experiment": "live", "force": "to see it serve"})
            | {"reasons": []} == {
                "model": found[0]["model"], "version": 2, "promoted": True, "replaced": 1, "reasons": []})
    assert desk.serving() == {(2, desk.bars.ts.max())}
    assert desk.ask("GET", "/model/info?experiment=live")["version"] == 2
