"""One request that cannot be served is answered, and the agent goes on."""

from __future__ import annotations

from pathlib import Path

from groundplane.spi.launch import Phase
from tests.conformance.driver_bench import launch
from tests.integration.agent_bench import agent_bench


def test_the_same_attempt_twice_in_one_cleanup(tmp_path: Path) -> None:
    with agent_bench(tmp_path / "home") as bench:
        pid = bench.agent_pid
        done = launch("true")
        bench.submit(done)
        bench.until(done.attempt, Phase.ENDED)
        bench.driver.cleanup([done.attempt, done.attempt])
        bench.driver.cleanup([done.attempt])
        assert bench.agent_pid == pid
        assert bench.driver.observe([done.attempt])[0].phase is Phase.UNKNOWN
