"""Spreads of every source are stored in price units: points are told from prices, or the user is asked."""

import sqlite3

import numpy as np
import pandas as pd
import pytest

from mlfin.store.lake import Lake
from mlfin.core.errors import DataError
from mlfin.ingest.store_update import update
from mlfin.quality.quality import check_quality
from mlfin.sources.sources import read_bars, read_parts
from mlfin.market.spreads import price_decimals
from mlfin.sources.rest import rest_mapping

N = 400


def prices(digits=2, near=2_412.0, seed=0, step=1):
    "Four prices that an instrument of some digits can have."
    rng = np.random.default_rng(seed)
    unit = 10**digits // step
    close = np.round((near * unit + np.cumsum(rng.integers(-3, 4, N))) / unit, digits)
    return pd.DataFrame(
        {
            "open": close,
            "high": np.round(close + 9 / unit, digits),
            "low": np.round(close - 9 / unit, digits),
            "close": close,
        }
    )


def table(spread, digits=2, **more):
    times = pd.date_range("2024-03-04", periods=N, freq="1min").strftime("%Y-%m-%d %H:%M:%S")
    return prices(digits, **more).assign(ts=times, volume=5, spread=spread)


def metatrader(frame, digits):
    "The export of a MetaTrader terminal: it writes all digits of a symbol."
    made = pd.DataFrame({"<DATE>": frame.ts.str[:10].str.replace("-", "."), "<TIME>": frame.ts.str[11:]})
    for c in ("open", "high", "low", "close"):
        made[f"<{c.upper()}>"] = [f"{v:.{digits}f}" for v in frame[c]]
    return made.assign(**{"<TICKVOL>": 5, "<VOL>": 0, "<SPREAD>": frame.spread}).to_csv(sep="\t", index=False)


def read(path, **more):
    return read_bars(path, "X", timeframe="1m", tz="UTC", **more)


def test_gold_pays_cents_and_not_dollars(tmp_path):
    path = tmp_path / "XAUUSD.csv"
    path.write_text(metatrader(table(62, 2), 2))
    reading = read(path)
    np.testing.assert_allclose(reading.bars.spread, 0.62, rtol=0, atol=1e-12)
    assert "the spread counts points of 0.01" in reading.notes[-1]


