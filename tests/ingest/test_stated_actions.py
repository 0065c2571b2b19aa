"""A file's own dividends and splits, compared with its adjusted close and its prices."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlfin.market.actions import as_actions, derive_actions
from mlfin.market.bars import KEY, as_bars
from mlfin.ingest.store_update import update
from mlfin.store.lake import Lake
from mlfin.ingest.stated_actions import FINDINGS, reconcile_actions
from mlfin.quality.cleaning import clean
from mlfin.sources.sources import read_bars

FOLDER = Path(__file__).parents[2] / ".." / "shared" / "data" / "market" / "yfinance"
CALENDARS = {"HK": "XHKG", "T": "XTKS", "L": "XLON", "IL": "XLON", "PA": "XPAR", "JO": "XJSE"}
DIRTY = {  # file: what its columns of actions hold that is wrong, and how often it is told
    "1398-HK-1d-bad-div": {"only listed": 1}, "4063-T-1d-bad-div": {"as traded": 1},
    "4063-T-1d-bad-stock-split": {"on another day": 1}, "ABDP-L-1d-bad-div": {"hundredfold": 5},
    "CNE-L-1d-bad-stock-split": {"on another day": 1}, "DODFX-1d-cg-double-count": {"differs": 1},
    "ELCO-L-1d-bad-div": {"hundredfold": 5}, "JENYX-1d-cg-double-count": {"differs": 5},
    "LSC-L-1d-bad-div": {"differs": 2, "not in the prices": 2}, "NVT-L-1d-bad-div": {"odd size": 1},
    "REL-L-1d-bad-div": {"hundredfold": 5, "not in the prices": 1}, "SAND-1d-bad-div": {"repeated": 2},
    "SERE-L-1d-bad-div": {"hundredfold": 10}, "TEM-L-1d-bad-div": {"hundredfold": 6},
    "TEP-PA-1d-bad-div": {"repeated": 2}, "VWILX-1d-cg-double-count": {"differs": 2}}
RIGHT = [f"{name}-fixed" for name in DIRTY] + ["CALM-1d-no-bad-divs", "HSBK-IL-1d-no-bad-divs",
                                               "KMR-L-1d-no-bad-divs"]


def findings(name):
    "What is told of a real file."
    exchange = name.split("-1d-")[0].partition("-")[2]
    calendar = CALENDARS.get(exchange, "XNYS")
    found = read_bars(FOLDER / f"{name}.csv", "X", tz="UTC", calendar=calendar, check_name=False)
    bars, _ = clean(found.bars, calendar, found.origin, found.rows)
    own = found.bars[KEY].assign(adjusted=found.adjusted_close.to_numpy()).drop_duplicates(KEY)
    listed = as_actions(found.actions)
    return reconcile_actions(bars, listed[listed.ex_date >= bars.ts.iloc[0]],
                             bars[KEY].merge(own, on=KEY, how="left").adjusted)[1]


there = pytest.mark.skipif(not FOLDER.is_dir(), reason="../shared/data is not there")
FEW = ["ABDP-L-1d-bad-div", "CNE-L-1d-bad-stock-split", "REL-L-1d-bad-div", "TEM-L-1d-bad-div"]


@there
@pytest.mark.parametrize("names", [FEW, pytest.param(list(DIRTY), marks=pytest.mark.slow)])
def test_what_is_wrong_in_real_files_is_told(names):
    assert ({name: findings(name).says.value_counts().to_dict() for name in names}
            == {name: DIRTY[name] for name in names})


@there
@pytest.mark.parametrize("names", [["ABDP-L-1d-bad-div-fixed", "KMR-L-1d-no-bad-divs"],
                                   pytest.param(RIGHT, marks=pytest.mark.slow)])
def test_the_same_files_put_right_are_not_doubted(names):
    told = {name: findings(name) for name in names}
    doubted = {name: f.says.tolist() for name, f in told.items() if len(f)}
    # its adjusted close is still off
    assert doubted == {name: ["differs"] for name in names if name == "SAND-1d-bad-div-fixed"}


def series(splits=(), dividends=(), rows=250, seed=5):
    "Bars, and their adjusted close, of a stock with these events: (day, value)."
    rng = np.random.default_rng(seed)
    total = 100 * np.exp(rng.normal(0, 0.01, rows).cumsum())  # what a holder of one share has
    close, held = total.copy(), np.ones(rows)
    for day, ratio in splits:
        close[day:] /= ratio
    for day, cash in dividends:
        close[day:] *= 1 - cash / close[day - 1]
        held[:day] *= 1 - cash / (close[day - 1])
    for day, ratio in splits:
        held[:day] /= ratio
    ts = pd.date_range("2020-01-01", periods=rows, tz="UTC")
    frame = pd.DataFrame({"symbol": "X", "timeframe": "1d", "ts": ts,
                          "open": close * np.exp(rng.normal(0, 0.002, rows)), "close": close, "volume": 5.0})
    frame["high"], frame["low"] = (frame[["open", "close"]].max(axis=1) * 1.001,
                                   frame[["open", "close"]].min(axis=1) * 0.999)
    return as_bars(frame.assign(known_at=ts + pd.Timedelta(days=1))), pd.Series(close * held)


def listing(bars, *rows):
    return as_actions([("X", bars.ts[day], kind, value, bars.known_at[day], "file")
                       for day, kind, value in rows])


@pytest.mark.parametrize("said, says, believed", [
    ((100, "dividend", 2.0), [], 2.0),
    ((100, "dividend", 200.0), ["hundredfold"], 2.0),
    ((100, "dividend", 0.02), ["hundredfold"], None),
    ((100, "dividend", 3.0), ["differs"], None),
])
def test_a_dividend_of_another_unit_is_told(said, says, believed):
    bars, adjusted = series(dividends=[(100, 2.0)])
    actions, told = reconcile_actions(bars, listing(bars, said), adjusted)
    assert told.says.tolist() == says and list(told) == list(FINDINGS)
    if believed is not None:
        assert actions.value.tolist() == pytest.approx([believed], rel=0.03)


@pytest.mark.parametrize("value, says, believed", [(4.0, [], 4.0), (0.25, ["inverted"], 4.0)])
def test_a_split_the_wrong_way_round_is_told(value, says, believed):
    bars, adjusted = series(splits=[(120, 4.0)])
    actions, told = reconcile_actions(bars, listing(bars, (120, "split", value)),
                                      adjusted if value > 1 else None)
    assert told.says.tolist() == says and actions.value.tolist() == [believed]


@pytest.mark.parametrize("prices", [True, False])
def test_a_split_that_only_the_adjusted_close_implies_is_told(prices):
    """A file that lists its actions lists no split there: it is believed where the price jumps by it, and
    told either way."""
    bars, adjusted = series(splits=[(120, 4.0)] if prices else [], dividends=[(60, 1.0)])
    if not prices: adjusted = adjusted / np.where(np.arange(len(bars)) < 120, 4.0, 1.0)
    for listed in (listing(bars, (60, "dividend", 1.0)), as_actions([])):
        actions, told = reconcile_actions(bars, listed, adjusted)
        assert told.query("kind == 'split'").says.tolist() == ["only implied"]
        assert told.implied.iloc[-1] == pytest.approx(4.0)
        assert actions.query("kind == 'split'").value.tolist() == ([4.0] if prices else [])


def test_a_column_of_splits_that_lists_none_is_held_against_the_adjusted_close(tmp_path):
    bars, adjusted = series(splits=[(60, 7.0)])
    frame = pd.DataFrame({"Date": bars.ts.dt.strftime("%Y-%m-%d"),
                          **{c.title(): bars[c] for c in ("open", "high", "low", "close", "volume")}})
    frame["Adj Close"], frame["Stock Splits"] = adjusted, 0.0
    frame.to_csv(tmp_path / "X.csv", index=False)
    done = update(tmp_path / "X.csv", symbols=["X"], tz="UTC", store=tmp_path / "lake")
    line = done.quality.set_index("check").loc["actions"]
    assert (line.status, line["rows"]) == ("warn", 1)
    assert line.detail.endswith("split implied 7, believed 7 (only implied)")
    assert Lake(tmp_path / "lake").read_actions().value.tolist() == [7.0]


def test_a_split_that_the_prices_contain_already_is_not_applied_again():
    bars, adjusted = series()
    actions, told = reconcile_actions(bars, listing(bars, (120, "split", 4.0)), adjusted)
    assert actions.empty and told.empty


@pytest.mark.parametrize("step", [1e-6, -1e-6, 3e-5, -3e-5])
def test_noise_of_the_ratio_is_no_action(step):
    bars, _ = series()
    adjusted = bars.close * np.where(np.arange(len(bars)) >= 100, 1 + step, 1.0)
    assert not (derive_actions(bars, adjusted).kind == "split").any()


def test_the_columns_of_a_file_are_stored_compared_and_named(tmp_path):
    bars, adjusted = series(splits=[(60, 7.0)], dividends=[(100, 2.0), (150, 1.0)])
    frame = pd.DataFrame({"Date": bars.ts.dt.strftime("%Y-%m-%d"),
                          **{c.title(): bars[c] for c in ("open", "high", "low", "close", "volume")}})
    frame["Adj Close"], frame["Dividends"], frame["Stock Splits"] = adjusted, 0.0, ""
    frame.loc[[100, 150], "Dividends"], frame.loc[60, "Stock Splits"] = [200.0, 1.0], "7:1"
    frame.to_csv(tmp_path / "X.csv", index=False)
    done = update(tmp_path / "X.csv", symbols=["X"], tz="UTC", store=tmp_path / "lake")
    line = done.quality.set_index("check").loc["actions"]
    assert (line.status, line["rows"], done.actions.says.tolist()) == ("warn", 1, ["hundredfold"])
    assert "listed 200" in line.detail
    stored = Lake(tmp_path / "lake").read_actions().sort_values("ex_date")
    assert stored.kind.tolist() == ["split", "dividend", "dividend"]
    assert stored.value.tolist() == pytest.approx([7.0, 2.0, 1.0], rel=0.03)
    aside = Lake(tmp_path / "lake").read_quarantine()
    assert aside.reason.tolist() == ["action: hundredfold"] and aside.row.tolist() == [100]
    assert done.quarantined == 0
