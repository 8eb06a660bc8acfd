"""Labels of data flow with it, through steps, reuse and reruns, until somebody takes one off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from sqlalchemy import insert

from groundplane.model.errors import Conflict, GroundError, Invalid, NotFound
from groundplane.model.ids import new_id
from groundplane.services import artifacts, compiling, forecasts, labels, plans, runs
from groundplane.services.audit import views
from groundplane.services.platform import now
from groundplane.store import runs as run_rows
from groundplane.store import teams
from groundplane.store.account_tables import projects
from tests.planes import ME, Ground, task

CLEAN = """
[pipelines.p.steps.clean]
command = ["/fake/clean"]
inputs = { "visits.csv" = { from = "data/visits.csv", labels = ["phi"] } }
outputs = ["clean.csv"]
"""
MODEL = """
[pipelines.p.steps.model]
command = ["/fake/model"]
inputs = { "in.csv" = "clean/clean.csv" }
outputs = ["coef.csv"]
"""
APART = """
[pipelines.p.steps.apart]
command = ["/fake/apart"]
outputs = ["apart.csv"]
"""
STEPS = CLEAN + MODEL + APART


@pytest.fixture(autouse=True)
def work(ground: Ground) -> None:
    ground.write({"data/visits.csv": "id\n1\n"})
    ground.play(
        clean={"outputs": {"clean.csv": "id\n1\n"}, "stdout": "id 1\n"},
        model={"outputs": {"coef.csv": "x\n0.5\n"}},
        apart={"outputs": {"apart.csv": "y\n2\n"}},
    )


def labelled(ground: Ground, ref: str) -> dict[str, tuple[str, ...]]:
    return {each.name: each.labels for each in artifacts.listing(ground.platform, ME, ref)}


def planned(ground: Ground, steps: str, **fields: str) -> dict[str, tuple[str, ...]]:
    document = forecasts.plan(ground.platform, ME, ground.request(steps, **fields))
    return {each.step: each.labels for each in document.steps}


def project(ground: Ground, name: str, words: Sequence[str]) -> None:
    """A project of a team, labelled."""
    with ground.platform.database.write() as connection:
        teams.add(connection, "bio", None, now())
        bio = teams.by_name(connection, "bio")
        connection.execute(insert(projects).values(name=name, team_id=bio.id, created_at=now()))  # type: ignore[union-attr]
    labels.set_project(ground.platform, ME, name, words)


def take_off(ground: Ground, ref: str, name: str, label: str = "phi") -> None:
    artifacts.declassify(ground.platform, ME, ref, name, label, "no person can be told from it")


def told(ground: Ground, action: str) -> list[dict[str, object]]:
    return [each for each in views.listing(ground.platform, ME, 100, None)["events"] if each["action"] == action]


FLOWN = {"clean/clean.csv": ("phi",), "model/coef.csv": ("phi",), "apart/apart.csv": ()}


def test_what_was_made_from_labelled_data_is_labelled(ground: Ground) -> None:
    assert planned(ground, STEPS) == {"clean": ("phi",), "model": ("phi",), "apart": ()}
    run = ground.run(STEPS)
    assert run.state == "succeeded"
    assert labelled(ground, run.id) == FLOWN
    assert run.labels == ("phi",)
    assert {each.name: each.labels for each in run.tasks} == {"clean": ("phi",), "model": ("phi",), "apart": ()}
    assert task(run, "model").inputs[0].labels == ("phi",)
    assert task(run, "model").outputs[0].labels == ("phi",)
    assert runs.listing(ground.platform, ME, None, 1, None).runs[0].labels == ("phi",)


def test_a_step_and_a_project_label_what_they_make(ground: Ground) -> None:
    steps = APART + 'labels = ["pan"]\n'
    run = ground.run(steps)
    assert labelled(ground, run.id) == {"apart/apart.csv": ("pan",)}
    project(ground, "trial", ["internal"])
    assert planned(ground, steps) == {"apart": ("internal", "pan")}
    run = ground.run(steps + MODEL + CLEAN)
    assert labelled(ground, run.id) == {
        "apart/apart.csv": ("internal", "pan"),
        "clean/clean.csv": ("internal", "phi"),
        "model/coef.csv": ("internal", "phi"),
    }
    assert (run.labels, run.team) == (("internal", "pan", "phi"), "bio")
    with pytest.raises(NotFound, match="no project 'nobodys'"):
        labels.set_project(ground.platform, ME, "nobodys", ["phi"])


def test_a_projects_own_file_labels_lone_scripts_too(ground: Ground) -> None:
    ground.write({"a.sh": "echo 1 > out.txt\n"})
    request = ground.request(script="a.sh")
    request = replace(request, project='[project]\nname = "trial"\nlabels = ["phi"]\n')
    document = forecasts.plan(ground.platform, ME, request)
    assert (document.labels, document.steps[0].labels) == (("phi",), ("phi",))


def test_what_is_said_of_a_file_holds_for_all_that_read_it(ground: Ground) -> None:
    other = (
        '[pipelines.p.steps.other]\ncommand = ["/fake/apart"]\ninputs = { "v.csv" = "data/visits.csv" }\n'
        'outputs = ["apart.csv"]\n'
    )
    assert planned(ground, CLEAN + other) == {"clean": ("phi",), "other": ("phi",)}


def test_a_fan_out_has_the_labels_of_the_step_that_its_items_come_from(ground: Ground) -> None:
    ground.play(clean={"outputs": {"parts/a.csv": "1\n", "parts/b.csv": "2\n"}}, score={"outputs": {"s.csv": "3\n"}})
    steps = CLEAN.replace('"clean.csv"]', '"parts/*.csv"]') + (
        '[pipelines.p.steps.score]\ncommand = ["/fake/score"]\nfor_each = { part = "clean/parts/*.csv" }\n'
        'inputs = { "in.csv" = "{part}" }\noutputs = ["s.csv"]\n'
        '[pipelines.p.steps.all]\ncommand = ["/fake/model"]\ninputs = { "s/" = "score/s.csv" }\n'
        'outputs = ["coef.csv"]\n'
    )
    assert planned(ground, steps) == {"clean": ("phi",), "score": ("phi",), "all": ("phi",)}
    run = ground.run(steps)
    assert run.state == "succeeded"
    assert set(labelled(ground, run.id).values()) == {("phi",)}
    assert len(labelled(ground, run.id)) == 5


def test_labels_flow_through_reuse_and_change_no_key(ground: Ground) -> None:
    assert labelled(ground, ground.run(STEPS).id) == FLOWN
    plain = ground.run(STEPS.replace(', labels = ["phi"]', ""))
    assert all(each.reused for each in plain.tasks)
    assert labelled(ground, plain.id) == FLOWN, "what is reused was made from phi"
    assert plain.labels == ("phi",), "the run has what it was given"
    more = ground.run(STEPS.replace('["phi"]', '["pan"]'))
    assert all(each.reused for each in more.tasks)
    assert labelled(ground, more.id) == {**FLOWN, "clean/clean.csv": ("pan", "phi"), "model/coef.csv": ("pan", "phi")}


def test_labels_flow_through_reruns(ground: Ground) -> None:
    ground.play(model={"exit": 1})
    failed = ground.run(STEPS)
    assert failed.state == "failed"
    ground.play(model={"outputs": {"coef.csv": "x\n0.5\n"}})
    again = ground.rerun(failed.id, failed=True)
    assert labelled(ground, again.id) == FLOWN
    assert labelled(ground, ground.rerun(failed.id).id) == FLOWN


def test_a_label_that_was_taken_off_comes_back_neither_by_rerun_nor_by_reuse(ground: Ground) -> None:
    ground.play(model={"exit": 1})
    failed = ground.run(STEPS)
    take_off(ground, failed.id, "clean/clean.csv")
    assert labelled(ground, failed.id)["clean/clean.csv"] == ()
    with ground.platform.database.read() as connection:
        row = run_rows.by_uid(connection, failed.id)
        assert row is not None
        plan = plans.load(connection, row.plan)
        made = labels.made_in(connection, row.id, plan)
    assert made == {"clean": frozenset(), "apart": frozenset()}
    assert labels.labels_of(plan, plan.step(plan.positions["model"])) == {"phi"}
    assert labels.labels_of(plan, plan.step(plan.positions["model"]), made) == set()
    kept = ground.rerun(failed.id, failed=True)
    assert (kept.state, kept.labels) == ("failed", ())
    ground.play(model={"outputs": {"coef.csv": "x\n0.5\n"}})
    reused = ground.run(STEPS)
    assert task(reused, "clean").reused
    assert labelled(ground, reused.id) == dict.fromkeys(FLOWN, ())


def test_what_was_made_before_keeps_its_label(ground: Ground) -> None:
    run = ground.run(STEPS)
    take_off(ground, run.id, "clean/clean.csv")
    assert labelled(ground, run.id) == {**FLOWN, "clean/clean.csv": ()}
    event = told(ground, "artifact.declassify")[0]
    assert (event["object"], event["outcome"], event["actor"]) == (f"{run.id}/clean/clean.csv", "done", "tester")
    facts = event["details"]
    assert isinstance(facts, dict)
    assert (facts["label"], facts["reason"]) == ("phi", "no person can be told from it")
    other = ground.request(STEPS)
    spec = (other.spec or "").replace('"trial"', '"other"')
    uid = runs.submit(ground.platform, ME, new_id(), replace(other, spec=spec, fresh=True)).id
    ground.wait(uid)
    assert labelled(ground, uid) == FLOWN, "it was taken off in one project alone"


def test_what_cannot_be_taken_off(ground: Ground) -> None:
    run = ground.run(STEPS)
    for name, label, reason, kind in (
        ("apart/apart.csv", "phi", "why", Conflict),
        ("clean/clean.csv", "pan", "why", Conflict),
        ("clean/clean.csv", "PHI", "why", Invalid),
        ("clean/clean.csv", "phi", " ", Invalid),
        ("clean/none.csv", "phi", "why", NotFound),
    ):
        with pytest.raises(GroundError) as refused:
            artifacts.declassify(ground.platform, ME, run.id, name, label, reason)
        assert type(refused.value) is kind
        assert refused.value.hint
    assert labelled(ground, run.id) == FLOWN
    assert told(ground, "artifact.declassify") == []


def test_reads_of_labelled_data_are_events_and_others_are_none(ground: Ground) -> None:
    run = ground.run(STEPS)
    for name in FLOWN:
        artifacts.find(ground.platform, ME, run.id, name)
    read = told(ground, "artifact.read")
    assert [each["object"] for each in read] == [f"{run.id}/model/coef.csv", f"{run.id}/clean/clean.csv"]
    facts = read[0]["details"]
    assert isinstance(facts, dict)
    assert facts["labels"] == ["phi"]
    runs.find(ground.platform, ME, run.id, "log.read")
    assert [each["object"] for each in told(ground, "log.read")] == [run.id]
    plain = ground.run(APART)
    runs.find(ground.platform, ME, plain.id, "log.read")
    assert len(told(ground, "log.read")) == 1


@pytest.mark.parametrize("steps", [CLEAN, APART + 'labels = ["phi"]\n', APART])
def test_what_has_labels_is_not_compiled_for_another_system(ground: Ground, steps: str) -> None:
    if steps == APART:
        project(ground, "trial", ["phi"])
    with pytest.raises(Invalid, match="KFP cannot hold the labels phi") as refused:
        compiling.compile_(ground.platform, ME, ground.request(steps), "kubeflow")
    assert (refused.value.code, bool(refused.value.hint)) == ("kubeflow_cannot", True)


def test_a_name_that_is_no_utf8_can_be_told(ground: Ground) -> None:
    name = "caf\udce9.csv"
    ground.play(clean={"outputs": {name: "1\n"}})
    run = ground.run(CLEAN.replace('"clean.csv"]', '"*.csv"]'))
    artifacts.find(ground.platform, ME, run.id, f"clean/{name}")
    take_off(ground, run.id, f"clean/{name}")
    assert labelled(ground, run.id) == {f"clean/{name}": ()}
    told_of = told(ground, "artifact.read") + told(ground, "artifact.declassify")
    assert {str(each["object"]) for each in told_of} - {run.id} == {f"{run.id}/clean/caf\\xe9.csv"}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('labels = ["PHI"]', "'PHI' is no label"),
        ('labels = [""]', "'' is no label"),
        ('labels = "phi"', "is not an array"),
        ('inputs = { "x.csv" = { from = "data/visits.csv", labels = ["a b"] } }', "'a b' is no label"),
        ('inputs = { "x.csv" = { from = "data/visits.csv", label = ["phi"] } }', "unknown key 'label'"),
        ('inputs = { "x.csv" = { labels = ["phi"] } }', "has no `from`"),
        ('inputs = { "x.csv" = 3 }', "3 is not a text in quotes, nor a table"),
    ],
)
def test_what_is_no_label_is_told_with_its_place(ground: Ground, line: str, says: str) -> None:
    with pytest.raises(Invalid) as refused:
        ground.submit(f'[pipelines.p.steps.s]\ncommand = ["/fake/s"]\n{line}\n')
    assert says in refused.value.message
    assert "pipelines.p.steps.s" in refused.value.message
