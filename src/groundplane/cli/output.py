"""What commands print: JSON documents, tables, times and colours."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TextIO

from groundplane.spi import wire

_COLOURS = {
    "succeeded": "32",
    "failed": "31",
    "lost": "31",
    "cancelled": "33",
    "stopping": "33",
    "running": "36",
    "starting": "36",
    "queued": "2",
    "ok": "32",
    "warning": "33",
    "error": "31",
}
# Controls (C0, C1) and marks of writing direction: a name that holds them could rewrite what the terminal shows.
_CONTROLS = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))},
    **{code: f"\\u{code:04x}" for code in (0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))},
    **{ord(sign): shown for sign, shown in (("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r"))},
}
_BUT_LINES = {code: shown for code, shown in _CONTROLS.items() if chr(code) not in "\n\t"}
_AGES = ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (14 * 86400, 86400, "days"))


def coloured(stream: TextIO) -> bool:
    """Whether the stream is a terminal that wants colours (NO_COLOR, TERM=dumb)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(word: str, stream: TextIO, text: str | None = None) -> str:
    """A state or level in its colour, when the stream takes colours."""
    text = word if text is None else text
    return f"\x1b[{_COLOURS[word]}m{text}\x1b[0m" if word in _COLOURS and coloured(stream) else text


def print_json(document: object) -> None:
    """One document: indented for eyes at a terminal, one line for programs."""
    if sys.stdout.isatty():
        import json

        print(json.dumps(wire.plain(document), indent=2))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(_valid(wire.encode(document), document))
    sys.stdout.buffer.flush()


def _valid(encoded: bytes, document: object) -> bytes:
    """JSON has to be UTF-8: file names that are not become escapes."""
    try:
        encoded.decode()
    except UnicodeDecodeError:
        import json

        return json.dumps(wire.parse(encoded)).encode() + b"\n"
    return encoded


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], states: int | None = None) -> None:
    """Columns as wide as their content on standard output. states: the column that is coloured."""
    cells = [list(heads), *([_encodable(printable(cell)) for cell in row] for row in rows)]
    widths = [max(width(row[column]) for row in cells) for column in range(len(heads))]
    for number, row in enumerate(cells):
        padded = [padded_to(cell, columns) for cell, columns in zip(row, widths, strict=True)]
        padded[-1] = row[-1]
        if number and states is not None:
            padded[states] = paint(row[states], sys.stdout, padded[states])
        print("  ".join(padded).rstrip())


def pairs(rows: Iterable[tuple[str, str]]) -> None:
    """Names and values on standard output, values aligned."""
    kept = [(name, value) for name, value in rows if value]
    width = max((len(name) for name, _ in kept), default=0)
    for name, value in kept:
        print(_encodable(f"{name.ljust(width)}  {printable(value, lines=True)}"))


def printable(text: str, *, lines: bool = False) -> str:
    """Somebody else's words for a terminal: controls as `\\x1b`. lines: newlines and tabs stay.

    For standard error; standard output refuses what it cannot encode, which `table` and `pairs` escape too.
    """
    return text if text.isprintable() else text.translate(_BUT_LINES if lines else _CONTROLS)


def _encodable(text: str) -> str:
    """What standard output's encoding cannot show is escaped rather than fatal."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def padded_to(text: str, columns: int) -> str:
    """With spaces behind it, so that it takes as many columns of a terminal."""
    return text + " " * (columns - width(text))


def width(text: str) -> int:
    """The columns that a terminal takes for it: two for each wide character, none for one that combines."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )


def shell_quoted(text: str) -> str:
    """A word as a shell takes it: with controls, or no UTF-8, in bash's `$'…'`, so that it can be typed again."""
    import shlex

    if printable(text) == text and os.fsencode(text).decode(errors="replace") == text:
        return shlex.quote(text)
    shown = (
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"'\\" else f"\\x{byte:02x}" for byte in os.fsencode(text)
    )
    return f"$'{''.join(shown)}'"


def short(run_id: str) -> str:
    """The beginning of a run's id that holds its millisecond: enough to name it."""
    return run_id[:13]


def size(count: int | None) -> str:
    """`1.5GiB`, and `-` for what is not known."""
    from groundplane.model.quantities import format_size

    return "-" if count is None else format_size(count)


def when(text: str | None) -> str:
    """`2026-08-01 12:00:05 (3 min ago)`, local."""
    if text is None:
        return ""
    return f"{moment(text).astimezone():%Y-%m-%d %H:%M:%S} ({age(text)})"


def age(text: str | None, now: datetime | None = None) -> str:
    """`3 min ago`; the date when it is long ago."""
    if text is None:
        return ""
    at = moment(text)
    seconds = max(0.0, ((now or datetime.now(UTC)) - at).total_seconds())
    for limit, unit, name in _AGES:
        if seconds < limit:
            return f"{int(seconds // unit)} {name} ago"
    return f"{at.astimezone():%Y-%m-%d}"


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Seconds from one RFC 3339 time to the other (default: now); None when it has not started."""
    if start is None:
        return None
    return max(0.0, ((moment(end) if end else datetime.now(UTC)) - moment(start)).total_seconds())


def moment(text: str) -> datetime:
    """An RFC 3339 time."""
    return datetime.fromisoformat(text)
