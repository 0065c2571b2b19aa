"""Every check of the gate can fail, and says why; nothing passes by not being made."""
import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest

import mlfin.features.spec as features
from mlfin.core.errors import ModelError
from mlfin.core.provenance import read_json, write_json
from mlfin.core.trials import open_ledger, trial_id
from mlfin.features.feature_types import Param
from mlfin.features.spec import feature
from mlfin.registry import gate
from mlfin.registry.gate import (
    REQUIRED,
    GateCheck,
    Verdict,
    beats_baseline,
    beats_champion,
    block_test,
    compare_versions,
    count_trials,
    is_calibrated,
    judge,
    note_verdict,
    promote,
)
from mlfin.registry.registry import find_version, load_champion, model_versions, register, rollback

from ..fixtures import left_run

leave, AFTER, bars_that_remember = left_run.leave, left_run.AFTER, left_run.bars_that_remember


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """One MLflow store for all tests: making one costs seconds. Experiment `good` has a model that knows
    something."""
    found = left_run.settings_at(tmp_path_factory.mktemp("gate"))
    leave(found, "good")
    assert promote(found, "good", now=AFTER).promoted
    return found


def rows(probability, actual, days=1000, symbols=4, baseline=0.5):
    ts = pd.date_range("2015-01-01", periods=days, freq="D", tz="UTC")
    keys = pd.DataFrame({"symbol": np.repeat([f"S{i}" for i in range(symbols)], days), "timeframe": "1d",
                         "ts": np.tile(ts, symbols)})
    return keys.assign(model="made", fold=1, probability=probability, baseline=baseline, actual=actual)


def drawn(odds, seed=0, size=4000):
    "What happened where the log odds were these, and the generator to go on with."
    rng = np.random.default_rng(seed)
    log_odds = odds * rng.normal(0, 1, size)
    return log_odds, (rng.random(size) < 1 / (1 + np.exp(-log_odds))).astype("int8")


def sigmoid(x): return 1 / (1 + np.exp(-x))


# --- noise


def test_the_block_test_is_a_t_test_of_the_blocks_means():
    from scipy.stats import ttest_1samp

    rng = np.random.default_rng(1)
    ts = pd.Series(np.repeat(pd.date_range("2020-01-01", periods=640, freq="h", tz="UTC"), 3))
    x = rng.normal(0.1, 1, len(ts))
    told = block_test(x, ts, horizon=2, most=32)
    want = ttest_1samp(x.reshape(32, -1).mean(axis=1), 0, alternative="greater")
    assert told.blocks == 32 and told.p == pytest.approx(want.pvalue) and told.gain == pytest.approx(x.mean())
    order = rng.permutation(len(x))
    assert block_test(x[order], ts.iloc[order], 2, 32) == pytest.approx(told)
    assert block_test(x, ts, horizon=20).blocks == 3 and block_test(x, ts, horizon=20).p == 1.0


def test_what_is_shared_by_all_symbols_is_no_evidence_twice():
    rng = np.random.default_rng(2)
    days = pd.date_range("2020-01-01", periods=800, freq="D", tz="UTC")
    one = rng.normal(0.05, 1, len(days))
    alone, copied = block_test(one, days, 1), block_test(np.repeat(one, 50), np.repeat(days, 50), 1)
    assert copied == pytest.approx(alone) and alone.p > 0.001


def test_a_gain_must_be_above_zero_and_beyond_chance():
    odds, actual = drawn(0.5)
    good, same = rows(sigmoid(odds), actual), rows(0.5, actual)
    assert beats_baseline(good, 1).passed and beats_baseline(good, 1).value < 1e-6
    assert not beats_baseline(same, 1).passed and "no better" in beats_baseline(same, 1).says
    worse = beats_baseline(rows(sigmoid(-odds), actual), 1)
    assert not worse.passed and "higher by" in worse.says
    few = beats_baseline(good.head(60), 1)
    assert not few.passed and "3 blocks of time; fewer than four" in few.says


