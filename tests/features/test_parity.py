"""Bar by bar equals the table, bit for bit: for every registered feature, on real bars, also after a
restart."""

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError, SpecError
from mlfin.leakage.lookahead import assert_no_lookahead
from mlfin.features.online import OnlineFeatures, assert_parity, check_parity
from mlfin.features.feature_types import Param
from mlfin.features.spec import definitions, feature, load_features, parse
from mlfin.features.table import compute_features

SPECS = "rsi_14 macd_12_26_9 atr_14 bbands_20_2 ema_50 obv ret_5 historical_vol_21 volume_ma_20".split()


def equal(a, b):
    pd.testing.assert_frame_equal(a.reset_index(drop=True), b.reset_index(drop=True), check_exact=True)


@pytest.mark.parametrize(("kind", "days"), [("series", 110), ("panel", 80), ("facts", 30)])
def test_every_registered_feature(real, kind, days):
    """Four histories and one that begins later; the numbers of the example of each spec."""
    bars, context = real(days, "2012-07-31")
    specs = [d.example for d in definitions().values() if d.kind == kind]
    report = check_parity(specs, bars, **context)
    bad = report[report.verdict != "passes"]
    assert bad.empty, "\n".join(bad.says)
    table = compute_features(bars, specs, **context)
    assert table[table.columns[4:]].notna().any().all(), "a feature without any value was not tested"


def other_numbers(change):
    """Every spec with numbers other than the customary ones, where these fit each other."""
    found = []
    for d in definitions().values():
        numbers = [min(max(change(p.default), p.low), p.high) for p in d.params]
        if d.params and not (d.rule and not d.rule[1](*numbers)):
            found.append(parse("_".join([d.name, *(f"{n:g}" for n in numbers)])))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [lambda x: 1, lambda x: x // 2, lambda x: round(x * 1.3)], ids=["least", "half", "more"]
)
def test_other_numbers(real, change):
    specs = other_numbers(change)
    bars, context = real(110, "2012-07-31")
    assert len(specs) > 100 and assert_parity(specs, bars, **context)
    bars, context = real(500)
    assert assert_no_lookahead(specs, bars, cuts=6, **context)


def test_every_feature_is_one_of_these():
    assert {d.kind for d in definitions().values()} <= {"series", "panel", "facts"}
    assert len(load_features()) == len(definitions())


def test_with_a_symbol_as_the_index(real):
    bars, context = real(50)
    specs = [d.example for d in definitions().values() if d.kind == "panel"]
    if specs:
        assert assert_parity(specs, bars, **context, index="IBM")


def test_unequal_histories(bars):
    assert assert_parity(SPECS, bars) == len(bars) * 13


def test_on_one_bar(bars):
    assert assert_parity(SPECS, bars[:1]) == 13


@pytest.mark.parametrize("step", [1, 3, 50])
def test_any_portions_give_the_same(bars, step):
    table, online = compute_features(bars, SPECS), OnlineFeatures(SPECS)
    times = bars.ts.drop_duplicates().sort_values().to_list()
    borders = [times[0], *times[200::step]]
    made = [online.update(bars[(bars.ts >= a) & (bars.ts < b)].reset_index(drop=True))
            for a, b in zip(borders, [*borders[1:], times[-1] + pd.Timedelta("1D")], strict=True)]
    keys = ["symbol", "ts"]
    equal(pd.concat(made).sort_values(keys), table)
    assert list(online.symbols) == ["AAA", "BBB", "CCC"] and set(online.symbols.values()) == {times[-1]}


@pytest.mark.parametrize("kept", [1, 7, 60, 120, 299])
def test_after_a_restart_the_same(bars, kept):
    times = bars.ts.drop_duplicates().sort_values()
    early = (bars.ts < times.iloc[kept]).to_numpy()
    online = OnlineFeatures(SPECS)
    online.replay(bars[early].reset_index(drop=True))
    equal(online.update(bars[~early].reset_index(drop=True)), compute_features(bars, SPECS)[~early])


