"""The alpha set: every column against plain pandas, dull and dirty bars, bar by bar, no peeking, one
compilation."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mlfin.features.alpha as module
from mlfin.core import kernels
from mlfin.core.errors import DataError, SpecError
from mlfin.sources.sources import read_bars
from mlfin.features.alpha import ALPHA, BAR_FACTORS, WINDOW_FACTORS, alpha_columns
from mlfin.leakage.lookahead import assert_no_lookahead
from mlfin.features.feature_types import start
from mlfin.features.spec import parse, parse_set, set_names
from mlfin.features.table import compute_features

MARKET = Path(__file__).parents[2] / ".." / "shared" / "data" / "market"
needs_market = pytest.mark.skipif(not MARKET.is_dir(), reason="../shared/data/market is not here")
PRICES = ["open", "high", "low", "close"]
AFTER = (
    "roc cord cntp cntn cntd sump sumn sumd wvma vsump vsumn vsumd".split()
)  # these need a bar before the window


# --- the slow way: one window at a time, written from the published formulas
# --------------------------------------

def roll(x: pd.Series, n: int, f) -> pd.Series:
    """f of every full window."""
    return x.rolling(n).apply(f, raw=True)


def line(w: np.ndarray) -> tuple[float, float]:
    """Slope of the line of least squares, and its value at the last point."""
    t = np.arange(len(w)) - (len(w) - 1) / 2
    slope = (t * (w - w.mean())).sum() / (t * t).sum()
    return slope, w.mean() + slope * t[-1]


def correlation(x, y) -> float:
    """Pearson's, or NaN where one side stands still or is unknown."""
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or x.min() == x.max() or y.min() == y.max():
        return np.nan
    return np.corrcoef(x, y)[0, 1]


def pairs(x: pd.Series, y: pd.Series, n: int) -> pd.Series:
    """Correlation of every full window."""
    a, b = x.to_numpy(), y.to_numpy()
    return pd.Series(
        [
            np.nan if i < n - 1 else correlation(a[i - n + 1 : i + 1], b[i - n + 1 : i + 1])
            for i in range(len(a))
        ]
    )


def share(a, b):
    """a / b, a share of nothing being nothing."""
    return (a / b.where(b > 0)).where(b.isna() | (b > 0), 0.0)


def slow_bar(b: pd.DataFrame, name: str) -> pd.Series:
    """One factor of a single bar."""
    o, h, low, c = (b[p] for p in PRICES)
    body, top, bottom = (
        b[["open", "close"]],
        b[["open", "close"]].max(axis=1),
        b[["open", "close"]].min(axis=1),
    )
    shapes = {"kmid": body.close - body.open, "kup": h - top, "klow": bottom - low, "ksft": 2 * c - h - low}
    if name == "klen":
        return (h - low) / o
    if name.endswith("2"):
        return share(shapes[name[:-1]], h - low)
    if name in shapes:
        return shapes[name] / o
    return {"open0": o, "high0": h, "low0": low, "vwap0": (h + low + c) / 3}[name] / c


def slow_changes(x: pd.Series, name: str, n: int) -> pd.Series:
    """Shares of rises and falls in the last n changes."""
    d = x.diff()
    if name.startswith("cnt"):
        up, down = ((s * 1.0).where(d.notna()).rolling(n).mean() for s in (d > 0, d < 0))
        return {"cntp": up, "cntn": down, "cntd": up - down}[name]
    up, down, total = (roll(s, n, np.sum) for s in (d.clip(lower=0), -d.clip(upper=0), d.abs()))
    return share({"p": up, "n": down, "d": up - down}[name[-1]], total)


