"""Parquet and Feather: the formats that hold everything, with the table's metadata in their schema."""

from dataclasses import replace
from pathlib import Path

from groundplane.data.errors import unreadable
from groundplane.data.libraries import ArrowTable, library, pa
from groundplane.data.losses import Losses, note_codes_in_use
from groundplane.data.meta import SCHEMA_KEY, TableMeta, from_json, to_json
from groundplane.data.table import TableData


def read_parquet(path: Path) -> TableData:
    """Read a Parquet file. Raises `ConversionError` (unreadable_table)."""
    try:
        with path.open("rb") as file:  # a file object, since the path may be a blob whose name means nothing
            # read_table() would load pyarrow.dataset and with it pandas: half of the time of a small conversion.
            table: ArrowTable = library("pyarrow.parquet").ParquetFile(file).read()
    except (pa.ArrowException, EOFError) as error:
        raise unreadable(f"it is no Parquet file: {_first_line(error)}", _WRITE_AGAIN) from error
    return _with_meta(table, "parquet")


def read_feather(path: Path) -> TableData:
    """Read a Feather or Arrow IPC file. Raises `ConversionError` (unreadable_table)."""
    try:
        with path.open("rb") as file:
            table: ArrowTable = library("pyarrow.feather").read_table(file, memory_map=False)
    except (pa.ArrowException, EOFError) as error:
        raise unreadable(f"it is no Feather file: {_first_line(error)}", _WRITE_AGAIN) from error
    return _with_meta(table, "feather")


def write_parquet(data: TableData, path: Path) -> list[str]:
    """Write a Parquet file (zstd); return what was lost. Arrow's exact types come along in its own schema."""
    library("pyarrow.parquet").write_table(_with_schema(data), path, compression="zstd", store_schema=True)
    return _lost(data)


def write_feather(data: TableData, path: Path) -> list[str]:
    """Write a Feather V2 file; return what was lost."""
    library("pyarrow.feather").write_feather(_with_schema(data), str(path), compression="zstd")
    return _lost(data)


def _lost(data: TableData) -> list[str]:
    losses = Losses(data.lost)
    note_codes_in_use(losses, data.meta, data.arrow, "kept in the file's metadata; to pandas they are ordinary values")
    return losses.sentences()


_WRITE_AGAIN = "is it damaged or half-written, or not what its ending says?"


def _with_meta(table: ArrowTable, source: str) -> TableData:
    metadata: dict[bytes, bytes] = table.schema.metadata or {}
    text = metadata.get(SCHEMA_KEY)
    if text is None:
        return TableData(table, TableMeta(source=source))
    losses = Losses()
    try:
        meta = from_json(text)
    except ValueError as error:
        losses.note(f"labels and missing codes (the file's groundplane metadata is unreadable: {error})")
        meta = TableMeta(source=source)
    columns = {name: column for name, column in meta.columns.items() if name in table.column_names}
    return TableData(table, replace(meta, columns=columns), tuple(losses.sentences()))


def _with_schema(data: TableData) -> ArrowTable:
    entries: dict[bytes, bytes] = dict(data.arrow.schema.metadata or {})
    entries.pop(SCHEMA_KEY, None)
    if data.meta.worth_keeping:
        entries[SCHEMA_KEY] = to_json(data.meta)
    return data.arrow.replace_schema_metadata(entries or None)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
