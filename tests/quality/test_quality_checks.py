"""Planted faults are found, each by its name, and ordinary series raise no alarm."""

import json

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.market.bars import PRICES, as_bars, timeframe_delta
from mlfin.market.calendars import expected_bars
from mlfin.quality.checks import CHECKS
from mlfin.quality.cleaning import clean
from mlfin.quality.decimals import decimal_shifts
from mlfin.quality.quality import check_quality, quality_report
from mlfin.quality.time_checks import off_calendar


def walk(seed=0, rows=1500, sigma=0.01, timeframe="1h", symbol="COIN", tails=None, start="2024-01-03"):
    "Seeded bars with wicks; Student's t returns where `tails` gives the degrees of freedom."
    rng = np.random.default_rng(seed)
    end = pd.Timestamp(start) + rows * timeframe_delta(timeframe)
    slots = expected_bars("24/7", timeframe, start, end).iloc[:rows]
    shocks = rng.standard_t(tails, rows) if tails else rng.normal(size=rows)
    close = 100 * np.exp(sigma * shocks.cumsum())
    opens = np.concatenate([[100.0], close[:-1]])
    wick = np.abs(rng.normal(0, sigma / 2, (2, rows)))
    return as_bars(
        slots.assign(
            symbol=symbol,
            timeframe=timeframe,
            open=opens,
            high=np.maximum(opens, close) * (1 + wick[0]),
            low=np.minimum(opens, close) * (1 - wick[1]),
            close=close,
            volume=rng.lognormal(5, 1, rows),
        )
    )


def line(bars, check, calendar="24/7", **more):
    return check_quality(bars, calendar, **more).set_index("check").loc[check]


@pytest.mark.parametrize("seeds", [range(3), pytest.param(range(8), marks=pytest.mark.slow)],
                         ids="few all".split())
@pytest.mark.parametrize("timeframe, sigma", [("1m", 0.0004), ("1h", 0.01), ("1d", 0.04)])
def test_every_planted_decimal_shift_is_found_and_nothing_else(timeframe, sigma, seeds):
    planted = found = 0
    for seed in seeds:
        bars = walk(seed, sigma=sigma, timeframe=timeframe)
        rng = np.random.default_rng(100 + seed)
        rows = np.sort(rng.choice(len(bars), 60, replace=False))
        truth = set()
        for row in rows:
            power = int(rng.choice([-3, -2, -1, 1, 2, 3]))
            for field in rng.choice(PRICES, rng.choice([1, 1, 1, 2, 3]), replace=False):
                bars.loc[row, field] *= 10.0**power
                truth.add((int(row), str(field), power))
        shifts = decimal_shifts(bars)
        assert not shifts.unit.any()
        got = set(zip(shifts.row, shifts.field, shifts.power, strict=True))
        assert not got - truth, "a price was called shifted that was not"
        planted, found = planted + len(truth), found + len(got & truth)
        assert line(bars, "decimal").rows == shifts.row.nunique()
    assert found >= 0.995 * planted, f"{found} of {planted}"


def test_whole_bars_that_return_are_ticks_and_lasting_steps_are_units():
    bars = walk(3)
    bars.loc[[10, 11, 400], PRICES] *= 100
    bars.loc[1499, PRICES] /= 10
    shifts = decimal_shifts(bars)
    assert set(shifts.row[~shifts.unit]) == {10, 11, 400} and set(shifts.row[shifts.unit]) == {1499}
    later = walk(4)
    later.loc[1000:, PRICES] *= 100
    assert line(later, "units").rows == 500 and line(later, "decimal").rows == 0
    assert clean(later, "24/7")[1].empty, "a lasting step is reported, not set aside"


def test_a_split_explains_a_step():
    bars = walk(5, rows=400, timeframe="1d")
    bars.loc[200:, PRICES] /= 10
    split = pd.DataFrame({"symbol": ["COIN"], "ex_date": [bars.ts[200]], "kind": ["split"], "value": [10.0]})
    assert line(bars, "units").rows == 200 and line(bars, "outliers").rows == 1
    assert line(bars, "units", actions=split).rows == 0 and line(bars, "outliers", actions=split).rows == 0


