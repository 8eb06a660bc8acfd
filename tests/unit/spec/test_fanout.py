"""The tasks of a fan-out, and where many files go."""

from __future__ import annotations

import json

import pytest

from groundplane.model.globs import fixed_folder, matches
from groundplane.model.pipelines import Input, Source, SourceKind, Step
from groundplane.services.spec.fanout import fill, items, joined, placed
from tests.unit.spec.test_resolve import load, steps


def fan(body: str, files: list[str] | None = None, **overrides: str) -> Step:
    return load(steps(a='command = ["a"]\noutputs = ["parts/*.csv"]', s=body), files or [], **overrides).step("s")


def test_values_stay_as_written_and_files_are_sorted() -> None:
    assert items(fan('command = ["s"]\nfor_each = { i = ["b", 2, 0.1, "a", "a"] }'), []) == ("b", "2", "0.1", "a", "a")
    over = fan('command = ["s"]\nfor_each = { i = "a/parts/*.csv" }')
    assert items(over, ["parts/2.csv", "parts/10.csv", "x.csv", "parts/d/3.csv"]) == ("parts/10.csv", "parts/2.csv")
    with pytest.raises(ValueError, match="no fan-out"):
        items(Step("x", script="x.py"), [])


def test_the_item_is_filled_in_wherever_it_may_stand() -> None:
    step = fan(
        'command = ["s", "{r}.x"]\nargs = ["--r={r}", "{other}"]\nenv = { R = "{r}" }\nfor_each = { r = ["n"] }\n'
        'inputs = { "x.csv" = "data/{r}.csv" }\nparams = { w = "is {r}", v = "{r}" }',
        ["data/n.csv"],
        v="{r}",
    )
    task = fill(step, "n")
    assert task.command == ("s", "n.x")
    assert task.arguments == ("--r=n", "{other}")
    assert task.environment == {"R": "n"}
    assert task.inputs[0].source == Source(SourceKind.PROJECT, "data/n.csv")
    assert task.parameters == {"w": "is n", "v": "{r}", "r": "n"}  # -p v='{r}' is any text


def test_a_file_is_an_input_and_no_parameter() -> None:
    task = fill(
        fan('command = ["s"]\nfor_each = { part = "a/parts/*.csv" }\ninputs = { "p.csv" = "{part}" }'), "parts/é.csv"
    )
    assert task.inputs[0].source == Source(SourceKind.STEP, "parts/é.csv", "a")
    assert task.parameters == {}
    plain = Step("x", script="x.py")
    assert fill(plain, "") is plain


def test_placeholders_of_steps_and_urls() -> None:
    step = fan('command = ["s"]\nfor_each = { i = ["1", "2"] }\ninputs = { "p.csv" = "a/parts/{i}.csv" }')
    assert fill(step, "2").inputs[0].source == Source(SourceKind.STEP, "parts/2.csv", "a")
    step = fan('command = ["s"]\nfor_each = { u = ["https://e.org/1.csv"] }\ninputs = { "p.csv" = "{u}" }')
    assert fill(step, "https://e.org/1.csv").inputs[0].source == Source(SourceKind.URL, "https://e.org/1.csv")


def test_a_join_is_numbered_to_the_widest_and_indexed() -> None:
    entry = Input("scores/", Source(SourceKind.STEP, "score.csv", "score"))
    files, index = joined(entry, [("é", ["score.csv", "other.csv"])] * 11)
    assert files[0] == ("scores/00-score.csv", 0, "score.csv")
    assert files[10] == ("scores/10-score.csv", 10, "score.csv")
    assert json.loads(index)[10] == {"index": 10, "item": "é", "file": "10-score.csv"}
    assert [file for file, _, _ in joined(entry, [("x", ["score.csv"])] * 3)[0]][2] == "scores/2-score.csv"
    assert joined(entry, []) == ([], "[]\n")


def test_a_join_of_globs_keeps_folders_apart() -> None:
    entry = Input("all/", Source(SourceKind.STEP, "out/**", "s"))
    files, _ = joined(entry, [("a", ["out/x.csv", "out/d/x.csv", "y"])])
    assert [file for file, _, _ in files] == ["all/0-d/x.csv", "all/0-x.csv"]


@pytest.mark.parametrize(
    ("name", "source", "found"),
    [
        ("x.csv", "a.csv", [("x.csv", "a.csv")]),
        ("in/", "data/", [("in/.h", "data/.h"), ("in/1.csv", "data/1.csv"), ("in/n/2.csv", "data/n/2.csv")]),
        ("in/", "data/*.csv", [("in/1.csv", "data/1.csv")]),
        ("in/", "data/**", [("in/1.csv", "data/1.csv"), ("in/n/2.csv", "data/n/2.csv")]),
    ],
)
def test_many_files_keep_their_place_below_the_fixed_part(name: str, source: str, found: list[tuple[str, str]]) -> None:
    files = ["data/1.csv", "data/n/2.csv", "data/.h", "data/e/", "a.csv"]
    assert list(placed(Input(name, Source(SourceKind.PROJECT, source)), files)) == found


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*.csv", "a.csv", True),
        ("*.csv", "d/a.csv", False),
        ("*.csv", ".a.csv", False),
        (".*", ".a", True),
        ("**/*.csv", "a.csv", True),
        ("**/*.csv", "d/e/a.csv", True),
        ("**/*.csv", ".d/a.csv", False),
        ("d/**", "d/e/a", True),
        ("d/**", "d", False),
        ("d/**/x", "d/x", True),
        ("a?.c", "ab.c", True),
        ("a?.c", "a/.c", False),
        ("[ab]x", "bx", True),
        ("[!ab]x", "bx", False),
        ("[a]", "[a]", True),
        ("a[", "a[", True),
        ("a[*", "a[b", True),
        ("é*", "é ü", True),
        ("a+b", "aab", False),
        ("[^ab]x", "bx", False),
        ("[^ab]x", "cx", True),
        ("a[1].csv", "a[1].csv", True),
        ("a[1].csv", "a1.csv", True),
        ("[!]].csv", "x.csv", True),
        ("[!]].csv", "].csv", False),
        ("[]-]x", "-x", True),
        ("[+-9]", "/", False),
        ("a[!b]c", "a/c", False),
        ("[z-a].csv", "z.csv", False),
        ("[z-ab].csv", "b.csv", True),
        ("[&&~~||--[]", "[", True),
    ],
)
def test_globs(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


def test_the_fixed_folder_of_a_glob() -> None:
    assert [fixed_folder(glob) for glob in ("parts/*.csv", "*.csv", "a/b?/c", "a/b")] == ["parts/", "", "a/", "a/"]
