"""`ground env …`: environments of ground.toml, their locks and images."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from groundplane.cli.commands import Lazy, json_option

if TYPE_CHECKING:
    from groundplane.model.requests import EnvironmentRequest

_HERE = "groundplane.cli.env"

env = Lazy(
    "env",
    {
        "lock": (f"{_HERE}:lock", "Resolve environments, build them and write ground.lock."),
        "build": (f"{_HERE}:build", "Build the images that ground.lock describes."),
        "pool": (f"{_HERE}:pool", "Gather every file that builds need, for a site without a network."),
        "list": (f"{_HERE}:list_", "List the environments of ground.toml."),
        "show": (f"{_HERE}:show", "Show an environment with its packages."),
        "diff": (f"{_HERE}:diff", "Compare two environments' packages."),
        "outdated": (f"{_HERE}:outdated", "List what has moved on since the lock."),
        "sbom": (f"{_HERE}:sbom", "Print an image's bill of materials (CycloneDX)."),
        "provenance": (f"{_HERE}:provenance", "Print an image's signed provenance (SLSA)."),
        "verify": (f"{_HERE}:verify", "Compare images with digests, signatures and ground.lock."),
        "attest": (f"{_HERE}:attest", "Note what a licensed engine was installed from."),
    },
    help="Environments: locked, and built into images.",
)

_names = click.argument("names", metavar="[NAME]...", nargs=-1)
_builder = click.option(
    "--builder", metavar="NAME", help="debian or docker; found from the environment when left away."
)


@click.command()
@_names
@_builder
@json_option
def lock(names: tuple[str, ...], builder: str | None, as_json: bool) -> None:
    """Resolve these environments, or all, build them once and write ground.lock."""
    from groundplane.cli import output
    from groundplane.client import locks

    locks.check_writable(locks.request(names))
    result = _written(lambda request: _followed(request, "lock"), names, builder=builder)
    if as_json:
        output.print_json(result)
        return
    for row in result["environments"]:
        said = "locked" if row["name"] in result["changed"] else "unchanged"
        print(f"{row['name']}: {said}: {_called(row)}")


@click.command()
@_names
@_builder
@click.option("--offline", metavar="POOL", help="Build from this folder (`ground env pool`), without a network.")
@json_option
def build(names: tuple[str, ...], builder: str | None, offline: str | None, as_json: bool) -> None:
    """Build the images of these environments, or of all. What is built already is left as it is."""
    from groundplane.cli import output

    result = _written(lambda request: _followed(request, "build"), names, builder=builder, offline=offline)
    if as_json:
        output.print_json(result)
        return
    for row in result["environments"]:
        said = "built" if row["built"] else "is built" if row["image_digest"] else "is attested: nothing to build"
        print(f"{row['name']}: {said}: {row['image_digest'] or row['version']}")


@click.command()
@_names
@click.option("-o", "--out", required=True, metavar="DIR", help="The folder; what it has already is kept.")
@json_option
def pool(names: tuple[str, ...], out: str, as_json: bool) -> None:
    """Put every file that building these environments, or all, needs into a folder."""
    from groundplane.cli import output
    from groundplane.client import locks

    result = _followed(locks.request(names, out=str(Path(out).absolute())), "pool")
    if as_json:
        output.print_json(result)
    else:
        print(f"{result['files']} files in {out}; build from them: ground env build --offline {out}")


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the environments of ground.toml: locked, built, or not."""
    from groundplane.cli import output

    rows = _asked((), "list")
    if as_json:
        output.print_json(rows)
        return
    output.table(
        ("NAME", "STATE", "ENGINE", "VERSION", "BUILDER", "SIZE", "BUILT"),
        [
            (
                row["name"],
                row["state"],
                row["engine"] or row["toolchain"] or row["upstream"] or "-",
                row["version"] or "-",
                row["builder"] or "-",
                output.size(row["size"]),
                output.when(row["built_at"]),
            )
            for row in rows
        ],
    )


