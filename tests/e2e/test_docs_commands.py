"""Every command that a page shows does what the page says. What takes a cluster is in tests/kubernetes/test_page.py."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker_drill import daemon, tiny_image
from tests.e2e import pages
from tests.e2e.cli_ground import BIN, Ground
from tests.e2e.pages import BLOCK, ROOT
from tests.parts import require

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples" / "README.md"]
# There the reader's Python is the one that has Groundplane.
CHECKOUT_PYTHON = {"docs/audit.md", "docs/sdk.md", "docs/secrets.md"}
IN_CONTAINERS = {"docs/docker.md"}
WITH_DATABASES = {"docs/secrets.md"}
IN_CLUSTERS = {"docs/kubernetes.md"}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def reader(tmp_path: Path, examples_python: Path) -> Iterator[Ground]:
    with pages.reader(tmp_path, examples_python) as made:
        yield made


@pytest.fixture
def engine(reader: Ground, tmp_path: Path) -> Iterator[None]:
    """The reader has a Docker engine, and an image that was made earlier."""
    with daemon(tmp_path / "docker") as running:
        reader.env["DOCKER_HOST"] = running.url
        tiny_image(reader.home)
        yield
        reader.close()


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


@pytest.mark.parametrize("page", [page for page in PAGES if name(page) not in IN_CLUSTERS], ids=name)
def test_what_a_page_shows_is_true(page: Path, reader: Ground, request: pytest.FixtureRequest) -> None:
    if name(page) in IN_CONTAINERS:
        request.getfixturevalue("engine")
    if name(page) in WITH_DATABASES:
        request.getfixturevalue("database")
    if name(page) in CHECKOUT_PYTHON:
        reader.env["PATH"] = f"{BIN}:{reader.env['PATH']}"
        reader.env["VIRTUAL_ENV"] = str(BIN.parent)
    pages.type_what_it_says(page, reader)


@pytest.mark.parametrize("page", PAGES, ids=name)
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
    pages.require_parts(command)
    if command.split()[2].endswith(".sas"):
        reader("toolchains", "install", "saslite")
    done = subprocess.run(
        [BIN / "ground", *command.split()[1:]], cwd=reader.work, env=reader.env, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=500, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert re.search(r"1189\.1|analysis  succeeded", done.stdout), done.stdout


def test_the_folder_of_a_page_is_not_the_checkout(reader: Ground) -> None:
    assert not reader.work.is_relative_to(ROOT)
    assert os.fspath(ROOT) not in reader.env["GROUND_HOME"]
