"""Sweeps over signals: each set is what simulate says of its weights, and what vectorbt says; refusals."""
import time

import numba
import numpy as np
import pandas as pd
import pytest

from mlfin.backtest.risk import drawdowns
from mlfin.backtest.simulate import simulate
from mlfin.core.errors import BacktestError, DataError, MlfinError, ParameterError
from mlfin.core.trials import open_ledger
from mlfin.significance.sharpe_ratio import sharpe
from mlfin.sweeps import SignalSweep, sweep_signals


def market(seed=0, rows=300, symbols="ABC", gaps=0.1, step=0.02):
    """Random walks with holes, with everything that costs may ask for; C ends early, B begins late."""
    rng = np.random.default_rng(seed)
    ts = pd.date_range("2024-01-01", periods=rows, freq="D", tz="UTC", unit="us")
    frames = []
    for symbol in symbols:
        at = np.flatnonzero(rng.random(rows) > gaps)
        if symbol == "B": at = at[at > 40]
        if symbol == "C": at = at[at < 2 * rows // 3]
        close = 50 * np.exp(rng.normal(0, step, len(at)).cumsum())
        opens = np.append(50.0, close[:-1]) * np.exp(rng.normal(0, step / 4, len(at)))
        high, low = np.maximum(opens, close) * 1.01, np.minimum(opens, close) * 0.99
        frames.append(pd.DataFrame(dict(
            symbol=symbol, timeframe="1d", ts=ts[at], open=opens, high=high, low=low, close=close,
            vwap=(high + low) / 2, volume=rng.integers(100, 5_000, len(at)).astype(float), spread=0.02,
            known_at=ts[at] + pd.Timedelta(days=1))))
    return pd.concat(frames, ignore_index=True).astype({"symbol": "str", "timeframe": "str"})


def cross(fast, slow):
    return fast > slow


PAIRS = {"fast": ("sma", [3, 5, 10]), "slow": ("ema", [10, 20])}


def check_against_simulate(done: SignalSweep, bars: pd.DataFrame) -> None:
    """Each set of a sweep is what `simulate` says of its weights."""
    for k, row in done.table.iterrows():
        sim = simulate(done.weights(k), bars, done.costs[k], **done.stops[k])
        np.testing.assert_allclose(done.returns[k], sim.returns, rtol=0, atol=1e-12)
        assert done.returns.index.equals(sim.returns.index)
        expected = [sharpe(sim.returns), drawdowns(sim.equity)[0].min(),
                    sim.equity.strategy.iloc[-1] / sim.initial_cash - 1, sim.turnover, len(sim.orders)]
        got = row[["sharpe", "max_drawdown", "total_return", "turnover", "orders"]].astype(float)
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12, err_msg=str(dict(row)))


@pytest.mark.parametrize("symbols", ["A", "ABC"])
@pytest.mark.parametrize("grid, more", [
    ({"fee_bps": [0.0, 20.0], "delay": [1, 3]}, {}),
    ({"stop_loss": [None, 0.03], "trailing_stop": [None, 0.05]}, {"take_profit": 0.1}),
    ({"leverage": [1.0, 1.5]}, {"costs": {"use_spread": True, "funding_bps": 300.0}}),
    ({"participation": [None, 0.01], "lot": [0.0, 1.0]}, {"costs": {"impact": 0.1, "fill": "vwap"}}),
], ids=["fees", "stops", "leverage", "volume"])
def test_each_set_is_what_simulate_says(symbols, grid, more):
    bars = market(symbols=symbols)
    done = sweep_signals(cross, bars, PAIRS, grid, keep=lambda fast, slow: fast < slow, **more)
    assert len(done.table) == 5 * np.prod([len(v) for v in grid.values()])
    check_against_simulate(done, bars)


def test_a_weight_and_a_short():
    bars = market()
    done = sweep_signals(lambda fast, slow, size: size * np.sign(np.nan_to_num(fast - slow)), bars, PAIRS,
                         {"size": [-1.0, 0.3]})
    check_against_simulate(done, bars)
    assert (done.weights(0).abs().sum(axis=1) <= 1 + 1e-12).all() and (done.weights(0) < 0).any(axis=None)


def test_half_of_the_account():
    bars = market(symbols="A", gaps=0.0)
    done = sweep_signals(cross, bars, PAIRS, {"leverage": [0.5, 1.0, 2.0]})
    assert [done.weights(k).to_numpy().max() for k in range(3)] == [0.5, 1.0, 2.0]
    check_against_simulate(done, bars)
    assert done.table.total_return.nunique() == len(done.table)


