"""The audit of a run's features: what it sees, wherever a leak is planted, and what it costs."""

import time

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import SpecError
from mlfin.leakage.audit import audit_features, audit_function, seed_of
from mlfin.leakage.isolation import SandboxedFeatures
from mlfin.features.bar_keys import gap_rows
from mlfin.leakage.cuts import check_cuts, draw_cuts
from mlfin.features.online import check_each_bar, draw_rows
from mlfin.features.feature_types import Param
from mlfin.features.spec import definitions, families, feature, parse_set
from mlfin.features.table import compute_features

SPECS = ("rsi_14 macd_12_26_9 mom_14 sma_20 ema_50 bbands_20_2 atr_14 historical_vol_21 returns log_returns "
         "volume_ma_20 obv".split())


@pytest.fixture
def twelve(make_bars):
    """Twelve symbols of 300 bars, with a pause of ten days in each."""
    parts = [make_bars(f"S{i:02d}", 310, i) for i in range(12)]
    return pd.concat(
        [p.drop(index=range(40 + 20 * i, 50 + 20 * i)) for i, p in enumerate(parts)], ignore_index=True
    )


def noise(close):
    return np.sin(close * 1e5)


def peeking(places, ahead):
    """Noise and a little of the last return; at some closes a little of a return that is still to come, where
    there is one."""
    def function(close):
        if len(close) == 2:  # a window: nothing later is there to peek at
            return np.array([np.nan, noise(close[1]) + 0.1 * (np.log(close[1]) - np.log(close[0]))])
        back = np.append(0.0, np.diff(np.log(close)))
        later = (
            np.append(np.log(close[ahead:]) - np.log(close[:-ahead]), back[-ahead:])
            if len(close) > ahead
            else back
        )
        out = noise(close) + 0.1 * np.where(np.isin(close, places), later, back)
        out[0] = np.nan
        return out
    return function


