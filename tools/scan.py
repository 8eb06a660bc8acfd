#!/usr/bin/env python3
"""Looks for what must not be here: `scan.py secrets` in the files that git knows or would take, `scan.py dependencies`
in what uv.lock names. Exits 1 when it finds some.

A line that only looks like a secret says `not a secret`.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
AUDITOR = "pip-audit==2.10.1"
RULES = {
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----(?:\s*$|\\n|\s*[A-Za-z0-9+/]{6})"),
    "a key of AWS": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a token of GitHub": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{60,})"),
    "a token of GitLab": re.compile(r"\bglpat-[\w-]{20}"),
    "a token of Slack": re.compile(r"\bxox[abprs]-[\w-]{10,}"),
    "a key of Google": re.compile(r"\bAIza[\w-]{35}"),
    "a token of Groundplane": re.compile(r"\bgp_[\w-]{43}"),
    "a signed token": re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{20,}"),
    "a secret in an assignment": re.compile(
        r"(?i)\b\w*(?:password|passwd|secret|token|api_?key)\w*\s*[=:]\s*[\"']?([A-Za-z0-9+/_=-]{24,})\b"
    ),
}
MARK = "not a secret"
_RANDOM = 4.0
"""Bits of entropy a letter from which on a word looks random: words of people's languages have about 3."""
_LARGEST = 2 * 1024 * 1024


def main() -> int:
    what = sys.argv[1:]
    if what == ["secrets"]:
        found = list(secrets(ROOT))
        for place, rule in found:
            print(f"{place}: {rule}", file=sys.stderr)  # never the secret itself
        print(f"secrets: {len(found)} found")
        return 1 if found else 0
    if what == ["dependencies"]:
        return dependencies()
    print("usage: scan.py secrets | dependencies", file=sys.stderr)
    return 2


def secrets(root: Path) -> Iterator[tuple[str, str]]:
    """FILE:LINE and the rule of each line that holds one."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        path = root / name
        if not path.is_file() or path.is_symlink() or path.stat().st_size > _LARGEST or path.name == "uv.lock":
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # no text
        for number, line in enumerate(text.splitlines(), 1):
            for rule in rules_of(line):
                yield f"{name}:{number}", rule


def rules_of(line: str) -> Iterator[str]:
    """The rules that a line breaks."""
    if MARK in line:
        return
    for rule, pattern in RULES.items():
        for match in pattern.finditer(line):
            if not match.groups() or random_like(match[1]):
                yield rule


def random_like(word: str) -> bool:
    """Whether it has digits and letters, and their order tells nothing."""
    share = [count / len(word) for count in Counter(word).values()]
    entropy = -sum(part * math.log2(part) for part in share)
    return entropy >= _RANDOM and bool(re.search(r"\d", word)) and bool(re.search(r"[A-Za-z]", word))


def dependencies() -> int:
    """Asks for known vulnerabilities of every locked package, and says of how many nothing was known."""
    uv = str(Path(sys.executable).with_name("uv"))  # Groundplane brings it
    locked = subprocess.run(
        [uv, "export", "--frozen", "--all-extras", "--no-emit-project", "--no-hashes", "--quiet"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    done = subprocess.run(
        [uv, "tool", "run", "--quiet", "--from", AUDITOR, "pip-audit", "--requirement", "/dev/stdin", "--no-deps",
         "--disable-pip", "--format", "json", "--progress-spinner", "off"],
        input=locked, cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(f"dependencies: NOT AUDITED: {done.stderr.strip().splitlines()[-1:] or 'no answer'}")
        return _unaudited()
    skipped = [each for each in packages if "skip_reason" in each]
    for each in packages:
        for hole in each.get("vulns", ()):
            fixed = ", ".join(hole.get("fix_versions") or ["none yet"])
            print(f"{each['name']} {each['version']}: {hole['id']}, fixed in {fixed}", file=sys.stderr)
    holes = sum(len(each.get("vulns", ())) for each in packages)
    print(f"dependencies: {len(packages) - len(skipped)} audited, {holes} vulnerabilities, {len(skipped)} NOT AUDITED")
    if skipped:
        print(f"  {skipped[0]['skip_reason']}{' …' if len(skipped) > 1 else ''}")
    return 1 if holes else _unaudited() if skipped else 0


def _unaudited() -> int:
    """What the index tells nothing of is no failure, unless GROUND_TEST_REQUIRE names `vulnerabilities`."""
    return 1 if "vulnerabilities" in os.environ.get("GROUND_TEST_REQUIRE", "").split(",") else 0


if __name__ == "__main__":
    sys.exit(main())