def slow(b: pd.DataFrame, name: str, n: int) -> pd.Series:
    """One factor of a window, of one symbol's bars."""
    h, low, c, v = b.high, b.low, b.close, b.volume
    traded = v.where(v > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        turn = np.log(v / v.shift(1) + 1)
    moves = (c / c.shift(1) - 1).abs() * v
    return {
        "roc": lambda: c.shift(n) / c,
        "ma": lambda: roll(c, n, np.mean) / c,
        "std": lambda: roll(c, n, lambda w: w.std(ddof=1)) / c,
        "beta": lambda: roll(c, n, lambda w: line(w)[0]) / c,
        "resi": lambda: roll(c, n, lambda w: w[-1] - line(w)[1]) / c,
        "rsqr": lambda: roll(c, n, lambda w: correlation(np.arange(n), w) ** 2),
        "max": lambda: h.rolling(n).max() / c,
        "min": lambda: low.rolling(n).min() / c,
        "qtlu": lambda: roll(c, n, lambda w: np.quantile(w, 0.8)) / c,
        "qtld": lambda: roll(c, n, lambda w: np.quantile(w, 0.2)) / c,
        "rank": lambda: c.rolling(n).rank(pct=True),
        "rsv": lambda: share(c - low.rolling(n).min(), h.rolling(n).max() - low.rolling(n).min()),
        "imax": lambda: roll(h, n, lambda w: w.argmax() + 1) / n,
        "imin": lambda: roll(low, n, lambda w: w.argmin() + 1) / n,
        "imxd": lambda: (roll(h, n, np.argmax) - roll(low, n, np.argmin)) / n,
        "corr": lambda: pairs(c, np.log(v + 1), n),
        "cord": lambda: pairs(c / c.shift(1), turn, n),
        "vma": lambda: roll(v, n, np.mean) / traded,
        "vstd": lambda: roll(v, n, lambda w: w.std(ddof=1)) / traded,
        "wvma": lambda: share(roll(moves, n, lambda w: w.std(ddof=1)), roll(moves, n, np.mean)),
    }.get(name, lambda: slow_changes(v if name.startswith("v") else c, name.removeprefix("v"), n))()


def expected(bars: pd.DataFrame, spec: str) -> np.ndarray:
    """A column of the alpha set, the slow way."""
    f = parse(spec)
    name = f.name.removeprefix("alpha_")
    parts = [part.reset_index(drop=True) for _, part in bars.groupby("symbol", sort=False)]
    return np.concatenate([slow_bar(p, name) if not f.values else slow(p, name, *f.values) for p in parts])


def check(bars: pd.DataFrame, specs=ALPHA) -> pd.DataFrame:
    """Every column equal to the slow one to 1e-9, with the same gaps and nothing infinite."""
    table = compute_features(bars, specs, short="nan")
    for f in parse_set(specs):
        got, wanted = table[f.spec].to_numpy(), expected(bars, f.spec)
        assert not np.isinf(got).any(), f.spec
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-11, err_msg=f.spec)
    return table


# --- values
# --------------------------------------------------------------------------------------------------------

def test_the_set():
    assert set_names()["alpha"] == ALPHA and len(set(ALPHA)) == 158 == 13 + 29 * 5
    features = parse_set("alpha")
    assert [f.spec for f in features] == list(ALPHA) and {f.unit for f in features} == {"ratio"}
    assert all(f.source and f.doc and not f.anchored and f.online is None for f in features)
    for f in features:
        after = f.name.removeprefix("alpha_") in AFTER
        assert f.lookback == (f.values[0] - 1 + after if f.values else 0), f.spec


def test_several_symbols_against_plain_pandas(bars):
    table = check(bars.groupby("symbol").tail(100).reset_index(drop=True))
    for f in parse_set("alpha"):
        assert table[f.spec].dtype == np.float64
        for _, part in table.groupby("symbol"):
            gaps = part[f.spec].isna().to_numpy()
            assert gaps[:f.lookback].all() and not gaps[f.lookback:].any(), f.spec


