"""SPSS files between here and a real PSPP."""

import datetime as dt
import subprocess
from pathlib import Path

import pyarrow as pa

from groundplane.data.convert import convert, read
from groundplane.data.meta import ColumnMeta, TableMeta
from tests.parts import require
from tests.unit.data.tables import category, save, values

META = TableMeta(
    "sav",
    "Forsøk 1",
    {
        "sex": ColumnMeta("Kjønn", ((1, "mann"), (2, "kvinne"), (9, "ikke spurt")), (9,), (), "nominal"),
        "age": ColumnMeta("Alder i år", (), (999,), ((900.0, 950.0),), "scale"),
        "low": ColumnMeta(missing_ranges=((float("-inf"), -1.0),)),
        "word": ColumnMeta(value_labels=(("y", "ja"), ("n", "nei")), missing_codes=("x",)),
    },
)
COLUMNS = {
    "sex": pa.array([1.0, 2.0, 9.0, None]),
    "age": pa.array([31.5, 999.0, 920.0, 40.0]),
    "low": pa.array([-5.0, 1.0, 2.0, 3.0]),
    "word": pa.array(["y", "n", "x", "Åsa"]),
    "grade": category(["pass", "fail", None, "pass"], ["fail", "pass"], ordered=True),
    "day": pa.array([dt.date(1955, 3, 1), dt.date(1969, 12, 31), dt.date(2024, 2, 29), None]),
    "at": pa.array([dt.datetime(1955, 3, 1, 23, 59, 58, 250000), None, None, None]),
    "clock": pa.array([dt.time(1, 2, 3), None, dt.time(23, 0), None], pa.time64("us")),
    "long": pa.array(["ø" * 200, "", "b" * 300, "c"]),
}


def pspp(folder: Path, syntax: str) -> str:
    """Run syntax in a folder; return the listing as text."""
    require("spss")
    (folder / "job.sps").write_text(syntax, encoding="utf-8")
    done = subprocess.run(
        ["pspp", "-O", "format=csv", "job.sps"],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "error" not in (done.stdout + done.stderr).lower(), done.stdout
    assert "warning" not in (done.stdout + done.stderr).lower(), done.stdout
    return done.stdout


def test_pspp_reads_and_saves_everything(tmp_path: Path) -> None:
    for ending in ("sav", "zsav"):
        done = convert(save(tmp_path, COLUMNS, META), "s.parquet", tmp_path / f"in.{ending}")
        assert done.lost == ()
        out = pspp(
            tmp_path,
            f"GET FILE='in.{ending}'.\nDISPLAY DICTIONARY.\nDESCRIPTIVES age low.\nFREQUENCIES sex grade.\n"
            f"LIST day at clock.\nSAVE OUTFILE='out.{ending}'.\n",
        )
        assert "Alder i år" in out
        assert "Kjønn" in out
        # 999 and 900 to 950 are missing, as is everything up to -1.
        assert "Alder i år,2,35.75" in out
        assert "low,3,2.00" in out
        assert "1955/03/01" in out
        assert "01-MAR-1955 23:59:58.250" in out
        before, after = read(tmp_path / f"in.{ending}", ending), read(tmp_path / f"out.{ending}", ending)
        assert values(after) == values(before)
        for name in COLUMNS:
            first, last = before.meta.column(name), after.meta.column(name)
            assert (last.label, last.missing_ranges) == (first.label, first.missing_ranges)
            assert dict(last.value_labels) == dict(first.value_labels)  # PSPP sorts them by value
            assert set(last.missing_codes) == set(first.missing_codes)
        assert after.meta.column("sex").measure == "nominal"
        assert after.meta.column("grade").measure == "ordinal"
        assert after.meta.label == "Forsøk 1"


def test_what_pspp_saves_becomes_csv(tmp_path: Path) -> None:
    pspp(
        tmp_path,
        """
DATA LIST FREE / id (F4) name (A12) score (F6.2) born (ADATE10).
BEGIN DATA.
1 "Åsa" 1.25 01/31/1950
2 "b,c" . 02/29/2024
END DATA.
VALUE LABELS id 1 'first'.
VARIABLE LABELS score 'The score'.
MISSING VALUES id (99).
SAVE OUTFILE='made.sav'.
""",
    )
    done = convert(tmp_path / "made.sav", "made.sav", tmp_path / "made.csv")
    assert (tmp_path / "made.csv").read_text() == 'id,name,score,born\n1,Åsa,1.25,1950-01-31\n2,"b,c",,2024-02-29\n'
    assert "value labels of 'id' (csv holds none)" in done.lost
    assert "the label of 'score' (csv holds none)" in done.lost
    assert "missing codes of 'id' (csv holds none; the codes stay as ordinary values)" in done.lost


def test_pspp_reads_the_csv(tmp_path: Path) -> None:
    columns = {
        "id": pa.array([1, None]),
        "s": pa.array(["a,b", 'say "hi"']),
        "day": pa.array([dt.date(1955, 3, 1), dt.date(2024, 2, 29)]),
    }
    convert(save(tmp_path, columns), "s.parquet", tmp_path / "x.csv")
    pspp(
        tmp_path,
        """
GET DATA /TYPE=TXT /FILE="x.csv" /ARRANGEMENT=DELIMITED /DELIMITERS="," /QUALIFIER='"' /FIRSTCASE=2
  /VARIABLES=id F8.0 s A20 day SDATE10.
SAVE OUTFILE='x.sav'.
""",
    )
    assert values(read(tmp_path / "x.sav", "sav")) == {
        "id": [1.0, None],
        "s": ["a,b", 'say "hi"'],
        "day": columns["day"].to_pylist(),
    }


def test_an_empty_table_opens(tmp_path: Path) -> None:
    convert(
        save(tmp_path, {"x": pa.array([], pa.float64()), "s": pa.array([], pa.string())}),
        "s.parquet",
        tmp_path / "e.sav",
    )
    assert "x" in pspp(tmp_path, "GET FILE='e.sav'.\nDISPLAY DICTIONARY.\n")
