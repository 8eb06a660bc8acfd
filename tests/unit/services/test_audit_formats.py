"""An event in the words of other systems, read again by their rules."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ocsf.v1_7_0.events import ApiActivity

from groundplane.services.audit import formats

EVENT: dict[str, Any] = {
    "id": "01a221a9-828b-7159-91f2-7909ebdff949",
    "time": "2026-11-28T10:18:06.859860Z",
    "actor": "ada",
    "source": "10.0.0.7",
    "action": "run.submit",
    "object": "01a221a9-6211-7d58-988c-8d32cf7f9aee",
    "outcome": "done",
    "details": {"actor": {"kind": "user", "credential": "t1"}, "name": "fit.R"},
}
PERSON = "01a221a9-828c-7b11-8a92-d042e38cd6bf"
SEALED = {**EVENT, "actor": f"sealed:{PERSON}:vBomowNq", "source": f"sealed:{PERSON}:AAAA"}
ODD = {**EVENT, "actor": 'a|b=c\\d"e]\nf', "object": "x\r\ny]|=", "action": "odd|\n.verb", "outcome": "denied"}
EVENTS = [EVENT, SEALED, ODD, {**EVENT, "source": "socket"}, {**EVENT, "source": "::1"}, {**EVENT, "source": ""}]


@pytest.mark.parametrize("event", EVENTS)
def test_ocsf_is_taken_by_the_model_of_its_schema(event: dict[str, Any]) -> None:
    line = formats.ocsf(event, 17)
    assert "\n" not in line
    found = ApiActivity.model_validate(json.loads(line))
    assert found.class_uid == 6003
    assert found.metadata.uid == event["id"] and found.metadata.version == "1.7.0"
    assert found.api.operation == event["action"]
    user = found.actor.user
    assert user is not None
    assert (user.name, user.uid) == ((None, PERSON) if event is SEALED else (event["actor"], None))
    assert found.type_uid == 600300 + int(found.activity_id)
    assert found.time == 1795861086860
    assert int(found.status_id) == (1 if event["outcome"] == "done" else 2)


def test_ocsf_without_an_actor_is_refused_by_that_model() -> None:
    document = json.loads(formats.ocsf(EVENT, 1))
    del document["actor"]
    with pytest.raises(ValueError, match="actor"):
        ApiActivity.model_validate(document)


def read_cef(line: str) -> tuple[list[str], dict[str, str]]:
    """By the rules of the Common Event Format."""
    parts = re.split(r"(?<!\\)(?:\\\\)*\|", line, maxsplit=7)
    head = [re.sub(r"\\([\\|])", r"\1", part) for part in parts[:7]]
    found: dict[str, str] = {}
    for match in re.finditer(r"(\w+)=((?:\\.|[^\\=])*?)(?=\s\w+=|$)", parts[7]):
        found[match[1]] = re.sub(r"\\(.)", lambda sign: "\n" if sign[1] == "n" else sign[1], match[2])
    return head, found


@pytest.mark.parametrize("event", EVENTS)
def test_cef_comes_back(event: dict[str, Any]) -> None:
    line = formats.cef(event, 17)
    assert "\n" not in line and "\r" not in line
    head, found = read_cef(line)
    assert head[:3] == ["CEF:0", "Groundplane", "Groundplane"]
    assert head[4] == event["action"].replace("\n", " ")
    assert found["suser"] == (PERSON if event is SEALED else event["actor"])
    assert found["cs1"] == event["object"].replace("\r\n", "\n")
    assert json.loads(found["cs2"]) == event["details"]
    assert found["externalId"] == event["id"] and found["cn1"] == "17" and found["rt"] == "1795861086860"
    assert found.get("src") == ("10.0.0.7" if event["source"] == "10.0.0.7" else None)
    assert found.get("c6a2") == ("::1" if event["source"] == "::1" else None)


SYSLOG = re.compile(
    r'<(\d+)>1 (\S+) - groundplane - (\S{1,32}) \[audit@32473((?: \w+="(?:\\[\\"\]]|[^\\"\]])*")*)\] \ufeff(.*)',
    re.DOTALL,
)


def read_syslog(line: str) -> tuple[int, str, dict[str, str], str]:
    """By RFC 5424."""
    found = SYSLOG.fullmatch(line)
    assert found, line
    pairs = re.findall(r'(\w+)="((?:\\[\\"\]]|[^\\"\]])*)"', found[4])
    return int(found[1]), found[3], {name: re.sub(r'\\([\\"\]])', r"\1", value) for name, value in pairs}, found[5]


@pytest.mark.parametrize("event", EVENTS)
def test_syslog_comes_back(event: dict[str, Any]) -> None:
    priority, _, found, message = read_syslog(formats.syslog(event, 17))
    assert priority == 13 * 8 + (5 if event["outcome"] == "done" else 4)
    assert found["id"] == event["id"] and found["number"] == "17"
    assert found["object"] == event["object"].replace("\r\n", "#015#012")
    assert json.loads(found["details"]) == event["details"]
    assert "\n" not in message


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(TEXT, TEXT, TEXT)
def test_no_text_breaks_out_of_its_field_or_line(actor: str, object_: str, action: str) -> None:
    event = {**EVENT, "actor": actor, "object": object_, "action": f"x.{action}", "details": {actor: object_}}
    for form in (formats.ocsf, formats.cef, formats.syslog):
        assert not re.search(r"[\n\r]", form(event, 0))
    document = json.loads(formats.ocsf(event, 0))
    assert document["api"]["operation"] == f"x.{action}"
    ApiActivity.model_validate(document)
    _, _, found, _ = read_syslog(formats.syslog(event, 0))
    assert set(found) == {"id", "number", "actor", "source", "action", "object", "outcome", "details"}
    head, _ = read_cef(formats.cef(event, 0))
    assert len(head) == 7
