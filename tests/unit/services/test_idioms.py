"""Addresses of connections, and what becomes of them."""

from __future__ import annotations

import json
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundplane.model.errors import Invalid
from groundplane.services import idioms

PASSWORDS = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)


@given(PASSWORDS, st.text("abcXYZ09_-. åß", min_size=1, max_size=12))
def test_an_address_gives_user_and_password_back(password: str, user: str) -> None:
    target = idioms.Target("postgresql", user, "db.example.org", 5433, "ware house")
    parts = urlsplit(target.url(password))
    assert (unquote(parts.username or ""), unquote(parts.password or "")) == (user, password)
    assert idioms.parse(target.url()) == target
    assert (parts.hostname, parts.port, unquote(parts.path)) == ("db.example.org", 5433, "/ware house")


@given(PASSWORDS)
def test_what_a_task_is_given_holds_the_password_in_no_other_form_than_is_hidden(password: str) -> None:
    target = idioms.parse("postgresql://u@h/d")
    bucket = idioms.parse("s3://u@lake")
    hidden = idioms.spellings(password)
    texts = [
        target.url(password),
        idioms.odbc("w", target, password),
        idioms.pgpass(target, password),
        *idioms.variables("w", bucket, password).values(),
    ]
    alone = [target.url("\0"), idioms.odbc("w", target, "\0"), idioms.pgpass(target, "\0")]
    for text in texts:
        assert any(form in text for form in hidden) or "s3://" in text
    assert not any(form in text for form in hidden if len(form) > 12 for text in alone)
    assert json.loads(idioms.variables("w", bucket, password)["GROUND_CONNECTION_W_OPTIONS"])["secret"] == password


def test_nothing_but_letters_digits_and_percent_is_left_for_odbc() -> None:
    """unixODBC takes `;` and what stands behind it for a comment, psqlODBC decodes `%` and `+`."""
    line = idioms.odbc("w", idioms.parse("postgresql://u@h/d"), "a+b;c%41}å ").splitlines()[-2]
    assert line == "Password = a%2Bb%3Bc%2541%7D%C3%A5%20"


def test_a_service_has_the_options_and_odbc_its_own_name_for_them() -> None:
    target = idioms.parse("postgres://u@[::1]/d?sslmode=require&connect_timeout=3")
    assert target.url() == "postgresql://u@[::1]:5432/d?sslmode=require&connect_timeout=3"
    assert idioms.service("w", target).split() == [
        "[w]", "host=::1", "port=5432", "dbname=d", "user=u", "sslmode=require", "connect_timeout=3",
    ]  # fmt: skip
    assert "SSLmode = require\n" in idioms.odbc("w", target, None)
    assert idioms.pgpass(target, "p:w\\") == "\\:\\:1:5432:d:u:p\\:w\\\\\n"


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u@h/d%0Aevil=1",
        "postgresql://u%0Ax@h/d",
        "postgresql://u@h/d?application_name=a%0Ahost%3Devil",
        "postgresql://u@ho st/d",
        "postgresql://u@h:99999/d",
        "postgresql://u@h/d#x",
        "postgresql://u:p@h/d",
        "postgresql:///d",
        "s3://Bucket_/x",
        "s3://k:secret@bucket",
        "http://x",
        "",
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(Invalid) as refused:
        idioms.parse(address)
    assert refused.value.hint
    assert "secret" not in refused.value.message
