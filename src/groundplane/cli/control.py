"""`ground up`, `down` and `status`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from groundplane.cli.commands import json_option
from groundplane.model.errors import Invalid, Unavailable
from groundplane.spi import settings

if TYPE_CHECKING:
    from groundplane.model.documents import AuditDocument

PORT = 7433
"""Where `ground up` listens when it is not told otherwise and nobody else does."""
_END_LIMIT = 15.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@click.command()
@click.option("--host", metavar="HOST", help="Address to listen on: loopback, or another one once people can log in.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="PORT", help="Port to listen on; 0 takes a free one.")
@click.option("--token-file", metavar="FILE", help="Whoever comes over TCP with the token in this file is its owner.")
@click.option("--tls-cert", metavar="FILE", help="Speak TLS with this certificate (PEM, with what leads to its root).")
@click.option("--tls-key", metavar="FILE", help="The key of --tls-cert (PEM).")
@click.option("--database", metavar="URL", help="Database instead of SQLite under GROUND_HOME: postgresql://…")
@click.option("--foreground", is_flag=True, help="Stay in this terminal; Ctrl-C ends it.")
def up(
    host: str | None,
    port: int | None,
    token_file: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    database: str | None,
    foreground: bool,
) -> None:
    """Start a control plane that also listens on TCP; it stays until `ground down`.

    One that runs already is replaced when it was started with other options. Running work is not touched.
    """
    from groundplane.client import Client, launcher

    if os.environ.get("GROUND_URL"):
        raise Invalid("GROUND_URL names a shared control plane", hint="unset it to start one here")
    home = launcher.home_folder()
    files = {"token-file": token_file, "tls-cert": tls_cert, "tls-key": tls_key}
    paths = {name: None if file is None else str(Path(file).absolute()) for name, file in files.items()}
    options = {"host": host, "port": port, **paths, "database": database}
    if host is not None and host not in _LOOPBACK and token_file is None:
        _refuse_without_logins(host, home, database)
    if foreground:
        launcher.replace_this(home, {**options, "port": _port() if port is None else port})
    connection = launcher.running(home)
    known = launcher.record(home, connection) if connection else None
    mine = settings.digest(os.environ)
    if connection is None or known is None or not known.url or _differs(options, known.options, mine, known.settings):
        if connection:
            connection.close()
        connection = launcher.restart(home, {**options, "port": _port() if port is None else port})
    connection.close()
    with Client() as client:
        found = client.status()
    print(f"url: {found.url}")
    print(f"home: {found.home}", file=sys.stderr)


def _port() -> int:
    """The usual port, or any free one when somebody else has it."""
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK[1], PORT))
        except OSError:
            return 0
    return PORT


def _differs(wanted: dict[str, Any], known: Any, settings_here: str, settings_there: str) -> bool:
    """Whether what this shell says differs from what the control plane was started with. What it does not say stays."""
    if settings_here and settings_here != settings_there:
        return True
    return any(value is not None and known.get(name) != value for name, value in wanted.items())


def _refuse_without_logins(host: str, home: Path, database: str | None) -> None:
    """Before a control plane that runs is ended for one that would refuse to start. When none runs, the new one looks
    into its database itself, if there is one."""
    from groundplane.client import Client, launcher

    if os.environ.get("GROUND_OIDC_ISSUER"):
        return
    connection = launcher.running(home)
    if connection is None:
        if database is not None or (home / "ground.db").exists():
            return
    else:
        connection.close()
        with Client() as client:
            if any(user.password and user.disabled_at is None for user in client.users()):
                return
    raise Invalid(
        f"--host {host} is beyond loopback, and nobody could log in there",
        hint="set GROUND_OIDC_ISSUER, or ground users create NAME --password; or --token-file FILE, or 127.0.0.1 and "
        "from elsewhere ssh -L",
        code="unsafe_host",
    )


@click.command()
@click.option("--stop", is_flag=True, help="Also end the work that runs.")
def down(stop: bool) -> None:
    """End the control plane. Running work runs on, and the next one picks it up."""
    from groundplane.client import Client, launcher

    if os.environ.get("GROUND_URL"):
        raise Invalid("GROUND_URL names a shared control plane", hint="unset it to end the one here")
    home = launcher.home_folder()
    connection = launcher.running(home)
    if connection is not None:
        connection.close()
    elif not (stop and home.exists()):  # to end work that runs on, somebody has to be there
        print("no control plane runs", file=sys.stderr)
        return
    with Client() as client:
        pid = int(client.health()["pid"])  # not its status: that needs the database
        client.shutdown(end_work=stop)
    if not launcher.wait_for_end(pid, _END_LIMIT):
        raise Unavailable(f"the control plane (pid {pid}) does not end", hint=f"see {home}/control.log")


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Show the control plane that answers; like every command, this starts a private one when there is none."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.status()
    if as_json:
        output.print_json(found)
        return
    output.pairs(
        [
            ("version", found.version),
            ("url", found.url or "none (ground up opens one)"),
            ("pid", str(found.pid)),
            ("agent", str(found.agent_pid or "none runs")),
            ("database", found.database),
            ("home", found.home),
            ("started", output.when(found.started_at)),
            ("open runs", str(found.open_runs)),
            ("audit", _audit(found.audit)),
        ]
    )


def _audit(found: AuditDocument | None) -> str:
    if found is None:
        return ""
    return found.problem or f"{found.events} events, checkpoints in {found.witness}"
