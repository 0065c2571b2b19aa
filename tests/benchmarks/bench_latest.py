"""The newest 500 bars of a symbol: the bare read beside the cache in this process and in Redis, on a lake and
PostgreSQL; 1,000,000 minutes of 10 symbols."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from bench_warehouse import panel

from mlfin.market.bars import as_bars
from mlfin.store.cache import open_cache
from mlfin.warehouse.opening import open_store
from mlfin.store.latest import latest_bars

SCRIPT = Path(__file__).resolve().parents[2] / "env" / "services"


def milliseconds(call, times: int = 60) -> float:
    """The median of many calls."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return 1_000 * sorted(taken)[times // 2]


def main(symbols: int = 10, rows: int = 100_000) -> None:
    """Print the figures."""
    bars = panel(symbols, rows)
    shift = pd.Timestamp.now("UTC").floor("min") - pd.Timedelta("2min") - bars.ts.max()
    bars = as_bars(bars.assign(ts=bars.ts + shift, known_at=bars.known_at + shift))
    with tempfile.TemporaryDirectory() as folder:
        state = ["--state", f"{folder}/state.json"]
        up = subprocess.run(
            [SCRIPT, "up", "postgresql", "redis", *state], capture_output=True, text=True, check=True
        ).stdout
        servers = dict(line.split() for line in up.splitlines())
        try:
            for name, place in (("lake", f"{folder}/lake"), ("postgresql", servers["postgresql"])):
                store = open_store(place)
                store.write(bars)
                start = bars.ts.max() - pd.Timedelta("499min")
                print(f"{name:<11} the bare read, its start known  "
                      f"{milliseconds(lambda s=store, t=start: s.read(['SYM03'], '1m', start=t)):7.2f} ms")
                for what, cache in (
                    ("no cache", None),
                    ("this process", open_cache()),
                    ("Redis", open_cache(servers["redis"])),
                ):
                    latest_bars(store, "SYM03", "1m", 500, cache)
                    print(
                        f"{name:<11} latest_bars, {what:<18} "
                        f"{milliseconds(lambda s=store, c=cache: latest_bars(s, 'SYM03', '1m', 500, c)):7.2f}"
                        " ms")
        finally:
            subprocess.run([SCRIPT, "down", *state], capture_output=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
