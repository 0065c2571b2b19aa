"""Bars that are stamped when they end: named, and read as such; a series in descending order is no change of
clocks."""

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.market.bars import PRICES, as_bars, timeframe_delta
from mlfin.market.calendars import expected_bars
from mlfin.ingest.ingest import ingest
from mlfin.ingest.store_update import update
from mlfin.store.lake import Lake
from mlfin.quality.quality import check_quality
from mlfin.quality.time_checks import closing_stamps, count_session_edges, session_edges
from mlfin.sources.sources import read_bars, read_parts

from ..quality.test_quality_report import agrees


def month(calendar, timeframe, start="2024-03-01", end="2024-03-28 20:00"):
    "Bars that a calendar has, with prices of a walk."
    grid = expected_bars(calendar, timeframe, start, end)
    close = 100 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 1e-3, len(grid))))
    prices = {"open": close, "high": close * 1.001, "low": close * 0.999, "close": close}
    return as_bars(grid.assign(symbol="A", timeframe=timeframe, volume=5.0, **prices))


def write(path, frame, stamps):
    table = frame[[*PRICES, "volume"]].assign(ts=pd.Series(stamps).dt.strftime("%Y-%m-%d %H:%M:%S.%f"))
    table.to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    "calendar, timeframe",
    [
        ("XNYS", "1m"),
        ("XNYS", "1h"),
        ("XNYS", "4h"),
        ("XHKG", "30m"),
        ("forex", "1h"),
        ("24/7", "15m"),
        ("24/7", "1d"),
        ("XNYS", "1d"),
        ("forex", "1d"),
    ],
)
@pytest.mark.parametrize("early", ["0ms", "1ms", "1s"])
def test_stamps_of_closes_are_read_as_such(tmp_path, calendar, timeframe, early):
    frame = month(calendar, timeframe, end="2024-03-12 20:00" if timeframe == "1m" else "2024-03-28 20:00")
    path = write(tmp_path / "bars.csv", frame, frame.known_at - pd.Timedelta(early))
    how = dict(symbol="A", timeframe=timeframe, tz="UTC", calendar=calendar, stamp="close")
    found = read_bars(path, **how).bars
    pd.testing.assert_frame_equal(found[["ts", "known_at"]], frame[["ts", "known_at"]])
    parts = pd.concat([p.bars for p in read_parts(path, limit=2**16, **how)], ignore_index=True)
    pd.testing.assert_frame_equal(parts, found)


def test_another_word_for_a_stamp_is_refused(tmp_path):
    frame = month("24/7", "1h", end="2024-03-02")
    with pytest.raises(DataError, match="`stamp` must be open or close"):
        read_bars(
            write(tmp_path / "bars.csv", frame, frame.ts), symbol="A", timeframe="1h", tz="UTC", stamp="end"
        )


@pytest.mark.parametrize(
    "calendar, timeframe", [("XNYS", "1m"), ("XNYS", "1h"), ("XHKG", "30m"), ("forex", "1h"), ("XNYS", "1d")]
)
def test_bars_stamped_at_their_close_are_named(tmp_path, calendar, timeframe):
    frame = month(calendar, timeframe)
    line = check_quality(frame, calendar).set_index("check").loc["stamped_at_close"]
    assert line.status == "pass"
    late = as_bars(frame.assign(ts=frame.known_at, known_at=frame.known_at + timeframe_delta(timeframe)))
    line = check_quality(late, calendar).set_index("check").loc["stamped_at_close"]
    assert line.status == "warn" and "at 0 of" in line.detail and "stamp=close" in line.detail
    if calendar == "XHKG":
        agrees(
            late,
            calendar,
            tmp_path,
            part=80,
            rows=120,
            but=("outliers", "spread", "volume_regime", "timeframe"),
        )


