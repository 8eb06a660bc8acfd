"""Notebooks without a kernel: what is one, and where its parameters go."""

from __future__ import annotations

import json
from typing import Any

import pytest

from groundplane.model.errors import Invalid
from groundplane.toolchains import registry
from groundplane.toolchains.notebook_parameters import inject, source, typed


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"print('no notebook')",
        b"\xff\xfe",
        b"[]",
        b'{"cells": []}',
        b'{"nbformat": 4}',
        b'{"nbformat": 5, "cells": []}',
        b'{"nbformat": 4, "cells": [{}]}',
        b'{"nbformat": 4, "cells": [{"cell_type": "code"}]}',
        b'{"nbformat": 3, "worksheets": [{}]}',
    ],
)
def test_what_is_no_notebook_is_refused_by_name(body: bytes) -> None:
    with pytest.raises(Invalid, match=r"^x\.ipynb is no notebook: "):
        registry.get("notebook").check("x.ipynb", body)


@pytest.mark.parametrize(
    "body",
    [
        {"nbformat": 4, "cells": []},
        {"nbformat": 4, "cells": [{"cell_type": "code", "source": ["a", "b"]}]},
        {"nbformat": 3, "worksheets": []},
        {"nbformat": 2, "worksheets": [{"cells": [{"cell_type": "code", "input": "1"}]}]},
    ],
)
def test_old_and_empty_notebooks_are_notebooks(body: dict[str, Any]) -> None:
    registry.get("notebook").check("x.ipynb", json.dumps(body).encode())


def test_values_are_typed_as_papermill_does() -> None:
    texts = ["0.3", "3", "-2", "true", "False", "None", "", "abc", "1e3", "$(x)"]
    assert [typed(text) for text in texts] == [0.3, 3, -2, True, False, None, "", "abc", 1000.0, "$(x)"]


NASTY = ["it's", 'a"b', "two\nlines", "\\n", "$x ${y}", "é日本", "", "#", "\x07"]


@pytest.mark.parametrize("text", NASTY)
def test_python_reads_back_any_text(text: str) -> None:
    code = source({"alpha": text, "class": "x", "a.b": "inf"}, "python")
    assert code is not None
    scope: dict[str, Any] = {}
    exec(code, scope)
    assert scope["alpha"] == text
    assert scope["class_"] == "x"
    assert scope["a_b"] == float("inf")


def test_other_languages() -> None:
    assert source({"a-b": "x", "on": "true"}, "R") == '# Parameters\n`a-b` <- "x"\non <- TRUE'
    assert source({"a": "it's\n", "n": "None"}, "octave") == '# Parameters\na = "it\'s\\012";\nn = [];'
    assert source({"a": "$x"}, "julia") == '# Parameters\na = "\\u0024x"'
    assert source({"a": "1"}, "cobol") is None


class _Bag(dict[str, Any]):
    def __getattr__(self, name: str) -> Any:
        return self[name]


def _cell(*tags: str) -> _Bag:
    return _Bag(metadata=_Bag(tags=list(tags)))


def test_where_the_cell_goes() -> None:
    new = _cell("injected-parameters")
    plain = _Bag(cells=[_cell(), _cell("parameters"), _cell()])
    inject(plain, new)
    assert plain.cells.index(new) == 2
    untagged = _Bag(cells=[_cell("x")])
    inject(untagged, new)
    assert untagged.cells[0] is new
    again = _Bag(cells=[_cell("parameters"), _cell("injected-parameters"), _cell()])
    inject(again, new)
    assert len(again.cells) == 3
    assert again.cells[1] is new
