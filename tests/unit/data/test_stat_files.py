"""SPSS, Stata and SAS transport: what survives, what is told, what is refused."""

import datetime as dt
from pathlib import Path
from typing import Any

import pandas
import pyarrow as pa
import pyarrow.feather
import pyreadstat
import pytest

from groundplane.data.convert import convert, read
from groundplane.data.errors import ConversionError
from groundplane.data.meta import ColumnMeta, TableMeta
from groundplane.data.stat_times import kind_of
from tests.unit.data.tables import category, save, through, values

SPSS = ["sav", "zsav"]
ALL = ["sav", "zsav", "dta", "xpt"]
META = TableMeta(
    source="sav",
    label="Forsøk",
    columns={
        "sex": ColumnMeta(
            label="Kjønn", value_labels=((1, "mann"), (2, "kvinne"), (9, "ikke spurt")), measure="nominal"
        ),
        "age": ColumnMeta(label="Alder", missing_codes=(999,), missing_ranges=((900.0, 950.0),), measure="scale"),
        "low": ColumnMeta(missing_ranges=((float("-inf"), -1.0),)),
        "word": ColumnMeta(value_labels=(("y", "yes"), ("n", "no")), missing_codes=("x",)),
    },
)
COLUMNS = {
    "sex": pa.array([1.0, 2.0, 9.0, None]),
    "age": pa.array([31.5, 999.0, 920.0, None]),
    "low": pa.array([-5.0, 1.0, 2.0, 3.0]),
    "word": pa.array(["y", "n", "x", ""]),
}


@pytest.mark.parametrize("ending", SPSS)
def test_spss_keeps_labels_codes_and_measures(tmp_path: Path, ending: str) -> None:
    data, done = through(tmp_path, COLUMNS, ending, META)
    assert done.lost == ()
    assert values(data) == {name: column.to_pylist() for name, column in COLUMNS.items()}
    assert data.meta.label == "Forsøk"
    for name, meta in META.columns.items():
        found = data.meta.column(name)
        assert found.label == meta.label
        assert found.value_labels == meta.value_labels
        assert set(found.missing_codes) == set(meta.missing_codes)
        assert found.missing_ranges == meta.missing_ranges
        assert meta.measure is None or found.measure == meta.measure


def test_parquet_carries_the_labels_from_sav_to_sav(tmp_path: Path) -> None:
    convert(save(tmp_path, COLUMNS, META), "s.parquet", tmp_path / "a.sav")
    kept = convert(tmp_path / "a.sav", "a.sav", tmp_path / "b.parquet")
    convert(tmp_path / "b.parquet", "b.parquet", tmp_path / "c.feather")
    assert kept.lost == (
        "missing codes of 'age', 'low' and 'word' (kept in the file's metadata; to pandas they are ordinary values)",
    )
    done = convert(tmp_path / "c.feather", "c.feather", tmp_path / "d.zsav")
    first, last = read(tmp_path / "a.sav", "sav"), read(tmp_path / "d.zsav", "zsav")
    assert done.lost == ()
    assert first.meta.columns == last.meta.columns
    assert first.arrow.equals(last.arrow)


def test_stata_keeps_labels_and_says_what_it_does_not(tmp_path: Path) -> None:
    data, done = through(tmp_path, COLUMNS, "dta", META)
    assert data.meta.column("sex").value_labels == META.columns["sex"].value_labels
    assert data.meta.column("age").label == "Alder"
    assert values(data)["sex"] == [1, 2, 9, None]
    assert set(done.lost) == {
        "missing codes of 'age', 'low' and 'word' (dta holds none; the codes stay as ordinary values)",
        "the measurement level of 'sex' and 'age' (dta holds none)",
        "value labels of 'word' (dta holds them for numbers only)",
    }


def test_transport_keeps_labels_of_columns_only(tmp_path: Path) -> None:
    data, done = through(tmp_path, COLUMNS, "xpt", META)
    assert data.meta.column("sex").label == "Kjønn"
    assert values(data)["age"] == [31.5, 999.0, 920.0, None]
    assert "value labels of 'sex' and 'word' (xpt holds none)" in done.lost
    assert "missing codes of 'age', 'low' and 'word' (xpt holds none; the codes stay as ordinary values)" in done.lost


