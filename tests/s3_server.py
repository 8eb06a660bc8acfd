"""An S3 server of the tests' own: versitygw over a temporary folder, with credentials that nobody else has."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import botocore.session
from botocore.config import Config

from tests.parts import s3_program

_START_WITHIN = 30.0
REGION = "us-east-1"


@dataclass
class Server:
    """A running server. `url`: its endpoint. `variables`: what a client of it needs, by their usual names."""

    url: str
    variables: dict[str, str]
    _program: list[str]
    _folder: Path
    _process: subprocess.Popen[bytes] | None = None

    def make_bucket(self, name: str) -> None:
        client = botocore.session.get_session().create_client(
            "s3",
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id=self.variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.variables["AWS_SECRET_ACCESS_KEY"],
            config=Config(s3={"addressing_style": "path"}),
        )
        try:
            client.create_bucket(Bucket=name)
        finally:
            client.close()

    def start(self) -> None:
        """Returns when it answers; with what it had before it was stopped."""
        assert self._process is None, "it runs"
        keys = {
            "ROOT_ACCESS_KEY_ID": self.variables["AWS_ACCESS_KEY_ID"],
            "ROOT_SECRET_ACCESS_KEY": self.variables["AWS_SECRET_ACCESS_KEY"],
        }
        with self._folder.joinpath("log").open("ab") as said:
            self._process = subprocess.Popen(
                self._program, env={**os.environ, **keys}, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                start_new_session=True,
            )  # fmt: skip
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        deadline = time.monotonic() + _START_WITHIN
        while True:
            with socket.socket() as made:
                if made.connect_ex((host, int(port))) == 0:
                    return
            assert self._process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def stop(self) -> None:
        """Nothing answers at its url then; `start` brings it back."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log(self) -> str:
        """The last of what it said."""
        return self._folder.joinpath("log").read_text(errors="replace")[-3000:]


@contextmanager
def server(host: str = "127.0.0.1") -> Iterator[Server]:
    """Runs while the block does. host: the IPv4 address of this machine at which it listens."""
    program = s3_program()
    assert program is not None, "tools/versitygw builds it"
    folder = Path(tempfile.mkdtemp(prefix="ground-s3-"))
    for each in ("objects", "facts"):
        folder.joinpath(each).mkdir()
    with socket.create_server((host, 0)) as free:
        address = f"{host}:{free.getsockname()[1]}"
    argv = [str(program), "--quiet", "--keep-alive", "--region", REGION, "--port", address]
    # What it knows of an object stands beside it: not every file system has extended attributes.
    argv += ["posix", "--sidecar", str(folder / "facts"), str(folder / "objects")]
    variables = {
        "AWS_ACCESS_KEY_ID": "AK" + secrets.token_hex(9).upper(),
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": f"http://{address}",
    }
    made = Server(f"http://{address}", variables, argv, folder)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)
