"""What the SDK can do with labels of data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from groundplane.client.calls import Calls
from groundplane.client.paths import path

if TYPE_CHECKING:
    from groundplane.model.documents import ArtifactDocument


class Labels(Calls):
    """A part of `Client`."""

    def declassify(self, ref: str, name: str, label: str, reason: str) -> ArtifactDocument:
        """Takes a label off the artifact TASK/NAME of a run; the artifact as it is then."""
        from groundplane.model import documents

        body = {"artifact": name, "label": label, "reason": reason}
        return self._ask(documents.ArtifactDocument, "POST", path("runs", ref, "declassifications"), body)

    def set_labels(self, project: str, labels: Sequence[str]) -> None:
        """What all data of a project is; those that are left out are its no more."""
        self._json("PUT", path("projects", project, "labels"), {"labels": list(labels)})
