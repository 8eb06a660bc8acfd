"""What control plane and agent say to each other: JSON lines on a unix socket, `{"id", "kind", "body"}` each.

A request carries an id that its reply repeats; an event (sent to who has asked to `Follow`) carries id 0. `kind` is
the message's class in lower case. Fields are only ever added, with defaults, so neighbouring versions get along.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundplane.model.reasons import Reason
from groundplane.spi import wire
from groundplane.spi.driver import Health
from groundplane.spi.launch import Launch, Observation, Submission

PROTOCOL = 1
CONFINED = "confined work"
YES = "yes"


@dataclass(frozen=True, slots=True)
class Hello:
    """First request. A newer `version` makes the agent replace itself by that of `python` (an absolute path)."""

    protocol: int
    version: str
    python: str = ""


@dataclass(frozen=True, slots=True)
class Welcome:
    """agent: the agent's id, stable for host, user and home. handing_over: it replaces itself now; connect again."""

    protocol: int
    version: str
    agent: str
    pid: int
    handing_over: bool = False


@dataclass(frozen=True, slots=True)
class Submit:
    """sent: the host's monotonic clock when it was sent, in seconds; a launch's deadline counts from there."""

    launches: tuple[Launch, ...]
    sent: float = 0.0


@dataclass(frozen=True, slots=True)
class Submitted:
    """One submission a launch, in order."""

    submissions: tuple[Submission, ...]


@dataclass(frozen=True, slots=True)
class Observe:
    """Asks for one observation an attempt, in order."""

    attempts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Observed:
    """The answer to `Observe`."""

    observations: tuple[Observation, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """Ends an attempt: SIGTERM to its tree, SIGKILL after `grace` seconds."""

    attempt: str
    grace: float = 5.0


@dataclass(frozen=True, slots=True)
class Cleanup:
    """Forgets ended attempts and deletes their folders."""

    attempts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Follow:
    """Asks for a channel's events from a cursor on; the latest `Follow` of a connection counts."""

    cursor: str = ""
    channel: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """Asks for the host's `Health`. confining: with the fact `confined work`: `yes`, or why there can be none."""

    confining: bool = False


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Exit: at once with the work ended, or else as soon as there is none."""

    end_work: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """It is done, or under way (`Stop`, `Cleanup`, `Follow`, `Shutdown`)."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The request could not be served."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Event:
    """What is new since the former event: the latest observation of each attempt, runs whose logs have grown."""

    cursor: str
    observations: tuple[Observation, ...] = ()
    logs: tuple[str, ...] = ()


Message = (
    Hello
    | Welcome
    | Submit
    | Submitted
    | Observe
    | Observed
    | Stop
    | Cleanup
    | Follow
    | Check
    | Health
    | Shutdown
    | Done
    | Failed
    | Event
)
_KINDS: dict[str, type[Message]] = {
    kind.__name__.lower(): kind
    for kind in (
        Hello,
        Welcome,
        Submit,
        Submitted,
        Observe,
        Observed,
        Stop,
        Cleanup,
        Follow,
        Check,
        Health,
        Shutdown,
        Done,
        Failed,
        Event,
    )
}


class Unreadable(ValueError):
    """A line that is no message of this protocol."""


def encode(number: int, message: Message) -> bytes:
    """One line."""
    return wire.encode({"id": number, "kind": type(message).__name__.lower(), "body": message})


def decode(line: bytes) -> tuple[int, Message]:
    """The id and the message of a line. Raises Unreadable."""
    try:
        envelope: Any = wire.parse(line)
        kind = _KINDS.get(envelope["kind"])
        if kind is None:
            raise Unreadable(f"unknown kind of message {envelope['kind']!r}")
        return int(envelope["id"]), wire.decode(kind, envelope["body"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable(f"not a message: {line[:80]!r}: {error}") from error


def agent_id(home: Path) -> str:
    """The id of the agent of this host and user for a home: 16 hexadecimal digits."""
    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine = ""
    name = f"{machine or os.uname().nodename}\0{os.getuid()}\0".encode() + os.fsencode(os.path.realpath(home))
    return hashlib.sha256(name).hexdigest()[:16]
