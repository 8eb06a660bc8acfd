"""Where in a policy it is that Cedar finds wrong: its words name no line, and an expression is asked about alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_TOKEN = re.compile(r'//[^\n]*|"(?:\\.|[^"\\])*"|&&|\|\||!=|==|<=|>=|::|[A-Za-z_]\w*|\S')
_BETWEEN = frozenset({"&&", "||", "!", "if", "then", "else"})
_OPENS, _CLOSES = frozenset("([{"), frozenset(")]}")
_CLAUSES = ("when", "unless")
_EITHER = "principal.outOfScope"
"""A Bool of the schema: behind `false &&`, say, Cedar would not look."""


@dataclass(frozen=True, slots=True)
class _Token:
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Part:
    """An operand of `&&`, `||`, `!` or `if`, from start to end in the policy's text."""

    start: int
    end: int


def parts(text: str) -> list[Part]:
    """Those of all conditions of a policy, in their order, none within another."""
    tokens = _tokens(text)
    found: list[Part] = []
    for index, token in enumerate(tokens[:-1]):
        if token.text in _CLAUSES and tokens[index + 1].text == "{":
            end = _closing(tokens, index + 1)
            found += _operands(tokens[index + 2 : end])
    return found


def alone(text: str, all_parts: Sequence[Part], one: Part | None) -> str:
    """The policy with this part, or none, and in the place of every other what may be true or not."""
    made, at = "", 0
    for each in all_parts:
        if each != one:
            made += text[at : each.start] + _EITHER
            at = each.end
    return made + text[at:]


def head(text: str) -> int:
    """Where the policy itself begins, behind its annotations."""
    return next((token.start for token in _tokens(text) if token.text in ("permit", "forbid")), 0)


def _tokens(text: str) -> list[_Token]:
    found = (_Token(each.start(), each.end(), each[0]) for each in _TOKEN.finditer(text))
    return [token for token in found if not token.text.startswith("//")]


def _operands(tokens: Sequence[_Token]) -> Iterator[Part]:
    """A group in brackets is looked into where it is an operand as a whole."""
    index = 0
    while index < len(tokens):
        if tokens[index].text in _BETWEEN:
            index += 1
            continue
        end = _end(tokens, index)
        if tokens[index].text == "(" and _closing(tokens, index) == end - 1:
            yield from _operands(tokens[index + 1 : end - 1])
        else:
            yield Part(tokens[index].start, tokens[end - 1].end)
        index = end


def _end(tokens: Sequence[_Token], index: int) -> int:
    """The index behind the operand that begins there."""
    while index < len(tokens) and tokens[index].text not in _BETWEEN:
        index = _closing(tokens, index) + 1 if tokens[index].text in _OPENS else index + 1
    return index


def _closing(tokens: Sequence[_Token], index: int) -> int:
    """The index of what closes the bracket that opens there."""
    depth = 0
    for at in range(index, len(tokens)):
        depth += (tokens[at].text in _OPENS) - (tokens[at].text in _CLOSES)
        if depth == 0:
            return at
    return len(tokens) - 1
