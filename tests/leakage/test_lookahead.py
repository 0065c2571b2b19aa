"""No registered feature peeks, and planted bugs are caught, each with its feature, its row and the input that
did it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError, ParameterError, SpecError
from mlfin.market.bars import as_bars
from mlfin.facts.facts import as_facts
from mlfin.sources.sources import read_bars
from mlfin.leakage.future import cut_times
from mlfin.leakage.lookahead import assert_no_lookahead, check_features
from mlfin.leakage.reference import FAULTS, replace_future
from mlfin.features.online import assert_parity
from mlfin.features.feature_types import Param
from mlfin.features.spec import definitions, feature, load_features



@pytest.mark.parametrize("cuts", [4, pytest.param(12, marks=pytest.mark.slow)])
def test_no_registered_feature_peeks(real, cuts):
    """The whole registry on real bars: three long histories and one that begins late; one bar to all but
    one."""
    bars, context = real(700)
    report = check_features(load_features(), bars, cuts=cuts, **context)
    bad = report[report.verdict != "passes"]
    assert bad.empty, "\n".join(bad.says)
    assert len(report) == len(load_features()) and (report.comparisons >= 2 * cuts).all()


def test_on_five_minute_bars_of_crypto():
    """Three coins by the clock: prices of eight decimals, gaps, no session."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "market" / "freqtrade"
    if not folder.is_dir():
        pytest.skip("../shared/data/market is not there")
    bars = as_bars(read_bars(folder / "*_BTC-5m.feather", symbol_from=r"(.+)-5m", timeframe="5m").bars)
    bars = (
        bars[bars.symbol.isin(["ETH_BTC", "XMR_BTC", "DASH_BTC"])]
        .groupby("symbol")
        .tail(600)
        .reset_index(drop=True)
    )
    specs = [d.example for d in definitions().values() if d.kind != "facts" and set(d.inputs) <= set(bars)]
    assert len(specs) > 200 and assert_no_lookahead(specs, bars, cuts=4) > 1_600
    assert assert_parity(specs, bars.groupby("symbol").tail(100).reset_index(drop=True))


def test_with_a_symbol_as_the_index(real):
    bars, context = real(200)
    specs = [d.example for d in definitions().values() if d.kind == "panel"]
    if specs:
        assert assert_no_lookahead(specs, bars, cuts=5, **context, index="IBM") >= 10 * len(specs)


def verdict(specs, bars, **options):
    report = check_features(specs, bars, **{"cuts": 4} | options)
    return report.iloc[-1]


def centred(close, n):
    return pd.Series(close).rolling(n, center=True, min_periods=1).mean().to_numpy()


def shifted(close):
    return pd.Series(close).shift(-1).ffill().to_numpy()


def standardised(close):
    return (close - close.mean()) / close.std()


def backfilled(close):
    return pd.Series(close).where(np.arange(len(close)) % 7 == 0).bfill().ffill().to_numpy()


def ranked(close):
    return pd.Series(close).rank(pct=True).to_numpy()


def last(close):
    return close / close[-1]


