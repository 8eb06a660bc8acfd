"""The `#!` line of a script, read as Linux reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True)
class Shebang:
    """words: what the kernel would put before the script's name. program: the interpreter behind any `env`, a path
    or a name to look up on PATH."""

    words: tuple[str, ...]
    program: str

    @property
    def name(self) -> str:
        """The interpreter's base name: `bash`, `python3`."""
        return PurePosixPath(self.program).name


def read_shebang(head: bytes) -> Shebang | None:
    """The `#!` line of a file that begins with `head`; None when it has none or an empty one."""
    if not head.startswith(b"#!"):
        return None
    line = head[2:].split(b"\n", 1)[0].decode(errors="surrogateescape").strip()
    if not line:
        return None
    # The kernel splits once: everything behind the interpreter is one argument.
    words = tuple(line.split(None, 1))
    if PurePosixPath(words[0]).name != "env" or len(words) == 1:
        return Shebang(words, words[0])
    return Shebang(words, _behind_env(words[1]))


def _behind_env(argument: str) -> str:
    """The program that `env` would start: `bash`, `-S bash -e`, `-S A=1 bash`."""
    for word in argument.split():
        if word.startswith("-S") and len(word) > 2:
            return word[2:]
        if word.startswith("-") or "=" in word:
            continue
        return word
    return "env"
