"""Blobs in S3, Amazon's or another's, by botocore and s3transfer, of which boto3 is made.

Neither ships types, and importing them takes long: they are loaded with the first store.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from groundplane.model.errors import Invalid, Outside, Unavailable

_CONNECT_SECONDS = 5
_SILENCE_SECONDS = 30
_TRIES = 3
_CONNECTIONS = 32
_PART = 16 << 20
"""Bytes: what is larger goes up in parts, some at once, so that a broken connection costs one of them."""
_PARTS_AT_ONCE = 4
_PIECE = 1 << 20
_DELETED_AT_ONCE = 1000
"""S3's own limit."""

_KEYS_HINT = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
_REGION_HINT = "set AWS_REGION to the region that the bucket is in"
_REFUSALS = {
    "NoSuchBucket": ("there is no such bucket", "make it, or correct the name in s3://BUCKET/PREFIX"),
    "InvalidAccessKeyId": ("it does not know the access key", _KEYS_HINT),
    "SignatureDoesNotMatch": ("the secret key is not that of the access key", _KEYS_HINT),
    "InvalidToken": ("it does not accept the session token", _KEYS_HINT),
    "ExpiredToken": ("the session token has expired", "get new credentials and set AWS_SESSION_TOKEN anew"),
    "AccessDenied": ("the access key may not do this", "allow it to get, put, delete and list objects there"),
    "RequestTimeTooSkewed": ("its clock and that of this machine differ", "set this machine's clock"),
    "PermanentRedirect": ("the bucket is in another region", _REGION_HINT),
    "IllegalLocationConstraintException": ("the bucket is in another region", _REGION_HINT),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", _REGION_HINT),
}
# The answer to a HEAD has no body that could say more.
_REFUSALS["403"] = _REFUSALS["AccessDenied"]
_REFUSALS["301"] = _REFUSALS["PermanentRedirect"]
_REFUSALS["XAdminUserNotFound"] = _REFUSALS["InvalidAccessKeyId"]  # so the S3 gateway of Versity
_MISSING = ("NoSuchKey", "404")


