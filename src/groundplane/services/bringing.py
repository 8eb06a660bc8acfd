"""Images that tasks run in: resolved, built and brought to their backend before the tasks are claimed."""

from __future__ import annotations

import logging
import time
from collections.abc import Set
from dataclasses import replace
from functools import partial
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from groundplane.model.errors import GroundError, Invalid, Unavailable
from groundplane.model.locks import Lock
from groundplane.model.reasons import Fault, Reason
from groundplane.oci import reference
from groundplane.services import environments, gpus, locking, plans, progress, pulling, reasons, shelf
from groundplane.services.plans import Placement, PlannedEngine, RunPlan
from groundplane.services.platform import Platform, now
from groundplane.spi.driver import CanRunImages, NeedsStaging, PullsImages, RunsPipelines
from groundplane.spi.images import Image, Progress
from groundplane.store import runs, tasks

log = logging.getLogger(__name__)

READY = 3
"""The mark of tasks that wait for their image; see the column."""
_TOLD_EVERY = 0.5
_PATIENCE = 60.0
_AGAIN = 0.5
_AWAY = ("backend_unavailable", "registry_unavailable")

Found = Image | str
"""An image that was built here, or the name of somebody else's that the backend pulls by itself."""


def driver_of(platform: Platform, backend: str) -> CanRunImages | None:
    """The backend's driver where its work runs in images."""
    driver = platform.driver(backend)
    if not isinstance(driver, CanRunImages):
        return None
    if isinstance(driver, NeedsStaging):
        driver.use_staging(_staging_name())
    return driver


def staging_image(platform: Platform, progress: Progress) -> Image:
    """What stages for work that has no agent beside it: at once when it is built, else built alone."""
    from groundplane.images import staging

    return staging.image(shelf.store(platform.home), shelf.builder(platform.home, "debian"), progress)


def stages(image: Image) -> bool:
    """Whether it is what stages, of whichever version: other control planes may have work that it stages for."""
    from groundplane.images import staging

    return image.builder == staging.BUILDER


def _staging_name() -> str:
    from groundplane.images import staging

    return staging.name()


def found(platform: Platform, connection: Connection, placed: Placement) -> Found | None:
    """The image that the placement's lock describes; None while it has to be built."""
    return _found(platform, plans.load_lock(connection, placed.lock), placed.backend)


def _found(platform: Platform, lock: Lock, backend: str) -> Found | None:
    """What is here comes first: its nodes may not reach the registry that it once came from."""
    return shelf.built(platform.home, lock) or pulling.name(platform.driver(backend), lock) or None


def name(platform: Platform, backend: str, image: Found | None) -> str:
    """What the backend calls the image; "" for one that is not built."""
    driver = driver_of(platform, backend)
    if image is None or driver is None:
        return ""
    return image if isinstance(image, str) else driver.image_name(image)


def is_there(platform: Platform, backend: str, image: Found | None) -> bool:
    """Whether the backend has the image now, and what stages for it; otherwise it has to be brought."""
    driver = driver_of(platform, backend)
    try:
        if image is None or driver is None or not (isinstance(image, str) or driver.has(image)):
            return False
        return not isinstance(driver, NeedsStaging) or driver.has_staging()
    except Unavailable:
        return False


def floats(image: Found | None) -> bool:
    """Whether it may be another one tomorrow, for nobody could say which it is."""
    return isinstance(image, str) and not reference.parse(image).digest


def unreachable(platform: Platform, plan: RunPlan) -> dict[str, Reason]:
    """Backends that run images or whole pipelines and do not answer now, each with the reason."""
    away: dict[str, Reason] = {}
    for backend in sorted(plan.backends):
        driver = platform.driver(backend)
        try:
            if isinstance(driver, CanRunImages | RunsPipelines):
                driver.ping()
        except Unavailable as error:
            away[backend] = Reason(error.code, error.message, error.hint, Fault.BACKEND)
    return away


