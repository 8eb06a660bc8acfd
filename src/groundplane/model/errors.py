"""Every error that a user can meet.

GroundError
├── Invalid       wrong usage or an invalid file           exit 2, HTTP 422
│   ├── NotFound  an unknown run, task, artifact, name     exit 2, HTTP 404
│   ├── Conflict  the object is not in a state for this    exit 2, HTTP 409
│   └── TooLarge  more than may be sent at once            exit 2, HTTP 413
├── Denied        policy, budget, permission               exit 4, HTTP 403
│   └── Unauthenticated  nobody has said who he is         exit 4, HTTP 401
└── Unavailable   platform or backend cannot do it now     exit 3, HTTP 503
    ├── Throttled too much of it at once                   exit 3, HTTP 429
    └── Outside   what is not the platform's own failed    exit 3, HTTP 503

Each has a stable `code`, a message that says what happened to which object, and a `hint` that says what to do.
"""

from __future__ import annotations

from groundplane.model.faults import Fault

TYPE_CHECKING = False  # `typing` is 8 ms of every process that starts
if TYPE_CHECKING:
    from typing import ClassVar


class GroundError(Exception):
    """Something that is told to the user as `error:` and `hint:`."""

    exit_code: ClassVar[int] = 3
    status: ClassVar[int] = 500
    fault: ClassVar[Fault] = Fault.PLATFORM
    default_code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code


class Invalid(GroundError):
    """Wrong usage or an invalid file: nothing has started."""

    exit_code = 2
    status = 422
    fault = Fault.USER
    default_code = "invalid"


class NotFound(Invalid):
    """The named object does not exist."""

    status = 404
    default_code = "not_found"


class Conflict(Invalid):
    """The object exists but is not in a state in which this can be done."""

    status = 409
    default_code = "conflict"


class TooLarge(Invalid):
    """More was sent than may be at once."""

    status = 413
    default_code = "too_large"


class Denied(GroundError):
    """Policy, budget or permission says no."""

    exit_code = 4
    status = 403
    fault = Fault.USER
    default_code = "denied"


class Unauthenticated(Denied):
    """Who asks has not shown who he is: no token and no session, or one that does not hold any more."""

    status = 401
    default_code = "no_token"


class Unavailable(GroundError):
    """The platform or a backend cannot do it now; the same request may succeed later."""

    exit_code = 3
    status = 503
    default_code = "unavailable"


class Throttled(Unavailable):
    """Too much of it from one place at once."""

    status = 429
    fault = Fault.USER
    default_code = "throttled"


class Outside(Unavailable):
    """What the platform only uses failed: a container engine, a registry."""

    fault = Fault.BACKEND
