"""Regimes, worst stretches, other costs, later fills and more money."""

import numpy as np
import pandas as pd
import pytest

from mlfin.backtest.risk import return_figures
from mlfin.backtest.stress import regimes, stress
from mlfin.core.errors import BacktestError, ParameterError


def daily(seed=0, n=1000, mean=0.0005, scale=0.01, start="2015-01-01"):
    values = mean + scale * np.random.default_rng(seed).standard_t(4, n)
    return pd.Series(values, index=pd.date_range(start, periods=n, tz="UTC", unit="us", name="date"))


# --- regimes

def test_regimes_are_made_of_their_days():
    r, b = daily(1), daily(2)
    table = regimes(r, b, 365).set_index(["kind", "regime"])
    assert list(table.columns) == ["days", "total_return", "cagr", "sharpe", "max_drawdown"]
    assert list(table.index) == ([("year", y) for y in ("2015", "2016", "2017")]
                                 + [("volatility", v) for v in ("calm", "middling", "turbulent")] + [("market", "up"), ("market", "down")])
    for year in ("2015", "2016", "2017"):
        own = return_figures(r.loc[year], 365)
        for name in ("total_return", "cagr", "sharpe", "max_drawdown"):
            assert table.loc[("year", year), name] == pytest.approx(own[name])
    assert table.groupby("kind")["days"].sum().to_dict() == {"year": 1000, "market": 1000, "volatility": 1000 - 21}
    assert np.prod(1 + table.loc["market", "total_return"]) == pytest.approx((1 + r).prod())


def test_volatility_is_that_of_the_days_before_in_thirds_of_the_record():
    b = daily(2, 500)
    before = [np.std(b.iloc[i - 21:i], ddof=1) for i in range(21, 500)]
    low = np.array(before) <= np.quantile(before, 1 / 3)
    table = regimes(daily(1, 500), b).set_index("regime")
    assert table.loc["calm", "days"] == low.sum()
    assert table.loc["calm", "total_return"] == pytest.approx((1 + daily(1, 500).iloc[21:][low]).prod() - 1)
    later = b.copy()
    later.iloc[-1] = 0.5  # what happens on a day does not decide that day's regime
    assert regimes(daily(1, 500), later).set_index("regime").loc["turbulent", "days"] == table.loc["turbulent", "days"]


def test_a_month_is_up_or_down_by_what_it_compounds_to():
    b = daily(2, 90)
    r = daily(1, 90)
    up = sum(len(own) for _, own in b.groupby(b.index.month) if (1 + own).prod() >= 1)
    table = regimes(r, b).set_index("regime")
    assert up and table.loc["up", "days"] == up and table.loc["down", "days"] == 90 - up


def test_few_days_are_not_annualised_and_years_need_no_benchmark():
    table = regimes(daily(0, 400)).set_index("regime")
    assert list(table.index) == ["2015", "2016"] and table["cagr"].notna().all()
    few = regimes(daily(0, 375)).set_index("regime").loc["2016"]
    assert few["days"] == 10 and np.isnan(few["cagr"]) and np.isnan(few["sharpe"]) and few["total_return"] != 0 and few["max_drawdown"] < 0
    idle = regimes(daily(0, 100) * 0, daily(1, 100))
    assert idle["sharpe"].isna().all() and (idle["cagr"] == 0).all() and (idle["max_drawdown"] == 0).all()
    short = regimes(daily(0, 20), daily(1, 20))
    assert set(short["kind"]) == {"year", "market"} and short["cagr"].isna().all()


# --- the worst stretches

def slow_stress(r, b, window):
    """Every window, one after the other: (benchmark, first row)."""
    return min((float((1 + b.iloc[i:i + window]).prod() - 1), i) for i in range(len(b) - window + 1))


@pytest.mark.parametrize("window", [1, 5, 63])
def test_the_worst_window_is_the_worst_of_all(window):
    r, b = daily(1, 300), daily(2, 300)
    row = stress(r, b, days=(window,)).iloc[0]
    worst, first = slow_stress(r, b, window)
    assert row["benchmark"] == pytest.approx(worst) and row["start"] == b.index[first] and row["end"] == b.index[first + window - 1]
    assert row["strategy"] == pytest.approx((1 + r.iloc[first:first + window]).prod() - 1)
    own = stress(r, b, days=(window,), of="strategy").iloc[0]
    assert own["strategy"] == pytest.approx(slow_stress(b, r, window)[0]) and own["strategy"] <= row["strategy"]


def test_several_windows_share_no_day_and_long_ones_are_left_out():
    r, b = daily(1, 100), daily(2, 100)
    table = stress(r, b, days=(10, 101), top=4)
    assert list(table["window"]) == [10] * 4 and table["benchmark"].is_monotonic_increasing
    covered = [d for row in table.itertuples() for d in pd.date_range(row.start, row.end)]
    assert len(covered) == len(set(covered)) == 40
    assert len(stress(r, b, days=(60,), top=3)) == 1
    assert list(stress(r, b, days=(101,)).columns) == ["window", "start", "end", "strategy", "benchmark"]


def test_stress_refuses_what_it_cannot_use():
    r, b = daily(1, 100), daily(2, 100)
    with pytest.raises(ParameterError, match="`of`"): stress(r, b, of="market")
    for days in ((0,), (True,), (5.0,)):
        with pytest.raises(ParameterError, match="integers >= 1"): stress(r, b, days=days)
    with pytest.raises(BacktestError, match="of the same days"): stress(r, b.shift(1000, freq="D"))
    with pytest.raises(BacktestError, match="finite"): stress(r, b.mask(b.index.day == 3))
    with pytest.raises(BacktestError, match="returns > -1"): stress(r.mask(r.index.day == 3, -1.0), b)
