"""The control plane, as the command line starts, meets, replaces and ends it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.cli_ground import BIN, Ground, alive, until


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    yield made
    made.close()


def test_two_shells_that_start_at_once_get_one(ground: Ground) -> None:
    processes = [ground.start("status", "--json") for _ in range(4)]
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert len({answer["pid"] for answer in answers}) == 1
    assert all(process.returncode == 0 for process in processes)
    assert set(answers[0]) >= {"version", "url", "pid", "agent_pid", "database", "home"}
    assert answers[0]["url"] is None


def test_a_followed_run_survives_kills_and_each_line_is_there_once(ground: Ground) -> None:
    count = 60
    ground.write("slow.py", f"import time\nfor i in range({count}):\n    print(i, flush=True)\n    time.sleep(0.03)\n")
    process = ground.start("run", "slow.py")
    assert process.stdout is not None
    seen = [process.stdout.readline() for _ in range(5)]
    killed: set[int] = set()
    for _ in range(2):
        pid = until(lambda: (found := ground.record()["pid"]) not in killed and alive(found) and found, "a new one")
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)
        seen += [process.stdout.readline() for _ in range(5)]
    rest = process.stdout.read()
    _, err = process.communicate(timeout=60)
    lines = b"".join(seen) + rest
    assert process.returncode == 0, err
    assert lines.split() == [b"%d" % i for i in range(count)]
    shown = [json.loads(line)["text"] for line in ground("runs", "logs", "latest", "--json").stdout.splitlines()]
    assert Counter(shown) == Counter(str(i) for i in range(count))
    assert ground.json("runs", "show", "latest")["tasks"][0]["attempts"] == 1


def test_waiting_and_showing_survive_a_kill(ground: Ground) -> None:
    ground.write("nap.sh", "sleep 2\n")
    run = ground.json("run", "nap.sh", "--detach")["id"]
    process = ground.start("runs", "wait", run, "--json")
    os.kill(ground.pid(), signal.SIGKILL)
    assert ground.json("runs", "show", run)["id"] == run
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and json.loads(out)["state"] == "succeeded"


def test_up_opens_pages_down_ends_and_work_runs_on(ground: Ground, tmp_path: Path) -> None:
    ground.write("nap.sh", "sleep 1; echo slept\n")
    run = ground.json("run", "nap.sh", "--detach")["id"]
    private = ground.pid()
    url = ground("up", "--port", "0").stdout.split()[-1]
    status = ground.json("status")
    assert status["url"] == url and status["pid"] != private and not alive(private)
    assert "url" in ground("up").stdout and ground.pid() == status["pid"], "it is up already"
    with urllib.request.urlopen(f"{url}/api/v1/health") as answer:
        assert json.load(answer)["ok"] is True
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(f"{url}/api/v1/health", headers={"Host": "evil.example"}))
    with refused.value as answer:
        assert json.load(answer)["code"] == "wrong_host"
    token = ground.json("tokens", "create")["token"]
    remote = ground("status", "--json", GROUND_URL=url, GROUND_TOKEN=token)
    assert json.loads(remote.stdout)["pid"] == status["pid"]
    ground("down")
    assert not alive(status["pid"])
    assert "no control plane runs" in ground("down").stderr
    assert ground.json("runs", "wait", run)["state"] == "succeeded"
    assert ground("runs", "logs", run).stdout == "slept\n"


def test_down_stop_ends_the_work(ground: Ground, tmp_path: Path) -> None:
    ground.write("long.sh", f"echo $$ > {tmp_path}/pid; exec sleep 300\n")
    run = ground.json("run", "long.sh", "--detach")["id"]
    pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "its start"))
    ground("down", "--stop")
    until(lambda: not alive(pid), "its end")
    assert ground.json("runs", "wait", run, code=1)["state"] == "cancelled"


def test_a_newer_command_line_replaces_an_older_control_plane_and_keeps_its_options(ground: Ground) -> None:
    url = ground("up", "--port", "0").stdout.split()[-1]
    port = url.rpartition(":")[2]
    ground("down")
    ground("up", "--port", port)
    old = ground.record()
    record = ground.home / "run" / "control.json"
    record.write_text(json.dumps({**old, "version": "0.0.9"}))
    status = ground.json("status")
    assert status["pid"] != old["pid"] and not alive(old["pid"])
    assert status["url"] == url
    record.write_text(json.dumps({**ground.record(), "version": "99.0"}))
    assert ground.pid() == status["pid"], "a newer one is used as it is"


def test_foreground_stays_in_the_terminal_and_ends_with_ctrl_c(ground: Ground) -> None:
    process = ground.start("up", "--foreground", "--port", "0")
    until(lambda: (ground.home / "run" / "control.json").exists(), "its record")
    assert ground.pid() == process.pid
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_control_plane_that_cannot_start_says_why(ground: Ground) -> None:
    ground.home.mkdir()
    (ground.home / "ground.db").write_bytes(b"this is no database" * 1000)
    done = ground("status", code=None)
    assert done.returncode == 3 and done.stderr.startswith("error: ") and "ground.db" in done.stderr


def test_tables_that_do_not_fit_are_told_without_sql_and_do_not_keep_it_from_ending(
    ground: Ground, tmp_path: Path
) -> None:
    ground.write("long.sh", f"echo $$ > {tmp_path}/pid; exec sleep 300\n")
    ground("run", "long.sh", "--detach")
    work = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "its start"))
    pid = ground.pid()
    with closing(sqlite3.connect(ground.home / "ground.db", timeout=30)) as database:
        for table in ("runs", "events"):
            database.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
        database.commit()
    for words in (("runs", "list"), ("runs", "show", "latest"), ("status",)):
        told = ground(*words, code=3).stderr
        assert told.startswith("error: the database refused a query\nhint: ")
        assert "SELECT" not in told and "[SQL" not in told
    ground("down", "--stop")
    until(lambda: not alive(pid) and not alive(work), "the end of both")
    assert "SELECT" in (ground.home / "control.log").read_text()
    assert ground("status", code=3).stderr.startswith("error: the database refused a query\nhint: ")


def test_a_home_that_cannot_be_written_to(ground: Ground) -> None:
    file = ground.write("file", "")
    done = ground("status", code=3, GROUND_HOME=str(file))
    assert done.stderr.startswith("error: ") and "GROUND_HOME" in done.stderr


def test_a_shared_one_that_does_not_answer(ground: Ground) -> None:
    done = ground("status", code=3, GROUND_URL="http://127.0.0.1:9")
    assert "127.0.0.1:9" in done.stderr and "GROUND_URL" in done.stderr
    assert "no address" in ground("status", code=2, GROUND_URL="nonsense").stderr
    for words in (("up",), ("down",)):
        assert "GROUND_URL" in ground(*words, code=2, GROUND_URL="http://127.0.0.1:9").stderr


def test_the_sdk(ground: Ground) -> None:
    ground.write("fit.py", "print('fitted')\nopen('coef.csv', 'w').write('1')\n")
    code = (
        "from groundplane import Client\nfrom groundplane.client import request\n"
        "with Client() as client:\n"
        "    run = client.wait(client.submit(request('fit.py', parameters={'alpha': '0.1'})).id)\n"
        "    print(run.state, [line.text for line in client.logs(run.id)], client.artifacts('latest')[0].name)\n"
        "    print(b''.join(client.download('latest', 'fit.py/coef.csv')))\n"
        "    print(client.events(limit=1)['events'][0]['action'], client.runs(limit=1).runs[0].id == run.id)\n"
    )
    done = subprocess.run([BIN / "python", "-c", code], env=ground.env, cwd=ground.work, capture_output=True, text=True)
    assert done.stdout == "succeeded ['fitted'] fit.py/coef.csv\nb'1'\nrun.submit True\n", done.stderr
