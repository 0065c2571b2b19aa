"""One bad file of a folder is set aside with its reason; the others are stored, and the exit code tells."""

import gzip
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.ingest.ingest import ingest
from mlfin.ingest.store_update import update
from mlfin.store.lake import Lake
from mlfin.sources.sources import read_bars

HOW = {"timeframes": "1d", "tz": "UTC"}


def days(seed=0, rows=60, **more):
    close = (100 * np.exp(np.random.default_rng(seed).normal(0, 0.01, rows).cumsum())).round(4)
    ts = pd.date_range("2020-01-01", periods=rows).strftime("%Y-%m-%d")
    frame = pd.DataFrame({"date": ts, "open": close, "high": close + 1, "low": close - 1,
                          "close": close, "volume": 5.0})
    return frame.assign(**{"Adj Close": close, **more})


def at(value, place=30, rows=60):
    cells = [100.0] * rows
    cells[place] = value
    return pd.Series(cells, dtype=object if isinstance(value, str) else None)


def text(frame):
    return frame.to_csv(index=False).encode()


def rest(path):
    "A reader's error or none: never a traceback of another kind."
    return path


BAD = {  # what BBB.csv (or its like) holds, and what its line says
    "overflow": ("BBB.csv", text(days(**{"Adj Close": at(1e308)})), "adjusted close"),
    "overflow as text": ("BBB.csv", text(days(**{"Adj Close": at("1e300")})), "adjusted close"),
    "infinite": ("BBB.csv", text(days(**{"Adj Close": at(np.inf)})), None),
    "zero": ("BBB.csv", text(days(**{"Adj Close": at(0.0)})), None),
    "negative": ("BBB.csv", text(days(**{"Adj Close": at(-5.0)})), None),
    "missing": ("BBB.csv", text(days(**{"Adj Close": at(np.nan)})), None),
    "words": ("BBB.csv", text(days(**{"Adj Close": at("none")})), None),
    "tiny": ("BBB.csv", text(days(**{"Adj Close": at(5e-324)})), "adjusted close"),
    "huge prices": ("BBB.csv", text(days().assign(open=1e308, high=1.7e308, low=1e307, close=1e308)), None),
    "huge volume": ("BBB.csv", text(days(volume=1e308)), None),
    "a split of words": ("BBB.csv", text(days(split="train")), None),
    "huge splits and dividends": ("BBB.csv", text(days(split=at(1e308), dividend=at(1e308))), None),
    "empty": ("BBB.csv", b"", "is empty"),
    "blank": ("BBB.csv", b"\n\n  \n", "empty"),
    "a header alone": ("BBB.csv", text(days().head(0)), "no rows"),
    "binary": ("BBB.csv", bytes(range(256)) * 40, None),
    "zeros": ("BBB.csv", bytes(5_000), None),
    "one long line": ("BBB.csv", b"x" * 100_000, None),
    "a column twice": ("BBB.csv", text(days()).replace(b"open", b"close", 1), "missing: open"),
    "an open quote": ("BBB.csv", text(days()) + b'"2020-03-01,1,1,1,1,1,1\n' * 3, None),
    "a torn gzip": ("BBB.csv.gz", gzip.compress(text(days()))[:300], "gzip"),
    "no gzip": ("BBB.csv.gz", text(days()), "gzip"),
    "no zip": ("BBB.csv.zip", text(days()), "zip"),
    "no zst": ("BBB.csv.zst", text(days()), "Zstandard"),
    "a torn parquet": ("BBB.parquet", None, "Parquet"),
    "no parquet": ("BBB.parquet", text(days()), "Parquet"),
    "no feather": ("BBB.feather", text(days()), "Feather"),
    "torn json": ("BBB.json", days().to_json(orient="records").encode()[:900], "JSON"),
    "json of another kind": ("BBB.json", b'{"a": [1, {"b": null}]}', None),
    "deep json": ("BBB.json", b"[" * 100_000, None),
    "utf-16 cut": ("BBB.csv", days().to_csv(index=False).encode("utf-16")[:1_001], None),
}


def folder_with(tmp_path, *files):
    folder = tmp_path / "prices"
    folder.mkdir()
    for i, symbol in enumerate(("AAA", "CCC")):
        (folder / f"{symbol}.csv").write_bytes(text(days(i)))
    for name, data in files:
        if data is None:
            days().to_parquet(folder / name)
            data = (folder / name).read_bytes()[:-200]
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_all_bad_ones_at_once(tmp_path):
    names = {f"B{i:02}": name for i, name in enumerate(BAD)}
    folder = folder_with(
        tmp_path, *((BAD[name][0].replace("BBB", short), BAD[name][1]) for short, name in names.items()))
    done = update(folder, store=tmp_path / "lake", **HOW)
    lines, lake = done.series.set_index("symbol"), Lake(tmp_path / "lake")
    assert lines.status[["AAA", "CCC"]].tolist() == ["ok", "ok"] and {"AAA", "CCC"} <= set(lake.read().symbol)
    left_out = lake.read_quarantine().query("reason.str.contains('left out')").symbol.tolist()
    for short, name in names.items():
        bad, says = lines[lines.index.str.startswith(short)], BAD[name][2]
        assert len(bad) == 1, name
        if says is not None:
            assert bad.status.iloc[0] == "failed" and says in bad.error.iloc[0] and short not in set(
                lake.read().symbol), name
        if bad.status.iloc[0] == "failed" and bad["rows"].iloc[0] == 0: assert bad.index[0] in left_out, name
    again = update(folder, store=tmp_path / "lake", **HOW)
    assert again.version == done.version
    assert again.series.status.isin(["nothing new", "failed", "stopped"]).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", BAD)
