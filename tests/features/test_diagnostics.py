"""Diagnostics against scipy, statsmodels and slow code; ragged panels, gaps, columns of nothing."""
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlfin.core.errors import DataError, ParameterError
from mlfin.features import diagnostics as d
from mlfin.features.spec import parse_set
from mlfin.features.table import compute_features
from mlfin.datasets.inputs import model_inputs
from mlfin.datasets.labels import compute_labels

SEED = ("rsi_14 macd_12_26_9 mom_14 sma_20 ema_50 bbands_20_2 atr_14 historical_vol_21 returns log_returns "
        "volume_ma_20 obv".split())


def panel(size=200, symbols=6, seed=0, holes=0.0, columns=("a", "b"), late=0):
    "Columns of noise, with ties, holes and late symbols, and a return."
    rng, parts = np.random.default_rng(seed), []
    ts = pd.date_range("2020-01-01", periods=size, freq="D", tz="UTC").as_unit("us")
    for s in range(symbols):
        part = pd.DataFrame(
            {"symbol": f"S{s:03d}", "timeframe": "1d", "ts": ts, "known_at": ts + pd.Timedelta("1D")}
        )
        for i, c in enumerate(columns):
            x = np.convolve(rng.normal(size=size + i), np.ones(i + 1), "valid")
            part[c] = np.where(rng.random(size) < holes, np.nan, x.round(1))
        part["ret"] = rng.normal(size=size)
        parts.append(part[s * late:])
    table = pd.concat(parts, ignore_index=True)
    return table.drop(columns="ret"), table[["symbol", "ts", "ret"]]


@pytest.fixture(scope="module")
def market():
    "The built-in bars, the features of the first run, what models see of them, returns over 1 and 5 bars."
    from mlfin.market.bars import as_bars
    from mlfin.sources.sources import read_bars

    bars = as_bars(read_bars("builtin").bars)
    table = compute_features(bars, SEED)
    return (
        bars,
        table,
        model_inputs(table, bars, SEED),
        {h: compute_labels(bars, f"fwd_ret_{h}") for h in (1, 5)},
    )


# --- distribution, correlation, clusters


def test_moments_and_quantiles_are_those_of_scipy(market):
    _, table, *_ = market
    got = d.distributions(table).set_index("column")
    for c in got.index:
        x = table[c].dropna().to_numpy()
        assert got.loc[c, "count"] == len(x) and got.distinct[c] == len(np.unique(x))
        assert got.zeros[c] == (x == 0).mean()
        want = [
            x.mean(),
            x.std(ddof=1),
            *np.quantile(x, [0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1]),
            stats.skew(x),
            stats.kurtosis(x),
        ]
        names = [
            "mean",
            "std",
            "min",
            "q01",
            "q05",
            "q25",
            "median",
            "q75",
            "q95",
            "q99",
            "max",
            "skew",
            "kurtosis",
        ]
        np.testing.assert_allclose(got.loc[c, names].to_numpy(dtype=float), want, rtol=1e-9)


def test_columns_of_nothing_of_one_value_and_of_infinity():
    table, _ = panel(30, 1)
    table = table.assign(none=np.nan, one=5.0, wild=[np.inf, -np.inf, *range(28)])
    got = d.distributions(table, ["none", "one", "wild"]).set_index("column")
    assert got.loc["none", "count"] == 0 and got.distinct["none"] == 0 and np.isnan(got.loc["none", "mean"])
    assert got.loc["one", "std"] == 0 and np.isnan(got.loc["one", "skew"]) and got.distinct["one"] == 1
    assert got.loc["wild", "count"] == 28 and got.loc["wild", "max"] == 27


def test_correlations_are_spearmans(market):
    _, _, inputs, _ = market
    whole = inputs.dropna()
    got = d.correlations(whole)
    want = stats.spearmanr(whole[list(got)].to_numpy()).statistic
    np.testing.assert_allclose(got.to_numpy(), want, atol=1e-10)


def test_correlations_with_holes_take_the_rows_that_both_have():
    table, _ = panel(300, 2, holes=0.3, columns=("a", "b", "c", "e"))
    got = d.correlations(table)
    want = table[list(got)].rank().corr()  # ranked over all of a column, then pairwise complete
    np.testing.assert_allclose(got.to_numpy(), want.to_numpy(), atol=1e-12)
    apart = table.assign(a=table.a.where(table.symbol == "S000"), b=table.b.where(table.symbol == "S001"))
    assert np.isnan(d.correlations(apart).loc["a", "b"])


