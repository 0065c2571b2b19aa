"""Features across symbols and by the calendar: against slow code, hand-made cases, ragged panels, and the
days nobody foresaw."""
import datetime as dt

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mlfin.features.calendar_features as market
from mlfin.core.errors import DataError, SpecError
from mlfin.market.calendars import expected_bars, sessions
from mlfin.leakage.lookahead import assert_no_lookahead
from mlfin.features.cross_section import LEAST, SHARE, demean_across, rank_across, zscore_across
from mlfin.features.online import assert_parity
from mlfin.features.spec import definitions, families, parse
from mlfin.features.panel import make_panel
from mlfin.features.table import compute_features

INDEX = ("index_beta_20 index_alpha_20 index_residual_20 idio_vol_20 index_corr_20 index_ret_5 "
         "excess_ret_5".split())
ALL = [*INDEX, "breadth_10", "dispersion_5"]
CROSS = [
    f"{a}_{b}"
    for a in ("xs", "group")
    for b in ("rank_ret_5", "zscore_ret_1", "demean_sma_10", "rank_macd_5_8_3")
]
CLOCK = [d.name for d in definitions().values() if d.module == market.__name__ and not d.inputs]


def ragged(seed=0, size=120, symbols=7, holes=0.05):
    "A panel with gaps, late listings, delistings and ties."
    rng, parts = np.random.default_rng(seed), []
    ts = pd.date_range("2020-01-06", periods=size, freq="D", tz="UTC").as_unit("us")
    common = rng.normal(0, 0.01, size)
    for i in range(symbols):
        move = rng.uniform(0.3, 2) * common + rng.normal(0, 0.01, size)
        move[rng.random(size) < 0.1] = 0.0
        keep = rng.random(size) > holes if i % 2 else np.ones(size, bool)
        keep &= (np.arange(size) >= (40 if i == 2 else 0)) & (np.arange(size) < (80 if i == 3 else size))
        close = np.round(50 * np.exp(np.cumsum(move)), 2)
        parts.append(
            pd.DataFrame(
                {
                    "symbol": f"S{i}",
                    "timeframe": "1d",
                    "ts": ts,
                    "known_at": ts + pd.Timedelta("1D"),
                    "close": close,
                    "volume": 1.0,
                }
            )[keep]
        )
    return pd.concat(parts, ignore_index=True)


GROUPS = {"S0": "a", "S1": "a", "S2": "a", "S3": "a", "S4": "b", "S5": "b"}      # two in b, S6 in none


def wide(bars, column="close"):
    return bars.pivot(index="ts", columns="symbol", values=column)


def matrix(table, column, like):
    return table.pivot(index="ts", columns="symbol", values=column).reindex(
        index=like.index, columns=like.columns
    )


# --- one row


def rows(seed, size=200, width=9):
    rng = np.random.default_rng(seed)
    x = rng.choice([0.0, -0.0, 1.5, 2.5, 1e9, -3.25, 0.1], (size, width))
    x[rng.random((size, width)) < 0.4] = np.nan
    return x


@pytest.mark.parametrize("seed", range(3))
def test_rows_against_scipy_and_pandas(seed):
    x = rows(seed)
    frame = pd.DataFrame(x)
    enough = frame.count(axis=1) >= LEAST
    for i in range(len(x)):
        there = ~np.isnan(x[i])
        wanted = np.full(x.shape[1], np.nan)
        if there.sum() >= LEAST:
            wanted[there] = (stats.rankdata(x[i, there]) - 1) / (there.sum() - 1)
        np.testing.assert_array_equal(rank_across(x)[i], wanted)
    np.testing.assert_allclose(
        demean_across(x), frame.sub(frame.mean(axis=1), axis=0).where(enough, axis=0), rtol=1e-12, atol=1e-6
    )
    std = frame.std(axis=1).where(frame.max(axis=1) > frame.min(axis=1))
    wanted = frame.sub(frame.mean(axis=1), axis=0).div(std, axis=0).where(enough, axis=0)
    np.testing.assert_allclose(zscore_across(x), wanted, rtol=1e-9, atol=1e-12)
    assert (frame.count(axis=1) < LEAST).any()


