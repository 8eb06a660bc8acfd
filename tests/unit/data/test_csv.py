"""Text tables: what is inferred, what is written, and that neither changes a value."""

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas
import pyarrow as pa
import pytest

from groundplane.data.convert import convert, read
from groundplane.data.errors import ConversionError
from groundplane.data.meta import ColumnMeta, TableMeta
from tests.unit.data.tables import category, save, through, values


def parse(tmp_path: Path, text: str | bytes, ending: str = "csv") -> Any:
    path = tmp_path / "blob"  # without an ending, as in the content store
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path, ending)


@pytest.mark.parametrize(
    ("fields", "kind", "expected"),
    [
        (["1", "-2", "NA"], pa.int64(), [1, -2, None]),
        (["+1", " 2 ", ""], pa.int64(), [1, 2, None]),
        (["1", "2.5", "1e3"], pa.float64(), [1.0, 2.5, 1000.0]),
        (["Inf", "-inf", "1"], pa.float64(), [float("inf"), float("-inf"), 1.0]),
        (["007", "12", "NA"], pa.string(), ["007", "12", None]),
        (["12345678901234567890", "1", "2"], pa.string(), ["12345678901234567890", "1", "2"]),
        (["9007199254740993", "1", "2"], pa.int64(), [9007199254740993, 1, 2]),
        (["TRUE", "FALSE", "NA"], pa.bool_(), [True, False, None]),
        (["True", "false", "true"], pa.bool_(), [True, False, True]),
        (["T", "F", "NA"], pa.string(), ["T", "F", None]),
        (["1960-02-29", "2024-01-31", ""], pa.date32(), [dt.date(1960, 2, 29), dt.date(2024, 1, 31), None]),
        (["2023-02-29", "2024-01-31", ""], pa.string(), ["2023-02-29", "2024-01-31", None]),
        (["2024-01-31 10:00:00", "2024-01-31T10:00:00.5"], pa.timestamp("us"), None),
        (["2024-01-31 10:00:00Z", "2024-01-31T10:00:00+02:00"], pa.timestamp("us", "UTC"), None),
        (["10:00:00", "23:59:59.25"], pa.time64("us"), [dt.time(10), dt.time(23, 59, 59, 250000)]),
        (['""', "x", "NA"], pa.string(), ["", "x", None]),
        (['"NA"', "x", "NA"], pa.string(), ["NA", "x", None]),
        (["NA", "NA"], pa.null(), [None, None]),
        (["Åsa", '"a,b"', '"say ""hi"""', '"two\nlines"'], pa.string(), ["Åsa", "a,b", 'say "hi"', "two\nlines"]),
    ],
)
def test_inference(tmp_path: Path, fields: list[str], kind: pa.DataType, expected: list[Any] | None) -> None:
    data = parse(tmp_path, "k,x\n" + "".join(f"1,{field}\n" for field in fields))
    assert data.arrow.schema.field("x").type == kind
    if expected is not None:
        assert values(data)["x"] == expected


def test_offsets_become_the_same_instants(tmp_path: Path) -> None:
    data = parse(tmp_path, "x\n2024-01-31 10:00:00Z\n2024-01-31T10:00:00+02:00\n")
    assert [moment.hour for moment in values(data)["x"]] == [10, 8]


def test_r_and_pandas_row_names_get_a_name_and_it_is_said(tmp_path: Path) -> None:
    data = parse(tmp_path, '"","a"\n"Mazda",1\n"Fiat",2\n')
    assert data.arrow.column_names == ["rownames", "a"]
    assert data.lost == ("column 1 has no name and is called 'rownames'",)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    assert parse(tmp_path, b"\xef\xbb\xbfa,b\n1,2\n").arrow.column_names == ["a", "b"]


