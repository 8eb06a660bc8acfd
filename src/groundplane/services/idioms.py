"""One connection in the idiom of each toolchain: an address, an ODBC data source, a libpq service, fsspec options."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from groundplane.model.connections import variable
from groundplane.model.errors import Invalid

_PLAIN = re.compile(r"[^\x00-\x1f\x7f]*")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_HOST = re.compile(r"[A-Za-z0-9._:-]+")
_FORMS = "postgresql://USER@HOST:PORT/DATABASE, or s3://KEY-ID@BUCKET/PREFIX"
_OF_LIBPQ = ("sslmode", "connect_timeout", "application_name", "target_session_attrs")
_OF_BUCKETS = ("endpoint_url", "region")
_PORT = 5432
_ODBC = {"sslmode": "SSLmode"}
_ODBC_DRIVER = "PostgreSQL Unicode"
"""As Debian's odbc-postgresql calls it in /etc/odbcinst.ini; it is looked up where the work runs."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a connection leads. name: of the database, or bucket and prefix. user: of a bucket, the access key's id."""

    kind: str
    user: str
    host: str
    port: int
    name: str
    options: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def is_database(self) -> bool:
        return self.kind == "postgresql"

    def url(self, password: str | None = None) -> str:
        """With the password, percent-encoded, when there is one."""
        user = quote(self.user, safe="")
        secret = f":{quote(password, safe='')}" if password else ""
        known = f"?{urlencode(self.options)}" if self.options else ""
        if not self.is_database:
            return f"s3://{f'{user}@' if user else ''}{self.name}{known}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"postgresql://{user}{secret}@{host}:{self.port}/{quote(self.name, safe='')}{known}"


def parse(url: str) -> Target:
    """Raises Invalid that says how it is written; a password has no place in it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise Invalid(f"the connection's address is not understood: {error}", hint=f"write {_FORMS}") from None
    if parts.password is not None:
        raise Invalid(
            "the connection's address holds a password",
            hint="leave it out: printf %s PASSWORD | ground secrets set NAME, then --password-secret NAME",
        )
    user, options = unquote(parts.username or ""), dict(parse_qsl(parts.query, keep_blank_values=True))
    if not all(_PLAIN.fullmatch(text) for text in (user, unquote(parts.path), *options.values())):
        raise Invalid("the connection's address holds a control character", hint=f"write {_FORMS}")
    if parts.scheme in ("postgresql", "postgres"):
        name = unquote(parts.path.removeprefix("/"))
        if not user or not name or not _HOST.fullmatch(host) or parts.fragment:
            raise Invalid(f"{url} is no address of a database", hint=f"write {_FORMS}")
        _only(options, _OF_LIBPQ)
        return Target("postgresql", user, host, port or _PORT, name, options)
    if parts.scheme == "s3":
        bucket = parts.netloc.rpartition("@")[2]
        if not _BUCKET.fullmatch(bucket) or parts.fragment:
            raise Invalid(f"{url} is no address of a bucket", hint=f"write {_FORMS}")
        _only(options, _OF_BUCKETS)
        return Target("s3", user, "", 0, (bucket + unquote(parts.path)).rstrip("/"), options)
    told = f"connections of the kind {parts.scheme}:// are not known" if parts.scheme else f"{url!r} is no address"
    raise Invalid(told, hint=f"write {_FORMS}")


def _only(options: Mapping[str, str], known: tuple[str, ...]) -> None:
    for name in options:
        if name not in known:
            raise Invalid(f"{name!r} is no option of such a connection", hint=f"its options are: {', '.join(known)}")


def variables(name: str, target: Target, password: str | None) -> dict[str, str]:
    """What a task's environment has of it."""
    if target.is_database:
        return {variable(name, "URL"): target.url(password)}
    return {variable(name, "URL"): f"s3://{target.name}", variable(name, "OPTIONS"): _options(target, password)}


def _options(target: Target, password: str | None) -> str:
    """As `fsspec.open(url, **options)` and pandas' `storage_options` take them."""
    found: dict[str, object] = {}
    if target.user:
        found |= {"key": target.user, "secret": password or ""}
    if endpoint := target.options.get("endpoint_url"):
        found["endpoint_url"] = endpoint
    if region := target.options.get("region"):
        found["client_kwargs"] = {"region_name": region}
    return json.dumps(found, ensure_ascii=False)


def odbc(name: str, target: Target, password: str | None) -> str:
    """A data source of odbc.ini. psqlODBC decodes `%XX` and `+` in a password, so nothing else is left in it."""
    lines = {
        "Driver": _ODBC_DRIVER,
        "Servername": target.host,
        "Port": str(target.port),
        "Database": target.name,
        "Username": target.user,
        "Password": quote(password or "", safe=""),
        **{_ODBC[key]: value for key, value in target.options.items() if key in _ODBC},
    }
    return f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items()) + "\n"


def service(name: str, target: Target) -> str:
    """A section of pg_service.conf."""
    lines = {
        "host": target.host,
        "port": str(target.port),
        "dbname": target.name,
        "user": target.user,
        **target.options,
    }
    return f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in lines.items()) + "\n"


def pgpass(target: Target, password: str) -> str:
    """A line of libpq's password file."""
    return ":".join(map(_escaped, (target.host, str(target.port), target.name, target.user, password))) + "\n"


def spellings(password: str) -> tuple[str, ...]:
    """The password in every form that a task is given it in: none of them must reach a log."""
    in_json = json.dumps(password, ensure_ascii=False)[1:-1]
    return tuple(dict.fromkeys((password, quote(password, safe=""), in_json, _escaped(password))))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace(":", "\\:")
