"""What a run leaves, without the run: bars whose next move remembers the last one, a model trained on them, tracked."""
import numpy as np
import pandas as pd

import mlfin.models as models
from mlfin.core.provenance import hash_frame, write_json, write_parquet
from mlfin.core.settings import Settings
from mlfin.data.bars import as_bars
from mlfin.features.spec import parse
from mlfin.features.table import compute_features
from mlfin.models.dataset import build_dataset
from mlfin.models.labels import compute_labels
from mlfin.models.splits import WalkForward

LAST = pd.Timestamp("2024-06-28", tz="UTC")
AFTER = LAST + pd.Timedelta("3D")


def settings_at(folder, **other):
    "Settings whose every store lies in one folder."
    places = dict(store=f"{folder}/lake", mlflow=f"sqlite:///{folder}/mlflow.db", artifacts=f"{folder}/artifacts", ledger=f"{folder}/trials.sqlite")
    return Settings(**{"profile": "test", "root": folder, **places, **other})


def bars_that_remember(memory=0.4, days=700, symbols=("AAA", "BBB", "CCC"), seed=0, last=LAST):
    "Daily bars, every day of the week; a day's return is `memory` times the one before, and noise."
    rng, parts = np.random.default_rng(seed), []
    ts = pd.date_range(end=last, periods=days, freq="D").as_unit("us")
    for symbol in symbols:
        moves = np.zeros(days + 1)
        for t in range(1, days + 1): moves[t] = memory * moves[t - 1] + np.sqrt(1 - memory**2) * rng.normal(0, 0.01)
        close = 100 * np.exp(np.cumsum(moves))
        opened, close = close[:-1], close[1:]
        parts.append(pd.DataFrame(dict(symbol=symbol, timeframe="1d", ts=ts, known_at=ts + pd.Timedelta("1D"), open=opened,
                                       high=np.maximum(opened, close) * 1.001, low=np.minimum(opened, close) * 0.999, close=close,
                                       volume=rng.integers(1000, 9000, days).astype(float))))
    return as_bars(pd.concat(parts, ignore_index=True))


_learnt = {}  # features, labels, dataset and training of what was asked for before: tests leave the same run again and again


def learn(bars, specs, names, label, seed, training, fresh=False):
    "Features, labels, dataset and training of some bars; `fresh` where a test has changed how they are made."
    asked = (hash_frame(bars), *(parse(s).function for s in specs), repr((specs, names, label, seed, sorted(training.items()))))
    if fresh or asked not in _learnt:
        table, labels = compute_features(bars, specs, calendar="24/7"), compute_labels(bars, label)
        dataset = build_dataset(table, labels, bars, specs)
        folds = WalkForward(folds=3, embargo=2).split(dataset.spans)
        made = table, labels, dataset, models.train_walk_forward(dataset, folds, names, seed=seed, **training)
        if fresh: return made
        _learnt[asked] = made
    return _learnt[asked]


def leave(settings, experiment="main", key="a" * 32, specs=("returns",), names=("logistic",), bars=None, label="fwd_ret_1", seed=1, tracked=True,
          must_track=True, fresh=False, **training):
    "Write the products of a run, and track it; what was trained."
    specs, bars = list(specs), bars_that_remember() if bars is None else bars
    table, labels, dataset, trained = learn(bars, specs, list(names), label, seed, training, fresh)
    folder = settings.data_dir(experiment)
    for name, frame in {"bars": bars, "features": table, "labels": labels}.items(): write_parquet(frame, folder / f"{name}.parquet", name[0] * 32)
    write_parquet(trained.predictions, folder / "predictions.parquet", key)
    write_json({"calendar": "24/7"}, folder / "quality.json", "i" * 32)
    write_json({"rule": {"rule": "long_flat", "threshold": 0.5}}, folder / "backtest.json", "k" * 32)
    write_json({"dataset": dataset.hash, "label": label, "features": specs, "inputs": list(dataset.names), "rows": len(dataset),
                "selected": trained.selected, "parameters": {m: {k: v for k, v in p.items() if k != "device"} for m, p in trained.parameters.items()},
                "task": trained.task, "split": {"folds": 3, "embargo": 2}, "summary": trained.summary.to_dict("records")}, folder / "training.json", key)
    if tracked and models.track(trained, settings, experiment, key, {"label": label}).run_id is None and must_track: raise AssertionError("not tracked")
    return dataset, trained
