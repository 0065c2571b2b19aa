"""The tasks, end to end: what they leave, what makes them run again, and the same files without `mlfin`."""
import ast
import json
import re
import shutil
import sys
from importlib import import_module

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from mlfin.core.provenance import hash_file, product_key, read_json, read_parquet
from mlfin.market.bars import check_bars
from mlfin.features import spec

from ..fixtures.workbench import KERNEL, ROOT, SMALL, TASKS, minutes, words

BTC = ROOT.parent / "shared" / "data" / "market" / "nautilus" / "btc-perp-20211231-20220201_1m.csv"
PAGES = ("01_ingest", "02_features", "03_train_logistic_fwd_ret_5", "04_compare", "05_backtest", "06_publish")
CSV = {"source": "csv", "path": "bars.csv", "symbols": "[BTCUSDT]", "timeframe": "1m", "tz": "UTC",
       "start": "null", "features": "[rsi_14,returns]"}


def executed(out):
    "Tasks that a run did, as it said."
    return re.findall(r"done\s+([\w-]+)", out)


def state_of(out):
    "Task -> fresh or stale, as `mlfin status` said."
    return dict(re.findall(r"(?m)^\W*([\w-]+)\W+(fresh|stale)\b", out))


def contents(bench, *names):
    "Hash of each data product."
    names = names or [p.name for p in bench.data("").iterdir() if p.suffix in (".parquet", ".json")]
    return {name: hash_file(bench.data(name)) for name in sorted(names)}


def test_every_task_leaves_its_report_and_its_data(first_run):
    record = first_run.record()
    assert list(record["tasks"]) == sorted(TASKS)
    pages = [f"{page}.{kind}" for page in PAGES for kind in ("html", "ipynb")]
    for folder in (first_run.report(""), first_run.report("runs") / record["run_id"]):
        assert all((folder / page).stat().st_size > 5_000 for page in pages), folder
        assert (folder / "plotly.min.js").is_file() and (folder / "run.json").is_file()
    for task in record["tasks"].values():
        for product in task["products"].values():
            where = (first_run.report(product["file"]) if product["file"].endswith((".html", ".ipynb"))
                     else first_run.data(product["file"]))
            assert hash_file(where) == product["hash"], product["file"]


def test_products_carry_the_key_that_run_json_names(first_run):
    checked = 0
    for name, task in first_run.record()["tasks"].items():
        for product in task["products"].values():
            path = first_run.data(product["file"])
            if path.suffix in (".parquet", ".json"):
                assert product_key(path) == task["key"], (name, path.name)
                checked += 1
    assert checked >= 15
    metadata = pq.read_schema(first_run.data("bars.parquet")).metadata
    assert metadata[b"mlfin.task_key"].decode() == first_run.record()["tasks"]["ingest"]["key"]


def test_no_path_of_this_machine_stands_in_a_product(first_run):
    for top in (first_run.report(""), first_run.data("")):
        for path in top.rglob("*"):
            if path.suffix in (".json", ".ipynb", ".html") and path.name != "plotly.min.js":
                text = path.read_text()
                if path.name == "run.json":
                    text = json.dumps({k: v for k, v in json.loads(text).items() if k != "when"})
                assert str(first_run.root) not in text, path.name
                assert ".building" not in text, path.name


def test_what_was_ingested_are_bars(first_run):
    bars = read_parquet(first_run.data("bars.parquet"))
    check_bars(bars)
    assert set(bars.symbol) == {"IBM", "MSFT"} and bars.ts.min() >= pd.Timestamp("2006-01-03", tz="UTC")
    assert (bars.known_at > bars.ts).all() and bars.factor.gt(0).all()
    assert not read_parquet(first_run.data("quarantine.parquet")).size
    assert ("All 2 symbols are still traded at the end of the data"
            in read_json(first_run.data("quality.json"))["caveats"][0])


