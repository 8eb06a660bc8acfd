"""Gigabytes beside a script: an overlay as root, proved not to write what is below."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from groundplane.spi import layout
from groundplane.spi.launch import StageIn
from tests.conformance.driver_bench import launch
from tests.integration.agent_bench import AgentBench, agent_bench, eventually
from tests.parts import require


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[AgentBench]:
    require("root")
    with agent_bench(tmp_path / "home") as made:
        yield made


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "pro,je:ct"
    (folder / "data").mkdir(parents=True)
    for n in range(40):
        (folder / f"file{n:02}.txt").write_text(f"{n}\n")
    (folder / "tool.sh").write_text("#!/bin/sh\necho tool\n")
    (folder / "tool.sh").chmod(0o755)
    with (folder / "data" / "big.bin").open("wb") as file:
        file.truncate(80 << 20)
        file.seek(0)
        file.write(b"head")
    return folder


def _mounted(bench: AgentBench, attempt: str) -> bool:
    return str(layout.tree(bench.home, attempt)) in Path("/proc/self/mountinfo").read_text()


def test_a_file_used_in_place_is_read_but_never_written(bench: AgentBench, project: Path) -> None:
    big = project / "data" / "big.bin"
    before = big.stat()
    digest = bench.snapshot(project, in_place=("data/big.bin",))
    script = "head -c 4 data/big.bin; stat -c ' %s' data/big.bin; ./tool.sh; "
    script += "printf HEAD | dd of=data/big.bin conv=notrunc 2>/dev/null; head -c 4 data/big.bin; "
    script += "echo x > file00.txt; rm file01.txt; echo n > new.txt"
    wanted = launch(script, snapshot=digest, outputs=None)
    told = bench.run(wanted)
    assert told.stdout == f"head {80 << 20}\ntool\nHEAD", told
    assert [o.name for o in told.outputs] == ["data/big.bin", "file00.txt", "new.txt"]
    assert told.changed == ()
    after = big.stat()
    assert (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
    assert big.read_bytes()[:4] == b"head"
    again = bench.run(launch("cat file00.txt file01.txt; head -c 4 data/big.bin", snapshot=digest))
    assert again.stdout == "0\n1\nhead"


def test_an_overlay_is_what_was_used_and_is_gone_after_cleanup(bench: AgentBench, project: Path) -> None:
    digest = bench.snapshot(project, in_place=("data/big.bin",))
    wanted = launch("stat -f -c %T .; touch file00.txt; chmod 600 file02.txt", snapshot=digest, outputs=None)
    told = bench.run(wanted)
    assert told.stdout == "overlayfs\n"
    bench.driver.cleanup([wanted.attempt])
    eventually(lambda: not layout.attempt(bench.home, wanted.attempt).exists())
    assert not _mounted(bench, wanted.attempt)


def test_a_file_in_place_that_changes_meanwhile_is_told(bench: AgentBench, project: Path) -> None:
    digest = bench.snapshot(project, in_place=("data/big.bin",))
    told = bench.run(launch(f"echo more >> '{project}/data/big.bin'", snapshot=digest))
    assert told.changed == ("data/big.bin",)


def test_a_large_input_is_shown_without_a_copy_and_written_only_above(bench: AgentBench, project: Path) -> None:
    digest = bench.snapshot(project)
    data = b"y" * (2 << 20)
    blob = layout.blob(bench.home, bench.blob(data))
    outside = project.parent / "outside.bin"
    outside.write_bytes(b"z" * (2 << 20))
    inputs = (StageIn("in/large.bin", str(blob)), StageIn("in/small.txt", text="s"), StageIn("out.bin", str(outside)))
    script = "wc -c < in/large.bin; printf Y | dd of=in/large.bin conv=notrunc 2>/dev/null; head -c 2 in/large.bin; "
    wanted = launch(
        script + "cat in/small.txt; head -c 1 out.bin; echo q > out.bin", snapshot=digest, inputs=inputs, outputs=None
    )
    told = bench.run(wanted)
    assert told.stdout == f"{2 << 20}\nYysz", told
    assert [o.name for o in told.outputs] == ["in/large.bin", "out.bin"]
    assert blob.read_bytes() == data
    assert outside.read_bytes()[:1] == b"z"


def test_a_renamed_folder_of_the_snapshot_is_new(bench: AgentBench, project: Path) -> None:
    (project / "sub").mkdir()
    (project / "sub" / "a.txt").write_text("a")
    digest = bench.snapshot(project, in_place=("data/big.bin",))
    told = bench.run(launch("mv sub renamed", snapshot=digest, outputs=None))
    assert [o.name for o in told.outputs] == ["renamed/a.txt"]
