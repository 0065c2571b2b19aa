"""Periods of facts: a label names its period, a date is asked about, and nothing is known before its period
is over."""

import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfin.core.errors import DataError
from mlfin.facts.fact_sources import read_facts
from mlfin.facts.facts import as_facts, as_known, asof_join, misread_labels, superseded
from mlfin.facts.periods import PERIODS, STAMPS, date_periods, frequency, parse_dates, read_labels


def days(*texts):
    return pd.Series(pd.to_datetime(list(texts)).astype("datetime64[us]"))


def read(**how):
    columns = how.pop("frame")
    return read_facts("frame", frame=pd.DataFrame(columns),
                      **({"name": "gdp"} | how if "value" in columns else how))


@pytest.mark.parametrize("label, kind, first, last", [
    ("2019", "year", "2019-01-01", "2019-12-31"), ("2019.0", "year", "2019-01-01", "2019-12-31"),
    ("2020-Q1", "quarter", "2020-01-01", "2020-03-31"), ("2020Q4", "quarter", "2020-10-01", "2020-12-31"),
    ("Q2 2020", "quarter", "2020-04-01", "2020-06-30"), ("3Q2020", "quarter", "2020-07-01", "2020-09-30"),
    ("2020-H1", "half", "2020-01-01", "2020-06-30"), ("2020-S2", "half", "2020-07-01", "2020-12-31"),
    ("2020-02", "month", "2020-02-01", "2020-02-29"), ("202002", "month", "2020-02-01", "2020-02-29"),
    ("2020M05", "month", "2020-05-01", "2020-05-31"), ("2020-M5", "month", "2020-05-01", "2020-05-31"),
    ("May 2020", "month", "2020-05-01", "2020-05-31"),
    ("2020 September", "month", "2020-09-01", "2020-09-30"), ("05/2020", "month", "2020-05-01", "2020-05-31"),
    ("2020-W05", "week", "2020-01-27", "2020-02-02"), ("2020W53", "week", "2020-12-28", "2021-01-03"),
    ("2020-05-07", "date", "2020-05-07", "2020-05-07"),
    ("7 May 2020", "date", "2020-05-07", "2020-05-07"), ("May 7, 2020", "date", "2020-05-07", "2020-05-07")])
def test_a_label_names_its_period(label, kind, first, last):
    found = read_labels(pd.Series([label]))[0].iloc[0]
    assert (found.kind, str(found["first"].date()), str(found["last"].date())) == (kind, first, last)


@pytest.mark.parametrize("label", ["2021-W53", "2020-13", "2020-Q5", "2020.1", "May-20", "20", "2563",
                                   "2563-01-31", "M13 2020", "2020-00", "soon", "", "2020-02-30", "2019-20x"])
def test_what_is_no_label_is_not_read(label):
    found = read_labels(pd.Series([label]))[0].iloc[0]
    assert found.kind in ("", "date") and pd.isna(found["last"])


@given(st.dates(datetime.date(1900, 1, 1), datetime.date(2199, 12, 30)))
@settings(max_examples=60, deadline=None)
def test_a_day_lies_in_the_period_that_its_label_names(day):
    year, week, _ = day.isocalendar()
    labels = [str(day.year), f"{day.year}-H{(day.month + 5) // 6}", f"{day.year}-Q{(day.month + 2) // 3}",
              f"{day:%Y-%m}", f"{day:%B %Y}", f"{year:04}-W{week:02}", f"{day}"]
    found = read_labels(pd.Series(labels))[0]
    assert ((found["first"] <= pd.Timestamp(day)) & (pd.Timestamp(day) <= found["last"])).all()
    assert found.kind.tolist() == ["year", "half", "quarter", "month", "month", "week", "date"]


