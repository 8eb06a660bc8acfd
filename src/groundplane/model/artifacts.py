"""What a task's outputs are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath


class Kind(StrEnum):
    """Table, file, model, metrics or figure: told by the name."""

    TABLE = "table"
    FILE = "file"
    MODEL = "model"
    METRICS = "metrics"
    FIGURE = "figure"


_KINDS = {
    **dict.fromkeys(
        ("csv", "tsv", "parquet", "feather", "arrow", "xlsx", "sav", "zsav", "xpt", "sas7bdat", "dta"), Kind.TABLE
    ),
    **dict.fromkeys(("rds", "rdata", "pkl", "joblib", "onnx", "pmml", "pt", "safetensors", "h5"), Kind.MODEL),
    **dict.fromkeys(("png", "svg", "jpg", "jpeg", "pdf", "gif", "webp", "eps"), Kind.FIGURE),
}


def kind_of(name: str) -> Kind:
    """The kind that an output's name tells; `metrics.json` and `*.metrics.json` are metrics."""
    base = PurePosixPath(name).name.lower()
    if base == "metrics.json" or base.endswith(".metrics.json"):
        return Kind.METRICS
    return _KINDS.get(base.rpartition(".")[2], Kind.FILE) if "." in base else Kind.FILE


@dataclass(frozen=True, slots=True)
class Output:
    """A file that a task left: its name in the working copy, its size in bytes and its content's sha256 (hex)."""

    name: str
    size: int
    sha256: str