def test_every_try_makes_it_harder():
    odds, actual = drawn(0.17, seed=5)
    found = rows(sigmoid(odds), actual)
    one, many = beats_baseline(found, 1), beats_baseline(found, 1, compared=100)
    assert one.value == many.value and many.limit == pytest.approx(one.limit / 100)
    assert one.limit > one.value > many.limit and one.passed and not many.passed
    assert "0.001 / 100 tried" in many.says


def test_regressions_are_judged_by_squared_error():
    rng = np.random.default_rng(3)
    known, size = rng.normal(0, 0.01, 4000), 4000
    actual = known + rng.normal(0, 0.02, size)
    good = rows(0.0, actual, baseline=0.0).drop(columns="probability").assign(prediction=known)
    bold = good.assign(prediction=5 * known)
    assert beats_baseline(good, 1).passed and "squared error" in beats_baseline(good, 1).says
    assert is_calibrated(good, 1).passed
    assert not beats_baseline(bold, 1).passed and not is_calibrated(bold, 1).passed
    assert is_calibrated(bold, 1).value == pytest.approx(0.2, abs=0.03)
    with pytest.raises(ModelError, match="both of the same kind"): beats_champion(good, rows(0.5, 1), 1)


@pytest.mark.parametrize("spoil", [lambda p: p.drop(columns="baseline"), lambda p: p.head(0),
                                   lambda p: p.assign(probability=np.nan),
                                   lambda p: p.assign(model=["a", "b"] * (len(p) // 2)),
                                   lambda p: p.drop(columns="probability")])
def test_predictions_that_cannot_be_judged_are_refused(spoil):
    with pytest.raises(ModelError, match="`predictions` must be"): beats_baseline(spoil(rows(0.5, 1)), 1)


def test_champions_are_compared_on_common_rows_alone():
    odds, actual = drawn(0.6)
    better, worse = rows(sigmoid(odds), actual), rows(sigmoid(0.2 * odds), actual)
    told = beats_champion(better, worse, 1)
    assert told.passed and "4,000 rows" in told.says
    part = beats_champion(better, worse[worse.symbol == "S1"], 1)
    assert "1,000 rows" in part.says
    apart = beats_champion(better, worse.assign(timeframe="1h"), 1)
    assert not apart.passed and "nothing to compare" in apart.says
    assert not beats_champion(better, better, 1).passed
    with pytest.raises(ModelError, match="every symbol and time once"):
        beats_champion(better, worse.assign(symbol="S1"), 1)


# --- calibration


@pytest.mark.parametrize("shift, stretch, words", [(0.0, 1.0, ""), (0.4, 1.0, "the level is off"),
                                                   (0.0, 3.0, "too bold"),
                                                   (0.0, 0.3, "too shy"), (0.0, -1.0, "too bold")])
def test_level_and_slope(shift, stretch, words):
    odds, actual = drawn(0.8)
    told = is_calibrated(rows(sigmoid(shift + stretch * odds), actual), 1)
    assert told.passed == (not words) and words in told.says and told.value == pytest.approx(1 / stretch,
                                                                                             rel=0.15)


def test_a_constant_guess_has_a_level_alone():
    _, actual = drawn(0.0)
    assert is_calibrated(rows(actual.mean(), actual),
                         1).passed and np.isnan(is_calibrated(rows(actual.mean(), actual), 1).value)
    assert not is_calibrated(rows(0.6, actual), 1).passed


def test_what_is_too_small_to_matter_passes_however_many_rows_show_it():
    odds, actual = drawn(0.8, size=200_000)
    slight = rows(sigmoid(1.1 * odds), actual, days=4000, symbols=50)
    assert is_calibrated(slight, 1).passed and abs(is_calibrated(slight, 1).value - 1) > 0.05
    assert not is_calibrated(rows(sigmoid(1.4 * odds), actual, days=4000, symbols=50), 1).passed


def test_calibration_is_not_refused_more_often_than_its_level():
    refused = 0
    for seed in range(100):
        odds, actual = drawn(0.3, seed=seed)
        refused += not is_calibrated(rows(sigmoid(odds), actual), 1).passed
    assert refused <= 4  # the 99 % bound of 100 at 1 %


# --- verdicts


def test_a_check_that_was_not_made_is_not_passed():
    every = tuple(GateCheck(n, True, "fine") for n in REQUIRED)
    assert Verdict(1, every, 0.001, 1).passed
    for i, name in enumerate(REQUIRED):
        told = Verdict(1, every[:i] + every[i + 1:], 0.001, 1)
        assert not told.passed and told.reasons == [f"{name}: was not made, and so is not passed: "
                                                    f"{REQUIRED[name]}"]
        assert not Verdict(1, every[:i] + (GateCheck(name, False, "no"),) + every[i + 1:], 0.001, 1).passed
    assert not Verdict(1, (), 0.001, 1).passed and len(Verdict(1, (), 0.001, 1).frame()) == len(REQUIRED)
    json.dumps(Verdict(1, every, 0.001, 1).record(), allow_nan=False)


def test_a_good_model_passes_every_check_and_serves(settings):
    told = judge(settings, "good", "champion", now=AFTER)
    assert told.passed and [c.name for c in told.all] == list(REQUIRED) and told.compared == 1
    found = find_version(settings, "good")
    assert found.verdict == "passed" and load_champion(settings, "good").version == found
    record = json.loads(found.tags["mlfin.judged"])
    assert record["passed"] and record["seal"] == found.seal and record["forced"] == ""
    assert {c["name"] for c in record["checks"]} == set(REQUIRED)
    assert found.tags["mlfin.reasons"].count("\n") == len(REQUIRED) - 1
    with pytest.raises(ModelError, match="is the champion already"): promote(settings, "good", now=AFTER)


def failed(verdict): return {c.name: c.says for c in verdict.all if not c.passed}


@pytest.mark.parametrize("limits, now, name, words", [
    ({"gate_latency_ms": 1e-6}, AFTER, "latency", "one row takes"),
    ({}, AFTER + pd.Timedelta("30D"), "fresh", "33.0 days old, may be 7"),
    ({}, AFTER - pd.Timedelta("30D"), "fresh", "lies in the future"),
    ({"gate_level": 1e-12}, AFTER, "baseline", "chance can do that"),
])
def test_each_limit_is_one_that_a_model_can_fail(settings, limits, now, name, words):
    told = judge(settings.model_copy(update=limits), "good", "champion", now=now)
    assert list(failed(told)) == [name] and words in failed(told)[name] and not told.passed


def test_size_is_measured():
    assert gate._size({"bytes": 3 * 2**20}, 3).passed and not gate._size({"bytes": 3 * 2**20 + 1}, 3).passed


def test_what_cannot_be_checked_fails_with_words(settings):
    path = settings.data_dir("good") / "bars.parquet"
    path.rename(path.with_suffix(".away"))
    try: told = judge(settings, "good", 1, now=AFTER)
    finally: path.with_suffix(".away").rename(path)
    assert list(failed(told)) == ["online",
                                  "look-ahead"] and all("could not be made, and so is not passed" in s
                                                        for s in failed(told).values())


def test_a_tampered_model_is_refused_and_cannot_be_forced(settings):
    leave(settings, "tampered")
    gate.register(settings, "tampered")
    found = find_version(settings, "tampered", 1)
    next((Path(unquote(urlsplit(found.source).path))
          / "model/data/estimator").glob("*.*")).write_bytes(b"other")
    done = promote(settings, "tampered", 1, force="I want it", now=AFTER)
    assert not done.promoted and list(failed(done.verdict))[0] == "loads"
    assert len(failed(done.verdict)) == len(REQUIRED)
    assert find_version(settings, "tampered",
                        1).verdict == "refused" and "champion" not in find_version(settings, "tampered",
                                                                                   1).aliases


@pytest.fixture
def alone(monkeypatch):
    "What a test registers is gone after it."
    features.load_features()
    for name in ("_registry", "_sets", "_families"):
        monkeypatch.setattr(features, name, dict(getattr(features, name)))


def test_a_feature_that_peeks_and_one_that_differs_online_are_named(settings, alone, monkeypatch):
    # it would be refused before anything is learnt
    monkeypatch.setattr("mlfin.datasets.builder._refuse_cuts", lambda *_: None)
    @feature("nearly", params=[Param("n", 3)], lookback=lambda n: 0, unit="ratio")
    def _nearly(close, n):
        "A little of the future, by mistake."
        later = pd.Series(close).shift(-n).to_numpy() / close - 1
        return np.where(np.isnan(later), 0.0, later) + np.sin(1e9 * close)

    @feature("carries", params=[Param("n", 5)], lookback=lambda n: 0, unit="ratio", online=lambda n: Zero())
    def _carries(close, n): return close / close[0]

    class Zero:
        def update(self, x): return 0.0

    leave(settings, "peeking", specs=["returns", "nearly_3", "carries_5"])
    told = failed(judge(settings, gate.register(settings, "peeking").name.removeprefix("test-"), 1,
                        now=AFTER))
    assert "nearly_3" in told["look-ahead"] and "looks ahead" in told["look-ahead"]
    assert "carries_5" in told["online"] and "gives other values bar by bar" in told["online"]


def test_features_that_were_not_checked(settings):
    leave(settings, "unchecked")
    path = settings.data_dir("unchecked") / "training.json"
    write_json({**{k: v for k, v in read_json(path).items() if k != "task_key"},
                "unchecked": "features not checked: nobody looked"}, path, "a" * 32)
    told = failed(judge(settings, gate.register(settings, "unchecked").name.removeprefix("test-"), 1,
                        now=AFTER))
    assert told["look-ahead"] == "features not checked: nobody looked"


def test_a_peek_in_the_midst_of_history_is_refused(settings, alone, monkeypatch):
    """The gate looked at the last 150 bars of three symbols."""
    monkeypatch.setattr("mlfin.datasets.builder._refuse_cuts", lambda *_: None)

    @feature("spared", lookback=1, unit="ratio")
    def _spared(close):
        back, ahead = np.append(np.nan, np.diff(close)
                                / close[:-1]), np.append(np.diff(close) / close[:-1], 0.0)
        at = np.isin(close, old)
        return np.where(at & (np.arange(len(close)) > 0) & (np.arange(len(close)) < len(close) - 1), ahead,
                        back)

    bars = bars_that_remember()
    old = bars.close[bars.symbol == "AAA"].to_numpy()[300:310]
    leave(settings, "spared", specs=["returns", "spared"], bars=bars)
    told = failed(judge(settings, gate.register(settings, "spared").name.removeprefix("test-"), 1, now=AFTER))
    assert "1 of 2 features do not pass: `spared` looks ahead: spared at AAA" in told["look-ahead"]


# --- promotion


def test_the_next_must_beat_the_champion_and_the_verdict_stays(settings):
    leave(settings, "next", specs=["rsi_14"])
    first = promote(settings, "next", force="a start", now=AFTER)
    assert first.promoted and first.version.verdict == "forced" and first.forced == "a start"
    assert first.version.tags["mlfin.reasons"].startswith("forced: a start\nbaseline: log loss")
    leave(settings, "next", key="b" * 32, specs=["returns"])
    second = promote(settings, "next", now=AFTER)
    assert second.promoted and second.replaced == 1 and second.verdict.passed
    assert "against v1: log loss lower" in second.verdict.all[2].says
    leave(settings, "next", key="c" * 32, specs=["mom_14"])
    third = promote(settings, "next", now=AFTER)
    assert not third.promoted and {"baseline", "champion"} <= set(failed(third.verdict))
    assert third.version.aliases == ("challenger",)
    assert find_version(settings, "next",
                        3).verdict == "refused" and "against v2" in find_version(settings, "next",
                                                                                 3).tags["mlfin.reasons"]
    assert find_version(settings, "next").number == 2
    again = promote(settings, "next", 1, now=AFTER)  # judged anew, refused, and still what one can go back to
    assert not again.promoted and again.version.verdict == "refused" and rollback(settings, "next") == (2, 1)
    told = compare_versions(settings, "next", 2, 1)
    assert told.test.p < 1e-3 and told.says.startswith("v2's log loss is lower")
    assert {"features", "metrics.log_loss"} <= set(told.differs["what"])
    back = compare_versions(settings, "next", 1, 2)
    assert back.test.gain == pytest.approx(-told.test.gain) and back.says.startswith("v2's log loss is lower")


@pytest.mark.slow
def test_a_verdict_is_written_without_a_promotion(settings):
    """What `mlfin retrain` judged was shown as "not judged"."""
    leave(settings, "noted")
    found = register(settings, "noted")
    told = note_verdict(settings, "noted", found.number, AFTER + pd.Timedelta("30D"))
    noted = find_version(settings, "noted", 1)
    assert (noted.verdict, "champion" in noted.aliases,
            list(failed(told))) == ("refused", False, ["fresh"]) and "fresh: " in noted.tags["mlfin.reasons"]
    record = json.loads(noted.tags["mlfin.judged"])
    assert not record["passed"] and (record["champion"], record["forced"],
                                     record["seal"]) == (None, "", found.seal)
    assert note_verdict(settings, "noted", 1,
                        AFTER).passed and find_version(settings, "noted", 1).verdict == "passed"
    with pytest.raises(ModelError): load_champion(settings, "noted")       # who passes does not serve by that
    with pytest.raises(ModelError, match="whose verdict stays"):
        note_verdict(settings, "good", "champion", AFTER)


@pytest.mark.slow
def test_another_label_cannot_be_compared(settings):
    leave(settings, "label")
    assert promote(settings, "label", now=AFTER).promoted
    leave(settings, "label", key="b" * 32, label="fwd_ret_5")
    assert "cannot be compared" in failed(promote(settings, "label", now=AFTER).verdict)["champion"]
    assert compare_versions(settings, "label", 2, 1).test is None


def test_a_blank_reason_forces_nothing(settings):
    leave(settings, "blank", specs=["rsi_14"])
    assert not promote(settings, "blank", force="  ",
                       now=AFTER).promoted and [v.verdict
                                                for v in model_versions(settings, "blank")] == ["refused"]


def test_trials_of_the_ledger_are_counted_once_each(settings):
    ledger, returns = open_ledger(settings.ledger), pd.Series([0.01, 0.0],
                                                              index=pd.date_range("2024-01-01", periods=2,
                                                                                  tz="UTC").as_unit("us"))
    def note(model, rule):
        content = dict(dataset="d" * 64, label="fwd_ret_1", features=["returns"], model=model,
                       parameters={"C": 1.0}, rule=rule)
        ledger.record("good", trial_id(*content.values()), content, returns)
    for model in ("logistic", "xgboost", "lightgbm"):
        for threshold in (0.5, 0.6): note(model, {"threshold": threshold})
    note("lstm", {"threshold": 0.5, "part": "inner folds of fold 1"})
    assert count_trials(settings, "good") == 3 and count_trials(settings, "other") == 0
    told = judge(settings, "good", 1, now=AFTER)
    assert told.compared == 3 and told.all[1].limit == pytest.approx(0.001
                                                                     / 3) and "3 tried" in told.all[1].says
    assert judge(settings, "good", 1, trials=7, now=AFTER).compared == 7
