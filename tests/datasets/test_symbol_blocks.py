"""Datasets made a few symbols at a time are those of whole frames, to the last bit."""

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.core.provenance import write_parquet
from mlfin.datasets.builder import build_dataset
from mlfin.datasets.labels import compute_labels, label_coverage
from mlfin.datasets.symbol_blocks import by_symbol, dataset_by_symbol, load_dataset
from mlfin.features.symbol_files import read_range, symbol_ranges
from mlfin.features.table import compute_features

SPECS = ["rsi_14", "macd_12_26_9", "sma_20", "obv", "volume_ma_20", "returns"]
CONTEXT = {"calendar": "24/7", "facts": None}


def walk(symbol: str, size: int) -> pd.DataFrame:
    """Minutes of one symbol with a hole."""
    rng = np.random.default_rng(size)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, size)))
    ts = pd.date_range("2024-01-01", periods=size, freq="min", tz="UTC").as_unit("us")
    frame = pd.DataFrame(dict(symbol=symbol, timeframe="1m", ts=ts, known_at=ts + pd.Timedelta("1min"),
                              open=close * 0.999, high=close * 1.01, low=close * 0.99, close=close,
                              volume=rng.integers(0, 900, size).astype(float)))
    return frame.drop(index=range(100, 120)).reset_index(drop=True)


@pytest.fixture(scope="module")
def frames():
    """Bars and features of three symbols."""
    bars = pd.concat([walk("AAA", 400), walk("BBB", 310), walk("CCC", 520)], ignore_index=True)
    return bars, compute_features(bars, SPECS)


@pytest.fixture
def files(frames, tmp_path):
    """Where features and bars lie."""
    paths = tmp_path / "features.parquet", tmp_path / "bars.parquet"
    for path, frame in zip(paths, frames[::-1], strict=True):
        write_parquet(frame, path)
    return paths


@pytest.mark.parametrize("label", ["fwd_ret_5", "next_close", "barrier_20_2_1"])
@pytest.mark.parametrize("rows", [1, 500, 10_000])
def test_blocks_are_the_whole(frames, files, label, rows):
    bars, features = frames
    labels = compute_labels(bars, label)
    whole = build_dataset(features, labels, bars, SPECS, context=CONTEXT)
    found, seen = dataset_by_symbol(*files, SPECS, label, CONTEXT, rows=rows)
    assert found.hash == whole.hash
    for name in ("X", "keys", "spans", "dropped", "pending"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(whole, name))
    for name in ("y", "forward_return"):
        pd.testing.assert_series_equal(getattr(found, name), getattr(whole, name))
    assert found.X.to_numpy().flags.f_contiguous and whole.X.to_numpy().flags.f_contiguous
    pd.testing.assert_frame_equal(seen, label_coverage(bars, labels))
    assert (found.names, found.specs, found.caveats) == (whole.names, whole.specs, whole.caveats)


def test_what_needs_all_rows_gets_them(frames, files):
    assert not by_symbol(["rsi_14", "xs_rank_ret_20"], "fwd_ret_5", None)
    assert not by_symbol(SPECS, "fwd_quantile_5_2", None)
    weighted, _ = load_dataset(*files, SPECS, "fwd_ret_5", "uniqueness", CONTEXT, whole=1)
    assert weighted.weights is not None


@pytest.mark.parametrize("change, says", [
    (lambda f: f.assign(rsi_14=f["rsi_14"].where(f.index != 700, np.inf)), "finite or NaN"),
    (lambda f: f.assign(rsi_14=np.nan), "at least one value|bars give"),
    (lambda f: f.assign(rsi_14=f["rsi_14"].where(f.index != 700, 50.0)), "not what its bars give"),
    (lambda f: f.assign(rsi_14=(f.rsi_14 - f.rsi_14.mean()) / f.rsi_14.std()), "bars give|global scaler"),
    (lambda f: f.assign(fwd_ret_5=0.0), "without labels"),
])
def test_what_is_refused_of_the_whole_is_refused_of_blocks(frames, files, change, says):
    write_parquet(change(frames[1]), files[0])
    with pytest.raises(DataError, match=says):
        dataset_by_symbol(*files, SPECS, "fwd_ret_5", CONTEXT, rows=1)


def test_ranges_over_row_groups(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    frame = pd.DataFrame({"symbol": np.repeat([f"S{k}" for k in range(7)], 30), "x": np.arange(210.0)})
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=37)
    ranges = symbol_ranges(tmp_path / "x.parquet", rows=50)
    assert [e - b for b, e in ranges] == [60, 60, 60, 30]
    again = pd.concat([read_range(tmp_path / "x.parquet", *r) for r in ranges], ignore_index=True)
    pd.testing.assert_frame_equal(again, pd.read_parquet(tmp_path / "x.parquet"))
    write_parquet(pd.concat([frame, frame]), tmp_path / "twice.parquet")  # symbols in two places: read whole
    assert symbol_ranges(tmp_path / "twice.parquet", rows=50) == [(0, 420)]
