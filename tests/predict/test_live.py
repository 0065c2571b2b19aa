"""The live record against a count by hand: each prediction once, none too early, late ones apart, and no
noise read as skill."""
import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("prometheus_client")
pytest.importorskip("fastapi")

from mlfin.core.errors import ModelError  # noqa: E402
from mlfin.ingest import closing_times as hours  # noqa: E402
from mlfin.market.bars import as_bars  # noqa: E402
from mlfin.market.calendars import expected_bars  # noqa: E402
from mlfin.store.lake import Lake  # noqa: E402
from mlfin.datasets.labels import compute_labels  # noqa: E402
from mlfin.registry.registry import load_champion, registered_name  # noqa: E402
from mlfin.monitor.health import Asked, check_freshness, check_live  # noqa: E402
from mlfin.monitor.metrics import Metrics  # noqa: E402
from mlfin.monitor.score import live_figures  # noqa: E402
from mlfin.api import routes as api  # noqa: E402
from mlfin.api.contract import IngestRequest  # noqa: E402
from mlfin.api.intake import Batch  # noqa: E402
from mlfin.predict.live import Served, input_drift, live_records, match_live, write_records  # noqa: E402
from mlfin.predict.predictor import Predictor  # noqa: E402
from mlfin.api.service import Service  # noqa: E402

DAY, MINUTE = pd.Timedelta("1D"), pd.Timedelta("1min")


def served(label="fwd_ret_1", calendar="24/7", timeframe="1d", symbols=("AAA", "BBB"), task="classification",
           baseline=0.5, **more):
    data = {"timeframe": timeframe, "calendar": calendar, "symbols": list(symbols), "adjust": "none"}
    return Served("test-main", 1,
                  {"label": {"spec": label}, "task": task, "data": data, **more}, baseline, {})


def walk(symbols=("AAA", "BBB"), days=60, seed=0, calendar="24/7", timeframe="1d", end="2024-03-05"):
    rng, parts = np.random.default_rng(seed), []
    grid = expected_bars(calendar, timeframe, pd.Timestamp(end) - pd.Timedelta(days=2 * days), end).tail(days)
    for symbol in symbols:
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, len(grid))))
        parts.append(grid.assign(symbol=symbol, timeframe=timeframe, open=close, high=close * 1.01,
                                 low=close * 0.99, close=close, volume=5.0))
    return as_bars(pd.concat(parts, ignore_index=True))


def predicted(bars, p=0.6, delay=MINUTE, **more):
    return pd.DataFrame(dict(symbol=bars.symbol, timeframe=bars.timeframe, ts=bars.ts, model="test-main",
                             version=1, probability=p, prediction=np.nan,
                             threshold=0.5, label=1, created_at=bars.known_at + delay) | more)


def states(rows):
    return rows.state.value_counts().to_dict()


def test_no_outcome_before_its_bars_are_there():
    bars = walk(["AAA"], 20)
    said = predicted(bars)
    for there in range(1, 21):
        for horizon in (1, 5):
            rows = match_live(said[:there].reset_index(drop=True), bars[:there].reset_index(drop=True),
                              served(f"fwd_ret_{horizon}"), bars.known_at[there - 1])
            assert (rows.state == "done").sum() == max(there - horizon - 1, 0)
            assert rows.value.notna().sum() == max(there - horizon - 1, 0)
    known = match_live(said, bars, served(), bars.known_at[9])  # stored, but not to be known at that moment
    assert states(known) == {"done": 8, "open": 12}


