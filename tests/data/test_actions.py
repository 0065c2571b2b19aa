import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.data.actions import adjust_bars, as_actions, derive_actions
from mlfin.data.bars import check_bars


def at(bars, i, kind, value):
    return (bars.symbol[i], bars.ts[i], kind, value, bars.known_at[i], "test")


def adjusted_by(bars, actions, places=None, later=1.0):
    "An adjusted close as a vendor gives it: back-adjusted, also by something `later`, and rounded."
    close = adjust_bars(bars, actions, "total", anchor="end").close * later
    return close if places is None else close.round(places)


def test_builtin(builtin):
    bars, adjusted, _ = builtin
    actions = derive_actions(bars, adjusted)
    splits = actions[actions.kind == "split"]
    assert [(a.symbol, f"{a.ex_date:%Y-%m-%d}", a.value) for a in splits.itertuples()] == [
        ("AAPL", "2000-06-21", 2.0),
        ("AAPL", "2005-02-28", 2.0),
        ("MSFT", "2003-02-18", 2.0),
    ]
    dividends = actions[actions.kind == "dividend"]
    assert dividends.symbol.value_counts().to_dict() == {"IBM": 52, "MSFT": 37, "AAPL": 3}
    assert (np.abs(dividends.value * 100 - (dividends.value * 100).round()) < 1e-3).all()  # whole cents
    assert set(actions.origin) == {"derived"} and (actions.known_at > actions.ex_date).all()
    assert actions.ex_date.isin(bars.ts).all()


@pytest.mark.parametrize("anchor", ["start", "end"])
def test_builtin_total_return_is_the_vendors(builtin, anchor):
    bars, adjusted, _ = builtin
    total = adjust_bars(bars, derive_actions(bars, adjusted), "total", anchor)
    check_bars(total)
    ours, theirs = (np.log(s).groupby(bars.symbol).diff().dropna() for s in (total.close, adjusted))
    assert np.abs(ours - theirs).max() < 1e-8


@pytest.mark.parametrize("ticker, columns", [("aapl", "AAPL"), ("ibm", "IBM")])
def test_against_leans_factor_files(builtin, market, ticker, columns):
    bars, adjusted, _ = builtin
    actions = derive_actions(bars, adjusted)
    own = bars[bars.symbol == columns]
    table = pd.read_csv(
        market / f"lean/Data/equity/usa/factor_files/{ticker}.csv", names=["date", "price", "split", "close"]
    )
    table["date"] = pd.to_datetime(table.date.astype(str))
    table["split_jump"], table["price_jump"] = table.split.shift(-1) / table.split, table.price.shift(-1) / table.price
    inside = table[table.date.between("2000-03-02", "2013-02-28")]
    dates = own.ts.dt.tz_localize(None).dt.normalize()
    for row in inside.itertuples():
        ex = own.ts[dates > row.date].iloc[0]  # valid up to and including the date
        mine = actions[(actions.symbol == columns) & (actions.ex_date == ex)].set_index("kind").value
        assert mine.get("split", 1.0) == pytest.approx(row.split_jump, rel=1e-4)
        if row.price_jump > 1.0001:
            assert mine["dividend"] == pytest.approx(row.close * (1 - 1 / row.price_jump), abs=0.011)
    assert len(inside) == (actions.symbol == columns).sum()


def test_nothing_from_the_future_scales_the_past(builtin):
    bars, adjusted, _ = builtin
    actions = derive_actions(bars, adjusted)
    whole = adjust_bars(bars, actions, "total")
    for cut in ("2001-01-01", "2005-02-28", "2012-11-07"):
        until = pd.Timestamp(cut, tz="UTC") + pd.Timedelta(days=1)
        early = bars[bars.known_at < until].reset_index(drop=True)
        part = adjust_bars(early, actions[actions.known_at < until], "total")
        expected = whole[bars.known_at < until].reset_index(drop=True)
        pd.testing.assert_frame_equal(part, expected, check_exact=True)


def test_value_of_a_holding(make):
    bars = make(start="2024-01-01", end="2024-01-10")
    actions = as_actions([at(bars, 3, "split", 3.0), at(bars, 3, "dividend", 2.0), at(bars, 7, "dividend", 1.5)])
    total = adjust_bars(bars, actions, "total")
    shares = 1.0
    for i in range(len(bars)):
        shares *= {3: 3.0 * (1 + 2.0 / bars.close[3]), 7: 1 + 1.5 / bars.close[7]}.get(i, 1.0)
        assert total.close[i] == pytest.approx(shares * bars.close[i], rel=1e-12)
    assert list(total.volume[[2, 3]]) == [10.0, 10 / 3]
    assert total.volume[8] == pytest.approx(10 / 3)
    back = adjust_bars(bars, actions, "total", anchor="end")
    assert back.factor.iloc[-1] == 1 and back.volume[0] == 30
    for column in ("open", "high", "low", "close"):
        np.testing.assert_allclose(total[column] / back[column], total.close[0] / back.close[0], rtol=1e-12)


