"""Every folder of real market data that holds bars, and what was found in it when it was read."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.market.bars import as_bars, check_bars
from mlfin.quality.cleaning import clean
from mlfin.sources.read_result import ReadResult
from mlfin.sources.sources import read_bars, read_parts

LIMIT = 2**20  # parts of 128 KiB of text
NY, FIVE = {"calendar": "XNYS"}, {"timeframe": "5m"}
VOLUME = "no volume column: the volume is 0"
MIDDLE = ("prices are the middle of bid and ask", "quotes have no volume: it is 0")

# path below the folder of market data (SOURCE:PATH where the ending does not tell), how to read it,
# bars, symbols, quarantine by reason, notes
FOUND = [("cinar_brkb/*.csv", {"symbol_from": "(brk-b)", **NY}, 251, ["brk-b"], {}, ()), (
    "freqtrade/*_BTC-5m.feather",
    {"symbol_from": r"(.+)-5m", **FIVE},
    63_306,
    "ADA_BTC DASH_BTC ETC_BTC ETH_BTC LTC_BTC NXT_BTC TRX_BTC UNITTEST_BTC XLM_BTC XMR_BTC ZEC_BTC".split(),
    {},
    (),
),
    ("freqtrade/UNITTEST_BTC-1m.feather", {"symbol": "U", "timeframe": "1m"}, 13_681, ["U"], {}, ()),
    ("freqtrade/UNITTEST_BTC-1m.json", {"symbol": "U", "timeframe": "1m"}, 13_681, ["U"], {}, ()),
    ("freqtrade/UNITTEST_BTC-30m.feather", {"symbol": "U", "timeframe": "30m"}, 1_920, ["U"], {}, ()),
    ("freqtrade/XRP_ETH-1m.feather", {"symbol": "XRP/ETH", "timeframe": "1m"}, 2_469, ["XRP/ETH"], {}, ()),
    ("freqtrade/XRP_ETH-5m.feather", {"symbol": "XRP/ETH", "timeframe": "5m"}, 706, ["XRP/ETH"], {}, ()),
    (
        "freqtrade/futures/*-1h-futures.feather",
        {"symbol_from": "([A-Z]+)", "timeframe": "1h"},
        100,
        ["XRP"],
        {},
        (),
    ),
    (
        "freqtrade/futures/*-1h-futures.json.gz",
        {"symbol_from": "([A-Z]+)", "timeframe": "1h"},
        100,
        ["XRP"],
        {},
        (),
    ),
    ("freqtrade/futures/*-5m-futures.feather", {"symbol_from": "([A-Z]+)", **FIVE}, 1_999, ["XRP"], {}, ()),
    (
        "freqtrade/futures/*-1h-mark.feather",
        {"symbol_from": "([A-Z]+)", "timeframe": "1h"},
        200,
        ["UNITTEST", "XRP"],
        {},
        ("the volume column is empty: the volume is 0",),
    ),
    ("freqtrade/orderflow/candles.json", {"symbol": "A", **FIVE}, 10_999, ["A"], {}, ()),
    ("freqtrade/orderflow/populate*.feather", {"symbol_from": "(DF)", **FIVE}, 999, ["DF"], {}, ()),
    (
        "mt5_eurusd_m1_hedgehogger/EURUSD_M1_0-10k.csv",
        {"symbol": "EURUSD", "timeframe": "1m", "tz": "UTC"},
        9_999,
        ["EURUSD"],
        {},
        (),
    ),
    (
        "mt5_eurusd_m1_hedgehogger/EURUSD_M1_90-100k.csv",
        {"symbol": "EURUSD", "timeframe": "1m", "tz": "UTC"},
        9_999,
        ["EURUSD"],
        {},
        (
            "the 7th column has no name; it is read as MetaTrader's spread",
            "the spread counts points of 0.00001 (the decimals of the prices); it is stored in price units",
        ),
    ),
    *(
        (
            f"mt5_us30m/*_{name}_*.csv",
            {"symbol_from": "(US30)", "timeframe": timeframe, "tz": "UTC"},
            rows,
            ["US30"],
            {},
            (
                "VOL is 0 throughout; the volume is TICKVOL",
                "the spread counts points of 0.1 (the decimals of the prices); it is stored in price units",
            ),
        )
        for name, timeframe, rows in (("Daily", "1d", 527), ("H1", "1h", 9_890), ("H4", "4h", 2_662))
    ),
    (
        "nautilus/ADABTC-*.csv",
        {"symbol_from": r"(\w+)-1m", "timeframe": "1m"},
        21,
        ["ADABTC"],
        {},
        ("no header: read as Binance's klines",),
    ),
    (
        "nautilus/btc-perp-*.csv",
        {"symbol_from": "(btc)", "timeframe": "1m", "tz": "UTC"},
        45_031,
        ["btc"],
        {},
        (),
    ),
    ("nautilus/xcme", {"symbol_from": r"^(\w+)\.", "timeframe": "1m"}, 29_996, ["6EH4"], {}, ()),
    ("pypi_arch/*s*.csv.gz", {"symbol_from": "^(nasdaq|sp500)", **NY}, 10_062, ["nasdaq", "sp500"], {}, ()),
    ("pypi_bokeh_sampledata/stocks.csv.gz", NY, 12_154, ["AAPL", "FB", "GOOG", "IBM", "MSFT"], {}, ()),
    (
        "pypi_gym_anytrading/FOREX_EURUSD_1H_ASK.csv",
        {"symbol": "EURUSD", "timeframe": "1h", "tz": "UTC"},
        6_225,
        ["EURUSD"],
        {},
        (),
    ),
    ("pypi_gym_anytrading/STOCKS_GOOGL.csv", {"symbol": "GOOGL", **NY}, 2_335, ["GOOGL"], {}, ()),
    ("yfinance/*-1d-*[a-z].csv", {"symbol_from": r"^(.+?)-1d"}, None, None, {"`open` is missing": 6}, ()),
    ("yfinance/ASAI-L-1h-*.csv", {"symbol_from": r"^(.+?)-1h", "timeframe": "1h"}, 40, ["ASAI-L"], {}, ()),
    ("zipline/csvdir", NY, 3_016, ["AAPL", "IBM", "KO", "MSFT"], {}, ()),
    ("zipline/quandl", NY, 916, ["AAPL", "BRK_A", "MSFT", "ZEN"], {}, ()),
    ("lean:lean/Data/equity/usa/daily", NY, 70_025, 21, {}, ()),
    ("lean:lean/Data/equity/usa/hour", {"timeframe": "1h"}, 122_476, ["AAPL", "IBM", "SPY"], {}, ()),
    ("lean:lean/Data/forex/oanda/daily", {}, 14_952, ["EURGBP", "EURUSD", "GBPUSD", "NZDUSD"], {}, MIDDLE),
    ("lean:lean/Data/forex/oanda/hour", {"timeframe": "1h"}, 74_439, ["EURUSD"], {}, MIDDLE),
    ("lean:lean/Data/cfd/oanda/daily", {}, 3_949, ["XAUUSD"], {}, MIDDLE),
    ("lean:lean/Data/crypto/coinbase/daily", {}, 1_318, ["BTCUSD"], {}, ()),
    ("lean:lean/Data/crypto/coinbase/daily/*_quote.zip", {}, 1_332, ["BTCUSD"], {}, MIDDLE),
    ("lean:lean/Data/crypto/binance/hour", {"timeframe": "1h"}, 120, ["BTCUSDT"], {}, ()),
    ("lean:lean/Data/crypto/bitfinex/hour", {"timeframe": "1h"}, 733, ["BTCUSD"], {}, ()),
    ("lean:lean/Data/cryptofuture/binance/daily", {}, 9, ["ADAUSDT"], {}, ()),
    ("lean:lean/Data/cryptofuture/binance/hour", {"timeframe": "1h"}, 24, ["ADAUSDT"], {}, ()),
    ("lean:lean/Data/future/cme/daily/es_trade.zip#es_trade_201312.csv", {}, 61, ["ES_201312"], {}, ()),
    *(
        (
            f"lean:lean/Data/{place}",
            {"timeframe": "1m"},
            rows,
            [Path(place.partition("/*")[0]).name.upper()],
            aside,
            notes,
        )
        for place, rows, aside, notes in (
            ("cfd/oanda/minute/xauusd", 15_222, {}, MIDDLE),
            ("crypto/binance/minute/btcbusd", 1_440, {}, ()),
            ("crypto/bybit/minute/btcusdt", 1_440, {}, ()),
            ("crypto/coinbase/minute/btceur", 3_663, {}, ()),
            ("crypto/coinbase/minute/btceur/*_quote.zip", 4_313, {}, MIDDLE),
            ("crypto/coinbase/minute/btcusd", 12_423, {}, ()),
            ("crypto/coinbase/minute/ethusd", 5_329, {}, ()),
            ("crypto/coinbase/minute/ltcusd", 3_887, {}, ()),
            ("cryptofuture/binance/minute/adausdt", 1_440, {}, ()),
            ("cryptofuture/binance/minute/btcusd", 1_439, {}, ()),
            ("cryptofuture/bybit/minute/btcusd", 721, {}, ()),
            ("cryptofuture/bybit/minute/btcusdt", 721, {}, ()),
            ("equity/usa/minute/aapl", 2_303, {}, ()),
            ("equity/usa/minute/goog", 1_091, {}, ()),
            ("equity/usa/minute/spy", 5_786, {}, ()),
            ("equity/usa/minute/spy/*_quote.zip", 6_373, {}, MIDDLE),
            ("equity/usa/minute/twx", 1_206, {}, ()),
            ("equity/usa/minute/twx/*_quote.zip", 1_464, {"`open` is missing": 5}, MIDDLE),
            ("forex/oanda/minute/eurusd", 18_184, {}, MIDDLE),
        )
    ),
]

# what is no file of bars, or lies: path, how it is read, what the error says
REFUSED = [
    ("freqtrade/UNITTEST_BTC-8m.feather", {}, "UNITTEST_BTC-8m.feather is empty: it has 0 bytes"),
    ("freqtrade/NOPAIR_XXX-4m.json", {}, "NOPAIR_XXX-4m.json holds no rows"),
    ("freqtrade/UNITTEST_BTC-8m.json.gz", {"timeframe": "1m"}, "bars stand 0 days 00:01:00 apart, got '8m'"),
    ("freqtrade/pairs.json", {}, "JSON of bars, got 'a list of str'"),
    ("freqtrade/XRP_ETH-trades.json.gz", {}, "its rows have 7 values and no names"),
    ("freqtrade/XRP_ETH-trades.feather", {}, "missing: open, high, low, close"),
    ("freqtrade/kraken/trades_csv", {}, "columns="),
    ("nautilus/truefx", {}, "missing: open, high, low, close"),
    ("nautilus/binance/btcusdt-quotes.parquet", {}, "missing: open, high, low, close"),
    ("pypi_arch/wti.csv.gz", {}, "missing: open, high, low, close"),
    ("pypi_mlfinpy/dollar_bar_sample.csv", {"timeframe": "1m", "tz": "UTC"}, "times between the minutes"),
    ("pypi_mlfinpy/stock_prices.csv.gz", {}, "missing: open, high, low, close"),
    ("pypi_mlfinpy/tick_data.csv.gz", {}, "missing: open, high, low"),
    ("pypi_skfolio/sp500_dataset.csv.gz", {}, "missing: open, high, low, close"),
    ("zipline/SPY_benchmark.csv", {}, "missing: open, high, low, close"),
    ("lean:lean/Data/future/cme/daily", {}, "one of es_"),
]


def address(market: Path, place: str) -> str:
    "A place below the folder of market data as read_bars wants it."
    source, colon, path = place.rpartition(":")
    return f"{source}{colon}{market / path}"


def joined(parts: list[ReadResult]) -> ReadResult:
    "What the parts say together."
    bars = pd.concat([p.bars for p in parts], ignore_index=True)
    adjusted = [p.adjusted_close for p in parts if p.adjusted_close is not None]
    notes = tuple(dict.fromkeys(n for p in parts for n in p.notes))
    places = tuple(dict.fromkeys(place for p in parts for place in p.parts))
    (origin,) = {p.origin for p in parts}
    (content,) = {p.content_hash for p in parts}
    return ReadResult(
        bars,
        np.concatenate([p.rows for p in parts]),
        pd.concat([p.quarantine for p in parts], ignore_index=True),
        origin,
        content,
        pd.concat(adjusted, ignore_index=True) if adjusted else None,
        notes,
        places,
    )


def agree(whole: ReadResult, parts: list[ReadResult]):
    "That the parts say together what the file says that is read whole."
    found = joined(parts)
    pd.testing.assert_frame_equal(found.bars[list(whole.bars)], whole.bars, check_exact=True)
    pd.testing.assert_frame_equal(found.quarantine, whole.quarantine)
    assert np.array_equal(found.rows, whole.rows)
    assert (found.origin, found.content_hash, found.notes, found.parts) == (
        whole.origin,
        whole.content_hash,
        whole.notes,
        whole.parts,
    )
    assert (found.adjusted_close is None) == (whole.adjusted_close is None)
    if whole.adjusted_close is not None:
        pd.testing.assert_series_equal(found.adjusted_close, whole.adjusted_close)


@pytest.mark.parametrize("place, how, rows, symbols, aside, notes", FOUND, ids=[f[0] for f in FOUND])
def test_what_was_found(market, place, how, rows, symbols, aside, notes):
    "Whole, and the same in parts."
    if place.startswith("pypi_arch"):  # two of its nine files hold bars
        files = [(market / "pypi_arch" / f"{n}.csv.gz", NY | {"symbol": n}) for n in ("nasdaq", "sp500")]
    elif (
        place == "yfinance/*-1d-*[a-z].csv"
    ):  # dirty and repaired files of one symbol are two versions, not one panel
        files = [(p, {"symbol": p.name.partition("-1d")[0], "tz": "UTC"}) for p in sorted(market.glob(place))]
        assert len(files) == 41
        symbols, rows = sorted({f[1]["symbol"] for f in files}), 22_724
    else:
        files = [(address(market, place), how)]
    readings = [read_bars(uri, **how) for uri, how in files]
    named = sorted({s for r in readings for s in r.bars.symbol})
    assert len(named) == symbols if isinstance(symbols, int) else named == symbols
    reasons = [reason for r in readings for reason in r.quarantine.reason]
    assert {reason: reasons.count(reason) for reason in reasons} == aside
    if rows is not None:
        assert sum(len(r.bars) for r in readings) == rows
    for reading in readings:
        assert reading.notes == notes and len(reading.bars)
        assert sorted(reading.rows) == sorted(set(reading.rows))
        assert (reading.quarantine.origin.str.contains(":")).all()
        assert as_bars(reading.bars) is not None and re.fullmatch(r"\w+:[0-9a-f]{12}", reading.origin)
    if "/minute/" in place: return  # LEAN's files of minutes are small: each is a part
    for reading, (uri, how) in zip(readings, files, strict=True):
        agree(reading, list(read_parts(uri, limit=LIMIT, **how)))


@pytest.mark.parametrize("place, how, says", REFUSED, ids=[r[0] for r in REFUSED])
def test_what_is_refused(market, place, how, says):
    how = how if place.startswith("lean") else {"symbol_from": "name"} | how
    with pytest.raises(DataError, match=re.escape(says)) as caught:
        read_bars(address(market, place), **how)
    assert "Hint:" in str(caught.value) or "got" in str(caught.value)
    with pytest.raises(DataError, match=re.escape(says)) as parts:
        list(read_parts(address(market, place), limit=LIMIT, **how))
    assert str(caught.value).split("\n")[-1] == str(parts.value).split("\n")[-1]


@pytest.mark.parametrize(
    "pair, year, rows, crossed", [("gbpusd", 2012, 30_117, 347), ("usdjpy", 2013, 28_761, 683)]
)
def test_bid_and_ask(market, pair, year, rows, crossed):
    bid, ask = (market / "nautilus" / "fxcm" / f"{pair}-m1-{side}-{year}.csv" for side in ("bid", "ask"))
    reading = read_bars(bid, symbol=pair, timeframe="1m", ask=ask)
    assert len(reading.bars) == rows and reading.quarantine.empty
    assert (reading.bars.spread < 0).sum() == crossed
    assert reading.notes == (VOLUME, "prices are the middle of bid and ask")
    assert len(reading.parts) == 2 and reading.parts[0][0].startswith("csv:")


def test_lean_prices_are_dollars(market):
    daily = read_bars(f"lean:{market}/lean/Data/equity/usa/daily/aapl.zip", **NY).bars
    assert list(daily.loc[0, ["open", "high", "low", "close", "volume"]]) == [
        13.63,
        16.25,
        13.5,
        16.25,
        6_315_000,
    ]
    assert str(daily.ts[0]) == "1998-01-02 14:30:00+00:00"
    quotes = read_bars(
        f"lean:{market}/lean/Data/equity/usa/minute/aapl/20140605_quote.zip", timeframe="1m"
    ).bars
    assert str(quotes.ts[0]) == "2014-06-05 08:00:00+00:00"  # 14,400,000 ms after midnight in New York
    assert quotes.open[0] == (643.80 + 646.00) / 2 and quotes.spread[0] == pytest.approx(646.00 - 644.06)


def test_day_first_dates_are_not_swapped(market):
    bars = read_bars(
        market / "pypi_gym_anytrading" / "FOREX_EURUSD_1H_ASK.csv", symbol="E", timeframe="1h", tz="UTC"
    ).bars
    assert bars.ts.is_monotonic_increasing and set(bars.ts.dt.year) == {2017}
    assert (
        bars.ts.dt.month.value_counts().min() > 400
    )  # swapped, eleven months would have lost their first days


def test_the_files_of_one_pair_agree(market):
    feather, text = (
        read_bars(market / "freqtrade" / f"UNITTEST_BTC-1m.{ending}", symbol="U", timeframe="1m").bars
        for ending in ("feather", "json")
    )
    pd.testing.assert_frame_equal(feather, text, rtol=1e-13)  # the feather was made by a parser that rounds
    liar = read_bars(
        market / "freqtrade" / "UNITTEST_BTC-8m.json.gz", symbol="U", timeframe="1m", check_name=False
    ).bars
    assert liar.equals(text)


@pytest.mark.parametrize(
    "name, off, against", [("EURUSD_M1_0-10k.csv", 326, 231), ("EURUSD_M1_90-100k.csv", 321, 219)]
)
def test_prices_of_a_thousand_are_kept_for_cleaning(market, name, off, against):
    reading = read_bars(
        market / "mt5_eurusd_m1_hedgehogger" / name, symbol="EURUSD", timeframe="1m", tz="UTC"
    )
    prices = reading.bars[["open", "high", "low", "close"]]
    assert (prices > 100).any(axis=1).sum() == off
    assert (
        (prices.max(axis=1) > reading.bars.high) | (prices.min(axis=1) < reading.bars.low)
    ).sum() == against
    kept, aside = clean(reading.bars, None, reading.origin, reading.rows)
    assert check_bars(kept) is kept and len(kept) + len(aside) == len(reading.bars)
    assert len(aside) >= against and (aside.origin == reading.origin).all()


def test_rates_are_no_prices(market):
    reading = read_bars(
        market / "freqtrade" / "futures" / "XRP_USDT_USDT-8h-funding_rate.feather", symbol="X", timeframe="4h"
    )
    kept, aside = clean(reading.bars, None, reading.origin, reading.rows)
    assert len(reading.bars) == 91 and kept.empty and set(aside.reason) == {"a price is not positive"}


def test_every_folder_is_named_here(market):
    named = {place.rpartition(":")[2].split("/")[0] for place, *_ in [*FOUND, *REFUSED]}
    assert {p.name for p in market.iterdir() if p.is_dir()} == named
