"""Runs that want GPUs: planned against a fake backend, and given devices by a real agent. What devices there are is
constructed (tests/nvml.py); those of this machine are in test_gpus_here.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from groundplane.images import lockfile
from groundplane.model.documents import Context
from groundplane.model.environments import Environment, Gpu
from groundplane.model.errors import Invalid
from groundplane.model.gpus import GpuKind
from groundplane.model.locks import Base, File, Lock, Native
from groundplane.model.resources import Resources
from groundplane.services import backends, doctor, environments, forecasts, runs
from groundplane.spi.launch import Launch, Phase
from tests.conformance.driver_bench import launch
from tests.integration.agent_bench import AgentBench, changed_agent
from tests.nvml import host
from tests.planes import ME, Ground

# A licensed engine's environment runs on any backend, and has no wheels; this one has, and needs no engine of images.
DEEP = '[environments.deep]\ntoolchain = "matlab@R2024b"\n'


def step(name: str, more: str) -> str:
    """A step whose work the fake plays."""
    return f'[pipelines.p.steps.{name}]\ncommand = ["/fake/{name}"]\n{more}\n'


def locked(ground: Ground, *wheels: str) -> None:
    """Writes a ground.lock whose environment has these wheels."""
    digest = "a" * 64
    files = tuple(
        File(name, version, f"{name}-{version}-py3-none-any.whl", f"https://index.test/{name}.whl", digest, 0)
        for name, version in map(str.split, wheels)
    )
    wanted = Environment("deep", toolchain="matlab", version="R2024b", gpu=Gpu(1))
    made = Lock(
        name="deep",
        definition=environments.definition(wanted, lambda name: None, ground.project),
        toolchain="matlab",
        engine="matlab",
        version="R2024b",
        program="matlab",
        builder="test",
        base=Base("trixie", "amd64", 0),
        native=Native("pylock", "x", digest, files),
    )
    ground.write({"ground.lock": lockfile.write([made])})


def has(ground: Ground, name: str | None) -> None:
    """What the backend has from now on; None: two GPUs of which it tells nothing."""
    assert ground.backend
    ground.backend.gpus, ground.backend.gpu_count = (host(name) if name else None), 2


def train(gpu: str = "", resources: str = "") -> str:
    said = f"resources = {{ {resources} }}" if resources else ""
    return step("train", f'environment = "deep"\n{said}') + DEEP + (f"gpu = {{ {gpu} }}\n" if gpu else "")


def launched(ground: Ground, steps: str) -> Launch:
    """What the backend was given for the only task of a run."""
    assert ground.backend
    run = ground.run(steps)
    assert run.state == "succeeded", run.reason
    (launch,) = [each for each in ground.backend.launches if each.run == run.id]
    return launch


def test_run_and_plan_refuse_alike_before_anything_starts(ground: Ground) -> None:
    has(ground, "t4_470")
    locked(ground, "torch 2.4.1+cu124")
    request = ground.request(train("count = 1"))
    with pytest.raises(Invalid) as planned:
        forecasts.plan(ground.platform, ME, request)
    with pytest.raises(Invalid) as submitted:
        ground.submit(train("count = 1"))
    for error in (planned.value, submitted.value):
        assert (error.code, error.exit_code) == ("gpu_unsuitable", 2)
        assert "torch 2.4.1+cu124 brings CUDA 12.4" in error.message
        assert "driver 470.256.02" in error.message
        assert "install driver 525.60.13 or newer" in error.hint
    assert runs.listing(ground.platform, ME, None, 10, None).runs == ()
    assert ground.starts("") == []


def test_the_kind_of_gpu_travels_to_where_devices_are_given_out(ground: Ground) -> None:
    has(ground, "t4_a100_535")
    locked(ground, "torch 2.1.0+cu121")
    found = launched(ground, train('count = 1, memory = "40GiB"')).resources
    assert (found.gpus, found.gpu_kind and (found.gpu_kind.memory, found.gpu_kind.toolkits)) == (
        1,
        (40 * 1024**3, ("12.1",)),
    )


def test_the_step_says_how_many(ground: Ground) -> None:
    has(ground, "a100x2_535")
    locked(ground, "torch 2.1.0+cu121")
    assert launched(ground, train("count = 1", "gpus = 2")).resources.gpus == 2
    has(ground, "t4_470")
    locked(ground, "torch 2.4.1+cu124")
    found = launched(ground, train("count = 1", "gpus = 0")).resources
    assert (found.gpus, found.gpu_kind) == (0, None), "it asks for none, so nothing is wrong"


def test_a_build_for_the_cpu_is_refused(ground: Ground) -> None:
    has(ground, "a100x2_535")
    locked(ground, "torch 2.4.1+cpu")
    with pytest.raises(Invalid, match=r"torch 2\.4\.1\+cpu is built for CPUs alone"):
        ground.submit(train("", "gpus = 1"))


def test_more_than_there_are_never_fit(ground: Ground) -> None:
    has(ground, "t4_470")
    locked(ground, "torch 2.1.0+cu118")
    with pytest.raises(Invalid) as error:
        ground.submit(train("count = 2"))
    assert error.value.code == "gpu_unsuitable"
    assert "on backend 'local': it has 1 (driver" in error.value.message


def test_what_a_backend_does_not_tell_is_a_warning(ground: Ground) -> None:
    has(ground, None)
    locked(ground, "torch 2.4.1+cu124")
    plan = forecasts.plan(ground.platform, ME, ground.request(train("count = 1")))
    assert any("does not tell which GPUs it has" in warning for warning in plan.warnings), plan.warnings
    assert plan.steps[0].gpus == 1
    assert ground.run(train("count = 1")).state == "succeeded"


def test_a_kind_without_a_number_is_a_warning(ground: Ground) -> None:
    has(ground, "a100x2_535")
    locked(ground, "torch 2.4.1+cu121")
    plan = forecasts.plan(ground.platform, ME, ground.request(train('memory = "40GiB"')))
    assert any("says which GPUs, but not how many" in warning for warning in plan.warnings), plan.warnings
    assert plan.steps[0].gpus == 0


def test_without_an_environment_the_number_is_all_that_is_asked(ground: Ground) -> None:
    has(ground, "t4_470")
    found = launched(ground, step("train", "resources = { gpus = 1 }")).resources
    assert (found.gpus, found.gpu_kind) == (1, None)


def test_the_doctor_and_the_backends_list_the_devices(ground: Ground) -> None:
    has(ground, "a100_lost_535")
    found = {each.name: each for each in doctor.examine(ground.platform, ME, Context(str(ground.project), {}))}
    told = found["local GPU 0"]
    assert (told.level, told.message) == (
        "ok",
        "NVIDIA A100-SXM4-80GB, 80.0 GiB, compute capability 8.0, driver 535.161.08, CUDA 12.2",
    )
    assert found["local GPUs"].level == "warning"
    assert "GPU 1" in found["local GPUs"].message
    document = backends.check(ground.platform, ME, "local")
    assert document.gpus == 1
    assert document.devices == host("a100_lost_535")


# --- a real agent -------------------------------------------------------------------------------------------------

_TOLD = "echo $CUDA_DEVICE_ORDER $CUDA_VISIBLE_DEVICES"


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentBench]:
    """It finds a folder like /dev and the constructed answers of a T4 beside an A100."""
    for name in ("nvidia0", "nvidia1"):
        (tmp_path / name).touch()
    change = f"""
