"""MATLAB and Octave data files.

A table is written as one variable per column, which is what `load part.mat` makes handy: numbers as a double column
vector (NaN where missing), true/false as logical, text as a cell array of character vectors, dates and moments as
datenum. Read back are such variables of one length, a single struct of columns, or a single numeric matrix.
"""

import re
from pathlib import Path
from typing import Any, cast

import numpy as np

from groundplane.data import mat_file
from groundplane.data.errors import refused, unreadable
from groundplane.data.libraries import ArrowColumn, ArrowType, is_text, library, pa, pc
from groundplane.data.losses import Holds, Losses, note_categories, note_metadata, quoted
from groundplane.data.meta import TableMeta
from groundplane.data.table import (
    EXACT,
    TableData,
    as_doubles,
    check_exact,
    check_no_nul,
    note_missing_text,
    plain,
    utc_note,
)

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
_KEYWORDS = (
    "break case catch classdef continue do else elseif end end_try_catch end_unwind_protect endfor endfunction endif "
    "endparfor endswitch endwhile for function global if otherwise parfor persistent return spmd switch try until "
    "unwind_protect unwind_protect_cleanup while"
)
_UNIX_DATENUM = 719_529  # datenum(1970, 1, 1)
_DAY_MICROS = 86_400 * 1_000_000
_SAVE_V7 = "save it as MATLAB 7: save('-v7', 'file.mat', 'x', 'y')"


def write(data: TableData, path: Path) -> list[str]:
    """Write one variable per column (MATLAB 7 format); return what was lost. Raises `ConversionError` (refused)."""
    losses = Losses(data.lost)
    note_metadata(losses, data.meta, data.arrow, "mat", Holds())
    data = plain(data, "mat", losses)
    table = data.arrow
    bad = [name for name in table.column_names if not _NAME.fullmatch(name) or name in _KEYWORDS.split()]
    if bad:
        raise refused(
            f"mat cannot hold the column name{'s' if len(bad) > 1 else ''} {quoted(bad)}",
            "a MATLAB name starts with a letter, has English letters, digits, _ and at most 63; rename the column",
        )
    note_categories(losses, table, "mat")
    variables = {name: _variable(name, table.column(name), losses) for name in table.column_names}
    mat_file.save(path, variables)
    return losses.sentences()


def _variable(name: str, column: ArrowColumn, losses: Losses) -> Any:
    kind: ArrowType = column.type
    types = pa.types
    if types.is_dictionary(kind):
        column = column.cast(pa.string())
        kind = column.type
    if is_text(kind):
        return _cells(name, column, losses)
    if types.is_boolean(kind):
        if not column.null_count:
            return column.to_numpy().astype(bool).reshape(-1, 1)
        losses.column("the type true/false", name, "mat holds no missing logical; it is 1, 0 and NaN")
    if types.is_integer(kind) and not column.null_count:
        bounds = pc.min_max(column).as_py()
        if bounds["min"] is not None and max(-bounds["min"], bounds["max"]) > EXACT:
            return column.to_numpy().reshape(-1, 1)  # int64 and uint64 are exact where a double is not
    if types.is_integer(kind):
        check_exact(name, column, "mat")
    if types.is_date(kind) or types.is_timestamp(kind) or types.is_time(kind) or types.is_duration(kind):
        return _days(name, column, losses).reshape(-1, 1)
    return as_doubles(name, column, "mat", losses).reshape(-1, 1)


def _cells(name: str, column: ArrowColumn, losses: Losses) -> Any:
    check_no_nul(name, column, "mat")
    foreign = column.filter(pc.invert(pc.string_is_ascii(column)))
    if len(foreign):
        raise refused(
            f"column '{name}' holds '{foreign[0].as_py()}', which MATLAB and Octave would read cut or garbled",
            "text in .mat must be ASCII (scipy issue 4431); hand the table over as csv",
        )
    note_missing_text(name, column, "mat", losses)
    return column.fill_null("").to_pylist()


def _days(name: str, column: ArrowColumn, losses: Losses) -> Any:
    """Count days as datenum does: since year 0 for dates and moments, as a plain fraction for times and durations."""
    kind: ArrowType = column.type
    missing: Any = column.is_null().to_numpy().astype(bool)
    if pa.types.is_date(kind):
        losses.column("the type date", name, "mat holds its datenum, days since year 0")
        days = column.cast(pa.int32()).fill_null(0).to_numpy().astype(np.float64) + _UNIX_DATENUM
    elif pa.types.is_timestamp(kind):
        utc_note(name, kind, "mat", losses)
        losses.column("the type timestamp", name, "mat holds its datenum, days since year 0, to some 10 microseconds")
        micros = column.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.int64()).fill_null(0).to_numpy()
        days = micros / _DAY_MICROS + _UNIX_DATENUM
    else:
        losses.column("the type time", name, "mat holds the fraction of a day")
        days = column.cast(pa.int64()).fill_null(0).to_numpy() / _DAY_MICROS
    return np.where(missing, np.nan, days)