@pytest.mark.parametrize("seeds", [range(7), pytest.param(range(7, 20), marks=pytest.mark.slow)],
                         ids="few more".split())
@pytest.mark.parametrize("tails", [None, 3])
def test_ordinary_and_wild_series_raise_no_decimal_alarm(tails, seeds):
    for seed in seeds:
        report = check_quality(walk(seed, sigma=0.03, tails=tails), "24/7").set_index("check")
        assert report.rows[["decimal", "units", "stale", "volume_regime", "dst", "name",
                            "zero_volume"]].sum() == 0
        assert tails or set(report.status) == {"pass"}


def test_a_crash_by_nine_tenths_is_no_slip():
    bars = walk(6, sigma=0.002)
    bars.loc[700:, PRICES] *= 0.117  # eighty-eight per cent down, for good
    bars.loc[300, "low"] *= 0.13  # a flash
    assert decimal_shifts(bars).empty and line(bars, "outliers").rows == 1


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3, 4))])
def test_planted_outliers_are_found_in_calm_and_stormy_times(seed):
    bars = walk(seed, rows=4000, sigma=0.001)
    storm = np.exp(np.random.default_rng(seed).normal(0, 0.004, 1000).cumsum())
    bars.loc[2000:2999, PRICES] = bars.loc[2000:2999, PRICES].mul(storm, axis=0)
    bars.loc[3000:, PRICES] *= storm[-1]
    rows = [500, 1200, 2500, 3500]
    for row in rows:
        bars.loc[row:, PRICES] *= 1.12
    report = quality_report(bars, "24/7")
    assert sorted(report.flags.row[report.flags.check == "outliers"]) == rows


def test_outliers_and_a_break_in_time():
    bars = walk(1, rows=3000, sigma=0.001, timeframe="1m")
    kept = bars.drop(index=range(1000, 1400)).reset_index(drop=True)
    kept.loc[1000:, PRICES] *= 1.03  # thirty deviations of a minute, two of a night
    assert line(kept, "outliers").rows == 0
    kept.loc[1500:, PRICES] *= 1.03
    assert line(kept, "outliers").rows == 1


def test_stale_runs():
    bars = walk(2)
    for first, length in ((100, 15), (400, 25), (900, 40)):
        bars.loc[first : first + length, PRICES] = bars.close[first]
    assert line(bars, "stale").rows == 65 and "in 2 runs" in line(bars, "stale").detail


def test_zero_volume():
    bars = walk(7)
    bars.loc[[5, 50], "volume"] = 0
    assert line(bars, "zero_volume").rows == 2
    flat = walk(7)
    flat.loc[::3, "volume"] = 0
    for field in PRICES:
        flat.loc[::3, field] = flat.close[::3]
    found = line(flat, "zero_volume")
    assert (found.status, found.rows) == ("warn", 500) and "COIN 33.3 % of its bars" in found.detail
    flat.loc[9, "high"] *= 1.01
    assert line(flat, "zero_volume").rows == 500 and "COIN 33.3 %" in line(flat, "zero_volume").detail
    rare = walk(7)
    rare.loc[rare.index[::110], "volume"] = 0  # spread out, and not above one in a hundred
    for field in PRICES:
        rare.loc[::110, field] = rare.close[::110]
    assert line(rare, "zero_volume").rows == 14 and "flat" not in line(rare, "zero_volume").detail
    assert "no volume at all" in line(walk(7).assign(volume=0.0), "zero_volume").detail


@pytest.mark.parametrize("seeds", [range(3), pytest.param(range(3, 10), marks=pytest.mark.slow)],
                         ids="few more".split())
