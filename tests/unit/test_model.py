"""Pure rules: states, quantities, parameters, globs, ids, kinds, order."""

from __future__ import annotations

import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundplane.model import globs
from groundplane.model.artifacts import Kind, kind_of
from groundplane.model.errors import Conflict, Denied, GroundError, Invalid, NotFound, Unavailable
from groundplane.model.ids import new_id
from groundplane.model.parameters import check_names, parameter_text, variable_name
from groundplane.model.pipelines import Step, ordered
from groundplane.model.quantities import format_duration, format_size, parse_duration, parse_size
from groundplane.model.states import FINAL, OPEN, State, may_follow


def test_every_state_is_open_or_final() -> None:
    assert set(State) == FINAL | OPEN
    assert not FINAL & OPEN


@pytest.mark.parametrize("final", sorted(FINAL))
def test_nothing_follows_an_end(final: State) -> None:
    assert not any(may_follow(final, after) for after in State)


def test_what_is_open_may_end_and_a_try_may_be_repeated() -> None:
    assert all(may_follow(before, after) for before in OPEN for after in FINAL)
    assert all(may_follow(State(before), State.QUEUED) for before in ("starting", "running", "stopping"))
    assert not may_follow(State.QUEUED, State.RUNNING)
    assert not may_follow(State.STOPPING, State.RUNNING)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("512MiB", 512 << 20), ("2GiB", 2 << 30), ("2g", 2 << 30), ("500MB", 500_000_000), ("1.5 KiB", 1536),
     ("1TiB", 1 << 40), (7, 7)],
)  # fmt: skip
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "1 GiBB", "GiB", "1e9", "1,5GB", "²"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_size(text, "--memory")
    assert refused.value.message.startswith("--memory ")
    assert refused.value.hint


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 600), ("1.5h", 5400), ("90", 90), ("1h30m", 5400), ("2d", 172800), ("250ms", 0.25), ("1h 5s", 3605),
     (3, 3.0)],
)  # fmt: skip
def test_durations(text: str | int, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "soon", "-3s", "3 weeks", "1h-2m"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(Invalid):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=2**60))
def test_a_size_is_shown_as_it_could_be_read(count: int) -> None:
    assert parse_size(format_size(count)) == pytest.approx(count, rel=0.05, abs=1)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0.40 s"), (12, "12 s"), (185, "3m 05s"), (7800, "2h 10m"), (59.6, "60 s")]
)
def test_a_duration_is_shown(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (False, "false"), (0.1, "0.1"), (1e-7, "1e-07"), (3, "3"), ("$(x)", "$(x)")]
)
def test_parameters_are_text(value: object, text: str) -> None:
    assert parameter_text("p", value) == text


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, None])
def test_arrays_and_tables_are_no_parameters(value: object) -> None:
    with pytest.raises(Invalid, match="'alpha'"):
        parameter_text("alpha", value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_keeps_its_value(value: float) -> None:
    assert float(parameter_text("p", value)) == value


def test_parameter_names() -> None:
    check_names(["alpha", "beta-2", "a.b", "_x"])
    assert variable_name("beta-2.x") == "GROUND_PARAM_BETA_2_X"
    for wrong in (["1a"], [""], ["a b"], ["é"], ["--help"], ["a=b"]):
        with pytest.raises(Invalid):
            check_names(wrong)
    with pytest.raises(Invalid, match="GROUND_PARAM_A_B"):
        check_names(["a-b", "a.b"])


@pytest.mark.parametrize(
    ("pattern", "name", "yes"),
    [
        ("*.csv", "a.csv", True), ("*.csv", "b/a.csv", False), ("*.csv", ".a.csv", False), ("parts/*", "parts/a", True),
        ("**/*.csv", "a.csv", True), ("**/*.csv", "x/y/a.csv", True), ("**", "x/y", True), ("**", "x/.y", False),
        ("a?c", "abc", True), ("a?c", "a/c", False), ("[ab].txt", "a.txt", True), ("[!ab].txt", "a.txt", False),
        ("[", "[", True), ("a[b", "a[b", True), ("a+b", "a+b", True), ("*", "new\nline", True), (".*", ".x", True),
    ],
)  # fmt: skip
def test_globs(pattern: str, name: str, yes: bool) -> None:
    assert globs.matches(pattern, name) is yes


@given(st.text(min_size=1, max_size=20))
def test_a_name_is_matched_by_itself(name: str) -> None:
    assert globs.matches(name, name)


@given(st.text(alphabet="ab*?[]!^-\\/.", max_size=8), st.text(alphabet="ab/.", max_size=8))
def test_no_pattern_breaks(pattern: str, name: str) -> None:
    globs.matches(pattern, name)
    assert pattern.startswith(globs.fixed_folder(pattern))


def test_ids_are_of_version_7_and_in_order() -> None:
    made: list[str] = []
    for _ in range(3):
        made.append(new_id())
        time.sleep(0.002)
    assert made == sorted(made)
    assert all(uuid.UUID(each).version == 7 and uuid.UUID(each).variant == uuid.RFC_4122 for each in made)
    assert len({new_id() for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.CSV", Kind.TABLE), ("p/x.parquet", Kind.TABLE), ("fit.rds", Kind.MODEL), ("plot.PNG", Kind.FIGURE),
        ("metrics.json", Kind.METRICS), ("fit.metrics.json", Kind.METRICS), ("xmetrics.json", Kind.FILE),
        ("csv", Kind.FILE), ("report.html", Kind.FILE), ("a.tar.gz", Kind.FILE),
    ],
)  # fmt: skip
def test_what_an_output_is(name: str, kind: Kind) -> None:
    assert kind_of(name) is kind


def test_steps_come_after_what_they_need_and_else_as_declared() -> None:
    steps = [Step("c", after=("a",)), Step("b"), Step("a"), Step("d", after=("c", "b"))]
    assert [step.name for step in ordered(steps)] == ["b", "a", "c", "d"]


def test_a_cycle_is_shown() -> None:
    with pytest.raises(Invalid, match=r"cycle: (a -> c -> b -> a|c -> b -> a -> c|b -> a -> c -> b)"):
        ordered([Step("a", after=("c",)), Step("b", after=("a",)), Step("c", after=("b",)), Step("d")])


@given(st.permutations(range(8)), st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20))
def test_any_order_of_declaration_can_run(order: list[int], edges: set[tuple[int, int]]) -> None:
    needs = {n: tuple(f"s{a}" for a, b in edges if b == n and a < b) for n in range(8)}
    found = [step.name for step in ordered([Step(f"s{n}", after=needs[n]) for n in order])]
    assert len(found) == 8
    assert all(found.index(a) < found.index(f"s{n}") for n in range(8) for a in needs[n])


@pytest.mark.parametrize(
    ("kind", "exit_code", "status"),
    [(Invalid, 2, 422), (NotFound, 2, 404), (Conflict, 2, 409), (Denied, 4, 403), (Unavailable, 3, 503)],
)
def test_errors_have_their_exit_codes(kind: type[GroundError], exit_code: int, status: int) -> None:
    error = kind("it", hint="do")
    assert (error.exit_code, error.status, error.message, error.hint) == (exit_code, status, "it", "do")
    assert error.code
    assert kind("it", code="other").code == "other"