@pytest.mark.parametrize("act", [rank_across, zscore_across, demean_across])
def test_symbols_that_are_not_there_move_no_bit(act):
    x = rows(5)
    spread = np.full((len(x), 23), np.nan)
    places = [0, 3, 4, 9, 11, 12, 15, 20, 22]
    spread[:, places] = x
    np.testing.assert_array_equal(act(spread)[:, places].view(np.int64), act(x).view(np.int64))
    for i in (0, 7):
        np.testing.assert_array_equal(act(x[i:i + 1])[0].view(np.int64), act(x)[i].view(np.int64))


def test_what_has_no_spread():
    same = np.full((1, 5), 0.1)
    assert np.isnan(zscore_across(same)).all()
    np.testing.assert_array_equal(rank_across(same), np.full((1, 5), 0.5))
    assert np.isnan(
        rank_across(np.array([[1.0, 2.0, np.inf]]))
    ).all()  # an infinite value is none: two are left
    assert np.isnan(rank_across(np.array([[np.nan] * 4]))).all()


# --- any feature, across symbols


@pytest.mark.parametrize("seed", range(2))
def test_any_feature_across_symbols(seed):
    bars = ragged(seed)
    inner = ["ret_5", "rsi_14", "macd_5_8_3"]
    table = compute_features(
        bars, inner + [f"xs_{w}_{s}" for w in ("rank", "zscore", "demean") for s in inner], short="nan"
    )
    assert {"xs_rank_macd_5_8_3", "xs_rank_macd_signal_5_8_3", "xs_rank_macd_hist_5_8_3"} <= set(table)
    for column in ("ret_5", "rsi_14", "macd_signal_5_8_3"):
        values = wide(table, column)
        enough = values.count(axis=1) >= LEAST
        rank = (values.rank(axis=1) - 1).div(values.count(axis=1) - 1, axis=0).where(enough, axis=0)
        far = values.sub(values.mean(axis=1), axis=0).where(enough, axis=0)
        for what, wanted, eps in (
            ("rank", rank, 0),
            ("demean", far, 1e-12),
            ("zscore", far.div(values.std(axis=1), axis=0), 1e-9),
        ):
            np.testing.assert_allclose(wide(table, f"xs_{what}_{column}"), wanted, rtol=eps, atol=eps)


def test_within_groups():
    bars = ragged(1)
    table = compute_features(bars, ["ret_5", "group_demean_ret_5", "group_rank_ret_5"], groups=GROUPS)
    values, far = wide(table, "ret_5"), wide(table, "group_demean_ret_5")
    a = values[["S0", "S1", "S2", "S3"]]
    wanted = a.sub(a.mean(axis=1), axis=0).where(a.count(axis=1) >= LEAST, axis=0)
    np.testing.assert_allclose(far[a.columns], wanted, atol=1e-13)
    assert far[["S4", "S5", "S6"]].isna().all().all()
    one = compute_features(
        bars, ["group_rank_ret_5", "xs_rank_ret_5"], groups={s: "all" for s in bars.symbol.unique()}
    )
    np.testing.assert_array_equal(one.group_rank_ret_5, one.xs_rank_ret_5)


