"""A file ten times larger than the limit is ingested in a fresh process, whose peak stays below the limit and
300 MB."""

import gzip
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

RUN = """
import json, sys
from mlfin.ingest.store_update import update
done = update(sys.argv[1], symbols="X", timeframes="1m", tz="UTC", store=sys.argv[2],
              memory=int(sys.argv[3]), raw=False)
with open("/proc/self/status") as status:  # ru_maxrss would count what the parent had
    peak = next(int(x.split()[1]) for x in status if x.startswith("VmHWM")) / 1024
line = done.series.iloc[0]
print(json.dumps([line.status, int(line.inserted), int(line.set_aside), round(peak), line.error]))
"""


def chunks(mb, size=100_000):
    "Minutes as frames, with a few impossible rows, until so many MB of text came."
    rng, at, written = np.random.default_rng(0), 0, 0
    while written < mb * 2**20:
        ts = pd.date_range(pd.Timestamp("1990-01-01") + pd.Timedelta(minutes=at), periods=size, freq="min")
        close = (100 + np.sin(np.arange(at, at + size) / 5000) * 10 + rng.normal(0, 0.05, size)).round(4)
        frame = pd.DataFrame({"time": ts, "open": close, "high": close + 0.25,
                              "low": close - 0.25, "close": close})
        frame["volume"] = rng.integers(1, 1000, size).astype(float)
        frame.loc[[7, size // 2], "high"] = 1.0
        at += size
        written += yield frame


def generate(path, mb):
    "Rows written."
    import pyarrow as pa
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    source, rows, out, size = chunks(mb), 0, None, None
    opened = (gzip.open(path, "wb", compresslevel=1) if path.suffix == ".gz" else None if path.suffix
              == ".parquet" else open(path, "wb"))
    while True:
        try:
            frame = source.send(size)
        except StopIteration:
            break
        table = pa.Table.from_pandas(frame, preserve_index=False)
        if opened is None:
            out = out or pq.ParquetWriter(path, table.schema)
            out.write_table(table)
            size = table.nbytes
        else:
            text = pa.BufferOutputStream()
            pc.write_csv(table, text, pc.WriteOptions(include_header=not rows, quoting_style="none"))
            size = text.tell()
            opened.write(text.getvalue())
        rows += len(frame)
    (opened or out).close()
    return rows


def peak(tmp_path, name, limit, mb, capsys):
    rows = generate(tmp_path / name, mb)
    said = subprocess.run([sys.executable, "-W", "ignore", "-c", RUN, str(tmp_path / name),
                           str(tmp_path / "lake"), str(limit)],
                          capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert said.returncode == 0, said.stderr
    status, inserted, aside, top, error = json.loads(said.stdout)
    with capsys.disabled():
        print(f"\n{name}: {mb} MB unpacked, {rows:,} rows, limit {limit} MB: peak {top} MB of {limit + 300} "
              f"allowed", end=" ")
    assert (status, inserted, aside, error) == ("ok", rows - rows // 50_000, rows // 50_000, "")
    assert top <= limit + 300
    assert not (tmp_path / "lake" / "incoming").exists()


@pytest.mark.parametrize("name", ["x.csv", pytest.param("x.parquet", marks=pytest.mark.slow)])
def test_ten_times_the_limit(tmp_path, name, capsys):
    peak(tmp_path, name, 2, 20, capsys)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["x.csv", *(pytest.param(name, marks=pytest.mark.long) for name in ("x.csv.gz", "x.parquet"))])
def test_ten_times_the_limit_at_full_size(tmp_path, name, capsys):
    peak(tmp_path, name, 64, 640, capsys)
