import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.core.provenance import hash_frame
from mlfin.market.bars import check_bars
from mlfin.ingest.ingest import ingest
from mlfin.warehouse.opening import open_store
from mlfin.store.lake import Lake
from mlfin.sources.read_result import ReadResult
from mlfin.sources.sources import SOURCES, read_bars, register_source

HEAD = "timestamp,open,high,low,close,volume\n"


def rows(n=30, price=100.0):
    return HEAD + "".join(
        f"2022-01-01 00:{i:02},{price},{price + 1},{price - 1},{price + i % 3 / 10},5\n" for i in range(n)
    )


def content(result):
    return [hash_frame(f)
            for f in (result.bars, result.actions, result.quarantine, result.quality, result.summary)]


@pytest.fixture
def minutes(csv, tmp_path):
    def run(text, **more):
        return ingest(
            "csv", csv(text),
            **{"symbols": ["COIN"], "timeframe": "1m", "tz": "UTC", "store": tmp_path / "lake"} | more)

    return run


def test_builtin(tmp_path):
    result = ingest(store=tmp_path)
    check_bars(result.bars)
    assert result.calendar == "XNYS" and len(result.bars) == 12_154 and result.quarantine.empty
    assert (result.summary.set_index("symbol")
            .loc["AAPL", ["kept", "missing", "splits", "dividends"]].tolist() == [3270, 0, 2, 3])
    assert result.bars.factor.groupby(result.bars.symbol).first().eq(1).all()
    assert set(result.quality.status) == {"pass", "warn"} and result.written.inserted == 12_154
    store = Lake(tmp_path)
    raw = store.read(["AAPL"])
    assert raw.close[0] == 130.31 and "factor" not in raw and len(store.read_actions(["IBM"])) == 52


def test_real_minutes(market, tmp_path):
    path = market / "nautilus" / "btc-perp-20211231-20220201_1m.csv"
    result = ingest("csv", path, symbols=["BTCUSDT"], timeframe="1m", tz="UTC", store=tmp_path)
    line = result.summary.iloc[0]
    assert (line["rows"], line.kept, line.expected, line.missing) == (45_031, 45_031, 45_031, 0)
    assert result.calendar == "24/7" and result.quarantine.empty and (result.bars.factor == 1).all()


def test_result_depends_on_source_and_parameters_alone(csv, tmp_path, minutes):
    text = rows().replace("00:07,100.0", "00:07,oops").replace("00:09,100.0,101.0", "00:09,100.0,9")
    one = minutes(text)
    store = Lake(tmp_path / "other")
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "renamed.csv").write_text(text)
    ingest(
        "csv", csv(rows(60, price=50.0), "before.csv"), symbols=["COIN"], timeframe="1m", tz="UTC",
        store=store)  # other values, and more of them
    two = ingest("csv", other / "renamed.csv", symbols=["COIN"], timeframe="1m", tz="UTC", store=store)
    assert two.written.revised == 28 and content(one) == content(two) == content(minutes(text))
    assert one.origin == two.origin and "renamed" not in two.quarantine.to_json()
    assert len(store.read(["COIN"], "1m")) == 60


def test_what_is_set_aside_is_told_and_kept(minutes, tmp_path):
    lines = rows().splitlines(keepends=True)
    lines[3] = lines[3].replace("101.0", "n/a")
    lines[5] = lines[5].replace("101.0", "50")
    lines[9] = lines[8]
    result = minutes("".join(lines))
    assert list(result.quarantine.row) == [2, 4, 8]
    assert list(result.quarantine.reason) == [
        "`high` is not a number",
        "high is below another price",
        "the same bar again",
    ]
    line = result.summary.iloc[0]
    assert (line["rows"], line.set_aside, line.kept, line.missing) == (30, 3, 27, 3)
    pd.testing.assert_frame_equal(Lake(tmp_path / "lake").read_quarantine(), result.quarantine)


def test_adjusted_close_of_a_file_is_used(csv, tmp_path):
    frame = read_bars("builtin", symbols=["MSFT"]).bars
    adjusted = pd.read_parquet(
        Path(sys.modules["mlfin.sources.sources"].__file__).parent / "builtin" / "us_equities.parquet"
    ).query("symbol == 'MSFT'")
    text = frame.assign(Date=frame.ts.dt.strftime("%Y-%m-%d"), adj=adjusted.adj_close.to_numpy())
    text = (
        text[["Date", "open", "high", "low", "close", "volume", "adj"]]
        .rename(columns={"adj": "Adj Close"})
        .to_csv(index=False)
    )
    result = ingest("csv", csv(text), symbols=["MSFT"], calendar="XNYS", store=tmp_path / "lake")
    pd.testing.assert_frame_equal(result.bars, ingest(symbols=["MSFT"], store=tmp_path / "other").bars)


@pytest.mark.parametrize("adjust", ["none", "splits", "total"])
def test_modes(tmp_path, adjust):
    result = ingest(symbols="AAPL", start="2012-01-01", adjust=adjust, store=tmp_path)
    assert (result.bars.factor.iloc[-1] == 1) == (adjust != "total") and result.summary.dividends[0] == 3


