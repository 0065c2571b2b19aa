"""Facts are joined as they were published: checked against the slowest way there is, and on real series."""
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfin.core.errors import DataError
from mlfin.market.bars import TIME, as_bars
from mlfin.market.calendars import expected_bars
from mlfin.facts.facts import (EVERYONE, FACTS, STATES, as_facts, as_known, asof_join, check_facts,
                               known_facts, asof_positions, split_facts)


def fact(symbol="A", name="sales", value=1.0, start="2020-01-01", end="2020-03-31",
         published="2020-05-01T12:00Z", origin=""):
    return symbol, name, value, start, end, published, origin


def random_facts(seed, symbols=("A", "B", "C"), size=60):
    "Quarters, published late, restated, out of order, said again."
    rng = np.random.default_rng(seed)
    ends = pd.date_range("2019-03-31", "2022-12-31", freq="QE")
    rows = []
    for s in symbols:
        for name in ("sales", "profit"):
            for _ in range(size):
                end = ends[rng.integers(len(ends))]
                at = (end + pd.Timedelta(hours=int(rng.integers(24, 24 * 500)))).tz_localize("UTC")
                # few values: many are said again
                value = float(rng.integers(1, 6))
                rows.append((s, name, value, end - pd.offsets.QuarterBegin(startingMonth=1), end, at, "x"))
    frame = pd.DataFrame(rows, columns=list(FACTS))
    return as_facts(frame.drop_duplicates(["symbol", "name", "period_end", "published"]))


def days(symbols=("A", "B", "D"), start="2019-02-01", end="2023-12-31", step="3D"):
    ts = pd.date_range(start, end, freq=step, tz="UTC").as_unit("us")
    part = [pd.DataFrame({"symbol": s, "timeframe": "1d", "ts": ts, "known_at": ts + pd.Timedelta("21h")})
            for s in symbols]
    return pd.concat(part, ignore_index=True)


def slow(rows, symbol, name, moment, lag):
    "What was known of a fact at a moment, by looking through all of them."
    seen = [r for r in rows if r.symbol == symbol and r.name == name and r.published + lag <= moment]
    if not seen:
        return None
    periods = {}
    for r in sorted(seen, key=lambda r: (r.published, r.period_end)):
        old = periods.get(r.period_end)
        since = old[1] if old is not None and old[0] == r.value else r.published
        periods[r.period_end] = (r.value, since, r.period_start)
    ends = sorted(periods)
    newest = ends[-1]
    value, since, start = periods[newest]
    ago = [e for e in ends[:-1] if abs(e - (newest - pd.DateOffset(years=1))) <= pd.Timedelta("15D")]
    year_ago = (periods[min(ago, key=lambda e: abs(e - (newest - pd.DateOffset(years=1))))][0]
                if ago else np.nan)
    four = [e for e in ends if newest - pd.Timedelta("300D") < e]
    whole = sum(periods[e][0] for e in four) if len(four) == 4 else np.nan
    return value, since, start, newest, periods[ends[-2]][0] if len(ends) > 1 else np.nan, year_ago, whole


@pytest.mark.parametrize("seed, lag", [(0, "0s"), (1, "36h"), (2, "40D")])
def test_against_looking_through_all_facts(seed, lag):
    facts, bars = random_facts(seed), days()
    joined = asof_join(bars, facts, ["profit", "sales"], lag=lag)
    pd.testing.assert_frame_equal(joined[["symbol", "ts", "known_at"]], bars[["symbol", "ts", "known_at"]])
    states = {n: as_known(facts, n, lag) for n in ("sales", "profit")}
    delay, seen, rows = pd.Timedelta(lag), 0, list(facts.itertuples())
    for name, own in states.items():
        places = asof_positions(own, bars)
        for i, (bar, place) in enumerate(zip(bars.itertuples(), places, strict=True)):
            if i % 21:
                continue
            wanted = slow(rows, bar.symbol, name, bar.known_at, delay)
            row = joined.iloc[i]
            if wanted is None:
                assert place == -1 and np.isnan(row[name]) and pd.isna(row[f"{name}_period_end"])
                assert np.isnan(row[f"{name}_age"]) and pd.isna(row[f"{name}_published"])
                continue
            seen += 1
            assert ((row[name], row[f"{name}_published"], row[f"{name}_period_end"])
                    == (wanted[0], wanted[1], wanted[3]))
            assert row[f"{name}_period_start"] == wanted[2]
            assert (row[f"{name}_age"] == (bar.known_at - wanted[1]) / pd.Timedelta("1D")
                    >= delay / pd.Timedelta("1D"))
            state = own.iloc[place]
            np.testing.assert_array_equal([state.previous, state.year_ago, state.year], wanted[4:])
    assert seen > 80 and joined[joined.symbol == "D"].sales.isna().all()


