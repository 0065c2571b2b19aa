"""The loop from the store to the next training: what reading the store costs a run, a day that is appended,
and what the day makes a run compute."""

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_run import MLFIN, project, seconds

from mlfin.core.pipeline_spec import read_pipeline
from mlfin.core.provenance import package_library, project_sources
from mlfin.core.settings import load_settings
from mlfin.core.code_snapshot import snapshot_code
from mlfin.market.bars import as_bars
from mlfin.ingest.ingest import ingest
from mlfin.ingest.store_update import update
from mlfin.store.lake import Lake
from mlfin.leakage.audit import audit_features
from mlfin.features.table import compute_features
from mlfin.datasets.labels import compute_labels

SYMBOLS, DAYS, NEW = 2_000, 2_500, 11
TWELVE = ("rsi_14 macd_12_26_9 mom_14 sma_20 ema_50 bbands_20_2 atr_14 historical_vol_21 returns log_returns "
          "volume_ma_20 obv".split())


def took(call) -> float:
    """Seconds of a call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def days(first: int, last: int, symbols: int, seed: int = 7) -> pd.DataFrame:
    """Daily bars of many symbols, seeded random walks, as a bars frame."""
    ts = pd.bdate_range("2013-01-01", periods=last, tz="UTC").as_unit("us")[first:]
    rng = np.random.default_rng(seed + first)
    close = (100 * np.exp(rng.normal(0, 0.01, (symbols, len(ts))).cumsum(axis=1))).ravel()
    opened = close * np.exp(rng.normal(0, 0.003, len(close)))
    at = pd.DatetimeIndex(np.tile(ts.asi8, symbols).view("M8[us]")).tz_localize("UTC")
    names = pd.Series(np.repeat([f"S{i:04d}" for i in range(symbols)], len(ts)), dtype="str")
    return as_bars(
        pd.DataFrame(
            {
                "symbol": names,
                "timeframe": pd.Series(["1d"] * len(names), dtype="str"),
                "ts": at,
                "known_at": at + pd.Timedelta("1D"),
                "open": opened,
                "high": np.maximum(opened, close) * 1.002,
                "low": np.minimum(opened, close) * 0.998,
                "close": close,
                "volume": rng.integers(1, 10_000, len(close)).astype(float),
            }
        )
    )


def row(what: str, value: float, unit: str, bound: float | None, beside: str = "") -> None:
    """Print a row, with its verdict where there is a bound."""
    verdict = "" if bound is None else "met" if value <= bound else "missed"
    print(f"| {what} | {value:,.2f} {unit}{f' ({beside})' if beside else ''} | "
          f"{'' if bound is None else f'{bound:g} {unit}'} | {verdict} |")


def reading(folder: Path, times: int) -> None:
    """The ingest task's work on the built-in bars: from the file, judged and stored, and from the store,
    where they are."""
    place = folder / "lake"
    update(store=place)
    pairs = []
    for k in range(times):
        calls = {"file": lambda: ingest(store=place), "store": lambda: ingest("store", store=place)}
        pairs.append({name: took(calls[name]) for name in sorted(calls, reverse=bool(k % 2))})
    file, store = (statistics.median(p[name] for p in pairs) for name in ("file", "store"))
    row(
        f"`source=store` beside the file, built-in bars, median of {times}",
        statistics.median(p["store"] / p["file"] for p in pairs),
        "x",
        1.1,
        f"{store * 1e3:.0f} / {file * 1e3:.0f} ms",
    )


def idle(folder: Path, times: int) -> None:
    """A run of either source, and then runs with nothing to do."""
    home = project(folder / "project")
    words = {"file": [], "store": ["-p", "source=store", "--experiment", "stored"]}
    first = {name: seconds(home, MLFIN, "run", "--cpu", *more) for name, more in words.items()}
    pairs = [
        {
            name: seconds(home, MLFIN, "run", "--cpu", *words[name])
            for name in sorted(words, reverse=bool(k % 2))
        }
        for k in range(times)
    ]
    file, store = (statistics.median(p[name] for p in pairs) for name in ("file", "store"))
    row(
        f"`mlfin run` with nothing new, `source=store` less the file, median of {times} pairs",
        statistics.median(p["store"] - p["file"] for p in pairs),
        "s",
        0.1,
        f"{store:.2f} / {file:.2f} s; the first runs {first['store']:.0f} / {first['file']:.0f} s",
    )


def laid_aside(folder: Path, times: int) -> None:
    """The code that a run executes, copied when it begins: where it is new, and where the last run left
    it."""
    home = project(folder / "code")
    texts = project_sources(home, read_pipeline(home), load_settings(root=home))
    package, wall = package_library().package, {"new": [], "there already": []}

    def begin():
        with snapshot_code(package, home, texts): pass
    for _ in range(times):
        shutil.rmtree(home / ".mlfin" / "cache", ignore_errors=True)
        for seen in wall.values(): seen.append(took(begin))
    for what, seen in wall.items():
        row(f"a snapshot of the code, {what}, median of {times}", statistics.median(seen), "s", 0.2)


def appended(folder: Path, symbols: int, length: int) -> None:
    """Days that come in one by one, all symbols at once, durable when it returns."""
    lake, wall, cpu = Lake(folder / "days"), [], []
    lake.write(days(0, length, symbols))
    for k in range(length, length + NEW):
        day, begin = days(k, k + 1, symbols), time.process_time()
        wall.append(took(lambda day=day: lake.write(day)))
        cpu.append(time.process_time() - begin)
    row(
        f"a day of {symbols:,} symbols appended to {length:,}, median of {NEW}",
        statistics.median(wall) * 1e3,
        "ms",
        50.0,
        f"{statistics.median(cpu) * 1e3:.0f} ms of CPU",
    )


def pushed(folder: Path, times: int = 50) -> None:
    """A bar that a collector pushes: until it is on the disk, and readers see it."""
    lake, wall = Lake(folder / "pushed"), []
    lake.write(days(0, 100, 5))
    for k in range(100, 100 + times):
        bar = days(k, k + 1, 1)
        wall.append(took(lambda bar=bar: lake.push(bar)))
    assert len(lake.read("S0000")) == 100 + times
    row(f"a pushed bar until it is stored, median of {times}", statistics.median(wall) * 1e3, "ms", 1.1 * 17)


def recomputed(symbols: int, length: int) -> None:
    """What a new day makes the features task compute: the table, and the proof of the table."""
    bars = days(0, length, symbols)
    compute_features(days(0, 300, 2), TWELVE)  # compiled before
    made = {}
    parts = {
        "features": lambda: made.update(table=compute_features(bars, TWELVE)),
        "labels": lambda: compute_labels(bars, "fwd_ret_5"),
        "audit": lambda: audit_features(TWELVE, bars, made["table"], "a run").check(),
    }
    spent = {name: took(call) for name, call in parts.items()}
    whole = sum(spent.values())
    row(
        f"features of {len(bars):,} bars computed anew, beside what proves them",
        spent["features"] / whole * 100,
        "%",
        10.0,
        ", ".join(f"{name} {s:.1f} s" for name, s in spent.items()),
    )


def main(symbols: int = SYMBOLS, length: int = DAYS, times: int = 5) -> None:
    """Print the rows; whatever is compared is measured in turns, on one machine, in one run."""
    print("| measure | value | bound | verdict |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        reading(Path(place), times)
        laid_aside(Path(place), times)
        appended(Path(place), symbols, length)
        pushed(Path(place))
        idle(Path(place), times)
    recomputed(symbols, length)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
