"""The SDK's calls for projects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from groundplane.client.calls import Calls
from groundplane.client.paths import path

if TYPE_CHECKING:
    from groundplane.model.accounts import ProjectDocument


class Projects(Calls):
    """A part of `Client`."""

    def projects(self) -> tuple[ProjectDocument, ...]:
        """Every project that belongs to a team."""
        from groundplane.model.accounts import ProjectDocument

        return self._ask(tuple[ProjectDocument, ...], "GET", "/projects")

    def create_project(self, name: str, team: str) -> ProjectDocument:
        """Gives a team the project of that name."""
        from groundplane.model.accounts import ProjectDocument

        return self._ask(ProjectDocument, "PUT", path("projects", name), {"team": team})
