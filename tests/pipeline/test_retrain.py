"""The question again on newer bars: what came in is learnt from, the gate judges, and nothing serves by
itself."""
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from mlfin.runs.window import next_question, move_window
from mlfin.core.errors import SettingsError
from mlfin.core.locks import experiment_lock
from mlfin.core.provenance import read_json, read_parquet
from mlfin.market.bars import as_bars
from mlfin.market.calendars import expected_bars
from mlfin.ingest.store_update import UpdateResult
from mlfin.warehouse.opening import open_store
from mlfin.registry.gate import promote
from mlfin.registry.prediction_checks import beats_champion
from mlfin.registry.registry import model_versions, read_manifest
from mlfin.runs import retrain as retrained
from mlfin.runs.dag import load_dag
from mlfin.runs.pipeline import RunResult
from mlfin.runs.retrain import _keep_again

from ..fixtures.workbench import TASKS, words


def push(bench, symbols=("IBM", "MSFT"), start="2013-04-01", end="2013-06-28"):
    "Sessions that followed, made up from a seed."
    store, frame = open_store(bench.settings), expected_bars("XNYS", "1d", start, end)
    for n, symbol in enumerate(symbols):
        last = store.read([symbol]).close.iloc[-1]
        close = last * np.exp(np.cumsum(np.random.default_rng(n).normal(0, 0.01, len(frame))))
        prices = {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close, "volume": 1e6}
        store.push(as_bars(frame.assign(symbol=symbol, timeframe="1d", **prices)))
    return len(frame)


@pytest.mark.slow
def back(bench):
    "The day 1,500 days before the newest bar."
    return f"{open_store(bench.settings).read(['IBM']).ts.max() - pd.Timedelta(days=1500):%Y-%m-%d}"


def test_what_was_pushed_is_learnt_from_and_judged_beside_the_champion(finished):
    first = finished.record()
    promote(finished.settings, "default", force="a first one")
    code, out, err = finished.here("retrain", "default")
    assert code == 0 and "Nothing is new" in out and "it is the champion already" in out, out + err
    assert finished.record() == first, out + err
    pushed = push(finished)
    code, out, err = finished.here("retrain", "default", "--dry-run", "--json")
    assert code == 0 and len(json.loads(out)["tasks"]) == 6 and finished.record() == first, out + err

    code, out, err = finished.here("retrain", "default", "--json")
    assert code == 0, out + err
    told, record = json.loads(out), finished.record()
    assert (told["before"] == first["run_id"] != told["run"] == record["run_id"]
            and told["brought"] | {"path": ""} == {
                "source": "builtin", "path": "", "symbols": ["IBM", "MSFT"], "timeframe": "1d",
                "start": "2006-01-03", "calendar": "auto", "new": 0})
    assert record["parameters"]["source"] == "store" and record["parameters"]["start"] == "2006-01-03"
    assert any("source" in line for line in told["changed"]["ingest"])
    assert (told["version"], told["promoted"]) == (2, False) and "gate" in told["gate"]
    bars = read_parquet(finished.data("bars.parquet"))
    assert (bars.ts >= "2013-04-01").sum() == 2 * pushed
    aliases = {v.number: v.aliases for v in model_versions(finished.settings, "default")}
    assert "champion" in aliases[1] and "champion" not in aliases[2]
    assert ({v.number: v.verdict for v in model_versions(finished.settings, "default")}
            == {1: "forced", 2: "refused"})

    page = (finished.root / told["page"]).read_text()
    kept = read_json(finished.root / told["page"].replace("07_retrain.html", "data/retrained.json"))
    against = kept["against"]
    assert (against["champion"], against["from"][:4]) == (1, "2007") and 2000 < against["rows"] < len(bars)
    assert against["low"] <= against["gain"] <= against["high"]
    rows = len(read_parquet(finished.data("predictions.parquet")))
    assert kept["rows"] == rows and told["gate"].endswith(f"; judged on {rows:,} rows out of sample")
    assert f"judged on {rows:,} rows" in page
    assert kept["champion"] == 1
    assert [c["name"] for c in kept["checks"]][:3] == ["loads", "baseline", "champion"]
    for text in ("Retraining: what changed", "IBM", "psi", "log_loss", "look-ahead", "v2 beside v1",
                 "common rows", f"v2 {kept['gate'][:20]}"):
        assert text in page, text
    assert str(finished.root) not in page

    code, out, err = finished.here("retrain", "default")
    assert code == 0 and "Nothing is new" in out, out + err
    code, out, err = finished.here("retrain", "default", "--promote")
    assert code == 1 and "refused by the gate" in out, out + err


