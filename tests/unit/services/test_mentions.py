"""A decision is made once for all who are alike in what policies look at: never for more than those."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from groundplane.services.cedar import PolicyFile, Rules, cedarpy
from groundplane.services.mentions import mentions
from groundplane.services.objects import Launch, Principal, Resource

LAUNCH = 'action == Action::"run.submit", resource'
LAUNCHES = [
    'forbid (principal, action, resource) when { resource.team == "a" && !principal.clearance.contains("phi") };',
    'forbid (principal == User::"ann", action in Action::"work", resource);',
    f'forbid (principal in User::"bob", {LAUNCH} is Launch);',
    'forbid (principal is User, action, resource == Launch::"p");',
    'forbid (principal, action, resource) when { principal.hasTag("g") && principal.getTag("g") == resource.team };',
    'permit (principal, action, resource) when { resource has image && resource.image like "r*" };',
    f'permit (principal, {LAUNCH}) when {{ principal == User::"ann" }};',
    f'permit (principal, {LAUNCH}) when {{ resource in Launch::"q" }};',
    f'forbid (principal, {LAUNCH}) when {{ resource.cost.greaterThan(decimal("1.0")) }};',
    f'forbid (principal, {LAUNCH}) unless {{ [principal.name, "ann"].contains("ann") }};',
    f'permit (principal, {LAUNCH}) when {{ {{who: principal, at: resource}}.who.level == "2" }};',
    f'forbid (principal, {LAUNCH}) when {{ (if principal.outOfScope then principal.name else "bob") == "bob" }};',
    f"forbid (principal, {LAUNCH}) when {{ resource.gpus + 9223372036854775807 > 0 }};",
]
OBJECTS = [
    'permit (principal, action == Action::"run.see", resource) when { resource.owner == principal.name };',
    'forbid (principal, action == Action::"run.see", resource) when { principal.teams.containsAny(resource.labels) };',
]
PRINCIPALS = some.builds(
    Principal,
    name=some.sampled_from(["ann", "bob"]),
    kind=some.just("user"),
    roles=some.sampled_from([frozenset[str](), frozenset({"member"})]),
    teams=some.sampled_from([frozenset[str](), frozenset({"a"})]),
    clearance=some.sampled_from([frozenset[str](), frozenset({"phi"})]),
    level=some.sampled_from(["", "2"]),
    attributes=some.sampled_from([(), (("g", "a"),), (("g", "b"),)]),
    out_of_scope=some.booleans(),
)
ASKED = some.tuples(
    some.just("run.submit"),
    some.builds(
        Launch,
        team=some.sampled_from(["a", "b"]),
        project=some.sampled_from(["p", "q"]),
        image=some.sampled_from(["", "r:4"]),
        gpus=some.sampled_from([0, 1]),
        cost=some.sampled_from(["0.0", "2.0"]),
    ),
) | some.tuples(
    some.just("run.see"),
    some.builds(
        Resource,
        kind=some.just("run"),
        name=some.sampled_from(["ann", "x"]),
        team=some.sampled_from(["a", "b"]),
        owner=some.sampled_from(["ann", "bob"]),
        labels=some.sampled_from([frozenset[str](), frozenset({"a"})]),
    ),
)


@settings(max_examples=60, deadline=None)
@given(
    some.lists(some.sampled_from([*LAUNCHES, *OBJECTS]), max_size=4, unique=True),
    some.lists(some.tuples(PRINCIPALS, ASKED), min_size=6, max_size=20),
)
def test_what_was_decided_before_changes_no_decision(
    firm: list[str], questions: list[tuple[Principal, tuple[str, Launch | Resource]]]
) -> None:
    files = [PolicyFile("firm", "\n".join(firm))]
    used = Rules(files)
    for who, (action, on) in questions:
        assert used.decide(who, action, on) == Rules(files).decide(who, action, on)


def looked_at(text: str) -> set[tuple[str, str]]:
    (body,) = json.loads(cedarpy().policies_to_json_str(text))["staticPolicies"].values()
    return set(mentions(body))


@pytest.mark.parametrize(
    ("of_whom", "condition", "expected"),
    [
        ("", "", set[tuple[str, str]]()),
        (" is User", "", set[tuple[str, str]]()),
        (' == User::"a"', "", {("principal", "*")}),
        (' is User in User::"a"', "", {("principal", "*")}),
        ("", "when { principal == resource }", {("principal", "*"), ("resource", "*")}),
        ("", "unless { principal.roles.contains(resource.team) }", {("principal", "roles"), ("resource", "team")}),
        ("", 'when { principal.getTag(resource.name) == "x" }', {("principal", "tags"), ("resource", "name")}),
        ("", 'when { {"left": resource, "attr": 1}.left has gpus }', {("resource", "*")}),
        ("", 'when { {"Var": principal.name}.Var == "x" }', {("principal", "name")}),
    ],
)
def test_what_a_policy_looks_at(of_whom: str, condition: str, expected: set[tuple[str, str]]) -> None:
    assert looked_at(f"permit (principal{of_whom}, action, resource) {condition};") == expected


def test_people_alike_are_decided_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = Rules([PolicyFile("firm", LAUNCHES[0])])
    made = 0
    real = cedarpy().is_authorized

    def counted(*words: object) -> object:
        nonlocal made
        made += 1
        return real(*words)

    monkeypatch.setattr(cedarpy(), "is_authorized", counted)
    for number in range(50):
        launch = Launch("a" if number % 2 else "b", f"p{number}", cpus=number)
        rules.decide(Principal(f"u{number}", "user", frozenset({"member"})), "run.submit", launch)
    assert made == 2


def test_an_error_is_nobody_elses() -> None:
    rules = Rules([])
    who = Principal("ann", "user", frozenset({"member"}))
    assert rules.decide(who, "run.submit", Launch("a", "p", cost="much")).error
    assert rules.decide(who, "run.submit", Launch("a", "p")).allowed