from tests.nvml import host
from groundplane.agent import gpus
gpus.GpuPool.__init__.__defaults__ = ({str(tmp_path)!r}, lambda: host("t4_a100_535"))
"""
    with changed_agent(tmp_path / "home", change) as bench:
        yield bench


def test_an_agent_without_nvml_counts_nodes_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "nvidia0").touch()
    change = f"from groundplane.agent import gpus; gpus.GpuPool.__init__.__defaults__ = ({str(tmp_path)!r}, gpus._read)"
    with changed_agent(tmp_path / "home", change) as bench:
        health = bench.driver.check()
        if health.devices is not None:
            pytest.skip("NVML is here")
        assert health.gpus == 1
        assert "not told apart: NVIDIA's management library cannot be loaded" in health.facts["gpus"]
        assert bench.run(launch(_TOLD, resources=Resources(gpus=1))).stdout == "PCI_BUS_ID 0\n"


def test_the_agent_tells_its_devices(agent: AgentBench) -> None:
    health = agent.driver.check()
    assert (health.gpus, health.devices) == (2, host("t4_a100_535"))


def test_a_task_sees_its_own_devices_alone(agent: AgentBench) -> None:
    assert agent.run(launch(_TOLD, resources=Resources(gpus=1))).stdout == "PCI_BUS_ID 1\n"
    big = GpuKind(memory=40 * 1024**3)
    assert agent.run(launch(_TOLD, resources=Resources(gpus=1, gpu_kind=big))).stdout == "PCI_BUS_ID 0\n"
    assert agent.run(launch(_TOLD, resources=Resources(gpus=2))).stdout == "PCI_BUS_ID 1,0\n"
    (answer,) = agent.driver.submit([launch("true", resources=Resources(gpus=2, gpu_kind=big))])
    assert answer.refused is not None
    assert "Tesla T4, 14.8 GiB, compute capability 7.5 (has 14.8 GiB)" in answer.refused.message


def test_two_tasks_never_share_a_device(agent: AgentBench) -> None:
    wanted = GpuKind(memory=40 * 1024**3)
    first = launch(f"{_TOLD}; sleep 60", resources=Resources(cpus=0.1, gpus=1, gpu_kind=wanted))
    second = launch(_TOLD, resources=Resources(cpus=0.1, gpus=1, gpu_kind=wanted))
    third = launch(_TOLD, resources=Resources(cpus=0.1, gpus=1))
    agent.submit(first, second, third)
    agent.until(first.attempt, Phase.RUNNING)
    assert agent.until(third.attempt, Phase.ENDED).stdout == "PCI_BUS_ID 1\n"
    assert agent.driver.observe([second.attempt])[0].phase is Phase.ACCEPTED
    agent.driver.stop(first.attempt, 0.0)
    assert agent.until(second.attempt, Phase.ENDED).stdout == "PCI_BUS_ID 0\n"
