"""MATLAB files between here and a real Octave."""

import datetime as dt
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

from groundplane.data.convert import convert, read
from groundplane.data.errors import ConversionError
from tests.parts import require
from tests.unit.data.tables import category, save, values


def octave(folder: Path, code: str) -> str:
    """Run Octave code in a folder; return its stdout."""
    require("matlab")
    (folder / "code.m").write_text(f"1;\n{code}\n", encoding="utf-8")
    done = subprocess.run(
        ["octave-cli", "--no-init-file", "code.m"], cwd=folder, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_octave_loads_one_variable_a_column(tmp_path: Path) -> None:
    columns = {
        "n": pa.array([1, None, 3]),
        "x": pa.array([0.5, None, float("inf")]),
        "ok": pa.array([True, False, True]),
        "s": pa.array(["a b", "", None]),
        "g": category(["lo", "hi", "lo"], ["lo", "hi"]),
        "d": pa.array([dt.date(1955, 3, 1), None, dt.date(2024, 2, 29)]),
        "m": pa.array([dt.datetime(1955, 3, 1, 6), None, None]),
        "id": pa.array([2**53 + 1, 1, 2]),
    }
    convert(save(tmp_path, columns), "s.parquet", tmp_path / "part.mat")
    octave(
        tmp_path,
        """
        load part.mat
        assert (class (n), "double"); assert (n, [1; NaN; 3]);
        assert (x, [0.5; NaN; Inf]);
        assert (class (ok), "logical"); assert (ok, logical ([1; 0; 1]));
        assert (iscellstr (s)); assert (size (s), [3 1]); assert (s{1}, "a b"); assert (isempty (s{2}));
        assert (strcmp (g, "lo"), logical ([1; 0; 1]));
        assert (datestr (d(1), "yyyy-mm-dd"), "1955-03-01"); assert (isnan (d(2)));
        assert (datestr (m(1), "yyyy-mm-dd HH:MM:SS"), "1955-03-01 06:00:00");
        assert (class (id), "int64"); assert (id(1) - int64 (9007199254740992), int64 (1));
        assert (mean (x(x < 1)), 0.5);
        """,
    )


def test_what_octave_saves_is_read(tmp_path: Path) -> None:
    octave(
        tmp_path,
        """
        x = [1.5; NaN; 3]; k = int32 ([1 2 3]); ok = [true; false; true];
        s = {"a"; ""; "Åsa"}; c = ["ab "; "cde"; "f  "];
        save ("-v7", "v7.mat", "x", "k", "ok", "s", "c"); save ("-v6", "v6.mat", "x", "k", "ok", "s", "c");
        A = magic (3); save ("-v7", "matrix.mat", "A");
        T.x = x; T.s = s; save ("-v7", "struct.mat", "T");
        save ("text.mat", "x");
        y = 1:2; save ("-v7", "uneven.mat", "x", "y");
        """,
    )
    expected = {
        "x": [1.5, None, 3.0],
        "k": [1, 2, 3],
        "ok": [True, False, True],
        "s": ["a", "", "Åsa"],
        "c": ["ab", "cde", "f"],
    }
    for name in ("v7.mat", "v6.mat"):
        assert values(read(tmp_path / name, "mat")) == expected
    assert values(read(tmp_path / "matrix.mat", "mat")) == {"A1": [8, 3, 4], "A2": [1, 5, 9], "A3": [6, 7, 2]}
    assert values(read(tmp_path / "struct.mat", "mat")) == {"x": expected["x"], "s": expected["s"]}
    for name, says in (("text.mat", "Octave's own text format"), ("uneven.mat", "x 3, y 2")):
        with pytest.raises(ConversionError, match=says) as caught:
            convert(tmp_path / name, name, tmp_path / "out.csv")
        assert "-v7" in caught.value.hint


def test_octave_reads_the_csv(tmp_path: Path) -> None:
    columns = {"a": pa.array([1, 2]), "b": pa.array([0.25, -1e-9])}
    convert(save(tmp_path, columns), "s.parquet", tmp_path / "x.csv")
    octave(
        tmp_path,
        """
        assert (csvread ("x.csv", 1, 0), [1 0.25; 2 -1e-9]);
        f = fopen ("x.csv"); assert (strsplit (fgetl (f), ","), {"a", "b"});
        """,
    )


def test_an_empty_table_loads(tmp_path: Path) -> None:
    convert(
        save(tmp_path, {"x": pa.array([], pa.float64()), "s": pa.array([], pa.string())}),
        "s.parquet",
        tmp_path / "e.mat",
    )
    octave(tmp_path, "load e.mat; assert (size (x), [0 1]); assert (iscell (s)); assert (isempty (s));")
