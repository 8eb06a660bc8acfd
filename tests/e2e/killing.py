"""kill -9 of control plane and agent at random instants of a 50-step pipeline, and what must hold afterwards.

Used by test_kill.py with few rounds and by bench/kill.py with many.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from groundplane.client import Client
from groundplane.model.documents import Context, RunDocument, RunRequest
from groundplane.model.ids import new_id
from tests.integration.agent_bench import agents_of

STEPS = 50
_SETTLED = ("succeeded", "failed", "cancelled", "lost")


class Killing:
    """One home, one pipeline a round. `seed` decides every instant; a failure names it."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.home, self.seed = root, root / "home", seed
        self._chance = random.Random(seed)
        self._client = Client(home=self.home)
        self._rounds = 0
        self.kills: Counter[str] = Counter()

    def close(self) -> None:
        """Ends control plane, agent and work."""
        self._client.shutdown(end_work=True)
        self._client.close()
        deadline = time.monotonic() + 20
        while agents_of(self.home) and time.monotonic() < deadline:
            time.sleep(0.02)

    def round(self, victims: Sequence[str], most: int) -> int:
        """A run whose victims (`control`, `agent`) are killed up to `most` times; how many instants there were."""
        self._rounds += 1
        project = self.root / f"round{self._rounds}"
        project.mkdir()
        ledger = project.with_suffix(".ledger")
        ledger.touch()
        run = self._client.submit(self._request(project, ledger), new_id()).id
        instants = 0
        recorded: dict[str, int] = {}  # tasks recorded as succeeded -> how often they had started then
        while instants < most:
            self._client.status()  # both are there
            time.sleep(self._chance.uniform(0.0, 0.4))
            recorded |= self._recorded(run, ledger)
            if not self._kill(victims):
                break
            instants += 1
            if self._client.run(run).state in _SETTLED:
                break
        self._check(self._client.wait(run), ledger, recorded, victims)
        return instants

    def _request(self, project: Path, ledger: Path) -> RunRequest:
        steps = "".join(
            f"[pipelines.p.steps.s{i}]\n"
            f"command = ['sh', '-c', 'echo start {i} >> {ledger}; echo begin; sleep 0.05; echo end; "
            f"echo end {i} >> {ledger}']\n" + (f'after = ["s{i - 2}"]\n' if i > 1 else "")
            for i in range(STEPS)
        )
        spec = f'[project]\nname = "kill"\n[pipelines.p]\n{steps}'
        return RunRequest("p", str(project), Context(str(project), {"PATH": os.environ["PATH"]}), spec=spec)

    def _recorded(self, run: str, ledger: Path) -> dict[str, int]:
        document = self._client.run(run)
        starts = _counted(ledger, "start")
        return {each.name: starts[each.name] for each in document.tasks if each.state == "succeeded"}

    def _kill(self, victims: Sequence[str]) -> bool:
        pids = {"control": [self._client.status().pid], "agent": agents_of(self.home)}
        for victim in victims:
            for pid in pids[victim]:
                try:
                    os.kill(pid, signal.SIGKILL)
                    self.kills[victim] += 1
                except ProcessLookupError:
                    return False
        return True

    def _check(self, run: RunDocument, ledger: Path, recorded: dict[str, int], victims: Sequence[str]) -> None:
        said = f"seed {self.seed}, round {self._rounds}, {'+'.join(victims)} killed"
        assert run.state == "succeeded", (said, run.state, run.reason)
        assert [each.state for each in run.tasks] == ["succeeded"] * STEPS, said
        starts, ends = _counted(ledger, "start"), _counted(ledger, "end")
        for each in run.tasks:
            assert 1 <= starts[each.name] <= each.attempts, (said, each.name, starts[each.name], each.attempts)
            assert ends[each.name] >= 1, (said, each.name, "never ended")
            if "agent" not in victims:
                assert each.attempts == 1, (said, each.name, each.attempts)
            if each.name in recorded:
                assert starts[each.name] == recorded[each.name], (said, each.name, "a recorded success ran again")
        lines = Counter((line.task, line.attempt, line.text) for line in self._client.logs(run.id))
        twice = [line for line, count in lines.items() if count > 1]
        assert not twice, (said, twice[:5])
        missing = [
            (each.name, each.attempts, text)
            for each in run.tasks
            for text in ("begin", "end")
            if (each.name, each.attempts, text) not in lines
        ]
        assert not missing, (said, missing[:5])


def _counted(ledger: Path, word: str) -> Counter[str]:
    """How often each task has written the word."""
    events = [line.split() for line in ledger.read_text().splitlines()]
    return Counter(f"s{event[1]}" for event in events if len(event) == 2 and event[0] == word)