def foreseen(bench, **asked):
    "What a dry run tells of the finished run, had its bars come from elsewhere; nothing is written."
    record, before = bench.record(), bench.published()
    bench.report("run.json").write_text(json.dumps(record | {"when": record["when"] | {"brought": asked}}))
    try: code, out, err = bench.here("retrain", "default", "--dry-run", "--json")
    finally: bench.report("run.json").write_text(json.dumps(record, indent=1))
    assert code == 0, out + err
    assert {k: v for k, v in bench.published().items() if not k.endswith("default/run.json")} == {
        k: v for k, v in before.items() if not k.endswith("default/run.json")}
    return json.loads(out)


def test_what_a_retraining_would_bring_in_is_foreseen(finished):
    """Ten new bars in the experiment's own file, and "no task would run" was said of them; a service is not
    asked."""
    file = finished.root / "IBM.csv"
    bars = open_store(finished.settings).read(["IBM"])[["ts", "open", "high", "low", "close", "volume"]]
    more = expected_bars("XNYS", "1d", "2013-04-01", "2013-04-12").ts
    own = {"source": "csv", "path": "IBM.csv", "symbols": ["IBM"], "timeframe": "1d", "start": "2006-01-03",
           "tz": "UTC", "calendar": "auto"}
    bars.to_csv(file, index=False)
    told = foreseen(finished, **own)
    assert [line["new"] for line in told["brings"]["series"]] == [0] and told["tasks"]
    assert told["question"]["path"] == "IBM.csv"
    pd.concat([bars, bars.tail(len(more)).assign(ts=more.to_numpy())]).to_csv(file, index=False)
    told = foreseen(finished, **own)
    assert [(line["symbol"], line["new"]) for line in told["brings"]["series"]] == [("IBM", len(more))], told
    assert told["tasks"] is None is told["would_run"]
    assert (told["question"]["source"], told["brings"]["source"]) == ("csv", "csv:IBM.csv")
    told = foreseen(finished, **own | {"source": "yahoo", "path": ""})
    assert [line["new"] for line in told["brings"]["series"]] == [None] and told["tasks"]
    assert told["question"]["source"] == "yahoo"


def test_the_status_of_an_experiment_is_of_what_it_was_asked_last(finished):
    """Its question came from a file, so all of it differed from env.yaml, on a page of "parameter
    changed"."""
    record = finished.record()
    code, out, err = finished.here("status", "--experiment", "default", "--json")
    told = json.loads(out)
    assert code == 0 and {t["state"] for t in told["tasks"]} == {"fresh"}
    assert (told["asked"], told["run"]) == (f"run {record['run_id']}", record["run_id"])
    (finished.root / "q.yaml").write_text("models: [dummy]\nsymbols: [IBM]\n")
    for more, asked in (([], "env.yaml"), (["--experiment", "default", "-f", "q.yaml"], "q.yaml"),
                        (["--experiment", "default", "-p", "folds=2"], "-p"),
                        (["--experiment", "never"], "env.yaml")):
        told = json.loads(finished.here("status", *more, "--json")[1])
        assert "stale" in {t["state"] for t in told["tasks"]} and asked in told["asked"], (
            more, told["asked"])
    record["when"]["brought"] = {"source": "sql", "path": "postgresql://ann:secret@db/x"}
    finished.report("run.json").write_text(json.dumps(record))
    out = finished.here("status", "--experiment", "default")[1]
    assert f"question: run {record['run_id']}, bars brought from sql:postgresql://" in out
    assert "secret" not in out