def test_late_is_told_by_the_market():
    bars = walk(["AAA"], 40, calendar="XNYS", end="2024-03-05")
    friday = bars.index[bars.ts.dt.day_of_week == 4][2]
    said = predicted(bars)
    # over the weekend, before Monday's close
    said.loc[friday, "created_at"] = bars.known_at[friday + 1] - MINUTE
    # a day later, after the next one had closed
    said.loc[friday + 1, "created_at"] = bars.known_at[friday + 2] + MINUTE
    rows = match_live(said, bars, served(calendar="XNYS"), bars.known_at.iloc[-1])
    assert states(rows) == {"done": 37, "open": 2, "late": 1} and rows.state[friday] == "done"
    assert rows.state[friday + 1] == "late"
    filled = match_live(predicted(bars, created_at=pd.Timestamp("2024-06-01", tz="UTC")), bars,
                        served(calendar="XNYS"), pd.Timestamp("2024-06-02", tz="UTC"))
    assert states(filled) == {"late": 40}


def test_a_missing_bar_holds_its_neighbours_and_comes_or_is_given_up():
    bars = walk(["AAA"], 30)
    said, now = predicted(bars), bars.known_at.iloc[-1]
    lacking = bars.drop(index=27).reset_index(drop=True)
    rows = match_live(said, lacking, served(), now)
    assert rows.state[24:].tolist() == ["done", "held", "held", "open", "open", "open"]
    whole = match_live(said, bars, served(), now)
    assert states(whole) == {"done": 28, "open": 2}
    wrong = rows.value[[25, 26]].to_numpy() != whole.value[[25, 26]].to_numpy()
    assert wrong.all()                                                     # which is why they were held
    later = match_live(said, lacking, served(), now + 4 * DAY)
    assert later.state[24:].tolist() == ["done", "done", "done", "open", "open", "open"]


def test_labels_that_compare_symbols_wait_for_all():
    bars = walk(("AAA", "BBB", "CCC"), 30)
    said, now = predicted(bars), bars.known_at.max()
    short = bars[~((bars.symbol == "CCC") & (bars.ts >= bars.ts.max() - 2 * DAY))].reset_index(drop=True)
    rows = match_live(said, short, served("fwd_demean_1", symbols=("AAA", "BBB", "CCC")), now)
    newest = bars.ts.max() - 2 * DAY
    assert set(rows.state[(rows.ts == newest) & (rows.symbol != "CCC")]) == {"held"}
    assert set(match_live(said, bars, served("fwd_demean_1", symbols=("AAA", "BBB", "CCC")), now)
               .state[rows.ts == newest]) == {"done"}


def test_the_direction_is_the_labels_own():
    bars = walk(days=300)
    rows = match_live(predicted(bars), bars, served("barrier_5_3_3"), bars.known_at.max())
    done, labels = rows[rows.state == "done"], compute_labels(bars, "barrier_5_3_3")
    both = done.merge(labels, on=["symbol", "ts"], suffixes=("", "_label"))
    assert (both.actual == both.barrier_5_3_3_direction).all()
    assert ((both.value > 0) != (both.actual == 1)).any()


@pytest.fixture(scope="module")
def lived(champion, tmp_path_factory):
    "A lake in which the champion predicted the last 60 days, day by day, as they came."
    settings, bars = champion
    settings = settings.model_copy(update={"store": str(tmp_path_factory.mktemp("lived") / "lake")})
    lake, days = Lake(settings.store), sorted(bars.ts.unique())
    lake.write(bars[bars.ts < days[-60]].reset_index(drop=True))
    predictor, said = Predictor(settings, "main", lake, poll=0), []
    for day in days[-60:]:
        lake.push(bars[bars.ts == day].reset_index(drop=True))
        found = predictor.predict()
        rows = pd.DataFrame([{c: getattr(s, c) for c in ("symbol", "timeframe", "ts", "model", "version",
                                                         "probability", "prediction", "threshold", "label")}
                             for s in found])
        said.append(rows.assign(created_at=day + DAY + MINUTE))
    rows = pd.concat(said, ignore_index=True).astype(dict.fromkeys(
        ("probability", "prediction", "threshold"), "float64"))
    lake.write_predictions(rows)
    # asked again: each counts once
    lake.write_predictions(rows.assign(created_at=rows.created_at + 5 * MINUTE))
    return settings, bars, lake