class S3:
    """A BlobStore at `s3://BUCKET/PREFIX`.

    variables: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION (else AWS_DEFAULT_REGION),
    AWS_ENDPOINT_URL_S3 (else AWS_ENDPOINT_URL) and AWS_CA_BUNDLE. Neither this process's environment nor the files
    below ~/.aws count: what a backend uses is what it was configured with, whoever runs the control plane.
    """

    def __init__(self, url: str, variables: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
            raise Invalid("storage in S3 is written s3://BUCKET/PREFIX", hint="credentials are AWS_* variables")
        self._bucket = parts.netloc
        prefix = parts.path.strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._endpoint = variables.get("AWS_ENDPOINT_URL_S3") or variables.get("AWS_ENDPOINT_URL") or ""
        region = variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION") or "us-east-1"
        self._where = f"bucket {self._bucket} at {self._endpoint or f'Amazon S3 ({region})'}"
        _must_be_whole(self._where, self._endpoint, variables)
        try:
            exceptions: Any = import_module("botocore.exceptions")
            self._client = _client(self._endpoint, region, variables)
        except ImportError as error:
            raise Unavailable(
                f"storage in S3 needs boto3, which is not installed: {error}",
                hint="pip install 'groundplane[kubernetes]'",
                code="storage_unavailable",
            ) from error
        self._refused: type[Exception] = exceptions.ClientError
        self._failed: tuple[type[Exception], ...] = (exceptions.ClientError, exceptions.BotoCoreError)
        self._broken: tuple[type[Exception], ...] = (exceptions.HTTPClientError, exceptions.IncompleteReadError)
        self._tls: type[Exception] = exceptions.SSLError

    def put(self, key: str, source: Path | bytes) -> None:
        name = self._name(key)
        with self._asking():
            if isinstance(source, bytes):
                self._client.put_object(**name, Body=source)
            elif source.stat().st_size <= _PART:
                with source.open("rb") as file:
                    self._client.put_object(**name, Body=file)
            else:
                self._put_in_parts(name, source)

    def _put_in_parts(self, name: Mapping[str, str], source: Path) -> None:
        transfers: Any = import_module("s3transfer.manager")
        config = transfers.TransferConfig(
            multipart_threshold=_PART, multipart_chunksize=_PART, max_request_concurrency=_PARTS_AT_ONCE
        )
        with transfers.TransferManager(self._client, config) as manager:
            manager.upload(str(source), name["Bucket"], name["Key"]).result()

    def fetch(self, key: str, target: Path) -> bool:
        with self._asking():
            for tries_left in reversed(range(_TRIES)):
                body = self._body(key)
                if body is None:
                    return False
                try:
                    _write(body, target)
                    return True
                except self._broken:
                    if not tries_left:
                        raise
        raise AssertionError("the last try returns or raises")

    def read(self, key: str) -> bytes | None:
        with self._asking():
            body = self._body(key)
            if body is None:
                return None
            with body:
                return body.read()

    def _body(self, key: str) -> Any:
        """The object as a stream to be closed; None when there is none."""
        try:
            return self._client.get_object(**self._name(key))["Body"]
        except self._refused as error:
            if _code(error) in _MISSING:
                return None
            raise

    def has(self, key: str) -> bool:
        with self._asking():
            try:
                self._client.head_object(**self._name(key))
            except self._refused as error:
                if _code(error) not in _MISSING:
                    raise
                self._must_be_there()
                return False
            return True

    def _must_be_there(self) -> None:
        """The answer to a HEAD does not tell a bucket that is not there from an object that is not."""
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except self._refused as error:
            if _code(error) in (*_MISSING, "NoSuchBucket"):
                raise self._unavailable(*_REFUSALS["NoSuchBucket"]) from error
            raise

    def delete(self, keys: Iterable[str]) -> None:
        left = iter(keys)
        while some := [{"Key": self._prefix + key} for key in islice(left, _DELETED_AT_ONCE)]:
            with self._asking():
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": some, "Quiet": True})
            for kept in answer.get("Errors", ()):
                if kept.get("Code") != "NoSuchKey":
                    raise self._refusal(kept.get("Code", ""), f"{kept.get('Key')}: {kept.get('Message')}")

    def listing(self, prefix: str) -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2")
        with self._asking():
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                for found in page.get("Contents", ()):
                    yield str(found["Key"]).removeprefix(self._prefix)

    def signed_get(self, key: str, seconds: int) -> str:
        return self._signed("get_object", key, seconds)

    def signed_put(self, key: str, seconds: int) -> str:
        return self._signed("put_object", key, seconds)

    def _signed(self, call: str, key: str, seconds: int) -> str:
        with self._asking():
            return self._client.generate_presigned_url(call, Params=self._name(key), ExpiresIn=seconds)

    def check(self) -> None:
        key = f".check-{uuid.uuid4().hex}"
        self.put(key, b"ground")
        try:
            if self.read(key) != b"ground" or list(self.listing(key)) != [key]:
                raise self._unavailable(
                    "what was just written there is not what it gives and lists", "use a store that is consistent"
                )
        finally:
            self.delete([key])

    def _name(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    @contextmanager
    def _asking(self) -> Generator[None]:
        """Says which store failed and what to do."""
        try:
            yield
        except self._refused as error:
            raise self._refusal(_code(error), _told(error)) from error
        except self._failed as error:
            hint = "set AWS_CA_BUNDLE to its authority's certificate" if isinstance(error, self._tls) else ""
            raise self._unavailable(
                f"it does not answer: {error}", hint or "check AWS_ENDPOINT_URL, and that it can be reached from here"
            ) from error

    def _refusal(self, code: str, told: str) -> Unavailable:
        wrong, hint = _REFUSALS.get(code, (f"it answered: {told} ({code})", "look at what the store logs"))
        return self._unavailable(wrong, hint)

    def _unavailable(self, wrong: str, hint: str) -> Unavailable:
        return Outside(f"{self._where}: {wrong}", hint=hint, code="storage_unavailable")


def _must_be_whole(where: str, endpoint: str, variables: Mapping[str, str]) -> None:
    """Raises Invalid for what could never work."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        if not variables.get(name):
            raise Invalid(f"{where}: {name} is not set", hint="set the AWS_* variables of an access key")
    parts = urlsplit(endpoint)
    if endpoint and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise Invalid(f"{where}: the endpoint is not a url", hint="write AWS_ENDPOINT_URL like https://s3.example.com")
    bundle = variables.get("AWS_CA_BUNDLE")
    if bundle and not Path(bundle).is_file():
        raise Invalid(f"{where}: AWS_CA_BUNDLE is {bundle}, which is not there", hint="name a file of certificates")


def _client(endpoint: str, region: str, variables: Mapping[str, str]) -> Any:
    """A client that may be used from any thread."""
    sessions: Any = import_module("botocore.session")
    settings: Any = import_module("botocore.config")
    session = sessions.get_session()
    session.register_component("config_store", _defaults())
    return session.create_client(
        "s3",
        region_name=region,
        endpoint_url=endpoint or None,
        verify=variables.get("AWS_CA_BUNDLE") or True,
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=variables.get("AWS_SESSION_TOKEN") or None,
        config=settings.Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if endpoint else "virtual"},
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_SILENCE_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _TRIES},
            max_pool_connections=_CONNECTIONS,
            ignore_configured_endpoint_urls=True,
            # Else a signed url asks its user for a checksum, and not every S3 knows the new ones.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _defaults() -> Any:
    """botocore's settings without the environment and the files that it would look into."""
    providers: Any = import_module("botocore.configprovider")
    settings: dict[str, Any] = {
        name: default for name, (_, _, default, _) in providers.BOTOCORE_DEFAUT_SESSION_VARIABLES.items()
    }
    settings |= {"config_file": os.devnull, "credentials_file": os.devnull}
    return providers.ConfigValueStore({name: providers.ConstantProvider(value) for name, value in settings.items()})


def _write(body: Any, target: Path) -> None:
    """All of a stream into a new file, which is gone again when that fails."""
    with body, target.open("xb") as file:
        try:
            while piece := body.read(_PIECE):
                file.write(piece)
        except BaseException:
            target.unlink()
            raise


def _code(error: Any) -> str:
    """What S3 calls a refusal: `NoSuchKey`; only the status for an answer without a body."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _told(error: Any) -> str:
    """What S3 says of a refusal, for people."""
    return str(error.response.get("Error", {}).get("Message", ""))