def test_a_question_of_the_store_reads_no_file(finished):
    """The built-in file's name stands in such a question: its absence stopped a retraining that never reads
    it."""
    asked = finished.record()["parameters"]
    (finished.root / asked["path"]).unlink()
    assert set(load_dag(asked | {"source": "store"}, finished.root)) == set(TASKS)
    with pytest.raises(SettingsError, match="us_equities.parquet"): load_dag(asked, finished.root)


def test_a_window_that_the_folds_do_not_fit_into_is_refused_before_a_kernel_starts(finished):
    before = finished.published()
    for window in ("30D", "2h"):
        code, out, err = finished.here("retrain", "default", "--window", window)
        assert code == 2 and "`window` must hold enough bars for the folds" in err, out + err
        assert "folds=2" in err, out + err
        assert finished.published() == before


def test_a_symbol_that_the_source_has_no_more_is_named_and_its_bars_are_kept(finished):
    store = open_store(finished.settings)
    push(finished, symbols=["IBM"])                                        # only one of two got bars
    there = store.series()
    lines = pd.DataFrame({"symbol": ["IBM", "MSFT"], "timeframe": "1d", "status": ["done", "failed"],
                          "error": ["", "MSFT is not listed.\nHint: x"]})
    def left(series): return UpdateResult(series, lines, 0, "", 0).left(store)
    assert left(lines) == {"MSFT": "MSFT is not listed."}
    assert left(lines.assign(status="failed")) == {}                       # all failed: the source is away
    assert left(lines.replace("MSFT", "NEVER")) == {}
    question = next_question(finished.record(), finished.settings)
    assert move_window(question, finished.settings, "3650D")[1] == []
    # longer than the history: all of it
    whole, gone = move_window(question, finished.settings, "36525D")
    assert (whole["symbols"], gone) == (["IBM", "MSFT"], []) and whole["start"] < "1920"
    late = question | {"features": ["returns"], "folds": 2, "embargo": 0}
    moved, gone = move_window(late, finished.settings,
                              f"{(there['last'].max() - pd.Timestamp('2013-04-02', tz='UTC')).days}D")
    assert (moved["symbols"], gone) == (["IBM"], ["MSFT"])


def test_rows_that_nobody_foretold_together_are_said_to_be_none():
    rows = pd.DataFrame({"symbol": "A", "timeframe": "1d",
                         "ts": pd.date_range("2020-01-01", periods=50, tz="UTC"), "model": "x",
                         "probability": 0.5, "baseline": 0.5, "actual": 1.0})
    check = beats_champion(rows, rows.assign(ts=rows.ts + pd.Timedelta("100D")), 1)
    assert not check.passed, check
    assert "2020-01-01 to 2020-02-19, 1 symbols; the champion's 2020-04-10" in check.says, check


def test_rows_with_another_outcome_are_left_out_and_counted():
    """Where the bars between were others, because calendar or prices changed, the two predicted another
    event: neither is judged by it."""
    rng = np.random.default_rng(3)
    rows = pd.DataFrame({"symbol": "A", "timeframe": "1d",
                         "ts": pd.date_range("2020-01-01", periods=400, tz="UTC"), "model": "x",
                         "baseline": 0.5, "forward_return": rng.normal(0, 0.01, 400)})
    rows = rows.assign(actual=(rows.forward_return > 0).astype(float), probability=0.6)
    champion = rows.assign(probability=0.5)
    moved = champion.assign(forward_return=rows.forward_return.where(
        rows.index >= 100, rows.forward_return + 0.001))
    same = beats_champion(rows.iloc[100:], champion.iloc[100:], 1)
    check = beats_champion(rows, moved, 1)
    assert (check.says
            == f"{same.says}; 100 rows left out, whose outcome is another one by each one's own bars")
    # prices that were adjusted anew
    rounded = champion.assign(forward_return=rows.forward_return * (1 + 1e-12))
    assert "left out" not in beats_champion(rows, rounded, 1).says
    none = beats_champion(rows, champion.assign(forward_return=rows.forward_return + 1), 1)
    assert not none.passed and "no row" in none.says and "400 rows left out" in none.says