def test_nothing_is_seen_before_it_is_published():
    facts, bars = random_facts(9), days(step="1D")
    full = asof_join(bars, facts, ["sales"])
    for cut in bars.known_at.drop_duplicates().sort_values()[::120]:
        known = known_facts(facts, cut)
        if not len(known):
            continue
        past = bars.known_at <= cut
        pd.testing.assert_frame_equal(asof_join(bars[past], known, ["sales"]), full[past], check_exact=True)
    assert (full.sales_published.dropna() <= full.known_at[full.sales.notna()]).all()


def test_to_the_microsecond():
    facts = as_facts([fact(published="2020-05-01T21:00:00Z")])
    bars = days(("A",), "2020-05-01", "2020-05-01")
    assert asof_join(bars, facts, ["sales"]).sales.tolist() == [1.0]
    assert asof_join(bars.assign(known_at=bars.known_at - pd.Timedelta("1us")), facts,
                     ["sales"]).sales.isna().all()
    assert asof_join(bars, facts, ["sales"], lag="1us").sales.isna().all()


def test_an_older_period_never_replaces_a_newer_one():
    facts = as_facts([fact(value=1.0),
                      fact(value=2.0, start="2020-04-01", end="2020-06-30", published="2020-08-01T12:00Z"),
                      # the first quarter, restated
                      fact(value=9.0, published="2020-09-01T12:00Z")])
    states = as_known(facts)
    assert states.value.tolist() == [1.0, 2.0, 2.0] and states.previous.tolist()[1:] == [1.0, 9.0]
    assert states.published.astype("str").str[:10].tolist() == ["2020-05-01", "2020-08-01", "2020-08-01"]


def test_a_late_first_publication_of_an_older_period():
    facts = as_facts([fact(value=2.0, start="2020-04-01", end="2020-06-30", published="2020-08-01T12:00Z"),
                      fact(value=1.0, published="2020-09-01T12:00Z")])
    assert as_known(facts).value.tolist() == [2.0, 2.0]


def test_said_again_is_no_news_and_taken_back_is():
    moments = ["2020-05-01T12:00Z", "2020-08-01T12:00Z", "2020-09-01T12:00Z", "2020-10-01T12:00Z"]
    facts = as_facts([fact(value=v, published=p) for v, p in zip([1.0, 1.0, 2.0, 1.0], moments, strict=True)])
    states = as_known(facts)
    assert states.known_at.tolist() == [pd.Timestamp(m) for m in moments]
    assert [moments.index(p.strftime("%Y-%m-%dT%H:%MZ")) for p in states.published] == [0, 0, 2, 3]


def test_several_periods_in_one_publication():
    facts = as_facts([fact(value=1.0), fact(value=2.0, start="2019-10-01", end="2019-12-31")])
    states = as_known(facts)
    assert len(states) == 1 and (states.value[0], states.previous[0]) == (1.0, 2.0)


def test_fiscal_years_of_52_and_53_weeks_have_a_year_ago():
    ends = ["2015-09-26", "2016-09-24", "2017-09-30", "2018-09-29"]
    starts = ["2014-09-28", "2015-09-27", "2016-09-25", "2017-10-01"]
    facts = as_facts([fact(value=float(i), start=s, end=e, published=f"{e}T20:00Z")
                      for i, (s, e) in enumerate(zip(starts, ends, strict=True))])
    states = as_known(facts)
    np.testing.assert_array_equal(states.year_ago, [np.nan, 0, 1, 2])
    np.testing.assert_array_equal(states.year, [0, 1, 2, 3])


def test_a_year_is_whole_or_missing():
    ends = pd.date_range("2020-01-31", periods=30, freq="ME")
    rows = [fact(value=1.0, start=e.replace(day=1), end=e,
                 published=(e + pd.Timedelta("12D")).tz_localize("UTC")) for e in ends]
    assert as_known(as_facts(rows)).year.tolist()[11:] == [12.0] * 19
    assert as_known(as_facts(rows)).year[:11].isna().all()
    hole = as_known(as_facts(rows[:15] + rows[16:])).year
    assert hole.isna().tolist() == [True] * 11 + [False] * 4 + [True] * 11 + [False] * 3
    stock = as_known(as_facts([(s, n, v, None, e, p, o) for s, n, v, _, e, p, o in rows]))
    assert stock.year.isna().all() and stock.year_ago.notna().sum() == 18


