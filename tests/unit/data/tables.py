"""Small helpers of this folder's tests: write a table, convert it, read the result."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from groundplane.data.convert import Converted, convert, read
from groundplane.data.meta import TableMeta, to_json
from groundplane.data.table import TableData


def category(values: list[str | None], levels: list[str], *, ordered: bool = False) -> pa.DictionaryArray:
    codes = pa.array([None if value is None else levels.index(value) for value in values], pa.int8())
    return pa.DictionaryArray.from_arrays(codes, pa.array(levels, pa.string()), ordered=ordered)


def save(folder: Path, columns: dict[str, Any], meta: TableMeta | None = None) -> Path:
    """Write columns as a Parquet file, with metadata as a conversion would have left it."""
    table = pa.table(columns)
    if meta is not None:
        table = table.replace_schema_metadata({b"groundplane": to_json(meta)})
    path = folder / "source.parquet"
    pq.write_table(table, path)
    return path


def through(
    folder: Path, columns: dict[str, Any], ending: str, meta: TableMeta | None = None
) -> tuple[TableData, Converted]:
    """Convert columns to a format and read that file back."""
    target = folder / f"target.{ending}"
    done = convert(save(folder, columns, meta), "source.parquet", target)
    return read(target, ending), done


def values(data: TableData) -> dict[str, list[Any]]:
    return data.arrow.to_pydict()