def test_long_histories_do_not_overflow_the_tail(make_bars):
    bars = make_bars("AAA", 3_000)
    assert assert_parity(["ret_5", "ret_100", "rsi_14"], bars) == 9_000


def test_adjusted_bars_and_optional_columns(real):
    bars, context = real(60)
    bars = bars.assign(factor=2.0)
    assert assert_parity(["rsi_14", "ret_5"], bars, **context)


def test_bars_must_be_new(bars):
    online = OnlineFeatures(["rsi_14"])
    online.update(bars)
    with pytest.raises(
        DataError,
        match="`bars` must be later than those that were taken in, of which the last is of 2021-12-31",
    ):
        online.update(bars[-1:].reset_index(drop=True))
    with pytest.raises(DataError, match="1d bars"):
        online.update(
            bars[-1:].assign(timeframe="1h", ts=bars.ts.max() + pd.Timedelta("1D")).reset_index(drop=True)
        )


def test_panels_want_all_symbols_of_a_time_at_once(registry, bars):
    feature("share", unit="ratio", lookback=0, kind="panel")(
        lambda panel: panel.values("close") / np.nanmax(panel.values("close"), axis=1, keepdims=True))
    assert assert_parity(["share", "rsi_14"], bars) == 2 * len(bars)
    online = OnlineFeatures(["share"])
    online.update(bars[bars.symbol != "CCC"].reset_index(drop=True))
    with pytest.raises(DataError, match="panel features want all symbols of a time at once"):
        online.update(bars[(bars.symbol == "CCC")].tail(1).reset_index(drop=True))


def test_running_sums_are_told_what_to_declare(registry, bars):
    feature("drift", params=[Param("n", 10)], unit="price", lookback=lambda n: n - 1)(
        lambda close, n: pd.Series(close).rolling(n).mean().to_numpy())
    with pytest.raises(
        SpecError,
        match=r"`drift_10` gives other values bar by bar: drift_10 at AAA (.|\n)*or declare online=",
    ):
        assert_parity(["rsi_14", "drift_10"], bars)


def test_a_state_that_does_something_else(registry, bars):
    class Sum:
        def __init__(self):
            self.total = 0.0

        def update(self, volume):
            self.total = self.total * 0.999999 + volume
            return self.total
    feature("total", inputs=("volume",), unit="volume", lookback=0, anchored=True, online=Sum)(np.cumsum)
    with pytest.raises(SpecError, match="must do, bar by bar, the same operations"):
        assert_parity(["total"], bars)


def test_a_state_that_does_the_same(registry, bars):
    class Sum:
        def __init__(self):
            self.total = 0.0

        def update(self, volume):
            self.total += volume
            return self.total
    feature("total", inputs=("volume",), unit="volume", lookback=0, anchored=True, online=Sum)(np.cumsum)
    assert assert_parity(["total"], bars) == len(bars)


def test_a_panel_that_looks_back_further_than_it_says(registry, bars):
    feature("since", unit="ratio", lookback=2, kind="panel")(
        lambda panel: np.where(
            np.arange(len(panel.ts))[:, None] < 2, np.nan, panel.values("close") / panel.values("close")[:1]
        )
    )
    with pytest.raises(SpecError, match="the last lookback \\+ 1 times of the panel"):
        assert_parity(["since"], bars)


def test_a_state_that_fails_is_named(registry, bars):
    feature("broken", unit="price", lookback=0, online=lambda: object())(lambda close: close * 1.0)
    with pytest.raises(SpecError, match="`broken` fails bar by bar: AttributeError"):
        assert_parity(["rsi_14", "broken"], bars)
    report = check_parity(["rsi_14", "broken"], bars).set_index("feature")
    assert list(report.verdict) == ["passes", "raises"]


def test_a_user_s_window(registry, bars):
    def spread(high, low, n):
        return np.concatenate(
            [np.full(n - 1, np.nan), np.lib.stride_tricks.sliding_window_view(high - low, n).max(axis=1)]
        )

    feature(
        "widest", params=[Param("n", 10)], inputs=("high", "low"), unit="distance", lookback=lambda n: n - 1
    )(spread)
    assert assert_parity(["widest_10", "widest_3"], bars)
