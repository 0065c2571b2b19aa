"""Bars from Parquet, of which only the columns that count are read: the same bars and rejected rows as from
Feather, which is read whole."""

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.sources.sources import read_bars
from mlfin.sources.table_reader import _spacings


def frame(symbols: list, days: int = 6) -> pd.DataFrame:
    """Daily rows of each symbol, as a vendor writes them."""
    ts = pd.date_range("2020-01-01", periods=days, freq="D", tz="UTC").as_unit("us")
    rng, n = np.random.default_rng(0), days * len(symbols)
    close = rng.normal(100, 1, n)
    return pd.DataFrame({"Ticker": np.repeat(np.array(symbols, dtype=object), days),
                         "Date": np.tile(ts.asi8, len(symbols)).view("M8[us]"), "note": "n" * 5,
                         "Open": close, "High": close + 1, "Low": close - 1, "Close": close,
                         "Volume": rng.integers(0, 9, n)})


def both(folder, table: pd.DataFrame, **how) -> tuple:
    table.to_parquet(folder / "bars.parquet", index=isinstance(table.index, pd.DatetimeIndex))
    table.reset_index(drop=isinstance(table.index, pd.RangeIndex)).to_feather(folder / "bars.feather")
    return tuple(read_bars(folder / f"bars.{kind}", tz="UTC", **how) for kind in ("parquet", "feather"))


def same(one, other) -> None:
    pd.testing.assert_frame_equal(one.bars, other.bars, check_exact=True)
    gone = [x.quarantine.drop(columns="origin") for x in (one, other)]
    pd.testing.assert_frame_equal(*gone)
    assert one.rows.tolist() == other.rows.tolist() and one.notes == other.notes
    assert str(one.bars.symbol.dtype) == "str"


@pytest.mark.parametrize("symbols", [["A"], ["B", "A"], [" A ", "A B", "'=X"], ["A", None, "B"],
                                     ["A", "  ", ""], ["A", "AA", "é"]])
def test_names_of_all_kinds(tmp_path, symbols):
    same(*both(tmp_path, frame(symbols)))


def test_the_kinds_of_columns(tmp_path):
    table = frame(["A", "B"])
    same(*both(tmp_path, table.astype({"Ticker": "category"})))
    same(*both(tmp_path, table.astype({"Ticker": "string", "Volume": "Int64", "Close": "float32"})))
    same(*both(tmp_path, table.astype({"Close": "str"})))
    same(*both(tmp_path, table.assign(Volume=np.nan)))
    same(*both(tmp_path, table.drop(columns="Volume")))
    same(*both(tmp_path, table.drop(columns="Ticker")[:6], symbol="X"))
    same(*both(tmp_path, table.set_index("Date")))
    same(*both(tmp_path, table.rename(columns={"Close": "Settle"}), columns={"Settle": "close"}))


def test_rows_that_are_rejected(tmp_path):
    table = frame(["A", "B"])
    table.loc[3, "Close"] = np.nan
    table.loc[7, "Date"] = pd.NaT
    one, other = both(tmp_path, table)
    same(one, other)
    assert len(one.quarantine) == 2
    with pytest.raises(DataError, match="no usable row"): both(tmp_path, table.assign(Ticker=None))


def test_what_is_no_parquet_of_bars(tmp_path):
    path = tmp_path / "bars.parquet"
    frame(["A"])[:0].to_parquet(path)
    with pytest.raises(DataError, match="columns and no rows"): read_bars(path, tz="UTC")
    frame(["A"]).drop(columns="Open").to_parquet(path)
    with pytest.raises(DataError, match="missing: open"): read_bars(path, tz="UTC")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="not a readable Parquet file"): read_bars(path, tz="UTC")


@pytest.mark.parametrize("seed", range(8))
def test_steps_between_bars(seed):
    """In whatever order rows and symbols stand."""
    rng = np.random.default_rng(seed)
    names = rng.choice(["A", "B", "CC"], 40) if seed % 2 else np.repeat(["A", "B"], 20)
    days = rng.choice(np.arange(25), 40) if seed % 4 > 1 else np.tile(np.arange(20), 2)
    at = pd.to_datetime(days, unit="D", utc=True)
    bars = pd.DataFrame({"symbol": pd.Series(names, dtype="str"), "ts": pd.Series(at).dt.as_unit("us")})
    slow = bars.sort_values(["symbol", "ts"]).groupby("symbol").ts.diff().dropna()
    slow = slow[slow > pd.Timedelta(0)].dt.as_unit("us").astype("int64")
    assert sorted(_spacings(bars, False)) == sorted(slow)
