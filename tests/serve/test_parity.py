"""Real minutes, posted one by one to a real server, and what its signals say beside the batch pipeline: the same numbers, to the last bit."""
import http.client
import json
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("fastapi")

from mlfin.data.bars import as_bars  # noqa: E402
from mlfin.data.ingest import open_store  # noqa: E402
from mlfin.features.table import compute_features  # noqa: E402
from mlfin.models.dataset import model_inputs  # noqa: E402
from mlfin.models.registry import crown, load_champion, register, write_verdict  # noqa: E402

from . import live_server  # noqa: E402

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "market" / "freqtrade" / "UNITTEST_BTC-1m.feather"
SPECS = ["returns", "rsi_14", "obv", "sma_20", "volume_ma_20", "macd_12_26_9"]
MODELS = {"trees": "lightgbm", "forest": "random_forest", "line": "logistic"}

pytestmark = pytest.mark.skipif(not REAL.is_file(), reason="the real minutes lie in shared/data beside the checkout, and are not there")


def module(path):
    spec = spec_from_file_location(path.stem, path)
    found = module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def minutes():
    """Two weeks of real one-minute bars, 538 of them missing."""
    raw = pd.read_feather(REAL)
    ts = raw["date"].dt.tz_convert("UTC").astype("datetime64[us, UTC]")
    bars = as_bars(raw[["open", "high", "low", "close", "volume"]].assign(symbol="BTC", timeframe="1m", ts=ts, known_at=ts + pd.Timedelta("1min")))
    return bars.drop_duplicates("ts").reset_index(drop=True)


@pytest.fixture(scope="module")
def champions(minutes, tmp_path_factory):
    """A project with one champion a kind of model, trained on the first 3,000 minutes; and a key."""
    left_run = module(ROOT / "tests" / "models" / "left_run.py")
    settings = live_server.project(tmp_path_factory.mktemp("parity"))
    for experiment, name in MODELS.items():
        left_run.leave(settings, experiment, specs=SPECS, names=(name,), bars=minutes.head(3_000), label="fwd_ret_5")
        made = register(settings, experiment)
        write_verdict(settings, made, "passed", "all is well", {"checks": []})
        crown(settings, experiment, made.number, None)
    return settings, live_server.key_for(settings)


def batch_says(settings, bars):
    """experiment -> ts -> probability: features of all bars at once, as research computes them, and the model asked once for all rows."""
    table, found = compute_features(bars, SPECS, short="nan"), {}
    for experiment in MODELS:
        champion = load_champion(settings, experiment)
        rows = model_inputs(table, bars, champion.manifest["features"]).dropna().reset_index(drop=True)
        found[experiment] = pd.Series(champion.predict(rows), index=rows.ts)
    return found


class Line:
    """One connection that stays open."""
    def __init__(self, port, key):
        self.line, self.headers = http.client.HTTPConnection("127.0.0.1", port, timeout=60), {"x-api-key": key}

    def __call__(self, method, path, body=None):
        self.line.request(method, path, None if body is None else json.dumps(body), self.headers)
        answer = self.line.getresponse()
        told = json.loads(answer.read())
        assert answer.status == 200, told
        return told


def replay(ask, bars, first):
    """Post bar by bar from a place on; what the signals said each time: ts, experiment, probability."""
    said, values = [], ("open", "high", "low", "close", "volume")
    for bar in bars.iloc[first:].itertuples():
        wire = {"symbol": bar.symbol, "timeframe": bar.timeframe, "ts": bar.ts.isoformat(), **{n: getattr(bar, n) for n in values}}
        assert ask("POST", "/ingest", {"bars": [wire]}) == {"received": 1, "stored": 1, "refused": []}
        signals = ask("GET", "/v1/signals?timeframe=1m&symbol=BTC")["signals"]
        assert len(signals) == len(MODELS)
        for signal in signals:
            assert pd.Timestamp(signal["ts"]) == bar.ts and not signal["reason"], signal
            said.append((bar.ts, signal["model"].removeprefix("test-"), signal["probability"]))
    return pd.DataFrame(said, columns=["ts", "experiment", "live"])


def compared(settings, key, minutes, first):
    """Replay against a server of this project; a row a model: bars, how many are equal, the largest difference, and the seconds it took."""
    open_store(settings).write(minutes.head(first))
    server = live_server.Server(settings, MLFIN_STORE=settings.store, MLFIN_LIMIT_USER="", MLFIN_LIMIT_ADDRESS="").start()
    try:
        begin = time.perf_counter()
        said = replay(Line(server.port, key), minutes, first)
        seconds = time.perf_counter() - begin
    finally:
        server.stop()
    batch, rows = batch_says(settings, minutes), []
    for experiment, own in said.groupby("experiment"):
        want = batch[experiment].loc[list(own.ts)].to_numpy()
        rows.append((MODELS[experiment], len(own), int((own.live.to_numpy() == want).sum()), float(np.abs(own.live.to_numpy() - want).max())))
    found = pd.DataFrame(rows, columns=["model", "bars", "equal", "largest"]).set_index("model")
    print(f"\n{found.to_string()}\n{len(said) // len(MODELS):,} bars in {seconds:.0f} s, {seconds / len(said) * len(MODELS) * 1e3:.1f} ms each")
    return found


def test_minute_by_minute_over_http_is_the_batch(champions, minutes):
    settings, key = champions
    settings = settings.model_copy(update={"store": f"{settings.root}/short"})
    found = compared(settings, key, minutes.head(3_600).reset_index(drop=True), 3_300)
    assert (found.bars == 300).all() and (found.equal == 300).all()


@pytest.mark.slow
def test_ten_thousand_minutes_over_http_are_the_batch(champions, minutes):
    settings, key = champions
    first = len(minutes) - 10_000
    assert first > 3_000
    found = compared(settings, key, minutes, first)
    assert (found.bars == 10_000).all() and (found.equal == 10_000).all()
