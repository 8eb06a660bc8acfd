"""`python -I -m groundplane.data.query`: ask PostgreSQL what one JSON document on stdin says; the answer is a table.

In:  {"connection": {"host", "port", "dbname", "user", "password", …}, "sql": "select …", "target": "/abs/new.parquet"}
     Without `target` nothing is kept: it is seen whether the server answers. `discreet`: not told why it does not.
Out: {"rows", "columns"} or {"error": {"code", "message", "hint", "fault"}}.

Started with `--enclosed FOLDER [GIVEN …]`, it gives up all but GIVEN, to read, FOLDER, to write to, and the server's
port before it connects.

A process of its own, so that neither a large result nor a slow server is the control plane's. The transaction is
read-only. Types: whole numbers, floats, numeric (decimal, of the widest scale that occurs), true/false, dates, times,
timestamps (with a time zone: UTC), bytes; everything else is text as PostgreSQL writes it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from groundplane.data import arrow_files
from groundplane.data.errors import ConversionError, refused
from groundplane.data.libraries import library, pa, without_pandas
from groundplane.data.meta import TableMeta
from groundplane.data.table import TableData
from groundplane.model.connections import UNANSWERED, UNANSWERED_HINT

QUERY_FAILED = "query_failed"
CONNECTION_FAILED = "connection_failed"
_BATCH = 50_000
_MOST_DIGITS = 76
_SECONDS = 10
_MOST_BYTES = 8 << 30
"""Of a result in memory: more is no table for a step, and may end the control plane's host."""


class QueryError(Exception):
    """fault: as `model.faults.Fault`."""

    def __init__(self, code: str, message: str, hint: str = "", fault: str = "user") -> None:
        super().__init__(message)
        self.code, self.message, self.hint, self.fault = code, message, hint, fault


def main() -> int:
    """Runs the query of one request; the exit status."""
    answer = os.dup(1)
    os.dup2(2, 1)  # C libraries print there as they please
    try:
        request = json.loads(sys.stdin.buffer.read())
        if sys.argv[1:]:
            from groundplane.spi.readers import enclose

            enclose(*sys.argv[2:], port=request["connection"]["port"])
        without_pandas()
        document: dict[str, Any] = dict(run(request))
    except QueryError as error:
        document = {"error": _told(error.code, error.message, error.hint, error.fault)}
    except ConversionError as error:
        document = {"error": _told(error.code, error.message, error.hint, "user")}
    except MemoryError:
        document = {"error": _told(QUERY_FAILED, "the result does not fit into memory", "select less of it", "user")}
    except Exception as error:  # noqa: BLE001 - the edge of the process
        traceback.print_exc()
        document = {"error": _told(QUERY_FAILED, f"{type(error).__name__}: {error}", "", "platform")}
    with os.fdopen(answer, "w", encoding="utf-8") as file:
        json.dump(document, file, ensure_ascii=False)
    return 1 if "error" in document else 0


def _told(code: str, message: str, hint: str, fault: str) -> dict[str, str]:
    return {"code": code, "message": message, "hint": hint, "fault": fault}


def run(request: dict[str, Any]) -> dict[str, int]:
    """Asks, and writes the result. Raises QueryError and ConversionError."""
    psycopg = library("psycopg")
    try:
        connection = psycopg.connect(**{"connect_timeout": _SECONDS, **request["connection"]})
    except psycopg.OperationalError as error:
        raise _not_connected(error, discreet=bool(request.get("discreet"))) from error

    def cancel(_number: int, _frame: object) -> None:  # or the server would go on for nobody
        connection.cancel()

    signal.signal(signal.SIGTERM, cancel)
    with connection:
        connection.read_only = True
        try:
            if not (target := request.get("target")):
                connection.execute("SELECT 1")
                return {"rows": 0, "columns": 0}
            return _keep(connection, request["sql"], Path(target))
        except psycopg.DataError as error:
            if error.sqlstate is None:  # of this side: a value that PostgreSQL has and Python has not
                hint = "cast the column to text in the query"
                raise refused(f"the result holds a value that no table can: {_first(error)}", hint) from error
            raise _failed(error) from error
        except psycopg.Error as error:
            raise _failed(error) from error


def _keep(connection: Any, sql: str, target: Path) -> dict[str, int]:
    with connection.cursor(name="groundplane") as cursor:
        cursor.itersize = _BATCH
        cursor.execute(sql.strip().rstrip(";").encode())  # as bytes: psycopg takes no `%` in it for its own
        columns = list(cursor.description or ())
        names = [column.name for column in columns]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise refused(f"two columns are called {', '.join(twice)}", "name them in the query: … AS …")
        if not names:
            raise refused("the result has no columns", "ask with SELECT")
        kinds = [_KINDS.get(column.type_code) for column in columns]
        _read_as_text(cursor, [column.type_code for column, kind in zip(columns, kinds, strict=True) if kind is None])
        made = [_Column(name, kind or "text") for name, kind in zip(names, kinds, strict=True)]
        for rows in _batches(cursor):
            for column, values in zip(made, zip(*rows, strict=True), strict=True):
                column.add(values)
            if sum(column.size for column in made) > _MOST_BYTES:
                raise refused(f"the result has more than {_MOST_BYTES >> 30} GiB", "select less of it")
    table = pa.table([column.whole() for column in made], names=names)
    arrow_files.write_parquet(TableData(table, TableMeta(source="query")), target)
    return {"rows": table.num_rows, "columns": table.num_columns}


