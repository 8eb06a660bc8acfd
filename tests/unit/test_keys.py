"""Keys that are made on first use, by several threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from groundplane.images import keys
from groundplane.services import variables

THREADS = 8


def test_one_key_signs(tmp_path: Path) -> None:
    for round_ in range(10):
        folder = tmp_path / str(round_)
        barrier = Barrier(THREADS)

        def made(folder: Path = folder, barrier: Barrier = barrier) -> bytes:
            barrier.wait()
            return keys.public(folder).public_bytes(Encoding.Raw, PublicFormat.Raw)

        with ThreadPoolExecutor(THREADS) as pool:
            found = {future.result() for future in [pool.submit(made) for _ in range(THREADS)]}
        assert len(found) == 1
        assert [path.name for path in folder.iterdir()] == ["provenance.pem"]


def test_one_key_seals(tmp_path: Path) -> None:
    for round_ in range(10):
        home = tmp_path / str(round_)
        home.mkdir()
        barrier = Barrier(THREADS)

        def made(home: Path = home, barrier: Barrier = barrier) -> bytes:
            barrier.wait()
            return variables.home_key.__wrapped__(home)

        with ThreadPoolExecutor(THREADS) as pool:
            found = {future.result() for future in [pool.submit(made) for _ in range(THREADS)]}
        assert found == {(home / "key").read_bytes()}
        assert [path.name for path in home.iterdir()] == ["key"]
