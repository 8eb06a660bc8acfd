"""What the driver suite works with: one launch that says the same to a shell, here or in a container, and to the
scripted fake."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from groundplane.model.ids import new_id
from groundplane.spi import layout, segments
from groundplane.spi.driver import Driver
from groundplane.spi.launch import Container, Launch, Observation, Phase
from groundplane.spi.toolchain import Command
from tests.docker_drill import TINY

Script = Mapping[str, Any]
PATIENCE = 20.0


def launch(sh: str, fake: Script | None = None, **fields: Any) -> Launch:
    """A launch of a shell script; `fake` is the same for the fake driver."""
    command = fields.pop("command", None) or Command(("sh", "-c", sh))
    env = {"PATH": os.environ["PATH"], "GROUND_FAKE": json.dumps(dict(fake or {})), **fields.pop("env", {})}
    return Launch(
        attempt=fields.pop("attempt", None) or new_id(),
        epoch=fields.pop("epoch", 1),
        run=fields.pop("run", "run"),
        task=fields.pop("task", "task"),
        snapshot=fields.pop("snapshot", ""),
        command=command,
        env=env,
        container=Container(TINY),
        **fields,
    )


class Bench:
    """A driver and its home. `again` makes another driver for the same backend, as a restarted control plane would.

    many: launches that it ends within a moment.
    """

    def __init__(self, driver: Driver, home: Path, again: Callable[[], Driver], many: int = 60) -> None:
        self.driver = driver
        self.home = home
        self.again = again
        self.many = many
        self.cursor = ""
        self.seen: list[Observation] = []

    def submit(self, *launches: Launch) -> None:
        for answer in self.driver.submit(launches):
            assert answer.refused is None, answer

    def until(self, attempt: str, *phases: Phase) -> Observation:
        """Follows changes until the attempt is in one of the phases."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for told in reversed(self.seen):
                if told.attempt == attempt:
                    if told.phase in phases:
                        return told
                    break
            assert time.monotonic() < deadline, f"{attempt} is not {phases} but {self.seen[-3:]}"
            changes = self.driver.changes(self.cursor, 1.0)
            self.cursor = changes.cursor
            self.seen.extend(changes.observations)

    def run(self, wanted: Launch) -> Observation:
        """Submits it and waits for its end."""
        self.submit(wanted)
        return self.until(wanted.attempt, Phase.ENDED, Phase.LOST)

    def records(self, wanted: Launch) -> list[segments.Record]:
        """The attempt's log, wherever the driver keeps it."""
        found = [
            record
            for path in sorted(layout.segments(self.home, wanted.run).glob("*.seg"))
            for record, _ in segments.decode(path.read_bytes())
            if record.attempt == wanted.attempt
        ]
        _, chunks = self.driver.logs(wanted.attempt, "")
        for chunk in chunks:
            flags = segments.UNFINISHED if chunk.unfinished else 0
            stream = segments.STREAMS.index(chunk.stream)
            found.append(segments.Record(wanted.task, wanted.attempt, stream, chunk.at, chunk.data, flags))
        return found

    def output(self, wanted: Launch, stream: int = 0) -> bytes:
        return b"".join(record.data for record in self.records(wanted) if record.stream == stream)
