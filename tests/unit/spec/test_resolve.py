"""A pipeline against its folder: where each input comes from, and what cannot work."""

from __future__ import annotations

import random
import re

import pytest

from groundplane.model.errors import GroundError, Invalid
from groundplane.model.pipelines import ForEach, Input, Pipeline, Source, SourceKind
from groundplane.model.resources import Resources
from groundplane.services import spec
from groundplane.spi.wire import decode, parse, plain
from tests.unit.spec.test_document import EXAMPLE, HEAD

FILES = ["clean.py", "model.R", "score.m", "report.py", "data/raw.csv"]


def load(text: str, files: list[str], **overrides: str) -> Pipeline:
    return spec.resolve(spec.pipeline(spec.parse(HEAD + text)), files, overrides)


def steps(**bodies: str) -> str:
    return "".join(f"[pipelines.p.steps.{name}]\n{body}\n" for name, body in bodies.items())


def refusal(text: str, files: list[str], **overrides: str) -> Invalid:
    with pytest.raises(Invalid) as caught:
        load(text, files, **overrides)
    return caught.value


def test_the_example_resolves_and_travels_as_json() -> None:
    found = spec.resolve(spec.pipeline(spec.parse(EXAMPLE)), FILES, {"alpha": "0.1"})
    assert [step.name for step in found.steps] == ["clean", "model", "score", "report"]
    assert found.step("clean").inputs == (Input("raw.csv", Source(SourceKind.PROJECT, "data/raw.csv")),)
    assert found.step("model").inputs == (Input("clean.csv", Source(SourceKind.STEP, "clean.parquet", "clean")),)
    assert found.step("score").for_each == ForEach("part", source=Source(SourceKind.STEP, "parts/*.csv", "clean"))
    assert found.step("score").inputs == (Input("part.csv", Source(SourceKind.STEP, "{part}", "clean")),)
    assert found.step("report").inputs[0] == Input("scores/", Source(SourceKind.STEP, "score.csv", "score"))
    assert found.step("report").needs == ("score", "model")
    assert found.step("model").parameters == {"alpha": "0.1", "family": "binomial"}
    assert found.parameters == {"alpha": "0.1"}
    assert decode(Pipeline, plain(found)) == found


def test_a_script_whose_name_is_no_utf_8_travels_too() -> None:
    found = spec.single("caf\udce9.py")
    assert decode(Pipeline, plain(found)) == found
    assert parse(b'"caf\xe9"') == "caf\udce9"


def test_parameters_pipeline_then_step_then_command_line() -> None:
    text = "[pipelines.p]\nparams = { a = 1, b = 1, c = 1 }\n" + steps(
        x='command = ["x"]\nparams = { b = 2, c = 2, d = 2 }', y='command = ["y"]'
    )
    found = load(text, [], c="3", d="{literal}")
    assert found.step("x").parameters == {"a": "1", "b": "2", "c": "3", "d": "{literal}"}
    assert found.step("y").parameters == {"a": "1", "b": "1", "c": "3"}


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    text = "[pipelines.p]\nparams = { alpha = 1 }\n" + steps(x='command = ["x"]\nparams = { beta = 2 }')
    error = refusal(text, [], alpa="1")
    assert error.message == "pipeline 'p' has no parameter 'alpa'; did you mean 'alpha'?"
    assert "alpha, beta" in error.hint
    assert "NUL" in refusal(text, [], alpha="a\0b").message


def test_steps_run_after_what_they_need_wherever_they_stand() -> None:
    found = load(
        steps(
            b='command = ["b"]\ninputs = { "x.csv" = "a/x.csv" }',
            a='command = ["a"]\noutputs = ["x.csv"]\nafter = ["c"]',
            c='command = ["c"]',
        ),
        [],
    )
    assert [step.name for step in found.steps] == ["c", "a", "b"]


def test_a_declared_output_wins_over_a_folder_and_a_folder_over_nothing() -> None:
    text = steps(a='command = ["a"]\noutputs = ["x.csv", "parts/*.csv"]', b='command = ["b"]\ninputs = {}')
    for source, kind in (
        ("a/x.csv", SourceKind.STEP),
        ("a/parts/7.csv", SourceKind.STEP),
        ("a/z.csv", SourceKind.PROJECT),
    ):
        found = load(text.replace("{}", f'{{ "in.csv" = "{source}" }}'), ["a/x.csv", "a/z.csv"])
        assert found.step("b").inputs[0].source.kind is kind, source


