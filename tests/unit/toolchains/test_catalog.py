"""The catalogue, and what installing takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from groundplane.model.errors import NotFound, Unavailable
from groundplane.toolchains import catalog, install, registry

DEBIAN = {"ID": "debian"}


def here(name: str) -> str | None:
    return f"/usr/bin/{name}"


def nowhere(name: str) -> str | None:
    return None


def plan(name: str, **options: object) -> install.InstallPlan:
    defaults: dict[str, object] = {"euid": 0, "os_release": DEBIAN, "which": here}
    return install.plan(name, Path("/home/g"), **{**defaults, **options})  # pyright: ignore


def test_the_catalogue_and_the_toolchains_know_each_other() -> None:
    for name in catalog.names():
        engines = {engine.name: engine for engine in registry.get(name).engines}
        assert set(engines) == {engine.name for engine in catalog.entry(name).engines}
        for engine in catalog.entry(name).engines:
            assert engines[engine.name].tested == bool(engine.tested_on)
            assert engine.support
            assert engine.elsewhere
            for version in engine.versions:
                assert version.sources
                assert re.fullmatch(r"(\d{4}-\d{2})?", version.support_ends)
    assert set(catalog.names()) <= set(registry.names())


def test_an_unknown_name_lists_the_valid_ones() -> None:
    with pytest.raises(NotFound) as caught:
        plan("cobol")
    assert "octave" in caught.value.hint
    with pytest.raises(NotFound):
        catalog.entry("octave")


@pytest.mark.parametrize(("name", "package"), [("r", "r-base-core"), ("matlab", "octave"), ("pspp", "pspp")])
def test_root_on_debian_uses_apt_with_argument_lists(name: str, package: str) -> None:
    planned = plan(name)
    assert planned.commands[0] == ("apt-get", "update")
    assert planned.commands[1][:3] == ("apt-get", "install", "-y")
    assert package in planned.commands[1]
    assert plan(name, os_release={"ID": "mint", "ID_LIKE": "ubuntu debian"}).commands == planned.commands


@pytest.mark.parametrize("options", [{"euid": 1000}, {"os_release": {"ID": "fedora"}}, {"which": nowhere}])
def test_elsewhere_it_says_what_to_do(options: dict[str, object]) -> None:
    planned = plan("r", **options)
    assert planned.commands == ()
    assert planned.instructions
    with pytest.raises(Unavailable) as caught:
        install.execute(planned, print)
    assert caught.value.hint == planned.instructions


@pytest.mark.parametrize("name", ["spss", "sas"])
def test_a_toolchain_installs_its_free_engine_and_a_licensed_one_is_explained(name: str) -> None:
    licensed, free = catalog.entry(name).engines
    assert plan(name).engine == free.name
    assert licensed.proprietary


def test_a_licensed_engine_alone_is_explained() -> None:
    entry = catalog.entry("sas")
    assert "licence" in install._elsewhere(entry.engines[0])


def test_saslite_gets_an_environment_of_its_own() -> None:
    planned = plan("saslite", euid=1000, os_release={})
    assert planned.folder == Path("/home/g/engines/saslite")
    assert "pandas<3" in planned.commands[-1]


def test_a_failing_program_is_told_with_its_last_lines_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "engine"
    script = f"mkdir {folder}; echo one; echo two >&2; exit 7"
    said: list[str] = []
    planned = install.InstallPlan("x", "X", commands=(("sh", "-c", script),), folder=folder)
    with pytest.raises(Unavailable) as caught:
        install.execute(planned, said.append)
    assert "status 7" in caught.value.message
    assert "two" in caught.value.hint
    assert said[1:] == ["one", "two"]
    assert not folder.exists()


def test_os_release(tmp_path: Path) -> None:
    path = tmp_path / "os-release"
    path.write_text('# c\nID=debian\nPRETTY_NAME="Debian GNU/Linux 12"\n')
    assert install.read_os_release(path) == {"ID": "debian", "PRETTY_NAME": "Debian GNU/Linux 12"}
    assert install.read_os_release(tmp_path / "none") == {}