def test_actions_outside_the_bars_change_nothing(make):
    bars = make(start="2024-01-01", end="2024-01-10")
    day = pd.Timedelta(days=1)
    for ts in (bars.ts[0] - day, bars.ts[0], bars.ts.iloc[-1] + day):
        one = as_actions([("COIN", ts, "split", 2.0, ts + day, "test")])
        pd.testing.assert_frame_equal(adjust_bars(bars, one, "total"), bars.assign(factor=1.0))
    missing = bars.drop(index=4).reset_index(drop=True)  # the next bar takes it
    assert list(adjust_bars(missing, as_actions([at(bars, 4, "split", 2.0)]), "splits").factor) == [1.0] * 4 + [2.0] * 5


@pytest.mark.parametrize("places", [None, 6, 4])
@pytest.mark.parametrize("ratio", [2.0, 3.0, 1.5, 1.25, 7.0, 20.0, 0.1, 0.5])
def test_splits_survive_rounding(make, places, ratio):
    bars = make(start="2024-01-01", end="2024-02-10")
    prices = ["open", "high", "low", "close"]
    bars.loc[20:, prices] = bars.loc[20:, prices] / ratio
    bars[prices] = bars[prices].round(2 if ratio <= 1 else 4)
    actions = as_actions([at(bars, 20, "split", ratio)])
    found = derive_actions(bars, adjusted_by(bars, actions, places, later=0.37))
    assert (
        list(found.kind) == ["split"]
        and found.value[0] == pytest.approx(ratio, rel=1e-9)
        and found.ex_date[0] == bars.ts[20]
    )


@pytest.mark.parametrize("places, tolerance", [(None, 1e-6), (6, 1e-4), (4, 0.02)])
def test_dividends_survive_rounding(make, places, tolerance):
    bars = make(start="2024-01-01", end="2024-02-10")
    actions = as_actions([at(bars, 10, "dividend", 0.5), at(bars, 30, "dividend", 12.0)])
    found = derive_actions(bars, adjusted_by(bars, actions, places, later=0.5))
    assert list(found.kind) == ["dividend"] * 2 and list(found.ex_date) == [bars.ts[10], bars.ts[30]]
    np.testing.assert_allclose(found.value, [0.5, 12.0], atol=tolerance)


def test_split_and_dividend_on_one_day(make):
    bars = make(start="2024-01-01", end="2024-02-10")
    prices = ["open", "high", "low", "close"]
    bars.loc[20:, prices] = bars.loc[20:, prices] / 2
    actions = as_actions([at(bars, 20, "split", 2.0), at(bars, 20, "dividend", 0.4)])
    found = derive_actions(bars, adjusted_by(bars, actions))
    assert dict(zip(found.kind, found.value, strict=True)) == pytest.approx({"split": 2.0, "dividend": 0.4})


def test_previous_close_convention_is_its_own_inverse(make):
    bars = make(start="2024-01-01", end="2024-02-10")
    actions = as_actions([at(bars, 10, "dividend", 0.5)])
    vendor = adjust_bars(bars, actions, "total", "end", reinvest="previous").close
    assert derive_actions(bars, vendor, reinvest="previous").value[0] == pytest.approx(0.5)


def test_no_action_from_noise_or_holes(make):
    bars = make()
    assert derive_actions(bars, bars.close.round(2)).empty and derive_actions(bars, bars.close * 0.13).empty
    assert derive_actions(bars, bars.close.mask(bars.index % 3 == 0)).empty
    assert derive_actions(bars.iloc[:0], pd.Series(dtype=float)).empty


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda b: derive_actions(b, b.close[:-1]), "one value for each"),
        (lambda b: adjust_bars(b, as_actions([]), "full"), "`adjust` must be one of"),
        (lambda b: adjust_bars(b, as_actions([]), anchor="now"), "`anchor` must be one of"),
        (lambda b: adjust_bars(adjust_bars(b, as_actions([])), as_actions([])), "carry a `factor`"),
        (lambda b: as_actions([at(b, 1, "split", -2.0)]), "positive and finite"),
        (lambda b: as_actions([at(b, 1, "merger", 2.0)]), "split or dividend"),
        (lambda b: as_actions([at(b, 1, "split", 2.0), at(b, 1, "split", 3.0)]), "one split and one dividend"),
        (
            lambda b: adjust_bars(b, as_actions([at(b, 1, "dividend", 1e6)]), "total", reinvest="previous"),
            "less than the price before",
        ),
    ],
)
def test_refused(make, call, says):
    with pytest.raises(DataError, match=says):
        call(make())
