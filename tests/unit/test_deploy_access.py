"""What deploy/ allows a control plane in a cluster is what it asks for, and no more."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from groundplane.drivers import kubernetes_checks as checks

DEPLOY = Path(__file__).parents[2] / "deploy"


def allowed(*files: str) -> set[tuple[str, str, str]]:
    """(group, resource, verb) of every role in the files."""
    documents: list[Any] = [each for file in files for each in yaml.safe_load_all((DEPLOY / file).read_text())]
    return {
        (group, resource, verb)
        for each in documents
        if each["kind"] in ("Role", "ClusterRole")
        for rule in each["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def asked(*wanted: Iterable[tuple[str, str, tuple[str, ...]]]) -> set[tuple[str, str, str]]:
    return {(group, resource, verb) for each in wanted for group, resource, verbs in each for verb in verbs}


def test_the_roles_are_what_the_check_asks_for() -> None:
    base = asked(checks._NEEDED, checks._NEEDED_FOR_NAMESPACES)
    assert allowed("base/access.yaml") == base
    assert allowed("components/kueue/access.yaml") == asked(checks._NEEDED_FOR_QUEUES)


@pytest.mark.parametrize("file", sorted(DEPLOY.rglob("*.yaml"), key=str), ids=lambda path: path.name)
def test_no_secret_lies_in_the_manifests(file: Path) -> None:
    kinds = [each["kind"] for each in yaml.safe_load_all(file.read_text())]
    assert kinds
    assert "Secret" not in kinds


def test_every_container_is_restricted() -> None:
    """The parts of the Pod Security Standard that a pod says itself."""
    found = 0
    for file in DEPLOY.rglob("*.yaml"):
        for each in yaml.safe_load_all(file.read_text()):
            if each["kind"] not in ("Deployment", "StatefulSet"):
                continue
            spec = each["spec"]["template"]["spec"]
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            for container in spec["containers"]:
                found += 1
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }
    assert found == 3