def test_no_label_among_the_features(first_run):
    bars, features, labels = (read_parquet(first_run.data(f"{n}.parquet"))
                              for n in ("bars", "features", "labels"))
    assert list(features.columns[:4]) == ["symbol", "timeframe", "ts", "known_at"]
    assert len(features) == len(bars)
    assert not [c for c in features if c.startswith("fwd") or "direction" in c]
    assert list(labels.columns) == ["symbol", "timeframe", "ts", "t0", "t1", "fwd_ret_5",
                                    "fwd_ret_5_direction"]
    assert (labels.t0 > labels.ts).all() and (labels.t1 > labels.t0).all()
    values = features.iloc[:, 4:].merge(labels[["fwd_ret_5"]], left_index=True, right_index=True)
    assert values.corr()["fwd_ret_5"].drop("fwd_ret_5").abs().max() < 0.5  # nothing in there knows the answer


def test_predictions_are_out_of_sample(first_run):
    predictions, scores, labels = (read_parquet(first_run.data(f"{n}.parquet"))
                                   for n in ("predictions", "scores", "labels"))
    assert not predictions.duplicated(["model", "symbol", "ts"]).any()
    assert predictions.probability.between(0, 1).all()
    for fold in scores.itertuples():
        own = predictions[predictions.fold == fold.fold]
        learnt = labels[labels.ts.between(fold.train_start, fold.train_end)]
        assert len(own) and len(learnt) >= fold.n_train
        assert own.ts.min() > learnt.t1.max(), f"fold {fold.fold} was judged on what its training could see"
    joined = predictions.merge(labels, on=["symbol", "timeframe", "ts"])
    assert (joined.actual == joined.fwd_ret_5_direction).all()
    assert np.allclose(joined.forward_return, joined.fwd_ret_5)


def test_positions_are_decided_on_predictions_and_paid_for(first_run):
    positions, equity, trades = (read_parquet(first_run.data(f"{n}.parquet"))
                                 for n in ("positions", "equity", "trades"))
    predictions, figures = (read_parquet(first_run.data("predictions.parquet")),
                            read_json(first_run.data("backtest.json")))
    weights = positions[["IBM", "MSFT"]]
    assert weights.min().min() >= 0 and weights.sum(axis=1).max() <= 1 + 1e-9
    assert positions.ts.min() >= predictions.ts.min() and equity.ts.is_monotonic_increasing
    assert trades.fees.gt(0).all() and figures["strategy"]["fees"] > 0 and figures["strategy"]["slippage"] > 0
    assert (trades.entry_ts >= predictions.ts.min()).all()


def test_the_tear_sheet_stands_in_the_products_as_on_its_page(first_run):
    figures, judged = (read_json(first_run.data(f"{n}.json")) for n in ("backtest", "significance"))
    sweep = read_parquet(first_run.data("sweep.parquet"))
    page, said = first_run.report("05_backtest.html"), figures["verdict"]
    assert page.stat().st_size < 3_000_000
    text = page.read_text()
    # the verdict comes first, in words
    assert 0 < text.index(said["headline"]) < text.index('class="figure"')
    titles = re.findall(r'class="figure"[^>]*aria-label="([^"]+)"', text)
    wanted = ["Equity", "Drawdown", "Rolling Sharpe ratio", "Monthly returns", "Trades in ", "Exposure",
              "Where the money went", "questions answered", "Overfitting", "Random entries", "Plateau",
              "Costs", "Delay", "Capacity", "Regimes", "Worst stretches", "Daily returns"]
    assert len(titles) == len(wanted) and all(w in t for w, t in zip(wanted, titles, strict=True)), titles
    # the traded rule is one of the swept
    assert judged["n_trials"] == judged["ledger"]["count"] == len(sweep)
    assert figures["rule"]["threshold"] is None and "beyond its fold's base rate" in figures["traded"]
    own = sweep[(sweep.excess == 0) & (sweep.min_hold == 0)]
    equity = read_parquet(first_run.data("equity.parquet"))
    assert own.total_return.tolist() == pytest.approx([equity.strategy.iloc[-1] / 100_000 - 1], rel=1e-9)
    steps = {row["step"]: row["amount"] for row in figures["steps"]}
    assert steps["net profit"] == pytest.approx(equity.strategy.iloc[-1] - 100_000)
    assert steps["fees"] == -figures["strategy"]["fees"] < 0
    assert 0 < judged["null_p_value"] <= 1 and 0 <= judged["spa_p_value"] <= 1
    assert len(read_parquet(first_run.data("rolling.parquet"))) > 1_000
    assert said["headline"] == read_json(first_run.data("verdict.json"))["headline"]
    assert [row["delay"] for row in figures["delays"]][0] == 1


