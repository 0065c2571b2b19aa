"""Several labels in one experiment: a training a model and label, all of them counted, each as if it were
alone."""
import json

import pandas as pd
import pytest

from mlfin.core.errors import ParameterError
from mlfin.core.pipeline_spec import with_labels
from mlfin.core.provenance import read_json, read_parquet, write_json
from mlfin.core.trials import open_ledger
from mlfin.validation.comparison import candidates
from mlfin.registry.gate import compare_versions, promote
from mlfin.datasets.labels import compute_labels
from mlfin.registry.registry import kept_label, read_manifest
from mlfin.client.in_process import in_process_client
from mlfin.predict.predictor import Predictor
from mlfin.dashboards.answer_cards import prediction_card

from ..fixtures.workbench import words
from .test_dag import ask_in_file, cells_done, contents, executed
from .test_retrain import push

LABELS, MODELS = ("fwd_ret_5", "next_close"), ("dummy", "logistic")
ASKED = {"labels": f"[{','.join(LABELS)}]", "models": f"[{','.join(MODELS)}]"}
TRAININGS = [f"train-{m}-{label}" for m in MODELS for label in LABELS]
ALONE = [f"{part}_logistic_fwd_ret_5.{kind}" for part, kind in (
    *((p, "parquet") for p in ("predictions", "pending", "scores", "calibration", "paths", "importance")),
    ("training", "json"))]


def old_record(bench):
    """Write the run as it was kept before there were several labels: one `label`, and no task's or file's
    name with it."""
    folder = bench.report("runs") / bench.record()["run_id"]
    record = read_json(folder / "run.json")
    record["parameters"]["label"] = record["parameters"].pop("labels")[0]
    tasks = {}
    for name, task in record["tasks"].items():
        for product in task["products"].values():
            kept = next(p for p in (folder / product["file"], folder / "data" / product["file"])
                        if p.is_file())
            product["file"] = product["file"].replace("logistic_fwd_ret_5", "logistic")
            kept.rename(kept.with_name(product["file"]))
        tasks[name.replace("-fwd_ret_5", "")] = task
    tasks["features"]["products"]["labels"] = tasks["compare"]["products"].pop("labels")
    write_json({**record, "tasks": tasks}, folder / "run.json")
    return folder


def test_label_means_a_list_of_one():
    assert (with_labels({"label": "next_close"}) == {"labels": ["next_close"]}
            == with_labels({"label": "next_close", "labels": ["next_close"]}))
    assert with_labels({"labels": ["a", "b"]}) == {"labels": ["a", "b"]} and with_labels({}) == {}
    for wrong in ({"label": 5}, {"label": None}, {"label": ["a"]}, {"label": "a", "labels": ["a", "b"]},
                  {"label": "a", "labels": "a"}, {"label": "a", "labels": []}):
        with pytest.raises(ParameterError, match="`labels?`"): with_labels(wrong)


@pytest.mark.slow
def test_two_labels_and_two_models(finished):
    before, tried = (contents(finished, *ALONE, "features.parquet"),
                     open_ledger(finished.settings.ledger).trials("default"))
    code, out, err = finished.here(*words(**ASKED))
    assert code == 0, out + err
    assert sorted(executed(out)) == sorted([*(t for t in TRAININGS if t != "train-logistic-fwd_ret_5"),
                                            "compare", "backtest", "publish"])
    # byte for byte, alone or among others
    assert contents(finished, *before) == before

    training, bars = read_json(finished.data("training.json")), read_parquet(finished.data("bars.parquet"))
    names = [f"{m}-{label}" for m in MODELS for label in LABELS]
    assert (sorted(candidates(training)) == names == sorted(training["parameters"])
            == sorted(read_parquet(finished.data("predictions.parquet")).model.unique()))
    summary = pd.DataFrame(training["summary"])
    assert training["selected"] == summary.model[0] and summary.skill.is_monotonic_decreasing
    assert (summary.skill - (1 - summary.log_loss / summary.log_loss_baseline)).abs().max() < 1e-12
    assert training["label"] == candidates(training)[training["selected"]]["label"]
    predictions = read_parquet(finished.data("predictions.parquet"))
    # each against its own label, by its own spans
    for name, own in candidates(training).items():
        mine = predictions[predictions.model == name].merge(compute_labels(bars, own["label"]),
                                                            on=["symbol", "timeframe", "ts"])
        assert len(mine) == (predictions.model == name).sum()
        assert (mine.actual == mine[f"{own['label']}_direction"]).all()
    labels = read_parquet(finished.data("labels.parquet"))
    for label in LABELS:
        own = labels.loc[labels[label].notna(),
                         ["symbol", "timeframe", "ts", f"{label}_t0", f"{label}_t1", label]]
        alone = compute_labels(bars, label)[["symbol", "timeframe", "ts", "t0", "t1", label]]
        assert (own.to_numpy() == alone.to_numpy()).all()

    ledger = open_ledger(finished.settings.ledger)
    specs = [json.loads(s) for s in ledger.trials("default")["spec"]]
    assert {(s["model"], s["label"]) for s in specs} == {(m, label) for m in MODELS for label in LABELS}
    swept = len(read_parquet(finished.data("sweep.parquet")))
    # the one that was selected stands in its own sweep
    fresh = 3 if training["selected"] == "logistic-fwd_ret_5" else 2 + swept
    # none twice, none left out
    assert len(specs) == len(tried) + fresh == read_json(finished.data("significance.json"))["n_trials"]
    assert read_parquet(finished.data("returns.parquet")).model.nunique() == 4
    assert read_json(finished.data("significance.json"))["pbo"] is not None
    page, result = (finished.report("05_backtest.html").read_text(),
                    finished.report("06_publish.html").read_text())
    assert "Every model and label" in page and "sharpe ratio a year" in page
    assert all(f"<code>{label}</code>" in result for label in LABELS) and "the most skill" in result
    compared = finished.report("04_compare.html").read_text()
    assert all(f'href="03_train_{m}_{label}.html"' in compared for m in MODELS for label in LABELS)
    assert "skill" in compared

    promoted_and_asked(finished)


