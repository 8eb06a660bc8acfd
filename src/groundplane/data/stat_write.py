"""Writing SPSS, Stata and SAS transport files through pyreadstat."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from groundplane.data.errors import refused
from groundplane.data.libraries import ArrowColumn, ArrowType, Doubles, is_text, library, pa, pc
from groundplane.data.losses import Holds, Losses, note_metadata
from groundplane.data.meta import Code, ColumnMeta
from groundplane.data.stat_names import XPT5_LABEL, XPT5_NAME, XPT5_TEXT, check_names, shortened
from groundplane.data.stat_read import FAMILIES
from groundplane.data.stat_times import WRITTEN, Family, finest, kind_of, kind_of_column, to_program
from groundplane.data.table import TableData, as_doubles, check_no_nul, note_missing_text, plain, utc_note

_HOLDS = {
    "spss": Holds(labels=True, value_labels=True, missing_codes=True, measure=True, table_label=True),
    "stata": Holds(labels=True, value_labels=True, table_label=True),
    "sas": Holds(labels=True, table_label=True),
}
_LONGEST_TEXT = {"spss": 32_767, "stata": 2_000_000_000, "sas": 32_767}  # bytes
_LABEL = {"spss": 255, "stata": 80, "sas": 255}  # bytes; Stata counts characters, of which there are never more
_VALUE_LABEL = {"spss": 120, "stata": 32_000, "sas": 0}  # bytes
_TABLE_LABEL = {"spss": 64, "stata": 80, "sas": 40}
_STATA_LONG = (-2_147_483_647, 2_147_483_620)
# Stata takes doubles beyond this for missing values. The IBM doubles of xpt end at 2**252, but ReadStat turns all from
# 2**249 on into infinity and all below 2**-260 into nothing (measured with pyreadstat 1.3.7).
_LARGEST = {"spss": 1.7e308, "stata": 8.98e307, "sas": math.nextafter(2.0**249, 0)}
_SMALLEST_IBM = 2.0**-260
_SPSS_EPOCH_SECOND = 86_400  # the first day that SPSS can show, 15 October 1582


@dataclass(slots=True)
class _File:
    """What pyreadstat is told, filled column by column."""

    ending: str
    family: Family
    losses: Losses
    columns: dict[str, Any] = field(default_factory=dict[str, Any])
    dtypes: dict[str, str] = field(default_factory=dict[str, str])
    formats: dict[str, str] = field(default_factory=dict[str, str])
    value_labels: dict[str, dict[Code, str]] = field(default_factory=dict[str, dict[Code, str]])
    missing: dict[str, list[Any]] = field(default_factory=dict[str, list[Any]])
    measures: dict[str, str] = field(default_factory=dict[str, str])
    labels: dict[str, str] = field(default_factory=dict[str, str])
    widths: dict[str, int] = field(default_factory=dict[str, int])  # bytes of the longest text


def write(data: TableData, path: Path, ending: str) -> list[str]:
    """Write a sav, zsav, dta or xpt file; return what was lost. Raises `ConversionError` (refused)."""
    family = FAMILIES[ending]
    losses = Losses(data.lost)
    note_metadata(losses, data.meta, data.arrow, ending, _HOLDS[family])
    data = plain(data, ending, losses)
    check_names(data.arrow.column_names, ending)
    file = _File(ending, family, losses)
    same_family = data.meta.source is not None and FAMILIES.get(data.meta.source) == family
    for name in data.arrow.column_names:
        meta = data.meta.column(name)
        display = meta.display if same_family else None
        _add(file, name, data.arrow.column(name), meta, display)
    _save(file, path, data.meta.label)
    return losses.sentences()


def _add(file: _File, name: str, column: ArrowColumn, meta: ColumnMeta, display: str | None) -> None:
    kind: ArrowType = column.type
    if meta.label:
        file.labels[name] = _cut(file, meta.label, _LABEL[file.family], "the end of the label", name)
    if meta.measure and _HOLDS[file.family].measure:
        file.measures[name] = meta.measure
    if is_text(kind):
        _add_text(file, name, column, meta)
    elif pa.types.is_dictionary(kind):
        _add_categories(file, name, column)
    elif kind_of_column(kind) != "number":
        _add_times(file, name, column, display)
        if meta.value_labels and _HOLDS[file.family].value_labels:
            file.losses.column("value labels", name, f"{file.ending} holds none for dates and times")
    else:
        _add_numbers(file, name, column, meta, display)


def _add_text(file: _File, name: str, column: ArrowColumn, meta: ColumnMeta) -> None:
    check_no_nul(name, column, file.ending)
    note_missing_text(name, column, file.ending, file.losses)
    text = column.fill_null("")
    longest = pc.max(pc.binary_length(text)).as_py() or 0
    if longest > _LONGEST_TEXT[file.family]:
        raise refused(
            f"column '{name}' holds a text of {longest} bytes; {file.ending} holds {_LONGEST_TEXT[file.family]}",
            "shorten it, or hand the table over as parquet or csv",
        )
    if file.family != "stata" and pc.any(pc.ends_with(text, " ")).as_py():
        file.losses.column("trailing spaces", name, f"{file.ending} pads text with spaces")
    if file.family == "sas" and not pc.all(pc.string_is_ascii(text)).as_py():
        file.losses.column("the encoding", name, "xpt states none; its text is UTF-8, so read it as that")
    file.columns[name], file.dtypes[name] = text.to_pylist(), "str"
    file.widths[name] = longest
    if not _HOLDS[file.family].value_labels:
        return
    if file.family == "spss":
        if labels := {code: text for code, text in meta.value_labels if isinstance(code, str)}:
            file.value_labels[name] = _cut_labels(file, name, labels)
        _add_missing(file, name, meta, str)
    elif meta.value_labels:
        file.losses.column("value labels", name, f"{file.ending} holds them for numbers only")


def _add_categories(file: _File, name: str, column: ArrowColumn) -> None:
    one = column.combine_chunks()
    one = one.chunk(0) if isinstance(one, pa.ChunkedArray) else one
    check_no_nul(name, one.dictionary, file.ending)
    levels: list[str] = one.dictionary.to_pylist()
    if not _HOLDS[file.family].value_labels:
        file.losses.column("categories and their order", name, f"{file.ending} holds their text only")
        _add_text(file, name, column.cast(pa.string()), ColumnMeta())
        return
    numbers = pc.add(one.indices.cast(pa.int64()), 1)
    file.columns[name], file.dtypes[name] = _integers(file, numbers)
    file.formats[name] = _format(file, numbers.cast(pa.float64()).to_numpy(zero_copy_only=False))
    file.value_labels[name] = _cut_labels(file, name, {index + 1: level for index, level in enumerate(levels)})
    if file.family == "spss":
        file.measures[name] = "ordinal" if column.type.ordered else "nominal"
    elif column.type.ordered:
        file.losses.column(
            "the mark 'ordered'", name, f"{file.ending} keeps the categories in order and holds no such mark"
        )


def _add_times(file: _File, name: str, column: ArrowColumn, display: str | None) -> None:
    kind = kind_of_column(column.type)
    if kind == "datetime":
        utc_note(name, column.type, file.ending, file.losses)
        fine = finest(column)
        if fine == "nanoseconds" or (fine and file.family == "spss"):
            file.losses.column(fine, name, f"{file.ending} rounds them")
    if pa.types.is_duration(column.type) and file.family == "stata":
        file.losses.column("the unit", name, "dta shows the duration as a time of day")
    numbers = to_program(column, file.family)
    if file.family == "spss" and kind != "time" and bool(np.any(numbers < _SPSS_EPOCH_SECOND)):
        raise refused(
            f"column '{name}' has a date before 15 October 1582, where SPSS begins", "keep such dates as text"
        )
    file.columns[name], file.dtypes[name] = numbers, "float64"
    keep = display is not None and kind_of(display, file.family) == kind
    file.formats[name] = display if keep and display else WRITTEN[file.family][kind]


def _add_numbers(file: _File, name: str, column: ArrowColumn, meta: ColumnMeta, display: str | None) -> None:
    kind: ArrowType = column.type
    if pa.types.is_boolean(kind):
        file.losses.column("the type true/false", name, f"{file.ending} holds 1 and 0")
    doubles = as_doubles(name, column, file.ending, file.losses)
    _check_range(file, name, doubles)
    whole = not np.any(np.isfinite(doubles) & (doubles != np.floor(doubles)))
    labelled = bool(meta.value_labels) and file.family == "stata"
    small = _within(doubles, *_STATA_LONG)
    if file.family == "stata" and small and whole and (labelled or not pa.types.is_floating(kind)):
        file.columns[name], file.dtypes[name] = _integers(file, pa.array(doubles, from_pandas=True).cast(pa.int64()))
    else:
        file.columns[name], file.dtypes[name] = doubles, "float64"
    keep = display is not None and kind_of(display, file.family) == "number" and file.family != "sas"
    file.formats[name] = display if keep and display else _format(file, doubles)
    if file.family == "spss":
        _add_missing(file, name, meta, float)
    if meta.value_labels and _HOLDS[file.family].value_labels:
        _add_number_labels(file, name, meta)


def _add_number_labels(file: _File, name: str, meta: ColumnMeta) -> None:
    numbers = {code: label for code, label in meta.value_labels if not isinstance(code, str)}
    if file.family == "stata":
        low, high = _STATA_LONG
        numbers = {int(code): label for code, label in numbers.items() if int(code) == code and low <= code <= high}
        if file.dtypes[name] != "Int32":
            numbers = {}
    if numbers:
        file.value_labels[name] = _cut_labels(file, name, numbers)
    if len(numbers) < len(meta.value_labels):
        file.losses.column("value labels", name, f"{file.ending} holds them for whole numbers only")


def _add_missing(file: _File, name: str, meta: ColumnMeta, kind: type) -> None:
    """Declare SPSS's user-missing values: three codes, or one range and one code; a text code has at most 8 bytes."""
    if not meta.has_missing:
        return
    codes = [code for code in meta.missing_codes if isinstance(code, str) == (kind is str)]
    entries: list[Any] = [{"lo": low, "hi": high} for low, high in meta.missing_ranges] if kind is float else []
    room = 1 if entries else 3
    too_long = any(isinstance(code, str) and len(code.encode()) > 8 for code in codes)
    dropped = len(meta.missing_codes) + len(meta.missing_ranges) - len(codes) - len(entries)
    if len(entries) > 1 or len(codes) > room or too_long or dropped:
        file.losses.column("missing codes", name, "SPSS holds three, or a range and one, of at most 8 bytes")
        return
    file.missing[name] = [*entries, *codes]


