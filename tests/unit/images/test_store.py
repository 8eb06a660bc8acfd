"""The image store: equal layers once, whole or not at all, and it knows what is damaged."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from groundplane.images.store import ImageStore
from groundplane.model.errors import Unavailable
from groundplane.spi.images import Image, Layer


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def layer(store: ImageStore, tmp_path: Path, text: str) -> Layer:
    entry = tarfile.TarInfo("file")
    entry.size = len(text)
    with tarfile.open(tmp_path / "layer.tar", "w") as out:
        out.addfile(entry, io.BytesIO(text.encode()))
    return store.add_layer(tmp_path / "layer.tar")


def image(store: ImageStore, recipe: str, *layers: Layer) -> Image:
    return store.add_image(
        recipe=recipe,
        builder="debian",
        reference=f"groundplane/x:{recipe}",
        layers=layers,
        config={"User": "1000"},
        epoch=0,
        built_at=1,
    )


def test_an_image_is_an_oci_layout(store: ImageStore, tmp_path: Path) -> None:
    made = image(store, "a", layer(store, tmp_path, "1"))
    assert store.find("a") == made
    index = json.loads((store.folder / "index.json").read_bytes())
    manifest = json.loads(store.blob(index["manifests"][0]["digest"].removeprefix("sha256:")).read_bytes())
    config = json.loads(store.blob(manifest["config"]["digest"].removeprefix("sha256:")).read_bytes())
    assert config["rootfs"]["diff_ids"] == [f"sha256:{made.layers[0].diff}"]
    assert json.loads((store.folder / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}


def test_the_same_layers_give_the_same_image(store: ImageStore, tmp_path: Path) -> None:
    first = image(store, "a", layer(store, tmp_path, "1"))
    again = image(ImageStore(tmp_path / "other"), "a", layer(ImageStore(tmp_path / "other"), tmp_path, "1"))
    assert (first.manifest, first.layers) == (again.manifest, again.layers)


def test_shared_layers_cost_once_and_stay_while_somebody_has_them(store: ImageStore, tmp_path: Path) -> None:
    base, one, two = (layer(store, tmp_path, text) for text in "bxy")
    image(store, "a", base, one)
    image(store, "c", base, two)
    assert store.costs() == {"a": (one.size, base.size), "c": (two.size, base.size)}
    store.remove("a")
    assert store.collect() >= one.size
    assert not store.blob(one.digest).exists()
    assert store.check(image(store, "c", base, two)) == []


def test_a_damaged_blob_is_named(store: ImageStore, tmp_path: Path) -> None:
    made = image(store, "a", layer(store, tmp_path, "1"))
    blob = store.blob(made.layers[0].digest)
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-1] + b"\1")
    assert [made.layers[0].digest in sentence for sentence in store.check(made)] == [True]
    blob.unlink()
    assert store.check(made) == [f"layer sha256:{made.layers[0].digest} is gone"]


def test_a_layer_that_is_not_what_it_says_is_not_unpacked(store: ImageStore, tmp_path: Path) -> None:
    good, other = layer(store, tmp_path, "1"), layer(store, tmp_path, "2")
    with pytest.raises(Unavailable, match="damaged"):
        store.unpack(Layer(good.diff, other.digest, other.size), tmp_path / "out")


def test_a_killed_build_leaves_nothing_that_counts(store: ImageStore, tmp_path: Path) -> None:
    tar = tmp_path / "large.tar"
    with tar.open("wb") as file:
        file.truncate(1 << 30)
    code = (
        "import sys; from pathlib import Path; from groundplane.images.store import ImageStore\n"
        "store = ImageStore(Path(sys.argv[1]))\n"
        "with store.scratch() as scratch:\n    print(scratch, flush=True); store.add_layer(Path(sys.argv[2]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(store.folder), str(tar)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    scratch = Path(process.stdout.readline().strip())
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert scratch.is_dir()
    with store.scratch():
        assert not scratch.exists()
    assert store.images() == []
    store.collect()
    assert list((store.folder / "blobs" / "sha256").iterdir()) == []
