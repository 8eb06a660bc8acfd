"""What is answered for long ends with what was shown for it, and with the right to see it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from groundplane.api import follow, standing, working
from groundplane.api.peers import Doors, Peer, PeerProtocol
from groundplane.client import Client
from groundplane.model.errors import Denied, Unauthenticated
from groundplane.services import policies, sessions, teams, tokens, users
from groundplane.services.audit import verifying, views
from groundplane.spi import layout, segments
from groundplane.store.database import sqlite_url
from tests.integration import accounts
from tests.integration.accounts import session
from tests.planes import ME, Ground, Shared
from tests.unit.api.asgi import Answer, Api

STEP = '[pipelines.p.steps.a]\ncommand = ["/fake/a"]\n'
FORBID = '@id("not-now") forbid (principal, action == Action::"log.read", resource) when { principal.name == "ana" };'
BIG = 48 << 20


class World:
    """Ana of the project's team, with a token, a session and an attempt's token, and a run that goes on."""

    def __init__(self, ground: Ground) -> None:
        self.ground, self.platform = ground, ground.platform
        with self.platform.database.write() as connection:
            accounts.project(connection, "trial", "research")
            self.ana = accounts.user(connection, "ana", ("research", "member"))
        ground.play(a={"delay": 60.0})
        self.run = ground.submit(STEP)
        ground.until_task(self.run, "a", "running")
        log = layout.segments(ground.home, self.run) / "agent.seg"  # as an agent writes it: the fake driver has none
        log.parent.mkdir(parents=True)
        log.write_bytes(segments.encode(segments.Record("a", f"{self.run}.0.0.1", 0, 1, b"before\n")))
        self.token = tokens.create(self.platform, ME, "ana")
        self.cookie = session(self.platform, self.ana)
        self.api = Api(ground.home, self.platform, Doors())
        self.api.peer = Peer(None, "10.0.0.7", "10.0.0.1")

    def headers(self, shown: str) -> dict[str, str]:
        return {"cookie": f"ground-session={self.cookie}"} if shown == "session" else self.bearer

    @property
    def bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token.token}"}

    def answer(self, path: str, shown: str, meanwhile: Callable[[], object] | None, patience: float = 8.0) -> Answer:
        """What comes until the answer ends. meanwhile: done once something of it has come."""
        gone, began = asyncio.Event(), []

        async def scene() -> Answer:
            def heard(piece: bytes) -> None:
                if piece.strip() and not began:
                    began.append(piece)
                    if meanwhile is not None:
                        threading.Thread(target=meanwhile).start()

            call = self.api.call("GET", f"/api/v1{path}", headers=self.headers(shown), gone=gone, heard=heard)
            task = asyncio.create_task(call)
            done, _ = await asyncio.wait([task], timeout=patience)
            gone.set()
            found = await task
            assert done, f"it did not end by itself: {found.body[-300:]!r}"
            return found

        return asyncio.run(scene())


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(standing, "EVERY", 0.2)
    monkeypatch.setattr(follow, "_SIGN_OF_LIFE", 0.1)
    home = tmp_path / "home"
    ground = Ground(home, tmp_path / "project", sqlite_url(tmp_path / "ground.db"), Shared(home).seat()).start()
    made = World(ground)
    yield made
    ground.cancel(made.run)
    ground.close()


WAYS = ("follow", "follow?logs=false&progress=true", "logs?follow=true", "logs?follow=true&form=pieces")
ENDS: dict[str, tuple[Callable[[World], object], str]] = {
    "revoked": (lambda world: tokens.revoke(world.platform, ME, world.token.id), "no_token"),
    "disabled": (lambda world: users.enable(world.platform, ME, "ana", enabled=False), "no_token"),
    "out of the team": (lambda world: teams.remove(world.platform, ME, "research", "ana"), "denied"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ENDS)
def test_a_followed_stream_ends_with_the_right_to_it_and_says_so(world: World, way: str, end: str) -> None:
    act, code = ENDS[end]
    lines = world.answer(f"/runs/{world.run}/{way}", "token", lambda: act(world)).lines()
    assert len(lines) > 1 and set(lines[-1]) == {"problem"}
    assert (lines[-1]["problem"]["code"], lines[-1]["problem"]["fault"]) == (code, "user")
    if code == "denied":
        told = views.listing(world.platform, ME, 1, None)["events"][0]
        assert (told["actor"], told["object"], told["outcome"]) == ("ana", world.run, "denied")


def test_policy_is_asked_again_too(world: World) -> None:
    act = lambda: policies.add(world.platform, ME, "mine", FORBID)  # noqa: E731
    lines = world.answer(f"/runs/{world.run}/follow", "token", act).lines()
    assert "rule 'not-now' forbids it" in lines[-1]["problem"]["detail"]


def test_one_with_a_session_ends_with_it_and_does_not_keep_it_alive(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []

    def look() -> None:
        with world.platform.database.read() as connection:
            used.append(connection.exec_driver_sql("SELECT seen_at FROM sessions").scalar_one())

    def log_out() -> None:
        look()
        time.sleep(0.7)  # some looks at who reads later
        look()
        sessions.end(world.platform, world.cookie, "")

    monkeypatch.setattr(sessions, "_EXACTNESS", 1e9)  # each use is written
    lines = world.answer(f"/runs/{world.run}/follow", "session", log_out).lines()
    assert lines[-1]["problem"]["detail"] == "the session has ended"
    assert used[0] == used[1]


def test_bytes_have_no_word_for_it_and_end_without_their_end(world: World) -> None:
    answer = world.answer(f"/runs/{world.run}/logs?follow=true&form=bytes", "token", lambda: ENDS["revoked"][0](world))
    assert answer.body == b"before\n"


def test_who_may_goes_on_to_the_end(world: World) -> None:
    def end() -> None:
        time.sleep(1.0)
        world.ground.cancel(world.run)

    lines = world.answer(f"/runs/{world.run}/follow", "token", end).lines()
    assert lines[-1]["run"]["state"] == "cancelled"
    assert [e["action"] for e in views.listing(world.platform, ME, 50, None)["events"]].count("log.read") == 0


def test_long_work_ends_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "_SIGN_OF_LIFE", 0.05)
    ended = threading.Event()

    def verify(platform: Any, actor: Any, kept: Any, progress: Callable[[str], None]) -> Any:
        try:
            while True:
                progress("at it")
                time.sleep(0.02)
        finally:
            ended.set()

    monkeypatch.setattr(verifying, "verify", verify)
    with world.platform.database.write() as connection:
        accounts.team(connection, "platform")
    teams.add(world.platform, ME, "platform", "ana", "auditor")

    async def scene() -> Answer:
        def heard(piece: bytes) -> None:
            if b"at it" in piece and not revoked:
                revoked.append(True)
                threading.Thread(target=ENDS["revoked"][0], args=(world,)).start()

        revoked: list[bool] = []
        call = world.api.call("POST", "/api/v1/audit/verify", {}, headers=world.bearer, heard=heard)
        return await asyncio.wait_for(call, 10)

    lines = asyncio.run(scene()).lines()
    assert lines[-1]["problem"]["code"] == "no_token" and {"line": "at it"} in lines
    assert ended.wait(5), "and so does the work itself"


# --- over a socket, as a client meets it --------------------------------------------------------------------------


@pytest.fixture
def url(world: World) -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(world.api.app, http=PeerProtocol, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.mark.parametrize(("end", "kind"), [("revoked", Unauthenticated), ("out of the team", Denied)])
def test_a_client_is_told_why(world: World, url: str, end: str, kind: type[Denied]) -> None:
    seen = b""
    with Client(url, world.token.token) as client:
        with pytest.raises(kind) as refused:
            for pieces in client.pieces(world.run, follow=True):
                seen += b"".join(piece.data for piece in pieces)
                ENDS[end][0](world)
        assert (seen, refused.value.exit_code) == (b"before\n", 4)
        with pytest.raises(kind if end == "revoked" else Exception, match=r"no longer|does not hold|there is no run"):
            next(client.pieces(world.run, follow=True))


def test_a_download_is_cut_off(world: World, url: str) -> None:
    world.ground.play(b={"outputs": {"big.bin": "x" * BIG}})
    made = world.ground.run('[pipelines.p.steps.b]\ncommand = ["/fake/b"]\noutputs = ["big.bin"]\n')
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as to:
        to.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        bearer = f"Authorization: Bearer {world.token.token}"
        path = f"/api/v1/runs/{made.id}/artifacts/b/big.bin"
        to.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n\r\n".encode())
        first = to.recv(4096)
        assert b" 200 " in first
        ENDS["revoked"][0](world)
        time.sleep(0.5)
        received = len(first)
        while piece := to.recv(1 << 16):
            received += len(piece)
    assert received < BIG


def test_who_reads_is_looked_at_now_and_then_however_much_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    one = standing.Standing(lambda: asked.append(1))
    at = [time.monotonic()]
    monkeypatch.setattr(standing.time, "monotonic", lambda: at[0])

    async def send(message: Any) -> None:
        at[0] += standing.EVERY / 1000

    async def many(count: int) -> None:
        sent = standing.lasting(send, one)
        for _ in range(count):
            await sent({"type": "http.response.body", "body": b"a line\n", "more_body": True})

    asyncio.run(many(5000))
    assert 4 <= len(asked) <= 5
