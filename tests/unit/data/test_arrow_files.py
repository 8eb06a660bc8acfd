"""Parquet and Feather keep everything, and carry labels from one format to another."""

import datetime as dt
from pathlib import Path

import pandas
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from groundplane.data.convert import convert, read
from groundplane.data.errors import ConversionError
from groundplane.data.meta import ColumnMeta, TableMeta
from tests.unit.data.tables import category, save, through


@pytest.mark.parametrize("ending", ["feather", "arrow"])
def test_every_type_survives(tmp_path: Path, ending: str) -> None:
    columns = {
        "c": category(["hi", None], ["never", "lo", "hi"], ordered=True),
        "t": pa.array([dt.datetime(1901, 1, 1), None], pa.timestamp("ns", "Asia/Tokyo")),
        "l": pa.array([[1, 2], None]),
        "b": pa.array([b"\x00", None]),
        "big": pa.array([2**53 + 1, None]),
    }
    meta = TableMeta("sav", "T", {"big": ColumnMeta(label="Øl", value_labels=((1, "a"),), missing_codes=(9,))})
    data, done = through(tmp_path, columns, ending, meta)
    assert done.lost == ()
    assert data.arrow.schema.remove_metadata() == pa.table(columns).schema
    assert data.arrow.equals(pa.table(columns))
    assert data.meta == meta


def test_feather_to_parquet(tmp_path: Path) -> None:
    pyarrow.feather.write_feather(pa.table({"x": [1, None]}), str(tmp_path / "a.feather"))
    convert(tmp_path / "a.feather", "a.feather", tmp_path / "b.parquet")
    assert pq.read_table(tmp_path / "b.parquet").to_pydict() == {"x": [1, None]}


def test_category_order_survives_row_groups_and_unused_levels(tmp_path: Path) -> None:
    levels = ["zero", "low", "mid", "high"]
    frame = pandas.DataFrame(
        {"c": pandas.Categorical(["mid", "low", None, "high"] * 5, categories=levels, ordered=True)}
    )
    table = pa.Table.from_pandas(frame)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    convert(tmp_path / "a.parquet", "a.parquet", tmp_path / "a.rds")
    column = read(tmp_path / "a.rds", "rds").arrow.column("c")
    assert column.type.ordered
    assert column.chunk(0).dictionary.to_pylist() == levels
    assert column.to_pylist() == ["mid", "low", None, "high"] * 5


def test_the_unnamed_index_of_pandas_is_dropped_and_said(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"x": [1, 2, 3, 4]})
    frame[frame.x != 2].to_parquet(tmp_path / "a.parquet")
    done = convert(tmp_path / "a.parquet", "a.parquet", tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "x\n1\n3\n4\n"
    assert done.lost == ("the row names: a pandas index without a name (reset_index() makes it a column)",)
    frame.set_index(pandas.Index([5, 6, 7, 9], name="id")).to_parquet(tmp_path / "b.parquet")
    convert(tmp_path / "b.parquet", "b.parquet", tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text() == "x,id\n1,5\n2,6\n3,7\n4,9\n"
    frame.rename_axis("visit").to_parquet(tmp_path / "c.parquet")
    done = convert(tmp_path / "c.parquet", "c.parquet", tmp_path / "c.csv")
    assert done.lost == ("the row names 'visit': a pandas index (reset_index() makes it a column)",)


def test_damaged_metadata_is_a_loss_not_a_failure(tmp_path: Path) -> None:
    table = pa.table({"x": [1]}).replace_schema_metadata({b"groundplane": b"{"})
    pq.write_table(table, tmp_path / "a.parquet")
    done = convert(tmp_path / "a.parquet", "a.parquet", tmp_path / "a.csv")
    assert len(done.lost) == 1
    assert "labels" in done.lost[0]


@pytest.mark.parametrize(
    "ending", ["parquet", "feather", "sav", "dta", "xpt", "sas7bdat", "mat", "rds", "rdata", "xlsx"]
)
@pytest.mark.parametrize("content", [b"", b"hello, world\n1,2\n", bytes(range(256)) * 9])
def test_rubbish_is_unreadable(tmp_path: Path, ending: str, content: bytes) -> None:
    (tmp_path / "blob").write_bytes(content)
    with pytest.raises(ConversionError) as caught:
        convert(tmp_path / "blob", f"in.{ending}", tmp_path / "out.csv")
    assert caught.value.code == "unreadable_table"
    assert f"in.{ending}" in caught.value.message
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("ending", ["parquet", "feather", "sav", "dta", "mat", "rds"])
def test_a_file_cut_in_half_is_unreadable(tmp_path: Path, ending: str) -> None:
    columns = {"x": pa.array(range(5000)), "s": pa.array([f"text {i}" for i in range(5000)])}
    whole = save(tmp_path, columns)
    if ending != "parquet":
        convert(whole, "source.parquet", tmp_path / f"whole.{ending}")
        whole = tmp_path / f"whole.{ending}"
    (tmp_path / "cut").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(ConversionError) as caught:
        convert(tmp_path / "cut", f"cut.{ending}", tmp_path / "out.csv")
    assert caught.value.code == "unreadable_table"
