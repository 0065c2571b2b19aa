"""What companies reported: lengths, restatements, amendments, and a server that stumbles."""

import json
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfin.core.errors import DataError
from mlfin.facts.fact_sources import fact_summary, read_facts
from mlfin.facts.facts import as_facts, as_known, asof_join, check_facts
from mlfin.facts.filings import CONCEPTS, LENGTHS, fourth_quarters, length_name
from mlfin.sources.http_client import RetryPolicy

from ..fixtures import exchange_server as fake

NEW_YORK = "America/New_York"


def filed(end, val, on, form="10-Q", start=None, accn=None):
    row = {"end": end, "val": val, "accn": accn or f"1-{on}", "fy": 2023, "fp": "Q1",
           "form": form, "filed": on}
    return row if start is None else row | {"start": start}


def company(cik=320193, **concepts):
    "The SEC's document: concepts are {name: {unit: rows}}; those of dei by their name."
    groups = {"dei": {}, "us-gaap": {}}
    for name, units in concepts.items():
        groups["dei" if name.startswith("Entity") else "us-gaap"][name] = {
            "label": name, "description": "", "units": units}
    return {"cik": cik, "entityName": "Made Up Inc.", "facts": groups}


@pytest.fixture
def sec(tmp_path):
    "sec(document, ...) reads it."
    def read(*documents, symbols=None, **how):
        for d in documents:
            (tmp_path / f"CIK{d['cik']:010}.json").write_text(json.dumps(d))
        return read_facts(f"sec:{tmp_path}", symbols, **how)
    return read


def values(reading, name):
    mine = reading.facts[reading.facts.name == name]
    return list(zip(mine.period_end.dt.strftime("%Y-%m-%d"), mine.value,
                    mine.published.dt.tz_convert(NEW_YORK).dt.strftime("%Y-%m-%d %H"), strict=True))


def test_lengths_get_names_of_their_own_and_a_restatement_its_own_day(sec):
    rows = [filed("2022-09-30", 30, "2022-11-04", start="2022-01-01"),
            filed("2022-09-30", 12, "2022-11-04", start="2022-07-01"),
            filed("2022-12-31", 41, "2023-02-20", "10-K", "2022-01-01"),
            filed("2022-12-31", 40, "2024-02-20", "10-K", "2022-01-01"),
            filed("2022-09-30", 12, "2023-11-03", start="2022-07-01"),
            filed("2022-06-30", 18, "2022-08-03", start="2022-01-01")]
    found = sec(company(Revenues={"USD": rows}), tickers={"AAPL": 320193})
    assert values(found, "revenue_annual") == [("2022-12-31", 41, "2023-02-21 00"),
                                               ("2022-12-31", 40, "2024-02-21 00")]
    assert values(found, "revenue_nine_months") == [("2022-09-30", 30, "2022-11-05 00")]
    assert values(found, "revenue_half")[0][1] == 18
    assert values(found, "revenue") == [("2022-09-30", 12, "2022-11-05 00"),
                                        ("2022-12-31", 11, "2023-02-21 00"),
                                        ("2022-12-31", 10, "2024-02-21 00")]
    assert set(found.facts.symbol) == {"AAPL"} and found.facts.origin.str.startswith("sec:").all()
    as_known(found.facts)                                                      # no name has two lengths
    bars = pd.DataFrame({"symbol": "AAPL", "known_at": pd.to_datetime([
        "2023-02-20T22:00Z", "2023-02-21T05:00Z", "2024-02-21T04:59Z", "2024-02-21T05:00Z"])})
    assert (asof_join(bars, found.facts, ["revenue_annual"]).revenue_annual.fillna(0).tolist()
            == [0, 41, 41, 40])


def test_a_day_of_filing_is_known_when_it_is_over_in_new_york_unless_the_moment_is_told(sec):
    counts = [filed("2024-06-01", 5, "2024-07-01", accn="a"), filed("2024-06-08", 6, "2024-12-02", accn="b")]
    document = company(EntityCommonStockSharesOutstanding={"shares": counts})
    assert (sec(document).facts.published.astype("str").tolist()
            == ["2024-07-02 04:00:00+00:00", "2024-12-03 05:00:00+00:00"])
    told = sec(document, accepted={"a": "2024-07-01T16:31:00-04:00"})
    assert (told.facts.published.astype("str").tolist()
            == ["2024-07-01 20:31:00+00:00", "2024-12-03 05:00:00+00:00"])
    assert told.facts.symbol.unique().tolist() == ["CIK0000320193"] and told.facts.period_start.isna().all()


