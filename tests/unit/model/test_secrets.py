"""What of a secret's value must not be shown, and where a step gets one."""

from __future__ import annotations

import pytest

from groundplane.model.connections import query_parts, variable
from groundplane.model.secrets import is_variable, to_hide


@pytest.mark.parametrize(
    ("value", "hidden"),
    [
        ("token", ("token",)),
        ("token\n", ("token",)),
        ("a", ("a",)),
        (" token ", (" token ", "token")),
        ("first line\nsecond line\n", ("first line", "second line")),
        ("first line\r\nsecond line", ("first line", "second line")),
        ('{\n  "key": "value"\n}\n', ('"key": "value"',)),
        ("same line\nsame line\n", ("same line",)),
        ("\n\n", ()),
        ("\nonly one\n", ("\nonly one"[1:],)),
    ],
)
def test_the_value_or_each_of_its_lines_is_hidden(value: str, hidden: tuple[str, ...]) -> None:
    assert to_hide(value) == hidden


@pytest.mark.parametrize(
    ("place", "answer"), [("TOKEN", True), ("_X1", True), ("key.pem", False), ("Token", False), ("./TOKEN", False)]
)
def test_upper_case_is_a_variable(place: str, answer: bool) -> None:
    assert is_variable(place) is answer


def test_a_query_is_taken_apart_at_its_first_mark() -> None:
    assert query_parts("connection:w?sql=select '?sql='") == ("w", "select '?sql='")
    assert variable("the-lake", "URL") == "GROUND_CONNECTION_THE_LAKE_URL"
