"""Registries by the OCI distribution API: what they have, and images put into them. No container engine has a part."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from groundplane.model.errors import Denied, GroundError, Invalid, NotFound, Outside
from groundplane.model.quantities import format_size
from groundplane.oci.reference import Reference, is_digest
from groundplane.oci.registry_access import Access, Answer
from groundplane.spi.http import ConnectionLostError

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    MANIFEST_TYPE,
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""Of several architectures first: their digest is what a name stands for."""
_CHUNK = 1 << 20
_TRIES = 3
_ANSWERS_WITHIN = 20.0
"""Seconds for the answer to a question; what is uploaded may take its time."""
_LOOPBACK = re.compile(r"(?:localhost|127(?:\.\d+){3}|\[::1\])(?::\d+)?")

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Pushed:
    """reference: with its tag. digest: `sha256:…` of the manifest. Bytes of blobs, and how many of these the registry
    had already, or took over from another of its repositories."""

    reference: str
    digest: str
    pushed_bytes: int
    skipped_bytes: int


def push(
    blobs: Callable[[str], Path],
    manifest: str,
    target: Reference,
    progress: Progress,
    *,
    beside: Callable[[str], str] = lambda _: "",
    folder: Path | None = None,
    plain: bool = False,
) -> Pushed:
    """Puts an image into a registry under the target's tag (`latest` where it has none), and there only what it lacks.

    blobs: bare digest -> file. manifest: the image's digest. beside: bare digest -> a repository of the same registry
    that may have the blob, "" for none known. folder: Docker's configuration, for credentials. plain: without TLS.
    Raises Outside `registry_unavailable` for a registry that does not answer, Denied where it refuses, NotFound for a
    repository that it does not know.
    """
    if not target.registry:
        raise Invalid(f"{target} names no registry", hint="write it like registry.example:5000/team/name:tag")
    body = blobs(manifest).read_bytes()
    parts = json.loads(body)
    found = _Pushing(target, folder, progress, plain=plain)
    try:
        for part in {each["digest"]: each for each in (*parts["layers"], parts["config"])}.values():
            digest = str(part["digest"])
            found.blob(digest, int(part["size"]), blobs(digest.removeprefix("sha256:")), beside(digest[7:]))
        found.manifest(body, f"sha256:{manifest}")
    finally:
        found.access.close()
    tagged = f"{target.name}:{target.tag or 'latest'}"
    return Pushed(tagged, f"sha256:{manifest}", found.pushed, found.skipped)


def digest_of(target: Reference, *, folder: Path | None = None, plain: bool = False) -> str:
    """`sha256:…` of what its registry has under the target's digest, else its tag (`latest` where it has none); "" for
    nothing. An image for several architectures is one. folder, plain: as for `push`. Raises Outside
    `registry_unavailable` for a registry that does not answer, Denied where it tells this user nothing."""
    target = target.full
    found = _Repository(target, folder, plain=plain, silence=_ANSWERS_WITHIN)
    try:
        return found.digest_of(target.digest or target.tag or "latest")
    finally:
        found.access.close()


def ping(registry: str, *, plain: bool = False) -> None:
    """Raises Outside `registry_unavailable` when no registry answers there."""
    access = _access(registry, None, plain=plain, silence=_ANSWERS_WITHIN)
    try:
        status = access.request("GET", "/v2/").status
    except ConnectionLostError as error:
        raise Outside(f"registry {registry} does not answer: {error}", code="registry_unavailable") from error
    finally:
        access.close()
    if status not in (200, 401):
        raise Outside(f"what answers at {registry} is no registry (status {status})", code="registry_unavailable")


def _access(registry: str, folder: Path | None, *, plain: bool, silence: float | None = None) -> Access:
    return Access(registry, lambda host: (plain and host == registry) or is_plain(host), folder, silence)


def is_plain(registry: str) -> bool:
    """Whether it is spoken to without TLS: on this machine's own loopback, and where GROUND_INSECURE_REGISTRIES (names
    with commas between) says so."""
    listed = os.environ.get("GROUND_INSECURE_REGISTRIES", "").replace(" ", "").split(",")
    return _LOOPBACK.fullmatch(registry) is not None or (registry in listed and registry != "")


