import subprocess
import sys
import textwrap

import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.data.actions import as_actions
from mlfin.data.bars import as_bars
from mlfin.data.lake import Lake
from mlfin.data.sources import quarantine_rows
from mlfin.data.store import Store


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def script(code, *args, check=True):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)], check=check, capture_output=True, text=True
    )


def test_round_trip_and_idempotence(lake, make):
    assert isinstance(lake, Store) and lake.version() == -1 and lake.read().empty
    bars = as_bars(pd.concat([make("A"), make("B", seed=1), make("A", "1h", end="2024-01-10")]))
    result = lake.write(bars)
    assert (result.inserted, result.revised, result.unchanged) == (len(bars), 0, 0) and result.version == lake.version()
    pd.testing.assert_frame_equal(
        lake.read(["A", "B"]), bars[bars.timeframe == "1d"].reset_index(drop=True), check_exact=True
    )
    pd.testing.assert_frame_equal(
        lake.read(timeframe="H1"), bars[bars.timeframe == "1h"].reset_index(drop=True), check_exact=True
    )
    again = lake.write(bars)
    assert (again.inserted, again.unchanged, again.version) == (0, len(bars), result.version)
    more = lake.write(as_bars(pd.concat([bars, make("C", seed=2)])))
    assert more.inserted == len(make("C")) and more.unchanged == len(bars)


def test_periods(lake, make):
    lake.write(make("A"))
    assert list(lake.read(["A"], start="2024-01-30", end="2024-02-01").ts.dt.day) == [30, 31, 1]
    assert lake.read(["A"], start="2030-01-01").empty
    with pytest.raises(DataError, match="one that the lake has 1d bars of, got 'Z'"):
        lake.read(["A", "Z"])


def test_revisions_and_time_travel(lake, make):
    bars = make("A")
    first = lake.write(bars)
    lake.write(bars.assign(close=bars.close * 1.001))
    last = lake.write(bars.assign(close=bars.close * 1.002))
    assert last.revised == len(bars) and last.inserted == 0
    assert (lake.read(["A"]).close == bars.close * 1.002).all()
    pd.testing.assert_frame_equal(lake.read(["A"], version=first.version), bars, check_exact=True)
    pd.testing.assert_frame_equal(lake.read(["A"], as_of="2024-06-01"), bars, check_exact=True)
    assert len(lake.read(["A"], as_of="2024-01-15")) == 14  # the fifteenth bar had not closed
    assert (lake.read(["A"]).known_at > pd.Timestamp("2026-01-01", tz="UTC")).all()
    back = lake.write(bars)  # the old value again is a revision too
    assert back.revised == len(bars) and (lake.read(["A"]).close == bars.close).all()


def test_optional_columns_and_missing_values(lake, make):
    bars = make("A").assign(vwap=100.0, trades=float("nan"))
    lake.write(as_bars(bars))
    again = lake.write(as_bars(bars))
    assert again.unchanged == len(bars)
    assert list(lake.read(["A"]).columns[-2:]) == ["volume", "vwap"]


@pytest.mark.parametrize("symbol", ["EUR/USD", "../../up", "a=b", "%2e", "x y", "Ω", "A'B\"C", "."])
def test_symbols_never_become_paths(lake, make, symbol, tmp_path):
    lake.write(make(symbol))
    assert list(lake.read([symbol]).symbol.unique()) == [symbol]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lake"] and sorted(p.name for p in lake.path.iterdir()) == [
        "bars"
    ]


def test_actions(lake, make):
    bars = make("A")
    events = as_actions(
        [
            ("A", bars.ts[5], "split", 2.0, bars.known_at[5], "test"),
            ("B", bars.ts[9], "dividend", 0.5, bars.known_at[9], "test"),
        ]
    )
    assert lake.write_actions(events).inserted == 2 and lake.write_actions(events).unchanged == 2
    pd.testing.assert_frame_equal(lake.read_actions(), events)
    assert list(lake.read_actions(["B"]).kind) == ["dividend"] and len(lake.read_actions(as_of=bars.known_at[6])) == 1
    assert lake.write_actions(events.assign(value=[4.0, 0.5])).revised == 1
    assert list(lake.read_actions(["A"]).value) == [4.0] and list(
        lake.read_actions(["A"], as_of="2024-12-31").value
    ) == [2.0]


