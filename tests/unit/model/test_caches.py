"""What tools make again is neither input nor output; what lies beside it is."""

from __future__ import annotations

import pytest

from groundplane.model.caches import is_cache, is_environment


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("node_modules", True),
        ("a/b/__pycache__", True),
        ("renv/library", True),
        ("sub/renv/library", True),
        ("renv", False),
        ("renv/x.csv", False),
        ("my-renv/library", False),
        ("library", False),
        ("packrat/lib-R", True),
    ],
)
def test_by_its_last_names(path: str, expected: bool) -> None:
    assert is_cache(path) is expected


def test_an_environment_is_known_by_what_only_it_has() -> None:
    assert is_environment(["bin", "pyvenv.cfg"])
    assert is_environment({"conda-meta"})
    assert not is_environment(["bin", "lib"])
