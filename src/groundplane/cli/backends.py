"""`ground backends …`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from groundplane.cli.commands import Lazy, json_option

if TYPE_CHECKING:
    from groundplane.client import Client
    from groundplane.model.documents import BackendDocument
    from groundplane.model.errors import GroundError

_HERE = "groundplane.cli.backends"

backends = Lazy(
    "backends",
    {
        "list": (f"{_HERE}:list_", "List where work can run."),
        "check": (f"{_HERE}:check", "Look at a backend's health now."),
        "add": (f"{_HERE}:add", "Add a backend."),
        "rm": (f"{_HERE}:rm", "Forget a backend that was added."),
        "remove": (f"{_HERE}:remove", "The same as rm."),
        "gc": (f"{_HERE}:gc", "Delete what was left on backends."),
    },
    help="Where work can run.",
)


@click.command("list")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@json_option
def list_(names: tuple[str, ...], as_json: bool) -> int:
    """List where work can run, or only these backends."""
    from groundplane.cli import output
    from groundplane.client import Client
    from groundplane.model.quantities import format_size

    with Client() as client:
        found, failed = _looked_at(client, names) if names else (list(client.backends()), {})
    if as_json:
        output.print_json(found)
        return _told(failed)
    rows = [
        (b.name, b.driver, "ok" if b.ok else "error", f"{b.cpus:g}", format_size(b.memory), str(b.gpus), b.message)
        for b in found
    ]
    if rows or not failed:
        output.table(("NAME", "DRIVER", "HEALTH", "CPUS", "MEMORY", "GPUS", "SAYS"), rows, states=2)
    return _told(failed)


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@json_option
def check(names: tuple[str, ...], as_json: bool) -> int:
    """Look at the health of these backends now, or of all. Exit code 3 when one cannot take work."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found, failed = _looked_at(client, names or tuple(backend.name for backend in client.backends()))
    if as_json:
        output.print_json(found)
    for backend in () if as_json else found:
        print(f"{backend.name}: {output.paint('ok' if backend.ok else 'error', sys.stdout)}: {backend.message}")
        for name, value in backend.facts.items():
            print(f"  {name}: {value}")
        if backend.devices is not None:
            for device in backend.devices.devices:
                print(f"  {device.shown}, {backend.devices.shown}")
            for text in backend.devices.unread:
                print(f"  {text}")
        if backend.hint:
            print(f"  hint: {backend.hint}")
    return _told(failed) or (0 if all(backend.ok for backend in found) else 3)


def _looked_at(client: Client, names: Sequence[str]) -> tuple[list[BackendDocument], dict[str, GroundError]]:
    """These backends' health, and why it cannot be told of others: one keeps no other from being shown."""
    from groundplane.model.errors import GroundError

    found: list[BackendDocument] = []
    failed: dict[str, GroundError] = {}
    for name in names:
        try:
            found.append(client.check_backend(name))
        except GroundError as error:
            failed[name] = error
    return found, failed


def _told(failed: Mapping[str, GroundError]) -> int:
    """The errors on standard error, and the exit code of the first; 0 without any."""
    from groundplane.cli.app import fail

    sys.stdout.flush()
    codes = [fail(error.message, error.hint, code=error.exit_code) for error in failed.values()]
    return codes[0] if codes else 0


