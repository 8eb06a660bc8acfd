"""A whole control plane in the test's own process: services and engine over a database and a driver."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from groundplane.drivers.local import LocalDriver
from groundplane.drivers.scripted import ScriptedDriver
from groundplane.engine.conductor import Conductor
from groundplane.engine.relay import Relay
from groundplane.model.documents import Context, RerunRequest, RunDocument, RunRequest, TaskDocument
from groundplane.model.errors import Unavailable
from groundplane.model.ids import new_id
from groundplane.model.states import FINAL
from groundplane.services import claims, leases, logs, runs
from groundplane.services.access import Actor
from groundplane.services.platform import Platform
from groundplane.spi.driver import Changes, Driver, Submission
from groundplane.spi.launch import Launch
from groundplane.spi.layout import blob
from groundplane.store.database import Database

ME = Actor("tester", "owner")
PATIENCE = 30.0
_LOOK = 0.2


HOWEVER_IT_ENDS = {
    "failed": {"exit": 1},
    "killed": {"signal": 9},
    "lost": {"lost": True},
    "refused": {"refuse": "start_failed"},
    "timeout": {"reason": ["timeout", "too long"]},
}
"""What the scripted driver plays: each way in which an attempt ends without success."""


def claims_within(seconds: float, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often a control plane of this process looks for ready tasks meanwhile."""
    turns: list[int] = []
    claim = claims.claim

    def counted(*of: Any) -> Any:
        turns.append(1)
        return claim(*of)

    monkeypatch.setattr(claims, "claim", counted)
    threading.Event().wait(seconds)
    return len(turns)


class Shared(ScriptedDriver):
    """A backend that outlives control planes, and has several at once: `seat` is one control plane's way to it.
    `launches`: all that it was given, of what has been cleaned up too."""

    def __init__(self, home: Path | None = None) -> None:
        super().__init__(home)
        self.launches: list[Launch] = []

    def submit(self, launches: Sequence[Launch]) -> list[Submission]:
        self.launches.extend(launches)
        return super().submit(launches)

    def seat(self) -> Seat:
        return Seat(self)


class Seat:
    """Everything is the backend's but the end of the connection. `cut`: it does not get through."""

    def __init__(self, backend: Shared) -> None:
        self.backend = backend
        self.cut = False
        self._closed = False

    def __getattr__(self, name: str) -> Any:
        if self.cut:
            raise Unavailable("the test cut this control plane off")
        return getattr(self.backend, name)

    def changes(self, cursor: str, timeout: float) -> Changes:
        deadline = time.monotonic() + timeout
        while True:
            if self.cut:
                time.sleep(_LOOK)
                raise Unavailable("the test cut this control plane off")
            found = self.backend.changes(cursor, min(_LOOK, timeout))
            if found.observations or self._closed or time.monotonic() > deadline:
                return found

    def close(self) -> None:
        self._closed = True


