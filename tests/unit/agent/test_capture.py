"""From bytes to log records."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundplane.agent.capture import LineFilter, Redactor, Stream
from groundplane.spi.segments import MAX_DATA, UNFINISHED, Record, decode


class Pipe:
    """A stream with its writing end and what came out of it."""

    def __init__(self, redact: tuple[str, ...] = (), drop: tuple[str, ...] = (), sentinel: str | None = None) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.raw: list[bytes] = []
        self.stream = Stream(self.reading, 0, ("t", "a"), Redactor(redact), LineFilter(drop, sentinel), self.raw.append)

    def put(self, data: bytes) -> None:
        os.write(self.writing, data)
        self.stream.read()

    @property
    def records(self) -> list[Record]:
        return [record for record, _ in decode(b"".join(self.raw))]

    @property
    def data(self) -> bytes:
        return b"".join(record.data for record in self.records)


@pytest.fixture
def made() -> Iterator[list[Pipe]]:
    pipes: list[Pipe] = []
    yield pipes
    for pipe in pipes:
        os.close(pipe.reading)
        os.close(pipe.writing)


def make(made: list[Pipe], *args: object, **kwargs: object) -> Pipe:
    pipe = Pipe(*args, **kwargs)  # type: ignore[arg-type]
    made.append(pipe)
    return pipe


def test_lines_are_never_torn(made: list[Pipe]) -> None:
    pipe = make(made)
    pipe.put(b"one\ntw")
    pipe.put(b"o\nthree\n")
    assert [(record.data, record.flags) for record in pipe.records] == [(b"one\n", 0), (b"two\nthree\n", 0)]


def test_an_unfinished_line_goes_on_in_the_next_record(made: list[Pipe]) -> None:
    pipe = make(made)
    pipe.put(b"ha")
    assert pipe.stream.waiting
    pipe.stream.show_unfinished()
    pipe.put(b"lf\n")
    assert [(record.data, record.flags) for record in pipe.records] == [(b"ha", UNFINISHED), (b"lf\n", 0)]


def test_the_end_shows_what_is_left(made: list[Pipe]) -> None:
    pipe = make(made)
    pipe.put(b"no newline")
    pipe.stream.finish()
    assert [(record.data, record.flags) for record in pipe.records] == [(b"no newline", UNFINISHED)]


def test_a_long_line_becomes_parts(made: list[Pipe]) -> None:
    pipe = make(made)
    line = b"x" * 50_000 + b"y" * 50_000 + b"z" * 50_000 + b"\n"
    for start in range(0, len(line), 50_000):
        pipe.put(line[start : start + 50_000])
    assert pipe.data == line
    assert [record.flags for record in pipe.records] == [UNFINISHED, UNFINISHED, 0]
    assert all(len(record.data) <= MAX_DATA for record in pipe.records)


def test_the_tail_is_the_last_64_kib(made: list[Pipe]) -> None:
    pipe = make(made)
    for n in range(400):
        pipe.put(b"%05d" % n + b"-" * 1018 + b"\n")
    assert len(pipe.stream.tail()) == 64 * 1024
    assert "00399" in pipe.stream.tail()
    assert "00300" not in pipe.stream.tail()


@pytest.mark.parametrize("seed", range(20))
def test_secrets_are_found_wherever_reads_fall(made: list[Pipe], seed: int) -> None:
    chance = random.Random(seed)
    secrets = ("hunter2", "hunt", "xhunt", "a\nb")
    text = b"".join(
        chance.choice([b"hunter2", b"hunt", b"xhun", b"er2", b"\n", b"a", b"a\nb", b" "]) for _ in range(60)
    )
    whole = make(made, secrets)
    whole.put(text)
    whole.stream.finish()
    parts = make(made, secrets)
    position = 0
    while position < len(text):
        step = chance.randint(1, 5)
        parts.put(text[position : position + step])
        if chance.random() < 0.3:
            parts.stream.show_unfinished()
        position += step
    parts.stream.finish()
    assert parts.data == whole.data
    assert not any(secret.encode() in parts.data for secret in secrets)


def test_lines_are_judged_whole(made: list[Pipe]) -> None:
    pipe = make(made, (), ("drop .*",), "END")
    pipe.put(b"drop")
    pipe.stream.show_unfinished()
    pipe.put(b" me\nkeep\r\nEND\r\nEN")
    assert not pipe.stream.filter.seen or pipe.data == b"keep\r\n"
    assert pipe.stream.filter.seen
    pipe.put(b"D")
    pipe.stream.finish()
    assert pipe.data == b"keep\r\n"


def test_a_successor_goes_on_in_mid_line(made: list[Pipe]) -> None:
    pipe = make(made, ("secret",))
    pipe.put(b"\xffhalf sec")
    state = pipe.stream.state()
    after = make(made, ("secret",))
    after.stream.restore(state)
    after.put(b"ret\n")
    assert after.data == b"\xffhalf ***\n"


@given(
    st.lists(st.text("ab\n", min_size=1, max_size=6), min_size=1, max_size=3),
    st.lists(st.text("ab\n", max_size=12).map(str.encode), max_size=8),
)
def test_however_it_is_split_nothing_of_a_secret_passes(secrets: list[str], pieces: list[bytes]) -> None:
    redactor = Redactor(secrets)
    out, held = b"", b""
    for piece in pieces:
        clean, held = redactor.clean(held + piece)
        out += clean
    out += redactor.clean(held, last=True)[0]
    assert out == redactor.clean(b"".join(pieces), last=True)[0]


def test_a_secret_as_large_as_one_may_be_costs_no_more_than_itself() -> None:
    value = "".join(chr(33 + number * 7 % 90) for number in range(64 * 1024))
    redactor = Redactor([value])
    first, held = redactor.clean(b"x" * 1000 + value[:40_000].encode())
    assert (first, len(held)) == (b"x" * 1000, 40_000)
    assert redactor.clean(held + value[40_000:].encode() + b"\n", last=True)[0] == b"***\n"