def test_folders_and_globs_go_into_folders() -> None:
    text = steps(
        a='command = ["a"]\noutputs = ["x.csv", "parts/*.csv", "deep/**", "plots/"]',
        b='command = ["b"]\ninputs = { "raw/" = "data/", "some/" = "data/*.csv", '
        '"p/" = "a/parts/*.csv", "d/" = "a/deep/", "q/" = "a/plots/", '
        '"r/" = "a/plots/*.png", "s.png" = "a/plots/s.png" }',
    )
    sources = [entry.source for entry in load(text, ["data/1.csv", "data/n/2.csv"]).step("b").inputs]
    assert sources == [
        Source(SourceKind.PROJECT, "data/"),
        Source(SourceKind.PROJECT, "data/*.csv"),
        Source(SourceKind.STEP, "parts/*.csv", "a"),
        Source(SourceKind.STEP, "deep/**", "a"),
        Source(SourceKind.STEP, "plots/**", "a"),
        Source(SourceKind.STEP, "plots/*.png", "a"),
        Source(SourceKind.STEP, "plots/s.png", "a"),
    ]


def test_urls_are_taken_as_they_are() -> None:
    found = load(steps(a='command = ["a"]\ninputs = { "x.csv" = "https://example.org/x.csv?v=1.2" }'), [])
    assert found.steps[0].inputs[0].source == Source(SourceKind.URL, "https://example.org/x.csv?v=1.2")


A = 'command = ["a"]\noutputs = ["x.csv", "parts/*.csv"]'


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (steps(s='run = "clena.py"'), "'clena.py': there is no such file", "did you mean clean.py?"),
        (steps(s='run = "raw.csv"'), "'raw.csv': there is no such file", "did you mean data/raw.csv?"),
        (steps(s='command = ["./tool"]'), "command './tool': there is no such file", ""),
        (steps(s='command = ["../tool"]'), "command '../tool' leaves the project", ""),
        (
            steps(s='command = ["s"]\ninputs = { "a.csv" = "data/rwa.csv" }'),
            "'data/rwa.csv' is neither a file",
            "data/raw.csv",
        ),
        (steps(s='command = ["s"]\ninputs = { "a" = "data" }'), "'data' is a folder", "`data/`"),
        (steps(s='command = ["s"]\ninputs = { "a" = "data/" }'), "may be many files", '"a/"'),
        (steps(s='command = ["s"]\ninputs = { "a/" = "data/raw.csv" }'), "this source is one", "remove the `/`"),
        (
            steps(a=A, s='command = ["s"]\ninputs = { "y.csv" = "a/y.csv" }'),
            "'a' declares no output 'y.csv'; did you mean 'x.csv'?",
            "outputs of 'a': x.csv, parts/*.csv",
        ),
        (steps(a=A, s='command = ["s"]\ninputs = { "y.csv" = "b/x.csv" }'), "'b/x.csv' is neither", "a/x.csv"),
        (steps(a=A, s='command = ["s"]\ninputs = { "y" = "a/parts/*.csv" }'), "may be many files", '"y/"'),
        (steps(a=A, s='command = ["s"]\nafter = ["b"]'), "`after` names no step: 'b'", "steps: a, s"),
        (steps(a=A, s='command = ["s"]\nafter = ["s"]'), "`after` names the step itself", ""),
        (steps(a=A, s='command = ["s"]\nafter = ["a", "a"]'), "names 'a' twice", ""),
        (steps(s='command = ["s"]\noutputs = ["o"]\ninputs = { "i" = "s/o" }'), "the step's own output", "itself"),
        (
            steps(a=A + '\nafter = ["s"]', s='command = ["s"]\ninputs = { "x.csv" = "a/x.csv" }'),
            "the steps form a cycle: ",
            "remove one",
        ),
        (
            steps(s='command = ["s"]\ninputs = { "x.csv" = "{part}" }'),
            "unknown placeholder {part}",
            "only a step with `for_each`",
        ),
        (
            steps(s='command = ["s"]\nfor_each = { i = [1] }\ninputs = { "x.csv" = "{j}" }'),
            "unknown placeholder {j}",
            "{i}",
        ),
        (
            steps(s='command = ["s"]\nfor_each = { i = ["raw", "n", "s"] }\ninputs = { "x.csv" = "data/{i}.csv" }'),
            "'data/n.csv' is neither",
            "",
        ),
        (
            steps(s='command = ["s"]\nfor_each = { i = ["../x"] }\ninputs = { "x.csv" = "data/{i}" }'),
            "'data/../x' leaves",
            "",
        ),
        (steps(s='command = ["s"]\nfor_each = { i = "nowhere/*.csv" }'), "'nowhere/*.csv' is neither", ""),
        (
            steps(a=A, s='command = ["s"]\nfor_each = { i = "a/part/*.csv" }'),
            "'a' declares no output 'part/*.csv'",
            "parts/*.csv",
        ),
        (
            steps(a=A, s='command = ["s"]\nfor_each = { i = "a/parts/*.csv" }\ninputs = { "x.csv" = "q/{i}" }'),
            "taken whole",
            "{i} alone",
        ),
        (
            steps(a=A + "\nfor_each = { i = [1] }", s='command = ["s"]\ninputs = { "x.csv" = "a/x.csv" }'),
            "'a' is a fan-out",
            '"x/" = "a/x.csv"',
        ),
        (
            steps(a=A + "\nfor_each = { i = [1] }", s='command = ["s"]\nfor_each = { j = "a/parts/*.csv" }'),
            "a fan-out itself",
            "step between",
        ),
        (steps(s='command = ["s"]\ninputs = { "x.xlsx" = "data/raw.csv" }'), "only read", "csv"),
        (
            steps(s='command = ["s"]\ninputs = { "x.csv" = "clean.py" }'),
            "only a table becomes another table, and .py is none",
            "",
        ),
        (
            steps(a=A, s='command = ["s"]\nfor_each = { i = "a/parts/*.csv" }\ninputs = { "x.py" = "{i}" }'),
            ".py is none",
            "",
        ),
    ],
)
def test_what_cannot_work_is_refused(text: str, message: str, hint: str) -> None:
    error = refusal(text, FILES)
    assert message in error.message
    assert hint in error.hint
    assert error.exit_code == 2


