"""What of the values given by `-e` is kept out of logs."""

from __future__ import annotations

import pytest

from groundplane.model import environment
from groundplane.model.errors import Invalid
from groundplane.services.variables import Variables


@pytest.mark.parametrize(
    "name",
    ["DB_PASS", "PGPASSWORD", "DB_PWD", "DB_PW", "PW", "CLIENT_SECRET", "API_TOKEN", "aws_access_key_id", "CREDENTIALS",
     "BASIC_AUTH", "AUTHORIZATION", "SENTRY_DSN", "COOKIE", "PRIVATE_PEM", "TLS_CERT", "SESSION_ID"],
)  # fmt: skip
def test_a_name_that_says_so_is_a_secret(name: str) -> None:
    assert Variables({}, {name: "hush-hush"}).secrets == ("hush-hush",)
    assert Variables({}, {name: "short"}).secrets == ()
    assert Variables({name: "hush-hush"}, {}).secrets == (), "what travels is no secret of -e"


@pytest.mark.parametrize("name", ["REGION", "PWD", "OLDPWD", "AUTHOR", "PAPER_AUTHORS", "SHIPWRECK", "UPWARDS"])
def test_another_name_is_none(name: str) -> None:
    assert Variables({}, {name: "some/folder"}).secrets == ()


@pytest.mark.parametrize(
    ("value", "secrets"),
    [
        ("postgresql://ada:hush-hush@db.example:5432/trial", ("hush-hush",)),
        ("amqps://ada:h%40sh-hush@mq/", ("h%40sh-hush", "h@sh-hush")),
        ("https://ada:with:colon@x, http://bo:second@y", ("with:colon", "second")),
        ("redis://:hush-hush@cache", ("hush-hush",)),
        ("https://ada@example.org/a:bcdefgh@c", ()),
        ("https://example.org/?mail=ada:bcdefgh@c", ()),
        ("ada:hush-hush@example.org", ()),
    ],
)
def test_the_password_in_an_address_is_a_secret(value: str, secrets: tuple[str, ...]) -> None:
    assert Variables({}, {"WHERE": value}).secrets == secrets


@pytest.mark.parametrize(
    ("name", "value"),
    [("A B", "1"), ("", "1"), ("1A", "1"), ("A-B", "1"), ("A=B", "1"), ("Ä", "1"), ("A\n", "1"), ("A", "x\0y"),
     ("GROUND_HOME", "/x")],
)  # fmt: skip
def test_what_the_work_could_not_get_is_refused(name: str, value: str) -> None:
    with pytest.raises(Invalid):
        environment.check({"GOOD": "1", name: value})


def test_what_it_can_get_is_not() -> None:
    environment.check({"A": "", "_b1": "any ${text}\n", "PATH": "/bin", "BACKGROUND_X": "1"})
