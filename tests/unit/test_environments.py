"""Which of a project's environments has the image for a step that names none."""

from __future__ import annotations

import pytest

from groundplane.model.environments import Environment
from groundplane.services import environments

KNOWN = {
    each.name: each
    for each in (
        Environment("py", toolchain="python", version="3.11"),
        Environment("r42", toolchain="r", version="4.2"),
        Environment("r45", toolchain="r", version="4.5"),
        Environment("oct", toolchain="octave", version="7.3"),
        Environment("licensed", toolchain="matlab", version="R2024b"),
        Environment("theirs", image="registry.example/sas:9", engine="sas"),
        Environment("unsaid", image="registry.example/all:1"),
        Environment("file", dockerfile="Dockerfile", engine="none-such"),
        Environment("odd", toolchain="none-such"),
        Environment("nb", toolchain="notebook"),
    )
}


@pytest.mark.parametrize(
    ("toolchain", "names"),
    [
        ("python", ["py"]),
        ("r", ["r42", "r45"]),
        ("matlab", ["oct"]),  # what is licensed is installed somewhere, and has no image
        ("octave", ["oct"]),
        ("sas", ["theirs"]),
        ("notebook", ["nb"]),
        ("spss", []),
        ("shell", []),
        ("command", []),
    ],
)
def test_the_images_for_a_toolchain(toolchain: str, names: list[str]) -> None:
    assert [each.name for each in environments.images_for(toolchain, KNOWN.values())] == names


def test_the_image_of_a_public_name_tells_its_engine() -> None:
    theirs = Environment("theirs", image="rocker/r-ver:4.4.3")
    assert environments.images_for("r", [theirs]) == [theirs]
    assert environments.images_for("python", [theirs]) == []