def keep_calendar(bench, name):
    "What `mlfin ingest --calendar` leaves in the store."
    rows = [(symbol, "1d", "calendar", name) for symbol in ("IBM", "MSFT")]
    open_store(bench.settings).write_attributes(pd.DataFrame(
        rows, columns=["symbol", "timeframe", "attribute", "value"]))


def test_bars_that_a_changed_calendar_does_not_have_are_refused_by_name(finished):
    """Two exchanges with the same hours and other holidays: 2 % of the bars would be no reason for a file to
    stop, and were learnt from."""
    push(finished)
    keep_calendar(finished, "XTSE")
    before, run = finished.published(), finished.record()["run_id"]
    off = expected_bars("XNYS", "1d", "2006-01-03", "2013-06-28")
    off = off[~off.ts.isin(expected_bars("XTSE", "1d", "2006-01-03", "2013-06-28").ts)]
    for more in (["--dry-run"], []):
        code, out, err = finished.here("retrain", "default", *more)
        assert code == 1 and f"run {run} read these series by XNYS, the store keeps XTSE" in err, out + err
        assert f"{2 * len(off)} of" in err and "--calendar XNYS" in err, err
        assert f"IBM {len(off)}, MSFT {len(off)}; {off.ts.min():%Y-%m-%d %H:%M} to" in err, err
        assert finished.published() == before
    # as the hint says
    code, out, err = finished.here("ingest", "builtin", "-s", "IBM,MSFT", "-t", "1d", "--calendar", "XNYS")
    assert code == 0, out + err
    assert finished.here("retrain", "default", "--dry-run")[0] == 0


def test_the_store_says_of_bars_off_its_calendar_that_they_are_used(finished):
    from mlfin.ingest.ingest import ingest

    push(finished)
    keep_calendar(finished, "XTSE")
    done = ingest("store", None, ["IBM"], "1d", "2013-04-01", store=finished.settings)
    (line,) = done.quality[done.quality.check == "calendar"].itertuples()
    assert ((line.status, line.rows)
            == ("warn", len(done.bars)
                - done.bars.ts.isin(expected_bars("XTSE", "1d", "2013-04-01", "2013-06-28").ts).sum()))
    assert line.detail == "IBM 1 (used as they stand in the store)" and done.quarantine.empty


@pytest.mark.parametrize("setting, words, promoted, code", [
    (True, [], False, 1), (True, [], True, 0), (True, ["--no-promote"], False, 0), (False, [], False, 0),
    (False, ["--promote"], False, 1)])
def test_a_refusal_is_an_exit_code_where_promotion_was_asked_for(
        workbench, monkeypatch, setting, words, promoted, code):
    """By the option or by the setting: it is the same wish."""
    asked = []

    def judged(name, settings, window, promote, progress):
        asked.append(promote)
        return retrained.RetrainResult(RunResult("1", settings.root, (), {}), "0", None, {}, 1, promoted,
                                       "the gate's words")
    monkeypatch.setattr(retrained, "retrain", judged)
    monkeypatch.setenv("MLFIN_RETRAIN_PROMOTE", str(setting).lower())
    found, out, err = workbench.here("retrain", "default", *words)
    assert found == code and asked == [words != ["--no-promote"] and (setting or bool(words))], out + err


