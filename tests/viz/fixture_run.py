"""A believable run folder: everything that `mlfin run` leaves, from seeded noise, for tests of what people see."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<script src="plotly.min.js"></script></head><body><h1>{title}</h1><div id="figure"></div>
<script>Plotly.newPlot("figure", [{{y: [1, 2, 3]}}]);</script></body></html>"""
TASKS = ("91_ingest", "92_features", "93_train_logistic", "93a_compare", "94_backtest", "95_publish")


def make_bars(symbols: tuple[str, ...], n: int, seed: int, minutes: bool) -> pd.DataFrame:
    rng, parts = np.random.default_rng(seed), []
    if minutes:
        ts = pd.date_range("2021-12-31", periods=n, freq="min", tz="UTC").as_unit("us")
    else:
        ts = (pd.bdate_range("2005-01-03", periods=n, tz="UTC") + pd.Timedelta("14h30min")).as_unit("us")
    for s in symbols:
        drift, step = (0.0, 0.0008) if minutes else (0.0003, 0.014)
        close = 100 * np.exp(rng.normal(drift, step, n).cumsum())
        open_ = np.r_[100, close[:-1]]
        parts.append(pd.DataFrame(dict(
            symbol=s, timeframe="1m" if minutes else "1d", ts=ts, known_at=ts + pd.Timedelta("6h30min"), open=open_,
            high=np.maximum(open_, close) * 1.003, low=np.minimum(open_, close) * 0.997, close=close,
            volume=rng.integers(1_000, 9_000, n).astype(float))))
    return pd.concat(parts, ignore_index=True)


def make_trading(bars: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    wide = bars.pivot(index="ts", columns="symbol", values="close")
    half = wide.iloc[len(wide) // 3:]
    weights = pd.DataFrame(0.0, index=half.index, columns=half.columns)
    for c in weights:
        on = np.repeat(rng.integers(0, 2, len(half) // 15 + 1), 15)[: len(half)]
        weights[c] = on / len(wide.columns)
    moves = half.pct_change().fillna(0.0)
    strategy = 100_000 * (1 + (weights.shift(1).fillna(0) * moves).sum(axis=1)).cumprod()
    benchmark = 100_000 * (1 + moves.mean(axis=1)).cumprod()
    equity = pd.DataFrame(dict(ts=half.index, strategy=strategy.values, benchmark=benchmark.values))
    rows = []
    for c in weights:
        turns = np.flatnonzero(np.diff(np.r_[0, (weights[c] > 0).astype(int), 0]))
        for a, b in zip(turns[::2], turns[1::2], strict=True):
            last = b >= len(half)
            out = half[c].iloc[min(b, len(half) - 1)]
            rows.append(dict(symbol=c, side="long", entry_ts=half.index[a],
                             exit_ts=pd.NaT if last else half.index[b],
                             entry_price=half[c].iloc[a], exit_price=out, size=10.0, fees=1.5,
                             **{"return": out / half[c].iloc[a] - 1},
                             pnl=10 * (out - half[c].iloc[a]), status="open" if last else "closed"))
    return dict(equity=equity, positions=weights.reset_index(), trades=pd.DataFrame(rows).sort_values("entry_ts"))


def key_figures(line: pd.Series, ts: pd.Series) -> dict:
    step, depth = line.pct_change().dropna(), line / line.cummax() - 1
    return dict(start=str(ts.iloc[0].date()), end=str(ts.iloc[-1].date()), periods=len(step), periods_per_year=252,
                total_return=line.iloc[-1] / line.iloc[0] - 1, cagr=0.061, volatility=float(step.std() * 252 ** 0.5),
                sharpe=float(step.mean() / step.std() * 252 ** 0.5), sortino=0.9, calmar=None,
                max_drawdown=float(depth.min()),
                max_drawdown_days=412.0, max_drawdown_recovery_days=None, initial_cash=100_000.0,
                final_equity=float(line.iloc[-1]),
                exposure=0.52, turnover_per_year=12.4, trades=88, open_trades=2, hit_rate=0.53, fees=812.5,
                slippage=1_625.0,
                costs=2_437.5, charged_bps=3.0, breakeven_bps=4.2)


def make_run(root: Path, experiment: str = "default", symbols: tuple[str, ...] = ("AAPL", "IBM", "MSFT"),
             n: int = 1500,
             seed: int = 0, minutes: bool = False, profile: str = "development", latest: bool = True) -> str:
    """Write one run under `root/reports` and return its id."""
    run_id = hashlib.sha256(f"{experiment}{symbols}{n}{seed}".encode()).hexdigest()[:16]
    folder = root / "reports" / profile / experiment / "runs" / run_id
    (folder / "data").mkdir(parents=True)
    bars = make_bars(symbols, n, seed, minutes)
    frames = dict(bars=bars, **make_trading(bars, seed))
    daily = frames["equity"].set_index("ts")["strategy"].pct_change().dropna()
    monthly = ((1 + daily).groupby([daily.index.year, daily.index.month]).prod() - 1).unstack()
    monthly = monthly.reindex(columns=range(1, 13)).rename(columns=str).rename_axis("year").reset_index()
    frames["monthly"] = monthly
    for name, frame in frames.items(): frame.to_parquet(folder / "data" / f"{name}.parquet", index=False)
    equity = frames["equity"]
    luck = dict(sharpe=0.03, annualised=0.41, standard_error=0.02, psr=0.71, dsr=0.38, min_track_record=5_100.0,
                ci=[-0.35, 1.2],
                n_trials=4 + seed, n_periods=len(equity), periods_per_year=252, confidence=0.95,
                expected_maximum_annualised=0.6,
                pbo=0.55, pbo_reason=None)
    first = f"Not distinguishable from luck: DSR 0.38 after {4 + seed} trials."
    second = "Holding the same symbols earned more: 6.1% against 8.3% a year, Sharpe ratio 0.41 against 0.62."
    documents = dict(
        backtest={c: key_figures(equity[c], equity.ts) for c in ("strategy", "benchmark")}, significance=luck,
        verdict=dict(headline=f"{first} {second}", better_than_luck=False, better_than_holding=False,
                     sentences=[first, second, "At worst the account was 12.4% below its peak; 412 days to the end, not recovered."],
                     caveats=["Five symbols that are known to have survived are a biased sample."]))
    for name, value in documents.items(): (folder / "data" / f"{name}.json").write_text(json.dumps(value))
    script = 'window.Plotly = {newPlot: (id) => document.getElementById(id).textContent = "drawn"};'
    (folder / "plotly.min.js").write_text(script)
    for task in TASKS: (folder / f"{task}.html").write_text(PAGE.format(title=f"{task} of {experiment}"))
    record = dict(
        run_id=run_id, experiment=experiment, profile=profile,
        parameters=dict(symbols=list(symbols), timeframe="1m" if minutes else "1d", label="fwd_ret_5",
                        models=["logistic", "xgboost"], rule="long_flat", fee_bps=1.0, slippage_bps=2.0, seed=7),
        tasks={t.split("_")[1]: dict(key=f"{i:064x}", products={}) for i, t in enumerate(TASKS)}, products={},
                  ledger=dict(count=4, hash="0" * 64),
        when=dict(started=f"2026-11-2{seed % 10}T09:00:00Z", finished=f"2026-11-2{seed % 10}T09:01:10Z",
                  commit="0123abc", dirty=False, host="lab"))
    (folder / "run.json").write_text(json.dumps(record))
    if latest: (folder.parents[1] / "run.json").write_text(json.dumps(record))
    return run_id