@pytest.mark.parametrize(
    "more, says",
    [
        ({"symbols": ["AAPL", "FB"], "end": "2011-12-31"}, "got 'FB with 0'"),
        ({"symbols": ["FB"], "end": "2012-05-18"}, "got 'FB with 1'"),
        ({"symbols": ["APPL"]}, "did you mean `AAPL`"),
        ({"source": "bultin"}, "did you mean `builtin`"),
        ({"source": "csv"}, "`path` must be the csv file"),
        ({"source": "csv", "path": "/nowhere/x.csv", "symbols": ["A"]}, "a file that exists"),
        ({"start": "1990-01-01", "end": "1991-01-01"}, "a period that the source has"),
        ({"adjust": "full"}, "`adjust` must be"),
        ({"calendar": "XNYX"}, "`calendar` must be"),
        ({"timeframe": "1h"}, "1d for the built-in"),
        ({"path": "x.csv"}, "must be empty for the built-in"),
        ({"store": "s3://bucket"}, "`store` must be a PostgreSQL address"),
        ({"store": 7}, "`store` must be"),
    ],
)
def test_one_clear_error(tmp_path, more, says):
    with pytest.raises(DataError, match=says):
        ingest(**{"store": tmp_path / "lake"} | more)


def test_stops_before_anything_is_stored(minutes, tmp_path):
    lines = rows(40).splitlines(keepends=True)
    with pytest.raises(DataError, match="check `missing` says stop"):
        minutes("".join(lines[:12] + lines[36:]))
    with pytest.raises(DataError, match="check `ohlc` says stop"):
        minutes("".join(x.replace("101.0", "50") if i > 15 else x for i, x in enumerate(lines)))
    with pytest.raises(DataError, match="check `readable` says stop, 12 rows"):
        minutes("".join(x.replace("101.0", "n/a") if i > 28 else x for i, x in enumerate(lines)))
    with pytest.raises(DataError, match="COIN with 1"):
        minutes(rows(1))
    assert open_store(tmp_path / "lake").version() == -1


def test_a_registered_source(tmp_path, minutes, csv):
    base = read_bars(csv(rows()), "COIN", timeframe="1m", tz="UTC")
    register_source(
        "lesson",
        lambda path, symbols, timeframe, tz, calendar: ReadResult(
            base.bars, base.rows, base.quarantine, "lesson", base.content_hash
        ),
    )
    try:
        assert ingest("lesson", timeframe="1m", store=tmp_path / "lake").origin == "lesson"
    finally:
        del SOURCES["lesson"]


def test_another_process_gives_the_same(tmp_path):
    code = (
        "import sys; from mlfin.ingest.ingest import ingest; from mlfin.core.provenance import hash_frame;"
        "r = ingest(symbols=['MSFT', 'AAPL'], start='2008-01-01', store=sys.argv[1]); "
        "print(hash_frame(r.bars), hash_frame(r.quality))")
    runs = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / n)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": n},
        ).stdout
        for n in ("1", "2")
    }
    assert len(runs) == 1


def test_the_files_that_a_warehouses_bars_came_from_are_kept_in_the_profiles_folder(
        server, tmp_path, monkeypatch, plain_terminal):
    import psycopg
    from typer.testing import CliRunner

    from mlfin.core.settings import Settings
    from mlfin.files.raw_files import raw_file
    from mlfin.warehouse.opening import raw_folder
    from mlfin.cli.app import app

    admin = server("postgresql")
    with psycopg.connect(admin, autocommit=True) as con:
        con.execute("CREATE DATABASE originals")
    url, path = admin.removesuffix("/postgres") + "/originals", tmp_path / "IBM_1m.csv"
    content = (b"time,open,high,low,close,volume\n2024-05-01 10:00,1,2,1,1.5,5\n"
               b"2024-05-01 10:01,1,2,1,1.5,5\n2024-05-01 10:02,1,0,1,1.5,5\n")
    path.write_bytes(content)
    settings = Settings(profile="test", root=tmp_path, store=url, mlflow=f"sqlite:///{tmp_path}/m.db",
                        artifacts=str(tmp_path), ledger=f"{tmp_path}/t.sqlite")
    for _ in range(2):
        ingest("csv", path, ["IBM"], "1m", tz="UTC", store=settings)
    origin, folder = open_store(settings).read_quarantine().origin[0], raw_folder(settings)
    kept = [p for p in folder.rglob("*") if p.is_file()]
    assert folder == tmp_path / ".mlfin" / "test" / "raw" and kept == [raw_file(origin, folder)]
    assert kept[0].read_bytes() == content
    assert {p.stat().st_mode & 0o777 for p in (folder, kept[0].parent)} == {0o700}
    assert kept[0].stat().st_mode & 0o777 == 0o600
    for name in ("settings.ini", "env.yaml", "pipeline.yaml"):
        (tmp_path / name).write_bytes((Path(__file__).parents[2] / name).read_bytes())
    monkeypatch.setenv("MLFIN_ROOT", str(tmp_path))
    # a database that is named is the project's, too
    assert raw_folder(url) == folder
    monkeypatch.setenv("COLUMNS", "300")
    shown = CliRunner().invoke(app, ["data", "quarantine", "--raw", "--store", url])
    assert shown.exit_code == 0 and '"high"' in shown.output, shown.output
    monkeypatch.setenv("MLFIN_ROOT", str(tmp_path / "nowhere"))
    assert raw_folder(url) is None
