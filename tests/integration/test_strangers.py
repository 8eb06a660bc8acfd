"""Runs of those whose control plane it is not: their folder is sent, and their work is confined."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from groundplane.client.uploading import packed
from groundplane.model.documents import RunDocument
from groundplane.model.errors import Denied
from groundplane.model.ids import new_id
from groundplane.model.requests import Context, RerunRequest
from groundplane.services import backends, callers, engines, runs
from groundplane.services.access import Actor
from groundplane.spi import enclosing, readers
from groundplane.store import users
from groundplane.store.database import sqlite_url
from groundplane.toolchains import registry
from tests.integration import accounts
from tests.parts import require
from tests.planes import ME, Ground

EVE = Actor("eve")


def submit(ground: Ground, tmp_path: Path, steps: str, backend: str | None = None, **fields: Any) -> RunDocument:
    tar = tmp_path / "sent.tar"
    tar.write_bytes(b"".join(packed(str(ground.project))))
    with ground.platform.database.write() as connection:
        if users.by_name(connection, "eve") is None:
            accounts.project(connection, "trial", "research")
            accounts.user(connection, "eve", ("research", "member"))
    place = callers.receive(ground.platform, EVE, ground.project.name, tar)
    asked = ground.request(steps, backend=backend, **fields)
    request = callers.settled(ground.platform, EVE, replace(asked, folder=place))
    return ground.wait(runs.submit(ground.platform, EVE, new_id(), request).id)


STEPS = """
steps.look.run = "look.py"
steps.look.outputs = ["seen.txt"]
steps.next.command = ["sh", "-c", "cat seen.txt; env"]
steps.next.inputs = { "seen.txt" = "look/seen.txt" }
"""
LOOK = """
import os, sys
for path in sys.argv[1:] or [{key!r}, {home!r}, "/root", {project!r}]:
    try:
        print(path, os.listdir(path) if os.path.isdir(path) else open(path, "rb").read())
    except OSError as error:
        print(path, type(error).__name__)
open("seen.txt", "w").write(open("data.csv").read())
"""


@pytest.mark.parametrize("backend", ["local", "sim"])
def test_a_strangers_pipeline_runs_confined(local_on: Callable[[str], Ground], tmp_path: Path, backend: str) -> None:
    require("bubblewrap")
    ground = local_on(sqlite_url(tmp_path / "ground.db"))
    backends.add(ground.platform, ME, "sim", "fake", {})
    look = LOOK.format(key=str(ground.home / "key"), home=str(ground.home), project=str(ground.project))
    ground.write({"look.py": look, "data.csv": "a\n1\n"})
    run = submit(ground, tmp_path, STEPS, backend)
    assert run.state == "succeeded", (run, ground.lines(run.id))
    said = "\n".join(ground.lines(run.id))
    assert f"{ground.home / 'key'} FileNotFoundError" in said
    assert f"{ground.home} ['work']" in said
    assert "/root FileNotFoundError" in said
    assert f"{ground.project} FileNotFoundError" in said
    assert "stdout next: a" in said
    assert "GROUND_HOME" not in said
    assert "HOME=/tmp" in said
    again = runs.rerun(ground.platform, ME, run.id, RerunRequest(new_id(), Context("/", {"PATH": "/usr/bin:/bin"})))
    again = ground.wait(again.id)
    assert (again.state, again.actor) == ("succeeded", ME.name), ground.lines(again.id)
    assert "stdout next: HOME=/tmp" in ground.lines(again.id), "the files are a stranger's still"


def test_where_nothing_confines_it_it_is_denied(ground: Ground, tmp_path: Path) -> None:
    ground.driver.unconfined = lambda: "bubblewrap (bwrap) is not installed"  # pyright: ignore[reportAttributeAccessIssue]
    ground.write({"data.csv": "a"})
    with pytest.raises(Denied) as refused:
        submit(ground, tmp_path, 'steps.a.command = ["/fake/a"]')
    assert (refused.value.exit_code, refused.value.code) == (4, "cannot_confine")
    assert "bubblewrap (bwrap) is not installed" in refused.value.message
    assert ground.run('steps.a.command = ["/fake/a"]').state == "succeeded"  # the owner's own


TABLES = """
steps.look.command = ["sh", "-c", "printf 'a,b\\n1,x\\n' > seen.csv"]
steps.look.outputs = ["seen.csv"]
steps.next.command = ["sh", "-c", "head -c 4 seen.parquet; cat < mine.tsv; ls -A"]
steps.next.inputs = { "seen.parquet" = "look/seen.csv", "mine.tsv" = "data.csv" }
"""


def test_a_strangers_tables_are_converted_on_their_way(local_on: Callable[[str], Ground], tmp_path: Path) -> None:
    require("bubblewrap")
    ground = local_on(sqlite_url(tmp_path / "ground.db"))
    ground.write({"data.csv": "a,b\n1,2\n"})
    run = submit(ground, tmp_path, TABLES)
    assert run.state == "succeeded", (run, ground.lines(run.id))
    said = [line for line in ground.lines(run.id) if "next" in line]
    assert said == [
        *("stdout next: PAR1a\tb", "stdout next: 1\t2"),
        *("stdout next: data.csv", "stdout next: mine.tsv", "stdout next: seen.parquet"),
    ]


def test_where_nothing_confines_the_reader_of_his_tables_he_is_denied_it(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where his work runs elsewhere: this backend's does not run beside the platform."""
    monkeypatch.setattr(readers, "_no_bubblewrap", lambda: "bubblewrap (bwrap) is not installed")
    reading = 'steps.a.command = ["/fake/a"]\nsteps.a.inputs = { "NAME" = "data.csv" }'
    ground.write({"data.csv": "a"})
    if not enclosing.unavailable():  # his table's reader confines itself
        assert submit(ground, tmp_path, reading.replace("NAME", "data.feather")).state == "succeeded"
    monkeypatch.setattr(enclosing, "unavailable", lambda: "the kernel has no Landlock")
    ground.write({"data.csv": "a"})
    with pytest.raises(Denied) as refused:
        submit(ground, tmp_path, reading.replace("NAME", "data.parquet"))
    assert (refused.value.exit_code, refused.value.code) == (4, "cannot_confine")
    assert "step 'a' reads data.parquet converted" in refused.value.message
    assert "bubblewrap (bwrap) is not installed, and the kernel has no Landlock" in refused.value.message
    assert ground.run(reading.replace("NAME", "data.parquet")).state == "succeeded"  # the owner's own