@pytest.mark.parametrize("ending", ALL)
def test_dates_moments_and_times(tmp_path: Path, ending: str) -> None:
    columns = {
        "d": pa.array([dt.date(1901, 3, 1), dt.date(1969, 12, 31), dt.date(2024, 2, 29), None]),
        "m": pa.array([dt.datetime(1901, 3, 1, 23, 59, 59, 999000), dt.datetime(1969, 12, 31, 1, 2, 3), None, None]),
        "t": pa.array([dt.time(0), dt.time(23, 59, 59, 990000), None, dt.time(12, 30)], pa.time64("us")),
        "l": pa.array([dt.timedelta(days=2, seconds=1), dt.timedelta(seconds=-5), None, None], pa.duration("us")),
    }
    data, _ = through(tmp_path, columns, ending)
    assert values(data) == {name: column.to_pylist() for name, column in columns.items()}
    assert [str(kind) for kind in data.arrow.schema.types] == [
        "date32[day]",
        "timestamp[us]",
        "time64[us]",
        "duration[us]",
    ]


def test_pyreadstat_agrees_on_dates(tmp_path: Path) -> None:
    columns = {"d": pa.array([dt.date(1950, 6, 1)]), "m": pa.array([dt.datetime(1950, 6, 1, 12, 30)])}
    for ending, reader in (("sav", "read_sav"), ("dta", "read_dta"), ("xpt", "read_xport")):
        through(tmp_path, columns, ending)
        found, _ = getattr(pyreadstat, reader)(str(tmp_path / f"target.{ending}"), output_format="dict")
        assert list(found["d"]) == [dt.date(1950, 6, 1)]
        assert list(found["m"]) == [dt.datetime(1950, 6, 1, 12, 30)]


@pytest.mark.parametrize("ending", ALL)
def test_time_zones_become_utc_and_it_is_said(tmp_path: Path, ending: str) -> None:
    moment = pa.array([dt.datetime(2024, 7, 1, 10)], pa.timestamp("us", "Europe/Oslo"))
    data, done = through(tmp_path, {"m": moment}, ending)
    assert values(data)["m"] == [dt.datetime(2024, 7, 1, 10)]  # the instant, which pyarrow took as UTC
    assert done.lost == (f"the time zone Europe/Oslo of 'm' ({ending} holds none; times are in UTC)",)


def test_microseconds_are_said_where_they_go(tmp_path: Path) -> None:
    fine = pa.array([dt.datetime(2024, 7, 1, 10, 0, 0, 123456)])
    assert through(tmp_path, {"m": fine}, "sav")[1].lost == ("microseconds of 'm' (sav rounds them)",)
    data, done = through(tmp_path, {"m": fine}, "dta")
    assert done.lost == ()
    assert values(data)["m"] == fine.to_pylist()


@pytest.mark.parametrize("ending", [*SPSS, "dta"])
def test_categories_become_codes_with_labels_in_order(tmp_path: Path, ending: str) -> None:
    grades = category(["pass", None, "fail"], ["fail", "pass", "honours"], ordered=True)
    data, done = through(tmp_path, {"g": grades}, ending)
    assert values(data)["g"] == [2, None, 1]
    assert data.meta.column("g").value_labels == ((1, "fail"), (2, "pass"), (3, "honours"))
    if ending == "dta":
        assert done.lost == ("the mark 'ordered' of 'g' (dta keeps the categories in order and holds no such mark)",)
    else:
        assert done.lost == ()
        assert data.meta.column("g").measure == "ordinal"


def test_categories_of_numbers_keep_their_numbers(tmp_path: Path) -> None:
    numbers = pa.DictionaryArray.from_arrays(pa.array([1, 0, None]), pa.array([30, 10]))
    pyarrow.feather.write_feather(pa.table({"n": numbers}), str(tmp_path / "n.feather"))  # Parquet keeps none of them
    done = convert(tmp_path / "n.feather", "n.feather", tmp_path / "n.sav")
    assert values(read(tmp_path / "n.sav", "sav"))["n"] == [10.0, 30.0, None]
    assert done.lost == ("categories and their order of 'n' (sav holds categories of text only)",)


