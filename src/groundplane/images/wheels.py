"""Python's own packages: wheels that a `pylock.toml` names for an image, and where they lie in it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groundplane.images.uv import INDEX, Target, no_wheel
from groundplane.model.errors import Invalid, Unavailable
from groundplane.model.locks import Deb, File

if TYPE_CHECKING:
    from packaging.pylock import PackageWheel
    from packaging.tags import Tag

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_OLDEST_LIBC = {"x86_64": 5, "aarch64": 17}
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_NUMBERS = re.compile(r"(?:\d+:)?(\d+(?:\.\d+)+)")


def target(debs: Iterable[Deb], architecture: str) -> Target:
    """What the image's Python is, by the Debian packages that bring it. Raises Invalid when none does."""
    versions = {deb.name: found[1] for deb in debs if (found := _NUMBERS.match(deb.version))}
    if "python3" not in versions:
        raise Invalid("the image has no python3 to install packages for", hint='toolchain = "python@3.13"')
    minor = ".".join(versions["python3"].split(".")[:2])
    return Target(
        python=versions.get(f"python{minor}", versions["python3"]),
        libc=int(versions["libc6"].split(".")[1]),
        machine=_MACHINES[architecture],
    )


def chosen(text: str, target: Target, named: str) -> tuple[File, ...]:
    """The wheel of each package that a lock has for the target, by name; size 0 where the lock does not say it. Raises
    Invalid for a lock that is not for the target, and for a package without a fitting wheel. named: the lock's file."""
    import tomllib

    from packaging.pylock import Pylock, PylockSelectError, PylockValidationError

    try:
        lock = Pylock.from_dict(tomllib.loads(text))
        selected = list(lock.select(environment=_environment(target), tags=_tags(target)))  # type: ignore[arg-type]
    except (tomllib.TOMLDecodeError, PylockValidationError) as error:
        raise Invalid(f"{named} is damaged: {error}", hint="write it anew with the tool that made it") from None
    except PylockSelectError as error:
        if found := re.search(r"No wheel found.* for package '([^']+)'", str(error)):
            raise no_wheel(found[1], f"Python {target.minor} on {target.platform}", f"{named} names none") from None
        raise Invalid(
            f"{named} is not for the image's Python {target.python}: {error}",
            hint='lock for that version too, or take another: toolchain = "python@…"',
            code="unresolvable",
        ) from None
    return tuple(sorted((_file(package, source, target, named) for package, source in selected), key=lambda f: f.name))


def checked(requirements: Sequence[str], name: str) -> None:
    """Raises Invalid for what is no requirement on a package of an index. name: the environment's."""
    from packaging.requirements import InvalidRequirement, Requirement

    for each in requirements:
        if each.startswith("-"):
            raise Invalid(
                f"environment {name!r}: {each!r} is an option of pip, and no requirement",
                hint="list the packages themselves; " + INDEX,
            )
        if any(character < " " for character in each):  # quoted it is no error, and a line of its own to uv
            raise Invalid(f"environment {name!r}: {each!r} holds a control character", hint='write it like "numpy>=2"')
        try:
            found = Requirement(each)
        except InvalidRequirement as error:
            said = str(error).splitlines()[0]
            raise Invalid(
                f"environment {name!r}: {each!r} is no requirement: {said}", hint='write it like "numpy>=2"'
            ) from None
        if found.url:
            raise Invalid(
                f"environment {name!r}: {each!r} is an address: only packages of an index are locked",
                hint="put the wheel on an index, or name the package with a version",
                code="unsupported_source",
            )


def places(target: Target) -> Mapping[str, str]:
    """installer's schemes -> folders of the image; all on the path of Debian's own Python."""
    return {
        "purelib": f"/usr/local/lib/python{target.minor}/dist-packages",
        "platlib": f"/usr/local/lib/python{target.minor}/dist-packages",
        "headers": f"/usr/local/include/python{target.minor}",
        "scripts": "/usr/local/bin",
        "data": "/usr/local",
    }