@pytest.mark.parametrize("calendar, timeframe", [("XNYS", "1h"), ("XNYS", "4h"), ("XHKG", "1h")])
def test_stamps_a_whole_step_after_the_last_open_are_named(tmp_path, calendar, timeframe):
    """The last bar of a New York day opens at 15:30 and ends at 16:00; who adds an hour to each open stamps
    it 16:30."""
    frame = month(calendar, timeframe)
    late = as_bars(
        frame.assign(
            ts=frame.ts + timeframe_delta(timeframe), known_at=frame.known_at + 2 * timeframe_delta(timeframe)
        )
    )
    line = check_quality(late, calendar).set_index("check").loc["stamped_at_close"]
    assert line.status == "warn" and "at 0 of" in line.detail and "stamp=close" in line.detail
    agrees(
        late.head(240),
        calendar,
        tmp_path,
        part=80,
        rows=120,
        but=("outliers", "spread", "volume_regime", "timeframe"),
    )
    path = write(tmp_path / "A.csv", frame, frame.ts + timeframe_delta(timeframe))
    how = dict(symbols=["A"], timeframes=timeframe, tz="UTC", calendar=calendar)
    told = update("csv", path, store=tmp_path / "open", **how)
    assert "stamp=close" in (
        told.series.error[0] or told.quality.set_index("check").detail["stamped_at_close"]
    )
    assert update("csv", path, store=tmp_path / "close", stamp="close", **how).quality.status.eq("pass").all()


@pytest.mark.parametrize("early", ["1us", "1ms", "1s"])
@pytest.mark.parametrize(
    "calendar, timeframe", [("24/7", "1m"), ("24/7", "1h"), ("24/7", "1d"), ("forex", "15m"), ("XNYS", "1h")]
)
def test_stamps_of_the_last_moment_are_named(tmp_path, calendar, timeframe, early):
    """An exchange's close time is 10:59:59.999."""
    frame = month(calendar, timeframe, end="2024-03-03" if timeframe == "1m" else "2024-03-28 20:00")
    late = as_bars(
        frame.assign(
            ts=frame.known_at - pd.Timedelta(early), known_at=frame.known_at + timeframe_delta(timeframe)
        )
    )
    line = check_quality(late, calendar).set_index("check").loc["stamped_at_close"]
    assert (line.status, line["rows"]) == ("warn", len(late))
    assert "a moment before a full minute: stamp=close reads it so" in line.detail
    few = late.head(240)  # in three pieces
    agrees(
        few, calendar, tmp_path, part=80, rows=120, but=("outliers", "spread", "volume_regime", "timeframe")
    )
    told = update(
        "csv",
        write(tmp_path / "A.csv", frame, late.ts),
        symbols=["A"],
        timeframes=timeframe,
        tz="UTC",
        calendar=calendar,
        store=tmp_path / "lake",
    )
    assert (
        told.series.status.tolist() == ["stopped"] and "stamp=close" in told.series.error[0]
    )  # where it is read first


def test_a_bar_of_the_closing_auction_is_no_such_stamp():
    frame = month("XNYS", "1h")
    edges = session_edges(
        "XNYS",
        "1h",
        int(frame.ts.astype("int64").min()),
        int(frame.ts.astype("int64").max()) + 3 * 3_600_000_000,
    )
    auction = frame[frame.ts.isin(pd.to_datetime(edges[0], unit="us", utc=True))]
    auction = auction.assign(
        ts=auction.ts + pd.Timedelta("6h30min"), known_at=auction.ts + pd.Timedelta("7h")
    )
    both = as_bars(pd.concat([frame, auction]))
    counts = count_session_edges(both.ts.astype("int64").to_numpy(), edges)
    assert counts[1] == counts[0] and counts[3] == counts[2] and not closing_stamps(counts)
    assert check_quality(both, "XNYS").set_index("check").status["stamped_at_close"] == "pass"


@pytest.mark.parametrize("timeframe", ["1m", "5m", "15m", "30m", "1h", "4h"])
@pytest.mark.parametrize("season", ["2024-03-08", "2024-11-01"])
def test_descending_order_is_no_change_of_clocks(timeframe, season):
    frame = month("24/7", timeframe, season, pd.Timestamp(season) + pd.Timedelta(days=5))
    lines = check_quality(frame.iloc[::-1].reset_index(drop=True), "24/7").set_index("check")
    assert lines.status["dst"] == "pass" and lines.rows["order"] == len(frame) - 1


