"""Splits and weights for 1,000,000 spans: 100 symbols x 10,000 bars, labels over five bars."""
import time

import numpy as np
import pandas as pd

from mlfin.validation.folds import check_folds
from mlfin.validation.splits import CombinatorialPurged, PurgedKFold, WalkForward
from mlfin.datasets.weights import sample_weights

SYMBOLS, BARS, HORIZON = 100, 10_000, 5
SPLITS, WEIGHTS = 2.0, 5.0  # seconds


def panel() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bars, and labels at each of them, as frames that are sorted by symbol and time."""
    size = BARS + HORIZON + 1
    names = pd.Series(np.repeat([f"S{i:03d}" for i in range(SYMBOLS)], size), dtype="str")
    ts = pd.date_range("2000-01-01", periods=size, freq="h", tz="UTC").as_unit("us")
    at = pd.DatetimeIndex(np.tile(ts.asi8, SYMBOLS).view("M8[us]")).tz_localize("UTC")
    opened = 100 * np.exp(np.random.default_rng(7).normal(0, 0.01, (SYMBOLS, size)).cumsum(axis=1)).ravel()
    bars = pd.DataFrame(dict(symbol=names, timeframe=pd.Series(["1h"] * len(names), dtype="str"), ts=at,
                             known_at=at + pd.Timedelta("1h"), open=opened))
    hour = pd.Timedelta("1h")
    labels = bars[["symbol", "timeframe", "ts"]].assign(t0=at + hour, t1=at + hour * (1 + HORIZON))
    return bars, labels[np.tile(np.arange(size) < BARS, SYMBOLS)].reset_index(drop=True)


def took(function, rounds: int = 3) -> float:
    """Shortest of several runs, in seconds."""
    best = float("inf")
    for _ in range(rounds):
        begin = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - begin)
    return best


def main() -> None:
    """Print a row a measure; fail beyond a bound."""
    bars, labels = panel()
    assert len(labels) == 1_000_000
    folds = CombinatorialPurged(6, 2, 5).split(labels)
    measures = [
        ("WalkForward, 5 folds", lambda: WalkForward(5, 5).split(labels), SPLITS),
        ("WalkForward, month by month", lambda: WalkForward(None, 5, period="1ME").split(labels), SPLITS),
        ("PurgedKFold, 5 folds", lambda: PurgedKFold(5, 5).split(labels), SPLITS),
        ("CombinatorialPurged, 6 choose 2", lambda: CombinatorialPurged(6, 2, 5).split(labels), SPLITS),
        ("check_folds, 15 folds", lambda: check_folds(folds, labels), None),
        ("uniqueness", lambda: sample_weights(labels, "uniqueness"), WEIGHTS),
        ("uniqueness, by bars", lambda: sample_weights(labels, "uniqueness", bars), WEIGHTS),
        ("return attribution", lambda: sample_weights(labels, "return_attribution", bars), WEIGHTS),
        ("time decay", lambda: sample_weights(labels, "time_decay"), WEIGHTS),
    ]
    print("| measure | value | bound | verdict |\n|---|---|---|---|")
    late = []
    for name, function, bound in measures:
        seconds = took(function)
        late += [name] if bound and seconds > bound else []
        verdict = "none" if not bound else "met" if seconds <= bound else "missed"
        print(f"| {name}, 1,000,000 spans | {seconds:.2f} s | "
              f"{f'{bound:g} s' if bound else 'none'} | {verdict} |")
    assert not late, late


if __name__ == "__main__":
    main()