def test_one_length_a_name():
    year = fact(value=4.0, start="2020-01-01", end="2020-12-31", published="2021-02-01T00:00Z")
    with pytest.raises(DataError, match="one length under one name, got '91 and 366 days'.*A sales"):
        as_known(as_facts([fact(), year]))
    assert len(as_known(as_facts([fact(), ("A", "sales_annual", *year[2:])]))) == 2


def test_everyone():
    facts = as_facts([fact(EVERYONE, "cpi", 5.0), fact("A", "sales", 2.0)])
    joined = asof_join(days(), facts, ["cpi", "sales"])
    late = joined.known_at >= pd.Timestamp("2020-05-01T12:00Z")
    assert (joined.cpi.notna() == late).all()
    assert (joined.sales.notna() == (late & (joined.symbol == "A"))).all()
    with pytest.raises(DataError, match="name of its own"):
        asof_join(days(), as_facts([fact(EVERYONE, "cpi"), fact("A", "cpi")]), ["cpi"])


def test_order_and_index_of_the_rows_do_not_matter():
    facts, bars = random_facts(3), days()
    mixed = bars.sample(frac=1, random_state=1)
    back = asof_join(mixed, facts, ["sales"]).sort_index()
    pd.testing.assert_frame_equal(back, asof_join(bars, facts, ["sales"]), check_exact=True)
    shuffled = as_facts(facts.sample(frac=1, random_state=2))
    pd.testing.assert_frame_equal(shuffled, facts)


def test_too_old_counts_as_missing():
    facts = as_facts([fact(published="2020-05-01T21:00Z")])
    joined = asof_join(days(("A",), "2020-04-30", "2020-05-20", "1D"), facts, ["sales"], max_age="10D")
    assert joined.sales.notna().tolist() == [False] + [True] * 11 + [False] * 9
    assert joined.sales_period_end.notna().tolist() == joined.sales.notna().tolist()


@pytest.mark.parametrize("row, message", [
    (fact(name="Sales"), "`name`"), (fact(name="sales_3m"), "`name`"), (fact(name=""), "`name`"),
    (fact(symbol=None), "`symbol`"), (fact(value=np.nan), "`value` must be finite"),
    (fact(value=np.inf), "`value` must be finite"), (fact(value="a lot"), "`value`"),
    (fact(end=None), "`period_end`"), (fact(published=None), "`published`"),
    (fact(start="2020-04-01"), "`period_start`"),
    (fact(published="2020-03-30T09:59Z"), "forecasts=True"), (fact(published="2020-05-01"), "time zone"),
    (fact(published="soon"), "ISO"), (fact(start=pd.Timestamp("2020-01-01", tz="UTC")), "without a zone")])
def test_what_is_no_fact(row, message):
    with pytest.raises(DataError, match=message):
        as_facts([row])


def test_what_is_no_facts_frame():
    good = as_facts([fact(), fact("B")])
    for bad, message in [(good.drop(columns="value"), "columns"), (good[::-1], "sorted"),
                         (good.assign(extra=1), "columns"), (good.set_index([[1, 2]]), "indexed"),
                         (pd.concat([good, good], ignore_index=True), "repeated"),
                         (good.assign(published=good.published.dt.tz_convert("Asia/Tokyo")), "published"),
                         (good.assign(value=[1, 2]), "value"), (good.assign(value=[1.0, np.nan]), "finite"),
                         ([], "DataFrame")]:
        with pytest.raises(DataError, match=message):
            check_facts(bad)
    with pytest.raises(DataError, match="one for a symbol"):
        as_facts([fact(value=1.0), fact(value=2.0)])
    with pytest.raises(DataError, match="missing: value"):
        as_facts(good.drop(columns="value"))


def test_requests_that_cannot_be():
    facts, bars = as_facts([fact()]), days()
    for call in (lambda: asof_join(bars, facts, ["sale"]), lambda: as_known(facts, ["sale"])):
        with pytest.raises(DataError, match="did you mean `sales`"):
            call()
    for lag in ("-1s", "soon", None):
        with pytest.raises(DataError, match="`lag`"):
            asof_join(bars, facts, ["sales"], lag=lag)
    for bad in (bars.drop(columns="symbol"), bars.assign(known_at=bars.known_at.dt.tz_localize(None)),
                bars.assign(known_at=bars.known_at.where(bars.index > 0))):
        with pytest.raises(DataError, match="`bars`"):
            asof_join(bad, facts, ["sales"])
    with pytest.raises(DataError, match="as_of"):
        known_facts(facts, "yesterday or so")