def test_fiscal_years_end_where_they_are_told_to():
    labels = pd.Series(["FY2019", "2020/21", "FY2020 Q1", "FY2020-H2", "Q4 FY2020"])
    with pytest.raises(DataError, match="`FY2019` is of a fiscal year"):
        read_labels(labels)
    japan = read_labels(labels, fiscal_end="FY2019=2020-03-31")[0]["last"].dt.strftime("%Y-%m-%d").tolist()
    assert japan == ["2020-03-31", "2021-03-31", "2020-06-30", "2021-03-31", "2021-03-31"]
    apple = read_labels(pd.Series(["2019"]), fiscal_end="2019=2019-09-28")[0].iloc[0]
    assert (str(apple["first"].date()), str(apple["last"].date())) == ("2018-09-29", "2019-09-28")
    leap = read_labels(pd.Series(["2019", "2020"]), fiscal_end="2019=2019-02-28")[0]["last"]
    assert leap.dt.strftime("%m-%d").tolist() == ["02-28", "02-29"]
    for wrong in ("FY2019", "2019-03-31", "FY2019=2029-03-31", "FY2019=soon"):
        with pytest.raises(DataError, match="fiscal_end"):
            read_labels(labels, fiscal_end=wrong)
    # Decembers, or years that end in the next one
    with pytest.raises(DataError, match="fiscal_end"):
        read_labels(pd.Series(["2009-10", "2010-11", "2011-12"]))
    assert read_labels(pd.Series(["2011-11", "2011-12"]))[0].kind.tolist() == ["month", "month"]


@pytest.mark.parametrize("label, published", [("2019", "2020-02-15"), ("2020-Q1", "2020-05-16"),
                                              ("2020-01", "2020-03-17"), ("2020-H1", "2020-08-15"),
                                              ("2020-W05", "2020-03-19"), ("2020M01", "2020-03-17")])
def test_a_lag_counts_from_the_end_of_the_period(label, published):
    "45 days after the last day is over: 2019 ends on 31 December, and on 14 February they are over."
    found = read(frame={"period": [label], "value": [1.0]}, lag="45D")
    assert str(found.facts.published[0]) == f"{published} 00:00:00+00:00"
    assert "after the end of the period's last day" in " ".join(found.notes)


def test_labels_of_several_lengths_do_not_meet():
    labels = ["2020", "2020-H1", "2020-Q1", "2020-01", "2020-02", "2020-Q2", "2020-04"]
    found = read(frame={"period": labels, "value": [float(i) for i in range(7)]}, lag="45D")
    assert len(found.facts) == 7 and not len(found.quarantine)
    assert not found.facts.duplicated(["period_start", "period_end"]).any()
    assert "a name of its own" in " ".join(found.notes)
    with pytest.raises(DataError, match="one length under one name"):
        as_known(found.facts)


def test_a_date_is_asked_about_unless_the_series_shows_what_it_is():
    starts, ends = (days(*(f"2020-{m:02}-01" for m in range(1, 8))),
                    days("2020-01-31", "2020-02-28", "2020-03-31", "2020-04-30", "2020-05-29"))
    for dates, word in ((starts, "first"), (ends, "last")):
        spans, note = date_periods(dates)
        assert word in note and (spans.period_end == dates + pd.offsets.MonthEnd(0)).all()
    mixed = days("1953-02-01", "1953-05-01", "1953-08-01",
                 *(f"1954-{m:02}-01" for m in range(1, 13)), "1955-01-01")
    refused = (days("2020-01-01"), days("2020-01-15", "2020-02-15", "2020-03-15"),
               days("2020-01-01", "2020-01-08", "2020-01-15"), days("2020-02-01", "2020-05-01", "2020-08-01"),
               days("2019-07-01", "2020-07-01", "2021-07-01"), mixed)
    for dates in refused:
        with pytest.raises(DataError, match="--period .* --stamp"):
            date_periods(dates)
    with pytest.raises(DataError, match="did you mean|one of"):
        date_periods(starts, "fortnight")
    for wrong in (("month", "end", starts), ("quarter", "start", ends)):
        with pytest.raises(DataError, match="stamp"):
            date_periods(wrong[2], wrong[0], wrong[1])


@given(st.sampled_from(PERIODS[1:]), st.sampled_from(STAMPS),
       st.dates(datetime.date(1950, 1, 1), datetime.date(2050, 1, 1)))
@settings(max_examples=60, deadline=None)
def test_a_told_period_holds_its_date_where_it_says(period, stamp, day):
    dates = days(str(day))
    try:
        span = date_periods(dates, period, stamp)[0].iloc[0]
    except DataError:
        assert (stamp, day.day > 28) == ("start", True) or (stamp, day.day) == ("end", 1)
        return
    assert span.period_start <= pd.Timestamp(day) <= span.period_end
    assert ({"start": span.period_start, "end": span.period_end}.get(stamp, pd.Timestamp(day))
            == pd.Timestamp(day))
    least, most = {"week": (7, 7), "month": (28, 31), "quarter": (89, 92), "half": (181, 184),
                   "year": (365, 366)}[period]
    assert least <= (span.period_end - span.period_start).days + 1 <= most


