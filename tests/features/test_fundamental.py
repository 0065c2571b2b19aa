"""Features from facts: against row by row arithmetic on what was known, through splits, restatements and
silence."""
import gzip
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError, SpecError
from mlfin.market.actions import adjust_bars
from mlfin.market.bars import as_bars
from mlfin.market.calendars import session_bars
from mlfin.facts.facts import EVERYONE, FACTS, as_facts, known_facts, split_facts
from mlfin.features.fundamental import STALE, share_basis
from mlfin.leakage.lookahead import assert_no_lookahead
from mlfin.features.online import assert_parity
from mlfin.features.spec import definitions, families, parse
from mlfin.features.table import compute_features

pytestmark = pytest.mark.filterwarnings("ignore:No fact is called")
ANY = [
    f"fact_{w}_{n}"
    for w in ("value", "age", "year", "growth", "surprise", "yield")
    for n in ("eps", "revenue")
]
RATIOS = [d.name for d in definitions().values() if d.module == "mlfin.features.fundamental"]
FLOWS = ("revenue", "net_income", "operating_cash_flow", "dividends_per_share", "eps")
STOCKS = ("equity", "liabilities", "shares")


def company(symbol, seed, start="2018-01-01", quarters=20):
    "Quarters published late, restated, with two splits, from a generator of its own."
    rng, rows = np.random.default_rng(seed), []
    for end in pd.date_range(start, periods=quarters, freq="QE"):
        for name in (*FLOWS, *STOCKS):
            value = float(rng.normal(1, 2) if name in ("net_income", "eps") else rng.uniform(1, 5))
            at = (end + pd.Timedelta(hours=int(rng.integers(24 * 15, 24 * 90)))).tz_localize("UTC")
            begin = end - pd.offsets.QuarterBegin(startingMonth=1) if name in FLOWS else None
            rows.append((symbol, name, value, begin, end, at, "10-Q"))
            if rng.random() < 0.3:
                rows.append((symbol, name, value * 1.5, begin, end, at + pd.Timedelta("70D"), "10-Q/A"))
    for day, ratio in (("2019-06-10", 2.0), ("2021-03-01", 0.1)):
        at = pd.Timestamp(f"{day}T14:30Z") + pd.Timedelta(days=seed)
        rows.append(
            (
                symbol,
                "split",
                ratio,
                at.tz_localize(None).normalize(),
                at.tz_localize(None).normalize(),
                at,
                "",
            )
        )
    return rows


def daily(symbols=("A", "B"), start="2018-06-01", end="2023-06-30", step="5D"):
    ts = pd.date_range(start, end, freq=step, tz="UTC").as_unit("us") + pd.Timedelta("14h30min")
    rng = np.random.default_rng(4)
    parts = [pd.DataFrame({"symbol": s, "timeframe": "1d", "ts": ts, "known_at": ts + pd.Timedelta("6h30min"),
                           "close": rng.uniform(20, 60, len(ts)).round(2)}) for s in symbols]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="session")
def market() -> Path:
    "The folder of real market data, where it is there."
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "market"
    if not folder.is_dir():
        pytest.skip("../shared/data/market is not there")
    return folder


FACTS_ = as_facts([*company("A", 1), *company("B", 2)])


def slow(symbol, name, moment, facts=FACTS_):
    """(value, previous, year ago, year, age) of a fact at a moment, by hand; per share in the shares of the
    moment."""
    known = [r for r in facts.itertuples() if r.symbol == symbol and r.published <= moment]
    splits = [(r.published, r.value) for r in known if r.name == "split"]
    power = {"eps": -1, "dividends_per_share": -1, "shares": 1}.get(name, 0)
    def now(r): return r.value * np.prod([s for at, s in splits if at > r.published]) ** power
    last = {}
    for r in sorted((r for r in known if r.name == name), key=lambda r: r.published):
        if r.period_end in last and last[r.period_end].value == r.value:
            continue
        last[r.period_end] = r
    if not last:
        return (np.nan,) * 5
    ends = sorted(last)
    newest = ends[-1]
    age = (moment - last[newest].published) / pd.Timedelta("1D")
    if age > STALE:
        return np.nan, np.nan, np.nan, np.nan, age
    ago = [e for e in ends if abs(e - (newest - pd.DateOffset(years=1))) < pd.Timedelta("15D")]
    four = [e for e in ends if e > newest - pd.Timedelta("330D")]
    year = (
        now(last[newest]) if name in STOCKS else sum(now(last[e]) for e in four) if len(four) == 4 else np.nan
    )
    return (
        now(last[newest]),
        now(last[ends[-2]]) if len(ends) > 1 else np.nan,
        now(last[ago[0]]) if ago else np.nan,
        year,
        age,
    )


