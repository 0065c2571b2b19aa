"""Worthless models pass the gate no more often than its level says; a model that knows a little does pass.

Pure noise is made as hard as it gets: what a model sees remembers for weeks, labels look five bars ahead and
so overlap,
and a common market moves all symbols together. There a test that takes rows for independent is fooled, which
is shown too.
"""
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter
from scipy.special import ndtr
from scipy.stats import binom

from mlfin.registry.prediction_checks import beats_baseline, is_calibrated
from mlfin.validation.splits import WalkForward
from mlfin.models.zoo import make_model

HORIZON = 5


def binomial_bound(count, level, share=0.99):
    "The largest number of passes that `count` worthless models reach with probability `share`."
    return int(binom.ppf(share, count, level))


@lru_cache
def frame_of(symbols, days, horizon):
    "Keys and spans of a panel, and its folds: the same for every seed."
    ts = pd.date_range("2000-01-03 21:00", periods=days + horizon, freq="B", tz="UTC").as_unit("us")
    keys = pd.DataFrame(
        {
            "symbol": np.repeat([f"S{i:02}" for i in range(symbols)], days),
            "timeframe": "1d",
            "ts": np.tile(ts[:days], symbols),
        }
    )
    begins, ends = (
        np.tile(ts[:days] + pd.Timedelta("17h"), symbols),
        np.tile(ts[horizon:] + pd.Timedelta("18h"), symbols),
    )
    return keys, WalkForward(folds=4, embargo=HORIZON).split(
        pd.DataFrame({"ts": keys["ts"], "t0": begins, "t1": ends})
    )


def noise(seed, symbols, days, horizon=HORIZON, inputs=4, ic=0.0):
    """Inputs and directions; `ic` is the correlation of the first input with each day's own return, which
    then is all there is."""
    rng = np.random.default_rng([11, seed])
    X = rng.standard_normal((inputs, symbols, days + horizon))
    if not ic: X = lfilter([np.sqrt(1 - 0.95**2)], [1, -0.95], X)
    market = rng.standard_normal(days + horizon) * (0.0 if ic else 1.0)
    own = ic * X[0] + np.sqrt(1 - ic**2) * rng.standard_normal((symbols, days + horizon)) + market
    total = np.cumsum(np.pad(own, ((0, 0), (1, 0))), axis=1)
    label = (total[:, horizon:] - total[:, :-horizon])[:, :days]  # of the next `horizon` moves
    keys, folds = frame_of(symbols, days, horizon)
    return SimpleNamespace(
        X=X[..., :days].reshape(inputs, -1).T, y=(label.ravel() > 0).astype("int8"), keys=keys, folds=folds
    )


def shuffled(seed, symbols, days):
    "A panel that has a strong signal, and its labels in another order."
    panel = noise(seed, symbols, days, horizon=1, ic=0.3)
    panel.y = np.random.default_rng([12, seed]).permutation(panel.y)
    return panel


def predicted(panel, leak=False):
    """Predictions out of sample of a logistic regression; with a leak, of one that has learnt the test part
    alone."""
    frames = []
    for fold in panel.folds:
        rows = fold.test if leak else fold.train
        fitted = make_model("logistic", seed=0).fit(panel.X[rows], panel.y[rows])
        keys = panel.keys.iloc[fold.test].assign(
            model="logistic", fold=fold.number, actual=panel.y[fold.test], baseline=panel.y[fold.train].mean()
        )
        frames.append(keys.assign(probability=fitted.predict_proba(panel.X[fold.test])[:, 1]))
    return pd.concat(frames, ignore_index=True)


def guessed(panel, column):
    """A fixed guess that believes in an input which knows nothing, against the opposite guess: a gain that is
    zero on average."""
    bold = 0.2 * panel.X[:, column]
    return panel.keys.assign(
        model="fixed",
        fold=1,
        actual=panel.y,
        probability=1 / (1 + np.exp(-bold)),
        baseline=1 / (1 + np.exp(bold)),
    )


def passes_as_if_independent(predictions, level):
    "The test that the gate does not make: every row for itself."
    y, p, b = (predictions[c].to_numpy(dtype=float) for c in ("actual", "probability", "baseline"))
    gain = np.where(y == 1, np.log(p / b), np.log((1 - p) / (1 - b)))
    return bool(ndtr(-gain.mean() / gain.std() * np.sqrt(len(gain))) < level)


