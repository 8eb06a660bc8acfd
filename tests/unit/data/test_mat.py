"""MATLAB files: one variable a column."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.io

from groundplane.data.convert import convert, read
from groundplane.data.errors import ConversionError
from tests.unit.data.tables import category, save, through, values


def test_columns_become_variables(tmp_path: Path) -> None:
    columns = {
        "n": pa.array([1, None, 3]),
        "x": pa.array([0.5, float("inf"), None]),
        "ok": pa.array([True, False, True]),
        "maybe": pa.array([True, None, False]),
        "s": pa.array(["a b", "", "ccc"]),
        "g": category(["lo", None, "hi"], ["lo", "hi"]),
        "d": pa.array([dt.date(1970, 1, 1), None, dt.date(2024, 2, 29)]),
        "m": pa.array([dt.datetime(1970, 1, 1, 12), None, None]),
        "none": pa.nulls(3),
    }
    data, done = through(tmp_path, columns, "mat")
    assert values(data) == {
        "n": [1.0, None, 3.0],
        "x": [0.5, float("inf"), None],
        "ok": [True, False, True],
        "maybe": [1.0, None, 0.0],
        "s": ["a b", "", "ccc"],
        "g": ["lo", "", "hi"],
        "d": [719529.0, None, 739311.0],
        "m": [719529.5, None, None],
        "none": [None, None, None],
    }
    assert scipy.io.loadmat(tmp_path / "target.mat")["n"].shape == (3, 1)
    said = " ".join(done.lost)
    for name in ("'maybe'", "'g'", "'d'", "'m'"):
        assert name in said
    assert "'n'" not in said
    assert "'s'" not in said


def test_text_beyond_ascii_is_refused(tmp_path: Path) -> None:
    for columns in ({"name": pa.array(["Ola", "Åsa"])}, {"name": category(["Åsa"], ["Ola", "Åsa"])}):
        with pytest.raises(ConversionError, match="'Åsa'") as caught:
            through(tmp_path, columns, "mat")
        assert caught.value.code == "conversion_refused"
        assert "'name'" in caught.value.message
        assert "4431" in caught.value.hint


def test_large_whole_numbers_stay_exact_or_are_refused(tmp_path: Path) -> None:
    data, done = through(tmp_path, {"id": pa.array([2**53 + 1, 1])}, "mat")
    assert values(data)["id"] == [2**53 + 1, 1]
    assert data.arrow.schema.field("id").type == pa.int64()
    assert done.lost == ()
    with pytest.raises(ConversionError, match="'id' holds 9007199254740993"):
        through(tmp_path, {"id": pa.array([2**53 + 1, None])}, "mat")


@pytest.mark.parametrize("rows", [0, 1])
def test_small_tables(tmp_path: Path, rows: int) -> None:
    columns = {"x": pa.array([1.5][:rows], pa.float64()), "s": pa.array(["ab"][:rows], pa.string())}
    data, _ = through(tmp_path, columns, "mat")
    assert values(data) == {name: column.to_pylist() for name, column in columns.items()}


def saved(tmp_path: Path, **variables: Any) -> Path:
    scipy.io.savemat(tmp_path / "in.mat", variables)
    return tmp_path / "in.mat"


def test_a_matrix_is_columns(tmp_path: Path) -> None:
    data = read(saved(tmp_path, A=np.arange(6).reshape(3, 2)), "mat")
    assert values(data) == {"A1": [0, 2, 4], "A2": [1, 3, 5]}


def test_a_struct_of_columns(tmp_path: Path) -> None:
    cells = np.array([["p"], ["q"]], dtype=object)
    data = read(saved(tmp_path, S={"x": np.array([[1.0], [np.nan]]), "s": cells}), "mat")
    assert values(data) == {"x": [1.0, None], "s": ["p", "q"]}


def test_rows_and_columns_of_one_length(tmp_path: Path) -> None:
    data = read(saved(tmp_path, r=np.array([[1, 2, 3]]), c=np.array([[4], [5], [6]]), t=["ab ", "c  ", "def"]), "mat")
    assert values(data) == {"r": [1, 2, 3], "c": [4, 5, 6], "t": ["ab", "c", "def"]}


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"a": np.zeros((3, 1)), "b": np.zeros((2, 1))}, "lengths differ"),
        ({"a": np.zeros((3, 2)), "b": np.zeros((3, 1))}, "'a' is a 3x2 array"),
        ({"a": np.array([[1 + 2j]])}, "complex"),
        ({"a": np.array([[1.0], ["x"]], dtype=object)}, "no text"),
        ({}, "no variables"),
    ],
)
def test_what_is_no_table_is_said(tmp_path: Path, variables: dict[str, Any], says: str) -> None:
    with pytest.raises(ConversionError, match=says) as caught:
        read(saved(tmp_path, **variables), "mat")
    assert caught.value.code == "unreadable_table"


@pytest.mark.parametrize("head", [b"# Created by Octave 7.3.0\n", b"MATLAB 7.3 MAT-file" + b" " * 200])
def test_other_formats_called_mat_say_how_to_save(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "a.mat").write_bytes(head)
    with pytest.raises(ConversionError) as caught:
        convert(tmp_path / "a.mat", "a.mat", tmp_path / "a.csv")
    assert "-v7" in caught.value.hint


def test_all_null_text_is_a_column(tmp_path: Path) -> None:
    convert(save(tmp_path, {"s": pa.array([None, None], pa.string())}), "s.parquet", tmp_path / "t.mat")
    assert values(read(tmp_path / "t.mat", "mat")) == {"s": ["", ""]}