def test_the_record_is_a_count_by_hand(lived):
    settings, bars, lake = lived
    record, = live_records(settings, "main", lake)
    stored, p, y = lake.read_predictions(), [], []
    for row in stored.itertuples():
        own = bars[bars.symbol == row.symbol].reset_index(drop=True)
        i = own.index[own.ts == row.ts][0]
        if i + 2 < len(own):
            p.append(row.probability)
            y.append(own.open[i + 2] > own.open[i + 1])
    p, y = np.array(p), np.array(y)
    assert len(stored) == 120 and record.scores["n"] == 116 == len(p) and record.scores["open"] == 4
    assert record.scores["late"] == 0
    assert record.scores["accuracy"] == pytest.approx(np.mean((p >= 0.5) == y))
    assert record.scores["brier"] == pytest.approx(np.mean((p - y)**2))
    assert record.scores["log_loss"] == pytest.approx(-np.mean(np.where(y, np.log(p), np.log(1 - p))))
    guess = load_champion(settings, "main").predictions.sort_values("ts", kind="stable").baseline.iloc[-1]
    assert record.scores["accuracy_baseline"] == pytest.approx(np.mean((guess >= 0.5) == y))
    assert (record.scores["accuracy_backtest"]
            == load_champion(settings, "main").manifest["metrics"]["accuracy"])
    assert record.scores["accuracy_low"] < record.scores["accuracy"] < record.scores["accuracy_high"]
    assert record.verdict[0] in ("open", "better")
    before = live_records(settings, "main", lake, now=bars.ts.max() - 20 * DAY)[0]
    assert before.scores["n"] == 116 - 2 * 21 and before.last < record.last


def test_a_look_writes_what_changed_and_no_more(lived):
    settings, bars, lake = lived
    # its inputs were never looked at: they are, all the same
    first = write_records(settings, "main", lake, drift=False)
    told, drift, at = live_figures(lake, registered_name(settings, "main"), 1)
    assert first == len(lake.read_metrics()) > 10 and told["n"] == 116 and at == bars.ts.max()
    assert set(drift) == set(load_champion(settings, "main").manifest["inputs"])
    assert all(v >= 0 for v in drift.values())
    # the same record is the same rows
    assert write_records(settings, "main", lake) == write_records(settings, lake, drift=False) == 0
    row = bars[bars.ts == bars.ts.max() - DAY].head(1).reset_index(drop=True)
    # a revised bar revises what was told of it
    lake.write(row.assign(open=row.open * 1.2, high=row.high * 1.3))
    assert write_records(settings, "main", lake) > 0
    assert live_figures(lake, registered_name(settings, "main"), 1)[0]["n"] == 116


def test_a_worker_shows_what_the_supervisor_wrote(lived):
    settings, bars, lake = lived
    write_records(settings, "main", lake)
    service = Service(settings, lake, Metrics())
    try:
        service.predictors.warm()
        service.gauges.measure()
        text = service.metrics.render()[0].decode()
    finally:
        service.close()
    for series in ('model_version{experiment="main",model="test-main"} 1.0',
                   'champion_outcomes{experiment="main"} 116.0',
                   'champion_unmatched{experiment="main",state="open"} 4.0',
                   'champion_refused{experiment="main"} 0.0'):
        assert series in text, series
    for name in ('champion_beside{experiment="main",of="low",score="accuracy"}',
                 'input_drift{experiment="main",input="returns"}',
                 'feature_age_seconds{experiment="main",timeframe="1d"}', 'bar_age_seconds{timeframe="1d"}',
                 'champion_mae{experiment="main"} NaN'):
        assert name in text, name


