"""Simulated bars: what statistics of markets agree on, the same bits for the same seed, and a label that
stays with them."""
import json
import time

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.core.provenance import hash_frame
from mlfin.ingest.ingest import copy_read_bars, ingest
from mlfin.ingest.store_update import update
from mlfin.warehouse.opening import open_store
from mlfin.sources.simulated import simulate_bars
from mlfin.sources.sources import read_bars

MONTHS = "2024-12-31"


def shocks(bars, symbol="SIM_A"):
    """Returns of minutes that follow one another, as logarithms."""
    own = bars[bars.symbol == symbol]
    move = np.log(own.close).diff()
    return move[own.ts.diff() == pd.Timedelta("1min")].to_numpy(), own


def autocorrelation(values, lag):
    values = values - values.mean()
    return (values[lag:] * values[:-lag]).mean() / (values**2).mean()


def tail_index(values, share=0.002):
    """Hill's estimate over the largest part of absolute values."""
    ranked = np.sort(np.abs(values))[::-1][:int(len(values) * share) + 1]
    return 1 / np.log(ranked[:-1] / ranked[-1]).mean()


@pytest.fixture(scope="module")
def year():
    return simulate_bars(["SIM_A", "SIM_B"], end=MONTHS, seed=7)


def test_returns_are_as_those_of_markets_are(year):
    move, own = shocks(year)
    excess = ((move - move.mean()) ** 4).mean() / move.var() ** 2 - 3
    assert excess > 10 and 2.5 < tail_index(move) < 5  # fat tails; three to five is what is found of minutes
    assert max(abs(autocorrelation(move, lag)) for lag in (1, 2, 3, 5, 10)) < 0.02  # no return tells the next
    size = np.abs(move)
    found = [autocorrelation(size, lag) for lag in (1, 30, 300)]
    assert found[0] > 0.2 and found[0] > found[1] > found[2] > 0.02  # clusters, which fade slowly
    assert autocorrelation(size, 1440) > autocorrelation(size, 720) + 0.05           # and the clock
    assert 0.0003 < move.std() < 0.001


def test_volume_spread_and_gaps_go_with_them(year):
    _, own = shocks(year)
    span = np.log(own.high / own.low)
    assert span.corr(own.volume, method="spearman") > 0.3 and span.corr(own.spread, method="spearman") > 0.3
    hours = own.ts.dt.hour
    assert own.volume[hours == 15].median() > 1.5 * own.volume[hours == 3].median()
    steps = own.ts.diff().dropna() // pd.Timedelta("1min")
    assert (
        0.0005 < (steps > 1).mean() < 0.01 and 5 <= steps.max() <= 200
    )  # minutes without a trade, and outages
    assert (own.volume >= 1).all() and (own.spread > 0).all() and own.ts.is_monotonic_increasing
    both = year.pivot(index="ts", columns="symbol", values="close").dropna()
    assert 0.25 < np.log(both).diff().corr().iloc[0, 1] < 0.6                        # one market


@pytest.mark.parametrize("edge", [0.1, -0.2])
def test_an_edge_that_was_planted_is_there(edge):
    move, _ = shocks(simulate_bars(["SIM_A"], end="2024-05-31", seed=3, edge=edge))
    signs = np.sign(move)
    assert np.sign(autocorrelation(move, 1)) == np.sign(edge) and abs(autocorrelation(move, 1) - edge) < 0.06
    assert abs((signs[1:] == signs[:-1]).mean() - 0.5) > 0.01


@pytest.mark.parametrize(
    "end",
    [
        "2024-01-01 00:01",
        "2024-01-03 07:21",
        "2024-01-30 23:58",
        "2024-01-30 23:59",
        "2024-01-31 00:00",
        "2024-03-31 10:00",
    ],
)
def test_a_longer_period_begins_with_the_shorter_one_to_the_last_bit(year, end):
    short, limit = simulate_bars(["SIM_A"], end=end, seed=7), pd.Timestamp(end, tz="UTC")
    pd.testing.assert_frame_equal(
        short, year[(year.symbol == "SIM_A") & (year.ts <= limit)].reset_index(drop=True), check_exact=True
    )
    part = simulate_bars(["SIM_A"], limit - pd.Timedelta("1min"), end, seed=7)
    pd.testing.assert_frame_equal(part, short.tail(len(part)).reset_index(drop=True), check_exact=True)