class _Repository:
    """One repository, as somebody who reads there. silence: seconds after which it counts as away."""

    doing = "pull from"
    rights = "pull"
    tries = 1

    def __init__(self, target: Reference, folder: Path | None, *, plain: bool, silence: float | None = None) -> None:
        self.access = _access(target.registry, folder, plain=plain, silence=silence)
        self._target = target
        self._root = f"/v2/{target.repository}"
        self._scopes = [f"repository:{target.repository}:{self.rights}"]

    def digest_of(self, version: str) -> str:
        """Of the manifest under that tag or digest; "" for none."""
        path, accepted = f"{self._root}/manifests/{quote(version)}", {"Accept": ", ".join(_MANIFEST_TYPES)}
        answer = self._ask("HEAD", path, headers=accepted, missing=True)
        if answer.status == 200 and "docker-content-digest" not in answer.headers:  # which is theirs to tell, or not
            answer = self._ask("GET", path, headers=accepted, missing=True)
        if answer.status == 404:
            return ""
        told = answer.headers.get("docker-content-digest") or f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
        if not is_digest(told):
            raise self._odd(f"names {version} by the digest {told!r}")
        return told

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        missing: bool = False,
    ) -> Answer:
        for again in range(self.tries):
            try:
                answer = self.access.request(method, path, body, headers, scopes=self._scopes)
            except ConnectionLostError as error:
                if again == self.tries - 1:
                    raise self._unreachable(error) from error
                continue
            if not (missing and answer.status == 404):
                self._check(answer, (200, 201))
            return answer
        raise AssertionError

    def _check(self, answer: Answer, good: Sequence[int]) -> None:
        if answer.status in good:
            return
        registry, repository, said = self._target.registry, self._target.repository, _said(answer)
        if answer.status in (401, 403):
            raise Denied(
                f"registry {registry} does not let {self.access.who} {self.doing} {repository}: {said}",
                hint=f"docker login {registry}, as somebody who may",
            )
        if answer.status == 404:
            raise NotFound(
                f"registry {registry} has no repository {repository}: {said}",
                hint="some registries want it to be created first; is its name right?",
            )
        if answer.status in (408, 429) or answer.status >= 500:
            raise self._unreachable(said)
        raise self._odd(f"refused it with status {answer.status}: {said}")

    def _unreachable(self, said: object) -> GroundError:
        return Outside(
            f"registry {self._target.registry} does not let anybody {self.doing} {self._target.repository} now: {said}",
            hint="is its name right, and the network up? one without TLS is named in GROUND_INSECURE_REGISTRIES",
            code="registry_unavailable",
        )

    def _odd(self, said: str) -> GroundError:
        return Outside(
            f"registry {self._target.registry} {said} (repository {self._target.repository})",
            hint="its own log may say more",
            code="registry_unavailable",
        )


class _Pushing(_Repository):
    """One image on its way there."""

    doing = "push to"
    rights = "pull,push"
    tries = _TRIES

    def __init__(self, target: Reference, folder: Path | None, progress: Progress, *, plain: bool) -> None:
        super().__init__(target, folder, plain=plain)
        self.pushed = self.skipped = 0
        self._progress = progress

    def blob(self, digest: str, size: int, path: Path, beside: str) -> None:
        """Uploads it, unless the registry has it, or can take it over from `beside`."""
        if self._ask("HEAD", f"{self._root}/blobs/{digest}", missing=True).status == 200:
            self.skipped += size
            return
        for again in range(_TRIES):
            try:
                started = self._start(digest, beside if not again else "")
                if started is None:
                    self.skipped += size
                    return
                self._progress(f"pushing {digest[:19]} ({format_size(size)})")
                self._upload(started, digest, size, path)
                self.pushed += size
                return
            except ConnectionLostError as error:  # an upload that broke begins anew
                if again == _TRIES - 1:
                    raise self._unreachable(error) from error

    def _start(self, digest: str, beside: str) -> str | None:
        """Where to upload to; None when the registry took the blob over from another repository."""
        query, scopes = "", self._scopes
        if beside and beside != self._target.repository:
            query = "?" + urlencode({"mount": digest, "from": beside})
            scopes = [*scopes, f"repository:{beside}:pull"]
        answer = self.access.request("POST", f"{self._root}/blobs/uploads/{query}", b"", _OCTETS, scopes=scopes)
        if query and answer.status in (401, 403, 404):  # a repository that this user may not read
            answer = self.access.request("POST", f"{self._root}/blobs/uploads/", b"", _OCTETS, scopes=self._scopes)
        if answer.status == 201:
            return None
        self._check(answer, (202,))
        if not (location := answer.headers.get("location")):
            raise self._odd("began an upload without saying where")
        return location

    def _upload(self, location: str, digest: str, size: int, path: Path) -> None:
        target = location + ("&" if "?" in location else "?") + urlencode({"digest": digest})
        headers = {**_OCTETS, "Content-Length": str(size)}
        answer = self.access.request("PUT", target, lambda: _pieces(path), headers, scopes=self._scopes)
        self._check(answer, (201,))

    def manifest(self, body: bytes, digest: str) -> None:
        """Puts the manifest under the tag: from now on the image is there."""
        tag = quote(self._target.tag or "latest")
        answer = self._ask("PUT", f"{self._root}/manifests/{tag}", body, {"Content-Type": MANIFEST_TYPE})
        told = answer.headers.get("docker-content-digest", digest)
        if told != digest:
            raise self._odd(f"took the manifest {digest} for {told}")


_OCTETS = {"Content-Type": "application/octet-stream"}


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            yield block


def _said(answer: Answer) -> str:
    """What the registry says of an error."""
    try:
        first = json.loads(answer.body)["errors"][0]
        return f"{first['code']}: {first.get('message', '')}".rstrip(": ")
    except (ValueError, KeyError, IndexError, TypeError):
        return f"HTTP status {answer.status}"
