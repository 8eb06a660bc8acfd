"""What a FlexLM licence server says of its seats: `lmutil lmstat -a -c PORT@HOST`, a program that comes with the
engine or from its maker. Never asked inside a transaction: a server that is gone is waited for.

Untested against a real server: the tests read recorded answers.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass

PROGRAM = "lmutil"
_PATIENCE = 10.0
"""Seconds within which a server has answered."""

SERVER = re.compile(r"\d*@[\w.-]+(?:,\d*@[\w.-]+)*", re.ASCII)
"""PORT@HOST; three of them with commas are one server in three copies."""

_FEATURE = re.compile(r"^Users of (?P<name>[^:\n]+):\s*\((?P<said>[^\n]*)\)\s*$", re.MULTILINE)
_COUNTS = re.compile(r"Total of (?P<issued>\d+) licenses? issued;\s+(?:Total of )?(?P<used>\d+) licenses? in use")
_USER = re.compile(
    r"^\s+(?P<user>\S+) (?P<host>\S+) .*\(v[^)]*\) \([^)]*\), start (?P<start>[^,\n]+)(?P<rest>[^\n]*)$", re.MULTILINE
)
_SEVERAL = re.compile(r"(\d+) licenses")
_DOWN = re.compile(
    r"Cannot connect to license server|Cannot read data from license server|lmgrd is not running"
    r"|vendor daemon is down|license server (?:machine )?(?:is )?down|Error getting status",
    re.IGNORECASE,
)
_CONTAINER = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Seat:
    """Somebody on the server's list. count: seats that it holds. start: as the server writes it, in its own time."""

    user: str
    host: str
    start: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server says of one feature. issued: None for one that it does not count. error: why it told nothing."""

    issued: int | None = None
    used: int = 0
    seats: tuple[Seat, ...] = ()
    error: str = ""

    def others(self, ours: int) -> int:
        """How many seats are not this platform's, which has `ours` open: those on the list under this user, on this
        host or in a container, are taken for them, and what is more than they can be is not."""
        mine = sum(seat.count for seat in self.seats if _is_mine(seat))
        return max(0, self.used - min(mine, ours))


def ask(server: str, feature: str) -> Answer:
    """The server's count of the feature now. Blocks, for ten seconds at most; never raises."""
    program = os.environ.get("LMUTIL") or shutil.which(PROGRAM)
    if program is None:
        return Answer(error=f"{PROGRAM} is not on the control plane's PATH (nor does LMUTIL name it)")
    try:
        done = subprocess.run(
            [program, "lmstat", "-a", "-c", server],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Answer(error=f"{server} did not answer within {_PATIENCE:.0f} s")
    except OSError as error:
        return Answer(error=f"{program} cannot be started: {error.strerror}")
    return parse(done.stdout.decode(errors="replace"), feature)


def parse(text: str, feature: str) -> Answer:
    """What lmstat printed, as far as it is about the feature; upper and lower case are the same."""
    features = list(_FEATURE.finditer(text))
    for number, found in enumerate(features):
        if found["name"].strip().lower() != feature.lower():
            continue
        end = features[number + 1].start() if number + 1 < len(features) else len(text)
        return _counted(found["said"], text[found.end() : end], feature)
    down = next((line.strip() for line in text.splitlines() if _DOWN.search(line)), "")
    if down:
        return Answer(error=down)
    if features:
        return Answer(error=f"it has no feature {feature.upper()}")
    return Answer(error=f"its answer is not understood: {' '.join(text.split())[:200] or 'it said nothing'}")


def _counted(said: str, below: str, feature: str) -> Answer:
    counts = _COUNTS.search(said)
    if counts is None:
        if "uncounted" in said.lower():
            return Answer()
        return Answer(error=f"of {feature.upper()} it says: {said}")
    seats: list[Seat] = []
    for line in _USER.finditer(below):
        several = _SEVERAL.search(line["rest"])
        seats.append(Seat(line["user"], line["host"], line["start"].strip(), int(several[1]) if several else 1))
    return Answer(int(counts["issued"]), int(counts["used"]), tuple(seats))


def _is_mine(seat: Seat) -> bool:
    if seat.user.lower() != getpass.getuser().lower():
        return False
    host = seat.host.partition(".")[0].lower()
    return host == socket.gethostname().partition(".")[0].lower() or _CONTAINER.fullmatch(host) is not None
