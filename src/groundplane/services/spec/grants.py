"""What a step is given beside its inputs: secrets, and connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from groundplane.model import environment
from groundplane.model.connections import CONNECTION, variable
from groundplane.model.secrets import SECRET, is_variable
from groundplane.services.spec.format import StepTable
from groundplane.services.spec.problems import Problems
from groundplane.services.spec.sources import path_problem, tidy


def secrets(problems: Problems, where: str, table: StepTable, inputs: Sequence[str]) -> Mapping[str, str]:
    """Variable or path -> secret; what is wrong with it goes to `problems`. inputs: their paths."""
    at = f"{where}.secrets"
    found: dict[str, str] = {}
    for place, name in table.secrets.items():
        if not SECRET.fullmatch(name):
            problems.add(at, f"{name!r} is no name of a secret", "`ground secrets list` shows them")
        elif is_variable(place):
            if place.startswith(environment.OWN):
                problems.add(at, f"{place!r}: names that begin with GROUND_ are the platform's own", "rename it")
            elif place in table.env:
                problems.add(at, f"{place!r} is in `env` too", "say it once")
            else:
                found[place] = name
        elif wrong := path_problem(place):
            problems.add(at, wrong[0], wrong[1])
        elif place.endswith("/"):
            problems.add(at, f"{place!r} is a folder", "a secret is one file")
        else:
            found[tidy(place)] = name
    taken = {*inputs, *(tidy(name) for name in (table.run, *table.outputs) if name)}
    for place in sorted(taken & set(found)):
        problems.add(at, f"{place!r} is the step's script, an input or an output too", "give the secret another path")
    return found


def connections(problems: Problems, where: str, table: StepTable) -> tuple[str, ...]:
    """Their names, each once."""
    at = f"{where}.connections"
    variables: dict[str, str] = {}
    for name in table.connections:
        if not CONNECTION.fullmatch(name):
            problems.add(at, f"{name!r} is no name of a connection", "`ground connections list` shows them")
            continue
        other = variables.setdefault(variable(name, "URL"), name)
        if other != name:
            problems.add(at, f"{other!r} and {name!r} would both be {variable(name, 'URL')}", "rename one of them")
    return tuple(dict.fromkeys(variables.values()))
