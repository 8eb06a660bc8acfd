"""A blob store: where bytes lie between the platform and work on another machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from groundplane.model.errors import Invalid, Unavailable

GROUP = "groundplane.blobs"


class BlobStore(Protocol):
    """Objects by key below the prefix of the store's url. All calls block and may be made from any thread.

    Every method raises Unavailable with the code `storage_unavailable` when the store does not answer or refuses.
    """

    def put(self, key: str, source: Path | bytes) -> None:
        """Stores a file or bytes whole, in place of what was there. Raises OSError when the file cannot be read."""
        ...

    def fetch(self, key: str, target: Path) -> bool:
        """Writes the object to a new file; False, and no file, when there is none. Raises OSError when the file
        cannot be made (FileExistsError) or written; it is then not left half written."""
        ...

    def read(self, key: str) -> bytes | None:
        """A small object; None when there is none."""
        ...

    def has(self, key: str) -> bool: ...

    def delete(self, keys: Iterable[str]) -> None:
        """Those that are not there count as deleted."""
        ...

    def listing(self, prefix: str) -> Iterator[str]:
        """The keys that begin with `prefix`, in their order; errors come with the first that is asked for."""
        ...

    def signed_get(self, key: str, seconds: int) -> str:
        """A url that gives the object to whoever has it, for that long (a week at most). Asks nobody: the object need
        not be there yet."""
        ...

    def signed_put(self, key: str, seconds: int) -> str:
        """A url to which whoever has it may PUT the object (5 GiB at most), for that long (a week at most)."""
        ...

    def check(self) -> None:
        """Raises Unavailable, saying which store and what is wrong, when it cannot be read and written."""
        ...


def kind_of(url: str) -> EntryPoint:
    """What opens such a store; nothing is loaded. Raises Invalid."""
    points = {point.name: point for point in entry_points(group=GROUP)}
    scheme = urlsplit(url).scheme
    if scheme not in points:
        known = ", ".join(f"{name}://" for name in sorted(points))
        told = f"there is no storage of the kind {scheme}://" if scheme else f"storage {url!r} is not a url"
        raise Invalid(told, hint=f"the kinds are: {known}")
    return points[scheme]


def open_store(url: str, variables: Mapping[str, str]) -> BlobStore:
    """The store at a url, built in or from a plugin, by its scheme. Asks it nothing yet.

    variables: its credentials and settings, by the names that the store's own tools use; the environment of this
    process is not looked at. Raises Invalid, and Unavailable when what it needs is not installed.
    """
    point, scheme = kind_of(url), urlsplit(url).scheme
    try:
        make: Any = point.load()
    except (ImportError, AttributeError, SyntaxError) as error:
        raise Unavailable(
            f"storage of the kind {scheme}:// cannot be loaded: {error}",
            hint="reinstall or remove its package",
            code="storage_unavailable",
        ) from error
    return make(url, variables)
