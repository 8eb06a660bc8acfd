"""What travels and what is kept as bytes: messages, log segments, manifests, reuse keys."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundplane.model.artifacts import Output
from groundplane.model.canonical import canonical
from groundplane.model.gpus import GpuKind
from groundplane.model.reasons import Fault, Reason
from groundplane.model.resources import Resources
from groundplane.services import metrics, reasons
from groundplane.services.notices import Notifier
from groundplane.services.platform import iso
from groundplane.spi import agent, segments, wire
from groundplane.spi.launch import Launch, Observation, Phase, StageIn, Usage
from groundplane.spi.segments import Damaged, Record
from groundplane.spi.snapshots import Entry, Manifest, digest_of
from groundplane.spi.toolchain import Command

# File names may hold bytes that are no UTF-8: surrogateescape carries them.
texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\udc80\udcff"), max_size=20)
plain = st.text(max_size=20)
numbers = st.integers(-(2**53), 2**53)

reasons_ = st.builds(Reason, plain, texts, plain, st.sampled_from(Fault))
resources = st.builds(
    Resources,
    cpus=st.none() | st.floats(0, 64),
    memory=st.none() | st.integers(0, 2**40),
    gpus=st.none() | st.integers(0, 8),
    timeout=st.none() | st.floats(0, 1e6),
    gpu_kind=st.none() | st.builds(GpuKind, st.none() | numbers, st.lists(plain, max_size=2).map(tuple)),
)
commands = st.builds(
    Command,
    argv=st.lists(texts, max_size=3).map(tuple),
    env=st.dictionaries(plain, texts, max_size=2),
    sentinel=st.none() | plain,
    drop=st.lists(plain, max_size=2).map(tuple),
)
launches = st.builds(
    Launch,
    attempt=plain,
    epoch=numbers,
    run=plain,
    task=texts,
    snapshot=plain,
    command=commands,
    env=st.dictionaries(plain, texts, max_size=3),
    inputs=st.lists(st.builds(StageIn, texts, texts, st.none() | plain), max_size=2).map(tuple),
    outputs=st.none() | st.lists(texts, max_size=2).map(tuple),
    resources=resources,
    redact=st.lists(plain, max_size=2).map(tuple),
)
observations = st.builds(
    Observation,
    attempt=plain,
    phase=st.sampled_from(Phase),
    exit_code=st.none() | st.integers(0, 255),
    stdout=texts,
    outputs=st.lists(st.builds(Output, texts, st.integers(0, 2**50), plain), max_size=2).map(tuple),
    lost=st.dictionaries(texts, st.lists(plain, max_size=2).map(tuple), max_size=2),
    usage=st.builds(Usage, st.floats(0, 1e9), st.floats(0, 1e9), st.integers(0, 2**50)),
    reason=st.none() | reasons_,
)


@given(launches)
def test_a_launch_comes_back_as_it_was(launch: Launch) -> None:
    assert wire.decode(Launch, wire.parse(wire.encode(launch))) == launch


@given(observations, st.integers(0, 2**31))
def test_a_message_comes_back_as_it_was(seen: Observation, number: int) -> None:
    line = agent.encode(number, agent.Observed((seen,)))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert agent.decode(line) == (number, agent.Observed((seen,)))


def test_unknown_keys_and_missing_ones_are_a_neighbours() -> None:
    body = wire.plain(Observation("a", Phase.RUNNING))
    del body["stdout"]
    assert wire.decode(Observation, {**body, "new": 1}) == Observation("a", Phase.RUNNING)


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"{}", b"[]", b'{"id":1,"kind":"x","body":{}}', b'{"id":1,"kind":"stop","body":3}']
)
def test_what_is_no_message(line: bytes) -> None:
    with pytest.raises(agent.Unreadable):
        agent.decode(line)


records = st.builds(
    Record,
    task=texts,
    attempt=plain,
    stream=st.integers(0, 1),
    at=st.integers(0, 2**62),
    data=st.binary(max_size=200),
    flags=st.integers(0, 1),
)


@given(st.lists(records, max_size=6), st.integers(0, 2000))
def test_a_segment_gives_its_whole_records_and_leaves_a_torn_one(written: list[Record], cut: int) -> None:
    data = b"".join(map(segments.encode, written))
    assert [record for record, _ in segments.decode(data)] == written
    ends = [end for _, end in segments.decode(data)]
    assert (ends or [0])[-1] == len(data)
    torn = list(segments.decode(data[:cut]))
    assert [record for record, _ in torn] == written[: sum(end <= cut for end in ends)]
    for _, end in segments.decode(data):  # any end is a place to go on
        assert [r for r, _ in segments.decode(data, end)] == written[ends.index(end) + 1 :]


def test_damage_is_noticed() -> None:
    data = segments.encode(Record("t", "a", 0, 1, b"x"))
    with pytest.raises(Damaged):
        list(segments.decode(b"\0" * 40))
    with pytest.raises(Damaged):
        list(segments.decode(data, 1) if len(data) < 40 else segments.decode(data + b"\0" * 40))
    with pytest.raises(ValueError, match="at most"):
        segments.encode(Record("t", "a", 0, 1, b"x" * (segments.MAX_DATA + 1)))


@given(
    st.lists(
        st.builds(Entry, texts, st.integers(0, 2**50), st.booleans(), st.text(string.hexdigits, max_size=4)),
        max_size=4,
    )
)
def test_a_manifest_comes_back_as_it_was(entries: list[Entry]) -> None:
    manifest = Manifest(tuple(entries), (("link", "to"),), ("empty",))
    data = manifest.to_json()
    assert Manifest.from_json(data) == manifest
    assert digest_of(data) == digest_of(Manifest.from_json(data).to_json())


def test_what_links_lead_to_can_be_read_under_their_names() -> None:
    file, other = Entry("data/a.csv", 1), Entry("b.csv", 2)
    links = (("c.csv", "b.csv"), ("d.csv", "c.csv"), ("more", "data"), ("loop", "loop"), ("data/up", ".."))
    found = Manifest((file, other), links).reachable()
    assert found["c.csv"] == found["d.csv"] == other
    assert found["more/a.csv"] == file
    assert found["data/up/b.csv"] == other
    assert "loop" not in found


# --- reuse keys: RFC 8785 ------------------------------------------------------------------------------------------


def test_the_rfcs_own_order_of_names() -> None:
    """RFC 8785, 3.2.3: by UTF-16 code units, which is not the order of code points."""
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    found = json.loads(canonical(dict.fromkeys(names, "")), object_pairs_hook=lambda pairs: [p[0] for p in pairs])
    assert found == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


def test_the_rfcs_own_text() -> None:
    """RFC 8785, 3.2.2.2 and the sample of 3.2.3, as far as keys hold such values."""
    text = "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/"
    assert canonical({"s": text, "l": [1, True, None]}) == (
        '{"l":[1,true,null],"s":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'.encode()
    )


@given(
    st.recursive(
        st.none() | st.booleans() | numbers | plain,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
        max_leaves=12,
    )
)
def test_the_canonical_form_says_the_same_and_does_not_know_the_order(value: Any) -> None:
    data = canonical(value)
    assert json.loads(data) == value
    if isinstance(value, dict):
        assert canonical(dict(reversed(value.items()))) == data


@pytest.mark.parametrize("value", [0.5, [2**53 + 1], {"a": {"b": 1.0}}])
def test_numbers_that_languages_write_differently_have_no_place(value: object) -> None:
    with pytest.raises(TypeError):
        canonical(value)


# --- small rules of services ---------------------------------------------------------------------------------------


@given(reasons_)
def test_a_reason_comes_back_from_its_column(reason: Reason) -> None:
    text = reasons.to_text(reason)
    assert text is not None
    text.encode()
    assert "\0" not in text
    assert reasons.from_text(text) == reason


def test_times_are_rfc_3339() -> None:
    assert iso(None) is None
    assert iso(1_700_000_000_000_001) == "2023-11-14T22:13:20.000001Z"


@pytest.mark.parametrize(
    "text", ["", "[1]", "3", "{", '"x"', "\udcff".encode(errors="surrogateescape").decode("latin-1")]
)
def test_what_is_no_metrics(tmp_path: Path, text: str) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(text)
    assert metrics.read(path) == {}
    assert metrics.read(tmp_path / "none") == {}


def test_listeners_hear_their_topics_until_they_go() -> None:
    notifier, heard, relayed = Notifier(), list[str](), list[str]()
    notifier.relay_to(relayed.extend)
    leave = notifier.subscribe("a", lambda: heard.append("a"))
    notifier.subscribe("b", lambda: heard.append("b"))
    notifier.notify("a", "b")
    notifier.notify("a", local=True)
    leave()
    leave()
    notifier.notify("a")
    assert heard == ["a", "b", "a"]
    assert relayed == ["a", "b", "a"]
