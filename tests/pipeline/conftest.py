"""A project like the repository, in a folder of its own; a finished run of a small question, copied for each
test that needs one."""
import os
import shutil
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO

import pytest
import typer
from IPython.core.interactiveshell import InteractiveShell

from mlfin.cli.app import main

from ..fixtures.workbench import PACKAGE, Workbench, words


@pytest.fixture(scope="session", autouse=True)
def one_tree_of_commands():
    "The command line's tree is built once, not for each command."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield


@contextmanager
def working_in(folder):
    "A folder as working directory; the process's environment is put back afterwards."
    before = dict(os.environ)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFIN_ROOT", raising=False)
        patch.chdir(folder)
        # hundreds of shells would take a minute to tidy up
        patch.setattr(InteractiveShell, "atexit_operations", lambda self: None)
        try: yield folder
        finally:
            os.environ.clear()
            os.environ.update(before)


@pytest.fixture
def in_project(tmp_path):
    "The test's folder as working directory; the process's environment is put back afterwards."
    with working_in(tmp_path): yield tmp_path


@pytest.fixture
def workbench(in_project, capsys):
    "A project in which nothing ran yet."
    return Workbench.make(in_project, capsys)


@pytest.fixture(scope="session")
def first_run(tmp_path_factory):
    "A project in which the small question was answered: look, do not touch."
    root = tmp_path_factory.mktemp("first_run")
    bench, out, err = Workbench.make(root), StringIO(), StringIO()
    with working_in(root), redirect_stdout(out), redirect_stderr(err):
        try: code = main(words()) or 0
        except SystemExit as e: code = e.code or 0
    bench.said = code, out.getvalue(), err.getvalue()
    # what was compiled now need not be compiled by those who copy
    shutil.copytree(PACKAGE, root / "mlfin", dirs_exist_ok=True)
    assert bench.said[0] == 0, bench.said[2]
    return bench


@pytest.fixture
def finished(first_run, in_project, capsys):
    "A copy of that project."
    shutil.copytree(first_run.root, in_project, dirs_exist_ok=True)
    return Workbench(in_project, capsys)
