"""Secrets as a user has them; and a planted one, looked for everywhere after a run."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from groundplane.oci.address import Address
from groundplane.oci.engine import Engine
from tests.docker_drill import Daemon, daemon, tiny_image
from tests.e2e import cli_ground
from tests.e2e.cli_ground import Ground


def until(condition: Callable[[], Any]) -> Any:
    return cli_ground.until(condition, "what it waits for")


TOKEN = "planted-9f2c71d0-token"
KEY = "-----BEGIN PLANTED KEY-----\nplantedline4711aa\nplantedline4711bb\n-----END PLANTED KEY-----\n"
NEEDLES = (b"planted-9f2c71d0", b"plantedline4711")


def step(ground: Ground, script: str, more: str, *, project: str = "trial") -> None:
    ground.write("use.sh", script)
    ground.write(
        "ground.toml", f'[project]\nname = "{project}"\n[pipelines.p.steps.use]\nrun = "use.sh"\n{more}\n'
    )  # fmt: skip


# --- set, list, rm --------------------------------------------------------------------------------------------------


def test_a_secret_is_set_listed_without_its_value_and_forgotten(ground: Ground) -> None:
    ground.put_secret("one", "first-value-of-one")
    assert "version 2" in ground.put_secret("one", "second-value-of-one")
    ground.put_secret("one", "value-for-trial", "--project", "trial")
    listed = ground("secrets", "list", "--json").stdout
    mine = [each for each in json.loads(listed) if each["name"] == "one"]
    assert [(each["project"], each["version"]) for each in mine] == [(None, 2), ("trial", 1)]
    assert "value" not in listed
    assert "value" not in ground("secrets", "list").stdout.lower()
    ground("secrets", "rm", "one", "--project", "trial")
    ground("secrets", "rm", "one")
    assert "there is no secret 'one'" in ground("secrets", "rm", "one", code=2).stderr


def test_what_is_no_secret_is_refused(ground: Ground) -> None:
    assert "is empty" in ground.put_secret("none", "", code=2)
    assert "no name for a secret" in ground.put_secret("a/b", "x", code=2)
    assert "more than 65536" in ground.put_secret("large", "x" * 65537, code=2)
    assert "no name of a project" in ground.put_secret("one", "x", "--project", "a b", code=2)


def test_a_projects_own_goes_before_that_of_all(ground: Ground) -> None:
    ground.put_secret("whose", "value-of-everybody")
    ground.put_secret("whose", "value-of-trial", "--project", "trial")
    for project, length in (("trial", "value-of-trial"), ("other", "value-of-everybody")):
        step(ground, 'printf %s "$WHOSE" | wc -c\n', 'secrets = { WHOSE = "whose" }', project=project)
        assert ground("run", ".").stdout.split() == [str(len(length))]


def test_a_missing_secret_is_told_before_anything_starts(ground: Ground) -> None:
    step(ground, "true\n", 'secrets = { TOKEN = "not-there" }')
    for command in ("run", "plan"):
        said = ground(command, ".", code=2).stderr
        assert "there is no secret 'not-there' for project 'trial'" in said
        assert "ground secrets set not-there" in said
    ground.put_secret("binary", b"\0\1")
    step(ground, "true\n", 'secrets = { TOKEN = "binary" }')
    assert "secret binary holds a NUL" in ground("run", ".", code=2).stderr


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ('secrets = { GROUND_X = "a" }', "GROUND_"),
        ('secrets = { "../key" = "a" }', "leaves the project"),
        ('secrets = { "use.sh" = "a" }', "the step's script"),
        ('secrets = { "out.txt" = "a" }\noutputs = ["out.txt"]', "an output too"),
        ('secrets = { TOKEN = "a" }\nenv = { TOKEN = "b" }', "is in `env` too"),
        ('secrets = { TOKEN = "a b" }', "no name of a secret"),
        ('connections = ["Warehouse"]', "no name of a connection"),
        ('connections = ["a-b", "a_b"]', "GROUND_CONNECTION_A_B_URL"),
    ],
)
def test_keys_that_cannot_be(ground: Ground, more: str, says: str) -> None:
    step(ground, "true\n", more)
    assert says in ground("run", ".", code=2).stderr


# --- what a task gets -----------------------------------------------------------------------------------------------


def test_a_file_has_the_bytes_that_were_given_and_is_no_output(ground: Ground) -> None:
    given = bytes(range(256))
    ground.put_secret("bytes", given)
    step(
        ground,
        "sha256sum < deep/all.bin > sum.out; cp deep/all.bin mine.bin; chmod 600 deep/all.bin\n",
        'secrets = { "deep/all.bin" = "bytes" }\noutputs = ["*.out", "deep/"]',
    )
    ground.write("deep/kept.txt", "x")
    run = ground.json("run", ".", code=1)  # `deep/` has nothing new but the secret, which is no output
    assert run["tasks"][0]["reason"]["code"] == "missing_output"
    step(
        ground,
        "sha256sum < deep/all.bin > sum.out; stat -c %a deep/all.bin\n",
        'secrets = { "deep/all.bin" = "bytes" }\noutputs = ["**"]',
    )
    run = ground.json("run", ".")
    assert [each["name"] for each in run["tasks"][0]["outputs"]] == ["sum.out"]
    assert ground("runs", "logs", "latest").stdout.split()[-1] == "400"
    import hashlib

    ground("artifacts", "get", "latest", "use/sum.out", "-o", "sum.out")
    assert (ground.work / "sum.out").read_text().split()[0] == hashlib.sha256(given).hexdigest()
    folders = [path for path in (ground.home / "work").glob("*") if not path.name.startswith(".")]
    until(lambda: not [path for folder in folders for path in folder.rglob("all.bin")])


def test_a_script_of_its_own_and_its_reason_hide_it_too(ground: Ground) -> None:
    ground.put_secret("token", TOKEN + "\n")
    step(ground, 'echo "cannot use $TOKEN" >&2\nexit 3\n', 'secrets = { TOKEN = "token" }')
    run = ground.json("run", ".", code=1)
    assert "***" in run["reason"]["message"]
    assert TOKEN not in json.dumps(run)
    assert "cannot use ***\n" in ground("runs", "logs", "latest").stderr


def test_a_link_that_the_work_puts_in_its_way_is_not_followed(ground: Ground, tmp_path: Path) -> None:
    ground.put_secret("token", TOKEN)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "key").write_text("not yours")
    step(
        ground,
        f"rm -rf conf; ln -s {outside} conf; echo x > out.txt\n",
        'secrets = { "conf/key" = "token" }\noutputs = ["out.txt"]',
    )
    ground("run", ".")
    assert (outside / "key").read_text() == "not yours"


def test_a_new_value_does_not_run_again_what_was_done(ground: Ground) -> None:
    ground.put_secret("rotated", "first-rotated-value")
    step(ground, "echo done > out.txt\n", 'secrets = { TOKEN = "rotated" }\noutputs = ["out.txt"]')
    assert ground.json("run", ".")["tasks"][0]["reused"] is False
    ground.put_secret("rotated", "second-rotated-value")
    assert ground.json("run", ".")["tasks"][0]["reused"] is True
    step(ground, "echo done > out.txt\n", 'secrets = { OTHER = "rotated" }\noutputs = ["out.txt"]')
    assert ground.json("run", ".")["tasks"][0]["reused"] is False


# --- the hunt -------------------------------------------------------------------------------------------------------

WORK = """
echo "token $TOKEN"; cat key.pem; echo "$TOKEN" >&2; echo "$KEY"
cp key.pem copy; rm copy
while [ ! -e {gate} ]; do sleep 0.02; done
echo done > out.txt
"""


def test_a_planted_secret_is_found_nowhere(ground: Ground, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    plant(ground)
    step(ground, WORK.replace("{gate}", str(gate)), GIVEN)
    running = started(ground)
    look_at_processes()
    look_at_files(ground.home, alive=True)
    gate.touch()
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert_clean(out + err, "what `ground run` prints")
    assert (out + err).decode().count("***") >= 6
    look_everywhere(ground)


def test_a_planted_secret_is_found_nowhere_in_docker(ground: Ground, docker: Daemon) -> None:
    plant(ground)
    step(ground, WORK.replace("{gate}", '"$TMPDIR/go"'), GIVEN)
    running = started(ground, "--on", "docker")
    look_at_processes()
    engine = Engine(Address(docker.url))
    (container,) = engine.call("GET", "/containers/json")
    told = engine.call("GET", f"/containers/{container['Id']}/json")
    config = told["Config"]
    argv = [told["Path"], told["Args"], config["Cmd"], config["Entrypoint"], config["Labels"]]
    assert_clean(json.dumps(argv), "the container's command")
    image = engine.call("GET", f"/images/{told['Image']}/json"), engine.call("GET", f"/images/{told['Image']}/history")
    assert_clean(json.dumps(image), "the image")
    mount = next(each["Source"] for each in told["Mounts"] if each["Destination"] == "/ground/work")
    key = Path(mount, "key.pem").stat()
    assert (stat.S_IMODE(key.st_mode), key.st_uid) == (0o400, 1000)
    Path(mount).parent.joinpath("support", "tmp", "go").touch()
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert_clean(out + err, "what `ground run` prints")
    until(lambda: not engine.call("GET", "/containers/json", {"all": 1}))
    engine.close()
    look_everywhere(ground)
    look_at_files(docker.folder)


GIVEN = 'secrets = { TOKEN = "planted", "key.pem" = "planted-key", KEY = "planted-key" }\noutputs = ["out.txt"]'


@pytest.fixture
def docker(ground: Ground, tmp_path: Path) -> Iterator[Daemon]:
    with daemon(tmp_path / "docker") as running:
        ground.close()  # the next command starts a control plane that knows of the engine
        ground.env["DOCKER_HOST"] = running.url
        tiny_image(ground.home)
        yield running
        ground.close()
        del ground.env["DOCKER_HOST"]


def plant(ground: Ground) -> None:
    ground.put_secret("planted", TOKEN)
    ground.put_secret("planted-key", KEY)


def started(ground: Ground, *words: str) -> subprocess.Popen[bytes]:
    """A run whose task waits in the midst of its work."""
    before = ground.json("runs", "list")["runs"]
    running = ground.start("run", ".", *words)
    until(lambda: len(ground.json("runs", "list")["runs"]) > len(before))
    until(lambda: "token ***" in ground("runs", "logs", "latest").stdout)
    return running


def assert_clean(text: str | bytes, where: str) -> None:
    data = text.encode() if isinstance(text, str) else text
    for needle in NEEDLES:
        at = data.find(needle)
        assert at < 0, f"{where} holds {needle!r}: {data[max(0, at - 80) : at + 80]!r}"


def look_at_processes() -> None:
    """Arguments of all, and variables of all that do not belong to the attempt."""
    own = {os.getpid(), os.getppid()}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, variables = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if int(folder.name) in own:
            continue
        assert_clean(command, f"the command line of {command!r}")
        if b"GROUND_ATTEMPT=" not in variables:
            assert_clean(variables, f"the variables of {command!r}")


def look_at_files(folder: Path, *, alive: bool = False) -> None:
    """alive: working copies have it, and they alone."""
    for path in folder.rglob("*"):
        if alive and path.is_relative_to(folder / "work"):
            continue
        try:
            if path.is_file() and not path.is_symlink():
                assert_clean(path.read_bytes(), str(path))
        except OSError:
            continue  # gone meanwhile, or of a kind that cannot be read


def look_everywhere(ground: Ground) -> None:
    until(lambda: not list((ground.home / "work").rglob("key.pem")))
    look_at_files(ground.home)
    look_at_processes()
    with closing(sqlite3.connect(f"file:{ground.home / 'ground.db'}?mode=ro", uri=True)) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in database.execute(f'SELECT * FROM "{table}"'):
                assert_clean(b"\0".join(v if isinstance(v, bytes) else str(v).encode() for v in row), table)
    for command in (
        ("runs", "show", "latest", "--json"),
        ("runs", "show", "latest"),
        ("runs", "logs", "latest"),
        ("runs", "logs", "latest", "--json"),
        ("runs", "list", "--json"),
        ("plan", ".", "--json"),
        ("artifacts", "list", "latest", "--json"),
        ("secrets", "list", "--json"),
        ("status", "--json"),
    ):
        done = ground(*command, code=None)
        assert done.returncode == 0, (command, done.stderr)
        assert_clean(done.stdout + done.stderr, " ".join(command))


# --- sealed ---------------------------------------------------------------------------------------------------------


def test_a_row_in_anothers_place_is_not_opened(ground: Ground) -> None:
    ground.put_secret("mine", "value-of-mine")
    ground.put_secret("theirs", "value-of-theirs")
    ground.close()
    with closing(sqlite3.connect(ground.home / "ground.db")) as database, database:
        (theirs,) = database.execute("SELECT sealed, wrapped FROM secrets WHERE name = 'theirs'")
        database.execute("UPDATE secrets SET sealed = ?, wrapped = ? WHERE name = 'mine'", theirs)
    step(ground, "true\n", 'secrets = { MINE = "mine" }')
    said = ground("run", ".", code=3).stderr
    assert "secret mine cannot be opened: somebody has changed it" in said
    ground.put_secret("mine", "value-of-mine")
    ground("run", ".")


def test_another_key_opens_nothing_and_says_so(ground: Ground, tmp_path: Path) -> None:
    ground.put_secret("kept", "value-of-kept")
    ground.close()
    key = tmp_path / "key"
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    step(ground, "true\n", 'secrets = { KEPT = "kept" }')
    ground.env["GROUND_SECRETS_KEY"] = str(key)
    try:
        said = ground("run", ".", code=3).stderr
        assert re.search(r"secret kept was sealed by key [0-9a-f]{16}, and this control plane has key", said)
        ground.put_secret("kept", "value-of-kept")
        ground("run", ".")
        ground.close()
        key.chmod(0o644)
        assert "others may read" in ground("run", ".", code=2).stderr
    finally:
        ground.close()
        del ground.env["GROUND_SECRETS_KEY"]


def test_what_was_removed_before_it_began_ends_the_task_and_nothing_else(ground: Ground) -> None:
    ground.put_secret("short-lived", "value-of-short-lived")
    ground.write("wait.sh", "while [ ! -e go ]; do sleep 0.02; done\n")
    ground.write("use.sh", "true\n")
    gate = ground.work / "gate"
    ground.write("wait.sh", f"while [ ! -e {gate} ]; do sleep 0.02; done\n")
    ground.write(
        "ground.toml",
        '[project]\nname = "trial"\n[pipelines.p.steps.first]\nrun = "wait.sh"\n'
        '[pipelines.p.steps.use]\nrun = "use.sh"\nafter = ["first"]\nsecrets = { A = "short-lived" }\n',
    )
    (ground.work / ".groundignore").write_text("gate\n")
    running = ground.start("run", ".")
    until(lambda: ground.json("runs", "show", "latest")["state"] == "running")
    ground("secrets", "rm", "short-lived")
    gate.touch()
    running.communicate(timeout=60)
    tasks: list[dict[str, Any]] = ground.json("runs", "show", "latest")["tasks"]
    reason = next(each["reason"] for each in tasks if each["name"] == "use")
    assert reason["code"] == "missing_secret" and "short-lived" in reason["message"]
    time.sleep(0.1)
    step(ground, "true\n", "")
    ground("run", ".")