def _check_range(file: _File, name: str, values: Doubles) -> None:
    size = np.abs(values[~np.isnan(values)])
    beyond = size > _LARGEST[file.family]
    if file.family == "sas":
        beyond |= (size > 0) & (size < _SMALLEST_IBM)
    if bool(np.any(beyond)):
        raise refused(
            f"column '{name}' holds {float(size[beyond][0])!r} (or its negative), which {file.ending} cannot hold",
            "make infinite and extreme values missing, or hand the table over as parquet or csv",
        )


def _integers(file: _File, numbers: ArrowColumn) -> tuple[Any, str]:
    if file.family == "stata":
        return numbers.to_pylist(), "Int32"
    return numbers.cast(pa.float64()).to_numpy(zero_copy_only=False), "float64"


def _within(values: Doubles, low: float, high: float) -> bool:
    known = values[~np.isnan(values)]
    return not known.size or bool(known.min() >= low and known.max() <= high)


def _format(file: _File, values: Doubles) -> str:
    """Choose how a number is shown: SPSS would show everything with two decimals, and .001 as .00."""
    if file.family == "stata":
        return "%12.0g"
    if file.family == "sas":
        return "BEST12"
    known = values[np.isfinite(values)]
    largest = float(np.max(np.abs(known))) if known.size else 0.0
    if largest >= 1e30:  # SPSS shows at most 40 characters
        return "E24.16"
    decimals = next((digits for digits in range(7) if bool(np.all(np.round(known, digits) == known))), 6)
    width = len(f"{largest:.0f}") + 1 + (decimals + 1 if decimals else 0)
    return f"F{max(8, width)}.{decimals}"