def dull(make_bars):
    """Round prices (ties everywhere), a price that stands still, days without a trade, a bar without
    range."""
    b = make_bars("AAA", 260, 5)
    b[PRICES] = b[PRICES].round(0)
    b.loc[60:140, PRICES] = b["close"][60]
    b["volume"] = (b["volume"] / 1000).round()
    b.loc[100:190, "volume"] = 0.0
    b.loc[[20, 220, 222], "volume"] = 0.0
    b["high"], b["low"] = b[PRICES].max(axis=1), b[PRICES].min(axis=1)
    return b


def test_ties_flat_stretches_and_days_without_volume(make_bars):
    table = check(dull(make_bars))
    still = table.loc[130]
    assert (
        list(still[["alpha_kmid2", "alpha_rsv_60", "alpha_sump_60", "alpha_sumd_5", "alpha_wvma_20"]])
        == [0.0] * 5
    )
    assert list(still[["alpha_std_60", "alpha_beta_60", "alpha_resi_60", "alpha_ma_60"]]) == [
        0.0,
        0.0,
        0.0,
        1.0,
    ]
    assert not np.signbit(still[["alpha_resi_60", "alpha_beta_60"]].to_numpy(float)).any()
    assert (
        still[["alpha_rsqr_5", "alpha_corr_60", "alpha_cord_5", "alpha_vma_5", "alpha_vstd_60"]].isna().all()
    )
    assert still["alpha_rank_10"] == 5.5 / 10 and still["alpha_imax_10"] == 0.1
    assert still["alpha_imxd_10"] == 0.0
    assert np.flatnonzero(table["alpha_cord_5"][10:50].isna()).tolist() == [
        11,
        12,
        13,
        14,
        15,
    ]  # the bar after the still one


def test_blocks_have_no_seams(make_bars):
    specs = [s for s in ALPHA if s.endswith(("_5", "_20"))] + [
        "alpha_ma_600",
        "alpha_std_513",
        "alpha_imin_512",
        "alpha_qtlu_1000",
    ]
    check(make_bars("AAA", 1300, 9), specs)


@pytest.mark.parametrize(
    "size", [1, 5, 60]
)  # and one more, of another symbol: a window, and the bar before it
def test_short_symbols(make_bars, size):
    bars = pd.concat(
        [make_bars("AAA", size, 1), make_bars("BBB", 1, 2), make_bars("CCC", size + 1, 3)], ignore_index=True
    )
    check(bars)


def test_real_bars():
    bars = read_bars("builtin").bars
    check(bars.groupby("symbol").tail(80).reset_index(drop=True))


@needs_market
@pytest.mark.parametrize("path, options, rows", [
    ("freqtrade/XRP_ETH-1m.feather", {"symbol": "XRP/ETH", "timeframe": "1m"}, 150),
    ("freqtrade/futures/*-1h-mark.feather", {"symbol_from": "([A-Z]+)", "timeframe": "1h"}, 70),
    ("cinar_brkb/*.csv", {"symbol_from": "(brk-b)", "tz": "America/New_York", "calendar": "XNYS"}, 130),
])
def test_real_bars_of_others(path, options, rows):
    bars = read_bars(MARKET / path, **options).bars
    check(bars.groupby("symbol").tail(rows).reset_index(drop=True))


def test_a_high_level_eats_no_digits(make_bars):
    bars = make_bars("AAA", 80)
    bars["close"] = 1e9 + np.random.default_rng(0).integers(0, 50, 80) / 64  # exact in float64
    got = compute_features(bars, ["alpha_std_60", "alpha_beta_60", "alpha_rsqr_60", "alpha_ma_60"])
    w = [Fraction(x) for x in bars["close"][-60:]]
    mean, t = sum(w) / 60, [Fraction(2 * i - 59, 2) for i in range(60)]
    total, along, norm = (
        sum((x - mean) ** 2 for x in w),
        sum(a * x for a, x in zip(t, w, strict=True)),
        sum(a * a for a in t),
    )
    exact = [
        float(total / 59) ** 0.5 / float(w[-1]),
        float(along / norm / w[-1]),
        float(along**2 / norm / total),
        float(mean / w[-1]),
    ]
    np.testing.assert_allclose(got.iloc[-1, 4:].to_numpy(float), exact, rtol=1e-12)


