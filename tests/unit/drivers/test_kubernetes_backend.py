"""A cluster as a backend: what was given of it, and secrets that are kept, lost and damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from groundplane.drivers import kubernetes_backend as backend
from groundplane.drivers import secrets
from groundplane.drivers.kubernetes import KubernetesDriver
from groundplane.drivers.local import LocalDriver
from groundplane.model.errors import Unavailable

PUBLIC = {"image_registry": "http://registry.example:5000/team", "storage": "s3://bucket/work"}
SECRET = {"kubeconfig": '{"apiVersion": "v1"}', "variables": json.dumps({"AWS_ENDPOINT_URL": "http://s3.example"})}


def kept(home: Path) -> Path:
    return home / "backends" / "k8s.json"


def test_secrets_are_kept_apart_and_found_again(tmp_path: Path) -> None:
    given = backend.read({**PUBLIC, **SECRET}).secrets
    backend.keep(tmp_path, "k8s", {**PUBLIC, **SECRET})
    assert backend.secrets(tmp_path, "k8s") == given
    assert given is not None
    assert given.endpoint == "http://s3.example"
    assert backend.read(PUBLIC).secrets is None
    backend.keep(tmp_path, "k8s", PUBLIC)  # nobody gave any: those that are there stay
    assert backend.secrets(tmp_path, "k8s") == given
    secrets.forget(tmp_path, "k8s")
    assert not kept(tmp_path).exists()


def test_its_work_is_of_the_home_that_has_its_secrets(tmp_path: Path) -> None:
    """A control plane of another home leaves it alone, as it does an agent's work."""
    (tmp_path / "other").mkdir()
    first, again, other = (
        KubernetesDriver.configured(home, "k8s", PUBLIC).site for home in (tmp_path, tmp_path, tmp_path / "other")
    )
    assert first == again == LocalDriver(tmp_path).site != other


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"variables": "{"}', b"\xff"])
def test_secrets_that_are_lost_are_told_where_they_are_needed(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        kept(tmp_path).parent.mkdir()
        kept(tmp_path).write_bytes(content)
    driver = KubernetesDriver.configured(tmp_path, "k8s", PUBLIC)  # as a control plane does that starts
    for ask in (driver.ping, driver.check, lambda: driver.observe(["a"]), lambda: driver.changes("", 0)):
        with pytest.raises(Unavailable) as told:
            ask()
        assert told.value.code == "backend_unavailable"
        assert "'k8s'" in told.value.message and str(kept(tmp_path)) in told.value.message
        assert "ground backends add k8s" in told.value.hint
    driver.close()