def test_the_account_is_shared_by_those_that_trade():
    bars = market(gaps=0.0)
    held = sweep_signals(lambda close, level: close > level, bars, grid={"level": [0.0]}).weights(0)
    shares = held.iloc[[10, 100, 250]].to_numpy()
    np.testing.assert_allclose(shares, [[0.5, 0, 0.5], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]])


def test_all_sets_are_judged_from_the_longest_lookback_on():
    bars = market(symbols="A", gaps=0.0)
    done = sweep_signals(cross, bars, {"fast": ("sma", [2, 50]), "slow": ("sma", [3, 80])})
    assert done.weights(0).index[0] == bars.ts[79] and done.returns.index[0] == bars.ts[80]
    assert done.returns.notna().all(axis=None)


def test_threads_and_chunks_change_nothing(monkeypatch):
    bars = market()
    one = sweep_signals(cross, bars, PAIRS, {"fee_bps": range(10)})
    monkeypatch.setattr("mlfin.sweeps.signal_sweep.CHUNK_BYTES", 1)
    for threads in (1, 3):
        other = sweep_signals(cross, bars, PAIRS, {"fee_bps": range(10)}, threads=threads)
        pd.testing.assert_frame_equal(one.table, other.table, check_exact=True)
        pd.testing.assert_frame_equal(one.returns, other.returns, check_exact=True)


def test_a_compiled_signal_is_the_plain_one():
    bars, compiled = market(), numba.njit(lambda fast, slow: fast > slow)
    plain = sweep_signals(cross, bars, PAIRS)
    pd.testing.assert_frame_equal(sweep_signals(compiled, bars, PAIRS).table, plain.table, check_exact=True)


def test_a_column_of_a_feature_with_several():
    bars = market(symbols="A", gaps=0.0)
    numbers = [(5, 10, 3), (12, 26, 9)]
    done = sweep_signals(lambda trend: trend > 0, bars, {"trend": ("macd", numbers, "macd_hist")})
    assert done.table.trend.tolist() == numbers and (done.table.orders > 5).all()