def test_empty():
    none = as_facts([])
    assert list(none) == list(FACTS) and {c: str(d) for c, d in none.dtypes.items()} == FACTS
    assert {c: str(d) for c, d in as_known(none).dtypes.items()} == STATES
    assert len(asof_join(days()[:0], as_facts([fact()]), ["sales"])) == 0
    with pytest.raises(DataError, match="a known name"):
        asof_join(days(), none, ["sales"])


def test_dates_are_read_in_a_zone_and_end_with_their_day():
    at = as_facts([fact(published="2020-05-01")], tz="Asia/Tokyo").published[0]
    assert at == pd.Timestamp("2020-05-01T15:00Z")
    at = as_facts([fact(published="2020-05-01 08:30")], tz="America/New_York").published[0]
    assert at == pd.Timestamp("2020-05-01T12:30Z")
    with pytest.raises(DataError, match="`tz`"):
        as_facts([fact(published="2020-05-01")], tz="Mars/Base")
    # the hour that New York skipped
    with pytest.raises(DataError, match="`tz`"):
        as_facts([fact(published="2020-05-01"), fact("B", published="2021-03-14 02:30")],
                 tz="America/New_York")


def test_units_of_time_do_not_matter():
    facts = as_facts([fact(), fact(published="2020-06-01T00:00Z", value=2.0)])
    for unit in ("ns", "ms", "s"):
        frame = facts.assign(published=facts.published.dt.as_unit(unit),
                             period_end=facts.period_end.dt.as_unit(unit))
        pd.testing.assert_frame_equal(as_facts(frame), facts)
        bars = days(("A",))
        moved = bars.assign(known_at=bars.known_at.dt.as_unit(unit).dt.tz_convert("Asia/Tokyo"))
        joined = asof_join(moved, facts, ["sales"])
        assert str(joined.known_at.dtype) == TIME
        pd.testing.assert_frame_equal(joined, asof_join(bars, facts, ["sales"]))


def test_splits_as_facts():
    ex, later = pd.Timestamp("2014-06-09T13:30Z"), pd.Timestamp("2014-06-09T20:00Z")
    facts = split_facts([("A", ex, "split", 7.0, ex, "x"), ("A", ex, "dividend", 0.5, ex, "x"),
                         ("B", ex, "split", 2.0, later, "")])
    assert facts[["symbol", "name", "value"]].values.tolist() == [["A", "split", 7.0], ["B", "split", 2.0]]
    assert facts.published.tolist() == [ex, later]
    assert len(split_facts([("A", ex, "dividend", 0.5, ex, "x")])) == 0


def test_a_real_report(market):
    """Apple's second quarter of 2018, as Morningstar has it: published on 2 May, known from the end of that
    day."""
    path = market / "lean" / "Tests" / "TestData" / "aapl_fine_fundamental.json"
    statements = json.loads(path.read_text())["FinancialStatements"]
    income, end, filed = statements["IncomeStatement"], statements["20001"], statements["20002"]
    starts = {"3M": "2018-01-01", "6M": "2017-10-01", "12M": "2017-04-01"}
    names = {"3M": "quarter", "6M": "half", "12M": "annual"}
    rows = [("AAPL", f"revenue_{names[k]}", income["20100"][k], s, end, filed, "10-Q")
            for k, s in starts.items()]
    facts = as_facts(rows, tz="America/New_York")
    grid = expected_bars("XNYS", "1d", "2018-04-30", "2018-05-05")
    bars = as_bars(grid.assign(symbol="AAPL", timeframe="1d", open=1.0, high=1.0, low=1.0,
                               close=1.0, volume=1.0))
    joined = asof_join(bars, facts, ["revenue_quarter", "revenue_annual"])
    assert joined.ts.dt.day.tolist() == [30, 1, 2, 3, 4]
    np.testing.assert_array_equal(joined.revenue_quarter, [np.nan] * 3 + [61_137e6] * 2)
    np.testing.assert_array_equal(joined.revenue_annual, [np.nan] * 3 + [229_234e6] * 2)
    assert as_known(facts, "revenue_annual").year.tolist() == [229_234e6]
    with pytest.raises(DataError, match="one length"):
        as_known(as_facts([(s, "revenue", *rest) for s, _, *rest in rows[:1]]
                          + [("AAPL", "revenue", 1.0, "2017-04-01", "2018-06-30", "2018-08-01", "")],
                          tz="UTC"))