def test_what_a_family_reads():
    f = parse("xs_rank_rsi")                                                     # an alias keeps its name
    assert (f.columns, f.of.stands_for, f.lookback, f.kind) == (("xs_rank_rsi",), "rsi_14", 14, "panel")
    assert parse("xs_demean_sma_20").units == ("distance",) and parse("xs_rank_sma_20").units == ("ratio",)
    assert str(parse("xs_zscore_bbands_20_2.5")) == "xs_zscore_bbands_20_2.5"
    for bad, why in (
        ("xs_rank_obv", "cumulative"),
        ("xs_rank_index_beta_60", "a panel feature"),
        ("xs_rank_xs_rank_ret_5", "panel"),
        ("xs_rank_fwd_ret_5", "label"),
        ("xs_rank_nothing_5", "no such feature"),
        ("xs_rank_ret_0", r"\[1, 10000\]"),
    ):
        with pytest.raises(SpecError, match=why):
            parse(bad)
    with pytest.raises(DataError, match="`groups` must be a mapping"):
        compute_features(ragged(), ["group_rank_ret_5"])
    assert {"xs_rank", "group_zscore"} <= set(families())


# --- against an index, the slowest way


def slow_index(bars, index, n):
    close = wide(bars)
    r = close / close.shift(1) - 1
    out = {k: close * np.nan for k in ("beta", "alpha", "residual", "vol", "corr")}
    for s in close:
        others = r.drop(columns=s)
        m = r[index] if index else others.mean(axis=1).where((r.count(axis=1) >= LEAST) & r[s].notna())
        for i in range(n, len(close)):
            y, x = r[s].iloc[i - n + 1:i + 1], m.iloc[i - n + 1:i + 1]
            both = y.notna() & x.notna()
            if both.sum() < max(5, np.ceil(SHARE * n)):
                continue
            fit = stats.linregress(x[both], y[both])
            left = y[both] - fit.intercept - fit.slope * x[both]
            values = (
                fit.slope,
                fit.intercept,
                left.iloc[-1] if both.iloc[-1] else np.nan,
                np.sqrt((left**2).sum() / (both.sum() - 2)),
                fit.rvalue,
            )
            for k, v in zip(out, values, strict=True):
                out[k].iloc[i, close.columns.get_loc(s)] = v
    return out


@pytest.mark.parametrize("index", [None, "S0", "S1"])
def test_against_least_squares(index):
    bars = ragged(2, size=90)
    table, close = compute_features(bars, INDEX, index=index), wide(bars)
    there = close.notna()
    seen = 0
    names = ("index_beta_20", "index_alpha_20", "index_residual_20", "idio_vol_20", "index_corr_20")
    for name, wanted in zip(names, slow_index(bars, index, 20).values(), strict=True):
        ours = matrix(table, name, close)
        np.testing.assert_allclose(
            ours, wanted.where(there), rtol=1e-8, atol=2e-9 if name == "idio_vol_20" else 1e-12
        )
        seen += ours.notna().sum().sum()
    assert seen > 1300
    change = close / close.shift(5) - 1
    market_ = (
        pd.concat({s: change.drop(columns=s).mean(axis=1) for s in close}, axis=1)
        .where(change.notna())
        .where(change.count(axis=1) >= LEAST, axis=0)
        if index is None
        else pd.concat({s: change[index] for s in close}, axis=1)
    )
    np.testing.assert_allclose(matrix(table, "index_ret_5", close), market_.where(there), atol=1e-13)
    np.testing.assert_allclose(
        matrix(table, "excess_ret_5", close), (change - market_).where(there), atol=1e-13
    )


def test_a_young_symbol_waits_and_a_gap_does_not_matter():
    bars = ragged(3, holes=0.0)
    bars = bars[~((bars.symbol == "S0") & bars.ts.isin(bars.ts.unique()[[60, 61]]))].reset_index(drop=True)
    beta = wide(compute_features(bars, ["index_beta_20"], index="S1"), "index_beta_20")
    assert beta.S0.notna().sum() == 120 - 20 - 2  # only the two bars that are not there
    assert beta.S2.first_valid_index() == beta.index[40 + 15]  # fifteen returns: three quarters of twenty
    assert beta.S3.last_valid_index() == beta.index[79] and beta.S1.dropna().sub(1).abs().max() < 1e-12