def test_the_currency_does_not_matter(bars):
    cents = bars.assign(**{p: bars[p] * 2.0**-40 for p in PRICES})
    pd.testing.assert_frame_equal(
        compute_features(cents, ["alpha"]), compute_features(bars, ["alpha"]), check_exact=True
    )


def test_a_tiny_price_keeps_its_digits(bars):
    check(
        bars.assign(**{p: bars[p] * 1e-11 for p in PRICES}),
        [s for s in ALPHA if s.endswith(("2", "_5", "_20"))],
    )


# --- the same bits
# ---------------------------------------------------------------------------------------------------

def same(a, b) -> bool:
    """Equal to the last bit."""
    a, b = np.ascontiguousarray(a, dtype=np.float64), np.ascontiguousarray(b, dtype=np.float64)
    return a.tobytes() == b.tobytes() or bool(
        ((a.view(np.int64) == b.view(np.int64)) | (np.isnan(a) & np.isnan(b))).all()
    )


def test_alone_and_together(bars):
    together = compute_features(bars, ["alpha", "alpha_ma_7", "alpha_qtlu_23", "sma_20"])
    for spec in [*ALPHA, "alpha_ma_7", "alpha_qtlu_23"]:
        assert same(compute_features(bars, [spec])[spec], together[spec]), spec
        f, one = parse(spec), bars[bars.symbol == "CCC"]
        assert same(
            f.function(*(one[c].to_numpy() for c in f.inputs), *f.values), together.loc[one.index, spec]
        ), spec


def test_from_its_own_last_bars(bars, make_bars):
    for frame in (bars[bars.symbol == "AAA"], dull(make_bars), make_bars("LONG", 1100, 4)):
        frame = frame.reset_index(drop=True)
        whole = compute_features(frame, ["alpha"])
        for back in sorted({f.lookback for f in parse_set("alpha")}):
            specs = [f.spec for f in parse_set("alpha") if f.lookback == back]
            for end in {back + 1, *np.linspace(back + 1, len(frame), 9).astype(int)}:
                last = compute_features(frame[end - back - 1:end].reset_index(drop=True), specs)
                assert same(last[specs].iloc[-1], whole[specs].iloc[end - 1]), (specs, end)


@pytest.mark.parametrize(
    "spec",
    ["alpha_kmid2", "alpha_rsqr_10", "alpha_cord_5", "alpha_wvma_10", "alpha_imxd_5", "alpha_vsumd_10"],
)
def test_bar_by_bar(make_bars, spec):
    bars, f = dull(make_bars), parse(spec)
    state, table = start(f), compute_features(bars, [spec])[spec]
    assert same([state.update(*row)[0] for row in bars[list(f.inputs)].itertuples(index=False)], table)


def test_repeated_and_read_only_input(bars):
    one = compute_features(bars, ["alpha"])
    pd.testing.assert_frame_equal(one, compute_features(bars, ["alpha"]), check_exact=True)
    arrays = {c: bars[c].to_numpy().copy() for c in (*PRICES, "volume")}
    before = {c: x.copy() for c, x in arrays.items()}
    wanted = [(s.removeprefix("alpha_").rsplit("_", 1)[0], int(s.rsplit("_", 1)[1])) for s in ALPHA[13:]]
    writable = alpha_columns(wanted, arrays, np.array([0, 300, 340, 540]))
    assert same(writable, one[list(ALPHA[13:])].to_numpy().T)
    assert all(np.array_equal(arrays[c], x) for c, x in before.items())
    twice = alpha_columns([("ma", 5), ("kmid",), ("ma", 5)], arrays, np.array([0, 300, 340, 540]))
    assert same(twice[0], twice[2]) and same(twice[0], one["alpha_ma_5"])