def test_an_amendment_of_the_same_day_goes_before_and_nothing_is_lost(sec):
    rows = [filed("2023-03-31", 7, "2023-05-04", "10-Q/A", "2023-01-01", "0"),
            filed("2023-03-31", 5, "2023-05-04", "10-Q", "2023-01-01", "1"),
            filed("2023-06-30", 5, "2023-08-04", "10-Q", "2023-04-01", "2"),
            filed("2023-06-30", 6, "2023-08-04", "10-Q", "2023-04-01", "3"),
            filed("2023-09-30", 1, "2023-11-04", "10-Q", "2023-07-01", "4"),
            filed("2023-09-30", 2, "2023-11-04", "10-Q", "2023-07-01", "4")]
    found = sec(company(NetIncomeLoss={"USD": rows}))
    assert [v for _, v, _ in values(found, "net_income")] == [7, 6]
    assert found.quarantine.reason.value_counts().to_dict() == {
        "replaced by another filing of the same day": 2, "two values for one period and publication": 2}


def test_of_two_concepts_for_one_name_the_first_bears_it(sec):
    def row(value, on="2023-05-04"): return filed("2023-03-31", value, on, start="2023-01-01", accn=f"1-{on}")
    found = sec(company(Revenues={"USD": [row(10)]},
                        RevenueFromContractWithCustomerExcludingAssessedTax={"USD": [row(9)]},
                        CostOfRevenue={"USD": [row(4)]}, EarningsPerShareDiluted={"USD/shares": [row(0.4)]},
                        InventoryNet={"USD": [filed("2023-03-31", 3, "2023-05-04")]}))
    names = dict(zip(found.facts.name, found.facts.value, strict=True))
    assert names == {"revenue": 9, "revenues_quarter": 10, "cost_of_revenue_quarter": 4, "eps": 0.4,
                     "inventory_net": 3}
    mine = sec(company(CostOfRevenue={"USD": [row(4)]}), names={"CostOfRevenue": "costs"})
    assert mine.facts.name.tolist() == ["costs"]


def test_other_currencies_odd_periods_and_broken_rows_are_set_aside(sec):
    good = filed("2023-03-31", 1, "2023-05-04", start="2023-01-01")
    rows = [good, good | {"val": None}, good | {"val": "1,5"}, good | {"filed": "soon"},
            good | {"filed": None}, good | {"end": "2022-02-31"},
            good | {"start": "2023-02-20"}, good | {"start": "2023-06-01"}, good | {"filed": "2023-03-01"},
            good | {"filed": "2999-01-01"}, "nonsense", {}]
    found = sec(company(Revenues={"USD": rows, "EUR": [good]}))
    assert len(found.facts) == 1 and len(found.quarantine) == 12 and (found.quarantine.reason != "").all()
    assert "in EUR, not in USD or shares" in found.quarantine.reason.tolist()
    assert found.quarantine.raw.str.startswith("{").all()
    in_euro = sec(company(Revenues={"USD": rows[:1], "EUR": [good]}), currency="EUR")
    assert len(in_euro.facts) == 1 and in_euro.quarantine.reason.tolist() == ["in USD, not in EUR or shares"]


def test_forms_and_symbols_that_are_asked_for(sec):
    one = company(1, Revenues={"USD": [filed("2023-03-31", 1, "2023-05-04", "8-K", "2023-01-01"),
                                       filed("2023-06-30", 2, "2023-08-04", "10-Q", "2023-04-01")]})
    two = company(2, Revenues={"USD": [filed("2023-03-31", 1, "2023-05-04", "10-Q", "2023-01-01")]})
    found = sec(one, two, symbols=["A"], tickers={"A": 1, "B": 2, "A.B": 1}, forms=["10-Q"])
    assert found.facts.value.tolist() == [2] and "1 values of other forms" in found.notes[0]
    with pytest.raises(DataError, match="symbols"):
        sec(one, two, symbols=["C"], tickers={"A": 1})


