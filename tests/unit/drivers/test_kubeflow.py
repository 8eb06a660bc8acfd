"""What the Kubeflow driver makes of a server's words, and of a log that it is told again and again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from groundplane.drivers import kubeflow_backend, kubeflow_reasons
from groundplane.drivers.kubeflow_results import Log, Unreadable, outputs, stored
from groundplane.drivers.kubeflow_runs import Untold, seen
from groundplane.model.errors import Invalid, Unavailable
from groundplane.spi import layout, segments
from groundplane.spi.launch import Called


def run(*details: dict[str, Any]) -> dict[str, Any]:
    return {"state": "RUNNING", "run_details": {"task_details": list(details)}}


def detail(name: str, number: str, **more: Any) -> dict[str, Any]:
    return {"display_name": name, "task_id": number, "state": "RUNNING", **more}


def test_a_task_is_found_by_its_name_alone() -> None:
    found = seen(
        run(
            detail("make-driver", "0", state="SUCCEEDED"),
            detail("make", "1", pod_name="", child_tasks=[{"pod_name": "p-impl"}], start_time="2025-01-02T03:04:05Z"),
        ),
        "make",
        None,
    )
    assert found is not None
    assert (found.state, found.pods, found.started, found.ended) == ("RUNNING", ("p-impl",), 1_735_787_045_000_000, 0)
    assert seen(run(detail("makes", "1")), "make", None) is None
    assert seen({"state": "PENDING"}, "make", None) is None
    assert seen({"state": "PENDING", "run_details": None}, "make", None) is None


def test_the_newest_of_several_counts() -> None:
    found = seen(
        run(
            detail("make", "1", state="FAILED", create_time="2025-01-02T03:04:05Z"),
            detail("make", "2", state="RUNNING", create_time="2025-01-02T03:05:05Z"),
        ),
        "make",
        None,
    )
    assert found is not None
    assert found.state == "RUNNING"


@pytest.mark.parametrize("by", ["parent", "child"])
def test_an_iteration_is_told_by_what_the_task_lies_in(by: str) -> None:
    around, inner = detail("for-loop-each-iteration(1:1)", "a"), detail("each", "b", state="SUCCEEDED")
    if by == "parent":
        inner["parent_task_id"] = "a"
    else:
        around["child_tasks"] = [{"task_id": "b"}]
    whole = run(around, inner)
    assert seen(whole, "each", 0) is None
    found = seen(whole, "each", 1)
    assert found is not None
    assert found.state == "SUCCEEDED"


def test_iterations_that_nothing_tells_apart_are_never_guessed() -> None:
    with pytest.raises(Untold):
        seen(run(detail("each", "a"), detail("each", "b")), "each", 0)


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ("main: Error (exit code 3)", 3, None),
        ("something else", 1, None),
        ("OOMKilled (exit code 137)", 137, "out_of_memory"),
        ("Pod was active on the node longer than the specified deadline", None, "timeout"),
        ("ImagePullBackOff: Back-off pulling image x", None, "image_pull"),
    ],
)
def test_why_a_task_failed(message: str, code: int | None, reason: str | None) -> None:
    told, found = kubeflow_reasons.failed(message)
    assert (told, found.code if found else None) == (code, reason)


def text_of(path: Path) -> tuple[bytes, list[int]]:
    records = [record for record, _ in segments.decode(path.read_bytes())]
    return b"".join(record.data for record in records), [record.flags for record in records]


def test_a_log_grows_by_what_is_new_whoever_writes_it(tmp_path: Path) -> None:
    path = layout.segments(tmp_path, "r") / "r.0.0.1.seg"
    first = Log(tmp_path, "r", "t", "r.0.0.1")
    assert first.take(b"a\nb", over=False)
    assert not first.take(b"a\nb", over=False)
    assert text_of(path) == (b"a\n", [0])
    with path.open("ab") as file:
        file.write(b"\xa7cut off")  # killed in the middle of a record
    again = Log(tmp_path, "r", "t", "r.0.0.1")
    long = b"a\nb\n" + b"x" * (segments.MAX_DATA + 5) + b"\nend"
    assert again.take(long, over=True)
    text, flags = text_of(path)
    assert text == long
    assert flags[-1] == segments.UNFINISHED


class Store:
    """Objects by key."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects

    def listing(self, prefix: str) -> list[str]:
        return sorted(key for key in self.objects if key.startswith(prefix))

    def read(self, key: str) -> bytes | None:
        return self.objects.get(key)

    def fetch(self, key: str, target: Path) -> bool:
        target.write_bytes(self.objects[key])
        return True


def test_the_storage_tells_a_fan_outs_tasks_apart(tmp_path: Path) -> None:
    store: Any = Store(
        {
            "uid/main/kfp/each/u2/out_txt": b"south",
            "uid/main/kfp/each/u2/ground_item": b"s",
            "uid/main/kfp/each/u1/out_txt": b"north",
            "uid/main/kfp/each/u1/ground_item": b"n",
            "uid/main/other/each/u3/out_txt": b"of another run",
            "uid/main/kfp/join/u4/out_txt": b"of another task",
        }
    )
    called = Called("each", {"out.txt": "out_txt"}, items=("n", "s", "w"), item="ground_item")
    for item, text in enumerate((b"north", b"south")):
        source = stored(store, tmp_path, "uid", "kfp", called, item)
        (found,), missing = outputs(source, tmp_path, called, ["out.txt"])
        assert layout.blob(tmp_path, found.sha256).read_bytes() == text
        assert missing == ()
    assert outputs(stored(store, tmp_path, "uid", "kfp", called, 2), tmp_path, called, ["out.txt"]) == (
        (),
        ("out.txt",),
    )
    with pytest.raises(Unreadable, match="2 results"):
        stored(store, tmp_path, "uid", "kfp", Called("each", {"out.txt": "out_txt"}), None)


def test_a_tar_that_leaves_the_folder_brings_nothing_else(tmp_path: Path) -> None:
    import io
    import tarfile

    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name in ("plots/a.png", "../evil", "plots/../../evil", "/plots/b.png", "other/c"):
            entry = tarfile.TarInfo(name)
            entry.size = 1
            tar.addfile(entry, io.BytesIO(b"x"))
        link = tarfile.TarInfo("plots/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    called = Called("t", {"plots/": "plots"}, packed="ground_files")
    found, missing = outputs(lambda _: iter([raw.getvalue()]), tmp_path, called, ["plots/"])
    assert [each.name for each in found] == ["plots/a.png"]
    assert missing == ()
    with pytest.raises(Unreadable, match="'plots/': what is there is no tar"):
        outputs(lambda _: iter([b"no tar"]), tmp_path, called, ["plots/"])


def test_what_is_configured(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="needs --url"):
        kubeflow_backend.read(tmp_path, "kf", {})
    with pytest.raises(Invalid, match="is no URL"):
        kubeflow_backend.read(tmp_path, "kf", {"url": "kubeflow.example.org"})
    with pytest.raises(Invalid, match="knows no queue"):
        kubeflow_backend.read(tmp_path, "kf", {"url": "http://k", "queue": "q"})
    options = {"url": "http://k/pipeline/", "token": "t"}
    public = kubeflow_backend.public(options)
    assert public == {"url": "http://k/pipeline/", "credentials": "kept"}
    with pytest.raises(Unavailable, match="cannot be read"):
        kubeflow_backend.read(tmp_path, "kf", public)
    kubeflow_backend.keep(tmp_path, "kf", options)
    assert kubeflow_backend.read(tmp_path, "kf", public).server.url == "http://k/pipeline"
