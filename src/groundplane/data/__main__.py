"""`python -I -m groundplane.data`: convert what one JSON document on stdin asks for, answer with one on stdout.

In:  {"conversions": [{"source": "/abs/blob", "source_name": "clean.parquet", "target": "/abs/clean.csv"}, …]}
Out: {"conversions": [{"target", "rows", "columns", "lost": [sentence, …]} or {"target", "error": {"code", "message",
     "hint"}}, …]}, in the order asked for; with `error` beside `conversions` when the request itself makes no sense.

Started with `--enclosed MADE GIVEN`, it gives up all but GIVEN, to read, and the folder MADE, to write to, before it
reads anything.

Exit status 0 when all worked, 1 otherwise. Nothing but that document ever reaches stdout; tracebacks go to stderr.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, cast

from groundplane.data.errors import CONVERSION_FAILED, ConversionError


def main() -> int:
    """Run the conversions of one request; return the exit status."""
    if sys.argv[1:]:
        from groundplane.spi.readers import enclose

        enclose(*sys.argv[2:])
    # C libraries print to file descriptor 1 as they please, so the answer gets a descriptor of its own.
    answer = os.dup(1)
    os.dup2(2, 1)
    try:
        asked = _requests(sys.stdin.buffer.read())
    except ValueError as error:
        _reply(answer, {"conversions": [], "error": _error(f"the request is not valid: {error}")})
        return 1
    done = [_one(*request) for request in asked]
    _reply(answer, {"conversions": done})
    return 1 if any("error" in entry for entry in done) else 0


def _requests(text: bytes) -> list[tuple[str, str, str]]:
    document = json.loads(text)
    entries = cast("dict[str, Any]", document).get("conversions") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("'conversions' must be a list")  # noqa: TRY004 - a ValueError, like all that is wrong with JSON
    found: list[tuple[str, str, str]] = []
    for entry in cast("list[Any]", entries):
        try:
            source, target = entry["source"], entry["target"]
            name = entry.get("source_name") or Path(source).name
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"a conversion needs source, source_name and target: {error}") from error
        if not all(isinstance(part, str) for part in (source, name, target)):
            raise ValueError("source, source_name and target are text")
        found.append((source, name, target))
    return found


def _one(source: str, source_name: str, target: str) -> dict[str, Any]:
    try:
        # Imported here: a machine where arrow cannot be loaded gets an answer too.
        from groundplane.data.libraries import without_pandas

        without_pandas()
        from groundplane.data.convert import convert

        made = convert(Path(source), source_name, Path(target))
    except ConversionError as error:
        return {"target": target, "error": {"code": error.code, "message": error.message, "hint": error.hint}}
    except MemoryError:
        hint = "give the step more memory, or split the table"
        return {"target": target, "error": _error(f"'{source_name}' does not fit into memory", hint)}
    except Exception as error:  # noqa: BLE001 - the edge of the process: one bad table must not spoil the others
        traceback.print_exc()
        return {"target": target, "error": _error(f"'{source_name}': {type(error).__name__}: {error}")}
    return {"target": target, "rows": made.rows, "columns": made.columns, "lost": list(made.lost)}


def _error(message: str, hint: str = "") -> dict[str, str]:
    return {"code": CONVERSION_FAILED, "message": message, "hint": hint}


def _reply(descriptor: int, document: dict[str, Any]) -> None:
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    sys.exit(main())