def test_archives_and_the_file_of_tickers(tmp_path):
    rows = {"USD": [filed("2023-03-31", 1, "2023-05-04", start="2023-01-01")]}
    with zipfile.ZipFile(tmp_path / "companyfacts.zip", "w") as archive:
        for cik in (1, 2):
            archive.writestr(f"CIK{cik:010}.json", json.dumps(company(cik, Revenues=rows)))
    (tmp_path / "tickers.json").write_text(json.dumps(
        {"0": {"cik_str": 1, "ticker": "ONE", "title": "x"}, "1": {"cik_str": 2, "ticker": "TWO"},
         "2": {"cik_str": 1, "ticker": "ONE-B"}}))
    found = read_facts(f"sec:{tmp_path / 'companyfacts.zip'}", tickers=tmp_path / "tickers.json")
    assert found.facts.symbol.tolist() == ["ONE", "TWO"]
    for text, message in (("{", "not valid JSON"), ("[]", "company facts"), ('{"cik": 1}', "company facts"),
                          ('{"cik": "x", "facts": {}}', "company facts"),
                          ('{"cik": 1, "facts": {"us-gaap": {"A": {}}}}', "units"),
                          ("[" * 100_000, "not valid JSON")):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(DataError, match=message):
            read_facts(f"sec:{tmp_path / 'bad.json'}")
    (tmp_path / "torn.zip").write_bytes((tmp_path / "companyfacts.zip").read_bytes()[:60])
    with pytest.raises(DataError, match="no complete zip"):
        read_facts(f"sec:{tmp_path / 'torn.zip'}")


QUICK = RetryPolicy(tries=3, connect=2, read=0.5, answer=1, wait=10, backoff=0.001, sleep=lambda s: None)


def test_the_sec_is_asked_politely_and_again():
    document = company(Revenues={"USD": [filed("2023-03-31", 1, "2023-05-04", start="2023-01-01")]})
    agents, answers = [], iter([(503, {"error": "busy"}), (429, {"error": "slower"})])

    class Sec(fake.Json):
        def answer(self, request):
            agents.append(request.headers.get("User-Agent"))
            super().answer(request)

    with Sec(lambda path, asked: next(answers, document)) as server:
        how = dict(tickers={"AAPL": 320193}, base_url=server.url, retry=QUICK)
        found = read_facts("sec", ["AAPL"], user_agent="A Person person@example", **how)
        assert found.facts.symbol.tolist() == ["AAPL"] and agents == ["A Person person@example"] * 3
        assert server.asked[0][0] == "/api/xbrl/companyfacts/CIK0000320193.json"
        by_number = read_facts("sec", ["320193"], user_agent="x y", **how)
        assert by_number.facts.symbol.tolist() == ["320193"]
        for wrong, message in ((dict(user_agent=" "), "user_agent"),
                               (dict(user_agent="x", tickers={"B": 1}), "symbol")):
            with pytest.raises(DataError, match=message):
                read_facts("sec", ["AAPL"], **how | wrong)
        with pytest.raises(DataError, match="symbols"):
            read_facts("sec", **how, user_agent="x")


@pytest.mark.parametrize("status, message",
                         [(404, "CIK number"), (403, "name and an address"), (503, "asked 3 times")])
def test_a_refusal_is_said_in_words(status, message):
    with (fake.Json(lambda path, asked: (status, {"error": "no"})) as server,
          pytest.raises(DataError, match=message)):
        read_facts("sec", ["AAPL"], tickers={"AAPL": 1}, base_url=server.url, retry=QUICK, user_agent="x y")


_EVENTS = st.lists(st.tuples(st.sampled_from(["revenue", "revenue_annual", "revenue_nine_months"]),
                             st.integers(1, 4), st.integers(1, 400)), max_size=14)


def _made_up(rows):
    """The fourth quarter as it is known from day to day: {day: value} where it is new, from {(name, day):
    value}."""
    own, known, out, last = min((d for n, d in rows if n == "revenue"), default=10**6), {}, {}, None
    for day in sorted({d for _, d in rows}):
        known |= {n: v for (n, d), v in rows.items() if d == day}
        if day >= own or "revenue_annual" not in known or "revenue_nine_months" not in known: continue
        value = known["revenue_annual"] - known["revenue_nine_months"]
        if value != last: out[day] = value
        last = value
    return out


@given(st.lists(_EVENTS, min_size=6, max_size=6))
@settings(max_examples=25, deadline=None)
def test_a_fourth_quarter_is_never_known_before_what_it_is_made_of(worlds):
    "Each world is a symbol of its own."
    spans = {"revenue": ("2023-10-01", "2023-12-31"), "revenue_annual": ("2023-01-01", "2023-12-31"),
             "revenue_nine_months": ("2023-01-01", "2023-09-30")}
    begin, rows = (pd.Timestamp("2024-01-01", tz="UTC"),
                   [{(n, d): float(v) for n, v, d in events} for events in worlds])
    facts = as_facts([(f"S{i}", n, v, *spans[n], begin + pd.Timedelta(days=d), "")
                      for i, own in enumerate(rows) for (n, d), v in own.items()])
    made = check_facts(fourth_quarters(facts, ["revenue"]))
    found = {(row.symbol, (row.published - begin).days): row.value for row in made.itertuples()}
    assert found == {(f"S{i}", d): v for i, own in enumerate(rows) for d, v in _made_up(own).items()}
    assert len(found) == len(made)


