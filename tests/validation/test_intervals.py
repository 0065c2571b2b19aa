"""Intervals cover as often as they say, draws are honest resamples, and every score is scikit-learn's on the
rows drawn."""

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import ModelError
from mlfin.validation import intervals
from mlfin.validation.evaluation import score_folds
from mlfin.validation.information import ic_summary
from mlfin.validation.intervals import SCORES, block_bounds, mean_interval, optimal_block, score_intervals


def autoregression(n, rho, seed):
    from scipy.signal import lfilter

    return lfilter([1.0], [1.0, -rho], np.random.default_rng(seed).normal(size=n + 100))[100:]


def told(signal=0.3, days=200, symbols=4, seed=0, model="m", market=0.0, horizon=1):
    rng = np.random.default_rng(seed)
    smooth = lambda x: sum(x[k : k + days] for k in range(horizon)) / horizon**0.5
    ahead = smooth(rng.normal(size=(days + horizon, symbols)) + market * rng.normal(size=(days + horizon, 1)))
    score = signal * ahead + smooth(rng.normal(size=(days + horizon, symbols)))
    frame = pd.DataFrame(
        {
            "symbol": np.tile([f"S{i}" for i in range(symbols)], days),
            "timeframe": "1d",
            "ts": np.repeat(
                pd.date_range("2015-01-01", periods=days, freq="D", tz="UTC").as_unit("us"), symbols
            ),
        }
    )
    return frame.assign(
        model=model,
        fold=np.repeat([0, 1], days * symbols // 2),
        probability=(1 / (1 + np.exp(-0.3 * score.ravel()))).round(2),
        baseline=0.52,
        actual=(ahead.ravel() > 0).astype("int8"),
        forward_return=0.01 * ahead.ravel(),
    )


def regressed(**kwargs):
    p = told(**kwargs)
    return p.drop(columns="probability").assign(
        prediction=0.02 * (p.probability - 0.5), baseline=0.0005, actual=p.forward_return
    )


def covered(make, truth, seeds=100, **kwargs):
    found = np.array([mean_interval(make(seed), draws=400, seed=seed, **kwargs) for seed in range(seeds)])
    return np.mean((found[:, 1] <= truth) & (truth <= found[:, 2]))


@pytest.mark.parametrize("seeds", [150, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["stationary", "moving"])
def test_the_mean_of_independent_values_is_covered(kind, seeds):
    assert (
        0.9
        <= covered(lambda seed: 3 + np.random.default_rng(seed).normal(size=600), 3, seeds, kind=kind)
        <= 0.985
    )


@pytest.mark.parametrize("seeds", [100, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["stationary", "moving"])
def test_the_mean_of_an_autoregression_is_covered_by_blocks_only(kind, seeds):
    make = lambda seed: autoregression(500, 0.5, seed)
    assert 0.88 <= covered(make, 0, seeds, kind=kind) <= 0.98
    assert covered(make, 0, seeds, kind=kind, block=1) < 0.75


def test_the_error_is_that_of_a_mean():
    x = np.random.default_rng(0).normal(size=400)
    mean, low, high = mean_interval(x, draws=20_000, block=1)
    assert mean == x.mean() and (high - low) / 2 == pytest.approx(1.96 * x.std() / 20, rel=0.03)
    _, inner_low, inner_high = mean_interval(x, level=0.5, draws=20_000, block=1)
    assert (inner_high - inner_low) / 2 == pytest.approx(0.6745 * x.std() / 20, rel=0.05)
    assert mean_interval(x, seed=1) == mean_interval(x, seed=1) != mean_interval(x, seed=2)
    assert mean_interval(np.full(30, 0.1)) == pytest.approx((0.1, 0.1, 0.1))


def test_blocks_are_as_long_as_theory_wants():
    for rho in (0.3, 0.6, 0.8):
        wanted = (2 * rho / (1 - rho**2)) ** (2 / 3) * 4000 ** (1 / 3)
        found = [optimal_block(autoregression(4000, rho, seed)) for seed in range(20)]
        assert np.median(found) == pytest.approx(wanted, rel=0.2)
        moving = [optimal_block(autoregression(4000, rho, seed), "moving") for seed in range(20)]
        assert np.median(moving) == pytest.approx(np.median(found) * 1.5 ** (1 / 3), rel=1e-6)
    assert np.median([optimal_block(np.random.default_rng(s).normal(size=4000)) for s in range(20)]) < 8
    assert optimal_block(np.ones(50)) == 1 and optimal_block([1.0, 2.0]) >= 1


@pytest.mark.parametrize("kind", ["stationary", "moving"])
@pytest.mark.parametrize("block", [1, 3.5, 50, 60])
def test_draws_are_as_long_as_the_sample(kind, block):
    start, length = block_bounds(60, 200, block, np.random.default_rng(0), kind)
    assert (length.sum(axis=1) == 60).all() and (length >= 0).all() and (start >= 0).all()
    assert (start < 60).all()
    counts = intervals.Resamples(start, length, 60).counts
    for row, (a, n) in enumerate(zip(start, length, strict=True)):
        drawn = np.concatenate([np.arange(s, s + k) % 60 for s, k in zip(a, n, strict=True)])
        np.testing.assert_array_equal(counts[row], np.bincount(drawn, minlength=60))
    if kind == "moving":
        assert (start + length <= 60).all()
        assert np.all(counts == 1) == (round(block) == 60)
    else:
        assert np.ptp(counts.mean(axis=0)) < (0.6 if block < 50 else 2)


def reference(name, rows, said):
    from sklearn import metrics

    y, p = rows["actual"], rows[said]
    up = p >= 0.5 if "probability" in rows else p > 0
    return {
        "log_loss": lambda: metrics.log_loss(y, p),
        "brier": lambda: metrics.brier_score_loss(y, p),
        "accuracy": lambda: np.mean(up == y),
        "precision": lambda: metrics.precision_score(y, up),
        "recall": lambda: metrics.recall_score(y, up),
        "f1": lambda: metrics.f1_score(y, up),
        "roc_auc": lambda: metrics.roc_auc_score(y, p),
        "pr_auc": lambda: metrics.average_precision_score(y, p),
        "mae": lambda: metrics.mean_absolute_error(y, p),
        "rmse": lambda: metrics.root_mean_squared_error(y, p),
        "r2": lambda: 1 - np.sum((y - p) ** 2) / np.sum((y - rows["baseline"]) ** 2),
        "directional_accuracy": lambda: np.mean(up == (y > 0)),
    }[name]()


@pytest.mark.parametrize("name", [s for s in SCORES if s not in ("ic", "rank_ic")])
def test_a_score_of_blocks_is_the_score_of_the_rows_drawn(name):
    regression = name in ("mae", "rmse", "r2", "directional_accuracy")
    said, frame = ("prediction", regressed(days=60)) if regression else ("probability", told(days=60))
    at, ts = pd.factorize(frame["ts"], sort=True)
    draws = intervals.Resamples(*block_bounds(60, 25, 4, np.random.default_rng(1)), 60)
    values = intervals.scorer(name, frame, said, at, pd.DatetimeIndex(ts), "across symbols")(draws)
    for value, count in zip(values, draws.counts, strict=True):
        assert value == pytest.approx(
            reference(name, frame.iloc[np.repeat(np.arange(len(frame)), count[at])], said), rel=1e-9
        )
    table = score_intervals(frame.sample(frac=1, random_state=0), name, draws=100).iloc[0]
    assert table["value"] == pytest.approx(reference(name, frame, said))
    assert table["low"] < table["value"] < table["high"] and table["block"] >= 60 ** (1 / 3)


@pytest.mark.parametrize("how", ["across symbols", "over time"])
def test_information_coefficients_have_the_errors_of_newey_and_west(how):
    p = told(0.1, days=1500, symbols=6, horizon=3)
    row, known = (
        score_intervals(p, ["rank_ic", "ic"], how=how).set_index("score"),
        ic_summary(p, 3, how).iloc[0],
    )
    for name in ("rank_ic", "ic"):
        got = row.loc[name]
        assert got["value"] == pytest.approx(known[name]) and got["baseline"] == 0
        assert got["gain"] == got["value"]
        assert (got["high"] - got["low"]) / 3.92 == pytest.approx(known[f"{name}_error"], rel=0.2)


def test_pooled_scores_are_those_of_one_fold():
    p = told().assign(fold=0)
    table, scores = (
        score_intervals(p, ["log_loss", "brier", "accuracy", "roc_auc", "pr_auc"], draws=100).set_index(
            "score"
        ),
        score_folds(p).iloc[0],
    )
    for name, row in table.iterrows():
        assert row["value"] == pytest.approx(scores[name])
        assert row["baseline"] == pytest.approx(scores.get(f"{name}_baseline", 0.5))
        assert row["gain"] == pytest.approx(
            (-1 if name in ("log_loss", "brier") else 1) * (row["value"] - row["baseline"])
        )


def test_symbols_of_one_time_stay_together():
    """Where all symbols are one market, ten of them are worth no more than one."""
    one = told(0.3, days=400, symbols=1).assign(symbol="S0")
    ten = pd.concat([one.assign(symbol=f"S{i}") for i in range(10)])
    a, b = (score_intervals(p, ["brier", "roc_auc"], draws=300) for p in (one, ten))
    np.testing.assert_allclose(a[["low", "high", "gain_low"]], b[["low", "high", "gain_low"]])


def test_the_difference_knows_more_than_both_ends():
    p = told(0.3, days=1000, market=2.0)
    row = score_intervals(p, "log_loss").iloc[0]
    other = p.assign(model="other", probability=(p.probability + 0.001).clip(0, 1))
    paired = score_intervals(pd.concat([p, other]), "log_loss", against="other").iloc[0]
    assert paired["model"] == "m"
    assert len(score_intervals(pd.concat([p, other]), "log_loss", against="other")) == 1
    assert paired["gain_high"] - paired["gain_low"] < 0.1 * (row["high"] - row["low"])
    assert paired["baseline"] == pytest.approx(score_intervals(other, "log_loss").value[0])


@pytest.mark.parametrize("tries, most", [(20, 3), pytest.param(40, 5, marks=pytest.mark.slow)])
def test_worthless_models_are_called_better_as_seldom_as_said(tries, most):
    found = 0
    for seed in range(tries):
        p = pd.concat([told(0.0, 150, 3, 1000 * seed + k, f"m{k}", market=1.0) for k in range(3)])
        p["probability"] = 0.5 + 0.2 * (p["probability"] - 0.5)
        found += (
            score_intervals(p, "rank_ic", draws=400, how="over time").verdict.str.startswith("better").any()
        )
    assert (
        found <= most
    )  # 99 % bounds of a binomial at 2.5 % are 3 and 4; percentile intervals are a little narrow


@pytest.mark.parametrize("tries", [20, pytest.param(40, marks=pytest.mark.slow)])
def test_a_planted_signal_is_found_and_its_interval_covers_it(tries):
    hits = cover = 0
    for seed in range(tries):
        row = score_intervals(told(0.1, 800, 6, seed), "ic", draws=300).iloc[0]
        hits += row["verdict"].startswith("better")
        cover += (
            row["low"] <= 0.1 / 1.01**0.5 * (1 - 0.99 / 10) <= row["high"]
        )  # less the bias of a correlation of six, and of the logistic curve
    assert hits >= 0.9 * tries and cover >= 0.85 * tries


@pytest.mark.slow
def test_a_weak_signal_on_a_wide_panel_is_found_and_covered():
    """Fifty symbols, 2,500 bars, a correlation of 0.05 with a label five bars ahead: the full size of the
    quality test."""
    hits = cover = 0
    for seed in range(50):
        row = score_intervals(told(0.05, 2500, 50, seed, horizon=5), "ic", draws=500).iloc[0]
        hits += row["verdict"].startswith("better")
        cover += row["low"] <= 0.05 / 1.0025**0.5 * (1 - 0.9975 / 98) <= row["high"]
    assert hits >= 40 and cover >= 40, (hits, cover)


def test_luck_of_the_best_of_many_is_allowed_for():
    p = told(0.05, 800, 5, seed=6)
    alone, many = (score_intervals(p, "rank_ic", compared=c).iloc[0] for c in (1, 500))
    assert alone["verdict"].startswith("better") and many["verdict"].startswith("not better")
    assert "best of 500 models can do by luck" in many["verdict"]
    assert alone.drop(["verdict"]).equals(many.drop(["verdict"]))
    naive = score_intervals(p.assign(probability=p.baseline), ["log_loss", "rank_ic"], draws=100)
    assert (naive.gain == 0).all() and naive.verdict.str.startswith("not better than the baseline").all()


def test_a_function_of_rows_is_a_score():
    def hits(rows): return np.mean((rows["probability"] >= 0.5) == rows["actual"])
    p = told(days=60)
    ours, named = score_intervals(p, [hits, "accuracy"], draws=100).to_dict("records")
    assert ours.pop("score") == "hits" and named.pop("score") == "accuracy"
    numbers = ["value", "low", "high", "baseline", "gain", "gain_low", "gain_high", "block"]
    assert [ours[c] for c in numbers] == pytest.approx([named[c] for c in numbers])


def test_the_seed_decides():
    p = told(days=100)
    whole = score_intervals(p, ["log_loss", "roc_auc"], draws=150, seed=4)
    assert whole.equals(score_intervals(p, ["log_loss", "roc_auc"], draws=150, seed=4))
    assert not whole.equals(score_intervals(p, ["log_loss", "roc_auc"], draws=150, seed=5))


@pytest.mark.parametrize("call, words", [
    (lambda p: score_intervals(p, "sharpness"), "score"),
    (lambda p: score_intervals(p, "rmse"), "score"),
    (lambda p: score_intervals(regressed(), "roc_auc"), "score"),
    (lambda p: score_intervals(p, level=1.0), "level"),
    (lambda p: score_intervals(p, draws=10), "draws"),
    (lambda p: score_intervals(p, block=0.5), "block"),
    (lambda p: score_intervals(p, kind="circular"), "kind"),
    (lambda p: score_intervals(p, against="n"), "against"),
    (lambda p: score_intervals(p, against="m"), "another model"),
    (lambda p: score_intervals(p.head(40)), "20 decision times"),
    (lambda p: score_intervals(p.drop(columns="forward_return")), "forward_return"),
    (lambda p: score_intervals(p.assign(probability=2.0)), "probability"),
    (lambda p: mean_interval([1.0, np.nan]), "finite"),
    (lambda p: mean_interval([1.0]), "at least two"),
])
def test_refusals(call, words):
    with pytest.raises(ModelError, match=words):
        call(told())
