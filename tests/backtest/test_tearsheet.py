"""What a tear sheet says beside its numbers."""

import pytest

from mlfin.backtest.tearsheet import split_caveats


@pytest.mark.parametrize("splitter", ["purged_kfold", "combinatorial"])
def test_a_record_of_models_that_learnt_from_later_days_says_so(splitter):
    assert "trained on later days" in split_caveats({"folds": 5, "embargo": 5, "splitter": splitter})[0]


@pytest.mark.parametrize("split", [{}, {"splitter": "rolling"}, {"splitter": "3ME"}])
def test_models_that_learnt_from_earlier_days_need_no_word(split):
    assert split_caveats(split) == []
