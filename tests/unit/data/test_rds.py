"""R data frames, as far as they can be checked without R; tests/integration/test_data_r.py has R do it."""

import datetime as dt
import struct
from pathlib import Path

import pyarrow as pa
import pytest

from groundplane.data.convert import convert, read
from groundplane.data.errors import ConversionError
from groundplane.data.meta import ColumnMeta, TableMeta
from groundplane.data.r_stream import RVector, save
from tests.unit.data.tables import category, through, values


def test_every_kind_of_column(tmp_path: Path) -> None:
    columns = {
        "i": pa.array([1, None, -(2**31) + 1], pa.int64()),
        "big": pa.array([2**31, None, 2**53]),
        "f": pa.array([0.1, None, float("nan")]),
        "b": pa.array([True, None, False]),
        "s": pa.array(["Åsa", None, ""]),
        "g": category(["hi", None, "lo"], ["never", "lo", "hi"], ordered=True),
        "d": pa.array([dt.date(1901, 3, 1), None, dt.date(2024, 2, 29)]),
        "m": pa.array([dt.datetime(1901, 3, 1, 1, 2, 3, 450000), None, None], pa.timestamp("us", "Asia/Tokyo")),
        "t": pa.array([dt.time(1, 2, 3), None, dt.time(23, 59, 59, 999000)], pa.time64("us")),
        "l": pa.array([dt.timedelta(days=-2), None, dt.timedelta(seconds=0.5)], pa.duration("us")),
    }
    data, done = through(tmp_path, columns, "rds")
    assert done.lost == ()
    found, given = values(data), {name: column.to_pylist() for name, column in columns.items()}
    assert found["f"][:2] == [0.1, None]
    assert found["f"][2] != found["f"][2]  # NaN stays NaN, beside NA
    assert {name: found[name] for name in found if name != "f"} == {name: given[name] for name in given if name != "f"}
    assert data.arrow.column("g").chunk(0).dictionary.to_pylist() == ["never", "lo", "hi"]
    assert data.arrow.schema.field("m").type.tz == "Asia/Tokyo"
    assert str(data.arrow.schema.field("big").type) == "double"


def test_labels_travel_as_attributes(tmp_path: Path) -> None:
    meta = TableMeta(
        "sav",
        None,
        {
            "x": ColumnMeta("Kjønn", ((1, "m"), (2, "f")), (9,), (), "nominal"),
            "y": ColumnMeta(missing_ranges=((90.0, float("inf")),)),
            "s": ColumnMeta(value_labels=(("a", "first"),), missing_codes=("z",)),
            "d": ColumnMeta(label="A day", value_labels=((1, "one"),)),
        },
    )
    columns = {
        "x": pa.array([1.0, 9.0]),
        "y": pa.array([1, 95]),
        "s": pa.array(["a", "z"]),
        "d": pa.array([dt.date(2024, 1, 1), None]),
    }
    data, done = through(tmp_path, columns, "rds", meta)
    assert data.meta.column("x") == meta.columns["x"]
    assert data.meta.column("y") == meta.columns["y"]
    assert data.meta.column("s") == meta.columns["s"]
    assert data.meta.column("d").label == "A day"
    assert done.lost == (
        "missing codes of 'x', 'y' and 's' (kept as attributes; to base R they are ordinary values)",
        "value labels and missing codes of 'd' (rds holds them for numbers and text only)",
    )


def test_moments_without_zone_are_marked_utc_and_it_is_said(tmp_path: Path) -> None:
    data, done = through(tmp_path, {"m": pa.array([dt.datetime(2024, 1, 1, 12)])}, "rds")
    assert data.arrow.schema.field("m").type.tz == "UTC"
    assert values(data)["m"][0].replace(tzinfo=None) == dt.datetime(2024, 1, 1, 12)
    assert done.lost == ("the lack of a time zone of 'm' (R always has one; it is marked UTC)",)


@pytest.mark.parametrize(
    ("offset", "zone", "lost"), [("+02:00", "Etc/GMT-2", 0), ("-07:00", "Etc/GMT+7", 0), ("+05:30", "UTC", 1)]
)
def test_fixed_offsets(tmp_path: Path, offset: str, zone: str, lost: int) -> None:
    moment = pa.array([dt.datetime(2024, 1, 1, 12)], pa.timestamp("us", offset))
    data, done = through(tmp_path, {"m": moment}, "rds")
    assert data.arrow.schema.field("m").type.tz == zone
    assert data.arrow.column("m").cast(pa.int64()).to_pylist() == moment.cast(pa.int64()).to_pylist()
    assert len(done.lost) == lost


def test_whole_numbers_that_r_would_round_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="'id' holds 9007199254740993") as caught:
        through(tmp_path, {"id": pa.array([2**53 + 1])}, "rds")
    assert caught.value.code == "conversion_refused"


def test_nul_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="NUL"):
        through(tmp_path, {"s": pa.array(["a\0"])}, "rds")


def test_an_empty_table_keeps_levels_and_types(tmp_path: Path) -> None:
    columns = {"i": pa.array([], pa.int32()), "g": category([], ["b", "a"]), "s": pa.array([], pa.string())}
    data, done = through(tmp_path, columns, "rds")
    assert done.rows == data.arrow.num_rows == 0
    assert data.arrow.column("g").type.value_type == pa.string()
    assert data.arrow.column_names == ["i", "g", "s"]


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    through(tmp_path, {"x": pa.array([1])}, "rds")
    first = (tmp_path / "target.rds").read_bytes()
    through(tmp_path, {"x": pa.array([1])}, "rds")
    assert (tmp_path / "target.rds").read_bytes() == first


def test_a_list_is_no_table(tmp_path: Path) -> None:
    save(RVector("list", [RVector("integer", [1])], {"names": RVector("character", ["a"])}), tmp_path / "l.rds")
    with pytest.raises(ConversionError, match="it holds a list") as caught:
        convert(tmp_path / "l.rds", "l.rds", tmp_path / "l.csv")
    assert caught.value.code == "unreadable_table"
    assert "as.data.frame" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"X\n" + struct.pack(">iii", 9, 0, 0), "format version 9"),
        (b"A\n2\n", "ascii"),
        (b"X\n" + struct.pack(">iiiii", 2, 0, 0, 14, 2**30), "cut off"),
        (b"X\n" + struct.pack(">iiii", 2, 0, 0, 255 | 7 << 8), "damaged"),
        (b"X\n" + struct.pack(">iiii", 2, 0, 0, 21), "function"),
        (b"\x1f\x8b broken gzip", "damaged"),
    ],
)
def test_damage_is_said(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "d.rds").write_bytes(content)
    with pytest.raises(ConversionError, match=says) as caught:
        read(tmp_path / "d.rds", "rds")
    assert caught.value.code == "unreadable_table"
