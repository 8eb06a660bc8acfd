"""A driver: where work runs. One conformance suite (tests/conformance) holds for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from groundplane.model.gpus import Gpus
from groundplane.spi.images import Image, Progress
from groundplane.spi.launch import Launch, LogChunk, Observation, Submission


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a backend can take work. `facts` are shown as they are (`limits: sampled, not enforced`).

    cpus, memory: the most that a task can have there; 0: not known. gpus: how many it has. devices: which;
    None when it cannot tell.
    """

    ok: bool
    message: str
    hint: str = ""
    cpus: float = 0.0
    memory: int = 0
    gpus: int = 0
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    devices: Gpus | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What has happened since a cursor. `logs` names the runs whose log segments have grown.

    interrupted: the connection was made anew, perhaps to an agent that knows nothing of what was handed to the former
    one: ask after it (`observe`).
    """

    cursor: str
    observations: tuple[Observation, ...] = ()
    logs: tuple[str, ...] = ()
    interrupted: bool = False


class Driver(Protocol):
    """`submit`, `stop` and `cleanup` are idempotent. All calls block and may be made from any thread.

    Every method raises Unavailable when the backend cannot be reached.
    """

    @property
    def site(self) -> str:
        """Where its work lives: control planes of another site leave it alone. "" when any may follow it."""
        ...

    def check(self) -> Health: ...

    def support(self, attempt: str) -> str:
        """Absolute path, as the work sees it, of the attempt's support folder."""
        ...

    def submit(self, launches: Sequence[Launch]) -> list[Submission]: ...

    def changes(self, cursor: str, timeout: float) -> Changes:
        """Blocks until something has changed or `timeout` seconds have passed. "" is the cursor from the start."""
        ...

    def observe(self, attempts: Sequence[str]) -> list[Observation]:
        """One observation per attempt asked for, in that order; after a restart, and as the net."""
        ...

    def logs(self, attempt: str, cursor: str) -> tuple[str, list[LogChunk]]:
        """Log since `cursor`. A driver whose agent writes the segments itself returns none."""
        ...

    def stop(self, attempt: str, grace: float) -> None: ...

    def cleanup(self, attempts: Sequence[str]) -> None:
        """Forgets ended attempts; their outputs are in the blob store by then."""
        ...

    def close(self) -> None:
        """Ends this driver's threads and connections, not the work."""
        ...


@runtime_checkable
class CanStop(Protocol):
    """A driver whose agent is a process of ours."""

    def pid(self) -> int | None:
        """The agent's process; None when none runs."""
        ...

    def shutdown(self, end_work: bool) -> None:
        """Tells the agent to exit: at once with its work ended, or as soon as it has none."""
        ...


@runtime_checkable
class KeepsSecrets(Protocol):
    """A driver among whose options are secrets: the database holds none."""

    def public(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """The options that are none."""
        ...

    def keep(self, home: Path, name: str, options: Mapping[str, str]) -> None:
        """Keeps the secrets among them in the home, for its owner alone."""
        ...

    def forget(self, home: Path, name: str) -> None:
        """Deletes them."""
        ...


@runtime_checkable
class RunsBeside(Protocol):
    """A driver whose work runs beside the platform itself, in no container: that of strangers has to be confined."""

    def unconfined(self) -> str:
        """Why it cannot be; "" when it can."""
        ...


@runtime_checkable
class CanQueue(Protocol):
    """A driver whose backend has a queue of its own: more is handed over than may start at once."""

    @property
    def waiting_room(self) -> int:
        """How many attempts may wait there."""
        ...


@runtime_checkable
class CanSpanNodes(Protocol):
    """A driver that runs one attempt on several nodes at once (`resources.nodes`), which find each other."""

    @property
    def most_nodes(self) -> int:
        """How many one attempt may have."""
        ...


@runtime_checkable
class CanCollectGarbage(Protocol):
    """A driver whose backend may hold what nobody needs any more."""

    def collect_garbage(self, needed: Callable[[], set[str]]) -> list[str]:
        """Deletes what is this control plane's and of no attempt that is needed; tells what that was.

        needed: asked after the look at what is there.
        """
        ...


@runtime_checkable
class CanRunImages(Protocol):
    """A driver whose work runs in containers: every launch has one."""

    def ping(self) -> None:
        """Raises Unavailable `backend_unavailable` when the backend does not answer now."""
        ...

    def image_name(self, image: Image) -> str:
        """What the backend calls it, once it has been brought."""
        ...

    def has(self, image: Image) -> bool:
        """Whether it is there, as was found a minute ago at most. A transaction waits for the answer: what takes longer
        than a call on this machine is asked by `bring`."""
        ...

    def bring(self, image: Image, blobs: Callable[[str], Path], progress: Progress) -> None:
        """Brings it there, from the layout's blobs by digest; at once when it is there. Idempotent."""
        ...

    def drop(self, image: Image) -> None:
        """Takes it away there, unless somebody else uses it; it is brought again when it is needed."""
        ...


@runtime_checkable
class RunsPipelines(Protocol):
    """A driver whose backend runs a pipeline whole, compiled for it (`Launch.whole`): with its own retries and its own
    cache. What is submitted of it is begun there once, and followed task by task; `stop` of one ends the whole."""

    @property
    def caches(self) -> bool:
        """Whether its cache may be used: what comes from there can be fetched."""
        ...

    def ping(self) -> None:
        """Raises Unavailable `backend_unavailable` when the backend does not answer now."""
        ...


@runtime_checkable
class NeedsStaging(Protocol):
    """A driver whose work has no agent of this host beside it: an image of ours stages for it. Images are told apart by
    their references (`Image.reference`), which name their contents."""

    def use_staging(self, name: str) -> None:
        """Which one stages for work from now on: told before each call that has to do with images, and at once done."""
        ...

    def has_staging(self) -> bool:
        """Whether that one is where the backend takes images from; answered as `CanRunImages.has` is."""
        ...

    def bring_staging(self, make: Callable[[], Image], blobs: Callable[[str], Path], progress: Progress) -> None:
        """Brings it there, from the layout's blobs by digest; at once when it is there. make: builds it, which takes
        minutes: called where it is lacking. Idempotent."""
        ...


@runtime_checkable
class PullsImages(Protocol):
    """A driver whose backend pulls images by their names itself, those of others too: no engine of ours is needed."""

    def digest_of(self, reference: str) -> str:
        """`sha256:…` of what the reference means in its registry now; "" where that cannot be asked from here, though
        the backend may be able to. Raises NotFound `image_missing` where there is nothing of that name."""
        ...
