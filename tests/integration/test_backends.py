"""Backends that were added: one that is broken or away concerns itself alone, on the next control plane too."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from groundplane.drivers.scripted import ScriptedDriver
from groundplane.engine import link
from groundplane.engine.conductor import Conductor
from groundplane.model.errors import NotFound, Unavailable
from groundplane.services import backends
from tests.planes import ME, PATIENCE, Ground, task

HERE = '[pipelines.p.steps.a]\ncommand = ["/fake/a"]\n'
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


class Litter(ScriptedDriver):
    """Has something to be tidied."""

    def collect_garbage(self, needed: Callable[[], set[str]]) -> list[str]:
        self._reach()
        return [f"what {len(needed())} open attempts do not need"]


def test_a_backend_that_is_away_keeps_no_other_from_being_tidied(ground: Ground, plugin: Plugin) -> None:
    backends.add(ground.platform, ME, "lab", "lab", {})
    plugin.be("import no_such_part")
    again(ground)
    first, second, third = Litter(None), Litter(None), Litter(None)
    first.reachable = False
    ground.platform.drivers = {**ground.platform.drivers, "first": first, "second": second, "third": third}
    found = {each.name: each for each in backends.collect_garbage(ground.platform, ME, None)}
    assert set(found) == {"first", "second", "third", "lab"}  # `local` keeps nothing
    assert "out of reach" in found["first"].error and not found["first"].deleted
    for name in ("second", "third"):
        assert found[name].deleted == ("what 0 open attempts do not need",) and not found[name].error
    assert "driver 'lab' cannot be loaded" in found["lab"].error and found["lab"].hint
    with pytest.raises(Unavailable):
        backends.collect_garbage(ground.platform, ME, "first")
    with pytest.raises(NotFound):
        backends.collect_garbage(ground.platform, ME, "nobody")


def test_a_backend_that_does_not_answer_is_told_once_and_so_is_its_end(
    ground: Ground, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(link, "_RETRY_SECONDS", 0.02)
    assert ground.backend and ground.run(HERE).state == "succeeded"
    tries: list[int] = []
    reach = ground.backend._reach

    def counted() -> None:
        tries.append(1)
        reach()

    monkeypatch.setattr(ground.backend, "_reach", counted)
    ground.backend.reachable = False
    uid = ground.submit(HERE, fresh=True)
    tries.clear()
    deadline = time.monotonic() + PATIENCE
    while len(tries) <= 20:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ground.backend.reachable = True
    assert ground.wait(uid).state == "succeeded"
    told = [record.getMessage() for record in caplog.records if record.name == link.__name__]
    assert 1 <= sum("does not answer" in text for text in told) <= 2  # a thread that follows, one that tells
    assert sum("answers again" in text for text in told) == sum("does not answer" in text for text in told)


def test_a_long_outage_is_told_of_rarely(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level("INFO")
    clock = iter([0.0, 1.0, 601.0, 602.0, 1201.5, 1300.0])
    monkeypatch.setattr(link.time, "monotonic", lambda: next(clock))
    outage = link.Outage("lab")
    outage.over()
    for _ in range(5):
        outage.failed(Unavailable("away"))
    outage.over()
    assert [record.getMessage() for record in caplog.records] == [
        "backend does not answer backend=lab error=away",
        "backend still does not answer backend=lab seconds=601 error=away",
        "backend still does not answer backend=lab seconds=1202 error=away",
        "backend answers again backend=lab seconds=1300",
    ]