def test_a_read_file_never_knows_a_value_before_its_period_is_over():
    "Every file of dates: what is read, told or found out, is published after every day that it may be about."
    for freq, width in (("MS", 1), ("QS", 3), ("2QS", 6), ("YS", 12)):
        starts = pd.Series(pd.date_range("2000-01-01", periods=12, freq=freq))
        found = read(frame={"date": starts.dt.strftime("%Y-%m-%d"), "value": np.arange(12.0)}, lag="0D").facts
        assert (found.published.dt.tz_localize(None).to_numpy()
                >= (starts + pd.DateOffset(months=width)).to_numpy("datetime64[us]")).all()
        fred = read_facts("fred", frame=pd.DataFrame({"DATE": starts.dt.strftime("%Y-%m-%d"),
                                                      "X": np.arange(12.0)}), lag="0D").facts
        assert (fred.period_end.to_numpy() == found.period_end.to_numpy()).all()
    weekly = pd.DataFrame({"DATE": pd.date_range("2020-01-04", periods=6, freq="W-SAT").strftime("%Y-%m-%d"),
                           "ICSA": range(6)})
    first = read_facts("fred", frame=weekly, lag="5D").facts.iloc[0]
    assert (first[["period_start", "period_end"]].tolist()
            == [pd.Timestamp("2019-12-29"), pd.Timestamp("2020-01-04")])


def test_real_files_with_three_conventions(facts_folder):
    cpi = read_facts(f"macro:{facts_folder / 'cpi_us_monthly.csv'}", lag="14D", tz="UTC").facts
    assert str(cpi.published[0]) == "1913-02-15 00:00:00+00:00"
    flows = read_facts(facts_folder / "fund_flows_us_monthly.csv", lag="30D").facts
    assert (flows.period_start.dt.day == 1).all() and flows.period_start.min() == pd.Timestamp("2007-01-01")
    assert flows.period_end.min() == pd.Timestamp("2007-01-31")
    with pytest.raises(DataError, match="period"):
        read_facts(facts_folder / "fund_flows_us_weekly.csv", lag="7D")
    weekly = read_facts(facts_folder / "fund_flows_us_weekly.csv", lag="7D", period="week", stamp="end").facts
    assert str(weekly.published[0]) == "2011-10-13 00:00:00+00:00"
    assert weekly.period_start[0] == pd.Timestamp("2011-09-29")
    gdp = facts_folder / "gdp_world_bank_annual.csv"
    # asked before anything is read
    for how in ({"uri": f"macro:{gdp}"}, {"uri": gdp, "name": "gdp"}):
        with pytest.raises(DataError, match="Country Name"):
            read_facts(**how, lag="90D")
    one = read_facts(gdp, lag="90D", name="gdp", columns={"Country Code": "symbol"})
    assert len(one.facts) == len(pd.read_csv(gdp)) and one.facts.period_start[0].year == 1986
    assert one.facts.published[0] >= pd.Timestamp("1987-03-31", tz="UTC")
    some = pd.read_csv(gdp).query("Year > 2020")
    area = read_facts("macro", frame=some[some["Country Code"].isin(["USA", "DEU", "JPN"])], lag="90D",
                      columns={"Country Code": "area"}).facts
    assert set(area.symbol) == {"*"} and sorted(area.name.unique()) == ["value_deu", "value_jpn", "value_usa"]


@pytest.mark.parametrize("table", [{"year": ["2020"] * 2, "month": ["1", "2"], "value": [1, 2]},
                                   {"year": [2020, 2020], "period": ["M01", "M02"], "value": [1, 2]},
                                   {"Year": [2020, 2020], "Month": ["January", "February"], "value": [1, 2]},
                                   {"month": ["2020-01", "2020-02"], "value": [1, 2]}])
def test_years_and_months_in_columns_of_their_own(table):
    for found in (read(frame=table, lag="1D"),
                  read_facts("macro", frame=pd.DataFrame(table), lag="1D", tz="UTC")):
        assert found.facts.period_end.astype("str").tolist() == ["2020-01-31", "2020-02-29"]


