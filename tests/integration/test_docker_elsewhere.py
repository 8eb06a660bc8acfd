"""Engines that do not share this host's files: the working copy is carried to them and back."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from groundplane.drivers.docker import DockerDriver
from groundplane.oci.address import Address
from tests.docker_drill import Daemon, daemon, tiny_image
from tests.e2e.cli_ground import BIN, Ground, until


@pytest.fixture
def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[..., tuple[Daemon, Ground]]]:
    with ExitStack() as stack:

        def make(env: Mapping[str, str], *options: str) -> tuple[Daemon, Ground]:
            engine = stack.enter_context(daemon(tmp_path / "docker", options=options))
            ground = Ground(tmp_path / "ground", **env)
            stack.callback(ground.close)
            tiny_image(ground.home)
            return engine, ground

        yield make


@pytest.fixture
def by_tcp(made: Callable[..., tuple[Daemon, Ground]], free_port: int) -> tuple[Daemon, Ground]:
    url = f"tcp://127.0.0.1:{free_port}"
    return made({"DOCKER_HOST": url}, "--host", url, "--tls=false")


def run(ground: Ground, text: str, *words: str, code: int = 0) -> Any:
    ground.write("do.sh", text)
    return ground.json("run", "do.sh", "--on", "docker", "--fresh", *words, code=code)


def test_secrets_are_carried_too_for_the_work_alone_to_read(by_tcp: tuple[Daemon, Ground]) -> None:
    engine, ground = by_tcp
    argv = [BIN / "ground", "secrets", "set", "token"]
    subprocess.run(argv, env=ground.env, cwd=ground.work, input=b"it's \xe9 planted-4f1e\n", check=True)
    ground.put_secret("password", "planted-4f1e")
    ground("connections", "add", "warehouse", "postgresql://ann@127.0.0.1/db", "--password-secret", "password")
    asked = 'printf %s "$TOKEN" | od -c | head -1; cat "a key"; stat -c "%a %u" "a key" "$PGPASSFILE" "$ODBCINI"'
    ground.write("do.sh", f"{asked}; echo 1 > out\n")
    ground.write(
        "ground.toml",
        '[project]\nname = "p"\n[pipelines.p.steps.do]\nrun = "do.sh"\non = "docker"\noutputs = ["*"]\n'
        'secrets = { TOKEN = "token", "a key" = "token" }\nconnections = ["warehouse"]\n',
    )
    done = ground("run", ".")
    value = "0000000   i   t   '   s     351       p   l   a   n   t   e   d   -   4"
    assert done.stdout.splitlines() == [value, "***", "400 1000", "400 1000", "600 1000"]
    assert outputs(ground.json("runs", "show", "latest")) == {"out"}
    engine.ended()
    until(lambda: not engine.call("GET", "/volumes")["Volumes"], "the container's volume is gone, which goes after it")
    for path in engine.folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert b"planted-4f1e" not in path.read_bytes(), path


def outputs(found: Any) -> set[str]:
    return {output["name"] for output in found["tasks"][0]["outputs"]}


def test_what_was_written_comes_back_and_nothing_else(by_tcp: tuple[Daemon, Ground]) -> None:
    engine, ground = by_tcp
    ground.write("data/in.csv", "x\n1\n")
    ground.write("data/same.csv", "same\n")
    ground.write("odd é 'name\".txt", "odd\n")
    (ground.work / "empty").mkdir()
    (ground.work / "link").symlink_to("data/in.csv")
    ground.write("tool", "#!/bin/sh\necho tool\n").chmod(0o755)
    found = run(
        ground,
        "set -e; id -u; ls empty; ./tool; cat link; cat odd*; echo 2 >> data/in.csv; rm tool; mkdir -p new/er; "
        "echo n > 'new/er/é n.txt'; printf '#!/bin/sh\\n' > made; chmod 755 made; ln -s made also; touch here; "
        "cat data/same.csv > /dev/null; [ -w . ]; [ -w data ]; echo t > $TMPDIR/t",
        "--out", "got",
    )  # fmt: skip
    assert found["state"] == "succeeded", (found["reason"], ground("runs", "logs", found["id"]).stderr)
    assert outputs(found) == {"data/in.csv", "new/er/é n.txt", "made", "also", "here"}
    got = ground.work / "got"
    assert (got / "data/in.csv").read_text() == "x\n1\n2\n"
    assert (got / "new/er/é n.txt").read_text() == "n\n"
    assert "1000\ntool\nx\n1\nodd\n" in ground("runs", "logs", found["id"]).stdout
    assert (ground.work / "tool").exists()
    engine.ended()
    assert not engine.call("GET", "/volumes")["Volumes"]


def test_a_large_project_is_carried(by_tcp: tuple[Daemon, Ground]) -> None:
    _, ground = by_tcp
    for n in range(50):
        ground.write(f"many/{n}.txt", f"{n}\n" * 20_000)
    found = run(ground, "cat many/*.txt | wc -l; echo x >> many/7.txt; rm many/8.txt")
    assert outputs(found) == {"many/7.txt"}
    assert ground("runs", "logs", found["id"]).stdout.strip() == "1000000"


def test_it_ends_as_anywhere(by_tcp: tuple[Daemon, Ground]) -> None:
    engine, ground = by_tcp
    assert run(ground, "exit 3", code=1)["tasks"][0]["exit_code"] == 3
    assert run(ground, "kill -9 $$", code=1)["tasks"][0]["exit_code"] == 137
    assert run(ground, "sleep 60", "--timeout", "1", code=1)["reason"]["code"] == "timeout"
    assert (
        run(ground, "head -c 300M /dev/zero > /tmp/x", "--memory", "64MiB", code=1)["reason"]["code"] == "out_of_memory"
    )
    busy = "i=0; while [ $i -lt 2000000 ]; do i=$((i+1)); done"
    assert run(ground, busy)["tasks"][0]["usage"]["cpu_seconds"] > 0.5
    engine.ended()


def test_its_own_cpus_count(by_tcp: tuple[Daemon, Ground]) -> None:
    """This host's are taken: that holds nothing up over there."""
    _, ground = by_tcp
    ground.write("here.sh", "sleep 20")
    for _ in range((os.cpu_count() or 1) + 1):
        ground("run", "here.sh", "--fresh", "--detach")
    began = time.monotonic()
    assert run(ground, "true")["state"] == "succeeded"
    assert time.monotonic() - began < 15


