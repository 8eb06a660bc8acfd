"""What the SDK can do with quotas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from groundplane.client.calls import Calls

if TYPE_CHECKING:
    from groundplane.model.documents import QuotaDocument


class Quotas(Calls):
    """A part of `Client`."""

    def quotas(self) -> tuple[QuotaDocument, ...]:
        """Every quota with its use."""
        from groundplane.model import documents

        return self._ask(tuple[documents.QuotaDocument, ...], "GET", "/quotas")

    def set_quota(self, name: str, limits: Mapping[str, float], over: str | None = None) -> tuple[QuotaDocument, ...]:
        """Sets limits of a team or project, all of whose quotas come back. over: `queue` or `deny`."""
        from groundplane.model import documents

        body = {"name": name, "limits": dict(limits), "over": over}
        return self._ask(tuple[documents.QuotaDocument, ...], "PUT", "/quotas", body)

    def remove_quota(self, name: str, resources: Sequence[str] = ()) -> None:
        """Forgets quotas of a team or project, or all that it has."""
        query = urlencode([("name", name), *(("resource", each) for each in resources)])
        self._json("DELETE", f"/quotas?{query}")