def test_volume_regime(seeds):
    for seed in seeds:
        bars = walk(seed, rows=3000)
        assert line(bars, "volume_regime").status == "pass"
        bars.loc[1400:, "volume"] *= 40_000  # coins, then dollars
        found = line(bars, "volume_regime")
        assert found.status == "warn" and "COIN 2024-0" in found.detail
        at = quality_report(bars, "24/7").flags.query("check == 'volume_regime'").row.iloc[0]
        assert abs(at - 1400) < 100


def test_spread_and_crossed():
    bars = walk(8).assign(spread=0.02)
    bars.loc[[3, 4, 5], "spread"] = -0.01
    bars.loc[9, "spread"] = 0.9
    assert (line(bars, "crossed").rows, line(bars, "spread").rows) == (3, 1)
    assert line(walk(8), "crossed").detail == "no quotes"
    ask = walk(8)
    ask[PRICES] += 0.01
    ask.loc[77, "close"] -= 0.02
    report = quality_report(walk(8), "24/7", ask=ask.drop(index=[1, 2]).reset_index(drop=True))
    assert report.flags.row[report.flags.check == "crossed"].tolist() == [77]


def local_as_utc(timeframe, zone, start, end):
    "What a file of local times is when somebody calls them UTC."
    slots = expected_bars("24/7", timeframe, start, end)
    wall = slots.ts.dt.tz_convert(zone).dt.tz_localize(None).dt.tz_localize("UTC")
    close = 100.0 + np.arange(len(slots)) % 11
    known = wall + timeframe_delta(timeframe)
    return as_bars(
        slots.assign(
            symbol="FX",
            timeframe=timeframe,
            ts=wall,
            known_at=known,
            open=close,
            high=close,
            low=close,
            close=close,
            volume=1.0,
        ),
        sort=False,
    )


@pytest.mark.parametrize("timeframe", ["1m", "5m", "30m", "1h"])
@pytest.mark.parametrize("zone, day", [("Europe/Berlin", "2024-10-27"), ("America/New_York", "2024-11-03")])
def test_an_hour_told_twice(timeframe, zone, day):
    start, end = pd.Timestamp(day) - pd.Timedelta(days=2), pd.Timestamp(day) + pd.Timedelta(days=2)
    bars = local_as_utc(timeframe, zone, start, end)
    n = pd.Timedelta("1h") // timeframe_delta(timeframe)
    for given in (bars, as_bars(bars)):  # as it was written, and sorted by somebody
        found = line(given, "dst")
        assert found.status == "warn" and found.rows == n, found.detail
        assert line(given, "duplicates").rows == n
    summer = local_as_utc(timeframe, zone, "2024-07-01", "2024-07-03")
    assert line(summer, "dst").status == "pass"
    again = pd.concat([summer, summer.iloc[20:23]], ignore_index=True)
    assert line(again, "dst").status == "pass" and line(again, "duplicates").rows == 3


def test_sessions_an_hour_off(make):
    bars = make(calendar="XNYS", start="2024-02-01", end="2024-04-30")
    winter = bars.ts < pd.Timestamp("2024-03-10", tz="UTC")
    # standard time kept all year
    moved = bars.assign(ts=bars.ts.where(winter, bars.ts + pd.Timedelta(hours=1)))
    found = line(moved, "dst", "XNYS")
    assert found.rows == int((~winter).sum()) and "an hour off their session" in found.detail
    assert off_calendar(moved, "XNYS").sum() == found.rows and line(bars, "dst", "XNYS").status == "pass"


@pytest.mark.parametrize(
    "name, says",
    [
        ("UNITTEST_BTC-8m.json.gz", "the name says 8 minutes"),
        ("EURUSD_H1.csv", "the name says 60 minutes"),
        ("x-1min.csv", None),
        ("COIN_M1_0-10k.csv", None),
        ("prices.csv", None),
        ("COIN-1m-2024-01-03.csv", None),
        ("COIN_1m_202401010000_202401120000.csv", None),
        ("COIN_1m_20230101_20230201.csv", "outside the dates"),
        ("COIN-1m-2021-11-27.csv", "outside the dates"),
        ("XRP_ETH-1m.feather", "the name says XRP, not COIN"),
        ("/some/XRP/folder/COIN-1m.csv", None),
    ],
)
def test_names_that_lie(name, says):
    found = line(walk(0, timeframe="1m"), "name", name=name)
    assert (found.status == "warn" and says in found.detail) if says else found.status == "pass", found.detail


