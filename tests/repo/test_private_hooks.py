"""Private names of uvicorn, LightGBM, papermill and Ploomber in use: all there, each package pinned."""

import asyncio
import ctypes
import inspect
import tomllib

import pytest
from packaging.requirements import Requirement

OVERRIDDEN = (
    "__init__",
    "connection_made",
    "connection_lost",
    "data_received",
    "on_headers_complete",
    "on_message_complete",
    "on_response_complete",
    "eof_received",
    "timeout_keep_alive_handler",
    "pause_writing",
    "resume_writing",
)
SPELLED = {  # what the text of a class must hold, for it exists only in objects
    "HttpToolsProtocol": (
        "self.loop",
        "self.parser",
        "self.pipeline",
        "self.cycle",
        "self.flow",
        "self.connections",
        "self.transport",
        "self.scope",
        "self.headers",
        "self.url",
        "feed_data",
        "HttpRequestParser",
    ),
    "RequestResponseCycle": (
        "self.disconnected",
        "self.message_event",
        "self.response_started",
        "self.response_complete",
        "self.transport",
    ),
    "FlowControl": ("self.read_paused", "def resume_reading"),
}


def gone(library: str, name: str) -> str:
    return (
        f"{library} has no {name} any more: see who uses it (tests/repo/test_private_hooks.py), "
        "then move the upper bound in pyproject.toml"
    )


@pytest.mark.parametrize(
    "library, below", [("uvicorn", "0.55"), ("httptools", "0.10"), ("lightgbm", "4.8"), ("papermill", "2.8")]
)
def test_a_version_that_was_not_tested_is_not_installed(root, library, below):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    named = [Requirement(r) for r in [*project["dependencies"], *project["optional-dependencies"]["serve"]]]
    (found,) = (r for r in named if r.name == library)
    assert f"<{below}" in str(found.specifier).split(","), (
        f"{library} is pinned below {below}: we use names that it does not promise"
    )


@pytest.mark.parametrize("name", [*OVERRIDDEN, "_unset_keepalive_if_required", "shutdown"])
def test_uvicorn_calls_what_connection_overrides(name):
    pytest.importorskip("uvicorn")
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    assert callable(getattr(HttpToolsProtocol, name, None)), gone("uvicorn", f"HttpToolsProtocol.{name}")


@pytest.mark.parametrize("kind, name", [(kind, name) for kind, names in SPELLED.items() for name in names])
def test_uvicorn_keeps_the_state_that_connection_reads(kind, name):
    pytest.importorskip("uvicorn")
    from uvicorn.protocols.http import httptools_impl

    assert name in inspect.getsource(getattr(httptools_impl, kind)), gone("uvicorn", f"{kind}: {name}")


@pytest.mark.parametrize(
    "name",
    [
        "startup",
        "shutdown",
        "handle_exit",
        "run",
        "started",
        "should_exit",
        "servers",
        "server_state",
        "connections",
        "default_headers",
    ],
)
def test_uvicorn_has_the_server_that_a_worker_ends(name):
    uvicorn = pytest.importorskip("uvicorn")

    async def app(scope, receive, send):
        pass

    server = uvicorn.Server(uvicorn.Config(app))
    there = (
        hasattr(server, name)
        or hasattr(server.server_state, name)
        or f"self.{name}" in inspect.getsource(uvicorn.Server)
    )
    assert there, gone("uvicorn", f"Server or ServerState: {name}")
    assert inspect.iscoroutinefunction(uvicorn.Server.startup) and inspect.iscoroutinefunction(
        uvicorn.Server.shutdown
    )


def test_uvicorn_takes_a_class_that_speaks_http(tmp_path):
    uvicorn = pytest.importorskip("uvicorn")
    from mlfin.api.connection import Connection

    async def app(scope, receive, send):
        pass

    config = uvicorn.Config(app, http=Connection)
    config.load()
    assert config.http_protocol_class is Connection, gone("uvicorn", "Config(http=<class>)")
    loop = asyncio.new_event_loop()
    try:
        from uvicorn.server import ServerState

        assert Connection(config, ServerState(), {}, loop).loop is loop
    finally:
        loop.close()


@pytest.mark.parametrize(
    "name",
    [
        "LGBM_BoosterPredictForMatSingleRowFastInit",
        "LGBM_BoosterPredictForMatSingleRowFast",
        "LGBM_FastConfigFree",
    ],
)
def test_lightgbm_has_its_interface_for_single_rows(name):
    from lightgbm import basic

    assert hasattr(basic, "_LIB") and callable(getattr(basic, "_safe_call", None)), gone(
        "lightgbm", "basic._LIB and basic._safe_call"
    )
    assert isinstance(getattr(basic._LIB, name, None), ctypes._CFuncPtr), gone(
        "lightgbm", f"basic._LIB.{name}"
    )


def test_lightgbm_keeps_its_booster_and_its_handle_where_we_look():
    import numpy as np
    from lightgbm import LGBMClassifier

    made = LGBMClassifier(n_estimators=1, verbose=-1).fit(np.arange(80.0).reshape(40, 2), np.arange(40) % 2)
    assert made._Booster is made.booster_, gone("lightgbm", "LGBMModel._Booster")
    assert isinstance(made.booster_._handle, ctypes.c_void_p), gone("lightgbm", "Booster._handle")


def test_papermill_has_the_engine_and_the_registry_that_a_run_watches():
    from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines

    assert isinstance(papermill_engines._engines, dict), gone("papermill", "papermill_engines._engines")
    assert papermill_engines.get_engine(None) is NBClientEngine, gone(
        "papermill", "the default engine NBClientEngine"
    )
    taken = inspect.signature(NBClientEngine.execute_managed_notebook).parameters
    assert list(taken)[:2] == ["nb_man", "kernel_name"], gone(
        "papermill", "NBClientEngine.execute_managed_notebook(nb_man, kernel_name)"
    )
    assert "cell_index" in inspect.signature(NotebookExecutionManager.cell_start).parameters, gone(
        "papermill", "cell_start(cell, cell_index)"
    )


def test_ploomber_builds_a_task_by_itself():
    from ploomber.constants import TaskStatus
    from ploomber.executors import Serial
    from ploomber.tasks.abc import Task

    assert "catch_exceptions" in inspect.signature(getattr(Task, "_build", lambda: None)).parameters, gone(
        "ploomber", "Task._build(catch_exceptions)"
    )
    assert hasattr(Task, "exec_status") and hasattr(TaskStatus, "Skipped"), gone(
        "ploomber", "Task.exec_status and TaskStatus.Skipped"
    )
    assert list(inspect.signature(Serial.__call__).parameters)[1:] == ["dag", "show_progress"], gone(
        "ploomber", "Serial.__call__(dag, show_progress)"
    )
