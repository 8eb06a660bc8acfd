"""The conformance suite: one contract for every engine that this machine has (DESIGN §4)."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from groundplane.spi.toolchain import Engine
from groundplane.toolchains import registry
from tests.conformance.languages import LANGUAGES, Language
from tests.conformance.run_command import Finished, run_script

FindEngine = Callable[[Language], Engine]
NASTY = [
    "0.3",
    "",
    "two words",
    "$(touch pwned)",
    "`touch pwned`",
    "--help",
    "--version",
    "-e",
    "é日本",
    "it's",
    'a"b',
    "a;b & c | d > e",
    "100%",
    "%let x=1;",
    "&alpha",
    "!alpha",
    "!ENDDEFINE.",
    "*. comment",
    "/* c */",
    "two\nlines",
    "tab\tand\\back",
    "{x} [y] (z)",
    "#!/bin/sh",
    "'); DROP",
    "x" * 3000,
]


@pytest.fixture(params=list(LANGUAGES))
def language(request: pytest.FixtureRequest) -> Language:
    return LANGUAGES[request.param]


@pytest.fixture
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("t") / "tree é"  # with a short name, for sockets
    folder.mkdir()
    return folder


def run(
    language: Language,
    engine: Engine,
    tree: Path,
    source: str,
    name: str = "",
    **options: object,
) -> Finished:
    script = name or f"work{language.suffix}"
    (tree / script).parent.mkdir(exist_ok=True)
    (tree / script).write_text(source, encoding="utf-8")
    return run_script(registry.get(language.toolchain), engine, tree, script, **options)  # pyright: ignore


def said(finished: Finished) -> str:
    return finished.stdout + finished.stderr


def test_success(language: Language, engine_of: FindEngine, tree: Path) -> None:
    finished = run(language, engine_of(language), tree, language.writes)
    assert finished.reason is None, finished
    assert finished.ending.exit_code == 0
    assert "written" in (tree / "out.txt").read_text()


def test_syntax_error(language: Language, engine_of: FindEngine, tree: Path) -> None:
    finished = run(language, engine_of(language), tree, language.syntax)
    assert finished.reason is not None
    assert finished.reason.code == "error"
    assert finished.ending.exit_code != 0
    assert not re.search(r"wrap\.sps|ERROR=STOP|saslite_runner|notebook_runner", finished.reason.message)


def test_runtime_error_is_quoted_and_stops_the_program(language: Language, engine_of: FindEngine, tree: Path) -> None:
    finished = run(language, engine_of(language), tree, language.runtime)
    assert finished.reason is not None
    assert finished.reason.code == "error"
    for part in (*language.quoted, f"work{language.suffix}" if language.toolchain != "shell" else ""):
        assert part in finished.reason.message
    assert "before" in said(finished)
    assert "after" not in said(finished).replace('"after"', "")
    assert not (tree / "bad.sav").exists()


def test_exit_status_3(language: Language, engine_of: FindEngine, tree: Path) -> None:
    if language.status3 is None:
        pytest.skip(f"{language.engine} programs cannot choose an exit status")
    finished = run(language, engine_of(language), tree, language.status3)
    assert finished.ending.exit_code == 3
    assert finished.reason is not None
    assert "exited with status 3" in finished.reason.message


def test_a_warning_is_a_success(language: Language, engine_of: FindEngine, tree: Path) -> None:
    finished = run(language, engine_of(language), tree, language.warning)
    assert finished.reason is None
    assert "done" in said(finished)


def test_progress_comes_line_by_line(language: Language, engine_of: FindEngine, tree: Path) -> None:
    finished = run(language, engine_of(language), tree, language.progress)
    assert finished.reason is None
    at = {text.strip(): when for when, _, text in finished.lines}
    if language.engine == "saslite":
        assert next(iter(at)) == "0"  # it has no way to wait in between
        return
    assert at["2"] - at["0"] > 0.3


def test_sigterm(language: Language, engine_of: FindEngine, tree: Path) -> None:
    if not language.sleep:
        pytest.skip(f"{language.engine} has no way to wait")

    def stop(process: subprocess.Popen[bytes], line: str) -> None:
        if "go" in line:
            # As the agent does: the whole tree of processes. A notebook's kernel is its runner's to end.
            if language.toolchain == "notebook":
                process.send_signal(signal.SIGTERM)
            else:
                os.killpg(process.pid, signal.SIGTERM)

    finished = run(language, engine_of(language), tree, language.sleep, on_line=stop)
    assert finished.ending.exit_code != 0
    assert finished.reason is not None
    assert sorted(path.name for path in tree.iterdir()) == [f"work{language.suffix}"]


@pytest.mark.parametrize("name", ["a b", "it's", "é", "sub folder/é'x", 'quo"te', "-dash", "a;b$(x)"])
def test_any_file_name(language: Language, engine_of: FindEngine, tree: Path, name: str) -> None:
    script = f"{name}{language.suffix}"
    finished = run(language, engine_of(language), tree, language.unicode, name=script)
    assert finished.reason is None, finished
    assert "Åsa, Ωmega, 日本" in said(finished)


def test_a_failing_script_of_any_name_is_named(language: Language, engine_of: FindEngine, tree: Path) -> None:
    script = f"sub é/it's{language.suffix}"
    finished = run(language, engine_of(language), tree, language.runtime, name=script)
    assert finished.reason is not None
    if language.toolchain != "shell":
        assert script in finished.reason.message


def test_any_text_is_a_parameter(language: Language, engine_of: FindEngine, tree: Path) -> None:
    engine = engine_of(language)
    if language.engine == "saslite":  # three seconds a start: all in one program
        source = "".join(language.parameters.replace("alpha", f"p{i}") for i in range(len(NASTY)))
        finished = run(language, engine, tree, source, parameters={f"p{i}": v for i, v in enumerate(NASTY)})
        assert finished.reason is None, finished
        assert finished.stderr == "".join(f"<{value}>\n" for value in NASTY)
        return
    for value in NASTY if language.toolchain != "notebook" else NASTY[::4]:
        if language.engine == "pspp" and value == "0.3":
            continue  # a number, not a text: below
        finished = run(language, engine, tree, language.parameters, parameters={"alpha": value})
        assert finished.reason is None, (value, finished)
        shown = finished.stdout
        if language.engine == "pspp":
            shown = (tree / "said.txt").read_text().rstrip() + "\n"
        assert f"<{value}>\n" in shown, (value, shown)
        assert not (tree / "pwned").exists()


def test_parameters_with_unusual_names(language: Language, engine_of: FindEngine, tree: Path) -> None:
    names = ["alpha.x", "a-b", "_x", "by", "class", "if", "length", "a" * 60, "x."]
    finished = run(language, engine_of(language), tree, language.unicode, parameters=dict.fromkeys(names, "v 1"))
    assert finished.reason is None, finished


def test_arguments_reach_argv_after_the_parameters(language: Language, engine_of: FindEngine, tree: Path) -> None:
    shows = {
        "python": "import sys\nprint(sys.argv)\n",
        "r": "print(commandArgs(TRUE))\n",
        "octave": "disp(argv())\n",
        "sh": 'echo "$0" "$@"\n',
    }
    source = shows.get(language.engine if language.toolchain != "notebook" else "")
    if source is None:
        pytest.skip(f"{language.toolchain} has no argv")
    arguments = ["--help", "", "é x"]
    finished = run(language, engine_of(language), tree, source, parameters={"p": "1"}, arguments=arguments)
    assert finished.reason is None
    assert re.search(r"--p.*1.*--help.*é x", finished.stdout, re.DOTALL)


def test_a_home_that_cannot_be_written(language: Language, engine_of: FindEngine, tree: Path) -> None:
    finished = run(language, engine_of(language), tree, language.writes, env={"HOME": "/proc/nowhere"})
    assert finished.reason is None, finished


def test_read_only_root(language: Language, engine_of: FindEngine, tree: Path) -> None:
    inside = tree.parent
    script = (
        'mount --bind "$1" "$1" && mount -o remount,ro,bind / && '
        '(mount -o remount,ro,bind /tmp 2>/dev/null || true) && cd "$1/tree é" && '
        'if touch /var/tmp/ground-probe 2>/dev/null; then exit 97; fi; shift; exec "$@"'
    )
    before = ["unshare", "-m", "sh", "-c", script, "sh", str(inside)]
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a read-only root needs root and unshare")
    if subprocess.run([*before, "true"], capture_output=True).returncode != 0:
        pytest.skip("this kernel does not let root make its own mounts read-only")
    finished = run(language, engine_of(language), tree, language.writes, before=before)
    assert finished.reason is None, finished
    assert (tree / "out.txt").exists()


def test_the_working_copy_holds_only_what_the_script_made(
    language: Language, engine_of: FindEngine, tree: Path
) -> None:
    run(language, engine_of(language), tree, language.writes)
    names = {path.name for path in tree.iterdir()}
    assert names == {f"work{language.suffix}", "out.txt"}
    if language.toolchain == "notebook":
        executed = json.loads((tree / "work.ipynb").read_text())
        assert executed["cells"][0]["execution_count"] == 1
