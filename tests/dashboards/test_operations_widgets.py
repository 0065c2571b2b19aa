"""What the operations page asks of the service, without a browser."""
import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("httpx")

from mlfin.core.settings import load_settings  # noqa: E402
from mlfin.client.client import ServiceError  # noqa: E402
from mlfin.predict.messages import Prediction  # noqa: E402
from mlfin.api.documentation import example_of  # noqa: E402
from mlfin.dashboards import operations as ops  # noqa: E402
from mlfin.dashboards.answer_cards import prediction_card, training_result  # noqa: E402

JOB = dict(
    id="ab12",
    kind="ingest",
    experiment=None,
    state="queued",
    by="ann",
    created_at="2024-06-28T00:00:00Z",
    started_at=None,
    ended_at=None,
    progress=0.0,
    says="",
    log=[],
)


class Listens:
    """Stands for a client: a service with models of these names, without bars and champions."""
    def __init__(self, models): self.models, self.asked = models, []

    def request(self, method, path, body=None, query=None):
        self.asked.append((method, path, body))
        if path == "/v1/model/info":
            raise ServiceError(dict(status=409, title="Conflict", detail="No model serves."))
        if method == "POST":
            return JOB
        items = [{"model": name} for name in self.models] if path == "/v1/models" else []
        return {"items": items, "total": len(items)}


def pressed(models, button, choose=None):
    """What a press of a button sends, once the page has looked around and an experiment was chosen."""
    client = Listens(models)

    async def a_person():
        session = ops.ServiceSession(load_settings("test"), "http://service.example")
        session.client, session.role = client, "analyst"
        board = ops.OperationsBoard(session, ops.OperationsView())
        await board.load()
        if choose:
            board.view.inputs["experiment"].value = choose
        await board.act(button)

    with ThreadPoolExecutor(1) as thread:                              # another loop may run in this one
        thread.submit(asyncio.run, a_person()).result(60)
    return [(path, body) for method, path, body in client.asked if method == "POST"]


@pytest.mark.parametrize("chosen", ["main", "other"])
def test_ingest_fetches_for_the_chosen_experiment(chosen):
    assert pressed(["test-main", "test-other"], "ingest", chosen) == [
        ("/v1/ingest/run", {"experiment": chosen})
    ]


def test_before_there_is_a_model_ingest_asks_for_what_the_project_says():
    """The list holds a placeholder then, which may be no experiment of this project."""
    assert pressed([], "ingest") == [("/v1/ingest/run", {})]
    assert pressed([], "train") == [("/v1/train", {"experiment": "default"})]


@pytest.mark.parametrize("executed, says", [
    ([], "Nothing was trained"), (["backtest", "publish"], "Done anew: backtest, publish"),
    (["train-logistic", "compare"], "Trained. The new model serves only after"),
    (None, "Trained.")])
def test_trained_is_said_where_something_was(executed, says):
    told = training_result({"run": "0c8e5b7fa91d2e34"} | ({} if executed is None else {"executed": executed}))
    assert says in told and ("Trained." in told) == (executed is None or "train-logistic" in executed)


def a_prediction(**change):
    return example_of(Prediction) | {"reason": ""} | change


@pytest.mark.parametrize(
    "change, label",
    [
        (dict(probability=0.497, threshold=0.5, label=0), "0 (do not hold)"),
        (dict(probability=0.5004, threshold=0.5, label=1), "1 (hold)"),
        (
            dict(kind="value", probability=None, prediction=-0.0001, threshold=0.0, label=0, frequency=None),
            "0 (do not hold)",
        ),
        (dict(threshold=None, label=None), "ranks symbols"),
    ],
)
def test_the_card_says_which_number_the_label_follows_from(change, label):
    card = prediction_card(p := a_prediction(**change))
    said = p["probability"] if p["kind"] == "direction" else p["prediction"]
    assert label in card
    if p["threshold"] is not None:
        where = card[card.index("Label"):]
        assert ("is above" in where.split("</i>")[0]) == (said > p["threshold"]) == bool(p["label"])


def test_the_card_says_where_like_cases_differ_from_the_model():
    off = dict(
        probability=0.497,
        threshold=0.5,
        label=0,
        frequency=0.578,
        interval=dict(low=0.537, high=0.62, level=0.9, of="how often it rose"),
    )
    assert "rose more often than the model says" in prediction_card(a_prediction(**off))
    assert "than the model says" not in prediction_card(
        a_prediction(**off | {"probability": 0.55, "label": 1})
    )


def test_the_example_of_a_prediction_does_not_contradict_itself():
    p = example_of(Prediction)
    Prediction.model_validate(p)
    assert p["interval"]["low"] <= p["frequency"] <= p["interval"]["high"]
    assert p["price_interval"]["low"] <= p["price"] <= p["price_interval"]["high"]
    assert p["label"] == int(p["probability"] > p["threshold"]) and p["prediction"] is None
