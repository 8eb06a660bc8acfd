"""The process that the agent starts: one document in, one out."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from groundplane.data.formats import formats
from tests.unit.data.tables import save


def run(request: Any) -> tuple[int, dict[str, Any], str]:
    text = request if isinstance(request, bytes) else json.dumps(request).encode()
    done = subprocess.run(
        [sys.executable, "-I", "-m", "groundplane.data"], input=text, capture_output=True, check=False
    )
    assert done.stdout.count(b"\n") == 1, done.stdout
    return done.returncode, json.loads(done.stdout), done.stderr.decode()


def one(source: Path, name: str, target: Path) -> dict[str, Any]:
    return {"source": str(source), "source_name": name, "target": str(target)}


def test_a_bad_table_does_not_spoil_a_good_one(tmp_path: Path) -> None:
    blob = save(tmp_path, {"navn": pa.array(["Åsa"]), "x": pa.array([1.5])}).rename(tmp_path / "ab12")
    (tmp_path / "junk").write_bytes(b"junk")
    out = tmp_path / "données é" / "ut.csv"
    status, answer, _ = run(
        {
            "conversions": [
                one(tmp_path / "junk", "in.sav", tmp_path / "a.csv"),
                one(blob, "clean.parquet", tmp_path / "a.mat"),
                one(tmp_path / "nowhere", "in.csv", tmp_path / "b.rds"),
                one(blob, "clean.parquet", out),
            ]
        }
    )
    assert status == 1
    results = answer["conversions"]
    assert [entry.get("error", {}).get("code") for entry in results] == [
        "unreadable_table",
        "conversion_refused",
        "conversion_failed",
        None,
    ]
    assert results[3] == {"target": str(out), "rows": 1, "columns": 2, "lost": []}
    assert out.read_text() == "navn,x\nÅsa,1.5\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ab12", "données é", "junk"]


def test_every_format_there_and_back_in_one_process(tmp_path: Path) -> None:
    """In an order in which pandas is hidden, needed and hidden again."""
    source = save(tmp_path, {"x": pa.array([1.5, None]), "s": pa.array(["a", "b"])})
    endings = [entry.ending for entry in formats() if entry.writes and entry.ending != "parquet"]
    there = [one(source, "s.parquet", tmp_path / f"o.{ending}") for ending in endings]
    back = [one(tmp_path / f"o.{ending}", f"o.{ending}", tmp_path / f"{ending}.parquet") for ending in endings]
    status, answer, error = run({"conversions": [*there, *back]})
    assert (status, error) == (0, "")
    assert [entry["rows"] for entry in answer["conversions"]] == [2] * 2 * len(endings)
    for ending in endings:
        assert pq.read_table(tmp_path / f"{ending}.parquet").to_pydict() == {"x": [1.5, None], "s": ["a", "b"]}


def test_nothing_to_do_is_well() -> None:
    assert run({"conversions": []})[:2] == (0, {"conversions": []})


def test_a_request_that_makes_no_sense_is_answered() -> None:
    for request in (b"", b"{", b"[]", {"conversions": 3}, {"conversions": [{"source": "/a"}]}, {"conversions": [[]]}):
        status, answer, _ = run(request)
        assert status == 1
        assert answer["conversions"] == []
        assert answer["error"]["code"] == "conversion_failed"


def test_a_target_that_is_in_place_is_replaced_whole(tmp_path: Path) -> None:
    source = save(tmp_path, {"x": pa.array([1])})
    target = tmp_path / "o.csv"
    target.write_text("old\n" * 100)
    run({"conversions": [one(source, "s.parquet", target)]})
    assert target.read_text() == "x\n1\n"


@pytest.mark.parametrize("name", ["s.parquet", "s.feather", "s.sav"])
def test_a_damaged_table_is_not_blamed_on_a_step(tmp_path: Path, name: str) -> None:
    """It may be the project's own, or come from a URL."""
    source = tmp_path / name
    source.write_bytes(b"PAR1 and no more")
    _, answer, _ = run({"conversions": [one(source, name, tmp_path / "o.csv")]})
    error = answer["conversions"][0]["error"]
    assert error["code"] == "unreadable_table"
    assert error["hint"] == "is it damaged or half-written, or not what its ending says?"


def test_pairs_that_need_no_conversion_are_refused(tmp_path: Path) -> None:
    source = save(tmp_path, {"x": pa.array([1])})
    for name in ("o.parquet", "o.txt", "o.xlsx"):
        status, answer, _ = run({"conversions": [one(source, "s.parquet", tmp_path / name)]})
        assert status == 1
        assert answer["conversions"][0]["error"]["code"] == "conversion_refused"