def _cut_labels(file: _File, name: str, labels: dict[Any, str]) -> dict[Any, str]:
    limit = _VALUE_LABEL[file.family]
    return {code: _cut(file, text, limit, "the end of value labels", name) for code, text in labels.items()}


def _cut(file: _File, text: str, limit: int, what: str, name: str) -> str:
    short = shortened(text, limit)
    if short != text:
        file.losses.column(what, name, f"{file.ending} holds {limit} bytes")
    if short.endswith(" "):
        file.losses.column("trailing spaces in labels", name, f"{file.ending} holds none")
    return short


def _save(file: _File, path: Path, table_label: str | None) -> None:
    pandas, pyreadstat = library("pandas"), library("pyreadstat")
    frame = pandas.DataFrame(
        {name: pandas.Series(file.columns[name], dtype=file.dtypes[name]) for name in file.columns}
    )
    label = shortened(table_label or "", _TABLE_LABEL[file.family])
    common = {"file_label": label, "column_labels": file.labels, "variable_format": file.formats}
    if file.family == "spss":
        pyreadstat.write_sav(
            frame,
            str(path),
            compress=file.ending == "zsav",
            row_compress=file.ending == "sav",
            variable_value_labels=file.value_labels,
            missing_ranges=file.missing,
            variable_measure=file.measures,
            **common,
        )
    elif file.family == "stata":
        # Version 118 (Stata 14): the first in UTF-8, and the newest that every reader has.
        pyreadstat.write_dta(frame, str(path), version=14, variable_value_labels=file.value_labels, **common)
    else:
        _check_blank_end(file)
        pyreadstat.write_xport(frame, str(path), file_format_version=_xpt_version(file), table_name="DATASET", **common)


def _xpt_version(file: _File) -> int:
    """Choose version 5, which every SAS reads, unless something does not fit."""
    long = [name for name in file.columns if len(name) > XPT5_NAME]
    long += [name for name, label in file.labels.items() if len(label.encode()) > XPT5_LABEL and name not in long]
    long += [name for name, width in file.widths.items() if width > XPT5_TEXT and name not in long]
    for name in long:
        file.losses.column(
            "version 5", name, "a long name, label or text needs version 8: in SAS use %XPT2LOC, not the XPORT engine"
        )
    return 8 if long else 5


def _check_blank_end(file: _File) -> None:
    """Refuse a table whose last rows are all blank text: in xpt they look like the padding at the end of the file."""
    if all(dtype == "str" for dtype in file.dtypes.values()):
        last = [texts[-1] for texts in file.columns.values() if texts]
        if last and not any(text.strip(" ") for text in last):
            raise refused("the last row is empty text, which xpt cannot tell from the file's end", "drop empty rows")