def read(path: Path) -> TableData:
    """Read variables of one length, a struct of columns, or one numeric matrix. NaN is MATLAB's missing number and
    becomes missing. Raises `ConversionError` (unreadable_table)."""
    with path.open("rb") as file:
        head = file.read(128)
    if head.startswith(b"# "):
        raise unreadable("it is in Octave's own text format", _SAVE_V7)
    if head.startswith((b"MATLAB 7.3", b"\x89HDF")):
        raise unreadable("it is in the MATLAB 7.3 format", _SAVE_V7)
    io = library("scipy.io")
    try:
        with path.open("rb") as file:
            kinds = {name: kind for name, _, kind in io.whosmat(file)}
            file.seek(0)
            found: dict[str, Any] = io.loadmat(file)
    except Exception as error:  # scipy raises nearly anything, down to IndexError
        raise unreadable(f"it is no valid MATLAB file: {error}", _SAVE_V7) from error
    variables = {name: value for name, value in found.items() if not name.startswith("__")}
    if any(kind in ("opaque", "object", "function", "table") for kind in kinds.values()) or "None" in variables:
        raise unreadable(
            "it holds MATLAB objects, such as a table or datetime",
            "save its columns: s = table2struct(T, 'ToScalar', true); save('file.mat', '-struct', 's')",
        )
    if not variables:
        raise unreadable("it holds no variables", _SAVE_V7)
    columns = _columns(variables, kinds)
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        sizes = ", ".join(f"{name} {length}" for name, length in list(lengths.items())[:8])
        raise unreadable(f"its variables are no columns of one table: their lengths differ ({sizes})", _ONE_LENGTH)
    return TableData(pa.table(columns), TableMeta(source="mat"))


_ONE_LENGTH = "save only the columns: save('-v7', 'file.mat', 'x', 'y')"


def _columns(variables: dict[str, Any], kinds: dict[str, str]) -> dict[str, ArrowColumn]:
    if len(variables) == 1:
        [(name, value)] = variables.items()
        if value.dtype.names is not None:
            if value.size != 1:
                raise unreadable(f"'{name}' is an array of {value.size} structs", "save a struct of columns")
            return {str(part): _column(str(part), value[part].flat[0], "") for part in value.dtype.names}
        if value.ndim == 2 and min(value.shape) > 1 and value.dtype.kind in "iufb":
            # As MATLAB's array2table names them.
            return {
                f"{name}{index + 1}": _column(name, value[:, [index]], kinds.get(name, ""))
                for index in range(value.shape[1])
            }
    return {name: _column(name, value, kinds.get(name, "")) for name, value in variables.items()}


def _column(name: str, value: Any, kind: str) -> ArrowColumn:
    if not isinstance(value, np.ndarray):
        raise unreadable(f"variable '{name}' is sparse or of an unknown kind", _ONE_LENGTH)
    array = cast("np.ndarray[Any, Any]", value)
    if array.dtype.kind in "US":
        return pa.array([str(text).rstrip() if len(array) > 1 else str(text) for text in array.flat], pa.string())
    if array.ndim > 2 or (array.ndim == 2 and array.size and min(array.shape) != 1):
        shape = "x".join(str(size) for size in array.shape)
        raise unreadable(f"variable '{name}' is a {shape} array among others", _ONE_LENGTH)
    flat = array.reshape(-1)
    if array.dtype == object:
        return pa.array([_cell(name, cell) for cell in flat], pa.string())
    if array.dtype.kind not in "iufb":
        raise unreadable(f"variable '{name}' is complex or of another kind that a table has not", _ONE_LENGTH)
    if kind == "logical":
        return pa.array(flat.astype(bool))
    native = flat.astype(flat.dtype.newbyteorder("="))
    return pa.array(native, mask=np.isnan(native)) if native.dtype.kind == "f" else pa.array(native)


def _cell(name: str, cell: Any) -> str:
    if isinstance(cell, np.ndarray):
        array = cast("np.ndarray[Any, Any]", cell)
        if array.dtype.kind == "U" and array.size <= 1:
            return str(array.flat[0]) if array.size else ""
        if array.size == 0:
            return ""
    raise unreadable(f"cell array '{name}' holds something that is no text", "make it a cellstr or a numeric vector")