def unfinished(platform: Platform, site: str) -> list[tuple[int, int]]:
    """(run, position) of the site's steps whose tasks were waiting for their image when a control plane ended. Those of
    a backend that cannot be used here go on waiting."""
    with platform.database.read() as connection:
        rows = tasks.with_ready(connection, READY, site)
    return list(dict.fromkeys((row.run_id, row.position) for row in rows if row.backend in platform.drivers))


def bring(platform: Platform, run_id: int, position: int) -> None:
    """Brings the image of a step to its backend; its tasks may then be claimed, or they fail with the reason."""
    with platform.database.read() as connection:
        row = runs.by_key(connection, run_id)
        plan = plans.load(connection, row.plan)
    step = plan.step(position)
    # A backend that is away when a run begins is told at once; one that went away later is waited for.
    patience = 0.0 if row.started_at is None else _PATIENCE
    tell = _Teller(platform, row.uid, run_id, position)
    try:
        placed = plan.placement(step)
        stranger = bool(row.confined)
        lock = _lock(platform, plan, step.name, tell, stranger=stranger)
        if placed.image is not None and not placed.lock:  # what its packages need was not known when it was planned
            gpus.check(platform.driver(placed.backend), placed.backend, [step], {step.name: (placed.image, lock)})
        image = _found(platform, lock, placed.backend) or _image(
            platform, lock, placed, Path(plan.folder), tell, stranger=stranger
        )
        _patiently(platform, placed.backend, image, tell, patience)
    except GroundError as error:
        changed = _fail(platform, run_id, position, _reason(error))
    except DBAPIError:
        raise  # tried again
    except Exception as error:
        log.exception("an image cannot be brought run=%s step=%s", row.uid, step.name)
        text = f"its image cannot be brought: {type(error).__name__}: {error}"
        changed = _fail(platform, run_id, position, Reason("internal", text, "please report this", Fault.PLATFORM))
    else:
        changed = _go_on(platform, run_id, position, row.uid, lock)
    platform.notifier.notify(*changed)


def _lock(platform: Platform, plan: RunPlan, step: str, progress: Progress, *, stranger: bool) -> Lock:
    """The lock in the plan, else the one that this home resolved earlier, else resolved now: by the registry of
    somebody else's image alone, where the backend pulls from there."""
    placed = plan.placements[step]
    if placed.lock:
        with platform.database.read() as connection:
            return plans.load_lock(connection, placed.lock)
    known = shelf.resolved(platform.home, placed.definition)
    if known is not None:
        return known
    if placed.image is None:
        raise TypeError(f"step {step} runs in no image")
    folder = Path(plan.folder)
    if environments.definition(placed.image, locking.digests_in(folder), folder) != placed.definition:
        raise Invalid(
            f"the files in {folder} that its environment is made from have changed since the run was submitted",
            hint="run it again; `ground env lock` keeps an environment as it is",
            code="stale_lock",
        )
    driver = platform.driver(placed.backend)
    if placed.image.image and isinstance(driver, PullsImages):
        progress(f"asking its registry for {placed.image.image}")
        return pulling.lock(driver, placed.image, placed.definition, folder)
    lock = locking.resolve(platform, placed.image, folder, placed.definition, None, progress, stranger=stranger)
    shelf.keep_resolved(platform.home, lock)
    return lock


def _image(
    platform: Platform, lock: Lock, placed: Placement, folder: Path, progress: Progress, *, stranger: bool
) -> Image:
    try:
        return locking.image_of(platform, lock, progress, folder=folder, stranger=stranger)
    except Unavailable as error:
        known = shelf.resolved(platform.home, placed.definition)
        if error.code == "package_gone" and known == lock:  # nobody asked for these very versions
            shelf.forget_resolved(platform.home, placed.definition)
            raise Unavailable(error.message, hint="run it again: it is resolved anew", code=error.code) from error
        raise