def test_a_header_alone_is_an_empty_table(tmp_path: Path) -> None:
    data = parse(tmp_path, "a,b\n")
    assert (data.arrow.num_rows, data.arrow.column_names) == (0, ["a", "b"])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"a,a\n1,2\n", "two columns are called 'a'"),
        (b"a,b\n1,2,3\n", "Expected 2 columns, got 3"),
        (b"a;b\n1;2\n", "semicolons"),
        (b"a,b\n\xe5,1\n", "UTF8"),
        (b"PK\x03\x04rest", "Excel"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_what_is_no_table_is_said(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(ConversionError) as caught:
        parse(tmp_path, content)
    assert caught.value.code == "unreadable_table"
    assert says in caught.value.message
    assert caught.value.hint


def test_written_bytes(tmp_path: Path) -> None:
    columns = {
        "i": pa.array([1, None]),
        "f": pa.array([0.1, 20240131123.0]),
        "nan": pa.array([float("nan"), float("-inf")]),
        "b": pa.array([True, None]),
        "s": pa.array(["a,b", None]),
        "q": pa.array(['say "hi"', " x"]),
        "e": pa.array(["", "Åsa\nØy"]),
        "d": pa.array([dt.date(1955, 1, 2), None]),
        "t": pa.array([dt.datetime(1955, 1, 2, 3, 4, 5), None], pa.timestamp("ns")),
        "dec": pa.array([Decimal("1.10"), None]),
    }
    through(tmp_path, columns, "csv")
    assert (tmp_path / "target.csv").read_text() == (
        "i,f,nan,b,s,q,e,d,t,dec\n"
        '1,0.1,NaN,TRUE,"a,b","say ""hi""","",1955-01-02,1955-01-02 03:04:05,1.10\n'
        ',2.0240131123e+10,-Inf,,NA," x","Åsa\nØy",NA,NA,\n'
    )


def test_pandas_reads_what_is_written(tmp_path: Path) -> None:
    columns = {"i": pa.array([1, 2, 3]), "f": pa.array([0.1, None, 1e300]), "s": pa.array(["x,y", "Å", None])}
    through(tmp_path, columns, "csv")
    frame = pandas.read_csv(tmp_path / "target.csv")
    assert frame["i"].tolist() == [1, 2, 3]
    assert frame["f"].isna().tolist() == [False, True, False]
    assert frame["f"].dropna().tolist() == [0.1, 1e300]
    assert frame["s"].isna().tolist() == [False, False, True]


def test_one_column_loses_no_row_to_a_blank_line(tmp_path: Path) -> None:
    for column in ([1, None, 3], ["a", None, ""], [None, None]):
        data, done = through(tmp_path, {"x": pa.array(column)}, "csv")
        assert values(data)["x"] == column
        assert done.rows == len(column)


def test_tsv_quotes_its_own_delimiter(tmp_path: Path) -> None:
    data, _ = through(tmp_path, {"x": pa.array(["a\tb", "c,d"]), "y": pa.array([1, 2])}, "tsv")
    assert values(data)["x"] == ["a\tb", "c,d"]
    assert "c,d\t2" in (tmp_path / "target.tsv").read_text()


def test_csv_to_tsv_is_a_conversion(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('x,y\n"1,5",2\n')
    convert(tmp_path / "a.csv", "a.csv", tmp_path / "a.tsv")
    assert (tmp_path / "a.tsv").read_text() == "x\ty\n1,5\t2\n"


def test_losses_name_their_columns(tmp_path: Path) -> None:
    meta = TableMeta(
        source="sav",
        label="Trial",
        columns={
            "sex": ColumnMeta(label="Sex", value_labels=((1, "m"),), measure="nominal", missing_codes=(9,)),
            "age": ColumnMeta(missing_ranges=((90.0, 99.0),)),
        },
    )
    columns = {
        "sex": pa.array([1, 9]),
        "age": pa.array([1.0, 95.0]),
        "g": category(["lo", "hi"], ["lo", "hi"]),
        "when": pa.array([dt.datetime(2024, 7, 1)] * 2, pa.timestamp("us", "Europe/Oslo")),
        "zip": pa.array(["0150", "1234"]),
        "code": pa.array(["12", "13"]),
        "land": pa.array(["NA", ""]),
    }
    data, done = through(tmp_path, columns, "csv", meta)
    assert set(done.lost) == {
        "the table's label 'Trial' (csv holds none)",
        "the label of 'sex' (csv holds none)",
        "value labels of 'sex' (csv holds none)",
        "the measurement level of 'sex' (csv holds none)",
        "missing codes of 'sex' and 'age' (csv holds none; the codes stay as ordinary values)",
        "categories and their order of 'g' (csv holds their text only)",
        "the time zone Europe/Oslo of 'when' (csv holds none; times are in UTC)",
        "leading zeros of 'zip' (R and pandas take them for numbers in csv)",
        "the type text of 'code' (its values look like something else to readers of csv)",
        "the text 'NA' of 'land' (R and pandas take it for missing in csv)",
        "empty text of 'land' (pandas takes it for missing in csv)",
    }
    assert values(data)["zip"] == ["0150", "1234"]
    assert values(data)["land"] == ["NA", ""]


def test_a_plain_table_loses_nothing(tmp_path: Path) -> None:
    columns = {"x": pa.array([1, 2]), "s": pa.array(["a", "b"]), "d": pa.array([dt.date(2024, 1, 1)] * 2)}
    data, done = through(tmp_path, columns, "csv")
    assert done.lost == ()
    assert data.arrow.equals(pa.table(columns))


def test_lists_are_refused_by_name_and_nothing_is_left_behind(tmp_path: Path) -> None:
    source = save(tmp_path, {"a": pa.array([1]), "tags": pa.array([["x", "y"]])})
    with pytest.raises(ConversionError, match="'tags'") as caught:
        convert(source, "out/source.parquet", tmp_path / "new" / "target.csv")
    assert caught.value.code == "conversion_refused"
    assert list((tmp_path / "new").iterdir()) == []


def test_many_rows_cross_the_batches(tmp_path: Path) -> None:
    count = 200_001
    columns = {"i": pa.array(range(count)), "s": pa.array([f"row {index}" for index in range(count)])}
    data, done = through(tmp_path, columns, "csv")
    assert done.rows == count
    assert (
        data.arrow.equals(pa.table(columns), check_metadata=False)
        or data.arrow.to_pydict() == pa.table(columns).to_pydict()
    )
