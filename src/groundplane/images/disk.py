"""A full disk, told as what it is."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from groundplane.model.errors import Unavailable


def full(folder: Path) -> Unavailable:
    """`no_space`, naming the folder."""
    return Unavailable(
        f"the disk that holds {folder} is full",
        hint="make space there, then try again (`ground images list` shows what images cost)",
        code="no_space",
    )


@contextmanager
def told_when_full(folder: Path) -> Generator[None]:
    """A full disk becomes `full(folder)`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full(folder) from error
        raise
