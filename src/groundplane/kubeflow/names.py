"""Names that are free."""

from __future__ import annotations

import re
from collections.abc import Iterable


class Names:
    """Gives each name once; a second one gets a number."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def new(self, wanted: str) -> str:
        """The name itself where it is free, else `NAME-2` (`NAME_2` for names with `_`)."""
        name, number, between = wanted, 1, "_" if "_" in wanted else "-"
        while name in self._taken:
            number += 1
            name = f"{wanted}{between}{number}"
        self._taken.add(name)
        return name


def kebab(name: str) -> str:
    """A name of small letters, digits and `-`, as KFP's are."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "pipeline"


def parameter_name(name: str) -> str:
    """A parameter or output as KFP may call it. Two parameters of a pipeline never become one: see check_names."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter == "_") else "_" for letter in name)


def input_name(step: str, output: str) -> str:
    """What the artifact is called in the component that reads it."""
    return f"from_{parameter_name(step)}__{parameter_name(output.strip('/'))}"