def test_one_content_under_two_symbols():
    both = pd.concat([walk(1, symbol="A"), walk(1, symbol="B"), walk(2, symbol="C")], ignore_index=True)
    found = line(both, "name")
    assert found.detail == "B has the very bars of A" and found.rows == 1500


def test_times_that_cannot_be():
    bars = walk(0, rows=40, timeframe="1d")
    thai = bars.ts.where(bars.index != 7, pd.Timestamp("2567-01-10", tz="UTC"))
    bars = as_bars(bars.assign(ts=thai, known_at=thai + pd.Timedelta(days=1)), sort=False)
    bars.loc[9, "known_at"] = bars.ts[9]
    bars.loc[11, "ts"] = pd.NaT
    found = line(bars, "times")
    assert (found.status, found.rows) == ("warn", 3)
    kept, aside = clean(bars, "24/7")
    assert len(kept) == 37 and list(aside.row) == [7, 9, 11] and aside.reason[2] == "the time is missing"
    assert "the time cannot be" in aside.reason[0] and "the time cannot be" in aside.reason[1]
    assert (line(walk(0), "times", now="2024-02-01T00:00Z").rows
            == int((walk(0).known_at > "2024-02-01T00:00Z").sum()) > 0)


def test_a_missing_symbol_is_told_and_set_aside():
    bars = walk(0, rows=50)
    bars.loc[4, "symbol"] = None
    assert line(bars, "schema").rows == 1 and line(bars, "schema").status == "warn"
    kept, aside = clean(bars, "24/7")
    assert len(kept) == 49 and aside.reason[0] == "the symbol or timeframe is missing"


def test_the_order_of_rows_and_symbols_changes_no_finding():
    parts = [walk(i, symbol=s, rows=300) for i, s in enumerate("CAB")]
    bars = pd.concat(parts, ignore_index=True)
    bars.loc[[20, 400], "close"] *= 1000
    bars.loc[[25, 800], "low"] = -1.0
    base = quality_report(bars, "24/7")
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(bars))
        mixed = quality_report(bars.iloc[order], "24/7")
        same = base.checks.check != "order"
        pd.testing.assert_frame_equal(mixed.checks[same], base.checks[same])
        for check in ("decimal", "prices"):
            rows = mixed.flags.row[mixed.flags.check == check]
            assert sorted(order[rows]) == sorted(base.flags.row[base.flags.check == check])
        kept, aside = clean(bars.iloc[order], "24/7")
        pd.testing.assert_frame_equal(kept, clean(bars, "24/7")[0])
        assert len(aside) == 4


def test_interleaved_symbols_are_sorted_by_clean():
    bars = pd.concat([walk(0, symbol="A", rows=30), walk(1, symbol="B", rows=30)]).sort_values(
        "ts", kind="stable")
    assert line(bars, "order").status == "pass"
    pd.testing.assert_frame_equal(clean(bars, "24/7")[0], as_bars(bars))


def test_the_report_in_three_forms():
    bars = walk(0, rows=100, symbol="<b>&")
    bars.loc[3, "high"] *= 1000
    report = quality_report(bars, "24/7", name="x")
    assert list(report.checks.check) == list(CHECKS) and report.verdict == "warn"
    assert json.loads(report.to_json())["checks"] == report.checks.to_dict("records")
    page = report.to_html()
    assert "&lt;b&gt;&amp; 1" in page and "<b>&" not in page and page == report._repr_html_()
    assert "http" not in page and page.count("<tr>") == len(CHECKS) + 1
    assert quality_report(bars, "24/7", name="x").to_json() == report.to_json()
    assert list(report.flags.columns) == ["check", "row", "symbol", "timeframe", "ts"]
    assert report.flags.row.tolist() == [3] and report.flags.check.tolist() == ["decimal"]
    broken = quality_report(bars.drop(columns="high"), "24/7")
    assert broken.verdict == "stop" and broken.flags.empty and "high" in broken.to_html()
    assert quality_report(bars.iloc[:0], "24/7").verdict == "stop"