@click.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show an environment: engine, lock, image and packages."""
    from groundplane.cli import output

    found = _asked((name,), "show")
    if as_json:
        output.print_json(found)
        return
    plain = (
        "name",
        "toolchain",
        "engine",
        "version",
        "upstream",
        "builder",
        "lock_sha256",
        "image_digest",
        "provenance",
    )
    output.pairs([(key.replace("_", " "), str(found[key] or "-")) for key in plain])
    output.pairs([("size", output.size(found["size"])), ("built", output.when(found["built_at"]))])
    for warning in found["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print()
    output.table(("PACKAGE", "VERSION", "KIND"), [(p["name"], p["version"], p["kind"]) for p in found["packages"]])


@click.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@json_option
def diff(before: str, after: str, as_json: bool) -> None:
    """Compare two environments' packages."""
    from groundplane.cli import output

    found = _asked((before, after), "diff")
    if as_json:
        output.print_json(found)
        return
    for sign, key in (("+", "added"), ("-", "removed")):
        for row in found[key]:
            print(f"{sign} {row['name']} {row['version']} ({row['kind']})")
    for row in found["changed"]:
        print(f"~ {row['name']} {row['before']} -> {row['after']} ({row['kind']})")


@click.command()
@_names
@click.option("--security", is_flag=True, help="Only what the suites' security indices have newer; needs no network.")
@json_option
def outdated(names: tuple[str, ...], security: bool, as_json: bool) -> None:
    """List what has moved on since the lock: packages of suites and languages, versions of toolchains."""
    from groundplane.cli import output
    from groundplane.client import locks

    rows = _followed(locks.request(names, security=security), "outdated")
    if as_json:
        output.print_json(rows)
    elif not rows:
        print("nothing has moved on")
    else:
        output.table(
            ("ENVIRONMENT", "PACKAGE", "LOCKED", "AVAILABLE", "SECURITY"),
            [
                (r["environment"], r["package"], r["locked"], r["available"], "yes" if r["security"] else "-")
                for r in rows
            ],
        )


@click.command()
@click.argument("name")
def sbom(name: str) -> None:
    """Print the bill of materials of an environment's image: CycloneDX 1.6, JSON."""
    _document(name, "sbom")


@click.command()
@click.argument("name")
def provenance(name: str) -> None:
    """Print the provenance of an environment's image: SLSA 1 in a DSSE envelope, signed (see: ground keys list)."""
    _document(name, "provenance")


@click.command()
@_names
@json_option
def verify(names: tuple[str, ...], as_json: bool) -> int:
    """Compare blobs with digests, envelopes with the key, images with ground.lock. Exit code 1 when one differs."""
    from groundplane.cli import output
    from groundplane.client import locks

    found = _followed(locks.request(names), "verify")
    if as_json:
        output.print_json(found)
    for row in () if as_json else found["environments"]:
        print(f"{row['name']}: {'ok' if row['ok'] else 'changed'}")
        for problem in row["problems"]:
            print(f"  {problem}")
    return 0 if found["ok"] else 1


@click.command()
@click.argument("name")
@click.option(
    "--installer",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="What it was installed from; its digest is noted.",
)
@json_option
def attest(name: str, installer: Path, as_json: bool) -> None:
    """Note what the licensed engine of an environment was installed from, in ground.lock."""
    import hashlib

    from groundplane.cli import output
    from groundplane.client import Client, locks

    with installer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    facts = {"name": installer.name, "sha256": digest, "size": str(installer.stat().st_size)}
    locks.check_writable(locks.request((name,)))
    with Client() as client:
        result = _written(lambda request: client.environments("attest", request), (name,), installer=facts)
    row = result["environments"][0]
    if as_json:
        output.print_json(row)
    else:
        print(f"{name}: attested: {_called(row)}, installed from {installer.name} (sha256 {digest[:16]}…)")


def _called(row: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (row["engine"] or row["toolchain"], row["version"]))) or str(row["upstream"])


def _document(name: str, kind: str) -> None:
    from groundplane.cli import output

    output.print_json(_asked((name,), kind))


def _asked(names: tuple[str, ...], action: str) -> Any:
    from groundplane.client import Client, locks

    with Client() as client:
        return client.environments(action, locks.request(names))


def _written(ask: Callable[[EnvironmentRequest], Any], names: tuple[str, ...], **asked: Any) -> Any:
    """The result of what changes ground.lock, once that is written. When somebody else has changed it meanwhile, it is
    asked for anew: what was built is there then."""
    from groundplane.client import locks

    while True:
        request = locks.request(names, **asked)
        result = ask(request)
        if locks.write(request, result.pop("lock")):
            return result
        print(f"{locks.LOCK} was changed by somebody else meanwhile: once more", file=sys.stderr)


def _followed(request: EnvironmentRequest, action: str) -> Any:
    """The result of what takes long; its progress goes to standard error."""
    from groundplane.cli import working
    from groundplane.client import Client

    with Client() as client:
        return working.told(client.work(("environments", action), request))
