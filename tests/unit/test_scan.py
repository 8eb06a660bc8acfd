"""The scan of CI finds what it looks for, tells where, and not what."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "scan.py"
SPEC = importlib.util.spec_from_file_location("scan", TOOL)
assert SPEC is not None and SPEC.loader is not None
scan = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(scan)

RANDOM = "kEc0f3QSOFpNjsR2JJxv35Ge2qOkbxYYGyYzbhpMZ3Y"  # not a secret
PLANTED = {
    "a private key": "-----BEGIN " + "RSA PRIVATE KEY----- MIIEow",
    "a key of AWS": "AKI" + "A" + "IOSFODNN7EXAMPLE",
    "a token of GitHub": "ghp_" + "a1B2" * 9,
    "a token of GitLab": "glpat-" + "a1B2" * 5,
    "a token of Slack": "xoxb-" + "1234567890-abc",
    "a key of Google": "AIza" + "a1B2c" * 7,
    "a token of Groundplane": "gp_" + RANDOM,
    "a signed token": "eyJ" + "a1B2" * 5 + ".eyJ" + "c3D4" * 5 + "." + "e5F6" * 8,
    "a secret in an assignment": f"API_TOKEN = '{RANDOM}'",
}


def test_every_rule_has_one_planted() -> None:
    assert set(PLANTED) == set(scan.RULES)


def test_a_key_in_its_own_file_is_found(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(tmp_path / "key.pem")], check=True)
    assert list(scan.secrets(tmp_path)) == [("key.pem:1", "a private key")]


@pytest.mark.parametrize("rule", PLANTED)
def test_it_finds_each_kind_where_it_is(tmp_path: Path, rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("ignored\n")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "file.txt").write_text(f"first\nx {PLANTED[rule]}\n")
    (tmp_path / "ignored").write_text(PLANTED[rule])
    (tmp_path / "excused").write_text(f"{PLANTED[rule]}  # {scan.MARK}\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe" + PLANTED[rule].encode())
    assert ("below/file.txt:2", rule) in list(scan.secrets(tmp_path))
    assert {place for place, _ in scan.secrets(tmp_path)} == {"below/file.txt:2"}


@pytest.mark.parametrize(
    "line",
    [
        "token = secrets.token_urlsafe(32)",
        'PASSWORD = "correct horse battery staple"',
        "--token-file /etc/groundplane/token",
        "secret = 'a-secret-of-the-tests-alone'",
        "token: the_name_of_a_variable_that_is_long",
        'begins = "-----BEGIN PRIVATE KEY-----"',
    ],
)
def test_what_is_none_is_left_alone(line: str) -> None:
    assert list(scan.rules_of(line)) == []


def test_the_tree_has_none() -> None:
    done = subprocess.run([sys.executable, TOOL, "secrets"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "secrets: 0 found\n"


AUDITED = """{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]},
 {"name": "b", "skip_reason": "not found: b (1)"}, {"name": "c", "version": "1", "vulns": []}]}"""


@pytest.mark.parametrize(
    ("answer", "require", "code", "told"),
    [
        (AUDITED, "", 1, "2 audited, 1 vulnerabilities, 1 NOT AUDITED"),
        (AUDITED.replace('{"id": "CVE-1", "fix_versions": ["2"]}', ""), "", 0, "2 audited, 0 vulnerabilities, 1 NOT"),
        (AUDITED.replace('{"id": "CVE-1", "fix_versions": ["2"]}', ""), "x,vulnerabilities", 1, "1 NOT AUDITED"),
        ("", "", 0, "NOT AUDITED"),
        ("", "vulnerabilities", 1, "NOT AUDITED"),
    ],
)
def test_what_was_not_audited_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str, require: str, code: int, told: str
) -> None:
    """pip-audit itself says `No known vulnerabilities found` of packages that it could not look up."""

    def run(argv: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(argv, 0, "a==1\n" if "export" in argv else answer, "")

    monkeypatch.setattr(scan.subprocess, "run", run)
    monkeypatch.setenv("GROUND_TEST_REQUIRE", require)
    assert scan.dependencies() == code
    assert told in capsys.readouterr().out