def test_clusters_do_not_depend_on_the_order_of_columns(market):
    rho = d.correlations(market[2])
    one, two = (d.correlation_clusters(r).set_index("column") for r in (rho, rho.iloc[::-1, ::-1]))
    def groups(x): return {frozenset(x.index[x.cluster == n]) for n in x.cluster}
    assert groups(one) == groups(two) and sorted(one.order) == list(range(len(rho)))
    assert one.loc["returns", "cluster"] == one.loc["log_returns", "cluster"]
    for _, g in one.groupby("cluster"):
        assert g.representative.nunique() == 1 and g.representative.iloc[0] in g.index
        assert (g["size"] == len(g)).all()
        inner = rho.abs().loc[g.index, g.index].mean()
        assert inner[g.representative.iloc[0]] >= inner.max() - 1e-9
        order = sorted(g.order)
        assert order == list(range(order[0], order[0] + len(g)))       # neighbours along the tree


def test_opposites_are_one_cluster_and_constants_stand_alone():
    table, _ = panel(100, 1)
    rho = d.correlations(table.assign(minus=-table.a, flat=1.0, none=np.nan))
    assert rho.loc["a", "minus"] == -1 and rho[["flat", "none"]].isna().all(axis=None)
    got = d.correlation_clusters(rho).set_index("column")
    assert got.cluster["a"] == got.cluster["minus"] and (got.loc[["flat", "none"], "size"] == 1).all()
    assert d.correlation_clusters(rho.loc[["a"], ["a"]]).values.tolist() == [["a", 1, 1, "a", 1.0, 0]]
    with pytest.raises(ParameterError, match="threshold"): d.correlation_clusters(rho, 1.0)


# --- faults of columns


def test_variance_inflation_is_that_of_statsmodels(market):
    from statsmodels.stats.outliers_influence import variance_inflation_factor

    x = market[2].dropna()[["rsi_14", "mom_14/close", "sma_20/close", "atr_14/close", "ema_50/close"]]
    design = np.column_stack([np.ones(len(x)), x.to_numpy()])
    got = d.check_columns(x.assign(symbol="A", timeframe="1d", ts=1, known_at=1), list(x), vif=1.0)
    got = got[got.fault == "inflated"].set_index("column").value
    want = [variance_inflation_factor(design, i + 1) for i in range(x.shape[1])]
    np.testing.assert_allclose(got[list(x)].to_numpy(), want, rtol=1e-8)


def test_what_follows_from_several_others_is_found_though_no_pair_is_alike():
    table, _ = panel(500, 1, columns=("a", "b", "c"))
    table["sum"] = table.a + table.b + table.c
    got = d.check_columns(table, near=0.9)
    assert set(got.fault) == {"inflated"} and set(got.column) == {"a", "b", "c", "sum"}
    assert np.isinf(got.value).all()
    said = d.describe_columns(got)
    assert len(said) == 1 and said[0].startswith("4 columns follow from the others together")
    assert "sum (wholly)" in said[0]


def test_each_fault_is_named_once():
    table, _ = panel(100, 2)
    table = table.assign(
        zero=0.0,
        same=table.a,
        minus_zero=np.where(np.arange(200) % 2, 0.0, -0.0),
        none=np.nan,
        linear=3 * table.b - 7,
    )
    got = d.check_columns(table)
    assert got.iloc[:5].values.tolist()[0][:2] == ["empty", "none"]
    by = {k: set(zip(g.column, g.other, strict=True)) for k, g in got.groupby("fault")}
    assert by["constant"] == {("zero", ""), ("minus_zero", "")} and by["duplicate"] == {("same", "a")}
    assert by["near-collinear"] == {("b", "linear")}
    assert got.value[got.fault == "near-collinear"].item() == pytest.approx(1)
    assert d.check_columns(table, ["a", "b"]).empty
    assert d.describe_columns(d.check_columns(table, ["a", "b"]))[0].startswith("No column is empty")
    only = d.check_columns(table, ["zero", "none"])
    assert only.fault.tolist() == ["empty", "constant"]


