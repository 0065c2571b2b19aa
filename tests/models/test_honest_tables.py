"""The honest table of all models, on the built-in equities and on real minutes of bitcoin: printed, whatever
it says.

`pytest -m slow -s tests/models/test_honest_tables.py` shows it. Nothing here asks for a result; only that
none is left out.
"""

from inspect import signature
from pathlib import Path

import pandas as pd
import pytest

from mlfin.core.errors import MissingExtraError
from mlfin.ingest.ingest import ingest
from mlfin.features.table import compute_features
from mlfin.datasets.builder import build_dataset
from mlfin.validation.evaluation import describe_verdicts
from mlfin.validation.information import ic_summary
from mlfin.validation.intervals import score_intervals
from mlfin.datasets.label_names import parse_label
from mlfin.datasets.labels import compute_labels
from mlfin.validation.splits import WalkForward
from mlfin.models.training import cross_train
from mlfin.models.zoo import make_model, model_names

BTC = (
    Path(__file__).resolve().parents[2].parent
    / "shared"
    / "data"
    / "market"
    / "nautilus"
    / "btc-perp-20211231-20220201_1m.csv"
)
SPECS = ["rsi_14", "macd_12_26_9", "mom_14", "sma_20", "ema_50", "bbands_20_2", "atr_14", "historical_vol_21",
         "returns", "log_returns", "volume_ma_20", "obv"]
SCORES = ("log_loss", "brier", "accuracy", "roc_auc", "rank_ic")
SHOWN = ["log_loss", "log_loss_baseline", "brier", "accuracy", "accuracy_baseline", "precision", "recall",
         "f1", "roc_auc", "pr_auc"]


def classifiers() -> tuple[list[str], list[str]]:
    "Names of the classifiers that can be built here, and why others cannot."
    names = model_names(*(["classification"] if signature(model_names).parameters else []))
    built, absent = [], []
    for name in names:
        try: make_model(name)
        except MissingExtraError as e: absent.append(f"{name}: {str(e).splitlines()[0]}")
        else: built.append(name)
    return built, absent


def table_of(bars: pd.DataFrame, label: str, folds: int):
    "Every classifier of the zoo on these bars, with intervals and verdicts."
    features, labels = compute_features(bars, SPECS), compute_labels(bars, label)
    dataset = build_dataset(features, labels, bars, SPECS)
    names, absent = classifiers()
    trained = cross_train(dataset, WalkForward(folds=folds,
                                               embargo=parse_label(label).horizon).split(dataset.spans),
                          names, seed=7)
    intervals = score_intervals(trained.predictions, SCORES, draws=1000)
    return trained, intervals, ic_summary(trained.predictions, parse_label(label).horizon), names, absent


def told(title: str, trained, intervals, ic, absent) -> str:
    "The table as text."
    wide = intervals.assign(text=[f"{r.gain:+.5f} [{r.gain_low:+.5f}, {r.gain_high:+.5f}]"
                                  for r in intervals.itertuples()])
    gains = wide.pivot(index="model", columns="score", values="text")[list(SCORES)]
    with pd.option_context("display.width", 250, "display.max_columns", 40, "display.max_colwidth", 200):
        parts = [f"\n== {title}: {len(trained.predictions) // trained.summary.model.nunique():,} rows out of "
                 "sample",
                 trained.summary.set_index("model")[SHOWN].round(4).to_string(),
                 "-- gain over the baseline with 95 % intervals from blocks of time", gains.to_string(),
                 "-- information coefficient",
                 ic.set_index("model")[["how", "rank_ic", "rank_ic_error", "rank_ic_t",
                                        "lags"]].round(4).to_string(),
                 "-- verdicts over folds", *describe_verdicts(trained.summary),
                 "-- verdicts by intervals", *(f"{r.model}: {r.verdict}"
                                               for r in intervals[intervals.score
                                                                  == "log_loss"].itertuples()),
                 *(f"not installed: {line}" for line in absent)]
    return "\n".join(parts)


def check(trained, intervals, ic, names):
    "Nobody is missing, everybody is beside the baseline, and everybody has a verdict."
    assert "dummy" in names
    assert set(trained.summary.model) == set(intervals.model) == set(ic.model) == set(names)
    assert len(intervals) == len(names) * len(SCORES)
    for verdicts in (trained.summary.verdict, intervals.verdict):
        assert verdicts.str.fullmatch("(not )?better than the baseline: .+").all()
    numbers = intervals[["value", "low", "high", "baseline", "gain", "gain_low", "gain_high"]]
    assert numbers.notna().all(axis=None) and (intervals.gain_low <= intervals.gain_high).all()
    naive = intervals[intervals.model == "dummy"]
    assert (naive.gain.abs() < 1e-3).all() and naive.verdict.str.startswith("not better").all()
    assert trained.summary[["log_loss_baseline", "accuracy_baseline", "f1_baseline",
                            "pr_auc_baseline"]].notna().all(axis=None)


@pytest.mark.slow
def test_the_honest_table_of_the_built_in_equities(tmp_path, capsys):
    bars = ingest("builtin", store=tmp_path).bars
    *found, names, absent = table_of(bars, "fwd_ret_5", folds=5)
    with capsys.disabled(): print(told("five US equities, daily, fwd_ret_5", *found, absent))
    check(*found, names)


@pytest.mark.slow
@pytest.mark.skipif(not BTC.is_file(), reason="../shared/data/market/nautilus is not there")
def test_the_honest_table_of_real_minutes(tmp_path, capsys):
    bars = ingest("csv", BTC, symbols=["BTCUSDT"], timeframe="1m", tz="UTC", store=tmp_path).bars
    *found, names, absent = table_of(bars, "fwd_ret_5", folds=5)
    with capsys.disabled(): print(told("bitcoin, one-minute bars, January 2022, fwd_ret_5", *found, absent))
    check(*found, names)