def passing(panels, horizon, levels):
    "How many of the models that were trained on these panels pass, at each level."
    checks = [[beats_baseline(p, horizon, level).passed for level in levels] for p in map(predicted, panels)]
    return dict(zip(levels, np.sum(checks, axis=0).tolist(), strict=True))


def test_models_of_noise_and_of_shuffled_labels_pass_no_more_often_than_the_level_says():
    seeds, level = 20, 0.05
    persistent = passing((noise(s, 6, 400) for s in range(seeds)), HORIZON, [level])[level]
    mixed = passing((shuffled(s, 6, 400) for s in range(seeds)), 1, [level])[level]
    leaked = sum(
        beats_baseline(predicted(noise(s, 6, 400), leak=True), HORIZON, level).passed for s in range(5)
    )
    bound = binomial_bound(seeds, level)
    print(f"passed of {seeds} at {level:.0%}: noise {persistent}, shuffled labels {mixed}, bound {bound}; "
          f"with a leak {leaked} of 5")
    assert bound == 4 and persistent <= bound and mixed <= bound
    assert leaked > binomial_bound(5, level), "a leak is something that this test sees"


def test_the_level_is_kept_where_a_test_of_rows_breaks_it():
    "Models of noise pay for fitting and mostly lose; a fixed guess does not, and so tests the level itself."
    seeds, level = 300, 0.05
    found = [guessed(noise(s, 6, 600, inputs=1), 0) for s in range(seeds)]
    passed = sum(beats_baseline(p, HORIZON, level).passed for p in found)
    naive, bound = sum(passes_as_if_independent(p, level) for p in found), binomial_bound(seeds, level)
    print(f"passed of {seeds} at {level:.0%}: {passed}, bound {bound}; as if rows were independent: {naive}")
    assert 3 <= passed <= bound < naive


@pytest.mark.parametrize("families", [20, pytest.param(40, marks=pytest.mark.slow)])
def test_many_tries_are_paid_for(families):
    "The best of ten worthless guesses passes as rarely as one alone; unpaid it would not."
    tries, level, best, unpaid = 10, 0.05, 0, 0
    for family in range(families):
        panel = noise(family, 6, 600, inputs=tries)
        checks = [beats_baseline(guessed(panel, i), HORIZON, level, tries) for i in range(tries)]
        best += any(c.passed for c in checks)
        unpaid += any(c.value < level for c in checks)
    print(f"the best of {tries} passed in {best} of {families}, bound {binomial_bound(families, level)}; "
          f"unpaid in {unpaid}")
    assert best <= binomial_bound(families, level) < unpaid


def test_a_weak_signal_passes():
    seeds, level = 8, 0.05
    found = [predicted(noise(s, 30, 1500, horizon=1, ic=0.05)) for s in range(seeds)]
    passed, calibrated = (
        sum(beats_baseline(p, 1, level).passed for p in found),
        sum(is_calibrated(p, 1).passed for p in found),
    )
    print(f"an information coefficient of 0.05 passes in {passed} of {seeds} at {level:.0%}, calibrated "
          f"in {calibrated}")
    assert passed >= 0.8 * seeds and calibrated >= 0.8 * seeds


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["noise", "shuffled"])
def test_200_seeds_at_full_size(kind):
    seeds, levels = 200, [0.001, 0.05]
    panels = (noise(s, 50, 2500) if kind == "noise" else shuffled(s, 50, 2500) for s in range(seeds))
    found = passing(panels, HORIZON if kind == "noise" else 1, levels)
    for level in levels:
        print(
            f"{kind}: passed of {seeds} at {level:.1%}: {found[level]}, bound {binomial_bound(seeds, level)}"
        )
        assert found[level] <= binomial_bound(seeds, level)


@pytest.mark.slow
def test_a_weak_signal_passes_at_full_size():
    seeds = 20
    passed = sum(
        beats_baseline(predicted(noise(s, 50, 2500, horizon=1, ic=0.05)), 1, 0.001).passed
        for s in range(seeds)
    )
    print(f"an information coefficient of 0.05 passes in {passed} of {seeds} at 0.1%")
    assert passed >= 0.8 * seeds
