"""Reading SPSS, Stata and SAS files through pyreadstat, with everything they say about their columns."""

from pathlib import Path
from typing import Any

from groundplane.data.errors import unreadable
from groundplane.data.libraries import ArrowColumn, library, pa
from groundplane.data.losses import Losses
from groundplane.data.meta import Code, ColumnMeta, TableMeta
from groundplane.data.stat_times import Family, from_program, kind_of
from groundplane.data.table import TableData

FAMILIES: dict[str, Family] = {
    "sav": "spss",
    "zsav": "spss",
    "dta": "stata",
    "xpt": "sas",
    "sas7bdat": "sas",
}
_READERS = {"sav": "read_sav", "zsav": "read_sav", "dta": "read_dta", "xpt": "read_xport", "sas7bdat": "read_sas7bdat"}


def read(path: Path, ending: str) -> TableData:
    """Read a sav, zsav, dta, xpt or sas7bdat file. Raises `ConversionError` (unreadable_table)."""
    pyreadstat = library("pyreadstat")
    # Without `user_missing` a code such as 99 "refused" would be NaN, and its meaning gone.
    options = {} if ending == "xpt" else {"user_missing": True}
    try:
        values, found = getattr(pyreadstat, _READERS[ending])(
            str(path), output_format="dict", disable_datetime_conversion=True, **options
        )
    except (pyreadstat.ReadstatError, pyreadstat.PyreadstatError, UnicodeDecodeError) as error:
        raise unreadable(
            f"it is no valid {ending} file: {error}", "is it damaged or half-written, or not what its ending says?"
        ) from error
    if not values:
        raise unreadable("it holds no columns")
    losses = Losses()
    family = FAMILIES[ending]
    columns: dict[str, ArrowColumn] = {}
    metas: dict[str, ColumnMeta] = {}
    for name, raw in values.items():
        columns[name] = _column(name, raw, found, family, losses)
        metas[name] = _meta(name, found, family)
        if family == "stata" and _period(metas[name].display):
            losses.column(f"the format {metas[name].display}", name, "only its numbers are kept")
    for said, what in ((found.notes, "the file's notes"), (found.mr_sets, "multiple response sets")):
        if said:
            losses.note(f"{what} (only kept in the file itself)")
    meta = TableMeta(source=ending, label=found.file_label or None, columns=metas)
    return TableData(pa.table(columns), meta, tuple(losses.sentences()))


def _column(name: str, raw: list[Any], found: Any, family: Family, losses: Losses) -> ArrowColumn:
    stored: str = found.readstat_variable_types[name]
    if stored == "string":
        return pa.array(["" if value is None else value for value in raw], pa.string())
    if tags := found.missing_user_values.get(name):
        # Stata's .a to .z and SAS's .A to ._ have no value of their own, so that there is nothing else to keep.
        losses.column(f"the reasons {', '.join(f'.{tag}' for tag in tags)}", name, "they became plain missing")
        raw = [None if isinstance(value, str) else value for value in raw]
    kind = kind_of(found.original_variable_types.get(name), family)
    if kind == "number":
        return pa.array(raw, pa.float64() if stored in ("double", "float") else pa.int64())
    numbers = pa.array(raw, pa.float64()).to_numpy(zero_copy_only=False)
    return from_program(numbers, kind, family, name)


def _meta(name: str, found: Any, family: Family) -> ColumnMeta:
    text = found.readstat_variable_types[name] == "string"
    labels: dict[Code, str] = found.variable_value_labels.get(name, {})
    codes: list[Code] = []
    ranges: list[tuple[float, float]] = []
    for entry in found.missing_ranges.get(name, []):
        low, high = entry["lo"], entry["hi"]
        if low == high:
            codes.append(low if isinstance(low, str) else _number(low))
        else:
            # LOWEST and HIGHEST are stored as the outermost doubles.
            ranges.append((float("-inf") if low < -1e300 else low, float("inf") if high > 1e300 else high))
    measure = found.variable_measure.get(name)
    display = found.original_variable_types.get(name)
    return ColumnMeta(
        label=found.column_names_to_labels.get(name) or None,
        # A label of a tagged missing value (".a") goes with the tag, which is reported.
        value_labels=tuple(
            (value if isinstance(value, str) else _number(value), label)
            for value, label in labels.items()
            if text or not isinstance(value, str)
        ),
        missing_codes=tuple(codes),
        missing_ranges=tuple(ranges),
        measure=measure if family == "spss" and measure in ("nominal", "ordinal", "scale") else None,
        display=None if text else display,
    )


def _number(value: float) -> Code:
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else float(value)


def _period(display: str | None) -> bool:
    """Tell whether a Stata format counts weeks, months, quarters, half-years or years."""
    return bool(display) and str(display).lstrip("%-")[:2] in ("tw", "tm", "tq", "th", "ty")