def _batches(cursor: Any) -> Iterator[Sequence[tuple[Any, ...]]]:
    while rows := cursor.fetchmany(_BATCH):
        yield rows


def _read_as_text(cursor: Any, types: Sequence[int]) -> None:
    """Values of these types come as PostgreSQL writes them."""
    loader = library("psycopg.types.string").TextLoader
    for each in set(types):
        cursor.adapters.register_loader(each, loader)


class _Column:
    """One column of the result, as it grows."""

    def __init__(self, name: str, kind: str) -> None:
        self._name, self._kind = name, kind
        self._chunks: list[Any] = []
        self._digits, self._scale = 1, 0  # before the point, behind it
        self.size = 0

    def add(self, values: Sequence[Any]) -> None:
        if self._kind == "decimal":
            self._widen(values)
            self._chunks.append(pa.array(values, _decimal(self._name, self._digits, self._scale)))
        else:
            self._chunks.append(pa.array(values, _arrow(self._kind)))
        self.size += self._chunks[-1].nbytes

    def whole(self) -> Any:
        if self._kind != "decimal":
            return pa.chunked_array(self._chunks, _arrow(self._kind))
        kind = _decimal(self._name, self._digits, self._scale)
        return pa.chunked_array([chunk.cast(kind) for chunk in self._chunks], kind)

    def _widen(self, values: Sequence[Decimal | None]) -> None:
        for value in values:
            if value is None:
                continue
            _, digits, exponent = value.as_tuple()
            if not isinstance(exponent, int):
                hint = f"write {self._name}::double precision in the query"
                raise refused(f"column '{self._name}' is numeric and holds {value}, which no decimal is", hint)
            self._scale = max(self._scale, -exponent)
            self._digits = max(self._digits, len(digits) + exponent)


def _decimal(name: str, digits: int, scale: int) -> Any:
    if digits + scale > _MOST_DIGITS:
        hint = f"write {name}::double precision, or {name}::text, in the query"
        raise refused(f"column '{name}' is numeric with {digits + scale} digits, more than {_MOST_DIGITS}", hint)
    # One width whatever the values are: the same query gives the same type as long as its scale is the same.
    return pa.decimal128(38, scale) if digits + scale <= 38 else pa.decimal256(_MOST_DIGITS, scale)


_KINDS = {
    16: "bool",
    17: "bytes",
    20: "int64",
    21: "int16",
    23: "int32",
    26: "int64",
    700: "float32",
    701: "float64",
    1700: "decimal",
    18: "text",
    19: "text",
    25: "text",
    1042: "text",
    1043: "text",
    1082: "date",
    1083: "time",
    1114: "timestamp",
    1184: "timestamptz",
}
"""PostgreSQL's type by its number, which is the same on every server."""


def _arrow(kind: str) -> Any:
    types = {
        "bool": pa.bool_(),
        "bytes": pa.binary(),
        "int16": pa.int16(),
        "int32": pa.int32(),
        "int64": pa.int64(),
        "float32": pa.float32(),
        "float64": pa.float64(),
        "text": pa.string(),
        "date": pa.date32(),
        "time": pa.time64("us"),
        "timestamp": pa.timestamp("us"),
        "timestamptz": pa.timestamp("us", "UTC"),
    }
    return types[kind]


def _not_connected(error: Any, *, discreet: bool) -> QueryError:
    """psycopg gives no SQLSTATE for what failed before there was a connection: the server's words tell."""
    said = _first(error)
    if "authentication" in said or "no password supplied" in said or "pg_hba.conf" in said:
        hint = "is the secret that --password-secret names the password of that user?"
        return QueryError(CONNECTION_FAILED, f"the server refuses: {said}", hint)
    if "does not exist" in said:
        hint = "`ground connections show NAME` tells where it leads"
        return QueryError(CONNECTION_FAILED, f"the server refuses: {said}", hint)
    if discreet:
        return QueryError(CONNECTION_FAILED, UNANSWERED, UNANSWERED_HINT, "backend")
    hint = "does the server run, and may this host reach it?"
    return QueryError(CONNECTION_FAILED, f"the server does not answer: {said}", hint, "backend")


def _failed(error: Any) -> QueryError:
    said = _first(error)
    state: str = error.sqlstate or ""
    if state == "42501":
        return QueryError(QUERY_FAILED, said, "let its user read that: GRANT SELECT …")
    if state == "25006":
        return QueryError(QUERY_FAILED, said, "a query only reads; let a script change the database")
    if state == "57014":
        return QueryError(QUERY_FAILED, said, "it was cancelled, or took longer than the server lets it")
    if state.startswith(("08", "57", "53")) or not state:
        return QueryError(CONNECTION_FAILED, f"the server broke off: {said}", "run it again", "backend")
    return QueryError(QUERY_FAILED, said, error.diag.message_hint or "mend the SQL; psql tells the same")


def _first(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].removeprefix("connection failed: ") if lines else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