@pytest.mark.parametrize("ending", ALL)
@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 2**63 - 1])
def test_a_whole_number_that_would_be_rounded_is_refused(tmp_path: Path, ending: str, number: int) -> None:
    source = save(tmp_path, {"ok": pa.array([2**53, 2**60]), "id": pa.array([number, 1])})
    with pytest.raises(ConversionError, match="'id'") as caught:
        convert(source, "s.parquet", tmp_path / f"t.{ending}")
    assert caught.value.code == "conversion_refused"
    assert str(number) in caught.value.message
    assert "text" in caught.value.hint


@pytest.mark.parametrize("ending", ALL)
def test_whole_numbers_that_fit_are_exact(tmp_path: Path, ending: str) -> None:
    numbers = [2**53, -(2**53), 2**60, 2_147_483_647, -2_147_483_648, 0]
    data, done = through(tmp_path, {"n": pa.array(numbers)}, ending)
    assert values(data)["n"] == numbers
    assert done.lost == ()


@pytest.mark.parametrize("number", [101, 32_741, 2_147_483_620, 2_147_483_621, 2_147_483_647])
def test_stata_does_not_take_large_numbers_for_missing(tmp_path: Path, number: int) -> None:
    """Stata's top values of each integer type are its missing values."""
    data, _ = through(tmp_path, {"n": pa.array([number, None, 1])}, "dta")
    assert values(data)["n"] == [number, None, 1]
    assert pandas.read_stata(tmp_path / "target.dta")["n"].dropna().tolist() == [number, 1]


@pytest.mark.parametrize(
    ("ending", "number"),
    [("xpt", float("inf")), ("xpt", 2.0**249), ("xpt", 1e-80), ("dta", float("-inf")), ("dta", 1e308)],
)
def test_numbers_outside_the_format_are_refused(tmp_path: Path, ending: str, number: float) -> None:
    with pytest.raises(ConversionError, match="'x'") as caught:
        through(tmp_path, {"x": pa.array([number])}, ending)
    assert caught.value.code == "conversion_refused"


@pytest.mark.parametrize("ending", ALL)
def test_truth_and_missing_text_are_said(tmp_path: Path, ending: str) -> None:
    columns = {"b": pa.array([True, None, False]), "s": pa.array(["Åsa", None, ""]), "n": pa.nulls(3)}
    data, done = through(tmp_path, columns, ending)
    assert values(data) == {"b": [1, None, 0], "s": ["Åsa", "", ""], "n": [None, None, None]}
    assert f"the type true/false of 'b' ({ending} holds 1 and 0)" in done.lost
    assert f"missing text of 's' ({ending} holds empty text instead)" in done.lost


def test_nan_beside_missing_is_said(tmp_path: Path) -> None:
    data, done = through(tmp_path, {"x": pa.array([float("nan"), None, 1.0])}, "sav")
    assert values(data)["x"] == [None, None, 1.0]
    assert done.lost == ("NaN of 'x' (sav has one missing value for NaN and missing)",)


@pytest.mark.parametrize("ending", ALL)
def test_an_empty_table_keeps_its_columns(tmp_path: Path, ending: str) -> None:
    columns = {"i": pa.array([], pa.int64()), "s": pa.array([], pa.string()), "g": category([], ["a", "b"])}
    data, done = through(tmp_path, columns, ending)
    assert (done.rows, data.arrow.num_rows, data.arrow.column_names) == (0, 0, ["i", "s", "g"])


@pytest.mark.parametrize("size", [1, 255, 256, 2044, 2045, 2046, 32_767])
@pytest.mark.parametrize("ending", ALL)
def test_long_text_is_whole(tmp_path: Path, ending: str, size: int) -> None:
    text = "x" * (size - 1) + "y"
    data, _ = through(tmp_path, {"s": pa.array([text, "", "short"]), "after": pa.array([1, 2, 3])}, ending)
    assert values(data)["s"] == [text, "", "short"]
    assert values(data)["after"] == [1, 2, 3]


