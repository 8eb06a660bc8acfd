"""Who may start, and what of a group limits it."""

from __future__ import annotations

from pathlib import Path

import pytest

from groundplane.agent import cgroups
from groundplane.agent.capacity import Capacity, Room
from groundplane.agent.cgroups import Groups
from groundplane.agent.gpus import GpuPool
from groundplane.agent.spawn import NotStarted, find
from groundplane.model.resources import Resources
from groundplane.spi.launch import Place


def test_what_waits_keeps_its_place_but_blocks_only_what_it_waits_for(tmp_path: Path) -> None:
    room = Room(cpus=2, memory=100, gpus=GpuPool(str(tmp_path)))
    assert not room.fits(Resources(gpus=1))
    assert room.fits(Resources())
    assert not room.fits(Resources())


def test_a_wide_launch_is_not_overtaken(tmp_path: Path) -> None:
    room = Room(cpus=1, memory=100, gpus=GpuPool(str(tmp_path)))
    assert not room.fits(Resources(cpus=2))
    assert not room.left


def test_a_program_is_found_on_the_works_own_path(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "tool"
    tool.write_text("#!/bin/sh\n")
    with pytest.raises(NotStarted) as refused:
        find("tool", "bin", str(tmp_path))
    assert refused.value.exit_code == 126
    tool.chmod(0o755)
    assert find("tool", "/nowhere:bin", str(tmp_path)) == str(tool)
    assert find("bin/tool", "", str(tmp_path)) == str(tool)
    with pytest.raises(NotStarted) as missing:
        find("other", "bin", str(tmp_path))
    assert (missing.value.exit_code, missing.value.reason.code) == (127, "missing_engine")


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "cgroup"
    root.mkdir()
    monkeypatch.setattr(cgroups, "_ROOT", root)
    monkeypatch.setattr(cgroups, "_own", lambda controller: "")  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    return root


def _first_version(root: Path, *controllers: str) -> None:
    for name in controllers:
        base = root / name / "groundplane-a"
        base.mkdir(parents=True)
        (base / "cgroup.procs").touch()
    (root / "memory").mkdir(exist_ok=True)
    (root / "memory" / "memory.limit_in_bytes").touch()


def test_each_controller_of_the_first_version_limits_what_was_asked_for(control: Path) -> None:
    _first_version(control, "memory", "cpu")
    groups = Groups("a")
    assert groups.limits_cpus == groups.limits_memory == "cgroup v1"
    assert groups.make("none", Resources()) is None
    group = groups.make("x", Resources(cpus=0.25))
    assert group is not None
    assert group.entries == (str(control / "cpu/groundplane-a/x/cgroup.procs"),)
    assert not group.limits_memory
    assert (control / "cpu/groundplane-a/x/cpu.cfs_quota_us").read_text() == "25000"
    both = groups.make("y", Resources(cpus=2, memory=1 << 20))
    assert both is not None
    assert len(both.entries) == 2
    assert (control / "cpu/groundplane-a/y/cpu.cfs_quota_us").read_text() == "200000"
    again = groups.find("y", memory=True)
    assert again is not None
    assert again.entries == both.entries


def test_where_only_memory_can_be_limited_cpus_have_no_group(control: Path) -> None:
    _first_version(control, "memory")
    groups = Groups("a")
    assert (groups.limits_memory, groups.limits_cpus) == ("cgroup v1", "")
    assert groups.make("x", Resources(cpus=1)) is None


def test_the_second_version_limits_both_in_one_group(control: Path) -> None:
    (control / "cgroup.controllers").write_text("cpu memory")
    (control / "cgroup.procs").touch()
    groups = Groups("a")
    assert groups.limits_cpus == groups.limits_memory == "cgroup v2"
    group = groups.make("x", Resources(cpus=0.001, memory=1 << 20))
    assert group is not None
    assert group.entries == (str(control / "groundplane-a/x/cgroup.procs"),)
    assert (control / "groundplane-a/x/cpu.max").read_text() == "1000 100000"
    assert (control / "groundplane-a/x/memory.max").read_text() == "1048576"


def test_a_place_elsewhere_has_its_own_room() -> None:
    place = Capacity(Place(cpus=64, memory=100))
    assert place.never(Resources(cpus=64)) is None
    refused = place.never(Resources(cpus=65))
    assert refused is not None
    assert "64" in refused.message
    assert place.never(Resources(gpus=1)) is not None
    assert place.take(Resources(cpus=60)) == []
    assert place.take(Resources(cpus=8)) is None
    assert place.cores_for(Resources(cpus=8)) == []
    place.resize(Place(cpus=128, memory=200))
    assert place.take(Resources(cpus=8, memory=150)) == []
