"""From a pipe to log records: whole lines where possible, secrets out before anything is written."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence

from groundplane.model.secrets import HIDDEN
from groundplane.spi.segments import MAX_DATA, UNFINISHED, Record, encode

TAIL = 64 * 1024
UNFINISHED_AFTER = 0.05

_HIDDEN = HIDDEN.encode()

Sink = Callable[[bytes], None]


class Redactor:
    """Replaces secrets in a stream of bytes, also where one is split between two reads."""

    def __init__(self, secrets: Sequence[str]) -> None:
        values = sorted({os.fsencode(s) for s in secrets if s}, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(re.escape(v) for v in values)) if values else None
        self._values = values

    @property
    def active(self) -> bool:
        return self._pattern is not None

    def clean(self, data: bytes, last: bool = False) -> tuple[bytes, bytes]:
        """The data without secrets, and its end that may be the beginning of one (b"" when `last`): raw, to be
        put before what comes next."""
        if self._pattern is None:
            return data, b""
        hold = len(data)
        if not last:
            hold -= max(_begun(value, data) for value in self._values)
            for match in self._pattern.finditer(data):
                if match.start() < hold < match.end():
                    hold = match.start()
                    break
        return self._pattern.sub(_HIDDEN, data[:hold]), data[hold:]

    def text(self, text: str) -> str:
        """The text without secrets."""
        if self._pattern is None or not text:
            return text
        return os.fsdecode(self._pattern.sub(_HIDDEN, os.fsencode(text)))


def _begun(value: bytes, data: bytes) -> int:
    """How many bytes at the end of the data may be the beginning of the value."""
    start = max(0, len(data) - len(value) + 1)
    while (start := data.find(value[:1], start)) >= 0:
        if value.startswith(data[start:]):
            return len(data) - start
        start += 1
    return 0


class LineFilter:
    """Lines that are kept out of the log, and the one that proves that the script reached its end."""

    def __init__(self, drop: Sequence[str], sentinel: str | None) -> None:
        self._drop = [re.compile(pattern) for pattern in drop]
        self._sentinel = re.compile(sentinel) if sentinel else None
        self.seen = False

    @property
    def active(self) -> bool:
        return bool(self._drop or self._sentinel)

    def keep(self, data: bytes, stdout: bool) -> bytes:
        """Whole lines (the last one may lack its newline) without those to be dropped."""
        kept: list[bytes] = []
        for line in data.splitlines(keepends=True) if b"\r" not in data else re.findall(rb"[^\n]*\n|[^\n]+", data):
            text = line.decode(errors="replace").rstrip("\n").removesuffix("\r")
            if stdout and self._sentinel is not None and self._sentinel.fullmatch(text):
                self.seen = True
            elif not any(pattern.fullmatch(text) for pattern in self._drop):
                kept.append(line)
        return b"".join(kept)


class Stream:
    """One of an attempt's two streams. `read` takes what is there, once, so that no stream starves another."""

    __slots__ = ("_carry", "_held", "_number", "_sink", "_tail", "_tail_size", "fd", "filter", "names", "redactor")

    def __init__(
        self, fd: int, number: int, names: tuple[str, str], redactor: Redactor, lines: LineFilter, sink: Sink
    ) -> None:
        self.fd = fd
        self.names = names  # task, attempt
        self.redactor = redactor
        self.filter = lines
        self._number = number
        self._sink = sink
        self._carry = b""  # an unfinished line, without secrets
        self._held = b""  # raw bytes that may begin a secret
        self._tail: list[bytes] = []
        self._tail_size = 0

    @property
    def waiting(self) -> bool:
        """Whether an unfinished line is waiting to be shown."""
        return bool(self._carry)

    def read(self) -> bool:
        """Takes at most 64 KiB. False at the end of the stream; raises BlockingIOError when nothing is there."""
        data = os.read(self.fd, MAX_DATA)
        if not data:
            return False
        self._take(data, last=False)
        return True

    def finish(self) -> None:
        """Nothing more will come: what is left becomes the last record."""
        self._take(b"", last=True)
        if self._carry:
            carry, self._carry = self._carry, b""
            self._emit_line_parts(carry)

    def show_unfinished(self) -> None:
        """Lets followers see an unfinished line, unless it has to be judged as a whole."""
        if self._carry and not self.filter.active:
            carry, self._carry = self._carry, b""
            self._emit(carry, UNFINISHED)

    def tail(self) -> str:
        """The last 64 KiB as text."""
        return b"".join(self._tail)[-TAIL:].decode(errors="replace")

    def state(self) -> dict[str, str]:
        """What a successor has to know to go on in mid-line; bytes as Latin-1."""
        return {
            "carry": self._carry.decode("latin-1"),
            "held": self._held.decode("latin-1"),
            "tail": b"".join(self._tail).decode("latin-1"),
        }

    def restore(self, state: dict[str, str]) -> None:
        """The inverse of `state`."""
        self._carry = state["carry"].encode("latin-1")
        self._held = state["held"].encode("latin-1")
        self._tail = [state["tail"].encode("latin-1")]
        self._tail_size = len(self._tail[0])

    def _take(self, data: bytes, last: bool) -> None:
        if self.redactor.active:
            data, self._held = self.redactor.clean(self._held + data, last)
        if self._carry:
            data = self._carry + data
        end = data.rfind(b"\n") + 1
        lines, self._carry = data[:end], data[end:]
        if lines:
            if self.filter.active:
                lines = self.filter.keep(lines, self._number == 0)
            self._emit_lines(lines)
        while len(self._carry) >= MAX_DATA:
            self._emit(self._carry[:MAX_DATA], UNFINISHED)
            self._carry = self._carry[MAX_DATA:]

    def _emit_lines(self, lines: bytes) -> None:
        """Records of whole lines, each as large as may be; a line over the limit becomes unfinished parts."""
        start = 0
        while len(lines) - start > MAX_DATA:
            end = lines.rfind(b"\n", start, start + MAX_DATA) + 1
            if end <= start:
                self._emit(lines[start : start + MAX_DATA], UNFINISHED)
                start += MAX_DATA
            else:
                self._emit(lines[start:end], 0)
                start = end
        if start < len(lines):
            self._emit(lines[start:] if start else lines, 0)

    def _emit_line_parts(self, line: bytes) -> None:
        if self.filter.active:
            line = self.filter.keep(line, self._number == 0)
        for start in range(0, len(line), MAX_DATA):
            self._emit(line[start : start + MAX_DATA], UNFINISHED)

    def _emit(self, data: bytes, flags: int) -> None:
        task, attempt = self.names
        self._sink(encode(Record(task, attempt, self._number, time.time_ns() // 1000, data, flags)))
        self._tail.append(data)
        self._tail_size += len(data)
        if self._tail_size > 4 * TAIL:
            kept = b"".join(self._tail)[-TAIL:]
            self._tail = [kept]
            self._tail_size = len(kept)
