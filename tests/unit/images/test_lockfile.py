"""ground.lock: what was written is read again, and what is wrong is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundplane.images import lockfile
from groundplane.model.errors import Invalid
from groundplane.model.locks import Attested, Base, Deb, File, Lock, Native, Upstream

text = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20)
name = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,9}", fullmatch=True)
sha256 = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
deb_name = st.from_regex(r"[a-z0-9][a-z0-9+.-]{1,9}", fullmatch=True)
deb_version = st.from_regex(r"[0-9]{1,2}:[0-9][A-Za-z0-9.+~-]{0,9}", fullmatch=True)
deb_path = st.from_regex(r"pool/[a-z]/[a-z0-9_+~.]{0,3}a/[a-z0-9][a-z0-9_+~.%]{0,9}\.deb", fullmatch=True).filter(
    lambda path: "/." not in path
)
deb = st.builds(
    Deb,
    deb_name,
    deb_version,
    st.sampled_from(["amd64", "all"]),
    sha256,
    st.integers(0, 2**40),
    deb_path,
    st.sampled_from(["debian", "debian-security"]),
)
suite = st.sampled_from(["trixie", "sid", "bookworm"])
base = st.builds(Base, suite, st.sampled_from(["amd64"]), st.integers(0, 2**40), st.lists(deb, max_size=3).map(tuple))
attested = st.builds(Attested, text, text, st.integers(0, 9), text, st.integers(0, 9))
url = st.builds("https://cran.example/{}/src/contrib/{}.tar.gz".format, name, name)
file = st.builds(File, name, name, name, url, sha256, st.integers(0, 2**40))
native = st.builds(
    Native,
    st.sampled_from(["pylock", "renv"]),
    text | st.just("two = \"lines\"\n\\ and ''' more\n"),
    sha256,
    st.lists(file, max_size=2).map(tuple),
    st.lists(deb, max_size=2).map(tuple),
)
locks = st.builds(
    Lock,
    name,
    sha256,
    name | st.just(""),
    name | st.just(""),
    text,
    text,
    st.sampled_from(["debian", "docker"]),
    base=st.none() | base,
    packages=st.lists(deb, max_size=3).map(tuple),
    native=st.none() | native,
    attested=st.none() | attested,
    layers=st.lists(sha256, max_size=3).map(tuple),
    probe=text | st.just("two\nlines\n"),
)

WHOLE = "".join(f'{key} = "x"\n' for key in ("definition", "toolchain", "engine", "version", "program", "builder"))


@given(st.lists(locks, unique_by=lambda lock: lock.name, max_size=3))
def test_what_was_written_is_read(found: list[Lock]) -> None:
    written = lockfile.write(found)
    assert lockfile.read(written) == {lock.name: lock for lock in found}
    assert lockfile.write(reversed(found)) == written


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("x =", "damaged"),
        ("version = 2", "version 2"),
        ("", "no version"),
        ("version = 0", "no version"),
        ("version = true", "no version"),
        ('version = "1"', "no version"),
        ("version = 1\nenvironments = 3", "environments is no table"),
        ("version = 1\n[environments.a]\nfoo = 1", "environments.a.foo: no such key"),
        ("version = 1\n[environments.a]\ndefinition = 3", "environments.a.definition is no text"),
        ('version = 1\n[environments.a]\ndefinition = "d"', "environments.a lacks 'toolchain'"),
        (
            f"version = 1\n[environments.a]\n{WHOLE}[environments.a.base]\nsuite = []",
            "environments.a.base.suite is no text",
        ),
    ],
)
def test_what_is_wrong_is_named(body: str, said: str) -> None:
    with pytest.raises(Invalid) as raised:
        lockfile.read(body)
    assert said in raised.value.message
    assert raised.value.message.startswith("ground.lock")


HOSTILE = [
    ("base", {"suite": "--customize-hook=touch /tmp/pwned"}, "no Debian suite"),
    ("base", {"architecture": "../x"}, "no architecture"),
    ("deb", {"name": "/etc/x.deb"}, "no name of a Debian package"),
    ("deb", {"name": "?essential"}, "no name of a Debian package"),
    ("deb", {"version": "1 --hook"}, "no version"),
    ("deb", {"sha256": "../../../../etc/shadow"}, "no sha256"),
    ("deb", {"path": "../../private/x.deb"}, "no path in Debian's archive"),
    ("deb", {"path": "pool/../../x.deb"}, "no path in Debian's archive"),
    ("deb", {"path": "/etc/shadow"}, "no path in Debian's archive"),
    ("deb", {"archive": "elsewhere"}, "none of debian"),
    ("file", {"name": "x\n-r /etc/passwd"}, "no name of a package"),
    ("file", {"version": "1\n--index-url http://127.0.0.1"}, "no version"),
    ("file", {"file": "../../evil.pth"}, "no name of a file"),
    ("file", {"file": "--use-compress-program=sh"}, "no name of a file"),
    ("file", {"url": "/etc/shadow"}, "no address"),
    ("file", {"url": "file:///etc/shadow"}, "no address"),
    ("file", {"url": "http://mirror.example/src/contrib/../../x.tar.gz"}, "no address"),
    ("file", {"sha256": "/etc/shadow"}, "no sha256"),
    ("native", {"kind": "sh"}, "none of pylock, renv"),
    ("upstream", {"reference": "/etc/shadow"}, "no path in the project"),
    ("upstream", {"reference": "../../etc/shadow"}, "no path in the project"),
    ("upstream", {"config": "../containers/x"}, "no sha256"),
    ("upstream", {"bases": {"debian": "../containers/x"}}, "no digest"),
    ("upstream", {"dockerfile": "", "reference": "../x"}, "no name of an image"),
    ("lock", {"engine": "../x"}, "no name"),
    ("lock", {"layers": ("../x",)}, "no sha256"),
    ("lock", {"definition": "../x"}, "no sha256"),
    ("lock", {"program": "sh\nx"}, "no path"),
]


@pytest.mark.parametrize(("part", "changed", "said"), HOSTILE)
def test_what_no_lock_may_say(part: str, changed: dict[str, Any], said: str) -> None:
    """Anybody may send one, and its words become arguments, paths and addresses on the host that builds it."""
    digest = "a" * 64
    parts: dict[str, Any] = {
        "deb": Deb("x1", "1", "all", digest, 1, "pool/x1.deb"),
        "file": File("x", "1", "x_1.tar.gz", "https://cran.example/src/contrib/x_1.tar.gz", digest, 1),
        "upstream": Upstream("Dockerfile", dockerfile=digest, context=digest),
    }
    parts["base"] = Base("trixie", "amd64", 0, (parts["deb"],))
    parts["native"] = Native("renv", "", digest, (parts["file"],))
    whole = Lock("x", digest, "r", "r", "4", "R", "debian", **{k: parts[k] for k in ("base", "native", "upstream")})
    assert lockfile.read(lockfile.write([whole]))["x"] == whole
    if part != "lock":
        parts[part] = replace(parts[part], **changed)
    if part == "deb":
        parts["base"] = replace(parts["base"], packages=(parts["deb"],))
    if part == "file":
        parts["native"] = replace(parts["native"], files=(parts["file"],))
    hostile = replace(whole, **{k: parts[k] for k in ("base", "native", "upstream")})
    hostile = replace(hostile, **changed) if part == "lock" else hostile
    with pytest.raises(Invalid, match=r"environments\.x") as refused:
        lockfile.read(lockfile.write([hostile]))
    assert said in refused.value.message and refused.value.hint