@pytest.mark.parametrize(
    "digits, near, spread, wanted",
    [
        (5, 1.05832, 8, 0.00008),
        (3, 151.304, 12, 0.012),
        (1, 37_763.9, 27, 2.7),
        (0, 38_000, 7, 7),
        (2, 2_412.35, 25, 0.25),
    ],
)
@pytest.mark.parametrize("header", ["metatrader", "plain", "zeros dropped", "parquet", "float32", "json"])
def test_points_are_told_by_the_decimals_of_the_prices(tmp_path, digits, near, spread, wanted, header):
    frame = table(spread, digits, near=near)
    path = tmp_path / "bars.csv"
    if header == "metatrader":
        path.write_text(metatrader(frame, digits))
    elif header == "parquet":
        frame.to_parquet(path := tmp_path / "bars.parquet")
    elif header == "json":
        frame.to_json(path := tmp_path / "bars.json", orient="records")
    elif header == "float32":
        frame.astype(dict.fromkeys(("open", "high", "low", "close"), "float32")).to_parquet(
            path := tmp_path / "bars.parquet"
        )
    else:
        text = frame.assign(
            **{c: [f"{v:.{digits}f}" for v in frame[c]] for c in ("open", "high", "low", "close")}
        )
        (frame if header == "zeros dropped" else text).to_csv(path, index=False)
    np.testing.assert_allclose(read(path).bars.spread, wanted, rtol=0, atol=1e-12)
    parts = pd.concat(
        [p.bars for p in read_parts(path, symbol="X", timeframe="1m", tz="UTC", limit=2**16)],
        ignore_index=True,
    )
    np.testing.assert_allclose(parts.spread, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("spread", [0.62, [0.31, 0.62] * (N // 2), 0.5])
def test_a_spread_that_is_a_price_stays_one(tmp_path, spread):
    frame = table(spread)
    frame.to_csv(tmp_path / "bars.csv", index=False)
    assert list(read(tmp_path / "bars.csv").bars.spread) == list(frame.spread)


@pytest.mark.parametrize(
    "digits, near, spread",
    [(3, 151.304, 1.2), (5, 1.05832, 0.8), (5, 1.05832, [0.8, 12.5] * (N // 2)), (2, 4.21, 1.5)],
)
def test_a_spread_of_unclear_unit_is_refused_by_name(tmp_path, digits, near, spread):
    path = tmp_path / "bars.csv"
    table(spread, digits, near=near).to_csv(path, index=False)
    with pytest.raises(DataError, match="`point` must be given.* may count points, pips or "
                                        "prices.*bars.csv(.|\n)*point=1 where it is a price"):
        read(path)
    with pytest.raises(DataError, match="`point` must be given"):
        list(read_parts(path, symbol="X", timeframe="1m", tz="UTC", limit=2**16))
    said = read(path, point=0.01)
    np.testing.assert_allclose(said.bars.spread, 0.01 * np.asarray(spread), rtol=0, atol=1e-12) if np.ndim(
        spread
    ) == 0 else None
    assert "as was said" in said.notes[-1]
    assert (read(path, point=1).bars.spread == table(spread, digits, near=near).spread).all()


def test_decimals_of_an_accident_do_not_make_a_point(tmp_path):
    frame = table(62)
    frame.loc[7, "low"] = 2_405.12345
    frame.to_csv(tmp_path / "bars.csv", index=False)
    with pytest.raises(DataError, match="only 1 of 1,600 prices have 5 decimals"):
        read(tmp_path / "bars.csv")
    frame.loc[7, "low"] = 2_405_120.0  # a shifted price has fewer decimals, not more
    frame.loc[7, "high"] = 2_405_190.0
    frame.to_csv(tmp_path / "bars.csv", index=False)
    np.testing.assert_allclose(read(tmp_path / "bars.csv").bars.spread, 0.62)


def test_prices_written_with_more_decimals_than_they_use_are_asked_about(tmp_path):
    frame = table(62)
    frame.assign(**{c: [f"{v:.5f}" for v in frame[c]] for c in ("open", "high", "low", "close")}).to_csv(
        tmp_path / "bars.csv", index=False
    )
    with pytest.raises(DataError, match="written with 5 decimals and use 2"):
        read(tmp_path / "bars.csv")


def test_each_symbol_of_a_file_has_its_own_point(tmp_path):
    both = pd.concat(
        [
            table(8, 5, near=1.05832).assign(symbol="EURUSD"),
            table(12, 3, near=151.304, seed=1).assign(symbol="USDJPY"),
        ]
    )
    path = tmp_path / "panel.csv"
    for frame in (both, both.sort_values("ts", kind="stable")):
        frame.to_csv(path, index=False)
        reading = read_bars(path, timeframe="1m", tz="UTC")
        assert reading.bars.groupby("symbol").spread.median().round(9).to_dict() == {
            "EURUSD": 0.00008,
            "USDJPY": 0.012,
        }
        assert "0.00001 (EURUSD), 0.001 (USDJPY)" in reading.notes[-1]
    said = read_bars(path, timeframe="1m", tz="UTC", point={"EURUSD": 1e-4, "USDJPY": 1e-2}).bars
    assert said.groupby("symbol").spread.median().round(9).to_dict() == {"EURUSD": 0.0008, "USDJPY": 0.12}
    with pytest.raises(DataError, match="of USDJPY is not known"):
        read_bars(path, timeframe="1m", tz="UTC", point={"EURUSD": 1e-4})


@pytest.mark.parametrize("point", [0, -0.01, True, "0.01", float("nan"), {"X": 0}, {}])
def test_a_point_that_is_none_is_refused(tmp_path, point):
    table(62).to_csv(tmp_path / "bars.csv", index=False)
    with pytest.raises(DataError, match="a price step > 0"):
        read(tmp_path / "bars.csv", point=point)


def test_rows_of_a_database_are_read_by_the_same_rules(tmp_path):
    with sqlite3.connect(tmp_path / "bars.sqlite") as db:
        table(62).to_sql("bars", db, index=False)
    address = f"sql:sqlite:///{tmp_path}/bars.sqlite#bars"
    how = dict(symbol="X", timeframe="1m", tz="UTC")
    np.testing.assert_allclose(read_bars(address, **how).bars.spread, 0.62)
    np.testing.assert_allclose(read_bars(address, point=0.1, **how).bars.spread, 6.2)


def test_a_mapping_of_a_service_says_what_a_spread_is():
    fields = {c: c for c in ("ts", "open", "high", "low", "close", "spread")}
    mapping = {
        "url": "https://example.org/{symbol}",
        "fields": fields,
        "paging": {"by": "none"},
        "time": {"unit": "s"},
    }
    with pytest.raises(DataError, match="mapping.point"):
        rest_mapping(mapping)
    assert rest_mapping({**mapping, "point": 0.01}).point == 0.01


def test_the_report_shows_the_point_and_a_store_keeps_prices(tmp_path):
    (tmp_path / "XAUUSD.csv").write_text(metatrader(table(62), 2))
    done = update("files", tmp_path / "XAUUSD.csv", ["XAUUSD"], ["1m"], tz="UTC", store=tmp_path / "lake")
    assert any("points of 0.01" in note for note in done.notes)
    np.testing.assert_allclose(Lake(tmp_path / "lake").read("XAUUSD", "1m").spread, 0.62)


def test_a_spread_above_a_hundredth_of_the_price_is_named(tmp_path):
    table(62).to_csv(tmp_path / "bars.csv", index=False)
    wrong = read(tmp_path / "bars.csv", point=1).bars
    line = check_quality(wrong, "24/7").set_index("check").loc["spread_share"]
    assert (line.status, line.rows) == ("warn", N) and "point=" in line.detail
    right = read(tmp_path / "bars.csv").bars
    assert check_quality(right, "24/7").set_index("check").status["spread_share"] == "pass"


def test_real_exports_of_metatrader(market):
    index = read_bars(next((market / "mt5_us30m").glob("*H1*")), "US30", timeframe="1h", tz="UTC").bars
    assert (index.spread.min(), index.spread.median(), index.spread.max()) == (1.0, 2.7, 17.1)
    euro = read_bars(
        market / "mt5_eurusd_m1_hedgehogger" / "EURUSD_M1_90-100k.csv", "EURUSD", timeframe="1m", tz="UTC"
    ).bars
    assert (euro.spread.median(), euro.spread.max()) == (0.00005, 0.001)


def test_decimals_are_counted_whatever_the_last_bits_say():
    made = np.round(np.random.default_rng(0).uniform(0.5, 60_000, 5_000), 4)
    counts = price_decimals(made)
    assert counts.sum() == 5_000 and counts[4] > 4_300 and counts[5:].sum() == 0
    assert price_decimals(np.array([1 / 3]))[-1] == 1
