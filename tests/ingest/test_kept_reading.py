"""What a store keeps of how files are read holds for all of a file, however long it is; corrected bars are
fit for research, and named."""
import numpy as np
import pandas as pd
import pytest

from mlfin.runs.question import check_files
from mlfin.core.errors import DataError, ParameterError
from mlfin.core.settings import Settings
from mlfin.ingest.ingest import ingest
from mlfin.ingest.store_update import update
from mlfin.warehouse.opening import open_store
from mlfin.ingest.preview import preview
from mlfin.sources.sources import read_bars, read_parts
from mlfin.ingest.pinned_bars import bring_in
from mlfin.features.table import compute_features
from mlfin.datasets.builder import build_dataset
from mlfin.datasets.labels import compute_labels


def minutes(rows, *symbols, **more):
    "A panel, symbol after symbol, whose times carry no zone."
    ts = pd.date_range("2024-01-01", periods=rows, freq="min")
    close = (100 + np.random.default_rng(0).normal(0, 0.01, rows).cumsum()).round(2)
    one = pd.DataFrame({"ts": ts, "open": close, "high": close + 0.5, "low": close - 0.5, "close": close,
                        "volume": 5.0, **more})
    return pd.concat([one.assign(symbol=s) for s in symbols], ignore_index=True)


@pytest.fixture
def settings(tmp_path):
    return Settings(profile="test", root=tmp_path, store=str(tmp_path / "lake"), mlflow="", artifacts="",
                    ledger=tmp_path / "trials.sqlite")


@pytest.fixture
def long(tmp_path):
    "A file that comes in pieces: the second symbol is in none of the first ones."
    minutes(20_000, "AAA", "BBB", spread=20).to_csv(tmp_path / "long.csv", index=False)
    return tmp_path / "long.csv"


def first_rows(path, symbol, **how):
    "What was said of a symbol once, by an ingest of its first rows."
    frame = minutes(500, symbol, spread=20)
    frame.to_csv(path.with_name(f"{symbol}.csv"), index=False)
    update(path.with_name(f"{symbol}.csv"), symbols=[symbol], timeframes="1m", **how)


@pytest.mark.parametrize("first, second", [("AAA", "BBB"), ("BBB", "AAA")])
def test_a_second_zone_far_down_a_file_is_seen(settings, long, first, second):
    """Only the first piece's symbols were asked for their zone: five hours of another one were shifted, and
    its bars revised."""
    first_rows(long, first, tz="UTC", store=settings)
    first_rows(long, second, tz="America/New_York", store=settings)
    before = open_store(settings).read([second], "1m")
    done = update(long, timeframes="1m", memory=16, store=settings)
    assert done.failed and "several" in done.series.error.iloc[0] and "BBB" in done.series.error.iloc[0]
    assert done.series.inserted.sum() == 0
    pd.testing.assert_frame_equal(open_store(settings).read([second], "1m"), before)
    for symbol, hours in ((first, 0), (second, 5)):                          # one by one, as the message says
        done = update(long, symbols=[symbol], timeframes="1m", memory=16, store=settings)
        assert (done.series.inserted.iloc[0],
                done.series.unchanged.iloc[0]) == (19_500, 500), done.series.error.iloc[0]
        assert (open_store(settings).read([symbol], "1m").ts.min()
                == pd.Timestamp("2024-01-01", tz="UTC") + pd.Timedelta(hours=hours))


def test_a_kept_point_far_down_a_file_counts(settings, long):
    """A spread of 20 became 0.2: the second symbol's kept point was looked up among those of the first
    piece."""
    first_rows(long, "BBB", tz="UTC", point=1.0, store=settings)
    done = update(long, timeframes="1m", tz="UTC", memory=16, store=settings)
    assert not done.failed and set(open_store(settings).read(["BBB"], "1m").spread) == {20.0}
    assert done.series.revised.sum() == 0


def test_a_zone_that_a_neighbour_has_is_named_with_it(settings, long):
    first_rows(long, "BBB", tz="Asia/Dubai", store=settings)
    minutes(500, "BBB", "CCC").to_csv(long, index=False)
    done = update(long, timeframes="1m", store=settings)
    assert any("Asia/Dubai, as the store keeps it with BBB" in note for note in done.notes)
    assert not done.failed


