"""An attempt that is followed on a cluster, with its nodes where it has several, and what is told of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from groundplane.drivers.kubernetes_objects import EPOCH, INDEX, LOST, NODES, RUN, TASK, notes_of
from groundplane.model.reasons import Reason
from groundplane.spi.launch import Observation, Phase, Usage


@dataclass(slots=True, eq=False)
class Followed:
    """One attempt, or one node of an attempt that has several. told: the newest observation; number: when it came to be
    so. submitted: monotonic seconds. 0: the cluster has not been told yet. pod: its newest state. memory: the limit.
    lost: what conversions lost. index, whole: which node it is, and of what. nodes: those that it has. trouble: why it
    could not be handed over so far; it is tried again.
    """

    attempt: str
    run: str
    task: str
    namespace: str
    epoch: int
    told: Observation
    number: int = 0
    submitted: float = 0.0
    pod: Mapping[str, Any] | None = None
    pod_ended: float = 0.0
    waiting_since: float = 0.0
    streaming: asyncio.Task[None] | None = None
    ending: bool = False
    stopping: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    lost: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    memory: int | None = None
    index: int | None = None
    whole: Followed | None = None
    nodes: list[Followed] = field(default_factory=list["Followed"])
    trouble: Reason | None = None

    @property
    def over(self) -> bool:
        return _ended(self) or (self.whole is not None and _ended(self.whole))

    @property
    def parts(self) -> list[Followed]:
        """What has a pod of its own."""
        return self.nodes or [self]

    def part(self, pod: Mapping[str, Any]) -> Followed:
        """The one that the pod belongs to."""
        return self.nodes[int(notes_of(pod)[INDEX])] if self.nodes else self

    def spread(self, nodes: int) -> None:
        """It has that many."""
        if nodes > 1:
            self.nodes = [
                Followed(self.attempt, self.run, self.task, self.namespace, self.epoch, self.told, memory=self.memory,
                         index=index, whole=self)
                for index in range(nodes)
            ]  # fmt: skip

    def stop(self) -> None:
        """Whatever ends it from now on has been asked for."""
        for each in (self, *self.nodes):
            each.stopping = True


def remembered(attempt: str, found: Mapping[str, Any] | None, nodes: int = 1) -> Followed:
    """An attempt of a former control plane, by a Job or pod of it. nodes: where there is neither."""
    notes = notes_of(found) if found else {NODES: str(nodes)}
    epoch = int(notes.get(EPOCH, "1"))
    told = Observation(attempt, Phase.ACCEPTED, at=time.time_ns() // 1000, epoch=epoch)
    namespace = str(found["metadata"]["namespace"]) if found else ""
    run = notes.get(RUN) or attempt.partition(".")[0]
    each = Followed(attempt, run, notes.get(TASK, ""), namespace, epoch, told)
    each.lost = {name: tuple(said) for name, said in json.loads(notes.get(LOST, "{}")).items()}
    each.spread(int(notes.get(NODES, "1")))
    return each


def together(whole: Followed, node: Followed) -> Observation | None:
    """What is to be told of the whole now that there is news of a node; None: nothing.

    It runs as soon as the first node does. It ends with the first that fails, or when all have ended: with the first
    node's outputs, the CPU time of all, and the memory of the one that took the most.
    """
    if _ended(whole):
        return None
    first = whole.nodes[0].told
    if _ended(node) and not _went_well(node.told):
        return _failed(whole, node)
    if all(map(_ended, whole.nodes)):
        sentinel = all(each.told.sentinel for each in whole.nodes)
        return replace(first, sentinel=sentinel, usage=_used(whole), lost={**whole.lost, **first.lost})
    if whole.told.phase is not Phase.ACCEPTED:
        return None
    if first.phase is not Phase.ACCEPTED:
        started = first.started_at or first.at
        return Observation(whole.attempt, Phase.RUNNING, at=started, epoch=whole.epoch, started_at=started)
    reason = next((each.told.reason for each in whole.nodes if each.told.reason is not None), None)
    return replace(whole.told, reason=reason) if reason != whole.told.reason else None


def _ended(each: Followed) -> bool:
    return each.told.phase in (Phase.ENDED, Phase.LOST)


def _went_well(told: Observation) -> bool:
    return told.phase is Phase.ENDED and told.exit_code == 0 and told.reason is None


def _failed(whole: Followed, node: Followed) -> Observation:
    """It counts for all. How the script failed on the first node is told from its own words, as anywhere."""
    told, which = node.told, f"node {node.index} of {len(whole.nodes)}"
    reason = told.reason
    if reason is not None and reason.code != "cancelled":
        reason = replace(reason, message=f"{which}: {reason.message}")
    elif reason is None and node.index:
        ended = f"was ended by signal {told.signal}" if told.signal else f"exited with code {told.exit_code}"
        last = told.stderr.strip().rpartition("\n")[2]
        hint = "the log has what it printed; nodes are counted from 0"
        reason = Reason("error", f"{which} {ended}{f': {last}' if last else ''}", hint)
    started = whole.nodes[0].told.started_at or told.started_at
    return replace(told, started_at=started, reason=reason, outputs=(), usage=_used(whole), lost=whole.lost)


def _used(whole: Followed) -> Usage:
    """By those nodes that have told."""
    each = [node.told.usage for node in whole.nodes]
    return Usage(max(u.wall for u in each), round(sum(u.cpu for u in each), 6), max(u.memory for u in each))