@pytest.mark.slow
def test_several_labels_are_made_again_and_fewer_are_compared_anew(finished):
    before = contents(finished, *ALONE, "features.parquet")
    assert finished.here(*words(**ASKED))[0] == 0
    code, out, err = finished.here("reproduce", "latest")
    assert code == 0 and out.strip().endswith("equal") and "differs" not in out, out + err
    # fewer labels again: what is there is compared anew
    code, out, err = finished.here(*words())
    assert code == 0 and executed(out) == ["compare", "backtest", "publish"], out + err
    assert contents(finished, *before) == before
    assert not finished.data("training_logistic_next_close.json").exists()


def promoted_and_asked(bench):
    "The best model of each label goes through the gate by name, and serves its own question."
    settings = bench.settings
    code, _, err = bench.here("promote", "--label", "barrier_20_2_1")
    assert code == 2 and "`label`" in err and "fwd_ret_5" in err, err
    first = promote(settings, "default", force="to see it serve", label="next_close")
    manifest = read_manifest(settings, "default")
    assert first.promoted and manifest["label"] == {"spec": "next_close", "horizon": 1}
    assert manifest["compared"] == 4
    alone = read_json(bench.data(f"training_{manifest['estimator']}_next_close.json"))
    assert manifest["run"]["task_key"] == alone["task_key"] and manifest["baseline"] == alone["baseline"]
    assert manifest["data"]["rows"] == alone["rows"]
    assert kept_label(settings, "default") == "next_close"
    serving = Predictor(settings, "default", poll=0)
    said = serving.predict("IBM")[0]
    serving.close()
    client = in_process_client(settings)
    answer = client.request("POST", "/v1/predict",
                            {"experiment": "default", "symbol": "IBM"})["predictions"][0]
    client.close()
    assert answer["foretells"] == "next_close" and answer["probability"] == said.probability
    assert "another than next_close" not in prediction_card(answer)
    assert (said.foretells, said.horizon) == ("next_close", 1) and 0 < said.probability < 1
    assert said.price_interval.low < said.price < said.price_interval.high
    second = promote(settings, "default", label="fwd_ret_5")
    champion = next(c for c in second.verdict.all if c.name == "champion")
    assert not second.promoted and "cannot be compared" in champion.says
    assert "--label next_close" in champion.says
    assert "cannot be compared" in compare_versions(settings, "default", second.version.number,
                                                    first.version.number).says


@pytest.mark.slow
def test_retraining_offers_the_best_model_of_the_champions_label(finished):
    assert finished.here(*words(**ASKED))[0] == 0
    selected = read_json(finished.data("training.json"))["label"]
    other = next(label for label in LABELS if label != selected)
    promote(finished.settings, "default", force="its own question", label=other)
    push(finished)
    code, out, err = finished.here("retrain", "default", "--json")
    assert code == 0, out + err
    told, manifest = json.loads(out), read_manifest(finished.settings, "default", "challenger")
    assert manifest["label"]["spec"] == other and told["version"] == 2
    assert "cannot be compared" not in told["gate"]
    assert finished.record()["parameters"]["labels"] == list(LABELS)


@pytest.mark.slow
def test_a_run_of_before_is_understood_and_made_again(finished, monkeypatch):
    old_record(finished)
    code, out, err = finished.here("reproduce", "latest")
    assert code == 0 and "equal" in out and "train-logistic" in out, out + err


def test_a_notebook_alone_learns_the_label_that_it_is_given(finished, monkeypatch):
    ask_in_file(finished, models=["ridge"], task="regression", labels=["next_close"])
    monkeypatch.setenv("MLFIN_PROFILE", "test")
    shown = cells_done(finished, "03_train", model="ridge", label="next_close", task="regression", folds=3,
                       features=["rsi_14", "macd_12_26_9", "returns", "volume_ma_20"])
    assert {"mae", "rmse", "r2"} <= set(shown) and finished.data("training_ridge_next_close.json").is_file()
    told = read_parquet(finished.data("predictions_ridge_next_close.parquet"))
    assert (told.actual == told.forward_return).all() and "skill" not in cells_done(finished, "04_compare")
    assert read_json(finished.data("training.json"))["label"] == "next_close"


def test_env_yaml_may_still_say_label(finished):
    text = (finished.root / "env.yaml").read_text().replace("labels: [fwd_ret_5]", "label: fwd_ret_5")
    (finished.root / "env.yaml").write_text(text)
    assert "Nothing to do" in finished.here(*words())[1]
    assert "Nothing to do" in finished.here(*words(label="fwd_ret_5", labels="[fwd_ret_5]"))[1]
