"""Predictions inside the process: the newest bar's, beside the bare call of the model for one row."""
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models"))
import left_run  # noqa: E402

from mlfin.data.lake import Lake  # noqa: E402
from mlfin.models.registry import crown, register, write_verdict  # noqa: E402
from mlfin.serve.predictor import Predictor, _fields  # noqa: E402

SPECS = ["rsi_14", "macd_12_26_9", "mom_14", "sma_20", "ema_50", "bbands_20_2", "atr_14", "historical_vol_21", "returns", "log_returns", "volume_ma_20", "obv"]
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
    crown(settings, "bench", made.number)
    lake = Lake(settings.store)
    lake.write(bars.head(len(bars) - 300))
    return Predictor(settings, "bench", poll=0), lake


def main() -> None:
    """Print a row a measure; fail beyond the bound."""
    bars, late = left_run.bars_that_remember(days=3_000, symbols=("AAA",)), []
    print("| model | measure | median | p99 | p99 / bare median | bound |\n|---|---|---|---|---|---|")
    for name in ("lightgbm", "logistic"):
        with tempfile.TemporaryDirectory() as folder:
            predictor, lake = champion(Path(folder), name, bars)
            predictor.predict()
            row = predictor.champion.stream.sync()["AAA"]
            frame = predictor.champion.loaded.example[predictor.champion.manifest["inputs"]].iloc[[0]]
            bare, model = timed(lambda: predictor.champion.one.say(row.inputs)), predictor.champion.loaded.model
            fresh = []
            for i in range(len(bars) - 300, len(bars)):
                lake.push(bars.iloc[[i]].reset_index(drop=True))
                begin = time.perf_counter()
                predictor.predict("AAA")
                fresh.append(1e6 * (time.perf_counter() - begin))
            rows = [("bare call for one row", bare, False), ("scikit-learn's wrapper", timed(lambda: model.predict_proba(frame), 300), False),
                    ("predict, the newest bar", timed(lambda: predictor.predict("AAA")), name == "lightgbm"),
                    ("score, intervals and prices of a row", timed(lambda: _fields(predictor.champion, row)), name == "lightgbm"),
                    ("predict, a bar that just came", np.array(fresh), False)]
            for words, taken, held in rows:
                middle, worst = np.median(taken), np.quantile(taken, 0.99)
                ratio = worst / np.median(bare)
                late += [(name, words, round(ratio, 1))] if held and ratio > TIMES else []
                verdict = "none" if not held else f"{TIMES:g}, {'holds' if ratio <= TIMES else 'broken'}"
                print(f"| {name} | {words} | {middle:.1f} µs | {worst:.1f} µs | {ratio:.1f} | {verdict} |", flush=True)
            predictor.close()
    assert not late, late


if __name__ == "__main__":
    main()
