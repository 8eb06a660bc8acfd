"""What tools keep beside the work and make again by themselves: no input of a script and no output of one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

#: Version control, environments and caches, wherever they lie.
NAMES: Final = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        ".jj",
        ".venv",
        ".tox",
        ".nox",
        ".cache",
        "__pycache__",
        ".ipynb_checkpoints",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".hypothesis",
        ".Rproj.user",
        ".DS_Store",
        "node_modules",
    }
)
#: renv and packrat keep installed packages inside the project, often as links to a cache outside of it. What else is
#: in their folders is the project's.
R_LIBRARIES: Final = frozenset({"renv/library", "renv/staging", "packrat/lib", "packrat/lib-R", "packrat/lib-ext"})
#: What only an environment of an interpreter has in its top folder: venv and virtualenv; conda.
ENVIRONMENT_MARKS: Final = frozenset({"pyvenv.cfg", "conda-meta"})


def is_cache(path: str) -> bool:
    """Whether the file or folder of this relative path (no `/` at its end) is one, by its last names."""
    parent, _, name = path.rpartition("/")
    return name in NAMES or f"{parent[parent.rfind('/') + 1 :]}/{name}" in R_LIBRARIES


def is_environment(names: Collection[str]) -> bool:
    """Whether a folder with these entries is an interpreter's environment."""
    return not ENVIRONMENT_MARKS.isdisjoint(names)
