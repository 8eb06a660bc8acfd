"""The engines under test."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from groundplane.model.errors import Unavailable
from groundplane.spi.toolchain import Engine
from groundplane.toolchains import install, registry
from tests.conformance.languages import Language
from tests.conformance.run_command import find_engine
from tests.parts import require


@pytest.fixture(scope="session")
def saslite(pytestconfig: pytest.Config) -> str:
    """The folder of `saslite`: on PATH, or installed as a user would, once a checkout."""
    found = shutil.which("saslite")
    if found:
        return str(Path(found).parent)
    home = Path(pytestconfig.cache.mkdir("ground-home")) if pytestconfig.cache else Path("/nonexistent")
    folder = home / "engines" / "saslite" / "bin"
    if not (folder / "saslite").exists():
        said: list[str] = []
        try:
            install.execute(install.plan("saslite", home), said.append)
        except Unavailable as problem:
            message = f"saslite cannot be installed here: {problem.message}"
            if "saslite" in os.environ.get("GROUND_TEST_REQUIRE", "").split(","):
                pytest.fail(message)
            pytest.skip(message)
    return str(folder)


@pytest.fixture
def engine_of(request: pytest.FixtureRequest):
    """The engine of a language, found as the platform finds it; a skip or failure where there is none."""

    def find(language: Language) -> Engine:
        if language.part and language.part != "saslite":
            require(language.part)
        folders = [str(request.getfixturevalue("saslite"))] if language.engine == "saslite" else []
        if language.toolchain == "notebook":
            folders = [str(Path(sys.executable).parent)]  # it has ipykernel
        toolchain = registry.get(language.toolchain)
        spec = next(spec for spec in toolchain.engines if spec.name == language.engine)
        found = find_engine(spec, folders)
        assert found is not None, f"{spec.programs} are not on PATH"
        return found

    return find
