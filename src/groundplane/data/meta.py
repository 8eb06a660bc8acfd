"""What a table knows about itself beyond its values.

Carried in Parquet and Feather as JSON under the schema key `groundplane`, so that Parquet -> sav gives back the labels
that sav -> Parquet took along. Category order and time zones are not here: arrow's own types hold them.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Final, cast

SCHEMA_KEY: Final = b"groundplane"
_VERSION: Final = 1

Code = float | int | str
"""A value that stands for something: a number for numeric columns, text for text columns."""


@dataclass(frozen=True, slots=True)
class ColumnMeta:
    """What one column knows about itself.

    `value_labels` keep their order. `missing_ranges` are inclusive (low, high), with infinities for open ends.
    `measure` is `nominal`, `ordinal`, `scale` or None. `display` is the source's own display format, e.g. `F8.2`.
    """

    label: str | None = None
    value_labels: tuple[tuple[Code, str], ...] = ()
    missing_codes: tuple[Code, ...] = ()
    missing_ranges: tuple[tuple[float, float], ...] = ()
    measure: str | None = None
    display: str | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing is known."""
        return self == _NOTHING

    @property
    def has_missing(self) -> bool:
        """Whether some values of the column stand for a reason why there is no value."""
        return bool(self.missing_codes or self.missing_ranges)


_NOTHING: Final = ColumnMeta()


@dataclass(frozen=True, slots=True)
class TableMeta:
    """What a table knows about itself. `source` is the ending of the format it was first read from."""

    source: str | None = None
    label: str | None = None
    columns: dict[str, ColumnMeta] = field(default_factory=dict[str, ColumnMeta])

    def column(self, name: str) -> ColumnMeta:
        """Return what is known about a column; an empty ColumnMeta when nothing is."""
        return self.columns.get(name, _NOTHING)

    @property
    def worth_keeping(self) -> bool:
        """Whether there is anything that a schema should carry."""
        return bool(self.label or any(not column.empty for column in self.columns.values()))


def to_json(meta: TableMeta) -> bytes:
    """Write the metadata as JSON (UTF-8, sorted keys), the value of the schema key."""
    columns: dict[str, Any] = {}
    for name, column in meta.columns.items():
        entry = {
            "label": column.label,
            "value_labels": [list(pair) for pair in column.value_labels],
            "missing_codes": list(column.missing_codes),
            "missing_ranges": [[_bound(low), _bound(high)] for low, high in column.missing_ranges],
            "measure": column.measure,
            "display": column.display,
        }
        if kept := {key: value for key, value in entry.items() if value}:
            columns[name] = kept
    document = {"version": _VERSION, "source": meta.source, "label": meta.label, "columns": columns}
    return json.dumps(document, ensure_ascii=False, sort_keys=True, allow_nan=False).encode()


def from_json(text: bytes) -> TableMeta:
    """Read what `to_json` wrote. Raises ValueError when it is something else or from a newer version."""
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("not an object")  # noqa: TRY004 - callers catch one kind for every malformed text
    fields = cast("dict[str, Any]", document)
    if fields.get("version") != _VERSION:
        raise ValueError(f"version {fields.get('version')!r} is not known")
    try:
        columns = {str(name): _column(entry) for name, entry in dict(fields.get("columns") or {}).items()}
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"malformed column: {error}") from error
    return TableMeta(_text(fields.get("source")), _text(fields.get("label")), columns)


def _column(entry: dict[str, Any]) -> ColumnMeta:
    return ColumnMeta(
        label=_text(entry.get("label")),
        value_labels=tuple((_code(code), str(label)) for code, label in entry.get("value_labels", ())),
        missing_codes=tuple(_code(code) for code in entry.get("missing_codes", ())),
        missing_ranges=tuple(
            (float("-inf") if low is None else float(low), float("inf") if high is None else float(high))
            for low, high in entry.get("missing_ranges", ())
        ),
        measure=_text(entry.get("measure")),
        display=_text(entry.get("display")),
    )


def _bound(value: float) -> float | None:
    return None if value in (float("inf"), float("-inf")) else value


def _code(value: object) -> Code:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"{value!r} is no code")
    return value


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"{value!r} is no text")
