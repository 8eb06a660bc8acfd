"""Backends that were added, on the control plane that starts next: one whose driver is broken concerns itself alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from groundplane.engine.conductor import Conductor
from groundplane.model.errors import NotFound, Unavailable
from groundplane.services import backends
from tests.planes import ME, Ground, task

LAB = '[pipelines.p.steps.a]\ncommand = ["/fake/a"]\non = "lab"\n'
GOOD = """
from groundplane.drivers.scripted import ScriptedDriver

class Lab(ScriptedDriver):
    @staticmethod
    def configured(home, name, options):
        return Lab(home, {"/fake/slow": {"delay": 60}})
"""


class Plugin:
    """A package that is installed, whose driver `lab` is in a module of a test's own."""

    def __init__(self, folder: Path) -> None:
        self._module = folder / "lab_plugin.py"
        info = folder / "lab_plugin-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-plugin\nVersion: 1\n")
        (info / "entry_points.txt").write_text("[groundplane.drivers]\nlab = lab_plugin:Lab\n")
        self._points = info / "entry_points.txt"
        self.be(GOOD)

    def be(self, text: str) -> None:
        """The module from now on, as a new process would find it."""
        sys.modules.pop("lab_plugin", None)
        self._module.write_text(f"{text}\n# {len(text)}\n")
        for found in self._module.parent.glob("__pycache__/*"):
            found.unlink()

    def uninstall(self) -> None:
        self._points.write_text("")


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    made = Plugin(tmp_path / "packages")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return made


def again(ground: Ground) -> None:
    """A control plane that starts where the last one ended."""
    ground.again()
    backends.load(ground.platform)


@pytest.mark.parametrize("broken", ["raise RuntimeError('it needs a key')", "import no_such_part", "Other = 1", "("])
def test_a_driver_that_cannot_be_loaded_concerns_its_backend_alone(
    ground: Ground, plugin: Plugin, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert backends.add(ground.platform, ME, "lab", "lab", {}).ok
    assert ground.run(LAB).state == "succeeded"
    with monkeypatch.context() as idle:
        idle.setattr(Conductor, "_rooms", lambda self: {})
        waits = ground.submit(LAB, fresh=True)
        ground.close(killed=True)
    plugin.be(broken)
    again(ground)
    assert {each.name: (each.driver, each.ok) for each in backends.listing(ground.platform, ME)} == {
        "local": ("seat", True), "lab": ("lab", False),
    }  # fmt: skip
    told = backends.check(ground.platform, ME, "lab")
    assert "driver 'lab' cannot be loaded" in told.message
    assert "reinstall its package" in told.hint
    assert ground.run('[pipelines.p.steps.a]\ncommand = ["/fake/b"]\n').state == "succeeded"
    with pytest.raises(Unavailable, match="backend 'lab' cannot be used: driver 'lab' cannot be loaded") as refused:
        ground.submit(LAB)
    assert (refused.value.code, refused.value.hint) == ("backend_unavailable", told.hint)
    assert task(ground.show(waits), "a").state == "queued"
    plugin.be(GOOD)
    again(ground)
    assert ground.wait(waits).state == "succeeded"
    assert backends.check(ground.platform, ME, "lab").ok


def test_work_that_nobody_can_follow_may_be_cancelled_and_holds_up_nothing(
    short_leases: None, ground: Ground, plugin: Plugin
) -> None:
    backends.add(ground.platform, ME, "lab", "lab", {})
    uid = ground.submit(LAB.replace("/fake/a", "/fake/slow"))
    ground.until_task(uid, "a", "running")
    ground.close(killed=True)
    plugin.be("import no_such_part")
    again(ground)
    assert ground.cancel(uid).state == "stopping"
    assert ground.run('[pipelines.p.steps.a]\ncommand = ["/fake/b"]\n').state == "succeeded"
    assert ground.show(uid).state == "stopping"
    plugin.be(GOOD)
    again(ground)
    assert ground.wait(uid).state == "cancelled"


def test_one_that_is_not_installed_any_more_can_be_removed(ground: Ground, plugin: Plugin) -> None:
    backends.add(ground.platform, ME, "lab", "lab", {})
    plugin.uninstall()
    again(ground)
    assert "there is no driver 'lab'" in backends.check(ground.platform, ME, "lab").message
    backends.remove(ground.platform, ME, "lab")
    with pytest.raises(NotFound):
        backends.check(ground.platform, ME, "lab")
    again(ground)
    assert [each.name for each in backends.listing(ground.platform, ME)] == ["local"]


def test_adding_it_again_goes_on(ground: Ground, plugin: Plugin) -> None:
    backends.add(ground.platform, ME, "lab", "lab", {})
    plugin.be("import no_such_part")
    again(ground)
    with pytest.raises(Unavailable):
        backends.add(ground.platform, ME, "lab", "lab", {})
    plugin.be(GOOD)
    assert backends.add(ground.platform, ME, "lab", "lab", {}).ok
    assert ground.run(LAB).state == "succeeded"
