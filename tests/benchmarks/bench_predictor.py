"""Predictions inside the process: the newest bar's, beside the bare call of the model for one row."""
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.fixtures import left_run  # noqa: E402

from mlfin.store.lake import Lake  # noqa: E402
from mlfin.registry.registry import set_champion, register, write_verdict  # noqa: E402
from mlfin.predict.predictor import Predictor  # noqa: E402

SPECS = [
    "rsi_14",
    "macd_12_26_9",
    "mom_14",
    "sma_20",
    "ema_50",
    "bbands_20_2",
    "atr_14",
    "historical_vol_21",
    "returns",
    "log_returns",
    "volume_ma_20",
    "obv",
]
TIMES, CALLS = 20.0, 3_000 # the p99 may be so many times the median of the bare call; calls timed


def timed(call, count: int = CALLS) -> np.ndarray:
    """Microseconds of each call, after some that do not count."""
    for _ in range(50):
        call()
    found = np.empty(count)
    for i in range(count):
        begin = time.perf_counter()
        call()
        found[i] = time.perf_counter() - begin
    return found * 1e6


def champion(folder: Path, name: str, bars):
    """A champion of one kind, on a lake with all but the last 300 bars."""
    settings = left_run.settings_at(folder)
    left_run.leave(settings, "bench", specs=SPECS, names=(name,), bars=bars)
    made = register(settings, "bench")
    write_verdict(settings, made, "passed", "for a benchmark", {"checks": []})
    set_champion(settings, "bench", made.number)
    lake = Lake(settings.store)
    lake.write(bars.head(len(bars) - 300))
    return Predictor(settings, "bench", poll=0), lake


def measures(folder: Path, name: str, bars) -> list[tuple[str, np.ndarray]]:
    """What is timed of one kind of model: words and microseconds; the first is what the others are held
    against."""
    predictor, lake = champion(folder, name, bars)
    predictor.predict()
    row, loaded = predictor.champion.stream.sync()["AAA"], predictor.champion.loaded
    frame = loaded.example[predictor.champion.manifest["inputs"]].iloc[[0]]
    plain = frame.to_numpy()
    bare = (
        (lambda: loaded.model.booster_.predict(plain, num_threads=1))
        if name == "lightgbm"
        else (lambda: loaded.model.predict_proba(frame))
    )
    found = [
        ("the library's own call for one row, one thread", timed(bare)),
        ("scikit-learn's wrapper", timed(lambda: loaded.model.predict_proba(frame), 300)),
        ("one row, taken apart", timed(lambda: predictor.champion.single.predict(row.inputs))),
        ("predict, the newest bar", timed(lambda: predictor.predict("AAA"))),
        ("score, intervals and prices of a row", timed(lambda: predictor.champion.fields(row))),
    ]
    fresh = []
    for i in range(len(bars) - 300, len(bars)):
        lake.push(bars.iloc[[i]].reset_index(drop=True))
        begin = time.perf_counter()
        predictor.predict("AAA")
        fresh.append(1e6 * (time.perf_counter() - begin))
    predictor.close()
    return [*found, ("predict, a bar that just came", np.array(fresh))]


HELD = ("predict, the newest bar", "score, intervals and prices of a row")


def main() -> None:
    """Print a row a measure; fail beyond the bound."""
    bars, late = left_run.bars_that_remember(days=3_000, symbols=("AAA",)), []
    print("| model | measure | median | p99 | p99 / median of the library's call | bound |\n"
          "|---|---|---|---|---|---|")
    for name in ("lightgbm", "logistic"):
        with tempfile.TemporaryDirectory() as folder:
            found = measures(Path(folder), name, bars)
        base = np.median(found[0][1])
        for words, taken in found:
            middle, worst = np.median(taken), np.quantile(taken, 0.99)
            broken = words in HELD and worst / base > TIMES
            late += [(name, words, round(worst / base, 1))] if broken else []
            verdict = "none" if words not in HELD else f"{TIMES:g}, {'missed' if broken else 'met'}"
            print(
                f"| {name} | {words} | {middle:.1f} µs | {worst:.1f} µs | {worst / base:.1f} | {verdict} |",
                flush=True,
            )
    assert not late, late


if __name__ == "__main__":
    main()