def test_the_first_run_s_twins_are_named(market):
    said = " ".join(d.describe_columns(d.check_columns(market[2])))
    assert "near-collinear" in said and "returns and log_returns" in said


def test_many_names_are_counted():
    faults = pd.DataFrame(
        {"fault": "constant", "column": [f"c{i}" for i in range(30)], "other": "", "value": 1.0}
    )
    assert d.describe_columns(faults)[0].endswith("c7 (1) and 22 more.")


# --- coverage


def slow_coverage(features, specs):
    rows = []
    for f in parse_set(specs):
        for c in f.columns:
            for s, g in features.groupby("symbol"):
                x, seen, counts = (
                    g[c].to_numpy(),
                    False,
                    dict.fromkeys(("values", "warm_up", "late", "gaps"), 0),
                )
                times = np.sort(features.ts.unique())
                for i, v in enumerate(x):
                    age = i if f.kind != "panel" else int(np.searchsorted(times, g.ts.to_numpy()[i]))
                    kind = (
                        "values"
                        if not np.isnan(v)
                        else "warm_up"
                        if age < f.lookback
                        else "gaps"
                        if seen
                        else "late"
                    )
                    seen |= kind == "values"
                    counts[kind] += 1
                first = g.ts[g[c].notna()].min()
                rows.append((c, s, len(x), *counts.values(), int(np.isinf(x).sum()), first))
    return rows


def test_coverage_equals_a_slow_count(bars):
    specs = ["rsi_14", "index_beta_20", "sma_60"]
    table = compute_features(bars, specs)
    table.loc[[50, 51, 339, 539], "rsi_14"] = np.nan
    table.loc[100, "sma_60"] = np.inf
    got = d.feature_coverage(table, specs, by="symbol")
    want = slow_coverage(table, specs)
    assert [tuple(r) for r in got.drop(columns="first").itertuples(index=False)] == [w[:-1] for w in want]
    for a, w in zip(got["first"], want, strict=True): assert a == w[-1] or (pd.isna(a) and pd.isna(w[-1]))
    total = d.feature_coverage(table, specs).set_index("column")
    assert total.rows.eq(len(bars)).all() and total.loc["rsi_14", "gaps"] == 4
    assert total.loc["sma_60", "infinite"] == 1
    assert (total[["values", "warm_up", "late", "gaps"]].sum(axis=1) == total.rows).all()
    said = d.describe_coverage(d.feature_coverage(table, specs), share=0.001)
    assert any("no value though there was one before" in s and "rsi_14" in s for s in said)
    assert "infinite in places: sma_60 (1 rows)" in said[-1]


def test_coverage_wants_the_columns_of_the_specs(bars):
    table = compute_features(bars, ["rsi_14"])
    with pytest.raises(DataError, match="sma_20"): d.feature_coverage(table, ["sma_20"])
    with pytest.raises(ParameterError, match="`by`"): d.feature_coverage(table, ["rsi_14"], by="row")


# --- how long values last


def test_autocorrelation_is_that_of_statsmodels(market):
    from statsmodels.tsa.stattools import acf

    table = market[1]
    got = d.autocorrelation(table, ["rsi_14", "returns"], lags=(1, 7)).set_index("column")
    for c in got.index:
        each = [table.loc[table.symbol == s, c].dropna().to_numpy() for s in table.symbol.unique()]
        want = np.average([acf(x, nlags=7)[[1, 7]] for x in each], axis=0, weights=[len(x) for x in each])
        np.testing.assert_allclose(got.loc[c].to_numpy(), want, rtol=1e-9)


def test_autocorrelation_of_gaps_and_of_too_few():
    table, _ = panel(60, 1, columns=("a",))
    x = table.a.to_numpy().copy()
    x[[5, 20]] = np.nan
    far = np.nan_to_num(x - np.nanmean(x))
    got = d.autocorrelation(table.assign(a=x, flat=2.0), lags=(1, 20, 55)).set_index("column")
    assert got.loc["a", "lag_1"] == pytest.approx((far[1:] * far[:-1]).sum() / (far**2).sum())
    assert np.isnan(got.loc["a", "lag_55"]) and got.loc["flat"].isna().all()
    with pytest.raises(ParameterError, match="lags"): d.autocorrelation(table, lags=(0,))


