"""What the SDK can do with labels of data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

if TYPE_CHECKING:
    from groundplane.model.documents import ArtifactDocument

T = TypeVar("T")


class Labels:
    """Part of `Client`."""

    if TYPE_CHECKING:

        def _json(self, method: str, path: str, body: Any = None) -> Any: ...

        def _ask(self, kind: type[T], method: str, path: str, body: Any = None) -> T: ...

    def declassify(self, ref: str, name: str, label: str, reason: str) -> ArtifactDocument:
        """Takes a label off the artifact TASK/NAME of a run; the artifact as it is then."""
        from groundplane.model import documents

        body = {"artifact": name, "label": label, "reason": reason}
        return self._ask(documents.ArtifactDocument, "POST", f"/runs/{quote(ref, safe='')}/declassifications", body)

    def set_labels(self, project: str, labels: Sequence[str]) -> None:
        """What all data of a project is; those that are left out are its no more."""
        self._json("PUT", f"/projects/{quote(project, safe='')}/labels", {"labels": list(labels)})