@pytest.mark.parametrize("timeframe", ["15m", "30m"])
def test_an_hour_told_twice_is_still_named(timeframe):
    frame = month("24/7", timeframe, "2024-11-02", "2024-11-05")
    n = int(pd.Timedelta("1h") / timeframe_delta(timeframe))
    at = frame.index[frame.ts == pd.Timestamp("2024-11-03 06:00", tz="UTC")][0]
    twice = pd.concat(
        [frame[:at], frame[at - n : at].assign(close=101.0, high=200.0, low=1.0), frame[at:]],
        ignore_index=True,
    )
    assert check_quality(twice, "24/7").set_index("check").status["dst"] == "warn"


def test_a_calendar_that_was_named_is_kept_with_the_series(tmp_path):
    frame, store = month("XNYS", "30m"), tmp_path / "lake"
    path = write(tmp_path / "A.csv", frame, frame.ts)
    how = dict(symbols=["A"], tz="UTC", store=store)
    assert update("csv", path, timeframes="30m", **how).series.status.tolist() == [
        "stopped"
    ]  # by 24/7 most bars are missing
    assert Lake(store).read_attributes(attribute="calendar").empty  # nobody said it
    update("csv", path, timeframes="30m", calendar="XNYS", **how)
    assert Lake(store).read_attributes("A", "30m", "calendar").value.tolist() == ["XNYS"]
    assert ingest("csv", path, timeframe="30m", **how).calendar == "XNYS"
    assert (
        ingest("files", path, timeframe="30m", tz="UTC", store=store, symbol_from="name").calendar == "XNYS"
    )  # it is known once the file is read
    lines = update(
        "files", path, timeframes="30m", tz="UTC", store=store, symbol_from="name"
    ).quality.set_index("check")
    assert lines.rows["missing"] == 0
    again = update("csv", path, timeframes="30m", calendar="XNAS", **how)
    assert "the store kept the calendar XNYS with these series, and keeps XNAS now" in again.notes
    assert Lake(store).read_attributes("A").set_index("attribute").value.to_dict() == {
        "calendar": "XNAS",
        "tz": "UTC",
    }


def test_calendars_that_differ_have_to_be_named(tmp_path):
    store = tmp_path / "lake"
    for symbol, calendar in (("A", "XNYS"), ("B", "24/7")):
        frame = month(calendar, "1h", end="2024-03-10")
        write(tmp_path / f"{symbol}.csv", frame, frame.ts)
        update("csv", tmp_path / f"{symbol}.csv", [symbol], "1h", tz="UTC", store=store, calendar=calendar)
    with pytest.raises(DataError, match="the store keeps several for these series"):
        ingest("files", tmp_path / "*.csv", timeframe="1h", tz="UTC", store=store)


def test_spreads_of_an_old_store_are_not_mixed_with_prices(tmp_path):
    frame = month("24/7", "1h", end="2024-03-10").assign(spread=27.0)
    frame[PRICES] = frame[PRICES].round(2)
    Lake(tmp_path / "old").write(frame)
    path = write(tmp_path / "A.csv", frame, frame.ts)
    pd.read_csv(path).assign(spread=27).to_csv(path, index=False)
    how = dict(tz="UTC", store=tmp_path / "old")
    with pytest.raises(DataError, match="and count points"):
        ingest("csv", path, ["A"], "1h", **how)
    told = update("csv", path, ["A"], "1h", **how)
    assert told.failed and "count points" in told.series.error[0]
    assert ingest("csv", path, ["A"], "1h", point=1, **how).bars.spread.iloc[0] == 27
    assert Lake(tmp_path / "old").read_attributes("A", attribute="spread").value.tolist() == ["price"]
    fresh = ingest("csv", path, ["A"], "1h", tz="UTC", store=tmp_path / "new")
    assert fresh.bars.spread.iloc[0] == 0.27
    assert Lake(tmp_path / "new").read_attributes(attribute="spread").value.tolist() == ["price"]
    assert ingest("csv", path, ["A"], "1h", tz="UTC", store=tmp_path / "new").written.unchanged == len(frame)
