"""Facts from tables and series: every row is a fact or set aside, and no value counts before it was
published."""

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfin.core.errors import DataError
from mlfin.market.bars import TIME
from mlfin.facts.fact_sources import (
    FACT_SOURCES,
    fact_name,
    fact_summary,
    parse_fact_rows,
    store_facts,
    publication_lag,
    drop_repeated_facts,
    read_facts,
    register_facts,
)
from mlfin.facts.facts import EVERYONE, FACTS, asof_join, check_facts
from mlfin.facts.periods import day_ends, frequency, periods, parse_dates
from mlfin.store.records import is_fact_name

NEW_YORK = "America/New_York"


def rows(**columns):
    n = max(len(v) if isinstance(v, list) else 1 for v in (1, *columns.values()))
    plain = {"symbol": "A", "name": "sales", "value": 1.0, "period_start": pd.NaT,
             "period_end": pd.Timestamp("2024-03-31"), "published": pd.Timestamp("2024-05-01T12:00Z")}
    frame = (pd.DataFrame({c: v if isinstance(v, list) else [v] * n for c, v in (plain | columns).items()})
             .assign(row=range(n)))
    return frame.assign(published=pd.to_datetime(frame.published, utc=True).astype(TIME),
                        **{c: pd.to_datetime(frame[c]).astype("datetime64[us]")
                           for c in ("period_start", "period_end")})


def judged(frame, **how):
    return parse_fact_rows(frame, frame.drop(columns="row"), "x:0", "0", **how)


def test_what_stands_there_twice_is_counted_and_rivals_are_set_aside_each_of_them():
    found = judged(rows(name=["sales", "sales", "debt", "debt", "cash", "cash", "cash"],
                        value=[1.0, 1.0, 1.0, 2.0, 3.0, 3.0, 4.0]))
    assert list(found.facts.name) == ["sales"] and list(found.facts.value) == [1.0]
    assert list(found.quarantine.symbol) == ["A"] * 5
    assert set(found.quarantine.reason) == {"two values for one period and publication"}
    assert found.notes == ("1 rows stand there more than once; one of each was taken",)