def test_an_index_that_does_not_move():
    bars = ragged(4, holes=0.0)
    flat = bars.assign(close=np.where(bars.symbol == "S1", 7.0, bars.close))
    steady = bars.assign(
        close=np.where(bars.symbol == "S1", 1.01 ** bars.groupby("symbol").cumcount(), bars.close)
    )
    for panel in (flat, steady):
        table = compute_features(panel, ["index_beta_20", "index_corr_20", "idio_vol_20"], index="S1")
        assert table.iloc[:, 4:].isna().all().all()


# --- all together


def test_breadth_and_dispersion_the_slow_way():
    bars = ragged(6)
    table, close = compute_features(bars, ["breadth_10", "dispersion_5"]), wide(bars)
    shares, spreads = [], []
    for i in range(len(close)):
        window = close.iloc[max(0, i - 9):i + 1]
        usable = [
            s
            for s in close
            if i >= 9 and window[s].count() >= np.ceil(SHARE * 10) and window[s].notna().iloc[-1]
        ]
        shares.append(
            np.mean([close[s].iloc[i] > window[s].mean() for s in usable]) if len(usable) >= LEAST else np.nan
        )
        r = (close.iloc[i] / close.iloc[i - 5] - 1).dropna() if i >= 5 else pd.Series(dtype=float)
        spreads.append(r.std() if len(r) >= LEAST else np.nan)
    for name, wanted in (("breadth_10", shares), ("dispersion_5", spreads)):
        ours = table.groupby("ts")[name]
        assert (ours.nunique() <= 1).all() and (ours.count().isin([0]) | (ours.count() == ours.size())).all()
        np.testing.assert_allclose(ours.first().reindex(close.index), wanted, rtol=1e-12)


# --- no look ahead, no memory


@pytest.mark.parametrize("context", [{}, {"index": "S0"}], ids=["others", "named"])
def test_no_look_ahead_in_a_ragged_panel(context):
    assert (
        assert_no_lookahead(ALL + CLOCK, ragged(7), cuts=5, groups=GROUPS, calendar="XNYS", **context) > 200
    )
    listings = ragged(
        7, holes=0.0
    )  # a feature of own bars reaches further back than the panel where bars miss
    assert assert_no_lookahead(CROSS, listings, cuts=5, groups=GROUPS, **context) > 60


@pytest.mark.parametrize("context", [{}, {"index": "S0"}], ids=["others", "named"])
def test_the_last_times_give_the_same_bits(context):
    bars = ragged(8)
    plain = [s for s in ALL + CLOCK]
    full = compute_features(bars, plain, calendar="XNYS", **context)
    times = np.sort(bars.ts.unique())
    for spec in plain:
        f, n = parse(spec), parse(spec).lookback
        for i in (n, 57, 83, len(times) - 1):
            part = bars[bars.ts.between(times[i - n], times[i])].reset_index(drop=True)
            if "index" in context and not (part.symbol == "S0").any():
                continue
            last = compute_features(part, [spec], short="nan", calendar="XNYS", **context)
            a = full[full.ts == times[i]][list(f.columns)].to_numpy()
            b = last[last.ts == times[i]][list(f.columns)].to_numpy()
            assert ((a.view(np.int64) == b.view(np.int64)) | (np.isnan(a) & np.isnan(b))).all(), (spec, i)


def test_a_listing_or_a_delisting_elsewhere_moves_no_bit():
    bars = ragged(9)
    late = bars[bars.symbol == "S0"].assign(symbol="A0")
    late = late[late.ts > late.ts.iloc[70]]
    more = pd.concat([late, bars], ignore_index=True)
    for specs in (ALL, ["xs_rank_ret_5", "xs_zscore_ret_1"]):
        a, b = compute_features(bars, specs), compute_features(more, specs)
        before = a.ts <= bars.ts.iloc[70]
        same = b[(b.symbol != "A0")].reset_index(drop=True)
        pd.testing.assert_frame_equal(a[before], same[before], check_exact=True)
        assert not a[~before].equals(same[~before])


