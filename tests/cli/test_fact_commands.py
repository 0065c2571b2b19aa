"""`mlfin data facts`: what it says, that it can be said again, and what it refuses."""

import json

import pytest

from mlfin.core.errors import DataError, ParameterError
from mlfin.store.lake import Lake
from mlfin.cli.app import app


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "CPI.csv").write_text(
        "observation_date,CPI\n2024-01-01,308.4\n2024-02-01,310.3\n2024-03-01,.\n"
    )
    (tmp_path / "reports.csv").write_text("symbol,period_end,published,eps\n"
                                          "A,2024-03-31,2024-05-02T20:30Z,1\n"
                                          "B,2024-03-31,2024-05-03T20:30Z,2\n"
                                          "A,2024-03-31,2024-06-02T20:30Z,1.5\n")

    def said(*arguments):
        app(["data", "facts", *arguments, "--store", "lake"], standalone_mode=False)
        return capsys.readouterr().out

    return said


def test_in_again_and_shown(call, tmp_path):
    assert "No facts are stored yet" in call()
    first = json.loads(call("fred:CPI.csv", "--lag", "14D", "-o", "names={CPI: cpi}", "--json"))
    assert (first["inserted"], first["quarantined"]) == (2, 1) and first["facts"][0]["name"] == "cpi"
    assert first["facts"][0]["last"] == "2024-02-29"
    assert "0 new, 0 revised, 2 unchanged" in call(
        "fred:CPI.csv", "--lag", "CPI=14D", "-o", "names={CPI: cpi}"
    )
    assert "3 new" in call("reports.csv")
    there = {(f["symbol"], f["name"]): f for f in json.loads(call("--json"))["facts"]}
    assert there["A", "eps"]["restated"] == 1 and there["B", "eps"]["count"] == 1
    assert there["*", "cpi"]["delay"] == 14.2
    assert [f["symbol"] for f in json.loads(call("-s", "B", "--json"))["facts"]] == ["B"]
    lake = Lake(tmp_path / "lake")
    assert len(lake.read_facts()) == 5 and len(lake.read_quarantine()) == 1
    assert len(list((tmp_path / "lake" / "raw").rglob("*.csv"))) == 2


def test_a_corrected_file_is_a_revision(call, tmp_path):
    call("fred:CPI.csv", "--lag", "14D")
    (tmp_path / "CPI.csv").write_text(
        "observation_date,CPI\n2024-01-01,308.4\n2024-02-01,999\n2024-03-01,312\n"
    )
    assert "1 new, 1 revised, 1 unchanged" in call("fred:CPI.csv", "--lag", "14D")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["fred:CPI.csv"], "does not say when"),
        (["fredd"], "did you mean `fred`"),
        (["fred:nowhere.csv", "--lag", "1D"], "a file that exists"),
        (["fred:CPI.csv", "--lag", "CPI=1D,2D"], "NAME=TIME"),
        (["fred:CPI.csv", "--lag", "1D", "-o", "lag=2D"], "no option of its own"),
        (["fred:CPI.csv", "--lag", "1D", "-o", "names"], "key=value"),
        (["fred:CPI.csv", "--lag", "1D", "-o", "columns={a: b}"], "option of fred"),
        (["reports.csv", "-s", "C"], "symbol"),
    ],
)
def test_what_it_refuses(call, arguments, message):
    with pytest.raises((DataError, ParameterError), match=message):
        call(*arguments)
