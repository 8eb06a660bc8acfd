"""Data frames between here and a real R."""

import datetime as dt
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

from groundplane.data.convert import convert, read
from groundplane.data.errors import ConversionError
from groundplane.data.meta import ColumnMeta, TableMeta
from tests.parts import require
from tests.unit.data.tables import category, save, values


def r(folder: Path, code: str) -> str:
    """Run R code in a folder; return its stdout."""
    require("r")
    (folder / "code.R").write_text(code, encoding="utf-8")
    done = subprocess.run(
        ["Rscript", "--vanilla", "code.R"],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_r_reads_every_kind_of_column(tmp_path: Path) -> None:
    columns = {
        "i": pa.array([1, None, 3]),
        "f": pa.array([0.1, None, float("nan")]),
        "b": pa.array([True, None, False]),
        "s": pa.array(["Åsa", None, ""]),
        "g": category(["hi", None, "lo"], ["never", "lo", "hi"], ordered=True),
        "u": category(["b", "a", "b"], ["b", "a"]),
        "d": pa.array([dt.date(1955, 3, 1), None, dt.date(2024, 2, 29)]),
        "m": pa.array(
            [dt.datetime(1955, 3, 1, 10), None, dt.datetime(2024, 7, 1, 10)], pa.timestamp("us", "Europe/Oslo")
        ),
        "l": pa.array([dt.timedelta(seconds=90), None, None], pa.duration("us")),
        "none": pa.nulls(3),
    }
    meta = TableMeta("sav", None, {"i": ColumnMeta(label="Antall", value_labels=((1, "én"), (3, "tre")))})
    convert(save(tmp_path, columns, meta), "s.parquet", tmp_path / "x.rds")
    out = r(
        tmp_path,
        """
        x <- readRDS("x.rds")
        stopifnot(
          is.data.frame(x), nrow(x) == 3L, identical(row.names(x), c("1", "2", "3")),
          identical(as.vector(x$i), c(1L, NA, 3L)), attr(x$i, "label") == "Antall",
          identical(attr(x$i, "labels"), c(`én` = 1L, tre = 3L)),
          x$f[1] == 0.1, is.na(x$f[2]), !is.nan(x$f[2]), is.nan(x$f[3]),
          identical(x$b, c(TRUE, NA, FALSE)),
          identical(x$s, c("Åsa", NA, "")), Encoding(x$s[1]) == "UTF-8",
          identical(class(x$g), c("ordered", "factor")), identical(levels(x$g), c("never", "lo", "hi")),
          identical(as.character(x$g), c("hi", NA, "lo")), x$g[1] > x$g[3],
          identical(class(x$u), "factor"), identical(levels(x$u), c("b", "a")),
          inherits(x$d, "Date"), identical(format(x$d), c("1955-03-01", NA, "2024-02-29")),
          identical(class(x$m), c("POSIXct", "POSIXt")), attr(x$m, "tzone") == "Europe/Oslo",
          identical(format(x$m), c("1955-03-01 11:00:00", NA, "2024-07-01 12:00:00")),
          inherits(x$l, "difftime"), units(x$l) == "secs", as.numeric(x$l[1]) == 90,
          identical(x$none, c(NA, NA, NA))
        )
        fit <- lm(f ~ u, data.frame(f = c(1, 2, 4), u = x$u)); cat(names(coef(fit))[2])
        """,
    )
    assert out == "ua"  # the first level is the reference, as in the table


def test_what_r_saves_is_read(tmp_path: Path) -> None:
    r(
        tmp_path,
        """
        x <- data.frame(
          id = 1:4, half = c(0.5, NA, NaN, Inf), yes = c(TRUE, FALSE, NA, TRUE),
          s = c("Åsa", NA, "", "x"), seq = seq(2, 8, by = 2),
          spelt = as.character(1:4), stringsAsFactors = FALSE)
        x$g <- factor(c("hi", "lo", NA, "hi"), levels = c("lo", "hi", "never"), ordered = TRUE)
        x$d <- as.Date(c("1955-03-01", NA, "2024-02-29", "1900-01-01"))
        x$m <- as.POSIXct(c("1955-03-01 11:00:00.25", NA, "2024-07-01 12:00:00", NA), tz = "Europe/Oslo")
        x$local <- as.POSIXct(0, origin = "1970-01-01")
        x$l <- as.difftime(c(1, NA, 2, 3), units = "mins")
        attr(x$half, "label") <- "Halvparten"
        latin <- "\\xe5"; Encoding(latin) <- "latin1"; x$latin <- latin
        saveRDS(x, "x.rds"); saveRDS(x, "xz.rds", compress = "xz"); saveRDS(x, "plain.rds", compress = FALSE)
        saveRDS(x, "v2.rds", version = 2); save(x, file = "x.RData"); saveRDS(mtcars, "cars.rds")
        saveRDS(x[0, ], "empty.rds")
        # What tibble, readr and data.table hang on a table.
        odd <- x; class(odd) <- c("grouped_df", "tbl_df", "tbl", "data.frame")
        attr(odd, "groups") <- data.frame(.rows = I(list(1:4))); attr(odd, "spec") <- local(y ~ x + z)
        attr(odd, "problems") <- new.env(); odd$g <- addNA(odd$g); odd$half <- NULL
        odd$sex <- structure(c(1, 2, 9, 1), label = "Sex", labels = c(m = 1, f = 2), na_values = 9,
          class = c("haven_labelled_spss", "haven_labelled", "vctrs_vctr", "double"))
        saveRDS(odd, "odd.rds")
        """,
    )
    first = read(tmp_path / "x.rds", "rds")
    found = values(first)
    assert found["id"] == [1, 2, 3, 4]
    assert found["half"][:2] == [0.5, None]
    assert found["half"][2] != found["half"][2]
    assert found["half"][3] == float("inf")
    assert found["yes"] == [True, False, None, True]
    assert found["s"] == ["Åsa", None, "", "x"]
    assert found["seq"] == [2.0, 4.0, 6.0, 8.0]
    assert found["spelt"] == ["1", "2", "3", "4"]
    assert found["g"] == ["hi", "lo", None, "hi"]
    assert first.arrow.column("g").chunk(0).dictionary.to_pylist() == ["lo", "hi", "never"]
    assert first.arrow.column("g").type.ordered
    assert found["d"] == [dt.date(1955, 3, 1), None, dt.date(2024, 2, 29), dt.date(1900, 1, 1)]
    assert first.arrow.schema.field("m").type == pa.timestamp("us", "Europe/Oslo")
    assert found["m"][0].isoformat() == "1955-03-01T11:00:00.250000+01:00"
    assert found["l"][0] == dt.timedelta(minutes=1)
    assert found["latin"] == ["å"] * 4
    assert first.meta.column("half").label == "Halvparten"
    assert first.lost == ("the time zone of 'local' (R recorded none; times are in UTC)",)
    for other in ("xz.rds", "plain.rds", "v2.rds", "x.RData"):
        again = read(tmp_path / other, other.rsplit(".", 1)[1].lower())
        assert again.arrow.drop_columns("half").equals(first.arrow.drop_columns("half"))
    assert read(tmp_path / "empty.rds", "rds").arrow.num_rows == 0
    convert(tmp_path / "odd.rds", "odd.rds", tmp_path / "odd.sav")
    odd = read(tmp_path / "odd.sav", "sav")
    assert values(odd)["g"] == [2, 1, None, 2]
    assert values(odd)["sex"] == [1, 2, 9, 1]
    assert (odd.meta.column("sex").value_labels, odd.meta.column("sex").missing_codes) == (((1, "m"), (2, "f")), (9,))
    done = convert(tmp_path / "cars.rds", "cars.rds", tmp_path / "cars.csv")
    assert (done.rows, done.columns) == (32, 11)
    assert done.lost == ("the row names ('Mazda RX4', …); make them a column to keep them",)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("list(a = 1, b = 'x')", "a list"),
        ("lm(mpg ~ wt, mtcars)", "class lm"),
        ("glm(am ~ wt, binomial, mtcars)", "class glm lm|function"),
        ("function(x) x + 1", "function"),
        ("matrix(1:4, 2)", "matrix"),
        ("1:3", "integer vector"),
        ("NULL", "NULL"),
        ("quote(a + b)", "a call"),
        ("data.frame(x = I(list(1, 2)))", "column 'x' is an object of class AsIs"),
        ("data.frame(x = 1:2 + 1i)", "complex"),
        ("data.frame(x = I(matrix(1:4, 2)))", "column 'x'"),
        ("data.frame()", "without columns"),
    ],
)
def test_what_is_no_table_is_never_an_empty_one(tmp_path: Path, value: str, says: str) -> None:
    r(tmp_path, f"saveRDS({value}, 'x.rds')")
    with pytest.raises(ConversionError, match=says) as caught:
        convert(tmp_path / "x.rds", "x.rds", tmp_path / "x.csv")
    assert caught.value.code == "unreadable_table"
    assert not (tmp_path / "x.csv").exists()


