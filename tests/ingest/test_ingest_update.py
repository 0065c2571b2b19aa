"""update with files: in pieces as in one, series by series, repeated, side by side, and when the disk is
full."""

import gzip
import json
import resource
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import mlfin.ingest.source_request
from mlfin.core.errors import DataError
from mlfin.files.raw_files import raw_file
from mlfin.ingest.ingest import ingest
from mlfin.ingest.store_update import update
from mlfin.warehouse.opening import open_store
from mlfin.store.lake import Lake
from mlfin.quality.repair import unrepair
from mlfin.sources.sources import read_bars

SYMBOLS = ("AAA", "B/../C", "DDD")


def table(rows=30_000, symbols=SYMBOLS, start="2022-01-01", seed=0):
    "Minutes of some symbols, one after another, with dirt at known places."
    parts = []
    for i, symbol in enumerate(symbols):
        close = (100 * np.exp(np.random.default_rng(seed + i).normal(0, 2e-4, rows).cumsum())).round(4)
        ts = pd.date_range(start, periods=rows, freq="min").strftime("%Y-%m-%d %H:%M")
        parts.append(pd.DataFrame({"time": ts, "symbol": symbol, "open": close, "high": close + 0.1,
                                   "low": close - 0.1, "close": close, "volume": 5.0}))
    return pd.concat(parts, ignore_index=True)