@pytest.mark.parametrize("ending", ["sav", "xpt"])
def test_text_beyond_the_format_is_refused(tmp_path: Path, ending: str) -> None:
    with pytest.raises(ConversionError, match="'s' holds a text of 32768 bytes"):
        through(tmp_path, {"s": pa.array(["x" * 32_768])}, ending)


@pytest.mark.parametrize("ending", ALL)
def test_a_nul_in_text_is_refused(tmp_path: Path, ending: str) -> None:
    with pytest.raises(ConversionError, match="'s' holds a NUL"):
        through(tmp_path, {"s": pa.array(["a\0b"])}, ending)


@pytest.mark.parametrize(
    ("ending", "names"),
    [
        ("sav", ["two words", "1st", "with", "", "_x", "a" * 65, "end."]),
        ("dta", ["two words", "1st", "a.b", "int", "str8", "a" * 33]),
        ("xpt", ["two words", "1st", "a.b", "Åsa", "a" * 33]),
        ("mat", ["two words", "1st", "a.b", "Åsa", "end", "_x", "a" * 64]),
    ],
)
def test_names_that_a_format_cannot_hold_are_refused_by_name(tmp_path: Path, ending: str, names: list[str]) -> None:
    for name in names:
        with pytest.raises(ConversionError) as caught:
            through(tmp_path, {"fine": pa.array([1]), name: pa.array([1])}, ending)
        assert caught.value.code == "conversion_refused"
        assert f"'{name}'" in caught.value.message
        assert "rename" in caught.value.hint


def test_names_that_differ_in_case_only(tmp_path: Path) -> None:
    columns = {"age": pa.array([1]), "Age": pa.array([2])}
    for ending in ("sav", "xpt"):
        with pytest.raises(ConversionError, match="'age' and 'Age'"):
            through(tmp_path, columns, ending)
    assert values(through(tmp_path, columns, "dta")[0]) == {"age": [1], "Age": [2]}


def test_names_that_fit(tmp_path: Path) -> None:
    assert through(tmp_path, {"Alder_år": pa.array([1]), "v.2": pa.array([2])}, "sav")[0].arrow.column_names == [
        "Alder_år",
        "v.2",
    ]
    assert through(tmp_path, {"Alder_år": pa.array([1])}, "dta")[0].arrow.column_names == ["Alder_år"]


def test_a_long_name_makes_transport_version_8_and_says_so(tmp_path: Path) -> None:
    data, done = through(tmp_path, {"longer_than_eight": pa.array([1.5])}, "xpt")
    assert values(data) == {"longer_than_eight": [1.5]}
    assert "version 8" in done.lost[0]
    assert "'longer_than_eight'" in done.lost[0]
    assert (tmp_path / "target.xpt").read_bytes().startswith(b"HEADER RECORD*******LIBV8")
    through(tmp_path, {"short": pa.array([1.5])}, "xpt")
    assert (tmp_path / "target.xpt").read_bytes().startswith(b"HEADER RECORD*******LIBRARY")


def test_rows_that_transport_would_lose_at_the_end(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="last row"):
        through(tmp_path, {"s": pa.array(["a", ""])}, "xpt")
    data, _ = through(tmp_path, {"s": pa.array(["a", ""]), "n": pa.array([None, None], pa.float64())}, "xpt")
    assert values(data)["s"] == ["a", ""]


def test_too_many_missing_codes_for_spss(tmp_path: Path) -> None:
    meta = TableMeta("rds", None, {"x": ColumnMeta(missing_codes=(1, 2, 3, 4))})
    data, done = through(tmp_path, {"x": pa.array([1.0, 5.0])}, "sav", meta)
    assert values(data)["x"] == [1.0, 5.0]
    assert done.lost == ("missing codes of 'x' (SPSS holds three, or a range and one, of at most 8 bytes)",)


def test_long_labels_are_cut_between_characters_and_said(tmp_path: Path) -> None:
    meta = TableMeta("rds", None, {"x": ColumnMeta(label="å" * 200, value_labels=((1, "ø" * 100),))})
    data, done = through(tmp_path, {"x": pa.array([1.0])}, "sav", meta)
    assert data.meta.column("x").label == "å" * 127
    assert data.meta.column("x").value_labels == ((1, "ø" * 60),)
    assert done.lost == (
        "the end of the label of 'x' (sav holds 255 bytes)",
        "the end of value labels of 'x' (sav holds 120 bytes)",
    )


