"""Labels: values, spans, ends, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfin.core.errors import DataError, SpecError
from mlfin.datasets.label_names import is_label, label_of, parse_label
from mlfin.datasets.labels import compute_labels, forward_return, label_coverage, meta_labels, triple_barrier


def bars_of(sizes: dict[str, int], seed: int = 0) -> pd.DataFrame:
    """Bars of several symbols, each a random walk from one first day."""
    rng, parts = np.random.default_rng(seed), []
    for symbol, size in sorted(sizes.items()):
        ts = pd.date_range("2020-01-01", periods=size, freq="B", tz="UTC").as_unit("us")
        price = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, size)))
        known = ts + pd.Timedelta("7h")
        parts.append(pd.DataFrame(dict(symbol=symbol, timeframe="1d", ts=ts, known_at=known, open=price)))
    return pd.concat(parts, ignore_index=True)


def test_by_hand():
    bars = bars_of({"AAA": 5}).assign(open=[10.0, 20.0, 30.0, 25.0, 25.0])
    out = forward_return(bars, 1)
    assert out.columns.tolist() == [
        "symbol",
        "timeframe",
        "ts",
        "t0",
        "t1",
        "fwd_ret_1",
        "fwd_ret_1_direction",
    ]
    assert out["fwd_ret_1"].tolist() == [0.5, 25 / 30 - 1, 0.0]
    assert out["fwd_ret_1_direction"].tolist() == [1, 0, 0] and out["fwd_ret_1_direction"].dtype == np.int8
    assert out["t0"].tolist() == bars["ts"][1:4].tolist() and out["t1"].tolist() == bars["ts"][2:5].tolist()
    assert out["t0"].dtype == bars["ts"].dtype == out["t1"].dtype


@given(st.dictionaries(st.sampled_from("ABCDE"), st.integers(3, 30), min_size=1), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
@pytest.mark.filterwarnings("ignore:no fwd_ret")
def test_against_a_slow_loop(sizes, horizon):
    bars = bars_of(sizes)
    if max(sizes.values()) < horizon + 2:
        with pytest.raises(DataError, match="`horizon` must be at most"):
            forward_return(bars, horizon)
        return
    rows = []
    for symbol, part in bars.groupby("symbol"):
        part = part.reset_index(drop=True)
        for i in range(len(part) - horizon - 1):
            into, out = part.loc[i + 1], part.loc[i + 1 + horizon]
            rows.append((symbol, part.loc[i, "ts"], into.ts, out.ts, out.open / into.open - 1))
    got = forward_return(bars, horizon)
    assert (
        list(got[["symbol", "ts", "t0", "t1", f"fwd_ret_{horizon}"]].itertuples(index=False, name=None))
        == rows
    )
    assert (got["t0"] > got["ts"]).all() and (got["t1"] > got["t0"]).all()


def test_a_short_symbol_is_named_and_a_horizon_too_long_for_all_is_an_error():
    bars = bars_of({"AAA": 30, "BBB": 6, "CCC": 7})
    with pytest.warns(UserWarning, match="no fwd_ret_5 for BBB: fewer than 7 bars"):
        labels = forward_return(bars, 5)
    assert labels["symbol"].unique().tolist() == ["AAA", "CCC"]
    table = label_coverage(bars, labels).set_index("symbol")
    assert table["labels"].to_dict() == {"AAA": 24, "BBB": 0, "CCC": 1}
    assert (table["bars"] == table["labels"] + table["without"]).all()
    with pytest.raises(
        DataError, match="`horizon` must be at most 28, for the longest history has 30 bars, got 29"
    ):
        forward_return(bars, 29)
    with pytest.warns(UserWarning):
        assert len(forward_return(bars, 28)) == 1


@pytest.mark.parametrize("horizon", [0, -1, 2.0, "5", None, True])
def test_impossible_horizon(horizon):
    with pytest.raises(DataError, match="`horizon` must be an integer >= 1"):
        forward_return(bars_of({"AAA": 30}), horizon)


@pytest.mark.parametrize("spec", [
    "", "fwd_ret", "fwd_ret_0", "fwd_ret_05", "fwd_ret_-1", "fwd_ret_1.5", "ret_5", "fwd_5", 5, None])
def test_unknown_label(spec):
    with pytest.raises(SpecError, match="`label` must be the name of a known label"):
        parse_label(spec)


def test_names():
    assert parse_label("fwd_ret_20").horizon == 20 and str(parse_label("fwd_ret_20")) == "fwd_ret_20"
    assert parse_label(parse_label("fwd_ret_3")).direction == "fwd_ret_3_direction"
    assert is_label("fwd_ret_5") and is_label("fwd_ret_9_direction") and not is_label("rsi_14")
    assert "fwd_ret_3" in compute_labels(bars_of({"A": 20}), "fwd_ret_3")


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_impossible_prices(value):
    bars = bars_of({"AAA": 10, "BBB": 10})
    bars.loc[13, "open"] = value
    with pytest.raises(DataError, match="row 13: BBB"):
        forward_return(bars, 2)


def test_bad_bars():
    bars = bars_of({"AAA": 10})
    for bad in (bars.iloc[::-1], bars.drop(columns="open"), bars[:0], pd.concat([bars, bars])):
        with pytest.raises(DataError):
            forward_return(bad, 2)


def market(symbols: int, size: int, seed: int = 0, gaps: bool = False) -> pd.DataFrame:
    """Full bars of several symbols; with gaps, each lacks days of its own."""
    rng, parts = np.random.default_rng(seed), []
    for number in range(symbols):
        ts = pd.date_range("2020-01-01", periods=size, tz="UTC").as_unit("us")
        if gaps:
            ts = ts[rng.random(size) < 0.9]
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, len(ts))))
        opened = close * np.exp(rng.normal(0, 0.01, len(ts)))
        parts.append(pd.DataFrame(dict(
            symbol=f"S{number}", timeframe="1d", ts=ts, known_at=ts + pd.Timedelta("20h"), open=opened,
            high=np.maximum(opened, close) * 1.01, low=np.minimum(opened, close) * 0.99, close=close)))
    return pd.concat(parts, ignore_index=True)


EVERY = (
    "fwd_ret_5",
    "fwd_log_3",
    "fwd_close_4",
    "fwd_demean_5",
    "fwd_quantile_5_3",
    "barrier_10_2_1",
    "barrier_7_0.5_3",
    "next_close",
)


@pytest.mark.parametrize("spec", EVERY)
def test_columns_spans_and_ends_of_every_kind(spec):
    bars, label = market(4, 90, gaps=True), parse_label(spec)
    out = compute_labels(bars, spec)
    assert out.columns.tolist()[:7] == ["symbol", "timeframe", "ts", "t0", "t1", spec, f"{spec}_direction"]
    assert out[spec].dtype == float and np.isfinite(out[spec]).all() and str(label) == spec
    assert out[label.direction].dtype == np.int8 and out[label.direction].isin([0, 1]).all()
    assert (out["ts"] < out["t0"]).all() and (out["t0"] <= out["t1"]).all()
    assert out["t1"].dtype == bars["ts"].dtype
    keys = ["symbol", "ts"]
    assert out[keys].equals(out[keys].drop_duplicates().sort_values(keys, ignore_index=True))
    last = bars.groupby("symbol")["ts"].nth(-label.horizon - label.entry - 1).to_numpy()
    assert (out.groupby("symbol")["ts"].max().to_numpy() <= last).all()
    assert all(is_label(c) for c in out.columns[5:])


@pytest.mark.parametrize("spec", EVERY)
@given(seed=st.integers(0, 999), at=st.integers(0, 60))
@settings(max_examples=15, deadline=None)
def test_no_bar_after_t1_and_none_before_t0_but_for_the_volatility_changes_a_label(spec, seed, at):
    bars = market(3, 70, seed, gaps=True)
    labels = compute_labels(bars, spec)
    row = labels.iloc[at % len(labels)]
    prices = ["open", "high", "low", "close"]
    rng = np.random.default_rng(seed)
    far = bars["ts"] > row.t1
    if not parse_label(spec).up:
        far |= bars["ts"] < (
            row.t0 if parse_label(spec).entry else row.ts
        )  # next_close counts from the close that decides
    changed = bars.copy()
    changed.loc[far, prices] = changed.loc[far, prices] * np.exp(rng.normal(0, 0.3, (far.sum(), 1)))
    again = compute_labels(changed, spec)
    found = again[(again["symbol"] == row.symbol) & (again["ts"] == row.ts)]
    pd.testing.assert_series_equal(found.iloc[0], row, check_names=False, check_exact=True)
    if far.sum() > 20:  # and something did change elsewhere
        assert not again.equals(labels)


def test_logarithm_and_close_by_hand():
    bars = market(1, 5).assign(open=[10.0, 20.0, 30.0, 25.0, 25.0], close=[11.0, 22.0, 33.0, 44.0, 11.0])
    np.testing.assert_allclose(
        compute_labels(bars, "fwd_log_1")["fwd_log_1"], np.log([30 / 20, 25 / 30, 1]), rtol=1e-15
    )
    out = compute_labels(bars, "fwd_close_2")
    assert out["fwd_close_2"].tolist() == [44 / 22 - 1, 11 / 33 - 1]
    assert out["fwd_close_2_direction"].tolist() == [1, 0]
    assert out["t0"].tolist() == bars["ts"][1:3].tolist()
    assert out["t1"].tolist() == bars["known_at"][3:5].tolist()
    with pytest.raises(DataError, match="`kind` must be ret, log or close, got 'open'"):
        forward_return(bars, 1, "open")


def test_next_close_by_hand():
    closes = {"A": [10.0, 11.0, 11.0, 9.9], "B": [50.0, 25.0, 50.0, 75.0]}
    bars = pd.concat(
        [market(1, 4).assign(symbol=s, close=own) for s, own in closes.items()], ignore_index=True
    )
    out = compute_labels(bars, "next_close")
    np.testing.assert_allclose(out["next_close"], [0.1, 0, -0.1, -0.5, 1, 0.5], rtol=0, atol=1e-15)
    assert out["next_close_direction"].tolist() == [1, 0, 0, 0, 1, 1]
    assert parse_label("next_close").horizon == 1
    assert out["t0"].tolist() == [*bars["known_at"][:3], *bars["known_at"][4:7]]
    assert out["t1"].tolist() == [*bars["known_at"][1:4], *bars["known_at"][5:]]
    assert len(compute_labels(bars.groupby("symbol").head(2), "next_close")) == 2
    with pytest.raises(DataError, match="the longest history has 1 bars"):
        compute_labels(bars.groupby("symbol").head(1), "next_close")
    for wrong in ("next_close_1", "next_closes", "nextclose"):
        with pytest.raises(SpecError, match="next_close` is the return from the close that decides"):
            parse_label(wrong)


def test_against_the_others_by_hand():
    bars = pd.concat([bars_of({s: 3}).assign(open=[1.0, 100.0, 100.0 + gain]) for s, gain in
                      zip("ABCDE", (5, -3, 1, 1, 6), strict=True)], ignore_index=True)
    out = compute_labels(bars, "fwd_demean_1")
    np.testing.assert_allclose(out["fwd_demean_1"], [0.03, -0.05, -0.01, -0.01, 0.04], atol=1e-15)
    assert out["fwd_demean_1_direction"].tolist() == [1, 0, 0, 0, 1]
    out = compute_labels(bars, "fwd_quantile_1_2")  # places 4 1 2.5 2.5 5 of 5
    assert out["fwd_quantile_1_2_class"].tolist() == [1, 0, 0, 0, 1]
    np.testing.assert_allclose(out["fwd_quantile_1_2"], [0.05, -0.03, 0.01, 0.01, 0.06], rtol=1e-12)
    out = compute_labels(bars, "fwd_quantile_1_5")
    assert out["fwd_quantile_1_5_class"].tolist() == [3, 0, 2, 2, 4]
    assert out["fwd_quantile_1_5_direction"].tolist() == [0, 0, 0, 0, 1]


def test_times_with_too_few_symbols_have_no_comparison():
    bars = bars_of({"AAA": 30, "BBB": 20, "CCC": 10})
    count = compute_labels(bars, "fwd_quantile_2_3").groupby("ts").size()
    assert len(count) == 7 and (count == 3).all()
    assert len(compute_labels(bars, "fwd_demean_2").groupby("ts")) == 17
    with pytest.raises(DataError, match=r"(?s)of at least 4 symbols at one time, got 3.*take fwd_ret"):
        compute_labels(bars, "fwd_quantile_2_4")
    with pytest.raises(DataError, match="of at least 2 symbols"):
        compute_labels(bars[:30], "fwd_demean_2")


def test_a_comparison_is_known_when_the_last_of_them_is():
    bars = market(2, 12)
    bars = bars.drop(index=12 + 4).reset_index(drop=True)  # the second symbol lacks a day
    spans = compute_labels(bars, "fwd_demean_2").set_index(["symbol", "ts"])[["t0", "t1"]]
    assert (spans.loc["S0"] == spans.loc["S1"].reindex(spans.loc["S0"].index)).all(axis=None)
    days = bars["ts"][:12].tolist()
    assert spans.loc[("S0", days[2])].tolist() == [days[3], days[6]]  # its own exit is a day earlier


def trade(rows: dict, spec: str = "barrier_3_2_1"):
    """The label of bar 30, of bars at 100 with a volatility of one per cent; `rows` are bars after it, by
    place."""
    from mlfin.datasets import labels

    bars = market(1, 40).assign(open=100.0, high=100.5, low=99.5, close=100.0)
    for place, prices in rows.items():
        bars.loc[30 + place, list(prices)] = list(prices.values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "bar_volatility", lambda bars: np.full(len(bars), 0.01))
        out = compute_labels(bars, spec)
    row, spec = out[out["ts"] == bars["ts"][30]].iloc[0], parse_label(spec)
    at = bars["ts"].tolist().index(row.t1) - 30 if row.t1 in bars["ts"].tolist() else None
    inside = bars["known_at"].tolist().index(row.t1) - 30 if row.t1 in bars["known_at"].tolist() else None
    assert row.t0 == bars["ts"][31]
    return round(row[spec.spec], 9), row[f"{spec.spec}_class"], row[spec.direction], at, inside


@pytest.mark.parametrize(
    "rows, value, side, at, inside",
    [
        ({}, 0.0, 0, 4, None),  # time: the open three bars after the entry
        ({4: dict(open=100.7)}, 0.007, 0, 4, None),  # what it opens at then
        ({2: dict(high=102.0)}, 0.02, 1, None, 2),  # just touched
        ({2: dict(high=101.99)}, 0.0, 0, 4, None),
        ({2: dict(low=99.0)}, -0.01, -1, None, 2),
        ({2: dict(low=99.0, high=102.0)}, -0.01, -1, None, 2),  # both in a bar: the loss
        (
            {1: dict(low=98.0), 2: dict(high=110.0)},
            -0.01,
            -1,
            None,
            1,
        ),  # the first counts; the entry's own bar too
        ({3: dict(open=97.0, low=96.0, high=103.0)}, -0.03, -1, 3, None),  # opens below: worse than planned
        (
            {3: dict(open=105.0, low=90.0, high=106.0)},
            0.05,
            1,
            3,
            None,
        ),  # opens above, and is out before it falls
        ({4: dict(open=98.0, low=97.0)}, -0.02, -1, 4, None),  # the last open is beyond the barrier
        ({4: dict(low=90.0)}, 0.0, 0, 4, None),  # after the exit
        ({0: dict(low=90.0, high=120.0)}, 0.0, 0, 4, None),  # before the entry
    ],
)
def test_barriers_by_hand(rows, value, side, at, inside):
    assert trade(rows) == (value, side, int(side == 1), at, inside)


def test_barriers_against_a_slow_loop():
    bars, (h, up, down) = market(2, 120, seed=4), (6, 2.5, 2.0)
    out = compute_labels(bars, "barrier_6_2.5_2").set_index(["symbol", "ts"])
    seen = 0
    for symbol, part in bars.groupby("symbol"):
        log, part = np.log(part["close"]).diff(), part.reset_index(drop=True)
        vol = log.ewm(span=100, min_periods=20).std().to_numpy()
        for i in range(len(part) - h - 1):
            if not vol[i] > 0:
                assert (symbol, part.ts[i]) not in out.index
                continue
            entry = part.open[i + 1]
            top, bottom = entry * (1 + up * vol[i]), entry * (1 - down * vol[i])
            for k in range(i + 1, i + 2 + h):
                bar = part.loc[k]
                if bar.open <= bottom or bar.open >= top:
                    found = bar.open, (-1 if bar.open <= bottom else 1), bar.ts
                elif k == i + 1 + h:
                    found = bar.open, 0, bar.ts
                elif bar.low <= bottom:
                    found = bottom, -1, bar.known_at
                elif bar.high >= top:
                    found = top, 1, bar.known_at
                else:
                    continue
                break
            row, seen = out.loc[(symbol, part.ts[i])], seen + 1
            assert (row["barrier_6_2.5_2"], row["barrier_6_2.5_2_class"], row["t1"]) == (
                pytest.approx(found[0] / entry - 1, abs=1e-12), *found[1:])
    assert seen == len(out) and set(out["barrier_6_2.5_2_class"]) == {-1, 0, 1}


def test_barriers_need_a_volatility():
    assert len(compute_labels(market(1, 40), "barrier_5_1_1")) == 40 - 20 - 6
    with pytest.raises(DataError, match="with a volatility: 20 returns"):
        compute_labels(market(1, 25), "barrier_5_1_1")
    with pytest.raises(DataError, match="with a volatility"):
        compute_labels(market(1, 60).assign(open=1.0, high=1.0, low=1.0, close=1.0), "barrier_5_1_1")
    with pytest.raises(DataError, match="column low"):
        compute_labels(market(1, 60).drop(columns="low"), "barrier_5_1_1")


def test_meta_labels_by_hand():
    bars = bars_of({"AAA": 6}).assign(open=[1.0, 10.0, 11.0, 9.9, 9.9, 19.8])
    labels = compute_labels(bars, "fwd_ret_1")  # 0.1 -0.1 0 1
    meta = meta_labels(labels, [1, -1, -1, 0])
    assert meta.columns.tolist() == [
        "symbol",
        "timeframe",
        "ts",
        "t0",
        "t1",
        "meta_fwd_ret_1",
        "meta_fwd_ret_1_direction",
    ]
    np.testing.assert_allclose(meta["meta_fwd_ret_1"], [0.1, 0.1, 0.0], atol=1e-12)
    assert meta["meta_fwd_ret_1_direction"].tolist() == [1, 1, 0]
    assert meta["ts"].tolist() == labels["ts"][:3].tolist()
    assert label_of(meta) == parse_label("meta_fwd_ret_1")
    for side, says in (([1, 1], "one for each of the 4 labels"), ([1, 2, 0, 0], r"1, -1 or 0, got \[2\]"),
                       ([1, np.nan, 0, 0], "1, -1 or 0")):
        with pytest.raises(DataError, match=says):
            meta_labels(labels, side)
    with pytest.raises(DataError, match="another kind than meta"):
        meta_labels(meta, [1, 1, 1])
    with pytest.raises(SpecError, match="one that bars decide"):
        compute_labels(bars, "meta_fwd_ret_1")


@pytest.mark.parametrize(
    "spec, says",
    [
        ("fwd_rets_5", "did you mean `fwd_ret_5`"),
        ("fwd_return_20", "did you mean `fwd_ret_20`"),
        ("barier_20_2_1", "did you mean `barrier_20_2_1`"),
        ("fwd_quantil_5_4", "did you mean `fwd_quantile_5_4`"),
        ("fwd_quantile_5", "did you mean `fwd_quantile_5_2`"),
        ("fwd_quantile_5_1", "Q a whole number from 2 to 99"),
        ("barrier_20_2.0_1", "as short as they go"),
        ("barrier_20_0_1", "numbers above 0"),
        ("barrier_20_2", "U and D numbers"),
        ("fwd_log_0", "H a whole number from 1"),
        ("rsi_14", "one of fwd_ret_H"),
        ("meta_meta_fwd_ret_5", "the name of a known"),
        ("meta_fwd_retn_5", "did you mean `fwd_ret_5`"),
        ("fwd_ret_5\n", "did you mean"),
        ("\U0001f600", "one of fwd_ret_H"),
    ],
)
def test_the_nearest_name_is_said(spec, says):
    with pytest.raises(SpecError, match=says):
        parse_label(spec)


@given(st.integers(1, 99999), st.sampled_from([0.5, 1.0, 1.25, 2.0, 10.0, 999.0]), st.integers(2, 99))
def test_every_name_of_the_grammar_is_understood(h, x, q):
    for kind in ("ret", "log", "close", "demean"):
        label = parse_label(f"fwd_{kind}_{h}")
        assert (label.kind, label.horizon, label.direction) == (f"fwd_{kind}", h, f"fwd_{kind}_{h}_direction")
    label = parse_label(f"meta_barrier_{h}_{x:g}_{x:g}")
    assert (label.horizon, label.up, label.down, label.meta) == (h, x, x, True)
    assert parse_label(f"fwd_quantile_{h}_{q}").classes == q


def test_barriers_are_what_their_name_says():
    bars = market(1, 60)
    odd = triple_barrier(bars, 5, 1.23456789, 2)
    pd.testing.assert_frame_equal(odd, compute_labels(bars, "barrier_5_1.23457_2"))
    for up in ("2", None, True):
        with pytest.raises(DataError, match="`up` must be a number above 0"):
            triple_barrier(bars, 5, up, 2)
    for up in (0, -1, float("nan"), 1e9):
        with pytest.raises(SpecError, match="U and D numbers above 0"):
            triple_barrier(bars, 5, up, 2)
