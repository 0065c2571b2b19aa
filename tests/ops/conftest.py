"""A project of two small notebooks: `numbers` makes a frame, `total` adds it up."""
import json
import os
from functools import cache
from pathlib import Path

import pytest
import typer
import typer.testing
from IPython.core.interactiveshell import InteractiveShell

from mlfin.core.settings import load_settings

ROOT = Path(__file__).parents[2]
TASK = """  - name: {name}
    source: {name}.ipynb
    class: NotebookRunner
    executor: "{{{{executor}}}}"
    kernelspec_name: "{{{{kernel}}}}"
    static_analysis: strict
    nb_product_key: [nb, html]
    nbconvert_exporter_name: {{html: mlfin}}
    upstream: [{upstream}]
    params: {{{params}}}
    product:
      nb: reports/{{{{profile}}}}/{{{{experiment}}}}/{name}.ipynb
      html: reports/{{{{profile}}}}/{{{{experiment}}}}/{name}.html
      data: .mlfin/{{{{profile}}}}/{{{{experiment}}}}/{name}.{kind}
"""


def notebook(name, parameters, body):
    def cell(kind, source, tags=()):
        shared = {"cell_type": kind, "id": f"c{abs(hash(source)) % 10**8}", "metadata": {"tags": list(tags)}, "source": source}
        return shared if kind == "markdown" else {**shared, "execution_count": None, "outputs": []}
    cells = [
        cell("markdown", f"# {name}"),
        cell("code", "\n".join(f"{p} = None" for p in ("upstream", "product", *parameters)), ["parameters"]),
        cell("code", "import os, time\nimport pandas as pd\nfrom mlfin.core.provenance import begin_task"),
        cell("code", f"task = begin_task({name!r}, globals())\n{body}"),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


NUMBERS = "task.write('data', pd.DataFrame({'x': [float(i) for i in range(n)]}))"
TOTAL = "task.write('data', {'total': factor * float(task.read('numbers', 'data').x.sum())})"


class Project:
    def __init__(self, folder):
        self.root = Path(folder)
        (self.root / "settings.ini").write_text((ROOT / "settings.ini").read_text())
        (self.root / "env.yaml").write_text("profile: test\nexperiment: default\nexecutor: ploomber-engine\nkernel: python3\nn: 4\nfactor: 2\n")
        tasks = TASK.format(name="numbers", upstream="", params="n: '{{n}}'", kind="parquet")
        tasks += TASK.format(name="total", upstream="numbers", params="factor: '{{factor}}'", kind="json")
        (self.root / "pipeline.yaml").write_text("meta: {extract_upstream: false, extract_product: false}\ntasks:\n" + tasks)
        self.write("numbers", NUMBERS)
        self.write("total", TOTAL)

    def write(self, name, body):
        (self.root / f"{name}.ipynb").write_text(notebook(name, {"numbers": ["n"], "total": ["factor"]}[name], body))

    @property
    def settings(self): return load_settings("test", root=self.root)

    def total(self): return json.loads((self.root / ".mlfin/test/default/total.json").read_text())["total"]

    def files(self):
        "Every file that was left, but for Ploomber's notes, caches and the lock."
        found = [p.relative_to(self.root).as_posix() for top in (".mlfin", "reports") for p in (self.root / top).rglob("*") if p.is_file()]
        return {f for f in found if not f.endswith((".metadata", ".lock")) and not f.startswith(".mlfin/cache/")}


@pytest.fixture
def project(tmp_path, monkeypatch):
    "The project, as the working directory; the process's environment is put back afterwards."
    before = dict(os.environ)
    monkeypatch.chdir(tmp_path)
    yield Project(tmp_path)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session", autouse=True)
def made_once():
    "The command line's tree is built once, not for each command; shells that ran notebooks are not tidied up one by one at the end."
    with pytest.MonkeyPatch.context() as patch:
        built = cache(typer.main.get_command)
        patch.setattr(typer.main, "get_command", built)
        patch.setattr(typer.testing, "_get_command", built)
        patch.setattr(InteractiveShell, "atexit_operations", lambda self: None)
        yield


@pytest.fixture(autouse=True)
def as_wide_as_asked(plain_terminal):
    "Every test of commands reads what they print."