def test_a_seed_has_the_same_bars_on_every_machine():
    """Prices are whole ticks, so that an exponential that differs in its last bit does not show; another hash
    is another simulator."""
    bars = simulate_bars(["SIM_A", "SIM_B"], end="2024-02-10", seed=7)
    assert hash_frame(bars) == "a6e260c4f671e4d7ba47080b581baf4e62b16e4ceddd759f650137b00ac928ca"
    others = [
        simulate_bars([name], end="2024-01-02", seed=seed)
        for name, seed in (("SIM_A", 7), ("SIM_B", 7), ("SIM_A", 8))
    ]
    assert len({hash_frame(frame[["close"]]) for frame in others}) == 3


@pytest.mark.slow
def test_a_million_bars_take_a_second_or_so():
    simulate_bars(["SIM_A"], end="2024-01-02")
    began = time.perf_counter()
    bars = simulate_bars(["SIM_A"], end="2025-11-25")
    took = time.perf_counter() - began
    print(f"{len(bars):,} bars in {took:.2f} s")
    assert len(bars) > 990_000 and took < 4


def test_a_calendar_closes_the_market():
    week = simulate_bars(["SIM_A"], "2024-01-05", "2024-01-09", seed=7, calendar="XNYS")
    assert set(week.ts.dt.day_of_week) == {0, 1, 4}
    assert week.ts.dt.strftime("%H:%M").between("14:30", "20:59").all()


@pytest.mark.parametrize(
    "uri, how, says",
    [
        ("simulated:7", {"symbols": ["AAPL"]}, "SIM_"),
        ("simulated:7", {"symbols": ["SIM_"]}, "SIM_"),
        ("simulated:7", {"symbols": []}, "any name"),
        ("simulated:-1", {}, "seed"),
        ("simulated:1e3", {}, "seed"),
        ("simulated:" + "9" * 4000, {}, "seed"),
        ("simulated:7?edge=nan", {}, "edge"),
        ("simulated:7?edge=2", {}, "edge"),
        ("simulated:7?x=2", {}, "path"),
        ("simulated:../x", {}, "seed"),
        ("simulated:7", {"timeframe": "1d"}, "resample"),
        ("simulated:7", {"tz": "Europe/Athens"}, "tz"),
    ],
)
def test_what_cannot_be_is_refused_by_name(uri, how, says):
    with pytest.raises(DataError, match=says):
        read_bars(uri, **{"symbols": ["SIM_A"], "timeframe": "1m", "end": "2024-01-02"} | how)


def test_before_the_first_minute_there_is_nothing():
    first = read_bars(
        "simulated:7", symbols=["SIM_A"], timeframe="1m", start="1700-01-01", end="2024-01-01 00:05"
    ).bars.ts.min()
    assert first == pd.Timestamp("2024-01-01", tz="UTC")
    with pytest.raises(DataError, match="has closed"): simulate_bars(["SIM_A"], end="2023-12-31")


def test_the_label_stays_with_the_bars(tmp_path, monkeypatch, capsys):
    from mlfin.cli.app import main

    place = tmp_path / "lake"
    done = update("simulated:7", symbols=["SIM_A"], timeframes="1m", end="2024-01-03", store=place)
    assert not done.failed and "no market made them" in done.notes[0] and done.series.inserted.sum() > 4000
    before = open_store(place).read(["SIM_A"], "1m")
    more = update("simulated:7", symbols=["SIM_A"], timeframes="1m", end="2024-01-04", store=place)
    assert (
        1400 < more.series.inserted.sum() <= 1440 and more.series.revised.sum() == 0
    )  # what is new, and nothing is another
    after = open_store(place).read(["SIM_A"], "1m")
    pd.testing.assert_frame_equal(after.head(len(before)), before, check_exact=True)

    kept = open_store(place).read_attributes(["SIM_A"], "1m", "origin")
    assert kept.value.tolist() == ["simulated"]
    told = ingest("store", symbols=["SIM_A"], timeframe="1m", store=place)
    assert told.simulated == ("SIM_A",) and "no market made them" in told.caveats[0]
    copy_read_bars(["SIM_A"], "1m", None, None, "auto", place, tmp_path / "other")
    assert (
        ingest("store", symbols=["SIM_A"], timeframe="1m", store=tmp_path / "other").caveats == told.caveats
    )
    assert ingest("builtin", symbols=["IBM"], store=place, end="2001-01-01").caveats == []

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit): main(["data", "ls", "--store", str(place), "--json"])
    shown = {s["symbol"]: s["origin"] for s in json.loads(capsys.readouterr().out)["series"]}
    assert shown == {"IBM": "", "SIM_A": "simulated"}