@pytest.mark.parametrize("symbols, size", [(1, 40), (2, 40), (5, 1), (1, 1)])
def test_small_panels_are_nan_by_rule(symbols, size):
    bars = ragged(1, size=size, symbols=symbols, holes=0.0)
    if bars.empty:
        return
    table = compute_features(
        bars, ["breadth_2", "dispersion_1", "xs_rank_ret_1", "index_beta_5", "index_ret_1"], short="nan"
    )
    if symbols < LEAST or size == 1:
        assert table.iloc[:, 4:].isna().all().all()
    assert len(table) == len(bars)


def test_panels_that_are_refused():
    bars = ragged(1)
    with pytest.raises(DataError, match="each key once"):
        compute_features(pd.concat([bars, bars.tail(1)], ignore_index=True), ["breadth_10"])
    with pytest.raises(DataError, match="`index` must be one of the symbols"):
        compute_features(bars, ["index_beta_20"], index="SPY")
    late = bars.assign(known_at=bars.known_at.where(bars.symbol != "S4", bars.known_at + pd.Timedelta("1h")))
    hours = pd.Timedelta("14h30min")
    york = bars[bars.symbol == "S5"]
    york = york.assign(symbol="T", ts=york.ts + hours, known_at=york.ts + pd.Timedelta("21h"))
    for mixed in (late, pd.concat([bars, york], ignore_index=True)):  # two closes: one would see the other's
        with pytest.raises(DataError, match="known in the order in which they open"):
            compute_features(mixed, ["xs_rank_ret_1"])
    revised = bars.assign(
        known_at=bars.known_at.where(bars.index != 30, pd.Timestamp("2021-01-01", tz="UTC"))
    )
    with pytest.raises(DataError, match="as_of="):
        compute_features(revised, ["breadth_10"])
    london = bars.assign(
        ts=bars.ts + pd.Timedelta("8h"), known_at=bars.ts + pd.Timedelta("16h30min"), symbol=bars.symbol + "L"
    )
    york = bars.assign(ts=bars.ts + hours, known_at=bars.ts + pd.Timedelta("21h"))
    both = pd.concat([london, york]).sort_values(["symbol", "ts"], ignore_index=True)
    assert len(compute_features(both, ["xs_rank_ret_1"])) == 2 * len(bars)       # one after the other: fine


# --- the calendar


def days(start, end, calendar="XNYS", timeframe="1d"):
    grid = expected_bars(calendar, timeframe, start, end)
    return grid[["ts", "known_at"]].assign(symbol="A", timeframe=timeframe, close=1.0)


def clock(start, end, names=None, calendar="XNYS", timeframe="1d"):
    table = compute_features(days(start, end, calendar, timeframe), names or CLOCK, calendar=calendar)
    return table.set_index("ts" if timeframe != "1d" else table.ts.dt.strftime("%Y-%m-%d"))


def test_every_session_of_thirty_years():
    table = clock(
        "1995-01-01",
        "2024-12-31",
        ["day_of_week", "day_of_month", "month_of_year", "session_of_month", "days_from_session"],
    )
    dates = [dt.date.fromisoformat(d) for d in table.index]
    assert table.day_of_week.tolist() == [d.weekday() for d in dates]
    assert table.day_of_month.tolist() == [d.day for d in dates]
    assert table.month_of_year.tolist() == [d.month for d in dates]
    assert table.days_from_session.tolist()[1:] == [
        (b - a).days for a, b in zip(dates, dates[1:], strict=False)
    ]
    counts, seen = [], {}
    for d in dates:
        seen[d.year, d.month] = seen.get((d.year, d.month), 0) + 1
        counts.append(seen[d.year, d.month])
    assert table.session_of_month.tolist() == counts


