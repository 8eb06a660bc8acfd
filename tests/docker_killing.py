"""kill -9 of control plane, agent, containers' processes and the engine itself at random instants of a pipeline of 20
steps in containers, and what must hold afterwards. `python -m tests.docker_killing ROUNDS [SEED]` runs many."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path

from groundplane.client import Client
from groundplane.model.documents import Context, RunDocument, RunRequest
from groundplane.model.errors import Unavailable
from groundplane.model.ids import new_id
from groundplane.oci.engine import Refused
from tests.docker_drill import daemon, tiny_image
from tests.integration.agent_bench import agents_of

STEPS = 20
VICTIMS = ("control", "agent", "process", "engine")
# What an engine had begun and not noted when it was killed; and what ended while it was away, to it as unknown.
_ENGINE_LOST = ("already exists", "the engine does not know how")
_SETTLED = ("succeeded", "failed", "cancelled", "lost")


class Killing:
    """One home and one engine, whose containers outlive it. `seed` decides every instant; a failure names it."""

    def __init__(self, root: Path, seed: int) -> None:
        self.home, self.seed = root / "home", seed
        self._project = root / "project"
        self._project.mkdir(parents=True)
        self._stack = ExitStack()
        self._engine = self._stack.enter_context(daemon(root / "docker", live_restore=True))
        os.environ["DOCKER_HOST"] = self._engine.url  # what the control plane that is started has
        tiny_image(self.home)
        self._client = Client(home=self.home)
        self._chance = random.Random(seed)
        self._beside: set[str] = set()
        self.kills: Counter[str] = Counter()

    def close(self) -> None:
        self._client.shutdown(end_work=True)
        self._client.close()
        deadline = time.monotonic() + 20
        while agents_of(self.home) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._stack.close()
        del os.environ["DOCKER_HOST"]

    def round(self, most: int) -> None:
        """A run during which somebody is killed up to `most` times."""
        run = self._client.submit(self._request(), new_id()).id
        watched = threading.Event()
        watcher = threading.Thread(target=self._watch, args=[watched])
        watcher.start()
        recorded: dict[str, int] = {}  # tasks recorded as succeeded -> the attempts that they had had
        killed: set[str] = set()
        for _ in range(most):
            time.sleep(self._chance.uniform(0.1, 1.0))
            found = self._client.run(run)
            if found.state in _SETTLED:
                break
            recorded |= {each.name: each.attempts for each in found.tasks if each.state == "succeeded"}
            victim = self._chance.choice(VICTIMS)
            if self._kill(victim):
                killed.add(victim)
                self.kills[victim] += 1
        done = self._client.wait(run)
        watched.set()
        watcher.join()
        self._check(done, recorded, killed)

    def _request(self) -> RunRequest:
        steps = "".join(
            f"[pipelines.p.steps.s{i}]\n"
            f"command = ['sh', '-c', 'echo begin; echo {i} > out.txt; sleep 0.3; echo end']\noutputs = ['out.txt']\n"
            + (f'after = ["s{i - 2}"]\n' if i > 1 else "")
            for i in range(STEPS)
        )
        spec = (
            '[project]\nname = "kill"\nenvironment = "sh"\non = "docker"\n[environments.sh]\ntoolchain = "shell"\n'
            f"[pipelines.p]\n{steps}"
        )
        context = Context(str(self._project), {"PATH": os.environ["PATH"]})
        return RunRequest("p", str(self._project), context, spec=spec, fresh=True)

    def _kill(self, victim: str) -> bool:
        """Whether there was one."""
        if victim == "engine":
            self._engine.kill()
            time.sleep(self._chance.uniform(0.0, 0.5))
            self._engine.start()
            return True
        found = subprocess.run(["pgrep", "-f", f"docker_container.*{self.home}"], capture_output=True, text=True).stdout
        pids = {
            "control": [self._client.status().pid],
            "agent": agents_of(self.home),
            "process": [int(pid) for pid in found.split()][:1],
        }[victim]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return False
        return bool(pids)

    def _watch(self, over: threading.Event) -> None:
        """Notes tasks of which two containers run at a time."""
        while not over.wait(0.05):
            try:
                running = Counter(
                    each["Labels"]["ground.task"] for each in self._engine.containers() if each["State"] == "running"
                )
            except (Unavailable, Refused):
                continue
            self._beside |= {task for task, count in running.items() if count > 1}

    def _check(self, run: RunDocument, recorded: dict[str, int], killed: set[str]) -> None:
        said = f"seed {self.seed}, killed {sorted(killed)}"
        reasons = self._reasons(run.id)
        assert run.state == "succeeded", (said, run.reason)
        assert [each.state for each in run.tasks] == ["succeeded"] * STEPS, said
        assert not self._beside, (said, "two attempts ran beside each other", self._beside)
        for each in run.tasks:
            assert each.attempts == recorded.get(each.name, each.attempts), (said, each.name, "ran again")
            if not killed & {"agent", "process"}:
                why = reasons.get(each.name, [])
                lost = sum(any(words in text for words in _ENGINE_LOST) for text in why)
                assert each.attempts == 1 + lost, (said, each.name, why)
        lines = Counter((line.task, line.attempt, line.text) for line in self._client.logs(run.id))
        twice = [line for line, count in lines.items() if count > 1]
        assert not twice, (said, twice[:5])
        unsaid = {line[:2] for line in lines if "its last lines may be missing" in line[2]}
        missing = [
            (each.name, each.attempts, text)
            for each in run.tasks
            for text in ("begin", "end")
            if (each.name, each.attempts, text) not in lines and (each.name, each.attempts) not in unsaid
        ]
        assert not missing, (said, missing[:5])
        self._engine.ended()

    def _reasons(self, run: str) -> dict[str, list[str]]:
        """Task -> why its attempts ended that did not succeed."""
        query = (
            "SELECT tasks.name, attempts.reason FROM attempts JOIN tasks ON tasks.id = attempts.task_id "
            "JOIN runs ON runs.id = attempts.run_id WHERE attempts.reason IS NOT NULL AND runs.uid = ?"
        )
        found: dict[str, list[str]] = {}
        with closing(sqlite3.connect(self.home / "ground.db")) as database:
            for name, reason in database.execute(query, [run]):
                found.setdefault(name, []).append(reason)
        return found


def main(rounds: int, seed: int) -> None:
    with tempfile.TemporaryDirectory(prefix="gk") as folder:
        killing = Killing(Path(folder), seed)
        try:
            for number in range(rounds):
                began = time.monotonic()
                killing.round(most=6)
                print(f"round {number}: {time.monotonic() - began:.0f} s, so far {dict(killing.kills)}", flush=True)
        finally:
            killing.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**6))
