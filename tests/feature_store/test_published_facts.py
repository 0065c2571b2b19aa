"""A run's facts: read as they are, told apart by their content, refused where they are missing; nothing
peeks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError, PipelineError
from mlfin.core.settings import load_settings
from mlfin.core.provenance import hash_frame
from mlfin.facts.facts import EVERYONE, as_facts
from mlfin.store.lake import Lake
from mlfin.sources.sources import read_bars
from mlfin.leakage.lookahead import assert_no_lookahead
from mlfin.feature_store.published_facts import content, fact_names, kept_facts, published_facts, task_facts
from mlfin.features.table import compute_features

ROOT = Path(__file__).resolve().parents[2]
SPECS = ["rsi_14", "earnings_yield", "fact_growth_cpi"]


def company(symbol, seed=0, factor=1.0, late="40D"):
    "Three years of quarters: net income and shares, each restated a month later."
    rng, rows = np.random.default_rng(seed), []
    for end in pd.date_range("2009-03-31", periods=16, freq="QE"):
        start, at = (
            end - pd.offsets.QuarterBegin(startingMonth=1),
            end.tz_localize("UTC") + pd.Timedelta(late),
        )
        for name, value, begin in (
            ("net_income", rng.normal(3e9, 1e9), start),
            ("shares", rng.uniform(1e9, 2e9), None),
        ):
            again = at + pd.Timedelta("30D")
            rows += [
                (symbol, name, value * factor, begin, end, at, "10-Q"),
                (symbol, name, value * factor * 1.1, begin, end, again, "10-Q/A"),
            ]
    return rows


def prices():
    "Consumer prices, for everyone."
    ends = pd.date_range("2008-01-31", periods=50, freq="ME")
    return [
        (EVERYONE, "cpi", 100.0 + i, e.replace(day=1), e, e.tz_localize("UTC") + pd.Timedelta("14D"), "BLS")
        for i, e in enumerate(ends)
    ]


@pytest.fixture
def lake(tmp_path):
    store = Lake(tmp_path / "lake")
    store.write_facts(as_facts([*company("IBM", 1), *company("MSFT", 2), *prices()]))
    return store


@pytest.fixture(scope="module")
def bars():
    return read_bars("builtin", symbols=["IBM", "MSFT"], start="2009-06-01", end="2012-06-30").bars


def hashed(lake, features=SPECS, symbols=("IBM", "MSFT"), facts="store"):
    return content(
        {"features": list(features), "symbols": symbols and list(symbols), "facts": facts},
        load_settings("test").model_copy(update={"store": str(lake.path), "root": lake.path.parent}),
    )


def test_only_what_features_read_is_read(lake):
    assert fact_names(SPECS) == ["cpi", "net_income", "shares"]
    lake.write_facts(
        as_facts(
            [("IBM", "eps", 1.0, "2009-01-01", "2009-03-31", "2009-05-10T00:00Z", ""), *company("ORCL", 3)]
        )
    )
    found = published_facts(SPECS, lake, ["IBM"])
    assert set(found.symbol) == {"IBM", EVERYONE} and set(found.name) == {"cpi", "net_income", "shares"}
    assert set(published_facts(SPECS, lake).symbol) == {"IBM", "MSFT", "ORCL", EVERYONE}
    assert published_facts(["rsi_14"], lake, ["IBM"]) is None


def test_the_content_changes_with_what_is_read_and_with_nothing_else(lake):
    before = hashed(lake)
    lake.write_facts(
        as_facts(
            [("IBM", "eps", 1.0, "2009-01-01", "2009-03-31", "2009-05-10T00:00Z", ""), *company("ORCL", 3)]
        )
    )
    lake.write_facts(as_facts(prices()))                                               # again: unchanged
    assert before == hashed(lake) != hashed(lake, symbols=["IBM"]) and hashed(lake, ["rsi_14"]) is None
    evening = hashed(lake, facts="2012-05-14")
    lake.write_facts(
        as_facts([(EVERYONE, "cpi", 500.0, "2012-03-01", "2012-03-31", "2012-05-15T00:00Z", "BLS")])
    )
    assert hashed(lake) != before
    assert hashed(lake, facts="2012-05-14") == evening != before  # as it was known the day before
    assert content({"features": SPECS, "facts": "store"}, SimpleNamespace(store="/nowhere")) is None


def test_features_of_facts_from_the_store_pass_the_test_of_time(lake, bars):
    facts = published_facts(SPECS, lake, ["IBM", "MSFT"])
    made = compute_features(bars, SPECS, calendar="XNYS", facts=facts)
    assert made[["earnings_yield", "fact_growth_cpi"]].notna().mean().min() > 0.6
    assert (
        assert_no_lookahead(
            SPECS, bars[bars.ts >= "2011-06-01"].reset_index(drop=True), cuts=4, calendar="XNYS", facts=facts
        )
        > 0
    )
    for cut in made.known_at.drop_duplicates().iloc[
        [150, 400, 600]
    ]:  # a run of that evening had computed the same
        past = bars.known_at <= cut
        then = compute_features(
            bars[past],
            SPECS,
            calendar="XNYS",
            facts=published_facts(SPECS, lake, ["IBM", "MSFT"], cut.isoformat()),
        )
        pd.testing.assert_frame_equal(
            then, made[made.known_at <= cut].reset_index(drop=True), check_exact=True
        )


def test_a_restatement_moves_the_features_from_its_day_on_only(lake, bars):
    before = compute_features(
        bars, SPECS, calendar="XNYS", facts=published_facts(SPECS, lake, ["IBM", "MSFT"])
    )
    at = pd.Timestamp("2011-08-20T12:00Z")
    lake.write_facts(as_facts([("IBM", "net_income", 9e9, "2011-04-01", "2011-06-30", at, "10-Q/A")]))
    after = compute_features(
        bars, SPECS, calendar="XNYS", facts=published_facts(SPECS, lake, ["IBM", "MSFT"])
    )
    moved = (before.earnings_yield != after.earnings_yield) & ~(
        before.earnings_yield.isna() & after.earnings_yield.isna()
    )
    assert moved.any() and (after.known_at[moved] >= at).all() and (after.symbol[moved] == "IBM").all()


def test_splits_are_actions_and_count_once(lake):
    ex = pd.Timestamp("2011-03-01T14:30Z")
    actions = pd.DataFrame(
        {
            "symbol": ["IBM"],
            "ex_date": [ex],
            "kind": ["split"],
            "value": [2.0],
            "known_at": [ex],
            "origin": [""],
        }
    )
    for _ in range(2):
        found = published_facts(SPECS, lake, ["IBM"], actions=actions)
        assert (found.name == "split").sum() == 1
        lake.write_facts(found[found.name == "split"].reset_index(drop=True))


@pytest.mark.parametrize(
    "specs, how, message",
    [
        (["dividend_yield"], {}, "no dividends_per_share"),
        (["fact_value_share"], {}, "did you mean `shares`"),
        (SPECS, {"facts": None}, "facts: store"),
        (SPECS, {"facts": "soon"}, "store, or a date"),
        (SPECS, {"symbols": ["AAPL"]}, "no net_income"),
        (SPECS, {"facts": "2001-01-01"}, "no cpi"),
    ],
)
def test_what_is_missing_is_refused_before_it_is_nan(lake, specs, how, message):
    with pytest.raises(DataError, match=message):
        published_facts(specs, lake, **{"symbols": ["IBM"]} | how)


def test_a_task_takes_the_very_facts_that_its_key_stands_for(lake):
    asked = {"features": SPECS, "symbols": ["IBM"], "facts": "store"}
    found = published_facts(SPECS, lake, ["IBM"])
    task = SimpleNamespace(parameters=asked, settings=str(lake.path), content={"facts": hash_frame(found)})
    known, read = task_facts(task)
    pd.testing.assert_frame_equal(read, found)
    pd.testing.assert_frame_equal(known, found)
    lake.write_facts(as_facts(company("IBM", 7, late="50D")))
    with pytest.raises(PipelineError, match="changed while the task began"):
        task_facts(task)
    none, empty = task_facts(SimpleNamespace(parameters=asked | {"features": ["rsi_14"]}))
    assert none is None and list(empty) == list(found) and not len(empty)


def test_a_run_s_facts_can_be_had_again(lake, tmp_path):
    found, ex = published_facts(SPECS, lake, ["IBM"]), pd.Timestamp("2011-03-01T14:30Z")
    assert kept_facts(tmp_path) is None
    found.to_parquet(tmp_path / "facts.parquet")
    pd.testing.assert_frame_equal(kept_facts(tmp_path), found)
    actions = pd.DataFrame(
        {
            "symbol": ["IBM"],
            "ex_date": [ex],
            "kind": ["split"],
            "value": [2.0],
            "known_at": [ex],
            "origin": [""],
        }
    )
    actions.to_parquet(tmp_path / "actions.parquet")
    pd.testing.assert_frame_equal(
        kept_facts(tmp_path), published_facts(SPECS, lake, ["IBM"], actions=actions)
    )
    found[:0].to_parquet(tmp_path / "facts.parquet")
    assert kept_facts(tmp_path) is None


def test_the_names_are_noted_until_a_plugin_changes(tmp_path):
    """A new process that asks for the same reads the note, without pandas; an edited plugin is read anew."""
    (tmp_path / "settings.ini").write_text((ROOT / "settings.ini").read_text())
    (tmp_path / "pipeline.yaml").write_text((ROOT / "pipeline.yaml").read_text())
    ask = (
        "import sys\nfrom mlfin.core.settings import load_settings\n"
        "from mlfin.feature_store.published_facts import _noted_names\n"
        "print(*_noted_names(['own_ratio'], load_settings('test')), 'pandas' in sys.modules)"
    )
    env = os.environ | {"MLFIN_ROOT": str(tmp_path), "MLFIN_PLUGINS": "own"}
    said = []
    for fact in ("eps", "eps", "sales", "price"):
        if fact == "price":  # nothing can be written there
            shutil.rmtree(tmp_path / ".mlfin")
            (tmp_path / ".mlfin").touch()
        (tmp_path / "own.py").write_text(
            "from mlfin.features.spec import feature\n"
            f"@feature('own_ratio', lookback=0, facts=('{fact}',), inputs=('close', '{fact}'))\n"
            f"def own_ratio(close, {fact}): return {fact} / close\n"
        )
        done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, env=env)
        said.append(done.stdout.split() or done.stderr)
    assert said == [["eps", "True"], ["eps", "False"], ["sales", "True"], ["price", "True"]]
