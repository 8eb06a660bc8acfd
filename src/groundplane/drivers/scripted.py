"""A FAKE for tests: it runs nothing. It plays, in memory, what a script says a backend did.

An attempt's script is the JSON object in its environment's GROUND_FAKE, or what `script` was given for its command's
first word; else it succeeds at once. All keys may be left out:

    {"delay": 0.0, "exit": 0, "signal": 9, "stdout": "text\\n", "stderr": "", "lost": false, "refuse": "code",
     "stop_takes": 0.0, "ignores_stop": false, "outputs": {"name": "content"}, "missing": ["name"],
     "reason": ["code", "message"]}

`exit` may be a list: one for each time that the same task is submitted. `outputs` need `home`, where their blobs go.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from groundplane.model.artifacts import Output
from groundplane.model.errors import Unavailable
from groundplane.model.gpus import Gpus
from groundplane.model.reasons import Fault, Reason
from groundplane.spi import layout
from groundplane.spi.driver import Changes, Health
from groundplane.spi.launch import Launch, LogChunk, Observation, Phase, Submission, Usage

_Script = Mapping[str, Any]


@dataclass(slots=True)
class _Played:
    """One attempt. ends_at: monotonic seconds; None once it has ended."""

    launch: Launch
    script: _Script
    ends_at: float | None
    exit_code: int
    told: Observation
    number: int = 0
    stopped: bool = False


class ScriptedDriver:
    """See `spi.driver.Driver`; the module's docstring says what it plays."""

    def __init__(self, home: Path | None = None, scripts: Mapping[str, _Script] | None = None) -> None:
        self._home = home
        self._scripts = dict(scripts or {})
        self._changed = threading.Condition()
        self._played: dict[str, _Played] = {}
        self._graves: dict[str, int] = {}
        self._times: dict[tuple[str, str], int] = {}
        self._number = 0
        self._incarnation = os.urandom(4).hex()
        self._closed = False
        self.starts: list[str] = []
        self.reachable = True
        self.gpus: Gpus | None = Gpus()  # None: it does not tell which
        self.gpu_count = 0  # then

    @property
    def site(self) -> str:
        return ""

    def script(self, program: str, script: _Script) -> None:
        """What commands of that first word do from now on."""
        self._scripts[program] = script

    def check(self) -> Health:
        self._reach()
        devices = self.gpus
        count = len(devices.devices) if devices else self.gpu_count
        facts = {"limits": "none: it is a fake"}
        return Health(
            True,
            "ready (a fake: nothing is really run)",
            cpus=1000.0,
            memory=1 << 50,
            gpus=count,
            facts=facts,
            devices=devices,
        )

    def support(self, attempt: str) -> str:
        return str(layout.support(self._home or Path("/nonexistent"), attempt))

    def submit(self, launches: Sequence[Launch]) -> list[Submission]:
        self._reach()
        with self._changed:
            answers = [Submission(launch.attempt, self._accept(launch)) for launch in launches]
            self._changed.notify_all()
        return answers

    def _accept(self, launch: Launch) -> Reason | None:
        known = self._played.get(launch.attempt)
        before = known.told.epoch if known else self._graves.get(launch.attempt)
        if before is not None and (known is None or launch.epoch < before):
            text = f"attempt {launch.attempt} was submitted with epoch {launch.epoch} after epoch {before}"
            return Reason("stale", text, fault=Fault.PLATFORM)
        if known is not None:
            known.told = replace(known.told, epoch=launch.epoch)
            self._tell(known)
            return None
        script = self._script_of(launch)
        if code := script.get("refuse"):
            return Reason(code, "the fake backend refuses it, as its script says", fault=Fault.BACKEND)
        times = self._times[launch.run, launch.task] = self._times.get((launch.run, launch.task), -1) + 1
        codes = script["exit"] if isinstance(script.get("exit"), list) else [script.get("exit", 0)]
        exit_code = codes[min(times, len(codes) - 1)]
        now = time.time_ns() // 1000
        told = Observation(launch.attempt, Phase.RUNNING, at=now, epoch=launch.epoch, started_at=now)
        ends_at = time.monotonic() + float(script.get("delay", 0.0))
        played = self._played[launch.attempt] = _Played(launch, script, ends_at, exit_code, told)
        self.starts.append(launch.attempt)
        self._tell(played)
        return None

    def _script_of(self, launch: Launch) -> _Script:
        if text := launch.env.get("GROUND_FAKE"):
            return json.loads(text)
        return self._scripts.get(launch.command.argv[0] if launch.command.argv else "", {})

    def changes(self, cursor: str, timeout: float) -> Changes:
        self._reach()
        deadline = time.monotonic() + timeout
        incarnation, _, number = cursor.partition(":")
        since = int(number) if incarnation == self._incarnation else 0
        with self._changed:
            while True:
                self._play()
                news = sorted((p for p in self._played.values() if p.number > since), key=lambda p: p.number)
                left = deadline - time.monotonic()
                if news or left <= 0 or self._closed:
                    at = news[-1].number if news else since
                    return Changes(f"{self._incarnation}:{at}", tuple(played.told for played in news))
                ends = [p.ends_at for p in self._played.values() if p.ends_at is not None]
                self._changed.wait(min([left, *(max(0.0, end - time.monotonic()) for end in ends)]))

    def observe(self, attempts: Sequence[str]) -> list[Observation]:
        self._reach()
        with self._changed:
            self._play()
            return [
                self._played[name].told if name in self._played else Observation(name, Phase.UNKNOWN)
                for name in attempts
            ]

    def logs(self, attempt: str, cursor: str) -> tuple[str, list[LogChunk]]:
        self._reach()
        with self._changed:
            played = self._played.get(attempt)
            if played is None or cursor == "all":
                return cursor, []
            at = played.told.started_at
            chunks = [
                LogChunk(attempt, stream, at, text.encode(), unfinished=not text.endswith("\n"))
                for stream in ("stdout", "stderr")
                if (text := str(played.script.get(stream, "")))
            ]
            return "all", chunks

    def stop(self, attempt: str, grace: float) -> None:
        self._reach()
        with self._changed:
            played = self._played.get(attempt)
            if played is None or played.ends_at is None or played.stopped:
                return
            played.stopped = True
            takes = grace if played.script.get("ignores_stop") else float(played.script.get("stop_takes", 0.0))
            played.ends_at = time.monotonic() + min(takes, grace)
            self._play()
            self._changed.notify_all()

    def cleanup(self, attempts: Sequence[str]) -> None:
        self._reach()
        with self._changed:
            self._play()
            for name in attempts:
                played = self._played.get(name)
                if played is not None and played.ends_at is None:
                    self._graves[name] = played.told.epoch
                    del self._played[name]

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _reach(self) -> None:
        if not self.reachable:
            raise Unavailable("the fake backend was told to be out of reach")

    def _tell(self, played: _Played) -> None:
        self._number += 1
        played.number = self._number

    def _play(self) -> None:
        """Ends those whose time has come."""
        now = time.monotonic()
        due = [p for p in self._played.values() if p.ends_at is not None and p.ends_at <= now]
        for played in sorted(due, key=lambda p: p.ends_at or 0.0):
            played.ends_at = None
            played.told = self._ending(played)
            self._tell(played)

    def _ending(self, played: _Played) -> Observation:
        script, told = played.script, played.told
        at = max(time.time_ns() // 1000, told.started_at)
        if script.get("lost") and not played.stopped:
            reason = Reason("lost", "the fake backend lost it, as its script says", fault=Fault.BACKEND)
            return replace(told, phase=Phase.LOST, at=at, reason=reason)
        number: int | None = script.get("signal")
        reason = Reason(*script["reason"]) if "reason" in script else None
        if played.stopped:
            number = 9 if script.get("ignores_stop") else 15
            reason = Reason("cancelled", "it was cancelled")
        exit_code = 128 + number if number else played.exit_code
        succeeded = exit_code == 0 and reason is None
        return replace(
            told,
            phase=Phase.ENDED,
            at=at,
            exit_code=exit_code,
            signal=number,
            sentinel=succeeded,
            stdout=str(script.get("stdout", "")),
            stderr=str(script.get("stderr", "")),
            outputs=self._outputs(script) if succeeded else (),
            missing=tuple(script.get("missing", ())),
            usage=Usage(wall=(at - told.started_at) / 1e6),
            reason=reason,
        )

    def _outputs(self, script: _Script) -> tuple[Output, ...]:
        found: list[Output] = []
        for name, content in sorted(dict[str, str](script.get("outputs", {})).items()):
            data = content.encode()
            digest = hashlib.sha256(data).hexdigest()
            if self._home is not None:
                blob = layout.blob(self._home, digest)
                blob.parent.mkdir(parents=True, exist_ok=True)
                if not blob.exists():
                    blob.write_bytes(data)
                    blob.chmod(0o444)
            found.append(Output(name, len(data), digest))
        return tuple(found)
