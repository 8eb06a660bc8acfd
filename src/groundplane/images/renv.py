"""R's own packages: what an `renv.lock` records, where the sources lie, in which order they are installed."""

from __future__ import annotations

import graphlib
import json
import os
import re
import shlex
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from groundplane.model.errors import Invalid, Unavailable
from groundplane.model.locks import Deb, File

if TYPE_CHECKING:
    from groundplane.images.downloads import Downloads

FOLDER = "/usr/local/lib/R/site-library"
COMPILERS = "r-base-dev"
"""The Debian package that brings what sources are compiled with."""
OVERRIDE = "RENV_CONFIG_REPOS_OVERRIDE"
"""renv's own variable: one repository instead of all that a lock names."""
_OF_R = frozenset(
    (
        *("R", "base", "compiler", "datasets", "graphics", "grDevices", "grid", "methods", "parallel", "splines"),
        *("stats", "stats4", "tcltk", "tools", "translations", "utils"),
    )
)
"""What every R has: no repository has it by itself."""
_LARGEST = 256 << 20
"""Bytes of a repository's index: CRAN's own has ten million."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9.]*")
_VERSION = re.compile(r"\d+([.-]\d+)+")
_HINT = "write it anew: renv::snapshot()"


@dataclass(frozen=True, slots=True)
class Package:
    """A record of the lock. repositories: addresses, the likeliest first. needs: names of packages."""

    name: str
    version: str
    repositories: tuple[str, ...]
    needs: frozenset[str]


def read(text: str) -> tuple[str, list[Package]]:
    """R's version and the packages in the order of their installation. Raises Invalid for a damaged lock, and for a
    package that is not of a repository."""
    try:
        body = json.loads(text)
        version = str(body["R"]["Version"])
        named = {str(each["Name"]): str(each["URL"]).rstrip("/") for each in body["R"].get("Repositories", ())}
        records = cast("dict[str, dict[str, Any]]", dict(body.get("Packages", {})))
        packages = [_package(name, record, named) for name, record in sorted(records.items())]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid(f"renv.lock is damaged: {type(error).__name__}: {error}", hint=_HINT) from None
    return version, _ordered(packages)


def missing(packages: Iterable[Package], debs: Iterable[Deb]) -> list[Package]:
    """Those that the image's R does not have already in that version, from Debian."""
    have = {deb.name: _plain(deb.version) for deb in debs if deb.name.startswith("r-cran-")}
    return [p for p in packages if p.name not in _OF_R and have.get(f"r-cran-{p.name.lower()}") != _numbers(p.version)]


def addresses(package: Package) -> tuple[list[str], list[str]]:
    """Where its source may lie, as the newest, or in the archive of former ones: in the repository that renv is told to
    take instead; without one, in those that the lock names."""
    file = f"{package.name}_{package.version}.tar.gz"
    override = _instead()
    found: list[str] = []
    for repository in (override,) if override else package.repositories:
        found += [f"{repository}/src/contrib/{file}", f"{repository}/src/contrib/Archive/{package.name}/{file}"]
    return (found, []) if override else ([], found)


def mirrored(file: File) -> list[str]:
    """The address of a locked source in the repository that renv is told to take instead; [] without one."""
    override = _instead()
    return [override + file.url[file.url.rindex("/src/contrib/") :]] if override else []


def compiles(source: Path, name: str) -> bool:
    """Whether the package has code that must be compiled. Raises Invalid for a file that is no package's source. name:
    the file's."""
    try:
        with tarfile.open(source, "r:gz") as archive:
            return any(re.fullmatch(r"[^/]+/src/.+", member.name) for member in archive)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise Invalid(f"{name} is no source package of R: {error}", hint="is the repository one of sources?") from None


def differs(recorded: str, version: str) -> str:
    """A sentence where the lock was made with another R than the image has; "" where it was not."""
    if _numbers(recorded)[:2] == _numbers(version)[:2]:
        return ""
    return (
        f"renv.lock was made with R {recorded}, and the image has R {version}: packages may behave otherwise; "
        "snapshot again with that R, or take the environment's version from the lock"
    )