def planted(rng, close, how):
    """Closes of 1 % of a symbol's rows: all over its history, or a stretch of it."""
    size, count = len(close) - 6, -(-len(close) // 100)
    if how == "scattered":
        return close[rng.choice(np.arange(1, size), count, replace=False)]
    begin = {
        "start": 1,
        "middle": size // 2,
        "end": size - count,
        "stretch": int(rng.integers(1, size - count)),
    }[how]
    return close[begin:begin + count]


def plant(bars, count, seed):
    """Register so many features, each with a peek somewhere; their specs."""
    rng, names = np.random.default_rng(seed), []
    ways = ["scattered", "scattered", "stretch", "start", "middle", "end"]
    for k in range(count):
        own = bars.close[bars.symbol == f"S{int(rng.integers(12)):02d}"].to_numpy()
        name = "peek_" + "".join(chr(97 + int(d)) for d in f"{k:04d}")
        feature(name, unit="ratio", lookback=1)(peeking(planted(rng, own, ways[k % len(ways)]), 1 + k % 5))
        names.append(name)
    return names


@pytest.mark.parametrize("count", [100, pytest.param(400, marks=pytest.mark.slow)])
def test_a_peek_in_one_percent_of_one_of_twelve_symbols_is_seen(registry, twelve, count):
    """Power: at least 99 of 100. Before, cuts in the last rows of a few symbols saw next to none of these."""
    names = plant(twelve, count, seed=count)
    table = compute_features(twelve, names)
    audit = audit_features(names, twelve, table, "a run", isolated=False)
    seen = int((audit.report.verdict != "passes").sum())
    print(f"{seen} of {count} planted peeks are seen")
    assert seen >= 0.99 * count, audit.report[audit.report.verdict == "passes"]
    assert audit.share == audit.power == 1.0


def test_the_same_where_rows_are_drawn(registry, make_bars):
    """A sample of a third: peeks in 1 % of one symbol's rows, of which there are thirty."""
    bars = pd.concat([make_bars(f"S{i:02d}", 3000, i) for i in range(12)], ignore_index=True)
    names = plant(bars, 12, seed=5)
    found = check_each_bar(names, bars, compute_features(bars, names), limit=12_000, seed=9)
    assert (found.report.verdict == "differs").all() and 0.3 < found.share < 0.4


class Pair:
    """A close and the one before: numbers, pairs, or at first the one and then the other."""

    def __init__(self, early, wrong=0.0):
        self.before, self.early, self.wrong = None, early, wrong

    def update(self, close):
        before, self.before = self.before, close
        return self.early if before is None else (close, before + self.wrong)


@pytest.mark.parametrize("early", [np.nan, (np.nan, np.nan)])
@pytest.mark.parametrize(("wrong", "verdict"), [(0.0, "passes"), (1e-9, "differs")])
def test_states_that_give_several_numbers_are_compared(registry, twelve, early, wrong, verdict):
    def pair(close):
        return np.where(np.arange(len(close)) < 1, np.nan, close), np.append(np.nan, close[:-1])

    feature(
        "pair",
        unit="price",
        lookback=1,
        outputs=("pair_now", "pair_before"),
        online=lambda: Pair(early, wrong),
    )(pair)
    wanted = (
        "raises" if isinstance(early, float) else verdict
    )  # a number where two are due, as a service would see it
    assert list(check_each_bar(["pair"], twelve, compute_features(twelve, ["pair"])).report.verdict) == [
        wanted
    ]


def filled_back(close):
    return pd.Series(np.where(np.arange(len(close)) % 50 == 0, close, np.nan)).bfill().ffill().to_numpy()


def smoothed(close):
    return 0.5 * close + 0.5 * np.append(close[1:], close[-1])


def centred(close):
    return pd.Series(close).rolling(5, center=True, min_periods=1).mean().to_numpy()


def normalised(close):
    return close / close.mean()


def ranked(close):
    return pd.Series(close).rank(pct=True).to_numpy()


def across(panel):
    close = panel.values("close")
    return np.where(np.isnan(close), np.nan, close - np.nanmean(close))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bug", [filled_back, smoothed, centred, normalised, ranked, across])
def test_what_is_always_seen(registry, twelve, bug, seed):
    feature("planted", unit="price", lookback=0, kind="panel" if bug is across else "series")(bug)
    table = compute_features(twelve, ["ret_5", "planted"])
    assert [f.feature for f in check_cuts(["ret_5", "planted"], twelve, table, seed).findings] == ["planted"]
    assert list(check_each_bar(["ret_5", "planted"], twelve, table, seed=seed).report.verdict) == [
        "passes",
        "differs",
    ]


def test_a_feature_that_spares_the_last_bars(registry, twelve):
    """The leak of the attack: returns to come under noise, but for the last rows, where earlier tests
    looked."""
    from mlfin.features.diagnostics import trial_bars
    from mlfin.leakage.lookahead import assert_no_lookahead
    old = twelve.close[twelve.ts < twelve.ts.max() - pd.Timedelta("160D")].to_numpy()
    feature("spared", unit="ratio", lookback=1)(peeking(old, 1))
    recent = trial_bars(twelve, ["spared"], rows=150, symbols=3)
    assert assert_no_lookahead(["spared"], recent, cuts=5)
    audit = audit_features(["spared"], twelve, compute_features(twelve, ["spared"]), 1, isolated=False)
    with pytest.raises(SpecError, match="`spared` looks ahead: spared at S.*with all bars and.*The first "
                                        "input that changes it is close"):
        audit.check()


def test_a_peek_at_the_other_symbols(registry, twelve):
    def leader(panel):
        close = panel.values("close")
        out = close * 0.0
        at = np.isin(close[:, 0], places)
        out[:-1, 1:] += np.where(at[:-1, None], np.nan_to_num(close[1:, :1] / close[:-1, :1] - 1), 0.0)
        return out
    places = twelve.close[twelve.symbol == "S00"].to_numpy()[100:103]
    feature("leader", unit="ratio", lookback=0, kind="panel")(leader)
    found = check_each_bar(
        ["leader", "xs_rank_ret_5"], twelve, compute_features(twelve, ["leader", "xs_rank_ret_5"])
    ).report
    assert list(found.verdict) == ["differs", "passes"]


def test_a_fact_from_before_its_publication(registry, real, monkeypatch):
    """The reported value is taken at the end of its period, forty days before anyone knew it."""
    monkeypatch.setattr("mlfin.features.online.FACT_TIMES", 25)
    bars, context = real(90)
    def early(bars, facts):
        own = facts[facts.name == "net_income"]
        own = own.assign(published=pd.to_datetime(own.period_end, utc=True)).astype(
            {"published": bars.known_at.dtype}
        )
        left = bars[["symbol", "known_at"]].assign(row=np.arange(len(bars))).sort_values("known_at")
        right = (
            own[["symbol", "published", "value"]]
            .astype({"symbol": left.symbol.dtype})
            .sort_values("published")
        )
        made = pd.merge_asof(left, right, left_on="known_at", right_on="published", by="symbol")
        return made.sort_values("row")["value"].to_numpy()
    feature("early", unit="money", lookback=0, inputs=(), facts=("net_income",), kind="facts")(early)
    specs = ["early", "earnings_yield"]
    table = compute_features(bars, specs, **context)
    found = check_each_bar(specs, bars, table, **context)
    assert list(found.report.verdict) == ["differs", "passes"]
    assert "features of facts at 25 of 90 times" in found.note
    assert {f.feature for s in range(4) for f in check_cuts(specs, bars, table, s, **context).findings} == {
        "early"
    }


@pytest.mark.parametrize("days", [30, pytest.param(700, marks=pytest.mark.slow)])
def test_no_registered_feature_is_refused(real, days):
    bars, context = real(days, "2012-07-31")
    every = [d.example for d in definitions().values()] + [e for e, _ in families().values()]
    specs = every[::6] if days == 30 else every
    table = compute_features(bars, specs, short="nan", **context)
    assert check_cuts(specs, bars, table, 11, **context).findings == ()
    report = check_each_bar(specs, bars, table, **context).report
    assert (report.verdict == "passes").all(), report[report.verdict != "passes"].says.tolist()


def test_cuts_are_drawn_anew_and_again(twelve):
    one, again, other = (draw_cuts(twelve, seed_of(key)) for key in ("a", "a", "b"))
    assert (one == again).all() and (one != other).any(axis=1).all()
    assert one.min() >= 1 and (one.sum(axis=1) <= 301).all()
    gaps = gap_rows(twelve)
    assert len(gaps) == 12 and {twelve.symbol.iloc[i] for i in gaps} == set(twelve.symbol)
    begins = twelve.groupby("symbol").head(1).index.to_numpy()
    before = sum(
        (draw_cuts(twelve, s)[:, 1] - 1 + begins)[k] == gaps[k] for s in range(30) for k in range(12)
    )
    assert before >= 20                                            # some end right before a gap


def test_rows_are_drawn_from_everywhere(make_bars):
    bars = pd.concat([make_bars("AAA", 5000, 1), make_bars("BBB", 1000, 2)], ignore_index=True)
    rows = draw_rows(bars, limit=600, seed=1)
    longest = max(np.diff(np.flatnonzero(rows[:5000])).max(), np.diff(np.flatnonzero(rows[5000:])).max())
    assert 590 <= rows.sum() <= 640 and longest <= 20 and rows[5000:].sum() >= 95
    assert draw_rows(bars).all()


@pytest.mark.slow
def test_cuts_cost_at_most_half_as_much_again(make_bars):
    """CPU time, in turn: the least of seven each."""
    bars = pd.concat([make_bars(f"S{i:02d}", 20_000, i) for i in range(12)], ignore_index=True)
    table = compute_features(bars, SPECS)

    def taken(call):
        begun = time.process_time()
        call()
        return time.process_time() - begun

    pairs = [
        (taken(lambda: compute_features(bars, SPECS)),
         taken(lambda: check_cuts(SPECS, bars, table, k)))  # noqa: B023
        for k in range(7)
    ]
    once, cuts = map(min, zip(*pairs, strict=True))
    print(f"computing once more takes {once:.3f} s, cuts {cuts:.3f} s: {cuts / once:.2f} times")
    assert cuts <= 1.5 * once


def test_what_it_looked_at_is_said(twelve):
    audit = audit_features(SPECS, twelve, compute_features(twelve, SPECS), "key", limit=1200, isolated=False)
    assert "(33%" in audit.says or "(34%" in audit.says or "(35%" in audit.says
    assert "a peek in 1 % of one symbol's rows is seen with a probability of" in audit.says
    assert audit.power < 1


def test_a_table_that_is_not_of_these_bars(twelve):
    table = compute_features(twelve, ["ret_5"])
    table.loc[700, "ret_5"] += 1e-12
    audit = audit_features(["ret_5"], twelve, table, isolated=False)
    assert audit.report.verdict.tolist() == ["unstable"]
    assert "gives two values for one: ret_5 at S" in audit.report.says[0]


def test_a_function_of_ones_own(twelve):
    def honest(bars):
        by = bars.groupby("symbol")["close"]
        return pd.DataFrame({"move": by.pct_change(), "mean": by.transform(lambda x: x.expanding().mean())})

    def peeks(bars):
        return honest(bars).assign(move=bars.groupby("symbol")["close"].shift(-1).fillna(0.0))
    assert audit_function(honest, twelve, honest(twelve), "k", moments=30) > 50_000
    with pytest.raises(Exception, match="`move` must be what its function gives from bars up to"):
        audit_function(peeks, twelve, peeks(twelve), "k", moments=3)


def test_what_is_declared_travels(registry, twelve):
    feature("declared", params=[Param("n", 3)], unit="price", lookback=0, reads=("clock", "file"))(
        lambda close, n: close * n
    )
    names = ["declared_3", "xs_rank_declared_3"]
    audit = audit_features(names, twelve, compute_features(twelve, names), isolated=False)
    assert audit.reads == dict.fromkeys(names, ("file", "clock"))
    assert (audit.caveats[0] == "`declared_3` reads beside its bars: file, clock. What it finds there was "
                                "not cut off with the bars.")
    assert parse_set(["ret_5"])[0].reads == () and SandboxedFeatures.__doc__
