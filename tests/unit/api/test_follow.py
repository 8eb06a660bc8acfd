"""Streams: each line once and soon, states as they change, an end for those who leave."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from groundplane.api import follow
from groundplane.model.errors import NotFound
from groundplane.model.reasons import Fault, Reason
from groundplane.model.states import State
from groundplane.services import logs, runs
from groundplane.services.logs import Chunk
from tests.unit.api.asgi import Api
from tests.unit.api.documents import RUN, a_run, a_task


class Work:
    """A run whose log and state the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.chunks: list[Chunk] = []
        self.run = a_run("running", a_task("a", "running"), a_task("b", "queued"))
        self.looks = 0
        monkeypatch.setattr(runs, "find", lambda *_: RUN)
        monkeypatch.setattr(runs, "check_task", lambda *_: None)
        monkeypatch.setattr(runs, "document", self._show)
        monkeypatch.setattr(runs, "state", lambda *_: State(self.run.state))
        monkeypatch.setattr(logs, "read", self._read)

    def _show(self, *_: object) -> Any:
        self.looks += 1
        return self.run

    def _read(self, _: object, run: str, cursor: str, limit: int, task: str | None) -> Any:
        begin = int(cursor or 0)
        end = min(begin + 2, len(self.chunks))
        found = [c for c in self.chunks[begin:end] if task in (None, c.task)]
        return found, str(end) if end > begin else cursor

    def say(self, data: bytes, task: str = "a", stream: str = "stdout", unfinished: bool = False) -> None:
        self.chunks.append(Chunk(task, 1, stream, 1_785_578_400_000_000, data, unfinished))

    def end(self) -> None:
        self.run = a_run("succeeded", a_task("a"), a_task("b"))


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


def test_a_finished_run_gives_all_at_once(api: Api, work: Work) -> None:
    for number in range(5):
        work.say(f"line {number}\n".encode())
    work.end()
    found = api("GET", f"/api/v1/runs/{RUN}/follow").lines()
    text = "".join(piece["text"] for line in found if "logs" in line for piece in line["logs"])
    assert text == "".join(f"line {n}\n" for n in range(5))
    assert found[-1]["run"]["state"] == "succeeded"
    assert [line["progress"]["counts"] for line in found if "progress" in line] == [{"total": 2, "succeeded": 2}]


def test_a_follower_goes_on_at_its_cursor(api: Api, work: Work) -> None:
    for number in range(4):
        work.say(b"%d\n" % number)
    work.end()
    first = next(line for line in api("GET", f"/api/v1/runs/{RUN}/follow").lines() if "logs" in line)
    rest = api("GET", f"/api/v1/runs/{RUN}/follow?progress=false&cursor={first['cursor']}").lines()
    seen = [piece["text"] for line in [first, *rest] if "logs" in line for piece in line["logs"]]
    assert seen == ["0\n", "1\n", "2\n", "3\n"]


def test_bytes_that_are_no_utf8_travel_whole(api: Api, work: Work) -> None:
    work.say(b"\xff\x00\n")
    work.end()
    [line] = [line for line in api("GET", f"/api/v1/runs/{RUN}/follow?progress=false").lines() if "logs" in line]
    assert b64decode(line["logs"][0]["base64"]) == b"\xff\x00\n"


def test_a_follower_is_woken_by_a_line_a_change_and_the_end(api: Api, work: Work) -> None:
    async def scene() -> list[Any]:
        heard: asyncio.Queue[bytes] = asyncio.Queue()
        task = asyncio.create_task(api.call("GET", f"/api/v1/runs/{RUN}/follow", heard=heard.put_nowait))
        seen: list[Any] = []

        async def until(key: str) -> Any:
            while True:
                seen.extend(json.loads(line) for line in (await heard.get()).splitlines())
                if seen and key in seen[-1]:
                    return seen[-1]

        first = await until("progress")
        assert {t["name"]: t["state"] for t in first["progress"]["changed"]} == {"a": "running", "b": "queued"}
        work.say(b"now\n")
        await asyncio.to_thread(api.platform.notifier.notify, RUN)
        assert (await until("logs"))["logs"][0]["text"] == "now\n"
        work.run = a_run("running", a_task("a"), a_task("b", "running"))
        api.platform.notifier.notify(RUN)
        change = await until("progress")
        assert {t["name"]: t["state"] for t in change["progress"]["changed"]} == {"a": "succeeded", "b": "running"}
        work.say(b"last\n")
        work.end()
        api.platform.notifier.notify(RUN)
        assert (await until("run"))["run"]["state"] == "succeeded"
        await task
        return seen

    seen = asyncio.run(scene())
    texts = [piece["text"] for line in seen if "logs" in line for piece in line["logs"]]
    assert texts == ["now\n", "last\n"]
    assert "logs" in seen[-2] or "logs" in seen[-3], "the last lines come before the end"


