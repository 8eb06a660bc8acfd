"""`ground images …` and `ground keys …`."""

from __future__ import annotations

import click

from groundplane.cli.commands import Lazy, json_option

_HERE = "groundplane.cli.images"

images = Lazy(
    "images",
    {
        "list": (f"{_HERE}:list_", "List built images: what each costs and who uses it."),
        "show": (f"{_HERE}:show", "Show an image with its layers."),
        "push": (f"{_HERE}:push", "Put an image into a registry."),
        "prune": (f"{_HERE}:prune", "Remove the images that nobody uses."),
    },
    help="Images built from environments.",
)
keys = Lazy("keys", {"list": (f"{_HERE}:keys_list", "List the keys that sign provenance.")}, help="Signing keys.")


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List built images, newest first: what each costs and who uses it."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.images()
    if as_json:
        output.print_json(found)
        return
    output.table(
        ("IMAGE", "SIZE", "OWN", "SHARED", "BUILT", "USED BY"),
        [
            (
                row["name"],
                output.size(row["size"]),
                output.size(row["own_bytes"]),
                output.size(row["shared_bytes"]),
                output.when(row["built_at"]),
                ", ".join(f"{use['project']}/{use['environment']}" for use in row["used_by"]) or "-",
            )
            for row in found
        ],
    )


@click.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show an image; NAME is its name, or the beginning of its digest."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.image(name)
    if as_json:
        output.print_json(found)
        return
    plain = ("name", "digest", "config", "builder")
    output.pairs([*((key, str(found[key])) for key in plain), ("built", output.when(found["built_at"]))])
    print()
    output.table(("LAYER", "SIZE"), [(layer["diff"], output.size(layer["size"])) for layer in found["layers"]])


@click.command()
@click.argument("name")
@click.argument("reference", metavar="REGISTRY/REPO[:TAG]")
@json_option
def push(name: str, reference: str, as_json: bool) -> None:
    """Put an image into a registry; NAME is an environment's of ./ground.toml, else an image's name."""
    from groundplane.cli import output, working
    from groundplane.client import Client, locks

    with Client() as client:
        found = working.told(client.work(("images", "push"), locks.push_request(name, reference)))
    if as_json:
        output.print_json(found)
        return
    pushed, skipped = output.size(found["pushed_bytes"]), output.size(found["skipped_bytes"])
    print(f"{found['reference']}: {found['digest']}")
    print(f"pushed {pushed}; {skipped} were there already")


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also those that recent runs used, and downloaded packages.")
@json_option
def prune(everything: bool, as_json: bool) -> None:
    """Remove the images that no run of the last 30 days used; --all: those that no open run uses."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.prune_images(everything=everything)
    if as_json:
        output.print_json(found)
        return
    for name in found["removed"]:
        print(f"removed {name}")
    print(f"freed {output.size(found['freed_bytes'])}")


@click.command("list")
@json_option
def keys_list(as_json: bool) -> None:
    """List the public halves of the keys that sign provenance."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.keys()
    if as_json:
        output.print_json(found)
    else:
        output.table(("NAME", "ALGORITHM", "PUBLIC KEY"), [(k["name"], k["algorithm"], k["public_key"]) for k in found])
