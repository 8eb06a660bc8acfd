"""What the parts of `Client` ask with; `Client` itself has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from groundplane.spi.http import Connection, Reply

T = TypeVar("T")


class Calls:
    """A part of `Client`: one noun's calls."""

    if TYPE_CHECKING:
        _connection: Connection

        def _ask(self, kind: type[T], method: str, path: str, body: object = None) -> T: ...

        def _json(
            self, method: str, path: str, body: object = None, *, meanwhile: Callable[[], None] | None = None
        ) -> Any: ...

        def _request(
            self,
            method: str,
            path: str,
            body: object = None,
            *,
            stream: bool = False,
            meanwhile: Callable[[], None] | None = None,
        ) -> Reply: ...

        def _stream(self, method: str, path: str, request: object = None, *, repeat: bool) -> Iterator[Any]: ...