@given(st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_a_name_is_a_fact_s_or_nothing(text):
    assert (name := fact_name(text)) == "" or is_fact_name(name)


@given(st.lists(st.tuples(
    st.sampled_from(["A", "B", ""]), st.sampled_from(["sales", "Sales!", "eps"]),
    st.sampled_from(["1", "2.5", ".", "", "x", "1e400", "-3", None, "1_000", "nan"]),
    st.sampled_from([None, "2024-01-01", "2024-06-01"]), st.sampled_from(["2024-03-31", None]),
    st.sampled_from(["2024-05-01T00:00Z", "2024-01-02T00:00Z", None, "2999-01-01T00:00Z"])), max_size=25))
@settings(max_examples=120, deadline=None)
def test_every_row_is_a_fact_or_set_aside_or_counted(given_):
    columns = ["symbol", "name", "value", "period_start", "period_end", "published"]
    frame = (rows(**dict(zip(columns, map(list, zip(*given_, strict=True)), strict=True))) if given_
             else rows().iloc[:0])
    found = judged(frame)
    check_facts(found.facts)
    again = sum(int(n.split()[0]) for n in found.notes)
    assert len(found.facts) + len(found.quarantine) + again == len(frame)
    assert (found.quarantine.reason != "").all()
    assert not set(found.quarantine.row) & set(frame.row) - set(found.quarantine.row)


@pytest.mark.parametrize("change, reason", [
    ({"symbol": ""}, "`symbol` is missing"), ({"name": "Sales"}, "`name` cannot be"),
    ({"value": "."}, "`value` is missing"),
    ({"value": "12,5"}, "not a number"), ({"value": np.inf}, "not a number"),
    ({"value": "1e999"}, "not a number"), ({"value": True}, "not a number"),
    ({"period_end": None}, "`period_end` cannot be read"),
    ({"period_start": "2024-04-01"}, "ends before it starts"),
    ({"published": None}, "`published` is missing"),
    ({"published": "2024-03-30T00:00Z"}, "before its period was over"),
    ({"published": "2999-01-01T00:00Z"}, "published in the future")])
def test_what_is_no_fact_says_why(change, reason):
    found = judged(rows(**change))
    assert not len(found.facts) and len(found.quarantine) == 1 and reason in found.quarantine.reason[0]


def test_what_disagrees_with_itself_is_set_aside_whole():
    found = judged(rows(value=[1.0, 2.0, 1.0, 5.0],
                        published=["2024-05-01T00:00Z"] * 3 + ["2024-06-01T00:00Z"]))
    assert found.facts.value.tolist() == [5.0]
    assert found.quarantine.reason.str.contains("two values").sum() == 3 and not found.notes


def test_a_lag_may_reach_into_the_future_and_a_forecast_into_the_period():
    late = judged(rows(published="2999-01-01T00:00Z"), ahead=True)
    early = judged(rows(published="2024-01-05T00:00Z"), forecasts=True)
    assert len(late.facts) == len(early.facts) == 1


@pytest.mark.parametrize("texts, want", [
    (["195701", "195702"], ["1957-01-01", "1957-02-01"]), (["20240131"], ["2024-01-31"]),
    (["2024"], ["2024-01-01"]),
    (["2024-05"], ["2024-05-01"]), (["2024Q3", "2024-Q4"], ["2024-07-01", "2024-10-01"]),
    (["31.12.2024", "01.02.2024"], ["2024-12-31", "2024-02-01"]),
    (["12/31/2024", "1/2/2024"], ["2024-12-31", "2024-01-02"]), (["2024-01-31T18:00:00Z"], ["2024-01-31"]),
    (["never", ""], [None, None]), (["2024-02-30", "202413"], [None, None])])
def test_dates_of_any_form(texts, want):
    assert (parse_dates(pd.Series(texts))[0].astype("object").where(lambda d: d.notna(), None).tolist()
            == [w and pd.Timestamp(w) for w in want])


def test_numbers_and_times_are_dates_too():
    assert parse_dates(pd.Series([192607, 192608]))[0].dt.month.tolist() == [7, 8]
    assert parse_dates(pd.Series([192607.0, np.nan]))[0].isna().tolist() == [False, True]
    assert parse_dates(pd.Series(pd.to_datetime(["2024-01-31T23:00Z"])))[0][0] == pd.Timestamp("2024-01-31")


@pytest.mark.parametrize("first", [True, False])
def test_the_order_of_day_and_month_is_found_out_by_even_steps(first):
    days = pd.date_range("2001-01-01", "2003-12-01", freq="MS")
    text = pd.Series(days.strftime("%d/%m/%Y" if first else "%m/%d/%Y"))
    found, note = parse_dates(text)
    assert found.tolist() == days.tolist() and f"the {'day' if first else 'month'} first" in note
    with pytest.raises(DataError, match="dayfirst"):
        parse_dates(pd.Series(["01/02/2003", "02/03/2003"]))
    assert parse_dates(pd.Series(["01/02/2003"]), dayfirst=True)[0][0] == pd.Timestamp("2003-02-01")


@pytest.mark.parametrize("every, dates", [
    ("day", pd.bdate_range("2024-01-01", periods=30)),
    ("week", pd.date_range("2024-01-05", periods=9, freq="W-FRI")),
    ("month", pd.date_range("2024-01-15", periods=9, freq="MS")),
    ("quarter", pd.date_range("2020-01-01", periods=9, freq="QS")),
    ("year", pd.date_range("2000-01-01", periods=9, freq="YS")),
    ("half", pd.date_range("2000-06-30", periods=9, freq="6ME")),
    ("irregular", pd.to_datetime(["2003-01-09", "2003-06-26", "2004-07-01"])),
    ("irregular", pd.to_datetime(["2003-01-09"]))])
def test_rhythm_and_period(every, dates):
    dates = pd.Series(dates)
    assert frequency(dates) == frequency(dates.sample(frac=1, random_state=0)) == every
    spans = periods(dates, every)
    inside = (spans.period_start.fillna(spans.period_end) <= dates) & (dates <= spans.period_end)
    assert inside.all() and spans.period_start.isna().all() == (every in ("day", "irregular"))


@pytest.mark.parametrize("lag", [None, "-1D", "soon", True, {"other": "1D"}])
def test_a_lag_is_given_or_the_source_refused(lag):
    with pytest.raises(DataError, match="`lag`"):
        publication_lag(lag, "CPI", "cpi")
    with pytest.raises(DataError, match="`lag`"):
        read_facts("macro", frame=pd.DataFrame({"Date": ["2024-01-31"], "CPI": [1.0]}), lag=lag)


def test_a_day_ends_where_it_is_told():
    winter, summer = day_ends(pd.Series([pd.Timestamp("2024-01-31"), pd.Timestamp("2024-07-31 18:00")]),
                              NEW_YORK)
    assert (winter, summer) == (pd.Timestamp("2024-02-01T05:00Z"), pd.Timestamp("2024-08-01T04:00Z"))
    # a midnight that was left out
    assert (day_ends(pd.to_datetime(pd.Series(["2018-11-03"])), "America/Sao_Paulo")[0]
            == pd.Timestamp("2018-11-04T03:00Z"))
    with pytest.raises(DataError, match="`tz`"):
        day_ends(pd.to_datetime(pd.Series(["2024-01-31"])), "Mars/Base")


def test_reports_in_rows_one_fact_a_column(tmp_path):
    table = pd.DataFrame({"Ticker": ["A", "A", "B"], "period_end": ["2024-03-31"] * 3,
                          "filed": ["2024-05-02", "2024-05-20 08:30", "2024-05-02T09:00Z"],
                          "NetIncome": ["1", "2", "x"], "EPS": ["0.1", "", "0.3"]})
    long = table.rename(columns={"NetIncome": "net_income", "EPS": "eps"}).melt(
        ["Ticker", "period_end", "filed"], var_name="name")
    found = []
    for k, frame in enumerate((table, long)):
        for ending, write in ((".csv", frame.to_csv), (".parquet", frame.to_parquet)):
            write(path := tmp_path / f"{k}{ending}", index=False)
            found.append(read_facts(path, tz=NEW_YORK))
    for one in found:
        pd.testing.assert_frame_equal(one.facts.drop(columns="origin"), found[0].facts.drop(columns="origin"))
        assert (one.facts.published.astype("str").tolist()
                == ["2024-05-03 04:00:00+00:00", "2024-05-03 04:00:00+00:00", "2024-05-20 12:30:00+00:00",
                    "2024-05-02 09:00:00+00:00"])
        assert sorted(one.quarantine.reason) == ["`value` is missing", "`value` is not a number"]
        assert not one.quarantine.origin.str.contains("/").any()


@pytest.mark.parametrize("change, message", [
    ({}, "time zone"), ({"columns": {"nothing": "value"}}, "columns"), ({"tz": "Mars/Base"}, "`tz`"),
    ({"frames": {}}, "option of frame")])
def test_a_table_that_does_not_say_enough(change, message):
    table = pd.DataFrame({"symbol": ["A"], "period_end": ["2024-03-31"],
                          "published": ["2024-05-02"], "eps": [1.0]})
    with pytest.raises(DataError, match=message):
        read_facts("frame", frame=table, **change)
    with pytest.raises(DataError, match="period_end"):
        read_facts("frame", frame=table.drop(columns="period_end"), tz="UTC")


def test_fred_by_date_by_vintage_and_by_real_time(csv):
    plain = csv("DATE,VALUE\n2024-01-01,1.5\n2024-04-01,.\n2024-07-01,2\n2024-10-01,3\n", "GDP.csv")
    with pytest.raises(DataError, match="does not say when"):
        read_facts(f"fred:{plain}")
    found = read_facts(f"fred:{plain}", lag="30D")
    assert (found.facts[["name", "period_start", "period_end"]].astype("str").values.tolist()[0]
            == ["gdp", "2024-01-01", "2024-03-31"])
    assert found.facts.published[0] == pd.Timestamp("2024-05-01T04:00Z")
    assert (found.facts.symbol == EVERYONE).all()
    assert found.quarantine.row.tolist() == [1]
    by_column = csv("observation_date,GDP_20240425,GDP_20240530,GDP_20240627\n2024-01-01,1.6,1.3,1.3\n",
                    "v.csv")
    vintages = read_facts(f"fred:{by_column}", frequency="quarter")
    assert vintages.facts.value.tolist() == [1.6, 1.3] and "said again" in " ".join(vintages.notes)
    by_row = csv("realtime_start,realtime_end,date,value\n2024-04-25,2024-05-29,2024-01-01,1.6\n"
                 "2024-05-30,9999-12-31,2024-01-01,1.3\n", "GDP.csv")
    real = read_facts(f"fred:{by_row}", frequency="quarter")
    columns = ["name", "value", "period_end", "published"]
    pd.testing.assert_frame_equal(real.facts[columns], vintages.facts[columns])


def test_real_series_of_any_rhythm(market):
    folder = market / "pypi_arch"
    cpi = read_facts(f"macro:{folder / 'core-cpi.csv.gz'}", lag="45D", names={"CPILFESL": "core_cpi"})
    table = pd.read_csv(folder / "core-cpi.csv.gz")
    month = pd.to_datetime(table.Date, format="%m/%d/%Y")
    assert len(cpi.facts) == 743 and not len(cpi.quarantine) and "its whole month" in " ".join(cpi.notes)
    assert (cpi.facts.period_start.to_numpy() == month.to_numpy("datetime64[us]")).all()
    assert (cpi.facts.value == table.CPILFESL).all()
    oil = read_facts(f"fred:{folder / 'wti.csv.gz'}", lag="7D")
    assert (len(oil.facts), len(oil.quarantine)) == (8321, 290)
    assert (oil.quarantine.raw.str.contains('"."', regex=False)).all()
    french = read_facts(f"macro:{folder / 'frenchdata.csv.gz'}", lag="30D")
    assert fact_summary(french.facts)["count"].tolist() == [1109] * 4
    assert french.facts.period_end.min() == pd.Timestamp("1926-07-31")
    crude = read_facts(f"macro:{folder / 'crude.csv.gz'}", lag={"Brent": "5D", "wti": "10D"},
                       period="month", stamp="within")
    assert fact_summary(crude.facts).delay.tolist() == [5.2, 10.2]
    assert set(crude.facts.period_end.dt.day) >= {28, 29, 30, 31}
    # the fifteenth is neither end of a month
    with pytest.raises(DataError, match="stamp"):
        read_facts(f"macro:{folder / 'crude.csv.gz'}", lag="5D")
    vix = read_facts(f"macro:{folder / 'vix.csv.gz'}", lag="0D")
    assert (len(vix.facts) + len(vix.quarantine)
            == len(gzip.decompress((folder / "vix.csv.gz").read_bytes()).splitlines()) - 1)


def test_a_bank_s_rate_holds_from_each_change_on(market):
    file = f"fred:{market / 'lean' / 'Data' / 'alternative' / 'interest-rate' / 'usa' / 'interest-rate.csv'}"
    with pytest.raises(DataError, match="period"):
        read_facts(file, lag="0D")
    rate = read_facts(file, lag="0D", names={"PCREDIT8": "rate"}, period="day")
    assert "the day itself" in " ".join(rate.notes) and len(rate.facts) == 56
    bars = pd.DataFrame({"symbol": "A",
                         "known_at": pd.to_datetime(["2023-07-28T03:59Z", "2023-07-28T04:00Z"])})
    assert asof_join(bars, rate.facts, ["rate"]).rate.tolist() == [5.25, 5.5]


def test_a_revision_of_a_macro_series_is_seen_from_its_vintage_on():
    "Real-time data: a model in April sees what April knew."
    frame = pd.DataFrame({"date": ["2024-01-01"], "GDP_20240425": ["1.6"], "GDP_20240530": ["1.3"]})
    facts = read_facts("fred", frame=frame, frequency="quarter").facts
    bars = pd.DataFrame({"symbol": "A", "known_at": pd.to_datetime([
        "2024-04-25T20:00Z", "2024-04-26T20:00Z", "2024-05-31T20:00Z"])})
    assert asof_join(bars, facts, ["gdp"]).gdp.fillna(-1).tolist() == [-1, 1.6, 1.3]


def test_symbols_names_and_sources_that_are_not_there(csv):
    path = csv("symbol,period_end,published,eps\nA,2024-03-31,2024-05-01T00:00Z,1\n"
               "B,2024-03-31,2024-05-01T00:00Z,\n")
    assert read_facts(path, "A").facts.symbol.tolist() == ["A"]
    assert read_facts(path, ["B"]).quarantine.symbol.tolist() == ["B"]
    for call, message in ((lambda: read_facts(path, "C"), "symbol"),
                          (lambda: read_facts("fredd:x.csv"), "did you mean `fred`"),
                          (lambda: read_facts(f"fred:{path}", lagg="1D"), "did you mean `lag`"),
                          (lambda: read_facts("fred:nowhere.csv", lag="1D"), "file that exists"),
                          (lambda: read_facts(f"fred:{csv('a;b' + chr(10) + '1;2', 'y.csv')}", lag="1D"),
                           "observation_date")):
        with pytest.raises(DataError, match=message):
            call()


def test_a_plugin_s_source_and_a_store(make):
    seen = []

    class Shelf:
        def write_quarantine(self, rows): seen.append(rows)

        def write_facts(self, facts):
            from mlfin.store.row_history import WriteResult

            seen.append(facts)
            return WriteResult(1, 0, 0, 0)

    register_facts("mine", lambda path, symbols: judged(rows(value=[1.0, "x"], symbol=["A", "B"])))
    try:
        done = store_facts(read_facts("mine"), Shelf())
    finally:
        del FACT_SOURCES["mine"]
    assert (done.inserted, done.quarantined, len(seen[0]), len(seen[1])) == (1, 1, 1, 1)
    assert list(seen[1]) == list(FACTS)


def test_news_and_their_summary():
    said = judged(rows(value=[1.0, 1.0, 2.0, 1.0],
                       published=[f"2024-{month:02}-01T00:00Z" for month in (5, 6, 7, 8)]))
    told = drop_repeated_facts(said)
    assert told.facts.value.tolist() == [1.0, 2.0, 1.0]
    assert told.notes == ("1 values were said again without a change and are no news",)
    line = fact_summary(told.facts).iloc[0]
    assert (line["count"], line.restated, line.delay) == (3, 2, 30.0)
    assert fact_summary(told.facts[:0]).empty and drop_repeated_facts(told) is told