def test_health_says_what_the_record_shows(lived):
    settings, bars, lake = lived
    name = registered_name(settings, "main")
    write_records(settings, "main", lake)
    asked = Asked(settings, "main", lake, None)
    state, words, _ = check_live(asked)
    assert state == "ok" and "116 outcomes" in words
    bad = {"n": 400, "worth": 380, "accuracy": 0.4, "gain": -0.1, "gain_low": -0.15, "gain_high": -0.05}
    at = pd.Timestamp.now("UTC").as_unit("us")
    lake.write_metrics(pd.DataFrame([(name, 1, f"live_{k}", v, at) for k, v in bad.items()],
                                    columns=["model", "version", "metric", "value", "at"]))
    state, words, remedy = check_live(asked)
    assert state == "warn" and "worse than the baseline" in words and "mlfin models live" in remedy
    state, words, _ = check_freshness(asked)
    assert state == "warn" and "main: 1d closed" in words and "AAA" in words


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_supervisor_scores(lived):
    from mlfin.api.background import look_after

    settings, bars, lake = lived
    fresh = Lake(str(lake.path) + "-again")
    fresh.write(bars)
    fresh.write_predictions(lake.read_predictions())
    stop = threading.Event()
    its = settings.model_copy(update={"store": str(fresh.path), "serve_workers": 1})
    thread = threading.Thread(target=look_after, args=(its, stop), kwargs=dict(every=0.2, score=0.2))
    thread.start()
    try:
        for _ in range(600):
            if live_figures(fresh, registered_name(settings, "main"), 1)[0]: break
            stop.wait(0.2)
        assert live_figures(fresh, registered_name(settings, "main"), 1)[0]["n"] == 116
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


def test_a_look_is_taken_where_something_changed(tmp_path, make_bars, monkeypatch):
    from mlfin.core.settings import load_settings
    from mlfin.api import background

    settings = load_settings("test").model_copy(update={"store": str(tmp_path / "lake"),
                                                        "mlflow": f"sqlite:///{tmp_path / 'models.db'}"})
    lake, looks, stop, whole = Lake(tmp_path / "lake"), [], threading.Event(), [False, True, True, True]
    monkeypatch.setattr(background, "_look",
                        lambda settings, drift, stop: (looks.append(drift), whole[len(looks) - 1])[1])
    monkeypatch.setattr(background.time, "time", lambda: 0.0)              # the same quarter of an hour
    rounds = []

    def wait(seconds):
        rounds.append(seconds)
        if len(rounds) == 2: (tmp_path / "models.db").touch()
        if len(rounds) == 6: lake.push(make_bars("AAA", 1))
        return len(rounds) > 8

    monkeypatch.setattr(stop, "wait", wait)
    background._score(settings, stop, 0.0)
    # no models yet; a look that broke off is repeated; nothing new; a new bar; nothing new
    assert looks == [True, True, False]


@pytest.mark.parametrize("told", ["fails", "stops"])
def test_a_look_that_fails_or_is_stopped_was_none(told, lived, tmp_path):
    from mlfin.api import background

    settings, stop = lived[0], threading.Event()
    if told == "stops": stop.set()
    else:
        (tmp_path / "models.db").write_text("no database")
        settings = settings.model_copy(update={"mlflow": f"sqlite:///{tmp_path}/models.db"})
    begin = time.monotonic()
    assert background._look(settings, False, stop) is False
    assert told == "fails" or time.monotonic() - begin < 5


def test_who_serves_is_told_after_every_look(lived):
    settings, _, lake = lived
    looks = []
    predictor = Predictor(settings, "none", lake, poll=0, looked=looks.append)
    with pytest.raises(ModelError):
        predictor.refresh()
    assert looks == [predictor] and predictor.serving is None
    service = Service(settings, lake, Metrics())
    try:
        own = service.predictors.get("main")
        own.refresh()
        own.refused[7] = "seal", "it learnt from other features"
        own.refresh()
        text = service.metrics.render()[0].decode()
        assert 'champion_refused{experiment="main"} 1.0' in text
        assert 'model_version{experiment="main",model="test-main"} 1.0' in text
    finally:
        service.close()


