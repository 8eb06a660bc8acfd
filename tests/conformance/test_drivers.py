"""The suite that every driver passes whose work is one launch at a time. To Kubeflow's a launch is a task of a pipeline
that runs whole: what it owes of the contract is in tests/integration/test_kubeflow_driver.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from groundplane.drivers.docker import DockerDriver
from groundplane.drivers.fake import FakeDriver
from groundplane.drivers.local import LocalDriver
from groundplane.drivers.scripted import ScriptedDriver
from groundplane.images.store import ImageStore
from groundplane.model.ids import new_id
from groundplane.oci.address import Address
from groundplane.spi import layout
from groundplane.spi.launch import Launch, Phase
from groundplane.spi.toolchain import Command
from tests.conformance.driver_bench import Bench, launch
from tests.docker_drill import daemon, tiny_image
from tests.integration.conftest import end_agents


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A Docker engine that has the image of the launches."""
    folder = tmp_path_factory.mktemp("engine")
    image = tiny_image(folder)
    with daemon(folder / "docker") as running:
        address = Address(running.url)
        driver = DockerDriver(folder, "docker", address)
        driver.bring(image, ImageStore(folder / "images").blob, lambda _: None)
        driver.close()
        yield address
        running.ended()


@pytest.fixture(params=["local", "fake", "scripted", "docker"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    home = tmp_path / "home"
    if request.param == "docker":
        address = request.getfixturevalue("engine")
        docker = DockerDriver(home, "docker", address)
        made = Bench(docker, home, lambda: DockerDriver(home, "docker", address), many=9)
        yield made
        docker.cleanup([seen.attempt for seen in made.seen if seen.phase is Phase.ENDED])
        end_agents(home)
        docker.close()
    elif request.param == "local":
        local = LocalDriver(home)
        yield Bench(local, home, lambda: LocalDriver(home))
        local.shutdown(end_work=True)
        local.close()
    elif request.param == "fake":
        fake = FakeDriver(home, "sim")
        yield Bench(fake, home, lambda: FakeDriver(home, "sim"))
        end_agents(home)
        fake.close()
    else:
        scripted = ScriptedDriver(home)
        yield Bench(scripted, home, lambda: scripted)
        scripted.close()


def test_it_says_whether_it_can_take_work(bench: Bench) -> None:
    health = bench.driver.check()
    assert health.ok
    assert health.message
    assert "limits" in health.facts


def test_the_devices_that_it_tells_are_as_many_as_it_counts(bench: Bench) -> None:
    health = bench.driver.check()
    assert health.devices is None or len(health.devices.devices) == health.gpus
    for device in health.devices.devices if health.devices else ():
        assert device.uuid
        assert device.name


def test_nobody_knows_an_attempt_that_was_never_submitted(bench: Bench) -> None:
    (told,) = bench.driver.observe(["never"])
    assert (told.attempt, told.phase) == ("never", Phase.UNKNOWN)


def test_an_attempt_runs_and_ends(bench: Bench) -> None:
    wanted = launch("true")
    told = bench.run(wanted)
    assert (told.phase, told.exit_code, told.signal, told.reason) == (Phase.ENDED, 0, None, None)
    assert told.epoch == 1
    assert 0 < told.started_at <= told.at
    assert bench.driver.observe([wanted.attempt]) == [told]


@pytest.mark.parametrize("code", [1, 3, 255])
def test_an_exit_code_is_told(bench: Bench, code: int) -> None:
    told = bench.run(launch(f"exit {code}", {"exit": code}))
    assert (told.exit_code, told.signal, told.reason) == (code, None, None)


def test_a_signal_is_128_and_its_number(bench: Bench) -> None:
    told = bench.run(launch("kill -9 $$", {"signal": 9}))
    assert (told.exit_code, told.signal) == (137, 9)


def test_both_streams_reach_the_log_and_the_tails(bench: Bench) -> None:
    wanted = launch("printf 'one\\ntwo'; echo three >&2", {"stdout": "one\ntwo", "stderr": "three\n"})
    told = bench.run(wanted)
    assert (told.stdout, told.stderr) == ("one\ntwo", "three\n")
    assert bench.output(wanted) == b"one\ntwo"
    assert bench.output(wanted, 1) == b"three\n"


def test_the_same_submit_twice_starts_once(bench: Bench) -> None:
    wanted = launch("echo started; sleep 0.3", {"delay": 0.3, "stdout": "started\n"})
    bench.submit(wanted)
    bench.submit(wanted)
    bench.until(wanted.attempt, Phase.ENDED)
    bench.submit(wanted)
    assert bench.output(wanted) == b"started\n"
    assert bench.driver.observe([wanted.attempt])[0].phase is Phase.ENDED


def test_a_lower_epoch_is_refused_and_a_higher_one_taken_over(bench: Bench) -> None:
    wanted = launch("sleep 0.2", {"delay": 0.2}, epoch=5)
    bench.submit(wanted)
    (answer,) = bench.driver.submit([launch("true", attempt=wanted.attempt, epoch=4)])
    assert answer.refused is not None
    assert answer.refused.code == "stale"
    bench.submit(launch("true", attempt=wanted.attempt, epoch=6))
    assert bench.until(wanted.attempt, Phase.ENDED).epoch == 6


def test_an_attempt_that_was_cleaned_up_does_not_start_again(bench: Bench) -> None:
    wanted = launch("true")
    bench.run(wanted)
    bench.driver.cleanup([wanted.attempt])
    (answer,) = bench.driver.submit([wanted])
    assert answer.refused is not None
    assert answer.refused.code == "stale"


def test_changes_come_in_order_and_again_from_an_old_cursor(bench: Bench) -> None:
    first, second = launch("true"), launch("true")
    bench.run(first)
    cursor = bench.cursor
    bench.run(second)
    again = bench.driver.changes(cursor, 1.0)
    assert [told.attempt for told in again.observations if told.phase is Phase.ENDED] == [second.attempt]
    everything = bench.driver.changes("", 1.0)
    assert [told.attempt for told in everything.observations] == [first.attempt, second.attempt]
    assert everything.cursor == again.cursor


def test_a_cursor_of_somebody_else_means_from_the_start(bench: Bench) -> None:
    wanted = launch("true")
    bench.run(wanted)
    changes = bench.driver.changes("of-another-life:7", 1.0)
    assert [told.attempt for told in changes.observations] == [wanted.attempt]


def test_changes_return_when_nothing_happens(bench: Bench) -> None:
    changes = bench.driver.changes("", 0.05)
    assert changes.observations == ()


def test_another_driver_goes_on_from_the_cursor(bench: Bench) -> None:
    first, second = launch("true"), launch("sleep 0.3", {"delay": 0.3})
    bench.run(first)
    bench.submit(second)
    other = bench.again()
    changes = other.changes(bench.cursor, 5.0)
    assert first.attempt not in [told.attempt for told in changes.observations]
    assert second.attempt in [told.attempt for told in changes.observations]
    bench.until(second.attempt, Phase.ENDED)
    if other is not bench.driver:
        other.close()


def until_it_prints(bench: Bench, wanted: Launch) -> None:
    """What runs in a container begins a moment after it is said to run."""
    bench.until(wanted.attempt, Phase.RUNNING)
    while not isinstance(bench.driver, ScriptedDriver) and not bench.output(wanted):
        bench.driver.changes(bench.cursor, 0.05)


def test_stop_ends_it_and_says_that_it_was_cancelled(bench: Bench) -> None:
    wanted = launch("echo ready; sleep 60", {"delay": 60})
    bench.submit(wanted)
    until_it_prints(bench, wanted)
    bench.driver.stop(wanted.attempt, 5.0)
    bench.driver.stop(wanted.attempt, 5.0)
    told = bench.until(wanted.attempt, Phase.ENDED)
    assert told.reason is not None
    assert (told.reason.code, told.signal, told.exit_code) == ("cancelled", 15, 143)


def test_stop_kills_what_does_not_listen_when_the_grace_is_over(bench: Bench) -> None:
    wanted = launch("trap '' TERM; echo ready; while :; do sleep 0.05; done", {"delay": 60, "ignores_stop": True})
    bench.submit(wanted)
    until_it_prints(bench, wanted)
    bench.driver.stop(wanted.attempt, 0.2)
    told = bench.until(wanted.attempt, Phase.ENDED)
    assert (told.signal, told.exit_code) == (9, 137)


def test_stopping_what_has_ended_or_is_unknown_is_nothing(bench: Bench) -> None:
    wanted = launch("true")
    told = bench.run(wanted)
    bench.driver.stop(wanted.attempt, 1.0)
    bench.driver.stop("never", 1.0)
    assert bench.driver.observe([wanted.attempt]) == [told]


def test_cleanup_forgets_what_has_ended_and_only_that(bench: Bench) -> None:
    ended, running = launch("true"), launch("sleep 60", {"delay": 60})
    bench.run(ended)
    bench.submit(running)
    bench.until(running.attempt, Phase.RUNNING)
    for _ in range(2):
        bench.driver.cleanup([ended.attempt, running.attempt, "never"])
    first, second = bench.driver.observe([ended.attempt, running.attempt])
    assert (first.phase, second.phase) == (Phase.UNKNOWN, Phase.RUNNING)
    bench.driver.stop(running.attempt, 0.0)
    bench.until(running.attempt, Phase.ENDED)


def test_declared_outputs_are_kept_by_content(bench: Bench) -> None:
    wanted = launch("printf abc > 'a é.csv'; printf abc > b.txt", {"outputs": {"a é.csv": "abc", "b.txt": "abc"}})
    wanted = launch(wanted.command.argv[2], {"outputs": {"a é.csv": "abc", "b.txt": "abc"}}, outputs=("*.csv", "b.txt"))
    told = bench.run(wanted)
    assert [(output.name, output.size) for output in told.outputs] == [("a é.csv", 3), ("b.txt", 3)]
    blob = layout.blob(bench.home, told.outputs[0].sha256)
    assert blob.read_bytes() == b"abc"
    assert blob.stat().st_mode & 0o777 == 0o444
    assert told.missing == ()


def test_a_missing_output_is_named(bench: Bench) -> None:
    told = bench.run(launch("true", {"missing": ["no.csv"]}, outputs=("no.csv",)))
    assert told.missing == ("no.csv",)
    assert told.exit_code == 0


def test_nothing_is_kept_of_a_failure(bench: Bench) -> None:
    script = {"exit": 1, "outputs": {"a.txt": "abc"}}
    told = bench.run(launch("printf abc > a.txt; exit 1", script, outputs=("a.txt",)))
    assert told.outputs == ()
    assert told.exit_code == 1


def test_the_support_folder_is_absolute_and_the_attempts_own(bench: Bench) -> None:
    wanted: list[Launch] = []
    for name in ("one", "two"):
        attempt = f"{name}-{new_id()}"
        support = bench.driver.support(attempt)
        assert support.startswith("/")
        command = Command(("sh", "-c", f"ls {support}; cat {support}/{name}"), files={name: f"of {name}"})
        said = "\n".join([*sorted([name, "tmp"]), f"of {name}"])
        wanted.append(launch("", {"stdout": said}, attempt=attempt, command=command))
    bench.submit(*wanted)
    for name, each in zip(("one", "two"), wanted, strict=True):
        assert bench.until(each.attempt, Phase.ENDED).stdout.split() == [*sorted([name, "tmp"]), "of", name]


def test_many_at_once_all_end(bench: Bench) -> None:
    wanted = [launch(f"exit {n % 3}", {"exit": n % 3}, task=f"t[{n}]") for n in range(bench.many)]
    bench.submit(*wanted)
    for n, each in enumerate(wanted):
        assert bench.until(each.attempt, Phase.ENDED).exit_code == n % 3