@pytest.mark.parametrize("weeks, name", [(13, "quarter"), (14, "quarter"), (26, "half"), (39, "nine_months"),
                                         (40, "nine_months"), (52, "annual"), (53, "annual"),
                                         (20, None), (65, None)])
def test_fiscal_weeks(weeks, name):
    assert length_name(7 * weeks) == name and set(LENGTHS) > {"quarter", "annual"}
    assert "NetIncomeLoss" in CONCEPTS


def test_yahoo_needs_a_lag_where_it_has_no_earnings_date(tmp_path):
    income = pd.DataFrame({pd.Timestamp("2024-03-31"): [10.0, None], pd.Timestamp("2023-12-31"): [12.0, 3.0]},
                          index=["Total Revenue", "Cost Of Revenue"])
    sheet = pd.DataFrame({pd.Timestamp("2024-03-31"): [5.0]}, index=["Stockholders Equity"])
    earnings = pd.DataFrame(index=pd.DatetimeIndex(["2024-05-02 16:30", "2024-02-01 16:30"], tz=NEW_YORK))
    annual = pd.DataFrame({pd.Timestamp("2023-12-31"): [40.0]}, index=["Total Revenue"])
    given = {"quarterly_income_stmt": income, "quarterly_balance_sheet": sheet, "income_stmt": annual,
             "earnings_dates": earnings}
    with pytest.raises(DataError, match="`lag` must be given for `quarter`"):
        read_facts("yfinance", frames={"A": given})
    found = read_facts("yfinance", frames={"A": given}, lag={"quarter": "60D"})
    at = found.facts.set_index(["name", "period_end"]).published.dt.tz_convert(NEW_YORK).dt.strftime(
        "%m-%d %H:%M")
    assert at.tolist() == ["02-01 16:30", "05-31 00:00", "02-01 16:30", "05-02 16:30", "02-01 16:30"]
    assert found.facts.name.is_monotonic_increasing
    assert "cannot be seen" in found.notes[0]
    assert found.facts.period_start.iloc[-1] == pd.Timestamp("2023-01-01")
    for kind, frame in given.items():
        (tmp_path / "A").mkdir(exist_ok=True)
        frame.to_csv(tmp_path / "A" / f"{kind}.csv")
    again = read_facts(f"yfinance:{tmp_path}", lag={"quarter": "60D"})
    pd.testing.assert_frame_equal(again.facts.drop(columns="origin"), found.facts.drop(columns="origin"))
    old = read_facts("yfinance", frames={"A": given | {"earnings_dates": earnings[:0]}},
                     lag={"quarter": "60D", "annual": "90D"})
    assert (old.facts.published > found.facts.published).sum() == 4
    with pytest.raises(DataError, match="quarterly_income_stmt"):
        read_facts(f"yfinance:{tmp_path / 'nowhere'}", lag="60D")


def test_a_real_report_of_apple(market):
    found = read_facts(f"lean:{market / 'lean' / 'Tests' / 'TestData' / 'aapl_fine_fundamental.json'}")
    names = found.facts.set_index("name")
    assert (names.value[["revenue", "revenue_annual", "net_income", "eps"]].tolist()
            == [61_137e6, 229_234e6, 13_822e6, 2.73])
    assert (found.facts.published == pd.Timestamp("2018-05-03", tz=NEW_YORK)).all()
    assert names.period_start["revenue_half"] == pd.Timestamp("2017-10-01")
    assert found.facts.origin.unique().tolist() == ["lean:10-Q:0000320193-18-000070"]
    assert found.quarantine.reason.unique().tolist() == ["a balance of another day, which is not named"]
    as_known(found.facts)                                                      # one length a name
    assert len(fact_summary(found.facts)) == len(found.facts) and np.isfinite(found.facts.value).all()
    with pytest.raises(DataError, match="SecurityReference"):
        read_facts(f"lean:{market / 'freqtrade' / 'pairs.json'}")
