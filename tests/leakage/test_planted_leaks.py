"""Every leak that is planted is stopped, and the message calls it by its name."""
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError, ModelError, SplitError
from mlfin.facts.facts import as_facts
from mlfin.features.table import compute_features
from mlfin.datasets.builder import build_dataset
from mlfin.datasets.labels import compute_labels
from mlfin.validation.folds import Folds, check_folds
from mlfin.validation.splits import CombinatorialPurged, Fold, PurgedKFold, WalkForward
from mlfin.models.training import cross_train

SPECS = ("rsi_14", "returns", "historical_vol_21", "sma_20", "obv")


@pytest.fixture(scope="module")
def market():
    """Six symbols that share a market, 500 days; their features and labels."""
    rng, parts = np.random.default_rng(11), []
    ts = pd.date_range("2019-01-01", periods=500, tz="UTC").as_unit("us")
    common = rng.normal(0, 0.008, 500)
    for n in range(6):
        close = 100 * np.exp(np.cumsum(common + rng.normal(0, 0.012, 500)))
        opened = close * np.exp(rng.normal(0, 0.003, 500))
        parts.append(pd.DataFrame(dict(
            symbol=f"S{n}", timeframe="1d", ts=ts, known_at=ts + pd.Timedelta("20h"), open=opened,
            high=np.maximum(opened, close) * 1.002, low=np.minimum(opened, close) * 0.998, close=close,
            volume=rng.integers(1_000, 9_000, 500).astype(float))))
    bars = pd.concat(parts, ignore_index=True)
    return bars, compute_features(bars, SPECS), compute_labels(bars, "fwd_ret_5")


def build(market, **columns):
    """A dataset whose features have some columns replaced."""
    bars, features, labels = market
    return build_dataset(features.assign(**columns), labels, bars, SPECS)


def on_rows(market, spec="fwd_ret_5", column=None):
    """A column of a label, on the rows of the features; rows without one get a number like any other."""
    bars, features, _ = market
    values = features.merge(compute_labels(bars, spec), how="left", on=["symbol", "timeframe", "ts"])[
        column or spec
    ]
    return values.fillna(values.mean()).astype(float)


def test_nothing_planted_nothing_found(market):
    bars, _, labels = market
    dataset = build(market)
    assert dataset.verify(bars=bars) is dataset
    for splitter in (
        WalkForward(4, 5),
        WalkForward(None, 5, period="1QE"),
        PurgedKFold(4, 5),
        CombinatorialPurged(5, 2, 5),
    ):
        folds = splitter.split(dataset.spans)
        assert check_folds(folds, dataset.spans) is folds
        assert all(d.any() for f in folds for d in (f.train, f.test))


SCALERS = {
    "standard": lambda x, s: (x - x.mean()) / x.std(ddof=0),
    "standard, sample": lambda x, s: (x - x.mean()) / x.std(),
    "standard by symbol": lambda x, s: (x - x.groupby(s).transform("mean")) / x.groupby(s).transform("std"),
    "least and largest": lambda x, s: (x - x.min()) / (x.max() - x.min()),
    "from -1 to 1": lambda x, s: 2 * (x - x.min()) / (x.max() - x.min()) - 1,
    "quartiles": lambda x, s: (x - x.median()) / (x.quantile(0.75) - x.quantile(0.25)),
    "ranks": lambda x, s: x.rank(pct=True),
}


@pytest.mark.parametrize("name", SCALERS)
@pytest.mark.parametrize(
    "column", ["historical_vol_21", "sma_20"]
)  # one that enters as it is, one that is made relative
def test_a_global_scaler(market, name, column):
    features = market[1]
    scaled = SCALERS[name](features[column], features["symbol"])
    with pytest.raises(DataError, match=f"(?s)`{column}` must be scaled inside the fold only.*a global "
                                        f"scaler.*training rows of each fold"):
        build(market, **{column: scaled})