@click.command()
@click.argument("name")
@click.option("--driver", required=True, metavar="DRIVER", help="docker, kubernetes, kubeflow, or fake: a simulation.")
@click.option("--host", metavar="URL", help="docker: unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST.")
@click.option("--tls", metavar="DIR", help="docker: folder with ca.pem, cert.pem and key.pem, where it asks for them.")
@click.option("--kubeconfig", metavar="FILE", help="kubernetes: else KUBECONFIG, else ~/.kube/config.")
@click.option("--context", metavar="C", help="kubernetes: of the kubeconfig; else its current one.")
@click.option("--url", metavar="URL", help="kubeflow: where Kubeflow Pipelines answers, without `/apis`.")
@click.option(
    "--namespace",
    metavar="NS",
    help="kubernetes: one that is there for all projects, else one a project. kubeflow: yours, where there are many.",
)
@click.option("--queue", metavar="QUEUE", help="kubernetes: Kueue's LocalQueue (or ClusterQueue, without --namespace).")
@click.option(
    "--image-registry", metavar="[http://]HOST[:PORT][/PREFIX]", help="kubernetes: where its nodes pull from."
)
@click.option(
    "--storage",
    metavar="s3://BUCKET/PREFIX",
    help="kubernetes: what work is staged through. kubeflow: where it is to keep artifacts, else its API gives them.",
)
@click.option("--patience", metavar="TIME", help="kubernetes: how long an image or a place is waited for (10m).")
@click.option("--priority", metavar="CLASS", help="kubernetes: its pods' PriorityClass.")
@click.option("--account", metavar="NAME", help="kubernetes: its pods' service account.")
@click.option("--runtime", metavar="CLASS", help="kubernetes: its pods' RuntimeClass.")
@click.option("--selector", metavar="KEY=VALUE,…", help="kubernetes: labels of the nodes that take its pods.")
@click.option("--tolerations", metavar="KEY[=VALUE][:EFFECT],…", help="kubernetes: taints that its pods tolerate.")
@click.option("--region", default="", metavar="REGION", help="Where it is, for policies: eu-central-1, basement, …")
@click.option("--encrypted", is_flag=True, help="Say to policies that its disks are encrypted.")
@json_option
def add(name: str, driver: str, region: str, encrypted: bool, as_json: bool, **given: str | None) -> None:
    """Add a backend called NAME; `--on NAME` then runs work there.

    The kubeconfig of kubernetes, KF_PIPELINES_TOKEN of kubeflow, and the AWS_* variables for the storage of both are
    read here, and kept for you alone (mode 0600).
    """
    from groundplane.cli import output
    from groundplane.client import Client

    options = {key: value for key, value in given.items() if value is not None}
    if "tls" in options:
        options["tls"] = str(Path(options["tls"]).absolute())
    if driver == "kubernetes":
        from groundplane.client import kubeconfig

        found = kubeconfig.read(options.pop("kubeconfig", None), options.get("context", ""))
        options |= {"kubeconfig": found, "variables": kubeconfig.storage_variables()}
    if driver == "kubeflow":
        if token := os.environ.get("KF_PIPELINES_TOKEN"):
            options["token"] = token
        elif path := os.environ.get("KF_PIPELINES_SA_TOKEN_PATH"):
            options["token_file"] = str(Path(path).absolute())
        if "storage" in options:
            from groundplane.client import kubeconfig

            options["variables"] = kubeconfig.storage_variables()
    with Client() as client:
        backend = client.add_backend(name, driver, options, region=region, encrypted=encrypted)
    if as_json:
        output.print_json(backend)
        return
    print(f"{backend.name}: {output.paint('ok' if backend.ok else 'error', sys.stdout)}: {backend.message}")
    if backend.hint and not backend.ok:
        print(f"  hint: {backend.hint}")


@click.command()
@click.argument("name")
def rm(name: str) -> None:
    """Forget a backend that was added. Not while a run that has not ended needs it."""
    _forget(name)


@click.command()
@click.argument("name")
def remove(name: str) -> None:
    """The same as rm."""
    _forget(name)


def _forget(name: str) -> None:
    from groundplane.client import Client

    with Client() as client:
        client.remove_backend(name)


@click.command()
@click.argument("name", required=False)
@json_option
def gc(name: str | None, as_json: bool) -> int:
    """Delete what was left on the backend NAME, or on all.

    That is what carries this control plane's id and no open run needs. Exit code 3 when a backend could not be tidied;
    the others are.
    """
    from groundplane.cli import output
    from groundplane.cli.app import fail
    from groundplane.client import Client

    with Client() as client:
        found = client.collect_garbage(name)
    if as_json:
        output.print_json(found)
    for backend in () if as_json else found:
        for each in backend.deleted:
            print(f"{backend.name}: deleted {each}")
        if not backend.deleted and not backend.error:
            print(f"{backend.name}: nothing was left")
    sys.stdout.flush()
    failed = [backend for backend in found if backend.error]
    for backend in failed:
        fail(f"backend {backend.name!r} was not tidied: {backend.error}", backend.hint, code=3)
    return 3 if failed else 0