@pytest.mark.slow
def test_a_calendar_that_changed_is_said_with_what_changed(finished):
    """XNYS and XNAS have the same sessions: every bar stays, every row can be compared, and the change is on
    the page."""
    promote(finished.settings, "default", force="a first one")
    push(finished)
    keep_calendar(finished, "XNAS")
    code, out, err = finished.here("retrain", "default", "--json")
    assert code == 0, out + err
    told = json.loads(out)
    assert told["changed"]["ingest"][0] == "calendar XNYS -> XNAS"
    assert read_json(finished.data("quality.json"))["calendar"] == "XNAS"
    kept = read_json(finished.root / told["page"].replace("07_retrain.html", "data/retrained.json"))
    assert kept["calendar"] == ["calendar XNYS -> XNAS"] and kept["against"]["rows"] > 2000
    assert "left out" not in kept["against"]["says"]
    assert "Changed: calendar XNYS -&gt; XNAS." in (finished.root / told["page"]).read_text()
    # the next one has that calendar already
    push(finished, start="2013-07-01", end="2013-07-05")
    code, out, err = finished.here("retrain", "default", "--dry-run")
    assert code == 0, out + err


def test_a_run_that_was_cleared_away_is_put_together_again_or_refused_by_name(finished):
    record = finished.record()
    home = finished.report("runs") / record["run_id"]
    before = finished.published()
    shutil.rmtree(home)
    _keep_again(record, finished.settings)
    assert {k: v for k, v in finished.published().items() if "plotly" not in k} == before
    shutil.rmtree(home)
    finished.data("scores.parquet").write_bytes(b"other")
    code, out, err = finished.here("retrain", "default")
    assert code == 1 and f"Run {record['run_id']}" in err and "`mlfin run`" in err, out + err
    assert "scores.parquet is not published" in err, out + err
    assert not home.exists()


@pytest.mark.slow
def test_a_champion_of_another_model_set_is_compared_by_what_it_foretold(finished):
    promote(finished.settings, "default", force="a first one")
    code, out, err = finished.here(*words(models="[lightgbm]"))
    assert code == 0, out + err
    push(finished)
    code, out, err = finished.here("retrain", "default", "--json")
    assert code == 0, out + err
    told, versions = json.loads(out), model_versions(finished.settings, "default")
    assert finished.record()["parameters"]["models"] == ["lightgbm"] and not told["promoted"]
    names = {v.number: read_manifest(finished.settings, "default", v.number)["estimator"] for v in versions}
    assert names[1] == "logistic" and names[told["version"]] == "lightgbm"
    assert "champion" in next(v.aliases for v in versions if v.number == 1)
    against = read_json(finished.root / told["page"].replace("07_retrain.html", "data/retrained.json"))[
        "against"]
    assert against["champion"] == 1 and against["rows"] > 2000 and "common rows" in against["says"]


def test_a_window_that_moved_grows_back_to_what_was_first_asked(finished):
    """The moved start, and the symbols that were left out of the window, stood in the record and were taken
    for the question."""
    record, settings = finished.record(), finished.settings
    question, gone = move_window(next_question(record, settings) | {"folds": 2}, settings, "1500D")
    moved = {**record, "parameters": question | {"symbols": ["IBM"]}}
    for when in ({"window": "1500D", "asked": {"start": "2006-01-03", "symbols": ["IBM", "MSFT"]}},
                 # of before `asked` was kept
                 {"window": "1500D",
                  "brought": {"source": "builtin", "start": "2006-01-03", "symbols": ["IBM", "MSFT"]}}):
        again = next_question({**moved, "when": when}, settings)
        assert ((again["start"], again["symbols"]) == ("2006-01-03", ["IBM", "MSFT"])
                != (question["start"], gone))
        assert move_window(again, settings, "grow")[0] == again
    # none was given
    assert next_question({**moved, "when": {"window": "1500D", "asked": {"start": None}}},
                         settings)["start"] is None
    # an older record of the store
    assert next_question({**moved, "when": {"window": "1500D"}}, settings)["start"] is None
    assert next_question({**moved, "when": {}}, settings)["start"] == question["start"]


@pytest.mark.slow
def test_a_window_moves_and_is_kept(finished):
    push(finished)
    code, out, err = finished.here("retrain", "default", "--window", "1500D", "--json")
    assert code == 0, out + err
    record = finished.record()
    assert record["parameters"]["start"] == back(finished) and record["when"]["window"] == "1500D"
    push(finished, start="2013-07-01", end="2013-07-05")
    code, out, err = finished.here("retrain", "default", "--dry-run", "--json")
    assert json.loads(out)["question"]["start"] == back(finished) > record["parameters"]["start"], out + err
    code, out, err = finished.here("retrain", "default", "--window", "grow", "--json")
    assert code == 0 and finished.record()["parameters"]["start"] == "2006-01-03" == finished.record()[
        "when"]["asked"]["start"], out + err