def test_machine_code_equals_the_python_it_was_made_from(make_bars, monkeypatch):
    bars = dull(make_bars)[40:120].reset_index(drop=True)
    specs = [f"alpha_{name}_{n}" for name in WINDOW_FACTORS for n in (3, 5, 17)]
    fast = compute_features(bars, specs)
    monkeypatch.setattr(module, "compiled", lambda kernel: kernel)
    with np.errstate(all="ignore"):
        pd.testing.assert_frame_equal(compute_features(bars, specs), fast, check_exact=True)


def test_nothing_peeks(bars):
    assert assert_no_lookahead(["alpha"], bars, cuts=3) >= 3 * 2 * 158


def test_nothing_peeks_down_to_one_bar(bars):
    late = bars["ts"].drop_duplicates().sort_values()[-4:-1]
    assert_no_lookahead(["alpha"], bars[bars.symbol != "BBB"].reset_index(drop=True), cuts=list(late))
    assert_no_lookahead(list(ALPHA[:40]), bars, cuts=[bars["ts"][0]])


# --- bad input, and the first use
# ------------------------------------------------------------------------------------

def test_only_what_is_read_is_asked_for(bars):
    assert (
        compute_features(bars.drop(columns=["open", "low", "close", "volume"]), ["alpha_imax_5"])[
            "alpha_imax_5"
        ]
        .notna()
        .any()
    )
    assert (
        compute_features(bars.drop(columns=["high", "low", "volume"]), ["alpha_kmid", "alpha_ma_5"])[
            "alpha_kmid"
        ]
        .notna()
        .all()
    )
    with pytest.raises(DataError, match="the column volume"):
        compute_features(bars.drop(columns="volume"), ["alpha"])
    for name in BAR_FACTORS:
        f = parse(f"alpha_{name}")
        assert compute_features(bars[[*bars.columns[:4], *f.inputs]], [f])[f.spec].notna().all()


@pytest.mark.parametrize(
    "spec, says",
    [
        ("alpha_ma", "takes n"),
        ("alpha_ma_1", r"an integer in \[2, 1000\]"),
        ("alpha_corr_2", r"\[3, 1000\]"),
        ("alpha_ma_1001", r"\[2, 1000\]"),
        ("alpha_kmid_5", "no number"),
        ("alpha_mo_20", "did you mean"),
        ("alpha_ma_2.5", "an integer"),
        ("alpha", "parse_set reads sets"),
    ],
)
def test_refused(spec, says):
    with pytest.raises(SpecError, match=says):
        parse(spec)


FIRST_USE = """
import sys
import numpy as np
from mlfin.features.feature_types import compute
from mlfin.features.spec import parse
f = parse("alpha_roc_5")
assert "numba" not in sys.modules, "numba is imported before it is used"
print(compute(f, np.arange(1.0, 9.0))[0][-1])
"""


@pytest.mark.slow
def test_the_first_use_says_that_it_compiles_and_the_second_does_not(tmp_path):
    env = {
        "PATH": "/usr/bin",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "NUMBA_CACHE_DIR": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    told = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", FIRST_USE], capture_output=True, text=True, cwd=tmp_path, env=env
        )
        assert done.stdout.strip() == str(3 / 8), done.stderr
        told.append(done.stderr.count("compiling the kernels of the alpha set"))
    assert told == [1, 0]


def test_without_a_folder_for_compiled_kernels(bars, monkeypatch, caplog):
    import numba

    compiled = numba.njit
    def njit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function '_past': no locator available for file 'alpha.py'")
        return compiled(**options)
    specs = ["alpha_roc_5", "alpha_rank_5"]
    before = compute_features(bars, specs)
    monkeypatch.setattr(numba, "njit", njit)
    for told in (kernels.compiled, kernels._warn_uncached):
        told.cache_clear()
    try:
        pd.testing.assert_frame_equal(compute_features(bars, specs), before, check_exact=True)
        assert caplog.text.count("NUMBA_CACHE_DIR") == 1
    finally:
        kernels.compiled.cache_clear()
