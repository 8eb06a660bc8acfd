"""Excel workbooks are read: the first sheet, typed by what all its cells are."""

import datetime as dt
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pytest

from groundplane.data.convert import convert, read
from groundplane.data.errors import ConversionError
from tests.unit.data.tables import values


def book(path: Path, rows: list[list[Any]], *others: str) -> Path:
    workbook = openpyxl.Workbook()
    for row in rows:
        workbook.active.append(row)
    for title in others:
        workbook.create_sheet(title)
    workbook.save(path)
    return path


def test_types(tmp_path: Path) -> None:
    book(
        tmp_path / "blob",
        [
            ["i", "f", "b", "s", "d", "m", "t", "none", "mixed"],
            [1, 1.5, True, "Åsa", dt.date(1955, 1, 2), dt.datetime(2024, 1, 1, 10, 30), dt.time(9, 5), None, 1],
            [None, 2, False, None, dt.datetime(2024, 1, 1), dt.date(2024, 1, 2), None, None, "x"],
        ],
    )
    data = read(tmp_path / "blob", "xlsx")
    assert values(data) == {
        "i": [1, None],
        "f": [1.5, 2.0],
        "b": [True, False],
        "s": ["Åsa", None],
        "d": [dt.date(1955, 1, 2), dt.date(2024, 1, 1)],
        "m": [dt.datetime(2024, 1, 1, 10, 30), dt.datetime(2024, 1, 2)],
        "t": [dt.time(9, 5), None],
        "none": [None, None],
        "mixed": ["1", "x"],
    }
    assert data.arrow.schema.field("i").type == pa.int64()
    assert data.lost == ("the types of 'mixed' (numbers, dates and text are mixed; all became text)",)


def test_other_sheets_are_said_and_empty_edges_ignored(tmp_path: Path) -> None:
    book(tmp_path / "a.xlsx", [[None, None], ["a", "b"], [1, 2], [None, None], [3, 4], [None, None]], "Notes", "Old")
    done = convert(tmp_path / "a.xlsx", "a.xlsx", tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "a,b\n1,2\n,\n3,4\n"
    assert done.lost == ("the other sheets: 'Notes' and 'Old' (only the first is read)",)


def test_a_formula_nobody_computed_is_no_missing_value(tmp_path: Path) -> None:
    book(tmp_path / "a.xlsx", [["a", "total"], [1, "=A2*2"]])
    with pytest.raises(ConversionError, match="'total' has a formula without a stored value in data row 1"):
        convert(tmp_path / "a.xlsx", "a.xlsx", tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("rows", "says"),
    [([], "empty"), ([["a", None], [1, 2]], "column 2"), ([["a", "a"], [1, 2]], "two columns are called 'a'")],
)
def test_what_is_no_table_is_said(tmp_path: Path, rows: list[list[Any]], says: str) -> None:
    with pytest.raises(ConversionError, match=says) as caught:
        read(book(tmp_path / "a.xlsx", rows), "xlsx")
    assert caught.value.code == "unreadable_table"


def test_errors_in_cells_become_missing_and_are_said(tmp_path: Path) -> None:
    data = read(book(tmp_path / "a.xlsx", [["a"], [1], ["#N/A"]]), "xlsx")
    assert values(data) == {"a": [1, None]}
    assert "#N/A" in data.lost[0]
