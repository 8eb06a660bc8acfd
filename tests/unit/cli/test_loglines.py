"""Pieces become lines: nothing lost, nothing doubled, whatever the cuts."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from groundplane.client.loglines import Joiner, Piece, json_lines, log_line, rfc3339


def pieces_of(data: bytes, cuts: list[int]) -> list[Piece]:
    bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    parts = [data[a:b] for a, b in pairwise(bounds)]
    return [Piece("t", 1, "stdout", number, part, not part.endswith(b"\n")) for number, part in enumerate(parts)]


@given(st.binary(max_size=60).map(lambda raw: raw.replace(b"\x01", b"\n")), st.lists(st.integers(0, 100), max_size=6))
def test_however_it_was_cut(data: bytes, cuts: list[int]) -> None:
    joiner = Joiner()
    lines = [line.data for piece in pieces_of(data, cuts) for line in joiner.feed(piece)]
    lines += [line.data for line in joiner.rest()]
    expected = data.split(b"\n")
    assert lines == (expected[:-1] if expected[-1] == b"" else expected)


def test_streams_tasks_and_attempts_do_not_mix() -> None:
    joiner = Joiner()
    keys = [("a", 1, "stdout"), ("a", 1, "stderr"), ("b", 1, "stdout"), ("a", 2, "stdout")]
    for number, key in enumerate(keys):
        assert not list(joiner.feed(Piece(*key, number, b"%d" % number, True)))
    for number, key in enumerate(keys):
        [line] = joiner.feed(Piece(*key, 99, b"!\n", False))
        assert (line.data, line.at) == (b"%d!" % number, number), "a line's time is that of its first bytes"
    assert not list(joiner.rest())


def test_a_line_as_it_is_shown() -> None:
    [line] = Joiner().feed(Piece("t", 2, "stderr", 1_785_578_400_000_001, b"caf\xc3\xa9 \xff\n", False))
    shown = log_line(line)
    assert (shown.time, shown.text) == ("2026-08-01T10:00:00.000001Z", "café \ufffd")
    assert rfc3339(0) == "1970-01-01T00:00:00.000000Z"


def test_a_line_of_300_megabytes_is_shown_without_being_held() -> None:
    """Two streams at once, neither with a newline; characters are split between pieces."""
    joiner = Joiner()
    data = '"éß'.encode() * 13_107  # 65535 bytes
    data, rest = data[:-1], data[-1:]  # the cuts fall within characters
    tracemalloc.start()
    try:
        for number in range(2400):
            for stream in ("stdout", "stderr"):
                joined = Piece("t", 1, stream, number, rest + data if number else data, True)
                assert not list(joiner.feed(joined))
        digest, length = hashlib.sha256(), 0
        heads: list[bytes] = []
        for part in json_lines(joiner.rest()):
            if length == 0:
                heads.append(part[:200])
            digest.update(part)
            length += len(part)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert length > 2 * 2400 * len(data) and b'"text":"' in heads[0]
    assert peak < 16 * 1024 * 1024


def test_a_long_line_is_shown_as_a_short_one_would_be() -> None:
    text = '\x00"\\é€😀' * 150_000
    raw = text.encode() + b"\xff\xc3"
    joiner = Joiner()
    cuts = [*range(0, len(raw), 65_537), len(raw)]
    for start, end in pairwise(cuts):
        assert not list(joiner.feed(Piece("t", 1, "stdout", 5, raw[start:end], True)))
    [whole] = b"".join(json_lines(joiner.feed(Piece("t", 1, "stdout", 9, b"!\nshort\n", False)))).split(b"\n")[:1]
    assert json.loads(whole) == {
        "time": rfc3339(5), "task": "t", "attempt": 1, "stream": "stdout", "text": text + "\ufffd\ufffd!",
    }  # fmt: skip