def test_the_check_alters_nothing():
    bars = walk(0, rows=200)
    bars.loc[3, "high"] *= 1000
    before = bars.copy(deep=True)
    quality_report(bars, "24/7")
    clean(bars, "24/7")
    pd.testing.assert_frame_equal(bars, before)


@pytest.mark.parametrize("seeds", [range(6), pytest.param(range(6, 15), marks=pytest.mark.slow)],
                         ids="few more".split())
def test_rows_of_every_kind_end_in_one_place(seeds):
    rng = np.random.default_rng(5)
    for seed in seeds:
        bars = walk(seed, rows=120, timeframe="1d")
        for field in (*PRICES, "volume"):
            at = rng.integers(0, len(bars), 3)
            bars.loc[at, field] = bars.loc[at, field] * rng.choice([10.0, 1e-3, -1.0, np.nan, np.inf, 0.0], 3)
        messy = pd.concat([bars, bars.sample(5, random_state=seed)], ignore_index=True).sample(
            frac=1, random_state=seed)
        kept, aside = clean(messy, "24/7")
        assert len(kept) + len(aside) == len(messy) and (aside.reason != "").all()
        assert (check_quality(kept, "24/7").set_index("check")
                .rows[["prices", "ohlc", "volume", "duplicates"]].sum() == 0)


def test_thousands_of_symbols_take_seconds():
    one = walk(0, rows=30, timeframe="1d")
    bars = pd.concat([one] * 3000, ignore_index=True)
    bars["symbol"] = pd.Series(np.repeat([f"S{i:05d}" for i in range(3000)], 30), dtype="str")
    bars["close"] = bars.low + (bars.high - bars.low) * np.random.default_rng(0).random(len(bars))
    assert check_quality(bars, "24/7").set_index("check").rows["missing"] == 0


def test_a_bad_row_count_is_refused():
    with pytest.raises(DataError, match="one position for each"):
        clean(walk(0, rows=30), rows=[1])


def small(**values):
    return walk(0, rows=40, timeframe="1d").assign(**values)


@pytest.mark.parametrize(
    "bars, verdict, kept",
    [
        (small().iloc[:1], "pass", 1),
        (small().iloc[:2], "pass", 2),
        (small().iloc[:1].assign(high=1e5), "warn", 0),
        (small(**dict.fromkeys(PRICES, np.nan)), "stop", 0),
        (small(high=np.inf), "stop", 0),
        (small(low=-1.0), "stop", 0),
        (small(close=0.0), "stop", 0),
        (small(ts=pd.Series(pd.NaT, index=range(40), dtype="datetime64[us, UTC]")), "stop", 0),
        (small(symbol=pd.Series([None] * 40, dtype="str")), "stop", 0),
        (small(volume=np.nan), "stop", 0),
        (small(volume=0.0), "warn", 40),
        (pd.concat([small()] * 3), "stop", 40),
        # sizes that a market may have
        *((small(**{c: small()[c] * far for c in PRICES}), "pass", 40) for far in (1e-18, 1e10)),
        *((small(**{c: small()[c] * far for c in PRICES}), "stop", 0) for far in (1e-300, 1e300)),
        (small(volume=1), "pass", 40),
        (small().set_index(pd.Index(range(0, 80, 2))), "pass", 40),
        (small(ts=small().ts.dt.tz_convert("Asia/Tokyo")), "pass", 40),
    ],
)
def test_edges(bars, verdict, kept):
    assert quality_report(bars, "24/7").verdict == verdict
    if (isinstance(bars.ts.dtype, pd.DatetimeTZDtype) and str(bars.ts.dtype.tz) == "UTC"
        and bars.volume.dtype == float):
        assert len(clean(bars, "24/7")[0]) == kept
