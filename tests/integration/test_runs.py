"""What a run goes through, on both databases, with work that the fake driver plays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from groundplane.model.documents import RunPage
from groundplane.model.errors import Conflict, Invalid, NotFound
from groundplane.model.ids import new_id
from groundplane.services import artifacts, runs
from groundplane.services.settling import MOST_LOSSES
from groundplane.spi.driver import Changes, Health
from groundplane.spi.launch import Observation, Phase
from tests.planes import ME, Ground, states, task

PART = 'inputs = { "p.csv" = "{part}" }'


def step(name: str, more: str = "", program: str = "") -> str:
    """A step whose work the fake plays."""
    return f'[pipelines.p.steps.{name}]\ncommand = ["/fake/{program or name}"]\n{more}\n'


def chain(*names: str) -> str:
    """Steps one after the other."""
    return "".join(step(name, f'after = ["{names[index - 1]}"]' if index else "") for index, name in enumerate(names))


# --- submit -------------------------------------------------------------------------------------------------------


def test_submit_is_idempotent_by_id(ground: Ground) -> None:
    uid = new_id()
    steps = step("one")
    first = ground.submit(steps, uid=uid)
    second = ground.submit(steps, uid=uid)
    assert first == second == uid
    ground.wait(uid)
    ground.submit(steps, uid=uid)  # and when it has ended
    assert len(ground.starts(uid)) == 1
    assert [run.id for run in runs.listing(ground.platform, ME, None, 10, None).runs] == [uid]


def test_the_document_of_a_run(ground: Ground) -> None:
    ground.play(one={"stdout": "hello\n", "exit": 0})
    run = ground.run(step("one"))
    assert (run.state, run.reason, run.project, run.pipeline, run.backend) == ("succeeded", None, "trial", "p", "local")
    assert run.actor == "tester"
    assert run.submitted_at <= (run.started_at or "") <= (run.finished_at or "")
    (only,) = run.tasks
    assert (only.name, only.toolchain, only.exit_code, only.attempts, only.reused) == ("one", "command", 0, 1, False)
    assert set(only.usage) == {"wall_seconds", "cpu_seconds", "memory_bytes"}


@pytest.mark.parametrize("name", ["missing", "clean/none.csv"])
def test_what_cannot_work_is_refused_before_anything_starts(ground: Ground, name: str) -> None:
    with pytest.raises(Invalid):
        ground.submit(step("clean") + step("two", f'inputs = {{ "x.csv" = "{name}" }}'))
    assert runs.listing(ground.platform, ME, None, 10, None).runs == ()


def test_what_could_never_fit_is_refused(ground: Ground) -> None:
    with pytest.raises(Invalid) as refused:
        ground.submit(step("one", "resources = { gpus = 9 }"))
    assert refused.value.code == "gpu_unsuitable"
    assert "'one' asks for 9 GPUs" in refused.value.message
    with pytest.raises(Invalid) as refused:
        ground.submit(step("one", "resources = { cpus = 9000 }"))
    assert refused.value.code == "never_fits"
    assert "'one' asks for 9000 CPUs" in refused.value.message
    with pytest.raises(Invalid) as refused:
        ground.submit(step("one", "resources = { nodes = 4 }"))
    assert refused.value.code == "never_fits"
    assert "'one' asks for 4 nodes" in refused.value.message
    assert "kubernetes" in (refused.value.hint or "")
    assert ground.starts("") == []


def test_a_backend_says_how_much_a_task_can_have_there(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = step("one", 'resources = { cpus = 2, memory = "23.4GiB" }')
    for cpus, memory, said in (
        (1.99, 64 << 30, "asks for 2 CPUs; backend 'local' has 1.99 for a task"),
        (2.0, 25_121_000_000, "asks for 25,125,558,681 B memory; backend 'local' has 25,121,000,000 B for a task"),
    ):
        health = Health(True, "ready", cpus=cpus, memory=memory)
        monkeypatch.setattr(ground.driver, "check", lambda health=health: health)
        with pytest.raises(Invalid) as refused:
            ground.submit(asked)
        assert said in refused.value.message
        assert refused.value.code == "never_fits"
    health = Health(True, "ready")  # a cluster whose nodes may not be listed
    monkeypatch.setattr(ground.driver, "check", lambda: health)
    assert ground.submit(asked)


def test_a_program_that_the_caller_has_not_fails_the_whole_run(ground: Ground) -> None:
    steps = (
        '[pipelines.p.steps.one]\ncommand = ["no-such-program"]\n'
        + step("two", 'after = ["one"]')
        + step("apart")
        + step("fan", 'for_each = { part = "apart/*.csv" }')
        + step("apart2", 'after = ["fan"]')
    ).replace('command = ["/fake/apart"]\n', 'command = ["/fake/apart"]\noutputs = ["*.csv"]\n')
    run = ground.run(steps)
    assert run.state == "failed"
    assert run.reason is not None
    assert (run.reason.code, run.reason.fault) == ("missing_engine", "backend")
    assert "no-such-program" in run.reason.message
    assert run.reason.hint
    assert states(run) == {"one": "failed", "two": "cancelled", "apart": "cancelled", "apart2": "cancelled"}
    assert ground.starts(run) == []


# --- order, failure, retries --------------------------------------------------------------------------------------


def test_steps_run_in_their_order(ground: Ground) -> None:
    run = ground.run(chain("a", "b", "c") + step("d", 'after = ["a", "c"]'))
    assert ground.starts(run) == ["0.0.1", "1.0.1", "2.0.1", "3.0.1"]
    assert run.state == "succeeded"


def test_a_failure_cancels_what_is_behind_it_and_nothing_else(ground: Ground) -> None:
    ground.play(a={"exit": 3, "stderr": "boom\n"}, other={"delay": 0.1})
    run = ground.run(chain("a", "b", "c") + chain("other", "more"))
    assert states(run) == {
        "a": "failed", "b": "cancelled", "c": "cancelled", "other": "succeeded", "more": "succeeded",
    }  # fmt: skip
    assert run.state == "failed"
    assert run.reason is not None
    assert run.reason.message.startswith("a: ")
    assert (run.reason.code, run.reason.fault, task(run, "a").exit_code) == ("error", "user", 3)
    behind = task(run, "c").reason
    assert behind is not None
    assert (behind.code, behind.fault) == ("upstream_failed", "user")
    assert "`ground run` again" in behind.hint and "rerun" not in behind.hint, "it would take the files as they were"
    assert task(run, "c").attempts == 0


def test_retries_count_and_the_last_failure_stays(ground: Ground) -> None:
    ground.play(a={"exit": [1, 1, 0]}, b={"exit": [4, 5, 6]})
    run = ground.run(step("a", "retries = 2") + step("b", "retries = 1"))
    assert states(run) == {"a": "succeeded", "b": "failed"}
    assert (task(run, "a").attempts, task(run, "a").exit_code, task(run, "a").reason) == (3, 0, None)
    assert (task(run, "b").attempts, task(run, "b").exit_code) == (2, 5)


def test_what_was_lost_is_tried_again_without_counting(ground: Ground) -> None:
    ground.play(a={"lost": True})
    run = ground.run(step("a"))
    assert (run.state, task(run, "a").state, task(run, "a").attempts) == ("lost", "lost", 1 + MOST_LOSSES)
    assert run.reason is not None
    assert run.reason.code == "lost"


def test_an_answer_from_before_the_end_that_comes_after_it_changes_nothing(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(found: Sequence[Observation]) -> tuple[Observation, ...]:
        return (*found, *(replace(each, phase=phase) for each in found for phase in (Phase.ACCEPTED, Phase.RUNNING)))

    seat = ground.driver
    changes, observe = seat.changes, seat.observe

    def told(cursor: str, timeout: float) -> Changes:
        found = changes(cursor, timeout)
        return replace(found, observations=late(found.observations))

    monkeypatch.setattr(seat, "changes", told)
    monkeypatch.setattr(seat, "observe", lambda attempts: late(observe(attempts)), raising=False)
    assert ground.run(chain("one", "two")).state == "succeeded"


def test_losses_leave_the_retries_as_they_were(ground: Ground) -> None:
    ground.play(a={"reason": ["node_gone", "the node is gone"], "exit": 1})
    run = ground.run(step("a", "retries = 2"))
    assert task(run, "a").attempts == 3  # a reason without fault is the user's: it counts


def test_a_step_that_must_not_run_twice_is_not_tried_again_when_lost(ground: Ground) -> None:
    ground.play(a={"lost": True})
    run = ground.run(step("a", "rerun = false") + step("b", 'after = ["a"]'))
    assert (run.state, task(run, "a").attempts) == ("lost", 1)
    behind = task(run, "b").reason
    assert behind is not None and behind.hint == f"ground runs rerun {run.id} --failed"


def test_a_launch_that_the_backend_refuses_is_tried_again_and_tells_why(ground: Ground) -> None:
    ground.play(a={"refuse": "no_room"})
    run = ground.run(step("a"))
    assert (run.state, task(run, "a").attempts) == ("failed", 1 + MOST_LOSSES)
    assert run.reason is not None
    assert (run.reason.code, run.reason.fault) == ("no_room", "backend")


def test_a_missing_output_is_a_failure(ground: Ground) -> None:
    ground.play(a={"missing": ["out.csv"]})
    run = ground.run(step("a", 'outputs = ["out.csv"]'))
    assert run.reason is not None
    assert (run.state, run.reason.code) == ("failed", "missing_output")
    assert "'out.csv'" in run.reason.message
    assert run.tasks[0].outputs == ()


def test_outputs_of_a_failed_task_are_no_artifacts(ground: Ground) -> None:
    ground.play(a={"exit": 1, "outputs": {"out.csv": "1"}})
    run = ground.run(step("a", 'outputs = ["out.csv"]'))
    assert artifacts.listing(ground.platform, ME, run.id) == []


# --- fan-outs -----------------------------------------------------------------------------------------------------


def test_a_fan_out_over_values_with_no_more_than_max_parallel_at_once(ground: Ground) -> None:
    ground.play(a={"delay": 0.05})
    uid = ground.submit(step("a", 'for_each = { n = ["x", "y", "z", "u", "v"] }\nmax_parallel = 2'))
    most = 0
    while runs.state(ground.platform, uid) not in ("succeeded", "failed"):
        active = [s for s in states(ground.show(uid)).values() if s in ("starting", "running")]
        most = max(most, len(active))
    assert most <= 2
    run = ground.wait(uid)
    assert [each.name for each in run.tasks] == ["a[0]", "a[1]", "a[2]", "a[3]", "a[4]"]
    assert run.task_count == 5
    assert run.state == "succeeded"


def test_a_fan_out_over_what_a_step_made(ground: Ground) -> None:
    ground.play(
        cut={"outputs": {"parts/b.csv": "2", "parts/a.csv": "1", "parts/.hidden.csv": "0", "other.txt": "-"}},
        score={"outputs": {"score.csv": "s"}},
    )
    run = ground.run(
        step("cut", 'outputs = ["parts/*.csv", "other.txt"]')
        + step("score", 'for_each = { part = "cut/parts/*.csv" }\noutputs = ["score.csv"]\n' + PART)
        + step("end", 'inputs = { "all/" = "score/score.csv" }')
    )  # fmt: skip
    assert run.state == "succeeded", run.reason
    assert [each.name for each in run.tasks] == ["cut", "score[0]", "score[1]", "end"]
    assert [each.source for each in task(run, "score[0]").inputs] == ["cut/parts/a.csv"]
    assert [(each.name, each.source) for each in task(run, "end").inputs] == [
        ("all/0-score.csv", "score[0]/score.csv"),
        ("all/1-score.csv", "score[1]/score.csv"),
    ]


def test_a_fan_out_over_the_projects_files(ground: Ground) -> None:
    ground.write({"data/b.csv": "2", "data/a.csv": "1", "data/deep/c.csv": "3"})
    run = ground.run(step("a", 'for_each = { part = "data/*.csv" }\ninputs = { "p.csv" = "{part}" }'))
    assert [each.source for t in run.tasks for each in t.inputs] == ["data/a.csv", "data/b.csv"]


@pytest.mark.parametrize("each", ["{ n = [] }", '{ n = "made/*.csv" }'])
def test_an_empty_fan_out_succeeds_and_what_is_behind_goes_on(ground: Ground, each: str) -> None:
    run = ground.run(
        step("made", 'outputs = ["*.csv"]')
        + step("none", f'for_each = {each}\noutputs = ["s.csv"]')
        + step("end", 'inputs = { "all/" = "none/s.csv" }')
        + step("last", 'after = ["none", "end"]')
    )
    assert states(run) == {"made": "succeeded", "end": "succeeded", "last": "succeeded"}
    assert run.state == "succeeded"


def test_a_pipeline_of_nothing_but_an_empty_fan_out_succeeds(ground: Ground) -> None:
    run = ground.run(step("none", "for_each = { n = [] }"))
    assert (run.state, run.tasks) == ("succeeded", ())


def test_one_failure_in_a_fan_out_lets_the_others_end_and_stops_what_is_behind(ground: Ground) -> None:
    ground.write({"data/0.csv": "", "data/1.csv": "", "data/2.csv": ""})
    ground.play(a={"delay": 0.05}, bad={"exit": 1})
    steps = step("a", 'for_each = { n = ["a", "bad", "c"] }', program="{n}") + step("b", 'after = ["a"]')
    ground.play(c={"delay": 0.1})
    run = ground.run(steps)
    assert states(run) == {"a[0]": "succeeded", "a[1]": "failed", "a[2]": "succeeded", "b": "cancelled"}


# --- metrics ------------------------------------------------------------------------------------------------------


def test_metrics_of_all_tasks_are_merged(ground: Ground) -> None:
    ground.play(
        a={"outputs": {"metrics.json": json.dumps({"auc": 0.5, "fit": {"n": 3, "name": "x"}, "list": [1, 2]})}},
        b={"outputs": {"b.metrics.json": json.dumps({"auc": [0.75], "nan": float("nan")})}},
        c={"outputs": {"metrics.json": "no json"}},
    )
    outputs = {"a": "metrics.json", "b": "b.metrics.json", "c": "metrics.json"}
    run = ground.run(
        step("a", f'outputs = ["{outputs["a"]}"]')
        + step("b", f'outputs = ["{outputs["b"]}"]\nafter = ["a"]')
        + step("c", f'outputs = ["{outputs["c"]}"]')
    )
    assert run.state == "succeeded"
    assert run.metrics == {"auc": 0.5, "fit.n": 3, "fit.name": "x", "b.auc": 0.75, "nan": None}


@pytest.mark.parametrize("slow", ["a", "b", "0", "1", "2"])
def test_which_task_ends_first_changes_no_name_of_a_metric(ground: Ground, slow: str) -> None:
    for name in ("a", "b", "0", "1", "2"):
        files = {"metrics.json": f'{{"acc": "{name}", "own": 1}}', "more.metrics.json": f'{{"acc": "more {name}"}}'}
        ground.play(**{name: {"outputs": files, "delay": 0.3 if name == slow else 0}})
    outputs = 'outputs = ["metrics.json", "more.metrics.json"]'
    run = ground.run(
        step("score", f'for_each = {{ n = ["0", "1", "2"] }}\n{outputs}', program="{n}")
        + step("a", outputs)
        + step("b", outputs)
    )
    assert list(run.metrics.items()) == [
        ("acc", "a"), ("own", 1), ("a.acc", "more a"), ("b.acc", "b"), ("b.own", 1),
        ("b/more.metrics.json.acc", "more b"),
        *(
            entry
            for number in range(3)
            for entry in (
                (f"score[{number}].acc", str(number)), (f"score[{number}].own", 1),
                (f"score[{number}]/more.metrics.json.acc", f"more {number}"),
            )
        ),
    ]  # fmt: skip


# --- cancel -------------------------------------------------------------------------------------------------------


def test_cancelling_ends_what_runs_and_never_starts_the_rest(ground: Ground) -> None:
    ground.play(a={"delay": 60})
    uid = ground.submit(step("a") + step("b", 'after = ["a"]'))
    ground.until_task(uid, "a", "running")
    assert ground.cancel(uid).state == "stopping"
    run = ground.wait(uid)
    assert (run.state, states(run)) == ("cancelled", {"a": "cancelled", "b": "cancelled"})
    assert run.reason is not None
    assert run.reason.code == "cancelled"
    assert ground.starts(run) == ["0.0.1"]
    assert ground.cancel(uid).state == "cancelled"  # and once more changes nothing


def test_cancelling_with_a_fan_out_that_is_not_expanded_yet(ground: Ground) -> None:
    ground.play(a={"delay": 60, "outputs": {"x.csv": "1"}})
    uid = ground.submit(
        step("a", 'outputs = ["*.csv"]') + step("f", 'for_each = { x = "a/*.csv" }') + step("z", 'after = ["f"]')
    )
    ground.until_task(uid, "a", "running")
    ground.cancel(uid)
    run = ground.wait(uid)
    assert (run.state, states(run)) == ("cancelled", {"a": "cancelled", "z": "cancelled"})


def test_cancelling_before_anything_started(ground: Ground) -> None:
    assert ground.backend
    ground.backend.reachable = False
    uid = ground.submit(chain("a", "b"))
    ground.cancel(uid)
    ground.backend.reachable = True
    run = ground.wait(uid)
    assert (run.state, ground.starts(run)) == ("cancelled", [])


def test_a_cancelled_retry_is_not_tried_again(ground: Ground) -> None:
    ground.play(a={"delay": 60})
    uid = ground.submit(step("a", "retries = 5"))
    ground.until_task(uid, "a", "running")
    ground.cancel(uid)
    run = ground.wait(uid)
    assert (run.state, task(run, "a").attempts) == ("cancelled", 1)


# --- again --------------------------------------------------------------------------------------------------------


def test_rerun_runs_all_again(ground: Ground) -> None:
    run = ground.run(chain("a", "b"))
    again = ground.rerun(run.id)
    assert (again.rerun_of, again.state) == (run.id, "succeeded")
    assert ground.starts(again) == ["0.0.1", "1.0.1"]


def test_rerun_failed_keeps_what_succeeded_fan_outs_too(ground: Ground) -> None:
    ground.play(
        cut={"outputs": {"0.csv": "0", "1.csv": "1", "2.csv": "2"}},
        score={"outputs": {"s.csv": "s", "metrics.json": '{"n": 1}'}},
        end={"exit": [1, 0]},
    )
    steps = (
        step("cut", 'outputs = ["*.csv"]')
        + step("score", 'for_each = { part = "cut/*.csv" }\noutputs = ["s.csv", "metrics.json"]\n' + PART)
        + step("end", 'inputs = { "all/" = "score/s.csv" }')
        + step("last", 'after = ["end"]')
    )  # fmt: skip
    run = ground.run(steps)
    assert run.state == "failed"
    ground.play(end={})
    again = ground.rerun(run.id, failed=True)
    assert again.state == "succeeded"
    assert {t.name: t.reused for t in again.tasks} == {
        "cut": True, "score[0]": True, "score[1]": True, "score[2]": True, "end": False, "last": False,
    }  # fmt: skip
    assert len(ground.starts(again)) == 2
    assert again.metrics == {f"score[{number}].n": 1 for number in range(3)}
    assert ground.content(again, "score[1]/s.csv") == b"s"
    assert task(again, "score[1]").inputs == task(run, "score[1]").inputs


def test_rerun_failed_of_a_success_and_of_what_still_runs(ground: Ground) -> None:
    run = ground.run(step("a"))
    with pytest.raises(Conflict):
        ground.rerun(run.id, failed=True)
    ground.play(a={"delay": 60})
    uid = ground.submit(step("a"))
    with pytest.raises(Conflict) as refused:
        ground.rerun(uid)
    assert "ground runs cancel" in refused.value.hint
    ground.cancel(uid)


def test_rerun_wants_the_values_that_are_not_kept(ground: Ground) -> None:
    run = ground.run(step("a"), environment={"TOKEN": "s3cr3t-value"})
    assert run.environment == ("TOKEN",)
    with pytest.raises(Invalid) as refused:
        ground.rerun(run.id)
    assert "TOKEN" in refused.value.message
    assert ground.rerun(run.id, environment={"TOKEN": "other"}).state == "succeeded"


# --- looking things up --------------------------------------------------------------------------------------------


def pages(ground: Ground) -> Iterator[RunPage]:
    """All runs, two at a time."""
    cursor: str | None = None
    while True:
        yield (page := runs.listing(ground.platform, ME, None, 2, cursor))
        if (cursor := page.next) is None:
            return


def test_lists_go_by_the_servers_sequence_and_by_cursor(ground: Ground) -> None:
    made = [ground.run(step("a")).id for _ in range(5)]
    seen = [run for page in pages(ground) for run in page.runs]
    assert all(run.tasks == () and run.task_count == 1 for run in seen)
    assert [run.id for run in seen] == made[::-1]
    assert len(runs.listing(ground.platform, ME, "succeeded", 5, None).runs) == 5
    assert runs.listing(ground.platform, ME, "failed", 5, None).runs == ()
    assert ground.show("latest").id == made[-1]


def test_runs_that_come_in_between_change_no_page(ground: Ground) -> None:
    made = [ground.run(step("a")).id for _ in range(5)]
    seen: list[str] = []
    for page in pages(ground):
        seen += [run.id for run in page.runs]
        assert page.next in (None, page.runs[-1].id)
        ground.run(step("a"))
    assert seen == made[::-1]


@pytest.mark.parametrize(
    ("state", "limit", "cursor", "named"),
    [("done", 1, None, "succeeded"), (None, 0, None, "1 and"), (None, 1001, None, "1 and"), (None, 1, "x", "next"),
     (None, 1, "9" * 40, "next"), (None, 1, "²", "next")],
)  # fmt: skip
def test_a_wrong_question_names_what_is_right(
    ground: Ground, state: str | None, limit: int, cursor: str | None, named: str
) -> None:
    with pytest.raises(Invalid) as refused:
        runs.listing(ground.platform, ME, state, limit, cursor)
    assert named in refused.value.message + refused.value.hint


def test_a_run_by_the_beginning_of_its_id(ground: Ground) -> None:
    with pytest.raises(NotFound):
        runs.show(ground.platform, ME, "latest")
    first = ground.run(step("a"), uid="0190aaaa-0000-7000-8000-000000000001")
    ground.run(step("a"), uid="0190aaab-0000-7000-8000-000000000002")
    assert ground.show("0190aaaa").id == first.id
    assert ground.show("0190aaaa-").id == first.id
    for wrong, said in (("0190aaa", "2 or more"), ("0191", "no run"), ("", "no run"), ("0190aaaa%", "no run")):
        with pytest.raises(NotFound) as refused:
            ground.show(wrong)
        assert said in refused.value.message


def test_an_artifact_is_found_or_told_what_there_is(ground: Ground) -> None:
    ground.play(a={"outputs": {"b.csv": "x", "é ü.txt": "y"}})
    run = ground.run(step("a", 'outputs = ["*"]'))
    path, found = artifacts.find(ground.platform, ME, run.id, "a/é ü.txt")
    assert (path.read_bytes(), found.kind, found.size) == (b"y", "file", 1)
    with pytest.raises(NotFound) as refused:
        artifacts.find(ground.platform, ME, run.id, "a/none")
    assert "a/b.csv" in refused.value.hint
