"""What travels through a storage: what is sent once, what comes back whole, and logs that are made complete."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from groundplane.drivers.kubernetes_staging import INSIDE, Refused, Staging, complete
from groundplane.model.errors import Unavailable
from groundplane.model.reasons import Fault, Reason
from groundplane.spi import enclosing, layout, readers, wire
from groundplane.spi.launch import Command, Launch, Observation, Phase, StageIn
from groundplane.spi.snapshots import Entry, Manifest, digest_of
from tests.parts import require

NOT_BROUGHT = Reason("staging_failed", "the snapshot: HTTP 403 Forbidden", "compare the clocks", Fault.BACKEND)
ATTEMPT = "01a22109-1b39-7d45-9725-89296f593581.0.0.1"


class Store:
    """A BlobStore in memory. puts: keys in the order in which they came."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.puts: list[str] = []

    def put(self, key: str, source: Path | bytes) -> None:
        self.puts.append(key)
        self.content[key] = source if isinstance(source, bytes) else source.read_bytes()

    def fetch(self, key: str, target: Path) -> bool:
        if key in self.content:
            target.write_bytes(self.content[key])
        return key in self.content

    def read(self, key: str) -> bytes | None:
        return self.content.get(key)

    def has(self, key: str) -> bool:
        return key in self.content

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.content.pop(key, None)

    def listing(self, prefix: str) -> Iterator[str]:
        return iter([key for key in self.content if key.startswith(prefix)])

    def signed_get(self, key: str, seconds: int) -> str:
        return f"http://store/{key}?get={seconds}"

    def signed_put(self, key: str, seconds: int) -> str:
        return f"http://store/{key}?put={seconds}"

    def check(self) -> None:
        """It is there."""


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def blob(home: Path, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    path = layout.blob(home, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return digest


def snapshot(home: Path, *entries: Entry) -> str:
    data = Manifest(entries).to_json()
    path = layout.manifest(home, digest_of(data))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return digest_of(data)


def launch(**fields: Any) -> Launch:
    given = {"attempt": ATTEMPT, "epoch": 1, "run": ATTEMPT.partition(".")[0], "task": "t", "snapshot": "",
             "command": Command(("sh", "-c", "true")), "env": {}}  # fmt: skip
    return Launch(**{**given, **fields})


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {each.name: file.read() for each in tar if (file := tar.extractfile(each))}


# --- there -----------------------------------------------------------------------------------------------------------


def test_a_pod_is_told_by_signed_urls_of_its_own(home: Path, store: Store) -> None:
    given = blob(home, b"given")
    wanted = snapshot(home, Entry("a.sh", 4, False, blob(home, b"code")))
    staging = Staging(home, store, "mine")
    staged = staging.prepare(
        launch(snapshot=wanted, inputs=(StageIn("in.txt", str(layout.blob(home, given))), StageIn("x", text="words")))
    )
    assert store.puts == []  # nothing travels before everything is known to be right
    order = json.loads(staged.order)
    assert order["inputs"] == {given: f"http://store/blobs/{given}?get=604800"}
    assert order["result"] == f"http://store/attempts/mine/{ATTEMPT}/result.tar?put=604800"
    assert order["snapshot"] == f"http://store/snapshots/{order['launch']['snapshot']}.tar?get=604800"
    assert str(home) not in staged.order
    first, second = order["launch"]["inputs"]
    assert first["source"] == str(layout.blob(INSIDE, given))
    assert second["text"] == "words"
    staging.upload(staged)
    assert store.content[f"blobs/{given}"] == b"given"
    packed = members(store.content[f"snapshots/{order['launch']['snapshot']}.tar"])
    assert sorted(packed.values()) == sorted([layout.manifest(home, wanted).read_bytes(), b"code"])


def test_what_is_there_is_not_sent_again(home: Path, store: Store) -> None:
    given = blob(home, b"given")
    wanted = snapshot(home, Entry("a.sh", 4, False, blob(home, b"code")))
    asked = launch(snapshot=wanted, inputs=(StageIn("in.txt", str(layout.blob(home, given))),))
    for _ in range(2):  # the second knows nothing but what the storage says
        staging = Staging(home, store, "mine")
        for _ in range(2):
            staging.upload(staging.prepare(asked))
    assert len(store.puts) == len(set(store.puts)) == 2


def test_what_somebody_deleted_is_sent_again_once_that_is_noticed(home: Path, store: Store) -> None:
    given = blob(home, b"given")
    wanted = snapshot(home, Entry("a.sh", 4, False, blob(home, b"code")))
    asked = launch(snapshot=wanted, inputs=(StageIn("in.txt", str(layout.blob(home, given))),))
    staging = Staging(home, store, "mine")
    staging.upload(staging.prepare(asked))
    before = dict(store.content)
    store.content.clear()
    staging.upload(staging.prepare(asked))
    assert store.content == {}  # it is remembered: nobody asks for each task
    assert staging.doubt(NOT_BROUGHT) == NOT_BROUGHT
    staging.upload(staging.prepare(asked))
    assert store.content == before


def test_a_storage_that_refuses_this_machine_too_says_why_a_pod_could_not_bring(home: Path, store: Store) -> None:
    """A wrong key: the pod sees no more than HTTP 403."""
    staging = Staging(home, store, "mine")
    refusal = Unavailable("bucket b: it does not know the access key", hint="check it", code="storage_unavailable")

    def check() -> None:
        raise refusal

    store.check = check
    expected = Reason("storage_unavailable", refusal.message, refusal.hint, Fault.BACKEND)
    assert staging.doubt(NOT_BROUGHT) == expected


def test_a_large_file_travels_and_must_be_what_it_was(home: Path, store: Store, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(b"large")
    status = large.stat()
    entry = Entry("large.bin", status.st_size, source=str(large), mtime_ns=status.st_mtime_ns)
    wanted = snapshot(home, entry)
    staging = Staging(home, store, "mine")
    staged = staging.prepare(launch(snapshot=wanted))
    order = json.loads(staged.order)
    assert order["launch"]["snapshot"] != wanted  # the pod's own has nothing in place
    staging.upload(staged)
    (digest,) = order["inputs"]  # it comes by itself, once for all snapshots that have it
    assert order["inputs"][digest] == f"http://store/blobs/{digest}?get=604800"
    packed = members(store.content[f"snapshots/{order['launch']['snapshot']}.tar"])
    (manifest,) = map(Manifest.from_json, packed.values())
    assert [(each.path, each.sha256, each.source) for each in manifest.files] == [("large.bin", digest, "")]
    assert store.content[f"blobs/{hashlib.sha256(b'large').hexdigest()}"] == b"large"
    large.write_bytes(b"another")
    with pytest.raises(Refused) as refused:
        staging.prepare(launch(snapshot=wanted))
    assert refused.value.reason.code == "input_changed"


def test_a_table_is_converted_before_it_travels(home: Path, store: Store) -> None:
    table = blob(home, b"a,b\n1,x\n")
    asked = launch(inputs=(StageIn("t.tsv", str(layout.blob(home, table)), source_name="t.csv"),))
    staged = Staging(home, store, "mine").prepare(asked)
    (digest,) = json.loads(staged.order)["inputs"]
    assert layout.blob(home, digest).read_bytes() == b"a\tb\n1\tx\n"
    broken = blob(home, b"PAR1 is no table")
    asked = launch(inputs=(StageIn("t.csv", str(layout.blob(home, broken)), source_name="t.parquet"),))
    with pytest.raises(Refused) as refused:
        Staging(home, store, "mine").prepare(asked)
    assert refused.value.reason.code == "unreadable_table"
    assert not list(layout.incoming(home).iterdir())


def test_where_there_is_no_bubblewrap_its_reader_confines_itself(
    home: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the control plane's own pod."""
    if why := enclosing.unavailable():
        pytest.skip(why)
    monkeypatch.setattr(readers, "_no_bubblewrap", lambda: "it is not installed")
    table = blob(home, b"a,b\n1,x\n")
    inputs = (StageIn("t.parquet", str(layout.blob(home, table)), source_name="t.csv"),)
    (digest,) = json.loads(Staging(home, store, "mine").prepare(launch(inputs=inputs, strange=True)).order)["inputs"]
    assert layout.blob(home, digest).read_bytes()[:4] == b"PAR1"
    reads = "import sys; from groundplane.spi.readers import enclose; enclose(*sys.argv[-2:]); open(sys.argv[1]).read()"
    monkeypatch.setattr(
        readers, "command", lambda _: [sys.executable, "-I", "-c", reads, str(layout.blob(home, digest))]
    )
    with pytest.raises(Refused) as refused:
        Staging(home, store, "mine").prepare(launch(inputs=inputs, strange=True))
    assert "Permission denied" in refused.value.reason.message
    monkeypatch.setattr(enclosing, "unavailable", lambda: "the kernel has no Landlock")
    with pytest.raises(OSError, match="the kernel has no Landlock"):
        Staging(home, store, "mine").prepare(launch(inputs=inputs, strange=True))


def test_a_strangers_table_is_converted_confined(home: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    require("bubblewrap")
    home.mkdir(exist_ok=True)
    (home / "key").write_text("the key of the home")
    table = blob(home, b"a,b\n1,x\n")
    inputs = (StageIn("t.tsv", str(layout.blob(home, table)), source_name="t.csv"),)
    staged = Staging(home, store, "mine").prepare(launch(inputs=inputs, strange=True))
    (digest,) = json.loads(staged.order)["inputs"]
    assert layout.blob(home, digest).read_bytes() == b"a\tb\n1\tx\n"
    attack = (
        "import json, os, sys; asked = json.load(sys.stdin)['conversions'][0]; "
        f"seen = [os.listdir({str(home)!r}), os.path.exists({str(home / 'key')!r}), sorted(os.environ)]; ATTACK; "
        "print(json.dumps({'conversions': [{'target': asked['target'], 'lost': list(map(str, seen))}]}))"
    )
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the storage's")
    looks = attack.replace("ATTACK", "open(asked['target'], 'w').write('made')")
    monkeypatch.setattr(readers, "command", lambda _: [sys.executable, "-I", "-c", looks])
    (lost,) = Staging(home, store, "mine").prepare(launch(inputs=inputs, strange=True)).lost.values()
    assert lost[:2] == ("['blobs']", "False")
    assert "AWS" not in lost[2]
    links = attack.replace("ATTACK", f"os.symlink({str(home / 'key')!r}, asked['target'])")
    monkeypatch.setattr(readers, "command", lambda _: [sys.executable, "-I", "-c", links])
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        Staging(home, store, "mine").prepare(launch(inputs=inputs, strange=True))
    assert not list(layout.incoming(home).iterdir())


def test_an_attempt_is_noted_and_forgotten(home: Path, store: Store) -> None:
    staging = Staging(home, store, "mine")
    assert not staging.has_begun(ATTEMPT)
    staging.begun(ATTEMPT)
    assert staging.has_begun(ATTEMPT) and staging.attempts() == {ATTEMPT}
    staging.forget(ATTEMPT)
    assert staging.attempts() == set() and store.content == {}


# --- back ------------------------------------------------------------------------------------------------------------


def result(store: Store, **files: bytes) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    store.content[f"attempts/mine/{ATTEMPT}/result.tar"] = target.getvalue()


def test_a_result_brings_outputs_log_and_ending(home: Path, store: Store, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "a.seg"
    assert Staging(home, store, "mine").fetch(ATTEMPT, log) is None
    told = Observation(ATTEMPT, Phase.ENDED, exit_code=0, stdout="\udcff")
    digest = hashlib.sha256(b"made").hexdigest()
    files = {"observation.json": wire.encode(told), "log.seg": b"all of it", f"blobs/{digest}": b"made"}
    result(store, **files)
    assert Staging(home, store, "mine").fetch(ATTEMPT, log) == told
    assert log.read_bytes() == b"all of it"
    kept = layout.blob(home, digest)
    assert kept.read_bytes() == b"made" and kept.stat().st_mode & 0o777 == 0o444


def test_a_damaged_output_is_not_kept(home: Path, store: Store, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"made").hexdigest()
    told = wire.encode(Observation(ATTEMPT, Phase.ENDED, exit_code=0))
    result(store, **{"observation.json": told, f"blobs/{digest}": b"other"})
    with pytest.raises(OSError, match="damaged"):
        Staging(home, store, "mine").fetch(ATTEMPT, tmp_path / "a.seg")
    assert not layout.blob(home, digest).exists()


@pytest.mark.parametrize("have", [b"", b"one", b"one two", b"one two three"])
def test_a_log_gets_what_it_lacks(tmp_path: Path, have: bytes) -> None:
    log = tmp_path / "new" / "a.seg"
    if have:
        log.parent.mkdir()
        log.write_bytes(have)
    for _ in range(2):
        complete(log, io.BytesIO(b"one two three"))
        assert log.read_bytes() == b"one two three"
