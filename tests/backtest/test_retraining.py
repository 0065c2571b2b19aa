"""Re-training: each period by the model of its window and no later knowledge; paths of which none knew its
own rows."""

import numpy as np
import pandas as pd
import pytest

from mlfin.backtest.costs import Costs
from mlfin.backtest.retraining import check_paths, path_sharpes, simulate_retraining, schedule
from mlfin.backtest.trading_rule import TradingRule
from mlfin.backtest.simulate import backtest
from mlfin.core.errors import BacktestError, SplitError
from mlfin.features.table import compute_features
from mlfin.datasets.builder import build_dataset
from mlfin.datasets.labels import compute_labels
from mlfin.validation.splits import CombinatorialPurged
from mlfin.models.training import cross_train
from mlfin.models.zoo import make_model

SHORT = TradingRule(kind="long_short")
FREE = Costs(fee_bps=0.0, slippage_bps=0.0)
BY = dict(period="3ME", window="180D", embargo=2)


def bars_that_remember(memory=0.3, days=700, symbols=("AAA", "BBB"), seed=0):
    rng, parts = np.random.default_rng(seed), []
    ts = pd.date_range("2020-01-01", periods=days, freq="D", tz="UTC").as_unit("us")
    for symbol in symbols:
        moves = rng.normal(0, 0.01, days + 1)
        for t in range(1, days + 1): moves[t] += memory * moves[t - 1]
        price = 100 * np.exp(np.cumsum(moves))
        columns = dict(open=price[:-1], high=np.maximum(price[:-1], price[1:]),
                       low=np.minimum(price[:-1], price[1:]), close=price[1:])
        parts.append(pd.DataFrame(dict(symbol=symbol, timeframe="1d", ts=ts, known_at=ts + pd.Timedelta("1D"),
                                       **columns, volume=1e6)))
    return pd.concat(parts, ignore_index=True)


def question(label="fwd_ret_2", **how):
    bars, specs = bars_that_remember(**how), ["returns", "mom_14"]
    return bars, build_dataset(compute_features(bars, specs), compute_labels(bars, label), bars, specs)


@pytest.fixture(scope="module")
def asked():
    return question()


@pytest.fixture(scope="module")
def rolled(asked):
    bars, dataset = asked
    return simulate_retraining(dataset, "logistic", bars, SHORT, seed=1, **BY)


@pytest.fixture(scope="module")
def combined(asked):
    bars, dataset = asked
    folds = CombinatorialPurged(5, 2, 2).split(dataset.spans)
    return folds, cross_train(dataset, folds, ["logistic", "dummy"], seed=1)


def test_each_model_learns_from_its_window_and_nothing_that_touches_its_period(asked):
    spans = asked[1].spans
    folds = schedule(spans, **BY)
    assert len(folds) >= 4 and [f.test_start.month for f in folds[:4]] == [10, 1, 4, 7]
    assert folds[0].test_start >= spans.ts.min() + pd.Timedelta("180D")
    times = np.sort(spans.ts.unique())
    for f, after in zip(folds, [*folds[1:], None], strict=True):
        train, test = spans.iloc[f.train], spans.iloc[f.test]
        assert train.t1.max() < times[np.searchsorted(times, f.test_start) - 2] < test.ts.min()
        assert train.ts.min() >= f.test_start - pd.Timedelta("180D")
        assert after is None or test.ts.max() < after.test_start
        missing = spans[(spans.ts >= f.test_start - pd.Timedelta("180D"))
                        & (spans.t1 < test.ts.min() - pd.Timedelta("3D"))]
        assert set(missing.index) <= set(f.train)  # all that may be learnt from is
    tested = np.concatenate([f.test for f in folds])
    assert len(tested) == len(set(tested)) and set(spans.index[spans.ts
                                                               >= folds[0].test_start]) == set(tested)


@pytest.mark.parametrize("window, least", [(None, 1), (200, 200), ("365D", 350)])
def test_the_first_model_waits_until_its_window_is_full(asked, window, least):
    spans = asked[1].spans
    first = schedule(spans, "3ME", window, 2)[0]
    assert (spans.ts[spans.ts < first.test_start].nunique()) >= least


