"""What the operations page asks of the service, without a browser."""
import asyncio
from concurrent.futures import ThreadPoolExecutor

import ipywidgets
import pytest

pytest.importorskip("httpx")

from mlfin.core.settings import load_settings  # noqa: E402
from mlfin.serve.client import Answered  # noqa: E402
from mlfin.viz import operations as ops  # noqa: E402

JOB = dict(id="ab12", kind="ingest", experiment=None, state="queued", by="ann", created_at="2024-06-28T00:00:00Z", started_at=None, ended_at=None,
           progress=0.0, says="", log=[])


class Listens:
    """Stands for a client: a service with models of these names, without bars and champions."""
    def __init__(self, models): self.models, self.asked = models, []

    def ask(self, method, path, body=None, query=None):
        self.asked.append((method, path, body))
        if path == "/v1/model/info":
            raise Answered(dict(status=409, title="Conflict", detail="No model serves."))
        if method == "POST":
            return JOB
        items = [{"model": name} for name in self.models] if path == "/v1/models" else []
        return {"items": items, "total": len(items)}


def pressed(models, button, choose=None):
    """What a press of a button sends, once the page has looked around and an experiment was chosen."""
    client = Listens(models)

    async def a_person():
        page = ops.OperationsPage(load_settings("test"), "http://service.example", client, "analyst", inputs=ops._inputs(), buttons=ops._buttons(),
                                  texts={name: ipywidgets.HTML() for name in ops._PARTS}, chart=ipywidgets.Output())
        await ops._load(page)
        if choose:
            page.inputs["experiment"].value = choose
        await ops._press(page, button)

    with ThreadPoolExecutor(1) as thread:                              # another loop may run in this one
        thread.submit(asyncio.run, a_person()).result(60)
    return [(path, body) for method, path, body in client.asked if method == "POST"]


@pytest.mark.parametrize("chosen", ["main", "other"])
def test_ingest_fetches_for_the_chosen_experiment(chosen):
    assert pressed(["test-main", "test-other"], "ingest", chosen) == [("/v1/ingest/run", {"experiment": chosen})]


def test_before_there_is_a_model_ingest_asks_for_what_the_project_says():
    """The list holds a placeholder then, which may be no experiment of this project."""
    assert pressed([], "ingest") == [("/v1/ingest/run", {})]
    assert pressed([], "train") == [("/v1/train", {"experiment": "default"})]