def test_unit_roots_are_those_of_statsmodels(market):
    from statsmodels.tsa.stattools import adfuller

    bars, table, *_ = market
    got = d.stationarity(table, ["obv", "rsi_14"], length=700, by="symbol").set_index(["column", "symbol"])
    for (c, s), row in got.iterrows():
        x = table.loc[table.symbol == s, c].dropna().to_numpy()[-700:]
        want = adfuller(
            x, autolag=None, result_object=True
        )  # the default number of lags is Schwert's as well
        assert (row.lags, row["values"]) == (want.lags, len(x))
        assert row.statistic == pytest.approx(want.statistic, rel=1e-9)
        assert row.p_value == pytest.approx(want.pvalue, rel=1e-9)
    pooled = d.stationarity(table, ["obv", "rsi_14"], length=700).set_index("column")
    assert pooled.rejecting["rsi_14"] >= 0.8 and pooled.rejecting["obv"] < 0.5 and (pooled.symbols == 5).all()


def test_series_that_cannot_be_tested_are_counted_out():
    table, _ = panel(60, 3)
    table = table.assign(flat=1.0, none=np.nan, short=table.a.where(table.groupby("symbol").cumcount() < 30))
    got = d.stationarity(table).set_index("column")
    assert got.symbols.to_dict() == {"a": 3, "b": 3, "flat": 0, "none": 0, "short": 0}
    assert got.loc["flat", ["rejecting", "p_value"]].isna().all()
    many, _ = panel(60, 30, columns=("a",))
    assert d.stationarity(many, symbols=4).symbols.item() == 4
    with pytest.raises(ParameterError, match="length"): d.stationarity(table, length=10)


# --- information


def hac(x, lags):
    import statsmodels.api as sm

    return float(
        sm.OLS(x, np.ones(len(x)))
        .fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False})
        .bse[0]
    )


@pytest.mark.parametrize("lags", [0, 3, 40])
def test_standard_errors_are_those_of_statsmodels(lags):
    x = np.random.default_rng(1).normal(size=303)
    x = x[3:] + x[2:-1] + x[:-3]
    assert d.newey_west(x, lags) == pytest.approx(hac(x, lags), rel=1e-10)


def test_one_symbol_is_spearman_and_the_slope_of_ranks():
    import statsmodels.api as sm

    table, ret = panel(400, 1, holes=0.1, columns=("a",))
    ret = ret.assign(ret=ret.ret + 0.3 * table.a.fillna(0)).iloc[:-5]
    got = d.information_coefficient(table, {1: ret, 5: ret}).set_index("horizon")
    x, y = table.a[:-5][table.a[:-5].notna()], ret.ret[table.a[:-5].notna()]
    assert got.how.unique() == ["over time"] and got.pairs.eq(len(x)).all()
    a, b = (v.rank() - v.rank().mean() for v in (x, y))
    a, b = a / a.std(ddof=0), b / b.std(ddof=0)
    for h in (1, 5):
        lags = max(2 * h, int(4 * (400 / 100) ** (2 / 9)))
        fit = sm.OLS(b.to_numpy(), a.to_numpy()).fit(
            cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False}
        )
        assert (
            got.ic[h]
            == pytest.approx(stats.spearmanr(x, y).statistic, rel=1e-10)
            == pytest.approx(fit.params[0], rel=1e-10)
        )
        assert got.lags[h] == lags and got.std_error[h] == pytest.approx(fit.bse[0], rel=1e-9)
        assert got.t[h] == pytest.approx(fit.tvalues[0], rel=1e-9)


