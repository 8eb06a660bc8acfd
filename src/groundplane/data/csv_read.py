"""Reading comma- and tab-separated text.

All fields are read as text first and a column becomes something else only when every value in it is: pyarrow's own
inference turns `007` into 7 and an identifier of twenty digits into a rounded double.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from groundplane.data.errors import unreadable
from groundplane.data.libraries import ArrowColumn, ArrowTable, library, pa, pc
from groundplane.data.losses import Losses, quoted
from groundplane.data.meta import TableMeta
from groundplane.data.table import TableData

_BLOCK = 64 * 1024 * 1024  # bytes; the longest record that can be read
_HEAD = 1024 * 1024  # bytes looked at for the header
_SOMETHING_ELSE = {
    b"PK\x03\x04": "an Excel workbook or zip file",
    b"PAR1": "a Parquet file",
    b"ARROW1": "a Feather file",
    b"\x1f\x8b": "a gzip file",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
    b"$FL2": "an SPSS file",
}


def read(path: Path, delimiter: str, ending: str) -> TableData:
    """Read UTF-8 text with a header line, quoted as in RFC 4180.

    Unquoted nothing and unquoted `NA` are missing; a quoted empty field is empty text. Raises `ConversionError`
    (unreadable_table).
    """
    names = _header(path, delimiter)
    losses = Losses()
    names = _name_the_unnamed(names, losses)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise unreadable(f"two columns are called {quoted(twice)}", "give every column a name of its own")
    pcsv = library("pyarrow.csv")
    positions = [f"c{index}" for index in range(len(names))]
    try:
        raw: ArrowTable = pcsv.read_csv(
            str(path),
            # The first row is read as data and dropped, since names may repeat or be empty on the way in.
            pcsv.ReadOptions(column_names=positions, block_size=max(1, min(_BLOCK, path.stat().st_size + 1))),
            pcsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            pcsv.ConvertOptions(
                column_types=dict.fromkeys(positions, pa.string()),
                null_values=["", "NA"],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        ).slice(1)
    except pa.ArrowInvalid as error:
        raise unreadable(f"it is no valid {ending}: {_reason(error)}", _hint(error)) from error
    columns = [infer(raw.column(index)) for index in range(len(names))]
    return TableData(pa.table(columns, names=names), TableMeta(source=ending), tuple(losses.sentences()))


def _header(path: Path, delimiter: str) -> list[str]:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head.strip(b"\r\n"):
        raise unreadable("it is empty", "a table needs at least a header line")
    for magic, what in _SOMETHING_ELSE.items():
        if head.startswith(magic):
            raise unreadable(f"it is {what}", "name the file by what it is, so that it is converted")
    # A character may be cut at the end of the head: that is for the reader of the whole to judge.
    text = head.decode("utf-8-sig", errors="replace")
    names = next(csv.reader(io.StringIO(text.lstrip("\r\n"), newline=""), delimiter=delimiter))
    for other, called in ((";", "semicolons"), ("\t", "tabs"), (",", "commas")):
        if len(names) == 1 and other != delimiter and other in names[0]:
            raise unreadable(f"its fields seem to be separated by {called}", "write it with commas (csv) or tabs (tsv)")
    return names


def _name_the_unnamed(names: list[str], losses: Losses) -> list[str]:
    """Name the columns without a name. R and pandas write the row names as a first column without one."""
    named: list[str] = []
    for index, name in enumerate(names):
        if name:
            named.append(name)
            continue
        called = "rownames" if index == 0 else f"column_{index + 1}"
        losses.note(f"column {index + 1} has no name and is called '{called}'")
        named.append(called)
    return named


def _reason(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].removeprefix("CSV parse error: ")


def _hint(error: BaseException) -> str:
    if "UTF8" in str(error) or "UTF-8" in str(error):
        return "write it in UTF-8"
    return "every line needs as many fields as the header; a field with a separator or quote in it is quoted"


@dataclass(frozen=True, slots=True)
class _Kind:
    """A column type that text may turn out to be: every value matches `pattern` and none matches `never`."""

    name: str
    pattern: str
    never: str | None = None


_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
_DATE = r"[0-9]{4}-[01][0-9]-[0-3][0-9]"
_KINDS = (
    _Kind("bool", r"^(true|false|TRUE|FALSE|True|False)$"),
    _Kind("integer", r"^[+-]?(0|[1-9][0-9]{0,18})$"),
    _Kind(
        "double",
        r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$|^[+-]?(?i:inf|infinity)$|^(?i:nan)$",
        r"^[+-]?0[0-9]",
    ),
    _Kind("date", rf"^{_DATE}$"),
    _Kind("timestamp", rf"^{_DATE}[ T]{_CLOCK}$"),
    _Kind("instant", rf"^{_DATE}[ T]{_CLOCK}(Z|[+-][0-9]{{2}}:?[0-9]{{2}})$"),
    _Kind("time", rf"^{_CLOCK}$"),
)
_SAMPLE = 1000


def infer(column: ArrowColumn) -> ArrowColumn:
    """Turn a text column into what all its values are, or return it as it is."""
    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column))])
    trimmed = pc.utf8_trim_whitespace(column)
    # A blank field means "missing" among numbers and dates, and only there.
    values = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
    present = values.drop_null()
    if not len(present):
        return column
    for kind in _KINDS:
        if not (_is(kind, present.slice(0, _SAMPLE)) and _is(kind, present)):
            continue
        if kind.name == "double" and not pc.any(pc.match_substring_regex(present, r"[^0-9+-]")).as_py():
            return column  # whole numbers too long for an integer: a double would round them
        try:
            return _cast(kind.name, values)
        except pa.ArrowInvalid:
            # It looked like one and is none (a 31 February, a number beyond 64 bits): text keeps it as it was.
            return column
    return column


def _is(kind: _Kind, values: ArrowColumn) -> bool:
    if not pc.all(pc.match_substring_regex(values, kind.pattern)).as_py():
        return False
    return kind.never is None or not pc.any(pc.match_substring_regex(values, kind.never)).as_py()


def _cast(kind: str, values: ArrowColumn) -> ArrowColumn:
    if kind == "bool":
        return pc.equal(pc.utf8_lower(values), "true")
    if kind in ("integer", "double"):
        bare = pc.replace_substring_regex(values, r"^\+", "")
        return pc.cast(bare, pa.int64() if kind == "integer" else pa.float64())
    if kind == "date":
        return pc.cast(values, pa.date32())
    if kind == "timestamp":
        return pc.cast(values, pa.timestamp("us"))
    if kind == "instant":
        return pc.cast(values, pa.timestamp("us", "UTC"))
    return _clock(values)


def _clock(values: ArrowColumn) -> ArrowColumn:
    # arrow casts no text to a time of day, but does so for a moment: that of the first day.
    moment = pc.cast(pc.binary_join_element_wise("1970-01-01 ", values, ""), pa.timestamp("us"))
    return moment.cast(pa.int64()).cast(pa.time64("us"))
