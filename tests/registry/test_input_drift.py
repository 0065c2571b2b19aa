"""The stability index by its definition, and what it says of inputs that hardly move from bar to bar."""
import json

import numpy as np
import pandas as pd
import pytest

from mlfin.registry.input_drift import MOVED, STRETCH, sketch_inputs, stability_index


def test_by_hand():
    now = np.array([-1.0] * 29 + [0.5] * 49 + [2.0] * 19)
    shares, was = np.array([29.5, 49.5, 19.5]) / 98.5, np.array([0.2, 0.5, 0.3])
    assert stability_index(now, [0.0, 1.0],
                           was) == pytest.approx(sum((a - e) * np.log(a / e)
                                                     for a, e in zip(shares, was, strict=True)))
    assert stability_index([*now, np.nan, np.inf], [0.0, 1.0], was) == stability_index(now, [0.0, 1.0], was)
    assert np.isnan(stability_index([np.nan], [0.0],
                                    [0.5, 0.5])) and np.isfinite(stability_index([99.0] * 50, [0.0, 1.0],
                                                                                 was))


def test_a_sketch_is_small_and_survives_json():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({f"x{i}": rng.normal(size=3000)
                         for i in range(20)} | {"flat": 1.0, "none": np.nan, "rare": rng.random(3000) < 0.01})
    sketch = sketch_inputs(rows.astype("float64"), np.repeat(np.arange(1500), 2))
    assert json.loads(json.dumps(sketch)) == sketch and len(json.dumps(sketch)) < 300 * 23
    assert "none" not in sketch
    for name, s in sketch.items():
        assert stability_index(rows[name].astype("float64"), s["edges"], s["shares"]) < 0.01, name


def test_independent_values_rarely_move_and_slow_ones_are_measured_by_their_own_past():
    rng, moved, naive = np.random.default_rng(1), [], []
    for _ in range(100):
        slow = np.zeros(4000)
        for t in range(1, 4000): slow[t] = 0.97 * slow[t - 1] + rng.normal()
        past = pd.DataFrame({"fast": rng.normal(size=3500), "slow": slow[:3500]})
        sketch = sketch_inputs(past, np.arange(3500))
        assert stability_index(rng.normal(size=STRETCH),
                               **{k: sketch["fast"][k] for k in ("edges", "shares")}) < MOVED
        own = sketch["slow"]
        index = stability_index(slow[-STRETCH:], own["edges"], own["shares"])
        naive.append(index > MOVED)
        moved.append(index > max(MOVED, own["usual"]))
    # 5% are above, were `usual` known without error
    assert np.mean(naive) > 0.6 and np.mean(moved) < 0.25, (np.mean(naive), np.mean(moved))