def latest(text: str, downloads: Downloads) -> Mapping[str, str]:
    """Package -> the newest version that the lock's repositories have now. Raises Unavailable when one does not
    answer."""
    override = _instead()
    _, packages = read(text)
    found: dict[str, str] = {}
    for repository in dict.fromkeys([override] if override else [r for each in packages for r in each.repositories]):
        address = f"{repository}/src/contrib/PACKAGES"
        try:
            with downloads.opened(address, named=not override) as answer:
                known = listed(answer.read(_LARGEST).decode("utf-8", "replace"))
        except (HTTPException, OSError, ValueError) as error:
            raise Unavailable(
                f"{address} cannot be read: {error}", hint=f"{OVERRIDE} names another repository", code="unreachable"
            ) from error
        found.update({n: v for n, v in known.items() if newer(v, found.get(n, "0"))})
    return found


def install_script(files: Sequence[File], epoch: int) -> str:
    """Run in the image, in whose /ground/sources the files lie: compiled in folders of fixed names, so that nothing of
    the result depends on when and where it was made."""
    import time

    built = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(epoch))
    lines = ["cd /ground/sources"]
    for file in files:
        name = shlex.quote(file.name)
        lines.append(
            f"tar -xzf {shlex.quote(file.file)} --no-same-owner\n"
            f"R CMD INSTALL --library={FOLDER} --no-docs --no-lock --strip --built-timestamp={shlex.quote(built)} "
            f"{name} > {name}.log 2>&1 || {{\n"
            f"    cat {name}.log\n"
            f"    echo \"E: R's package {file.name} {file.version} could not be installed: "
            f"$(grep -m 1 -iE '^ERROR|error:|Error in' {name}.log)\"\n"
            "    exit 1\n}\n"
            f"rm -rf {name}"
        )
    return "\n".join(lines)


def newer(version: str, than: str) -> bool:
    """Whether the first of two versions of an R package is the later one."""
    return _numbers(version) > _numbers(than)


def listed(index: str) -> dict[str, str]:
    """Package -> its newest version, of a repository's PACKAGES file."""
    found: dict[str, str] = {}
    for stanza in index.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version): *(\S+)", stanza, re.MULTILINE))
        if len(fields) == 2 and newer(fields["Version"], found.get(fields["Package"], "0")):
            found[fields["Package"]] = fields["Version"]
    return found


def _instead() -> str:
    return os.environ.get(OVERRIDE, "").rstrip("/")


def _package(name: str, record: Mapping[str, Any], named: Mapping[str, str]) -> Package:
    version, source = str(record["Version"]), str(record.get("Source", "Repository"))
    if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
        raise Invalid(f"renv.lock: {name!r} {version!r} is no package of R", hint=_HINT)
    if source not in ("Repository", "CRAN"):
        raise Invalid(
            f"renv.lock: {name} comes from {source}: only packages of a repository are installed",
            hint=f"install.packages({name!r}) from CRAN or from a repository of your own, then renv::snapshot()",
            code="unsupported_source",
        )
    repository = str(record.get("Repository", ""))
    first = named.get(repository, repository if "://" in repository else "")
    others = [url for url in named.values() if url != first]
    repositories = tuple(url.rstrip("/") for url in (*([first] if first else []), *others))
    if not repositories:
        raise Invalid(
            f"renv.lock: {name} is of the repository {repository!r}, which has no address there",
            hint="R.Repositories names each with its URL: renv::snapshot(repos = c(CRAN = …))",
            code="unsupported_source",
        )
    # Until renv 1.1 a record has Requirements; since then it has what the package's DESCRIPTION says.
    fields = ("Requirements", "Depends", "Imports", "LinkingTo")
    said = [str(each) for field in fields for each in _several(record.get(field))]
    needs = frozenset(found[0] for each in said if (found := _NAME.match(each.strip()))) - _OF_R
    return Package(name, version, repositories, needs)


def _several(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else [] if value is None else str(value).split(",")


def _ordered(packages: Sequence[Package]) -> list[Package]:
    known = {package.name: package for package in packages}
    sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
    for package in packages:
        sorter.add(package.name, *sorted(package.needs & known.keys()))
    try:
        return [known[name] for name in sorter.static_order()]
    except graphlib.CycleError as error:
        raise Invalid(f"renv.lock: packages need each other in a circle: {' > '.join(error.args[1])}") from None


def _plain(version: str) -> tuple[int, ...]:
    """Of a Debian package's version: what its makers call it."""
    upstream = version.partition(":")[2] or version
    return _numbers(upstream.rpartition("-")[0] or upstream)


def _numbers(version: str) -> tuple[int, ...]:
    """R tells 1.1-2 and 1.1.2 from neither."""
    return tuple(int(part) for part in re.findall(r"\d+", version))
