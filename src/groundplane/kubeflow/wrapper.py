"""What a component's container runs: a shell script that lays the project out, brings the inputs, starts the work as
its toolchain does, and hands the outputs on. It needs `sh`, `base64`, `tar` and `gzip`, and nothing of Groundplane's.

The command is the same few lines for every component. All else travels as base64 in its arguments, where no placeholder
of KFP's can be meant by accident: the project's files below `project/`, and `run.sh`.
"""

from __future__ import annotations

import base64
import gzip
import io
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from groundplane.model.globs import is_glob

UNPACK = """set -eu
ground=$(mktemp -d)
trap 'rm -rf "$ground"' EXIT
mkdir "$ground/project" "$ground/support"
count=$1 packed=; shift
while [ "$count" -gt 0 ]; do packed="$packed$1"; count=$((count - 1)); shift; done
printf %s "$packed" | base64 -d | tar -xzf - -C "$ground"
. "$ground/run.sh"
"""

# A word of a command line has at most 128 KiB on Linux.
_WORD = 96 * 1024
_VALUE = re.compile(r"GROUNDVALUE([A-Z0-9]+)X")

LISTED = """each_path() {
  { printf %s "$executor_input" | tr -d '\\n'; echo; } |
    sed -e 's/.*"'"$1"'" *: *{ *"artifacts" *: *\\[//' -e 's/\\].*//' | tr '{' '\\n' |
    sed -n 's/.*"uri" *: *"\\([^"]*\\)".*/\\1/p' |
    sed -e 's|^gs://|/gcs/|' -e 's|^s3://|/s3/|' -e 's|^minio://|/minio/|'
}"""
"""Prints the path of each artifact of the list input that $1 names."""

LEFT = """left() {
  if [ ! -e "$1" ]; then echo "error: the step left no $1" >&2; exit 1; fi
}"""


def value(name: str) -> str:
    """Stands in a text for the shell variable NAME (capitals and digits); see `quoted`."""
    return f"GROUNDVALUE{name}X"


def quoted(text: str) -> str:
    """The text as one word of a shell script, in which each `value(NAME)` is what the variable holds then."""
    found = ""
    for index, part in enumerate(_VALUE.split(text)):
        if index % 2:
            found += f'"$value_{part.lower()}"'
        elif part:
            found += "'" + part.replace("'", "'\\''") + "'"
    return found or "''"


def globbed(pattern: str) -> str:
    """The glob as a word that the shell expands: everything but its wildcards is quoted."""
    parts = re.split(r"(\*|\?|\[[!^]?\]?[^\]]*\])", pattern)
    words = [
        (part.replace("[^", "[!", 1) if part.startswith("[") else part) if index % 2 else (quoted(part) if part else "")
        for index, part in enumerate(parts)
    ]
    return "".join(words)


@dataclass(frozen=True, slots=True)
class Handed:
    """An output: path, glob or folder (`plots/`) of the project, and the number of the argument with its artifact's
    path (its URI is the next one). name: the artifact's."""

    name: str
    path: str
    argument: int

    @property
    def many(self) -> bool:
        """Whether it is a folder of files, with their paths in the project."""
        return self.path.endswith("/") or is_glob(self.path)

    def lines(self) -> list[str]:
        """Copies it."""
        target = f'"${{{self.argument}}}"'
        if not self.many:
            path = quoted(self.path)
            return [f"left {path}", f'mkdir -p "$(dirname {target})"', f"cp {path} {target}"]
        if self.path.endswith("/"):
            path = quoted(self.path)
            return [f"left {path}", f"mkdir -p {target}/{path}", f"cp -R {path}. {target}/{path}"]
        return [
            f"for file in {globbed(self.path)}; do",
            '  left "$file"',
            f'  mkdir -p {target}/"$(dirname "$file")"',
            f'  cp "$file" {target}/"$file"',
            "done",
        ]


@dataclass(frozen=True, slots=True)
class Packed(Handed):
    """The files of all outputs that are many, as one artifact: a gzipped tar. path: "". paths: of these outputs."""

    paths: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Packs them, by their paths in the project."""
        target = f'"${{{self.argument}}}"'
        words = " ".join(globbed(path) if is_glob(path) else quoted(path) for path in self.paths)
        return [f'mkdir -p "$(dirname {target})"', f"tar -czhf {target} -- {words}"]


@dataclass(frozen=True, slots=True)
class Item(Handed):
    """The fan-out's item that this task was made for. path: ""."""

    def lines(self) -> list[str]:
        """Writes it."""
        target = f'"${{{self.argument}}}"'
        return [f'mkdir -p "$(dirname {target})"', f'printf %s "$value_i" > {target}']


def told(outputs: Sequence[Handed]) -> list[str]:
    """Writes KFP's executor_output.json, without which its local runner hands no artifact on."""
    lines = [
        "output_file=$({ printf %s \"$executor_input\" | tr -d '\\n'; echo; } |",
        '  sed -n \'s/.*"outputFile" *: *"\\([^"]*\\)".*/\\1/p\')',
        'mkdir -p "$(dirname "$output_file")"',
        "{",
        "  printf '{\"artifacts\": {'",
    ]
    for index, each in enumerate(outputs):
        comma = ", " if index else ""
        lines.append(
            f'  printf \'{comma}"{each.name}": {{"artifacts": [{{"name": "{each.name}", "uri": "%s"}}]}}\' '
            f'"${{{each.argument + 1}}}"'
        )
    return [*lines, "  printf '}}'", '} > "$output_file"']


def packed(files: Mapping[str, tuple[bytes, bool]], links: Sequence[tuple[str, str]], folders: Sequence[str]) -> bytes:
    """A gzipped tar, the same for the same content. files: path -> content, whether it is executable."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(folders):
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for path, (content, executable) in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755 if executable else 0o644
            tar.addfile(entry, io.BytesIO(content))
        for path, target in sorted(links):
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return gzip.compress(raw.getvalue(), mtime=0)


def words(content: bytes) -> list[str]:
    """The content as arguments: how many pieces, and the pieces."""
    text = base64.b64encode(content).decode()
    pieces = [text[at : at + _WORD] for at in range(0, len(text), _WORD)]
    return [str(len(pieces)), *pieces]
