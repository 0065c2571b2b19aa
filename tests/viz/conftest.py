"""Published runs for these tests."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def make_run():
    """`make_run(root, experiment, symbols, n, seed, minutes, profile, latest) -> run id`, see fixture_run.py."""
    spec = spec_from_file_location("fixture_run", Path(__file__).with_name("fixture_run.py"))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_run
