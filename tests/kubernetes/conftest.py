"""A cluster, and a control plane that has it for a backend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import Site, site
from tests.parts import require


@pytest.fixture(scope="session")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The cluster that KUBECONFIG names, and a control plane that has it for a backend, `k8s`."""
    for part in ("kubernetes", "docker-registry", "s3"):
        require(part)
    with site(tmp_path_factory.mktemp("kubernetes")) as made:
        yield made
