"""R data frames: their columns to and from arrow's.

factor <-> category (levels in order, ordered or not), Date <-> date32, POSIXct <-> timestamp with time zone,
difftime <-> duration and hms <-> time of day, integer64 -> int64. Labels travel as plain attributes (`label`,
`labels`, `na_values`, `na_range`, `measure`), which haven and labelled use too; no class is set, since base R then
still computes.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from groundplane.data.errors import ConversionError, refused, unreadable
from groundplane.data.libraries import ArrowColumn, ArrowType, Integers, is_text, pa, pc
from groundplane.data.losses import Holds, Losses, note_codes_in_use, note_metadata, quoted
from groundplane.data.meta import Code, ColumnMeta, TableMeta
from groundplane.data.r_stream import NA_INTEGER, RPairs, RStreamError, RVector, is_na_real, load, na_real, save
from groundplane.data.table import TableData, as_doubles, check_exact, check_no_nul, plain

_INT32 = 2**31 - 1
_MICRO = 1_000_000
_UNITS = {"secs": 1, "mins": 60, "hours": 3600, "days": 86_400, "weeks": 604_800}
_AS_TABLE = "save a data frame: saveRDS(as.data.frame(x), file)"


def read(path: Path, ending: str) -> TableData:
    """Read a data frame from an .rds file, or the only one in a workspace. Raises `ConversionError`
    (unreadable_table), also for lists, models and everything else that is no table."""
    try:
        value = load(path)
    except RStreamError as error:
        raise unreadable(f"it is not a table: {error}", _AS_TABLE) from error
    if isinstance(value, RPairs) and ending != "rds":
        value = _only_frame(value)
    if not isinstance(value, RVector) or "data.frame" not in value.classes:
        raise unreadable(f"it is not a table: it holds {_described(value)}", _AS_TABLE)
    losses = Losses()
    names = value.attributes.get("names")
    if not value.values or not isinstance(names, RVector):
        raise unreadable("it is a data frame without columns", _AS_TABLE)
    columns: dict[str, ArrowColumn] = {}
    metas: dict[str, ColumnMeta] = {}
    for name, vector in zip(names.values, value.values, strict=True):
        if name in columns:
            raise unreadable(f"two columns are called '{name}'", "give every column a name of its own")
        columns[name] = _column(str(name), vector, losses)
        metas[name] = _meta(vector)
    rows = value.attributes.get("row.names")
    if isinstance(rows, RVector) and rows.kind == "character" and len(rows.values):
        losses.note(f"the row names ('{rows.values[0]}', …); make them a column to keep them")
    return TableData(pa.table(columns), TableMeta(source="rds", columns=metas), tuple(losses.sentences()))


def _only_frame(workspace: RPairs) -> Any:
    frames = [value for _, value in workspace.pairs if isinstance(value, RVector) and "data.frame" in value.classes]
    if len(frames) != 1:
        names = quoted([name or "?" for name, _ in workspace.pairs])
        raise unreadable(f"it holds {len(frames)} data frames ({names})", "save one with saveRDS()")
    return frames[0]


def _described(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, RVector):
        if value.classes:
            return f"an object of class {' '.join(value.classes)}"
        if "dim" in value.attributes:
            return f"a {value.kind} matrix or array"
        return "a list" if value.kind == "list" else f"a {value.kind} vector"
    return "a workspace" if isinstance(value, RPairs) else f"a {value.what}"


def _column(name: str, vector: Any, losses: Losses) -> ArrowColumn:
    if not isinstance(vector, RVector) or vector.kind in ("list", "complex", "raw", "expression"):
        raise unreadable(f"column '{name}' is {_described(vector)}", "keep only columns of plain values")
    if "dim" in vector.attributes:
        raise unreadable(f"column '{name}' is a matrix", "make each of its columns a column of the data frame")
    classes = vector.classes
    if vector.kind == "character":
        return pa.array(vector.values, pa.string())
    if "factor" in classes:
        return _factor(vector)
    if "integer64" in classes:
        values = vector.values.view(np.int64)
        return pa.array(values, mask=values == np.iinfo(np.int64).min)
    if vector.kind == "logical":
        return pa.array(vector.values != 0, mask=vector.values == NA_INTEGER)
    missing = vector.values == NA_INTEGER if vector.kind == "integer" else is_na_real(vector.values)
    if "Date" in classes:
        return _dates(name, vector, losses)
    if "POSIXct" in classes:
        return _moments(name, vector, losses)
    if "difftime" in classes:
        return _differences(vector)
    return pa.array(vector.values, mask=missing)


def _factor(vector: RVector) -> ArrowColumn:
    codes = vector.values.astype(np.int32)
    missing = codes == NA_INTEGER
    levels = vector.attributes.get("levels")
    texts: Any = levels.values if isinstance(levels, RVector) else []
    indices = pa.array(np.where(missing, 0, codes - 1).astype(np.int32), mask=missing)
    return pa.DictionaryArray.from_arrays(indices, pa.array(texts, pa.string()), ordered="ordered" in vector.classes)


def _counts(vector: RVector) -> tuple[Any, Any]:
    """Return the numbers of a date, moment or difference as doubles, and which are missing (NA or not finite)."""
    values = vector.values.astype(np.float64)
    missing = vector.values == NA_INTEGER if vector.kind == "integer" else ~np.isfinite(values)
    return np.where(missing, 0.0, values), missing


def _dates(name: str, vector: RVector, losses: Losses) -> ArrowColumn:
    days, missing = _counts(vector)
    if np.any(days != np.floor(days)):
        losses.column("the fraction of a day", name, "a date has none")
    return pa.array(np.floor(days).astype(np.int32), mask=missing).cast(pa.date32())


def _moments(name: str, vector: RVector, losses: Losses) -> ArrowColumn:
    seconds, missing = _counts(vector)
    zone = vector.attributes.get("tzone")
    named = zone.values[0] if isinstance(zone, RVector) and zone.values and zone.values[0] else None
    if named is None:
        losses.column("the time zone", name, "R recorded none; times are in UTC")
    micros = _whole_micros(seconds)
    column = pa.array(micros, mask=missing).cast(pa.timestamp("us", "UTC"))
    if named in (None, "UTC", "GMT"):
        return column
    try:
        pc.hour(column.cast(pa.timestamp("us", named)))
    except pa.ArrowException:
        losses.column(f"the time zone {named}", name, "it is not known here; times are in UTC")
        return column
    return column.cast(pa.timestamp("us", named))


def _whole_micros(seconds: Any) -> Integers:
    """Seconds to microseconds; next to a whole millisecond, that one is meant (a double is off by a fraction)."""
    micros: Integers = np.round(np.asarray(seconds, dtype=np.float64) * _MICRO).astype(np.int64)
    millis: Integers = np.round(micros / 1_000).astype(np.int64) * 1_000
    return np.where(np.abs(micros - millis) <= 1, millis, micros)


def _differences(vector: RVector) -> ArrowColumn:
    units = vector.attributes.get("units")
    factor = _UNITS.get(units.values[0] if isinstance(units, RVector) else "secs", 1)
    numbers, missing = _counts(vector)
    micros = _whole_micros(numbers * factor)
    clock = "hms" in vector.classes and bool(np.all((micros >= 0) & (micros < 86_400 * _MICRO)))
    return pa.array(micros, mask=missing).cast(pa.time64("us") if clock else pa.duration("us"))


def _meta(vector: RVector) -> ColumnMeta:
    attributes = vector.attributes
    labels = attributes.get("labels")
    pairs: list[tuple[Code, str]] = []
    if isinstance(labels, RVector) and isinstance(names := labels.attributes.get("names"), RVector):
        pairs = [(code, str(name)) for code, name in zip(_codes(labels), names.values, strict=True) if code is not None]
    missing, span = attributes.get("na_values"), attributes.get("na_range")
    codes = [code for code in _codes(missing) if code is not None] if isinstance(missing, RVector) else []
    ends = [float(end) for end in span.values] if isinstance(span, RVector) and span.kind != "character" else []
    measure = _one_text(attributes.get("measure"))
    return ColumnMeta(
        label=_one_text(attributes.get("label")),
        value_labels=tuple(pairs),
        missing_codes=tuple(codes),
        missing_ranges=((ends[0], ends[1]),) if len(ends) == 2 else (),
        measure=measure if measure in ("nominal", "ordinal", "scale") else None,
    )


def _codes(vector: RVector) -> list[Code | None]:
    if vector.kind == "character":
        return list(vector.values)
    if vector.kind not in ("integer", "double", "logical"):
        return []
    numbers = [None if value != value or value == NA_INTEGER else value for value in vector.values.tolist()]
    return [int(value) if value is not None and float(value).is_integer() else value for value in numbers]


def _one_text(value: Any) -> str | None:
    return value.values[0] if isinstance(value, RVector) and value.kind == "character" and value.values else None


def write(data: TableData, path: Path) -> list[str]:
    """Write the table as a data frame; return what was lost. Raises `ConversionError` (refused)."""
    losses = Losses(data.lost)
    holds = Holds(labels=True, value_labels=True, missing_codes=True, measure=True)
    note_metadata(losses, data.meta, data.arrow, "rds", holds)
    note_codes_in_use(losses, data.meta, data.arrow, "kept as attributes; to base R they are ordinary values")
    data = plain(data, "rds", losses)
    table = data.arrow
    vectors: list[RVector] = []
    for name in table.column_names:
        vector = _vector(name, table.column(name), losses)
        _add_meta(name, vector, data.meta.column(name), losses)
        vectors.append(vector)
    frame = RVector("list", vectors)
    frame.attributes["names"] = _texts(list(table.column_names))
    frame.attributes["class"] = _texts(["data.frame"])
    frame.attributes["row.names"] = RVector("integer", [NA_INTEGER, -table.num_rows])
    save(frame, path)
    return losses.sentences()


def _texts(values: list[Any]) -> RVector:
    return RVector("character", values)


def _vector(name: str, column: ArrowColumn, losses: Losses) -> RVector:
    kind: ArrowType = column.type
    types = pa.types
    missing: Any = column.is_null().to_numpy().astype(bool)
    if is_text(kind):
        check_no_nul(name, column, "rds")
        return _texts(column.to_pylist())
    if types.is_dictionary(kind):
        return _factor_of(name, column)
    if types.is_null(kind):
        return RVector("logical", np.full(len(column), NA_INTEGER))
    if types.is_boolean(kind):
        return RVector("logical", np.where(missing, NA_INTEGER, column.fill_null(False).to_numpy().astype(np.int64)))
    if types.is_integer(kind):
        bounds = pc.min_max(column).as_py()
        if bounds["min"] is None or (bounds["min"] >= -_INT32 and bounds["max"] <= _INT32):
            return RVector("integer", np.where(missing, NA_INTEGER, column.fill_null(0).to_numpy().astype(np.int64)))
        check_exact(name, column, "rds")
        return _doubles(column.fill_null(0).to_numpy().astype(np.float64), missing)
    if types.is_floating(kind):
        return _doubles(column.fill_null(0.0).cast(pa.float64()).to_numpy(), missing)
    if types.is_decimal(kind):
        return _doubles(as_doubles(name, column, "rds", losses), missing)
    return _time_vector(name, column, missing, losses)


def _time_vector(name: str, column: ArrowColumn, missing: Any, losses: Losses) -> RVector:
    kind: ArrowType = column.type
    if pa.types.is_date(kind):
        vector = _doubles(column.cast(pa.int32()).fill_null(0).to_numpy().astype(np.float64), missing)
        vector.attributes["class"] = _texts(["Date"])
        return vector
    if pa.types.is_timestamp(kind):
        whole = column.cast(pa.timestamp("us", kind.tz), safe=False)
        if kind.unit == "ns" and not whole.cast(kind).equals(column):
            losses.column("nanoseconds", name, "rds holds microseconds at best")
        vector = _doubles(whole.cast(pa.int64()).fill_null(0).to_numpy() / _MICRO, missing)
        vector.attributes["class"] = _texts(["POSIXct", "POSIXt"])
        vector.attributes["tzone"] = _texts([_zone(name, kind.tz, losses)])
        return vector
    vector = _doubles(column.cast(pa.int64()).fill_null(0).to_numpy() / _MICRO, missing)
    clock = pa.types.is_time(kind)
    vector.attributes["class"] = _texts(["hms", "difftime"] if clock else ["difftime"])
    vector.attributes["units"] = _texts(["secs"])
    return vector


def _zone(name: str, zone: str | None, losses: Losses) -> str:
    if zone is None:
        losses.column("the lack of a time zone", name, "R always has one; it is marked UTC")
        return "UTC"
    if offset := re.fullmatch(r"([+-])(\d{2}):?(\d{2})", zone):
        sign, hours, minutes = offset.groups()
        if minutes == "00" and int(hours) <= 12:
            # R knows whole hours by POSIX names, whose sign is the other way round.
            return f"Etc/GMT{'-' if sign == '+' else '+'}{int(hours)}" if int(hours) else "UTC"
        losses.column(f"the time zone {zone}", name, "R knows no such zone; times are in UTC")
        return "UTC"
    return zone


def _doubles(values: Any, missing: Any) -> RVector:
    held = np.array(values, dtype=np.float64)
    held[missing] = np.array([na_real()], dtype=">f8").astype(np.float64)[0]
    return RVector("double", held)


def _factor_of(name: str, column: ArrowColumn) -> RVector:
    one = column.combine_chunks()
    one = one.chunk(0) if isinstance(one, pa.ChunkedArray) else one
    check_no_nul(name, one.dictionary, "rds")
    missing: Any = one.indices.is_null().to_numpy(zero_copy_only=False).astype(bool)
    codes = one.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64) + 1
    vector = RVector("integer", np.where(missing, NA_INTEGER, codes))
    vector.attributes["levels"] = _texts(one.dictionary.to_pylist())
    vector.attributes["class"] = _texts(["ordered", "factor"] if column.type.ordered else ["factor"])
    return vector


def _add_meta(name: str, vector: RVector, meta: ColumnMeta, losses: Losses) -> None:
    if meta.label:
        vector.attributes["label"] = _texts([meta.label])
    if meta.measure:
        vector.attributes["measure"] = _texts([meta.measure])
    if not meta.value_labels and not meta.has_missing:
        return
    if vector.attributes.get("class"):
        losses.column("value labels and missing codes", name, "rds holds them for numbers and text only")
        return
    if meta.value_labels:
        try:
            codes = _code_vector(vector, [code for code, _ in meta.value_labels])
        except ConversionError as error:
            losses.column("value labels", name, error.message)
        else:
            codes.attributes["names"] = _texts([label for _, label in meta.value_labels])
            vector.attributes["labels"] = codes
    if meta.missing_codes:
        try:
            vector.attributes["na_values"] = _code_vector(vector, list(meta.missing_codes))
        except ConversionError as error:
            losses.column("missing codes", name, error.message)
    if len(meta.missing_ranges) == 1:
        vector.attributes["na_range"] = RVector("double", np.array(meta.missing_ranges[0]))
    elif meta.missing_ranges:
        losses.column("missing ranges", name, "rds holds one")


def _code_vector(vector: RVector, codes: list[Code]) -> RVector:
    if vector.kind == "character" and all(isinstance(code, str) for code in codes):
        return _texts(list(codes))
    numbers = [code for code in codes if not isinstance(code, str)]
    if vector.kind == "character" or len(numbers) < len(codes):
        raise refused("the codes are of another type than the values")
    if vector.kind == "integer" and all(float(code).is_integer() and abs(code) <= _INT32 for code in numbers):
        return RVector("integer", np.array(numbers, dtype=np.int64))
    return RVector("double", np.array(numbers, dtype=np.float64))
