"""One context of a kubeconfig, that stands without this machine's files; and the variables of its storage."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from groundplane.client import kubeconfig
from groundplane.model.errors import Invalid


def config(**fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "contexts": [
            {"name": name, "context": {"cluster": f"c-{name}", "user": f"u-{name}"}} for name in ("one", "two")
        ],
        "clusters": [
            {"name": f"c-{name}", "cluster": {"server": f"https://{name}:6443", "certificate-authority": "ca.pem"}}
            for name in ("one", "two")
        ],
        "users": [
            {"name": "u-one", "user": {"client-certificate": "cert.pem", "client-key": "key.pem"}},
            {"name": "u-two", "user": {"tokenFile": "token"}},
        ],
        **fields,
    }


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in (("ca.pem", "CA"), ("cert.pem", "CERT"), ("key.pem", "KEY"), ("token", "TOKEN\n")):
        (tmp_path / name).write_text(text)
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config()))
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(path))
    return path


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_one_context_stands_alone(file: Path) -> None:
    found = json.loads(kubeconfig.read(None, ""))
    assert found["current-context"] == "one"
    assert [each["name"] for each in found["contexts"]] == ["one"]
    (cluster,), (user,) = found["clusters"], found["users"]
    assert cluster["cluster"] == {"server": "https://one:6443", "certificate-authority-data": coded("CA")}
    assert user["user"] == {"client-certificate-data": coded("CERT"), "client-key-data": coded("KEY")}


def test_another_context_is_asked_for_by_name(file: Path) -> None:
    (user,) = json.loads(kubeconfig.read(None, "two"))["users"]
    assert user == {"name": "u-two", "user": {"token": "TOKEN"}}
    assert "KEY" not in kubeconfig.read(None, "two") and coded("KEY") not in kubeconfig.read(None, "two")


def test_a_file_that_is_named_counts_before_the_variable(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text(yaml.safe_dump(config(**{"current-context": "two"})))
    assert json.loads(kubeconfig.read(str(other), ""))["current-context"] == "two"


def test_several_files_are_searched_in_turn(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tmp_path / "first"
    first.write_text(yaml.safe_dump(config(contexts=[], users=[])))
    monkeypatch.setenv("KUBECONFIG", f"{first}:{file}")
    assert json.loads(kubeconfig.read(None, "two"))["current-context"] == "two"


def test_a_pod_without_a_file_has_its_service_account(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG")
    with pytest.raises(Invalid, match="cannot be read"):
        kubeconfig.read(None, "")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    assert kubeconfig.read(None, "") == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "is no kubeconfig"),
        ("just words", "is no kubeconfig"),
        ("{}", "is no kubeconfig"),
        (yaml.safe_dump(config(**{"current-context": ""})), "there is no current context"),
        (yaml.safe_dump(config(**{"current-context": "three"})), "there is no current context"),
        (
            yaml.safe_dump(config(users=[{"name": "u-one", "user": {"client-key": "gone.pem"}}])),
            "names a file that cannot be read",
        ),
    ],
)
def test_what_is_no_kubeconfig_is_refused_with_a_hint(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(Invalid, match=said) as refused:
        kubeconfig.read(None, "")
    assert refused.value.hint


def test_a_context_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(Invalid, match="no context 'three'"):
        kubeconfig.read(None, "three")
    with pytest.raises(Invalid, match="cannot be read"):
        kubeconfig.read(str(file.parent / "none"), "")


def test_only_the_storages_own_variables_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION", "SECRET"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_REGION", "")
    found = json.loads(kubeconfig.storage_variables())
    assert {name for name in found if name in ("AWS_PROFILE", "AWS_REGION", "SECRET")} == set()
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= set(found)