def test_a_real_macro_series_beside_a_real_index(market):
    "US core consumer prices, monthly, published six weeks after the month began; against pandas' own merge."
    folder = market / "pypi_arch"
    cpi = pd.read_csv(folder / "core-cpi.csv.gz")
    month = pd.to_datetime(cpi.Date, format="%m/%d/%Y")
    facts = as_facts(pd.DataFrame({"symbol": EVERYONE, "name": "core_cpi", "value": cpi.CPILFESL,
                                   "period_start": month,
                                   "period_end": month + pd.offsets.MonthEnd(), "origin": "arch",
                                   "published": (month + pd.Timedelta("45D12h")).dt.tz_localize("UTC")}))
    sp = pd.read_csv(folder / "sp500.csv.gz")
    ts = (pd.to_datetime(sp.Date, format="%m/%d/%Y") + pd.Timedelta("14h30min")).dt.tz_localize("UTC")
    bars = pd.DataFrame({"symbol": "SPX", "timeframe": "1d", "ts": ts,
                         "known_at": ts + pd.Timedelta("6h30min")})
    joined = asof_join(bars, facts, ["core_cpi"])
    other = pd.merge_asof(bars.assign(known_at=bars.known_at.astype(TIME)),
                          facts[["published", "value", "period_end"]],
                          left_on="known_at", right_on="published")
    np.testing.assert_array_equal(joined.core_cpi, other.value)
    assert (joined.core_cpi_period_end == other.period_end).all() and joined.core_cpi.notna().all()
    assert len(joined) > 4000
    states = as_known(facts)
    inflation = (states.value / states.year_ago - 1).to_numpy()
    np.testing.assert_array_equal(inflation[12:], (cpi.CPILFESL / cpi.CPILFESL.shift(12) - 1).to_numpy()[12:])


def _naive(bar, rows, delay):
    "The value that a bar may see: of the newest period that was published by then, what was said of it last."
    seen = [r for r in rows if r[4] + delay <= bar]
    if not seen:
        return None
    newest = max(r[3] for r in seen)
    return max((r for r in seen if r[3] == newest), key=lambda r: r[4])[1]


_MOMENTS = st.integers(0, 60 * 24).map(lambda hours: pd.Timestamp("2021-01-01", tz="UTC")
                                       + pd.Timedelta(hours=hours))


_SAID = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), _MOMENTS), min_size=1, max_size=12,
                 unique_by=lambda f: (f[0], f[2]))


def _sees(joined, name, rows, delay):
    "Whether these rows see of one fact what the plainest loop over `rows` does, and nothing too early."
    assert joined[name].fillna(-1).tolist() == [-1 if (w := _naive(b, rows, delay)) is None else w
                                                for b in joined.known_at]
    assert ((joined[f"{name}_published"] + delay <= joined.known_at) | joined[name].isna()).all()


@given(st.lists(st.tuples(_SAID, st.lists(_MOMENTS, min_size=1, max_size=12)), min_size=6, max_size=6),
       st.sampled_from(["0s", "1us", "1h", "3D", "45D"]))
@settings(max_examples=42, deadline=None)
def test_no_value_is_ever_seen_before_it_was_published_and_its_lag_was_over(worlds, lag):
    """Restatements included: rows of (symbol, value, start, end, published), any periods, any order; each
    world is a symbol."""
    ends = pd.to_datetime(["2019-12-31", "2020-03-31", "2020-06-30", "2020-09-30"])
    starts, delay = ends - pd.offsets.QuarterBegin(startingMonth=1), pd.Timedelta(lag)
    rows = {f"S{i}": [(f"S{i}", float(v), starts[q], ends[q], at) for q, v, at in said]
            for i, (said, _) in enumerate(worlds)}
    everyone = [(EVERYONE, *rest) for _, *rest in rows["S0"]]
    facts = as_facts([(s, name, v, start, end, at, "")
                      for name, told in (("sales", sum(rows.values(), [])), ("rate", everyone))
                      for s, v, start, end, at in told])
    frame = pd.DataFrame([(f"S{i}", at) for i, (_, bars) in enumerate(worlds) for at in bars]
                         + [("nobody", worlds[0][1][0])], columns=["symbol", "known_at"])
    joined = asof_join(frame, facts, ["sales", "rate"], lag=lag)
    for symbol, told in rows.items():
        _sees(joined[joined.symbol == symbol], "sales", told, delay)
    _sees(joined, "rate", everyone, delay)
    assert joined[joined.symbol == "nobody"].sales.isna().all()
