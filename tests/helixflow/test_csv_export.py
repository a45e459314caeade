"""CSV files that spreadsheets open: no cell of theirs is computed."""

import pytest

from helixflow.lib import csv_export


@pytest.mark.parametrize(
    "text",
    [
        *("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\rx", "\nx", " =1", "\u00a0=1", "\u200b=1", "\ufeff@x", "\x0b+1"),
        *("\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20SUM(A1)", " \uff1d1", "\u22121"),
    ],
)
def test_text_that_may_be_a_formula_is_behind_an_apostrophe(text: str) -> None:
    assert csv_export.defused(text) == f"'{text}"


@pytest.mark.parametrize("value", ["a=b", "", " a", "gpt-4", -1, 0.5, True])
def test_everything_else_is_as_it_was(value: object) -> None:
    assert csv_export.defused(value) == value


def test_nothing_is_an_empty_cell() -> None:
    assert "".join(csv_export.parts(["a"], [[None], ["=1"]])) == 'a\r\n""\r\n\'=1\r\n'
