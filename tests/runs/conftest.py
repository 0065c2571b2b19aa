"""Tests of commands: their tree is built once a worker, and they print as wide as COLUMNS says."""
import pytest


@pytest.fixture(scope="session", autouse=True)
def one_tree_of_commands(made_once):
    "The command line's tree is built once, not for each command."


@pytest.fixture(autouse=True)
def as_wide_as_asked(plain_terminal):
    "Every test of commands reads what they print."
