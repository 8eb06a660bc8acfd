"""Which table formats there are, and which converts to which.

Imports nothing outside the standard library: the control plane asks here while it makes a plan.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from groundplane.data.errors import refused

#: Part of the reuse key: raise it whenever the same source would give other bytes or other values than before.
CONVERTER_VERSION: Final = "1"


@dataclass(frozen=True, slots=True)
class Format:
    """A table format as it is known by its file ending (lower case, no dot)."""

    ending: str
    title: str
    reads: bool
    writes: bool
    instead: str = ""
    """For a format that is only read: what to write in its place."""


_FORMATS: Final = (
    Format("csv", "comma-separated text", reads=True, writes=True),
    Format("tsv", "tab-separated text", reads=True, writes=True),
    Format("parquet", "Apache Parquet", reads=True, writes=True),
    Format("feather", "Apache Arrow (Feather)", reads=True, writes=True),
    Format("arrow", "Apache Arrow (Feather)", reads=True, writes=True),
    Format("xlsx", "Excel workbook", reads=True, writes=False, instead="csv opens in Excel"),
    Format("sav", "SPSS data", reads=True, writes=True),
    Format("zsav", "SPSS data, compressed", reads=True, writes=True),
    Format("xpt", "SAS transport", reads=True, writes=True),
    Format("sas7bdat", "SAS data", reads=True, writes=False, instead="xpt is what SAS reads from others"),
    Format("dta", "Stata data", reads=True, writes=True),
    Format("mat", "MATLAB data", reads=True, writes=True),
    Format("rds", "R object", reads=True, writes=True),
    Format("rdata", "R workspace", reads=True, writes=False, instead="rds is read by readRDS()"),
    Format("rda", "R workspace", reads=True, writes=False, instead="rds is read by readRDS()"),
)
_BY_ENDING: Final = {entry.ending: entry for entry in _FORMATS}


def formats() -> tuple[Format, ...]:
    """List the table formats, one entry an ending."""
    return _FORMATS


def ending(name: str) -> str:
    """Return the ending of a file name in lower case and without its dot; empty when it has none, or for a folder."""
    return "" if name.endswith("/") else PurePosixPath(name).suffix[1:].lower()


def find(name: str) -> Format | None:
    """Return the table format that a file name's ending stands for, or None when it is no table."""
    return _BY_ENDING.get(ending(name))


def convertible(source_name: str, target_name: str) -> bool:
    """Tell whether handing `source_name` over as `target_name` needs a conversion, and one that exists.

    False for two names with the same ending, and wherever either is no table: there the bytes go through untouched.
    """
    source, target = find(source_name), find(target_name)
    return source is not None and target is not None and source is not target and source.reads and target.writes


def check(source_name: str, target_name: str) -> None:
    """Raise `ConversionError` (a ValueError with a hint) where both names are tables and the pair can never work."""
    source, target = find(source_name), find(target_name)
    if source is None or target is None or source is target:
        return
    if not source.reads:
        raise refused(f"'{source_name}' ({source.title}) cannot be read", f"readable endings: {_list('reads')}")
    if not target.writes:
        hint = f"writable endings: {_list('writes')}"
        hint = f"{target.instead}; {hint}" if target.instead else hint
        raise refused(f"'{source_name}' cannot become '{target_name}': {target.ending} is only read", hint)


def _list(able: str) -> str:
    return ", ".join(entry.ending for entry in _FORMATS if getattr(entry, able))