def test_spaces_at_the_end(tmp_path: Path) -> None:
    columns = {"s": pa.array(["a ", "b"]), "g": category(["lo ", "hi"], ["lo ", "hi"])}
    data, done = through(tmp_path, columns, "sav")
    assert values(data)["s"] == ["a", "b"]
    assert done.lost == (
        "trailing spaces of 's' (sav pads text with spaces)",
        "trailing spaces in labels of 'g' (sav holds none)",
    )
    data, done = through(tmp_path, columns, "dta")
    assert values(data)["s"] == ["a ", "b"]
    assert done.lost == ("trailing spaces in labels of 'g' (dta holds none)",)


@pytest.mark.parametrize("number", [2.0**249 * 0.9999, 2.0**-260, -1e74, 1.5, 123456.789])
def test_transport_is_exact_within_its_range(tmp_path: Path, number: float) -> None:
    assert values(through(tmp_path, {"x": pa.array([number])}, "xpt")[0])["x"] == [number]


def test_tagged_missing_values_of_stata_are_said(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"x": pandas.Series([1.0, "a", "b", None], dtype=object)})
    pyreadstat.write_dta(
        frame,
        str(tmp_path / "a.dta"),
        missing_user_values={"x": ["a", "b"]},
        variable_value_labels={"x": {1.0: "one", "a": "refused"}},
    )
    done = convert(tmp_path / "a.dta", "a.dta", tmp_path / "a.parquet")
    data = read(tmp_path / "a.parquet", "parquet")
    assert values(data)["x"] == [1.0, None, None, None]
    assert done.lost == ("the reasons .a, .b of 'x' (they became plain missing)",)
    assert data.meta.column("x").value_labels == ((1, "one"),)


def test_display_formats_return_to_their_own_program_only(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"p": [1.5], "d": [dt.date(2024, 1, 2)]})
    pyreadstat.write_sav(frame, str(tmp_path / "a.sav"), variable_format={"p": "DOLLAR9.2", "d": "ADATE10"})
    convert(tmp_path / "a.sav", "a.sav", tmp_path / "b.parquet")
    convert(tmp_path / "b.parquet", "b.parquet", tmp_path / "c.sav")
    assert read(tmp_path / "c.sav", "sav").meta.column("p").display == "DOLLAR9.2"
    assert read(tmp_path / "c.sav", "sav").meta.column("d").display == "ADATE10"
    convert(tmp_path / "b.parquet", "b.parquet", tmp_path / "c.dta")
    assert read(tmp_path / "c.dta", "dta").meta.column("d").display == "%td"


@pytest.mark.parametrize(
    ("display", "family", "kind"),
    [
        ("F8.2", "spss", "number"),
        ("SDATE10", "spss", "date"),
        ("DATETIME24.3", "spss", "datetime"),
        ("DTIME12", "spss", "time"),
        ("A20", "spss", "number"),
        ("DATE9", "sas", "date"),
        ("DATE", "sas", "date"),
        ("YYMMDD10", "sas", "date"),
        ("E8601DT", "sas", "datetime"),
        ("E8601DA10", "sas", "date"),
        ("DATETIME20", "sas", "datetime"),
        ("BEST12", "sas", "number"),
        ("COMMA10.2", "sas", "number"),
        ("%td", "stata", "date"),
        ("%tdD_m_Y", "stata", "date"),
        ("%tc", "stata", "datetime"),
        ("%tcHH:MM:SS", "stata", "time"),
        ("%tm", "stata", "number"),
        ("%9.0g", "stata", "number"),
        (None, "sas", "number"),
    ],
)
def test_kinds_of_display_formats(display: str | None, family: Any, kind: str) -> None:
    assert kind_of(display, family) == kind


def test_stata_months_are_said(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"m": [720.0]})
    pyreadstat.write_dta(frame, str(tmp_path / "a.dta"), variable_format={"m": "%tm"})
    assert convert(tmp_path / "a.dta", "a.dta", tmp_path / "a.csv").lost == (
        "the format %tm of 'm' (only its numbers are kept)",
    )
