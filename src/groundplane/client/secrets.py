"""The SDK's calls for secrets and connections."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING

from groundplane.client.calls import Calls
from groundplane.client.paths import path
from groundplane.model.connections import check_name as check_connection
from groundplane.model.secrets import check_name as check_secret

if TYPE_CHECKING:
    from groundplane.model import documents


class Secrets(Calls):
    """A part of `Client`."""

    def secrets(self) -> tuple[documents.SecretDocument, ...]:
        """Every secret, without its value."""
        from groundplane.model.documents import SecretDocument

        return self._ask(tuple[SecretDocument, ...], "GET", "/secrets")

    def set_secret(self, name: str, value: bytes, project: str | None = None) -> documents.SecretDocument:
        """Sets it byte for byte, in place of what it was. project: whose work alone gets it."""
        from groundplane.model.documents import SecretDocument

        check_secret(name)
        body = {"value": binascii.b2a_base64(value, newline=False).decode(), "project": project}
        return self._ask(SecretDocument, "PUT", path("secrets", name), body)

    def remove_secret(self, name: str, project: str | None = None) -> None:
        """Forgets it."""
        self._json("DELETE", path("secrets", name, project=project))

    def connections(self) -> tuple[documents.ConnectionDocument, ...]:
        """Every connection."""
        from groundplane.model.documents import ConnectionDocument

        return self._ask(tuple[ConnectionDocument, ...], "GET", "/connections")

    def connection(self, name: str, project: str | None = None) -> documents.ConnectionDocument:
        """One of them: that of the project, else that of all."""
        from groundplane.model.documents import ConnectionDocument

        return self._ask(ConnectionDocument, "GET", path("connections", name, project=project))

    def add_connection(
        self, name: str, url: str, secret: str | None = None, project: str | None = None
    ) -> documents.ConnectionDocument:
        """Makes it, or changes where it leads. secret: the name of the one that is its password."""
        from groundplane.model.documents import ConnectionDocument

        check_connection(name)
        body = {"url": url, "secret": secret, "project": project}
        return self._ask(ConnectionDocument, "PUT", path("connections", name), body)

    def check_connection(self, name: str, project: str | None = None) -> documents.ConnectionHealth:
        """Whether what it leads to answers the control plane."""
        from groundplane.model.documents import ConnectionHealth

        return self._ask(ConnectionHealth, "POST", path("connections", name, "check", project=project))

    def remove_connection(self, name: str, project: str | None = None) -> None:
        """Forgets it."""
        self._json("DELETE", path("connections", name, project=project))
