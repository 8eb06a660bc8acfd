"""The page about clusters does what it says."""

from __future__ import annotations

from pathlib import Path

from tests.cluster import opened
from tests.e2e import pages
from tests.parts import require


def test_what_the_page_shows_is_true(tmp_path: Path, examples_python: Path) -> None:
    """The reader has a cluster, a registry and a bucket, and an image that was made earlier."""
    for part in ("kubernetes", "docker-registry", "s3"):
        require(part)
    with pages.reader(tmp_path, examples_python) as reader, opened(reader) as site:
        reader.work = reader.work.rename(tmp_path / site.project)
        reader.env |= {"REGISTRY": site.registry, "BUCKET": site.storage.removeprefix("s3://")}
        pages.type_what_it_says(pages.ROOT / "docs" / "kubernetes.md", reader)
