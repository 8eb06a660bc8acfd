"""What an event costs beside the transaction it rides in, and how long a million of them take to verify: here, and by
the program that stands alone."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from bench.figures import Figure, median, ms
from groundplane.cli import audit_verifier
from groundplane.drivers.scripted import ScriptedDriver
from groundplane.model.documents import Context, RunRequest
from groundplane.model.ids import new_id
from groundplane.services import audit as recording
from groundplane.services import gate, runs
from groundplane.services.access import Actor
from groundplane.services.audit import exporting, log, tell, verifying
from groundplane.services.audit.signing import written
from groundplane.services.platform import Platform
from groundplane.store.audit_tables import events
from groundplane.store.database import Database, sqlite_url

COUNT = 1_000_000
_SUBMITS = 200
_BATCH = 20_000
_LIMIT = 20.0
_ME = Actor("bench", "owner", source="socket")
_STEP = '[project]\nname = "bench"\n[pipelines.p.steps.a]\ncommand = ["/fake/a"]\n'


def measure() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="ground-bench-") as folder:
        platform = _platform(Path(folder) / "cost")
        event, rest = _cost(platform, Path(folder))
        platform.database.close()
        yield Figure(
            "an event in the transaction of a run's start, p50", ms(event), f"{ms(rest)} (the rest of it)",
            f"{event / rest:.2f}", "less than the rest", event < rest,
        )  # fmt: skip
        platform = _platform(Path(folder) / "verify")
        _fill(platform)
        here = _verify_here(platform)
        alone, peak = _verify_alone(platform, Path(folder))
        platform.database.close()
    for name, took in (("ground audit verify", here), ("the stand-alone verifier", alone)):
        yield Figure(f"{name}, {COUNT:,} events", f"{took:.1f} s", promise=f"< {_LIMIT:.0f} s", holds=took < _LIMIT)
    yield Figure("memory of the stand-alone verifier, peak", f"{peak >> 10} MiB")


def _platform(home: Path) -> Platform:
    home.mkdir()
    return Platform(
        home=home, database=Database(sqlite_url(home / "ground.db")), drivers={"local": ScriptedDriver(home)}
    )


def _cost(platform: Platform, folder: Path) -> tuple[float, float]:
    """Seconds of an event, and of the rest of the transaction of the run's start that it is in."""
    told: list[float] = []
    whole: list[float] = []
    record, write = recording.record, platform.database.write

    def timed(*words: Any, **facts: Any) -> str:
        began = time.perf_counter()
        found = record(*words, **facts)
        told.append(time.perf_counter() - began)
        return found

    @contextmanager
    def timed_write() -> Iterator[Any]:
        began, count = time.perf_counter(), len(told)
        with write() as connection:
            yield connection
        if len(told) > count:  # that of the event, not others before it
            whole.append(time.perf_counter() - began)

    gate.audit.record = timed
    platform.database.write = timed_write
    try:
        for _ in range(_SUBMITS):
            request = RunRequest(target="p", folder=str(folder), context=Context(str(folder), {}), spec=_STEP)
            runs.submit(platform, _ME, new_id(), request)
    finally:
        gate.audit.record = record
        platform.database.write = write
    return median(told), median([each - event for each, event in zip(whole, told, strict=True)])


def _fill(platform: Platform) -> None:
    """So many events: copies of a real one under other ids, integrated as any others."""
    tell(platform, _ME, "run.submit", new_id(), name="fit.R", backend="local", team="cardio", labels=["internal"])
    with platform.database.read() as connection:
        row = dict(connection.execute(select(events)).mappings().one())
    before, after = row["leaf"].split(row["uid"])
    for start in range(1, COUNT, _BATCH):
        rows: list[dict[str, Any]] = []
        for _ in range(start, min(COUNT, start + _BATCH)):
            uid = new_id()
            leaf = f"{before}{uid}{after}"
            mark = written(platform.home, leaf.encode())
            rows.append({"uid": uid, "at": row["at"], "action": row["action"], "outcome": row["outcome"],
                         "person": row["person"], "leaf": leaf, "mark": mark})  # fmt: skip
        with platform.database.write() as connection:
            connection.execute(insert(events), rows)
        log.integrate(platform)


def _verify_here(platform: Platform) -> float:
    began = time.monotonic()
    found = verifying.verify(platform, _ME, {"kept": log.head(platform, _ME)}, lambda line: None)
    took = time.monotonic() - began
    if not found["ok"] or found["size"] != COUNT:
        raise RuntimeError(json.dumps(found))
    return took


def _verify_alone(platform: Platform, folder: Path) -> tuple[float, int]:
    """Seconds of the whole process, and its peak of memory in KiB."""
    checkpoint, exported = folder / "checkpoint", folder / "log.jsonl"
    checkpoint.write_text(log.head(platform, _ME))
    with exported.open("wb") as file:
        file.writelines(exporting.export(platform, _ME, "jsonl", reveal=False))
    words = ["--checkpoint", str(checkpoint), "--key", log.key(platform, _ME), str(exported)]
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{audit_verifier.__file__!r}, *{words!r}]\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally:\n    print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])\n"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    took = time.monotonic() - began
    if f"VERIFIED: {COUNT} events" not in done.stdout:
        raise RuntimeError(done.stdout)
    return took, int(done.stdout.split()[-1])
