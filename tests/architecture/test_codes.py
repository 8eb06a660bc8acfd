"""Every code that a user can meet stands in docs/failures.md with what to do, and the page names no others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "groundplane"
PAGE = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")
_OF_CONVERSIONS = ("CONVERSION_REFUSED", "UNREADABLE_TABLE", "CONVERSION_FAILED", "QUERY_FAILED", "CONNECTION_FAILED")
CODE = re.compile(r"[a-z]+(_[a-z]+)*")


def codes(tree: ast.AST) -> Iterator[str]:
    """What `Reason(…)` begins with, `code=` of errors, `default_code` of classes, the constants of data/errors."""
    for node in ast.walk(tree):
        found: list[ast.expr] = []
        if isinstance(node, ast.Call):
            found += [word.value for word in node.keywords if word.arg == "code"]
            if isinstance(node.func, ast.Name) and node.func.id == "Reason":
                found += node.args[:1]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found += [node.value] if node.target.id == "default_code" else []
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            found += [node.value] if name == "default_code" or name in _OF_CONVERSIONS else []
        for expression in found:
            for part in (expression.body, expression.orelse) if isinstance(expression, ast.IfExp) else (expression,):
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and CODE.fullmatch(part.value):
                    yield part.value


def test_the_page_has_every_code_and_no_other() -> None:
    used = {
        code
        for path in SOURCE.rglob("*.py")
        if path.name != "scripted.py"  # its codes are its script's
        for code in codes(ast.parse(path.read_text(encoding="utf-8")))
    }
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    told = {code for row in rows for code in re.findall(r"`([a-z_]+)`", row)}
    assert {"error", "timeout", "lost", "no_space", "conversion_refused", "not_found"} <= used
    assert used - told == set(), "docs/failures.md lacks these"
    assert told - used == set(), "docs/failures.md tells of these, which nothing uses"


def test_every_page_is_in_the_index_and_every_link_leads_somewhere() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name
    for page in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "examples" / "README.md",
        *(ROOT / "docs").glob("*.md"),
    ):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"