def test_a_workspace_of_two_tables_is_ambiguous(tmp_path: Path) -> None:
    r(tmp_path, "a <- mtcars; b <- iris; n <- 3; save(a, n, file = 'one.RData'); save(a, b, file = 'two.RData')")
    assert read(tmp_path / "one.RData", "rdata").arrow.num_rows == 32
    with pytest.raises(ConversionError, match="2 data frames"):
        read(tmp_path / "two.RData", "rdata")


def test_r_reads_the_csv_as_it_was_meant(tmp_path: Path) -> None:
    columns = {
        "i": pa.array([1, None, 3]),
        "f": pa.array([0.1, float("nan"), float("-inf")]),
        "b": pa.array([True, None, False]),
        "s": pa.array(["Åsa, 'x'", None, 'say "hi"\n# no comment']),
        "d": pa.array([None, dt.date(1955, 3, 1), None]),
    }
    convert(save(tmp_path, columns), "s.parquet", tmp_path / "x.csv")
    r(
        tmp_path,
        """
        x <- read.csv("x.csv")
        stopifnot(
          identical(x$i, c(1L, NA, 3L)), x$f[1] == 0.1, is.nan(x$f[2]), x$f[3] == -Inf,
          identical(x$b, c(TRUE, NA, FALSE)), identical(x$s, c("Åsa, 'x'", NA, 'say "hi"\\n# no comment')),
          identical(as.Date(x$d), as.Date(c(NA, "1955-03-01", NA))))
        """,
    )


