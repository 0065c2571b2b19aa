"""Information coefficients against scipy's correlations and the errors of statsmodels; regimes that know no
future."""

import warnings

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError, ModelError
from mlfin.validation.information import (
    ic_by_fold,
    ic_by_regime,
    ic_by_symbol,
    ic_by_time,
    ic_decay,
    ic_summary,
    overlap_lags,
    rolling_ic,
    volatility_regimes,
)


def predicted(signal=0.1, days=400, symbols=8, seed=0, model="m", horizon=1):
    """Predictions whose correlation with each symbol's own return, over `horizon` bars, is about `signal`."""
    rng = np.random.default_rng(seed)
    ts = pd.date_range("2015-01-01", periods=days, freq="D", tz="UTC").as_unit("us")
    size = (days + horizon, symbols)
    steps = rng.normal(size=size)
    ahead = sum(steps[k : k + days] for k in range(horizon)) / horizon**0.5
    noise = rng.normal(size=size)
    noise = sum(noise[k : k + days] for k in range(horizon)) / horizon**0.5
    score = signal * ahead + (1 - signal**2) ** 0.5 * noise
    frame = pd.DataFrame(
        {
            "symbol": np.tile([f"S{i}" for i in range(symbols)], days),
            "timeframe": "1d",
            "ts": np.repeat(ts, symbols),
        }
    )
    frame = frame.assign(
        model=model,
        fold=np.repeat(np.arange(4), days * symbols // 4),
        probability=1 / (1 + np.exp(-0.2 * score.ravel())),
        baseline=0.5,
    )
    return frame.assign(actual=(ahead.ravel() > 0).astype("int8"), forward_return=0.01 * ahead.ravel())


def hac(x, lags):
    """Mean and error by statsmodels."""
    import statsmodels.api as sm

    fit = sm.OLS(x, np.ones(len(x))).fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False})
    return fit.params[0], fit.bse[0]


def walk(moves, start="2015-01-01"):
    """Bars whose open and close move by these returns (times x symbols)."""
    ts = pd.date_range(start, periods=len(moves), freq="D", tz="UTC").as_unit("us")
    price = 100 * np.exp(np.cumsum(moves, axis=0))
    parts = [
        pd.DataFrame(
            {
                "symbol": f"S{i}",
                "timeframe": "1d",
                "ts": ts,
                "known_at": ts + pd.Timedelta("1D"),
                "open": p,
                "close": p,
            }
        )
        for i, p in enumerate(price.T)
    ]
    return pd.concat(parts, ignore_index=True)


def test_each_time_is_scipys_correlation():
    from scipy.stats import pearsonr, spearmanr

    p = predicted(days=40).assign(probability=lambda f: f.probability.round(2))
    got = ic_by_time(p.sample(frac=1, random_state=1)).set_index("ts")
    assert got.index.is_monotonic_increasing and len(got) == 40
    for ts, own in p.groupby("ts"):
        assert got.loc[ts, "ic"] == pytest.approx(
            pearsonr(own.probability, own.forward_return).statistic, abs=1e-12
        )
        assert got.loc[ts, "rank_ic"] == pytest.approx(
            spearmanr(own.probability, own.forward_return).statistic, abs=1e-12
        )
    assert (got.symbols == 8).all()


def test_times_without_enough_symbols_or_variation_are_absent():
    p = predicted(days=40)
    first, second = p.ts.unique()[:2]
    thin = p[(p.ts != first) | p.symbol.isin(["S0", "S1"])]
    thin = thin.assign(probability=thin.probability.where(thin.ts != second, 0.5))
    got = ic_by_time(thin)
    assert len(got) == 38 and first not in set(got.ts) and second not in set(got.ts)
    assert len(ic_by_time(thin, least=2)) == 39
    with pytest.raises(ModelError, match="at least 5 symbols"):
        ic_by_time(p[p.symbol < "S3"])


def test_errors_across_symbols_are_those_of_statsmodels():
    p = predicted(0.1, days=500, horizon=5)
    row, each = ic_summary(p, horizon=5).iloc[0], ic_by_time(p)
    assert (row.how, row.lags, row.times) == ("across symbols", 10, 500)
    for name in ("ic", "rank_ic"):
        mean, error = hac(each[name].to_numpy(), 10)
        assert (row[name], row[f"{name}_error"]) == pytest.approx((mean, error), rel=1e-10)
        assert row[f"{name}_t"] == pytest.approx(mean / error)