def resampled_right(close):
    """The last close of the block of five bars that a bar is in, given to all five."""
    return pd.Series(close).groupby(np.arange(len(close)) // 5).transform("last").to_numpy()


def merged_off_by_one(close):
    """A slower series joined on the position of the bar after the one that it was known at."""
    slow = pd.Series(close).rolling(3).mean()
    return slow.reindex(np.arange(1, len(close) + 1)).ffill().to_numpy()


def from_the_end(close):
    return np.minimum.accumulate(close[::-1])[::-1].copy()


@pytest.mark.parametrize(
    "bug", [shifted, standardised, backfilled, ranked, last, resampled_right, merged_off_by_one, from_the_end]
)
def test_planted_bugs(registry, bars, bug):
    feature("planted", unit="price", lookback=0)(bug)
    with pytest.raises(SpecError, match="`planted` looks ahead: planted at (AAA|BBB|CCC) 20") as e:
        assert_no_lookahead(["sma_20", "planted"], bars, cuts=4)
    assert "Hint: a value may use only bars up to its own row" in str(e.value)
    found = verdict(["sma_20", "planted"], bars)
    assert (found.verdict, found.column) == ("look-ahead", "planted")
    assert found.input_symbol == found.symbol and found.input_ts > found.ts
    assert found.input in ("close", "rows")


@pytest.mark.parametrize("n", [3, 5, 21])
def test_centred_window(registry, bars, n):
    feature("planted", params=[Param("n", 5)], unit="price", lookback=0)(centred)
    found = verdict([f"planted_{n}"], bars)
    assert (found.verdict, found.input, found.input_symbol) == ("look-ahead", "close", found.symbol)
    own = bars[bars.symbol == found.symbol].reset_index(drop=True)
    assert 0 < own.index[own.ts == found.input_ts][0] - own.index[own.ts == found.ts][0] <= n // 2


def test_the_input_that_is_named_is_the_right_one(registry, bars):
    def mixed(high, volume, close):
        return high + np.append(volume[3:], [0.0] * 3) * (close > 0)
    feature("mixed", inputs=("high", "volume", "close"), unit="price", lookback=0)(mixed)
    found = verdict(["mixed"], bars, cuts=[bars["ts"][120]])
    own = bars[bars.symbol == found.symbol].reset_index(drop=True)
    assert (found.verdict, found.input) == ("look-ahead", "volume")
    assert own.index[own.ts == found.input_ts][0] - own.index[own.ts == found.ts][0] == 3
    assert f"is volume of {found.symbol} at {found.input_ts}" in found.says


def test_the_row_that_is_named_is_the_first_wrong_one(registry, make_bars):
    feature("planted", unit="price", lookback=0)(shifted)
    bars = make_bars("AAA", 60)
    found = verdict(["planted"], bars, cuts=[bars["ts"][40]])
    assert (found.ts, found.input, found.input_ts) == (bars["ts"][40], "close", bars["ts"][41])


def test_one_bit_is_enough(registry, make_bars):
    def one_bit(close):
        return np.nextafter(close, np.inf) if close[-1] > 1e5 else close * 1.0
    feature("planted", unit="price", lookback=0)(one_bit)
    bars = make_bars("AAA", 60)
    bars.loc[59, ["open", "high", "low", "close"]] = 2e5
    with pytest.raises(SpecError, match="cut off"):
        assert_no_lookahead(["planted"], bars, cuts=1)


def test_the_number_of_rows_is_an_input_too(registry, bars):
    feature("planted", unit="index", lookback=0)(lambda close: np.arange(len(close)) / len(close))
    found = verdict(["planted"], bars)
    assert (found.verdict, found.input) == ("look-ahead", "rows") and "there being the row" in found.says


def test_only_one_bar(registry, bars):
    """Right on every history but the shortest."""
    def short(close):
        return np.zeros(len(close)) if len(close) > 1 else np.ones(1)
    feature("planted", unit="index", lookback=0)(short)
    young = bars.ts[bars.symbol == "AAA"].min()
    found = verdict(["planted"], bars)
    assert (found.verdict, found.symbol, found.ts) == ("look-ahead", "AAA", young)


def test_a_feature_that_fails_on_few_bars(registry, bars):
    def needs(close):
        return close - close[2]
    feature("planted", unit="price", lookback=0)(needs)
    found = verdict(["sma_20", "planted"], bars)
    assert found.verdict == "raises" and "`planted` fails on 1 bars: IndexError" in found.says


def test_values_before_the_lookback_is_full(registry, bars):
    feature("eager", params=[Param("n", 20)], unit="price", lookback=lambda n: n - 1)(
        lambda close, n: pd.Series(close).rolling(n, min_periods=1).mean().to_numpy())
    with pytest.raises(SpecError, match="`eager_20` must be NaN in the first 19 bars"):
        assert_no_lookahead(["eager_20"], bars)
    assert verdict(["eager_20"], bars).verdict == "warm-up"


def test_no_value_though_the_lookback_is_full(registry, bars):
    feature("late", params=[Param("n", 20)], unit="ratio", lookback=lambda n: n - 1)(
        lambda close, n: pd.Series(close).pct_change().rolling(n).max().to_numpy())
    with pytest.raises(
        SpecError,
        match="`late_20` must be a value once 19 bars are there, as its lookback says, got 'none in 20'",
    ):
        assert_no_lookahead(["late_20"], bars)


def test_a_sum_that_is_not_declared_anchored(registry, bars):
    feature("planted", inputs=("volume",), unit="volume", lookback=0)(np.cumsum)
    found = verdict(["planted"], bars)
    assert found.verdict == "start" and "depends on where the data start: planted at" in found.says


def test_a_sum_that_pretends_to_be_recursive(registry, bars):
    class Sum:
        total = 0.0

        def update(self, volume):
            self.total += volume
            return self.total
    feature("planted", inputs=("volume",), unit="volume", lookback=0, online=Sum, warm_up=60)(np.cumsum)
    assert verdict(["planted"], bars).verdict == "start"
    feature("planted", inputs=("volume",), unit="volume", lookback=0, online=Sum, anchored=True)(np.cumsum)
    assert verdict(["planted"], bars).verdict == "passes"


def test_declared_anchored_but_is_not(registry, bars):
    feature("planted", unit="price", lookback=0, anchored=True, online=lambda: None)(lambda close: close * 2)
    with pytest.raises(SpecError, match="declared anchored, and is the same from whichever bar"):
        assert_no_lookahead(["planted"], bars)


def test_a_recursion_forgets_as_fast_as_it_says(registry, bars):
    def smooth(close, n):
        return pd.Series(close).ewm(alpha=1 / n, adjust=False).mean().to_numpy()

    feature(
        "good",
        params=[Param("n", 5)],
        unit="price",
        lookback=0,
        online=lambda n: None,
        warm_up=lambda n: 20 * n,
    )(smooth)
    feature(
        "bad",
        params=[Param("n", 5)],
        unit="price",
        lookback=0,
        online=lambda n: None,
        warm_up=lambda n: 2 * n,
    )(smooth)
    report = check_features(["good_5", "bad_5"], bars).set_index("feature")
    assert list(report.verdict) == ["passes", "start"]
    assert 20 < report.memory["good_5"] <= 100


def test_running_sums_are_no_window(registry, bars):
    def mean(close, n):
        total = np.cumsum(close)
        out = np.full(len(close), np.nan)
        out[n - 1:] = (total[n - 1:] - np.append(0.0, total[:-n])) / n
        return out
    feature("running", params=[Param("n", 5)], unit="price", lookback=lambda n: n - 1)(mean)
    assert verdict(["running_5"], bars).verdict == "start"


def test_what_is_random_is_found(registry, bars):
    rng = np.random.default_rng(0)
    feature("planted", unit="ratio", lookback=0)(lambda close: rng.normal(size=len(close)))
    found = verdict(["planted"], bars)
    assert found.verdict == "unstable" and "gives two values for one" in found.says


def test_a_series_that_remembers_other_symbols(registry, bars):
    seen = []

    def relative(close):
        seen.append(float(close[0]))
        return close / seen[-2] if len(seen) > 1 and len(seen) % 3 != 1 else close / close[0]
    feature("planted", unit="ratio", lookback=0, anchored=True, online=lambda: None)(relative)
    assert verdict(["planted"], bars).verdict in ("unstable", "cross-section", "look-ahead")


def others_tomorrow(panel):
    """The mean return of all symbols, one bar too early for every symbol but the first."""
    with np.errstate(invalid="ignore"):
        close = panel.values("close")
        out = close * 0.0
        if len(close) > 1:
            out[:-1, 1:] += np.nan_to_num(close[1:, :1] / close[:-1, :1] - 1)
    return out


def test_a_leak_across_symbols(registry, bars):
    feature("planted", unit="ratio", lookback=0, kind="panel")(others_tomorrow)
    found = verdict(["planted"], bars)
    assert (found.verdict, found.input, found.input_symbol) == ("look-ahead", "close", "AAA")
    assert found.symbol != "AAA" and found.input_ts == found.ts + pd.Timedelta("1D")


def test_a_panel_resampled_to_weeks_labelled_left_and_right(registry, bars):
    def weekly(panel, label):
        close = pd.DataFrame(panel.values("close"), index=panel.ts)
        rule = dict(closed="left", label=label)
        return close.resample("W-MON", **rule).last().reindex(panel.ts, method="ffill").to_numpy(copy=True)
    feature("leaks", unit="price", lookback=0, kind="panel")(lambda panel: weekly(panel, "left"))
    feature("holds", unit="price", lookback=7, kind="panel")(
        lambda panel: np.where(np.arange(len(panel.ts))[:, None] < 7, np.nan, weekly(panel, "right")))
    report = check_features(["leaks", "holds"], bars).set_index("feature")
    assert report.verdict["leaks"] == "look-ahead" and report.input["leaks"] == "close"
    assert report.verdict["holds"] == "passes"


def test_a_table_merged_by_day_instead_of_by_when_it_was_known(registry, make_bars):
    """An hourly feature joined to daily bars by date: the bar of that day closes hours later."""
    hours = make_bars("AAA", 24 * 20)
    hours["ts"] = pd.date_range("2021-01-01", periods=len(hours), freq="h", tz="UTC").as_unit("us")
    hours = hours.assign(known_at=hours.ts + pd.Timedelta("1h"), timeframe="1h")

    def day(panel):
        close = pd.DataFrame(panel.values("close"), index=panel.ts)
        return close.groupby(panel.ts.floor("D")).transform("last").to_numpy(copy=True)
    feature("planted", unit="price", lookback=0, kind="panel")(day)
    found = verdict(["planted"], hours)
    assert (found.verdict, found.input) == ("look-ahead", "close")
    assert found.input_ts.floor("D") == found.ts.floor("D")


def test_a_panel_may_not_use_what_is_known_after_its_row(registry, make_bars):
    """The cross-section of one `ts` is not known before its last bar has closed."""
    early, late = make_bars("AAA", 60, 1), make_bars("BBB", 60, 2)
    late["known_at"] += pd.Timedelta("3h")
    both = pd.concat([early, late], ignore_index=True)
    feature("planted", unit="ratio", lookback=0, kind="panel")(
        lambda panel: panel.values("close") / np.nanmean(panel.values("close"), axis=1, keepdims=True))
    with pytest.raises(DataError, match="known in the order in which they open"):
        check_features(["planted"], both)
    assert (
        verdict(
            ["planted"], pd.concat([early, late.assign(known_at=early.known_at)], ignore_index=True)
        ).verdict
        == "passes"
    )


def test_facts_that_are_published_later(registry, make_bars):
    bars = make_bars("AAA", 60)
    days = bars.ts.iloc[[10, 30, 50]]
    facts = as_facts(
        [
            ("AAA", "eps", float(i), pd.NaT, t.tz_localize(None), t + pd.Timedelta("5D"), "test")
            for i, t in enumerate(days)
        ]
    )

    def joined(frame, facts, by):
        moments = facts[by].dt.tz_localize("UTC") if facts[by].dt.tz is None else facts[by]
        place = np.searchsorted(moments.array.asi8, frame.known_at.array.asi8, side="right") - 1
        return np.where(place < 0, np.nan, np.append(facts.value.to_numpy(), np.nan)[place])

    feature("leaks", unit="ratio", lookback=0, kind="facts", facts=("eps",))(
        lambda frame, facts: joined(frame, facts, "period_end")
    )
    feature("holds", unit="ratio", lookback=0, kind="facts", facts=("eps",))(
        lambda frame, facts: joined(frame, facts, "published")
    )
    report = check_features(["leaks", "holds"], bars, cuts=list(bars.ts[5:58:3]), facts=facts).set_index(
        "feature"
    )
    assert list(report.verdict) == ["look-ahead", "passes"]
    assert report.input["leaks"] == "facts" and "facts that were published later" in report.says["leaks"]


def test_all_faults_of_many_features_in_one_report(registry, bars):
    feature("ahead", unit="price", lookback=0)(shifted)
    feature("total", unit="price", lookback=0)(np.cumsum)
    report = check_features(["sma_20", "ahead", "ret_5", "total"], bars)
    assert list(report.verdict) == ["passes", "look-ahead", "passes", "start"]
    with pytest.raises(SpecError, match=r"`ahead` looks ahead(.|\n)*Also: total \(start\)"):
        assert_no_lookahead(["sma_20", "ahead", "ret_5", "total"], bars)
    assert set(report.verdict) <= {"passes", *FAULTS}


def test_noise_leaves_the_past_alone(bars):
    cut = bars["ts"][150]
    noisy = replace_future(bars, cut, seed=1)
    past = bars["ts"] <= cut
    pd.testing.assert_frame_equal(noisy[past], bars[past], check_exact=True)
    assert (noisy.loc[~past, "close"] != bars.loc[~past, "close"]).all()
    assert (noisy.high >= noisy[["open", "close"]].max(axis=1)).all() and (noisy.low > 0).all()
    pd.testing.assert_frame_equal(noisy, replace_future(bars, cut, seed=1))
    only = replace_future(bars, cut, seed=1, columns=["volume"])
    pd.testing.assert_frame_equal(only, bars.assign(volume=noisy.volume))


def test_cuts(bars):
    times = bars.ts.drop_duplicates().sort_values(ignore_index=True)
    assert cut_times(bars, 3) == [times[0], times[1], times.iloc[-2]]
    assert cut_times(bars, 1) == [times.iloc[-2]]
    many = cut_times(bars, 40)
    assert 30 < len(many) <= 40 and many == sorted(many) and many[0] == times[0]
    assert many[-1] == times.iloc[-2]
    assert cut_times(bars[:2]) == [bars.ts[0]]
    with pytest.raises(ParameterError, match="cuts"):
        cut_times(bars, 0)
    with pytest.raises(ParameterError, match="two times"):
        cut_times(bars[:1])
    with pytest.raises(ParameterError, match="after the first bar"):
        assert_no_lookahead(["rsi_14"], bars, cuts=["2000-01-01T00:00Z"])


def test_the_count_is_cuts_by_columns_twice(bars):
    late = bars["ts"].drop_duplicates().sort_values()[-30:-1]
    specs = "bbands_20_2 ret_5 obv".split()
    assert assert_no_lookahead(specs, bars, cuts=list(late)) == 29 * 2 * 5