def test_a_country_is_never_left_out():
    rows = {"date": ["2020", "2020"], "country": ["US", "DE"], "series": ["cpi"] * 2, "value": [1, 2]}
    with pytest.raises(DataError, match="`country`"):
        read_facts("macro", frame=pd.DataFrame(rows), lag="1D")
    found = read_facts("macro", frame=pd.DataFrame(rows), lag="1D", columns={"country": "area"}).facts
    assert found.name.tolist() == ["cpi_de", "cpi_us"] and set(found.symbol) == {"*"}
    # no word for a place, but it tells all rows apart
    other = {"date": ["2020", "2020"], "sector": ["a", "b"], "value": [1, 2]}
    with pytest.raises(DataError, match="`sector`"):
        read(frame=other, lag="1D")
    alone = {"date": ["2020", "2021"], "country": ["US", "US"], "value": [1, 2]}
    assert len(read(frame=alone, lag="1D").facts) == 2
    spliced = {"date": ["2020", "2021"], "country": ["US", "DE"], "value": [1, 2]}
    with pytest.raises(DataError, match="`country`"):
        read(frame=spliced, lag="1D")


def test_published_on_the_period_s_last_day_is_set_aside_by_name():
    table = {"period": ["2020-01", "2020-02", "2020-03"], "value": [1, 2, 3],
             "published": ["2020-01-31", "2020-02-15", "2020-04-01"]}
    found = read(frame=table, tz="America/New_York")
    assert found.facts.value.tolist() == [3.0]
    assert set(found.quarantine.reason) == {"it was published before its period was over, or on its last day"}
    day = read(frame={"period_end": ["2020-01-31"], "value": [1], "published": ["2020-01-31"]}, tz="UTC")
    assert len(day.facts) == 1 and "on the day that they are about" in " ".join(day.notes)
    short = read(frame={"period": ["2019"], "value": [1], "published": ["2020-05"]}, tz="UTC")
    assert str(short.facts.published[0]) == "2020-06-01 00:00:00+00:00"             # some day of May
    with pytest.raises(DataError, match="after the period"):
        as_facts([("A", "x", 1.0, "2020-01-01", "2020-01-31", "2020-01-31T00:00Z", "")])
    assert len(as_facts([("A", "x", 1.0, None, "2020-01-31", "2020-01-31T21:00Z", "")])) == 1


@pytest.mark.parametrize("field, value", [("period_end", "2019"), ("period_start", "2020-Q1"),
                                          ("published", "2020-05"), ("period_end", 2019)])
def test_a_frame_of_facts_takes_whole_dates_only(field, value):
    row = {"symbol": "A", "name": "x", "value": 1.0, "period_start": "2018-01-01", "period_end": "2018-12-31",
           "published": "2020-07-01T00:00Z", "origin": ""}
    with pytest.raises(DataError, match="whole dates"):
        as_facts(pd.DataFrame([row | {field: value}]))


def test_what_an_earlier_version_filed_too_early_counts_no_more_once_it_is_read_again():
    was = as_facts([("*", "gdp", float(y), None, f"{y}-01-01", f"{y}-02-16T00:00Z", "frame:0")
                    for y in range(2017, 2021)])
    assert misread_labels(was) == ["gdp"] and not superseded(was).any()
    now = read(frame={"period": [str(y) for y in range(2017, 2021)],
                      "value": [float(y) for y in range(2017, 2021)]}, lag="45D").facts
    both = as_facts(pd.concat([was, now]))
    assert superseded(both).sum() == 4 and not misread_labels(both)
    bars = pd.DataFrame({"symbol": "A",
                         "known_at": pd.to_datetime(["2020-02-14T20:00Z", "2020-02-15T20:00Z"])})
    assert asof_join(bars, was, ["gdp"]).gdp.tolist() == [2019.0, 2019.0]           # a year too early
    assert asof_join(bars, both, ["gdp"]).gdp.tolist() == [2018.0, 2019.0]


def test_labels_of_half_a_million_rows_are_read_once_each():
    found, _ = read_labels(pd.Series(np.tile(["2019", "2020-Q1", "2020-05", "2020-05-06"], 25_000)))
    assert len(found) == 100_000 and found.kind.value_counts().tolist() == [25_000] * 4
    assert parse_dates(pd.Series(["2019"]))[0][0] == pd.Timestamp("2019-01-01")
    assert parse_dates(pd.Series(["2019"]), last=True)[0][0] == pd.Timestamp("2019-12-31")
    assert frequency(days("2020-06-30", "2020-12-31", "2021-06-30")) == "half"