def test_who_goes_away_is_forgotten(api: Api, work: Work) -> None:
    async def scene() -> None:
        gone, begun = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(
            api.call("GET", f"/api/v1/runs/{RUN}/follow", gone=gone, heard=lambda _: begun.set())
        )
        await begun.wait()
        assert api.platform.notifier._listeners
        gone.set()
        await task

    asyncio.run(scene())
    assert not api.platform.notifier._listeners
    assert not api.app.state.closing.sleepers


def test_a_control_plane_that_ends_ends_its_streams_without_calling_them_done(api: Api, work: Work) -> None:
    async def scene(path: str) -> list[Any]:
        begun = asyncio.Event()
        work.say(b"x\n")
        task = asyncio.create_task(api.call("GET", path, heard=lambda piece: piece and begun.set()))
        await begun.wait()
        api.app.state.closing.close()
        return (await task).lines()

    assert not any("run" in line for line in asyncio.run(scene(f"/api/v1/runs/{RUN}/follow")))
    api.app.state.closing.closed = False
    assert not any("end" in line for line in asyncio.run(scene(f"/api/v1/runs/{RUN}/logs?form=pieces&follow=true")))


def test_logs_as_lines_join_what_was_read_in_pieces(api: Api, work: Work) -> None:
    work.say(b"one\ntw", unfinished=True)
    work.say(b"error\n", stream="stderr")
    work.say(b"o\n\nthr", unfinished=True)
    work.say(b"b\xff", task="b", unfinished=True)
    found = api("GET", f"/api/v1/runs/{RUN}/logs").lines()
    assert [(line["task"], line["stream"], line["text"]) for line in found] == [
        ("a", "stdout", "one"), ("a", "stderr", "error"), ("a", "stdout", "two"), ("a", "stdout", ""),
        ("a", "stdout", "thr"), ("b", "stdout", "b\ufffd"),
    ]  # fmt: skip
    assert found[0]["time"] == "2026-08-01T10:00:00.000000Z"


def test_logs_of_one_task_and_as_bytes(api: Api, work: Work) -> None:
    work.say(b"a\xff\n")
    work.say(b"b\n", task="b")
    assert api("GET", f"/api/v1/runs/{RUN}/logs?form=bytes").body == b"a\xff\nb\n"
    assert [line["text"] for line in api("GET", f"/api/v1/runs/{RUN}/logs?task=b").lines()] == ["b"]
    assert api("GET", f"/api/v1/runs/{RUN}/logs?form=other").status == 422


def test_a_cursor_that_is_none_is_refused_before_the_stream(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "find", lambda *_: RUN)
    for path in ("logs", "follow"):
        answer = api("GET", f"/api/v1/runs/{RUN}/{path}?cursor=is_no_cursor")
        assert (answer.status, answer.json()["code"]) == (422, "invalid")


def test_logs_of_an_unknown_run(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: object) -> str:
        raise NotFound("there is no run 'x'", hint="ground runs list")

    monkeypatch.setattr(runs, "find", resolve)
    for path in ("logs", "follow"):
        assert api("GET", f"/api/v1/runs/x/{path}").status == 404


def test_who_wants_no_progress_may_still_hear_what_a_run_waits_for(
    api: Api, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_NET", 0.05)
    reason = Reason("no_licence_seat", "waits for a seat", "", Fault.BACKEND)
    work.run = a_run("queued", replace(a_task("a", "queued"), waiting=reason))

    async def scene(query: str) -> list[Any]:
        heard: list[bytes] = []
        path = f"/api/v1/runs/{RUN}/follow?progress=false&{query}"
        task = asyncio.create_task(api.call("GET", path, heard=heard.append))
        deadline = asyncio.get_running_loop().time() + (10 if query else 0.5)
        while not any(b"seat" in piece for piece in heard) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        work.run = a_run("succeeded", a_task("a"))
        api.platform.notifier.notify(RUN)
        return [key for line in (await task).lines() for key in line]

    assert asyncio.run(scene("waiting=true")) == ["progress", "run"]
    work.run = a_run("queued", replace(a_task("a", "queued"), waiting=reason))
    assert asyncio.run(scene("")) == ["run"]
