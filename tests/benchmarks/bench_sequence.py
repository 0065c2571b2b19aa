"""One epoch of our LSTM beside the same Keras model fed from NumPy; memory of windows; GPU against CPU."""

import time
import tracemalloc
from functools import partial

import numpy as np
import pandas as pd

from mlfin.core.settings import quiet_environment

quiet_environment()

from mlfin.models.fitting import fit_rows  # noqa: E402
from mlfin.models.sequence import SequenceClassifier, Windows, _feed, _keras, _moments, _network, row_ages  # noqa: E402
from mlfin.models.zoo import compute_device, device_parameters, make_model  # noqa: E402

SYMBOLS, DAYS, COLUMNS, WINDOW, BATCH, ROUNDS = 20, 2_560, 12, 20, 256, 11
LIMIT = 1.2


class Panel:
    """Noise of several symbols, row by row."""

    def __init__(self, symbols: int = SYMBOLS, days: int = DAYS, columns: int = COLUMNS):
        rng = np.random.default_rng(7)
        ts = pd.date_range("2010-01-04", periods=days, freq="B", tz="UTC").as_unit("us")
        names = np.repeat([f"S{k:03d}" for k in range(symbols)], days)
        self.keys = pd.DataFrame(
            dict(symbol=names, timeframe="1d", ts=pd.DatetimeIndex(np.tile(ts, symbols)))
        )
        self.X = pd.DataFrame(
            rng.normal(size=(len(names), columns)), columns=[f"f_{k}" for k in range(columns)]
        )
        self.y = rng.integers(0, 2, len(names)).astype("int8")


def took(run) -> np.ndarray:
    """Wall and CPU seconds of a call; other processes lengthen only the first."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return np.array([time.perf_counter() - wall, time.process_time() - cpu])


def epochs(panel: Panel) -> tuple[np.ndarray, np.ndarray, float]:
    """Seconds of epochs fed by us and from NumPy, in turn on one compiled network; and of what we prepare
    before."""
    keras, values = _keras(), panel.X.to_numpy()
    begin = time.perf_counter()
    rows = np.arange(len(values))
    windows = Windows(values, row_ages(panel.keys), WINDOW, *_moments(values, rows))
    prepared = time.perf_counter() - begin
    target, weights = panel.y[:, None].astype(np.float32), np.ones(len(rows), np.float32)
    with keras.device(device_parameters("keras", "cpu")["device"]):
        network = _network(keras, SequenceClassifier(window=WINDOW), COLUMNS, 1)
        network.compile(
            optimizer=keras.optimizers.Adam(0.001), loss=keras.losses.BinaryCrossentropy(from_logits=True)
        )
        whole = windows.take(rows)  # what feeding from NumPy needs: every window, `window` times the data
        ours, bare = [], []
        for number in range(ROUNDS + 1):  # the first pair compiles and is left out
            feed = _feed(keras, windows, rows, BATCH, target, weights, seed=number)
            order = feed.order
            x, y, w = whole[order], target[order], weights[order]
            pair = [
                (ours, partial(network.fit, feed, epochs=1, shuffle=False, verbose=0)),
                (
                    bare,
                    partial(
                        network.fit,
                        x,
                        y,
                        sample_weight=w,
                        batch_size=BATCH,
                        epochs=1,
                        shuffle=False,
                        verbose=0,
                    ),
                ),
            ]
            for times, run in pair[::(-1) ** number]:
                times.append(took(run))
    return np.array(ours[1:]), np.array(bare[1:]), prepared


def peak(make) -> int:
    """Bytes that Python and NumPy take at most while `make` runs."""
    tracemalloc.start()
    kept = make()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del kept
    return most


def memory(panel: Panel) -> tuple[float, float]:
    """Peak of making windows and of one batch, and of every window at once: times the data as float32."""
    values, ages = panel.X.to_numpy(), np.arange(len(panel.X))
    once = values.size * 4
    ours = peak(lambda: Windows(values, ages, WINDOW).take(np.arange(BATCH)))
    return ours / once, peak(lambda: Windows(values, ages, WINDOW).take(ages)) / once


def against_cpu(panel: Panel) -> list[str]:
    """Rows for the models that know the GPU: seconds there and on the CPU; or that nothing was measured."""
    gpu = compute_device("auto")
    if gpu.name == "cpu":
        return [
            f"| GPU: {name} | not measured ({gpu.reason}) | - | - |"
            for name in ("xgboost", "lightgbm", "lstm")
        ]
    large, rows = Panel(50, 2_500, 60), []
    for name, own in (
        ("xgboost", dict(n_estimators=300, max_depth=6)),
        ("lightgbm", dict(n_estimators=300)),
        ("lstm", dict(epochs=3, units=64)),
    ):
        if name == "lightgbm" and device_parameters(name, gpu)["device_type"] == "cpu":
            rows.append("| GPU: lightgbm | not measured (its build has no CUDA) | - | - |")
            continue
        seconds = {}
        for where in ("cpu", "gpu"):
            for _ in range(2):  # the second is kept: the first compiles and starts the device
                begin = time.perf_counter()
                fit_rows(
                    make_model(name, device=where, threads=1, **own), large, np.arange(len(large.X)), large.y
                )
                seconds[where] = time.perf_counter() - begin
        ratio = seconds["cpu"] / seconds["gpu"]
        rows.append(f"| GPU: {name} | {seconds['gpu']:.2f} s, CPU {seconds['cpu']:.2f} s, {ratio:.1f} times "
                    f"as fast | - | - |")
    return rows


def main() -> None:
    """Print the figures."""
    panel = Panel()
    ours, bare, prepared = epochs(panel)
    (own, _), (plain, _) = ours.min(axis=0), bare.min(axis=0)
    ratio, cpu = own / plain, np.median(ours[:, 1] / bare[:, 1])
    mine, all_at_once = memory(panel)
    verdict = "met" if ratio <= LIMIT else "missed"
    print(f"| one epoch beside the same Keras model fed from NumPy, shortest of {ROUNDS} each | {ratio:.2f}x "
          f"| {LIMIT}x | {verdict} |")
    print(f"| the same in CPU seconds, median of {ROUNDS} pairs | {cpu:.2f}x | {LIMIT}x | "
          f"{'met' if cpu <= LIMIT else 'missed'} |")
    print(f"| the epoch itself, {len(panel.X):,} rows x {COLUMNS} x {WINDOW}; from NumPy | {own:.2f} s; "
          f"{plain:.2f} s | - | - |")
    print(f"| finding runs, standardising, making windows, once a fit | {prepared:.2f} s | - | - |")
    print(f"| peak memory of windows and a batch, times the data as float32 | {mine:.2f}x | 2x | "
          f"{'met' if mine <= 2 else 'missed'} |")
    print(f"| the same for every window at once, as NumPy needs | {all_at_once:.1f}x | - | - |")
    print("\n".join(against_cpu(panel)))


if __name__ == "__main__":
    main()