@pytest.mark.parametrize("how, words", [
    (dict(period="3MM"), "`period` must be"), (dict(window="long"), "`window` must be"),
    (dict(window=-3), "`min_train` must be an integer"),
    (dict(window="9000D"), "at most 0"), (dict(embargo=-1), "`embargo` must be"),
    (dict(embargo=400), "embargo of 400"),
])
def test_a_schedule_that_cannot_be(asked, how, words):
    with pytest.raises(SplitError, match=words): schedule(asked[1].spans, **{**BY, **how})


def test_predictions_are_those_of_models_fitted_by_hand(asked, rolled):
    _, dataset = asked
    for f in schedule(dataset.spans, **BY)[:2]:
        model = make_model("logistic", seed=1).fit(dataset.X.iloc[f.train], dataset.y.iloc[f.train])
        own = rolled.predictions[rolled.predictions.fold
                                 == f.number].merge(dataset.keys.iloc[f.test].assign(row=f.test),
                                                    on=["symbol", "ts"])
        np.testing.assert_allclose(own.probability, model.predict_proba(dataset.X.iloc[own.row])[:, 1])


def test_periods_add_up_to_the_account(asked, rolled):
    bars, _ = asked
    again = backtest(rolled.predictions, bars, SHORT)
    assert rolled.simulation.equity.equals(again.equity)
    p, end = rolled.periods, float(again.equity.strategy.iloc[-1])
    assert np.prod(1 + p.total_return) == pytest.approx(end / 100_000,
                                                        rel=1e-12) and p.days.sum() == len(again.returns)
    assert p.costs.sum() == pytest.approx(again.costs["total"],
                                          rel=1e-9) and (p.costs >= 0).all() and p.costs[0] > 0
    held = rolled.simulation.weights
    idle = [(held[(held.index >= a) & (held.index <= b)].nunique() == 1).all()
            for a, b in zip(p.test_start, p.test_end, strict=True)]
    assert [c == 0 for c in p.costs] == idle  # a period without a change of mind costs nothing
    one = again.returns[(again.returns.index >= p.test_start[1].normalize())
                        & (again.returns.index < p.test_start[2].normalize())]
    assert p.sharpe[1] == pytest.approx(one.mean()
                                        / one.std()) and p.annualised[1] == pytest.approx(p.sharpe[1]
                                                                                          * 365**0.5)
    curve = (1 + one).cumprod()
    assert p.max_drawdown[1] == pytest.approx(min((curve / curve.cummax().clip(lower=1) - 1).min(), 0))
    assert f"Trained {len(p)} times: {(p.total_return > 0).sum()} periods" in rolled.says
    assert f"{end / 1e5 - 1:+.1%} in all" in rolled.says


def test_borrowing_belongs_to_its_period(asked):
    bars, dataset = asked
    dear = simulate_retraining(dataset, "logistic", bars, SHORT, Costs(borrow_bps=500), seed=1, **BY)
    assert dear.simulation.costs["borrow"] > 0
    assert dear.periods.costs.sum() == pytest.approx(dear.simulation.costs["total"], rel=1e-9)


def test_the_last_rows_are_traded_though_nothing_is_known_of_them(asked, rolled):
    bars, dataset = asked
    assert len(dataset.pending)
    assert rolled.predictions.ts.max() == dataset.pending.ts.max() > dataset.keys.ts.max()
    assert rolled.simulation.equity.ts.iloc[-1] == bars.ts.max()


