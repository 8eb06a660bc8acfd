"""From a call to the command, where no engine is needed to see it."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from groundplane.spi.toolchain import Call, Engine
from groundplane.toolchains import registry
from groundplane.toolchains.sas import assignments
from groundplane.toolchains.shebang import read_shebang
from groundplane.toolchains.spss import literal, macros


def call(
    engine: str,
    script: str | None,
    *,
    parameters: Mapping[str, str] | None = None,
    arguments: tuple[str, ...] = (),
    command: tuple[str, ...] = (),
    head: bytes = b"",
) -> Call:
    return Call(
        Engine(engine, f"/opt/{engine}", "1"), script, command, arguments, dict(parameters or {}), "/s p/u", head
    )


def test_parameters_come_before_the_arguments() -> None:
    made = registry.get("python").command(call("python", "a.py", parameters={"alpha": "0.3"}, arguments=("--", "x")))
    assert made.argv == ("/opt/python", "a.py", "--alpha", "0.3", "--", "x")
    assert made.env["PYTHONUNBUFFERED"] == "1"


@pytest.mark.parametrize("toolchain", ["python", "r", "matlab", "shell"])
def test_a_name_with_a_dash_is_no_option(toolchain: str) -> None:
    assert "./-x" in registry.get(toolchain).command(call("octave", "-x")).argv


@pytest.mark.parametrize(
    ("head", "before"),
    [
        (b"", ("/opt/sh",)),
        (b"# no interpreter\n", ("/opt/sh",)),
        (b"#!/bin/bash -e -u\n", ("/bin/bash", "-e -u")),
        (b"#!/usr/bin/env bash\r\n", ("/usr/bin/env", "bash")),
        (b"#! /usr/bin/env -S perl -w\n", ("/usr/bin/env", "-S perl -w")),
        (b"#!\n", ("/opt/sh",)),
    ],
)
def test_the_shebang_is_read_as_the_kernel_does(head: bytes, before: tuple[str, ...]) -> None:
    made = registry.get("shell").command(call("sh", "x.sh", parameters={"p": "1"}, head=head))
    assert made.argv == (*before, "x.sh", "--p", "1")


@pytest.mark.parametrize(
    ("head", "program"),
    [
        (b"#!/usr/bin/env -S A=1 bash -e\n", "bash"),
        (b"#!/usr/bin/env -Sbash\n", "bash"),
        (b"#!/usr/bin/env python3\n", "python3"),
        (b"#!/opt/x/zsh\n", "/opt/x/zsh"),
    ],
)
def test_the_engine_is_the_interpreter_that_the_file_names(head: bytes, program: str) -> None:
    shebang = read_shebang(head)
    assert shebang is not None
    assert shebang.program == program
    (engine,) = registry.get("shell").engines_for(head, ())
    assert engine.programs == (program,)


def test_a_command_is_started_as_written() -> None:
    toolchain = registry.get("command")
    (engine,) = toolchain.engines_for(b"", ("bin/tool", "--x"))
    assert (engine.name, engine.programs, engine.probe) == ("tool", ("bin/tool",), ())
    made = toolchain.command(call("tool", None, command=("./tool", "--x"), parameters={"p": "1"}, arguments=("y",)))
    assert made.argv == ("./tool", "--x", "y")
    made = toolchain.command(call("make", None, command=("make", "all")))
    assert made.argv == ("/opt/make", "all")
    assert not toolchain.detect("make", b"#!/bin/sh")


def test_matlab_gets_variables_and_an_argv() -> None:
    parameters = {"alpha": "0.3", "on": "true", "name": "it's\nme", "a-b": "x"}
    argv = registry.get("matlab").command(call("matlab", "fit.m", parameters=parameters, arguments=("z",))).argv
    assert argv[:2] == ("/opt/matlab", "-batch")
    assert (
        "argv = {'--alpha'; '0.3'; '--on'; 'true'; '--name'; ['it''s' char([10]) 'me']; '--a-b'; 'x'; 'z'};" in argv[2]
    )
    assert "alpha = 0.3; on = true; name = ['it''s' char([10]) 'me']; a_b = 'x'; run('fit.m');" in argv[2]
    nested = registry.get("matlab").command(call("matlab", "sub/fit.m")).argv[2]
    assert "addpath('sub');" in nested
    assert nested.endswith(" fit;")


def test_spss_literals_hold_any_text() -> None:
    assert literal("it's") == "'it''s'"
    assert literal("") == "''"
    assert literal("a\n!b") == "'a' + X'0a21' + 'b'"
    assert macros({"alpha": "-1e3", "a-b": "x", "by": "y", "_z": "1"}) == (
        "DEFINE !alpha () -1e3 !ENDDEFINE.\nDEFINE !a_b () 'x' !ENDDEFINE.\n"
        "DEFINE !by_ () 'y' !ENDDEFINE.\nDEFINE !x_z () 1 !ENDDEFINE.\n"
    )


def test_ibm_spss_needs_a_sentinel_that_is_hard_to_guess() -> None:
    made = registry.get("spss").command(call("spss", "a.sps"))
    assert made.sentinel is not None
    echoed = made.files["wrap.sps"].splitlines()[-1]
    assert len(echoed) > 20
    assert registry.get("spss").command(call("pspp", "a.sps")).sentinel is None


def test_sas_stops_at_errors_and_masks_what_means_something() -> None:
    made = registry.get("sas").command(call("sas", "a.sas", parameters={"p": "1"}, arguments=("x", "y")))
    assert {"-errorabend", "-errorcheck", "strict", "-nodms"} <= set(made.argv)
    assert made.argv[made.argv.index("-sysparm") + 1] == "x y"
    assert "%include '/s p/u/parameters.sas';" in made.argv
    said = assignments({"alpha": "0.3", "b.c": "a;b"})
    assert "%let alpha = 0.3;" in said
    assert "call symput('b_c', '613b62'x)" in said
    assert "%let b_c = %superq(b_c);" in said


def test_saslite_gets_its_macros_as_data() -> None:
    made = registry.get("sas").command(call("saslite", "a.sas", parameters={"alpha": "a;b"}))
    assert json.loads(made.files["parameters.json"]) == {"ALPHA": "a;b"}
    assert "def main" in made.files["saslite_runner.py"]


@pytest.mark.parametrize("toolchain", ["matlab", "spss", "sas"])
def test_engines_that_nobody_ran_say_so(toolchain: str) -> None:
    licensed, free = registry.get(toolchain).engines
    assert not licensed.tested
    assert licensed.note
    assert licensed.probe == ()  # asking may take a licence seat
    assert free.tested
    assert free.note
