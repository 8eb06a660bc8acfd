"""One conversion: read by the source's ending, write by the target's, say what was lost."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from groundplane.data import arrow_files, csv_read, csv_write, mat, rds, stat_read, stat_write, xlsx
from groundplane.data.errors import ConversionError, refused
from groundplane.data.formats import check, convertible, ending
from groundplane.data.table import TableData


@dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion made: rows and columns of the table as it was read, and a sentence for each loss."""

    rows: int
    columns: int
    lost: tuple[str, ...]


def convert(source: Path, source_name: str, target: Path) -> Converted:
    """Convert `source`, which is what `source_name` says by its ending, into `target`, by that one's ending.

    The target appears whole or not at all; its folder is made when missing. Raises `ConversionError`, whose message
    names the source.
    """
    check(source_name, target.name)
    if not convertible(source_name, target.name):
        raise refused(f"'{source_name}' does not convert to '{target.name}'", "both must be tables, of two formats")
    unfinished = target.with_name(f".{secrets.token_hex(8)}.{ending(target.name)}")
    try:
        data = read(source, ending(source_name))
        target.parent.mkdir(parents=True, exist_ok=True)
        lost = write(data, unfinished, ending(target.name))
        unfinished.replace(target)
    except ConversionError as error:
        message = f"'{source_name}' cannot become '{target.name}': {error.message}"
        raise ConversionError(error.code, message, error.hint) from error
    finally:
        unfinished.unlink(missing_ok=True)
    return Converted(data.arrow.num_rows, data.arrow.num_columns, tuple(lost))


def read(path: Path, kind: str) -> TableData:
    """Read a table of the format with the ending `kind`. Raises `ConversionError` (unreadable_table)."""
    if kind in ("csv", "tsv"):
        return csv_read.read(path, _DELIMITERS[kind], kind)
    if kind == "parquet":
        return arrow_files.read_parquet(path)
    if kind in ("feather", "arrow"):
        return arrow_files.read_feather(path)
    if kind in stat_read.FAMILIES:
        return stat_read.read(path, kind)
    if kind in ("rds", "rdata", "rda"):
        return rds.read(path, kind)
    return mat.read(path) if kind == "mat" else xlsx.read(path)


def write(data: TableData, path: Path, kind: str) -> list[str]:
    """Write a table in the format with the ending `kind`; return what was lost. Raises `ConversionError` (refused)."""
    if kind in ("csv", "tsv"):
        return csv_write.write(data, path, _DELIMITERS[kind], kind)
    if kind == "parquet":
        return arrow_files.write_parquet(data, path)
    if kind in ("feather", "arrow"):
        return arrow_files.write_feather(data, path)
    if kind in stat_read.FAMILIES:
        return stat_write.write(data, path, kind)
    return rds.write(data, path) if kind == "rds" else mat.write(data, path)


_DELIMITERS = {"csv": ",", "tsv": "\t"}