@pytest.mark.parametrize("name", ["StandardScaler", "MinMaxScaler", "RobustScaler"])
def test_a_global_scaler_of_scikit_learn_on_the_finished_rows(market, name):
    from dataclasses import replace

    from sklearn import preprocessing

    dataset = build(market)
    X = pd.DataFrame(getattr(preprocessing, name)().fit_transform(dataset.X), columns=dataset.X.columns)
    with pytest.raises(DataError, match="a global scaler"):
        replace(dataset, X=X).verify()


def test_scaling_inside_the_fold_or_among_symbols_is_no_global_scaler(market):
    features = market[1]
    by = features["rsi_14"].groupby(features["ts"])
    build(market, rsi_14=(features["rsi_14"] - by.transform("mean")) / by.transform(lambda x: x.std(ddof=0)))
    early = features["ts"] < features["ts"].median()
    x = features["historical_vol_21"]
    build(market, historical_vol_21=(x - x[early].mean()) / x[early].std())


@pytest.mark.parametrize(
    "name",
    ["fwd_ret_5", "fwd_ret_20_direction", "barrier_10_2_2", "fwd_quantile_5_4_class", "meta_fwd_ret_5"],
)
def test_a_label_among_the_features_by_name(market, name):
    with pytest.raises(DataError, match=f"`features` must be a frame without labels, got .'{name}'"):
        build(market, **{name: 1.0})


