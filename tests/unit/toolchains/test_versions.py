"""`r@4.5`, `octave@9`: what people write, against the catalogue."""

from __future__ import annotations

from datetime import date

import pytest

from groundplane.model.errors import Invalid
from groundplane.toolchains import versions


@pytest.mark.parametrize(
    ("name", "version", "engine", "found", "suite"),
    [
        ("r", "4.5", "r", "4.5.0", "trixie"),
        ("r", "4.2", "r", "4.2.2", "bookworm"),
        ("r", "", "r", "4.5.0", "trixie"),
        ("octave", "9", "octave", "9.4", "trixie"),
        ("octave", "7", "octave", "7.3", "bookworm"),
        ("matlab", "", "octave", "9.4", "trixie"),
        ("pspp", "1.6", "pspp", "1.6.2", "bookworm"),
        ("pspp", "2.0", "pspp", "2.0.1", "trixie"),
        ("python", "3.13", "python", "3.13", "trixie"),
        ("python", "3.9", "python", "3.9", "bullseye"),
        ("notebook", "", "python", "3.13", "trixie"),
        ("notebook", "3.11", "python", "3.11", "bookworm"),
        ("matlab", "R2024b", "matlab", "R2024b", ""),
        ("sas", "9.4", "sas", "9.4", ""),
        ("python", "3.12", "python", "3.12", ""),
    ],
)
def test_what_it_means(name: str, version: str, engine: str, found: str, suite: str) -> None:
    match = versions.match(name, version)
    assert (match.engine, match.version.version, match.suite) == (engine, found, suite)


def test_an_unknown_version_names_the_known_ones() -> None:
    with pytest.raises(Invalid, match=r"4\.5\.0"):
        versions.match("r", "5")


def test_a_beginning_ends_at_a_dot() -> None:
    assert versions.satisfies("4.5.0", "4.5")
    assert not versions.satisfies("4.50", "4.5")


def test_a_version_past_its_end_names_its_successor() -> None:
    said = versions.support_warning("r", "4.0.4", date(2026, 11, 1))
    assert said is not None
    assert "2026-08-31" in said
    assert "r@4.5" in said
    assert versions.support_warning("r", "4.0.4", date(2026, 8, 31)) is None
    assert versions.support_warning("r", "4.5.0", date(2026, 11, 1)) is None
