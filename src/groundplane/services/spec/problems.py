"""Everything that is wrong with a file, told at once."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from groundplane.model.errors import Invalid

_SHOWN = 30
_COMPARED = 2000  # comparing takes 20 µs each


@dataclass(slots=True)
class Problems:
    """Collects what is wrong with `file`; `raise_any` tells all of it in one Invalid, a line each."""

    file: str
    found: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def add(self, where: str, message: str, hint: str = "") -> None:
        """where: `pipelines.analysis.steps.model`, or "" for the whole file."""
        line = f"{where}: {message}" if where else message
        if (line, hint) not in self.found:
            self.found.append((line, hint))

    def raise_any(self) -> None:
        """Raises Invalid when anything was added: the message names each place, the hint is the way out."""
        if not self.found:
            return
        if len(self.found) == 1:
            message, hint = self.found[0]
            raise Invalid(f"{self.file}: {message}", hint=hint)
        lines = [f"{self.file} has {len(self.found)} problems:"]
        lines += [f"  {line}" + (f" ({hint})" if hint else "") for line, hint in self.found[:_SHOWN]]
        if len(self.found) > _SHOWN:
            lines.append(f"  … and {len(self.found) - _SHOWN} more")
        raise Invalid("\n".join(lines), hint="nothing was started; mend these and run it again")


def close(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The names most like `word`, best first. Of very many, only those that begin or end as it does are looked at."""
    names = list(known)
    if len(names) > _COMPARED:
        names = [name for name in names if name[:2] == word[:2] or name[-6:] == word[-6:]][:_COMPARED]
    return difflib.get_close_matches(word, names, n=count, cutoff=0.6)


def meant(word: str, known: Collection[str]) -> str:
    """`; did you mean 'retries'?`, or "" when nothing is near."""
    near = close(word, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def listed(names: Iterable[str], empty: str = "none", limit: int = 12) -> str:
    """Names for a sentence: `clean, model`, or the word for none of them."""
    found = list(names)
    rest = f" … and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + rest if found else empty
