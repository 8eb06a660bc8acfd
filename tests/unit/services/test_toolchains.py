"""What is shown of the catalogue."""

from __future__ import annotations

from groundplane.services import toolchains
from groundplane.toolchains import catalog


def test_a_version_says_when_its_support_ends() -> None:
    def ends(name: str) -> dict[str, str]:
        (engine, *_) = (each for each in catalog.entry(name).engines if each.name == name)
        return {row["version"]: row["support_ends"] for row in toolchains.known(engine)["versions"]}

    r, python = ends("r"), ends("python")
    assert r["4.2.2"] == "2028-06-30"  # its suite's
    assert r["4.4.3"] == ""  # nobody tells
    assert python["3.12"] == "2028-10-31"  # its makers' alone