def test_what_is_scheduled():
    table = clock(
        "1995-01-01", "2024-12-31", ["days_to_session", "before_holiday", "after_holiday", "session_minutes"]
    )
    assert table.session_minutes.value_counts().index.tolist() == [390.0, 210.0]
    for day in ("2012-07-03", "2012-11-23", "2012-12-24", "2019-11-29"):
        assert table.session_minutes[day] == 210
    for day in ("2012-04-05", "2012-08-31", "2012-11-21", "2012-12-24", "2013-01-18"):
        assert table.before_holiday[day] == 1, day
    for day in ("2012-04-09", "2012-09-04", "2012-11-23", "2012-12-26"):
        assert table.after_holiday[day] == 1, day
    assert table.days_to_session["2012-08-31"] == 4 and table.days_to_session["2012-11-21"] == 2
    holidays = 9 * 30
    assert 0.85 * holidays < table.before_holiday.sum() < 1.1 * holidays


@pytest.mark.parametrize(
    "day, to, since",
    [
        ("2001-09-10", 1, None),
        ("2004-06-10", 1, None),
        ("2006-12-29", 4, None),
        ("2012-10-26", 3, None),
        ("2018-12-04", 1, None),
        ("2025-01-08", 1, None),
        ("2001-09-17", 1, 7),
        ("2012-10-31", 1, 5),
        ("2018-12-06", 1, 2),
    ],
)
def test_days_that_nobody_foresaw(day, to, since):
    at = pd.Timestamp(day)
    row = clock(at - pd.Timedelta("10D"), at + pd.Timedelta("20h")).loc[day]
    assert row.days_to_session == to
    if since is not None:
        assert (row.days_from_session, row.after_holiday) == (since, 1)
    else:
        assert row.before_holiday == (day == "2006-12-29")  # 1 January was regular, the second was not


def test_short_days_that_were_decided_one_by_one():
    assert clock("2003-12-24", "2003-12-29T20:00").session_minutes.tolist() == [210, 390, 390]
    table = clock("2003-12-26", "2003-12-27", ["minutes_to_close"], timeframe="1h")
    assert table.minutes_to_close.tolist()[-1] == 150  # to four: the close at one was not in the rules


def test_no_calendar_feature_knows_the_future(monkeypatch):
    """Take away every real session after a bar: nothing may change at the bar, around every day that was
    decided late."""
    real = sessions
    for day in (
        "2001-09-10",
        "2001-09-17",
        "2012-10-26",
        "2012-10-31",
        "2007-01-03",
        "2018-12-04",
        "2003-12-24",
        "2012-11-21",
    ):
        bars = days(pd.Timestamp(day) - pd.Timedelta("70D"), pd.Timestamp(day) + pd.Timedelta("20h"))
        full = compute_features(bars, CLOCK, calendar="XNYS")

        def only_before(calendar, start, end, scheduled=False, until=bars.ts.iloc[-1]):
            found = real(calendar, start, end, scheduled=scheduled)
            return found if scheduled else found[found.open <= until].reset_index(drop=True)
        monkeypatch.setattr(market, "sessions", only_before)
        market._years.cache_clear()
        pd.testing.assert_frame_equal(compute_features(bars, CLOCK, calendar="XNYS"), full, check_exact=True)
        monkeypatch.setattr(market, "sessions", real)
        market._years.cache_clear()
        assert bars.ts.iloc[-1].strftime("%Y-%m-%d") == day and full.iloc[-1, 4:].notna().all()


def test_minutes_within_a_session():
    table = clock(
        "2012-11-23", "2012-11-24", ["minute_of_session", "minutes_to_close", "hour_of_day"], timeframe="30m"
    )
    assert table.minute_of_session.tolist() == [0, 30, 60, 90, 120, 150, 180]
    assert table.minutes_to_close.tolist() == [180, 150, 120, 90, 60, 30, 0]
    assert table.hour_of_day.tolist() == [9.5, 10, 10.5, 11, 11.5, 12, 12.5]
    hourly = clock(
        "2013-03-08", "2013-03-12", ["minute_of_session", "minutes_to_close", "hour_of_day"], timeframe="1h"
    )
    assert (
        hourly.groupby(hourly.index.date).minute_of_session.apply(list).tolist()
        == [[0, 60, 120, 180, 240, 300, 360]] * 2
    )
    assert hourly.groupby(hourly.index.date).hour_of_day.first().tolist() == [
        9.5,
        9.5,
    ]  # the clocks changed between them
    assert hourly.minutes_to_close.tolist()[-2:] == [30, 0]