def test_few_symbols_have_errors_that_know_they_move_together():
    import statsmodels.api as sm

    table, ret = panel(300, 3, columns=("a",))
    common = np.tile(np.random.default_rng(4).normal(size=300), 3)
    table, ret = table.assign(a=table.a + 2 * common), ret.assign(ret=ret.ret + 2 * np.roll(common, 7))
    got = d.information_coefficient(table, {2: ret}).iloc[0]
    a, b = (v.groupby(table.symbol).rank() for v in (table.a, ret.ret))
    a, b = (v.groupby(table.symbol).transform(lambda s: (s - s.mean()) / s.std(ddof=0)) for v in (a, b))
    order = np.lexsort((table.symbol, table.ts))
    time = np.repeat(np.arange(300), 3)
    fit = sm.OLS(b.to_numpy()[order], a.to_numpy()[order]).fit(
        cov_type="hac-groupsum",
        cov_kwds={"time": time, "maxlags": int(got.lags), "use_correction": False, "df_correction": False},
    )
    assert got.ic == pytest.approx(fit.params[0], rel=1e-9)
    assert got.std_error == pytest.approx(fit.bse[0], rel=1e-8)
    naive = 1 / np.sqrt(got.pairs)
    assert got.std_error > 1.3 * naive


def test_across_symbols_equals_a_loop_over_times():
    table, ret = panel(120, 9, holes=0.2, late=9)
    ret = ret.assign(ret=ret.ret.where(np.random.default_rng(2).random(len(ret)) > 0.1)).iloc[3:]
    got = d.information_coefficient(table, {3: ret}, how="across symbols").set_index("column")
    joined = table.merge(ret, on=["symbol", "ts"])
    for c in ("a", "b"):
        both = joined.dropna(subset=[c, "ret"])
        each = np.array(
            [stats.spearmanr(g[c], g.ret).statistic for _, g in both.groupby("ts") if len(g) >= 5]
        )
        assert got.times[c] == len(each) and got.ic[c] == pytest.approx(each.mean(), rel=1e-9)
        assert got.std_error[c] == pytest.approx(hac(each, int(got.lags[c])), rel=1e-9)
        assert got.pairs[c] == sum(len(g) for _, g in both.groupby("ts") if len(g) >= 5)