def test_counts_that_stand_by_utc_are_not_moved_by_a_zone(settings, tmp_path):
    """Bars counted in UTC were revised by the first `--tz`, hours off, as if nothing had been said before."""
    frame = minutes(500, "AAA")
    frame.assign(ts=frame.ts.astype("int64") // 10**6).to_csv(tmp_path / "AAA_1m.csv", index=False)
    update(tmp_path / "AAA_1m.csv", timeframes="1m", store=settings)
    told = update(tmp_path / "AAA_1m.csv", timeframes="1m", tz="Asia/Dubai", store=settings)
    assert told.failed and "UTC: the store keeps it with AAA 1m" in told.series.error[0]
    assert not update(tmp_path / "AAA_1m.csv", timeframes="1m", tz="Asia/Dubai", change=True,
                      store=settings).failed
    assert {r.reason for p in read_parts(tmp_path / "AAA_1m.csv", timeframe="1m")
            for r in p.quarantine.itertuples()} == set()


def test_what_is_kept_meanwhile_makes_a_folder_be_read_again(settings, tmp_path):
    """A zone that the store contradicts by now was accepted, because the folder's files were those of the
    last time."""
    (tmp_path / "bars").mkdir()
    minutes(500, "AAA").to_csv(tmp_path / "bars" / "AAA_1m.csv", index=False)
    question = dict(source="csv", path="bars", symbols=["AAA"], timeframe="1m", start=None, end=None,
                    tz="UTC", calendar="auto", adjust="total")
    assert bring_in(question, settings)[1]["new"] == 500 and bring_in(question, settings)[1]["new"] == 0
    update(tmp_path / "bars" / "AAA_1m.csv", timeframes="1m", tz="Asia/Dubai", change=True, store=settings)
    with pytest.raises(DataError, match="Asia/Dubai: the store keeps it"): bring_in(question, settings)


def test_a_folder_without_a_zone_asks_for_it(settings, tmp_path):
    """It said "symbol must be a known name ... there is none yet", because the symbol's line came before its
    file's."""
    (tmp_path / "bars").mkdir()
    for s in ("AAA", "BBB"):
        minutes(500, s).drop(columns="symbol").to_csv(tmp_path / "bars" / f"{s}_1m.csv", index=False)
    question = dict(source="csv", path="bars", symbols=["AAA", "BBB"], timeframe="1m", start=None, end=None,
                    tz=None, calendar="auto", adjust="total")
    with pytest.raises(ParameterError, match="`tz` must be given"): bring_in(question, settings)
    done = update(tmp_path / "bars", symbols=["AAA", "BBB"], timeframes="1m", store=settings)
    assert done.unsaid and done.exit_code == 2 and done.series.symbol.tolist() == ["AAA_1m.csv", "BBB_1m.csv"]


@pytest.mark.parametrize("label", ["fwd_ret_5", "next_close"])
def test_a_corrected_bar_is_fit_for_research_and_named(settings, make, label):
    """One corrected bar was "known" only years after its label began, and every run on the store failed from
    then on."""
    store = open_store(settings)
    store.write(make("AAA", "1h"))
    row = store.read(["AAA"], "1h").iloc[[100]].reset_index(drop=True)
    store.write(row.assign(close=row.close * 1.001))
    done = ingest("store", symbols=["AAA"], timeframe="1h", store=settings)
    bars = done.bars
    assert bars.close[100] == row.close[0] * 1.001 and (bars.known_at == bars.ts + pd.Timedelta("1h")).all()
    assert len(done.caveats) == 1 and "1 bar of AAA was corrected after it had closed" in done.caveats[0]
    specs = ["rsi_14", "returns"]
    dataset = build_dataset(compute_features(bars, specs, short="nan"), compute_labels(bars, label), bars,
                            specs, context={})
    assert (dataset.spans.t1 <= bars.known_at.max()).all()
    assert not ingest("store", symbols=["AAA"], timeframe="1h", start=bars.ts[101], store=settings).caveats


def test_a_kept_calendar_reads_the_dates_of_a_file_of_days(settings, tmp_path):
    """`mlfin run` found the calendar that an ingest was told, and the next ingest of the same file asked for
    a zone."""
    days = read_bars("builtin", symbols=["AAPL"], end="2000-12-31").bars[[
        "ts", "open", "high", "low", "close", "volume"]]
    days.assign(ts=days.ts.dt.strftime("%Y-%m-%d")).to_csv(tmp_path / "AAPL_1d.csv", index=False)
    with pytest.raises(DataError, match="`tz` must be given"):
        ingest("csv", tmp_path / "AAPL_1d.csv", store=settings)
    update(tmp_path / "AAPL_1d.csv", calendar="XNYS", store=settings)
    done = update(tmp_path / "AAPL_1d.csv", store=settings)
    assert not done.failed and done.series.unchanged.tolist() == [len(days)]


def test_what_is_asked_series_by_series_needs_symbols_in_a_dry_run_too(settings):
    for act in (update, preview):
        with pytest.raises(DataError, match="`symbols` must be given"):
            act("sql", "sqlite:///nowhere.db#prices", None, ["1h"], store=settings)


def test_a_feed_that_is_late_as_a_rule_stays_late(settings, make):
    """Bars known a quarter of an hour after their closes are no corrections: research may not know them
    sooner."""
    store, bars = open_store(settings), make("AAA", "1h")
    store.write(bars.assign(known_at=bars.known_at + pd.Timedelta("15min")))
    row = store.read(["AAA"], "1h").iloc[[100]].reset_index(drop=True)
    store.write(row.assign(close=row.close * 1.001))
    done = ingest("store", symbols=["AAA"], timeframe="1h", store=settings)
    assert (done.bars.known_at == done.bars.ts + pd.Timedelta("75min")).all()
    assert done.corrected == (("AAA", 1),)


@pytest.mark.parametrize("text", ["", " \n \n", "timestamp,open,high,low,close,volume\n"])
def test_a_file_without_a_row_is_no_traceback_where_its_head_is_looked_at(settings, tmp_path, text):
    """A blank file ended a run, and an ingest that was to find its timeframe, with an IndexError."""
    (tmp_path / "blank.csv").write_text(text)
    check_files(dict(source="csv", path="blank.csv", symbols=["AAA"], timeframe="1m", tz=None), settings)
    done = update(tmp_path / "blank.csv", timeframes=None, store=settings)
    assert done.failed and ("is empty" in done.series.error[0] or "no rows" in done.series.error[0])


def test_a_symbol_that_nobody_asks_for_needs_no_point(settings, long):
    """`-s BBB` was refused, because the size of AAA's point was not known: neither the store's points nor
    those that are said need have it."""
    update(long, symbols=["BBB"], timeframes="1m", tz="UTC", point={"BBB": 0.01}, memory=16, store=settings)
    assert set(open_store(settings).read(["BBB"], "1m").spread) == {0.2}
    odd = pd.read_csv(long)
    # no quote has that many decimals
    odd.loc[odd.symbol == "AAA", ["open", "high", "low", "close"]] = 100.123456789012
    odd.to_csv(long, index=False)
    done = update(long, symbols=["BBB"], timeframes="1m", memory=16, store=settings)
    assert not done.failed and done.series.unchanged.tolist() == [20_000]
    assert open_store(settings).series().symbol.tolist() == ["BBB"]
    assert update(long, symbols=["AAA"], timeframes="1m", tz="UTC", memory=16, store=settings).failed


def test_another_name_of_utc_is_no_other_zone(settings, tmp_path):
    minutes(500, "AAA").to_csv(tmp_path / "AAA_1m.csv", index=False)
    for zone, new in (("Etc/UTC", 500), ("UTC", 0), ("Zulu", 0)):
        assert update(tmp_path / "AAA_1m.csv", timeframes="1m", tz=zone,
                      store=settings).series.inserted.tolist() == [new]
    check_files(dict(source="csv", path="AAA_1m.csv", symbols=["AAA"], timeframe="1m", tz="Etc/UTC"),
                settings)
    with pytest.raises(DataError, match="did you mean `Europe/Athens`") as e:
        update(tmp_path / "AAA_1m.csv", tz="Europe/Atens", store=settings)
    assert e.value.exit_code == 2