def test_what_is_traded_can_be_said(finished):
    changes = dict(rule="long_short", signal="quantile", quantile="0.5", min_hold="3", stop_loss="0.08",
                   leverage="1.5", fill="close", delay="2",
                   borrow_bps="50", spread_bps="2", participation="0.1")
    code, out, err = finished.here(*words(**changes))
    assert code == 0 and executed(out) == ["backtest", "publish"], out + err
    figures, orders = read_json(finished.data("backtest.json")), read_parquet(finished.data("trades.parquet"))
    assert figures["strategy"]["borrow"] > 0 and figures["strategy"]["spread"] > 0
    assert {"long", "short"} == set(orders.side)
    assert "stop at 8.0%" in figures["traded"]
    assert "filled at the close of the bar 2 after" in figures["traded"]
    assert figures["traded"] in finished.report("06_publish.html").read_text()
    assert (set(read_parquet(finished.data("sweep.parquet"))[["quantile", "min_hold"]].columns)
            == {"quantile", "min_hold"})


def test_a_rule_that_never_trades_is_said_to(finished):
    code, out, err = finished.here(*words(threshold="0.99"))
    assert code == 0 and "No trade, no result" in out and "against" not in out, out + err
    assert "None is above the threshold of 0.99." in out, out + err
    assert read_json(finished.data("backtest.json"))["strategy"]["orders"] == 0
    said = read_json(finished.data("verdict.json"))
    assert said["better_than_luck"] is None and said["better_than_holding"] is None
    for name in ("05_backtest.html", "06_publish.html"):
        page = finished.report(name).read_text()
        assert 'class="figure"' not in page and "What would trade" in page and "<td>NaN</td>" not in page
        assert not re.search(r"<tbody>\s*</tbody>", page)
        assert page.count("<table") >= 1 and "lowest" in page and "highest" in page


@pytest.mark.slow
def test_predicted_returns_are_traded(finished):
    code, out, err = finished.here(*words(task="regression", models="[ridge]"))
    assert code == 0 and executed(out)[-2:] == ["backtest", "publish"], out + err
    figures = read_json(finished.data("backtest.json"))
    assert figures["rule"]["threshold"] == 0.0 and figures["strategy"]["orders"] > 10
    assert "predicted return of 0" in figures["traded"]
    page = finished.report("06_publish.html").read_text()
    assert "Can the value of" in page and "rmse_baseline" in page


def test_the_verdict_is_said_in_the_terminal_and_on_the_page(first_run):
    code, out, err = first_run.said
    verdict = read_json(first_run.data("verdict.json"))
    assert code == 0 and err == "" and executed(out) == list(TASKS)
    assert verdict["run_id"] == first_run.record()["run_id"] and len(verdict["sentences"]) >= 5
    assert all(sentence in out for sentence in verdict["sentences"])
    assert isinstance(verdict["better_than_luck"], bool) and isinstance(verdict["better_than_holding"], bool)
    page = first_run.report("06_publish.html").read_text()
    assert "luck" in page and first_run.record()["run_id"] in page and "biased sample" in page
    assert "reports/test/default/06_publish.html" in out


def test_no_page_asks_for_anything_from_the_network(first_run):
    for page in first_run.report("").glob("*.html"):
        assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?(?:https?:)?//[^\"'> ]+",
                              page.read_text()), page.name


def test_seconds_are_those_of_each_task(first_run):
    seconds = first_run.record()["when"]["seconds"]
    assert set(seconds) == set(TASKS) and min(seconds.values()) > 0


