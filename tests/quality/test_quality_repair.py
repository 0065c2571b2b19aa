"""Repair is asked for, marked, and taken back to the last bit."""

import json

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.market.bars import PRICES, as_bars
from mlfin.ingest.store_update import update
from mlfin.store.lake import Lake
from mlfin.quality.cleaning import clean
from mlfin.quality.repair import REPAIRS, repair, repair_log, unrepair


def messy(make, seed):
    "Bars of two symbols with slipped prices, rows that are there twice or thrice, in any order."
    rng = np.random.default_rng(seed)
    bars = pd.concat([make(s, seed=seed + i, end="2024-06-30") for i, s in enumerate("AB")],
                     ignore_index=True)
    truth = bars.copy()
    for row in rng.choice(len(bars), 20, replace=False):
        bars.loc[row, str(rng.choice(PRICES))] *= 10.0 ** rng.choice([-3, -2, -1, 1, 2, 3])
    again = bars.iloc[np.sort(rng.integers(0, len(bars), 12))]
    return pd.concat([bars, again]).sample(frac=1, random_state=seed).reset_index(drop=True), truth


@pytest.mark.parametrize("seed", range(12))
def test_there_and_back(make, seed):
    bars, truth = messy(make, seed)
    before = bars.copy(deep=True)
    mended = repair(bars)
    pd.testing.assert_frame_equal(bars, before)
    pd.testing.assert_frame_equal(unrepair(mended), bars)
    kept, aside = clean(mended, "24/7")
    assert aside.empty and len(kept) == len(truth)
    np.testing.assert_allclose(kept[PRICES], truth[PRICES], rtol=1e-15)
    assert list(kept.columns) == [*truth.columns, "repaired"] and (kept.repaired != "").sum() >= 20
    back = unrepair(kept)  # sorted meanwhile: the same rows all the same
    pd.testing.assert_frame_equal(as_bars(back), as_bars(bars))
    assert len(clean(bars, "24/7")[0]) == len(truth) - 20


def test_each_check_alone(make):
    bars, _ = messy(make, 3)
    only = repair(bars, "duplicates")
    assert len(only) < len(bars) and (repair_log(only).field == "copies").all()
    same = repair(bars, ["decimal"])
    assert len(same) == len(bars) and set(repair_log(same).field) <= set(PRICES)
    none = repair(bars, [])
    assert (none.repaired == "").all() and none.drop(columns="repaired").equals(bars)
    assert REPAIRS == ("decimal", "duplicates", "units")


def test_rivals_are_not_chosen_between(make):
    bars = make()
    both = pd.concat([bars, bars.iloc[[4]].assign(volume=11.0), bars.iloc[[5]]], ignore_index=True)
    mended = repair(both)
    assert len(mended) == len(both) - 1 and json.loads(mended.repaired[5]) == {"copies": [len(both) - 1]}
    assert clean(mended, "24/7")[1].reason.tolist() == ["rows for one bar disagree"] * 2


def test_part_of_a_repair_is_taken_back(make):
    bars, _ = messy(make, 7)
    mended = repair(bars)
    part = mended.iloc[10:60].reset_index(drop=True)
    back = unrepair(part)
    assert len(back) == len(part) + int(repair_log(part).was[repair_log(part).field == "copies"].sum())
    kept = back.merge(bars.drop_duplicates(), how="left", indicator=True)
    assert (kept["_merge"] == "both").all()


def test_units_need_a_known_price(make):
    bars = pd.concat([make("A"), make("B", seed=1)], ignore_index=True)
    cents = bars.copy()
    late = (bars.symbol == "A") & (bars.index >= 50)
    cents.loc[late, PRICES] *= 100
    with pytest.raises(DataError, match="a price near the truth for A"):
        repair(cents, "units")
    np.testing.assert_allclose(repair(cents, "units", near={"A": 90.0})[PRICES], bars[PRICES], rtol=1e-15)
    other = repair(cents, "units", near={"A": 9_000.0})
    np.testing.assert_allclose(other.close[bars.symbol == "A"],
                               100 * bars.close[bars.symbol == "A"], rtol=1e-15)
    np.testing.assert_array_equal(other.close[bars.symbol == "B"], bars.close[bars.symbol == "B"])
    for mended in (repair(cents, "units", near={"A": 90.0}), other):
        pd.testing.assert_frame_equal(unrepair(mended), cents)


def test_nothing_to_repair(make):
    bars = make()
    mended = repair(bars)
    assert (mended.repaired == "").all() and repair_log(mended).empty
    pd.testing.assert_frame_equal(unrepair(mended), bars)
    empty = repair(bars.iloc[:0])
    assert empty.empty and unrepair(empty).equals(bars.iloc[:0])


def test_one_clear_error(make):
    with pytest.raises(DataError, match="`checks` must be"):
        repair(make(), ["decimals"])
    with pytest.raises(DataError, match="not repaired before"):
        repair(repair(make()))
    for function in (unrepair, repair_log):
        with pytest.raises(DataError, match="must be repaired bars"):
            function(make())


@pytest.mark.parametrize("memory", [16, None])
def test_ingest_keeps_the_marks(make, csv, tmp_path, memory):
    bars = make("COIN", end="2024-12-31")
    spoiled = bars.assign(high=bars.high.where(bars.index != 100, bars.high * 100))
    frame = spoiled.drop(columns=["symbol", "timeframe", "known_at"]).assign(ts=spoiled.ts.dt.strftime(
        "%Y-%m-%dT%H:%M:%SZ"))
    path = csv(frame.to_csv(index=False))
    lake = Lake(tmp_path / "lake")
    done = update("csv", path, ["COIN"], store=lake, repair=["decimal"], memory=memory)
    assert not done.failed and done.series.inserted.sum() == len(bars)
    found = lake.read("COIN")
    assert list(np.flatnonzero(found.repaired != "")) == [100] and len(repair_log(found)) == 1
    np.testing.assert_array_equal(found.high, bars.high)
    np.testing.assert_array_equal(unrepair(found).high, spoiled.high)
    again = update("csv", path, ["COIN"], store=lake, repair=["decimal"], memory=memory)
    assert again.series.unchanged.sum() == len(bars) and again.series.revised.sum() == 0