def test_errors_over_time_are_those_of_a_regression_with_a_day_by_day_sum():
    """One symbol and fold: a correlation is the slope between standardised values, with HAC errors by
    statsmodels."""
    import statsmodels.api as sm
    from scipy.stats import spearmanr

    p = predicted(0.1, days=600, symbols=1).assign(fold=0)
    row = ic_summary(p, horizon=3).iloc[0]
    assert row.how == "over time"
    assert row.rank_ic == pytest.approx(spearmanr(p.probability, p.forward_return).statistic, abs=1e-12)
    a, b = (((r := p[c].rank()) - r.mean()) / r.std(ddof=0) for c in ("probability", "forward_return"))
    fit = sm.OLS(b.to_numpy(), a.to_numpy()).fit(
        cov_type="HAC", cov_kwds={"maxlags": row.lags, "use_correction": False}
    )
    assert row.rank_ic == pytest.approx(fit.params[0], abs=1e-12)
    assert row.rank_ic_error == pytest.approx(
        fit.bse[0], rel=0.05
    )  # it also knows that the scale is estimated


@pytest.mark.parametrize("how", ["across symbols", "over time"])
@pytest.mark.parametrize("horizon", [1, 5])
@pytest.mark.parametrize("samples", [40, pytest.param(80, marks=pytest.mark.slow)])
def test_the_error_is_the_spread_over_samples(how, horizon, samples):
    rows = pd.concat(
        [ic_summary(predicted(0.05, 300, 6, seed, horizon=horizon), horizon, how) for seed in range(samples)]
    )
    spread = rows.rank_ic.std()
    assert 0.75 * spread < rows.rank_ic_error.mean() < 1.25 * spread
    assert abs(rows.rank_ic.mean() - 0.048) < 3 * spread / samples**0.5 + 0.003


@pytest.mark.parametrize("horizon", [1, 5])
@pytest.mark.parametrize("number", [20, pytest.param(40, marks=pytest.mark.slow)])
def test_the_error_of_a_fold_is_the_spread_over_samples_where_the_naive_one_is_not(horizon, number):
    from mlfin.validation.curves import fold_ic

    samples = [predicted(0.05, 800, 4, seed, horizon=horizon) for seed in range(number)]
    rows, naive = pd.concat([ic_by_fold(p, horizon) for p in samples]), fold_ic(samples[0])
    spread = rows.ic.std()
    assert 0.75 * spread < rows.error.mean() < 1.25 * spread
    assert (naive.error.mean() < 0.6 * spread) == (horizon == 5)
    np.testing.assert_allclose(ic_by_fold(samples[0], horizon).ic, naive.ic, atol=1e-12)
    assert ic_by_fold(samples[0], horizon)[["model", "fold", "n"]].equals(naive[["model", "fold", "n"]])


def test_a_fold_that_cannot_be_told_has_no_error():
    p = predicted(days=60, symbols=2)
    short = ic_by_fold(p, 1)
    assert short.ic.notna().all() and short.error.isna().all()  # 15 times a fold
    flat = ic_by_fold(p.assign(probability=0.5), 1)
    assert flat[["ic", "error"]].isna().all(axis=None) and list(flat) == ["model", "fold", "n", "ic", "error"]


def test_levels_of_folds_pass_for_no_foresight():
    p = predicted(0.0, symbols=1, days=800)
    drift = p.assign(
        probability=p.probability + 0.1 * p.fold, forward_return=p.forward_return + 0.02 * p.fold
    )
    assert (
        abs(ic_summary(drift, 1).rank_ic_t[0])
        < 3
        < np.corrcoef(drift.probability, drift.forward_return)[0, 1] * 800**0.5
    )


def test_by_symbol_is_the_symbols_own():
    p = pd.concat(
        [predicted(0.3, symbols=1, days=800), predicted(0.0, symbols=1, days=800, seed=1).assign(symbol="S1")]
    )
    got = ic_by_symbol(p, 1).set_index("symbol")
    assert got.loc["S0", "rank_ic_t"] > 5 > 3 > abs(got.loc["S1", "rank_ic_t"])
    assert got.loc["S0", "rank_ic"] == ic_summary(p[p.symbol == "S0"], 1).rank_ic[0]