def test_every_number_by_hand():
    bars = daily()
    table = compute_features(bars, ANY + RATIOS, facts=FACTS_)
    assert sorted(RATIOS) == RATIOS and len(RATIOS) == 9
    def change(a, b): return (a - b) / abs(b)
    seen = 0
    for i, row in list(zip(bars.itertuples(), table.itertuples(), strict=True))[::17]:
        k = {n: slow(i.symbol, n, i.known_at) for n in (*FLOWS, *STOCKS)}
        worth = i.close * k["shares"][0]
        wanted = {
            "fact_value_eps": k["eps"][0],
            "fact_age_eps": k["eps"][4],
            "fact_year_eps": k["eps"][3],
            "fact_value_revenue": k["revenue"][0],
            "fact_growth_eps": change(k["eps"][0], k["eps"][2]),
            "fact_surprise_eps": change(k["eps"][0], k["eps"][1]),
            "fact_yield_eps": k["eps"][3] / i.close,
            "fact_yield_revenue": k["revenue"][3] / worth,
            "fact_growth_revenue": change(k["revenue"][0], k["revenue"][2]),
            "fact_year_revenue": k["revenue"][3],
            "log_market_cap": np.log(worth),
            "earnings_yield": k["net_income"][3] / worth,
            "book_to_price": k["equity"][0] / worth,
            "sales_to_price": k["revenue"][3] / worth,
            "cash_flow_to_price": k["operating_cash_flow"][3] / worth,
            "dividend_yield": k["dividends_per_share"][3] / i.close,
            "return_on_equity": k["net_income"][3] / k["equity"][0],
            "profit_margin": k["net_income"][3] / k["revenue"][3],
            "leverage": k["liabilities"][0] / k["equity"][0],
        }
        for name, value in wanted.items():
            np.testing.assert_allclose(
                getattr(row, name), value, rtol=1e-9, err_msg=f"{name} {i.symbol} {i.ts}"
            )
            seen += np.isfinite(value)
    assert seen > 600


def test_no_look_ahead():
    bars = daily(step="18D")
    specs = [*ANY, *RATIOS]
    assert assert_no_lookahead(specs, bars, cuts=4, facts=FACTS_) >= 8 * len(specs)
    full = compute_features(bars, specs, facts=FACTS_)
    for cut in bars.known_at.drop_duplicates()[10::25]:  # and with the facts of that day alone
        past = (bars.known_at <= cut).to_numpy()
        part = compute_features(bars[past].reset_index(drop=True), specs, facts=known_facts(FACTS_, cut))
        pd.testing.assert_frame_equal(part, full[past].reset_index(drop=True), check_exact=True)


def test_one_bar_at_a_time_gives_the_same_bits():
    bars = daily(step="20D")
    full = compute_features(bars, ANY + RATIOS, facts=FACTS_)
    for i in range(0, len(bars), 17):
        one = compute_features(bars[i:i + 1].reset_index(drop=True), ANY + RATIOS, facts=FACTS_)
        pd.testing.assert_frame_equal(one, full[i:i + 1].reset_index(drop=True), check_exact=True)


def test_never_restated_backwards():
    rows = [
        ("A", "equity", 10.0, None, "2020-03-31", "2020-05-01T00:00Z", ""),
        ("A", "equity", 99.0, None, "2020-03-31", "2021-05-01T00:00Z", ""),
    ]
    bars = daily(("A",), "2020-04-01", "2021-06-01", "1D")
    table = compute_features(bars, ["fact_value_equity", "fact_age_equity"], facts=as_facts(rows))
    first = bars.known_at < pd.Timestamp("2021-05-01T00:00Z")
    assert set(table.fact_value_equity[first].dropna()) == {10.0}
    assert set(table.fact_value_equity[~first]) == {99.0}
    assert table.fact_age_equity.max() < 366 and table.fact_age_equity.iloc[-1] < 32


def test_old_news_is_no_news():
    rows = [("A", "equity", 10.0, None, "2020-03-31", "2020-05-01T21:00Z", "")]
    bars = daily(("A",), "2020-05-01", "2022-06-01", "1D")
    table = compute_features(bars, ["fact_value_equity", "fact_age_equity"], facts=as_facts(rows))
    assert table.fact_value_equity.notna().sum() == STALE + 1 and table.fact_age_equity.notna().all()
    assert table.fact_age_equity[table.fact_value_equity.notna()].max() == STALE