class Ground:
    """One control plane. `project` is the folder that its runs are started in.

    Steps of the fake driver are commands like `/fake/clean`; `play` says what they do.
    """

    def __init__(self, home: Path, project: Path, url: str, driver: Driver | Seat) -> None:
        self.home, self.project, self.url, self.driver = home, project, url, driver
        for folder in (home, project):
            folder.mkdir(parents=True, exist_ok=True)
        self.backend = driver.backend if isinstance(driver, Seat) else None
        self.platform: Platform
        self.conductor: Conductor
        self._relay: Relay | None = None
        self._up = False

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> Ground:
        """Opens the database and begins to work."""
        self.platform = Platform(home=self.home, database=Database(self.url), drivers={"local": self.driver})
        self.conductor = Conductor(self.platform)
        self.conductor.start()
        if not self.platform.database.sqlite:
            self._relay = Relay(self.platform)
            self._relay.start()
        self._up = True
        return self

    def close(self, *, killed: bool = False) -> None:
        """Ends it; `killed`: without a word to the others, as kill -9 would. The driver's work runs on."""
        if not self._up:
            return
        self._up = False
        if killed:
            before, leases.leave = leases.leave, lambda platform: None
            try:
                self.conductor.close()
            finally:
                leases.leave = before
        else:
            self.conductor.close()
        if self._relay:
            self._relay.close()
        self.platform.database.close()

    def again(self) -> None:
        """As a restart: a new process would know no more than this."""
        self.close(killed=True)
        if isinstance(self.driver, LocalDriver):
            self.driver = LocalDriver(self.home)
        if self.backend:
            self.driver = self.backend.seat()
        self.start()

    # --- what a user does -------------------------------------------------------------------------------------------

    def write(self, files: Mapping[str, str | bytes]) -> None:
        """Puts files into the project."""
        for name, text in files.items():
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def play(self, **scripts: Mapping[str, Any]) -> None:
        """What `/fake/NAME` does from now on; see drivers/scripted.py."""
        assert self.backend
        for name, script in scripts.items():
            self.backend.script(f"/fake/{name}", script)

    def starts(self, run: RunDocument | str) -> list[str]:
        """The attempts of a run that the fake started, as STEP-POSITION.NUMBER.TRY."""
        assert self.backend
        uid = run if isinstance(run, str) else run.id
        return [name.partition(".")[2] for name in self.backend.starts if name.startswith(uid)]

    def context(self, **variables: str) -> Context:
        return Context(str(self.project), {"PATH": os.environ["PATH"], **variables})

    def request(self, steps: str = "", *, script: str | None = None, **fields: Any) -> RunRequest:
        """A pipeline whose steps are `steps` (TOML below [pipelines.p]), or a lone script."""
        spec = None if script else f'[project]\nname = "trial"\n[pipelines.p]\n{steps}'
        return RunRequest(
            target=script or "p",
            folder=str(self.project),
            context=fields.pop("context", None) or self.context(),
            script=script,
            spec=spec,
            **fields,
        )

    def submit(self, steps: str = "", **fields: Any) -> str:
        """Starts a run; its id."""
        uid = fields.pop("uid", None) or new_id()
        return runs.submit(self.platform, ME, uid, self.request(steps, **fields)).id

    def run(self, steps: str = "", **fields: Any) -> RunDocument:
        """Starts a run and waits for its end."""
        return self.wait(self.submit(steps, **fields))

    def rerun(self, ref: str, *, failed: bool = False, **fields: Any) -> RunDocument:
        request = RerunRequest(id=new_id(), context=self.context(), failed=failed, **fields)
        return self.wait(runs.rerun(self.platform, ME, ref, request).id)

    def cancel(self, ref: str) -> RunDocument:
        return runs.cancel(self.platform, ME, ref)

    def show(self, ref: str = "latest") -> RunDocument:
        return runs.show(self.platform, ME, ref)

    def wait(self, ref: str) -> RunDocument:
        uid = runs.find(self.platform, ME, ref)
        self.until(lambda: runs.state(self.platform, uid) in FINAL, lambda: str(self.show(ref)))
        return self.show(ref)

    def until(self, holds: Callable[[], Any], what: Callable[[], str] = lambda: "it did not come to be so") -> Any:
        """What `holds` gives, once it gives something."""
        deadline = time.monotonic() + PATIENCE
        while not (found := holds()):
            assert time.monotonic() < deadline, what()
            time.sleep(0.005)
        return found

    def until_task(self, ref: str, name: str, state: str) -> None:
        """Waits until a task is in that state."""
        self.until(lambda: task(self.show(ref), name).state == state, lambda: str(self.show(ref)))

    # --- what is left -----------------------------------------------------------------------------------------------

    def lines(self, ref: str) -> list[str]:
        """The run's log, `STREAM TASK: text` a line."""
        chunks, _ = logs.read(self.platform, runs.find(self.platform, ME, ref), "", 1 << 30)
        return [f"{c.stream} {c.task}: {line}" for c in chunks for line in c.data.decode().splitlines()]

    def content(self, run: RunDocument, name: str) -> bytes:
        """An artifact TASK/NAME."""
        for each in run.tasks:
            for output in each.outputs:
                if f"{each.name}/{output.name}" == name:
                    return blob(self.home, output.sha256).read_bytes()
        raise AssertionError(f"no {name} in {[(t.name, [o.name for o in t.outputs]) for t in run.tasks]}")


def task(run: RunDocument, name: str) -> TaskDocument:
    """The run's task of that name."""
    return next(each for each in run.tasks if each.name == name)


def states(run: RunDocument) -> dict[str, str]:
    """Task -> state."""
    return {each.name: each.state for each in run.tasks}