def test_what_comes_later_changes_nothing_before(asked, rolled):
    bars, dataset = asked
    cut = rolled.periods.test_start[2]
    walk = np.exp(np.random.default_rng(9).normal(0, 0.01, (2, len(bars) // 2))
                  * (bars.ts >= cut).to_numpy().reshape(2, -1)).cumprod(axis=1).ravel()
    other = bars.assign(**{c: bars[c] * walk for c in ("open", "high", "low", "close")})
    specs = ["returns", "mom_14"]
    changed = build_dataset(compute_features(other, specs), compute_labels(other, "fwd_ret_2"), other, specs)
    again = simulate_retraining(changed, "logistic", other, SHORT, seed=1, **BY)
    before = [r.predictions[r.predictions.ts < cut][["symbol", "ts", "fold",
                                                     "probability"]].reset_index(drop=True)
              for r in (rolled, again)]
    pd.testing.assert_frame_equal(*before)
    assert rolled.simulation.equity[rolled.simulation.equity.ts
                                    < cut].equals(again.simulation.equity[again.simulation.equity.ts < cut])
    assert not rolled.predictions.probability.equals(again.predictions.probability)


def test_what_there_is_to_know_is_found(rolled):
    assert rolled.periods.annualised.mean() > 1 and rolled.trained.information.ic.mean() > 0.1


def test_values_may_be_learnt_too(asked):
    bars, dataset = asked
    done = simulate_retraining(dataset, "ridge", bars, SHORT, seed=1, task="regression",
                   overrides={"ridge": {"alpha": 1.0}}, **BY)
    assert "prediction" in done.predictions and done.periods.annualised.mean() > 1


def test_each_path_is_a_backtest_of_its_own(asked, combined):
    bars, dataset = asked
    folds, trained = combined
    own = trained.paths[trained.paths.model == "logistic"]
    told = path_sharpes(own, bars, SHORT, FREE, folds=folds, dataset=dataset)
    assert told.table.path.tolist() == list(range(1, 5)) == told.returns.columns.tolist()
    for row in told.table.itertuples():
        done = backtest(own[own.path == row.path], bars, SHORT, FREE)
        equity = done.equity.strategy
        assert row.sharpe == pytest.approx(done.returns.mean() / done.returns.std())
        assert row.annualised == pytest.approx(row.sharpe * 365**0.5)
        assert row.total_return == pytest.approx(equity.iloc[-1] / 1e5
                                                 - 1) and row.max_drawdown == pytest.approx((equity
                                                                                             / equity.cummax()
                                                                                             - 1).min())
        pd.testing.assert_series_equal(told.returns[row.path], done.returns, check_names=False,
                                       check_freq=False)
    assert told.below_zero == 0.0 and told.table.annualised.nunique() == 4
    np.testing.assert_allclose(told.quantiles, np.quantile(told.table.annualised,
                                                           [0.05, 0.25, 0.5, 0.75, 0.95]))
    assert f"{told.table.annualised.min():.2f} at worst" in told.says and "0% of the paths" in told.says


def test_the_reverse_of_foresight_is_below_zero_on_every_path(asked, combined):
    bars, own = asked[0], combined[1].paths.query("model == 'logistic'")
    told = path_sharpes(own.assign(probability=1 - own.probability), bars, SHORT)
    assert told.below_zero == 1.0 and told.quantiles[0.95] < 0 and "100% of the paths" in told.says


def test_paths_that_hold_nothing_have_no_ratio(asked, combined):
    bars, own = asked[0], combined[1].paths.query("model == 'logistic'")
    told = path_sharpes(own, bars, TradingRule(threshold=0.999))
    assert told.table.annualised.isna().all() and told.below_zero == 1.0 and (told.table.total_return
                                                                              == 0).all()
    assert told.says == "None of the 4 paths held anything."


def test_a_path_that_knew_its_rows_is_refused(asked, combined):
    _, dataset = asked
    folds, trained = combined
    paths = trained.paths
    assert check_paths(paths, folds, dataset) is paths
    for wrong in (trained.paths.assign(fold=1), trained.paths.assign(fold=99)):
        with pytest.raises(SplitError, match="did not learn from them"): check_paths(wrong, folds, dataset)
    late = [type(f)(**{**vars(f), "train": np.arange(len(dataset.X))}) for f in folds]
    with pytest.raises(SplitError): check_paths(trained.paths, late, dataset)


@pytest.mark.parametrize("change, words", [
    (lambda p: p.iloc[:0], "only combinatorial folds make paths"),
    (lambda p: p.drop(columns="path"), "no path"),
    (lambda p: pd.concat([p, p.assign(model="dummy")]), "of one model"),
    (lambda p: pd.concat([p, p.head(1)]), "twice in path 1"),
    (lambda p: p.iloc[1:], "complete histories of the same rows"),
])
def test_what_is_no_set_of_paths(asked, combined, change, words):
    own = combined[1].paths.query("model == 'logistic'")
    with pytest.raises(BacktestError, match=words): path_sharpes(change(own), asked[0])