def test_the_command_says_it_as_a_table_and_as_json(lived, monkeypatch, plain_terminal):
    from typer.testing import CliRunner

    from mlfin.cli import model_commands

    settings, bars, lake = lived
    monkeypatch.setattr(model_commands, "load_profile", lambda profile: settings)
    monkeypatch.setenv("COLUMNS", "200")
    told = json.loads(CliRunner().invoke(model_commands.models_app, ["live", "--json"]).stdout)["records"]
    assert [(r["experiment"], r["version"], r["n"], r["open"]) for r in told] == [("main", 1, 116, 4)]
    text = CliRunner().invoke(model_commands.models_app, ["live"]).stdout
    assert "116 outcomes" in text and f"{told[0]['accuracy']:.4g}" in text and "baseline" in text
    assert told[0]["verdict"].split(":")[0] in " ".join(text.split())


def test_what_moved_is_seen(champion):
    settings, bars = champion
    loaded = load_champion(settings, "main")
    own = Served("test-main", 1, loaded.manifest, 0.5, {})
    sketch = loaded.manifest["sketch"]
    assert set(sketch) == set(loaded.manifest["inputs"])

    class Store:
        def __init__(self, bars): self.bars = bars
        def series(self):
            return self.bars.groupby(["symbol", "timeframe"], as_index=False).ts.max().rename(
                columns={"ts": "last"})
        def read(self, symbols, timeframe, start=None, adjust="none"):
            return self.bars[self.bars.ts >= start].reset_index(drop=True)

    calm = input_drift(Store(bars), own)
    # five times as wild
    close = bars.close.iloc[0] * np.exp(np.cumsum(np.random.default_rng(5).normal(0, 0.05, len(bars))))
    wild = input_drift(
        Store(as_bars(bars.assign(open=close, high=close * 1.01, low=close * 0.99, close=close))), own)
    assert calm["returns"] < 0.2 < 0.25 < wild["returns"] and wild["returns"] > sketch["returns"]["usual"]


def test_each_pushed_bar_closes_by_its_own_market(tmp_path, champion):
    settings, _ = champion
    lake = Lake(tmp_path / "lake")
    for symbol, calendar in (("AAPL", "XNYS"), ("BTCUSD", "24/7")):
        lake.write(walk([symbol], 200, calendar=calendar, end="2024-03-01"))
    service = Service(
        settings.model_copy(update={"root": tmp_path, "mlflow": f"sqlite:///{tmp_path}/none.db"}),
        lake, Metrics())
    service.predictors._trained_on["tokyo"] = None, ("1h", frozenset({"7203"}), "XTKS")
    bars = [("AAPL", "1d", "2024-03-04T14:30Z", "2024-03-04T21:00Z"),
            ("BTCUSD", "1d", "2024-03-04T00:00Z", "2024-03-05T00:00Z"),
            ("NEW", "1d", "2024-03-04T14:30Z", "2024-03-05T14:30Z"),
            ("7203", "1h", "2024-03-04T02:00Z", "2024-03-04T02:30Z"),
            ("BTCUSD", "1h", "2024-03-04T02:00Z", "2024-03-04T03:00Z"),
            ("AAPL", "1d", "2024-03-11T13:30Z", "2024-03-11T20:00Z")]
    numbers = dict(open=1.0, high=2.0, low=1.0, close=1.5, volume=3.0)
    request = IngestRequest(bars=[dict(symbol=s, timeframe=t, ts=at, **numbers) for s, t, at, _ in bars],
                            source="test")
    try:
        assert service.bars.ingest(request, "ann").result(30).accepted == len(bars)
        batch = Batch(
            {"symbol": ["AAPL", "BTCUSD"], "ts": pd.to_datetime(["2024-03-05T14:30Z", "2024-03-05T00:00Z"]),
             **{k: np.full(2, v) for k, v in numbers.items()}}, "1d", "test")
        assert service.bars.ingest(batch, "ann").result(30).accepted == 2
        bars += [("AAPL", "1d", "2024-03-05T14:30Z", "2024-03-05T21:00Z"),
                 ("BTCUSD", "1d", "2024-03-05T00:00Z", "2024-03-06T00:00Z")]
        for symbol, timeframe, at, closes in bars:
            row = lake.read([symbol], timeframe, start=at, end=at).iloc[0]
            assert row.known_at == pd.Timestamp(closes), (symbol, timeframe, at)
        assert "intake_bars_waiting 0.0" in service.metrics.render()[0].decode()
    finally:
        service.close()


