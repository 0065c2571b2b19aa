"""Training through mlfin beside the same fits called bare, model by model; the forest on histograms beside
LightGBM's own and scikit-learn's; the tracking of one run."""

import statistics
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

BOUND, FOREST = 1.2, 2.0  # times the bare fits, times bare LightGBM, in CPU seconds
TRACKING = 2.0  # seconds
MODELS = {
    "logistic": {},
    "random_forest": {},
    "random_forest_fast": {},
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


def bare(dataset: SimpleNamespace, folds: list, name: str) -> None:
    """The same fits and predictions, and nothing else; the last fit is of all rows."""
    y = dataset.y.to_numpy()
    for fold in folds:
        model = make_model(name, seed=1, **MODELS[name]).fit(dataset.X.iloc[fold.train], y[fold.train])
        model.predict_proba(dataset.X.iloc[fold.test])
    make_model(name, seed=1, **MODELS[name]).fit(dataset.X, y)


def cpu_seconds(work) -> float:
    """Of this process, all threads together."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def beside(dataset: SimpleNamespace, folds: list, name: str, patience: float = 6.0) -> tuple[float, float]:
    """CPU seconds through mlfin, each fold kept, and bare: medians of up to five pairs, fewer if slow."""
    pairs = []
    while len(pairs) < 5 and (len(pairs) < 1 or sum(b for _, b in pairs) < patience):
        with tempfile.TemporaryDirectory() as place:
            own = {"overrides": {name: MODELS[name]}, "resume": Path(place) / "folds"}
            ours = cpu_seconds(lambda own=own: cross_train(dataset, folds, [name], seed=1, **own))
        pairs.append((ours, cpu_seconds(lambda: bare(dataset, folds, name))))
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def forests(dataset: SimpleNamespace, depth: int) -> tuple[dict[str, float], dict[str, float]]:
    """CPU seconds of a fit to four fifths of the rows, and the AUC on the others, of three forests."""
    import lightgbm
    from sklearn.metrics import roc_auc_score

    X, y, cut = dataset.X.to_numpy(), dataset.y.to_numpy(), len(dataset.X) * 4 // 5
    leaf = 0.05 if depth == 4 else 0.002
    limits = {"max_depth": depth, "min_samples_leaf": leaf}
    made = {
        "bare": lightgbm.LGBMClassifier(
            boosting_type="rf", n_estimators=150, max_depth=depth, num_leaves=min(2**depth, int(0.3 / leaf)),
            subsample=0.3, subsample_freq=1, feature_fraction_bynode=0.25, max_bin=63,
            min_child_samples=int(leaf * cut), random_state=1, n_jobs=1, verbose=-1,
        ),
        "random_forest_fast": make_model("random_forest_fast", seed=1, **limits),
        "random_forest": make_model("random_forest", seed=1, **limits),
    }  # fmt: skip
    took = {name: cpu_seconds(lambda m=model: m.fit(X[:cut], y[:cut])) for name, model in made.items()}
    said = {name: model.predict_proba(X[cut:])[:, 1] for name, model in made.items()}
    return took, {name: float(roc_auc_score(y[cut:], p)) for name, p in said.items()}


def tracking(dataset: SimpleNamespace, folds: list) -> float:
    """Seconds to track a training: the median of three, after one that makes the store and imports MLflow."""
    trained = cross_train(dataset, folds, ["logistic"], seed=1)
    with tempfile.TemporaryDirectory() as place:
        settings = Settings(
            profile="bench",
            root=Path(place),
            store=f"{place}/lake",
            mlflow=f"sqlite:///{place}/mlflow.db",
            artifacts=f"{place}/artifacts",
            ledger=Path(place) / "ledger.sqlite",
        )
        took = []
        for key in "abcd":
            begun = time.perf_counter()
            track(trained, settings, "bench", key * 32, {"label": "fwd_ret_5", "folds": 5})
            took.append(time.perf_counter() - begun)
    return statistics.median(took[1:])


def row(what: str, value: float, bound: float, unit: str = "x") -> None:
    """A line of the table."""
    verdict = "met" if value <= bound else "missed"
    print(f"| {what} | {value:.3f}{unit} | {bound:g}{unit} | {verdict} |", flush=True)


def main(symbols: int = 50, days: int = 2500) -> None:
    """Print the measures, their bounds and verdicts."""
    dataset = panel(symbols, days)
    folds = WalkForward(folds=5, embargo=5).split(dataset.spans)
    small = panel(2, 400)
    cross_train(small, WalkForward(folds=2).split(small.spans), list(MODELS), seed=1)  # imports
    print(f"{len(dataset.X):,} rows, {dataset.X.shape[1]} features, 5 folds and all rows, CPU seconds\n")
    print("| measure | value | bound | verdict |\n|---|---|---|---|")
    for name in MODELS:
        ours, alone = beside(dataset, folds, name)
        row(f"{name}: folds, keeping, scores, importance ({ours:.1f} s) / the same fits bare ({alone:.1f} s)",
            ours / alone, BOUND)  # fmt: skip
    error = np.sqrt((len(dataset.X) // 5 + 1) / 12) / (len(dataset.X) // 10)  # of an AUC without skill
    for depth in (4, 8):
        took, auc = forests(dataset, depth)
        row(f"random_forest_fast, depth {depth} ({took['random_forest_fast']:.2f} s) / bare LightGBM forest "
            f"({took['bare']:.2f} s); random_forest takes {took['random_forest']:.2f} s",
            took["random_forest_fast"] / took["bare"], FOREST)  # fmt: skip
        row(f"AUC of the two, depth {depth}, apart / the error of one", abs(
            auc["random_forest_fast"] - auc["random_forest"]) / error, 1.0)  # fmt: skip
    row("tracking of one run", tracking(dataset, folds), TRACKING, " s")


if __name__ == "__main__":
    main()