def test_quarantine(lake):
    rows = quarantine_rows(
        "csv:1", [3, 9], ["A", None], [pd.NaT, pd.NaT], ["bad", "short"], [{"close": "x"}, {"row": "1,2"}]
    )
    assert lake.write_quarantine(rows).inserted == 2 and lake.write_quarantine(rows).inserted == 0
    pd.testing.assert_frame_equal(lake.read_quarantine("csv:1"), rows)
    assert lake.read_quarantine("csv:2").empty and lake.write_quarantine(rows.iloc[:0]).version == 1


def test_refuses_what_is_not_raw_or_not_bars(lake, make):
    with pytest.raises(DataError, match="must be raw to be stored"):
        lake.write(make().assign(factor=2.0))
    with pytest.raises(DataError, match="missing: close"):
        lake.write(make().drop(columns="close"))
    assert lake.version() == -1


WRITER = """
    import sys, pandas as pd
    from mlfin.data.bars import as_bars
    from mlfin.data.calendars import expected_bars
    from mlfin.data.lake import Lake
    root, own, price = sys.argv[1], sys.argv[2], float(sys.argv[3])
    days = expected_bars("24/7", "1d", "2024-01-01", "2024-01-20")
    for n in range(6):
        for symbol in (own, "SHARED"):
            part = days.iloc[n * 3:n * 3 + 5].assign(symbol=symbol, timeframe="1d", open=price, high=price, low=price, close=price, volume=1.0)
            Lake(root).write(as_bars(part))
"""


def test_two_processes_lose_nothing(lake):
    code = textwrap.dedent(WRITER)
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(lake.path), own, "7"], stderr=subprocess.PIPE, text=True)
        for own in ("ONE", "TWO", "THREE")
    ]
    for process in running:
        error = process.communicate(timeout=60)[1]
        assert process.returncode == 0, error
    bars = lake.read()
    assert bars.symbol.value_counts().to_dict() == {s: 20 for s in ("ONE", "TWO", "THREE", "SHARED")}
    assert not bars.duplicated(["symbol", "ts"]).any()


def test_a_full_disk_is_told_and_harms_nothing(lake, make):
    bars = make("A")
    before = lake.write(bars)
    code = """
        import resource, sys
        from mlfin.core.errors import DataError
        from mlfin.data.lake import Lake
        import numpy as np, pandas as pd
        from mlfin.data.bars import as_bars
        from mlfin.data.calendars import expected_bars
        minutes = expected_bars("24/7", "1m", "2024-01-01", "2024-01-20")
        close = 100 + np.random.default_rng(0).random(len(minutes))
        big = as_bars(minutes.assign(symbol="B", timeframe="1m", open=close, high=close, low=close, close=close, volume=close))
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try: Lake(sys.argv[1]).write(big)
        except DataError as e: print(e)
        else: raise SystemExit("no error")
    """
    said = script(code, lake.path).stdout
    assert "could not be written" in said and "grew larger" in said and "Hint" in said
    assert lake.version() == before.version
    pd.testing.assert_frame_equal(lake.read(["A"]), bars, check_exact=True)
    assert lake.read(timeframe="1m").empty and lake.write(make("A", end="2024-04-05")).inserted > 0


def test_an_injected_no_space(lake, make, monkeypatch):
    import deltalake

    lake.write(make("A"))

    def full(*a, **k):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(deltalake, "write_deltalake", full)
    with pytest.raises(DataError, match="the disk is full"):
        lake.write(make("B"))
    monkeypatch.undo()
    assert len(lake.read()) == len(make("A"))


def test_a_place_that_cannot_be_written(tmp_path, make):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="could not be written"):
        Lake(tmp_path / "file").write(make())


def test_a_damaged_log(lake, make):
    lake.write(make())
    for entry in sorted((lake.path / "bars" / "_delta_log").glob("*.json")):
        entry.write_text("{ not json")
    with pytest.raises(DataError, match="could not be read"):
        lake.read()


def test_arrival_never_runs_backwards(lake, make):
    import mlfin.data.lake as module

    lake.write(make("A"))
    stored = module._rows(lake.path, "bars")
    assert module._arrival(
        stored.assign(recorded_at=pd.Timestamp("2999-01-01", tz="UTC").as_unit("us"))
    ) > pd.Timestamp("2999-01-01", tz="UTC")
    assert module._arrival(stored) > stored.recorded_at.max()