def dirty(rows=30_000, **more):
    frame = table(rows, **more)
    frame.loc[[7, rows + 9], "high"] = 1.0
    frame.loc[rows // 2, "close"] *= 1000
    frame["volume"] = frame.volume.astype(object)
    frame.loc[rows + 20, "volume"] = "none"
    far = frame.iloc[[3]]  # again, at the other end of the file
    rival = frame.iloc[[5]].assign(close=frame.close[5] + 0.01)
    return pd.concat([frame, far, rival], ignore_index=True)


def line(done, symbol):
    return done.series.set_index("symbol").loc[symbol]


def content(lake, timeframe="1m"):
    return lake.read(timeframe=timeframe), lake.read_actions(), lake.read_quarantine()


def same(one, two, timeframe="1m"):
    for a, b in zip(content(one, timeframe), content(two, timeframe), strict=True):
        pd.testing.assert_frame_equal(a, b)


@pytest.fixture
def small(monkeypatch):
    "Very little memory: parts and pieces of some hundred bars."
    monkeypatch.setattr(mlfin.ingest.source_request, "_BESIDE", 1)
    return {"memory": 1, "timeframes": "1m", "tz": "UTC"}


@pytest.mark.parametrize("order", ["mixed", *(pytest.param(order, marks=pytest.mark.slow)
                                              for order in ("by symbol", "by time", "newest first"))])
def test_in_pieces_as_in_one(tmp_path, small, order):
    frame = dirty(2_000)
    if order == "by time":
        frame = frame.sort_values("time", kind="stable")
    if order == "newest first":
        frame = frame[::-1]
    if order == "mixed":
        frame = frame.sample(frac=1, random_state=1)
    frame.to_csv(tmp_path / "x.csv", index=False)
    done = update(tmp_path / "x.csv", store=tmp_path / "pieces", **small)
    assert list(done.series.status) == ["ok"] * 3 and not done.failed and done.quarantined == 6 + 1
    whole = ingest("files", tmp_path / "x.csv", timeframe="1m", tz="UTC", store=tmp_path / "whole")
    same(Lake(tmp_path / "pieces"), Lake(tmp_path / "whole"))
    assert list(done.series.set_aside) == list(whole.summary.set_aside) == [5, 2, 0]
    assert list(done.series.inserted) == list(whole.summary.kept)
    assert list(done.series["rows"]) == list(whole.summary["rows"])
    merged, single = done.quality.drop(columns="timeframe"), whole.quality
    local = single.check == "outliers"
    pd.testing.assert_frame_equal(merged[~local], single[~local])
    again = update(tmp_path / "x.csv", store=tmp_path / "pieces", **small)
    assert list(again.series.status) == ["nothing new"] * 3 and again.version == done.version
    assert not (tmp_path / "pieces" / "incoming").exists()


def test_duplicates_across_parts_and_a_revision_by_a_later_file(tmp_path, small):
    frame = table(2_500, ("AAA",))
    pd.concat([frame, frame.iloc[[5]]]).to_csv(tmp_path / "one.csv", index=False)
    one = update(tmp_path / "one.csv", store=tmp_path / "lake", **small)
    assert (line(one, "AAA").inserted, one.quarantined) == (2_500, 1)
    frame.loc[[10, 2_490], "volume"] = 6.0
    frame.to_csv(tmp_path / "two.csv", index=False)
    two = line(update(tmp_path / "two.csv", store=tmp_path / "lake", **small), "AAA")
    assert (two.status, two.inserted, two.revised, two.unchanged, two.set_aside) == ("ok", 0, 2, 2_498, 0)
    assert Lake(tmp_path / "lake").read(["AAA"], "1m").volume[[10, 2_490]].tolist() == [6.0, 6.0]


def test_counts_of_symbols_that_are_written_together(tmp_path):
    frame = table(50)
    frame.to_csv(tmp_path / "x.csv", index=False)
    update(tmp_path / "x.csv", symbols=["AAA"], timeframes="1m", tz="UTC", store=tmp_path / "lake")
    frame.loc[60, "volume"] = 9.0
    frame.to_csv(tmp_path / "x.csv", index=False)
    update(tmp_path / "x.csv", symbols=["AAA", "B/../C"], timeframes="1m", tz="UTC", store=tmp_path / "lake")
    frame.loc[[61, 62], "volume"] = 9.0
    frame.to_csv(tmp_path / "x.csv", index=False)
    done = update(tmp_path / "x.csv", timeframes="1m", tz="UTC", store=tmp_path / "lake").series
    assert (done[["inserted", "revised", "unchanged"]].to_numpy().tolist()
            == [[0, 0, 50], [0, 2, 48], [50, 0, 0]])


def test_a_symbol_that_is_not_there_and_a_timeframe_that_is_not_its_own(tmp_path):
    table(50).to_csv(tmp_path / "x.csv", index=False)
    done = update(tmp_path / "x.csv", symbols=["AAA", "AAB"], timeframes=["1m", "1h"], tz="UTC",
                  store=tmp_path / "lake").series
    assert list(done.status) == ["ok", "failed", "failed", "failed"]
    assert "did you mean `AAA`" in done.error[1] and "bars stand" in done.error[2]


def test_a_series_that_is_stopped_does_not_stop_the_others(tmp_path):
    frame = table(100)
    frame.loc[100:140, "high"] = 1.0
    frame.to_csv(tmp_path / "x.csv", index=False)
    done = update(tmp_path / "x.csv", timeframes="1m", tz="UTC", store=tmp_path / "lake")
    assert list(done.series.status) == ["ok", "stopped", "ok"] and done.failed
    assert "check `ohlc` says stop, 41 rows" in done.series.error[1]
    assert done.series.inserted.tolist() == [100, 0, 100]
    lake = Lake(tmp_path / "lake")
    assert sorted(lake.read(timeframe="1m").symbol.unique()) == ["AAA", "DDD"]
    assert lake.read_quarantine().empty


def test_a_folder_of_which_one_file_is_broken(tmp_path):
    folder = tmp_path / "prices"
    folder.mkdir()
    for symbol in ("AAA", "CCC"):
        table(60, (symbol,)).drop(columns="symbol").to_csv(folder / f"{symbol}.csv.gz", index=False)
    data = gzip.compress(table(60, ("BBB",)).drop(columns="symbol").to_csv(index=False).encode())
    (folder / "BBB.csv.gz").write_bytes(data[: len(data) // 2])
    done = update(folder, timeframes="1m", tz="UTC", store=tmp_path / "lake")
    assert list(done.series.status) == ["ok", "failed", "ok"]
    assert "no complete gzip file" in done.series.error[1]
    (folder / "BBB.csv.gz").write_bytes(data)
    done = update(str(folder / "*.csv.gz"), timeframes="1m", tz="UTC", store=tmp_path / "lake")
    assert list(done.series.status) == ["nothing new", "ok", "nothing new"]
    assert Lake(tmp_path / "lake").read(timeframe="1m").symbol.nunique() == 3


@pytest.mark.parametrize("path", ["x.csv", "sub/*.csv", "sub"])
@pytest.mark.parametrize("source", ["csv", "files"])
def test_relative_paths_start_at_the_project(tmp_path, monkeypatch, path, source):
    (tmp_path / "sub").mkdir()
    for place in ("x.csv", "sub/y.csv"):
        table(40, ("AAA",)).to_csv(tmp_path / place, index=False)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(mlfin.ingest.source_request, "project_root", lambda: tmp_path)
    assert (update(source, path, None, "1m", tz="UTC", store=tmp_path / "lake").series.inserted.tolist()
            == [40])


def test_the_bytes_are_kept_and_the_quarantine_names_them(tmp_path):
    folder = tmp_path / "prices"
    folder.mkdir()
    for symbol in ("AAA", "BBB"):
        frame = table(60, (symbol,)).drop(columns="symbol")
        frame.loc[11 if symbol == "BBB" else 7, "high"] = 1.0
        frame.to_csv(folder / f"{symbol}.csv", index=False)
    update(folder, timeframes="1m", tz="UTC", store=tmp_path / "lake")
    aside = Lake(tmp_path / "lake").read_quarantine()
    assert sorted(zip(aside.symbol, aside.row, strict=True)) == [("AAA", 7), ("BBB", 11)]
    for row in aside.itertuples():  # the very line of the very file
        text = raw_file(row.origin, tmp_path / "lake" / "raw").read_text().splitlines()[1 + row.row]
        assert float(text.split(",")[2]) == json.loads(row.raw)["high"] == 1.0
    update(folder, timeframes="1m", tz="UTC", store=tmp_path / "other", raw=False)
    assert not (tmp_path / "other" / "raw").exists()


def test_actions_of_a_file_in_parts_are_those_of_the_whole(tmp_path, monkeypatch):
    reading = read_bars("builtin", symbols=["IBM", "MSFT"], start="2008-01-01")
    frame = reading.bars.assign(Date=reading.bars.ts.dt.strftime("%Y-%m-%d"), adj=reading.adjusted_close)
    frame = frame[["Date", "symbol", "open", "high", "low", "close", "volume", "adj"]].rename(columns={
        "adj": "Adj Close"})
    frame.to_csv(tmp_path / "x.csv", index=False)
    monkeypatch.setattr(mlfin.ingest.source_request, "_BESIDE", 1)
    done = update(tmp_path / "x.csv", timeframes="1d", calendar="XNYS", store=tmp_path / "pieces", memory=1)
    whole = ingest("csv", tmp_path / "x.csv", ["IBM", "MSFT"], calendar="XNYS", store=tmp_path / "whole")
    same(Lake(tmp_path / "pieces"), Lake(tmp_path / "whole"), "1d")
    assert len(Lake(tmp_path / "pieces").read_actions()) == len(whole.actions) == 42 and not done.failed


def test_repaired_bars_are_marked_and_told(tmp_path):
    frame = table(300, ("AAA",))
    frame.loc[100, "high"] *= 1000
    frame.to_csv(tmp_path / "x.csv", index=False)
    done = update(tmp_path / "x.csv", symbols="AAA", timeframes="1m", tz="UTC", store=tmp_path / "lake",
                  repair=["decimal"])
    assert done.series[["inserted", "set_aside"]].iloc[0].tolist() == [300, 0]
    lake = Lake(tmp_path / "lake")
    bars, aside = lake.read(["AAA"], "1m"), lake.read_quarantine()
    assert bars.high[100] == pytest.approx(frame.high[100] / 1000)
    assert aside.reason[0].startswith("repaired: high was")
    assert unrepair(bars).high[100] == frame.high[100] == json.loads(aside.raw[0])["high"]
    with pytest.raises(DataError, match="`repair` must be decimal"):
        update(tmp_path / "x.csv", symbols="AAA", timeframes="1m", tz="UTC",
               store=tmp_path / "lake", repair="units")


def test_what_is_said_about_the_source_is_passed_on(tmp_path):
    for side, more in (("bid", 0.0), ("ask", 0.2)):
        frame = table(300, ("AAA",)).drop(columns="symbol")
        frame[["open", "high", "low", "close"]] += more
        if side == "ask":
            frame.loc[9, ["open", "low", "close"]] -= 0.3
        frame.to_csv(tmp_path / f"{side}.csv", index=False)
    done = update(tmp_path / "bid.csv", symbols="AAA", timeframes="1m", tz="UTC", store=tmp_path / "lake",
                  ask=tmp_path / "ask.csv", name="XYZ-5m.csv", now="2022-01-01 04:00+00:00")
    lines = done.quality.set_index("check")
    assert lines["rows"]["crossed"] == 1 and "the name says 5 minutes" in lines.detail["name"]
    assert lines["rows"]["times"] == 60


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_thousands_of_symbols_in_one_file(tmp_path, count):
    names = [f"S{i:05d}" for i in range(count)]
    days = [pd.DataFrame({"date": day, "ticker": names, "open": 10.0, "high": 11.0, "low": 9.0,
                          "close": 10.0 + n, "volume": 5.0})
            for n, day in enumerate(("2024-01-02", "2024-01-03"))]
    pd.concat(days).assign(high=lambda f: f.close + 1).to_csv(tmp_path / "x.csv", index=False)
    done = update(tmp_path / "x.csv", timeframes="1d", tz="UTC", store=tmp_path / "lake", memory=1)
    assert len(done.series) == count and (done.series.inserted == 2).all()
    assert done.quality.status.isin(["pass", "warn"]).all()
    assert len(Lake(tmp_path / "lake").read([names[-1]])) == 2


@pytest.mark.parametrize(
    "symbol", ["../../escape", "/etc/x", "A/B", "..", "a b", "ÄÖ", "CON", "x" * 300, "a\\b", "%2e%2e"])
def test_no_symbol_leaves_the_store(tmp_path, symbol):
    table(20, (symbol,)).to_csv(tmp_path / "x.csv", index=False)
    before = {p for p in tmp_path.rglob("*") if "lake" not in p.parts}
    assert update(tmp_path / "x.csv", timeframes="1m", tz="UTC",
                  store=tmp_path / "lake").series.inserted.tolist() == [20]
    assert {p for p in tmp_path.rglob("*") if "lake" not in p.parts} == before
    assert len(Lake(tmp_path / "lake").read([symbol], "1m")) == 20


AT_ONCE = """
import sys
import mlfin.ingest.store_update as module
from mlfin.ingest import source_request
source_request._BESIDE = 1
module.update(sys.argv[1], timeframes="1m", tz="UTC", store=sys.argv[2], memory=1)
"""


def test_two_at_once(tmp_path):
    rows = dirty(2_000)
    rows.to_csv(tmp_path / "x.csv", index=False)
    pd.concat([rows, table(500, ("EEE",), seed=9)]).to_csv(tmp_path / "y.csv", index=False)
    work = [subprocess.Popen([sys.executable, "-W", "ignore", "-c", AT_ONCE, str(tmp_path / f"{n}.csv"),
                              str(tmp_path / "lake")])
            for n in ("x", "y")]
    assert [p.wait(120) for p in work] == [0, 0]
    for name in ("x", "y"):
        update(tmp_path / f"{name}.csv", timeframes="1m", tz="UTC", store=tmp_path / "clean")
    same(Lake(tmp_path / "lake"), Lake(tmp_path / "clean"))


FULL = """
import resource, sys
import mlfin.ingest.store_update as module
from mlfin.ingest import source_request
from mlfin.core.errors import DataError
from mlfin.store.lake import Lake
source_request._BESIDE = 1
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try: done = module.update(sys.argv[1], timeframes="1m", tz="UTC", store=sys.argv[2], memory=1)
except DataError as e: print("error", e)
else: print("failed" if done.failed else "ok", *done.series.error)
"""


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    "A file, a store that has a third of it and a store that has all of it."
    folder = tmp_path_factory.mktemp("before")
    dirty(2_000).to_csv(folder / "x.csv", index=False)
    how = dict(timeframes="1m", tz="UTC")
    update(folder / "x.csv", symbols=["AAA"], store=folder / "lake", raw=False, **how)
    update(folder / "x.csv", store=folder / "clean", **how)
    return folder


@pytest.mark.parametrize("limit", [0, 30_000, 100_000, pytest.param(1_000, marks=pytest.mark.slow)])
def test_a_full_disk(before, tmp_path, limit):
    path, lake = before / "x.csv", shutil.copytree(before / "lake", tmp_path / "lake")
    held = Lake(lake).read(timeframe="1m")
    said = subprocess.run([sys.executable, "-c", FULL, str(path), str(lake), str(limit)],
                          capture_output=True, text=True)
    assert said.returncode == 0 and "Hint: " in said.stdout, said.stdout + said.stderr
    assert said.stdout.startswith(("error", "failed")), said.stdout + said.stderr
    after = Lake(lake).read(timeframe="1m")
    pd.testing.assert_frame_equal(after[after.symbol == "AAA"], held)
    assert not after.duplicated(["symbol", "ts"]).any()
    update(path, timeframes="1m", tz="UTC", store=lake)
    pd.testing.assert_frame_equal(Lake(lake).read(timeframe="1m"),
                                  Lake(before / "clean").read(timeframe="1m"))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.parametrize(
    "more, says",
    [
        ({"source": "cvs", "path": "x.csv"}, "`source` must be"),
        ({"source": "csv"}, "`path` must be the csv file"),
        ({"source": "nowhere/*.csv"}, "a pattern that some file fits"),
        ({"memory": 0}, "`memory` must be MB"),
        ({"timeframes": "1y"}, "`timeframe` must be"),
        ({"calendar": "XNYX"}, "`calendar` must be"),
        ({"symbol_from": "name"}, "`symbol_from` must be left out"),
        ({"source": "ccxt:binance", "symbols": ()}, "`symbols` must be given"),
    ],
)
def test_one_clear_message(tmp_path, more, says):
    import re

    try:
        done = update(**{"source": "builtin", "store": tmp_path / "lake"} | more)
    except DataError as e:
        assert re.search(says, str(e))
    else:
        assert done.failed and re.search(says, done.series.error[0])


def test_progress_is_told_by_symbol(tmp_path, small):
    table(3_000).to_csv(tmp_path / "x.csv", index=False)
    seen = []
    update(tmp_path / "x.csv", store=tmp_path / "lake", progress=lambda *said: seen.append(said), **small)
    assert len(seen) > 6 and {s[0] for s in seen} == set(SYMBOLS) and {s[1] for s in seen} == {"1m"}
    for symbol in SYMBOLS:
        counts = [s[2] for s in seen if s[0] == symbol]
        assert counts == sorted(counts) and counts[-1] == 3_000


def test_a_broken_file_among_those_that_hold_the_symbols_asked_for(tmp_path):
    folder = tmp_path / "prices"
    folder.mkdir()
    for symbol in ("AAA", "BBB", "CCC"):
        table(60, (symbol,)).to_csv(folder / f"{symbol}.csv", index=False)
    (folder / "CCC.csv").write_text("nonsense")
    done = update(folder, symbols=["AAA", "BBB", "ZZZ"], timeframes="1m", tz="UTC", store=tmp_path / "lake")
    lines = done.series.set_index("symbol").status.to_dict()
    assert lines == {"AAA": "ok", "BBB": "ok", "CCC.csv": "failed", "ZZZ": "failed"} and done.failed


def test_what_was_decided_about_a_source_is_told(tmp_path):
    table(60, ("AAA",)).drop(columns=["volume", "symbol"]).to_csv(tmp_path / "x.csv", index=False)
    done = ingest("csv", tmp_path / "x.csv", "AAA", "1m", tz="UTC", store=tmp_path / "lake")
    assert done.notes == ("no volume column: the volume is 0",)
    assert done.headline.endswith("About the source: no volume column: the volume is 0.")


# --- what was said of a file once stays with its series

def mt5(folder, name="US30m_H1_202401012300_202402012200.csv", rows=60, start="2024-01-02 10:00"):
    ts = pd.date_range(start, periods=rows, freq="h")
    prices = 38000.1 + np.arange(rows)
    lines = [f"{t:%Y.%m.%d}\t{t:%H:%M:%S}\t{p:.1f}\t{p + 2:.1f}\t{p - 2:.1f}\t{p + 1:.1f}\t5\t0\t18"
             for t, p in zip(ts, prices, strict=True)]
    (folder / name).write_text(
        "\n".join(["<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>", *lines])
        + "\n")
    return folder / name


def test_zone_and_point_stay_with_the_series(tmp_path):
    path, lake = mt5(tmp_path), tmp_path / "lake"
    bad = update(path, timeframes=None, store=lake)
    assert bad.failed and bad.unsaid and "--tz UTC" in bad.series.error[0]
    assert not update(path, timeframes=None, store=lake, tz="Europe/Athens", point=0.01).failed
    before = open_store(lake).read("US30m", "1h")
    assert before.spread.eq(0.18).all() and str(before.ts[0]) == "2024-01-02 08:00:00+00:00"
    again = update(path, timeframes=None, store=lake)
    assert again.series[["status", "unchanged"]].iloc[0].tolist() == ["nothing new", 60]
    assert any("Europe/Athens, as the store keeps it" in note for note in again.notes)
    assert any("units of 0.01, as the store keeps it" in n for n in again.notes)
    zone, point = "`tz` must be Europe/Athens", "`point` must be 0.01"
    for said, text in (({"tz": "UTC"}, zone), ({"point": 0.1}, point), ({"point": {"US30m": 1}}, point)):
        wrong = update(path, timeframes=None, store=lake, **said)
        assert wrong.series.status[0] == "stopped" and text in wrong.series.error[0]
        assert "US30m 1h" in wrong.series.error[0] and "--change" in wrong.series.error[0]
        with pytest.raises(DataError, match=text):
            ingest(path, symbols=["US30m"], timeframe="1h", store=lake, **({"tz": "Europe/Athens"} | said))
    pd.testing.assert_frame_equal(open_store(lake).read("US30m", "1h"), before)
    assert update(path, timeframes=None, store=lake, point=0.1, change=True).series.revised[0] == 60
    update(path, timeframes=None, store=lake)
    assert open_store(lake).read("US30m", "1h").spread.eq(1.8).all()


def test_a_kept_point_scales_no_price_and_a_kept_zone_moves_no_offset(tmp_path):
    lake, path = tmp_path / "lake", mt5(tmp_path)
    update(path, timeframes=None, store=lake, tz="Europe/Athens", point=0.01)
    bars = open_store(lake).read("US30m", "1h").assign(ts=lambda b: b.ts + pd.Timedelta(days=9), spread=1.85)
    # with offsets, and in prices
    bars[["ts", "open", "high", "low", "close", "volume", "spread"]].to_csv(
        tmp_path / "US30m_1h.csv", index=False)
    done = update(tmp_path / "US30m_1h.csv", timeframes=None, store=lake)
    later = open_store(lake).read("US30m", "1h", start=bars.ts[0])
    assert not done.failed and later.spread.eq(1.85).all() and later.ts[0] == bars.ts[0]
    other = mt5(tmp_path, "GER40_H1.csv")
    assert update(other, timeframes=None, store=lake).unsaid                # another series was told nothing
    done = update(other, timeframes=None, store=lake, default_tz="UTC")
    assert not done.failed and any("env.yaml" in note for note in done.notes)


def test_counts_since_1970_stay_on_the_clock_that_was_named(tmp_path):
    lake = tmp_path / "lake"
    times = pd.date_range("2024-01-02 10:00", periods=40, freq="h", unit="s").astype("int64")
    frame = pd.DataFrame({"time": times, "open": 1.5, "high": 2, "low": 1, "close": 1.5})
    frame.to_csv(tmp_path / "X_1h.csv", index=False)
    assert not update(tmp_path / "X_1h.csv", timeframes=None, store=lake, tz="Europe/Athens").failed
    assert update(tmp_path / "X_1h.csv", timeframes=None, store=lake).series.unchanged[0] == 40
