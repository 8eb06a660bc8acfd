"""ground.lock: what was written is read again, and what is wrong is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundplane.images import lockfile
from groundplane.model.errors import Invalid
from groundplane.model.locks import Attested, Base, Deb, File, Lock, Native

text = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20)
name = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,9}", fullmatch=True)
deb = st.builds(
    Deb, text, text, text, text, st.integers(0, 2**40), text, st.sampled_from(["debian", "debian-security"])
)
base = st.builds(Base, text, text, st.integers(0, 2**40), st.lists(deb, max_size=3).map(tuple))
attested = st.builds(Attested, text, text, st.integers(0, 9), text, st.integers(0, 9))
file = st.builds(File, text, text, text, text, text, st.integers(0, 2**40))
native = st.builds(
    Native,
    st.sampled_from(["pylock", "renv"]),
    text | st.just("two = \"lines\"\n\\ and ''' more\n"),
    text,
    st.lists(file, max_size=2).map(tuple),
    st.lists(deb, max_size=2).map(tuple),
)
locks = st.builds(
    Lock,
    name,
    *[text] * 6,
    base=st.none() | base,
    packages=st.lists(deb, max_size=3).map(tuple),
    native=st.none() | native,
    attested=st.none() | attested,
    layers=st.lists(text, max_size=3).map(tuple),
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