def unpack(wheels: Iterable[Path], target: Target, tree: Path) -> None:
    """Installs the wheels below `tree`, as they will lie below the image's root. Raises Unavailable for a wheel that is
    none. A file that two wheels have is the later one's, by name of the wheel, as pip has it."""
    import zipfile

    import installer
    from installer.destinations import SchemeDictionaryDestination
    from installer.exceptions import InstallerError
    from installer.sources import WheelFile

    destination = SchemeDictionaryDestination(
        {**places(target)},
        interpreter=f"/usr/bin/python{target.minor}",
        script_kind="posix",
        destdir=str(tree),
        overwrite_existing=True,
    )
    for path in wheels:
        try:
            with WheelFile.open(path) as source:
                installer.install(source, destination, additional_metadata={"INSTALLER": b"groundplane\n"})
        except (InstallerError, zipfile.BadZipFile, ValueError, KeyError, NotImplementedError) as error:
            raise Unavailable(
                f"the wheel {path.name} cannot be unpacked: {error}",
                hint="is the package's file damaged where it was made? take another version of it",
                code="image_build_failed",
            ) from error
    scripts = tree / places(target)["scripts"].lstrip("/")
    for path in scripts.iterdir() if scripts.is_dir() else ():
        path.chmod(0o755)  # not every wheel says so


def newer(version: str, than: str) -> bool:
    """Whether the first of two versions of a Python package is the later one."""
    from packaging.version import Version

    return Version(version) > Version(than)


def compile_script(target: Target) -> str:
    """Run in the image: bytecode that names the source it was made from, and no time. Work in an image may not write
    there, so that each start would compile all of it again. What does not compile is not Python of that version, such
    as a template: Python itself passes over it too."""
    folder = shlex.quote(places(target)["purelib"])
    python = f"/usr/bin/python{target.minor} -S -m compileall -qq --invalidation-mode unchecked-hash"
    return f"PYTHONHASHSEED=0 {python} {folder} || [ $? = 1 ]"


def _file(package: Any, source: Any, target: Target, named: str) -> File:
    from packaging.pylock import PackageSdist, PackageWheel

    platform = f"Python {target.minor} on {target.platform}"
    if isinstance(source, PackageSdist):
        raise no_wheel(package.name, platform, f"{named} has its source alone")
    if not isinstance(source, PackageWheel) or not source.url:
        raise Invalid(
            f"{named}: {package.name} comes from a folder, a repository or an archive: only wheels of an index are "
            "installed",
            hint="build a wheel of it and put it on an index, or leave it out of the lock",
            code="unsupported_source",
        )
    if "sha256" not in source.hashes:
        raise Invalid(
            f"{named}: {package.name} has no sha256", hint="lock again with a tool that writes them", code="no_hash"
        )
    return File(
        name=str(package.name),
        version=str(package.version or _version(source)),
        file=source.filename,
        url=source.url,
        sha256=source.hashes["sha256"],
        size=source.size or 0,
    )


def _version(wheel: PackageWheel) -> str:
    from packaging.utils import parse_wheel_filename

    return str(parse_wheel_filename(wheel.filename)[1])


def _environment(target: Target) -> dict[str, str]:
    """The markers of the image."""
    return {
        "implementation_name": "cpython",
        "implementation_version": target.python,
        "os_name": "posix",
        "platform_machine": target.machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": target.python,
        "python_version": target.minor,
        "sys_platform": "linux",
    }


def _tags(target: Target) -> list[Tag]:
    """Best first."""
    from packaging.tags import compatible_tags, cpython_tags

    platforms: list[str] = []
    for libc in range(target.libc, _OLDEST_LIBC[target.machine] - 1, -1):
        platforms.append(f"manylinux_2_{libc}_{target.machine}")
        if libc in _LEGACY:
            platforms.append(f"{_LEGACY[libc]}_{target.machine}")
    platforms.append(f"linux_{target.machine}")
    major, minor = (int(part) for part in target.minor.split("."))
    return [
        *cpython_tags((major, minor), platforms=platforms),
        *compatible_tags((major, minor), interpreter=f"cp{major}{minor}", platforms=platforms),
    ]
