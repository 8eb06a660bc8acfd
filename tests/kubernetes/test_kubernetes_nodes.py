"""Steps on several nodes of a real cluster."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from groundplane.drivers.kubernetes_objects import ATTEMPT, notes_of
from tests.cluster import Site
from tests.e2e.cli_ground import until

pytestmark = pytest.mark.timeout(600)

STEP = '[project]\nname = "{project}"\n[pipelines.p.steps.train]\nrun = "train.sh"\nresources = {{ nodes = 2 }}\n'
# Perl listens without any module, and bash connects: the image has little else.
MEET = r"""
echo "rank $RANK of $WORLD_SIZE, torchrun's $PET_NODE_RANK of $PET_NNODES at $PET_MASTER_PORT"
if [ "$RANK" = 0 ]; then
    perl -e '
        socket(S, 2, 1, 6) && bind(S, pack("S n x12", 2, $ENV{MASTER_PORT})) && listen(S, 5) or die $!;
        accept(C, S); print "heard: ", scalar(<C>);'
    echo "of node $RANK" >model.txt
else
    bash -c 'until { exec 3<>"/dev/tcp/$MASTER_ADDR/$MASTER_PORT"; } 2>/dev/null; do sleep 0.2; done
             echo "hello from $(cat /etc/hostname)" >&3'
    echo "of node $RANK" >model.txt
    echo said
fi
"""


class Home:
    """The cluster's site, with a folder of one's own."""

    def __init__(self, site: Site) -> None:
        self.site, self.ground, self.project = site, site.ground, site.project

    def run(self, script: str, *words: str, step: str = "", code: int = 0) -> Any:
        self.ground.write("ground.toml", STEP.format(project=self.project) + step)
        self.ground.write("train.sh", script)
        return self.ground.json("run", ".", "--on", "k8s", "--fresh", *words, code=code, patience=500)

    def begun(self, script: str) -> str:
        """Starts one whose nodes all print `begun`; the run's id, when they have."""
        run = self.run(script, "--detach")["id"]
        until(lambda: self.log(run).count("begun") == 2, "both nodes run", seconds=120)
        return run

    def state(self, run: str) -> str:
        return self.ground.json("runs", "show", run)["state"]

    def log(self, run: str) -> str:
        done = self.ground("runs", "logs", run)
        return done.stdout + done.stderr

    def objects(self) -> list[str]:
        """What the cluster has of attempts."""
        kinds = ("Job", "Pod", "Secret", "Service", "NetworkPolicy")
        return [notes_of(each)[ATTEMPT] for kind in kinds for each in self.site.mine(kind) if ATTEMPT in notes_of(each)]


@pytest.fixture
def home(kubernetes: Site, tmp_path: Path) -> Home:
    kubernetes.ground.work = tmp_path / kubernetes.project
    kubernetes.ground.work.mkdir()
    return Home(kubernetes)


def test_the_nodes_of_a_step_find_each_other_and_the_first_ones_outputs_count(home: Home) -> None:
    run = home.run(MEET, step='outputs = ["model.txt"]\n')
    assert (run["state"], run["tasks"][0]["attempts"]) == ("succeeded", 1)
    told = home.log(run["id"])
    ranks = [f"rank {index} of 2, torchrun's {index} of 2 at 29500" for index in range(2)]
    for line in (*ranks, "heard: hello from ground-", "said"):
        assert told.count(line) == 1, told
    assert home.ground("artifacts", "get", run["id"], "train/model.txt", "-o", "-").stdout == "of node 0\n"
    until(lambda: not home.objects(), "nothing is left of it", seconds=60)


def test_a_node_that_fails_ends_the_step_and_is_named(home: Home) -> None:
    began = time.monotonic()
    run = home.run('[ "$RANK" = 1 ] || exec sleep 300\necho "no such column" >&2\nexit 3\n', code=1)
    assert time.monotonic() - began < 120
    assert run["state"] == "failed"
    (task,) = run["tasks"]
    assert task["exit_code"] == 3
    assert task["reason"]["message"] == "node 1 of 2 exited with code 3: no such column"
    assert "no such column" in home.log(run["id"])
    until(lambda: not home.objects(), "the other node has been stopped, and nothing is left", seconds=90)


def test_all_nodes_are_followed_again_by_the_next_control_plane(home: Home) -> None:
    run = home.begun("echo begun; sleep 6; echo ended $RANK\n")
    os.kill(home.ground.pid(), signal.SIGKILL)
    home.ground("runs", "wait", run, code=None)
    assert home.state(run) == "succeeded"
    told = home.log(run)
    assert [told.count(line) for line in ("begun", "ended 0", "ended 1")] == [2, 1, 1], told


def test_all_nodes_are_stopped_with_their_run(home: Home) -> None:
    run = home.begun("echo begun; exec sleep 300\n")
    home.ground("runs", "cancel", run)
    home.ground("runs", "wait", run, code=None)
    assert home.state(run) == "cancelled"
    until(lambda: not home.objects(), "nothing is left of it", seconds=90)
