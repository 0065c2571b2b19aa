"""Training through mlfin beside the same fits called bare, and the tracking of one run."""

import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from mlfin.core.settings import Settings, quiet_environment

quiet_environment()

from mlfin.validation.splits import WalkForward  # noqa: E402
from mlfin.models.tracking import track  # noqa: E402
from mlfin.models.training import cross_train  # noqa: E402
from mlfin.models.zoo import make_model  # noqa: E402

BOUND, TRACKING = 1.15, 2.0  # times the bare fits, in CPU seconds; seconds
MODELS = {
    "logistic": {},
    "random_forest": {},
    "xgboost": {"n_estimators": 600},
    "lightgbm": {"n_estimators": 600},
}


def panel(symbols: int = 50, days: int = 2500, features: int = 16, seed: int = 0) -> SimpleNamespace:
    """A weak signal in the first of many features."""
    rng = np.random.default_rng(seed)
    ts = pd.date_range("2010-01-01", periods=days, freq="B", tz="UTC").as_unit("us")
    keys = pd.DataFrame(
        {
            "symbol": np.repeat([f"S{k:02}" for k in range(symbols)], days),
            "timeframe": "1d",
            "ts": np.tile(ts, symbols),
        }
    )
    spans = pd.DataFrame(
        {"ts": keys["ts"], "t0": keys["ts"] + pd.Timedelta("1D"), "t1": keys["ts"] + pd.Timedelta("7D")}
    )
    X = pd.DataFrame(rng.normal(size=(len(keys), features)), columns=[f"f_{k}" for k in range(features)])
    move = 0.02 * (0.05 * X["f_0"] + rng.normal(size=len(keys)))
    return SimpleNamespace(
        X=X, y=(move > 0).astype("int8"), forward_return=move, keys=keys, spans=spans, hash="0" * 64
    )


def bare(dataset: SimpleNamespace, folds: list, last: str) -> None:
    """The same fits and predictions, and nothing else; `last` is fitted once more to all rows."""
    y = dataset.y.to_numpy()
    for name, parameters in MODELS.items():
        for fold in folds:
            model = make_model(name, seed=1, **parameters).fit(dataset.X.iloc[fold.train], y[fold.train])
            model.predict_proba(dataset.X.iloc[fold.test])
    make_model(last, seed=1, **MODELS[last]).fit(dataset.X, y)


def main(symbols: int = 50, days: int = 2500) -> None:
    """Print the measures, their bounds and verdicts."""
    dataset = panel(symbols, days)
    folds = WalkForward(folds=5, embargo=5).split(dataset.spans)
    cross_train(
        panel(2, 400), WalkForward(folds=2).split(panel(2, 400).spans), list(MODELS), seed=1
    )  # imports
    with tempfile.TemporaryDirectory() as place:
        begun, cpu = time.perf_counter(), time.process_time()
        trained = cross_train(
            dataset, folds, list(MODELS), seed=1, overrides=MODELS, resume=Path(place) / "folds"
        )
        ours, ours_cpu = time.perf_counter() - begun, time.process_time() - cpu
        settings = Settings(
            profile="bench",
            root=Path(place),
            store=f"{place}/lake",
            mlflow=f"sqlite:///{place}/mlflow.db",
            artifacts=f"{place}/artifacts",
            ledger=Path(place) / "ledger.sqlite",
        )
        took = []
        for key in "abcd":  # the first makes the store and imports MLflow
            begun, cpu = time.perf_counter(), time.process_time()
            track(trained, settings, "bench", key * 32, {"label": "fwd_ret_5", "folds": 5})
            took.append((time.perf_counter() - begun, time.process_time() - cpu))
        begun, cpu = time.perf_counter(), time.process_time()
        bare(dataset, folds, trained.selected)
        alone, alone_cpu = time.perf_counter() - begun, time.process_time() - cpu
    tracked, tracked_cpu = (float(np.median([t[k] for t in took[1:]])) for k in (0, 1))
    ratio = (ours_cpu + tracked_cpu) / alone_cpu
    print(f"{len(dataset.X):,} rows, {dataset.X.shape[1]} features, {len(MODELS)} models, 5 folds; bare "
          f"{alone:.1f} s ({alone_cpu:.1f} s of CPU), "
          f"through mlfin, each fold kept, {ours:.1f} s ({ours_cpu:.1f} s of CPU)\n")
    print("| measure | value | bound | verdict |\n|---|---|---|---|")
    print(f"| folds, keeping, scores, importance, tracking / the same fits bare, CPU | {ratio:.3f}x | "
          f"{BOUND}x | {'met' if ratio <= BOUND else 'missed'} |")
    print(f"| tracking of one run, four models | {tracked:.2f} s | {TRACKING:.0f} s | "
          f"{'met' if tracked <= TRACKING else 'missed'} |")


if __name__ == "__main__":
    main()
