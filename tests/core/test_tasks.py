"""How far a task is: told beside its products, read by who watches, never in the way."""
import os
import time

import pytest

from mlfin.core.tasks import report_progress, read_progress
from mlfin.core.tasks import Task
from mlfin.core.settings import load_settings


@pytest.fixture
def task(tmp_path):
    return Task(
        "train-logistic",
        "0" * 32,
        {"nb": str(tmp_path / "a.ipynb"), "scores": str(tmp_path / "data" / "scores.parquet")},
        {},
        {},
        load_settings(),
    )


def test_what_is_told_is_read_until_it_is_done(task, tmp_path):
    tell = report_progress(task)
    for done, text in enumerate(("logistic, fold 1", "logistic, fold 2")):
        tell(done, 4, text)
        assert read_progress(tmp_path / "data") == {
            "train-logistic": {"done": done, "total": 4, "text": text}
        }
    tell(4, 4, "done")
    assert read_progress(tmp_path / "data") == {} and list((tmp_path / "data").iterdir()) == []
    tell(4, 4, "done")  # twice is no harm


def test_what_an_ended_process_left_is_old(task, tmp_path):
    report_progress(task)(0, 4, "logistic, fold 1")
    place = next((tmp_path / "data").glob(".*.progress"))
    os.utime(place, (time.time() - 60, time.time() - 60))
    assert read_progress(tmp_path / "data", since=time.time() - 10) == {}
    assert len(read_progress(tmp_path / "data")) == 1
    place.write_text("{")
    assert read_progress(tmp_path / "data") == {}
    assert read_progress(tmp_path / "nowhere") == {}


def test_a_folder_that_takes_no_file_ends_the_telling_and_nothing_else(task, tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")
    tell = report_progress(task)
    for done in range(3): tell(done, 3, "fold")
    (tmp_path / "data").unlink()
    tell(2, 3, "fold")
    assert read_progress(tmp_path / "data") == {}