def test_growth_from_a_loss_and_from_nothing():
    ends = pd.date_range("2018-12-31", periods=4, freq="YE")
    rows = [
        ("A", "net_income", v, e - pd.Timedelta("364D"), e, (e + pd.Timedelta("30D")).tz_localize("UTC"), "")
        for v, e in zip([-4.0, -2.0, 0.0, 3.0], ends, strict=True)
    ]
    bars = daily(("A",), "2019-02-15", "2022-03-01", "365D")
    table = compute_features(
        bars, ["fact_growth_net_income", "fact_surprise_net_income"], facts=as_facts(rows)
    )
    np.testing.assert_array_equal(table.fact_growth_net_income, [np.nan, 0.5, 1.0, np.nan])
    np.testing.assert_array_equal(table.fact_surprise_net_income, table.fact_growth_net_income)


def test_denominators_that_mean_nothing():
    rows = [("A", n, v, None, "2020-03-31", "2020-05-01T00:00Z", "") for n, v in
            (("equity", -1.0), ("liabilities", 3.0), ("net_income", 2.0), ("revenue", 0.0), ("shares", 0.0))]
    table = compute_features(
        daily(("A",), "2020-05-01", "2020-05-09", "1D"),
        [
            "return_on_equity",
            "leverage",
            "profit_margin",
            "earnings_yield",
            "log_market_cap",
            "book_to_price",
        ],
        facts=as_facts(rows),
    )
    assert table.iloc[:, 4:].isna().all().all()


def test_splits():
    ex = pd.Timestamp("2020-06-08T13:30Z")
    facts = as_facts([("A", "shares", 10.0, None, "2020-03-31", "2020-05-01T00:00Z", ""),
                      ("A", "eps", 7.0, None, "2020-03-31", "2020-05-01T00:00Z", ""),
                      ("A", "split", 7.0, "2020-06-08", "2020-06-08", ex, ""),
                      ("A", "eps", 1.1, None, "2020-06-30", "2020-07-25T00:00Z", "")])
    bars = daily(("A",), "2020-06-05", "2020-07-31", "1D")
    table = compute_features(bars, ["fact_value_eps", "fact_value_shares", "fact_surprise_eps"], facts=facts)
    day = bars.ts.dt.strftime("%m-%d")
    assert table.fact_value_eps[day <= "06-07"].eq(7).all()
    assert table.fact_value_shares[day <= "06-07"].eq(10).all()
    assert table.fact_value_eps[day.between("06-08", "07-24")].eq(1).all()
    assert table.fact_value_shares[day >= "06-08"].eq(70).all()
    np.testing.assert_allclose(table.fact_surprise_eps.iloc[-1], 0.1)  # 1.1 after 1, not after 7
    late = facts.assign(published=facts.published.where(facts.name != "split", ex + pd.Timedelta("10D")))
    known = compute_features(bars, ["fact_value_eps"], facts=as_facts(late)).fact_value_eps
    assert known[day <= "06-17"].eq(7).all() and known[day.between("06-19", "07-24")].eq(1).all()
    for bad, why in (
        (
            ("A", "split", 2.0, "2020-06-08", "2020-06-08", ex + pd.Timedelta("1D"), ""),
            "one a symbol and day",
        ),
        (("A", "split", 0.0, "2020-06-09", "2020-06-09", ex + pd.Timedelta("1D"), ""), "above zero"),
    ):
        with pytest.raises(DataError, match=why):
            compute_features(
                bars,
                ["fact_value_eps"],
                facts=as_facts(
                    pd.concat(
                        [
                            facts,
                            pd.DataFrame([bad], columns=list(FACTS)).assign(
                                published=lambda f: pd.to_datetime(f.published, utc=True)
                            ),
                        ]
                    )
                ),
            )


def test_share_basis_by_hand():
    ex = pd.to_datetime(["2020-01-10T14:30Z", "2021-01-10T14:30Z"])
    facts = split_facts(
        [
            ("A", ex[0], "split", 3.0, ex[0], ""),
            ("A", ex[1], "split", 0.5, ex[1], ""),
            ("B", ex[0], "split", 4.0, ex[0], ""),
        ]
    )
    at = pd.Series(
        pd.to_datetime(
            [
                "2020-01-10T14:29Z",
                "2020-01-10T14:30Z",
                "2022-01-01T00:00Z",
                "2022-01-01T00:00Z",
                "2022-01-01T00:00Z",
            ]
        )
    )
    assert share_basis(facts, pd.Series(["A", "A", "A", "B", "C"]), at).tolist() == [1, 3, 1.5, 4, 1]


