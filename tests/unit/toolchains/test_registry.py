"""Finding a toolchain: by name, and by a file's name and first bytes."""

from __future__ import annotations

import pytest

from groundplane.model.errors import Invalid, NotFound
from groundplane.toolchains import registry


@pytest.mark.parametrize(
    ("name", "head", "toolchain"),
    [
        ("a.py", b"", "python"),
        ("sub/A.PY", b"", "python"),
        ("fit.R", b"", "r"),
        ("fit.r", b"", "r"),
        ("x.m", b"", "matlab"),
        ("x.sps", b"", "spss"),
        ("x.sas", b"", "sas"),
        ("x.sh", b"#!/usr/bin/env python3\n", "shell"),
        ("x.ipynb", b"{", "notebook"),
        ("tool", b"#!/usr/bin/env python3\n", "python"),
        ("tool", b"#!/usr/bin/python3.12 -u\n", "python"),
        ("tool", b"#!/usr/bin/env -S Rscript --vanilla\n", "r"),
        ("tool", b"#! /usr/bin/octave-cli\n", "matlab"),
        ("tool", b"#!/bin/bash\n", "shell"),
        ("tool.pl", b"#!/usr/bin/perl -w\n", "shell"),
        ("fit.R", b"#!/usr/bin/env python3\n", "r"),
    ],
)
def test_detect(name: str, head: bytes, toolchain: str) -> None:
    assert registry.detect(name, head).name == toolchain


def test_an_unknown_file_names_the_way_out() -> None:
    with pytest.raises(Invalid) as caught:
        registry.detect("data.xyz", b"\x7fELF")
    assert "data.xyz" in caught.value.message
    assert ".ipynb" in caught.value.hint
    assert "--toolchain" in caught.value.hint


def test_an_unknown_name_lists_the_valid_ones() -> None:
    with pytest.raises(NotFound) as caught:
        registry.get("cobol")
    assert "python" in caught.value.hint
    assert "cobol" in caught.value.message


def test_every_built_in_is_there() -> None:
    assert set(registry.names()) >= {"python", "r", "matlab", "spss", "sas", "shell", "notebook", "command"}
    for name in registry.names():
        assert registry.get(name).name == name
        assert registry.get(name) is registry.get(name)