def test_vectorbt_says_the_same():
    vbt = pytest.importorskip("vectorbt")
    bars = market(symbols="A", gaps=0.0, rows=400)
    windows = [3, 8, 20, 50]
    done = sweep_signals(cross, bars, {"fast": ("sma", windows), "slow": ("sma", windows)},
                         keep=lambda fast, slow: fast < slow, costs={"fee_bps": 5.0, "slippage_bps": 0.0})
    close = bars.set_index(bars.ts.dt.tz_localize(None)).close
    fast, slow = vbt.MA.run_combs(close, window=windows, r=2, short_names=["fast", "slow"])
    wanted = (fast.ma.to_numpy() > slow.ma.to_numpy())[49:-1].astype(float)
    size = np.where(np.diff(wanted, axis=0, prepend=0.0) != 0, wanted, np.nan)
    opens = bars.open.to_numpy()[50:, None]
    pf = vbt.Portfolio.from_orders(close.iloc[50:], size=size, size_type="targetpercent", price=opens,
                                   val_price=opens, fees=5e-4, init_cash=100_000.0, freq="1D")
    np.testing.assert_allclose(done.table.total_return, pf.total_return(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(done.table.max_drawdown, pf.max_drawdown(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("signal", [
    lambda close, n: np.roll(close, -n, axis=0) > close,
    lambda close, n: close > n * close.mean(axis=0),
    lambda close, n: (close - close.min()) / np.ptp(close) * n / 9,
    lambda close, n: pd.DataFrame(close).rolling(2 * n + 1, center=True).mean().to_numpy() > close,
    lambda close, n: pd.DataFrame(np.where(close > 50 + n, close, np.nan)).bfill().to_numpy() > close,
], ids=["next close", "mean of all", "scaled by all", "centred mean", "filled backwards"])
def test_a_signal_that_looks_ahead_is_refused(signal):
    with pytest.raises(BacktestError, match=r"(?s)n=\d.*looks ahead"):
        sweep_signals(signal, market(symbols="A", gaps=0.0), grid={"n": [1, 2, 3]})


def test_what_a_signal_raises_names_set_line_and_error():
    def broken(close, n): return close > [1.0, 2.0][n]

    with pytest.raises(BacktestError) as raised:
        sweep_signals(broken, market(), grid={"n": [0, 1, 2]})
    said = str(raised.value)
    assert "raised IndexError: list index out of range for n=2, in line" in said
    assert "of test_signal_sweep.py: `def broken(close, n): return close > [1.0, 2.0][n]`" in said
    assert isinstance(raised.value.__cause__, IndexError)


def test_what_raises_on_a_shorter_history_says_so():
    with pytest.raises(BacktestError, match="n=1, given the first [0-9,]+ rows alone"):
        sweep_signals(lambda close, n: close > close[250], market(symbols="A", gaps=0.0), grid={"n": [1]})


@pytest.mark.parametrize("kind", ["plain", "compiled"])
def test_a_signal_cannot_change_its_inputs(kind):
    def changing(close, n):
        close[0, 0] = n
        return close > 0

    with pytest.raises(BacktestError, match=r"(?s)n=1.*close\.copy"):
        sweep_signals(numba.njit(changing) if kind == "compiled" else changing, market(), grid={"n": [1]})


@pytest.mark.parametrize("signal, features, grid, more, error, words", [
    (5, PAIRS, None, {}, ParameterError, "a function of arrays"),
    ("fast > open('x')", PAIRS, None, {}, ParameterError, "got \"open('x')\""),
    ("fast >", PAIRS, None, {}, ParameterError, "an expression"),
    ("fast > slwo", PAIRS, None, {}, ParameterError, "did you mean `slwo`"),
    (lambda fast, slow: None, PAIRS, None, {}, BacktestError, "got 'nothing'"),
    (lambda close, sharpe: close > sharpe, None, {"sharpe": [1]}, {}, ParameterError,
     "otherwise than a figure"),
    (cross, PAIRS, {"stop_loss": [None, 0.1]}, {"keep": "stop_loss < 1"}, BacktestError,
     "raised TypeError"),
    (lambda close, n: close > n, None, {"n": range(10_000_000)}, {}, ParameterError,
     "10,000,000 combinations"),
    (cross, {"fast": ("sma", [5])}, None, {}, ParameterError, "`the signal's 'slow'` must be a feature"),
    (cross, {**PAIRS, "fest": ("sma", [5])}, None, {}, ParameterError, "did you mean `fast`"),
    (cross, {**PAIRS, "fast": ("sma", [])}, None, {}, ParameterError, "at least one value"),
    (cross, {**PAIRS, "fast": ("sma", [5, 5])}, None, {}, ParameterError, "more than once"),
    (cross, {**PAIRS, "fast": ("smma", [5])}, None, {}, MlfinError, "smma"),
    (cross, {**PAIRS, "fast": ("sma", [0])}, None, {}, MlfinError, "sma_0"),
    (cross, {**PAIRS, "fast": ("bbands", [(20, 2)])}, None, {}, ParameterError, "a column of bbands_20_2"),
    (cross, PAIRS, {"fast": [1]}, {}, ParameterError, "no name that `features` has too"),
    (cross, PAIRS, {"fees": [1]}, {}, ParameterError, "known"),
    (cross, PAIRS, {"fee_bps": [-1.0]}, {}, ParameterError, "fee_bps"),
    (cross, PAIRS, {"stop_loss": [1.5]}, {}, ParameterError, "stop_loss"),
    (cross, PAIRS, {"fee_bps": range(2_000_000)}, {}, ParameterError, "12,000,000 combinations"),
    (cross, PAIRS, {"fee_bps": range(9_000)}, {"memory_mb": 1}, ParameterError, "larger memory_mb"),
    (cross, {**PAIRS, "slow": ("sma", [5_000])}, None, {}, DataError, "sma_5000"),
    (lambda vwap: vwap > 0, None, {"fee_bps": [1]}, {"drop": "vwap"}, BacktestError, "a column `vwap`"),
    (lambda close: close > 0, None, {}, {}, ParameterError, "at least one axis"),
    (lambda close, n: close * n, None, {"n": [1]}, {}, BacktestError, "between -1 and 1"),
    (lambda close, n: close[n:] > 0, None, {"n": [1]}, {}, BacktestError, "of the shape"),
    (lambda close, n: np.where(close > 40 + n, np.nan, 0.5), None, {"n": [1]}, {}, BacktestError,
     "between -1 and 1, got nan"),
    (cross, PAIRS, None, {"keep": lambda fast: False}, ParameterError, "lets none pass"),
    (cross, PAIRS, None, {"cash": 0}, ParameterError, "cash"),
    (cross, PAIRS, None, {"threads": 0}, ParameterError, "threads"),
    (cross, PAIRS, None, {"cuts": 0}, ParameterError, "cuts"),
])
def test_what_cannot_be_swept_is_refused_by_name(signal, features, grid, more, error, words):
    bars, began = market(), time.process_time()
    if "drop" in more: bars, more = bars.drop(columns=more["drop"]), {}
    with pytest.raises(error) as raised: sweep_signals(signal, bars, features, grid, **more)
    assert words in str(raised.value) and time.process_time() - began < 10


@pytest.mark.parametrize("bars, words", [
    (market()[:0], "with rows"), ([1, 2], "a frame, got 'list'"),
    (market().drop(columns="ts"), "column `ts`"), (market().drop(columns="close"), "column `close`"),
    (market().assign(vwap=np.nan), "the column vwap"),
    (market().assign(ts=lambda t: t.ts.dt.tz_localize(None)), "a time zone"),
], ids=["empty", "no frame", "no ts", "no close", "NaN alone", "naive times"])
def test_bars_that_cannot_be_swept_are_refused_by_name(bars, words):
    with pytest.raises(DataError) as raised: sweep_signals(lambda vwap, n: vwap > n, bars, grid={"n": [1, 2]})
    assert words in str(raised.value)


def month_end(close, n):
    """Looks at the next close on every 97th day alone."""
    out, later = close > 50, np.append(close[1:], close[-1:], axis=0)
    rare = np.arange(len(close)) % 97 == 96
    out[rare] = (later > close)[rare]
    return out


def for_one_set(close, n):
    """Looks ahead for one of 500 sets alone."""
    return close > n if n != 33 else np.append(close[1:], close[-1:], axis=0) > close


@pytest.mark.parametrize("signal, grid", [
    (month_end, [1]), (month_end, [1, 2]), (for_one_set, range(500)),
    (lambda close, n: close >= n * close.max(axis=0), [1.0]),
    (lambda close, n: (close - close.mean()) / (5 * np.ptp(close)) * n, [0.1]),
], ids=["rare, one set", "rare, two sets", "one set of 500", "highest of all", "scaled"])
def test_a_rare_look_ahead_is_found(signal, grid):
    with pytest.raises(BacktestError, match=r"(?s)looks ahead"):
        sweep_signals(signal, market(symbols="A", gaps=0.0, rows=900), grid={"n": grid})


def test_a_random_signal_is_called_random():
    rng = np.random.default_rng(0)
    with pytest.raises(BacktestError, match="of nothing else"):
        sweep_signals(lambda close, n: rng.random(close.shape), market(), grid={"n": [1]})


def test_the_result_says_how_often_history_was_cut():
    bars, grid = market(symbols="A", gaps=0.0), {"n": range(40, 60)}
    few, more = (sweep_signals(lambda close, n: close > n, bars, grid=grid, cuts=c) for c in (1, 2_000))
    assert 20 < few.cuts <= 40 < 1_000 < more.cuts and f"{more.cuts:,} cuts" in repr(more)
    pd.testing.assert_frame_equal(few.table, more.table, check_exact=True)
    many = sweep_signals(lambda close, n: close > n, bars, grid={"n": np.linspace(40, 60, 700).tolist()})
    assert many.cuts >= 500 + 2 * 190  # every set


def test_nothing_is_held_where_an_input_is_unknown():
    bars = market(gaps=0.0)
    done = sweep_signals("not (fast > slow)", bars, {"fast": ("sma", [5]), "slow": ("sma", [30])})
    held = done.weights(0)["B"].to_numpy() > 0  # begins in row 41
    assert not held[:41].any() and held.any()


def test_a_text_is_the_function_that_it_says():
    bars = market()
    text = sweep_signals("fast > slow and not close < level", bars, PAIRS, {"level": [40.0, 60.0]},
                         keep="fast < slow")
    plain = sweep_signals(lambda fast, slow, close, level: (fast > slow) & ~(close < level), bars, PAIRS,
                          {"level": [40.0, 60.0]}, keep=lambda fast, slow: fast < slow)
    pd.testing.assert_frame_equal(text.table, plain.table, check_exact=True)


def test_neighbours_in_a_grid_with_holes_are_those_one_step_away():
    windows = [3, 5, 10, 20, 40]
    done = sweep_signals(cross, market(seed=5), {"fast": ("sma", windows), "slow": ("sma", windows)},
                         keep=lambda fast, slow: fast < slow)
    found, places = done.plateau(), {n: i for i, n in enumerate(windows)}
    at = [(places[f], places[s]) for f, s in zip(done.table.fast, done.table.slow, strict=True)]
    near = [k for k, (f, s) in enumerate(at) if k != found.best and abs(f - at[found.best][0]) <= 1
            and abs(s - at[found.best][1]) <= 1]
    assert found.neighbours == len(near) and found.best == done.table.sharpe.idxmax()


def test_every_set_is_a_trial_once(tmp_path):
    done = sweep_signals(cross, market(), PAIRS, {"fee_bps": [0.0, 5.0]})
    ledger = open_ledger(tmp_path / "trials.sqlite")
    assert done.record(ledger, "x", "d1", "cross") == 12 and done.record(ledger, "x", "d1", "cross") == 0
    assert done.record(ledger, "x", "d2", "cross") == 12
    assert ledger.returns("x").shape == (len(done.returns), 24)


def test_the_heatmap_shows_each_set_frames_the_best_and_its_neighbours():
    done = sweep_signals(cross, market(), PAIRS)
    figure = done.heatmap()
    np.testing.assert_allclose(np.array(figure.data[0].z, float), done.by_axes().unstack("fast").to_numpy())
    best, (frame, near) = done.table.loc[done.best()], figure.layout.shapes
    at = [3, 5, 10].index(best.fast), [10, 20].index(best.slow)
    assert ((frame.x0 + frame.x1) / 2, (frame.y0 + frame.y1) / 2) == pytest.approx(at)
    assert near.line.dash == "dot" and near.x1 - near.x0 > frame.x1 - frame.x0
    assert figure.layout.xaxis.title.text == "Fast (of sma)"
    assert str(done.plateau()) in figure.layout.title.subtitle.text


@pytest.mark.parametrize("over, reduce", [("best", "max"), ("median", "median")])
def test_more_axes_than_two_are_summed_up_as_the_chart_says(over, reduce):
    done = sweep_signals(cross, market(), PAIRS, {"fee_bps": [0.0, 5.0, 50.0], "stop_loss": [None, 0.1]})
    figure = done.heatmap("fee_bps", "stop_loss", over=over)
    wanted = done.table.groupby([done.table.stop_loss.fillna(-1), "fee_bps"]).annualised.agg(reduce)
    np.testing.assert_allclose(np.array(figure.data[0].z, float), wanted.unstack().to_numpy())
    said = figure.layout.title.subtitle.text
    assert f"{'largest' if over == 'best' else 'median'} over fast, slow, of 36 sets" in said
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text, list(figure.data[0].y)) == (
        "Fee (bps)", "Stop loss (share of a price)", ["none", "0.1"])


def test_one_axis_is_a_line_and_tuples_and_words_have_their_place():
    bars = market(symbols="A", gaps=0.0)
    line = sweep_signals(lambda close, n: close > n, bars, grid={"n": [52.0, 50.0, 51.0]}).heatmap()
    assert list(line.data[0].x) == ["50", "51", "52"] and line.data[0].mode == "lines+markers"
    numbers = [(5, 10, 3), (12, 26, 9)]
    done = sweep_signals("trend > 0", bars, {"trend": ("macd", numbers, "macd_hist")},
                         {"fill": ["open", "close"]})
    figure = done.heatmap()
    assert list(figure.data[0].x) == ["5, 10, 3", "12, 26, 9"] and list(figure.data[0].y) == ["open", "close"]
    assert figure.layout.xaxis.title.text == "Trend (of macd_hist)"


@pytest.mark.parametrize("asked, words", [
    (("fsat", "slow"), "did you mean `fast`"), (("fast", "fast"), "another axis"),
    (("fast", "slow", "sharp"), "did you mean `sharpe`"), (("fast", "slow", "sharpe", "mean"), "`median`"),
])
def test_a_heatmap_of_what_is_not_there_is_refused(asked, words):
    with pytest.raises(MlfinError, match=words): sweep_signals(cross, market(), PAIRS).heatmap(*asked)
