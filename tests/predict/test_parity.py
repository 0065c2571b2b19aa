"""Real minutes, posted one by one to a real server, and what its signals say beside the batch pipeline: the
same numbers, to the last bit."""
import http.client
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("fastapi")

from mlfin.market.bars import as_bars  # noqa: E402
from mlfin.warehouse.opening import open_store  # noqa: E402
from mlfin.features.table import compute_features  # noqa: E402
from mlfin.datasets.inputs import model_inputs  # noqa: E402
from mlfin.registry.registry import set_champion, load_champion, register, write_verdict  # noqa: E402

from ..fixtures import left_run, live_server  # noqa: E402

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "market" / "freqtrade" / "UNITTEST_BTC-1m.feather"
SPECS = ["returns", "rsi_14", "obv", "sma_20", "volume_ma_20", "macd_12_26_9"]

pytestmark = pytest.mark.skipif(
    not REAL.is_file(), reason="the real minutes lie in shared/data beside the checkout, and are not there")


@pytest.fixture(scope="module")
def minutes():
    """Two weeks of real one-minute bars, 538 of them missing."""
    raw = pd.read_feather(REAL)
    ts = raw["date"].dt.tz_convert("UTC").astype("datetime64[us, UTC]")
    bars = as_bars(raw[["open", "high", "low", "close", "volume"]].assign(
        symbol="BTC", timeframe="1m", ts=ts, known_at=ts + pd.Timedelta("1min")))
    return bars.drop_duplicates("ts").reset_index(drop=True)


def champions(minutes, folder, models):
    """A project with one champion a kind of model, trained on these minutes; and a key."""
    settings = live_server.project(folder)
    for name in models:
        left_run.leave(settings, name, specs=SPECS, names=(name,), bars=minutes, label="fwd_ret_5")
        made = register(settings, name)
        write_verdict(settings, made, "passed", "all is well", {"checks": []})
        set_champion(settings, name, made.number, None)
    return settings, live_server.key_for(settings)


def batch_says(settings, bars, models):
    """model -> ts -> probability: features of all bars at once, as research computes them, and the model
    asked once for all rows."""
    table, found = compute_features(bars, SPECS, short="nan"), {}
    for name in models:
        champion = load_champion(settings, name)
        rows = model_inputs(table, bars, champion.manifest["features"]).dropna().reset_index(drop=True)
        found[name] = pd.Series(champion.predict(rows), index=rows.ts)
    return found


class Line:
    """One connection that stays open."""
    def __init__(self, port, key):
        self.line, self.headers = (http.client.HTTPConnection("127.0.0.1", port, timeout=60),
                                   {"x-api-key": key})

    def __call__(self, method, path, body=None):
        self.line.request(method, path, None if body is None else json.dumps(body), self.headers)
        answer = self.line.getresponse()
        told = json.loads(answer.read())
        assert answer.status == 200, told
        return told


def replay(ask, bars, first, models):
    """Post bar by bar from a place on; what the signals said each time: ts, model, probability."""
    said, values = [], ("open", "high", "low", "close", "volume")
    for bar in bars.iloc[first:].itertuples():
        wire = {"symbol": bar.symbol, "timeframe": bar.timeframe, "ts": bar.ts.isoformat(),
                **{n: getattr(bar, n) for n in values}}
        assert ask("POST", "/ingest", {"bars": [wire]}) == {"received": 1, "stored": 1, "refused": []}
        signals = ask("GET", "/v1/signals?timeframe=1m&symbol=BTC")["signals"]
        assert len(signals) == len(models)
        for signal in signals:
            assert pd.Timestamp(signal["ts"]) == bar.ts and not signal["reason"], signal
            said.append((bar.ts, signal["model"].removeprefix("test-"), signal["probability"]))
        if len(said) % (500 * len(models)) == 0:
            print(f"{len(said) // len(models):,} bars", flush=True)
    return pd.DataFrame(said, columns=["ts", "model", "live"])


def alone(settings):
    """A server in a process of its own."""
    return live_server.Server(settings, MLFIN_LIMIT_USER="", MLFIN_LIMIT_ADDRESS="")


def here(settings):
    """The same service behind a socket of this process."""
    return live_server.Here(settings.model_copy(update={"limit_user": "", "limit_address": ""}))


def compared(folder, minutes, first, models, serves=alone):
    """Replay against a real server; a row a model: bars, how many are equal, the largest difference."""
    settings, key = champions(minutes.head(min(first, 3_000)), folder, models)
    open_store(settings).write(minutes.head(first))
    server = serves(settings).start()
    try:
        begin = time.perf_counter()
        said = replay(Line(server.port, key), minutes, first, models)
        seconds = time.perf_counter() - begin
    finally:
        server.kill()
    batch, rows = batch_says(settings, minutes, models), []
    for name, own in said.groupby("model"):
        live, want = own.live.to_numpy(), batch[name].loc[list(own.ts)].to_numpy()
        rows.append((name, len(own), int((live == want).sum()), float(np.abs(live - want).max()),
                     len(np.unique(live))))
    found = pd.DataFrame(rows, columns=["model", "bars", "equal", "largest", "different"]).set_index("model")
    print(f"\n{found.to_string()}\n{len(said) // len(models):,} bars in {seconds:.0f} s, "
          f"{seconds / len(said) * len(models) * 1e3:.1f} ms each")
    assert (found.equal == found.bars).all() and (found.different > 10).all() and (found.largest == 0).all()
    return found


FEW, ALL = ("lightgbm", "logistic"), ("lightgbm", "logistic", "random_forest", "random_forest_fast")


@pytest.mark.parametrize(("serves", "models"),
                         [(here, FEW), pytest.param(alone, ALL, marks=pytest.mark.slow)],
                         ids=["here", "alone"])
def test_minute_by_minute_over_http_is_the_batch(minutes, tmp_path, serves, models):
    found = compared(tmp_path, minutes.head(930).reset_index(drop=True), 900, models, serves)
    assert (found.bars == 30).all() and len(found) == len(models)


@pytest.mark.long
def test_ten_thousand_minutes_over_http_are_the_batch(minutes, tmp_path):
    first = len(minutes) - 10_000
    assert first > 3_000
    found = compared(tmp_path, minutes, first, ("lightgbm", "logistic"))
    assert (found.bars == 10_000).all() and len(found) == 2
