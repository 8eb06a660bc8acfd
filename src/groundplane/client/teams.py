"""The SDK's calls for teams and their members."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from groundplane.client.paths import path

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from groundplane.model.accounts import TeamDocument

T = TypeVar("T")


class Teams:
    """A part of `Client`."""

    if TYPE_CHECKING:

        def _ask(self, kind: type[T], method: str, path: str, body: object = None) -> T: ...

        def _json(
            self, method: str, path: str, body: object = None, *, meanwhile: Callable[[], None] | None = None
        ) -> Any: ...

    def teams(self) -> tuple[TeamDocument, ...]:
        """Every team, by name."""
        from groundplane.model.accounts import TeamDocument

        return self._ask(tuple[TeamDocument, ...], "GET", "/teams")

    def team(self, name: str) -> TeamDocument:
        """One of them."""
        from groundplane.model.accounts import TeamDocument

        return self._ask(TeamDocument, "GET", path("teams", name))

    def create_team(self, name: str, parent: str | None = None) -> TeamDocument:
        """Makes a team below another one, or below the root."""
        from groundplane.model.accounts import TeamDocument

        return self._ask(TeamDocument, "PUT", path("teams", name), {"parent": parent})

    def add_member(self, team: str, user: str, role: str) -> TeamDocument:
        """Gives a user a role in a team."""
        from groundplane.model.accounts import TeamDocument

        return self._ask(TeamDocument, "PUT", path("teams", team, "members", user, role))

    def remove_member(self, team: str, user: str, role: str | None = None) -> TeamDocument:
        """Takes a role, or all of them, from a user."""
        from groundplane.model.accounts import TeamDocument

        return self._ask(TeamDocument, "DELETE", path("teams", team, "members", user, role=role))
