"""The untyped libraries, each behind one name of type Any.

pyarrow, pyreadstat, scipy.io, openpyxl and pandas ship no types. Naming that once here keeps the rest of the room under
strict checking without a comment on every line. pyarrow is loaded with this module; the others only when first used,
since one conversion needs one or two of them.
"""

import sys
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

pa: Any = import_module("pyarrow")
pc: Any = import_module("pyarrow.compute")

ArrowTable: TypeAlias = Any
"""pyarrow.Table"""
ArrowColumn: TypeAlias = Any
"""pyarrow.ChunkedArray"""
ArrowType: TypeAlias = Any
"""pyarrow.DataType"""

Doubles: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]
Objects: TypeAlias = NDArray[np.object_]


class _PandasHidden:
    """A finder that says that there is no pandas."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is not loaded in a conversion that does not need it", name=name)


def without_pandas() -> None:
    """Keep pyarrow from loading pandas, until `library` is asked for it.

    pyarrow loads pandas, if it can, on first touch of any Python value. That is half of the time of a small conversion,
    and only the writing of SPSS, Stata and SAS files needs it. For the conversion process alone, since it hides pandas
    from everybody in the process.
    """
    if not any(isinstance(finder, _PandasHidden) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PandasHidden())


def library(name: str) -> Any:
    """Import a library that ships no types, on first use."""
    if name == "pandas":
        sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _PandasHidden)]
    return import_module(name)


def is_text(kind: ArrowType) -> bool:
    """Tell whether an arrow type is text of whatever offset width."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