def test_again_does_nothing_and_a_trading_parameter_only_what_follows(finished):
    code, out, _ = finished.here(*words())
    assert code == 0 and "Nothing to do" in out and not executed(out)
    before, tried = (contents(finished, "bars.parquet", "features.parquet", "predictions.parquet"),
                     len(read_parquet(finished.data("sweep.parquet"))))
    code, out, _ = finished.here(*words(fee_bps="7"))
    assert code == 0 and executed(out) == ["backtest", "publish"]
    assert contents(finished, *before) == before
    # the first try is not forgotten
    assert read_json(finished.data("significance.json"))["n_trials"] == 2 * tried
    assert len(list(finished.report("runs").glob("[!.]*"))) == 2


@pytest.mark.slow
def test_a_model_more_is_one_training_more(finished):
    before = contents(finished, "predictions_logistic_fwd_ret_5.parquet", "importance.parquet")
    code, out, err = finished.here(*words(models="[logistic,dummy]"))
    assert code == 0 and executed(out) == ["train-dummy-fwd_ret_5", "compare", "backtest",
                                           "publish"], out + err
    assert (contents(finished, "predictions_logistic_fwd_ret_5.parquet")
            == {k: v for k, v in before.items() if k.startswith("pred")})
    assert set(read_parquet(finished.data("predictions.parquet")).model) == {"dummy", "logistic"}
    training, tried = (read_json(finished.data("training.json")),
                       len(read_parquet(finished.data("sweep.parquet"))))
    assert (read_json(finished.data("significance.json"))["n_trials"]
            == tried + (tried if training["selected"] == "dummy" else 1))
    chosen = read_parquet(finished.data("importance.parquet")).model.unique()
    assert list(chosen) == [training["selected"]]
    assert {row["model"] for row in training["summary"]} == {"dummy", "logistic"}
    page = finished.report("04_compare.html").read_text()
    assert 'href="03_train_dummy_fwd_ret_5.html"' in page
    assert 'href="03_train_logistic_fwd_ret_5.html"' in page
    assert all(finished.report(f"03_train_{m}_fwd_ret_5.html").is_file() for m in ("dummy", "logistic"))
    code, out, _ = finished.here("status", *words(models="[dummy]")[1:])
    assert code == 0 and re.search(r"train-dummy-fwd_ret_5\s.*fresh", out)
    assert "train-logistic-fwd_ret_5" not in out and re.search(r"compare\s.*stale", out)


@pytest.mark.slow
def test_words_of_a_training_reach_the_page_and_what_is_traded_though_mlflow_is_away(finished, monkeypatch):
    monkeypatch.setenv("MLFIN_MLFLOW", "sqlite:////proc/nowhere/x.db")
    asked = dict(splitter="combinatorial", folds="4", weights="uniqueness", class_weights="balanced",
                 calibrate="sigmoid", jobs="2", task="classification")
    code, out, err = finished.here(*words(**asked))
    assert code == 0 and executed(out) == ["train-logistic-fwd_ret_5", "compare", "backtest",
                                           "publish"], out + err
    training, paths, told = (read_json(finished.data("training.json")),
                             *(read_parquet(finished.data(f"{n}.parquet")) for n in ("paths", "predictions")))
    assert training["split"] == {"folds": 4, "embargo": 5, "splitter": "combinatorial",
                                 "weights": "uniqueness"}
    assert (training["parameters"]["logistic"] | {"class_weight": "balanced", "calibrate": "sigmoid"}
            == training["parameters"]["logistic"])
    assert set(paths.path) == {1, 2, 3} and len(paths) == 3 * len(told)
    assert not told.duplicated(["model", "symbol", "ts"]).any()
    assert read_parquet(finished.data("scores.parquet")).fold.nunique() == 4
    # all of it is traded, from the first block on
    assert len(read_parquet(finished.data("equity.parquet"))) > len(told) / 2
    assert not list(finished.root.glob(".mlfin/**/.*.progress"))
    page = finished.report("03_train_logistic_fwd_ret_5.ipynb").read_text()
    assert "MLflow could not be used" in page and "the training result is complete" in page
    assert "Traceback" not in err
    assert read_json(finished.data("verdict.json"))["sentences"][0] in out