NETWORK = """
import os, socket
print(os.environ.get("https_proxy", "no proxy"))
try:
    socket.create_connection(("127.0.0.1", PORT)).close()
    print("reached")
except OSError as error:
    print(type(error).__name__)
print("named" if HOME in open("/proc/net/unix").read() else "nameless")
"""


@pytest.mark.parametrize("said", ["", "network = true\n"], ids=["unsaid", "said"])
def test_a_strangers_lone_script_has_a_network_where_its_project_says_so(
    local_on: Callable[[str], Ground], tmp_path: Path, said: str
) -> None:
    require("bubblewrap")
    ground = local_on(sqlite_url(tmp_path / "ground.db"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"PORT, HOME = {server.getsockname()[1]}, {str(ground.home)!r}\n{NETWORK}"
        ground.write({"reach.py": code})
        project = f'[project]\nname = "trial"\n{said}'
        shell = {"https_proxy": "http://proxy.example:3128"}
        run = submit(ground, tmp_path, "", script="reach.py", project=project, context=ground.context(**shell))
    lines = (
        ["http://proxy.example:3128", "reached", "named"]
        if said
        else ["no proxy", "ConnectionRefusedError", "nameless"]
    )
    assert ground.lines(run.id) == [f"stdout reach.py: {line}" for line in lines]


def test_a_step_that_is_given_what_to_reach_and_no_network_is_warned_of(ground: Ground, tmp_path: Path) -> None:
    ground.driver.unconfined = lambda: ""  # pyright: ignore[reportAttributeAccessIssue]
    ground.platform.url = "http://127.0.0.1:1"
    ground.write({"data.csv": "a"})
    step = 'steps.a.command = ["/fake/a"]\nsteps.a.scopes = ["run.see"]\n'
    warned = "step 'a' has scopes and no network to ask the control plane by: set network = true"
    assert submit(ground, tmp_path, step).warnings == (warned,)


def test_an_interpreter_that_only_a_script_names_is_not_started_to_say_its_version(
    ground: Ground, tmp_path: Path
) -> None:
    program, started = tmp_path / "bin" / "bash", tmp_path / "started"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n: > {started}\necho version 5.2\n")
    program.chmod(0o755)
    specs = registry.get("shell").engines_for(f"#!{program}\n".encode(), ())
    found = engines.find(ground.platform, specs, Context("/", {"PATH": "/usr/bin:/bin"}))
    assert found is not None
    assert (found.path, found.version, started.exists()) == (str(program), "", False)
    on_path = engines.find(ground.platform, specs, Context("/", {"PATH": str(program.parent)}))
    assert on_path is not None
    assert (on_path.version, started.exists()) == ("5.2", True)
