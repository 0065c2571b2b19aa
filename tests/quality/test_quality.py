import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.market.bars import as_bars, check_bars
from mlfin.quality.cleaning import clean
from mlfin.quality.quality import check_quality
from mlfin.sources.sources import read_bars


def status(bars, calendar="24/7", **more):
    return check_quality(bars, calendar, **more).set_index("check")


@pytest.mark.parametrize(
    "field, value, check, reason",
    [
        ("close", np.nan, "prices", "not finite"),
        ("open", np.inf, "prices", "not finite"),
        ("low", 0.0, "prices", "not positive"),
        ("close", -5.0, "prices", "not positive"),
        ("high", 1.0, "ohlc", "high is below"),
        ("low", 1e4, "ohlc", "low is above"),
        ("volume", -1.0, "volume", "volume is negative"),
        ("volume", np.nan, "volume", "volume is not finite"),
        ("open", 1e3, "ohlc", "high is below"),
    ],
)
def test_each_kind_of_impossible_bar(make, field, value, check, reason):
    bars = make()
    bars.loc[17, field] = value
    before = bars.copy()
    report = status(bars)
    assert report.status[check] == "warn" and report.rows[check] == 1 and "COIN 1" in report.detail[check]
    slipped = value in (1.0, 1e3, 1e4)
    assert (set(report.index[report.status != "pass"])
            == {check, "missing"} | ({"decimal"} if slipped else set()))
    assert not slipped or report.rows["decimal"] == 1
    kept, aside = clean(bars, "24/7", "here", rows=range(100, 100 + len(bars)))
    assert (
        list(aside.row) == [117]
        and reason in aside.reason[0]
        and aside.ts[0] == before.ts[17]
        and aside.origin[0] == "here"
    )
    pd.testing.assert_frame_equal(bars, before)
    pd.testing.assert_frame_equal(kept, before.drop(index=17).reset_index(drop=True))


def test_repetitions(make):
    bars = make()
    messy = pd.concat(
        [bars, bars.iloc[[3, 3]], bars.iloc[[5]].assign(volume=11.0), bars.iloc[[7]].assign(close=-1.0)],
        ignore_index=True,
    )
    kept, aside = clean(messy, "24/7")
    assert (
        len(kept) == len(bars) - 1 and not kept.ts.isin(bars.ts[[5]]).any()
        and kept.ts.isin(bars.ts[[3, 7]]).sum() == 2)
    assert aside.reason.value_counts().to_dict() == {
        "the same bar again": 2,
        "rows for one bar disagree": 2,
        "a price is not positive": 1,
    }
    assert status(messy).rows["duplicates"] == 4


def test_order_is_told_and_mended(make):
    bars = make()
    shuffled = bars.iloc[::-1].reset_index(drop=True)
    assert status(shuffled).status["order"] == "warn"
    kept, aside = clean(shuffled, "24/7", rows=np.arange(len(bars)))
    pd.testing.assert_frame_equal(kept, bars)
    assert aside.empty


def test_off_the_calendar(make):
    bars = make(calendar="XNYS", start="2012-11-01", end="2012-12-31")
    holiday = bars.iloc[[10]].assign(
        ts=pd.Timestamp("2012-11-22 14:30", tz="UTC").as_unit("us"),
        known_at=pd.Timestamp("2012-11-22 21:00", tz="UTC").as_unit("us"),
    )
    both = as_bars(pd.concat([bars, holiday], ignore_index=True))
    kept, aside = clean(both, "XNYS")
    assert aside.reason[0] == "no bar of XNYS opens then" and status(both, "XNYS").rows["calendar"] == 1
    pd.testing.assert_frame_equal(kept, bars)


def test_missing_stale_outlier(make):
    bars = make(timeframe="1h", start="2024-01-01", end="2024-01-31")
    bars.loc[300:330, ["open", "high", "low", "close"]] = bars.close[300]
    bars.loc[500:, ["open", "high", "low", "close"]] *= 1.6
    report = status(bars.drop(index=[100, 101]).reset_index(drop=True))
    assert report.rows["missing"] == 2 and report.rows["stale"] == 30 and report.rows["outliers"] == 1
    assert set(report.status) == {"pass", "warn"} and "+6" in report.detail["outliers"]


def test_no_false_alarm_on_ordinary_series(make):
    for seed in range(5):
        assert set(status(make(seed=seed, end="2026-01-01")).status) == {"pass"}


def test_stops(make):
    bars = make(timeframe="1h", start="2024-01-01", end="2024-01-31")
    assert status(bars.assign(timeframe="5m")).status["timeframe"] == "stop"
    assert status(bars.assign(low=bars.high * 2)).status["ohlc"] == "stop"
    assert status(bars.drop(columns="open")).status["schema"] == "stop"
    assert status(bars.iloc[:0]).status["schema"] == "stop"
    assert status(bars.assign(timeframe="soon")).status["schema"] == "stop"
    assert status(bars.drop(index=range(10, 600)).reset_index(drop=True)).status["missing"] == "stop"


def test_clean_of_nothing_and_of_everything_bad(make):
    bars = make()
    kept, aside = clean(bars.iloc[:0], "24/7")
    assert kept.empty and aside.empty
    kept, aside = clean(bars.assign(close=0.0), "24/7")
    assert check_bars(kept).empty and len(aside) == len(bars)
    with pytest.raises(DataError, match="one position for each"):
        clean(bars, rows=[1])


def test_every_row_ends_in_one_place(make):
    rng = np.random.default_rng(1)
    for _ in range(30):
        bars = make(end="2024-02-15")
        for column in ("open", "high", "low", "close", "volume"):
            at = rng.integers(0, len(bars), 2)
            bars.loc[at, column] = rng.choice([np.nan, np.inf, -1.0, 0.0, 1e9, 100.0], 2)
        messy = pd.concat([bars, bars.sample(4, random_state=int(rng.integers(99)))], ignore_index=True)
        kept, aside = clean(messy, "24/7")
        assert len(kept) + len(aside) == len(messy) and aside.row.is_unique
        assert ((kept.high >= kept[["open", "low", "close"]].max(axis=1)).all()
                and (kept[["open", "low"]] > 0).all(
                    axis=None
                ))


def test_clean_real_sets_raise_no_stop(market):
    report = status(read_bars("builtin").bars, "XNYS")
    assert set(report.index[report.status != "pass"]) == {"outliers"} and report.rows["outliers"] == 4
    path = market / "nautilus" / "btc-perp-20211231-20220201_1m.csv"
    report = status(read_bars(path, "BTCUSDT", timeframe="1m", tz="UTC").bars)
    assert set(report.index[report.status != "pass"]) <= {"outliers"} and report.rows["outliers"] == 2


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_an_immense_price_is_set_aside_without_a_warning():
    ts = pd.date_range("2024-01-01", periods=3, freq="D", tz="UTC")
    bars = as_bars(pd.DataFrame({"symbol": "X", "timeframe": "1d", "ts": ts, "open": [1, 1e308, 1],
                                 "high": [1, 1e308, 1], "low": [1, 1e308, 1], "close": [1, 1e308, 1],
                                 "volume": 1.0, "known_at": ts + pd.Timedelta(days=1)}))
    kept, aside = clean(bars, "24/7", "test")
    assert len(kept) == 2 and aside.row.tolist() == [1]
