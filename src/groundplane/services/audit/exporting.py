"""The whole log, an event a line, in the order of the log."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from groundplane.model.canonical import canonical
from groundplane.model.errors import Invalid
from groundplane.services import gate
from groundplane.services.access import Actor
from groundplane.services.audit import formats, log
from groundplane.services.audit.people import Opening
from groundplane.services.objects import Resource
from groundplane.services.platform import Platform
from groundplane.store import audit

_PAGE = 1000
_OTHERS: dict[str, Callable[[dict[str, Any], int], str]] = {
    "ocsf": formats.ocsf, "cef": formats.cef, "syslog": formats.syslog,
}  # fmt: skip
FORMATS = ("jsonl", *_OTHERS)


def export(platform: Platform, actor: Actor, form: str, *, reveal: bool) -> Iterator[bytes]:
    """Pieces of whole lines: what is in the log when it begins. reveal: with names in clear, which is itself an event.

    jsonl: the leaf; revealed it begins with a member `revealed`, without which it is the leaf again. Where retention
    has left only the hash, `{"leaf_hash": BASE64}`. Other formats leave such events out.
    """
    if form not in FORMATS:
        raise Invalid(f"there is no format {form!r}", hint=f"the formats are: {', '.join(FORMATS)}")
    gate.require(platform, actor, "audit.export", Resource("audit"), noted=actor.kind in gate.ACCOUNTS)
    if reveal:
        with gate.change(platform, actor, "audit.reveal", "audit log", format=form):
            pass
    log.integrate(platform)
    with platform.database.read() as connection:
        state = audit.log(connection)
    return _pieces(platform, form, reveal, 0 if state is None else state.size)


def _pieces(platform: Platform, form: str, reveal: bool, size: int) -> Iterator[bytes]:
    place = 0
    while place < size:
        with platform.database.read() as connection:
            rows = audit.numbered(connection, place, min(_PAGE, size - place))
            opening = Opening(platform.home, connection, (row.leaf or "" for row in rows)) if reveal else None
        if not rows:
            return
        place = rows[-1].number + 1
        yield b"".join(_jsonl(rows, opening) if form == "jsonl" else _lines(rows, opening, _OTHERS[form]))


def _jsonl(rows: Sequence[Any], opening: Opening | None) -> Iterator[bytes]:
    for row in rows:
        if row.leaf is None:
            yield f'{{"leaf_hash":"{b64encode(row.hash).decode()}"}}\n'.encode()
        elif opening is None:
            yield row.leaf.encode() + b"\n"
        else:
            readable = canonical(opening.readable(json.loads(row.leaf)))
            yield b'{"revealed":' + readable + b"," + row.leaf[1:].encode() + b"\n"


def _lines(rows: Sequence[Any], opening: Opening | None, form: Callable[[dict[str, Any], int], str]) -> Iterator[bytes]:
    for row in rows:
        if row.leaf is not None:
            event = json.loads(row.leaf)
            yield form(event if opening is None else opening.readable(event), row.number).encode() + b"\n"
