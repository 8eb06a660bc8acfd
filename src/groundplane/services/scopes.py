"""What a token is limited to: a scope is an action, a group of them, or all of a noun (`run.*`)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from groundplane.model.errors import Invalid
from groundplane.services import cedar

_LAUNCH = "run.submit"
_FOR_A_LAUNCH = frozenset({"folder.send", "project.see"})
"""What a launch asks for besides: who may do that one may do these."""
_OF_OWN_RUNS = frozenset({"run.see", "log.read", "run.cancel"})
"""What `ground run` does with a run that it has started: who may launch may do these with runs of his own account."""


def check(scopes: Iterable[str]) -> None:
    """Raises Invalid for one that is neither an action, a group of them, nor all of a noun (`run.*`)."""
    nouns = {action.partition(".")[0] + ".*" for action in cedar.actions() if "." in action}
    for scope in scopes:
        if scope not in cedar.actions() and scope not in nouns:
            raise Invalid(
                f"{scope!r} is no scope",
                hint="an action like run.submit, a group like see, or all of a noun like run.*: `ground policy schema`",
            )


@lru_cache(maxsize=256)
def covered(scopes: frozenset[str]) -> frozenset[str]:
    """Every action that a token with these scopes may do, whatever it does it to."""
    found = {
        action
        for action, groups in cedar.actions().items()
        if "." in action and scopes & {action, f"{action.partition('.')[0]}.*", *groups}
    }
    return frozenset(found | _FOR_A_LAUNCH if _LAUNCH in found else found)


def within(scopes: Iterable[str], others: frozenset[str]) -> bool:
    """Whether a token with these scopes may do nothing that one with the others may not."""
    return covered(frozenset(scopes)) <= covered(others)


def allow(scopes: frozenset[str] | None, action: str, *, own: bool) -> bool:
    """own: whether it is done to what is of the token's own account. scopes: None is every one."""
    return scopes is None or action in covered(scopes) or (own and only_own(scopes, action))


def only_own(scopes: frozenset[str] | None, action: str) -> bool:
    """Whether a token with these scopes may do it to runs of its own account, and to no others."""
    if scopes is None or action not in _OF_OWN_RUNS:
        return False
    return _LAUNCH in covered(scopes) and action not in covered(scopes)
