"""From an ending to a reason, for what is hard to bring about with a real engine."""

from __future__ import annotations

import pytest

from groundplane.spi.toolchain import Ending
from groundplane.toolchains import registry

TOOLCHAINS = ["python", "r", "matlab", "spss", "sas", "shell", "notebook", "command"]
TRACEBACK = """Traceback (most recent call last):
  File "/w/1/tree/sub/fit.py", line 9, in <module>
    load("x")
  File "/w/1/tree/helpers.py", line 4, in load
    return frame.read(path)
  File "/v/lib/python3.11/site-packages/frame/io.py", line 88, in read
    raise ValueError("no column")
ValueError: no column
and a second line
"""


@pytest.mark.parametrize("name", TOOLCHAINS)
def test_success_needs_no_reason(name: str) -> None:
    ending = Ending(0, sentinel=True, stdout="error: fine\n", stderr="error: ignoring const execution_exception&\n")
    assert registry.get(name).diagnose(ending, "x") is None


@pytest.mark.parametrize("name", TOOLCHAINS)
@pytest.mark.parametrize("reported", [9, None])
def test_a_signal_is_named_with_what_to_do(name: str, reported: int | None) -> None:
    reason = registry.get(name).diagnose(Ending(137, signal=reported, sentinel=True), "x")
    assert reason is not None
    assert reason.message == "ended by SIGKILL"
    assert "--memory" in reason.hint


@pytest.mark.parametrize("name", TOOLCHAINS)
@pytest.mark.parametrize("code", [1, 2, 3, 127, 200, 255])
def test_every_other_status_is_a_failure_with_a_bounded_message(name: str, code: int) -> None:
    reason = registry.get(name).diagnose(Ending(code, stderr="x" * 9000 + "\n"), "x")
    if name == "sas" and code == 1:
        assert reason is None  # warnings only
        return
    assert reason is not None
    assert reason.code == "error"
    assert len(reason.message) <= 500


def test_a_traceback_points_at_the_users_own_file() -> None:
    reason = registry.get("python").diagnose(Ending(1, stderr="noise\n" + TRACEBACK), "sub/fit.py")
    assert reason is not None
    assert reason.message == "ValueError: no column (helpers.py, line 4: return frame.read(path))"


def test_a_caught_traceback_is_not_the_reason_for_a_status() -> None:
    reason = registry.get("python").diagnose(Ending(3, stderr=TRACEBACK + "giving up\n"), "sub/fit.py")
    assert reason is not None
    assert reason.message == "exited with status 3: giving up"


def test_a_missing_module_names_interpreter_and_cure() -> None:
    text = 'Traceback (most recent call last):\n  File "/w/a.py", line 1, in <module>\n    import yaml.x\n'
    ending = Ending(1, stderr=text + "ModuleNotFoundError: No module named 'yaml.x'\n", engine="/env/bin/python")
    reason = registry.get("python").diagnose(ending, "a.py")
    assert reason is not None
    assert reason.hint.endswith("/env/bin/python -m pip install yaml")


def test_sys_exit_with_a_text() -> None:
    reason = registry.get("python").diagnose(Ending(1, stderr="no rows left\n"), "a.py")
    assert reason is not None
    assert reason.message == "exited with status 1: no rows left"


@pytest.mark.parametrize(
    ("stderr", "message", "hint"),
    [
        ("Error in library(abc) : there is no package called ‘abc’\nExecution halted\n", "‘abc’", "install.packages"),
        (
            "Warning message:\nhm\nError in g(1) : \n  far too long\nand more\nCalls: f -> g\nExecution halted\n",
            "Error in g(1) : far too long and more (a.R)",
            "",
        ),
        ('Error: unexpected symbol in "foo bar"\nExecution halted\n', 'unexpected symbol in "foo bar"', "syntax"),
    ],
)
def test_r(stderr: str, message: str, hint: str) -> None:
    reason = registry.get("r").diagnose(Ending(1, stderr=stderr), "a.R")
    assert reason is not None
    assert message in reason.message
    assert hint in reason.hint
    assert "Calls:" not in reason.message


def test_octave_names_the_line_of_the_script() -> None:
    stderr = (
        "warning: x\nerror: package nosuch is not installed\nerror: called from\n"
        "    load_packages at line 47 column 7\n    p at line 3 column 1\n"
    )
    reason = registry.get("matlab").diagnose(Ending(1, stderr=stderr), "sub/p.m")
    assert reason is not None
    assert reason.message == "package nosuch is not installed (sub/p.m, line 3)"
    assert "octave-nosuch" in reason.hint


def test_newer_pspp_messages_with_columns() -> None:
    report = "a b.sps:10.13-10.18: error: COMPUTE: Unknown identifier nosuch.\n   10 | COMPUTE z = nosuch.\n"
    reason = registry.get("spss").diagnose(Ending(1, report=report), "a b.sps")
    assert reason is not None
    assert reason.message == "COMPUTE: Unknown identifier nosuch (a b.sps, line 10)"


def test_ibm_spss_without_a_sentinel_needs_an_error_to_fail() -> None:
    spss, engine = registry.get("spss"), "/opt/IBM/bin/statisticsb"
    assert spss.diagnose(Ending(0, stdout="fine\n", engine=engine), "a.sps") is None
    reason = spss.diagnose(Ending(0, stdout=">Error # 34 in column 10.\n", engine=engine), "a.sps")
    assert reason is not None
    assert "Error # 34" in reason.message


def test_a_sas_log() -> None:
    log = (
        "WARNING: Your SAS licence will expire within 30 days.\n"
        "7          data b; set nosuch; run;\n\nERROR: File WORK.NOSUCH.DATA does not exist.\nERROR: later\n"
    )
    reason = registry.get("sas").diagnose(Ending(2, stderr=log), "a.sas")
    assert reason is not None
    assert reason.message == "File WORK.NOSUCH.DATA does not exist. (a.sas, line 7: data b; set nosuch; run;)"
    assert "expire" in reason.hint
    abort = registry.get("sas").diagnose(Ending(3), "a.sas")
    assert abort is not None
    assert "ABORT" in abort.message


def test_a_shells_own_message_names_script_and_line() -> None:
    reason = registry.get("shell").diagnose(Ending(127, stderr="x.sh: 3: nosuch: not found\n"), "x.sh")
    assert reason is not None
    assert reason.message == "exited with status 127: x.sh, line 3: nosuch: not found"
    assert "PATH" in reason.hint


_NO_YAML = 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n    import yaml\n'
_NO_YAML += "ModuleNotFoundError: No module named 'yaml'\n"
_NO_ABC = "Error in library(abc) : there is no package called ‘abc’\nExecution halted\n"


@pytest.mark.parametrize(("toolchain", "stderr", "package"), [("python", _NO_YAML, "yaml"), ("r", _NO_ABC, "abc")])
def test_in_an_image_a_missing_package_belongs_into_the_environment(toolchain: str, stderr: str, package: str) -> None:
    found = registry.get(toolchain).diagnose(Ending(1, stderr=stderr, inside=True), "a.py")
    assert found is not None
    assert f"add {package!r} to `packages`" in found.hint
    outside = registry.get(toolchain).diagnose(Ending(1, stderr=stderr), "a.py")
    assert outside is not None and "environments" not in outside.hint