def test_a_regression_has_pages_of_its_own(finished, monkeypatch):
    ask_in_file(finished, models=["ridge"], task="regression")
    monkeypatch.setenv("MLFIN_PROFILE", "test")
    trained = cells_done(finished, "03_train", model="ridge", task="regression", folds=3,
                         features=yaml.safe_load(SMALL["features"]))
    told = [trained, cells_done(finished, "04_compare")]
    assert {"mae", "mae_baseline", "rmse", "rmse_baseline", "r2", "ic"} <= set(told[0])
    assert "verdict" not in told[0] and "log_loss" not in told[0]
    assert {"mae", "rmse", "ic", "verdict"} <= set(told[1])
    training = read_json(finished.data("training.json"))
    assert training["task"] == training["split"]["task"] == "regression" and training["selected"] == "ridge"
    verdict = training["summary"][0]["verdict"]
    assert "than the baseline: squared error" in verdict and "±" in verdict, verdict
    assert "prediction" in read_parquet(finished.data("predictions.parquet"))
    assert set(read_parquet(finished.data("pending.parquet")).model) == {"ridge"}


def cells_done(bench, notebook, **parameters):
    """Execute a task's cells one by one in this process; the columns of the first table with a score that one
    of them ends with."""
    namespace, found = {"display": lambda *things: None}, []
    for cell in json.loads((bench.root / "nbs" / "pipeline" / f"{notebook}.ipynb").read_text())["cells"]:
        if cell["cell_type"] != "code": continue
        body = ast.parse("".join(cell["source"])).body
        last = body.pop() if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), notebook, "exec"), namespace)
        if "parameters" in cell["metadata"].get("tags", []): namespace |= parameters
        value = eval(compile(ast.Expression(last.value), notebook, "eval"), namespace) if last else None
        if isinstance(value, pd.DataFrame) and {"rmse", "log_loss"} & set(value): found.append(list(value))
    return found[0]


def test_reproduce_says_equal(finished):
    before = finished.published()
    code, out, err = finished.here("reproduce", "latest")
    assert code == 0 and out.strip().endswith("equal") and "differs" not in out, out + err
    assert finished.published() == before


@pytest.mark.slow
def test_one_line_of_a_module_makes_stale_what_imports_it(finished):
    module = finished.root / "mlfin" / "features" / "technical.py"
    text = module.read_text()
    module.write_text(text + "\ndef mine(x): return x  # which nothing that is asked for reaches\n")
    code, out, err = finished.cli("status", *words()[1:])
    assert code == 0 and state_of(out) == dict.fromkeys(TASKS, "fresh"), out + err
    module.write_text(text.replace("    return ret(close, 1)", "    return ret(close + 0, 1)"))
    assert module.read_text() != text
    both = f"""
from mlfin.cli.app import main
for asked in (["reproduce", "latest"], {["status", *words()[1:]]!r}):
    try: main(asked)
    except SystemExit as ended: print("ended with", ended.code, flush=True)
"""
    code, out, err = finished.cli(program=("-c", both))  # a process that reads the module as it is now
    reproduced, status = out.split("ended with 1\n")
    assert code == 0 and "module mlfin.features.technical changed" in reproduced, out + err
    assert "ingest:" not in reproduced, out + err
    assert "ended with 0" in status and state_of(status) == {"ingest": "fresh",
                                                             **dict.fromkeys(TASKS[1:], "stale")}, status