def test_the_others_are_stored(tmp_path, name):
    file, data, says = BAD[name]
    folder = folder_with(tmp_path, (file, data))
    done = update(folder, store=tmp_path / "lake", **HOW)
    lines, lake = done.series.set_index("symbol"), Lake(tmp_path / "lake")
    assert lines.status[["AAA", "CCC"]].tolist() == ["ok", "ok"] and {"AAA", "CCC"} <= set(lake.read().symbol)
    bad = lines.drop(index=["AAA", "CCC"]).iloc[0]
    if says is not None:
        assert bad.status == "failed" and says in bad.error and done.failed
        assert "BBB" not in set(lake.read().symbol)
    if bad.status == "failed" and bad["rows"] == 0:
        aside = lake.read_quarantine()
        assert aside.symbol.tolist() == [file] and "left out" in aside.reason[0] and done.quarantined == 1
    again = update(folder, store=tmp_path / "lake", **HOW)
    assert again.version == done.version
    assert again.series.status.isin(["nothing new", "failed", "stopped"]).all()


def test_a_file_that_may_not_be_read_or_vanishes(tmp_path, monkeypatch):
    folder = folder_with(tmp_path, ("BBB.csv", text(days())))
    opened = open

    def denied(path, *more, **options):
        if Path(str(path)).name == "BBB.csv":
            raise PermissionError(13, "Permission denied")
        return opened(path, *more, **options)

    monkeypatch.setattr("builtins.open", denied)
    done = update(folder, store=tmp_path / "denied", **HOW)
    assert done.series.status.tolist() == ["ok", "failed", "ok"]
    assert "may this user read it?" in done.series.error[1]
    monkeypatch.undo()
    import mlfin.sources.file_sources as file_sources

    locate = file_sources.locate_file

    def gone(path, *more):
        found = locate(path, *more)
        if Path(path).name == "BBB.csv":
            os.unlink(path)
        return found

    monkeypatch.setattr(file_sources, "locate_file", gone)
    done = update(folder, store=tmp_path / "gone", **HOW)
    assert done.series.status.tolist() == ["ok", "failed", "ok"] and "BBB.csv" in done.series.error[1]


def test_one_symbol_in_two_files_is_one_series(tmp_path):
    folder = tmp_path / "prices"
    folder.mkdir()
    whole = days(rows=80)
    for part, rows in (("2020a", whole[:50]), ("2020b", whole[45:])):
        (folder / f"AAA-{part}.csv").write_bytes(text(rows))
    done = update(folder, store=tmp_path / "lake", symbol_from="([A-Z]+)-", **HOW)
    assert (done.series[["symbol", "status", "inserted", "set_aside"]].to_numpy().tolist()
            == [["AAA", "ok", 80, 5]])


def test_a_named_series_among_others_of_a_file_is_set_aside_alone(tmp_path):
    good, bad = days(0).assign(symbol="AAA"), days(1, **{"Adj Close": at(1e308)}).assign(symbol="BBB")
    (tmp_path / "x.csv").write_bytes(text(pd.concat([good, bad])))
    done = update(tmp_path / "x.csv", store=tmp_path / "lake", **HOW)
    assert done.series.status.tolist() == ["ok", "failed"] and "BBB on 2020-01-31" in done.series.error[1]
    assert done.failed
    assert set(Lake(tmp_path / "lake").read().symbol) == {"AAA"}


def test_for_research_a_file_is_left_out_by_name_and_a_symbol_that_was_asked_for_is_not(tmp_path):
    folder = folder_with(tmp_path, ("BBB.csv", b"nonsense"))
    done = ingest("files", folder, tz="UTC", store=tmp_path / "lake")
    assert set(done.bars.symbol) == {"AAA", "CCC"} and any("BBB.csv is left out" in n for n in done.notes)
    assert done.quarantine.symbol.tolist() == ["BBB.csv"] and "BBB.csv is left out" in done.headline
    with pytest.raises(DataError, match="BBB"):
        ingest("files", folder, ["AAA", "BBB"], tz="UTC", store=tmp_path / "lake")


def test_a_reader_raises_our_own_errors(tmp_path):
    for name, (file, data, _) in BAD.items():
        if data is None:
            continue
        (tmp_path / file).write_bytes(data)
        try:
            read_bars(tmp_path / file, "BBB", tz="UTC")
        except DataError as e:
            assert str(e), name
