"""Parameters in a notebook, as papermill puts them: a cell tagged `injected-parameters` behind the one tagged
`parameters`, else at the top. Values are typed as by papermill's command line."""

from __future__ import annotations

import json
import keyword
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

Value = str | int | float | bool | None


def typed(text: str) -> Value:
    """`0.3` as a float, `3` as an int, `true` and `True` as True, `None` as None, else the text."""
    if text in ("True", "true"):
        return True
    if text in ("False", "false"):
        return False
    if text == "None":
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def source(parameters: Mapping[str, str], language: str) -> str | None:
    """The cell's code; None for a language in which no assignment is known."""
    write = _WRITERS.get(language.lower())
    if write is None:
        return None
    return "\n".join(["# Parameters", *(write(name, typed(value)) for name, value in parameters.items())])


def inject(notebook: Any, cell: Any) -> None:
    """Puts the cell in, in place of one that an earlier execution left."""
    cells: list[Any] = notebook.cells
    before = next((i for i, c in enumerate(cells) if "injected-parameters" in _tags(c)), None)
    if before is not None:
        cells[before] = cell
        return
    declared = next((i for i, c in enumerate(cells) if "parameters" in _tags(c)), -1)
    cells.insert(declared + 1, cell)


def _tags(cell: Any) -> list[str]:
    return cell.metadata.get("tags", [])


def _python(name: str, value: Value) -> str:
    legal = re.sub(r"\W", "_", name)
    if keyword.iskeyword(legal):
        legal += "_"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{legal} = float({str(value)!r})"
    return f"{legal} = {value!r}"


def _r(name: str, value: Value) -> str:
    legal = f"`{name}`" if re.search(r"[^\w.]|^_", name) else name
    if isinstance(value, bool):
        return f"{legal} <- {str(value).upper()}"
    if value is None:
        return f"{legal} <- NULL"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{legal} <- {'NaN' if math.isnan(value) else 'Inf' if value > 0 else '-Inf'}"
    return f"{legal} <- {_text(value)}"


def _octave(name: str, value: Value) -> str:
    legal = re.sub(r"\W", "_", name)
    legal = f"x{legal}" if legal.startswith("_") else legal
    if isinstance(value, bool):
        return f"{legal} = {str(value).lower()};"
    if value is None:
        return f"{legal} = [];"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{legal} = {'NaN' if math.isnan(value) else 'Inf' if value > 0 else '-Inf'};"
    if isinstance(value, str):
        # Octal escapes are those that Octave's double-quoted strings share with no other meaning.
        escaped = re.sub(r'[\x00-\x1f\x7f"\\]', lambda m: f"\\{ord(m[0]):03o}", value)
        return f'{legal} = "{escaped}";'
    return f"{legal} = {value!r};"


def _julia(name: str, value: Value) -> str:
    legal = re.sub(r"\W", "_", name)
    if isinstance(value, bool):
        return f"{legal} = {str(value).lower()}"
    if value is None:
        return f"{legal} = nothing"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{legal} = {'NaN' if math.isnan(value) else 'Inf' if value > 0 else '-Inf'}"
    written = _text(value)
    return f"{legal} = " + (written.replace("$", "\\u0024") if isinstance(value, str) else written)


def _text(value: str | int | float) -> str:
    """Numbers as they are; text as JSON writes it, whose escapes R and Julia read alike."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


_WRITERS: dict[str, Callable[[str, Value], str]] = {
    "python": _python,
    "r": _r,
    "octave": _octave,
    "matlab": _octave,
    "julia": _julia,
}
