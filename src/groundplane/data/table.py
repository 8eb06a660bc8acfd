"""A table in memory, and bringing it to the few column types that formats other than arrow's own can hold."""

import json
import re
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from groundplane.data.errors import refused
from groundplane.data.libraries import ArrowColumn, ArrowTable, ArrowType, Doubles, is_text, pa, pc
from groundplane.data.losses import Losses, quoted
from groundplane.data.meta import TableMeta

EXACT = 2**53
"""Every whole number up to this one is exact in a double; beyond it some are rounded."""

_UNNAMED_INDEX = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True, slots=True)
class TableData:
    """A table in memory: its columns, what it knows about itself, and what reading it lost (sentences)."""

    arrow: ArrowTable
    meta: TableMeta
    lost: tuple[str, ...] = ()


def plain(data: TableData, target: str, losses: Losses) -> TableData:
    """Bring every column to null, bool, integer, float, decimal, text, category of text, date, timestamp, time or
    duration, one chunk each where possible.

    Raises `ConversionError` (refused) for columns that no such format can hold: lists, structures, bytes.
    """
    table: ArrowTable = _without_unnamed_index(data.arrow, losses)
    if table.num_columns == 0:
        raise refused("the table has no columns", f"{target} cannot hold a table without columns")
    names: list[str] = list(table.column_names)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise refused(f"two columns are called {quoted(twice)}", "rename one of them")
    columns = [_plain_column(name, table.column(name), target, losses) for name in names]
    return replace(data, arrow=pa.table(columns, names=names))


def _without_unnamed_index(table: ArrowTable, losses: Losses) -> ArrowTable:
    """Drop what pandas writes for an index without a name: nobody asked for a column `__index_level_0__`."""
    try:
        metadata: dict[bytes, bytes] = table.schema.metadata or {}
        index_columns: list[Any] = json.loads(metadata.get(b"pandas", b"{}")).get("index_columns", [])
    except (ValueError, AttributeError):  # not written by pandas: then it names no index
        return table
    for entry in index_columns:
        # An index that counts evenly is only described there and is no column at all; with a name it was meant as one.
        if isinstance(entry, dict) and (called := cast("dict[str, Any]", entry).get("name")) is not None:
            losses.note(f"the row names '{called}': a pandas index (reset_index() makes it a column)")
    unnamed = [name for name in index_columns if isinstance(name, str) and _UNNAMED_INDEX.fullmatch(name)]
    unnamed = [name for name in unnamed if name in table.column_names]
    if not unnamed or len(unnamed) == table.num_columns:
        return table
    losses.note("the row names: a pandas index without a name (reset_index() makes it a column)")
    return table.drop_columns(unnamed)


def _plain_column(name: str, column: ArrowColumn, target: str, losses: Losses) -> ArrowColumn:
    kind: ArrowType = column.type
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        losses.column("the type", name, f"{kind.extension_name} became {kind.storage_type}")
        return _plain_column(name, column.cast(kind.storage_type), target, losses)
    if types.is_run_end_encoded(kind):
        return _plain_column(
            name,
            pa.chunked_array([pc.run_end_decode(chunk) for chunk in column.chunks], kind.value_type),
            target,
            losses,
        )
    if types.is_dictionary(kind):
        if types.is_null(kind.value_type) or not is_text(_narrow_text(kind.value_type)):
            losses.column("categories and their order", name, f"{target} holds categories of text only")
            return _plain_column(name, column.cast(kind.value_type), target, losses)
        return _plain_categories(column)
    if is_text(_narrow_text(kind)):
        return column.cast(_narrow_text(kind))
    if types.is_float16(kind):
        return column.cast(pa.float32())
    if types.is_date64(kind):
        return column.cast(pa.date32())
    if types.is_time(kind):
        return _microseconds(name, column, pa.time64("us"), target, losses)
    if types.is_duration(kind):
        return _microseconds(name, column, pa.duration("us"), target, losses)
    if types.is_null(kind) or types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind):
        return column
    if types.is_decimal(kind) or types.is_date(kind) or types.is_timestamp(kind):
        return column
    raise refused(
        f"column '{name}' is of type {kind}, which {target} cannot hold",
        "split it into plain columns, or hand the table over as parquet or feather",
    )


