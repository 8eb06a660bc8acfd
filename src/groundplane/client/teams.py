"""The SDK's calls for teams and their members."""

from __future__ import annotations

from typing import TYPE_CHECKING

from groundplane.client.calls import Calls
from groundplane.client.paths import path

if TYPE_CHECKING:
    from groundplane.model.accounts import TeamDocument


class Teams(Calls):
    """A part of `Client`."""

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
