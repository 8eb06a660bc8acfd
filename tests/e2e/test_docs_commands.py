"""Every command that a page shows does what the page says.

A fenced block ```console is run in a folder of the page's own: lines that begin with `$ ` are commands, the others
are lines that they print (`…` stands for anything). A command that fails says so: `# exit code 2`. A block whose
info string has a file name (```python fit.py) is written into that folder first. The folder has a copy of examples/.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.docker_drill import daemon, tiny_image
from tests.e2e.cli_ground import BIN, Ground
from tests.parts import require

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples" / "README.md"]
BLOCK = re.compile(r"^```(?P<language>\w+)(?: (?P<file>\S+))?\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
EXIT = re.compile(r"#\s*exit code (\d+)\s*$")
MARK = "::command "
# There the reader's Python is the one that has Groundplane.
CHECKOUT_PYTHON = {"docs/audit.md", "docs/sdk.md", "docs/secrets.md"}
IN_CONTAINERS = {"docs/docker.md"}
WITH_DATABASES = {"docs/secrets.md"}
IN_CLUSTERS = {"docs/kubernetes.md"}
PARTS = {"r": r"\.R\b|examples/trial", "matlab": r"\.m\b|examples/trial", "spss": r"\.sps\b|examples/trial"}


class Shown(NamedTuple):
    command: str
    code: int
    lines: tuple[str, ...]


@pytest.fixture
def reader(tmp_path: Path, examples_python: Path) -> Iterator[Ground]:
    """Somebody who reads a page and types what it says."""
    ground = Ground(tmp_path)
    ground.env["PATH"] = f"{examples_python}:{ground.env['PATH']}"
    ground.env["VIRTUAL_ENV"] = str(examples_python.parent)
    shutil.copytree(ROOT / "examples", ground.work / "examples")
    yield ground
    ground.close()


@pytest.fixture
def engine(reader: Ground, tmp_path: Path) -> Iterator[None]:
    """The reader has a Docker engine, and an image that was made earlier."""
    with daemon(tmp_path / "docker") as running:
        reader.env["DOCKER_HOST"] = running.url
        tiny_image(reader.home)
        yield
        reader.close()


@pytest.fixture
def cluster(reader: Ground, tmp_path: Path) -> Iterator[None]:
    """The reader has a cluster, a registry and a bucket, and an image that was made earlier."""
    for part in ("kubernetes", "docker-registry", "s3"):
        require(part)
    from tests.cluster import opened

    with opened(reader) as site:
        reader.work = reader.work.rename(tmp_path / site.project)
        reader.env |= {"REGISTRY": site.registry, "BUCKET": site.storage.removeprefix("s3://")}
        yield


@pytest.fixture
def database(reader: Ground) -> Iterator[None]:
    """The reader has a PostgreSQL, and in it a few visits."""
    require("postgres")
    from tests.postgres import server

    with server(tcp=True) as running:
        running.run("postgres", "CREATE DATABASE warehouse")
        running.user("analyst", "pass wörd %41+;")
        running.run(
            "warehouse",
            "CREATE TABLE visits (id int, name text, score numeric(5, 2))",
            "INSERT INTO visits VALUES (1, 'Åsa', 12.5), (2, NULL, 3), (3, 'Bo', NULL)",
            "GRANT SELECT ON visits TO analyst",
        )
        reader.env["DATABASE"] = f"127.0.0.1:{running.port}"
        yield
        reader.close()


def shown(body: str) -> list[Shown]:
    """The commands of a block with what they are said to print."""
    found: list[Shown] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            code = EXIT.search(line)
            found.append(Shown(EXIT.sub("", line[2:]).rstrip(), int(code[1]) if code else 0, ()))
        else:
            assert found, f"a block of commands begins with a `$ `: {line!r}"
            last = found[-1]
            found[-1] = last._replace(lines=(*last.lines, line)) if line.strip() else last
    return found


def type_all(ground: Ground, commands: list[Shown]) -> list[tuple[int, str]]:
    """Types them into one shell; exit code and output of each."""
    script = "".join(f"{each.command}\nprintf '\\n{MARK}%s\\n' $?\n" for each in commands)
    done = subprocess.run(
        ["bash", "-c", script], cwd=ground.work, env=ground.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=200, encoding="utf-8", check=False,
    )  # fmt: skip
    parts = re.split(rf"^{MARK}(\d+)\n", done.stdout, flags=re.MULTILINE)
    return [(int(code), text) for text, code in zip(parts[0::2], parts[1::2], strict=False)]


def printed(line: str, output: str) -> bool:
    """Whether the output has the line; `…` stands for anything, and so does what follows it."""
    pattern = ".*".join(re.escape(part).replace(r"\ ", " +") for part in re.split(r" *… *", line.rstrip()))
    return any(re.fullmatch(pattern, found.rstrip()) for found in output.splitlines())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_is_true(page: Path, reader: Ground, request: pytest.FixtureRequest) -> None:
    text = page.read_text(encoding="utf-8")
    if str(page.relative_to(ROOT)) in IN_CONTAINERS:
        request.getfixturevalue("engine")
    if str(page.relative_to(ROOT)) in IN_CLUSTERS:
        request.getfixturevalue("cluster")
    if str(page.relative_to(ROOT)) in WITH_DATABASES:
        request.getfixturevalue("database")
    for part, pattern in PARTS.items():
        if re.search(pattern, text):
            require(part)
    if str(page.relative_to(ROOT)) in CHECKOUT_PYTHON:
        reader.env["PATH"] = f"{BIN}:{reader.env['PATH']}"
        reader.env["VIRTUAL_ENV"] = str(BIN.parent)
    for block in BLOCK.finditer(text):
        if block["file"]:
            reader.write(block["file"], block["body"])
        if block["language"] != "console":
            continue
        commands = shown(block["body"])
        results = type_all(reader, commands)
        assert len(results) == len(commands), (commands, results)
        for (command, code, lines), (ended, output) in zip(commands, results, strict=True):
            assert ended == code, f"{page.name}: $ {command}\nexit code {ended}\n{output}"
            for line in lines:
                assert printed(line, output), (
                    f"{page.name}: $ {command}\nis said to print {line!r}, but printed\n{output}"
                )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_shows_commands_that_nothing_runs(page: Path) -> None:
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        assert block["file"] or block["language"] not in ("sh", "bash", "shell"), f"{page.name}: {block['body']}"


# The example of versions takes an engine and builds for minutes: test_versions.py has it.
EXAMPLES = [
    command
    for command in re.findall(
        r"\| `(ground run [^`]+)` \|", (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    )
    if command != "ground run examples/versions"
]


@pytest.mark.parametrize("command", EXAMPLES)
def test_every_example_runs(command: str, reader: Ground) -> None:
    for part, pattern in PARTS.items():
        if re.search(pattern, command):
            require(part)
    if command.split()[2].endswith(".sas"):
        reader("toolchains", "install", "saslite")
    done = subprocess.run(
        [BIN / "ground", *command.split()[1:]], cwd=reader.work, env=reader.env, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=200, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert re.search(r"1189\.1|analysis  succeeded", done.stdout), done.stdout


def test_the_folder_of_a_page_is_not_the_checkout(reader: Ground) -> None:
    assert not reader.work.is_relative_to(ROOT)
    assert os.fspath(ROOT) not in reader.env["GROUND_HOME"]