def test_what_works_is_not_refused() -> None:
    for body in (
        'inputs = { "x.sav" = "data/raw.csv" }',
        'inputs = { "raw.txt" = "report.py" }',  # no table on either side: bytes
        'inputs = { "raw" = "data/raw.csv" }',
        'inputs = { "tool" = "clean.py" }',
    ):
        load(steps(s='command = ["./tool"]\n' + body), [*FILES, "tool"])
    load(steps(s='command = ["./tool"]\ninputs = { "tool" = "clean.py" }'), FILES)
    load(steps(s='command = ["awk", "{print}"]'), FILES)
    load(steps(s='command = ["s"]\ninputs = { "a" = "{odd}.txt" }'), ["{odd}.txt"])


def test_an_empty_fan_out_is_no_mistake() -> None:
    load(steps(s='command = ["s"]\nfor_each = { i = [] }\ninputs = { "x" = "{i}" }'), [])
    load(steps(s='command = ["s"]\nfor_each = { i = "inbox/*.csv" }\ninputs = { "x.csv" = "{i}" }'), ["inbox/"])


def test_all_that_cannot_work_is_told_at_once() -> None:
    error = refusal(steps(a='run = "no.py"', b='command = ["b"]\nafter = ["c"]\ninputs = { "x" = "y" }'), [])
    assert error.message.splitlines()[0] == "ground.toml has 3 problems:"


def test_a_lone_script_takes_any_parameter_and_keeps_what_it_writes() -> None:
    found = spec.single("a b.R", "r", ["--x"], {"alpha": "$(x)"}, Resources(cpus=2))
    assert found.name == "a b.R"
    assert found.steps[0].outputs is None
    assert (found.steps[0].arguments, found.steps[0].parameters) == (("--x",), {"alpha": "$(x)"})
    assert spec.single("d/a.py", name="mine").name == "mine"
    with pytest.raises(Invalid, match="GROUND_PARAM_A_B"):
        spec.single("a.py", parameters={"a.b": "1", "a-b": "2"})
    with pytest.raises(Invalid, match="NUL"):
        spec.single("a.py", arguments=["\0"])


def test_no_broken_file_is_more_than_invalid() -> None:
    """The example with parts of it spoilt: it still works, or an error says why it does not."""
    chance = random.Random(7)
    parts = re.findall(r'\[[^\]\n]*\]|"[^"\n]*"|\w+|\s+|.', EXAMPLE)
    odd = ['""', "[]", "{}", "3", "inf", "-1", "[1,[2]]", "{a=1}", '"\\u0000"', '"https://["']
    odd += [f'"{text}"' for text in ("a/b", "../x", "{part}", "clean/", "/", ".", "*", "[", "**")]
    worked = 0
    for _ in range(400):
        text = list(parts)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(text))
            text[place] = chance.choice([chance.choice(odd), chance.choice(parts), "", text[place][::-1]])
        try:
            found = spec.resolve(spec.pipeline(spec.parse("".join(text))), FILES, {})
        except GroundError as error:
            assert error.exit_code == 2
            assert error.message
        else:
            worked += 1
            assert decode(Pipeline, plain(found)) == found
    assert 0 < worked < 400
