"""Backends that somebody adds, as the command line has them. No engine is needed: what is away says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_ground import Ground


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    yield made
    made.close()


def names(ground: Ground) -> list[str]:
    return [backend["name"] for backend in ground.json("backends", "list")]


def test_a_backend_is_added_kept_and_removed(ground: Ground, tmp_path: Path) -> None:
    socket = f"unix://{tmp_path}/nobody.sock"
    made = ground.json("backends", "add", "second", "--driver", "docker", "--host", socket)
    assert (made["name"], made["driver"], made["ok"]) == ("second", "docker", False)
    assert socket in made["message"]
    assert names(ground) == ["local", "docker", "second"]
    ground("backends", "add", "second", "--driver", "docker", "--host", socket)
    ground("down")
    assert names(ground) == ["local", "docker", "second"]
    assert ground("backends", "check", "second", code=3)
    ground("backends", "remove", "second")
    assert names(ground) == ["local", "docker"]
    gone = ground("backends", "check", "second", code=2)
    assert "the backends are: local, docker" in gone.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("second", "--driver", "docker"), "needs the address of its engine"),
        (("second", "--driver", "docker", "--host", "nowhere"), "is no address of a Docker engine"),
        (("second", "--driver", "docker", "--host", "unix://relative"), "is no address of a Docker engine"),
        (("second", "--driver", "slurm", "--host", "tcp://a:1"), "there is no driver 'slurm'"),
        (("second", "--driver", "local", "--host", "tcp://a:1"), "has nothing to configure"),
        (("local", "--driver", "docker", "--host", "tcp://127.0.0.1:1"), "there is a backend 'local' already"),
        (("Two Words", "--driver", "docker", "--host", "tcp://127.0.0.1:1"), "is no name for a backend"),
    ],
)
def test_what_cannot_be_a_backend_is_refused(ground: Ground, arguments: tuple[str, ...], said: str) -> None:
    refused = ground("backends", "add", *arguments, code=2)
    assert said in refused.stderr and "hint:" in refused.stderr
    assert names(ground) == ["local", "docker"]


def test_the_name_of_an_added_backend_means_one_engine_only(ground: Ground) -> None:
    ground("backends", "add", "b", "--driver", "docker", "--host", "tcp://127.0.0.1:1")
    other = ground("backends", "add", "b", "--driver", "docker", "--host", "tcp://127.0.0.1:2", code=2)
    assert "ground backends rm b" in other.stderr
    ground("backends", "remove", "docker", code=2)


def test_a_run_on_an_engine_that_is_away_is_recorded_and_fails_at_once(ground: Ground) -> None:
    ground.write("x.sh", "echo never\n")
    ground("backends", "add", "away", "--driver", "docker", "--host", "tcp://127.0.0.1:1")
    ground("run", "x.sh", "--on", "away", "--json", code=3)
    run = ground.json("runs", "show", "latest")
    assert (run["state"], run["reason"]["code"], run["reason"]["fault"]) == ("failed", "backend_unavailable", "backend")
    assert run["tasks"][0]["attempts"] == 0


def test_one_backend_keeps_no_other_from_being_shown_checked_or_tidied(ground: Ground) -> None:
    for name in ("one", "two"):
        ground("backends", "add", name, "--driver", "kubeflow", "--url", "http://127.0.0.1:1/pipeline")
    shown = ground("backends", "list", "two", "local")
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["NAME", "two", "local"]
    assert [each["name"] for each in ground.json("backends", "list", "one")] == ["one"]
    for command in ("list", "check"):
        said = ground("backends", command, "nobody", "local", code=2)
        assert "local" in said.stdout
        assert said.stderr.startswith("error: there is no backend 'nobody'")
    tidied = ground("backends", "gc", code=3)
    assert "error: backend 'one' was not tidied: " in tidied.stderr
    assert "error: backend 'two' was not tidied: " in tidied.stderr
    assert [(each["name"], each["deleted"], bool(each["error"])) for each in ground.json("backends", "gc", code=3)] == [
        ("one", [], True), ("two", [], True),
    ]  # fmt: skip
    assert "error: " in ground("backends", "gc", "one", code=3).stderr
