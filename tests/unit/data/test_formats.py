"""Which endings convert to which, without loading any library."""

import subprocess
import sys

import pytest

from groundplane.data.errors import ConversionError
from groundplane.data.formats import check, convertible, ending, formats


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("clean.parquet", "clean.csv", True),
        ("a.csv", "a.tsv", True),
        ("A.SAV", "b.Zsav", True),
        ("raw.xlsx", "raw.csv", True),
        ("ws.RData", "frame.rds", True),
        ("a.csv", "b.csv", False),
        ("a.CSV", "b.csv", False),
        ("model.json", "model.csv", False),
        ("a.csv", "a.txt", False),
        ("a.csv", "a.xlsx", False),
        ("a.csv", "parts.csv/", False),
        ("csv", "a.csv", False),
    ],
)
def test_what_converts(source: str, target: str, expected: bool) -> None:
    assert convertible(source, target) is expected


def test_a_format_that_is_only_read_is_refused_before_anything_starts() -> None:
    for target in ("t.xlsx", "t.sas7bdat", "t.rdata"):
        with pytest.raises(ConversionError) as caught:
            check("clean.parquet", target)
        assert caught.value.code == "conversion_refused"
        assert "clean.parquet" in caught.value.message
        assert target in caught.value.message
        assert "csv" in caught.value.hint


@pytest.mark.parametrize(("source", "target"), [("a.xlsx", "b.xlsx"), ("a.json", "b.xlsx"), ("a.csv", "b.dta")])
def test_what_needs_no_conversion_or_has_one_passes_the_check(source: str, target: str) -> None:
    check(source, target)


def test_every_format_is_known_by_its_own_ending() -> None:
    endings = [entry.ending for entry in formats()]
    assert len(endings) == len(set(endings))
    assert all(ending(f"x.{name.upper()}") == name for name in endings)


def test_the_plan_time_module_loads_no_library() -> None:
    code = (
        "import sys, groundplane.data.formats as f; f.check('a.csv', 'b.sav');"
        "print(sorted({'pyarrow', 'numpy', 'pandas', 'pyreadstat', 'scipy', 'openpyxl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
