"""A source in pieces gets the verdict of the whole, on real and on made-up data, in any order of its
parts."""

import numpy as np
import pandas as pd
import pytest

from mlfin.market.bars import as_bars
from mlfin.quality.quality_report import QualityAccumulator
from mlfin.quality.cleaning import clean
from mlfin.quality.quality import quality_report
from mlfin.sources.read_result import ReadResult, quarantine_rows
from mlfin.quality.spool import NEIGHBOURS, BarChunk, Spool, Workspace, stream_chunks

from .test_quality_real import bad_ticks, bars, yahoo

LOCAL = ("outliers", "spread")  # judged by the scale of the piece, where a series is cut


def nothing():
    return quarantine_rows("", [], [], [], [], [])


def parts(frame, size):
    for a in range(0, len(frame), size):
        part = frame[a : a + size].reset_index(drop=True)
        yield ReadResult(part, np.arange(a, a + len(part)), nothing(), "x:1", "1", parts=(("x:1", 0),))


def in_pieces(frame, calendar, tmp_path, name=None, part=1_500, rows=2_000):
    with Workspace(tmp_path) as space:
        spool = Spool(space)
        for reading in parts(frame, part):
            spool.add(reading)
        judge, kept, aside = QualityAccumulator(calendar, name, names=list(spool.names)), [], []
        for piece in spool.chunks(rows):
            judge.add(piece)
            good, bad = clean(piece.bars, calendar, "x", piece.rows)
            kept.append(good[piece.own(good.ts)])
            aside.append(bad[bad.row.isin(piece.rows[piece.own(piece.bars.ts)])])
        report = judge.report(backwards=spool.backwards)
    assert not list(tmp_path.iterdir())
    aside = pd.concat(aside, ignore_index=True).sort_values("row", kind="stable", ignore_index=True)
    return report, as_bars(pd.concat(kept, ignore_index=True)), aside, judge


def agrees(frame, calendar, tmp_path, name=None, but=LOCAL, **size):
    "That the lines, the bars and the quarantine are those of the whole."
    report, kept, aside, judge = in_pieces(frame, calendar, tmp_path, name, **size)
    whole = quality_report(frame, calendar, name=name).checks
    same = ~whole.check.isin(but)
    pd.testing.assert_frame_equal(report.checks[same], whole[same])
    good, bad = clean(frame, calendar, "x")
    pd.testing.assert_frame_equal(kept, good)
    pd.testing.assert_frame_equal(aside, bad.sort_values("row", kind="stable", ignore_index=True))
    return judge


@pytest.mark.parametrize("part, calendar, order", [
    ("0-10k", "24/7", "reversed"), ("90-100k", "forex", "given"),
    pytest.param("90-100k", "forex", "reversed", marks=pytest.mark.slow)])
def test_prices_times_a_thousand(market, tmp_path, part, calendar, order):
    frame = bad_ticks(market, part)
    frame = frame if order == "given" else frame.iloc[::-1].reset_index(drop=True)
    assert agrees(frame, calendar, tmp_path, f"EURUSD_M1_{part}.csv").chunks >= 5


# The piece's own scale against the month's: the second of the two true minutes is not far from its wild day.
def test_a_month_of_minutes(market, tmp_path):
    table = pd.read_csv(market / "nautilus" / "btc-perp-20211231-20220201_1m.csv")
    frame, name = bars(table, "BTC", "1m", table.timestamp), "btc-perp-20211231-20220201_1m.csv"
    judge = agrees(frame, "24/7", tmp_path, name, part=9_000, rows=15_100)
    found = judge.report().checks.set_index("check").rows
    assert judge.chunks == 3 and found["outliers"] == 2
    assert in_pieces(frame, "24/7", tmp_path, name)[0].checks.set_index("check").rows["outliers"] == 1


@pytest.mark.parametrize(
    "name, order",
    [("AET-L-1d-100x-error", "given"), ("LSC-L-1d-bad-div", "reversed"), ("NVT-L-1d-bad-div", "given"),
     ("DODFX-1d-cg-double-count", "reversed"),
     pytest.param("AET-L-1d-100x-error", "reversed", marks=pytest.mark.slow)])
def test_what_yahoo_gives(market, tmp_path, name, order):
    frame = yahoo(market, name)
    frame = frame if order == "given" else frame.iloc[::-1].reset_index(drop=True)
    agrees(frame, "24/7", tmp_path, part=100, rows=150)


def test_whole_series_are_judged_as_in_one_piece(market, tmp_path):
    table = pd.read_csv(market / "pypi_bokeh_sampledata" / "stocks.csv.gz")
    frames = [bars(own, symbol, "1d", own.Date, "XNYS") for symbol, own in table.groupby("Ticker")]
    frame = pd.concat(frames, ignore_index=True)
    agrees(frame, "XNYS", tmp_path, but=(), part=1_000, rows=3_300)
    mixed = frame.sample(frac=1, random_state=0).reset_index(drop=True)
    agrees(mixed, "XNYS", tmp_path, but=(), part=1_000, rows=3_300)


