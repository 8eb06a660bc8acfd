"""Inputs that are converted on their way in, by a process of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from groundplane.model.resources import Resources
from groundplane.spi import layout
from groundplane.spi.launch import StageIn
from tests.conformance.driver_bench import launch
from tests.integration.agent_bench import AgentBench, agent_bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[AgentBench]:
    with agent_bench(tmp_path / "home") as made:
        yield made


def _input(bench: AgentBench, path: str, data: bytes, source_name: str) -> StageIn:
    return StageIn(path, str(layout.blob(bench.home, bench.blob(data))), source_name=source_name)


def test_a_table_is_there_in_the_format_that_its_name_says(bench: AgentBench) -> None:
    inputs = (
        _input(bench, "in/clean.parquet", b"a,b\n1,x\n2,y\n", "raw.csv"),
        _input(bench, "raw.csv", b"a,b\n1,x\n", ""),
    )
    told = bench.run(launch("head -c 4 in/clean.parquet; cat raw.csv; ls", inputs=inputs, outputs=None))
    assert told.reason is None, told
    assert told.stdout.startswith("PAR1a,b\n1,x\n"), told
    assert told.outputs == ()


def test_a_table_that_cannot_be_read_is_named_and_nothing_runs(bench: AgentBench) -> None:
    inputs = (_input(bench, "clean.csv", b"this is no parquet", "broken.parquet"),)
    told = bench.run(launch("echo never", inputs=inputs))
    assert told.reason is not None
    assert "broken.parquet" in told.reason.message
    assert told.reason.fault == "user"
    assert (told.started_at, told.stdout, told.exit_code) == (0, "", None)


def test_a_converter_that_runs_out_of_memory_says_so(bench: AgentBench) -> None:
    if "cgroup" not in bench.driver.check().facts["limits"]:
        pytest.skip("no cgroup can be made here")
    inputs = (_input(bench, "clean.parquet", b"a,b\n1,x\n2,y\n", "raw.csv"),)
    told = bench.run(launch("echo never", inputs=inputs, resources=Resources(memory=12 << 20)))
    assert told.reason is not None
    assert told.reason.code == "out_of_memory"


def test_the_timeout_counts_for_conversions_too(bench: AgentBench) -> None:
    inputs = (_input(bench, "clean.parquet", b"a,b\n" + b"1,x\n" * 200_000, "raw.csv"),)
    told = bench.run(launch("echo never", inputs=inputs, resources=Resources(timeout=0.02)))
    assert told.reason is not None
    assert (told.reason.code, told.started_at) == ("timeout", 0)
