"""The warehouse beside the bare protocol: 1,000,000 keyed one-minute bars of 10 symbols, in one run on one
PostgreSQL."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg

from mlfin.market.bars import as_bars
from mlfin.warehouse.bar_writes import ROW, make_partitions, number_series, with_numbers
from mlfin.warehouse.binary_copy import pack_rows
from mlfin.warehouse.warehouse import Warehouse
from mlfin.store.store import with_values

SYMBOLS, ROWS = 10, 100_000
SCRIPT = Path(__file__).resolve().parents[2] / "env" / "services"


def panel(symbols: int, rows: int) -> pd.DataFrame:
    """A seeded random walk for each symbol, as a bars frame."""
    rng, frames = np.random.default_rng(7), []
    ts = pd.date_range("2023-01-01", periods=rows, freq="min", tz="UTC").as_unit("us")
    for i in range(symbols):
        close = np.round(100 * np.exp(rng.normal(0, 1e-4, rows).cumsum()), 2)
        frames.append(
            pd.DataFrame(
                dict(
                    symbol=f"SYM{i:02d}",
                    timeframe="1m",
                    ts=ts,
                    known_at=ts + pd.Timedelta("1min"),
                    open=close,
                    high=close + 0.02,
                    low=close - 0.02,
                    close=close,
                    volume=rng.integers(1, 900, rows).astype(float),
                )
            )
        )
    return as_bars(pd.concat(frames, ignore_index=True))


def seconds(call) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def bare_copy(url: str, bars: pd.DataFrame) -> float:
    """Binary COPY of ready bytes into the very same table of an empty database."""
    store = Warehouse(url)
    store.make()
    with store.server.transaction("writes") as cursor:
        rows = with_values(bars).assign(recorded_at=pd.Timestamp.now("UTC").as_unit("us"), version=0)
        rows = with_numbers(rows, number_series(cursor, rows))
        make_partitions(cursor, rows.ts)
        ready = list(pack_rows(rows, [*ROW, "version"]))
        columns = ", ".join(f'"{c}"' for c in [*ROW, "version"])

        def put():
            with cursor.copy(f"COPY mlfin.bars ({columns}) FROM STDIN (FORMAT binary)") as copy:
                for part in ready:
                    copy.write(part)
        return seconds(put)


def main(symbols: int = SYMBOLS, rows: int = ROWS) -> None:
    """Print the figures."""
    import adbc_driver_postgresql.dbapi as adbc

    bars = panel(symbols, rows)
    print(f"{len(bars):,} one-minute bars of {symbols} symbols\n\n| measure | value | bound | verdict |\n"
          f"|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        state = str(Path(folder) / "state.json")
        up = subprocess.run(
            [SCRIPT, "up", "postgresql", "--state", state], capture_output=True, text=True, check=True
        )
        try:
            admin = up.stdout.split()[1]
            copies, writes = [], []
            for n in range(3):
                with psycopg.connect(admin, autocommit=True) as con:
                    con.execute(f"CREATE DATABASE bare{n}")
                    con.execute(f"CREATE DATABASE ours{n}")
                copies.append(bare_copy(admin.removesuffix("/postgres") + f"/bare{n}", bars))
                store = Warehouse(admin.removesuffix("/postgres") + f"/ours{n}")
                store.make()
                writes.append(seconds(lambda store=store: store.write(bars)))
            ours, bare = min(writes), min(copies)
            print(f"| backfill / bare binary COPY into the same table, rows a second | {bare / ours:.2f} x "
                  f"({len(bars) / ours:,.0f} / {len(bars) / bare:,.0f}) "
                  f"| >= 0.5 x | {'met' if bare / ours >= 0.5 else 'missed'} |")
            url = store.server.text
            select = ("SELECT s.symbol, s.timeframe, ts, known_at, open, high, low, close, volume, vwap, "
                      "trades, spread FROM mlfin.bars b "
                      "JOIN mlfin.series s ON s.id = b.series")
            reads, others = [], []
            for _ in range(3):
                reads.append(seconds(lambda: store.read(timeframe="1m")))
                with adbc.connect(url) as con, con.cursor() as cursor:
                    others.append(
                        seconds(lambda cursor=cursor: (cursor.execute(select), cursor.fetch_arrow_table()))
                    )
            ours, bare = min(reads), min(others)
            print(f"| all to a frame / ADBC's Arrow read, rows a second | {bare / ours:.2f} x "
                  f"({len(bars) / ours:,.0f} / {len(bars) / bare:,.0f}) "
                  f"| >= 0.5 x | {'met' if bare / ours >= 0.5 else 'missed'} |")
            since = bars.ts.iloc[-500]
            with psycopg.connect(url) as con:
                query = ("SELECT ts, known_at, open, high, low, close, volume FROM mlfin.bars WHERE series = "
                         "(SELECT id FROM mlfin.series "
                         "WHERE symbol = 'SYM03' AND timeframe = '1m') AND ts >= %s ORDER BY ts")
                def plain():
                    return pd.DataFrame(con.execute(query, (since,)).fetchall())
                plain(), store.read("SYM03", "1m", start=since)
                both = [
                    (seconds(lambda: store.read("SYM03", "1m", start=since)), seconds(plain))
                    for _ in range(30)
                ]
            ours, bare = (float(np.median(x)) for x in zip(*both, strict=True))
            print(f"| latest 500 bars / the bare query to a frame | {ours / bare:.2f} x ({ours * 1e3:.1f} / "
                  f"{bare * 1e3:.1f} ms) "
                  f"| 2 x | {'met' if ours / bare <= 2 else 'missed'} |")
        finally:
            subprocess.run([SCRIPT, "down", "--state", state], capture_output=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
