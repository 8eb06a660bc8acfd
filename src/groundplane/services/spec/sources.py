"""Paths and source texts of `ground.toml`: what form they may have, and what the project folder holds."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

from groundplane.model.connections import CONNECTION, QUERY, QUERY_RESULT
from groundplane.model.globs import fixed_folder, impossible_range, is_glob, matches
from groundplane.model.pipelines import Source, SourceKind

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def scheme(text: str) -> str:
    """`https` of a URL, in lower case; "" when the text is none."""
    hit = _SCHEME.match(text)
    return hit[1].lower() if hit else ""


def url_problem(text: str) -> tuple[str, str] | None:
    """Why nothing can be fetched from there, and the way out."""
    way = "give a URL that begins with https:// or http://, or a path in the project"
    if scheme(text) not in ("http", "https"):
        return f"{text!r}: `{scheme(text)}://` cannot be fetched", way
    try:
        host = urlsplit(text).hostname
    except ValueError:
        host = None
    return None if host and not re.search(r"[\s\0]", text) else (f"{text!r} is no URL", way)


def is_query(text: str) -> bool:
    """Whether the source asks a connection: `connection:NAME?sql=…`."""
    return text.startswith(QUERY)


def query_problem(text: str) -> tuple[str, str] | None:
    """Why nobody can be asked that, and the way out."""
    name, found, sql = text.removeprefix(QUERY).partition("?sql=")
    if not found or not sql.strip():
        return f"{text!r} asks for nothing", 'write "connection:NAME?sql=select …"'
    if not CONNECTION.fullmatch(name):
        return f"{name!r} is no name of a connection", "`ground connections list` shows them"
    return None


def path_problem(text: str) -> tuple[str, str] | None:
    """Why a relative path within a working copy cannot be this text, and the way out."""
    if not text.strip("/") or text == ".":
        return f"{text!r} names no file", "write a path relative to the project folder"
    if "\0" in text:
        return f"{text!r} holds a NUL character", "no file can have that name"
    if "\\" in text:
        return f"{text!r} holds a backslash", "write paths with `/`: " + text.replace("\\", "/")
    if text.startswith(("/", "~")):
        return f"{text!r} is outside of the project", "write a path relative to the project folder, or copy the file in"
    if ".." in text.split("/"):
        return f"{text!r} leaves the project: `..`", "write a path below the project folder, or copy the file in"
    return None


def pattern_problem(text: str) -> tuple[str, str] | None:
    """The same for a path that may be a glob."""
    if empty := impossible_range(text):
        return f"{text!r}: no character is in the range {empty}", (
            f"write it as {empty[::-1]}; in a file's own name write `?` for its brackets"
        )
    return path_problem(text)


def source_problem(text: str) -> tuple[str, str] | None:
    """The same for where an input comes from: a URL, a query, or a path that may be a glob."""
    if is_query(text):
        return query_problem(text)
    return url_problem(text) if scheme(text) else pattern_problem(text)


def tidy(text: str) -> str:
    """The path without `./` and `//`; a `/` at its end stays, for it means a folder."""
    return posixpath.normpath(text) + ("/" if text.endswith("/") else "")


def placeholders(text: str) -> list[str]:
    """The names in `{name}`."""
    return _PLACEHOLDER.findall(text)


def by_form(text: str, steps: Collection[str]) -> Source:
    """The source as its text alone tells it; resolve.py settles it by what steps declare and the project holds."""
    if scheme(text):
        return Source(SourceKind.URL, text)
    if is_query(text):
        return Source(SourceKind.QUERY, text)
    head, _, rest = tidy(text).partition("/")
    if rest and head in steps:
        return Source(SourceKind.STEP, rest, head)
    return Source(SourceKind.PROJECT, tidy(text))


def written(source: Source) -> str:
    """The source as in the file: `clean/clean.parquet`, `data/raw.csv`, `https://…`."""
    return f"{source.step}/{source.path}" if source.kind is SourceKind.STEP else source.path


def file_name(source: Source) -> str:
    """The part of a source whose ending tells its format."""
    if source.kind is SourceKind.QUERY:
        return QUERY_RESULT
    return urlsplit(source.path).path if source.kind is SourceKind.URL else source.path


def declares(outputs: Sequence[str], name: str) -> bool:
    """Whether a step with these outputs may leave `name`: a file, a glob over its files, or a folder of them (`/`)."""
    if name.endswith("/"):
        return any(output.startswith(name) for output in outputs)
    return any(
        name.startswith(output) if output.endswith("/") else matches(output, name) or matches(name, output)
        for output in outputs
    )


@dataclass(frozen=True)
class Tree:
    """The names in the project folder, with `/`; a name that ends in `/` is an empty folder."""

    names: frozenset[str]

    @cached_property
    def folders(self) -> frozenset[str]:
        """Every folder, with `/` at its end."""
        found: set[str] = set()
        for name in self.names:
            end = name.rfind("/")
            while end > 0 and name[: end + 1] not in found:
                found.add(name[: end + 1])
                end = name.rfind("/", 0, end)
        return frozenset(found)

    def matching(self, pattern: str) -> list[str]:
        """The files that a glob names, sorted; the name itself where there is such a file."""
        if pattern in self.names:
            return [pattern]
        start = fixed_folder(pattern)
        return sorted(name for name in self.names if name.startswith(start) and matches(pattern, name))

    def has(self, path: str) -> bool:
        """Whether there is such a file, folder (with `/`), or anything that the glob names."""
        if path.endswith("/"):
            return path in self.folders
        return path in self.names or (is_glob(path) and bool(self.matching(path)))

    def many(self, path: str) -> bool:
        """Whether the path names a folder or is a glob, and so may stand for many files."""
        return path.endswith("/") or (is_glob(path) and path not in self.names)