def test_a_set_of_features_is_its_content(finished, registry, monkeypatch):
    env = (finished.root / "env.yaml").read_text()
    def asked(sets, *arguments):
        """The command line, as a new process would read the sets of the project."""
        (finished.root / "env.yaml").write_text(env + f"feature_sets:\n  quick: {sets}\n")
        monkeypatch.setattr(spec, "_loaded", {})
        spec._sets.pop("quick", None)
        return finished.here(*arguments)
    code, out, err = asked("[rsi_14, ret_5]", *words(features="[quick, obv]"))
    assert code == 0, out + err
    assert read_json(finished.data("training.json"))["features"] == ["rsi_14", "ret_5", "obv"]
    code, out, err = finished.cli("status", *words(features="[quick, obv]")[1:])
    # a process that knows no more than the files
    assert code == 0 and state_of(out) == dict.fromkeys(TASKS, "fresh"), out + err
    def states(sets):
        code, out, err = asked(sets, "status", *words(features="[quick, obv]")[1:])
        assert code == 0, out + err
        return state_of(out)
    assert states("[rsi_14, ret_5]") == dict.fromkeys(TASKS, "fresh")
    assert states("[rsi_14, ret_10]") == {"ingest": "fresh", **dict.fromkeys(TASKS[1:], "stale")}
    code, out, err = asked("[rsi_14, ret_10]", *words(features="[quik]"))
    assert code == 2 and "did you mean `quick`" in err, out + err
    code, out, err = asked("[rsi_14, ret_10]", *words("-p", "feature_sets={quick: [obv]}"))
    assert code == 2 and "left as env.yaml has it" in err, out + err


def test_a_file_of_minutes_and_a_change_of_its_content(workbench):
    bars = minutes(4 * 1440)
    bars.astype({"close": object}).assign(close=lambda f: f.close.where(f.index != 5, "n/a?")).to_csv(
        workbench.root / "bars.csv", index=False)
    code, out, err = workbench.here(*words(**CSV))
    assert code == 0 and err == "" and executed(out) == list(TASKS), out + err
    got, kept = read_parquet(workbench.data("bars.parquet")), bars.drop(index=5)
    assert len(got) == len(kept) and got.ts.iloc[0] == pd.Timestamp("2022-01-01", tz="UTC")
    assert set(got.symbol) == {"BTCUSDT"}
    assert np.array_equal(got.close, kept.close) and (got.known_at - got.ts == pd.Timedelta(minutes=1)).all()
    quality = read_json(workbench.data("quality.json"))
    assert quality["calendar"] == "24/7" and len(quality["caveats"]) == 1
    assert "The one symbol, BTCUSDT, is still traded" in quality["caveats"][0]
    aside = read_parquet(workbench.data("quarantine.parquet"))  # a text in a price is set aside, and said
    assert list(aside.row) == [5] and list(aside.reason) == ["`close` is not a number"]
    assert json.loads(aside.raw[0])["close"] == "n/a?"
    assert "is not a number" in workbench.report("01_ingest.html").read_text()
    assert "1 rows set aside" in workbench.report("06_publish.html").read_text()
    assert workbench.here(*words(**CSV))[1].startswith("Nothing to do")
    bars.to_csv(workbench.root / "bars.csv", index=False)
    code, out, err = workbench.here("status", *words(**CSV)[1:])
    assert code == 0 and state_of(out) == dict.fromkeys(TASKS, "stale"), out + err


def test_a_relative_path_starts_where_the_command_is_given(workbench, monkeypatch):
    folder = workbench.root / "elsewhere"
    folder.mkdir()
    minutes(1500).to_csv(folder / "bars.csv", index=False)
    monkeypatch.chdir(folder)
    code, out, err = workbench.here("status", *words(**CSV)[1:])
    assert code == 0 and "never ran" in out, err


@pytest.mark.slow
def test_in_a_kernel_of_its_own_the_same_bytes_and_no_home(finished, first_run, monkeypatch):
    (finished.root / "home").write_text("a file")
    monkeypatch.setenv("HOME", str(finished.root / "home"))
    before = contents(finished)
    finished.data("verdict.json").unlink()
    code, out, err = finished.here(*words(executor="papermill"))
    assert code == 0 and err == "" and executed(out) == ["publish"], out + err
    assert (finished.root / ".mlfin" / "cache").is_dir() and (finished.root / "home").read_text() == "a file"
    assert contents(finished) == before == contents(first_run)
    assert finished.record()["run_id"] == first_run.record()["run_id"]