def _patiently(platform: Platform, backend: str, image: Found, progress: Progress, patience: float) -> None:
    """patience: how many seconds a backend that is away, or its registry, is waited for."""
    driver = driver_of(platform, backend)
    if driver is None:
        raise TypeError(f"backend {backend} runs no images")
    deadline = time.monotonic() + patience
    while True:
        try:
            driver.ping()
            if isinstance(driver, NeedsStaging):
                make = partial(staging_image, platform, progress)
                driver.bring_staging(make, shelf.store(platform.home).blob, progress)
            if not isinstance(image, str):
                driver.bring(image, shelf.store(platform.home).blob, progress)
            return
        except Unavailable as error:
            if error.code not in _AWAY or time.monotonic() > deadline:
                raise
            time.sleep(_AGAIN)


def _go_on(platform: Platform, run_id: int, position: int, uid: str, lock: Lock) -> set[str]:
    """The step's tasks may be claimed. What was found out of the environment is in the run's plan from now on."""
    with platform.database.write() as connection:
        row = runs.by_key(connection, run_id, lock=True)
        plan = plans.load(connection, row.plan)
        if not plan.placement(plan.step(position)).lock:
            fits = {name for name, driver in platform.drivers.items() if pulling.fits(lock, driver)}
            plan = known(plan, lock, plans.store_lock(connection, lock), fits)
            runs.set_plan(connection, run_id, plans.store(connection, plan))
        tasks.set_ready(connection, _waiting(connection, run_id, position), 1)
    return {uid}


def known(plan: RunPlan, lock: Lock, digest: str, backends: Set[str]) -> RunPlan:
    """The plan in which every step of that environment on these backends has its lock and its engine."""
    placements, engines = dict(plan.placements), dict(plan.engines)
    for name, placed in plan.placements.items():
        if placed.definition == lock.definition and not placed.lock and placed.backend in backends:
            placements[name] = replace(placed, lock=digest)
            engines[name] = inside(engines[name], lock)
    warnings = (*plan.warnings, pulling.warning(lock)) if pulling.floats(lock) else plan.warnings
    return replace(plan, placements=placements, engines=engines, warnings=tuple(dict.fromkeys(warnings)))


def inside(engine: PlannedEngine, lock: Lock) -> PlannedEngine:
    """The engine as the image has it. What the lock knows nothing of is found by its name."""
    mine = bool(lock.engine) and engine.name == lock.engine
    return replace(
        engine,
        path=lock.program if mine and lock.program else engine.path,
        version=lock.version if mine else engine.version,
        libraries=lock.sha256,
    )


def _fail(platform: Platform, run_id: int, position: int, reason: Reason) -> set[str]:
    with platform.database.write() as connection:
        runs.lock(connection, [run_id])
        waiting = _waiting(connection, run_id, position)
        ended = [progress.Ended(task, run_id, position, "failed", reason) for task in waiting]
        return progress.end(platform, connection, ended, now())


def _waiting(connection: Connection, run_id: int, position: int) -> list[int]:
    """The step's tasks that wait for their image."""
    rows = tasks.of_step(connection, run_id, position)
    return [row.id for row in rows if row.state == "queued" and row.ready == READY]


def _reason(error: GroundError) -> Reason:
    """Whose fault: the caller's for what does not exist; the backend's for what is out of reach; this side's disk."""
    if isinstance(error, Unavailable) and error.code != "no_space":
        return Reason(error.code, error.message, error.hint, Fault.BACKEND)
    return reasons.of_error(error)


class _Teller:
    """Takes a builder's lines, and tells the run's followers the latest one now and then."""

    def __init__(self, platform: Platform, uid: str, run_id: int, position: int) -> None:
        self._platform = platform
        self._uid = uid
        self._run_id = run_id
        self._position = position
        self._told = 0.0

    def __call__(self, text: str) -> None:
        if time.monotonic() - self._told < _TOLD_EVERY:
            return
        self._told = time.monotonic()
        with self._platform.database.write() as connection:
            waiting = _waiting(connection, self._run_id, self._position)
            tasks.set_waiting(connection, waiting, Reason("preparing_image", f"its image is made: {text}"))
        self._platform.notifier.notify(self._uid)
