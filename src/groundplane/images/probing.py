"""Which engine an image has: looked for along its PATH, and asked in a container that can reach and change nothing."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from typing import Any

from groundplane.model.errors import Outside
from groundplane.oci.engine import Engine, Refused, frames

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NOBODY = "65534:65534"
_SECONDS = 120
_LOOK = 0.05
_MOST = 64 * 1024


def probe(
    engine: Engine, image: str, programs: Sequence[str], arguments: Sequence[str], label: Mapping[str, str]
) -> tuple[str, str]:
    """(path of the first program that is there, what it printed); "" for each that there is not. label: of the
    containers, which are gone at the end."""
    program = _located(engine, image, programs, label)
    if not program or not arguments:
        return program, ""
    code, said = _run(engine, image, [program, *arguments], _NOBODY, label)
    if code != 0:  # some programs want a user that their image knows
        code, said = _run(engine, image, [program, *arguments], None, label)
    return program, said.strip()


def _located(engine: Engine, image: str, programs: Sequence[str], label: Mapping[str, str]) -> str:
    """Without a shell, for the image may have none: a container that never starts is looked into."""
    body = {"Image": image, "Entrypoint": ["none"], "Cmd": [], "Labels": dict(label)}
    made = engine.call("POST", "/containers/create", body=body)["Id"]
    try:
        config = engine.call("GET", f"/containers/{made}/json")["Config"]
        variables = dict(each.partition("=")[::2] for each in config.get("Env") or ())
        for program in programs:
            for folder in variables.get("PATH", _PATH).split(":"):
                path = f"{folder.rstrip('/')}/{program}"
                if path.startswith("/") and engine.head(f"/containers/{made}/archive", {"path": path}) is not None:
                    return path
        return ""
    finally:
        engine.call("DELETE", f"/containers/{made}", {"force": 1})


def _run(
    engine: Engine, image: str, argv: Sequence[str], user: str | None, label: Mapping[str, str]
) -> tuple[int, str]:
    """(exit code, output)."""
    body: dict[str, Any] = {
        "Image": image,
        "Entrypoint": list(argv),
        "Cmd": [],
        "Labels": dict(label),
        "Env": ["HOME=/tmp", "LC_ALL=C.UTF-8"],
        "WorkingDir": "/",
        "HostConfig": {
            "NetworkMode": "none",
            "ReadonlyRootfs": True,
            "Tmpfs": {"/tmp": ""},  # noqa: S108 - the container's
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "LogConfig": {"Type": "json-file"},
        },
        **({"User": user} if user else {}),
    }
    made = engine.call("POST", "/containers/create", body=body)["Id"]
    try:
        try:
            engine.call("POST", f"/containers/{made}/start", tries=1)
        except Refused as error:  # it cannot even be executed by that user
            return 126, error.message
        limit = time.monotonic() + _SECONDS
        while (state := engine.call("GET", f"/containers/{made}/json")["State"])["Running"]:
            if time.monotonic() > limit:
                raise Outside(
                    f"{argv[0]} in {image[:19]} did not tell its version within {_SECONDS} s",
                    hint="does it run without a terminal? `docker run --network none` tells",
                    code="image_build_failed",
                )
            time.sleep(_LOOK)
        query = {"stdout": 1, "stderr": 1}
        raw = b"".join(engine.stream("GET", f"/containers/{made}/logs", query))
        text = b"".join(piece for _, piece in frames(io.BufferedReader(io.BytesIO(raw))))  # pyright: ignore[reportArgumentType]
        return int(state["ExitCode"]), text[:_MOST].decode(errors="replace")
    finally:
        engine.call("DELETE", f"/containers/{made}", {"force": 1})