def test_one_file_under_two_names(market, tmp_path):
    frames = [
        bars(table, pair, "5m", table.date)
        for pair in ("ETH/BTC", "UNITTEST/BTC", "LTC/BTC")
        for table in [pd.read_feather(market / "freqtrade" / f"{pair.replace('/', '_')}-5m.feather")]
    ]
    agrees(pd.concat(frames, ignore_index=True), "24/7", tmp_path, part=1_000, rows=1_000)


@pytest.mark.parametrize("pair", ["ADA_BTC-5m", "UNITTEST_BTC-1m", "XRP_ETH-1m"])
def test_exchange_candles(market, tmp_path, pair):
    table = pd.read_feather(market / "freqtrade" / f"{pair}.feather")
    size = max(600, len(table) // 8)
    agrees(bars(table, *pair.split("-"), table.date), "24/7", tmp_path, f"{pair}.feather",
           part=size * 2 // 3, rows=size)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_dirt_anywhere_in_any_order(make, tmp_path, seed):
    rng = np.random.default_rng(seed)
    frame = pd.concat([make(s, "1h", "2024-01-01", "2024-04-30", seed=i)
                       for i, s in enumerate(("A", "B/../C", "D"))], ignore_index=True)
    n = len(frame)
    for column, factor in (("high", 0.5), ("low", 1000), ("close", 100), ("open", -1), ("volume", -1)):
        frame.loc[rng.choice(n, 12, replace=False), column] *= factor
    again = frame.iloc[rng.choice(n, 30, replace=False)]
    frame = pd.concat([frame, again, again.head(9).assign(close=again.close.head(9) * 1.001)],
                      ignore_index=True)
    frame = frame.drop(index=rng.choice(n, 40, replace=False)).reset_index(drop=True)
    if seed % 2:
        frame = frame.sample(frac=1, random_state=seed).reset_index(drop=True)
    judge = agrees(frame, "24/7", tmp_path, "A-1h.csv", part=700, rows=1_000)
    assert judge.chunks >= 9


def test_a_step_by_a_hundred_for_half_the_time(make, tmp_path):
    frame = make("COIN", "1h", "2024-01-01", "2024-06-30")
    at = int(len(frame) * 0.6)
    frame.loc[at:, ["open", "high", "low", "close"]] *= 100
    report = agrees(frame, "24/7", tmp_path, part=900, rows=900).report()
    assert report.checks.set_index("check").rows["units"] == len(frame) - at


def test_a_volume_that_jumps(make, tmp_path):
    frame = make("COIN", "1h", "2024-01-01", "2024-12-31")
    frame.loc[len(frame) // 2 :, "volume"] *= 50
    merged = in_pieces(frame, "24/7", tmp_path, part=900, rows=900)[0].checks.set_index("check")
    assert merged.rows["volume_regime"] == 1 and merged.detail["volume_regime"].endswith("x50")


def test_a_long_still_run_over_many_pieces_is_one(make, tmp_path):
    frame = make("COIN", "1h", "2024-01-01", "2024-06-30")
    frame.loc[500:3_000, ["open", "high", "low", "close"]] = 100.0
    report = agrees(frame, "24/7", tmp_path, part=900, rows=900).report()
    assert report.checks.set_index("check").detail["stale"] == "COIN 2,500 in 1 runs"


def test_shares_are_taken_of_the_whole(make, tmp_path):
    frame = make("COIN", "1h", "2024-01-01", "2024-06-30")
    frame.loc[:350, "high"] *= 0.98  # the first piece is bad, the whole is not
    assert agrees(frame, "24/7", tmp_path, part=900, rows=900).report().verdict == "warn"
    frame.loc[351:750, "high"] *= 0.98
    assert agrees(frame, "24/7", tmp_path, part=900, rows=900).report().verdict == "stop"


def test_an_hour_told_twice_at_a_border(make, tmp_path):
    frame = make("COIN", "5m", "2024-10-20", "2024-11-06")
    for border in ("2024-10-27 01:00", "2024-11-03 01:00"):
        at = frame.index[frame.ts == pd.Timestamp(border, tz="UTC")][0]
        twice = frame[at : at + 12].assign(close=lambda f: f.close * 1.0001)
        frame = pd.concat([frame[: at + 12], twice, frame[at + 12 :]], ignore_index=True)
    for size in (1_999, 2_017, 2_023, 2_030):
        agrees(frame, "24/7", tmp_path, part=size, rows=size)


def test_nothing_and_one_bar(make, tmp_path):
    one = make("COIN", "1d", "2024-01-01", "2024-01-01")
    assert QualityAccumulator("24/7").report().verdict == "stop"
    assert agrees(one, "24/7", tmp_path, but=()).chunks == 1


def test_a_series_is_followed_whatever_its_pages(make):
    frame = make("COIN", "1h", "2024-01-01", "2024-06-30")
    frame.loc[[700, 3_000], "high"] *= 1000
    whole = quality_report(frame, "24/7").checks
    for page, least in ((7, 3_500), (97, 1_500), (1_000, 10), (50_000, 1_000)):
        judge, own = QualityAccumulator("24/7"), []
        for piece in stream_chunks(parts(frame, page), least):
            judge.add(piece)
            own.append(piece.bars[piece.own(piece.bars.ts)])
        pd.testing.assert_frame_equal(pd.concat(own, ignore_index=True), frame)
        merged = judge.report().checks
        same = ~whole.check.isin(LOCAL)
        pd.testing.assert_frame_equal(merged[same], whole[same])


def test_pieces_hold_their_neighbours(make, tmp_path):
    frame = make("COIN", "1h", "2020-01-01", "2024-12-31")
    with Workspace(tmp_path) as space:
        spool = Spool(space)
        for reading in parts(frame, 5_000):
            spool.add(reading)
        pieces = list(spool.chunks(10_000))
    assert len(pieces) == 5 and sum(p.own(p.bars.ts).sum() for p in pieces) == len(frame)
    for piece in pieces[1:-1]:
        own = piece.own(piece.bars.ts)
        assert own.argmax() >= NEIGHBOURS and own[::-1].argmax() >= NEIGHBOURS
        assert len(own) < 10_000 + 4 * NEIGHBOURS


def test_a_workspace_of_the_dead_is_taken_away(tmp_path):
    import shutil
    import subprocess
    import sys

    code = ("import os, sys; from mlfin.quality.spool import Workspace; "
            "Workspace(sys.argv[1]).path('x').write_text('x'); os._exit(9)")
    subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert len(list(tmp_path.rglob("x"))) == 1
    shutil.copytree(tmp_path, again := tmp_path.with_name("again"))
    with Workspace(tmp_path) as alive:
        assert alive.swept == 1 and not list(tmp_path.rglob("x"))
        alive.path("y").write_text("y")
        assert Workspace(tmp_path).swept == 0 and alive.path("y").exists()  # the living are left alone
    assert not list(tmp_path.iterdir()) and len(list(again.rglob("x"))) == 1
    with Workspace(again):  # it needs no file of its own, and takes away what the dead one left all the same
        assert not (again / "incoming").exists()


def test_several_judges_add_up(make):
    frames = {s: make(s, "1h", "2024-01-01", "2024-02-29", seed=i) for i, s in enumerate("ABC")}
    frames["B"].loc[5, "high"] = 1.0
    whole = quality_report(pd.concat(frames.values(), ignore_index=True), "24/7").checks
    total = QualityAccumulator("24/7")
    for frame in frames.values():
        judge = QualityAccumulator("24/7")
        judge.add(BarChunk(frame, np.arange(len(frame))))
        total.merge(judge)
    pd.testing.assert_frame_equal(total.report().checks, whole)


@pytest.mark.parametrize("aside, words, never", [(True, "(set aside)", "stand in the store"),
                                                 (False, "(used as they stand in the store)", "set aside")])
def test_a_report_says_whether_unfit_rows_are_set_aside_or_used(make, aside, words, never):
    frame = make("COIN", "1h", "2024-01-01", "2024-02-29")
    for row, column, factor in ((10, "close", -1), (20, "high", 0.5), (30, "volume", -1), (40, "open", 1000)):
        frame.loc[row, column] *= factor
    frame.loc[50, "ts"] += pd.Timedelta(minutes=7)
    frame = pd.concat([frame, frame.iloc[[60]]], ignore_index=True)
    frame.loc[70, "known_at"] = frame.ts[70] - pd.Timedelta(hours=1)
    whole = quality_report(frame, "24/7", aside=aside).checks.set_index("check")
    cut, at = QualityAccumulator("24/7", aside=aside), frame.ts[800]
    cut.add(BarChunk(frame, np.arange(len(frame)), end=at))
    cut.add(BarChunk(frame, np.arange(len(frame)), start=at + pd.Timedelta(microseconds=1)))
    (one := QualityAccumulator("24/7", aside=aside)).add(BarChunk(frame, np.arange(len(frame))))
    for lines in (whole, cut.report().checks.set_index("check"),
                  one.report((3, "`high` is missing")).checks.set_index("check")):
        for check in ("times", "prices", "ohlc", "volume", "duplicates", "calendar", "decimal"):
            assert lines.status[check] == "warn" and lines.detail[check].endswith(words), lines.loc[check]
        assert not lines.detail[lines.index != "readable"].str.contains(never).any()
    # a row that is no bar stands in no store
    assert lines.detail["readable"] == "the first because `high` is missing (set aside)"
    frame.loc[frame.index[:400], "high"] = 1e-3
    (many := QualityAccumulator("24/7", aside=aside)).add(BarChunk(frame, np.arange(len(frame))))
    assert many.failing_symbols()["COIN"].endswith(words)
