"""What becomes of tasks on a cluster: one watch a namespace, one log stream a running pod, all on one event loop."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from groundplane.drivers import kubernetes_queue
from groundplane.drivers import kubernetes_reasons as reasons
from groundplane.drivers.kubernetes_api import Cluster, Refused
from groundplane.drivers.kubernetes_nodes import Followed, remembered, together
from groundplane.drivers.kubernetes_objects import ATTEMPT, MINE, STAGE, memory_of, name_of, notes_of
from groundplane.drivers.kubernetes_staging import Staging
from groundplane.drivers.news import News
from groundplane.model.errors import GroundError, Unavailable
from groundplane.model.reasons import Fault, Reason
from groundplane.spi import layout, wire
from groundplane.spi.launch import Observation, Phase

log = logging.getLogger(__name__)

CANCELLED = Reason("cancelled", "it was cancelled")
_RETRY = 0.5
_LOOK = 2.0
"""Seconds between two looks at why tasks have no pod, while there are such."""
_STATUS_WITHIN = 8.0
"""Seconds in which the cluster tells how a container ended whose staging has told already."""
_LOOKS = 4
"""At a Job with a deadline whose pod goes."""
_LOST_AFTER = 20.0
"""Seconds after a pod's end in which its result may still be on its way."""


class Following:
    """On the event loop only, but for its news. patience: seconds that an image or a place may be waited for."""

    def __init__(
        self,
        home: Path,
        cluster: Cluster,
        staging: Staging,
        control_plane: str,
        queue: str,
        patience: float,
        news: News,
    ) -> None:
        self._home = home
        self._cluster = cluster
        self._staging = staging
        self._mine = f"{MINE}={control_plane}"
        self._queue = queue
        self._patience = patience
        self._news = news
        self.attempts: dict[str, Followed] = {}
        # Attempt -> its pods, of a former control plane, or of one beside this one, which writes the same log: nobody
        # has asked for them here.
        self._others: dict[str, dict[str, Mapping[str, Any]]] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._listed: dict[str, asyncio.Future[None]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()

    async def watch(self, namespace: str) -> None:
        """Follows a namespace's pods from now on; returns when what is there has been seen. Raises Refused where this
        user may not see them; it is tried again all the same."""
        if namespace not in self._watches:
            self._listed[namespace] = asyncio.get_running_loop().create_future()
            self._watches[namespace] = asyncio.create_task(self._watch(namespace))
        await asyncio.shield(self._listed[namespace])

    def begin(self, followed: Followed) -> None:
        """An attempt that the cluster is being told of."""
        self.attempts[followed.attempt] = followed
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())

    def take_over(self, attempt: str) -> Followed | None:
        """The attempt, which is followed from now on where its pod is known; None for one that never was."""
        pods = self._others.pop(attempt, {})
        if pods and attempt not in self.attempts:
            self.begin(remembered(attempt, next(iter(pods.values()))))
            for pod in pods.values():
                self._seen(pod)
        return self.attempts.get(attempt)

    async def close(self) -> None:
        works = [*self._watches.values(), *self._background, *([self._looking] if self._looking else [])]
        works += [part.streaming for each in self.attempts.values() for part in each.parts if part.streaming]
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)

    def _parts(self) -> list[Followed]:
        return [part for each in self.attempts.values() for part in each.parts]

    # --- pods -------------------------------------------------------------------------------------------------------

    async def _watch(self, namespace: str) -> None:
        version = ""
        while True:
            try:
                if not version:
                    found = await self._cluster.listing("Pod", namespace, self._mine)
                    version = found["metadata"].get("resourceVersion", "")
                    self._others = {
                        name: pods
                        for name, pods in self._others.items()
                        if next(iter(pods.values()))["metadata"]["namespace"] != namespace
                    }
                    there = {self._seen(pod) for pod in found["items"]}
                    for each in self._parts():
                        if each.namespace == namespace and each.pod is not None and each not in there:
                            self._vanished(each)
                    self._has_listed(namespace, None)
                async for event in self._cluster.watch("Pod", namespace, self._mine, version):
                    pod = event["object"]
                    version = pod["metadata"]["resourceVersion"]
                    if event["type"] in ("ADDED", "MODIFIED"):
                        self._seen(pod)
                    elif event["type"] == "DELETED":
                        each = self._seen(pod)
                        self._others.pop(notes_of(pod).get(ATTEMPT, ""), None)
                        if each is not None:
                            self._vanished(each)
            except Refused as refused:
                version = ""
                if refused.status != 410:
                    log.warning("pods not followed namespace=%s error=%s", namespace, refused.message)
                    self._has_listed(namespace, refused)
                    await asyncio.sleep(_RETRY)
            except Unavailable as error:
                log.warning("pods not followed namespace=%s error=%s", namespace, error.message)
                await asyncio.sleep(_RETRY)

    def _has_listed(self, namespace: str, refused: Refused | None) -> None:
        """Lets those go on who wait for it."""
        listed = self._listed[namespace]
        if refused is None and listed.done() and listed.exception() is not None:
            listed = self._listed[namespace] = asyncio.get_running_loop().create_future()
        if listed.done():
            return
        if refused is None:
            listed.set_result(None)
        else:
            listed.set_exception(refused)

    def _seen(self, pod: Mapping[str, Any]) -> Followed | None:
        """Takes a pod's state in; whose it is, None for a pod that is none's, or that nobody has asked for."""
        attempt = notes_of(pod).get(ATTEMPT, "")
        if not attempt:
            return None
        whole = self.attempts.get(attempt)
        if whole is None:
            self._others.setdefault(attempt, {})[pod["metadata"]["name"]] = pod
            return None
        each = whole.part(pod)
        if each.over:
            return each
        each.pod = pod
        each.changed.set()
        each.memory = each.memory or memory_of(pod)
        if each.streaming is None and reasons.has_begun(pod):
            each.streaming = asyncio.create_task(self._stream(each, pod["metadata"]["name"]))
        if pod["status"].get("phase") in ("Failed", "Succeeded") and not each.pod_ended:
            each.pod_ended = time.monotonic()
            self._do(self._conclude(each))
        elif reasons.is_adrift(pod) and not each.pod_ended:  # nobody is there to confirm its end
            each.pod_ended = time.monotonic()
            self._do(self._conclude(each, gone=True))
        elif each.told.phase is Phase.ACCEPTED:
            self._waits(each, reasons.waits(pod))
        return each

    def hold_up(self, each: Followed, trouble: Reason | None) -> None:
        """It could not be handed over so far, for this reason; None: it is."""
        each.trouble = trouble
        for part in each.parts:
            if part.told.phase is Phase.ACCEPTED:
                self._waits(part, reasons.waits(part.pod or {}))

    def _waits(self, each: Followed, found: reasons.Wait | None) -> None:
        """found: what holds it up in the cluster."""
        now, trouble = time.monotonic(), (each.whole or each).trouble
        if found is None and trouble is not None:
            found = reasons.Wait(trouble)
        each.waiting_since = 0.0 if found is None or found.endless else each.waiting_since or now
        reason = found.reason if found is not None else None
        late = bool(self._patience and each.waiting_since) and now - each.waiting_since > self._patience
        if found is not None and (found.over or late):
            self._end(each, Observation(each.attempt, Phase.ENDED, reason=reason))
            self._do(self._remove(each))
        elif each.told.reason != reason:
            self._say(each, replace(each.told, reason=reason))

    def _vanished(self, each: Followed) -> None:
        if not each.over:
            self._do(self._conclude(each, gone=True))

    async def _conclude(self, each: Followed, gone: bool = False) -> None:
        """Its pod has ended, or is gone: the result may be there, or still be told by its stream; else the cluster says
        why there is none."""
        deadline = time.monotonic() + (_LOST_AFTER if each.streaming is not None else 1.0)
        while each.streaming is not None and not each.streaming.done() and time.monotonic() < deadline:
            await asyncio.wait([each.streaming], timeout=0.2)
        if each.over or each.ending:
            return
        if await self._collect(each):
            return
        pod = each.pod or {}
        name = pod.get("metadata", {}).get("name", name_of(each.attempt))
        reason = await self._taken_away(each) if gone and not each.stopping else reasons.failed(pod)
        stop = reasons.stopped(pod)
        if each.stopping:
            reason = CANCELLED
        elif stop is not None and stop.out_of_memory:
            reason = reasons.out_of_memory(each.memory)
        elif reason is None:
            said = f" (exit code {stop.exit_code})" if stop else ""
            text = f"pod {name} ended{said} without a result"
            reason = Reason("lost", text, "it is tried again by itself", Fault.BACKEND)
        self._end(each, Observation(each.attempt, Phase.ENDED, exit_code=stop.exit_code if stop else None,
                                    reason=reason))  # fmt: skip

    # --- a pod's own words ------------------------------------------------------------------------------------------

    async def _stream(self, each: Followed, pod: str) -> None:
        """Mirrors the pod's log segment, and takes its end, from the staging container's lines."""
        while not each.over:
            try:
                async for line in self._cluster.log(pod, each.namespace, STAGE):
                    await self._line(each, line)
                    if each.over:
                        return
            except Refused as refused:
                if refused.status == 404:  # the pod is gone
                    return
            except Unavailable as error:
                log.warning("log not followed attempt=%s error=%s", each.attempt, error.message)
            except (ValueError, KeyError):
                log.exception("the staging container's words make no sense attempt=%s", each.attempt)
            if each.pod_ended:
                return
            await asyncio.sleep(_RETRY)

    async def _line(self, each: Followed, line: bytes) -> None:
        if not line.startswith(b"{"):
            log.warning("staging said attempt=%s %s", each.attempt, line[:500].decode(errors="replace"))
            return
        said = json.loads(line.decode(errors="surrogateescape"))
        if said["t"] == "log":
            if self._mirror(each, said["from"], base64.b64decode(said["data"])):
                self._news.grew(each.run)
        elif said["t"] == "started":
            if each.told.phase is Phase.ACCEPTED:
                at = int(said["at"])
                self._say(each, Observation(each.attempt, Phase.RUNNING, at=at, epoch=each.epoch, started_at=at))
        elif said["t"] == "ended":
            told = wire.decode(Observation, said["observation"])
            if not said.get("uploaded") or not await self._collect(each):
                await self._ended(each, told)

    def segment(self, each: Followed) -> Path:
        """Its log in the home: the run's segments are the attempts', and those of their further nodes."""
        return layout.segments(self._home, each.run) / f"{each.attempt}{f'-{each.index}' if each.index else ''}.seg"

    def _mirror(self, each: Followed, start: int, data: bytes) -> bool:
        """Appends what is new of the pod's own segment. A gap (the node has thrown lines away) is filled at the end."""
        path = self.segment(each)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            have = file.tell()
            if start > have or start + len(data) <= have:
                return False
            file.write(data[have - start :])
        return True

    async def _collect(self, each: Followed) -> bool:
        """Takes the result from the storage; whether there was one."""
        if each.ending or each.over:
            return True
        each.ending = True
        try:
            told = await asyncio.to_thread(self._staging.fetch, each.attempt, self.segment(each), each.index)
        except (OSError, GroundError) as error:
            each.ending = False
            message = error.message if isinstance(error, GroundError) else str(error)
            log.warning("result not fetched attempt=%s error=%s", each.attempt, message)
            await asyncio.sleep(_RETRY)
            return await self._collect(each)
        if told is None:
            each.ending = False
            return False
        self._news.grew(each.run)
        await self._ended(each, told)
        return True

    async def _ended(self, each: Followed, told: Observation) -> None:
        """The staging container's own word, and what only the cluster knows: whether its memory ran out."""
        if told.reason is not None and told.reason.code == "staging_failed":
            found = await asyncio.to_thread(self._staging.doubt, told.reason)  # before it is told, and tried again
            told = replace(told, reason=(each.whole or each).trouble or found)
        killed = told.reason is None and told.exit_code in (None, 137)
        if killed and not each.stopping:
            await self._until(each, lambda pod: reasons.stopped(pod) is not None)
            stop, found = reasons.stopped(each.pod or {}), reasons.failed(each.pod or {})
            if stop is not None and stop.out_of_memory:
                told = replace(told, reason=reasons.out_of_memory(each.memory), exit_code=stop.exit_code)
            elif found is not None:
                told = replace(told, reason=found)
            elif stop is not None and told.exit_code is None:
                told = replace(told, exit_code=stop.exit_code)
            elif told.exit_code is None:
                told = replace(told, reason=await self._taken_away(each))
        elif told.reason is not None and told.reason.code == "cancelled" and not each.stopping:
            await self._until(each, reasons.is_going)
            told = replace(told, reason=await self._taken_away(each))
        self._end(each, replace(told, lost={**told.lost, **each.lost}))

    async def _until(self, each: Followed, holds: Callable[[Mapping[str, Any]], bool]) -> None:
        """Waits for the cluster to say so of its pod, which it does a little later than the pod itself."""
        deadline = time.monotonic() + _STATUS_WITHIN
        while not holds(each.pod or {}) and (left := deadline - time.monotonic()) > 0:
            each.changed.clear()
            try:
                await asyncio.wait_for(each.changed.wait(), left)
            except TimeoutError:
                return

    async def _taken_away(self, each: Followed) -> Reason:
        """Why its pod is gone, or goes, though nobody here asked for it."""
        pod, name = each.pod or {}, name_of(each.attempt)
        if (found := reasons.failed(pod)) is not None:
            return found
        try:
            for _ in range(_LOOKS):
                job = await self._cluster.get("Job", name, each.namespace) or {}
                if (found := reasons.overdue(job)) is not None:
                    return found
                if not job.get("spec", {}).get("activeDeadlineSeconds"):
                    break
                await asyncio.sleep(_RETRY)  # a Job takes its pods away before it says why
        except (Refused, Unavailable) as error:
            log.warning("cannot tell why its pod is gone attempt=%s error=%s", each.attempt, error)
        return reasons.deleted(pod.get("metadata", {}).get("name", name))

    # --- tasks without a pod ------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Why tasks have no pod: a quota, a queue, or somebody has taken their Jobs away."""
        while self.attempts:
            await asyncio.sleep(_LOOK)
            now = time.monotonic()
            podless: dict[str, list[Followed]] = {}
            for each in self._parts():
                if each.over or each.ending:
                    continue
                submitted = (each.whole or each).submitted
                if each.pod is None and submitted and now - submitted > _LOOK:
                    podless.setdefault(each.namespace, []).append(each)
                elif each.told.phase is Phase.ACCEPTED and each.pod is not None:
                    self._waits(each, reasons.waits(each.pod))  # patience ends by the clock
            for namespace, waiting in podless.items():
                try:
                    await self._explain(namespace, waiting)
                except Refused as refused:
                    log.warning("cannot tell why tasks wait namespace=%s error=%s", namespace, refused.message)
                except Unavailable as error:
                    log.warning("cannot tell why tasks wait namespace=%s error=%s", namespace, error.message)

    async def _explain(self, namespace: str, waiting: list[Followed]) -> None:
        jobs = {
            notes_of(job).get(ATTEMPT, ""): job
            for job in (await self._cluster.listing("Job", namespace, self._mine))["items"]
        }
        events: dict[str, list[Mapping[str, Any]]] = {}
        fields = "involvedObject.kind=Job,reason=FailedCreate"
        for event in (await self._cluster.listing("Event", namespace, fields=fields))["items"]:
            events.setdefault(event["involvedObject"]["name"], []).append(event)
        positions = await kubernetes_queue.positions(self._cluster, namespace, self._queue) if self._queue else {}
        words = await kubernetes_queue.words(self._cluster, namespace) if self._queue else {}
        for each in waiting:
            if each.over or each.pod is not None:
                continue  # meanwhile
            job = jobs.get(each.attempt)
            if job is None:
                if not await self._collect(each) and not each.over:
                    self._end(each, Observation(each.attempt, Phase.ENDED,
                                                reason=reasons.deleted(name_of(each.attempt))))  # fmt: skip
                continue
            if job["spec"].get("suspend") and self._queue:
                uid = job["metadata"]["uid"]
                self._waits(each, reasons.Wait(reasons.queued(self._queue, positions.get(uid), words.get(uid, ""))))
            else:
                self._waits(each, reasons.held_back(events.get(job["metadata"]["name"], ())))

    async def missing(self, each: Followed) -> None:
        """The cluster knows nothing of it any more: its result may be there, else nobody will ever know."""
        for part in each.parts:
            if not await self._collect(part) and not part.over:
                reason = reasons.deleted(name_of(each.attempt))
                self._end(part, Observation(each.attempt, Phase.LOST, reason=reason))

    # --- telling ------------------------------------------------------------------------------------------------------

    def fail(self, each: Followed, reason: Reason) -> None:
        """It could not be handed over."""
        self._end(each, Observation(each.attempt, Phase.ENDED, reason=reason))

    def _end(self, each: Followed, told: Observation) -> None:
        if each.over:
            return
        at = told.at or time.time_ns() // 1000
        self._say(each, replace(told, attempt=each.attempt, at=at, epoch=each.epoch))

    def _say(self, each: Followed, told: Observation) -> None:
        each.told = told
        whole = each.whole
        if whole is None:
            self._news.tell(each)
        elif (news := together(whole, each)) is not None:
            self._say(whole, news)
            if whole.over and not all(node.told.phase is Phase.ENDED for node in whole.nodes) and whole.namespace:
                self._do(self._remove(whole))  # one has failed: the others need not go on

    async def _remove(self, each: Followed) -> None:
        await self._cluster.delete("Job", name_of(each.attempt), each.namespace)

    def _do(self, work: Awaitable[None]) -> None:
        """In the background; what goes wrong is logged."""

        async def run() -> None:
            try:
                await work
            except (Refused, Unavailable) as error:
                log.warning("the cluster did not do it error=%s", error)
            except Exception:
                log.exception("following failed")

        task = asyncio.create_task(run())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
