"""Runs of those whose control plane it is not: their folder is sent, and their work is confined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from groundplane.client.uploading import packed
from groundplane.model.documents import RunDocument
from groundplane.model.errors import Denied
from groundplane.model.ids import new_id
from groundplane.model.requests import Context, RerunRequest
from groundplane.services import backends, callers, engines, runs
from groundplane.services.access import Actor
from groundplane.store.database import sqlite_url
from groundplane.toolchains import registry
from tests.integration import accounts
from tests.parts import require
from tests.planes import ME, Ground

EVE = Actor("eve")


def submit(ground: Ground, tmp_path: Path, steps: str, backend: str | None = None) -> RunDocument:
    tar = tmp_path / "sent.tar"
    tar.write_bytes(b"".join(packed(str(ground.project))))
    with ground.platform.database.write() as connection:
        accounts.project(connection, "trial", "research")
        accounts.user(connection, "eve", ("research", "member"))
    place = callers.receive(ground.platform, EVE, ground.project.name, tar)
    request = callers.settled(ground.platform, EVE, replace(ground.request(steps, backend=backend), folder=place))
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
