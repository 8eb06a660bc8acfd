"""No route and no change without a decision."""

from __future__ import annotations

import ast
from pathlib import Path

from fastapi.openapi.utils import get_openapi

from groundplane.api.actions import ACTIONS, OPEN
from groundplane.services import cedar
from tests.unit.api.asgi import Api

SERVICES = Path(__file__).parents[2] / "src" / "groundplane" / "services"


def test_every_route_has_its_action(tmp_path: Path) -> None:
    described = get_openapi(title="-", version="-", routes=Api(tmp_path).app.routes)
    routes = {
        (method, path.removeprefix("/api/v1")) for path, methods in described["paths"].items() for method in methods
    }
    assert routes == set(ACTIONS), "api/actions.py and the routes name the same operations"


def test_every_action_of_a_route_is_one_that_policies_know() -> None:
    assert set(ACTIONS.values()) - {OPEN} <= set(cedar.actions())


def test_every_action_that_a_service_asks_about_is_one_that_policies_know() -> None:
    asked: set[str] = set()
    for path in SERVICES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                asked |= _actions(node)
    assert len(asked) > 20
    assert asked <= set(cedar.actions()), asked - set(cedar.actions())


def _actions(call: ast.Call) -> set[str]:
    if not (isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name)):
        return set()
    if call.func.value.id != "gate" or call.func.attr not in ("change", "require", "decide", "decided"):
        return set()
    words = (each.value for each in call.args if isinstance(each, ast.Constant))
    return {word for word in words if isinstance(word, str) and "." in word}


def test_the_groups_of_actions_are_actions_of_none() -> None:
    groups = {group for found in cedar.actions().values() for group in found}
    assert groups == {"see", "data", "work", "maintain", "operate", "audit", "govern", "anyone", "own"}
