"""The service says what research says, bit for bit; a champion is swapped whole or not at all; what was
recorded is there."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest

import mlfin
from mlfin.core.errors import DataError, MlfinError, ModelError
from mlfin.core.provenance import hash_file, read_json, write_json
from mlfin.market.actions import as_actions
from mlfin.market.bars import as_bars
from mlfin.facts.facts import as_facts
from mlfin.store.lake import Lake
from mlfin.feature_store.published_facts import published_facts
from mlfin.features.spec import feature
from mlfin.feature_store.feature_store import FeatureStore
from mlfin.features.table import compute_features
from mlfin.registry import gate, registry as registry_module
from mlfin.datasets.inputs import model_inputs
from mlfin.datasets.label_names import parse_label
from mlfin.registry.registry import (code_state, set_champion, find_version, read_manifest, register,
                                     rollback, write_verdict)
from mlfin.registry.sealing import rotate_seals
from mlfin.monitor.metrics import Metrics
from mlfin.predict import predictor as serving
from mlfin.predict.calibration import calibrate, intervals_of
from mlfin.predict.champion import Champion, decision_threshold, rows_of_bars
from mlfin.predict.feature_states import FeatureStates
from mlfin.predict.messages import Bar, Prediction
from mlfin.predict.outcomes import Recorder, outcomes, tally_outcomes
from mlfin.predict.predictor import Predictor
from mlfin.api.service import Service
from mlfin.predict.stream import Stream

from ..fixtures import left_run

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "market" / "freqtrade" / "UNITTEST_BTC-1m.feather"

SPECS = ["returns", "rsi_14", "obv", "sma_20", "volume_ma_20", "macd_12_26_9"]


def promoted(settings, experiment, replacing=None):
    "The newest run's model, accepted as the gate does where all is well."
    made = register(settings, experiment)
    write_verdict(settings, made, "passed", "all is well", {"checks": []})
    return set_champion(settings, experiment, made.number, replacing)


def another(settings, experiment, i, replacing):
    "A version that differs in its manifest alone."
    path = settings.data_dir(experiment) / "training.json"
    write_json({**read_json(path), "rows": 1000 + i}, path)
    return promoted(settings, experiment, replacing)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    "One MLflow store, with a champion of two symbols: making them costs seconds."
    found = left_run.settings_at(tmp_path_factory.mktemp("serving"))
    left_run.leave(found, "main", specs=SPECS,
                   bars=left_run.bars_that_remember(days=700, symbols=("AAA", "BBB")))
    promoted(found, "main")
    return found


@pytest.fixture(scope="module")
def bars():
    return left_run.bars_that_remember(days=700, symbols=("AAA", "BBB"))


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


@pytest.fixture
def make(settings, lake):
    "Predictors of the champion on a lake of one's own, closed at the end."
    made = []

    def new(experiment="main", **more):
        made.append(Predictor(settings, experiment, store=lake, **{"poll": 0, **more}))
        return made[-1]

    yield new
    for p in made:
        p.close()


def inputs_of(bars, specs=SPECS):
    "What research computes, of all bars at once."
    return model_inputs(compute_features(bars, specs, short="nan"), bars, specs)


def at(bars, *days):
    "Bars of some days, by their place."
    times = np.sort(bars.ts.unique())
    return bars[bars.ts.isin([times[d] for d in days])].reset_index(drop=True)


def replay(predictor, lake, bars, first):
    """Push bar by bar from a day on; what was said each time, beside what the batch says, and the champion's
    own model of one row."""
    seen = inputs_of(bars, predictor.champion.manifest["features"]).dropna().reset_index(drop=True)
    loaded, names = predictor.champion.loaded, predictor.champion.manifest["inputs"]
    batch = pd.Series(loaded.predict(seen), index=pd.MultiIndex.from_frame(seen[["symbol", "ts"]]))
    own = seen.set_index(["symbol", "ts"])[names]
    rows = []
    for ts in np.sort(bars.ts.unique())[first:]:
        new = bars[bars.ts == ts].reset_index(drop=True)
        lake.push(new)
        for said in predictor.predict():
            assert pd.Timestamp(said.ts) == ts and not said.reason
            key = said.symbol, pd.Timestamp(said.ts)
            row = predictor.champion.stream.sync()[said.symbol]
            np.testing.assert_array_equal(row.inputs, own.loc[key].to_numpy())
            rows.append((said.probability, batch.loc[key], *key))
    return pd.DataFrame(rows, columns=["live", "batch", "symbol", "ts"])


# --- parity


def test_bar_by_bar_is_the_batch(make, lake, bars):
    "Inputs and a linear model's probabilities, to the last bit: one row, and among all."
    lake.write(at(bars, *range(640)))
    p = make()
    found = replay(p, lake, bars, 640)
    assert len(found) == 120
    np.testing.assert_array_equal(found.live, found.batch)
    seen = inputs_of(bars).set_index(["symbol", "ts"]).loc[list(zip(found.symbol, found.ts, strict=True))]
    model, names = p.champion.loaded.model, p.champion.manifest["inputs"]
    single = [model.predict_proba(seen[names].iloc[[i]])[0, 1] for i in range(0, 120, 6)]
    assert found.live.iloc[::6].tolist() == single


def test_bar_by_bar_trees_are_the_batch_to_the_last_bit(settings, make, lake, bars):
    left_run.leave(settings, "trees", specs=SPECS, names=("lightgbm",), bars=bars)
    promoted(settings, "trees")
    lake.write(at(bars, *range(680)))
    p = make("trees")
    found = replay(p, lake, bars, 680)
    assert p.info()["way"] == "quick" and len(found) == 40
    np.testing.assert_array_equal(found.live, found.batch)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_file(),
                    reason="the real minutes lie in shared/data beside the checkout, and are not there")
def test_ten_thousand_real_minutes_are_the_batch(settings, make, lake):
    raw = pd.read_feather(REAL)
    ts = raw["date"].dt.tz_convert("UTC").astype("datetime64[us, UTC]")
    minutes = as_bars(raw[["open", "high", "low", "close", "volume"]].assign(
        symbol="BTC", timeframe="1m", ts=ts, known_at=ts + pd.Timedelta("1min")))
    minutes = minutes.drop_duplicates("ts").tail(min(len(minutes), 13_000)).reset_index(drop=True)
    assert len(minutes) > 10_500
    left_run.leave(settings, "minutes", specs=SPECS, names=("lightgbm",), bars=minutes.head(3_000),
                   label="fwd_ret_5")
    promoted(settings, "minutes")
    first = len(minutes) - 10_000
    lake.write(minutes.head(first))
    found = replay(make("minutes"), lake, minutes, first)
    assert len(found) == 10_000
    np.testing.assert_array_equal(found.live, found.batch)


def test_given_bars_say_what_the_store_says(make, lake, bars):
    lake.write(bars)
    p = make()
    stored, given = p.predict(), p.predict_bars(bars)
    assert [s.probability for s in stored] == [g.probability for g in given]
    assert [s.price for s in stored] == [g.price for g in given]
    some = [
        Bar(symbol=b.symbol, timeframe="1d", ts=b.ts.to_pydatetime(),
            **{c: getattr(b, c) for c in ("open", "high", "low", "close", "volume")})
        for b in at(bars, *range(300, 700)).itertuples()]
    short = p.predict_bars(some)
    assert short[0].settled and short[0].probability == pytest.approx(stored[0].probability, abs=1e-9)
    assert not p.predict_bars([b for b in some if b.symbol == "BBB"][-40:])[0].settled


def test_after_a_restart_the_same(make, lake, bars):
    lake.write(at(bars, *range(600)))
    one = make()
    one.predict()
    for day in range(600, 616):
        lake.push(at(bars, day))
        if day % 7 == 0:
            lake.flush()
        one.predict()
    assert [s.probability for s in one.predict()] == [s.probability for s in make().predict()]


# --- what comes to the store


def test_a_bar_that_is_sent_again_changes_nothing_and_a_revised_one_does(make, lake, bars):
    lake.write(at(bars, *range(690)))
    p = make()
    first = p.champion.stream.sync()
    lake.push(at(bars, *range(680, 690)))
    assert all(p.champion.stream.sync()[n] is row for n, row in first.items())
    old = at(bars, 685).query("symbol == 'AAA'").reset_index(drop=True)
    lake.push(old.assign(close=old.close * 1.01, high=old.high * 1.02))
    rows, now = p.champion.stream.sync(), lake.read(timeframe="1d")
    want = inputs_of(now).groupby("symbol").last()[p.champion.manifest["inputs"]]
    np.testing.assert_array_equal([rows[n].inputs for n in want.index], want.to_numpy())
    assert rows["BBB"] is first["BBB"] and not np.array_equal(rows["AAA"].inputs, first["AAA"].inputs)
    lake.flush()
    assert p.champion.stream.sync()["AAA"] is rows["AAA"]


@pytest.mark.parametrize("how", ["pushed", "written", "pushed and folded", "in between and folded"])
def test_bars_of_others_count_however_they_come(make, lake, bars, how):
    late = at(bars, 650).query("symbol == 'BBB'").reset_index(drop=True)
    early = bars[~((bars.ts == late.ts[0]) & (bars.symbol == "BBB"))]
    lake.write(early[early.ts < np.sort(bars.ts.unique())[690]].reset_index(drop=True))
    p, other, rest = make(), Lake(lake.path), at(bars, *range(690, 700))
    p.predict()
    if how == "written":
        other.write(pd.concat([rest, late], ignore_index=True).sort_values(
            ["symbol", "ts"], ignore_index=True))
    elif how == "in between and folded":
        other.push(rest)
        p.predict()
        other.push(late)
        other.flush()
        other.push(rest)
    else:
        other.push(rest)
        other.push(late)
        if how == "pushed and folded":
            other.flush()
    rows = p.champion.stream.sync()
    want = inputs_of(bars).groupby("symbol").last()[p.champion.manifest["inputs"]]
    np.testing.assert_array_equal([rows[n].inputs for n in want.index], want.to_numpy())


@pytest.mark.parametrize("step", ["build", "extend"])  # of the beginning, and of following
@pytest.mark.parametrize("how", ["written", "pushed and folded"])
def test_bars_that_come_late_while_a_stream_computes_are_read(lake, bars, monkeypatch, step, how):
    times = np.sort(bars.ts.unique())
    missing = (bars.symbol == "BBB") & bars.ts.isin(times[640:643])
    early, late, other = bars[~missing], bars[missing].reset_index(drop=True), Lake(lake.path)
    lake.write(early[early.ts < times[690]].reset_index(drop=True))
    stream, compute = Stream(lake, SPECS, "1d"), getattr(FeatureStates, step)

    def meanwhile(*args):
        compute(*args)
        monkeypatch.setattr(FeatureStates, step, compute)
        if how == "written":
            other.write(late)
        else:
            other.push(late)
            other.flush()

    monkeypatch.setattr(FeatureStates, step, meanwhile)
    for day in range(690, 695):
        stream.sync()
        other.push(at(bars, day))
        other.flush()
    assert getattr(FeatureStates, step) is compute  # they came
    rows, want = stream.sync(), inputs_of(at(bars, *range(695))).groupby("symbol").last()[list(stream.inputs)]
    np.testing.assert_array_equal([rows[n].inputs for n in want.index], want.to_numpy())


def test_a_split_changes_the_past_and_not_what_is_said_of_it(lake, bars):
    own = bars[bars.symbol == "AAA"].reset_index(drop=True)
    lake.write(own.head(650))
    stream = Stream(lake, SPECS, "1d", adjust="total")
    stream.sync()
    raw = (
        own.iloc[650:].assign(**{c: lambda b, c=c: b[c] / 2 for c in ("open", "high", "low", "close")},
                              volume=lambda b: b.volume * 2).reset_index(drop=True))
    lake.write_actions(as_actions([("AAA", raw.ts[0], "split", 2.0, raw.ts[0], "made")]))
    for day in range(0, 50, 10):
        lake.push(raw.iloc[day : day + 10].reset_index(drop=True))
        rows, now = stream.sync(), lake.read(["AAA"], "1d", adjust="total")
        np.testing.assert_array_equal(rows["AAA"].inputs,
                                      inputs_of(now).iloc[-1][list(stream.inputs)].to_numpy(dtype=float))
    assert rows["AAA"].close == raw.close.iloc[-1] and rows["AAA"].ts == own.ts.iloc[-1]


VALUED = ["returns", "book_to_price"]


@pytest.fixture
def valued(lake, bars):
    "Two companies with equity and shares, and a stream of what they are worth; (stream, publish, want)."
    times = np.sort(bars.ts.unique())

    def publish(symbol, value, day, name="equity", store=lake):
        at = times[day] + pd.Timedelta("12h")
        store.write_facts(as_facts([(symbol, name, value, None,
                                     (at - pd.Timedelta("9D")).strftime("%Y-%m-%d"), at, "10-Q")]))

    def facts(store=lake):
        return published_facts(VALUED, store, ["AAA", "BBB"], actions=store.read_actions(["AAA", "BBB"]))

    def want():
        now = lake.read(timeframe="1d")
        table = compute_features(now, VALUED, short="nan", facts=facts())
        return model_inputs(table, now, VALUED).groupby("symbol").last()[list(stream.inputs)]

    for symbol in ("AAA", "BBB"):
        publish(symbol, 1000.0, 600)
        publish(symbol, 500.0, 600, "shares")
    lake.write(at(bars, *range(640)))
    stream = Stream(lake, VALUED, "1d", facts=facts)
    return stream, publish, want


def same(rows, want):
    np.testing.assert_array_equal([rows[n].inputs for n in want.index], want.to_numpy())
    return True


def test_facts_that_are_published_count_with_the_bars_that_follow(valued, lake, bars):
    stream, publish, want = valued
    first = stream.sync()
    publish("AAA", 2000.0, 641, store=Lake(lake.path))
    assert all(stream.sync()[n] is row for n, row in first.items())
    seen = {}
    for day in range(640, 645):
        lake.push(at(bars, day))
        assert same(stream.sync(), want())
        seen[day] = stream.sync()["AAA"].inputs[1] * stream.sync()["AAA"].close
    # known during day 641, so at its end
    assert seen[640] == pytest.approx(2.0) and seen[641] == pytest.approx(4.0) == seen[644]


def test_facts_of_before_change_what_is_said_of_their_symbol_without_a_bar(valued, monkeypatch):
    stream, publish, want = valued
    first = stream.sync()
    assert stream.cached_or_none() is first
    publish("AAA", 3000.0, 630)  # stored ten days after its day
    monkeypatch.setattr(stream.facts, "due", 0.0)
    assert stream.cached_or_none() is None
    rows = stream.sync()
    assert same(rows, want()) and rows["AAA"].inputs[1] > first["AAA"].inputs[1]
    assert rows["BBB"] is first["BBB"] and stream.cached_or_none() is rows
    publish("BBB", 4000.0, 650)  # of a day that no bar has come to
    monkeypatch.setattr(stream.facts, "due", 0.0)
    assert all(stream.sync()[n] is row for n, row in rows.items())


def test_splits_count_among_facts_though_bars_are_not_adjusted(valued, lake, bars):
    stream, _, want = valued
    before = stream.sync()["AAA"]
    lake.write_actions(as_actions([("AAA", at(bars, 639).ts[0], "split", 2.0, at(bars, 620).ts[0], "made")]))
    assert stream.cached_or_none() is None and same(stream.sync(), want())
    assert stream.sync()["AAA"].inputs[1] != before.inputs[1]


def test_facts_are_taken_in_though_the_first_try_fails(valued, monkeypatch):
    stream, publish, want = valued
    stream.sync()
    publish("AAA", 3000.0, 630)
    monkeypatch.setattr(stream.facts, "due", 0.0)
    with monkeypatch.context() as broken:
        broken.setattr(stream.feed, "history", lambda *args: (_ for _ in ()).throw(DataError("away")))
        with pytest.raises(DataError, match="away"):
            stream.sync()
    assert stream.cached_or_none() is None and same(stream.sync(), want())


def test_given_bars_are_said_with_the_facts_of_now(valued, lake, bars):
    stream, publish, want = valued
    stream.sync()
    publish("AAA", 3000.0, 630)
    lake.push(at(bars, 640))
    given = {row.symbol: row for row in rows_of_bars(stream, at(bars, *range(641)))}
    assert same(given, want())


def test_facts_of_a_lake_that_did_not_change_are_not_read(valued, lake, bars, monkeypatch):
    own, publish, want = valued
    asked, store = [], {"facts": own.given["facts"]()}
    stream = Stream(lake, VALUED, "1d", facts=lambda: asked.append(1) or store["facts"])
    first = stream.sync()
    monkeypatch.setattr(stream.facts, "due", 0.0)
    assert stream.sync() is first and stream.cached_or_none() is first and len(asked) == 1
    publish("AAA", 3000.0, 630)
    store["facts"] = own.given["facts"]()
    lake.push(at(bars, 640))
    assert same(stream.sync(), want()) and len(asked) == 2
    # another thing than the lake says so: it is asked with the bars
    store["facts"] = store["facts"].assign(value=store["facts"].value * 2)
    monkeypatch.setattr(stream.facts, "due", 0.0)
    lake.push(at(bars, 641))
    stream.sync()
    assert len(asked) == 3 and stream.states.context["facts"] is store["facts"]


def test_another_store_is_asked_for_facts_now_and_then(valued, lake, bars, monkeypatch):
    class Plain:
        def __getattr__(self, name):
            return getattr(lake, name)

    own, publish, want = valued
    asked = []
    stream = Stream(Plain(), VALUED, "1d", facts=lambda: asked.append(1) or own.given["facts"]())
    stream.sync()
    publish("AAA", 3000.0, 630)
    for day in range(640, 644):
        lake.push(at(bars, day))
        stream.sync()
    assert len(asked) == 1
    monkeypatch.setattr(stream.facts, "due", 0.0)
    assert same(stream.sync(), want()) and len(asked) == 2


def test_features_that_compare_symbols_wait_for_all_of_them(registry, lake, bars):
    feature("share", unit="ratio", lookback=0, kind="panel")(lambda panel: panel.values("close") / np.nansum(
        panel.values("close"), axis=1, keepdims=True))
    lake.write(at(bars, *range(640)))
    stream, specs = Stream(lake, ["share", "rsi_14"], "1d"), ["share", "rsi_14"]
    stream.sync()
    for day in range(640, 645):
        for symbol in ("BBB", "AAA"):
            lake.push(at(bars, day).query(f"symbol == {symbol!r}").reset_index(drop=True))
            rows = stream.sync()
        want = inputs_of(lake.read(timeframe="1d"), specs).groupby("symbol").last()[list(stream.inputs)]
        np.testing.assert_array_equal([rows[n].inputs for n in want.index], want.to_numpy())


def test_another_kind_of_store_is_asked_each_time(lake, bars):
    class Plain:
        "A lake without its cheap signs, as a store on a server is."

        asked = 0

        def __getattr__(self, name):
            return getattr(lake, name)

        def read(self, *args, **kwargs):
            self.asked += 1
            return lake.read(*args, **kwargs)

    store = Plain()
    lake.write(at(bars, *range(680)))
    stream = Stream(store, SPECS, "1d")
    stream.sync()
    for day in range(680, 685):
        lake.push(at(bars, day))
        rows = stream.sync()
        if day == 682:
            lake.flush()
    want = inputs_of(at(bars, *range(685))).groupby("symbol").last()[list(stream.inputs)]
    np.testing.assert_array_equal([rows[n].inputs for n in want.index], want.to_numpy())
    assert store.asked == 6


# --- what is said


def test_nothing_is_made_up(make, lake, bars):
    lake.write(at(bars, *range(20)))
    said = make().predict()
    assert [s.probability for s in said] == [None, None]
    assert all("too few bars: there are 20" in s.reason for s in said)
    assert all(s.label is None and s.interval is None and s.price is None for s in said)
    assert all(Prediction.model_validate(s.model_dump()) for s in said)


def test_an_empty_store_says_nothing_and_then_something(make, lake, bars):
    p = make()
    assert p.predict() == []
    with pytest.raises(DataError, match="`symbol` must be a known name"):
        p.predict("AAA")
    lake.push(at(bars, *range(60)))
    assert len(p.predict()) == 2


def test_age_and_staleness_are_told(make, lake):
    now = pd.Timestamp.now("UTC").normalize()
    fresh = left_run.bars_that_remember(days=100, symbols=("AAA",), last=now - pd.Timedelta("1D"))
    lake.write(fresh)
    lake.write(left_run.bars_that_remember(days=100, symbols=("BBB",), last=now - pd.Timedelta("6D")))
    said = {s.symbol: s for s in make().predict()}
    assert said.keys() <= {"AAA", "BBB"} and not said["AAA"].stale and said["BBB"].stale
    assert 0 <= said["AAA"].age_seconds < 86_400 + 60 and said["BBB"].age_seconds > 4 * 86_400


def test_a_correction_makes_a_bar_no_newer(make, lake, bars):
    lake.write(bars)
    predictor = make()
    (before,) = predictor.predict("AAA")
    newest = predictor.champion.newest
    last = bars[bars.symbol == "AAA"].tail(1)
    lake.push(last.assign(volume=last.volume + 1, known_at=pd.Timestamp.now("UTC").floor("us"))
              .reset_index(drop=True))
    (after,) = predictor.predict("AAA")
    assert after.ts == before.ts and after.known_at > before.known_at
    assert after.age_seconds >= before.age_seconds > 86_400 and (before.stale, after.stale) == (True, True)
    assert predictor.champion.newest == newest == bars.known_at.max()


def test_a_prediction_stands_beside_the_guess_and_its_interval(make, lake, bars):
    lake.write(bars)
    said = make().predict()[0]
    assert Prediction.model_validate(said.model_dump()) == said
    assert Prediction.model_validate_json(said.model_dump_json())
    assert said.kind == "direction" and said.label == int(said.probability > 0.5)
    assert 0.4 < said.baseline < 0.6 and said.price_baseline == said.close
    assert said.interval.low <= said.frequency <= said.interval.high
    assert said.price_interval.low <= said.price <= said.price_interval.high


def test_intervals_hold_what_they_say():
    "Frequencies and errors that are made to be known."
    rng, n = np.random.default_rng(0), 6_000
    p = rng.uniform(0.2, 0.8, n)
    made = pd.DataFrame(
        dict(
            ts=pd.date_range("2020-01-01", periods=n, freq="h", tz="UTC"),
            probability=p,
            baseline=0.5,
            actual=(rng.random(n) < p).astype(float),
            forward_return=rng.normal(0, 0.01, n),
        )
    )
    found = calibrate(made)
    for q in (0.25, 0.5, 0.75):
        group = found.group(q)
        assert group["low"] - 0.05 < q < group["high"] + 0.05 and group["high"] - group["low"] < 0.15
        assert group["least"] == pytest.approx(-0.01645, abs=0.002)
        assert group["most"] == pytest.approx(0.01645, abs=0.002)
    values = calibrate(made.drop(columns="probability").assign(prediction=p, actual=p + rng.normal(0, 2, n)))
    assert values.group(0.5)["error"] == pytest.approx(3.29, abs=0.35) # nine tenths of |N(0, 2)|
    assert calibrate(made.head(30)).group(0.5) == {}


LABELS = ("fwd_ret_5", "fwd_log_1", "fwd_close_3", "barrier_20_2_1", "next_close")


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("kind", ["calibrated", "far off", "always", "never", "one value", "wild", "biased"])
def test_every_interval_contains_the_number_it_belongs_to(task, label, kind):
    "Whatever the model says of a row, also where it was wrong all the time."
    rng, n = np.random.default_rng(3), 1_200
    p = rng.uniform(0.3, 0.5, n) if kind != "one value" else np.full(n, 0.4)
    chance = {"far off": p + 0.3, "always": p + 1, "never": p - 1}.get(kind, p)
    value = (rng.standard_t(1.2, n) * 0.01 if kind == "wild"
             else rng.normal(0.05 if kind == "biased" else 0.0, 0.01, n))
    value, said = np.clip(value, -0.9, 9.0), "probability" if task == "classification" else "prediction"
    rows = pd.DataFrame({"ts": pd.date_range("2020-01-01", periods=n, freq="h", tz="UTC"), "baseline": 0.4,
                         "forward_return": value,
                         "actual": (rng.random(n) < chance).astype(float) if said == "probability" else value,
                         said: p if said == "probability" else rng.normal(0, 0.01, n)})
    calibration = calibrate(rows)
    for x in (*rows[said].iloc[:40], 0.0, 1.0, float(rows[said].max()), float(rows[said].min())):
        told = intervals_of(calibration.group(x), x, task == "classification", 187.2, parse_label(label))
        # nothing like it was ever said
        if told["interval"] is None and kind == "one value": continue
        number = told["frequency"] if said == "probability" else x
        assert told["interval"].low <= number <= told["interval"].high
        if (price := told["price"]) is not None:
            assert told["price_interval"].low <= price <= told["price_interval"].high
        # the price goes where the prediction goes
        if said == "prediction" and price is not None: assert (price >= 187.2) == (x >= 0)
        if said == "prediction": assert told["frequency"] is None


def test_without_a_threshold_what_serves_takes_the_base_rate_of_its_own_training():
    def of(task="classification", **rule):
        return decision_threshold({"task": task, "thresholds": rule or None, "baseline": 0.34})
    assert of() == of(kind="long_flat", threshold=None) == 0.34 and of(excess=0.02) == pytest.approx(0.36)
    assert of(threshold=0.5) == 0.5 and of(signal="quantile") is None and of("regression") == 0.0
    # registered before base rates were kept
    assert decision_threshold({"task": "classification", "thresholds": {"kind": "long_flat"}}) == 0.5


def test_a_champion_of_values(settings, make, lake, bars):
    left_run.leave(settings, "values", specs=SPECS, names=["ridge"], bars=bars, task="regression")
    promoted(settings, "values")
    lake.write(bars)
    p = make("values")
    said = p.predict("BBB")[0]
    seen = inputs_of(bars)
    want = p.champion.loaded.predict(seen[seen.symbol == "BBB"].reset_index(drop=True), last=1)[0]
    assert said.kind == "value" and said.probability is None and said.prediction == want
    assert said.threshold == 0.5
    assert said.interval.low < said.prediction < said.interval.high
    assert said.price == pytest.approx(said.close * (1 + want))


def test_given_bars_must_be_fit(make, lake, bars):
    p, own = make(), bars[bars.symbol == "AAA"].reset_index(drop=True)
    soon = pd.Timestamp.now("UTC").as_unit("us")
    for wrong, words in (
        (own.head(10), r"at least \d+ of each symbol"),
        (own.assign(timeframe="1h").astype({"timeframe": "str"}), "`timeframe` must be 1d"),
        (own.assign(known_at=soon + pd.Timedelta("1h")), "closed"),
        (own.assign(close=np.nan), "finite prices"),
        (own.head(0), "at least one bar"),
        ([], "at least one bar"),
        (own.iloc[::-1], "sorted|indexed"),
    ):
        with pytest.raises(DataError, match=words):
            p.predict_bars(wrong)


def test_the_same_bar_is_computed_once(make, lake, bars, monkeypatch):
    lake.write(bars)
    p, calls = make(), []
    p.champion.stream.sync()
    score = Champion.score
    monkeypatch.setattr(Champion, "score",
                        lambda c, row: (calls.append(row.symbol), time.sleep(0.05), score(c, row))[2])
    said, threads = [], [threading.Thread(target=lambda: said.append(p.predict("AAA")[0].probability))
                         for _ in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(said) == 12 and len(set(said)) == 1 and calls == ["AAA"]
    lake.push(at(bars, 699))
    p.predict("AAA")
    assert calls == ["AAA"]


def test_threads_that_ask_while_bars_come_get_whole_answers(make, lake, bars):
    lake.write(at(bars, *range(670)))
    p = make()
    seen = inputs_of(bars).dropna().reset_index(drop=True)
    batch = dict(zip(zip(seen.symbol, seen.ts, strict=True), p.champion.loaded.predict(seen), strict=True))
    stop, wrong, count = threading.Event(), [], []

    def ask():
        last = {}
        while not stop.is_set():
            for s in p.predict():
                if (abs(batch[(s.symbol, pd.Timestamp(s.ts))] - s.probability) > 1e-12 or s.ts
                    < last.get(s.symbol, s.ts)):
                    wrong.append(s)
                last[s.symbol] = s.ts
            count.append(1)
            stop.wait(0.002)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for t in threads:
        t.start()
    for day in range(670, 700):
        lake.push(at(bars, day))
        if day == 685:
            lake.flush()
    stop.set()
    for t in threads:
        t.join()
    assert not wrong and len(count) > 8 and pd.Timestamp(p.predict()[0].ts) == bars.ts.max()


# --- another champion


def test_a_promotion_under_way_fails_no_call(settings, make, lake, bars):
    left_run.leave(settings, "swap", bars=bars, specs=["returns"])
    promoted(settings, "swap")
    lake.write(bars)
    p, stop, seen, failed = make("swap", poll=0.05), threading.Event(), [], []
    p.predict()

    def ask():
        while not stop.is_set():
            try:
                seen.append(p.predict("AAA")[0].version)
            except Exception as e:  # noqa: BLE001  (whatever it is, the test fails with it)
                failed.append(e)
            stop.wait(0.005)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for t in threads:
        t.start()
    for number in (1, 2, 3):
        another(settings, "swap", number, number)
        until = time.monotonic() + 60
        while p.champion.number != number + 1 and time.monotonic() < until:
            time.sleep(0.02)
    rollback(settings, "swap")
    until = time.monotonic() + 60
    while p.champion.number != 3 and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.1)
    stop.set()
    for t in threads:
        t.join()
    assert not failed and set(seen) == {1, 2, 3, 4} and p.champion.number == 3
    assert p.predict("AAA")[0].version == 3
    runs = [v for i, v in enumerate(seen) if i == 0 or v != seen[i - 1]]
    assert len(runs) < 30  # threads may overlap at a swap; nobody goes back and forth


def files_of(version):
    return Path(unquote(urlsplit(version.source).path))


@pytest.fixture(scope="module")
def whole(settings, bars):
    "An experiment whose version 1 serves, and serves again after each test."
    left_run.leave(settings, "whole", bars=bars, specs=["returns"])
    promoted(settings, "whole")
    return "whole"


@pytest.mark.parametrize("what", ["model", "manifest", "gone"])
def test_a_broken_champion_is_refused_once_and_the_old_one_serves(
        settings, whole, make, lake, bars, caplog, what):
    experiment = whole
    lake.write(bars)
    p = make(experiment)
    before = p.predict()[0]
    new = another(settings, experiment, len(what), 1)  # each of other content
    place = files_of(new)
    if what == "gone":
        place.rename(place.with_name("away"))
    else:
        path = (place / "manifest.json" if what == "manifest"
                else next((place / "model/data/estimator").glob("*.*")))
        path.write_bytes(path.read_bytes() + b" ")
    with caplog.at_level(logging.ERROR, "mlfin.predict"):
        assert not p.refresh() and not p.refresh() and not p.refresh(force=True)
    after = p.predict()[0]
    assert (after.version, after.probability) == (1, before.probability)
    assert list(p.info()["refused"]) == [str(new.number)]
    assert len([r for r in caplog.records if "is refused" in r.getMessage()]) == 1
    rollback(settings, experiment)
    assert not p.refresh() and p.predict()[0].version == 1


def test_nothing_serves_where_nothing_can(settings, make, lake, bars):
    with pytest.raises(ModelError, match="No model of experiment `nobody`"):
        make("nobody").predict()
    left_run.leave(settings, "unjudged", bars=bars, specs=["returns"])
    register(settings, "unjudged")
    p = make("unjudged")
    for _ in range(2):
        with pytest.raises(ModelError, match="has no champion"):
            p.predict()
    write_verdict(settings, find_version(settings, "unjudged", 1), "passed", "all is well", {"checks": []})
    set_champion(settings, "unjudged", 1)
    lake.write(bars)
    assert p.predict()[0].version == 1


@pytest.fixture
def jump(settings, bars, registry):
    """Register the feature `jump` anew, from another source text each time: jump(times, rest) is times *
    return + rest where it is above 3 %."""
    def made(text, times=1.0, rest=0.0):
        registry.pop("jump", None)
        known = {"__name__": "__main__", "np": np, "times": times, "rest": rest}
        lines = ["def jump(close):", text, "r = times * (close[1:] / close[:-1] - 1)",
                 "return np.append(np.nan, np.where(r > 0.03, r + rest, r))"]
        exec("\n    ".join(lines), known)
        feature("jump", unit="ratio", lookback=1, inputs=("close",))(known["jump"])
    made("'as it was'")
    return made


def test_code_that_was_changed_and_gives_the_same_bits_goes_on_serving(
        settings, make, lake, bars, jump, monkeypatch):
    left_run.leave(settings, "coded", bars=bars, specs=["returns", "jump"])
    promoted(settings, "coded")
    lake.write(bars)
    assert make("coded").predict()[0].version == 1
    jump("pass")                                                           # other code, equal bits
    manifest, looked, real = read_manifest(settings, "coded"), [], registry_module.compare_record
    assert code_state(settings, find_version(settings, "coded"), manifest).same is None
    monkeypatch.setattr(registry_module, "compare_record", lambda *given: (looked.append(1), real(*given))[1])
    # looked at once
    assert [make("coded").predict()[0].version for _ in range(2)] == [1, 1] and looked == [1]
    # as in another process: it stands on the version
    registry_module._compared.clear()
    found = find_version(settings, "coded")
    state = code_state(settings, found, manifest)
    assert state.same and state.moved == ("jump",) and state.rows == len(bars)
    assert "same bits in all" in state.says
    # who has no key can neither forge nor move a proof
    with registry_module.mlflow_registry(settings) as client:
        for forged in (found.tags["mlfin.code_proofs"].replace('"rows": ', '"rows": 1'), "[1]", "{",
                       '[{"hmac": "x", "same": true}]'):
            client.set_model_version_tag(found.name, "1", "mlfin.code_proofs", forged)
            assert code_state(settings, find_version(settings, "coded"), manifest).same is None
    assert make("coded").predict()[0].version == 1 and looked == [1, 1]
    # proofs are sealed anew with the versions
    rotate_seals(settings)
    registry_module._compared.clear()
    assert code_state(settings, find_version(settings, "coded"), manifest).same


def test_features_of_other_code_are_refused_by_name(settings, make, lake, bars, jump, registry):
    left_run.leave(settings, "recoded", bars=bars, specs=["returns", "jump"])
    promoted(settings, "recoded")
    lake.write(bars)
    jump("pass", rest=1e-15)                                               # only in the few rows above 3 %
    for _ in range(2):
        words = r"other feature code: jump changed, and with it 1 feature: jump \(jump of .* in \d+ rows\)"
        with pytest.raises(ModelError, match=words):
            make("recoded").predict()
    proofs = json.loads(find_version(settings, "recoded").tags["mlfin.code_proofs"])
    assert [(p["same"], list(p["differ"])) for p in proofs] == [(False, ["jump"])]
    verdict = gate.judge(settings, "recoded", 1)
    assert not (check := verdict.all[0]).passed and check.name == "loads"
    assert "other feature code" in check.says
    jump("raise ValueError('no more')")
    with pytest.raises(ModelError, match="it raises"): make("recoded").predict()
    kept = settings.data_dir("recoded") / "bars.parquet"
    jump("len(close)")
    # a later run took its place, and its own was cleared away
    kept.rename(kept.with_suffix(".away"))
    with pytest.raises(ModelError, match="not kept any more(.|\n)*put the run's folder back"):
        make("recoded").predict()
    run = settings.reports_dir("recoded") / "runs" / ("a" * 16)
    (run / "data").mkdir(parents=True)
    files = {"bars": kept.with_suffix(".away"), "features": kept.with_name("features.parquet")}
    for name, path in files.items(): shutil.copy(path, run / "data" / f"{name}.parquet")
    write_json({"tasks": {"x": {"products": {n: {"hash": hash_file(p)} for n, p in files.items()}}}},
               run / "run.json")
    # a kept run is found by its hashes
    assert make("recoded").predict()[0].version == 1
    registry.pop("jump")
    with pytest.raises(MlfinError, match="jump"): make("recoded").predict()


def test_another_way_of_computing_features_can_be_given(settings, lake, bars):
    lake.write(bars)
    p = Predictor(settings, "main", features=FeatureStore(lake, symbols=["AAA", "BBB"], adjust=None), poll=0)
    assert p.store is lake and p.predict()[0].probability is not None
    p.forget()
    assert len(p.predict()) == 2 and p.flush() and p.close()


def test_a_stream_is_shared_where_everything_about_it_is_the_same(lake):
    def loaded(calendar="24/7", adjust="none"):
        data = {"calendar": calendar, "adjust": adjust, "timeframe": "1d", "first": "2024-01-01T00:00:00Z",
                "symbols": ["AAA"]}
        return SimpleNamespace(manifest={"data": data, "features": ["returns"]})

    def grouped(group, features=("returns",)):
        return serving.stream_for(SimpleNamespace(manifest=loaded().manifest | {"features": list(features)}),
                                  lake, FeatureStore(lake, groups={"AAA": group}, adjust=None, cache=""), 1)

    one = serving.stream_for(loaded(), lake, None, 1)
    assert serving.same_rows(one, serving.stream_for(loaded(), lake, None, 1))
    assert serving.same_rows(grouped("x"), grouped("x"))
    others = [serving.stream_for(loaded(**other), lake, None, 1)
              for other in ({"calendar": "XNYS"}, {"adjust": "total"})]
    assert not any(serving.same_rows(one, other) for other in others)
    assert not serving.same_rows(grouped("x"), grouped("y"))


def test_predict_latest_is_the_predictor(settings, bars):
    Lake(settings.store).write(bars)
    said = mlfin.predict_latest("AAA", experiment="main", profile=settings)
    assert said[0].symbol == "AAA"
    assert said[0].probability == mlfin.predict_latest(experiment="main", profile=settings)[0].probability
    from mlfin import predict_latest
    assert predict_latest("BBB", experiment="main", profile=settings)[0].symbol == "BBB"
    assert mlfin.predict is sys.modules["mlfin.predict"] and not callable(mlfin.predict)
    for p in serving._kept.values():
        p.close()
    serving._kept.clear()


# --- what was said is kept


class Shelf:
    "Keeps predictions in memory; refuses while it is told to."

    def __init__(self):
        self.frames, self.away = [], False

    def write_predictions(self, rows):
        if self.away:
            raise DataError("the store is away")
        self.frames.append(rows)

    def read_predictions(self, model=None, start=None, end=None):
        return pd.concat(self.frames, ignore_index=True) if self.frames else pd.DataFrame(columns=["model"])

    def __getattr__(self, name):
        return getattr(self.lake, name)


def test_what_was_said_is_written_once(make, lake, bars):
    lake.write(at(bars, *range(690)))
    p, shelf = make(), Shelf()
    p._recorder = Recorder(shelf, every=0.02)
    for day in range(690, 700):
        for _ in range(5):
            p.record(p.predict())
        lake.push(at(bars, day))
    p.record(p.predict())
    assert p.flush()
    rows = pd.concat(shelf.frames, ignore_index=True)
    assert len(rows) == 22 and not rows.duplicated(["symbol", "ts", "version"]).any()
    assert p.info()["recorded"] == {"written": 22, "waiting": 0, "lost": 0}


def test_a_store_that_is_away_loses_nothing_while_there_is_room(make, lake, bars):
    lake.write(bars)
    said, shelf = make().predict(), Shelf()
    recorder, shelf.away = Recorder(shelf, every=0.02, most=1), True
    recorder.add(said[:1])
    until = time.monotonic() + 20
    while not recorder.error and time.monotonic() < until:
        time.sleep(0.01)
    assert "away" in recorder.error and recorder.waiting == 1 and not recorder.flush(0.05)
    recorder._queue.put_nowait({})
    assert [recorder.add(said[1:]) for _ in range(3)] == [0, 0, 0] and recorder.lost == 1
    recorder._queue.get_nowait()
    shelf.away = False
    # asked for again, where there is room
    assert recorder.add(said[1:]) == 1 and recorder.lost == 0
    assert recorder.flush(20) and recorder.close() and recorder.written == 2 and not recorder.error
    assert list(pd.concat(shelf.frames).symbol) == [s.symbol for s in said]


def test_the_metrics_say_which_answers_are_not_in_the_record(settings, lake, bars):
    lake.write(bars)
    service, shelf = Service(settings, lake, Metrics()), Shelf()
    try:
        predictor = service.predictors.get("main")
        predictor._recorder, shelf.away = Recorder(shelf, every=0.02), True
        assert len(service.forecaster.record(predictor, predictor.predict())) == 2
        predictor.refresh(force=True)
        told = service.metrics.render()[0].decode()
        assert 'predictions_unwritten{experiment="main"} 2.0' in told
        assert 'predictions_lost{experiment="main"} 0.0' in told
        predictor.recorder.lost, shelf.away = 1, False
        assert predictor.flush(20)
        predictor.refresh(force=True)
        told = service.metrics.render()[0].decode()
        assert 'predictions_unwritten{experiment="main"} 0.0' in told
        assert 'predictions_lost{experiment="main"} 1.0' in told
    finally:
        service.close()


KILLED = """
import sys, time, os, signal, sqlite3
from types import SimpleNamespace
import pandas as pd
from mlfin.predict.outcomes import Recorder
class Store:
    def write_predictions(self, rows):
        with sqlite3.connect(sys.argv[1]) as db:
            rows[["symbol", "version"]].to_sql("rows", db, if_exists="append", index=False)
