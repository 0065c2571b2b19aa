"""What a terminal shows: no cell that is printed is cut off, whatever stands in it."""
import io

import pandas as pd
import pytest
from rich.console import Console

from mlfin.terminal.console import escape_control, print_table


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_table_cuts_no_text_and_takes_nothing_for_markup(width):
    why = ["a long reason " * 8, "short"]
    frame = pd.DataFrame({"name": ["[bold]x[/]", "日本"], "why": why, "n": [1, 2_000_000]})
    console = Console(file=io.StringIO(), width=width, soft_wrap=True)
    print_table(frame, fold=("why",), console=console)
    text = console.file.getvalue()
    assert "[bold]x[/]" in text and "日本" in text and "2,000,000" in text
    assert text.count("reason") == 8


def test_control_characters_are_shown_and_not_obeyed():
    assert escape_control("a\x1b[31mb\n\x07") == "a\\x1b[31mb\\n\\x07"