def test_adjusted_and_raw_bars_give_the_same():
    bars = daily(("A",), step="1D")
    bars = as_bars(bars.assign(open=bars.close, high=bars.close, low=bars.close, volume=1.0))
    ex = bars.ts[400]
    actions = [("A", ex, "split", 4.0, ex, ""), ("A", bars.ts[600], "dividend", 0.5, bars.ts[600], "")]
    raw = bars.assign(
        **{c: bars[c].where(bars.ts < ex, bars[c] / 4) for c in ("open", "high", "low", "close")}
    )
    facts = as_facts([r for r in company("A", 1) if r[1] != "split"])
    facts = as_facts(pd.concat([facts, split_facts(actions)]))
    specs = ["fact_yield_eps", "earnings_yield", "log_market_cap", "dividend_yield"]
    wanted = compute_features(raw, specs, facts=facts)
    for mode in ("splits", "total"):
        for anchor in ("start", "end"):
            got = compute_features(
                adjust_bars(raw, actions, mode, anchor, already="apply"), specs, facts=facts
            )
            pd.testing.assert_frame_equal(got, wanted, rtol=1e-12)
    step = np.log(raw.close[400] / raw.close[399]) + np.log(4)
    np.testing.assert_allclose(wanted.log_market_cap.diff()[400], step)


def test_facts_of_everyone():
    facts = as_facts(
        [
            (EVERYONE, "cpi", v, s, e, p, "")
            for v, s, e, p in (
                (2.0, "2019-03-01", "2019-03-31", "2019-04-10T12:30Z"),
                (3.0, "2020-03-01", "2020-03-31", "2020-04-10T12:30Z"),
            )
        ]
    )
    table = compute_features(
        daily(("A", "B"), "2020-04-01", "2020-04-20", "1D"),
        ["fact_growth_cpi", "fact_value_cpi"],
        facts=facts,
    )
    for _, own in table.groupby("symbol"):
        assert own.fact_value_cpi.tolist() == [2.0] * 9 + [3.0] * 11
        np.testing.assert_array_equal(own.fact_growth_cpi, [np.nan] * 9 + [0.5] * 11)


def test_a_name_that_no_fact_has():
    with pytest.warns(UserWarning, match="No fact is called `epss`; did you mean `eps`"):
        table = compute_features(daily(), ["fact_value_epss"], facts=FACTS_)
    assert table.fact_value_epss.isna().all()
    with pytest.warns(UserWarning, match="No fact is called `eps`"):
        assert (
            compute_features(daily(), ["fact_yield_eps", "fact_age_eps"], facts=as_facts([]))
            .iloc[:, 4:]
            .isna()
            .all()
            .all()
        )


def test_requests_that_cannot_be():
    bars = daily()
    with pytest.raises(DataError, match="`facts` must be a facts frame, which earnings_yield reads"):
        compute_features(bars, ["earnings_yield"])
    with pytest.raises(DataError, match="`facts` must be"):
        compute_features(bars, ["earnings_yield"], facts=FACTS_.drop(columns="published"))
    with pytest.raises(DataError, match="no close"):
        compute_features(bars.drop(columns="close"), ["earnings_yield"], facts=FACTS_)
    assert (
        compute_features(bars.drop(columns="close"), ["profit_margin"], facts=FACTS_)
        .profit_margin.notna()
        .any()
    )
    for bad, why in (
        ("fact_growth_revenue_4", "name of a fact"),
        ("fact_yield_shares", "counts shares"),
        ("fact_eps", "no such feature"),
    ):
        with pytest.raises(SpecError, match=why):
            parse(bad)
    assert parse("fact_growth_net_income").facts == ("net_income",)
    assert str(parse("fact_age_cpi")) == "fact_age_cpi"
    assert {n for n in families() if n.startswith("fact_")} == {
        f"fact_{w}" for w in ("value", "age", "year", "growth", "surprise", "yield")
    }


