"""Writing comma- and tab-separated text.

RFC 4180 with a header and LF line ends (what Unix tools expect). A field is quoted only where it must be, so that naive
readers (Octave's strsplit, PSPP without a QUALIFIER) read the rest. Infinity, NaN and TRUE are spelt as R spells
them, which pandas reads too; R takes `true` for text.

A missing number is nothing at all: after a hundred `NA`s PSPP stops with status 0. Missing text and dates are `NA`,
since R's read.csv would take nothing at all for empty text.
"""

import re
from pathlib import Path
from typing import Any

from groundplane.data.csv_read import infer
from groundplane.data.libraries import ArrowColumn, ArrowType, is_text, pa, pc
from groundplane.data.losses import Holds, Losses, note_categories, note_metadata
from groundplane.data.table import EXACT, TableData, plain

_BATCH = 65_536  # rows joined at a time: a line buffer stays far below arrow's 2 GiB of text


def write(data: TableData, path: Path, delimiter: str, ending: str) -> list[str]:
    """Write the table as text; return what was lost. Raises `ConversionError` (refused)."""
    losses = Losses(data.lost)
    note_metadata(losses, data.meta, data.arrow, ending, Holds())
    data = plain(data, ending, losses)
    table = data.arrow
    note_categories(losses, table, ending)
    columns = [
        _fields(name, table.column(name), delimiter, ending, losses, alone=table.num_columns == 1)
        for name in table.column_names
    ]
    header = [_quoted(name) if re.search(_needs_quotes(delimiter), name) else name for name in table.column_names]
    with path.open("wb") as file:
        file.write((delimiter.join(header) + "\n").encode())
        for start in range(0, table.num_rows, _BATCH):
            parts = [column.slice(start, _BATCH).combine_chunks().cast(pa.large_string()) for column in columns]
            lines: list[str] = _joined(parts, delimiter).to_pylist()
            file.write(("\n".join(lines) + "\n").encode())
    return losses.sentences()


def _joined(parts: list[Any], separator: str) -> Any:
    wide = pa.large_string()  # all parts of a join must have one type, the constants among them too
    return pc.binary_join_element_wise(
        *(pa.scalar(part, wide) if isinstance(part, str) else part for part in parts), pa.scalar(separator, wide)
    )


def _fields(name: str, column: ArrowColumn, delimiter: str, ending: str, losses: Losses, *, alone: bool) -> ArrowColumn:
    kind: ArrowType = column.type
    if is_text(kind):
        _note_text(name, column, ending, losses)
    if pa.types.is_dictionary(kind) or is_text(kind):
        text = _quote(column.cast(pa.large_string()), delimiter)
    else:
        text = _text(name, column, ending, losses)
    number = pa.types.is_null(kind) or pa.types.is_boolean(kind) or pa.types.is_duration(kind)
    number = number or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    # In a table of one column nothing at all would leave a blank line, which every reader skips.
    return pc.fill_null(text, "" if number and not alone else "NA")


def _needs_quotes(delimiter: str) -> str:
    return rf'["\r\n{delimiter}]|^\s|\s$|^$|^NA$'


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quote(text: ArrowColumn, delimiter: str) -> ArrowColumn:
    needed = pc.match_substring_regex(text, _needs_quotes(delimiter))
    doubled = pc.replace_substring(text, '"', '""')
    return pc.if_else(needed, _joined(['"', doubled, '"'], ""), text)


def _note_text(name: str, column: ArrowColumn, ending: str, losses: Losses) -> None:
    if pc.any(pc.equal(column, "")).as_py():
        losses.column("empty text", name, f"pandas takes it for missing in {ending}")
    if pc.any(pc.equal(column, "NA")).as_py():
        losses.column("the text 'NA'", name, f"R and pandas take it for missing in {ending}")
    digits = pc.match_substring_regex(pc.drop_null(column), r"^0[0-9]+$")
    if not is_text(infer(column).type) and column.null_count < len(column):
        losses.column("the type text", name, f"its values look like something else to readers of {ending}")
    elif len(digits) and pc.any(digits).as_py() and _all_digits(column):
        losses.column("leading zeros", name, f"R and pandas take them for numbers in {ending}")


def _all_digits(column: ArrowColumn) -> bool:
    return bool(pc.all(pc.match_substring_regex(pc.drop_null(column), r"^[0-9]*$")).as_py())


def _text(name: str, column: ArrowColumn, ending: str, losses: Losses) -> ArrowColumn:
    kind: ArrowType = column.type
    types = pa.types
    if types.is_null(kind):
        return column.cast(pa.string())
    if types.is_boolean(kind):
        return pc.utf8_upper(column.cast(pa.string()))
    if types.is_floating(kind):
        return _numbers(column)
    if types.is_duration(kind):
        losses.column("the unit", name, f"{ending} holds the seconds as a number")
        return _numbers(pc.divide(column.cast(pa.int64()).cast(pa.float64(), safe=False), 1e6))
    if types.is_timestamp(kind):
        if kind.tz is not None and kind.tz != "UTC":
            losses.column(f"the time zone {kind.tz}", name, f"{ending} holds none; times are in UTC")
        return _trimmed(column.cast(pa.timestamp(kind.unit, "UTC" if kind.tz else None)).cast(pa.string()))
    if types.is_time(kind):
        return _trimmed(column.cast(pa.string()))
    return column.cast(pa.string())


def _trimmed(text: ArrowColumn) -> ArrowColumn:
    """Take off the fraction of a second where none of the column has one."""
    if pc.all(pc.match_substring_regex(text, r"\.0+Z?$")).as_py():
        return pc.replace_substring_regex(text, r"\.0+(Z?)$", r"\1")
    return text


def _numbers(column: ArrowColumn) -> ArrowColumn:
    finite = pc.is_finite(column)
    whole = pc.and_(pc.equal(column, pc.floor(column)), pc.less_equal(pc.abs(column), EXACT))
    whole = pc.and_(whole, finite)
    if pc.all(whole).as_py():  # identifiers kept as doubles read better as 20240131 than as 2.0240131e+07
        return column.cast(pa.int64()).cast(pa.string())
    text = column.cast(pa.string())
    if not pc.all(finite).as_py():
        text = pc.replace_substring_regex(text, "^nan$|^-nan$", "NaN")
        text = pc.replace_substring_regex(text, "inf", "Inf")
    return text