@pytest.mark.parametrize("how", ["across symbols", "over time"])
def test_years_are_parts_of_the_whole(how):
    p = predicted(0.1, days=1000)
    got = ic_by_regime(p, 1, how=how)
    assert got.regime.tolist() == ["2015", "2016", "2017"] and set(got.kind) == {"year"}
    assert got.times.sum() == 1000
    if how == "across symbols":
        import statsmodels.api as sm

        each = ic_by_time(p)
        for row in got.itertuples():
            own = each[each.ts.dt.year == int(row.regime)].rank_ic
            assert row.rank_ic == pytest.approx(own.mean()) and row.times == len(own)
            inside = (each.ts.dt.year == int(row.regime)).to_numpy()
            both = np.column_stack([inside, ~inside]).astype(float)
            fit = sm.OLS(each.rank_ic.to_numpy(), both).fit(
                cov_type="HAC", cov_kwds={"maxlags": row.lags, "use_correction": False}
            )
            assert row.rank_ic_error == pytest.approx(
                fit.bse[0], rel=1e-8
            )  # a dummy for the year, errors from the whole series


def test_regimes_of_volatility_know_no_future():
    rng = np.random.default_rng(0)
    moves = rng.normal(size=(900, 3)) * np.repeat([0.005, 0.02, 0.005], 300)[:, None]
    bars = walk(moves)
    whole = volatility_regimes(bars)
    for cut in (400, 650):
        past = volatility_regimes(bars[bars.ts < bars.ts.iloc[cut]])
        pd.testing.assert_frame_equal(past, whole.head(len(past)))
        assert past.ts.iloc[-1] == bars.ts.iloc[cut - 1]
    inside = whole.set_index("ts").regime
    assert (inside[bars.ts.iloc[330] : bars.ts.iloc[500]] == "high").mean() > 0.9
    assert (inside[bars.ts.iloc[650] :] == "low").mean() > 0.5 and len(whole) == 900 - 20 - 249
    one = np.log(bars[bars.symbol == "S1"].close.to_numpy())
    few = volatility_regimes(bars[bars.symbol == "S1"], window=10, history=30)
    assert few.volatility.iloc[-1] == pytest.approx(np.std(np.diff(one)[-10:], ddof=1))
    with pytest.raises(DataError, match="close"):
        volatility_regimes(bars.drop(columns="close"))


def test_foresight_of_one_regime_is_found_there():
    rng = np.random.default_rng(1)
    loud = np.repeat([False, True, False, True], 300)
    moves = rng.normal(size=(1200, 8)) * np.where(loud, 0.03, 0.005)[:, None]
    bars = walk(moves)
    p = predicted(0.0, days=1200)
    known = np.where(loud[:, None], moves / 0.03, rng.normal(size=moves.shape))
    p = p.assign(probability=1 / (1 + np.exp(-known.ravel())), forward_return=moves.ravel())
    got = ic_by_regime(p, 1, bars).query("kind == 'volatility'").set_index("regime")
    assert got.loc["high", "rank_ic"] > 0.9 and got.loc["low", "rank_ic"] < 0.3
    assert got.times.sum() == 1200 - 269


def test_decay_finds_how_far_ahead_a_signal_sees():
    rng = np.random.default_rng(2)
    moves = 0.01 * rng.normal(size=(600, 8))
    bars = walk(moves)
    p = predicted(0.0, days=600)
    next_move = np.vstack([moves[2:], np.zeros((2, 8))])  # from the next open to the one after
    p = p.assign(probability=1 / (1 + np.exp(-100 * next_move.ravel())), forward_return=0.0)
    got = ic_decay(p, bars, (5, 1, 2, 2)).set_index("horizon")
    assert got.index.tolist() == [1, 2, 5] and got.rank_ic[1] == pytest.approx(1)
    assert got.ic[2] == pytest.approx(0.5**0.5, abs=0.06) and got.ic[5] == pytest.approx(0.2**0.5, abs=0.06)
    assert got.times.tolist() == [598, 597, 594]
    assert got.lags.tolist() == [overlap_lags(h, 598) for h in (1, 2, 5)]
    with pytest.raises(ModelError, match="horizons"):
        ic_decay(p, bars, ())