def said(i):
    return SimpleNamespace(symbol=f"S{i}", timeframe="1d", ts=i, model="m", version=1, probability=0.5,
                           prediction=None, threshold=0.5, label=0, reason="")
recorder = Recorder(Store(), every=float(sys.argv[2]))
recorder.add([said(i) for i in range(5)])
# a first write, and then none for a long time
recorder._stop.set(); recorder._thread.join(); recorder._thread = None
assert not recorder.waiting
recorder.every = 3600
recorder.add([said(i) for i in range(5, 8)])
assert recorder.waiting == 3
print("ready", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

AGAIN = KILLED[:KILLED.index("recorder.add(")] + """
# the next process: the same answers are given again
assert recorder.add([said(i) for i in range(8)]) == 8
assert recorder.close()
"""


def test_a_process_that_is_killed_loses_only_what_was_not_written_and_what_is_given_again_is_kept(tmp_path):
    import sqlite3

    path = tmp_path / "rows.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), "0.05"], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == -signal.SIGKILL and "ready" in done.stdout, done.stderr
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*), count(DISTINCT symbol) FROM rows").fetchone() == (5, 5)
    again = subprocess.run(
        [sys.executable, "-c", AGAIN, str(path), "0.05"], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert again.returncode == 0, again.stderr
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(DISTINCT symbol) FROM rows").fetchone() == (8,)


def test_outcomes_are_those_of_later_bars(settings, make, lake, bars):
    """Against a count by hand; a label that has not ended is open, and one that had ended before it was
    predicted is late."""
    shelf = Shelf()
    shelf.lake = lake
    lake.write(at(bars, *range(670)))
    p = make()
    for day in range(670, 700):
        lake.push(at(bars, day))
        for s in p.predict():
            at_ = pd.Timestamp(s.known_at) if day != 680 else pd.Timestamp.now("UTC")
            shelf.write_predictions(
                pd.DataFrame(
                    [
                        {
                            **{
                                c: getattr(s, c) for c in ("symbol", "timeframe", "ts", "model", "version",
                                                           "probability", "prediction", "threshold", "label")
                            },
                            "created_at": at_,
                        }
                    ]
                )
            )
    stored = shelf.read_predictions().assign(
        ts=lambda f: pd.to_datetime(f.ts, utc=True).astype("datetime64[us, UTC]"),
        created_at=lambda f: pd.to_datetime(f.created_at, utc=True).astype("datetime64[us, UTC]"),
    )
    shelf.frames = [stored]
    found = outcomes(settings, "main", store=shelf, adjust="none").iloc[0]
    assert (found.version, found.rows, found.late, found.open) == (1, 60, 2, 4) and found.matched == 54
    hits, losses = [], []
    for row in stored.itertuples():
        own = bars[bars.symbol == row.symbol].reset_index(drop=True)
        i = own.index[own.ts == row.ts][0]
        if i + 2 >= len(own) or i == 680:
            continue
        rose = own.open[i + 2] > own.open[i + 1]
        hits.append((row.probability > 0.5) == rose)
        losses.append(-np.log(row.probability if rose else 1 - row.probability))
    assert found.accuracy == pytest.approx(np.mean(hits)) and found.log_loss == pytest.approx(np.mean(losses))
    assert found.accuracy > 0.5
    with pytest.raises(ModelError, match="a registered one"):
        tally_outcomes(stored, bars, {2: "fwd_ret_1"})
    empty = Shelf()
    empty.lake = lake
    assert outcomes(settings, "main", store=empty).empty
