"""A container's description, and how its output goes on after an outage."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from groundplane.drivers import docker_output
from groundplane.drivers.docker_output import Output, seconds
from groundplane.drivers.docker_spec import Spec, container
from groundplane.model.errors import Unavailable

BODY: dict[str, Any] = {
    "url": "unix:///run/docker.sock", "tls": "", "image": "groundplane/x:1", "argv": ["sh", "-c", "true"],
    "attempt": "run.0.0.2", "agent": "a1", "tree": "/home/tree", "support": "/home/support", "verdict": "/home/verdict",
    "user": "1000:1000", "network": False, "pinned": False, "cpus": None, "memory": None, "told_by_output": False,
    "hosts": "",
}  # fmt: skip


def made(**fields: Any) -> dict[str, Any]:
    return container(Spec({**BODY, **fields}))


def test_it_is_closed_and_sees_its_own_folders_alone() -> None:
    body = made(hosts="/home/hosts")
    host = body["HostConfig"]
    assert (body["User"], body["WorkingDir"], body["Entrypoint"], body["Cmd"]) == (
        "1000:1000", "/ground/work", ["sh"], ["-c", "true"],
    )  # fmt: skip
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["CapDrop"]) == ("none", True, ["ALL"])
    assert [(each["Source"], each["Target"]) for each in host["Mounts"]] == [
        ("/home/tree", "/ground/work"),
        ("/home/support", "/ground/support"),
        ("/home/hosts", "/etc/hosts"),
    ]
    assert body["NetworkDisabled"]
    assert body["Labels"] == {"ground.attempt": "run.0.0.2", "ground.task": "run.0.0", "ground.agent": "a1"}
    assert not {"NanoCpus", "Memory", "CpusetCpus", "DeviceRequests"} & set(host)


def test_limits_are_the_engines() -> None:
    body = made(cpus=0.5, memory=64 << 20, network=True, pinned=True)
    host = body["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (500_000_000, 64 << 20, 64 << 20)
    assert (host["NetworkMode"], body["NetworkDisabled"], len(host["Mounts"])) == ("bridge", False, 2)
    assert host["CpusetCpus"] == ",".join(map(str, sorted(os.sched_getaffinity(0))))


def test_gpus_that_the_agent_gave_are_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-7")
    (asked,) = made()["HostConfig"]["DeviceRequests"]
    assert (asked["Driver"], asked["DeviceIDs"], asked["Capabilities"]) == ("nvidia", ["1", "GPU-7"], [["gpu"]])


def test_an_engine_elsewhere_gets_a_volume_instead_of_this_hosts_folders() -> None:
    body = made(url="tcp://host:2375")
    assert body["HostConfig"]["Mounts"] == [{"Type": "volume", "Target": "/ground"}]
    assert (body["HostConfig"]["NetworkMode"], body["NetworkDisabled"]) == ("none", False)


def test_variables_are_the_marked_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUND_WORK_LINES", "a\nb=c")
    monkeypatch.setenv("GROUND_WORK_TMPDIR", "/mine")
    env = made()["Env"]
    assert "LINES=a\nb=c" in env
    assert [each for each in env if each.startswith(("TMPDIR", "PATH"))] == ["TMPDIR=/ground/support/tmp"]
    monkeypatch.setenv("GROUND_WORK_ODD", "\udcff")
    with pytest.raises(UnicodeEncodeError):
        made()


class _Log:
    """An engine's log: (stream, instant, bytes) each."""

    def __init__(self, *entries: tuple[int, float, bytes], breaks: bool = False) -> None:
        self._entries, self._breaks = entries, breaks

    def framed(self, method: str, path: str, query: Mapping[str, object]) -> Iterator[tuple[int, bytes]]:
        assert query["timestamps"]
        for number, at, data in self._entries:
            yield number, b"2026-01-01T00:00:%012.9fZ " % at + data
        if self._breaks:
            raise Unavailable("gone")


def replayed(attached: Mapping[int, int], broke_at: float, *logs: _Log, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What is written after a stream broke that had given so many bytes."""
    written: list[bytes] = []

    def write(number: int, data: bytes) -> int:
        written.append(data)
        return len(data)

    monkeypatch.setattr(docker_output.os, "write", write)
    output = Output(logs[0], "c")  # type: ignore[arg-type]
    output._attached.update(attached)
    output._broke_at = seconds("2026-01-01T00:00:00Z") + broke_at
    for log in logs:
        output._engine = log  # type: ignore[assignment]
        output.go_on(0.0)
    return b"".join(written)


def test_the_log_goes_on_where_the_stream_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    log = _Log((1, 1.0, b"one\n"), (1, 1.5, b"two\n"), (1, 9.0, b"three\n"))
    for had, left in ((0, b"one\ntwo\nthree\n"), (4, b"two\nthree\n"), (6, b"o\nthree\n"), (8, b"three\n")):
        assert replayed({1: had}, 2.0, log, monkeypatch=monkeypatch) == left


def test_an_unfinished_line_that_no_log_has_shifts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    log = _Log((1, 1.0, b"one\n"), (1, 9.0, b" and half\n"))
    assert replayed({1: len(b"one\nhalf")}, 2.0, log, monkeypatch=monkeypatch) == b" and half\n"


def test_each_outage_goes_on_from_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    first = _Log((1, 1.0, b"one\n"), (1, 9.0, b"two\n"), breaks=True)
    second = _Log((1, 1.0, b"one\n"), (1, 9.0, b"two\n"), (2, 12.0, b"error\n"), (1, 12.5, b"three\n"))
    assert replayed({1: 2}, 2.0, first, second, monkeypatch=monkeypatch) == b"e\ntwo\nerror\nthree\n"


def test_streams_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    log = _Log((2, 1.0, b"error\n"), (1, 1.1, b"one\n"))
    assert replayed({1: 4, 2: 0}, 2.0, log, monkeypatch=monkeypatch) == b"error\n"


@pytest.mark.parametrize("text", ["2026-01-01T01:00:01.5Z", "2026-01-01T03:00:01.500000000+02:00"])
def test_instants_of_any_zone(text: str) -> None:
    assert seconds(text) == seconds("2026-01-01T01:00:01.500000000Z")
