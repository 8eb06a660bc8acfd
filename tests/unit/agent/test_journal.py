"""What survives the agent."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from groundplane.agent import segments
from groundplane.agent.book import Book, body_of
from groundplane.agent.journal import History, Journal, Past, read
from groundplane.spi import wire
from groundplane.spi.launch import Observation, Phase, Usage
from groundplane.spi.segments import Record, encode


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal.jsonl")


def test_a_history_is_read_as_it_was_written(path: str) -> None:
    journal = Journal(path, "boot", History())
    journal.add("accepted", "a", b',"epoch":3,"run":"r"')
    journal.add("starting", "a")
    journal.add("started", "a", b',"pid":7,"ticks":9')
    journal.add("accepted", "b", b',"epoch":1,"run":"r"')
    journal.mark("r", 512)
    assert journal.flush()
    history = read(path)
    assert history.boot == "boot"
    assert history.marks == {"r": 512}
    assert history.attempts["a"] == Past(epoch=3, run="r", starting=True, pid=7, ticks=9)
    assert not history.attempts["b"].starting


def test_a_torn_last_line_was_not_written(path: str) -> None:
    journal = Journal(path, "boot", History())
    journal.add("accepted", "a", b',"epoch":1,"run":"r"')
    journal.flush()
    with open(path, "ab") as file:
        file.write(b'{"t":"ended","attempt":"a","obser')
    assert read(path).attempts["a"].observation is None


def test_a_fresh_file_holds_the_same_but_for_old_tombstones(path: str) -> None:
    history = History(boot="old", marks={"r": 5})
    history.attempts["run"] = Past(epoch=2, run="r", starting=True, pid=1, ticks=2)
    history.attempts["end"] = Past(epoch=2, run="r", starting=True, observation={"attempt": "end", "phase": "ended"})
    history.attempts["new-grave"] = Past(epoch=4, cleaned=time.time())
    history.attempts["old-grave"] = Past(epoch=4, cleaned=time.time() - 2 * 86400)
    Journal(path, "boot", history)
    found = read(path)
    del history.attempts["old-grave"]
    assert found.attempts == {
        **history.attempts,
        "new-grave": Past(epoch=4, cleaned=pytest.approx(time.time(), abs=60)),
    }
    assert (found.boot, found.marks) == ("boot", {"r": 5})


def test_an_observation_travels_without_its_defaults() -> None:
    told = Observation("a", Phase.ENDED, at=5, exit_code=0, usage=Usage(1.0), missing=("é",), lost={"x": ("y",)})
    body = body_of(told)
    assert b"stdout" not in body
    assert wire.decode(Observation, wire.parse(body)) == told


def test_the_book_tells_the_latest_of_each_in_order() -> None:
    book = Book()
    for name in ("a", "b"):
        book.accept(name, 1, "r")
    for name, phase in (("a", Phase.RUNNING), ("b", Phase.RUNNING), ("a", Phase.ENDED)):
        told = Observation(name, phase)
        book.publish(told)
    assert [wire.parse(body)["attempt"] for body in book.after(0)] == ["b", "a"]
    assert [wire.parse(body)["attempt"] for body in book.after(2)] == ["a"]
    assert book.since(book.cursor(2)) == 2
    assert book.since("else:2") == 0
    assert book.since("") == 0


def test_a_repair_cuts_behind_the_last_whole_record(tmp_path: Path) -> None:
    path = tmp_path / "x.seg"
    records = [encode(Record("t", "a", 0, n, b"line\n" * 2000)) for n in range(300)]
    whole = b"".join(records)
    for damage in (b"", records[0][:-1], b"\0" * 100, records[0][:3]):
        path.write_bytes(whole + damage)
        segments.repair(str(path), 0)
        assert path.read_bytes() == whole
        path.write_bytes(whole + damage)
        segments.repair(str(path), len(records[0]) * 7)
        assert path.read_bytes() == whole
    segments.repair(str(tmp_path / "none.seg"), 0)