def test_rolling_is_the_window_by_itself():
    p = predicted(0.2, days=300)
    got = rolling_ic(p, 1, window=100, points=3)
    assert len(got) == 3
    for row in got.itertuples():
        times = p.ts[p.ts <= row.ts].unique()[-100:]
        own = ic_summary(p[p.ts.isin(times)], 1).iloc[0]
        assert (row.rank_ic, row.rank_ic_error) == pytest.approx((own.rank_ic, own.rank_ic_error))
    assert len(rolling_ic(p[p.symbol == "S0"], 1, window=100)) == 201


def test_a_constant_guess_has_no_coefficient():
    p = pd.concat([predicted(0.1), predicted(0.1, model="dummy").assign(probability=0.5)])
    for table in (
        ic_summary(p, 1),
        ic_by_symbol(p, 1),
        ic_by_regime(p, 1),
        ic_summary(p, 1, how="over time"),
    ):
        own = table[table.model == "dummy"]
        assert own[["ic", "rank_ic", "rank_ic_error"]].isna().all(axis=None)
        assert table[table.model == "m"].rank_ic.notna().all()
    assert set(rolling_ic(p, 1, 100).model) == {"m"}


def test_a_regression_is_understood():
    p = predicted(0.1)
    q = p.drop(columns="probability").assign(prediction=np.log(p.probability / (1 - p.probability)))
    assert ic_summary(q, 1).rank_ic[0] == pytest.approx(ic_summary(p, 1).rank_ic[0])


@pytest.mark.parametrize("call, words", [
    (lambda p: ic_summary(p.drop(columns="ts"), 1), "no ts"),
    (lambda p: ic_summary(p.head(0), 1), "at least one row"),
    (lambda p: ic_summary(p.assign(forward_return=np.nan), 1), "finite"),
    (lambda p: ic_summary(p.assign(timeframe=["1d", "1h"] * (len(p) // 2)), 1), "timeframe"),
    (lambda p: ic_summary(p, 0), "horizon"),
    (lambda p: ic_summary(p, 1, how="sideways"), "how"),
    (lambda p: rolling_ic(p, 1, window=5), "window"),
    (lambda p: ic_by_time(p, least=1), "least"),
])
def test_refusals(call, words):
    with pytest.raises(ModelError, match=words), warnings.catch_warnings():
        warnings.simplefilter("error")
        call(predicted(days=40))


@pytest.mark.parametrize("samples", [20, pytest.param(40, marks=pytest.mark.slow)])
def test_symbols_that_decide_at_different_moments_have_errors_as_wide(samples):
    """Noise with a label five bars ahead: the t value keeps its size when the symbols' bars are two hours
    apart."""
    from mlfin.validation.information import ic_summary

    days, symbols, found = 300, 6, {0: [], 2: []}
    for seed in range(samples):
        rng = np.random.default_rng(seed)
        moves = rng.normal(size=(days + 5, symbols)) + rng.normal(size=(days + 5, 1))
        forward = np.stack([moves[k:days + k] for k in range(1, 6)]).sum(axis=0)
        said = np.stack(
            [
                np.convolve(rng.normal(size=days + 20), np.ones(20) / 20, "valid")[:days]
                for _ in range(symbols)
            ],
            axis=1,
        )
        for hours, values in found.items():
            rows = [
                pd.DataFrame(
                    {
                        "model": "m",
                        "symbol": f"S{s}",
                        "timeframe": "1d",
                        "fold": 1,
                        "probability": 0.5 + 0.01 * said[:, s],
                        "forward_return": forward[:, s],
                        "ts": pd.date_range("2020-01-01", periods=days, tz="UTC")
                        + pd.Timedelta(hours=hours * s),
                    }
                )
                for s in range(symbols)
            ]
            row = ic_summary(pd.concat(rows, ignore_index=True), 5, how="over time").iloc[0]
            values.append(row["rank_ic"] / row["rank_ic_error"])
    sizes = {hours: np.std(values) for hours, values in found.items()}
    assert sizes[2] < 1.35 * sizes[0], sizes  # without the moments it is twice as large
