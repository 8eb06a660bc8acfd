"""Following a run to its end: its output as its own, progress beside it, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, BinaryIO

from groundplane.client import Client
from groundplane.client.loglines import Piece
from groundplane.model.errors import GroundError
from groundplane.model.ids import new_id
from groundplane.model.requests import RunRequest

if TYPE_CHECKING:
    from groundplane.model.documents import RunDocument

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def submit_and_follow(request: RunRequest, *, out: Path | None, detach: bool, as_json: bool) -> int:
    """`ground run`; returns the exit code."""
    run_id, lone = new_id(), request.script is not None
    with Client() as client:
        if detach:
            document = client.submit(request, run_id)
            _warn(document)
            _detached(document, as_json)
            return 0
        with Interrupts(run_id) as interrupts:
            started = client.submit(request, run_id, meanwhile=_prepare)
            interrupts.submitted()
            _warn(started)
            try:
                document = follow(client, run_id, as_json=as_json, lone=lone)
            except BrokenPipeError:  # a reader that has had enough does not end the work
                os.write(2, f"the run goes on: ground runs logs {run_id} --follow\n".encode())
                raise
            from groundplane.cli import output, summary

            code = summary.exit_code(document, interrupts.code)
            files: list[Path] | None = None
            if out is not None and not interrupts.code:
                from groundplane.cli import delivery

                files = delivery.deliver(client, run_id, out, lone=lone)
    if as_json:
        output.print_json(document)
    summary.ending(document, lone=lone, files=files, brief=as_json, target=request.target)
    return code


def rerun_and_follow(client: Client, ref: str, *, failed: bool, environment: dict[str, str], as_json: bool) -> int:
    """`ground runs rerun`; returns the exit code."""
    from groundplane.cli import output, summary

    run_id = new_id()
    with Interrupts(run_id) as interrupts:
        started = client.rerun(ref, failed=failed, environment=environment, run_id=run_id)
        interrupts.submitted()
        if failed:
            note = f"note: it runs the files as they were at run {output.short(ref)}; ground run takes them as they are"
            print(note, file=sys.stderr, flush=True)
        lone = not started.pipeline
        document = follow(client, run_id, as_json=as_json, lone=lone)
    if as_json:
        output.print_json(document)
    summary.ending(document, lone=lone, files=None, brief=as_json)
    return summary.exit_code(document, interrupts.code)


def follow(client: Client, run_id: str, *, as_json: bool, lone: bool, logs: bool = True) -> RunDocument:
    """The run when it has ended, its log and progress having been shown; with `as_json` no more than what work waited
    for."""
    from groundplane.cli.progress import Progress, Waiting
    from groundplane.model.documents import ProgressDocument, RunDocument

    brief = lone or as_json
    progress, waiting = None if brief else Progress(sys.stderr), Waiting(sys.stderr, lone=lone)
    for event in client.follow(run_id, logs=logs and not as_json, progress=not brief, waiting=brief):
        if isinstance(event, RunDocument):
            if progress:
                progress.clear()
            return event
        if isinstance(event, ProgressDocument):
            (progress or waiting).update(event)
            continue
        if progress:
            progress.clear()
        write_pieces(event)
        if progress:
            progress.draw()
    raise AssertionError("a followed run ends with its document")


def write_pieces(pieces: Iterable[Piece]) -> None:
    """The work's bytes as they were: its stdout on stdout, its stderr on stderr."""
    for stream, file in _gathered(pieces):
        sys.stdout.flush()
        file.write(stream)
        file.flush()


def _gathered(pieces: Iterable[Piece]) -> Iterable[tuple[bytes, BinaryIO]]:
    """Neighbouring pieces of one stream as one write."""
    files = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}
    stream, parts = "", list[bytes]()
    for piece in pieces:
        if piece.stream != stream and parts:
            yield b"".join(parts), files[stream]
            parts = []
        stream = piece.stream
        parts.append(piece.data)
    if parts:
        yield b"".join(parts), files[stream]


def _prepare() -> None:
    """Imports what the end needs, while the control plane works on the other core."""
    import importlib

    for name in ("progress", "summary"):
        importlib.import_module(f"groundplane.cli.{name}")
    from groundplane.model.documents import RunDocument
    from groundplane.spi import wire

    wire.decode(RunDocument | None, None)  # pyright: ignore[reportArgumentType] - makes its reader


def _warn(document: RunDocument) -> None:
    for warning in document.warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)


def _detached(document: RunDocument, as_json: bool) -> None:
    from groundplane.cli import output

    if as_json:
        output.print_json(document)
        return
    print(document.id)
    print(f"follow it: ground runs logs {output.short(document.id)} --follow", file=sys.stderr)


class Interrupts:
    """The first Ctrl-C (or SIGTERM, SIGHUP) cancels the run, which is followed to its end; a second leaves at once.

    code: 128 + the signal, 0 when none came.
    """

    def __init__(self, run_id: str) -> None:
        self.code = 0
        self._run_id = run_id
        self._sent = False
        self._former: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Interrupts:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                self._former[number] = signal.signal(number, self._caught)
        return self

    def __exit__(self, *_: object) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)

    def submitted(self) -> None:
        """From now on there is something to cancel."""
        self._sent = True
        if self.code:
            self._cancel_aside()

    def _caught(self, number: int, _: FrameType | None) -> None:
        if self.code:
            os._exit(128 + number)
        self.code = 128 + number
        # Not print(): the signal may have come in the midst of one.
        os.write(2, b"\ncancelling the run; once more to leave at once\n")
        if self._sent:
            self._cancel_aside()

    def _cancel_aside(self) -> None:
        """In a thread with a connection of its own: this one's is in the midst of an answer."""
        threading.Thread(target=self._cancel, daemon=True).start()

    def _cancel(self) -> None:
        try:
            with Client() as client:
                client.cancel(self._run_id)
        except GroundError as error:
            os.write(2, f"error: {error.message}\n".encode(errors="replace"))