def test_a_real_report_and_its_split(market):
    """Apple in 2018 beside its real price: the yield that anyone can check, and its split of 2014 taken from
    the real bars."""
    report = json.loads((market / "lean" / "Tests" / "TestData" / "aapl_fine_fundamental.json").read_text())
    income = report["FinancialStatements"]["IncomeStatement"]["20091"]["12M"]
    assert income == 48_351e6
    with zipfile.ZipFile(market / "lean" / "Data" / "equity" / "usa" / "daily" / "aapl.zip") as z:
        raw = pd.read_csv(
            z.open(z.namelist()[0]), header=None, names=["day", "open", "high", "low", "close", "volume"]
        )
    day = pd.to_datetime(raw.day.str[:8], format="%Y%m%d")
    raw = raw[(day >= "2014-01-02") & (day <= "2018-12-31")].reset_index(drop=True)
    times = session_bars(pd.to_datetime(raw.day.str[:8], format="%Y%m%d"), "XNYS")
    prices = {c: raw[c] / 10_000 for c in ("open", "high", "low", "close")}
    bars = as_bars(times.assign(symbol="AAPL", timeframe="1d", **prices, volume=raw.volume.astype(float)))
    ex = pd.Timestamp("2014-06-09T13:30Z")
    facts = as_facts(
        [
            ("AAPL", "net_income", income, "2017-04-01", "2018-03-31", "2018-05-02", "10-Q"),
            ("AAPL", "shares", 4_915_138_000.0, None, "2018-04-20", "2018-05-02", "10-Q"),
            ("AAPL", "eps", 40.24, "2012-09-30", "2013-09-28", "2013-10-30", "10-K"),
        ],
        tz="America/New_York",
    )
    facts = as_facts(pd.concat([facts, split_facts([("AAPL", ex, "split", 7.0, ex, "")])]))
    table = compute_features(
        bars, ["earnings_yield", "fact_yield_eps", "log_market_cap"], facts=facts
    ).set_index(bars.ts.dt.strftime("%Y-%m-%d"))
    assert np.isnan(table.earnings_yield["2018-05-02"])
    assert (table.earnings_yield.notna() == (table.index >= "2018-05-03")).all()
    close = bars.set_index(bars.ts.dt.strftime("%Y-%m-%d")).close
    np.testing.assert_allclose(
        table.earnings_yield["2018-05-04"], 48_351e6 / (4_915_138_000 * close["2018-05-04"]), rtol=1e-14
    )
    assert 0.05 < table.earnings_yield["2018-05-04"] < 0.06
    assert 27.3 < table.log_market_cap["2018-05-04"] < 27.6
    assert close["2014-06-06"] > 600 and close["2014-06-09"] < 100
    around = table.fact_yield_eps["2014-06-05":"2014-06-10"]
    np.testing.assert_allclose(
        around, [40.24 / 647.3, 40.24 / 645.5, 40.24 / 7 / 93.7, 40.24 / 7 / 94.2], rtol=0.01
    )
    assert around.max() / around.min() < 1.05


def test_a_real_macro_series(market):
    "Growth of US core consumer prices beside pandas' own."
    with gzip.open(market / "pypi_arch" / "core-cpi.csv.gz") as f:
        cpi = pd.read_csv(f)
    month = pd.to_datetime(cpi.Date, format="%m/%d/%Y")
    published = (month + pd.Timedelta("45D12h")).dt.tz_localize("UTC")
    facts = as_facts(
        pd.DataFrame(
            {
                "symbol": EVERYONE,
                "name": "core_cpi",
                "value": cpi.CPILFESL,
                "origin": "arch",
                "period_start": month,
                "period_end": month + pd.offsets.MonthEnd(),
                "published": published,
            }
        )
    )
    bars = daily(("A",), "1990-01-01", "2016-01-01", "7D")
    table = compute_features(
        bars, ["fact_growth_core_cpi", "fact_age_core_cpi", "fact_surprise_core_cpi"], facts=facts
    )
    slow_ = pd.DataFrame({"at": published, "g": cpi.CPILFESL.pct_change(12), "s": cpi.CPILFESL.pct_change()})
    wanted = pd.merge_asof(
        bars.assign(at=bars.known_at), slow_.assign(at=slow_["at"].astype(bars.known_at.dtype)), on="at"
    )
    np.testing.assert_allclose(table.fact_growth_core_cpi, wanted.g, rtol=1e-12)
    np.testing.assert_allclose(table.fact_surprise_core_cpi, wanted.s, rtol=1e-9, atol=1e-15)
    assert table.fact_age_core_cpi.between(0, 32).all()


def test_other_facts_of_the_same_frame():
    "What was made of a facts frame does not outlive a change of it."
    facts = as_facts([("A", "equity", 10.0, None, "2020-03-31", "2020-05-01T00:00Z", "")])
    bars = daily(("A",), "2020-05-02", "2020-05-03", "1D")
    assert compute_features(bars, ["fact_value_equity"], facts=facts).fact_value_equity.tolist() == [
        10.0,
        10.0,
    ]
    facts.loc[0, "value"] = 20.0
    assert compute_features(bars, ["fact_value_equity"], facts=facts).fact_value_equity.tolist() == [
        20.0,
        20.0,
    ]


def test_bar_by_bar_is_the_table():
    bars = daily(step="80D")
    assert (
        assert_parity(
            ["fact_yield_eps", "fact_growth_revenue", *RATIOS], bars.assign(factor=2.0), facts=FACTS_
        )
        == len(bars) * 11
    )
