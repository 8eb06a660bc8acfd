"""Runs work as Jobs of a Kubernetes cluster, queued by Kueue where there is one.

A pod stages for itself through a store of blobs that both sides reach (kubernetes_staging.py), by an image of ours that
stays beside the work (agent/pod.py). This driver makes the objects (kubernetes_objects.py) and follows them
(kubernetes_following.py), all on one event loop in one thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from groundplane.drivers import kubernetes_backend, kubernetes_checks, secrets
from groundplane.drivers import kubernetes_objects as objects
from groundplane.drivers import kubernetes_reasons as reasons
from groundplane.drivers.kubernetes_api import Cluster, Refused
from groundplane.drivers.kubernetes_following import CANCELLED, Following
from groundplane.drivers.kubernetes_images import Images
from groundplane.drivers.kubernetes_nodes import Followed, remembered
from groundplane.drivers.kubernetes_staging import INSIDE, Staging
from groundplane.drivers.kubernetes_staging import Refused as Unstageable
from groundplane.drivers.news import News
from groundplane.model.errors import Unavailable
from groundplane.model.reasons import Fault, Reason
from groundplane.spi import layout
from groundplane.spi.agent import agent_id
from groundplane.spi.blobs import open_store
from groundplane.spi.driver import Changes, Health
from groundplane.spi.launch import Launch, LogChunk, Observation, Phase, Submission

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_AT_ONCE = 16
_WITHIN = 120.0
_BELIEVED = 60.0
_TRIES = 8
_TRY_AGAIN = 0.5
_FULL_FOR = 5.0
"""Seconds until a namespace whose quota is used up is asked again."""
_HELD_UP = frozenset({408, 409, 429, 500, 502, 503, 504})
_MOST_ORDER = 900 * 1024
"""Bytes that a Secret takes of an order."""


class KubernetesDriver(Images):
    """See `spi.driver.Driver` and, of its extras, `CanRunImages`, `NeedsStaging`, `PullsImages`, `CanQueue`,
    `CanSpanNodes`, `CanCollectGarbage` and `KeepsSecrets`."""

    waiting_room = 1000
    """Tasks that are handed over and do not run yet: the cluster has a queue of its own."""
    most_nodes = 1000
    """Of one attempt: its order, with a signed URL for each, must fit into a Secret."""

    def __init__(self, home: Path, name: str, backend: kubernetes_backend.Backend) -> None:
        super().__init__(backend.registry, plain=backend.plain)
        self._home = home
        self._name = name
        self._backend = backend
        self._control_plane = agent_id(home)
        self._news = News()
        self._closed = False
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cluster: Cluster
        self._following: Following
        self._staging: Staging
        self._endpoint: str  # of the storage
        self._namespaces: dict[str, asyncio.Task[None]] = {}
        self._slots: asyncio.Semaphore
        self._running: set[asyncio.Future[None]] = set()

    @staticmethod
    def configured(home: Path, name: str, options: Mapping[str, str]) -> KubernetesDriver:
        """A backend that somebody adds; see `kubernetes_backend`."""
        return KubernetesDriver(home, name, kubernetes_backend.read(options))

    public = staticmethod(kubernetes_backend.public)
    keep = staticmethod(kubernetes_backend.keep)
    forget = staticmethod(secrets.forget)

    # --- the event loop -----------------------------------------------------------------------------------------------

    def _run(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """On the loop; this thread waits. The loop, and what it needs, is made when it is first used."""
        loop = self._begun()
        try:
            return asyncio.run_coroutine_threadsafe(work(), loop).result(_WITHIN)
        except Refused as refused:
            reason = reasons.refused(refused)
            raise Unavailable(reason.message, hint=reason.hint, code="backend_unavailable") from refused
        except TimeoutError:
            raise Unavailable(
                f"the cluster of backend {self._name!r} did not answer within {_WITHIN:.0f} s",
                code="backend_unavailable",
            ) from None

    def _begun(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._closed:
                raise Unavailable("this driver has been closed")
            if self._loop is None:
                given = self._backend.secrets or kubernetes_backend.secrets(self._home, self._name)
                self._endpoint = given.endpoint
                staging = Staging(self._home, open_store(self._backend.storage, given.variables), self._control_plane)
                loop = asyncio.new_event_loop()

                async def begin() -> None:
                    self._slots = asyncio.Semaphore(_AT_ONCE)
                    self._cluster = Cluster(given.kubeconfig, self._backend.context)
                    self._staging = staging
                    self._following = Following(
                        self._home,
                        self._cluster,
                        staging,
                        self._control_plane,
                        self._backend.placing.queue,
                        self._backend.patience,
                        self._news,
                    )

                try:
                    loop.run_until_complete(begin())
                except BaseException:
                    loop.close()
                    raise
                self._loop = loop
                threading.Thread(target=loop.run_forever, name=f"kubernetes-{self._name}", daemon=True).start()
            return self._loop

    def close(self) -> None:
        with self._starting:
            self._closed = True
            loop, self._loop = self._loop, None
        self._news.close()
        if loop is None:
            return

        async def end() -> None:
            await self._following.close()
            await self._cluster.close()

        try:
            asyncio.run_coroutine_threadsafe(end(), loop).result(5)
        except TimeoutError:
            log.warning("the cluster's connections did not end in time backend=%s", self._name)
        loop.call_soon_threadsafe(loop.stop)

    # --- contract: what it is -----------------------------------------------------------------------------------------

    @property
    def site(self) -> str:
        """Jobs carry the home's id, and credentials, snapshots and results lie in it."""
        return self._control_plane

    def support(self, attempt: str) -> str:
        return str(layout.support(INSIDE, attempt))

    def check(self) -> Health:
        return self._run(lambda: kubernetes_checks.check(self._cluster, self._backend, self._staging.store))

    # --- contract: work -----------------------------------------------------------------------------------------------

    def submit(self, launches: Sequence[Launch]) -> list[Submission]:
        """Takes them in; what becomes of them is told."""
        self._run(lambda: self._take_in(launches))
        return [Submission(launch.attempt) for launch in launches]

    async def _take_in(self, launches: Sequence[Launch]) -> None:
        for launch in launches:
            known = self._following.take_over(launch.attempt)
            if known is not None and known.told.phase is not Phase.UNKNOWN:
                known.epoch = launch.epoch
                self._news.tell(known)
                continue
            now = time.time_ns() // 1000
            told = Observation(launch.attempt, Phase.ACCEPTED, at=now, epoch=launch.epoch)
            each = Followed(
                launch.attempt,
                launch.run,
                launch.task,
                self._namespace(launch),
                launch.epoch,
                told,
                memory=launch.resources.memory,
            )
            each.spread(launch.resources.nodes or 1)
            self._following.begin(each)
            self._background(self._start(launch, each))

    @property
    def _meeting(self) -> tuple[str, ...]:
        """Kinds of objects that attempts on several nodes have besides: see `objects.meeting`."""
        return ("Service",) if self._backend.namespace else ("Service", "NetworkPolicy")

    def _namespace(self, launch: Launch) -> str:
        return self._backend.namespace or objects.namespace_of(launch.project or "default")

    async def _start(self, launch: Launch, each: Followed) -> None:
        """Tells the cluster, and brings what the pod needs meanwhile."""
        tries = 0
        while not each.over:
            try:
                async with self._slots:
                    await self._hand_over(launch, each)
                if each.trouble is not None:
                    self._following.hold_up(each, None)
                return
            except (Unstageable, Refused, Unavailable, OSError) as error:
                reason, passes = self._troubled(error, each)
            except Exception as error:
                log.exception("cannot be handed over attempt=%s", each.attempt)
                text = f"it could not be handed over: {type(error).__name__}: {error}"
                reason, passes = Reason("internal", text, "please report this", Fault.PLATFORM), False
            full = reason.code == "waiting_for_quota"
            tries += not full  # for a quota there is no end to waiting
            if each.over:
                return
            if each.stopping or not passes or tries == _TRIES:
                self._following.fail(each, CANCELLED if each.stopping else reason)
                return
            self._following.hold_up(each, reason)
            until = time.monotonic() + (_FULL_FOR if full else _TRY_AGAIN * 2 ** (tries - 1))
            while not (each.stopping or each.over) and time.monotonic() < until:
                await asyncio.sleep(_TRY_AGAIN)

    def _troubled(self, error: Unstageable | Refused | Unavailable | OSError, each: Followed) -> tuple[Reason, bool]:
        """Why it could not be handed over, and whether that may pass."""
        match error:
            case Unstageable():
                return error.reason, False
            case Refused():
                reason, gone = reasons.refused(error), error.status == 404
                if gone:  # its namespace is: it is made again where it is ours
                    self._namespaces.pop(each.namespace, None)
                full, ours = reason.code == "waiting_for_quota", not self._backend.namespace
                return reason, full or error.status in _HELD_UP or (gone and ours)
            case Unavailable():
                return Reason(error.code, error.message, error.hint, Fault.BACKEND), True
            case OSError():
                return Reason("start_failed", f"it could not be staged: {error}", fault=Fault.PLATFORM), False

    async def _hand_over(self, launch: Launch, each: Followed) -> None:
        ensured = asyncio.ensure_future(self._ensure(each.namespace, launch))
        staged = await asyncio.to_thread(self._staging.prepare, launch)
        each.lost = staged.lost
        if len(staged.order) > _MOST_ORDER:
            text = (
                f"its command, variables and inputs take {len(staged.order)} bytes, more than a cluster's Secret holds"
            )
            raise Unstageable(Reason("start_failed", text, "give it fewer inputs, or put long values into a file"))
        uploaded = asyncio.ensure_future(asyncio.to_thread(self._staging.upload, staged))
        try:
            await ensured
            if each.stopping:
                self._following.fail(each, CANCELLED)
                return
            task = self._task(launch, each)
            await self._cluster.create(objects.secret(task, staged.order))
            more = objects.meeting(task, policed=not self._backend.namespace) if task.nodes > 1 else []
            for one in more:
                await self._cluster.create(one)
            job = await self._cluster.create(objects.job(task, self._backend.placing))
            each.submitted = time.monotonic()
            if each.stopping:
                await self._cluster.delete("Job", objects.name_of(each.attempt), each.namespace)
                self._following.fail(each, CANCELLED)
            if job is not None:
                change = objects.owned(job["metadata"]["uid"], task)
                for kind in ("Secret", *(found["kind"] for found in more)):
                    await self._cluster.patch(kind, objects.name_of(each.attempt), each.namespace, change)
            await asyncio.to_thread(self._staging.begun, each.attempt, task.nodes)
        finally:
            await uploaded

    def _task(self, launch: Launch, each: Followed) -> objects.Task:
        container = launch.container
        if container is None:
            raise TypeError(f"attempt {launch.attempt} has no image to run in")
        return objects.Task(
            attempt=launch.attempt,
            run=launch.run,
            task=launch.task,
            project=launch.project or "default",
            team=launch.team or "default",
            epoch=launch.epoch,
            control_plane=self._control_plane,
            namespace=each.namespace,
            image=container.image,
            staging=self.staging_image,
            resources=launch.resources,
            network=container.network,
            grace=launch.grace,
            lost=each.lost,
        )

    async def _ensure(self, namespace: str, launch: Launch) -> None:
        """The namespace is there, has what tasks need, and is watched."""
        known = self._namespaces.get(namespace)
        if known is None or (known.done() and known.exception() is not None):
            known = self._namespaces[namespace] = asyncio.ensure_future(self._furnish(namespace, launch))
        await asyncio.shield(known)

    async def _furnish(self, namespace: str, launch: Launch) -> None:
        if not self._backend.namespace:
            mine = objects.labels_in(launch.project or "default", launch.team or "default", self._control_plane)
            queue = self._backend.placing.queue
            if await self._cluster.get("Namespace", namespace) is None:
                await self._cluster.create(objects.namespace(namespace, mine))
            for policy in objects.network_policies(namespace, mine, self._endpoint):
                await self._cluster.create(policy)
            if queue:
                await self._cluster.create(objects.local_queue(namespace, mine, queue))
        await self._following.watch(namespace)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            try:
                await work
            except Exception:
                log.exception("handing over failed backend=%s", self._name)

        task = asyncio.ensure_future(run())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def observe(self, attempts: Sequence[str]) -> list[Observation]:
        return self._run(lambda: self._observe(attempts)) if attempts else []

    async def _observe(self, attempts: Sequence[str]) -> list[Observation]:
        await self._survey()
        jobs: dict[str, dict[str, Any]] = {}
        if any(name not in self._following.attempts for name in attempts):
            mine = f"{objects.MINE}={self._control_plane}"
            for job in (await self._cluster.listing("Job", self._backend.namespace, mine))["items"]:
                jobs[objects.notes_of(job).get(objects.ATTEMPT, "")] = job
        return list(await asyncio.gather(*(self._one(name, jobs.get(name)) for name in attempts)))

    async def _survey(self) -> None:
        """All namespaces are watched in which this control plane has Jobs."""
        if self._backend.namespace:
            await self._following.watch(self._backend.namespace)
            return
        found = await self._cluster.listing("Namespace", labels=f"{objects.MINE}={self._control_plane}")
        for each in found["items"]:
            await self._following.watch(each["metadata"]["name"])

    async def _one(self, attempt: str, found: dict[str, Any] | None) -> Observation:
        """found: its Job."""
        async with self._slots:
            known = self._following.take_over(attempt)
            if known is not None:
                return known.told
            nodes = 1
            if found is None and not (nodes := await asyncio.to_thread(self._staging.has_begun, attempt)):
                return Observation(attempt, Phase.UNKNOWN)
            each = remembered(attempt, found, nodes)
            each.submitted = time.monotonic()
            self._following.begin(each)
            if found is None:
                await self._following.missing(each)
            return each.told

    def changes(self, cursor: str, timeout: float) -> Changes:
        self._begun()
        return self._news.since(cursor, timeout)

    def logs(self, attempt: str, cursor: str) -> tuple[str, list[LogChunk]]:
        """None: pods' own segments are mirrored into the run's."""
        return cursor, []

    def stop(self, attempt: str, grace: float) -> None:
        self._run(lambda: self._stop(attempt, grace))

    async def _stop(self, attempt: str, grace: float) -> None:
        each = self._following.attempts.get(attempt)
        if each is None or each.over:
            return
        each.stop()
        pods = [part.pod["metadata"]["name"] for part in each.parts if part.pod is not None]
        if not pods:
            if await self._cluster.delete("Job", objects.name_of(attempt), each.namespace):
                self._following.fail(each, CANCELLED)
            return
        # The pods first: their Job would make them go without the time that they need for their last words.
        await asyncio.gather(*(self._cluster.delete("Pod", pod, each.namespace, grace=grace + 25) for pod in pods))
        await self._cluster.delete("Job", objects.name_of(attempt), each.namespace)

    def cleanup(self, attempts: Sequence[str]) -> None:
        if attempts:
            self._run(lambda: self._clean_up(attempts))

    async def _clean_up(self, attempts: Sequence[str]) -> None:
        async def one(attempt: str) -> None:
            async with self._slots:
                each = self._following.attempts.get(attempt)
                if each is not None and not each.over:
                    return
                namespace = each.namespace if each is not None else self._backend.namespace
                if namespace:
                    name = objects.name_of(attempt)
                    nodes = len(each.parts) if each is not None else 1
                    for kind in ("Job", "Secret", *(self._meeting if nodes > 1 else ())):
                        await self._cluster.delete(kind, name, namespace)
                if each is not None:
                    await asyncio.to_thread(self._staging.forget, attempt, len(each.parts))
                else:
                    await asyncio.to_thread(self._staging.forget_wholly, attempt)
                self._following.attempts.pop(attempt, None)
                self._news.drop(attempt)

        try:
            await asyncio.gather(*map(one, attempts))
        except Refused as refused:
            log.warning("not cleaned up backend=%s error=%s", self._name, refused.message)

    def collect_garbage(self, needed: Callable[[], set[str]]) -> list[str]:
        return self._run(lambda: self._collect(needed))

    async def _collect(self, needed: Callable[[], set[str]]) -> list[str]:
        gone: list[str] = []
        mine = f"{objects.MINE}={self._control_plane}"
        kinds = {"Job": mine, "Pod": mine, "Secret": mine}
        kinds |= dict.fromkeys(self._meeting, f"{mine},{objects.ATTEMPT}")  # a namespace has some of its own
        there = [
            (kind, found)
            for kind, labels in kinds.items()
            for found in (await self._cluster.listing(kind, self._backend.namespace, labels))["items"]
        ]
        stored = await asyncio.to_thread(self._staging.attempts)
        kept = await asyncio.to_thread(needed)  # after the look: what has begun since is not among what was found
        for kind, found in there:
            head = found["metadata"]
            attempt = objects.notes_of(found).get(objects.ATTEMPT, "")
            if attempt not in kept and await self._cluster.delete(kind, head["name"], head["namespace"]):
                gone.append(f"{kind} {head['namespace']}/{head['name']}")
        for attempt in sorted(stored - kept):
            await asyncio.to_thread(self._staging.forget_wholly, attempt)
            gone.append(f"result of {attempt}")
        return gone

    # --- contract: images ---------------------------------------------------------------------------------------------

    def ping(self) -> None:
        self._run(lambda: self._cluster.ask("GET", "/version"))