def test_through_ssh(made: Callable[..., tuple[Daemon, Ground]], tmp_path: Path) -> None:
    engine, ground = made({"DOCKER_HOST": "ssh://me@over.there:2222"})
    shim = tmp_path / "bin" / "ssh"
    shim.parent.mkdir()
    shim.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nexec docker -H unix://{engine.socket} system dial-stdio\n'
    )
    shim.chmod(0o755)
    ground.env["PATH"] = f"{shim.parent}:{ground.env['PATH']}"
    ground.write("in.txt", "1\n")
    found = run(ground, "cat in.txt > out.txt; echo said")
    assert outputs(found) == {"out.txt"}
    assert "-p 2222 -- me@over.there docker system dial-stdio" in (tmp_path / "asked").read_text()
    ground.write("do.sh", "trap 'echo told; exit 0' TERM; while :; do sleep 0.1; done")
    uid = ground.json("run", "do.sh", "--on", "docker", "--fresh", "--detach")["id"]
    until(engine.running, "it runs")
    time.sleep(0.5)
    ground("runs", "cancel", uid)
    until(lambda: ground.json("runs", "show", uid)["state"] == "cancelled", "it is cancelled")
    assert "told" in ground("runs", "logs", uid).stdout, "its helper was ended before it could pass the signal on"
    engine.ended()


def test_tls_with_certificates_of_ones_own(
    made: Callable[..., tuple[Daemon, Ground]], tmp_path: Path, free_port: int
) -> None:
    folder = certificates(tmp_path / "tls")
    url = f"tcp://127.0.0.1:{free_port}"
    asked = {"DOCKER_HOST": url, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(folder)}
    options = [
        f"--tls{name}={folder}/{file}.pem" for name, file in (("cacert", "ca"), ("cert", "cert"), ("key", "key"))
    ]
    _, ground = made(asked, "--host", url, "--tlsverify", *options)
    assert outputs(run(ground, "echo 1 > out.txt")) == {"out.txt"}
    stranger = DockerDriver(ground.home, "other", Address(url, str(certificates(tmp_path / "others"))))
    try:
        with pytest.raises(Exception, match="certificate"):
            stranger.ping()
    finally:
        stranger.close()


def certificates(folder: Path) -> Path:
    """An authority's, and one for both sides of 127.0.0.1."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    folder.mkdir()
    now = datetime.datetime.now(datetime.UTC)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def builder(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject)).issuer_name(name("authority")).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
        )  # fmt: skip

    authority, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = builder("authority", authority).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    cert = builder("engine", own).add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
    ).add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(ca.sign(authority, hashes.SHA256()).public_bytes(pem))
    (folder / "cert.pem").write_bytes(cert.sign(authority, hashes.SHA256()).public_bytes(pem))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(own.private_bytes(pem, *plain))
    return folder
