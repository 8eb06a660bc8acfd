"""Labels as policies see them: of launches, artifacts and logs."""

from __future__ import annotations

import pytest

from groundplane.model.errors import Denied
from groundplane.services import artifacts, policies, runs
from tests.integration.test_labels import CLEAN, STEPS, take_off, work
from tests.planes import ME, Ground, states

_ = work  # the fixture that both files use

NO_PHI = """
@id("no-phi-here")
forbid (principal, action == Action::"run.submit", resource)
when { resource.labels.contains("phi") && resource.backend == "local" };
"""
NO_READS = """
@id("phi-is-not-read")
forbid (principal, action in [Action::"artifact.read", Action::"log.read"], resource)
when { resource.labels.contains("phi") };
"""


def test_a_launch_is_denied_for_what_flows_to_it(ground: Ground) -> None:
    ground.play(model={"exit": 1})
    failed = ground.run(STEPS)
    policies.add(ground.platform, ME, "phi", NO_PHI)
    with pytest.raises(Denied, match="no-phi-here"):
        ground.submit(CLEAN)
    later = '[pipelines.p.steps.later]\ncommand = ["/fake/model"]\ninputs = { "c.csv" = "clean/clean.csv" }\n'
    with pytest.raises(Denied, match="no-phi-here"):
        ground.submit(CLEAN + later)
    with pytest.raises(Denied, match="no-phi-here"):
        ground.rerun(failed.id, failed=True)
    ground.play(model={"outputs": {"coef.csv": "x\n0.5\n"}})
    take_off(ground, failed.id, "clean/clean.csv")
    kept = ground.rerun(failed.id, failed=True)
    assert states(kept) == dict.fromkeys(("clean", "model", "apart"), "succeeded")


def test_an_artifact_is_read_by_its_own_labels_and_a_log_by_those_of_its_run(ground: Ground) -> None:
    run = ground.run(STEPS)
    policies.add(ground.platform, ME, "phi", NO_READS)
    artifacts.find(ground.platform, ME, run.id, "apart/apart.csv")
    with pytest.raises(Denied, match="phi-is-not-read"):
        artifacts.find(ground.platform, ME, run.id, "clean/clean.csv")
    take_off(ground, run.id, "clean/clean.csv")
    artifacts.find(ground.platform, ME, run.id, "clean/clean.csv")
    with pytest.raises(Denied, match="phi-is-not-read"):
        runs.find(ground.platform, ME, run.id, "log.read")