def _narrow_text(kind: ArrowType) -> ArrowType:
    # Casting a view needs an offset width: the large one never overflows.
    return pa.large_string() if pa.types.is_string_view(kind) else kind


def _microseconds(name: str, column: ArrowColumn, kind: ArrowType, target: str, losses: Losses) -> ArrowColumn:
    whole = column.cast(kind, safe=False)
    if column.type.unit == "ns" and not column.equals(whole.cast(column.type)):
        losses.column("nanoseconds", name, f"{target} holds microseconds at best")
    return whole


def _plain_categories(column: ArrowColumn) -> ArrowColumn:
    """Give a category column one chunk, int32 codes, and levels that are text, distinct and never null."""
    one = pa.table([column], names=["x"]).unify_dictionaries().column(0).combine_chunks()
    levels = one.dictionary.cast(pa.string())
    if levels.null_count or len(levels.unique()) != len(levels):
        values = levels.take(one.indices)
        levels = levels.unique().drop_null()
        codes = pc.index_in(values, value_set=levels)
        # index_in finds a null nowhere and says null: just what a category without value is.
    else:
        codes = one.indices
    built = pa.DictionaryArray.from_arrays(codes.cast(pa.int32()), levels, ordered=column.type.ordered)
    return pa.chunked_array([built])


def as_doubles(name: str, column: ArrowColumn, target: str, losses: Losses) -> Doubles:
    """Return a bool, number or all-null column as doubles, NaN where there is no value.

    Raises `ConversionError` (refused) when a whole number would be rounded: an identifier that changes is corruption.
    """
    kind: ArrowType = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_integer(kind):
        check_exact(name, column, target)
    if pa.types.is_decimal(kind):
        losses.column("decimal digits", name, f"{target} holds doubles")
        column = column.cast(pa.float64(), safe=False)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    if pa.types.is_floating(kind) and pc.any(pc.is_nan(column)).as_py():
        losses.column("NaN", name, f"{target} has one missing value for NaN and missing")
    values: Doubles = column.cast(pa.float64(), safe=False).to_numpy()
    return values


def check_exact(name: str, column: ArrowColumn, target: str) -> None:
    """Raise `ConversionError` (refused) for an integer column with a value that a double would round."""
    bounds = pc.min_max(column).as_py()
    if bounds["min"] is None or (bounds["min"] >= -EXACT and bounds["max"] <= EXACT):
        return
    for value in column.filter(pc.or_(pc.greater(column, EXACT), pc.less(column, -EXACT))).to_pylist():
        if int(float(value)) != value:
            raise refused(
                f"column '{name}' holds {value}, which {target} would round to {int(float(value))}",
                "make the column text before handing it over",
            )


def check_no_nul(name: str, column: ArrowColumn, target: str) -> None:
    """Raise `ConversionError` (refused) for text with a NUL character: C readers cut it there without a word."""
    if pc.any(pc.match_substring(column, "\0")).as_py():
        raise refused(
            f"text in column '{name}' holds a NUL character, where {target} would cut it", "remove it from the text"
        )


def note_missing_text(name: str, column: ArrowColumn, target: str, losses: Losses) -> None:
    """Note a text column that has missing values, for a target where missing text and empty text are one."""
    if column.null_count:
        losses.column("missing text", name, f"{target} holds empty text instead")


def utc_note(name: str, kind: ArrowType, target: str, losses: Losses) -> None:
    """Note the time zone of a timestamp column, for a target that holds none and gets UTC."""
    if kind.tz is not None and kind.tz != "UTC":
        losses.column(f"the time zone {kind.tz}", name, f"{target} holds none; times are in UTC")
    elif kind.tz is not None:
        losses.column("the time zone UTC", name, f"{target} holds none; times are still in UTC")
