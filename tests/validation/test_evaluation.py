"""Scores against scikit-learn's and scipy's, and verdicts that chance cannot buy."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfin.core.errors import ModelError
from mlfin.validation.curves import calibration_curve, confusion, fold_ic, pr_curve, roc_curve
from mlfin.validation.attribution import importance
from mlfin.validation.evaluation import describe_verdicts, losses, score_folds, summarise


def told(probability, actual, fold=0, model="m", baseline=0.5, forward=None):
    n = len(actual)
    return pd.DataFrame(
        {
            "symbol": "A",
            "timeframe": "1d",
            "ts": pd.date_range("2000", periods=n, tz="UTC"),
            "model": model,
            "fold": fold,
            "probability": probability,
            "baseline": baseline,
            "actual": np.asarray(actual, "int8"),
            "forward_return": np.asarray(actual, float) - 0.5 if forward is None else forward,
        }
    )


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5000001, 0.9, 1.0]), st.integers(0, 1)),
        min_size=2,
        max_size=60,
    )
)
def test_scores_equal_scikit_learns(rows):
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    p, y = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    got = score_folds(told(p, y, baseline=0.3)).iloc[0]
    clipped = np.clip(p, 1e-15, 1 - 1e-15)
    assert got["log_loss"] == pytest.approx(log_loss(y, clipped, labels=[0, 1]), rel=1e-9, abs=1e-12)
    assert got["log_loss_baseline"] == pytest.approx(
        log_loss(y, np.full(len(y), 0.3), labels=[0, 1]), rel=1e-9
    )
    assert got["brier"] == pytest.approx(brier_score_loss(y, p, pos_label=1), abs=1e-12)
    assert got["accuracy"] == np.mean((p >= 0.5) == y)
    if 0 < y.sum() < len(y):
        assert got["roc_auc"] == pytest.approx(roc_auc_score(y, p), abs=1e-12)
    else:
        assert np.isnan(got["roc_auc"])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.25, 0.499, 0.5, 0.9, 1.0]), st.integers(0, 1)),
        min_size=2,
        max_size=60,
    )
)
def test_the_later_scores_equal_scikit_learns_too(rows):
    from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

    p, y = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    frame = told(p, y, baseline=0.6)
    got = score_folds(frame).iloc[0]
    for suffix, said in (("", p), ("_baseline", frame["baseline"].to_numpy())):
        up = said >= 0.5
        for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
            assert got[name + suffix] == pytest.approx(
                score(y, up, zero_division=np.nan), abs=1e-12, nan_ok=True
            ), name
        if y.any():
            assert got["pr_auc" + suffix] == pytest.approx(average_precision_score(y, said), abs=1e-12)
        else:
            assert np.isnan(got["pr_auc" + suffix])
    counts = confusion(frame, 0.25)
    for column, said in (("count", p), ("count_baseline", frame["baseline"])):
        both = counts.pivot(index="actual", columns="predicted", values=column)
        assert both.loc[1, 1] == np.sum((said >= 0.25) & (y == 1)) and both.to_numpy().sum() == len(y)


def test_earlier_columns_keep_their_places():
    day = pd.Timestamp("2001-01-01", tz="UTC")
    fold = SimpleNamespace(
        number=0,
        train=np.arange(9),
        test=np.arange(4),
        train_start=day,
        train_end=day,
        test_start=day,
        test_end=day,
    )
    early = [
        "model",
        "fold",
        "n_train",
        "n_test",
        "log_loss",
        "log_loss_baseline",
        "brier",
        "brier_baseline",
        "accuracy",
        "accuracy_baseline",
        "roc_auc",
        "train_start",
        "train_end",
        "test_start",
        "test_end",
    ]
    scores = score_folds(told([0.8, 0.4, 0.6, 0.1], [1, 0, 0, 1]), [fold])
    assert list(scores)[: len(early)] == early
    assert {"precision", "f1_baseline", "pr_auc"} <= set(list(scores)[len(early) :])
    summary = list(summarise(scores))
    assert summary.index("note") < summary.index("precision")
    assert summary[:4] == ["model", "folds", "log_loss", "log_loss_se"]


def test_curves_are_scikit_learns():
    from sklearn import metrics

    rng = np.random.default_rng(0)
    p, y = np.round(rng.uniform(size=150), 2), rng.integers(0, 2, 150)
    roc, pr = roc_curve(told(p, y)), pr_curve(told(p, y))
    false, true, threshold = metrics.roc_curve(y, p, drop_intermediate=False)
    np.testing.assert_allclose(roc["false_positive_rate"], false[1:])
    np.testing.assert_allclose(roc["true_positive_rate"], true[1:])
    np.testing.assert_allclose(roc["threshold"], threshold[1:])
    precision, recall, _ = metrics.precision_recall_curve(y, p)
    np.testing.assert_allclose(pr["precision"], precision[:-1][::-1])
    np.testing.assert_allclose(pr["recall"], recall[:-1][::-1])
    assert set(pr["baseline"]) == {y.mean()}
    long = roc_curve(told(np.repeat(p, 40), np.repeat(y, 40)), points=20)
    assert len(long) <= 20 and long.iloc[-1][["false_positive_rate", "true_positive_rate"]].tolist() == [1, 1]
    merged = long.merge(roc, on="threshold", suffixes=("", "_all"))
    assert len(merged) == len(long)
    np.testing.assert_allclose(merged["true_positive_rate"], merged["true_positive_rate_all"])
    with pytest.raises(ModelError, match="both classes"):
        roc_curve(told([0.1, 0.2], [1, 1]))


def regressed(prediction, actual, fold=0, model="m", baseline=0.0):
    frame = told(0.5, np.zeros(len(actual)), fold, model).drop(columns="probability")
    return frame.assign(
        prediction=prediction,
        baseline=baseline,
        actual=np.asarray(actual, float),
        forward_return=np.asarray(actual, float),
    )


def test_a_regression_is_scored_as_scikit_learn_does():
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    rng = np.random.default_rng(0)
    y = 0.02 * rng.normal(size=400)
    frame = regressed(0.1 * y + 0.002 * rng.normal(size=400), y, np.repeat([0, 1], 200), baseline=0.001)
    scores = score_folds(frame)
    for row, (_, own) in zip(scores.to_dict("records"), frame.groupby("fold"), strict=True):
        for suffix, said in (("", own["prediction"]), ("_baseline", own["baseline"])):
            assert row["mae" + suffix] == pytest.approx(mean_absolute_error(own["actual"], said))
            assert row["rmse" + suffix] == pytest.approx(root_mean_squared_error(own["actual"], said))
            assert row["directional_accuracy" + suffix] == np.mean((said > 0) == (own["actual"] > 0))
        assert row["r2"] == pytest.approx(1 - (row["rmse"] / row["rmse_baseline"]) ** 2)
        against_mean = score_folds(own.assign(baseline=own["actual"].mean()))["r2"][0]
        assert against_mean == pytest.approx(r2_score(own["actual"], own["prediction"]))
    summary = summarise(scores).iloc[0]
    assert summary["gain"] == pytest.approx(scores["r2"].mean())
    assert summary["rmse"] == pytest.approx(scores["rmse"].mean())
    assert summary["verdict"].startswith("better than the baseline: squared error lower by")
    assert confusion(frame).query("predicted == actual")["count"].sum() == np.sum(
        (frame.prediction > 0) == (y > 0)
    )
    curve = calibration_curve(frame, 4)
    assert np.average(curve["observed"], weights=curve["count"]) == pytest.approx(y.mean())
    assert fold_ic(frame)["ic"].min() > 0.3
    with pytest.raises(ModelError, match="classifier"):
        roc_curve(frame)
    with pytest.raises(ModelError, match="`prediction` must be finite"):
        score_folds(frame.assign(prediction=np.inf))
    naive = summarise(score_folds(frame.assign(prediction=0.001))).iloc[0]
    assert naive["verdict"].startswith("not better") and naive["r2"] == 0


def test_losses_average_to_the_scores():
    frame = told([0.8, 0.4, 0.6, 0.1], [1, 0, 0, 1], baseline=0.3).set_index(pd.Index([7, 5, 3, 1]))
    cost, score = losses(frame), score_folds(frame).iloc[0]
    assert cost.index.equals(frame.index)
    assert cost.mean().to_dict() == pytest.approx(
        {"loss": score["log_loss"], "loss_baseline": score["log_loss_baseline"]}
    )


def test_verdicts_are_said_in_words():
    good, bad = [0.01, 0.01, 0.01], [-0.01, 0.01, 0.0]

    def head(**models):
        return describe_verdicts(summarise(pd.concat([folds_with_gains(g, m) for m, g in models.items()])))

    assert head(a=bad)[0] == "Not better than the baseline."
    assert head(a=good)[0] == "Better than the baseline: a."
    assert head(a=bad, b=bad)[0] == "Not better than the baseline: none of 2 models is."
    assert head(a=good, b=bad)[0] == "1 of 2 models better than the baseline: a."
    assert head(a=good, b=good)[0].startswith("All 2 models are better")
    assert head(a=good, b=bad)[2].startswith("b: not better than the baseline: log loss")


def test_golden_scores():
    got = score_folds(told([0.8, 0.4, 0.6, 0.1], [1, 0, 0, 1], baseline=0.5)).iloc[0]
    assert got["log_loss"] == pytest.approx(-(np.log(0.8) + np.log(0.6) + np.log(0.4) + np.log(0.1)) / 4)
    assert got["brier"] == pytest.approx((0.04 + 0.16 + 0.36 + 0.81) / 4)
    assert (got["accuracy"], got["roc_auc"], got["log_loss_baseline"]) == (0.5, 0.5, pytest.approx(np.log(2)))


def test_folds_give_sizes_and_borders():
    day = pd.Timestamp("2001-01-01", tz="UTC")
    folds = [
        SimpleNamespace(
            number=k,
            train=np.arange(10 * k),
            test=np.arange(3),
            train_start=day,
            train_end=day,
            test_start=day,
            test_end=day,
        )
        for k in (1, 2)
    ]
    predictions = pd.concat([told([0.5] * 3, [0, 1, 1], fold=k).assign(symbol=f"S{k}") for k in (1, 2)])
    scores = score_folds(predictions, folds)
    assert list(scores)[:4] == ["model", "fold", "n_train", "n_test"]
    assert scores["n_train"].tolist() == [10, 20]
    assert {"train_start", "train_end", "test_start", "test_end"} <= set(scores)
    with pytest.raises(ModelError, match="no fold"):
        score_folds(predictions, folds[:1])


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(probability=np.nan), "probability"),
        (dict(probability=-0.1), "probability"),
        (dict(baseline=1.5), "baseline"),
        (dict(actual=2), "actual"),
    ],
)
def test_predictions_that_are_refused(change, words):
    with pytest.raises(ModelError, match=f"`{words}` must be"):
        score_folds(told([0.5], [1]).assign(**change))
    with pytest.raises(ModelError, match="no fold"):
        score_folds(told([0.5], [1]).drop(columns="fold"))
    with pytest.raises(ModelError, match="at least one row"):
        score_folds(told([], []))


def folds_with_gains(gains, model="m"):
    return pd.DataFrame(
        [
            dict(
                model=model,
                fold=k,
                n_test=100,
                log_loss=0.69 - g,
                log_loss_baseline=0.69,
                brier=0.25,
                brier_baseline=0.25,
                accuracy=0.5,
                accuracy_baseline=0.5,
                roc_auc=0.5,
            )
            for k, g in enumerate(gains)
        ]
    )


def test_the_verdict_is_students_t():
    from scipy import stats

    gains = np.array([0.01, 0.012, 0.002, 0.008, 0.004])
    p = stats.ttest_1samp(gains, 0, alternative="greater").pvalue
    for level, words in ((p * 1.01, "better than"), (p * 0.99, "not better than")):
        assert summarise(folds_with_gains(gains), level=level)["verdict"][0].startswith(words)
    assert summarise(folds_with_gains(gains), level=p * 1.5, compared=2)["verdict"][0].startswith(
        "not better"
    )
    row = summarise(folds_with_gains(gains)).iloc[0]
    assert row["gain"] == pytest.approx(gains.mean()) and row["gain_se"] == pytest.approx(stats.sem(gains))


@pytest.mark.parametrize(
    "gains, words",
    [
        ([0.01], "one fold cannot tell"),
        ([0.0] * 5, "not better than the baseline: it says what the baseline says"),
        ([-0.01, -0.02], "log loss higher"),
        ([0.05, -0.01, 0.0], "which chance can do"),
        ([0.01, 0.01, 0.01], "better than"),
    ],
)
def test_verdicts_in_words(gains, words):
    assert words in summarise(folds_with_gains(gains))["verdict"][0]


def test_the_naive_guess_itself_is_no_try():
    gains = [0.01, 0.012, 0.002, 0.008, 0.004]
    alone, beside = (
        folds_with_gains(gains),
        pd.concat([folds_with_gains(gains), folds_with_gains([0.0] * 5, "dummy")]),
    )
    level = 0.01
    for scores in (alone, beside):
        verdicts = summarise(scores, level=level).set_index("model")["verdict"]
        assert verdicts["m"] == summarise(alone, level=level)["verdict"][0]
    assert verdicts["dummy"].startswith("not better")


def test_best_first_ties_by_name_and_undefined_auc_is_reported():
    scores = pd.concat(
        [folds_with_gains([0.01, 0.02], m) for m in ("zeta", "alpha")]
        + [folds_with_gains([0.03, 0.03], "late")]
    )
    scores = scores.reset_index(drop=True)
    scores.loc[0, "roc_auc"] = np.nan
    summary = summarise(scores)
    assert summary["model"].tolist() == ["late", "alpha", "zeta"]
    assert summary.set_index("model")["note"]["zeta"] == "ROC AUC does not exist in 1 fold(s): one class only"
    assert summary.set_index("model")["roc_auc"]["zeta"] == 0.5
    with pytest.raises(ModelError, match="level"):
        summarise(scores, level=0)


@pytest.mark.parametrize(
    "tries, most", [(100, 10), pytest.param(300, 27, marks=pytest.mark.slow)]
)  # 99 % bounds at 5 %
def test_worthless_models_are_seldom_called_better(tries, most):
    rng = np.random.default_rng(0)
    called = 0
    for _ in range(tries):
        scores = pd.concat([folds_with_gains(rng.normal(0, 0.01, 5), m) for m in "abcd"], ignore_index=True)
        called += (~summarise(scores)["verdict"].str.startswith("not")).any()
    assert called <= most


def test_calibration_counts_every_prediction_once():
    rng = np.random.default_rng(0)
    p = np.round(rng.uniform(0.4, 0.6, 1000), 2)
    y = rng.uniform(size=1000) < p
    for bins in (1, 3, 10, 1000):
        curve = calibration_curve(told(p, y), bins)
        assert curve["count"].sum() == 1000 and len(curve) <= bins
        assert np.average(curve["observed"], weights=curve["count"]) == pytest.approx(y.mean())
        assert np.average(curve["predicted"], weights=curve["count"]) == pytest.approx(p.mean())
    assert len(calibration_curve(told(np.full(9, 0.5), [0, 1] * 4 + [1]))) == 1
    with pytest.raises(ModelError, match="bins"):
        calibration_curve(told(p, y), 0)


def test_information_coefficient_is_spearmans():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    p, f = np.round(rng.uniform(size=200), 1), rng.normal(size=200)
    got = fold_ic(told(p, f > 0, forward=f)).iloc[0]
    assert got["ic"] == pytest.approx(spearmanr(p, f).statistic, abs=1e-12)
    assert got["error"] == pytest.approx(199**-0.5)
    assert np.isnan(fold_ic(told(np.full(5, 0.5), [0, 1, 0, 1, 1])).iloc[0]["ic"])


class Linear:
    def predict_proba(self, X):
        p = 1 / (1 + np.exp(-(2 * X["a"] + X["b"]).to_numpy()))
        return np.column_stack([1 - p, p])


def test_importance_orders_features_and_does_not_depend_on_the_others():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(5000, 3)), columns=["a", "b", "c"])
    y = (rng.uniform(size=5000) < Linear().predict_proba(X)[:, 1]).astype(int)
    one = importance(Linear(), X, y)
    assert one["feature"].tolist() == ["a", "b", "c"]
    assert one["importance"][0] > one["importance"][1] > one["importance"][2] == 0
    pd.testing.assert_frame_equal(one, importance(Linear(), X, y))
    two = importance(Linear(), X[["c", "b", "a"]], y).set_index("feature").loc[["a", "b", "c"]].reset_index()
    pd.testing.assert_frame_equal(one, two)
    assert len(importance(Linear(), X[:3], y[:3], repeats=1)) == 3


def test_a_regressions_importance_is_in_squared_error():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(2000, 2)), columns=["a", "b"])
    model = SimpleNamespace(predict=lambda X: X["a"].to_numpy())
    found = importance(model, X, X["a"].to_numpy() + rng.normal(size=2000), rows=2000).set_index("feature")[
        "importance"
    ]
    assert found["a"] == pytest.approx(2 * X["a"].var(), rel=0.1) and found["b"] == 0


def test_importance_refuses_nonsense():
    X = pd.DataFrame({"a": [1.0], "b": [1.0]})
    with pytest.raises(ModelError, match="as long as X"):
        importance(Linear(), X, [0, 1])
    with pytest.raises(ModelError, match="not empty"):
        importance(Linear(), X[:0], [])
    with pytest.raises(ModelError, match="repeats"):
        importance(Linear(), X, [1], repeats=0)


@pytest.mark.parametrize(
    "n, most", [(25, 4), pytest.param(60, 9, marks=pytest.mark.slow)]
)  # 99 % and 99.9 % bounds at 5 %
def test_a_row_that_several_folds_foretold_is_judged_once(n, most):
    """Without skill, combinatorial folds are called better no more often than the level says: their rows are
    averaged before."""
    from mlfin.validation.predictions import average_paths
    from mlfin.validation.splits import CombinatorialPurged

    better, days = 0, 360
    ts = pd.date_range("2020-01-01", periods=days, freq="D", tz="UTC")
    spans = pd.DataFrame({"ts": ts, "t0": ts + pd.Timedelta("1D"), "t1": ts + pd.Timedelta("2D")})
    folds = CombinatorialPurged(6, 2, 0).split(spans)
    for seed in range(n):
        rng = np.random.default_rng(seed)
        actual, said = rng.integers(0, 2, days), 0.5 + 0.02 * rng.normal(size=days)
        parts = [
            pd.DataFrame(
                {
                    "model": "m",
                    "symbol": "A",
                    "timeframe": "1d",
                    "ts": ts[f.test],
                    "fold": f.number,
                    "probability": said[f.test],
                    "baseline": 0.5,
                    "actual": actual[f.test],
                }
            )
            for f in folds
        ]
        repeated = pd.concat(parts, ignore_index=True)
        if not seed:
            with pytest.raises(ModelError, match="one a model and decision(.|\n)*average_paths"):
                score_folds(repeated)
        once = average_paths(repeated)
        assert len(once) == days and sorted(once.fold.unique()) == [1, 2, 3, 4, 5, 6]
        assert (
            once.groupby("fold").ts.agg(lambda x: x.max() - x.min()) == pd.Timedelta(days=days / 6 - 1)
        ).all()
        np.testing.assert_allclose(once.set_index("ts").loc[ts, "probability"], said)
        better += summarise(score_folds(once)).verdict[0].startswith("better")
    assert better <= most
