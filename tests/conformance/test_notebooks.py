"""What only notebooks do, with a real kernel."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from groundplane.spi.toolchain import Engine
from groundplane.toolchains import registry
from tests.conformance.languages import NOTEBOOK
from tests.conformance.run_command import Finished, cells, run_script


@pytest.fixture
def python(engine_of) -> Engine:
    return engine_of(NOTEBOOK)


def run(
    python: Engine,
    tree: Path,
    *sources: str,
    metadata: dict[str, Any] | None = None,
    tags: dict[int, list[str]] | None = None,
    **options: Any,
) -> tuple[Finished, dict[str, Any]]:
    """The run, and the notebook as it stands after it."""
    made = [*cells(*sources)]
    for index, words in (tags or {}).items():
        made[index]["metadata"] = {"tags": words}
    body = {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata or {}, "cells": made}
    (tree / "n.ipynb").write_text(json.dumps(body))
    finished = run_script(registry.get("notebook"), python, tree, "n.ipynb", **options)
    return finished, json.loads((tree / "n.ipynb").read_text())


def test_a_failed_notebook_is_kept_as_far_as_it_got(python: Engine, tmp_path: Path) -> None:
    finished, kept = run(python, tmp_path, "print('one')", "1 / 0", "print('three')")
    assert finished.reason is not None
    assert finished.reason.message == "ZeroDivisionError: division by zero (n.ipynb, cell 2, line 1: 1 / 0)"
    assert kept["cells"][0]["outputs"][0]["text"] == ["one\n"]
    assert kept["cells"][1]["outputs"][0]["ename"] == "ZeroDivisionError"
    assert kept["cells"][2]["outputs"] == []
    assert "\x1b" not in finished.stderr
    assert "ZeroDivisionError" in finished.stderr


def test_results_and_streams_reach_the_log(python: Engine, tmp_path: Path) -> None:
    finished, _ = run(
        python,
        tmp_path,
        "import sys, os\nprint('out'); print('err', file=sys.stderr)",
        "40 + 2",
        "_ = os.system('echo child')",
    )
    assert finished.reason is None
    assert sorted(finished.stdout.split()) == ["42", "child", "out"]  # each once
    assert finished.stderr == "err\n"


SLOW = """
import os, threading, time
read, here = os.read, threading.get_ident()
def late(number, size):
    if threading.get_ident() != here:
        time.sleep(0.4)
    return read(number, size)
