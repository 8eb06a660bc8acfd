"""Secrets in the pods of a real cluster."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Site, eventually
from tests.e2e.cli_ground import BIN, until

pytestmark = pytest.mark.timeout(600)

TOKEN, KEY = "planted-77aa-token", "planted-77aa-line-one\nplanted-77aa-line-two\n"
STEP = """
[project]
name = "{project}"
[pipelines.p.steps.use]
run = "use.sh"
on = "k8s"
secrets = {{ TOKEN = "token", "conf/key" = "key" }}
outputs = ["out.txt", "conf/*"]
"""


@pytest.fixture
def site(kubernetes: Site, tmp_path: Path) -> Iterator[Site]:
    """A folder of one's own; no Job is left behind."""
    kubernetes.ground.work = tmp_path / kubernetes.project
    kubernetes.ground.work.mkdir()
    yield kubernetes
    eventually(lambda: not kubernetes.mine("Job"))


def test_they_are_in_the_pods_own_secret_object_alone_and_gone_with_it(site: Site) -> None:
    ground = site.ground
    for name, value in (("token", TOKEN), ("key", KEY)):
        argv = [BIN / "ground", "secrets", "set", name]
        subprocess.run(argv, env=ground.env, cwd=ground.work, input=value.encode(), check=True, capture_output=True)
    ground.write(
        "use.sh", 'echo "$TOKEN"; cat conf/key; stat -c %a conf/key; sleep 4; echo 1 > out.txt; echo > conf/new\n'
    )
    ground.write("ground.toml", STEP.format(project=site.project))
    run = ground.json("run", ".", "--detach")["id"]
    until(lambda: "***" in ground("runs", "logs", run).stdout, "it prints", seconds=500)  # its image may be made first
    told = {kind: site.mine(kind) for kind in ("Job", "Pod")}
    assert told["Job"] and told["Pod"]
    assert "planted" not in json.dumps(told)
    assert ground("runs", "wait", run).returncode == 0
    shown = ground.json("runs", "show", run)
    assert [each["name"] for each in shown["tasks"][0]["outputs"]] == ["conf/new", "out.txt"]
    assert ground("runs", "logs", run).stdout == "***\n***\n***\n400\n"
    eventually(lambda: not site.mine("Secret"))
    assert "planted" not in json.dumps(shown)
    for path in ground.home.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert b"planted-77aa" not in path.read_bytes(), path
    for key in site.store().listing(""):
        assert b"planted-77aa" not in (site.store().read(key) or b""), key
