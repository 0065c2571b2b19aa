"""Files that nobody would write on purpose: what is in them is named, and no number of theirs is stored in
silence."""
import warnings

import pytest

from mlfin.core.errors import DataError
from mlfin.ingest.ingest import ingest
from mlfin.ingest.store_update import update
from mlfin.store.lake import Lake

HEADER = "time,open,high,low,close,volume\n"


def minutes(rows): return HEADER + "".join(f"2024-01-01 00:{i:02d},{row}\n" for i, row in enumerate(rows))


@pytest.fixture
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def test_prices_and_volumes_that_no_market_has_are_set_aside(csv, tmp_path, no_warnings):
    odd = ["1e300,1e308,1e-300,1e-300,5", "1e-20,1,1e-20,1,5", "1,2e15,1,1,5", "100,101,99,100,1e40"]
    path = csv(minutes([*["100,101,99,100,5"] * 30, *odd]), "COIN.csv")
    update("csv", path, ["COIN"], timeframes="1m", tz="UTC", store=tmp_path / "lake")
    lake = Lake(tmp_path / "lake")
    assert len(lake.read(["COIN"], "1m")) == 30
    assert sorted(lake.read_quarantine().reason.str.partition(":")[0].unique()) == [
        "a price is not between 1e-18 and 1e+15",
        "volume is above 1e+30",
    ]


def test_prices_of_small_coins_and_large_currencies_are_fine(csv, tmp_path, no_warnings):
    path = csv(minutes([f"{p},{p},{p},{p},1e15" for p in ["1e-12"] * 15]), "PEPE.csv")
    assert len(ingest("csv", path, ["X"], timeframe="1m", tz="UTC", store=tmp_path / "lake").bars) == 15
    path = csv(minutes([f"{p},{p},{p},{p},1" for p in ["4e11"] * 15]), "ZWL.csv")
    assert len(ingest("csv", path, ["X"], timeframe="1m", tz="UTC", store=tmp_path / "lake").bars) == 15


def test_a_spread_of_any_size_warns_nobody(csv, tmp_path, no_warnings):
    text = HEADER.replace("\n", ",spread\n") + "".join(
        f"2024-01-01 00:{i:02d},100,101,99,100,5,{'-1e308' if i == 7 else 2}\n" for i in range(30)
    )
    update("csv", csv(text, "X.csv"), ["X"], timeframes="1m", tz="UTC", store=tmp_path / "lake")


def test_two_columns_that_are_said_to_be_the_same_are_refused(csv, tmp_path):
    path = csv(
        "when,open,high,low,price,adj,volume\n"
        + "".join(f"2024-01-{i:02d},1,1,1,1,0.5,1\n" for i in range(1, 20))
    )
    with pytest.raises(DataError, match="price and adj both as close"):
        ingest(
            "csv",
            path,
            symbols=["X"],
            columns={"when": "ts", "price": "close", "adj": "close"},
            tz="UTC",
            store=tmp_path / "lake",
        )


def test_a_file_without_a_usable_row_has_failed(csv, tmp_path):
    path = csv(
        "date,symbol,open,high,low,close,volume\n"
        + "".join(f"1399-01-{i:02d},X,1,1,1,1,1\n" for i in range(1, 20))
    )
    done = update("csv", path, tz="UTC", store=tmp_path / "lake")
    assert done.failed and done.series.set_aside.sum() == 19, done.series


@pytest.mark.parametrize(
    "header, point",
    [
        ("<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>", 0.1),
        ("date\ttime\topen\thigh\tlow\tclose\ttickvol\tvol\tspread", 1.0),
    ],
)
def test_metatrader_writes_every_digit_of_a_symbol(csv, tmp_path, header, point):
    """27000.0 has one decimal there; elsewhere a lone zero is how a program writes a whole number."""
    rows = "".join(
        f"2024.01.02\t00:{i:02d}:00\t27000.0\t27003.0\t26999.0\t27001.0\t5\t0\t25\n" for i in range(40)
    )
    bars = ingest(
        "csv",
        csv(f"{header}\n{rows}", "US30_M1.csv"),
        symbols=["US30"],
        timeframe="1m",
        tz="UTC",
        store=tmp_path / "lake",
    ).bars
    assert bars.spread.iloc[0] == pytest.approx(25 * point)