@pytest.mark.parametrize("asked, said", [
    (["never"], ["`experiment`", "never", "mlfin run --experiment never"]), (["../x"], ["plain folder name"]),
    (["default", "--window", "-3D"], ["`window`", "730D"]), (["default", "--window", "often"], ["`window`"]),
    (["default", "--window", "40000D"], ["`window`", "36525D"]),
    (["default", "--window", "0D"], ["`window`", "36525D"]),
    (["default", "--window", "NaN"], ["`window`", "'NaN'"]),
    (["default", "--window", "NaT"], ["`window`", "'NaT'"]),
    (["default", "--window", f"{10**9}D"], ["`window`", "36525D"]),
    (["default", "--window", "1e400D"], ["`window`"]),
    (["default", "--window", "inf"], ["`window`"]), (["default", "--window", "730"], ["`window`"])])
def test_what_cannot_be_retrained_is_refused_by_name(finished, asked, said):
    code, out, err = finished.here("retrain", *asked)
    assert code == 2 and all(word in err for word in said), out + err


def test_two_terminals_retrain_one_after_the_other(finished):
    """Nothing is brought in or judged by the second: it is told who runs the experiment, and a program finds
    that in its events."""
    before = finished.published()
    with experiment_lock(finished.settings, "default"):
        code, out, err = finished.here("retrain", "default", "--events", "events.jsonl")
    assert code == 1 and "`default` is being run by another process: since 20" in err, out + err
    assert "process" in err and "--experiment OTHER" in err, out + err
    assert ([json.loads(line)["kind"] for line in (finished.root / "events.jsonl").read_text().splitlines()]
            == ["busy"])
    assert finished.published() == before
    assert finished.here("retrain", "default", "--dry-run")[0] == 0


def drifting(rows=6000, seed=3):
    "Bars of one hour, the newest closed by now, whose drift lasts: what rose will rise."
    random = np.random.default_rng(seed)
    drift = np.zeros(rows)
    for n in range(1, rows): drift[n] = 0.95 * drift[n - 1] + random.normal(0, 4e-4)
    close = 100 * np.exp(np.cumsum(drift + random.normal(0, 1e-3, rows)))
    opened = np.r_[100, close[:-1]]
    prices = {"open": opened, "high": np.maximum(opened, close) * 1.0001,
              "low": np.minimum(opened, close) * 0.9999, "close": close}
    ts = pd.date_range(end=pd.Timestamp.now("UTC").floor("h") - pd.Timedelta("1h"), periods=rows, freq="h")
    return pd.DataFrame({"ts": ts, **prices, "volume": random.uniform(1, 100, rows)})


@pytest.mark.slow
def test_a_challenger_that_passes_serves_where_the_setting_says_so(workbench):
    """Shown until now: refusals, and promotions by force."""
    drifting().to_csv(workbench.root / "COIN_1h.csv", index=False)
    asked = dict(source="csv", path="COIN_1h.csv", symbols="[COIN]", timeframe="1h", start="null")
    code, out, err = workbench.here(*words(**asked, features="[volume_ma_20]"))
    assert code == 0, out + err
    promote(workbench.settings, "default", force="a first one")
    code, out, err = workbench.here(*words(**asked))
    assert code == 0, out + err
    with (workbench.root / "settings.ini").open("a") as file: file.write("\nretrain_promote = true\n")
    code, out, err = workbench.here("retrain", "default", "--json")
    told = json.loads(out)
    assert code == 0 and told["promoted"] and told["version"] == 2, (told["gate"], err)
    found = {v.number: (v.aliases, v.verdict) for v in model_versions(workbench.settings, "default")}
    assert found[2] == (("champion",), "passed") and "champion" not in found[1][0]