def test_other_calendars():
    week = clock(
        "2024-03-01", "2024-03-12", ["day_of_week", "days_to_session", "minute_of_session"], "forex", "1h"
    )
    sunday = week.loc["2024-03-03T22:00:00+00:00"]
    assert (sunday.day_of_week, sunday.minute_of_session, sunday.days_to_session) == (0, 0, 1)
    assert week.loc["2024-03-01T12:00:00+00:00"].days_to_session == 3
    coin = clock("2024-02-27", "2024-03-02", calendar="24/7")
    assert coin.days_to_session.tolist() == [1] * 5
    assert coin.before_holiday.sum() == coin.after_holiday.sum() == 0
    assert coin.turn_of_month.tolist() == [0, 0, 1, 1, 1] and coin.session_minutes.tolist() == [1440] * 5
    tokyo = clock("2024-03-04", "2024-03-05", ["session_minutes", "minute_of_session"], "XTKS", "30m")
    assert (
        tokyo.session_minutes.iloc[0] == 360 and tokyo.minute_of_session.max() == 330
    )  # the lunch hour counts
    long = clock("2024-01-01", "2024-03-01", ["day_of_week", "minutes_to_close"], timeframe="1w")
    assert long.minutes_to_close.eq(0).all() and set(long.day_of_week) == {0, 1}  # some Mondays are holidays


def test_outside_the_sessions():
    bars = days("2024-03-01", "2024-03-04", "24/7", "1h")
    table = compute_features(bars, CLOCK, calendar="XNYS")
    clocks = ("hour_of_day", "day_sin", "day_cos", "week_sin", "week_cos", "year_sin", "year_cos")
    inside = table.minute_of_session.notna()
    assert inside.sum() == 6 and table[list(clocks)].notna().all().all()
    rest = table.columns[4:].difference(clocks)
    assert (table[rest].notna().all(axis=1) == inside).all() and table.loc[~inside, rest].isna().all().all()


def test_cycles_close():
    bars = days("2024-01-01", "2024-12-31T23:00", "24/7", "1h")
    table = compute_features(bars, ["day_cycle", "week_cycle", "year_cycle"])
    for name, period in (("day", 24), ("week", 168)):
        angle = np.arctan2(table[f"{name}_sin"], table[f"{name}_cos"]) / (2 * np.pi) % 1
        step = np.diff(angle) % 1
        np.testing.assert_allclose(step, 1 / period, atol=1e-12)
    assert np.allclose(table.year_sin**2 + table.year_cos**2, 1)
    assert (table.week_sin.iloc[0], table.week_cos.iloc[0]) == (0.0, 1.0)


def test_the_clock_reads_no_bar():
    assert len(CLOCK) == 17
    panel = make_panel(days("2024-03-01", "2024-03-04"), inputs=())
    for name in CLOCK:
        assert parse(name).inputs == () and parse(name).lookback == 0
        parse(name).function(panel)


def test_an_unknown_calendar():
    with pytest.raises(DataError, match="`calendar` must be a known name"):
        compute_features(days("2024-03-01", "2024-03-04"), ["day_of_week"], calendar="XNYZ")


@pytest.mark.parametrize("context", [{}, {"index": "S0"}], ids=["others", "named"])
def test_bar_by_bar_is_the_table(context):
    "Also with holes, listings and delistings, and for recursive features across symbols."
    bars = ragged(10, size=45)
    specs = [*ALL, *CROSS, "xs_rank_rsi_14", "group_zscore_ema_10", *CLOCK]
    assert assert_parity(specs, bars, calendar="XNYS", groups=GROUPS, **context) > 9_000
