"""The SDK's calls about policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from groundplane.client.calls import Calls
from groundplane.client.paths import path


class Policies(Calls):
    """A part of `Client`."""

    def policies(self) -> list[dict[str, Any]]:
        """The file that ships with the roles, then the firm's own: name text sha256 actor added_at rules[]."""
        return self._json("GET", "/policies")

    def add_policy(self, name: str, text: str) -> dict[str, Any]:
        """Puts a Cedar file in force, in the place of the one of that name."""
        return self._json("PUT", path("policies", name), {"text": text})

    def remove_policy(self, name: str) -> None:
        """Takes a file out of force."""
        self._json("DELETE", path("policies", name))

    def policy_schema(self) -> str:
        """What policies may speak of."""
        return self._json("GET", "/policies/schema")["schema"]

    def check_policy(self, name: str, text: str) -> dict[str, Any]:
        """Raises Invalid that names each line that is wrong; nothing is added."""
        return self._json("POST", "/policies/check", {"name": name, "text": text})

    def test_policies(
        self, cases: Sequence[Mapping[str, Any]], files: Sequence[Mapping[str, str]] | None = None
    ) -> dict[str, Any]:
        """Decisions on cases beside those expected: passed failed cases[]. files: name, text; None: those in force."""
        return self._json("POST", "/policies/test", {"cases": list(cases), "files": files and list(files)})

    def simulate_policy(self, name: str, text: str) -> dict[str, Any]:
        """Which runs of the last 30 days would have been denied: run_ids[] denied[] runs since."""
        return self._json("POST", "/policies/simulate", {"name": name, "text": text})

    def explain(self, ref: str) -> dict[str, Any]:
        """What was decided on a run or an event, and by which rule."""
        return self._json("GET", path("policies", "explain", ref=ref))

    def explain_for(self, user: str, action: str, name: str) -> dict[str, Any]:
        """What would be decided now if the user did that to the object of that name."""
        return self._json("GET", path("policies", "explain", user=user, action=action, object=name))
