import pytest

from mlfin.core.errors import MissingExtraError, must_be, nearest, require, unknown


def test_message_has_value_origin_and_remedy():
    text = must_be("folds", "an integer >= 2", 1, "env.yaml", "use 5.")
    assert text == "`folds` must be an integer >= 2, got 1 (env.yaml).\nHint: use 5."


def test_long_values_are_cut():
    assert len(must_be("symbols", "short", "A" * 10_000)) < 300


@pytest.mark.parametrize("name, names, expected", [
    ("xgbost", ["xgboost", "lightgbm"], "xgboost"),
    ("RSI_14", ["rsi_14", "atr_14"], "rsi_14"),
    ("zzz", ["xgboost"], None),
    ("x", [], None),
])
def test_nearest(name, names, expected):
    assert nearest(name, names) == expected


def test_unknown_without_a_near_name_lists_all():
    assert "one of a1, b2" in unknown("model", "zzzz", ["b2", "a1"])


def test_a_broken_extra_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "half_broken.py").write_text("import does_not_exist_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError) as caught:
        require("half_broken", extra="all")
    assert not isinstance(caught.value, MissingExtraError)
