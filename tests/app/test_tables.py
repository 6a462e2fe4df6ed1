"""Tables: aligned, bounded, and harmless to a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.app.tables import cell, table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table(("name", "n"), [("a", 1), ("longer", None)]) == "NAME    N\na       1\nlonger  -"


def test_the_last_column_can_be_whole_and_stays_harmless() -> None:
    reason = "because " * 20

    text = table(("rpc", "why"), [("a", f"\x1b{reason}")], whole_last=True)

    assert text.endswith(f"\na    ?{reason}".rstrip())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (0.25, "0.25"),
        (2.0, "2"),
        ({"a": 1}, '{"a": 1}'),
        ("\x1b[2Jx\ny", "?[2Jx?y"),
        ("é", "é"),
    ],
)
def test_a_cell_is_short_and_printable(value: object, text: str) -> None:
    assert cell(value) == text


@given(st.text(max_size=200))
def test_no_text_can_act_on_a_terminal(text: str) -> None:
    assert cell(text).isprintable()
    assert len(cell(text)) <= 80
