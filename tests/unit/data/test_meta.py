"""The metadata as JSON in a schema."""

import pytest

from groundplane.data.meta import ColumnMeta, TableMeta, from_json, to_json

FULL = TableMeta(
    source="sav",
    label="Étude",
    columns={
        "sex": ColumnMeta(label="Kjønn", value_labels=((1, "mann"), (2, "kvinne")), measure="nominal", display="F1.0"),
        "age": ColumnMeta(missing_codes=(99, 98.5), missing_ranges=((float("-inf"), 0.0), (100.0, float("inf")))),
        "word": ColumnMeta(value_labels=(("b", "second"), ("a", "first")), missing_codes=("x",)),
    },
)


def test_everything_comes_back_in_order() -> None:
    assert from_json(to_json(FULL)) == FULL
    assert list(from_json(to_json(FULL)).columns["word"].value_labels) == [("b", "second"), ("a", "first")]


def test_columns_without_metadata_are_not_written() -> None:
    meta = TableMeta(source="csv", columns={"plain": ColumnMeta()})
    assert b"plain" not in to_json(meta)
    assert not meta.worth_keeping


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"version": 2}',
        b'{"version": 1, "columns": {"x": {"value_labels": [[null, "a"]]}}}',
        b'{"version": 1, "columns": {"x": {"label": 3}}}',
        b'{"version": 1, "columns": {"x": 3}}',
    ],
)
def test_anything_else_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        from_json(text)