def test_many_values_are_thinned_by_whole_times_and_lags_with_them():
    table, ret = panel(1000, 8, columns=("a",))
    got = d.information_coefficient(table, {20: ret}, most=len(table) // 4).iloc[0]
    assert got.times == 250 and got.lags == 10
    kept = table.ts.isin(np.sort(table.ts.unique())[::-1][::4])
    want = d.information_coefficient(table[kept].reset_index(drop=True), {5: ret[kept]}).iloc[0]
    assert got.ic == want.ic and got.std_error == want.std_error


def test_overlapping_returns_do_not_look_like_knowledge():
    beyond, naive, rng = 0, 0, np.random.default_rng(8)
    for _ in range(60):
        table, _ = panel(600, 1, seed=int(rng.integers(1e9)), columns=("a",))
        lasting = np.convolve(rng.normal(size=629), np.ones(30), "valid")
        ret = np.convolve(rng.normal(size=619), np.ones(20), "valid")
        got = d.information_coefficient(
            table.assign(a=lasting), {20: table[["symbol", "ts"]].assign(ret=ret)}
        ).iloc[0]
        beyond, naive = beyond + (abs(got.t) > 1.96), naive + (abs(got.ic) * np.sqrt(got.pairs) > 1.96)
    assert naive > 30 and beyond <= 14       # 3 by luck; with lags this long against 600 bars, somewhat more


def test_turnover_is_the_rank_correlation_with_the_bar_before():
    table, _ = panel(300, 2, columns=("a", "b"), holes=0.05)
    got = d.turnover(table, ["b"], lag=2).iloc[0]
    before = table.groupby("symbol").b.shift(2)
    both = table.b.notna() & before.notna()
    each = [
        stats.spearmanr(table.b[both & (table.symbol == s)], before[both & (table.symbol == s)]).statistic
        for s in ("S000", "S001")
    ]
    size = [int((both & (table.symbol == s)).sum()) for s in ("S000", "S001")]
    assert got.rank_autocorrelation == pytest.approx(np.average(each, weights=size), rel=1e-9)
    assert got.turnover == 1 - got.rank_autocorrelation
    ever = table.assign(
        line=table.groupby("symbol").cumcount().astype(float), flip=np.tile([1.0, -1.0], 300), flat=1.0
    )
    got = d.turnover(ever, ["line", "flip", "flat"]).set_index("column")
    assert got.half_life["line"] == np.inf and got.half_life["flip"] == 0 and np.isnan(got.half_life["flat"])


def test_a_half_life_is_that_of_an_autoregression():
    rng, x = np.random.default_rng(3), np.zeros(20_000)
    for i in range(1, len(x)): x[i] = 0.9 * x[i - 1] + rng.normal()
    table, _ = panel(20_000, 1, columns=("a",))
    assert d.turnover(table.assign(a=x)).half_life.item() == pytest.approx(np.log(0.5) / np.log(0.9), rel=0.1)


def test_the_real_market_has_no_easy_knowledge(market):
    _, _, inputs, returns = market
    ic = d.information_coefficient(inputs, returns)
    assert set(ic.how) == {"over time"} and ic.ic.abs().max() < 0.15
    assert ic.std_error.between(0.003, 0.1).all()
    ahead = inputs.merge(returns[5][["symbol", "ts", "fwd_ret_5"]], on=["symbol", "ts"], how="left").rename(
        columns={"fwd_ret_5": "oracle"}
    )
    said = d.describe_coefficients(d.information_coefficient(ahead, returns, ["rsi_14", "oracle"]))
    assert "oracle (1.00 over 5 bars)" in said[-1] and "Too good to be true" in said[-1]


def test_refusals_name_what_is_wrong():
    table, ret = panel(50, 2)
    for call, error, words in [
        (lambda: d.information_coefficient(table, {}), ParameterError, "returns"),
        (lambda: d.information_coefficient(table, {0: ret}), ParameterError, "horizon"),
        (lambda: d.information_coefficient(table, {1: ret.drop(columns="ret")}), DataError, r"returns\[1\]"),
        (lambda: d.information_coefficient(table, {1: ret.assign(symbol="Z")}), DataError, "symbol"),
        (lambda: d.information_coefficient(table, {1: ret}, how="sideways"), ParameterError, "how"),
        (lambda: d.turnover(table, lag=0), ParameterError, "lag"),
        (lambda: d.turnover(table.iloc[::-1]), DataError, "sorted"),
        (lambda: d.distributions(table, ["x"]), DataError, "'x'"),
        (lambda: d.distributions(table.assign(word="x")), DataError, "word"),
        (lambda: d.distributions(table[["symbol", "timeframe", "ts", "known_at"]]), DataError, "features"),
        (lambda: d.sample_times(table, 0), ParameterError, "most"),
    ]:
        with pytest.raises(error, match=words): call()


def test_one_bar_of_one_symbol_has_nothing_to_say_and_says_nothing():
    table, ret = panel(1, 1)
    assert d.information_coefficient(table, {1: ret})[["ic", "std_error", "t"]].isna().all(axis=None)
    assert d.turnover(table).rank_autocorrelation.isna().all() and d.autocorrelation(table).lag_1.isna().all()
    assert d.stationarity(table).rejecting.isna().all() and d.distributions(table)["std"].isna().all()
    assert d.describe_coefficients(d.information_coefficient(table, {1: ret})) == [
        "No information coefficient can be told from so few rows."
    ]
    assert d.check_columns(table).fault.tolist() == ["constant", "constant"]
    assert d.correlations(table).isna().all(axis=None)


def test_the_same_frame_gives_the_same_bits(market):
    _, _, inputs, returns = market
    for call in (
        lambda: d.information_coefficient(inputs, returns),
        lambda: d.correlations(inputs),
        lambda: d.check_columns(inputs),
    ):
        pd.testing.assert_frame_equal(call(), call(), check_exact=True)


# --- rows


def test_sampled_times_are_whole(bars):
    few = d.sample_times(bars, 120)
    assert len(few) <= 120 * 1.5 and set(few.ts) < set(bars.ts)
    assert all(
        (bars[bars.ts == t].reset_index(drop=True) == few[few.ts == t].reset_index(drop=True)).all(axis=None)
        for t in few.ts.unique()[:5]
    )
    assert d.sample_times(bars, 10_000) is bars


def test_trial_bars_fill_every_lookback(bars):
    trial = d.trial_bars(bars, ["sma_100", "xs_rank_ret_20"], rows=20, symbols=2)
    assert trial.symbol.unique().tolist() == ["AAA", "CCC"] and trial.groupby("symbol").size().eq(119).all()
    assert compute_features(trial, ["sma_100"]).sma_100.notna().sum() == 2 * 20
    assert len(d.trial_bars(bars, ["rsi_14"], rows=10_000)) == len(bars)