@pytest.mark.slow
def test_with_kernels_of_their_own_the_same_bytes_and_no_home(workbench, first_run):
    (workbench.root / "home").write_text("a file")
    code, out, err = workbench.cli(*words(executor="papermill"), HOME=str(workbench.root / "home"))
    assert code == 0 and err == "" and executed(out) == list(TASKS), out + err
    assert (workbench.root / ".mlfin" / "cache").is_dir()
    assert (workbench.root / "home").read_text() == "a file"
    assert contents(workbench) == contents(first_run)
    assert workbench.record()["run_id"] == first_run.record()["run_id"]


BETWEEN = "-- the next --"


def ask_in_file(bench, **changes):
    "The small question, changed, in `env.yaml`, where Ploomber and the notebooks read it."
    path = bench.root / "env.yaml"
    question = (yaml.safe_load(path.read_text()) | {k: yaml.safe_load(v) for k, v in SMALL.items()}
                | {"profile": "test"} | changes)
    path.write_text(yaml.safe_dump({k: v.isoformat() if hasattr(v, "isoformat") else v
                                    for k, v in question.items()}))


PROGRAMS = {"ploomber": ("ploomber_cli.cli", "cmd_router"), "papermill": ("papermill.__main__", "papermill")}


def command(bench, name, *asked):
    """A program of this environment, in the project's folder, asked once or more in one process; what it said
    each time."""
    module, function = PROGRAMS[name]
    code = f"""
import sys
from {module} import {function} as main
for words in {[list(words) for words in asked]!r}:
    sys.argv = [{name!r}, *words]
    try: main()
    except SystemExit as ended:
        if ended.code: raise
    print("{BETWEEN}", flush=True)
"""
    process = bench.start(program=("-c", code))
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out[-2000:] + err[-2000:]
    return out.split(BETWEEN)[:-1]


def command_here(bench, name, *asked):
    "The same in this process."
    (module, function), said = PROGRAMS[name], []
    for told in asked:
        bench.capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [name, *told])
            try: getattr(import_module(module), function)()
            except SystemExit as ended: assert not ended.code, bench.capsys.readouterr()
        said.append(bench.capsys.readouterr().out)
    return said


@pytest.mark.parametrize("through", [command_here, pytest.param(command, marks=pytest.mark.slow)])
def test_plain_ploomber_on_the_same_files(workbench, first_run, through):
    ask_in_file(workbench)
    _, status, _ = through(workbench, "ploomber", ["build"], ["status"], ["plot", "--backend", "mermaid"])
    tables = [f"{n}.parquet" for n in ("bars", "features", "labels", "predictions", "equity", "trades")]
    assert contents(workbench, *tables) == contents(first_run, *tables)
    assert all(task.partition("-")[0] in status for task in TASKS)
    assert list(workbench.root.glob("pipeline*.html"))


@pytest.mark.parametrize("through", [command_here, pytest.param(command, marks=pytest.mark.slow)])
def test_plain_papermill_on_one_notebook(finished, through):
    ask_in_file(finished)
    before = contents(finished)
    chosen = f"symbols: {SMALL['symbols']}\nfeatures: {SMALL['features']}"
    through(finished, "papermill",
            ["-k", KERNEL, "-y", chosen, "nbs/pipeline/02_features.ipynb", "out.ipynb"])
    assert (finished.root / "out.ipynb").is_file() and contents(finished) == before
    assert finished.here(*words())[1].startswith("Nothing to do")


@pytest.mark.slow
@pytest.mark.skipif(not BTC.is_file(), reason="the market data in ../shared/data are not on this machine")
def test_a_month_of_real_minutes(workbench):
    shutil.copy(BTC, workbench.root / "bars.csv")
    code, out, err = workbench.cli(*words(**CSV), seconds=400)
    assert code == 0 and executed(out) == list(TASKS), out + err
    assert len(read_parquet(workbench.data("bars.parquet"))) == 45_031
    code, out, _ = workbench.cli("reproduce", "latest", seconds=400)
    assert code == 0 and out.strip().endswith("equal")
    assert workbench.cli(*words(**CSV))[1].startswith("Nothing to do")
