"""Which image a lock means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from groundplane.model.locks import Base, Lock
from groundplane.services import shelf


def test_an_image_of_other_layers_than_locked_is_not_the_locks(tmp_path: Path) -> None:
    lock = Lock("r45", "d" * 64, "r", "r", "4.5.0", "/usr/bin/Rscript", "debian", Base("trixie", "amd64", 1))
    tar = tmp_path / "layer.tar"
    tar.write_bytes(b"\0" * 1024)
    store = shelf.store(tmp_path / "home")
    layer = store.add_layer(tar)
    made = store.add_image(
        recipe=lock.recipe,
        builder="debian",
        reference="groundplane/r:1",
        layers=[layer],
        config={},
        epoch=0,
        built_at=0,
    )
    locked = replace(lock, layers=(layer.diff,))
    assert shelf.built(tmp_path / "home", locked) == made
    other = replace(lock, layers=("0" * 64,))
    assert other.recipe == locked.recipe
    assert shelf.built(tmp_path / "home", other) is None
