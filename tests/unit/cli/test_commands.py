"""The command tree: its help, its refusals, its speed's condition."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from groundplane.cli import app
from groundplane.cli.commands import Lazy


def leaves(group: Lazy) -> list[tuple[Lazy, str, click.Command]]:
    found: list[tuple[Lazy, str, click.Command]] = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found.append((group, name, command))
        if isinstance(command, Lazy):
            found += leaves(command)
    return found


def test_every_command_has_its_name_help_and_options_with_help() -> None:
    assert len(leaves(app.ROOT)) >= 24
    for group, name, command in leaves(app.ROOT):
        assert command.name == name
        assert command.help and group.table[name][1].endswith(".")
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (name, parameter.name)


def test_help_imports_no_command_and_nothing_heavy() -> None:
    code = (
        "import sys\nfrom groundplane.cli.app import command\ncommand(['--help'])\n"
        "heavy = ('pydantic', 'fastapi', 'sqlalchemy', 'platformdirs', 'groundplane.client', 'groundplane.cli.run',"
        " 'groundplane.services', 'http', 'email', 'dataclasses')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "toolchains" in done.stdout


def test_the_warm_path_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom groundplane.cli.app import command\nfrom groundplane.cli import following\n"
        "following.submit_and_follow = lambda *_, **__: 0\nassert command(['run', sys.argv[1]]) == 0\n"
        "heavy = ('groundplane.model.documents', 'groundplane.cli.delivery', "
        "'pydantic', 'fastapi', 'sqlalchemy', 'platformdirs', 'groundplane.services', 'groundplane.store',"
        " 'http', 'email', 'ssl', 'tempfile', 'subprocess', 'tomllib', 'asyncio')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code, __file__], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["rn"], "ground rn", "run"),
        (["runs", "lst"], "ground runs lst", "list"),
        (["zzzz"], "zzzz", "there are: run, plan"),
        (["run", "x.py", "--alhpa", "3"], "--alhpa", "TARGET -- ARGS"),
        (["run", "x.py", "--detahc"], "--detahc", "--detach"),
        (["run", "x.py", "--zzz"], "--zzz", "see ground run --help; what"),
        (["runs", "list", "--zzz"], "--zzz", "see ground runs list --help"),
        (["runs", "rerun", "latest", "-e", "A B=1"], "'A B'", "NAME=VALUE"),
        (["run"], "TARGET", "ground run --help"),
        (["run", "x.py", "extra"], "extra", "TARGET -- ARGS"),
        (["run", "x.py", "--cpus", "many"], "many", "--help"),
        (["runs", "list", "--limit", "0"], "0", "--help"),
        (["run", "x.py", "--cpus", "0"], "--cpus 0", "0.5"),
        (["run", "x.py", "--memory", "lots"], "lots", "GiB"),
        (["run", "x.py", "--timeout", "soon"], "soon", "10m"),
        (["run", "x.py", "--timeout", "0"], "--timeout", "leave it away"),
        (["run", "none.py"], "none.py", ""),
        (["run", "none.py", "-p", "alpha"], "alpha", ""),
        (["run", "x.py", "--detach", "--out", "o"], "--out", "one of them"),
        (["up", "--host", "0.0.0.0"], "0.0.0.0", "127.0.0.1"),
        (["up", "--port", "70000"], "70000", "--help"),
    ],
)
def test_wrong_usage_is_exit_2_with_the_way_out(
    words: list[str], message: str, hint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: object,
) -> None:  # fmt: skip
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.delenv("GROUND_URL", raising=False)
    assert app.command(words) == 2
    captured = capsys.readouterr()
    error, *rest = captured.err.splitlines()
    assert captured.out == ""
    assert error.startswith("error: ") and message in error
    assert not hint or (rest[0].startswith("hint: ") and hint in rest[0])


def test_what_follows_the_dashes_is_the_scripts(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    from groundplane.cli import following

    monkeypatch.chdir(str(tmp_path))
    with open("x.py", "w") as file:
        file.write("")
    seen: list[object] = []
    monkeypatch.setattr(following, "submit_and_follow", lambda request, **options: seen.append((request, options)) or 0)
    words = ["run", "x.py", "-p", "a=--help", "--json", "--", "--alpha", "--", "--debug", "--help"]
    assert app.command(words) == 0
    [(request, options)] = seen  # type: ignore[misc]
    assert request.arguments == ("--alpha", "--", "--debug", "--help")
    assert request.parameters == {"a": "--help"} and options["as_json"]


def test_a_failure_of_ours_shows_a_traceback_only_with_debug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from groundplane import client

    def fail() -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(client, "Client", fail)
    assert app.command(["status"]) == 3
    assert "Traceback" not in (told := capsys.readouterr().err)
    assert told.startswith("error: ground failed: RuntimeError: boom\nhint: ")
    assert app.command(["status", "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.command(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ground 0.")