COPIES = {
    "itself": lambda y, rng: y,
    "scaled": lambda y, rng: 3 - 20 * y,
    "ranked": lambda y, rng: y.rank(),
    "exponential": lambda y, rng: np.exp(60 * y),
    "cubed": lambda y, rng: y**3,
    "direction": lambda y, rng: (y > 0).astype(float),
    "flipped": lambda y, rng: (y <= 0).astype(float),
    "size": lambda y, rng: y.abs() * 2 + 0.5,
    "a little noise": lambda y, rng: y + 0.3 * y.std() * rng.normal(size=len(y)),
    "much noise": lambda y, rng: y + 0.7 * y.std() * rng.normal(size=len(y)),
    "coarse": lambda y, rng: pd.qcut(y, 4, labels=False).astype(float),
    "clipped": lambda y, rng: y.clip(-0.01, 0.01),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_label_among_the_features_under_another_name(market, name):
    copy = COPIES[name](on_rows(market), np.random.default_rng(1))
    with pytest.raises(
        DataError,
        match="(?s)`returns` must be a feature known before the label begins.*it was computed from the label",
    ):
        build(market, returns=copy)


@pytest.mark.parametrize(
    "spec, column",
    [
        ("fwd_demean_5", None),
        ("fwd_quantile_5_6", "fwd_quantile_5_6_class"),
        ("fwd_log_5", None),
        ("fwd_ret_4", None),
        ("fwd_close_5", None),
    ],
)
def test_a_label_of_another_kind(market, spec, column):
    with pytest.raises(DataError, match="(?s)`returns` must be.*it was computed from the label"):
        build(market, returns=on_rows(market, spec, column))


def test_a_label_with_so_much_noise_that_only_its_past_tells(market):
    y = on_rows(market)
    dataset = build(market, returns=y + 3 * y.std() * np.random.default_rng(1).normal(size=len(y)))
    with pytest.raises(DataError, match="(?s)`returns` must be what its past gives.*knowledge of the future"):
        dataset.verify(bars=market[0])


@pytest.mark.parametrize("fit", [WalkForward(4, 0), PurgedKFold(4, 0)])
def test_overlapping_spans(market, fit):
    """Folds that are cut well for a label of one day, used for one of ten; and rows beside each other."""
    bars = market[0]
    short, long = (compute_labels(bars, f"fwd_ret_{h}") for h in (1, 10))
    short = short[short["ts"] <= long["ts"].max()].reset_index(drop=True)
    folds = fit.split(short)
    assert check_folds(folds, short)
    with pytest.raises(
        SplitError, match="no test span touches a training span, got 'overlapping spans' .fold 1: "
    ):
        check_folds(folds, long)


def test_overlapping_spans_of_a_series_split(market):
    from sklearn.model_selection import TimeSeriesSplit

    one = market[2].query("symbol == 'S0'").reset_index(drop=True)
    folds = as_folds(TimeSeriesSplit(4).split(one), one)
    with pytest.raises(SplitError, match="overlapping spans.*fold 1: 5 of 102 training rows"):
        check_folds(folds, one)
    with pytest.raises(SplitError, match="overlapping spans"):
        Folds(folds, one)
    gap = as_folds(TimeSeriesSplit(4, gap=6).split(one), one)
    assert check_folds(gap, one)


def as_folds(parts, labels):
    return [
        Fold(n, np.sort(a), np.sort(b), 0, *[labels["ts"].iloc[0]] * 4) for n, (a, b) in enumerate(parts, 1)
    ]


@pytest.mark.parametrize("name", ["KFold", "ShuffleSplit", "StratifiedKFold", "GroupKFold"])
def test_a_random_split(market, name):
    from sklearn import model_selection

    labels = market[2]
    options = (
        {}
        if name == "GroupKFold"
        else {"random_state": 0, **({"shuffle": True} if name.endswith("KFold") else {})}
    )
    parts = getattr(model_selection, name)(5, **options).split(
        labels, labels["fwd_ret_5_direction"], labels["symbol"] if name == "GroupKFold" else None
    )
    with pytest.raises(SplitError, match="a random split or one by symbol"):
        check_folds(as_folds(parts, labels), labels)


def test_a_random_split_of_one_symbol(market):
    from sklearn.model_selection import train_test_split

    one = market[2].query("symbol == 'S0'").reset_index(drop=True)
    with pytest.raises(SplitError, match="a random split"):
        check_folds(
            as_folds([train_test_split(np.arange(len(one)), test_size=0.2, random_state=0)], one), one
        )


def leave_one_out(y, symbol):
    """The mean of the other rows of a symbol: constant but for the row's own label, which it lacks."""
    by = y.groupby(symbol)
    return (by.transform("sum") - y) / (by.transform("size") - 1)


@pytest.mark.parametrize(
    "name, encode",
    [
        ("return", lambda y, s: y.groupby(s).transform("mean")),
        ("direction", lambda y, s: (y > 0).astype(float).groupby(s).transform("mean")),
        ("affine", lambda y, s: 5 - 300 * y.groupby(s).transform("mean")),
    ],
)
def test_a_target_encoded_symbol(market, name, encode):
    dataset = build(market)
    code = encode(dataset.forward_return, dataset.keys["symbol"]).groupby(dataset.keys["symbol"]).first()
    column = market[1]["symbol"].map(code)
    with pytest.raises(
        DataError,
        match="(?s)`rsi_14` must be a feature that does not encode the symbol by its label.*inside the fold",
    ):
        build(market, rsi_14=column)


def test_a_target_encoded_symbol_that_leaves_the_row_out(market):
    dataset = build(market)
    code = leave_one_out(dataset.forward_return, dataset.keys["symbol"]).to_numpy()
    at = pd.Series(code, index=pd.MultiIndex.from_frame(dataset.keys[["symbol", "ts"]]))
    column = at.reindex(pd.MultiIndex.from_frame(market[1][["symbol", "ts"]])).to_numpy()
    with pytest.raises(DataError, match="`rsi_14` must be a feature known before.*within each symbol"):
        build(market, rsi_14=np.where(np.isnan(column), np.nanmean(column), column))


def test_a_symbol_encoded_by_two(market):
    """Two symbols: any two numbers go with any two means, so only the means themselves are stopped."""
    bars, features, labels = (frame[frame["symbol"] < "S2"].reset_index(drop=True) for frame in market)
    kept = build((bars, features, labels))
    mean = kept.forward_return.groupby(kept.keys["symbol"]).mean()
    with pytest.raises(DataError, match="does not encode the symbol by its label"):
        build((bars, features, labels), rsi_14=features["symbol"].map(mean))
    build((bars, features, labels), rsi_14=features["symbol"].map({"S0": 1.0, "S1": 2.0}))


def facts_of(bars, rng):
    """Earnings of each quarter, published forty days after it ended."""
    rows = []
    for symbol in bars["symbol"].unique():
        for end in pd.date_range("2017-12-31", "2020-03-31", freq="QE"):
            for name in ("net_income", "shares"):
                value = float(rng.lognormal(3 if name == "net_income" else 6, 0.3))
                rows.append((symbol, name, value, end - pd.offsets.QuarterBegin(startingMonth=1), end,
                             end.tz_localize("UTC") + pd.Timedelta("40D"), "made"))
    return as_facts(rows)


def test_a_fact_from_the_future(market):
    bars, labels, spec = market[0], market[2], "earnings_yield"
    facts = facts_of(bars, np.random.default_rng(3))
    with pytest.raises(DataError, match="`published` must be after the period that it describes"):
        as_facts(facts.assign(published=facts["published"] - pd.Timedelta("40D")))
    early = as_facts(
        facts.assign(published=facts["published"] - pd.Timedelta("39D"))
    )  # the moment that its period is over
    honest, peeking = (
        build_dataset(compute_features(bars, [spec, "returns"], facts=f), labels, bars, [spec, "returns"])
        for f in (facts, early)
    )
    assert honest.verify(bars=bars, facts=facts, times=8) is honest
    with pytest.raises(DataError, match=f"(?s)`{spec}` must be what its past gives.*knowledge of the future"):
        peeking.verify(bars=bars, facts=facts, times=8)


def test_a_feature_known_after_the_label_begins(market):
    bars, features, labels = market
    late = features.assign(
        known_at=features["known_at"].where(features.index != 200, features["ts"] + pd.Timedelta("25h"))
    )
    with pytest.raises(DataError, match="`features` must be known when the label begins"):
        build_dataset(late, labels, bars, SPECS)


def test_a_price_from_the_future(market):
    """Tomorrow's return says little about the next five: no correlation shows it, its past does."""
    bars = market[0]
    ahead = bars.groupby("symbol")["close"].pct_change().shift(-1).fillna(0.0)
    dataset = build(market, returns=ahead)
    with pytest.raises(DataError, match="`returns` must be what its past gives"):
        dataset.verify(bars=bars)


def test_the_same_key_twice(market):
    bars, features, labels = market
    with pytest.raises(DataError, match="twice the same key"):
        build_dataset(pd.concat([features, features[-1:]], ignore_index=True), labels, bars, SPECS)
    with pytest.raises(DataError, match="once, got 'S0 1d"):
        build_dataset(features, pd.concat([labels, labels[:1]], ignore_index=True), bars, SPECS)


# --- what is given is computed again


def test_a_dataset_that_was_altered_after_it_was_built(market):
    dataset = build(market)
    dataset.X.iloc[10, 0] += 0.01
    with pytest.raises(ModelError, match="`dataset` must be of the content that its hash names"):
        cross_train(dataset, WalkForward(2, 0).split(dataset.spans), ["logistic"])


@pytest.mark.parametrize(
    "changes",
    [
        {"pending": None},
        {"specs": ("rsi_14",)},
        {"reads": ("x",)},
        {"hash": ""},
        {"unchecked": "nobody looked"},
    ],
)
def test_a_dataset_of_which_something_else_was_altered(market, changes):
    dataset = build(market)
    folds = WalkForward(2, 0).split(dataset.spans)
    with pytest.raises(ModelError, match="of the content that its hash names|with the hash of its content"):
        cross_train(replace(dataset, **changes), folds, ["logistic"])


def test_a_frame_whose_function_looks_up_what_was_made_before(market):
    """Cuts find nothing in a table that is only looked up: it does not change with the bars either."""
    bars, _, labels = market
    keys = ["symbol", "timeframe", "ts", "known_at"]
    made = bars[keys].assign(
        ahead=bars.groupby("symbol")["close"].shift(-3) / bars["close"], body=bars["close"] / bars["open"]
    )

    def looked_up(bars):
        return bars[keys].merge(made[[*keys, "ahead"]], on=keys).assign(body=bars["close"] / bars["open"])

    dataset = build_dataset(
        looked_up(bars).fillna(1.0), labels, bars, function=lambda bars: looked_up(bars).fillna(1.0)
    )
    assert dataset.unchecked.startswith("features not checked: ahead does not change with the prices")


@pytest.mark.parametrize(
    "leak", ["weak copy of the label", "encoded symbol", "another value", "global scale", "known too early"]
)
def test_features_that_their_bars_do_not_give(market, leak):
    """No correlation and no shape betrays these; their own bars do."""
    bars, features, labels = market
    y, rng = on_rows(market), np.random.default_rng(1)
    changed = {
        "weak copy of the label": lambda: features.assign(
            returns=np.nan_to_num(y) + 1.33 * np.nanstd(y) * rng.normal(size=len(y))
        ),
        "encoded symbol": lambda: features.assign(
            returns=pd.Series(y, features.index).groupby(features["symbol"].astype(str)).transform("mean")
        ),
        "another value": lambda: features.assign(
            rsi_14=features["rsi_14"].where(features.index != 300, 50.0)
        ),
        "global scale": lambda: features.assign(rsi_14=features["rsi_14"] / features["rsi_14"].mean()),
        "known too early": lambda: features.assign(known_at=features["ts"]),
    }[leak]()
    with pytest.raises(
        DataError, match="The dataset is not what its bars give|must be no earlier than its bar is known"
    ):
        build_dataset(changed, labels, bars, SPECS, context={})
    if leak != "known too early":
        told = build_dataset(changed, labels, bars, SPECS)
        assert told.unchecked.startswith("features not checked: ") and told.caveats == [told.unchecked]
    assert build_dataset(features, labels, bars, SPECS, context={}).caveats == []


def test_labels_that_their_bars_do_not_give(market):
    bars, features, labels = market
    for column, value in (("fwd_ret_5", 0.1), ("t1", labels["t1"].iloc[0])):
        wrong = labels.assign(**{column: labels[column].where(labels.index != 200, value)})
        with pytest.raises(DataError, match="The dataset is not what its bars give: "):
            build_dataset(features, wrong, bars, SPECS, context={})


def test_a_close_that_is_stamped_at_the_open(market):
    bars, features, labels = market
    early = bars.assign(known_at=bars["ts"])
    with pytest.raises(DataError, match="`bars.known_at` must be later than the bar's open"):
        build_dataset(features.assign(known_at=features["ts"]), labels, early, SPECS)


def test_a_frame_of_ones_own(market):
    """Columns without a spec: tested by their function, or said to be unchecked, and the training says so
    too."""
    bars, _, labels = market

    def honest(bars):
        return pd.DataFrame(
            {"spread": bars["high"] / bars["low"] - 1, "body": bars["close"] / bars["open"] - 1}
        )

    def peeks(bars):
        return honest(bars).assign(
            body=bars.groupby("symbol")["close"].shift(-1).div(bars["close"]).fillna(1.0) - 1
        )

    def frame(make):
        return pd.concat([bars[["symbol", "timeframe", "ts", "known_at"]], make(bars)], axis=1)

    tested, untested = (
        build_dataset(frame(honest), labels, bars, function=honest),
        build_dataset(frame(peeks), labels, bars),
    )
    assert tested.unchecked == "" and list(tested.names) == ["spread", "body"]
    assert (
        untested.unchecked
        == "features not checked: columns of their own, without the function that makes them"
    )
    with pytest.raises(DataError, match="`body` must be what its function gives from bars up to"):
        build_dataset(frame(peeks), labels, bars, function=peeks)
    folds = WalkForward(2, 0).split(untested.spans)
    assert cross_train(untested, folds, ["dummy"]).unchecked == untested.unchecked
    assert cross_train(tested, folds, ["dummy"]).unchecked == ""