def test_the_loop_goes_on_while_bars_tell_when_they_close(tmp_path, champion, monkeypatch):
    settings, _ = champion
    lake, fitting, numbers = (Lake(tmp_path / "lake"), hours.infer_calendar,
                              dict(open=1.0, high=2.0, low=1.0, close=1.5, volume=3.0))
    lake.write(walk(["AAPL"], 200, calendar="XNYS", end="2024-03-01"))
    service = Service(
        settings.model_copy(update={"root": tmp_path, "mlflow": f"sqlite:///{tmp_path}/none.db"}),
        lake, Metrics())
    asked = SimpleNamespace(api=SimpleNamespace(service=service), person=SimpleNamespace(name="ann"))
    monkeypatch.setattr(hours, "infer_calendar", lambda bars: time.sleep(1.0) or fitting(bars))

    def request(*bars):
        return IngestRequest(bars=[dict(symbol=s, timeframe=t, ts=at, **numbers) for s, t, at in bars],
                             source="test")

    async def work():
        gaps, done = [], []

        async def beat():
            while len(done) < 3:
                at = time.perf_counter()
                await asyncio.sleep(0.01)
                gaps.append(time.perf_counter() - at)

        async def post(name, body):
            assert (await api.post_ingest(body, asked)).stored == len(body.bars)
            done.append(name)

        assert service.intake.depth() == 0  # opened before: that is no part of it
        slow = request(("AAPL", "1d", "2024-03-04T14:30Z"), ("BTCUSD", "1m", "2024-03-04T02:00Z"))
        await asyncio.gather(
            beat(), post("slow", slow), post("same", request(("AAPL", "1d", "2024-03-04T14:30Z"))), post(
                "quick", request(("AAPL", "1m", "2024-03-04T14:30Z"), ("BTCUSD", "5m", "2024-03-04T14:30Z"))))
        return max(gaps), done

    try:
        with ThreadPoolExecutor(1) as thread:  # another test of this worker may keep a loop in this one
            gap, done = thread.submit(asyncio.run, work()).result(60)
        assert gap < 0.8 and done == ["quick", "slow", "same"]
        assert (lake.read(["AAPL"], "1d", start="2024-03-04").known_at.iloc[0]
                == pd.Timestamp("2024-03-04T21:00Z"))
    finally:
        service.close()


def test_a_bar_that_has_not_closed_is_set_aside_whatever_its_neighbours_are(tmp_path, champion, monkeypatch):
    settings, _ = champion
    lake = Lake(tmp_path / "lake")
    lake.write(walk(["AAPL"], 200, calendar="XNYS", end="2024-03-01"))
    service = Service(
        settings.model_copy(update={"root": tmp_path, "mlflow": f"sqlite:///{tmp_path}/none.db"}),
        lake, Metrics())
    now, numbers = pd.Timestamp.now("UTC"), dict(open=1.0, high=2.0, low=1.0, close=1.5, volume=3.0)
    closed = expected_bars("XNYS", "1d", now - 10 * DAY, now)
    last = closed[closed.known_at <= now].iloc[-1]
    forming = now.floor("D")
    pushed = [dict(symbol=s, timeframe="1d", ts=ts, **numbers)
              for s, ts in (("AAPL", last.ts), ("COIN", forming))]
    request = IngestRequest(bars=pushed, source="t")
    try:
        taken = service.bars.ingest(request, "ann").result(30)
        assert (taken.accepted, taken.quarantined) == (1, 1) and taken.reasons[0]["symbol"] == "COIN"
        assert "not closed" in taken.reasons[0]["reason"]
    finally:
        service.close()