def test_the_csv_of_r_is_read_as_it_was_meant(tmp_path: Path) -> None:
    r(
        tmp_path,
        """
        x <- data.frame(i = c(1L, NA), f = c(Inf, -Inf), b = c(TRUE, NA), s = c("NA?", NA), q = c('a "b"', ""))
        write.csv(x, "x.csv", row.names = FALSE); write.csv(x, "rows.csv")
        """,
    )
    found = values(read(tmp_path / "x.csv", "csv"))
    assert found["i"] == [1, None]
    assert found["f"] == [float("inf"), float("-inf")]
    assert found["b"] == [True, None]
    assert found["s"] == ["NA?", None]
    assert found["q"] == ['a "b"', ""]
    assert values(read(tmp_path / "rows.csv", "csv"))["rownames"] == [1, 2]


def test_foreign_reads_transport_and_spss_files(tmp_path: Path) -> None:
    """R's own package, which shares no code with ReadStat."""
    columns = {
        "x": pa.array([1.5, None, -2.25]),
        "s": pa.array(["ab", "", "c"]),
        "g": category(["b", "a", "b"], ["b", "a"]),
    }
    source = save(tmp_path, columns)
    convert(source, "s.parquet", tmp_path / "x.xpt")
    convert(source, "s.parquet", tmp_path / "x.sav")
    r(
        tmp_path,
        """
        library(foreign)
        x <- read.xport("x.xpt"); names(x) <- tolower(names(x))
        stopifnot(identical(x$x, c(1.5, NA, -2.25)), trimws(x$s[1]) == "ab", nrow(x) == 3)
        y <- suppressWarnings(read.spss("x.sav", to.data.frame = TRUE))
        stopifnot(identical(as.vector(y$x), c(1.5, NA, -2.25)), identical(levels(y$g), c("b", "a")),
                  identical(as.character(y$g), c("b", "a", "b")))
        """,
    )


def test_a_hundred_thousand_rows_each_way(tmp_path: Path) -> None:
    count = 100_000
    columns = {
        "i": pa.array(range(count)),
        "f": pa.array([index / 7 for index in range(count)]),
        "s": pa.array([f"navn {index % 5000} å" for index in range(count)]),
    }
    convert(save(tmp_path, columns), "s.parquet", tmp_path / "x.rds")
    r(
        tmp_path,
        """
        x <- readRDS("x.rds")
        stopifnot(nrow(x) == 100000L, x$i[100000] == 99999L, x$f[8] == 1, x$s[5001] == "navn 0 å")
        saveRDS(x, "y.rds")
        """,
    )
    assert values(read(tmp_path / "y.rds", "rds")) == {name: column.to_pylist() for name, column in columns.items()}
