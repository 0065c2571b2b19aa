"""A weak signal whose strength is known is found, and the interval around what was found covers it."""

import numpy as np
import pandas as pd
import pytest

from mlfin.validation.folds import check_folds
from mlfin.validation.splits import WalkForward

from ..fixtures import panels


def daily_ic(dataset, predicted: pd.Series) -> np.ndarray:
    """Correlation over the symbols of each date, in order of time, between predictions (by row) and
    returns."""
    rows = predicted.index.to_numpy()
    ts = pd.factorize(dataset.keys["ts"].array.asi8[rows], sort=True)[0]
    x, y, n = predicted.to_numpy(), dataset.forward_return.to_numpy()[rows], np.bincount(ts)
    x, y = (v - (np.bincount(ts, v) / n)[ts] for v in (x, y))
    return np.bincount(ts, x * y) / np.sqrt(np.bincount(ts, x * x) * np.bincount(ts, y * y))


def newey_west(series: np.ndarray, lags: int = 5) -> tuple[float, float]:
    """Mean and its standard error under autocorrelation up to `lags`, Bartlett weights (Newey and West
    1987)."""
    e, n = series - series.mean(), len(series)
    variance = e @ e + 2 * sum((1 - k / (lags + 1)) * (e[k:] @ e[:-k]) for k in range(1, lags + 1))
    return float(series.mean()), float(np.sqrt(variance)) / n


def out_of_sample(dataset, kind: str, folds: int = 4) -> pd.Series:
    """Predictions of a linear model with its scaler inside the fold, each row by a model that ended before
    it."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    parts, X = [], dataset.X.to_numpy()
    for f in check_folds(WalkForward(folds, embargo=2).split(dataset.spans), dataset.spans):
        model = make_pipeline(StandardScaler(), Ridge() if kind == "ridge" else LogisticRegression())
        model.fit(X[f.train], (dataset.forward_return if kind == "ridge" else dataset.y).to_numpy()[f.train])
        found = model.predict(X[f.test]) if kind == "ridge" else model.predict_proba(X[f.test])[:, 1]
        parts.append(pd.Series(found, index=f.test))
    return pd.concat(parts)


def coverage(seeds, kind: str, ic: float, **size) -> tuple[float, float, float]:
    """Share of seeds whose 95 % interval covers the truth, share whose interval lies above zero, and the mean
    estimate."""
    found = [newey_west(daily_ic(d, out_of_sample(d, kind)))
             for d in (panels.synthetic_panel(seed, ic=ic, **size) for seed in seeds)]
    mean, error = np.array(found).T
    return (
        float((np.abs(mean - ic) <= 1.96 * error).mean()),
        float((mean - 1.96 * error > 0).mean()),
        float(mean.mean()),
    )


def test_the_panel_holds_what_it_says():
    """The signal itself, known without a model: its mean correlation over 4 panels is the truth to four
    standard errors."""
    for ic in (0.0, 0.05, 0.2):
        panels_ = [panels.synthetic_panel(seed, symbols=40, bars=600, ic=ic) for seed in range(4)]
        means, errors = zip(
            *(newey_west(daily_ic(d, pd.Series(d.X.to_numpy()[:, :3] @ panels.WEIGHTS))) for d in panels_),
            strict=True,
        )
        assert abs(np.mean(means) - ic) < 4 * np.mean(errors) / 2
    assert all(d.verify() is d for d in panels_)


def test_a_market_hides_the_signal_from_plain_returns_but_not_within_a_date():
    plain, demeaned = (
        panels.synthetic_panel(3, symbols=30, bars=400, ic=0.1, label=s)
        for s in ("fwd_ret_1", "fwd_demean_1")
    )
    signal = pd.Series(plain.X.to_numpy()[:, :3] @ panels.WEIGHTS)
    np.testing.assert_allclose(daily_ic(plain, signal), daily_ic(demeaned, signal), rtol=1e-6)
    assert (
        np.corrcoef(signal, plain.forward_return)[0, 1]
        < 0.9 * np.corrcoef(signal, demeaned.forward_return)[0, 1]
    )


def test_a_known_weak_signal_is_found():
    """Ten small panels. The signal is twice as strong, since a fifth of the rows must show it."""
    covered, seen, mean = coverage(range(10), "ridge", 0.1, symbols=30, bars=800, inputs=5)
    assert covered >= 0.8 and seen >= 0.9 and 0.08 < mean < 0.11


def test_noise_is_not_found():
    """The interval around nothing lies above zero in one seed of forty on average; five of twenty would be a
    leak."""
    covered, seen, mean = coverage(range(20), "ridge", 0.0, symbols=20, bars=400, inputs=5)
    assert covered >= 0.8 and seen <= 0.15 and abs(mean) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_a_known_weak_signal_is_found_in_fifty_seeds(kind):
    covered, seen, mean = coverage(range(50), kind, 0.05)
    print(f"\n{kind}: interval covers 0.05 in {covered:.0%} of 50 seeds, lies above zero in {seen:.0%}, mean "
          f"estimate {mean:.4f}")
    assert covered >= 0.8 and seen == 1.0
