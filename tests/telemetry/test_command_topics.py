"""Commands as they stand on the wire: what was encoded is decoded, and whatever else comes is one clear error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.telemetry.command_topics import (
    LARGEST,
    Acknowledge,
    BadCommand,
    Command,
    Reply,
    Set,
    Stop,
    Take,
    command_topic,
    decode_command,
    encode_command,
    encode_reply,
    may_be_answered_at,
    sender_of,
)

words = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x24F, categories=["L", "N", "P", "S"]), min_size=1, max_size=40
)
times = st.integers(0, 2**62)
values = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), words
)
commands = st.one_of(
    st.builds(Set, words, st.just("heater.setpoint"), values, words, times),
    st.builds(Take, words, st.just("take"), st.just(""), st.none() | times),
    st.builds(Take, words, st.sampled_from(["renew", "give"]), words, st.none() | times),
    st.builds(Stop, words, words | st.just(""), st.none() | times),
    st.builds(Acknowledge, words, words, st.none() | times, st.none() | times),
)
VERBS = {Set: "set", Take: "lease", Stop: "stop", Acknowledge: "acknowledge"}


@given(commands)
def test_a_command_survives_the_wire(command: Command) -> None:
    topic = command_topic("em3", "anna", VERBS[type(command)], getattr(command, "signal", ""))  # type: ignore[arg-type]
    user, verb, signal = sender_of("em3", topic)
    assert user == "anna"
    found = decode_command(verb, signal, encode_command(command))
    assert found == command
    if isinstance(command, Set):
        assert isinstance(found, Set)
        assert type(found.value) is type(command.value)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fields = st.dictionaries(
    st.sampled_from(["schema", "id", "value", "expires", "lease", "alarm", "reason", "action", "time", "x"]),
    anything | st.just(1) | st.just("1764000010000000000") | st.sampled_from(["take", "give"]),
)


@given(
    st.sampled_from(["set", "lease", "stop", "acknowledge"]),
    st.one_of(st.binary(max_size=100), fields.map(lambda found: json.dumps(found).encode())),
)
def test_whatever_comes_is_a_command_or_one_error_of_one_line(verb: str, payload: bytes) -> None:
    found, refused = None, None
    try:
        found = decode_command(verb, "heater.setpoint", payload)
    except BadCommand as error:
        refused = error
    if found is not None:
        assert decode_command(verb, "heater.setpoint", encode_command(found)) == found
    else:
        assert refused is not None
        assert len(str(refused).splitlines()) == 1
        assert refused.id is None or refused.id == json.loads(payload)["id"]


def test_a_payload_that_is_too_long_is_not_even_read() -> None:
    with pytest.raises(BadCommand, match=r"the payload has 8193 bytes; a command has 8192 at most"):
        decode_command("stop", "", b" " * (LARGEST + 1))


@pytest.mark.parametrize(
    ("topic", "why"),
    [
        ("insitu-meta/em3/commands/anna", "no topic of a command"),
        ("insitu-meta/other/commands/anna/stop", "no topic of a command"),
        ("insitu-meta/em3/commands//stop", "no topic of a command"),
        ("insitu-meta/em3/commands/anna/stop/now", "is no command; there are"),
        ("insitu-meta/em3/commands/anna/open", "is no command; there are"),
        ("insitu-meta/em3/commands/anna/set/heater", "names no signal"),
        ("insitu-meta/em3/commands/anna/set/heater/a/b", "names no signal"),
        ("insitu-meta/em3/commands/$anna/stop", "user name"),
        ("insitu-meta/em3/commands/an\nna/stop", "not printable"),
    ],
)
def test_a_topic_that_is_no_commands_says_what_would_be(topic: str, why: str) -> None:
    with pytest.raises(BadCommand, match=why):
        sender_of("em3", topic)


@pytest.mark.parametrize(
    ("topic", "own"),
    [
        ("insitu-meta/em3/replies/anna", True),
        ("insitu-meta/em3/replies/anna/window/2", True),
        ("insitu-meta/em3/replies/annabel", False),
        ("insitu-meta/em3/replies/ben", False),
        ("insitu-meta/em3/alarms/trip", False),
        ("insitu-meta/em3/replies/anna/#", False),
        ("insitu-meta/em3/replies/anna/\0", False),
    ],
)
def test_answers_go_to_the_users_own_topics_only(topic: str, own: bool) -> None:
    assert may_be_answered_at("em3", "anna", topic) is own


def test_an_answer_keeps_its_nanoseconds_and_tells_the_lease_only_where_there_is_one() -> None:
    found: dict[str, Any] = json.loads(encode_reply(Reply("i", True, "done", 2**60 + 1)))
    assert found == {"schema": 1, "id": "i", "ok": True, "text": "done", "time": str(2**60 + 1)}
    found = json.loads(encode_reply(Reply("i", True, "taken", 1, "t", 2**60 + 3)))
    assert (found["lease"], found["until"]) == ("t", str(2**60 + 3))
