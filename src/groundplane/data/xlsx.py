"""Reading Excel workbooks: the first sheet, its first row as the header."""

import datetime
import zipfile
from pathlib import Path
from typing import Any

from groundplane.data.errors import unreadable
from groundplane.data.libraries import ArrowColumn, library, pa
from groundplane.data.losses import Losses, quoted
from groundplane.data.meta import TableMeta
from groundplane.data.table import TableData


def read(path: Path) -> TableData:
    """Read the first sheet of a workbook.

    Raises `ConversionError` (unreadable_table), also for formulas whose value was never stored: openpyxl gives nothing
    for them, which would look like a missing value.
    """
    losses = Losses()
    with path.open("rb") as file:
        rows = _rows(file, losses, formulas=False)
        header, body = _split(rows)
        stored = [[cell.value for cell in row] for row in body]
        if any(cell.data_type == "e" for row in body for cell in row):
            losses.note("cells with an error such as #N/A or #DIV/0! became missing")
            stored = [[None if cell.data_type == "e" else cell.value for cell in row] for row in body]
        if _has_formulas(path):
            file.seek(0)
            _, asked = _split(_rows(file, Losses(), formulas=True))
            _check_formulas(header, stored, asked)
    columns: dict[str, ArrowColumn] = {}
    for index, name in enumerate(header):
        if name in columns:
            raise unreadable(f"two columns are called '{name}'", "give every column a name of its own")
        columns[name] = _column(name, [row[index] if index < len(row) else None for row in stored], losses)
    return TableData(pa.table(columns), TableMeta(source="xlsx"), tuple(losses.sentences()))


def _rows(file: Any, losses: Losses, *, formulas: bool) -> list[Any]:
    openpyxl = library("openpyxl")
    try:
        book = openpyxl.load_workbook(file, read_only=True, data_only=not formulas)
        sheets = book.worksheets
        rows = list(sheets[0].iter_rows()) if sheets else []
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, openpyxl.utils.exceptions.InvalidFileException) as error:
        raise unreadable(
            f"it is no valid xlsx file: {error}", "save it as .xlsx (not .xls) without a password"
        ) from error
    if len(sheets) > 1:
        losses.note(f"the other sheets: {quoted([sheet.title for sheet in sheets[1:]])} (only the first is read)")
    return rows


def _split(rows: list[Any]) -> tuple[list[str], list[Any]]:
    """Take the header off, with the empty rows above and below and the empty columns to the right."""
    filled = [index for index, row in enumerate(rows) if any(cell.value is not None for cell in row)]
    if not filled:
        raise unreadable("its first sheet is empty", "put the table on the first sheet, with a header row")
    body = rows[filled[0] + 1 : filled[-1] + 1]
    names = [cell.value for cell in rows[filled[0]]]
    width = max(
        index + 1 for row in [rows[filled[0]], *body] for index, cell in enumerate(row) if cell.value is not None
    )
    names += [None] * (width - len(names))
    if unnamed := [index + 1 for index, name in enumerate(names[:width]) if name is None or str(name).strip() == ""]:
        raise unreadable(f"column {unnamed[0]} of its first sheet has no name", "the first row must be the header")
    return [str(name) for name in names[:width]], body


def _has_formulas(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(
            b"<f>" in (text := archive.read(name)) or b"<f " in text
            for name in archive.namelist()
            if name.startswith("xl/worksheets/")
        )


def _check_formulas(header: list[str], stored: list[list[Any]], asked: list[Any]) -> None:
    for number, (values, row) in enumerate(zip(stored, asked, strict=False)):
        for index, cell in enumerate(row):
            if cell.data_type == "f" and (index >= len(values) or values[index] is None):
                # An empty result is stored as empty text, so nothing at all means that nobody ever computed it.
                raise unreadable(
                    f"column '{header[index]}' has a formula without a stored value in data row {number + 1}",
                    "open the workbook in Excel or LibreOffice and save it, so that values are stored",
                )


def _column(name: str, values: list[Any], losses: Losses) -> ArrowColumn:
    kinds: set[type] = {type(value) for value in values if value is not None}
    if not kinds:
        return pa.nulls(len(values))
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds <= {int, float}:
        exact = kinds == {int} and all(abs(value) < 2**63 for value in values if value is not None)
        return pa.array(values, pa.int64() if exact else pa.float64())
    if kinds <= {datetime.datetime, datetime.date}:
        moments = [value for value in values if isinstance(value, datetime.datetime)]
        if all(value.time() == datetime.time() for value in moments):
            # Excel has one type for both; a column without any time of day holds dates.
            return pa.array([value.date() if isinstance(value, datetime.datetime) else value for value in values])
        return pa.array(
            [_moment(value) for value in values],
            pa.timestamp("us"),
        )
    if kinds == {datetime.time}:
        return pa.array(values, pa.time64("us"))
    if kinds == {datetime.timedelta}:
        return pa.array(values, pa.duration("us"))
    if kinds != {str}:
        losses.column("the types", name, "numbers, dates and text are mixed; all became text")
    return pa.array([None if value is None else _spelt(value) for value in values], pa.string())


def _moment(value: Any) -> datetime.datetime | None:
    if isinstance(value, datetime.datetime) or value is None:
        return value
    return datetime.datetime.combine(value, datetime.time())


def _spelt(value: Any) -> str:
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return str(value)