os.read = late
_ = os.system('echo first')
"""
"""A kernel that is late to read what child processes print, as on a busy machine."""


@pytest.mark.parametrize("then", ["print('next')", "1 / 0", None])
def test_what_a_child_prints_last_is_not_lost(python: Engine, tmp_path: Path, then: str | None) -> None:
    last = "import subprocess\n_ = subprocess.run(['sh', '-c', 'echo child; echo of it >&2'])"
    end = [last] if then is None else [last, then]
    if then == "1 / 0":
        end = [f"{last}\n{then}"]
    finished, kept = run(python, tmp_path, SLOW, *end)
    assert finished.stdout.split()[:2] == ["first", "child"]
    assert "of it" in finished.stderr
    printed = [line for output in kept["cells"][1]["outputs"] for line in output.get("text", [])]
    assert sorted(printed) == ["child\n", "of it\n"]


def test_tags(python: Engine, tmp_path: Path) -> None:
    tags = {0: ["raises-exception"], 1: ["skip-execution"], 2: ["parameters"]}
    finished, kept = run(
        python,
        tmp_path,
        "1 / 0",
        "raise SystemError",
        "alpha = 1",
        "print(alpha * 2)",
        tags=tags,
        parameters={"alpha": "4"},
    )
    assert finished.reason is None
    assert "8\n" in finished.stdout
    assert kept["cells"][3]["metadata"]["tags"] == ["injected-parameters"]


@pytest.mark.parametrize(("status", "success"), [("0", True), ("3", False), ("'no rows'", False)])
def test_sys_exit_ends_the_notebook_like_a_script(python: Engine, tmp_path: Path, status: str, success: bool) -> None:
    finished, _ = run(python, tmp_path, f"import sys\nsys.exit({status})", "print('after')")
    assert (finished.reason is None) == success
    assert "after" not in finished.stdout
    if finished.reason:
        assert finished.reason.message.startswith("exited with status ")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "the kernel of n.ipynb was ended by SIGKILL"),
        ("import os\nos._exit(7)", "the kernel of n.ipynb exited with status 7"),
    ],
)
def test_a_dead_kernel_fails_the_run(python: Engine, tmp_path: Path, source: str, message: str) -> None:
    finished, kept = run(python, tmp_path, "x = 1\nx", source)
    assert finished.reason is not None
    assert message in finished.reason.message
    assert kept["cells"][0]["outputs"]


def test_arguments_are_argv(python: Engine, tmp_path: Path) -> None:
    finished, _ = run(python, tmp_path, "import sys\nprint(sys.argv)", arguments=["--x", "é"])
    assert finished.stdout == "['n.ipynb', '--x', 'é']\n"


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"kernelspec": {"name": "gone", "display_name": "Gone", "language": "python"}},
        {"kernelspec": {"name": "gone", "display_name": "Gone"}, "language_info": {"name": "python"}},
    ],
)
def test_any_python_kernel_is_the_callers_python(python: Engine, tmp_path: Path, metadata: dict[str, Any]) -> None:
    finished, _ = run(python, tmp_path, "import sys\nprint(sys.executable)", metadata=metadata)
    assert finished.stdout.strip() == python.path


def test_a_kernel_that_is_not_there_is_named(python: Engine, tmp_path: Path) -> None:
    metadata = {"kernelspec": {"name": "nosuch", "display_name": "No", "language": "cobol"}}
    finished, _ = run(python, tmp_path, "1", metadata=metadata)
    assert finished.reason is not None
    assert "'nosuch' for cobol" in finished.reason.message
    assert finished.reason.hint


def test_a_python_without_ipykernel_is_named_with_the_cure(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')  # no site-packages
    bare.chmod(0o755)
    finished, _ = run(Engine("python", str(bare), "3"), tmp_path, "1")
    assert finished.reason is not None
    assert finished.reason.hint.endswith(f"{bare} -m pip install ipykernel")


@pytest.mark.parametrize("version", [2, 3])
def test_old_formats_are_upgraded(python: Engine, tmp_path: Path, version: int) -> None:
    cell = {"cell_type": "code", "input": ["print('old')"], "language": "python", "outputs": [], "metadata": {}}
    body = {"nbformat": version, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": [cell]}]}
    (tmp_path / "old.ipynb").write_text(json.dumps(body))
    finished = run_script(registry.get("notebook"), python, tmp_path, "old.ipynb")
    assert finished.reason is None, finished
    assert finished.stdout == "old\n"
    assert json.loads((tmp_path / "old.ipynb").read_text())["nbformat"] == 4


@pytest.mark.parametrize(("language", "message"), [("x", "Oops: it failed"), ("octave", "error: it failed")])
def test_a_kernel_that_replies_ok_to_an_error_fails_the_run(
    python: Engine, tmp_path: Path, language: str, message: str
) -> None:
    """octave_kernel does so (metakernel #175), with the error as mere text: here a kernel of ours does the same."""
    folder = tmp_path / "share" / "jupyter" / "kernels" / "liar"
    folder.mkdir(parents=True)
    (folder / "liar.py").write_text(LIAR)
    argv = [python.path, str(folder / "liar.py"), "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "L", "language": language}))
    metadata = {"kernelspec": {"name": "liar", "display_name": "L", "language": language}}
    env = {"VIRTUAL_ENV": str(tmp_path), "LIAR": language}
    finished, _ = run(python, tmp_path, "good", metadata=metadata, env=env)
    assert finished.reason is None, finished
    finished, _ = run(python, tmp_path, "bad", metadata=metadata, env=env)
    assert finished.reason is not None
    assert finished.reason.message.startswith(f"{message} (n.ipynb, cell ")


LIAR = """
import os
from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel

class Liar(Kernel):
    implementation = language = os.environ["LIAR"]
    implementation_version = "1"
    language_info = {"name": os.environ["LIAR"], "mimetype": "text/plain", "file_extension": ".x"}
    banner = ""
    last = ""

    def say(self, text):
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": text})

    def do_execute(self, code, silent, store_history=True, user_expressions=None, allow_stdin=False):
        if "lasterr" in code:
            self.say(self.last)
            self.last = ""
        elif code == "bad" and self.implementation == "octave":
            self.last = "error: it failed"
            self.say("error: it failed\\n")
        elif code == "bad":
            error = {"ename": "Oops", "evalue": "it failed", "traceback": ["Oops: it failed"]}
            self.send_response(self.iopub_socket, "error", error)
        else:
            self.say("error: rate 0.3\\n")
        return {"status": "ok", "execution_count": 1, "payload": [], "user_expressions": {}}

IPKernelApp.launch_instance(kernel_class=Liar)
"""
