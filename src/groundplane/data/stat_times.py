"""Dates and times as SPSS, SAS and Stata count them, and as arrow does.

Each keeps a double and says by a display format what it means: SPSS seconds since 14 October 1582, SAS days or seconds
and Stata days or milliseconds since 1 January 1960. The doubles are turned here, not in pyreadstat, whose conversion
through Python objects loses the values that are no valid date.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from groundplane.data.errors import unreadable
from groundplane.data.libraries import ArrowColumn, ArrowType, Doubles, pa

Family = Literal["spss", "sas", "stata"]
Kind = Literal["date", "datetime", "time", "number"]

_DAY: Final = 86_400
_MICRO: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class _Clock:
    """How a program counts: days from its epoch to 1970, and how many of its units are in a day, second and time."""

    epoch_days: int
    date_unit: int  # seconds in one unit of a date
    per_second: int  # units of a datetime or time in one second


_CLOCKS: Final[dict[Family, _Clock]] = {
    "spss": _Clock(141_428, 1, 1),
    "sas": _Clock(3_653, _DAY, 1),
    "stata": _Clock(3_653, _DAY, 1_000),
}
_FORMATS: Final[dict[Family, tuple[tuple[Kind, str], ...]]] = {
    "spss": (
        ("datetime", r"DATETIME|YMDHMS"),
        ("date", r"[AEJS]?DATE|MOYR|QYR|WKYR"),
        ("time", r"D?TIME|MTIME"),
    ),
    "sas": (
        ("datetime", r"DATETIME|[EB]8601(DT|DN|DX|DZ)|IS8601DT|DATEAMPM|MDYAMPM|DTDATE|DTMONYY|DTYEAR"),
        (
            "date",
            r"DATE|(MMDD|DDMM)YY[BCDNPS]?|YYMMDD[BCDNPS]?|WEEKDAT[EX]|JULIAN|MONYY|WORDDAT[EX]|[EB]8601DA|IS8601DA",
        ),
        ("time", r"TIME|HHMM|TOD|TIMEAMPM|MMSS|[EB]8601TM|IS8601TM"),
    ),
    "stata": (
        ("time", r"%-?t[cC]HH:MM(:SS)?(\.s+)?"),
        ("datetime", r"%-?t[cC].*"),
        ("date", r"%-?t?d.*"),
    ),
}
WRITTEN: Final[dict[Family, dict[Kind, str]]] = {
    "spss": {"date": "SDATE10", "datetime": "DATETIME24.3", "time": "TIME11.2"},
    "sas": {"date": "DATE9", "datetime": "DATETIME20", "time": "TIME8"},
    "stata": {"date": "%td", "datetime": "%tc", "time": "%tcHH:MM:SS"},
}
"""The display format that a date, datetime or time is written with."""


def kind_of(display: str | None, family: Family) -> Kind:
    """Tell from a display format what a number means."""
    if not display:
        return "number"
    name = display if family == "stata" else re.sub(r"[0-9.]*$", "", display.upper())
    # A width may be part of a name ("E8601DT"), so the bare name is tried after the whole one.
    for kind, pattern in _FORMATS[family]:
        if re.fullmatch(pattern, name):
            return kind
    return "number"


def from_program(values: Doubles, kind: Kind, family: Family, name: str) -> ArrowColumn:
    """Turn a program's doubles (NaN: missing) into date32, timestamp[us], time64[us] or duration[us].

    A date with a time of day in it becomes a timestamp, a time beyond one day a duration. Raises `ConversionError`
    (unreadable_table) for a moment that no calendar has.
    """
    clock = _CLOCKS[family]
    missing = np.isnan(values)
    seconds = np.where(missing, 0.0, values)
    seconds = seconds * clock.date_unit if kind == "date" else seconds / clock.per_second
    if np.any(np.abs(seconds) > 3e11):  # year 10,000 is 2.7e11 seconds after 1582
        raise unreadable(f"column '{name}' is shown as a {kind} and holds a number that is none")
    if kind == "date" and not np.any(seconds % _DAY):
        days = (seconds // _DAY).astype(np.int64) - clock.epoch_days
        return pa.array(days, pa.int64(), mask=missing).cast(pa.int32()).cast(pa.date32())
    micros = _rounded(seconds)
    if kind == "time":
        within = bool(np.all((micros >= 0) & (micros < _DAY * _MICRO)))
        return pa.array(micros, pa.int64(), mask=missing).cast(pa.time64("us") if within else pa.duration("us"))
    micros -= clock.epoch_days * _DAY * _MICRO
    return pa.array(micros, pa.int64(), mask=missing).cast(pa.timestamp("us"))


def _rounded(seconds: Doubles) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Seconds to microseconds. A double so far from its epoch is off by a microsecond or two: a whole millisecond that
    near is what was meant."""
    micros = np.round(seconds * _MICRO).astype(np.int64)
    millis = np.round(micros / 1_000).astype(np.int64) * 1_000
    return np.where(np.abs(micros - millis) <= 2, millis, micros)


def kind_of_column(kind: ArrowType) -> Kind:
    """Tell which kind a date, timestamp, time or duration column is written as."""
    if pa.types.is_date(kind):
        return "date"
    if pa.types.is_timestamp(kind):
        return "datetime"
    return "time" if pa.types.is_time(kind) or pa.types.is_duration(kind) else "number"


def to_program(column: ArrowColumn, family: Family) -> Doubles:
    """Turn a date32, timestamp, time64[us] or duration[us] column into a program's doubles (NaN: missing)."""
    clock = _CLOCKS[family]
    kind = kind_of_column(column.type)
    if kind == "datetime":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    missing = column.is_null().to_numpy().astype(bool)
    whole = column.cast(pa.int32()) if kind == "date" else column
    counts = whole.cast(pa.int64()).fill_null(0).to_numpy()
    if kind == "date":
        numbers = (counts + clock.epoch_days) * (_DAY // clock.date_unit)
    elif kind == "datetime":
        numbers = (counts + clock.epoch_days * _DAY * _MICRO) / (_MICRO / clock.per_second)
    else:
        numbers = counts / (_MICRO / clock.per_second)
    return np.where(missing, np.nan, numbers)


def finest(column: ArrowColumn) -> str | None:
    """Name the unit below a millisecond that a timestamp column uses, or None when it uses none."""
    for unit, name in (("ms", None), ("us", "microseconds")):
        rounded = column.cast(pa.timestamp(unit, column.type.tz), safe=False)
        if rounded.cast(column.type, safe=False).equals(column):
            return name
    return "nanoseconds"
