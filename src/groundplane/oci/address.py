"""Where a Docker engine listens, and a connection to it."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from groundplane.model.errors import Invalid
from groundplane.spi.http import tcp_socket, unix_socket

DEFAULT = "unix:///var/run/docker.sock"
_SCHEMES = ("unix", "tcp", "http", "https", "ssh")


class Address:
    """url: `unix:///PATH`, `tcp://HOST:PORT`, `ssh://[USER@]HOST`. tls: folder with ca.pem, cert.pem and key.pem; ""
    for a plain connection."""

    __slots__ = ("tls", "url")  # no dataclass: importing that costs as much as connecting a hundred times

    def __init__(self, url: str = DEFAULT, tls: str = "") -> None:
        self.url = url
        self.tls = tls

    @property
    def shares_files(self) -> bool:
        """Whether the engine runs on this host, so that it can mount this host's folders."""
        return self.url.startswith("unix:")

    def connect(self) -> socket.socket:
        """A connected socket. Raises OSError."""
        scheme, _, rest = self.url.partition("://")
        if scheme == "unix":
            return unix_socket(rest)
        if scheme == "ssh":
            return _through_ssh(self.url)
        host, _, port = rest.rstrip("/").rpartition(":")
        made = tcp_socket(host.strip("[]"), int(port), tls=False)
        if not self.tls and scheme != "https":
            return made
        import ssl

        context = ssl.create_default_context(cafile=f"{self.tls}/ca.pem" if self.tls else None)
        if self.tls:
            context.load_cert_chain(f"{self.tls}/cert.pem", f"{self.tls}/key.pem")
        return context.wrap_socket(made, server_hostname=host.strip("[]"))


def parse(url: str, tls: str = "") -> Address:
    """Raises Invalid for what is no address of an engine."""
    scheme, separator, rest = url.partition("://")
    port = rest.rstrip("/").rpartition(":")[2]
    fits = separator and scheme in _SCHEMES and rest and (scheme in ("unix", "ssh") or port.isdecimal())
    if not fits or (scheme == "unix" and not rest.startswith("/")):
        raise Invalid(
            f"{url!r} is no address of a Docker engine",
            hint="write it like unix:///var/run/docker.sock, tcp://host:2376 or ssh://user@host",
        )
    return Address(url, tls)


def from_environment(variables: Mapping[str, str]) -> Address:
    """As Docker's own command line finds it: DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH."""
    url = variables.get("DOCKER_HOST") or DEFAULT
    tls = ""
    if variables.get("DOCKER_TLS_VERIFY") and url.startswith("tcp:"):
        tls = variables.get("DOCKER_CERT_PATH") or f"{variables.get('HOME', '')}/.docker"
    return parse(url, tls)


def _through_ssh(url: str) -> socket.socket:
    """As Docker's own command line does it, by `docker system dial-stdio` over there. No password is asked for."""
    import subprocess

    target = url.removeprefix("ssh://").rstrip("/")
    host, colon, port = target.rpartition(":")
    options = ["-p", port] if colon and port.isdecimal() else []
    argv = ["ssh", "-o", "BatchMode=yes", "-T", *options, "--", host if options else target]
    mine, theirs = socket.socketpair()
    end = theirs.fileno()
    try:
        subprocess.Popen(
            [*argv, "docker system dial-stdio"],
            stdin=end,
            stdout=end,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        mine.close()
        raise
    finally:
        theirs.close()
    return mine
