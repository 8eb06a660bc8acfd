"""The house keeps its form: who imports whom, how large a file may be, what a start may cost."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "groundplane"
FILES = sorted(SOURCE.rglob("*.py"))
MOST_LINES = 450
# The agent's standard error is its log, written before anything else could be set up.
MAY_PRINT = ("bootstrap.py", "cli/", "agent/", "data/")


def name(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def test_imports_only_go_down() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_contracts_have_no_exceptions() -> None:
    assert "ignore_imports" not in (ROOT / "pyproject.toml").read_text()


def test_no_file_is_two_rooms() -> None:
    long = {name(path): count for path in FILES if (count := len(path.read_text().splitlines())) > MOST_LINES}
    assert not long


def test_nothing_prints_but_the_command_line() -> None:
    printing = [
        f"{name(path)}:{node.lineno}"
        for path in FILES
        if not name(path).startswith(MAY_PRINT)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not [place for place in printing if "_runner.py" not in place and "_kernel.py" not in place], printing


def test_every_module_says_what_it_is_for() -> None:
    silent = [name(path) for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent


def test_there_is_no_room_for_everything() -> None:
    assert not [name(path) for path in FILES if {"utils", "util", "helpers", "manager"} & set(path.parts)]


def imported(*argv: str, **env: str) -> set[str]:
    """The top-level packages that a start imports, by `-X importtime`."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *argv], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, **env},
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    names = [line.rpartition("|")[2].strip() for line in lines[1:]]  # the first is a heading
    assert names, done.stderr
    return {each.partition(".")[0] for each in names}


HEAVY = (
    "pyarrow",
    "pyreadstat",
    "pyreadr",
    "alembic",
    "scipy",
    "pandas",
    "openpyxl",
    "IPython",
    "nbclient",
    "botocore",
    "authlib",
    "joserfc",
    "argon2",
    "httpx2",
)


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"]])
def test_the_command_line_starts_light(words: list[str]) -> None:
    found = imported(
        "-c", f"import sys; sys.argv = ['ground', *{words!r}]; from groundplane.cli.app import main; main()"
    )
    assert "click" in found
    assert not found & {"pydantic", "fastapi", "sqlalchemy", "platformdirs", "uvicorn", "cryptography", *HEAVY}


def test_the_agent_needs_the_standard_library_alone() -> None:
    modules = [
        "groundplane." + name(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in FILES
        if name(path).startswith("agent/") and path.name != "__main__.py"
    ]
    found = imported("-I", "-c", "import " + ", ".join(modules))
    foreign = {each for each in found if each not in sys.stdlib_module_names}
    assert foreign <= {"groundplane", "sitecustomize", "org"}, foreign  # pickle looks for Jython's org.python


def test_the_control_plane_starts_without_what_only_some_work_needs(tmp_path: Path) -> None:
    script = (
        "import sys, threading\n"
        "from groundplane import bootstrap\n"
        "from groundplane.api import server\n"
        "before = server.serve\n"
        "def serve(app, sockets, on_started):\n"
        "    before(app, sockets, lambda stop: (on_started(stop), stop()))\n"
        "server.serve = serve\n"
        f"code = bootstrap.main(['--home', {str(tmp_path / 'home')!r}, '--port', '0'])\n"
        "from groundplane.drivers.local import LocalDriver\nfrom pathlib import Path\n"
        f"driver = LocalDriver(Path({str(tmp_path / 'home')!r}))\n"
        "driver.shutdown(end_work=True)\ndriver.close()\n"
        "sys.exit(code)\n"
    )
    found = imported("-c", script)
    assert {"fastapi", "sqlalchemy"} <= found
    assert not found & {*HEAVY, "psycopg"}
